//! What is known of a run that goes on, and the page that tells it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::metrics::Metrics;
use crate::observation::{
    CellResult, DeviceFacts, EngineFacts, Observations, RequestRecord, Series, StageTimes,
};
use crate::plan::CellRun;
use crate::report::charts::{self, Charts};
use crate::report::progress::{self, ProgressUpdate};
use crate::report::{Frame, Known, Report, html};
use crate::run::Snapshot;
use crate::units::Moment;
use crate::verdict::Baseline;

/// Passes on what happens. Cheap to clone; nothing waits on it.
#[derive(Clone, Debug)]
pub struct Feed(pub(super) UnboundedSender<News>);

/// What happens in a run.
#[derive(Debug)]
pub(super) enum News {
    Begins(Box<(Frame, Option<Baseline>)>),
    CellBegins(CellRun),
    CellReady(Box<(EngineFacts, Vec<DeviceFacts>)>),
    Records(Vec<RequestRecord>),
    Samples(Vec<Series>),
    Tick(Box<(Snapshot, ProgressUpdate)>),
    CellEnded(CellResult),
    Ended(Box<(Report, Charts)>),
    /// No run comes after: the last page goes out, and the server ends.
    Leaves,
}

impl Feed {
    fn tell(&self, news: News) {
        // A server that is gone ends no run.
        let _ = self.0.send(news);
    }

    /// A run begins.
    pub fn begins(&self, frame: Frame, baseline: Option<Baseline>) {
        self.tell(News::Begins(Box::new((frame, baseline))));
    }

    /// A run of a cell begins.
    pub fn cell_begins(&self, run: CellRun) {
        self.tell(News::CellBegins(run));
    }

    /// Its engine is ready.
    pub fn cell_ready(&self, engine: &EngineFacts, devices: &[DeviceFacts]) {
        self.tell(News::CellReady(Box::new((
            engine.clone(),
            devices.to_vec(),
        ))));
    }

    /// Requests have ended.
    pub fn records(&self, records: &[RequestRecord]) {
        self.tell(News::Records(records.to_vec()));
    }

    /// New samples.
    pub fn samples(&self, series: Vec<Series>) {
        self.tell(News::Samples(series));
    }

    /// How things stand.
    pub fn tick(&self, snapshot: &Snapshot, update: ProgressUpdate) {
        self.tell(News::Tick(Box::new((snapshot.clone(), update))));
    }

    /// A run of a cell is over.
    pub fn cell_ended(&self, result: &CellResult) {
        self.tell(News::CellEnded(result.clone()));
    }

    /// The run is over, and this is its report.
    pub fn ended(&self, report: &Report, charts: &Charts) {
        self.tell(News::Ended(Box::new((report.clone(), charts.clone()))));
    }
}

/// A page is made anew no sooner than this after the one before it.
const PAGE_EVERY: Duration = Duration::from_secs(1);
/// And its making takes at most this part of the time.
const SHARE: u32 = 20;

/// The story so far.
#[derive(Default)]
pub(super) struct Story {
    run: Option<Run>,
    metrics: Metrics,
    /// One line about the present instant.
    line: String,
    page: Option<Page>,
    pages: u64,
    /// Something has happened since the page was made.
    changed: bool,
    /// Set with the last page of the last run.
    over: bool,
}

/// One run of a plan.
struct Run {
    frame: Frame,
    began: Instant,
    known: Known,
    results: Vec<CellResult>,
    running: Option<Running>,
    ended: Option<(Report, Charts)>,
}

/// The run of a cell that goes on. Its observations are lent to the judging, and come back.
struct Running {
    seen: Observations,
    /// All users of the stage have been seen at work.
    full: bool,
    /// Requests in flight at each tick.
    in_flight: Series,
    /// The longest that a request took, in seconds.
    longest: f64,
}

/// A page that was made.
struct Page {
    number: u64,
    /// Without the library and the scripts, which a browser has already.
    bare: Arc<str>,
    whole: Arc<str>,
    made: Instant,
    took: Duration,
}

impl Story {
    /// Takes in what has happened.
    pub(super) fn hear(&mut self, news: News) {
        self.metrics.hear(&news);
        self.changed |= !matches!(news, News::Leaves);
        match news {
            News::Begins(begins) => {
                let (frame, baseline) = *begins;
                self.line = "about to begin".to_owned();
                self.run = Some(Run {
                    frame,
                    began: Instant::now(),
                    known: Known::against(baseline),
                    results: Vec::new(),
                    running: None,
                    ended: None,
                });
            }
            News::Leaves => self.over = true,
            News::Tick(tick) => {
                self.line = progress::said(&tick.1).join(" · ");
                if let Some(run) = &mut self.run
                    && let Some(running) = &mut run.running
                {
                    let cell = &run.frame.plan.cells[running.seen.cell];
                    running.tick(&tick.0, cell.stages[tick.0.stage].users);
                }
            }
            News::CellBegins(run) => {
                if let Some(of) = &mut self.run {
                    of.running = Some(Running::new(run));
                    let cell = &of.frame.plan.cells[run.cell];
                    self.line = format!("{}: waiting for its backend", cell.id);
                }
            }
            News::CellReady(facts) => {
                if let Some(running) = self.running() {
                    (running.seen.engine, running.seen.devices) = *facts;
                }
            }
            News::Records(records) => {
                if let Some(running) = self.running() {
                    running.records(records);
                }
            }
            News::Samples(series) => {
                if let Some(running) = self.running() {
                    running.samples(series);
                }
            }
            News::CellEnded(result) => {
                if let Some(run) = &mut self.run {
                    run.running = None;
                    run.results.push(result);
                }
            }
            News::Ended(last) => {
                self.line = "the run is over".to_owned();
                if let Some(run) = &mut self.run {
                    // What was seen is on the page; the memory is needed no more.
                    (run.running, run.results) = (None, Vec::new());
                    run.ended = Some(*last);
                }
            }
        }
    }

    fn running(&mut self) -> Option<&mut Running> {
        self.run.as_mut()?.running.as_mut()
    }

    /// Whether no more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// One line about the present instant.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// The numbers for Prometheus; how the SLOs stand is as old as the page.
    pub(super) fn metrics(&mut self) -> String {
        self.make_page();
        self.metrics.render()
    }

    /// The page with its number, whole or without what a browser has already; `None` before the first run has begun.
    pub(super) fn page(&mut self, bare: bool) -> Option<(u64, Arc<str>)> {
        self.make_page();
        let page = self.page.as_ref()?;
        let text = if bare { &page.bare } else { &page.whole };
        Some((page.number, text.clone()))
    }

    /// Makes the page anew when something has happened, and there was a pause.
    fn make_page(&mut self) {
        let ended = self.run.as_ref().is_some_and(|run| run.ended.is_some());
        let rested = self
            .page
            .as_ref()
            .is_none_or(|page| ended || page.made.elapsed() >= PAGE_EVERY.max(page.took * SHARE));
        let Some(run) = self.run.as_mut().filter(|_| self.changed && rested) else {
            return;
        };
        let began = Instant::now();
        let live = (!ended).then(|| html::Live {
            line: self.line.clone(),
            stage: run.running.as_ref().and_then(|running| {
                let cell = &run.frame.plan.cells[running.seen.cell];
                let stage = running.seen.stages.last()?.stage;
                Some((cell.id.clone(), cell.stages[stage].name.clone()))
            }),
        });
        let so_far;
        let (report, charts) = match &run.ended {
            Some((report, charts)) => (report, charts),
            None => {
                so_far = run.so_far();
                (&so_far.0, &so_far.1)
            }
        };
        self.metrics.judged(report);
        self.pages += 1;
        self.page = Some(Page {
            number: self.pages,
            bare: html::render_live(report, charts, live.as_ref(), html::Parts::Bare).into(),
            whole: html::render_live(report, charts, live.as_ref(), html::Parts::Whole).into(),
            made: Instant::now(),
            took: began.elapsed(),
        });
        self.changed = false;
    }
}

impl Run {
    /// The report of what has been seen, that of the running cell with it.
    fn so_far(&mut self) -> (Report, Charts) {
        if let Some(running) = &mut self.running {
            let seen = std::mem::take(&mut running.seen);
            self.results.push(CellResult::Measured(Arc::new(seen)));
        }
        let duration = self.began.elapsed();
        let report = match self.running {
            Some(_) => self
                .frame
                .report_so_far(&self.results, &mut self.known, duration),
            None => {
                let ending = Default::default();
                self.frame
                    .report(&self.results, &mut self.known, ending, duration)
            }
        };
        let seen = self.results.iter().filter_map(CellResult::observations);
        let mut charts = charts::charts(&report, seen);
        if let Some(running) = &mut self.running
            && let Some(CellResult::Measured(seen)) = self.results.pop()
        {
            running.seen = Arc::unwrap_or_clone(seen);
            if let Some(own) = charts.runs.last_mut() {
                charts::leave_open(own, &running.in_flight, running.longest);
            }
        }
        (report, charts)
    }
}

impl Running {
    fn new(run: CellRun) -> Running {
        Running {
            seen: Observations {
                cell: run.cell,
                repeat: run.repeat,
                ..Observations::default()
            },
            full: false,
            in_flight: Series {
                metric: "in_flight".into(),
                device: None,
                samples: Vec::new(),
            },
            longest: 0.0,
        }
    }

    fn records(&mut self, records: Vec<RequestRecord>) {
        for record in &records {
            let took = record
                .finished
                .since(record.dispatched.unwrap_or(record.finished));
            self.longest = self.longest.max(took.as_secs_f64());
        }
        self.seen.records.extend(records);
    }

    /// Keeps the times of the stages: a closed loop is steady from the instant at which all its users are seen at work.
    fn tick(&mut self, snapshot: &Snapshot, users: Option<u32>) {
        let began = snapshot.stage_began;
        let in_flight = (snapshot.now, snapshot.in_flight as f64);
        self.in_flight.samples.push(in_flight);
        if self.seen.stages.last().map(|times| times.stage) != Some(snapshot.stage) {
            if let Some(before) = self.seen.stages.last_mut() {
                close(before, began);
            }
            self.full = false;
            self.seen.stages.push(StageTimes {
                stage: snapshot.stage,
                began,
                ended: snapshot.now,
                steady: users.is_none().then_some((began, snapshot.now)),
                busiest: None,
            });
        }
        if let Some(times) = self.seen.stages.last_mut() {
            close(times, snapshot.now);
            if !self.full && users.is_some_and(|users| snapshot.in_flight >= u64::from(users)) {
                self.full = true;
                times.steady = Some((snapshot.now, snapshot.now));
            }
        }
    }

    fn samples(&mut self, news: Vec<Series>) {
        for series in news {
            let same =
                |old: &&mut Series| (&old.metric, old.device) == (&series.metric, series.device);
            match self.seen.telemetry.iter_mut().find(same) {
                Some(old) => old.samples.extend(series.samples),
                None => self.seen.telemetry.push(series),
            }
        }
    }
}

/// A stage lasts until `now`.
fn close(times: &mut StageTimes, now: Moment) {
    times.ended = now;
    if let Some((_, until)) = &mut times.steady {
        *until = now;
    }
}
