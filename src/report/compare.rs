//! Two or more reports side by side: each number that both have, the difference with its interval, and what may be said of it.
//!
//! The intervals of one comparison hold together: with 95 % confidence all of them cover what they are of (Bonferroni), so that
//! many metrics give no more false alarms than one. The spread of a number comes from its repeats where there are three or more,
//! else from the tenths of its window (`verdict::spread`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Cell, Report, Stage, StageNumbers};
use super::told::{Told, higher_is_better, is_simulated, sent_alike, survivors, tripped};
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
    /// The first side has a number to hold the other against, and the other has none that can be held against it.
    #[serde(default)]
    pub lost: bool,
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
    /// The difference as a share of the first side's value, with its interval. No quantity falls by more than all of it.
    pub fn relative(&self) -> Option<(f64, [f64; 2])> {
        let base = self.base.filter(|base| *base > 0.0)?;
        let [low, high] = self.interval?;
        Some((
            self.difference? / base,
            [(low / base).max(-1.0), high / base],
        ))
    }
}

impl Comparison {
    /// Rows of which this is said.
    pub fn count(&self, finding: Finding) -> usize {
        self.counts.get(finding.name()).copied().unwrap_or(0)
    }

    /// Rows of what the first side has and another has lost.
    pub fn lost(&self) -> usize {
        self.rows.iter().filter(|row| row.lost).count()
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
            let first = Seen {
                who: "the first run",
                report: base,
                cell,
                stage,
            };
            let whole = |apart: Apart| Unjudged {
                row: Row {
                    finding: Finding::NotComparable,
                    reason: Some(apart.reason),
                    lost: apart.lost,
                    ..first.row(side, "", "")
                },
                spread: None,
            };
            let with = partner
                .ok_or_else(|| first.without("the other run has no such cell"))
                .and_then(|there| beside(&first, other, there));
            match with {
                Ok(with) => match first.unanswered(&with) {
                    Some(apart) => {
                        rows.extend(first.beside(&with, side, "error_rate"));
                        rows.push(whole(apart));
                    }
                    None => {
                        let told = STATISTICS.iter();
                        rows.extend(told.filter_map(|name| first.beside(&with, side, name)));
                    }
                },
                Err(apart) => rows.push(whole(apart)),
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

/// Why two stages say nothing about each other.
struct Apart {
    reason: String,
    /// The first has numbers, so what it has is lost in the other.
    lost: bool,
}

/// A stage on one side.
#[derive(Clone, Copy)]
struct Seen<'a> {
    who: &'static str,
    report: &'a Report,
    cell: &'a Cell,
    stage: &'a Stage,
}

impl Seen<'_> {
    fn numbers(&self) -> Option<&StageNumbers> {
        self.stage.numbers.as_ref()
    }

    fn is_answered(&self) -> bool {
        self.numbers().is_some_and(|numbers| numbers.ok > 0)
    }

    /// Why its numbers say nothing: there are none, or a guard tripped.
    fn doubt(&self) -> Option<String> {
        let who = self.who;
        if self.numbers().is_none() {
            let mut runs = self.cell.runs.iter();
            let why = runs.find_map(|run| run.reason.as_deref());
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            return Some(format!("{who} has no numbers of it{why}"));
        }
        let guard = tripped(self.report, self.cell, self.stage)?;
        Some(format!("{} tripped in {who}: {}", guard.id, guard.message))
    }

    /// It has nothing beside it, for this reason.
    fn without(&self, reason: impl Into<String>) -> Apart {
        Apart {
            reason: reason.into(),
            lost: !self.report.smoke && self.is_answered() && self.doubt().is_none(),
        }
    }

    /// One of the two had no answer: of its numbers the share of failures alone is one.
    fn unanswered(&self, with: &Seen<'_>) -> Option<Apart> {
        let silent = [self, with].into_iter().find(|one| !one.is_answered())?;
        Some(self.without(format!("no request of {} was answered", silent.who)))
    }

    /// A row about a statistic of it.
    fn row(&self, side: usize, statistic: &str, unit: &str) -> Row {
        let better = match statistic {
            "" => "",
            name if higher_is_better(name) => "higher",
            _ => "lower",
        };
        Row {
            side,
            cell: self.cell.id.clone(),
            interface: wording::interface_of(self.report, &self.cell.backend).to_owned(),
            stage: self.stage.name.clone(),
            statistic: statistic.to_owned(),
            unit: unit.to_owned(),
            better: better.to_owned(),
            base: None,
            other: None,
            difference: None,
            interval: None,
            finding: Finding::NotComparable,
            reason: None,
            lost: false,
        }
    }
}

/// The other side's stage, or why the two say nothing about each other.
fn beside<'a>(first: &Seen<'_>, other: &'a Report, there: &'a Cell) -> Result<Seen<'a>, Apart> {
    let base = first.report;
    if base.metrics != other.metrics {
        return Err(first.without(format!(
            "metrics are defined otherwise: version {} and {}",
            base.metrics, other.metrics
        )));
    }
    let with = there.stages.iter().find(|one| one.name == first.stage.name);
    let with = Seen {
        who: "the other run",
        report: other,
        cell: there,
        stage: with.ok_or_else(|| first.without("the other run has no such stage"))?,
    };
    if first.cell.digest != there.digest {
        let reason = "what is sent differs: the digests of the cells are not the same";
        return Err(first.without(reason));
    }
    if !there.was_asked(with.stage) {
        return Err(Apart {
            reason: "the search of the other run had no need to try it".to_owned(),
            lost: false,
        });
    }
    // Of an engine that was never reached nothing else is known.
    for side in [first, &with] {
        if side.numbers().is_none() {
            return Err(first.without(side.doubt().unwrap_or_default()));
        }
    }
    if is_simulated(base, first.cell) != is_simulated(other, there) {
        return Err(first.without("one is simulated, the other measured"));
    }
    let interfaces =
        [first, &with].map(|side| wording::interface_of(side.report, &side.cell.backend));
    if interfaces[0] != interfaces[1] {
        return Err(first.without(
            "one engine is asked over HTTP, the other has no server: measure them in one scenario, with \
             `allow_mixed_interface: true`",
        ));
    }
    if base.smoke || other.smoke {
        return Err(
            first.without("a smoke run shows that a scenario works, not how an engine performs")
        );
    }
    if !base.imported.is_empty() || !other.imported.is_empty() {
        sent_alike(first.stage, with.stage).map_err(|reason| first.without(reason))?;
    }
    // A share of failures stays one, whatever a guard says of the load.
    if first.is_answered() != with.is_answered() {
        return Ok(with);
    }
    for side in [first, &with] {
        if !side.is_answered() {
            return Err(first.without(format!("no request of {} was answered", side.who)));
        }
        if let Some(doubt) = side.doubt() {
            return Err(first.without(doubt));
        }
    }
    Ok(with)
}

/// What differs between two runs besides their numbers.
fn differences((first, base): (&str, &Report), (label, other): (&str, &Report)) -> Vec<String> {
    let gpus = |report: &Report| {
        let names = report.environment.gpus.iter().map(|gpu| gpu.name.as_str());
        let names: Vec<&str> = names.collect();
        if names.is_empty() {
            "none seen".to_owned()
        } else {
            names.join(", ")
        }
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
    let host = |report: &Report| {
        let name = report.environment.host.name.clone();
        name.unwrap_or_else(|| "not known".to_owned())
    };
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

impl Seen<'_> {
    /// One statistic on both sides, where both have it.
    fn beside(&self, with: &Seen<'_>, side: usize, statistic: &str) -> Option<Unjudged> {
        let told = [self, with].map(|seen| Told::of(seen.stage, statistic));
        let [Some(one), Some(another)] = told else {
            return None;
        };
        let spread = if statistic == "error_rate" {
            shares(self.stage, with.stage).map(Spread::Shares)
        } else {
            let errors = self.error(&one);
            let lost = errors.is_ok();
            let both = errors.and_then(|first| Ok(Spread::Errors([first, with.error(&another)?])));
            both.map_err(|reason| Apart { reason, lost })
        };
        let (spread, apart) = match spread {
            Ok(spread) => (Some(spread), None),
            Err(apart) => (None, Some(apart)),
        };
        let row = Row {
            base: Some(one.value),
            other: Some(another.value),
            difference: Some(another.value - one.value),
            lost: apart.as_ref().is_some_and(|apart| apart.lost),
            reason: apart.map(|apart| apart.reason),
            ..self.row(side, statistic, &one.unit)
        };
        Some(Unjudged { row, spread })
    }

    /// How sure a statistic of all requests is.
    fn error(&self, told: &Told) -> Result<(f64, f64), String> {
        match survivors(self.report, self.cell, self.stage) {
            Some(failed) => Err(format!("in {} {failed}", self.who)),
            None => told.error(),
        }
    }
}

/// Failed requests and all that were asked, on both sides.
fn shares(stage: &Stage, with: &Stage) -> Result<[(u64, u64); 2], Apart> {
    let counts = |stage: &Stage| {
        let numbers = stage.numbers.as_ref()?;
        let asked = numbers.planned.saturating_sub(numbers.unsent);
        (asked > 0).then_some((numbers.failed, asked))
    };
    let (one, another) = (counts(stage), counts(with));
    let lost = one.is_some();
    one.zip(another)
        .map(|(one, another)| [one, another])
        .ok_or_else(|| Apart {
            reason: "no requests".to_owned(),
            lost,
        })
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
