//! `summary.md`, for the summary page of a CI job.

use super::model::{Verdict, VerdictStatus};
use super::terminal::{RESULTS, Row, result_rows};
use super::{Report, View, wording};

/// The summary as GitHub-flavoured Markdown.
pub fn render(report: &Report, _view: &View) -> String {
    let mut parts = vec![
        heading(report),
        results(report),
        ranking(report),
        failures(report),
        unfair(report),
    ];
    parts.extend(searches(report));
    parts.extend(verdicts(report));
    parts.push(external(report));
    parts.push(footer(report));
    parts.retain(|part| !part.is_empty());
    let mut text = parts.join("\n\n");
    text.push('\n');
    text
}

fn heading(report: &Report) -> String {
    let tally = wording::tally(report);
    let said = if tally.is_empty() {
        "no SLOs: nothing was gated".to_owned()
    } else {
        tally
    };
    let labels = wording::labels(report);
    let labels = if labels.is_empty() {
        labels
    } else {
        format!(" ({labels})")
    };
    format!(
        "## {}: {}{labels}\n\n{said}",
        cell(&report.scenario.name),
        report.status.name()
    )
}

fn results(report: &Report) -> String {
    let rows = result_rows(report, true);
    if rows.is_empty() {
        return String::new();
    }
    let seen: Vec<usize> = (0..RESULTS.len())
        .filter(|&column| rows.iter().any(|row| row.values[column].is_some()))
        .collect();
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut head = vec!["cell".to_owned(), "stage".to_owned()];
    head.extend(seen.iter().map(|&column| RESULTS[column].title.to_owned()));
    let rule = format!("|---|---|{}", "---:|".repeat(seen.len()));
    let mut lines = vec![line(head), rule];
    lines.extend(rows.iter().map(|row| {
        let Row {
            cell: id,
            stage,
            values,
        } = row;
        let mut cells = vec![cell(id), cell(stage)];
        cells.extend(
            seen.iter()
                .map(|&column| values[column].clone().unwrap_or_else(|| "–".to_owned())),
        );
        line(cells)
    }));
    if let Some(note) = wording::planned_instants(report) {
        lines.push(format!("\n{note}"));
    }
    lines.join("\n")
}

/// Who is best overall, where backends could be ranked.
fn ranking(report: &Report) -> String {
    let ranked = report.ranking.as_ref();
    let ranked = ranked.filter(|ranking| !ranking.overall.standings.is_empty());
    ranked.map_or(String::new(), |ranking| cell(&ranking.overall.sentence))
}

fn failures(report: &Report) -> String {
    let cells = report.cells.iter().zip(wording::short_ids(report));
    let lines: Vec<String> = cells
        .flat_map(|(one, short)| wording::failures(one, &short))
        .map(|line| format!("- {}", cell(&line)))
        .collect();
    lines.join("\n")
}

/// The engines' own benchmarks, apart from what was measured here.
fn external(report: &Report) -> String {
    let series = wording::external(report);
    if series.is_empty() {
        return String::new();
    }
    let lines = series.iter().map(|line| format!("- {}", cell(line)));
    let lines: Vec<String> = lines.collect();
    format!("{}\n\n{}", wording::EXTERNAL, lines.join("\n"))
}

/// What searches have tried.
fn searches(report: &Report) -> Vec<String> {
    let of = |search: wording::Searched| {
        let tried = search.tries.iter();
        let lines: Vec<String> = tried
            .map(|tried| {
                let (level, why) = (cell(tried.level.trim()), cell(&tried.why));
                format!("| {} | {level} | {why} |", tried.mark)
            })
            .collect();
        let head = "| | level | what broke |\n|---|---:|---|";
        format!(
            "**{}**\n\n{head}\n{}",
            cell(&search.heading),
            lines.join("\n")
        )
    };
    wording::searches(report).into_iter().map(of).collect()
}

/// What was not alike between backends that stand side by side.
fn unfair(report: &Report) -> String {
    let lines: Vec<String> = wording::unfair(report)
        .iter()
        .map(|line| format!("- not alike: {}", cell(line)))
        .collect();
    lines.join("\n")
}

fn verdicts(report: &Report) -> Option<String> {
    let told: Vec<&Verdict> = report
        .verdicts
        .iter()
        .filter(|verdict| !verdict.guard || verdict.status != VerdictStatus::Pass)
        .filter(|verdict| verdict.status != VerdictStatus::Skipped || !verdict.guard)
        .collect();
    if told.is_empty() {
        return None;
    }
    let mut lines = vec![
        "| | SLO | cell | what was seen | where |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(told.iter().map(|verdict| {
        let place = verdict
            .at
            .as_ref()
            .map(|at| {
                let file = wording::in_repository(report, &at.file).unwrap_or(&at.file);
                format!("`{file}:{}`", at.line)
            })
            .unwrap_or_default();
        format!(
            "| {} {}{} | {} | {} | {} | {} |",
            wording::mark(verdict.status),
            verdict.status.name(),
            if verdict.level == "warn" {
                " (warn)"
            } else {
                ""
            },
            cell(&verdict.name),
            cell(&wording::marked_ids(report, verdict, ", ")),
            cell(&verdict.message),
            cell(&place)
        )
    }));
    Some(lines.join("\n"))
}

fn footer(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(wording::guards(report).map(|line| format!("guards: {line}")));
    lines.extend(wording::client(report).map(|line| format!("client: {line}")));
    lines.push(format!(
        "seed {} · plan `{}` · scenario {}",
        report.seed, report.plan_digest, report.tool
    ));
    lines.join("<br>\n")
}

/// A text inside a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('\n', " ")
}
