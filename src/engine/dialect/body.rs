//! Request bodies: what is the same for all requests of a cell is written once, the prompt is copied in.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Dialect;
use super::adapters::Adapters;
use super::wishes;
use super::wording::{Wording, listing, wording};
use crate::plan::RequestParameters;
use crate::workload::Prompt;

/// The body of a cell's requests with gaps for the prompt and its own limits.
#[derive(Clone, Debug)]
pub struct BodyTemplate {
    /// `{"model":"m","messages":[{"role":"user","content":`
    pub(super) before: String,
    /// What closes the prompt: `}]` or nothing.
    pub(super) close: &'static str,
    /// What stands before a list of messages, and the field that a system message has of its own, where the language has them.
    pub(super) listing: Option<(String, Option<&'static str>)>,
    /// `,"stream":true,…`: everything that no prompt changes.
    constants: String,
    /// What closes the body: one brace for each level.
    end: &'static str,
    max_tokens: u32,
    min_tokens: Option<u32>,
    ignore_eos: bool,
    /// What the limits are called; `None` where the language has no such thing, or `extra` has taken it over.
    names: Limits,
    stream: bool,
    /// The adapters that requests are spread over.
    adapters: Adapters,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    max_tokens: Option<&'static str>,
    min_tokens: Option<&'static str>,
    ignore_eos: Option<&'static str>,
}

impl BodyTemplate {
    /// The template for `model` under these parameters. What `extra` names wins over every other key.
    pub fn new(dialect: Dialect, model: &str, parameters: &RequestParameters) -> BodyTemplate {
        let Wording {
            before,
            close,
            mut fields,
            nest,
            max_tokens,
            min_tokens,
            ignore_eos,
        } = wording(dialect, parameters);
        wishes::put(dialect.api, &parameters.wishes, &mut fields);
        parameters.lay_extra_over(&mut fields);
        let stream = fields
            .get("stream")
            .and_then(Value::as_bool)
            .unwrap_or(parameters.stream);
        let model = fields.remove("model").unwrap_or_else(|| json!(model));
        let nested = nest.and_then(|nest| fields.shift_remove(nest));
        let inner = nested.as_ref().and_then(Value::as_object);
        let taken = |name: &str| {
            let here = |fields: &Map<String, Value>| fields.contains_key(name);
            here(&fields) || inner.is_some_and(here)
        };
        let names = Limits {
            max_tokens: Some(max_tokens)
                .filter(|name| !taken(name) && !taken("max_completion_tokens")),
            min_tokens: min_tokens.filter(|name| !taken(name)),
            ignore_eos: ignore_eos.filter(|name| !taken(name)),
        };
        let mut constants: String = fields.iter().map(written).collect();
        if let Some((nest, inner)) = nest.zip(inner) {
            // The limits of a request follow inside.
            let inside: String = inner.iter().map(written).collect();
            constants.push_str(&format!(",{}:{{{}", json!(nest), &inside[1..]));
        }
        let named = |before: &str| before.replace("MODEL", &model.to_string());
        BodyTemplate {
            before: named(before),
            listing: listing(dialect.api).map(|listing| (named(listing.before), listing.system)),
            close,
            constants,
            end: if inner.is_some() { "}}" } else { "}" },
            max_tokens: parameters.max_tokens,
            min_tokens: parameters.min_tokens,
            ignore_eos: parameters.ignore_eos,
            names,
            stream,
            adapters: Adapters::default(),
        }
    }

    /// The same template for requests that are spread over the adapters of `model` by their weights.
    pub fn among(self, model: &str, weights: &[(String, f64)]) -> BodyTemplate {
        BodyTemplate {
            adapters: Adapters::of(model, weights),
            ..self
        }
    }

    /// A body of this template for the adapter that a draw from 0 to 1 falls to, and its name; it is drawn only where there are any.
    pub fn for_adapter(
        &self,
        body: Bytes,
        draw: impl FnOnce() -> f64,
    ) -> (Bytes, Option<Arc<str>>) {
        if self.adapters.are_there() {
            self.adapters.put(body, draw())
        } else {
            (body, None)
        }
    }

    /// Whether the answer will be a stream of events.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The body for one prompt; the prompt's own limits win over the cell's.
    pub fn fill(&self, prompt: &Prompt) -> Bytes {
        self.written(&self.before, &prompt.json, self.close, prompt)
    }

    /// The body with this content in the prompt's place; the prompt's own limits win over the cell's.
    pub(super) fn written(
        &self,
        before: &str,
        content: &str,
        close: &str,
        prompt: &Prompt,
    ) -> Bytes {
        let mut body =
            String::with_capacity(before.len() + content.len() + self.constants.len() + 96);
        body.push_str(before);
        body.push_str(content);
        body.push_str(close);
        body.push_str(&self.constants);
        // A prompt that brings its own cap is capped by the smaller of the two.
        let max_tokens = prompt
            .max_tokens
            .map_or(self.max_tokens, |own| own.min(self.max_tokens));
        if let Some(name) = self.names.max_tokens {
            body.push_str(&format!(",\"{name}\":{max_tokens}"));
        }
        let min_tokens = prompt.min_tokens.or(self.min_tokens);
        if let Some((name, min_tokens)) = self.names.min_tokens.zip(min_tokens) {
            body.push_str(&format!(",\"{name}\":{}", min_tokens.min(max_tokens)));
        }
        let ignore_eos = prompt.ignore_eos.unwrap_or(self.ignore_eos);
        if let Some(name) = self.names.ignore_eos.filter(|_| ignore_eos) {
            body.push_str(&format!(",\"{name}\":true"));
        }
        body.push_str(self.end);
        Bytes::from(body)
    }
}

/// A field behind others.
fn written((key, value): (&String, &Value)) -> String {
    format!(",{}:{value}", json!(key))
}
