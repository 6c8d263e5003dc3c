//! `scenario init`: a commented file to start from.

use anyhow::Context;
use minijinja::{Environment, context};

use super::args::InitArgs;
use super::console::Console;
use super::exit::Exit;

const TEMPLATE: &str = include_str!("init.yaml.j2");

pub(super) fn init(args: &InitArgs, console: &Console) -> anyhow::Result<Exit> {
    if args.file.exists() && !args.force {
        anyhow::bail!(
            "`{}` is there already; --force replaces it",
            args.file.display()
        );
    }
    let url = args
        .url
        .as_deref()
        .map(super::quick::with_scheme)
        .transpose()?;
    let text = starter(url.as_deref(), args.model.as_deref())?;
    std::fs::write(&args.file, text)
        .with_context(|| format!("cannot write `{}`", args.file.display()))?;
    console.data(&format!(
        "wrote {0}\nnext: scenario run {0}",
        args.file.display()
    ));
    Ok(Exit::Passed)
}

/// The text of a first file, for an engine at `url`, or for the simulator.
fn starter(url: Option<&str>, model: Option<&str>) -> anyhow::Result<String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let environment = Environment::new();
    let mut text = environment.render_str(
        TEMPLATE,
        context! { url => url.map(quoted), model => model.map(quoted) },
    )?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_checks_with_and_without_an_engine() {
        for (url, model) in [
            (None, None),
            (Some("http://127.0.0.1:8000"), Some("a/b")),
            (Some("http://127.0.0.1:8000"), None),
        ] {
            let text = starter(url, model).unwrap();
            let mut sources = crate::diagnostic::Sources::default();
            let (spec, problems) =
                crate::spec::parse(&mut sources, std::path::Path::new("first.yaml"), &text);
            assert!(
                spec.is_some(),
                "{}",
                crate::diagnostic::render(&problems, &sources, false)
            );
        }
    }
}
