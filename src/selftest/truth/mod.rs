//! The truth server: it streams answers of a known shape and logs when each request came and when each event left, so that a
//! client's numbers can be held against what really happened.
//!
//! One thread, one epoll, no runtime: it must be cheaper than any client that it judges. A request's arrival is the kernel's
//! receive stamp of its last byte, so its own late reading is nobody's error; an event's instant is read from the clock right
//! before the call that hands its last byte to the kernel.

mod log;
mod answer;
mod request;
mod pace;
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use log::{LogError, TruthEntry, read_log};
pub use server::{TruthServer, start};

/// What the server sends, and where its log goes. How many events an answer has is the request's `max_tokens`.
#[derive(Clone, Debug)]
pub struct TruthConfig {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// From the arrival of a request to its first event.
    pub first: Duration,
    /// From one event to the next; zero sends as fast as the socket takes them.
    pub gap: Duration,
    /// Shifts each answer by a share of the gap of its own, so that streams that began together do not beat together.
    pub spread: bool,
    /// Where the log goes.
    pub log: LogTo,
}

/// Where the truth log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// Nowhere: only the streams matter.
    #[default]
    Nowhere,
    /// Kept, and given back by [`TruthServer::stop`].
    Memory,
    /// A file, one JSON object a line; see [`read_log`].
    File(PathBuf),
}

impl Default for TruthConfig {
    fn default() -> TruthConfig {
        TruthConfig {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            first: Duration::from_millis(50),
            gap: Duration::from_millis(50),
            spread: true,
            log: LogTo::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests;
