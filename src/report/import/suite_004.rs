//! Suite 004: a list of category × concurrency for each engine.

use serde_json::Value;

use super::found::{Caveat, Format, Found};
use super::read::{Object, ReadError, count, number, object, text, wanted};

const MEBIBYTE: f64 = (1u64 << 20) as f64;

pub(super) fn is_one(top: &Object) -> bool {
    let mut lists = top.values().filter_map(Value::as_array).peekable();
    lists.peek().is_some()
        && lists.flatten().all(|row| {
            ["engine", "category", "concurrency", "latency", "throughput"]
                .iter()
                .all(|key| row.get(key).is_some())
        })
}

pub(super) fn read(top: &Object) -> Result<Vec<Found>, ReadError> {
    let rows = top.values().filter_map(Value::as_array).flatten();
    rows.filter_map(Value::as_object).map(row).collect()
}

fn row(row: &Object) -> Result<Found, ReadError> {
    let (latency, throughput) = (object(row, "latency")?, object(row, "throughput")?);
    let mut found = Found::new(Format::Suite004);
    found.backend = text(row, "engine").ok_or(ReadError("a row names no engine".to_owned()))?;
    found.model = "model".to_owned();
    found.prompts = text(row, "category").unwrap_or_else(|| "prompts".to_owned());
    found.users = Some(wanted(row, "concurrency")? as u32);
    let answered = count(throughput, "total_requests").or(count(latency, "count"));
    found.planned = answered.unwrap_or(0);
    found.ok = count(latency, "count").or(answered);
    found.output_tokens = number(throughput, "total_tokens");
    found.simulated = row.get("simulated").and_then(Value::as_bool) == Some(true);
    for (stat, key) in [
        ("mean", "mean"),
        ("p50", "p50"),
        ("p95", "p95"),
        ("p99", "p99"),
    ] {
        found.keep("e2e", stat, number(latency, key));
    }
    // Tokens ÷ the sum of all latencies: the speed of one stream, whatever its name is.
    found.keep(
        "tps_per_user",
        "mean",
        number(throughput, "avg_tokens_per_sec"),
    );
    let memory = row.get("gpu_memory_mb").and_then(|memory| match memory {
        Value::Array(pair) => pair.first().and_then(Value::as_f64),
        Value::Object(pair) => number(pair, "used").or(number(pair, "used_mb")),
        other => other.as_f64(),
    });
    found.keep("gpu.memory_used", "max", memory.map(|mb| mb * MEBIBYTE));
    found.caveats.extend([
        Caveat {
            guard: "guard:throughput",
            text: "the file has no wall time: its tokens per second are tokens ÷ the sum of all latencies, the speed of one stream and \
                   not of the system"
                .to_owned(),
        },
        Caveat {
            guard: "guard:tokens",
            text: "tokens are the stream's events: the role and the end count, too".to_owned(),
        },
    ]);
    Ok(found)
}
