//! `scenario plot`: the plots of a saved run as files.

use anyhow::{anyhow, bail};

use super::args::{PlotArgs, PlotFormat};
use super::console::Console;
use super::exit::Exit;
use super::results::Results;
use super::saved;
use crate::report::plots::plots;

pub(super) fn plot(args: &PlotArgs, console: &Console) -> anyhow::Result<Exit> {
    let saved = saved::read(&args.results)?;
    let mut drawn = plots(&saved.report, &saved.charts);
    let names: Vec<String> = drawn.iter().map(|plot| plot.name.clone()).collect();
    if drawn.is_empty() {
        bail!(
            "there is nothing to draw: no measured stage of `{}` has a number of users or a rate",
            args.results.display()
        );
    }
    for wanted in &args.only {
        if !names.iter().any(|name| name.starts_with(wanted.as_str())) {
            bail!(
                "no plot is named `{wanted}`; there are {}",
                names.join(", ")
            );
        }
    }
    let is_wanted = |name: &str| {
        args.only.is_empty()
            || args
                .only
                .iter()
                .any(|wanted| name.starts_with(wanted.as_str()))
    };
    drawn.retain(|plot| is_wanted(&plot.name));
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| saved.folder.join("plots"));
    let results = Results::at(&folder)?;
    for plot in &drawn {
        let (name, bytes) = match args.format {
            PlotFormat::Png => {
                let png = plot
                    .png()
                    .map_err(|error| anyhow!("{}: {error}", plot.name))?;
                (format!("{}.png", plot.name), png)
            }
            PlotFormat::Svg => (format!("{}.svg", plot.name), plot.svg().into_bytes()),
        };
        results.replace(&name, |file| file.write_all(&bytes))?;
        console.data(&folder.join(&name).display().to_string());
    }
    Ok(Exit::Passed)
}
