//! Scenario files as a language: what the tool can tell a person who writes one.
//!
//! In: a code, or the text of a file and a place in it. Out: the page of the code. Nothing here reads a file or sends anything.

mod pages;

pub use pages::{Page, codes, page, title};
