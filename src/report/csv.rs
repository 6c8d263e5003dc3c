//! `requests.csv` and `summary.csv`.

use super::model::{Metric, RequestRow, StageNumbers};
use super::{Report, View, wording};

const REQUESTS: [&str; 21] = [
    "cell",
    "repeat",
    "stage",
    "index",
    "outcome",
    "status",
    "intended_ms",
    "dispatched_ms",
    "first_token_ms",
    "last_token_ms",
    "finished_ms",
    "ttft_ms",
    "e2e_ms",
    "tpot_ms",
    "input_tokens",
    "output_tokens",
    "token_source",
    "category",
    "reused",
    "adapter",
    "interface",
];

const SUMMARY: [&str; 9] = [
    "cell",
    "repeat",
    "stage",
    "metric",
    "stat",
    "value",
    "unit",
    "n",
    "interface",
];

/// `requests.csv`: one row a request, written as it comes so that no run is too long for it.
///
/// # Errors
/// When the sink cannot be written.
pub fn requests(
    rows: impl IntoIterator<Item = RequestRow>,
    sink: impl std::io::Write,
) -> std::io::Result<()> {
    let mut writer = Fields {
        writer: ::csv::Writer::from_writer(sink),
        text: String::new(),
    };
    writer.writer.write_record(REQUESTS)?;
    for row in rows {
        writer.request(&row)?;
    }
    writer.writer.flush()
}

/// Writes field after field through one text, since a million requests have twenty million of them.
struct Fields<W: std::io::Write> {
    writer: ::csv::Writer<W>,
    text: String,
}

impl<W: std::io::Write> Fields<W> {
    fn field(&mut self, value: impl std::fmt::Display) -> std::io::Result<()> {
        use std::fmt::Write as _;
        self.text.clear();
        let _ = write!(self.text, "{value}");
        Ok(self.writer.write_field(&self.text)?)
    }

    fn optional(&mut self, value: Option<impl std::fmt::Display>) -> std::io::Result<()> {
        match value {
            Some(value) => self.field(value),
            None => Ok(self.writer.write_field("")?),
        }
    }

    fn request(&mut self, row: &RequestRow) -> std::io::Result<()> {
        self.field(&row.cell)?;
        self.field(row.repeat)?;
        self.field(&row.stage)?;
        self.field(row.index)?;
        self.field(&row.outcome)?;
        self.optional(row.status)?;
        self.field(row.intended_ms)?;
        self.optional(row.dispatched_ms)?;
        self.optional(row.first_token_ms)?;
        self.optional(row.last_token_ms)?;
        self.field(row.finished_ms)?;
        self.optional(row.ttft_ms)?;
        self.optional(row.e2e_ms)?;
        self.optional(row.tpot_ms)?;
        self.optional(row.input_tokens)?;
        self.optional(row.output_tokens)?;
        self.field(&row.token_source)?;
        self.optional(row.category.as_ref())?;
        self.field(row.reused)?;
        self.optional(row.adapter.as_ref())?;
        self.field(&row.interface)?;
        Ok(self.writer.write_record(None::<&[u8]>)?)
    }
}

/// `summary.csv`: one row for each statistic of each metric of each stage and repeat, and for each count.
pub fn summary(report: &Report, _view: &View) -> String {
    let mut rows = vec![SUMMARY.map(str::to_owned)];
    for cell in &report.cells {
        let interface = wording::interface_of(report, &cell.backend);
        for stage in cell.stages.iter().filter(|stage| cell.was_asked(stage)) {
            if stage.repeats.is_empty() {
                let repeat = cell.runs.first().map_or(0, |run| run.repeat);
                if let Some(numbers) = &stage.numbers {
                    stage_rows(
                        &mut rows,
                        [&cell.id, &repeat.to_string(), &stage.name, interface],
                        numbers,
                    );
                }
            }
            for repeat in &stage.repeats {
                let number = repeat.repeat.to_string();
                stage_rows(
                    &mut rows,
                    [&cell.id, &number, &stage.name, interface],
                    &repeat.numbers,
                );
            }
        }
    }
    text(&rows)
}

fn stage_rows(rows: &mut Vec<[String; 9]>, place: [&str; 4], numbers: &StageNumbers) {
    let mut add = |metric: &str, stat: &str, value: String, unit: &str, n: u64| {
        let [cell, repeat, stage, interface] = place;
        rows.push(
            [
                cell,
                repeat,
                stage,
                metric,
                stat,
                &value,
                unit,
                &n.to_string(),
                interface,
            ]
            .map(str::to_owned),
        );
    };
    for (name, count) in numbers.counts() {
        add("requests", name, count.to_string(), "req", numbers.planned);
    }
    let mut add_metric = |name: &str, metric: &Metric| {
        for (stat, value) in &metric.stats {
            add(name, stat, value.to_string(), &metric.unit, metric.n);
        }
    };
    for (name, metric) in &numbers.metrics {
        add_metric(name, metric);
    }
    for category in &numbers.categories {
        for (name, metric) in &category.metrics {
            add_metric(&format!("{name}{{category={}}}", category.name), metric);
        }
    }
}

fn text(rows: &[[String; 9]]) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("memory takes every row");
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("rows of text are text")
}
