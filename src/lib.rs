//! `scenario` tests LLM inference servers from declarative scenario files.
//!
//! A functional core lies on both sides of one waiting stage:
//!
//! ```text
//!  text ──spec──▶ ScenarioSpec ──plan──▶ Plan ──run──▶ Observations ──verdict──▶ Verdicts ──report──▶ files, terminal
//!         pure                    pure          waits                  pure                 pure
//! ```
//!
//! Only [`run`] and what it holds ([`load`], [`engine`], [`server`], [`telemetry`]) touches the outside world, and `selftest`,
//! which drives [`load`] against a server of its own; everything else is a function of its arguments: same file, same seed, same
//! bytes. Imports point one way, from the top of the list below to its end; `tests/it/layers.rs` holds them to it.

pub mod cli;
pub mod language;
pub mod live;
pub mod report;
pub mod verdict;
pub mod run;
#[cfg(target_os = "linux")]
pub mod selftest;
pub mod load;
pub mod server;
pub mod engine;
pub mod telemetry;
pub mod observation;
pub mod plan;
pub mod workload;
pub mod spec;
pub mod wire;
pub mod assertion;
// The base: knows nothing above it.
pub mod diagnostic;
pub mod units;
pub mod seed;
pub mod clock;
pub mod threads;
pub mod secret;
pub mod programs;
