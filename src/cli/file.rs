//! A scenario file becomes a plan, or diagnostics.

use std::path::Path;

use anyhow::Context;

use super::args::{FileOptions, InputOptions};
use super::console::Console;
use crate::diagnostic::{self, Diagnostic, Severity, Sources};
use crate::plan::{self, Plan, PlanOptions};
use crate::spec;
use crate::workload::Library;

/// What a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// To see what it says: nothing is fetched.
    Look,
    /// To run it, or to tell what a run would send.
    Run,
    /// To run it, made from a command line.
    Quick,
}

/// What a file says, with everything that is wrong with it.
pub(super) struct Read {
    /// The texts that diagnostics and verdicts quote.
    pub(super) sources: Sources,
    /// The plan, if no diagnostic is an error.
    pub(super) plan: Option<Plan>,
    /// Errors and warnings.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Read {
    /// Shows the diagnostics, and gives the plan if there is one.
    pub(super) fn told(self, console: &Console) -> Option<(Plan, Sources)> {
        if !self.diagnostics.is_empty() {
            console.talk(&diagnostic::render(
                &self.diagnostics,
                &self.sources,
                console.color_errors,
            ));
        }
        if self.plan.is_none() {
            console.talk("Nothing was sent.");
        }
        self.plan.map(|plan| (plan, self.sources))
    }
}

/// Reads and plans a file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read(path: &Path, options: &FileOptions, aim: Aim) -> anyhow::Result<Read> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    read_text(path, &text, options, aim)
}

/// Reads a file with all that goes into it, without planning it.
///
/// # Errors
/// The file cannot be read.
pub(super) fn compose(
    sources: &mut Sources,
    path: &Path,
    options: &InputOptions,
) -> anyhow::Result<spec::Reading> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(compose_text(sources, path, &text, options))
}

fn compose_text(
    sources: &mut Sources,
    path: &Path,
    text: &str,
    options: &InputOptions,
) -> spec::Reading {
    let inputs = spec::Inputs {
        files: &text_of,
        environment: &|name| std::env::var(name).ok(),
        profile: options.profile.as_deref(),
        vars: &options.vars,
        sets: &options.sets,
    };
    spec::read(sources, path, text, &inputs)
}

/// The text of a file that a scenario names, or why it cannot be read.
fn text_of(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "it is not there".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    })
}

/// As [`read`], of a text that is at hand.
pub(super) fn read_text(
    path: &Path,
    text: &str,
    options: &FileOptions,
    aim: Aim,
) -> anyhow::Result<Read> {
    let mut sources = Sources::default();
    let spec::Reading {
        spec,
        draft,
        mut diagnostics,
        provenance,
        ..
    } = compose_text(&mut sources, path, text, &options.inputs);
    let library = Library::of_environment(|name| std::env::var(name).ok());
    let asked = PlanOptions {
        only: options.only.clone(),
        seed: options.seed,
        repeats: options.repeats,
        simulate: options.simulate,
        smoke: options.smoke,
        quick: aim == Aim::Quick,
        dry: aim == Aim::Look,
        library: Library {
            offline: library.offline || aim == Aim::Look,
            ..library
        },
    };
    let Some(spec) = spec else {
        if let Some(draft) = draft {
            diagnostics.extend(plan::mistakes(&draft, &sources, &asked));
        }
        provenance.explain(&mut diagnostics);
        return Ok(Read {
            sources,
            plan: None,
            diagnostics: plan::distinct(diagnostics),
        });
    };
    let plan = match plan::plan(&spec, &sources, &asked) {
        Ok((plan, warnings)) => {
            diagnostics.extend(warnings);
            Some(plan)
        }
        Err(errors) => {
            diagnostics.extend(errors);
            None
        }
    };
    provenance.explain(&mut diagnostics);
    let wrong = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    Ok(Read {
        sources,
        plan: plan.filter(|_| !wrong),
        diagnostics,
    })
}
