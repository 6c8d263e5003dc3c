//! What the threads of one segment share, reached through atomics alone: which stage has begun and ended when, and how much
//! of it has been given out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{PromptOrdinal, SendOrder};
use crate::observation::StageTimes;
use crate::plan::{Cell, Schedule, Segment, Stage, UserExtent, UserPiece};
use crate::seed::Seed;
use crate::units::Moment;

/// No moment yet.
pub(super) const UNSET: u64 = u64::MAX;

/// What the threads of one segment share.
pub struct SharedPace {
    pub(super) schedule: Schedule,
    /// The stages of the segment; `first_stage` is the cell's index of the first of them.
    pub(super) stages: Vec<Stage>,
    pub(super) first_stage: usize,
    /// Added to every prompt offset: the slices of earlier repeats.
    pub(super) prompt_base: u64,
    pub(super) seed: Seed,
    pub(super) start: Moment,
    pub(super) workers: u32,
    pub(super) progress: Vec<StageProgress>,
    /// When the first k users had each sent a request, at k − 1.
    pub(super) users_started: Vec<AtomicU64>,
    pub(super) users_started_count: AtomicU64,
    pub(super) users_started_last: AtomicU64,
    pub(super) batches_done: AtomicU64,
    pub(super) barrier_at: AtomicU64,
    pub(super) stopped: AtomicU64,
    /// When the last stage of an open loop ends; known from the start where all of them are timed.
    pub(super) arrivals_end: AtomicU64,
    /// Whether conversations are held.
    pub(super) sessions: bool,
    /// When the stages of an open loop begin and end, from the start, where conversations go on from one into the next.
    pub(super) windows: Vec<(usize, Moment, Moment)>,
    pub(super) generation: AtomicU64,
    pub(super) on_change: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

/// What is known of a stage while it runs.
#[derive(Debug)]
pub(super) struct StageProgress {
    pub(super) began: AtomicU64,
    /// Orders given out: the next index in the stage.
    pub(super) taken: AtomicU64,
    /// Orders given out beyond the stage's requests.
    pub(super) filled: AtomicU64,
    /// Requests of its own that have ended.
    pub(super) ended: AtomicU64,
    pub(super) last_end: AtomicU64,
    /// When the first of its requests was to leave.
    pub(super) first_intended: AtomicU64,
    /// When the last of its requests was given out.
    pub(super) all_taken_at: AtomicU64,
    /// When the last of its requests had ended.
    pub(super) all_ended_at: AtomicU64,
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
    pub(super) fn note_first(&self, piece: &UserPiece, index: u64, intended: Moment) {
        if index < u64::from(piece.from.max(piece.to)) {
            self.first_intended
                .fetch_min(intended.ns(), Ordering::AcqRel);
        }
    }

    /// Takes the next index below `limit`.
    pub(super) fn take_below(&self, limit: u64) -> Option<u64> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < limit).then_some(taken + 1)
            })
            .ok()
    }
}

pub(super) fn moment(cell: &AtomicU64) -> Option<Moment> {
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

    pub(super) fn of(
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

    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let wakes = self
            .on_change
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for wake in wakes.iter() {
            wake();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) != UNSET
    }

    pub(super) fn stage(&self, stage: usize) -> (&Stage, &StageProgress) {
        let at = stage - self.first_stage;
        (&self.stages[at], &self.progress[at])
    }

    pub(super) fn order(&self, stage: usize, index: u64, intended: Moment) -> SendOrder {
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
    pub(super) fn stage_at(&self, moment: Moment) -> Option<usize> {
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
    pub(super) fn closed_end(&self, piece: &UserPiece, began: Moment) -> Option<Moment> {
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
            busiest: None,
        })
    }

    /// A user has sent its first request at `now`.
    pub(super) fn user_started(&self, now: Moment) {
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
    pub(super) fn count_end(&self, stage: usize, requests: u64, at: Moment) {
        let (_, progress) = self.stage(stage);
        progress.last_end.fetch_max(at.ns(), Ordering::AcqRel);
        if progress.ended.fetch_add(1, Ordering::AcqRel) + 1 == requests {
            let last = progress.last_end.load(Ordering::Acquire);
            progress.all_ended_at.store(last, Ordering::Release);
            self.changed();
        }
    }
}

pub(super) fn whole(stage: usize, began: Moment, ended: Moment) -> StageTimes {
    StageTimes {
        stage,
        began,
        ended,
        steady: Some((began, ended)),
        busiest: None,
    }
}
