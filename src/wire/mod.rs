//! The only bytes on a network: sockets with receive stamps, HTTP/1.1, TLS, and event streams.
//!
//! In: an [`Endpoint`] and requests. Out: response heads, pieces of bodies and server-sent events, each with the instant at
//! which it reached this machine. What is measured goes over a [`Connection`] on a [`Reactor`], where each byte is touched once
//! and the stamp of the last read belongs to the piece in hand; what is only asked ([`fetch()`]) goes over hyper.

pub mod endpoint;
pub mod proxy;
pub mod stamp;
pub mod reactor;
mod alarm;
pub mod socket;
pub mod tls;
pub mod framing;
pub mod connection;
pub mod sse;
pub mod fetch;

pub use connection::{Connection, Flow, OpenError, StreamError};
pub use endpoint::Endpoint;
pub use fetch::{Answer, FetchError, fetch};
pub use proxy::Proxy;
pub use reactor::Reactor;
pub use stamp::{Pulse, StampClock, Stamps};
