//! `scenario dataset`: what a prompt set holds, and how one is made.

mod args;
mod set;
mod inspect;
mod prepare;
mod sample;
mod generate;

use args::DatasetAction;
pub use args::DatasetArgs;

use super::console::Console;
use super::exit::Exit;

pub(super) fn dataset(args: &DatasetArgs, console: &Console) -> anyhow::Result<Exit> {
    match &args.action {
        DatasetAction::Inspect(args) => inspect::inspect(args, console),
        DatasetAction::Prepare(args) => prepare::prepare(args, console),
        DatasetAction::Sample(args) => sample::sample(args, console),
        DatasetAction::Generate(args) => generate::generate(args, console),
    }
}
