//! OpenAI's Responses API: named events, each with its `type`.

use serde::Deserialize;

use super::event::{EventFacts, Usage};
use super::{cow, parse};

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    delta: Option<serde_json::Value>,
    response: Option<Answer>,
    error: Option<serde_json::Value>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    status: Option<String>,
    #[serde(default)]
    output: Vec<Item>,
    usage: Option<Counts>,
    incomplete_details: Option<Incomplete>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u32>,
    output_tokens: Option<u32>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    cached_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u32>,
}

/// What an event of the stream says.
pub(super) fn read(data: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let event: Event = parse(data)?;
    let kind = event.kind.as_deref().unwrap_or("");
    let mut facts = EventFacts::default();
    if kind == "error" {
        facts.error = event.error.as_ref().and_then(super::event::error_text);
        facts.error = facts.error.or(event.message).or(Some(kind.to_owned()));
        return Ok(facts);
    }
    // `response.output_text.delta`, `response.reasoning_text.delta`, `response.function_call_arguments.delta`, …
    if kind.ends_with(".delta") {
        let told = match &event.delta {
            Some(serde_json::Value::String(text)) => !text.is_empty(),
            Some(serde_json::Value::Null) | None => false,
            Some(_) => true,
        };
        facts.output = told;
        facts.content = told && kind == "response.output_text.delta";
        facts.blank = !told;
    }
    // The first events carry the whole response too, without anything in it.
    if let Some(answer) = event.response
        && !matches!(
            kind,
            "response.created" | "response.in_progress" | "response.queued"
        )
    {
        ending(answer, &mut facts);
    }
    Ok(facts)
}

/// What a whole answer says.
pub(super) fn read_answer(body: &[u8]) -> Result<EventFacts<'static>, serde_json::Error> {
    let answer: Answer = parse(body)?;
    let mut facts = EventFacts {
        output: !answer.output.is_empty(),
        content: answer
            .output
            .iter()
            .any(|item| item.kind.as_deref() == Some("message")),
        ..EventFacts::default()
    };
    ending(answer, &mut facts);
    Ok(facts)
}

fn ending(answer: Answer, facts: &mut EventFacts<'static>) {
    facts.error = answer.error.as_ref().and_then(super::event::error_text);
    facts.usage = answer.usage.map(|counts| Usage {
        input: counts.input_tokens,
        output: counts.output_tokens,
        cached: counts
            .input_tokens_details
            .and_then(|details| details.cached_tokens),
        reasoning: counts
            .output_tokens_details
            .and_then(|details| details.reasoning_tokens),
    });
    facts.finish_reason = match answer.status.as_deref() {
        Some("completed") => cow(Some("stop".to_owned())),
        Some("incomplete") => {
            let reason = answer.incomplete_details.and_then(|details| details.reason);
            cow(Some(match reason.as_deref() {
                Some("max_output_tokens") => "length".to_owned(),
                Some(reason) => reason.to_owned(),
                None => "incomplete".to_owned(),
            }))
        }
        Some("failed") => {
            facts
                .error
                .get_or_insert_with(|| "the response failed".to_owned());
            None
        }
        Some(_) | None => None,
    };
}
