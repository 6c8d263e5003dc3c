//! The only bytes on a network: sockets with receive stamps, HTTP/1.1 by hyper, TLS, and event streams.
//!
//! In: an [`Endpoint`] and request bodies. Out: response heads, body frames and server-sent events, each with the instant at
//! which it reached this machine. hyper's connection and the response body are polled in one task, so the stamp of the last
//! read belongs to the frame in hand.

pub mod endpoint;
pub mod stamp;
pub mod socket;
pub mod tls;
pub mod connection;
pub mod sse;
pub mod fetch;

pub use connection::{Connection, OpenError, StreamError};
pub use endpoint::Endpoint;
pub use fetch::{Answer, fetch};
pub use stamp::{StampClock, Stamps};
