//! Annotations of GitHub Actions: each line of the scenario with an SLO that did not pass, shown where it was written, and
//! whatever else makes the job fail.

use super::model::{Cell, CellStatus, Report, Verdict, VerdictStatus};
use super::wording;
use crate::diagnostic::github::{property, text};

/// Verdicts that one line is annotated with; the summary has all of them.
const TOLD: usize = 5;

/// What one annotation is about.
struct Told<'a> {
    /// The line of a file; of a guard, which nobody has written, the scenario.
    file: Option<&'a str>,
    line: Option<u32>,
    verdicts: Vec<&'a Verdict>,
}

/// Workflow commands, one a line: an error on each line whose SLO makes the exit code what it is, a warning on those that do not
/// hold and change nothing. A guard that changes it, and a cell of which nothing is said, are told of the whole file.
pub fn annotations(report: &Report) -> String {
    let scenario = report.sources.first();
    let scenario = scenario.map_or(report.scenario.path.as_str(), |main| main.path.as_str());
    let mut all: Vec<Told> = Vec::new();
    for verdict in report.verdicts.iter().filter(|one| is_told(report, one)) {
        let (file, line) = match &verdict.at {
            Some(at) => (at.file.as_str(), Some(at.line)),
            None => (scenario, None),
        };
        let file = wording::in_repository(report, file);
        let line = line.filter(|_| file.is_some());
        let same = |told: &&mut Told| {
            let by_place = line.is_some() && (told.file, told.line) == (file, line);
            by_place || told.verdicts[0].id == verdict.id && (told.file, told.line) == (file, line)
        };
        match all.iter_mut().find(same) {
            Some(told) => told.verdicts.push(verdict),
            None => all.push(Told {
                file,
                line,
                verdicts: vec![verdict],
            }),
        }
    }
    let mut lines: String = all.iter().map(|told| annotation(report, told)).collect();
    let is_silent = |cell: &&Cell| {
        let mut verdicts = report.verdicts.iter();
        !verdicts.any(|one| is_told(report, one) && one.cells.contains(&cell.id))
    };
    for cell in report.cells.iter().filter(is_silent) {
        let mut runs = cell.runs.iter();
        let Some(run) = runs.find(|run| run.status == CellStatus::NotReady) else {
            continue;
        };
        lines.push_str(&command(
            severity(report.exit_code != 0),
            (wording::in_repository(report, scenario), None),
            &cell.id,
            &format!("not run: {}", run.reason.as_deref().unwrap_or_default()),
        ));
    }
    lines
}

/// Whether a verdict does not hold; a guard's is told where it changes the exit code.
fn is_told(report: &Report, verdict: &Verdict) -> bool {
    let is_broken = matches!(
        verdict.status,
        VerdictStatus::Fail | VerdictStatus::Inconclusive
    );
    is_broken && (verdict.at.is_some() || decides(report, verdict))
}

/// Whether a verdict makes the exit code what it is. `--inconclusive warn` makes a warning of what could not be told.
fn decides(report: &Report, verdict: &Verdict) -> bool {
    verdict.level == "fail"
        && match verdict.status {
            VerdictStatus::Fail => true,
            VerdictStatus::Inconclusive => report.exit_code != 0,
            VerdictStatus::Pass | VerdictStatus::Skipped => false,
        }
}

fn severity(decides: bool) -> &'static str {
    if decides { "error" } else { "warning" }
}

fn annotation(report: &Report, told: &Told) -> String {
    let verdicts = &told.verdicts;
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
    command(
        severity(verdicts.iter().any(|verdict| decides(report, verdict))),
        (told.file, told.line),
        &title,
        &said.join("\n"),
    )
}

/// `::error file=…,line=…,title=…::…`; what stands in no file has neither of them.
fn command(
    severity: &str,
    (file, line): (Option<&str>, Option<u32>),
    title: &str,
    said: &str,
) -> String {
    let file = file.map(|file| format!("file={},", property(file)));
    let line = line.map(|line| format!("line={line},"));
    format!(
        "::{severity} {}{}title={}::{}\n",
        file.unwrap_or_default(),
        line.unwrap_or_default(),
        property(title),
        text(said)
    )
}
