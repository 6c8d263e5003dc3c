//! The result files of engines' own serving benchmarks, under our names.

use serde_json::{Map, Value};

/// What `vllm bench serve` and SGLang's `bench_serving` call what both have.
const SERVING: [(&str, &str); 9] = [
    ("requests", "completed"),
    ("duration_s", "duration"),
    ("rps", "request_throughput"),
    ("output_tps", "output_throughput"),
    ("input_tps", "input_throughput"),
    ("total_tps", "total_token_throughput"),
    ("total_tps", "total_throughput"),
    ("input_tokens", "total_input_tokens"),
    ("output_tokens", "total_output_tokens"),
];
/// Their latencies: `mean_ttft_ms`, `p99_itl_ms`.
const LATENCIES: [(&str, &str); 5] = [
    ("ttft", "ttft"),
    ("tpot", "tpot"),
    ("itl", "itl"),
    ("e2e", "e2el"),
    ("e2e", "e2e_latency"),
];

/// What such a file tells, under our names: `rps`, `ttft_ms_p99`.
pub fn values(results: &Map<String, Value>) -> Vec<(String, f64)> {
    let mut values: Vec<(String, f64)> = SERVING
        .iter()
        .filter_map(|(ours, theirs)| {
            let value = results.get(*theirs)?.as_f64()?;
            Some(((*ours).to_owned(), value))
        })
        .collect();
    for (key, value) in results {
        let Some((stat, rest)) = key.strip_suffix("_ms").and_then(|key| key.split_once('_')) else {
            continue;
        };
        let latency = LATENCIES.iter().find(|(_, theirs)| *theirs == rest);
        if let (Some((ours, _)), Some(value)) = (latency, value.as_f64()) {
            values.push((format!("{ours}_ms_{}", statistic(stat)), value));
        }
    }
    values
}

/// The name of a statistic here.
pub fn statistic(theirs: &str) -> &str {
    match theirs {
        "median" => "p50",
        "average" => "mean",
        "minimum" => "min",
        "maximum" => "max",
        other => other,
    }
}
