//! NVIDIA GPUs of this machine, through a library that is loaded when it is there.

use std::collections::BTreeSet;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::{DeviceFacts, GpuSample, Sample, TelemetrySource};
use crate::units::Moment;

/// The GPUs of this machine, or some of them.
pub struct NvmlSource {
    library: Nvml,
    devices: Vec<Watched>,
}

/// One GPU and what was told of it.
struct Watched {
    index: u32,
    throttled: ThrottleReasons,
    processes: Option<BTreeSet<u32>>,
    lost: bool,
}

/// Why no GPU can be watched.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is no driver.
    #[error("no GPU telemetry: the NVIDIA driver's library is not on this machine")]
    NoLibrary,
    /// There is one, and it does not work.
    #[error("no GPU telemetry: {0}")]
    Broken(String),
    /// An index was asked for that is not there.
    #[error("no GPU {index}: this machine has {count}")]
    NoDevice {
        /// The index.
        index: u32,
        /// GPUs of the machine.
        count: u32,
    },
}

impl NvmlSource {
    /// Watches the GPUs with these indices, or all of them.
    ///
    /// # Errors
    /// See [`Unavailable`]; one clear line each.
    pub fn open(indices: Option<&[u32]>) -> Result<NvmlSource, Unavailable> {
        let library = Nvml::init().map_err(|error| match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => Unavailable::NoLibrary,
            other => Unavailable::Broken(other.to_string()),
        })?;
        let count = library
            .device_count()
            .map_err(|error| Unavailable::Broken(error.to_string()))?;
        let indices: Vec<u32> = match indices {
            Some(asked) => asked.to_vec(),
            None => (0..count).collect(),
        };
        if let Some(&index) = indices.iter().find(|&&index| index >= count) {
            return Err(Unavailable::NoDevice { index, count });
        }
        if indices.is_empty() {
            return Err(Unavailable::Broken("this machine has no GPU".to_owned()));
        }
        let devices = indices.into_iter().map(Watched::new).collect();
        Ok(NvmlSource { library, devices })
    }
}

impl TelemetrySource for NvmlSource {
    fn name(&self) -> &str {
        "nvml"
    }

    fn begin(&mut self) {
        for watched in &mut self.devices {
            *watched = Watched::new(watched.index);
        }
    }

    fn sample(&mut self, _at: Moment, into: &mut Vec<Sample>) {
        for watched in &mut self.devices {
            match self.library.device_by_index(watched.index) {
                Ok(device) => watched.sample(&device, into),
                Err(error) => watched.fail(&error, into),
            }
        }
    }

    fn devices(&self) -> Vec<DeviceFacts> {
        let driver = self.library.sys_driver_version().ok();
        let cuda = self.library.sys_cuda_driver_version().ok();
        let cuda = cuda.map(|version| {
            let (major, minor) = (
                cuda_driver_version_major(version),
                cuda_driver_version_minor(version),
            );
            format!("{major}.{minor}")
        });
        self.devices
            .iter()
            .filter_map(|watched| {
                let device = self.library.device_by_index(watched.index).ok()?;
                Some(DeviceFacts {
                    index: watched.index,
                    name: device.name().unwrap_or_else(|_| "unknown GPU".to_owned()),
                    memory_bytes: device.memory_info().ok().map(|memory| memory.total),
                    driver: driver.clone(),
                    cuda: cuda.clone(),
                    simulated: false,
                })
            })
            .collect()
    }
}

/// Bytes in use on each GPU of this machine; `None` where NVML cannot tell.
pub fn memory_used() -> Option<Vec<u64>> {
    let library = Nvml::init().ok()?;
    let count = library.device_count().ok()?;
    let used = (0..count).map(|index| {
        let device = library.device_by_index(index).ok()?;
        Some(device.memory_info().ok()?.used)
    });
    used.collect()
}

impl Watched {
    fn new(index: u32) -> Watched {
        Watched {
            index,
            throttled: ThrottleReasons::empty(),
            processes: None,
            lost: false,
        }
    }

    fn sample(&mut self, device: &Device, into: &mut Vec<Sample>) {
        self.lost = false;
        state(device).add_to(self.index, into);
        if let Ok(reasons) = device.current_throttle_reasons() {
            into.extend(self.throttling(reasons));
        }
        if let Ok(processes) = device.running_compute_processes() {
            let processes = processes.iter().map(|process| process.pid).collect();
            into.extend(self.neighbours(processes));
        }
    }

    fn fail(&mut self, error: &NvmlError, into: &mut Vec<Sample>) {
        if !self.lost {
            let text = format!("GPU {}: {error}", self.index);
            into.push(Sample::event("telemetry_lost", text));
        }
        self.lost = true;
    }

    /// Told when a reason comes that was not there the last time.
    fn throttling(&mut self, reasons: ThrottleReasons) -> Option<Sample> {
        let now = reasons & slowing();
        let new = now - self.throttled;
        self.throttled = now;
        (!new.is_empty()).then(|| {
            let text = format!("GPU {}: clocks held down by {}", self.index, words(new));
            Sample::event("gpu_throttled", text)
        })
    }

    /// Told when a process comes to the GPU after the first look: whoever was there then belongs to the engine.
    fn neighbours(&mut self, processes: BTreeSet<u32>) -> Option<Sample> {
        let known = self.processes.get_or_insert_with(|| processes.clone());
        let new: Vec<String> = processes.difference(known).map(u32::to_string).collect();
        known.extend(processes);
        (!new.is_empty()).then(|| {
            let text = format!(
                "GPU {}: a process that was not there at the start: {}",
                self.index,
                new.join(", ")
            );
            Sample::event("gpu_neighbour", text)
        })
    }
}

/// What the device can tell; what it does not support is left out.
fn state(device: &Device) -> GpuSample {
    let memory = device.memory_info().ok();
    GpuSample {
        util: device
            .utilization_rates()
            .ok()
            .map(|rates| f64::from(rates.gpu) / 100.0),
        memory_used: memory.as_ref().map(|memory| memory.used as f64),
        memory_total: memory.as_ref().map(|memory| memory.total as f64),
        power: device.power_usage().ok().map(|mw| f64::from(mw) / 1e3),
        temperature: device
            .temperature(TemperatureSensor::Gpu)
            .ok()
            .map(f64::from),
        sm_clock: device.clock_info(Clock::SM).ok().map(f64::from),
        energy: device
            .total_energy_consumption()
            .ok()
            .map(|mj| mj as f64 / 1e3),
    }
}

/// The reasons that slow a loaded GPU down. An idle GPU and a clock that its owner set are no throttling.
fn slowing() -> ThrottleReasons {
    ThrottleReasons::SW_POWER_CAP
        | ThrottleReasons::HW_SLOWDOWN
        | ThrottleReasons::SYNC_BOOST
        | ThrottleReasons::SW_THERMAL_SLOWDOWN
        | ThrottleReasons::HW_THERMAL_SLOWDOWN
        | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN
}

fn words(reasons: ThrottleReasons) -> String {
    let named = [
        (ThrottleReasons::SW_POWER_CAP, "the power cap"),
        (ThrottleReasons::HW_SLOWDOWN, "the hardware"),
        (ThrottleReasons::SYNC_BOOST, "another GPU of its group"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "heat (software)"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "heat (hardware)"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "the power brake"),
    ];
    let said: Vec<&str> = named
        .into_iter()
        .filter(|(reason, _)| reasons.contains(*reason))
        .map(|(_, words)| words)
        .collect();
    said.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_told_when_it_begins_and_idling_is_none() {
        let mut gpu = Watched::new(0);
        let capped = ThrottleReasons::SW_POWER_CAP;
        let hot = capped | ThrottleReasons::SW_THERMAL_SLOWDOWN;
        let idle = ThrottleReasons::GPU_IDLE | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING;
        let told = [idle, capped, capped, hot, idle].map(|reasons| gpu.throttling(reasons));
        let event = |text: &str| Some(Sample::event("gpu_throttled", text));
        assert_eq!(
            told,
            [
                None,
                event("GPU 0: clocks held down by the power cap"),
                None,
                event("GPU 0: clocks held down by heat (software)"),
                None,
            ]
        );
    }

    #[test]
    fn a_process_that_comes_later_is_a_neighbour_and_told_once() {
        let mut gpu = Watched::new(1);
        let told = [vec![7, 8], vec![7, 8, 9], vec![7, 9], vec![8, 9]]
            .map(|processes| gpu.neighbours(processes.into_iter().collect()));
        assert_eq!(told.iter().filter(|event| event.is_some()).count(), 1);
        assert_eq!(
            told[1],
            Some(Sample::event(
                "gpu_neighbour",
                "GPU 1: a process that was not there at the start: 9"
            ))
        );
    }

    #[test]
    fn without_a_driver_there_is_one_clear_line() {
        if let Err(Unavailable::NoLibrary) = NvmlSource::open(None) {
            assert_eq!(
                Unavailable::NoLibrary.to_string(),
                "no GPU telemetry: the NVIDIA driver's library is not on this machine"
            );
        }
    }
}
