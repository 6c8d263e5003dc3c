//! Suite 004: `benchmark_{epoch}.json`, for each engine a list of category × concurrency.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{MEBIBYTE, Measured, Row, measured, pretty};
use crate::report::model::{Metric, Report};

pub(super) fn files(report: &Report, rows: &[Row]) -> Vec<(String, String)> {
    let mut engines: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for one in measured(report) {
        let own = one.rows(rows);
        let list = engines.entry(one.cell.backend.as_str()).or_default();
        let categories = &one.numbers.categories;
        for category in categories {
            let own = own
                .iter()
                .filter(|row| row.category.as_deref() == Some(category.name.as_str()));
            list.push(entry(
                report,
                &one,
                &category.name,
                &category.metrics,
                &own.copied().collect::<Vec<_>>(),
            ));
        }
        if categories.is_empty() {
            list.push(entry(
                report,
                &one,
                &one.cell.prompts,
                &one.numbers.metrics,
                &own,
            ));
        }
    }
    let epoch = report
        .cells
        .iter()
        .flat_map(|cell| &cell.runs)
        .find_map(|run| run.wall_anchor);
    let name = epoch.map_or("benchmark.json".to_owned(), |epoch| {
        format!("benchmark_{}.json", epoch as u64)
    });
    vec![(name, pretty(&json!(engines)))]
}

fn entry(
    report: &Report,
    one: &Measured,
    category: &str,
    metrics: &BTreeMap<String, Metric>,
    rows: &[&Row],
) -> Value {
    let latency = |stat: &str| metrics.get("e2e")?.stats.get(stat).copied();
    let seconds: f64 = rows.iter().filter_map(|row| row.e2e_ms).sum::<f64>() / 1e3;
    // Of answers that do not all tell theirs nobody knows the sum.
    let tokens = rows.iter().map(|row| row.output_tokens.map(u64::from));
    let tokens: Option<u64> = tokens.sum();
    let speed = tokens.filter(|_| seconds > 0.0);
    let used = one.stat("gpu.memory_used", "max");
    let total = report.environment.largest_gpu_memory();
    json!({
        "engine": one.cell.backend,
        "category": category,
        "concurrency": one.stage.users,
        "simulated": report.simulated,
        "latency": {
            "count": rows.len(),
            "p50": latency("p50"),
            "p95": latency("p95"),
            "p99": latency("p99"),
            "mean": latency("mean"),
        },
        // The suite's own formula: the speed of one stream.
        "throughput": {
            "total_requests": rows.len(),
            "total_tokens": tokens,
            "avg_tokens_per_sec": speed.map(|tokens| tokens as f64 / seconds),
            "total_time_s": seconds,
        },
        "gpu_memory_mb": used.map(|bytes| [Some(bytes / MEBIBYTE), total.map(|total| total as f64 / MEBIBYTE)]),
    })
}
