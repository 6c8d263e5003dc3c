//! Two or more reports side by side: each number that both have, the difference with its interval, and what may be said of it.
//!
//! The intervals of one comparison hold together: with 95 % confidence all of them cover what they are of (Bonferroni), so that
//! many metrics give no more false alarms than one. The spread of a number comes from its repeats where there are three or more,
//! else from the tenths of its window (`verdict::spread`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Cell, Report, Stage};
use super::told::{Told, error_guard_failed, higher_is_better, is_simulated, sent_alike, tripped};
use super::wording;
use crate::verdict::statistics::student_quantile;

/// The name and version of the format, the first key of the file.
pub const SCHEMA: &str = "scenario.comparison/v1";

/// The statistics that are compared, in the order of tables.
pub const STATISTICS: [&str; 10] = [
    "ttft.p50",
    "ttft.p95",
    "e2e.p50",
    "e2e.p95",
    "tpot.p50",
    "tpot.p95",
    "output_tps",
    "rps",
    "goodput",
    "error_rate",
];
/// How often all intervals of a comparison are to hold at once.
const CONFIDENCE: f64 = 0.95;

/// What a comparison of reports says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// `scenario.comparison/v1`.
    pub schema: String,
    /// The reports; all others are compared with the first.
    pub sides: Vec<Side>,
    /// What else differs between them, and may be the cause.
    pub notes: Vec<String>,
    /// How often all intervals hold at once, 0 to 1.
    pub confidence: f64,
    /// Intervals that hold together.
    pub intervals: usize,
    /// Cell × stage × statistic, in the order of the first report.
    pub rows: Vec<Row>,
    /// Rows by what is said of them.
    pub counts: BTreeMap<String, usize>,
}

/// One of the reports that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// How it is called here.
    pub label: String,
    /// The scenario's name.
    pub scenario: String,
    /// When its run began, RFC 3339.
    pub started: String,
    /// How its run ended.
    pub status: String,
    /// It comes from the embedded simulator.
    pub simulated: bool,
}

/// One statistic of one stage on two sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Index of the side that is compared with the first.
    pub side: usize,
    /// The cell of the first.
    pub cell: String,
    /// How its engine is asked: `http`, or `offline` of one without a server.
    #[serde(default)]
    pub interface: String,
    /// The stage.
    pub stage: String,
    /// `ttft.p95`, `output_tps` …; empty when the whole stage cannot be compared.
    pub statistic: String,
    /// The unit; shares are fractions with an empty unit.
    pub unit: String,
    /// Which way is better: `lower` or `higher`.
    pub better: String,
    /// The first side's value.
    pub base: Option<f64>,
    /// The other side's value.
    pub other: Option<f64>,
    /// Other − base.
    pub difference: Option<f64>,
    /// The interval of the difference; all intervals of the comparison hold together.
    pub interval: Option<[f64; 2]>,
    /// What may be said.
    pub finding: Finding,
    /// Why it is not comparable.
    pub reason: Option<String>,
}

/// What may be said of a difference.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The other side is better.
    Better,
    /// The other side is worse.
    Worse,
    /// The interval holds zero: nothing is shown, neither a difference nor that there is none.
    NoDifferenceShown,
    /// The numbers do not say the same thing, or say too little.
    NotComparable,
}

impl Finding {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Finding::Better => "better",
            Finding::Worse => "worse",
            Finding::NoDifferenceShown => "no difference shown",
            Finding::NotComparable => "not comparable",
        }
    }
}

impl Row {
    /// The difference as a share of the first side's value, with its interval.
    pub fn relative(&self) -> Option<(f64, [f64; 2])> {
        let base = self.base.filter(|base| *base > 0.0)?;
        let [low, high] = self.interval?;
        Some((self.difference? / base, [low / base, high / base]))
    }
}

impl Comparison {
    /// Rows of which this is said.
    pub fn count(&self, finding: Finding) -> usize {
        self.counts.get(finding.name()).copied().unwrap_or(0)
    }
}

/// Compares reports with the first of them.
pub fn compare(sides: &[(String, Report)]) -> Comparison {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    if let Some(((first, base), others)) = sides.split_first() {
        for ((label, other), side) in others.iter().zip(1..) {
            rows.extend(rows_of(side, base, other));
            notes.extend(differences((first, base), (label, other)));
        }
    }
    let intervals = rows.iter().filter(|row| row.spread.is_some()).count();
    let rows: Vec<Row> = rows.into_iter().map(|row| row.judged(intervals)).collect();
    let mut counts = BTreeMap::new();
    for row in &rows {
        *counts.entry(row.finding.name().to_owned()).or_default() += 1;
    }
    Comparison {
        schema: SCHEMA.to_owned(),
        sides: sides
            .iter()
            .map(|(label, report)| Side {
                label: label.clone(),
                scenario: report.scenario.name.clone(),
                started: report.started.clone(),
                status: report.status.name().to_owned(),
                simulated: report.simulated,
            })
            .collect(),
        notes,
        confidence: CONFIDENCE,
        intervals,
        rows,
        counts,
    }
}

// ---- what stands beside what ------------------------------------------------------------------------------------------

/// A row before it is known how many intervals have to hold together.
struct Unjudged {
    row: Row,
    spread: Option<Spread>,
}

fn rows_of(side: usize, base: &Report, other: &Report) -> Vec<Unjudged> {
    let mut rows = Vec::new();
    for cell in &base.cells {
        let partner = partner(cell, base, other);
        let asked = |stage: &&Stage| stage.measured && cell.was_asked(stage);
        for stage in cell.stages.iter().filter(asked) {
            let whole = |reason: String| Unjudged {
                row: Row {
                    side,
                    cell: cell.id.clone(),
                    interface: wording::interface_of(base, &cell.backend).to_owned(),
                    stage: stage.name.clone(),
                    statistic: String::new(),
                    unit: String::new(),
                    better: String::new(),
                    base: None,
                    other: None,
                    difference: None,
                    interval: None,
                    finding: Finding::NotComparable,
                    reason: Some(reason),
                },
                spread: None,
            };
            let Some(there) = partner else {
                rows.push(whole("the other run has no such cell".to_owned()));
                continue;
            };
            match alike((base, cell, stage), (other, there)) {
                Ok(with) => {
                    rows.extend(statistics(side, (base, cell, stage), (other, there, with)))
                }
                Err(reason) => rows.push(whole(reason)),
            }
        }
    }
    rows
}

/// The cell of the same id; where each report has one backend alone, its name does not matter.
fn partner<'a>(cell: &Cell, base: &Report, other: &'a Report) -> Option<&'a Cell> {
    let one_backend = |report: &Report| {
        let mut cells = report.cells.iter();
        cells.all(|cell| cell.backend == report.cells[0].backend)
    };
    let same = other.cells.iter().find(|there| there.id == cell.id);
    same.or_else(|| {
        let alone = one_backend(base) && one_backend(other);
        other.cells.iter().find(|there| {
            alone
                && (&there.model, &there.prompts, &there.load)
                    == (&cell.model, &cell.prompts, &cell.load)
        })
    })
}

/// The other side's stage, or why the two say nothing about each other.
fn alike<'a>(
    (base, cell, stage): (&Report, &Cell, &Stage),
    (other, there): (&Report, &'a Cell),
) -> Result<&'a Stage, String> {
    if base.metrics != other.metrics {
        return Err(format!(
            "metrics are defined otherwise: version {} and {}",
            base.metrics, other.metrics
        ));
    }
    if is_simulated(base, cell) != is_simulated(other, there) {
        return Err("one is simulated, the other measured".to_owned());
    }
    let interfaces = [(base, cell), (other, there)]
        .map(|(report, cell)| wording::interface_of(report, &cell.backend));
    if interfaces[0] != interfaces[1] {
        return Err(
            "one engine is asked over HTTP, the other has no server: measure them in one scenario, with \
             `allow_mixed_interface: true`"
                .to_owned(),
        );
    }
    if base.smoke || other.smoke {
        return Err(
            "a smoke run shows that a scenario works, not how an engine performs".to_owned(),
        );
    }
    if cell.digest != there.digest {
        return Err("what is sent differs: the digests of the cells are not the same".to_owned());
    }
    let with = there.stages.iter().find(|one| one.name == stage.name);
    let with = with.ok_or("the other run has no such stage")?;
    if !base.imported.is_empty() || !other.imported.is_empty() {
        sent_alike(stage, with)?;
    }
    for (which, report, cell, stage) in [
        ("the first run", base, cell, stage),
        ("the other run", other, there, with),
    ] {
        let numbers = stage.numbers.as_ref();
        let numbers = numbers.ok_or_else(|| format!("{which} has no numbers of it"))?;
        if numbers.ok == 0 {
            return Err(format!("no request of {which} was answered"));
        }
        if let Some(guard) = tripped(report, cell, stage) {
            return Err(format!(
                "{} tripped in {which}: {}",
                guard.id, guard.message
            ));
        }
    }
    Ok(with)
}

/// What differs between two runs besides their numbers.
fn differences((first, base): (&str, &Report), (label, other): (&str, &Report)) -> Vec<String> {
    let gpus = |report: &Report| {
        let names = report.environment.gpus.iter().map(|gpu| gpu.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let engines = |report: &Report| {
        let engines = report.environment.engines.iter();
        let told = engines.map(|engine| {
            format!(
                "{} {}",
                engine.kind,
                engine.version.as_deref().unwrap_or("of an unknown version")
            )
        });
        told.collect::<Vec<_>>().join(", ")
    };
    let host = |report: &Report| report.environment.host.name.clone().unwrap_or_default();
    [
        ("GPUs", gpus(base), gpus(other)),
        ("engines", engines(base), engines(other)),
        ("client's machine", host(base), host(other)),
        ("scenario", base.tool.clone(), other.tool.clone()),
        ("seed", base.seed.to_string(), other.seed.to_string()),
    ]
    .into_iter()
    .filter(|(_, one, another)| one != another)
    .map(|(what, one, another)| format!("{what}: {first} {one}; {label} {another}"))
    .collect()
}

// ---- numbers ---------------------------------------------------------------------------------------------------------

/// How sure a difference is.
enum Spread {
    /// Standard errors and their degrees of freedom, of the first side and of the other.
    Errors([(f64, f64); 2]),
    /// Hits and trials of a share on both sides.
    Shares([(u64, u64); 2]),
}

fn statistics(
    side: usize,
    (base, cell, stage): (&Report, &Cell, &Stage),
    (other, there, with): (&Report, &Cell, &Stage),
) -> Vec<Unjudged> {
    let survivors = [(base, cell, stage), (other, there, with)]
        .iter()
        .any(|(report, cell, stage)| error_guard_failed(report, cell, stage));
    let told = STATISTICS.iter().filter_map(|statistic| {
        let (one, another) = (Told::of(stage, statistic)?, Told::of(with, statistic)?);
        let mut row = Row {
            side,
            cell: cell.id.clone(),
            interface: wording::interface_of(base, &cell.backend).to_owned(),
            stage: stage.name.clone(),
            statistic: (*statistic).to_owned(),
            unit: one.unit.clone(),
            better: if higher_is_better(statistic) {
                "higher"
            } else {
                "lower"
            }
            .to_owned(),
            base: Some(one.value),
            other: Some(another.value),
            difference: Some(another.value - one.value),
            interval: None,
            finding: Finding::NotComparable,
            reason: None,
        };
        let spread = if survivors && *statistic != "error_rate" {
            Err("too many requests failed: the numbers are those of the survivors".to_owned())
        } else if *statistic == "error_rate" {
            shares(stage, with)
        } else {
            one.error()
                .and_then(|first| Ok(Spread::Errors([first, another.error()?])))
        };
        let spread = spread.map_err(|reason| row.reason = Some(reason)).ok();
        Some(Unjudged { row, spread })
    });
    told.collect()
}

fn shares(stage: &Stage, with: &Stage) -> Result<Spread, String> {
    let counts = |stage: &Stage| {
        let numbers = stage.numbers.as_ref();
        numbers.map(|numbers| (numbers.failed, numbers.planned - numbers.unsent))
    };
    match (counts(stage), counts(with)) {
        (Some(one), Some(another)) if one.1 > 0 && another.1 > 0 => {
            Ok(Spread::Shares([one, another]))
        }
        _ => Err("no requests".to_owned()),
    }
}

impl Unjudged {
    fn judged(self, intervals: usize) -> Row {
        let mut row = self.row;
        let (Some(spread), Some(difference)) = (self.spread, row.difference) else {
            return row;
        };
        let tail = (1.0 - CONFIDENCE) / 2.0 / intervals as f64;
        let [low, high] = match spread {
            Spread::Errors(errors) => around(difference, errors, tail),
            Spread::Shares(shares) => between_shares(shares, tail),
        };
        row.interval = Some([low, high]);
        let higher = row.better == "higher";
        row.finding = match (low > 0.0, high < 0.0) {
            (true, _) if higher => Finding::Better,
            (_, true) if !higher => Finding::Better,
            (false, false) => Finding::NoDifferenceShown,
            _ => Finding::Worse,
        };
        row
    }
}

/// Welch's interval of a difference.
fn around(difference: f64, errors: [(f64, f64); 2], tail: f64) -> [f64; 2] {
    let variances = errors.map(|(error, _)| error * error);
    let whole = variances[0] + variances[1];
    if whole == 0.0 {
        return [difference, difference];
    }
    let freedom = whole * whole
        / (variances[0] * variances[0] / errors[0].1 + variances[1] * variances[1] / errors[1].1);
    let reach = student_quantile(tail, freedom) * whole.sqrt();
    [difference - reach, difference + reach]
}

/// Newcombe's interval of a difference of shares, from Wilson's of each.
fn between_shares([one, another]: [(u64, u64); 2], tail: f64) -> [f64; 2] {
    let z = student_quantile(tail, 1e7);
    let wilson = |(hits, n): (u64, u64)| {
        let (n, share) = (n as f64, hits as f64 / n as f64);
        let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let reach =
            z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
        (share, middle - reach, middle + reach)
    };
    let ((a, a_low, a_high), (b, b_low, b_high)) = (wilson(one), wilson(another));
    let difference = b - a;
    [
        difference - ((b - b_low).powi(2) + (a_high - a).powi(2)).sqrt(),
        difference + ((b_high - b).powi(2) + (a - a_low).powi(2)).sqrt(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_differ_when_their_intervals_say_so() {
        // Newcombe 1998, table II: 56/70 − 48/80 has the 95 % interval 0.0524 to 0.3339.
        let [low, high] = between_shares([(48, 80), (56, 70)], 0.025);
        assert!((low - 0.0524).abs() < 5e-4 && (high - 0.3339).abs() < 5e-4);
        let [low, high] = between_shares([(0, 100), (0, 100)], 0.025);
        assert!(low < 0.0 && high > 0.0);
    }

    #[test]
    fn a_difference_is_as_wide_as_its_errors() {
        let [low, high] = around(10.0, [(3.0, 9.0), (4.0, 9.0)], 0.025);
        // 5 · t(16.7) = 5 · 2.113.
        assert!((high - low - 2.0 * 10.56).abs() < 0.02, "{low} {high}");
        assert_eq!(around(0.0, [(0.0, 9.0), (0.0, 9.0)], 0.025), [0.0, 0.0]);
    }
}
