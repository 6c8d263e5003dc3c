//! The client against the truth server: that nothing is lost, and what the guards say when the measuring itself is in trouble.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use nix::sys::signal::Signal;
use scenario::selftest::truth::{TruthEntry, read_log};
use serde_json::Value;

use crate::tool::{Desk, Ended, Mock, numbers, verdict};

fn on_truth(mock: &Mock, tokens: u32, load: &str) -> String {
    format!(
        "version: 1
name: truth
backends: {{ truth: {{ url: \"{}\", kind: openai }} }}
models: {{ truth: truth }}
prompts: {{ hello: {{ source: inline, prompts: [Hello], max_tokens: {tokens} }} }}
load: {{ l: {load} }}
run: {{ warmup: 0s, drain: 10s }}
",
        mock.url
    )
}

fn log(path: &Path) -> BTreeMap<String, TruthEntry> {
    let entries = read_log(path).unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.id.clone(), entry))
        .collect()
}

fn status<'a>(report: &'a Value, guard: &str) -> &'a Value {
    &verdict(report, &format!("guard:{guard} @l"))["status"]
}

/// Every request of the log has its record, and every event of a whole answer was seen.
#[track_caller]
fn nothing_is_lost(ended: &Ended, log: &BTreeMap<String, TruthEntry>) {
    let rows = ended.requests().rows;
    let seen: HashMap<&str, u32> = rows
        .iter()
        .map(|row| (row.more.request_id.as_str(), row.more.output_events))
        .collect();
    assert!(!log.is_empty());
    for (id, entry) in log {
        let events = seen.get(id.as_str());
        assert!(events.is_some(), "`{id}` has no record");
        if entry.whole {
            assert_eq!(events, Some(&(entry.handed.len() as u32)), "{id}");
        }
    }
}

#[test]
fn ten_thousand_streams_are_read_to_the_last_event() {
    let desk = Desk::new();
    let path = desk.path("truth.ndjson");
    let mock = Mock::start(&[
        "--truth-log",
        path.to_str().unwrap(),
        "--first",
        "1s",
        "--gap",
        "500ms",
    ]);
    let load = "{ levels: { users: 10000, requests_per_user: 1, allow_short: true, tail: drain } }";
    let ended = desk.run(&on_truth(&mock, 4, load), &["--progress", "none"]);
    assert_eq!(mock.ctrl_c(), Some(0));
    let report = ended.report();
    let numbers = numbers(&report, "c10000");
    assert_eq!(
        (&numbers["ok"], &numbers["planned"]),
        (&10_000.into(), &10_000.into())
    );
    nothing_is_lost(&ended, &log(&path));
    let status = |guard: &str| &verdict(&report, &format!("guard:{guard} @c10000"))["status"];
    assert_eq!(status("error_rate"), "pass");
    assert_eq!(status("cut"), "pass");
    // Ten thousand requests leave at once from one thread: the last of them late, and the guard says so.
    assert_eq!(status("send_lag"), "inconclusive");
    let client = &report["cells"][0]["runs"][0]["client"];
    assert_eq!(client["stamp_source"], "kernel");
    assert_eq!(client["connections_opened"], 10_000);
}

#[test]
fn a_server_that_is_killed_is_a_failed_gate_and_its_requests_are_failures() {
    let desk = Desk::new();
    let path = desk.path("truth.ndjson");
    let mock = Mock::start(&[
        "--truth-log",
        path.to_str().unwrap(),
        "--first",
        "5ms",
        "--gap",
        "5ms",
    ]);
    let load = "{ stages: [{ name: l, users: 20, for: 4s }] }";
    let running = desk.start_run(&on_truth(&mock, 20, load), &["--progress", "none"], &[]);
    running.until_requests(100);
    mock.signal(Signal::SIGKILL);
    let ended = running.end().with_code(1);
    let report = ended.report();
    assert_eq!(status(&report, "error_rate"), "fail");
    let outcomes: Vec<String> = ended
        .requests()
        .rows
        .into_iter()
        .map(|row| row.outcome)
        .collect();
    let count = |name: &str| outcomes.iter().filter(|outcome| *outcome == name).count();
    assert!(count("ok") >= 100, "{}", count("ok"));
    // Twenty streams broke off, and then nobody was there.
    assert!(count("truncated") + count("reset") >= 1, "{outcomes:?}");
    assert!(count("connect_failed") >= 20, "{}", count("connect_failed"));
    // The log lost at most what waited to be written; what it has, the client has.
    let rows = ended.requests().rows;
    for entry in read_log(&path).unwrap() {
        assert!(
            rows.iter().any(|row| row.more.request_id == entry.id),
            "{entry:?}"
        );
    }
}

/// Server and client on one core, and the server sends as fast as it can: the client cannot keep up, and says so.
#[test]
fn a_starved_client_doubts_its_own_stamps() {
    let desk = Desk::new();
    let path = desk.path("truth.ndjson");
    let mock = Mock::start_on_core(
        "0",
        &[
            "--truth-log",
            path.to_str().unwrap(),
            "--first",
            "0ms",
            "--gap",
            "0ms",
        ],
    );
    let load = "{ levels: { users: 200, requests_per_user: 5, tail: drain } }";
    let ended = desk
        .start_on_core("0", &on_truth(&mock, 500, load), &["--progress", "none"])
        .end();
    assert_eq!(mock.ctrl_c(), Some(0));
    let report = ended.report();
    assert_eq!(numbers(&report, "c200")["ok"], 1000);
    nothing_is_lost(&ended, &log(&path));
    let status = |guard: &str| &verdict(&report, &format!("guard:{guard} @c200"))["status"];
    assert_eq!(status("error_rate"), "pass");
    assert_eq!(status("stamps"), "inconclusive");
    assert_eq!(status("send_lag"), "inconclusive");
    let shared = report["cells"][0]["runs"][0]["client"]["shared_events"].as_f64();
    assert!(shared.is_some_and(|share| share > 0.5), "{shared:?}");
}
