//! A scenario file becomes a plan, or diagnostics.

use std::path::Path;

use anyhow::Context;

use super::args::{FileOptions, InputOptions};
use super::bundle;
use super::console::Console;
use super::remote;
use super::{actions, repository};
use crate::diagnostic::{self, Diagnostic, Severity, Sources};
use crate::plan::{self, Plan, PlanOptions};
use crate::spec::{self, Composition, NamedCommand, is_remote};
use crate::workload::{Library, StoreSettings};

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
    /// The environment variables that hold secrets.
    pub(super) secrets: Vec<String>,
    /// The composed scenario, unless a file of it could not be read.
    pub(super) composition: Option<Composition>,
    /// Commands that were written elsewhere.
    pub(super) foreign: Vec<NamedCommand>,
}

impl Read {
    /// Shows the diagnostics, and gives the plan if there is one.
    pub(super) fn told(self, console: &Console) -> Option<(Plan, Sources)> {
        console.hide(&self.secrets);
        if !self.diagnostics.is_empty() {
            console.talk(&diagnostic::render(
                &self.diagnostics,
                &self.sources,
                console.color_errors,
            ));
        }
        if self.plan.is_none() {
            actions::show_mistakes(&self.diagnostics, &self.sources, console);
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
    let bundled = bundle::is_bundle(path);
    let unpacked = if bundled {
        let cache = Library::of_environment(|name| std::env::var(name).ok()).cache;
        Some(bundle::unpacked(path, &cache)?)
    } else {
        None
    };
    let path = unpacked.as_deref().unwrap_or(path);
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut read = read_text(path, &text, options, aim)?;
    if let Some(composition) = &read.composition {
        let elsewhere = |source| bundled || is_remote(&read.sources.get(source).path);
        read.foreign = composition.commands(&elsewhere);
    }
    Ok(read)
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
    Ok(compose_text(sources, &text_of, path, &text, options, true))
}

/// Reads the text of a file that a scenario names.
type Files<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

fn compose_text(
    sources: &mut Sources,
    files: Files<'_>,
    path: &Path,
    text: &str,
    options: &InputOptions,
    fetch: bool,
) -> spec::Reading {
    let inputs = spec::Inputs {
        files: &|other| {
            if is_remote(other) {
                remote::locked_text(other, path, fetch)
            } else {
                files(other)
            }
        },
        environment: &|name| std::env::var(name).ok(),
        profile: options.profile.as_deref(),
        vars: &options.vars,
        sets: &options.sets,
    };
    spec::read(sources, path, text, &inputs)
}

/// The text of a file that a scenario names, or why it cannot be read.
pub(super) fn text_of(path: &Path) -> Result<String, String> {
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
    read_among(&text_of, path, text, options, aim)
}

/// The same, with the files that it names as `files` has them.
pub(super) fn read_among(
    files: Files<'_>,
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
        composition,
    } = compose_text(
        &mut sources,
        files,
        path,
        text,
        &options.inputs,
        aim == Aim::Run,
    );
    sources.find_in_repository(&repository::path_of);
    let mut secrets = composition
        .as_ref()
        .map_or_else(Vec::new, Composition::secret_variables);
    // With this one data sets are fetched.
    secrets.push("HF_TOKEN".to_owned());
    secrets.extend(StoreSettings::SECRETS.map(str::to_owned));
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
            secrets,
            composition,
            foreign: Vec::new(),
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
    if let Some(composition) = &composition {
        let written_alone = sources.iter().count() == 1 && !text.contains("${{");
        if !written_alone || options.inputs.profile.is_some() {
            sources.keep_composed(composition.resolved_lines(&sources));
        }
    }
    provenance.explain(&mut diagnostics);
    let wrong = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    Ok(Read {
        sources,
        plan: plan.filter(|_| !wrong),
        diagnostics,
        secrets,
        composition,
        foreign: Vec::new(),
    })
}
