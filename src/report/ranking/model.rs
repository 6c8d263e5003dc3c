//! What a ranking says, as it stands in `report.json` and `benchmark_summary.json`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the backends of a run stand beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranking {
    /// How often all intervals hold at once, 0 to 1.
    pub confidence: f64,
    /// Intervals that hold together.
    pub intervals: usize,
    /// What counts in the overall score, and how much: shares that add up to 1.
    pub weights: BTreeMap<String, f64>,
    /// Where every ranked backend has numbers that can be compared: a cell without its backend, and a stage.
    pub places: Vec<String>,
    /// Each backend, in the order of the scenario.
    pub engines: Vec<Engine>,
    /// Everything that counts at once, by the weights.
    pub overall: Contest,
    /// By one thing each.
    pub criteria: Vec<Contest>,
    /// Which backend to take for what.
    pub use_cases: Vec<Contest>,
    /// What stands out.
    pub findings: Vec<Contest>,
    /// What is not ranked, and why.
    pub left_out: Vec<LeftOut>,
}

/// One backend in one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// The backend's id.
    pub backend: String,
    /// How it is asked: `http`, or `offline` where it has no server.
    #[serde(default)]
    pub interface: String,
    /// How its runs ended.
    pub status: EngineStatus,
    /// Why it is not ranked, or what went wrong.
    pub error: Option<String>,
    /// Whether it stands in the contests.
    pub ranked: bool,
    /// Requests planned in measured stages.
    pub planned: u64,
    /// Requests answered.
    pub ok: u64,
    /// Requests failed.
    pub failed: u64,
    /// Statistics by their path, each the geometric mean over the ranking's places; of a backend that is not ranked, over
    /// those where it has numbers.
    pub values: BTreeMap<String, f64>,
}

/// How the runs of a backend ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineStatus {
    /// Some requests were answered in every place.
    Success,
    /// No request was answered somewhere, or a run ended early.
    Failed,
    /// It was not there.
    NotAvailable,
}

impl EngineStatus {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            EngineStatus::Success => "Success",
            EngineStatus::Failed => "Failed",
            EngineStatus::NotAvailable => "Not Available",
        }
    }
}

/// Backends ranked by one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contest {
    /// `overall`, `throughput`, `interactive`, `peak_throughput` …
    pub id: String,
    /// The question, for people.
    pub title: String,
    /// What counts, and how much of it.
    pub criteria: Vec<Criterion>,
    /// Where: a cell without its backend, and a stage.
    pub places: Vec<String>,
    /// The backends, the best first.
    pub standings: Vec<Standing>,
    /// The one that is surely better than every other.
    pub winner: Option<String>,
    /// By how much the winner is better than the next, as a share of the next one's value; of a score, of its score.
    pub gap: Option<f64>,
    /// Its interval.
    pub gap_interval: Option<[f64; 2]>,
    /// What may be said, with the numbers that it stands on.
    pub sentence: String,
    /// What does not count although it was asked for, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

impl Contest {
    /// Where a backend stands in it.
    pub fn of(&self, backend: &str) -> Option<&Standing> {
        self.standings.iter().find(|one| one.backend == backend)
    }
}

/// One thing that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Criterion {
    /// `output_tps`, `e2e.p50` …
    pub statistic: String,
    /// The same for people.
    pub name: String,
    /// The unit; shares have none.
    pub unit: String,
    /// `higher` or `lower`.
    pub better: String,
    /// Its share of the score; all of a contest add up to 1.
    pub weight: f64,
}

/// One backend in one contest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    /// The backend.
    pub backend: String,
    /// 1 and the number of backends that are surely better; ties share a rank.
    pub rank: u32,
    /// Backends whose intervals overlap its own.
    pub tied_with: Vec<String>,
    /// 100 would be the best by every criterion: 100 × the weighted geometric mean of value ÷ best value (of what should be
    /// low: best value ÷ value).
    pub score: Estimate,
    /// Its value by each criterion: the geometric mean over the places.
    pub values: Vec<Estimate>,
}

/// A value and its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its interval; all intervals of the ranking hold together.
    pub interval: [f64; 2],
}

/// What is not ranked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// The backend.
    pub backend: String,
    /// Where; `null` for all of it.
    pub place: Option<String>,
    /// Why.
    pub reason: String,
}
