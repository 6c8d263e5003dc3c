//! `observations.ndjson.zst`: everything that was seen, so that a run can be judged again with other SLOs. One line for each run of
//! a cell, and one for each of its requests below it; instants are nanoseconds since the cell began. Each run is a part of its own
//! in the compressed stream, written when it is over, so a killed run keeps those before.
//!
//! A run of a version that kept no observations is read from its `requests.ndjson` and its report, as far as they go.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::observation::{
    CellResult, ClientFacts, DeviceFacts, Ending, EngineFacts, EventLog, ExternalSeries,
    LagHistogram, NotRun, NotableEvent, Observations, Outcome, Phase, RequestRecord, SentRequest,
    Series, StageTimes, StampSource, TokenSource, Tokens,
};
use crate::plan::{CellRun, Plan};
use crate::report::model::Report;
use crate::secret::Masker;
use crate::units::Moment;

/// The name and version of the format, in the first line.
pub const SCHEMA: &str = "scenario.observations/v1";
/// The file's name.
pub const FILE: &str = "observations.ndjson.zst";

/// A run of a cell as it was kept. Stages are counted as in `stages`; the index of the cell says nothing.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The cell's id.
    pub cell: String,
    /// The names of its stages in order.
    pub stages: Vec<String>,
    /// What came of it.
    pub result: CellResult,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The first line is missing or names another format.
    #[error("the first line does not name `{SCHEMA}`")]
    NoObservations,
    /// A line is broken.
    #[error("line {line}: {error}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A line stands where none of its kind may.
    #[error("line {0} is a request before any run")]
    Order(usize),
}

// ---- writing -----------------------------------------------------------------------------------------------------------

/// Keeps runs in a file, without secrets: in what is compressed nobody finds them any more.
#[derive(Debug)]
pub struct Keeper<W: Write> {
    sink: W,
    masker: Masker,
}

/// How hard to compress: the fastest that is worth it, for the next cell waits.
const LEVEL: i32 = 1;

impl<W: Write> Keeper<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The sink cannot be written.
    pub fn begin(plan: &Plan, sink: W, masker: Masker) -> io::Result<Keeper<W>> {
        let mut keeper = Keeper { sink, masker };
        keeper.part([Line::Header(Header {
            schema: SCHEMA.to_owned(),
            scenario: plan.name.clone(),
            plan_digest: plan.digest.clone(),
            seed: plan.seed,
        })])?;
        Ok(keeper)
    }

    /// Adds a run that is over.
    ///
    /// # Errors
    /// The sink cannot be written.
    pub fn keep(&mut self, plan: &Plan, result: &CellResult) -> io::Result<()> {
        let run = result.run();
        let cell = &plan.cells[run.cell];
        match result {
            CellResult::NotRun(_, why) => self.part([Line::NotRun(NotRunLine {
                cell: cell.id.clone(),
                repeat: run.repeat,
                why: why.into(),
            })]),
            CellResult::Measured(seen) => {
                let names = cell.stages.iter().map(|stage| stage.name.clone());
                let head = Line::Run(Box::new(RunLine::of(&cell.id, names.collect(), seen)));
                let requests = seen.records.iter().map(RequestLine::of);
                self.part(
                    [head]
                        .into_iter()
                        .chain(requests.map(Box::new).map(Line::Request)),
                )
            }
        }
    }

    fn part(&mut self, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
        let compressed = zstd::Encoder::new(&mut self.sink, LEVEL)?;
        let mut lines_out = io::BufWriter::with_capacity(1 << 16, compressed);
        for line in lines {
            let line = serde_json::to_vec(&line)?;
            lines_out.write_all(&self.masker.bytes(&line))?;
            lines_out.write_all(b"\n")?;
        }
        lines_out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .finish()?;
        self.sink.flush()
    }
}

// ---- reading -----------------------------------------------------------------------------------------------------------

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The digest of the plan that ran.
    pub plan_digest: String,
    /// Its seed.
    pub seed: u64,
    /// The runs that are whole.
    pub runs: Vec<Kept>,
    /// The file ends within a run: it was cut off, or the program was killed while it wrote.
    pub torn: bool,
}

/// Reads the runs of a file. One that is torn is left out, and that is said.
///
/// # Errors
/// See [`ReadError`].
pub fn read(file: impl Read) -> Result<Held, ReadError> {
    let mut file = BufReader::new(file);
    let mut held: Option<Held> = None;
    let mut number = 0;
    while !file.fill_buf()?.is_empty() {
        let part = zstd::Decoder::with_buffer(&mut file)?.single_frame();
        let told = read_part(part, &mut number, &mut held);
        match (told, &mut held) {
            (Err(ReadError::Io(error)), Some(held))
                if error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                held.torn = true;
                break;
            }
            (told, _) => told?,
        }
    }
    held.ok_or(ReadError::NoObservations)
}

/// Reads a part of the compressed stream: the header, or runs with their requests. `number` counts lines over all parts.
fn read_part(
    part: impl Read,
    number: &mut usize,
    held: &mut Option<Held>,
) -> Result<(), ReadError> {
    let mut open: Option<(String, Vec<String>, Observations)> = None;
    let close = |open: &mut Option<(String, Vec<String>, Observations)>, held: &mut Held| {
        if let Some((cell, stages, seen)) = open.take() {
            held.runs.push(Kept {
                cell,
                stages,
                result: CellResult::Measured(Arc::new(seen)),
            });
        }
    };
    for line in BufReader::new(part).lines() {
        let line = line?;
        *number += 1;
        let line: Result<Line, _> = serde_json::from_str(&line);
        let Some(held) = held else {
            let Ok(Line::Header(header)) = line else {
                return Err(ReadError::NoObservations);
            };
            if header.schema != SCHEMA {
                return Err(ReadError::NoObservations);
            }
            *held = Some(Held {
                plan_digest: header.plan_digest,
                seed: header.seed,
                ..Held::default()
            });
            continue;
        };
        let line = line.map_err(|error| ReadError::Line {
            line: *number,
            error,
        })?;
        match line {
            Line::Header(_) => return Err(ReadError::NoObservations),
            Line::NotRun(line) => {
                close(&mut open, held);
                let run = CellRun {
                    cell: 0,
                    repeat: line.repeat,
                };
                held.runs.push(Kept {
                    cell: line.cell,
                    stages: Vec::new(),
                    result: CellResult::NotRun(run, line.why.into()),
                });
            }
            Line::Run(line) => {
                close(&mut open, held);
                open = Some(line.observations());
            }
            Line::Request(line) => match &mut open {
                Some((_, _, seen)) => seen.records.push(line.record()),
                None => return Err(ReadError::Order(*number)),
            },
        }
    }
    if let Some(held) = held {
        close(&mut open, held);
    }
    Ok(())
}

impl Held {
    /// Holds these runs against the report of the run that they are to be of, and adds those that the report has and they have not:
    /// lost, for this reason.
    ///
    /// # Errors
    /// They are of another run: what tells.
    pub fn of(mut self, report: &Report, lost: &str) -> Result<Vec<Kept>, String> {
        if (&self.plan_digest, self.seed) != (&report.plan_digest, report.seed) {
            return Err(format!(
                "it was kept of the plan {} with seed {}, and the report is of {} with seed {}",
                self.plan_digest, self.seed, report.plan_digest, report.seed
            ));
        }
        for cell in &report.cells {
            for run in &cell.runs {
                let own =
                    |kept: &&Kept| kept.cell == cell.id && kept.result.run().repeat == run.repeat;
                let Some(kept) = self.runs.iter().find(own) else {
                    let at = CellRun {
                        cell: 0,
                        repeat: run.repeat,
                    };
                    self.runs.push(Kept {
                        cell: cell.id.clone(),
                        stages: Vec::new(),
                        result: CellResult::NotRun(at, NotRun::Lost(lost.to_owned())),
                    });
                    continue;
                };
                let began = kept.result.observations().map(|seen| seen.wall_anchor);
                if let (Some(kept), Some(told)) = (began, run.wall_anchor)
                    && (kept - told).abs() > SAME_INSTANT
                {
                    return Err(format!(
                        "cell `{}` began {:.3} s earlier or later in the report",
                        cell.id,
                        (kept - told).abs()
                    ));
                }
            }
        }
        let place = |kept: &Kept| {
            let cell = report.cells.iter().find(|cell| cell.id == kept.cell)?;
            let repeat = kept.result.run().repeat;
            let run = cell.runs.iter().find(|run| run.repeat == repeat)?;
            Some(run.order)
        };
        self.runs
            .sort_by_key(|kept| place(kept).unwrap_or(u32::MAX));
        Ok(self.runs)
    }
}

/// Two ways to write down when a run began, in seconds.
const SAME_INSTANT: f64 = 1e-3;

/// The runs of a plan out of what was kept: each cell by its id, each stage by its name. What the plan has and the file has not
/// is missing; what the file has and the plan has not is given by id.
pub fn fit(plan: &Plan, kept: Vec<Kept>) -> (Vec<CellResult>, Vec<String>) {
    let mut results = Vec::new();
    let mut others = Vec::new();
    for Kept {
        cell,
        stages,
        result,
    } in kept
    {
        let Some(at) = plan.cells.iter().position(|planned| planned.id == cell) else {
            others.push(cell);
            continue;
        };
        results.push(match result {
            CellResult::NotRun(run, why) => CellResult::NotRun(CellRun { cell: at, ..run }, why),
            CellResult::Measured(seen) => {
                let places: Vec<Option<usize>> = stages
                    .iter()
                    .map(|name| plan.cells[at].stages.iter().position(|of| of.name == *name))
                    .collect();
                let seen = Arc::unwrap_or_clone(seen);
                CellResult::Measured(Arc::new(placed(seen, at, &places)))
            }
        });
    }
    others.dedup();
    (results, others)
}

/// The same observations with the stages' places in another plan; a stage that it does not have is left out.
fn placed(seen: Observations, cell: usize, places: &[Option<usize>]) -> Observations {
    let place = |stage: usize| places.get(stage).copied().flatten();
    let same = places
        .iter()
        .enumerate()
        .all(|(at, place)| *place == Some(at));
    if same {
        return Observations { cell, ..seen };
    }
    Observations {
        cell,
        stages: seen
            .stages
            .into_iter()
            .filter_map(|times| {
                Some(StageTimes {
                    stage: place(times.stage)?,
                    ..times
                })
            })
            .collect(),
        records: seen
            .records
            .into_iter()
            .filter_map(|record| {
                Some(RequestRecord {
                    stage: place(record.stage)?,
                    home: place(record.home)?,
                    ..record
                })
            })
            .collect(),
        unsent: seen
            .unsent
            .into_iter()
            .filter_map(|(stage, count)| Some((place(stage)?, count)))
            .collect(),
        ..seen
    }
}

// ---- lines -------------------------------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Header(Header),
    Run(Box<RunLine>),
    NotRun(NotRunLine),
    Request(Box<RequestLine>),
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    scenario: String,
    plan_digest: String,
    seed: u64,
}

/// A number that comes back to the last bit: as text, which is read exactly.
#[derive(Clone, Copy)]
struct Exact(f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Exact, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map(Exact).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct NotRunLine {
    cell: String,
    repeat: u32,
    why: WhyLine,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhyLine {
    NotReady(String),
    OptionalNotReady(String),
    Budget(String),
    Interrupted,
    Lost(String),
}

impl From<&NotRun> for WhyLine {
    fn from(why: &NotRun) -> WhyLine {
        match why.clone() {
            NotRun::NotReady(text) => WhyLine::NotReady(text),
            NotRun::OptionalNotReady(text) => WhyLine::OptionalNotReady(text),
            NotRun::Budget(text) => WhyLine::Budget(text),
            NotRun::Interrupted => WhyLine::Interrupted,
            NotRun::Lost(text) => WhyLine::Lost(text),
        }
    }
}

impl From<WhyLine> for NotRun {
    fn from(why: WhyLine) -> NotRun {
        match why {
            WhyLine::NotReady(text) => NotRun::NotReady(text),
            WhyLine::OptionalNotReady(text) => NotRun::OptionalNotReady(text),
            WhyLine::Budget(text) => NotRun::Budget(text),
            WhyLine::Interrupted => NotRun::Interrupted,
            WhyLine::Lost(text) => NotRun::Lost(text),
        }
    }
}

/// Everything of a run but its requests.
#[derive(Serialize, Deserialize)]
struct RunLine {
    cell: String,
    repeat: u32,
    wall_anchor: Exact,
    stage_names: Vec<String>,
    stages: Vec<TimesLine>,
    telemetry: Vec<SeriesLine>,
    events: Vec<EventLine>,
    client: ClientLine,
    ending: EndingLine,
    unsent: Vec<(usize, u64)>,
    devices: Vec<DeviceLine>,
    engine: EngineLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<SentLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<ExternalLine>,
    #[serde(default, skip_serializing_if = "is_false")]
    tokens_untimed: bool,
}

fn is_false(it: &bool) -> bool {
    !it
}

/// A request as it was sent.
#[derive(Serialize, Deserialize)]
struct SentLine {
    path: String,
    body: String,
}

/// What an engine's own benchmark said.
#[derive(Serialize, Deserialize)]
struct ExternalLine {
    backend: String,
    model: String,
    format: String,
    command: String,
    values: Vec<(String, Exact)>,
    problem: Option<String>,
    log: String,
    duration_ns: u64,
}

impl ExternalLine {
    fn of(series: &ExternalSeries) -> ExternalLine {
        let values = series.values.iter();
        ExternalLine {
            backend: series.backend.clone(),
            model: series.model.clone(),
            format: series.format.to_owned(),
            command: series.command.clone(),
            values: values
                .map(|(name, value)| (name.clone(), Exact(*value)))
                .collect(),
            problem: series.problem.clone(),
            log: series.log.clone(),
            duration_ns: ns(series.duration),
        }
    }

    fn series(self) -> ExternalSeries {
        ExternalSeries {
            backend: self.backend,
            model: self.model,
            format: word(self.format),
            command: self.command,
            values: self
                .values
                .into_iter()
                .map(|(name, value)| (name, value.0))
                .collect(),
            problem: self.problem,
            log: self.log,
            duration: Duration::from_nanos(self.duration_ns),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct TimesLine {
    stage: usize,
    began: u64,
    ended: u64,
    steady: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    busiest: Option<Exact>,
}

#[derive(Serialize, Deserialize)]
struct SeriesLine {
    metric: Arc<str>,
    device: Option<u32>,
    at: Vec<u64>,
    values: Vec<Exact>,
}

#[derive(Serialize, Deserialize)]
struct EventLine {
    at: u64,
    kind: String,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct ClientLine {
    kernel_stamps: bool,
    stamps_missing: u64,
    read_lag_ns: LagsLine,
    stamp_error_ns: LagsLine,
    shared_events: u64,
    output_events: u64,
    worker_cpu: Vec<Exact>,
    connections_opened: u64,
}

/// A histogram as the buckets that are not empty.
#[derive(Serialize, Deserialize)]
struct LagsLine {
    buckets: Vec<(usize, u64)>,
    max: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EndingLine {
    Complete,
    Aborted(String),
    Interrupted,
    Budget,
    EngineDied(String),
}

#[derive(Serialize, Deserialize)]
struct DeviceLine {
    index: u32,
    name: String,
    memory_bytes: Option<u64>,
    driver: Option<String>,
    #[serde(default)]
    cuda: Option<String>,
    simulated: bool,
}

#[derive(Serialize, Deserialize)]
struct EngineLine {
    url: String,
    version: Option<String>,
    models: Vec<String>,
    #[serde(default)]
    context_length: Option<u64>,
    #[serde(default)]
    proxy: Option<String>,
    simulated: bool,
    command: Option<String>,
    cold_start_ns: Option<u64>,
    log: Option<String>,
}

impl RunLine {
    fn of(cell: &str, stage_names: Vec<String>, seen: &Observations) -> RunLine {
        RunLine {
            cell: cell.to_owned(),
            repeat: seen.repeat,
            wall_anchor: Exact(seen.wall_anchor),
            stage_names,
            stages: seen
                .stages
                .iter()
                .map(|times| TimesLine {
                    stage: times.stage,
                    began: times.began.ns(),
                    ended: times.ended.ns(),
                    steady: times.steady.map(|(from, to)| (from.ns(), to.ns())),
                    busiest: times.busiest.map(Exact),
                })
                .collect(),
            telemetry: seen
                .telemetry
                .iter()
                .map(|series| SeriesLine {
                    metric: series.metric.clone(),
                    device: series.device,
                    at: series.samples.iter().map(|(at, _)| at.ns()).collect(),
                    values: series
                        .samples
                        .iter()
                        .map(|(_, value)| Exact(*value))
                        .collect(),
                })
                .collect(),
            events: seen
                .events
                .iter()
                .map(|event| EventLine {
                    at: event.at.ns(),
                    kind: event.kind.to_owned(),
                    text: event.text.clone(),
                })
                .collect(),
            client: ClientLine::of(&seen.client),
            ending: match seen.ending.clone() {
                Ending::Complete => EndingLine::Complete,
                Ending::Aborted(id) => EndingLine::Aborted(id),
                Ending::Interrupted => EndingLine::Interrupted,
                Ending::Budget => EndingLine::Budget,
                Ending::EngineDied(text) => EndingLine::EngineDied(text),
            },
            unsent: seen.unsent.clone(),
            devices: seen
                .devices
                .iter()
                .map(|device| DeviceLine {
                    index: device.index,
                    name: device.name.clone(),
                    memory_bytes: device.memory_bytes,
                    driver: device.driver.clone(),
                    cuda: device.cuda.clone(),
                    simulated: device.simulated,
                })
                .collect(),
            engine: EngineLine {
                url: seen.engine.url.clone(),
                version: seen.engine.version.clone(),
                models: seen.engine.models.clone(),
                context_length: seen.engine.context_length,
                proxy: seen.engine.proxy.clone(),
                simulated: seen.engine.simulated,
                command: seen.engine.command.clone(),
                cold_start_ns: seen.engine.cold_start.map(ns),
                log: seen.engine.log.clone(),
            },
            sent: seen.sent.as_ref().map(|sent| SentLine {
                path: sent.path.clone(),
                body: sent.body.clone(),
            }),
            external: seen.external.as_ref().map(ExternalLine::of),
            tokens_untimed: seen.tokens_untimed,
        }
    }

    fn observations(self) -> (String, Vec<String>, Observations) {
        let seen = Observations {
            cell: 0,
            repeat: self.repeat,
            wall_anchor: self.wall_anchor.0,
            stages: self
                .stages
                .into_iter()
                .map(|times| StageTimes {
                    stage: times.stage,
                    began: Moment::from_ns(times.began),
                    ended: Moment::from_ns(times.ended),
                    steady: times
                        .steady
                        .map(|(from, to)| (Moment::from_ns(from), Moment::from_ns(to))),
                    busiest: times.busiest.map(|share| share.0),
                })
                .collect(),
            records: Vec::new(),
            telemetry: self
                .telemetry
                .into_iter()
                .map(|series| Series {
                    metric: series.metric,
                    device: series.device,
                    samples: series
                        .at
                        .into_iter()
                        .map(Moment::from_ns)
                        .zip(series.values.into_iter().map(|value| value.0))
                        .collect(),
                })
                .collect(),
            events: self
                .events
                .into_iter()
                .map(|event| NotableEvent {
                    at: Moment::from_ns(event.at),
                    kind: word(event.kind),
                    text: event.text,
                })
                .collect(),
            client: self.client.facts(),
            ending: match self.ending {
                EndingLine::Complete => Ending::Complete,
                EndingLine::Aborted(id) => Ending::Aborted(id),
                EndingLine::Interrupted => Ending::Interrupted,
                EndingLine::Budget => Ending::Budget,
                EndingLine::EngineDied(text) => Ending::EngineDied(text),
            },
            unsent: self.unsent,
            devices: self
                .devices
                .into_iter()
                .map(|device| DeviceFacts {
                    index: device.index,
                    name: device.name,
                    memory_bytes: device.memory_bytes,
                    driver: device.driver,
                    cuda: device.cuda,
                    simulated: device.simulated,
                })
                .collect(),
            engine: EngineFacts {
                url: self.engine.url,
                version: self.engine.version,
                models: self.engine.models,
                context_length: self.engine.context_length,
                proxy: self.engine.proxy,
                simulated: self.engine.simulated,
                command: self.engine.command,
                cold_start: self.engine.cold_start_ns.map(Duration::from_nanos),
                log: self.engine.log,
            },
            sent: self.sent.map(|sent| SentRequest {
                path: sent.path,
                body: sent.body,
            }),
            external: self.external.map(ExternalLine::series),
            tokens_untimed: self.tokens_untimed,
        };
        (self.cell, self.stage_names, seen)
    }
}

/// Kinds of events and names of formats are words of this program: there are some dozens, each is kept once, and a file that
/// was written by it adds none.
pub(super) fn word(word: String) -> &'static str {
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(word.as_str()) {
        return known;
    }
    let new: &'static str = word.leak();
    words.insert(new);
    new
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl ClientLine {
    fn of(facts: &ClientFacts) -> ClientLine {
        ClientLine {
            kernel_stamps: facts.stamp_source == StampSource::Kernel,
            stamps_missing: facts.stamps_missing,
            read_lag_ns: LagsLine::of(&facts.read_lag_ns),
            stamp_error_ns: LagsLine::of(&facts.stamp_error_ns),
            shared_events: facts.shared_events,
            output_events: facts.output_events,
            worker_cpu: facts.worker_cpu.iter().copied().map(Exact).collect(),
            connections_opened: facts.connections_opened,
        }
    }

    fn facts(self) -> ClientFacts {
        ClientFacts {
            stamp_source: if self.kernel_stamps {
                StampSource::Kernel
            } else {
                StampSource::Read
            },
            stamps_missing: self.stamps_missing,
            read_lag_ns: self.read_lag_ns.histogram(),
            stamp_error_ns: self.stamp_error_ns.histogram(),
            shared_events: self.shared_events,
            output_events: self.output_events,
            worker_cpu: self.worker_cpu.into_iter().map(|share| share.0).collect(),
            connections_opened: self.connections_opened,
        }
    }
}

impl LagsLine {
    fn of(lags: &LagHistogram) -> LagsLine {
        LagsLine {
            buckets: lags.buckets().collect(),
            max: lags.max(),
        }
    }

    fn histogram(self) -> LagHistogram {
        LagHistogram::of_buckets(self.buckets, self.max)
    }
}

/// One request.
#[derive(Serialize, Deserialize)]
struct RequestLine {
    index: u64,
    stage: usize,
    measured: bool,
    prompt: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    category: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adapter: Option<Arc<str>>,
    turn: u32,
    /// The stage in which its conversation began, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    intended: u64,
    cap_wait: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dispatched: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_event: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_token: Option<u64>,
    first_token_shared: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_content: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_token: Option<u64>,
    finished: u64,
    /// When the first output event was, and the deltas and tokens of all of them as the runner keeps them, in base64.
    first_output: u64,
    events: String,
    outcome: OutcomeLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish_reason: Option<Arc<str>>,
    tokens: TokensLine,
    bytes: u64,
    reused: bool,
    reconnected: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeLine {
    Ok,
    Refused {
        status: u16,
        body: String,
        retry_after: Option<u64>,
    },
    ErrorEvent(String),
    Truncated,
    Empty,
    Malformed(String),
    ConnectFailed(String),
    TlsFailed(String),
    Reset(String),
    TimedOutConnect,
    TimedOutFirstToken,
    TimedOutIdle,
    TimedOutTotal,
    Cut,
    Dropped,
}

#[derive(Serialize, Deserialize)]
struct TokensLine {
    input: Option<u32>,
    output: Option<u32>,
    cached: Option<u32>,
    reasoning: Option<u32>,
    source: SourceLine,
    per_event_known: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SourceLine {
    Usage,
    Tokenizer,
    Events,
    Unknown,
}

impl RequestLine {
    fn of(record: &RequestRecord) -> RequestLine {
        let at = |moment: Option<Moment>| moment.map(Moment::ns);
        let (first_output, events) = record.events.encoded();
        RequestLine {
            index: record.index,
            stage: record.stage,
            measured: record.measured,
            prompt: record.prompt.clone(),
            category: record.category.clone(),
            adapter: record.adapter.clone(),
            turn: record.turn,
            home: (record.home != record.stage).then_some(record.home),
            user: record.user,
            intended: record.intended.ns(),
            cap_wait: ns(record.cap_wait),
            dispatched: at(record.dispatched),
            connect: record.connect.map(ns),
            written: at(record.written),
            headers: at(record.headers),
            first_event: at(record.first_event),
            first_token: at(record.first_token),
            first_token_shared: record.first_token_shared,
            first_content: at(record.first_content),
            last_token: at(record.last_token),
            finished: record.finished.ns(),
            first_output: first_output.ns(),
            events: BASE64_STANDARD.encode(events),
            outcome: OutcomeLine::of(&record.outcome),
            status: record.status,
            finish_reason: record.finish_reason.clone(),
            tokens: TokensLine::of(record.tokens),
            bytes: record.bytes,
            reused: record.reused,
            reconnected: record.reconnected,
            valid: record.valid,
        }
    }

    fn record(self) -> RequestRecord {
        let at = |ns: Option<u64>| ns.map(Moment::from_ns);
        // What is no base64 holds no event; the counts that are judged stand beside it.
        let events = BASE64_STANDARD.decode(&self.events).unwrap_or_default();
        RequestRecord {
            index: self.index,
            stage: self.stage,
            measured: self.measured,
            prompt: self.prompt,
            category: self.category,
            adapter: self.adapter,
            turn: self.turn,
            home: self.home.unwrap_or(self.stage),
            user: self.user,
            intended: Moment::from_ns(self.intended),
            cap_wait: Duration::from_nanos(self.cap_wait),
            dispatched: at(self.dispatched),
            connect: self.connect.map(Duration::from_nanos),
            written: at(self.written),
            headers: at(self.headers),
            first_event: at(self.first_event),
            first_token: at(self.first_token),
            first_token_shared: self.first_token_shared,
            first_content: at(self.first_content),
            last_token: at(self.last_token),
            finished: Moment::from_ns(self.finished),
            events: EventLog::decoded(Moment::from_ns(self.first_output), events),
            outcome: self.outcome.outcome(),
            status: self.status,
            finish_reason: self.finish_reason,
            tokens: self.tokens.tokens(),
            bytes: self.bytes,
            reused: self.reused,
            reconnected: self.reconnected,
            valid: self.valid,
        }
    }
}

impl OutcomeLine {
    fn of(outcome: &Outcome) -> OutcomeLine {
        match outcome.clone() {
            Outcome::Ok => OutcomeLine::Ok,
            Outcome::Refused {
                status,
                body,
                retry_after,
            } => OutcomeLine::Refused {
                status,
                body,
                retry_after,
            },
            Outcome::ErrorEvent(text) => OutcomeLine::ErrorEvent(text),
            Outcome::Truncated => OutcomeLine::Truncated,
            Outcome::Empty => OutcomeLine::Empty,
            Outcome::Malformed(text) => OutcomeLine::Malformed(text),
            Outcome::ConnectFailed(text) => OutcomeLine::ConnectFailed(text),
            Outcome::TlsFailed(text) => OutcomeLine::TlsFailed(text),
            Outcome::Reset(text) => OutcomeLine::Reset(text),
            Outcome::TimedOut(Phase::Connect) => OutcomeLine::TimedOutConnect,
            Outcome::TimedOut(Phase::FirstToken) => OutcomeLine::TimedOutFirstToken,
            Outcome::TimedOut(Phase::Idle) => OutcomeLine::TimedOutIdle,
            Outcome::TimedOut(Phase::Total) => OutcomeLine::TimedOutTotal,
            Outcome::Cut => OutcomeLine::Cut,
            Outcome::Dropped => OutcomeLine::Dropped,
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            OutcomeLine::Ok => Outcome::Ok,
            OutcomeLine::Refused {
                status,
                body,
                retry_after,
            } => Outcome::Refused {
                status,
                body,
                retry_after,
            },
            OutcomeLine::ErrorEvent(text) => Outcome::ErrorEvent(text),
            OutcomeLine::Truncated => Outcome::Truncated,
            OutcomeLine::Empty => Outcome::Empty,
            OutcomeLine::Malformed(text) => Outcome::Malformed(text),
            OutcomeLine::ConnectFailed(text) => Outcome::ConnectFailed(text),
            OutcomeLine::TlsFailed(text) => Outcome::TlsFailed(text),
            OutcomeLine::Reset(text) => Outcome::Reset(text),
            OutcomeLine::TimedOutConnect => Outcome::TimedOut(Phase::Connect),
            OutcomeLine::TimedOutFirstToken => Outcome::TimedOut(Phase::FirstToken),
            OutcomeLine::TimedOutIdle => Outcome::TimedOut(Phase::Idle),
            OutcomeLine::TimedOutTotal => Outcome::TimedOut(Phase::Total),
            OutcomeLine::Cut => Outcome::Cut,
            OutcomeLine::Dropped => Outcome::Dropped,
        }
    }
}

impl TokensLine {
    fn of(tokens: Tokens) -> TokensLine {
        TokensLine {
            input: tokens.input,
            output: tokens.output,
            cached: tokens.cached,
            reasoning: tokens.reasoning,
            source: match tokens.source {
                TokenSource::Usage => SourceLine::Usage,
                TokenSource::Tokenizer => SourceLine::Tokenizer,
                TokenSource::Events => SourceLine::Events,
                TokenSource::Unknown => SourceLine::Unknown,
            },
            per_event_known: tokens.per_event_known,
        }
    }

    fn tokens(self) -> Tokens {
        Tokens {
            input: self.input,
            output: self.output,
            cached: self.cached,
            reasoning: self.reasoning,
            source: match self.source {
                SourceLine::Usage => TokenSource::Usage,
                SourceLine::Tokenizer => TokenSource::Tokenizer,
                SourceLine::Events => TokenSource::Events,
                SourceLine::Unknown => TokenSource::Unknown,
            },
            per_event_known: self.per_event_known,
        }
    }
}
