//! What is asked of the engine: the scenario's `request`, its model's, its backend's and its prompt set's, the nearer winning
//! key by key.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{RequestParameters, Timeouts, Wishes};
use crate::diagnostic::Spanned;
use crate::spec::{PromptsUse, RequestSpec, Thinking};

/// The cap on generated tokens where nobody chose one.
const MAX_TOKENS: u32 = 256;
/// The cap in a smoke run.
pub(super) const SMOKE_TOKENS: u32 = 16;

impl Default for RequestParameters {
    fn default() -> RequestParameters {
        RequestParameters {
            stream: true,
            max_tokens: MAX_TOKENS,
            min_tokens: None,
            ignore_eos: false,
            temperature: 0.0,
            top_p: None,
            top_k: None,
            seed: None,
            stop: Vec::new(),
            wishes: Wishes::default(),
            extra: Map::new(),
            timeouts: Timeouts {
                connect: Duration::from_secs(10),
                first_token: Duration::from_secs(60),
                idle: Duration::from_secs(60),
                total: Duration::from_secs(120),
            },
        }
    }
}

/// The parameters of a cell from its layers, the farthest first; `of_prompts` is the nearest, and belongs to `prompts`.
pub(super) fn merge<'a>(
    layers: impl IntoIterator<Item = &'a RequestSpec>,
    prompts: Option<&PromptsUse>,
    of_prompts: Option<&RequestSpec>,
) -> RequestParameters {
    let mut merged = RequestParameters::default();
    layers.into_iter().for_each(|layer| lay(layer, &mut merged));
    if let Some(prompts) = prompts {
        set(&mut merged.max_tokens, &prompts.max_tokens);
    }
    if let Some(request) = of_prompts {
        lay(request, &mut merged);
    }
    merged
}

/// Shortens answers for a smoke run.
pub(super) fn shorten(parameters: &mut RequestParameters) {
    parameters.max_tokens = parameters.max_tokens.min(SMOKE_TOKENS);
    parameters.min_tokens = parameters.min_tokens.map(|tokens| tokens.min(SMOKE_TOKENS));
    // What `extra` says of lengths is merged last and would win.
    for key in ["max_tokens", "max_completion_tokens", "min_tokens"] {
        if let Some(tokens) = parameters.extra.get_mut(key) {
            let asked = tokens.as_u64().unwrap_or(u64::MAX);
            *tokens = json!(asked.min(u64::from(SMOKE_TOKENS)));
        }
    }
}

fn set<T: Copy>(value: &mut T, written: &Option<Spanned<T>>) {
    if let Some(written) = written {
        *value = written.value;
    }
}

fn set_some<T: Copy>(value: &mut Option<T>, written: &Option<Spanned<T>>) {
    if let Some(written) = written {
        *value = Some(written.value);
    }
}

fn lay(layer: &RequestSpec, merged: &mut RequestParameters) {
    set(&mut merged.stream, &layer.stream);
    set(&mut merged.temperature, &layer.temperature);
    set_some(&mut merged.top_p, &layer.top_p);
    set_some(&mut merged.top_k, &layer.top_k);
    set_some(&mut merged.seed, &layer.seed);
    set(&mut merged.max_tokens, &layer.max_tokens);
    set_some(&mut merged.min_tokens, &layer.min_tokens);
    set(&mut merged.ignore_eos, &layer.ignore_eos);
    if let Some(stop) = &layer.stop {
        merged.stop = stop.iter().map(|text| text.value.clone()).collect();
    }
    if let Some(timeouts) = &layer.timeouts {
        set(&mut merged.timeouts.connect, &timeouts.connect);
        set(&mut merged.timeouts.first_token, &timeouts.first_token);
        set(&mut merged.timeouts.idle, &timeouts.idle);
        set(&mut merged.timeouts.total, &timeouts.total);
    }
    if let Some(thinking) = &layer.thinking {
        merged.wishes.thinking = Some(thinking.value == Thinking::On);
    }
    if let Some(format) = &layer.response_format {
        merged.wishes.response_format = Some(format.value.clone());
    }
    if let Some(tools) = &layer.tools {
        merged.wishes.tools = tools.iter().map(|tool| tool.value.clone()).collect();
    }
    if let Some(extra) = &layer.extra {
        merged.extra.extend(extra.value.clone());
    }
}

impl Wishes {
    /// As OpenAI's chat API has them.
    pub fn in_openai(&self) -> Map<String, Value> {
        let mut keys = Map::new();
        if let Some(on) = self.thinking {
            // The switch of chat templates (Qwen3 and its kin), which the engines pass on to the template.
            keys.insert(
                "chat_template_kwargs".to_owned(),
                json!({ "enable_thinking": on }),
            );
        }
        if let Some(format) = &self.response_format {
            let format = Value::Object(format.clone());
            keys.insert("response_format".to_owned(), format);
        }
        if !self.tools.is_empty() {
            let tools = self.tools.iter().cloned().map(Value::Object);
            keys.insert("tools".to_owned(), tools.collect());
        }
        keys
    }
}

impl RequestParameters {
    /// What is asked beyond sampling and lengths: wishes, and `extra` over them.
    pub fn beyond(&self) -> Map<String, Value> {
        let mut keys = self.wishes.in_openai();
        self.lay_extra_over(&mut keys);
        keys
    }

    /// Whether the chat template is told of more than messages, and may write more than them.
    pub(super) fn adds_to_prompts(&self) -> bool {
        let beyond = self.beyond();
        let told = [
            "chat_template",
            "chat_template_kwargs",
            "documents",
            "tools",
        ];
        told.iter().any(|key| beyond.contains_key(*key))
    }

    /// Puts `extra` over the fields of a request: an object into an object of the same name, anything else in place of what is there.
    pub fn lay_extra_over(&self, fields: &mut Map<String, Value>) {
        for (key, value) in &self.extra {
            match (fields.get_mut(key), value) {
                (Some(Value::Object(ours)), Value::Object(theirs)) => ours.extend(theirs.clone()),
                _ => drop(fields.insert(key.clone(), value.clone())),
            }
        }
    }
}
