//! One request and what came of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::observation::{EventLog, Outcome, Tokens};
use crate::units::Moment;

/// A request that is ready before its time comes: see [`HttpTarget::prepare`](super::HttpTarget::prepare).
#[derive(Clone)]
pub struct PreparedRequest {
    /// Head and body.
    pub bytes: Bytes,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// Whether the answer's text is kept, for the next turn of its conversation.
    pub keeps_answer: bool,
    /// Whether the text of each event is kept where the engine does not tell its tokens, to be counted.
    pub counts_answer: bool,
}

impl PreparedRequest {
    /// The same request, whose answer's text is kept.
    pub fn keeping_answer(self) -> PreparedRequest {
        PreparedRequest {
            keeps_answer: true,
            ..self
        }
    }

    /// The same request, whose events are counted by their text where the engine does not tell their tokens.
    pub fn counting_answer(self) -> PreparedRequest {
        PreparedRequest {
            counts_answer: true,
            ..self
        }
    }
}

impl std::fmt::Debug for PreparedRequest {
    /// Its size: its head holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreparedRequest({} bytes)", self.bytes.len())
    }
}

/// What came of one request. All instants are offsets from the start of the cell.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// When it was handed over.
    pub dispatched: Moment,
    /// How long connecting took, when a connection was opened for it.
    pub connect: Option<Duration>,
    /// When the last byte of the request was handed to the kernel.
    pub written: Option<Moment>,
    /// When the response head was complete.
    pub headers: Option<Moment>,
    /// When the first event of any kind arrived.
    pub first_event: Option<Moment>,
    /// When the first generated output of any kind arrived.
    pub first_token: Option<Moment>,
    /// A later output event came in the same read as the first one.
    pub first_token_shared: bool,
    /// When the first visible answer text arrived.
    pub first_content: Option<Moment>,
    /// When the last generated output arrived.
    pub last_token: Option<Moment>,
    /// `[DONE]`, the end of the body, or the end of a failed request.
    pub finished: Moment,
    /// Each output event.
    pub events: EventLog,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status.
    pub status: Option<u16>,
    /// The engine's `finish_reason`.
    pub finish_reason: Option<Arc<str>>,
    /// Token counts.
    pub tokens: Tokens,
    /// Body bytes received.
    pub bytes: u64,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// A reused connection had closed before the answer and was replaced once.
    pub reconnected: bool,
    /// The visible text of the answer, where it is kept.
    pub answer: Option<String>,
    /// Where in it each output event ends, where that is to be counted.
    pub ends: Option<Vec<u32>>,
}
