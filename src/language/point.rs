//! What stands at a place: what it means, and where it is defined.

use std::ops::Range;
use std::path::PathBuf;

use super::asserted;
use super::documents::Document;
use super::guide::Guide;
use super::names::{Definition, Named, REGISTRIES, names, wanted, wanted_keys};

/// What the word at byte `at` of the first of these files means, as Markdown, and which bytes it has.
pub fn hover(guide: &Guide, documents: &[Document], at: usize) -> Option<(Range<usize>, String)> {
    let document = documents.first()?;
    let (entry, is_key) = document.at(at)?;
    if is_key {
        let about = guide.meaning(document, &entry.path)?;
        return Some((entry.key.clone()?, about));
    }
    let range = entry.value.clone()?;
    let text = &document.text[range.clone()];
    if wanted(&entry.path) == Some(Named::Assertion)
        && let Some((word, about)) = asserted::meaning(text, at - range.start)
    {
        return Some((range.start + word.start..range.start + word.end, about));
    }
    let known = guide.values(document, &entry.path);
    if let Some(value) = known
        .iter()
        .find(|value| !value.example && value.text == text)
    {
        return Some((range, value.about.clone())).filter(|(_, about)| !about.is_empty());
    }
    let defined = definition(documents, at)?;
    let line = documents
        .iter()
        .find(|document| document.path == defined.path)
        .map(|document| document.text[..defined.at.start].matches('\n').count() + 1);
    let place = line.map_or(String::new(), |line| format!(":{line}"));
    Some((
        range,
        format!(
            "`{}` is defined in {}{place}",
            defined.name,
            defined.path.display()
        ),
    ))
}

/// Where that which stands at byte `at` of the first of these files is defined.
pub fn definition(documents: &[Document], at: usize) -> Option<Definition> {
    let document = documents.first()?;
    let word = word_at(&document.text, at);
    let name = &document.text[word.clone()];
    if let Some(alias) = document.text[..word.start].strip_suffix('*').map(|_| name) {
        return anchor(document, alias);
    }
    if let Some((registry, name)) = name.split_once('.')
        && matches!(registry, "vars" | "secrets")
    {
        let registry = if registry == "vars" {
            "vars"
        } else {
            "secrets"
        };
        return named(documents, Named::Entry(registry), name);
    }
    let (entry, is_key) = document.at(at)?;
    if is_key {
        let parent = &entry.path[..entry.path.len() - 1];
        return named(documents, wanted_keys(parent)?, entry.path.last()?.key()?);
    }
    let range = entry.value.clone()?;
    let text = &document.text[range];
    match wanted(&entry.path)? {
        Named::File => Some(Definition {
            name: text.to_owned(),
            path: document.beside(text),
            at: 0..0,
        }),
        Named::Assertion => asserted_name(documents, name, at - word.start),
        kind => named(documents, kind, text),
    }
}

/// The definition of the part of `sglang.output_tps` at a byte, or of a stage.
fn asserted_name(documents: &[Document], word: &str, at: usize) -> Option<Definition> {
    let part = word
        .split('.')
        .scan(0, |start, part| {
            let range = *start..*start + part.len();
            *start = range.end + 1;
            Some((range, part))
        })
        .find(|(range, _)| range.start <= at && at <= range.end)
        .map(|(_, part)| part)?;
    REGISTRIES
        .into_iter()
        .map(Named::Entry)
        .chain([Named::Stage])
        .find_map(|kind| named(documents, kind, part))
}

fn named(documents: &[Document], kind: Named, name: &str) -> Option<Definition> {
    names(documents, kind)
        .into_iter()
        .find(|definition| definition.name == name)
}

fn anchor(document: &Document, name: &str) -> Option<Definition> {
    let start = document.text.find(&format!("&{name}"))? + 1;
    Some(Definition {
        name: name.to_owned(),
        path: PathBuf::from(&document.path),
        at: start..start + name.len(),
    })
}

/// The bytes of the word at a byte.
fn word_at(text: &str, at: usize) -> Range<usize> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let at = at.min(text.len());
    let start = text[..at].rfind(|c| !is_word(c)).map_or(0, |found| {
        found + text[found..].chars().next().map_or(1, char::len_utf8)
    });
    let end = text[at..]
        .find(|c| !is_word(c))
        .map_or(text.len(), |found| at + found);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "\
backends:
  vllm: http://localhost:8000
  sglang: http://localhost:30000
load: { steady: { levels: { users: [4, 8], for: 30s } } }
";
    const TEAM: &str = "\
extends: base.yaml
backends: { local: &here { url: http://localhost:9000 }, again: *here }
matrix: { backend: [vllm] }
slos:
  faster: { assert: sglang.output_tps >= 1.2 * vllm.output_tps, where: { stage: c8 } }
  ttft: P95 time to first token < 500ms
";

    fn documents() -> Vec<Document> {
        super::super::gather(Document::new("team.yaml", TEAM), &|path| {
            (path.to_str() == Some("base.yaml")).then(|| BASE.to_owned())
        })
    }

    /// The place where `word` of the team's file, the `nth` of its kind, is defined.
    fn defined(word: &str, nth: usize) -> Option<String> {
        let (at, _) = TEAM.match_indices(word).nth(nth).unwrap();
        let documents = documents();
        let found = definition(&documents, at + 1)?;
        let text = &documents
            .iter()
            .find(|document| document.path == found.path)?
            .text;
        let line = text[..found.at.start].matches('\n').count() + 1;
        Some(format!(
            "{}:{line} {}",
            found.path.display(),
            &text[found.at.clone()]
        ))
    }

    #[test]
    fn a_name_leads_to_the_file_that_defines_it() {
        assert_eq!(defined("vllm", 0).unwrap(), "base.yaml:2 vllm");
        assert_eq!(defined("vllm", 1).unwrap(), "base.yaml:2 vllm");
        assert_eq!(defined("sglang", 0).unwrap(), "base.yaml:3 sglang");
        assert_eq!(defined("c8", 0).unwrap(), "base.yaml:4 8");
        assert_eq!(defined("base.yaml", 0).unwrap(), "base.yaml:1 ");
        assert_eq!(defined("here", 1).unwrap(), "team.yaml:2 here");
        assert_eq!(defined("500ms", 0), None);
    }

    /// What is told of a word of the team's file.
    fn told(word: &str) -> (String, String) {
        let at = TEAM.find(word).unwrap();
        let (range, about) = hover(&Guide::default(), &documents(), at + 1).unwrap();
        (TEAM[range].to_owned(), about)
    }

    #[test]
    fn a_word_is_explained() {
        let (word, about) = told("matrix");
        assert_eq!(word, "matrix");
        assert!(about.starts_with("Which combinations run"), "{about}");
        let (word, about) = told("token <");
        assert_eq!(word, "time to first token");
        assert!(about.starts_with("**ttft** (trend · ms)"), "{about}");
        let (word, about) = told("P95");
        assert_eq!(
            (word.as_str(), about.contains("59 answers")),
            ("P95", true),
            "{about}"
        );
        let (word, about) = told("output_tps");
        assert_eq!(word, "sglang.output_tps");
        assert!(
            about.starts_with("**output_tps** (flow · tok/s)"),
            "{about}"
        );
        let (word, about) = told("vllm]");
        assert_eq!(
            (word.as_str(), about.as_str()),
            ("vllm", "`vllm` is defined in base.yaml:2")
        );
    }
}
