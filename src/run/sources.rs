//! Which telemetry stands beside a cell.

use std::sync::Arc;
use std::time::Duration;

use super::world::World;
use crate::engine::Pulse;
use crate::observation::NotableEvent;
use crate::plan::{Cell, Gpus, Plan};
use crate::server::{self, Ready};
use crate::telemetry::dcgm::DcgmSource;
use crate::telemetry::engine::EngineSource;
use crate::telemetry::host::HostSource;
use crate::telemetry::recorded::RecordedSource;
use crate::telemetry::simulated::SimulatedSource;
use crate::telemetry::{DeviceFacts, GpuSample, Sample, TelemetrySource, local_gpus};
use crate::units::Moment;

/// An engine is asked for its metrics no more often: some answer only between two steps of their decode.
const ENGINE_EVERY: Duration = Duration::from_secs(1);

/// The sources of a cell; what cannot be read is told in one line.
pub(super) fn of(
    plan: &Plan,
    cell: &Cell,
    ready: &Ready,
    world: &World<'_>,
    pulse: Arc<Pulse>,
    events: &mut Vec<NotableEvent>,
) -> Vec<Box<dyn TelemetrySource>> {
    let mut sources: Vec<Box<dyn TelemetrySource>> = vec![Box::new(HostSource::new(pulse))];
    if ready.offline.is_some() {
        events.push(NotableEvent {
            at: Moment::ZERO,
            kind: "offline",
            text: "driven inside of its process, without a server: its times leave out what HTTP costs"
                .to_owned(),
        });
    }
    if let Some(proxy) = &ready.facts.proxy {
        events.push(NotableEvent {
            at: Moment::ZERO,
            kind: "proxied",
            text: format!("asked through the proxy {proxy}: its time is in every latency"),
        });
    }
    let mut unavailable = |text: String| {
        events.push(NotableEvent {
            at: Moment::ZERO,
            kind: "telemetry_unavailable",
            text,
        })
    };
    match gpu(cell, ready, world) {
        Ok(source) => sources.extend(source),
        Err(text) => unavailable(text),
    }
    if plan.telemetry.engine {
        match engine(cell, ready) {
            Ok(source) => sources.extend(source),
            Err(text) => unavailable(text),
        }
    }
    sources
}

fn gpu(
    cell: &Cell,
    ready: &Ready,
    world: &World<'_>,
) -> Result<Option<Box<dyn TelemetrySource>>, String> {
    if let Some(path) = &world.recorded_gpu {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("`{}`: {error}", path.display()))?;
        return Ok(Some(Box::new(
            RecordedSource::read(&text).map_err(|error| error.to_string())?,
        )));
    }
    if let Some(simulator) = &ready.simulator {
        let watch = simulator.gpu_watch();
        let name = watch.read().name;
        return Ok(Some(Box::new(SimulatedSource::new(
            name,
            Box::new(move || sample(&watch.read())),
        ))));
    }
    let indices = match &cell.backend.gpus {
        Gpus::Off => return Ok(None),
        Gpus::Dcgm { url, devices } => {
            let page = server::page(url, &cell.backend.tls)?;
            let source = DcgmSource::open(page, devices)
                .map_err(|problem| format!("no GPU telemetry: {problem}"))?;
            return Ok(Some(Box::new(Throttled {
                source,
                next: Moment::ZERO,
            })));
        }
        Gpus::Nvml(indices) => Some(indices.as_slice()),
        Gpus::Auto if ready.endpoint.is_loopback() && !ready.facts.simulated => None,
        Gpus::Auto => return Ok(None),
    };
    local_gpus(indices).map(Some)
}

fn sample(gpu: &crate::engine::simulator::SimulatedGpu) -> GpuSample {
    GpuSample {
        util: Some(gpu.utilization),
        memory_used: Some(gpu.memory_used as f64),
        memory_total: Some(gpu.memory_total as f64),
        power: Some(gpu.power_watts),
        temperature: Some(gpu.temperature_celsius),
        sm_clock: Some(f64::from(gpu.sm_clock_mhz)),
        energy: Some(gpu.energy_joules),
    }
}

fn engine(cell: &Cell, ready: &Ready) -> Result<Option<Box<dyn TelemetrySource>>, String> {
    let Some(page) = server::metrics_page(&cell.backend, ready)? else {
        return Ok(None);
    };
    // The page says itself whose names it uses: a simulator in the place of SGLang still speaks as vLLM does.
    let source = EngineSource::new(&cell.backend.id, None, page);
    Ok(Some(Box::new(Throttled {
        source,
        next: Moment::ZERO,
    })))
}

/// A source that is asked less often than the others.
struct Throttled<S> {
    source: S,
    next: Moment,
}

impl<S: TelemetrySource> TelemetrySource for Throttled<S> {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn sample(&mut self, at: Moment, into: &mut Vec<Sample>) {
        if at >= self.next {
            self.next = at + ENGINE_EVERY;
            self.source.sample(at, into);
        }
    }

    fn devices(&self) -> Vec<DeviceFacts> {
        self.source.devices()
    }
}
