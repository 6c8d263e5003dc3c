//! The visible text of an answer, for those that must know what was said: the next turn of a conversation looks back on it.
//!
//! Reasoning, tool calls and refusals are no part of it: they are not sent back to a model.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::Dialect;
use crate::plan::Api;

/// What an event adds to the text of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken<'a> {
    /// This comes after what was said before.
    More(Cow<'a, str>),
    /// This is all that was said so far.
    All(Cow<'a, str>),
}

impl Spoken<'_> {
    /// The text after this event.
    pub fn add_to(self, said: &mut String) {
        match self {
            Spoken::More(text) => said.push_str(&text),
            Spoken::All(text) => {
                said.clear();
                said.push_str(&text);
            }
        }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Message<'a>>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
}

impl Dialect {
    /// What an event of a stream adds to the visible text.
    pub fn spoken(self, data: &[u8]) -> Option<Spoken<'_>> {
        match self.api {
            Api::Chat | Api::Completions | Api::Offline => {
                let chunk: Chunk<'_> = serde_json::from_slice(data).ok()?;
                let choice = chunk.choices.into_iter().next()?;
                let message = choice.delta.or(choice.message);
                let text = message
                    .and_then(|message| message.content)
                    .or(choice.text)?;
                Some(Spoken::More(text))
            }
            Api::Responses => {
                let event = tree(data)?;
                let is_text = event["type"] == "response.output_text.delta";
                more(event["delta"].as_str().filter(|_| is_text))
            }
            Api::Messages => {
                let event = tree(data)?;
                more(event["delta"]["text"].as_str())
            }
            Api::Generate => {
                let event = tree(data)?;
                let all = event["text"].as_str()?;
                Some(Spoken::All(Cow::Owned(all.to_owned())))
            }
            Api::Triton => {
                let event = tree(data)?;
                more(event["text_output"].as_str())
            }
            Api::Tgi => {
                let event = tree(data)?;
                let token = &event["token"];
                more(token["text"].as_str().filter(|_| token["special"] != true))
            }
            Api::Ollama => {
                let event = tree(data)?;
                more(event["message"]["content"].as_str())
            }
        }
    }

    /// The visible text of an answer that is no stream.
    pub fn said(self, body: &[u8]) -> Option<String> {
        match self.api {
            Api::Responses => texts(&tree(body)?["output"], "content"),
            Api::Messages => texts(&serde_json::json!([tree(body)?]), "content"),
            Api::Tgi => tree(body)?["generated_text"].as_str().map(str::to_owned),
            Api::Chat
            | Api::Completions
            | Api::Generate
            | Api::Triton
            | Api::Ollama
            | Api::Offline => match self.spoken(body)? {
                Spoken::More(text) | Spoken::All(text) => Some(text.into_owned()),
            },
        }
    }
}

fn tree(data: &[u8]) -> Option<Value> {
    serde_json::from_slice(data).ok()
}

fn more(text: Option<&str>) -> Option<Spoken<'static>> {
    text.map(|text| Spoken::More(Cow::Owned(text.to_owned())))
}

/// The texts of the parts that each item holds under `key`.
fn texts(items: &Value, key: &str) -> Option<String> {
    let parts = items
        .as_array()?
        .iter()
        .filter_map(|item| item[key].as_array());
    let texts = parts.flatten().filter_map(|part| part["text"].as_str());
    Some(texts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BackendKind;

    /// What is said after these events.
    fn said(api: Api, events: &[&str]) -> String {
        let dialect = dialect(api);
        let mut said = String::new();
        for event in events {
            if let Some(spoken) = dialect.spoken(event.as_bytes()) {
                spoken.add_to(&mut said);
            }
        }
        said
    }

    fn dialect(api: Api) -> Dialect {
        Dialect {
            api,
            kind: BackendKind::Openai,
        }
    }

    #[test]
    fn each_language_says_its_text_in_its_own_place() {
        let hello: [(Api, &[&str]); 8] = [
            (
                Api::Chat,
                &[
                    r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                    r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
                    r#"{"choices":[{"delta":{"content":"Hel"}}]}"#,
                    r#"{"choices":[{"delta":{"content":"lo \"you\""}}]}"#,
                    r#"{"choices":[],"usage":{"completion_tokens":2}}"#,
                ],
            ),
            (
                Api::Completions,
                &[
                    r#"{"choices":[{"text":"Hel"}]}"#,
                    r#"{"choices":[{"text":"lo \"you\""}]}"#,
                ],
            ),
            (
                Api::Responses,
                &[
                    r#"{"type":"response.reasoning_text.delta","delta":"hm"}"#,
                    r#"{"type":"response.output_text.delta","delta":"Hello \"you\""}"#,
                ],
            ),
            (
                Api::Messages,
                &[
                    r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}"#,
                    r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello \"you\""}}"#,
                ],
            ),
            (
                Api::Generate,
                &[r#"{"text":"Hel"}"#, r#"{"text":"Hello \"you\""}"#],
            ),
            (
                Api::Triton,
                &[
                    r#"{"text_output":"Hel"}"#,
                    r#"{"text_output":"lo \"you\""}"#,
                ],
            ),
            (
                Api::Tgi,
                &[
                    r#"{"token":{"text":"Hello \"you\"","special":false}}"#,
                    r#"{"token":{"text":"</s>","special":true},"generated_text":"Hello \"you\""}"#,
                ],
            ),
            (
                Api::Ollama,
                &[
                    r#"{"message":{"content":"Hello \"you\""},"done":false}"#,
                    r#"{"message":{"content":""},"done":true}"#,
                ],
            ),
        ];
        for (api, events) in hello {
            assert_eq!(said(api, events), "Hello \"you\"", "{}", api.name());
        }
    }

    #[test]
    fn a_whole_answer_has_its_text_too() {
        let answers = [
            (
                Api::Chat,
                r#"{"choices":[{"message":{"content":"Hello"}}]}"#,
            ),
            (Api::Completions, r#"{"choices":[{"text":"Hello"}]}"#),
            (
                Api::Responses,
                r#"{"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]}"#,
            ),
            (
                Api::Messages,
                r#"{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"Hello"}]}"#,
            ),
            (Api::Generate, r#"{"text":"Hello"}"#),
            (Api::Triton, r#"{"text_output":"Hello"}"#),
            (Api::Tgi, r#"{"generated_text":"Hello"}"#),
            (
                Api::Ollama,
                r#"{"message":{"content":"Hello"},"done":true}"#,
            ),
        ];
        for (api, body) in answers {
            let said = dialect(api).said(body.as_bytes());
            assert_eq!(said.as_deref(), Some("Hello"), "{}", api.name());
        }
    }
}
