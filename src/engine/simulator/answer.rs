//! One answer on its way out: emissions become SSE events, events become frames of the response body, and faults have their turn.
//!
//! Chunks are put together from parts that were rendered once; no JSON tree is built for a token.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::body::Bytes;

use super::faults::FaultKind;
use super::generation::{Endpoint, Generation};
use super::model::Emission;

/// How one answer deviates from a good one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Behaviour {
    faults: Vec<FaultKind>,
}

/// The queue between the writer of an answer and the connection that it leaves by.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pieces: VecDeque<Piece>,
    waker: Option<Waker>,
}

/// What the connection does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Write this.
    Bytes(Bytes),
    /// Let what was written reach the socket before going on.
    Flush,
    /// The body is complete.
    End,
    /// Close the connection in the middle of the body.
    Break,
    /// Reset the connection.
    Reset,
}

/// Writes one streamed answer.
#[derive(Debug)]
pub(super) struct AnswerWriter {
    generation: Generation,
    behaviour: Behaviour,
    outlet: Rc<RefCell<Outlet>>,
    opening: String,
    role_sent: bool,
    events: u64,
    /// Tokens that wait for an event to fill up.
    held: u32,
}

/// Whether anybody still wants tokens of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More will be written.
    Open,
    /// Nothing more will be written.
    Done,
}

impl Behaviour {
    pub(super) fn new(faults: Vec<FaultKind>) -> Behaviour {
        Behaviour { faults }
    }

    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.faults.contains(&kind)
    }

    /// The first value that `pick` finds among the faults.
    pub(super) fn find<T>(&self, pick: impl Fn(&FaultKind) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(pick)
    }
}

impl Outlet {
    fn push(&mut self, piece: Piece) {
        self.pieces.push_back(piece);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next piece, when there is one.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        match self.pieces.pop_front() {
            Some(Piece::Flush) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(piece) => Poll::Ready(piece),
            None => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AnswerWriter {
    /// A writer for an answer called `id` that was created at `created` (Unix seconds).
    pub(super) fn new(
        generation: Generation,
        behaviour: Behaviour,
        outlet: Rc<RefCell<Outlet>>,
        id: &str,
        created: u64,
    ) -> AnswerWriter {
        let object = match generation.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completions => "text_completion",
        };
        let model = serde_json::Value::from(generation.model.as_str());
        let opening = format!(
            r#"data: {{"id":"{id}","object":"{object}","created":{created},"model":{model},"choices":["#
        );
        let mut writer = AnswerWriter {
            generation,
            behaviour,
            outlet,
            opening,
            role_sent: false,
            events: 0,
            held: 0,
        };
        if writer.behaviour.has(FaultKind::RoleFirst) {
            writer.write_role();
        }
        writer
    }

    /// Writes the answer's next tokens.
    pub(super) fn write(&mut self, emission: &Emission) -> Progress {
        self.held += emission.tokens;
        let interval = self.behaviour.find(|fault| match fault {
            FaultKind::MultiToken { tokens } => Some(*tokens),
            _ => None,
        });
        // The first token never waits, as with vLLM's `--stream-interval`.
        let full = self.events == 0 || self.held >= interval.unwrap_or(1);
        if !full && !emission.finished {
            return Progress::Open;
        }
        if self.break_off() == Progress::Done {
            return Progress::Done;
        }
        self.write_tokens(emission);
        if !emission.finished {
            return Progress::Open;
        }
        self.write_ending(emission.generated, emission.cached_tokens);
        Progress::Done
    }

    /// Writes a proper end without a token.
    pub(super) fn write_nothing(&mut self) {
        self.write_role();
        let choice = match self.generation.endpoint {
            Endpoint::Chat => {
                r#"{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null}"#
            }
            Endpoint::Completions => {
                r#"{"index":0,"text":"","logprobs":null,"finish_reason":"stop","stop_reason":null}"#
            }
        };
        let event = format!("{}{choice}]}}", self.opening);
        self.push_event(event);
        self.write_ending(0, 0);
    }

    /// Does what a fault demands instead of the next event.
    fn break_off(&mut self) -> Progress {
        let events = self.events;
        let due = |after: u64| after == events;
        let fault = self.behaviour.find(|fault| match *fault {
            FaultKind::ErrorEvent { after }
            | FaultKind::Truncate { after }
            | FaultKind::Reset { after }
            | FaultKind::Stall { after }
                if due(after) =>
            {
                Some(*fault)
            }
            _ => None,
        });
        match fault {
            Some(FaultKind::ErrorEvent { .. }) => {
                self.push_event(ENGINE_DIED.to_owned());
                self.push_event("data: [DONE]".to_owned());
                self.push(Piece::End);
            }
            Some(FaultKind::Truncate { .. }) => {
                self.push(Piece::Flush);
                self.push(Piece::Break);
            }
            Some(FaultKind::Reset { .. }) => {
                self.push(Piece::Flush);
                self.push(Piece::Reset);
            }
            Some(_) => {}
            None => return Progress::Open,
        }
        Progress::Done
    }

    fn write_role(&mut self) {
        if self.role_sent || self.generation.endpoint == Endpoint::Completions {
            return;
        }
        self.role_sent = true;
        let mut event = format!(
            r#"{}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]"#,
            self.opening
        );
        if self.generation.continuous_usage {
            event.push_str(&self.usage(0, None));
        }
        event.push_str(r#","prompt_token_ids":null,"prompt_text":null}"#);
        self.push_event(event);
    }

    fn write_tokens(&mut self, emission: &Emission) {
        self.write_role();
        if self.behaviour.has(FaultKind::CommentPings) {
            self.push_event(": ping".to_owned());
        }
        let mut event = String::with_capacity(self.opening.len() + 160);
        event.push_str(&self.opening);
        event.push_str(match self.generation.endpoint {
            Endpoint::Chat => r#"{"index":0,"delta":{"content":""#,
            Endpoint::Completions => r#"{"index":0,"text":""#,
        });
        let held = std::mem::take(&mut self.held);
        for index in emission.generated - held..emission.generated {
            event.push_str(self.generation.text_of(index));
        }
        self.push_choice_end(&mut event, emission.finished);
        if self.generation.continuous_usage {
            event.push_str(&self.usage(emission.generated, None));
        }
        event.push('}');
        let malformed = self.behaviour.find(|fault| match fault {
            FaultKind::Malformed { after } => Some(*after),
            _ => None,
        });
        if malformed == Some(self.events) {
            event.truncate(self.opening.len() + 12);
        }
        self.events += 1;
        self.push_event(event);
    }

    fn push_choice_end(&self, event: &mut String, finished: bool) {
        event.push_str(match self.generation.endpoint {
            Endpoint::Chat => r#""},"logprobs":null,"finish_reason":"#,
            Endpoint::Completions => r#"","logprobs":null,"finish_reason":"#,
        });
        if finished {
            event.push_str(&self.generation.ending());
        } else {
            event.push_str("null");
            if self.generation.endpoint == Endpoint::Completions {
                event.push_str(r#","stop_reason":null"#);
            }
        }
        event.push_str(match self.generation.endpoint {
            Endpoint::Chat => r#","token_ids":null}]"#,
            Endpoint::Completions => r#","prompt_token_ids":null,"token_ids":null}]"#,
        });
    }

    fn write_ending(&mut self, generated: u32, cached_tokens: u32) {
        if self.generation.include_usage && !self.behaviour.has(FaultKind::NoUsage) {
            let event = format!(
                r#"{}]{},"system_fingerprint":"simulated"}}"#,
                self.opening,
                self.usage(generated, Some(cached_tokens)),
            );
            self.push_event(event);
        }
        if !self.behaviour.has(FaultKind::NoDone) {
            self.push_event("data: [DONE]".to_owned());
        }
        self.push(Piece::End);
    }

    fn usage(&self, generated: u32, cached_tokens: Option<u32>) -> String {
        if self.behaviour.has(FaultKind::NoUsage) {
            return String::new();
        }
        format!(
            r#","usage":{}"#,
            self.generation.usage(generated, cached_tokens)
        )
    }

    /// Sends an event, which comes without its line ends.
    fn push_event(&self, mut event: String) {
        event.push_str(if self.behaviour.has(FaultKind::CrLf) {
            "\r\n\r\n"
        } else {
            "\n\n"
        });
        let mut bytes = Bytes::from(event);
        if self.behaviour.has(FaultKind::SplitWrites) {
            let cut = (bytes.len() / 3) | 1;
            let first = bytes.split_to(cut.min(bytes.len()));
            self.push(Piece::Bytes(first));
            self.push(Piece::Flush);
        }
        self.push(Piece::Bytes(bytes));
    }

    fn push(&self, piece: Piece) {
        self.outlet.borrow_mut().push(piece);
    }
}

/// What vLLM sends in the middle of a stream when its engine is gone.
const ENGINE_DIED: &str = r#"data: {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", "type": "InternalServerError", "param": null, "code": 500}}"#;

impl Generation {
    /// The text of token number `index`, as far as a stop string leaves it.
    pub(super) fn text_of(&self, index: u32) -> &str {
        let text = self.words.token(index);
        match &self.stop {
            Some(stop) => stop.keep(index, text),
            None => text,
        }
    }

    /// `"length","stop_reason":null`: why the answer ended.
    pub(super) fn ending(&self) -> String {
        let reason = if self.hits_limit { "length" } else { "stop" };
        let string = match &self.stop {
            Some(stop) => serde_json::Value::from(stop.stop.as_str()),
            None => serde_json::Value::Null,
        };
        format!(r#""{reason}","stop_reason":{string}"#)
    }

    /// The usage object after `generated` tokens.
    pub(super) fn usage(&self, generated: u32, cached_tokens: Option<u32>) -> String {
        let prompt = self.prompt_tokens;
        let details = cached_tokens.map_or(String::new(), |cached| {
            format!(r#","prompt_tokens_details":{{"cached_tokens":{cached}}}"#)
        });
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{generated}{details}}}"#,
            prompt + generated
        )
    }

    /// The body of an answer that is not streamed.
    pub(super) fn whole_answer(&self, id: &str, created: u64, cached_tokens: u32) -> String {
        let text: String = (0..self.output_tokens)
            .map(|index| self.text_of(index))
            .collect();
        let model = serde_json::Value::from(self.model.as_str());
        let (object, choice) = match self.endpoint {
            Endpoint::Chat => (
                "chat.completion",
                format!(r#""message":{{"role":"assistant","content":"{text}","refusal":null}}"#),
            ),
            Endpoint::Completions => ("text_completion", format!(r#""text":"{text}""#)),
        };
        format!(
            r#"{{"id":"{id}","object":"{object}","created":{created},"model":{model},"choices":[{{"index":0,{choice},"logprobs":null,"finish_reason":{}}}],"system_fingerprint":"simulated","usage":{}}}"#,
            self.ending(),
            self.usage(self.output_tokens, Some(cached_tokens)),
        )
    }
}
