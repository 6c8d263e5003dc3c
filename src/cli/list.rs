//! `scenario list`: scenario files, with what they would do.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::FileOptions;
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::plan::describe::cell_totals;
use crate::plan::{Plan, Planned};
use crate::units::format_duration;

/// What is told of a file that is none by itself.
const PART: &str = "a part: others extend or include it";

pub(super) fn list(paths: &[PathBuf], console: &Console) -> anyhow::Result<Exit> {
    let mut table = comfy_table::Table::new();

    table.set_header(["FILE", "NAME", "OWNER", "CELLS", "DURATION", "DESCRIPTION"]);
    let mut exit = Exit::Passed;
    for path in paths {
        for file in files(path)? {
            let read = file::read(&file, &FileOptions::default(), file::Aim::Look)?;
            console.hide(&read.secrets);
            let Some(plan) = &read.plan else {
                let part = read.composition.as_ref().filter(|it| it.is_part());
                let said = |key: &str| part.and_then(|it| it.said(key)).unwrap_or_default();
                let about = match (part, said("description")) {
                    (None, _) => "does not check: see `scenario check`".to_owned(),
                    (Some(_), about) if about.is_empty() => PART.to_owned(),
                    (Some(_), about) => format!("{about} ({PART})"),
                };
                let name = file.display().to_string();
                table.add_row([
                    name,
                    said("name"),
                    said("owner"),
                    String::new(),
                    String::new(),
                    about,
                ]);
                if part.is_none() {
                    exit = Exit::Usage;
                }
                continue;
            };
            table.add_row([
                file.display().to_string(),
                plan.name.clone(),
                plan.owner.clone().unwrap_or_default(),
                plan.cells.len().to_string(),
                duration(plan),
                plan.description.clone().unwrap_or_default(),
            ]);
        }
    }
    console.data(&table.trim_fmt());
    Ok(exit)
}

/// The scenario files that a path stands for: itself, or those in the folder.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
    });
    files.sort();
    Ok(files)
}

/// The load of all runs, as far as the plan can tell.
fn duration(plan: &Plan) -> String {
    let mut about = false;
    let mut seconds = 0.0;
    let cells = || plan.order.iter().map(|run| &plan.cells[run.cell]);
    for cell in cells().filter(|cell| cell.search.is_some()) {
        (seconds, about) = (seconds + cell_totals(cell).seconds, true);
    }
    let all = cells().filter(|cell| cell.search.is_none());
    for stage in all.flat_map(|cell| &cell.stages) {
        match stage.expected {
            Planned::Exact(exact) => seconds += exact,
            Planned::Estimate(estimate) => (seconds, about) = (seconds + estimate, true),
            Planned::Unknown => about = true,
        }
    }
    let text = format_duration(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
    if about { format!("≥ {text}") } else { text }
}
