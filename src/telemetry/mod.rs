//! What GPUs, engines and the machine tell beside the requests: sampled off the load threads, never in their way.
//!
//! In: [`TelemetrySource`]s. Out: [`Series`](crate::observation::Series) and
//! [`NotableEvent`](crate::observation::NotableEvent)s by way of the [`Sampler`]. A quantity that a source cannot tell is
//! left out; it is never zero.

pub mod sampler;
pub mod nvml;
pub mod nvidia_smi;
pub mod dcgm;
pub mod engine;
pub mod exposition;
pub mod host;
pub mod simulated;
pub mod recorded;
pub mod environment;

pub use crate::observation::DeviceFacts;
pub use environment::{GitFacts, HostFacts, git_facts, host_facts};
pub use sampler::{Sampled, Sampler, SamplesTold};

use crate::units::Moment;

/// Something that can be asked again and again how things are. The set of sources is open.
pub trait TelemetrySource: Send {
    /// Its name in messages, like `nvml` or `engine metrics of vllm`.
    fn name(&self) -> &str;

    /// A cell begins: what belongs to the one before, like counters to compare with, is forgotten.
    fn begin(&mut self) {}

    /// Adds what is so now. `at` is the present instant, for sources that play a recording. A source that fails adds a
    /// [`Sample::Event`] once and goes on trying; it never blocks for longer than its own time limit.
    fn sample(&mut self, at: Moment, into: &mut Vec<Sample>);

    /// The devices that it watches, for the report.
    fn devices(&self) -> Vec<DeviceFacts> {
        Vec::new()
    }
}

/// The GPUs of this machine with these indices, or all of them.
///
/// # Errors
/// There are none that can be read, in one line.
pub fn local_gpus(indices: Option<&[u32]>) -> Result<Box<dyn TelemetrySource>, String> {
    match nvml::NvmlSource::open(indices) {
        Ok(source) => Ok(Box::new(source)),
        // The program may be there without the library.
        Err(error) => match nvidia_smi::SmiSource::open("nvidia-smi", indices) {
            Ok(source) => Ok(Box::new(source)),
            Err(_) => Err(error.to_string()),
        },
    }
}

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A quantity, in the unit of [`Series::samples`](crate::observation::Series::samples).
    Value {
        /// The metric's name in the registry.
        metric: &'static str,
        /// The device, for quantities that each GPU has.
        device: Option<u32>,
        /// The value.
        value: f64,
    },
    /// Something happened.
    Event {
        /// What kind, like `gpu_throttled`.
        kind: &'static str,
        /// In words.
        text: String,
    },
}

impl Sample {
    /// A quantity of the whole.
    pub fn value(metric: &'static str, value: f64) -> Sample {
        Sample::Value {
            metric,
            device: None,
            value,
        }
    }

    /// A quantity of one device.
    pub fn of_device(metric: &'static str, device: u32, value: f64) -> Sample {
        Sample::Value {
            metric,
            device: Some(device),
            value,
        }
    }

    /// Something that happened.
    pub fn event(kind: &'static str, text: impl Into<String>) -> Sample {
        Sample::Event {
            kind,
            text: text.into(),
        }
    }
}

/// The state of one GPU. What it cannot tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuSample {
    /// Share of the last period in which a kernel ran, 0 to 1.
    pub util: Option<f64>,
    /// Memory in use, in bytes.
    pub memory_used: Option<f64>,
    /// Memory in all, in bytes.
    pub memory_total: Option<f64>,
    /// Power in watts.
    pub power: Option<f64>,
    /// Temperature in °C.
    pub temperature: Option<f64>,
    /// Clock of the streaming multiprocessors in MHz.
    pub sm_clock: Option<f64>,
    /// Energy in joules since the device started.
    pub energy: Option<f64>,
}

impl GpuSample {
    /// Adds what is known.
    pub fn add_to(&self, device: u32, into: &mut Vec<Sample>) {
        let quantities = [
            ("gpu.util", self.util),
            ("gpu.memory_used", self.memory_used),
            ("gpu.memory_total", self.memory_total),
            ("gpu.power", self.power),
            ("gpu.temperature", self.temperature),
            ("gpu.sm_clock", self.sm_clock),
            ("gpu.energy", self.energy),
        ];
        into.extend(
            quantities
                .into_iter()
                .filter_map(|(metric, value)| Some(Sample::of_device(metric, device, value?))),
        );
    }
}
