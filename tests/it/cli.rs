//! The command line: its help, its exit codes, the commands beside `run`.

mod explain;
mod formats;
mod lsp;
mod looks;
mod first_steps;

use std::path::Path;

use clap::CommandFactory;

use crate::golden;
use crate::tool::{self, Desk, Doorbell, Mock, on_the_simulator};

/// Every command, as the command line itself names them.
fn commands() -> Vec<String> {
    let line = scenario::cli::args::Cli::command();
    line.get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect()
}

fn assert_golden(name: &str, text: &str) {
    golden::assert_golden(Path::new("fixtures/cli").join(name), text);
}

#[test]
fn the_help_of_each_command_is_as_checked_in() {
    let desk = Desk::new();
    assert_golden("scenario.txt", &desk.tool(&["--help"]).with_code(0).out);
    for command in commands() {
        let help = desk.tool(&[command.as_str(), "--help"]).with_code(0).out;
        assert_golden(&format!("{command}.txt"), &help);
    }
    for topic in ["metrics", "exit-codes"] {
        let help = desk.tool(&["help", topic]).with_code(0).out;
        assert_golden(&format!("help-{topic}.txt"), &help);
    }
}

#[test]
fn what_a_self_test_cannot_write_it_says_before_it_measures() {
    let ended = Desk::new()
        .tool(&["selftest", "--json", "missing/told.json"])
        .with_code(2);
    assert!(
        ended
            .err
            .starts_with("error: cannot write `missing/told.json`: "),
        "{}",
        ended.err
    );
    assert_eq!(ended.out, "");
}

#[test]
fn help_without_a_topic_names_every_command_and_topic() {
    let help = Desk::new().tool(&["help"]).with_code(0).out;
    let topics = ["help metrics", "help exit-codes"].map(str::to_owned);
    for word in commands().iter().chain(&topics) {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn a_wrong_command_line_exits_2_with_a_suggestion() {
    let desk = Desk::new();
    let ended = desk.tool(&["rum", "trial.yaml"]).with_code(2);
    assert!(ended.err.contains("run"), "{}", ended.err);
    let ended = desk.tool(&["run", "trial.yaml", "--exitzero"]).with_code(2);
    assert!(ended.err.contains("--exit-zero"), "{}", ended.err);
    let ended = desk.tool(&["help", "metric"]).with_code(2);
    assert!(
        ended.err.contains("did you mean `metrics`?"),
        "{}",
        ended.err
    );
    desk.tool::<&str>(&[]).with_code(2);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in ["run", "check", "plan"] {
        let ended = Desk::new().tool(&[command, "nowhere.yaml"]).with_code(2);
        assert!(
            ended.err.contains("cannot read `nowhere.yaml`"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn check_exits_0_or_2_and_sends_nothing() {
    let desk = Desk::new();
    let bell = Doorbell::new();
    desk.write(
        "right.yaml",
        &tool::scenario(&bell.url, "{ batch: { size: all, requests: 4 } }", ""),
    );
    desk.write(
        "wrong.yaml",
        "version: 1\nbackend: { a: \"http://localhost\" }\n",
    );
    desk.tool(&["check", "right.yaml"]).with_code(0);
    let ended = desk
        .tool(&["check", "right.yaml", "wrong.yaml"])
        .with_code(2);
    assert!(
        ended.err.contains("did you mean `backends`?"),
        "{}",
        ended.err
    );

    let listed = desk
        .tool(&["check", "wrong.yaml", "--format", "json"])
        .with_code(2)
        .out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["at"]["path"], "wrong.yaml");
    assert_eq!(bell.rung(), 0);
}

#[test]
fn a_value_of_the_command_line_replaces_that_of_the_file() {
    let desk = Desk::new();
    desk.write(
        "trial.yaml",
        &on_the_simulator("{ levels: { users: 2, requests: 10, warmup: 0s } }", ""),
    );
    let words = [
        "run",
        "trial.yaml",
        "--set",
        "load.l.levels.requests=6",
        "--out",
        "results",
    ];
    let report = desk.tool(&words).with_code(0).report();
    assert_eq!(tool::numbers(&report, "c2")["planned"], 6);
}

#[test]
fn the_schemas_are_printed() {
    let desk = Desk::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let of = |words: &[&str]| desk.tool(words).with_code(0).out;
    let checked_in = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        of(&["schema"]).trim_end(),
        checked_in("scenario.v1.json").trim_end()
    );
    assert_eq!(
        of(&["schema", "--report"]).trim_end(),
        checked_in("report.v1.json").trim_end()
    );
}

#[test]
fn the_first_file_runs_as_it_was_written() {
    let desk = Desk::new();
    desk.tool(&["init", "first.yaml", "--simulator"])
        .with_code(0);
    let again = desk.tool(&["init", "first.yaml"]).with_code(2);
    assert!(again.err.contains("--force"), "{}", again.err);
    let ended = desk.tool(&["run", "first.yaml", "--smoke", "--out", "results"]);
    assert!(
        matches!(ended.code, Some(0 | 1 | 3)),
        "{}\n{}",
        ended.out,
        ended.err
    );
    ended.report();
}

#[test]
fn one_line_measures_an_endpoint_and_can_be_saved() {
    let mock = Mock::start(&[]);
    let desk = Desk::new();
    let url = mock.url.trim_end_matches("/v1");
    let words = [
        "quick",
        url,
        "--users",
        "2",
        "--for",
        "500ms",
        "--warmup",
        "100ms",
        "--max-tokens",
        "4",
        "--slo",
        "error count == 0",
        "--model",
        "any",
        "--save",
        "gate.yaml",
        "--out",
        "results",
    ];
    let ended = desk.tool(&words);
    assert!(
        matches!(ended.code, Some(0 | 3)),
        "{}\n{}",
        ended.out,
        ended.err
    );
    let report = ended.report();
    assert_eq!(report["scenario"]["name"], "quick");
    assert!(tool::numbers(&report, "measured")["ok"].as_u64().unwrap() > 2);
    desk.tool(&["check", "gate.yaml"]).with_code(0);

    let wrong = desk
        .tool(&["quick", url, "--slo", "P95 TTTF < 1s"])
        .with_code(2);
    assert!(wrong.err.contains("did you mean `TTFT`"), "{}", wrong.err);
}

#[test]
fn the_mock_lists_its_presets_and_faults_and_suggests_the_near_one() {
    let desk = Desk::new();
    let presets = desk.tool(&["mock", "--preset", "list"]).with_code(0).out;
    assert!(presets.contains("a100-llama-3.1-8b-vllm"), "{presets}");
    let faults = desk.tool(&["mock", "--fault", "list"]).with_code(0).out;
    assert!(faults.contains("error-500"), "{faults}");
    let wrong = desk
        .tool(&["mock", "--port", "0", "--fault", "eror-500"])
        .with_code(2);
    assert!(
        wrong.err.contains("did you mean `error-500`?"),
        "{}",
        wrong.err
    );
}

#[test]
fn the_mock_ends_with_ctrl_c_without_a_complaint() {
    assert_eq!(Mock::start(&[]).ctrl_c(), Some(0));
}
