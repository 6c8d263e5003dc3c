//! The loop of a load thread: ask the pacer, send, note what has ended. Threads own their connections and their records;
//! they are merged when the segment ends.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::counted::{Counting, Said};
use super::lane::{Ended, Inbox, Job, LaneHandle, Opening};
use super::pacer::{Pace, Pacer, PromptOrdinal, SendOrder, SessionId, SharedPace};
use super::session::Sessions;
use crate::clock::Clock;
use crate::engine::{BodyTemplate, HttpTarget, Lane, LaneFacts, Message, Pulse, Reactor};
use crate::observation::{Outcome, RequestRecord, StageTimes, request_id};
use crate::plan::{BackendKind, Cell, CellRun, Schedule};
use crate::threads::cpu_time;
use crate::units::Moment;
use crate::workload::Prompt;

/// Records that were not told yet are told at least this often.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Between the last thread's being ready and the first send.
const LEAD: Duration = Duration::from_millis(5);
/// How long a user whose connection was refused waits before it calls again.
const REDIAL: Duration = Duration::from_millis(50);
/// Requests that are handed over before what has come meanwhile is read.
const IN_A_ROW: u32 = 8;
/// Most connections that are opened ahead for an open loop, whose concurrency nobody knows before.
const AHEAD: u32 = 256;

/// Stops a segment from outside, from any thread.
#[derive(Debug, Default)]
pub struct StopSignal {
    stopped: AtomicBool,
    /// Streams are read on until then, on the cell's clock; `u64::MAX`: as planned.
    cut_at: AtomicU64,
    listeners: std::sync::Mutex<Vec<Arc<Notify>>>,
}

impl StopSignal {
    /// Nothing is stopped yet.
    pub fn new() -> StopSignal {
        StopSignal {
            cut_at: AtomicU64::new(u64::MAX),
            ..StopSignal::default()
        }
    }

    /// No more sends; what is in flight is cut at `cut_at` at the latest.
    pub fn stop(&self, cut_at: Moment) {
        self.stopped.store(true, Ordering::Release);
        self.cut_at.fetch_min(cut_at.ns(), Ordering::AcqRel);
        for listener in self
            .listeners
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
        {
            listener.notify_one();
        }
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn cut_at(&self) -> Moment {
        Moment::from_ns(self.cut_at.load(Ordering::Acquire))
    }

    fn listen(&self, wake: Arc<Notify>) {
        self.listeners
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(wake);
    }
}

/// Counts of the segment that runs, for whoever watches it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests sent.
    pub sent: AtomicU64,
    /// Requests that have ended.
    pub ended: AtomicU64,
    /// Index of the newest stage that sent.
    pub stage: AtomicU64,
}

/// What is to be sent, and where.
#[derive(Clone, Debug)]
pub struct SegmentRequest<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Its index in the plan.
    pub index: usize,
    /// Which of its segments.
    pub segment: usize,
    /// The run's seed.
    pub seed: u64,
    /// Which repeat.
    pub repeat: u32,
    /// Load threads.
    pub workers: u32,
    /// The cell's clock.
    pub clock: Clock,
    /// Where requests go.
    pub target: Arc<HttpTarget>,
    /// How their bodies are written.
    pub template: Arc<BodyTemplate>,
    /// How late the load threads are, for the telemetry.
    pub pulse: Arc<Pulse>,
    /// Counts for a watcher.
    pub tally: Arc<Tally>,
    /// Stops it from outside.
    pub stop: Arc<StopSignal>,
    /// Records as they end, a batch at a time.
    pub told: Sender<Vec<RequestRecord>>,
}

/// What came of a segment.
#[derive(Debug, Default)]
pub struct SegmentResult {
    /// Every request, in the order of their ends.
    pub records: Vec<RequestRecord>,
    /// When its stages were.
    pub stages: Vec<StageTimes>,
    /// Planned sends of measured stages that never left.
    pub unsent: Vec<(usize, u64)>,
    /// What the lanes learnt about their stamps.
    pub facts: LaneFacts,
    /// Each thread's share of a core.
    pub worker_cpu: Vec<f64>,
    /// Conversations that would have gone on when their load was over.
    pub unfinished: u64,
}

/// Why a segment could not be run: the machine refuses what a load thread needs.
#[derive(Debug, thiserror::Error)]
#[error("a load thread cannot work: {0}")]
pub struct LoadError(#[from] io::Error);

/// Runs a segment to its end: opens connections ahead, sends, drains. Blocks the calling thread.
///
/// # Errors
/// See [`LoadError`]; a failed request is no error.
pub fn execute(request: &SegmentRequest<'_>) -> Result<SegmentResult, LoadError> {
    std::thread::scope(|scope| {
        let (ready, all_ready) = std::sync::mpsc::channel();
        let mut threads = Vec::new();
        let mut starts = Vec::new();
        for worker in 0..request.workers {
            let (start, begins) = oneshot::channel::<Arc<SharedPace>>();
            let (request, ready) = (request.clone(), ready.clone());
            let thread = std::thread::Builder::new()
                .name(format!("load-{worker}"))
                .spawn_scoped(scope, move || Worker::run(&request, worker, ready, begins))?;
            threads.push(thread);
            starts.push(start);
        }
        drop(ready);
        // A thread that fails drops its sender, so this never waits for one that is gone.
        while all_ready.recv().is_ok() {}
        let begin = request.clock.now() + LEAD;
        let shared = SharedPace::new(
            request.cell,
            request.segment,
            request.seed,
            request.repeat,
            begin,
            request.workers,
        );
        let unheard = starts
            .into_iter()
            .map(|start| start.send(shared.clone()))
            .filter(Result::is_err)
            .count();
        if unheard > 0 {
            request.stop.stop(request.clock.now());
            shared.stop(request.clock.now());
        }
        shared.find_end();
        let mut result = SegmentResult::default();
        let mut failure = None;
        for thread in threads {
            match thread.join() {
                Ok(Ok(done)) => {
                    append(&mut result.records, done.records);
                    result.facts.merge(&done.facts);
                    result.worker_cpu.push(done.cpu);
                    result.unfinished += done.unfinished;
                }
                Ok(Err(error)) => failure = Some(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        if let Some(error) = failure {
            return Err(error.into());
        }
        result
            .records
            .sort_unstable_by_key(|record| (record.finished, record.stage, record.index));
        result.stages = shared.stage_times(request.clock.now());
        result.unsent = shared.unsent();
        Ok(result)
    })
}

/// Adds records to others; the first ones are taken as they are, since a million of them are worth not copying.
pub(crate) fn append(all: &mut Vec<RequestRecord>, more: Vec<RequestRecord>) {
    if all.is_empty() {
        *all = more;
    } else {
        all.extend(more);
    }
}

/// Stops the other threads when this one fails, or they would wait for its requests for ever.
struct StopOthers<'a> {
    shared: &'a SharedPace,
    clock: Clock,
    armed: bool,
}

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.stop(self.clock.now());
        }
    }
}

/// What one thread brings home.
struct Done {
    records: Vec<RequestRecord>,
    facts: LaneFacts,
    cpu: f64,
    unfinished: u64,
}

/// One load thread.
struct Worker<'a> {
    request: &'a SegmentRequest<'a>,
    clock: Clock,
    reactor: Rc<Reactor>,
    inbox: Rc<Inbox>,
    facts: Rc<RefCell<LaneFacts>>,
    lanes: Vec<LaneHandle>,
    idle: Vec<usize>,
    in_flight: usize,
    records: Vec<RequestRecord>,
    /// How many of the records have been told.
    told: usize,
    told_at: Moment,
    /// The body of the next request, made while there was nothing else to do.
    ahead: Option<Job>,
    /// The conversations that it holds, where requests are turns of them.
    sessions: Option<Sessions>,
    /// Answers whose events are counted by the model's tokenizer.
    counting: Option<Counting>,
}

impl Worker<'_> {
    fn run(
        request: &SegmentRequest<'_>,
        worker: u32,
        ready: std::sync::mpsc::Sender<()>,
        begins: oneshot::Receiver<Arc<SharedPace>>,
    ) -> io::Result<Done> {
        let reactor = Reactor::new(request.clock, request.pulse.clone())?;
        reactor.clone().block_on(async move {
            let wake = Arc::new(Notify::new());
            let mut worker_state = Worker {
                request,
                clock: request.clock,
                reactor,
                inbox: Rc::new(Inbox::new(wake.clone())),
                facts: Rc::default(),
                lanes: Vec::new(),
                idle: Vec::new(),
                in_flight: 0,
                records: Vec::new(),
                told: 0,
                told_at: Moment::ZERO,
                ahead: None,
                sessions: sessions(request),
                counting: counting(request),
            };
            worker_state
                .open_ahead(connections_ahead(request, worker))
                .await;
            request.stop.listen(wake.clone());
            drop(ready);
            let Ok(shared) = begins.await else {
                return Err(io::Error::other("another load thread failed"));
            };
            shared.on_change(move || wake.notify_one());
            let cpu_before = cpu_time();
            let wall_before = worker_state.clock.now();
            let mut pacer = shared.pacer(worker);
            let mut others = StopOthers {
                shared: &shared,
                clock: request.clock,
                armed: true,
            };
            worker_state.send_all(&mut pacer, &shared).await;
            worker_state.drain(&mut pacer, &shared).await;
            others.armed = false;
            worker_state.tell(true);
            let wall = worker_state.clock.now().since(wall_before).as_secs_f64();
            let cpu = cpu_time().saturating_sub(cpu_before).as_secs_f64() / wall.max(1e-9);
            if let Some(counting) = &mut worker_state.counting {
                counting.settle(&mut worker_state.records);
            }
            let facts = worker_state.facts.borrow().clone();
            let sessions = worker_state.sessions.as_ref();
            Ok(Done {
                unfinished: sessions.map_or(0, Sessions::unfinished),
                records: worker_state.records,
                facts,
                cpu,
            })
        })?
    }

    /// Opens connections before the first send.
    async fn open_ahead(&mut self, count: u32) {
        let opening = Opening::of(count);
        for _ in 0..count {
            self.add(Some(opening.clone()));
        }
        opening.done().await;
    }

    fn add(&mut self, opening: Option<Rc<Opening>>) {
        let lane = Lane::new(
            self.request.target.clone(),
            self.reactor.clone(),
            self.facts.clone(),
        );
        let number = self.lanes.len();
        self.lanes.push(LaneHandle::spawn(
            number,
            lane,
            &self.reactor,
            self.inbox.clone(),
            opening,
        ));
        self.idle.push(number);
    }

    /// Sends until the pacer has nothing more to send.
    async fn send_all(&mut self, pacer: &mut Pacer, shared: &SharedPace) {
        let mut in_a_row = 0;
        loop {
            let generation = shared.changed_generation();
            self.collect(pacer);
            // Arrivals that the cap has held to the end of the drain are not sent any more.
            let last_send = self.last_send(shared);
            let now = self.clock.now();
            if self.request.stop.is_stopped() || last_send.is_some_and(|last| now >= last) {
                pacer.stop(self.clock.now());
            }
            match pacer.next(self.clock.now(), self.in_flight) {
                Pace::Send(order) => {
                    self.send(order);
                    in_a_row += 1;
                    if in_a_row == IN_A_ROW {
                        in_a_row = 0;
                        self.reactor.let_others().await;
                    }
                }
                Pace::Drop(order) => self.drop_order(order),
                Pace::Cancel(user) => self.cancel(pacer, |order| order.user == Some(user)).await,
                Pace::CancelRest => self.cancel(pacer, |_| true).await,
                Pace::WaitUntil(moment) => {
                    self.make_ready(pacer);
                    self.tell(false);
                    if shared.changed_generation() == generation {
                        let wake = self.inbox.wake.clone();
                        tokio::select! {
                            biased;
                            () = wake.notified() => {}
                            () = self.reactor.alarm(moment) => {}
                        }
                    }
                }
                Pace::WaitForSlot => {
                    self.make_ready(pacer);
                    self.tell(false);
                    if shared.changed_generation() == generation {
                        let wake = self.inbox.wake.clone();
                        match last_send {
                            None => wake.notified().await,
                            Some(last) => tokio::select! {
                                biased;
                                () = wake.notified() => {}
                                () = self.reactor.alarm(last) => {}
                            },
                        }
                    }
                }
                Pace::Done => return,
            }
        }
    }

    /// When the drain of an open loop ends, whether or not the cap has let everything go; no limit for users, who wait for
    /// their answers.
    fn last_send(&self, shared: &SharedPace) -> Option<Moment> {
        Some(shared.arrivals_end()? + self.request.cell.drain)
    }

    /// Reads on until everything has ended or its time is up; what is still running then is cut.
    async fn drain(&mut self, pacer: &mut Pacer, shared: &SharedPace) {
        let planned = self.clock.now() + self.request.cell.drain;
        let planned = self
            .last_send(shared)
            .map_or(planned, |last| last.min(planned));
        while self.in_flight > 0 {
            self.collect(pacer);
            if self.in_flight == 0 {
                break;
            }
            let cut_at = planned.min(self.request.stop.cut_at());
            if self.clock.now() >= cut_at {
                self.cancel(pacer, |_| true).await;
                break;
            }
            self.tell(false);
            let wake = self.inbox.wake.clone();
            tokio::select! {
                biased;
                () = wake.notified() => {}
                () = self.reactor.alarm(cut_at) => {}
            }
        }
    }

    fn send(&mut self, order: SendOrder) {
        let is_it = |ahead: &SendOrder| {
            (ahead.prompt, ahead.turn, ahead.index, ahead.stage)
                == (order.prompt, order.turn, order.index, order.stage)
        };
        let job = match self.ahead.take() {
            Some(ahead) if is_it(&ahead.order) => Job { order, ..ahead },
            _ => self.prepare(order),
        };
        let kept = self.sessions.as_mut().and_then(|held| held.sent(&order));
        let lane = match kept.or_else(|| self.idle.pop()) {
            Some(lane) => lane,
            None => {
                self.add(None);
                self.idle.pop().unwrap_or(self.lanes.len() - 1)
            }
        };
        self.lanes[lane].send(job);
        self.in_flight += 1;
        self.request.tally.sent.fetch_add(1, Ordering::Relaxed);
        self.request
            .tally
            .stage
            .fetch_max(order.stage as u64, Ordering::Relaxed);
    }

    fn prepare(&mut self, order: SendOrder) -> Job {
        let prompt = match order.prompt {
            PromptOrdinal::Measured(ordinal) => self.request.cell.workload.prompt(ordinal),
            PromptOrdinal::Warmup(ordinal) => self.request.cell.workload.warmup_prompt(ordinal),
        };
        let run = CellRun {
            cell: self.request.index,
            repeat: self.request.repeat,
        };
        let template = &self.request.template;
        let body = match (&mut self.sessions, &prompt.conversation) {
            (Some(sessions), Some(conversation)) => {
                let messages = sessions.messages(&order, conversation);
                turn_body(self.request, &prompt, messages)
            }
            _ => template.fill(&prompt),
        };
        let (body, adapter) = template.for_adapter(body, || self.adapter(&order));
        let id = request_id(run, order.home, order.index, order.turn);
        let request = self.request.target.prepare(&body, template.stream(), &id);
        let request = match self.counting {
            Some(_) => request.counting_answer(),
            None => request,
        };
        Job {
            order,
            prompt,
            adapter,
            request: match &self.sessions {
                Some(_) => request.keeping_answer(),
                None => request,
            },
        }
    }

    /// Where the choice of an adapter falls for a request.
    fn adapter(&self, order: &SendOrder) -> f64 {
        let SegmentRequest {
            cell,
            segment,
            seed,
            repeat,
            ..
        } = *self.request;
        // A conversation keeps its adapter.
        cell.adapter_draw(seed, segment, repeat, (order.home, order.index))
    }

    /// Makes the next body while there is nothing else to do, where the pacer knows what comes.
    fn make_ready(&mut self, pacer: &Pacer) {
        if self.ahead.is_none()
            && let Some(order) = pacer.upcoming()
        {
            self.ahead = Some(self.prepare(order));
        }
    }

    /// Takes in what has ended.
    fn collect(&mut self, pacer: &mut Pacer) {
        while let Some(ended) = self.inbox.take() {
            self.take_in(ended, pacer);
        }
        while let Some(left) = pacer.take_left() {
            self.end_session(left, false);
        }
        if self.clock.now().since(self.told_at) >= TELL_EVERY {
            self.tell(false);
        }
    }

    fn take_in(&mut self, mut ended: Ended, pacer: &mut Pacer) {
        self.lanes[ended.lane].order = None;
        self.in_flight -= 1;
        self.request.tally.ended.fetch_add(1, Ordering::Relaxed);
        // A server that is gone is not hammered, nor is one that only refuses while it should warm up: the same user calls again a
        // moment later.
        let outcome = &ended.exchange.outcome;
        let gone = matches!(outcome, Outcome::ConnectFailed(_));
        let cold = outcome.is_failure() && !self.is_measured(&ended.order);
        let pause = match gone || cold {
            true => REDIAL,
            false => Duration::ZERO,
        };
        let at = ended.exchange.finished + pause;
        let mut answer = ended.exchange.answer.take();
        let ends = ended.exchange.ends.take();
        let is_counted = self.counting.is_some() && self.is_measured(&ended.order);
        let said = ends.filter(|_| is_counted).and_then(|ends| {
            // A conversation needs its answer, too.
            let text = match &self.sessions {
                Some(_) => answer.clone()?,
                None => answer.take()?,
            };
            Some(Said { text, ends })
        });
        let (order, outcome) = (&ended.order, &ended.exchange.outcome);
        let sessions = self.sessions.as_mut();
        let think = sessions.and_then(|held| held.answered(order, outcome, answer));
        if pacer.turn_completed(order, at, think) {
            if let Some(sessions) = &mut self.sessions {
                sessions.stays_on(order.session(), ended.lane);
            }
        } else {
            self.idle.push(ended.lane);
            self.end_session(ended.order.session(), think.is_none());
        }
        self.records.push(record(ended));
        if let (Some(counting), Some(said)) = (&mut self.counting, said) {
            counting.add(self.records.len() - 1, said);
        }
    }

    fn is_measured(&self, order: &SendOrder) -> bool {
        self.request.cell.stages[order.stage].measured
    }

    /// A conversation is over: its connection is free for others.
    fn end_session(&mut self, id: SessionId, finished: bool) {
        let sessions = self.sessions.as_mut();
        self.idle
            .extend(sessions.and_then(|held| held.end(id, finished)));
    }

    /// Ends the requests in flight whose order is meant, and waits until they have ended.
    async fn cancel(&mut self, pacer: &mut Pacer, meant: impl Fn(&SendOrder) -> bool) {
        let cancelled: Vec<usize> = (0..self.lanes.len())
            .filter(|&lane| self.lanes[lane].order.as_ref().is_some_and(&meant))
            .collect();
        for &lane in &cancelled {
            self.lanes[lane].cancel();
        }
        while cancelled
            .iter()
            .any(|&lane| self.lanes[lane].order.is_some())
        {
            self.inbox.wake.clone().notified().await;
            while let Some(ended) = self.inbox.take() {
                self.take_in(ended, pacer);
            }
        }
        // Others may have ended meanwhile and their wake-up been taken: let the loop look again.
        self.inbox.wake.notify_one();
    }

    fn drop_order(&mut self, order: SendOrder) {
        let job = self.prepare(order);
        self.end_session(order.session(), true);
        self.request.tally.sent.fetch_add(1, Ordering::Relaxed);
        self.request.tally.ended.fetch_add(1, Ordering::Relaxed);
        self.records.push(dropped(job, self.clock.now()));
    }

    /// Tells the records that have ended since the last time.
    fn tell(&mut self, all: bool) {
        let now = self.clock.now();
        if self.told < self.records.len() && (all || now.since(self.told_at) >= TELL_EVERY) {
            // Nobody listens any more when the run has ended early.
            let news = self.records[self.told..].to_vec();
            let _ = self.request.told.send(news);
            self.told = self.records.len();
            self.told_at = now;
        }
    }
}

/// What counts the events of answers: the model's tokenizer, where an engine streams text that it has made with it.
fn counting(request: &SegmentRequest<'_>) -> Option<Counting> {
    let tokenizer = request.cell.model.tokenizer.clone()?;
    let counts = request.template.stream() && request.cell.backend.kind != BackendKind::Simulator;
    counts.then(|| Counting::by(tokenizer))
}

/// An empty list of conversations, where the cell holds any.
fn sessions(request: &SegmentRequest<'_>) -> Option<Sessions> {
    let SegmentRequest {
        cell,
        segment,
        seed,
        repeat,
        ..
    } = *request;
    let seed = cell.segment_seed(seed, segment, repeat).stream("turns");
    Some(Sessions::new(cell.dialogue?, seed))
}

/// The body of a turn: its messages, or, where the language takes a text, what the model's chat template makes of them.
fn turn_body(request: &SegmentRequest<'_>, prompt: &Prompt, messages: &[Message]) -> Bytes {
    let template = &request.template;
    if let Some(body) = template.fill_messages(prompt, messages) {
        return body;
    }
    let said: Vec<(&str, &str)> = messages
        .iter()
        .map(|message| (message.role.name(), &*message.text))
        .collect();
    let tokenizer = request.cell.model.tokenizer.as_ref();
    let rendered = tokenizer
        .and_then(|tokenizer| tokenizer.template())
        .and_then(|chat| chat.render(&said).ok());
    // The plan has tried the template on a conversation like this one: it does not refuse.
    let text = rendered.unwrap_or_else(|| {
        let texts: Vec<&str> = said.iter().map(|(_, text)| *text).collect();
        texts.join("\n")
    });
    template.fill_text(prompt, &text)
}

fn connections_ahead(request: &SegmentRequest<'_>, worker: u32) -> u32 {
    let segment = &request.cell.segments[request.segment];
    let all = match &segment.schedule {
        Schedule::Closed { users, .. } => users.peak(),
        Schedule::Batch { size, requests } => {
            size.map_or(*requests, u64::from).min(u64::from(u32::MAX)) as u32
        }
        Schedule::Open { max_in_flight, .. } => {
            let stages = &request.cell.stages[segment.stages.clone()];
            let peak = stages
                .iter()
                .filter_map(|stage| stage.rate)
                .fold(0.0, |peak, rate| rate.per_second().max(peak));
            (peak.ceil() as u32).clamp(1, AHEAD).min(*max_in_flight)
        }
    };
    all / request.workers + u32::from(worker < all % request.workers)
}

fn record(ended: Ended) -> RequestRecord {
    let Ended {
        order,
        prompt,
        adapter,
        exchange,
        ..
    } = ended;
    RequestRecord {
        index: order.index,
        stage: order.stage,
        measured: order.measured,
        prompt: prompt.id,
        category: prompt.category,
        adapter,
        turn: order.turn,
        home: order.home,
        user: order.user,
        intended: order.intended,
        cap_wait: order.cap_wait,
        dispatched: Some(exchange.dispatched),
        connect: exchange.connect,
        written: exchange.written,
        headers: exchange.headers,
        first_event: exchange.first_event,
        first_token: exchange.first_token,
        first_token_shared: exchange.first_token_shared,
        first_content: exchange.first_content,
        last_token: exchange.last_token,
        finished: exchange.finished,
        events: exchange.events,
        outcome: exchange.outcome,
        status: exchange.status,
        finish_reason: exchange.finish_reason,
        tokens: exchange.tokens,
        bytes: exchange.bytes,
        reused: exchange.reused,
        reconnected: exchange.reconnected,
        valid: None,
    }
}

fn dropped(job: Job, now: Moment) -> RequestRecord {
    let Job {
        order,
        prompt,
        adapter,
        ..
    } = job;
    RequestRecord {
        index: order.index,
        stage: order.stage,
        measured: order.measured,
        prompt: prompt.id,
        category: prompt.category,
        adapter,
        turn: order.turn,
        home: order.home,
        user: order.user,
        intended: order.intended,
        cap_wait: order.cap_wait,
        dispatched: None,
        connect: None,
        written: None,
        headers: None,
        first_event: None,
        first_token: None,
        first_token_shared: false,
        first_content: None,
        last_token: None,
        finished: now,
        events: Default::default(),
        outcome: Outcome::Dropped,
        status: None,
        finish_reason: None,
        tokens: Default::default(),
        bytes: 0,
        reused: false,
        reconnected: false,
        valid: None,
    }
}
