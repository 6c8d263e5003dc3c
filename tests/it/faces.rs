//! The faces that a run shows to CI: TAP, JUnit for one reader or another, one summary of several files.

use std::process::{Command, Output};

use scenario::report::{Report, View, tap};

use crate::tool::{Desk, on_the_simulator};

const BRIEF: &str = "{ levels: { users: [2], requests: 20 } }";
const SLOS: &str = "slos: { held: P50 TTFT < 5s, broken: P50 TTFT < 1us, told: { assert: P50 E2E < 1us, level: warn } }\n";

#[test]
fn tap_has_a_point_for_each_verdict_and_what_only_warns_is_no_failure() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(BRIEF, SLOS), &["--tap", "out.tap"])
        .with_code(1);
    let text = std::fs::read_to_string(desk.path("out.tap")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "TAP version 14");
    let points = lines
        .iter()
        .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
        .count();
    assert_eq!(lines[1], format!("1..{points}"));
    assert_eq!(lines[2], "# simulated");
    assert!(
        text.contains("\nok 1 - engine/m/chat/l held[p50] @c2\n"),
        "{text}"
    );
    assert!(text.contains("\nnot ok 2 - engine/m/chat/l broken[p50] @c2\n  ---\n  status: fail\n  message: \"P50 TTFT "), "{text}");
    assert!(
        text.contains("\nnot ok 3 - engine/m/chat/l told[p50] @c2 # TODO it only warns\n"),
        "{text}"
    );
    assert!(text.contains("  at: \"trial.yaml:"), "{text}");
    desk.tool(&["report", "results", "--tap", "again.tap"])
        .with_code(0);
    assert_eq!(
        std::fs::read_to_string(desk.path("again.tap")).unwrap(),
        text
    );
}

#[test]
fn a_name_with_a_hash_is_no_directive_and_nothing_to_judge_is_no_plan() {
    let text = std::fs::read_to_string("fixtures/reports/gate-example.json").unwrap();
    let mut report: Report = serde_json::from_str(&text).unwrap();
    report.verdicts.truncate(1);
    report.verdicts[0].name = "ttft #1".to_owned();
    let told = tap::render(&report, &View::default());
    assert!(told.contains("ttft \\#1\n"), "{told}");
    report.verdicts.clear();
    let told = tap::render(&report, &View::default());
    assert!(
        told.contains("\n1..0 # SKIP no SLOs: nothing was gated\n"),
        "{told}"
    );
}

#[test]
fn gitlab_s_attribute_is_there_when_asked_for() {
    let desk = Desk::new();
    let ran = desk
        .run(&on_the_simulator(BRIEF, SLOS), &["--junit", "gitlab"])
        .with_code(1);
    assert!(ran.text("junit.xml").contains(" file=\"trial.yaml\""));
    desk.tool(&["report", "results", "--out", "plain"])
        .with_code(0);
    let plain = std::fs::read_to_string(desk.path("plain/junit.xml")).unwrap();
    assert!(!plain.contains(" file="));
}

#[test]
fn several_files_share_one_summary_and_each_has_its_own_tap() {
    let desk = Desk::new();
    for name in ["one", "two"] {
        let text = on_the_simulator(BRIEF, SLOS).replace("name: trial", &format!("name: {name}"));
        desk.write(&format!("{name}.yaml"), &text);
    }
    desk.write("summary.md", "of an earlier run\n");
    desk.tool(&[
        "run",
        "one.yaml",
        "two.yaml",
        "--out",
        "results",
        "--summary-md",
        "summary.md",
        "--tap",
        "all.tap",
    ])
    .with_code(1);
    let summary = std::fs::read_to_string(desk.path("summary.md")).unwrap();
    let headings: Vec<&str> = summary
        .lines()
        .filter(|line| line.starts_with("## "))
        .collect();
    assert_eq!(
        headings,
        ["## one: failed (simulated)", "## two: failed (simulated)"]
    );
    assert!(!summary.contains("earlier"));
    for name in ["all-1.tap", "all-2.tap"] {
        let text = std::fs::read_to_string(desk.path(name)).unwrap();
        assert!(text.starts_with("TAP version 14\n1.."), "{name}");
    }
}

// ---- the action's comment --------------------------------------------------------------------------------------------

/// The action's last step with a `gh` that knows these comments, and fails when there are none to know.
fn comment(desk: &Desk, known: Option<&str>) -> (Output, String) {
    let action: serde_yaml::Value =
        serde_yaml::from_str(&std::fs::read_to_string("action.yml").unwrap()).unwrap();
    let steps = action["runs"]["steps"].as_sequence().unwrap();
    let step = steps
        .iter()
        .find(|step| step["name"].as_str() == Some("Comment"))
        .unwrap();
    let answer = known.map_or("exit 1".to_owned(), |ids| format!("printf '{ids}'"));
    let gh = format!(
        "#!/bin/sh\ncase \"$*\" in\n  *--paginate*) {answer} ;;\n  *) echo \"$*\" >> calls; test -n \"$ALLOWED\" ;;\nesac\n"
    );
    let program = desk.write("gh", &gh);
    Command::new("chmod")
        .arg("+x")
        .arg(&program)
        .status()
        .unwrap();
    desk.write("scenario.md", "## gate: failed\n");
    let folder = desk.path("");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let ended = Command::new("bash")
        .args(["-eo", "pipefail", "-c", step["run"].as_str().unwrap()])
        .current_dir(&folder)
        .env("PATH", path)
        .env("RUNNER_TEMP", &folder)
        .env("NUMBER", "7")
        .env("REPOSITORY", "a/b")
        .env("ARTIFACT", "gate")
        .env("ALLOWED", known.unwrap_or_default())
        .output()
        .unwrap();
    (
        ended,
        std::fs::read_to_string(desk.path("calls")).unwrap_or_default(),
    )
}

#[test]
fn the_action_renews_its_own_comment_and_no_other() {
    let desk = Desk::new();
    let (ended, calls) = comment(&desk, Some("41\\n42\\n"));
    assert!(ended.status.success());
    assert!(
        calls.contains("--method PATCH repos/a/b/issues/comments/41 -F body=@"),
        "{calls}"
    );
    let body = std::fs::read_to_string(desk.path("scenario-comment.md")).unwrap();
    assert_eq!(body, "<!-- scenario: gate -->\n## gate: failed\n");
}

#[test]
fn a_token_that_may_not_comment_fails_no_gate() {
    let desk = Desk::new();
    let (ended, calls) = comment(&desk, None);
    assert!(ended.status.success());
    assert!(
        calls.contains("--method POST repos/a/b/issues/7/comments -F body=@"),
        "{calls}"
    );
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(
        said.contains("::warning::the summary could not be written as a comment"),
        "{said}"
    );
}
