//! Results that were found become a report: cells, stages and repeats, and a guard for each check.

use std::collections::BTreeMap;

use super::checks::{Doubt, Told, doubts};
use super::found::{Found, Request};
use super::rebuild;
use crate::assertion::find;
use crate::report::model::{
    Cell, CellRun, CellStatus, Counts, Engine, Environment, Gpu, Imported, Metric, Reason, Report,
    SCHEMA, Scenario, Stage, StageNumbers, StageRepeat, Status, Verdict, VerdictStatus,
};
use crate::report::ranking;
use crate::report::told::IMPORTED;

/// Parts of a list of requests that tell its spread, as of a run of our own.
const PARTS: usize = 10;
/// Answered requests below which they do not.
const FEWEST: usize = 3 * PARTS;

/// The report of these measurements, each with the file that tells it; several of one backend, model, prompt set and load are its repeats.
pub fn build(found: &[(String, Found)], tool: &str, command: &[String]) -> Report {
    let mut cells: Vec<(Cell, Vec<(f64, String)>)> = Vec::new();
    let mut verdicts: Vec<Verdict> = Vec::new();
    let mut repeats: BTreeMap<(String, String), Vec<StageRepeat>> = BTreeMap::new();
    for (file, one) in found {
        let id = cell_id(one);
        if !cells.iter().any(|(cell, _)| cell.id == id) {
            cells.push((cell_of(one, &id), Vec::new()));
        }
        let place = (id.clone(), one.level());
        let known = repeats.entry(place).or_default();
        let repeat = known.len() as u32;
        known.push(StageRepeat {
            repeat,
            numbers: numbers(one),
        });
        if let Some((_, levels)) = cells.iter_mut().find(|(cell, _)| cell.id == id) {
            let level = (load(one), one.level());
            if !levels.contains(&level) {
                levels.push(level);
            }
        }
        verdicts.extend(
            doubts(one)
                .into_iter()
                .map(|doubt| verdict(file, one, repeat, doubt)),
        );
    }
    let cells: Vec<Cell> = cells
        .into_iter()
        .map(|(mut cell, mut levels)| {
            levels.sort_by(|one, other| one.0.total_cmp(&other.0));
            let most = levels
                .iter()
                .map(|(_, name)| repeats[&(cell.id.clone(), name.clone())].len());
            cell.runs = (0..most.max().unwrap_or(0) as u32).map(complete).collect();
            cell.stages = levels
                .iter()
                .map(|(_, name)| {
                    stage(
                        found,
                        &cell.id,
                        name,
                        &repeats[&(cell.id.clone(), name.clone())],
                    )
                })
                .collect();
            cell
        })
        .collect();
    let counts = counts(&verdicts);
    let doubted = counts.guards.inconclusive > 0;
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        status: if doubted {
            Status::Inconclusive
        } else {
            Status::Measured
        },
        exit_code: if doubted { 3 } else { 0 },
        metrics: 1,
        tool: tool.to_owned(),
        simulated: found.iter().any(|(_, one)| one.simulated),
        smoke: false,
        imported: files(found),
        plan_digest: digest(
            &cells
                .iter()
                .map(|cell| cell.digest.as_str())
                .collect::<Vec<_>>()
                .join(" "),
        ),
        seed: 0,
        repeats: cells
            .iter()
            .map(|cell| cell.runs.len() as u32)
            .max()
            .unwrap_or(1),
        started: found
            .iter()
            .find_map(|(_, one)| one.started.clone())
            .unwrap_or_default(),
        duration_s: found.iter().filter_map(|(_, one)| one.duration_s).sum(),
        command: command.to_vec(),
        scenario: Scenario {
            path: found
                .first()
                .map_or(String::new(), |(file, _)| file.clone()),
            name: "imported".to_owned(),
            description: None,
            owner: None,
        },
        environment: environment(found),
        client: None,
        cells,
        verdicts,
        counts,
        ranking: None,
        fairness: Vec::new(),
        external: Vec::new(),
        sources: Vec::new(),
        resolved: Vec::new(),
    };
    report.ranking = ranking::rank(&report, &ranking::default_weights());
    report
}

// ---- cells -----------------------------------------------------------------------------------------------------------

/// `vllm/llama-3.1-8b-instruct/sharegpt/imported`.
fn cell_id(one: &Found) -> String {
    format!(
        "{}/{}/{}/imported",
        key(&one.backend),
        key(short(&one.model)),
        key(&one.prompts)
    )
}

/// The name after the last `/`.
fn short(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

/// A name as ids are written.
fn key(name: &str) -> String {
    let kept = name.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || c == '.' || c == '-' => c.to_ascii_lowercase(),
        _ => '-',
    });
    let key: String = kept.collect();
    let key = key.trim_matches('-');
    if key.is_empty() {
        "unnamed".to_owned()
    } else {
        key.to_owned()
    }
}

fn cell_of(one: &Found, id: &str) -> Cell {
    Cell {
        id: id.to_owned(),
        backend: key(&one.backend),
        model: key(short(&one.model)),
        prompts: key(&one.prompts),
        load: "imported".to_owned(),
        // As far as files tell what was sent.
        digest: digest(&format!(
            "imported {} {} {}",
            one.format.name(),
            one.model,
            one.prompts
        )),
        sent: None,
        runs: Vec::new(),
        stages: Vec::new(),
    }
}

fn digest(text: &str) -> String {
    format!("b3:{}", blake3::hash(text.as_bytes()).to_hex())
}

fn complete(repeat: u32) -> CellRun {
    CellRun {
        repeat,
        order: repeat,
        status: CellStatus::Complete,
        reason: None,
        wall_anchor: None,
        events: Vec::new(),
        client: None,
        search: None,
    }
}

fn load(one: &Found) -> f64 {
    one.users.map(f64::from).or(one.rate).unwrap_or(0.0)
}

fn stage(found: &[(String, Found)], cell: &str, name: &str, repeats: &[StageRepeat]) -> Stage {
    let own = found
        .iter()
        .map(|(_, one)| one)
        .find(|one| cell_id(one) == cell && one.level() == name);
    let several = repeats.len() > 1;
    Stage {
        name: name.to_owned(),
        measured: true,
        // Their latencies count from sending, whatever the load.
        open_loop: false,
        users: own.and_then(|one| one.users),
        rate: own.and_then(|one| one.rate.filter(|_| one.users.is_none())),
        prompts_reused: false,
        numbers: match repeats {
            [only] => Some(only.numbers.clone()),
            several => Some(crate::report::build::median_of(several)),
        },
        failures: Vec::new(),
        repeats: if several {
            repeats.to_vec()
        } else {
            Vec::new()
        },
    }
}

fn numbers(one: &Found) -> StageNumbers {
    let ok = one.ok.unwrap_or(one.planned);
    let failed = one.failed.unwrap_or(0);
    let planned = one.planned.max(ok + failed);
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for (name, stats) in &one.metrics {
        let known = find(name);
        metrics.insert(
            name.clone(),
            Metric {
                kind: known.map_or("", |metric| metric.kind.name()).to_owned(),
                unit: known.map_or("", |metric| metric.unit()).to_owned(),
                n: ok,
                undefined: 0,
                estimator: IMPORTED.to_owned(),
                intervals: BTreeMap::new(),
                stats: stats.clone(),
            },
        );
    }
    retell(one, &mut metrics);
    if let (Some(total), false) = (one.input_tokens, metrics.contains_key("input_tokens")) {
        let mut mean = one_value("trend", "tok", total / ok.max(1) as f64);
        mean.stats = [("mean".to_owned(), total / ok.max(1) as f64)].into();
        metrics.insert("input_tokens".to_owned(), mean);
    }
    let share = |count: u64| count as f64 / (planned.max(1)) as f64;
    if one.failed.is_some() {
        let mut error_rate = one_value("rate", "", share(failed));
        error_rate.n = planned;
        metrics.insert("error_rate".to_owned(), error_rate);
    }
    if let Some(seen) = one.concurrency {
        let mut mean = one_value("gauge", "req", seen);
        mean.stats = [("mean".to_owned(), seen)].into();
        metrics.insert("achieved_concurrency".to_owned(), mean);
    }
    // Nothing was seen of a run in which nothing was answered, whatever zeros its file has.
    if ok == 0 {
        metrics.retain(|name, _| name == "error_rate");
    }
    StageNumbers {
        planned,
        sent: planned,
        ok,
        failed,
        unsent: 0,
        dropped: 0,
        cut: planned - ok - failed,
        outcomes: BTreeMap::new(),
        window_s: None,
        duration_s: one.duration_s.unwrap_or(0.0),
        metrics,
        categories: Vec::new(),
        books: None,
        tenths: tenths(one),
        compat: BTreeMap::new(),
    }
}

/// Percentiles that the file does not tell and that its requests do, by our nearest rank.
fn retell(one: &Found, metrics: &mut BTreeMap<String, Metric>) {
    for (name, value) in LATENCIES {
        let mut values: Vec<f64> = one.requests.iter().filter_map(value).collect();
        let Some(metric) = metrics.get_mut(name).filter(|_| !values.is_empty()) else {
            continue;
        };
        values.sort_by(f64::total_cmp);
        for (stat, per_cent) in [("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)] {
            let known = metric.stats.entry(stat.to_owned());
            known.or_insert_with(|| ranked(&values, per_cent));
        }
    }
}

/// What a latency is in a request.
type Latency = fn(&Request) -> Option<f64>;

const LATENCIES: [(&str, Latency); 3] = [
    ("ttft", |request| request.ttft_ms),
    ("e2e", |request| request.e2e_ms),
    ("tpot", |request| request.tpot_ms),
];

/// The value at the nearest rank; `sorted` is in rising order and not empty.
fn ranked(sorted: &[f64], per_cent: usize) -> f64 {
    sorted[(sorted.len() * per_cent).div_ceil(100).max(1) - 1]
}

fn one_value(kind: &str, unit: &str, value: f64) -> Metric {
    Metric {
        kind: kind.to_owned(),
        unit: unit.to_owned(),
        n: 1,
        undefined: 0,
        estimator: IMPORTED.to_owned(),
        intervals: BTreeMap::new(),
        stats: [("value".to_owned(), value)].into(),
    }
}

// ---- spread ----------------------------------------------------------------------------------------------------------

/// The statistics that are compared in each tenth, where the file has its requests.
fn tenths(one: &Found) -> BTreeMap<String, Vec<f64>> {
    let timed = match one.users {
        Some(users) if one.requests.iter().all(|request| request.start_s.is_none()) => {
            rebuild::with_times(&one.requests, users).map(|(timed, _)| timed)
        }
        _ => Some(one.requests.clone()),
    };
    let mut timed = timed.unwrap_or_default();
    timed.retain(|request| request.start_s.is_some() && request.e2e_ms.is_some());
    if timed.len() < FEWEST {
        return BTreeMap::new();
    }
    let start = |request: &Request| request.start_s.unwrap_or(0.0);
    timed.sort_by(|one, other| start(one).total_cmp(&start(other)));
    let mut told = BTreeMap::new();
    for (metric, value) in LATENCIES {
        let parts: Vec<Vec<f64>> = (0..PARTS)
            .map(|part| {
                let own = timed.iter().enumerate();
                let own = own.filter(|(at, _)| at * PARTS / timed.len() == part);
                let mut values: Vec<f64> = own.filter_map(|(_, request)| value(request)).collect();
                values.sort_by(f64::total_cmp);
                values
            })
            .collect();
        if parts.iter().any(Vec::is_empty) {
            continue;
        }
        for (stat, per_cent) in [("p50", 50), ("p95", 95)] {
            let of_parts = parts.iter().map(|values| ranked(values, per_cent));
            told.insert(format!("{metric}.{stat}"), of_parts.collect());
        }
    }
    told.insert("rps".to_owned(), flow(&timed, |_| 1.0));
    if timed.iter().all(|request| request.output_tokens.is_some()) {
        told.insert(
            "output_tps".to_owned(),
            flow(&timed, |request| request.output_tokens.unwrap_or(0.0)),
        );
    }
    told
}

/// What requests bring per second in each tenth of the time, spread evenly over the time that each of them takes.
fn flow(timed: &[Request], amount: impl Fn(&Request) -> f64) -> Vec<f64> {
    let span = |request: &Request| {
        let from = request.start_s.unwrap_or(0.0);
        (from, from + request.e2e_ms.unwrap_or(0.0) / 1e3)
    };
    let end = timed
        .iter()
        .map(|request| span(request).1)
        .fold(0.0, f64::max);
    let width = end / PARTS as f64;
    let mut parts = vec![0.0; PARTS];
    for request in timed {
        let (from, to) = span(request);
        for (at, part) in parts.iter_mut().enumerate() {
            let begins = at as f64 * width;
            let inside = to.min(begins + width) - from.max(begins);
            if inside > 0.0 {
                *part += amount(request) * inside / (to - from) / width;
            }
        }
    }
    parts
}

// ---- the rest --------------------------------------------------------------------------------------------------------

fn verdict(file: &str, one: &Found, repeat: u32, doubt: Doubt) -> Verdict {
    let cell = cell_id(one);
    let status = match doubt.told {
        Told::Holds => VerdictStatus::Pass,
        Told::Warning | Told::Unbelievable => VerdictStatus::Inconclusive,
    };
    let message = format!("{}: {} ({file})", doubt.about, doubt.message);
    Verdict {
        id: doubt.guard.to_owned(),
        name: format!("{} @{}", doubt.guard, one.level()),
        guard: true,
        text: doubt.about.to_owned(),
        normal: doubt.about.to_owned(),
        cell: Some(cell.clone()),
        cells: vec![cell],
        stage: Some(one.level()),
        scope: match repeat {
            0 => BTreeMap::new(),
            repeat => [("repeat".to_owned(), repeat.to_string())].into(),
        },
        status,
        reason: (status == VerdictStatus::Inconclusive).then(|| Reason {
            family: Some("invalid".to_owned()),
            text: doubt.message.clone(),
        }),
        level: if doubt.told == Told::Warning {
            "warn"
        } else {
            "fail"
        }
        .to_owned(),
        message,
        observed: None,
        bound: None,
        margin: None,
        detail: None,
        n: one.ok,
        thin: false,
        interval: None,
        count: "all".to_owned(),
        clock: None,
        override_index: None,
        at: None,
        excerpt: None,
        broken: Vec::new(),
        repeats: Vec::new(),
        rerun: None,
        advice: None,
    }
}

fn counts(verdicts: &[Verdict]) -> Counts {
    let mut counts = Counts::default();
    for verdict in verdicts {
        match (verdict.status, verdict.level.as_str()) {
            (VerdictStatus::Pass, _) => counts.guards.pass += 1,
            (_, "warn") => counts.guards.warnings += 1,
            _ => counts.guards.inconclusive += 1,
        }
    }
    counts
}

fn files(found: &[(String, Found)]) -> Vec<Imported> {
    let mut files: Vec<Imported> = Vec::new();
    for (file, one) in found {
        if !files.iter().any(|known| known.path == *file) {
            files.push(Imported {
                path: file.clone(),
                format: one.format.name().to_owned(),
                version: one.version.clone(),
            });
        }
    }
    files
}

fn environment(found: &[(String, Found)]) -> Environment {
    let mut environment = Environment::default();
    for (_, one) in found {
        let backend = key(&one.backend);
        if !environment
            .engines
            .iter()
            .any(|engine| engine.backend == backend)
        {
            environment.engines.push(Engine {
                kind: backend.clone(),
                backend,
                url: None,
                api: String::new(),
                version: None,
                models: vec![one.model.clone()],
                context_length: None,
                proxy: None,
                simulated: one.simulated,
                gpus: Vec::new(),
                arguments: None,
                variables: BTreeMap::new(),
                command: None,
                cold_start_s: None,
                log: None,
            });
        }
        let known = |name: &str| environment.gpus.iter().any(|gpu| gpu.name == name);
        if let Some((name, memory)) = one.gpu.as_ref().filter(|(name, _)| !known(name)) {
            environment.gpus.push(Gpu {
                index: environment.gpus.len() as u32,
                name: name.clone(),
                memory_bytes: *memory,
                driver: None,
                cuda: None,
                simulated: one.simulated,
            });
        }
    }
    environment
}
