//! The keys of a scenario file, from its JSON Schema: a table for each record, in the order in which the file names them.

use serde_json::{Map, Value};

use super::table;

/// A section for each record of the format.
pub(super) fn keys() -> String {
    let schema = scenario::spec::schema();
    let mut book = Book {
        definitions: schema["$defs"].as_object().unwrap(),
        sections: vec![Section {
            record: "ScenarioSpec".to_owned(),
            path: String::new(),
            shape: None,
        }],
        shape: None,
    };
    let mut text = String::new();
    let mut at = 0;
    while at < book.sections.len() {
        text.push_str(&book.section(at));
        at += 1;
    }
    text
}

/// The keys' reference while it is written.
struct Book<'a> {
    definitions: &'a Map<String, Value>,
    /// Those that are written, and those that they mention.
    sections: Vec<Section>,
    /// The shape of the record whose keys are written, where it has several.
    shape: Option<String>,
}

/// The place of a record.
#[derive(Clone)]
struct Section {
    record: String,
    /// Where the file first has it.
    path: String,
    /// With which shape of the record above, where another shape has another record at the same path.
    shape: Option<String>,
}

impl Section {
    fn id(&self) -> String {
        let shape = self
            .shape
            .iter()
            .map(|shape| format!("-{}", shape.replace(": ", "-")));
        let place = match self.path.as_str() {
            "" => "the-file".to_owned(),
            path => path.replace("[]", "").replace('.', "-"),
        };
        (place + &shape.collect::<String>())
            .to_lowercase()
            .replace(['`', ' '], "")
    }

    fn title(&self) -> String {
        match (self.path.as_str(), &self.shape) {
            ("", _) => "The file".to_owned(),
            (path, None) => format!("`{path}`"),
            (path, Some(shape)) => format!("`{path}`, {shape}"),
        }
    }
}

impl Book<'_> {
    fn section(&mut self, at: usize) -> String {
        let section = self.sections[at].clone();
        let path = section.path.as_str();
        let definition = &self.definitions[&section.record];
        let mut text = format!("## {} {{#{}}}\n\n", section.title(), section.id());
        if let Some(about) = definition["description"].as_str() {
            text.push_str(&format!("{}\n\n", sentence(about)));
        }
        let shapes = shapes(definition);
        let short: Vec<String> = alternatives(definition)
            .iter()
            .filter(|one| one.get("properties").is_none() && !is_expression(one))
            .map(|one| self.kind(one, path, at))
            .collect();
        if !short.is_empty() {
            text.push_str(&format!("Short form: {}.\n\n", short.join(", or ")));
        }
        if let [only] = shapes.as_slice() {
            text.push_str(&self.keys(properties(only), required(only), path, at));
            return text + "\n";
        }
        // What every shape has, then what each has of its own.
        let first = properties(shapes[0]);
        let shared: Vec<&String> = first
            .iter()
            .filter(|(key, value)| {
                let same = |shape: &&Value| properties(shape).get(*key) == Some(value);
                shapes.iter().all(same)
            })
            .map(|(key, _)| key)
            .collect();
        for shape in &shapes {
            let own: Map<String, Value> = properties(shape)
                .iter()
                .filter(|(key, _)| !shared.contains(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            text.push_str(&format!("**{}**\n\n", told_by(shape)));
            self.shape = Some(told_by(shape));
            text.push_str(&self.keys(&own, required(shape), path, at));
            text.push('\n');
        }
        self.shape = None;
        if !shared.is_empty() {
            let common: Map<String, Value> = first
                .iter()
                .filter(|(key, _)| shared.contains(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            text.push_str("**In each of them**\n\n");
            text.push_str(&self.keys(&common, &[], path, at));
            text.push('\n');
        }
        text
    }

    fn keys(
        &mut self,
        keys: &Map<String, Value>,
        required: &[Value],
        path: &str,
        at: usize,
    ) -> String {
        let rows: Vec<Vec<String>> = keys
            .iter()
            .map(|(key, value)| {
                let below = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                let needed = required.iter().any(|one| one == key.as_str());
                let kind = self.kind(value, &below, at);
                let about = value["description"].as_str().unwrap_or_default();
                vec![
                    format!("`{key}`{}", if needed { " (required)" } else { "" }),
                    kind,
                    about.to_owned() + &self.choices(value),
                ]
            })
            .collect();
        table(&["key", "value", "meaning"], rows)
    }

    /// What each word of a choice means.
    fn choices(&self, value: &Value) -> String {
        let Some((name, definition)) = self.definition(value) else {
            return String::new();
        };
        let told = definition["description"].as_str().unwrap_or_default();
        let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("- ")).collect();
        // The dimensions say nothing that their names do not.
        if lines.is_empty() || name == "Dimension" {
            return String::new();
        }
        let lines: Vec<&str> = lines
            .iter()
            .map(|line| line.trim_start_matches("- "))
            .collect();
        format!("\n{}", lines.join("\n"))
    }

    fn definition<'v>(&'v self, value: &'v Value) -> Option<(&'v str, &'v Value)> {
        let name = value["$ref"].as_str()?.rsplit('/').next()?;
        Some((name, self.definitions.get(name)?))
    }

    /// What a value is, in a few words, with a link to the record that it is.
    fn kind(&mut self, value: &Value, path: &str, at: usize) -> String {
        if let Some((name, definition)) = self.definition(value) {
            let (name, definition) = (name.to_owned(), definition.clone());
            if !shapes(&definition).is_empty() {
                return self.link(&name, path, at);
            }
            if let Some(words) = definition["enum"].as_array() {
                return one_of(words);
            }
            let plain = definition.get("properties").is_none() && definition.get("anyOf").is_none();
            let about = definition["description"]
                .as_str()
                .filter(|about| !about.contains('\n'));
            if let Some(about) = about.filter(|_| plain) {
                return about.to_owned();
            }
            return self.kind(&definition, path, at);
        }
        if let Some(constant) = value.get("const") {
            return code(constant);
        }
        if let Some(words) = value["enum"].as_array() {
            return one_of(words);
        }
        let several = alternatives(value);
        if !several.is_empty() {
            let mut kinds: Vec<String> = Vec::new();
            for one in several.iter().filter(|one| !is_expression(one)) {
                let kind = self.kind(one, path, at);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(", or ");
        }
        match &value["type"] {
            Value::Array(_) => "text".to_owned(),
            Value::String(kind) => match kind.as_str() {
                "string" => match value["examples"][0].as_str() {
                    Some(example) => format!("text like `{example}`"),
                    None => "text".to_owned(),
                },
                "integer" | "number" => "number".to_owned(),
                "boolean" => "`true` or `false`".to_owned(),
                "array" => format!(
                    "list of {}",
                    self.kind(&value["items"], &format!("{path}[]"), at)
                ),
                "object" => self.map(value, path, at),
                other => other.to_owned(),
            },
            _ => "anything".to_owned(),
        }
    }

    fn map(&mut self, value: &Value, path: &str, at: usize) -> String {
        if let Some(keys) = value["properties"].as_object() {
            let keys: Vec<String> = keys
                .iter()
                .map(|(key, value)| {
                    let kind = self.kind(value, &format!("{path}.{key}"), at);
                    format!("{key}: {kind}")
                })
                .collect();
            return format!("{{ {} }}", keys.join(", "));
        }
        let entries = value["patternProperties"].as_object();
        let entry = entries.and_then(|entries| entries.values().next());
        match entry.or(value.get("additionalProperties")) {
            Some(entry) if entry.is_object() => {
                format!("map: id → {}", self.kind(entry, &format!("{path}.ID"), at))
            }
            _ => "map".to_owned(),
        }
    }

    /// A link to the section of a record; the first mention places the section, behind that of the record which mentions it.
    fn link(&mut self, record: &str, path: &str, at: usize) -> String {
        if !self.sections.iter().any(|section| section.record == record) {
            let taken = self.sections.iter().any(|section| section.path == path);
            let section = Section {
                record: record.to_owned(),
                path: path.to_owned(),
                shape: self.shape.clone().filter(|_| taken),
            };
            let parent = self.sections[at].path.as_str();
            let index = match parent {
                "" => self.sections.len(),
                parent => {
                    let later = &self.sections[at + 1..];
                    let below = later.iter().take_while(|one| one.path.starts_with(parent));
                    at + 1 + below.count()
                }
            };
            self.sections.insert(index, section);
        }
        let section = self
            .sections
            .iter()
            .find(|section| section.record == record)
            .unwrap();
        format!("[{}](#{})", section.title(), section.id())
    }
}

/// The records that a value may be.
fn shapes(value: &Value) -> Vec<&Value> {
    if value.get("properties").is_some() {
        return vec![value];
    }
    let several = alternatives(value);
    // A distribution is `{ name: … }` in one line, no record.
    if several
        .iter()
        .all(|one| properties_of(one).is_none_or(|keys| keys.len() < 2))
    {
        return Vec::new();
    }
    several
        .into_iter()
        .filter(|one| one.get("properties").is_some())
        .collect()
}

fn alternatives(value: &Value) -> Vec<&Value> {
    let listed = value["oneOf"].as_array().or(value["anyOf"].as_array());
    listed.map_or(Vec::new(), |listed| listed.iter().collect())
}

/// A template in place of a value: allowed almost everywhere, and so said once.
fn is_expression(value: &Value) -> bool {
    value["pattern"]
        .as_str()
        .is_some_and(|pattern| pattern.contains("\\$\\{\\{"))
}

fn properties_of(value: &Value) -> Option<&Map<String, Value>> {
    value["properties"].as_object()
}

fn properties(value: &Value) -> &Map<String, Value> {
    properties_of(value).expect("a record has keys")
}

fn required(value: &Value) -> &[Value] {
    value["required"].as_array().map_or(&[], Vec::as_slice)
}

/// What tells a shape from the others: a constant, or the key that it must have.
fn told_by(shape: &Value) -> String {
    let constant = properties(shape)
        .iter()
        .find_map(|(key, value)| Some(format!("`{key}: {}`", value.get("const")?.as_str()?)));
    let needed = || Some(format!("With `{}`", required(shape).first()?.as_str()?));
    constant
        .or_else(needed)
        .unwrap_or_else(|| "As a map".to_owned())
}

fn one_of(words: &[Value]) -> String {
    let words: Vec<String> = words.iter().map(code).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn code(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("`{text}`"),
        None => format!("`{value}`"),
    }
}

/// The text before a list of choices, as a sentence.
fn sentence(about: &str) -> String {
    let text = about.lines().next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
