//! What is sent, as one hash: equal digests mean equal load, whatever the file is called and wherever the engine listens.
//!
//! In it: stages, arrival parameters, the seed, request parameters, the model's id, the data set. Not in it: SLOs, guards,
//! URLs, names, telemetry, time limits.

use serde_json::{Value, json};

use crate::workload::Workload;

use super::{
    ArrivalCurve, Cell, Distribution, Extent, OnFull, Process, RampDown, RampShape, RateForm,
    RatePiece, RequestParameters, Schedule, Segment, Stage, UserExtent, UserPiece,
};

/// `b3:` and the blake3 of the canonical JSON of what a cell sends.
pub(super) fn cell(cell: &Cell, seed: u64) -> String {
    let mut sent = json!({
        "seed": seed,
        "model": cell.model.id,
        "prompts": cell.workload.digest(),
        "order": order(&cell.workload),
        "request": request(&cell.request),
        "stages": cell.stages.iter().map(stage).collect::<Vec<_>>(),
        "segments": cell.segments.iter().map(segment).collect::<Vec<_>>(),
    });
    if let Some(dialogue) = &cell.dialogue {
        sent["history"] = json!(dialogue.history.name());
        sent["think"] = distribution(&dialogue.think);
    }
    // Only where there are any: the digests of others stay as they were.
    if let Some(search) = &cell.search {
        let limit = search.stop_after.map(|limit| limit.as_secs_f64());
        sent["search"] = json!({ "stop_after": limit });
    }
    if !cell.model.lora.is_empty() {
        sent["lora"] = json!(cell.model.lora);
    }
    hash(&sent)
}

/// Prompts that tell two orders of a set apart.
const ORDER_TOLD_BY: u64 = 32;

/// In which order a set is asked, told by its first prompts: the digest of a set does not depend on its order.
fn order(workload: &Workload) -> String {
    let mut hasher = blake3::Hasher::new();
    for ordinal in 0..workload
        .measured()
        .unwrap_or(ORDER_TOLD_BY)
        .min(ORDER_TOLD_BY)
    {
        let text = workload.prompt(ordinal).text;
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// `b3:` and the blake3 of the cells' digests.
pub(super) fn plan(cells: &[Cell]) -> String {
    hash(&json!(
        cells.iter().map(|cell| &cell.digest).collect::<Vec<_>>()
    ))
}

fn hash(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    format!("b3:{}", blake3::hash(text.as_bytes()).to_hex())
}

/// JSON without white space, the keys of every object in the order of their bytes.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(&object[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn request(request: &RequestParameters) -> Value {
    json!({
        "stream": request.stream,
        "max_tokens": request.max_tokens,
        "min_tokens": request.min_tokens,
        "ignore_eos": request.ignore_eos,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "seed": request.seed,
        "stop": request.stop,
        "extra": request.beyond(),
    })
}

fn stage(stage: &Stage) -> Value {
    json!({
        "measured": stage.measured,
        "prompt_offset": stage.prompt_offset,
        "tail_fill": stage.tail_fill,
    })
}

fn segment(segment: &Segment) -> Value {
    match &segment.schedule {
        Schedule::Open {
            curve,
            max_in_flight,
            on_full,
        } => json!({
            "open": arrivals(curve),
            "max_in_flight": max_in_flight,
            "on_full": match on_full {
                OnFull::Queue => "queue",
                OnFull::Drop => "drop",
            },
        }),
        Schedule::Closed {
            users,
            think,
            ramp_down,
        } => json!({
            "closed": users.pieces.iter().map(users_piece).collect::<Vec<_>>(),
            "think": distribution(think),
            "ramp_down": match ramp_down {
                RampDown::Finish => "finish",
                RampDown::Cancel => "cancel",
            },
        }),
        Schedule::Batch { size, requests } => json!({ "batch": size, "requests": requests }),
    }
}

fn arrivals(curve: &ArrivalCurve) -> Value {
    json!({
        "process": match &curve.process {
            Process::Uniform => json!("uniform"),
            Process::Poisson => json!("poisson"),
            Process::Gamma(shape) => json!({ "gamma": shape }),
            Process::Recorded(times) => {
                let mut hasher = blake3::Hasher::new();
                for at in times.iter() {
                    hasher.update(&at.ns().to_le_bytes());
                }
                json!({ "recorded": hasher.finalize().to_hex().as_str() })
            }
        },
        "pieces": curve.pieces.iter().map(rate_piece).collect::<Vec<_>>(),
    })
}

fn rate_piece(piece: &RatePiece) -> Value {
    match piece.form {
        RateForm::Burst(requests) => json!({ "stage": piece.stage, "burst": requests }),
        RateForm::Flow {
            from,
            to,
            shape,
            extent,
        } => json!({
            "stage": piece.stage,
            "from": from.per_second(),
            "to": to.per_second(),
            "shape": match shape {
                RampShape::Linear => "linear",
                RampShape::Exponential => "exp",
            },
            "extent": match extent {
                Extent::For(duration) => json!({ "for_ns": duration.as_nanos() as u64 }),
                Extent::Requests(requests) => json!({ "requests": requests }),
            },
        }),
    }
}

fn users_piece(piece: &UserPiece) -> Value {
    let extent = match piece.extent {
        UserExtent::For(duration) => json!({ "for_ns": duration.as_nanos() as u64 }),
        UserExtent::Requests(requests) => json!({ "requests": requests }),
        UserExtent::RequestsPerUser(each) => json!({ "requests_per_user": each }),
        UserExtent::AtLeast {
            duration,
            requests,
            at_most,
        } => json!({
            "at_least_ns": duration.as_nanos() as u64,
            "requests": requests,
            "at_most_ns": at_most.as_nanos() as u64,
        }),
    };
    json!({ "stage": piece.stage, "from": piece.from, "to": piece.to, "extent": extent })
}

fn distribution(distribution: &Distribution) -> Value {
    // An unbounded maximum has no number in JSON.
    let bound = |value: f64| value.is_finite().then_some(value);
    match *distribution {
        Distribution::Fixed(value) => json!({ "fixed": value }),
        Distribution::Uniform(low, high) => json!({ "uniform": [low, high] }),
        Distribution::Normal {
            mean,
            stddev,
            min,
            max,
        } => {
            json!({ "normal": [mean, stddev, bound(min), bound(max)] })
        }
        Distribution::Lognormal {
            median,
            p95,
            min,
            max,
        } => {
            json!({ "lognormal": [median, p95, bound(min), bound(max)] })
        }
        Distribution::Exponential(mean) => json!({ "exponential": mean }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_change_a_digest() {
        let text = |value: Value| {
            let mut text = String::new();
            write_canonical(&value, &mut text);
            text
        };
        assert_eq!(
            text(json!({ "b": [1, 2.5], "a": { "d": null, "c": "x" } })),
            r#"{"a":{"c":"x","d":null},"b":[1,2.5]}"#
        );
    }
}
