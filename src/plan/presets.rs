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

/// What the simulator is told of the arguments of the engine that it stands in for; `None` is what its preset has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimulatedArgs {
    /// Sequences that run at once.
    pub sequences: Option<u32>,
    /// Tokens that one step computes at most.
    pub batched_tokens: Option<u32>,
    /// Whether a prompt is split over steps.
    pub chunked_prefill: Option<bool>,
    /// Whether blocks of earlier prompts are reused.
    pub prefix_cache: Option<bool>,
}

impl SimulatedArgs {
    /// What these arguments of an engine mean, by the names that vLLM, SGLang and TensorRT-LLM have for them. As for the engine
    /// itself, a flag that is `false` is one that is not given.
    pub fn of<'a>(args: impl Iterator<Item = (&'a str, &'a serde_json::Value)>) -> SimulatedArgs {
        let mut told = SimulatedArgs::default();
        for (name, value) in args {
            let name = name.trim_start_matches('-').replace('_', "-");
            let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            let positive = number
                .and_then(|number| u32::try_from(number).ok())
                .filter(|&number| number > 0);
            let given = value.as_bool().unwrap_or(true);
            match name.as_str() {
                "max-num-seqs" | "max-running-requests" | "max-batch-size" => {
                    told.sequences = positive.or(told.sequences);
                }
                "max-num-batched-tokens" | "max-num-tokens" => {
                    told.batched_tokens = positive.or(told.batched_tokens);
                }
                // Of SGLang: the size of a chunk, or that there are none.
                "chunked-prefill-size" if number == Some(-1) => told.chunked_prefill = Some(false),
                "chunked-prefill-size" => told.batched_tokens = positive.or(told.batched_tokens),
                "enable-chunked-prefill" if given => told.chunked_prefill = Some(true),
                "no-enable-chunked-prefill" if given => told.chunked_prefill = Some(false),
                "enable-prefix-caching" if given => told.prefix_cache = Some(true),
                "no-enable-prefix-caching" | "disable-radix-cache" if given => {
                    told.prefix_cache = Some(false);
                }
                _ => {}
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(args: serde_json::Value) -> SimulatedArgs {
        let args = args.as_object().unwrap();
        SimulatedArgs::of(args.iter().map(|(name, value)| (name.as_str(), value)))
    }

    #[test]
    fn arguments_mean_what_the_engine_calls_them() {
        let vllm = serde_json::json!({ "max-num-seqs": 8, "no-enable-prefix-caching": true, "max_num_batched_tokens": "512", "seed": 1 });
        let expected = SimulatedArgs {
            sequences: Some(8),
            batched_tokens: Some(512),
            chunked_prefill: None,
            prefix_cache: Some(false),
        };
        assert_eq!(told(vllm), expected);
        let sglang = serde_json::json!({ "max-running-requests": 4, "chunked-prefill-size": -1, "disable-radix-cache": false });
        let expected = SimulatedArgs {
            sequences: Some(4),
            chunked_prefill: Some(false),
            ..SimulatedArgs::default()
        };
        assert_eq!(told(sglang), expected);
    }
}
