//! `scenario report`: the files of a saved run, written again.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::args::{ReportArgs, SummaryMode};
use super::console::Console;
use super::exit::Exit;
use super::results::Results;
use super::saved;
use crate::report::{Summary, View, tap, terminal};

pub(super) fn report(args: &ReportArgs, console: &Console) -> anyhow::Result<Exit> {
    let saved = saved::read(&args.results)?;
    let view = View {
        width: console.width(),
        colour: console.color,
        verbose: args.verbose,
        summary: match args.summary {
            SummaryMode::Compact => Summary::Compact,
            SummaryMode::Full => Summary::Full,
            SummaryMode::None => Summary::None,
        },
        junit: args.junit.flavour(),
    };
    let folder = args.out.as_deref().unwrap_or(&saved.folder);
    let results = Results::at(folder)?;
    results.write(&saved.report, &view)?;
    results.write_page(&saved.report, &saved.charts)?;
    if let Some(path) = &args.tap {
        std::fs::write(path, tap::render(&saved.report, &view))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let page = results.folder().join("report.html");
    if args.summary != SummaryMode::None {
        console.data(&terminal::render(&saved.report, &view));
        console.data(&format!("report: {}", page.display()));
    }
    if args.open {
        open(&page, console);
    }
    Ok(Exit::Passed)
}

/// Shows a file in the browser of the desktop. Where there is none, that is told and nothing is lost.
pub(super) fn open(page: &Path, console: &Console) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = Command::new(program)
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        console.talk(&format!(
            "cannot open the page: `{program}`: {error}; it is {}",
            page.display()
        ));
    }
}
