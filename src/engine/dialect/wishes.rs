//! What is asked for beside a text (reasoning, a form of the answer, tools) in the words of each language.

use serde_json::{Map, Value, json};

use crate::plan::{Api, Wishes};

/// Puts wishes among the fields of a request. What a language has no words for, the plan has refused.
pub(super) fn put(api: Api, wishes: &Wishes, fields: &mut Map<String, Value>) {
    let format = wishes.response_format.as_ref();
    match api {
        Api::Chat | Api::Completions => fields.extend(wishes.in_openai()),
        Api::Responses => {
            if let Some(format) = format {
                fields.insert(
                    "text".into(),
                    json!({ "format": beside(format, "json_schema") }),
                );
            }
            tools(wishes, fields, |tool| beside(tool, "function"));
        }
        Api::Messages => {
            if wishes.thinking == Some(false) {
                fields.insert("thinking".into(), json!({ "type": "disabled" }));
            }
            tools(wishes, fields, for_messages);
        }
        Api::Ollama => {
            if let Some(think) = wishes.thinking {
                fields.insert("think".into(), json!(think));
            }
            if let Some(format) = format {
                let any = json!("json");
                fields.insert("format".into(), schema(format).cloned().unwrap_or(any));
            }
            tools(wishes, fields, |tool| Value::Object(tool.clone()));
        }
        Api::Generate => {
            if let (Some(format), Some(Value::Object(parameters))) =
                (format, fields.get_mut("sampling_params"))
            {
                // There a schema is a text.
                parameters.insert("json_schema".into(), json!(object(format).to_string()));
            }
        }
        Api::Tgi => {
            if let (Some(format), Some(Value::Object(parameters))) =
                (format, fields.get_mut("parameters"))
            {
                let grammar = json!({ "type": "json", "value": object(format) });
                parameters.insert("grammar".into(), grammar);
            }
        }
        Api::Triton | Api::Offline => {}
    }
}

fn tools(
    wishes: &Wishes,
    fields: &mut Map<String, Value>,
    written: impl Fn(&Map<String, Value>) -> Value,
) {
    if !wishes.tools.is_empty() {
        let tools: Vec<Value> = wishes.tools.iter().map(written).collect();
        fields.insert("tools".into(), Value::Array(tools));
    }
}

/// What OpenAI's first API nests under `key`, beside the type, as its second one has it.
fn beside(nested: &Map<String, Value>, key: &str) -> Value {
    let mut flat = nested.clone();
    if let Some(Value::Object(inner)) = flat.shift_remove(key) {
        flat.extend(inner);
    }
    Value::Object(flat)
}

/// A tool as Anthropic's API has it.
fn for_messages(tool: &Map<String, Value>) -> Value {
    let Some(function) = tool.get("function") else {
        return Value::Object(tool.clone());
    };
    let mut own = Map::new();
    for (theirs, ours) in [
        ("name", "name"),
        ("description", "description"),
        ("parameters", "input_schema"),
    ] {
        if let Some(value) = function.get(theirs) {
            own.insert(ours.into(), value.clone());
        }
    }
    Value::Object(own)
}

/// The schema that a form of the answer names.
fn schema(format: &Map<String, Value>) -> Option<&Value> {
    format.get("json_schema")?.get("schema")
}

/// The same, or that of any object.
fn object(format: &Map<String, Value>) -> Value {
    let any = json!({ "type": "object" });
    schema(format).cloned().unwrap_or(any)
}
