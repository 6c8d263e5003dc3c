//! `scenario show`: a scenario as one file.

use super::args::ShowArgs;
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::diagnostic::{self, Severity, Sources};
use crate::spec::View;

/// What the tool adds by itself, as a base.
const DEFAULTS: &str = include_str!("defaults.yaml");

pub(super) fn show(args: &ShowArgs, console: &Console) -> anyhow::Result<Exit> {
    let Some(path) = &args.file else {
        console.data(DEFAULTS);
        return Ok(Exit::Passed);
    };
    let mut sources = Sources::default();
    let reading = file::compose(&mut sources, path, &args.inputs)?;
    if let Some(composition) = &reading.composition {
        console.hide(&composition.secret_variables());
    }
    if !reading.diagnostics.is_empty() {
        let color = console.color_errors;
        console.talk(&diagnostic::render(&reading.diagnostics, &sources, color));
    }
    let view = View {
        origin: args.origin.then_some((&sources, &reading.provenance)),
    };
    if let Some(composition) = &reading.composition {
        console.data(&if args.resolved {
            composition.resolved_yaml(&sources, view)
        } else {
            composition.yaml(view)
        });
    }
    let wrong = |found: &diagnostic::Diagnostic| found.severity == Severity::Error;
    Ok(if reading.diagnostics.iter().any(wrong) {
        Exit::Usage
    } else {
        Exit::Passed
    })
}
