//! guidellm's JSON: a list of benchmarks, each with its strategy, metrics and requests.

use serde_json::Value;

use super::found::{Format, Found, Request};
use super::read::{Object, ReadError, count, number, object, stem, text};

pub(super) fn read(top: &Object) -> Result<Vec<Found>, ReadError> {
    let version = text(object(top, "metadata")?, "guidellm_version");
    let data = top
        .get("config")
        .and_then(|config| config.pointer("/spec/data/0/path"))
        .and_then(Value::as_str)
        .map_or("prompts".to_owned(), stem);
    let benchmarks = top.get("benchmarks").and_then(Value::as_array);
    let benchmarks = benchmarks.ok_or(ReadError("it has no list `benchmarks`".to_owned()))?;
    let found = benchmarks.iter().filter_map(Value::as_object).map(|one| {
        let mut found = benchmark(one)?;
        found.version.clone_from(&version);
        found.prompts.clone_from(&data);
        Ok(found)
    });
    found.collect()
}

fn benchmark(one: &Object) -> Result<Found, ReadError> {
    let (config, metrics) = (object(one, "config")?, object(one, "metrics")?);
    let strategy = object(config, "strategy")?;
    let mut found = Found::new(Format::Guidellm);
    found.backend = "engine".to_owned();
    let backend = config.get("backend").and_then(Value::as_object);
    found.model = backend
        .and_then(|backend| text(backend, "model"))
        .unwrap_or_else(|| "model".to_owned());
    match text(strategy, "type_").as_deref() {
        Some("synchronous") => found.users = Some(1),
        Some("concurrent") => found.users = count(strategy, "streams").map(|users| users as u32),
        Some("constant" | "poisson") => found.rate = number(strategy, "rate"),
        _ => {}
    }
    found.duration_s = number(one, "duration");
    let totals = object(metrics, "request_totals")?;
    found.ok = count(totals, "successful");
    found.failed = count(totals, "errored");
    found.planned = count(totals, "total").unwrap_or(0);
    let answered = |metric: &str| {
        let metric = metrics.get(metric)?.get("successful")?.as_object();
        metric.filter(|metric| count(metric, "count").is_some_and(|n| n > 0))
    };
    found.concurrency = answered("request_concurrency").and_then(|m| number(m, "mean"));
    found.output_tokens = answered("output_token_count").and_then(|m| number(m, "total_sum"));
    found.input_tokens = answered("prompt_token_count").and_then(|m| number(m, "total_sum"));
    for (metric, theirs, scale) in [
        ("ttft", "time_to_first_token_ms", 1.0),
        ("e2e", "request_latency", 1e3),
        ("itl", "inter_token_latency_ms", 1.0),
        ("output_tokens", "output_token_count", 1.0),
        ("input_tokens", "prompt_token_count", 1.0),
    ] {
        let Some(told) = answered(theirs) else {
            continue;
        };
        for (stat, key) in [
            ("mean", "mean"),
            ("min", "min"),
            ("max", "max"),
            ("std", "std_dev"),
        ] {
            found.keep(metric, stat, number(told, key).map(|value| value * scale));
        }
        let percentiles = told.get("percentiles").and_then(Value::as_object);
        for stat in ["p50", "p90", "p95", "p99"] {
            let value = percentiles.and_then(|all| number(all, stat));
            found.keep(metric, stat, value.map(|value| value * scale));
        }
    }
    for (metric, theirs) in [
        ("rps", "requests_per_second"),
        ("output_tps", "output_tokens_per_second"),
        ("total_tps", "tokens_per_second"),
    ] {
        found.keep(
            metric,
            "value",
            answered(theirs).and_then(|m| number(m, "mean")),
        );
    }
    found.requests = requests(one);
    // Its time per output token is latency ÷ tokens; what we call TPOT is its inter-token latency of a request.
    let tpots: Vec<f64> = found
        .requests
        .iter()
        .filter_map(|request| request.tpot_ms)
        .collect();
    if !tpots.is_empty() {
        found.keep(
            "tpot",
            "mean",
            Some(tpots.iter().sum::<f64>() / tpots.len() as f64),
        );
    }
    Ok(found)
}

fn requests(one: &Object) -> Vec<Request> {
    let rows = one
        .get("requests")
        .and_then(|requests| requests.get("successful"));
    let rows: Vec<&Object> = rows.and_then(Value::as_array).map_or(Vec::new(), |rows| {
        rows.iter().filter_map(Value::as_object).collect()
    });
    let starts = rows
        .iter()
        .filter_map(|row| number(row, "request_start_time"));
    let first = starts.fold(f64::INFINITY, f64::min);
    rows.into_iter()
        .map(|row| Request {
            start_s: number(row, "request_start_time").map(|start| start - first),
            ttft_ms: number(row, "time_to_first_token_ms"),
            e2e_ms: number(row, "request_latency").map(|seconds| seconds * 1e3),
            tpot_ms: number(row, "inter_token_latency_ms"),
            output_tokens: number(row, "output_tokens"),
        })
        .collect()
}
