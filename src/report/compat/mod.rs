//! A run in the files and columns of the public suites, so that what was built on those goes on working.
//!
//! In: a report, what its charts are drawn from, and its requests. Out: files by path. The names and shapes are theirs, the numbers
//! ours (docs/compat.md has what differs): what was not seen is `null` or empty, never 0, and failed requests are counted.

mod suite_000;
mod suite_001;
mod suite_002;
mod suite_004;

use serde::Deserialize;

use super::charts::Charts;
use super::model::{Cell, Report, Stage, StageNumbers};
use super::wording;

/// A suite whose files can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// One JSON and two CSVs for each backend, model and concurrency.
    Suite000,
    /// One JSON for each engine, a table of all, the environment.
    Suite001,
    /// One JSON line for each request.
    Suite002,
    /// One JSON of engines, categories and concurrencies.
    Suite004,
}

impl Suite {
    /// Every suite, with its name on the command line.
    pub const ALL: [(&str, Suite); 4] = [
        ("suite-000", Suite::Suite000),
        ("suite-001", Suite::Suite001),
        ("suite-002", Suite::Suite002),
        ("suite-004", Suite::Suite004),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let known = Suite::ALL.iter().find(|(_, suite)| *suite == self);
        known.map_or("", |(name, _)| name)
    }
}

/// A request of `requests.csv`, as far as a suite tells of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "the columns of requests.csv")]
pub struct Row {
    pub cell: String,
    pub repeat: u32,
    pub stage: String,
    pub index: u64,
    pub outcome: String,
    pub intended_ms: f64,
    pub dispatched_ms: Option<f64>,
    pub finished_ms: f64,
    pub ttft_ms: Option<f64>,
    pub e2e_ms: Option<f64>,
    pub tpot_ms: Option<f64>,
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub category: Option<String>,
}

/// The requests of a `requests.csv`.
///
/// # Errors
/// It lacks a column, or a value is none.
pub fn rows(csv: impl std::io::Read) -> Result<Vec<Row>, ::csv::Error> {
    ::csv::Reader::from_reader(csv).deserialize().collect()
}

/// The files of a suite: path and text.
pub fn files(
    report: &Report,
    charts: &Charts,
    rows: &[Row],
    suite: Suite,
) -> Vec<(String, String)> {
    match suite {
        Suite::Suite000 => suite_000::files(report, charts, rows),
        Suite::Suite001 => suite_001::files(report),
        Suite::Suite002 => suite_002::files(report, rows),
        Suite::Suite004 => suite_004::files(report, rows),
    }
}

// ---- what the suites share -------------------------------------------------------------------------------------------

/// One measured stage of one cell in one repeat.
struct Measured<'a> {
    cell: &'a Cell,
    stage: &'a Stage,
    repeat: u32,
    numbers: &'a StageNumbers,
}

/// Every stage that was measured, repeat by repeat.
fn measured(report: &Report) -> Vec<Measured<'_>> {
    let mut all = Vec::new();
    for cell in &report.cells {
        for stage in cell.stages.iter().filter(|stage| stage.measured) {
            let own = |repeat, numbers| Measured {
                cell,
                stage,
                repeat,
                numbers,
            };
            if stage.repeats.is_empty() {
                all.extend(stage.numbers.as_ref().map(|numbers| own(0, numbers)));
            }
            all.extend(
                stage
                    .repeats
                    .iter()
                    .map(|one| own(one.repeat, &one.numbers)),
            );
        }
    }
    all
}

impl Measured<'_> {
    /// `ttft mean` in its canonical unit; percentiles as numpy gives them, where both are there.
    fn stat(&self, metric: &str, stat: &str) -> Option<f64> {
        let metric = self.numbers.metrics.get(metric)?;
        let linear = metric.stats.get(&format!("{stat}_linear")).copied();
        linear.or_else(|| wording::statistic(metric, stat))
    }

    /// Users, or requests per second, in the words of a path.
    fn level(&self) -> String {
        level(self.stage).map_or_else(|| self.stage.name.clone(), |level| level.to_string())
    }

    /// Its answered requests.
    fn rows<'r>(&self, rows: &'r [Row]) -> Vec<&'r Row> {
        let own = |row: &&Row| {
            row.cell == self.cell.id
                && row.stage == self.stage.name
                && row.repeat == self.repeat
                && row.outcome == "ok"
        };
        rows.iter().filter(own).collect()
    }

    /// `_after` where another stage of the cell has the same level, `_r2` where there are several repeats, so that no file hides
    /// another.
    fn suffix(&self) -> String {
        let mut suffix = String::new();
        let mut stages = self.cell.stages.iter().filter(|stage| stage.measured);
        if stages.any(|other| other.name != self.stage.name && level(other) == level(self.stage)) {
            suffix = format!("_{}", self.stage.name);
        }
        if self.stage.repeats.len() > 1 {
            suffix.push_str(&format!("_r{}", self.repeat + 1));
        }
        suffix
    }
}

/// Users, or requests per second.
fn level(stage: &Stage) -> Option<f64> {
    stage.users.map(f64::from).or(stage.rate)
}

/// Where a report has several prompt sets or loads, each gets a folder of its own.
fn folder(report: &Report, cell: &Cell) -> String {
    let other = |one: &Cell| one.prompts != cell.prompts || one.load != cell.load;
    match report.cells.iter().any(other) {
        true => format!("{}-{}/", cell.prompts, cell.load),
        false => String::new(),
    }
}

/// `20260101_120000` of an instant in RFC 3339.
fn stamp(report: &Report) -> String {
    let digits: String = report
        .started
        .chars()
        .take(19)
        .filter(char::is_ascii_digit)
        .collect();
    match digits.split_at_checked(8) {
        Some((day, time)) => format!("{day}_{time}"),
        None => digits,
    }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(head).expect("memory takes every row");
    for row in rows {
        writer.write_record(row).expect("memory takes every row");
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("rows of text are text")
}

fn cell_text(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a value has only text keys");
    text.push('\n');
    text
}

/// Megabytes of the suites are mebibytes of NVML.
const MEBIBYTE: f64 = (1u64 << 20) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_by_the_names_of_their_columns() {
        let text = "cell,repeat,stage,index,outcome,status,intended_ms,dispatched_ms,first_token_ms,last_token_ms,finished_ms,ttft_ms,e2e_ms,tpot_ms,input_tokens,output_tokens,token_source,category,reused\n\
                    a/m/p/l,0,c2,7,ok,200,1,2,3,4,5,1,2,0.5,10,3,usage,,true\n";
        let rows = rows(text.as_bytes()).unwrap();
        assert_eq!(
            (rows[0].index, rows[0].output_tokens, &rows[0].category),
            (7, Some(3), &None)
        );
        assert!(super::rows("cell,repeat\na,0\n".as_bytes()).is_err());
    }
}
