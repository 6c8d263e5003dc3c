//! `scenario schema`.

use super::console::Console;
use super::exit::Exit;
use crate::{report, spec};

pub(super) fn schema(of_reports: bool, console: &Console) -> anyhow::Result<Exit> {
    let schema = if of_reports {
        report::schema()
    } else {
        spec::schema()
    };
    console.data(&serde_json::to_string_pretty(&schema)?);
    Ok(Exit::Passed)
}
