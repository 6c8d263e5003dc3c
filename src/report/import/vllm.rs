//! `vllm bench serve --save-result`, with per-request lists under `--save-detailed`.

use serde_json::Value;

use super::found::{Format, Found, Request};
use super::read::{Object, ReadError, count, number, numbers, text, wanted};
use crate::observation::serving;

pub(super) fn read(top: &Object) -> Result<Found, ReadError> {
    let mut found = Found::new(Format::Vllm);
    // `backend` is the client's language, not the engine.
    found.backend = text(top, "label").unwrap_or_else(|| "engine".to_owned());
    found.model = text(top, "model_id").unwrap_or_else(|| "model".to_owned());
    found.prompts = "prompts".to_owned();
    found.started = text(top, "date");
    found.users = number(top, "max_concurrency").map(|users| users as u32);
    found.rate = number(top, "request_rate");
    found.duration_s = Some(wanted(top, "duration")?);
    let completed = count(top, "completed").unwrap_or(0);
    found.ok = Some(completed);
    found.failed = count(top, "failed");
    found.planned = count(top, "num_prompts").unwrap_or(completed + found.failed.unwrap_or(0));
    found.failed = found.failed.or(found.planned.checked_sub(completed));
    found.output_tokens = number(top, "total_output_tokens");
    found.input_tokens = number(top, "total_input_tokens");
    found.keep("goodput", "value", number(top, "request_goodput"));
    for (name, value) in serving::values(top) {
        match (name.as_str(), name.split_once("_ms_")) {
            (_, Some((metric, stat))) => found.keep(metric, stat, Some(value)),
            ("rps" | "output_tps" | "total_tps", None) => found.keep(&name, "value", Some(value)),
            _ => {}
        }
    }
    found.requests = requests(top);
    // Older versions told the means of latencies only as lists.
    if found.stat("e2e", "mean").is_none() {
        let latencies: Vec<f64> = numbers(top, "latencies")
            .into_iter()
            .filter(|s| *s > 0.0)
            .collect();
        let mean = latencies.iter().sum::<f64>() * 1e3 / latencies.len() as f64;
        found.keep("e2e", "mean", Some(mean).filter(|mean| mean.is_finite()));
    }
    Ok(found)
}

/// The requests of `--save-detailed`; those that failed have an error and no numbers.
fn requests(top: &Object) -> Vec<Request> {
    let lists = ["start_times", "ttfts", "latencies", "output_lens"].map(|key| numbers(top, key));
    let [starts, ttfts, latencies, tokens] = lists;
    let n = starts.len();
    if n == 0
        || [&ttfts, &latencies, &tokens]
            .iter()
            .any(|list| list.len() != n)
    {
        return Vec::new();
    }
    let errors = top.get("errors").and_then(Value::as_array);
    let failed = |at: usize| {
        let error = errors.and_then(|errors| errors.get(at)?.as_str());
        error.is_some_and(|error| !error.is_empty())
    };
    let first = starts.iter().copied().fold(f64::INFINITY, f64::min);
    (0..n)
        .filter(|at| !failed(*at) && latencies[*at] > 0.0)
        .map(|at| {
            let after_first = tokens[at] - 1.0;
            let decode = (latencies[at] - ttfts[at]) * 1e3;
            Request {
                start_s: Some(starts[at] - first),
                ttft_ms: Some(ttfts[at] * 1e3),
                e2e_ms: Some(latencies[at] * 1e3),
                tpot_ms: (after_first > 0.0).then(|| decode / after_first),
                output_tokens: Some(tokens[at]),
            }
        })
        .collect()
}
