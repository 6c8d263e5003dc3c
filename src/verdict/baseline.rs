//! What an earlier report says, for assertions with `baseline`: refused where it was measured on something else.

use std::collections::BTreeMap;

use super::State;
use super::measure::{Rules, no_data};
use crate::assertion::{Aggregate, Assertion, Kind, Measure, Unit};
use crate::observation::{Observations, SentRequest};
use crate::plan::{Absence, Api, Cell, Count, Fingerprint, SloInstance, StartClock};

/// From this share of failed requests on, latencies are those of the survivors: the default of the guard `error_rate`.
const SURVIVORS: f64 = 0.01;

/// An earlier report, and what to do where it does not help.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What is missing when there is no report at all: why.
    pub absent: Option<String>,
    /// What its stages say, by cell and stage.
    pub stages: BTreeMap<(String, String), BaselineStage>,
    /// What happens if the report, a cell or a number is missing.
    pub missing: Absence,
    /// What happens if it was measured on something else.
    pub mismatch: Absence,
    /// What must be the same.
    pub must_match: Vec<Fingerprint>,
}

/// What an earlier report says of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct BaselineStage {
    /// The digest of what was sent.
    pub digest: String,
    /// The key of the model.
    pub model: String,
    /// The name that the model was asked for by, where the report tells.
    pub asked: Option<String>,
    /// The names of the GPUs under it; empty: nobody watched them, or the report does not tell which they were.
    pub gpus: Vec<String>,
    /// Requests that failed, of those that were planned.
    pub failed: (u64, u64),
    /// The engine's kind.
    pub kind: String,
    /// The engine's version, if it told one.
    pub version: Option<String>,
    /// It came from the embedded simulator.
    pub simulated: bool,
    /// Its engine had no server.
    pub offline: bool,
    /// Statistics in canonical units by their paths: `ttft.p95`, `output_tps.value`.
    pub values: BTreeMap<String, f64>,
    /// The same of each repeat, where there were several.
    pub repeats: Vec<BTreeMap<String, f64>>,
}

/// Why a baseline does not help, and what is to happen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unusable {
    pub(super) then: Absence,
    pub(super) text: String,
}

impl Unusable {
    /// The state of the verdict.
    pub(super) fn state(&self) -> State {
        let text = format!("baseline: {}", self.text);
        match self.then {
            Absence::Skip => State::Skipped(text),
            Absence::Warn | Absence::Fail => no_data(text),
        }
    }
}

impl Baseline {
    /// The instance with the baseline's numbers in place of `baseline(…)`.
    pub(super) fn applied(
        &self,
        instance: &SloInstance,
        cell: &Cell,
        seen: Option<&Observations>,
        (stage, repeat): (&str, Option<u32>),
        rules: Rules,
    ) -> Result<SloInstance, Unusable> {
        let missing = |text: String| Unusable {
            then: self.missing,
            text,
        };
        if let Some(why) = &self.absent {
            return Err(missing(why.clone()));
        }
        let of = self.stages.get(&(cell.id.clone(), stage.to_owned()));
        let of =
            of.ok_or_else(|| missing(format!("it has no stage `{stage}` of `{}`", cell.id)))?;
        if let Some(text) = self.difference(of, cell, seen) {
            return Err(Unusable {
                then: self.mismatch,
                text,
            });
        }
        let assertion: Assertion = instance.assertion.with_baseline(|measure| {
            if let Some(text) = of.survivors(measure, rules.count) {
                return Err(Unusable {
                    then: self.mismatch,
                    text,
                });
            }
            let path = path(measure, rules.clock);
            let values = match repeat {
                Some(repeat) => of.repeats.get(repeat as usize),
                None => Some(&of.values),
            };
            let value = values.and_then(|values| values.get(&path));
            let value = value.ok_or_else(|| missing(format!("it does not tell {path}")))?;
            let unit = Unit::find(measure.metric.dimension_of(measure.aggregate).unit_text());
            Ok(unit.map_or(*value, |unit| unit.to_base(*value)))
        })?;
        Ok(SloInstance {
            assertion,
            ..instance.clone()
        })
    }

    /// How many repeats it tells of a stage of a cell.
    pub(super) fn repeats(&self, cell: &str, stage: &str) -> u32 {
        let of = self.stages.get(&(cell.to_owned(), stage.to_owned()));
        of.map_or(0, |of| of.repeats.len().max(1) as u32)
    }

    /// What is not the same and has to be. What neither side knows does not count.
    fn difference(
        &self,
        of: &BaselineStage,
        cell: &Cell,
        seen: Option<&Observations>,
    ) -> Option<String> {
        let engine = seen.map(|seen| &seen.engine);
        if engine.is_some_and(|engine| engine.simulated != of.simulated) {
            return Some("one is simulated, the other measured".to_owned());
        }
        let offline = cell.backend.api == Api::Offline;
        if offline != of.offline {
            return Some("one engine is asked over HTTP, the other has no server".to_owned());
        }
        let differ = |what: &str, then: &str, now: &str| {
            (then != now).then(|| format!("{what} differs ({then}, now {now})"))
        };
        self.must_match
            .iter()
            .find_map(|fingerprint| match fingerprint {
                Fingerprint::Load => (of.digest != cell.digest).then(|| {
                    "what is sent differs: the digests of the cell are not the same".to_owned()
                }),
                Fingerprint::Model => {
                    differ("the model", &of.model, &cell.model.key).or_else(|| {
                        differ(
                            "the model",
                            of.asked.as_deref()?,
                            &asked(seen?.sent.as_ref()?)?,
                        )
                    })
                }
                Fingerprint::Engine => differ("the engine", &of.kind, cell.backend.kind.name())
                    .or_else(|| {
                        let now = engine?.version.as_deref()?;
                        differ(
                            "the engine's version",
                            major(of.version.as_deref()?),
                            major(now),
                        )
                    }),
                Fingerprint::Gpu => {
                    let names = seen?.devices.iter().map(|device| device.name.as_str());
                    let then = gpus(of.gpus.iter().map(String::as_str))?;
                    differ("the GPU", &then, &gpus(names)?)
                }
            })
    }
}

impl BaselineStage {
    /// Why a latency of this stage says nothing about all of its requests: it is that of those which were answered.
    fn survivors(&self, measure: &Measure, count: Count) -> Option<String> {
        let (failed, planned) = self.failed;
        let is_latency = matches!(measure.metric.kind, Kind::Trend | Kind::Gap);
        let many = failed as f64 > SURVIVORS * planned as f64;
        (is_latency && count == Count::All && many).then(|| {
            format!("{failed} of its {planned} requests failed, and its latencies are those of the others")
        })
    }
}

/// The name of the model in a request that was sent.
fn asked(sent: &SentRequest) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(&sent.body).ok()?;
    Some(body.get("model")?.as_str()?.to_owned())
}

/// `2 × NVIDIA H200`; `None`: nobody knows.
fn gpus<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let told = counts.into_iter().map(|(name, count)| match count {
        1 => name.to_owned(),
        count => format!("{count} × {name}"),
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// The part of a version that says what is comparable: `0.11` of `0.11.2`, `2` of `2.4.1`.
fn major(version: &str) -> &str {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    let end = version
        .match_indices('.')
        .nth(parts - 1)
        .map_or(version.len(), |(at, _)| at);
    &version[..end]
}

/// Where a report tells a measure: `ttft_intended.p95` for an open loop's P95 TTFT.
fn path(measure: &Measure, clock: Option<StartClock>) -> String {
    let name = measure.metric.name;
    let planned = clock == Some(StartClock::Intended) && matches!(name, "ttft" | "e2e");
    let name = if planned {
        format!("{name}_intended")
    } else {
        name.to_owned()
    };
    match measure.aggregate {
        Aggregate::Whole => format!("{name}.value"),
        aggregate => format!("{name}.{aggregate}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_release_is_comparable_and_a_minor_one_before_1_is_not() {
        let majors = ["0.11.2", "0.11", "2.4.1", "2", "b5821"].map(major);
        assert_eq!(majors, ["0.11", "0.11", "2", "2", "b5821"]);
    }
}
