//! How the thing under test comes to exist, and how it is known to be ready: an attached endpoint, or the embedded simulator.
//!
//! In: a [`Backend`](crate::plan::Backend) and a [`Model`](crate::plan::Model). Out: a [`Ready`] target, or why there is none.
//! Nothing is sent before a backend has answered its probe.

pub mod probe;
pub mod metrics;

pub use metrics::{Page, metrics_page};
pub use probe::{Environment, NotReady, Ready, Waiting, bring_up};
