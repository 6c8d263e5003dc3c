//! The open loop: arrivals leave when the plan says, turns of conversations when their time to think is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shared::SharedPace;
use super::{Pace, SendOrder};
use crate::plan::{Arrival, Arrivals, OnFull, Schedule};
use crate::units::Moment;

/// One thread's share of the arrivals.
#[derive(Debug)]
pub(super) struct OpenShare {
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
pub(super) struct Due(SendOrder);

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
    pub(super) fn new(shared: &SharedPace, worker: u32, max_in_flight: u32) -> OpenShare {
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
    pub(super) fn comes_first(&self, shared: &SharedPace) -> Option<SendOrder> {
        let arrival = self
            .head
            .map(|arrival| self.order(shared, &arrival, Duration::ZERO));
        let due = self.due.peek().map(|Reverse(Due(order))| *order);
        match (arrival, due) {
            (Some(arrival), Some(due)) if arrival.intended < due.intended => Some(arrival),
            (arrival, due) => due.or(arrival),
        }
    }

    pub(super) fn completed(
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

    pub(super) fn next(&mut self, shared: &SharedPace, now: Moment, in_flight: usize) -> Pace {
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
