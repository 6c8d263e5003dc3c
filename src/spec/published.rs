//! The JSON Schema as editors get it: what the types say, and how files may say it. Any value may be an expression; a file that
//! extends another one, and a profile, say only what they change, and `null` takes away.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schema::schema;

/// A draft of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaDraft {
    /// Draft 2020-12.
    Of2020,
    /// Draft-07, for older editors.
    Seven,
}

/// Keys that are read before there are variables.
const WITHOUT_EXPRESSIONS: [&str; 8] = [
    "version", "requires", "extends", "include", "vars", "secrets", "profiles", "$schema",
];
/// What a profile cannot have, because it is read before one is chosen.
const BEFORE_PROFILES: [&str; 5] = ["version", "requires", "extends", "include", "profiles"];
/// The definition of an expression.
const EXPRESSION: &str = "Expression";
/// The end of the name of a definition that says only what is changed.
const CHANGED: &str = "Change";

/// The JSON Schema of scenario files, of bases, libraries and teams' files too.
pub fn published_schema(draft: SchemaDraft) -> Value {
    let Value::Object(mut whole) = schema() else {
        return Value::Null;
    };
    let mut definitions = match whole.remove("$defs") {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    let mut scenario = definitions
        .remove("ScenarioSpec")
        .unwrap_or(Value::Object(whole));
    for definition in definitions.values_mut() {
        take_expressions(definition, &[]);
    }
    take_expressions(&mut scenario, &WITHOUT_EXPRESSIONS);
    // A base or a library says a part; which parts there are is seen when they are composed.
    scenario["required"] = json!(["version"]);
    let changing = changing(&definitions);
    let mut change = changed(&scenario, &changing);
    let mut profile = change.clone();
    if let Some(properties) = profile["properties"].as_object_mut() {
        BEFORE_PROFILES
            .iter()
            .for_each(|key| drop(properties.remove(*key)));
        let parents = json!({
            "description": "Profiles that lie below this one, in their order.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }],
        });
        properties.insert("inherits".to_owned(), parents);
    }
    profile["description"] = "What the scenario changes with `--profile` and this name.".into();
    let mut profiles = json!({ "type": "object", "additionalProperties": reference("Profile") });
    profiles["description"] = scenario["properties"]["profiles"]["description"].clone();
    for root in [&mut scenario, &mut change] {
        root["properties"]["profiles"] = profiles.clone();
    }
    for name in &changing {
        let definition = changed(&definitions[name], &changing);
        definitions.insert(format!("{name}{CHANGED}"), definition);
    }
    let expression = json!({
        "type": "string",
        "pattern": "\\$\\{\\{",
        "description": "A value with `${{ … }}` in it, like `${{ vars.peak }}`.",
    });
    definitions.insert(EXPRESSION.to_owned(), expression);
    definitions.insert("Scenario".to_owned(), scenario);
    definitions.insert(format!("Scenario{CHANGED}"), change);
    definitions.insert("Profile".to_owned(), profile);
    definitions.sort_keys();
    let mut published = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scenario",
        "if": { "required": ["extends"] },
        "then": reference(&format!("Scenario{CHANGED}")),
        "else": reference("Scenario"),
        "$defs": definitions,
    });
    if draft == SchemaDraft::Seven {
        to_draft_7(&mut published);
        published["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    }
    published
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// Lets every value of a map or list be an expression, where a text of any kind is not allowed anyway.
fn take_expressions(schema: &mut Value, but: &[&str]) {
    match schema {
        Value::Object(object) => {
            for (key, inside) in object.iter_mut() {
                match (key.as_str(), inside) {
                    ("properties", Value::Object(properties)) => {
                        for (name, value) in properties {
                            if !but.contains(&name.as_str()) {
                                take_expressions(value, &[]);
                                or_expression(value);
                            }
                        }
                    }
                    ("patternProperties", Value::Object(patterns)) => {
                        for value in patterns.values_mut() {
                            take_expressions(value, &[]);
                            or_expression(value);
                        }
                    }
                    ("items" | "additionalProperties", value @ Value::Object(_)) => {
                        take_expressions(value, &[]);
                        or_expression(value);
                    }
                    ("anyOf" | "oneOf" | "allOf", Value::Array(forms)) => {
                        forms
                            .iter_mut()
                            .for_each(|form| take_expressions(form, &[]));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn or_expression(schema: &mut Value) {
    let fits = schema == &json!({})
        || schema.get("const").is_some()
        || schema.get("not").is_some()
        || schema["$ref"] == "#/$defs/Text"
        || schema["$ref"] == "#/$defs/Assertion";
    if fits {
        return;
    }
    let Value::Object(object) = schema else {
        return;
    };
    let description = object.remove("description");
    let value = match object.remove("anyOf") {
        Some(Value::Array(mut forms)) if object.is_empty() => {
            forms.push(reference(EXPRESSION));
            json!({ "anyOf": forms })
        }
        Some(forms) => {
            object.insert("anyOf".to_owned(), forms);
            json!({ "anyOf": [object, reference(EXPRESSION)] })
        }
        None => json!({ "anyOf": [object, reference(EXPRESSION)] }),
    };
    *schema = value;
    if let Some(description) = description {
        schema["description"] = description;
    }
}

/// The definitions that a change says in part, or that name one of these.
fn changing(definitions: &Map<String, Value>) -> BTreeSet<String> {
    let mut changing = BTreeSet::new();
    loop {
        let more: Vec<String> = definitions
            .iter()
            .filter(|(name, _)| !changing.contains(*name))
            .filter(|(_, definition)| changed(definition, &changing) != **definition)
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return changing;
        }
        changing.extend(more);
    }
}

/// The schema of what changes a value of this schema: nothing is required, and `null` takes an entry away.
fn changed(schema: &Value, changing: &BTreeSet<String>) -> Value {
    let Value::Object(object) = schema else {
        return schema.clone();
    };
    let mut new = Map::new();
    let or_null = |value: &Value| {
        let value = changed(value, changing);
        if value == json!({}) {
            return value;
        }
        json!({ "anyOf": [value, { "type": "null" }] })
    };
    let record = object.contains_key("properties")
        || object.contains_key("patternProperties")
        || object
            .get("additionalProperties")
            .is_some_and(Value::is_object);
    for (key, inside) in object {
        let value = match (key.as_str(), inside) {
            ("required" | "minProperties", _) if record => continue,
            ("$ref", Value::String(name)) => {
                let bare = name.trim_start_matches("#/$defs/");
                if changing.contains(bare) {
                    format!("{name}{CHANGED}").into()
                } else {
                    inside.clone()
                }
            }
            ("properties" | "patternProperties", Value::Object(properties)) => properties
                .iter()
                .map(|(name, value)| (name.clone(), or_null(value)))
                .collect(),
            ("additionalProperties", Value::Object(_)) => or_null(inside),
            // A list is replaced whole.
            ("anyOf" | "oneOf" | "allOf", Value::Array(forms)) => {
                let forms = forms.iter().map(|form| changed(form, changing)).collect();
                // Without what is required, several of them may fit.
                let key = if key == "oneOf" { "anyOf" } else { key };
                new.insert(key.to_owned(), Value::Array(forms));
                continue;
            }
            _ => inside.clone(),
        };
        new.insert(key.clone(), value);
    }
    Value::Object(new)
}

/// Names definitions as draft-07 does, and puts what stands beside a reference around it: there it would not be seen.
fn to_draft_7(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(to_draft_7),
        Value::Object(object) => {
            if let Some(definitions) = object.remove("$defs") {
                object.insert("definitions".to_owned(), definitions);
            }
            for inside in object.values_mut() {
                to_draft_7(inside);
            }
            if let Some(Value::String(name)) = object.get_mut("$ref") {
                *name = name.replace("#/$defs/", "#/definitions/");
                if object.len() > 1
                    && let Some(name) = object.remove("$ref")
                {
                    object.insert("allOf".to_owned(), json!([{ "$ref": name }]));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
