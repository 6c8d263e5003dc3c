//! What a search for the capacity has found: at which of the levels that were tried every SLO held, and what that comes to.
//!
//! A level has held when every SLO of level `fail` that is judged at a single level holds there, and no guard fails. Where one of
//! them could not be told, the level has not held: a capacity is never claimed on doubtful numbers.

use std::time::Duration;

use super::evaluate::{Told, reason_text};
use super::judge::{Judged, Runs};
use super::measure::no_data;
use super::{State, Value};
use crate::observation::{CellResult, Ending, LEVEL_STOPPED, Observations, StageTimes};
use crate::plan::search::{judges_level, level_in_words};
use crate::plan::{Cell, CellRun, Level, Plan, Search, Step, Tried};
use crate::units::Moment;

/// What a search has found in one run of its cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The levels that were tried, in this order.
    pub tries: Vec<Try>,
    /// Where the search stands.
    pub step: Step,
    /// The greatest level that held.
    pub capacity: Option<f64>,
    /// The least level that did not hold.
    pub broke: Option<f64>,
    /// The unit of levels: `req/s` or `users`.
    pub unit: &'static str,
}

/// One level that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Try {
    /// Index of its stage in the cell.
    pub stage: usize,
    /// The level.
    pub level: f64,
    /// Whether everything held.
    pub held: Held,
}

/// Whether a level held.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// It did.
    Yes,
    /// It did not, because of these: `ttft: P95 TTFT < 500ms was 812ms`.
    No(Vec<String>),
    /// Nobody can tell, because of this.
    Untold(String),
}

/// The stage that a search tries next, after what its cell has shown so far; `None`: it is over, or `so_far` is of no search.
/// Assertions with `baseline` are about that of `judged`.
pub fn search(plan: &Plan, so_far: &CellResult, judged: &Judged) -> Option<usize> {
    let run = so_far.run();
    let search = plan.cells[run.cell].search.as_ref()?;
    let results = std::slice::from_ref(so_far);
    let runs = Runs::new(plan, results, judged.baseline.clone());
    let mut judged = Judged::default();
    runs.guard(&mut judged);
    match runs.found(run, &judged)?.step {
        Step::Try(position) => Some(search.stages[position]),
        Step::Found | Step::Ceiling | Step::Floor | Step::OutOfTime => None,
    }
}

impl Found {
    /// The stage that the answer is about: the greatest level that held, else the lowest.
    pub fn answer(&self) -> Option<usize> {
        let held = self.tries.iter().filter(|tried| tried.held == Held::Yes);
        let best = held.max_by(|a, b| a.level.total_cmp(&b.level));
        let lowest = || self.tries.iter().min_by(|a, b| a.level.total_cmp(&b.level));
        best.or_else(lowest).map(|tried| tried.stage)
    }

    /// What it comes to, as a verdict: the lower end of the range must hold.
    pub(super) fn told(
        &self,
        cell: &Cell,
        search: &Search,
        ending: &Ending,
        unfinished: bool,
    ) -> Told {
        let floor = search.level(cell, 0);
        let state = match (ending, self.step) {
            (Ending::Interrupted, _) => no_data("interrupted"),
            (Ending::Budget, _) => no_data("the budget of `run.budget` was reached"),
            (Ending::Aborted(id), _) => no_data(format!("aborted by {id}")),
            (Ending::EngineDied(text), _) => no_data(text.lines().next().unwrap_or(text)),
            (Ending::Complete, Step::Try(_)) if unfinished => no_data("the search goes on"),
            // By these SLOs, or by what was known only at the end, it would have gone another way.
            (Ending::Complete, Step::Try(next)) => {
                let next = level_in_words(search.level(cell, next), self.unit);
                no_data(format!(
                    "{next} was not tried, and it decides: run the search again"
                ))
            }
            (Ending::Complete, Step::Floor) => match self.tries.first().map(|tried| &tried.held) {
                Some(Held::Untold(why)) => no_data(why.clone()),
                _ => State::Fail,
            },
            (Ending::Complete, Step::Found | Step::Ceiling | Step::OutOfTime) => State::Pass,
        };
        let value = |level: f64| Value {
            value: level,
            unit: self.unit,
            text: level_in_words(level, self.unit),
        };
        Told {
            observed: self.capacity.map(value),
            bound: Some(value(floor)),
            margin: self.capacity.map(|capacity| (floor - capacity) / floor),
            n: Some(self.tries.len() as u64),
            detail: Some(self.in_words()),
            ..Told::without_numbers(state)
        }
    }

    /// How the answer came about: `16 req/s holds; 16.8 req/s does not: ttft: P95 TTFT < 500ms was 812ms; 9 levels tried`.
    pub fn in_words(&self) -> String {
        let level = |level: f64| level_in_words(level, self.unit);
        let mut parts = Vec::new();
        if let Some(capacity) = self.capacity {
            parts.push(format!("{} holds", level(capacity)));
        }
        let above = self.broke.and_then(|broke| {
            let mut tries = self.tries.iter();
            tries.find(|tried| tried.level == broke)
        });
        match above.map(|tried| (&tried.held, tried.level)) {
            Some((Held::No(why), at)) => {
                parts.push(format!("{} does not: {}", level(at), why.join(", ")))
            }
            // Of the lowest level, the verdict's own reason says it.
            Some((Held::Untold(why), at)) if self.capacity.is_some() => {
                parts.push(format!("of {} it could not be told: {why}", level(at)));
            }
            Some((Held::Yes | Held::Untold(_), _)) | None => {}
        }
        match self.step {
            Step::Ceiling => parts.push("the capacity lies beyond the range".to_owned()),
            Step::OutOfTime => parts.push("then the time of `stop_after` was used up".to_owned()),
            Step::Found | Step::Floor | Step::Try(_) => {}
        }
        let tried = self.tries.len();
        let levels = if tried == 1 { "level" } else { "levels" };
        parts.push(format!("{tried} {levels} tried"));
        parts.join("; ")
    }
}

impl Runs<'_> {
    /// What the search of one run has found so far.
    pub(super) fn found(&self, run: CellRun, judged: &Judged) -> Option<Found> {
        let cell = self.plan.cells.get(run.cell)?;
        let search = cell.search.as_ref()?;
        let seen = self.seen(run)?;
        let sends = self.running.filter(|running| *running == run);
        let sends = sends
            .and_then(|_| seen.stages.last())
            .map(|times| times.stage);
        let over = seen
            .stages
            .iter()
            .filter(|times| Some(times.stage) != sends);
        let mut tries = Vec::new();
        let mut tried = Vec::new();
        let mut elapsed = Duration::ZERO;
        for times in over {
            let Some(position) = search.position(times.stage) else {
                continue;
            };
            let (began, ended) = span(cell, seen, position, times);
            elapsed = elapsed.max(ended.since(Moment::ZERO));
            let held = self.held(run, seen, times.stage, judged);
            tried.push(Tried {
                position,
                took: ended.since(began),
                held: held == Held::Yes,
            });
            tries.push(Try {
                stage: times.stage,
                level: search.level(cell, position),
                held,
            });
        }
        let held = tries.iter().filter(|tried| tried.held == Held::Yes);
        let broke = tries.iter().filter(|tried| tried.held != Held::Yes);
        Some(Found {
            step: search.step(cell, &tried, elapsed),
            capacity: held.map(|tried| tried.level).max_by(f64::total_cmp),
            broke: broke.map(|tried| tried.level).min_by(f64::total_cmp),
            unit: search.unit(cell),
            tries,
        })
    }

    fn held(&self, run: CellRun, seen: &Observations, stage: usize, judged: &Judged) -> Held {
        if let Some(rule) = stopped_by(seen, stage) {
            return Held::No(vec![rule]);
        }
        let mut broke = Vec::new();
        let mut untold = None;
        let mut answered = 0;
        let mut skipped = None;
        for slo in self.plan.slos.iter().filter(|slo| slo.level == Level::Fail) {
            let here = slo.instances.iter();
            for instance in here.filter(|instance| judges_level(instance, run.cell, stage)) {
                let told = self.in_repeat(slo, instance, run.repeat, &judged.guards);
                answered += usize::from(!matches!(told.state, State::Skipped(_)));
                match told.state {
                    State::Fail => {
                        let was = told
                            .observed
                            .map_or_else(String::new, |value| format!(" was {}", value.text));
                        broke.push(format!("{}: {}{was}", slo.id, instance.text));
                    }
                    State::Inconclusive(reason) => {
                        untold = Some(format!("{}: {}", slo.id, reason.text))
                    }
                    State::Skipped(why) => skipped = Some(format!("{}: {why}", slo.id)),
                    State::Pass => {}
                }
            }
        }
        // Where nothing that was asked has an answer, nothing has held.
        if answered == 0 {
            untold = untold.or(skipped);
        }
        let guards = judged.guards.get(&(run.cell, run.repeat, stage));
        for guard in guards
            .into_iter()
            .flatten()
            .filter(|guard| guard.level == Level::Fail)
        {
            let replaced = guard.key == "error_rate" && self.error_rate_is_judged(run.cell, stage);
            if guard.state == State::Fail && !replaced {
                let was = guard
                    .observed
                    .as_ref()
                    .map_or_else(String::new, |value| format!(" was {}", value.text));
                broke.push(format!("guard {}: {}{was}", guard.key, guard.rule));
            } else if guard.tripped() {
                untold = Some(format!(
                    "guard {}: {}",
                    guard.key,
                    reason_text(&guard.state)
                ));
            }
        }
        match (broke.is_empty(), untold) {
            (false, _) => Held::No(broke),
            (true, Some(why)) => Held::Untold(why),
            (true, None) => Held::Yes,
        }
    }
}

/// When the level at a position began with its warm-up, and when its last answer was there.
fn span(cell: &Cell, seen: &Observations, position: usize, times: &StageTimes) -> (Moment, Moment) {
    let own = &cell.segments[position].stages;
    let stages = seen
        .stages
        .iter()
        .filter(|times| own.contains(&times.stage));
    let began = stages.map(|times| times.began).min();
    // Records come in the order of their end, and a level is over before the next one begins.
    let records = seen.records.iter().rev();
    let last = records.filter(|record| own.contains(&record.stage));
    let last = last.map(|record| record.finished).next();
    (
        began.unwrap_or(times.began),
        last.map_or(times.ended, |last| last.max(times.ended)),
    )
}

/// The rule that stopped this level, in words.
fn stopped_by(seen: &Observations, stage: usize) -> Option<String> {
    let times = seen.stages.iter().find(|times| times.stage == stage)?;
    let during = |at: Moment| times.began <= at && at <= times.ended + Duration::from_millis(1);
    let stopped = seen.events.iter();
    let mut stopped = stopped.filter(|event| event.kind == LEVEL_STOPPED);
    stopped
        .find(|event| during(event.at))
        .map(|event| event.text.clone())
}
