//! Suite 002: one JSON line for each request of a backend at a rate and a concurrency.

use serde_json::json;

use super::{Measured, Row, folder, measured, stamp};
use crate::report::model::Report;

pub(super) fn files(report: &Report, rows: &[Row]) -> Vec<(String, String)> {
    let file = |one: &Measured| {
        let rate = one.stage.rate.or_else(|| one.stat("rps", "value"));
        let seen = one.stat("achieved_concurrency", "mean").map(f64::ceil);
        let users = one.stage.users.map(f64::from).or(seen);
        let said = |value: Option<f64>| {
            value.map_or("none".to_owned(), |value| {
                ((value * 100.0).round() / 100.0).to_string()
            })
        };
        let name = format!(
            "{}{}_{}_qps{}_conc{}_{}{}.jsonl",
            folder(report, one.cell),
            one.cell.backend,
            one.cell.model,
            said(rate),
            said(users),
            stamp(report),
            one.suffix()
        );
        let lines: String = one
            .rows(rows)
            .into_iter()
            .map(|row| {
                let wall = row.dispatched_ms.map(|sent| (row.finished_ms - sent) / 1e3);
                let line = json!({
                    "request_id": row.index,
                    "arrival_time": row.intended_ms / 1e3,
                    "prompt_tokens": row.input_tokens,
                    "max_new_tokens": row.output_tokens,
                    "latency_s": row.e2e_ms.map(|ms| ms / 1e3),
                    "wall_time_s": wall,
                });
                format!("{line}\n")
            })
            .collect();
        (name, lines)
    };
    measured(report).iter().map(file).collect()
}
