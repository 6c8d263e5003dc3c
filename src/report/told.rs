//! A statistic of a stage as it is compared and ranked: its value, how sure it is, and what makes it doubtful.

use super::model::{Cell, Report, Stage, StageNumbers, Verdict, VerdictStatus};
use super::wording;
use crate::assertion::{Better, find};

/// Above this share of failed requests the numbers are those of the survivors.
pub(super) const FAILED: f64 = 0.01;
/// How the numbers of other tools' files are estimated: nobody knows.
pub(super) const IMPORTED: &str = "imported";
/// From this many repeats on both sides their values tell the spread.
const REPEATS: usize = 3;

/// A statistic of a stage.
pub(super) struct Told {
    /// Its unit; shares have none.
    pub(super) unit: String,
    /// The mean of the repeats.
    pub(super) value: f64,
    /// It comes from a file of another tool.
    imported: bool,
    /// In each repeat.
    repeats: Vec<f64>,
    /// In each repeat: in each tenth of the window.
    tenths: Vec<Vec<f64>>,
}

impl Told {
    /// The statistic, where the stage has it: latencies of open-loop stages count from the planned instant.
    pub(super) fn of(stage: &Stage, statistic: &str) -> Option<Told> {
        let (name, stat) = statistic.rsplit_once('.').unwrap_or((statistic, "value"));
        let numbers: Vec<&StageNumbers> = if stage.repeats.is_empty() {
            stage.numbers.iter().collect()
        } else {
            stage.repeats.iter().map(|repeat| &repeat.numbers).collect()
        };
        let planned = format!("{name}_intended");
        let is_planned =
            |one: &&StageNumbers| stage.open_loop && one.metrics.contains_key(&planned);
        let metric = if numbers.iter().all(is_planned) {
            planned.as_str()
        } else {
            name
        };
        let path = if statistic.contains('.') {
            format!("{metric}.{stat}")
        } else {
            metric.to_owned()
        };
        let repeats: Vec<f64> = numbers
            .iter()
            .filter_map(|one| wording::statistic(one.metrics.get(metric)?, stat))
            .collect();
        let unit = numbers.iter().find_map(|one| one.metrics.get(metric))?;
        if repeats.is_empty() {
            return None;
        }
        Some(Told {
            unit: unit.unit.clone(),
            imported: unit.estimator == IMPORTED,
            value: repeats.iter().sum::<f64>() / repeats.len() as f64,
            tenths: numbers
                .iter()
                .filter_map(|one| one.tenths.get(&path).cloned())
                .collect(),
            repeats,
        })
    }

    /// The standard error of the value, and its degrees of freedom.
    ///
    /// # Errors
    /// Its spread is unknown: neither repeats nor enough requests tell it.
    pub(super) fn error(&self) -> Result<(f64, f64), String> {
        let repeats = self.repeats.len();
        if repeats >= REPEATS {
            let squares: f64 = self
                .repeats
                .iter()
                .map(|value| (value - self.value).powi(2))
                .sum();
            let freedom = (repeats - 1) as f64;
            return Ok(((squares / freedom / repeats as f64).sqrt(), freedom));
        }
        if self.tenths.len() < repeats {
            let (why, remedy) = if self.imported {
                (
                    "the file does not tell each of enough requests",
                    "import 3 repeats of it",
                )
            } else {
                (
                    "too few requests, or saved by an earlier version",
                    "repeat the run 3 times",
                )
            };
            return Err(format!("its spread is unknown: {why}; {remedy}"));
        }
        let (mut variance, mut freedom) = (0.0, 0.0);
        for values in &self.tenths {
            let parts = values.len() as f64;
            let mean = values.iter().sum::<f64>() / parts;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            variance += squares / (parts - 1.0) / parts;
            freedom += parts - 1.0;
        }
        Ok((variance.sqrt() / repeats as f64, freedom))
    }
}

/// Whether the engine of a cell is the embedded simulator.
pub(super) fn is_simulated(report: &Report, cell: &Cell) -> bool {
    let engines = report.environment.engines.iter();
    engines
        .filter(|engine| engine.backend == cell.backend)
        .any(|engine| engine.simulated)
}

/// A guard that makes the numbers of a stage doubtful. Failed requests are told by their own row.
pub(super) fn tripped<'a>(report: &'a Report, cell: &Cell, stage: &Stage) -> Option<&'a Verdict> {
    report.verdicts.iter().find(|verdict| {
        verdict.guard
            && verdict.level == "fail"
            && verdict.status == VerdictStatus::Inconclusive
            && verdict.cell.as_deref() == Some(&cell.id)
            && verdict.stage.as_deref() == Some(&stage.name)
    })
}

/// So many requests of a stage failed that its numbers are those of the survivors: how many. An SLO or a looser guard of the
/// scenario's own changes nothing in that; a stricter one says it earlier.
pub(super) fn survivors(report: &Report, cell: &Cell, stage: &Stage) -> Option<String> {
    let numbers = stage.numbers.as_ref()?;
    let asked = numbers.planned.saturating_sub(numbers.unsent);
    let failed = numbers.failed + numbers.dropped;
    let too_many = failed as f64 > FAILED * asked as f64;
    (too_many || error_guard_failed(report, cell, stage)).then(|| {
        format!("{failed} of {asked} requests failed: the numbers are those of the survivors")
    })
}

fn error_guard_failed(report: &Report, cell: &Cell, stage: &Stage) -> bool {
    report.verdicts.iter().any(|verdict| {
        verdict.id == "guard:error_rate"
            && verdict.status == VerdictStatus::Fail
            && verdict.cell.as_deref() == Some(&cell.id)
            && verdict.stage.as_deref() == Some(&stage.name)
    })
}

/// The share of a stage's requests that failed or were dropped, where it is so large that its numbers are those of the survivors.
pub(super) fn lost(numbers: &StageNumbers) -> Option<f64> {
    let asked = numbers.planned.saturating_sub(numbers.unsent);
    let share = (numbers.failed + numbers.dropped) as f64 / asked.max(1) as f64;
    (share > FAILED).then_some(share)
}

/// Prompts whose mean lengths differ by more are not the same.
const PROMPTS: f64 = 0.05;

/// Files of other tools do not tell what was sent; the length of the prompts gives it away.
///
/// # Errors
/// It is not the same.
pub(super) fn sent_alike(one: &Stage, other: &Stage) -> Result<(), String> {
    let length = |stage: &Stage| {
        let numbers = stage.numbers.as_ref()?;
        wording::statistic(numbers.metrics.get("input_tokens")?, "mean")
    };
    match (length(one), length(other)) {
        (Some(one), Some(other)) if (one - other).abs() > PROMPTS * other => Err(format!(
            "what is sent differs: prompts of {} and {} tokens on the mean",
            wording::rounded(one),
            wording::rounded(other)
        )),
        _ => Ok(()),
    }
}

/// Whether more of a statistic is better.
pub(super) fn higher_is_better(statistic: &str) -> bool {
    let name = statistic
        .rsplit_once('.')
        .map_or(statistic, |(name, _)| name);
    find(name).is_some_and(|metric| metric.better == Better::Higher)
}

/// Each of these once, in the order in which it came first.
pub(super) fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    all.for_each(|one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
    });
    seen
}
