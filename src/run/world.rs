//! Every outside thing that a run touches, in one struct.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::load::Capacity;
use crate::observation::{CellResult, DeviceFacts, EngineFacts, RequestRecord, Series};
use crate::plan::CellRun;
use crate::server::Environment;
use crate::units::Moment;

/// The outside world of a run.
pub struct World<'a> {
    /// Environment variables, for headers.
    pub environment: Environment<'a>,
    /// Ctrl-C.
    pub interrupt: Arc<Interrupt>,
    /// Who is told what happens, and may stop a cell.
    pub watcher: &'a mut dyn Watcher,
    /// What a load thread of this machine can take.
    pub capacity: Capacity,
    /// The file of this program, which guards the engines that it starts.
    pub program: std::path::PathBuf,
    /// The folder for the logs of engines.
    pub logs: std::path::PathBuf,
    /// A recording to play in place of GPUs, for tests and rehearsals.
    pub recorded_gpu: Option<std::path::PathBuf>,
}

/// Who is told what happens while it runs. Called from one thread, never from a load thread.
pub trait Watcher {
    /// A cell run begins; `position` is its place in the plan's order, from 0.
    fn cell_begins(&mut self, position: usize, run: CellRun);

    /// The backend of the cell is ready: what it said about itself, and the GPUs that are watched.
    fn cell_ready(&mut self, _: CellRun, _: &EngineFacts, _: &[DeviceFacts]) {}

    /// Something that a person who watches should know now.
    fn note(&mut self, text: &str);

    /// Requests have ended.
    fn records(&mut self, run: CellRun, records: &[RequestRecord]);

    /// How things stand; about ten times a second.
    fn tick(&mut self, run: CellRun, snapshot: &Snapshot);

    /// Whether samples are asked for while a cell runs; its observations have them all when it is over.
    fn wants_samples(&self) -> bool {
        false
    }

    /// About once a second, where they are wanted: the samples that are new.
    fn samples(&mut self, _: CellRun, _: Vec<Series>) {}

    /// Once a second, with every record of the cell so far: the id of an SLO whose abort rule stops the cell.
    fn abort(
        &mut self,
        run: CellRun,
        records: &[RequestRecord],
        snapshot: &Snapshot,
    ) -> Option<String>;

    /// Of a cell with a search, before each of its levels: the stage that comes next, after what was seen so far; `None` ends it.
    fn search(&mut self, _so_far: &CellResult) -> Option<usize> {
        None
    }

    /// A cell run is over.
    fn cell_ended(&mut self, result: &CellResult);

    /// Everything that is over, after each cell run: what survives whatever comes after.
    fn so_far(&mut self, results: &[CellResult]);
}

/// How a cell stands.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The present instant on the cell's clock.
    pub now: Moment,
    /// Index of the stage that sends.
    pub stage: usize,
    /// When that stage began.
    pub stage_began: Moment,
    /// Requests sent in that stage.
    pub sent: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// GPU utilization, 0 to 1.
    pub gpu_util: Option<f64>,
    /// GPU power in watts.
    pub gpu_power: Option<f64>,
}

/// Counts the signals that ask the run to stop.
#[derive(Debug, Default)]
pub struct Interrupt {
    count: AtomicU8,
    /// Number of the first signal.
    signal: AtomicU32,
    changed: Condvar,
    guard: Mutex<()>,
}

impl Interrupt {
    /// One more signal.
    pub fn raise(&self, signal: u32) {
        let _guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if self.count.fetch_add(1, Ordering::AcqRel) == 0 {
            self.signal.store(signal, Ordering::Release);
        }
        self.changed.notify_all();
    }

    /// How many signals came.
    pub fn count(&self) -> u8 {
        self.count.load(Ordering::Acquire)
    }

    /// The number of the first signal, if one came.
    pub fn signal(&self) -> Option<u32> {
        (self.count() > 0).then(|| self.signal.load(Ordering::Acquire))
    }

    /// Waits for `duration`, or until a signal comes.
    pub fn wait(&self, duration: Duration) {
        let deadline = Instant::now() + duration;
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        while self.count() == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            guard = self
                .changed
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
