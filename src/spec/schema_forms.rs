//! The schema in other forms: with expressions where values can be made from variables, and for older editors.

use serde_json::{Map, Value, json};

/// Keys whose value is never made by an expression: they decide what the rest means.
const FIXED: &[&str] = &["version", "requires", "$schema", "extends", "include"];

/// Allows an expression, like `${{ vars.peak }}`, wherever a scalar has a form of its own.
pub(super) fn with_expressions(schema: &mut Value) {
    allow_in(schema);
    schema["$defs"]["Expression"] = json!({
        "type": "string",
        "pattern": "\\$\\{\\{",
    });
    if let Some(definitions) = schema["$defs"].as_object_mut() {
        definitions.sort_keys();
    }
}

/// Goes into a schema, and gives what stands in its place.
fn allow_in(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    for (key, part) in object.iter_mut() {
        match key.as_str() {
            "properties" => {
                let fields = part.as_object_mut().into_iter().flatten();
                fields
                    .filter(|(name, _)| !FIXED.contains(&name.as_str()))
                    .for_each(|(_, field)| allow_in(field));
            }
            "patternProperties" | "$defs" => {
                part.as_object_mut()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, inner)| allow_in(inner));
            }
            "items" | "additionalProperties" => allow_in(part),
            "anyOf" | "oneOf" => part.as_array_mut().into_iter().flatten().for_each(allow_in),
            _ => {}
        }
    }
    if has_a_form(object) {
        let about = object.remove("description");
        let own = Value::Object(std::mem::take(object));
        object.insert(
            "anyOf".to_owned(),
            json!([own, { "$ref": "#/$defs/Expression" }]),
        );
        if let Some(about) = about {
            object.insert("description".to_owned(), about);
        }
    }
}

/// Whether a schema is of scalars that an expression does not look like. One word alone tells forms of a map apart.
fn has_a_form(schema: &Map<String, Value>) -> bool {
    let kind = schema.get("type");
    let scalar = |kind: &Value| {
        matches!(
            kind.as_str(),
            Some("number" | "integer" | "boolean" | "string")
        )
    };
    let scalars = match kind {
        Some(Value::Array(kinds)) => kinds.iter().all(scalar),
        Some(kind) => scalar(kind),
        None => false,
    };
    let any_text = kind == Some(&json!("string")) && !schema.contains_key("pattern");
    schema.contains_key("enum") || (scalars && !any_text)
}

/// The same for editors that know draft 7 alone.
pub(super) fn for_draft_7(schema: &Value) -> Value {
    let mut old = older(schema);
    old["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    old
}

fn older(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(older).collect(),
        Value::Object(object) => {
            let mut old = Map::new();
            for (key, value) in object {
                let key = if key == "$defs" { "definitions" } else { key };
                let value = match (key, value) {
                    ("$ref", Value::String(target)) => {
                        target.replace("#/$defs/", "#/definitions/").into()
                    }
                    _ => older(value),
                };
                old.insert(key.to_owned(), value);
            }
            // Beside a reference nothing else is read there.
            if old.len() > 1
                && let Some(target) = old.shift_remove("$ref")
            {
                old.insert("allOf".to_owned(), json!([{ "$ref": target }]));
            }
            Value::Object(old)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_stands_beside_what_has_a_form() {
        let mut schema = json!({
            "properties": {
                "version": { "const": 1 },
                "users": { "type": "integer", "description": "How many." },
                "note": { "type": "string" },
                "order": { "enum": ["a", "b"] },
                "source": { "const": "file" },
            },
        });
        with_expressions(&mut schema);
        let beside = json!({ "$ref": "#/$defs/Expression" });
        let properties = &schema["properties"];
        assert_eq!(
            properties["users"],
            json!({ "anyOf": [{ "type": "integer" }, beside], "description": "How many." })
        );
        assert_eq!(
            properties["order"],
            json!({ "anyOf": [{ "enum": ["a", "b"] }, beside] })
        );
        assert_eq!(properties["version"], json!({ "const": 1 }));
        assert_eq!(properties["note"], json!({ "type": "string" }));
        assert_eq!(properties["source"], json!({ "const": "file" }));
    }

    #[test]
    fn a_reference_with_a_description_is_taken_apart_for_draft_7() {
        let new = json!({ "$ref": "#/$defs/A", "description": "an A", "$defs": { "A": { "type": "string" } } });
        let old = json!({
            "description": "an A",
            "definitions": { "A": { "type": "string" } },
            "allOf": [{ "$ref": "#/definitions/A" }],
            "$schema": "http://json-schema.org/draft-07/schema#",
        });
        assert_eq!(for_draft_7(&new), old);
    }
}
