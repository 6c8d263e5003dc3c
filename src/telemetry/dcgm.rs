//! GPUs of another host, by the Prometheus page of NVIDIA's DCGM exporter.

use std::collections::BTreeMap;

use super::exposition::parse;
use super::{DeviceFacts, GpuSample, Sample, TelemetrySource};
use crate::units::Moment;

const MIB: f64 = 1_048_576.0;

/// Fetches the page, or says why there is none; ends within its own time limit.
pub type Page = Box<dyn FnMut() -> Result<String, String> + Send>;

/// The GPUs that an exporter tells of.
pub struct DcgmSource {
    page: Page,
    /// Only these; empty: all.
    devices: Vec<u32>,
    lost: bool,
    seen: BTreeMap<u32, DeviceFacts>,
}

impl DcgmSource {
    /// Watches the GPUs with these indices, or all of them.
    ///
    /// # Errors
    /// The page does not answer, or tells of none of them: in words.
    pub fn open(mut page: Page, devices: &[u32]) -> Result<DcgmSource, String> {
        let first = page()?;
        let told = gpus(&first);
        if let Some(missing) = devices.iter().find(|index| !told.contains_key(index)) {
            let known: Vec<String> = told.keys().map(u32::to_string).collect();
            return Err(format!(
                "the DCGM exporter tells of no GPU {missing}; it tells of {}",
                known.join(", ")
            ));
        }
        if told.is_empty() {
            return Err("the page of the DCGM exporter tells of no GPU".to_owned());
        }
        let is_watched = |index: &u32| devices.is_empty() || devices.contains(index);
        Ok(DcgmSource {
            page,
            devices: devices.to_vec(),
            lost: false,
            seen: told
                .into_iter()
                .filter(|(index, _)| is_watched(index))
                .map(|(index, (facts, _))| (index, facts))
                .collect(),
        })
    }
}

impl TelemetrySource for DcgmSource {
    fn name(&self) -> &str {
        "dcgm"
    }

    fn begin(&mut self) {
        self.lost = false;
    }

    fn sample(&mut self, _at: Moment, into: &mut Vec<Sample>) {
        match (self.page)() {
            Ok(page) => {
                self.lost = false;
                for (index, (_, sample)) in gpus(&page) {
                    if self.devices.is_empty() || self.devices.contains(&index) {
                        sample.add_to(index, into);
                    }
                }
            }
            Err(problem) => {
                if !std::mem::replace(&mut self.lost, true) {
                    into.push(Sample::event("telemetry_lost", format!("dcgm: {problem}")));
                }
            }
        }
    }

    fn devices(&self) -> Vec<DeviceFacts> {
        self.seen.values().cloned().collect()
    }
}

/// What a page says of each GPU. A field that is blank to DCGM is not on the page, and stays unknown.
fn gpus(page: &str) -> BTreeMap<u32, (DeviceFacts, GpuSample)> {
    let mut gpus: BTreeMap<u32, (DeviceFacts, GpuSample)> = BTreeMap::new();
    let mut free: BTreeMap<u32, f64> = BTreeMap::new();
    for metric in parse(page).filter(|metric| metric.value.is_finite()) {
        // A MIG slice is a part of its GPU and would be taken for the whole.
        if metric.label("GPU_I_ID").is_some_and(|id| !id.is_empty()) {
            continue;
        }
        let Some(index) = metric.label("gpu").and_then(|gpu| gpu.parse().ok()) else {
            continue;
        };
        let slot = match metric.name {
            "DCGM_FI_DEV_GPU_UTIL" => 0,
            "DCGM_FI_DEV_FB_USED" => 1,
            "DCGM_FI_DEV_FB_FREE" => 2,
            "DCGM_FI_DEV_POWER_USAGE" => 3,
            "DCGM_FI_DEV_GPU_TEMP" => 4,
            "DCGM_FI_DEV_SM_CLOCK" => 5,
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" => 6,
            _ => continue,
        };
        let (facts, sample) = gpus.entry(index).or_insert_with(|| {
            let name = metric.label("modelName").unwrap_or("unknown GPU");
            let facts = DeviceFacts {
                index,
                name: name.to_owned(),
                memory_bytes: None,
                driver: metric.label("DCGM_FI_DRIVER_VERSION").map(str::to_owned),
                cuda: None,
                simulated: false,
            };
            (facts, GpuSample::default())
        });
        let value = metric.value;
        match slot {
            0 => sample.util = Some(value / 100.0),
            1 => sample.memory_used = Some(value * MIB),
            2 => drop(free.insert(index, value * MIB)),
            3 => sample.power = Some(value),
            4 => sample.temperature = Some(value),
            5 => sample.sm_clock = Some(value),
            // Told in millijoules.
            _ => sample.energy = Some(value / 1000.0),
        }
        if let (Some(used), Some(free)) = (sample.memory_used, free.get(&index)) {
            sample.memory_total = Some(used + free);
            facts.memory_bytes = Some((used + free) as u64);
        }
    }
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA H100",Hostname="h"} 1980
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA H100",Hostname="h"} 312.5
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a",modelName="NVIDIA H100"} 2500
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",modelName="NVIDIA H100"} 97
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",modelName="NVIDIA H100"} 1024
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",modelName="NVIDIA H100"} 3072
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b",modelName="NVIDIA H100"} 61
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",modelName="NVIDIA H100",GPU_I_ID="3"} 50
"#;

    fn source(devices: &[u32]) -> Result<DcgmSource, String> {
        let mut answers = 2;
        let page = move || {
            answers -= 1;
            if answers >= 0 {
                Ok(PAGE.to_owned())
            } else {
                Err("connection refused".to_owned())
            }
        };
        DcgmSource::open(Box::new(page), devices)
    }

    #[test]
    fn a_page_is_read_in_our_units_and_blank_fields_stay_unknown() {
        let mut source = source(&[]).unwrap();
        let mut samples = Vec::new();
        source.sample(Moment::ZERO, &mut samples);
        let gib = 1_073_741_824.0;
        assert_eq!(
            samples,
            [
                Sample::of_device("gpu.util", 0, 0.97),
                Sample::of_device("gpu.memory_used", 0, 3.0 * gib),
                Sample::of_device("gpu.memory_total", 0, 4.0 * gib),
                Sample::of_device("gpu.power", 0, 312.5),
                Sample::of_device("gpu.sm_clock", 0, 1980.0),
                Sample::of_device("gpu.energy", 0, 2.5),
                Sample::of_device("gpu.temperature", 1, 61.0),
            ]
        );
        assert_eq!(source.devices()[0].name, "NVIDIA H100");
        assert_eq!(source.devices()[0].memory_bytes, Some(4 << 30));
    }

    #[test]
    fn a_page_that_is_lost_is_told_once_and_is_a_gap() {
        let mut source = source(&[1]).unwrap();
        let mut samples = Vec::new();
        for _ in 0..3 {
            source.sample(Moment::ZERO, &mut samples);
        }
        assert_eq!(
            samples,
            [
                Sample::of_device("gpu.temperature", 1, 61.0),
                Sample::event("telemetry_lost", "dcgm: connection refused"),
            ]
        );
    }

    #[test]
    fn a_gpu_that_is_not_on_the_page_is_told() {
        let problem = source(&[7]).map(|_| ()).unwrap_err();
        assert!(problem.ends_with("no GPU 7; it tells of 0, 1"), "{problem}");
    }
}
