//! Traces: requests as they once arrived, with the lengths that they had, and rebuilt prefixes where they shared some.
//!
//! What users wrote is not in a trace. Prompts are made up at its lengths: a block of tokens with the same id is the same text
//! wherever it stands, so that requests share as long a prefix as they once did.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::seed::Seed;
use crate::units::Moment;

use super::context::{Context, around};
use super::error::{RowProblem, WorkloadError};
use super::facts::Spread;
use super::prompt::Prompt;
use super::prose::Prose;
use super::words::{self, Use};

/// How many bad rows an error quotes.
pub(super) const TOLD: usize = 5;

/// Where a trace is, and what its fields are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceFile {
    /// The file.
    pub path: PathBuf,
    /// How its rows are written.
    pub shape: TraceShape,
    /// What its fields are called.
    pub fields: TraceFields,
    /// Tokens in a block that has an id.
    pub block_tokens: u32,
}

/// How the rows of a trace are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceShape {
    /// A JSON object a line.
    Lines,
    /// A table with a header.
    Table,
}

/// What the fields of a trace are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceFields {
    /// When the request came: a number in `unit`, or a date with a time.
    pub time: String,
    /// The unit of times that are numbers.
    pub unit: TimeUnit,
    /// Tokens of the prompt.
    pub input_tokens: String,
    /// Tokens of the answer.
    pub output_tokens: String,
    /// Ids of the prompt's blocks, if there are any.
    pub hash_ids: Option<String>,
}

/// The unit of a number that stands for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Thousandths of a second.
    Milliseconds,
}

/// What of a trace is played, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayOptions {
    /// How much faster than it was recorded.
    pub speed: f64,
    /// Leaves out what came before, in the time of the trace.
    pub from: Duration,
    /// Leaves out what came from here on.
    pub to: Option<Duration>,
    /// Plays each request this many times on average; below 1 it thins the trace out.
    pub rate_scale: f64,
    /// How often it is played, one time after another.
    pub laps: u32,
    /// Whether the engine puts a chat template around each prompt, which the lengths of a trace count in.
    pub chat: bool,
}

/// The requests of a trace in the order of their times.
#[derive(Debug, PartialEq)]
pub(super) struct Trace {
    pub(super) rows: Vec<TraceRow>,
    /// The block ids of all rows.
    blocks: Vec<u64>,
    block_tokens: u32,
    /// Rows of the file that are no requests, because nothing was generated.
    pub(super) without_answer: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct TraceRow {
    /// Nanoseconds since the first request.
    pub(super) at: u64,
    /// Its line in the file.
    line: u64,
    pub(super) input: u32,
    pub(super) output: u32,
    /// Its ids, in `blocks`.
    blocks: std::ops::Range<usize>,
}

/// One request that is played: a row, and which copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Play {
    row: usize,
    copy: u32,
}

/// The prompts of a trace, in the order in which they are played. Every lap has texts of its own, which share as much among
/// themselves as those of the first.
#[derive(Clone, Debug)]
pub(super) struct TracePrompts {
    trace: Arc<Trace>,
    plays: Arc<[Play]>,
    seed: Seed,
    prose: Prose,
    /// Tokens that the engine puts around a prompt.
    around: u32,
}

impl Trace {
    pub(super) fn read(file: &TraceFile) -> Result<Trace, WorkloadError> {
        let text = std::fs::read(&file.path).map_err(|error| WorkloadError::Read {
            path: file.path.clone(),
            error,
        })?;
        let mut reader = Reader {
            fields: &file.fields,
            rows: Vec::new(),
            blocks: Vec::new(),
            without_answer: 0,
            bad: 0,
            problems: Vec::new(),
        };
        match file.shape {
            TraceShape::Lines => reader.lines(&text),
            TraceShape::Table => reader.table(&text, &file.path)?,
        }
        reader.finish(file)
    }

    /// The lengths of its prompts in tokens.
    pub(super) fn input_lengths(&self) -> Spread {
        Spread::of(self.rows.iter().map(|row| u64::from(row.input)).collect())
    }

    /// What tells it from every other.
    fn identity(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"scenario trace v1");
        hasher.update(&self.block_tokens.to_le_bytes());
        for row in &self.rows {
            hasher.update(&row.at.to_le_bytes());
            hasher.update(&row.input.to_le_bytes());
            hasher.update(&row.output.to_le_bytes());
            hasher.update(&(row.blocks.len() as u64).to_le_bytes());
            for id in &self.blocks[row.blocks.clone()] {
                hasher.update(&id.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl TracePrompts {
    pub(super) fn new(trace: Trace, seed: Seed, prose: Prose) -> TracePrompts {
        let plays = (0..trace.rows.len()).map(|row| Play { row, copy: 0 });
        TracePrompts {
            plays: plays.collect(),
            trace: trace.into(),
            seed,
            around: around(prose.tokenizer(), true),
            prose,
        }
    }

    /// The requests that fit a context; of the others none, or as much of their prompts as fits. Gives how many are left out.
    pub(super) fn within(&self, context: &Context, clip: bool) -> (TracePrompts, u64) {
        let mut rows = Vec::new();
        for row in &self.trace.rows {
            let room = context
                .tokens
                .saturating_sub(context.answer_of(Some(row.output)));
            if row.input <= room || (clip && room > self.around) {
                rows.push(TraceRow {
                    input: row.input.min(room),
                    ..row.clone()
                });
            }
        }
        let left_out = (self.trace.rows.len() - rows.len()) as u64;
        let trace = Trace {
            rows,
            blocks: self.trace.blocks.clone(),
            block_tokens: self.trace.block_tokens,
            without_answer: self.trace.without_answer,
        };
        let prompts = TracePrompts::new(trace, self.seed.clone(), self.prose.clone());
        (prompts, left_out)
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What tells these prompts from all others.
    pub(super) fn identity(&self) -> String {
        let tokenizer = self
            .prose
            .tokenizer()
            .map_or("", |tokenizer| tokenizer.digest());
        let seed = self.seed.hash();
        format!("{} {seed:016x} {tokenizer}", self.trace.identity())
    }

    /// The longest answer that it asks for.
    pub(super) fn longest_answer(&self) -> u32 {
        self.trace
            .rows
            .iter()
            .map(|row| row.output)
            .max()
            .unwrap_or(1)
    }

    /// The prompt that is played as number `ordinal`, lap after lap.
    pub(super) fn prompt(&self, ordinal: u64) -> Prompt {
        let each = self.plays.len() as u64;
        let (lap, play) = (ordinal / each, self.plays[(ordinal % each) as usize]);
        let seed = self.seed.at(lap).at(u64::from(play.copy));
        let row = &self.trace.rows[play.row];
        let text = self.text(row, &seed, ordinal);
        Prompt {
            tokens: Some(row.input),
            max_tokens: Some(row.output),
            min_tokens: Some(row.output),
            ignore_eos: Some(true),
            ..Prompt::new(format!("row-{}", row.line), text)
        }
    }

    /// A prompt as long as a row's that shares nothing with any.
    pub(super) fn warmup_prompt(&self, ordinal: u64) -> Prompt {
        let row = &self.trace.rows[(ordinal % self.trace.rows.len() as u64) as usize];
        let seed = self.seed.stream("warmup").at(ordinal);
        let mut text = String::new();
        let first = words::unique(self.seed.hash(), ordinal, Use::Warmup);
        self.prose
            .append(&mut text, &first, self.text_tokens(row), &mut seed.rng());
        Prompt {
            tokens: Some(row.input),
            max_tokens: Some(row.output),
            min_tokens: Some(row.output),
            ignore_eos: Some(true),
            ..Prompt::new(format!("warmup-{ordinal}"), text)
        }
    }

    /// The tokens of a row's text: a length in a trace counts what the engine puts around it, too.
    fn text_tokens(&self, row: &TraceRow) -> u32 {
        row.input.saturating_sub(self.around).max(1)
    }

    fn text(&self, row: &TraceRow, seed: &Seed, ordinal: u64) -> String {
        let mut left = self.text_tokens(row);
        let mut text = String::with_capacity(left as usize * 6);
        let salt = seed.hash();
        for id in &self.trace.blocks[row.blocks.clone()] {
            let tokens = left.min(self.trace.block_tokens);
            if tokens == 0 {
                break;
            }
            let mut random = seed.stream("block").at(*id).rng();
            let first = words::unique(salt, *id, Use::Prefix);
            self.prose.append(&mut text, &first, tokens, &mut random);
            left -= tokens;
        }
        if left > 0 {
            let mut random = seed.stream("row").at(ordinal).rng();
            let first = words::unique(salt, ordinal, Use::Measured);
            self.prose.append(&mut text, &first, left, &mut random);
        }
        text
    }

    /// The part of the trace that is played, with the time of each send from the start, and how long it all takes.
    pub(super) fn replay(&self, options: &ReplayOptions) -> (TracePrompts, Vec<Moment>, Duration) {
        let from = options.from.as_nanos() as u64;
        let to = options.to.map_or(u64::MAX, |to| to.as_nanos() as u64);
        let rows = &self.trace.rows;
        let first = rows.partition_point(|row| row.at < from);
        let past = rows.partition_point(|row| row.at < to).max(first);
        let mut plays = Vec::new();
        let mut times = Vec::new();
        for row in first..past {
            let at = rows[row].at;
            let gap = rows[..past].get(row + 1).map_or(0, |next| next.at - at);
            let mut random = self.seed.stream("thin").at(row as u64).rng();
            let whole = options.rate_scale.floor();
            let copies = whole as u32 + u32::from(random.unit() < options.rate_scale - whole);
            for copy in 0..copies {
                // Copies come between the request and the one after it, not with it.
                let later = if copy == 0 {
                    0.0
                } else {
                    random.unit() * gap as f64
                };
                plays.push(Play { row, copy });
                times.push((at - from) + later as u64);
            }
        }
        let mut order: Vec<usize> = (0..plays.len()).collect();
        order.sort_by_key(|&at| times[at]);
        let span = match options.to {
            Some(to) => to.saturating_sub(options.from).as_nanos() as u64,
            None => order.last().map_or(0, |&last| times[last]),
        };
        let lap = match options.to {
            Some(_) => span,
            // The gap to the next lap is as long as one inside.
            None => span + span / (order.len().max(2) as u64 - 1),
        };
        let scaled = |ns: u64| Moment::from_secs_f64(ns as f64 / 1e9 / options.speed);
        let played: Vec<Moment> = (0..u64::from(options.laps))
            .flat_map(|number| order.iter().map(move |&at| (number, at)))
            .map(|(number, at)| scaled(number * lap + times[at]))
            .collect();
        let whole = lap * u64::from(options.laps.max(1) - 1) + span;
        // What is sent last is still inside.
        let duration = scaled(whole).since(Moment::ZERO) + Duration::from_nanos(1);
        let prompts = TracePrompts {
            plays: order.iter().map(|&at| plays[at]).collect(),
            around: around(self.prose.tokenizer(), options.chat),
            ..self.clone()
        };
        (prompts, played, duration)
    }
}

impl PartialEq for TracePrompts {
    fn eq(&self, other: &TracePrompts) -> bool {
        self.plays == other.plays && self.identity() == other.identity()
    }
}

/// Reads rows, and notes what is wrong with each.
struct Reader<'a> {
    fields: &'a TraceFields,
    rows: Vec<(i128, TraceRow)>,
    blocks: Vec<u64>,
    without_answer: u64,
    bad: u64,
    problems: Vec<RowProblem>,
}

impl Reader<'_> {
    fn lines(&mut self, text: &[u8]) {
        let fields = self.fields;
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let value: serde_json::Value = match serde_json::from_slice(line) {
                Ok(value) => value,
                Err(error) => {
                    let column = error.column();
                    let message = super::file::broken_json(&error);
                    self.wrong(format!("line {number}, column {column}"), message);
                    continue;
                }
            };
            let text = |name: &str| match &value[name] {
                serde_json::Value::String(text) => Some(text.clone()),
                serde_json::Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            let named = [&fields.time, &fields.input_tokens, &fields.output_tokens];
            let found = named.map(|name| text(name));
            let ids = match &fields.hash_ids {
                None => Some(Vec::new()),
                Some(name) => match &value[name] {
                    serde_json::Value::Null => Some(Vec::new()),
                    serde_json::Value::Array(ids) => ids.iter().map(|id| id.as_u64()).collect(),
                    _ => None,
                },
            };
            match ids {
                Some(ids) => self.take(number, found.each_ref().map(|text| text.as_deref()), &ids),
                None => {
                    let name = fields.hash_ids.as_deref().unwrap_or_default();
                    self.wrong(
                        format!("line {number}, `{name}`"),
                        "is not a list of whole numbers".to_owned(),
                    );
                }
            }
        }
    }

    fn table(&mut self, text: &[u8], path: &Path) -> Result<(), WorkloadError> {
        let mut table = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text);
        let header = table.headers().cloned().unwrap_or_default();
        let fields = self.fields;
        let named = [&fields.time, &fields.input_tokens, &fields.output_tokens];
        let columns = named.map(|name| header.iter().position(|column| column == name));
        if let Some(missing) = columns.iter().position(Option::is_none) {
            let found: Vec<&str> = header.iter().filter(|name| !name.is_empty()).collect();
            return Err(WorkloadError::Format {
                path: path.to_path_buf(),
                line: Some(1),
                column: None,
                message: match found.is_empty() {
                    true => "the file is empty".to_owned(),
                    false => format!(
                        "no column `{}`; the columns are {}",
                        named[missing],
                        found.join(", ")
                    ),
                },
            });
        }
        for record in table.records() {
            match record {
                Ok(record) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    let found = columns.map(|column| column.and_then(|column| record.get(column)));
                    self.take(line, found, &[]);
                }
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    self.wrong(format!("line {line}"), super::file::table_problem(&error));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, line: u64, [time, input, output]: [Option<&str>; 3], ids: &[u64]) {
        let fields = self.fields;
        let count = |text: Option<&str>| {
            let number = text?.parse::<f64>().ok()?;
            let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
            whole.then_some(number as u32)
        };
        let at = time.and_then(|time| instant(time, fields.unit));
        let (counted_in, counted_out) = (count(input), count(output));
        let told = |text: Option<&str>, what: &str| match text {
            Some(text) => format!("`{text}` is not {what}"),
            None => "is missing".to_owned(),
        };
        let place = |name: &str| format!("line {line}, `{name}`");
        match (at, counted_in, counted_out) {
            (None, ..) => self.wrong(place(&fields.time), told(time, "a time")),
            (_, None, _) => {
                self.wrong(
                    place(&fields.input_tokens),
                    told(input, "a number of tokens"),
                );
            }
            (_, _, None) => {
                self.wrong(
                    place(&fields.output_tokens),
                    told(output, "a number of tokens"),
                );
            }
            (_, Some(0), _) | (_, _, Some(0)) => self.without_answer += 1,
            (Some(at), Some(input), Some(output)) => {
                let begin = self.blocks.len();
                self.blocks.extend(ids);
                let row = TraceRow {
                    at: 0,
                    line,
                    input,
                    output,
                    blocks: begin..self.blocks.len(),
                };
                self.rows.push((at, row));
            }
        }
    }

    fn wrong(&mut self, place: String, message: String) {
        self.bad += 1;
        if self.problems.len() < TOLD {
            self.problems.push(RowProblem { place, message });
        }
    }

    fn finish(mut self, file: &TraceFile) -> Result<Trace, WorkloadError> {
        let path = file.path.clone();
        if self.bad > 0 {
            return Err(WorkloadError::Rows {
                path,
                noun: "request",
                bad: self.bad,
                first: self.problems,
            });
        }
        self.rows.sort_by_key(|(at, _)| *at);
        let Some(&(first, _)) = self.rows.first() else {
            return Err(WorkloadError::Format {
                path,
                line: None,
                column: None,
                message: "there is no request in it".to_owned(),
            });
        };
        let rows = self.rows.into_iter().map(|(at, row)| TraceRow {
            at: u64::try_from(at - first).unwrap_or(u64::MAX),
            ..row
        });
        Ok(Trace {
            rows: rows.collect(),
            blocks: self.blocks,
            block_tokens: file.block_tokens.max(1),
            without_answer: self.without_answer,
        })
    }
}

/// Nanoseconds of a number in its unit, or of a date with a time; one without a zone is taken as it stands.
fn instant(text: &str, unit: TimeUnit) -> Option<i128> {
    if let Ok(number) = text.parse::<f64>() {
        let scale = match unit {
            TimeUnit::Seconds => 1e9,
            TimeUnit::Milliseconds => 1e6,
        };
        return number
            .is_finite()
            .then_some((number * scale).round() as i128);
    }
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let civil = || {
        let time = text.parse::<jiff::civil::DateTime>().ok()?;
        time.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|time| time.timestamp())
    };
    zoned.or_else(civil).map(|time| time.as_nanosecond())
}

impl TraceFields {
    /// The fields of Mooncake's traces: milliseconds, and ids of blocks.
    pub fn mooncake() -> TraceFields {
        TraceFields {
            time: "timestamp".to_owned(),
            unit: TimeUnit::Milliseconds,
            input_tokens: "input_length".to_owned(),
            output_tokens: "output_length".to_owned(),
            hash_ids: Some("hash_ids".to_owned()),
        }
    }

    /// The columns of Azure's traces of 2023 and 2024.
    pub fn azure() -> TraceFields {
        TraceFields {
            time: "TIMESTAMP".to_owned(),
            unit: TimeUnit::Seconds,
            input_tokens: "ContextTokens".to_owned(),
            output_tokens: "GeneratedTokens".to_owned(),
            hash_ids: None,
        }
    }

    /// The columns of BurstGPT's traces.
    pub fn burstgpt() -> TraceFields {
        TraceFields {
            time: "Timestamp".to_owned(),
            unit: TimeUnit::Seconds,
            input_tokens: "Request tokens".to_owned(),
            output_tokens: "Response tokens".to_owned(),
            hash_ids: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::TEMPLATE_TOKENS;
    use super::super::{PromptSource, Source, Workload};
    use super::*;

    fn file(name: &str, fields: TraceFields) -> TraceFile {
        let table = name.ends_with(".csv");
        TraceFile {
            path: Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("fixtures/traces")
                .join(name),
            shape: if table {
                TraceShape::Table
            } else {
                TraceShape::Lines
            },
            fields,
            block_tokens: 512,
        }
    }

    fn trace(name: &str, fields: TraceFields) -> Trace {
        Trace::read(&file(name, fields)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(name: &str, fields: TraceFields) -> String {
        let error = Trace::read(&file(name, fields)).unwrap_err().to_string();
        let folder = format!("{}/fixtures/traces/", env!("CARGO_MANIFEST_DIR"));
        error.replace(&folder, "")
    }

    fn prompts(name: &str, fields: TraceFields) -> TracePrompts {
        TracePrompts::new(trace(name, fields), Seed::new(1), Prose::new(None))
    }

    fn options() -> ReplayOptions {
        ReplayOptions {
            speed: 1.0,
            from: Duration::ZERO,
            to: None,
            rate_scale: 1.0,
            laps: 1,
            chat: true,
        }
    }

    fn own() -> TraceFields {
        TraceFields {
            time: "when".to_owned(),
            unit: TimeUnit::Seconds,
            input_tokens: "in".to_owned(),
            output_tokens: "out".to_owned(),
            hash_ids: None,
        }
    }

    #[test]
    fn each_format_has_its_times_and_lengths() {
        let told = |trace: &Trace, row: usize| {
            let row = &trace.rows[row];
            (row.at, row.input, row.output, row.blocks.len())
        };
        let mooncake = trace("mooncake.jsonl", TraceFields::mooncake());
        assert_eq!(mooncake.rows.len(), 240);
        assert_eq!(told(&mooncake, 1), (717_000_000, 628, 5, 2));
        let azure = trace("azure.csv", TraceFields::azure());
        assert_eq!(azure.rows.len(), 240);
        let burst = trace("burstgpt.csv", TraceFields::burstgpt());
        assert_eq!((burst.rows.len(), burst.without_answer), (59, 1));
        // Out of order in the file, in order when played.
        let own = trace("own.csv", own());
        assert_eq!(told(&own, 0), (0, 100, 10, 0));
        assert_eq!(told(&own, 1), (990_070_000, 30, 7, 0));
        assert_eq!(told(&own, 2), (1_490_070_000, 20, 5, 0));
    }

    #[test]
    fn what_is_wrong_with_a_trace_is_told_by_row_and_column() {
        assert_eq!(
            error("malformed.csv", TraceFields::azure()),
            "`malformed.csv`: 3 rows are not requests\n  \
             line 3, `TIMESTAMP`: `yesterday` is not a time\n  \
             line 4, `ContextTokens`: `many` is not a number of tokens\n  \
             line 5: has 2 fields, the header has 3"
        );
        assert_eq!(
            error("malformed.jsonl", TraceFields::mooncake()),
            "`malformed.jsonl`: 3 rows are not requests\n  \
             line 2, `input_length`: `-3` is not a number of tokens\n  \
             line 3, `hash_ids`: is not a list of whole numbers\n  \
             line 4, `output_length`: is missing"
        );
        assert_eq!(
            error("truncated.jsonl", TraceFields::mooncake()),
            "`truncated.jsonl`: 1 row is not a request\n  \
             line 2, column 44: is not JSON: EOF while parsing a string"
        );
        assert_eq!(
            error("azure.csv", TraceFields::burstgpt()),
            "`azure.csv` line 1: no column `Timestamp`; the columns are TIMESTAMP, ContextTokens, GeneratedTokens"
        );
        assert_eq!(
            error("empty.csv", TraceFields::azure()),
            "`empty.csv` line 1: the file is empty"
        );
        assert_eq!(
            error("empty.jsonl", TraceFields::mooncake()),
            "`empty.jsonl`: there is no request in it"
        );
    }

    #[test]
    fn equal_blocks_are_equal_text_and_other_blocks_are_not() {
        let prompts = prompts("mooncake.jsonl", TraceFields::mooncake());
        let texts: Vec<_> = (0..60).map(|at| prompts.prompt(at)).collect();
        let ids = |at: usize| {
            let row = &prompts.trace.rows[at];
            &prompts.trace.blocks[row.blocks.clone()]
        };
        for at in 0..texts.len() {
            let tokens = prompts.trace.rows[at].input - TEMPLATE_TOKENS;
            assert_eq!(texts[at].text.len(), 4 * tokens as usize);
            for other in 0..at {
                let shared = ids(at).iter().zip(ids(other)).take_while(|(a, b)| a == b);
                let blocks = shared.count();
                let (one, two) = (&texts[at].text, &texts[other].text);
                let same = one.bytes().zip(two.bytes()).take_while(|(a, b)| a == b);
                let full = (blocks * 2048).min(one.len()).min(two.len());
                // A block that is cut short may end in another way than where it goes on.
                let same = same.count() + 16;
                assert!(same >= full, "{same} of {full} characters are shared");
                assert!(same < full + 64, "{same} characters are shared, not {full}");
            }
        }
    }

    #[test]
    fn a_replay_keeps_every_arrival_and_goes_faster() {
        let prompts = prompts("azure.csv", TraceFields::azure());
        let (played, times, duration) = prompts.replay(&ReplayOptions {
            speed: 100.0,
            ..options()
        });
        assert_eq!((played.plays.len(), times.len()), (240, 240));
        for (row, at) in prompts.trace.rows.iter().zip(&times) {
            assert!(row.at.abs_diff(at.ns() * 100) <= 100, "{row:?} {at:?}");
        }
        assert!(duration > times[239].since(Moment::ZERO));
    }

    #[test]
    fn a_part_of_a_trace_begins_at_its_own_start() {
        let prompts = prompts("azure.csv", TraceFields::azure());
        let second = Duration::from_secs(1);
        let (played, times, duration) = prompts.replay(&ReplayOptions {
            from: 10 * second,
            to: Some(20 * second),
            ..options()
        });
        let inside = |row: &&TraceRow| (10e9..20e9).contains(&(row.at as f64));
        assert_eq!(
            times.len(),
            prompts.trace.rows.iter().filter(inside).count()
        );
        let first = prompts.trace.rows.iter().find(inside).unwrap();
        assert_eq!(times[0].ns(), first.at - 10_000_000_000);
        assert_eq!(played.prompt(0).tokens, Some(first.input));
        assert_eq!(duration.as_secs(), 10);
    }

    #[test]
    fn a_rate_scale_thins_out_or_doubles_in_order() {
        let prompts = prompts("azure.csv", TraceFields::azure());
        let times = |rate_scale| {
            let (_, times, _) = prompts.replay(&ReplayOptions {
                rate_scale,
                ..options()
            });
            assert!(times.is_sorted());
            times.len()
        };
        assert!((90..150).contains(&times(0.5)), "{}", times(0.5));
        assert_eq!(times(2.0), 480);
        assert!((500..580).contains(&times(2.25)), "{}", times(2.25));
    }

    #[test]
    fn another_lap_has_the_same_lengths_and_other_texts() {
        let prompts = prompts("mooncake.jsonl", TraceFields::mooncake());
        let (played, times, _) = prompts.replay(&ReplayOptions {
            laps: 2,
            ..options()
        });
        assert_eq!(times.len(), 480);
        assert!(times.is_sorted());
        let (once, again) = (played.prompt(3), played.prompt(243));
        assert_eq!(
            (once.tokens, once.max_tokens),
            (again.tokens, again.max_tokens)
        );
        assert_ne!(once.text[..40], again.text[..40]);
    }

    #[test]
    fn with_a_tokenizer_a_length_counts_the_chat_template_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
        let files = super::super::TokenizerFiles::at(&folder);
        let tokenizer = Arc::new(super::super::Tokenizer::open(&files).unwrap());
        let workload = Workload::load(&PromptSource {
            id: "t".to_owned(),
            from: Source::Trace(file("mooncake.jsonl", TraceFields::mooncake())),
            limit: None,
            seed: 1,
            shuffle: false,
            category: None,
            tokenizer: Some(tokenizer.clone()),
        })
        .unwrap();
        for ordinal in 0..20 {
            let prompt = workload.prompt(ordinal);
            let tokens = tokenizer.request_tokens(&prompt.text).unwrap();
            assert_eq!(Some(tokens), prompt.tokens);
        }
    }
}
