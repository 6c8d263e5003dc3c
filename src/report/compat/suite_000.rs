//! Suite 000: `{backend}/{model}-concurrency-{N}/{backend}_{time}.json`, beside it the requests and a summary as CSV.

use serde_json::{Value, json};

use super::{MEBIBYTE, Measured, Row, cell_text, folder, measured, pretty, stamp, table};
use crate::report::charts::{Charts, RunCharts};
use crate::report::model::Report;

const SUMMARY: [&str; 25] = [
    "timestamp",
    "backend",
    "concurrency",
    "total_requests",
    "duration_sec",
    "ttft_mean_ms",
    "ttft_p99_ms",
    "e2e_mean_ms",
    "e2e_p99_ms",
    "itl_mean_ms",
    "itl_p99_ms",
    "tpot_mean_ms",
    "system_tps",
    "system_rps",
    "prefill_speed",
    "gpu_name",
    "gpu_util_mean",
    "gpu_util_max",
    "mem_used_mean_mb",
    "mem_used_max_mb",
    "mem_total_mb",
    "power_mean_w",
    "power_max_w",
    "temp_mean_c",
    "temp_max_c",
];
const REQUESTS: [&str; 6] = [
    "request_id",
    "input_tokens",
    "output_tokens",
    "ttft_ms",
    "e2e_ms",
    "tpot_ms",
];

pub(super) fn files(report: &Report, charts: &Charts, rows: &[Row]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for one in measured(report) {
        let (backend, model) = (&one.cell.backend, &one.cell.model);
        let place = format!(
            "{}{backend}/{model}-concurrency-{}",
            folder(report, one.cell),
            one.level()
        );
        let name = format!("{place}/{backend}_{}{}", stamp(report), one.suffix());
        let own = one.rows(rows);
        files.push((
            format!("{name}.json"),
            pretty(&result(report, charts, &one, &own)),
        ));
        let requests: Vec<Vec<String>> = own
            .iter()
            .map(|row| {
                vec![
                    row.index.to_string(),
                    cell_text(row.input_tokens.map(f64::from)),
                    cell_text(row.output_tokens.map(f64::from)),
                    cell_text(row.ttft_ms),
                    cell_text(row.e2e_ms),
                    cell_text(row.tpot_ms),
                ]
            })
            .collect();
        files.push((format!("{name}_requests.csv"), table(&REQUESTS, &requests)));
        let summary = format!("{place}/benchmark_summary{}.csv", one.suffix());
        files.push((summary, table(&SUMMARY, &[summary_row(report, &one)])));
    }
    files
}

/// In place of a metric: flows over the whole stage, as the suite and `vllm bench serve` take them. Ours are those of the steady
/// window, and so no quotients of the counts that stand beside them.
const WHOLE: &str = "vllm";

/// Our metric, statistic and scale.
type Source = (&'static str, &'static str, f64);

const LATENCIES: [(&str, Source); 10] = [
    ("ttft_mean_ms", ("ttft", "mean", 1.0)),
    ("ttft_p99_ms", ("ttft", "p99", 1.0)),
    ("e2e_mean_ms", ("e2e", "mean", 1.0)),
    ("e2e_p99_ms", ("e2e", "p99", 1.0)),
    ("itl_mean_ms", ("icl", "mean", 1.0)),
    ("itl_p99_ms", ("icl", "p99", 1.0)),
    ("tpot_mean_ms", ("tpot", "mean", 1.0)),
    ("system_tps", (WHOLE, "output_throughput", 1.0)),
    ("system_rps", (WHOLE, "request_throughput", 1.0)),
    (
        "mean_prefill_speed_tokens_per_sec",
        ("prefill_speed", "mean", 1.0),
    ),
];
const GPU: [(&str, Source); 9] = [
    ("gpu_util_mean", ("gpu.util", "mean", 100.0)),
    ("gpu_util_max", ("gpu.util", "max", 100.0)),
    ("gpu_util_min", ("gpu.util", "min", 100.0)),
    (
        "memory_used_mean_mb",
        ("gpu.memory_used", "mean", 1.0 / MEBIBYTE),
    ),
    (
        "memory_used_max_mb",
        ("gpu.memory_used", "max", 1.0 / MEBIBYTE),
    ),
    ("power_mean_watts", ("gpu.power", "mean", 1.0)),
    ("power_max_watts", ("gpu.power", "max", 1.0)),
    ("temp_mean_c", ("gpu.temperature", "mean", 1.0)),
    ("temp_max_c", ("gpu.temperature", "max", 1.0)),
];

fn told(one: &Measured, (metric, stat, scale): Source) -> Option<f64> {
    let value = match metric {
        WHOLE => *one.numbers.compat.get(WHOLE)?.get(stat)?,
        _ => one.stat(metric, stat)?,
    };
    Some(value * scale)
}

/// From the first sending to the last end, in seconds; of a stage without answers, how long it took.
fn seconds(one: &Measured) -> f64 {
    told(one, (WHOLE, "request_throughput", 1.0))
        .map_or(one.numbers.duration_s, |rate| one.numbers.ok as f64 / rate)
}

fn memory_total(report: &Report) -> Option<f64> {
    let gpu = report.environment.gpus.first()?;
    Some(gpu.memory_bytes? as f64 / MEBIBYTE)
}

fn result(report: &Report, charts: &Charts, one: &Measured, rows: &[&Row]) -> Value {
    let all = |sources: &[(&str, Source)]| -> serde_json::Map<String, Value> {
        let told = sources
            .iter()
            .map(|(name, source)| ((*name).to_owned(), json!(told(one, *source))));
        told.collect()
    };
    let mut engines = report.environment.engines.iter();
    let engine = engines.find(|engine| engine.backend == one.cell.backend);
    let run = charts
        .runs
        .iter()
        .find(|run| run.cell == one.cell.id && run.repeat == one.repeat);
    let samples = run.map_or(Vec::new(), |run| gpu_samples(run, &one.stage.name));
    let mut gpu = all(&GPU);
    gpu.insert(
        "gpu_name".to_owned(),
        json!(report.environment.gpus.first().map(|gpu| &gpu.name)),
    );
    gpu.insert("memory_total_mb".to_owned(), json!(memory_total(report)));
    gpu.insert("samples_count".to_owned(), json!(samples.len()));
    json!({
        "metadata": {
            "backend": one.cell.backend,
            "timestamp": report.started,
            "url": engine.and_then(|engine| engine.url.as_ref()),
            "concurrency": one.stage.users,
            "dataset": one.cell.prompts,
            "total_duration_sec": seconds(one),
            "total_requests": one.numbers.ok,
            "failed_requests": one.numbers.failed,
            "simulated": report.simulated,
        },
        "summary": all(&LATENCIES),
        "gpu": gpu,
        "per_request": rows.iter().map(|row| json!({
            "request_id": row.index,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "ttft_ms": row.ttft_ms,
            "e2e_ms": row.e2e_ms,
            "tpot_ms": row.tpot_ms,
        })).collect::<Vec<_>>(),
        "gpu_samples": samples,
    })
}

/// The GPU's series within the stage, one object for each instant.
fn gpu_samples(run: &RunCharts, stage: &str) -> Vec<Value> {
    let Some(span) = run.spans.iter().find(|span| span.stage == stage) else {
        return Vec::new();
    };
    let series = |metric: &str| {
        let line = run
            .timelines
            .iter()
            .find(|line| line.metric == metric && line.device.unwrap_or(0) == 0);
        line.map_or(&[][..], |line| line.values.as_slice())
    };
    let [util, memory, power, temperature] = [
        "gpu.util",
        "gpu.memory_used",
        "gpu.power",
        "gpu.temperature",
    ]
    .map(series);
    let at = |values: &[Option<f64>], index: usize, scale: f64| {
        let value = values.get(index).copied().flatten();
        value.map(|value| value * scale)
    };
    (0..util.len().max(power.len()))
        .map(|index| (index, index as f64 * run.every_s))
        .filter(|(_, seconds)| (span.from_s..=span.to_s).contains(seconds))
        .map(|(index, seconds)| {
            json!({
                "timestamp": seconds,
                "gpu_util": at(util, index, 100.0),
                "memory_mb": at(memory, index, 1.0 / MEBIBYTE),
                "power_w": at(power, index, 1.0),
                "temp_c": at(temperature, index, 1.0),
            })
        })
        .collect()
}

fn summary_row(report: &Report, one: &Measured) -> Vec<String> {
    let mut row = vec![
        report.started.clone(),
        one.cell.backend.clone(),
        one.level(),
        one.numbers.ok.to_string(),
        seconds(one).to_string(),
    ];
    row.extend(
        LATENCIES
            .iter()
            .map(|(_, source)| cell_text(told(one, *source))),
    );
    row.push(
        report
            .environment
            .gpus
            .first()
            .map_or(String::new(), |gpu| gpu.name.clone()),
    );
    for (name, source) in GPU.iter().filter(|(name, _)| *name != "gpu_util_min") {
        row.push(cell_text(told(one, *source)));
        if *name == "memory_used_max_mb" {
            row.push(cell_text(memory_total(report)));
        }
    }
    row
}
