//! What must be alike where backends are compared, as far as a plan knows it before anything has been asked.

use serde_json::Value;

use super::{Api, BackendKind, Cell, Launch, RequestParameters};

pub use crate::spec::Fairness;

/// Something that must be alike for a comparison of backends to be one of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Whether the numbers are measured or simulated.
    Engine,
    /// The model.
    Model,
    /// The type of its weights, its quantization, and that of the KV cache.
    Dtype,
    /// The longest context that the engine takes.
    ContextLength,
    /// What is asked with each request.
    Sampling,
    /// The prompts.
    Prompts,
    /// What is put around a prompt before the model sees it.
    ChatTemplate,
    /// Where token counts come from.
    TokenSource,
    /// How the engine is spoken to.
    Interface,
    /// What is sent before it is measured.
    Warmup,
    /// What its prefix cache is asked to do, and holds.
    CacheState,
    /// The GPUs that it runs on.
    Gpu,
}

impl Matter {
    /// All of them, in the order of documents.
    pub const ALL: [Matter; 12] = [
        Matter::Engine,
        Matter::Model,
        Matter::Dtype,
        Matter::ContextLength,
        Matter::Sampling,
        Matter::Prompts,
        Matter::ChatTemplate,
        Matter::TokenSource,
        Matter::Interface,
        Matter::Warmup,
        Matter::CacheState,
        Matter::Gpu,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Matter::Engine => "engine",
            Matter::Model => "model",
            Matter::Dtype => "dtype",
            Matter::ContextLength => "context length",
            Matter::Sampling => "sampling",
            Matter::Prompts => "prompts",
            Matter::ChatTemplate => "chat template",
            Matter::TokenSource => "token source",
            Matter::Interface => "interface",
            Matter::Warmup => "warm-up",
            Matter::CacheState => "cache state",
            Matter::Gpu => "GPU",
        }
    }

    /// What the plan says of it for a cell; `None` where only a run can tell.
    pub fn planned(self, cell: &Cell) -> Option<String> {
        let argument = |names: &[&str]| argument(cell.backend.launch.as_ref()?, names);
        match self {
            Matter::Engine => cell.backend.is_simulated().then(|| "simulated".to_owned()),
            Matter::Model => cell.model.id.clone(),
            Matter::Dtype => dtype(cell),
            Matter::ContextLength => argument(&[
                "max-model-len",
                "context-length",
                "max-seq-len",
                "ctx-size",
                "c",
            ]),
            Matter::Sampling => Some(sampling(&cell.request)),
            Matter::Prompts => Some(format!("b3:{}", short(cell.workload.digest()))),
            Matter::ChatTemplate => Some(template(cell)),
            Matter::TokenSource | Matter::Gpu => None,
            Matter::Interface => Some(match cell.backend.api {
                Api::Offline => "offline".to_owned(),
                api if cell.backend.proxy => format!("HTTP by a proxy, {}", api.name()),
                api => format!("HTTP, {}", api.name()),
            }),
            Matter::Warmup => Some(warmup(cell)),
            Matter::CacheState => Some(cache(cell)),
        }
    }
}

/// The cells that differ in their backend alone, each group as indices of cells: what one looks at side by side.
pub fn compared(cells: &[Cell]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        let asked = |cell: &Cell| {
            (
                cell.model.key.clone(),
                cell.prompts.clone(),
                cell.load.clone(),
            )
        };
        match groups
            .iter_mut()
            .find(|group| asked(&cells[group[0]]) == asked(cell))
        {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// Each matter in which the plan itself treats compared backends differently: `sampling: temperature 0 (a), temperature 1 (b)`.
pub(super) fn differences(cells: &[Cell]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for group in compared(cells) {
        for matter in Matter::ALL {
            let values: Vec<(&str, Option<String>)> = group
                .iter()
                .map(|&index| {
                    (
                        cells[index].backend.id.as_str(),
                        matter.planned(&cells[index]),
                    )
                })
                .collect();
            if differ(values.iter().map(|(_, value)| value)) {
                let text = format!("{}: {}", matter.name(), listed(&values));
                if !found.contains(&text) {
                    found.push(text);
                }
            }
        }
    }
    found
}

/// Whether two of them are known and not the same. What is not known is no difference.
pub fn differ<'a>(values: impl Iterator<Item = &'a Option<String>>) -> bool {
    let mut known = values.flatten();
    known
        .next()
        .is_some_and(|first| known.any(|other| other != first))
}

/// `4096 (vllm), 8192 (sglang)`.
pub fn listed(values: &[(&str, Option<String>)]) -> String {
    let said = values.iter().map(|(backend, value)| {
        let value = value.as_deref().unwrap_or("not known");
        format!("{value} ({backend})")
    });
    said.collect::<Vec<_>>().join(", ")
}

/// The first digits of a hash tell it apart.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

// ---- what a launched engine is told ----

/// The value of a launched engine's argument by any of its names, however it is written; a flag alone is `true`.
fn argument(launch: &Launch, names: &[&str]) -> Option<String> {
    let is_meant = |name: &str| names.contains(&name.replace('_', "-").as_str());
    if let Some(Value::Object(args)) = launch.offline.as_ref().map(|offline| &offline.args) {
        return args
            .iter()
            .find(|(name, _)| is_meant(name))
            .map(|(_, value)| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
    }
    let mut words = launch.words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-') else {
            continue;
        };
        let flag = flag.trim_start_matches('-');
        match flag.split_once('=') {
            Some((name, value)) if is_meant(name) => return Some(value.to_owned()),
            None if is_meant(flag) => {
                let value = words.peek().filter(|next| !next.starts_with('-'));
                return Some(value.map_or_else(|| "true".to_owned(), |value| (*value).clone()));
            }
            _ => {}
        }
    }
    None
}

fn dtype(cell: &Cell) -> Option<String> {
    let argument = |names: &[&str]| argument(cell.backend.launch.as_ref()?, names);
    let file = argument(&["m", "model", "hf-repo", "hf"]).or_else(|| cell.model.id.clone());
    let said: Vec<String> = [
        argument(&["dtype"]),
        argument(&["quantization", "q"]).map(|how| format!("quantization {how}")),
        file.as_deref().and_then(quantized_file),
        argument(&["kv-cache-dtype", "cache-type-k", "ctk"]).map(|how| format!("KV cache {how}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// What the name of a GGUF file, or of a repository with a tag, says of its weights: `q4_k_m`.
fn quantized_file(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let end = match name.strip_suffix(".gguf") {
        Some(stem) => stem.rsplit(['-', '.', '/']).next()?,
        None => name.rsplit_once(':')?.1,
    };
    let digits = end
        .trim_start_matches("iq")
        .trim_start_matches(['q', 'f', 'b']);
    (digits.len() < end.len() && digits.starts_with(|c: char| c.is_ascii_digit()))
        .then(|| end.to_owned())
}

fn cache(cell: &Cell) -> String {
    let has = |names: &[&str]| {
        let launch = cell.backend.launch.as_ref();
        let told = launch.and_then(|launch| argument(launch, names));
        told.is_some_and(|told| told != "false")
    };
    let off = [
        "no-enable-prefix-caching",
        "disable-radix-cache",
        "no-cache-prompt",
    ];
    let prefix = if has(&off) {
        "no prefix cache"
    } else if has(&["enable-prefix-caching"]) {
        "a prefix cache"
    } else {
        "a prefix cache as the engine has it"
    };
    format!("{}, {prefix}", cell.cache.name())
}

// ---- what is sent ----

/// What is put around a prompt: the engines put their templates around chats, and nothing around a bare prompt.
fn template(cell: &Cell) -> String {
    match cell.backend.api {
        Api::Chat | Api::Responses | Api::Messages | Api::Ollama => {}
        Api::Completions | Api::Generate | Api::Triton | Api::Tgi | Api::Offline => {
            return "none".to_owned();
        }
    }
    let launch = cell.backend.launch.as_ref();
    let file = launch.and_then(|launch| argument(launch, &["chat-template", "chat-template-file"]));
    let mut text = file.unwrap_or_else(|| "the model's".to_owned());
    if let Some(more) = cell.request.beyond().get(TEMPLATE_KEYS) {
        text.push_str(&format!(" with {more}"));
    }
    text
}

/// What engines hand to the chat template.
const TEMPLATE_KEYS: &str = "chat_template_kwargs";

fn sampling(request: &RequestParameters) -> String {
    let number = |name: &str, value: Option<String>| Some(format!("{name} {}", value?));
    let mut said = vec![format!("temperature {}", request.temperature)];
    said.extend(
        [
            number("top_p", request.top_p.map(|value| value.to_string())),
            number("top_k", request.top_k.map(|value| value.to_string())),
            number("seed", request.seed.map(|value| value.to_string())),
            number("max_tokens", Some(request.max_tokens.to_string())),
            number(
                "min_tokens",
                request.min_tokens.map(|value| value.to_string()),
            ),
            (!request.stop.is_empty()).then(|| format!("stop {:?}", request.stop)),
            request.ignore_eos.then(|| "ignore_eos".to_owned()),
            (!request.stream).then(|| "not streamed".to_owned()),
        ]
        .into_iter()
        .flatten(),
    );
    let beyond = request.beyond();
    let beyond = beyond.iter().filter(|(key, _)| *key != TEMPLATE_KEYS);
    said.extend(beyond.map(|(key, value)| format!("{key} {value}")));
    said.join(", ")
}

/// What is sent before the first measured stage.
fn warmup(cell: &Cell) -> String {
    let before = cell.stages.iter().take_while(|stage| !stage.measured);
    let said: Vec<String> = before
        .map(
            |stage| match (stage.requests.value(), stage.expected.value()) {
                (Some(requests), _) => format!("{} {requests} requests", stage.name),
                (None, Some(seconds)) => format!("{} {seconds} s", stage.name),
                (None, None) => stage.name.clone(),
            },
        )
        .collect();
    if said.is_empty() {
        "none".to_owned()
    } else {
        said.join(", ")
    }
}

impl super::Backend {
    /// Whether it is the embedded simulator.
    pub fn is_simulated(&self) -> bool {
        self.kind == BackendKind::Simulator && self.url.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Lifetime, Port, StopSignal};

    fn launched(words: &str) -> Launch {
        Launch {
            words: words.split(' ').map(str::to_owned).collect(),
            env: Vec::new(),
            cwd: None,
            python: None,
            log: None,
            port: Port::Auto,
            lifetime: Lifetime::Backend,
            signal: StopSignal::Term,
            grace: Duration::ZERO,
            after: Vec::new(),
            offline: None,
        }
    }

    #[test]
    fn arguments_are_found_however_they_are_written() {
        let launch =
            launched("vllm serve m --dtype bfloat16 --max-model-len=4096 --enforce-eager -c 512");
        let told = |names: &[&str]| argument(&launch, names);
        assert_eq!(told(&["dtype"]).as_deref(), Some("bfloat16"));
        assert_eq!(told(&["max-model-len"]).as_deref(), Some("4096"));
        assert_eq!(told(&["enforce-eager"]).as_deref(), Some("true"));
        assert_eq!(told(&["c"]).as_deref(), Some("512"));
        assert_eq!(told(&["quantization"]), None);
    }

    #[test]
    fn a_quantized_file_is_known_by_its_name() {
        for (name, told) in [
            ("models/llama-3.1-8b-q4_k_m.gguf", Some("q4_k_m")),
            ("Llama-3.1-8B.BF16.gguf", Some("bf16")),
            ("bartowski/Llama-3.1-8B-GGUF:IQ4_XS", Some("iq4_xs")),
            ("meta-llama/Llama-3.1-8B-Instruct", None),
            ("models/tiny.gguf", None),
        ] {
            assert_eq!(quantized_file(name).as_deref(), told, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_difference() {
        let value = |text: &str| Some(text.to_owned());
        assert!(!differ([value("a"), None, value("a")].iter()));
        assert!(differ([value("a"), None, value("b")].iter()));
        assert!(!differ([None, None].iter()));
    }
}
