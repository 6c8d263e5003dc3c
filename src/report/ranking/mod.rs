//! Who is best, at what, and how sure that is: the backends of one report beside each other.
//!
//! In: a [`Report`](super::Report) with several backends. Out: a [`Ranking`], which the report carries, so that every file says
//! the same of it. [`rank()`] finds the places where backends can be compared, `contest` ranks them by one question,
//! `sentences` says it in words with the numbers that each sentence stands on, [`text`] writes the files.
//!
//! Two backends whose intervals overlap are never ranked apart.

pub mod model;
mod rank;
mod contest;
mod sentences;
pub mod text;

pub use model::Ranking;
pub use rank::{default_weights, names, rank};
