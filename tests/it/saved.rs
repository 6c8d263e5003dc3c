//! What becomes of results after their run: reports made again.

use crate::tool::{Desk, on_the_simulator, verdict};

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
fn a_run_of_an_earlier_version_is_reported_plotted_and_compared() {
    let desk = Desk::new();
    let early = format!("{}/fixtures/runs/early", env!("CARGO_MANIFEST_DIR"));
    let kept = std::fs::read_to_string(format!("{early}/report.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    desk.tool(&["report", &early, "--out", "page"]).with_code(0);
    let again = crate::tool::report(&desk.path("page/report.json"));
    assert_eq!(again["cells"], kept["cells"], "no number has changed");
    assert_eq!(again["verdicts"], kept["verdicts"]);
    let page = std::fs::read_to_string(desk.path("page/report.html")).unwrap();
    assert!(page.contains("id=\"report-data\"") && page.contains("TTFT p95"));
    let words = ["plot", &early, "--out", "drawn", "--format", "svg"];
    desk.tool(&words).with_code(0);
    let svg = std::fs::read_to_string(desk.path("drawn/throughput_m.svg")).unwrap();
    assert!(svg.contains("m - Throughput vs Concurrency (higher is better)"));
    let compared = desk.tool(&["compare", &early, &early]).with_code(0).out;
    for said in [
        "no difference shown",
        "or saved by an earlier version; repeat the run 3 times",
    ] {
        assert!(compared.contains(said), "{compared}");
    }
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

// ---- baselines -------------------------------------------------------------------------------------------------------

const SMALL: &str = "{ levels: { users: [2], requests: 60 } }";
const REGRESSION: &str =
    "slos: { no-regression: P50 TTFT <= baseline + 1000%, slower: mean TPOT >= 50% of baseline }\n";

fn against(more: &str) -> String {
    on_the_simulator(
        SMALL,
        &format!("{REGRESSION}baseline: {{ file: base.json{more} }}\n"),
    )
}

fn saved_baseline(desk: &Desk) {
    desk.run(&on_the_simulator(SMALL, ""), &[]).with_code(0);
    let saved = desk
        .tool(&["baseline", "save", "results", "base.json"])
        .with_code(0);
    assert!(
        saved.out.contains("wrote base.json (simulated)"),
        "{}",
        saved.out
    );
}

#[test]
fn a_run_is_held_to_the_baseline_that_its_scenario_names() {
    let desk = Desk::new();
    saved_baseline(&desk);
    let shown = desk.tool(&["baseline", "show", "base.json"]).with_code(0);
    assert!(
        shown.out.contains("engine/m/chat/l: load b3:"),
        "{}",
        shown.out
    );
    let ended = desk.run(&against(""), &[]).with_code(0);
    let report = ended.report();
    let verdict = verdict(&report, "no-regression[p50] @c2");
    assert_eq!(verdict["status"], "pass");
    let bound = verdict["bound"]["value"].as_f64().unwrap();
    let base = desk_value(&desk, "base.json", "ttft", "p50");
    assert!(
        (bound - 11.0 * base).abs() < 1e-6 * bound,
        "{bound} of {base}"
    );
    // The same engine is not ten times as fast as it was.
    let strict = against("").replace("+ 1000%", "* 0.1");
    desk.run(&strict, &[]).with_code(1);
}

fn desk_value(desk: &Desk, file: &str, metric: &str, stat: &str) -> f64 {
    let report = std::fs::read_to_string(desk.path(file)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    report["cells"][0]["stages"][0]["numbers"]["metrics"][metric][stat]
        .as_f64()
        .unwrap()
}

#[test]
fn a_baseline_that_says_nothing_about_this_run_is_refused() {
    let desk = Desk::new();
    saved_baseline(&desk);
    let (load, measured) = (desk_digest(&desk), "\"simulated\": true");
    let base = std::fs::read_to_string(desk.path("base.json")).unwrap();
    for (from, to, said) in [
        (load.as_str(), "b3:other", "what is sent differs"),
        (
            measured,
            "\"simulated\": false",
            "one is simulated, the other measured",
        ),
        (
            "\"name\": \"c2\"",
            "\"name\": \"c4\"",
            "it has no stage `c2`",
        ),
        ("\"p50\"", "\"p51\"", "it does not tell ttft.p50"),
        (" (simulated)\"", " (other)\"", "the GPU differs ("),
        (
            "\"model\": \"any\"",
            "\"model\": \"other\"",
            "the model differs (other, now any)",
        ),
        (
            "\"failed\": 0",
            "\"failed\": 20",
            "20 of its 60 requests failed, and its latencies are those of the others",
        ),
    ] {
        desk.write("base.json", &base.replace(from, to));
        let in_ci = desk
            .start_run(&against(""), &[], &[("CI", "true")])
            .end()
            .with_code(3);
        let report = in_ci.report();
        let verdict = verdict(&report, "no-regression[p50] @c2");
        assert_eq!(verdict["status"], "inconclusive");
        let text = verdict["reason"]["text"].as_str().unwrap();
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn what_becomes_of_an_unusable_baseline_is_the_scenarios_choice() {
    let desk = Desk::new();
    // At a terminal a missing baseline is a warning, and as nothing else is gated, nothing is shown.
    for (more, level, status) in [
        ("", "warn", "inconclusive"),
        (", missing: fail", "fail", "inconclusive"),
        (", missing: skip", "fail", "skipped"),
    ] {
        let text = against(more).replace("slower", "errors: error rate < 1%, slower");
        let ended = desk.run(&text, &[]);
        let report = ended.report();
        let verdict = verdict(&report, "no-regression[p50] @c2");
        assert_eq!(
            (verdict["level"].as_str(), verdict["status"].as_str()),
            (Some(level), Some(status))
        );
        assert_eq!(
            ended.code,
            Some(if more.contains("fail") { 3 } else { 0 }),
            "{more}"
        );
    }
}

#[test]
fn a_baseline_that_is_not_there_is_told_before_the_load() {
    let desk = Desk::new();
    let told = |text: &str| {
        desk.write("gate.yaml", text);
        desk.tool(&["check", "gate.yaml"]).with_code(0).err
    };
    let unnamed = told(&on_the_simulator(SMALL, REGRESSION));
    assert!(
        unnamed.contains("`no-regression` stands on a baseline, and the scenario names none"),
        "{unnamed}"
    );
    let missing = told(&against(""));
    assert!(
        missing.contains("warning[L044]: there is no baseline at `base.json`"),
        "{missing}"
    );
    assert!(!told(&against(", missing: skip")).contains("L044"));
    desk.write("base.json", "{}");
    assert!(!told(&against("")).contains("L044"));
}

#[test]
fn half_a_run_is_no_baseline() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(SMALL, ""), &["--smoke"])
        .with_code(0);
    let refused = desk
        .tool(&["baseline", "save", "results", "base.json"])
        .with_code(2);
    assert!(
        refused.err.contains("shortened by --smoke"),
        "{}",
        refused.err
    );
    desk.run(&on_the_simulator(SMALL, ""), &[]).with_code(0);
    desk.write("base.json", "");
    let refused = desk
        .tool(&["baseline", "save", "results", "base.json"])
        .with_code(2);
    assert!(refused.err.contains("is there already"), "{}", refused.err);
}

// ---- plots -----------------------------------------------------------------------------------------------------------

const TWO_LEVELS: &str = "{ levels: { users: [2, 4], requests: 20 } }";

#[test]
fn every_plot_of_the_suites_is_drawn_with_title_axes_and_legend() {
    let desk = Desk::new();
    desk.run(
        &on_the_simulator(TWO_LEVELS, "slos: { ttft: P50 TTFT < 5s }\n"),
        &[],
    )
    .with_code(0);
    desk.tool(&["plot", "results", "--format", "svg"])
        .with_code(0);
    for (name, texts) in [
        (
            "throughput_m",
            &[
                "m - Throughput vs Concurrency (higher is better)",
                "Throughput (Tokens/sec)",
                "Concurrency (users)",
                "engine",
            ][..],
        ),
        (
            "throughput_all_combined",
            &["All Models &amp; Backends - Throughput Comparison (higher is better)"],
        ),
        (
            "cross_model_comparison",
            &[
                "Peak Throughput by Model &amp; Backend (higher is better)",
                "Duration (s)",
            ],
        ),
        (
            "latency_heatmap",
            &["ENGINE - E2E Latency (seconds)", "Concurrency", "Model"],
        ),
        (
            "gpu_comparison",
            &["Peak GPU Utilization (higher is better)", "mean power (W)"],
        ),
        (
            "scaling_efficiency",
            &["Scaling Efficiency - TPS per Concurrent Request (higher is better)"],
        ),
        (
            "summary_table",
            &["Benchmark Results Summary (Peak Concurrency)", "Power (W)"],
        ),
        ("throughput_comparison", &["Throughput (tokens/sec)"]),
        (
            "latency_comparison",
            &["Mean TTFT (lower is better)", "E2E (s)"],
        ),
        ("duration_comparison", &["Duration (s)"]),
        ("gpu_utilization", &["GPU utilization (%)"]),
        ("latency_histogram", &["E2E (ms)", "requests"]),
        (
            "gpu_timeseries_engine",
            &[
                "GPU Utilization",
                "GPU Memory Used",
                "GPU Power",
                "GPU Temperature",
            ],
        ),
        (
            "performance_comparison",
            &[
                "LLM Inference Engine Performance Comparison",
                "Peak GPU Memory (lower is better)",
            ],
        ),
        (
            "benchmark_results",
            &[
                "Throughput (requests/sec) (higher is better)",
                "Concurrency Level",
            ],
        ),
        (
            "latency_c2",
            &[
                "Latency Comparison — Concurrency 2 (lower is better)",
                "Latency (ms)",
            ],
        ),
        (
            "latency_c4",
            &["Latency Comparison — Concurrency 4 (lower is better)"],
        ),
        (
            "throughput_scaling",
            &["Throughput Scaling: engine (higher is better)"],
        ),
        (
            "latency_throughput_pareto",
            &["P95 TTFT (ms)", "Throughput (tokens/sec)"],
        ),
        ("slo_heatmap", &["ttft"]),
    ] {
        let svg = std::fs::read_to_string(desk.path(&format!("results/plots/{name}.svg"))).unwrap();
        for text in texts.iter().chain(&["simulated"]) {
            assert!(svg.contains(text), "{name} does not say `{text}`");
        }
    }
}

#[test]
fn plots_are_pictures_and_only_those_that_were_asked_for() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(TWO_LEVELS, ""), &[])
        .with_code(0);
    let words = [
        "plot",
        "results",
        "--only",
        "throughput_m",
        "--out",
        "drawn",
    ];
    desk.tool(&words).with_code(0);
    let files: Vec<_> = std::fs::read_dir(desk.path("drawn")).unwrap().collect();
    assert_eq!(files.len(), 1);
    let png = std::fs::read(desk.path("drawn/throughput_m.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let refused = desk
        .tool(&["plot", "results", "--only", "thruput"])
        .with_code(2);
    assert!(
        refused
            .err
            .contains("no plot is named `thruput`; there are throughput_m,"),
        "{}",
        refused.err
    );
}

// ---- CI --------------------------------------------------------------------------------------------------------------

#[test]
fn in_github_actions_the_job_has_a_summary_and_annotations() {
    let desk = Desk::new();
    let page = desk.write("summary.md", "before\n");
    let text = on_the_simulator(BRIEF, "slos: { ttft: P50 TTFT < 1us }\n");
    let variables = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", page.to_str().unwrap()),
    ];
    let ended = desk.start_run(&text, &[], &variables).end().with_code(1);
    let line = text
        .lines()
        .position(|line| line.starts_with("slos:"))
        .unwrap()
        + 1;
    let command = format!("::error file=trial.yaml,line={line},title=ttft (simulated)::✗ ");
    assert!(ended.err.contains(&command), "{}", ended.err);
    let summary = std::fs::read_to_string(&page).unwrap();
    assert!(
        summary.starts_with("before\n## trial: failed (simulated)"),
        "{summary}"
    );
}
