//! Suite 001: one JSON for each engine, `benchmark_results.csv`, `final_report.csv`, `environment_info.json`, and its report.
//!
//! The suite measures one load; of several levels the highest one stands for an engine, of several cells with it the first, and of
//! repeats the median.

use serde_json::{Value, json};

use super::{MEBIBYTE, Measured, cell_text, level, pretty, table};
use crate::report::View;
use crate::report::model::Report;
use crate::report::ranking::text;

const FINAL: [&str; 6] = [
    "engine",
    "throughput",
    "latency_p50",
    "latency_p95",
    "gpu_util",
    "gpu_mem_peak",
];

/// The suite's table has the columns of the rankings, without the ranks.
fn results_head() -> &'static [&'static str] {
    &text::HEAD[..10]
}

pub(super) fn files(report: &Report) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let (mut results, mut last) = (Vec::new(), Vec::new());
    let mut backends: Vec<&str> = Vec::new();
    for cell in &report.cells {
        if !backends.contains(&cell.backend.as_str()) {
            backends.push(&cell.backend);
        }
    }
    for backend in backends {
        let Some(one) = highest(report, backend) else {
            let reason = report.cells.iter().filter(|cell| cell.backend == backend);
            let reason = reason
                .flat_map(|cell| &cell.runs)
                .find_map(|run| run.reason.clone());
            let mut row = vec![backend.to_owned(), "Not Available".to_owned()];
            row.resize(results_head().len() - 1, String::new());
            row.push(reason.unwrap_or_default());
            results.push(row);
            continue;
        };
        let file = format!("{}_results.json", backend.replace('-', ""));
        files.push((file, pretty(&engine(report, &one))));
        let failed = one.numbers.ok == 0;
        let values = [
            one.stat("output_tps", "value"),
            one.stat("e2e", "p50"),
            one.stat("e2e", "p95"),
            one.stat("e2e", "mean"),
            one.stat("gpu.util", "mean").map(|share| share * 100.0),
            memory_percent(report, &one),
        ];
        let mut row = vec![
            backend.to_owned(),
            if failed { "Failed" } else { "Success" }.to_owned(),
        ];
        row.extend(values.map(cell_text));
        row.push(one.numbers.planned.to_string());
        row.push(one.stage.failures.first().map_or(String::new(), |kind| {
            format!("{} ×{}", kind.outcome, kind.count)
        }));
        results.push(row);
        let [throughput, p50, p95, _, util, memory] = values.map(cell_text);
        last.push(vec![backend.to_owned(), throughput, p50, p95, util, memory]);
    }
    files.push((
        "benchmark_results.csv".to_owned(),
        table(results_head(), &results),
    ));
    files.push(("final_report.csv".to_owned(), table(&FINAL, &last)));
    files.push((
        "environment_info.json".to_owned(),
        pretty(&environment(report)),
    ));
    if report.ranking.is_some() {
        let view = View::default();
        files.push(("benchmark_report.txt".to_owned(), text::text(report, &view)));
        files.push((
            "benchmark_summary.json".to_owned(),
            text::summary(report, &view),
        ));
        files.push((
            "performance_rankings.csv".to_owned(),
            text::csv(report, &view),
        ));
    }
    files
}

/// The highest level of a backend's cells, with the numbers over its repeats.
fn highest<'a>(report: &'a Report, backend: &str) -> Option<Measured<'a>> {
    let cells = report.cells.iter().filter(|cell| cell.backend == backend);
    let stages = cells.flat_map(|cell| cell.stages.iter().map(move |stage| (cell, stage)));
    let own = stages.filter(|(_, stage)| stage.measured);
    let own = own.filter_map(|(cell, stage)| {
        Some(Measured {
            cell,
            stage,
            repeat: 0,
            numbers: stage.numbers.as_ref()?,
        })
    });
    let load = |one: &Measured| level(one.stage).unwrap_or(0.0);
    own.reduce(|best, next| {
        if load(&next) > load(&best) {
            next
        } else {
            best
        }
    })
}

fn memory_percent(report: &Report, one: &Measured) -> Option<f64> {
    let total = report.environment.largest_gpu_memory()?;
    Some(one.stat("gpu.memory_used", "max")? / total as f64 * 100.0)
}

fn engine(report: &Report, one: &Measured) -> Value {
    let seconds = |stat: &str| one.stat("e2e", stat).map(|ms| ms / 1e3);
    let host = &report.environment.host;
    let tokens = one.numbers.metrics.get("output_tokens");
    let tokens = tokens.filter(|metric| metric.undefined == 0);
    let tokens = tokens.and_then(|metric| Some(metric.stats.get("mean")? * metric.n as f64));
    let gpu = json!({
        "utilization_mean_percent": one.stat("gpu.util", "mean").map(|share| share * 100.0),
        "utilization_max_percent": one.stat("gpu.util", "max").map(|share| share * 100.0),
        "memory_peak_mb": one.stat("gpu.memory_used", "max").map(|bytes| bytes / MEBIBYTE),
        "memory_total_mb": report.environment.gpus.first().and_then(|gpu| Some(gpu.memory_bytes? as f64 / MEBIBYTE)),
        "memory_peak_percent": memory_percent(report, one),
        "samples_collected": one.numbers.metrics.get("gpu.util").map(|metric| metric.n),
    });
    json!({
        "engine_name": one.cell.backend,
        "timestamp": report.started,
        "benchmark_duration_seconds": one.numbers.duration_s,
        "total_requests": one.numbers.planned,
        "failed_requests": one.numbers.failed,
        "total_tokens_generated": tokens,
        "throughput_tokens_per_second": one.stat("output_tps", "value"),
        "latency_statistics": {
            "p50": seconds("p50"),
            "p95": seconds("p95"),
            "p99": seconds("p99"),
            "mean": seconds("mean"),
            "std": seconds("std"),
            "min": seconds("min"),
            "max": seconds("max"),
        },
        "gpu_statistics": if report.environment.gpus.is_empty() { json!({}) } else { json!({ "gpu_0": gpu }) },
        "system_info": {
            "cpu_count": host.cores,
            "memory_total_gb": host.memory_bytes.map(|bytes| bytes as f64 / f64::from(1 << 30)),
            "benchmark_time": report.started,
        },
        "simulated": report.simulated,
    })
}

fn environment(report: &Report) -> Value {
    let host = &report.environment.host;
    json!({
        "benchmark_timestamp": report.started,
        "system": { "os": host.os, "release": host.kernel, "processor": host.cpu },
        "hardware": {
            "cpu_count": host.cores,
            "ram_total_gb": host.memory_bytes.map(|bytes| bytes as f64 / f64::from(1 << 30)),
            "gpus": report.environment.gpus.iter().map(|gpu| json!({
                "name": gpu.name,
                "memory_total": gpu.memory_bytes.map(|bytes| bytes as f64 / MEBIBYTE),
                "driver_version": gpu.driver,
            })).collect::<Vec<_>>(),
        },
        "software": {
            "scenario": report.tool,
            "engines": report.environment.engines.iter().map(|engine| json!({
                "name": engine.backend,
                "kind": engine.kind,
                "version": engine.version,
            })).collect::<Vec<_>>(),
        },
        "benchmark_config": { "command": report.command, "seed": report.seed, "plan_digest": report.plan_digest },
    })
}
