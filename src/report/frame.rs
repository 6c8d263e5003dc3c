//! What a report needs besides what was seen, and what is known of the runs that are over, so that a report after each of them,
//! or in the middle of one, asks nothing twice.

use std::sync::Arc;
use std::time::Duration;

use super::{Inputs, Report, RunEnding, build, model};
use crate::diagnostic::Sources;
use crate::observation::{CellResult, Observations};
use crate::plan::Plan;
use crate::verdict::{self, Baseline, Judged, Judgement, StageMeasurements, Verdict};

/// What a report needs besides what was seen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What was to happen.
    pub plan: Arc<Plan>,
    /// The user's files.
    pub sources: Arc<Sources>,
    /// This machine.
    pub environment: Arc<model::Environment>,
    /// When the run began, RFC 3339.
    pub started: Arc<str>,
    /// The command line.
    pub command: Arc<[String]>,
}

/// What has been measured and judged of the runs that are over.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Runs that have been measured.
    runs: usize,
    measurements: Vec<StageMeasurements>,
    judged: Judged,
}

impl Known {
    /// Nothing is known, and assertions with `baseline` are about this.
    pub fn against(baseline: Option<Baseline>) -> Known {
        Known {
            judged: Judged::against(baseline),
            ..Known::default()
        }
    }

    /// The stage that a search tries next, after what its cell has shown `so_far`; `None`: it is over, or there is none.
    pub fn search(&self, plan: &Plan, so_far: &CellResult) -> Option<usize> {
        verdict::search(plan, so_far, &self.judged)
    }

    /// Measures the runs that are new.
    fn measure(&mut self, plan: &Plan, seen: &[CellResult]) {
        for run in seen[self.runs..]
            .iter()
            .filter_map(CellResult::observations)
        {
            self.measurements
                .extend(verdict::stages(&plan.cells[run.cell], run));
        }
        self.runs = seen.len();
    }
}

impl Frame {
    /// The report of the runs that are over, `duration` after the start; `known` is what was known of the first of them before.
    pub fn report(
        &self,
        seen: &[CellResult],
        known: &mut Known,
        ending: RunEnding,
        duration: Duration,
    ) -> Report {
        known.measure(&self.plan, seen);
        let judgement = verdict::judge_more(&self.plan, seen, &mut known.judged);
        self.build(seen, &judgement, &known.measurements, ending, duration)
    }

    /// The report in the middle of a run that is the last of `seen`: nothing is kept of that one, and nothing is said of what has
    /// not begun.
    pub fn report_so_far(
        &self,
        seen: &[CellResult],
        known: &mut Known,
        duration: Duration,
    ) -> Report {
        let (over, running) = match seen.split_last() {
            Some((CellResult::Measured(running), over)) => (over, &**running),
            _ => return self.report(seen, known, RunEnding::default(), duration),
        };
        if known.runs < over.len() {
            known.measure(&self.plan, over);
            // What this says is told below; what it learns is kept.
            verdict::judge_more(&self.plan, over, &mut known.judged);
        }
        let whole = known.measurements.len();
        let cell = &self.plan.cells[running.cell];
        known.measurements.extend(verdict::stages(cell, running));
        let mut judgement = verdict::judge_so_far(&self.plan, seen, &known.judged, running);
        judgement
            .0
            .retain(|verdict| has_begun(verdict, over, running));
        let ending = RunEnding::default();
        let mut report = self.build(seen, &judgement, &known.measurements, ending, duration);
        known.measurements.truncate(whole);
        // The client's exactness is told when a run is over.
        let runs = &mut report.cells[running.cell].runs;
        if let Some(run) = runs.iter_mut().find(|run| run.repeat == running.repeat) {
            run.client = None;
        }
        report
    }

    fn build(
        &self,
        seen: &[CellResult],
        (verdicts, searches): &Judgement,
        measurements: &[StageMeasurements],
        ending: RunEnding,
        duration: Duration,
    ) -> Report {
        build(&Inputs {
            plan: &self.plan,
            sources: &self.sources,
            verdicts,
            searches,
            measurements,
            runs: seen,
            environment: &self.environment,
            ending,
            started: &self.started,
            duration,
            command: &self.command,
            tool: env!("CARGO_PKG_VERSION"),
        })
    }
}

/// Whether everything that a verdict is about has begun.
fn has_begun(verdict: &Verdict, over: &[CellResult], running: &Observations) -> bool {
    verdict.scope.cells.iter().all(|&cell| {
        let is_over = over.iter().any(|run| run.run().cell == cell);
        let begun = |stage: &usize| running.stages.iter().any(|times| times.stage == *stage);
        is_over || (running.cell == cell && verdict.scope.stages.iter().all(begun))
    })
}
