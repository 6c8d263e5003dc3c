//! The report: the only types that are serialized to files. A change here is a change of a format that people build on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranking::Ranking;

/// The name and version of the format, the first key of every report.
pub const SCHEMA: &str = "scenario.report/v1";

/// What one run of one scenario gave: cells with their measurements, and verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "scenario report, version 1")]
pub struct Report {
    /// `scenario.report/v1`.
    pub schema: String,
    /// How it ended.
    pub status: Status,
    /// The exit code of the run.
    pub exit_code: u8,
    /// Version of the definitions of metrics.
    pub metrics: u32,
    /// Version of the tool.
    pub tool: String,
    /// Something in it comes from the embedded simulator.
    pub simulated: bool,
    /// Every stage was shortened by `--smoke`.
    pub smoke: bool,
    /// `b3:` and the blake3 of the cells' digests.
    pub plan_digest: String,
    /// The files of other tools that it was made from; empty of a run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imported: Vec<Imported>,
    /// The seed of everything random.
    pub seed: u64,
    /// How often each cell was to run.
    pub repeats: u32,
    /// When the run began, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// The command line, program first.
    pub command: Vec<String>,
    /// The scenario.
    pub scenario: Scenario,
    /// Where it ran and against what.
    pub environment: Environment,
    /// What the runner knows about its own exactness, the worst of all cells; `null` when no cell ran.
    pub client: Option<Client>,
    /// The cells in matrix order.
    pub cells: Vec<Cell>,
    /// Cells that differ in their backend alone, and what is alike between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fairness: Vec<Comparison>,
    /// What the engines' own benchmarks say: series of their own, in no verdict and in no comparison.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<External>,
    /// What is said of each SLO and each guard in each scope.
    pub verdicts: Vec<Verdict>,
    /// Verdicts by state.
    pub counts: Counts,
    /// How the backends stand beside each other, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
    /// The user's files as they were read, so that a verdict can be shown where it was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceFile>,
    /// The scenario as it was laid together from these files, its profile and its variables; empty where one file says it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<ResolvedLine>,
}

/// A result file of another tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// Its path, as the user wrote it.
    pub path: String,
    /// Which tool wrote it.
    pub format: String,
    /// That tool's version.
    pub version: Option<String>,
}

/// A file of the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceFile {
    /// Its path, as the user wrote it.
    pub path: String,
    /// Its path from the root of its repository, or as it was written where it is in none; absent where it is no file, but a value
    /// of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_repository: Option<String>,
    /// Its text.
    pub text: String,
}

/// A line of a scenario that was laid together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedLine {
    /// Its text.
    pub text: String,
    /// Where the value that ends it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every gate held.
    Passed,
    /// An SLO failed.
    Failed,
    /// No SLO failed, and something could not be told.
    Inconclusive,
    /// There was nothing to judge: the scenario has no SLOs.
    Measured,
    /// It was stopped from outside.
    Interrupted,
}

impl Status {
    /// The word used in files and on the terminal.
    pub fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Inconclusive => "inconclusive",
            Status::Measured => "measured",
            Status::Interrupted => "interrupted",
        }
    }
}

/// Which scenario it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scenario {
    /// The file, as the user wrote it.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
}

/// Where a run took place and against what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The machine of the runner.
    pub host: Host,
    /// The GPUs that were watched.
    pub gpus: Vec<Gpu>,
    /// The engines, by backend.
    pub engines: Vec<Engine>,
    /// The state of the repository that the scenario lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
}

impl Environment {
    /// The memory of the GPU that has most of it, in bytes.
    pub(super) fn largest_gpu_memory(&self) -> Option<u64> {
        self.gpus.iter().filter_map(|gpu| gpu.memory_bytes).max()
    }
}

/// The state of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Git {
    /// The commit that is checked out.
    pub revision: String,
    /// Files that are tracked differ from it.
    pub modified: bool,
}

/// The machine of the runner. What could not be read is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its name.
    pub name: Option<String>,
    /// The operating system.
    pub os: String,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's model.
    pub cpu: Option<String>,
    /// Cores that the runner may use.
    pub cores: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The kernel's clock source; times are less exact when it is not `tsc`.
    pub clocksource: Option<String>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The driver's version.
    pub driver: Option<String>,
    /// The version of CUDA that the driver speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// It is a simulated one.
    pub simulated: bool,
}

/// One engine under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// The backend's id in the scenario.
    pub backend: String,
    /// Its kind.
    pub kind: String,
    /// The base URL, without credentials.
    pub url: Option<String>,
    /// The API that is spoken: `chat`, `completions` and so on, `offline` for an engine without a server.
    #[serde(default)]
    pub api: String,
    /// The version that it told.
    pub version: Option<String>,
    /// The models that it lists.
    pub models: Vec<String>,
    /// The longest context that it says to take, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// The proxy that its requests went through: its time is in every latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// It is the embedded simulator.
    pub simulated: bool,
    /// The names of the GPUs that were watched for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Arguments that an engine without a server was loaded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Value>,
    /// Environment variables that it was started with; of a secret only where it comes from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The command that it was started with, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Seconds from the start of its process to its first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start_s: Option<f64>,
    /// Where its output is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// One backend × model × prompt set × load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// `vllm/llama8b/chat/steady`.
    pub id: String,
    /// Id of the backend.
    pub backend: String,
    /// Key of the model.
    pub model: String,
    /// Id of the prompt set.
    pub prompts: String,
    /// Id of the load.
    pub load: String,
    /// `b3:` and the blake3 of what is sent; equal digests can be compared.
    pub digest: String,
    /// Its first measured request, in the words of the engine's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// Each time it was to run.
    pub runs: Vec<CellRun>,
    /// Its stages in order.
    pub stages: Vec<Stage>,
}

impl Cell {
    /// Whether a stage was asked for at all: not, if it is a level that a search had no need to try.
    pub fn was_asked(&self, stage: &Stage) -> bool {
        stage.numbers.is_some() || self.runs.iter().all(|run| run.search.is_none())
    }
}

/// A request as it was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// Where it went, behind the base URL.
    pub path: String,
    /// Its body; long texts are shortened.
    pub body: serde_json::Value,
}

/// One run of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellRun {
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Its place in the order of execution, from 0.
    pub order: u32,
    /// How it ended.
    pub status: CellStatus,
    /// Why it ended early or did not run.
    pub reason: Option<String>,
    /// Seconds since the Unix epoch at the cell's zero.
    pub wall_anchor: Option<f64>,
    /// What happened beside the requests.
    pub events: Vec<Event>,
    /// What the runner knows about its own exactness.
    pub client: Option<Client>,
    /// What its search for the capacity has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchResult>,
}

/// What a search for the capacity has found in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchResult {
    /// The range as written: `rate 1/s..200/s`.
    pub range: String,
    /// The unit of levels: `req/s` or `users`.
    pub unit: String,
    /// The greatest level at which every SLO held; `null`: none did.
    pub capacity: Option<f64>,
    /// The least level that did not hold.
    pub broke: Option<f64>,
    /// Why no further level was tried: `found`, `ceiling` (the greatest level holds, too), `floor` (not even the lowest does),
    /// `out_of_time`, or `unfinished`.
    pub end: String,
    /// The levels that were tried, in this order.
    pub tries: Vec<SearchTry>,
}

/// One level that a search has tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchTry {
    /// Its stage.
    pub stage: String,
    /// The level, in the unit of the search.
    pub level: f64,
    /// Whether every SLO held; `null`: nobody can tell.
    pub held: Option<bool>,
    /// What did not hold, or why nobody can tell.
    pub why: Vec<String>,
}

/// How a run of a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CellStatus {
    /// Everything that was planned was done.
    Complete,
    /// An abort rule stopped it.
    Aborted,
    /// It was stopped from outside.
    Interrupted,
    /// The budget of the run was reached.
    Budget,
    /// Its engine, which was launched for it, ended by itself.
    EngineDied,
    /// It was to run and could not: its verdicts are inconclusive.
    NotReady,
    /// It was not asked to run after all: its verdicts are skipped.
    Skipped,
    /// It ran, and what was seen of it is lost: judged again, its verdicts are inconclusive.
    Lost,
}

/// Something that happened beside the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When, in seconds since the cell began.
    pub at_s: f64,
    /// What kind, like `gpu_throttled`.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// What the runner knows about its own exactness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Client {
    /// Where receive stamps come from: `kernel` or `read`.
    pub stamp_source: String,
    /// Reads without a kernel stamp although the source is `kernel`.
    pub stamps_missing: u64,
    /// Read instant minus kernel instant.
    pub read_lag_ms: Lag,
    /// Possible error of the stamps of events that shared a read.
    pub stamp_error_ms: Lag,
    /// Share of output events that shared a read with a later one, 0 to 1.
    pub shared_events: Option<f64>,
    /// Share of first tokens that shared a read with a later output event, 0 to 1.
    pub shared_first_tokens: Option<f64>,
    /// Share of one core that each worker used, 0 to 1.
    pub worker_cpu: Vec<f64>,
    /// The largest of them.
    pub worker_cpu_max: Option<f64>,
    /// Connections opened.
    pub connections_opened: u64,
    /// Share of requests on a connection that had served one before, 0 to 1.
    pub reused_connections: Option<f64>,
}

/// Percentiles of a lag in milliseconds; `null` when none was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lag {
    /// The median.
    pub p50: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// One stage of a cell. With several repeats its numbers are the medians over them (of an even number the worse of the
/// middle two), its counts their sums, and `repeats` has each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Whether it enters verdicts.
    pub measured: bool,
    /// Requests leave at planned instants, and latencies are judged and shown from those.
    #[serde(default)]
    pub open_loop: bool,
    /// Closed loop: its users at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
    /// Open loop: its rate at its end, in requests (of conversations: sessions) per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Its prompts were used before in this cell, or repeat in it.
    pub prompts_reused: bool,
    /// Its numbers; `null` when it never began.
    pub numbers: Option<StageNumbers>,
    /// The failures of all repeats by kind, most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failures>,
    /// The numbers of each repeat, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<StageRepeat>,
}

/// The failures of one kind in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failures {
    /// How the requests ended.
    pub outcome: String,
    /// How many did.
    pub count: u64,
    /// What the first of them said, shortened.
    pub first_message: Option<String>,
    /// When the first of them ended, in seconds since the cell began.
    pub first_s: f64,
    /// When the last of them ended, in seconds since the cell began.
    pub last_s: f64,
    /// None of the stage's requests was answered after the last of them.
    pub to_the_end: bool,
}

/// The numbers of one stage in one repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRepeat {
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Its numbers.
    pub numbers: StageNumbers,
}

/// Counts and metrics; planned = ok + failed + cut + dropped + unsent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageNumbers {
    /// Requests planned.
    pub planned: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub ok: u64,
    /// Requests failed.
    pub failed: u64,
    /// Requests in flight at the end of the drain.
    pub cut: u64,
    /// Requests dropped at the in-flight cap.
    pub dropped: u64,
    /// Requests never sent.
    pub unsent: u64,
    /// Failures by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// The window of flows and gauges, in seconds since the cell began.
    pub window_s: Option<[f64; 2]>,
    /// How long the stage took.
    pub duration_s: f64,
    /// Each metric that has a value.
    pub metrics: BTreeMap<String, Metric>,
    /// The same per category of the prompt set.
    pub categories: Vec<Category>,
    /// In-flight time against request time in the window: the relative difference, which should be 0.
    pub books: Option<f64>,
    /// The statistics that are compared in each tenth of the window: what their spread is told from. Of several repeats each
    /// has its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenths: BTreeMap<String, Vec<f64>>,
    /// What `vllm bench serve`, AIPerf and guidellm would tell of the same requests, under their names and units. Of several
    /// repeats each has its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compat: BTreeMap<String, BTreeMap<String, f64>>,
}

impl StageNumbers {
    /// How many requests came to what, in the order of tables.
    pub fn counts(&self) -> [(&'static str, u64); 7] {
        [
            ("planned", self.planned),
            ("sent", self.sent),
            ("ok", self.ok),
            ("failed", self.failed),
            ("cut", self.cut),
            ("dropped", self.dropped),
            ("unsent", self.unsent),
        ]
    }
}

/// The metrics of one category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Category {
    /// Its name.
    pub name: String,
    /// Each metric that has a value.
    pub metrics: BTreeMap<String, Metric>,
}

/// The statistics of one metric over answered requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// `trend`, `gap`, `rate`, `counter`, `flow`, `gauge` or `derived`.
    pub kind: String,
    /// The unit; shares are fractions with an empty unit.
    pub unit: String,
    /// Samples.
    pub n: u64,
    /// Answered requests on which it is undefined, and left out; of `goodput_ratio`, those on which a bound is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undefined: u64,
    /// Where the statistics come from: `exact`, `hdr`, `time-weighted`, `ratio`, `flow`.
    pub estimator: String,
    /// Distribution-free 95 % intervals of percentiles: low and high.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// `mean`, `min`, `p50`, `p95`, `max`, `std`, `value` and so on.
    #[serde(flatten)]
    pub stats: BTreeMap<String, f64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What an engine's own benchmark says: its load, its definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct External {
    /// Id of the backend.
    pub backend: String,
    /// Key of the model.
    pub model: String,
    /// How its results are written: `vllm`, `sglang`, `trtllm` or `jsonpath`.
    pub format: String,
    /// The command that was run.
    pub command: String,
    /// Its values by name, in the units that the names say.
    pub values: BTreeMap<String, f64>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where its output is.
    pub log: String,
    /// How long it took, in seconds.
    pub duration_s: f64,
}

/// Cells that differ in their backend alone: what one looks at side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The cells.
    pub cells: Vec<String>,
    /// Each matter of which something is known.
    pub facts: Vec<FairnessFact>,
}

/// Something that must be alike for a comparison of backends to be one of engines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FairnessFact {
    /// `model`, `dtype`, `context length`, `sampling` and so on.
    pub what: String,
    /// What it is, in the order of the cells; `null` where nobody knows.
    pub values: Vec<Option<String>>,
    /// Two of the cells are known to differ in it.
    pub differs: bool,
}

/// What is said of one SLO, or one guard, in one scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Id of the SLO, or `guard:send_lag` and the like.
    pub id: String,
    /// `id[aggregate] @stage` and split values: the same from run to run.
    pub name: String,
    /// It is a built-in guard.
    pub guard: bool,
    /// The assertion as written.
    pub text: String,
    /// The assertion in its one normal form.
    pub normal: String,
    /// The cell; `null` when it is said of several.
    pub cell: Option<String>,
    /// Every cell that it is said of.
    pub cells: Vec<String>,
    /// The stage; `null` when it is said of several.
    pub stage: Option<String>,
    /// What else narrows it: category, turn, gpu, repeat.
    pub scope: BTreeMap<String, String>,
    /// The verdict.
    pub status: VerdictStatus,
    /// Why it is inconclusive or skipped.
    pub reason: Option<Reason>,
    /// `fail` or `warn`: whether it changes the exit code.
    pub level: String,
    /// One line: what was seen, the limit, how far beyond it, on how many samples.
    pub message: String,
    /// The left side.
    pub observed: Option<Value>,
    /// The right side.
    pub bound: Option<Value>,
    /// How far the left side lies beyond the bound, as a share of the bound; positive is worse.
    pub margin: Option<f64>,
    /// Where it broke: the window, the GPU, the stage that was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Samples of the left side.
    pub n: Option<u64>,
    /// Fewer samples than the percentile's 95 % bound needs.
    pub thin: bool,
    /// The distribution-free 95 % interval of the left side.
    pub interval: Option<[f64; 2]>,
    /// `all` or `ok`: how failures counted.
    pub count: String,
    /// `intended` or `sent`: where latencies started.
    pub clock: Option<String>,
    /// Which override's bound applied.
    #[serde(rename = "override")]
    pub override_index: Option<u32>,
    /// Where the assertion stands; `null` for guards.
    pub at: Option<Place>,
    /// That line of the user's file.
    pub excerpt: Option<String>,
    /// Of an SLO with a `window`, when it did not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
    /// What each repeat gave, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<VerdictRepeat>,
    /// The command that runs this cell alone, again.
    pub rerun: Option<String>,
    /// What to change.
    pub advice: Option<String>,
}

/// The four states of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerdictStatus {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It could not be told.
    Inconclusive,
    /// It was not asked.
    Skipped,
}

impl VerdictStatus {
    /// The word used in files and on the terminal.
    pub fn name(self) -> &'static str {
        match self {
            VerdictStatus::Pass => "pass",
            VerdictStatus::Fail => "fail",
            VerdictStatus::Inconclusive => "inconclusive",
            VerdictStatus::Skipped => "skipped",
        }
    }
}

/// Why a verdict is inconclusive or skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// `no-data` or `invalid`; `null` when skipped.
    pub family: Option<String>,
    /// In words.
    pub text: String,
}

/// A measured or a bounding value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Value {
    /// The value; `null` stands for +∞.
    pub value: Option<f64>,
    /// The unit.
    pub unit: String,
    /// For people: `312ms`, `∞ (7 of 100 failed)`.
    pub text: String,
}

/// A window in which an SLO did not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Broken {
    /// Which repeat, from 0.
    pub repeat: u32,
    /// From when, in seconds since the cell began.
    pub from_s: f64,
    /// Until when.
    pub to_s: f64,
}

/// A place in the user's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The file, as the user wrote it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub col: u32,
}

/// What one repeat gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictRepeat {
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Its state.
    pub status: VerdictStatus,
    /// Why it is inconclusive or skipped.
    pub reason: Option<Reason>,
    /// Its left side.
    pub observed: Option<Value>,
    /// Its right side.
    pub bound: Option<Value>,
    /// Its margin.
    pub margin: Option<f64>,
}

/// Verdicts by state; those of level `warn` that do not pass are warnings and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// The scenario's SLOs.
    pub slos: StateCounts,
    /// The built-in guards.
    pub guards: StateCounts,
}

/// Verdicts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateCounts {
    /// They hold.
    pub pass: u32,
    /// They do not.
    pub fail: u32,
    /// They could not be told.
    pub inconclusive: u32,
    /// They were not asked.
    pub skipped: u32,
    /// Level `warn`, and failed or inconclusive.
    pub warnings: u32,
}

/// One request, for `requests.csv` and `requests.ndjson`. Times are milliseconds since the cell began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestRow {
    /// The cell.
    pub cell: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// The stage in which it was intended.
    pub stage: String,
    /// Its index in the stage.
    pub index: u64,
    /// How it ended.
    pub outcome: String,
    /// HTTP status.
    pub status: Option<u16>,
    /// When the plan says that it leaves.
    pub intended_ms: f64,
    /// When it was released.
    pub dispatched_ms: Option<f64>,
    /// When the first generated output arrived.
    pub first_token_ms: Option<f64>,
    /// When the last generated output arrived.
    pub last_token_ms: Option<f64>,
    /// When it ended.
    pub finished_ms: f64,
    /// `first_token − dispatched`.
    pub ttft_ms: Option<f64>,
    /// `last_token − dispatched`.
    pub e2e_ms: Option<f64>,
    /// `(last_token − first_token) / (n − n_first)`.
    pub tpot_ms: Option<f64>,
    /// Prompt tokens.
    pub input_tokens: Option<u32>,
    /// Generated tokens.
    pub output_tokens: Option<u32>,
    /// Where `output_tokens` comes from.
    pub token_source: String,
    /// Category of its prompt.
    pub category: Option<String>,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// The LoRA adapter that it asks for, where requests are spread over several.
    #[serde(default)]
    pub adapter: Option<String>,
    /// How its engine is asked: `http`, or `offline` of one without a server.
    #[serde(default)]
    pub interface: String,
    /// What only `requests.ndjson` has.
    #[serde(flatten)]
    pub more: RequestDetails,
}

/// What `requests.ndjson` has beyond `requests.csv`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestDetails {
    /// Its `x-request-id`.
    #[serde(default)]
    pub request_id: String,
    /// Whether it counts.
    pub measured: bool,
    /// Id of its prompt.
    pub prompt: String,
    /// Turn of a conversation, from 1.
    pub turn: u32,
    /// The closed-loop user that sent it.
    pub user: Option<u32>,
    /// How long the in-flight cap held it.
    pub cap_wait_ms: f64,
    /// How long connecting took.
    pub connect_ms: Option<f64>,
    /// When the last byte of the request was written.
    pub written_ms: Option<f64>,
    /// When the response head was complete.
    pub headers_ms: Option<f64>,
    /// When the first event of any kind arrived.
    pub first_event_ms: Option<f64>,
    /// When the first visible text arrived.
    pub first_content_ms: Option<f64>,
    /// A later output event came in the same read as the first token.
    pub first_token_shared: bool,
    /// The engine's `finish_reason`.
    pub finish_reason: Option<String>,
    /// Prompt tokens from the prefix cache.
    pub cached_tokens: Option<u32>,
    /// Generated tokens that were reasoning.
    pub reasoning_tokens: Option<u32>,
    /// Body bytes received.
    pub bytes: u64,
    /// A reused connection had closed and was replaced once.
    pub reconnected: bool,
    /// Whether the answer met what was expected.
    pub valid: Option<bool>,
    /// What the failure said.
    pub error: Option<String>,
    /// Output events.
    pub output_events: u32,
    /// Without `record_events`: for each second since the cell began in which there were any, the second, its output events
    /// and their tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<(u64, u32, u32)>,
    /// With `record_events`: each output event as milliseconds, tokens, and 1 if it shared a read with the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<(f64, u32, u8)>>,
}
