//! The generate extension of Triton, behind which TensorRT-LLM's backend stands: new text in each event, no counts, no end mark.

use serde::Deserialize;

use super::event::{EventFacts, error_text};
use super::parse;

#[derive(Deserialize)]
struct Event {
    text_output: Option<String>,
    error: Option<serde_json::Value>,
}

/// What an event, or a whole answer, says.
pub(super) fn read(data: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let event: Event = parse(data)?;
    let told = event
        .text_output
        .as_ref()
        .is_some_and(|text| !text.is_empty());
    Ok(EventFacts {
        output: told,
        content: told,
        blank: event.text_output.is_some() && !told,
        error: event.error.as_ref().and_then(error_text),
        ..EventFacts::default()
    })
}
