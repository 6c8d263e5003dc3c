//! What a number is taken from: one run of one cell, one stage, perhaps one window, category, turn or GPU of it.

use std::sync::OnceLock;
use std::time::Duration;

use super::measure::BothGaps;

use crate::observation::{Ending, Observations, Outcome, RequestRecord, Series, StageTimes};
use crate::plan::{Cell, Gpus, Schedule, Scope, StartClock};
use crate::units::Moment;

/// The requests of one run of one cell in the orders in which numbers ask for them, sorted once for all numbers.
#[derive(Debug, Default)]
pub struct Sorted<'a> {
    /// Measured requests of each stage in the order in which they were intended.
    stages: Vec<Vec<&'a RequestRecord>>,
    /// All requests in the order of their ends, if they came so.
    by_end: Option<&'a [RequestRecord]>,
    /// The longest time from sending to the end.
    longest: Duration,
    /// The gaps of each whole stage, where somebody has collected them.
    gaps: Vec<OnceLock<BothGaps>>,
}

impl<'a> Sorted<'a> {
    /// Of all requests that were seen.
    pub fn of(seen: &'a Observations) -> Sorted<'a> {
        let records = seen.records.as_slice();
        let measured = records.iter().filter(|record| record.measured);
        let mut stages: Vec<Vec<&RequestRecord>> = Vec::new();
        for record in measured {
            if stages.len() <= record.stage {
                stages.resize_with(record.stage + 1, Vec::new);
            }
            stages[record.stage].push(record);
        }
        for stage in &mut stages {
            // They lie in the order of their ends, which is nearly that of their beginnings.
            stage.sort_by_key(|record| record.intended);
        }
        let longest = records
            .iter()
            .filter_map(|record| Some(record.finished.since(record.dispatched?)))
            .max();
        Sorted {
            gaps: stages.iter().map(|_| OnceLock::new()).collect(),
            stages,
            by_end: records
                .is_sorted_by_key(|record| record.finished)
                .then_some(records),
            longest: longest.unwrap_or_default(),
        }
    }

    /// Only these measured requests of one stage, in the order in which they were intended.
    pub(super) fn only(&self, stage: usize, records: Vec<&'a RequestRecord>) -> Sorted<'a> {
        let mut stages = Vec::new();
        stages.resize_with(stage, Vec::new);
        stages.push(records);
        Sorted {
            gaps: stages.iter().map(|_| OnceLock::new()).collect(),
            stages,
            ..*self
        }
    }

    /// Keeps the gaps of a whole stage for those who ask later.
    pub(super) fn tell_gaps(&self, stage: usize, gaps: BothGaps) {
        if let Some(cell) = self.gaps.get(stage) {
            // Whoever was first has told the same.
            let _ = cell.set(gaps);
        }
    }

    fn scheduled(&self, stage: usize, part: Option<(Moment, Moment)>) -> &[&'a RequestRecord] {
        let all = self.stages.get(stage).map_or(&[][..], Vec::as_slice);
        let Some((from, to)) = part else { return all };
        let first = all.partition_point(|record| record.intended < from);
        let end = all.partition_point(|record| record.intended < to);
        &all[first..end.max(first)]
    }

    fn reaching(&self, from: Moment, to: Moment) -> Option<&'a [RequestRecord]> {
        let records = self.by_end?;
        let first = records.partition_point(|record| record.finished < from);
        let end = records.partition_point(|record| record.finished <= to + self.longest);
        Some(&records[first..end.max(first)])
    }
}

/// A part of what one run of one cell has shown.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// What was seen.
    pub seen: &'a Observations,
    /// Index of the stage.
    pub stage: usize,
    /// Only requests intended and flows seen in this part of the stage, for tumbling and trailing windows.
    pub part: Option<(Moment, Moment)>,
    /// Only these categories; empty: all.
    pub categories: &'a [String],
    /// Only these turns, as inclusive ranges; empty: all.
    pub turns: &'a [(u32, u32)],
    /// Only this GPU.
    pub gpu: Option<u32>,
    /// Without answers of status 429, to tell whether they alone break a bound.
    pub without_rate_limited: bool,
    /// The requests in order; without it each number looks at all of them.
    pub sorted: Option<&'a Sorted<'a>>,
}

impl<'a> Slice<'a> {
    /// A whole stage.
    pub fn stage(cell: &'a Cell, seen: &'a Observations, stage: usize) -> Slice<'a> {
        Slice {
            cell,
            seen,
            stage,
            part: None,
            categories: &[],
            turns: &[],
            gpu: None,
            without_rate_limited: false,
            sorted: None,
        }
    }

    /// The same with its requests sorted.
    pub fn sorted(self, sorted: &'a Sorted<'a>) -> Slice<'a> {
        Slice {
            sorted: Some(sorted),
            ..self
        }
    }

    /// The same with the categories, turns and GPU of a scope.
    pub fn narrowed(self, scope: &'a Scope) -> Slice<'a> {
        Slice {
            categories: &scope.categories,
            turns: &scope.turns,
            gpu: scope.gpu,
            ..self
        }
    }

    /// When the stage was; `None` if it never began.
    pub fn times(&self) -> Option<&'a StageTimes> {
        self.seen
            .stages
            .iter()
            .find(|times| times.stage == self.stage)
    }

    /// How its cell ended, as far as that says something of this stage: levels of a search stand each for itself, so that what
    /// ended the last one takes nothing from those before it.
    pub fn ending(&self) -> &'a Ending {
        let last = self.seen.stages.last();
        match &self.cell.search {
            Some(_) if last.is_some_and(|last| last.stage != self.stage) => &Ending::Complete,
            _ => &self.seen.ending,
        }
    }

    /// The share of its core that the busiest load thread used. A thread that is full at one level is not at the others: over the
    /// whole cell, which is all that early runs have kept, it would not be seen.
    pub fn busiest(&self) -> Option<f64> {
        let own = self.times().and_then(|times| times.busiest);
        let whole = self.seen.client.worker_cpu.iter().copied();
        own.or_else(|| whole.reduce(f64::max))
    }

    /// When its requests leave.
    pub fn schedule(&self) -> Option<&'a Schedule> {
        schedule(self.cell, self.stage)
    }

    /// Whether users wait for their answers.
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.schedule(), Some(Schedule::Closed { .. }))
    }

    /// Where latencies start when nothing says otherwise.
    pub fn default_clock(&self) -> StartClock {
        match self.schedule() {
            Some(Schedule::Open { .. }) => StartClock::Intended,
            Some(Schedule::Closed { .. } | Schedule::Batch { .. }) | None => StartClock::Sent,
        }
    }

    /// The window of flows and gauges: the steady window, or the part; `None` if the level was never reached.
    pub fn window(&self) -> Option<(Moment, Moment)> {
        self.part.or_else(|| self.times()?.steady)
    }

    /// The length of the window in seconds, if it has one.
    pub fn window_seconds(&self) -> Option<f64> {
        let (from, to) = self.window()?;
        let seconds = to.since(from).as_nanos() as f64 / 1e9;
        (seconds > 0.0).then_some(seconds)
    }

    /// Every measured request of the stage: what rates and counters are of. A failure outside the steady window counts, too.
    pub fn scheduled(&self) -> impl Iterator<Item = &'a RequestRecord> + use<'a> {
        let slice = *self;
        let (sorted, unsorted) = match slice.sorted {
            Some(sorted) => (sorted.scheduled(slice.stage, slice.part), &[][..]),
            None => (&[][..], slice.seen.records.as_slice()),
        };
        let own = move |record: &&RequestRecord| record.measured && record.stage == slice.stage;
        sorted
            .iter()
            .copied()
            .chain(unsorted.iter().filter(own))
            .filter(move |record| slice.admits(record) && slice.in_part(record))
    }

    /// The requests that latencies are of: in closed loop those intended in the steady window.
    pub fn timed(&self) -> impl Iterator<Item = &'a RequestRecord> + use<'a> {
        let steady = if self.is_closed_loop() && self.part.is_none() {
            self.times().and_then(|times| times.steady)
        } else {
            None
        };
        self.scheduled().filter(move |record| {
            steady.is_none_or(|(from, to)| from <= record.intended && record.intended <= to)
        })
    }

    /// Requests of any stage, measured or not: what flows are of.
    pub fn all(&self) -> impl Iterator<Item = &'a RequestRecord> + use<'a> {
        self.reaching(Moment::ZERO, Moment::MAX)
    }

    /// Those of [`Slice::all`] that may have been under way between two instants.
    pub fn reaching(
        &self,
        from: Moment,
        to: Moment,
    ) -> impl Iterator<Item = &'a RequestRecord> + use<'a> {
        let slice = *self;
        let near = slice.sorted.and_then(|sorted| sorted.reaching(from, to));
        near.unwrap_or(&slice.seen.records)
            .iter()
            .filter(move |record| slice.admits(record))
    }

    /// The gaps of the whole stage, if this is all of it and somebody has collected them.
    pub(super) fn gaps(&self) -> Option<&'a BothGaps> {
        let is_whole = self.part.is_none()
            && self.categories.is_empty()
            && self.turns.is_empty()
            && !self.without_rate_limited;
        self.sorted?
            .gaps
            .get(self.stage)
            .filter(|_| is_whole)?
            .get()
    }

    fn admits(&self, record: &RequestRecord) -> bool {
        let category = self.categories.is_empty()
            || record
                .category
                .as_ref()
                .is_some_and(|own| self.categories.iter().any(|c| **c == **own));
        let turn = self.turns.is_empty()
            || self
                .turns
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&record.turn));
        let limited = self.without_rate_limited
            && matches!(record.outcome, Outcome::Refused { status: 429, .. });
        category && turn && !limited
    }

    fn in_part(&self, record: &RequestRecord) -> bool {
        self.part
            .is_none_or(|(from, to)| from <= record.intended && record.intended < to)
    }

    /// The series of a metric, of the chosen GPU if one is chosen.
    pub fn series(&self, metric: &str) -> Vec<&'a Series> {
        self.seen
            .telemetry
            .iter()
            .filter(|series| &*series.metric == metric && !series.samples.is_empty())
            .filter(|series| self.gpu.is_none() || series.device == self.gpu)
            .collect()
    }

    /// The GPUs that were sampled, in order.
    pub fn devices(&self) -> Vec<u32> {
        let mut devices: Vec<u32> = self
            .seen
            .telemetry
            .iter()
            .filter(|series| series.metric.starts_with("gpu."))
            .filter_map(|series| series.device)
            .collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// Whether nothing says how the GPUs of this backend do: none are read, or none are known.
    pub fn has_no_gpu_source(&self) -> bool {
        match self.cell.backend.gpus {
            Gpus::Off => true,
            Gpus::Auto => {
                let told = |series: &Series| series.metric.starts_with("gpu.");
                self.seen.devices.is_empty() && !self.seen.telemetry.iter().any(told)
            }
            Gpus::Nvml(_) | Gpus::Dcgm { .. } => false,
        }
    }
}

/// When the requests of a stage leave.
pub fn schedule(cell: &Cell, stage: usize) -> Option<&Schedule> {
    cell.segments
        .iter()
        .find(|segment| segment.stages.contains(&stage))
        .map(|segment| &segment.schedule)
}
