//! What one event of a stream says, read without building a JSON tree.

use std::borrow::Cow;
use std::fmt;

use super::glance::glance;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Token counts as an engine tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub input: Option<u32>,
    /// Generated tokens so far.
    pub output: Option<u32>,
    /// Prompt tokens from the prefix cache.
    pub cached: Option<u32>,
    /// Generated tokens that were reasoning.
    pub reasoning: Option<u32>,
}

impl Usage {
    /// These counts, and the earlier ones where these say nothing: details may come in one block of a stream alone.
    pub fn over(self, earlier: Usage) -> Usage {
        Usage {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cached: self.cached.or(earlier.cached),
            reasoning: self.reasoning.or(earlier.reasoning),
        }
    }
}

/// What one event says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFacts<'a> {
    /// It carries text, reasoning, a tool call or a refusal that is not empty.
    pub output: bool,
    /// It carries visible answer text that is not empty.
    pub content: bool,
    /// It has a text field, though an empty one: a usage or token-id delta may prove it to be a token.
    pub blank: bool,
    /// Ids of the tokens in it, when the engine tells them.
    pub token_ids: u32,
    /// Why generation ended.
    pub finish_reason: Option<Cow<'a, str>>,
    /// Its usage block.
    pub usage: Option<Usage>,
    /// The text of its error.
    pub error: Option<String>,
}

/// Reads the data of one event: at a glance where its shape is the common one, else in full.
///
/// # Errors
/// It is not a JSON object.
pub fn read_event(data: &[u8]) -> Result<EventFacts<'_>, serde_json::Error> {
    glance(data).map_or_else(|| read_in_full(data), Ok)
}

/// Reads the data of one event with a full parse, which builds no tree either.
///
/// # Errors
/// It is not a JSON object.
pub fn read_in_full(data: &[u8]) -> Result<EventFacts<'_>, serde_json::Error> {
    let mut facts = EventFacts::default();
    let mut reader = serde_json::Deserializer::from_slice(data);
    reader.deserialize_map(Chunk(&mut facts))?;
    reader.end()?;
    Ok(facts)
}

/// The top of a chunk: `choices`, `usage`, `error`.
struct Chunk<'f, 'de>(&'f mut EventFacts<'de>);

impl<'de> Visitor<'de> for Chunk<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Choices => map.next_value_seed(Choices(&mut *self.0))?,
                Key::Usage => {
                    self.0.usage = map.next_value_seed(Nullable(UsageBlock))?.or(self.0.usage)
                }
                Key::Error => {
                    let error: serde_json::Value = map.next_value()?;
                    self.0.error = error_text(&error);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A text that says what an `error` value means; null is none.
pub(super) fn error_text(error: &serde_json::Value) -> Option<String> {
    match error {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(fields) => match fields.get("message").and_then(|m| m.as_str()) {
            Some(message) => Some(message.to_owned()),
            None => Some(error.to_string()),
        },
        other => Some(other.to_string()),
    }
}

/// Every element of `choices`, folded into the facts.
struct Choices<'f, 'de>(&'f mut EventFacts<'de>);

impl<'de> DeserializeSeed<'de> for Choices<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Choices<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of choices")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        while list.next_element_seed(Delta(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

/// A choice, its `delta` or its `message`: the fields of all three are looked for on each level.
struct Delta<'f, 'de>(&'f mut EventFacts<'de>);

impl<'de> DeserializeSeed<'de> for Delta<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Delta<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a choice")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let facts = self.0;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Delta => map.next_value_seed(Delta(&mut *facts))?,
                Key::Content => {
                    let size = map.next_value_seed(Size)?;
                    facts.content |= size == Size::SOME;
                    facts.output |= size == Size::SOME;
                    facts.blank |= size == Size::EMPTY;
                }
                Key::Reasoning => facts.output |= map.next_value_seed(Size)? == Size::SOME,
                Key::TokenIds => facts.token_ids += map.next_value_seed(Length)?,
                Key::FinishReason => {
                    if let Some(reason) = map.next_value::<Option<BorrowedText<'de>>>()? {
                        facts.finish_reason = Some(reason.0);
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The keys that matter, on any level.
enum Key {
    Choices,
    Usage,
    Error,
    /// `delta` or `message`.
    Delta,
    /// `content` or `text`: visible text.
    Content,
    /// `reasoning`, `reasoning_content`, `tool_calls`, `function_call`, `refusal`: output that is not answer text.
    Reasoning,
    TokenIds,
    FinishReason,
    Other,
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "choices" => Key::Choices,
                    "usage" => Key::Usage,
                    "error" => Key::Error,
                    "delta" | "message" => Key::Delta,
                    "content" | "text" => Key::Content,
                    "reasoning" | "reasoning_content" | "tool_calls" | "function_call"
                    | "refusal" => Key::Reasoning,
                    "token_ids" => Key::TokenIds,
                    "finish_reason" => Key::FinishReason,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

/// Whether a value is null, empty, or something.
struct Size;

impl Size {
    const NONE: u8 = 0;
    const EMPTY: u8 = 1;
    const SOME: u8 = 2;
}

impl<'de> DeserializeSeed<'de> for Size {
    type Value = u8;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u8, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Size {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a list, an object or null")
    }

    fn visit_unit<E>(self) -> Result<u8, E> {
        Ok(Size::NONE)
    }

    fn visit_bool<E>(self, _: bool) -> Result<u8, E> {
        Ok(Size::NONE)
    }

    fn visit_str<E>(self, text: &str) -> Result<u8, E> {
        Ok(if text.is_empty() {
            Size::EMPTY
        } else {
            Size::SOME
        })
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<u8, S::Error> {
        let mut size = Size::NONE;
        while list.next_element::<IgnoredAny>()?.is_some() {
            size = Size::SOME;
        }
        Ok(size)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<u8, M::Error> {
        let mut size = Size::NONE;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            size = Size::SOME;
        }
        Ok(size)
    }
}

/// The length of a list; null has none.
struct Length;

impl<'de> DeserializeSeed<'de> for Length {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Length {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or null")
    }

    fn visit_unit<E>(self) -> Result<u32, E> {
        Ok(0)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<u32, S::Error> {
        let mut length = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            length += 1;
        }
        Ok(length)
    }
}

#[derive(serde::Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value or null.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// `usage`, with the counts of its details.
struct UsageBlock;

impl<'de> DeserializeSeed<'de> for UsageBlock {
    type Value = Usage;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Usage, D::Error> {
        use serde::Deserialize;
        #[derive(Deserialize)]
        struct Block {
            prompt_tokens: Option<u32>,
            completion_tokens: Option<u32>,
            reasoning_tokens: Option<u32>,
            prompt_tokens_details: Option<Details>,
            completion_tokens_details: Option<Details>,
        }
        #[derive(Deserialize, Default)]
        struct Details {
            cached_tokens: Option<u32>,
            reasoning_tokens: Option<u32>,
        }
        let block = Block::deserialize(deserializer)?;
        Ok(Usage {
            input: block.prompt_tokens,
            output: block.completion_tokens,
            cached: block
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens),
            reasoning: block
                .completion_tokens_details
                .and_then(|details| details.reasoning_tokens)
                .or(block.reasoning_tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(data: &str) -> EventFacts<'_> {
        read_event(data.as_bytes()).unwrap()
    }

    #[test]
    fn a_role_chunk_is_no_output() {
        let role = facts(
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        );
        assert!(!role.output && role.blank && role.finish_reason.is_none() && role.usage.is_none());
        assert!(!facts(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#).blank);
    }

    #[test]
    fn every_kind_of_generated_output_counts() {
        for delta in [
            r#"{"content":"a"}"#,
            r#"{"reasoning":"a","content":null}"#,
            r#"{"reasoning_content":"a"}"#,
            r#"{"refusal":"no"}"#,
            r#"{"tool_calls":[{"index":0}]}"#,
            r#"{"function_call":{"name":"f"}}"#,
        ] {
            assert!(
                facts(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)).output,
                "{delta}"
            );
        }
        let text = r#"{"choices":[{"text":"a"}]}"#;
        assert!(facts(text).output && facts(text).content);
        assert!(!facts(r#"{"choices":[{"delta":{"reasoning":"a"}}]}"#).content);
        assert!(!facts(r#"{"choices":[{"delta":{"tool_calls":[]}}]}"#).output);
    }

    #[test]
    fn usage_is_read_with_its_details() {
        let usage = facts(
            r#"{"choices":[],"usage":{"prompt_tokens":25,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":24},
            "completion_tokens_details":{"reasoning_tokens":3}}}"#,
        )
        .usage
        .unwrap();
        assert_eq!(
            usage,
            Usage {
                input: Some(25),
                output: Some(7),
                cached: Some(24),
                reasoning: Some(3)
            }
        );
    }

    #[test]
    fn an_error_may_be_an_object_or_a_string() {
        assert_eq!(
            facts(r#"{"error":{"message":"boom","code":500}}"#)
                .error
                .as_deref(),
            Some("boom")
        );
        assert_eq!(facts(r#"{"error":"boom"}"#).error.as_deref(), Some("boom"));
        assert_eq!(facts(r#"{"error":null,"choices":[]}"#).error, None);
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for bad in [
            "",
            "[]",
            "{",
            "null",
            "{} x",
            "{\"choices\":[{\"delta\":{\"content\":\"\u{0}",
        ] {
            assert!(read_event(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
