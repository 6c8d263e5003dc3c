//! What is written and sent besides the folder of results.

use std::collections::BTreeSet;

use super::backends::header_value;
use super::{Cell, Output, Plots, Receiver};
use crate::diagnostic::{Diagnostic, Sources, did_you_mean};
use crate::spec::{OutputFormat, OutputKind, PlotFormat, ScenarioSpec};

/// The outputs that a scenario asks for. A file without a path is written anyway; of Parquet that is said first.
pub(super) fn outputs(spec: &ScenarioSpec, sources: &Sources) -> Vec<Output> {
    let mut outputs = Vec::new();
    for written in spec.outputs.iter().flatten() {
        let receiver = || Receiver {
            url: written
                .url
                .as_ref()
                .map_or(String::new(), |url| url.value.to_string()),
            headers: headers(written),
        };
        let name = match written.format.value {
            OutputKind::Otlp => {
                outputs.push(Output::Otlp(receiver()));
                continue;
            }
            OutputKind::Prometheus => {
                outputs.push(Output::Prometheus(receiver()));
                continue;
            }
            OutputKind::RequestsParquet => {
                outputs.push(Output::Parquet);
                "requests.parquet"
            }
            OutputKind::Json => "report.json",
            OutputKind::Junit => "junit.xml",
            OutputKind::SummaryCsv => "summary.csv",
            OutputKind::RequestsCsv => "requests.csv",
            OutputKind::RequestsNdjson => "requests.ndjson",
            OutputKind::Markdown => "summary.md",
            OutputKind::Html => "report.html",
        };
        if let Some(path) = &written.path {
            outputs.push(Output::Copy {
                name,
                path: sources.directory(path.span.source).join(&path.value),
            });
        }
    }
    outputs
}

fn headers(written: &OutputFormat) -> Vec<(String, super::HeaderValue)> {
    let headers = written.headers.iter().flatten();
    headers
        .map(|header| (header.key.value.clone(), header_value(&header.value)))
        .collect()
}

/// The names of plots that do not depend on the scenario.
const PLOTS: [&str; 16] = [
    "throughput_all_combined",
    "cross_model_comparison",
    "latency_heatmap",
    "gpu_comparison",
    "scaling_efficiency",
    "summary_table",
    "throughput_comparison",
    "latency_comparison",
    "duration_comparison",
    "gpu_utilization",
    "latency_histogram",
    "performance_comparison",
    "benchmark_results",
    "throughput_scaling",
    "latency_throughput_pareto",
    "slo_heatmap",
];

/// Every plot that may be drawn of these cells; what a run has nothing to draw of is missing in the end.
fn plot_names(cells: &[Cell]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = PLOTS.map(str::to_owned).into();
    for cell in cells {
        names.insert(format!("throughput_{}", cell.model.key));
        names.insert(format!("gpu_timeseries_{}", cell.backend.id));
        let levels = cell.stages.iter().filter_map(|stage| stage.users);
        names.extend(levels.map(|level| format!("latency_c{level}")));
    }
    names
}

/// The plots that a scenario asks for. Where cells were left out nobody knows whether a name is theirs.
pub(super) fn plots(
    spec: &ScenarioSpec,
    cells: &[Cell],
    some_left_out: bool,
    found: &mut Vec<Diagnostic>,
) -> Option<Plots> {
    let report = spec.report.as_ref()?;
    let written = &report.plots.as_ref()?.0;
    let known = plot_names(cells);
    for name in written.iter().filter(|name| name.value != "all") {
        let begins = |plot: &String| plot.starts_with(name.value.as_str());
        if some_left_out || known.iter().any(begins) {
            continue;
        }
        let help = match did_you_mean(&name.value, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let all: Vec<&str> = known.iter().map(String::as_str).collect();
                format!("there are {}, and `all`", all.join(", "))
            }
        };
        let message = format!("no plot has a name that begins with `{}`", name.value);
        found.push(
            Diagnostic::error("S085", message)
                .at(name.span, "")
                .help(help),
        );
    }
    let names: Vec<String> = written.iter().map(|name| name.value.clone()).collect();
    let all = names.iter().any(|name| name == "all");
    Some(Plots {
        names: if all { Vec::new() } else { names },
        svg: report
            .plot_format
            .as_ref()
            .is_some_and(|format| format.value == PlotFormat::Svg),
    })
}
