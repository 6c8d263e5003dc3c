//! Whether a rule of level `abort` stops its cell now: a pure question, asked by the run loop once a second.

use super::State;
use super::evaluate::{SampleRule, evaluate};
use super::measure::Rules;
use super::slice::Slice;
use crate::assertion::{Kind, Measure};
use crate::observation::{
    EventLog, Observations, Outcome, Phase, RequestRecord, StageTimes, Tokens,
};
use crate::plan::{AbortRule, Plan, Scope};
use crate::units::Moment;

/// Ended requests that a window needs before it is judged.
const ENOUGH: usize = 20;

/// Where a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Index of the cell in the plan.
    pub cell: usize,
    /// The stage that runs, by index.
    pub stage: usize,
    /// When it began.
    pub stage_began: Moment,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// The instant of the question.
    pub now: Moment,
}

/// The id of the first SLO whose abort rule stops the cell now. `records` are the ended requests; those that ended before the
/// windows of the rules may be left out.
///
/// A window holds requests by their end, whatever their outcome. It is judged when at least 20 ended in it, or none did while
/// at least 20 are in flight and the window has passed: then those have failed.
pub fn abort(plan: &Plan, progress: Progress, records: &[RequestRecord]) -> Option<String> {
    let cell = plan.cells.get(progress.cell)?;
    for slo in &plan.slos {
        let Some(rule) = slo.abort else { continue };
        if progress.now.since(progress.stage_began) < rule.after {
            continue;
        }
        for instance in &slo.instances {
            let here =
                |scope: &Scope| scope.cells == [progress.cell] && scope.stages == [progress.stage];
            let measures = instance.assertion.measures();
            if !measures.iter().all(|measure| can_stop(measure)) {
                continue;
            }
            if instance.measures.is_empty() || !instance.measures.iter().all(here) {
                continue;
            }
            let Some(seen) = window(progress, rule, records) else {
                continue;
            };
            let part = (window_start(progress, rule), progress.now);
            let slices: Vec<Vec<Slice>> = measures
                .iter()
                .zip(&instance.measures)
                .map(|(measure, scope)| {
                    let whole = Slice::stage(cell, &seen, progress.stage).narrowed(scope);
                    // Requests are already chosen by their end; only a flow still needs the window.
                    let part = (measure.metric.kind == Kind::Flow).then_some(part);
                    vec![Slice { part, ..whole }]
                })
                .collect();
            let rules = Rules {
                count: slo.count,
                clock: slo.clock,
            };
            if evaluate(&instance.assertion, &slices, rules, SampleRule::Off).state == State::Fail {
                return Some(slo.id.clone());
            }
        }
    }
    None
}

/// Whether ended requests alone tell this measure: token flows and gauges need what is still in flight.
fn can_stop(measure: &Measure) -> bool {
    match measure.metric.kind {
        Kind::Trend | Kind::Gap | Kind::Rate | Kind::Counter => true,
        Kind::Flow => matches!(measure.metric.name, "rps" | "goodput"),
        Kind::Gauge | Kind::Derived => false,
    }
}

fn window_start(progress: Progress, rule: AbortRule) -> Moment {
    let length = u64::try_from(rule.window.as_nanos()).unwrap_or(u64::MAX);
    Moment::from_ns(progress.now.ns().saturating_sub(length)).max(progress.stage_began)
}

/// What ended in the trailing window, as observations of their own; `None` if that is too little to judge.
fn window(progress: Progress, rule: AbortRule, records: &[RequestRecord]) -> Option<Observations> {
    let from = window_start(progress, rule);
    let here = |record: &&RequestRecord| record.measured && record.stage == progress.stage;
    let inside =
        |record: &&RequestRecord| from < record.finished && record.finished <= progress.now;
    let mut ended: Vec<RequestRecord> = records
        .iter()
        .filter(here)
        .filter(inside)
        .cloned()
        .collect();
    let passed = progress.now.since(progress.stage_began) >= rule.window;
    if ended.is_empty() && progress.in_flight >= ENOUGH as u64 && passed {
        ended = (0..progress.in_flight).map(|_| hanging(progress)).collect();
    }
    if ended.len() < ENOUGH {
        return None;
    }
    Some(Observations {
        cell: progress.cell,
        stages: vec![StageTimes {
            stage: progress.stage,
            began: progress.stage_began,
            ended: progress.now,
            steady: Some((progress.stage_began, progress.now)),
            busiest: None,
        }],
        records: ended,
        ..Observations::default()
    })
}

/// A request in flight as the failure that it is taken for.
fn hanging(progress: Progress) -> RequestRecord {
    RequestRecord {
        index: 0,
        stage: progress.stage,
        measured: true,
        prompt: "".into(),
        category: None,
        adapter: None,
        turn: 1,
        home: 0,
        user: None,
        intended: progress.stage_began,
        cap_wait: std::time::Duration::ZERO,
        dispatched: Some(progress.stage_began),
        connect: None,
        written: None,
        headers: None,
        first_event: None,
        first_token: None,
        first_token_shared: false,
        first_content: None,
        last_token: None,
        finished: progress.now,
        events: EventLog::default(),
        outcome: Outcome::TimedOut(Phase::FirstToken),
        status: None,
        finish_reason: None,
        tokens: Tokens::default(),
        bytes: 0,
        reused: false,
        reconnected: false,
        valid: None,
    }
}
