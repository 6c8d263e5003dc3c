//! How to speak to an engine: which body asks for what, and what an event of its stream says.
//!
//! In: a [`PreparedRequest`], its body ready before the clock starts. Out: an [`Exchange`]: every instant and count of one
//! request, stamped at the socket. A failed request is data, not an error.

pub mod exchange;
pub mod dialect;
pub mod http;
pub mod offline;
pub mod simulator;

pub use crate::wire::{Pulse, Reactor};
pub use dialect::{BodyTemplate, Dialect, Message};
pub use exchange::{Exchange, PreparedRequest};
pub use http::{HttpTarget, Lane, LaneFacts, Meaning, Witness, Witnessed};
pub use offline::Adapter;
