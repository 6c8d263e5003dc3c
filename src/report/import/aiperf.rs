//! AIPerf's `profile_export_aiperf.json` and `.csv`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::found::{Format, Found};
use super::read::{Object, ReadError, count, number, stem, text};

/// Our metric, the name in JSON, and the name in the CSV.
const TRENDS: [(&str, &str, &str); 6] = [
    ("ttft", "time_to_first_token", "Time to First Token (ms)"),
    ("e2e", "request_latency", "Request Latency (ms)"),
    ("tpot", "inter_token_latency", "Inter Token Latency (ms)"),
    ("icl", "inter_chunk_latency", "Inter Chunk Latency (ms)"),
    (
        "output_tokens",
        "output_sequence_length",
        "Output Sequence Length (tokens)",
    ),
    (
        "input_tokens",
        "input_sequence_length",
        "Input Sequence Length (tokens)",
    ),
];
/// Values of the whole run.
const TOTALS: [(&str, &str, &str); 7] = [
    (
        "rps",
        "request_throughput",
        "Request Throughput (requests/sec)",
    ),
    (
        "output_tps",
        "output_token_throughput",
        "Output Token Throughput (tokens/sec)",
    ),
    ("ok", "request_count", "Request Count"),
    ("failed", "error_request_count", "Error Request Count"),
    ("duration", "benchmark_duration", "Benchmark Duration (sec)"),
    (
        "output",
        "total_osl",
        "Total Output Sequence Length (tokens)",
    ),
    ("input", "total_isl", "Total Input Sequence Length (tokens)"),
];
/// Our statistic and theirs.
const STATS: [(&str, &str); 8] = [
    ("mean", "avg"),
    ("min", "min"),
    ("max", "max"),
    ("std", "std"),
    ("p50", "p50"),
    ("p90", "p90"),
    ("p95", "p95"),
    ("p99", "p99"),
];

pub(super) fn json(top: &Object) -> Result<Found, ReadError> {
    let metric = |name: &str| top.get(name).and_then(Value::as_object);
    let mut found = told(
        |_, name, stat| number(metric(name)?, stat),
        |_, name| number(metric(name)?, "avg"),
    )?;
    found.version = text(top, "aiperf_version");
    let config = |path: &str| {
        top.get("input_config")
            .and_then(|config| config.pointer(path))
    };
    let said = |path: &str| config(path).and_then(Value::as_str).map(str::to_owned);
    found.model = said("/models/items/0/name").unwrap_or_else(|| "model".to_owned());
    found.prompts = said("/datasets/0/path").map_or("prompts".to_owned(), |path| stem(&path));
    let phases = config("/phases").and_then(Value::as_array);
    let phases = phases.map_or(Vec::new(), |all| {
        all.iter().filter_map(Value::as_object).collect()
    });
    let measured = phases
        .iter()
        .find(|phase| text(phase, "kind").as_deref() == Some("profiling"));
    if let Some(phase) = measured.or(phases.last()) {
        found.users = count(phase, "concurrency").map(|users| users as u32);
        found.rate = number(phase, "request_rate").or(number(phase, "rate"));
        found.planned = found.planned.max(count(phase, "requests").unwrap_or(0));
    }
    found.concurrency = metric("effective_concurrency").and_then(|told| number(told, "avg"));
    Ok(found)
}

/// The CSV: tables with a head each, blank lines between them. It tells neither the model nor the load.
pub(super) fn csv(text: &str) -> Result<Found, ReadError> {
    let mut values: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    let mut head: Vec<String> = Vec::new();
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    for row in reader.records() {
        let row = row.map_err(|error| ReadError(format!("its CSV is damaged: {error}")))?;
        let cells: Vec<&str> = row.iter().collect();
        match cells.first() {
            Some(&"Metric") => head = cells.iter().map(|cell| (*cell).to_owned()).collect(),
            // Tables of GPUs follow, with other heads.
            Some(&"Endpoint") => break,
            Some(name) => {
                let own = values.entry((*name).to_owned()).or_default();
                for (stat, cell) in head.iter().zip(&cells).skip(1) {
                    own.extend(cell.parse().ok().map(|value| (stat.clone(), value)));
                }
            }
            None => {}
        }
    }
    let of = |name: &str, stat: &str| values.get(name)?.get(stat).copied();
    let mut found = told(|name, _, stat| of(name, stat), |name, _| of(name, "Value"))?;
    found.model = "model".to_owned();
    found.prompts = "prompts".to_owned();
    found.concurrency = of("Effective Concurrency", "avg");
    Ok(found)
}

/// What both files tell: `trend` and `total` are asked by the name in the CSV and the one in JSON.
fn told(
    trend: impl Fn(&str, &str, &str) -> Option<f64>,
    total: impl Fn(&str, &str) -> Option<f64>,
) -> Result<Found, ReadError> {
    let mut found = Found::new(Format::Aiperf);
    found.backend = "engine".to_owned();
    for (ours, json, csv) in TRENDS {
        for (stat, theirs) in STATS {
            found.keep(ours, stat, trend(csv, json, theirs));
        }
    }
    let total = |wanted: &str| {
        let known = TOTALS.iter().find(|(ours, ..)| *ours == wanted);
        known.and_then(|(_, json, csv)| total(csv, json))
    };
    found.keep("rps", "value", total("rps"));
    found.keep("output_tps", "value", total("output_tps"));
    found.ok = total("ok").map(|n| n as u64);
    found.failed = total("failed").map(|n| n as u64).or(Some(0));
    found.duration_s = total("duration");
    found.output_tokens = total("output");
    found.input_tokens = total("input");
    found.planned = found.ok.unwrap_or(0) + found.failed.unwrap_or(0);
    if found.ok.is_none() && found.metrics.is_empty() {
        return Err(ReadError("it has no metrics".to_owned()));
    }
    Ok(found)
}
