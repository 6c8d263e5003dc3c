//! `scenario report`: the files of a saved run, written again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};

use super::args::{ReportArgs, SummaryMode};
use super::console::Console;
use super::exit::Exit;
use super::results::Results;
use super::saved;
use crate::programs;
use crate::report::{View, ranking, tap, terminal};

pub(super) fn report(args: &ReportArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut saved = saved::read(&args.results)?;
    if !args.weights.is_empty() {
        saved.report.ranking = ranking::rank(&saved.report, &weights(&args.weights)?);
    }
    let view = View {
        width: console.width(),
        colour: console.color,
        verbose: args.verbose,
        summary: args.summary.summary(),
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
    let drawn = (&saved.report, &saved.charts);
    results.write_compat(&args.compat, drawn, &saved.folder)?;
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

/// `throughput=2`, `ttft_p95=1`: what counts, and how much.
fn weights(words: &[String]) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut weights = BTreeMap::new();
    for word in words {
        let Some((name, share)) = word.split_once('=') else {
            bail!("`{word}` has no weight; write it as `{word}=0.5`");
        };
        let known: Vec<&str> = ranking::names().collect();
        if !known.contains(&name) {
            bail!(
                "`{name}` is nothing to rank by; there are {}",
                known.join(", ")
            );
        }
        let share: f64 = share
            .parse::<f64>()
            .ok()
            .filter(|share| *share >= 0.0 && f64::is_finite(*share))
            .with_context(|| format!("`{share}` is no weight; it is a number of 0 or more"))?;
        weights.insert(name.to_owned(), share);
    }
    if weights.values().all(|share| *share == 0.0) {
        bail!("at least one weight has to be above 0");
    }
    Ok(weights)
}

/// Shows a file in the browser of the desktop. Where there is none, that is told and nothing is lost.
pub(super) fn open(page: &Path, console: &Console) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = programs::asked(program)
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
