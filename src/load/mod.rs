//! Inside one cell: when each request leaves, and the one loop that sends them.
//!
//! In: a [`Cell`](crate::plan::Cell) and a target. Out: request records and stage times. The schedule is data; sending is apart
//! from it: [`pacer`] is a pure state machine, [`mod@execute`] the loop of a load thread that asks it what to do.

pub mod pacer;
pub mod execute;
pub mod lane;
mod session;
mod counted;
pub mod capacity;

pub use capacity::Capacity;
pub(crate) use execute::append;
pub use execute::{LoadError, SegmentRequest, SegmentResult, StopSignal, Tally, execute};
