//! A run that goes on, told to whoever asks over HTTP: the page of its report, and its numbers for Prometheus.
//!
//! In: what the thread that attends the run passes on through a [`Feed`]; nothing here is known to a load thread. Out: one
//! thread, last in line for the processors, that keeps the `story` so far and serves it (`server`). The page is made when
//! somebody asks for it, and never for more than a small share of one core; `metrics` are counted as requests end.

pub mod address;
mod story;
mod metrics;
mod server;

pub use address::{Address, WrongAddress};
pub use server::{Config, Live, StartError};
pub use story::Feed;
