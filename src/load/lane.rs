//! The tasks of a load thread that hold one connection each: a request is handed to an idle one, nothing is spawned for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::pacer::SendOrder;
use crate::clock::Clock;
use crate::engine::{Exchange, Lane, PreparedRequest};
use crate::units::Moment;
use crate::workload::Prompt;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: SendOrder,
    pub(super) prompt: Prompt,
    pub(super) request: PreparedRequest,
    pub(super) dispatched: Moment,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) lane: usize,
    pub(super) order: SendOrder,
    pub(super) prompt: Prompt,
    pub(super) exchange: Exchange,
}

/// What ends on a thread: filled by its lanes, emptied by its loop.
#[derive(Debug)]
pub(super) struct Inbox {
    ended: RefCell<VecDeque<Ended>>,
    /// Wakes the loop; also on signals from other threads.
    pub(super) wake: Arc<Notify>,
}

impl Inbox {
    pub(super) fn new(wake: Arc<Notify>) -> Inbox {
        Inbox {
            ended: RefCell::default(),
            wake,
        }
    }

    pub(super) fn take(&self) -> Option<Ended> {
        self.ended.borrow_mut().pop_front()
    }
}

/// The loop's side of a lane.
#[derive(Debug)]
pub(super) struct LaneHandle {
    slot: Rc<Slot>,
    /// The order in flight on it.
    pub(super) order: Option<SendOrder>,
}

/// What loop and lane exchange. Both live on one thread.
#[derive(Debug, Default)]
struct Slot {
    job: RefCell<Option<Job>>,
    job_came: Notify,
    cancelled: Notify,
    cancel: Cell<bool>,
}

impl LaneHandle {
    /// Starts the task of a lane.
    pub(super) fn spawn(
        number: usize,
        mut lane: Lane,
        clock: Clock,
        inbox: Rc<Inbox>,
    ) -> LaneHandle {
        let slot = Rc::new(Slot::default());
        let theirs = slot.clone();
        tokio::task::spawn_local(async move {
            loop {
                let Job {
                    order,
                    prompt,
                    request,
                    dispatched,
                } = theirs.next().await;
                let whole = tokio::select! {
                    biased;
                    exchange = lane.send(&request, dispatched) => Some(exchange),
                    () = theirs.cancelled() => None,
                };
                let exchange = whole.unwrap_or_else(|| lane.cut(clock.now()));
                inbox.ended.borrow_mut().push_back(Ended {
                    lane: number,
                    order,
                    prompt,
                    exchange,
                });
                inbox.wake.notify_one();
            }
        });
        LaneHandle { slot, order: None }
    }

    /// Hands a request to the idle lane.
    pub(super) fn send(&mut self, job: Job) {
        self.order = Some(job.order);
        // A wish to cancel that came after the end of the job before does not concern this one.
        self.slot.cancel.set(false);
        *self.slot.job.borrow_mut() = Some(job);
        self.slot.job_came.notify_one();
    }

    /// Ends the request in flight now, as cut.
    pub(super) fn cancel(&self) {
        self.slot.cancel.set(true);
        self.slot.cancelled.notify_one();
    }
}

impl Slot {
    async fn cancelled(&self) {
        while !self.cancel.get() {
            self.cancelled.notified().await;
        }
    }

    async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.job.borrow_mut().take() {
                return job;
            }
            self.job_came.notified().await;
        }
    }
}
