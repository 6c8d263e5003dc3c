//! The engine's own benchmark beside ours: what is run, and how what it writes is read.

use std::time::Duration;

use super::{BackendKind, launch};
use crate::diagnostic::{Diagnostic, Span};
use crate::spec::ExternalBenchSpec;

pub use crate::spec::BenchFormat;

/// Stands for the address of the engine in its words, like `http://127.0.0.1:8000`.
pub const URL: &str = "{url}";
/// Stands for the name of the model.
pub const MODEL: &str = "{model}";
/// Stands for the file that it may write its results to.
pub const OUT: &str = "{out}";
/// Stands for the port of the engine.
pub const PORT: &str = "{port}";

/// How long it may take unless the scenario says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The engine's own benchmark. It runs when the last cell of a backend and model is over, against the engine that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalBench {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// How its results are written.
    pub format: BenchFormat,
    /// Which values are read from them, by name: JSONPaths. Only of a format that is not known by itself.
    pub values: Vec<(String, String)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// The benchmark of a backend of this kind.
pub(super) fn external(
    spec: &ExternalBenchSpec,
    kind: BackendKind,
    place: Span,
    found: &mut Vec<Diagnostic>,
) -> Option<ExternalBench> {
    let written = spec.parse.as_ref();
    let format = written.map(|format| format.value).or_else(|| of_kind(kind));
    let Some(format) = format else {
        found.push(
            Diagnostic::error("S078", "it is not known how the results of this benchmark are written")
                .at(place, "")
                .help("write `parse: vllm`, `sglang` or `trtllm`, or `parse: jsonpath` with `values: { name: $.path }`"),
        );
        return None;
    };
    let values: Vec<(String, String)> = spec
        .values
        .iter()
        .flatten()
        .map(|value| (value.key.value.clone(), value.value.value.clone()))
        .collect();
    let at = written.map_or(place, |written| written.span);
    match (format == BenchFormat::Jsonpath, values.is_empty()) {
        (true, true) => found.push(
            Diagnostic::error("S078", "`parse: jsonpath` reads nothing without `values`")
                .at(at, "")
                .help("write `values: { output_tps: $.throughput.output }`"),
        ),
        (false, false) => found.push(
            Diagnostic::error(
                "S078",
                format!("`parse: {}` has values of its own", format.name()),
            )
            .at(at, "")
            .help("leave `values` out, or write `parse: jsonpath`"),
        ),
        (true, false) | (false, true) => {}
    }
    for value in spec.values.iter().flatten() {
        if let Err(error) = serde_json_path::JsonPath::parse(&value.value.value) {
            found.push(
                Diagnostic::error("S078", format!("this is no JSONPath: {error}"))
                    .at(value.value.span, "")
                    .help("write it like `$.latency.ttft.p99`"),
            );
        }
    }
    Some(ExternalBench {
        words: launch::words(&spec.command),
        format,
        values,
        timeout: spec
            .timeout
            .as_ref()
            .map_or(TIMEOUT, |timeout| timeout.value),
    })
}

/// What comes with an engine of this kind.
fn of_kind(kind: BackendKind) -> Option<BenchFormat> {
    match kind {
        BackendKind::Vllm => Some(BenchFormat::Vllm),
        BackendKind::Sglang => Some(BenchFormat::Sglang),
        BackendKind::TensorrtLlm => Some(BenchFormat::Trtllm),
        BackendKind::Friendli
        | BackendKind::LlamaCpp
        | BackendKind::Ollama
        | BackendKind::Transformers
        | BackendKind::Openai
        | BackendKind::Simulator => None,
    }
}
