//! The tasks of a load thread that hold one connection each: a request is handed to an idle one, nothing is spawned for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::sync::{Notify, Semaphore};

use super::pacer::SendOrder;
use crate::engine::{Exchange, Lane, PreparedRequest, Reactor};
use crate::workload::Prompt;

/// Connections that are opened ahead at the same time: a server's list of those that wait for it to accept is short.
const OPENING: usize = 64;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: SendOrder,
    pub(super) prompt: Prompt,
    /// The adapter that it asks for, where requests are spread over several.
    pub(super) adapter: Option<Arc<str>>,
    pub(super) request: PreparedRequest,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) lane: usize,
    pub(super) order: SendOrder,
    pub(super) prompt: Prompt,
    pub(super) adapter: Option<Arc<str>>,
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
    cancel: Cell<bool>,
    /// Wakes the lane's task.
    waker: RefCell<Option<Waker>>,
}

/// Lets lanes open their connections ahead, a few at a time, and tells when all have tried.
#[derive(Debug)]
pub(super) struct Opening {
    turns: Semaphore,
    left: Cell<u32>,
    done: Notify,
}

impl Opening {
    /// For so many lanes.
    pub(super) fn of(lanes: u32) -> Rc<Opening> {
        Rc::new(Opening {
            turns: Semaphore::new(OPENING),
            left: Cell::new(lanes),
            done: Notify::new(),
        })
    }

    /// Waits until every lane has tried.
    pub(super) async fn done(&self) {
        while self.left.get() > 0 {
            self.done.notified().await;
        }
    }

    /// Opens the lane's connection. One that cannot be opened is tried again by its first request, which tells what happened.
    async fn open(&self, lane: &mut Lane) {
        let turn = self.turns.acquire().await;
        let _ = lane.open().await;
        drop(turn);
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            self.done.notify_one();
        }
    }
}

impl LaneHandle {
    /// Starts the task of a lane.
    pub(super) fn spawn(
        number: usize,
        mut lane: Lane,
        reactor: &Rc<Reactor>,
        inbox: Rc<Inbox>,
        opening: Option<Rc<Opening>>,
    ) -> LaneHandle {
        let slot = Rc::new(Slot::default());
        let theirs = slot.clone();
        let clock = reactor.clock().clock();
        reactor.spawn(async move {
            if let Some(opening) = opening {
                Box::pin(opening.open(&mut lane)).await;
            }
            loop {
                let Job {
                    order,
                    prompt,
                    adapter,
                    request,
                } = theirs.next().await;
                // Released when its turn has come: what it waited for the thread is send lag, and no part of its latencies.
                let whole = {
                    let sending = pin!(lane.send(&request, clock.now()));
                    theirs.unless_cancelled(sending).await
                };
                let exchange = whole.unwrap_or_else(|| lane.cut(clock.now()));
                inbox.ended.borrow_mut().push_back(Ended {
                    lane: number,
                    order,
                    prompt,
                    adapter,
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
        self.slot.wake();
    }

    /// Ends the request in flight now, as cut.
    pub(super) fn cancel(&self) {
        self.slot.cancel.set(true);
        self.slot.wake();
    }
}

impl Slot {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    async fn next(&self) -> Job {
        poll_fn(|context| {
            // The same waker for as long as the task lives.
            let mut waker = self.waker.borrow_mut();
            waker.get_or_insert_with(|| context.waker().clone());
            match self.job.borrow_mut().take() {
                Some(job) => Poll::Ready(job),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// What comes of `work`, or nothing if it is cancelled before.
    fn unless_cancelled<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Option<T>> {
        poll_fn(move |context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.cancel.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }
}
