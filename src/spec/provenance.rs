//! Where values come from: why a text was read at all, and what an expression took its value from.

use crate::diagnostic::{Diagnostic, SourceId, Span};

/// Where values come from.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    brought: Vec<Brought>,
    made: Vec<Made>,
}

/// A file that another one names.
#[derive(Clone, Debug)]
struct Brought {
    source: SourceId,
    /// Where it is named.
    by: Span,
    how: &'static str,
}

/// A value that an expression has made.
#[derive(Clone, Debug)]
struct Made {
    /// Where the expression stands.
    place: Span,
    /// The variable that it took.
    name: String,
    /// Where that got its value.
    from: Span,
}

impl Provenance {
    /// Notes that a file was read because another one names it; `how` is a word like `extended`.
    pub(super) fn brought(&mut self, source: SourceId, by: Span, how: &'static str) {
        if !self.brought.iter().any(|known| known.source == source) {
            self.brought.push(Brought { source, by, how });
        }
    }

    /// Notes that the value at `place` was made from a variable.
    pub(super) fn made(&mut self, place: Span, name: &str, from: Span) {
        let name = name.to_owned();
        self.made.push(Made { place, name, from });
    }

    /// Where the file of a place is named, and how; `None` for the file that was asked for.
    pub fn named_at(&self, source: SourceId) -> Option<(Span, &'static str)> {
        let brought = self.brought.iter().find(|brought| brought.source == source);
        brought.map(|brought| (brought.by, brought.how))
    }

    /// The variables that the value at a place was made from, each with where it got its value.
    pub fn made_from(&self, place: Span) -> impl Iterator<Item = (&str, Span)> {
        let made = self.made.iter().filter(move |made| {
            made.place.source == place.source
                && made.place.start <= place.start
                && place.end <= made.place.end
        });
        made.map(|made| (made.name.as_str(), made.from))
    }

    /// Adds to diagnostics the other places that matter: where a value was made, and where a file is named.
    pub fn explain(&self, diagnostics: &mut [Diagnostic]) {
        for diagnostic in diagnostics {
            let Some(primary) = diagnostic.primary.as_ref().map(|label| label.span) else {
                continue;
            };
            let mut also: Vec<(Span, String)> = self
                .made_from(primary)
                .map(|(name, from)| (from, format!("`{name}` gets its value here")))
                .collect();
            let mut source = primary.source;
            while let Some((by, how)) = self.named_at(source) {
                also.push((by, format!("{how} here")));
                source = by.source;
            }
            for (span, text) in also {
                let told = diagnostic.secondary.iter().any(|label| label.span == span);
                if !told && span != primary {
                    diagnostic
                        .secondary
                        .push(crate::diagnostic::Label { span, text });
                }
            }
        }
    }
}
