//! `scenario compare`: saved runs side by side.

use std::path::Path;

use anyhow::Context;

use super::args::{CompareArgs, CompareFormat, FailOn};
use super::console::Console;
use super::exit::Exit;
use super::{import, saved};
use crate::report::compare::{Finding, compare};
use crate::report::compare_text::{html, json, markdown, terminal};
use crate::report::import::build;
use crate::report::{Report, View};

/// A saved run, or the results of another tool.
fn side(path: &Path) -> anyhow::Result<Report> {
    let saved = saved::read(path);
    let is_ours = saved.is_ok() || path.is_dir();
    match import::read(path, None) {
        Ok(found) if !is_ours => Ok(build(&found, env!("CARGO_PKG_VERSION"), &[])),
        _ => Ok(saved?.report),
    }
}

pub(super) fn compare_runs(args: &CompareArgs, console: &Console) -> anyhow::Result<Exit> {
    let sides = args
        .results
        .iter()
        .map(|path| Ok((path.display().to_string(), side(path)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let comparison = compare(&sides);
    let view = View {
        width: console.width(),
        colour: console.color,
        verbose: args.verbose,
        ..View::default()
    };
    let text = match args.format {
        CompareFormat::Text => terminal(&comparison, &view),
        CompareFormat::Markdown => markdown(&comparison, &view),
        CompareFormat::Json => json(&comparison, &view),
        CompareFormat::Html => html(&comparison, &view),
    };
    match &args.out {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write `{}`", path.display()))?,
        None => console.data(text.trim_end_matches('\n')),
    }
    Ok(match args.fail_on {
        Some(FailOn::Worse) if comparison.count(Finding::Worse) > 0 => Exit::Failed,
        Some(FailOn::Worse) if comparison.lost() > 0 => {
            console.talk(&format!(
                "{} of what {} has cannot be compared: that it is no worse is not shown",
                comparison.lost(),
                comparison.sides[0].label
            ));
            Exit::Inconclusive
        }
        _ if comparison.intervals == 0 => Exit::Inconclusive,
        _ => Exit::Passed,
    })
}
