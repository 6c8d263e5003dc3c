//! `scenario check`: every mistake at once; nothing is sent.

use std::collections::HashSet;
use std::path::Path;

use super::args::{CheckArgs, CheckFormat, FileOptions};
use super::console::Console;
use super::exit::Exit;
use super::{file, live};
use crate::diagnostic::sarif::{self, Checked, Rule};
use crate::diagnostic::{self, Diagnostic, github};
use crate::language;
use crate::plan::Plan;
use crate::server::CommandLine;

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
        let profiles = profiles(path, &args.options, &read)?;
        for (_, read) in &profiles {
            console.hide(&read.secrets);
        }
        if read.plan.is_none() || profiles.iter().any(|(_, read)| read.plan.is_none()) {
            exit = Exit::Usage;
        }
        if args.format == CheckFormat::Text {
            tell(path, &read, &profiles, console);
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
        all.extend(profiles.into_iter().map(|(_, read)| (path.as_path(), read)));
    }
    match args.format {
        CheckFormat::Text => {}
        CheckFormat::Json => console.data(&serde_json::to_string_pretty(&json(&all))?),
        CheckFormat::Sarif => console.data(&serde_json::to_string_pretty(&scanned(&all))?),
        CheckFormat::Github => {
            let told = all
                .iter()
                .map(|(_, read)| github::annotations(&read.diagnostics, &read.sources));
            console.data(&told.collect::<String>());
        }
    }
    Ok(exit)
}

/// The file under each of its profiles, unless one was asked for; each with what is wrong only there. A selection of cells is one
/// of the file as it stands: a profile may have others.
fn profiles(
    path: &Path,
    options: &FileOptions,
    plain: &file::Read,
) -> anyhow::Result<Vec<(String, file::Read)>> {
    let Some(composition) = &plain.composition else {
        return Ok(Vec::new());
    };
    if options.inputs.profile.is_some() {
        return Ok(Vec::new());
    }
    let told: HashSet<String> = plain
        .diagnostics
        .iter()
        .map(|it| known_by(it, plain))
        .collect();
    let names = composition.profiles().map(|(name, _)| name.to_owned());
    names
        .map(|name| {
            let mut options = FileOptions {
                only: Vec::new(),
                ..options.clone()
            };
            options.inputs.profile = Some(name.clone());
            let mut read = file::read(path, &options, file::Aim::Look)?;
            let found = std::mem::take(&mut read.diagnostics);
            let own = found
                .into_iter()
                .filter(|it| !told.contains(&known_by(it, &read)));
            let own = own.map(|it| it.help(format!("so it is with `--profile {name}`")));
            read.diagnostics = own.collect();
            Ok((name, read))
        })
        .collect()
}

/// What a diagnostic is known by, whatever else was read.
fn known_by(diagnostic: &Diagnostic, read: &file::Read) -> String {
    let place = diagnostic.primary.as_ref().map(|label| {
        let at = read.sources.locate(label.span);
        format!("{}:{}:{}", at.path.display(), at.line, at.column)
    });
    format!("{place:?} {} {}", diagnostic.code, diagnostic.message)
}

/// For people: what is wrong, or that nothing is; and what it would have run on this machine.
fn tell(path: &Path, read: &file::Read, profiles: &[(String, file::Read)], console: &Console) {
    for read in [read]
        .into_iter()
        .chain(profiles.iter().map(|(_, read)| read))
    {
        if !read.diagnostics.is_empty() {
            console.talk(&diagnostic::render(
                &read.diagnostics,
                &read.sources,
                console.color_errors,
            ));
        }
    }
    let size = |plan: &Plan| {
        let (cells, slos) = (plan.cells.len(), plan.slos.len());
        format!(
            "{cells} {}, {slos} {}",
            many(cells, "cell"),
            many(slos, "SLO")
        )
    };
    // What is wrong under a profile is wrong with the file.
    let profiles = profiles
        .iter()
        .map(|(name, read)| Some((name, read.plan.as_ref()?)));
    let (Some(plan), Some(profiles)) = (&read.plan, profiles.collect::<Option<Vec<_>>>()) else {
        return;
    };
    console.data(&format!("{}: ok: {}", path.display(), size(plan)));
    for (name, plan) in &profiles {
        console.data(&format!("  with --profile {name}: {}", size(plan)));
    }
    let run = commands(plan);
    for (key, command) in &run {
        console.data(&format!("  runs {key}: {command}"));
    }
    for (name, plan) in &profiles {
        for (key, command) in commands(plan).iter().filter(|own| !run.contains(own)) {
            console.data(&format!("  with --profile {name} runs {key}: {command}"));
        }
    }
}

/// Every command that a plan would run, with the key that says so.
fn commands(plan: &Plan) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |key: String, words: &[String]| {
        let command = CommandLine {
            words: words.to_vec(),
            ..CommandLine::default()
        };
        let found = (key, command.text());
        if !words.is_empty() && !all.contains(&found) {
            all.push(found);
        }
    };
    for backend in plan.cells.iter().map(|cell| &cell.backend) {
        let key = |name: &str| format!("backends.{}.{name}", backend.id);
        add(key("up"), &backend.up);
        if let Some(launch) = &backend.launch {
            add(key("launch"), &launch.words);
            add(key("launch"), &launch.after);
        }
        if let Some(bench) = &backend.external_bench {
            add(key("external_bench"), &bench.words);
        }
        add(key("down"), &backend.down);
    }
    for words in &plan.between {
        add("run.between".to_owned(), words);
    }
    all
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
