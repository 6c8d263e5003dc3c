//! What this machine can measure: a server whose every instant is logged, the plainest client that could be, and ours between
//! them.

pub mod truth;
pub mod floor;
