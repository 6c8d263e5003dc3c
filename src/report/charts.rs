//! What there is to draw beyond the report: distributions, series over time, the slowest requests. Everything is brought down
//! to a size that does not grow with the run, and written as `charts.json`, so that pages and plots can be made again from it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::model::{Report, Stage};
use crate::assertion::{Dimension, find};
use crate::observation::{Observations, Outcome, RequestRecord, Series};
use crate::plan::StartClock;
use crate::units::Moment;
use crate::verdict::{gauge, measure};

/// The name and version of the format, the first key of the file.
pub const SCHEMA: &str = "scenario.charts/v1";

/// What can be drawn of one run of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charts {
    /// `scenario.charts/v1`.
    pub schema: String,
    /// Each run of each cell over time.
    pub runs: Vec<RunCharts>,
    /// Each measured stage, over all repeats.
    pub stages: Vec<StageCharts>,
}

/// One run of one cell over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCharts {
    /// The cell's id.
    pub cell: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Seconds between two points; the first is the interval from 0.
    pub every_s: f64,
    /// When each stage was.
    pub spans: Vec<StageSpan>,
    /// The series.
    pub timelines: Vec<Timeline>,
}

/// When a stage was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSpan {
    /// Its name.
    pub stage: String,
    /// Whether it is measured.
    pub measured: bool,
    /// From when, in seconds since the cell began.
    pub from_s: f64,
    /// Until when.
    pub to_s: f64,
}

/// One quantity over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The metric's name.
    pub metric: String,
    /// The GPU, for quantities that each has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// `p50` or `p95`, where it is a statistic of requests and not a mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<String>,
    /// The unit; shares are fractions with an empty unit.
    pub unit: String,
    /// The mean of each interval, or that statistic of the requests that were planned in it; `null` where nothing was seen.
    pub values: Vec<Option<f64>>,
}

/// One measured stage of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCharts {
    /// The cell's id.
    pub cell: String,
    /// The stage's name.
    pub stage: String,
    /// How the values of its requests are distributed.
    pub distributions: Vec<Distribution>,
    /// Its slowest requests, the slowest first.
    pub slowest: Vec<SlowRequest>,
}

/// How the values of a metric are distributed over answered requests, or over gaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The metric's name.
    pub metric: String,
    /// The unit.
    pub unit: String,
    /// Values.
    pub n: u64,
    /// The quantiles of equal steps from the smallest value to the largest, by nearest rank: [`STEPS`], or as many as there are
    /// values.
    pub quantiles: Vec<f64>,
    /// Where the first bar of the histogram begins.
    pub from: f64,
    /// How wide a bar is.
    pub width: f64,
    /// Values in each bar.
    pub counts: Vec<u64>,
    /// Values above the last bar.
    pub above: u64,
}

/// One request of a waterfall. Times are milliseconds since the cell began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowRequest {
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Its index in the stage.
    pub index: u64,
    /// Its prompt.
    pub prompt: String,
    /// How it ended.
    pub outcome: String,
    /// When the plan says that it leaves.
    pub intended_ms: f64,
    /// When it was released.
    pub dispatched_ms: f64,
    /// When the first generated output arrived.
    pub first_token_ms: Option<f64>,
    /// When the last generated output arrived.
    pub last_token_ms: Option<f64>,
    /// When it ended.
    pub finished_ms: f64,
    /// Prompt tokens.
    pub input_tokens: Option<u32>,
    /// Generated tokens.
    pub output_tokens: Option<u32>,
}

/// The most steps between the smallest and the largest quantile of a [`Distribution`].
pub const STEPS: usize = 200;
/// Bars of a histogram.
const BARS: usize = 30;
/// The histogram reaches to this quantile; a few stragglers would squeeze everything else into one bar.
const HISTOGRAM_TO: f64 = 0.99;
/// Points of a timeline at most.
const POINTS: f64 = 300.0;
/// Slowest requests that are kept of each stage.
const SLOWEST: usize = 12;

impl Charts {
    /// Of a run that was saved without what charts are drawn from.
    pub fn none() -> Charts {
        Charts {
            schema: SCHEMA.to_owned(),
            runs: Vec::new(),
            stages: Vec::new(),
        }
    }
}

/// What can be drawn of these runs of the cells of a report.
pub fn charts<'a>(
    report: &Report,
    seen: impl IntoIterator<Item = &'a Observations> + Clone,
) -> Charts {
    let runs = seen
        .clone()
        .into_iter()
        .map(|run| run_charts(report, run))
        .collect();
    let mut stages = Vec::new();
    for (at, cell) in report.cells.iter().enumerate() {
        let runs: Vec<&Observations> = seen.clone().into_iter().filter(|r| r.cell == at).collect();
        for (number, stage) in cell.stages.iter().enumerate() {
            if stage.measured && cell.was_asked(stage) && !runs.is_empty() {
                stages.push(stage_values(&cell.id, stage, number, &runs));
            }
        }
    }
    let edges = edges(&stages);
    let stages = stages.into_iter().map(|one| one.charts(&edges)).collect();
    Charts {
        schema: SCHEMA.to_owned(),
        runs,
        stages,
    }
}

/// Makes the charts of a run that goes on true at their end: requests in flight are those that were counted, and what is only
/// known of requests that have ended is left open for as long as the longest of them took.
pub fn leave_open(charts: &mut RunCharts, in_flight: &Series, longest: f64) {
    let points = charts.timelines.first().map_or(0, |line| line.values.len());
    let axis = Axis {
        every: charts.every_s,
        points: points.max(1),
    };
    let end = charts
        .spans
        .iter()
        .map(|span| span.to_s)
        .fold(0.0, f64::max);
    let known = ((end - longest).max(0.0) / axis.every) as usize;
    for line in &mut charts.timelines {
        match line.metric.as_str() {
            "in_flight" => line.values = sampled(in_flight, axis).values,
            "sent" | "output_tps" | "ttft" | "e2e" => {
                line.values.iter_mut().skip(known).for_each(|it| *it = None)
            }
            _ => {}
        }
    }
}

// ---- over time -------------------------------------------------------------------------------------------------------

fn run_charts(report: &Report, seen: &Observations) -> RunCharts {
    let cell = &report.cells[seen.cell];
    let end = seen
        .records
        .iter()
        .map(|record| record.finished)
        .chain(seen.stages.iter().map(|stage| stage.ended))
        .max()
        .unwrap_or_default();
    let axis = Axis::until(end.as_secs());
    let mut timelines = traffic(&seen.records, axis);
    timelines.extend(latencies(report, seen, axis));
    timelines.extend(
        seen.telemetry
            .iter()
            .filter(|series| is_level(&series.metric))
            .map(|series| sampled(series, axis))
            .filter(|line| line.values.iter().any(Option::is_some)),
    );
    RunCharts {
        cell: cell.id.clone(),
        repeat: seen.repeat,
        every_s: axis.every,
        spans: seen
            .stages
            .iter()
            .map(|times| StageSpan {
                stage: cell.stages[times.stage].name.clone(),
                measured: cell.stages[times.stage].measured,
                from_s: times.began.as_secs(),
                to_s: times.ended.as_secs(),
            })
            .collect(),
        timelines,
    }
}

/// Counters only grow, and say nothing as a level.
fn is_level(metric: &str) -> bool {
    find(metric).is_some_and(|metric| metric.kind == crate::assertion::Kind::Gauge)
}

/// Equal intervals of time from 0.
#[derive(Clone, Copy)]
struct Axis {
    every: f64,
    points: usize,
}

impl Axis {
    /// The shortest intervals of a readable length of which there are not too many.
    fn until(end: f64) -> Axis {
        let every = [
            0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        ]
        .into_iter()
        .find(|every| end / every <= POINTS)
        .unwrap_or((end / POINTS).ceil());
        Axis {
            every,
            points: (end / every).ceil().max(1.0) as usize,
        }
    }

    fn at(self, moment: Moment) -> usize {
        ((moment.as_secs() / self.every) as usize).min(self.points - 1)
    }
}

/// Requests in flight, and what is sent, answered and generated per second.
fn traffic(records: &[RequestRecord], axis: Axis) -> Vec<Timeline> {
    let zeros = || vec![0.0; axis.points];
    let [mut in_flight, mut sent, mut done, mut failed, mut tokens] =
        std::array::from_fn(|_| zeros());
    for record in records {
        let Some(from) = record.dispatched else {
            continue;
        };
        sent[axis.at(from)] += 1.0;
        match &record.outcome {
            Outcome::Ok => done[axis.at(record.finished)] += 1.0,
            outcome if outcome.is_failure() => failed[axis.at(record.finished)] += 1.0,
            _ => {}
        }
        spread(&mut in_flight, axis, from, record.finished);
        for event in record.events.iter() {
            tokens[axis.at(event.at)] += f64::from(event.tokens);
        }
    }
    let line = |metric: &str, unit: &str, values: Vec<f64>| Timeline {
        metric: metric.to_owned(),
        device: None,
        stat: None,
        unit: unit.to_owned(),
        values: values
            .into_iter()
            .map(|value| Some(short(value / axis.every)))
            .collect(),
    };
    vec![
        line("in_flight", "req", in_flight),
        line("sent", "req/s", sent),
        line("answered", "req/s", done),
        line("failed", "req/s", failed),
        line("output_tps", "tok/s", tokens),
    ]
}

/// Latencies of answered requests by the interval in which they were planned.
fn latencies(report: &Report, seen: &Observations, axis: Axis) -> Vec<Timeline> {
    let stages = &report.cells[seen.cell].stages;
    let mut lines = Vec::new();
    for metric in ["ttft", "e2e"] {
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); axis.points];
        for record in seen.records.iter().filter(|it| it.outcome == Outcome::Ok) {
            let open_loop = stages.get(record.stage).is_some_and(|it| it.open_loop);
            let latency = measure::value(record, metric, start_clock(open_loop));
            values[axis.at(record.intended)].extend(latency.map(|seconds| seconds * 1e3));
        }
        for one in &mut values {
            one.sort_by(f64::total_cmp);
        }
        if values.iter().all(Vec::is_empty) {
            continue;
        }
        for (stat, percent) in [("p50", 50), ("p95", 95)] {
            lines.push(Timeline {
                metric: metric.to_owned(),
                device: None,
                stat: Some(stat.to_owned()),
                unit: "ms".to_owned(),
                values: values
                    .iter()
                    .map(|one| {
                        let rank = (one.len() * percent).div_ceil(100);
                        one.get(rank.checked_sub(1)?).map(|value| short(*value))
                    })
                    .collect(),
            });
        }
    }
    lines
}

/// Where latencies start that people look at.
fn start_clock(open_loop: bool) -> StartClock {
    match open_loop {
        true => StartClock::Intended,
        false => StartClock::Sent,
    }
}

/// Adds the seconds of `from` to `to` that fall into each interval.
fn spread(values: &mut [f64], axis: Axis, from: Moment, to: Moment) {
    let (from, to) = (from.as_secs(), to.as_secs());
    let (first, last) = ((from / axis.every) as usize, (to / axis.every) as usize);
    for (at, value) in values.iter_mut().enumerate().take(last + 1).skip(first) {
        let begins = at as f64 * axis.every;
        let inside = to.min(begins + axis.every) - from.max(begins);
        *value += inside.max(0.0);
    }
}

/// The means of the samples in each interval. An interval between two samples keeps the earlier one; after twice the usual
/// distance between samples there is a gap.
fn sampled(series: &Series, axis: Axis) -> Timeline {
    let dimension = find(&series.metric).map_or(Dimension::NONE, |metric| metric.dimension);
    let mut sums: BTreeMap<usize, (f64, u32)> = BTreeMap::new();
    for (at, value) in &series.samples {
        let (sum, n) = sums.entry(axis.at(*at)).or_default();
        *sum += gauge::to_base(&series.metric, *value);
        *n += 1;
    }
    let mut distances: Vec<f64> = series
        .samples
        .windows(2)
        .map(|pair| pair[1].0.since(pair[0].0).as_secs_f64())
        .collect();
    distances.sort_by(f64::total_cmp);
    let usual = distances.get(distances.len() / 2).copied().unwrap_or(0.0);
    let held = (2.0 * usual / axis.every).ceil() as usize;
    let mut values = vec![None; axis.points];
    let mut last: Option<(usize, f64)> = None;
    for (at, place) in values.iter_mut().enumerate() {
        if let Some((sum, n)) = sums.get(&at) {
            last = Some((at, dimension.to_canonical(sum / f64::from(*n))));
        }
        *place = last
            .filter(|(seen, _)| at - seen <= held)
            .map(|(_, value)| short(value));
    }
    Timeline {
        metric: series.metric.to_string(),
        device: series.device,
        stat: None,
        unit: dimension.unit_text().to_owned(),
        values,
    }
}

// ---- stages ----------------------------------------------------------------------------------------------------------

/// The values of one measured stage of one cell, in order.
struct StageValues {
    cell: String,
    stage: String,
    values: Vec<(&'static str, Values)>,
    slowest: Vec<SlowRequest>,
}

/// Values of a metric in milliseconds, from the smallest.
enum Values {
    Each(Vec<f64>),
    /// Nanoseconds, to three digits.
    Counted(Histogram<u64>),
}

/// Where the first bar of a histogram begins, and where the last one ends.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Edges {
    from: f64,
    to: f64,
}

impl Edges {
    fn and(self, other: Edges) -> Edges {
        Edges {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}

/// Of each metric in each stage: cells are drawn in one picture, and only bars of the same width can be compared.
fn edges(stages: &[StageValues]) -> BTreeMap<(String, &'static str), Edges> {
    let mut shared: BTreeMap<(String, &'static str), Edges> = BTreeMap::new();
    for stage in stages {
        for (metric, values) in &stage.values {
            let own = values.edges();
            shared
                .entry((stage.stage.clone(), metric))
                .and_modify(|edges| *edges = edges.and(own))
                .or_insert(own);
        }
    }
    shared
}

impl StageValues {
    fn charts(self, edges: &BTreeMap<(String, &'static str), Edges>) -> StageCharts {
        let drawn = self.values.iter().map(|(metric, values)| {
            let edges = edges.get(&(self.stage.clone(), metric));
            values.distribution(metric, edges.copied().unwrap_or_else(|| values.edges()))
        });
        StageCharts {
            distributions: drawn.collect(),
            cell: self.cell,
            stage: self.stage,
            slowest: self.slowest,
        }
    }
}

fn stage_values(cell: &str, stage: &Stage, number: usize, runs: &[&Observations]) -> StageValues {
    let requests = || {
        runs.iter().flat_map(|run| {
            let records = run.records.iter();
            records
                .filter(|record| record.measured && record.stage == number)
                .map(|record| (run.repeat, record))
        })
    };
    let clock = start_clock(stage.open_loop);
    let answered = || {
        requests()
            .map(|(_, record)| record)
            .filter(|record| record.outcome == Outcome::Ok)
    };
    let mut values: Vec<(&'static str, Values)> = ["ttft", "e2e", "tpot", "send_lag"]
        .into_iter()
        .filter_map(|metric| {
            let values = answered().filter_map(|record| measure::value(record, metric, clock));
            Some((
                metric,
                Values::each(values.map(|seconds| seconds * 1e3).collect())?,
            ))
        })
        .collect();
    values.extend(gaps(answered()).map(|gaps| ("icl", gaps)));
    StageValues {
        cell: cell.to_owned(),
        stage: stage.name.clone(),
        values,
        slowest: slowest(requests()),
    }
}

impl Values {
    /// `None` of nothing.
    fn each(mut values: Vec<f64>) -> Option<Values> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Values::Each(values))
    }

    fn n(&self) -> u64 {
        match self {
            Values::Each(values) => values.len() as u64,
            Values::Counted(seen) => seen.len(),
        }
    }

    /// By nearest rank.
    fn quantile(&self, share: f64) -> f64 {
        match self {
            Values::Each(values) => {
                let n = values.len();
                values[((share * n as f64).ceil() as usize).clamp(1, n) - 1]
            }
            Values::Counted(seen) => ms(seen.value_at_quantile(share)),
        }
    }

    fn edges(&self) -> Edges {
        let from = match self {
            Values::Each(values) => values[0],
            Values::Counted(seen) => ms(seen.min()),
        };
        Edges {
            from,
            to: self.quantile(HISTOGRAM_TO),
        }
    }

    fn distribution(&self, metric: &str, edges: Edges) -> Distribution {
        // Of few values there are no more quantiles than values.
        let steps = match self {
            Values::Each(values) => STEPS.min(values.len()),
            Values::Counted(_) => STEPS,
        };
        let quantiles = (0..=steps)
            .map(|step| short(self.quantile(step as f64 / steps as f64)))
            .collect();
        let width = bar_width(edges);
        let mut counts = vec![0; BARS];
        let mut above = 0;
        let mut count = |value: f64, times: u64| {
            let bar = ((value - edges.from).max(0.0) / width) as usize;
            *counts.get_mut(bar).unwrap_or(&mut above) += times;
        };
        match self {
            Values::Each(values) => values.iter().for_each(|value| count(*value, 1)),
            Values::Counted(seen) => seen.iter_recorded().for_each(|bucket| {
                count(ms(bucket.value_iterated_to()), bucket.count_at_value());
            }),
        }
        Distribution {
            metric: metric.to_owned(),
            unit: "ms".to_owned(),
            n: self.n(),
            quantiles,
            from: short(edges.from),
            width,
            counts,
            above,
        }
    }
}

/// A little more than the range divided into bars, so that its end lies in the last one.
fn bar_width(edges: Edges) -> f64 {
    ((edges.to - edges.from) / BARS as f64).max(1e-6) * 1.000_001
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// The gaps between the output events of all requests. There are too many to keep them: they are counted to three digits.
fn gaps<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Option<Values> {
    let mut seen: Histogram<u64> =
        Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).expect("the bounds are in order");
    for record in records {
        let mut last: Option<Moment> = None;
        for event in record.events.iter() {
            if let Some(last) = last {
                seen.saturating_record(event.at.since(last).as_nanos() as u64);
            }
            last = Some(event.at);
        }
    }
    (!seen.is_empty()).then_some(Values::Counted(seen))
}

fn slowest<'a>(requests: impl Iterator<Item = (u32, &'a RequestRecord)>) -> Vec<SlowRequest> {
    let took = |record: &RequestRecord| record.finished.since(record.intended);
    let mut all: Vec<(u32, &RequestRecord)> = requests
        .filter(|(_, record)| record.dispatched.is_some() && record.outcome != Outcome::Cut)
        .collect();
    all.sort_by_key(|(repeat, record)| (std::cmp::Reverse(took(record)), *repeat, record.index));
    all.truncate(SLOWEST);
    let ms = |moment: Moment| short(moment.as_ms());
    all.into_iter()
        .map(|(repeat, record)| SlowRequest {
            repeat,
            index: record.index,
            prompt: record.prompt.to_string(),
            outcome: record.outcome.name().to_owned(),
            intended_ms: ms(record.intended),
            dispatched_ms: ms(record.dispatched.unwrap_or(record.intended)),
            first_token_ms: record.first_token.map(ms),
            last_token_ms: record.last_token.map(ms),
            finished_ms: ms(record.finished),
            input_tokens: record.tokens.input,
            output_tokens: record.tokens.output,
        })
        .collect()
}

/// Five significant digits: no chart shows more.
pub(super) fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = 4 - value.abs().log10().floor() as i32;
    let factor = 10f64.powi(digits.clamp(-300, 300));
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(values: Vec<f64>) -> Distribution {
        let values = Values::each(values).unwrap();
        values.distribution("ttft", values.edges())
    }

    #[test]
    fn a_distribution_counts_every_value_once() {
        let values: Vec<f64> = (1..=1000).map(f64::from).chain([1e6]).collect();
        let told = distribution(values);
        assert_eq!(told.n, 1001);
        assert_eq!(told.counts.iter().sum::<u64>() + told.above, 1001);
        assert_eq!(told.above, 10, "those beyond the 99th percentile");
        let tenths: Vec<f64> = told.quantiles.iter().step_by(20).copied().collect();
        assert_eq!(
            tenths,
            [
                1.0, 101.0, 201.0, 301.0, 401.0, 501.0, 601.0, 701.0, 801.0, 901.0, 1e6
            ]
        );
    }

    #[test]
    fn of_nothing_there_is_no_distribution_and_equal_values_are_one_bar() {
        assert!(Values::each(Vec::new()).is_none());
        let told = distribution(vec![5.0; 7]);
        assert_eq!((told.counts[0], told.above), (7, 0));
    }

    #[test]
    fn what_is_drawn_in_one_picture_has_bars_of_one_width() {
        let stage = |cell: &str, values: Vec<f64>| StageValues {
            cell: cell.into(),
            stage: "c2".into(),
            values: vec![("ttft", Values::each(values).unwrap())],
            slowest: Vec::new(),
        };
        let stages = vec![
            stage("tight", vec![10.0; 60]),
            stage("wide", vec![10.0, 20.5, 40.0]),
        ];
        let edges = edges(&stages);
        let drawn: Vec<Distribution> = stages
            .into_iter()
            .flat_map(|stage| stage.charts(&edges).distributions)
            .collect();
        let [tight, wide] = &drawn[..] else {
            panic!("{drawn:?}")
        };
        assert_eq!((tight.from, tight.width), (wide.from, wide.width));
        assert_eq!((tight.counts.len(), tight.counts[0]), (30, 60));
        assert_eq!(
            (wide.counts[0], wide.counts[10], wide.counts[29]),
            (1, 1, 1)
        );
    }

    #[test]
    fn time_in_flight_is_spread_over_the_intervals() {
        let axis = Axis::until(100.0);
        assert_eq!((axis.every, axis.points), (0.5, 200));
        let mut values = vec![0.0; 200];
        let at = Moment::from_secs_f64;
        spread(&mut values, axis, at(0.25), at(1.25));
        assert_eq!(values[..4], [0.25, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn at_the_end_of_a_run_that_goes_on_only_what_is_known_is_drawn() {
        let line = |metric: &str| Timeline {
            metric: metric.into(),
            device: None,
            stat: None,
            unit: String::new(),
            values: vec![Some(1.0); 4],
        };
        let mut charts = RunCharts {
            cell: "c".into(),
            repeat: 0,
            every_s: 1.0,
            spans: vec![StageSpan {
                stage: "s".into(),
                measured: true,
                from_s: 0.0,
                to_s: 4.0,
            }],
            timelines: ["in_flight", "answered", "output_tps"].map(line).to_vec(),
        };
        let at = Moment::from_secs_f64;
        let in_flight = Series {
            metric: "in_flight".into(),
            device: None,
            samples: [0.0, 1.0, 2.0, 3.0].map(|s| (at(s), 7.0)).to_vec(),
        };
        leave_open(&mut charts, &in_flight, 1.5);
        let values: Vec<_> = charts
            .timelines
            .iter()
            .map(|line| &line.values[..])
            .collect();
        assert_eq!(values[0], [Some(7.0); 4]);
        assert_eq!(values[1], [Some(1.0); 4], "ends are known when they happen");
        assert_eq!(values[2], [Some(1.0), Some(1.0), None, None]);
    }

    #[test]
    fn a_source_that_falls_silent_leaves_a_gap() {
        let at = Moment::from_secs_f64;
        let series = Series {
            metric: "gpu.power".into(),
            device: Some(0),
            samples: [0.0, 1.0, 2.0, 8.0]
                .map(|second| (at(second), 100.0 + second))
                .to_vec(),
        };
        let axis = Axis {
            every: 1.0,
            points: 9,
        };
        let told = sampled(&series, axis).values;
        let (held, gap) = (Some(102.0), None);
        assert_eq!(
            told,
            [
                Some(100.0),
                Some(101.0),
                held,
                held,
                held,
                gap,
                gap,
                gap,
                Some(108.0)
            ]
        );
    }
}
