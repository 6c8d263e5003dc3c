//! What a run makes of engines that misbehave, of being stopped and of being killed: every request is accounted for.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scenario::report::ndjson;
use serde_json::Value;

use crate::tool::{self, Desk, Ended, Mock, numbers, on_the_simulator, verdict};

const OUTCOMES: [&str; 5] = ["ok", "failed", "cut", "dropped", "unsent"];

fn count(numbers: &Value, key: &str) -> u64 {
    numbers[key].as_u64().unwrap_or(0)
}

/// Planned = ok + failed + cut + dropped + unsent in every stage, and the request files hold each of them but the unsent.
#[track_caller]
fn every_request_is_accounted_for(ended: &Ended) {
    let report = ended.report();
    let file = ended.requests();
    assert_eq!(file.footer.map(|footer| footer.lost), Some(0));
    let csv = ended.text("requests.csv");
    for cell in report["cells"].as_array().unwrap() {
        for stage in cell["stages"].as_array().unwrap() {
            let numbers = &stage["numbers"];
            if numbers.is_null() {
                continue;
            }
            let all: u64 = OUTCOMES.iter().map(|key| count(numbers, key)).sum();
            assert_eq!(count(numbers, "planned"), all, "{stage}");
            let here = |row: &&scenario::report::model::RequestRow| {
                row.cell == cell["id"] && row.stage == stage["name"]
            };
            let rows: Vec<_> = file
                .rows
                .iter()
                .filter(here)
                .filter(|row| row.more.measured)
                .collect();
            let with =
                |outcome: &str| rows.iter().filter(|row| row.outcome == outcome).count() as u64;
            assert_eq!(rows.len() as u64, all - count(numbers, "unsent"));
            assert_eq!(with("ok"), count(numbers, "ok"));
            assert_eq!(with("cut"), count(numbers, "cut"));
            assert_eq!(with("dropped"), count(numbers, "dropped"));
            let name = format!(
                "{},0,{},",
                cell["id"].as_str().unwrap(),
                stage["name"].as_str().unwrap()
            );
            let in_csv = csv.lines().filter(|line| line.starts_with(&name)).count();
            assert_eq!(in_csv, rows.len(), "{name}");
        }
    }
}

#[test]
fn a_thousand_users_are_accounted_for_one_by_one() {
    let mock = Mock::start(&["--speed", "4"]);
    let levels = "{ levels: { users: 1000, requests: 3000, warmup: 0s } }";
    let text = tool::scenario(
        &mock.url,
        levels,
        "request: { max_tokens: 2 }\nslos: { errors: error rate < 1% }\n",
    );
    let ended = Desk::new().run(&text, &[]);
    assert!(
        matches!(ended.code, Some(0 | 1)),
        "{}\n{}",
        ended.out,
        ended.err
    );
    every_request_is_accounted_for(&ended);
    let report = ended.report();
    let numbers = numbers(&report, "c1000");
    assert_eq!(count(numbers, "planned"), 3000);
    assert_eq!(count(numbers, "ok"), 3000, "{numbers}");
}

#[test]
fn a_thousand_requests_at_once_are_accounted_for() {
    let mock = Mock::start(&[
        "--fault",
        "error-500:every=10",
        "--fault",
        "truncate:every=7,after=1",
    ]);
    let batch = "{ batch: { size: all, requests: 1000 } }";
    let ended = Desk::new()
        .run(&tool::scenario(&mock.url, batch, ""), &[])
        .with_code(1);
    every_request_is_accounted_for(&ended);
    let report = ended.report();
    let numbers = numbers(&report, "all");
    assert_eq!(count(&numbers["outcomes"], "refused"), 100, "{numbers}");
    // Every seventieth got the error instead.
    assert_eq!(
        count(&numbers["outcomes"], "truncated"),
        142 - 14,
        "{numbers}"
    );
    assert_eq!(verdict(&report, "guard:error_rate @all")["status"], "fail");
}

#[test]
fn each_way_to_misbehave_has_its_outcome() {
    let faults = [
        ("error-500", "refused"),
        ("error-429", "rate_limited"),
        ("error-event:after=1", "error_event"),
        ("truncate:after=1", "truncated"),
        ("stall:after=1", "timed_out"),
        ("empty", "empty"),
        ("malformed:after=1", "malformed"),
        ("reset:after=1", "reset"),
    ];
    for (fault, outcome) in faults {
        let every = if fault.contains(':') {
            ",every=3"
        } else {
            ":every=3"
        };
        let mock = Mock::start(&["--fault", &format!("{fault}{every}")]);
        let levels = "{ levels: { users: 2, requests: 12, warmup: 0s, tail: drain } }";
        let more = "request: { max_tokens: 6, timeouts: { idle: 200ms } }\nslos: { errors: error count == 0 }\n";
        let ended = Desk::new().run(&tool::scenario(&mock.url, levels, more), &[]);
        every_request_is_accounted_for(&ended);
        let report = ended.report();
        let numbers = numbers(&report, "c2");
        let outcomes = &numbers["outcomes"];
        let named: u64 = outcomes
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| name.starts_with(outcome))
            .map(|(_, count)| count.as_u64().unwrap())
            .sum();
        assert_eq!(named, 4, "{fault}: {outcomes}");
        assert_eq!(count(numbers, "failed"), 4, "{fault}: {numbers}");
        assert_eq!(count(numbers, "ok"), 8, "{fault}: {numbers}");
        let expected = if fault == "error-429" { 3 } else { 1 };
        assert_eq!(ended.code, Some(expected), "{fault}\n{}", ended.out);
    }
}

#[test]
fn harmless_ways_to_be_odd_are_no_failures() {
    let faults = [
        "no-usage",
        "role-first",
        "multi-token",
        "crlf",
        "comment-pings",
        "split-writes",
        "slow-headers:ms=20",
        "loading:ms=300",
    ];
    let words: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", fault]).collect();
    let mock = Mock::start(&words);
    let text = tool::scenario(
        &mock.url,
        "{ levels: { users: 2, requests: 12, warmup: 0s } }",
        "slos: { errors: error count == 0 }\n",
    );
    let ended = Desk::new().run(&text, &[]).with_code(0);
    every_request_is_accounted_for(&ended);
}

#[test]
fn a_connection_that_closes_after_its_answer_is_replaced_without_a_failure() {
    let mock = Mock::start(&["--fault", "close-after-response"]);
    let text = tool::scenario(
        &mock.url,
        "{ levels: { users: 2, requests: 20, warmup: 0s } }",
        "slos: { errors: error count == 0 }\n",
    );
    let ended = Desk::new().run(&text, &[]).with_code(0);
    every_request_is_accounted_for(&ended);
    let opened = ended.report()["client"]["connections_opened"]
        .as_u64()
        .unwrap();
    assert!(opened >= 20, "{opened}");
}

#[test]
fn an_engine_that_dies_in_the_run_is_data() {
    let mock = Mock::start(&[]);
    let desk = Desk::new();
    let text = tool::scenario(
        &mock.url,
        "{ levels: { users: 2, requests: 2000, warmup: 0s } }",
        "slos: { errors: error count == 0 }\n",
    );
    let running = desk.start_run(&text, &[], &[]);
    running.until_requests(5);
    drop(mock);
    let ended = running.end().with_code(1);
    every_request_is_accounted_for(&ended);
    let report = ended.report();
    let outcomes = &numbers(&report, "c2")["outcomes"];
    assert!(count(outcomes, "connect_failed") > 0, "{outcomes}");
}

/// A load that outlasts every test, and its first requests seen.
fn long_run(desk: &Desk) -> tool::Running {
    let text = on_the_simulator(
        "{ levels: { users: 4, for: 5m, warmup: 0s } }",
        "slos: { speed: P50 TTFT < 60s }\n",
    );
    let running = desk.start_run(&text, &[], &[]);
    running.until_requests(20);
    running
}

fn interrupted(signal: Signal, code: i32) {
    let desk = Desk::new();
    let running = long_run(&desk);
    running.signal(signal);
    let ended = running.end().with_code(code);
    let report = ended.report();
    assert_eq!(report["status"], "interrupted");
    assert_eq!(report["exit_code"], code);
    assert_eq!(report["cells"][0]["runs"][0]["status"], "interrupted");
    every_request_is_accounted_for(&ended);
    for name in ["junit.xml", "requests.csv", "summary.csv", "summary.md"] {
        assert!(!ended.text(name).is_empty(), "{name}");
    }
    assert!(count(numbers(&report, "c4"), "ok") >= 20);
    assert!(ended.out.contains("interrupted"), "{}", ended.out);
}

#[test]
fn ctrl_c_writes_every_file_and_exits_130() {
    interrupted(Signal::SIGINT, 130);
}

#[test]
fn sigterm_writes_every_file_and_exits_143() {
    interrupted(Signal::SIGTERM, 143);
}

#[test]
fn ctrl_c_twice_ends_the_run_at_once() {
    // Answers that take minutes: the first Ctrl-C would read them on for five seconds.
    let mock = Mock::start(&["--fault", "stall:after=1"]);
    let desk = Desk::new();
    let text = tool::scenario(
        &mock.url,
        "{ stages: [{ name: s, users: 2, for: 5m }] }",
        "",
    );
    let mut running = desk.start_run(&text, &["--progress", "json"], &[]);
    tool::until("requests are sent", || {
        desk.path("results/requests.ndjson").exists()
    });
    let began = Instant::now();
    // Two that come before the first is looked at are one.
    running.signal_until_it_ends(Signal::SIGINT);
    let ended = running.end().with_code(130);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}\n{}",
        began.elapsed(),
        ended.err
    );
}

#[test]
fn a_killed_run_loses_at_most_its_last_second() {
    let mock = Mock::start(&[]);
    let desk = Desk::new();
    let text = tool::scenario(
        &mock.url,
        "{ levels: { users: 4, for: 5m, warmup: 0s } }",
        "",
    );
    let running = desk.start_run(&text, &[], &[]);
    running.until_requests(20);
    let finished = mock.finished();
    // A second between two flushes, and the time in which load threads tell what has ended.
    let seen = Instant::now();
    tool::until("a second and a half", || {
        seen.elapsed() > Duration::from_millis(1500)
    });
    running.signal(Signal::SIGKILL);
    let ended = running.end();
    assert_eq!(ended.code, None);
    let file = ended.requests();
    assert_eq!(file.footer, None);
    assert!(
        file.rows.len() as u64 >= finished,
        "{} of {finished}",
        file.rows.len()
    );

    // Whatever was torn behind the last whole line is no line.
    let text = ended.text("requests.ndjson");
    let torn = format!("{}{}", text, "{\"cell\":\"engine/m");
    assert_eq!(ndjson::read(&torn).unwrap().rows.len(), file.rows.len());
}

#[test]
fn finished_cells_survive_a_kill_in_the_next_one() {
    let desk = Desk::new();
    let text = format!(
        "version: 1\nbackends: {{ engine: {{ kind: simulator, preset: fast }} }}\nmodels: {{ m: any }}\nrequest: {{ max_tokens: 4 }}\n\
         load:\n  short: {{ levels: {{ users: 2, requests: 20, warmup: 0s }} }}\n  long: {{ levels: {{ users: 2, for: 5m, warmup: 0s }} }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\nslos: {{ errors: error count == 0 }}\n{}",
        tool::CALM
    );
    let running = desk.start_run(&text, &[], &[]);
    running.until_requests(40);
    running.signal(Signal::SIGKILL);
    let ended = running.end();
    assert_eq!(ended.code, None);
    let report = ended.report();
    assert_eq!(report["status"], "interrupted");
    assert_eq!(count(numbers(&report, "c2"), "ok"), 20);
    let verdicts = report["verdicts"].as_array().unwrap();
    let short = verdicts
        .iter()
        .find(|verdict| verdict["id"] == "errors" && verdict["cell"] == "engine/m/chat/short");
    assert_eq!(short.unwrap()["status"], "pass");
    assert!(ended.text("junit.xml").contains("errors"));
}

#[test]
fn an_abort_rule_stops_its_cell_and_no_other() {
    let broken = Mock::start(&["--fault", "error-500"]);
    let sound = Mock::start(&[]);
    let text = format!(
        "version: 1\nbackends: {{ broken: {{ kind: vllm, url: \"{}\" }}, sound: {{ kind: vllm, url: \"{}\" }} }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ process: uniform, stages: [{{ name: s, rate: 40/s, for: 4s }}] }} }}\nrequest: {{ max_tokens: 2 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n\
         slos: {{ meltdown: {{ assert: error rate < 50%, abort: {{ after: 1s, window: 1s }} }} }}\n{}",
        broken.url,
        sound.url,
        tool::CALM
    );
    let ended = Desk::new().run(&text, &[]).with_code(1);
    every_request_is_accounted_for(&ended);
    let report = ended.report();
    let run = &report["cells"][0]["runs"][0];
    assert_eq!(run["status"], "aborted");
    assert!(
        run["reason"].as_str().unwrap().contains("meltdown"),
        "{run}"
    );
    assert_eq!(report["cells"][1]["runs"][0]["status"], "complete");
    let stopped = &report["cells"][0]["stages"][0]["numbers"];
    assert!(count(stopped, "unsent") > 40, "{stopped}");
    assert_eq!(count(stopped, "planned"), 160);
}

#[test]
fn an_abort_rule_may_speak_of_gaps_between_chunks() {
    let mock = Mock::start(&[]);
    let load = "{ levels: { users: 4, for: 30s, warmup: 0s } }";
    let slos =
        "slos: { stutter: { assert: P50 chunk gap < 1us, abort: { after: 1s, window: 1s } } }\n";
    let ended = Desk::new()
        .run(&tool::scenario(&mock.url, load, slos), &[])
        .with_code(1);
    assert_eq!(ended.report()["cells"][0]["runs"][0]["status"], "aborted");
}

#[test]
fn what_finds_no_place_in_flight_is_dropped_and_counted() {
    let mock = Mock::start(&["--fault", "slow-headers:ms=150"]);
    let load = "{ process: uniform, max_in_flight: 2, on_full: drop, stages: [{ name: s, rate: 100/s, for: 1s }] }";
    let text = tool::scenario(&mock.url, load, "slos: { drops: drop rate < 1% }\n");
    let ended = Desk::new().run(&text, &[]).with_code(1);
    every_request_is_accounted_for(&ended);
    let report = ended.report();
    let numbers = numbers(&report, "s");
    assert_eq!(count(numbers, "planned"), 100);
    assert!(count(numbers, "dropped") > 50, "{numbers}");
    assert!(count(numbers, "ok") >= 8, "{numbers}");
}

#[test]
fn what_waits_for_a_place_in_flight_is_sent_late_and_told() {
    let mock = Mock::start(&["--fault", "slow-headers:ms=50"]);
    let load =
        "{ process: uniform, max_in_flight: 2, stages: [{ name: s, rate: 60/s, for: 500ms }] }";
    let ended = Desk::new()
        .run(&tool::scenario(&mock.url, load, ""), &[])
        .with_code(0);
    every_request_is_accounted_for(&ended);
    let file = ended.requests();
    assert_eq!(file.rows.len(), 30);
    assert!(file.rows.iter().all(|row| row.outcome == "ok"));
    let longest = file
        .rows
        .iter()
        .map(|row| row.more.cap_wait_ms)
        .fold(0.0, f64::max);
    assert!(longest > 100.0, "{longest}");
}

#[test]
fn what_still_runs_after_the_drain_is_cut_and_counted() {
    let mock = Mock::start(&["--fault", "stall:after=1"]);
    let load = "{ process: uniform, stages: [{ name: s, rate: 40/s, for: 250ms }] }";
    let more = "run: { warmup: 0s, drain: 300ms }\nslos: { speed: P50 TTFT < 60s }\n";
    let ended = Desk::new()
        .run(&tool::scenario(&mock.url, load, more), &[])
        .with_code(3);
    every_request_is_accounted_for(&ended);
    let report = ended.report();
    assert_eq!(count(numbers(&report, "s"), "cut"), 10);
    assert_eq!(verdict(&report, "guard:cut @s")["status"], "inconclusive");
}
