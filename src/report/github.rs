//! Annotations of GitHub Actions: each line of the scenario with an SLO that did not pass, shown where it was written.

use super::model::{Report, Verdict, VerdictStatus};
use super::wording;
use crate::diagnostic::github::{property, text};

/// Verdicts that one line is annotated with; the summary has all of them.
const TOLD: usize = 5;

/// Workflow commands, one a line: an error on each line whose SLO failed, a warning where it is inconclusive or only warns.
pub fn annotations(report: &Report) -> String {
    let mut lines: Vec<(&str, u32, Vec<&Verdict>)> = Vec::new();
    for verdict in &report.verdicts {
        let shown = matches!(
            verdict.status,
            VerdictStatus::Fail | VerdictStatus::Inconclusive
        );
        let Some(at) = verdict.at.as_ref().filter(|_| shown) else {
            continue;
        };
        match lines
            .iter_mut()
            .find(|(file, line, _)| (*file, *line) == (&at.file, at.line))
        {
            Some((_, _, verdicts)) => verdicts.push(verdict),
            None => lines.push((&at.file, at.line, vec![verdict])),
        }
    }
    let told = lines
        .iter()
        .map(|(file, line, verdicts)| annotation(report, file, *line, verdicts));
    told.collect()
}

fn annotation(report: &Report, file: &str, line: u32, verdicts: &[&Verdict]) -> String {
    let fails =
        |verdict: &&&Verdict| verdict.status == VerdictStatus::Fail && verdict.level == "fail";
    let command = if verdicts.iter().any(|verdict| fails(&verdict)) {
        "error"
    } else {
        "warning"
    };
    let mut said: Vec<String> = verdicts
        .iter()
        .take(TOLD)
        .map(|verdict| {
            format!(
                "{} {} {}: {}",
                wording::mark(verdict.status),
                wording::short_cells(report, verdict),
                verdict.stage.as_deref().unwrap_or_default(),
                verdict.message
            )
        })
        .collect();
    if verdicts.len() > TOLD {
        said.push(format!("and {} more", verdicts.len() - TOLD));
    }
    let labels = wording::labels(report);
    let title = match labels.as_str() {
        "" => verdicts[0].id.clone(),
        labels => format!("{} ({labels})", verdicts[0].id),
    };
    format!(
        "::{command} file={},line={line},title={}::{}\n",
        property(file),
        property(&title),
        text(&said.join("\n"))
    )
}
