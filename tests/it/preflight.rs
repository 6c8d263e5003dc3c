//! What is looked at before a run: `scenario check --live`; and GPUs alone: `scenario gpu`.

use std::net::TcpListener;

use serde_json::Value;

use crate::tool::{Desk, Ended, Mock, nobody, scenario};

const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";

fn checked(engine: &str, more: &str) -> Ended {
    let desk = Desk::new();
    desk.write("trial.yaml", &scenario(engine, TEN, more));
    desk.tool(&["check", "trial.yaml", "--live"])
}

#[track_caller]
fn says(ended: &Ended, told: &str, remedy: &str) {
    assert!(ended.out.contains(told), "no {told} in {}", ended.out);
    assert!(ended.out.contains(remedy), "no {remedy} in {}", ended.out);
}

#[test]
fn an_engine_that_answers_is_fine() {
    let engine = Mock::start(&["--model", "any"]);
    let ended = checked(
        &format!("{{ kind: vllm, url: \"http://{}\" }}", engine.address()),
        "",
    )
    .with_code(0);
    says(&ended, "✓ backend engine: answers at ", " as `any`");
    says(&ended, "✓ backend engine: has a metrics page", "✓ clock: ");
    says(&ended, "✓ memory: ", "free in `");
    let other = checked(
        &format!("{{ kind: vllm, url: \"http://{}\" }}", engine.address()),
        "",
    );
    assert!(!other.out.contains('✗'), "{}", other.out);
}

#[test]
fn what_is_missing_is_told_with_a_remedy() {
    let dead = nobody();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    for (engine, told, remedy) in [
        (
            format!("{{ kind: vllm, url: \"{dead}\" }}"),
            "Connection refused".to_owned(),
            "start it, correct its `url`",
        ),
        (
            "{ kind: vllm, url: \"http://127.0.0.1:9\", auth: { bearer: { env: NO_SUCH_KEY } } }".to_owned(),
            "✗ backend engine: `NO_SUCH_KEY` is not set, for Authorization".to_owned(),
            "export NO_SUCH_KEY=",
        ),
        (
            "{ kind: openai, launch: { command: [no-such-engine, \"{port}\"] } }".to_owned(),
            "✗ backend engine: `no-such-engine` is not on the PATH".to_owned(),
            "install it, or name where it is",
        ),
        (
            format!("{{ kind: openai, launch: {{ command: [sh, \"{{port}}\"], port: {port} }} }}"),
            format!("wants port {port}, which is held by another program"),
            "write `port: auto`",
        ),
        (
            "{ kind: vllm, launch: { python: ./no-such-venv/bin/python, command: [vllm, serve, \"{model}\", --port, \"{port}\"] } }".to_owned(),
            "there is no Python in `".to_owned(),
            "a virtual environment",
        ),
        (
            "{ kind: openai, launch: { command: [sh, -c, \"{port}\", \"{model}\"] } }".to_owned(),
            "✗ backend engine: model `any` is not here".to_owned(),
            "its name on the hub",
        ),
        (
            format!("{{ kind: openai, launch: {{ command: [sh, \"{{port}}\"] }}, gpus: {{ dcgm: \"{dead}/metrics\" }} }}"),
            "! backend engine: ".to_owned(),
            "start the DCGM exporter there",
        ),
    ] {
        let ended = checked(&engine, "");
        says(&ended, &told, remedy);
        let expected = if told.starts_with('!') { 0 } else { 2 };
        assert_eq!(ended.code, Some(expected), "{engine}: {}", ended.out);
    }
}

#[test]
fn an_optional_backend_that_is_not_there_is_only_doubtful() {
    let engine = format!("{{ kind: vllm, url: \"{}\", optional: true }}", nobody());
    let ended = checked(&engine, "").with_code(0);
    says(&ended, "! backend engine: ", "start it");
}

#[test]
fn programs_read_what_is_missing_as_diagnostics() {
    let desk = Desk::new();
    let engine = format!("{{ kind: vllm, url: \"{}\" }}", nobody());
    desk.write("trial.yaml", &scenario(&engine, TEN, ""));
    let as_told = |format| {
        desk.tool(&["check", "trial.yaml", "--live", "--format", format])
            .with_code(2)
            .out
    };
    let list: Value = serde_json::from_str(&as_told("json")).unwrap();
    let errors: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["code"] == "live" && one["severity"] == "error")
        .collect();
    assert_eq!(errors.len(), 1, "{list:#}");
    assert!(
        errors[0]["message"]
            .as_str()
            .unwrap()
            .starts_with("backend engine: "),
        "{list:#}"
    );
    // At the backend in the file, and with what to do about it.
    let place = &errors[0]["at"];
    let line = std::fs::read_to_string(desk.path("trial.yaml")).unwrap();
    let line = line
        .lines()
        .nth(place["line"].as_u64().unwrap() as usize - 1);
    assert!(line.unwrap().contains("engine: { kind: vllm"), "{line:?}");
    assert!(errors[0]["help"][0].as_str().unwrap().contains("start it"));

    let log: Value = serde_json::from_str(&as_told("sarif")).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let result = results.iter().find(|one| one["level"] == "error").unwrap();
    assert_eq!(result["ruleId"], "live");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(region["startLine"], place["line"], "{result:#}");

    let annotations = as_told("github");
    let told = format!("::error file=trial.yaml,line={}", place["line"]);
    assert!(annotations.contains(&told), "{annotations}");
    assert!(annotations.contains("help: start it"), "{annotations}");
}

// ---- GPUs alone --------------------------------------------------------------------------------------------------------------

#[test]
fn gpus_are_shown_and_recorded_with_their_gaps() {
    let desk = Desk::new();
    let recording = std::fs::canonicalize("fixtures/gpu/two-gpus.csv").unwrap();
    let recording = recording.display().to_string();
    let words = |more: &[&str]| {
        let mut words = vec!["gpu".to_owned(), "--recorded".to_owned(), recording.clone()];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    };
    let once = desk.tool(&words(&[])).with_code(0);
    assert!(
        once.out
            .starts_with("GPU 0: recorded GPU\nGPU 1: recorded GPU\n"),
        "{}",
        once.out
    );
    let first = once
        .out
        .lines()
        .find(|line| line.contains("120 W"))
        .unwrap();
    // What the recording does not tell is no zero.
    assert_eq!(
        first.split_whitespace().collect::<Vec<_>>(),
        ["0.00", "0", "20%", "–", "120", "W", "–", "–"]
    );
    let longer = desk
        .tool(&words(&[
            "--for", "1200ms", "--every", "100ms", "--record", "gpu.csv",
        ]))
        .with_code(0);
    assert!(longer.out.contains("GPU 0: 1"), "{}", longer.out);
    assert!(
        longer.out.contains("power 90 W mean, 90 W at most"),
        "{}",
        longer.out
    );
    // At its end GPU 0 no longer tells its power: a gap.
    let recorded = std::fs::read_to_string(desk.path("gpu.csv")).unwrap();
    let last = recorded
        .lines()
        .rfind(|line| line.contains(",0,0.95,"))
        .unwrap();
    assert!(last.ends_with(",0,0.95,,,,,,"), "{last}");
    // And it can be played again.
    let again = desk.tool(&["gpu", "--recorded", "gpu.csv"]).with_code(0);
    assert!(again.out.contains("GPU 1: recorded GPU"), "{}", again.out);
}

#[test]
fn a_machine_without_gpus_is_told_in_a_line() {
    let desk = Desk::new();
    let empty = desk.path("").display().to_string();
    // Neither the library nor the program: the folder of the test is all of the PATH.
    let ended = desk
        .start(
            &["gpu", "--dcgm", &format!("{}/metrics", nobody())],
            &[("PATH", &empty)],
        )
        .end()
        .with_code(3);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    assert!(ended.err.contains("Connection refused"), "{}", ended.err);
}
