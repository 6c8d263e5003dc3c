//! The files in `scenarios/` are what users learn the format from: each checks, plans and runs to a verdict.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tool::Desk;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files
}

#[test]
fn the_five_scenarios_are_there() {
    let names: Vec<String> = scenarios()
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for name in [
        "a100-llama",
        "friendli-vs-vllm",
        "h100-trio",
        "quickstart",
        "rates-and-bursts",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} is not among {names:?}"
        );
    }
}

#[test]
fn each_begins_with_the_line_that_editors_find_the_schema_by() {
    for path in scenarios() {
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../schemas/scenario.v1.json",
            "{}",
            path.display()
        );
    }
}

#[test]
fn each_checks_and_plans_the_same_twice() {
    let desk = Desk::new();
    for path in scenarios() {
        let path = path.to_str().unwrap();
        let checked = desk.tool(&["check", path]).with_code(0);
        assert!(checked.out.contains(": ok: "), "{}", checked.out);
        let plan = || desk.tool(&["plan", path]).with_code(0).out;
        assert_eq!(plan(), plan());
        let arrivals = || {
            desk.tool(&["plan", path, "--smoke", "--arrivals", "-"])
                .with_code(0)
                .out
        };
        assert_eq!(arrivals(), arrivals());
    }
}

#[test]
fn the_list_tells_of_each() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let listed = Desk::new()
        .tool(&["list", folder.to_str().unwrap()])
        .with_code(0)
        .out;
    for path in scenarios() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(listed.contains(name), "{name}:\n{listed}");
    }
}

/// A verdict, whatever it is: how fast the machine is that tests decides it. Large scenarios are narrowed by `more`; `.ci/run`
/// runs them whole.
fn ends_with_a_verdict(name: &str, more: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios")
        .join(name);
    let mut words = vec![
        "run",
        path.to_str().unwrap(),
        "--simulate",
        "--smoke",
        "--out",
        "results",
    ];
    words.extend(more);
    let ended = Desk::new().tool(&words);
    let code = ended.code.unwrap_or(-1);
    assert!(
        matches!(code, 0 | 1 | 3),
        "{code}\n{}\n{}",
        ended.out,
        ended.err
    );
    let report = ended.report();
    assert_eq!(report["exit_code"], code);
    assert_eq!(report["smoke"], true);
    assert_eq!(report["simulated"], true);
    let status = report["status"].as_str().unwrap();
    assert!(
        ["passed", "failed", "inconclusive"].contains(&status),
        "{status}"
    );
    let cells = report["cells"].as_array().unwrap();
    assert!(!cells.is_empty());
    for run in cells
        .iter()
        .flat_map(|cell| cell["runs"].as_array().unwrap())
    {
        assert!(
            matches!(run["status"].as_str(), Some("complete" | "aborted")),
            "{run}"
        );
    }
    let verdicts = report["verdicts"].as_array().unwrap();
    let judged = |verdict: &&Value| verdict["guard"] == false && verdict["status"] != "skipped";
    assert!(
        verdicts.iter().any(|verdict| judged(&verdict)),
        "{verdicts:#?}"
    );
}

#[test]
fn a100_llama_runs_to_a_verdict() {
    let levels = "load.concurrency.levels.users=[20, 100]";
    ends_with_a_verdict("a100-llama.yaml", &["--only", "llama8b", "--set", levels]);
}

#[test]
fn friendli_vs_vllm_runs_to_a_verdict() {
    let levels = "load.concurrency.levels.users=[1, 32]";
    ends_with_a_verdict("friendli-vs-vllm.yaml", &["--set", levels]);
}

#[test]
fn h100_trio_runs_to_a_verdict() {
    let levels = "load.users.levels.users=[10, 100]";
    ends_with_a_verdict("h100-trio.yaml", &["--only", "mix-code", "--set", levels]);
}

#[test]
fn quickstart_runs_to_a_verdict() {
    ends_with_a_verdict("quickstart.yaml", &[]);
}

#[test]
fn rates_and_bursts_runs_to_a_verdict() {
    ends_with_a_verdict("rates-and-bursts.yaml", &["--only", "burst"]);
}

/// What the engine's own page is, the simulator in its place has not got.
#[test]
fn launched_engines_runs_to_a_verdict() {
    let levels = "load.sweep.levels.users=[4]";
    ends_with_a_verdict(
        "launched-engines.yaml",
        &["--set", levels, "--set", "run.cooldown=0s"],
    );
}

const TEAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/scenarios/teams/search/a100-llama.yaml"
);

/// A team's file of a few lines on a base with a library: it resolves, plans and runs.
#[test]
fn a_teams_file_runs_to_a_verdict() {
    let desk = Desk::new();
    let planned = desk.tool(&["plan", TEAM]).with_code(0).out;
    assert!(planned.contains("P95 TTFT < 350ms"), "{planned}");
    assert!(planned.contains("vllm/llama8b/rag/steady"), "{planned}");
    assert!(!planned.contains("llama8b/chat"), "{planned}");
    let more = ["--profile", "smoke"];
    ends_with_a_verdict("teams/search/a100-llama.yaml", &more);
}

#[test]
fn the_origin_of_every_value_is_file_and_line() {
    let shown = Desk::new()
        .tool(&["show", TEAM, "--profile", "smoke", "--origin"])
        .with_code(0)
        .out;
    let lines: Vec<&str> = shown.lines().collect();
    for line in &lines {
        let value = !line.trim_end().ends_with(':');
        assert_eq!(value, line.contains("  # "), "{line}");
        let origin = line.split_once("  # ").map(|(_, origin)| origin);
        if let Some(origin) = origin {
            let first = origin.split(", ").next().unwrap();
            let (path, number) = first.rsplit_once(':').unwrap();
            let text = std::fs::read_to_string(path).unwrap();
            let written = text.lines().nth(number.parse::<usize>().unwrap() - 1);
            let value = line.split("  # ").next().unwrap().trim();
            let value = value.trim_start_matches("- ");
            let value = value.split_once(": ").map_or(value, |(_, value)| value);
            let bare = value.trim_matches(['\'', '"']);
            assert!(written.unwrap().contains(bare), "{line}: {written:?}");
        }
    }
    let of = |value: &str| {
        let found = lines
            .iter()
            .find(|line| line.trim_start().starts_with(value));
        found.unwrap().rsplit('/').next().unwrap().to_owned()
    };
    assert!(shown.contains("owner: search  # "));
    assert_eq!(of("ttft: "), "a100-llama.yaml:4");
    assert!(of("median: ").starts_with("prompts.yaml:"));
}
