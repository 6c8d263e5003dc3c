//! Backends and models as written become backends and models with nothing left to decide.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Api, Backend, BackendKind, EngineMetrics, Gpus, HeaderValue, Model, PlanOptions, ReadyRule,
    RequestParameters, SimulatedArgs, Tls, external, launch, presets,
};
use crate::diagnostic::{Diagnostic, Sources, Spanned, did_you_mean};
use crate::spec::{
    self, ArgsSpec, BackendSpec, EngineMetricsSpec, Entry, GpusSpec, HeaderSpec, Id, Interface,
    JsonMap, ModelSpec, Proxy, ScenarioSpec, SecretSpec,
};
use crate::workload::{Tokenizer, WorkloadError};

/// How long an attached backend may take to answer its probe.
const READY: Duration = Duration::from_secs(10);

/// The models of the scenario; without any, the one that the server lists.
pub(super) fn models(
    spec: &ScenarioSpec,
    options: &PlanOptions,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Vec<Model> {
    let Some(entries) = &spec.models else {
        return vec![Model {
            key: "default".to_owned(),
            id: None,
            served_as: Vec::new(),
            tokenizer: None,
            context: None,
            launch_args: Vec::new(),
            lora: Vec::new(),
        }];
    };
    entries
        .iter()
        .map(|entry| model(spec, entry, options, sources, found))
        .collect()
}

fn model(
    spec: &ScenarioSpec,
    entry: &Entry<ModelSpec>,
    options: &PlanOptions,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Model {
    let served_as = entry.value.served_as.iter().flatten().map(|served| {
        if spec.backends.get(&served.key.value).is_none() {
            found.push(unknown_backend(spec, &served.key));
        }
        (served.key.value.to_string(), served.value.value.clone())
    });
    let served_as = served_as.collect();
    let launch = entry.value.launch.as_ref();
    let launch_args = launch.and_then(|launch| launch.args.as_ref());
    let launch_args = launch_args.into_iter().flatten().map(|args| {
        if spec.backends.get(&args.key.value).is_none() {
            found.push(unknown_backend(spec, &args.key));
        }
        (args.key.value.to_string(), args.value.clone())
    });
    Model {
        key: entry.key.value.to_string(),
        id: entry.value.id.as_ref().map(|id| id.value.clone()),
        served_as,
        context: entry.value.context.as_ref().map(|tokens| tokens.value),
        launch_args: launch_args.collect(),
        lora: entry
            .value
            .lora
            .iter()
            .flatten()
            .map(|adapter| (adapter.key.value.clone(), adapter.value.value))
            .collect(),
        tokenizer: entry
            .value
            .tokenizer
            .as_ref()
            .and_then(|named| tokenizer(named, options, sources, found)),
    }
}

/// The tokenizer of a model. Where it is on a hub that may not be asked, lengths are estimated: a check sends nothing, and a
/// simulated run needs no exact lengths.
fn tokenizer(
    named: &Spanned<String>,
    options: &PlanOptions,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<Tokenizer>> {
    let folder = sources.directory(named.span.source);
    let opened = options
        .library
        .tokenizer(&named.value, folder)
        .and_then(|files| Tokenizer::open(&files));
    match opened {
        Ok(tokenizer) => Some(Arc::new(tokenizer)),
        Err(error) => {
            let elsewhere = matches!(
                error,
                WorkloadError::NotCached { .. } | WorkloadError::Fetch { .. }
            );
            found.push(if elsewhere && (options.simulate || options.dry) {
                Diagnostic::warning("L150", format!("{error}: lengths are estimated"))
                    .at(named.span, "")
            } else {
                Diagnostic::error("S151", error.to_string())
                    .at(named.span, "")
                    .help("write a path to a `tokenizer.json` or its folder, or the name of a model on the hub")
            });
            None
        }
    }
}

fn unknown_backend(spec: &ScenarioSpec, key: &Spanned<Id>) -> Diagnostic {
    let error =
        Diagnostic::error("S063", format!("there is no backend `{}`", key.value)).at(key.span, "");
    match did_you_mean(&key.value, spec.backends.names()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// The backend of an entry, playing `model` if it is, or is swapped for, a simulator.
pub(super) fn backend(
    entry: &Entry<BackendSpec>,
    model: Option<&Model>,
    simulate: bool,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Backend {
    let spec = &entry.value;
    let kind = kind(entry);
    if let Some(preset) = &spec.preset {
        check_preset(preset, found);
    }
    if kind != BackendKind::Simulator
        && spec.url.is_none()
        && spec.launch.is_none()
        && !is_offline(spec)
    {
        found.push(
            Diagnostic::error(
                "S056",
                format!("backend `{}` has no address", entry.key.value),
            )
            .at(entry.key.span, "")
            .help(format!(
                "write `{}: {{ kind: {}, url: http://localhost:8000 }}`, or `launch: {{}}` to have it started",
                entry.key.value,
                kind.name()
            )),
        );
    }
    let simulated = Backend {
        id: entry.key.value.to_string(),
        kind: BackendKind::Simulator,
        url: None,
        api: simulated_api(api(spec)),
        headers: Vec::new(),
        preset: Some(preset(spec, kind, model)),
        simulated: SimulatedArgs::of(
            given(spec, model, &entry.key.value)
                .iter()
                .map(|(name, value)| (name.as_str(), value)),
        ),
        tls: Tls::default(),
        proxy: false,
        optional: false,
        // Whatever the engine's own page is, the simulator has not got it.
        ready: ReadyRule::attached(READY),
        launch: None,
        up: Vec::new(),
        down: Vec::new(),
        metrics: EngineMetrics::Auto,
        gpus: Gpus::Auto,
        external_bench: None,
    };
    if simulate || (kind == BackendKind::Simulator && spec.url.is_none()) {
        return simulated;
    }
    Backend {
        kind,
        api: api(spec),
        url: spec.url.as_ref().map(|url| url.value.to_string()),
        headers: headers(spec),
        preset: spec.preset.as_ref().map(|preset| preset.value.clone()),
        tls: tls(spec, sources),
        proxy: spec
            .proxy
            .as_ref()
            .is_some_and(|proxy| proxy.value == Proxy::Environment),
        optional: spec
            .optional
            .as_ref()
            .is_some_and(|optional| optional.value),
        ready: launch::ready(spec, kind, api(spec), READY),
        launch: launch::launch(entry, kind, model, sources, found),
        up: spec.up.as_ref().map(launch::words).unwrap_or_default(),
        down: spec.down.as_ref().map(launch::words).unwrap_or_default(),
        metrics: metrics(spec),
        gpus: gpus(spec),
        external_bench: spec
            .external_bench
            .as_ref()
            .and_then(|bench| external::external(bench, kind, entry.key.span, found)),
        ..simulated
    }
}

/// What this version knows of and cannot do, once for each backend.
pub(super) fn check(entry: &Entry<BackendSpec>, found: &mut Vec<Diagnostic>) {
    let spec = &entry.value;
    if let Some(written) = spec
        .api
        .as_ref()
        .filter(|_| kind(entry) == BackendKind::Simulator && simulated_api(api(spec)) != api(spec))
    {
        found.push(
            Diagnostic::error("S062", "the simulator does not speak this API yet")
                .at(written.span, "")
                .help("it speaks `chat` and `completions`"),
        );
    }
}

/// The kind that is written, else the id where it is a kind's name, else any server of the OpenAI API.
pub(super) fn kind(entry: &Entry<BackendSpec>) -> BackendKind {
    let by_name = |name: &str| {
        BackendKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
    };
    entry
        .value
        .kind
        .as_ref()
        .and_then(|kind| by_name(kind.value.name()))
        .or_else(|| by_name(&entry.key.value))
        .unwrap_or(
            if entry.value.preset.is_some() && entry.value.url.is_none() {
                BackendKind::Simulator
            } else {
                BackendKind::Openai
            },
        )
}

/// Whether the engine is driven inside of a child process.
pub(super) fn is_offline(spec: &BackendSpec) -> bool {
    spec.interface
        .as_ref()
        .is_some_and(|interface| interface.value == Interface::Offline)
}

fn api(spec: &BackendSpec) -> Api {
    if is_offline(spec) {
        return Api::Offline;
    }
    match spec.api.as_ref().map(|api| api.value) {
        Some(spec::Api::Completions) => Api::Completions,
        Some(spec::Api::Responses) => Api::Responses,
        Some(spec::Api::Messages) => Api::Messages,
        Some(spec::Api::Generate) => Api::Generate,
        Some(spec::Api::Triton) => Api::Triton,
        Some(spec::Api::Tgi) => Api::Tgi,
        Some(spec::Api::Ollama) => Api::Ollama,
        Some(spec::Api::Chat) | None => Api::Chat,
    }
}

/// The simulator speaks the two oldest languages; the others are played in chat.
fn simulated_api(api: Api) -> Api {
    match api {
        Api::Completions => Api::Completions,
        Api::Chat
        | Api::Responses
        | Api::Messages
        | Api::Generate
        | Api::Triton
        | Api::Tgi
        | Api::Ollama
        | Api::Offline => Api::Chat,
    }
}

/// Adapters of a model at a backend whose language names no model in its requests.
pub(super) fn check_adapters(
    entry: &Entry<BackendSpec>,
    model: &Model,
    found: &mut Vec<Diagnostic>,
) {
    let api = api(&entry.value);
    match api {
        Api::Chat | Api::Completions | Api::Responses | Api::Messages => return,
        Api::Generate | Api::Triton | Api::Tgi | Api::Ollama | Api::Offline => {}
    }
    if model.lora.is_empty() {
        return;
    }
    found.push(
        Diagnostic::error(
            "S074",
            format!("the API `{}` has no adapters by name", api.name()),
        )
        .at(
            entry.key.span,
            format!("`lora` of model `{}` is asked of this backend", model.key),
        )
        .help("leave the model out there with `matrix.exclude`, or speak `api: chat`"),
    );
}

/// Prompts with images at a backend whose language shows none, as they are written here.
pub(super) fn check_images(entry: &Entry<BackendSpec>, set: &str, found: &mut Vec<Diagnostic>) {
    let api = api(&entry.value);
    if api != Api::Chat {
        found.push(
            Diagnostic::error(
                "S074",
                format!("the API `{}` is shown no images", api.name()),
            )
            .at(entry.key.span, format!("`{set}` has prompts with images"))
            .help("leave the set out there with `matrix.exclude`, or speak `api: chat`"),
        );
    }
}

/// What is asked of the engine and cannot be said in its language.
pub(super) fn check_request(
    entry: &Entry<BackendSpec>,
    request: &RequestParameters,
    found: &mut Vec<Diagnostic>,
) {
    let api = api(&entry.value);
    let asked = [
        ("top_k", request.top_k.is_some()),
        ("seed", request.seed.is_some()),
        ("stop", !request.stop.is_empty()),
        ("thinking: on", request.wishes.thinking == Some(true)),
        ("thinking: off", request.wishes.thinking == Some(false)),
        ("response_format", request.wishes.response_format.is_some()),
        ("tools", !request.wishes.tools.is_empty()),
    ];
    let lacks: &[&str] = match api {
        Api::Chat | Api::Ollama => &[],
        // No chat template, no tools, no thoughts apart.
        Api::Completions | Api::Generate | Api::Tgi => &["thinking: on", "thinking: off", "tools"],
        Api::Responses => &["top_k", "seed", "stop", "thinking: on", "thinking: off"],
        // Thoughts have a budget there, which `extra` can name.
        Api::Messages => &["seed", "thinking: on", "response_format"],
        Api::Triton | Api::Offline => {
            &["thinking: on", "thinking: off", "response_format", "tools"]
        }
    };
    for (name, _) in asked
        .iter()
        .filter(|(name, asked)| *asked && lacks.contains(name))
    {
        let place = entry
            .value
            .api
            .as_ref()
            .map_or(entry.key.span, |api| api.span);
        found.push(
            Diagnostic::error("S074", format!("the API `{}` has no `{name}`", api.name()))
                .at(place, format!("`{name}` is asked of this backend"))
                .help("leave it out there, or speak `api: chat`"),
        );
    }
}

/// The arguments that a launched backend is given by name, its own before those for the model.
fn given(spec: &BackendSpec, model: Option<&Model>, id: &str) -> JsonMap {
    let own = spec.launch.as_ref().and_then(|launch| launch.args.as_ref());
    let of_model = model.into_iter().flat_map(|model| &model.launch_args);
    let of_model = of_model.filter(|(backend, _)| backend == id);
    let mut all = JsonMap::new();
    for args in own.into_iter().chain(of_model.map(|(_, args)| args)) {
        if let ArgsSpec::Named(args) = args {
            all.extend(args.clone());
        }
    }
    all
}

fn preset(spec: &BackendSpec, kind: BackendKind, model: Option<&Model>) -> String {
    match &spec.preset {
        Some(preset) => preset.value.clone(),
        None => presets::nearest(kind, model).to_owned(),
    }
}

fn check_preset(preset: &Spanned<String>, found: &mut Vec<Diagnostic>) {
    if presets::PRESETS.contains(&preset.value.as_str()) {
        return;
    }
    let help = match did_you_mean(&preset.value, presets::PRESETS.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", presets::PRESETS.join(", ")),
    };
    found.push(
        Diagnostic::error(
            "S057",
            format!("the simulator has no preset `{}`", preset.value),
        )
        .at(preset.span, "")
        .help(help),
    );
}

/// The value of a header, or where it comes from.
pub(super) fn header_value(written: &HeaderSpec) -> HeaderValue {
    match written {
        HeaderSpec::Literal(text) => HeaderValue::Literal(text.value.clone()),
        HeaderSpec::Environment(secret) => from_environment("", secret),
    }
}

fn headers(spec: &BackendSpec) -> Vec<(String, HeaderValue)> {
    let bearer = spec.auth.iter().map(|auth| {
        let value = from_environment("Bearer ", &auth.bearer);
        ("Authorization".to_owned(), value)
    });
    let written = spec
        .headers
        .iter()
        .flatten()
        .map(|header| (header.key.value.clone(), header_value(&header.value)));
    bearer.chain(written).collect()
}

/// The value of an environment variable, with what stands around it.
pub(super) fn from_environment(before: &str, secret: &SecretSpec) -> HeaderValue {
    let text = |text: &Option<Spanned<String>>| {
        text.as_ref()
            .map_or("", |text| text.value.as_str())
            .to_owned()
    };
    HeaderValue::Environment {
        prefix: before.to_owned() + &text(&secret.prefix),
        name: secret.env.value.clone(),
        suffix: text(&secret.suffix),
    }
}

fn tls(spec: &BackendSpec, sources: &Sources) -> Tls {
    let Some(tls) = &spec.tls else {
        return Tls::default();
    };
    Tls {
        ca: tls
            .ca
            .as_ref()
            .map(|ca| sources.directory(ca.span.source).join(&ca.value)),
        insecure: tls.insecure.as_ref().is_some_and(|insecure| insecure.value),
    }
}

fn metrics(spec: &BackendSpec) -> EngineMetrics {
    match spec.metrics.as_ref().map(|metrics| &metrics.value) {
        Some(EngineMetricsSpec::Off) => EngineMetrics::Off,
        Some(EngineMetricsSpec::Url(url)) => EngineMetrics::Url(url.to_string()),
        Some(EngineMetricsSpec::Auto) | None => EngineMetrics::Auto,
    }
}

fn gpus(spec: &BackendSpec) -> Gpus {
    match spec.gpus.as_ref().map(|gpus| &gpus.value) {
        Some(GpusSpec::Off) => Gpus::Off,
        Some(GpusSpec::Dcgm { url, devices }) => Gpus::Dcgm {
            url: url.value.to_string(),
            devices: devices.iter().map(|index| index.value).collect(),
        },
        Some(GpusSpec::Nvml(indices)) => {
            Gpus::Nvml(indices.iter().map(|index| index.value).collect())
        }
        Some(GpusSpec::Auto) | None => Gpus::Auto,
    }
}
