//! When to send: one pure state machine for every load shape, asked again and again by the loop of a load thread.
//!
//! Each of W threads has its own [`Pacer`] and walks its own share of the segment: arrivals and batch members whose index,
//! users whose number is its own modulo W. What must be one for all threads (the pool of a counted stage, the instants at
//! which stages begin and end, the barrier between batches) lies in [`SharedPace`] and is reached through atomics alone.
//!
//! A pacer never reads a clock and never waits: time comes in with each call, so it is tested as a table.
//!
//! [`Pacer`] is one thread's side of it: `open` for arrivals, `closed` for users, `batch` for batches, each of which
//! leans on what all threads share, `shared`.

mod batch;
mod closed;
mod open;
mod shared;
#[cfg(test)]
mod tests;

pub use shared::SharedPace;

use std::sync::Arc;
use std::time::Duration;

use crate::plan::Schedule;
use crate::units::Moment;
use batch::BatchShare;
use closed::ClosedShare;
use open::OpenShare;

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

impl SharedPace {
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
            Share::Closed(closed) => closed.take_left(),
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
