//! A saved run as it lies on disk: `report.json`, and beside it what its charts are drawn from.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::report::Report;
use crate::report::charts::{self, Charts};
use crate::report::{model, ranking};

/// A run that was saved.
pub(super) struct Saved {
    /// The folder of its files.
    pub(super) folder: PathBuf,
    /// Its report.
    pub(super) report: Report,
    /// What its charts are drawn from; empty when it was saved without.
    pub(super) charts: Charts,
}

/// Reads the results in a folder, or those of which this is the report.json.
///
/// # Errors
/// There is no report, or it is none of ours, or of a version that this tool does not know.
pub(super) fn read(path: &Path) -> anyhow::Result<Saved> {
    let file = if path.is_dir() {
        path.join("report.json")
    } else {
        path.to_owned()
    };
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Saved {
        report: report(&file)?,
        charts: drawn(&folder.join("charts.json"))?,
        folder,
    })
}

/// Reads a report alone.
///
/// # Errors
/// As [`read`].
pub(super) fn report(file: &Path) -> anyhow::Result<Report> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| {
        format!("cannot read `{name}`; results are a folder with a report.json, or that file")
    })?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("`{name}` is not JSON"))?;
    match value.get("schema").and_then(|schema| schema.as_str()) {
        Some(model::SCHEMA) => {}
        Some(other) => bail!(
            "`{name}` has the format `{other}`, and this is a reader of `{}`; use the version of scenario that wrote it, or a newer one",
            model::SCHEMA
        ),
        None => bail!("`{name}` is no report of scenario: it has no `schema`"),
    }
    let mut report: Report =
        serde_json::from_value(value).with_context(|| format!("`{name}` is damaged"))?;
    // Saved by a version that did not rank.
    if report.ranking.is_none() {
        report.ranking = ranking::rank(&report, &ranking::default_weights());
    }
    Ok(report)
}

/// What charts are drawn from; a run of an earlier version has nothing.
fn drawn(file: &Path) -> anyhow::Result<Charts> {
    let none = Charts::none();
    if !file.exists() {
        return Ok(none);
    }
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{name}`"))?;
    let charts: Charts =
        serde_json::from_str(&text).with_context(|| format!("`{name}` is damaged"))?;
    if charts.schema != charts::SCHEMA {
        bail!(
            "`{name}` has the format `{}`, and this is a reader of `{}`",
            charts.schema,
            charts::SCHEMA
        );
    }
    Ok(charts)
}
