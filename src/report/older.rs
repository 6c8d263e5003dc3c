//! Observations of a run that was saved before observations were kept: out of the rows of its `requests.ndjson`, its report, and
//! the spans of its charts. What these do not tell (samples, and the instants of tokens unless they were recorded) is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::charts::Charts;
use super::kept::{Kept, word};
use super::model::{self, CellStatus, Report, RequestRow};
use crate::observation::{
    CellResult, ClientFacts, DeviceFacts, Ending, EngineFacts, EventLog, NotRun, NotableEvent,
    Observations, Outcome, OutputEvent, Phase, RequestRecord, StageTimes, StampSource, TokenSource,
    Tokens,
};
use crate::plan::CellRun;
use crate::units::Moment;

/// What can be told of each run of each cell.
pub fn observations(report: &Report, charts: &Charts, rows: Vec<RequestRow>) -> Vec<Kept> {
    let mut by_run: BTreeMap<(String, u32), Vec<RequestRow>> = BTreeMap::new();
    for row in rows {
        by_run
            .entry((row.cell.clone(), row.repeat))
            .or_default()
            .push(row);
    }
    let mut kept = Vec::new();
    for cell in &report.cells {
        let stages: Vec<String> = cell.stages.iter().map(|stage| stage.name.clone()).collect();
        for run in &cell.runs {
            let rows = by_run.remove(&(cell.id.clone(), run.repeat));
            let result = match not_run(run) {
                Some(why) => CellResult::NotRun(
                    CellRun {
                        cell: 0,
                        repeat: run.repeat,
                    },
                    why,
                ),
                None => CellResult::Measured(Arc::new(measured(
                    report,
                    charts,
                    (cell, run),
                    rows.unwrap_or_default(),
                ))),
            };
            kept.push(Kept {
                cell: cell.id.clone(),
                stages: stages.clone(),
                result,
            });
        }
    }
    kept
}

fn not_run(run: &model::CellRun) -> Option<NotRun> {
    let why = || run.reason.clone().unwrap_or_default();
    match run.status {
        CellStatus::NotReady => Some(NotRun::NotReady(why())),
        CellStatus::Skipped if why() == "interrupted" => Some(NotRun::Interrupted),
        CellStatus::Skipped => Some(NotRun::Budget(why())),
        CellStatus::Lost => Some(NotRun::Lost(why())),
        CellStatus::Complete
        | CellStatus::Aborted
        | CellStatus::Interrupted
        | CellStatus::Budget
        | CellStatus::EngineDied => None,
    }
}

fn measured(
    report: &Report,
    charts: &Charts,
    (cell, run): (&model::Cell, &model::CellRun),
    rows: Vec<RequestRow>,
) -> Observations {
    let place = |name: &str| cell.stages.iter().position(|stage| stage.name == name);
    let untimed = rows
        .iter()
        .any(|row| row.more.output_events > 0 && row.more.events.is_none());
    let mut records: Vec<RequestRecord> = rows
        .into_iter()
        .filter_map(|row| Some(record(place(&row.stage)?, row)))
        .collect();
    records.sort_by_key(|record| record.finished);
    let engines = &report.environment.engines;
    let engine = engines.iter().find(|engine| engine.backend == cell.backend);
    Observations {
        cell: 0,
        repeat: run.repeat,
        wall_anchor: run.wall_anchor.unwrap_or(0.0),
        stages: stages(charts, cell, run.repeat, &records),
        events: run
            .events
            .iter()
            .map(|event| NotableEvent {
                at: Moment::from_secs_f64(event.at_s),
                kind: word(event.kind.clone()),
                text: event.text.clone(),
            })
            .collect(),
        client: run.client.as_ref().map(client).unwrap_or_default(),
        ending: ending(run),
        unsent: unsent(cell, run.repeat),
        devices: report.environment.gpus.iter().map(device).collect(),
        engine: engine.map(facts).unwrap_or_default(),
        tokens_untimed: untimed,
        records,
        ..Observations::default()
    }
}

fn ending(run: &model::CellRun) -> Ending {
    let reason = run.reason.clone().unwrap_or_default();
    match run.status {
        CellStatus::Aborted => Ending::Aborted(reason.trim_start_matches("aborted by ").to_owned()),
        CellStatus::Interrupted => Ending::Interrupted,
        CellStatus::Budget => Ending::Budget,
        CellStatus::EngineDied => Ending::EngineDied(reason),
        CellStatus::Complete | CellStatus::NotReady | CellStatus::Skipped | CellStatus::Lost => {
            Ending::Complete
        }
    }
}

fn client(told: &model::Client) -> ClientFacts {
    ClientFacts {
        stamp_source: match told.stamp_source.as_str() {
            "kernel" => StampSource::Kernel,
            _ => StampSource::Read,
        },
        stamps_missing: told.stamps_missing,
        worker_cpu: told.worker_cpu.clone(),
        connections_opened: told.connections_opened,
        ..ClientFacts::default()
    }
}

fn facts(engine: &model::Engine) -> EngineFacts {
    EngineFacts {
        url: engine.url.clone().unwrap_or_default(),
        version: engine.version.clone(),
        models: engine.models.clone(),
        context_length: engine.context_length,
        proxy: engine.proxy.clone(),
        simulated: engine.simulated,
        command: engine.command.clone(),
        cold_start: engine.cold_start_s.map(Duration::from_secs_f64),
        log: engine.log.clone(),
    }
}

fn device(gpu: &model::Gpu) -> DeviceFacts {
    DeviceFacts {
        index: gpu.index,
        name: gpu.name.clone(),
        memory_bytes: gpu.memory_bytes,
        driver: gpu.driver.clone(),
        cuda: gpu.cuda.clone(),
        simulated: gpu.simulated,
    }
}

fn unsent(cell: &model::Cell, repeat: u32) -> Vec<(usize, u64)> {
    let of = |stage: &model::Stage| {
        let own = stage.repeats.iter().find(|one| one.repeat == repeat);
        let numbers = own.map(|one| &one.numbers).or(stage.numbers.as_ref());
        numbers.map_or(0, |numbers| numbers.unsent)
    };
    let stages = cell.stages.iter().map(of).enumerate();
    stages.filter(|(_, count)| *count > 0).collect()
}

/// When the stages were: as the charts tell, else from the first planned instant to the last end. A level is steady from the
/// instant at which each of its users has sent.
fn stages(
    charts: &Charts,
    cell: &model::Cell,
    repeat: u32,
    records: &[RequestRecord],
) -> Vec<StageTimes> {
    let run = charts
        .runs
        .iter()
        .find(|run| (run.cell.as_str(), run.repeat) == (cell.id.as_str(), repeat));
    let spans = run.map_or(&[][..], |run| &run.spans);
    let mut times = Vec::new();
    for (at, stage) in cell.stages.iter().enumerate() {
        let own = || records.iter().filter(|record| record.stage == at);
        let Some(first) = own().map(|record| record.intended).min() else {
            continue;
        };
        let last = own().filter(|record| record.measured || !stage.measured);
        let last = last.map(|record| record.finished).max().unwrap_or(first);
        let span = spans.iter().find(|span| span.stage == stage.name);
        let (began, ended) = span.map_or((first, last), |span| {
            let at = Moment::from_secs_f64;
            // Spans are told to five digits: no request of the stage lies outside.
            (at(span.from_s).min(first), at(span.to_s))
        });
        times.push(StageTimes {
            stage: at,
            began,
            ended,
            steady: match stage.users {
                Some(users) if !stage.open_loop => {
                    full(own(), users, began).map(|from| (from, ended))
                }
                _ => Some((began, ended)),
            }
            .filter(|(from, to)| from < to),
            busiest: None,
        });
    }
    times
}

/// The instant at which `users` users have sent.
fn full<'a>(
    records: impl Iterator<Item = &'a RequestRecord>,
    users: u32,
    began: Moment,
) -> Option<Moment> {
    let mut sent: Vec<(Moment, u32)> = records
        .filter_map(|record| Some((record.dispatched?, record.user?)))
        .collect();
    sent.sort();
    let mut seen = BTreeSet::new();
    let all = sent.into_iter().find(|(_, user)| {
        seen.insert(*user);
        seen.len() == users as usize
    });
    all.map(|(at, _)| at.max(began))
}

fn moment(ms: f64) -> Moment {
    Moment::from_ns((ms * 1e6).round() as u64)
}

fn duration(ms: f64) -> Duration {
    Duration::from_nanos((ms * 1e6).round() as u64)
}

fn record(stage: usize, row: RequestRow) -> RequestRecord {
    let more = row.more;
    let at = |ms: Option<f64>| ms.map(moment);
    let event = |(ms, tokens, shared): &(f64, u32, u8)| OutputEvent {
        at: moment(*ms),
        tokens: *tokens,
        shared: *shared == 1,
    };
    let events = match &more.events {
        Some(events) => EventLog::of(&events.iter().map(event).collect::<Vec<_>>()),
        None => EventLog::counted(more.output_events),
    };
    RequestRecord {
        index: row.index,
        stage,
        measured: more.measured,
        prompt: more.prompt.into(),
        category: row.category.map(Into::into),
        adapter: row.adapter.map(Into::into),
        turn: more.turn,
        home: stage,
        user: more.user,
        intended: moment(row.intended_ms),
        cap_wait: duration(more.cap_wait_ms),
        dispatched: at(row.dispatched_ms),
        connect: more.connect_ms.map(duration),
        written: at(more.written_ms),
        headers: at(more.headers_ms),
        first_event: at(more.first_event_ms),
        first_token: at(row.first_token_ms),
        first_token_shared: more.first_token_shared,
        first_content: at(more.first_content_ms),
        last_token: at(row.last_token_ms),
        finished: moment(row.finished_ms),
        events,
        outcome: outcome(&row.outcome, row.status, more.error.unwrap_or_default()),
        status: row.status,
        finish_reason: more.finish_reason.map(Into::into),
        tokens: Tokens {
            input: row.input_tokens,
            output: row.output_tokens,
            cached: more.cached_tokens,
            reasoning: more.reasoning_tokens,
            source: match row.token_source.as_str() {
                "usage" => TokenSource::Usage,
                "tokenizer" => TokenSource::Tokenizer,
                "events" => TokenSource::Events,
                _ => TokenSource::Unknown,
            },
            per_event_known: false,
        },
        bytes: more.bytes,
        reused: row.reused,
        reconnected: more.reconnected,
        valid: more.valid,
    }
}

/// The outcome of this name; a word that this version does not know is a failure.
fn outcome(name: &str, status: Option<u16>, text: String) -> Outcome {
    let refused = |otherwise: u16, body| Outcome::Refused {
        status: status.unwrap_or(otherwise),
        body,
        retry_after: None,
    };
    match name {
        "ok" => Outcome::Ok,
        "rate_limited" => refused(429, text),
        "refused" => refused(400, text),
        "error_event" => Outcome::ErrorEvent(text),
        "truncated" => Outcome::Truncated,
        "empty" => Outcome::Empty,
        "connect_failed" => Outcome::ConnectFailed(text),
        "tls_failed" => Outcome::TlsFailed(text),
        "reset" => Outcome::Reset(text),
        "timed_out_connect" => Outcome::TimedOut(Phase::Connect),
        "timed_out_first_token" => Outcome::TimedOut(Phase::FirstToken),
        "timed_out_idle" => Outcome::TimedOut(Phase::Idle),
        "timed_out_total" => Outcome::TimedOut(Phase::Total),
        "cut" => Outcome::Cut,
        "dropped" => Outcome::Dropped,
        "malformed" => Outcome::Malformed(text),
        other => Outcome::Malformed(format!("{other}: {text}")),
    }
}
