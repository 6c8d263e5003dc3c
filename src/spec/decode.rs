//! From the tree to types: each type reads itself from a node and describes itself as JSON Schema, side by side.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::rules::literal_secret;
use super::schema::Definitions;
use super::tree::{Content, Key, Map, Node};
use super::values::{Entries, Entry, JsonMap, OneOrMany};
use crate::diagnostic::{Diagnostic, Span, Spanned, did_you_mean};
use crate::units::{self, QuantityError, Rate, Share};

/// A type that can be read from a node.
pub(super) trait Decode: Sized {
    /// What it is when its key is left out; `None` if the key must be given.
    fn absent() -> Option<Self> {
        None
    }

    /// Reads it; `None` when that was impossible, which is then among the problems.
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self>;

    /// Reads the value of a key.
    fn decode_field(_key: &Key, node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        Self::decode(node, problems)
    }

    /// What it looks like in JSON.
    fn schema(definitions: &mut Definitions) -> Value;
}

/// The fields of a record, which may stand in a map beside those of another.
pub(super) trait Fields: Sized {
    /// The keys, in the order of documents.
    const KEYS: &'static [&'static str];

    /// Reads the fields; keys of others are not looked at.
    fn decode_fields(map: &Map, place: Span, problems: &mut Problems) -> Option<Self>;

    /// Adds the fields to the schema of a map.
    fn describe(object: &mut ObjectSchema, definitions: &mut Definitions);
}

/// The schema of a map with known keys.
#[derive(Default)]
pub(super) struct ObjectSchema {
    properties: JsonMap,
    required: Vec<Value>,
}

impl ObjectSchema {
    /// Adds a key.
    pub(super) fn property(&mut self, key: &str, description: &str, required: bool, schema: Value) {
        self.properties
            .insert(key.to_owned(), described(schema, description));
        if required {
            self.required.push(key.into());
        }
    }

    /// The schema: no other keys are allowed.
    pub(super) fn finish(self) -> Value {
        let mut schema = json!({ "type": "object", "properties": self.properties, "additionalProperties": false });
        if !self.required.is_empty() {
            schema["required"] = Value::Array(self.required);
        }
        schema
    }
}

/// A schema with a description, which an editor shows.
pub(super) fn described(mut schema: Value, description: &str) -> Value {
    let description = description.trim();
    if let (Value::Object(object), false) = (&mut schema, description.is_empty()) {
        object.insert("description".to_owned(), description.into());
    }
    schema
}

/// How a record may be written.
pub(super) struct Shape {
    /// The key that anything but a map stands for.
    pub(super) short: Option<&'static str>,
    /// What to write in place of something else than a map.
    pub(super) instead: Option<&'static str>,
    /// Whether `x-*` keys and `$schema` are ignored.
    pub(super) open: bool,
}

/// Reads a record that has a map for itself.
pub(super) fn decode_record<T: Fields>(
    node: &Rc<Node>,
    shape: &Shape,
    problems: &mut Problems,
) -> Option<T> {
    let short = shape
        .short
        .filter(|_| !matches!(&node.content, Content::Map(_)));
    let widened = short.map(|key| Node::widen(key, node));
    let node = widened.as_ref().unwrap_or(node);
    let Some(map) = problems.map("a map", node) else {
        shape.instead.iter().for_each(|it| problems.advise(*it));
        return None;
    };
    problems.known_keys(map, T::KEYS, shape.open);
    T::decode_fields(map, node.span, problems)
}

/// The schema of a record that has a map for itself.
pub(super) fn object_schema<T: Fields>(open: bool, definitions: &mut Definitions) -> Value {
    let mut object = ObjectSchema::default();
    T::describe(&mut object, definitions);
    if open {
        let address = json!({});
        object.property(
            "$schema",
            "Where an editor finds this schema.",
            false,
            address,
        );
    }
    let mut schema = object.finish();
    if open {
        schema["patternProperties"] = json!({ "^x-": {} });
    }
    schema
}

/// The schema of a closed list of words.
pub(super) fn words_schema(description: &str, words: &[(&str, String)]) -> Value {
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let mut text = description.to_owned();
    for (word, meaning) in words {
        text.push_str(&format!("\n- `{word}`: {meaning}"));
    }
    json!({ "enum": all, "description": text })
}

/// The lines of a doc comment as one text.
pub(super) fn documentation(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// Everything that is wrong with a file, collected on the way.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) list: Vec<Diagnostic>,
    /// Misspelt keys and what they are read as, so that one mistake is told once.
    meant: HashMap<Span, String>,
}

/// Words that people bring from other tools, and what they are called here.
const REWRITES: &[(&str, &str)] = &[
    ("duration", "for"),
    ("concurrency", "users"),
    ("vus", "users"),
    ("sweep", "levels"),
    ("thresholds", "slos"),
    ("endpoint", "url"),
    ("base_url", "url"),
    ("isl", "input_tokens"),
    ("osl", "output_tokens"),
    ("request_rate", "rate"),
    ("num_prompts", "requests"),
    ("goodput_slo", "goodput"),
    ("warmup_requests", "warmup"),
    ("per", "split"),
    ("of", "count"),
    ("api_key", "auth"),
    ("token", "auth"),
];

/// Keys of other tools whose value is a secret, and is hidden wherever it is quoted.
const SECRET_KEYS: &[&str] = &["api_key", "apikey", "bearer", "password", "secret", "token"];

impl Problems {
    /// Notes an error at a place.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Diagnostic::error(code, message).at(span, label))
    }

    /// Notes a diagnostic.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.list.push(diagnostic);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Notes that a value is of another type than is wanted.
    pub(super) fn expected(&mut self, what: &str, node: &Node) -> &mut Diagnostic {
        let found = found(node);
        self.error(
            "S013",
            format!("expected {what}, found {found}"),
            node.span,
            "",
        )
    }

    /// The map that a node must be.
    pub(super) fn map<'n>(&mut self, what: &str, node: &'n Node) -> Option<&'n Map> {
        match &node.content {
            Content::Map(map) => Some(map),
            Content::Scalar { .. } | Content::List(_) => {
                self.expected(what, node);
                None
            }
        }
    }

    /// The text that a node must be.
    pub(super) fn text<'n>(&mut self, what: &str, node: &'n Node) -> Option<&'n str> {
        match &node.content {
            Content::Scalar { text, .. } if !node.is_null() => Some(text),
            Content::Scalar { .. } | Content::List(_) | Content::Map(_) => {
                self.expected(what, node);
                None
            }
        }
    }

    /// A key of a map with its value; a misspelt key is taken for what it was meant to be.
    pub(super) fn find<'m>(&self, map: &'m Map, key: &str) -> Option<(&'m Key, &'m Rc<Node>)> {
        map.get(key).or_else(|| {
            map.entries
                .iter()
                .find(|(written, _)| {
                    self.meant
                        .get(&written.span)
                        .is_some_and(|meant| meant == key)
                })
                .map(|(key, node)| (key, node))
        })
    }

    /// The value of a key of a map, or what stands for its absence.
    pub(super) fn field<T: Decode>(&mut self, map: &Map, place: Span, key: &str) -> Option<T> {
        match self.find(map, key) {
            Some((key, node)) => T::decode_field(key, node, self),
            None => T::absent().or_else(|| {
                self.error(
                    "S011",
                    format!("`{key}` is missing"),
                    place,
                    format!("`{key}` must be given here"),
                );
                None
            }),
        }
    }

    /// Notes every key of a map that is not among `known`; an open map may have `x-*` keys and `$schema`, too.
    pub(super) fn known_keys(&mut self, map: &Map, known: &[&str], open: bool) {
        for (index, (key, node)) in map.entries.iter().enumerate() {
            let free = open && (key.text.starts_with("x-") || key.text == "$schema");
            if free || known.contains(&key.text.as_str()) || self.cut_off(map, index) {
                continue;
            }
            self.unknown_key(key, known);
            if SECRET_KEYS.contains(&key.text.as_str())
                && let Content::Scalar { .. } = &node.content
            {
                literal_secret(&key.text, node.span, self);
            }
        }
    }

    fn unknown_key(&mut self, key: &Key, known: &[&str]) {
        let word = key.text.as_str();
        if word.contains(|c: char| c != ' ' && c.is_whitespace()) {
            let message = format!("unknown key `{}`", word.trim());
            self.error(
                "S010",
                message,
                key.span,
                "there is a space in it that is no plain one",
            );
            self.advise("write the spaces of this line again");
            self.meant.insert(key.span, word.trim().to_owned());
            return;
        }
        let rewrite = REWRITES
            .iter()
            .find(|(foreign, ours)| *foreign == word && known.contains(ours))
            .map(|(_, ours)| *ours);
        let near = did_you_mean(word, known.iter().copied());
        let label = match (rewrite, near) {
            (Some(ours), _) => format!("here it is called `{ours}`"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => String::new(),
        };
        self.error("S010", format!("unknown key `{word}`"), key.span, label);
        match rewrite.or(near) {
            Some(meant) if !SECRET_KEYS.contains(&word) => {
                self.meant.insert(key.span, meant.to_owned());
            }
            Some(_) => {}
            None => self.advise(format!("known keys: {}", known.join(", "))),
        }
    }

    /// Notes that the entry at `index` of a flow map is what a comma has cut off the value before it.
    pub(super) fn cut_off(&mut self, map: &Map, index: usize) -> bool {
        let Some(before) = cut_value(map, index) else {
            return false;
        };
        let (key, _) = &map.entries[index];
        self.push(
            Diagnostic::error(
                "S005",
                "a comma ends the value here, and what follows is read as a key",
            )
            .at(key.span, "this is read as a key")
            .also(before.span, "the value ends here")
            .help("quote the whole value, or write it on a line of its own"),
        );
        true
    }

    /// Notes each word of a free value that other readers of YAML take for something else: it is passed on as it is written.
    fn surprises(&mut self, node: &Node) {
        match &node.content {
            Content::List(items) => items.iter().for_each(|item| self.surprises(item)),
            Content::Map(map) => map
                .entries
                .iter()
                .for_each(|(_, item)| self.surprises(item)),
            Content::Scalar { plain: false, .. } => {}
            Content::Scalar { text, .. } => {
                let Some((elsewhere, write)) = read_elsewhere(text) else {
                    return;
                };
                let message = format!(
                    "`{text}` is a text here; many readers of YAML take it for {elsewhere}"
                );
                self.push(Diagnostic::warning("L010", message).at(node.span, ""));
                self.advise(format!("write {write}, or put quotes around it"));
            }
        }
    }

    /// Adds advice to the last diagnostic.
    pub(super) fn advise(&mut self, help: impl Into<String>) {
        if let Some(last) = self.list.last_mut() {
            last.help.push(help.into());
        }
    }

    /// Notes a quantity that cannot be read.
    pub(super) fn quantity<T>(&mut self, node: &Node, read: Result<T, QuantityError>) -> Option<T> {
        read.map_err(|error| {
            self.error("S015", error.message, node.span, "");
            if let Some(help) = error.help {
                self.advise(help);
            }
        })
        .ok()
    }

    /// Notes that at most one of these keys may stand in a map; says which one does.
    pub(super) fn only_one_of<'k>(
        &mut self,
        map: &Map,
        keys: &[&'k str],
        why: &str,
    ) -> Option<&'k str> {
        let given: Vec<&'k str> = keys
            .iter()
            .copied()
            .filter(|key| self.find(map, key).is_some())
            .collect();
        if let [first, second, ..] = given.as_slice()
            && let (Some((first_key, _)), Some((second_key, _))) =
                (self.find(map, first), self.find(map, second))
        {
            let diagnostic = Diagnostic::error(
                "S018",
                format!("`{first}` and `{second}` exclude each other"),
            )
            .at(second_key.span, why)
            .also(first_key.span, "given here, too");
            self.push(diagnostic);
        }
        given.first().copied()
    }

    /// Notes a whole number that must be at least 1.
    pub(super) fn at_least_one<T: PartialEq + From<u8>>(&mut self, key: &str, value: &Spanned<T>) {
        if value.value == T::from(0) {
            self.error(
                "S024",
                format!("`{key}` must be at least 1"),
                value.span,
                "",
            );
        }
    }
}

/// The assertion that a comma in a flow map has cut off, if the entry at `index` is what was left over.
pub(super) fn cut_value(map: &Map, index: usize) -> Option<&Node> {
    let (_, node) = map.entries.get(index)?;
    let (_, before) = map.entries.get(index.checked_sub(1)?)?;
    let empty = node.is_null() && node.span.start == node.span.end;
    let Content::Scalar { text, plain: true } = &before.content else {
        return None;
    };
    let assertion = text.contains(['<', '>', '≤', '≥', '(']);
    (map.flow && empty && assertion).then_some(before)
}

/// A node in words, for "found …". A long text is cut.
fn found(node: &Node) -> String {
    match &node.content {
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a map".to_owned(),
        Content::Scalar { .. } if node.is_null() => "nothing".to_owned(),
        Content::Scalar { text, plain } => {
            let kind = if *plain { "" } else { "the text " };
            format!("{kind}`{}`", shorten(text))
        }
    }
}

/// A text short enough for a message.
pub(super) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() > 40 || line.len() < text.trim_end().len() {
        let start: String = line.chars().take(40).collect();
        format!("{start}…")
    } else {
        line.to_owned()
    }
}

/// Words as a choice: `` `a`, `b` or `c` ``.
pub(super) fn choice(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", most.join(", "))
        }
    }
}

/// One of a closed list of words, by its position.
pub(super) fn decode_word(node: &Node, words: &[&str], problems: &mut Problems) -> Option<usize> {
    let text = problems.text(&choice(words), node)?;
    if let Some(index) = words.iter().position(|word| *word == text) {
        return Some(index);
    }
    let near = did_you_mean(text, words.iter().copied());
    problems.error(
        "S014",
        format!("expected {}, found `{}`", choice(words), shorten(text)),
        node.span,
        near.map(|near| format!("did you mean `{near}`?"))
            .unwrap_or_default(),
    );
    None
}

/// What the first version of YAML, which many programs still read, makes of an unquoted text; and what to write for it.
fn read_elsewhere(text: &str) -> Option<(&'static str, String)> {
    let all = |test: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| test(&byte));
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" => return Some(("`true`", "`true`".to_owned())),
        "no" | "off" => return Some(("`false`", "`false`".to_owned())),
        _ => {}
    }
    if text.len() > 1 && text.starts_with('0') && all(|byte| (b'0'..=b'7').contains(byte)) {
        let number = u64::from_str_radix(text, 8).ok()?;
        return Some(("a number of base 8", format!("`{number}`")));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let sixties = parts.len() > 1
        && parts
            .iter()
            .all(|part| matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit()))
        && parts[1..]
            .iter()
            .all(|part| part.parse::<u8>().is_ok_and(|n| n < 60));
    if sixties {
        let number = parts
            .iter()
            .fold(0_u64, |sum, part| sum * 60 + part.parse().unwrap_or(0));
        return Some(("a number of base 60", format!("`{number}`")));
    }
    None
}

/// What an unquoted scalar is in JSON; a quoted one is a text.
pub(super) fn sniff(text: &str, plain: bool) -> Value {
    if !plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'));
    if !numeric || leading_zero {
        return text.into();
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = unsigned.parse::<u64>() {
        return number.into();
    }
    if let Ok(number) = unsigned.parse::<i64>() {
        return number.into();
    }
    match unsigned.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => text.into(),
    }
}

/// A node as JSON.
pub(super) fn to_json(node: &Node, problems: &mut Problems) -> Option<Value> {
    Some(match &node.content {
        Content::Scalar { .. } if node.is_null() => Value::Null,
        Content::Scalar { plain, .. } => sniff(problems.text("a value", node)?, *plain),
        Content::List(items) => {
            let items: Option<Vec<Value>> =
                items.iter().map(|item| to_json(item, problems)).collect();
            Value::Array(items?)
        }
        Content::Map(map) => {
            let mut object = JsonMap::new();
            for (key, node) in &map.entries {
                object.insert(key.text.clone(), to_json(node, problems)?);
            }
            Value::Object(object)
        }
    })
}

// ---- what every type is made of ----------------------------------------------------------------------------------------------

impl<T: Decode> Decode for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(Some)
    }

    fn decode_field(key: &Key, node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if node.is_null() {
            problems.error(
                "S013",
                format!("`{}` has no value", key.text),
                key.span,
                "give it one, or leave the key out",
            );
            return None;
        }
        T::decode_field(key, node, problems).map(Some)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        T::schema(definitions)
    }
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(|value| Spanned::new(value, node.span))
    }

    fn schema(definitions: &mut Definitions) -> Value {
        T::schema(definitions)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let Content::List(items) = &node.content else {
            problems.expected("a list", node);
            if let Content::Scalar { text, .. } = &node.content
                && !node.is_null()
            {
                problems.advise(format!("write `[{}]`", shorten(text)));
            }
            return None;
        };
        let decoded: Vec<Option<T>> = items.iter().map(|item| T::decode(item, problems)).collect();
        decoded.into_iter().collect()
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({ "type": "array", "items": T::schema(definitions) })
    }
}

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let Content::List(items) = &node.content else {
            return T::decode(node, problems).map(|value| OneOrMany(vec![value]));
        };
        if items.is_empty() {
            problems.error("S025", "the list is empty", node.span, "");
            problems.advise("name at least one, or leave the key out");
            return None;
        }
        Vec::decode(node, problems).map(OneOrMany)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let item = T::schema(definitions);
        json!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] })
    }
}

/// The key of an entry.
pub(super) trait DecodeKey: Sized {
    /// Reads it.
    fn decode_key(key: &Key, problems: &mut Problems) -> Option<Self>;
    /// The pattern that every key matches; `None` for any text.
    fn pattern() -> Option<String>;
}

impl DecodeKey for String {
    fn decode_key(key: &Key, _problems: &mut Problems) -> Option<Self> {
        Some(key.text.clone())
    }

    fn pattern() -> Option<String> {
        None
    }
}

impl<T: Decode, K: DecodeKey> Decode for Entries<T, K> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let map = problems.map("a map of names", node);
        if let (None, Content::List(_)) = (&map, &node.content) {
            problems.advise("each entry has a name: write `name: …` in place of `- …`");
        }
        let map = map?;
        if map.entries.is_empty() {
            problems.error("S025", "the map is empty", node.span, "");
            problems.advise("name at least one entry, or leave the key out");
            return None;
        }
        let mut entries = Vec::new();
        for (index, (key, node)) in map.entries.iter().enumerate() {
            if problems.cut_off(map, index) {
                entries.push(None);
                continue;
            }
            if node.is_null() {
                problems.error(
                    "S013",
                    format!("`{}` has no value", key.text),
                    key.span,
                    "give it one, or leave it out",
                );
                entries.push(None);
                continue;
            }
            let name = K::decode_key(key, problems);
            let value = T::decode(node, problems);
            entries.push(name.zip(value).map(|(name, value)| Entry {
                key: Spanned::new(name, key.span),
                value,
            }));
        }
        entries.into_iter().collect::<Option<Vec<_>>>().map(Entries)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let item = T::schema(definitions);
        match K::pattern() {
            Some(pattern) => {
                json!({ "type": "object", "patternProperties": { pattern: item }, "additionalProperties": false, "minProperties": 1 })
            }
            None => json!({ "type": "object", "additionalProperties": item, "minProperties": 1 }),
        }
    }
}

impl Decode for String {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        problems.text("a text", node).map(str::to_owned)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        // A bare `3.10` is a text here, but a number to a JSON Schema.
        definitions.define(
            Some("Text"),
            |_| json!({ "type": ["string", "number", "boolean"] }),
        )
    }
}

impl Decode for PathBuf {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        problems.text("a path", node).map(PathBuf::from)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        String::schema(definitions)
    }
}

impl Decode for bool {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if let Content::Scalar { text, plain: true } = &node.content
            && let Value::Bool(value) = sniff(text, true)
        {
            return Some(value);
        }
        let text = problems.text("`true` or `false`", node)?;
        let meant = match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "1" | "true" => Some("true"),
            "no" | "off" | "n" | "0" | "false" => Some("false"),
            _ => None,
        };
        problems.expected("`true` or `false`", node);
        if let Some(meant) = meant {
            problems.advise(format!("write `{meant}`"));
        }
        None
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "type": "boolean" })
    }
}

/// The number that an unquoted scalar is.
fn number(what: &str, node: &Node, problems: &mut Problems) -> Option<serde_json::Number> {
    let text = problems.text(what, node)?;
    let plain = matches!(&node.content, Content::Scalar { plain: true, .. });
    if let Value::Number(number) = sniff(text, plain) {
        return Some(number);
    }
    let quoted = !plain && sniff(text, true).is_number();
    problems.expected(what, node);
    if quoted {
        problems.advise("write the number without quotes");
    } else if text.contains('_') && text.replace('_', "").parse::<f64>().is_ok() {
        problems.advise(format!("write `{}`", text.replace('_', "")));
    } else if text.matches(',').count() == 1 && text.replace(',', ".").parse::<f64>().is_ok() {
        problems.advise(format!(
            "the decimal point is a point: write `{}`",
            text.replace(',', ".")
        ));
    }
    None
}

macro_rules! whole_numbers {
    ($($type:ty: $read:ident, $what:literal, $schema:tt;)*) => {$(
        impl Decode for $type {
            fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
                let number = number($what, node, problems)?;
                let value = number.$read().and_then(|value| <$type>::try_from(value).ok());
                if value.is_none() {
                    problems.expected($what, node);
                    let whole = number.as_f64().filter(|number| number.fract() == 0.0);
                    if let Some(whole) = whole.filter(|whole| (0.0..1e15).contains(whole)) {
                        problems.advise(format!("write `{whole}`"));
                    }
                }
                value
            }

            fn schema(_definitions: &mut Definitions) -> Value {
                json!($schema)
            }
        }
    )*};
}

whole_numbers! {
    u32: as_u64, "a whole number", { "type": "integer", "minimum": 0, "maximum": u32::MAX };
    u64: as_u64, "a whole number", { "type": "integer", "minimum": 0 };
    i64: as_i64, "a whole number", { "type": "integer" };
}

impl Decode for f64 {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        number("a number", node, problems)?.as_f64()
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "type": "number" })
    }
}

macro_rules! quantities {
    ($($type:ident: $parse:path, $name:literal, $what:literal, $pattern:literal, $examples:tt;)*) => {$(
        impl Decode for $type {
            fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
                let text = problems.text($what, node)?;
                problems.quantity(node, $parse(text))
            }

            fn schema(definitions: &mut Definitions) -> Value {
                definitions.define(Some($name), |_| {
                    json!({ "type": "string", "pattern": $pattern, "examples": $examples })
                })
            }
        }
    )*};
}

quantities! {
    Duration: units::parse_duration, "Duration", "a duration like `30s`",
        r"^\s*([0-9._]+\s*(ns|us|µs|μs|ms|s|m|h)\s*)+$", ["500ms", "30s", "3m", "1h30m"];
    Rate: units::parse_rate, "Rate", "a rate like `8/s`",
        r"^\s*[0-9._]+[kM]?\s*(requests|req|tokens|tok)?\s*/\s*(s|sec|m|min|h)\s*$", ["8/s", "0.5/s", "60/min"];
    Share: units::parse_share, "Share", "a share like `1%`",
        r"^\s*[0-9._]+\s*%\s*$", ["1%", "0.5%", "95%"];
}

impl Decode for JsonMap {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        problems.map("a map", node)?;
        problems.surprises(node);
        match to_json(node, problems)? {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "type": "object" })
    }
}

impl Decode for Value {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        problems.surprises(node);
        to_json(node, problems)
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "not": { "type": "null" } })
    }
}
