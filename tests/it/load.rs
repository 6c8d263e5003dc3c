//! The loop of the load threads against a server that never answers.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use scenario::clock::Clock;
use scenario::diagnostic::Sources;
use scenario::engine::{BodyTemplate, Dialect, HttpTarget};
use scenario::load::{SegmentRequest, SegmentResult, StopSignal, Tally, execute};
use scenario::observation::Outcome;
use scenario::plan::{Cell, PlanOptions, plan};
use scenario::spec;
use scenario::wire::Endpoint;

/// Runs the first segment of this load on two threads.
fn run(load: &str) -> (SegmentResult, Cell) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "version: 1
backends: {{ vllm: http://{}/v1 }}
models: {{ m: m }}
load: {{ l: {load} }}
run: {{ drain: 300ms, warmup: 0s }}
",
        listener.local_addr().unwrap()
    );
    let mut sources = Sources::default();
    let (scenario, wrong) = spec::parse_with(&mut sources, Path::new("load.yaml"), &text, &[]);
    let scenario = scenario.unwrap_or_else(|| panic!("{wrong:?}"));
    let (plan, _) = plan(&scenario, &sources, &PlanOptions::default()).unwrap();
    let cell = plan.cells[0].clone();
    let url = cell.backend.url.clone().unwrap();
    let endpoint = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(Endpoint::resolve(&url, || unreachable!()))
        .unwrap();
    let dialect = Dialect {
        api: cell.backend.api,
        kind: cell.backend.kind,
    };
    let (told, _heard) = channel();
    let result = execute(&SegmentRequest {
        index: 0,
        pulse: Arc::default(),
        cell: &cell,
        segment: 0,
        seed: 1,
        repeat: 0,
        workers: 2,
        clock: Clock::start(),
        target: Arc::new(HttpTarget {
            endpoint,
            headers: HeaderMap::new(),
            dialect,
            timeouts: cell.request.timeouts,
            offline: None,
        }),
        template: Arc::new(BodyTemplate::new(dialect, "m", &cell.request)),
        tally: Arc::new(Tally::default()),
        stop: Arc::new(StopSignal::new()),
        told,
    })
    .unwrap();
    (result, cell)
}

#[test]
fn arrivals_held_by_the_cap_are_unsent_when_the_drain_ends() {
    let began = Instant::now();
    let (result, _) = run(
        "{ process: uniform, max_in_flight: 2, stages: [{ name: s, rate: 50/s, for: 400ms }] }",
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    let cut = |outcome: &Outcome| *outcome == Outcome::Cut;
    assert_eq!(result.records.len(), 2);
    assert!(result.records.iter().all(|record| cut(&record.outcome)));
    assert_eq!(result.unsent, [(0, 18)]);
    let times = result.stages[0];
    assert_eq!(times.ended.since(times.began), Duration::from_millis(400));
}

#[test]
fn a_stage_whose_requests_are_over_lasts_its_time() {
    let (result, _) = run(
        "{ process: uniform, stages: [{ name: s, rate: 10/s, for: 200ms }, { name: quiet, rate: 0/s, for: 300ms }] }",
    );
    let lengths: Vec<Duration> = result
        .stages
        .iter()
        .map(|times| times.ended.since(times.began))
        .collect();
    assert_eq!(lengths, [200, 300].map(Duration::from_millis));
    assert_eq!(result.records.len(), 2);
}
