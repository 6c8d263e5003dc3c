//! Phrases that several renderers share.

use serde::Serialize;

use super::model::{
    Cell, External, Metric, Report, SearchTry, StageNumbers, Status, Verdict, VerdictRepeat,
    VerdictStatus,
};
use crate::units::trim_float;

/// `✓`, `✗`, `?` or `–`.
pub(super) fn mark(status: VerdictStatus) -> &'static str {
    match status {
        VerdictStatus::Pass => "✓",
        VerdictStatus::Fail => "✗",
        VerdictStatus::Inconclusive => "?",
        VerdictStatus::Skipped => "–",
    }
}

/// What others know a file of the scenario by: its path in its repository; `None` of what is no file, but a value of the
/// command line.
pub(super) fn in_repository<'a>(report: &'a Report, file: &'a str) -> Option<&'a str> {
    let source = report.sources.iter().find(|source| source.path == file);
    source.map_or(Some(file), |source| source.in_repository.as_deref())
}

/// The verdict in full, under its message: the quoted line of the user's file, repeats, neighbouring statistics, advice.
pub(super) fn details(report: &Report, verdict: &Verdict) -> String {
    let mut lines = Vec::new();
    match (&verdict.at, &verdict.excerpt) {
        (Some(at), Some(excerpt)) => {
            lines.push(format!(
                "  --> {}:{}:{}   ({}{})",
                in_repository(report, &at.file).unwrap_or(&at.file),
                at.line,
                at.col,
                verdict.id,
                verdict
                    .override_index
                    .map(|index| format!(", override {}", index + 1))
                    .unwrap_or_default()
            ));
            lines.push(format!("   |  {excerpt}"));
        }
        _ => lines.push(format!("   {}: {}", verdict.id, verdict.text)),
    }
    lines.extend(repeats(verdict).map(|line| format!("   {line}")));
    if let Some(line) = neighbouring_statistics(report, verdict) {
        lines.push(format!("   {line}"));
    }
    let failures = failures_behind(report, verdict);
    lines.extend(failures.iter().map(|line| format!("   {line}")));
    if verdict.count == "ok" {
        lines.push("   over answered requests alone".to_owned());
    }
    if let Some(advice) = &verdict.advice {
        lines.push(format!("   advice: {advice}"));
    }
    if let Some(rerun) = &verdict.rerun {
        lines.push(format!("   rerun: {rerun}"));
    }
    lines.join("\n")
}

/// `p50 401  p90 822  p99 1490 ms   error rate 0.1%`, of the metric that the verdict is about.
fn neighbouring_statistics(report: &Report, verdict: &Verdict) -> Option<String> {
    let numbers = numbers(report, verdict.cell.as_ref()?, verdict.stage.as_ref()?)?;
    let name: String = verdict
        .normal
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let judged = match verdict.clock.as_deref() {
        Some("intended") => numbers.metrics.get(&format!("{name}_intended")),
        _ => None,
    };
    let metric = judged.or_else(|| numbers.metrics.get(&name))?;
    let mut said: Vec<String> = ["p50", "p90", "p95", "p99"]
        .iter()
        .filter_map(|stat| {
            let value = metric.stats.get(*stat)?;
            Some(format!("{stat} {}", rounded(*value)))
        })
        .collect();
    if said.is_empty() {
        return None;
    }
    said.push(metric.unit.clone());
    let mut line = said.join("  ");
    if let Some(rate) = numbers
        .metrics
        .get("error_rate")
        .and_then(|metric| statistic(metric, "value"))
    {
        line.push_str(&format!("   error rate {}", percent(rate)));
    }
    Some(line)
}

/// The numbers of a stage of a cell.
pub(super) fn numbers<'a>(report: &'a Report, cell: &str, stage: &str) -> Option<&'a StageNumbers> {
    let cell = report.cells.iter().find(|one| one.id == cell)?;
    let stage = cell.stages.iter().find(|one| one.name == stage)?;
    stage.numbers.as_ref()
}

/// Why a stage of a cell has no numbers; `None` of a run that goes on, where they may still come.
pub(super) fn no_data(cell: &Cell, over: bool) -> Option<String> {
    let ended = cell.runs.iter().find_map(|run| run.reason.clone());
    ended.or_else(|| over.then(|| "no request of it was sent".to_owned()))
}

/// What each of several repeats gave, and which of them is judged: `repeats 1012ms · 998ms · 1043ms, judged by the 1st`.
pub(super) fn repeats(verdict: &Verdict) -> Option<String> {
    let told = |repeat: &VerdictRepeat| match &repeat.observed {
        Some(observed) => observed.text.clone(),
        None => repeat.status.name().to_owned(),
    };
    let values: Vec<String> = verdict.repeats.iter().map(told).collect();
    let (first, others) = values
        .split_first()
        .filter(|(_, others)| !others.is_empty())?;
    let judges = |repeat: &&VerdictRepeat| {
        repeat.status == verdict.status && repeat.observed == verdict.observed
    };
    let judge = verdict.repeats.iter().find(judges);
    let judge = judge.filter(|_| others.iter().any(|other| other != first));
    let judge = judge.map_or(String::new(), |one| {
        format!(", judged by repeat {}", one.repeat + 1)
    });
    Some(format!("repeats {}{judge}", values.join(" · ")))
}

/// What the latencies of open-loop stages in the table of results count from, where there are any.
pub(super) fn planned_instants(report: &Report) -> Option<&'static str> {
    let mut stages = report.cells.iter().flat_map(|cell| &cell.stages);
    stages
        .any(|stage| stage.measured && stage.open_loop && stage.numbers.is_some())
        .then_some("open loop: TTFT and E2E count from the planned instant")
}

/// A statistic; of flows and rates the one value is also their mean.
pub(super) fn statistic(metric: &Metric, stat: &str) -> Option<f64> {
    let named = metric.stats.get(stat);
    let only = || match stat {
        "value" => metric.stats.get("mean"),
        "mean" => metric.stats.get("value"),
        _ => None,
    };
    named.or_else(only).copied()
}

/// A statistic with its unit: `312ms`, `1.49s`, `97%`, `381 W`.
pub(super) fn quantity(metric: &Metric, stat: &str) -> Option<String> {
    Some(in_unit(statistic(metric, stat)?, &metric.unit))
}

/// A value in a canonical unit; shares have none.
pub(super) fn in_unit(value: f64, unit: &str) -> String {
    with_unit(rounded(value * scale(unit)), unit)
}

/// A share is told in percent.
fn scale(unit: &str) -> f64 {
    if matches!(unit, "" | "%") { 100.0 } else { 1.0 }
}

fn with_unit(number: String, unit: &str) -> String {
    match unit {
        "" => format!("{number}%"),
        "%" | "ms" | "s" => format!("{number}{unit}"),
        unit => format!("{number} {unit}"),
    }
}

/// `353.2ms to 379.1ms`: as many digits as the value has that it is about, and rounded outward, so that what lies in it lies
/// in what is told.
pub(super) fn interval([low, high]: [f64; 2], unit: &str, digits: i32) -> String {
    let told = |end: f64, outward: fn(f64) -> f64| {
        with_unit(to_digits(end * scale(unit), digits, outward), unit)
    };
    format!("{} to {}", told(low, f64::floor), told(high, f64::ceil))
}

/// Three significant digits, and all digits of a whole number: `0.00412`, `4.12`, `41.2`, `412`, `4123`.
pub(super) fn rounded(value: f64) -> String {
    to_digits(value, 3, f64::round)
}

/// So many significant digits, and all digits of a whole number.
fn to_digits(value: f64, digits: i32, to_whole: fn(f64) -> f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return trim_float(value);
    }
    let magnitude = value.abs().log10().floor() as i32;
    let behind = (digits - 1 - magnitude).clamp(0, 9);
    let factor = 10f64.powi(behind);
    let scaled = value * factor;
    // What is whole but for the last bits of a float is rounded to no neighbour.
    let near = scaled.round();
    let whole = if (scaled - near).abs() < 1e-9 * near.abs() {
        near
    } else {
        to_whole(scaled)
    };
    trim_float(whole / factor)
}

/// A share for people: `0.1%`, `97%`.
pub(super) fn percent(share: f64) -> String {
    format!("{}%", rounded(share * 100.0))
}

/// A margin: `+12%` beyond the bound, `−25%` inside it.
pub(super) fn signed_percent(margin: f64) -> String {
    let sign = if margin > 0.0 { "+" } else { "−" };
    format!("{sign}{}", percent(margin.abs()))
}

/// What makes the cells of a report differ: `vllm/chat` where all have the same model and load.
pub(super) fn short_ids(report: &Report) -> Vec<String> {
    let parts: [fn(&Cell) -> &str; 4] = [
        |cell| &cell.backend,
        |cell| &cell.model,
        |cell| &cell.prompts,
        |cell| &cell.load,
    ];
    let differing: Vec<_> = parts
        .into_iter()
        .filter(|part| {
            report
                .cells
                .windows(2)
                .any(|pair| part(&pair[0]) != part(&pair[1]))
        })
        .collect();
    report
        .cells
        .iter()
        .map(|cell| {
            let name = if differing.is_empty() {
                cell.backend.clone()
            } else {
                let said: Vec<&str> = differing.iter().map(|part| part(cell)).collect();
                said.join("/")
            };
            marked(report, &name, &cell.backend)
        })
        .collect()
}

/// What stands above the engines' own benchmarks.
pub(super) const EXTERNAL: &str = "the engines' own benchmarks: their load, their definitions; not to be compared with the numbers above";

/// What each engine's own benchmark says, in a line: `vllm/llama8b: output_tps 410, rps 3.2, ttft_ms_p50 172`.
pub(super) fn external(report: &Report) -> Vec<String> {
    let line = |series: &External| {
        let said: Vec<String> = match &series.problem {
            Some(problem) => vec![problem.lines().next().unwrap_or_default().to_owned()],
            None => series
                .values
                .iter()
                .map(|(name, value)| format!("{name} {}", rounded(*value)))
                .collect(),
        };
        format!("{}/{}: {}", series.backend, series.model, said.join(", "))
    };
    report.external.iter().map(line).collect()
}

/// How an engine is asked that speaks this API: `http`, or `offline` of one without a server.
pub(super) fn interface(api: &str) -> &'static str {
    match api {
        "offline" => "offline",
        _ => "http",
    }
}

/// How the engine of a backend is asked.
pub(super) fn interface_of(report: &Report, backend: &str) -> &'static str {
    let mut engines = report.environment.engines.iter();
    let engine = engines.find(|engine| engine.backend == backend);
    interface(engine.map_or("", |engine| &engine.api))
}

/// What is said of a backend, with a mark where it has no server: its numbers do not mean the same as those of one that has.
pub(super) fn marked(report: &Report, name: &str, backend: &str) -> String {
    match interface_of(report, backend) {
        "offline" => format!("{name} (offline)"),
        _ => name.to_owned(),
    }
}

/// The id of a cell, marked.
pub(super) fn marked_id(report: &Report, id: &str) -> String {
    let cell = report.cells.iter().find(|cell| cell.id == id);
    cell.map_or_else(|| id.to_owned(), |cell| marked(report, id, &cell.backend))
}

/// The ids of a verdict's cells, each marked.
pub(super) fn marked_ids(report: &Report, verdict: &Verdict, between: &str) -> String {
    let ids: Vec<String> = verdict
        .cells
        .iter()
        .map(|id| marked_id(report, id))
        .collect();
    ids.join(between)
}

/// What was not alike between backends that stand side by side, each difference once:
/// `context length: 4096 (vllm), 8192 (sglang)`.
pub(super) fn unfair(report: &Report) -> Vec<String> {
    let backend = |id: &str| {
        let mut cells = report.cells.iter();
        let cell = cells.find(|cell| cell.id == id);
        cell.map_or_else(|| id.to_owned(), |cell| cell.backend.clone())
    };
    let mut lines: Vec<String> = Vec::new();
    for comparison in &report.fairness {
        for fact in comparison.facts.iter().filter(|fact| fact.differs) {
            let values = comparison.cells.iter().zip(&fact.values);
            let said: Vec<String> = values
                .map(|(cell, value)| {
                    let value = value.as_deref().unwrap_or("not known");
                    format!("{value} ({})", backend(cell))
                })
                .collect();
            let line = format!("{}: {}", fact.what, said.join(", "));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// The cells of a verdict by what makes them differ.
pub(super) fn short_cells(report: &Report, verdict: &Verdict) -> String {
    let cells = report.cells.iter().zip(short_ids(report));
    let said: Vec<String> = cells
        .filter(|(cell, _)| verdict.cells.contains(&cell.id))
        .map(|(_, short)| short)
        .collect();
    said.join(", ")
}

/// How long something took: `42 s`, `16 min 12 s`, `2 h 42 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{} s", rounded(seconds)),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Kinds of failures that are told of each stage.
const KINDS: usize = 3;

/// What went wrong in the measured stages of a cell, one line for each kind in each stage:
/// `errors vllm/c16: connect_failed ×66632 (Connection refused), from 5s to the end`.
pub(super) fn failures(cell: &Cell, short: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let stages = cell.stages.iter().filter(|stage| stage.measured);
    for stage in stages {
        let place = format!("{short}/{}", stage.name);
        for kind in stage.failures.iter().take(KINDS) {
            let said = kind.first_message.as_ref();
            let said = said.map_or(String::new(), |text| format!(" ({text})"));
            let end = if kind.to_the_end {
                "to the end".to_owned()
            } else {
                format!("to {}s", rounded(kind.last_s))
            };
            lines.push(format!(
                "errors {place}: {} ×{}{said}, from {}s {end}",
                kind.outcome,
                kind.count,
                rounded(kind.first_s)
            ));
        }
        match stage.failures.len().saturating_sub(KINDS) {
            0 => {}
            1 => lines.push(format!("errors {place}: and 1 more kind")),
            more => lines.push(format!("errors {place}: and {more} more kinds")),
        }
    }
    lines
}

/// The same of the stage of a verdict that failed because requests did.
fn failures_behind(report: &Report, verdict: &Verdict) -> Vec<String> {
    let rate = ["error_rate", "errors"]
        .iter()
        .any(|name| verdict.normal.starts_with(name));
    let infinite = verdict
        .observed
        .as_ref()
        .is_some_and(|seen| seen.value.is_none());
    if verdict.status != VerdictStatus::Fail || !(rate || infinite) {
        return Vec::new();
    }
    let cells = report.cells.iter().zip(short_ids(report));
    cells
        .filter(|(cell, _)| verdict.cells.contains(&cell.id))
        .flat_map(|(cell, short)| {
            let mut cell = cell.clone();
            if let Some(stage) = &verdict.stage {
                cell.stages.retain(|one| one.name == *stage);
            }
            failures(&cell, &short)
        })
        .collect()
}

/// The marks that every output of a simulated, shortened or interrupted run carries.
pub(super) fn labels(report: &Report) -> String {
    let mut labels = Vec::new();
    if !report.imported.is_empty() {
        labels.push("imported");
    }
    if report.simulated {
        labels.push("simulated");
    }
    if report.smoke {
        labels.push("smoke");
    }
    if report.status == Status::Interrupted {
        labels.push("interrupted");
    }
    labels.join(" · ")
}

/// `1 failed · 2 inconclusive · 31 passed · 1 skipped · 2 warnings`, without what is zero.
pub(super) fn tally(report: &Report) -> String {
    let (slos, guards) = (&report.counts.slos, &report.counts.guards);
    let interrupted = report.status == Status::Interrupted;
    let open = |count: u32| if interrupted { 0 } else { count };
    let unjudged = if interrupted {
        slos.inconclusive + slos.skipped
    } else {
        0
    };
    let said: Vec<String> = [
        (slos.fail, "failed"),
        (open(slos.inconclusive), "inconclusive"),
        (slos.pass, "passed"),
        (open(slos.skipped), "skipped"),
        (unjudged, "SLOs not judged"),
        (guards.fail + guards.inconclusive, "guard tripped"),
        (slos.warnings + guards.warnings, "warnings"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| match (*word, *count) {
        ("warnings", 1) => "1 warning".to_owned(),
        ("SLOs not judged", 1) => "1 SLO not judged".to_owned(),
        ("guard tripped", count) if count > 1 => format!("{count} guards tripped"),
        (word, count) => format!("{count} {word}"),
    })
    .collect();
    said.join(" · ")
}

/// What the runner says of itself, in one line.
pub(super) fn client(report: &Report) -> Option<String> {
    let client = report.client.as_ref()?;
    let mut said = Vec::new();
    if let Some(busiest) = client.worker_cpu_max {
        said.push(format!(
            "{:.0} % of {} worker{}",
            busiest * 100.0,
            client.worker_cpu.len(),
            if client.worker_cpu.len() == 1 {
                ""
            } else {
                "s"
            }
        ));
    }
    if let Some(lag) = client.read_lag_ms.p99 {
        said.push(format!("lag p99 {}", time(lag)));
    }
    said.push(format!("{} stamps", client.stamp_source));
    Some(said.join(", "))
}

/// Milliseconds for people: `377 µs`, `1.4 ms`.
pub(super) fn time(ms: f64) -> String {
    if ms < 1.0 {
        format!("{} µs", rounded(ms * 1e3))
    } else {
        format!("{} ms", rounded(ms))
    }
}

/// The guards in one line: each with its mark, and with its value where there is only one.
pub(super) fn guards(report: &Report) -> Option<String> {
    let mut ids: Vec<&str> = Vec::new();
    for verdict in report.verdicts.iter().filter(|verdict| verdict.guard) {
        if !ids.contains(&verdict.id.as_str()) {
            ids.push(&verdict.id);
        }
    }
    let said: Vec<String> = ids.iter().map(|id| guard(report, id)).collect();
    (!said.is_empty()).then(|| said.join("  "))
}

fn guard(report: &Report, id: &str) -> String {
    let name = id.trim_start_matches("guard:");
    let all: Vec<&Verdict> = report
        .verdicts
        .iter()
        .filter(|verdict| verdict.id == id && verdict.status != VerdictStatus::Skipped)
        .collect();
    let tripped: Vec<&&Verdict> = all
        .iter()
        .filter(|verdict| verdict.status != VerdictStatus::Pass)
        .collect();
    let value = |verdict: &Verdict| {
        verdict
            .observed
            .as_ref()
            .map(|observed| format!(" {}", observed.text))
            .unwrap_or_default()
    };
    match (tripped.as_slice(), all.as_slice()) {
        ([], []) => format!("{name} –"),
        ([], [only]) => format!("{name}{} ✓", value(only)),
        ([], _) => format!("{name} ✓"),
        ([first, ..], [_]) => format!("{name}{} {}", value(first), mark(first.status)),
        ([first, ..], all) => format!(
            "{name} {} {} of {}",
            mark(first.status),
            tripped.len(),
            all.len()
        ),
    }
}

/// What one search has found, in words.
#[derive(Serialize)]
pub(super) struct Searched {
    /// What was searched for, where, and what came of it.
    pub(super) heading: String,
    /// Each level that was tried, lowest first.
    pub(super) tries: Vec<TriedLevel>,
}

/// One level that a search tried, in words.
#[derive(Serialize)]
pub(super) struct TriedLevel {
    pub(super) status: VerdictStatus,
    pub(super) mark: &'static str,
    /// `held`, `broke` or `not told`.
    pub(super) said: &'static str,
    /// The level with its unit, as wide as the others.
    pub(super) level: String,
    /// What did not hold.
    pub(super) why: String,
}

/// What searches have found in the first repeat of each cell; verdicts tell of the others.
pub(super) fn searches(report: &Report) -> Vec<Searched> {
    let cells = report.cells.iter().zip(short_ids(report));
    let runs = cells.flat_map(|(cell, id)| {
        let searched = cell
            .runs
            .iter()
            .filter_map(|run| Some((run, run.search.as_ref()?)));
        searched.map(move |(run, search)| (cell, id.clone(), run, search))
    });
    runs.map(|(cell, id, run, search)| {
        let unit = &search.unit;
        let answer = search
            .capacity
            .map(|capacity| format!("{} {unit}", trim_float(capacity)));
        let told = search.tries.iter().all(|tried| tried.held.is_some());
        let answer = match (search.end.as_str(), answer) {
            ("ceiling", Some(answer)) => format!("at least {answer}: the range ends there"),
            ("found", Some(answer)) => answer,
            ("out_of_time", Some(answer)) => format!("at least {answer}: the time was used up"),
            ("floor", _) if told => "none: not even the lowest level holds".to_owned(),
            (_, Some(answer)) => format!("{answer} so far"),
            (_, None) => "not told".to_owned(),
        };
        let repeat = match run.repeat {
            0 => String::new(),
            repeat => format!(" repeat {}", repeat + 1),
        };
        let mut tries: Vec<&SearchTry> = search.tries.iter().collect();
        tries.sort_by(|a, b| a.level.total_cmp(&b.level));
        let width = tries
            .iter()
            .map(|tried| trim_float(tried.level).len())
            .max()
            .unwrap_or(0);
        Searched {
            heading: format!(
                "capacity of {id}, load {}, {}{repeat}: {answer}",
                cell.load, search.range
            ),
            tries: (tries.iter())
                .map(|tried| {
                    let (status, said) = match tried.held {
                        Some(true) => (VerdictStatus::Pass, "held"),
                        Some(false) => (VerdictStatus::Fail, "broke"),
                        None => (VerdictStatus::Inconclusive, "not told"),
                    };
                    TriedLevel {
                        status,
                        mark: mark(status),
                        said,
                        level: format!("{:>width$} {unit}", trim_float(tried.level)),
                        why: tried.why.join(", "),
                    }
                })
                .collect(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_whole_numbers_all_of_theirs() {
        let said = [0.0041234, 4.1234, 41.234, 412.34, 4123.4, 0.0, 120.0].map(rounded);
        assert_eq!(said, ["0.00412", "4.12", "41.2", "412", "4123", "0", "120"]);
    }

    #[test]
    fn an_interval_is_rounded_outward_and_holds_its_value() {
        assert_eq!(interval([353.456, 379.01], "ms", 4), "353.4ms to 379.1ms");
        assert_eq!(interval([0.25, 0.3], "", 4), "25% to 30%");
        assert_eq!(interval([0.0, 5.5555], "req/s", 3), "0 req/s to 5.56 req/s");
    }
}
