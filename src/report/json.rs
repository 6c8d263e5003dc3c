//! `report.json` and its schema.

use serde::Serialize;

use super::{Report, View};

/// `report.json`: the whole report, indented, with a line end at its end.
pub fn render(report: &Report, _view: &View) -> String {
    pretty(report)
}

/// Indented, with a line end at its end.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a report has only text keys");
    text.push('\n');
    text
}

/// The JSON Schema of `report.json`.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Report).to_value();
    schema["$id"] = "schemas/report.v1.json".into();
    schema["properties"]["schema"]["const"] = super::model::SCHEMA.into();
    schema
}
