//! How much a number would change had the run been another one: the spread that comparisons stand on.
//!
//! Requests of one run are no independent samples: they share batches, queues and caches, so the spread over requests is too
//! small. Here the window is cut into [`PARTS`] equal parts, and each statistic is told of each part (batch means). Parts that
//! are long beside a request make up for what neighbours share.

use super::measure::{Rules, measure, value};
use super::slice::Slice;
use super::statistics::nearest_rank;
use crate::assertion::{Aggregate, Percentile, find};
use crate::observation::{Outcome, RequestRecord};
use crate::plan::{Count, StartClock};
use crate::units::Moment;

/// Parts of a window.
pub const PARTS: usize = 10;
/// Requests below which a window says too little about its spread.
const FEWEST: usize = 3 * PARTS;

/// A statistic in each part of the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The statistic's path: `ttft.p95`, `output_tps`.
    pub statistic: String,
    /// The statistic in each part, in canonical units.
    pub parts: Vec<f64>,
}

/// The spreads of a stage; none where the window is too short to tell.
pub(super) fn spreads(slice: &Slice) -> Vec<Spread> {
    let Some((from, to)) = slice.window().filter(|(from, to)| from < to) else {
        return Vec::new();
    };
    let mut answered: Vec<&RequestRecord> = slice
        .timed()
        .filter(|record| record.outcome == Outcome::Ok && record.intended <= to)
        .collect();
    if answered.len() < FEWEST {
        return Vec::new();
    }
    answered.sort_by_key(|record| (record.intended, record.index));
    let mut spreads = Vec::new();
    let latency: [&str; 2] = match slice.default_clock() {
        StartClock::Intended => ["ttft_intended", "e2e_intended"],
        StartClock::Sent => ["ttft", "e2e"],
    };
    for metric in [latency[0], latency[1], "tpot"] {
        spreads.extend(trend(metric, &answered));
    }
    for metric in ["output_tps", "rps", "goodput", "energy_per_token"] {
        spreads.extend(parts(slice, metric, Aggregate::Whole, metric, (from, to)));
    }
    for metric in ["gpu.util", "gpu.power", "kv_cache"] {
        let statistic = format!("{metric}.mean");
        spreads.extend(parts(
            slice,
            metric,
            Aggregate::Mean,
            &statistic,
            (from, to),
        ));
    }
    spreads
}

/// What each request tells, in tenths of the requests in the order in which they were to leave: where requests are long, none
/// leaves in the last tenths of the window.
fn trend(metric: &str, answered: &[&RequestRecord]) -> Vec<Spread> {
    let mut values: [Vec<f64>; PARTS] = Default::default();
    for (at, record) in answered.iter().enumerate() {
        values[at * PARTS / answered.len()].extend(value(record, metric, StartClock::Sent));
    }
    if values.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    for part in &mut values {
        part.sort_by(f64::total_cmp);
    }
    [("p50", 50_000), ("p95", 95_000)]
        .into_iter()
        .filter_map(|(name, per_100k)| {
            let percentile = Percentile::new(per_100k)?;
            let of_part = |part: &Vec<f64>| nearest_rank(part, percentile) * 1e3;
            Some(Spread {
                statistic: format!("{metric}.{name}"),
                parts: values.iter().map(of_part).collect(),
            })
        })
        .collect()
}

/// What can be measured of each part alone.
fn parts(
    slice: &Slice,
    metric: &str,
    aggregate: Aggregate,
    statistic: &str,
    (from, to): (Moment, Moment),
) -> Option<Spread> {
    let metric = find(metric)?;
    let length = to.since(from) / PARTS as u32;
    let rules = Rules {
        count: Count::Ok,
        clock: None,
    };
    let values: Vec<f64> = (0..PARTS as u32)
        .map(|part| {
            let begins = from + length * part;
            let slice = Slice {
                part: Some((begins, begins + length)),
                ..*slice
            };
            let measured = measure(&[slice], metric, aggregate, rules).ok()?;
            Some(metric.dimension.to_canonical(measured.low)).filter(|value| value.is_finite())
        })
        .collect::<Option<_>>()?;
    Some(Spread {
        statistic: statistic.to_owned(),
        parts: values,
    })
}
