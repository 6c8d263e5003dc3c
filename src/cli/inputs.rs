//! `scenario inputs`: what a scenario takes from outside.

use super::args::InputsArgs;
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::diagnostic::{self, Sources};
use crate::spec::{InputKind, VarOrigin};

pub(super) fn inputs(args: &InputsArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut sources = Sources::default();
    let reading = file::compose(&mut sources, &args.file, &args.inputs)?;
    if let Some(composition) = &reading.composition {
        console.hide(&composition.secret_variables());
    }
    let Some(composition) = &reading.composition else {
        let color = console.color_errors;
        console.talk(&diagnostic::render(&reading.diagnostics, &sources, color));
        return Ok(Exit::Usage);
    };
    let mut table = comfy_table::Table::new();
    table.set_header([
        "INPUT",
        "TYPE",
        "VALUE",
        "FROM",
        "ENVIRONMENT",
        "DESCRIPTION",
    ]);
    let mut listed = 0;
    for input in composition.inputs() {
        let (name, kind, value, from) = match &input.kind {
            InputKind::Variable {
                kind,
                value,
                origin,
            } => (
                format!("vars.{}", input.name),
                kind.name().to_owned(),
                value
                    .clone()
                    .unwrap_or_else(|| "(must be given)".to_owned()),
                from(origin),
            ),
            InputKind::Secret => {
                let set = input
                    .env
                    .iter()
                    .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
                (
                    format!("secrets.{}", input.name),
                    "secret".to_owned(),
                    if set { "(set)" } else { "(not set)" }.to_owned(),
                    "the environment".to_owned(),
                )
            }
        };
        let description = input.description.unwrap_or_default();
        table.add_row([name, kind, value, from, input.env.join(", "), description]);
        listed += 1;
    }
    for (name, description) in composition.profiles() {
        let description = description.unwrap_or_default().to_owned();
        let name = format!("--profile {name}");
        table.add_row([
            name,
            "profile".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            description,
        ]);
        listed += 1;
    }
    if listed == 0 {
        console.data("no variables, secrets or profiles");
    } else {
        console.data(&table.trim_fmt());
    }
    Ok(Exit::Passed)
}

fn from(origin: &VarOrigin) -> String {
    match origin {
        VarOrigin::Nowhere => String::new(),
        VarOrigin::Default => "its default".to_owned(),
        VarOrigin::Environment(name) => name.clone(),
        VarOrigin::CommandLine => "--var".to_owned(),
    }
}
