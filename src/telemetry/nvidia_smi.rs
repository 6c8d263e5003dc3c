//! GPUs of this machine by the `nvidia-smi` program, where NVML's library cannot be loaded.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{DeviceFacts, GpuSample, Sample, TelemetrySource};
use crate::programs;
use crate::units::Moment;

const MIB: f64 = 1_048_576.0;
/// It is asked no more often: each time is a process.
const EVERY: Duration = Duration::from_secs(1);
/// It takes seconds where the driver is busy.
const LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const FIELDS: &str = "index,name,driver_version,memory.total,memory.used,utilization.gpu,power.draw,temperature.gpu,clocks.sm";

/// The GPUs that `nvidia-smi` lists.
pub struct SmiSource {
    program: String,
    indices: Option<Vec<u32>>,
    devices: Vec<DeviceFacts>,
    next: Moment,
    lost: bool,
}

impl SmiSource {
    /// Watches the GPUs with these indices, or all of them, by this program.
    ///
    /// # Errors
    /// It is not there, or lists none of them: in words.
    pub fn open(program: &str, indices: Option<&[u32]>) -> Result<SmiSource, String> {
        let rows = ask(program)?;
        if let Some(missing) = indices
            .into_iter()
            .flatten()
            .find(|index| rows.iter().all(|(facts, _)| facts.index != **index))
        {
            return Err(format!("{program} lists no GPU {missing}"));
        }
        let indices = indices.map(<[u32]>::to_vec);
        let is_watched = |index: u32| indices.as_ref().is_none_or(|asked| asked.contains(&index));
        let devices: Vec<DeviceFacts> = rows
            .into_iter()
            .map(|(facts, _)| facts)
            .filter(|facts| is_watched(facts.index))
            .collect();
        if devices.is_empty() {
            return Err(format!("{program} lists no GPU"));
        }
        Ok(SmiSource {
            program: program.to_owned(),
            indices,
            devices,
            next: Moment::ZERO,
            lost: false,
        })
    }
}

impl TelemetrySource for SmiSource {
    fn name(&self) -> &str {
        "nvidia-smi"
    }

    fn begin(&mut self) {
        (self.next, self.lost) = (Moment::ZERO, false);
    }

    fn sample(&mut self, at: Moment, into: &mut Vec<Sample>) {
        if at < self.next {
            return;
        }
        self.next = at + EVERY;
        match ask(&self.program) {
            Ok(rows) => {
                self.lost = false;
                for (facts, sample) in rows {
                    let index = facts.index;
                    if self
                        .indices
                        .as_ref()
                        .is_none_or(|asked| asked.contains(&index))
                    {
                        sample.add_to(index, into);
                    }
                }
            }
            Err(problem) => {
                if !std::mem::replace(&mut self.lost, true) {
                    into.push(Sample::event("telemetry_lost", problem));
                }
            }
        }
    }

    fn devices(&self) -> Vec<DeviceFacts> {
        self.devices.clone()
    }
}

fn ask(program: &str) -> Result<Vec<(DeviceFacts, GpuSample)>, String> {
    let broken = |problem: String| format!("{program}: {problem}");
    let mut child = programs::asked(program)
        .arg(format!("--query-gpu={FIELDS}"))
        .arg("--format=csv,noheader,nounits")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| broken(error.to_string()))?;
    let until = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(broken(format!("no answer in {} s", LIMIT.as_secs())));
            }
        }
    };
    let mut text = String::new();
    // A page of a few lines is far smaller than a pipe.
    let out = child.stdout.as_mut();
    out.map_or(Ok(0), |out| out.read_to_string(&mut text))
        .map_err(|error| broken(error.to_string()))?;
    if !status.success() {
        return Err(broken(format!("it ends with {status}")));
    }
    Ok(rows(&text))
}

/// Its table; `[N/A]`, `[Not Supported]` and the like stay unknown.
fn rows(table: &str) -> Vec<(DeviceFacts, GpuSample)> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let text = |at: usize| {
            fields
                .get(at)
                .copied()
                .filter(|text| !text.starts_with('['))
        };
        let number = |at: usize| {
            text(at)?
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
        };
        let total = number(3).map(|mib| mib * MIB);
        let facts = DeviceFacts {
            index: text(0)?.parse().ok()?,
            name: text(1).unwrap_or("unknown GPU").to_owned(),
            memory_bytes: total.map(|bytes| bytes as u64),
            driver: text(2).map(str::to_owned),
            cuda: None,
            simulated: false,
        };
        let sample = GpuSample {
            util: number(5).map(|percent| percent / 100.0),
            memory_used: number(4).map(|mib| mib * MIB),
            memory_total: total,
            power: number(6),
            temperature: number(7),
            sm_clock: number(8),
            energy: None,
        };
        Some((facts, sample))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_it_cannot_tell_stays_unknown() {
        let table = "0, NVIDIA A100-SXM4-80GB, 550.54.15, 81920, 1024, 37, 101.25, 41, 1410\n\
                     1, NVIDIA GB10, 580.1, [N/A], [N/A], 5, [Not Supported], 40, [N/A]\n";
        let read = rows(table);
        assert_eq!(read[0].0.name, "NVIDIA A100-SXM4-80GB");
        assert_eq!(read[0].0.memory_bytes, Some(80 << 30));
        assert_eq!(read[0].1.util, Some(0.37));
        assert_eq!(read[0].1.power, Some(101.25));
        assert_eq!(
            read[1].1,
            GpuSample {
                util: Some(0.05),
                temperature: Some(40.0),
                ..GpuSample::default()
            }
        );
    }

    #[test]
    fn the_program_is_asked_and_its_failure_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nvidia-smi");
        let fails = folder.path().join("fails");
        let script = format!(
            "#!/bin/sh\n[ -e {} ] && exit 9\necho '0, NVIDIA L4, 550, 23034, 500, 12, 30.5, 44, 2040'\n",
            fails.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.to_str().unwrap();
        assert!(SmiSource::open(program, Some(&[3])).is_err());
        let mut source = SmiSource::open(program, None).unwrap();
        let mut samples = Vec::new();
        source.sample(Moment::ZERO, &mut samples);
        assert!(samples.contains(&Sample::of_device("gpu.power", 0, 30.5)));
        // Not yet again.
        let count = samples.len();
        source.sample(Moment::from_ms(10), &mut samples);
        assert_eq!(samples.len(), count);
        std::fs::write(fails, "").unwrap();
        samples.clear();
        source.sample(Moment::from_ms(1100), &mut samples);
        source.sample(Moment::from_ms(2200), &mut samples);
        assert_eq!(samples.len(), 1, "{samples:?}");
    }
}
