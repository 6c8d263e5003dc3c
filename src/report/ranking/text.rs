//! The files that tell a ranking: `report.txt`, `report.md`, `performance_rankings.csv`, `benchmark_summary.json`.

use serde::Serialize;
use serde_json::json;

use super::model::{Contest, Engine, EngineStatus, Ranking};
use super::sentences::with_interval;
use crate::report::terminal::{RESULTS, result_rows, table, wrapped};
use crate::report::told::FAILED;
use crate::report::{Renderer, Report, View, wording};

/// The name and version of the format of `benchmark_summary.json`.
pub const SCHEMA: &str = "scenario.ranking/v1";

/// The files of a report that carries a ranking.
pub const FILES: [(&str, Renderer); 4] = [
    ("report.txt", text),
    ("report.md", markdown),
    ("performance_rankings.csv", csv),
    ("benchmark_summary.json", summary),
];

/// Columns of `report.txt`.
const WIDTH: usize = 118;

/// A heading with what stands below it.
#[derive(Clone, Debug, Serialize)]
pub(in crate::report) struct Section {
    title: &'static str,
    body: Vec<Block>,
}

/// A part of a section.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Block {
    /// Sentences, one an item.
    Items(Vec<String>),
    /// A line of its own.
    Line(String),
    /// A table, and how many of its columns are texts.
    Table(Vec<String>, Vec<Vec<String>>, usize),
}

/// `report.txt`.
pub fn text(report: &Report, _view: &View) -> String {
    let Some(ranking) = &report.ranking else {
        return String::new();
    };
    let mut lines = vec![heading(report), stands_on(ranking)];
    for section in sections(report, ranking) {
        lines.push(String::new());
        lines.push(section.title.to_uppercase());
        for block in section.body {
            lines.push(match block {
                Block::Items(items) => items
                    .iter()
                    .map(|item| wrapped(item, WIDTH, "- ", "  "))
                    .collect::<Vec<_>>()
                    .join("\n"),
                Block::Line(line) => wrapped(&line, WIDTH, "", "  "),
                Block::Table(head, rows, left) => table(head, rows, left),
            });
        }
    }
    lines.join("\n") + "\n"
}

/// `report.md`.
pub fn markdown(report: &Report, _view: &View) -> String {
    let Some(ranking) = &report.ranking else {
        return String::new();
    };
    let mut parts = vec![format!("# {}", heading(report)), stands_on(ranking)];
    for section in sections(report, ranking) {
        parts.push(format!("## {}", section.title));
        parts.extend(section.body.into_iter().map(|block| {
            match block {
                Block::Items(items) => items
                    .iter()
                    .map(|item| format!("- {}", escaped(item)))
                    .collect::<Vec<_>>()
                    .join("\n"),
                Block::Line(line) => escaped(&line),
                Block::Table(head, rows, left) => piped(&head, &rows, left),
            }
        }));
    }
    parts.join("\n\n") + "\n"
}

fn piped(head: &[String], rows: &[Vec<String>], left: usize) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule: String = (0..head.len())
        .map(|at| if at < left { "---|" } else { "---:|" })
        .collect();
    let mut lines = vec![line(head), format!("|{rule}")];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.join("\n")
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn heading(report: &Report) -> String {
    let labels = wording::labels(report);
    match labels.as_str() {
        "" => format!("{}: backends compared", report.scenario.name),
        labels => format!("{}: backends compared ({labels})", report.scenario.name),
    }
}

fn stands_on(ranking: &Ranking) -> String {
    if ranking.places.is_empty() {
        return format!("none of {} backends is ranked", ranking.engines.len());
    }
    let ranked = ranking
        .engines
        .iter()
        .filter(|engine| engine.ranked)
        .count();
    format!(
        "{ranked} of {} backends ranked, on {} places; {:.0} % confidence that all {} intervals hold",
        ranking.engines.len(),
        ranking.places.len(),
        ranking.confidence * 100.0,
        ranking.intervals
    )
}

/// What a page says of a ranking that has its results already: what it stands on, and the sections.
pub(in crate::report) fn told_on_a_page(
    report: &Report,
    ranking: &Ranking,
) -> (String, Vec<Section>) {
    let mut sections = vec![summary_section(ranking)];
    sections.extend(conclusions(report, ranking));
    (stands_on(ranking), sections)
}

fn sections(report: &Report, ranking: &Ranking) -> Vec<Section> {
    let mut sections = vec![
        summary_section(ranking),
        Section {
            title: "Detailed results",
            body: details(report, ranking),
        },
    ];
    sections.extend(conclusions(report, ranking));
    sections
}

fn summary_section(ranking: &Ranking) -> Section {
    let told = std::iter::once(&ranking.overall).chain(&ranking.criteria);
    Section {
        title: "Executive summary",
        body: vec![Block::Items(
            told.map(|contest| contest.sentence.clone()).collect(),
        )],
    }
}

fn conclusions(report: &Report, ranking: &Ranking) -> Vec<Section> {
    let sentences = |contests: &[Contest]| {
        let said = contests.iter().map(|contest| contest.sentence.clone());
        Block::Items(said.collect())
    };
    let mut sections = Vec::new();
    if !ranking.overall.standings.is_empty() {
        sections.push(Section {
            title: "Performance rankings",
            body: rankings(report, ranking),
        });
        sections.push(Section {
            title: "Recommendations",
            body: vec![sentences(&ranking.use_cases)],
        });
        sections.push(Section {
            title: "Key findings",
            body: vec![sentences(&ranking.findings)],
        });
    }
    let left_out = left_out(report, ranking);
    if !left_out.is_empty() {
        sections.push(Section {
            title: "Not ranked",
            body: vec![Block::Items(left_out)],
        });
    }
    sections
}

/// Each backend with its results, place by place.
fn details(report: &Report, ranking: &Ranking) -> Vec<Block> {
    let shorts = wording::short_ids(report);
    let rows = result_rows(report, false);
    let mut blocks = Vec::new();
    for engine in &ranking.engines {
        blocks.push(Block::Line(told(report, engine)));
        let cells = report.cells.iter().zip(&shorts);
        let own: Vec<&String> = cells
            .filter(|(cell, _)| cell.backend == engine.backend)
            .map(|(_, short)| short)
            .collect();
        let own: Vec<_> = rows.iter().filter(|row| own.contains(&&row.cell)).collect();
        let seen: Vec<usize> = (0..RESULTS.len())
            .filter(|&at| own.iter().any(|row| row.values[at].is_some()))
            .collect();
        if own.is_empty() {
            continue;
        }
        let mut head = vec!["cell".to_owned(), "stage".to_owned()];
        head.extend(seen.iter().map(|&at| RESULTS[at].title.to_owned()));
        let body = own.iter().map(|row| {
            let mut line = vec![row.cell.clone(), row.stage.clone()];
            let values = seen.iter().map(|&at| row.values[at].clone());
            line.extend(values.map(|value| value.unwrap_or_else(|| "–".to_owned())));
            line
        });
        blocks.push(Block::Table(head, body.collect(), 2));
    }
    blocks
}

/// How the runs of a backend ended; what answered some of its requests is told with the share of the others.
fn status(engine: &Engine) -> String {
    let name = engine.status.name();
    let share = engine.failed as f64 / engine.planned.max(1) as f64;
    match engine.status {
        EngineStatus::Success if share > FAILED => {
            format!("{name} ({} failed)", wording::percent(share))
        }
        _ => name.to_owned(),
    }
}

fn told(report: &Report, engine: &Engine) -> String {
    let why = engine.error.as_ref();
    let why = why.map_or(String::new(), |why| format!("; {why}"));
    format!(
        "{}: {}, {} of {} requests answered, {} failed{why}",
        wording::marked(report, &engine.backend, &engine.backend),
        status(engine),
        engine.ok,
        engine.planned,
        engine.failed
    )
}

fn rankings(report: &Report, ranking: &Ranking) -> Vec<Block> {
    let shown = |backend: &String| wording::marked(report, backend, backend);
    let overall = &ranking.overall;
    let criteria = &overall.criteria;
    let mut head = vec!["rank".to_owned(), "backend".to_owned(), "score".to_owned()];
    head.extend(criteria.iter().map(|criterion| criterion.name.clone()));
    head.push("not told apart from".to_owned());
    let rows = overall.standings.iter().map(|standing| {
        let [low, high] = standing.score.interval.map(wording::rounded);
        let score = wording::rounded(standing.score.value);
        let mut row = vec![
            standing.rank.to_string(),
            shown(&standing.backend),
            format!("{score} ({low} to {high})"),
        ];
        let values = criteria.iter().zip(&standing.values);
        row.extend(values.map(|(criterion, value)| with_interval(criterion, value)));
        row.push(match standing.tied_with.as_slice() {
            [] => "–".to_owned(),
            tied => tied.iter().map(shown).collect::<Vec<_>>().join(", "),
        });
        row
    });
    let weights: Vec<String> = criteria
        .iter()
        .map(|criterion| format!("{} {}", wording::percent(criterion.weight), criterion.name))
        .collect();
    let mut blocks = vec![
        Block::Table(head, rows.collect(), 2),
        Block::Line(format!(
            "score: 100 would be the best by {}; the values are geometric means over the places, and backends whose intervals \
             overlap share a rank",
            weights.join(", ")
        )),
    ];
    if !overall.without.is_empty() {
        let without = overall.without.iter();
        blocks.push(Block::Items(
            without
                .map(|one| format!("does not count: {one}"))
                .collect(),
        ));
    }
    blocks
}

/// One line for each reason, with the places that it is about.
fn left_out(report: &Report, ranking: &Ranking) -> Vec<String> {
    let mut lines: Vec<(String, &str, Vec<&str>)> = Vec::new();
    for one in &ranking.left_out {
        let place = one.place.as_deref();
        let shown = wording::marked(report, &one.backend, &one.backend);
        let known = lines
            .iter_mut()
            .find(|(backend, reason, _)| *backend == shown && *reason == one.reason);
        match known {
            Some((_, _, places)) => places.extend(place),
            None => lines.push((shown, &one.reason, place.into_iter().collect())),
        }
    }
    let told = lines
        .into_iter()
        .map(|(backend, reason, places)| match places.as_slice() {
            [] => format!("{backend}: {reason}"),
            places => format!("{backend} at {}: {reason}", places.join(", ")),
        });
    told.collect()
}

/// The columns of `performance_rankings.csv`: the first ten tell what was measured, as a table of suite 001 does.
pub(in crate::report) const HEAD: [&str; 17] = [
    "Engine",
    "Status",
    "Throughput (tokens/sec)",
    "Latency P50 (ms)",
    "Latency P95 (ms)",
    "Latency Mean (ms)",
    "GPU Utilization (%)",
    "GPU Memory Peak (%)",
    "Total Requests",
    "Error",
    "Throughput Rank",
    "Latency P50 Rank",
    "Latency P95 Rank",
    "GPU Efficiency Rank",
    "Overall Score",
    "Overall Rank",
    "Interface",
];

/// `performance_rankings.csv`: a row for each backend, the best first.
pub fn csv(report: &Report, _view: &View) -> String {
    let Some(ranking) = &report.ranking else {
        return String::new();
    };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEAD).expect("memory takes every row");
    for engine in best_first(ranking) {
        let value = |path: &str, scale: f64| {
            let value = engine.values.get(path);
            value.map_or(String::new(), |value| (value * scale).to_string())
        };
        let rank = |id: &str| {
            let contest = ranking.criteria.iter().find(|contest| contest.id == id);
            let own = contest.and_then(|contest| contest.of(&engine.backend));
            own.map_or(String::new(), |own| own.rank.to_string())
        };
        let overall = ranking.overall.of(&engine.backend);
        let row = [
            engine.backend.clone(),
            status(engine),
            value("output_tps", 1.0),
            value("e2e.p50", 1.0),
            value("e2e.p95", 1.0),
            value("e2e.mean", 1.0),
            value("gpu.util.mean", 100.0),
            value("gpu.memory_share", 100.0),
            engine.planned.to_string(),
            engine.error.clone().unwrap_or_default(),
            rank("throughput"),
            rank("latency_p50"),
            rank("latency_p95"),
            rank("efficiency"),
            overall.map_or(String::new(), |own| own.score.value.to_string()),
            overall.map_or(String::new(), |own| own.rank.to_string()),
            engine.interface.clone(),
        ];
        writer.write_record(row).expect("memory takes every row");
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("rows of text are text")
}

/// The engines in the order of the overall ranking, those that are not ranked last.
fn best_first(ranking: &Ranking) -> Vec<&Engine> {
    let standings = &ranking.overall.standings;
    let place = |engine: &&Engine| {
        let at = standings
            .iter()
            .position(|one| one.backend == engine.backend);
        at.unwrap_or(usize::MAX)
    };
    let mut engines: Vec<&Engine> = ranking.engines.iter().collect();
    engines.sort_by_key(place);
    engines
}

/// `benchmark_summary.json`: the ranking, and what it is about.
pub fn summary(report: &Report, _view: &View) -> String {
    let Some(ranking) = &report.ranking else {
        return String::new();
    };
    let successful = ranking.engines.iter().filter(|engine| engine.ranked);
    let summary = json!({
        "schema": SCHEMA,
        "timestamp": report.started,
        "scenario": report.scenario.name,
        "simulated": report.simulated,
        "plan_digest": report.plan_digest,
        "summary": {
            "engines_tested": ranking.engines.len(),
            "successful_engines": successful.count(),
            "best_engine": ranking.overall.winner,
            "metrics": best_first(ranking),
        },
        "ranking": ranking,
    });
    let mut text = serde_json::to_string_pretty(&summary).expect("a ranking has only text keys");
    text.push('\n');
    text
}
