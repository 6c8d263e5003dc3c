//! What the page's charts are drawn from, as JSON inside the page: of the report no more than is drawn, so that a page of many
//! stages stays small.

use std::collections::BTreeMap;

use serde::Serialize;

use super::charts::{Charts, short};
use super::model::{Broken, Metric, Report, Stage, StageNumbers, VerdictStatus};
use super::{colours, told, wording};

/// What `page.js` can be asked to draw over the load, and their twins that count from the planned instant.
const METRICS: [&str; 17] = [
    "ttft",
    "ttft_intended",
    "e2e",
    "e2e_intended",
    "tpot",
    "itl",
    "icl",
    "output_tps",
    "rps",
    "goodput",
    "error_rate",
    "gpu.util",
    "gpu.power",
    "gpu.memory_used",
    "energy_per_token",
    "kv_cache",
    "queue",
];
/// And of them these statistics.
const STATISTICS: [&str; 6] = ["p50", "p95", "p99", "mean", "max", "value"];

#[derive(Serialize)]
struct Embedded<'a> {
    report: Drawn<'a>,
    charts: &'a Charts,
    names: Vec<String>,
    colours: Vec<&'static str>,
    failing: Vec<Failing<'a>>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    repeats: u32,
    cells: Vec<DrawnCell<'a>>,
}

#[derive(Serialize)]
struct DrawnCell<'a> {
    id: &'a str,
    /// A stage of it that has no numbers will have none.
    ended: bool,
    stages: Vec<DrawnStage<'a>>,
}

#[derive(Serialize)]
struct DrawnStage<'a> {
    name: &'a str,
    measured: bool,
    open_loop: bool,
    users: Option<u32>,
    rate: Option<f64>,
    numbers: Option<DrawnNumbers<'a>>,
    repeats: Vec<DrawnRepeat<'a>>,
}

#[derive(Serialize)]
struct DrawnRepeat<'a> {
    numbers: DrawnNumbers<'a>,
}

#[derive(Serialize)]
struct DrawnNumbers<'a> {
    ok: u64,
    cut: u64,
    dropped: u64,
    unsent: u64,
    outcomes: &'a BTreeMap<String, u64>,
    /// The share of requests that failed, where the metrics are those of the survivors.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<f64>,
    metrics: BTreeMap<&'a str, DrawnMetric<'a>>,
}

#[derive(Serialize)]
struct DrawnMetric<'a> {
    unit: &'a str,
    n: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    intervals: BTreeMap<&'a str, [f64; 2]>,
    #[serde(flatten)]
    stats: BTreeMap<&'a str, f64>,
}

/// A stage that broke an SLO, and of one with a `window` when.
#[derive(Serialize)]
struct Failing<'a> {
    cell: &'a str,
    stage: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "<[Broken]>::is_empty")]
    broken: &'a [Broken],
}

/// The data as JSON that may stand inside a script element: no `<` closes it. `over`: the run does not go on.
pub(super) fn embedded(report: &Report, charts: &Charts, over: bool) -> String {
    let failing = report
        .verdicts
        .iter()
        .filter(|verdict| verdict.status == VerdictStatus::Fail)
        .filter_map(|verdict| {
            Some(Failing {
                cell: verdict.cell.as_deref()?,
                stage: verdict.stage.as_deref()?,
                id: &verdict.id,
                broken: &verdict.broken,
            })
        })
        .collect();
    let cells = report.cells.iter().map(|cell| DrawnCell {
        id: &cell.id,
        ended: wording::no_data(cell, over).is_some(),
        // Levels that a search passed over were asked of nobody.
        stages: (cell.stages.iter())
            .filter(|stage| !stage.measured || cell.was_asked(stage))
            .map(stage)
            .collect(),
    });
    let data = Embedded {
        report: Drawn {
            repeats: report.repeats,
            cells: cells.collect(),
        },
        charts,
        names: wording::short_ids(report),
        colours: colours::of_cells(report),
        failing,
    };
    serde_json::to_string(&data)
        .expect("plain data has no reason to fail")
        .replace('<', "\\u003c")
}

fn stage(stage: &Stage) -> DrawnStage<'_> {
    let repeats = stage.repeats.iter().map(|one| DrawnRepeat {
        numbers: numbers(&one.numbers),
    });
    DrawnStage {
        name: &stage.name,
        measured: stage.measured,
        open_loop: stage.open_loop,
        users: stage.users,
        rate: stage.rate,
        numbers: stage.numbers.as_ref().map(numbers),
        repeats: repeats.collect(),
    }
}

fn numbers(numbers: &StageNumbers) -> DrawnNumbers<'_> {
    let known = METRICS.iter();
    DrawnNumbers {
        ok: numbers.ok,
        cut: numbers.cut,
        dropped: numbers.dropped,
        unsent: numbers.unsent,
        outcomes: &numbers.outcomes,
        lost: told::lost(numbers).map(short),
        metrics: known
            .filter_map(|name| Some((*name, metric(numbers.metrics.get(*name)?))))
            .collect(),
    }
}

fn metric(metric: &Metric) -> DrawnMetric<'_> {
    let is_drawn = |name: &&str| STATISTICS.contains(name);
    let stats = metric.stats.iter();
    let intervals = metric.intervals.iter();
    DrawnMetric {
        unit: &metric.unit,
        n: metric.n,
        intervals: intervals
            .map(|(name, interval)| (name.as_str(), interval.map(short)))
            .filter(|(name, _)| is_drawn(name))
            .collect(),
        stats: stats
            .map(|(name, value)| (name.as_str(), short(*value)))
            .filter(|(name, _)| is_drawn(name))
            .collect(),
    }
}
