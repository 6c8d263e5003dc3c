//! What becomes of results after their run: reports made again.

use crate::tool::{Desk, on_the_simulator};

const BRIEF: &str = "{ levels: { users: [2], requests: 20 } }";

#[test]
fn the_report_of_a_saved_run_is_the_report_of_the_run() {
    let desk = Desk::new();
    let ran = desk
        .run(
            &on_the_simulator(BRIEF, "slos: { ttft: P50 TTFT < 5s }\n"),
            &[],
        )
        .with_code(0);
    desk.tool(&["report", "results", "--out", "again"])
        .with_code(0);
    for name in ["report.json", "report.html", "junit.xml", "summary.md"] {
        let again = std::fs::read_to_string(desk.path("again").join(name)).unwrap();
        assert!(again == ran.text(name), "{name}");
    }
}

#[test]
fn a_run_that_was_saved_without_charts_still_has_its_tables() {
    let desk = Desk::new();
    let golden = std::fs::read_to_string("fixtures/reports/gate-example.json").unwrap();
    desk.write("report.json", &golden);
    desk.tool(&["report", "report.json", "--out", "page"])
        .with_code(0);
    let page = std::fs::read_to_string(desk.path("page/report.html")).unwrap();
    assert!(page.contains("P95 TTFT 1012ms, limit &lt; 900ms"));
}

#[test]
fn what_is_no_report_is_told_so() {
    let desk = Desk::new();
    desk.write("other.json", r#"{ "schema": "k6/v2" }"#);
    desk.write("newer.json", r#"{ "schema": "scenario.report/v9" }"#);
    desk.write("none.json", "[]");
    desk.write("torn.json", r#"{ "schema": "scenario.report/v1", "sta"#);
    for (file, said) in [
        ("other.json", "has the format `k6/v2`"),
        ("newer.json", "has the format `scenario.report/v9`"),
        ("none.json", "is no report of scenario"),
        ("torn.json", "is not JSON"),
        ("absent.json", "cannot read `absent.json`"),
    ] {
        let ended = desk.tool(&["report", file]).with_code(2);
        assert!(ended.err.contains(said), "{file}: {}", ended.err);
    }
}

// ---- compare ---------------------------------------------------------------------------------------------------------

/// A copy of a saved run with another text in its report.
fn altered(desk: &Desk, name: &str, from: &str, to: &str) {
    let report = std::fs::read_to_string(desk.path("results/report.json")).unwrap();
    assert!(report.contains(from), "{from}");
    desk.write(name, &report.replace(from, to));
}

#[test]
fn a_run_does_not_differ_from_itself_and_says_so_in_every_format() {
    let desk = Desk::new();
    desk.run(
        &on_the_simulator("{ levels: { users: [2], requests: 200 } }", ""),
        &[],
    )
    .with_code(0);
    let compared = |format: &str| {
        let words = [
            "compare",
            "results",
            "results/report.json",
            "--fail-on",
            "worse",
            "--format",
        ];
        desk.tool(&[&words[..], &[format]].concat())
            .with_code(0)
            .out
    };
    let text = compared("text");
    assert!(text.contains("– no difference shown"), "{text}");
    assert!(
        text.contains("hold together with 95 % confidence"),
        "{text}"
    );
    assert!(compared("markdown").contains("| engine/m/chat/l | c2 | ttft.p50 |"));
    assert!(compared("html").contains("no difference shown</span>"));
    let json: serde_json::Value = serde_json::from_str(&compared("json")).unwrap();
    assert_eq!(json["schema"], "scenario.comparison/v1");
    assert_eq!(json["rows"][0]["finding"], "no_difference_shown");
}

#[test]
fn what_says_nothing_about_each_other_is_not_compared() {
    let desk = Desk::new();
    desk.run(
        &on_the_simulator("{ levels: { users: [2], requests: 200 } }", ""),
        &[],
    )
    .with_code(0);
    let digest = desk_digest(&desk);
    altered(&desk, "load.json", &digest, "b3:other");
    altered(
        &desk,
        "measured.json",
        "\"simulated\": true",
        "\"simulated\": false",
    );
    altered(&desk, "stage.json", "\"name\": \"c2\"", "\"name\": \"c3\"");
    altered(
        &desk,
        "cell.json",
        "\"id\": \"engine/m/chat/l\"",
        "\"id\": \"engine/m/chat/k\"",
    );
    altered(&desk, "metrics.json", "\"metrics\": 1", "\"metrics\": 2");
    for (file, reason) in [
        ("load.json", "what is sent differs"),
        ("measured.json", "one is simulated, the other measured"),
        ("stage.json", "the other run has no such stage"),
        (
            "metrics.json",
            "metrics are defined otherwise: version 1 and 2",
        ),
    ] {
        let ended = desk.tool(&["compare", "results", file]).with_code(3);
        assert!(
            ended.out.contains(&format!("? not comparable: {reason}")),
            "{file}: {}",
            ended.out
        );
    }
    // One backend on each side: its name, and so the cell's, does not matter.
    desk.tool(&["compare", "results", "cell.json"]).with_code(0);
}

fn desk_digest(desk: &Desk) -> String {
    let report = std::fs::read_to_string(desk.path("results/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    report["cells"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn numbers_of_too_few_requests_are_shown_and_not_judged() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(BRIEF, ""), &[]).with_code(0);
    let ended = desk.tool(&["compare", "results", "results"]).with_code(0);
    assert!(
        ended
            .out
            .contains("its spread is unknown: too few requests"),
        "{}",
        ended.out
    );
}
