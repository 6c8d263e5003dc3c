//! A plan and what its cells have shown become verdicts: one for each SLO in each of its scopes, and one for each guard.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::baseline::{Baseline, Unusable};
use super::evaluate::{SampleRule, Told, evaluate};
use super::fairness;
use super::guards::{GuardTold, guards};
use super::measure::{Rules, follows_clock, no_data};
use super::search::Found;
use super::slice::{Slice, Sorted};
use super::{RepeatVerdict, State, Status, Verdict};
use crate::assertion::Assertion;
use crate::observation::{CellResult, Ending, NotRun, Observations};
use crate::plan::search::{judges_level, level_in_words};
use crate::plan::{
    Absence, Cell, CellRun, FEWEST_REPEATS, Level, Plan, RepeatsMust, Scope, Search, Slo,
    SloInstance,
};
use crate::units::{Moment, format_duration, trim_float};

/// What one guard said in each repeat.
type Repeats<'a> = Vec<(u32, &'a GuardTold)>;

/// What guards say, by cell, repeat and stage.
type GuardsTold = BTreeMap<(usize, u32, usize), Vec<GuardTold>>;

/// What has been judged of runs that are over, so that a report after each cell asks nothing twice. It belongs to one plan.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// By cell, repeat and stage.
    pub(super) guards: GuardsTold,
    /// By the numbers of the SLO and of its instance, and by repeat.
    told: BTreeMap<(usize, usize, u32), Told>,
    /// The earlier report that assertions with `baseline` are about.
    pub(super) baseline: Option<Arc<Baseline>>,
}

impl Judged {
    /// Nothing has been judged, and this is the baseline.
    pub fn against(baseline: Option<Baseline>) -> Judged {
        Judged {
            baseline: baseline.map(Arc::new),
            ..Judged::default()
        }
    }
}

/// What searches have found, by cell and repeat.
pub type Searches = BTreeMap<(usize, u32), Found>;

/// What is said of a run: its verdicts, and what its searches have found.
pub type Judgement = (Vec<Verdict>, Searches);

/// The runs of a plan.
pub(super) struct Runs<'a> {
    pub(super) plan: &'a Plan,
    results: BTreeMap<(usize, u32), &'a CellResult>,
    sorted: BTreeMap<(usize, u32), OnceCell<Sorted<'a>>>,
    baseline: Option<Arc<Baseline>>,
    /// A run goes on: a repeat that has not begun has no say.
    unfinished: bool,
    /// The run that goes on.
    pub(super) running: Option<CellRun>,
}

/// Judges every SLO and every guard. A run that is missing from `results` is inconclusive, never a pass.
pub fn judge(plan: &Plan, results: &[CellResult]) -> Vec<Verdict> {
    judge_more(plan, results, &mut Judged::default()).0
}

/// As [`judge()`], where `judged` holds what the same runs, or the first of them, have given before.
pub fn judge_more(plan: &Plan, results: &[CellResult], judged: &mut Judged) -> Judgement {
    let runs = Runs::new(plan, results, judged.baseline.clone());
    let (mut verdicts, searches) = runs.judge(judged);
    verdicts.extend(fairness::verdicts(plan, results));
    (verdicts, searches)
}

/// As [`judge_more`] while `running`, one of `results`, goes on; `judged` learns nothing. The stage that sends is judged without
/// guards, which half a stage breaks by nature, and only repeats that have begun have a say.
pub fn judge_so_far(
    plan: &Plan,
    results: &[CellResult],
    judged: &Judged,
    running: &Observations,
) -> Judgement {
    let mut judged = judged.clone();
    if let Some(sends) = running.stages.last() {
        let run = (running.cell, running.repeat, sends.stage);
        judged.guards.insert(run, Vec::new());
    }
    let mut runs = Runs::new(plan, results, judged.baseline.clone());
    runs.unfinished = true;
    runs.running = Some(CellRun {
        cell: running.cell,
        repeat: running.repeat,
    });
    runs.judge(&mut judged)
}

/// The status of a run: what its exit code and its report say. Worst wins: failed over inconclusive over passed.
pub fn status(verdicts: &[Verdict], results: &[CellResult]) -> Status {
    let gates = || {
        verdicts
            .iter()
            .filter(|verdict| verdict.level == Level::Fail)
    };
    let is_guard = |verdict: &&Verdict| verdict.id.starts_with("guard:");
    let nothing_is_gated = verdicts.iter().all(|verdict| is_guard(&verdict));
    // A run without SLOs gates nothing, but a failing error rate is no success: nobody may read 0 after every request failed.
    if gates().any(|verdict| verdict.state == State::Fail) {
        return Status::Failed;
    }
    let is_unfair = |verdict: &Verdict| {
        verdict.id == fairness::GUARD && matches!(verdict.state, State::Inconclusive(_))
    };
    if gates().any(is_unfair) {
        return Status::Inconclusive;
    }
    let not_measured = results.iter().any(|result| match result {
        CellResult::NotRun(_, NotRun::OptionalNotReady(_)) | CellResult::Measured(_) => false,
        CellResult::NotRun(
            _,
            NotRun::NotReady(_) | NotRun::Budget(_) | NotRun::Interrupted | NotRun::Lost(_),
        ) => true,
    });
    if not_measured {
        return Status::Inconclusive;
    }
    if nothing_is_gated {
        return Status::Measured;
    }
    let doubtful = gates().any(|verdict| matches!(verdict.state, State::Inconclusive(_)));
    let mut asked = gates().filter(|verdict| !is_guard(verdict)).peekable();
    let all_skipped =
        asked.peek().is_some() && asked.all(|verdict| matches!(verdict.state, State::Skipped(_)));
    if doubtful || all_skipped {
        return Status::Inconclusive;
    }
    Status::Passed
}

/// What the verdicts of a cell say that was not run.
fn not_run(why: &NotRun) -> State {
    match why {
        NotRun::NotReady(text) => no_data(format!("backend not ready: {}", first_line(text))),
        NotRun::OptionalNotReady(text) => {
            State::Skipped(format!("optional backend not ready: {text}"))
        }
        NotRun::Budget(text) => State::Skipped(text.clone()),
        NotRun::Interrupted => no_data("interrupted"),
        NotRun::Lost(text) => no_data(text.clone()),
    }
}

impl<'a> Runs<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        results: &'a [CellResult],
        baseline: Option<Arc<Baseline>>,
    ) -> Runs<'a> {
        let by_run = |result: &CellResult| (result.run().cell, result.run().repeat);
        Runs {
            plan,
            results: results
                .iter()
                .map(|result| (by_run(result), result))
                .collect(),
            sorted: results
                .iter()
                .map(|result| (by_run(result), OnceCell::new()))
                .collect(),
            baseline,
            unfinished: false,
            running: None,
        }
    }

    fn judge(&self, judged: &mut Judged) -> Judgement {
        self.guard(judged);
        let mut verdicts = Vec::new();
        for (number, slo) in self.plan.slos.iter().enumerate() {
            for (instance, of) in slo.instances.iter().enumerate() {
                // What holds at a level that is tried is the search's to say.
                if self.is_searched(&of.scope) {
                    continue;
                }
                verdicts.push(self.slo((number, slo), (instance, of), judged));
            }
        }
        let skips = self.plan.skipped_slos.iter();
        verdicts.extend(skips.map(|(id, reason)| skipped(id, reason)));
        let searches = self.searches(judged);
        verdicts.extend(self.search_verdicts(&searches));
        verdicts.extend(self.guard_verdicts(judged, &searches));
        (verdicts, searches)
    }

    /// One stage of a run with its requests in order.
    fn slice(&self, seen: &'a Observations, stage: usize) -> Slice<'_> {
        let slice = Slice::stage(&self.plan.cells[seen.cell], seen, stage);
        match self.sorted.get(&(seen.cell, seen.repeat)) {
            Some(sorted) => slice.sorted(sorted.get_or_init(|| Sorted::of(seen))),
            None => slice,
        }
    }

    /// Asks the guards of every measured stage that has not been asked before.
    pub(super) fn guard(&self, judged: &mut Judged) {
        for ((cell, repeat), outcome) in &self.results {
            let (CellResult::Measured(seen), Some(of)) = (outcome, self.plan.cells.get(*cell))
            else {
                continue;
            };
            for times in seen
                .stages
                .iter()
                .filter(|times| is_measured(of, times.stage))
            {
                judged
                    .guards
                    .entry((*cell, *repeat, times.stage))
                    .or_insert_with(|| guards(&self.slice(seen, times.stage), self.plan.smoke));
            }
        }
    }

    fn slo(
        &self,
        (number, slo): (usize, &Slo),
        (of, instance): (usize, &SloInstance),
        judged: &mut Judged,
    ) -> Verdict {
        let names_repeats = !instance.measures.is_empty()
            && instance
                .measures
                .iter()
                .all(|scope| !scope.repeats.is_empty());
        let repeats = if names_repeats {
            1
        } else {
            self.plan.repeats.max(1)
        };
        let has_a_say =
            |repeat: &u32| !self.unfinished || *repeat == 0 || self.is_over(instance, *repeat);
        let told: Vec<(u32, Told)> = (0..repeats)
            .filter(has_a_say)
            .map(|repeat| {
                let before = judged.told.get(&(number, of, repeat));
                let told = match before {
                    Some(told) => told.clone(),
                    None => self.in_repeat(slo, instance, repeat, &judged.guards),
                };
                if self.is_over(instance, repeat) {
                    judged.told.insert((number, of, repeat), told.clone());
                }
                (repeat, told)
            })
            .collect();
        let chosen = deciding(&told, slo.repeats_must).clone();
        let chosen = match chosen.state {
            State::Fail if slo.separated => {
                self.unless_alike(slo, instance, &judged.guards, chosen)
            }
            _ => chosen,
        };
        let unusable =
            (0..repeats).find_map(|repeat| self.baselined(slo, instance, repeat, None)?.err());
        let follows = instance
            .assertion
            .measures()
            .iter()
            .any(|measure| follows_clock(measure.metric));
        Verdict {
            id: slo.id.clone(),
            text: instance.text.clone(),
            normal: instance.assertion.normal(),
            name: name(&slo.id, &instance.assertion, instance),
            level: match unusable {
                Some(unusable) if unusable.then == Absence::Warn => Level::Warn,
                _ => slo.level,
            },
            scope: instance.scope.clone(),
            state: chosen.state,
            observed: chosen.observed,
            bound: chosen.bound,
            margin: chosen.margin,
            n: chosen.n,
            thin: chosen.thin,
            interval: chosen.interval,
            count: slo.count,
            clock: if follows {
                slo.clock.or_else(|| self.default_clock(instance))
            } else {
                None
            },
            override_index: instance.override_index,
            span: Some(instance.span),
            repeats: told
                .into_iter()
                .map(|(repeat, told)| in_report(repeat, told))
                .collect(),
            advice: chosen.advice,
            detail: chosen.detail,
        }
    }

    fn default_clock(&self, instance: &SloInstance) -> Option<crate::plan::StartClock> {
        let cell = self.plan.cells.get(*instance.scope.cells.first()?)?;
        let seen = Observations::default();
        Some(Slice::stage(cell, &seen, *instance.scope.stages.first()?).default_clock())
    }

    /// Whether everything that an instance is taken over in a repeat has been run, so that nothing more can change it.
    fn is_over(&self, instance: &SloInstance, repeat: u32) -> bool {
        instance.measures.iter().all(|scope| {
            let this = [repeat];
            let repeats = repeats_of(scope, &this);
            let over = |cell: &usize| {
                repeats
                    .iter()
                    .all(|repeat| self.results.contains_key(&(*cell, *repeat)))
            };
            scope.cells.iter().all(over)
        })
    }

    pub(super) fn in_repeat(
        &self,
        slo: &Slo,
        instance: &SloInstance,
        repeat: u32,
        guards: &GuardsTold,
    ) -> Told {
        self.in_repeats(slo, instance, (repeat, None), guards)
    }

    /// As [`Runs::in_repeat`], where the right side is that of the repeat `against` of its own run, if one is given.
    fn in_repeats(
        &self,
        slo: &Slo,
        instance: &SloInstance,
        (repeat, against): (u32, Option<u32>),
        guards: &GuardsTold,
    ) -> Told {
        let slices = match self.slices(instance, repeat, against.unwrap_or(repeat)) {
            Ok(slices) => slices,
            Err(state) => return Told::without_numbers(state),
        };
        let baselined = match self.baselined(slo, instance, repeat, against) {
            Some(Ok(baselined)) => Some(baselined),
            Some(Err(unusable)) => return Told::without_numbers(unusable.state()),
            None => None,
        };
        let instance = baselined.as_ref().unwrap_or(instance);
        let rules = Rules {
            count: slo.count,
            clock: slo.clock,
        };
        let samples = match (self.plan.smoke, slo.confidence) {
            (true, _) => SampleRule::Off,
            (false, Some(confidence)) => SampleRule::Confident(confidence),
            (false, None) => SampleRule::Normal,
        };
        let mut told = match slo.window {
            Some(window) => in_windows(&slices, window, |part| {
                on_each_gpu(instance, part, rules, samples)
            }),
            None => on_each_gpu(instance, &slices, rules, samples),
        };
        for slice in slices.iter().flatten() {
            let run = (slice.seen.cell, slice.seen.repeat, slice.stage);
            for guard in guards.get(&run).into_iter().flatten() {
                let sides = told.observed.as_ref().zip(told.bound.as_ref());
                told.state = guard.apply(told.state, &instance.assertion, sides);
            }
        }
        // After the guards: a rule that has stopped its cell has failed for good.
        let ending = slices
            .iter()
            .flatten()
            .map(|slice| (slice, slice.ending()))
            .find(|(_, ending)| **ending != Ending::Complete);
        let mut told = match ending {
            Some((slice, ending)) => after_early_end(slo, instance, slice, ending, told),
            None => told,
        };
        if told.state != State::Fail {
            told.broken.clear();
        }
        told
    }

    /// A failure, unless the repeats of its two sides overlap: then no difference is shown, and it is none.
    fn unless_alike(
        &self,
        slo: &Slo,
        instance: &SloInstance,
        guards: &GuardsTold,
        failed: Told,
    ) -> Told {
        let own = self.plan.repeats.max(1);
        let others = match instance.assertion.needs_baseline() {
            true => self.repeats_of_baseline(instance),
            false if instance.assertion.right.measures().is_empty() => return failed,
            false => own,
        };
        for (whose, count) in [("this run", own), ("the other side", others)] {
            if count < FEWEST_REPEATS {
                let state = no_data(format!(
                    "`separated` needs {FEWEST_REPEATS} repeats of both sides, and {whose} has {count}"
                ));
                return Told { state, ..failed };
            }
        }
        let pairs =
            (0..own).flat_map(|repeat| (0..others).map(move |against| (repeat, Some(against))));
        let mut states = pairs.map(|pair| self.in_repeats(slo, instance, pair, guards).state);
        match states.any(|state| state == State::Pass) {
            true => Told {
                state: State::Pass,
                margin: None,
                broken: Vec::new(),
                detail: Some(
                    "the repeats of the two sides overlap: no difference is shown".to_owned(),
                ),
                ..failed
            },
            false => failed,
        }
    }

    /// How many repeats of a stage the baseline tells.
    fn repeats_of_baseline(&self, instance: &SloInstance) -> u32 {
        let (cell, stage) = (instance.scope.cells.first(), instance.scope.stages.first());
        let told = self.baseline.as_ref().zip(cell.zip(stage));
        told.map_or(0, |(baseline, (cell, stage))| {
            let cell = &self.plan.cells[*cell];
            baseline.repeats(&cell.id, &cell.stages[*stage].name)
        })
    }

    /// The instance with the numbers of the baseline (of its repeat `against`, if one is given), or why there are none; `None` if it
    /// asks for none.
    fn baselined(
        &self,
        slo: &Slo,
        instance: &SloInstance,
        repeat: u32,
        against: Option<u32>,
    ) -> Option<Result<SloInstance, Unusable>> {
        if !instance.assertion.needs_baseline() {
            return None;
        }
        let baseline = self.baseline.as_ref()?;
        let (cell, stage) = (
            *instance.scope.cells.first()?,
            *instance.scope.stages.first()?,
        );
        let seen = match self.results.get(&(cell, repeat)) {
            Some(CellResult::Measured(seen)) => Some(&**seen),
            _ => None,
        };
        let rules = Rules {
            count: slo.count,
            clock: slo.clock.or_else(|| self.default_clock(instance)),
        };
        let cell = &self.plan.cells[cell];
        let stage = (cell.stages[stage].name.as_str(), against);
        Some(baseline.applied(instance, cell, seen, stage, rules))
    }

    /// What each measure is taken over in one repeat, or why it cannot be.
    fn slices<'s>(
        &'s self,
        instance: &'s SloInstance,
        repeat: u32,
        against: u32,
    ) -> Result<Vec<Vec<Slice<'s>>>, State> {
        let left = instance.assertion.left.measures().len();
        let scopes = instance.measures.iter().enumerate();
        scopes
            .map(|(at, scope)| self.of_scope(scope, if at < left { repeat } else { against }))
            .collect()
    }

    fn of_scope<'s>(&'s self, scope: &'s Scope, repeat: u32) -> Result<Vec<Slice<'s>>, State> {
        let this = [repeat];
        let repeats = repeats_of(scope, &this);
        let mut slices = Vec::new();
        for (cell, stage) in scope.cells.iter().zip(&scope.stages) {
            for repeat in repeats {
                let of = &self.plan.cells[*cell];
                match self.results.get(&(*cell, *repeat)) {
                    Some(CellResult::Measured(seen)) => {
                        slices.push(self.slice(seen, *stage).narrowed(scope));
                    }
                    Some(CellResult::NotRun(_, why)) => return Err(not_run(why)),
                    None => return Err(no_data(format!("cell `{}` was not run", of.id))),
                }
            }
        }
        Ok(slices)
    }

    /// What was seen in a run, if it was measured.
    pub(super) fn seen(&self, run: CellRun) -> Option<&'a Observations> {
        match self.results.get(&(run.cell, run.repeat)) {
            Some(CellResult::Measured(seen)) => Some(seen),
            Some(CellResult::NotRun(..)) | None => None,
        }
    }

    fn is_searched(&self, scope: &Scope) -> bool {
        let mut cells = scope.cells.iter();
        cells.any(|cell| self.plan.cells[*cell].search.is_some())
    }

    /// What every search has found in every repeat that was measured.
    fn searches(&self, judged: &Judged) -> Searches {
        let runs = self.results.keys();
        runs.filter_map(|&(cell, repeat)| {
            let found = self.found(CellRun { cell, repeat }, judged)?;
            Some(((cell, repeat), found))
        })
        .collect()
    }

    /// One verdict for each cell with a search: whether the lower end of its range holds, and up to where the range does.
    fn search_verdicts(&self, searches: &Searches) -> Vec<Verdict> {
        let cells = self.plan.cells.iter().enumerate();
        cells
            .filter_map(|(at, cell)| Some((at, cell, cell.search.as_ref()?)))
            .map(|(at, cell, search)| self.search_verdict(at, cell, search, searches))
            .collect()
    }

    fn search_verdict(
        &self,
        at: usize,
        cell: &Cell,
        search: &Search,
        searches: &Searches,
    ) -> Verdict {
        let repeats = 0..self.plan.repeats.max(1);
        let told: Vec<(u32, Told)> = repeats
            .filter(|repeat| !self.unfinished || self.results.contains_key(&(at, *repeat)))
            .map(|repeat| {
                let told = match (searches.get(&(at, repeat)), self.results.get(&(at, repeat))) {
                    (Some(found), Some(CellResult::Measured(seen))) => {
                        found.told(cell, search, &seen.ending, self.unfinished)
                    }
                    (_, Some(CellResult::NotRun(_, why))) => Told::without_numbers(not_run(why)),
                    (_, _) => {
                        Told::without_numbers(no_data(format!("cell `{}` was not run", cell.id)))
                    }
                };
                (repeat, told)
            })
            .collect();
        let chosen = match told.is_empty() {
            true => Told::without_numbers(no_data("the search has not begun")),
            false => deciding(&told, RepeatsMust::Median).clone(),
        };
        let answer = told.iter().find(|(_, one)| *one == chosen);
        let answer = answer.and_then(|(repeat, _)| searches.get(&(at, *repeat))?.answer());
        let lowest = level_in_words(search.level(cell, 0), search.unit(cell));
        let text = format!("capacity >= {lowest}");
        Verdict {
            id: format!("search:{}", cell.load),
            normal: text.clone(),
            text,
            name: format!("search:{}", cell.load),
            level: Level::Fail,
            scope: Scope {
                cells: vec![at],
                stages: vec![answer.unwrap_or(search.stages[0])],
                ..Scope::default()
            },
            state: chosen.state,
            observed: chosen.observed,
            bound: chosen.bound,
            margin: chosen.margin,
            n: chosen.n,
            thin: false,
            interval: None,
            count: crate::plan::Count::All,
            clock: None,
            override_index: None,
            span: Some(search.span),
            repeats: told
                .into_iter()
                .map(|(repeat, told)| in_report(repeat, told))
                .collect(),
            advice: None,
            detail: chosen.detail,
        }
    }

    /// One verdict for each guard of each measured stage of each cell; of a search, of the level that is its answer.
    fn guard_verdicts(&self, judged: &Judged, searches: &Searches) -> Vec<Verdict> {
        let mut by_guard: BTreeMap<(usize, usize, usize), Repeats> = BTreeMap::new();
        let answers = |cell: usize, repeat: u32, stage: usize| {
            let found = searches.get(&(cell, repeat));
            found.is_none_or(|found| found.answer() == Some(stage))
        };
        let guards = judged.guards.iter();
        for ((cell, repeat, stage), told) in
            guards.filter(|((cell, repeat, stage), _)| answers(*cell, *repeat, *stage))
        {
            for (order, guard) in told.iter().enumerate() {
                by_guard
                    .entry((*cell, *stage, guard_order(guard.key, order)))
                    .or_default()
                    .push((*repeat, guard));
            }
        }
        by_guard
            .into_iter()
            .filter(|((cell, stage, _), told)| {
                told[0].1.key != "error_rate" || !self.error_rate_is_judged(*cell, *stage)
            })
            .map(|((cell, stage, _), told)| self.guard_verdict(cell, stage, &told))
            .collect()
    }

    /// An SLO or an abort rule on `error_rate` in this scope replaces the guard; at a level of a search only one that the search asks.
    pub(super) fn error_rate_is_judged(&self, cell: usize, stage: usize) -> bool {
        let searched = self.plan.cells[cell].search.is_some();
        let asked = |slo: &Slo, instance: &SloInstance| {
            slo.level == Level::Fail && judges_level(instance, cell, stage)
        };
        let instances = (self.plan.slos.iter())
            .flat_map(|slo| slo.instances.iter().map(move |instance| (slo, instance)));
        instances
            .filter(|(slo, instance)| !searched || asked(slo, instance))
            .any(|(_, instance)| judges_error_rate(instance, cell, stage))
    }

    fn guard_verdict(&self, cell: usize, stage: usize, told: &[(u32, &GuardTold)]) -> Verdict {
        let as_told: Vec<(u32, Told)> = told
            .iter()
            .map(|(repeat, guard)| {
                let mut one = Told::without_numbers(guard.state.clone());
                one.observed.clone_from(&guard.observed);
                one.bound.clone_from(&guard.bound);
                one.n = guard.n;
                (*repeat, one)
            })
            .collect();
        let chosen = deciding(&as_told, RepeatsMust::Median).clone();
        // A bound may differ from repeat to repeat: what is said is of the repeat that decides.
        let decides = as_told.iter().position(|(_, one)| *one == chosen);
        let guard = told[decides.unwrap_or(0)].1;
        let tripped = !matches!(chosen.state, State::Pass);
        let id = format!("guard:{}", guard.key);
        let stage_name = &self.plan.cells[cell].stages[stage].name;
        let scope = Scope {
            cells: vec![cell],
            stages: vec![stage],
            ..Scope::default()
        };
        Verdict {
            name: format!("{id} @{stage_name}"),
            level: guard.level,
            observed: chosen.observed,
            bound: chosen.bound,
            n: chosen.n,
            repeats: as_told
                .into_iter()
                .map(|(repeat, told)| in_report(repeat, told))
                .collect(),
            advice: tripped.then(|| guard.advice.to_owned()),
            ..Verdict::of_rule(&id, &guard.rule, scope, chosen.state)
        }
    }
}

/// Whether an instance is about the error rate of the whole of a stage.
fn judges_error_rate(instance: &SloInstance, cell: usize, stage: usize) -> bool {
    let measures = instance.assertion.measures();
    let mut measures = measures.iter().zip(&instance.measures);
    measures.any(|(measure, scope)| {
        let mut places = scope.cells.iter().zip(&scope.stages);
        measure.metric.name == "error_rate"
            && scope.categories.is_empty()
            && scope.turns.is_empty()
            && places.any(|(c, s)| (*c, *s) == (cell, stage))
    })
}

/// The repeats that a scope names, or the one under judgement.
fn repeats_of<'s>(scope: &'s Scope, this: &'s [u32; 1]) -> &'s [u32] {
    if scope.repeats.is_empty() {
        this
    } else {
        &scope.repeats
    }
}

fn guard_order(key: &str, order: usize) -> usize {
    const ORDER: [&str; 12] = [
        "error_rate",
        "send_lag",
        "missed",
        "cut",
        "concurrency",
        "client",
        "stamps",
        "tokens",
        "cache_hits",
        "throttling",
        "neighbours",
        "restarts",
    ];
    ORDER
        .iter()
        .position(|name| *name == key)
        .unwrap_or(ORDER.len() + order)
}

fn is_measured(cell: &Cell, stage: usize) -> bool {
    cell.stages.get(stage).is_some_and(|stage| stage.measured)
}

/// The repeat that decides: the median, of an even number the worse of the middle two; or the worst.
fn deciding(told: &[(u32, Told)], must: RepeatsMust) -> &Told {
    let mut order: Vec<&Told> = told.iter().map(|(_, told)| told).collect();
    order.sort_by(|a, b| match (a.is_worse_than(b), b.is_worse_than(a)) {
        (true, _) => std::cmp::Ordering::Less,
        (_, true) => std::cmp::Ordering::Greater,
        _ => std::cmp::Ordering::Equal,
    });
    match must {
        RepeatsMust::All => order[0],
        RepeatsMust::Median => order[order.len().div_ceil(2) - 1],
    }
}

fn in_report(repeat: u32, told: Told) -> RepeatVerdict {
    RepeatVerdict {
        repeat,
        state: told.state,
        observed: told.observed,
        bound: told.bound,
        margin: told.margin,
        broken: told.broken,
    }
}

/// `ttft[p95] @c16 category=code`: nothing that was measured, and no bound.
fn name(id: &str, assertion: &Assertion, instance: &SloInstance) -> String {
    let aggregate = assertion.aggregate_name();
    let mut name = match aggregate.as_str() {
        "" => id.to_owned(),
        aggregate => format!("{id}[{aggregate}]"),
    };
    for (dimension, value) in &instance.labels {
        match *dimension {
            "stage" => name.push_str(&format!(" @{value}")),
            "backend" | "model" | "prompts" | "load" => {}
            other => name.push_str(&format!(" {other}={value}")),
        }
    }
    name
}

fn skipped(id: &str, reason: &str) -> Verdict {
    let state = State::Skipped(reason.to_owned());
    Verdict::of_rule(id, "", Scope::default(), state)
}

/// Under `{gpu=*}` each GPU is judged on its own, and the worst decides.
fn on_each_gpu(
    instance: &SloInstance,
    slices: &[Vec<Slice>],
    rules: Rules,
    samples: SampleRule,
) -> Told {
    let each = |i: usize| instance.measures.get(i).is_some_and(|scope| scope.each_gpu);
    let mut devices: Vec<u32> = slices
        .iter()
        .enumerate()
        .filter(|(i, _)| each(*i))
        .flat_map(|(_, of)| of)
        .flat_map(Slice::devices)
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let mut worst: Option<Told> = None;
    for device in devices {
        let own: Vec<Vec<Slice>> = slices
            .iter()
            .enumerate()
            .map(|(i, of)| {
                let gpu = |slice: &Slice| if each(i) { Some(device) } else { slice.gpu };
                of.iter()
                    .map(|slice| Slice {
                        gpu: gpu(slice),
                        ..*slice
                    })
                    .collect()
            })
            .collect();
        let mut told = evaluate(&instance.assertion, &own, rules, samples);
        told.detail = Some(format!("GPU {device}"));
        if worst.as_ref().is_none_or(|worst| told.is_worse_than(worst)) {
            worst = Some(told);
        }
    }
    worst.unwrap_or_else(|| evaluate(&instance.assertion, slices, rules, samples))
}

/// It must hold in every tumbling window; what is left at the end belongs to the last one.
fn in_windows(
    slices: &[Vec<Slice>],
    length: Duration,
    judge: impl Fn(&[Vec<Slice>]) -> Told,
) -> Told {
    let all = || slices.iter().flatten();
    let Some(count) = all().map(|slice| windows_in(slice, length)).min().flatten() else {
        return judge(slices);
    };
    let mut worst: Option<Told> = None;
    let mut broken = Vec::new();
    for index in 0..count {
        let part: Vec<Vec<Slice>> = slices
            .iter()
            .map(|of| {
                of.iter()
                    .map(|slice| window(slice, length, index, count))
                    .collect()
            })
            .collect();
        let mut told = judge(&part);
        if told.state != State::Pass {
            told.detail = Some(where_it_broke(&part, length, index));
        }
        if told.state == State::Fail {
            broken.extend(part.iter().flatten().next().and_then(Slice::window));
        }
        if worst.as_ref().is_none_or(|worst| told.is_worse_than(worst)) {
            worst = Some(told);
        }
    }
    match worst {
        Some(worst) => Told { broken, ..worst },
        None => judge(slices),
    }
}

fn windows_in(slice: &Slice, length: Duration) -> Option<u64> {
    let (from, to) = slice.window()?;
    let count = to.since(from).as_nanos() / length.as_nanos().max(1);
    Some((count as u64).max(1))
}

fn window<'a>(slice: &Slice<'a>, length: Duration, index: u64, count: u64) -> Slice<'a> {
    let Some((from, to)) = slice.window() else {
        return *slice;
    };
    let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let start = Moment::from_ns(from.ns().saturating_add(ns.saturating_mul(index)));
    let end = if index + 1 == count {
        to
    } else {
        start + length
    };
    Slice {
        part: Some((start, end)),
        ..*slice
    }
}

fn where_it_broke(part: &[Vec<Slice>], length: Duration, index: u64) -> String {
    let start = length * u32::try_from(index).unwrap_or(u32::MAX);
    let mut text = format!(
        "in the window {} to {} of the stage",
        format_duration(start),
        format_duration(start + length)
    );
    if let Some(slice) = part.iter().flatten().next()
        && let Some(seconds) = slice.window_seconds()
    {
        let rate = slice.scheduled().count() as f64 / seconds;
        text.push_str(&format!(
            ", at {} req/s",
            trim_float((rate * 10.0).round() / 10.0)
        ));
    }
    text
}

/// What is said before the end of a log is quoted: the cell's own reason quotes it, once.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or(text);
    match line.rsplit_once("; the end of its log") {
        Some((said, rest)) if rest.ends_with(':') => said,
        _ => line,
    }
}

/// After an abort, the rule that stopped the cell has failed for good; what had not failed yet is inconclusive.
fn after_early_end(
    slo: &Slo,
    instance: &SloInstance,
    slice: &Slice,
    ending: &Ending,
    mut told: Told,
) -> Told {
    let reason = match ending {
        Ending::Complete => return told,
        Ending::Aborted(id) if *id == slo.id && slo.abort.is_some() => {
            let last_begun = slice.seen.stages.last().map(|times| times.stage);
            if last_begun.is_some_and(|stage| instance.scope.stages.contains(&stage)) {
                told.state = State::Fail;
                told.detail = Some(format!(
                    "it stopped the cell in stage `{}`",
                    slice.cell.stages[slice.stage].name
                ));
                return told;
            }
            format!("aborted by {id}")
        }
        Ending::Aborted(id) => format!("aborted by {id}"),
        Ending::Interrupted => "interrupted".to_owned(),
        Ending::Budget => "the budget of `run.budget` was reached".to_owned(),
        Ending::EngineDied(text) => first_line(text).to_owned(),
    };
    if !matches!(told.state, State::Fail | State::Skipped(_)) {
        told.state = no_data(reason);
    }
    told
}
