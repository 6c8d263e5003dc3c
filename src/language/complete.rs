//! What can be written at a place.

use super::documents::Document;
use super::guide::Guide;
use super::names::{Named, names, wanted, wanted_keys};
use super::outline::{Place, Step, place};
use super::{Offer, OfferKind, asserted};

/// What can be written at byte `at` of the first of these files; the others are those that it extends and includes.
pub fn offers(guide: &Guide, documents: &[Document], at: usize) -> Vec<Offer> {
    let Some(document) = documents.first() else {
        return Vec::new();
    };
    let Some(place) = place(&document.text, at) else {
        return Vec::new();
    };
    let written = &document.text[place.start..at];
    if let Some(expression) = written
        .rfind("${{")
        .filter(|open| !written[*open..].contains("}}"))
    {
        return in_expression(
            documents,
            &written[expression + 3..],
            place.start + expression + 3,
        );
    }
    let mut offers = Vec::new();
    if place.keys {
        offers.extend(keys(guide, documents, &place));
    }
    if place.values {
        offers.extend(values(guide, documents, &place, written));
    }
    offers
}

fn keys(guide: &Guide, documents: &[Document], place: &Place) -> Vec<Offer> {
    let document = &documents[0];
    let there = document.said(&place.path);
    let given: Vec<&str> = document
        .inside(&place.path)
        .filter_map(|entry| entry.path.last()?.key())
        .chain(there.iter().map(|(key, _)| *key))
        .collect();
    let half_written = document
        .entries
        .iter()
        .find(|entry| {
            entry
                .key
                .as_ref()
                .is_some_and(|range| range.start == place.start)
        })
        .and_then(|entry| entry.path.last()?.key());
    let free = |key: &str| !given.contains(&key) || half_written == Some(key);
    let mut offers: Vec<Offer> = guide
        .keys(document, &place.path)
        .into_iter()
        .filter(|known| free(known.key))
        .map(|known| Offer {
            label: known.key.to_owned(),
            detail: String::new(),
            about: known.about,
            insert: format!("{}: ", known.key),
            start: place.start,
            kind: OfferKind::Key,
        })
        .collect();
    if let Some(named) = wanted_keys(&place.path) {
        let found = names(documents, named);
        offers.extend(
            found
                .into_iter()
                .filter(|name| free(&name.name))
                .map(|name| Offer {
                    insert: format!("{}: ", name.name),
                    ..Offer::name(name.name, place.start)
                }),
        );
    }
    offers
}

fn values(guide: &Guide, documents: &[Document], place: &Place, written: &str) -> Vec<Offer> {
    let document = &documents[0];
    let named = wanted(&place.path);
    if named == Some(Named::Assertion) && place.path.len() > 1 {
        let mut offers = Vec::new();
        if written.trim().is_empty() {
            offers.extend(examples(guide, document, place));
        }
        offers.extend(asserted::offers(documents, written, place.start));
        return offers;
    }
    let mut offers: Vec<Offer> = match named {
        Some(Named::Stage) => stages(documents, place),
        Some(named) => {
            let found = names(documents, named);
            found
                .into_iter()
                .map(|name| Offer::name(name.name, place.start))
                .collect()
        }
        None => Vec::new(),
    };
    offers.extend(examples(guide, document, place));
    offers
}

/// The stages of the load that the same `where` names, or of all.
fn stages(documents: &[Document], place: &Place) -> Vec<Offer> {
    let depth = place
        .path
        .iter()
        .rposition(|step| step.key() == Some("stage"))
        .unwrap_or(0);
    let beside = documents[0].said(&place.path[..depth]);
    let load = beside
        .iter()
        .find(|(key, _)| *key == "load")
        .map(|(_, load)| *load);
    let found = names(documents, Named::Stage);
    let of_load = |definition: &super::Definition| {
        let Some(load) = load else {
            return true;
        };
        documents
            .iter()
            .filter(|document| document.path == definition.path)
            .flat_map(|document| &document.entries)
            .any(|entry| {
                entry.value.as_ref() == Some(&definition.at)
                    && entry.path.get(1).and_then(Step::key) == Some(load)
            })
    };
    found
        .into_iter()
        .filter(of_load)
        .map(|name| Offer::name(name.name, place.start))
        .collect()
}

/// What the schema has for a value.
fn examples(guide: &Guide, document: &Document, place: &Place) -> Vec<Offer> {
    guide
        .values(document, &place.path)
        .into_iter()
        .map(|value| Offer {
            label: value.text.clone(),
            detail: if value.example {
                "for example".to_owned()
            } else {
                String::new()
            },
            about: value.about,
            insert: value.text,
            start: place.start,
            kind: if value.example {
                OfferKind::Example
            } else {
                OfferKind::Word
            },
        })
        .collect()
}

/// Inside of `${{ … }}`: variables and secrets.
fn in_expression(documents: &[Document], written: &str, from: usize) -> Vec<Offer> {
    let word = written
        .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .map_or(0, |at| {
            at + written[at..].chars().next().map_or(1, char::len_utf8)
        });
    let offers = [("vars", "vars"), ("secrets", "secrets")]
        .into_iter()
        .flat_map(|(registry, prefix)| {
            let found = names(documents, Named::Entry(registry));
            found
                .into_iter()
                .map(move |name| Offer::name(format!("{prefix}.{}", name.name), from + word))
        });
    offers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "\
backends: { vllm: http://localhost:8000, sglang: http://localhost:30000 }
load:
  steady: { levels: { users: [4, 8], for: 30s } }
  ramp: { stages: [{ name: climb, rate: 1/s, to: 8/s, for: 1m }] }
vars: { peak: 8 }
";

    /// The labels that are offered at the `|` of a file on top of the base, those that begin as asked.
    fn labels(text: &str, start: &str) -> Vec<String> {
        let at = text.find('|').unwrap();
        let text = text.replacen('|', "", 1);
        let documents = super::super::gather(Document::new("team.yaml", text), &|path| {
            (path.to_str() == Some("base.yaml")).then(|| BASE.to_owned())
        });
        offers(&Guide::default(), &documents, at)
            .into_iter()
            .map(|offer| offer.label)
            .filter(|label| label.starts_with(start))
            .collect()
    }

    #[test]
    fn keys_come_from_the_schema() {
        assert_eq!(labels("ba|", "ba"), ["backends", "baseline"]);
        assert_eq!(
            labels("version: 1\nbackends:\n  a:\n    ur|", "ur"),
            ["url"]
        );
        assert_eq!(labels("load: { a: { stages: [{ na|", "na"), ["name"]);
        // What is there already is not offered again.
        assert_eq!(labels("run: { seed: 1, se|", "se"), [""; 0]);
        // A prompt set has the keys of its source.
        assert_eq!(
            labels("prompts: { a: { source: synthetic, in|", "in"),
            ["input_tokens"]
        );
        assert_eq!(labels("prompts: { a: { source: inline, in|", "in"), [""; 0]);
    }

    #[test]
    fn words_come_from_the_schema_and_names_from_every_file() {
        assert_eq!(labels("backends: { a: { kind: v|", "v"), ["vllm"]);
        assert_eq!(
            labels("extends: base.yaml\nmatrix: { backend: [|", ""),
            ["vllm", "sglang"]
        );
        assert_eq!(
            labels(
                "extends: base.yaml\nslos:\n  a:\n    where: { load: ra|",
                "ra"
            ),
            ["ramp"]
        );
        assert_eq!(
            labels("extends: base.yaml\nslos: { a: { where: { stage: |", ""),
            ["c4", "c8", "climb"]
        );
        assert_eq!(
            labels(
                "extends: base.yaml\nload: { b: { levels: { users: \"${{ vars.|",
                "vars"
            ),
            ["vars.peak"]
        );
    }

    #[test]
    fn an_assertion_has_aggregates_metrics_names_and_stages() {
        assert_eq!(
            labels("slos:\n  a: P95 tt|", "tt"),
            ["ttft", "ttft_intended", "ttft_content"]
        );
        assert_eq!(labels("slos:\n  a: P9|", "P9"), ["P90", "P95", "P99"]);
        assert_eq!(
            labels("extends: base.yaml\nslos:\n  a: { assert: sg|", "sg"),
            ["sglang"]
        );
        assert_eq!(
            labels("extends: base.yaml\nslos:\n  a: sglang.output|", "output"),
            ["output_tokens", "output_tps"]
        );
        assert_eq!(labels("slos:\n  a: \"P95 ttft{st|", "st"), ["stage"]);
        assert_eq!(
            labels("extends: base.yaml\nslos:\n  a: \"P95 ttft{stage=|", "c"),
            ["c4", "c8", "climb"]
        );
    }
}
