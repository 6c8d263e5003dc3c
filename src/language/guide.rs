//! The schema of scenario files as a guide: what can stand at a place, and what it means.

use serde_json::Value;

use super::documents::Document;
use super::outline::Step;
use crate::spec;

/// The schema, to be walked by the path of a value.
#[derive(Clone, Debug)]
pub struct Guide {
    root: Value,
}

/// A key that can stand in a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey<'g> {
    /// The key.
    pub key: &'g str,
    /// What it means.
    pub about: String,
}

/// A value that can stand behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownValue {
    /// As it is written.
    pub text: String,
    /// What it means.
    pub about: String,
    /// It shows how a value is written; others are as good.
    pub example: bool,
}

impl Default for Guide {
    fn default() -> Guide {
        Guide {
            root: spec::schema(),
        }
    }
}

impl Guide {
    /// The keys that a map at a path can have, by what the map says already.
    pub fn keys(&self, document: &Document, path: &[Step]) -> Vec<KnownKey<'_>> {
        let said = document.said(path);
        let mut keys: Vec<KnownKey<'_>> = Vec::new();
        for schema in self.at(document, path) {
            let Some(properties) = schema["properties"]
                .as_object()
                .filter(|_| self.fits(schema, &said))
            else {
                continue;
            };
            for (key, value) in properties {
                if keys.iter().all(|known| known.key != key) {
                    keys.push(KnownKey {
                        key,
                        about: self.about(value),
                    });
                }
            }
        }
        keys
    }

    /// The values that can stand at a path.
    pub fn values(&self, document: &Document, path: &[Step]) -> Vec<KnownValue> {
        let mut values: Vec<KnownValue> = Vec::new();
        let mut add = |text: &Value, about: String, example: bool| {
            let text = match text {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if values.iter().all(|known| known.text != text) {
                values.push(KnownValue {
                    text,
                    about,
                    example,
                });
            }
        };
        for schema in self.at(document, path) {
            let about = schema["description"].as_str().unwrap_or_default();
            for word in schema["enum"].as_array().into_iter().flatten() {
                let meaning = word.as_str().and_then(|word| meaning(about, word));
                add(word, meaning.unwrap_or(about).to_owned(), false);
            }
            if let Some(only) = schema.get("const") {
                add(only, about.to_owned(), false);
            }
            if schema["type"] == "boolean" {
                add(&Value::Bool(true), String::new(), false);
                add(&Value::Bool(false), String::new(), false);
            }
            for example in schema["examples"].as_array().into_iter().flatten() {
                add(example, about.to_owned(), true);
            }
        }
        values
    }

    /// What a key means.
    pub fn meaning(&self, document: &Document, path: &[Step]) -> Option<String> {
        let (last, parent) = path.split_last()?;
        let abouts = self
            .at(document, parent)
            .into_iter()
            .filter(|schema| self.fits(schema, &document.said(parent)))
            .flat_map(|schema| self.child(schema, last))
            .map(|schema| self.about(schema));
        abouts.into_iter().find(|about| !about.is_empty())
    }

    /// The schemas of a value, choices and references resolved.
    fn at<'g>(&'g self, document: &Document, path: &[Step]) -> Vec<&'g Value> {
        // A profile says of the scenario what the scenario says of itself.
        let skipped = match path {
            [Step::Key(first), Step::Key(_), ..] if first == "profiles" => 2,
            _ => 0,
        };
        let mut here = self.flat(&self.root);
        for depth in skipped..path.len() {
            let said = document.said(&path[..depth]);
            here = here
                .into_iter()
                .filter(|schema| self.fits(schema, &said))
                .flat_map(|schema| self.child(schema, &path[depth]))
                .flat_map(|schema| self.flat(schema))
                .collect();
        }
        here
    }

    /// A schema with its references and choices resolved.
    fn flat<'g>(&'g self, schema: &'g Value) -> Vec<&'g Value> {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = reference
                .strip_prefix('#')
                .and_then(|at| self.root.pointer(at));
            return target.map_or(Vec::new(), |target| self.flat(target));
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(parts) = schema[choice].as_array() {
                return parts.iter().flat_map(|part| self.flat(part)).collect();
            }
        }
        vec![schema]
    }

    /// The schema of one step further.
    fn child<'g>(&'g self, schema: &'g Value, step: &Step) -> Option<&'g Value> {
        let key = match step {
            Step::Item(_) => return schema.get("items"),
            Step::Key(key) => key,
        };
        if let Some(property) = schema["properties"].get(key) {
            return Some(property);
        }
        let own = key.starts_with("x-");
        let named = schema["patternProperties"].as_object();
        let named = named.and_then(|patterns| {
            patterns
                .iter()
                .find(|(pattern, _)| (*pattern == "^x-") == own)
        });
        named.map(|(_, schema)| schema).or_else(|| {
            schema
                .get("additionalProperties")
                .filter(|more| more.is_object())
        })
    }

    /// Whether a map that says this can be of the schema: `source: file` is not `source: synthetic`.
    fn fits(&self, schema: &Value, said: &[(&str, &str)]) -> bool {
        said.iter()
            .all(|(key, value)| match &schema["properties"][key]["const"] {
                Value::String(only) => only == value,
                _ => true,
            })
    }

    /// The description of a schema, or of what it refers to.
    fn about(&self, schema: &Value) -> String {
        let own = schema["description"].as_str().map(str::to_owned);
        let of_parts = || {
            let parts = self.flat(schema);
            let told = parts
                .into_iter()
                .find_map(|part| part["description"].as_str());
            told.map(str::to_owned)
        };
        own.or_else(of_parts).unwrap_or_default()
    }
}

/// What the description of a list of words says of one: its line begins with the word.
fn meaning<'a>(about: &'a str, word: &str) -> Option<&'a str> {
    let start = format!("- `{word}`: ");
    about.lines().find_map(|line| line.strip_prefix(&start))
}
