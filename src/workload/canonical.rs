//! A set as JSON lines, whatever it was made from: what `source: file` and `source: conversations` read back as the same set.

use serde_json::{Map, Value, json};

use super::images::content;
use super::prompt::Prompt;

/// A prompt as a line, without its end.
pub fn canonical_line(prompt: &Prompt) -> String {
    let mut row = Map::new();
    row.insert("id".to_owned(), json!(&*prompt.id));
    match &prompt.conversation {
        Some(conversation) => {
            let say = |role: &str, said: Value| json!({ "role": role, "content": said });
            let mut messages: Vec<Value> = Vec::new();
            let system = conversation.system.iter();
            messages.extend(system.map(|text| say("system", json!(text))));
            for turn in &conversation.turns {
                messages.push(say("user", parts(&turn.said, turn.images.as_deref())));
                let answer = turn.answer.iter();
                messages.extend(answer.map(|text| say("assistant", json!(text))));
            }
            row.insert("messages".to_owned(), Value::Array(messages));
        }
        None => {
            let said = parts(&prompt.text, prompt.images.as_deref());
            row.insert("prompt".to_owned(), said);
        }
    }
    let mut add = |key: &str, value: Value| {
        if !value.is_null() {
            row.insert(key.to_owned(), value);
        }
    };
    add("category", json!(prompt.category.as_deref()));
    add("max_tokens", json!(prompt.max_tokens));
    add("min_tokens", json!(prompt.min_tokens));
    add("ignore_eos", json!(prompt.ignore_eos));
    Value::Object(row).to_string()
}

/// A text, or with images the parts of a message: each file as its bytes, so that the line needs no other file.
fn parts(text: &str, images: Option<&str>) -> Value {
    serde_json::from_str(&content(text, images)).expect("it was written as JSON")
}
