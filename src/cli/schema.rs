//! `scenario schema`.

use super::args::Draft;
use super::console::Console;
use super::exit::Exit;
use crate::{report, spec};

pub(super) fn schema(of_reports: bool, draft: Draft, console: &Console) -> anyhow::Result<Exit> {
    let schema = match (of_reports, draft) {
        (true, _) => report::schema(),
        (false, Draft::Newest) => spec::schema(),
        (false, Draft::Seven) => spec::schema_for_draft_7(),
    };
    console.data(&serde_json::to_string_pretty(&schema)?);
    Ok(Exit::Passed)
}
