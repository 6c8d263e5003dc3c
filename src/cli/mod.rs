//! The command line: one file per command. The composition root: it alone builds the [`World`](crate::run::World), writes files
//! and talks to the terminal. Data goes to standard output, talk to standard error.

pub mod args;
pub mod exit;
mod console;
mod crash;
mod file;
mod run;
mod watch;
mod results;
mod repository;
mod actions;
mod saved;
mod report;
mod compare;
mod import;
mod judge;
mod outputs;
mod upload;
mod plot;
mod baseline;
mod signals;
mod quick;
mod try_one;
mod check;
mod explain;
mod fmt;
mod lsp;
mod lsp_text;
mod plan;
mod show;
mod inputs;
mod diff;
mod bundle;
mod remote;
mod mock;
mod gpu;
mod live;
mod selftest;
mod schema;
mod init;
pub mod dataset;
mod list;
mod completions;
mod man;
mod help;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::server::guard;
use args::{Cli, Command};
use console::Console;
pub use exit::Exit;

/// Runs the command line and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let typed: Vec<OsString> = arguments.into_iter().collect();
    // An engine's guard is this program, too.
    if let Some(code) = guard::stand_in(&typed) {
        return ExitCode::from(code);
    }
    let cli = match Cli::try_parse_from(&typed) {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own texts: help and version go to standard output and are no mistake.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Passed.into()
            };
        }
    };
    let console = Console::new(cli.color);
    crash::hide_secrets(&console.masker);
    let command: Vec<String> = typed
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let done = match cli.command {
        Command::Run(args) => run::run(&args, &command, &console),
        Command::Quick(args) => quick::quick(&args, &command, &console),
        Command::Try(args) => try_one::try_one(&args, &console),
        Command::Report(args) => report::report(&args, &console),
        Command::Baseline(args) => baseline::baseline(&args, &console),
        Command::Plot(args) => plot::plot(&args, &console),
        Command::Judge(args) => judge::judge(&args, &command, &console),
        Command::Compare(args) => compare::compare_runs(&args, &console),
        Command::Import(args) => import::import(&args, &command, &console),
        Command::Check(args) => check::check(&args, &console),
        Command::Explain { code } => explain::explain(code.as_deref(), &console),
        Command::Fmt(args) => fmt::fmt(&args, &console),
        Command::Lsp => lsp::lsp(&console),
        Command::Plan(args) => plan::plan(&args, &console),
        Command::Show(args) => show::show(&args, &console),
        Command::Inputs(args) => inputs::inputs(&args, &console),
        Command::Lock(args) => remote::lock(&args, &console),
        Command::Diff(args) => diff::diff(&args, &console),
        Command::Bundle(args) => bundle::bundle(&args, &console),
        Command::Mock(args) => mock::mock(&args, &console),
        Command::Gpu(args) => gpu::gpu(&args, &console),
        Command::Selftest(args) => selftest::selftest(&args, &console),
        Command::Schema { report, draft } => schema::schema(report, draft, &console),
        Command::Init(args) => init::init(&args, &console),
        Command::Dataset(args) => dataset::dataset(&args, &console),
        Command::List { paths } => list::list(&paths, &console),
        Command::Completions { shell } => completions::completions(shell, &console),
        Command::Man(args) => man::man(&args, &console),
        Command::Help { topic } => help::help(topic.as_deref(), &console),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            console.talk(&format!("error: {error:#}"));
            Exit::Usage.into()
        }
    }
}
