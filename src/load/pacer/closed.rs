//! The closed loop: a user sends its next request when it has its answer and has thought.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shared::SharedPace;
use super::{Pace, PromptOrdinal, SendOrder, SessionId};
use crate::plan::{Distribution, RampDown, Schedule, UserChange, UserExtent, UserPiece};
use crate::units::Moment;

/// One thread's share of the users.
#[derive(Debug)]
pub(super) struct ClosedShare {
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
pub(super) struct User {
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
pub(super) enum UserState {
    Away,
    /// Its next request is intended then.
    Ready(Moment),
    /// Its next request was intended then, but the stage has none left.
    Held(Moment),
    Busy,
}

/// What a user whose time has come does.
pub(super) enum Turn {
    Send(SendOrder),
    Hold,
}

impl ClosedShare {
    pub(super) fn new(shared: &SharedPace, worker: u32, peak: u32) -> ClosedShare {
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

    pub(super) fn next(&mut self, shared: &SharedPace, now: Moment) -> Pace {
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

    /// The next conversation whose user has left between two turns.
    pub(super) fn take_left(&mut self) -> Option<SessionId> {
        self.left.pop_front()
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

    pub(super) fn completed(
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
