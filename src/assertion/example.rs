//! How each metric is asserted: what schema, editors and help show of it.

use super::registry::{Better, Kind, Metric};

/// An assertion of a metric with an aggregate and a unit that it can have.
pub fn example(metric: &Metric) -> String {
    let aggregate = match metric.kind {
        Kind::Trend | Kind::Gap => match metric.better {
            Better::Higher => "P10 ",
            Better::Lower | Better::Neither => "P95 ",
        },
        Kind::Gauge if metric.better == Better::Higher => "mean ",
        Kind::Gauge => "max ",
        Kind::Rate | Kind::Counter | Kind::Flow | Kind::Derived => "",
    };
    let comparison = match metric.better {
        Better::Higher => ">",
        Better::Lower | Better::Neither => "<",
    };
    let bound = match (metric.share, metric.better, metric.unit()) {
        (true, Better::Lower, _) => "1%",
        (true, Better::Higher | Better::Neither, _) => "90%",
        (_, _, "ms") => "500ms",
        (_, _, "tok") => "1000tok",
        (_, _, "tok/s") => "20tok/s",
        (_, _, "req/s") => "10req/s",
        (_, _, "req") => "10req",
        (_, _, "B") => "78GiB",
        (_, _, "W") => "300W",
        (_, _, "J") => "100000J",
        (_, _, "°C") => "85°C",
        (_, _, "MHz") => "2000MHz",
        (_, _, "J/tok") => "0.9J/tok",
        (_, _, "tok/J") => "1tok/J",
        (_, _, "$") => "2$",
        _ => "10",
    };
    format!("{aggregate}{} {comparison} {bound}", metric.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertion::{Context, metrics, parse};
    use crate::diagnostic::Span;

    #[test]
    fn every_example_is_an_assertion_without_a_doubt() {
        for metric in metrics() {
            let text = example(metric);
            let context = Context {
                ids: &[],
                scoped_metric: None,
            };
            let (read, found) = parse(&text, Span::default(), context);
            assert!(read.is_some() && found.is_empty(), "{text}: {found:?}");
        }
    }
}
