//! A plan meets the world: each cell's server comes up, is warmed up and loaded, drains, and goes down, one cell at a time.
//!
//! In: a [`Plan`] and a [`World`]. Out: a [`CellResult`] for each run of a cell, told as soon as it is over, so that what has
//! been measured survives whatever comes after.

pub mod world;
pub mod cell;
pub mod sources;
pub mod preflight;
mod standing;
mod external;

pub use world::{Interrupt, Snapshot, Watcher, World};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::observation::{CellResult, Ending, NotRun};
use crate::plan::describe::cell_totals;
use crate::plan::{Cell, CellRun, Plan};
use crate::units::format_duration;
use standing::Standing;

/// Runs every cell of the plan in its order.
pub fn run(plan: &Plan, world: &mut World<'_>) -> Vec<CellResult> {
    raise_file_limit();
    let began = Instant::now();
    let mut spent = Spent::default();
    let mut standing = Standing::new(plan, world);
    let mut results = Vec::with_capacity(plan.order.len());
    for (position, &run) in plan.order.iter().enumerate() {
        let cell = &plan.cells[run.cell];
        world.watcher.cell_begins(position, run);
        let (result, target) = match refusal(plan, cell, world, began, &spent) {
            Some(why) => (CellResult::NotRun(run, why), None),
            None => run_cell(plan, run, &spent, &mut standing, world),
        };
        if let CellResult::Measured(seen) = &result {
            spent.requests += seen.records.len() as u64;
            spent.output_tokens += seen
                .records
                .iter()
                .filter_map(|record| record.tokens.output)
                .map(u64::from)
                .sum::<u64>();
        }
        world.watcher.cell_ended(&result);
        let cools_down =
            position + 1 < plan.order.len() && matches!(result, CellResult::Measured(_));
        results.push(result);
        world.watcher.so_far(&results);
        // What was measured is told by now, whatever comes of the engine's own benchmark.
        if let (Some(CellResult::Measured(seen)), Some(target)) = (results.last_mut(), target)
            && let (Some(bench), Ending::Complete) = (external::due(plan, run), &seen.ending)
        {
            let said = external::run(plan, cell, bench, &target, world);
            Arc::make_mut(seen).external = Some(said);
            world.watcher.so_far(&results);
        }
        if cools_down {
            world.interrupt.wait(cell.cooldown);
        }
    }
    standing.down(world);
    results
}

/// What the run has used of its budget.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    requests: u64,
    output_tokens: u64,
}

impl Spent {
    /// What is left of the budget, as (requests, output tokens); `None` without one.
    fn left(&self, plan: &Plan) -> (Option<u64>, Option<u64>) {
        let left = |limit: Option<u64>, used| limit.map(|limit| limit.saturating_sub(used));
        (
            left(plan.limits.requests, self.requests),
            left(plan.limits.output_tokens, self.output_tokens),
        )
    }
}

/// Why a cell may not start.
fn refusal(
    plan: &Plan,
    cell: &Cell,
    world: &World<'_>,
    began: Instant,
    spent: &Spent,
) -> Option<NotRun> {
    if world.interrupt.count() > 0 {
        return Some(NotRun::Interrupted);
    }
    if let (Some(0), _) | (_, Some(0)) = spent.left(plan) {
        return Some(NotRun::Budget(
            "the budget of `run.budget` was used up".to_owned(),
        ));
    }
    let limit = plan.limits.max_duration?;
    let needed = expected(cell);
    (began.elapsed() + needed > limit).then(|| {
        NotRun::Budget(format!(
            "time budget: about {} needed, {} of {} used",
            format_duration(needed),
            format_duration(began.elapsed()),
            format_duration(limit)
        ))
    })
}

/// How long a cell is expected to take with its pauses, as far as the plan can tell.
fn expected(cell: &Cell) -> Duration {
    Duration::try_from_secs_f64(cell_totals(cell).seconds).unwrap_or(Duration::MAX)
}

/// Runs a cell; where it was measured, also what an engine's own benchmark would be told.
fn run_cell(
    plan: &Plan,
    run: CellRun,
    spent: &Spent,
    standing: &mut Standing<'_>,
    world: &mut World<'_>,
) -> (CellResult, Option<external::Target>) {
    let cell = &plan.cells[run.cell];
    let mut events = Vec::new();
    let ready = match standing.ready(run, &mut events, world) {
        Ok(ready) => ready,
        Err(_) if world.interrupt.count() > 0 => {
            return (CellResult::NotRun(run, NotRun::Interrupted), None);
        }
        Err(problem) if cell.backend.optional => {
            return (
                CellResult::NotRun(run, NotRun::OptionalNotReady(problem.0)),
                None,
            );
        }
        Err(problem) => return (CellResult::NotRun(run, NotRun::NotReady(problem.0)), None),
    };
    let target = external::Target::of(&ready);
    match cell::run(plan, run, ready, spent.left(plan), standing, world) {
        Ok(mut seen) => {
            seen.events.splice(0..0, events);
            (CellResult::Measured(Arc::new(seen)), Some(target))
        }
        Err(error) => {
            let why = NotRun::NotReady(error.to_string());
            (CellResult::NotRun(run, why), None)
        }
    }
}

/// Thousands of streams need as many descriptors: asks for all that the system grants.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // A refusal leaves the limit as it was; then connections beyond it fail and are told.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
