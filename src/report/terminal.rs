//! The summary on the terminal: results, SLOs, and last what did not pass with the command that runs it again.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::model::{Cell, CellStatus, Metric, Status, Verdict, VerdictStatus};
use super::rerun::Ids;
use super::{Report, Summary, View, wording};

/// The summary; every line ends with a line end. Empty when no summary is asked for.
pub fn render(report: &Report, view: &View) -> String {
    let parts = match view.summary {
        Summary::None => return String::new(),
        Summary::Compact => vec![status(report, view)],
        Summary::Full => vec![
            heading(report, view),
            results(report, view),
            failures(report, view),
            notes(report, view),
            external(report, view),
            searches(report, view),
            slos(report, view),
            ranking(report, view),
            status(report, view),
            footer(report, view),
        ],
    };
    let mut text = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n");
    text.push('\n');
    if view.colour { coloured(&text) } else { text }
}

/// What was measured, and who is best by it, without what is said of it.
pub fn measured(report: &Report, view: &View) -> String {
    let parts = [results(report, view), ranking(report, view)];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n\n")
}

fn heading(report: &Report, view: &View) -> String {
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let mut said = vec![
        report.scenario.name.clone(),
        plural(report.cells.len(), "cell"),
    ];
    if report.repeats > 1 {
        said.push(plural(report.repeats as usize, "repeat"));
    }
    said.push(format!("seed {}", report.seed));
    said.push(format!("plan {}", shortened(&report.plan_digest)));
    let labels = wording::labels(report);
    if !labels.is_empty() {
        said.push(labels);
    }
    wrapped(&said.join(" · "), view.width, "", "  ")
}

/// The first twelve digits of a digest tell it apart.
fn shortened(digest: &str) -> String {
    digest.chars().take("b3:".len() + 12).collect()
}

// ---- results ---------------------------------------------------------------------------------------------------------

/// A column of the results table.
pub(super) struct Column {
    /// Its heading.
    pub(super) title: &'static str,
    /// Which columns stay when the terminal is narrow: the lowest go last.
    rank: u8,
}

const fn column(title: &'static str, rank: u8) -> Column {
    Column { title, rank }
}

/// The columns of the results table, in order.
pub(super) const RESULTS: [Column; 12] = [
    column("n", 0),
    column("errors", 1),
    column("req/s", 4),
    column("out tok/s", 3),
    column("TTFT p50", 6),
    column("TTFT p95", 2),
    column("TTFT p99", 7),
    column("TPOT p50", 5),
    column("chunk gap p99", 9),
    column("E2E p95", 8),
    column("GPU", 10),
    column("power", 11),
];

/// One row of the results table: a measured stage of a cell.
pub(super) struct Row {
    /// What makes the cell differ from the others.
    pub(super) cell: String,
    /// The stage.
    pub(super) stage: String,
    /// A value for each column that has one.
    pub(super) values: [Option<String>; RESULTS.len()],
}

/// The rows of the results table: cell × measured stage, and with `categories` each category of it below.
pub(super) fn result_rows(report: &Report, categories: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (cell, short) in report.cells.iter().zip(wording::short_ids(report)) {
        for stage in cell.stages.iter().filter(|stage| stage.measured) {
            let Some(numbers) = &stage.numbers else {
                continue;
            };
            rows.push(Row {
                cell: short.clone(),
                stage: stage.name.clone(),
                values: values(Some(numbers.ok), &numbers.metrics, stage.open_loop),
            });
            let told = numbers.categories.iter().filter(|_| categories);
            rows.extend(told.map(|category| Row {
                cell: short.clone(),
                stage: format!("{} · {}", stage.name, category.name),
                values: values(
                    category.metrics.get("ttft").map(|ttft| ttft.n),
                    &category.metrics,
                    stage.open_loop,
                ),
            }));
        }
    }
    rows
}

fn values(
    n: Option<u64>,
    metrics: &BTreeMap<String, Metric>,
    open_loop: bool,
) -> [Option<String>; RESULTS.len()] {
    let said = |metric: &str, stat: &str| wording::quantity(metrics.get(metric)?, stat);
    // From the instant from which verdicts count, too.
    let latency = |metric: &str, stat: &str| {
        let planned = open_loop.then(|| said(&format!("{metric}_intended"), stat));
        planned.flatten().or_else(|| said(metric, stat))
    };
    let bare = |metric: &str| {
        let value = wording::statistic(metrics.get(metric)?, "value")?;
        Some(wording::rounded(value))
    };
    [
        n.map(|n| n.to_string()),
        said("error_rate", "value"),
        bare("rps"),
        bare("output_tps"),
        latency("ttft", "p50"),
        latency("ttft", "p95"),
        latency("ttft", "p99"),
        said("tpot", "p50"),
        said("icl", "p99"),
        latency("e2e", "p95"),
        said("gpu.util", "mean"),
        said("gpu.power", "mean"),
    ]
}

fn results(report: &Report, view: &View) -> String {
    let rows = result_rows(report, view.verbose);
    if rows.is_empty() {
        return String::new();
    }
    let seen: Vec<usize> = (0..RESULTS.len())
        .filter(|&at| rows.iter().any(|row| row.values[at].is_some()))
        .collect();
    let (shown, hidden) = columns_that_fit(&rows, seen, view.width);
    let mut head = vec!["cell".to_owned(), "stage".to_owned()];
    head.extend(shown.iter().map(|&at| RESULTS[at].title.to_owned()));
    let body = rows.iter().map(|row| {
        let mut line = vec![row.cell.clone(), row.stage.clone()];
        line.extend(
            shown
                .iter()
                .map(|&at| row.values[at].clone().unwrap_or_else(|| "–".to_owned())),
        );
        line
    });
    let mut text = table(head, body, 2);
    if let Some(note) = wording::planned_instants(report) {
        text.push('\n');
        text.push_str(note);
    }
    if !hidden.is_empty() {
        let titles: Vec<&str> = hidden.iter().map(|&at| RESULTS[at].title).collect();
        let note = format!("not shown at this width: {}", titles.join(", "));
        text.push('\n');
        text.push_str(&wrapped(&note, view.width, "", "  "));
    }
    text
}

/// The columns that fit into `width`, and those that do not.
fn columns_that_fit(rows: &[Row], seen: Vec<usize>, width: usize) -> (Vec<usize>, Vec<usize>) {
    let length = |text: &str| text.chars().count();
    let widest = |texts: &mut dyn Iterator<Item = &str>| texts.map(length).max().unwrap_or(0);
    let mut used = widest(&mut rows.iter().map(|row| row.cell.as_str()).chain(["cell"]))
        + widest(&mut rows.iter().map(|row| row.stage.as_str()).chain(["stage"]))
        + 2;
    let mut by_rank = seen;
    by_rank.sort_by_key(|&at| RESULTS[at].rank);
    let (mut shown, mut hidden) = (Vec::new(), Vec::new());
    for at in by_rank {
        let values = rows.iter().filter_map(|row| row.values[at].as_deref());
        used += 2 + widest(&mut values.chain([RESULTS[at].title]));
        if used <= width {
            shown.push(at);
        } else {
            hidden.push(at);
        }
    }
    shown.sort_unstable();
    hidden.sort_unstable();
    (shown, hidden)
}

/// A table without lines; the first `left` columns are texts, the others numbers.
/// Columns aligned by blanks; the first `left` are texts.
pub(super) fn table(
    head: Vec<String>,
    rows: impl IntoIterator<Item = Vec<String>>,
    left: usize,
) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head)
        .add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Who is best overall, where backends could be ranked.
fn ranking(report: &Report, view: &View) -> String {
    let ranked = report.ranking.as_ref();
    let ranked = ranked.filter(|ranking| !ranking.overall.standings.is_empty());
    ranked.map_or(String::new(), |ranking| {
        let line = format!("ranking: {}", ranking.overall.sentence);
        wrapped(&line, view.width, "", "  ")
    })
}

/// Lines about failures that are shown; the others stand in the report.
const FAILURES_SHOWN: usize = 12;

fn failures(report: &Report, view: &View) -> String {
    let cells = report.cells.iter().zip(wording::short_ids(report));
    let mut lines: Vec<String> = cells
        .flat_map(|(cell, short)| wording::failures(cell, &short))
        .collect();
    let more = lines.len().saturating_sub(FAILURES_SHOWN);
    if more > 0 && !view.verbose {
        lines.truncate(FAILURES_SHOWN);
        lines.push(format!("errors: and {more} more lines with -v"));
    }
    wrapped_lines(&lines, view.width, "  ")
}

// ---- notes -----------------------------------------------------------------------------------------------------------

const EVENTS_SHOWN: usize = 5;

fn notes(report: &Report, view: &View) -> String {
    let mut lines = Vec::new();
    let mut events = Vec::new();
    let mut reused = Vec::new();
    for (cell, short) in report.cells.iter().zip(wording::short_ids(report)) {
        for run in &cell.runs {
            if run.status != CellStatus::Complete {
                let reason = run.reason.as_deref().unwrap_or("ended early");
                lines.push(format!(
                    "! {}: {reason}",
                    wording::marked_id(report, &cell.id)
                ));
            }
            // Prompts that repeat are told of all stages in one line below.
            let seen = run.events.iter().filter(|one| one.kind != "prompts_reused");
            events.extend(seen.map(|event| {
                format!(
                    "! {short} {:.1}s {}: {}",
                    event.at_s, event.kind, event.text
                )
            }));
        }
        let stages = cell.stages.iter().filter(|stage| stage.prompts_reused);
        let stages = stages.filter(|stage| cell.was_asked(stage));
        reused.extend(stages.map(|stage| format!("{short} {}", stage.name)));
    }
    let more = events.len().saturating_sub(EVENTS_SHOWN);
    events.truncate(EVENTS_SHOWN);
    lines.extend(events);
    if more > 0 {
        lines.push(format!("! and {more} more events in report.json"));
    }
    if !reused.is_empty() {
        lines.push(format!("! prompts reused: {}", reused.join(", ")));
    }
    let unfair = wording::unfair(report);
    lines.extend(unfair.iter().map(|line| format!("! not alike: {line}")));
    wrapped_lines(&lines, view.width, "  ")
}

/// The engines' own benchmarks, apart from what was measured here.
fn external(report: &Report, view: &View) -> String {
    let mut lines = wording::external(report);
    if !lines.is_empty() {
        lines.insert(0, wording::EXTERNAL.to_owned());
    }
    wrapped_lines(&lines, view.width, "  ")
}

/// What searches have tried, a line for each level.
fn searches(report: &Report, view: &View) -> String {
    let of = |search: wording::Searched| {
        let mut lines = vec![wrapped_lines(&[search.heading], view.width, "  ")];
        lines.extend(search.tries.into_iter().map(|tried| {
            let line = format!("{} {}  {}", tried.mark, tried.level, tried.why);
            let line = line.trim_end().to_owned();
            format!(
                "  {}",
                wrapped_lines(&[line], view.width.saturating_sub(2), "      ")
            )
        }));
        lines.join("\n")
    };
    let searches: Vec<String> = wording::searches(report).into_iter().map(of).collect();
    searches.join("\n\n")
}

// ---- SLOs ------------------------------------------------------------------------------------------------------------

/// Up to this many rows of SLOs, those that pass are shown, too: they still fit on a screen with the rest.
const ROWS_SHOWN: usize = 30;
/// From more cells than this on, cells become rows.
const CELLS_ABREAST: usize = 4;

/// One SLO in one stage, over all cells.
struct Asked<'a> {
    id: &'a str,
    text: &'a str,
    stage: &'a str,
    verdicts: Vec<&'a Verdict>,
}

impl Asked<'_> {
    fn passes(&self) -> bool {
        self.verdicts
            .iter()
            .all(|verdict| verdict.status == VerdictStatus::Pass)
    }
}

fn slos(report: &Report, view: &View) -> String {
    let asked = asked(report);
    let all = view.verbose || asked.len() <= ROWS_SHOWN;
    let (shown, hidden): (Vec<_>, Vec<_>) = asked.into_iter().partition(|one| all || !one.passes());
    let passed: usize = hidden.iter().map(|one| one.verdicts.len()).sum();
    let mut parts = Vec::new();
    if !shown.is_empty() {
        parts.push(slo_table(report, shown, view));
    }
    if passed > 0 {
        parts.push(format!("✓ {passed} passed (all of them with -v)"));
    }
    parts.retain(|part: &String| !part.is_empty());
    parts.join("\n")
}

/// The SLOs of the scenario in the order of their first verdict.
fn asked(report: &Report) -> Vec<Asked<'_>> {
    let mut asked: Vec<Asked> = Vec::new();
    for verdict in report.verdicts.iter().filter(|verdict| !verdict.guard) {
        let stage = verdict.stage.as_deref().unwrap_or("");
        let same = asked
            .iter_mut()
            .find(|one| one.id == verdict.id && one.text == verdict.text && one.stage == stage);
        match same {
            Some(one) => one.verdicts.push(verdict),
            None => asked.push(Asked {
                id: &verdict.id,
                text: &verdict.text,
                stage,
                verdicts: vec![verdict],
            }),
        }
    }
    asked
}

/// What is said of one cell as a grid, what is said of several or of a part of one as a list.
fn slo_table(report: &Report, shown: Vec<Asked>, view: &View) -> String {
    let (simple, other): (Vec<Asked>, Vec<Asked>) = shown.into_iter().partition(|one| {
        one.verdicts
            .iter()
            .all(|verdict| verdict.cell.is_some() && verdict.scope.is_empty())
    });
    let parts = [grid(report, &simple, view), list(report, &other, view)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

/// The cells abreast, or below each other when there are many; a list when neither fits.
fn grid(report: &Report, shown: &[Asked], view: &View) -> String {
    if shown.is_empty() {
        return String::new();
    }
    let mut grids: Vec<fn(&Report, &[Asked]) -> String> = vec![cells_abreast, cells_below];
    if report.cells.len() > CELLS_ABREAST {
        grids.remove(0);
    }
    let fits = |text: &String| text.lines().all(|line| line.chars().count() <= view.width);
    grids
        .into_iter()
        .map(|grid| grid(report, shown))
        .find(fits)
        .unwrap_or_else(|| list(report, shown, view))
}

fn cells_abreast(report: &Report, shown: &[Asked]) -> String {
    let judged = judged_cells(report, shown);
    let several_stages = shown.windows(2).any(|pair| pair[0].stage != pair[1].stage);
    let mut head = vec!["SLO".to_owned(), "limit".to_owned()];
    head.extend(several_stages.then(|| "stage".to_owned()));
    let left = head.len();
    head.extend(judged.iter().map(|(_, short)| short.clone()));
    let rows = shown.iter().map(|one| {
        let mut row = vec![one.id.to_owned(), one.text.to_owned()];
        row.extend(several_stages.then(|| one.stage.to_owned()));
        row.extend(judged.iter().map(|(id, _)| seen_in(one, id)));
        row
    });
    table(head, rows, left)
}

fn cells_below(report: &Report, shown: &[Asked]) -> String {
    let mut limits: Vec<(&str, &str)> = Vec::new();
    let mut places: Vec<(String, String, &str)> = Vec::new();
    for (id, short) in judged_cells(report, shown) {
        for one in shown {
            let place = (id.clone(), short.clone(), one.stage);
            if one.verdicts.iter().any(|v| v.cell.as_deref() == Some(&id))
                && !places.contains(&place)
            {
                places.push(place);
            }
            if !limits.contains(&(one.id, one.text)) {
                limits.push((one.id, one.text));
            }
        }
    }
    let mut head = vec!["cell".to_owned(), "stage".to_owned()];
    head.extend(limits.iter().map(|(id, text)| format!("{id}\n{text}")));
    let rows = places.iter().map(|(id, short, stage)| {
        let mut row = vec![short.clone(), (*stage).to_owned()];
        row.extend(limits.iter().map(|limit| {
            shown
                .iter()
                .find(|one| (one.id, one.text) == *limit && one.stage == *stage)
                .map_or_else(|| "–".to_owned(), |one| seen_in(one, id))
        }));
        row
    });
    table(head, rows, 2)
}

/// The cells that something is said of, with their short names.
fn judged_cells(report: &Report, shown: &[Asked]) -> Vec<(String, String)> {
    report
        .cells
        .iter()
        .map(|cell| cell.id.clone())
        .zip(wording::short_ids(report))
        .filter(|(id, _)| {
            shown
                .iter()
                .flat_map(|one| &one.verdicts)
                .any(|verdict| verdict.cell.as_deref() == Some(id))
        })
        .collect()
}

fn seen_in(one: &Asked, cell: &str) -> String {
    let verdict = one
        .verdicts
        .iter()
        .find(|verdict| verdict.cell.as_deref() == Some(cell));
    match verdict {
        None => "–".to_owned(),
        Some(verdict) => match (&verdict.observed, verdict.status) {
            (Some(observed), VerdictStatus::Pass | VerdictStatus::Fail) => {
                // How it came to be infinite stands below, with the rest of what failed.
                let short = observed.text.split(" (").next().unwrap_or_default();
                format!("{short} {}", wording::mark(verdict.status))
            }
            (_, status) => format!("{} {}", status.name(), wording::mark(status)),
        },
    }
}

/// One line for each verdict that passes or was not asked; the others follow in full under the status.
fn list(report: &Report, shown: &[Asked], view: &View) -> String {
    let lines: Vec<String> = shown
        .iter()
        .flat_map(|one| &one.verdicts)
        .filter(|verdict| matches!(verdict.status, VerdictStatus::Pass | VerdictStatus::Skipped))
        .map(|verdict| {
            let line = format!(
                "{} {}  {}  {}: {}",
                wording::mark(verdict.status),
                verdict.status.name(),
                verdict.name,
                wording::marked_ids(report, verdict, " · "),
                verdict.message
            );
            wrapped(&line, view.width, "", "    ")
        })
        .collect();
    lines.join("\n")
}

// ---- status ----------------------------------------------------------------------------------------------------------

fn status(report: &Report, view: &View) -> String {
    let mark = match report.status {
        Status::Passed => "✓",
        Status::Failed => "✗",
        Status::Inconclusive => "?",
        Status::Measured | Status::Interrupted => "–",
    };
    let tally = wording::tally(report);
    let said = match report.status {
        Status::Measured => "no SLOs: nothing was gated".to_owned(),
        _ => tally,
    };
    let mut line = format!("{mark} {}", report.status.name());
    if !said.is_empty() {
        line.push_str(&format!(": {said}"));
    }
    let labels = wording::labels(report);
    if !labels.is_empty() {
        line.push_str(&format!(" ({labels})"));
    }
    let mut lines = vec![wrapped(&line, view.width, "", "  ")];
    lines.extend(
        entries(report, view)
            .iter()
            .map(|entry| told(report, entry, view)),
    );
    lines.join("\n")
}

/// What is said alike of one SLO or guard in several places.
struct Entry<'a> {
    verdicts: Vec<&'a Verdict>,
    /// The SLOs that it makes inconclusive, when it is a guard.
    touched: Vec<&'a str>,
}

/// What did not pass, in the order of weight: what failed stands last, where the eye is when the run has ended.
fn entries<'a>(report: &'a Report, view: &View) -> Vec<Entry<'a>> {
    let interrupted = report.status == Status::Interrupted;
    let is_told = |verdict: &&Verdict| match verdict.status {
        VerdictStatus::Fail => true,
        VerdictStatus::Inconclusive => !interrupted,
        VerdictStatus::Skipped => !verdict.guard && view.verbose && !interrupted,
        VerdictStatus::Pass => false,
    };
    let mut entries: Vec<Entry> = Vec::new();
    let (by_guard, mut rest): (Vec<&Verdict>, Vec<&Verdict>) = report
        .verdicts
        .iter()
        .filter(is_told)
        .partition(|verdict| guard_behind(report, verdict).is_some());
    rest.sort_by_key(|verdict| {
        let warning = verdict.level == "warn";
        (!warning, verdict.status == VerdictStatus::Fail)
    });
    for verdict in rest {
        match entries
            .iter_mut()
            .find(|entry| is_said_alike(entry.verdicts[0], verdict))
        {
            Some(entry) => entry.verdicts.push(verdict),
            None => entries.push(Entry {
                verdicts: vec![verdict],
                touched: Vec::new(),
            }),
        }
    }
    for verdict in by_guard {
        let guard = guard_behind(report, verdict);
        let entry = entries
            .iter_mut()
            .find(|entry| guard.is_some_and(|guard| entry.verdicts[0].id == guard));
        let Some(entry) = entry else { continue };
        let name = without_stage(verdict);
        if !entry.touched.contains(&name) {
            entry.touched.push(name);
        }
    }
    entries
}

/// Guards are told once, SLOs where the same is said of them. Failures of one SLO have numbers of their own and stand together.
fn is_said_alike(one: &Verdict, other: &Verdict) -> bool {
    let text = |verdict: &Verdict| verdict.reason.as_ref().map(|reason| reason.text.clone());
    let alike = other.guard || other.status == VerdictStatus::Fail || text(one) == text(other);
    (&one.id, &one.text, &one.level, one.status)
        == (&other.id, &other.text, &other.level, other.status)
        && alike
}

/// The id of the guard that made a verdict inconclusive, if that is told, too.
fn guard_behind<'a>(report: &'a Report, verdict: &Verdict) -> Option<&'a str> {
    let reason = verdict.reason.as_ref().filter(|_| !verdict.guard)?;
    let (key, _) = reason.text.strip_prefix("guard ")?.split_once(':')?;
    report
        .verdicts
        .iter()
        .filter(|one| one.guard && one.status == VerdictStatus::Inconclusive)
        .map(|one| one.id.as_str())
        .find(|id| id.strip_prefix("guard:") == Some(key))
}

/// The name of a verdict that holds for all stages.
fn without_stage(verdict: &Verdict) -> &str {
    verdict.name.split(" @").next().unwrap_or_default()
}

fn told(report: &Report, entry: &Entry, view: &View) -> String {
    let verdict = entry.verdicts[0];
    let warning = if verdict.level == "warn" {
        " (warn)"
    } else {
        ""
    };
    let mark = wording::mark(verdict.status);
    let status = verdict.status.name();
    let mut lines = Vec::new();
    let indented = |text: &str| wrapped(text, view.width, "      ", "        ");
    if let [only] = entry.verdicts[..] {
        let cells = wording::marked_ids(report, only, " · ");
        let head = format!("{mark} {status}{warning}  {}  {cells}", only.name);
        lines.push(wrapped(&head, view.width, "  ", "      "));
        lines.push(indented(&only.message));
        lines.extend(repeats(only, view));
    } else {
        let all = report.verdicts.iter().filter(|one| {
            one.id == verdict.id && one.text == verdict.text && one.status != VerdictStatus::Skipped
        });
        let all = all.count().max(entry.verdicts.len());
        let places: Vec<String> = entry
            .verdicts
            .iter()
            .map(|one| place(report, one))
            .collect();
        let head = format!(
            "{mark} {status}{warning}  {}  in {} of {all}",
            without_stage(verdict),
            places.len()
        );
        let each =
            verdict.status == VerdictStatus::Fail && !(verdict.guard && verdict.level == "warn");
        if each {
            lines.push(wrapped(&head, view.width, "  ", "      "));
            let seen = entry.verdicts.iter().zip(&places);
            let shown = if view.verbose { places.len() } else { PLACES };
            for (one, place) in seen.take(shown) {
                lines.push(indented(&format!("{place}: {}", one.message)));
            }
            if places.len() > shown {
                lines.push(indented(&format!(
                    "and {} more in report.json",
                    places.len() - shown
                )));
            }
        } else {
            lines.push(wrapped(
                &format!("{head}: {}", listed(&places, view)),
                view.width,
                "  ",
                "      ",
            ));
            lines.push(indented(&verdict.message));
        }
    }
    if !entry.touched.is_empty() {
        let text = format!("makes inconclusive: {}", entry.touched.join(", "));
        lines.push(indented(&text));
    }
    if let Some(advice) = entry.verdicts.iter().find_map(|one| one.advice.as_ref()) {
        let text = format!("advice: {advice}");
        lines.push(indented(&text));
    }
    let at = verdict
        .at
        .as_ref()
        .map(|at| format!("{}:{}:{}", at.file, at.line, at.col));
    let rerun = rerun_of(report, entry).map(|rerun| format!("rerun: {rerun}"));
    let end: Vec<String> = [at, rerun].into_iter().flatten().collect();
    let together = format!("      {}", end.join("   "));
    if together.chars().count() <= view.width {
        lines.extend((!end.is_empty()).then_some(together));
    } else {
        // A command is never broken: it is there to be copied.
        lines.extend(end.iter().map(|part| format!("      {part}")));
    }
    lines.join("\n")
}

/// Places of one entry that are listed.
const PLACES: usize = 8;

fn listed(places: &[String], view: &View) -> String {
    let shown = if view.verbose { places.len() } else { PLACES };
    let mut text = places[..places.len().min(shown)].join(", ");
    if places.len() > shown {
        text.push_str(&format!(" and {} more", places.len() - shown));
    }
    text
}

/// `vllm/chat@c16`, in the short names of the results table, with what else narrows it.
fn place(report: &Report, verdict: &Verdict) -> String {
    let cells: Vec<String> = report
        .cells
        .iter()
        .zip(wording::short_ids(report))
        .filter(|(cell, _)| verdict.cells.contains(&cell.id))
        .map(|(_, short)| short)
        .collect();
    let stage = verdict.name.split_once(" @").map(|(_, stage)| stage);
    match stage {
        Some(stage) => format!("{}@{stage}", cells.join("+")),
        None => cells.join("+"),
    }
}

fn repeats(verdict: &Verdict, view: &View) -> Option<String> {
    if verdict.repeats.len() < 2 {
        return None;
    }
    let seen: Vec<String> = verdict
        .repeats
        .iter()
        .map(|repeat| match &repeat.observed {
            Some(observed) => format!("{} {}", observed.text, wording::mark(repeat.status)),
            None => repeat.status.name().to_owned(),
        })
        .collect();
    let line = format!("repeats: {}", seen.join(" · "));
    Some(wrapped(&line, view.width, "      ", "        "))
}

/// One command for all cells of an entry.
fn rerun_of(report: &Report, entry: &Entry) -> Option<String> {
    let first = entry.verdicts[0].rerun.clone()?;
    if entry
        .verdicts
        .iter()
        .all(|one| one.cells == entry.verdicts[0].cells)
    {
        return Some(first);
    }
    let all: Vec<Ids> = report.cells.iter().map(ids_of).collect();
    let wanted: Vec<Ids> = report
        .cells
        .iter()
        .filter(|cell| {
            entry
                .verdicts
                .iter()
                .any(|one| one.cells.contains(&cell.id))
        })
        .map(ids_of)
        .collect();
    Some(super::rerun::rerun(
        &report.command,
        &report.scenario.path,
        &all,
        &wanted,
    ))
}

fn ids_of(cell: &Cell) -> Ids<'_> {
    [&cell.backend, &cell.model, &cell.prompts, &cell.load]
}

fn footer(report: &Report, view: &View) -> String {
    let mut lines = Vec::new();
    lines.extend(wording::guards(report).map(|line| format!("guards: {line}")));
    lines.extend(wording::client(report).map(|line| format!("client: {line}")));
    wrapped_lines(&lines, view.width, "        ")
}

// ---- text ------------------------------------------------------------------------------------------------------------

fn wrapped_lines(lines: &[String], width: usize, further: &str) -> String {
    let wrapped: Vec<String> = lines
        .iter()
        .map(|line| wrapped(line, width, "", further))
        .collect();
    wrapped.join("\n")
}

/// `text` broken between words at `width`, with its first and its further indents. Two spaces between words are kept, and so are
/// its own line breaks.
pub(super) fn wrapped(text: &str, width: usize, first: &str, further: &str) -> String {
    if let Some((line, rest)) = text.split_once('\n') {
        let line = wrapped(line, width, first, further);
        return format!("{line}\n{}", wrapped(rest, width, further, further));
    }
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        let room = line.chars().count() + 1 + word.chars().count() <= width;
        if !empty && !room {
            lines.push(std::mem::replace(&mut line, further.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        } else if word.is_empty() {
            continue;
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines.join("\n")
}

/// The same text with its marks in colour: the words beside them say the same without.
fn coloured(text: &str) -> String {
    let paint = |colour: AnsiColor, mark: &str| {
        let style = Style::new().bold().fg_color(Some(colour.into()));
        format!("{style}{mark}{style:#}")
    };
    text.replace('✓', &paint(AnsiColor::Green, "✓"))
        .replace('✗', &paint(AnsiColor::Red, "✗"))
        .replace("? ", &paint(AnsiColor::Yellow, "? "))
        .replace("! ", &paint(AnsiColor::Yellow, "! "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(
            wrapped("one two\n| three", 9, "", "  "),
            "one two\n  | three"
        );
        assert_eq!(
            wrapped("one two three  four", 9, "", "  "),
            "one two\n  three\n  four"
        );
        assert_eq!(
            wrapped("a-word-longer-than-it", 5, "> ", ""),
            "> a-word-longer-than-it"
        );
    }
}
