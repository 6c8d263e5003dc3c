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
    let endpoint = Endpoint::resolve(url, || tls::client_config(None, false))
        .await
        .ok()?;
    let listed = page(&endpoint, "/v1/models").await;
    let listed = listed.as_ref().and_then(|page| page["data"].as_array());
    let owner = listed
        .and_then(|models| models.first()?["owned_by"].as_str())
        .unwrap_or_default();
    let mut models = names(listed, "id");
    let kind = match kind_of(owner) {
        Some(kind) => kind,
        None => {
            let told = tells(&endpoint).await;
            if models.is_empty() {
                models = told
                    .as_ref()
                    .map_or_else(Vec::new, |(_, models)| models.clone());
            }
            // An engine of another kind is one that at least lists its models.
            told.map(|(kind, _)| kind)
                .or(listed.map(|_| BackendKind::Openai))?
        }
    };
    Some(Detected {
        url: url.to_owned(),
        kind,
        models,
    })
}

/// The kind of an engine by whom it names as the owner of its models; `None` for a name that says nothing.
fn kind_of(owner: &str) -> Option<BackendKind> {
    Some(match owner {
        "vllm" => BackendKind::Vllm,
        "sglang" => BackendKind::Sglang,
        "llamacpp" => BackendKind::LlamaCpp,
        "library" | "ollama" => BackendKind::Ollama,
        "tensorrt_llm" => BackendKind::TensorrtLlm,
        // Ours: it speaks as OpenAI does, whatever it resembles.
        "scenario-simulator" => BackendKind::Openai,
        _ => return None,
    })
}

/// The kind of an engine by a page that no other kind has, and the models that it tells there.
async fn tells(endpoint: &Endpoint) -> Option<(BackendKind, Vec<String>)> {
    let text = |page: &Value, key: &str| page[key].as_str().map(str::to_owned);
    for path in ["/get_model_info", "/server_info"] {
        if let Some(told) = page(endpoint, path).await
            && let Some(model) = text(&told, "model_path")
        {
            return Some((BackendKind::Sglang, vec![model]));
        }
    }
    if let Some(told) = page(endpoint, "/props").await
        && told.get("default_generation_settings").is_some()
    {
        let model = text(&told, "model_alias").or(text(&told, "model_path"));
        return Some((BackendKind::LlamaCpp, model.into_iter().collect()));
    }
    if let Some(told) = page(endpoint, "/api/version").await
        && told["version"].is_string()
    {
        let listed = page(endpoint, "/api/tags").await;
        let listed = listed.as_ref().and_then(|page| page["models"].as_array());
        return Some((BackendKind::Ollama, names(listed, "name")));
    }
    // Others have this page, too, and put more into it.
    let told = page(endpoint, "/version").await?;
    let alone = told.as_object().is_some_and(|told| told.len() == 1);
    (alone && told["version"].is_string()).then(|| (BackendKind::Vllm, Vec::new()))
}

fn names(models: Option<&Vec<Value>>, key: &str) -> Vec<String> {
    let models = models.into_iter().flatten();
    let names = models.filter_map(|model| model[key].as_str());
    names.map(str::to_owned).collect()
}

/// The JSON of a page, if there is such a page.
async fn page(endpoint: &Endpoint, path: &str) -> Option<Value> {
    let answer = fetch(endpoint, path, &HeaderMap::new(), None, LOOK_LIMIT)
        .await
        .ok()?;
    (answer.status == 200).then(|| serde_json::from_str(&answer.body).ok())?
}
