//! The embedded inference engine: one pure model of continuous batching, served over real HTTP on loopback.
//!
//! In: a [`SimulatorConfig`]. Out: a server that speaks as vLLM does, misbehaves if asked to, and has a simulated accelerator.
//! Everything that it produces is labelled `simulated`: a number that comes from here is a rehearsal, never a measurement.

// The engine in virtual time.
pub mod model;
mod kv_cache;
mod gpu;
pub mod lengths;
pub mod presets;
#[cfg(test)]
mod calibration;
// The engine behind HTTP.
pub mod faults;
mod text;
mod generation;
mod answer;
mod statistics;
mod driver;
mod alarm;
mod connection;
pub mod server;

pub use faults::{FAULT_NAMES, Fault, FaultError, FaultKind};
pub use gpu::{GpuParameters, SimulatedGpu};
pub use kv_cache::KvCacheSize;
pub use lengths::LengthDistribution;
pub use model::{Emission, EngineParameters, Gauges, Model, Request, RequestId};
pub use presets::{PRESET_NAMES, Preset, UnknownPreset, nearest_preset, preset};
pub use server::{GpuWatch, SimulatorConfig, SimulatorHandle, start};
