//! Request bodies: what is the same for all requests of a cell is written once, the prompt is copied in.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::plan::{Api, RequestParameters};
use crate::workload::Prompt;

/// The body of a cell's requests with gaps for the prompt and its own limits.
#[derive(Clone, Debug)]
pub struct BodyTemplate {
    /// `{"model":"m","messages":[{"role":"user","content":`
    before: String,
    /// What closes the prompt: `}]` or nothing.
    close: &'static str,
    /// `,"stream":true,…`: everything that no prompt changes.
    constants: String,
    max_tokens: u32,
    min_tokens: Option<u32>,
    ignore_eos: bool,
    /// Which of the limits `extra` has taken over.
    extra_has: Limits,
    stream: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    max_tokens: bool,
    min_tokens: bool,
    ignore_eos: bool,
}

impl BodyTemplate {
    /// The template for `model` under these parameters. What `extra` names wins over every other key.
    pub fn new(dialect: Dialect, model: &str, parameters: &RequestParameters) -> BodyTemplate {
        let mut fields = constants(dialect, parameters);
        for (key, value) in &parameters.extra {
            match (fields.get_mut(key), value) {
                (Some(Value::Object(ours)), Value::Object(theirs)) => ours.extend(theirs.clone()),
                _ => drop(fields.insert(key.clone(), value.clone())),
            }
        }
        let has = |key: &str| fields.contains_key(key);
        let extra_has = Limits {
            max_tokens: has("max_tokens") || has("max_completion_tokens"),
            min_tokens: has("min_tokens"),
            ignore_eos: has("ignore_eos"),
        };
        let stream = fields
            .get("stream")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let model = fields.remove("model").unwrap_or_else(|| json!(model));
        let (before, close) = match dialect.api {
            Api::Chat => (
                format!(r#"{{"model":{model},"messages":[{{"role":"user","content":"#),
                "}]",
            ),
            Api::Completions => (format!(r#"{{"model":{model},"prompt":"#), ""),
        };
        let constants = fields
            .iter()
            .map(|(key, value)| format!(",{}:{value}", json!(key)))
            .collect();
        BodyTemplate {
            before,
            close,
            constants,
            max_tokens: parameters.max_tokens,
            min_tokens: parameters.min_tokens,
            ignore_eos: parameters.ignore_eos,
            extra_has,
            stream,
        }
    }

    /// Whether the answer will be a stream of events.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The body for one prompt; the prompt's own limits win over the cell's.
    pub fn fill(&self, prompt: &Prompt) -> Bytes {
        let mut body = String::with_capacity(
            self.before.len() + prompt.json.len() + self.constants.len() + 96,
        );
        body.push_str(&self.before);
        body.push_str(&prompt.json);
        body.push_str(self.close);
        body.push_str(&self.constants);
        // A prompt that brings its own cap is capped by the smaller of the two.
        let max_tokens = prompt
            .max_tokens
            .map_or(self.max_tokens, |own| own.min(self.max_tokens));
        if !self.extra_has.max_tokens {
            body.push_str(&format!(",\"max_tokens\":{max_tokens}"));
        }
        if let Some(min_tokens) = prompt
            .min_tokens
            .or(self.min_tokens)
            .filter(|_| !self.extra_has.min_tokens)
        {
            body.push_str(&format!(",\"min_tokens\":{}", min_tokens.min(max_tokens)));
        }
        if prompt.ignore_eos.unwrap_or(self.ignore_eos) && !self.extra_has.ignore_eos {
            body.push_str(",\"ignore_eos\":true");
        }
        body.push('}');
        Bytes::from(body)
    }
}

fn constants(dialect: Dialect, parameters: &RequestParameters) -> Map<String, Value> {
    let mut fields = Map::new();
    if parameters.stream {
        fields.insert("stream".into(), json!(true));
        let mut options = json!({ "include_usage": true });
        if dialect.has_continuous_usage() {
            options["continuous_usage_stats"] = json!(true);
        }
        fields.insert("stream_options".into(), options);
    }
    fields.insert("temperature".into(), number(parameters.temperature));
    let optional = [
        ("top_p", parameters.top_p.map(number)),
        ("top_k", parameters.top_k.map(|k| json!(k))),
        ("seed", parameters.seed.map(|seed| json!(seed))),
        (
            "stop",
            (!parameters.stop.is_empty()).then(|| json!(parameters.stop)),
        ),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            fields.insert(key.into(), value);
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
