//! How the thing under test comes to exist, and how it is known to be ready: an attached endpoint, a process or a container that
//! is launched here, or the embedded simulator.
//!
//! In: a [`Backend`](crate::plan::Backend) and a [`Model`](crate::plan::Model). Out: a [`Ready`] target, or why there is none.
//! Nothing is sent before a backend has answered its probe, and nothing that was started here survives this program.

pub mod probe;
pub mod detect;
mod first_token;
mod offline;
pub mod launched;
pub mod process;
pub mod guard;
mod log;
mod scribe;
pub mod port;
pub mod metrics;
pub mod cache;

pub use cache::reset_cache;
pub use launched::{Launched, could_start, own_programs};
pub use metrics::{Page, metrics_page, page};
pub use probe::{Environment, NotReady, Ready, Waiting, bring_up};
pub use process::{CommandLine, End, Process, answers, run_to_end};
