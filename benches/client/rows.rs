//! Each row of the table: how it is measured.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::clients::{self, Streams, Used, closed};
use super::peers;
use super::server::{SCENARIO, Server};
use super::table::{Goal, head, median, quantile, row};
use scenario::selftest::truth::TruthEntry;

/// The bench: where its files lie and how long it takes.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    quick: bool,
    peers: bool,
}

type Row = (&'static str, fn(&Bench));
const ROWS: [Row; 9] = [
    ("paced", paced),
    ("unpaced", unpaced),
    ("error", errors),
    ("lag", send_lag),
    ("watched", watched),
    ("memory", memory),
    ("start", start_up),
    ("verdict", million),
    ("soak", soak),
];
impl Bench {
    /// Rounds and durations for a report, or `quick` ones for a look.
    pub(crate) fn new(quick: bool, peers: bool) -> Bench {
        Bench {
            folder: tempfile::tempdir().expect("a folder"),
            quick,
            peers,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    /// Runs the rows that are named, or all of them.
    pub(crate) fn run(&self, asked: &[&str]) -> ExitCode {
        if let Some(unknown) = asked
            .iter()
            .find(|name| ROWS.iter().all(|(row, _)| row != *name))
        {
            println!("no row is called `{unknown}`");
            return ExitCode::FAILURE;
        }
        head();
        for (name, measure) in ROWS {
            if asked.is_empty() || asked.contains(&name) {
                measure(self);
            }
        }
        if self.peers {
            peers::rows(self.path());
        }
        ExitCode::SUCCESS
    }
}

/// CPU time of the events by which a long run exceeds a short one, in microseconds each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerEvent {
    pub(crate) all: f64,
    pub(crate) user: f64,
}

impl PerEvent {
    /// From what two runs used that differ by so many events.
    pub(crate) fn of(short: Used, long: Used, events: f64) -> PerEvent {
        PerEvent {
            all: (long.user + long.system - short.user - short.system) * 1e6 / events,
            user: (long.user - short.user) * 1e6 / events,
        }
    }
}

/// The same load with few and with many events per answer, so that requests and start-up cancel.
fn per_event(short: Streams, long: Streams, run: impl Fn(Streams) -> Used) -> PerEvent {
    PerEvent::of(
        run(short),
        run(long),
        long.all_events() - short.all_events(),
    )
}

fn paced(bench: &Bench) {
    let mut at_100 = None;
    for streams in [100, 1000, 5000] {
        let with = |events| Streams {
            streams,
            requests: 3,
            events,
        };
        let (short, long) = (with(20), with(if bench.quick { 80 } else { 140 }));
        let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds() {
            let server = Server::start(bench.path(), 50, 50, true);
            let floor = per_event(short, long, |load| clients::floor(&server.address, load));
            let own = per_event(short, long, |load| {
                clients::scenario(
                    bench.path(),
                    &server.address,
                    &closed(load),
                    load.events,
                    &[],
                )
                .0
            });
            server.stop();
            ratios.push(own.all / floor.all);
            ours.push(own);
            floors.push(floor);
        }
        let middle = |values: &[PerEvent], part: fn(&PerEvent) -> f64| {
            median(values.iter().map(part).collect())
        };
        let all = middle(&ours, |cost| cost.all);
        let name = |what: &str| format!("paced, {streams} streams: {what}");
        row(
            &name("floor, CPU per event"),
            middle(&floors, |cost| cost.all),
            "µs",
            Goal::None,
        );
        row(
            &name("floor, its user part"),
            middle(&floors, |cost| cost.user),
            "µs",
            Goal::None,
        );
        row(&name("CPU per event"), all, "µs", Goal::None);
        row(
            &name("its user part"),
            middle(&ours, |cost| cost.user),
            "µs",
            Goal::Most(3.0),
        );
        row(
            &name("multiple of the floor"),
            median(ratios),
            "",
            Goal::Most(1.1),
        );
        let first = *at_100.get_or_insert(all);
        if streams == 5000 {
            row(
                &name("against the cost at 100"),
                all / first,
                "",
                Goal::Most(1.1),
            );
        }
    }
}

fn unpaced(bench: &Bench) {
    let with = |requests| Streams {
        streams: 8,
        requests,
        events: 1000,
    };
    let (short, long) = (with(20), with(if bench.quick { 220 } else { 420 }));
    let (mut ours, mut floors, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let server = Server::start(bench.path(), 0, 0, false);
        floors.push(per_event(short, long, |load| clients::floor(&server.address, load)).all);
        let run = |load: Streams| {
            clients::scenario(
                bench.path(),
                &server.address,
                &closed(load),
                load.events,
                &[],
            )
            .0
        };
        let (few, many) = (run(short), run(long));
        let events = long.all_events() - short.all_events();
        ours.push(PerEvent::of(few, many, events).all);
        speeds.push(events / (many.wall - few.wall) / 1e6);
        server.stop();
    }
    row(
        "unpaced: floor, CPU per event",
        median(floors),
        "µs",
        Goal::None,
    );
    row(
        "unpaced: CPU per event",
        median(ours),
        "µs",
        Goal::Most(0.45),
    );
    row(
        "unpaced: million events per second",
        median(speeds),
        "M/s",
        Goal::Least(2.0),
    );
}

/// What the client says of a request, less what the server's log says of it, in milliseconds.
#[derive(Debug, Default)]
struct Errors {
    ttft: Vec<f64>,
    e2e: Vec<f64>,
    /// Of gaps whose events were read alone.
    gaps: Vec<f64>,
    /// First tokens that were read alone.
    ttft_alone: Vec<f64>,
    /// Output events that shared a read with the one before.
    shared: usize,
    events: usize,
}

fn compare(requests: &[Value], log: &[TruthEntry]) -> Errors {
    let truth: HashMap<&str, &TruthEntry> =
        log.iter().map(|entry| (entry.id.as_str(), entry)).collect();
    let mut errors = Errors::default();
    let whole = |request: &&Value| request["outcome"] == "ok";
    for request in requests.iter().filter(whole) {
        let number = |name: &str| request[name].as_f64();
        let entry = truth[request["request_id"].as_str().expect("an id")];
        let since = |at: u64| (at - entry.arrived) as f64 / 1e6;
        let (Some(ttft), Some(e2e)) = (number("ttft_ms"), number("e2e_ms")) else {
            panic!("{request}")
        };
        let events: Vec<(f64, bool)> = request["events"]
            .as_array()
            .expect("events are recorded")
            .iter()
            .map(|event| (event[0].as_f64().unwrap_or(0.0), event[2] == 1))
            .collect();
        assert_eq!(
            events.len(),
            entry.handed.len(),
            "every event was seen: {request}"
        );
        let error = (ttft - since(entry.handed[0])).abs();
        errors.ttft.push(error);
        if request["first_token_shared"] == false {
            errors.ttft_alone.push(error);
        }
        errors
            .e2e
            .push((e2e - since(*entry.handed.last().expect("an event"))).abs());
        errors.events += events.len();
        for (index, pair) in events.windows(2).enumerate() {
            let sent = (entry.handed[index + 1] - entry.handed[index]) as f64 / 1e6;
            if pair[1].1 {
                errors.shared += 1;
            } else {
                errors.gaps.push((pair[1].0 - pair[0].0 - sent).abs());
            }
        }
    }
    errors
}

fn errors(bench: &Bench) {
    for (streams, most) in [(1000, 0.1), (5000, 0.2)] {
        let seconds = if bench.quick { 4 } else { 12 };
        // Streams that began all at once would all end at once, and both sides would be measured in bursts alone.
        let load = format!(
            "{{ stages: [{{ name: fill, users: 0, to: {streams}, for: 3s, measure: false }}, {{ name: full, for: {seconds}s }}] }}"
        );
        let server = Server::start(bench.path(), 50, 50, true);
        let (used, written) = clients::scenario(
            bench.path(),
            &server.address,
            &load,
            20,
            &["--record-events"],
        );
        let mut errors = compare(&written.requests(), &server.stop());
        let name = |what: &str| format!("{streams} streams: {what}");
        let report = written.report();
        let client = &report["cells"][0]["runs"][0]["client"];
        row(
            &name("share of its core that the client used"),
            (used.user + used.system) / used.wall,
            "",
            Goal::None,
        );
        let lag = client["read_lag_ms"]["p99"].as_f64().expect("a lag");
        row(&name("read lag p99, for comparison"), lag, "ms", Goal::None);
        row(
            &name("error of TTFT, p50"),
            quantile(&mut errors.ttft, 0.5),
            "ms",
            Goal::Most(0.02),
        );
        row(
            &name("error of TTFT, p99"),
            quantile(&mut errors.ttft, 0.99),
            "ms",
            Goal::Most(most),
        );
        row(
            &name("error of TTFT, p99, first tokens read alone"),
            quantile(&mut errors.ttft_alone, 0.99),
            "ms",
            Goal::None,
        );
        row(
            &name("error of E2E, p99"),
            quantile(&mut errors.e2e, 0.99),
            "ms",
            Goal::Most(0.2),
        );
        row(
            &name("error of each gap read alone, p99"),
            quantile(&mut errors.gaps, 0.99),
            "ms",
            Goal::Most(0.2),
        );
        row(
            &name("events that shared a read"),
            100.0 * errors.shared as f64 / errors.events as f64,
            "%",
            Goal::None,
        );
    }
}

fn send_lag(bench: &Bench) {
    for rate in [500, 2000] {
        let seconds = if bench.quick { 4 } else { 15 };
        let name = |what: &str| format!("{rate} req/s: {what}");
        let exe = std::env::current_exe()
            .expect("this bench")
            .display()
            .to_string();
        let command = [
            exe,
            "timer".to_owned(),
            rate.to_string(),
            (rate * seconds).to_string(),
        ];
        let mut bare: Vec<f64> =
            serde_json::from_str(clients::run(&command).1.trim()).expect("numbers");
        let server = Server::start(bench.path(), 5, 5, true);
        let load = format!("{{ stages: [{{ name: steady, rate: {rate}/s, for: {seconds}s }}] }}");
        let (_, written) = clients::scenario(bench.path(), &server.address, &load, 2, &[]);
        server.stop();
        let mut lags: Vec<f64> = written
            .requests()
            .iter()
            .filter_map(|request| {
                Some((request["dispatched_ms"].as_f64()? - request["intended_ms"].as_f64()?) * 1e3)
            })
            .collect();
        row(
            &name("bare timer's lag, p50"),
            quantile(&mut bare, 0.5),
            "µs",
            Goal::None,
        );
        let bare_p99 = quantile(&mut bare, 0.99);
        row(&name("bare timer's lag, p99"), bare_p99, "µs", Goal::None);
        row(
            &name("send lag, p50"),
            quantile(&mut lags, 0.5),
            "µs",
            Goal::Most(100.0),
        );
        row(
            &name("send lag, p99"),
            quantile(&mut lags, 0.99),
            "µs",
            Goal::Most(bare_p99),
        );
    }
}

fn watched(bench: &Bench) {
    let (rounds, seconds) = if bench.quick { (3, 8) } else { (7, 15) };
    super::watched::rows(bench.path(), rounds, seconds);
}

fn memory(bench: &Bench) {
    let server = Server::start(bench.path(), 500, 1000, true);
    let used = |streams| {
        let load = Streams {
            streams,
            requests: 1,
            events: 5,
        };
        clients::scenario(
            bench.path(),
            &server.address,
            &closed(load),
            load.events,
            &[],
        )
        .0
        .memory
    };
    let (thousand, ten_thousand) = (used(1000), used(10_000));
    server.stop();
    row(
        "memory at 1 000 open streams",
        thousand,
        "MiB",
        Goal::Most(30.0),
    );
    row(
        "each further stream",
        (ten_thousand - thousand) * 1024.0 / 9000.0,
        "KiB",
        Goal::Most(12.0),
    );
    row(
        "memory at 10 000 open streams",
        ten_thousand,
        "MiB",
        Goal::Most(180.0),
    );
}

fn start_up(bench: &Bench) {
    let time = |arguments: &[&str]| {
        let times = (0..if bench.quick { 10 } else { 50 }).map(|_| {
            let began = Instant::now();
            let status = Command::new(SCENARIO)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
            began.elapsed().as_secs_f64() * 1e3
        });
        median(times.collect())
    };
    let file = bench.path().join("long.yaml");
    std::fs::write(&file, long_file()).expect("a folder of ours");
    row(
        "start-up (`scenario --version`)",
        time(&["--version"]),
        "ms",
        Goal::Most(5.0),
    );
    row(
        "`check` of a file of 200 lines",
        time(&["check", &file.display().to_string()]),
        "ms",
        Goal::Most(15.0),
    );
}

/// A scenario of 200 lines as a team might have it: four engines, a load of many stages, a page of SLOs.
fn long_file() -> String {
    let mut text = String::from("version: 1\nname: long\nbackends:\n");
    for number in 0..4 {
        let port = 9000 + number;
        text += &format!("  engine{number}:\n    url: http://127.0.0.1:{port}\n    kind: vllm\n");
    }
    text += "models: { llama: meta-llama/Llama-3.1-8B-Instruct }\n";
    text +=
        "prompts: { hello: { source: inline, prompts: [Hello] } }\nload:\n  day:\n    stages:\n";
    for number in 0..40 {
        let rate = number + 1;
        text += &format!("      - name: step{number}\n        rate: {rate}/s\n        for: 60s\n");
    }
    text += "slos:\n";
    for number in 0..20 {
        let bound = 500 + number;
        text += &format!("  slo{number}:\n    assert: P95 TTFT < {bound}ms\n    level: warn\n");
    }
    assert_eq!(text.lines().count(), 201);
    text
}

fn million(_: &Bench) {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["bench", "--bench", "verdict"])
        .output()
        .expect("cargo can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds = text.lines().find_map(|line| {
        line.strip_prefix("judged and reported")?
            .trim()
            .parse()
            .ok()
    });
    let memory = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_suffix(" MiB")?
                .rsplit(' ')
                .next()?
                .parse()
                .ok()
        })
        .fold(0.0, f64::max);
    row(
        "a million requests, judged and reported",
        seconds.unwrap_or(f64::NAN),
        "s",
        Goal::Most(10.0),
    );
    row(
        "a million requests, most memory",
        memory,
        "MiB",
        Goal::Most(1024.0),
    );
}

fn soak(bench: &Bench) {
    let seconds = if bench.quick { 60 } else { 600 };
    let server = Server::start(bench.path(), 500, 2000, true);
    let load =
        format!("{{ levels: {{ users: 10000, for: {seconds}s, warmup: 0s, allow_short: true }} }}");
    let (used, written) = clients::scenario(
        bench.path(),
        &server.address,
        &load,
        10,
        &["--record-events"],
    );
    let log = server.stop();
    let requests = written.requests();
    let seen: HashMap<&str, usize> = requests
        .iter()
        .map(|request| {
            (
                request["request_id"].as_str().unwrap_or(""),
                request["events"].as_array().map_or(0, Vec::len),
            )
        })
        .collect();
    let lost = log
        .iter()
        .filter(|entry| !seen.contains_key(entry.id.as_str()))
        .count();
    let dropped: usize = log
        .iter()
        .filter(|entry| entry.whole)
        .filter_map(|entry| {
            Some(
                entry
                    .handed
                    .len()
                    .saturating_sub(*seen.get(entry.id.as_str())?),
            )
        })
        .sum();
    row("10 000 streams: seconds", used.wall, "s", Goal::None);
    row(
        "10 000 streams: requests of the server's log",
        log.len() as f64,
        "",
        Goal::None,
    );
    row(
        "10 000 streams: of them without a record",
        lost as f64,
        "",
        Goal::Most(0.0),
    );
    row(
        "10 000 streams: events of whole answers not seen",
        dropped as f64,
        "",
        Goal::Most(0.0),
    );
    row("10 000 streams: memory", used.memory, "MiB", Goal::None);
}
