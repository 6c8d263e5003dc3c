//! The engine's own metrics page.

use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::runtime::Runtime;

use super::probe::Ready;
use crate::plan::{Api, Backend, BackendKind, EngineMetrics, Tls};
use crate::wire::{Endpoint, fetch, tls};

/// How long one page may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Fetches the page, or says why there is none; ends within its own time limit.
pub type Page = Box<dyn FnMut() -> Result<String, String> + Send>;

/// The metrics page of a backend; `None` when it has none and none was asked for.
///
/// # Errors
/// A page that the scenario names does not answer.
pub fn metrics_page(backend: &Backend, ready: &Ready) -> Result<Option<Page>, String> {
    if ready.offline.is_some() {
        return Ok(None);
    }
    let runtime = runtime()?;
    let (endpoint, path, headers) = match &backend.metrics {
        EngineMetrics::Off => return Ok(None),
        EngineMetrics::Auto => {
            let root = ready.endpoint.prefix.trim_end_matches("/v1");
            // The page at `/metrics` of TensorRT-LLM's server is no Prometheus page.
            let path = match backend.kind {
                BackendKind::TensorrtLlm if backend.api != Api::Triton => "/prometheus/metrics",
                _ => "/metrics",
            };
            (
                ready.endpoint.with_prefix(root),
                path,
                ready.headers.clone(),
            )
        }
        EngineMetrics::Url(url) => (resolve(url, &backend.tls, &runtime)?, "", HeaderMap::new()),
    };
    let mut page = fetching(endpoint, path, headers, runtime);
    match (page(), &backend.metrics) {
        (Ok(_), _) => Ok(Some(page)),
        (Err(problem), EngineMetrics::Url(_)) => Err(format!("no engine metrics: {problem}")),
        // Most engines have a page only when they were asked for one at their start.
        (Err(_), EngineMetrics::Auto | EngineMetrics::Off) => Ok(None),
    }
}

/// Any page at a URL.
///
/// # Errors
/// The URL names no host that can be resolved.
pub fn page(url: &str, tls: &Tls) -> Result<Page, String> {
    let runtime = runtime()?;
    let endpoint = resolve(url, tls, &runtime)?;
    Ok(fetching(endpoint, "", HeaderMap::new(), runtime))
}

fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

fn resolve(url: &str, trust: &Tls, runtime: &Runtime) -> Result<Endpoint, String> {
    let config = || tls::client_config(trust.ca.as_deref(), trust.insecure);
    runtime
        .block_on(Endpoint::resolve(url, config))
        .map_err(|error| error.to_string())
}

fn fetching(endpoint: Endpoint, path: &'static str, headers: HeaderMap, runtime: Runtime) -> Page {
    Box::new(
        move || match runtime.block_on(fetch(&endpoint, path, &headers, None, LIMIT)) {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            Ok(answer) => Err(format!("{endpoint}{path} answers {}", answer.status)),
            Err(error) => Err(error.to_string()),
        },
    )
}
