//! `scenario check`: every mistake at once; nothing is sent.

use std::path::Path;

use super::args::{CheckArgs, CheckFormat};
use super::console::Console;
use super::exit::Exit;
use super::{file, live};
use crate::diagnostic::sarif::{self, Checked, Rule};
use crate::diagnostic::{self, github};
use crate::language;

pub(super) fn check(args: &CheckArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut exit = Exit::Passed;
    let mut all = Vec::new();
    for path in &args.files {
        // What is to be fetched for a run is looked for only where the world is looked at.
        let aim = if args.live {
            file::Aim::Run
        } else {
            file::Aim::Look
        };
        let mut read = file::read(path, &args.options, aim)?;
        console.hide(&read.secrets);
        if read.plan.is_none() {
            exit = Exit::Usage;
        }
        if args.format == CheckFormat::Text {
            tell(path, &read, console);
        }
        if let Some(plan) = read.plan.as_ref().filter(|_| args.live) {
            let found = live::findings(plan);
            if args.format == CheckFormat::Text {
                live::show(&found, console);
            }
            exit = exit.worse(live::exit(&found));
            let told = live::diagnostics(&found, read.composition.as_ref());
            read.diagnostics.extend(told);
        }
        all.push((path.as_path(), read));
    }
    match args.format {
        CheckFormat::Text => {}
        CheckFormat::Json => console.data(&serde_json::to_string_pretty(&json(&all))?),
        CheckFormat::Sarif => console.data(&serde_json::to_string_pretty(&scanned(&all))?),
        CheckFormat::Github => {
            let told = all.iter().map(|(path, read)| {
                github::annotations(
                    &read.diagnostics,
                    &read.sources,
                    &path.display().to_string(),
                )
            });
            console.data(&told.collect::<String>());
        }
    }
    Ok(exit)
}

/// For people: what is wrong, or that nothing is.
fn tell(path: &Path, read: &file::Read, console: &Console) {
    if !read.diagnostics.is_empty() {
        console.talk(&diagnostic::render(
            &read.diagnostics,
            &read.sources,
            console.color_errors,
        ));
    }
    if let Some(plan) = &read.plan {
        let (cells, slos) = (plan.cells.len(), plan.slos.len());
        console.data(&format!(
            "{}: ok: {cells} {}, {slos} {}",
            path.display(),
            many(cells, "cell"),
            many(slos, "SLO")
        ));
    }
}

/// One list over all files.
fn json(all: &[(&Path, file::Read)]) -> Vec<serde_json::Value> {
    let lists = all
        .iter()
        .map(|(_, read)| diagnostic::to_json(&read.diagnostics, &read.sources));
    lists
        .filter_map(|list| match list {
            serde_json::Value::Array(list) => Some(list),
            _ => None,
        })
        .flatten()
        .collect()
}

fn scanned(all: &[(&Path, file::Read)]) -> serde_json::Value {
    let files: Vec<Checked<'_>> = all
        .iter()
        .map(|(path, read)| Checked {
            path,
            diagnostics: &read.diagnostics,
            sources: &read.sources,
        })
        .collect();
    sarif::log(&files, |code| Rule {
        title: match code {
            live::CODE => live::TITLE,
            _ => language::title(code).unwrap_or(code),
        }
        .to_owned(),
        page: language::page(code).map(|page| page.text.to_owned()),
    })
}

fn many(count: usize, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}
