//! A load as written becomes stages and segments: levels and batches are ordinary stages, every default is filled in.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::search::{Search, ladder, three_digits};
use super::{
    ArrivalCurve, Distribution, Extent, OnFull, Planned, Process, RampDown, RampShape, RateForm,
    RatePiece, Schedule, Segment, Stage, UserCurve, UserExtent, UserPiece,
};
use crate::diagnostic::{Diagnostic, Severity, Span, Spanned};
use crate::spec::{
    self, BatchSize, BatchSpec, DistributionSpec, DriveSpec, LevelsSpec, LoadForm, LoadSpec,
    ProcessSpec, RangeSpec, SearchSpec, Shape, StageSpec, Tail, TargetSpec, TraceLoadSpec,
    WarmupSpec,
};
use crate::units::{Rate, trim_float};
use crate::workload::Replay;

/// What a load needs to know of the rest of the scenario.
#[derive(Clone, Debug)]
pub(super) struct LoadContext {
    /// `run.warmup`.
    pub(super) warmup: Option<WarmupSpec>,
    /// `run.cooldown`, with its default.
    pub(super) cooldown: Duration,
    /// The length of a warm-up that nobody chose.
    pub(super) default_warmup: Duration,
    /// Samples that the percentile SLOs need; 0 without any.
    pub(super) samples: u64,
    /// Every stage is shortened.
    pub(super) smoke: bool,
    /// Measured prompts of the set; `None` for an endless one.
    pub(super) prompts: Option<u64>,
    /// The trace that is played, when the load plays one and its set is at hand.
    pub(super) replay: Option<Replay>,
}

/// The stages of a load, and what runs without a drain between.
#[derive(Clone, Debug, Default)]
pub(super) struct Expanded {
    pub(super) stages: Vec<Stage>,
    pub(super) segments: Vec<Segment>,
    pub(super) search: Option<Search>,
}

/// A level without a size of its own runs at least this long,
const LEVEL_AT_LEAST: Duration = Duration::from_secs(30);
/// and at most this long,
const LEVEL_AT_MOST: Duration = Duration::from_secs(600);
/// with at least this many requests for each user.
const LEVEL_REQUESTS_PER_USER: u64 = 3;
/// Warm-up requests for each user where nobody chose otherwise.
const WARMUP_REQUESTS_PER_USER: u64 = 2;
/// A warm-up that waits for its requests waits no longer than this many times its length.
const WARMUP_PATIENCE: u32 = 12;
/// A smoke run shortens every stage to this time, or to this many requests for each user.
const SMOKE: Duration = Duration::from_secs(2);
const SMOKE_REQUESTS_PER_USER: u64 = 3;
/// How far apart the levels of a search are where nobody chose otherwise.
const RESOLUTION: f64 = 0.05;
/// The most users that warm up a batch load: an engine is warm long before a thousand.
const BATCH_WARMUP_USERS: u64 = 32;
/// The users that warm up before a trace is played.
const TRACE_WARMUP_USERS: u64 = 4;
/// The most requests of a batch of all in a smoke run.
const SMOKE_BATCH: u64 = 64;

/// Expands a load; mistakes go to `found`.
pub(super) fn expand(
    load: &LoadSpec,
    context: &LoadContext,
    found: &mut Vec<Diagnostic>,
) -> Expanded {
    let mut expansion = Expansion {
        context,
        drive: &load.drive,
        form: load.form.span,
        out: Expanded::default(),
        found,
    };
    match &load.form.value {
        LoadForm::Stages(stages) => expansion.stages(stages),
        LoadForm::Levels(levels) => expansion.levels(levels),
        LoadForm::Batch(batch) => expansion.batch(batch),
        LoadForm::Trace(trace) => expansion.trace(trace),
        LoadForm::Search(search) => expansion.search(search),
    }
    let mut out = expansion.out;
    number_warmups(&mut out.stages);
    // Which level of a search is the last is not known.
    if out.search.is_none()
        && let Some(last) = out.segments.last_mut()
    {
        last.cooldown = Duration::ZERO;
    }
    out
}

/// Gives each unmeasured stage its own run of warm-up prompts.
fn number_warmups(stages: &mut [Stage]) {
    let mut next = 0;
    for stage in stages.iter_mut().filter(|stage| !stage.measured) {
        stage.prompt_offset = next;
        next += stage
            .requests
            .value()
            .map_or(1000, |requests| requests.ceil() as u64);
    }
}

struct Expansion<'a> {
    context: &'a LoadContext,
    drive: &'a DriveSpec,
    /// The key of the load's form.
    form: Span,
    out: Expanded,
    found: &'a mut Vec<Diagnostic>,
}

/// A stage that is being made: what differs between forms.
struct Draft {
    name: String,
    measured: bool,
    users: Option<u32>,
    rate: Option<Rate>,
    extent: Extent,
    requests: Planned,
    expected: Planned,
    tail_fill: bool,
    span: Span,
}

impl Expansion<'_> {
    fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: &str,
        help: &str,
    ) {
        self.found
            .push(Diagnostic::error(code, message).at(span, label).help(help));
    }

    /// Adds a stage and gives its index in the cell.
    fn push(&mut self, draft: Draft) -> usize {
        self.out.stages.push(Stage {
            name: draft.name,
            measured: draft.measured,
            users: draft.users,
            rate: draft.rate,
            extent: draft.extent,
            requests: draft.requests,
            expected: draft.expected,
            prompt_offset: 0,
            prompts_reused: false,
            tail_fill: draft.tail_fill,
            span: draft.span,
        });
        self.out.stages.len() - 1
    }

    fn open_segment(&mut self, stages: Range<usize>, pieces: Vec<RatePiece>, cooldown: Duration) {
        if self.process() == Process::Uniform {
            count_even_arrivals(&pieces, &mut self.out.stages);
        }
        let schedule = Schedule::Open {
            curve: ArrivalCurve {
                process: self.process(),
                pieces,
            },
            max_in_flight: self
                .drive
                .max_in_flight
                .as_ref()
                .map_or(4096, |max| max.value),
            on_full: match self.drive.on_full.as_ref().map(|on_full| on_full.value) {
                Some(spec::OnFull::Drop) => OnFull::Drop,
                Some(spec::OnFull::Queue) | None => OnFull::Queue,
            },
        };
        self.out.segments.push(Segment {
            stages,
            schedule,
            cooldown,
        });
    }

    fn closed_segment(&mut self, stages: Range<usize>, pieces: Vec<UserPiece>, cooldown: Duration) {
        let schedule = Schedule::Closed {
            users: UserCurve { pieces },
            think: self
                .drive
                .think
                .as_ref()
                .map_or(Distribution::Fixed(0.0), think),
            ramp_down: match self.drive.ramp_down.as_ref().map(|ramp| ramp.value) {
                Some(spec::RampDown::Cancel) => RampDown::Cancel,
                Some(spec::RampDown::Finish) | None => RampDown::Finish,
            },
        };
        self.out.segments.push(Segment {
            stages,
            schedule,
            cooldown,
        });
    }

    fn process(&self) -> Process {
        if let Some(replay) = &self.context.replay {
            return Process::Recorded(Arc::clone(&replay.times));
        }
        match self.drive.process.as_ref().map(|process| process.value) {
            Some(ProcessSpec::Uniform) => Process::Uniform,
            Some(ProcessSpec::Gamma(shape)) => Process::Gamma(shape),
            Some(ProcessSpec::Poisson) | None => Process::Poisson,
        }
    }

    fn check_drive(&mut self, open: bool) {
        let drive = self.drive;
        let unused = if open {
            [
                ("think", drive.think.as_ref().map(think_span)),
                ("ramp_down", drive.ramp_down.as_ref().map(|key| key.span)),
                ("", None),
            ]
        } else {
            [
                ("process", drive.process.as_ref().map(|key| key.span)),
                (
                    "max_in_flight",
                    drive.max_in_flight.as_ref().map(|key| key.span),
                ),
                ("on_full", drive.on_full.as_ref().map(|key| key.span)),
            ]
        };
        let form = if open { "open" } else { "closed" };
        for (key, span) in unused {
            if let Some(span) = span {
                self.found.push(
                    Diagnostic::warning(
                        "L037",
                        format!("`{key}` has no effect in a load in {form} loop"),
                    )
                    .at(span, ""),
                );
            }
        }
    }

    // ---- stages ----

    fn stages(&mut self, stages: &[Spanned<StageSpec>]) {
        let is_open = |stage: &StageSpec| {
            stage.rate.is_some()
                || stage.burst.is_some()
                || matches!(
                    stage.to.as_ref().map(|to| to.value),
                    Some(TargetSpec::Rate(_))
                )
        };
        let is_closed = |stage: &StageSpec| {
            stage.users.is_some()
                || matches!(
                    stage.to.as_ref().map(|to| to.value),
                    Some(TargetSpec::Users(_))
                )
        };
        let open = stages.iter().find(|stage| is_open(&stage.value));
        let closed = stages.iter().find(|stage| is_closed(&stage.value));
        match (open, closed) {
            (Some(open), Some(closed)) => self.found.push(
                Diagnostic::error("S049", "a load has rates or users, not both")
                    .at(closed.span, "users here")
                    .also(open.span, "a rate here")
                    .help("make two loads of it"),
            ),
            (None, None) => {
                let span = stages.first().map_or(self.form, |stage| stage.span);
                self.error(
                    "S051",
                    "the load has neither a rate nor users",
                    span,
                    "",
                    "write `rate: 8/s` or `users: 16`",
                );
            }
            (Some(_), None) => self.open_stages(stages),
            (None, Some(_)) => self.closed_stages(stages),
        }
        self.check_measured();
    }

    fn check_measured(&mut self) {
        let stages = &self.out.stages;
        if !stages.is_empty() && stages.iter().all(|stage| !stage.measured) {
            self.error(
                "S067",
                "no stage of this load is measured",
                self.form,
                "",
                "leave `measure: false` out of one of them",
            );
        }
    }

    /// The name of a stage; one that is not measured needs none.
    fn name(&self, stage: &StageSpec) -> String {
        match &stage.name {
            Some(name) => name.value.to_string(),
            None => format!("stage-{}", self.out.stages.len() + 1),
        }
    }

    fn open_stages(&mut self, stages: &[Spanned<StageSpec>]) {
        self.check_drive(true);
        let mut rate: Option<Rate> = None;
        let mut first = self.out.stages.len();
        let mut pieces = Vec::new();
        let warm = self.needs_warmup(stages);
        for stage in stages {
            let Some(flow) = self.open_flow(stage, rate) else {
                continue;
            };
            rate = Some(flow.to);
            let burst = stage
                .value
                .burst
                .as_ref()
                .map_or(0, |burst| u64::from(burst.value));
            if burst == 0 && flow.extent == Extent::For(Duration::ZERO) {
                // A jump: it only sets the rate.
                continue;
            }
            let form = RateForm::Flow {
                from: flow.from,
                to: flow.to,
                shape: flow.shape,
                extent: flow.extent,
            };
            let form = if self.context.smoke {
                shorter(form)
            } else {
                form
            };
            let burst = if self.context.smoke {
                burst.min(SMOKE_BATCH)
            } else {
                burst
            };
            let requests = form.area() + burst as f64;
            let measured = stage
                .value
                .measure
                .as_ref()
                .map_or(requests > 0.0, |measure| measure.value);
            if warm && pieces.is_empty() && self.out.segments.is_empty() {
                self.open_warmup(
                    warmup_rate(&flow),
                    "warmup",
                    stage.span,
                    self.context.warmup,
                    &mut pieces,
                );
            }
            let name = self.name(&stage.value);
            let index = self.push(Draft {
                name,
                measured,
                users: None,
                rate: Some(flow.to),
                extent: flow.extent_of(form),
                requests: self.arrivals_planned(form, burst),
                expected: expected_of(form),
                tail_fill: false,
                span: stage.span,
            });
            if burst > 0 {
                pieces.push(RatePiece {
                    stage: index,
                    form: RateForm::Burst(burst),
                });
            }
            if form.area() > 0.0 || form.expected_duration() != Some(Duration::ZERO) {
                pieces.push(RatePiece { stage: index, form });
            }
            if stage
                .value
                .isolate
                .as_ref()
                .is_some_and(|isolate| isolate.value)
            {
                self.open_segment(
                    first..index + 1,
                    std::mem::take(&mut pieces),
                    self.context.cooldown,
                );
                first = index + 1;
            }
        }
        if !pieces.is_empty() {
            self.open_segment(first..self.out.stages.len(), pieces, self.context.cooldown);
        }
    }

    /// Arrivals of a stage: exact where the process cannot vary them.
    fn arrivals_planned(&self, form: RateForm, burst: u64) -> Planned {
        let requests = form.area() + burst as f64;
        match form {
            RateForm::Flow {
                extent: Extent::Requests(_),
                ..
            } => Planned::Exact(requests),
            _ if form.area() == 0.0 => Planned::Exact(requests),
            _ => Planned::Estimate(requests),
        }
    }

    fn open_flow(&mut self, stage: &Spanned<StageSpec>, before: Option<Rate>) -> Option<Flow> {
        let extent = written_extent(
            &stage.value.duration,
            &stage.value.requests,
            &stage.value.requests_per_user,
        )
        .unwrap_or(WrittenExtent::For(Duration::ZERO));
        let target = stage.value.to.as_ref().and_then(|to| match to.value {
            TargetSpec::Rate(rate) => Some(rate),
            TargetSpec::Users(_) => None,
        });
        let written = stage.value.rate.as_ref().map(|rate| rate.value);
        let zero = Rate::default();
        let from = match written.or(before) {
            Some(rate) => rate,
            None if target.is_some() || stage.value.burst.is_some() => zero,
            None => {
                self.error(
                    "S051",
                    "the load begins without a rate",
                    stage.span,
                    "no stage before it has one",
                    "write `rate: 8/s`",
                );
                return None;
            }
        };
        let to = target.unwrap_or(from);
        let shape = match stage.value.shape.as_ref().map(|shape| shape.value) {
            Some(Shape::Exponential) => RampShape::Exponential,
            Some(Shape::Linear) | None => RampShape::Linear,
        };
        if shape == RampShape::Exponential && (from == zero || to == zero) {
            self.error(
                "S052",
                "an exponential ramp cannot start or end at 0",
                stage.span,
                "",
                "begin it at a small rate, like `rate: 0.1/s`",
            );
        }
        let extent = match extent {
            WrittenExtent::For(duration) => Extent::For(duration),
            WrittenExtent::Requests(requests) => Extent::Requests(requests),
            WrittenExtent::RequestsPerUser(_) => {
                self.error(
                    "S050",
                    "`requests_per_user` needs users, and this load has a rate",
                    stage.span,
                    "",
                    "write `requests: N` or `for: 60s`",
                );
                return None;
            }
        };
        if matches!(extent, Extent::Requests(_)) && to == zero {
            self.error(
                "S053",
                "a stage that ends by count never ends at rate 0",
                stage.span,
                "",
                "write `for: 10s` for a pause",
            );
            return None;
        }
        Some(Flow {
            from,
            to,
            shape,
            extent,
        })
    }

    fn closed_stages(&mut self, stages: &[Spanned<StageSpec>]) {
        self.check_drive(false);
        let mut users: Option<u32> = None;
        let mut first = self.out.stages.len();
        let mut pieces: Vec<UserPiece> = Vec::new();
        let warm = self.needs_warmup(stages);
        for stage in stages {
            let Some((from, to, extent)) = self.user_flow(stage, users) else {
                continue;
            };
            users = Some(to);
            if extent == UserExtent::For(Duration::ZERO) {
                continue;
            }
            let extent = if self.context.smoke {
                shorter_users(extent, to)
            } else {
                extent
            };
            let active = from.max(to) > 0;
            let measured = stage
                .value
                .measure
                .as_ref()
                .map_or(active, |measure| measure.value);
            if warm && pieces.is_empty() && self.out.segments.is_empty() && active {
                let crew = if from > 0 { from } else { to };
                let piece = self.closed_warmup(crew, "warmup", stage.span, self.context.warmup);
                pieces.extend(piece);
            }
            let name = self.name(&stage.value);
            let index = self.push(closed_draft(name, measured, to, extent, false, stage.span));
            pieces.push(UserPiece {
                stage: index,
                from,
                to,
                extent,
            });
            if stage
                .value
                .isolate
                .as_ref()
                .is_some_and(|isolate| isolate.value)
            {
                self.closed_segment(
                    first..index + 1,
                    std::mem::take(&mut pieces),
                    self.context.cooldown,
                );
                first = index + 1;
            }
        }
        if !pieces.is_empty() {
            self.closed_segment(first..self.out.stages.len(), pieces, self.context.cooldown);
        }
    }

    fn user_flow(
        &mut self,
        stage: &Spanned<StageSpec>,
        before: Option<u32>,
    ) -> Option<(u32, u32, UserExtent)> {
        let extent = written_extent(
            &stage.value.duration,
            &stage.value.requests,
            &stage.value.requests_per_user,
        )
        .unwrap_or(WrittenExtent::For(Duration::ZERO));
        let target = stage.value.to.as_ref().and_then(|to| match to.value {
            TargetSpec::Users(users) => Some(users),
            TargetSpec::Rate(_) => None,
        });
        let written = stage.value.users.as_ref().map(|users| users.value);
        let from = match written.or(before) {
            Some(users) => users,
            None if target.is_some() => 0,
            None => {
                self.error(
                    "S051",
                    "the load begins without users",
                    stage.span,
                    "no stage before it has any",
                    "write `users: 16`",
                );
                return None;
            }
        };
        let to = target.unwrap_or(from);
        let extent = match extent {
            WrittenExtent::For(duration) => UserExtent::For(duration),
            WrittenExtent::Requests(requests) => UserExtent::Requests(requests),
            WrittenExtent::RequestsPerUser(each) => UserExtent::RequestsPerUser(each),
        };
        let counted = !matches!(extent, UserExtent::For(_));
        if counted && from != to {
            self.error(
                "S070",
                "a ramp of users takes a time",
                stage.span,
                "it ends by count",
                "write `for: 30s`",
            );
            return None;
        }
        if counted && to == 0 {
            self.error(
                "S053",
                "a stage that ends by count never ends without users",
                stage.span,
                "",
                "write `for: 10s` for a pause",
            );
            return None;
        }
        if stage.value.shape.is_some() {
            self.found.push(
                Diagnostic::warning(
                    "L037",
                    "users ramp in a straight line: `shape` has no effect",
                )
                .at(stage.span, ""),
            );
        }
        Some((from, to, extent))
    }

    // ---- warm-up ----

    /// Whether a load of stages gets the run's warm-up: an unmeasured stage of its own is nearer.
    fn needs_warmup(&self, stages: &[Spanned<StageSpec>]) -> bool {
        stages.iter().all(|stage| {
            stage
                .value
                .measure
                .as_ref()
                .is_none_or(|measure| measure.value)
        })
    }

    fn open_warmup(
        &mut self,
        rate: Rate,
        name: &str,
        span: Span,
        written: Option<WarmupSpec>,
        pieces: &mut Vec<RatePiece>,
    ) {
        let extent = match written {
            None => Extent::For(self.context.default_warmup),
            Some(WarmupSpec::For(duration)) => Extent::For(duration),
            Some(WarmupSpec::Requests(requests)) => Extent::Requests(requests),
        };
        if matches!(extent, Extent::For(Duration::ZERO) | Extent::Requests(0))
            || rate == Rate::default()
        {
            return;
        }
        let form = RateForm::Flow {
            from: rate,
            to: rate,
            shape: RampShape::Linear,
            extent,
        };
        let form = if self.context.smoke {
            shorter(form)
        } else {
            form
        };
        let RateForm::Flow { extent, .. } = form else {
            return;
        };
        let stage = self.push(Draft {
            name: name.to_owned(),
            measured: false,
            users: None,
            rate: Some(rate),
            extent,
            requests: self.arrivals_planned(form, 0),
            expected: expected_of(form),
            tail_fill: false,
            span,
        });
        pieces.push(RatePiece { stage, form });
    }

    fn closed_warmup(
        &mut self,
        users: u32,
        name: &str,
        span: Span,
        written: Option<WarmupSpec>,
    ) -> Option<UserPiece> {
        let least = self.context.default_warmup;
        let extent = match written {
            None => UserExtent::AtLeast {
                duration: least,
                requests: WARMUP_REQUESTS_PER_USER * u64::from(users),
                at_most: least * WARMUP_PATIENCE,
            },
            Some(WarmupSpec::For(duration)) => UserExtent::For(duration),
            Some(WarmupSpec::Requests(requests)) => UserExtent::Requests(requests),
        };
        if matches!(
            extent,
            UserExtent::For(Duration::ZERO) | UserExtent::Requests(0)
        ) || users == 0
        {
            return None;
        }
        let extent = match extent {
            UserExtent::For(duration) if self.context.smoke => UserExtent::For(duration.min(least)),
            UserExtent::Requests(requests) if self.context.smoke => {
                UserExtent::Requests(requests.min(WARMUP_REQUESTS_PER_USER * u64::from(users)))
            }
            other => other,
        };
        let stage = self.push(closed_draft(
            name.to_owned(),
            false,
            users,
            extent,
            false,
            span,
        ));
        Some(UserPiece {
            stage,
            from: users,
            to: users,
            extent,
        })
    }

    // ---- levels ----

    fn levels(&mut self, levels: &LevelsSpec) {
        if let Some(users) = &levels.users {
            self.check_drive(false);
            self.check_repeats(users, |users| format!("c{users}"));
            for users in users.iter() {
                self.user_level(levels, users);
            }
        } else if let Some(rates) = &levels.rate {
            self.check_drive(true);
            self.check_repeats(rates, rate_name);
            for rate in rates.iter() {
                self.rate_level(levels, rate);
            }
        }
    }

    fn check_repeats<T>(&mut self, levels: &[Spanned<T>], name: impl Fn(&T) -> String) {
        let mut seen: Vec<(String, Span)> = Vec::new();
        for level in levels {
            let name = name(&level.value);
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
                self.found.push(
                    Diagnostic::error("S048", format!("the level `{name}` stands twice"))
                        .at(level.span, "again here")
                        .also(*first, "first here"),
                );
            }
            seen.push((name, level.span));
        }
    }

    /// How a level ends, where it says so.
    fn level_extent(&mut self, levels: &LevelsSpec) -> Option<WrittenExtent> {
        let zero = levels
            .duration
            .as_ref()
            .filter(|time| time.value == Duration::ZERO);
        if let Some(time) = zero {
            self.error(
                "S068",
                "a level of no time measures nothing",
                time.span,
                "",
                "leave it out for a default size",
            );
        }
        written_extent(
            &levels.duration,
            &levels.requests,
            &levels.requests_per_user,
        )
    }

    fn user_level(&mut self, levels: &LevelsSpec, level: &Spanned<u32>) {
        let users = level.value;
        let written = self.level_extent(levels);
        let extent = match written {
            Some(WrittenExtent::For(duration)) => UserExtent::For(duration),
            Some(WrittenExtent::Requests(requests)) => UserExtent::Requests(requests),
            Some(WrittenExtent::RequestsPerUser(each)) => UserExtent::RequestsPerUser(each),
            None => UserExtent::AtLeast {
                duration: LEVEL_AT_LEAST,
                requests: self
                    .context
                    .samples
                    .max(LEVEL_REQUESTS_PER_USER * u64::from(users)),
                at_most: LEVEL_AT_MOST,
            },
        };
        self.check_short(levels, level, extent);
        let counted = matches!(
            extent,
            UserExtent::Requests(_) | UserExtent::RequestsPerUser(_)
        );
        let tail = levels.tail.as_ref();
        if let Some(tail) = tail.filter(|_| !counted) {
            self.found.push(
                Diagnostic::warning("L037", "`tail` has no effect on levels that end by time")
                    .at(tail.span, ""),
            );
        }
        let fill = tail.is_none_or(|tail| tail.value == Tail::Fill);
        let extent = if self.context.smoke {
            shorter_users(extent, users)
        } else {
            extent
        };
        let counted = matches!(
            extent,
            UserExtent::Requests(_) | UserExtent::RequestsPerUser(_)
        );
        let first = self.out.stages.len();
        let name = format!("c{users}");
        let warmup = levels
            .warmup
            .as_ref()
            .map(|warmup| warmup.value)
            .or(self.context.warmup);
        let mut pieces: Vec<UserPiece> = Vec::new();
        pieces.extend(self.closed_warmup(users, &format!("{name}-warmup"), level.span, warmup));
        let stage = self.push(closed_draft(
            name,
            true,
            users,
            extent,
            counted && fill,
            level.span,
        ));
        pieces.push(UserPiece {
            stage,
            from: users,
            to: users,
            extent,
        });
        self.closed_segment(first..stage + 1, pieces, self.level_cooldown(levels));
    }

    fn level_cooldown(&self, levels: &LevelsSpec) -> Duration {
        match &levels.cooldown {
            Some(cooldown) if !self.context.smoke => cooldown.value,
            _ => self.context.cooldown,
        }
    }

    fn check_short(&mut self, levels: &LevelsSpec, level: &Spanned<u32>, extent: UserExtent) {
        let requests = match extent {
            UserExtent::Requests(requests) => requests,
            UserExtent::RequestsPerUser(each) => each * u64::from(level.value),
            UserExtent::For(_) | UserExtent::AtLeast { .. } => return,
        };
        let allowed = levels.allow_short.as_ref().is_some_and(|allow| allow.value);
        if allowed || requests >= LEVEL_REQUESTS_PER_USER * u64::from(level.value) {
            return;
        }
        let users = level.value;
        self.error(
            "S054",
            format!("{requests} requests are fewer than 3 for each of {users} users"),
            level.span,
            "this level is over before it is reached",
            &format!(
                "plan `requests: {}` or more, or say `allow_short: true`",
                3 * u64::from(users)
            ),
        );
    }

    fn rate_level(&mut self, levels: &LevelsSpec, level: &Spanned<Rate>) {
        let rate = level.value;
        let written = self.level_extent(levels);
        let extent = match written {
            Some(WrittenExtent::For(duration)) => Extent::For(duration),
            Some(WrittenExtent::Requests(requests)) => Extent::Requests(requests),
            Some(WrittenExtent::RequestsPerUser(_)) => {
                self.error(
                    "S050",
                    "`requests_per_user` needs users, and these levels are rates",
                    level.span,
                    "",
                    "write `requests: N` or `for: 60s`",
                );
                return;
            }
            None => {
                let seconds = self.context.samples as f64 / rate.per_second();
                Extent::For(
                    Duration::from_secs_f64(seconds.ceil().min(LEVEL_AT_MOST.as_secs_f64()))
                        .max(LEVEL_AT_LEAST),
                )
            }
        };
        if let Some(tail) = &levels.tail {
            self.found.push(
                Diagnostic::warning("L037", "`tail` has no effect on levels of rates")
                    .at(tail.span, ""),
            );
        }
        let form = RateForm::Flow {
            from: rate,
            to: rate,
            shape: RampShape::Linear,
            extent,
        };
        let form = if self.context.smoke {
            shorter(form)
        } else {
            form
        };
        let RateForm::Flow { extent, .. } = form else {
            return;
        };
        let first = self.out.stages.len();
        let name = rate_name(&rate);
        let warmup = levels
            .warmup
            .as_ref()
            .map(|warmup| warmup.value)
            .or(self.context.warmup);
        let mut pieces = Vec::new();
        self.open_warmup(
            rate,
            &format!("{name}-warmup"),
            level.span,
            warmup,
            &mut pieces,
        );
        let stage = self.push(Draft {
            name,
            measured: true,
            users: None,
            rate: Some(rate),
            extent,
            requests: self.arrivals_planned(form, 0),
            expected: expected_of(form),
            tail_fill: false,
            span: level.span,
        });
        pieces.push(RatePiece { stage, form });
        self.open_segment(first..stage + 1, pieces, self.level_cooldown(levels));
    }

    // ---- search ----

    /// Every level that may be tried, as levels are.
    fn search(&mut self, search: &SearchSpec) {
        let resolution = search
            .resolution
            .as_ref()
            .map_or(RESOLUTION, |share| share.value.fraction());
        let levels = LevelsSpec {
            users: None,
            rate: None,
            requests_per_user: search.requests_per_user.clone(),
            requests: search.requests.clone(),
            duration: search.duration.clone(),
            warmup: search.warmup.clone(),
            cooldown: search.cooldown.clone(),
            tail: None,
            // What is too short is told below, once and for all levels.
            allow_short: (search.users.as_ref()).map(|users| Spanned::new(true, users.span)),
        };
        let (range, span) = if let Some(rate) = &search.rate {
            self.check_drive(true);
            let RangeSpec { from, to } = rate.value;
            for level in ladder(from.per_second(), to.per_second(), resolution, three_digits) {
                let level = Rate::new(level).unwrap_or(from);
                let before = self.found.len();
                self.rate_level(&levels, &Spanned::new(level, rate.span));
                if self.is_mistaken_since(before) {
                    break;
                }
            }
            (format!("rate {from}..{to}"), rate.span)
        } else if let Some(users) = &search.users {
            self.check_drive(false);
            let RangeSpec { from, to } = users.value;
            self.check_short_search(search, to);
            for level in ladder(f64::from(from), f64::from(to), resolution, f64::round) {
                let before = self.found.len();
                self.user_level(&levels, &Spanned::new(level as u32, users.span));
                if self.is_mistaken_since(before) {
                    break;
                }
            }
            (format!("users {from}..{to}"), users.span)
        } else {
            return;
        };
        let measured = |stage: &usize| self.out.stages[*stage].measured;
        self.out.search = Some(Search {
            range,
            stages: (0..self.out.stages.len()).filter(measured).collect(),
            resolution,
            stop_after: search.stop_after.as_ref().map(|limit| limit.value),
            span,
        });
    }

    /// Looks for levels that are over before they are reached.
    fn check_short_search(&mut self, search: &SearchSpec, most: u32) {
        let needed = LEVEL_REQUESTS_PER_USER * u64::from(most);
        let requests = search.requests.as_ref();
        if let Some(requests) = requests.filter(|requests| requests.value < needed) {
            self.error(
                "S054",
                format!("{} requests are fewer than 3 for each of {most} users", requests.value),
                requests.span,
                "the greatest level is over before it is reached",
                &format!("write `requests_per_user: {LEVEL_REQUESTS_PER_USER}` or more, or plan `requests: {needed}` or more"),
            );
        }
        let each = search.requests_per_user.as_ref();
        if let Some(each) = each.filter(|each| each.value < LEVEL_REQUESTS_PER_USER) {
            self.error(
                "S054",
                format!(
                    "{} requests for each user are fewer than {LEVEL_REQUESTS_PER_USER}",
                    each.value
                ),
                each.span,
                "a level is over before it is reached",
                &format!("write `requests_per_user: {LEVEL_REQUESTS_PER_USER}` or more"),
            );
        }
    }

    /// Whether a mistake was found after the first `before` diagnostics: what is wrong with one level is wrong with the others.
    fn is_mistaken_since(&self, before: usize) -> bool {
        let mut new = self.found[before..].iter();
        new.any(|found| found.severity == Severity::Error)
    }

    // ---- trace ----

    fn trace(&mut self, trace: &TraceLoadSpec) {
        let Some(replay) = &self.context.replay else {
            return;
        };
        let requests = replay.times.len();
        if requests == 0 {
            self.error(
                "S153",
                "no request of the trace lies in this part of it",
                self.form,
                "",
                "choose another `from` and `to`, or a larger `rate_scale`",
            );
            return;
        }
        let (duration, span) = (replay.duration, trace.prompts.span);
        let crew = (requests as u64).min(TRACE_WARMUP_USERS) as u32;
        let warm = self.closed_warmup(crew, "warmup", self.form, self.context.warmup);
        if let Some(piece) = warm {
            let stages = piece.stage..piece.stage + 1;
            self.closed_segment(stages, vec![piece], Duration::ZERO);
        }
        let rate = Rate::new(requests as f64 / duration.as_secs_f64()).unwrap_or_default();
        let form = RateForm::Flow {
            from: rate,
            to: rate,
            shape: RampShape::Linear,
            extent: Extent::For(duration),
        };
        let stage = self.push(Draft {
            name: "replay".to_owned(),
            measured: true,
            users: None,
            rate: Some(rate),
            extent: Extent::For(duration),
            requests: Planned::Exact(requests as f64),
            expected: Planned::Exact(duration.as_secs_f64()),
            tail_fill: false,
            span,
        });
        let pieces = vec![RatePiece { stage, form }];
        self.open_segment(stage..stage + 1, pieces, Duration::ZERO);
    }

    // ---- batch ----

    fn batch(&mut self, batch: &BatchSpec) {
        let size = match batch.size.value {
            BatchSize::All => None,
            BatchSize::Of(size) => Some(size),
        };
        let written = batch.requests.as_ref().map(|requests| requests.value);
        let Some(requests) = written.or(self.context.prompts) else {
            self.error(
                "S069",
                "the prompt set never ends, so the batch needs a number of requests",
                batch.size.span,
                "",
                "add `requests: 1000`",
            );
            return;
        };
        let most = size.map_or(SMOKE_BATCH, |size| 2 * u64::from(size));
        let requests = if self.context.smoke {
            requests.min(most)
        } else {
            requests
        };
        let name = size.map_or("all".to_owned(), |size| format!("b{size}"));
        let crew = size
            .map_or(requests, u64::from)
            .min(requests)
            .min(BATCH_WARMUP_USERS);
        let warm = self.closed_warmup(
            crew as u32,
            &format!("{name}-warmup"),
            self.form,
            self.context.warmup,
        );
        if let Some(piece) = warm {
            let stages = piece.stage..piece.stage + 1;
            self.out.segments.push(Segment {
                stages,
                schedule: Schedule::Closed {
                    users: UserCurve {
                        pieces: vec![piece],
                    },
                    think: Distribution::Fixed(0.0),
                    ramp_down: RampDown::Finish,
                },
                cooldown: Duration::ZERO,
            });
        }
        let stage = self.push(Draft {
            name,
            measured: true,
            users: None,
            rate: None,
            extent: Extent::Requests(requests),
            requests: Planned::Exact(requests as f64),
            expected: Planned::Unknown,
            tail_fill: false,
            span: batch.size.span,
        });
        self.out.segments.push(Segment {
            stages: stage..stage + 1,
            schedule: Schedule::Batch { size, requests },
            cooldown: Duration::ZERO,
        });
    }
}

/// Evenly spaced arrivals can be told exactly: ⌊Λ + ½⌋ of them lie before each edge of a stage.
fn count_even_arrivals(pieces: &[RatePiece], stages: &mut [Stage]) {
    let counted = |piece: &RatePiece| {
        matches!(
            piece.form,
            RateForm::Flow {
                extent: Extent::Requests(_),
                ..
            }
        )
    };
    if pieces.iter().any(counted) {
        // After a counted stage the grid begins anew.
        return;
    }
    let mut area = 0.0;
    for (index, stage) in stages.iter_mut().enumerate() {
        let own = pieces.iter().filter(|piece| piece.stage == index);
        let before = libm::floor(area + 0.5);
        let mut bursts = 0.0;
        for piece in own.clone() {
            match piece.form {
                RateForm::Burst(requests) => bursts += requests as f64,
                flow @ RateForm::Flow { .. } => area += flow.area(),
            }
        }
        if own.count() > 0 {
            stage.requests = Planned::Exact(libm::floor(area + 0.5) - before + bursts);
        }
    }
}

/// How a stage or level says that it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum WrittenExtent {
    For(Duration),
    Requests(u64),
    RequestsPerUser(u64),
}

/// How a stage or level ends; it says so at most once.
fn written_extent(
    duration: &Option<Spanned<Duration>>,
    requests: &Option<Spanned<u64>>,
    requests_per_user: &Option<Spanned<u64>>,
) -> Option<WrittenExtent> {
    let time = duration.as_ref().map(|time| WrittenExtent::For(time.value));
    let count = requests
        .as_ref()
        .map(|count| WrittenExtent::Requests(count.value));
    let each = requests_per_user
        .as_ref()
        .map(|each| WrittenExtent::RequestsPerUser(each.value));
    time.or(count).or(each)
}

/// The rates of an open-loop stage.
#[derive(Clone, Copy, Debug)]
struct Flow {
    from: Rate,
    to: Rate,
    shape: RampShape,
    extent: Extent,
}

impl Flow {
    fn extent_of(&self, form: RateForm) -> Extent {
        match form {
            RateForm::Flow { extent, .. } => extent,
            RateForm::Burst(_) => self.extent,
        }
    }
}

/// A load is warmed at the rate at which it begins; a ramp from nothing at the middle of its first ramp.
fn warmup_rate(flow: &Flow) -> Rate {
    if flow.from > Rate::default() {
        return flow.from;
    }
    Rate::new(flow.to.per_second() / 2.0).unwrap_or_default()
}

fn closed_draft(
    name: String,
    measured: bool,
    users: u32,
    extent: UserExtent,
    tail_fill: bool,
    span: Span,
) -> Draft {
    let (extent, requests, expected) = match extent {
        UserExtent::For(duration) => (
            Extent::For(duration),
            Planned::Unknown,
            Planned::Exact(duration.as_secs_f64()),
        ),
        UserExtent::Requests(requests) => (
            Extent::Requests(requests),
            Planned::Exact(requests as f64),
            Planned::Unknown,
        ),
        UserExtent::RequestsPerUser(each) => {
            let requests = each * u64::from(users);
            (
                Extent::Requests(requests),
                Planned::Exact(requests as f64),
                Planned::Unknown,
            )
        }
        UserExtent::AtLeast {
            duration, requests, ..
        } => (
            Extent::For(duration),
            Planned::Estimate(requests as f64),
            Planned::Estimate(duration.as_secs_f64()),
        ),
    };
    Draft {
        name,
        measured,
        users: Some(users),
        rate: None,
        extent,
        requests,
        expected,
        tail_fill,
        span,
    }
}

fn expected_of(form: RateForm) -> Planned {
    match (form, form.expected_duration()) {
        (
            RateForm::Flow {
                extent: Extent::For(_),
                ..
            }
            | RateForm::Burst(_),
            Some(duration),
        ) => Planned::Exact(duration.as_secs_f64()),
        (_, Some(duration)) => Planned::Estimate(duration.as_secs_f64()),
        (_, None) => Planned::Unknown,
    }
}

/// The name of a level of rates: `8/s` is `r8`, `0.5/s` is `r0-5`.
fn rate_name(rate: &Rate) -> String {
    format!("r{}", trim_float(rate.per_second()).replace('.', "-"))
}

fn shorter(form: RateForm) -> RateForm {
    match form {
        RateForm::Burst(requests) => RateForm::Burst(requests.min(SMOKE_BATCH)),
        RateForm::Flow {
            from,
            to,
            shape,
            extent,
        } => {
            let most = (from.per_second().max(to.per_second()) * SMOKE.as_secs_f64())
                .ceil()
                .max(1.0);
            let extent = match extent {
                Extent::For(duration) => Extent::For(duration.min(SMOKE)),
                Extent::Requests(requests) => Extent::Requests(requests.min(most as u64)),
            };
            RateForm::Flow {
                from,
                to,
                shape,
                extent,
            }
        }
    }
}

fn shorter_users(extent: UserExtent, users: u32) -> UserExtent {
    match extent {
        UserExtent::For(duration) => UserExtent::For(duration.min(SMOKE)),
        UserExtent::Requests(requests) => {
            UserExtent::Requests(requests.min(SMOKE_REQUESTS_PER_USER * u64::from(users)))
        }
        UserExtent::RequestsPerUser(each) => {
            UserExtent::RequestsPerUser(each.min(SMOKE_REQUESTS_PER_USER))
        }
        UserExtent::AtLeast { .. } => UserExtent::RequestsPerUser(SMOKE_REQUESTS_PER_USER),
    }
}

pub(super) fn think(think: &DistributionSpec<Duration>) -> Distribution {
    let seconds = |time: &Spanned<Duration>| time.value.as_secs_f64();
    let bounds = |min: &Option<Spanned<Duration>>, max: &Option<Spanned<Duration>>| {
        (
            min.as_ref().map_or(0.0, seconds),
            max.as_ref().map_or(f64::INFINITY, seconds),
        )
    };
    match think {
        DistributionSpec::Fixed(time) => Distribution::Fixed(seconds(time)),
        DistributionSpec::Uniform(low, high) => Distribution::Uniform(seconds(low), seconds(high)),
        DistributionSpec::Normal(normal) => {
            let (min, max) = bounds(&normal.min, &normal.max);
            Distribution::Normal {
                mean: seconds(&normal.mean),
                stddev: seconds(&normal.stddev),
                min,
                max,
            }
        }
        DistributionSpec::Lognormal(lognormal) => {
            let (min, max) = bounds(&lognormal.min, &lognormal.max);
            Distribution::Lognormal {
                median: seconds(&lognormal.median),
                p95: seconds(&lognormal.p95),
                min,
                max,
            }
        }
        DistributionSpec::Exponential(mean) => Distribution::Exponential(seconds(mean)),
    }
}

fn think_span(think: &DistributionSpec<Duration>) -> Span {
    match think {
        DistributionSpec::Fixed(time)
        | DistributionSpec::Uniform(time, _)
        | DistributionSpec::Exponential(time) => time.span,
        DistributionSpec::Normal(normal) => normal.mean.span,
        DistributionSpec::Lognormal(lognormal) => lognormal.median.span,
    }
}
