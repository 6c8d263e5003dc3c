//! The commands, from the command line's own description.

use clap::{Arg, Command, CommandFactory};
use scenario::cli::args::Cli;

/// A section for each command, and one for each command below it.
pub(super) fn commands() -> String {
    let mut cli = Cli::command();
    cli.build();
    let global: Vec<String> = cli
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .map(|argument| argument.get_id().to_string())
        .collect();
    let mut text = String::from("Everywhere:\n\n");
    for argument in cli
        .get_arguments()
        .filter(|argument| !argument.is_positional())
    {
        text.push_str(&item(argument));
    }
    for command in cli.get_subcommands() {
        section(command, &global, 2, &mut text);
    }
    text
}

fn section(command: &Command, global: &[String], depth: usize, text: &mut String) {
    if command.is_hide_set() || (depth > 2 && command.get_name() == "help") {
        return;
    }
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let id = name.replace(' ', "-");
    text.push_str(&format!("\n{} `{name}` {{#{id}}}\n\n", "#".repeat(depth)));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        text.push_str(&format!("{}.\n\n", about.to_string().trim_end_matches('.')));
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim_end();
    text.push_str(&format!("```text\n{usage}\n```\n\n"));
    let own = command.get_arguments().filter(|argument| {
        let id = argument.get_id().as_str();
        !global.iter().any(|one| one == id)
            && id != "help"
            && id != "version"
            && !argument.is_hide_set()
    });
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        own.partition(|argument| argument.is_positional());
    for argument in positional.into_iter().chain(options) {
        text.push_str(&item(argument));
    }
    if let Some(after) = command.get_after_help() {
        text.push_str(&format!(
            "\n```text\n{}\n```\n",
            after.to_string().trim_end()
        ));
    }
    for below in command.get_subcommands() {
        section(below, global, depth + 1, text);
    }
}

/// A line for an argument: how it is written, what it does, what it is without it.
fn item(argument: &Arg) -> String {
    let mut names = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let values = argument.get_value_names().unwrap_or_default();
    let takes = argument.get_action().takes_values();
    let value = values.first().map_or_else(
        || argument.get_id().as_str().to_uppercase(),
        |name| name.to_string(),
    );
    let written = match (names.is_empty(), takes) {
        (true, _) => value,
        (false, true) => format!("{} {value}", names.join(", ")),
        (false, false) => names.join(", "),
    };
    let about = argument.get_long_help().or(argument.get_help());
    let about = about.map_or(String::new(), |about| about.to_string());
    let mut text = format!(
        "- `{written}`: {}",
        about.trim_end_matches('.').replace('\n', " ")
    );
    let choices = argument.get_possible_values();
    let shown: Vec<String> = choices
        .iter()
        .filter(|choice| takes && !choice.is_hide_set())
        .map(|choice| match choice.get_help() {
            Some(help) => format!("`{}` ({})", choice.get_name(), lower(&help.to_string())),
            None => format!("`{}`", choice.get_name()),
        })
        .collect();
    if !shown.is_empty() {
        text.push_str(&format!(". One of {}", shown.join(", ")));
    }
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if takes && !defaults.is_empty() {
        text.push_str(&format!(". Default: {}", defaults.join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        text.push_str(&format!(". Environment: `{}`", variable.to_string_lossy()));
    }
    text.push_str(".\n");
    text
}

/// A sentence inside of another one.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str().trim_end_matches('.')
}
