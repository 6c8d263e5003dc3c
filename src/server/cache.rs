//! Asks an engine to forget the prompts that it has seen, so that a cell does not find what the one before has left.

use std::time::Duration;

use bytes::Bytes;

use super::probe::Ready;
use crate::plan::{Backend, BackendKind};
use crate::wire::fetch;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Resets the prefix cache; `None` where the engine has no way to be asked.
///
/// # Errors
/// It has one, and does not do it: in words.
pub fn reset_cache(backend: &Backend, ready: &Ready) -> Option<Result<(), String>> {
    if ready.offline.is_some() {
        return None;
    }
    let path = match backend.kind {
        BackendKind::Vllm => "/reset_prefix_cache",
        BackendKind::Sglang => "/flush_cache",
        BackendKind::TensorrtLlm
        | BackendKind::Friendli
        | BackendKind::LlamaCpp
        | BackendKind::Ollama
        | BackendKind::Transformers
        | BackendKind::Openai
        | BackendKind::Simulator => return None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Some(Err(error.to_string())),
    };
    let root = ready
        .endpoint
        .with_prefix(ready.endpoint.prefix.trim_end_matches("/v1"));
    let asked = fetch(&root, path, &ready.headers, Some(Bytes::new()), LIMIT);
    match runtime.block_on(asked) {
        Ok(answer) if (200..300).contains(&answer.status) => Some(Ok(())),
        // vLLM has it in its development mode alone.
        Ok(answer) if matches!(answer.status, 404 | 405) => None,
        Ok(answer) => Some(Err(format!("{root}{path} answers {}", answer.status))),
        Err(error) => Some(Err(error.to_string())),
    }
}
