//! The language of SLOs: one comparison, with units and dimensions; and the registry of metrics.
//!
//! In: one line of text and where it stands in the user's file. Out: an [`Assertion`] that needs no more checks (its metrics
//! exist, its aggregates mean something, its two sides are numbers of the same thing), or diagnostics that point into it.
//!
//! `P95 TTFT < 500ms`, `p95(ttft) < 500ms`, `p(95, ttft) < 500ms` and `ttft.p95 < 500ms` are the same assertion, and the last
//! one is its normal form.

mod parser;
mod check;
pub mod syntax;
pub mod registry;
pub mod example;
pub mod dimension;
pub mod codes;

pub use codes::CODES;
pub use dimension::{Dimension, Unit, format_value};
pub use example::example;
pub use parser::{Context, parse};
pub use registry::{Better, Kind, Metric, find, metrics};
pub use syntax::{
    Aggregate, Assertion, Comparison, Condition, Dim, Expression, Extreme, Measure, Operator,
    Percentile, Test,
};

#[cfg(test)]
mod tests;
