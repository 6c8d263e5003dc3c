//! Asks a backend whether it is there, where its API is and which models it lists.

use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue as HttpValue};

use crate::engine::simulator::{SimulatorConfig, SimulatorHandle};
use crate::observation::EngineFacts;
use crate::plan::{Backend, BackendKind, HeaderValue, Model};
use crate::units::format_duration;
use crate::wire::fetch::FetchError;
use crate::wire::{Answer, Endpoint, fetch, tls};

/// Between two probes of a server that does not answer yet.
const INTERVAL: Duration = Duration::from_millis(250);
/// One probe takes no longer.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Looks up an environment variable; an empty one counts as unset.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Told after each probe that failed, with the reason; `false` ends the waiting.
pub type Waiting<'a> = &'a mut dyn FnMut(&str) -> bool;

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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| NotReady(format!("no runtime for the probe: {error}")))?;
    let found = runtime.block_on(find(backend, &url, environment, waiting))?;
    let simulated = simulator.is_some() || found.says_simulated;
    let model = name_of(model, backend, &found)?;
    Ok(Ready {
        facts: EngineFacts {
            url: found.endpoint.to_string(),
            version: found.version,
            models: found.models,
            simulated,
        },
        endpoint: found.endpoint,
        headers: found.headers,
        model,
        simulator,
    })
}

fn start_simulator(
    backend: &Backend,
    model: &Model,
    seed: u64,
) -> Result<SimulatorHandle, NotReady> {
    let preset = backend.preset.clone().unwrap_or_else(|| "fast".to_owned());
    let config = SimulatorConfig {
        served_models: model
            .name_for(&backend.id)
            .map(str::to_owned)
            .into_iter()
            .collect(),
        seed,
        ..SimulatorConfig::named(&preset).map_err(|error| NotReady(error.to_string()))?
    };
    crate::engine::simulator::start(config)
        .map_err(|error| NotReady(format!("the simulator cannot start: {error}")))
}

/// What a probe found.
struct Found {
    endpoint: Endpoint,
    headers: HeaderMap,
    models: Vec<String>,
    version: Option<String>,
    says_simulated: bool,
}

async fn find(
    backend: &Backend,
    url: &str,
    environment: Environment<'_>,
    waiting: Waiting<'_>,
) -> Result<Found, NotReady> {
    let headers = headers(backend, environment)?;
    let config = tls::client_config(backend.tls.ca.as_deref(), backend.tls.insecure)
        .map_err(|error| NotReady(error.to_string()))?;
    let written = Endpoint::resolve(url, || config)
        .await
        .map_err(|error| NotReady(error.to_string()))?;
    let began = Instant::now();
    loop {
        let problem = match look(&written, &headers).await {
            Ok((endpoint, models)) => {
                let (version, says_simulated) = version(&endpoint, &headers).await;
                return Ok(Found {
                    endpoint,
                    headers,
                    models,
                    version,
                    says_simulated,
                });
            }
            Err(Problem::Final(error)) => return Err(error),
            Err(Problem::NotYet(error)) => error,
        };
        let waited = began.elapsed();
        if waited + INTERVAL > backend.ready_timeout {
            let limit = format_duration(backend.ready_timeout);
            return Err(NotReady(format!(
                "backend `{}` at {written} is not ready after {limit}: {problem}",
                backend.id
            )));
        }
        if !waiting(&problem.0) {
            return Err(NotReady(format!(
                "stopped while waiting for backend `{}` at {written}: {problem}",
                backend.id
            )));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

enum Problem {
    /// It may come up yet.
    NotYet(NotReady),
    /// Waiting does not help.
    Final(NotReady),
}

/// Asks for the list of models, under `/v1` too where the URL does not name it.
async fn look(written: &Endpoint, headers: &HeaderMap) -> Result<(Endpoint, Vec<String>), Problem> {
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
            200 => return Ok((endpoint.clone(), model_names(&answer))),
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
    // Some servers list no models; then their health page decides.
    let root = written.with_prefix(written.prefix.trim_end_matches("/v1"));
    match fetch(&root, "/health", headers, None, PROBE_LIMIT).await {
        Ok(health) if health.status == 200 => Ok((candidates[0].clone(), Vec::new())),
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

fn model_names(answer: &Answer) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let entries = list["data"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| entry["id"].as_str())
        .map(str::to_owned)
        .collect()
}

/// The engine's version, where it tells one; and whether it says that it is simulated.
async fn version(endpoint: &Endpoint, headers: &HeaderMap) -> (Option<String>, bool) {
    let root = endpoint.with_prefix(endpoint.prefix.trim_end_matches("/v1"));
    let Ok(answer) = fetch(&root, "/version", headers, None, PROBE_LIMIT).await else {
        return (None, false);
    };
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let simulated = told["simulated"].as_bool().unwrap_or(false);
    (
        told["version"]
            .as_str()
            .filter(|_| answer.status == 200)
            .map(str::to_owned),
        simulated,
    )
}

fn name_of(model: &Model, backend: &Backend, found: &Found) -> Result<String, NotReady> {
    let listed = found.models.join("`, `");
    match (model.name_for(&backend.id), found.models.as_slice()) {
        // The simulator that is served alone takes any name.
        (Some(name), models)
            if refuses_others(backend.kind)
                && !found.says_simulated
                && !models.is_empty()
                && !models.iter().any(|known| known == name) =>
        {
            Err(NotReady(format!(
                "{} lists the model `{listed}` and not `{name}`: name what it serves under `models`",
                found.endpoint
            )))
        }
        (Some(name), _) => Ok(name.to_owned()),
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
        | BackendKind::Openai => false,
    }
}

fn headers(backend: &Backend, environment: Environment<'_>) -> Result<HeaderMap, NotReady> {
    let mut map = HeaderMap::new();
    for (name, value) in &backend.headers {
        let text = match value {
            HeaderValue::Literal(text) => text.clone(),
            HeaderValue::Environment {
                prefix,
                name: variable,
            } => {
                let value = environment(variable)
                    .ok_or_else(|| NotReady(format!("backend `{}` needs the environment variable `{variable}`, which is not set", backend.id)))?;
                format!("{prefix}{value}")
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
        value.set_sensitive(name == AUTHORIZATION || matches!(backend.kind, BackendKind::Friendli));
        map.insert(name, value);
    }
    Ok(map)
}
