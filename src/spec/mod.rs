//! Text becomes a typed scenario: what was written, every value with its place, nothing defaulted.
//!
//! In: the text of a scenario file, and a way to read those that it names. Out: a [`ScenarioSpec`], or every mistake of the files at
//! once as [`Diagnostic`]s. Between: files are composed, then expressions take the places of scalars, then types read themselves.
//! Promised: no text makes it panic, and a spec that comes out has no mistake that can be seen without the other stages.

// The text as a tree, of one file or of several.
mod tree;
mod compose;
mod set;
mod provenance;
// What stands in `${{ … }}`.
mod vars;
mod expression;
mod late;
// The types that read themselves from the tree.
mod draft;
mod types;
mod values;
mod unions;
mod sets;
mod search;
mod rules;
// How a type reads itself, describes itself, and is written down once for both.
mod decode;
mod schema;
mod published;
mod macros;
mod codes;
// What is composed, to be shown.
mod show;
mod portable;
mod composition;
// Whether two texts say the same.
mod same;

use std::collections::HashSet;
use std::path::Path;

pub use codes::{CODES, explain};
pub use compose::remote::{GitFile, is_remote};
pub use composition::{Composition, Input, InputKind};
pub use draft::Draft;
pub use late::{Asked, CellNames};
pub use portable::{NamedCommand, NamedFile, NamedOutside, RemoteFile};
pub use provenance::Provenance;
pub use published::{SchemaDraft, published_schema};
pub use same::say_the_same;
pub use schema::schema;
pub use search::{RangeSpec, SearchSpec};
pub use show::View;
pub use types::*;
pub use values::*;
pub use vars::{SecretDeclaration, VarName, VarOrigin, VarSpec, VarType};

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
    let inputs = Inputs {
        sets,
        ..Inputs::default()
    };
    let Reading {
        spec, diagnostics, ..
    } = read(sources, path, text, &inputs);
    (spec, diagnostics)
}

/// What goes into a scenario besides its file.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Reads a file that another one names; `Err` with the reason why it cannot.
    pub files: &'a dyn Fn(&Path) -> Result<String, String>,
    /// The environment, for variables.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The profile that is asked for.
    pub profile: Option<&'a str>,
    /// Values of variables: each is `NAME=VALUE`.
    pub vars: &'a [String],
    /// Values that are replaced: each is `KEY=VALUE`.
    pub sets: &'a [String],
}

impl Default for Inputs<'_> {
    /// The file alone: no other files, an empty environment.
    fn default() -> Self {
        Inputs {
            files: &|_| Err("only this file is read here".to_owned()),
            environment: &|_| None,
            profile: None,
            vars: &[],
            sets: &[],
        }
    }
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
    /// Where values come from, to explain what later stages find.
    pub provenance: Provenance,
    /// The composed scenario, unless a file of it could not be read.
    pub composition: Option<Composition>,
}

/// As [`parse`], with all that goes into it, and with a draft of a file that has mistakes.
pub fn read(sources: &mut Sources, path: &Path, text: &str, inputs: &Inputs<'_>) -> Reading {
    let source = sources.add(path, text);
    let (root, mut problems) = tree::parse(source, text);
    let mut provenance = Provenance::default();
    let stop = |mut problems: Vec<Diagnostic>, provenance: Provenance| {
        settle(&mut problems);
        provenance.explain(&mut problems);
        Reading {
            diagnostics: problems,
            provenance,
            ..Reading::default()
        }
    };
    let Some(root) = root else {
        return stop(problems, provenance);
    };
    if let Some(too_old) = required_version(&root) {
        return stop(vec![too_old], provenance);
    }
    let composed = compose::compose(&root, inputs, sources, &mut provenance, &mut problems);
    let composed = match composed {
        Ok(composed) => composed,
        Err(compose::Broken::TooOld(too_old)) => return stop(vec![*too_old], provenance),
        Err(compose::Broken::Unread) => return stop(problems, provenance),
    };
    let mut root = composed.root;
    for argument in inputs.sets {
        match set::apply(&root, argument, sources) {
            Ok(changed) => root = changed,
            Err(wrong) => problems.extend(wrong),
        }
    }
    let variables = vars::variables(&root, inputs, sources, &mut problems);
    let secrets = vars::secrets(&root);
    let scope = expression::Scope {
        variables: &variables,
        secrets: &secrets,
        keep_secrets: false,
    };
    let evaluated = expression::evaluate(&root, &scope, sources, &mut provenance, &mut problems);
    let composition = Composition {
        root,
        profiles: composed.profiles,
        variables,
        secrets,
    };
    let (root, broken) = (evaluated.root, evaluated.broken);
    let mut decoding = Problems::default();
    let spec = ScenarioSpec::decode(&root, &mut decoding);
    // Where an expression has no value, its source is read in its place: nothing more can be said of it.
    let unread = |problem: &Diagnostic| {
        let place = problem.primary.as_ref().map(|label| label.span);
        place.is_some_and(|place| broken.contains(&place))
    };
    decoding.list.retain(|problem| !unread(problem));
    problems.extend(decoding.list);
    settle(&mut problems);
    let wrong = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    let draft = wrong.then(|| draft::draft(&root, &problems)).flatten();
    provenance.explain(&mut problems);
    Reading {
        spec: spec.filter(|_| !wrong),
        draft,
        diagnostics: problems,
        provenance,
        composition: Some(composition),
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
