//! Which presets the embedded simulator has, and which of them is nearest to a real backend.

use super::{BackendKind, Model};

/// The presets' names, in the order in which they are listed to users.
pub const PRESETS: &[&str] = &[
    "fast",
    "a100-llama-3.1-8b-vllm",
    "a100-llama-3.1-8b-sglang",
    "a100-qwen3-8b-vllm",
    "a100-qwen3-8b-sglang",
    "h100-llama-3.1-8b-vllm",
    "h100-llama-3.1-8b-sglang",
    "h100-llama-3.1-8b-tensorrt-llm",
    "h200-llama-4-scout-vllm",
    "h200-llama-4-scout-sglang",
    "friendli-llama-3.1-8b",
];

/// The preset that plays this kind of engine with this model. What has no preset of its own is played by vLLM's.
pub fn nearest(kind: BackendKind, model: Option<&Model>) -> &'static str {
    let id = model
        .map(|model| format!("{} {}", model.key, model.id.as_deref().unwrap_or("")))
        .unwrap_or_default()
        .to_lowercase();
    match kind {
        BackendKind::Friendli => "friendli-llama-3.1-8b",
        BackendKind::TensorrtLlm => "h100-llama-3.1-8b-tensorrt-llm",
        BackendKind::Sglang if id.contains("qwen") => "a100-qwen3-8b-sglang",
        BackendKind::Sglang if id.contains("scout") => "h200-llama-4-scout-sglang",
        BackendKind::Sglang => "a100-llama-3.1-8b-sglang",
        BackendKind::Vllm
        | BackendKind::LlamaCpp
        | BackendKind::Ollama
        | BackendKind::Transformers
        | BackendKind::Openai
        | BackendKind::Simulator => {
            if id.contains("qwen") {
                "a100-qwen3-8b-vllm"
            } else if id.contains("scout") {
                "h200-llama-4-scout-vllm"
            } else {
                "a100-llama-3.1-8b-vllm"
            }
        }
    }
}
