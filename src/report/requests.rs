//! Request records become rows of `requests.csv` and `requests.ndjson`.

use std::sync::Arc;
use std::time::Duration;

use super::model::{RequestDetails, RequestRow};
use super::wording;
use crate::observation::{Observations, Outcome, RequestRecord, request_id};
use crate::plan::{CellRun, Plan, StartClock};
use crate::units::Moment;
use crate::verdict::measure;

/// The names that rows need: cells and their stages.
#[derive(Clone, Debug)]
pub struct Names {
    cells: Vec<NamedCell>,
}

/// A cell.
#[derive(Clone, Debug)]
struct NamedCell {
    id: String,
    interface: &'static str,
    stages: Vec<Named>,
}

/// A stage's name, and whether it is measured.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    measured: bool,
}

impl Names {
    /// The names of a plan.
    pub fn of(plan: &Plan) -> Names {
        let stages = |cell: &crate::plan::Cell| {
            let stages = cell.stages.iter();
            stages
                .map(|stage| Named {
                    name: stage.name.clone(),
                    measured: stage.measured,
                })
                .collect()
        };
        Names {
            cells: plan
                .cells
                .iter()
                .map(|cell| NamedCell {
                    id: cell.id.clone(),
                    interface: wording::interface(cell.backend.api.name()),
                    stages: stages(cell),
                })
                .collect(),
        }
    }

    fn cell(&self, cell: usize) -> &str {
        self.cells.get(cell).map_or("", |cell| &cell.id)
    }

    fn interface(&self, cell: usize) -> &str {
        self.cells.get(cell).map_or("", |cell| cell.interface)
    }

    fn is_measured(&self, cell: usize, stage: usize) -> bool {
        let stage = self.cells.get(cell).and_then(|cell| cell.stages.get(stage));
        stage.is_some_and(|stage| stage.measured)
    }

    fn stage(&self, cell: usize, stage: usize) -> &str {
        self.cells
            .get(cell)
            .and_then(|cell| cell.stages.get(stage))
            .map_or("", |stage| stage.name.as_str())
    }
}

/// The rows of one run of one cell, in the order of the requests' ends. The unmeasured requests that keep a measured level up
/// to its end are in no count, and in no row.
pub fn rows<'a>(names: &'a Names, seen: &'a Observations) -> impl Iterator<Item = RequestRow> + 'a {
    let run = CellRun {
        cell: seen.cell,
        repeat: seen.repeat,
    };
    seen.records
        .iter()
        .filter(move |record| record.measured || !names.is_measured(run.cell, record.stage))
        .map(move |record| row(names, run, record, Events::None))
}

/// How a row tells the output events of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Only their number.
    None,
    /// Their number and tokens in each second.
    Slices,
    /// Each of them.
    Each,
}

/// One request as a row.
pub fn row(names: &Names, run: CellRun, record: &RequestRecord, events: Events) -> RequestRow {
    // Each number by its one definition, from sending as in the tables.
    let in_ms = |metric| measure::value(record, metric, StartClock::Sent).map(seconds_to_ms);
    RequestRow {
        cell: names.cell(run.cell).to_owned(),
        repeat: run.repeat,
        stage: names.stage(run.cell, record.stage).to_owned(),
        index: record.index,
        outcome: record.outcome.name().to_owned(),
        status: record.status,
        intended_ms: ms(record.intended),
        dispatched_ms: record.dispatched.map(ms),
        first_token_ms: record.first_token.map(ms),
        last_token_ms: record.last_token.map(ms),
        finished_ms: ms(record.finished),
        ttft_ms: in_ms("ttft"),
        e2e_ms: in_ms("e2e"),
        tpot_ms: in_ms("tpot"),
        input_tokens: record.tokens.input,
        output_tokens: record.tokens.output,
        token_source: record.tokens.source.name().to_owned(),
        category: text(&record.category),
        reused: record.reused,
        adapter: text(&record.adapter),
        interface: names.interface(run.cell).to_owned(),
        more: details(run, record, events),
    }
}

fn details(run: CellRun, record: &RequestRecord, events: Events) -> RequestDetails {
    RequestDetails {
        request_id: request_id(run, record.home, record.index, record.turn),
        measured: record.measured,
        prompt: record.prompt.to_string(),
        turn: record.turn,
        user: record.user,
        cap_wait_ms: duration_ms(record.cap_wait),
        connect_ms: record.connect.map(duration_ms),
        written_ms: record.written.map(ms),
        headers_ms: record.headers.map(ms),
        first_event_ms: record.first_event.map(ms),
        first_content_ms: record.first_content.map(ms),
        first_token_shared: record.first_token_shared,
        finish_reason: text(&record.finish_reason),
        cached_tokens: record.tokens.cached,
        reasoning_tokens: record.tokens.reasoning,
        bytes: record.bytes,
        reconnected: record.reconnected,
        valid: record.valid,
        error: error_text(&record.outcome),
        output_events: record.events.len(),
        slices: match events {
            Events::Slices => slices(record),
            Events::None | Events::Each => Vec::new(),
        },
        events: (events == Events::Each).then(|| {
            record
                .events
                .iter()
                .map(|event| (ms(event.at), event.tokens, u8::from(event.shared)))
                .collect()
        }),
    }
}

fn slices(record: &RequestRecord) -> Vec<(u64, u32, u32)> {
    let mut slices: Vec<(u64, u32, u32)> = Vec::new();
    for event in record.events.iter() {
        let second = event.at.ns() / 1_000_000_000;
        match slices.last_mut().filter(|(last, _, _)| *last == second) {
            Some((_, events, tokens)) => {
                *events += 1;
                *tokens += event.tokens;
            }
            None => slices.push((second, 1, event.tokens)),
        }
    }
    slices
}

/// What a failure said.
pub(super) fn error_text(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Refused { body, .. } => Some(body.clone()),
        Outcome::ErrorEvent(text)
        | Outcome::Malformed(text)
        | Outcome::ConnectFailed(text)
        | Outcome::TlsFailed(text)
        | Outcome::Reset(text) => Some(text.clone()),
        Outcome::Ok
        | Outcome::Truncated
        | Outcome::Empty
        | Outcome::TimedOut(_)
        | Outcome::Cut
        | Outcome::Dropped => None,
    }
}

fn text(shared: &Option<Arc<str>>) -> Option<String> {
    shared.as_deref().map(str::to_owned)
}

/// Milliseconds to the nanosecond, so that a row can be compared with the log that it was made from.
fn ms(moment: Moment) -> f64 {
    rounded(moment.as_ms())
}

fn duration_ms(duration: Duration) -> f64 {
    seconds_to_ms(duration.as_secs_f64())
}

fn seconds_to_ms(seconds: f64) -> f64 {
    rounded(seconds * 1e3)
}

fn rounded(ms: f64) -> f64 {
    (ms * 1e6).round() / 1e6
}
