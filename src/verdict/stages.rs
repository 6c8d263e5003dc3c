//! The numbers of each stage of each run, for reports: all metrics that have a value.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compat::compat;
use super::gauge;
use super::guards::unsent;
use super::measure::{
    BothGaps, Measured, Rules, Samples, gaps, mean, measure, needs_token_instants, per_second,
    samples, standard_deviation,
};
use super::slice::{Slice, Sorted};
use super::spread::spreads;
use super::statistics::{linear, nearest_rank, order_interval};
use super::{Counts, MetricStats, StageMeasurements, State};
use crate::assertion::{Aggregate, Kind, Metric, Percentile, metrics};
use crate::observation::{Observations, Outcome, RequestRecord};
use crate::plan::{Cell, Count, StartClock};

const PERCENTILES: [(&str, u32); 4] = [
    ("p50", 50_000),
    ("p90", 90_000),
    ("p95", 95_000),
    ("p99", 99_000),
];

/// The view of reports: answered requests, latencies from sending (`ttft_intended` and `e2e_intended` stand beside them).
const REPORT: Rules = Rules {
    count: Count::Ok,
    clock: Some(StartClock::Sent),
};

/// Goodput has no second name for the other clock: it is reported as it is judged.
fn rules(metric: &Metric) -> Rules {
    match metric.name {
        "goodput" | "goodput_ratio" => Rules {
            clock: None,
            ..REPORT
        },
        _ => REPORT,
    }
}

/// The measurements of every stage that was begun in one run of one cell.
pub fn stages(cell: &Cell, seen: &Observations) -> Vec<StageMeasurements> {
    let sorted = Sorted::of(seen);
    seen.stages
        .iter()
        .map(|times| {
            stage(
                &Slice::stage(cell, seen, times.stage).sorted(&sorted),
                &sorted,
            )
        })
        .collect()
}

fn stage<'a>(slice: &Slice<'a>, sorted: &Sorted<'a>) -> StageMeasurements {
    let times = slice.times();
    let (metrics, categories) = all_metrics(slice, sorted);
    let window = slice.window().filter(|(from, to)| from < to);
    StageMeasurements {
        cell: slice.seen.cell,
        repeat: slice.seen.repeat,
        stage: slice.stage,
        counts: counts(slice),
        window: window.map(|(from, to)| (from.as_secs(), to.as_secs())),
        duration: times.map_or(Duration::ZERO, |times| times.ended.since(times.began)),
        metrics,
        categories,
        books: window.map(|(from, to)| gauge::books(slice, from, to)),
        spreads: if slice.cell.stages[slice.stage].measured {
            spreads(slice)
        } else {
            Vec::new()
        },
        compat: if slice.cell.stages[slice.stage].measured {
            compat(slice)
        } else {
            Vec::new()
        },
    }
}

fn counts(slice: &Slice) -> Counts {
    let mut counts = Counts {
        unsent: unsent(slice),
        ..Counts::default()
    };
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for record in slice.scheduled() {
        counts.sent += u64::from(record.dispatched.is_some());
        match record.outcome {
            Outcome::Ok => counts.ok += 1,
            Outcome::Cut => counts.cut += 1,
            Outcome::Dropped => counts.dropped += 1,
            _ => {
                counts.failed += 1;
                *outcomes.entry(record.outcome.name()).or_default() += 1;
            }
        }
    }
    counts.planned = counts.ok + counts.failed + counts.cut + counts.dropped + counts.unsent;
    counts.outcomes = outcomes
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    counts
}

/// The requests of a stage by category, so that each is looked at once for its category and for the stage.
struct Parts<'a> {
    categories: Vec<(&'a str, Sorted<'a>)>,
    /// Requests without a category.
    rest: Sorted<'a>,
}

impl<'a> Parts<'a> {
    fn of(slice: &Slice<'a>, sorted: &Sorted<'a>) -> Parts<'a> {
        let mut categories: BTreeMap<&str, Vec<&RequestRecord>> = BTreeMap::new();
        let mut rest = Vec::new();
        for record in slice.scheduled() {
            match &record.category {
                Some(category) => categories.entry(category).or_default().push(record),
                None => rest.push(record),
            }
        }
        let only = |records| sorted.only(slice.stage, records);
        Parts {
            categories: categories
                .into_iter()
                .map(|(name, records)| (name, only(records)))
                .collect(),
            rest: only(rest),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Sorted<'a>> {
        let categories = self.categories.iter().map(|(_, sorted)| sorted);
        categories.chain([&self.rest])
    }

    /// Collects the gaps of every category; those of the stage are all of them together.
    fn tell_gaps(&self, slice: &Slice<'a>, sorted: &Sorted<'a>) {
        let mut together = BothGaps::default();
        for part in self.all() {
            let mut gaps = BothGaps::default();
            gaps.add(slice.sorted(part).timed());
            together.merge(&gaps);
            part.tell_gaps(slice.stage, gaps);
        }
        sorted.tell_gaps(slice.stage, together);
    }
}

/// The metrics of a stage, and of each of its categories those of single requests.
fn all_metrics<'a>(
    slice: &Slice<'a>,
    sorted: &Sorted<'a>,
) -> (Vec<MetricStats>, Vec<(String, Vec<MetricStats>)>) {
    let parts = Parts::of(slice, sorted);
    parts.tell_gaps(slice, sorted);
    let mut whole = Vec::new();
    let mut categories: Vec<(String, Vec<MetricStats>)> = parts
        .categories
        .iter()
        .map(|(name, _)| ((*name).to_owned(), Vec::new()))
        .collect();
    for (of_stage, of_parts) in each_metric(|metric| of_metric(slice, &parts, metric)) {
        whole.extend(of_stage);
        for ((_, told), stats) in categories.iter_mut().zip(of_parts) {
            told.extend(stats);
        }
    }
    (whole, categories)
}

/// One metric of the stage, and of each of its parts.
fn of_metric(
    slice: &Slice,
    parts: &Parts,
    metric: &'static Metric,
) -> (Option<MetricStats>, Vec<Option<MetricStats>>) {
    if needs_token_instants(metric) && slice.seen.tokens_untimed {
        return (None, Vec::new());
    }
    match metric.kind {
        Kind::Trend => {
            let values: Vec<Samples> = parts
                .all()
                .map(|part| samples(&[slice.sorted(part)], metric, REPORT))
                .collect();
            let of_parts = values.iter().map(|values| trend(metric, values)).collect();
            (trend(metric, &Samples::together(values)), of_parts)
        }
        Kind::Gap | Kind::Rate => {
            let part = |part| stats(&slice.sorted(part), metric);
            (stats(slice, metric), parts.all().map(part).collect())
        }
        Kind::Counter | Kind::Flow | Kind::Gauge | Kind::Derived => {
            (stats(slice, metric), Vec::new())
        }
    }
}

/// Asks for every metric, in their order, on a few threads: nothing else runs while a report is made.
fn each_metric<T: Send>(ask: impl Fn(&'static Metric) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    let share = |first: usize| -> Vec<T> {
        let own = metrics().iter().skip(first).step_by(threads);
        own.map(&ask).collect()
    };
    let mut shares: Vec<std::vec::IntoIter<T>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|first| scope.spawn(move || share(first)))
            .collect();
        let mut shares = vec![share(0).into_iter()];
        for other in others {
            let share = other.join();
            shares.push(
                share
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .into_iter(),
            );
        }
        shares
    });
    let order = (0..metrics().len()).map(|metric| metric % threads);
    order.filter_map(|thread| shares[thread].next()).collect()
}

fn stats(slice: &Slice, metric: &'static Metric) -> Option<MetricStats> {
    match metric.kind {
        Kind::Trend => trend(metric, &samples(&[*slice], metric, REPORT)),
        Kind::Gap => gap(slice, metric),
        Kind::Rate | Kind::Counter | Kind::Derived => {
            let estimator = if metric.kind == Kind::Counter {
                "sum"
            } else {
                "ratio"
            };
            let whole = measure(&[*slice], metric, Aggregate::Whole, rules(metric)).ok()?;
            let mut stats = Stats::new(metric, estimator, whole.n);
            stats.stats.undefined = whole.undefined;
            stats.push("value", whole.low);
            stats.interval("value", whole.interval);
            stats.done()
        }
        Kind::Flow => flow(slice, metric),
        Kind::Gauge => gauge_stats(slice, metric),
    }
}

/// Collects the statistics of one metric in canonical units, leaving out what is not finite.
struct Stats {
    metric: &'static Metric,
    stats: MetricStats,
}

impl Stats {
    fn new(metric: &'static Metric, estimator: &'static str, n: u64) -> Stats {
        Stats {
            metric,
            stats: MetricStats {
                metric: metric.name.to_owned(),
                unit: metric.unit(),
                n,
                estimator,
                undefined: 0,
                stats: Vec::new(),
                intervals: Vec::new(),
            },
        }
    }

    fn push(&mut self, name: &'static str, base: f64) {
        if base.is_finite() {
            self.stats
                .stats
                .push((name, self.metric.dimension.to_canonical(base)));
        }
    }

    fn take(&mut self, name: &'static str, measured: Result<Measured, State>) {
        if let Ok(measured) = measured {
            self.push(name, measured.low);
            self.interval(name, measured.interval);
        }
    }

    fn interval(&mut self, name: &'static str, interval: Option<(f64, f64)>) {
        if let Some((low, high)) =
            interval.filter(|(low, high)| low.is_finite() && high.is_finite())
        {
            let canonical = |base| self.metric.dimension.to_canonical(base);
            self.stats
                .intervals
                .push((name, canonical(low), canonical(high)));
        }
    }

    fn done(self) -> Option<MetricStats> {
        (!self.stats.stats.is_empty()).then_some(self.stats)
    }
}

fn percentile(per_100k: u32) -> Percentile {
    Percentile::new(per_100k).expect("a percentile between 0 and 100")
}

fn trend(metric: &'static Metric, samples: &Samples) -> Option<MetricStats> {
    let sorted = &samples.low;
    // An answer without visible text has no finite value; it is counted in the verdicts.
    let finite = &sorted[..sorted.partition_point(|value| value.is_finite())];
    let (least, greatest) = (finite.first()?, finite.last()?);
    let mut stats = Stats::new(metric, "exact", finite.len() as u64);
    stats.stats.undefined = samples.undefined;
    stats.push("mean", mean(finite));
    stats.push("min", *least);
    for (name, per_100k) in PERCENTILES {
        let p = percentile(per_100k);
        stats.push(name, nearest_rank(finite, p));
        let (low, high) = order_interval(finite.len() as u64, p);
        let ends = low
            .zip(high)
            .map(|(low, high)| (finite[low as usize - 1], finite[high as usize - 1]));
        stats.interval(name, ends);
    }
    stats.push("max", *greatest);
    stats.push("std", standard_deviation(finite));
    stats.push("p95_linear", linear(finite, percentile(95_000)));
    stats.done()
}

fn gap(slice: &Slice, metric: &'static Metric) -> Option<MetricStats> {
    slice.window()?;
    let gaps = gaps(&[*slice], metric).ok()?;
    let mut stats = Stats::new(metric, "hdr", gaps.len());
    stats.take("mean", gaps.aggregate(Aggregate::Mean));
    stats.take("min", gaps.aggregate(Aggregate::Min));
    for (name, per_100k) in PERCENTILES {
        stats.take(
            name,
            gaps.aggregate(Aggregate::Percentile(percentile(per_100k))),
        );
    }
    stats.take("max", gaps.aggregate(Aggregate::Max));
    stats.take("std", gaps.aggregate(Aggregate::Std));
    stats.done()
}

fn flow(slice: &Slice, metric: &'static Metric) -> Option<MetricStats> {
    let whole = measure(&[*slice], metric, Aggregate::Whole, rules(metric)).ok()?;
    let mut stats = Stats::new(metric, "flow", whole.n);
    stats.push("value", whole.low);
    let mut buckets = per_second(&[*slice], metric.name, rules(metric)).unwrap_or_default();
    buckets.sort_unstable_by(f64::total_cmp);
    if let (Some(least), Some(greatest)) = (buckets.first(), buckets.last()) {
        stats.push("min", *least);
        stats.push("p50", nearest_rank(&buckets, percentile(50_000)));
        stats.push("max", *greatest);
    }
    stats.done()
}

fn gauge_stats(slice: &Slice, metric: &'static Metric) -> Option<MetricStats> {
    if metric.name.starts_with("gpu.") && slice.has_no_gpu_source() {
        return None;
    }
    let pieces = gauge::pool(&[*slice], metric.name).ok()?;
    let whole = pieces.aggregate(Aggregate::Mean).ok()?;
    let mut stats = Stats::new(metric, "time-weighted", whole.n);
    stats.push("mean", whole.low);
    stats.take("min", pieces.aggregate(Aggregate::Min));
    for (name, per_100k) in [PERCENTILES[0], PERCENTILES[2]] {
        stats.take(
            name,
            pieces.aggregate(Aggregate::Percentile(percentile(per_100k))),
        );
    }
    stats.take("max", pieces.aggregate(Aggregate::Max));
    stats.take("last", pieces.aggregate(Aggregate::Last));
    stats.done()
}
