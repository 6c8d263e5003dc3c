//! The one integration binary: what users touch, file in and report out.

mod http;
mod check;
mod stage;
mod simulator;
mod report;
mod plan;
