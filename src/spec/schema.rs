//! The JSON Schema of scenario files, told by the same types that read them.

use serde_json::{Map, Value, json};

use super::decode::Decode;
use super::schema_forms::{for_draft_7, with_expressions};
use super::types::ScenarioSpec;

/// Schemas that are referred to by name.
#[derive(Default)]
pub(super) struct Definitions {
    named: Map<String, Value>,
}

impl Definitions {
    /// Defines `name` on first use and refers to it; without a name, the schema itself.
    pub(super) fn define(
        &mut self,
        name: Option<&str>,
        build: impl FnOnce(&mut Definitions) -> Value,
    ) -> Value {
        let Some(name) = name else {
            return build(self);
        };
        if !self.named.contains_key(name) {
            // Taken before it is built, so that a type may refer to itself.
            self.named.insert(name.to_owned(), Value::Null);
            let schema = build(self);
            self.named.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }
}

/// The JSON Schema of scenario files, draft 2020-12.
pub fn schema() -> Value {
    let mut definitions = Definitions::default();
    let root = ScenarioSpec::schema(&mut definitions);
    definitions.named.sort_keys();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scenario",
    });
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, root) {
        schema.extend(root);
        schema.insert("$defs".to_owned(), Value::Object(definitions.named));
    }
    with_expressions(&mut schema);
    schema
}

/// The same in draft 7, for editors that know no later one.
pub fn schema_for_draft_7() -> Value {
    for_draft_7(&schema())
}
