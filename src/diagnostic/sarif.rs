//! Diagnostics as SARIF 2.1.0, which code-scanning services read.

use std::path::Path;

use serde_json::{Value, json};

use super::{Diagnostic, Label, Severity, Sources, Span};

/// What is said of a code beside each of its diagnostics.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What the code means, in a line.
    pub title: String,
    /// Its page, as Markdown.
    pub page: Option<String>,
}

/// What a check of one file found.
#[derive(Debug)]
pub struct Checked<'a> {
    /// The file, which has the diagnostics without a place.
    pub path: &'a Path,
    /// What is wrong.
    pub diagnostics: &'a [Diagnostic],
    /// The texts that the diagnostics point into.
    pub sources: &'a Sources,
}

/// A SARIF log of one run over these files; `rule` tells what a code means.
pub fn log(files: &[Checked<'_>], rule: impl Fn(&str) -> Rule) -> Value {
    let mut codes: Vec<(&str, Severity)> = Vec::new();
    for found in files.iter().flat_map(|file| file.diagnostics) {
        if !codes.iter().any(|(code, _)| *code == found.code) {
            codes.push((found.code, found.severity));
        }
    }
    codes.sort_by_key(|(code, _)| *code);
    let rules: Vec<Value> = codes
        .iter()
        .map(|(code, severity)| described(code, *severity, &rule(code)))
        .collect();
    let index = |code: &str| codes.iter().position(|(known, _)| *known == code);
    let results: Vec<Value> = files
        .iter()
        .flat_map(|file| file.diagnostics.iter().map(move |found| (file, found)))
        .map(|(file, found)| result(file, found, index(found.code)))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "scenario",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn described(code: &str, severity: Severity, rule: &Rule) -> Value {
    let mut described = json!({
        "id": code,
        "shortDescription": { "text": rule.title },
        "defaultConfiguration": { "level": severity.name() },
    });
    if let Some(page) = &rule.page {
        described["help"] = json!({ "text": page, "markdown": page });
    }
    described
}

fn result(file: &Checked<'_>, found: &Diagnostic, index: Option<usize>) -> Value {
    let location = match &found.primary {
        Some(label) => place(label, file),
        None => whole(file),
    };
    let mut result = json!({
        "ruleId": found.code,
        "level": found.severity.name(),
        "message": { "text": found.in_full() },
        "locations": [location],
    });
    if let Some(index) = index {
        result["ruleIndex"] = index.into();
    }
    if !found.secondary.is_empty() {
        let related = found.secondary.iter().enumerate().map(|(number, label)| {
            let mut related = place(label, file);
            related["id"] = number.into();
            related["message"] = json!({ "text": label.text });
            related
        });
        result["relatedLocations"] = related.collect();
    }
    result
}

fn place(label: &Label, file: &Checked<'_>) -> Value {
    let start = file.sources.locate(label.span);
    let end = file.sources.locate(Span {
        start: label.span.end,
        ..label.span
    });
    // A value of the command line is in no file: it is told of the file that it was meant for.
    let Some(path) = &file.sources.get(label.span.source).in_repository else {
        return whole(file);
    };
    json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(Path::new(path)) },
        "region": {
            "startLine": start.line, "startColumn": start.column,
            "endLine": end.line, "endColumn": end.column,
        },
    } })
}

/// The file that was checked, without a place in it.
fn whole(file: &Checked<'_>) -> Value {
    let main = file.sources.iter().next();
    let path = main.and_then(|main| main.in_repository.as_deref());
    let path = path.map_or(file.path, Path::new);
    json!({ "physicalLocation": { "artifactLocation": { "uri": uri(path) } } })
}

/// A path as a reference of a URI: relative as it was written, absolute with its scheme.
fn uri(path: &Path) -> String {
    let mut text = if path.is_absolute() {
        "file://".to_owned()
    } else {
        String::new()
    };
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_a_uri() {
        assert_eq!(uri(Path::new("a b/ü.yaml")), "a%20b/%C3%BC.yaml");
        assert_eq!(uri(Path::new("/x/a.yaml")), "file:///x/a.yaml");
    }
}
