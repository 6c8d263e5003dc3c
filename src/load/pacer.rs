//! When to send: one pure state machine for every load shape, asked again and again by the loop of a load thread.
//!
//! Each of W threads has its own [`Pacer`] and walks its own share of the segment: arrivals and batch members whose index,
//! users whose number is its own modulo W. What must be one for all threads (the pool of a counted stage, the instants at
//! which stages begin and end, the barrier between batches) lies in [`SharedPace`] and is reached through atomics alone.
//!
//! A pacer never reads a clock and never waits: time comes in with each call, so it is tested as a table.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::observation::StageTimes;
use crate::plan::{
    Arrival, Arrivals, Cell, Distribution, OnFull, RampDown, Schedule, Segment, Stage, UserChange,
    UserExtent, UserPiece,
};
use crate::seed::Seed;
use crate::units::Moment;

/// What the loop should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Send this request now, then ask again.
    Send(SendOrder),
    /// Record this request as dropped (its time came and the cap was full), then ask again. It is never `completed`.
    Drop(SendOrder),
    /// Cut the request of this user, tell its end by [`Pacer::completed`], then ask again.
    Cancel(u32),
    /// Close every request still running without a record (the fill at the tail of a level), tell their ends by
    /// [`Pacer::completed`], then ask again.
    CancelRest,
    /// Ask again at this moment, or when a request of this thread ends, or on a signal (see [`SharedPace::on_change`]).
    WaitUntil(Moment),
    /// Ask again when a request of this thread ends, or on a signal.
    WaitForSlot,
    /// Nothing will be sent by this thread any more; what is in flight drains.
    Done,
}

/// One request that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOrder {
    /// Index of its stage in the cell.
    pub stage: usize,
    /// Index in its stage, from 0. The fill at the tail of a level counts on beyond the stage's requests.
    pub index: u64,
    /// Whether it counts.
    pub measured: bool,
    /// The closed-loop user that sends it, from 0.
    pub user: Option<u32>,
    /// When the plan says that it leaves, on the cell's clock.
    pub intended: Moment,
    /// How long the in-flight cap held it.
    pub cap_wait: Duration,
    /// Which prompt it sends, or which conversation it is a turn of.
    pub prompt: PromptOrdinal,
    /// Which turn of its conversation it is, from 1; 1 for single prompts.
    pub turn: u32,
    /// Index of the stage in which its conversation began; its own stage for single prompts.
    pub home: usize,
}

/// A conversation that is held: the stage in which it began, and its index there.
pub type SessionId = (usize, u64);

impl SendOrder {
    /// The conversation that it is a turn of.
    pub fn session(&self) -> SessionId {
        (self.home, self.index)
    }

    /// The turn after this one.
    fn following(&self, stage: usize, measured: bool, intended: Moment) -> SendOrder {
        SendOrder {
            stage,
            measured,
            intended,
            cap_wait: Duration::ZERO,
            turn: self.turn + 1,
            ..*self
        }
    }
}

/// Which prompt of the set a request sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptOrdinal {
    /// A measured prompt.
    Measured(u64),
    /// A warm-up prompt, which no measured request uses.
    Warmup(u64),
}

/// No moment yet.
const UNSET: u64 = u64::MAX;

/// What the threads of one segment share.
pub struct SharedPace {
    schedule: Schedule,
    /// The stages of the segment; `first_stage` is the cell's index of the first of them.
    stages: Vec<Stage>,
    first_stage: usize,
    /// Added to every prompt offset: the slices of earlier repeats.
    prompt_base: u64,
    seed: Seed,
    start: Moment,
    workers: u32,
    progress: Vec<StageProgress>,
    /// When the first k users had each sent a request, at k − 1.
    users_started: Vec<AtomicU64>,
    users_started_count: AtomicU64,
    users_started_last: AtomicU64,
    batches_done: AtomicU64,
    barrier_at: AtomicU64,
    stopped: AtomicU64,
    /// When the last stage of an open loop ends; known from the start where all of them are timed.
    arrivals_end: AtomicU64,
    /// Whether conversations are held.
    sessions: bool,
    /// When the stages of an open loop begin and end, from the start, where conversations go on from one into the next.
    windows: Vec<(usize, Moment, Moment)>,
    generation: AtomicU64,
    on_change: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

/// What is known of a stage while it runs.
#[derive(Debug)]
struct StageProgress {
    began: AtomicU64,
    /// Orders given out: the next index in the stage.
    taken: AtomicU64,
    /// Orders given out beyond the stage's requests.
    filled: AtomicU64,
    /// Requests of its own that have ended.
    ended: AtomicU64,
    last_end: AtomicU64,
    /// When the first of its requests was to leave.
    first_intended: AtomicU64,
    /// When the last of its requests was given out.
    all_taken_at: AtomicU64,
    /// When the last of its requests had ended.
    all_ended_at: AtomicU64,
}

impl StageProgress {
    fn new() -> StageProgress {
        StageProgress {
            began: AtomicU64::new(UNSET),
            taken: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            last_end: AtomicU64::new(0),
            first_intended: AtomicU64::new(UNSET),
            all_taken_at: AtomicU64::new(UNSET),
            all_ended_at: AtomicU64::new(UNSET),
        }
    }

    /// The earliest of its requests is one of the first that the users take, whichever thread is first to count its own.
    fn note_first(&self, piece: &UserPiece, index: u64, intended: Moment) {
        if index < u64::from(piece.from.max(piece.to)) {
            self.first_intended
                .fetch_min(intended.ns(), Ordering::AcqRel);
        }
    }

    /// Takes the next index below `limit`.
    fn take_below(&self, limit: u64) -> Option<u64> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < limit).then_some(taken + 1)
            })
            .ok()
    }
}

fn moment(cell: &AtomicU64) -> Option<Moment> {
    match cell.load(Ordering::Acquire) {
        UNSET => None,
        ns => Some(Moment::from_ns(ns)),
    }
}

impl std::fmt::Debug for SharedPace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedPace")
            .field("first_stage", &self.first_stage)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl SharedPace {
    /// The shared side of one segment of a cell, which begins at `start` on the cell's clock and runs on `workers` threads.
    pub fn new(
        cell: &Cell,
        segment: usize,
        seed: u64,
        repeat: u32,
        start: Moment,
        workers: u32,
    ) -> Arc<SharedPace> {
        let planned = &cell.segments[segment];
        SharedPace::of(
            planned,
            &cell.stages[planned.stages.clone()],
            cell.segment_seed(seed, segment, repeat),
            u64::from(repeat) * cell.prompts_per_repeat,
            start,
            workers,
            cell.dialogue.is_some(),
        )
    }

    fn of(
        segment: &Segment,
        stages: &[Stage],
        seed: Seed,
        prompt_base: u64,
        start: Moment,
        workers: u32,
        sessions: bool,
    ) -> Arc<SharedPace> {
        let windows = match &segment.schedule {
            Schedule::Open { curve, .. } if sessions => curve.stage_windows(&seed),
            _ => Vec::new(),
        };
        let peak = match &segment.schedule {
            Schedule::Closed { users, .. } => users.peak(),
            Schedule::Open { .. } | Schedule::Batch { .. } => 0,
        };
        let arrivals_end = match &segment.schedule {
            Schedule::Open { curve, .. } => curve.timed_end(),
            Schedule::Closed { .. } | Schedule::Batch { .. } => None,
        };
        Arc::new(SharedPace {
            schedule: segment.schedule.clone(),
            progress: stages.iter().map(|_| StageProgress::new()).collect(),
            stages: stages.to_vec(),
            first_stage: segment.stages.start,
            prompt_base,
            seed,
            start,
            workers: workers.max(1),
            users_started: (0..peak).map(|_| AtomicU64::new(UNSET)).collect(),
            users_started_count: AtomicU64::new(0),
            users_started_last: AtomicU64::new(0),
            batches_done: AtomicU64::new(0),
            barrier_at: AtomicU64::new(start.ns()),
            stopped: AtomicU64::new(UNSET),
            arrivals_end: AtomicU64::new(
                arrivals_end
                    .or(windows.last().map(|(.., end)| *end))
                    .map_or(UNSET, |end| (start + end.since(Moment::ZERO)).ns()),
            ),
            sessions,
            windows,
            generation: AtomicU64::new(0),
            on_change: Mutex::new(Vec::new()),
        })
    }

    /// The pacer of thread `worker`, from 0.
    pub fn pacer(self: &Arc<SharedPace>, worker: u32) -> Pacer {
        let share = match &self.schedule {
            Schedule::Open { max_in_flight, .. } => {
                Share::Open(Box::new(OpenShare::new(self, worker, *max_in_flight)))
            }
            Schedule::Closed { users, .. } => {
                Share::Closed(ClosedShare::new(self, worker, users.peak()))
            }
            Schedule::Batch { .. } => Share::Batch(BatchShare {
                next: u64::from(worker),
            }),
        };
        Pacer {
            shared: Arc::clone(self),
            share,
        }
    }

    /// Calls `wake` whenever something changed that another thread may wait for: a stage or batch ended, or all stopped.
    /// Register before the first `next`; `wake` must not call back into the pacer.
    pub fn on_change(&self, wake: impl Fn() + Send + 'static) {
        self.on_change
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(wake));
    }

    /// Grows with each change that another thread may wait for: read it before `next`, and ask again if it has grown.
    pub fn changed_generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// When the last stage of an open loop ends, as far as that is known: see [`SharedPace::find_end`].
    pub fn arrivals_end(&self) -> Option<Moment> {
        moment(&self.arrivals_end)
    }

    /// Finds out when the last stage of an open loop ends where stages end by count, which takes a walk over all arrivals: for
    /// a thread that has nothing else to do.
    pub fn find_end(&self) {
        let Schedule::Open { curve, .. } = &self.schedule else {
            return;
        };
        if self.arrivals_end().is_none()
            && let Some((.., end)) = curve.stage_windows(&self.seed).last()
        {
            let end = self.start + end.since(Moment::ZERO);
            self.arrivals_end.store(end.ns(), Ordering::Release);
            self.changed();
        }
    }

    /// No more sends from any thread.
    pub fn stop(&self, now: Moment) {
        self.stopped.fetch_min(now.ns(), Ordering::AcqRel);
        self.changed();
    }

    /// When the stages that were begun began and ended, once the segment is over at `end`.
    pub fn stage_times(&self, end: Moment) -> Vec<StageTimes> {
        let end = moment(&self.stopped).map_or(end, |stopped| stopped.min(end));
        match &self.schedule {
            Schedule::Open { curve, .. } => {
                let clip = |at: Moment| (self.start + at.since(Moment::ZERO)).min(end);
                curve
                    .stage_windows(&self.seed)
                    .into_iter()
                    .filter(|(_, began, _)| self.start + began.since(Moment::ZERO) <= end)
                    .map(|(stage, began, ended)| whole(stage, clip(began), clip(ended)))
                    .collect()
            }
            Schedule::Batch { .. } => {
                let ended = moment(&self.progress[0].all_ended_at).unwrap_or(end);
                vec![whole(self.first_stage, self.start, ended.max(self.start))]
            }
            Schedule::Closed { users, .. } => users
                .pieces
                .iter()
                .filter_map(|piece| self.closed_times(piece, end))
                .collect(),
        }
    }

    /// Planned sends of measured stages that never left, by stage of the cell, once every thread has ended.
    pub fn unsent(&self) -> Vec<(usize, u64)> {
        let mut planned: Vec<u64> = vec![0; self.stages.len()];
        match &self.schedule {
            Schedule::Open { curve, .. } => {
                if moment(&self.stopped).is_none() {
                    return Vec::new();
                }
                for arrival in curve.arrivals(&self.seed) {
                    planned[arrival.stage - self.first_stage] += 1;
                }
            }
            Schedule::Batch { requests, .. } => planned[0] = *requests,
            Schedule::Closed { users, .. } => {
                for piece in &users.pieces {
                    planned[piece.stage - self.first_stage] = piece.requests().unwrap_or(0);
                }
            }
        }
        planned
            .iter()
            .enumerate()
            .filter(|(stage, _)| self.stages[*stage].measured)
            .map(|(stage, planned)| {
                let taken = self.progress[stage].taken.load(Ordering::Acquire);
                (self.first_stage + stage, planned.saturating_sub(taken))
            })
            .filter(|(_, unsent)| *unsent > 0)
            .collect()
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let wakes = self
            .on_change
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for wake in wakes.iter() {
            wake();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) != UNSET
    }

    fn stage(&self, stage: usize) -> (&Stage, &StageProgress) {
        let at = stage - self.first_stage;
        (&self.stages[at], &self.progress[at])
    }

    fn order(&self, stage: usize, index: u64, intended: Moment) -> SendOrder {
        let (planned, _) = self.stage(stage);
        let prompt = if planned.measured {
            PromptOrdinal::Measured(self.prompt_base + planned.prompt_offset + index)
        } else {
            PromptOrdinal::Warmup(planned.prompt_offset + index)
        };
        SendOrder {
            stage,
            index,
            measured: planned.measured,
            user: None,
            intended,
            cap_wait: Duration::ZERO,
            prompt,
            turn: 1,
            home: stage,
        }
    }

    /// The stage of an open loop that lies at this moment; `None` after the last.
    fn stage_at(&self, moment: Moment) -> Option<usize> {
        let since = moment.since(self.start);
        let after = |at: &Moment| at.since(Moment::ZERO) > since;
        let ended = self.windows.last().is_none_or(|(_, _, end)| !after(end));
        let begun = self
            .windows
            .iter()
            .rev()
            .find(|(_, began, _)| !after(began));
        begun.filter(|_| !ended).map(|(stage, ..)| *stage)
    }

    /// When a closed-loop stage that began at `began` ends, as soon as that is known.
    fn closed_end(&self, piece: &UserPiece, began: Moment) -> Option<Moment> {
        let (stage, progress) = self.stage(piece.stage);
        match piece.extent {
            UserExtent::For(duration) => Some(began + duration),
            UserExtent::AtLeast {
                duration, at_most, ..
            } => {
                let counted = moment(&progress.all_ended_at).unwrap_or(Moment::MAX);
                Some(counted.max(began + duration).min(began + at_most))
            }
            UserExtent::Requests(_) | UserExtent::RequestsPerUser(_)
                if stage.tail_fill || self.sessions =>
            {
                moment(&progress.all_ended_at)
            }
            UserExtent::Requests(_) | UserExtent::RequestsPerUser(_) => {
                moment(&progress.all_taken_at)
            }
        }
    }

    fn closed_times(&self, piece: &UserPiece, end: Moment) -> Option<StageTimes> {
        let (stage, progress) = self.stage(piece.stage);
        let began = moment(&progress.began).filter(|began| *began <= end)?;
        let counted = piece.requests().is_some() && stage.measured;
        let ended = if counted {
            moment(&progress.all_ended_at)
        } else {
            self.closed_end(piece, began)
        };
        let ended = ended.unwrap_or(end).min(end).max(began);
        let level = if piece.from == piece.to {
            // Users that were there before the stage have started before it.
            self.users_started[..piece.to as usize]
                .iter()
                .try_fold(began, |latest, started| {
                    moment(started).map(|at| at.max(latest))
                })
        } else {
            Some(began)
        };
        // A warm-up request that reaches into a measured stage, like the first one of an engine that starts cold, is none of it.
        let first = moment(&progress.first_intended).filter(|_| stage.measured);
        let level = level.map(|level| first.map_or(level, |first| level.max(first)));
        Some(StageTimes {
            stage: piece.stage,
            began,
            ended,
            steady: level
                .filter(|level| *level < ended)
                .map(|level| (level, ended)),
        })
    }

    /// A user has sent its first request at `now`.
    fn user_started(&self, now: Moment) {
        let last = self
            .users_started_last
            .fetch_max(now.ns(), Ordering::AcqRel)
            .max(now.ns());
        let number = self.users_started_count.fetch_add(1, Ordering::AcqRel);
        if let Some(started) = self.users_started.get(number as usize) {
            started.store(last, Ordering::Release);
        }
    }

    /// One request of the stage's own has ended; the last of `requests` publishes the instant at which all had.
    fn count_end(&self, stage: usize, requests: u64, at: Moment) {
        let (_, progress) = self.stage(stage);
        progress.last_end.fetch_max(at.ns(), Ordering::AcqRel);
        if progress.ended.fetch_add(1, Ordering::AcqRel) + 1 == requests {
            let last = progress.last_end.load(Ordering::Acquire);
            progress.all_ended_at.store(last, Ordering::Release);
            self.changed();
        }
    }
}

fn whole(stage: usize, began: Moment, ended: Moment) -> StageTimes {
    StageTimes {
        stage,
        began,
        ended,
        steady: Some((began, ended)),
    }
}

/// The state machine of one load thread.
#[derive(Debug)]
pub struct Pacer {
    shared: Arc<SharedPace>,
    share: Share,
}

#[derive(Debug)]
enum Share {
    Open(Box<OpenShare>),
    Closed(ClosedShare),
    Batch(BatchShare),
}

impl Pacer {
    /// What to do at `now` with `in_flight` requests of this thread in flight.
    pub fn next(&mut self, now: Moment, in_flight: usize) -> Pace {
        if self.shared.is_stopped() {
            return Pace::Done;
        }
        match &mut self.share {
            Share::Open(open) => open.next(&self.shared, now, in_flight),
            Share::Closed(closed) => closed.next(&self.shared, now),
            Share::Batch(batch) => batch.next(&self.shared, now),
        }
    }

    /// The request of `order` has ended, however it ended; `at` is the stamp of its last byte.
    pub fn completed(&mut self, order: &SendOrder, at: Moment) {
        self.turn_completed(order, at, None);
    }

    /// The same for a turn of a conversation, whose next one is to leave after `think`, if there is one. Tells whether the
    /// conversation goes on: it does not after the last stage, nor with a user that has left.
    pub fn turn_completed(
        &mut self,
        order: &SendOrder,
        at: Moment,
        think: Option<Duration>,
    ) -> bool {
        match &mut self.share {
            Share::Open(open) => open.completed(&self.shared, order, at, think),
            Share::Closed(closed) => closed.completed(&self.shared, order, at, think),
            Share::Batch(_) => {
                self.shared.batch_member_ended(at);
                false
            }
        }
    }

    /// The next conversation that ended between two turns, because its user has left.
    pub fn take_left(&mut self) -> Option<SessionId> {
        match &mut self.share {
            Share::Closed(closed) => closed.left.pop_front(),
            Share::Open(_) | Share::Batch(_) => None,
        }
    }

    /// The order that comes next where that is known ahead (open loop and batches), so that its body can be made before its
    /// time. Only `cap_wait`, and a batch's `intended`, may differ when it comes.
    pub fn upcoming(&self) -> Option<SendOrder> {
        match &self.share {
            Share::Open(open) => open.comes_first(&self.shared),
            Share::Closed(_) => None,
            Share::Batch(batch) => (batch.next < self.shared.batch().1).then(|| {
                self.shared
                    .order(self.shared.first_stage, batch.next, self.shared.start)
            }),
        }
    }

    /// No more sends from any thread of the segment.
    pub fn stop(&self, now: Moment) {
        self.shared.stop(now);
    }
}

/// One thread's share of the arrivals.
#[derive(Debug)]
struct OpenShare {
    arrivals: Arrivals,
    head: Option<Arrival>,
    worker: u64,
    /// Threads that send: no more than the cap, so that each may have at least one request in flight.
    senders: u64,
    cap: usize,
    on_full: OnFull,
    /// Since when arrivals whose time had come have been waiting for the cap.
    full_since: Option<Moment>,
    /// Turns of conversations under way, by time.
    due: BinaryHeap<Reverse<Due>>,
}

/// A turn that is due; ordered by its time.
#[derive(Debug)]
struct Due(SendOrder);

impl Due {
    fn key(&self) -> (Moment, usize, u64) {
        (self.0.intended, self.0.home, self.0.index)
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl OpenShare {
    fn new(shared: &SharedPace, worker: u32, max_in_flight: u32) -> OpenShare {
        let Schedule::Open { curve, on_full, .. } = &shared.schedule else {
            unreachable!("an open share belongs to an open schedule")
        };
        let senders = shared.workers.min(max_in_flight).max(1);
        let mut share = OpenShare {
            arrivals: curve.arrivals(&shared.seed),
            head: None,
            worker: u64::from(worker),
            senders: u64::from(senders),
            cap: (max_in_flight / senders + u32::from(worker < max_in_flight % senders)) as usize,
            on_full: *on_full,
            full_since: None,
            due: BinaryHeap::new(),
        };
        if worker < senders {
            share.advance();
        }
        share
    }

    fn advance(&mut self) {
        let (worker, senders) = (self.worker, self.senders);
        self.head = self
            .arrivals
            .find(|arrival| arrival.index % senders == worker);
    }

    fn order(&self, shared: &SharedPace, arrival: &Arrival, cap_wait: Duration) -> SendOrder {
        let intended = shared.start + arrival.at.since(Moment::ZERO);
        SendOrder {
            cap_wait,
            ..shared.order(arrival.stage, arrival.in_stage, intended)
        }
    }

    /// What leaves next: an arrival, or a turn of a conversation.
    fn comes_first(&self, shared: &SharedPace) -> Option<SendOrder> {
        let arrival = self
            .head
            .map(|arrival| self.order(shared, &arrival, Duration::ZERO));
        let due = self.due.peek().map(|Reverse(Due(order))| *order);
        match (arrival, due) {
            (Some(arrival), Some(due)) if arrival.intended < due.intended => Some(arrival),
            (arrival, due) => due.or(arrival),
        }
    }

    fn completed(
        &mut self,
        shared: &SharedPace,
        order: &SendOrder,
        at: Moment,
        think: Option<Duration>,
    ) -> bool {
        let Some(intended) = think.map(|think| at + think) else {
            return false;
        };
        let Some(stage) = shared.stage_at(intended) else {
            return false;
        };
        let measured = shared.stage(stage).0.measured;
        self.due
            .push(Reverse(Due(order.following(stage, measured, intended))));
        true
    }

    fn next(&mut self, shared: &SharedPace, now: Moment, in_flight: usize) -> Pace {
        let Some(order) = self.comes_first(shared) else {
            // A timed stage lasts its time, also when nothing more arrives in it.
            return match shared.arrivals_end() {
                Some(end) if end > now => Pace::WaitUntil(end),
                _ => Pace::Done,
            };
        };
        if order.intended > now {
            self.full_since = None;
            return Pace::WaitUntil(order.intended);
        }
        let full = in_flight >= self.cap;
        if full && self.on_full == OnFull::Queue {
            self.full_since.get_or_insert(now);
            return Pace::WaitForSlot;
        }
        if order.turn > 1 {
            self.due.pop();
        } else {
            self.advance();
            let (_, progress) = shared.stage(order.stage);
            progress.taken.fetch_add(1, Ordering::AcqRel);
        }
        if full {
            return Pace::Drop(order);
        }
        // Without the cap it would have left when its time came, or when the loop first saw the cap full.
        let cap_wait = self
            .full_since
            .map_or(Duration::ZERO, |since| now.since(since.max(order.intended)));
        Pace::Send(SendOrder { cap_wait, ..order })
    }
}

/// One thread's share of the batches.
#[derive(Debug)]
struct BatchShare {
    next: u64,
}

impl SharedPace {
    /// Requests in one batch, and in all.
    fn batch(&self) -> (u64, u64) {
        match &self.schedule {
            Schedule::Batch { size, requests } => (
                size.map_or(*requests, |size| u64::from(size.max(1))),
                *requests,
            ),
            Schedule::Open { .. } | Schedule::Closed { .. } => (1, 0),
        }
    }

    fn batch_member_ended(&self, at: Moment) {
        let (size, requests) = self.batch();
        let progress = &self.progress[0];
        progress.last_end.fetch_max(at.ns(), Ordering::AcqRel);
        let ended = progress.ended.fetch_add(1, Ordering::AcqRel) + 1;
        let done = self.batches_done.load(Ordering::Acquire);
        if ended != ((done + 1) * size).min(requests) {
            return;
        }
        // Nobody can be in the next batch before `batches_done` grows, so `last_end` is still this batch's.
        let last = progress.last_end.load(Ordering::Acquire);
        if ended == requests {
            progress.all_ended_at.store(last, Ordering::Release);
        }
        self.barrier_at.store(last, Ordering::Release);
        self.batches_done.store(done + 1, Ordering::Release);
        self.changed();
    }
}

impl BatchShare {
    fn next(&mut self, shared: &SharedPace, now: Moment) -> Pace {
        let (size, requests) = shared.batch();
        if self.next >= requests {
            return Pace::Done;
        }
        if self.next / size > shared.batches_done.load(Ordering::Acquire) {
            return Pace::WaitForSlot;
        }
        let intended = Moment::from_ns(shared.barrier_at.load(Ordering::Acquire));
        if intended > now {
            return Pace::WaitUntil(intended);
        }
        let order = shared.order(shared.first_stage, self.next, intended);
        shared.progress[0].taken.fetch_add(1, Ordering::AcqRel);
        self.next += u64::from(shared.workers);
        Pace::Send(order)
    }
}

/// One thread's share of the users.
#[derive(Debug)]
struct ClosedShare {
    users: Vec<User>,
    /// Index of the current piece, or one past the last; `None` before the first.
    piece: Option<usize>,
    began: Moment,
    /// Starts and stops of own users on the way through the piece, in order of time.
    changes: VecDeque<(Moment, usize, UserChange)>,
    /// Users whose next request is due, by time; entries of users that changed since are passed over.
    ready: BinaryHeap<Reverse<(Moment, usize)>>,
    /// Own users to cut, unless they have ended or are wanted again by then.
    cancels: VecDeque<usize>,
    cancel_rest: bool,
    /// Conversations whose users have left between two turns.
    left: VecDeque<SessionId>,
}

#[derive(Clone, Debug)]
struct User {
    number: u32,
    /// Whether the curve wants it at present.
    wanted: bool,
    state: UserState,
    /// Requests that it has sent, in all and in the current piece; of conversations, first turns.
    sent: u64,
    sent_in_piece: u64,
    /// Requests that have ended; of conversations, whole ones.
    ended: u64,
    /// The turn before the one that it sends next, if it holds a conversation.
    session: Option<SendOrder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserState {
    Away,
    /// Its next request is intended then.
    Ready(Moment),
    /// Its next request was intended then, but the stage has none left.
    Held(Moment),
    Busy,
}

/// What a user whose time has come does.
enum Turn {
    Send(SendOrder),
    Hold,
}

impl ClosedShare {
    fn new(shared: &SharedPace, worker: u32, peak: u32) -> ClosedShare {
        ClosedShare {
            users: (0..peak)
                .filter(|user| user % shared.workers == worker)
                .map(|number| User {
                    number,
                    wanted: false,
                    state: UserState::Away,
                    sent: 0,
                    sent_in_piece: 0,
                    ended: 0,
                    session: None,
                })
                .collect(),
            piece: None,
            began: shared.start,
            changes: VecDeque::new(),
            ready: BinaryHeap::new(),
            cancels: VecDeque::new(),
            cancel_rest: false,
            left: VecDeque::new(),
        }
    }

    fn next(&mut self, shared: &SharedPace, now: Moment) -> Pace {
        let Schedule::Closed {
            users: curve,
            ramp_down,
            ..
        } = &shared.schedule
        else {
            unreachable!("a closed share belongs to a closed schedule")
        };
        loop {
            if let Some(local) = self.cancels.pop_front() {
                let user = &self.users[local];
                if user.state == UserState::Busy && !user.wanted {
                    return Pace::Cancel(user.number);
                }
                continue;
            }
            if std::mem::take(&mut self.cancel_rest) && self.is_busy() {
                return Pace::CancelRest;
            }
            let Some(at) = self.piece else {
                if now < self.began {
                    return Pace::WaitUntil(self.began);
                }
                self.enter(shared, 0, *ramp_down);
                continue;
            };
            let Some(piece) = curve.pieces.get(at) else {
                return Pace::Done;
            };
            let end = shared.closed_end(piece, self.began);
            let change = self.changes.front().map(|(moment, ..)| *moment);
            let ready = self.next_ready();
            // At one instant: users change, then the stage ends, then requests leave.
            let until = end.unwrap_or(Moment::MAX);
            let comes_first =
                |moment: Moment| moment <= now && ready.is_none_or(|ready| moment <= ready);
            if change.is_some_and(|moment| moment <= until && comes_first(moment)) {
                self.change_next(shared, *ramp_down);
                continue;
            }
            let fills = shared.stage(piece.stage).0.tail_fill;
            if comes_first(until) || (fills && until <= now) {
                self.began = until;
                self.cancel_rest = fills;
                self.enter(shared, at + 1, *ramp_down);
                continue;
            }
            match ready {
                Some(moment) if moment <= now => {
                    if let Some(order) = self.take_turn(shared, piece, now) {
                        return Pace::Send(order);
                    }
                }
                _ => {
                    return [end, change, ready]
                        .into_iter()
                        .flatten()
                        .min()
                        .map_or(Pace::WaitForSlot, Pace::WaitUntil);
                }
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.users.iter().any(|user| user.state == UserState::Busy)
    }

    fn enter(&mut self, shared: &SharedPace, at: usize, ramp_down: RampDown) {
        let Schedule::Closed { users: curve, .. } = &shared.schedule else {
            return;
        };
        self.piece = Some(at);
        self.changes.clear();
        let Some(piece) = curve.pieces.get(at) else {
            return;
        };
        let began = self.began;
        shared
            .stage(piece.stage)
            .1
            .began
            .store(began.ns(), Ordering::Release);
        let before = curve.users_before(at);
        let mut on_the_way = Vec::new();
        for local in 0..self.users.len() {
            let changes = piece.changes(self.users[local].number, before);
            if let Some(change) = changes.jump {
                self.change(shared, local, change, began, ramp_down);
            }
            if let Some((change, after)) = changes.on_the_way {
                on_the_way.push((began + after, local, change));
            }
            let user = &mut self.users[local];
            user.sent_in_piece = 0;
            if let UserState::Held(moment) = user.state {
                self.make_ready(local, moment.max(began));
            }
        }
        on_the_way.sort_by_key(|(moment, local, _)| (*moment, *local));
        self.changes = on_the_way.into();
    }

    fn change_next(&mut self, shared: &SharedPace, ramp_down: RampDown) {
        if let Some((moment, local, change)) = self.changes.pop_front() {
            self.change(shared, local, change, moment, ramp_down);
        }
    }

    fn change(
        &mut self,
        shared: &SharedPace,
        local: usize,
        change: UserChange,
        at: Moment,
        ramp_down: RampDown,
    ) {
        let user = &mut self.users[local];
        user.wanted = change == UserChange::Start;
        match (change, user.state) {
            (UserChange::Start, UserState::Away) => self.make_ready(local, at),
            // It is wanted again before it has left: it goes on.
            (UserChange::Start, _) => {}
            (UserChange::Stop, UserState::Busy) => {
                if ramp_down == RampDown::Cancel {
                    self.cancels.push_back(local);
                }
            }
            (UserChange::Stop, _) => {
                user.state = UserState::Away;
                if let Some(session) = user.session.take() {
                    self.left.push_back(session.session());
                    shared.closed_request_ended(&session, at);
                }
            }
        }
    }

    fn make_ready(&mut self, local: usize, at: Moment) {
        self.users[local].state = UserState::Ready(at);
        self.ready.push(Reverse((at, local)));
    }

    fn next_ready(&mut self) -> Option<Moment> {
        while let Some(Reverse((moment, local))) = self.ready.peek() {
            if self.users[*local].state == UserState::Ready(*moment) {
                return Some(*moment);
            }
            self.ready.pop();
        }
        None
    }

    /// The user whose time came first sends, or is held because its stage has no request left for it.
    fn take_turn(
        &mut self,
        shared: &SharedPace,
        piece: &UserPiece,
        now: Moment,
    ) -> Option<SendOrder> {
        let Reverse((intended, local)) = self.ready.pop()?;
        let user = &mut self.users[local];
        if let Some(before) = user.session.take() {
            user.state = UserState::Busy;
            let measured = shared.next_turn_counts(piece, &before);
            return Some(before.following(piece.stage, measured, intended));
        }
        match shared.turn(piece, user.sent_in_piece, intended, now) {
            Turn::Hold => {
                user.state = UserState::Held(intended);
                None
            }
            Turn::Send(order) => {
                if user.sent == 0 {
                    shared.user_started(now);
                }
                user.state = UserState::Busy;
                user.sent += 1;
                user.sent_in_piece += 1;
                Some(SendOrder {
                    user: Some(user.number),
                    ..order
                })
            }
        }
    }

    fn completed(
        &mut self,
        shared: &SharedPace,
        order: &SendOrder,
        at: Moment,
        think: Option<Duration>,
    ) -> bool {
        let local = order.user.map(|number| (number / shared.workers) as usize);
        if let (Some(local), Some(think)) = (local, think)
            && self.users[local].wanted
        {
            self.users[local].session = Some(*order);
            self.make_ready(local, (at + think).max(self.began));
            return true;
        }
        shared.closed_request_ended(order, at);
        let (Some(local), Some(number)) = (local, order.user) else {
            return false;
        };
        let user = &mut self.users[local];
        let call = user.ended;
        user.ended += 1;
        if user.wanted {
            let think = shared.think(number, call);
            // An answer may be read after its stage has ended: the next request belongs to the stage of the present.
            self.make_ready(local, (at + think).max(self.began));
        } else {
            user.state = UserState::Away;
        }
        false
    }
}

impl SharedPace {
    fn turn(&self, piece: &UserPiece, sent_in_piece: u64, intended: Moment, now: Moment) -> Turn {
        let (stage, progress) = self.stage(piece.stage);
        let Some(requests) = piece.requests() else {
            let index = progress.taken.fetch_add(1, Ordering::AcqRel);
            progress.note_first(piece, index, intended);
            return Turn::Send(self.order(piece.stage, index, intended));
        };
        let has_share = match piece.extent {
            UserExtent::RequestsPerUser(each) => sent_in_piece < each,
            UserExtent::For(_) | UserExtent::Requests(_) | UserExtent::AtLeast { .. } => true,
        };
        if let Some(index) = has_share.then(|| progress.take_below(requests)).flatten() {
            progress.note_first(piece, index, intended);
            if index + 1 == requests {
                progress.all_taken_at.store(now.ns(), Ordering::Release);
                self.changed();
            }
            return Turn::Send(self.order(piece.stage, index, intended));
        }
        if !stage.tail_fill {
            return Turn::Hold;
        }
        let index = requests + progress.filled.fetch_add(1, Ordering::AcqRel);
        Turn::Send(SendOrder {
            measured: false,
            prompt: PromptOrdinal::Warmup(stage.prompt_offset + index),
            ..self.order(piece.stage, index, intended)
        })
    }

    /// Whether the turn of a conversation that goes on in this piece counts there. In a counted stage only its own do, so that
    /// what is counted is the same for every engine.
    fn next_turn_counts(&self, piece: &UserPiece, before: &SendOrder) -> bool {
        let Schedule::Closed { users, .. } = &self.schedule else {
            return false;
        };
        let home = &users.pieces[before.home - self.first_stage];
        let fills = home
            .requests()
            .is_some_and(|requests| before.index >= requests);
        let own = piece.requests().is_none() || piece.stage == before.home;
        self.stage(piece.stage).0.measured && own && !fills
    }

    /// A request has ended; of a conversation, the last one that is sent.
    fn closed_request_ended(&self, order: &SendOrder, at: Moment) {
        let Schedule::Closed { users, .. } = &self.schedule else {
            return;
        };
        let piece = &users.pieces[order.home - self.first_stage];
        let requests = match piece.extent {
            UserExtent::For(_) => return,
            UserExtent::AtLeast { requests, .. } => requests,
            UserExtent::Requests(_) | UserExtent::RequestsPerUser(_) => {
                match piece.requests() {
                    Some(requests) if order.index < requests => requests,
                    // The fill at the tail is no part of the count.
                    _ => return,
                }
            }
        };
        self.count_end(order.home, requests, at);
    }

    /// How long `user` thinks after its call number `call`: a function of both, never of the order of events.
    fn think(&self, user: u32, call: u64) -> Duration {
        let Schedule::Closed { think, .. } = &self.schedule else {
            return Duration::ZERO;
        };
        if *think == Distribution::Fixed(0.0) {
            return Duration::ZERO;
        }
        let mut random = self.seed.stream("think").at(u64::from(user)).at(call).rng();
        Duration::from_secs_f64(think.sample(&mut random).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use crate::plan::{
        ArrivalCurve, Extent, Planned, Process, RampShape, RateForm, RatePiece, UserCurve,
        load_seed,
    };
    use crate::units::Rate;

    fn ms(ms: u64) -> Moment {
        Moment::from_ms(ms)
    }

    fn duration(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stage(measured: bool, tail_fill: bool) -> Stage {
        Stage {
            name: String::new(),
            measured,
            users: None,
            rate: None,
            extent: Extent::Requests(0),
            requests: Planned::Unknown,
            expected: Planned::Unknown,
            prompt_offset: 100,
            prompts_reused: false,
            tail_fill,
            span: Span::default(),
        }
    }

    fn share(schedule: Schedule, stages: &[Stage], workers: u32) -> Arc<SharedPace> {
        let segment = Segment {
            stages: 0..stages.len(),
            schedule,
            cooldown: Duration::ZERO,
        };
        let seed = load_seed(1, "chat", "load", 0);
        SharedPace::of(&segment, stages, seed, 0, ms(1000), workers, false)
    }

    fn open(rate: f64, seconds: u64, max_in_flight: u32, on_full: OnFull) -> Schedule {
        let rate = Rate::new(rate).unwrap();
        let form = RateForm::Flow {
            from: rate,
            to: rate,
            shape: RampShape::Linear,
            extent: Extent::For(Duration::from_secs(seconds)),
        };
        Schedule::Open {
            curve: ArrivalCurve {
                process: Process::Uniform,
                pieces: vec![RatePiece { stage: 0, form }],
            },
            max_in_flight,
            on_full,
        }
    }

    fn closed(pieces: &[(u32, u32, UserExtent)]) -> Schedule {
        Schedule::Closed {
            users: UserCurve {
                pieces: pieces
                    .iter()
                    .enumerate()
                    .map(|(stage, &(from, to, extent))| UserPiece {
                        stage,
                        from,
                        to,
                        extent,
                    })
                    .collect(),
            },
            think: Distribution::Fixed(0.0),
            ramp_down: RampDown::Finish,
        }
    }

    fn timed(ms: u64) -> UserExtent {
        UserExtent::For(duration(ms))
    }

    /// What happened to one request: when it was intended and sent, and when it ended; all in milliseconds.
    #[derive(Clone, Debug, PartialEq)]
    struct Life {
        order: SendOrder,
        sent: u64,
        ended: u64,
        closed: bool,
    }

    /// Drives the pacers of all threads in virtual time; each request takes `service` milliseconds.
    fn drive(shared: &Arc<SharedPace>, service: impl Fn(&SendOrder) -> u64) -> Vec<Life> {
        let mut pacers: Vec<Pacer> = (0..shared.workers).map(|w| shared.pacer(w)).collect();
        let mut flights: Vec<Vec<(u64, SendOrder, u64)>> = vec![Vec::new(); pacers.len()];
        let mut lives = Vec::new();
        let mut now = 0;
        loop {
            let mut next_event = u64::MAX;
            let mut generation = u64::MAX;
            while generation != shared.changed_generation() {
                generation = shared.changed_generation();
                next_event = u64::MAX;
                for (pacer, flight) in pacers.iter_mut().zip(&mut flights) {
                    flight.sort_by_key(|(end, order, _)| (*end, order.index));
                    while flight.first().is_some_and(|(end, ..)| *end <= now) {
                        let (ended, order, sent) = flight.remove(0);
                        pacer.completed(&order, ms(ended));
                        lives.push(Life {
                            order,
                            sent,
                            ended,
                            closed: false,
                        });
                    }
                    loop {
                        let pace = pacer.next(ms(now), flight.len());
                        let cut: Vec<_> = match pace {
                            Pace::Send(order) => {
                                flight.push((now + service(&order), order, now));
                                continue;
                            }
                            Pace::Drop(order) => {
                                lives.push(Life {
                                    order,
                                    sent: now,
                                    ended: now,
                                    closed: true,
                                });
                                continue;
                            }
                            Pace::Cancel(user) => flight
                                .extract_if(.., |(_, order, _)| order.user == Some(user))
                                .collect(),
                            Pace::CancelRest => std::mem::take(flight),
                            Pace::WaitUntil(moment) => {
                                next_event = next_event.min(moment.ns().div_ceil(1_000_000));
                                break;
                            }
                            Pace::WaitForSlot | Pace::Done => break,
                        };
                        for (_, order, sent) in cut {
                            pacer.completed(&order, ms(now));
                            lives.push(Life {
                                order,
                                sent,
                                ended: now,
                                closed: true,
                            });
                        }
                    }
                }
            }
            let next_end = flights.iter().flatten().map(|(end, ..)| *end).min();
            now = match next_event.min(next_end.unwrap_or(u64::MAX)) {
                u64::MAX => break,
                at => at,
            };
        }
        lives.sort_by_key(|life| (life.sent, life.order.user, life.order.index));
        lives
    }

    fn sends(lives: &[Life]) -> Vec<(u64, Option<u32>, u64)> {
        lives
            .iter()
            .map(|life| (life.sent, life.order.user, life.order.index))
            .collect()
    }

    /// Stage, began, ended and steady window, in milliseconds.
    type Times = (usize, u64, u64, Option<(u64, u64)>);

    fn times(shared: &SharedPace, end: u64) -> Vec<Times> {
        let whole = |moment: Moment| moment.ns() / 1_000_000;
        shared
            .stage_times(ms(end))
            .iter()
            .map(|times| {
                let steady = times.steady.map(|(from, to)| (whole(from), whole(to)));
                (times.stage, whole(times.began), whole(times.ended), steady)
            })
            .collect()
    }

    #[test]
    fn arrivals_leave_at_their_time_whatever_the_answers_do() {
        let shared = share(open(2.0, 2, 100, OnFull::Queue), &[stage(true, false)], 1);
        let lives = drive(&shared, |_| 10_000);
        assert_eq!(
            sends(&lives),
            [
                (1250, None, 0),
                (1750, None, 1),
                (2250, None, 2),
                (2750, None, 3)
            ]
        );
        assert!(
            lives
                .iter()
                .all(|life| life.order.intended == ms(life.sent))
        );
        assert_eq!(lives[3].order.prompt, PromptOrdinal::Measured(103));
        assert_eq!(
            times(&shared, 12_750),
            [(0, 1000, 3000, Some((1000, 3000)))]
        );
        assert_eq!(shared.unsent(), []);
    }

    #[test]
    fn a_timed_stage_lasts_its_time_though_nothing_more_arrives() {
        let shared = share(open(1.0, 2, 100, OnFull::Queue), &[stage(true, false)], 1);
        let mut pacer = shared.pacer(0);
        let sent = [1500, 2500].map(|at| matches!(pacer.next(ms(at), 0), Pace::Send(_)));
        assert_eq!(sent, [true, true]);
        assert_eq!(pacer.next(ms(2501), 0), Pace::WaitUntil(ms(3000)));
        assert_eq!(pacer.next(ms(3000), 0), Pace::Done);
        assert_eq!(times(&shared, 3000), [(0, 1000, 3000, Some((1000, 3000)))]);
    }

    #[test]
    fn a_stage_of_so_many_requests_ends_with_the_last_of_them() {
        let form = RateForm::Flow {
            from: Rate::new(2.0).unwrap(),
            to: Rate::new(2.0).unwrap(),
            shape: RampShape::Linear,
            extent: Extent::Requests(4),
        };
        let counted = Schedule::Open {
            curve: ArrivalCurve {
                process: Process::Uniform,
                pieces: vec![RatePiece { stage: 0, form }],
            },
            max_in_flight: 1,
            on_full: OnFull::Queue,
        };
        let shared = share(counted, &[stage(true, false)], 1);
        assert_eq!(shared.arrivals_end(), None);
        shared.find_end();
        let windows = times(&shared, 9000);
        assert_eq!(
            shared.arrivals_end().map(|end| end.ns() / 1_000_000),
            windows.last().map(|(_, _, ended, _)| *ended)
        );
    }

    #[test]
    fn two_threads_send_the_same_arrivals_as_one() {
        let one = drive(
            &share(open(20.0, 2, 100, OnFull::Queue), &[stage(true, false)], 1),
            |_| 5,
        );
        let two = drive(
            &share(open(20.0, 2, 100, OnFull::Queue), &[stage(true, false)], 2),
            |_| 5,
        );
        assert_eq!(one, two);
        assert_eq!(one.len(), 40);
    }

    #[test]
    fn a_full_cap_holds_an_arrival_and_tells_for_how_long() {
        let shared = share(open(10.0, 1, 1, OnFull::Queue), &[stage(true, false)], 1);
        let lives = drive(&shared, |_| 150);
        let waits: Vec<(u64, u64, u128)> = lives
            .iter()
            .take(4)
            .map(|life| {
                let order = life.order;
                (
                    order.intended.ns() / 1_000_000,
                    life.sent,
                    order.cap_wait.as_millis(),
                )
            })
            .collect();
        assert_eq!(
            waits,
            [
                (1050, 1050, 0),
                (1150, 1200, 50),
                (1250, 1350, 100),
                (1350, 1500, 150)
            ]
        );
    }

    #[test]
    fn a_full_cap_drops_when_asked_to() {
        let shared = share(open(10.0, 1, 1, OnFull::Drop), &[stage(true, false)], 1);
        let lives = drive(&shared, |_| 150);
        let dropped: Vec<u64> = lives
            .iter()
            .filter(|life| life.closed)
            .map(|life| life.order.index)
            .collect();
        assert_eq!(dropped, [1, 3, 5, 7, 9]);
    }

    #[test]
    fn the_cap_is_shared_exactly_between_threads() {
        let shared = share(open(100.0, 1, 3, OnFull::Queue), &[stage(true, false)], 8);
        let mut pacers: Vec<Pacer> = (0..8).map(|worker| shared.pacer(worker)).collect();
        let sent: usize = pacers
            .iter_mut()
            .map(|pacer| {
                let mut in_flight = 0;
                while let Pace::Send(_) = pacer.next(ms(3000), in_flight) {
                    in_flight += 1;
                }
                in_flight
            })
            .sum();
        assert_eq!(sent, 3);
    }

    #[test]
    fn a_stop_leaves_the_rest_unsent_and_counted() {
        let shared = share(open(10.0, 10, 100, OnFull::Queue), &[stage(true, false)], 1);
        let mut pacer = shared.pacer(0);
        let mut sent = 0;
        while let Pace::Send(_) = pacer.next(ms(2000), 0) {
            sent += 1;
        }
        pacer.stop(ms(2000));
        assert_eq!(pacer.next(ms(9000), 0), Pace::Done);
        assert_eq!((sent, shared.unsent()), (10, vec![(0, 90)]));
        assert_eq!(times(&shared, 9000), [(0, 1000, 2000, Some((1000, 2000)))]);
    }

    #[test]
    fn each_user_sends_again_when_it_has_its_answer() {
        let shared = share(closed(&[(2, 2, timed(100))]), &[stage(true, false)], 1);
        let lives = drive(&shared, |order| if order.user == Some(0) { 40 } else { 60 });
        assert_eq!(
            sends(&lives),
            [
                (1000, Some(0), 0),
                (1000, Some(1), 1),
                (1040, Some(0), 2),
                (1060, Some(1), 3),
                (1080, Some(0), 4),
            ]
        );
        assert_eq!(times(&shared, 1200), [(0, 1000, 1100, Some((1000, 1100)))]);
    }

    #[test]
    fn users_think_between_calls_each_time_the_same_for_a_seed() {
        let mut schedule = closed(&[(1, 1, timed(1000))]);
        if let Schedule::Closed { think, .. } = &mut schedule {
            *think = Distribution::Fixed(0.3);
        }
        let shared = share(schedule, &[stage(true, false)], 1);
        let sent: Vec<u64> = drive(&shared, |_| 100)
            .iter()
            .map(|life| life.sent)
            .collect();
        assert_eq!(sent, [1000, 1400, 1800]);
    }

    #[test]
    fn users_ramp_up_at_the_instants_of_k6() {
        let shared = share(
            closed(&[(0, 4, timed(8000)), (4, 4, timed(10))]),
            &[stage(false, false), stage(true, false)],
            2,
        );
        let starts: Vec<(u64, Option<u32>)> = drive(&shared, |_| 100_000)
            .iter()
            .map(|life| (life.sent, life.order.user))
            .collect();
        assert_eq!(
            starts,
            [
                (3000, Some(0)),
                (5000, Some(1)),
                (7000, Some(2)),
                (9000, Some(3))
            ]
        );
        let reached = times(&shared, 200_000);
        assert_eq!(reached[0], (0, 1000, 9000, Some((1000, 9000))));
        assert_eq!(reached[1], (1, 9000, 9010, Some((9000, 9010))));
    }

    #[test]
    fn the_last_user_leaves_first_and_finishes_its_request() {
        let shared = share(closed(&[(2, 0, timed(200))]), &[stage(true, false)], 1);
        let lives = drive(&shared, |_| 80);
        assert_eq!(
            sends(&lives),
            [
                (1000, Some(0), 0),
                (1000, Some(1), 1),
                (1080, Some(0), 2),
                (1080, Some(1), 3),
                (1160, Some(0), 4),
            ]
        );
        assert!(lives.iter().all(|life| !life.closed));
    }

    #[test]
    fn a_busy_user_is_cut_where_the_ramp_says_so() {
        let mut schedule = closed(&[(2, 0, timed(200))]);
        if let Schedule::Closed { ramp_down, .. } = &mut schedule {
            *ramp_down = RampDown::Cancel;
        }
        let lives = drive(&share(schedule, &[stage(true, false)], 1), |_| 1000);
        let cut: Vec<(Option<u32>, u64)> = lives
            .iter()
            .filter(|life| life.closed)
            .map(|life| (life.order.user, life.ended))
            .collect();
        assert_eq!(cut, [(Some(0), 1200), (Some(1), 1100)]);
    }

    #[test]
    fn a_user_raised_again_before_it_has_left_goes_on() {
        let pieces = [(2, 1, timed(10)), (2, 2, timed(100))];
        let shared = share(
            closed(&pieces),
            &[stage(true, false), stage(true, false)],
            1,
        );
        let lives = drive(&shared, |_| 50);
        assert_eq!(
            sends(&lives),
            [
                (1000, Some(0), 0),
                (1000, Some(1), 1),
                (1050, Some(0), 0),
                (1050, Some(1), 1),
                (1100, Some(0), 2),
                (1100, Some(1), 3),
            ]
        );
    }

    #[test]
    fn a_warm_up_that_reaches_into_a_stage_is_none_of_its_window() {
        let pieces = [(1, 1, timed(100)), (1, 1, UserExtent::Requests(2))];
        let shared = share(
            closed(&pieces),
            &[stage(false, false), stage(true, false)],
            1,
        );
        // The first answer takes until 1900, 800 ms after the stage has begun.
        let lives = drive(&shared, |order| if order.measured { 50 } else { 900 });
        assert_eq!(
            sends(&lives),
            [(1000, Some(0), 0), (1900, Some(0), 0), (1950, Some(0), 1)]
        );
        assert_eq!(times(&shared, 2500)[1], (1, 1100, 2000, Some((1900, 2000))));
    }

    #[test]
    fn a_counted_level_is_filled_until_its_last_request_has_ended() {
        let shared = share(
            closed(&[(2, 2, UserExtent::Requests(3))]),
            &[stage(true, true)],
            2,
        );
        // The third measured request is slow; the other user fills the tail.
        let lives = drive(&shared, |order| if order.index == 2 { 100 } else { 30 });
        let told: Vec<(u64, u64, bool, bool)> = lives
            .iter()
            .map(|life| {
                (
                    life.order.index,
                    life.sent,
                    life.order.measured,
                    life.closed,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (0, 1000, true, false),
                (1, 1000, true, false),
                (2, 1030, true, false),
                (3, 1030, false, false),
                (4, 1060, false, false),
                (5, 1090, false, false),
                (6, 1120, false, true),
            ]
        );
        assert_eq!(lives[3].order.prompt, PromptOrdinal::Warmup(103));
        assert_eq!(times(&shared, 1130), [(0, 1000, 1130, Some((1000, 1130)))]);
        assert_eq!(shared.unsent(), []);
    }

    /// Conversations of three turns with 10 ms between them; each request takes 30 ms.
    fn converse(schedule: Schedule, stages: &[Stage]) -> (Vec<(u64, u64, u32, bool)>, u64) {
        let segment = Segment {
            stages: 0..stages.len(),
            schedule,
            cooldown: Duration::ZERO,
        };
        let seed = load_seed(1, "chat", "load", 0);
        let shared = SharedPace::of(&segment, stages, seed, 0, ms(1000), 1, true);
        let mut pacer = shared.pacer(0);
        let (mut sent, mut flying, mut refused) = (Vec::new(), Vec::new(), 0);
        for now in 1000..2000 {
            flying.retain(|(ends, order): &(u64, SendOrder)| {
                let over = *ends <= now;
                if over {
                    let think = (order.turn < 3).then_some(duration(10));
                    let goes_on = pacer.turn_completed(order, ms(now), think);
                    refused += u64::from(think.is_some() && !goes_on);
                }
                !over
            });
            while let Pace::Send(order) = pacer.next(ms(now), flying.len()) {
                assert_eq!(order.intended, ms(now));
                sent.push((now, order.index, order.turn, order.measured));
                flying.push((now + 30, order));
            }
        }
        (sent, refused)
    }

    #[test]
    fn a_user_holds_one_conversation_after_another() {
        let (sent, refused) = converse(
            closed(&[(1, 1, UserExtent::Requests(2))]),
            &[stage(true, false)],
        );
        let expected = [
            (1000, 0),
            (1040, 0),
            (1080, 0),
            (1110, 1),
            (1150, 1),
            (1190, 1),
        ];
        let turns = (0..6).map(|at| at % 3 + 1);
        let expected: Vec<_> = expected
            .into_iter()
            .zip(turns)
            .map(|((at, index), turn)| (at, index, turn, true))
            .collect();
        assert_eq!((sent, refused), (expected, 0));
    }

    #[test]
    fn what_began_in_a_warm_up_counts_in_a_timed_stage_and_not_in_a_counted_one() {
        let stages = [stage(false, false), stage(true, false)];
        for (extent, counts) in [(timed(60), true), (UserExtent::Requests(1), false)] {
            let (sent, _) = converse(closed(&[(1, 1, timed(20)), (1, 1, extent)]), &stages);
            assert_eq!(sent[..2], [(1000, 0, 1, false), (1040, 0, 2, counts)]);
        }
    }

    #[test]
    fn in_an_open_loop_arrivals_are_conversations_and_turns_end_with_the_last_stage() {
        let (sent, refused) = converse(open(20.0, 1, 100, OnFull::Queue), &[stage(true, false)]);
        let firsts: Vec<u64> = sent
            .iter()
            .filter(|turn| turn.2 == 1)
            .map(|turn| turn.0)
            .collect();
        assert_eq!(firsts.len(), 20);
        let of_first: Vec<_> = sent.iter().filter(|turn| turn.1 == 0).copied().collect();
        let at = firsts[0];
        assert_eq!(
            of_first,
            [
                (at, 0, 1, true),
                (at + 40, 0, 2, true),
                (at + 80, 0, 3, true)
            ]
        );
        assert!(refused > 0 && sent.iter().all(|turn| turn.0 < 2000));
    }

    #[test]
    fn a_drained_tail_falls() {
        let shared = share(
            closed(&[(2, 2, UserExtent::Requests(3))]),
            &[stage(true, false)],
            1,
        );
        let lives = drive(&shared, |order| if order.index == 2 { 100 } else { 30 });
        assert_eq!(
            sends(&lives),
            [(1000, Some(0), 0), (1000, Some(1), 1), (1030, Some(0), 2)]
        );
        assert_eq!(times(&shared, 1500), [(0, 1000, 1130, Some((1000, 1130)))]);
    }

    #[test]
    fn a_share_per_user_is_kept_by_the_fast_and_the_slow() {
        let shared = share(
            closed(&[(2, 2, UserExtent::RequestsPerUser(2))]),
            &[stage(true, true)],
            2,
        );
        let lives = drive(
            &shared,
            |order| if order.user == Some(1) { 100 } else { 30 },
        );
        let count = |user, measured| {
            lives
                .iter()
                .filter(|life| life.order.user == Some(user) && life.order.measured == measured)
                .count()
        };
        assert_eq!((count(0, true), count(1, true)), (2, 2));
        assert_eq!((count(0, false), count(1, false)), (5, 0));
    }

    #[test]
    fn a_warm_up_lasts_its_time_and_its_requests_but_not_for_ever() {
        let warm = UserExtent::AtLeast {
            duration: duration(100),
            requests: 2,
            at_most: duration(150),
        };
        for (service, ended) in [(20, 1100), (60, 1120), (80, 1150)] {
            let shared = share(
                closed(&[(1, 1, warm), (1, 1, UserExtent::Requests(1))]),
                &[stage(false, false), stage(true, true)],
                1,
            );
            let lives = drive(&shared, |_| service);
            assert_eq!(times(&shared, 5000)[0].2, ended);
            assert_eq!(lives.iter().filter(|life| life.order.measured).count(), 1);
            assert_eq!(lives[0].order.prompt, PromptOrdinal::Warmup(100));
        }
    }

    #[test]
    fn a_level_that_was_never_reached_has_no_steady_window() {
        let shared = share(
            closed(&[(4, 4, UserExtent::Requests(2))]),
            &[stage(true, false)],
            1,
        );
        drive(&shared, |_| 30);
        assert_eq!(times(&shared, 1030), [(0, 1000, 1030, None)]);
    }

    #[test]
    fn a_batch_waits_for_the_last_of_the_one_before() {
        for workers in [1, 2, 3] {
            let shared = share(
                Schedule::Batch {
                    size: Some(2),
                    requests: 5,
                },
                &[stage(true, false)],
                workers,
            );
            let lives = drive(&shared, |order| 10 * (order.index + 1));
            assert_eq!(
                sends(&lives),
                [
                    (1000, None, 0),
                    (1000, None, 1),
                    (1020, None, 2),
                    (1020, None, 3),
                    (1060, None, 4),
                ]
            );
            assert!(
                lives
                    .iter()
                    .all(|life| life.order.intended == ms(life.sent))
            );
            assert_eq!(times(&shared, 2000), [(0, 1000, 1110, Some((1000, 1110)))]);
        }
    }

    #[test]
    fn a_batch_of_all_sends_everything_at_once() {
        let shared = share(
            Schedule::Batch {
                size: None,
                requests: 1000,
            },
            &[stage(true, false)],
            4,
        );
        let lives = drive(&shared, |_| 500);
        assert_eq!(lives.len(), 1000);
        assert!(lives.iter().all(|life| life.sent == 1000));
    }

    #[test]
    fn whoever_waits_is_woken_when_a_stage_ends() {
        let shared = share(
            Schedule::Batch {
                size: Some(1),
                requests: 2,
            },
            &[stage(true, false)],
            2,
        );
        let woken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&woken);
        shared.on_change(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (mut first, mut second) = (shared.pacer(0), shared.pacer(1));
        let Pace::Send(order) = first.next(ms(1000), 0) else {
            panic!("the first batch leaves at the start")
        };
        assert_eq!(second.next(ms(1000), 0), Pace::WaitForSlot);
        first.completed(&order, ms(1040));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(
            matches!(second.next(ms(1041), 0), Pace::Send(order) if order.intended == ms(1040))
        );
    }

    #[test]
    fn threads_share_one_pool_and_one_end() {
        let shared = share(
            closed(&[(8, 8, UserExtent::Requests(2000))]),
            &[stage(true, true)],
            4,
        );
        let clock = AtomicU64::new(ms(1000).ns());
        let mut counted: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|worker| {
                    let mut pacer = shared.pacer(worker);
                    let clock = &clock;
                    scope.spawn(move || {
                        let mut flight: Vec<SendOrder> = Vec::new();
                        let mut counted = Vec::new();
                        loop {
                            let now = Moment::from_ns(clock.fetch_add(1000, Ordering::Relaxed));
                            match pacer.next(now, flight.len()) {
                                Pace::Send(order) => flight.push(order),
                                Pace::Done => return counted,
                                Pace::CancelRest => {
                                    for order in flight.drain(..) {
                                        assert!(!order.measured);
                                        pacer.completed(&order, now);
                                    }
                                }
                                _ => {
                                    for order in flight.drain(..) {
                                        counted.extend(order.measured.then_some(order.index));
                                        pacer.completed(&order, now);
                                    }
                                }
                            }
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        counted.sort_unstable();
        assert_eq!(counted, (0..2000).collect::<Vec<u64>>());
        assert_eq!(shared.unsent(), []);
    }
}
