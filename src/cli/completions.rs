//! `scenario completions`: what a shell must know to complete the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::console::Console;
use super::exit::Exit;

pub(super) fn completions(shell: Shell, console: &Console) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "scenario", &mut script);
    console.data(&String::from_utf8(script)?);
    Ok(Exit::Passed)
}
