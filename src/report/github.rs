//! Annotations of GitHub Actions: each line of the scenario with an SLO that did not pass, shown where it was written.

use super::model::{Report, Verdict, VerdictStatus};
use super::wording;

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

/// What ends a message is written otherwise.
fn text(said: &str) -> String {
    said.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// In a property, its separators, too.
fn property(said: &str) -> String {
    text(said).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_ends_a_command() {
        assert_eq!(text("50% of\nit"), "50%25 of%0Ait");
        assert_eq!(property("a,b::c"), "a%2Cb%3A%3Ac");
    }
}
