//! `scenario fmt`: files in the canonical layout.

use std::io::Read;
use std::path::Path;

use anyhow::Context;

use super::args::FmtArgs;
use super::console::Console;
use super::exit::Exit;
use crate::language;

pub(super) fn fmt(args: &FmtArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut exit = Exit::Passed;
    for path in &args.files {
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

fn laid_out(path: &Path, text: &str) -> anyhow::Result<String> {
    language::layout(text).map_err(|error| {
        anyhow::anyhow!(
            "`{0}` cannot be laid out: {error}\n`scenario check {0}` tells what is wrong with it",
            path.display()
        )
    })
}
