//! Which engines run on this machine: a look at the ports that they listen on unless they are told otherwise.

use std::time::Duration;

use hyper::header::HeaderMap;
use serde_json::Value;

use crate::plan::BackendKind;
use crate::wire::{Answer, Endpoint, FetchError, fetch, tls};

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
    let asked = ask(&endpoint, "/v1/models").await.ok()?;
    let listed = asked.as_ref().and_then(json);
    let listed = listed.as_ref().and_then(|page| page["data"].as_array());
    let owner = listed
        .and_then(|models| models.first()?["owned_by"].as_str())
        .unwrap_or_default();
    let mut models = names(listed, "id");
    let kind = match kind_of(owner) {
        Some(kind) => kind,
        None => {
            // A server that wants a key has such a list, too.
            let lists = asked.is_some_and(|page| matches!(page.status, 200 | 401));
            let told = tells(&endpoint, lists).await.ok()?;
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

/// The kind of an engine by a page that no other kind has, and the models that it tells there; `lists` says whether it has a list of
/// models as OpenAI does.
async fn tells(
    endpoint: &Endpoint,
    lists: bool,
) -> Result<Option<(BackendKind, Vec<String>)>, Silent> {
    let text = |page: &Value, key: &str| page[key].as_str().map(str::to_owned);
    for path in ["/get_model_info", "/server_info"] {
        if let Some(told) = page(endpoint, path).await?
            && let Some(model) = text(&told, "model_path")
        {
            return Ok(Some((BackendKind::Sglang, vec![model])));
        }
    }
    if let Some(told) = page(endpoint, "/props").await?
        && told.get("default_generation_settings").is_some()
    {
        let model = text(&told, "model_alias").or(text(&told, "model_path"));
        return Ok(Some((BackendKind::LlamaCpp, model.into_iter().collect())));
    }
    // Many programs tell their version; with a list of models behind it, it is this one.
    if let Some(told) = page(endpoint, "/api/version").await?
        && told["version"].is_string()
        && let Some(tags) = page(endpoint, "/api/tags").await?
        && let Some(listed) = tags["models"].as_array()
    {
        return Ok(Some((BackendKind::Ollama, names(Some(listed), "name"))));
    }
    if !lists {
        return Ok(None);
    }
    // Others have this page, too, and put more into it.
    let told = page(endpoint, "/version").await?;
    let told = told.as_ref().and_then(Value::as_object);
    let alone = told
        .is_some_and(|told| told.len() == 1 && told.get("version").is_some_and(Value::is_string));
    Ok(alone.then(|| (BackendKind::Vllm, Vec::new())))
}

fn names(models: Option<&Vec<Value>>, key: &str) -> Vec<String> {
    let models = models.into_iter().flatten();
    let names = models.filter_map(|model| model[key].as_str());
    names.map(str::to_owned).collect()
}

/// What is there does not answer in time: no engine, and the other pages need not be asked.
struct Silent;

/// The JSON of a page, if there is such a page.
async fn page(endpoint: &Endpoint, path: &str) -> Result<Option<Value>, Silent> {
    let answer = ask(endpoint, path).await?;
    Ok(answer.as_ref().and_then(json))
}

/// What a server answers, if it does.
async fn ask(endpoint: &Endpoint, path: &str) -> Result<Option<Answer>, Silent> {
    match fetch(endpoint, path, &HeaderMap::new(), None, LOOK_LIMIT).await {
        Ok(answer) => Ok(Some(answer)),
        Err(FetchError::TimedOut { .. }) => Err(Silent),
        Err(_) => Ok(None),
    }
}

fn json(answer: &Answer) -> Option<Value> {
    (answer.status == 200).then(|| serde_json::from_str(&answer.body).ok())?
}
