//! `report.html`: one file that needs nothing else, verdict first. The tables are written here and read without JavaScript; the
//! charts are drawn in the browser from what is embedded. Page, style and script lie in `web/`.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;

use super::charts::Charts;
use super::model::{Report, Stage, Status, Verdict, VerdictStatus};
use super::ranking::text::{Section, told_on_a_page};
use super::terminal::{RESULTS, Row as Results, result_rows};
use super::{drawn, wording};

const PAGE: &str = include_str!("../../web/report.html.j2");
const STYLE: &str = include_str!("../../web/page.css");
const SCRIPT: &str = include_str!("../../web/page.js");
/// What keeps the page of a run that goes on up to date.
const LIVE: &str = include_str!("../../web/live.js");
/// Apache ECharts, bundled by `web/renew`.
const LIBRARY: &str = include_str!("../../web/charts.js");

/// The page of a report.
pub fn render(report: &Report, charts: &Charts) -> String {
    write(page(report, charts, None))
}

/// What a page says of a run that goes on.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// One line about the present instant.
    pub line: String,
    /// The cell and the stage that send now: what is said of them is said so far.
    pub stage: Option<(String, String)>,
}

impl Live {
    fn sends_for(&self, verdict: &Verdict) -> bool {
        let Some((cell, stage)) = &self.stage else {
            return false;
        };
        verdict.cells.contains(cell) && verdict.stage.as_ref().is_none_or(|of| of == stage)
    }
}

/// How much of a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// All of it.
    Whole,
    /// Without what a browser that shows the page has already: style, library and scripts.
    Bare,
}

/// The page of a run as it is served: while it goes on, or `None`: it is over.
pub fn render_live(report: &Report, charts: &Charts, live: Option<&Live>, parts: Parts) -> String {
    let mut page = page(report, charts, live);
    page.served = true;
    match parts {
        Parts::Whole => page.live_script = LIVE,
        Parts::Bare => (page.css, page.library, page.script) = ("", "", ""),
    }
    write(page)
}

fn write(page: Page) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment
        .render_str(PAGE, Value::from(Serde(page)))
        .expect("the page's template is held by a test")
}

/// What the template writes, in its order.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    css: &'static str,
    mark: &'static str,
    tally: String,
    labels: Vec<String>,
    started: String,
    duration: String,
    digest: String,
    slos: Vec<Row>,
    failures: Vec<String>,
    guards: Vec<Row>,
    guard_line: Option<String>,
    tripped: Vec<Row>,
    searches: Vec<wording::Searched>,
    external: Vec<String>,
    external_note: &'static str,
    note: Option<&'static str>,
    head: Vec<&'static str>,
    rows: Vec<ResultRow>,
    /// What may be said of backends side by side: what it stands on, and the sections.
    ranking: Option<(String, Vec<Section>)>,
    fairness: Vec<Fairness<'a>>,
    differences: Vec<String>,
    host: Vec<(&'static str, String)>,
    gpus: Vec<String>,
    clients: Vec<ClientRow>,
    events: Vec<String>,
    command: String,
    scenario: Vec<File<'a>>,
    data: String,
    library: &'static str,
    script: &'static str,
    /// Of a run that goes on.
    live: Option<&'a Live>,
    /// By a server, which is asked for news.
    served: bool,
    live_script: &'static str,
}

/// A line of the table of results.
#[derive(Serialize)]
struct ResultRow {
    cell: String,
    stage: String,
    values: Vec<String>,
    /// Why it has none.
    missing: Option<String>,
}

fn page<'a>(report: &'a Report, charts: &Charts, live: Option<&'a Live>) -> Page<'a> {
    let guards = rows(report, true, live);
    let tripped = |guard: &Row| guard.status == "fail" || guard.status == "inconclusive";
    let results = result_rows(report, true);
    let seen: Vec<usize> = (0..RESULTS.len())
        .filter(|&at| results.iter().any(|row| row.values[at].is_some()))
        .collect();
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let labels = wording::labels(report);
    let labels = labels.split(" · ").filter(|label| !label.is_empty());
    let started = report.started.split('.').next().unwrap_or_default();
    Page {
        report,
        css: STYLE,
        mark: mark(report),
        tally: wording::tally(report),
        labels: labels.map(str::to_owned).collect(),
        started: format!("{} UTC", started.trim_end_matches('Z').replace('T', " ")),
        duration: wording::duration(report.duration_s),
        digest: report.plan_digest.chars().take(15).collect(),
        slos: rows(report, false, live),
        failures: failures(report),
        tripped: guards
            .iter()
            .filter(|guard| tripped(guard))
            .cloned()
            .collect(),
        guards,
        guard_line: wording::guards(report),
        searches: wording::searches(report),
        external: wording::external(report),
        external_note: wording::EXTERNAL,
        note: wording::planned_instants(report),
        head: seen.iter().map(|&at| RESULTS[at].title).collect(),
        rows: with_what_is_missing(report, live.is_none(), results, |row| ResultRow {
            values: seen.iter().map(|&at| said(&row.values[at])).collect(),
            cell: row.cell,
            stage: row.stage,
            missing: None,
        }),
        // Before the last has had its turn there is nothing to say of backends side by side.
        ranking: (report.ranking.as_ref())
            .filter(|_| live.is_none())
            .map(|ranking| told_on_a_page(report, ranking)),
        fairness: fairness(report),
        differences: differences(report),
        host: host(report),
        gpus: gpus(report),
        clients: clients(report),
        events: events(report),
        command: report.command.join(" "),
        scenario: scenario(report),
        data: drawn::embedded(report, charts, live.is_none()),
        library: LIBRARY,
        script: SCRIPT,
        live,
        served: false,
        live_script: "",
    }
}

/// The rows of the results, and between them one for each measured stage that has no numbers.
fn with_what_is_missing(
    report: &Report,
    over: bool,
    results: Vec<Results>,
    row: impl Fn(Results) -> ResultRow,
) -> Vec<ResultRow> {
    let mut rows = Vec::new();
    let mut results = results.into_iter().peekable();
    for (cell, short) in report.cells.iter().zip(wording::short_ids(report)) {
        let asked = |stage: &&Stage| stage.measured && cell.was_asked(stage);
        for stage in cell.stages.iter().filter(asked) {
            let categories = format!("{} · ", stage.name);
            let is_its = |row: &Results| {
                row.cell == short && (row.stage == stage.name || row.stage.starts_with(&categories))
            };
            while let Some(own) = results.next_if(is_its) {
                rows.push(row(own));
            }
            let missing = wording::no_data(cell, over).filter(|_| stage.numbers.is_none());
            rows.extend(missing.map(|why| ResultRow {
                cell: short.clone(),
                stage: stage.name.clone(),
                values: Vec::new(),
                missing: Some(why),
            }));
        }
    }
    rows
}

fn mark(report: &Report) -> &'static str {
    match report.status {
        Status::Passed => "✓",
        Status::Failed => "✗",
        Status::Measured => "–",
        Status::Inconclusive | Status::Interrupted => "?",
    }
}

// ---- verdicts --------------------------------------------------------------------------------------------------------

/// A line of the tables of verdicts.
#[derive(Clone, Debug, Serialize)]
struct Row {
    status: &'static str,
    mark: &'static str,
    warn: bool,
    /// Of a stage that sends: the last word is not spoken.
    so_far: bool,
    id: String,
    text: String,
    cells: String,
    stage: String,
    value: String,
    /// What each of several repeats gave.
    repeats: Option<String>,
    bound: String,
    margin: String,
    interval: String,
    samples: String,
    message: String,
    advice: Option<String>,
    said: String,
}

/// The verdicts of SLOs, or of guards: what did not pass first, else in the order of the file.
fn rows(report: &Report, guards: bool, live: Option<&Live>) -> Vec<Row> {
    let mut told: Vec<&Verdict> = report
        .verdicts
        .iter()
        .filter(|verdict| verdict.guard == guards)
        .collect();
    told.sort_by_key(|verdict| match verdict.status {
        VerdictStatus::Fail => 0,
        VerdictStatus::Inconclusive => 1,
        VerdictStatus::Pass => 2,
        VerdictStatus::Skipped => 3,
    });
    told.into_iter()
        .map(|verdict| row(report, verdict, live))
        .collect()
}

fn row(report: &Report, verdict: &Verdict, live: Option<&Live>) -> Row {
    let value = |value: &Option<super::model::Value>| {
        value.as_ref().map_or("–".to_owned(), |it| it.text.clone())
    };
    let narrowed: Vec<String> = verdict
        .scope
        .iter()
        .map(|(dimension, value)| format!("{dimension} {value}"))
        .collect();
    let stage = verdict.stage.iter().cloned().chain(narrowed);
    let passed = matches!(verdict.status, VerdictStatus::Pass | VerdictStatus::Skipped);
    let unit = verdict
        .observed
        .as_ref()
        .map_or("", |observed| observed.unit.as_str());
    Row {
        status: verdict.status.name(),
        mark: wording::mark(verdict.status),
        warn: verdict.level == "warn",
        so_far: live.is_some_and(|live| live.sends_for(verdict)),
        id: verdict.id.clone(),
        text: verdict.text.clone(),
        cells: wording::short_cells(report, verdict),
        stage: stage.collect::<Vec<_>>().join(" · "),
        value: value(&verdict.observed),
        repeats: wording::repeats(verdict),
        bound: value(&verdict.bound),
        margin: verdict
            .margin
            .map_or("–".to_owned(), wording::signed_percent),
        // Values of verdicts have four digits.
        interval: verdict
            .interval
            .map_or("–".to_owned(), |ends| wording::interval(ends, unit, 4)),
        samples: verdict.n.map_or("–".to_owned(), |n| {
            format!("{n}{}", if verdict.thin { ", thin" } else { "" })
        }),
        message: verdict.message.clone(),
        advice: verdict.advice.clone().filter(|_| !passed),
        said: if passed {
            String::new()
        } else {
            wording::details(report, verdict)
        },
    }
}

fn failures(report: &Report) -> Vec<String> {
    let cells = report.cells.iter().zip(wording::short_ids(report));
    cells
        .flat_map(|(cell, short)| wording::failures(cell, &short))
        .collect()
}

// ---- environment -----------------------------------------------------------------------------------------------------

/// Backends that stand side by side, and what was alike between them.
#[derive(Serialize)]
struct Fairness<'a> {
    /// Their cells' id without the backend.
    place: &'a str,
    backends: Vec<&'a str>,
    differing: Vec<&'a str>,
    rows: Vec<FairnessRow<'a>>,
}

#[derive(Serialize)]
struct FairnessRow<'a> {
    what: &'a str,
    differs: bool,
    /// Of every side.
    known: bool,
    values: Vec<&'a str>,
}

fn fairness(report: &Report) -> Vec<Fairness<'_>> {
    let told = report.fairness.iter().map(|comparison| {
        let facts = &comparison.facts;
        let split = |id: &'_ String| {
            let mut cells = report.cells.iter();
            let cell = cells.find(|cell| cell.id == *id)?;
            let rest = cell.id.strip_prefix(cell.backend.as_str())?;
            Some((cell.backend.as_str(), rest.trim_start_matches('/')))
        };
        let cells: Vec<(&str, &str)> = comparison.cells.iter().filter_map(split).collect();
        Fairness {
            place: cells.first().map_or("", |(_, rest)| rest),
            backends: cells.iter().map(|(backend, _)| *backend).collect(),
            differing: facts
                .iter()
                .filter(|fact| fact.differs)
                .map(|fact| fact.what.as_str())
                .collect(),
            rows: facts
                .iter()
                .map(|fact| FairnessRow {
                    what: &fact.what,
                    differs: fact.differs,
                    known: fact.values.iter().all(Option::is_some),
                    values: fact
                        .values
                        .iter()
                        .map(|value| value.as_deref().unwrap_or("not known"))
                        .collect(),
                })
                .collect(),
        }
    });
    told.collect()
}

/// What the engines do not share, and what therefore may be what is compared.
fn differences(report: &Report) -> Vec<String> {
    let engines = &report.environment.engines;
    let told = |what: &str, of: &dyn Fn(&super::model::Engine) -> String| {
        let values: Vec<String> = engines.iter().map(of).collect();
        let differ = values.windows(2).any(|pair| pair[0] != pair[1]);
        let said: Vec<String> = engines
            .iter()
            .zip(&values)
            .map(|(engine, value)| format!("{} {value}", engine.backend))
            .collect();
        differ.then(|| format!("{what}: {}", said.join(", ")))
    };
    let machine = |engine: &super::model::Engine| {
        let url = engine.url.as_deref().unwrap_or_default();
        let host = url.split("://").nth(1).unwrap_or(url);
        host.split(['/', ':']).next().unwrap_or("").to_owned()
    };
    let mut said = Vec::new();
    said.extend(told("machine", &machine));
    said.extend(told("simulated", &|engine| {
        if engine.simulated { "yes" } else { "no" }.to_owned()
    }));
    said.extend(told("models listed", &|engine| match engine.models.len() {
        0 => "not told".to_owned(),
        _ => engine.models.join(" and "),
    }));
    let tokens = |cell: &super::model::Cell| {
        let stage = cell.stages.iter().rfind(|stage| stage.measured)?;
        let metric = stage.numbers.as_ref()?.metrics.get("output_tokens")?;
        wording::statistic(metric, "mean")
    };
    for (at, one) in report.cells.iter().enumerate() {
        let others = report.cells[at + 1..].iter().filter(|other| {
            (&other.model, &other.prompts, &other.load) == (&one.model, &one.prompts, &one.load)
        });
        for other in others {
            if let (Some(a), Some(b)) = (tokens(one), tokens(other))
                && (a - b).abs() > 0.1 * a.min(b)
            {
                said.push(format!(
                    "length of answers: {} {} tokens, {} {} on the same prompts ({}/{}/{})",
                    one.backend,
                    wording::rounded(a),
                    other.backend,
                    wording::rounded(b),
                    one.model,
                    one.prompts,
                    one.load
                ));
            }
        }
    }
    said
}

fn host(report: &Report) -> Vec<(&'static str, String)> {
    let host = &report.environment.host;
    let memory = host.memory_bytes.map(gib);
    [
        ("Name", host.name.clone()),
        ("System", Some(host.os.clone()).filter(|os| !os.is_empty())),
        ("Kernel", host.kernel.clone()),
        ("Processor", host.cpu.clone()),
        ("Cores", host.cores.map(|cores| cores.to_string())),
        ("Memory", memory),
        ("Clock source", host.clocksource.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn gib(bytes: u64) -> String {
    format!(
        "{} GiB",
        wording::rounded(bytes as f64 / (1u64 << 30) as f64)
    )
}

fn gpus(report: &Report) -> Vec<String> {
    report
        .environment
        .gpus
        .iter()
        .map(|gpu| {
            let mut said = vec![format!("{}: {}", gpu.index, gpu.name)];
            said.extend(gpu.memory_bytes.map(gib));
            said.extend(gpu.driver.as_ref().map(|driver| format!("driver {driver}")));
            said.extend(gpu.simulated.then(|| "simulated".to_owned()));
            said.join(", ")
        })
        .collect()
}

/// A line of the table of the client's exactness.
#[derive(Serialize)]
struct ClientRow {
    run: String,
    stamps: String,
    p50: String,
    p99: String,
    max: String,
    busiest: String,
    connections: u64,
}

fn clients(report: &Report) -> Vec<ClientRow> {
    let time = |ms: Option<f64>| ms.map_or("–".to_owned(), wording::time);
    let runs = report.cells.iter().zip(wording::short_ids(report));
    runs.flat_map(|(cell, short)| cell.runs.iter().map(move |run| (short.clone(), run)))
        .filter_map(|(short, run)| {
            let client = run.client.as_ref()?;
            Some(ClientRow {
                run: if report.repeats > 1 {
                    format!("{short} · repeat {}", run.repeat + 1)
                } else {
                    short
                },
                stamps: client.stamp_source.clone(),
                p50: time(client.read_lag_ms.p50),
                p99: time(client.read_lag_ms.p99),
                max: time(client.read_lag_ms.max),
                busiest: client
                    .worker_cpu_max
                    .map_or("–".to_owned(), wording::percent),
                connections: client.connections_opened,
            })
        })
        .collect()
}

/// Events that are listed; all of them stand in report.json.
const EVENTS: usize = 200;

fn events(report: &Report) -> Vec<String> {
    let cells = report.cells.iter().zip(wording::short_ids(report));
    cells
        .flat_map(|(cell, short)| {
            let ended = cell.runs.iter().filter_map({
                let short = short.clone();
                move |run| Some(format!("{short}: {}", run.reason.as_ref()?))
            });
            let seen = cell
                .runs
                .iter()
                .flat_map(|run| &run.events)
                .map(move |event| {
                    format!(
                        "{short} {:.1} s: {}: {}",
                        event.at_s, event.kind, event.text
                    )
                });
            ended.chain(seen)
        })
        .take(EVENTS)
        .collect()
}

// ---- the user's files ------------------------------------------------------------------------------------------------

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    /// What all files were laid together to.
    resolved: bool,
    lines: Vec<Line<'a>>,
}

/// A line of a file, with what is said of the assertion on it.
#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
    status: &'static str,
    said: String,
}

fn scenario(report: &Report) -> Vec<File<'_>> {
    let files = report.sources.iter().map(|source| File {
        path: &source.path,
        resolved: false,
        lines: source
            .text
            .lines()
            .zip(1..)
            .map(|(text, number)| written(report, &source.path, text, number))
            .collect(),
    });
    let resolved = File {
        path: &report.scenario.path,
        resolved: true,
        lines: report
            .resolved
            .iter()
            .map(|one| match &one.at {
                Some(at) => line(report, &one.text, |it| it.at.as_ref() == Some(at)),
                None => line(report, &one.text, |_| false),
            })
            .collect(),
    };
    let resolved = (!resolved.lines.is_empty()).then_some(resolved);
    resolved.into_iter().chain(files).collect()
}

/// A line of a user's file.
fn written<'a>(report: &'a Report, path: &str, text: &'a str, number: u32) -> Line<'a> {
    line(report, text, |verdict| {
        let at = verdict.at.as_ref();
        // Values of `--set` are sources of one name, so the line itself has to be the one.
        let is_this = || {
            verdict
                .excerpt
                .as_deref()
                .is_none_or(|it| it.trim() == text.trim())
        };
        at.is_some_and(|at| at.file == path && at.line == number) && is_this()
    })
}

/// A line with what the verdicts on it come to.
fn line<'a>(report: &'a Report, text: &'a str, is_on_it: impl Fn(&Verdict) -> bool) -> Line<'a> {
    let verdicts = report.verdicts.iter();
    let here: Vec<&Verdict> = verdicts.filter(|verdict| is_on_it(verdict)).collect();
    let count = |status| {
        here.iter()
            .filter(|verdict| verdict.status == status)
            .count()
    };
    let worst = [
        VerdictStatus::Fail,
        VerdictStatus::Inconclusive,
        VerdictStatus::Pass,
        VerdictStatus::Skipped,
    ]
    .into_iter()
    .find(|status| count(*status) > 0);
    Line {
        text: if text.is_empty() { " " } else { text },
        status: worst.map_or("", VerdictStatus::name),
        said: worst.map_or(String::new(), |status| {
            format!(
                "{} {} of {} {}",
                wording::mark(status),
                count(status),
                here.len(),
                status.name()
            )
        }),
    }
}
