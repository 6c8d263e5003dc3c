//! Static batches: all requests of one leave together, once the last of the batch before has ended.

use std::sync::atomic::Ordering;

use super::Pace;
use super::shared::SharedPace;
use crate::plan::Schedule;
use crate::units::Moment;

/// One thread's share of the batches.
#[derive(Debug)]
pub(super) struct BatchShare {
    pub(super) next: u64,
}

impl SharedPace {
    /// Requests in one batch, and in all.
    pub(super) fn batch(&self) -> (u64, u64) {
        match &self.schedule {
            Schedule::Batch { size, requests } => (
                size.map_or(*requests, |size| u64::from(size.max(1))),
                *requests,
            ),
            Schedule::Open { .. } | Schedule::Closed { .. } => (1, 0),
        }
    }

    pub(super) fn batch_member_ended(&self, at: Moment) {
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
    pub(super) fn next(&mut self, shared: &SharedPace, now: Moment) -> Pace {
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
