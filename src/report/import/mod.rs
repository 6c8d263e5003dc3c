//! Results of other tools become a report of this one: read, checked, and said of each what cannot be believed and why.
//!
//! In: the texts of result files. Out: a [`Report`](super::Report) whose cells are what the files tell and whose guards are the
//! checks, so that `compare`, `plot` and rankings take it as they take a run, and leave out what is in doubt. [`read()`] knows the
//! formats (one file each), `checks` doubts, `rebuild` makes times out of durations where a file has no times, [`build()`] puts
//! it together.

pub mod found;
mod read;
mod suite_000;
mod suite_004;
mod vllm;
mod guidellm;
mod aiperf;
mod rebuild;
mod checks;
mod build;

pub use build::build;
pub use found::{Format, Found};
pub use read::{ReadError, read};
