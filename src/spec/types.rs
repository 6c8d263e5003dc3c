//! What a scenario file may say, key by key: typed and spanned, not yet defaulted.
//!
//! Every record and word list here is written once and gives three things: the type, its decoder, and its JSON Schema. The doc
//! comments are the hovers of an editor, so they speak to the writer of a scenario, and name the default that the plan fills in.

use std::path::PathBuf;
use std::time::Duration;

use super::late::Asked;
use super::macros::{record, words};
use super::rules;
use super::search::SearchSpec;
use super::values::{
    Entries, Files, Id, JsonMap, JsonValue, OneOrMany, Profiles, SloKey, Table, Url, VersionNumber,
    VersionRange,
};
use super::vars::{SecretDeclaration, VarName, VarSpec};
use crate::diagnostic::{Span, Spanned};
use crate::units::{Rate, Share};

record! {
    /// A scenario: which engines answer which prompts under which load, and what must hold.
    pub struct ScenarioSpec {
        open: true;
        /// The version of this format: 1.
        pub version: Spanned<VersionNumber>,
        /// The scenario's name in every report; the file's stem if it is left out.
        pub name: Option<Spanned<Id>>,
        /// What the scenario is for, in a sentence.
        pub description: Option<Spanned<String>>,
        /// Who answers for it.
        pub owner: Option<Spanned<String>>,
        /// The versions of the tool that can run this file, like `>=0.3`. An older tool stops before anything else.
        pub requires: Option<Spanned<VersionRange>>,
        /// The engines under test, by id. Short form: `vllm: http://localhost:8000`.
        pub backends: Entries<BackendSpec>,
        /// The models, by id; without it, the one model that the server lists. Short form: `llama8b: meta-llama/Llama-3.1-8B-Instruct`.
        pub models: Option<Entries<ModelSpec>>,
        /// The prompt sets, by id; without it, the built-in set `chat`.
        pub prompts: Option<Entries<PromptsSpec>>,
        /// The loads, by id: each has `stages`, `levels` or `batch`.
        pub load: Entries<LoadSpec>,
        /// What is asked of the engine with each request. Also under a backend, a model or a prompt set; the nearer wins, key by key.
        pub request: Option<Asked>,
        /// Which combinations run; without it, everything that is named times everything.
        pub matrix: Option<MatrixSpec>,
        /// How the run goes: seed, repeats, order, pauses, bounds.
        pub run: Option<RunSpec>,
        /// What must hold, by id. Short form: `ttft: P95 TTFT < 500ms`. Without it, nothing is gated.
        pub slos: Option<Entries<SloSpec, SloKey>>,
        /// The built-in doubts about a measurement, each with its bound or `off`.
        pub guards: Option<GuardsSpec>,
        /// Bounds that make a request good: `{ ttft: 500ms, tpot: 50ms }`, or a list of `{ where, bounds }`.
        pub goodput: Option<GoodputSpec>,
        /// An earlier report to compare with.
        pub baseline: Option<BaselineSpec>,
        /// How GPUs and engines are watched while they work.
        pub telemetry: Option<TelemetrySpec>,
        /// What the report shows beyond the measurements.
        pub report: Option<ReportSpec>,
        /// Files to write, and receivers to send the numbers to, when the run has ended.
        pub outputs: Option<Vec<OutputFormat>>,
        /// What a difference between backends that are compared does: `strict`, `warn` or `off`. Default: `warn`.
        pub fairness: Option<Spanned<Fairness>>,
        /// Engines with and without a server may stand in one table. Default: `false`.
        pub allow_mixed_interface: Option<Spanned<bool>>,
        /// Metrics of your own.
        pub metrics: Option<MetricsSpec>,
        /// Prices, for cost metrics.
        pub cost: Option<CostSpec>,
        /// Files that this one inherits from, relative to it: later ones win, this one wins over all.
        pub extends: Option<Files>,
        /// Libraries, relative to this file: each adds entries to registries, SLOs, variables and secrets.
        pub include: Option<Files>,
        /// Variables, for expressions like `${{ vars.peak }}`. Short form: `peak: 16`.
        pub vars: Option<Entries<VarSpec, VarName>>,
        /// Secrets, for `${{ secrets.token }}` in `auth` and `headers`: `{ env: NAME }`.
        pub secrets: Option<Entries<SecretDeclaration, VarName>>,
        /// Overlays by name, for `--profile`: each changes what it names, `null` takes an entry away.
        pub profiles: Option<Profiles>,
    }
}

// ---- backends ----------------------------------------------------------------------------------------------------------------

record! {
    /// An engine under test and how to reach it.
    pub struct BackendSpec {
        short: url;
        check: rules::backend;
        /// What kind of engine it is. Default: the id when it is a kind's name, else `openai`.
        pub kind: Option<Spanned<BackendKind>>,
        /// Where it listens, like `http://localhost:8000`; `/v1` is found by itself.
        pub url: Option<Spanned<Url>>,
        /// Which API is spoken. Default: `chat`.
        pub api: Option<Spanned<Api>>,
        /// Who asks: `{ bearer: { env: NAME } }`. A literal secret is refused.
        pub auth: Option<AuthSpec>,
        /// Headers of every request: `{ Name: text }` or `{ Name: { env: VARIABLE } }`.
        pub headers: Option<Table<HeaderSpec>>,
        /// Which hardware, model and engine the simulator plays, like `a100-llama-3.1-8b-vllm`.
        pub preset: Option<Spanned<String>>,
        /// How TLS trusts.
        pub tls: Option<TlsSpec>,
        /// `env` takes the proxy of the environment; a proxy spoils latencies. Default: `none`.
        pub proxy: Option<Spanned<Proxy>>,
        /// Not reachable: its cells are skipped, which is no error. Default: `false`.
        pub optional: Option<Spanned<bool>>,
        /// How its readiness is found out.
        pub ready: Option<ReadySpec>,
        /// How it is spoken to. Default: `http`.
        pub interface: Option<Spanned<Interface>>,
        /// Its own Prometheus metrics: `auto`, a URL or `none`. Default: `auto`.
        pub metrics: Option<Spanned<EngineMetricsSpec>>,
        /// Which GPUs it runs on: `auto`, `none`, `{ nvml: [0, 1] }` or `{ dcgm: URL, devices: [0] }`. Default: `auto`.
        pub gpus: Option<Spanned<GpusSpec>>,
        /// What the endpoint allows; a plan above it is an error.
        pub limit: Option<LimitSpec>,
        /// What is asked of this engine with each request.
        pub request: Option<Asked>,
        /// How the engine is started, in place of `url`; `{}` takes everything from its kind.
        pub launch: Option<LaunchSpec>,
        /// A command that brings the engine up before its first cell, as a list of words; it ends when the engine is on its way.
        pub up: Option<CommandSpec>,
        /// A command that takes the engine down after its last cell, as a list of words.
        pub down: Option<CommandSpec>,
        /// How a launched engine is stopped.
        pub stop: Option<StopSpec>,
        /// How an offline engine is driven: `stream` or `generate`. Default: `stream`.
        pub mode: Option<Spanned<Mode>>,
        /// The engine's own benchmark, run behind its last cell and shown apart: `{ command, parse, timeout }`.
        pub external_bench: Option<ExternalBenchSpec>,
    }
}

record! {
    /// The engine's own benchmark.
    pub struct ExternalBenchSpec {
        /// The program and its words. `{url}`, `{port}` and `{model}` stand for the engine's, `{out}` for a file that its results may go to.
        pub command: CommandSpec,
        /// How its results are written. Default: as the kind of the engine does.
        pub parse: Option<Spanned<BenchFormat>>,
        /// With `parse: jsonpath`: which values are read, by name, like `{ output_tps: $.throughput.output }`.
        pub values: Option<Table<Spanned<String>>>,
        /// How long it may take. Default: `30m`.
        pub timeout: Option<Spanned<Duration>>,
    }
}

words! {
    /// How the results of a benchmark are written.
    pub enum BenchFormat {
        /// As `vllm bench serve --save-result` does.
        Vllm = "vllm",
        /// As `python -m sglang.bench_serving --output-file` does.
        Sglang = "sglang",
        /// As `trtllm-bench --report_json` does.
        Trtllm = "trtllm",
        /// Any JSON, of which `values` names the parts.
        Jsonpath = "jsonpath",
    }
}

words! {
    /// What kind of engine a backend is.
    pub enum BackendKind {
        /// vLLM.
        Vllm = "vllm",
        /// SGLang.
        Sglang = "sglang",
        /// TensorRT-LLM.
        TensorrtLlm = "tensorrt-llm",
        /// Friendli.
        Friendli = "friendli",
        /// llama.cpp.
        LlamaCpp = "llama.cpp",
        /// Ollama.
        Ollama = "ollama",
        /// The server of Hugging Face Transformers.
        Transformers = "transformers",
        /// Any server that speaks the OpenAI API.
        Openai = "openai",
        /// The embedded simulator.
        Simulator = "simulator",
    }
}

words! {
    /// Which API is spoken.
    pub enum Api {
        /// `/v1/chat/completions`.
        Chat = "chat",
        /// `/v1/completions`.
        Completions = "completions",
        /// `/v1/responses`, OpenAI's newer one.
        Responses = "responses",
        /// `/v1/messages`, Anthropic's; vLLM, SGLang and llama.cpp have it, too.
        Messages = "messages",
        /// `/generate`, SGLang's own.
        Generate = "generate",
        /// `/v2/models/MODEL/generate_stream`, Triton's, before TensorRT-LLM's backend.
        Triton = "triton",
        /// `/generate_stream`, TGI's own.
        Tgi = "tgi",
        /// `/api/chat`, Ollama's own.
        Ollama = "ollama",
    }
}

words! {
    /// How a backend is spoken to.
    pub enum Interface {
        /// As a server.
        Http = "http",
        /// Inside of a child process that an adapter drives, without a server.
        Offline = "offline",
    }
}

words! {
    /// How an offline engine is driven.
    pub enum Mode {
        /// Each request streams its tokens and joins the batch that runs.
        Stream = "stream",
        /// Requests that come together are one batch, answered as a whole.
        Generate = "generate",
    }
}

words! {
    /// Which proxy is used.
    pub enum Proxy {
        /// That of the environment.
        Environment = "env",
        /// None.
        Off = "none",
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthSpec {
    /// The bearer token.
    pub bearer: SecretSpec,
}

/// Where a secret comes from. The value itself is never in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretSpec {
    /// The environment variable that holds it.
    pub env: Spanned<String>,
    /// What stands before it.
    pub prefix: Option<Spanned<String>>,
    /// What stands behind it.
    pub suffix: Option<Spanned<String>>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderSpec {
    /// A text that is no secret.
    Literal(Spanned<String>),
    /// The value of an environment variable.
    Environment(SecretSpec),
}

record! {
    /// How TLS trusts.
    pub struct TlsSpec {
        /// A PEM file of authorities to trust besides the system's.
        pub ca: Option<Spanned<PathBuf>>,
        /// Trust any certificate. Default: `false`.
        pub insecure: Option<Spanned<bool>>,
    }
}

record! {
    /// How readiness is found out.
    pub struct ReadySpec {
        check: rules::ready;
        /// The page that is asked first, like `/health`. Default for a launched engine: that of its kind; else the list of models.
        pub path: Option<Spanned<String>>,
        /// The status that this page answers when the engine is ready. Default: 200.
        pub status: Option<Spanned<u32>>,
        /// Between two probes. Default: `250ms`.
        pub interval: Option<Spanned<Duration>>,
        /// How long a backend may take to be ready. Default: `10s`; launched: `10m`.
        pub timeout: Option<Spanned<Duration>>,
        /// The engine must list the model. Default for a launched engine: as its kind does; else `false`.
        pub model_listed: Option<Spanned<bool>>,
        /// One real token must have been streamed. Default: `true` for a launched engine, else `false`.
        pub first_token: Option<Spanned<bool>>,
    }
}

record! {
    /// How an engine is started.
    pub struct LaunchSpec {
        instead: "`launch: {}` starts it as its kind is started; `launch: { command: […] }` by a command of your own";
        check: rules::launch;
        /// The program and its first words. Default: that of the kind, like `[vllm, serve, "{model}"]`. `{model}` and `{port}` stand for theirs.
        pub command: Option<CommandSpec>,
        /// Arguments behind the command: `{ max-model-len: 4096, enforce-eager: true }`, or a list of words.
        pub args: Option<ArgsSpec>,
        /// Environment variables besides those of the runner; `{ env: NAME }` takes the value of another one.
        pub env: Option<Table<HeaderSpec>>,
        /// The folder that it runs in, relative to this file. Default: that of the runner.
        pub cwd: Option<Spanned<PathBuf>>,
        /// A virtual environment, or an interpreter in one, whose programs are used.
        pub python: Option<Spanned<PathBuf>>,
        /// Where its output goes, relative to this file. Default: `engine-<backend>.log` among the results.
        pub log: Option<Spanned<PathBuf>>,
        /// The port that it listens on: a number, or `auto` for a free one. Default: `auto`.
        pub port: Option<Spanned<PortSpec>>,
        /// How long one process serves: `backend` (all cells with the same arguments), `cell` or `level`. Default: `backend`.
        pub lifetime: Option<Spanned<Lifetime>>,
        /// The container that it runs in.
        pub docker: Option<DockerSpec>,
    }
}

impl Default for LaunchSpec {
    /// Everything as the kind of the engine has it.
    fn default() -> LaunchSpec {
        LaunchSpec {
            command: None,
            args: None,
            env: None,
            cwd: None,
            python: None,
            log: None,
            port: None,
            lifetime: None,
            docker: None,
        }
    }
}

record! {
    /// A container, started by the command line of docker or podman.
    pub struct DockerSpec {
        short: image;
        check: rules::docker;
        /// The image.
        pub image: Spanned<String>,
        /// What runs in it. Default: what the kind runs, behind the image's own entry point where that is the engine.
        pub command: Option<CommandSpec>,
        /// GPUs that it sees, like `all`. Default: `all` for kinds that need one; `none` gives it none.
        pub gpus: Option<Spanned<String>>,
        /// The port inside. Default: 8000.
        pub port: Option<Spanned<u32>>,
        /// More ports to publish, like `8001:8001`.
        pub ports: Option<OneOrMany<Spanned<String>>>,
        /// The IPC mode, like `host`.
        pub ipc: Option<Spanned<String>>,
        /// Limits, like `memlock=-1`.
        pub ulimits: Option<OneOrMany<Spanned<String>>>,
        /// Mounts, like `/models:/models:ro`.
        pub volumes: Option<OneOrMany<Spanned<String>>>,
        /// Environment variables inside; `{ env: NAME }` passes one on without writing its value anywhere.
        pub env: Option<Table<HeaderSpec>>,
        /// More words for `docker run`, before the image.
        pub options: Option<OneOrMany<Spanned<String>>>,
        /// The container's name. Default: one that is made up.
        pub name: Option<Spanned<String>>,
        /// Which program starts it. Default: `docker`.
        pub engine: Option<Spanned<ContainerEngine>>,
    }
}

words! {
    /// A program that runs containers.
    pub enum ContainerEngine {
        /// Docker.
        Docker = "docker",
        /// Podman.
        Podman = "podman",
    }
}

words! {
    /// How long one process of an engine serves.
    pub enum Lifetime {
        /// All cells that need the same process, one after another.
        Backend = "backend",
        /// One run of one cell.
        Cell = "cell",
        /// One level of a load.
        Level = "level",
    }
}

record! {
    /// How a launched engine is stopped.
    pub struct StopSpec {
        /// The first signal. Default: `TERM`.
        pub signal: Option<Spanned<StopSignal>>,
        /// How long it may take to end before it is killed. Default: `30s`.
        pub grace: Option<Spanned<Duration>>,
    }
}

words! {
    /// The signal that asks an engine to stop.
    pub enum StopSignal {
        /// SIGTERM.
        Term = "TERM",
        /// SIGINT, as Ctrl-C sends it.
        Int = "INT",
        /// SIGQUIT.
        Quit = "QUIT",
        /// SIGKILL: at once.
        Kill = "KILL",
    }
}

/// A command as a list of words; nothing is read by a shell.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec(pub Vec<Spanned<String>>);

/// Arguments of an engine.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgsSpec {
    /// By name: `true` gives the flag alone, `false` and `null` leave it out, a list gives several words, a map gives JSON.
    Named(JsonMap),
    /// Word by word.
    Words(Vec<Spanned<String>>),
}

/// Which port an engine listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSpec {
    /// A free one.
    Auto,
    /// This one.
    Of(u16),
}

/// Where an engine's own metrics are.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineMetricsSpec {
    /// `/metrics` beside the API, if it is there.
    Auto,
    /// Not read.
    Off,
    /// At this URL.
    Url(Url),
}

/// Which GPUs a backend runs on.
#[derive(Clone, Debug, PartialEq)]
pub enum GpusSpec {
    /// Local ones if the URL is loopback.
    Auto,
    /// None are read.
    Off,
    /// These local NVML indices.
    Nvml(Vec<Spanned<u32>>),
    /// Those that a DCGM exporter tells of.
    Dcgm {
        /// The exporter.
        url: Spanned<Url>,
        /// Only these indices; empty: all.
        devices: Vec<Spanned<u32>>,
    },
}

record! {
    /// What an endpoint allows.
    pub struct LimitSpec {
        /// Requests, like `60/min`.
        pub requests: Option<Spanned<Rate>>,
        /// Tokens, like `100k/min`.
        pub tokens: Option<Spanned<Rate>>,
        /// Requests in flight.
        pub in_flight: Option<Spanned<u32>>,
    }
}

// ---- models ------------------------------------------------------------------------------------------------------------------

record! {
    /// A model.
    pub struct ModelSpec {
        short: id;
        check: rules::model;
        /// The name that is sent to the engine, like `meta-llama/Llama-3.1-8B-Instruct`.
        pub id: Option<Spanned<String>>,
        /// The name that a backend serves it under, by backend.
        pub served_as: Option<Entries<Spanned<String>>>,
        /// The tokenizer: a file or the name of a model.
        pub tokenizer: Option<Spanned<String>>,
        /// The most tokens that a prompt and its answer may have together, as its engine is started: what `over_context` looks at. Default:
        /// what a launched engine is told (`--max-model-len` and the like).
        pub context: Option<Spanned<u32>>,
        /// What is asked of this model with each request.
        pub request: Option<Asked>,
        /// What launched engines are told for this model.
        pub launch: Option<ModelLaunchSpec>,
        /// Adapters that requests are spread over, each with its weight: `{ sql-lora: 3, chat-lora: 1 }`.
        pub lora: Option<Table<Spanned<f64>>>,
    }
}

record! {
    /// What launched engines are told for a model.
    pub struct ModelLaunchSpec {
        /// Arguments, by backend; they add to those of the backend and win over them.
        pub args: Option<Entries<ArgsSpec>>,
    }
}

// ---- prompts -----------------------------------------------------------------------------------------------------------------

/// A prompt set: where its prompts come from, and how they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptsSpec {
    /// Where prompts come from.
    pub source: Spanned<SourceSpec>,
    /// How they are used.
    pub use_as: PromptsUse,
}

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a scenario has a handful of them"
)]
pub enum SourceSpec {
    /// Written in the scenario.
    Inline(InlineSource),
    /// A file of prompts.
    File(FileSource),
    /// A file of conversations in ShareGPT's format.
    Sharegpt(SharegptSource),
    /// A file of conversations, sent turn by turn.
    Conversations(ConversationsSource),
    /// A file that maps categories to prompts.
    Categories(CategoriesSource),
    /// Made from a seed.
    Synthetic(SyntheticSource),
    /// A trace of requests.
    Trace(TraceSource),
}

words! {
    /// Where prompts come from.
    pub enum SourceKind {
        /// Written in the scenario, under `prompts`.
        Inline = "inline",
        /// A `.jsonl`, `.json`, `.csv`, `.txt` or `.parquet` file.
        File = "file",
        /// A file of conversations in ShareGPT's format; what is said first is the prompt.
        Sharegpt = "sharegpt",
        /// A file of conversations, sent turn by turn.
        Conversations = "conversations",
        /// A file that maps categories to prompts.
        Categories = "categories",
        /// Made from a seed.
        Synthetic = "synthetic",
        /// A file of requests as they once arrived, for a load with `trace`.
        Trace = "trace",
    }
}

record! {
    /// How the prompts of a set are used.
    pub struct PromptsUse {
        check: rules::prompts_use;
        /// At most this many measured prompts; warm-up draws beyond it. Default: all.
        pub limit: Option<Spanned<u64>>,
        /// The seed of order and sampling. Default: that of the run.
        pub seed: Option<Spanned<u64>>,
        /// Whether prompts come as in the file or shuffled. Default: `shuffle`.
        pub order: Option<Spanned<PromptOrder>>,
        /// The cap on generated tokens. Default: 256.
        pub max_tokens: Option<Spanned<u32>>,
        /// Lengths of answers in tokens, sent with `min_tokens` and `ignore_eos` where the engine has them. Not beside `max_tokens`.
        pub output_tokens: Option<LengthSpec>,
        /// A prefix that groups of prompts share.
        pub shared_prefix: Option<SharedPrefixSpec>,
        /// The category of every prompt of the set.
        pub category: Option<Spanned<String>>,
        /// `category` makes one cell of each category, named `<set>-<category>`. Default: the set is one mix.
        pub expand: Option<Spanned<Expand>>,
        /// What happens to a prompt that does not fit the model's `context` together with its answer. Default: `error`.
        pub over_context: Option<Spanned<OverContext>>,
        /// What is asked of the engine with each request of this set.
        pub request: Option<Asked>,
    }
}

record! {
    /// Prompts written in the scenario.
    pub struct InlineSource {
        check: rules::inline;
        /// The prompts: texts, or `{ prompt, category }`.
        pub prompts: Vec<InlinePromptSpec>,
    }
}

record! {
    /// A prompt written in the scenario.
    pub struct InlinePromptSpec {
        short: prompt;
        /// The text.
        pub prompt: Spanned<String>,
        /// Its category.
        pub category: Option<Spanned<String>>,
    }
}

record! {
    /// A file of prompts; its ending tells how it is read.
    pub struct FileSource {
        /// The file, relative to this one; or `hf://datasets/OWNER/NAME/FILE`, `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, or an `https` URL with its `sha256`.
        pub path: Spanned<PathBuf>,
        /// Names of the file's fields, where they are not the usual ones.
        pub fields: Option<FieldsSpec>,
        /// A template that makes the prompt of a row, like `Q: {{ row.question }}`.
        pub template: Option<Spanned<String>>,
        /// The least length in characters.
        pub min_chars: Option<Spanned<u32>>,
        /// The greatest length in characters.
        pub max_chars: Option<Spanned<u32>>,
        /// The least length in tokens, counted by the model's tokenizer.
        pub min_input_tokens: Option<Spanned<u32>>,
        /// The greatest length in tokens, counted by the model's tokenizer.
        pub max_input_tokens: Option<Spanned<u32>>,
        /// A regular expression that the text must match.
        pub matches: Option<Spanned<String>>,
        /// The SHA-256 of the file, as hex; a file behind a URL needs it.
        pub sha256: Option<Spanned<String>>,
    }
}

record! {
    /// Names of a file's fields.
    pub struct FieldsSpec {
        /// The field of the prompt's text. Default: `prompt`.
        pub prompt: Option<Spanned<String>>,
        /// The field of the item's id. Default: `id`.
        pub id: Option<Spanned<String>>,
        /// The field of the item's category. Default: `category`.
        pub category: Option<Spanned<String>>,
        /// The field of an image that is shown with the prompt, or of several: paths, URLs, or bytes as data hubs keep them. Default: none.
        pub image: Option<Spanned<String>>,
        /// The field of the cap on generated tokens. Default: `max_tokens`.
        pub max_tokens: Option<Spanned<String>>,
        /// The field of the floor on generated tokens. Default: `min_tokens`.
        pub min_tokens: Option<Spanned<String>>,
        /// The field that says to go on after the end-of-sequence token. Default: `ignore_eos`.
        pub ignore_eos: Option<Spanned<String>>,
    }
}

record! {
    /// A file of conversations in ShareGPT's format.
    pub struct SharegptSource {
        /// The file, relative to this one; or `hf://datasets/OWNER/NAME/FILE`, `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, or an `https` URL with its `sha256`. Default: a
        /// small set that is embedded in the tool.
        pub path: Option<Spanned<PathBuf>>,
        /// The least length in characters.
        pub min_chars: Option<Spanned<u32>>,
        /// The greatest length in characters.
        pub max_chars: Option<Spanned<u32>>,
        /// The least length in tokens, counted by the model's tokenizer.
        pub min_input_tokens: Option<Spanned<u32>>,
        /// The greatest length in tokens, counted by the model's tokenizer.
        pub max_input_tokens: Option<Spanned<u32>>,
        /// A regular expression that the text must match.
        pub matches: Option<Spanned<String>>,
        /// The SHA-256 of the file, as hex; a file behind a URL needs it.
        pub sha256: Option<Spanned<String>>,
        /// Which turn of a conversation is the prompt. Default: `first_human`.
        pub turn: Option<Spanned<Turn>>,
    }
}

record! {
    /// A file of conversations, sent turn by turn: what a load counts (`rate`, `requests`, `limit`) are whole conversations.
    pub struct ConversationsSource {
        check: rules::conversations;
        /// The file (`.json`, `.jsonl`, `.parquet`), relative to this one; or `hf://datasets/OWNER/NAME/FILE`, `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, or an `https` URL
        /// with its `sha256`.
        pub path: Spanned<PathBuf>,
        /// Whose answers later turns look back on: the engine's own, or those of the file. Default: `live`.
        pub history: Option<Spanned<History>>,
        /// From an answer to the next turn. Default: the load's `think`, else `0s`.
        pub think: Option<DistributionSpec<Duration>>,
        /// Conversations with fewer turns are left out. Default: 1.
        pub min_turns: Option<Spanned<u32>>,
        /// Longer conversations end after so many turns. Default: all.
        pub max_turns: Option<Spanned<u32>>,
        /// The least length in characters of what is said first.
        pub min_chars: Option<Spanned<u32>>,
        /// The greatest length in characters of what is said first.
        pub max_chars: Option<Spanned<u32>>,
        /// The least length in tokens of what is said first, counted by the model's tokenizer.
        pub min_input_tokens: Option<Spanned<u32>>,
        /// The greatest length in tokens of what is said first, counted by the model's tokenizer.
        pub max_input_tokens: Option<Spanned<u32>>,
        /// A regular expression that what is said first must match.
        pub matches: Option<Spanned<String>>,
        /// The SHA-256 of the file, as hex; a file behind a URL needs it.
        pub sha256: Option<Spanned<String>>,
    }
}

words! {
    /// Whose answers the later turns of a conversation look back on.
    pub enum History {
        /// The engine's own, as it gave them.
        Live = "live",
        /// Those of the file.
        Recorded = "recorded",
    }
}

record! {
    /// A file that maps categories to prompts.
    pub struct CategoriesSource {
        /// The file, relative to this one.
        pub path: Spanned<PathBuf>,
        /// Only these categories. Default: all.
        pub categories: Option<Vec<Spanned<String>>>,
    }
}

record! {
    /// Prompts made from a seed.
    pub struct SyntheticSource {
        /// Lengths of prompts in tokens: a number, or `{ uniform: [32, 512] }`, `{ lognormal: … }`, `{ zipf: … }`, `{ mixture: … }`.
        pub input_tokens: LengthSpec,
    }
}

record! {
    /// A file of requests as they once arrived: times and lengths.
    pub struct TraceSource {
        check: rules::trace_source;
        /// The file, relative to this one.
        pub path: Spanned<PathBuf>,
        /// How it is written.
        pub format: Spanned<TraceFormat>,
        /// Names of the fields of a `jsonl` or `csv` trace.
        pub fields: Option<TraceFieldsSpec>,
        /// Tokens in a block that has an id. Default: 512.
        pub block_tokens: Option<Spanned<u32>>,
    }
}

words! {
    /// How a trace is written.
    pub enum TraceFormat {
        /// Mooncake's: JSON lines with `timestamp` in ms, `input_length`, `output_length` and `hash_ids`.
        Mooncake = "mooncake",
        /// Azure's: a table with `TIMESTAMP`, `ContextTokens` and `GeneratedTokens`.
        Azure = "azure",
        /// BurstGPT's: a table with `Timestamp` in seconds, `Request tokens` and `Response tokens`.
        Burstgpt = "burstgpt",
        /// JSON lines with the fields that `fields` names.
        Jsonl = "jsonl",
        /// A table with the columns that `fields` names.
        Csv = "csv",
    }
}

record! {
    /// Names of the fields of a trace.
    pub struct TraceFieldsSpec {
        /// When a request came: a number, or a date with a time. Default: `timestamp`.
        pub time: Option<Spanned<String>>,
        /// The unit of times that are numbers. Default: `s`.
        pub unit: Option<Spanned<TraceUnit>>,
        /// Tokens of the prompt. Default: `input_tokens`.
        pub input_tokens: Option<Spanned<String>>,
        /// Tokens of the answer. Default: `output_tokens`.
        pub output_tokens: Option<Spanned<String>>,
        /// Ids of the prompt's blocks: equal ids are equal text. Default: `hash_ids`, where a `jsonl` trace has it.
        pub hash_ids: Option<Spanned<String>>,
    }
}

words! {
    /// The unit of the times of a trace.
    pub enum TraceUnit {
        /// Seconds.
        Seconds = "s",
        /// Milliseconds.
        Milliseconds = "ms",
    }
}

words! {
    /// In which order prompts come.
    pub enum PromptOrder {
        /// As in the file.
        File = "file",
        /// Shuffled by the seed.
        Shuffle = "shuffle",
    }
}

words! {
    /// What a prompt set is expanded by.
    pub enum Expand {
        /// One cell for each category.
        Category = "category",
    }
}

words! {
    /// What happens to a prompt that does not fit the model's context.
    pub enum OverContext {
        /// It is an error of the plan, where the model's `context` is written; the engine tells otherwise.
        Error = "error",
        /// It is left out, and counted; one that is made is made shorter.
        Skip = "skip",
        /// It is cut at its end; a conversation, before the turn that does not fit; one that is made is made shorter.
        Clip = "clip",
    }
}

words! {
    /// Which turn of a conversation is the prompt.
    pub enum Turn {
        /// The first one of the human.
        FirstHuman = "first_human",
    }
}

record! {
    /// A prefix that groups of prompts share.
    pub struct SharedPrefixSpec {
        /// Its length in tokens, which the prompt's length counts in: a prompt is at least one token longer than its prefix.
        pub tokens: Spanned<u32>,
        /// How many different prefixes there are. Default: 1.
        pub groups: Option<Spanned<u32>>,
        /// How prompts are spread over the groups. Default: `uniform`.
        pub distribution: Option<Spanned<PrefixDistribution>>,
    }
}

words! {
    /// How prompts are spread over groups.
    pub enum PrefixDistribution {
        /// Evenly.
        Uniform = "uniform",
        /// The k-th group has a share in proportion to 1/k.
        Zipf = "zipf",
    }
}

/// A distribution of lengths in tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum LengthSpec {
    /// As times have them, too.
    Simple(DistributionSpec<u32>),
    /// Short lengths often, long ones seldom.
    Zipf(ZipfSpec),
    /// As counted in a file.
    Histogram(Spanned<PathBuf>),
    /// One of several.
    Mixture(Vec<MixturePart>),
}

record! {
    /// A Zipf distribution: the k-th shortest length has a share in proportion to `k` to the power of `-exponent`.
    pub struct ZipfSpec {
        /// How steeply shares fall. Default: 1.
        pub exponent: Option<Spanned<f64>>,
        /// The least length. Default: 1.
        pub min: Option<Spanned<u32>>,
        /// The greatest length.
        pub max: Spanned<u32>,
    }
}

record! {
    /// A part of a mixture.
    pub struct MixturePart {
        /// Its share among those of all parts.
        pub weight: Spanned<f64>,
        /// Its lengths.
        pub tokens: LengthSpec,
    }
}

/// A distribution of lengths or times.
#[derive(Clone, Debug, PartialEq)]
pub enum DistributionSpec<T> {
    /// Always this.
    Fixed(Spanned<T>),
    /// Uniform between two bounds, both included.
    Uniform(Spanned<T>, Spanned<T>),
    /// Normal, cut to `min..=max`.
    Normal(NormalSpec<T>),
    /// Log-normal, cut to `min..=max`.
    Lognormal(LognormalSpec<T>),
    /// Exponential with this mean.
    Exponential(Spanned<T>),
}

record! {
    /// A normal distribution.
    pub struct NormalSpec<T> {
        /// The mean.
        pub mean: Spanned<T>,
        /// The standard deviation.
        pub stddev: Spanned<T>,
        /// The least value.
        pub min: Option<Spanned<T>>,
        /// The greatest value.
        pub max: Option<Spanned<T>>,
    }
}

record! {
    /// A log-normal distribution.
    pub struct LognormalSpec<T> {
        /// The median.
        pub median: Spanned<T>,
        /// The 95th percentile.
        pub p95: Spanned<T>,
        /// The least value.
        pub min: Option<Spanned<T>>,
        /// The greatest value.
        pub max: Option<Spanned<T>>,
    }
}

// ---- load --------------------------------------------------------------------------------------------------------------------

/// A load: one of three forms, and how it is driven.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSpec {
    /// The form, spanned by its key.
    pub form: Spanned<LoadForm>,
    /// How it is driven.
    pub drive: DriveSpec,
}

/// The forms of a load.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a scenario has a handful of them"
)]
pub enum LoadForm {
    /// Named parts, one after another.
    Stages(Vec<Spanned<StageSpec>>),
    /// One isolated, measured stage for each of several users or rates.
    Levels(LevelsSpec),
    /// Batches with a barrier between.
    Batch(BatchSpec),
    /// A trace, played at its times.
    Trace(TraceLoadSpec),
    /// Levels that the run chooses, until the capacity is known.
    Search(SearchSpec),
}

record! {
    /// How a load is driven.
    pub struct DriveSpec {
        check: rules::drive;
        /// Which process places open-loop arrivals: `uniform`, `poisson` or `{ gamma: b }`. Default: `poisson`.
        pub process: Option<Spanned<ProcessSpec>>,
        /// The safety cap on requests in flight (open loop). Default: 4096.
        pub max_in_flight: Option<Spanned<u32>>,
        /// What happens to an arrival that meets the cap. Default: `queue`.
        pub on_full: Option<Spanned<OnFull>>,
        /// From an answer to the same user's next request (closed loop). Default: `0s`.
        pub think: Option<DistributionSpec<Duration>>,
        /// What happens to a busy user whose time to stop has come. Default: `finish`.
        pub ramp_down: Option<Spanned<RampDown>>,
        /// Guards that differ for this load.
        pub guards: Option<GuardsSpec>,
    }
}

/// Which process places the arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProcessSpec {
    /// Evenly.
    Uniform,
    /// Independently.
    Poisson,
    /// Gamma-distributed gaps of this shape: below 1 burstier than Poisson.
    Gamma(f64),
}

words! {
    /// What happens to an arrival that meets the in-flight cap.
    pub enum OnFull {
        /// It waits, and the wait is told.
        Queue = "queue",
        /// It is dropped, and counted.
        Drop = "drop",
    }
}

words! {
    /// What happens to a busy user whose time to stop has come.
    pub enum RampDown {
        /// It finishes its request.
        Finish = "finish",
        /// Its request is cut.
        Cancel = "cancel",
    }
}

record! {
    /// A named part of a load.
    pub struct StageSpec {
        check: rules::stage;
        /// Its name; a measured stage needs one.
        pub name: Option<Spanned<Id>>,
        /// Requests per second at its beginning (open loop), like `8/s`; left out, the rate carries on.
        pub rate: Option<Spanned<Rate>>,
        /// Users at its beginning (closed loop).
        pub users: Option<Spanned<u32>>,
        /// The rate or the number of users at its end; left out, they hold.
        pub to: Option<Spanned<TargetSpec>>,
        /// How long it lasts, like `3m`; `0s` jumps.
        pub duration ("for"): Option<Spanned<Duration>>,
        /// How many requests it sends.
        pub requests: Option<Spanned<u64>>,
        /// How many requests each user sends.
        pub requests_per_user: Option<Spanned<u64>>,
        /// Whether it enters verdicts. Default: `true`.
        pub measure: Option<Spanned<bool>>,
        /// How it goes from `rate` to `to`. Default: `linear`.
        pub shape: Option<Spanned<Shape>>,
        /// Arrivals at one instant, when the stage begins.
        pub burst: Option<Spanned<u32>>,
        /// Drain before the next stage. Default: `false`.
        pub isolate: Option<Spanned<bool>>,
    }
}

/// What a stage goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TargetSpec {
    /// A rate.
    Rate(Rate),
    /// A number of users.
    Users(u32),
}

words! {
    /// How a stage goes from one rate to another.
    pub enum Shape {
        /// In a straight line.
        Linear = "linear",
        /// By the same factor in the same time.
        Exponential = "exp",
    }
}

record! {
    /// One isolated, measured stage for each of several users or rates.
    pub struct LevelsSpec {
        check: rules::levels;
        /// Numbers of users (closed loop), like `[1, 2, 4, 8]`.
        pub users: Option<OneOrMany<Spanned<u32>>>,
        /// Rates (open loop), like `[2/s, 4/s]`.
        pub rate: Option<OneOrMany<Spanned<Rate>>>,
        /// How many requests each user sends.
        pub requests_per_user: Option<Spanned<u64>>,
        /// How many requests a level sends.
        pub requests: Option<Spanned<u64>>,
        /// How long a level lasts.
        pub duration ("for"): Option<Spanned<Duration>>,
        /// What is sent before each level and not measured: a time, or `{ requests: N }`. Default: that of the run.
        pub warmup: Option<Spanned<WarmupSpec>>,
        /// How long nothing happens between levels.
        pub cooldown: Option<Spanned<Duration>>,
        /// How a counted level ends: `fill` holds the level to the end. Default: `fill`.
        pub tail: Option<Spanned<Tail>>,
        /// Permit fewer than 3 requests per user; the level is marked. Default: `false`.
        pub allow_short: Option<Spanned<bool>>,
    }
}

words! {
    /// How a counted level ends.
    pub enum Tail {
        /// Users keep sending unmeasured requests until the last measured one has ended.
        Fill = "fill",
        /// The level falls as users run out of requests.
        Drain = "drain",
    }
}

/// What is sent before measuring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WarmupSpec {
    /// For a time.
    For(Duration),
    /// This many requests.
    Requests(u64),
}

record! {
    /// A trace that is played at its times.
    pub struct TraceLoadSpec {
        check: rules::trace_load;
        /// The set with `source: trace`.
        pub prompts: Spanned<Id>,
        /// How much faster than it was recorded. Default: 1.
        pub speed: Option<Spanned<f64>>,
        /// Leaves out what came before, in the time of the trace.
        pub from: Option<Spanned<Duration>>,
        /// Leaves out what came from here on.
        pub to: Option<Spanned<Duration>>,
        /// Plays each request this many times on average; below 1 it thins the trace out. Default: 1.
        pub rate_scale: Option<Spanned<f64>>,
        /// How often it is played, one time after another. Default: 1.
        pub laps ("loop"): Option<Spanned<u32>>,
    }
}

record! {
    /// Batches with a barrier between.
    pub struct BatchSpec {
        check: rules::batch;
        /// Requests in one batch, or `all` at once.
        pub size: Spanned<BatchSize>,
        /// Requests in all.
        pub requests: Option<Spanned<u64>>,
    }
}

/// Requests in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// All of them.
    All,
    /// This many.
    Of(u32),
}

// ---- request -----------------------------------------------------------------------------------------------------------------

record! {
    /// What is asked of the engine with each request.
    pub struct RequestSpec {
        check: rules::request;
        /// Stream the answer. Default: `true`; without it there is no time to first token.
        pub stream: Option<Spanned<bool>>,
        /// Sampling temperature. Default: 0.
        pub temperature: Option<Spanned<f64>>,
        /// Nucleus sampling.
        pub top_p: Option<Spanned<f64>>,
        /// Top-k sampling.
        pub top_k: Option<Spanned<i64>>,
        /// The engine's sampling seed.
        pub seed: Option<Spanned<i64>>,
        /// Texts that end the answer.
        pub stop: Option<OneOrMany<Spanned<String>>>,
        /// The cap on generated tokens.
        pub max_tokens: Option<Spanned<u32>>,
        /// The floor on generated tokens.
        pub min_tokens: Option<Spanned<u32>>,
        /// Go on after the end-of-sequence token. Default: `false`.
        pub ignore_eos: Option<Spanned<bool>>,
        /// Whether a reasoning model thinks; a mistake where the API of a backend has no such switch.
        pub thinking: Option<Spanned<Thinking>>,
        /// The form of the answer in the words of OpenAI's chat API; a backend with another API is asked in its own.
        pub response_format: Option<Spanned<JsonMap>>,
        /// Tools that the model may call, in the words of OpenAI's chat API; a backend with another API is asked in its own.
        pub tools: Option<Vec<Spanned<JsonMap>>>,
        /// Merged into the body last, as it stands.
        pub extra: Option<Spanned<JsonMap>>,
        /// What a valid answer looks like; feeds `valid_rate`.
        pub expect: Option<ExpectSpec>,
        /// Time limits: one duration for the whole request, or each phase by name.
        pub timeouts: Option<TimeoutsSpec>,
    }
}

words! {
    /// Whether a reasoning model thinks.
    pub enum Thinking {
        /// It does.
        On = "on",
        /// It does not.
        Off = "off",
    }
}

record! {
    /// What a valid answer looks like.
    pub struct ExpectSpec {
        /// Texts that it contains.
        pub contains: Option<OneOrMany<Spanned<String>>>,
        /// The JSON Schema that it meets.
        pub json_schema: Option<Spanned<JsonValue>>,
    }
}

record! {
    /// Time limits of one request, each for its own phase.
    pub struct TimeoutsSpec {
        short: total;
        /// Opening the connection. Default: `10s`.
        pub connect: Option<Spanned<Duration>>,
        /// From dispatch to the first token. Default: `60s`.
        pub first_token: Option<Spanned<Duration>>,
        /// Between two reads of a stream. Default: `60s`.
        pub idle: Option<Spanned<Duration>>,
        /// From dispatch to the end. Default: `120s`.
        pub total: Option<Spanned<Duration>>,
    }
}

// ---- matrix and run ----------------------------------------------------------------------------------------------------------

record! {
    /// Which combinations run.
    pub struct MatrixSpec {
        /// The backends. Default: all.
        pub backend: Option<OneOrMany<Spanned<Id>>>,
        /// The models. Default: all.
        pub model: Option<OneOrMany<Spanned<Id>>>,
        /// The prompt sets. Default: all.
        pub prompts: Option<OneOrMany<Spanned<Id>>>,
        /// The loads. Default: all.
        pub load: Option<OneOrMany<Spanned<Id>>>,
        /// Engine arguments, each with its values: a launched backend becomes one for every combination, named like
        /// `vllm-max-num-seqs-8`.
        pub args: Option<Spanned<JsonMap>>,
        /// Lengths of synthetic prompts in tokens: each synthetic set becomes one for every length, named like `chat-input-1024`.
        pub input_tokens: Option<OneOrMany<Spanned<u32>>>,
        /// Lengths of the answers to synthetic prompts in tokens: likewise, named like `chat-output-64`.
        pub output_tokens: Option<OneOrMany<Spanned<u32>>>,
        /// The share of each synthetic prompt that others of its group begin with, too, like `[0%, 50%, 90%]`: likewise, named like
        /// `chat-prefix-50`. The set's `shared_prefix` says how many groups there are.
        pub prefix_share: Option<OneOrMany<Spanned<Share>>>,
        /// Combinations that run besides.
        pub include: Option<Vec<Spanned<CombinationSpec>>>,
        /// Combinations that do not run.
        pub exclude: Option<Vec<Spanned<CombinationSpec>>>,
    }
}

record! {
    /// A combination; a part that is left out stands for all of its kind.
    pub struct CombinationSpec {
        /// The backend.
        pub backend: Option<Spanned<Id>>,
        /// The model.
        pub model: Option<Spanned<Id>>,
        /// The prompt set.
        pub prompts: Option<Spanned<Id>>,
        /// The load.
        pub load: Option<Spanned<Id>>,
    }
}

record! {
    /// How the run goes.
    pub struct RunSpec {
        check: rules::run;
        /// The seed of everything random. Default: 1.
        pub seed: Option<Spanned<u64>>,
        /// How often each cell runs; the verdict uses the median. Default: 1.
        pub repeats: Option<Spanned<u32>>,
        /// The order of cells. Default: `rotate`, so that drift hits all backends alike.
        pub order: Option<Spanned<RunOrder>>,
        /// How long nothing happens between cells. Default: `2s`.
        pub cooldown: Option<Spanned<Duration>>,
        /// How long streams are read on after the last send. Default: the total time-out of a request.
        pub drain: Option<Spanned<Duration>>,
        /// The most that may be spent. Default: none.
        pub budget: Option<BudgetSpec>,
        /// No cell starts that cannot end in it. Default: none.
        pub max_duration: Option<Spanned<Duration>>,
        /// States of the prefix cache to test: a word, a list, or `{ compare: [cold, warm] }`. Each prompt set with a
        /// `shared_prefix` is run in each of them, as `<set>-cold` and `<set>-warm`. Default: `as_is`.
        pub cache: Option<CacheSpec>,
        /// What is sent before measuring: a time, or `{ requests: N }`. Default: `10s` or 2 requests per user, whichever is longer.
        pub warmup: Option<Spanned<WarmupSpec>>,
        /// Commands that run between two backends, each a list of words, like `[sudo, nvidia-smi, -rgc]`.
        pub between: Option<Vec<CommandSpec>>,
        /// Load threads: a number, or `auto`. Default: `auto`.
        pub workers: Option<Spanned<WorkersSpec>>,
    }
}

words! {
    /// The order of cells.
    pub enum RunOrder {
        /// As in the matrix, all repeats of a backend together.
        Listed = "listed",
        /// Backends take turns inside a repeat.
        Rotate = "rotate",
        /// Shuffled by the seed.
        Shuffle = "shuffle",
    }
}

/// States of the prefix cache, one or several.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSpec(pub OneOrMany<Spanned<CacheState>>);

words! {
    /// A state of the prefix cache.
    pub enum CacheState {
        /// Left as it is.
        AsIs = "as_is",
        /// A unique text stands before each prefix.
        Cold = "cold",
        /// Every prefix is sent before the measured window.
        Warm = "warm",
    }
}

record! {
    /// The most that may be spent.
    pub struct BudgetSpec {
        /// Requests in all.
        pub requests: Option<Spanned<u64>>,
        /// Generated tokens in all.
        pub output_tokens: Option<Spanned<u64>>,
    }
}

/// How many load threads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkersSpec {
    /// Chosen from the cores.
    Auto,
    /// This many.
    Of(u32),
}

// ---- slos --------------------------------------------------------------------------------------------------------------------

record! {
    /// What must hold, where, and what happens if it does not.
    pub struct SloSpec {
        short: assert;
        /// One comparison, like `P95 TTFT < 500ms`. A list of texts without a metric, like `p(95)<500`, takes the SLO's id as the metric.
        pub assert: Assertions,
        /// Where it is judged: dimension → value, list or comparison, like `{ prompts: code, users: "<= 50" }`. Default: everywhere.
        pub scope ("where"): Option<WhereSpec>,
        /// Dimensions that multiply the verdicts, like `[category]`.
        pub split: Option<OneOrMany<Spanned<Dimension>>>,
        /// Dimensions whose raw values are pooled, like `[prompts]`.
        pub pool: Option<OneOrMany<Spanned<Dimension>>>,
        /// Bounds for narrower scopes; the first match wins.
        pub overrides: Option<Vec<OverrideSpec>>,
        /// `all`: a failure has the worst value; `ok`: only answered requests count. Default: `all`.
        pub count: Option<Spanned<Count>>,
        /// Where latencies start. Default: `intended` in open loop, `sent` in closed loop.
        pub clock: Option<Spanned<StartClock>>,
        /// `warn` never changes the exit code. Default: `fail`.
        pub level: Option<Spanned<Level>>,
        /// When it stops its cell.
        pub abort: Option<Spanned<AbortSpec>>,
        /// It must hold in every window of this length. Default: over the whole stage.
        pub window: Option<Spanned<Duration>>,
        /// Which repeat decides. Default: `median`.
        pub repeats_must: Option<Spanned<RepeatsMust>>,
        /// A failure counts only if every repeat of one side breaks the bound against every repeat of the other: the baseline, or
        /// another backend. Needs three repeats of each. Default: `false`.
        pub separated: Option<Spanned<bool>>,
        /// The confidence that the samples must support, like `95%`: a percentile with fewer is inconclusive. Default: off.
        pub confidence: Option<Spanned<Share>>,
        /// `samples` makes a verdict with few samples inconclusive. Default: off.
        pub strict: Option<Spanned<Strict>>,
    }
}

/// The comparisons of an SLO, as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Assertions {
    /// One comparison that names its metric.
    One(Spanned<String>),
    /// Several, scoped by the SLO's id, which is a metric: `ttft: ["p(95)<500", "p99 < 2s"]`.
    Scoped(Vec<Spanned<String>>),
}

/// Where something is judged: every clause must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct WhereSpec {
    /// The clauses, in the order of the file.
    pub clauses: Vec<WhereClause>,
    /// The whole map.
    pub span: Span,
}

/// One clause of a `where`.
#[derive(Clone, Debug, PartialEq)]
pub struct WhereClause {
    /// The dimension.
    pub dimension: Spanned<Dimension>,
    /// What it must be.
    pub condition: Spanned<Condition>,
}

/// What a dimension must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// One of these, as written.
    OneOf(Vec<Spanned<String>>),
    /// On that side of a number; rates are per second.
    Compare(Comparison, f64),
}

words! {
    /// How a number is compared in a `where`.
    pub enum Comparison {
        /// At most.
        AtMost = "<=",
        /// At least.
        AtLeast = ">=",
        /// Below.
        Below = "<",
        /// Above.
        Above = ">",
    }
}

words! {
    /// A dimension of the results.
    pub enum Dimension {
        /// The backend.
        Backend = "backend",
        /// The model.
        Model = "model",
        /// The prompt set.
        Prompts = "prompts",
        /// The load.
        Load = "load",
        /// The stage.
        Stage = "stage",
        /// Users of the stage.
        Users = "users",
        /// Rate of the stage.
        Rate = "rate",
        /// Category of the prompt.
        Category = "category",
        /// Turn of the conversation.
        Turn = "turn",
        /// State of the prefix cache.
        Cache = "cache",
        /// The GPU.
        Gpu = "gpu",
        /// The repeat.
        Repeat = "repeat",
    }
}

record! {
    /// Another bound for a narrower scope.
    pub struct OverrideSpec {
        /// The scope.
        pub scope ("where"): WhereSpec,
        /// The comparison that holds there.
        pub assert: Spanned<String>,
    }
}

words! {
    /// How failures count.
    pub enum Count {
        /// A failure has the worst value.
        All = "all",
        /// Only answered requests count.
        Ok = "ok",
    }
}

words! {
    /// Where latencies start.
    pub enum StartClock {
        /// When the plan says that the request leaves.
        Intended = "intended",
        /// When it was sent.
        Sent = "sent",
    }
}

words! {
    /// Whether a verdict changes the exit code.
    pub enum Level {
        /// It does.
        Fail = "fail",
        /// It never does.
        Warn = "warn",
    }
}

words! {
    /// Which repeat decides.
    pub enum RepeatsMust {
        /// The median one.
        Median = "median",
        /// All of them must pass.
        All = "all",
    }
}

words! {
    /// What is judged strictly.
    pub enum Strict {
        /// Few samples are inconclusive.
        Samples = "samples",
    }
}

record! {
    /// When an SLO stops its cell.
    pub struct AbortSpec {
        /// Not before this time of the stage.
        pub after: Spanned<Duration>,
        /// Judged on this trailing window.
        pub window: Spanned<Duration>,
    }
}

// ---- guards and goodput ------------------------------------------------------------------------------------------------------

record! {
    /// The built-in doubts about a measurement: each is `off`, a bound, or `{ limit, level }`.
    pub struct GuardsSpec {
        /// Failed requests; above it the verdict is `fail`. Default: `1%`.
        pub error_rate: Option<GuardSpec<Share>>,
        /// 99th percentile of how late requests were sent. Default: 10 ms or 2 % of the median time to first token.
        pub send_lag: Option<GuardSpec<Duration>>,
        /// Planned sends that were not made. Default: `1%`.
        pub missed: Option<GuardSpec<Share>>,
        /// Requests that were cut at the end. Default: `1%`.
        pub cut: Option<GuardSpec<Share>>,
        /// The least share of a level's users that must be active. Default: `95%`.
        pub concurrency: Option<GuardSpec<Share>>,
        /// The busiest thread of this tool. Default: `90%`.
        pub client: Option<GuardSpec<Share>>,
        /// 99th percentile of the possible error of time stamps. Default: 1 ms or 2 % of the median time to first token.
        pub stamps: Option<GuardSpec<Duration>>,
        /// Disagreement of the engine's and the tokenizer's counts of prompts; not told where tools, `thinking` or images add to them unseen.
        /// Default: `2%`, a warning.
        pub tokens: Option<GuardSpec<Share>>,
        /// Unexpected prefix-cache hits. Default: `5%`, a warning.
        pub cache_hits: Option<GuardSpec<Share>>,
        /// Clock throttling of a GPU. Default: a warning.
        pub throttling: Option<GuardSpec<NoBound>>,
        /// Foreign processes on the GPU. Default: a warning.
        pub neighbours: Option<GuardSpec<NoBound>>,
        /// Restarts of the engine.
        pub restarts: Option<GuardSpec<NoBound>>,
    }
}

/// What is said about a guard.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardSpec<T> {
    /// It is switched off.
    Off(Span),
    /// Its bound, its level, or both differ.
    On {
        /// The bound.
        limit: Option<Spanned<T>>,
        /// Whether it decides or only warns.
        level: Option<Spanned<Level>>,
    },
}

/// The bound of a guard that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBound {}

/// Bounds that make a request good.
#[derive(Clone, Debug, PartialEq)]
pub struct GoodputSpec {
    /// The rules; a request is held to every rule whose `where` selects it.
    pub rules: Vec<GoodputRule>,
    /// The whole section.
    pub span: Span,
}

record! {
    /// Bounds that make a request good, for some requests.
    pub struct GoodputRule {
        /// Which requests. Default: all.
        pub scope ("where"): Option<WhereSpec>,
        /// Metric → bound, like `{ ttft: 500ms, tpot: 50ms }`.
        pub bounds: Table<Spanned<Duration>>,
    }
}

// ---- baseline, telemetry, outputs --------------------------------------------------------------------------------------------

record! {
    /// An earlier report to compare with.
    pub struct BaselineSpec {
        /// The report, relative to this file.
        pub file: Spanned<PathBuf>,
        /// What happens if the report or a cell of it is missing. Default: `warn` at a terminal, `fail` in CI.
        pub missing: Option<Spanned<Absence>>,
        /// What happens if it was measured on something else. Default: `warn` at a terminal, `fail` in CI.
        pub mismatch: Option<Spanned<Absence>>,
        /// What must be the same.
        pub must_match: Option<Vec<Spanned<Fingerprint>>>,
    }
}

words! {
    /// What happens if a baseline cannot be used.
    pub enum Absence {
        /// A warning.
        Warn = "warn",
        /// The verdict is inconclusive and counts: the run exits with 3.
        Fail = "fail",
        /// The verdict is skipped.
        Skip = "skip",
    }
}

words! {
    /// What must be the same in a baseline.
    pub enum Fingerprint {
        /// The GPUs.
        Gpu = "gpu",
        /// The model.
        Model = "model",
        /// What is sent.
        Load = "load",
        /// The engine and its version.
        Engine = "engine",
    }
}

record! {
    /// How GPUs and engines are watched.
    pub struct TelemetrySpec {
        /// The interval of sampling. Default: `250ms`.
        pub every: Option<Spanned<Duration>>,
        /// Whether the engines' own metrics are read. Default: `auto`.
        pub engine: Option<Spanned<EngineTelemetry>>,
        /// A DCGM exporter that tells of the GPUs of every backend which names none of its own (`gpus`).
        pub dcgm: Option<Spanned<Url>>,
    }
}

words! {
    /// Whether the engines' own metrics are read.
    pub enum EngineTelemetry {
        /// If they are there.
        Auto = "auto",
        /// They are not.
        Off = "none",
    }
}

record! {
    /// What the report shows beyond the measurements.
    pub struct ReportSpec {
        /// Plots to draw as files when the run has ended: `all`, or the beginnings of their names, like `throughput`.
        pub plots: Option<OneOrMany<Spanned<String>>>,
        /// What plots are written as. Default: `png`.
        pub plot_format: Option<Spanned<PlotFormat>>,
    }
}

words! {
    /// What a plot is written as.
    pub enum PlotFormat {
        /// Points.
        Png = "png",
        /// Lines.
        Svg = "svg",
    }
}

record! {
    /// A file to write, or a receiver to send the numbers to, when the run has ended.
    pub struct OutputFormat {
        short: format;
        check: super::rules::output;
        /// Its format.
        pub format: Spanned<OutputKind>,
        /// Where a file goes, relative to this file. Default: the usual name in the folder of results.
        pub path: Option<Spanned<PathBuf>>,
        /// Where `otlp` and `prometheus` send to. Without a path: `/v1/metrics`, or `/api/v1/write`.
        pub url: Option<Spanned<Url>>,
        /// Headers for the receiver: `{ Name: text }` or `{ Name: { env: VARIABLE } }`.
        pub headers: Option<Table<HeaderSpec>>,
    }
}

words! {
    /// The format of a file of results, or the language of a receiver.
    pub enum OutputKind {
        /// `report.json`.
        Json = "json",
        /// `junit.xml`.
        Junit = "junit",
        /// `summary.csv`.
        SummaryCsv = "summary_csv",
        /// `requests.csv`.
        RequestsCsv = "requests_csv",
        /// `requests.ndjson`.
        RequestsNdjson = "requests_ndjson",
        /// `requests.parquet`, which is written only when it is asked for.
        RequestsParquet = "requests_parquet",
        /// `summary.md`.
        Markdown = "markdown",
        /// `report.html`.
        Html = "html",
        /// OTLP metrics over HTTP.
        Otlp = "otlp",
        /// Prometheus' remote write.
        Prometheus = "prometheus",
    }
}

words! {
    /// How differences between compared backends are treated.
    pub enum Fairness {
        /// Each is an error: of the file where it can be seen there, else the comparison is inconclusive.
        Strict = "strict",
        /// Each stands in the report.
        Warn = "warn",
        /// Nobody looks.
        Off = "off",
    }
}

record! {
    /// Metrics of your own.
    pub struct MetricsSpec {
        /// By name.
        pub custom: Option<Table<CustomMetricSpec>>,
    }
}

record! {
    /// A metric that is computed from others.
    pub struct CustomMetricSpec {
        /// Its kind. Default: `derived`.
        pub kind: Option<Spanned<CustomKind>>,
        /// How it is computed, like `mean gpu.power / output_tps`.
        pub expression: Spanned<String>,
        /// Its unit, like `J/tok`.
        pub unit: Option<Spanned<String>>,
    }
}

words! {
    /// The kind of a metric of your own.
    pub enum CustomKind {
        /// Computed from other metrics, without an aggregate.
        Derived = "derived",
    }
}

record! {
    /// Prices, for cost metrics.
    pub struct CostSpec {
        check: rules::cost;
        /// Dollars for an hour of one GPU.
        pub gpu_hour: Option<Spanned<f64>>,
    }
}
