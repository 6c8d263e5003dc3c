//! A generation request as a client wrote it, checked, and turned into what the model needs; and the errors that vLLM gives.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;

use super::presets::Preset;
use super::text::{StopMatch, Words};

/// Which of the two endpoints was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
}

/// A request with nothing left to decide.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) prompt_tokens: u32,
    pub(super) prompt_blocks: Arc<[u64]>,
    pub(super) output_tokens: u32,
    pub(super) words: Words,
    pub(super) stop: Option<StopMatch>,
    /// Whether the limit ended the answer, and not the model itself.
    pub(super) hits_limit: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
}

/// An answer that is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) kind: &'static str,
    pub(super) parameter: Option<&'static str>,
}

impl ApiError {
    pub(super) fn bad_request(message: String, parameter: Option<&'static str>) -> ApiError {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            message,
            kind: "BadRequestError",
            parameter,
        }
    }

    /// The body in the form in which vLLM writes it.
    pub(super) fn json(&self) -> String {
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let parameter = self.parameter.map_or("null".to_owned(), text);
        format!(
            r#"{{"error":{{"message":{},"type":{},"param":{parameter},"code":{}}}}}"#,
            text(&self.message),
            text(self.kind),
            self.status.as_u16()
        )
    }
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    prompt: Option<serde_json::Value>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    min_tokens: Option<i64>,
    ignore_eos: Option<bool>,
    stop: Option<OneOrMany>,
    seed: Option<i64>,
    n: Option<i64>,
    temperature: Option<f64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

/// A prompt as text, with the number of tokens that it is taken for.
struct Prompt {
    text: String,
    tokens: u32,
}

/// Tokens that a chat template adds to the text of the messages.
const TEMPLATE_TOKENS: u32 = 12;
/// What vLLM generates at `/v1/completions` when no limit is given.
const COMPLETION_TOKENS: i64 = 16;

/// Reads a generation request for the engine `preset`, whose models are called `served` (any name will do if it is empty).
pub(super) fn read(
    bytes: &[u8],
    endpoint: Endpoint,
    preset: &Preset,
    served: &[String],
    seed: u64,
) -> Result<Generation, ApiError> {
    let body: Body = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(
            format!("the request body is no valid JSON request: {error}"),
            None,
        )
    })?;
    let model = served_model(body.model.as_deref(), preset, served)?;
    check_values(&body)?;
    let prompt = match endpoint {
        Endpoint::Chat => chat_prompt(&body)?,
        Endpoint::Completions => completion_prompt(&body)?,
    };
    let limit = output_limit(&body, endpoint, &prompt, preset.max_model_len)?;
    let blocks = block_hashes(&prompt, preset.parameters.kv_cache.block_tokens);
    let hash = blake3::hash(prompt.text.as_bytes());
    let hash = u64::from_le_bytes(
        hash.as_bytes()[..8]
            .try_into()
            .expect("a hash has 32 bytes"),
    );

    let wanted = wanted_tokens(&body, preset.answers.answer_to(seed, hash), limit);
    let words = Words::new(hash ^ body.seed.unwrap_or(0) as u64);
    let stops = match body.stop {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    };
    let stop = words.find(&stops, if stops.is_empty() { 0 } else { wanted });
    let options = body.stream_options.unwrap_or(StreamOptions {
        include_usage: None,
        continuous_usage_stats: None,
    });
    let include_usage = options.include_usage == Some(true);
    Ok(Generation {
        endpoint,
        model,
        prompt_tokens: prompt.tokens,
        prompt_blocks: blocks,
        output_tokens: stop.as_ref().map_or(wanted, |stop| stop.tokens),
        words,
        hits_limit: stop.is_none() && wanted == limit,
        stop,
        stream: body.stream == Some(true),
        include_usage,
        continuous_usage: include_usage && options.continuous_usage_stats == Some(true),
    })
}

/// Number of tokens that `text` is taken for: four characters each.
pub(super) fn count_tokens(text: &str) -> u32 {
    u32::try_from(text.chars().count().div_ceil(4))
        .unwrap_or(u32::MAX / 4)
        .max(1)
}

fn served_model(
    asked: Option<&str>,
    preset: &Preset,
    served: &[String],
) -> Result<String, ApiError> {
    let Some(asked) = asked else {
        return Ok(served
            .first()
            .map_or(preset.model.to_owned(), String::clone));
    };
    if served.is_empty() || served.iter().any(|name| name == asked) {
        return Ok(asked.to_owned());
    }
    Err(ApiError {
        status: StatusCode::NOT_FOUND,
        message: format!(
            "The model `{asked}` does not exist. Valid aliases: {}.",
            served.join(", ")
        ),
        kind: "NotFoundError",
        parameter: Some("model"),
    })
}

fn check_values(body: &Body) -> Result<(), ApiError> {
    if let Some(temperature) = body.temperature.filter(|t| *t < 0.0) {
        return Err(ApiError::bad_request(
            format!(
                "temperature must be non-negative, got {temperature:?}. (parameter=temperature, value={temperature:?})"
            ),
            Some("temperature"),
        ));
    }
    for (name, value) in [
        ("max_tokens", body.max_tokens),
        ("max_completion_tokens", body.max_completion_tokens),
    ] {
        if let Some(value) = value.filter(|value| *value < 1) {
            return Err(ApiError::bad_request(
                format!(
                    "{name} must be at least 1, got {value}. (parameter={name}, value={value})"
                ),
                Some(name),
            ));
        }
    }
    if body.n.is_some_and(|n| n != 1) {
        return Err(ApiError::bad_request(
            "the simulator gives one answer to a request: n must be 1".to_owned(),
            Some("n"),
        ));
    }
    Ok(())
}

fn chat_prompt(body: &Body) -> Result<Prompt, ApiError> {
    let messages = body.messages.as_ref().filter(|list| !list.is_empty());
    let messages = messages.ok_or_else(|| missing("messages"))?;
    let mut text = String::new();
    for message in messages {
        text.push_str(&message.role);
        text.push_str(":\n");
        match &message.content {
            Some(Content::Text(content)) => text.push_str(content),
            Some(Content::Parts(parts)) => {
                for part in parts.iter().filter_map(|part| part.text.as_deref()) {
                    text.push_str(part);
                }
            }
            None => {}
        }
        text.push('\n');
    }
    let tokens = count_tokens(&text) + TEMPLATE_TOKENS;
    Ok(Prompt { text, tokens })
}

fn completion_prompt(body: &Body) -> Result<Prompt, ApiError> {
    use serde_json::Value;
    match body.prompt.as_ref().ok_or_else(|| missing("prompt"))? {
        Value::String(text) => Ok(Prompt {
            tokens: count_tokens(text),
            text: text.clone(),
        }),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => Ok(Prompt {
                tokens: count_tokens(text),
                text: text.clone(),
            }),
            ids if !ids.is_empty() && ids.iter().all(Value::is_u64) => Ok(Prompt {
                tokens: u32::try_from(ids.len()).unwrap_or(u32::MAX / 4),
                // Four characters a token, so that blocks are found where they are for text.
                text: ids.iter().map(|id| format!("{:>4}", id)).collect(),
            }),
            _ => Err(ApiError::bad_request(
                "the simulator takes one prompt in a request: a text, or a list of token ids"
                    .to_owned(),
                Some("prompt"),
            )),
        },
        _ => Err(ApiError::bad_request(
            "prompt must be a string or an array".to_owned(),
            Some("prompt"),
        )),
    }
}

fn missing(field: &str) -> ApiError {
    ApiError::bad_request(
        format!(
            "1 validation error:\n  {{'type': 'missing', 'loc': ('body', '{field}'), 'msg': 'Field required'}}"
        ),
        None,
    )
}

/// The most tokens that the answer may have.
fn output_limit(
    body: &Body,
    endpoint: Endpoint,
    prompt: &Prompt,
    max_model_len: u32,
) -> Result<u32, ApiError> {
    let asked = body.max_completion_tokens.or(body.max_tokens);
    if let Some(asked) = asked.filter(|asked| *asked > i64::from(max_model_len)) {
        return Err(ApiError::bad_request(
            format!(
                "max_tokens={asked} cannot be greater than max_model_len={max_model_len}. Please request fewer output tokens. (parameter=max_tokens, value={asked})"
            ),
            Some("max_tokens"),
        ));
    }
    let tokens = prompt.tokens;
    let Some(room) = max_model_len.checked_sub(tokens).filter(|room| *room > 0) else {
        return Err(ApiError::bad_request(
            format!(
                "This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least {tokens} input tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value={tokens})"
            ),
            Some("input_tokens"),
        ));
    };
    let default = match endpoint {
        Endpoint::Chat => i64::from(room),
        Endpoint::Completions => COMPLETION_TOKENS.min(i64::from(room)),
    };
    let limit = asked.unwrap_or(default) as u32;
    if limit > room {
        let total = tokens + limit;
        return Err(ApiError::bad_request(
            format!(
                "This model's maximum context length is {max_model_len} tokens. However, you requested {limit} output tokens and your prompt contains at least {tokens} input tokens, for a total of at least {total} tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value={tokens})"
            ),
            Some("input_tokens"),
        ));
    }
    Ok(limit)
}

/// How long the answer will be: to the limit if the request insists, else as long as the model likes, within its bounds.
fn wanted_tokens(body: &Body, natural: u32, limit: u32) -> u32 {
    if body.ignore_eos == Some(true) {
        return limit;
    }
    let least = u32::try_from(body.min_tokens.unwrap_or(0)).unwrap_or(0);
    natural.max(least).min(limit)
}

/// For each full block of the prompt, a hash of the prompt up to the block's end.
fn block_hashes(prompt: &Prompt, block_tokens: u32) -> Arc<[u64]> {
    let block_bytes = block_tokens as usize * 4;
    let most = (prompt.tokens / block_tokens) as usize;
    let mut hasher = blake3::Hasher::new();
    prompt
        .text
        .as_bytes()
        .chunks_exact(block_bytes)
        .take(most)
        .map(|block| {
            hasher.update(block);
            let hash = hasher.finalize();
            u64::from_le_bytes(
                hash.as_bytes()[..8]
                    .try_into()
                    .expect("a hash has 32 bytes"),
            )
        })
        .collect()
}
