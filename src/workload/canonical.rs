//! A set as JSON lines, whatever it was made from: what `source: file` and `source: conversations` read back as the same set.

use serde_json::{Map, Value, json};

use super::prompt::Prompt;

/// A prompt as a line, without its end.
pub fn canonical_line(prompt: &Prompt) -> String {
    let mut row = Map::new();
    row.insert("id".to_owned(), json!(&*prompt.id));
    match &prompt.conversation {
        Some(conversation) => {
            let say = |role: &str, text: &str| json!({ "role": role, "content": text });
            let mut messages: Vec<Value> = Vec::new();
            messages.extend(conversation.system.iter().map(|text| say("system", text)));
            for turn in &conversation.turns {
                messages.push(say("user", &turn.said));
                messages.extend(turn.answer.iter().map(|text| say("assistant", text)));
            }
            row.insert("messages".to_owned(), Value::Array(messages));
        }
        None => drop(row.insert("prompt".to_owned(), json!(&*prompt.text))),
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
