//! `scenario gpu`: the GPUs alone, shown and recorded.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::args::GpuArgs;
use super::console::Console;
use super::exit::Exit;
use super::signals;
use crate::plan::Tls;
use crate::server;
use crate::telemetry::dcgm::DcgmSource;
use crate::telemetry::recorded::{self, RecordedSource};
use crate::telemetry::{DeviceFacts, Sample, TelemetrySource, local_gpus};
use crate::units::{Moment, format_bytes, parse_duration};

/// An exporter reads its GPUs no more often.
const EXPORTER_EVERY: Duration = Duration::from_secs(1);

/// What is known of one GPU at one instant, by metric.
type State = BTreeMap<&'static str, f64>;

pub(super) fn gpu(args: &GpuArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut every = duration("--every", &args.every)?;
    let length = match &args.duration {
        Some(text) => duration("--for", text)?,
        None => Duration::ZERO,
    };
    let mut source = match open(args) {
        Ok(source) => source,
        Err(problem) => {
            console.talk(&problem);
            return Ok(Exit::Inconclusive);
        }
    };
    if args.dcgm.is_some() {
        every = every.max(EXPORTER_EVERY);
    }
    let mut record = match &args.record {
        Some(path) => {
            let file = std::fs::File::create(path)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
            let mut file = std::io::BufWriter::new(file);
            writeln!(file, "{}", recorded::HEADER)?;
            Some(file)
        }
        None => None,
    };
    let interrupt = signals::count(console, false)?;
    source
        .devices()
        .iter()
        .for_each(|device| console.data(&introduced(device)));
    console.data(HEAD);
    source.begin();
    let began = Instant::now();
    let mut seen: BTreeMap<u32, Vec<State>> = BTreeMap::new();
    // The first sample is the beginning, so that a recording can be played from its first instant on.
    let mut at = Moment::ZERO;
    loop {
        let mut samples = Vec::new();
        source.sample(at, &mut samples);
        for sample in &samples {
            if let Sample::Event { kind, text } = sample {
                console.talk(&format!("{kind}: {text}"));
            }
        }
        for (device, state) in states(&samples) {
            console.data(&line(at, device, &state));
            if let Some(file) = &mut record {
                writeln!(file, "{}", recorded::line(at, device, &state))?;
            }
            seen.entry(device).or_default().push(state);
        }
        if interrupt.count() > 0 || began.elapsed() + every > length {
            break;
        }
        interrupt.wait(every);
        at = Moment::from_secs_f64(began.elapsed().as_secs_f64());
    }
    if let Some(file) = &mut record {
        file.flush()?;
    }
    if length > Duration::ZERO {
        seen.iter()
            .for_each(|(device, states)| console.data(&summed_up(*device, states)));
    }
    Ok(match seen.is_empty() {
        true => Exit::Inconclusive,
        false => Exit::Passed,
    })
}

fn duration(option: &str, text: &str) -> anyhow::Result<Duration> {
    parse_duration(text).map_err(|error| anyhow::anyhow!("{option} {text}: {error}"))
}

/// The source that is asked for: an exporter, a recording, or the GPUs of this machine.
fn open(args: &GpuArgs) -> Result<Box<dyn TelemetrySource>, String> {
    if let Some(url) = &args.dcgm {
        let url = super::quick::with_scheme(url).map_err(|error| error.to_string())?;
        let page = server::page(&url, &Tls::default())?;
        return Ok(Box::new(DcgmSource::open(page, &args.devices)?));
    }
    if let Some(path) = &args.recorded {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let source = RecordedSource::read(&text).map_err(|error| error.to_string())?;
        return Ok(Box::new(source));
    }
    local_gpus((!args.devices.is_empty()).then_some(&args.devices))
}

/// The samples of each device.
fn states(samples: &[Sample]) -> BTreeMap<u32, State> {
    let mut states: BTreeMap<u32, State> = BTreeMap::new();
    for sample in samples {
        if let Sample::Value {
            metric,
            device: Some(device),
            value,
        } = sample
        {
            states.entry(*device).or_default().insert(metric, *value);
        }
    }
    states
}

fn introduced(device: &DeviceFacts) -> String {
    let facts = [
        Some(device.name.clone()),
        device.memory_bytes.map(format_bytes),
        device
            .driver
            .as_ref()
            .map(|version| format!("driver {version}")),
        device
            .cuda
            .as_ref()
            .map(|version| format!("CUDA {version}")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    format!("GPU {}: {}", device.index, facts.join(" · "))
}

const HEAD: &str = "    at_s  gpu    util      memory    power   temp   SM clock";

/// What is not known is a dash, never a zero.
fn line(at: Moment, device: u32, state: &State) -> String {
    let said = |metric: &str, say: &dyn Fn(f64) -> String| {
        state
            .get(metric)
            .map_or_else(|| "–".to_owned(), |value| say(*value))
    };
    format!(
        "{:>8.2}  {device:>3}  {:>6}  {:>10}  {:>7}  {:>5}  {:>9}",
        at.as_secs(),
        said("gpu.util", &|share| format!("{:.0}%", share * 100.0)),
        said("gpu.memory_used", &|bytes| format_bytes(bytes as u64)),
        said("gpu.power", &|watts| format!("{watts:.0} W")),
        said("gpu.temperature", &|degrees| format!("{degrees:.0} °C")),
        said("gpu.sm_clock", &|mhz| format!("{mhz:.0} MHz")),
    )
}

/// What came of one GPU over the whole time: over the samples that there are.
fn summed_up(device: u32, states: &[State]) -> String {
    let all = |metric: &str| -> Vec<f64> {
        states
            .iter()
            .filter_map(|state| state.get(metric).copied())
            .collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let most = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
    let (util, power, memory, energy) = (
        all("gpu.util"),
        all("gpu.power"),
        all("gpu.memory_used"),
        all("gpu.energy"),
    );
    let mut said = vec![format!("GPU {device}: {} samples", states.len())];
    if !util.is_empty() {
        said.push(format!("util {:.0}% mean", mean(&util) * 100.0));
    }
    if !power.is_empty() {
        said.push(format!(
            "power {:.0} W mean, {:.0} W at most",
            mean(&power),
            most(&power)
        ));
    }
    if !memory.is_empty() {
        said.push(format!(
            "memory {} at most",
            format_bytes(most(&memory) as u64)
        ));
    }
    if let [first, .., last] = energy[..] {
        said.push(format!("energy {:.0} J", last - first));
    }
    said.join(" · ")
}
