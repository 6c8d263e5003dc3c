//! `scenario fmt`: files in the canonical layout.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::FmtArgs;
use super::console::Console;
use super::exit::Exit;
use crate::language;

pub(super) fn fmt(args: &FmtArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut exit = Exit::Passed;
    for path in &all(&args.files)? {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            console.data(&laid_out(path, &text)?);
            continue;
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let laid_out = laid_out(path, &text)?;
        if laid_out == text {
            continue;
        }
        if args.check {
            exit = Exit::Failed;
            console.data(&format!("{}: not in the canonical layout", path.display()));
        } else {
            std::fs::write(path, laid_out)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
            console.data(&format!("{}: laid out", path.display()));
        }
    }
    Ok(exit)
}

/// The files that are meant: for a folder, every YAML file below it.
fn all(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut inside: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        inside.retain(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            path.is_dir() || matches!(ending, Some("yaml" | "yml"))
        });
        inside.sort();
        files.extend(all(&inside)?);
    }
    Ok(files)
}

fn laid_out(path: &Path, text: &str) -> anyhow::Result<String> {
    language::layout(text).map_err(|error| {
        anyhow::anyhow!(
            "`{0}` cannot be laid out: {error}\n`scenario check {0}` tells what is wrong with it",
            path.display()
        )
    })
}
