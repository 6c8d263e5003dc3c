//! Cells, requests and plans for tests, small enough to check by eye.

use std::sync::Arc;
use std::time::Duration;

use crate::assertion::{Context, Dim, parse};
use crate::diagnostic::Span;
use crate::observation::{
    CellResult, EventLog, Observations, Outcome, OutputEvent, RequestRecord, Series, StageTimes,
    TokenSource, Tokens,
};
use crate::plan::{
    self, ArrivalCurve, Backend, Cell, Count, Distribution, Level, OnFull, Plan, Process, RampDown,
    RepeatsMust, RunLimits, Schedule, Scope, Segment, Slo, SloInstance, TelemetryPlan, UserCurve,
    UserExtent, UserPiece,
};
use crate::units::Moment;

pub(super) fn ms(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

/// A request that was sent when it was intended and whose only token arrived `latency_ms` later.
pub(super) fn answered(index: u64, intended_ms: u64, latency_ms: u64) -> RequestRecord {
    let token = ms(intended_ms + latency_ms);
    RequestRecord {
        index,
        stage: 0,
        measured: true,
        prompt: "p".into(),
        category: None,
        adapter: None,
        turn: 1,
        home: 0,
        user: None,
        intended: ms(intended_ms),
        cap_wait: Duration::ZERO,
        dispatched: Some(ms(intended_ms)),
        connect: None,
        written: None,
        headers: None,
        first_event: Some(token),
        first_token: Some(token),
        first_token_shared: false,
        first_content: Some(token),
        last_token: Some(token),
        finished: token,
        events: EventLog::of(&[OutputEvent {
            at: token,
            tokens: 1,
            shared: false,
        }]),
        outcome: Outcome::Ok,
        status: Some(200),
        finish_reason: Some("stop".into()),
        tokens: Tokens {
            input: Some(10),
            output: Some(1),
            source: TokenSource::Usage,
            per_event_known: true,
            ..Tokens::default()
        },
        bytes: 0,
        reused: false,
        reconnected: false,
        valid: None,
    }
}

pub(super) fn with_outcome(outcome: Outcome, record: RequestRecord) -> RequestRecord {
    RequestRecord { outcome, ..record }
}

/// A request without any token that ended with `outcome`.
pub(super) fn ended(
    outcome: Outcome,
    index: u64,
    intended_ms: u64,
    after_ms: u64,
) -> RequestRecord {
    RequestRecord {
        first_event: None,
        first_token: None,
        first_content: None,
        last_token: None,
        events: EventLog::default(),
        tokens: Tokens::default(),
        finish_reason: None,
        outcome,
        ..answered(index, intended_ms, after_ms)
    }
}

pub(super) fn refused(status: u16, index: u64, intended_ms: u64) -> RequestRecord {
    ended(
        Outcome::Refused {
            status,
            body: String::new(),
            retry_after: None,
        },
        index,
        intended_ms,
        5,
    )
}

/// `n` answered requests, one each 100 ms, whose latencies are 1 ms, 2 ms, … `n` ms.
pub(super) fn ramp(n: u64) -> Vec<RequestRecord> {
    (0..n).map(|i| answered(i, i * 100, i + 1)).collect()
}

/// One open-loop stage `steady` that lasted `seconds`.
pub(super) fn seen(records: Vec<RequestRecord>, seconds: u64) -> Observations {
    let (began, ended) = (ms(0), ms(seconds * 1000));
    Observations {
        stages: vec![StageTimes {
            stage: 0,
            began,
            ended,
            steady: Some((began, ended)),
            busiest: None,
        }],
        records,
        ..Observations::default()
    }
}

pub(super) fn series(metric: &str, device: Option<u32>, samples: &[(u64, f64)]) -> Series {
    Series {
        metric: metric.into(),
        device,
        samples: samples
            .iter()
            .map(|(at, value)| (ms(*at), *value))
            .collect(),
    }
}

pub(super) fn open_cell() -> Cell {
    let curve = ArrivalCurve {
        process: Process::Poisson,
        pieces: Vec::new(),
    };
    cell(
        "vllm",
        Schedule::Open {
            curve,
            max_in_flight: 4096,
            on_full: OnFull::Queue,
        },
        None,
    )
}

/// A level of `users` users.
pub(super) fn closed_cell(users: u32) -> Cell {
    let piece = UserPiece {
        stage: 0,
        from: users,
        to: users,
        extent: UserExtent::For(Duration::from_secs(10)),
    };
    let schedule = Schedule::Closed {
        users: UserCurve {
            pieces: vec![piece],
        },
        think: Distribution::Fixed(0.0),
        ramp_down: RampDown::Finish,
    };
    cell("vllm", schedule, Some(users))
}

fn cell(backend: &str, schedule: Schedule, users: Option<u32>) -> Cell {
    let segment = Segment {
        stages: 0..1,
        schedule,
        cooldown: Duration::ZERO,
    };
    let stages = vec![plan::fixture::stage("steady", true, users)];
    plan::fixture::cell(
        [backend, "llama8b", "chat", "steady"],
        stages,
        vec![segment],
    )
}

pub(super) fn on_backend(backend: &str, cell: Cell) -> Cell {
    let own = Backend {
        id: backend.to_owned(),
        ..(*cell.backend).clone()
    };
    Cell {
        backend: Arc::new(own),
        ..cell
    }
}

/// A plan with these cells and one SLO over the stage `steady` of each cell, or, when backends are pinned, of those.
pub(super) fn plan(cells: Vec<Cell>, assertions: &[&str]) -> Plan {
    let slos = assertions
        .iter()
        .enumerate()
        .map(|(i, text)| slo(&cells, i, text))
        .collect();
    Plan {
        name: "test".to_owned(),
        description: None,
        owner: None,
        path: "test.yaml".to_owned(),
        secrets: Vec::new(),
        seed: 1,
        repeats: 1,
        digest: String::new(),
        cells,
        order: Vec::new(),
        slos,
        telemetry: TelemetryPlan {
            every: Duration::from_millis(250),
            engine: true,
        },
        between: Vec::new(),
        limits: RunLimits::default(),
        smoke: false,
        baseline: None,
        outputs: Vec::new(),
        plots: None,
        deselected: Vec::new(),
        skipped_slos: Vec::new(),
        fairness: plan::Fairness::Warn,
        notes: Vec::new(),
    }
}

fn slo(cells: &[Cell], index: usize, text: &str) -> Slo {
    let ids: Vec<(Dim, String)> = cells
        .iter()
        .map(|cell| (Dim::Backend, cell.backend.id.clone()))
        .collect();
    let span = Span {
        start: 0,
        end: text.len(),
        ..Span::default()
    };
    let (assertion, wrong) = parse(
        text,
        span,
        Context {
            ids: &ids,
            scoped_metric: None,
        },
    );
    let assertion = assertion.unwrap_or_else(|| panic!("{text}: {wrong:?}"));
    let over = |cell: usize| Scope {
        cells: vec![cell],
        stages: vec![0],
        ..Scope::default()
    };
    let instances = (0..cells.len())
        .filter(|cell| {
            *cell == 0
                || assertion
                    .measures()
                    .iter()
                    .any(|measure| measure.pins.is_empty())
        })
        .map(|cell| SloInstance {
            measures: assertion
                .measures()
                .iter()
                .map(|measure| match measure.pins.first() {
                    Some((_, id)) => over(
                        cells
                            .iter()
                            .position(|cell| cell.backend.id == *id)
                            .unwrap(),
                    ),
                    None => over(cell),
                })
                .collect(),
            assertion: assertion.clone(),
            text: text.to_owned(),
            override_index: None,
            span,
            scope: over(cell),
            labels: vec![
                ("backend", cells[cell].backend.id.clone()),
                ("stage", "steady".to_owned()),
            ],
        })
        .collect();
    Slo {
        id: format!("slo-{index}"),
        text: text.to_owned(),
        span,
        level: Level::Fail,
        abort: None,
        window: None,
        count: Count::All,
        clock: None,
        repeats_must: RepeatsMust::Median,
        confidence: None,
        separated: false,
        instances,
    }
}

/// The outcome of a cell in a repeat.
pub(super) fn ran(cell: usize, repeat: u32, seen: Observations) -> CellResult {
    CellResult::Measured(Arc::new(Observations {
        cell,
        repeat,
        ..seen
    }))
}
