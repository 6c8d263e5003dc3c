//! One cell of a million answered requests with fifty output events each, judged and reported: `cargo bench --bench verdict`.
//! An argument is the number of requests: `cargo bench --bench verdict -- 100000`.

#![expect(
    clippy::print_stdout,
    reason = "a table on the terminal is what it is for"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scenario::diagnostic::Sources;
use scenario::observation::{
    CellResult, EventRecorder, Observations, Outcome, Phase, RequestRecord, Series, StageTimes,
    TokenSource, Tokens,
};
use scenario::plan::{self, Plan, PlanOptions};
use scenario::report::model::{Environment, Host};
use scenario::report::requests::{Names, rows};
use scenario::report::{FILES, Inputs, RunEnding, View, build, charts, csv, html};
use scenario::spec;
use scenario::units::Moment;
use scenario::verdict::{self, Judged};

const REQUESTS: u64 = 1_000_000;
const EVENTS: u64 = 50;
/// A page has fewer bytes, however many requests it is about.
const PAGE: usize = 15_000_000;
const CATEGORIES: [&str; 8] = [
    "code", "mail", "math", "news", "poem", "quiz", "rest", "talk",
];

fn main() {
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    let requests: u64 = asked.unwrap_or(REQUESTS);
    let (plan, sources) = plan(requests);
    let began = Instant::now();
    let mut table = Table::new();
    let run = [table.row("synthetic requests", || {
        CellResult::Measured(Arc::new(observations(requests)))
    })];
    let CellResult::Measured(seen) = &run[0] else {
        unreachable!("it was measured")
    };
    table.total = 0.0;
    let measurements = table.row("measure the stages", || {
        verdict::stages(&plan.cells[0], seen)
    });
    let (verdicts, searches) = table.row("judge", || {
        verdict::judge_more(&plan, &run, &mut Judged::default())
    });
    let environment = environment();
    let report = table.row("build the report", || {
        build(&Inputs {
            plan: &plan,
            sources: &sources,
            verdicts: &verdicts,
            searches: &searches,
            measurements: &measurements,
            runs: &run,
            environment: &environment,
            ending: RunEnding::default(),
            started: "2026-01-01T00:00:00Z",
            duration: began.elapsed(),
            command: &[],
            tool: "bench",
        })
    });
    for (name, render) in FILES {
        table.row(name, || render(&report, &View::default()));
    }
    let drawn = table.row("what charts are drawn from", || {
        charts::charts(&report, std::iter::once(&**seen))
    });
    let page = table.row("report.html", || html::render(&report, &drawn));
    table.row("requests.csv", || {
        let names = Names::of(&plan);
        csv::requests(rows(&names, seen), std::io::sink()).expect("a sink takes everything")
    });
    table.end(requests, &verdicts);
    println!("report.html has {:.2} MB", page.len() as f64 / 1e6);
    assert!(page.len() < PAGE, "it is too large to send and open");
}

fn plan(requests: u64) -> (Plan, Sources) {
    let prompts: String = CATEGORIES
        .iter()
        .map(|category| format!("{{ prompt: Hello, category: {category} }}, "))
        .collect();
    let text = format!(
        "version: 1
backends: {{ engine: {{ kind: simulator }} }}
prompts: {{ mix: {{ source: inline, prompts: [{prompts}] }} }}
load: {{ steady: {{ stages: [{{ name: steady, rate: 1000/s, for: {}s }}] }} }}
run: {{ warmup: 0s }}
goodput: {{ ttft: 500ms, tpot: 50ms }}
slos:
  first-token: {{ assert: P95 TTFT < 500ms, split: [category] }}
  every-minute: {{ assert: P99 TTFT < 1s, window: 60s }}
  whole: P99.9 E2E < 60s
  token: P99 TPOT < 50ms
  stutter: P99 chunk gap < 1s
  gap: P95 ITL < 100ms
  errors: error rate < 2%
  good: goodput ratio > 90%
  flow: output throughput > 10 tok/s
  slowest-second: min output throughput > 1 tok/s
  busy: P95 concurrency < 100000
",
        requests.div_ceil(1000)
    );
    let mut sources = Sources::default();
    let (scenario, wrong) = spec::parse_with(&mut sources, Path::new("bench.yaml"), &text, &[]);
    let scenario = scenario.unwrap_or_else(|| panic!("{wrong:?}"));
    let (plan, _) = plan::plan(&scenario, &sources, &PlanOptions::default())
        .unwrap_or_else(|wrong| panic!("{wrong:?}"));
    (plan, sources)
}

fn observations(requests: u64) -> Observations {
    let mut recorder = EventRecorder::default();
    let prompt: std::sync::Arc<str> = "p".into();
    let stop: std::sync::Arc<str> = "stop".into();
    let categories = CATEGORIES.map(std::sync::Arc::<str>::from);
    let end = Moment::from_ms(requests.div_ceil(1000) * 1000);
    let records = (0..requests)
        .map(|index| {
            // Numbers that look like no pattern, the same in every run.
            let random = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let us = |us: u64| Moment::from_ns((index * 1000 + us) * 1000);
            let first = 50_000 + random % 400_000;
            let gap = 8_000 + random % 9_000;
            for event in 0..EVENTS {
                recorder.push(us(first + event * (gap + event % 7)), 1, false);
            }
            let last = us(first + (EVENTS - 1) * (gap + (EVENTS - 1) % 7));
            RequestRecord {
                index,
                stage: 0,
                measured: true,
                prompt: prompt.clone(),
                category: Some(categories[(index % 8) as usize].clone()),
                adapter: None,
                turn: 1,
                home: 0,
                user: None,
                intended: us(0),
                cap_wait: Duration::ZERO,
                dispatched: Some(us(20 + random % 50)),
                connect: None,
                written: Some(us(100)),
                headers: Some(us(2_000)),
                first_event: Some(us(first)),
                first_token: Some(us(first)),
                first_token_shared: false,
                first_content: Some(us(first)),
                last_token: Some(last),
                finished: last,
                events: recorder.take(),
                outcome: match index % 1000 {
                    999 => Outcome::TimedOut(Phase::Total),
                    _ => Outcome::Ok,
                },
                status: Some(200),
                finish_reason: Some(stop.clone()),
                tokens: Tokens {
                    input: Some(200 + (random % 1000) as u32),
                    output: Some(EVENTS as u32),
                    cached: Some(0),
                    reasoning: None,
                    source: TokenSource::Usage,
                    per_event_known: true,
                },
                bytes: 9_000,
                reused: true,
                reconnected: false,
                valid: None,
            }
        })
        .collect();
    Observations {
        stages: vec![StageTimes {
            stage: 0,
            began: Moment::ZERO,
            ended: end,
            steady: Some((Moment::ZERO, end)),
            busiest: None,
        }],
        records,
        telemetry: [
            "gpu.util",
            "gpu.power",
            "gpu.energy",
            "kv_cache",
            "client.rss",
        ]
        .iter()
        .map(|metric| Series {
            metric: (*metric).into(),
            device: metric.starts_with("gpu.").then_some(0),
            samples: (0..=end.ns() / 250_000_000)
                .map(|sample| (Moment::from_ms(sample * 250), sample as f64))
                .collect(),
        })
        .collect(),
        ..Observations::default()
    }
}

fn environment() -> Environment {
    Environment {
        host: Host {
            name: None,
            os: "linux".to_owned(),
            kernel: None,
            cpu: None,
            cores: Some(1),
            memory_bytes: None,
            clocksource: None,
        },
        gpus: Vec::new(),
        engines: Vec::new(),
        git: None,
    }
}

/// Seconds of each step, and the most memory that the process had by its end.
struct Table {
    total: f64,
}

impl Table {
    fn new() -> Table {
        println!("{:<22} {:>8} {:>14}", "step", "seconds", "peak memory");
        Table { total: 0.0 }
    }

    fn row<T>(&mut self, name: &str, step: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = step();
        let seconds = began.elapsed().as_secs_f64();
        self.total += seconds;
        println!("{name:<22} {seconds:>8.2} {:>10} MiB", peak_mib());
        done
    }

    fn end(&self, requests: u64, verdicts: &[verdict::Verdict]) {
        println!("{:<22} {:>8.2}", "judged and reported", self.total);
        println!(
            "{requests} requests of {} bytes each besides their events, {} verdicts",
            size_of::<RequestRecord>(),
            verdicts.len()
        );
    }
}

/// The largest resident size of this process so far; 0 where the system does not tell it.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
