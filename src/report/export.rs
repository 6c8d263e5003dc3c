//! The numbers of a report as other systems take them: OTLP metrics as JSON over HTTP, and Prometheus' remote write. One point for
//! each statistic of each metric of each measured stage, as in `summary.csv`, and one for how each SLO stands.

use prost::Message;
use serde_json::{Value, json};

use super::Report;
use super::model::StageNumbers;

/// One number of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The metric as in the report: `ttft`, `gpu.power`, `slo`.
    pub metric: String,
    /// Its unit; shares are fractions with an empty one.
    pub unit: String,
    /// What it is said of.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// Every number of a report.
pub fn points(report: &Report) -> Vec<Point> {
    let mut points = Vec::new();
    for cell in &report.cells {
        for stage in cell.stages.iter().filter(|stage| stage.measured) {
            let place = vec![
                ("cell", cell.id.clone()),
                ("backend", cell.backend.clone()),
                ("model", cell.model.clone()),
                ("prompts", cell.prompts.clone()),
                ("load", cell.load.clone()),
                ("stage", stage.name.clone()),
            ];
            if let Some(numbers) = &stage.numbers {
                stage_points(&mut points, &place, numbers);
            }
        }
    }
    for verdict in &report.verdicts {
        points.push(Point {
            metric: "slo".to_owned(),
            unit: String::new(),
            labels: vec![
                ("slo", verdict.id.clone()),
                ("cell", verdict.cells.join(",")),
                ("stage", verdict.stage.clone().unwrap_or_default()),
                ("state", verdict.status.name().to_owned()),
            ],
            value: 1.0,
        });
    }
    let common = [
        ("scenario", report.scenario.name.clone()),
        ("simulated", report.simulated.to_string()),
    ];
    for point in &mut points {
        point.labels.extend(common.clone());
    }
    points
}

fn stage_points(points: &mut Vec<Point>, place: &[(&'static str, String)], numbers: &StageNumbers) {
    let mut add = |metric: &str, stat: &str, unit: &str, value: f64| {
        let mut labels = place.to_vec();
        labels.push(("stat", stat.to_owned()));
        points.push(Point {
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            labels,
            value,
        });
    };
    for (outcome, count) in numbers.counts() {
        add("requests", outcome, "req", count as f64);
    }
    for (name, metric) in &numbers.metrics {
        for (stat, value) in &metric.stats {
            add(name, stat, &metric.unit, *value);
        }
    }
}

/// When a report's numbers are true: the end of its run, in milliseconds since the Unix epoch.
///
/// # Errors
/// The report tells no instant at which the run began.
pub fn ended_ms(report: &Report) -> Result<i64, jiff::Error> {
    let began: jiff::Timestamp = report.started.parse()?;
    Ok(began.as_millisecond() + (report.duration_s * 1e3) as i64)
}

// ---- OTLP --------------------------------------------------------------------------------------------------------------

/// `ExportMetricsServiceRequest` in the JSON encoding of OTLP: one gauge for each metric, named `scenario.METRIC`.
pub fn otlp(report: &Report, at_ms: i64) -> Value {
    let points = points(report);
    let mut metrics: Vec<(&str, &str, Vec<Value>)> = Vec::new();
    for point in &points {
        let attributes = point
            .labels
            .iter()
            .map(|(key, value)| attribute(key, value));
        let told = json!({
            "attributes": attributes.collect::<Vec<_>>(),
            "timeUnixNano": (i128::from(at_ms) * 1_000_000).to_string(),
            "asDouble": point.value,
        });
        match metrics
            .iter_mut()
            .find(|(name, unit, _)| (*name, *unit) == (&point.metric, &point.unit))
        {
            Some((_, _, list)) => list.push(told),
            None => metrics.push((&point.metric, &point.unit, vec![told])),
        }
    }
    let metrics: Vec<Value> = metrics
        .into_iter()
        .map(|(name, unit, points)| {
            let unit = if unit.is_empty() { "1" } else { unit };
            json!({ "name": format!("scenario.{name}"), "unit": unit, "gauge": { "dataPoints": points } })
        })
        .collect();
    json!({
        "resourceMetrics": [{
            "resource": { "attributes": [
                attribute("service.name", "scenario"),
                attribute("service.version", &report.tool),
                attribute("scenario.plan_digest", &report.plan_digest),
            ] },
            "scopeMetrics": [{
                "scope": { "name": "scenario", "version": report.tool },
                "metrics": metrics,
            }],
        }],
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

// ---- Prometheus' remote write ------------------------------------------------------------------------------------------

/// Messages of remote write 1.0: `prometheus.WriteRequest` and what it holds.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// The body of a remote write: protobuf in a block of Snappy. A metric is named `scenario_METRIC_UNIT`.
pub fn remote_write(report: &Report, at_ms: i64) -> Vec<u8> {
    let timeseries = points(report).into_iter().map(|point| TimeSeries {
        labels: labels(&point),
        samples: vec![Sample {
            value: point.value,
            timestamp: at_ms,
        }],
    });
    let request = WriteRequest {
        timeseries: timeseries.collect(),
    };
    snap::raw::Encoder::new()
        .compress_vec(&request.encode_to_vec())
        .expect("a report is far below the 4 GiB that a block may have")
}

/// In the order of their names, as the protocol wants them.
fn labels(point: &Point) -> Vec<Label> {
    let name = match point.metric.as_str() {
        "slo" => "scenario_slo_state".to_owned(),
        metric => series_name(metric, &point.unit),
    };
    let own = point.labels.iter().filter(|(_, value)| !value.is_empty());
    let mut labels: Vec<Label> = own
        .map(|(name, value)| Label {
            name: (*name).to_owned(),
            value: value.clone(),
        })
        .collect();
    labels.push(Label {
        name: "__name__".to_owned(),
        value: name,
    });
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    labels
}

/// `gpu.power` in `W` is `scenario_gpu_power_W`: as the report names it, in letters that Prometheus takes.
fn series_name(metric: &str, unit: &str) -> String {
    let unit = unit.replace('/', "_per_").replace('°', "deg");
    let name = match unit.as_str() {
        "" => format!("scenario_{metric}"),
        unit => format!("scenario_{metric}_{unit}"),
    };
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_letters_that_prometheus_takes() {
        assert_eq!(series_name("ttft", "ms"), "scenario_ttft_ms");
        assert_eq!(
            series_name("output_tps", "tok/s"),
            "scenario_output_tps_tok_per_s"
        );
        assert_eq!(series_name("gpu.util", ""), "scenario_gpu_util");
        assert_eq!(
            series_name("gpu.temperature", "°C"),
            "scenario_gpu_temperature_degC"
        );
    }
}
