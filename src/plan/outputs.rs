//! What is written and sent besides the folder of results.

use super::backends::header_value;
use super::{Output, Plots, Receiver};
use crate::diagnostic::Sources;
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

/// The plots that a scenario asks for.
pub(super) fn plots(spec: &ScenarioSpec) -> Option<Plots> {
    let report = spec.report.as_ref()?;
    let names = report.plots.as_ref()?.0.iter();
    let names: Vec<String> = names.map(|name| name.value.clone()).collect();
    let all = names.iter().any(|name| name == "all");
    Some(Plots {
        names: if all { Vec::new() } else { names },
        svg: report
            .plot_format
            .as_ref()
            .is_some_and(|format| format.value == PlotFormat::Svg),
    })
}
