//! From what was written to what will happen: every default filled in, every mistake told at once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::loads::{Expanded, LoadContext, expand};
use super::matrix::{Combination, combinations, order, select};
use super::prompts::LoadedSet;
use super::search;
use super::{
    Absence, Api, Backend, BackendKind, BaselinePlan, Cell, Fairness, Fingerprint, GoodputBound,
    Gpus, Guard, Guards, HeaderValue, Level, Model, Plan, Planned, RateForm, RunLimits, Schedule,
    Slo, TelemetryPlan, axes, backends, context, conversations, describe, digest, fairness, launch,
    outputs, prompts, requests, samples, slos, variants,
};
use crate::diagnostic::{Diagnostic, Severity, Sources, Span, Spanned, did_you_mean};
use crate::spec::{
    Asked, Assertions, BackendSpec, CacheState, CellNames, Condition, Dimension, Draft,
    EngineTelemetry, Entry, GoodputRule, GuardSpec, GuardsSpec, LimitSpec, LoadForm, LoadSpec,
    RequestSpec, RunOrder, RunSpec, ScenarioSpec, SloSpec, Tail, TraceLoadSpec, WarmupSpec,
    WhereSpec, WorkersSpec,
};
use crate::units::{Moment, Rate, Share, format_duration};
use crate::workload::{Library, PrefixCache, Replay, ReplayOptions, Tokenizer};

/// What the command line says about a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanOptions {
    /// Selections of cells: patterns for parts of their ids, separated by commas.
    pub only: Vec<String>,
    /// In place of `run.seed`.
    pub seed: Option<u64>,
    /// In place of `run.repeats`.
    pub repeats: Option<u32>,
    /// Every backend is played by the nearest preset of the simulator.
    pub simulate: bool,
    /// Every stage is shortened to a moment.
    pub smoke: bool,
    /// A one-line run without a file: warm-ups of the simulator are short.
    pub quick: bool,
    /// Nothing will run: what is not on this machine is not fetched, and told by a warning.
    pub dry: bool,
    /// Where tokenizers and data sets come from that are not on this machine.
    pub library: Library,
}

const COOLDOWN: Duration = Duration::from_secs(2);
const SMOKE_COOLDOWN: Duration = Duration::from_millis(200);
const WARMUP: Duration = Duration::from_secs(10);
/// The warm-up of a quick run on the simulator, and of every smoke run.
const SHORT_WARMUP: Duration = Duration::from_secs(1);
/// The same in a smoke run, which shows that a scenario works and not how an engine performs.
const SMOKE_WARMUP: Duration = Duration::from_millis(200);
const SAMPLING: Duration = Duration::from_millis(250);
/// Prompts set apart for a stage of unknown size on a set that never ends.
const ENDLESS_SLICE: u64 = 1_000_000;
/// The most requests of a trace in a smoke run.
const SMOKE_REPLAY: usize = 64;
/// Trends of a request that goodput may bound.
const GOODPUT_METRICS: &[&str] = &[
    "ttft",
    "ttft_content",
    "ttft_intended",
    "first_event",
    "tpot",
    "e2e",
    "e2e_intended",
];

/// Makes the plan of a scenario, with warnings; or tells every mistake at once.
///
/// Reads the data sets that the scenario names, and nothing else of the outside world.
///
/// # Errors
/// All diagnostics, if one of them is an error.
pub fn plan(
    spec: &ScenarioSpec,
    sources: &Sources,
    options: &PlanOptions,
) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut found = Vec::new();
    let apart = variants::taken_apart(spec, &mut found);
    let spec = apart.as_ref().unwrap_or(spec);
    let apart = axes::taken_apart(spec, &mut found);
    let spec = apart.as_ref().unwrap_or(spec);
    let plan = Resolver::new(spec, sources, options).resolve(&mut found);
    let found = distinct(found);
    match plan {
        Some(plan)
            if found
                .iter()
                .all(|diagnostic| diagnostic.severity != Severity::Error) =>
        {
            Ok((plan, found))
        }
        _ => Err(found),
    }
}

/// What else is wrong with a file that has mistakes already.
pub fn mistakes(draft: &Draft, sources: &Sources, options: &PlanOptions) -> Vec<Diagnostic> {
    let mut found = if draft.cells_are_whole {
        match plan(&draft.spec, sources, options) {
            Ok((_, warnings)) => warnings,
            Err(found) => found,
        }
    } else {
        slos::misspelt(&draft.spec)
    };
    found.retain(|diagnostic| diagnostic.severity == Severity::Error);
    found
}

/// The same mistake is found once for each cell that has it; it is told once, in the order of the file.
pub fn distinct(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let key = |diagnostic: &Diagnostic| {
        let place = diagnostic.primary.as_ref().map(|label| label.span);
        (diagnostic.code, diagnostic.message.clone(), place)
    };
    let mut kept: Vec<Diagnostic> = Vec::new();
    for diagnostic in found {
        if kept.iter().all(|other| key(other) != key(&diagnostic)) {
            kept.push(diagnostic);
        }
    }
    // A text that a comma has cut off is told as that, and not for what is missing in it.
    let cut: Vec<Span> = kept
        .iter()
        .filter(|diagnostic| diagnostic.code == "S005")
        .flat_map(|diagnostic| diagnostic.secondary.iter().map(|label| label.span))
        .collect();
    kept.retain(|diagnostic| {
        let inside = |at: Span| {
            cut.iter()
                .any(|cut| cut.source == at.source && cut.start <= at.start && at.end <= cut.end)
        };
        let at = diagnostic.primary.as_ref().map(|label| label.span);
        diagnostic.code == "S005" || !at.is_some_and(inside)
    });
    // In the order of the file; what has no place comes last.
    kept.sort_by_key(|diagnostic| {
        let place = diagnostic.primary.as_ref().map(|label| label.span);
        (place.is_none(), place)
    });
    kept
}

struct Resolver<'a> {
    spec: &'a ScenarioSpec,
    sources: &'a Sources,
    options: &'a PlanOptions,
    seed: u64,
    repeats: u32,
}

impl<'a> Resolver<'a> {
    fn new(spec: &'a ScenarioSpec, sources: &'a Sources, options: &'a PlanOptions) -> Resolver<'a> {
        let run = spec.run.as_ref();
        let seed = run.and_then(|run| run.seed.as_ref()).map(|seed| seed.value);
        let repeats = run
            .and_then(|run| run.repeats.as_ref())
            .map(|repeats| repeats.value);
        Resolver {
            spec,
            sources,
            options,
            seed: options.seed.or(seed).unwrap_or(1),
            repeats: options.repeats.or(repeats).unwrap_or(1).max(1),
        }
    }

    fn resolve(&self, found: &mut Vec<Diagnostic>) -> Option<Plan> {
        self.check_what_is_not_in_a_cell(found);
        let models = backends::models(self.spec, self.options, self.sources, found);
        let mut combinations = combinations(self.spec, found);
        let without_traces = combinations.len();
        combinations.retain(|combination| self.plays(combination));
        if combinations.is_empty() && without_traces > 0 {
            found.push(Diagnostic::error(
                "S046",
                "no combination is left to run: a load plays a trace that the matrix leaves out",
            ));
        }
        let sets = self.load_sets(&combinations, &models, found);
        let combinations = self.take_apart(&combinations, &models, &sets);
        let ids: Vec<[&str; 4]> = combinations
            .iter()
            .map(|(combination, set)| {
                [
                    combination.backend.as_str(),
                    combination.model.as_str(),
                    set.name.as_str(),
                    combination.load.as_str(),
                ]
            })
            .collect();
        let selected = if ids.is_empty() {
            Vec::new()
        } else {
            select(&ids, &self.options.only, found)
        };
        let mut cells = Vec::new();
        let mut deselected = Vec::new();
        for (((combination, set), id), selected) in combinations.iter().zip(&ids).zip(&selected) {
            if *selected {
                cells.extend(self.cell(combination, set, &models, found));
            } else {
                deselected.push(id.join("/"));
            }
        }
        if has_error(found) {
            found.extend(slos::misspelt(self.spec));
            return None;
        }
        self.check_interfaces(&cells, found);
        self.check_fairness(&cells, found);
        for cell in &mut cells {
            self.give_slices(cell, found);
            cell.digest = digest::cell(cell, self.seed);
        }
        let plan = self.assemble(cells, deselected, found);
        self.check_bounds(&plan, found);
        if !self.options.smoke {
            check_samples(&plan, found);
            search::check(&plan, found);
            self.check_baseline(&plan, found);
        }
        Some(plan)
    }

    fn assemble(
        &self,
        cells: Vec<Cell>,
        deselected: Vec<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Plan {
        let spec = self.spec;
        let run = spec.run.as_ref();
        let path = &self.sources.main().path;
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let written_order = run
            .and_then(|run| run.order.as_ref())
            .map(|order| order.value);
        let slos::Compiled {
            slos,
            skipped,
            found: in_slos,
            notes,
        } = slos::compile(spec, &cells, &deselected, self.repeats);
        found.extend(in_slos);
        let plots = outputs::plots(spec, &cells, !deselected.is_empty(), found);
        let launched = cells.iter().any(|cell| cell.backend.launch.is_some());
        let between = run.and_then(|run| run.between.as_ref());
        Plan {
            name: spec
                .name
                .as_ref()
                .map(|name| name.value.to_string())
                .or(stem)
                .unwrap_or_else(|| "scenario".to_owned()),
            description: spec.description.as_ref().map(|text| text.value.clone()),
            owner: spec.owner.as_ref().map(|text| text.value.clone()),
            path: path.display().to_string(),
            secrets: secrets(spec, &cells),
            seed: self.seed,
            repeats: self.repeats,
            digest: digest::plan(&cells),
            order: order(
                &cells,
                self.repeats,
                // Turns would start a launched engine anew for each cell.
                written_order.unwrap_or(if launched {
                    RunOrder::Listed
                } else {
                    RunOrder::Rotate
                }),
                self.seed,
            ),
            slos,
            cells,
            deselected,
            telemetry: self.telemetry(),
            between: between.into_iter().flatten().map(launch::words).collect(),
            limits: run.map(limits).unwrap_or_default(),
            smoke: self.options.smoke,
            baseline: self.baseline(),
            outputs: outputs::outputs(self.spec, self.sources),
            plots,
            skipped_slos: skipped,
            fairness: self.fairness(),
            notes,
        }
    }

    fn telemetry(&self) -> TelemetryPlan {
        let written = self.spec.telemetry.as_ref();
        let engine = written
            .and_then(|telemetry| telemetry.engine.as_ref())
            .map(|engine| engine.value);
        TelemetryPlan {
            every: written
                .and_then(|telemetry| telemetry.every.as_ref())
                .map_or(SAMPLING, |every| every.value),
            engine: engine != Some(EngineTelemetry::Off),
        }
    }

    fn baseline(&self) -> Option<BaselinePlan> {
        let written = self.spec.baseline.as_ref()?;
        let folder = self.sources.directory(written.file.span.source);
        let all = || {
            vec![
                Fingerprint::Gpu,
                Fingerprint::Model,
                Fingerprint::Load,
                Fingerprint::Engine,
            ]
        };
        Some(BaselinePlan {
            file: folder.join(&written.file.value),
            missing: written.missing.as_ref().map(|absence| absence.value),
            mismatch: written.mismatch.as_ref().map(|absence| absence.value),
            must_match: written.must_match.as_ref().map_or_else(all, |some| {
                some.iter().map(|fingerprint| fingerprint.value).collect()
            }),
        })
    }

    /// A baseline that is not there is told before the load and not by verdicts after it.
    fn check_baseline(&self, plan: &Plan, found: &mut Vec<Diagnostic>) {
        let standing = |slo: &&Slo| {
            let mut instances = slo.instances.iter();
            instances.any(|instance| instance.assertion.needs_baseline())
        };
        let Some(slo) = plan.slos.iter().find(standing) else {
            return;
        };
        let told = match (&self.spec.baseline, &plan.baseline) {
            (Some(written), Some(named)) => {
                if named.missing == Some(Absence::Skip) || named.file.exists() {
                    return;
                }
                let message = format!("there is no baseline at `{}`", written.file.value.display());
                let warning = Diagnostic::warning("L044", message).at(written.file.span, "");
                warning.also(slo.span, "it cannot be told without it")
            }
            _ => {
                let message = format!(
                    "`{}` stands on a baseline, and the scenario names none",
                    slo.id
                );
                let warning = Diagnostic::warning("L044", message).at(slo.span, "");
                warning.help("write `baseline: { file: … }`")
            }
        };
        let help = "keep a good run as one with `scenario baseline save RESULTS FILE`";
        found.push(told.help(help));
    }

    // ---- what is wrong whichever cells run ----

    fn check_what_is_not_in_a_cell(&self, found: &mut Vec<Diagnostic>) {
        for entry in self.spec.backends.iter() {
            backends::check(entry, found);
            backends::backend(entry, None, self.options.simulate, self.sources, found);
        }
        for entry in self.spec.load.iter() {
            if let LoadForm::Trace(trace) = &entry.value.form.value {
                self.check_trace(trace, found);
            }
            // With some number of prompts: whether a batch has one is seen with its set.
            let context = LoadContext {
                prompts: Some(1000),
                ..self.load_context(&entry.key.value)
            };
            expand(&entry.value, &context, found);
        }
        self.check_requests(found);
        self.check_goodput(found);
    }

    fn check_trace(&self, trace: &TraceLoadSpec, found: &mut Vec<Diagnostic>) {
        let named = &trace.prompts;
        let known = self.spec.prompts.as_ref();
        if known.is_some_and(|prompts| prompts.get(&named.value).is_some()) {
            return;
        }
        let error = Diagnostic::error("S154", format!("there is no prompt set `{}`", named.value))
            .at(named.span, "");
        let names = known.into_iter().flat_map(|prompts| prompts.names());
        found.push(match did_you_mean(&named.value, names) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("name a prompt set with `source: trace`"),
        });
    }

    fn check_requests(&self, found: &mut Vec<Diagnostic>) {
        let spec = self.spec;
        let written = spec
            .request
            .iter()
            .chain(
                spec.models
                    .iter()
                    .flatten()
                    .filter_map(|entry| entry.value.request.as_ref()),
            )
            .chain(
                spec.backends
                    .iter()
                    .filter_map(|entry| entry.value.request.as_ref()),
            )
            .chain(
                spec.prompts
                    .iter()
                    .flatten()
                    .filter_map(|entry| entry.value.use_as.request.as_ref()),
            );
        for expect in written.filter_map(|request| request.expect.as_ref()) {
            let contains = expect
                .contains
                .as_ref()
                .and_then(|texts| texts.first())
                .map(|text| text.span);
            let schema = expect.json_schema.as_ref().map(|schema| schema.span);
            let warning = Diagnostic::warning(
                "L041",
                "`expect` is not judged yet: `valid_rate` will have no data",
            );
            found.push(match contains.or(schema) {
                Some(span) => warning.at(span, ""),
                None => warning,
            });
        }
    }

    /// An engine without a server saves what HTTP costs: side by side with the others that must be meant.
    fn check_interfaces(&self, cells: &[Cell], found: &mut Vec<Diagnostic>) {
        let meant = self.spec.allow_mixed_interface.as_ref();
        let offline = |cell: &&Cell| cell.backend.api == Api::Offline;
        let Some(inside) = cells.iter().find(offline) else {
            return;
        };
        let Some(outside) = cells.iter().find(|cell| !offline(cell)) else {
            return;
        };
        if meant.is_some_and(|meant| meant.value) {
            return;
        }
        let place = self.spec.backends.entry(&inside.backend.id);
        let error = Diagnostic::error(
            "S076",
            format!(
                "`{}` has no server, and `{}` is asked over HTTP: their numbers do not mean the same",
                inside.backend.id, outside.backend.id
            ),
        )
        .help("write `allow_mixed_interface: true` if that is meant, or measure them apart");
        found.push(match place {
            Some(entry) => error.at(entry.key.span, "offline"),
            None => error,
        });
    }

    fn fairness(&self) -> Fairness {
        self.spec
            .fairness
            .as_ref()
            .map_or(Fairness::Warn, |written| written.value)
    }

    /// What the file itself treats differently, where it asks for a strict comparison.
    fn check_fairness(&self, cells: &[Cell], found: &mut Vec<Diagnostic>) {
        let Some(written) = self.spec.fairness.as_ref() else {
            return;
        };
        if written.value != Fairness::Strict {
            return;
        }
        for difference in fairness::differences(cells) {
            found.push(
                Diagnostic::error(
                    "S077",
                    format!("backends that are compared differ in {difference}"),
                )
                .at(written.span, "")
                .help("make them alike, or write `fairness: warn` to have it told in the report"),
            );
        }
    }

    /// The states of the prefix cache that are tested.
    fn cache_states(&self) -> Vec<(PrefixCache, Span)> {
        let written = self.spec.run.as_ref().and_then(|run| run.cache.as_ref());
        let state = |state: &Spanned<CacheState>| {
            let cache = match state.value {
                CacheState::AsIs => PrefixCache::AsIs,
                CacheState::Cold => PrefixCache::Cold,
                CacheState::Warm => PrefixCache::Warm,
            };
            (cache, state.span)
        };
        written
            .into_iter()
            .flat_map(|written| written.0.iter().map(state))
            .collect()
    }

    /// The sets in each state of the prefix cache; one whose prompts share no prefix stays as it is.
    fn in_cache_states(&self, sets: Vec<LoadedSet>, found: &mut Vec<Diagnostic>) -> Vec<LoadedSet> {
        let states = self.cache_states();
        let Some(&(_, span)) = states.iter().find(|(state, _)| *state != PrefixCache::AsIs) else {
            return sets;
        };
        if sets
            .iter()
            .all(|set| set.workload.prefix_groups().is_none())
        {
            found.push(
                Diagnostic::error("S156", "no prompt set has a prefix that could be cached")
                    .at(span, "")
                    .help("give a synthetic set a `shared_prefix`"),
            );
        }
        sets.into_iter()
            .flat_map(|set| {
                if set.workload.prefix_groups().is_none() {
                    return vec![set];
                }
                let in_state = |&(cache, _): &(PrefixCache, Span)| {
                    let name = match cache {
                        PrefixCache::AsIs => set.name.clone(),
                        PrefixCache::Cold | PrefixCache::Warm => {
                            format!("{}-{}", set.name, cache.name())
                        }
                    };
                    Some(LoadedSet {
                        id: set.id.clone(),
                        name,
                        tokenizer: set.tokenizer.clone(),
                        cache,
                        workload: Arc::new(set.workload.with_cache(cache)?),
                    })
                };
                states.iter().filter_map(in_state).collect()
            })
            .collect()
    }

    fn check_goodput(&self, found: &mut Vec<Diagnostic>) {
        for rule in self.goodput_rules() {
            for bound in rule.bounds.iter() {
                let metric = &bound.key;
                if GOODPUT_METRICS.contains(&metric.value.as_str()) {
                    continue;
                }
                let error = Diagnostic::error(
                    "S064",
                    format!("a request has no `{}` to bound", metric.value),
                )
                .at(metric.span, "");
                found.push(
                    match did_you_mean(&metric.value, GOODPUT_METRICS.iter().copied()) {
                        Some(near) => error.help(format!("did you mean `{near}`?")),
                        None => {
                            error.help(format!("it may be one of {}", GOODPUT_METRICS.join(", ")))
                        }
                    },
                );
            }
            for clause in rule.scope.iter().flat_map(|scope| &scope.clauses) {
                if !matches!(
                    clause.dimension.value,
                    Dimension::Prompts | Dimension::Category
                ) {
                    found.push(
                        Diagnostic::error(
                            "S065",
                            format!("goodput cannot differ by {}", clause.dimension.value.name()),
                        )
                        .at(clause.dimension.span, "")
                        .help("it may differ by `prompts` and `category`"),
                    );
                }
            }
        }
    }

    fn goodput_rules(&self) -> &'a [GoodputRule] {
        self.spec
            .goodput
            .as_ref()
            .map_or(&[], |goodput| &goodput.rules)
    }

    // ---- cells ----

    fn load_sets(
        &self,
        combinations: &[Combination],
        models: &[Model],
        found: &mut Vec<Diagnostic>,
    ) -> Vec<LoadedSet> {
        let mut wanted: Vec<(&str, Option<Arc<Tokenizer>>)> = Vec::new();
        for combination in combinations {
            let tokenizer = self.tokenizer_of(combination, models);
            if !wanted.contains(&(&combination.prompts, tokenizer.clone())) {
                wanted.push((&combination.prompts, tokenizer));
            }
        }
        let sets = wanted
            .into_iter()
            .flat_map(|(id, tokenizer)| {
                prompts::load(
                    id,
                    self.spec,
                    tokenizer,
                    self.seed,
                    self.options,
                    self.sources,
                    found,
                )
            })
            .collect();
        self.in_cache_states(sets, found)
    }

    /// Whether a load and a prompt set go together: a trace is played from the set that it names, and from no other.
    fn plays(&self, combination: &Combination) -> bool {
        match self
            .spec
            .load
            .get(&combination.load)
            .map(|load| &load.form.value)
        {
            Some(LoadForm::Trace(trace)) => trace.prompts.value.as_str() == combination.prompts,
            _ => true,
        }
    }

    /// The tokenizer that the prompts of a combination are made for, where they depend on one.
    fn tokenizer_of(&self, combination: &Combination, models: &[Model]) -> Option<Arc<Tokenizer>> {
        prompts::is_made_for_a_tokenizer(&combination.prompts, self.spec)
            .then(|| {
                models
                    .iter()
                    .find(|model| model.key == combination.model)?
                    .tokenizer
                    .clone()
            })
            .flatten()
    }

    /// Each combination with each of the sets that its prompt set was taken apart into.
    fn take_apart<'s>(
        &self,
        combinations: &[Combination],
        models: &[Model],
        sets: &'s [LoadedSet],
    ) -> Vec<(Combination, &'s LoadedSet)> {
        combinations
            .iter()
            .flat_map(|combination| {
                let tokenizer = self.tokenizer_of(combination, models);
                sets.iter()
                    .filter(move |set| set.id == combination.prompts && set.tokenizer == tokenizer)
                    .map(|set| (combination.clone(), set))
            })
            .collect()
    }

    fn load_context(&self, load: &str) -> LoadContext {
        let run = self.spec.run.as_ref();
        let smoke = self.options.smoke;
        let cooldown = run
            .and_then(|run| run.cooldown.as_ref())
            .map_or(COOLDOWN, |cooldown| cooldown.value);
        let all_simulated = self
            .spec
            .backends
            .iter()
            .all(|entry| backends::kind(entry) == BackendKind::Simulator);
        let short = smoke || (self.options.quick && (all_simulated || self.options.simulate));
        LoadContext {
            warmup: run
                .and_then(|run| run.warmup.as_ref())
                .map(|warmup| warmup.value),
            cooldown: if smoke {
                cooldown.min(SMOKE_COOLDOWN)
            } else {
                cooldown
            },
            default_warmup: match (self.options.smoke, short) {
                (true, _) => SMOKE_WARMUP,
                (false, true) => SHORT_WARMUP,
                (false, false) => WARMUP,
            },
            samples: self.samples_needed(load),
            smoke,
            prompts: None,
            replay: None,
        }
    }

    /// The samples that the percentile SLOs over this load need.
    fn samples_needed(&self, load: &str) -> u64 {
        let concerns = |scope: &Option<WhereSpec>| {
            scope.iter().flat_map(|scope| &scope.clauses).all(|clause| {
                match (&clause.dimension.value, &clause.condition.value) {
                    (Dimension::Load, Condition::OneOf(names)) => {
                        names.iter().any(|name| name.value == load)
                    }
                    _ => true,
                }
            })
        };
        self.spec
            .slos
            .iter()
            .flatten()
            .filter(|entry| concerns(&entry.value.scope))
            .flat_map(|entry| assertion_texts(&entry.value))
            .filter_map(samples::needed)
            .map(|need| need.samples)
            .max()
            .unwrap_or(0)
    }

    fn cell(
        &self,
        combination: &Combination,
        set: &LoadedSet,
        models: &[Model],
        found: &mut Vec<Diagnostic>,
    ) -> Option<Cell> {
        let spec = self.spec;
        let backend_entry = spec.backends.entry(&combination.backend)?;
        let load = spec.load.get(&combination.load)?;
        let model = models.iter().find(|model| model.key == combination.model)?;
        let written_model = spec
            .models
            .as_ref()
            .and_then(|models| models.get(&combination.model));
        let written_prompts = spec
            .prompts
            .as_ref()
            .and_then(|prompts| prompts.get(&set.id));
        let backend = backends::backend(
            backend_entry,
            Some(model),
            self.options.simulate,
            self.sources,
            found,
        );
        let backend = self.watched_from_afar(backend_entry, backend);
        let layers: [Option<&Asked>; 4] = [
            spec.request.as_ref(),
            written_model.and_then(|model| model.request.as_ref()),
            backend_entry.value.request.as_ref(),
            written_prompts.and_then(|prompts| prompts.use_as.request.as_ref()),
        ];
        let names = CellNames {
            backend: &combination.backend,
            model: &combination.model,
            prompts: &set.id,
            load: &combination.load,
        };
        let mut asked = layers.map(|layer| in_cell(layer?, &names, found));
        let of_prompts = asked[3].take();
        let capped = asked
            .iter()
            .chain([&of_prompts])
            .flatten()
            .any(|layer| layer.max_tokens.is_some());
        let mut request = requests::merge(
            asked.iter().flatten().map(|layer| &**layer),
            written_prompts.map(|prompts| &prompts.use_as),
            of_prompts.as_deref(),
        );
        if let Some(prompts) = written_prompts {
            prompts::fix_length(prompts, &mut request);
        }
        if let (Some(longest), false) = (set.workload.longest_answer(), capped) {
            request.max_tokens = longest;
        }
        let fitted = context::fitted(
            set,
            written_prompts,
            model,
            context::started_with(backend_entry, model, self.sources),
            &backend,
            &request,
            found,
        )?;
        let set = fitted.as_ref().unwrap_or(set);
        let replay = match &load.form.value {
            LoadForm::Trace(trace) => Some(self.replay(trace, set, &backend, model, found)?),
            LoadForm::Stages(_)
            | LoadForm::Levels(_)
            | LoadForm::Batch(_)
            | LoadForm::Search(_) => None,
        };
        let workload = replay.as_ref().map_or(Arc::clone(&set.workload), |replay| {
            Arc::new(replay.workload.clone())
        });
        let dialogue =
            conversations::dialogue(written_prompts, &workload, load.drive.think.as_ref());
        if let (Some(_), Some(prompts)) = (&dialogue, written_prompts) {
            let place = prompts::place(prompts);
            conversations::check(&load.form, &backend, model, &workload, place, found);
        }
        if self.options.smoke {
            requests::shorten(&mut request);
        }
        if !self.options.simulate {
            backends::check_request(backend_entry, &request, found);
            backends::check_adapters(backend_entry, model, found);
            if set.workload.shows_images() {
                backends::check_images(backend_entry, &set.name, found);
            }
        }
        let context = LoadContext {
            prompts: set.workload.measured(),
            replay,
            ..self.load_context(&combination.load)
        };
        let context = match set.workload.prefix_groups() {
            // Each prefix is sent once before it is measured, whoever warms up.
            Some(groups) if set.cache == PrefixCache::Warm && context.warmup.is_none() => {
                LoadContext {
                    warmup: Some(WarmupSpec::Requests(u64::from(groups))),
                    ..context
                }
            }
            _ => context,
        };
        let Expanded {
            stages,
            segments,
            search,
        } = expand(load, &context, found);
        let run = spec.run.as_ref();
        let drain = run
            .and_then(|run| run.drain.as_ref())
            .map_or(request.timeouts.total, |drain| drain.value);
        let cell = Cell {
            id: Combination {
                prompts: set.name.clone(),
                ..combination.clone()
            }
            .id(),
            backend: Arc::new(backend),
            model: Arc::new(model.clone()),
            prompts: set.name.clone(),
            load: combination.load.clone(),
            workload,
            cache: set.cache,
            request,
            stages,
            segments,
            search,
            drain,
            cooldown: context.cooldown,
            goodput: self.goodput(set),
            guards: self.guards(load),
            gpu_hour: spec
                .cost
                .as_ref()
                .and_then(|cost| cost.gpu_hour.as_ref())
                .map(|price| price.value),
            dialogue,
            prompts_per_repeat: 0,
            digest: String::new(),
        };
        if let (Some(limit), false) = (&backend_entry.value.limit, self.options.simulate) {
            check_limit(backend_entry, limit, &cell, found);
        }
        Some(cell)
    }

    /// The GPUs of a backend that names none are those of the exporter of `telemetry.dcgm`, if there is one.
    fn watched_from_afar(&self, entry: &Entry<BackendSpec>, backend: Backend) -> Backend {
        let telemetry = self.spec.telemetry.as_ref();
        let exporter = telemetry.and_then(|telemetry| telemetry.dcgm.as_ref());
        match exporter {
            Some(url) if entry.value.gpus.is_none() && !backend.is_simulated() => Backend {
                gpus: Gpus::Dcgm {
                    url: url.value.to_string(),
                    devices: Vec::new(),
                },
                ..backend
            },
            _ => backend,
        }
    }

    /// The part of a trace that a load plays; lengths that would only be estimated on a real engine are a mistake.
    fn replay(
        &self,
        trace: &TraceLoadSpec,
        set: &LoadedSet,
        backend: &Backend,
        model: &Model,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Replay> {
        let options = ReplayOptions {
            speed: trace.speed.as_ref().map_or(1.0, |speed| speed.value),
            from: trace
                .from
                .as_ref()
                .map_or(Duration::ZERO, |from| from.value),
            to: trace.to.as_ref().map(|to| to.value),
            rate_scale: trace.rate_scale.as_ref().map_or(1.0, |scale| scale.value),
            laps: trace.laps.as_ref().map_or(1, |laps| laps.value),
            chat: backend.api == Api::Chat,
        };
        let Some(mut replay) = set.workload.replay(&options) else {
            found.push(
                Diagnostic::error("S154", format!("`{}` is not a trace", set.id))
                    .at(trace.prompts.span, "")
                    .help("name a prompt set with `source: trace`"),
            );
            return None;
        };
        if backend.kind != BackendKind::Simulator && model.tokenizer.is_none() && !self.options.dry
        {
            found.push(
                Diagnostic::error(
                    "S152",
                    format!(
                        "`{}` has lengths that only a tokenizer can make exact",
                        set.id
                    ),
                )
                .at(trace.prompts.span, "")
                .help(format!(
                    "give model `{}` a `tokenizer`: a path, or the name of a model on the hub",
                    model.key
                )),
            );
            return None;
        }
        if self.options.smoke {
            let kept = replay
                .times
                .iter()
                .take(SMOKE_REPLAY)
                .take_while(|at| **at <= Moment::from_secs_f64(2.0))
                .count()
                .max(1);
            replay.times = replay.times[..kept.min(replay.times.len())].into();
            replay.duration = replay.duration.min(Duration::from_secs(2));
        }
        Some(replay)
    }

    fn goodput(&self, set: &LoadedSet) -> Vec<GoodputBound> {
        let mut bounds = Vec::new();
        for rule in self.goodput_rules() {
            let clauses: Vec<_> = rule.scope.iter().flat_map(|scope| &scope.clauses).collect();
            let named = |dimension: Dimension| {
                clauses
                    .iter()
                    .find(|clause| clause.dimension.value == dimension)
                    .map(|clause| match &clause.condition.value {
                        Condition::OneOf(names) => {
                            names.iter().map(|name| name.value.clone()).collect()
                        }
                        Condition::Compare(..) => Vec::new(),
                    })
            };
            if named(Dimension::Prompts).is_some_and(|names: Vec<String>| {
                !names.contains(&set.id) && !names.contains(&set.name)
            }) {
                continue;
            }
            let categories: Vec<Option<String>> = match named(Dimension::Category) {
                Some(names) => names.into_iter().map(Some).collect(),
                None => vec![None],
            };
            for category in categories {
                bounds.extend(rule.bounds.iter().map(|bound| GoodputBound {
                    metric: bound.key.value.clone(),
                    limit: bound.value.value.as_secs_f64() * 1e3,
                    category: category.clone(),
                    span: bound.key.span,
                }));
            }
        }
        bounds
    }

    fn guards(&self, load: &LoadSpec) -> Guards {
        let mut guards = Guards::default();
        if matches!(load.form.value, LoadForm::Batch(_)) {
            guards.send_lag = None;
        }
        if let LoadForm::Levels(levels) = &load.form.value
            && levels
                .tail
                .as_ref()
                .is_some_and(|tail| tail.value == Tail::Drain)
        {
            // A level that falls by intent is not held to the end.
            guards.concurrency = None;
        }
        for written in [self.spec.guards.as_ref(), load.drive.guards.as_ref()]
            .into_iter()
            .flatten()
        {
            set_guards(written, &mut guards);
        }
        if self.options.smoke {
            guards.concurrency = None;
        }
        guards
    }

    /// Gives each measured stage its own slice of the set, one after another; each repeat goes on where the one before ended.
    fn give_slices(&self, cell: &mut Cell, found: &mut Vec<Diagnostic>) {
        let measured = cell.workload.measured();
        let known = |planned: Planned| planned.value().map(|requests| requests.ceil() as u64);
        let stages = || cell.stages.iter().filter(|stage| stage.measured);
        let told: u64 = stages().filter_map(|stage| known(stage.requests)).sum();
        let untold = stages()
            .filter(|stage| known(stage.requests).is_none())
            .count() as u64;
        let repeats = u64::from(self.repeats);
        // What the counted stages leave is shared by those that run for a time.
        let rest = measured
            .map_or(ENDLESS_SLICE, |prompts| {
                (prompts / repeats).saturating_sub(told) / untold.max(1)
            })
            .max(1);
        let per_repeat = told + untold * rest;
        let mut offset = 0;
        for stage in cell.stages.iter_mut().filter(|stage| stage.measured) {
            let slice = known(stage.requests).unwrap_or(rest);
            stage.prompt_offset = offset;
            offset += slice;
            let last = offset + (repeats - 1) * per_repeat;
            stage.prompts_reused = measured.is_some_and(|prompts| last > prompts);
        }
        cell.prompts_per_repeat = per_repeat;
        if let (Some(prompts), Some(stage)) = (
            measured,
            cell.stages.iter().find(|stage| stage.prompts_reused),
        ) {
            let planned = per_repeat * repeats;
            if cell.search.is_some() {
                let message = format!(
                    "`{}` has {prompts} prompts, and all levels of the search would ask for about {planned}: some may repeat",
                    cell.prompts
                );
                found.push(
                    Diagnostic::warning("L039", message)
                        .at(stage.span, "")
                        .help("a prefix cache makes repeated prompts faster; take a larger set, or fewer requests"),
                );
                return;
            }
            found.push(
                Diagnostic::warning("L039", format!("`{}` has {prompts} prompts and about {planned} are asked: they repeat", cell.prompts))
                    .at(stage.span, "from here on")
                    .help("a prefix cache makes repeated prompts faster; take a larger set, or fewer requests"),
            );
        }
    }

    // ---- bounds of the whole ----

    fn check_bounds(&self, plan: &Plan, found: &mut Vec<Diagnostic>) {
        let Some(run) = &self.spec.run else { return };
        let total = describe::totals(plan);
        let budget = run.budget.as_ref();
        let requests = budget.and_then(|budget| budget.requests.as_ref());
        if let Some(most) = requests.filter(|most| total.requests > most.value as f64) {
            found.push(over_budget("requests", total.requests, most));
        }
        let tokens = budget.and_then(|budget| budget.output_tokens.as_ref());
        if let Some(most) = tokens.filter(|most| total.output_tokens > most.value as f64) {
            found.push(over_budget("output tokens", total.output_tokens, most));
        }
        let time = run.max_duration.as_ref();
        if let Some(most) = time.filter(|most| total.seconds > most.value.as_secs_f64()) {
            let needed = Duration::try_from_secs_f64(total.seconds).unwrap_or(Duration::MAX);
            found.push(
                Diagnostic::warning(
                    "L038",
                    format!("the load alone takes about {}", format_duration(needed)),
                )
                .at(most.span, "no cell starts that cannot end in this")
                .help("what does not fit is skipped, and the exit code is 3"),
            );
        }
    }
}

/// Warns of percentiles that will have too few samples.
fn check_samples(plan: &Plan, found: &mut Vec<Diagnostic>) {
    for instance in plan.slos.iter().flat_map(|slo| &slo.instances) {
        let Some(need) = samples::needed(&instance.text) else {
            continue;
        };
        // Of a search, only the lowest level is sure to be tried.
        if search::is_above_the_lowest(plan, instance) {
            continue;
        }
        let planned = describe::planned_samples(plan, instance);
        let Some(planned) = planned.filter(|planned| *planned < need.samples as f64) else {
            continue;
        };
        let place = describe::scope_place(plan, instance);
        found.push(
            Diagnostic::warning(
                "L003",
                format!(
                    "`{}` needs {} answers for 95 % confidence; `{place}` plans {planned:.0}",
                    instance.text, need.samples
                ),
            )
            .at(instance.span, "")
            .help("run the stage longer, or ask for a lower percentile"),
        );
    }
}

/// The environment variables of secrets: those that the scenario declares, and those of headers.
fn secrets(spec: &ScenarioSpec, cells: &[Cell]) -> Vec<String> {
    let declared = spec.secrets.iter().flatten();
    let mut names: Vec<String> = declared
        .map(|secret| secret.value.env.value.clone())
        .collect();
    for (_, value) in cells.iter().flat_map(|cell| &cell.backend.headers) {
        if let HeaderValue::Environment { name, .. } = value {
            names.push(name.clone());
        }
    }
    names.sort();
    names.dedup();
    names
}

fn has_error(found: &[Diagnostic]) -> bool {
    found
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error)
}

fn assertion_texts(slo: &SloSpec) -> Vec<&str> {
    let own: Vec<&str> = match &slo.assert {
        Assertions::One(text) => vec![&text.value],
        Assertions::Scoped(texts) => texts.iter().map(|text| text.value.as_str()).collect(),
    };
    let overrides = slo
        .overrides
        .iter()
        .flatten()
        .map(|narrower| narrower.assert.value.as_str());
    own.into_iter().chain(overrides).collect()
}

fn limits(run: &RunSpec) -> RunLimits {
    let budget = run.budget.as_ref();
    RunLimits {
        max_duration: run.max_duration.as_ref().map(|duration| duration.value),
        requests: budget
            .and_then(|budget| budget.requests.as_ref())
            .map(|most| most.value),
        output_tokens: budget
            .and_then(|budget| budget.output_tokens.as_ref())
            .map(|most| most.value),
        workers: run
            .workers
            .as_ref()
            .and_then(|workers| match workers.value {
                WorkersSpec::Auto => None,
                WorkersSpec::Of(workers) => Some(workers),
            }),
    }
}

fn over_budget(what: &str, planned: f64, most: &Spanned<u64>) -> Diagnostic {
    Diagnostic::error(
        "S059",
        format!(
            "the plan needs up to {planned:.0} {what}, and the budget is {}",
            most.value
        ),
    )
    .at(most.span, "")
    .help("plan fewer cells, repeats or requests, or raise the budget")
}

fn check_limit(
    entry: &Entry<BackendSpec>,
    limit: &LimitSpec,
    cell: &Cell,
    found: &mut Vec<Diagnostic>,
) {
    let over = |text: String, span: Span| {
        Diagnostic::error(
            "S060",
            format!(
                "load `{}` {text} of backend `{}`",
                cell.load, entry.key.value
            ),
        )
        .at(span, "")
        .help("lower the load, or leave the cell out with `matrix.exclude`")
    };
    let rate = cell.segments.iter().map(peak_rate).fold(0.0, f64::max);
    let users = cell.segments.iter().map(peak_in_flight).max().unwrap_or(0);
    if let Some(most) = limit
        .requests
        .as_ref()
        .filter(|most| rate > most.value.per_second())
    {
        found.push(over(
            format!(
                "sends {}, above the limit",
                Rate::new(rate).unwrap_or_default()
            ),
            most.span,
        ));
    }
    if let Some(most) = limit
        .in_flight
        .as_ref()
        .filter(|most| users > u64::from(most.value))
    {
        found.push(over(
            format!("holds {users} requests in flight, above the limit"),
            most.span,
        ));
    }
    let tokens = rate * f64::from(cell.request.max_tokens);
    if let Some(most) = limit
        .tokens
        .as_ref()
        .filter(|most| tokens > most.value.per_second())
    {
        found.push(
            Diagnostic::warning(
                "L040",
                format!(
                    "load `{}` may take {tokens:.0} tokens/s of backend `{}`",
                    cell.load, entry.key.value
                ),
            )
            .at(most.span, "more than this"),
        );
    }
}

fn peak_rate(segment: &super::Segment) -> f64 {
    match &segment.schedule {
        Schedule::Open { curve, .. } => curve
            .pieces
            .iter()
            .map(|piece| match piece.form {
                RateForm::Burst(_) => 0.0,
                RateForm::Flow { from, to, .. } => from.per_second().max(to.per_second()),
            })
            .fold(0.0, f64::max),
        Schedule::Closed { .. } | Schedule::Batch { .. } => 0.0,
    }
}

/// Requests in flight that the load itself asks for; an open loop asks for none, its cap is for safety.
fn peak_in_flight(segment: &super::Segment) -> u64 {
    match &segment.schedule {
        Schedule::Open { .. } => 0,
        Schedule::Closed { users, .. } => u64::from(users.peak()),
        Schedule::Batch { size, requests } => size.map_or(*requests, u64::from),
    }
}

/// What a layer asks in a cell. A mistake that several cells share is told once.
fn in_cell<'s>(
    layer: &'s Asked,
    names: &CellNames<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Cow<'s, RequestSpec>> {
    let place = |told: &Diagnostic| told.primary.as_ref().map(|label| label.span);
    match layer.in_cell(names) {
        Ok(spec) => Some(spec),
        Err(problems) => {
            for problem in problems {
                let known = found
                    .iter()
                    .any(|told| told.message == problem.message && place(told) == place(&problem));
                if !known {
                    found.push(problem);
                }
            }
            None
        }
    }
}

fn set_guards(written: &GuardsSpec, guards: &mut Guards) {
    let share = |share: &Share| share.fraction();
    let seconds = |time: &Duration| time.as_secs_f64();
    set_guard(&written.error_rate, &mut guards.error_rate, share);
    set_guard(&written.send_lag, &mut guards.send_lag, seconds);
    set_guard(&written.missed, &mut guards.missed, share);
    set_guard(&written.cut, &mut guards.cut, share);
    set_guard(&written.concurrency, &mut guards.concurrency, share);
    set_guard(&written.client, &mut guards.client, share);
    set_guard(&written.stamps, &mut guards.stamps, seconds);
    set_guard(&written.tokens, &mut guards.tokens, share);
    set_guard(&written.cache_hits, &mut guards.cache_hits, share);
    set_guard(
        &written.throttling,
        &mut guards.throttling,
        |bound| match *bound {},
    );
    set_guard(
        &written.neighbours,
        &mut guards.neighbours,
        |bound| match *bound {},
    );
    set_guard(
        &written.restarts,
        &mut guards.restarts,
        |bound| match *bound {},
    );
}

fn set_guard<T>(
    written: &Option<GuardSpec<T>>,
    guard: &mut Option<Guard>,
    bound: impl Fn(&T) -> f64,
) {
    match written {
        None => {}
        Some(GuardSpec::Off(_)) => *guard = None,
        Some(GuardSpec::On { limit, level }) => {
            let before = guard.unwrap_or(Guard {
                limit: None,
                level: Level::Fail,
            });
            *guard = Some(Guard {
                limit: limit
                    .as_ref()
                    .map(|limit| bound(&limit.value))
                    .or(before.limit),
                level: level
                    .as_ref()
                    .map_or(before.level, |level| match level.value {
                        crate::spec::Level::Fail => Level::Fail,
                        crate::spec::Level::Warn => Level::Warn,
                    }),
            });
        }
    }
}
