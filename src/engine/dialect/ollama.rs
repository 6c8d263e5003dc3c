//! Ollama's own `/api/chat`: a JSON object on each line, the counts in the last.

use serde::Deserialize;

use super::event::{EventFacts, Usage, error_text};
use super::{cow, parse};

#[derive(Deserialize)]
struct Line {
    message: Option<Message>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u32>,
    eval_count: Option<u32>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Vec<serde::de::IgnoredAny>,
}

/// What a line, or a whole answer, says.
pub(super) fn read(data: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let line: Line = parse(data)?;
    let is_some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let message = line.message.as_ref();
    let content = message.is_some_and(|message| is_some(&message.content));
    let output = content
        || message
            .is_some_and(|message| is_some(&message.thinking) || !message.tool_calls.is_empty());
    Ok(EventFacts {
        output,
        content,
        // The last line has counts and no text; it is no token.
        blank: message.is_some() && !output && !line.done,
        usage: line.done.then_some(Usage {
            input: line.prompt_eval_count,
            output: line.eval_count,
            cached: None,
            reasoning: None,
        }),
        finish_reason: cow(line
            .done
            .then(|| line.done_reason.unwrap_or_else(|| "stop".to_owned()))),
        error: line.error.as_ref().and_then(error_text),
        ..EventFacts::default()
    })
}
