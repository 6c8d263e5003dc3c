//! Conversations that a load thread holds: what has been said in each, and on which connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pacer::{PromptOrdinal, SendOrder, SessionId};
use crate::engine::Message;
use crate::observation::Outcome;
use crate::plan::{Dialogue, History};
use crate::seed::Seed;
use crate::workload::{Conversation, Role, Turn};

/// The conversations of a load thread that have begun and not ended.
#[derive(Debug)]
pub(super) struct Sessions {
    dialogue: Dialogue,
    /// The branch of the times between turns: the same for every backend.
    seed: Seed,
    held: BTreeMap<SessionId, Session>,
    /// Conversations that would have gone on when their load was over.
    unfinished: u64,
}

#[derive(Debug)]
struct Session {
    conversation: Arc<Conversation>,
    /// All that has been said, to the turn that is sent next.
    messages: Vec<Message>,
    /// Turns of it that have been said.
    turn: usize,
    /// The connection that it stays on, between two turns.
    lane: Option<usize>,
    /// Whether its first turn was sent.
    begun: bool,
}

impl Sessions {
    pub(super) fn new(dialogue: Dialogue, seed: Seed) -> Sessions {
        Sessions {
            dialogue,
            seed,
            held: BTreeMap::new(),
            unfinished: 0,
        }
    }

    /// What has been said before the turn of `order`, and in it.
    pub(super) fn messages(
        &mut self,
        order: &SendOrder,
        conversation: &Arc<Conversation>,
    ) -> &[Message] {
        let session = self
            .held
            .entry(order.session())
            .or_insert_with(|| Session::begin(conversation));
        &session.messages
    }

    /// The connection that the turn stays on; none for a first one.
    pub(super) fn sent(&mut self, order: &SendOrder) -> Option<usize> {
        let session = self.held.get_mut(&order.session())?;
        session.begun = true;
        session.lane.take()
    }

    /// How long its person thinks before the next turn; `None` where the conversation is over: there is no next turn, or this
    /// one was not answered.
    pub(super) fn answered(
        &mut self,
        order: &SendOrder,
        outcome: &Outcome,
        answer: Option<String>,
    ) -> Option<Duration> {
        let session = self.held.get_mut(&order.session())?;
        if !matches!(outcome, Outcome::Ok) {
            return None;
        }
        let recorded = session.conversation.turns[session.turn].answer.clone();
        let answer = match self.dialogue.history {
            History::Live => answer.map(Arc::from),
            History::Recorded => recorded,
        };
        let next = session.conversation.turns.get(session.turn + 1)?.clone();
        session.say(Role::Assistant, answer.unwrap_or_default());
        session.ask(next);
        session.turn += 1;
        let (set, ordinal) = match order.prompt {
            PromptOrdinal::Measured(ordinal) => ("measured", ordinal),
            PromptOrdinal::Warmup(ordinal) => ("warm-up", ordinal),
        };
        let seed = self.seed.stream(set).at(ordinal).at(u64::from(order.turn));
        let think = self.dialogue.think.sample(&mut seed.rng()).max(0.0);
        Some(Duration::from_secs_f64(think))
    }

    /// It goes on, on this connection.
    pub(super) fn stays_on(&mut self, id: SessionId, lane: usize) {
        if let Some(session) = self.held.get_mut(&id) {
            session.lane = Some(lane);
        }
    }

    /// It is over, `finished` or because the load is; gives the connection that it held.
    pub(super) fn end(&mut self, id: SessionId, finished: bool) -> Option<usize> {
        let session = self.held.remove(&id)?;
        self.unfinished += u64::from(!finished && session.begun);
        session.lane
    }

    /// Conversations that would have gone on when their load was over.
    pub(super) fn unfinished(&self) -> u64 {
        let held = self.held.values().filter(|session| session.begun).count();
        self.unfinished + held as u64
    }
}

impl Session {
    fn begin(conversation: &Arc<Conversation>) -> Session {
        let mut session = Session {
            conversation: conversation.clone(),
            messages: Vec::new(),
            turn: 0,
            lane: None,
            begun: false,
        };
        if let Some(system) = &conversation.system {
            session.say(Role::System, system.clone());
        }
        session.ask(conversation.turns[0].clone());
        session
    }

    fn say(&mut self, role: Role, text: Arc<str>) {
        self.messages.push(Message {
            role,
            text,
            images: None,
        });
    }

    fn ask(&mut self, turn: Turn) {
        self.messages.push(Message {
            role: Role::User,
            text: turn.said,
            images: turn.images,
        });
    }
}
