//! Observations become numbers, and numbers and SLOs become verdicts. Measuring is apart from judging; no data is never a pass.
//!
//! In: [`Plan`](crate::plan::Plan) and [`Observations`](crate::observation::Observations). Out: [`Verdict`]s and the
//! measurements of each stage.
//!
//! [`stages()`] measures every stage of one run for reports; [`judge()`] gives one verdict for each SLO in each of its scopes and one
//! for each guard; [`status`] says what the exit code says; [`abort()`] tells a running cell whether a rule stops it,
//! and [`search()`] which level comes next.

pub mod baseline;
pub mod judge;
pub mod evaluate;
pub mod guards;
mod tokens;
pub mod fairness;
pub mod abort;
pub mod search;
pub mod stages;
pub mod measure;
pub mod gauge;
pub mod spread;
pub mod compat;
pub mod statistics;
pub mod slice;

pub use abort::{Progress, abort};
pub use baseline::{Baseline, BaselineStage};
pub use fairness::{Comparison, fairness};
pub use judge::{Judged, Judgement, Searches, judge, judge_more, judge_so_far, status};
pub use search::search;
pub use spread::Spread;
pub use stages::stages;

use std::time::Duration;

use crate::diagnostic::Span;
use crate::plan::{Count, Level, Scope, StartClock};
use crate::units::Moment;

/// What is said of one SLO, or one guard, in one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The SLO's id, or `guard:send_lag` and the like.
    pub id: String,
    /// The assertion as written (`P95 TTFT < 500ms`), or the guard's rule in words.
    pub text: String,
    /// The assertion in its one normal form (`ttft.p95 < 500ms`).
    pub normal: String,
    /// `id[aggregate] @stage` and split values, never a number that was measured or a bound: what CI matches runs by.
    pub name: String,
    /// Whether it changes the exit code.
    pub level: Level,
    /// What it is said of.
    pub scope: Scope,
    /// The verdict.
    pub state: State,
    /// The left side.
    pub observed: Option<Value>,
    /// The right side.
    pub bound: Option<Value>,
    /// How far the observed value lies beyond the bound, as a share of the bound: positive is worse, `None` without both.
    pub margin: Option<f64>,
    /// Samples that the left side stands on.
    pub n: Option<u64>,
    /// Fewer samples than the 95 % bound of this percentile needs, or a rate that one more event would change.
    pub thin: bool,
    /// The distribution-free 95 % interval of the left side.
    pub interval: Option<(f64, f64)>,
    /// How failures counted.
    pub count: Count,
    /// Where latencies started.
    pub clock: Option<StartClock>,
    /// Which override's bound applied.
    pub override_index: Option<usize>,
    /// Where the assertion stands in the user's file; `None` for guards.
    pub span: Option<Span>,
    /// What each repeat gave.
    pub repeats: Vec<RepeatVerdict>,
    /// What to change, for guards and thin samples.
    pub advice: Option<String>,
    /// Where and how it broke: the window, the GPU, the stage that was stopped.
    pub detail: Option<String>,
}

impl Verdict {
    /// A verdict of level `fail` without any number, on a rule that stands in no file.
    fn of_rule(id: &str, rule: &str, scope: Scope, state: State) -> Verdict {
        Verdict {
            id: id.to_owned(),
            text: rule.to_owned(),
            normal: rule.to_owned(),
            name: id.to_owned(),
            level: Level::Fail,
            scope,
            state,
            observed: None,
            bound: None,
            margin: None,
            n: None,
            thin: false,
            interval: None,
            count: Count::All,
            clock: None,
            override_index: None,
            span: None,
            repeats: Vec::new(),
            advice: None,
            detail: None,
        }
    }
}

/// What a whole run comes to; its exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every gate passed.
    Passed,
    /// A gate failed.
    Failed,
    /// Something could not be told, and nothing failed.
    Inconclusive,
    /// There was no gate.
    Measured,
}

impl Status {
    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Inconclusive => "inconclusive",
            Status::Measured => "measured",
        }
    }
}

/// What one repeat gave.
#[derive(Clone, Debug, PartialEq)]
pub struct RepeatVerdict {
    /// Which, from 0.
    pub repeat: u32,
    /// Its state.
    pub state: State,
    /// Its left side.
    pub observed: Option<Value>,
    /// Its right side.
    pub bound: Option<Value>,
    /// Its margin.
    pub margin: Option<f64>,
    /// Of an SLO with a `window`, the windows in which it does not hold, since the cell began.
    pub broken: Vec<(Moment, Moment)>,
}

/// The four states; no other word is used for them in any output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It could not be told.
    Inconclusive(Reason),
    /// It was not asked.
    Skipped(String),
}

/// Why a verdict is inconclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `no-data` or `invalid`.
    pub family: Family,
    /// In words.
    pub text: String,
}

/// The two families of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// There is nothing to judge.
    NoData,
    /// A guard tripped, or the measurement is not what the label says.
    Invalid,
}

impl Family {
    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Family::NoData => "no-data",
            Family::Invalid => "invalid",
        }
    }
}

/// A measured or a bounding value in the canonical unit of its metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The value; `f64::INFINITY` when failures reach the percentile.
    pub value: f64,
    /// The canonical unit as written (`ms`, `tok/s`, `%` is kept as a fraction with unit ``).
    pub unit: &'static str,
    /// For people: `312ms`, `0.4%`, `∞ (7 of 100 failed)`.
    pub text: String,
}

/// The numbers of one measured (or unmeasured) stage in one repeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageMeasurements {
    /// Index of the cell.
    pub cell: usize,
    /// Which repeat.
    pub repeat: u32,
    /// Index of the stage.
    pub stage: usize,
    /// Counts by outcome; planned = ok + failed + cut + dropped + unsent.
    pub counts: Counts,
    /// The window of flows and gauges, in seconds from the start of the cell.
    pub window: Option<(f64, f64)>,
    /// How long the stage took.
    pub duration: Duration,
    /// Each metric that has a value: name in the registry, and its statistics.
    pub metrics: Vec<MetricStats>,
    /// The same per category, when the prompt set has categories.
    pub categories: Vec<(String, Vec<MetricStats>)>,
    /// ∫ in-flight dt against Σ request time inside the window: relative difference; `None` without a window.
    pub books: Option<f64>,
    /// How much the statistics that are compared would change from run to run, as far as one run tells.
    pub spreads: Vec<Spread>,
    /// The same requests under the definitions of other tools.
    pub compat: Vec<compat::Theirs>,
}

/// Requests by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Planned (or, in a timed closed loop, sent).
    pub planned: u64,
    /// Sent.
    pub sent: u64,
    /// Answered.
    pub ok: u64,
    /// Failed, of any kind.
    pub failed: u64,
    /// Cut at the end of the drain.
    pub cut: u64,
    /// Dropped at the cap.
    pub dropped: u64,
    /// Never sent.
    pub unsent: u64,
    /// Failures by outcome name, in order of name.
    pub outcomes: Vec<(String, u64)>,
}

/// The statistics of one metric in one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricStats {
    /// The name in the registry.
    pub metric: String,
    /// The unit.
    pub unit: &'static str,
    /// Samples.
    pub n: u64,
    /// Answered requests on which it is undefined, and left out; of `goodput_ratio`, those on which a bound is.
    pub undefined: u64,
    /// Which estimator the percentiles come from: `exact`, `hdr`, `time-weighted`, `ratio`, `flow`.
    pub estimator: &'static str,
    /// Named statistics in a fixed order: `mean`, `min`, `p50`, `p90`, `p95`, `p99`, `max`, `std`, `p95_linear`, `value` …
    /// Over answered requests (`ok` view); infinite values never occur in it.
    pub stats: Vec<(&'static str, f64)>,
    /// The 95 % interval of each percentile from order statistics: `(name, low, high)`.
    pub intervals: Vec<(&'static str, f64, f64)>,
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
