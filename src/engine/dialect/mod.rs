//! The engines' languages: how a body is written, and what an event says.
//!
//! Chat and completions, which nearly every engine speaks, are read at a glance (`glance.rs`, `event.rs`). Each other language has
//! a file of its own that says what one event means; `wording.rs` says how each writes a request.

pub mod body;
pub mod dialog;
pub mod answer;
mod adapters;
mod wording;
mod wishes;
pub mod event;
pub mod glance;
pub mod shape;
mod responses;
mod messages;
mod sglang;
mod triton;
mod tgi;
mod ollama;

pub use answer::Spoken;
pub use body::BodyTemplate;
pub use dialog::Message;
pub use event::{EventFacts, Usage, read_event};
pub use shape::Shape;

use std::borrow::Cow;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::plan::{Api, BackendKind};
use crate::wire::Endpoint;

/// Which language is spoken, and the small ways in which engines differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The API.
    pub api: Api,
    /// The engine.
    pub kind: BackendKind,
}

impl Dialect {
    /// The path that requests go to, behind the prefix of [`Dialect::endpoint`].
    pub fn path(self, stream: bool) -> &'static str {
        match (self.api, stream) {
            (Api::Chat, _) => "/chat/completions",
            (Api::Completions, _) => "/completions",
            (Api::Responses, _) => "/responses",
            (Api::Messages, _) => "/messages",
            (Api::Generate, _) | (Api::Triton | Api::Tgi, false) => "/generate",
            (Api::Triton | Api::Tgi, true) => "/generate_stream",
            (Api::Ollama, _) => "/api/chat",
            (Api::Offline, _) => "",
        }
    }

    /// Where requests for a model go, at a server whose OpenAI API was found at `found`.
    pub fn endpoint(self, found: &Endpoint, model: &str) -> Endpoint {
        let root = found.prefix.trim_end_matches("/v1");
        match self.api {
            Api::Chat | Api::Completions | Api::Responses | Api::Messages | Api::Offline => {
                found.clone()
            }
            Api::Generate | Api::Tgi | Api::Ollama => found.with_prefix(root),
            Api::Triton => found.with_prefix(format!("{root}/v2/models/{model}")),
        }
    }

    /// Headers that the language asks for; those of the backend win over them.
    pub fn headers(self, backend: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.api == Api::Messages {
            headers.insert(
                HeaderName::from_static("anthropic-version"),
                HeaderValue::from_static("2023-06-01"),
            );
        }
        headers.extend(
            backend
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        headers
    }

    /// What one event of a stream says.
    ///
    /// # Errors
    /// It is not a JSON object of this language.
    pub fn read_event(self, data: &[u8]) -> Result<EventFacts<'_>, serde_json::Error> {
        match self.api {
            Api::Chat | Api::Completions | Api::Offline => read_event(data),
            Api::Responses => responses::read(data),
            Api::Messages => messages::read(data),
            Api::Generate => sglang::read(data),
            Api::Triton => triton::read(data),
            Api::Tgi => tgi::read(data),
            Api::Ollama => ollama::read(data),
        }
    }

    /// What the body of an answer that is no stream says.
    ///
    /// # Errors
    /// It is not a JSON object of this language.
    pub fn read_answer(self, body: &[u8]) -> Result<EventFacts<'_>, serde_json::Error> {
        match self.api {
            Api::Responses => responses::read_answer(body),
            Api::Messages => messages::read_answer(body),
            Api::Generate => sglang::read(body).map(|facts| EventFacts {
                output: facts.content,
                ..facts
            }),
            Api::Triton => triton::read(body).map(|facts| EventFacts {
                finish_reason: facts.output.then_some(Cow::Borrowed("unknown")),
                ..facts
            }),
            Api::Chat | Api::Completions | Api::Tgi | Api::Ollama | Api::Offline => {
                self.read_event(body)
            }
        }
    }

    /// Whether events are those of OpenAI's first two APIs, which are read at a glance.
    pub fn is_openai(self) -> bool {
        matches!(self.api, Api::Chat | Api::Completions)
    }

    /// Whether each line is an event, in place of an event stream.
    pub fn is_lines(self) -> bool {
        self.api == Api::Ollama
    }

    /// Whether a stream has no end mark of its own: the end of its body is the end of the answer.
    pub fn ends_with_the_body(self) -> bool {
        self.api == Api::Triton
    }

    /// Whether the engine takes `stream_options.continuous_usage_stats`, which tells the tokens of each event.
    pub fn has_continuous_usage(self) -> bool {
        match self.kind {
            BackendKind::Vllm | BackendKind::Sglang | BackendKind::Simulator => true,
            BackendKind::TensorrtLlm
            | BackendKind::Friendli
            | BackendKind::LlamaCpp
            | BackendKind::Ollama
            | BackendKind::Transformers
            | BackendKind::Openai => false,
        }
    }
}

/// A whole JSON value; the bytes after it are a mistake.
fn parse<'de, T: serde::Deserialize<'de>>(data: &'de [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(data)
}

fn cow(text: Option<String>) -> Option<Cow<'static, str>> {
    text.map(Cow::Owned)
}
