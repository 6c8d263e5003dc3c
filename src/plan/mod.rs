//! A scenario and a seed become a plan: nothing is left to decide, and the same file gives the same bytes.
//!
//! In: [`ScenarioSpec`](crate::spec). Out: [`Plan`]: cells in order, each with its schedule, its workload, its limits, and the
//! SLOs compiled to instances. No `Option` here means "default".

mod resolve;
mod matrix;
mod variants;
mod axes;
mod context;
mod renamed;
mod backends;
pub mod launch;
mod prompts;
mod conversations;
mod requests;
mod loads;
pub mod search;
pub mod external;
pub mod fairness;
pub mod slos;
pub mod arrivals;
pub mod users;
#[cfg(test)]
pub(crate) mod fixture;
mod digest;
mod outputs;
pub mod describe;
pub mod difference;
pub mod demand;
pub mod samples;
pub mod presets;
pub mod codes;

pub use crate::spec::{Absence, Fingerprint, History};
pub use arrivals::{
    Arrival, ArrivalCurve, Arrivals, Process, RampShape, RateForm, RatePiece, load_seed,
};
pub use conversations::takes_messages;
pub use external::ExternalBench;
pub use fairness::{Fairness, Matter};
pub use launch::{Launch, Lifetime, Offline, Port, ReadyRule, StopSignal};
pub use presets::SimulatedArgs;
pub use resolve::{PlanOptions, distinct, mistakes, plan};
pub use search::{Search, Step, Tried};
pub use users::{UserChange, UserChanges, UserCurve, UserExtent, UserPiece};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Span;
use crate::seed::{Random, Seed};
use crate::spec::ArgsSpec;
use crate::units::Rate;
use crate::workload::{PrefixCache, Tokenizer, Workload};

/// What will happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
    /// The file that it comes from, as the user wrote it.
    pub path: String,
    /// Environment variables that hold secrets of the scenario: no command gets them that does not ask for them.
    pub secrets: Vec<String>,
    /// The seed of everything random.
    pub seed: u64,
    /// How often each cell runs.
    pub repeats: u32,
    /// `b3:` and the blake3 of the cells' digests.
    pub digest: String,
    /// The cells in matrix order.
    pub cells: Vec<Cell>,
    /// Ids of the cells that a selection left out.
    pub deselected: Vec<String>,
    /// The order of execution: (index of the cell, repeat).
    pub order: Vec<CellRun>,
    /// The SLOs, each with its instances.
    pub slos: Vec<Slo>,
    /// How telemetry is sampled.
    pub telemetry: TelemetryPlan,
    /// Commands that run between two backends.
    pub between: Vec<Vec<String>>,
    /// Bounds on the whole run.
    pub limits: RunLimits,
    /// Set when every stage was shortened by `--smoke`.
    pub smoke: bool,
    /// SLO ids whose every cell was deselected, with the reason.
    pub skipped_slos: Vec<(String, String)>,
    /// The earlier report that assertions with `baseline` are about.
    pub baseline: Option<BaselinePlan>,
    /// Where results go besides their folder.
    pub outputs: Vec<Output>,
    /// Plots that are drawn as files when the run is over.
    pub plots: Option<Plots>,
    /// What a difference between backends that are compared does.
    pub fairness: Fairness,
    /// What of the SLOs is not judged without being wrong: an instance that is its own reference, a reference that is not in
    /// the matrix.
    pub notes: Vec<String>,
}

/// Where results go besides their folder.
#[derive(Clone, Debug)]
pub enum Output {
    /// A file of the results is copied.
    Copy {
        /// Its name among the results.
        name: &'static str,
        /// Where to.
        path: PathBuf,
    },
    /// The requests as a table of Parquet, among the results.
    Parquet,
    /// OTLP metrics over HTTP.
    Otlp(Receiver),
    /// Prometheus' remote write.
    Prometheus(Receiver),
}

/// Who takes the numbers of a report.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    /// What it wants to know.
    pub headers: Vec<(String, HeaderValue)>,
}

/// Plots that are drawn as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plots {
    /// The beginnings of their names; empty: all.
    pub names: Vec<String>,
    /// As SVG, not PNG.
    pub svg: bool,
}

/// The earlier report that assertions with `baseline` are about.
#[derive(Clone, Debug, PartialEq)]
pub struct BaselinePlan {
    /// The report; a relative path starts from the scenario file.
    pub file: PathBuf,
    /// What happens if the report, a cell or a number is missing; `None`: a warning at a terminal, a failure in CI.
    pub missing: Option<Absence>,
    /// What happens if it was measured on something else; `None` likewise.
    pub mismatch: Option<Absence>,
    /// What must be the same.
    pub must_match: Vec<Fingerprint>,
}

/// One run of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellRun {
    /// Index of the cell in the plan.
    pub cell: usize,
    /// Which repeat, from 0.
    pub repeat: u32,
}

/// One backend × model × prompt set × load.
#[derive(Clone, Debug)]
pub struct Cell {
    /// `vllm/llama8b/chat/steady`; a part that has only one choice in the scenario stands there all the same.
    pub id: String,
    /// The backend.
    pub backend: Arc<Backend>,
    /// The model.
    pub model: Arc<Model>,
    /// Id of the prompt set.
    pub prompts: String,
    /// Id of the load.
    pub load: String,
    /// The prompts.
    pub workload: Arc<Workload>,
    /// What the prefixes that its prompts share are to the engine's prefix cache.
    pub cache: PrefixCache,
    /// How its conversations are held; `None`: each request is a prompt of its own.
    pub dialogue: Option<Dialogue>,
    /// What is asked of the engine with each request.
    pub request: RequestParameters,
    /// Stages in order; segments refer to ranges of them.
    pub stages: Vec<Stage>,
    /// What runs without a drain between: one for ordinary loads, one per level for `levels`.
    pub segments: Vec<Segment>,
    /// What is searched for: of its segments, each a level, the run chooses one after another. `None`: all run, in their order.
    pub search: Option<Search>,
    /// How long streams are read on after the last send of a segment.
    pub drain: Duration,
    /// How long nothing happens after the cell.
    pub cooldown: Duration,
    /// Bounds that make a request good.
    pub goodput: Vec<GoodputBound>,
    /// Built-in guards with their bounds.
    pub guards: Guards,
    /// Dollars for an hour of one GPU, when the scenario names a price.
    pub gpu_hour: Option<f64>,
    /// Measured prompts that one repeat takes: repeat `r` starts at `r` times this many beyond each stage's offset.
    pub prompts_per_repeat: u64,
    /// `b3:` and the blake3 of the canonical JSON of what is sent.
    pub digest: String,
}

/// How conversations are held. Whatever counts requests in the cell's stages counts whole conversations then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dialogue {
    /// Whose answers later turns look back on.
    pub history: History,
    /// From an answer to the next turn.
    pub think: Distribution,
    /// Turns of a conversation, on average.
    pub turns: f64,
}

/// The engine under test and how to reach it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its id in the scenario.
    pub id: String,
    /// What kind of engine it is.
    pub kind: BackendKind,
    /// The base URL as written; `None` for the embedded simulator.
    pub url: Option<String>,
    /// Which API is spoken.
    pub api: Api,
    /// Header names and where their values come from.
    pub headers: Vec<(String, HeaderValue)>,
    /// Preset of the simulator.
    pub preset: Option<String>,
    /// What the simulator is told of the engine's arguments.
    pub simulated: SimulatedArgs,
    /// A certificate authority file to trust, and whether to trust anything.
    pub tls: Tls,
    /// Asked through the proxy that the environment names for its URL, if it does.
    pub proxy: bool,
    /// Not ready: its cells are skipped, not inconclusive.
    pub optional: bool,
    /// When it counts as ready.
    pub ready: ReadyRule,
    /// How it is started; `None`: it is there already.
    pub launch: Option<Launch>,
    /// A command that brings it up before its first cell; empty: none.
    pub up: Vec<String>,
    /// A command that takes it down after its last cell; empty: none.
    pub down: Vec<String>,
    /// Where its own metrics are.
    pub metrics: EngineMetrics,
    /// Which GPUs it runs on.
    pub gpus: Gpus,
    /// Its own benchmark, which runs beside ours.
    pub external_bench: Option<ExternalBench>,
}

/// What kind of engine a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the engines' own")]
pub enum BackendKind {
    Vllm,
    Sglang,
    TensorrtLlm,
    Friendli,
    LlamaCpp,
    Ollama,
    Transformers,
    Openai,
    /// The embedded simulator.
    Simulator,
}

impl BackendKind {
    /// Every kind, in the order of documents.
    pub const ALL: [BackendKind; 9] = [
        BackendKind::Vllm,
        BackendKind::Sglang,
        BackendKind::TensorrtLlm,
        BackendKind::Friendli,
        BackendKind::LlamaCpp,
        BackendKind::Ollama,
        BackendKind::Transformers,
        BackendKind::Openai,
        BackendKind::Simulator,
    ];

    /// Whether it is of no use without a GPU, as it is shipped.
    pub fn needs_gpus(self) -> bool {
        match self {
            BackendKind::Vllm | BackendKind::Sglang | BackendKind::TensorrtLlm => true,
            BackendKind::Friendli
            | BackendKind::LlamaCpp
            | BackendKind::Ollama
            | BackendKind::Transformers
            | BackendKind::Openai
            | BackendKind::Simulator => false,
        }
    }

    /// The name written in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            BackendKind::Vllm => "vllm",
            BackendKind::Sglang => "sglang",
            BackendKind::TensorrtLlm => "tensorrt-llm",
            BackendKind::Friendli => "friendli",
            BackendKind::LlamaCpp => "llama.cpp",
            BackendKind::Ollama => "ollama",
            BackendKind::Transformers => "transformers",
            BackendKind::Openai => "openai",
            BackendKind::Simulator => "simulator",
        }
    }
}

/// Which API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/responses`.
    Responses,
    /// `/v1/messages`, Anthropic's.
    Messages,
    /// `/generate`, SGLang's own.
    Generate,
    /// `/v2/models/MODEL/generate_stream`, Triton's.
    Triton,
    /// `/generate_stream`, TGI's own.
    Tgi,
    /// `/api/chat`, Ollama's own.
    Ollama,
    /// JSON lines to an adapter that holds the engine.
    Offline,
}

/// How an engine inside of an adapter works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineMode {
    /// Each request streams, and joins the batch that runs.
    Stream,
    /// Requests that come together are one batch, answered as a whole.
    Generate,
}

impl OfflineMode {
    /// The name written in scenario files and in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            OfflineMode::Stream => "stream",
            OfflineMode::Generate => "generate",
        }
    }
}

impl Api {
    /// The name written in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
            Api::Responses => "responses",
            Api::Messages => "messages",
            Api::Generate => "generate",
            Api::Triton => "triton",
            Api::Tgi => "tgi",
            Api::Ollama => "ollama",
            Api::Offline => "offline",
        }
    }
}

/// A header's value: literal, or read from the environment when the run starts. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// A literal that is no secret.
    Literal(String),
    /// The value of an environment variable between two texts, like `Bearer ` before `TOKEN`.
    Environment {
        /// What stands before the value.
        prefix: String,
        /// The variable's name.
        name: String,
        /// What stands behind the value.
        suffix: String,
    },
}

impl std::fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeaderValue::Literal(_) => f.write_str("***"),
            HeaderValue::Environment { name, .. } => write!(f, "*** (from ${name})"),
        }
    }
}

/// How TLS trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file of authorities to trust besides the system's.
    pub ca: Option<std::path::PathBuf>,
    /// Trust any certificate.
    pub insecure: bool,
}

/// Where an engine's own metrics are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineMetrics {
    /// `/metrics` beside the API, if it is there.
    Auto,
    /// At this URL.
    Url(String),
    /// Not read.
    Off,
}

/// Which GPUs a backend runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// Local NVML if the URL is loopback, else none.
    Auto,
    /// None are read.
    Off,
    /// These NVML indices.
    Nvml(Vec<u32>),
    /// Those that a DCGM exporter tells of.
    Dcgm {
        /// Its page.
        url: String,
        /// Only these indices; empty: all.
        devices: Vec<u32>,
    },
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its key in the scenario.
    pub key: String,
    /// The name that is sent to the engine by default.
    pub id: Option<String>,
    /// The name that a backend serves it under, by backend id.
    pub served_as: Vec<(String, String)>,
    /// What counts its tokens, and holds its chat template.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The most tokens that a prompt and its answer may have together, where the scenario says so.
    pub context: Option<u32>,
    /// What a launched backend is told for this model, by backend id.
    pub launch_args: Vec<(String, ArgsSpec)>,
    /// The adapters that its requests are spread over, each with its weight; empty: the model itself is asked for.
    pub lora: Vec<(String, f64)>,
}

impl Model {
    /// The name to send to the backend with this id; `None` means the one model that the server lists.
    pub fn name_for(&self, backend: &str) -> Option<&str> {
        self.served_as
            .iter()
            .find(|(id, _)| id == backend)
            .map(|(_, name)| name.as_str())
            .or(self.id.as_deref())
    }
}

/// What is asked of the engine with each request; a prompt's own controls win over it.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestParameters {
    /// Stream the answer.
    pub stream: bool,
    /// The cap on generated tokens.
    pub max_tokens: u32,
    /// The floor on generated tokens.
    pub min_tokens: Option<u32>,
    /// Go on after the end-of-sequence token.
    pub ignore_eos: bool,
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Top-k sampling.
    pub top_k: Option<i64>,
    /// Sampling seed.
    pub seed: Option<i64>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// What is asked for beside a text.
    pub wishes: Wishes,
    /// Merged into the body last.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Time limits of one request.
    pub timeouts: Timeouts,
}

/// What is asked for beside a text, in the words of OpenAI's chat API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Whether the model thinks aloud before it answers.
    pub thinking: Option<bool>,
    /// The form of the answer.
    pub response_format: Option<serde_json::Map<String, serde_json::Value>>,
    /// Tools that the model may call.
    pub tools: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// Time limits of one request, each for its own phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening the connection.
    pub connect: Duration,
    /// From dispatch to the first token.
    pub first_token: Duration,
    /// Between two reads of a stream.
    pub idle: Duration,
    /// From dispatch to the end.
    pub total: Duration,
}

/// A named part of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its name, unique in the cell.
    pub name: String,
    /// Whether it enters verdicts.
    pub measured: bool,
    /// Users at its end (closed loop), the level of a level.
    pub users: Option<u32>,
    /// Rate at its end (open loop).
    pub rate: Option<Rate>,
    /// How it ends.
    pub extent: Extent,
    /// Requests that it will send: known for open loop, batches and counted stages.
    pub requests: Planned,
    /// How long it is expected to take; known for timed stages.
    pub expected: Planned,
    /// The first prompt of its slice of the set, so each stage and repeat takes its own prompts (reference.md, `prompts.ID`).
    pub prompt_offset: u64,
    /// The slice has fewer prompts than requests, or the set was already used up: prompts repeat.
    pub prompts_reused: bool,
    /// Keep the level up with unmeasured requests until the last measured one has ended.
    pub tail_fill: bool,
    /// Where it was written.
    pub span: Span,
}

impl Cell {
    /// The id of a measured prompt, and its tokens as the engine sees them; `None` without a tokenizer, or where an unknown something
    /// is put around a prompt: by the API, or with images, tools, and what is said to the chat template.
    pub fn counted_prompt(&self, ordinal: u64) -> Option<(Arc<str>, u32)> {
        let tokenizer = self.model.tokenizer.as_ref()?;
        let prompt = self.workload.prompt(ordinal);
        let tokens = match self.backend.api {
            Api::Chat if prompt.images.is_some() || self.request.adds_to_prompts() => return None,
            Api::Chat => tokenizer.request_tokens(&prompt.text).ok()?,
            Api::Completions | Api::Generate => tokenizer.count(&prompt.text) + tokenizer.added(),
            Api::Responses
            | Api::Messages
            | Api::Triton
            | Api::Tgi
            | Api::Ollama
            | Api::Offline => return None,
        };
        Some((prompt.id, tokens))
    }

    /// The branch of randomness of one segment in one repeat: the same for every backend and model.
    pub fn segment_seed(&self, seed: u64, segment: usize, repeat: u32) -> Seed {
        load_seed(seed, &self.prompts, &self.load, repeat).at(segment as u64)
    }

    /// Where the choice of an adapter falls, from 0 to 1, for the request with this stage and index: the same for every backend.
    pub fn adapter_draw(
        &self,
        seed: u64,
        segment: usize,
        repeat: u32,
        (stage, index): (usize, u64),
    ) -> f64 {
        self.segment_seed(seed, segment, repeat)
            .stream("lora")
            .at(stage as u64)
            .at(index)
            .rng()
            .unit()
    }
}

/// How a stage ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Extent {
    /// After a time.
    For(Duration),
    /// When this many requests have been sent and, if `tail_fill`, have ended.
    Requests(u64),
}

/// A number that the plan knows, or estimates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planned {
    /// Exactly this many (requests, or seconds).
    Exact(f64),
    /// About this many, on the stated assumption.
    Estimate(f64),
    /// Cannot be told before the run.
    Unknown,
}

impl Planned {
    /// The number, exact or not.
    pub fn value(self) -> Option<f64> {
        match self {
            Planned::Exact(value) | Planned::Estimate(value) => Some(value),
            Planned::Unknown => None,
        }
    }
}

/// Stages that run without a drain between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The first stage and one past the last, as indices into the cell's stages.
    pub stages: std::ops::Range<usize>,
    /// When requests leave.
    pub schedule: Schedule,
    /// How long nothing happens after it has drained, before the next segment.
    pub cooldown: Duration,
}

/// When requests leave.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Arrivals never wait for responses.
    Open {
        /// The arrivals.
        curve: ArrivalCurve,
        /// The safety cap on requests in flight.
        max_in_flight: u32,
        /// What happens to an arrival that meets the cap.
        on_full: OnFull,
    },
    /// Each user sends its next request after the answer.
    Closed {
        /// How many users there are, and when.
        users: UserCurve,
        /// From an answer to the same user's next request.
        think: Distribution,
        /// What happens to a busy user whose time to stop has come.
        ramp_down: RampDown,
    },
    /// `size` at once (`None`: all), a barrier, and again.
    Batch {
        /// Requests in one batch.
        size: Option<u32>,
        /// Requests in all.
        requests: u64,
    },
}

/// What happens to an arrival that meets the in-flight cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// It waits, and the wait is told as `cap_wait`.
    Queue,
    /// It is dropped, and counted.
    Drop,
}

/// What happens to a busy user whose time to stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RampDown {
    /// It finishes its request, then leaves.
    Finish,
    /// Its request is cut.
    Cancel,
}

/// A distribution of a length or a time; times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Always this.
    Fixed(f64),
    /// Uniform between two bounds, both included for whole numbers.
    Uniform(f64, f64),
    /// Normal with mean and standard deviation, cut at `min` and `max`.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        stddev: f64,
        /// The least value.
        min: f64,
        /// The greatest value.
        max: f64,
    },
    /// Log-normal with median and 95th percentile, cut at `min` and `max`.
    Lognormal {
        /// The median.
        median: f64,
        /// The 95th percentile.
        p95: f64,
        /// The least value.
        min: f64,
        /// The greatest value.
        max: f64,
    },
    /// Exponential with this mean.
    Exponential(f64),
}

impl Distribution {
    /// One draw.
    pub fn sample(&self, random: &mut Random) -> f64 {
        /// The standard normal quantile of 0.95.
        const Z95: f64 = 1.644_853_626_951_472_2;
        match *self {
            Distribution::Fixed(value) => value,
            Distribution::Uniform(low, high) => low + (high - low) * random.unit(),
            Distribution::Normal {
                mean,
                stddev,
                min,
                max,
            } => (mean + stddev * random.normal()).max(min).min(max),
            Distribution::Lognormal {
                median,
                p95,
                min,
                max,
            } => {
                let sigma = libm::log(p95 / median) / Z95;
                (median * libm::exp(sigma * random.normal()))
                    .max(min)
                    .min(max)
            }
            Distribution::Exponential(mean) => mean * random.exponential(),
        }
    }
}

/// A bound that a good request meets.
#[derive(Clone, Debug, PartialEq)]
pub struct GoodputBound {
    /// A per-request trend: `ttft`, `tpot`, `e2e`, …
    pub metric: String,
    /// The bound in the metric's canonical unit (milliseconds for times).
    pub limit: f64,
    /// Only for requests of this category, if named.
    pub category: Option<String>,
    /// Where it was written.
    pub span: Span,
}

/// The built-in guards of one cell. `None` is off.
#[derive(Clone, Debug, PartialEq)]
pub struct Guards {
    /// Failed ÷ scheduled: above it the verdict is `fail`.
    pub error_rate: Option<Guard>,
    /// Bound on p99 of `send_lag` in seconds; `None` inside means max(10 ms, 2 % of median ttft).
    pub send_lag: Option<Guard>,
    /// Planned sends that were not made.
    pub missed: Option<Guard>,
    /// Requests cut at the end of the drain.
    pub cut: Option<Guard>,
    /// Mean active users as a share of the level.
    pub concurrency: Option<Guard>,
    /// The runner's busiest thread as a share of a core.
    pub client: Option<Guard>,
    /// p99 of the possible stamp error in seconds; `None` inside means max(1 ms, 2 % of median ttft).
    pub stamps: Option<Guard>,
    /// Disagreement of usage and tokenizer.
    pub tokens: Option<Guard>,
    /// Unexpected prefix hits.
    pub cache_hits: Option<Guard>,
    /// Clock throttling of a GPU.
    pub throttling: Option<Guard>,
    /// Foreign processes on the GPU.
    pub neighbours: Option<Guard>,
    /// Restarts of the engine.
    pub restarts: Option<Guard>,
}

/// A guard's bound and what it does when it trips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// The bound: a share as a fraction, a time in seconds; `None` for the built-in rule.
    pub limit: Option<f64>,
    /// Whether it decides or only warns.
    pub level: Level,
}

impl Default for Guards {
    fn default() -> Guards {
        let fail = |limit| {
            Some(Guard {
                limit,
                level: Level::Fail,
            })
        };
        let warn = |limit| {
            Some(Guard {
                limit,
                level: Level::Warn,
            })
        };
        Guards {
            error_rate: fail(Some(0.01)),
            send_lag: fail(None),
            missed: fail(Some(0.01)),
            cut: fail(Some(0.01)),
            concurrency: fail(Some(0.95)),
            client: fail(Some(0.90)),
            stamps: fail(None),
            tokens: warn(Some(0.02)),
            cache_hits: warn(Some(0.05)),
            throttling: warn(None),
            neighbours: warn(None),
            restarts: fail(None),
        }
    }
}

/// Whether a verdict changes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It does.
    Fail,
    /// It never does.
    Warn,
}

/// How telemetry is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryPlan {
    /// The interval.
    pub every: Duration,
    /// Whether the engines' own metrics are read.
    pub engine: bool,
}

/// Bounds on the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunLimits {
    /// No cell starts that cannot end in it.
    pub max_duration: Option<Duration>,
    /// Requests in all.
    pub requests: Option<u64>,
    /// Generated tokens in all.
    pub output_tokens: Option<u64>,
    /// Load threads; `None`: chosen from the cores.
    pub workers: Option<u32>,
}

impl Plan {
    /// Whether a run needs another process than the run before it: another backend, other words, or a lifetime that has ended.
    pub fn needs_another_engine(&self, before: CellRun, now: CellRun) -> bool {
        let (before, now) = (
            &self.cells[before.cell].backend,
            &self.cells[now.cell].backend,
        );
        let serves_on = |launch: &Launch| launch.lifetime == Lifetime::Backend;
        before.id != now.id
            || before.launch != now.launch
            || !now.launch.as_ref().is_none_or(serves_on)
    }

    /// How often engines will be started, when any is launched.
    pub fn starts(&self) -> usize {
        let mut starts = 0;
        let mut before: Option<CellRun> = None;
        for &run in &self.order {
            let cell = &self.cells[run.cell];
            if let Some(launch) = &cell.backend.launch {
                starts += match (launch.lifetime, before) {
                    (Lifetime::Level, _) => match &cell.search {
                        Some(search) => search.most_tries(cell),
                        None => cell.segments.len(),
                    },
                    (_, Some(before)) => usize::from(self.needs_another_engine(before, run)),
                    (_, None) => 1,
                };
            }
            before = Some(run);
        }
        starts
    }
}

/// Repeats of each side that `separated` needs: the fewest of which one may be an exception.
pub const FEWEST_REPEATS: u32 = 3;

/// A compiled SLO: what was written, and the instances that it is judged in. Filled by [`slos`].
#[derive(Clone, Debug)]
pub struct Slo {
    /// Its id in the scenario.
    pub id: String,
    /// The text of the assertion as written.
    pub text: String,
    /// Where the assertion was written.
    pub span: Span,
    /// Whether it changes the exit code.
    pub level: Level,
    /// When it stops its cell.
    pub abort: Option<AbortRule>,
    /// It must hold in every tumbling window of this length.
    pub window: Option<Duration>,
    /// How failures count.
    pub count: Count,
    /// Where latencies start; `None`: intended in open loop, sent in closed loop.
    pub clock: Option<StartClock>,
    /// Which repeat decides.
    pub repeats_must: RepeatsMust,
    /// Fewer samples than this confidence needs, above 0 and below 1, are inconclusive.
    pub confidence: Option<f64>,
    /// A failure counts only if each repeat of one side breaks the bound against each repeat of the other.
    pub separated: bool,
    /// The instances.
    pub instances: Vec<SloInstance>,
}

/// One thing that is judged: an assertion in one scope.
#[derive(Clone, Debug)]
pub struct SloInstance {
    /// The comparison, compiled.
    pub assertion: crate::assertion::Assertion,
    /// The text of the assertion that applies here (the SLO's own, or an override's).
    pub text: String,
    /// Which override applies, by its position in the list.
    pub override_index: Option<usize>,
    /// Where that text was written.
    pub span: Span,
    /// What the verdict is said of.
    pub scope: Scope,
    /// The scope as (dimension, value) pairs in a fixed order, for names: `stage` `c16`, `category` `code`.
    pub labels: Vec<(&'static str, String)>,
    /// For each measure of the assertion, in order of appearance: what it is taken over.
    pub measures: Vec<Scope>,
}

/// What a measure is taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Indices of the cells; several when pooled.
    pub cells: Vec<usize>,
    /// Index of the stage in each of those cells, in the same order.
    pub stages: Vec<usize>,
    /// Only requests of these categories; empty: all.
    pub categories: Vec<String>,
    /// Only requests of these turns, as inclusive ranges; empty: all.
    pub turns: Vec<(u32, u32)>,
    /// Only this GPU.
    pub gpu: Option<u32>,
    /// Each GPU is judged on its own (`{gpu=*}`): the worst decides.
    pub each_gpu: bool,
    /// Only these repeats, from 0; empty: the repeat under judgement.
    pub repeats: Vec<u32>,
}

/// When a verdict stops its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortRule {
    /// Not before this time of the stage.
    pub after: Duration,
    /// Judged on this trailing window.
    pub window: Duration,
}

/// How failures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A failure has the worst value.
    All,
    /// Only answered requests count.
    Ok,
}

/// Where latencies start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartClock {
    /// When the plan says that the request leaves.
    Intended,
    /// When it was sent.
    Sent,
}

/// Which repeat decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatsMust {
    /// The median one; of an even number, the worse of the middle two.
    Median,
    /// All of them must pass.
    All,
}
