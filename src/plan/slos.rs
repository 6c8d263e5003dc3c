//! SLOs as written become instances: one assertion in one scope, with the cells and stages of each of its measures.
//!
//! An SLO is judged once for each cell and measured stage that its `where` leaves. `split` multiplies the instances, `pool` and
//! dimensions that every measure pins divide them. The matrix is static, so a reference that can match nothing is a mistake of
//! the file, and what was only deselected is skipped.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::{
    AbortRule, Cell, Count, FEWEST_REPEATS, Level, RepeatsMust, Scope, Slo, SloInstance, Stage,
    StartClock,
};
use crate::assertion::{self, Assertion, Context, Dim, Expression, Measure, Test, codes};
use crate::diagnostic::{Diagnostic, Severity, Span, Spanned, did_you_mean};
use crate::spec::{
    self, Assertions, Dimension, Entry, OverrideSpec, ScenarioSpec, SloKey, SloSpec, WhereClause,
    WhereSpec,
};
use crate::units::{format_duration, trim_float};

/// The confidence of `strict: samples`.
const STRICT: f64 = 0.95;
/// Confidences that samples can support.
const CONFIDENCES: RangeInclusive<f64> = 0.5..=0.9999;

/// What came of the SLOs of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The SLOs that have something to judge.
    pub slos: Vec<Slo>,
    /// Ids of SLOs whose every cell was deselected, with the reason.
    pub skipped: Vec<(String, String)>,
    /// What is wrong with them.
    pub found: Vec<Diagnostic>,
    /// What was left out without being wrong: an instance that is its own reference, a reference that is not in the matrix.
    pub notes: Vec<String>,
}

/// Compiles the SLOs of a scenario against its cells. `deselected` holds the ids of cells that a selection left out.
pub fn compile(
    spec: &ScenarioSpec,
    cells: &[Cell],
    deselected: &[String],
    repeats: u32,
) -> Compiled {
    let mut compiler = Compiler {
        cells,
        repeats,
        ids: known_ids(spec, cells, deselected),
        numbers: number_values(cells),
        compiled: Compiled::default(),
    };
    for entry in spec.slos.iter().flatten() {
        compiler.slo(entry);
    }
    let repeated = repeated(&compiler.compiled.slos);
    compiler.compiled.found.extend(repeated);
    compiler.compiled
}

/// A warning for each SLO that judges what another one judges already.
fn repeated(slos: &[Slo]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (index, slo) in slos.iter().enumerate() {
        let earlier = slos[..index]
            .iter()
            .find(|earlier| judge_alike(earlier, slo));
        if let Some(earlier) = earlier {
            let message = format!("`{}` judges what `{}` judges already", slo.id, earlier.id);
            found.push(
                Diagnostic::warning("L034", message)
                    .at(slo.span, "")
                    .also(earlier.span, "the same, in the same cells and stages")
                    .help("leave one of them out: each failure would be told twice"),
            );
        }
    }
    found
}

/// Whether two SLOs can only have the same verdicts.
fn judge_alike(one: &Slo, other: &Slo) -> bool {
    let rules = |slo: &Slo| {
        (
            (slo.level, slo.window, slo.count, slo.clock),
            slo.confidence.map(f64::to_bits),
            (slo.repeats_must, slo.separated, slo.abort),
        )
    };
    let mut instances = one.instances.iter().zip(&other.instances);
    rules(one) == rules(other)
        && one.instances.len() == other.instances.len()
        && instances.all(|(one, other)| {
            one.scope == other.scope
                && one.measures == other.measures
                && says(&one.assertion) == says(&other.assertion)
        })
}

/// An assertion in its normal form, its bound in base units.
fn says(assertion: &Assertion) -> String {
    let bound = match &assertion.right {
        Expression::Quantity(number, unit) => unit.to_base(*number).to_string(),
        other => other.to_string(),
    };
    format!("{} {:?} {bound}", assertion.left, assertion.comparison)
}

/// What is wrong with the words of the SLOs alone: said where the cells are not known, so ids and stages are not judged.
pub fn misspelt(spec: &ScenarioSpec) -> Vec<Diagnostic> {
    let mut compiler = Compiler {
        cells: &[],
        repeats: 1,
        ids: known_ids(spec, &[], &[]),
        numbers: Vec::new(),
        compiled: Compiled::default(),
    };
    for entry in spec.slos.iter().flatten() {
        let own: &[Spanned<String>] = match &entry.value.assert {
            Assertions::One(text) => std::slice::from_ref(text),
            Assertions::Scoped(texts) => texts,
        };
        let overrides = entry.value.overrides.iter().flatten();
        for text in own.iter().chain(overrides.map(|narrower| &narrower.assert)) {
            compiler.read(text, entry.key.value.as_str());
        }
    }
    let mut found = compiler.compiled.found;
    found.retain(|diagnostic| diagnostic.code != codes::ID);
    found
}

/// Every id of the registries, whether or not it was selected.
fn known_ids(spec: &ScenarioSpec, cells: &[Cell], deselected: &[String]) -> Vec<(Dim, String)> {
    let mut ids: Vec<(Dim, String)> = Vec::new();
    let mut add = |dim: Dim, id: &str| {
        if !ids.iter().any(|(own, known)| *own == dim && known == id) {
            ids.push((dim, id.to_owned()));
        }
    };
    spec.backends.names().for_each(|id| add(Dim::Backend, id));
    spec.models
        .iter()
        .flat_map(|models| models.names())
        .for_each(|id| add(Dim::Model, id));
    spec.prompts
        .iter()
        .flat_map(|prompts| prompts.names())
        .for_each(|id| add(Dim::Prompts, id));
    spec.load.names().for_each(|id| add(Dim::Load, id));
    let parts = cells
        .iter()
        .map(|cell| cell.id.as_str())
        .chain(deselected.iter().map(String::as_str));
    for id in parts {
        for (dim, part) in [Dim::Backend, Dim::Model, Dim::Prompts, Dim::Load]
            .into_iter()
            .zip(id.split('/'))
        {
            add(dim, part);
        }
    }
    ids
}

struct Compiler<'a> {
    cells: &'a [Cell],
    repeats: u32,
    ids: Vec<(Dim, String)>,
    /// For each stage of each cell the number of its value in each place dimension: equal numbers are equal values.
    numbers: Vec<Vec<[usize; PLACE_DIMS.len()]>>,
    compiled: Compiled,
}

/// Numbers the values, so that places can be compared by the thousand.
fn number_values(cells: &[Cell]) -> Vec<Vec<[usize; PLACE_DIMS.len()]>> {
    let mut known: HashMap<(usize, Option<String>), usize> = HashMap::new();
    let mut number = |dim: usize, value: Option<String>| {
        let next = known.len();
        *known.entry((dim, value)).or_insert(next)
    };
    let stages = |cell: &Cell| {
        let of = |stage: &Stage| {
            let mut dim = 0;
            PLACE_DIMS.map(|place_dim| {
                dim += 1;
                number(dim, value_in(cell, stage, &place_dim))
            })
        };
        cell.stages.iter().map(of).collect()
    };
    cells.iter().map(stages).collect()
}

/// The value of a stage of a cell in a dimension.
fn value_in(cell: &Cell, stage: &Stage, dim: &Dim) -> Option<String> {
    Some(match dim {
        Dim::Backend => cell.backend.id.clone(),
        Dim::Model => cell.model.key.clone(),
        Dim::Prompts => cell.prompts.clone(),
        Dim::Load => cell.load.clone(),
        Dim::Stage => stage.name.clone(),
        Dim::Users => stage.users?.to_string(),
        Dim::Rate => stage.rate?.per_second().to_string(),
        Dim::Category | Dim::Turn | Dim::Cache | Dim::Gpu | Dim::Repeat | Dim::Tag(_) => {
            return None;
        }
    })
}

/// One cell and one measured stage of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    cell: usize,
    stage: usize,
}

/// The dimensions that tell places apart, in the order of names.
const PLACE_DIMS: [Dim; 7] = [
    Dim::Backend,
    Dim::Model,
    Dim::Prompts,
    Dim::Load,
    Dim::Stage,
    Dim::Users,
    Dim::Rate,
];
/// Those that an instance is named by; users and rates follow from the stage.
const NAMED: [(&str, Dim); 5] = [
    ("backend", Dim::Backend),
    ("model", Dim::Model),
    ("prompts", Dim::Prompts),
    ("load", Dim::Load),
    ("stage", Dim::Stage),
];

/// An assertion that applies, and where it was written.
struct Written<'a> {
    assertion: &'a Assertion,
    text: &'a Spanned<String>,
    override_index: Option<usize>,
}

/// What an instance is, before its assertion is resolved in it.
struct Instance<'a> {
    /// The places of the group.
    places: &'a [Place],
    /// The dimensions that the instance has a value in.
    has: &'a [Dim],
    /// What it is narrowed to inside its cells.
    narrowed: Scope,
    labels: Vec<(&'static str, String)>,
}

/// Why an instance does not exist.
enum Dropped {
    /// It would be compared with itself.
    OwnReference,
    /// What it refers to was deselected.
    NotSelected,
    /// What it refers to is not in the matrix.
    NoMatch(Span, String),
    /// A mistake that has been told.
    Told,
}

impl Compiler<'_> {
    fn slo(&mut self, entry: &Entry<SloSpec, SloKey>) {
        let texts: Vec<&Spanned<String>> = match &entry.value.assert {
            Assertions::One(text) => vec![text],
            Assertions::Scoped(texts) => texts.iter().collect(),
        };
        let key = entry.key.value.as_str();
        let wrong_before = self.errors();
        self.check_confidence(&entry.value);
        if let Some(scope) = &entry.value.scope {
            self.check_where(scope);
        }
        for narrower in entry.value.overrides.iter().flatten() {
            self.check_where(&narrower.scope);
        }
        let overrides: Vec<Option<Assertion>> = entry
            .value
            .overrides
            .iter()
            .flatten()
            .map(|narrower| self.read(&narrower.assert, key))
            .collect();
        let own: Vec<Option<Assertion>> = texts.iter().map(|text| self.read(text, key)).collect();
        if self.errors() > wrong_before {
            return;
        }
        let overrides: Vec<Assertion> = overrides.into_iter().flatten().collect();
        if let Some(Some(first)) = own.first() {
            self.check_separated(&entry.value, first);
        }
        for (text, assertion) in texts.into_iter().zip(own.into_iter().flatten()) {
            self.instantiate(entry, text, &assertion, &overrides);
        }
    }

    fn errors(&self) -> usize {
        self.compiled
            .found
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count()
    }

    fn read(&mut self, text: &Spanned<String>, key: &str) -> Option<Assertion> {
        let context = Context {
            ids: &self.ids,
            scoped_metric: Some(key),
        };
        let (assertion, found) = assertion::parse(&text.value, text.span, context);
        self.compiled.found.extend(found);
        assertion
    }

    /// `confidence` lies where samples can support it.
    fn check_confidence(&mut self, slo: &SloSpec) {
        if let Some(confidence) = &slo.confidence
            && !CONFIDENCES.contains(&confidence.value.fraction())
        {
            let message = "`confidence` lies between 50% and 99.99%";
            self.compiled
                .found
                .push(Diagnostic::error("S024", message).at(confidence.span, ""));
        }
    }

    /// `separated` has two sides to tell apart, and repeats to tell them apart by.
    fn check_separated(&mut self, slo: &SloSpec, assertion: &Assertion) {
        let Some(separated) = slo.separated.as_ref().filter(|separated| separated.value) else {
            return;
        };
        let has_sides = assertion.needs_baseline() || !assertion.right.measures().is_empty();
        let (message, help) = if !has_sides {
            (
                "`separated` has no effect on a bound that is a number",
                "compare with another backend or with `baseline`",
            )
        } else if self.repeats < FEWEST_REPEATS {
            (
                "`separated` needs 3 repeats, and this run has fewer: a failure will be inconclusive",
                "write `run: { repeats: 3 }`",
            )
        } else {
            return;
        };
        let found = Diagnostic::warning("L043", message).at(separated.span, "");
        self.compiled.found.push(found.help(help));
    }

    // ---- where ----

    /// Ids and categories of a `where` exist.
    fn check_where(&mut self, scope: &WhereSpec) {
        for clause in &scope.clauses {
            let spec::Condition::OneOf(values) = &clause.condition.value else {
                continue;
            };
            let known: Vec<String> = match clause.dimension.value {
                Dimension::Backend | Dimension::Model | Dimension::Prompts | Dimension::Load => {
                    let dim = dim_of(clause.dimension.value);
                    self.ids
                        .iter()
                        .filter(|(own, _)| *own == dim)
                        .map(|(_, id)| id.clone())
                        .collect()
                }
                Dimension::Category => self.categories(),
                Dimension::Stage
                | Dimension::Users
                | Dimension::Rate
                | Dimension::Turn
                | Dimension::Cache
                | Dimension::Gpu
                | Dimension::Repeat => continue,
            };
            for value in values.iter().filter(|value| !known.contains(&value.value)) {
                self.unknown(clause.dimension.value, value, &known);
            }
        }
    }

    fn categories(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for category in self
            .cells
            .iter()
            .flat_map(|cell| cell.workload.categories())
        {
            if !all.iter().any(|known| **known == **category) {
                all.push(category.to_string());
            }
        }
        all
    }

    fn unknown(&mut self, dimension: Dimension, value: &Spanned<String>, known: &[String]) {
        let code = if dimension == Dimension::Category {
            codes::SELECTOR
        } else {
            codes::ID
        };
        let near = did_you_mean(&value.value, known.iter().map(String::as_str));
        let label = near
            .map(|near| format!("did you mean `{near}`?"))
            .unwrap_or_default();
        let name = dimension.name();
        let help = match known {
            [] => format!("this scenario has no {name}"),
            known => format!("{name} can be: {}", known.join(", ")),
        };
        let message = format!("there is no {name} `{}`", value.value);
        self.compiled.found.push(
            Diagnostic::error(code, message)
                .at(value.span, label)
                .help(help),
        );
    }

    /// Every stage that a `where` names is measured in some load that the rest of it leaves; otherwise nothing can be judged.
    fn check_stages(&mut self, scope: &WhereSpec) -> bool {
        let mut right = true;
        for clause in scope
            .clauses
            .iter()
            .filter(|clause| clause.dimension.value == Dimension::Stage)
        {
            let spec::Condition::OneOf(values) = &clause.condition.value else {
                continue;
            };
            let cells: Vec<&Cell> = self
                .cells
                .iter()
                .filter(|cell| cell_clauses(scope).all(|c| admits_cell(c, cell)))
                .collect();
            for value in values {
                let found = cells.iter().any(|cell| {
                    cell.stages
                        .iter()
                        .any(|stage| stage.measured && stage.name == value.value)
                });
                if !found && !cells.is_empty() {
                    right = false;
                    let diagnostic = no_such_stage(&cells, value);
                    self.compiled.found.push(diagnostic);
                }
            }
        }
        right
    }

    fn places(&self, scope: Option<&WhereSpec>) -> Vec<Place> {
        let admitted = |place: &Place| {
            scope.is_none_or(|scope| {
                scope
                    .clauses
                    .iter()
                    .all(|clause| self.admits(clause, *place))
            })
        };
        self.all_places().filter(admitted).collect()
    }

    fn all_places(&self) -> impl Iterator<Item = Place> + '_ {
        self.cells.iter().enumerate().flat_map(|(cell, of)| {
            let measured = of
                .stages
                .iter()
                .enumerate()
                .filter(|(_, stage)| stage.measured);
            measured.map(move |(stage, _)| Place { cell, stage })
        })
    }

    /// Whether a place meets a clause; clauses about what is inside a cell are met by every place.
    fn admits(&self, clause: &WhereClause, place: Place) -> bool {
        let dim = dim_of(clause.dimension.value);
        if !PLACE_DIMS.contains(&dim) {
            let state = self.cells[place.cell].cache.name();
            return clause.dimension.value != Dimension::Cache || one_of(clause, state);
        }
        self.value(place, &dim)
            .is_some_and(|value| meets(clause, &value))
    }

    /// The value of a place in a dimension.
    fn value(&self, place: Place, dim: &Dim) -> Option<String> {
        let cell = &self.cells[place.cell];
        value_in(cell, &cell.stages[place.stage], dim)
    }

    /// A number that two places share in a dimension if their values are the same; 0 for a dimension that is within cells.
    fn number(&self, place: Place, dim: &Dim) -> usize {
        let column = PLACE_DIMS.iter().position(|own| own == dim);
        column.map_or(0, |column| self.numbers[place.cell][place.stage][column])
    }

    // ---- instances ----

    /// A bound on a latency beyond the time-out of a request holds for every answer: most often a unit slipped.
    fn tell_unreachable(
        &mut self,
        assertion: &Assertion,
        text: &Spanned<String>,
        instances: &[SloInstance],
    ) {
        let (Expression::Measure(measure), Expression::Quantity(number, unit)) =
            (&assertion.left, &assertion.right)
        else {
            return;
        };
        let is_latency = ["ttft", "e2e", "first_event"]
            .iter()
            .any(|name| measure.metric.name.starts_with(name));
        let limits = instances.iter().flat_map(|instance| &instance.scope.cells);
        let Some(limit) = limits
            .map(|&cell| self.cells[cell].request.timeouts.total)
            .max()
        else {
            return;
        };
        let bound = unit.to_base(*number);
        if !is_latency || bound <= limit.as_secs_f64() || !assertion.comparison.holds(0.0, 1.0) {
            return;
        }
        let written = format!("{}{}", trim_float(*number), unit.text);
        let mut lint = Diagnostic::warning(
            codes::ALWAYS,
            format!(
                "`{written}` is longer than the time-out of a request ({})",
                format_duration(limit)
            ),
        )
        .at(text.span, "no answer can be slower than this");
        if unit.text == "m" {
            lint = lint.help(format!(
                "`m` is minutes; did you mean `{}ms`?",
                trim_float(*number)
            ));
        }
        self.compiled.found.push(lint);
    }

    /// Why no measured stage is left although cells are: a `where` on users or rate that no stage meets.
    fn never_admitted(&self, scope: Option<&WhereSpec>) -> Option<Diagnostic> {
        let scope = scope?;
        let cells: Vec<&Cell> = (self.cells.iter())
            .filter(|cell| cell_clauses(scope).all(|clause| admits_cell(clause, cell)))
            .collect();
        let clause = scope.clauses.iter().find(|clause| {
            matches!(
                clause.dimension.value,
                Dimension::Users | Dimension::Rate | Dimension::Stage
            )
        })?;
        if cells.is_empty() {
            return None;
        }
        let mut stages: Vec<&str> = (cells.iter())
            .flat_map(|cell| cell.stages.iter().filter(|stage| stage.measured))
            .map(|stage| stage.name.as_str())
            .collect();
        stages.dedup();
        let name = clause.dimension.value.name();
        let message = format!("no measured stage has this {name}, so this SLO can never be judged");
        let label = format!("measured stages: {}", stages.join(", "));
        Some(Diagnostic::error("S044", message).at(clause.condition.span, label))
    }

    fn instantiate(
        &mut self,
        entry: &Entry<SloSpec, SloKey>,
        text: &Spanned<String>,
        assertion: &Assertion,
        overrides: &[Assertion],
    ) {
        let slo = &entry.value;
        if slo
            .scope
            .as_ref()
            .is_some_and(|scope| !self.check_stages(scope))
        {
            return;
        }
        let id = entry.key.value.to_string();
        let places = self.places(slo.scope.as_ref());
        if places.is_empty() {
            match self.never_admitted(slo.scope.as_ref()) {
                Some(error) => self.compiled.found.push(error),
                None => self.compiled.skipped.push((id, "not selected".to_owned())),
            }
            return;
        }
        let pinned: Vec<Dim> = PLACE_DIMS
            .into_iter()
            .filter(|dim| pinned_by_all(assertion, dim))
            .collect();
        let places = match self.within_pins(assertion, &pinned, places) {
            Ok(places) => places,
            Err(why) => return self.tell_dropped(&id, true, vec![(why, id.clone())]),
        };
        let pooled: Vec<Dim> = slo
            .pool
            .iter()
            .flat_map(|pool| pool.iter())
            .map(|dimension| dim_of(dimension.value))
            .collect();
        // Users and rate follow from the stage: where one of the three is pinned, none of them tells instances apart.
        let pins_stage = PLACE_DIMS[4..].iter().any(|dim| pinned.contains(dim));
        let pools_stage = pooled.contains(&Dim::Stage);
        let leaves = |dim: &Dim| {
            let of_stage = PLACE_DIMS[4..].contains(dim);
            pooled.contains(dim)
                || pinned.contains(dim)
                || (of_stage && (pins_stage || pools_stage))
        };
        let has: Vec<Dim> = PLACE_DIMS.into_iter().filter(|dim| !leaves(dim)).collect();
        let mut instances = Vec::new();
        let mut dropped = Vec::new();
        let mut used = vec![false; overrides.len()];
        for group in self.groups(&places, &has) {
            for instance in self.split(slo, &group, &has, pooled.contains(&Dim::Repeat)) {
                let written = self.applicable(slo, text, assertion, overrides, &instance);
                if let Some(index) = written.override_index {
                    used[index] = true;
                }
                match self.resolve(&instance, &written) {
                    Ok(instance) => instances.push(instance),
                    Err(why) => dropped.push((why, named(&instance.labels))),
                }
            }
        }
        self.tell_unused(slo, &used);
        self.tell_unreachable(assertion, text, &instances);
        if let Some(error) = self.own_reference(assertion, text, &instances, &dropped) {
            self.compiled.found.push(error);
            return;
        }
        self.tell_dropped(&id, instances.is_empty(), dropped);
        if !instances.is_empty() {
            self.compiled
                .slos
                .push(compiled_slo(id, slo, text, instances));
        }
    }

    /// Where every measure pins a dimension, the first one says which places there are instances for.
    fn within_pins(
        &self,
        assertion: &Assertion,
        pinned: &[Dim],
        places: Vec<Place>,
    ) -> Result<Vec<Place>, Dropped> {
        let Some(first) = assertion
            .measures()
            .first()
            .copied()
            .filter(|_| !pinned.is_empty())
        else {
            return Ok(places);
        };
        let admitted = |place: &Place| {
            pinned.iter().all(|dim| {
                self.value(*place, dim)
                    .is_some_and(|value| admits(first, dim, &value))
            })
        };
        let within: Vec<Place> = places.into_iter().filter(admitted).collect();
        if within.is_empty() {
            Err(self.no_match(first, pinned))
        } else {
            Ok(within)
        }
    }

    /// The places that agree in the dimensions that instances have.
    fn groups(&self, places: &[Place], has: &[Dim]) -> Vec<Vec<Place>> {
        let key = |place: Place| -> Vec<usize> {
            has.iter().map(|dim| self.number(place, dim)).collect()
        };
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut groups: Vec<Vec<Place>> = Vec::new();
        for place in places {
            let group = *known.entry(key(*place)).or_insert(groups.len());
            match groups.get_mut(group) {
                Some(group) => group.push(*place),
                None => groups.push(vec![*place]),
            }
        }
        groups
    }

    /// The instances of one group: one, or one for each category, GPU or repeat that it is split by.
    fn split<'g>(
        &self,
        slo: &SloSpec,
        group: &'g [Place],
        has: &'g [Dim],
        pool_repeats: bool,
    ) -> Vec<Instance<'g>> {
        let is_split = |dimension: Dimension| {
            let written = slo
                .split
                .iter()
                .flat_map(|split| split.iter())
                .any(|own| own.value == dimension);
            let implied = slo
                .overrides
                .iter()
                .flatten()
                .flat_map(|narrower| &narrower.scope.clauses)
                .any(|c| c.dimension.value == dimension);
            written || (implied && matches!(dimension, Dimension::Category | Dimension::Turn))
        };
        let mut narrowed = Scope {
            each_gpu: is_split(Dimension::Gpu),
            ..Scope::default()
        };
        if pool_repeats {
            narrowed.repeats = (0..self.repeats).collect();
        }
        let mut asked_categories: Option<Vec<String>> = None;
        for clause in slo.scope.iter().flat_map(|scope| &scope.clauses) {
            match (&clause.dimension.value, &clause.condition.value) {
                (Dimension::Category, spec::Condition::OneOf(values)) => {
                    asked_categories =
                        Some(values.iter().map(|value| value.value.clone()).collect());
                }
                (Dimension::Turn, condition) => narrowed.turns = turns(condition),
                (Dimension::Gpu, spec::Condition::OneOf(values)) => {
                    match values.first().map(|value| value.value.as_str()) {
                        Some("*") => narrowed.each_gpu = true,
                        Some(gpu) => narrowed.gpu = gpu.parse().ok(),
                        None => {}
                    }
                }
                (Dimension::Repeat, _) => {
                    narrowed.repeats = (0..self.repeats)
                        .filter(|repeat| meets(clause, &repeat.to_string()))
                        .collect();
                }
                _ => {}
            }
        }
        let labels = self.labels(group, has);
        let one = |narrowed: Scope, extra: Option<(&'static str, String)>| Instance {
            places: group,
            has,
            narrowed,
            labels: labels.iter().cloned().chain(extra).collect(),
        };
        let mut instances = if is_split(Dimension::Category) {
            let categories = self.categories_of(group);
            let asked = |category: &String| {
                asked_categories
                    .as_ref()
                    .is_none_or(|asked| asked.contains(category))
            };
            categories
                .into_iter()
                .filter(asked)
                .map(|category| {
                    one(
                        Scope {
                            categories: vec![category.clone()],
                            ..narrowed.clone()
                        },
                        Some(("category", category)),
                    )
                })
                .collect()
        } else {
            vec![one(
                Scope {
                    categories: asked_categories.unwrap_or_default(),
                    ..narrowed
                },
                None,
            )]
        };
        if is_split(Dimension::Turn) {
            instances = instances
                .into_iter()
                .flat_map(|instance| self.each_turn(instance))
                .collect();
        }
        if is_split(Dimension::Repeat) {
            instances = instances
                .into_iter()
                .flat_map(|instance| self.each_repeat(instance))
                .collect();
        }
        instances
    }

    /// One instance for each turn that a conversation of the group can have, as far as its own turns go.
    fn each_turn<'g>(&self, instance: Instance<'g>) -> Vec<Instance<'g>> {
        let cells = instance.places.iter().map(|place| &self.cells[place.cell]);
        let most = cells
            .map(|cell| cell.workload.facts().turns.max)
            .max()
            .unwrap_or(0)
            .max(1);
        let asked = |turn: &u32| {
            let turns = &instance.narrowed.turns;
            turns.is_empty() || turns.iter().any(|(from, to)| (from..=to).contains(&turn))
        };
        let one = |turn: u32| {
            let mut labels = instance.labels.clone();
            labels.push(("turn", turn.to_string()));
            Instance {
                places: instance.places,
                has: instance.has,
                narrowed: Scope {
                    turns: vec![(turn, turn)],
                    ..instance.narrowed.clone()
                },
                labels,
            }
        };
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        (1..=most).filter(asked).map(one).collect()
    }

    fn each_repeat<'g>(&self, instance: Instance<'g>) -> Vec<Instance<'g>> {
        let one = |repeat: u32| {
            let mut labels = instance.labels.clone();
            labels.push(("repeat", repeat.to_string()));
            Instance {
                places: instance.places,
                has: instance.has,
                narrowed: Scope {
                    repeats: vec![repeat],
                    ..instance.narrowed.clone()
                },
                labels,
            }
        };
        (0..self.repeats).map(one).collect()
    }

    fn categories_of(&self, group: &[Place]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for category in group
            .iter()
            .flat_map(|place| self.cells[place.cell].workload.categories())
        {
            if !all.iter().any(|known| **known == **category) {
                all.push(category.to_string());
            }
        }
        all
    }

    fn labels(&self, group: &[Place], has: &[Dim]) -> Vec<(&'static str, String)> {
        let Some(first) = group.first() else {
            return Vec::new();
        };
        NAMED
            .into_iter()
            .filter(|(_, dim)| {
                has.contains(dim)
                    || group
                        .iter()
                        .all(|place| self.number(*place, dim) == self.number(*first, dim))
            })
            .filter_map(|(name, dim)| Some((name, self.value(*first, &dim)?)))
            .collect()
    }

    /// The first override that matches the instance, or the SLO's own assertion.
    fn applicable<'w>(
        &self,
        slo: &'w SloSpec,
        text: &'w Spanned<String>,
        assertion: &'w Assertion,
        overrides: &'w [Assertion],
        instance: &Instance,
    ) -> Written<'w> {
        let matches = |narrower: &OverrideSpec| {
            narrower
                .scope
                .clauses
                .iter()
                .all(|clause| match clause.dimension.value {
                    Dimension::Category => instance
                        .narrowed
                        .categories
                        .iter()
                        .all(|category| meets(clause, category)),
                    Dimension::Turn => instance
                        .narrowed
                        .turns
                        .iter()
                        .all(|(turn, _)| meets(clause, &turn.to_string())),
                    Dimension::Repeat => instance
                        .narrowed
                        .repeats
                        .iter()
                        .all(|repeat| meets(clause, &repeat.to_string())),
                    Dimension::Gpu => instance
                        .narrowed
                        .gpu
                        .is_some_and(|gpu| meets(clause, &gpu.to_string())),
                    _ => instance
                        .places
                        .iter()
                        .all(|place| self.admits(clause, *place)),
                })
        };
        let all = slo.overrides.iter().flatten();
        match all
            .zip(overrides)
            .enumerate()
            .find(|(_, (narrower, _))| matches(narrower))
        {
            Some((index, (narrower, assertion))) => Written {
                assertion,
                text: &narrower.assert,
                override_index: Some(index),
            },
            None => Written {
                assertion,
                text,
                override_index: None,
            },
        }
    }

    fn resolve(&mut self, instance: &Instance, written: &Written) -> Result<SloInstance, Dropped> {
        let mut measures = Vec::new();
        for measure in written.assertion.measures() {
            measures.push(self.scope_of(measure, instance)?);
        }
        let refers_to = |measure: &&Measure| PLACE_DIMS.iter().any(|dim| pins(measure, dim));
        let all = written.assertion.measures();
        let refers = all.iter().any(refers_to) && !all.iter().all(refers_to);
        if refers && measures.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(Dropped::OwnReference);
        }
        Ok(SloInstance {
            assertion: written.assertion.clone(),
            text: written.text.value.clone(),
            override_index: written.override_index,
            span: written.text.span,
            scope: union(&measures, &instance.narrowed),
            labels: instance.labels.clone(),
            measures,
        })
    }

    /// What a measure is taken over in an instance: pinned dimensions as pinned, the others as the instance has them.
    fn scope_of(&mut self, measure: &Measure, instance: &Instance) -> Result<Scope, Dropped> {
        let pinned: Vec<Dim> = PLACE_DIMS
            .into_iter()
            .filter(|dim| pins(measure, dim))
            .collect();
        let pins_stage = [Dim::Stage, Dim::Users, Dim::Rate]
            .iter()
            .any(|dim| pinned.contains(dim));
        let free = |dim: &&Dim| {
            let follows_stage = matches!(dim, Dim::Stage | Dim::Users | Dim::Rate);
            // A measure that names its stage takes the users and the rate from it; one that names its load pairs by stage.
            !pinned.contains(dim) && !(follows_stage && (pins_stage || pinned.contains(&Dim::Load)))
        };
        let columns = PLACE_DIMS.iter().enumerate();
        let free: Vec<usize> = columns
            .filter(|(_, dim)| free(dim))
            .map(|(column, _)| column)
            .collect();
        let numbers = |place: &Place| &self.numbers[place.cell][place.stage];
        let as_instance = |place: &Place| {
            let of_place = numbers(place);
            let same = |&column: &usize| {
                let mut own = instance.places.iter().map(numbers);
                own.any(|own| own[column] == of_place[column])
            };
            free.iter().all(same)
        };
        let as_pinned = |place: &Place| {
            pinned.iter().all(|dim| {
                self.value(*place, dim)
                    .is_some_and(|value| admits(measure, dim, &value))
            })
        };
        let mut places: Vec<Place> = self
            .all_places()
            .filter(as_pinned)
            .filter(as_instance)
            .collect();
        if pinned.contains(&Dim::Load) && !pins_stage {
            places = self.paired_by_stage(measure, instance, places)?;
        }
        if places.is_empty() {
            return Err(self.no_match(measure, &pinned));
        }
        let mut scope = instance.narrowed.clone();
        scope.cells = places.iter().map(|place| place.cell).collect();
        scope.stages = places.iter().map(|place| place.stage).collect();
        for condition in &measure.selector {
            match condition.dim {
                Dim::Category => {
                    let all = self.categories();
                    scope.categories = all
                        .into_iter()
                        .filter(|category| condition.admits(category))
                        .collect();
                    if scope.categories.is_empty() {
                        return Err(Dropped::NoMatch(
                            measure.span,
                            format!(
                                "no category is {}`{}`",
                                condition.test.symbol(),
                                condition.value
                            ),
                        ));
                    }
                }
                Dim::Gpu if condition.value == "*" => scope.each_gpu = true,
                Dim::Gpu => scope.gpu = condition.value.parse().ok(),
                Dim::Turn => scope.turns = selected_turns(condition),
                Dim::Repeat => {
                    scope.repeats = (0..self.repeats)
                        .filter(|repeat| condition.admits(&repeat.to_string()))
                        .collect()
                }
                _ => {}
            }
        }
        Ok(scope)
    }

    /// Another load's stages pair with the instance's by name; where it has no such stage, its only measured one stands in.
    fn paired_by_stage(
        &mut self,
        measure: &Measure,
        instance: &Instance,
        places: Vec<Place>,
    ) -> Result<Vec<Place>, Dropped> {
        let name = |place: &Place| self.cells[place.cell].stages[place.stage].name.as_str();
        let paired: Vec<Place> = places
            .iter()
            .copied()
            .filter(|place| instance.places.iter().any(|own| name(own) == name(place)))
            .collect();
        if !paired.is_empty() {
            return Ok(paired);
        }
        let mut stages: Vec<&str> = places.iter().map(name).collect();
        stages.sort_unstable();
        stages.dedup();
        if stages.len() <= 1 {
            return Ok(places);
        }
        let message = format!(
            "this load has several measured stages: {}",
            stages.join(", ")
        );
        let help = format!("name one: `{}{{stage={}}}`", measure.metric.name, stages[0]);
        self.compiled.found.push(
            Diagnostic::error(codes::REFERENCE, message)
                .at(measure.span, "which stage?")
                .help(help),
        );
        Err(Dropped::Told)
    }

    /// A pinned id that is in no cell was deselected; one that is in some is only never combined so.
    fn no_match(&self, measure: &Measure, pinned: &[Dim]) -> Dropped {
        let nowhere = |dim: &&Dim| {
            !self.all_places().any(|place| {
                self.value(place, dim)
                    .is_some_and(|value| admits(measure, dim, &value))
            })
        };
        // Without the name that was deselected, a stage or level of it is not to be found, either.
        let missed: Vec<&Dim> = pinned.iter().filter(nowhere).collect();
        let a_name = missed.iter().any(|dim| PLACE_DIMS[..4].contains(dim));
        let known = |(dim, id): &(Dim, String)| {
            self.ids
                .iter()
                .any(|(own, own_id)| own == dim && own_id == id)
        };
        let values = measure
            .selector
            .iter()
            .filter(|condition| condition.test == Test::Is)
            .map(|c| (c.dim.clone(), c.value.clone()));
        let names: Vec<(Dim, String)> = measure
            .pins
            .iter()
            .cloned()
            .chain(values)
            .filter(|(dim, _)| PLACE_DIMS[..4].contains(dim))
            .collect();
        if a_name && names.iter().all(known) {
            return Dropped::NotSelected;
        }
        Dropped::NoMatch(
            measure.span,
            "no combination of the matrix is like this".to_owned(),
        )
    }

    fn tell_unused(&mut self, slo: &SloSpec, used: &[bool]) {
        for (narrower, used) in slo.overrides.iter().flatten().zip(used) {
            if !used {
                let lint = Diagnostic::warning("L033", "this override applies nowhere");
                let label = "no cell and stage of the SLO is like this, or an override before it matches first";
                self.compiled
                    .found
                    .push(lint.at(narrower.scope.span, label));
            }
        }
    }

    /// The mistake of an assertion that compares a place with others, where the scenario has no other.
    fn own_reference(
        &self,
        assertion: &Assertion,
        text: &Spanned<String>,
        instances: &[SloInstance],
        dropped: &[(Dropped, String)],
    ) -> Option<Diagnostic> {
        let own = |(why, _): &(Dropped, String)| matches!(why, Dropped::OwnReference);
        if !instances.is_empty() || dropped.is_empty() || !dropped.iter().all(own) {
            return None;
        }
        let measures = assertion.measures();
        let pins = measures.iter().flat_map(|measure| &measure.pins);
        // Where there are others, they were deselected, or belong to another profile.
        let alone = |dim: &Dim| self.ids.iter().filter(|(known, _)| known == dim).count() < 2;
        let mut only = pins.filter(|(dim, _)| alone(dim));
        let (_, name) = only.next()?;
        let error = Diagnostic::error(codes::REFERENCE, "this compares something with itself");
        Some(
            error
                .at(text.span, format!("there is nothing beside `{name}`"))
                .help("name a bound, or compare with `baseline`"),
        )
    }

    fn tell_dropped(&mut self, id: &str, none_left: bool, dropped: Vec<(Dropped, String)>) {
        let mut not_selected = false;
        let mut told = false;
        for (why, place) in dropped {
            match why {
                Dropped::OwnReference => self.compiled.notes.push(format!(
                    "{id}: {place} is its own reference and is not judged"
                )),
                Dropped::NotSelected => {
                    not_selected = true;
                    self.compiled.notes.push(format!(
                        "{id}: what {place} is compared with was not selected"
                    ));
                }
                Dropped::NoMatch(span, label) if none_left && !told => {
                    told = true;
                    let error = Diagnostic::error(
                        codes::REFERENCE,
                        "this can never be judged: it refers to something that is never measured",
                    );
                    self.compiled.found.push(
                        error
                            .at(span, label)
                            .help("look at `matrix`, or name another cell or stage"),
                    );
                }
                Dropped::NoMatch(..) => self.compiled.notes.push(format!(
                    "{id}: what {place} is compared with is not in the matrix"
                )),
                Dropped::Told => told = true,
            }
        }
        if none_left && !told {
            let reason = if not_selected {
                "not selected"
            } else {
                "nothing left to compare"
            };
            self.compiled
                .skipped
                .push((id.to_owned(), reason.to_owned()));
        }
    }
}

fn compiled_slo(
    id: String,
    slo: &SloSpec,
    text: &Spanned<String>,
    instances: Vec<SloInstance>,
) -> Slo {
    Slo {
        id,
        text: text.value.clone(),
        span: text.span,
        level: match slo.level.as_ref().map(|level| level.value) {
            Some(spec::Level::Warn) => Level::Warn,
            Some(spec::Level::Fail) | None => Level::Fail,
        },
        abort: slo.abort.as_ref().map(|rule| AbortRule {
            after: rule.value.after.value,
            window: rule.value.window.value,
        }),
        window: slo.window.as_ref().map(|window| window.value),
        count: match slo.count.as_ref().map(|count| count.value) {
            Some(spec::Count::Ok) => Count::Ok,
            Some(spec::Count::All) | None => Count::All,
        },
        clock: slo.clock.as_ref().map(|clock| match clock.value {
            spec::StartClock::Intended => StartClock::Intended,
            spec::StartClock::Sent => StartClock::Sent,
        }),
        repeats_must: match slo.repeats_must.as_ref().map(|must| must.value) {
            Some(spec::RepeatsMust::All) => RepeatsMust::All,
            Some(spec::RepeatsMust::Median) | None => RepeatsMust::Median,
        },
        confidence: (slo.confidence.as_ref())
            .map(|confidence| confidence.value.fraction())
            .or_else(|| slo.strict.as_ref().map(|_| STRICT)),
        separated: slo
            .separated
            .as_ref()
            .is_some_and(|separated| separated.value),
        instances,
    }
}

fn dim_of(dimension: Dimension) -> Dim {
    match dimension {
        Dimension::Backend => Dim::Backend,
        Dimension::Model => Dim::Model,
        Dimension::Prompts => Dim::Prompts,
        Dimension::Load => Dim::Load,
        Dimension::Stage => Dim::Stage,
        Dimension::Users => Dim::Users,
        Dimension::Rate => Dim::Rate,
        Dimension::Category => Dim::Category,
        Dimension::Turn => Dim::Turn,
        Dimension::Cache => Dim::Cache,
        Dimension::Gpu => Dim::Gpu,
        Dimension::Repeat => Dim::Repeat,
    }
}

fn one_of(clause: &WhereClause, value: &str) -> bool {
    matches!(&clause.condition.value, spec::Condition::OneOf(values) if values.iter().any(|own| own.value == value))
}

/// Whether a value meets a clause; numbers are compared as numbers.
fn meets(clause: &WhereClause, value: &str) -> bool {
    let number = |text: &str| {
        text.trim()
            .trim_end_matches("/s")
            .trim()
            .parse::<f64>()
            .ok()
    };
    match &clause.condition.value {
        spec::Condition::OneOf(values) => values.iter().any(|own| {
            own.value == value || number(&own.value).is_some_and(|own| number(value) == Some(own))
        }),
        spec::Condition::Compare(comparison, bound) => {
            number(value).is_some_and(|value| match comparison {
                spec::Comparison::AtMost => value <= *bound,
                spec::Comparison::AtLeast => value >= *bound,
                spec::Comparison::Below => value < *bound,
                spec::Comparison::Above => value > *bound,
            })
        }
    }
}

/// The clauses of a `where` that choose cells.
fn cell_clauses(scope: &WhereSpec) -> impl Iterator<Item = &WhereClause> {
    scope
        .clauses
        .iter()
        .filter(|clause| PLACE_DIMS[..4].contains(&dim_of(clause.dimension.value)))
}

fn admits_cell(clause: &WhereClause, cell: &Cell) -> bool {
    let value = match clause.dimension.value {
        Dimension::Backend => &cell.backend.id,
        Dimension::Model => &cell.model.key,
        Dimension::Prompts => &cell.prompts,
        Dimension::Load => &cell.load,
        _ => return true,
    };
    meets(clause, value)
}

fn no_such_stage(cells: &[&Cell], value: &Spanned<String>) -> Diagnostic {
    let mut loads: Vec<&Cell> = Vec::new();
    for cell in cells {
        if !loads.iter().any(|known| known.load == cell.load) {
            loads.push(cell);
        }
    }
    let stages = |cell: &Cell| -> String {
        let names = cell.stages.iter().map(|stage| match stage.measured {
            true => stage.name.clone(),
            false => format!("{} (not measured)", stage.name),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let quoted: Vec<String> = loads
        .iter()
        .map(|cell| format!("`{}`", cell.load))
        .collect();
    let label: Vec<String> = loads
        .iter()
        .map(|cell| format!("stages of `{}`: {}", cell.load, stages(cell)))
        .collect();
    let unmeasured = loads
        .iter()
        .any(|cell| cell.stages.iter().any(|stage| stage.name == value.value));
    let what = if unmeasured { "measures no" } else { "has no" };
    let message = format!(
        "{} {what} stage `{}`, so this SLO can never be evaluated",
        quoted.join(", "),
        value.value
    );
    let diagnostic = Diagnostic::error("S044", message).at(value.span, label.join("; "));
    let known = loads.iter().flat_map(|cell| {
        cell.stages
            .iter()
            .filter(|stage| stage.measured)
            .map(|stage| stage.name.as_str())
    });
    match did_you_mean(&value.value, known) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// Whether a measure says itself what it is taken over in a dimension.
fn pins(measure: &Measure, dim: &Dim) -> bool {
    measure.pins.iter().any(|(own, _)| own == dim)
        || measure
            .selector
            .iter()
            .any(|condition| condition.dim == *dim)
}

fn pinned_by_all(assertion: &Assertion, dim: &Dim) -> bool {
    let measures = assertion.measures();
    !measures.is_empty() && measures.iter().all(|measure| pins(measure, dim))
}

fn admits(measure: &Measure, dim: &Dim, value: &str) -> bool {
    measure
        .pins
        .iter()
        .filter(|(own, _)| own == dim)
        .all(|(_, id)| id == value)
        && measure
            .selector
            .iter()
            .filter(|condition| condition.dim == *dim)
            .all(|condition| condition.admits(value))
}

fn turns(condition: &spec::Condition) -> Vec<(u32, u32)> {
    match condition {
        spec::Condition::OneOf(values) => values
            .iter()
            .filter_map(|value| value.value.parse().ok())
            .map(|turn| (turn, turn))
            .collect(),
        spec::Condition::Compare(comparison, bound) => {
            let bound = *bound as u32;
            vec![match comparison {
                spec::Comparison::AtMost => (0, bound),
                spec::Comparison::AtLeast => (bound, u32::MAX),
                spec::Comparison::Below => (0, bound.saturating_sub(1)),
                spec::Comparison::Above => (bound.saturating_add(1), u32::MAX),
            }]
        }
    }
}

fn selected_turns(condition: &assertion::Condition) -> Vec<(u32, u32)> {
    let bound: u32 = condition.value.parse().unwrap_or(0);
    match condition.test {
        Test::Is | Test::Like => vec![(bound, bound)],
        Test::IsNot => vec![
            (0, bound.saturating_sub(1)),
            (bound.saturating_add(1), u32::MAX),
        ],
        Test::Less => vec![(0, bound.saturating_sub(1))],
        Test::AtMost => vec![(0, bound)],
        Test::Greater => vec![(bound.saturating_add(1), u32::MAX)],
        Test::AtLeast => vec![(bound, u32::MAX)],
    }
}

/// Everything that a verdict is said of, the left side first.
fn union(measures: &[Scope], narrowed: &Scope) -> Scope {
    let mut all = narrowed.clone();
    if let Some(first) = measures.first() {
        all = first.clone();
    }
    for scope in measures.iter().skip(1) {
        for (cell, stage) in scope.cells.iter().zip(&scope.stages) {
            let known = all
                .cells
                .iter()
                .zip(&all.stages)
                .any(|(c, s)| (c, s) == (cell, stage));
            if !known {
                all.cells.push(*cell);
                all.stages.push(*stage);
            }
        }
    }
    all
}

fn named(labels: &[(&'static str, String)]) -> String {
    labels
        .iter()
        .map(|(_, value)| value.as_str())
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::diagnostic::Sources;
    use crate::plan::fixture;

    /// `vllm/chat/steady` with the stages of that load.
    fn cell(id: &str) -> Cell {
        let [backend, prompts, load] = id.split('/').collect::<Vec<_>>()[..] else {
            panic!("{id}")
        };
        let stages = match load {
            "steady" => vec![
                fixture::stage("warm", false, None),
                fixture::stage("steady", true, None),
            ],
            "users" => vec![
                fixture::stage("c4", true, Some(4)),
                fixture::stage("c16", true, Some(16)),
            ],
            _ => vec![fixture::stage("b32", true, None)],
        };
        fixture::cell([backend, "m", prompts, load], stages, Vec::new())
    }

    const SCENARIO: &str = "version: 1
backends: { vllm: 'http://127.0.0.1:8000', sglang: 'http://127.0.0.1:30000' }
models: { m: org/model }
prompts:
  chat: { source: inline, prompts: [Hello] }
  code: { source: inline, prompts: [Hello] }
load:
  steady: { stages: [ { name: warm, rate: 8/s, for: 5s, measure: false }, { name: steady, for: 30s } ] }
  users: { levels: { users: [4, 16], for: 30s } }
  static: { batch: { size: 32, requests: 64 } }
slos:
";

    fn compiled(slos: &str, cells: &[&str], deselected: &[&str]) -> Compiled {
        let text = format!("{SCENARIO}{slos}");
        let (spec, found) = spec::parse(&mut Sources::default(), Path::new("test.yaml"), &text);
        let spec = spec.unwrap_or_else(|| panic!("{found:?}"));
        let cells: Vec<Cell> = cells.iter().map(|id| cell(id)).collect();
        let deselected: Vec<String> = deselected.iter().map(|id| (*id).to_owned()).collect();
        compile(&spec, &cells, &deselected, 2)
    }

    /// Each instance as `labels: normal form over the cells of each measure`.
    fn instances(slos: &str, cells: &[&str]) -> Vec<String> {
        let compiled = compiled(slos, cells, &[]);
        assert!(
            compiled
                .found
                .iter()
                .all(|d| d.severity == Severity::Warning),
            "{:?}",
            compiled.found
        );
        let over = |scope: &Scope| -> String {
            let cells: Vec<String> = scope
                .cells
                .iter()
                .zip(&scope.stages)
                .map(|(at, stage)| {
                    format!("{}@{}", cells[*at], cell(cells[*at]).stages[*stage].name)
                })
                .collect();
            cells.join("+")
        };
        let all = compiled.slos.iter().flat_map(|slo| &slo.instances);
        all.map(|instance| {
            instance
                .measures
                .iter()
                .map(over)
                .collect::<Vec<_>>()
                .join(" | ")
        })
        .collect()
    }

    #[test]
    fn an_slo_is_judged_for_each_cell_and_measured_stage() {
        assert_eq!(
            instances(
                "  ttft: P95 TTFT < 500ms",
                &["vllm/chat/steady", "vllm/chat/users"]
            ),
            [
                "vllm/chat/steady@steady",
                "vllm/chat/users@c4",
                "vllm/chat/users@c16"
            ]
        );
        assert_eq!(
            instances(
                "  ttft: { assert: P95 TTFT < 500ms, where: { users: '<= 8' } }",
                &["vllm/chat/steady", "vllm/chat/users"]
            ),
            ["vllm/chat/users@c4"]
        );
    }

    #[test]
    fn two_pinned_backends_give_one_verdict_for_each_of_the_rest() {
        assert_eq!(
            instances(
                "  faster: sglang.output_tps >= 1.2 * vllm.output_tps",
                &["vllm/chat/users", "sglang/chat/users"]
            ),
            [
                "sglang/chat/users@c4 | vllm/chat/users@c4",
                "sglang/chat/users@c16 | vllm/chat/users@c16"
            ]
        );
    }

    #[test]
    fn a_reference_judges_every_other_backend() {
        let slo = "  near: P95 TTFT <= 1.1 * vllm.ttft.p95";
        let cells = ["vllm/chat/steady", "sglang/chat/steady"];
        assert_eq!(
            instances(slo, &cells),
            ["sglang/chat/steady@steady | vllm/chat/steady@steady"]
        );
        assert_eq!(
            compiled(slo, &cells, &[]).notes,
            ["near: vllm/m/chat/steady/steady is its own reference and is not judged"]
        );
    }

    #[test]
    fn another_load_pairs_by_stage_or_by_its_only_one() {
        assert_eq!(
            instances(
                "  dynamic: { assert: output_tps >= 2 * static.output_tps, where: { load: users } }",
                &["vllm/chat/users", "vllm/chat/static"]
            ),
            [
                "vllm/chat/users@c4 | vllm/chat/static@b32",
                "vllm/chat/users@c16 | vllm/chat/static@b32"
            ]
        );
        assert_eq!(
            instances(
                "  static: static.output_tps > 1 tok/s",
                &["vllm/chat/users", "vllm/chat/static"]
            ),
            ["vllm/chat/static@b32"]
        );
    }

    #[test]
    fn stages_are_compared_by_selector() {
        assert_eq!(
            instances(
                "  scales: P95 TTFT{stage=c16} <= 2 * ttft{stage=c4}.p95",
                &["vllm/chat/users"]
            ),
            ["vllm/chat/users@c16 | vllm/chat/users@c4"]
        );
    }

    #[test]
    fn pooling_takes_the_raw_values_of_several_cells() {
        assert_eq!(
            instances(
                "  ttft: { assert: P95 TTFT < 1s, pool: [prompts] }",
                &["vllm/chat/steady", "vllm/code/steady"]
            ),
            ["vllm/chat/steady@steady+vllm/code/steady@steady"]
        );
    }

    #[test]
    fn the_first_override_that_matches_replaces_the_bound() {
        let slos = "  ttft:
    assert: P95 TTFT < 500ms
    overrides:
      - { where: { prompts: code }, assert: P95 TTFT < 900ms }
      - { where: { backend: vllm }, assert: P95 TTFT < 700ms }
      - { where: { load: static }, assert: P95 TTFT < 1s }";
        let compiled = compiled(
            slos,
            &["vllm/code/steady", "vllm/chat/steady", "sglang/chat/steady"],
            &[],
        );
        let bounds: Vec<(&str, Option<usize>)> = compiled.slos[0]
            .instances
            .iter()
            .map(|one| (one.text.as_str(), one.override_index))
            .collect();
        assert_eq!(
            bounds,
            [
                ("P95 TTFT < 900ms", Some(0)),
                ("P95 TTFT < 700ms", Some(1)),
                ("P95 TTFT < 500ms", None)
            ]
        );
        assert_eq!(
            compiled.found.iter().map(|d| d.code).collect::<Vec<_>>(),
            ["L033"]
        );
    }

    #[test]
    fn a_metric_key_lends_its_metric_to_each_text() {
        let compiled = compiled(
            "  ttft: { assert: ['p(95)<500ms', 'p99 < 2s'] }",
            &["vllm/chat/steady"],
            &[],
        );
        let normal: Vec<String> = compiled
            .slos
            .iter()
            .map(|slo| slo.instances[0].assertion.normal())
            .collect();
        assert_eq!(normal, ["ttft.p95 < 500ms", "ttft.p99 < 2s"]);
    }

    #[test]
    fn what_cannot_be_judged_is_a_mistake_of_the_file() {
        let told = |slo: &str, cells: &[&str]| {
            let found = compiled(slo, cells, &[]).found.remove(0);
            (found.code, found.primary.unwrap().text)
        };
        let cells = ["vllm/chat/steady", "sglang/code/steady"];
        assert_eq!(
            told(
                "  a: { assert: P95 TTFT < 1s, where: { load: steady, stage: peak } }",
                &cells
            ),
            (
                "S044",
                "stages of `steady`: warm (not measured), steady".to_owned()
            )
        );
        assert_eq!(
            told(
                "  a: { assert: P95 TTFT < 1s, where: { stage: warm } }",
                &cells
            )
            .0,
            "S044"
        );
        assert_eq!(
            told(
                "  a: { assert: P95 TTFT < 1s, where: { backend: vlm } }",
                &cells
            ),
            ("S039", "did you mean `vllm`?".to_owned())
        );
        // vllm never sees code, and sglang never sees chat.
        assert_eq!(
            told("  a: sglang.output_tps >= vllm.output_tps", &cells).0,
            "S043"
        );
    }

    #[test]
    fn what_was_deselected_is_skipped() {
        let cells = ["vllm/chat/steady"];
        let skipped = |slo: &str| {
            let compiled = compiled(slo, &cells, &["sglang/m/chat/steady"]);
            assert!(compiled.found.is_empty(), "{:?}", compiled.found);
            compiled.skipped
        };
        let not_selected = [("a".to_owned(), "not selected".to_owned())];
        assert_eq!(
            skipped("  a: { assert: P95 TTFT < 1s, where: { backend: sglang } }"),
            not_selected
        );
        assert_eq!(
            skipped("  a: sglang.output_tps >= vllm.output_tps"),
            not_selected
        );
        assert_eq!(
            skipped("  a: P95 TTFT <= 1.1 * sglang.ttft.p95"),
            not_selected
        );
    }
}
