//! The numbers of a run that goes on in the text format of Prometheus: counted as requests end, written when asked.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::story::News;
use crate::assertion::{Dimension, Kind, find};
use crate::observation::{Outcome, RequestRecord};
use crate::plan::{Plan, StartClock};
use crate::report::{self, Report};
use crate::verdict::{gauge, measure};

/// Upper bounds of the buckets of latencies, in seconds.
const LATENCY: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
];
/// Of times per token.
const TOKEN: &[f64] = &[
    0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0,
];
/// Of the client's own lag.
const LAG: &[f64] = &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0];

/// A trend that is told as a histogram: its name in the registry, what it is, its buckets.
const TRENDS: [(&str, &str, &[f64]); 4] = [
    ("ttft", "Time to first token of answered requests.", LATENCY),
    (
        "e2e",
        "Time from first to last byte of answered requests.",
        LATENCY,
    ),
    ("tpot", "Time per output token of answered requests.", TOKEN),
    ("send_lag", "How late the client itself sent.", LAG),
];

/// What has been counted since the run began.
#[derive(Default)]
pub(super) struct Metrics {
    plan: Option<Arc<Plan>>,
    /// The cell that runs.
    cell: usize,
    /// By cell and stage.
    stages: BTreeMap<(usize, usize), Counted>,
    in_flight: u64,
    /// The latest sample of each quantity.
    samples: BTreeMap<(Arc<str>, Option<u32>), f64>,
    cells_over: u32,
    verdicts: Vec<(String, String, String, &'static str)>,
}

/// What one stage of one cell has come to.
#[derive(Default)]
struct Counted {
    outcomes: BTreeMap<&'static str, u64>,
    input_tokens: u64,
    output_tokens: u64,
    trends: [Histogram; TRENDS.len()],
}

/// Values in buckets.
#[derive(Default)]
struct Histogram {
    counts: Vec<u64>,
    sum: f64,
    n: u64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len(), 0);
        if let Some(bucket) = bounds.iter().position(|bound| value <= *bound) {
            self.counts[bucket] += 1;
        }
        self.sum += value;
        self.n += 1;
    }
}

impl Metrics {
    pub(super) fn hear(&mut self, news: &News) {
        match news {
            News::Begins(begins) => {
                *self = Metrics {
                    plan: Some(begins.0.plan.clone()),
                    ..Metrics::default()
                };
            }
            News::CellBegins(run) => self.cell = run.cell,
            News::Records(records) => records.iter().for_each(|record| self.count(record)),
            News::Samples(series) => {
                for one in series {
                    if let Some((_, value)) = one.samples.last() {
                        let base = gauge::to_base(&one.metric, *value);
                        self.samples.insert((one.metric.clone(), one.device), base);
                    }
                }
            }
            News::Tick(tick) => self.in_flight = tick.0.in_flight,
            News::CellEnded(_) => {
                self.cells_over += 1;
                self.in_flight = 0;
            }
            News::CellReady(_) | News::Ended(_) | News::Leaves => {}
        }
    }

    fn count(&mut self, record: &RequestRecord) {
        let Some(plan) = &self.plan else { return };
        let clock = if report::is_open_loop(&plan.cells[self.cell], record.stage) {
            StartClock::Intended
        } else {
            StartClock::Sent
        };
        let counted = self.stages.entry((self.cell, record.stage)).or_default();
        *counted.outcomes.entry(record.outcome.name()).or_default() += 1;
        counted.input_tokens += u64::from(record.tokens.input.unwrap_or(0));
        counted.output_tokens += u64::from(record.tokens.output.unwrap_or(0));
        if record.outcome != Outcome::Ok {
            return;
        }
        for ((metric, _, bounds), histogram) in TRENDS.iter().zip(&mut counted.trends) {
            if let Some(seconds) = measure::value(record, metric, clock) {
                histogram.add(bounds, seconds);
            }
        }
    }

    /// How the SLOs stand in a report.
    pub(super) fn judged(&mut self, report: &Report) {
        let told = report.verdicts.iter().map(|verdict| {
            let cells = verdict.cells.join(",");
            let stage = verdict.stage.clone().unwrap_or_default();
            (verdict.id.clone(), cells, stage, verdict.status.name())
        });
        self.verdicts = told.collect();
    }

    /// The page that Prometheus reads.
    pub(super) fn render(&self) -> String {
        let mut page = Page(String::new());
        let Some(plan) = &self.plan else {
            return page.0;
        };
        page.family("run_info", "gauge", "The run, as labels.");
        page.sample(
            "run_info",
            &[
                ("scenario", &plan.name),
                ("plan_digest", &plan.digest),
                ("seed", &plan.seed.to_string()),
                ("tool", env!("CARGO_PKG_VERSION")),
            ],
            1.0,
        );
        page.family("cell_runs", "gauge", "Cell runs that the plan has.");
        page.sample("cell_runs", &[], plan.order.len() as f64);
        page.family(
            "cell_runs_over_total",
            "counter",
            "Cell runs that are over.",
        );
        page.sample("cell_runs_over_total", &[], f64::from(self.cells_over));
        page.family("requests_in_flight", "gauge", "Requests in flight.");
        page.sample("requests_in_flight", &[], self.in_flight as f64);
        self.requests(plan, &mut page);
        self.trends(plan, &mut page);
        self.sampled(&mut page);
        page.family(
            "slo_state",
            "gauge",
            "1 for how an SLO or guard stands so far: pass, fail, inconclusive or skipped.",
        );
        for (id, cells, stage, state) in &self.verdicts {
            let labels = [
                ("slo", id.as_str()),
                ("cell", cells),
                ("stage", stage),
                ("state", state),
            ];
            page.sample("slo_state", &labels, 1.0);
        }
        page.0
    }

    fn requests(&self, plan: &Plan, page: &mut Page) {
        page.family(
            "requests_total",
            "counter",
            "Requests that have ended, by outcome.",
        );
        for (&(cell, stage), counted) in &self.stages {
            for (outcome, count) in &counted.outcomes {
                let [cell, stage] = place(plan, cell, stage);
                page.sample(
                    "requests_total",
                    &[cell, stage, ("outcome", outcome)],
                    *count as f64,
                );
            }
        }
        let mut tokens = |name: &str, help: &str, count: fn(&Counted) -> u64| {
            page.family(name, "counter", help);
            for (&(cell, stage), counted) in &self.stages {
                page.sample(name, &place(plan, cell, stage), count(counted) as f64);
            }
        };
        tokens(
            "input_tokens_total",
            "Prompt tokens of requests that have ended.",
            |it| it.input_tokens,
        );
        tokens(
            "output_tokens_total",
            "Generated tokens of requests that have ended.",
            |it| it.output_tokens,
        );
    }

    fn trends(&self, plan: &Plan, page: &mut Page) {
        for (at, (metric, help, bounds)) in TRENDS.iter().enumerate() {
            let name = format!("{metric}_seconds");
            page.family(&name, "histogram", help);
            for (&(cell, stage), counted) in &self.stages {
                let histogram = &counted.trends[at];
                if histogram.n > 0 {
                    page.histogram(&name, place(plan, cell, stage), bounds, histogram);
                }
            }
        }
    }

    fn sampled(&self, page: &mut Page) {
        let mut told = String::new();
        for ((metric, device), value) in &self.samples {
            let name = sample_name(metric);
            if told != name {
                let kind = if name.ends_with("_total") {
                    "counter"
                } else {
                    "gauge"
                };
                page.family(&name, kind, &format!("The latest sample of `{metric}`."));
                told.clone_from(&name);
            }
            match device {
                Some(device) => page.sample(&name, &[("device", &device.to_string())], *value),
                None => page.sample(&name, &[], *value),
            }
        }
    }
}

/// The labels of a stage.
fn place(plan: &Plan, cell: usize, stage: usize) -> [(&'static str, &str); 2] {
    let cell = &plan.cells[cell];
    [("cell", &cell.id), ("stage", &cell.stages[stage].name)]
}

/// `gpu.memory_used` in bytes is `gpu_memory_used_bytes`: names end with the base unit, as Prometheus wants it.
fn sample_name(metric: &str) -> String {
    let ending = match find(metric).map(|metric| (metric.kind, metric.dimension)) {
        Some((Kind::Counter, Dimension::ENERGY)) => "_joules_total",
        Some((Kind::Counter, _)) => "_total",
        Some((_, Dimension::NONE)) => "_ratio",
        Some((_, Dimension::TIME)) => "_seconds",
        Some((_, Dimension::BYTE)) => "_bytes",
        Some((_, Dimension::POWER)) => "_watts",
        Some((_, Dimension::TEMPERATURE)) => "_celsius",
        Some((_, Dimension::FREQUENCY)) => "_hertz",
        Some(_) | None => "",
    };
    format!("{}{ending}", metric.replace('.', "_"))
}

/// The text format; every name begins with `scenario_`.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP scenario_{name} {help}\n# TYPE scenario_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let _ = match labels.as_slice() {
            [] => writeln!(self.0, "scenario_{name} {value}"),
            labels => writeln!(self.0, "scenario_{name}{{{}}} {value}", labels.join(",")),
        };
    }

    fn histogram(&mut self, name: &str, place: [(&str, &str); 2], bounds: &[f64], of: &Histogram) {
        let [cell, stage] = place;
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(&of.counts) {
            below += count;
            self.sample(
                &bucket,
                &[cell, stage, ("le", &bound.to_string())],
                below as f64,
            );
        }
        self.sample(&bucket, &[cell, stage, ("le", "+Inf")], of.n as f64);
        self.sample(&format!("{name}_sum"), &place, of.sum);
        self.sample(&format!("{name}_count"), &place, of.n as f64);
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_upwards_and_ends_with_all() {
        let mut of = Histogram::default();
        for value in [0.0001, 0.003, 0.003, 7.0] {
            of.add(LAG, value);
        }
        let mut page = Page(String::new());
        page.histogram("lag_seconds", [("cell", "a\"b"), ("stage", "c4")], LAG, &of);
        let lines: Vec<&str> = page.0.lines().collect();
        let here = "cell=\"a\\\"b\",stage=\"c4\"";
        assert_eq!(
            lines[0],
            format!("scenario_lag_seconds_bucket{{{here},le=\"0.0001\"}} 1")
        );
        assert_eq!(
            lines[4],
            format!("scenario_lag_seconds_bucket{{{here},le=\"0.005\"}} 3")
        );
        assert_eq!(
            lines[9],
            format!("scenario_lag_seconds_bucket{{{here},le=\"+Inf\"}} 4")
        );
        assert_eq!(
            lines[10],
            format!("scenario_lag_seconds_sum{{{here}}} 7.0061")
        );
        assert_eq!(lines[11], format!("scenario_lag_seconds_count{{{here}}} 4"));
    }

    #[test]
    fn names_of_samples_end_with_their_base_unit() {
        let named = [
            "gpu.util",
            "gpu.memory_used",
            "gpu.power",
            "gpu.temperature",
            "queue",
            "client.cpu",
        ]
        .map(sample_name);
        assert_eq!(
            named,
            [
                "gpu_util_ratio",
                "gpu_memory_used_bytes",
                "gpu_power_watts",
                "gpu_temperature_celsius",
                "queue",
                "client_cpu_ratio"
            ]
        );
    }
}
