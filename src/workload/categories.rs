//! A map of category → prompts, in YAML or JSON.

use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use crate::diagnostic::did_you_mean;

use super::error::{Stopped, WorkloadError};
use super::facts::DropReason;
use super::row::{consistent, count, shown, truth, whole_number};
use super::select::{Candidate, Selection, Unfit};

/// Every key of a prompt.
const KEYS: &[&str] = &[
    "prompt",
    "id",
    "max_tokens",
    "max_output_tokens",
    "min_tokens",
    "min_output_tokens",
    "ignore_eos",
    "expected_tokens",
];

/// The file's categories in its order.
struct CategoryMap(Vec<(String, Vec<Value>)>);

/// Reads a file of categories; with `only`, of these alone.
pub(super) fn read_categories(
    path: &Path,
    only: &[String],
    selection: &mut Selection,
) -> Result<(), WorkloadError> {
    let text = std::fs::read_to_string(path).map_err(|error| Stopped::Io(error).at(path))?;
    let CategoryMap(categories) = parse(path, &text).map_err(|stopped| stopped.at(path))?;
    let names: Vec<&str> = categories.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(no_such_category(unknown, &names).at(path));
    }
    for (category, prompts) in categories {
        let wanted = only.is_empty() || only.contains(&category);
        for (number, prompt) in prompts.into_iter().enumerate() {
            let row = match wanted {
                true => candidate(&category, number + 1, prompt),
                false => Err(Unfit::Dropped(DropReason::OtherCategory)),
            };
            selection.take(row, |_| format!("`{category}`, prompt {}", number + 1));
        }
    }
    Ok(())
}

fn parse(path: &Path, text: &str) -> Result<CategoryMap, Stopped> {
    if path.extension().is_some_and(|ending| ending == "json") {
        serde_json::from_str(text).map_err(|error| Stopped::Format {
            line: Some(error.line()),
            column: Some(error.column()),
            message: error.to_string(),
        })
    } else {
        serde_yaml::from_str(text).map_err(|error| Stopped::Format {
            line: error.location().map(|place| place.line()),
            column: error.location().map(|place| place.column()),
            message: error.to_string(),
        })
    }
}

fn no_such_category(unknown: &str, names: &[&str]) -> Stopped {
    let advice = match did_you_mean(unknown, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its categories are {}", names.join(", ")),
    };
    Stopped::Format {
        line: None,
        column: None,
        message: format!("no category `{unknown}`; {advice}"),
    }
}

fn candidate(category: &str, number: usize, prompt: Value) -> Result<Candidate, Unfit> {
    let mut row = match prompt {
        Value::String(text) => serde_json::Map::from_iter([("prompt".to_owned(), text.into())]),
        Value::Object(row) => row,
        other => return Err(Unfit::Bad(format!("is {}, not a prompt", shown(&other)))),
    };
    if let Some(unknown) = row.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let advice = did_you_mean(unknown, KEYS.iter().copied())
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        return Err(Unfit::Bad(format!("unknown key `{unknown}`{advice}")));
    }
    let mut field = |names: &[&str]| names.iter().find_map(|name| row.remove(*name));
    let text = match field(&["prompt"]) {
        Some(Value::String(text)) if !text.trim().is_empty() => text,
        _ => return Err(Unfit::Bad("has no text in `prompt`".to_owned())),
    };
    consistent(Candidate {
        id: Some(match field(&["id"]) {
            Some(Value::String(id)) => id,
            Some(other) => other.to_string(),
            None => format!("{category}-{number}"),
        }),
        text,
        category: Some(category.to_owned()),
        max_tokens: count("max_tokens", field(&["max_output_tokens", "max_tokens"]))?,
        min_tokens: count("min_tokens", field(&["min_output_tokens", "min_tokens"]))?,
        ignore_eos: truth("ignore_eos", field(&["ignore_eos"]))?,
        expected_tokens: field(&["expected_tokens"]).map(range).transpose()?,
        conversation: None,
        images: Vec::new(),
    })
}

/// A range of lengths: `120`, `[80, 150]` or `80-150`.
fn range(value: Value) -> Result<(u32, u32), Unfit> {
    let bounds = match &value {
        Value::Array(bounds) => match bounds.as_slice() {
            [low, high] => whole_number(low).zip(whole_number(high)),
            _ => None,
        },
        Value::String(text) => match text.split_once('-') {
            Some((low, high)) => low.trim().parse().ok().zip(high.trim().parse().ok()),
            None => text.trim().parse().ok().map(|both| (both, both)),
        },
        other => whole_number(other).map(|both| (both, both)),
    };
    bounds.filter(|(low, high)| low <= high).ok_or_else(|| {
        Unfit::Bad(format!(
            "`expected_tokens` is {}, not a range like [80, 150]",
            shown(&value)
        ))
    })
}

impl<'de> Deserialize<'de> for CategoryMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CategoryMap, D::Error> {
        deserializer.deserialize_map(CategoryMap(Vec::new()))
    }
}

impl<'de> Visitor<'de> for CategoryMap {
    type Value = CategoryMap;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map of category to a list of prompts")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<CategoryMap, A::Error> {
        while let Some((name, prompts)) = map.next_entry::<String, Vec<Value>>()? {
            if self.0.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!(
                    "category `{name}` is written twice"
                )));
            }
            self.0.push((name, prompts));
        }
        Ok(self)
    }
}
