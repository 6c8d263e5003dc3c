//! TGI's own `/generate_stream`: one token an event, the counts with the last.

use serde::Deserialize;

use super::event::{EventFacts, Usage, error_text};
use super::{cow, parse};

#[derive(Deserialize)]
struct Event {
    token: Option<Token>,
    generated_text: Option<String>,
    details: Option<Details>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Token {
    text: Option<String>,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Details {
    finish_reason: Option<String>,
    generated_tokens: Option<u32>,
    input_length: Option<u32>,
}

/// What an event, or a whole answer, says.
pub(super) fn read(data: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let event: Event = parse(data)?;
    let text = event.token.as_ref().and_then(|token| token.text.as_ref());
    let is_text = text.is_some_and(|text| !text.is_empty());
    let special = event.token.as_ref().is_some_and(|token| token.special);
    let whole = event.token.is_none()
        && event
            .generated_text
            .as_ref()
            .is_some_and(|text| !text.is_empty());
    let details = event.details;
    Ok(EventFacts {
        output: (is_text && !special) || whole,
        content: (is_text && !special) || whole,
        // The end-of-sequence token is generated, and no text.
        blank: event.token.is_some() && (special || !is_text),
        token_ids: u32::from(event.token.is_some()),
        usage: details.as_ref().map(|details| Usage {
            input: details.input_length,
            output: details.generated_tokens,
            cached: None,
            reasoning: None,
        }),
        finish_reason: cow(details
            .and_then(|details| details.finish_reason)
            .map(reason)),
        error: event.error.as_ref().and_then(error_text),
    })
}

/// The words that the other dialects use.
fn reason(told: String) -> String {
    match told.as_str() {
        "eos_token" | "stop_sequence" => "stop".to_owned(),
        _ => told,
    }
}
