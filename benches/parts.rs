//! The small parts of the measuring path by themselves: `cargo bench --bench parts`.
//!
//! Times are for one event where a bench says `events`, else for one call.

use std::path::Path;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use scenario::assertion::Percentile;
use scenario::diagnostic::Sources;
use scenario::engine::dialect::Shape;
use scenario::engine::dialect::event::read_in_full;
use scenario::engine::dialect::glance::glance;
use scenario::load::pacer::{Pace, SharedPace};
use scenario::plan::{PlanOptions, plan};
use scenario::spec;
use scenario::units::Moment;
use scenario::verdict::statistics::nearest_rank;
use scenario::wire::framing::{Chunks, Framing};
use scenario::wire::sse::SseParser;

/// Events of a read that found many.
const EVENTS: usize = 100;

fn main() {
    divan::main();
}

/// An event as vLLM writes it, with the counts of continuous usage.
fn event(number: usize) -> String {
    format!(
        r#"{{"id":"chatcmpl-4f1c2","object":"chat.completion.chunk","created":1795300845,"model":"m","choices":[{{"index":0,"delta":{{"content":" word{number}"}},"logprobs":null,"finish_reason":null,"token_ids":null}}],"usage":{{"prompt_tokens":25,"total_tokens":{},"completion_tokens":{number}}}}}"#,
        25 + number
    )
}

fn events() -> Vec<String> {
    (1..=EVENTS).map(event).collect()
}

fn stream() -> Vec<u8> {
    events()
        .iter()
        .flat_map(|event| format!("data: {event}\n\n").into_bytes())
        .collect()
}

#[divan::bench]
fn sse_events(bencher: Bencher<'_, '_>) {
    let stream = stream();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut bytes = 0;
        let fed = SseParser::default().feed(black_box(&stream), |data| bytes += data.len());
        (fed, bytes)
    });
}

#[divan::bench]
fn chunk_framing_events(bencher: Bencher<'_, '_>) {
    let stream: Vec<u8> = events()
        .iter()
        .flat_map(|event| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8).into_bytes())
        .collect();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut bytes = 0;
        let taken = Framing::Chunked(Chunks::default())
            .decode(black_box(&stream), |data| bytes += data.len());
        (taken, bytes)
    });
}

#[divan::bench]
fn classify_by_shape_events(bencher: Bencher<'_, '_>) {
    let events = events();
    let mut shape = Shape::default();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        events
            .iter()
            .filter(|event| {
                shape
                    .read(black_box(event.as_bytes()))
                    .is_ok_and(|told| told.output)
            })
            .count()
    });
}

#[divan::bench]
fn classify_at_a_glance_events(bencher: Bencher<'_, '_>) {
    let events = events();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        events
            .iter()
            .filter(|event| glance(black_box(event.as_bytes())).is_some())
            .count()
    });
}

#[divan::bench]
fn classify_in_full_events(bencher: Bencher<'_, '_>) {
    let events = events();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        events
            .iter()
            .filter(|event| read_in_full(black_box(event.as_bytes())).is_ok())
            .count()
    });
}

/// A thousand sends of a Poisson stream, each asked for when it is due.
#[divan::bench]
fn pacer_sends(bencher: Bencher<'_, '_>) {
    let text = "version: 1
backends: { engine: http://127.0.0.1:9 }
models: { m: m }
load: { l: { stages: [{ name: steady, rate: 1000/s, for: 1s }] } }
run: { warmup: 0s }
";
    let mut sources = Sources::default();
    let (scenario, wrong) = spec::parse_with(&mut sources, Path::new("bench.yaml"), text, &[]);
    let scenario = scenario.unwrap_or_else(|| panic!("{wrong:?}"));
    let (plan, _) = plan(&scenario, &sources, &PlanOptions::default())
        .unwrap_or_else(|wrong| panic!("{wrong:?}"));
    bencher.bench_local(|| {
        let shared = SharedPace::new(&plan.cells[0], 0, 1, 0, Moment::ZERO, 1);
        let mut pacer = shared.pacer(0);
        let mut now = Moment::ZERO;
        let mut sent = 0;
        loop {
            match pacer.next(now, 0) {
                Pace::Send(order) => {
                    pacer.completed(&order, now);
                    sent += 1;
                }
                Pace::WaitUntil(moment) => now = moment,
                Pace::Drop(_)
                | Pace::Cancel(_)
                | Pace::CancelRest
                | Pace::WaitForSlot
                | Pace::Done => break sent,
            }
        }
    });
}

#[divan::bench(args = [1_000, 1_000_000])]
fn percentile_of_sorted(bencher: Bencher<'_, '_>, n: usize) {
    let values: Vec<f64> = (0..n).map(|value| value as f64).collect();
    let p99 = Percentile::new(99_000).expect("a percentile");
    bencher.bench_local(|| nearest_rank(black_box(&values), p99));
}
