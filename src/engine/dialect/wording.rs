//! How each language writes a request: where the prompt stands, and what it calls each parameter.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::dialog::Listing;
use crate::plan::{Api, RequestParameters};

/// A request with gaps for the prompt and its own limits.
pub(super) struct Wording {
    /// What stands before the prompt, with `MODEL` for the model as JSON.
    pub(super) before: &'static str,
    /// What closes the prompt.
    pub(super) close: &'static str,
    /// What no prompt changes.
    pub(super) fields: Map<String, Value>,
    /// The field among them that holds the sampling parameters, where they are not at the top.
    pub(super) nest: Option<&'static str>,
    /// What the cap on generated tokens is called.
    pub(super) max_tokens: &'static str,
    /// What the floor is called, where there is one.
    pub(super) min_tokens: Option<&'static str>,
    /// What going on after the end-of-sequence token is called, where that can be asked.
    pub(super) ignore_eos: Option<&'static str>,
}

pub(super) fn wording(dialect: Dialect, parameters: &RequestParameters) -> Wording {
    let stream = json!(parameters.stream);
    match dialect.api {
        Api::Chat | Api::Completions => {
            let (before, close) = if dialect.api == Api::Chat {
                (
                    r#"{"model":MODEL,"messages":[{"role":"user","content":"#,
                    "}]",
                )
            } else {
                (r#"{"model":MODEL,"prompt":"#, "")
            };
            let mut fields = Map::new();
            if parameters.stream {
                fields.insert("stream".into(), stream);
                let mut options = json!({ "include_usage": true });
                if dialect.has_continuous_usage() {
                    options["continuous_usage_stats"] = json!(true);
                }
                fields.insert("stream_options".into(), options);
            }
            fields.extend(sampling(parameters, &["top_p", "top_k", "seed", "stop"]));
            Wording {
                before,
                close,
                fields,
                nest: None,
                max_tokens: "max_tokens",
                min_tokens: Some("min_tokens"),
                ignore_eos: Some("ignore_eos"),
            }
        }
        // The names of the adapters' protocol are ours.
        Api::Offline => Wording {
            before: r#"{"prompt":"#,
            close: "",
            fields: sampling(parameters, &["top_p", "top_k", "seed", "stop"]),
            nest: None,
            max_tokens: "max_tokens",
            min_tokens: Some("min_tokens"),
            ignore_eos: Some("ignore_eos"),
        },
        Api::Responses => Wording {
            before: r#"{"model":MODEL,"input":"#,
            close: "",
            fields: top(
                parameters,
                json!({}),
                sampling(parameters, &["top_p", "", "", ""]),
            ),
            nest: None,
            max_tokens: "max_output_tokens",
            min_tokens: None,
            ignore_eos: None,
        },
        Api::Messages => Wording {
            before: r#"{"model":MODEL,"messages":[{"role":"user","content":"#,
            close: "}]",
            fields: top(
                parameters,
                json!({}),
                sampling(parameters, &["top_p", "top_k", "", "stop_sequences"]),
            ),
            nest: None,
            max_tokens: "max_tokens",
            min_tokens: None,
            ignore_eos: None,
        },
        Api::Generate => Wording {
            before: r#"{"text":"#,
            close: "",
            fields: top(
                parameters,
                json!({ "sampling_params": sampling(parameters, &["top_p", "top_k", "sampling_seed", "stop"]) }),
                Map::new(),
            ),
            nest: Some("sampling_params"),
            max_tokens: "max_new_tokens",
            min_tokens: Some("min_new_tokens"),
            ignore_eos: Some("ignore_eos"),
        },
        Api::Triton => Wording {
            before: r#"{"text_input":"#,
            close: "",
            fields: top(
                parameters,
                json!({}),
                sampling(parameters, &["top_p", "top_k", "random_seed", "stop_words"]),
            ),
            nest: None,
            max_tokens: "max_tokens",
            min_tokens: Some("min_length"),
            ignore_eos: None,
        },
        Api::Tgi => {
            let mut nested = sampling(parameters, &["top_p", "top_k", "seed", "stop"]);
            // A temperature of 0 is refused there: greedy decoding is asked for by not sampling.
            let greedy = parameters.temperature == 0.0;
            if greedy {
                nested.shift_remove("temperature");
            }
            nested.insert("do_sample".into(), json!(!greedy));
            nested.insert("details".into(), json!(true));
            Wording {
                before: r#"{"inputs":"#,
                close: "",
                fields: json!({ "parameters": nested })
                    .as_object()
                    .cloned()
                    .unwrap_or_default(),
                nest: Some("parameters"),
                max_tokens: "max_new_tokens",
                min_tokens: None,
                ignore_eos: None,
            }
        }
        Api::Ollama => Wording {
            before: r#"{"model":MODEL,"messages":[{"role":"user","content":"#,
            close: "}]",
            // It streams unless it is told not to.
            fields: json!({ "stream": stream, "options": sampling(parameters, &["top_p", "top_k", "seed", "stop"]) })
                .as_object()
                .cloned()
                .unwrap_or_default(),
            nest: Some("options"),
            max_tokens: "num_predict",
            min_tokens: None,
            ignore_eos: None,
        },
    }
}

/// How a language lists the messages of a conversation; `None` where it takes a text.
pub(super) fn listing(api: Api) -> Option<Listing> {
    let (before, system) = match api {
        Api::Chat | Api::Ollama => (r#"{"model":MODEL,"messages":["#, None),
        Api::Messages => (r#"{"model":MODEL,"messages":["#, Some("\"system\"")),
        Api::Responses => (r#"{"model":MODEL,"input":["#, None),
        Api::Completions | Api::Generate | Api::Triton | Api::Tgi | Api::Offline => return None,
    };
    Some(Listing { before, system })
}

fn top(
    parameters: &RequestParameters,
    first: Value,
    more: Map<String, Value>,
) -> Map<String, Value> {
    let mut fields = Map::new();
    if parameters.stream {
        fields.insert("stream".into(), json!(true));
    }
    fields.extend(first.as_object().cloned().unwrap_or_default());
    fields.extend(more);
    fields
}

/// The sampling parameters under the names of a language: nucleus, top k, seed and stop texts; an empty name has none.
fn sampling(parameters: &RequestParameters, names: &[&str; 4]) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("temperature".into(), number(parameters.temperature));
    let values = [
        parameters.top_p.map(number),
        parameters.top_k.map(|k| json!(k)),
        parameters.seed.map(|seed| json!(seed)),
        (!parameters.stop.is_empty()).then(|| json!(parameters.stop)),
    ];
    for (name, value) in names.iter().zip(values) {
        if let (false, Some(value)) = (name.is_empty(), value) {
            fields.insert((*name).into(), value);
        }
    }
    fields
}

/// A whole number without a decimal point, as people write it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}
