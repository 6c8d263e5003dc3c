//! `scenario schema`.

use super::args::SchemaDraft;
use super::console::Console;
use super::exit::Exit;
use crate::{report, spec};

pub(super) fn schema(
    of_reports: bool,
    draft: SchemaDraft,
    console: &Console,
) -> anyhow::Result<Exit> {
    let schema = if of_reports {
        report::schema()
    } else {
        spec::published_schema(match draft {
            SchemaDraft::Seven => spec::SchemaDraft::Seven,
            SchemaDraft::Of2020 => spec::SchemaDraft::Of2020,
        })
    };
    console.data(&serde_json::to_string_pretty(&schema)?);
    Ok(Exit::Passed)
}
