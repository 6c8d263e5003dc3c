//! What a job of GitHub Actions shows of whatever makes it fail: annotations on files as the repository knows them.

use std::process::Command;

use crate::tool::{Desk, Mock, nobody, on_the_simulator, scenario};

const LOAD: &str = "{ levels: { users: [2], requests: 20 } }";
const JOB: [(&str, &str); 1] = [("GITHUB_ACTIONS", "true")];

/// The annotations of a run of this scenario.
#[track_caller]
fn annotations(desk: &Desk, text: &str, more: &[&str], code: i32) -> Vec<String> {
    let ended = desk.start_run(text, more, &JOB).end().with_code(code);
    commands(&ended.err)
}

fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with("::"));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn assert_one(told: &[String], start: &str) {
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with(start), "{told:#?}");
}

/// The line, from 1, on which the SLOs of a scenario stand.
fn line_of_slos(text: &str) -> usize {
    let mut lines = text.lines();
    lines.position(|line| line.starts_with("slos:")).unwrap() + 1
}

#[test]
fn a_file_is_named_as_its_repository_knows_it() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path(".git")).unwrap();
    std::fs::create_dir_all(desk.path("gates/nightly")).unwrap();
    let text = on_the_simulator(LOAD, "slos: { ttft: P50 TTFT < 1us }\n");
    desk.write("gates/trial.yaml", &text);
    let ran = Command::new(env!("CARGO_BIN_EXE_scenario"))
        .current_dir(desk.path("gates/nightly"))
        .args(["run", "../trial.yaml", "--out", "r", "--junit", "gitlab"])
        .env("GITHUB_ACTIONS", "true")
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    let err = String::from_utf8(ran.stderr).unwrap();
    let line = line_of_slos(&text);
    assert_one(
        &commands(&err),
        &format!("::error file=gates/trial.yaml,line={line},title=ttft (simulated)::✗ "),
    );
    let junit = std::fs::read_to_string(desk.path("gates/nightly/r/junit.xml")).unwrap();
    assert!(junit.contains(" file=\"gates/trial.yaml\""), "{junit}");
    assert!(
        junit.contains(&format!("--> gates/trial.yaml:{line}:")),
        "{junit}"
    );
    let out = String::from_utf8(ran.stdout).unwrap();
    assert!(
        out.contains(&format!("../trial.yaml:{line}:")),
        "a terminal opens what was written: {out}"
    );
}

#[test]
fn a_value_of_the_command_line_is_in_no_file() {
    let desk = Desk::new();
    let told = annotations(
        &desk,
        &on_the_simulator(LOAD, ""),
        &["--set", "slos.ttft=P50 TTFT < 1us"],
        1,
    );
    assert_one(&told, "::error title=ttft (simulated)::✗ ");
    let told = annotations(
        &desk,
        &on_the_simulator(LOAD, ""),
        &["--set", "slos.ttft=P50 TTTF < 1us"],
        2,
    );
    assert_one(&told, "::error title=S031::");
}

#[test]
fn whatever_makes_a_job_fail_is_an_error() {
    let desk = Desk::new();
    // A guard that fails stands on no line.
    let mock = Mock::start(&["--fault", "error-500:every=2"]);
    let engine = format!("\"{}\"", mock.url);
    let told = annotations(&desk, &scenario(&engine, LOAD, ""), &[], 1);
    assert_one(
        &told,
        "::error file=trial.yaml,title=guard%3Aerror_rate (simulated)::✗ ",
    );
    // Too few samples for an answer.
    let text = on_the_simulator(LOAD, "slos: { tail: P99 TTFT < 5s }\n");
    let place = format!("file=trial.yaml,line={}", line_of_slos(&text));
    let told = annotations(&desk, &text, &[], 3);
    assert_one(&told, &format!("::error {place},title=tail"));
    let told = annotations(&desk, &text, &["--inconclusive", "warn"], 0);
    assert_one(&told, &format!("::warning {place},title=tail"));
    // Nobody is there, and nothing is asked of it.
    let engine = format!("{{ url: \"{}\", ready: {{ timeout: 200ms }} }}", nobody());
    let told = annotations(&desk, &scenario(&engine, LOAD, ""), &[], 3);
    assert_one(
        &told,
        "::error file=trial.yaml,title=engine/m/chat/l::not run: backend `engine`",
    );
    // The file itself is wrong.
    let text = on_the_simulator(LOAD, "slos: { ttft: P50 TTTF < 1us }\n");
    let line = line_of_slos(&text);
    let told = annotations(&desk, &text, &[], 2);
    assert_one(
        &told,
        &format!("::error file=trial.yaml,line={line},endLine={line},"),
    );
}

#[test]
fn a_saved_run_that_is_judged_again_is_shown_as_well() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(LOAD, ""), &[]).with_code(0);
    let text = on_the_simulator(LOAD, "slos: { ttft: P50 TTFT < 1us }\n");
    desk.write("stricter.yaml", &text);
    let page = desk.path("page.md");
    let variables = [JOB[0], ("GITHUB_STEP_SUMMARY", page.to_str().unwrap())];
    let words = ["judge", "results", "stricter.yaml"];
    let ended = desk.start(&words, &variables).end().with_code(1);
    let line = line_of_slos(&text);
    assert_one(
        &commands(&ended.err),
        &format!("::error file=stricter.yaml,line={line},title=ttft (simulated)::✗ "),
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("## trial: failed (simulated)"), "{page}");
}
