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
