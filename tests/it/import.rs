//! `scenario import`: what other tools' files tell, and what of it cannot be believed.

use serde_json::Value;

use crate::tool::Desk;

fn fixture(name: &str) -> String {
    format!("{}/fixtures/imports/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The report of these files, and what was printed.
fn imported(files: &[&str], code: i32) -> (Value, String) {
    let desk = Desk::new();
    let mut words = vec!["import".to_owned(), "--out".to_owned(), "kept".to_owned()];
    words.extend(files.iter().map(|file| match file.split_once('=') {
        Some((name, file)) => format!("{name}={}", fixture(file)),
        None => fixture(file),
    }));
    let ended = desk.tool(&words).with_code(code);
    let text = std::fs::read_to_string(desk.path("kept/report.json")).unwrap();
    (serde_json::from_str(&text).unwrap(), ended.out)
}

fn stat(report: &Value, stage: usize, metric: &str, stat: &str) -> f64 {
    let value = &report["cells"][0]["stages"][stage]["numbers"]["metrics"][metric][stat];
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{metric} {stat}: {value}"))
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-3 * other.abs()
}

#[test]
fn each_tool_s_numbers_arrive_under_our_names_and_units() {
    let (vllm, _) = imported(&["vllm.json"], 0);
    assert_eq!(vllm["cells"][0]["id"], "engine/m/prompts/imported");
    assert_eq!(vllm["cells"][0]["stages"][0]["name"], "c8");
    assert!(near(stat(&vllm, 0, "ttft", "p95"), 52.5486), "{vllm:#}");
    assert!(near(stat(&vllm, 0, "e2e", "mean"), 86.5585));
    assert!(near(stat(&vllm, 0, "output_tps", "value"), 2095.257));
    let (guidellm, _) = imported(&["guidellm.json"], 3);
    let stages: Vec<&Value> = guidellm["cells"][0]["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| &stage["name"])
        .collect();
    assert_eq!(stages, ["c4", "c8"]);
    assert!(
        near(stat(&guidellm, 0, "e2e", "p50"), 69.92),
        "seconds became milliseconds"
    );
    for file in ["aiperf.json", "aiperf.csv"] {
        let (aiperf, _) = imported(&[file], if file.ends_with("json") { 3 } else { 0 });
        let mean = stat(&aiperf, 0, "e2e", "mean");
        let rate = stat(&aiperf, 0, "rps", "value");
        let seen = stat(&aiperf, 0, "achieved_concurrency", "mean");
        assert!(
            (mean * rate / 1e3 / seen - 1.0).abs() < 0.05,
            "{file}: {mean} {rate} {seen}"
        );
        assert!(stat(&aiperf, 0, "ttft", "p50") < mean);
    }
    let (suite, _) = imported(&["suite-000-vllm.json"], 0);
    assert_eq!(suite["cells"][0]["id"], "vllm/model/sharegpt-data/imported");
    assert!(near(stat(&suite, 0, "gpu.util", "mean"), 0.633));
    assert!(near(stat(&suite, 0, "gpu.power", "mean"), 230.2));
    assert_eq!(
        suite["environment"]["gpus"][0]["name"],
        "NVIDIA A100-SXM4-80GB"
    );
    let (suite, _) = imported(&["suite-004.json"], 3);
    let ids: Vec<&Value> = suite["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| &cell["id"])
        .collect();
    assert_eq!(
        ids,
        ["vllm/model/long/imported", "sglang/model/long/imported"]
    );
}

#[test]
fn what_contradicts_itself_is_said_with_its_numbers() {
    for (file, said) in [
        (
            "impossible.json",
            "✗ Little's law: concurrency = rate × mean latency: 45 req/s × 1200ms = 54 requests in flight, and 32 is the most",
        ),
        (
            "vllm-failed.json",
            "all 8 requests failed: there is no latency and no throughput",
        ),
        (
            "contradictory.json",
            "✗ throughput = tokens ÷ time: 6400 tok/s told, 64000 tokens ÷ 20s = 3200 tok/s",
        ),
        (
            "contradictory.json",
            "✗ percentiles rise: ttft: p50 540 lies above p99 500",
        ),
        (
            "suite-000-sglang.json",
            "TTFT is 10% of E2E in each of 48 requests: it was computed, not seen",
        ),
        (
            "suite-004.json",
            "✗ enough requests to rank by: 9 requests were answered, 30 are needed",
        ),
        (
            "suite-004.json",
            "! percentiles have samples beyond them: P95 and P99 of 9 samples is nothing but the largest",
        ),
        (
            "suite-004.json",
            "the file has no wall time: its tokens per second are tokens ÷ the sum of all latencies",
        ),
    ] {
        let (report, out) = imported(&[file], 3);
        assert!(out.contains(said), "{file}: {said}\n{out}");
        assert_eq!(report["status"], "inconclusive", "{file}");
        assert_eq!(report["exit_code"], 3);
    }
}

#[test]
fn a_run_that_failed_has_no_numbers_whatever_zeros_its_file_has() {
    let (report, _) = imported(&["vllm-failed.json"], 3);
    let numbers = &report["cells"][0]["stages"][0]["numbers"];
    let metrics: Vec<&String> = numbers["metrics"].as_object().unwrap().keys().collect();
    assert_eq!(metrics, ["error_rate"]);
    assert_eq!((&numbers["ok"], &numbers["failed"]), (&0.into(), &8.into()));
}

#[test]
fn what_cannot_be_believed_is_not_ranked() {
    let (report, _) = imported(
        &[
            "a=vllm-detailed.json",
            "b=vllm.json",
            "c=impossible.json",
            "d=vllm-failed.json",
        ],
        3,
    );
    let ranking = &report["ranking"];
    let ranked = |backend: &str| {
        let engines = ranking["engines"].as_array().unwrap();
        let engine = engines
            .iter()
            .find(|engine| engine["backend"] == backend)
            .unwrap();
        engine["ranked"].as_bool().unwrap()
    };
    assert!(!ranked("c") && !ranked("d"), "{ranking:#}");
    let reasons: Vec<String> = ranking["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!(
                "{}: {}",
                one["backend"].as_str().unwrap(),
                one["reason"].as_str().unwrap()
            )
        })
        .collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.starts_with("c: guard:littles_law tripped: Little's law")),
        "{reasons:#?}"
    );
    assert!(
        reasons.contains(&"d: no request of 8 was answered".to_owned()),
        "{reasons:#?}"
    );
}

#[test]
fn too_few_samples_are_not_ranked() {
    let (report, _) = imported(&["suite-004.json"], 3);
    let ranking = &report["ranking"];
    let engines = ranking["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 2);
    assert!(engines.iter().all(|engine| engine["ranked"] == false));
    assert_eq!(ranking["overall"]["standings"], serde_json::json!([]));
    let reason = ranking["left_out"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("9 requests were answered, 30 are needed"),
        "{reason}"
    );
}

#[test]
fn two_results_with_their_requests_are_ranked() {
    let (report, out) = imported(&["suite-000-vllm.json", "other=suite-000-vllm.json"], 0);
    let ranking = &report["ranking"];
    assert_eq!(ranking["engines"][0]["ranked"], true, "{out}");
    assert_eq!(
        ranking["overall"]["winner"],
        Value::Null,
        "it is one file twice"
    );
    assert_eq!(ranking["overall"]["standings"][1]["rank"], 1);
}

#[test]
fn imported_results_are_compared_and_doubted_ones_are_not() {
    let desk = Desk::new();
    for (name, file) in [
        ("one", "suite-000-vllm.json"),
        ("two", "suite-000-sglang.json"),
    ] {
        desk.tool(&["import", "--out", name, &fixture(file)]);
    }
    let ended = desk
        .tool(&["compare", "one", "one", "--verbose"])
        .with_code(0);
    assert!(
        ended.out.contains("e2e.p50") && ended.out.contains("no difference shown"),
        "{}",
        ended.out
    );
    let ended = desk.tool(&["compare", "one", "two"]).with_code(3);
    assert!(
        ended
            .out
            .contains("not comparable: guard:first_token tripped in the other run"),
        "{}",
        ended.out
    );
    // A file of another tool can be given as it is.
    let direct = desk
        .tool(&["compare", "one", &fixture("suite-000-vllm.json")])
        .with_code(0);
    assert!(direct.out.contains("no difference shown"), "{}", direct.out);
}

#[test]
fn three_runs_of_one_load_are_its_repeats() {
    let (report, _) = imported(&["vllm.json", "vllm.json", "vllm-detailed.json"], 0);
    let stage = &report["cells"][0]["stages"][0];
    assert_eq!(stage["repeats"].as_array().unwrap().len(), 3);
    assert_eq!(stage["numbers"]["ok"], 192);
    assert_eq!(report["repeats"], 3);
}

#[test]
fn why_a_file_tells_no_spread_is_told() {
    let desk = Desk::new();
    let file = fixture("vllm.json");
    let ended = desk.tool(&["compare", &file, &file]);
    assert!(
        ended
            .out
            .contains("its spread is unknown: the file does not tell each of enough requests; import 3 repeats of it"),
        "{}",
        ended.out
    );
}

#[test]
fn a_file_without_a_measurement_is_no_result() {
    let desk = Desk::new();
    let none = r#"{ "metadata": { "guidellm_version": "0.5.3" }, "benchmarks": [] }"#;
    for (name, text) in [("guidellm.json", none), ("suite.json", r#"{ "vllm": [] }"#)] {
        desk.write(name, text);
        let ended = desk.tool(&["import", name]).with_code(2);
        assert!(
            ended
                .err
                .contains("cannot be imported: it holds no measurement"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn what_is_no_result_is_told_so() {
    let desk = Desk::new();
    desk.write("none.json", "[1, 2]");
    desk.write("torn.json", "{ \"duration\": 1,");
    desk.write(
        "empty.json",
        "{ \"duration\": \"soon\", \"request_throughput\": 1, \"completed\": 2 }",
    );
    desk.write("other.csv", "a,b\n1,2\n");
    for (file, said) in [
        (
            "none.json",
            "`none.json` cannot be imported: its format is not known; suites 000 and 004",
        ),
        ("torn.json", "it is neither JSON nor a CSV of AIPerf"),
        ("empty.json", "it has no number `duration`"),
        ("other.csv", "it is neither JSON nor a CSV of AIPerf"),
        ("absent.json", "cannot read `absent.json`"),
    ] {
        let ended = desk.tool(&["import", file]).with_code(2);
        assert!(ended.err.contains(said), "{file}: {}", ended.err);
    }
}
