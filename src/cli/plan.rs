//! `scenario plan`: what a scenario would do.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;

use super::args::PlanArgs;
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::plan::describe::{describe, write_arrivals};

pub(super) fn plan(args: &PlanArgs, console: &Console) -> anyhow::Result<Exit> {
    let Some((plan, _)) = file::read(&args.file, &args.options, file::Aim::Run)?.told(console)
    else {
        return Ok(Exit::Usage);
    };
    for warning in super::selftest::warnings(&plan) {
        console.talk(&warning);
    }
    match &args.arrivals {
        None => console.data(&describe(&plan)),
        Some(path) if path == Path::new("-") => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            // A reader that has seen enough, like `head`, is no error.
            let _ = write_arrivals(&plan, &mut out).and_then(|()| out.flush());
        }
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
            let mut out = BufWriter::new(file);
            write_arrivals(&plan, &mut out)
                .and_then(|()| out.flush())
                .with_context(|| format!("cannot write `{}`", path.display()))?;
            console.data(&describe(&plan));
        }
    }
    Ok(Exit::Passed)
}
