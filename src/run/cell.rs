//! One run of one cell: telemetry beside it, one segment after another, everything put together at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, UNIX_EPOCH};

use super::sources;
use super::standing::{Standing, restarts_by_level};
use super::world::{Snapshot, World};
use crate::clock::Clock;
use crate::engine::{BodyTemplate, Dialect, HttpTarget, LaneFacts, Pulse};
use crate::load::{
    Capacity, LoadError, SegmentRequest, SegmentResult, StopSignal, Tally, append, execute,
};
use crate::observation::{
    CellResult, ClientFacts, Ending, LEVEL_STOPPED, NotableEvent, Observations, RequestRecord,
    SentRequest, StageTimes,
};
use crate::plan::demand::demand;
use crate::plan::{Cell, CellRun, Plan, Segment};
use crate::server::Ready;
use crate::telemetry::{Sampled, Sampler, SamplesTold};
use crate::units::Moment;

/// How often the watcher is told how things stand.
const TICK: Duration = Duration::from_millis(100);
/// How often a watcher who wants samples gets the new ones.
const SAMPLES_EVERY: Duration = Duration::from_secs(1);
/// How often abort rules are looked at.
const ABORT_EVERY: Duration = Duration::from_secs(1);
/// How long streams of an engine that has ended are read on: what it has sent is still in the sockets.
const DEAD_DRAIN: Duration = Duration::from_millis(500);
/// How long streams are read on after the first Ctrl-C.
const INTERRUPTED_DRAIN: Duration = Duration::from_secs(5);

/// Runs a cell whose backend is ready.
///
/// # Errors
/// The machine refuses what a load thread needs.
pub(super) fn run(
    plan: &Plan,
    run: CellRun,
    ready: Ready,
    budget: (Option<u64>, Option<u64>),
    standing: &mut Standing<'_>,
    world: &mut World<'_>,
) -> Result<Observations, LoadError> {
    let cell = &plan.cells[run.cell];
    let clock = Clock::start();
    let dialect = Dialect {
        api: cell.backend.api,
        kind: cell.backend.kind,
    };
    let mut seen = Observations {
        cell: run.cell,
        repeat: run.repeat,
        wall_anchor: clock
            .wall_anchor()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
        engine: ready.facts.clone(),
        ..Observations::default()
    };
    let pulse = Arc::new(Pulse::default());
    let sources = sources::of(plan, cell, &ready, world, pulse.clone(), &mut seen.events);
    seen.devices = sources.iter().flat_map(|source| source.devices()).collect();
    world.watcher.cell_ready(run, &seen.engine, &seen.devices);
    let sampler = Sampler::start(sources, plan.telemetry.every, clock);
    let target = Arc::new(HttpTarget {
        endpoint: dialect.endpoint(&ready.endpoint, &ready.model),
        headers: dialect.headers(&ready.headers),
        dialect,
        timeouts: cell.request.timeouts,
        offline: ready.offline.clone(),
    });
    let template = BodyTemplate::new(dialect, &ready.model, &cell.request);
    let template = Arc::new(template.among(&ready.model, &cell.model.lora));
    seen.sent = first_request(plan.seed, cell, run.repeat, dialect, &template);
    let workers = workers(plan, cell, world.capacity);
    let mut attendant = Attendant {
        run,
        clock,
        sampler: &sampler,
        budget: Budget::of(budget),
        recent: Recent::of(plan, run),
        ending: Ending::Complete,
        stage: (0, Moment::ZERO),
        sent_before: 0,
        samples_told: SamplesTold::default(),
    };
    let mut facts = LaneFacts::default();
    let mut cpu = vec![(0.0, 0.0); workers as usize];
    let mut before: Option<usize> = None;
    loop {
        seen.client = client(facts.clone(), &cpu);
        let Some(segment) = next_segment(cell, before, &mut seen, &attendant, world) else {
            break;
        };
        if let Some(before) = before.replace(segment) {
            world.interrupt.wait(cell.segments[before].cooldown);
            if restarts_by_level(cell)
                && attendant.ending == Ending::Complete
                && world.interrupt.count() == 0
                && let Err(problem) = standing.restart(cell, &mut seen.events, world)
            {
                attendant.ending = Ending::EngineDied(problem.0);
            }
        }
        if world.interrupt.count() > 0 {
            attendant.ending = Ending::Interrupted;
        }
        if attendant.ending != Ending::Complete {
            seen.unsent.extend(never_begun(cell, segment));
            continue;
        }
        let began = clock.now();
        let (told, heard) = channel();
        let request = SegmentRequest {
            cell,
            index: run.cell,
            segment,
            seed: plan.seed,
            repeat: run.repeat,
            workers,
            clock,
            target: target.clone(),
            template: template.clone(),
            pulse: pulse.clone(),
            tally: Arc::new(Tally::default()),
            stop: Arc::new(StopSignal::new()),
            told,
        };
        let SegmentResult {
            records,
            mut stages,
            unsent,
            facts: learnt,
            worker_cpu,
            unfinished,
        } = attendant.attend(request, heard, began, standing, world)?;
        let busiest = worker_cpu.iter().copied().reduce(f64::max);
        let wall = clock.now().since(began).as_secs_f64();
        for ((weighted, total), share) in cpu.iter_mut().zip(worker_cpu) {
            (*weighted, *total) = (*weighted + share * wall, *total + wall);
        }
        facts.merge(&learnt);
        seen.events
            .extend(unfinished_conversations(unfinished, clock.now()));
        append(&mut seen.records, records);
        for times in &mut stages {
            times.busiest = busiest;
        }
        if cell.search.is_some() {
            attendant.give_up_level(&mut seen.events, stages.last());
        }
        seen.stages.extend(stages);
        seen.unsent.extend(unsent);
    }
    seen.ending = attendant.ending;
    let Sampled { series, events, .. } = sampler.stop();
    seen.telemetry = series;
    seen.events.extend(wanted(cell, events));
    if let Ending::EngineDied(text) = &seen.ending {
        seen.events.push(NotableEvent {
            at: clock.now(),
            kind: "engine_died",
            text: text.clone(),
        });
    }
    seen.events.extend(prompts_reused(cell, &seen.stages));
    Ok(seen)
}

/// The segment that runs after `before`: the one that follows, or the level that a search tries next.
fn next_segment(
    cell: &Cell,
    before: Option<usize>,
    seen: &mut Observations,
    attendant: &Attendant<'_>,
    world: &mut World<'_>,
) -> Option<usize> {
    let Some(search) = &cell.search else {
        let next = before.map_or(0, |before| before + 1);
        return (next < cell.segments.len()).then_some(next);
    };
    if attendant.ending != Ending::Complete {
        return None;
    }
    let told = seen.events.len();
    let Sampled { series, events, .. } = attendant.sampler.so_far();
    seen.telemetry = series;
    seen.events.extend(wanted(cell, events));
    let shared = Arc::new(std::mem::take(seen));
    let so_far = CellResult::Measured(shared);
    let stage = world.watcher.search(&so_far);
    if let CellResult::Measured(shared) = so_far {
        *seen = Arc::unwrap_or_clone(shared);
    }
    // They are all told when the cell is over.
    seen.events.truncate(told);
    search.position(stage?)
}

/// What the sampler noticed, without what is meant: an engine that is started anew for each level.
fn wanted(cell: &Cell, events: Vec<NotableEvent>) -> impl Iterator<Item = NotableEvent> {
    let meant = restarts_by_level(cell);
    let events = events.into_iter();
    events.filter(move |event| !(meant && event.kind == "engine_restarted"))
}

/// The first measured request, in the words of the engine's language.
fn first_request(
    seed: u64,
    cell: &Cell,
    repeat: u32,
    dialect: Dialect,
    template: &BodyTemplate,
) -> Option<SentRequest> {
    let at = cell.stages.iter().position(|stage| stage.measured)?;
    let holds = |segment: &Segment| segment.stages.contains(&at);
    let segment = cell.segments.iter().position(holds)?;
    let ordinal = cell.stages[at].prompt_offset + u64::from(repeat) * cell.prompts_per_repeat;
    let body = template.fill(&cell.workload.prompt(ordinal));
    let (body, _) =
        template.for_adapter(body, || cell.adapter_draw(seed, segment, repeat, (at, 0)));
    Some(SentRequest {
        path: dialect.path(template.stream()).to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Load threads: as the plan says, or as few as are enough for what the cell will ask for; never more than it has streams.
fn workers(plan: &Plan, cell: &Cell, capacity: Capacity) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let wanted = plan
        .limits
        .workers
        .unwrap_or_else(|| capacity.workers(&demand(cell), cores));
    let streams = cell
        .stages
        .iter()
        .filter_map(|stage| stage.users)
        .max()
        .unwrap_or(u32::MAX);
    wanted.clamp(1, streams.max(1))
}

/// Measured stages of segments that were never begun, with what they would have sent.
fn never_begun(cell: &Cell, segment: usize) -> Vec<(usize, u64)> {
    let stages = cell.segments[segment].stages.clone();
    stages
        .filter(|&stage| cell.stages[stage].measured)
        .map(|stage| match cell.stages[stage].requests {
            crate::plan::Planned::Exact(requests) => (stage, requests as u64),
            crate::plan::Planned::Estimate(_) | crate::plan::Planned::Unknown => (stage, 0),
        })
        .collect()
}

fn unfinished_conversations(unfinished: u64, at: Moment) -> Option<NotableEvent> {
    (unfinished > 0).then(|| NotableEvent {
        at,
        kind: "conversations_unfinished",
        text: format!("{unfinished} conversations would have gone on when their load was over"),
    })
}

fn prompts_reused(cell: &Cell, begun: &[StageTimes]) -> Option<NotableEvent> {
    let reused: Vec<&str> = begun
        .iter()
        .map(|times| &cell.stages[times.stage])
        .filter(|stage| stage.measured && stage.prompts_reused)
        .map(|stage| stage.name.as_str())
        .collect();
    (!reused.is_empty()).then(|| NotableEvent {
        at: Moment::ZERO,
        kind: "prompts_reused",
        text: format!(
            "the prompt set has fewer prompts than requests: prompts repeat in {}",
            reused.join(", ")
        ),
    })
}

fn client(facts: LaneFacts, cpu: &[(f64, f64)]) -> ClientFacts {
    let stamp_source = facts.stamp_source();
    ClientFacts {
        stamp_source,
        stamps_missing: if facts.kernel_stamps > 0 {
            facts.read_stamps
        } else {
            0
        },
        read_lag_ns: facts.read_lag_ns,
        stamp_error_ns: facts.stamp_error_ns,
        shared_events: facts.shared_events,
        output_events: facts.output_events,
        worker_cpu: cpu
            .iter()
            .map(|(weighted, total)| if *total > 0.0 { weighted / total } else { 0.0 })
            .collect(),
        connections_opened: facts.connections_opened,
    }
}

/// Watches a segment while its threads send: passes on what they tell, and stops them when it must.
struct Attendant<'a> {
    run: CellRun,
    clock: Clock,
    sampler: &'a Sampler,
    budget: Budget,
    recent: Recent,
    ending: Ending,
    /// The stage that sends, and when it was first seen to.
    stage: (usize, Moment),
    /// What had been sent in the segment when that stage began.
    sent_before: u64,
    /// Samples that the watcher has been told.
    samples_told: SamplesTold,
}

/// What may still be used of the run's budget.
struct Budget {
    requests: Option<u64>,
    output_tokens: Option<u64>,
}

impl Budget {
    fn of((requests, output_tokens): (Option<u64>, Option<u64>)) -> Budget {
        Budget {
            requests,
            output_tokens,
        }
    }

    fn spend(&mut self, records: &[RequestRecord]) {
        let tokens: u64 = records
            .iter()
            .filter_map(|record| record.tokens.output)
            .map(u64::from)
            .sum();
        self.requests = self
            .requests
            .map(|left| left.saturating_sub(records.len() as u64));
        self.output_tokens = self.output_tokens.map(|left| left.saturating_sub(tokens));
    }

    fn is_spent(&self) -> bool {
        self.requests == Some(0) || self.output_tokens == Some(0)
    }
}

/// The records that an abort rule of this cell may look at; nothing is kept when there is none.
struct Recent {
    window: Option<Duration>,
    records: Vec<RequestRecord>,
}

impl Recent {
    fn of(plan: &Plan, run: CellRun) -> Recent {
        let rules = plan.slos.iter().filter(|slo| {
            slo.instances
                .iter()
                .any(|instance| instance.scope.cells.contains(&run.cell))
        });
        Recent {
            window: rules
                .filter_map(|slo| slo.abort)
                .map(|rule| rule.window)
                .max(),
            records: Vec::new(),
        }
    }

    fn add(&mut self, records: Vec<RequestRecord>, now: Moment) {
        if let Some(window) = self.window {
            self.records.extend(records);
            self.records
                .retain(|record| now.since(record.finished) <= window);
        }
    }
}

impl Attendant<'_> {
    fn attend(
        &mut self,
        request: SegmentRequest<'_>,
        heard: std::sync::mpsc::Receiver<Vec<RequestRecord>>,
        began: Moment,
        standing: &mut Standing<'_>,
        world: &mut World<'_>,
    ) -> Result<SegmentResult, LoadError> {
        let (tally, stop) = (request.tally.clone(), request.stop.clone());
        (self.stage, self.sent_before) = (
            (request.cell.segments[request.segment].stages.start, began),
            0,
        );
        tally.stage.store(self.stage.0 as u64, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let load = scope.spawn(move || execute(&request));
            let mut abort_at = began + ABORT_EVERY;
            let mut tick_at = began;
            let mut samples_at = began;
            let mut over = false;
            while !over {
                match heard.recv_timeout(TICK) {
                    Ok(records) => {
                        world.watcher.records(self.run, &records);
                        self.budget.spend(&records);
                        self.recent.add(records, self.clock.now());
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => over = true,
                }
                let now = self.clock.now();
                if now >= tick_at {
                    tick_at = now + TICK;
                    let snapshot = self.snapshot(&tally);
                    world.watcher.tick(self.run, &snapshot);
                }
                if now >= samples_at && world.watcher.wants_samples() {
                    samples_at = now + SAMPLES_EVERY;
                    let news = self.sampler.news(&mut self.samples_told);
                    world.watcher.samples(self.run, news);
                }
                self.heed_interrupt(world, &stop, now);
                if !stop.is_stopped()
                    && let Some(text) = standing.died()
                {
                    world.watcher.note(&text);
                    self.ending = Ending::EngineDied(text);
                    stop.stop(now + DEAD_DRAIN);
                }
                if self.budget.is_spent() && !stop.is_stopped() {
                    self.ending = Ending::Budget;
                    stop.stop(now);
                }
                if self.recent.window.is_some() && now >= abort_at && !stop.is_stopped() {
                    abort_at = now + ABORT_EVERY;
                    let snapshot = self.snapshot(&tally);
                    if let Some(slo) =
                        world
                            .watcher
                            .abort(self.run, &self.recent.records, &snapshot)
                    {
                        self.ending = Ending::Aborted(slo);
                        stop.stop(now);
                    }
                }
            }
            load.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A rule that stops a level of a search says that it does not hold; the search goes on.
    fn give_up_level(&mut self, events: &mut Vec<NotableEvent>, level: Option<&StageTimes>) {
        if let Ending::Aborted(slo) = &self.ending {
            events.push(NotableEvent {
                at: level.map_or(self.clock.now(), |level| level.ended),
                kind: LEVEL_STOPPED,
                text: format!("{slo} stopped it"),
            });
            self.ending = Ending::Complete;
        }
    }

    fn heed_interrupt(&mut self, world: &World<'_>, stop: &StopSignal, now: Moment) {
        if world.interrupt.count() > 0 && !stop.is_stopped() {
            self.ending = Ending::Interrupted;
            stop.stop(now + INTERRUPTED_DRAIN);
        }
    }

    fn snapshot(&mut self, tally: &Tally) -> Snapshot {
        let sent = tally.sent.load(Ordering::Relaxed);
        let stage = tally.stage.load(Ordering::Relaxed) as usize;
        let now = self.clock.now();
        if stage != self.stage.0 {
            (self.stage, self.sent_before) = ((stage, now), sent);
        }
        Snapshot {
            now,
            stage,
            stage_began: self.stage.1,
            sent: sent.saturating_sub(self.sent_before),
            in_flight: sent.saturating_sub(tally.ended.load(Ordering::Relaxed)),
            gpu_util: self.sampler.latest("gpu.util"),
            gpu_power: self.sampler.latest("gpu.power"),
        }
    }
}
