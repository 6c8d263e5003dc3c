//! Asks a backend whether it is there, where its API is and which models it lists.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue as HttpValue};

use super::first_token::first_token;
use crate::engine::Adapter;
use crate::engine::simulator::{EngineParameters, SimulatorConfig, SimulatorHandle};
use crate::observation::EngineFacts;
use crate::plan::{Api, Backend, BackendKind, HeaderValue, Model, SimulatedArgs};
use crate::units::format_duration;
use crate::wire::fetch::FetchError;
use crate::wire::{Answer, Endpoint, Proxy, fetch, proxy, tls};

/// One probe takes no longer.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Looks up an environment variable; an empty one counts as unset.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Told before each further probe why the one before failed; an error ends the waiting.
pub type Waiting<'a> = &'a mut dyn FnMut(&str) -> Result<(), NotReady>;

/// A backend that can be measured.
#[derive(Debug)]
pub struct Ready {
    /// Where its API is, `/v1` found.
    pub endpoint: Endpoint,
    /// Headers of every request, secrets among them.
    pub headers: HeaderMap,
    /// The model name to send.
    pub model: String,
    /// What it says about itself.
    pub facts: EngineFacts,
    /// The embedded engine, when it is one; dropped, it stops.
    pub simulator: Option<SimulatorHandle>,
    /// The adapter that holds it, when it has no server.
    pub offline: Option<Arc<Adapter>>,
}

impl Ready {
    /// An engine that an adapter holds.
    pub(super) fn offline(adapter: Arc<Adapter>, model: &str, version: Option<String>) -> Ready {
        Ready {
            endpoint: Endpoint {
                host: "offline".to_owned(),
                port: 0,
                prefix: String::new(),
                // It is on this machine.
                addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
                tls: None,
                proxy: None,
            },
            headers: HeaderMap::new(),
            model: model.to_owned(),
            facts: EngineFacts {
                version,
                ..EngineFacts::default()
            },
            simulator: None,
            offline: Some(adapter),
        }
    }
}

/// Asks a backend that has said to be ready for a first token.
pub(super) fn first_token_of(
    backend: &Backend,
    ready: &Ready,
    until: Instant,
) -> Result<(), NotReady> {
    first_token(backend, ready, until).map_err(|problem| match problem {
        Problem::NotYet(problem) | Problem::Final(problem) => problem,
    })
}

/// Why a backend cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

impl From<FetchError> for NotReady {
    fn from(error: FetchError) -> NotReady {
        let text = error.to_string();
        // What rustls says when the other side answers in plain text.
        let hint = if text.contains("InvalidContentType") {
            " (the port does not speak TLS: is it http:// ?)"
        } else {
            ""
        };
        NotReady(format!("{text}{hint}"))
    }
}

/// Brings a backend up, or finds it up, within its time.
///
/// # Errors
/// It does not answer, refuses the credentials, or lists several models where the scenario names none.
pub fn bring_up(
    backend: &Backend,
    model: &Model,
    seed: u64,
    environment: Environment<'_>,
    waiting: Waiting<'_>,
) -> Result<Ready, NotReady> {
    let simulator = match &backend.url {
        Some(_) => None,
        None => Some(start_simulator(backend, model, seed)?),
    };
    let url = match (&backend.url, &simulator) {
        (Some(url), _) => url.clone(),
        (None, Some(simulator)) => simulator.base_url(),
        (None, None) => return Err(NotReady(format!("backend `{}` has no URL", backend.id))),
    };
    let mut ready = probe(backend, model, &url, environment, waiting)?;
    ready.facts.simulated |= simulator.is_some();
    ready.simulator = simulator;
    Ok(ready)
}

/// Asks the backend at `url` until it is ready by its rule.
pub(super) fn probe(
    backend: &Backend,
    model: &Model,
    url: &str,
    environment: Environment<'_>,
    waiting: Waiting<'_>,
) -> Result<Ready, NotReady> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| NotReady(format!("no runtime for the probe: {error}")))?;
    runtime.block_on(find(backend, model, url, environment, waiting))
}

fn start_simulator(
    backend: &Backend,
    model: &Model,
    seed: u64,
) -> Result<SimulatorHandle, NotReady> {
    let preset = backend.preset.clone().unwrap_or_else(|| "fast".to_owned());
    let mut config = SimulatorConfig {
        served_models: model
            .name_for(&backend.id)
            .into_iter()
            .chain(model.lora.iter().map(|(adapter, _)| adapter.as_str()))
            .map(str::to_owned)
            .collect(),
        seed,
        ..SimulatorConfig::named(&preset).map_err(|error| NotReady(error.to_string()))?
    };
    told(&backend.simulated, &mut config.preset.parameters);
    crate::engine::simulator::start(config)
        .map_err(|error| NotReady(format!("the simulator cannot start: {error}")))
}

/// The simulated engine with the arguments that the real one would be given.
fn told(args: &SimulatedArgs, engine: &mut EngineParameters) {
    let SimulatedArgs {
        sequences,
        batched_tokens,
        chunked_prefill,
        prefix_cache,
    } = *args;
    engine.max_sequences = sequences.map_or(engine.max_sequences, |most| most as usize);
    engine.max_batched_tokens = batched_tokens.unwrap_or(engine.max_batched_tokens);
    engine.chunked_prefill = chunked_prefill.unwrap_or(engine.chunked_prefill);
    engine.prefix_cache = prefix_cache.unwrap_or(engine.prefix_cache);
}

/// What a probe found.
struct Found {
    endpoint: Endpoint,
    headers: HeaderMap,
    listed: Listed,
    version: Option<String>,
    says_simulated: bool,
}

/// What a list of models says.
#[derive(Debug, Default)]
struct Listed {
    /// Their names.
    models: Vec<String>,
    /// The longest context of the first, where it is told.
    context_length: Option<u64>,
}

async fn find(
    backend: &Backend,
    model: &Model,
    url: &str,
    environment: Environment<'_>,
    waiting: Waiting<'_>,
) -> Result<Ready, NotReady> {
    let headers = headers(backend, environment)?;
    let trust = || tls::client_config(backend.tls.ca.as_deref(), backend.tls.insecure);
    let proxy = proxy_of(backend, url, environment).await?;
    let written = Endpoint::resolve_through(proxy, url, trust)
        .await
        .map_err(|error| NotReady(error.to_string()))?;
    let until = Instant::now() + backend.ready.timeout;
    loop {
        let problem = match ask(backend, model, &written, &headers, until).await {
            Ok(ready) => return Ok(ready),
            Err(Problem::Final(error)) => return Err(error),
            Err(Problem::NotYet(error)) => error,
        };
        if Instant::now() + backend.ready.interval > until {
            let limit = format_duration(backend.ready.timeout);
            return Err(NotReady(format!(
                "backend `{}` at {written} is not ready after {limit} (`ready.timeout`): {problem}",
                backend.id
            )));
        }
        waiting(&problem.0)?;
        tokio::time::sleep(backend.ready.interval).await;
    }
}

/// The proxy of the environment, where the backend is to be asked through it.
async fn proxy_of(
    backend: &Backend,
    url: &str,
    environment: Environment<'_>,
) -> Result<Option<Proxy>, NotReady> {
    let uri = url.parse::<hyper::Uri>().ok().filter(|_| backend.proxy);
    let named = uri.as_ref().and_then(|uri| {
        let (scheme, host) = (uri.scheme_str()?, uri.host()?);
        proxy::of_environment(scheme, host, environment)
    });
    match named {
        Some(named) => Ok(Some(Proxy::resolve(&named).await.map_err(NotReady)?)),
        None => Ok(None),
    }
}

/// One probe by the backend's rule: its page, its models, and a first token where one is wanted.
async fn ask(
    backend: &Backend,
    model: &Model,
    written: &Endpoint,
    headers: &HeaderMap,
    until: Instant,
) -> Result<Ready, Problem> {
    let rule = &backend.ready;
    if let Some(path) = &rule.path {
        page(written, path, rule.status, headers).await?;
    }
    let (endpoint, listed) = look(written, headers, rule.path.is_some(), backend.kind).await?;
    let (version, says_simulated) = version(backend, &endpoint, headers).await;
    let found = Found {
        endpoint,
        headers: headers.clone(),
        listed,
        version,
        says_simulated,
    };
    let name = name_of(model, backend, &found)?;
    let Found {
        endpoint,
        headers,
        listed,
        version,
        says_simulated,
    } = found;
    let ready = Ready {
        facts: EngineFacts {
            url: endpoint.to_string(),
            version,
            models: listed.models,
            context_length: listed.context_length,
            simulated: says_simulated,
            proxy: endpoint.proxy.as_ref().map(|proxy| proxy.url.clone()),
            ..EngineFacts::default()
        },
        endpoint,
        headers,
        model: name,
        simulator: None,
        offline: None,
    };
    if rule.first_token {
        first_token(backend, &ready, until)?;
    }
    Ok(ready)
}

/// Asks for the page that tells that an engine is ready.
async fn page(
    written: &Endpoint,
    path: &str,
    status: u16,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let root = written.with_prefix(written.prefix.trim_end_matches("/v1"));
    let answer = fetch(&root, path, headers, None, PROBE_LIMIT)
        .await
        .map_err(|error| Problem::NotYet(error.into()))?;
    let problem = match answer.status {
        told if told == status => return Ok(()),
        503 => format!("{root}{path} answers 503: it is still loading"),
        told => format!("{root}{path} answers {told}, and not {status}"),
    };
    Err(Problem::NotYet(NotReady(problem)))
}

impl From<NotReady> for Problem {
    fn from(error: NotReady) -> Problem {
        Problem::Final(error)
    }
}

/// Why one probe found no engine that is ready.
pub(super) enum Problem {
    /// It may come up yet.
    NotYet(NotReady),
    /// Waiting does not help.
    Final(NotReady),
}

/// Asks for the list of models, under `/v1` too where the URL does not name it.
///
/// Some servers have no such list; then their health page decides, unless the page of their rule has done so (`page_is_fine`).
async fn look(
    written: &Endpoint,
    headers: &HeaderMap,
    page_is_fine: bool,
    kind: BackendKind,
) -> Result<(Endpoint, Listed), Problem> {
    let with_version = written.with_prefix(format!("{}/v1", written.prefix));
    let candidates = if written.prefix.ends_with("/v1") {
        vec![written.clone()]
    } else {
        vec![with_version, written.clone()]
    };
    let mut missing = None;
    for endpoint in &candidates {
        let answer = fetch(endpoint, "/models", headers, None, PROBE_LIMIT)
            .await
            .map_err(|error| Problem::NotYet(error.into()))?;
        match answer.status {
            200 => return Ok((endpoint.clone(), listed(&answer))),
            401 | 403 => {
                let text = format!(
                    "{endpoint} refuses the credentials (HTTP {}): check `auth` of this backend",
                    answer.status
                );
                return Err(Problem::Final(NotReady(text)));
            }
            503 => {
                return Err(Problem::NotYet(NotReady(format!(
                    "{endpoint}/models answers 503 (still loading?)"
                ))));
            }
            status => missing = Some((endpoint, status)),
        }
    }
    // A hosted service has neither page.
    if page_is_fine || kind == BackendKind::Friendli {
        return Ok((candidates[0].clone(), Listed::default()));
    }
    let root = written.with_prefix(written.prefix.trim_end_matches("/v1"));
    match fetch(&root, "/health", headers, None, PROBE_LIMIT).await {
        Ok(health) if health.status == 200 => Ok((candidates[0].clone(), Listed::default())),
        Ok(health) => {
            let (endpoint, status) = missing.unwrap_or((written, 0));
            let text = format!(
                "{endpoint}/models answers {status} and {root}/health {}",
                health.status
            );
            Err(Problem::NotYet(NotReady(text)))
        }
        Err(error) => Err(Problem::NotYet(error.into())),
    }
}

fn listed(answer: &Answer) -> Listed {
    let list: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let entries = list["data"].as_array().cloned().unwrap_or_default();
    let names = entries.iter().filter_map(|entry| entry["id"].as_str());
    Listed {
        models: names.map(str::to_owned).collect(),
        // vLLM and SGLang have it beside the name, llama.cpp below `meta`.
        context_length: entries.first().and_then(|entry| {
            entry["max_model_len"]
                .as_u64()
                .or_else(|| entry["meta"]["n_ctx"].as_u64())
        }),
    }
}

/// The engine's version, where it tells one; and whether it says that it is simulated.
async fn version(
    backend: &Backend,
    endpoint: &Endpoint,
    headers: &HeaderMap,
) -> (Option<String>, bool) {
    let root = endpoint.with_prefix(endpoint.prefix.trim_end_matches("/v1"));
    let told = facts(&root, "/version", headers).await;
    let simulated = told["simulated"].as_bool().unwrap_or(false);
    let of = |told: &serde_json::Value, key: &str| told[key].as_str().map(str::to_owned);
    let version = match (of(&told, "version"), own_version(backend)) {
        (None, Some((path, key))) => of(&facts(&root, path, headers).await, key),
        (version, _) => version,
    };
    (version, simulated)
}

/// Where an engine tells its version that does not tell it at `/version`: a page, and a key on it.
fn own_version(backend: &Backend) -> Option<(&'static str, &'static str)> {
    match (backend.kind, backend.api) {
        (_, Api::Tgi) => Some(("/info", "version")),
        (BackendKind::LlamaCpp, _) => Some(("/props", "build_info")),
        (BackendKind::Ollama, _) => Some(("/api/version", "version")),
        (BackendKind::Sglang, _) => Some(("/get_server_info", "version")),
        _ => None,
    }
}

/// A page of facts; null where there is none.
async fn facts(root: &Endpoint, path: &str, headers: &HeaderMap) -> serde_json::Value {
    match fetch(root, path, headers, None, PROBE_LIMIT).await {
        Ok(answer) if answer.status == 200 => {
            serde_json::from_str(&answer.body).unwrap_or_default()
        }
        Ok(_) | Err(_) => serde_json::Value::Null,
    }
}

fn name_of(model: &Model, backend: &Backend, found: &Found) -> Result<String, NotReady> {
    let listed = found.listed.models.join("`, `");
    // The simulator that is served alone takes any name.
    let is_picky =
        refuses_others(backend.kind) && !found.listed.models.is_empty() && !found.says_simulated;
    let must_list = backend.ready.model_listed || is_picky;
    match (model.name_for(&backend.id), found.listed.models.as_slice()) {
        (Some(name), models) if must_list && !models.iter().any(|known| known == name) => {
            Err(NotReady(format!(
                "{} lists {} and not `{name}`: name what it serves under `models`",
                found.endpoint,
                if models.is_empty() {
                    "no model".to_owned()
                } else {
                    format!("the model `{listed}`")
                }
            )))
        }
        (Some(name), models) => {
            let is_missing =
                |adapter: &str| must_list && !models.iter().any(|known| known == adapter);
            match model.lora.iter().find(|(adapter, _)| is_missing(adapter)) {
                Some((adapter, _)) => Err(NotReady(format!(
                    "{} lists the model `{listed}` and not the adapter `{adapter}`: load it there, or correct `lora`",
                    found.endpoint
                ))),
                None => Ok(name.to_owned()),
            }
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(NotReady(format!(
            "{} lists no model: name one under `models`",
            found.endpoint
        ))),
        (None, several) => {
            let count = several.len();
            Err(NotReady(format!(
                "{} lists {count} models (`{listed}`): name one under `models`",
                found.endpoint
            )))
        }
    }
}

/// Whether an engine answers only to the names that it lists; others serve what they have, or list less than they serve.
fn refuses_others(kind: BackendKind) -> bool {
    match kind {
        BackendKind::Vllm | BackendKind::Simulator => true,
        BackendKind::Sglang
        | BackendKind::TensorrtLlm
        | BackendKind::Friendli
        | BackendKind::LlamaCpp
        | BackendKind::Ollama
        | BackendKind::Transformers
        | BackendKind::Openai => false,
    }
}

fn headers(backend: &Backend, environment: Environment<'_>) -> Result<HeaderMap, NotReady> {
    let mut map = HeaderMap::new();
    for (name, value) in &backend.headers {
        let secret = matches!(value, HeaderValue::Environment { .. });
        let text = match value {
            HeaderValue::Literal(text) => text.clone(),
            HeaderValue::Environment {
                prefix,
                name: variable,
                suffix,
            } => {
                let value = environment(variable)
                    .ok_or_else(|| NotReady(format!("backend `{}` needs the environment variable `{variable}`, which is not set", backend.id)))?;
                format!("{prefix}{value}{suffix}")
            }
        };
        let name: HeaderName = name
            .parse()
            .map_err(|_| NotReady(format!("`{name}` is no header name")))?;
        let mut value: HttpValue = text.parse().map_err(|_| {
            NotReady(format!(
                "the value of header `{name}` has characters that no header may have"
            ))
        })?;
        value.set_sensitive(
            secret || name == AUTHORIZATION || matches!(backend.kind, BackendKind::Friendli),
        );
        map.insert(name, value);
    }
    Ok(map)
}
