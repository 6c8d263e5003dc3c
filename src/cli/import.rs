//! `scenario import`: result files of other tools, read, checked, and kept as a report.

use std::path::Path;

use anyhow::{Context, anyhow};

use super::args::ImportArgs;
use super::console::Console;
use super::exit::Exit;
use super::results::Results;
use crate::report::charts::Charts;
use crate::report::import::{self, Format, Found};
use crate::report::model::{Report, VerdictStatus};
use crate::report::{View, terminal};

pub(super) fn import(
    args: &ImportArgs,
    command: &[String],
    console: &Console,
) -> anyhow::Result<Exit> {
    let mut found = Vec::new();
    for word in &args.files {
        let (name, path) = named(word);
        found.extend(read(path, name)?);
    }
    let report = import::build(&found, env!("CARGO_PKG_VERSION"), command);
    let view = View {
        width: console.width(),
        colour: console.color,
        verbose: args.verbose,
        ..View::default()
    };
    console.data(told(&report, args.verbose).trim_end_matches('\n'));
    console.data(&format!("\n{}", terminal::measured(&report, &view)));
    if let Some(folder) = &args.out {
        let results = Results::at(folder)?;
        results.clear(None)?;
        results.write(&report, &view)?;
        results.write_page(&report, &Charts::none())?;
        console.data(&format!(
            "report: {}",
            results.folder().join("report.html").display()
        ));
    }
    Ok(match report.exit_code {
        0 => Exit::Passed,
        _ => Exit::Inconclusive,
    })
}

/// `vllm=results.json` names the backend of a file that does not.
fn named(word: &str) -> (Option<&str>, &Path) {
    match word.split_once('=') {
        Some((name, path)) if !name.contains(['/', '\\', '.']) && !Path::new(word).exists() => {
            (Some(name), Path::new(path))
        }
        _ => (None, Path::new(word)),
    }
}

/// The measurements of a file.
///
/// # Errors
/// It cannot be read, or is of no known format.
pub(super) fn read(path: &Path, name: Option<&str>) -> anyhow::Result<Vec<(String, Found)>> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{file}`"))?;
    let found =
        import::read(&text).map_err(|error| anyhow!("`{file}` cannot be imported: {error}"))?;
    let named = found.into_iter().map(|mut one| {
        if let Some(model) = folder_model(path).filter(|_| one.format == Format::Suite000) {
            one.model = model;
        }
        if let Some(name) = name {
            one.backend = name.to_owned();
        }
        (file.clone(), one)
    });
    Ok(named.collect())
}

/// Suite 000 names the model in the folder alone: `{model}-concurrency-{N}/{backend}_{time}.json`.
fn folder_model(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?.to_str()?;
    let (model, _) = folder.rsplit_once("-concurrency-")?;
    Some(model.to_owned())
}

/// What the checks say: what cannot be believed first, then what is to be known, and with `all` what holds, too.
fn told(report: &Report, all: bool) -> String {
    let mut text = String::new();
    for cell in &report.cells {
        for stage in &cell.stages {
            let verdicts = report.verdicts.iter().filter(|verdict| {
                verdict.cell.as_deref() == Some(&cell.id)
                    && verdict.stage.as_deref() == Some(&stage.name)
            });
            let (held, doubted): (Vec<_>, Vec<_>) =
                verdicts.partition(|verdict| verdict.status == VerdictStatus::Pass);
            let (warned, broken): (Vec<_>, Vec<_>) = doubted
                .into_iter()
                .partition(|verdict| verdict.level == "warn");
            let state = if broken.is_empty() {
                "believed"
            } else {
                "not believed"
            };
            text.push_str(&format!(
                "{} {}: {state}, {} checks hold\n",
                cell.id,
                stage.name,
                held.len()
            ));
            let listed = broken
                .iter()
                .map(|one| ("✗", one))
                .chain(warned.iter().map(|one| ("!", one)));
            let listed = listed.chain(held.iter().filter(|_| all).map(|one| ("✓", one)));
            for (mark, verdict) in listed {
                text.push_str(&format!("  {mark} {}\n", verdict.message));
            }
        }
    }
    text
}
