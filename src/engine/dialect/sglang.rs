//! SGLang's own `/generate`: each event has the text and the counts from the beginning on.

use serde::Deserialize;

use super::event::{EventFacts, Usage, error_text};
use super::{cow, parse};

#[derive(Deserialize)]
struct Event {
    text: Option<String>,
    output_ids: Option<serde::de::IgnoredAny>,
    meta_info: Option<Meta>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Meta {
    finish_reason: Option<Finish>,
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    cached_tokens: Option<u32>,
}

/// `{"type":"length","length":16}`, and a bare word in old versions.
#[derive(Deserialize)]
#[serde(untagged)]
enum Finish {
    Word(String),
    Of {
        #[serde(rename = "type")]
        kind: String,
        message: Option<String>,
    },
}

/// What an event, or a whole answer, says.
pub(super) fn read(data: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let event: Event = parse(data)?;
    let mut facts = EventFacts {
        content: event.text.as_ref().is_some_and(|text| !text.is_empty()),
        // The text is that of the whole answer so far: whether something is new is told by the count.
        blank: event.text.is_some() || event.output_ids.is_some(),
        error: event.error.as_ref().and_then(error_text),
        ..EventFacts::default()
    };
    let Some(meta) = event.meta_info else {
        return Ok(facts);
    };
    facts.usage = Some(Usage {
        input: meta.prompt_tokens,
        output: meta.completion_tokens,
        cached: meta.cached_tokens,
        reasoning: None,
    });
    let reason = match meta.finish_reason {
        Some(Finish::Of { kind, message }) if kind == "abort" => {
            facts.error = facts.error.or(message).or(Some(kind));
            None
        }
        Some(Finish::Word(kind) | Finish::Of { kind, .. }) => Some(kind),
        None => None,
    };
    facts.finish_reason = cow(reason);
    Ok(facts)
}
