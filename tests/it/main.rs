//! The one integration binary: what users touch, file in and report out.

mod http;
mod load;
mod check;
mod layers;
mod stage;
mod simulator;
mod report;
mod plan;
mod tool;
mod run;
mod engines;
mod offline;
mod fairness;
mod preflight;
mod external;
mod dialects;
mod containers;
mod chaos;
#[cfg(target_os = "linux")]
mod truth;
mod tls;
mod cli;
mod scenarios;
mod traces;
mod studies;
mod readme;
mod saved;
mod ranking;
mod compare;
mod compose;
mod judge;
mod outputs;
