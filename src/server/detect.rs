//! Which engines run on this machine: a look at the ports that they listen on unless they are told otherwise.

use std::time::Duration;

use hyper::header::HeaderMap;
use serde_json::Value;

use crate::plan::BackendKind;
use crate::wire::{Endpoint, fetch, tls};

/// The ports of vLLM, TensorRT-LLM and Friendli; SGLang; llama.cpp and TGI; Ollama; LMDeploy; LM Studio.
pub const USUAL_PORTS: [u16; 6] = [8000, 30000, 8080, 11434, 23333, 1234];
/// An engine on this machine answers at once.
const LOOK_LIMIT: Duration = Duration::from_millis(800);

/// An engine that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// Its address, without a path.
    pub url: String,
    /// What it is, as far as it tells.
    pub kind: BackendKind,
    /// The models that it lists.
    pub models: Vec<String>,
}

/// The engines at these ports of this machine.
///
/// # Errors
/// The machine refuses what looking needs.
pub fn detect(ports: &[u16]) -> std::io::Result<Vec<Detected>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let mut found = Vec::new();
        for port in ports {
            found.extend(look(&format!("http://127.0.0.1:{port}")).await);
        }
        found
    }))
}

async fn look(url: &str) -> Option<Detected> {
    let endpoint = Endpoint::resolve(&format!("{url}/v1"), || tls::client_config(None, false))
        .await
        .ok()?;
    let answer = fetch(&endpoint, "/models", &HeaderMap::new(), None, LOOK_LIMIT)
        .await
        .ok()?;
    let listed: Value = serde_json::from_str(&answer.body).ok()?;
    let models = listed["data"].as_array().filter(|_| answer.status == 200)?;
    let owner = models
        .first()
        .and_then(|model| model["owned_by"].as_str())
        .unwrap_or_default();
    Some(Detected {
        url: url.to_owned(),
        kind: kind_of(owner),
        models: models
            .iter()
            .filter_map(|model| model["id"].as_str())
            .map(str::to_owned)
            .collect(),
    })
}

/// The kind of an engine by whom it names as the owner of its models.
fn kind_of(owner: &str) -> BackendKind {
    match owner {
        "vllm" => BackendKind::Vllm,
        "sglang" => BackendKind::Sglang,
        "llamacpp" => BackendKind::LlamaCpp,
        "library" | "ollama" => BackendKind::Ollama,
        "tensorrt_llm" => BackendKind::TensorrtLlm,
        _ => BackendKind::Openai,
    }
}
