//! The engines' languages: how a body is written, and what an event says.

pub mod body;
pub mod event;
pub mod glance;
pub mod shape;

pub use body::BodyTemplate;
pub use event::{EventFacts, Usage, read_answer, read_event};
pub use shape::Shape;

use crate::plan::{Api, BackendKind};

/// Which language is spoken, and the small ways in which engines differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The API.
    pub api: Api,
    /// The engine.
    pub kind: BackendKind,
}

impl Dialect {
    /// The path that requests go to, behind the endpoint's prefix.
    pub fn path(self) -> &'static str {
        match self.api {
            Api::Chat => "/chat/completions",
            Api::Completions => "/completions",
        }
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
