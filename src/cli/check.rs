//! `scenario check`: every mistake at once; nothing is sent.

use super::args::{CheckArgs, CheckFormat};
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::diagnostic;

pub(super) fn check(args: &CheckArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut exit = Exit::Passed;
    let mut listed = Vec::new();
    for path in &args.files {
        let read = file::read(path, &args.options, file::Aim::Look)?;
        if args.format == CheckFormat::Json {
            if let serde_json::Value::Array(list) =
                diagnostic::to_json(&read.diagnostics, &read.sources)
            {
                listed.extend(list);
            }
        } else if !read.diagnostics.is_empty() {
            console.talk(&diagnostic::render(
                &read.diagnostics,
                &read.sources,
                console.color_errors,
            ));
        }
        match &read.plan {
            Some(plan) if args.format == CheckFormat::Text => {
                let (cells, slos) = (plan.cells.len(), plan.slos.len());
                console.data(&format!(
                    "{}: ok: {cells} {}, {slos} {}",
                    path.display(),
                    many(cells, "cell"),
                    many(slos, "SLO")
                ));
            }
            Some(_) => {}
            None => exit = Exit::Usage,
        }
    }
    if args.format == CheckFormat::Json {
        console.data(&serde_json::to_string_pretty(&listed)?);
    }
    Ok(exit)
}

fn many(count: usize, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}
