//! Text becomes a typed scenario: what was written, every value with its place, nothing defaulted.
//!
//! In: the text of a scenario file. Out: a [`ScenarioSpec`], or every mistake of the file at once as [`Diagnostic`]s.
//! Promised: no text makes it panic, and a spec that comes out has no mistake that can be seen without the other stages.

// The text as a tree, then the types that read themselves from it.
mod tree;
mod set;
mod draft;
mod types;
mod values;
mod unions;
mod sets;
mod rules;
// How a type reads itself, describes itself, and is written down once for both.
mod decode;
mod schema;
mod macros;
mod codes;

use std::collections::HashSet;
use std::path::Path;

pub use codes::{CODES, explain};
pub use draft::Draft;
pub use schema::schema;
pub use types::*;
pub use values::*;

use crate::diagnostic::{Diagnostic, Severity, Sources};
use decode::{Decode, Problems};
use tree::{Content, Node};

/// Reads a scenario file.
///
/// The text is kept in `sources`, so that diagnostics of this stage and of later ones can quote it. There is a spec exactly if
/// no diagnostic is an error; warnings may come beside it.
pub fn parse(
    sources: &mut Sources,
    path: &Path,
    text: &str,
) -> (Option<ScenarioSpec>, Vec<Diagnostic>) {
    parse_with(sources, path, text, &[])
}

/// As [`parse`], with values replaced as the command line says: each of `sets` is `KEY=VALUE`, like `run.seed=7`.
pub fn parse_with(
    sources: &mut Sources,
    path: &Path,
    text: &str,
    sets: &[String],
) -> (Option<ScenarioSpec>, Vec<Diagnostic>) {
    let Reading {
        spec, diagnostics, ..
    } = read(sources, path, text, sets);
    (spec, diagnostics)
}

/// What came of a scenario file.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What was written; there is one exactly if no diagnostic is an error.
    pub spec: Option<ScenarioSpec>,
    /// What is left of a file with errors, if something is: later stages can look for more mistakes in it.
    pub draft: Option<Draft>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// As [`parse_with`], with a draft of a file that has mistakes.
pub fn read(sources: &mut Sources, path: &Path, text: &str, sets: &[String]) -> Reading {
    let source = sources.add(path, text);
    let (root, mut problems) = tree::parse(source, text);
    let Some(mut root) = root else {
        return Reading {
            diagnostics: problems,
            ..Reading::default()
        };
    };
    for argument in sets {
        match set::apply(&root, argument, sources) {
            Ok(changed) => root = changed,
            Err(wrong) => problems.extend(wrong),
        }
    }
    if let Some(too_old) = required_version(&root) {
        return Reading {
            diagnostics: vec![too_old],
            ..Reading::default()
        };
    }
    let mut decoding = Problems::default();
    let spec = ScenarioSpec::decode(&root, &mut decoding);
    problems.extend(decoding.list);
    settle(&mut problems);
    let wrong = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    Reading {
        spec: spec.filter(|_| !wrong),
        draft: wrong.then(|| draft::draft(&root, &problems)).flatten(),
        diagnostics: problems,
    }
}

/// The one diagnostic of a file that wants another version of the tool: nothing else that could be said of it would be sure.
fn required_version(root: &std::rc::Rc<Node>) -> Option<Diagnostic> {
    let Content::Map(map) = &root.content else {
        return None;
    };
    let (_, node) = map.get("requires")?;
    let range = VersionRange::decode(node, &mut Problems::default())?;
    let own = env!("CARGO_PKG_VERSION");
    if range.contains(own) {
        return None;
    }
    Some(
        Diagnostic::error("S021", "this file requires another version of the tool")
            .at(node.span, format!("this is version {own}")),
    )
}

/// Brings problems into the order of the file; an alias that is read twice is not told twice.
fn settle(problems: &mut Vec<Diagnostic>) {
    let place = |problem: &Diagnostic| problem.primary.as_ref().map(|label| label.span);
    problems.sort_by_key(place);
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert((place(problem), problem.code, problem.message.clone())));
}
