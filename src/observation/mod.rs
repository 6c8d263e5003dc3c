//! What was seen: plain data, offsets and not instants, so it can be compared, replayed and merged.
//!
//! In: nothing; `load`, `engine` and `telemetry` fill these types. Out: `verdict` measures and judges them, `report` writes them.

pub mod events;
pub mod serving;

pub use events::{EventLog, EventRecorder, OutputEvent};

use std::sync::Arc;
use std::time::Duration;

use crate::plan::CellRun;
use crate::units::Moment;

/// Everything seen while one cell ran once.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Index of the cell in the plan.
    pub cell: usize,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Seconds since the Unix epoch at the cell's zero.
    pub wall_anchor: f64,
    /// The stages that were begun, in order; a stage that never began is absent.
    pub stages: Vec<StageTimes>,
    /// Every request of measured and unmeasured stages, in the order of their end. A failed request is data.
    pub records: Vec<RequestRecord>,
    /// Gauge and counter samples of GPUs, engine, host and the runner itself.
    pub telemetry: Vec<Series>,
    /// What happened beside the requests.
    pub events: Vec<NotableEvent>,
    /// What the runner knows about its own exactness.
    pub client: ClientFacts,
    /// Why the cell ended.
    pub ending: Ending,
    /// Planned sends of measured stages that never left (stopped, aborted), by stage index: `(stage, count)`.
    pub unsent: Vec<(usize, u64)>,
    /// The GPUs that were watched.
    pub devices: Vec<DeviceFacts>,
    /// Facts about the engine: version, model list, what its probe said.
    pub engine: EngineFacts,
    /// The first measured request as it was sent.
    pub sent: Option<SentRequest>,
    /// What the engine's own benchmark says, where it ran behind this cell.
    pub external: Option<ExternalSeries>,
    /// The instants of output events were not kept, so what needs them cannot be told: a run that was saved by an early version.
    pub tokens_untimed: bool,
}

/// What an engine's own benchmark says: its load, its definitions.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalSeries {
    /// The backend.
    pub backend: String,
    /// Key of the model.
    pub model: String,
    /// How its results are written.
    pub format: &'static str,
    /// The command that was run.
    pub command: String,
    /// Its values by name, in its own order.
    pub values: Vec<(String, f64)>,
    /// Why there are none.
    pub problem: Option<String>,
    /// Where its output is.
    pub log: String,
    /// How long it took.
    pub duration: Duration,
}

/// A request in the words of the engine's language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// Where it went, behind the base URL.
    pub path: String,
    /// Its body, JSON.
    pub body: String,
}

/// What came of one run of one cell.
#[derive(Clone, Debug)]
pub enum CellResult {
    /// It ran, perhaps not to its end. Shared with whoever shows it while the run goes on.
    Measured(Arc<Observations>),
    /// Nothing was sent.
    NotRun(CellRun, NotRun),
}

/// Why a cell did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// The backend did not answer its probe: what was tried and what came of it.
    NotReady(String),
    /// The same of a backend that is `optional`.
    OptionalNotReady(String),
    /// The run's time or budget was used up.
    Budget(String),
    /// The run was interrupted before.
    Interrupted,
    /// It ran, and what was seen of it is lost: why.
    Lost(String),
}

impl NotRun {
    /// In words.
    pub fn text(&self) -> &str {
        match self {
            NotRun::NotReady(text)
            | NotRun::OptionalNotReady(text)
            | NotRun::Budget(text)
            | NotRun::Lost(text) => text,
            NotRun::Interrupted => "interrupted",
        }
    }
}

impl CellResult {
    /// What was seen, if it ran.
    pub fn observations(&self) -> Option<&Observations> {
        match self {
            CellResult::Measured(seen) => Some(seen),
            CellResult::NotRun(..) => None,
        }
    }

    /// Which run of which cell this is.
    pub fn run(&self) -> CellRun {
        match self {
            CellResult::Measured(seen) => CellRun {
                cell: seen.cell,
                repeat: seen.repeat,
            },
            CellResult::NotRun(run, _) => *run,
        }
    }
}

/// When a stage was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageTimes {
    /// Index of the stage in the cell.
    pub stage: usize,
    /// When it began to send.
    pub began: Moment,
    /// When it stopped sending: the end of a timed stage, the end of the last measured request of a counted one.
    pub ended: Moment,
    /// Closed loop: from the instant at which all users had started, and the first measured request was to leave, to the end of the last measured request (counted) or of
    /// the stage (timed); `None` if the level was never reached. Open loop and batch: the same as `began` to `ended`.
    pub steady: Option<(Moment, Moment)>,
    /// The share of its core that the busiest load thread used while the stage's segment ran, 0 to 1; `None` in runs that were saved
    /// before it was told apart.
    pub busiest: Option<f64>,
}

/// Why a cell ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was planned was done.
    #[default]
    Complete,
    /// An `abort` rule stopped it: the id of the SLO.
    Aborted(String),
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The request or token budget of `run.budget` was reached.
    Budget,
    /// The engine that was launched for it ended by itself: how, with its last words.
    EngineDied(String),
}

/// What the engine said about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineFacts {
    /// The base URL that was used, without credentials.
    pub url: String,
    /// Its version, if it tells one.
    pub version: Option<String>,
    /// The model names that it lists.
    pub models: Vec<String>,
    /// The longest context that it says to take, in tokens.
    pub context_length: Option<u64>,
    /// The proxy that stands before it, without credentials.
    pub proxy: Option<String>,
    /// Set for everything that the embedded simulator produced.
    pub simulated: bool,
    /// How it was started, when it was: the command.
    pub command: Option<String>,
    /// How long that took: from the start of the process to its first token, or to its answer where no token was asked for.
    pub cold_start: Option<Duration>,
    /// Where its output is.
    pub log: Option<String>,
}

/// What a request is called on the wire (`x-request-id`) and in `requests.ndjson`, so that it can be found in an engine's log:
/// `scenario-CELL-REPEAT-STAGE-INDEX`, with the indices of the plan; a later turn of a conversation has `-TURN` behind it.
pub fn request_id(run: CellRun, home: usize, index: u64, turn: u32) -> String {
    let first = format!("scenario-{}-{}-{home}-{index}", run.cell, run.repeat);
    match turn {
        0 | 1 => first,
        turn => format!("{first}-{turn}"),
    }
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The driver's version.
    pub driver: Option<String>,
    /// The version of CUDA that the driver speaks.
    pub cuda: Option<String>,
    /// It is a simulated or recorded one.
    pub simulated: bool,
}

/// The life of one request. All instants are offsets from the start of the cell.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRecord {
    /// Index of the request in its stage, from 0.
    pub index: u64,
    /// Index of the stage in which it was intended.
    pub stage: usize,
    /// Whether it counts: false in warm-up stages and for the fill at the tail of a level.
    pub measured: bool,
    /// Id of its prompt, unique in its set.
    pub prompt: Arc<str>,
    /// Category of its prompt.
    pub category: Option<Arc<str>>,
    /// The LoRA adapter that it asks for, where requests are spread over several.
    pub adapter: Option<Arc<str>>,
    /// Turn of a conversation, from 1; 1 for single prompts.
    pub turn: u32,
    /// Index of the stage in which its conversation began, where `index` counts; `stage` for single prompts.
    pub home: usize,
    /// The closed-loop user that sent it, from 0.
    pub user: Option<u32>,
    /// When the plan says that it leaves.
    pub intended: Moment,
    /// How long the in-flight cap held it.
    pub cap_wait: Duration,
    /// When the pacer released it; `None` if it was dropped before.
    pub dispatched: Option<Moment>,
    /// How long connecting took, when a connection was opened for it.
    pub connect: Option<Duration>,
    /// When the last byte of the request was handed to the kernel.
    pub written: Option<Moment>,
    /// When the response head was complete.
    pub headers: Option<Moment>,
    /// When the first SSE event of any kind arrived.
    pub first_event: Option<Moment>,
    /// When the first generated output of any kind arrived.
    pub first_token: Option<Moment>,
    /// A later output event came in the same read as the first token, so its stamp may be late.
    pub first_token_shared: bool,
    /// When the first visible answer text arrived.
    pub first_content: Option<Moment>,
    /// When the last generated output arrived.
    pub last_token: Option<Moment>,
    /// `[DONE]`, or the end of the body where the dialect has none; the end of a failed request.
    pub finished: Moment,
    /// Each output event's instant and token count.
    pub events: EventLog,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, when a head was seen.
    pub status: Option<u16>,
    /// The engine's `finish_reason`.
    pub finish_reason: Option<Arc<str>>,
    /// Tokens and where their counts come from.
    pub tokens: Tokens,
    /// Body bytes received.
    pub bytes: u64,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// A reused connection had closed before the answer and was replaced once.
    pub reconnected: bool,
    /// Whether the answer met the prompt set's `expect`, when there is one.
    pub valid: Option<bool>,
}

/// Token counts of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt tokens.
    pub input: Option<u32>,
    /// Generated tokens.
    pub output: Option<u32>,
    /// Prompt tokens served from the engine's prefix cache.
    pub cached: Option<u32>,
    /// Generated tokens that were reasoning.
    pub reasoning: Option<u32>,
    /// Where `output` comes from.
    pub source: TokenSource,
    /// Whether the tokens of each event are known (continuous usage or token ids), so that `itl` can be told.
    pub per_event_known: bool,
}

/// Where a token count comes from. Counts of different sources are never compared without a warning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenSource {
    /// The engine's usage block.
    Usage,
    /// Our tokenizer.
    Tokenizer,
    /// One per output event: a lower bound.
    Events,
    /// Nothing told it.
    #[default]
    Unknown,
}

impl TokenSource {
    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            TokenSource::Usage => "usage",
            TokenSource::Tokenizer => "tokenizer",
            TokenSource::Events => "events",
            TokenSource::Unknown => "unknown",
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The end was seen, the body is complete, and at least one token was told.
    Ok,
    /// HTTP status ≥ 400, with up to 2 KiB of the body; `retry_after` in seconds for 429 and 503.
    Refused {
        /// The status.
        status: u16,
        /// The first 2 KiB of the body.
        body: String,
        /// `Retry-After` in seconds.
        retry_after: Option<u64>,
    },
    /// An event with an `error` key came, whatever the HTTP status said.
    ErrorEvent(String),
    /// The body broke off, or ended with neither a finish reason nor `[DONE]`.
    Truncated,
    /// Ended properly without any output.
    Empty,
    /// Bytes that the dialect does not allow.
    Malformed(String),
    /// The connection could not be opened.
    ConnectFailed(String),
    /// The TLS handshake failed.
    TlsFailed(String),
    /// The connection was reset.
    Reset(String),
    /// A time limit was passed.
    TimedOut(Phase),
    /// In flight at the end of the drain: a censored observation, not a failure.
    Cut,
    /// Its time came and the in-flight cap was full.
    Dropped,
}

/// The phase whose time limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Opening the connection.
    Connect,
    /// Waiting for the first token.
    FirstToken,
    /// Between two events.
    Idle,
    /// The whole request.
    Total,
}

impl Outcome {
    /// The name used in files and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Refused { status: 429, .. } => "rate_limited",
            Outcome::Refused { .. } => "refused",
            Outcome::ErrorEvent(_) => "error_event",
            Outcome::Truncated => "truncated",
            Outcome::Empty => "empty",
            Outcome::Malformed(_) => "malformed",
            Outcome::ConnectFailed(_) => "connect_failed",
            Outcome::TlsFailed(_) => "tls_failed",
            Outcome::Reset(_) => "reset",
            Outcome::TimedOut(Phase::Connect) => "timed_out_connect",
            Outcome::TimedOut(Phase::FirstToken) => "timed_out_first_token",
            Outcome::TimedOut(Phase::Idle) => "timed_out_idle",
            Outcome::TimedOut(Phase::Total) => "timed_out_total",
            Outcome::Cut => "cut",
            Outcome::Dropped => "dropped",
        }
    }

    /// Whether it is a failure: neither answered, nor cut, nor dropped.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::Cut | Outcome::Dropped)
    }
}

/// Samples of one quantity over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The metric's name in the registry, like `gpu.util` or `kv_cache`.
    pub metric: Arc<str>,
    /// The device, for quantities that each GPU has.
    pub device: Option<u32>,
    /// When and what, in order of time. Units as in the registry (`gpu.util` 0–1, memory in bytes, power in watts, temperature
    /// in °C, clocks in MHz, energy in joules since the device started, counters as the engine counts them).
    pub samples: Vec<(Moment, f64)>,
}

/// The kind of the event that a rule of level `abort` stopped one level of a search, which then went on.
pub const LEVEL_STOPPED: &str = "level_stopped";

/// Something that happened beside the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct NotableEvent {
    /// When.
    pub at: Moment,
    /// What kind, in words fit for a report: `gpu_throttled`, `engine_restarted`, `telemetry_lost`, `proxy_used`, `prompts_reused` …
    pub kind: &'static str,
    /// In words.
    pub text: String,
}

/// What the runner knows about its own exactness.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientFacts {
    /// Where receive stamps come from.
    pub stamp_source: StampSource,
    /// Some read had no kernel stamp although the source is `Kernel`.
    pub stamps_missing: u64,
    /// Read instant minus kernel instant, per read, in nanoseconds: a sample for percentiles.
    pub read_lag_ns: LagHistogram,
    /// Possible error of the stamps of events that shared a read: the time since that socket was last known to be empty.
    /// Events that were read alone have exact stamps and no entry.
    pub stamp_error_ns: LagHistogram,
    /// Output events that shared a read with a later output event of the same request.
    pub shared_events: u64,
    /// Output events in all.
    pub output_events: u64,
    /// Share of one core that each worker thread used over the cell, 0 to 1.
    pub worker_cpu: Vec<f64>,
    /// Connections opened.
    pub connections_opened: u64,
}

/// Where receive stamps come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StampSource {
    /// The kernel's receive time of the segment.
    Kernel,
    /// The instant at which the read returned.
    #[default]
    Read,
}

/// Nanosecond lags in buckets of about 3 % width, cheap to fill on the load thread and to merge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LagHistogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl LagHistogram {
    const STEPS: u32 = 5; // 2^5 buckets for each power of two

    fn bucket(ns: u64) -> usize {
        let ns = ns.max(1);
        let power = 63 - ns.leading_zeros();
        if power < Self::STEPS {
            return ns as usize;
        }
        let within = (ns >> (power - Self::STEPS)) & ((1 << Self::STEPS) - 1);
        (((power - Self::STEPS + 1) as usize) << Self::STEPS) + within as usize
    }

    fn upper_bound(bucket: usize) -> u64 {
        if bucket < 1 << Self::STEPS {
            return bucket as u64;
        }
        let power = (bucket >> Self::STEPS) as u32 - 1;
        let within = (bucket & ((1 << Self::STEPS) - 1)) as u64;
        (((1 << Self::STEPS) + within + 1) << power) - 1
    }

    /// Counts one lag.
    pub fn record(&mut self, ns: u64) {
        let bucket = Self::bucket(ns);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &LagHistogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The buckets that are not empty, as (number, count), to be kept.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counted = self.counts.iter().copied().enumerate();
        counted.filter(|(_, count)| *count > 0)
    }

    /// What [`buckets`](Self::buckets) gave, and the largest lag.
    pub fn of_buckets(buckets: impl IntoIterator<Item = (usize, u64)>, max: u64) -> LagHistogram {
        let mut lags = LagHistogram {
            max,
            ..LagHistogram::default()
        };
        for (bucket, count) in buckets {
            // Numbers beyond what 64 bits can fill are none of ours.
            let bucket = bucket.min(Self::bucket(u64::MAX));
            if lags.counts.len() <= bucket {
                lags.counts.resize(bucket + 1, 0);
            }
            lags.counts[bucket] += count;
            lags.total += count;
        }
        lags
    }

    /// How many lags were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest lag, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The lag below which the share `quantile` of all lags lies, at most 3 % too high; `None` if none was counted.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let rank = ((quantile * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Self::upper_bound(bucket).min(self.max));
            }
        }
        Some(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_quantiles_are_at_most_three_percent_too_high() {
        let mut lags = LagHistogram::default();
        (1..=100_000u64).for_each(|ns| lags.record(ns));
        for (quantile, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let told = lags.quantile(quantile).unwrap() as f64;
            assert!(told >= exact && told <= exact * 1.035, "{quantile}: {told}");
        }
        assert_eq!(lags.quantile(1.0), Some(100_000));
        let again = LagHistogram::of_buckets(lags.buckets(), lags.max());
        assert_eq!(again, lags);
        assert_eq!(LagHistogram::default().quantile(0.5), None);
    }
}
