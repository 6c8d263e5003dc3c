//! Levels over time: samples of GPUs, engine and runner, and the requests and users that the runner itself had in flight.

use std::collections::BTreeMap;

use super::State;
use super::measure::{Measured, no_data};
use super::slice::Slice;
use crate::assertion::Aggregate;
use crate::observation::Series;
use crate::units::Moment;

/// A level over time in pieces: each value and how long it held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pieces {
    /// (value, seconds), in order of time.
    pieces: Vec<(f64, f64)>,
    /// The value of the last sample.
    last: f64,
    /// Samples.
    n: u64,
}

/// Samples must cover this share of the window, at the cadence at which they came.
const COVERAGE: f64 = 0.8;

/// The pieces of a gauge over the windows of all slices.
pub(super) fn pool(slices: &[Slice], metric: &str) -> Result<Pieces, State> {
    let mut all = Pieces::default();
    for slice in slices {
        let Some((from, to)) = slice.window().filter(|(from, to)| from < to) else {
            return Err(no_data("the window has no length"));
        };
        let mut own = match metric {
            "achieved_concurrency" => in_flight(slice, from, to),
            "active_users" => active_users(slice, from, to)?,
            _ => sampled(slice, metric, from, to)?,
        };
        all.pieces.append(&mut own.pieces);
        all.last = own.last;
        all.n += own.n;
    }
    Ok(all)
}

impl Pieces {
    /// The time-weighted aggregate.
    pub(super) fn aggregate(&self, aggregate: Aggregate) -> Result<Measured, State> {
        let time: f64 = self.pieces.iter().map(|(_, seconds)| seconds).sum();
        if self.pieces.is_empty() || time <= 0.0 {
            return Err(no_data("no sample in the window"));
        }
        let values = || self.pieces.iter().map(|(value, _)| *value);
        let value = match aggregate {
            Aggregate::Mean => {
                self.pieces
                    .iter()
                    .map(|(value, seconds)| value * seconds)
                    .sum::<f64>()
                    / time
            }
            Aggregate::Min => values().fold(f64::INFINITY, f64::min),
            Aggregate::Max => values().fold(f64::NEG_INFINITY, f64::max),
            Aggregate::Last => self.last,
            Aggregate::Percentile(percentile) => self.percentile(percentile.fraction() * time),
            Aggregate::Whole
            | Aggregate::Std
            | Aggregate::Sum
            | Aggregate::Count
            | Aggregate::Rate => {
                return Err(no_data("this aggregate means nothing on a gauge"));
            }
        };
        Ok(Measured::exact(value, self.n))
    }

    /// The least value that the level was at or below for `seconds`.
    fn percentile(&self, seconds: f64) -> f64 {
        let mut sorted = self.pieces.clone();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut passed = 0.0;
        for (value, held) in &sorted {
            passed += held;
            if passed >= seconds * (1.0 - 1e-12) {
                return *value;
            }
        }
        sorted.last().map_or(0.0, |(value, _)| *value)
    }
}

fn seconds(from: Moment, to: Moment) -> f64 {
    to.ns().saturating_sub(from.ns()) as f64 / 1e9
}

/// How several GPUs become one number.
fn combine(metric: &str, values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    match metric {
        "gpu.memory_used" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "gpu.memory_total" | "gpu.power" | "gpu.energy" => sum,
        _ => sum / values.len() as f64,
    }
}

/// A sample of a series in base units: clocks come in MHz.
pub fn to_base(metric: &str, value: f64) -> f64 {
    match metric {
        "gpu.sm_clock" => value * 1e6,
        _ => value,
    }
}

/// The samples of all devices as one series.
fn merged(metric: &str, series: &[&Series]) -> Vec<(Moment, f64)> {
    if let [one] = series {
        return one
            .samples
            .iter()
            .map(|(at, value)| (*at, to_base(metric, *value)))
            .collect();
    }
    let mut times: Vec<Moment> = series
        .iter()
        .flat_map(|one| one.samples.iter().map(|(at, _)| *at))
        .collect();
    times.sort_unstable();
    times.dedup();
    let mut next = vec![0; series.len()];
    let mut current: Vec<Option<f64>> = vec![None; series.len()];
    let mut all = Vec::with_capacity(times.len());
    for at in times {
        for (device, one) in series.iter().enumerate() {
            while let Some((when, value)) = one
                .samples
                .get(next[device])
                .filter(|(when, _)| *when <= at)
            {
                debug_assert!(*when <= at);
                current[device] = Some(to_base(metric, *value));
                next[device] += 1;
            }
        }
        // Before every device has spoken, a sum would be too small.
        if let Some(values) = current.iter().copied().collect::<Option<Vec<f64>>>() {
            all.push((at, combine(metric, &values)));
        }
    }
    all
}

/// The median time between samples, over the whole cell: what the source really gives.
fn cadence(samples: &[(Moment, f64)]) -> Option<f64> {
    let mut gaps: Vec<f64> = samples
        .windows(2)
        .map(|pair| seconds(pair[0].0, pair[1].0))
        .filter(|gap| *gap > 0.0)
        .collect();
    gaps.sort_unstable_by(f64::total_cmp);
    gaps.get(gaps.len() / 2).copied()
}

/// The longest time between samples of one device among several that were merged.
fn cadence_of(series: &[&Series]) -> Option<f64> {
    series
        .iter()
        .filter_map(|one| cadence(&one.samples))
        .fold(None, |most: Option<f64>, gap| {
            Some(most.map_or(gap, |most| most.max(gap)))
        })
}

fn sampled(slice: &Slice, metric: &str, from: Moment, to: Moment) -> Result<Pieces, State> {
    let source = if metric == "gpu.memory_total" {
        "gpu.memory_used"
    } else {
        metric
    };
    let series = slice.series(source);
    if series.is_empty() {
        if let Some(busiest) = slice.busiest().filter(|_| metric == "client.cpu") {
            return Ok(Pieces {
                pieces: vec![(busiest, seconds(from, to))],
                last: busiest,
                n: 1,
            });
        }
        return Err(no_data(format!("nothing tells `{metric}`")));
    }
    let samples = merged(metric, &series);
    let Some(cadence) = cadence_of(&series) else {
        return Err(no_data(format!("a single sample of `{metric}`")));
    };
    let window = seconds(from, to);
    let mut found = Pieces::default();
    let mut covered = 0.0;
    for (i, (at, value)) in samples.iter().enumerate() {
        let until = samples.get(i + 1).map_or(Moment::MAX, |(next, _)| *next);
        // A sample speaks for itself until the next one, or for twice the cadence where samples were lost.
        let start = (*at).max(from);
        let end = until.min(to).min(Moment::from_ns(
            at.ns().saturating_add((2e9 * cadence) as u64),
        ));
        if start < end {
            found.pieces.push((*value, seconds(start, end)));
            covered += seconds(start, end);
            found.last = *value;
            found.n += 1;
        }
    }
    if covered < COVERAGE * window {
        return Err(no_data(format!(
            "{} samples of `{metric}` cover {:.0}% of the window; {:.0}% are needed",
            found.n,
            100.0 * covered / window,
            100.0 * COVERAGE
        )));
    }
    Ok(found)
}

/// Requests in flight, from dispatch to end, measured or not.
fn in_flight(slice: &Slice, from: Moment, to: Moment) -> Pieces {
    let spans = slice
        .reaching(from, to)
        .filter_map(|record| Some((record.dispatched?, record.finished)));
    steps(spans, from, to)
}

/// The level that overlapping spans make, in pieces of the window.
fn steps(spans: impl Iterator<Item = (Moment, Moment)>, from: Moment, to: Moment) -> Pieces {
    let mut changes: Vec<(Moment, i64)> = Vec::new();
    let mut n = 0;
    for (began, ended) in spans {
        let (began, ended) = (began.max(from), ended.min(to));
        if began < ended {
            changes.push((began, 1));
            changes.push((ended, -1));
            n += 1;
        }
    }
    changes.sort_unstable();
    let mut pieces = Vec::new();
    let (mut level, mut since) = (0i64, from);
    for (at, change) in changes {
        if at > since {
            pieces.push((level as f64, seconds(since, at)));
            since = at;
        }
        level += change;
    }
    if since < to {
        pieces.push((level as f64, seconds(since, to)));
    }
    let last = pieces.last().map_or(0.0, |(level, _)| *level);
    Pieces { pieces, last, n }
}

/// Users from their first request to the end of their last one, over the stages that run without a drain between: a user whose
/// request began in the warm-up is active when the level begins. Under `tail: fill` users stay to the end: their last requests
/// are closed unfinished.
fn active_users(slice: &Slice, from: Moment, to: Moment) -> Result<Pieces, State> {
    struct User {
        first: Moment,
        last: Moment,
        in_stage: bool,
    }
    let together = slice
        .cell
        .segments
        .iter()
        .map(|segment| segment.stages.clone())
        .find(|stages| stages.contains(&slice.stage))
        .unwrap_or(slice.stage..slice.stage + 1);
    let mut users: BTreeMap<u32, User> = BTreeMap::new();
    for record in slice
        .all()
        .filter(|record| together.contains(&record.stage))
    {
        let Some(user) = record.user else { continue };
        let span = users.entry(user).or_insert(User {
            first: record.intended,
            last: record.finished,
            in_stage: false,
        });
        span.first = span.first.min(record.intended);
        span.last = span.last.max(record.finished);
        span.in_stage |= record.stage == slice.stage;
    }
    if users.is_empty() {
        return Err(no_data("only closed-loop stages have users"));
    }
    let fill = slice.cell.stages[slice.stage].tail_fill;
    let spans = users.into_values().map(|user| {
        let last = if fill && user.in_stage {
            user.last.max(to)
        } else {
            user.last
        };
        (user.first, last)
    });
    Ok(steps(spans, from, to))
}

/// Joules between two instants: from the devices' counters, else the integral of power.
pub(super) fn energy(slice: &Slice, from: Moment, to: Moment) -> Result<f64, State> {
    let counters = slice.series("gpu.energy");
    if !counters.is_empty()
        && let Some(joules) = counters
            .iter()
            .map(|one| increase_between(&one.samples, from, to))
            .sum::<Option<f64>>()
    {
        return Ok(joules);
    }
    let power = sampled(slice, "gpu.power", from, to)?.aggregate(Aggregate::Mean)?;
    Ok(power.low * seconds(from, to))
}

/// How much an engine's counter grew between two instants.
pub(super) fn increase(
    slice: &Slice,
    metric: &str,
    from: Moment,
    to: Moment,
) -> Result<f64, State> {
    let series = slice.series(metric);
    if series.is_empty() {
        return Err(no_data(format!("nothing tells `{metric}`")));
    }
    series
        .iter()
        .map(|one| increase_between(&one.samples, from, to))
        .sum::<Option<f64>>()
        .ok_or_else(|| {
            no_data(format!(
                "samples of `{metric}` do not reach over the window, or began anew in it"
            ))
        })
}

fn increase_between(samples: &[(Moment, f64)], from: Moment, to: Moment) -> Option<f64> {
    let cadence = cadence(samples)?;
    let inside = samples
        .iter()
        .filter(|(at, _)| from <= *at && *at <= to)
        .map(|(_, value)| *value);
    // A counter that began anew has forgotten what it counted.
    if !inside.is_sorted() {
        return None;
    }
    let grown = counter_at(samples, to, cadence)? - counter_at(samples, from, cadence)?;
    (grown >= 0.0).then_some(grown)
}

/// A counter at an instant, interpolated between its neighbours; at the ends one cadence beyond is near enough.
fn counter_at(samples: &[(Moment, f64)], at: Moment, cadence: f64) -> Option<f64> {
    let after = samples.partition_point(|(when, _)| *when < at);
    match (
        after.checked_sub(1).map(|before| samples[before]),
        samples.get(after),
    ) {
        (Some((t0, v0)), Some((t1, v1))) => {
            let share = seconds(t0, at) / seconds(t0, *t1).max(f64::MIN_POSITIVE);
            Some(v0 + (v1 - v0) * share)
        }
        (None, Some((t1, v1))) => (seconds(at, *t1) <= 2.0 * cadence).then_some(*v1),
        (Some((t0, v0)), None) => (seconds(t0, at) <= 2.0 * cadence).then_some(v0),
        (None, None) => None,
    }
}

/// ∫ in-flight dt against Σ request time inside the window: their relative difference. It checks our own books.
pub(super) fn books(slice: &Slice, from: Moment, to: Moment) -> f64 {
    let integral: f64 = in_flight(slice, from, to)
        .pieces
        .iter()
        .map(|(level, seconds)| level * seconds)
        .sum();
    let times: f64 = slice
        .reaching(from, to)
        .filter_map(|record| {
            Some(seconds(
                record.dispatched?.max(from),
                record.finished.min(to),
            ))
        })
        .sum();
    (integral - times).abs() / times.max(f64::MIN_POSITIVE)
}
