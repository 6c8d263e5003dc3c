//! Anthropic's Messages API, which vLLM, SGLang and llama.cpp speak, too.

use serde::Deserialize;

use super::event::{EventFacts, Usage, error_text};
use super::{cow, parse};

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<Start>,
    delta: Option<Delta>,
    usage: Option<Counts>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Counts>,
}

#[derive(Default, Deserialize)]
struct Delta {
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
struct Counts {
    input_tokens: Option<u32>,
    output_tokens: Option<u32>,
    cache_read_input_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    content: Vec<Block>,
    stop_reason: Option<String>,
    usage: Option<Counts>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Prompt tokens include those that came from the cache, as everywhere else: this API counts them apart.
fn usage(counts: Counts) -> Usage {
    let cached = counts.cache_read_input_tokens;
    Usage {
        input: counts.input_tokens.map(|input| input + cached.unwrap_or(0)),
        output: counts.output_tokens,
        cached,
        reasoning: None,
    }
}

/// What an event of the stream says.
pub(super) fn read(data: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let event: Event = parse(data)?;
    let delta = event.delta.unwrap_or_default();
    let is_some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let content = is_some(&delta.text);
    let output = content || is_some(&delta.thinking) || is_some(&delta.partial_json);
    // The output count of `message_start` stands for nothing yet.
    let start = event
        .message
        .and_then(|message| message.usage)
        .map(|counts| Usage {
            output: None,
            ..usage(counts)
        });
    let error = event.error.as_ref().and_then(error_text);
    Ok(EventFacts {
        output,
        content,
        blank: delta.text.is_some() && !output,
        finish_reason: cow(delta.stop_reason.map(reason)),
        usage: event.usage.map(usage).or(start),
        error: error.or_else(|| {
            (event.kind.as_deref() == Some("error")).then(|| "an error event".to_owned())
        }),
        ..EventFacts::default()
    })
}

/// What a whole answer says.
pub(super) fn read_answer(body: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let answer: Answer = parse(body)?;
    Ok(EventFacts {
        output: !answer.content.is_empty(),
        content: answer
            .content
            .iter()
            .any(|block| block.kind.as_deref() == Some("text")),
        finish_reason: cow(answer.stop_reason.map(reason)),
        usage: answer.usage.map(usage),
        error: answer.error.as_ref().and_then(error_text),
        ..EventFacts::default()
    })
}

/// The words that the other dialects use.
fn reason(told: String) -> String {
    match told.as_str() {
        "end_turn" | "stop_sequence" => "stop".to_owned(),
        "max_tokens" => "length".to_owned(),
        "tool_use" => "tool_calls".to_owned(),
        _ => told,
    }
}
