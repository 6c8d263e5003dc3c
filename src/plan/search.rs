//! A search for the capacity: every level that may be tried is planned, with arrivals and prompts of its own, and the run tries
//! a few of them. Which one comes next follows from what held so far, and from nothing else.

use std::time::Duration;

use super::{Cell, Level, Plan, Scope, SloInstance};
use crate::diagnostic::{Diagnostic, Span};
use crate::units::trim_float;

/// What is searched for in a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The range as written: `rate 1/s..200/s`.
    pub range: String,
    /// The measured stages that may be tried, lowest level first; each is the last of its own segment, in the same order.
    pub stages: Vec<usize>,
    /// How far apart neighbouring levels are at most, as a share of the lower one.
    pub resolution: f64,
    /// No level begins that cannot end in this time of the cell.
    pub stop_after: Option<Duration>,
    /// Where the range was written.
    pub span: Span,
}

/// What one level came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its position among the stages of the search, from 0.
    pub position: usize,
    /// How long it took with its warm-up, until the last answer was there.
    pub took: Duration,
    /// Whether every SLO held. What could not be told has not held.
    pub held: bool,
}

/// What a search does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Try the level at this position.
    Try(usize),
    /// The answer is known as finely as was asked for.
    Found,
    /// Even the greatest level holds: the capacity lies beyond the range.
    Ceiling,
    /// Not even the lowest level holds.
    Floor,
    /// The time is used up; the answer lies between the greatest level that held and the least that did not.
    OutOfTime,
}

impl Search {
    /// What comes after the levels `tried`, `elapsed` into the cell: first the lowest level; then each twice the one before, until
    /// one does not hold; then the middle between the greatest that held and the least that did not.
    pub fn step(&self, cell: &Cell, tried: &[Tried], elapsed: Duration) -> Step {
        let Some(next) = self.next(cell, tried) else {
            let held = tried.iter().filter(|tried| tried.held);
            return match held.map(|tried| tried.position).max() {
                None => Step::Floor,
                Some(top) if top + 1 == self.stages.len() => Step::Ceiling,
                Some(_) => Step::Found,
            };
        };
        let needed = self.time_of(cell, next, tried.last());
        match self.stop_after {
            Some(limit) if elapsed + needed > limit && !tried.is_empty() => Step::OutOfTime,
            _ => Step::Try(next),
        }
    }

    fn next(&self, cell: &Cell, tried: &[Tried]) -> Option<usize> {
        let held = tried.iter().filter(|tried| tried.held);
        let broke = tried.iter().filter(|tried| !tried.held);
        let low = held.map(|tried| tried.position).max();
        let high = broke.map(|tried| tried.position).min();
        match (low, high) {
            (None, None) => Some(0),
            (None, Some(_)) => None,
            (Some(low), None) => {
                let twice = 2.0 * self.level(cell, low);
                let beyond =
                    (low + 1..self.stages.len()).take_while(|&at| self.level(cell, at) <= twice);
                beyond
                    .last()
                    .or((low + 1 < self.stages.len()).then_some(low + 1))
            }
            (Some(low), Some(high)) => (high > low + 1).then(|| low + (high - low) / 2),
        }
    }

    /// The level at a position: requests per second, or users.
    pub fn level(&self, cell: &Cell, position: usize) -> f64 {
        let stage = &cell.stages[self.stages[position]];
        let rate = stage.rate.map_or(0.0, |rate| rate.per_second());
        stage.users.map_or(rate, f64::from)
    }

    /// The unit of its levels.
    pub fn unit(&self, cell: &Cell) -> &'static str {
        match cell.stages[self.stages[0]].users {
            Some(_) => "users",
            None => "req/s",
        }
    }

    /// The position of a stage, if it is one of those that may be tried.
    pub fn position(&self, stage: usize) -> Option<usize> {
        self.stages.binary_search(&stage).ok()
    }

    /// How many levels are tried at most: each step of the climb, then each halving of the last of them.
    pub fn most_tries(&self, cell: &Cell) -> usize {
        let mut tried: Vec<Tried> = Vec::new();
        let mut widest = 0;
        while let Some(position) = self.next(cell, &tried) {
            let before = tried.last().map_or(0, |last| last.position);
            widest = widest.max(position - before);
            tried.push(Tried {
                position,
                took: Duration::ZERO,
                held: true,
            });
        }
        tried.len() + widest.next_power_of_two().ilog2() as usize
    }

    /// How long the level at a position takes, from the rest before it to its end: what the plan knows, or, where that depends on
    /// the engine, as long as the level `before`.
    fn time_of(&self, cell: &Cell, position: usize, before: Option<&Tried>) -> Duration {
        let stages = &cell.stages[cell.segments[position].stages.clone()];
        let planned: Option<f64> = stages.iter().map(|stage| stage.expected.value()).sum();
        let rest = before.map_or(Duration::ZERO, |before| {
            cell.segments[before.position].cooldown
        });
        let held = match (planned, before) {
            (Some(seconds), _) => Duration::from_secs_f64(seconds),
            (None, before) => before.map_or(Duration::ZERO, |before| before.took),
        };
        rest + held
    }
}

/// A level with its unit: `18.5 req/s`, `1 user`.
pub fn level_in_words(level: f64, unit: &str) -> String {
    let unit = if (level, unit) == (1.0, "users") {
        "user"
    } else {
        unit
    };
    format!("{} {unit}", trim_float(level))
}

/// Levels from `from` to `to`, both included, each at most `resolution` above the one before: in equal factors, as `rounded`.
pub(super) fn ladder(
    from: f64,
    to: f64,
    resolution: f64,
    rounded: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let steps = (libm::log(to / from) / libm::log1p(resolution))
        .ceil()
        .max(1.0);
    let mut levels = vec![from];
    for step in 1..steps as u32 {
        let level = rounded(from * libm::pow(to / from, f64::from(step) / steps));
        if level > *levels.last().unwrap_or(&from) && level < to {
            levels.push(level);
        }
    }
    if to > from {
        levels.push(to);
    }
    levels
}

/// To three digits, so that a level has a name that a person can say.
pub(super) fn three_digits(value: f64) -> f64 {
    let unit = libm::pow(10.0, libm::log10(value).floor() - 2.0);
    // Divided, not multiplied, where the unit is a fraction: 1.05 and not 1.0500000000000003.
    if unit < 1.0 {
        let parts = (1.0 / unit).round();
        (value * parts).round() / parts
    } else {
        (value / unit).round() * unit
    }
}

/// Whether an instance is about one level of a search in one repeat and nothing else, so that it has a say in it.
pub fn judges_level(instance: &SloInstance, cell: usize, stage: usize) -> bool {
    let here = |scope: &Scope| {
        scope.cells == [cell] && scope.stages == [stage] && scope.repeats.is_empty()
    };
    here(&instance.scope) && instance.measures.iter().all(here)
}

/// Whether an instance is about a level of a search that may never be tried.
pub(super) fn is_above_the_lowest(plan: &Plan, instance: &SloInstance) -> bool {
    let scope = &instance.scope;
    let mut places = scope.cells.iter().zip(&scope.stages);
    places.any(|(cell, stage)| {
        let search = plan.cells[*cell].search.as_ref();
        search.is_some_and(|search| search.stages[0] != *stage)
    })
}

/// Looks for searches that nothing bounds, and for SLOs that have no say in one.
pub(super) fn check(plan: &Plan, found: &mut Vec<Diagnostic>) {
    let mut told: Vec<Span> = Vec::new();
    for (at, cell) in plan.cells.iter().enumerate() {
        let Some(search) = &cell.search else { continue };
        let lowest = search.stages[0];
        let in_cell = |instance: &&SloInstance| instance.scope.cells.contains(&at);
        let mut bounded = cell
            .guards
            .error_rate
            .is_some_and(|guard| guard.level == Level::Fail);
        for slo in &plan.slos {
            let mut here = slo.instances.iter().filter(in_cell).peekable();
            let Some(first) = here.peek() else { continue };
            let span = first.span;
            let judged = here.any(|instance| judges_level(instance, at, lowest));
            bounded |= judged && slo.level == Level::Fail;
            let why = match (slo.level, judged) {
                (Level::Fail, true) => continue,
                (Level::Warn, _) => "a search asks SLOs of level `fail` alone",
                (Level::Fail, false) => {
                    "a search asks what is judged at each of its levels by itself"
                }
            };
            if !told.contains(&span) {
                told.push(span);
                let message = format!(
                    "`{}` has no say in the search of load `{}`",
                    slo.id, cell.load
                );
                found.push(Diagnostic::warning("L042", message).at(span, why));
            }
        }
        if !bounded && !told.contains(&search.span) {
            told.push(search.span);
            found.push(
                Diagnostic::error(
                    "S079",
                    "nothing says which levels hold: there is no SLO of level `fail` for them",
                )
                .at(search.span, "a search goes up until an SLO breaks")
                .help("write one under `slos`, like `ttft: P95 TTFT < 500ms`"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;
    use crate::plan::{Schedule, Segment, UserCurve};

    /// A cell with a level for each of these numbers of users, ten seconds each.
    fn levels(users: &[u32], stop_after: Option<u64>) -> (Cell, Search) {
        let stage = |users: &u32| fixture::stage(&format!("c{users}"), true, Some(*users));
        let segment = |at: usize| Segment {
            stages: at..at + 1,
            schedule: Schedule::Closed {
                users: UserCurve { pieces: Vec::new() },
                think: crate::plan::Distribution::Fixed(0.0),
                ramp_down: crate::plan::RampDown::Finish,
            },
            cooldown: Duration::ZERO,
        };
        let cell = fixture::cell(
            ["sim", "m", "p", "l"],
            users.iter().map(stage).collect(),
            (0..users.len()).map(segment).collect(),
        );
        let search = Search {
            range: "users".to_owned(),
            stages: (0..users.len()).collect(),
            resolution: 0.05,
            stop_after: stop_after.map(Duration::from_secs),
            span: Span::default(),
        };
        (cell, search)
    }

    /// The levels that are tried where all up to `capacity` hold, and how that ends.
    fn tried(users: &[u32], capacity: u32, stop_after: Option<u64>) -> (Vec<u32>, Step) {
        let (cell, search) = levels(users, stop_after);
        let mut tried = Vec::new();
        loop {
            let elapsed = Duration::from_secs(10 * tried.len() as u64);
            let step = search.step(&cell, &tried, elapsed);
            let Step::Try(position) = step else {
                let levels = tried.iter().map(|tried| users[tried.position]);
                return (levels.collect(), step);
            };
            let held = users[position] <= capacity;
            let took = Duration::from_secs(10);
            tried.push(Tried {
                position,
                took,
                held,
            });
        }
    }

    #[test]
    fn a_search_doubles_until_a_level_breaks_and_halves_what_is_between() {
        let all: Vec<u32> = (1..=16).collect();
        assert_eq!(tried(&all, 5, None), (vec![1, 2, 4, 8, 6, 5], Step::Found));
        assert_eq!(
            tried(&all, 12, None),
            (vec![1, 2, 4, 8, 16, 12, 14, 13], Step::Found)
        );
        assert_eq!(tried(&all, 16, None), (vec![1, 2, 4, 8, 16], Step::Ceiling));
        assert_eq!(tried(&all, 0, None), (vec![1], Step::Floor));
        assert_eq!(tried(&[7], 7, None), (vec![7], Step::Ceiling));
        // Levels further apart than a doubling are climbed one by one.
        assert_eq!(
            tried(&[1, 10, 100], 10, None),
            (vec![1, 10, 100], Step::Found)
        );
    }

    #[test]
    fn no_level_begins_that_cannot_end_in_time() {
        let all: Vec<u32> = (1..=16).collect();
        assert_eq!(
            tried(&all, 5, Some(40)),
            (vec![1, 2, 4, 8], Step::OutOfTime)
        );
        assert_eq!(
            tried(&all, 5, Some(60)),
            (vec![1, 2, 4, 8, 6, 5], Step::Found)
        );
        // The first level is always tried: without it nothing can be said.
        assert_eq!(tried(&all, 5, Some(1)), (vec![1], Step::OutOfTime));
    }

    #[test]
    fn a_plan_says_how_many_levels_are_tried_at_most() {
        for capacity in 0..=16 {
            let all: Vec<u32> = (1..=16).collect();
            let (cell, search) = levels(&all, None);
            assert_eq!(search.most_tries(&cell), 8);
            assert!(tried(&all, capacity, None).0.len() <= 8, "{capacity}");
        }
    }

    #[test]
    fn neighbouring_levels_are_no_further_apart_than_the_resolution() {
        assert_eq!(
            ladder(1.0, 2.0, 0.25, three_digits),
            [1.0, 1.19, 1.41, 1.68, 2.0]
        );
        assert_eq!(
            ladder(1.0, 8.0, 0.01, f64::round),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        );
        assert_eq!(ladder(5.0, 5.0, 0.05, three_digits), [5.0]);
        let fine = ladder(0.5, 200.0, 0.05, three_digits);
        assert_eq!((fine[0], fine.last()), (0.5, Some(&200.0)));
        // Rounding to three digits moves a level by half a percent at most.
        assert!(
            fine.windows(2)
                .all(|two| two[1] > two[0] && two[1] / two[0] < 1.06)
        );
    }

    #[test]
    fn levels_have_names_that_a_person_can_say() {
        assert_eq!(three_digits(1.0512), 1.05);
        assert_eq!(three_digits(18.4977), 18.5);
        assert_eq!(three_digits(0.123456), 0.123);
        assert_eq!(three_digits(1234.5), 1230.0);
    }
}
