//! `scenario man`: a manual page for the tool and for each command, from the command line's own description.

use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::args::{Cli, ManArgs};
use super::console::Console;
use super::exit::{EXIT_CODES, Exit};
use crate::diagnostic::did_you_mean;

pub(super) fn man(args: &ManArgs, console: &Console) -> anyhow::Result<Exit> {
    let tool = whole();
    match &args.dir {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
            write(&tool, folder)?;
        }
        None => console.data(&page(named(&tool, &args.command)?)?),
    }
    Ok(Exit::Passed)
}

/// The tool with all its commands, each under its whole name: `scenario-baseline-save`.
fn whole() -> Command {
    let mut tool = Cli::command().disable_help_subcommand(true);
    tool.build();
    tool
}

/// The command with these words.
fn named<'a>(tool: &'a Command, words: &[String]) -> anyhow::Result<&'a Command> {
    let mut found = tool;
    for word in words {
        let below = found.find_subcommand(word);
        found = below.with_context(|| {
            let names = found.get_subcommands().map(Command::get_name);
            let hint = did_you_mean(word, names)
                .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            format!("no command `{}`{hint}", words.join(" "))
        })?;
    }
    Ok(found)
}

/// The pages of a command and of those below it.
fn write(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.1", title(command)));
    std::fs::write(&path, page(command)?)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write(below, folder))
}

/// `scenario-run` for `scenario run`.
fn title(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    name.replace(' ', "-")
}

/// A page: what it does, its options, its commands, its examples, and what its exit code means.
fn page(command: &Command) -> anyhow::Result<String> {
    let name = title(command);
    // What follows the help is told under a heading of its own.
    let bare = command.clone().after_help("").after_long_help("");
    let man = Man::new(bare);
    // Its date is left empty: a page is of a version, not of a day.
    let mut text = format!(
        ".TH {} 1 \"\" \"scenario {}\" \"Scenario Manual\"\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(after) = command.get_after_help() {
        section("EXAMPLES", &after.to_string()).to_writer(&mut text)?;
    }
    if ["scenario", "scenario-run", "scenario-quick"].contains(&name.as_str()) {
        section("EXIT STATUS", EXIT_CODES).to_writer(&mut text)?;
    }
    Ok(String::from_utf8(text)?)
}

/// A section whose lines stay as they are.
fn section(heading: &str, text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in text.trim_end().lines().filter(|line| *line != "Examples:") {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}
