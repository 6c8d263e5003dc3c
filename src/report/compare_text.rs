//! A comparison on the terminal, as Markdown, as a page and as JSON.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;

use super::View;
use super::compare::{Comparison, Finding, Row};
use super::wording::{self, in_unit, percent};

/// Rows beyond which those without a finding are counted and not listed.
const LISTED: usize = 40;

const PAGE: &str = include_str!("../../web/compare.html.j2");
const STYLE: &str = include_str!("../../web/page.css");
/// Filters its rows.
const SCRIPT: &str = include_str!("../../web/compare.js");

/// The comparison for a terminal.
pub fn terminal(comparison: &Comparison, view: &View) -> String {
    let mut text = heading(comparison);
    let (shown, hidden) = listed(comparison, view.verbose);
    if !shown.is_empty() {
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(HEAD);
        for row in &shown {
            table.add_row(line(comparison, row));
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if (3..7).contains(&at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text.push_str(&table.trim_fmt());
        text.push('\n');
    }
    if hidden > 0 {
        text.push_str(&format!(
            "and {hidden} rows without a difference shown (all of them with -v)\n"
        ));
    }
    text.push('\n');
    text.push_str(&tally(comparison));
    text.push('\n');
    text
}

/// The comparison as GitHub-flavoured Markdown.
pub fn markdown(comparison: &Comparison, view: &View) -> String {
    let (shown, hidden) = listed(comparison, view.verbose);
    let mut text = format!("## {}\n\n{}\n", title(comparison), tally(comparison));
    if comparison.sides.iter().any(|side| side.simulated) {
        text.push_str("\n- simulated");
    }
    for note in &comparison.notes {
        text.push_str(&format!("\n- {note}"));
    }
    if !shown.is_empty() {
        text.push_str(&format!(
            "\n\n| {} |\n|---|---|---|---:|---:|---:|---:|---|\n",
            HEAD.join(" | ")
        ));
        for row in shown {
            let cells = line(comparison, row).map(|cell| cell.replace('|', "\\|"));
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
    }
    if hidden > 0 {
        text.push_str(&format!("\n{hidden} more rows show no difference.\n"));
    }
    text
}

/// The comparison as JSON.
pub fn json(comparison: &Comparison, _view: &View) -> String {
    let mut text =
        serde_json::to_string_pretty(comparison).expect("plain data has no reason to fail");
    text.push('\n');
    text
}

/// The comparison as one page.
pub fn html(comparison: &Comparison, _view: &View) -> String {
    #[derive(Serialize)]
    struct Line {
        class: &'static str,
        mark: &'static str,
        cells: [String; 8],
    }
    #[derive(Serialize)]
    struct Page<'a> {
        css: &'static str,
        script: &'static str,
        title: String,
        tally: String,
        status: &'static str,
        comparison: &'a Comparison,
        head: [&'static str; 8],
        rows: Vec<Line>,
    }
    let page = Page {
        css: STYLE,
        script: SCRIPT,
        title: title(comparison),
        tally: tally(comparison),
        status: if comparison.count(Finding::Worse) > 0 {
            "failed"
        } else if comparison.intervals == 0 || comparison.lost() > 0 {
            "inconclusive"
        } else {
            "measured"
        },
        comparison,
        head: HEAD,
        rows: comparison
            .rows
            .iter()
            .map(|row| Line {
                class: match row.finding {
                    Finding::Better => "pass",
                    Finding::Worse => "fail",
                    Finding::NoDifferenceShown => "skipped",
                    Finding::NotComparable => "inconclusive",
                },
                mark: mark(row.finding),
                cells: line(comparison, row),
            })
            .collect(),
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment
        .render_str(PAGE, Value::from(Serde(page)))
        .expect("the page's template is held by a test")
}

const HEAD: [&str; 8] = [
    "cell",
    "stage",
    "metric",
    "base",
    "other",
    "difference",
    "interval",
    "finding",
];

fn mark(finding: Finding) -> &'static str {
    match finding {
        Finding::Better => "✓",
        Finding::Worse => "✗",
        Finding::NoDifferenceShown => "–",
        Finding::NotComparable => "?",
    }
}

fn title(comparison: &Comparison) -> String {
    let labels: Vec<&str> = comparison
        .sides
        .iter()
        .map(|side| side.label.as_str())
        .collect();
    match labels.split_first() {
        Some((base, others)) => format!("{} against {base}", others.join(", ")),
        None => "nothing to compare".to_owned(),
    }
}

fn heading(comparison: &Comparison) -> String {
    let mut text = format!("{}\n", title(comparison));
    if comparison.sides.iter().any(|side| side.simulated) {
        text.push_str("simulated\n");
    }
    for note in &comparison.notes {
        text.push_str(&format!("! {note}\n"));
    }
    text.push('\n');
    text
}

/// The rows to list, and how many are left out: of many rows those that show nothing.
fn listed(comparison: &Comparison, verbose: bool) -> (Vec<&Row>, usize) {
    let all = verbose || comparison.rows.len() <= LISTED;
    let shown: Vec<&Row> = comparison
        .rows
        .iter()
        .filter(|row| all || row.finding != Finding::NoDifferenceShown)
        .collect();
    let hidden = comparison.rows.len() - shown.len();
    (shown, hidden)
}

fn line(comparison: &Comparison, row: &Row) -> [String; 8] {
    let value =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| in_unit(value, &row.unit));
    let points = |share: f64| format!("{}pp", signed(share * 100.0));
    let (difference, interval) = match (row.relative(), row.difference, row.interval) {
        // Shares differ by points.
        (_, Some(difference), Some([low, high])) if row.unit.is_empty() => (
            points(difference),
            format!("{} to {}", points(low), points(high)),
        ),
        (Some((relative, [low, high])), ..) => (
            signed_percent(relative),
            format!("{} to {}", signed_percent(low), signed_percent(high)),
        ),
        (None, Some(difference), _) => (in_unit(difference, &row.unit), "–".to_owned()),
        (None, None, _) => ("–".to_owned(), "–".to_owned()),
    };
    let mut cell = row.cell.clone();
    if row.interface == "offline" {
        cell.push_str(" (offline)");
    }
    if comparison.sides.len() > 2 {
        cell.push_str(&format!(" ({})", comparison.sides[row.side].label));
    }
    let finding = match &row.reason {
        Some(reason) => format!("{}: {reason}", row.finding.name()),
        None => row.finding.name().to_owned(),
    };
    [
        cell,
        row.stage.clone(),
        row.statistic.clone(),
        value(row.base),
        value(row.other),
        difference,
        interval,
        format!("{} {finding}", mark(row.finding)),
    ]
}

fn signed(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}{}", wording::rounded(value.abs()))
}

fn signed_percent(share: f64) -> String {
    let sign = if share < 0.0 { "−" } else { "+" };
    format!("{sign}{}", percent(share.abs()))
}

/// `2 worse · 1 better · 37 no difference shown; all 40 intervals hold together with 95 % confidence`.
fn tally(comparison: &Comparison) -> String {
    let said: Vec<String> = [
        Finding::Worse,
        Finding::Better,
        Finding::NoDifferenceShown,
        Finding::NotComparable,
    ]
    .into_iter()
    .map(|finding| (comparison.count(finding), finding.name()))
    .filter(|(count, _)| *count > 0)
    .map(|(count, name)| format!("{count} {name}"))
    .collect();
    match comparison.intervals {
        0 => format!("{}; nothing is comparable", said.join(" · ")),
        1 => format!(
            "{}; the interval holds with 95 % confidence",
            said.join(" · ")
        ),
        all => format!(
            "{}; all {all} intervals hold together with 95 % confidence",
            said.join(" · ")
        ),
    }
}
