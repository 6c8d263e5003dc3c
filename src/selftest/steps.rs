//! The steps of a self-test: a load against the truth server, in this process, and what its log says of the client's numbers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::floor::{self, FloorLoad};
use super::truth::{self, LogTo, TruthConfig, TruthEntry};
use super::{BOUNDS_MS, LAG_MS, Reach, STREAM_RATE, SelfTestError, SendStep, StreamStep};
use crate::assertion::Percentile;
use crate::clock::Clock;
use crate::diagnostic::Sources;
use crate::engine::{BodyTemplate, Dialect, HttpTarget};
use crate::load::{Capacity, SegmentRequest, StopSignal, Tally, execute};
use crate::observation::{LagHistogram, Outcome, RequestRecord, request_id};
use crate::plan::{CellRun, PlanOptions, plan};
use crate::spec;
use crate::threads::cpu_time;
use crate::verdict::statistics::nearest_rank;
use crate::wire::Endpoint;

/// Events of an answer: at twenty a second, one second.
const EVENTS: u32 = 20;
/// A server that is later than this at p99 is at its own limit.
const SERVER_LATE_MS: f64 = 5.0;
const P50: Option<Percentile> = Percentile::new(50_000);
const P99: Option<Percentile> = Percentile::new(99_000);
const RUN: CellRun = CellRun { cell: 0, repeat: 0 };

/// What came of one load.
struct Seen {
    records: Vec<RequestRecord>,
    read_lag: LagHistogram,
    shared: u64,
    events: u64,
    cpu: f64,
    wall: Duration,
    log: HashMap<String, TruthEntry>,
}

/// So many streams at twenty events a second, begun within a second.
pub(super) fn streams(count: u32, step: Duration) -> Result<StreamStep, SelfTestError> {
    let server = TruthConfig {
        log: LogTo::Memory,
        ..TruthConfig::default()
    };
    let load = format!(
        "{{ stages: [{{ name: fill, users: 0, to: {count}, for: 1s, measure: false }}, {{ name: full, for: {}ms }}] }}",
        step.as_millis()
    );
    let seen = drive(&server, &load, EVENTS)?;
    let mut errors = Vec::new();
    let mut late = Vec::new();
    for record in seen
        .records
        .iter()
        .filter(|record| record.outcome == Outcome::Ok)
    {
        let id = request_id(RUN, record.home, record.index, record.turn);
        let (Some(entry), Some(first), Some(dispatched)) =
            (seen.log.get(&id), record.first_token, record.dispatched)
        else {
            continue;
        };
        let Some(&handed) = entry.handed.first() else {
            continue;
        };
        let told = first.since(dispatched).as_secs_f64() * 1e3;
        errors.push((told - (handed - entry.arrived) as f64 / 1e6).abs());
        // A beat never comes early, so what lies above the shortest gap is lateness.
        let gaps = entry
            .handed
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64 / 1e6);
        late.extend(gaps.map(|gap| (gap - 1e3 / STREAM_RATE).abs()));
    }
    if errors.is_empty() {
        return Err(SelfTestError::Step(format!(
            "no answer came whole with {count} streams: {}",
            failures(&seen.records)
        )));
    }
    Ok(StreamStep {
        streams: count,
        events_per_second: seen.events as f64 / seen.wall.as_secs_f64(),
        ttft_error_p50_ms: percentile(&mut errors, P50),
        ttft_error_p99_ms: percentile(&mut errors, P99),
        read_lag_p99_ms: seen.read_lag.quantile(0.99).unwrap_or(0) as f64 / 1e6,
        shared: seen.shared as f64 / (seen.events as f64).max(1.0),
        cpu: seen.cpu,
        cpu_per_event_us: seen.cpu * seen.wall.as_secs_f64() * 1e6 / (seen.events as f64).max(1.0),
        server_late_p99_ms: percentile(&mut late, P99),
    })
}

/// So many requests a second by the clock, with short answers.
pub(super) fn sends(rate: u32, step: Duration) -> Result<SendStep, SelfTestError> {
    let server = TruthConfig {
        first: Duration::from_millis(2),
        gap: Duration::from_millis(2),
        ..TruthConfig::default()
    };
    let load = format!(
        "{{ stages: [{{ name: steady, rate: {rate}/s, for: {}ms }}] }}",
        step.as_millis()
    );
    let seen = drive(&server, &load, 1)?;
    let lag = |record: &RequestRecord| {
        let dispatched = record.dispatched?;
        Some(
            (dispatched
                .since(record.intended)
                .saturating_sub(record.cap_wait))
            .as_secs_f64()
                * 1e3,
        )
    };
    let mut lags: Vec<f64> = seen.records.iter().filter_map(lag).collect();
    if lags.is_empty() {
        return Err(SelfTestError::Step(format!("nothing was sent at {rate}/s")));
    }
    Ok(SendStep {
        rate: f64::from(rate),
        achieved: lags.len() as f64 / step.as_secs_f64(),
        lag_p50_ms: percentile(&mut lags, P50),
        lag_p99_ms: percentile(&mut lags, P99),
        cpu: seen.cpu,
    })
}

/// CPU time of an event in the floor client on so many streams, microseconds.
pub(super) fn floor(streams: u32, step: Duration) -> Result<f64, SelfTestError> {
    let server = truth::start(&TruthConfig::default())?;
    let load = FloorLoad {
        address: server.addr(),
        streams: streams as usize,
        requests: (step.as_secs_f64() / 1.05).ceil() as usize,
        events: EVENTS as usize,
    };
    let thread = std::thread::Builder::new()
        .name("floor".to_owned())
        .spawn(move || {
            let before = cpu_time();
            let seen = floor::run(&load)?;
            Ok::<_, std::io::Error>((cpu_time().saturating_sub(before), seen.events))
        })?;
    let (cpu, events) = thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    server.stop()?;
    Ok(cpu.as_secs_f64() * 1e6 / (events as f64).max(1.0))
}

fn drive(config: &TruthConfig, load: &str, tokens: u32) -> Result<Seen, SelfTestError> {
    let server = truth::start(config)?;
    let text = format!(
        "version: 1
name: selftest
backends: {{ truth: {{ url: \"{}\", kind: openai }} }}
models: {{ truth: truth }}
prompts: {{ hello: {{ source: inline, prompts: [Hello], max_tokens: {tokens} }} }}
load: {{ step: {load} }}
run: {{ warmup: 0s, drain: 5s }}
",
        server.base_url()
    );
    let mut sources = Sources::default();
    let (scenario, wrong) = spec::parse_with(&mut sources, Path::new("selftest.yaml"), &text, &[]);
    let scenario = scenario.ok_or_else(|| SelfTestError::Step(format!("{wrong:?}")))?;
    let (plan, _) = plan(&scenario, &sources, &PlanOptions::default())
        .map_err(|wrong| SelfTestError::Step(format!("{wrong:?}")))?;
    let cell = &plan.cells[0];
    let dialect = Dialect {
        api: cell.backend.api,
        kind: cell.backend.kind,
    };
    let clock = Clock::start();
    let (told, _) = channel();
    let began = clock.now();
    let done = execute(&SegmentRequest {
        cell,
        index: RUN.cell,
        segment: 0,
        seed: plan.seed,
        repeat: RUN.repeat,
        workers: 1,
        clock,
        target: Arc::new(HttpTarget {
            endpoint: endpoint(server.addr()),
            headers: hyper::HeaderMap::new(),
            dialect,
            timeouts: cell.request.timeouts,
            offline: None,
        }),
        template: Arc::new(BodyTemplate::new(dialect, "truth", &cell.request)),
        pulse: Arc::default(),
        tally: Arc::new(Tally::default()),
        stop: Arc::new(StopSignal::new()),
        told,
    })?;
    let wall = clock.now().since(began);
    let log = server.stop()?;
    Ok(Seen {
        records: done.records,
        read_lag: done.facts.read_lag_ns,
        shared: done.facts.shared_events,
        events: done.facts.output_events,
        cpu: done.worker_cpu.first().copied().unwrap_or(0.0),
        wall,
        log: log
            .into_iter()
            .map(|entry| (entry.id.clone(), entry))
            .collect(),
    })
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: address.port(),
        prefix: "/v1".to_owned(),
        addresses: vec![address],
        tls: None,
        proxy: None,
    }
}

fn failures(records: &[RequestRecord]) -> String {
    match records.iter().find(|record| record.outcome != Outcome::Ok) {
        Some(record) => format!("{:?}", record.outcome),
        None => "nothing was sent".to_owned(),
    }
}

/// What the steps say of the machine.
#[derive(Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) exact: Vec<(f64, Option<Reach>)>,
    pub(super) sends_per_second: Option<f64>,
    pub(super) capacity: Capacity,
}

pub(super) fn conclude(streams: &[StreamStep], sends: &[SendStep]) -> Measured {
    let exact = BOUNDS_MS.map(|bound| {
        // Steps beyond the first that fails do not count, though one may pass by chance.
        let good = streams
            .iter()
            .take_while(|step| step.ttft_error_p99_ms <= bound);
        let reach = good.last().map(|step| Reach {
            streams: step.streams,
            events_per_second: step.events_per_second,
            at_least: streams.last() == Some(step),
        });
        (bound, reach)
    });
    let good = sends.iter().take_while(|step| step.lag_p99_ms <= LAG_MS);
    let sends_per_second = good.last().map(|step| step.rate);
    // The cost of an event falls with their number, so the largest step says what a full core could take.
    let full = streams
        .iter()
        .rfind(|step| step.server_late_p99_ms <= SERVER_LATE_MS)
        .or(streams.last());
    let standard = Capacity::default();
    Measured {
        exact: exact.into(),
        sends_per_second,
        capacity: Capacity {
            events_per_second: full.map_or(standard.events_per_second, |step| {
                step.events_per_second / step.cpu.max(0.01)
            }),
            sends_per_second: sends_per_second.unwrap_or(standard.sends_per_second),
        },
    }
}

/// A percentile of values in any order; 0 of none.
fn percentile(values: &mut [f64], percentile: Option<Percentile>) -> f64 {
    values.sort_by(f64::total_cmp);
    match percentile {
        Some(percentile) if !values.is_empty() => nearest_rank(values, percentile),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(streams: u32, error: f64, cpu: f64) -> StreamStep {
        StreamStep {
            streams,
            events_per_second: f64::from(streams) * STREAM_RATE,
            ttft_error_p50_ms: 0.0,
            ttft_error_p99_ms: error,
            read_lag_p99_ms: 0.0,
            shared: 0.0,
            cpu,
            cpu_per_event_us: 10.0,
            server_late_p99_ms: 0.0,
        }
    }

    #[test]
    fn the_last_step_before_the_first_that_fails_is_the_reach() {
        let steps = [
            step(100, 0.02, 0.1),
            step(500, 0.3, 0.2),
            step(1000, 0.09, 0.4),
            step(2000, 9.0, 0.5),
        ];
        let sends =
            [(500.0, 0.2), (1000.0, 3.0), (2000.0, 0.5)].map(|(rate, lag_p99_ms)| SendStep {
                rate,
                achieved: rate,
                lag_p50_ms: 0.0,
                lag_p99_ms,
                cpu: 0.1,
            });
        let Measured {
            exact,
            sends_per_second,
            capacity,
        } = conclude(&steps, &sends);
        let streams = exact
            .iter()
            .map(|(_, reach)| reach.map(|reach| (reach.streams, reach.at_least)));
        assert_eq!(
            streams.collect::<Vec<_>>(),
            [Some((100, false)), Some((1000, false)), Some((1000, false))]
        );
        assert_eq!(sends_per_second, Some(500.0));
        assert_eq!(
            capacity,
            Capacity {
                events_per_second: 80_000.0,
                sends_per_second: 500.0
            }
        );
    }

    #[test]
    fn streams_that_were_exact_to_the_last_step_may_be_more() {
        let Measured { exact, .. } = conclude(&[step(100, 0.02, 0.1)], &[]);
        assert!(exact[0].1.is_some_and(|reach| reach.at_least));
        let Measured {
            exact,
            sends_per_second,
            ..
        } = conclude(&[step(100, 7.0, 0.1)], &[]);
        assert_eq!((exact[2].1, sends_per_second), (None, None));
    }

    #[test]
    fn a_step_holds_the_client_against_the_log() {
        let seen = streams(20, Duration::from_millis(1200)).unwrap();
        assert!(
            seen.streams == 20 && seen.events_per_second > 20.0 && seen.cpu > 0.0,
            "{seen:?}"
        );
        let sent = sends(50, Duration::from_millis(400)).unwrap();
        assert!(sent.achieved > 10.0, "{sent:?}");
        assert!(floor(5, Duration::from_millis(900)).unwrap() > 0.0);
    }
}
