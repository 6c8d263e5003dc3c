//! One row of a JSON file, read leniently: only broken JSON stops the reader, so one odd row never hides the next.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::conversation::{Conversation, TurnFilter};
use super::facts::DropReason;
use super::images::{self, Named};
use super::select::{Candidate, Unfit};
use super::source::Fields;

/// Which field of a row holds what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Prompt,
    Turns,
    Text,
    Id,
    Category,
    Image,
    MaxTokens,
    MinTokens,
    IgnoreEos,
}

/// A row as it was read, its values not yet judged.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Whether it was an object or a bare text at all.
    readable: bool,
    prompt: Option<Value>,
    turns: Option<Turns>,
    /// All messages of a conversation, where they are wanted.
    messages: Option<Value>,
    text: Option<Value>,
    id: Option<Value>,
    category: Option<Value>,
    max_tokens: Option<Value>,
    min_tokens: Option<Value>,
    ignore_eos: Option<Value>,
    /// Images beside what the prompt or the first human turn says.
    images: Vec<String>,
    /// Images in a field of their own.
    pictures: Option<Value>,
    /// All of it, where a template makes a prompt of it.
    whole: Option<serde_json::Map<String, Value>>,
}

/// What matters of a conversation: who begins, and what the user says first.
#[derive(Debug, Default)]
struct Turns {
    human_first: bool,
    first_human: Option<String>,
    images: Vec<String>,
}

/// Reads one [`Row`] from any serde format.
#[derive(Clone, Copy)]
pub(super) struct RowSeed<'a>(pub(super) &'a Fields);

impl Row {
    /// A row of named texts, as a table has them.
    pub(super) fn from_columns<'a>(
        fields: &Fields,
        columns: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Row {
        let mut row = Row {
            readable: true,
            ..Row::default()
        };
        row.whole = fields.template.as_ref().map(|_| serde_json::Map::new());
        for (name, value) in columns.filter(|(_, value)| !value.is_empty()) {
            if let Some(whole) = &mut row.whole {
                whole.insert(name.to_owned(), Value::String(value.to_owned()));
            }
            if let Some(slot) = slot(fields, name) {
                row.set(slot, Value::String(value.to_owned()));
            }
        }
        row
    }

    /// The row of a `file`: it must hold a prompt, or what the template makes one of.
    pub(super) fn into_prompt(
        mut self,
        fields: &Fields,
        template: Option<&RowTemplate>,
    ) -> Result<Candidate, Unfit> {
        if !self.readable {
            return Err(bad("is neither an object nor a text"));
        }
        if let Some(template) = template {
            let whole = self.whole.take().unwrap_or_default();
            let text = template.render(whole).map_err(Unfit::Bad)?;
            return match text.trim() {
                "" => Err(bad("has an empty prompt")),
                _ => self.with_text(text),
            };
        }
        let said = self.prompt.take().map(said);
        let said = said.or_else(|| {
            let turns = self.turns.take()?;
            Some(turns.first_human)
        });
        let said = said.or_else(|| self.text.take().map(self::said));
        match said.flatten() {
            Some(text) if text.trim().is_empty() => Err(bad("has an empty prompt")),
            Some(text) => self.with_text(text),
            None => Err(Unfit::Bad(match &fields.prompt {
                Some(name) => format!("has no text in `{name}`"),
                None => {
                    "has no text in `prompt`, `conversations`, `conversation`, `messages` or `text`"
                        .to_owned()
                }
            })),
        }
    }

    /// The row of a ShareGPT file: the first turn, if a human says it; what cannot be used is dropped.
    pub(super) fn into_first_turn(mut self) -> Result<Candidate, Unfit> {
        let said = match self.turns.take() {
            Some(turns) if turns.human_first => turns.first_human,
            Some(turns) if turns.first_human.is_some() => {
                return Err(Unfit::Dropped(DropReason::NotHumanFirst));
            }
            Some(_) => None,
            None => self.prompt.take().or(self.text.take()).and_then(said),
        };
        match said.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => {
                let text = text.to_owned();
                self.with_text(text)
            }
            _ => Err(Unfit::Dropped(DropReason::NoText)),
        }
    }

    /// The row of a file of conversations: it must hold one; what cannot be used is dropped.
    pub(super) fn into_conversation(mut self, wanted: &TurnFilter) -> Result<Candidate, Unfit> {
        if !self.readable {
            return Err(bad("is neither an object nor a text"));
        }
        let Some(messages) = self.messages.take() else {
            return Err(bad(
                "has no messages in `conversations`, `conversation` or `messages`",
            ));
        };
        let (conversation, images) = Conversation::of(messages, wanted)?;
        let text = conversation.turns[0].said.to_string();
        let mut candidate = self.with_text(text)?;
        candidate.images.extend(images);
        Ok(Candidate {
            conversation: Some(conversation),
            ..candidate
        })
    }

    fn with_text(mut self, text: String) -> Result<Candidate, Unfit> {
        if let Some(pictures) = self.pictures.take() {
            let own = images::of_field(&pictures).map_err(Unfit::Bad)?;
            self.images.extend(own);
        }
        let candidate = Candidate {
            id: self.id.and_then(name),
            text,
            category: self.category.and_then(name),
            max_tokens: count("max_tokens", self.max_tokens)?,
            min_tokens: count("min_tokens", self.min_tokens)?,
            ignore_eos: truth("ignore_eos", self.ignore_eos)?,
            expected_tokens: None,
            conversation: None,
            images: self
                .images
                .into_iter()
                .map(|image| Named { turn: 0, image })
                .collect(),
        };
        consistent(candidate)
    }

    fn set_turns(&mut self, mut turns: Turns) {
        self.images = std::mem::take(&mut turns.images);
        self.turns = Some(turns);
    }

    fn set(&mut self, slot: Slot, value: Value) {
        if value.is_null() {
            return;
        }
        match slot {
            Slot::Prompt => {
                self.images = images::named_in(&value);
                self.prompt = Some(value);
            }
            Slot::Turns => self.set_turns(Turns::of(value)),
            Slot::Text => self.text = Some(value),
            Slot::Id => self.id = Some(value),
            Slot::Category => self.category = Some(value),
            Slot::Image => self.pictures = Some(value),
            Slot::MaxTokens => self.max_tokens = Some(value),
            Slot::MinTokens => self.min_tokens = Some(value),
            Slot::IgnoreEos => self.ignore_eos = Some(value),
        }
    }
}

/// The candidate, if its floor does not lie above its cap.
pub(super) fn consistent(candidate: Candidate) -> Result<Candidate, Unfit> {
    match (candidate.min_tokens, candidate.max_tokens) {
        (Some(min), Some(max)) if min > max => Err(Unfit::Bad(format!(
            "asks for at least {min} tokens and at most {max}"
        ))),
        _ => Ok(candidate),
    }
}

/// A number of tokens: a positive whole number, or its digits.
pub(super) fn count(field: &str, value: Option<Value>) -> Result<Option<u32>, Unfit> {
    let Some(value) = value else { return Ok(None) };
    whole_number(&value)
        .filter(|&tokens| tokens > 0)
        .map(Some)
        .ok_or_else(|| {
            Unfit::Bad(format!(
                "`{field}` is {}, not a number of tokens",
                shown(&value)
            ))
        })
}

/// A yes or no, or its text.
pub(super) fn truth(field: &str, value: Option<Value>) -> Result<Option<bool>, Unfit> {
    match value {
        None => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(truth)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(value) => Err(Unfit::Bad(format!(
            "`{field}` is {}, not true or false",
            shown(&value)
        ))),
    }
}

/// A value as an error quotes it.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("`{}…`", &text[..cut]),
        None => format!("`{text}`"),
    }
}

/// A whole number below 2³², however it is spelled.
pub(super) fn whole_number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => u32::try_from(whole).ok(),
            None => number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(float))
                .map(|float| float as u32),
        },
        Value::String(digits) => digits.trim().parse().ok(),
        _ => None,
    }
}

impl Turns {
    fn of(value: Value) -> Turns {
        let mut turns = Turns::default();
        if let Value::Array(items) = value {
            for (number, turn) in items.into_iter().enumerate() {
                turns.add(number, turn);
            }
        }
        turns
    }

    fn add(&mut self, number: usize, mut turn: Value) {
        if self.first_human.is_some() || !is_human(&turn) {
            return;
        }
        self.human_first = number == 0;
        let content = ["value", "content", "text"]
            .iter()
            .find_map(|key| turn.get_mut(*key).map(Value::take));
        self.images = content.as_ref().map(images::named_in).unwrap_or_default();
        self.first_human = content.and_then(said).or(Some(String::new()));
    }
}

fn is_human(turn: &Value) -> bool {
    let speaker = turn.get("from").or_else(|| turn.get("role"));
    speaker
        .and_then(Value::as_str)
        .is_some_and(|role| role.eq_ignore_ascii_case("human") || role.eq_ignore_ascii_case("user"))
}

/// What a value says: a text, the text parts of a message, or the first human turn of a conversation.
pub(super) fn said(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) if items.iter().any(is_human) => {
            Turns::of(Value::Array(items)).first_human
        }
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .filter_map(|part| part.get("text")?.as_str())
                .collect();
            (!texts.is_empty()).then(|| texts.join("\n"))
        }
        _ => None,
    }
}

fn name(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn bad(message: &str) -> Unfit {
    Unfit::Bad(message.to_owned())
}

/// What the field `key` holds; a renamed field is known by its new name only.
fn slot(fields: &Fields, key: &str) -> Option<Slot> {
    let named = [
        (&fields.prompt, &["prompt"][..], Slot::Prompt),
        (&fields.id, &["id"], Slot::Id),
        (&fields.category, &["category"], Slot::Category),
        (&fields.image, &[], Slot::Image),
        (
            &fields.max_tokens,
            &["max_output_tokens", "max_tokens"],
            Slot::MaxTokens,
        ),
        (
            &fields.min_tokens,
            &["min_output_tokens", "min_tokens"],
            Slot::MinTokens,
        ),
        (&fields.ignore_eos, &["ignore_eos"], Slot::IgnoreEos),
    ];
    for (renamed, usual, slot) in named {
        let matches = match renamed {
            Some(name) => name == key,
            None => usual.contains(&key),
        };
        if matches {
            return Some(slot);
        }
    }
    // With a prompt field of one's own, another field is no substitute for it.
    match key {
        _ if fields.prompt.is_some() => None,
        "conversations" | "conversation" | "messages" => Some(Slot::Turns),
        "text" => Some(Slot::Text),
        _ => None,
    }
}

/// Makes a prompt of a row.
pub(super) struct RowTemplate {
    environment: minijinja::Environment<'static>,
}

impl RowTemplate {
    /// Reads a template; a field that a row does not have is a mistake of that row.
    pub(super) fn new(text: &str) -> Result<RowTemplate, String> {
        let mut environment = minijinja::Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.set_fuel(Some(100_000));
        environment
            .add_template_owned("prompt", text.to_owned())
            .map_err(|error| format!("the template is wrong: {error}"))?;
        Ok(RowTemplate { environment })
    }

    fn render(&self, row: serde_json::Map<String, Value>) -> Result<String, String> {
        let row = minijinja::Value::from(minijinja::value::Serde(&row));
        self.environment
            .get_template("prompt")
            .and_then(|template| template.render(minijinja::context! { row }))
            .map_err(|error| format!("does not fit the template: {error}"))
    }
}

/// Whether a table with this column can hold prompts.
pub(super) fn holds_prompts(fields: &Fields, column: &str) -> bool {
    matches!(slot(fields, column), Some(Slot::Prompt | Slot::Text))
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row of a prompt set")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row {
            readable: true,
            ..Row::default()
        };
        if self.0.template.is_some() {
            let mut whole = serde_json::Map::new();
            while let Some((key, value)) = map.next_entry::<String, Value>()? {
                if let Some(slot) = slot(self.0, &key) {
                    row.set(slot, value.clone());
                }
                whole.insert(key, value);
            }
            row.whole = Some(whole);
            return Ok(row);
        }
        while let Some(key) = map.next_key::<String>()? {
            match slot(self.0, &key) {
                Some(Slot::Turns) if self.0.conversations => {
                    row.messages = Some(map.next_value()?);
                }
                Some(Slot::Turns) => {
                    if let Some(turns) = map.next_value_seed(TurnsSeed)? {
                        row.set_turns(turns);
                    }
                }
                Some(slot) => row.set(slot, map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(row)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Row, E> {
        Ok(Row {
            readable: true,
            prompt: Some(Value::String(text.to_owned())),
            ..Row::default()
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Row, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Row::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Row, E> {
        Ok(Row::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Row, E> {
        Ok(Row::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Row, E> {
        Ok(Row::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Row, E> {
        Ok(Row::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Row, E> {
        Ok(Row::default())
    }
}

/// Reads the turns of a conversation and keeps the first human one; `None` where there are no turns.
#[derive(Clone, Copy)]
struct TurnsSeed;

impl<'de> DeserializeSeed<'de> for TurnsSeed {
    type Value = Option<Turns>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Turns>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TurnsSeed {
    type Value = Option<Turns>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the turns of a conversation")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<Turns>, A::Error> {
        let mut turns = Turns::default();
        let mut number = 0;
        while turns.first_human.is_none() {
            let Some(turn) = items.next_element::<Value>()? else {
                return Ok(Some(turns));
            };
            turns.add(number, turn);
            number += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(turns))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Turns>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<Turns>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Turns>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<Turns>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<Turns>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<Turns>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<Turns>, E> {
        Ok(None)
    }
}
