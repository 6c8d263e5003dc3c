//! A run in the files of the public suites, and under the definitions of other tools.

use std::path::Path;

use serde_json::Value;

use crate::tool::{CALM, Desk, verdict};

fn two_engines(desk: &Desk) {
    let scenario = format!(
        "version: 1\nname: trial\nbackends:\n  vllm: {{ kind: simulator, preset: fast }}\n  tensorrt-llm: {{ kind: simulator, preset: fast }}\n\
         models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: [2, 4], requests: 12 }} }} }}\nrequest: {{ max_tokens: 8 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\ntelemetry: {{ every: 10ms }}\n{CALM}"
    );
    desk.run(&scenario, &[]);
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn each_suite_gets_its_files_with_its_columns() {
    let desk = Desk::new();
    two_engines(&desk);
    let words = [
        "report",
        "results",
        "--compat",
        "suite-000,suite-001,suite-002,suite-004",
    ];
    desk.tool(&words).with_code(0);
    let folder = desk.path("results/compat");

    let suite = folder.join("suite-000");
    let all = files(&suite);
    assert_eq!(all.len(), 12, "{all:?}");
    let place = "vllm/m-concurrency-4/";
    let own: Vec<&String> = all.iter().filter(|name| name.starts_with(place)).collect();
    assert_eq!(own.len(), 3, "{all:?}");
    let summary = std::fs::read_to_string(suite.join(place).join("benchmark_summary.csv")).unwrap();
    assert!(
        summary.starts_with("timestamp,backend,concurrency,total_requests,duration_sec,ttft_mean_ms,ttft_p99_ms,e2e_mean_ms,"),
        "{summary}"
    );
    assert_eq!(summary.lines().next().unwrap().split(',').count(), 25);
    let requests = own
        .iter()
        .find(|name| name.ends_with("_requests.csv"))
        .unwrap();
    let requests = std::fs::read_to_string(suite.join(requests)).unwrap();
    assert_eq!(
        requests.lines().next(),
        Some("request_id,input_tokens,output_tokens,ttft_ms,e2e_ms,tpot_ms")
    );
    assert_eq!(requests.lines().count(), 13);
    let result = own.iter().find(|name| name.ends_with(".json")).unwrap();
    let result = json(&suite.join(result));
    assert_eq!(result["metadata"]["concurrency"], 4);
    assert_eq!(result["per_request"].as_array().unwrap().len(), 12);
    assert!(
        result["gpu"]["gpu_util_mean"].as_f64().unwrap() > 1.0,
        "percent: {:#}",
        result["gpu"]
    );

    let suite = folder.join("suite-001");
    assert_eq!(
        files(&suite),
        [
            "benchmark_report.txt",
            "benchmark_results.csv",
            "benchmark_summary.json",
            "environment_info.json",
            "final_report.csv",
            "performance_rankings.csv",
            "tensorrtllm_results.json",
            "vllm_results.json"
        ]
    );
    let table = std::fs::read_to_string(suite.join("benchmark_results.csv")).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(
        rows[0],
        "Engine,Status,Throughput (tokens/sec),Latency P50 (ms),Latency P95 (ms),Latency Mean (ms),GPU Utilization (%),GPU Memory Peak (%),Total Requests,Error"
    );
    assert!(
        rows[1].starts_with("vllm,Success,") && rows.len() == 3,
        "{table}"
    );
    let engine = json(&suite.join("vllm_results.json"));
    let (p50, max) = (
        &engine["latency_statistics"]["p50"],
        &engine["latency_statistics"]["max"],
    );
    assert!(
        p50.as_f64() <= max.as_f64() && max.as_f64() < Some(60.0),
        "seconds: {engine:#}"
    );

    let suite = folder.join("suite-002");
    let all = files(&suite);
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(
        all.iter()
            .any(|name| name.starts_with("vllm_m_qps") && name.contains("_conc4_")),
        "{all:?}"
    );
    let lines = std::fs::read_to_string(suite.join(&all[0])).unwrap();
    assert_eq!(lines.lines().count(), 12);
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 6, "{keys:?}");

    let suite = folder.join("suite-004");
    let all = files(&suite);
    assert!(
        all.len() == 1 && all[0].starts_with("benchmark_"),
        "{all:?}"
    );
    let engines = json(&suite.join(&all[0]));
    assert_eq!(engines["vllm"].as_array().unwrap().len(), 2);
    assert_eq!(engines["vllm"][1]["latency"]["count"], 12);
}

/// A level that comes twice has two files, and each repeat its own.
#[test]
fn no_file_of_a_suite_hides_another() {
    let desk = Desk::new();
    let stage = |name: &str, users: u32| format!("{{ name: {name}, users: {users}, for: 300ms }}");
    let stages = [stage("before", 2), stage("spike", 3), stage("after", 2)].join(", ");
    let load = format!("{{ stages: [{stages}] }}");
    let more = "run: { warmup: 0s, cooldown: 0s, repeats: 2 }\n";
    let text = crate::tool::on_the_simulator(&load, more);
    let ran = desk.run(&text, &["--compat", "suite-000,suite-001,suite-002"]);
    let suites = desk.path("results/compat");
    let all = files(&suites.join("suite-000"));
    assert_eq!(all.len(), 18, "{all:?}");
    for end in [
        "_before_r1.json",
        "_after_r2.json",
        "_r1.json",
        "_before_r2_requests.csv",
    ] {
        assert!(all.iter().any(|name| name.ends_with(end)), "{end}: {all:?}");
    }
    let all = files(&suites.join("suite-002"));
    assert_eq!(all.len(), 6, "{all:?}");
    // Suite 001 has one line for an engine: the highest level over its repeats.
    let told = json(&suites.join("suite-001/engine_results.json"));
    let spike = &ran.report()["cells"][0]["stages"][1]["numbers"];
    assert_eq!(told["total_requests"], spike["planned"]);
    assert_eq!(
        told["throughput_tokens_per_second"],
        spike["metrics"]["output_tps"]["value"]
    );
}

/// An answer without tokens makes no sum of less, and a GPU without a size has not 0 of it.
#[test]
fn what_is_not_known_is_null_and_no_zero() {
    let desk = Desk::new();
    let text = crate::tool::on_the_simulator("{ levels: { users: [1], requests: 4 } }", "");
    desk.run(&text, &[]).with_code(0);
    let told = || {
        let suite = desk.path("results/compat/suite-004");
        desk.tool(&["report", "results", "--compat", "suite-004"])
            .with_code(0);
        let engines = json(&suite.join(&files(&suite)[0]));
        engines["engine"][0].clone()
    };
    let whole = told();
    assert_eq!(whole["throughput"]["total_tokens"], 16);
    assert!(whole["throughput"]["avg_tokens_per_sec"].as_f64() > Some(0.0));
    let table = desk.path("results/requests.csv");
    let text = std::fs::read_to_string(&table).unwrap();
    std::fs::write(&table, text.replacen(",4,usage,", ",,usage,", 1)).unwrap();
    let path = desk.path("results/report.json");
    let mut report = crate::tool::report(&path);
    report["environment"]["gpus"] = Value::Array(Vec::new());
    // So short a run has no sample of a GPU; any numbers do.
    let metrics = &mut report["cells"][0]["stages"][0]["numbers"]["metrics"];
    metrics["gpu.memory_used"] = metrics["e2e"].clone();
    std::fs::write(&path, report.to_string()).unwrap();
    let part = told();
    assert_eq!(part["throughput"]["total_requests"], 4);
    assert_eq!(part["throughput"]["total_tokens"], Value::Null, "{part:#}");
    assert_eq!(part["throughput"]["avg_tokens_per_sec"], Value::Null);
    assert!(part["gpu_memory_mb"][0].as_f64() > Some(0.0), "{part:#}");
    assert_eq!(part["gpu_memory_mb"][1], Value::Null);
}

#[test]
fn what_is_written_for_a_suite_is_read_again_with_the_same_numbers() {
    let desk = Desk::new();
    two_engines(&desk);
    desk.tool(&["report", "results", "--compat", "suite-000"])
        .with_code(0);
    let suite = desk.path("results/compat/suite-000");
    let name = files(&suite)
        .into_iter()
        .find(|name| name.starts_with("vllm/m-concurrency-4") && name.ends_with(".json"));
    let file = suite.join(name.unwrap()).display().to_string();
    desk.tool(&["import", &file, "--out", "back"]);
    let back = json(&desk.path("back/report.json"));
    let ours = json(&desk.path("results/report.json"));
    assert_eq!(
        back["cells"][0]["model"], "m",
        "the model is in the folder's name"
    );
    let value = |report: &Value, stage: usize, metric: &str, stat: &str| {
        report["cells"][0]["stages"][stage]["numbers"]["metrics"][metric][stat]
            .as_f64()
            .unwrap()
    };
    // Flows are the suite's: over the whole stage, as everything else that they are held against there.
    let theirs = &ours["cells"][0]["stages"][1]["numbers"]["compat"]["vllm"];
    let whole = |name: &str| theirs[name].as_f64().unwrap();
    for (metric, stat, other) in [
        ("ttft", "mean", value(&ours, 1, "ttft", "mean")),
        ("e2e", "mean", value(&ours, 1, "e2e", "mean")),
        ("tpot", "mean", value(&ours, 1, "tpot", "mean")),
        ("output_tps", "value", whole("output_throughput")),
        ("rps", "value", whole("request_throughput")),
    ] {
        let one = value(&back, 0, metric, stat);
        assert!(
            (one - other).abs() <= 1e-9 * other,
            "{metric} {stat}: {one} {other}"
        );
    }
    for guard in ["guard:request_rate", "guard:throughput", "guard:failures"] {
        let told = verdict(&back, &format!("{guard} @c4"));
        assert_eq!(told["status"], "pass", "{told:#}");
    }
    assert_eq!(back["simulated"], true);
}

#[test]
fn a_run_writes_them_too_and_a_run_without_requests_says_what_is_missing() {
    let desk = Desk::new();
    let text = crate::tool::on_the_simulator("{ levels: { users: [2], requests: 12 } }", "");
    desk.run(&text, &["--compat", "suite-004"]).with_code(0);
    assert_eq!(files(&desk.path("results/compat")).len(), 1);
    std::fs::remove_file(desk.path("results/requests.csv")).unwrap();
    let ended = desk
        .tool(&["report", "results", "--compat", "suite-000"])
        .with_code(2);
    assert!(
        ended.err.contains("cannot read `results/requests.csv`"),
        "{}",
        ended.err
    );
}

#[test]
fn other_tools_definitions_stand_beside_ours() {
    let desk = Desk::new();
    let text = crate::tool::on_the_simulator("{ levels: { users: [2], requests: 12 } }", "");
    let ran = desk.run(&text, &[]).with_code(0);
    let theirs = &ran.report()["cells"][0]["stages"][0]["numbers"]["compat"];
    // They know no steady window: it is the mean of every request.
    let table = ran.text("requests.csv");
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let column = rows
        .headers()
        .unwrap()
        .iter()
        .position(|name| name == "ttft_ms")
        .unwrap();
    let ttfts: Vec<f64> = rows
        .records()
        .map(|row| row.unwrap()[column].parse().unwrap())
        .collect();
    let mean = ttfts.iter().sum::<f64>() / ttfts.len() as f64;
    let aiperf = theirs["aiperf"]["time_to_first_token.avg"]
        .as_f64()
        .unwrap();
    assert!((mean - aiperf).abs() < 1e-5, "{mean} {aiperf}");
    // A role-only event comes before the first token, and vLLM's client counts to it.
    assert!(theirs["vllm"]["mean_ttft_ms"].as_f64().unwrap() <= aiperf);
    assert!(
        theirs["guidellm"]["request_latency.mean"].as_f64().unwrap() * 1e3
            >= theirs["aiperf"]["request_latency.avg"].as_f64().unwrap()
    );
}

#[test]
fn a_saved_run_is_ranked_by_other_weights() {
    let desk = Desk::new();
    two_engines(&desk);
    desk.tool(&[
        "report",
        "results",
        "--out",
        "again",
        "--weights",
        "ttft_p95=3,throughput=1",
    ])
    .with_code(0);
    let weights = &json(&desk.path("again/report.json"))["ranking"]["weights"];
    assert_eq!(
        (&weights["ttft_p95"], &weights["throughput"]),
        (&0.75.into(), &0.25.into())
    );
    for (words, said) in [
        (
            "speed=1",
            "`speed` is nothing to rank by; there are throughput, latency_p50",
        ),
        ("throughput=-1", "`-1` is no weight"),
        ("throughput", "`throughput` has no weight"),
        ("throughput=0", "at least one weight has to be above 0"),
    ] {
        let ended = desk
            .tool(&["report", "results", "--weights", words])
            .with_code(2);
        assert!(ended.err.contains(said), "{words}: {}", ended.err);
    }
}
