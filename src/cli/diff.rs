//! `scenario diff`: what changes from one scenario to another, in the words of `scenario plan`.

use super::args::{DiffArgs, FileOptions};
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::plan::difference::{differences, render};

pub(super) fn diff(args: &DiffArgs, console: &Console) -> anyhow::Result<Exit> {
    let options = FileOptions {
        inputs: args.inputs.clone(),
        ..FileOptions::default()
    };
    let before = file::read(&args.before, &options, file::Aim::Look)?.told(console);
    let after = file::read(&args.after, &options, file::Aim::Look)?.told(console);
    let (Some((before, _)), Some((after, _))) = (before, after) else {
        return Ok(Exit::Usage);
    };
    let found = differences(&before, &after);
    let (from, to) = (args.before.display(), args.after.display());
    console.data(&if found.is_empty() {
        format!("{from} and {to} plan the same")
    } else {
        format!("{from} → {to}\n{}", render(&found))
    });
    Ok(Exit::Passed)
}
