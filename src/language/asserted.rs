//! What can be said in an assertion, and what its words mean.

use std::ops::Range;

use super::documents::Document;
use super::names::{Named, REGISTRIES, dimension_names, names};
use super::{Offer, OfferKind};
use crate::assertion::{self, Kind, Metric};

/// Aggregates, and what they are of.
const AGGREGATES: [(&str, &str); 10] = [
    ("P50", "half of the values are at most this"),
    ("P90", "9 of 10 values are at most this; needs 29 answers"),
    ("P95", "19 of 20 values are at most this; needs 59 answers"),
    (
        "P99",
        "99 of 100 values are at most this; needs 299 answers",
    ),
    ("mean", "the sum divided by the number; of a level, by time"),
    ("med", "the median, as P50"),
    ("min", "the least value"),
    ("max", "the greatest value"),
    ("std", "the standard deviation"),
    ("count", "how many values there are"),
];

/// What cells and stages are told apart by, in braces behind a metric.
const DIMENSIONS: [&str; 9] = [
    "backend", "model", "prompts", "load", "stage", "users", "rate", "category", "cache",
];

/// What can come at the end of an assertion that is being written; `from` is where it begins in the file.
pub(super) fn offers(documents: &[Document], written: &str, from: usize) -> Vec<Offer> {
    let word = written.len()
        - written
            .chars()
            .rev()
            .take_while(|c| is_word(*c))
            .map(char::len_utf8)
            .sum::<usize>();
    if let Some(brace) = written
        .rfind('{')
        .filter(|brace| !written[*brace..].contains('}'))
    {
        return in_braces(documents, &written[brace + 1..word], from + word);
    }
    let ids: Vec<String> = REGISTRIES
        .into_iter()
        .flat_map(|registry| names(documents, Named::Entry(registry)))
        .map(|definition| definition.name)
        .collect();
    // Behind the name of a backend comes a metric.
    let pinned = written[word..]
        .rfind('.')
        .filter(|dot| ids.iter().any(|id| id == &written[word..word + dot]));
    let start = from + pinned.map_or(word, |dot| word + dot + 1);
    let mut offers: Vec<Offer> = assertion::metrics()
        .iter()
        .map(|metric| Offer {
            label: metric.name.to_owned(),
            detail: detail(metric),
            about: about(metric),
            insert: metric.name.to_owned(),
            start,
            kind: OfferKind::Metric,
        })
        .collect();
    if pinned.is_none() {
        offers.extend(AGGREGATES.iter().map(|(name, means)| Offer {
            label: (*name).to_owned(),
            detail: "aggregate".to_owned(),
            about: (*means).to_owned(),
            insert: (*name).to_owned(),
            start,
            kind: OfferKind::Word,
        }));
        offers.extend(ids.into_iter().map(|id| Offer::name(id, start)));
        offers.push(Offer {
            label: "baseline".to_owned(),
            detail: "the same number of an earlier run".to_owned(),
            about: "The measure of the other side, as `baseline.file` has it: `P95 TTFT <= baseline + 10%`.".to_owned(),
            insert: "baseline".to_owned(),
            start,
            kind: OfferKind::Word,
        });
    }
    offers
}

/// Inside of `{…}`: a dimension, or behind its `=` one of its values.
fn in_braces(documents: &[Document], before: &str, start: usize) -> Vec<Offer> {
    let condition = before.rsplit(',').next().unwrap_or(before).trim();
    let Some((dimension, _)) = condition.split_once('=') else {
        let offer = |dimension: &&str| Offer {
            label: (*dimension).to_owned(),
            detail: "dimension".to_owned(),
            about: String::new(),
            insert: format!("{dimension}="),
            start,
            kind: OfferKind::Key,
        };
        return DIMENSIONS.iter().map(offer).collect();
    };
    let Some(named) = dimension_names(dimension.trim()) else {
        return Vec::new();
    };
    let found = names(documents, named);
    found
        .into_iter()
        .map(|definition| Offer::name(definition.name, start))
        .collect()
}

/// What the word at byte `at` of an assertion means, and which bytes it has.
pub(super) fn meaning(text: &str, at: usize) -> Option<(Range<usize>, String)> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut start = None;
    for (index, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (is_word(c), start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                words.push(from..index);
                start = None;
            }
            _ => {}
        }
    }
    let here = words
        .iter()
        .position(|word| word.start <= at && at <= word.end)?;
    // A name of a metric may be several words; the longest that holds this one wins.
    for length in (1..=4).rev() {
        for first in (here + 1).saturating_sub(length)..=here {
            let Some(last) = words.get(first + length - 1) else {
                continue;
            };
            let range = words[first].start..last.end;
            if let Some(metric) = metric_of(&text[range.clone()]) {
                return Some((range, about(metric)));
            }
        }
    }
    let word = &text[words[here].clone()];
    let known = AGGREGATES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word));
    let percentile = || {
        let number = word.strip_prefix(['P', 'p'])?;
        number
            .parse::<f64>()
            .ok()
            .map(|number| format!("{number} of 100 values are at most this"))
    };
    let told = known
        .map(|(_, means)| (*means).to_owned())
        .or_else(percentile)?;
    Some((words[here].clone(), format!("**{word}**: {told}")))
}

/// The metric of a phrase, or of a path like `sglang.ttft.p95`.
fn metric_of(phrase: &str) -> Option<&'static Metric> {
    let parts: Vec<&str> = phrase.split('.').collect();
    assertion::find(phrase).or_else(|| {
        (0..parts.len())
            .flat_map(|first| (first + 1..=parts.len()).map(move |end| (first, end)))
            .filter(|(first, end)| parts.len() > 1 && end > first && !phrase.contains(' '))
            .find_map(|(first, end)| assertion::find(&parts[first..end].join(".")))
    })
}

fn detail(metric: &Metric) -> String {
    match metric.unit() {
        "" => metric.kind.name().to_owned(),
        unit => format!("{} · {unit}", metric.kind.name()),
    }
}

/// A metric as the registry has it.
fn about(metric: &Metric) -> String {
    let mut text = format!(
        "**{}** ({})\n\n{}\n\n",
        metric.name,
        detail(metric),
        metric.about
    );
    text.push_str(&match metric.kind {
        Kind::Derived => "Takes no aggregate.".to_owned(),
        kind => format!("Aggregates: {}.", kind.legal()),
    });
    text.push_str(&format!(" Like `{}`.", assertion::example(metric)));
    if !metric.aliases.is_empty() {
        text.push_str(&format!(" Also: {}.", metric.aliases.join(", ")));
    }
    text
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}
