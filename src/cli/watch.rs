//! Listens to a run: shows progress, writes each request as it ends, keeps the report of what is finished up to date.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Stderr;
use std::time::{Duration, Instant};

use super::results::Results;
use crate::live::Feed;
use crate::observation::{CellResult, DeviceFacts, EngineFacts, Outcome, RequestRecord, Series};
use crate::plan::{CellRun, Planned, StartClock};
use crate::report::kept::Keeper;
use crate::report::ndjson::RequestSink;
use crate::report::progress::{Progress, ProgressUpdate};
use crate::report::{self, Frame, Known, RunEnding, View};
use crate::run::{Snapshot, Watcher};
use crate::secret::Masked;
use crate::units::Moment;
use crate::verdict;

/// Recent requests that the live view tells of.
const RECENT: Duration = Duration::from_secs(10);

/// The listener.
pub(super) struct Watch<'a> {
    frame: &'a Frame,
    began: Instant,
    progress: Progress<Masked<Stderr>>,
    requests: RequestSink,
    keeper: Keeper<File>,
    results: &'a Results,
    view: View,
    /// Who serves the run while it goes on.
    live: Option<Feed>,
    position: usize,
    recent: VecDeque<Seen>,
    /// The stage that is shown.
    stage: usize,
    /// What had been sent in it, and when.
    sent: VecDeque<(Moment, u64)>,
    /// Answered and failed requests of each stage of the cell.
    ended: BTreeMap<usize, (u64, u64)>,
    known: Known,
    /// What could not be written; told once at the end.
    pub(super) trouble: Option<anyhow::Error>,
}

/// What the live view keeps of a request.
struct Seen {
    at: Moment,
    stage: usize,
    ttft_ms: Option<f64>,
    lag_ms: f64,
}

impl<'a> Watch<'a> {
    /// A listener that writes requests to `requests` and partial reports to `results`.
    pub(super) fn new(
        frame: &'a Frame,
        progress: Progress<Masked<Stderr>>,
        requests: RequestSink,
        keeper: Keeper<File>,
        results: &'a Results,
        view: View,
        live: Option<Feed>,
    ) -> Watch<'a> {
        Watch {
            frame,
            began: Instant::now(),
            progress,
            requests,
            keeper,
            results,
            view,
            live,
            position: 0,
            recent: VecDeque::new(),
            stage: 0,
            sent: VecDeque::new(),
            ended: BTreeMap::new(),
            known: Known::against(super::baseline::of(&frame.plan)),
            trouble: None,
        }
    }

    /// Ends the live view: what is known of the runs, and what could not be written.
    pub(super) fn finish(mut self) -> (Known, Option<anyhow::Error>) {
        self.progress.finish();
        (self.known, self.trouble)
    }

    /// Sends per second over the last seconds of the stage that sends.
    fn rate(&mut self, snapshot: &Snapshot) -> f64 {
        if self.stage != snapshot.stage || self.sent.is_empty() {
            self.stage = snapshot.stage;
            self.sent.clear();
            self.sent.push_back((snapshot.stage_began, 0));
        }
        self.sent.push_back((snapshot.now, snapshot.sent));
        while self.sent.len() > 2 && snapshot.now.since(self.sent[0].0) > RECENT {
            self.sent.pop_front();
        }
        let (from, before) = self.sent[0];
        let seconds = snapshot.now.since(from).as_secs_f64();
        snapshot.sent.saturating_sub(before) as f64 / seconds.max(0.1)
    }

    fn percentile(&self, value: impl Fn(&Seen) -> Option<f64>) -> Option<f64> {
        let own = self.recent.iter().filter(|seen| seen.stage == self.stage);
        let mut values: Vec<f64> = own.filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        let rank = (values.len() * 95).div_ceil(100);
        values.get(rank.checked_sub(1)?).copied()
    }
}

impl Watcher for Watch<'_> {
    fn cell_begins(&mut self, position: usize, run: CellRun) {
        if let Some(live) = &self.live {
            live.cell_begins(run);
        }
        self.position = position;
        self.recent.clear();
        self.sent.clear();
        self.ended.clear();
    }

    fn cell_ready(&mut self, _: CellRun, engine: &EngineFacts, devices: &[DeviceFacts]) {
        if let Some(live) = &self.live {
            live.cell_ready(engine, devices);
        }
    }

    fn wants_samples(&self) -> bool {
        self.live.is_some()
    }

    fn samples(&mut self, _: CellRun, series: Vec<Series>) {
        if let Some(live) = &self.live {
            live.samples(series);
        }
    }

    fn note(&mut self, text: &str) {
        let _ = self.progress.message(text);
    }

    fn records(&mut self, run: CellRun, records: &[RequestRecord]) {
        if let Some(live) = &self.live {
            live.records(records);
        }
        let cell = &self.frame.plan.cells[run.cell];
        for record in records {
            self.requests.request(run, record);
            let (ok, failed) = self.ended.entry(record.stage).or_default();
            match &record.outcome {
                Outcome::Ok => *ok += 1,
                Outcome::Cut | Outcome::Dropped => {}
                _ => *failed += 1,
            }
            let clock = if report::is_open_loop(cell, record.stage) {
                StartClock::Intended
            } else {
                StartClock::Sent
            };
            let ttft = verdict::measure::value(record, "ttft", clock).map(|s| s * 1e3);
            let lag = record.dispatched.map_or(0.0, |sent| {
                sent.since(record.intended + record.cap_wait).as_secs_f64() * 1e3
            });
            self.recent.push_back(Seen {
                at: record.finished,
                stage: record.stage,
                ttft_ms: ttft,
                lag_ms: lag,
            });
        }
    }

    fn tick(&mut self, run: CellRun, snapshot: &Snapshot) {
        while self
            .recent
            .front()
            .is_some_and(|seen| snapshot.now.since(seen.at) > RECENT)
        {
            self.recent.pop_front();
        }
        let rate = self.rate(snapshot);
        let (ok, failed) = self.ended.get(&snapshot.stage).copied().unwrap_or_default();
        let cell = &self.frame.plan.cells[run.cell];
        let stage = &cell.stages[snapshot.stage];
        let known = |planned: Planned| match planned {
            Planned::Exact(value) | Planned::Estimate(value) => Some(value),
            Planned::Unknown => None,
        };
        // What is planned of conversations are whole ones.
        let turns = cell.dialogue.map_or(1.0, |dialogue| dialogue.turns);
        let elapsed = snapshot.now.since(snapshot.stage_began).as_secs_f64();
        let update = ProgressUpdate {
            cell_number: self.position as u32 + 1,
            cells: self.frame.plan.order.len() as u32,
            cell: cell.id.clone(),
            repeat: run.repeat,
            stage: stage.name.clone(),
            elapsed_s: elapsed,
            planned_s: known(stage.expected),
            planned_requests: known(stage.requests).map(|requests| (requests * turns) as u64),
            sent: snapshot.sent,
            in_flight: snapshot.in_flight,
            ok,
            failed,
            ttft_p95_ms: self.percentile(|seen| seen.ttft_ms),
            rate,
            gpu_util: snapshot.gpu_util,
            gpu_power: snapshot.gpu_power,
            client_lag_ms: self.percentile(|seen| Some(seen.lag_ms)),
            slos: Vec::new(),
        };
        // A terminal that is gone ends no run.
        let _ = self.progress.update(self.began.elapsed(), &update);
        if let Some(live) = &self.live {
            live.tick(snapshot, update);
        }
    }

    fn abort(
        &mut self,
        run: CellRun,
        records: &[RequestRecord],
        snapshot: &Snapshot,
    ) -> Option<String> {
        let progress = verdict::Progress {
            cell: run.cell,
            stage: snapshot.stage,
            stage_began: snapshot.stage_began,
            in_flight: snapshot.in_flight,
            now: snapshot.now,
        };
        verdict::abort(&self.frame.plan, progress, records)
    }

    fn search(&mut self, so_far: &CellResult) -> Option<usize> {
        self.known.search(&self.frame.plan, so_far)
    }

    fn cell_ended(&mut self, result: &CellResult) {
        self.requests.flush();
        if let CellResult::NotRun(run, why) = result {
            let text = format!(
                "{}: not run: {}",
                self.frame.plan.cells[run.cell].id,
                why.text()
            );
            let _ = self.progress.message(&text);
        }
    }

    fn so_far(&mut self, seen: &[CellResult]) {
        if let Some(result) = seen.last() {
            if let Some(live) = &self.live {
                live.cell_ended(result);
            }
            if let Err(error) = self.keeper.keep(&self.frame.plan, result) {
                let error = anyhow::Error::new(error);
                let error = error.context("cannot keep what was seen");
                self.trouble.get_or_insert(error);
            }
        }
        let plan = &self.frame.plan;
        let unfinished = seen.len() < plan.order.len();
        // The end of an engine takes its time, in which this program may be killed.
        let is_to_be_taken_down = seen.last().is_some_and(|result| {
            let backend = &plan.cells[result.run().cell].backend;
            backend.launch.is_some() || !backend.down.is_empty()
        });
        if unfinished || is_to_be_taken_down {
            let report = self.frame.report(
                seen,
                &mut self.known,
                RunEnding {
                    interrupted: Some(130),
                    ..RunEnding::default()
                },
                self.began.elapsed(),
            );
            if let Err(error) = self.results.write(&report, &self.view) {
                self.trouble.get_or_insert(error);
            }
        }
    }
}
