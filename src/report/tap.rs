//! TAP, version 14: a test point for each verdict.
//!
//! What only warns is `# TODO`, which no harness counts as a failure, and what was not asked is `# SKIP`. What could not be told is
//! `not ok`, as no data is no pass.

use super::model::{Report, Verdict, VerdictStatus};
use super::{View, wording};

/// The verdicts as TAP; a run that judges nothing plans no tests and says so.
pub fn render(report: &Report, _view: &View) -> String {
    let mut text = "TAP version 14\n".to_owned();
    match report.verdicts.len() {
        0 => text.push_str("1..0 # SKIP no SLOs: nothing was gated\n"),
        all => text.push_str(&format!("1..{all}\n")),
    }
    let labels = wording::labels(report);
    if !labels.is_empty() {
        text.push_str(&format!("# {labels}\n"));
    }
    for (number, verdict) in (1..).zip(&report.verdicts) {
        text.push_str(&point(report, number, verdict));
    }
    if report.status == super::model::Status::Interrupted {
        text.push_str("Bail out! interrupted\n");
    }
    text
}

fn point(report: &Report, number: usize, verdict: &Verdict) -> String {
    let ok = matches!(verdict.status, VerdictStatus::Pass | VerdictStatus::Skipped);
    let directive = match verdict.status {
        VerdictStatus::Skipped => {
            let reason = verdict.reason.as_ref();
            format!(
                " # SKIP {}",
                reason.map_or("", |reason| &reason.text).replace('\n', " ")
            )
        }
        VerdictStatus::Fail | VerdictStatus::Inconclusive if verdict.level == "warn" => {
            " # TODO it only warns".to_owned()
        }
        _ => String::new(),
    };
    let cells = wording::marked_ids(report, verdict, ", ");
    let mut text = format!(
        "{} {number} - {}{directive}\n",
        if ok { "ok" } else { "not ok" },
        escaped(format!("{cells} {}", verdict.name).trim())
    );
    if !ok {
        text.push_str(&diagnosis(verdict));
    }
    text
}

/// A description ends where a directive begins: `#` and `\` are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('#', "\\#")
        .replace('\n', " ")
}

/// The block of YAML below a test point; its texts are quoted as JSON, which is YAML, too.
fn diagnosis(verdict: &Verdict) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut lines = vec![
        "---".to_owned(),
        format!("status: {}", verdict.status.name()),
        format!("message: {}", quoted(&verdict.message)),
    ];
    if let Some(at) = &verdict.at {
        lines.push(format!(
            "at: {}",
            quoted(&format!("{}:{}:{}", at.file, at.line, at.col))
        ));
    }
    if let Some(rerun) = &verdict.rerun {
        lines.push(format!("rerun: {}", quoted(rerun)));
    }
    lines.push("...".to_owned());
    lines.iter().map(|line| format!("  {line}\n")).collect()
}
