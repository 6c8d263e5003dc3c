//! Suite 000: `metadata`, `summary`, `gpu`, `per_request`, `gpu_samples`.

use serde_json::Value;

use super::found::{Caveat, Format, Found, Request};
use super::read::{Object, ReadError, count, number, object, stem, text, wanted};

/// Megabytes of that suite are mebibytes of NVML.
const MEBIBYTE: f64 = (1u64 << 20) as f64;

pub(super) fn read(top: &Object) -> Result<Found, ReadError> {
    let (metadata, summary) = (object(top, "metadata")?, object(top, "summary")?);
    let mut found = Found::new(Format::Suite000);
    found.backend = text(metadata, "backend").ok_or(ReadError("it names no backend".to_owned()))?;
    found.model = text(metadata, "model").unwrap_or_else(|| "model".to_owned());
    found.prompts = text(metadata, "dataset").map_or("prompts".to_owned(), |path| stem(&path));
    found.started = text(metadata, "timestamp");
    found.users = Some(wanted(metadata, "concurrency")? as u32);
    found.duration_s = number(metadata, "total_duration_sec");
    let rows = top.get("per_request").and_then(Value::as_array);
    found.requests = rows.map_or(Vec::new(), |rows| {
        let rows = rows.iter().filter_map(Value::as_object);
        rows.map(|row| Request {
            start_s: None,
            ttft_ms: number(row, "ttft_ms"),
            e2e_ms: number(row, "e2e_ms"),
            tpot_ms: number(row, "tpot_ms"),
            output_tokens: number(row, "output_tokens"),
        })
        .collect()
    });
    // What it calls the total are the requests that were answered: the others are left out. Our own files of this form add them.
    let answered = count(metadata, "total_requests").unwrap_or(found.requests.len() as u64);
    found.ok = Some(answered);
    found.failed = count(metadata, "failed_requests");
    found.planned = answered + found.failed.unwrap_or(0);
    found.simulated = metadata.get("simulated").and_then(Value::as_bool) == Some(true);
    let is_ours = found.failed.is_some();
    if !is_ours {
        found.caveats.push(Caveat {
            guard: "guard:failures",
            text: "the suite leaves failed requests out of its count: how many there were is not in the file".to_owned(),
        });
    }
    let tokens: Vec<f64> = found
        .requests
        .iter()
        .filter_map(|request| request.output_tokens)
        .collect();
    found.output_tokens = (!tokens.is_empty()).then(|| tokens.iter().sum());
    for (metric, stat, key) in [
        ("ttft", "mean", "ttft_mean_ms"),
        ("ttft", "p99", "ttft_p99_ms"),
        ("e2e", "mean", "e2e_mean_ms"),
        ("e2e", "p99", "e2e_p99_ms"),
        ("icl", "mean", "itl_mean_ms"),
        ("icl", "p99", "itl_p99_ms"),
        ("tpot", "mean", "tpot_mean_ms"),
        ("output_tps", "value", "system_tps"),
        ("rps", "value", "system_rps"),
        ("prefill_speed", "mean", "mean_prefill_speed_tokens_per_sec"),
    ] {
        found.keep(metric, stat, number(summary, key));
    }
    if let Some(gpu) = top.get("gpu").and_then(Value::as_object) {
        for (metric, stat, key, scale) in [
            ("gpu.util", "mean", "gpu_util_mean", 0.01),
            ("gpu.util", "max", "gpu_util_max", 0.01),
            ("gpu.memory_used", "mean", "memory_used_mean_mb", MEBIBYTE),
            ("gpu.memory_used", "max", "memory_used_max_mb", MEBIBYTE),
            ("gpu.power", "mean", "power_mean_watts", 1.0),
            ("gpu.power", "max", "power_max_watts", 1.0),
            ("gpu.temperature", "mean", "temp_mean_c", 1.0),
            ("gpu.temperature", "max", "temp_max_c", 1.0),
        ] {
            found.keep(metric, stat, number(gpu, key).map(|value| value * scale));
        }
        let memory = number(gpu, "memory_total_mb").map(|mb| (mb * MEBIBYTE) as u64);
        found.gpu = text(gpu, "gpu_name").map(|name| (name, memory));
    }
    if !is_ours {
        found.caveats.push(Caveat {
        guard: "guard:tokens",
        text: "tokens are the stream's events (of its offline engines, words): the role and the end count, too".to_owned(),
    });
    }
    Ok(found)
}
