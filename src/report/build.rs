//! Plan, observations, measurements and verdicts become the one [`Report`] that every renderer reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::environment;
use super::model::{
    Broken, Category, Cell, CellRun, CellStatus, Client, Counts, Environment, Event, Failures, Lag,
    Metric, Place, Reason, Report, ResolvedLine, SCHEMA, Scenario, SearchResult, SearchTry,
    SourceFile, Stage, StageNumbers, StageRepeat, StateCounts, Status, Value, Verdict,
    VerdictRepeat, VerdictStatus,
};
use super::ranking;
use super::rerun::Ids;
use super::wording::{percent, rounded};
use crate::assertion::{Better, find};
use crate::diagnostic::{Sources, Span};
use crate::observation::{
    CellResult, ClientFacts, Ending, LagHistogram, NotRun, Observations, Outcome, RequestRecord,
    StampSource,
};
use crate::plan::{self, Count, Level, Plan, StartClock};
use crate::verdict::search::Held;
use crate::verdict::{self, MetricStats, RepeatVerdict, StageMeasurements, State};

/// Everything that a report is built from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What was to happen.
    pub plan: &'a Plan,
    /// The texts that verdicts quote.
    pub sources: &'a Sources,
    /// What is said of each SLO and guard.
    pub verdicts: &'a [verdict::Verdict],
    /// What searches for the capacity have found.
    pub searches: &'a verdict::Searches,
    /// The numbers of each stage in each repeat.
    pub measurements: &'a [StageMeasurements],
    /// Each run of a cell, in the order of execution.
    pub runs: &'a [CellResult],
    /// The runner's machine and its GPUs; engines are filled in from the runs.
    pub environment: &'a Environment,
    /// How the run ended, as an exit code sees it.
    pub ending: RunEnding,
    /// When the run began, RFC 3339.
    pub started: &'a str,
    /// How long it took.
    pub duration: Duration,
    /// The command line, program first.
    pub command: &'a [String],
    /// The tool's version.
    pub tool: &'a str,
}

/// How a run ended and what may soften its exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunEnding {
    /// The exit code of the signal that stopped it: 130 or 143.
    pub interrupted: Option<u8>,
    /// `--inconclusive=warn`.
    pub inconclusive_is_warning: bool,
    /// `--exit-zero`.
    pub exit_zero: bool,
}

/// The report of a run.
pub fn build(inputs: &Inputs) -> Report {
    let plan = inputs.plan;
    let verdicts: Vec<Verdict> = inputs
        .verdicts
        .iter()
        .map(|verdict| verdict_of(inputs, verdict))
        .collect();
    let status = status_of(inputs);
    let exit_code = exit_code(status, inputs.ending);
    let cells: Vec<Cell> = (0..plan.cells.len())
        .map(|index| cell_of(inputs, index))
        .collect();
    let environment = environment::of(inputs);
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        status,
        exit_code,
        metrics: 1,
        tool: inputs.tool.to_owned(),
        simulated: environment.engines.iter().any(|engine| engine.simulated),
        smoke: plan.smoke,
        imported: Vec::new(),
        plan_digest: plan.digest.clone(),
        seed: plan.seed,
        repeats: plan.repeats,
        started: inputs.started.to_owned(),
        duration_s: inputs.duration.as_secs_f64(),
        command: inputs.command.to_vec(),
        scenario: Scenario {
            path: plan.path.clone(),
            name: plan.name.clone(),
            description: plan.description.clone(),
            owner: plan.owner.clone(),
        },
        environment,
        fairness: environment::fairness(inputs),
        external: environment::external(inputs),
        client: worst_client(cells.iter().flat_map(|cell| &cell.runs)),
        cells,
        counts: counts(&verdicts),
        verdicts,
        ranking: None,
        sources: inputs
            .sources
            .iter()
            .map(|source| SourceFile {
                path: source.path.display().to_string(),
                in_repository: source.in_repository.clone(),
                text: source.text.to_string(),
            })
            .collect(),
        resolved: inputs
            .sources
            .composed()
            .iter()
            .map(|(text, written)| ResolvedLine {
                text: text.clone(),
                at: written.map(|span| place(inputs.sources, span)),
            })
            .collect(),
    };
    report.ranking = ranking::rank(&report, &ranking::default_weights());
    report
}

/// How the run ended: what the verdicts come to, unless a signal stopped it.
fn status_of(inputs: &Inputs) -> Status {
    if inputs.ending.interrupted.is_some() {
        return Status::Interrupted;
    }
    match verdict::status(inputs.verdicts, inputs.runs) {
        verdict::Status::Passed => Status::Passed,
        verdict::Status::Failed => Status::Failed,
        verdict::Status::Inconclusive => Status::Inconclusive,
        verdict::Status::Measured => Status::Measured,
    }
}

/// The exit code of a status, softened as the command line asks.
fn exit_code(status: Status, ending: RunEnding) -> u8 {
    let code = match status {
        Status::Interrupted => return ending.interrupted.unwrap_or(130),
        Status::Failed => 1,
        Status::Inconclusive if ending.inconclusive_is_warning => 0,
        Status::Inconclusive => 3,
        Status::Passed | Status::Measured => 0,
    };
    if ending.exit_zero { 0 } else { code }
}

fn counts(verdicts: &[Verdict]) -> Counts {
    let mut counts = Counts::default();
    for verdict in verdicts {
        let side = if verdict.guard {
            &mut counts.guards
        } else {
            &mut counts.slos
        };
        *counter(side, verdict) += 1;
    }
    counts
}

fn counter<'a>(counts: &'a mut StateCounts, verdict: &Verdict) -> &'a mut u32 {
    match (verdict.status, verdict.level.as_str()) {
        (VerdictStatus::Pass, _) => &mut counts.pass,
        (VerdictStatus::Skipped, _) => &mut counts.skipped,
        (VerdictStatus::Fail | VerdictStatus::Inconclusive, "warn") => &mut counts.warnings,
        (VerdictStatus::Fail, _) => &mut counts.fail,
        (VerdictStatus::Inconclusive, _) => &mut counts.inconclusive,
    }
}

// ---- cells -----------------------------------------------------------------------------------------------------------

fn cell_of(inputs: &Inputs, index: usize) -> Cell {
    let planned = &inputs.plan.cells[index];
    let runs = inputs
        .runs
        .iter()
        .zip(0..)
        .filter(|(run, _)| run.run().cell == index)
        .map(|(run, order)| CellRun {
            search: search_of(inputs, run),
            ..cell_run_of(run, order)
        })
        .collect();
    let stages = planned
        .stages
        .iter()
        .enumerate()
        .map(|(at, stage)| stage_of(inputs, (index, at), stage))
        .collect();
    Cell {
        id: planned.id.clone(),
        backend: planned.backend.id.clone(),
        model: planned.model.key.clone(),
        prompts: planned.prompts.clone(),
        load: planned.load.clone(),
        digest: planned.digest.clone(),
        sent: environment::sent(inputs, index),
        runs,
        stages,
    }
}

fn cell_run_of(run: &CellResult, order: u32) -> CellRun {
    match run {
        CellResult::Measured(seen) => {
            let (status, reason) = match &seen.ending {
                Ending::Complete => (CellStatus::Complete, None),
                Ending::Aborted(id) => (CellStatus::Aborted, Some(format!("aborted by {id}"))),
                Ending::Interrupted => (CellStatus::Interrupted, Some("interrupted".to_owned())),
                Ending::Budget => (
                    CellStatus::Budget,
                    Some("the budget of the run was reached".to_owned()),
                ),
                Ending::EngineDied(text) => (CellStatus::EngineDied, Some(text.clone())),
            };
            CellRun {
                repeat: seen.repeat,
                order,
                status,
                reason,
                wall_anchor: Some(seen.wall_anchor),
                events: seen.events.iter().map(event_of).collect(),
                client: Some(client_of(seen)),
                search: None,
            }
        }
        CellResult::NotRun(run, why) => {
            let (status, reason) = match why {
                NotRun::NotReady(text) => (CellStatus::NotReady, text.clone()),
                NotRun::OptionalNotReady(text) | NotRun::Budget(text) => {
                    (CellStatus::Skipped, text.clone())
                }
                NotRun::Interrupted => (CellStatus::Skipped, "interrupted".to_owned()),
                NotRun::Lost(text) => (CellStatus::Lost, text.clone()),
            };
            CellRun {
                repeat: run.repeat,
                order,
                status,
                reason: Some(reason),
                wall_anchor: None,
                events: Vec::new(),
                client: None,
                search: None,
            }
        }
    }
}

fn search_of(inputs: &Inputs, run: &CellResult) -> Option<SearchResult> {
    let cell = inputs.plan.cells.get(run.run().cell)?;
    let search = cell.search.as_ref()?;
    let found = inputs.searches.get(&(run.run().cell, run.run().repeat))?;
    let end = match found.step {
        plan::Step::Found => "found",
        plan::Step::Ceiling => "ceiling",
        plan::Step::Floor => "floor",
        plan::Step::OutOfTime => "out_of_time",
        plan::Step::Try(_) => "unfinished",
    };
    let tries = found.tries.iter().map(|tried| {
        let (held, why) = match &tried.held {
            Held::Yes => (Some(true), Vec::new()),
            Held::No(why) => (Some(false), why.clone()),
            Held::Untold(why) => (None, vec![why.clone()]),
        };
        SearchTry {
            stage: cell.stages[tried.stage].name.clone(),
            level: tried.level,
            held,
            why,
        }
    });
    Some(SearchResult {
        range: search.range.clone(),
        unit: found.unit.to_owned(),
        capacity: found.capacity,
        broke: found.broke,
        end: end.to_owned(),
        tries: tries.collect(),
    })
}

fn event_of(event: &crate::observation::NotableEvent) -> Event {
    Event {
        at_s: event.at.as_secs(),
        kind: event.kind.to_owned(),
        text: event.text.clone(),
    }
}

fn client_of(seen: &Observations) -> Client {
    let ClientFacts {
        stamp_source,
        stamps_missing,
        read_lag_ns,
        stamp_error_ns,
        shared_events,
        output_events,
        worker_cpu,
        connections_opened,
    } = &seen.client;
    let sent = seen.records.iter().filter(|r| r.dispatched.is_some());
    let first_tokens = seen.records.iter().filter(|r| r.first_token.is_some());
    Client {
        stamp_source: match stamp_source {
            StampSource::Kernel => "kernel",
            StampSource::Read => "read",
        }
        .to_owned(),
        stamps_missing: *stamps_missing,
        read_lag_ms: lag_of(read_lag_ns),
        stamp_error_ms: lag_of(stamp_error_ns),
        shared_events: share(*shared_events, *output_events),
        shared_first_tokens: share_of(first_tokens, |r| r.first_token_shared),
        worker_cpu: worker_cpu.clone(),
        worker_cpu_max: worker_cpu.iter().copied().reduce(f64::max),
        connections_opened: *connections_opened,
        reused_connections: share_of(sent, |r| r.reused),
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn share_of<T>(all: impl Iterator<Item = T>, is_part: impl Fn(&T) -> bool) -> Option<f64> {
    let (part, whole) = all.fold((0, 0), |(part, whole), item| {
        (part + u64::from(is_part(&item)), whole + 1)
    });
    share(part, whole)
}

fn lag_of(lags: &LagHistogram) -> Lag {
    let ms = |ns: u64| ns as f64 / 1e6;
    Lag {
        p50: lags.quantile(0.5).map(ms),
        p99: lags.quantile(0.99).map(ms),
        max: (lags.count() > 0).then(|| ms(lags.max())),
    }
}

/// Of each fact the worst over all runs, so that one line can vouch for all of them.
fn worst_client<'a>(runs: impl Iterator<Item = &'a CellRun>) -> Option<Client> {
    runs.filter_map(|run| run.client.clone())
        .reduce(|mut worst, next| {
            if next.stamp_source == "read" {
                worst.stamp_source = next.stamp_source;
            }
            if next.worker_cpu_max > worst.worker_cpu_max {
                worst.worker_cpu = next.worker_cpu;
                worst.worker_cpu_max = next.worker_cpu_max;
            }
            worst.stamps_missing += next.stamps_missing;
            worst.read_lag_ms = worst_lag(worst.read_lag_ms, next.read_lag_ms);
            worst.stamp_error_ms = worst_lag(worst.stamp_error_ms, next.stamp_error_ms);
            worst.shared_events = larger(worst.shared_events, next.shared_events);
            worst.shared_first_tokens = larger(worst.shared_first_tokens, next.shared_first_tokens);
            worst.connections_opened += next.connections_opened;
            worst.reused_connections = match (worst.reused_connections, next.reused_connections) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            worst
        })
}

fn worst_lag(one: Lag, other: Lag) -> Lag {
    Lag {
        p50: larger(one.p50, other.p50),
        p99: larger(one.p99, other.p99),
        max: larger(one.max, other.max),
    }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

// ---- stages ----------------------------------------------------------------------------------------------------------

fn stage_of(inputs: &Inputs, (cell, index): (usize, usize), planned: &plan::Stage) -> Stage {
    let mut repeats: Vec<StageRepeat> = inputs
        .measurements
        .iter()
        .filter(|measured| measured.cell == cell && measured.stage == index)
        .map(|measured| StageRepeat {
            repeat: measured.repeat,
            numbers: if planned.measured {
                numbers_of(measured)
            } else {
                counted(inputs, measured)
            },
        })
        .collect();
    repeats.sort_by_key(|repeat| repeat.repeat);
    let numbers = match repeats.as_slice() {
        [] => None,
        [only] => Some(only.numbers.clone()),
        several => Some(median_of(several)),
    };
    if inputs.plan.repeats <= 1 {
        repeats.clear();
    }
    Stage {
        name: planned.name.clone(),
        measured: planned.measured,
        open_loop: is_open_loop(&inputs.plan.cells[cell], index),
        users: planned.users,
        rate: planned.rate.map(|rate| rate.per_second()),
        prompts_reused: planned.prompts_reused,
        failures: failures(inputs, (cell, index), planned.measured),
        numbers,
        repeats,
    }
}

/// Whether the requests of a stage leave at planned instants: then latencies count from those.
pub fn is_open_loop(cell: &plan::Cell, stage: usize) -> bool {
    let schedule = verdict::slice::schedule(cell, stage);
    matches!(schedule, Some(plan::Schedule::Open { .. }))
}

/// The requests of a stage in each run of its cell. The unmeasured ones that keep a measured level up are in no count.
fn requests<'a>(
    inputs: &Inputs<'a>,
    (cell, stage): (usize, usize),
    measured: bool,
) -> impl Iterator<Item = (u32, &'a RequestRecord)> {
    inputs
        .runs
        .iter()
        .filter_map(CellResult::observations)
        .filter(move |seen| seen.cell == cell)
        .flat_map(|seen| seen.records.iter().map(|record| (seen.repeat, record)))
        .filter(move |(_, record)| record.stage == stage && record.measured == measured)
}

/// What was sent in an unmeasured stage: measuring leaves its requests out.
fn counted(inputs: &Inputs, measured: &StageMeasurements) -> StageNumbers {
    let mut numbers = StageNumbers {
        unsent: measured.counts.unsent,
        ..numbers_of(measured)
    };
    let records = requests(inputs, (measured.cell, measured.stage), false);
    for (_, record) in records.filter(|(repeat, _)| *repeat == measured.repeat) {
        numbers.sent += u64::from(record.dispatched.is_some());
        match record.outcome {
            Outcome::Ok => numbers.ok += 1,
            Outcome::Cut => numbers.cut += 1,
            Outcome::Dropped => numbers.dropped += 1,
            _ => {
                numbers.failed += 1;
                let name = record.outcome.name().to_owned();
                *numbers.outcomes.entry(name).or_default() += 1;
            }
        }
    }
    numbers.planned = numbers.ok + numbers.failed + numbers.cut + numbers.dropped + numbers.unsent;
    numbers
}

/// The failures of a stage by kind, most frequent first.
fn failures(inputs: &Inputs, stage: (usize, usize), measured: bool) -> Vec<Failures> {
    let mut kinds: Vec<Failures> = Vec::new();
    for (_, record) in requests(inputs, stage, measured) {
        let at = record.finished.as_secs();
        if record.outcome == Outcome::Ok {
            kinds.iter_mut().for_each(|kind| kind.to_the_end = false);
        }
        if !record.outcome.is_failure() {
            continue;
        }
        let name = record.outcome.name();
        let known = kinds.iter().position(|kind| kind.outcome == name);
        let known = known.unwrap_or_else(|| {
            kinds.push(Failures {
                outcome: name.to_owned(),
                count: 0,
                first_message: said(record),
                first_s: at,
                last_s: at,
                to_the_end: true,
            });
            kinds.len() - 1
        });
        let kind = &mut kinds[known];
        kind.count += 1;
        kind.first_s = kind.first_s.min(at);
        kind.last_s = kind.last_s.max(at);
        kind.to_the_end = true;
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
    kinds
}

/// Longer messages are cut.
const MESSAGE: usize = 120;

/// What a failed request was told, on one short line.
fn said(record: &RequestRecord) -> Option<String> {
    let text = super::requests::error_text(&record.outcome).unwrap_or_default();
    let first = text.lines().map(str::trim).find(|line| line.len() > 1);
    let first: String = first
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let status = match record.outcome {
        Outcome::Refused { status, .. } => format!("HTTP {status}: "),
        _ => String::new(),
    };
    let said = format!("{status}{first}");
    let said = said.trim_end_matches([':', ' ']);
    if said.is_empty() {
        return None;
    }
    let mut short: String = said.chars().take(MESSAGE).collect();
    if short.len() < said.len() {
        short.pop();
        short.push('…');
    }
    Some(short)
}

fn numbers_of(measured: &StageMeasurements) -> StageNumbers {
    let counts = &measured.counts;
    StageNumbers {
        planned: counts.planned,
        sent: counts.sent,
        ok: counts.ok,
        failed: counts.failed,
        cut: counts.cut,
        dropped: counts.dropped,
        unsent: counts.unsent,
        outcomes: counts.outcomes.iter().cloned().collect(),
        window_s: measured.window.map(|(from, to)| [from, to]),
        duration_s: measured.duration.as_secs_f64(),
        metrics: metrics_of(&measured.metrics),
        categories: measured
            .categories
            .iter()
            .map(|(name, metrics)| Category {
                name: name.clone(),
                metrics: metrics_of(metrics),
            })
            .collect(),
        books: measured.books,
        tenths: measured
            .spreads
            .iter()
            .map(|spread| (spread.statistic.clone(), spread.parts.clone()))
            .collect(),
        compat: measured
            .compat
            .iter()
            .map(|(tool, values)| ((*tool).to_owned(), values.iter().cloned().collect()))
            .collect(),
    }
}

fn metrics_of(metrics: &[MetricStats]) -> BTreeMap<String, Metric> {
    metrics
        .iter()
        .map(|stats| (stats.metric.clone(), metric_of(stats)))
        .collect()
}

fn metric_of(stats: &MetricStats) -> Metric {
    Metric {
        kind: find(&stats.metric)
            .map_or("", |metric| metric.kind.name())
            .to_owned(),
        unit: stats.unit.to_owned(),
        n: stats.n,
        undefined: stats.undefined,
        estimator: stats.estimator.to_owned(),
        intervals: stats
            .intervals
            .iter()
            .filter(|(_, low, high)| low.is_finite() && high.is_finite())
            .map(|&(name, low, high)| (name.to_owned(), [low, high]))
            .collect(),
        stats: stats
            .stats
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|&(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// Sums of the counts and medians of the statistics over repeats.
pub(super) fn median_of(repeats: &[StageRepeat]) -> StageNumbers {
    let all: Vec<&StageNumbers> = repeats.iter().map(|repeat| &repeat.numbers).collect();
    let sum = |count: fn(&StageNumbers) -> u64| all.iter().map(|one| count(one)).sum();
    let mut outcomes = BTreeMap::new();
    for (name, count) in all.iter().flat_map(|one| &one.outcomes) {
        *outcomes.entry(name.clone()).or_default() += count;
    }
    let names: Vec<&String> = all
        .iter()
        .flat_map(|one| one.categories.iter().map(|category| &category.name))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let categories = names
        .into_iter()
        .map(|name| Category {
            name: name.clone(),
            metrics: median_metrics(
                &all.iter()
                    .flat_map(|one| &one.categories)
                    .filter(|category| category.name == *name)
                    .map(|category| &category.metrics)
                    .collect::<Vec<_>>(),
            ),
        })
        .collect();
    StageNumbers {
        planned: sum(|one| one.planned),
        sent: sum(|one| one.sent),
        ok: sum(|one| one.ok),
        failed: sum(|one| one.failed),
        cut: sum(|one| one.cut),
        dropped: sum(|one| one.dropped),
        unsent: sum(|one| one.unsent),
        outcomes,
        window_s: None,
        duration_s: all.iter().map(|one| one.duration_s).sum(),
        metrics: median_metrics(&all.iter().map(|one| &one.metrics).collect::<Vec<_>>()),
        categories,
        books: all.iter().fold(None, |worst, one| larger(worst, one.books)),
        tenths: BTreeMap::new(),
        compat: BTreeMap::new(),
    }
}

fn median_metrics(repeats: &[&BTreeMap<String, Metric>]) -> BTreeMap<String, Metric> {
    let names: BTreeSet<&String> = repeats.iter().flat_map(|metrics| metrics.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let seen: Vec<&Metric> = repeats
                .iter()
                .filter_map(|metrics| metrics.get(name))
                .collect();
            (name.clone(), median_metric(name, &seen))
        })
        .collect()
}

/// The median of each statistic; of an even number of repeats, the worse of the middle two.
fn median_metric(name: &str, repeats: &[&Metric]) -> Metric {
    let first = repeats[0];
    let lower_is_worse = find(name).is_some_and(|metric| metric.better == Better::Higher);
    let names: BTreeSet<&String> = repeats.iter().flat_map(|one| one.stats.keys()).collect();
    Metric {
        kind: first.kind.clone(),
        unit: first.unit.clone(),
        n: repeats.iter().map(|one| one.n).sum(),
        undefined: repeats.iter().map(|one| one.undefined).sum(),
        estimator: first.estimator.clone(),
        intervals: BTreeMap::new(),
        stats: names
            .into_iter()
            .map(|name| {
                let mut values: Vec<f64> = repeats
                    .iter()
                    .filter_map(|one| one.stats.get(name).copied())
                    .collect();
                values.sort_by(f64::total_cmp);
                let middle = if lower_is_worse {
                    (values.len() - 1) / 2
                } else {
                    values.len() / 2
                };
                (name.clone(), values[middle])
            })
            .collect(),
    }
}

// ---- verdicts --------------------------------------------------------------------------------------------------------

fn verdict_of(inputs: &Inputs, verdict: &verdict::Verdict) -> Verdict {
    let cells: Vec<&plan::Cell> = verdict
        .scope
        .cells
        .iter()
        .filter_map(|&index| inputs.plan.cells.get(index))
        .collect();
    let mut stages: Vec<&str> = cells
        .iter()
        .zip(&verdict.scope.stages)
        .filter_map(|(cell, &index)| cell.stages.get(index))
        .map(|stage| stage.name.as_str())
        .collect();
    stages.dedup();
    let ids: Vec<String> = cells.iter().map(|cell| cell.id.clone()).collect();
    let (status, reason) = state_of(&verdict.state);
    Verdict {
        id: verdict.id.clone(),
        name: verdict.name.clone(),
        guard: verdict.id.starts_with("guard:"),
        text: verdict.text.clone(),
        normal: verdict.normal.clone(),
        cell: only(&ids),
        cells: ids,
        stage: only(&stages).map(str::to_owned),
        scope: narrowing(&verdict.scope),
        status,
        message: message(verdict, reason.as_ref()),
        reason,
        level: match verdict.level {
            Level::Fail => "fail",
            Level::Warn => "warn",
        }
        .to_owned(),
        observed: verdict.observed.as_ref().map(value_of),
        bound: verdict.bound.as_ref().map(value_of),
        margin: finite(verdict.margin),
        detail: verdict.detail.clone(),
        n: verdict.n,
        thin: verdict.thin,
        interval: verdict
            .interval
            .filter(|(low, high)| low.is_finite() && high.is_finite())
            .map(|(low, high)| [low, high]),
        count: match verdict.count {
            Count::All => "all",
            Count::Ok => "ok",
        }
        .to_owned(),
        clock: verdict.clock.map(|clock| {
            match clock {
                StartClock::Intended => "intended",
                StartClock::Sent => "sent",
            }
            .to_owned()
        }),
        override_index: verdict.override_index.map(|index| index as u32),
        excerpt: verdict
            .span
            .map(|span| inputs.sources.line(span).trim().to_owned()),
        at: verdict.span.map(|span| place(inputs.sources, span)),
        broken: verdict.repeats.iter().flat_map(broken_in).collect(),
        repeats: if verdict.repeats.len() > 1 {
            verdict.repeats.iter().map(repeat_of).collect()
        } else {
            Vec::new()
        },
        rerun: rerun(inputs, &cells, status),
        advice: verdict.advice.clone(),
    }
}

fn place(sources: &Sources, span: Span) -> Place {
    let at = sources.locate(span);
    Place {
        file: at.path.display().to_string(),
        line: at.line as u32,
        col: at.column as u32,
    }
}

fn only<T: Clone>(all: &[T]) -> Option<T> {
    match all {
        [one] => Some(one.clone()),
        _ => None,
    }
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

fn state_of(state: &State) -> (VerdictStatus, Option<Reason>) {
    match state {
        State::Pass => (VerdictStatus::Pass, None),
        State::Fail => (VerdictStatus::Fail, None),
        State::Inconclusive(reason) => (
            VerdictStatus::Inconclusive,
            Some(Reason {
                family: Some(reason.family.name().to_owned()),
                text: reason.text.clone(),
            }),
        ),
        State::Skipped(text) => (
            VerdictStatus::Skipped,
            Some(Reason {
                family: None,
                text: text.clone(),
            }),
        ),
    }
}

fn value_of(value: &verdict::Value) -> Value {
    Value {
        value: finite(Some(value.value)),
        unit: value.unit.to_owned(),
        text: value.text.clone(),
    }
}

fn broken_in(repeat: &RepeatVerdict) -> impl Iterator<Item = Broken> {
    repeat.broken.iter().map(|(from, to)| Broken {
        repeat: repeat.repeat,
        from_s: from.as_secs(),
        to_s: to.as_secs(),
    })
}

fn repeat_of(repeat: &RepeatVerdict) -> VerdictRepeat {
    let (status, reason) = state_of(&repeat.state);
    VerdictRepeat {
        repeat: repeat.repeat,
        status,
        reason,
        observed: repeat.observed.as_ref().map(value_of),
        bound: repeat.bound.as_ref().map(value_of),
        margin: finite(repeat.margin),
    }
}

fn narrowing(scope: &plan::Scope) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut say = |dimension: &str, value: String| {
        if !value.is_empty() {
            said.insert(dimension.to_owned(), value);
        }
    };
    say("category", scope.categories.join(","));
    let turns: Vec<String> = scope
        .turns
        .iter()
        .map(|&(from, to)| match to {
            to if to == from => from.to_string(),
            u32::MAX => format!("{from}.."),
            to => format!("{from}..{to}"),
        })
        .collect();
    say("turn", turns.join(","));
    let gpu = if scope.each_gpu {
        "each".to_owned()
    } else {
        scope.gpu.map(|gpu| gpu.to_string()).unwrap_or_default()
    };
    say("gpu", gpu);
    let repeats: Vec<String> = scope.repeats.iter().map(u32::to_string).collect();
    say("repeat", repeats.join(","));
    said
}

/// `P95 TTFT 1012ms, limit < 900ms (+12.4%), n=1421`, or the reason when there is no number.
fn message(verdict: &verdict::Verdict, reason: Option<&Reason>) -> String {
    if let Some(reason) = reason {
        return match &verdict.detail {
            Some(detail) => format!("{}, {detail}", reason.text),
            None => reason.text.clone(),
        };
    }
    let (subject, operator) = subject_and_operator(&verdict.text);
    let mut text = match (&verdict.observed, &verdict.bound) {
        (Some(observed), Some(bound)) => {
            format!(
                "{subject} {}, limit {operator} {}",
                observed.text, bound.text
            )
        }
        (Some(observed), None) => format!("{subject} {}", observed.text),
        _ => verdict.text.clone(),
    };
    if let Some(distance) = distance(verdict, operator) {
        text.push_str(&format!(" ({distance})"));
    }
    if let Some(n) = verdict.n {
        text.push_str(&format!(", n={n}"));
    }
    if verdict.thin {
        text.push_str(", thin");
    }
    if verdict.clock == Some(StartClock::Intended) {
        text.push_str(", from the intended start");
    }
    if let Some(detail) = &verdict.detail {
        text.push_str(&format!(", {detail}"));
    }
    text
}

/// How far the left side lies from the bound in the words of its direction: `25.5% headroom`, `over by 161%`, `short by 17%`;
/// of shares in points, `over by 3.2pp`. `None` where the distance is not what the verdict stands on.
fn distance(verdict: &verdict::Verdict, operator: &str) -> Option<String> {
    let margin = finite(verdict.margin)?;
    let (observed, bound) = (verdict.observed.as_ref()?, verdict.bound.as_ref()?);
    let points = (observed.value - bound.value).abs() * 100.0;
    let amount = if bound.unit.is_empty() && bound.text.ends_with('%') {
        format!("{}pp", rounded(points))
    } else {
        percent(margin.abs())
    };
    let wants_equal = matches!(operator, "==" | "!=");
    match verdict.state {
        State::Pass if margin < 0.0 && !wants_equal => Some(format!("{amount} headroom")),
        State::Fail if margin > 0.0 => Some(match operator {
            ">" | ">=" => format!("short by {amount}"),
            "<" | "<=" => format!("over by {amount}"),
            _ => format!("off by {amount}"),
        }),
        _ => None,
    }
}

/// Splits an assertion as written at its comparison: `P95 TTFT < 500ms` → `("P95 TTFT", "<")`.
fn subject_and_operator(text: &str) -> (&str, &'static str) {
    const OPERATORS: [(&str, &str); 14] = [
        ("<=", "<="),
        (">=", ">="),
        ("==", "=="),
        ("!=", "!="),
        ("≤", "<="),
        ("≥", ">="),
        ("<", "<"),
        (">", ">"),
        (" at most ", "<="),
        (" at least ", ">="),
        (" under ", "<"),
        (" below ", "<"),
        (" over ", ">"),
        (" above ", ">"),
    ];
    OPERATORS
        .iter()
        .filter_map(|&(written, meant)| text.find(written).map(|at| (at, written.len(), meant)))
        // The first in the text; of two at one place the longer, `<=` before `<`.
        .min_by_key(|&(at, length, _)| (at, usize::MAX - length))
        .map_or((text, ""), |(at, _, meant)| (text[..at].trim(), meant))
}

/// The command that runs the cells of a verdict that did not pass again, and nothing else.
fn rerun(inputs: &Inputs, cells: &[&plan::Cell], status: VerdictStatus) -> Option<String> {
    if matches!(status, VerdictStatus::Pass | VerdictStatus::Skipped) || cells.is_empty() {
        return None;
    }
    let all: Vec<Ids> = inputs.plan.cells.iter().map(ids_of).collect();
    let wanted: Vec<Ids> = cells.iter().map(|cell| ids_of(cell)).collect();
    Some(super::rerun::rerun(
        inputs.command,
        &inputs.plan.path,
        &all,
        &wanted,
    ))
}

fn ids_of(cell: &plan::Cell) -> Ids<'_> {
    [&cell.backend.id, &cell.model.key, &cell.prompts, &cell.load]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_is_split_at_its_first_comparison() {
        for (text, expected) in [
            ("P95 TTFT < 500ms", ("P95 TTFT", "<")),
            (
                "sglang.output_tps >= 1.2 * vllm.output_tps",
                ("sglang.output_tps", ">="),
            ),
            ("error rate at most 1%", ("error rate", "<=")),
            ("p(95)≤500", ("p(95)", "<=")),
            ("nothing to split", ("nothing to split", "")),
        ] {
            assert_eq!(subject_and_operator(text), expected);
        }
    }

    #[test]
    fn of_two_repeats_the_worse_is_shown() {
        let metric = |unit: &str, value| Metric {
            kind: "trend".into(),
            unit: unit.into(),
            n: 10,
            undefined: 0,
            estimator: "exact".into(),
            intervals: BTreeMap::new(),
            stats: [("p95".to_owned(), value)].into(),
        };
        let worse = |name, unit, one, other| {
            median_metric(name, &[&metric(unit, one), &metric(unit, other)]).stats["p95"]
        };
        assert_eq!(worse("ttft", "ms", 100.0, 120.0), 120.0);
        assert_eq!(worse("output_tps", "tok/s", 100.0, 120.0), 100.0);
        assert_eq!(worse("goodput_ratio", "", 0.8, 0.9), 0.8);
        assert_eq!(worse("error_rate", "", 0.1, 0.2), 0.2);
    }
}
