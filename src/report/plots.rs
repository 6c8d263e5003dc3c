//! Plots as files: what the public suites draw, by their names, from the numbers of a report. A cell that is missing leaves a
//! gap, never a zero; whiskers reach over the repeats.

use std::sync::Arc;

use kuva::backend::png::PngBackend;
use kuva::backend::svg::SvgBackend;
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{BarPlot, ColorMap, Heatmap, LinePlot, ScatterPlot, TextPlot};
use kuva::render::annotations::TextAnnotation;
use kuva::render::figure::Figure;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::{Primitive, Scene, TextAnchor, render_multiple};

use super::charts::Charts;
use super::model::{Cell, Report, Stage, StageNumbers, VerdictStatus};
use super::told::distinct;
use super::{colours, wording};

/// A plot: the name of its file without its ending, and what is on it.
pub struct Drawn {
    /// `throughput_llama8b`.
    pub name: String,
    scene: Scene,
}

impl Drawn {
    /// As SVG.
    pub fn svg(&self) -> String {
        SvgBackend::default().render_scene(&self.scene)
    }

    /// As PNG, at twice its size so that it is sharp.
    ///
    /// # Errors
    /// The picture is too large for this machine's memory.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        PngBackend::new().render_scene(&self.scene)
    }
}

const HIGHER: &str = "(higher is better)";
const LOWER: &str = "(lower is better)";

/// Every plot that there is something to draw of.
pub fn plots(report: &Report, charts: &Charts) -> Vec<Drawn> {
    let book = Book::of(report);
    let labels = wording::labels(report);
    let mut drawn = Vec::new();
    let mut keep = |name: String, scene: Option<Scene>| {
        drawn.extend(scene.map(|scene| Drawn {
            name,
            scene: labelled(scene, &labels),
        }));
    };
    for model in book.models() {
        keep(format!("throughput_{model}"), book.throughput_of(model));
    }
    keep("throughput_all_combined".into(), book.throughput_of_all());
    keep("cross_model_comparison".into(), book.cross_model());
    keep("latency_heatmap".into(), book.heatmap());
    keep("gpu_comparison".into(), book.gpus());
    keep("scaling_efficiency".into(), book.scaling());
    keep("summary_table".into(), book.table());
    keep(
        "throughput_comparison".into(),
        book.at_peak(
            "Throughput",
            HIGHER,
            "Throughput (tokens/sec)",
            "output_tps value",
            1.0,
        ),
    );
    keep("latency_comparison".into(), book.latencies());
    keep("duration_comparison".into(), book.durations());
    keep(
        "gpu_utilization".into(),
        book.at_peak(
            "GPU Utilization",
            HIGHER,
            "GPU utilization (%)",
            "gpu.util mean",
            100.0,
        ),
    );
    keep("latency_histogram".into(), histograms(&book, charts));
    for backend in book.backends() {
        keep(
            format!("gpu_timeseries_{backend}"),
            gpu_timeseries(&book, charts, backend),
        );
    }
    keep("performance_comparison".into(), book.performance());
    keep("benchmark_results".into(), book.benchmark());
    for level in book.levels() {
        keep(format!("latency_c{level}"), book.latency_at(level));
    }
    keep("throughput_scaling".into(), book.throughput_scaling());
    keep("latency_throughput_pareto".into(), book.pareto());
    keep("slo_heatmap".into(), slo_heatmap(report));
    drawn
}

/// What every picture of a simulated, shortened or interrupted run carries, in a line of its own below it.
fn labelled(mut scene: Scene, labels: &str) -> Scene {
    if !labels.is_empty() {
        scene.height += 22.0;
        scene.add(Primitive::Text {
            x: scene.width - 10.0,
            y: scene.height - 8.0,
            content: labels.to_owned(),
            size: 13,
            anchor: TextAnchor::End,
            rotate: None,
            bold: true,
            color: None,
        });
    }
    scene
}

/// The cells of a report as they are drawn.
struct Book<'a> {
    lines: Vec<Line<'a>>,
    /// Memory of the largest GPU in bytes.
    memory: Option<f64>,
}

/// A cell, its colour, and its measured stages with their load.
struct Line<'a> {
    cell: &'a Cell,
    name: String,
    colour: &'static str,
    points: Vec<(f64, &'a Stage, &'a StageNumbers)>,
}

impl<'a> Line<'a> {
    /// Model, prompts and load.
    fn kind(&self) -> [&'a str; 3] {
        let cell = self.cell;
        [&cell.model, &cell.prompts, &cell.load]
    }
}

/// A statistic of a stage, and how far its repeats reach.
#[derive(Clone, Copy)]
struct Value {
    value: f64,
    low: f64,
    high: f64,
}

fn value(stage: &Stage, path: &str, scale: f64) -> Option<Value> {
    let (metric, stat) = path.split_once(' ')?;
    let of = |numbers: &StageNumbers| {
        let planned = format!("{metric}_intended");
        let planned = numbers.metrics.get(&planned).filter(|_| stage.open_loop);
        let metric = planned.or_else(|| numbers.metrics.get(metric))?;
        Some(wording::statistic(metric, stat)? * scale)
    };
    let value = of(stage.numbers.as_ref()?)?;
    let repeats: Vec<f64> = stage
        .repeats
        .iter()
        .filter_map(|one| of(&one.numbers))
        .collect();
    Some(Value {
        value,
        low: repeats.iter().copied().fold(value, f64::min),
        high: repeats.iter().copied().fold(value, f64::max),
    })
}

/// How long a stage took, in seconds: of several repeats the mean of them.
fn took(stage: &Stage, numbers: &StageNumbers) -> Value {
    let repeats = stage.repeats.iter().map(|one| one.numbers.duration_s);
    let value = match stage.repeats.len() {
        0 => numbers.duration_s,
        several => repeats.clone().sum::<f64>() / several as f64,
    };
    Value {
        value,
        low: repeats.clone().fold(value, f64::min),
        high: repeats.fold(value, f64::max),
    }
}

impl<'a> Book<'a> {
    fn of(report: &'a Report) -> Book<'a> {
        let names = wording::short_ids(report);
        let colours = colours::of_cells(report);
        let lines = report.cells.iter().zip(names).zip(colours);
        Book {
            memory: (report.environment.largest_gpu_memory()).map(|bytes| bytes as f64),
            lines: lines
                .map(|((cell, name), colour)| Line {
                    cell,
                    name,
                    colour,
                    points: points(cell),
                })
                .collect(),
        }
    }

    fn models(&self) -> Vec<&'a str> {
        distinct(self.lines.iter().map(|line| line.cell.model.as_str()))
    }

    /// What a backend is measured on: model, prompts and load, each with the name of its row, which tells of prompts and loads
    /// where there are several.
    fn kinds(&self) -> Vec<([&'a str; 3], String)> {
        let differs = |part: usize| {
            let all = distinct(self.lines.iter().map(|line| line.kind()[part]));
            part == 0 || all.len() > 1
        };
        let told: Vec<usize> = (0..3).filter(|part| differs(*part)).collect();
        let mut kinds: Vec<([&str; 3], String)> = Vec::new();
        for kind in self.lines.iter().map(Line::kind) {
            if !kinds.iter().any(|(known, _)| *known == kind) {
                let name: Vec<&str> = told.iter().map(|part| kind[*part]).collect();
                kinds.push((kind, name.join("/")));
            }
        }
        kinds
    }

    fn backends(&self) -> Vec<&'a str> {
        distinct(self.lines.iter().map(|line| line.cell.backend.as_str()))
    }

    /// The levels that are whole numbers of users.
    fn levels(&self) -> Vec<u32> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let mut levels: Vec<u32> = points.filter_map(|(_, stage, _)| stage.users).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    fn load_name(&self) -> &'static str {
        let mut points = self.lines.iter().flat_map(|line| &line.points);
        if points.all(|(_, stage, _)| stage.users.is_some()) {
            "Concurrency (users)"
        } else {
            "Load (users or requests per second)"
        }
    }

    // ---- lines ----

    /// Lines of a statistic over the load, on these cells.
    fn curves(&self, of: impl Fn(&Line) -> bool, path: &str, scale: f64) -> Vec<Plot> {
        self.curves_over(of, |x, _| Some(x), |stage, _| value(stage, path, scale))
    }

    fn curves_over(
        &self,
        of: impl Fn(&Line) -> bool,
        x: impl Fn(f64, &Stage) -> Option<f64>,
        y: impl Fn(&Stage, f64) -> Option<Value>,
    ) -> Vec<Plot> {
        let mut plots = Vec::new();
        for line in self.lines.iter().filter(|line| of(line)) {
            // Where a level has no value the line breaks off, and goes on behind it.
            let mut pieces: Vec<Vec<(f64, Value)>> = vec![Vec::new()];
            for (load, stage) in loads(line.cell) {
                match (x(load, stage), y(stage, load), pieces.last_mut()) {
                    (Some(x), Some(y), Some(piece)) => piece.push((x, y)),
                    _ => pieces.push(Vec::new()),
                }
            }
            let seen: Vec<(f64, Value)> = pieces.iter().flatten().copied().collect();
            if seen.is_empty() {
                continue;
            }
            let alike = self
                .lines
                .iter()
                .take_while(|other| other.name != line.name);
            let alike = alike
                .filter(|other| other.colour == line.colour && of(other))
                .count();
            for piece in pieces.iter().filter(|piece| piece.len() > 1) {
                let curve = LinePlot::new()
                    .with_data(piece.iter().map(|(x, y)| (*x, y.value)))
                    .with_color(line.colour)
                    .with_stroke_width(2.0);
                plots.push(Plot::Line(if alike == 0 {
                    curve
                } else {
                    curve.with_dashed()
                }));
            }
            let mut dots = ScatterPlot::new()
                .with_data(seen.iter().map(|(x, y)| (*x, y.value)))
                .with_color(line.colour)
                .with_marker(MARKERS[alike % MARKERS.len()])
                .with_size(5.0)
                .with_legend(line.name.clone());
            if seen.iter().any(|(_, y)| y.low < y.high) {
                let reach = seen
                    .iter()
                    .map(|(_, y)| (y.value - y.low, y.high - y.value));
                dots = dots.with_y_err_asymmetric(reach);
            }
            plots.push(Plot::Scatter(dots));
        }
        plots
    }

    fn throughput_of(&self, model: &str) -> Option<Scene> {
        let plots = self.curves(|line| line.cell.model == model, "output_tps value", 1.0);
        alone(
            plots,
            &format!("{model} - Throughput vs Concurrency {HIGHER}"),
            self.load_name(),
            "Throughput (Tokens/sec)",
        )
    }

    fn throughput_of_all(&self) -> Option<Scene> {
        let plots = self.curves(|_| true, "output_tps value", 1.0);
        alone(
            plots,
            &format!("All Models & Backends - Throughput Comparison {HIGHER}"),
            self.load_name(),
            "Throughput (Tokens/sec)",
        )
    }

    fn scaling(&self) -> Option<Scene> {
        let plots = self.curves_over(
            |_| true,
            |x, _| Some(x),
            |stage, load| {
                value(
                    stage,
                    "output_tps value",
                    1.0 / f64::max(load, f64::MIN_POSITIVE),
                )
            },
        );
        alone(
            plots,
            &format!("Scaling Efficiency - TPS per Concurrent Request {HIGHER}"),
            self.load_name(),
            "TPS / concurrency",
        )
    }

    fn throughput_scaling(&self) -> Option<Scene> {
        let plots = self.curves(|_| true, "output_tps value", 1.0);
        let title = format!(
            "Throughput Scaling: {} {HIGHER}",
            self.backends().join(" vs ")
        );
        alone(plots, &title, self.load_name(), "Throughput (tokens/sec)")
    }

    fn pareto(&self) -> Option<Scene> {
        let mut plots = self.curves_over(
            |_| true,
            |_, stage| Some(value(stage, "output_tps value", 1.0)?.value),
            |stage, _| value(stage, "ttft p95", 1.0),
        );
        plots.extend(self.front());
        alone(
            plots,
            "Latency against Throughput (right and down is better)",
            "Throughput (tokens/sec)",
            "P95 TTFT (ms)",
        )
    }

    /// The points that no other beats by both throughput and latency.
    fn front(&self) -> Option<Plot> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let points: Vec<(f64, f64)> = points
            .filter_map(|(_, stage, _)| {
                let tps = value(stage, "output_tps value", 1.0)?.value;
                Some((tps, value(stage, "ttft p95", 1.0)?.value))
            })
            .collect();
        let beats = |one: &(f64, f64), other: &(f64, f64)| {
            one.0 >= other.0 && one.1 <= other.1 && one != other
        };
        let mut front: Vec<(f64, f64)> = points
            .iter()
            .filter(|own| !points.iter().any(|other| beats(other, own)))
            .copied()
            .collect();
        front.sort_by(|one, other| one.0.total_cmp(&other.0));
        let line = LinePlot::new()
            .with_data(front)
            .with_color("#808080")
            .with_stroke_width(1.5)
            .with_dotted()
            .with_legend("Pareto front");
        (!points.is_empty()).then_some(Plot::Line(line))
    }

    fn benchmark(&self) -> Option<Scene> {
        panels(
            1,
            3,
            [
                (
                    self.curves(|_| true, "rps value", 1.0),
                    format!("Throughput (requests/sec) {HIGHER}"),
                    "requests/sec",
                ),
                (
                    self.curves(|_| true, "e2e mean", 1e-3),
                    format!("Average Latency (seconds) {LOWER}"),
                    "seconds",
                ),
                (
                    self.curves(|_| true, "ttft mean", 1e-3),
                    format!("Avg Time to First Token (seconds) {LOWER}"),
                    "seconds",
                ),
            ]
            .map(|(plots, title, y)| (plots, title, "Concurrency Level", y)),
            "",
        )
    }

    // ---- bars at the highest level ----

    fn peaks(&self, path: &str, scale: f64) -> Vec<(String, &'static str, Value)> {
        let peaks = self.lines.iter().filter_map(|line| {
            let (_, stage, _) = line.points.last()?;
            Some((line.name.clone(), line.colour, value(stage, path, scale)?))
        });
        peaks.collect()
    }

    fn at_peak(&self, what: &str, better: &str, y: &str, path: &str, scale: f64) -> Option<Scene> {
        let bars = bars(&self.peaks(path, scale));
        alone(
            bars,
            &format!("{what} at the Highest Level {better}"),
            "",
            y,
        )
    }

    fn peak_durations(&self) -> Vec<(String, &'static str, Value)> {
        let peaks = self.lines.iter().filter_map(|line| {
            let (_, stage, numbers) = line.points.last()?;
            Some((line.name.clone(), line.colour, took(stage, numbers)))
        });
        peaks.collect()
    }

    fn durations(&self) -> Option<Scene> {
        alone(
            bars(&self.peak_durations()),
            &format!("Duration at the Highest Level {LOWER}"),
            "",
            "Duration (s)",
        )
    }

    fn cross_model(&self) -> Option<Scene> {
        let duration = |line: &Line| Some(took(line.points.last()?.1, line.points.last()?.2));
        panels(
            1,
            2,
            [
                (
                    self.grouped(peak_throughput),
                    format!("Peak Throughput by Model & Backend {HIGHER}"),
                    "Backend",
                    "Throughput (Tokens/sec)",
                ),
                (
                    self.grouped(duration),
                    format!("Peak Concurrency Duration by Model & Backend {LOWER}"),
                    "Backend",
                    "Duration (s)",
                ),
            ],
            "",
        )
    }

    /// A group of bars for each backend, in it one for each model; where a backend has no such cell there is a gap.
    fn grouped(&self, of: impl Fn(&Line<'a>) -> Option<Value>) -> Vec<Plot> {
        let models = self.models();
        let mut seen = false;
        let (mut plot, mut reach) = (BarPlot::new(), Vec::new());
        for backend in self.backends() {
            let bars: Vec<(f64, &str)> = models
                .iter()
                .zip(PALETTE.iter().cycle())
                .map(|(model, colour)| {
                    let value = self.fastest(backend, model).and_then(&of);
                    seen |= value.is_some();
                    reach.push(value.map_or((0.0, 0.0), |v| (v.value - v.low, v.high - v.value)));
                    (value.map_or(0.0, |value| value.value), *colour)
                })
                .collect();
            plot = plot.with_group(backend, bars);
        }
        if reach.iter().any(|(low, high)| low + high > 0.0) {
            plot = plot.with_asymmetric_error(reach);
        }
        if seen {
            vec![Plot::Bar(plot.with_legend(models))]
        } else {
            Vec::new()
        }
    }

    /// Of a model's cells on a backend the one with the greatest throughput at its highest level.
    fn fastest(&self, backend: &str, model: &str) -> Option<&Line<'a>> {
        let own = self
            .lines
            .iter()
            .filter(|line| line.cell.backend == backend && line.cell.model == model);
        let speed = |line: &Line| peak_throughput(line).map_or(-1.0, |seen| seen.value);
        own.filter(|line| !line.points.is_empty())
            .reduce(|best, next| {
                if speed(next) > speed(best) {
                    next
                } else {
                    best
                }
            })
    }

    fn gpus(&self) -> Option<Scene> {
        panels(
            1,
            2,
            [
                (
                    bars(&self.peaks("gpu.util mean", 100.0)),
                    format!("Peak GPU Utilization {HIGHER}"),
                    "",
                    "mean utilization (%)",
                ),
                (
                    bars(&self.peaks("gpu.power mean", 1.0)),
                    format!("Peak Power Consumption {LOWER}"),
                    "",
                    "mean power (W)",
                ),
            ],
            "",
        )
    }

    fn latencies(&self) -> Option<Scene> {
        panels(
            1,
            2,
            [
                (
                    bars(&self.peaks("ttft mean", 1.0)),
                    format!("Mean TTFT {LOWER}"),
                    "",
                    "TTFT (ms)",
                ),
                (
                    bars(&self.peaks("e2e mean", 1e-3)),
                    format!("Mean E2E Latency {LOWER}"),
                    "",
                    "E2E (s)",
                ),
            ],
            "Latency at the Highest Level",
        )
    }

    fn performance(&self) -> Option<Scene> {
        // Without the size of a GPU its memory can be told in bytes alone.
        let (memory, scale) = match self.memory {
            Some(bytes) => ("Memory (%)", 100.0 / bytes),
            None => ("Memory (GiB)", 1.0 / (1u64 << 30) as f64),
        };
        panels(
            2,
            2,
            [
                (
                    bars(&self.peaks("output_tps value", 1.0)),
                    format!("Throughput {HIGHER}"),
                    "",
                    "Throughput (tokens/sec)",
                ),
                (
                    self.pairs(|line| line.points.last().map(|(_, stage, _)| *stage)),
                    format!("Latency P50 / P95 {LOWER}"),
                    "",
                    "E2E (ms)",
                ),
                (
                    bars(&self.peaks("gpu.util mean", 100.0)),
                    format!("GPU Utilization {HIGHER}"),
                    "",
                    "Utilization (%)",
                ),
                (
                    bars(&self.peaks("gpu.memory_used max", scale)),
                    format!("Peak GPU Memory {LOWER}"),
                    "",
                    memory,
                ),
            ],
            "LLM Inference Engine Performance Comparison",
        )
    }

    /// E2E P50 and P95 of one stage of each cell side by side.
    fn pairs(&self, stage: impl Fn(&Line<'a>) -> Option<&'a Stage>) -> Vec<Plot> {
        let mut seen = Vec::new();
        for line in &self.lines {
            let Some(stage) = stage(line) else { continue };
            for percentile in ["p50", "p95"] {
                if let Some(value) = value(stage, &format!("e2e {percentile}"), 1.0) {
                    seen.push((
                        format!("{} {}", line.name, percentile.to_uppercase()),
                        line.colour,
                        value,
                    ));
                }
            }
        }
        bars(&seen)
    }

    fn latency_at(&self, level: u32) -> Option<Scene> {
        let at = |line: &Line<'a>| {
            let mut points = line.points.iter();
            points
                .find(|(_, stage, _)| stage.users == Some(level))
                .map(|(_, stage, _)| *stage)
        };
        alone(
            self.pairs(at),
            &format!("Latency Comparison — Concurrency {level} {LOWER}"),
            "",
            "Latency (ms)",
        )
    }

    // ---- tables ----

    fn heatmap(&self) -> Option<Scene> {
        let levels = self.levels();
        let kinds = self.kinds();
        let mut all = Vec::new();
        let every = self.lines.iter().flat_map(|line| &line.points);
        let scale = every
            .filter_map(|(_, stage, _)| value(stage, "e2e mean", 1e-3))
            .fold((f64::INFINITY, 0.0), |(low, high), seen| {
                (f64::min(low, seen.value), f64::max(high, seen.value))
            });
        for backend in self.backends() {
            let cell = |kind: &[&str; 3], level: u32| {
                let mut lines = self.lines.iter();
                let line =
                    lines.find(|line| line.cell.backend == backend && line.kind() == *kind)?;
                let mut points = line.points.iter();
                let (_, stage, _) = points.find(|(_, stage, _)| stage.users == Some(level))?;
                value(stage, "e2e mean", 1e-3).map(|value| value.value)
            };
            let rows: Vec<Vec<f64>> = kinds
                .iter()
                .map(|(kind, _)| {
                    levels
                        .iter()
                        .map(|level| cell(kind, *level).unwrap_or(f64::NAN))
                        .collect()
                })
                .collect();
            if rows.iter().flatten().any(|value| value.is_finite()) {
                let columns: Vec<String> = levels.iter().map(u32::to_string).collect();
                let names = kinds.iter().map(|(_, name)| name.clone()).collect();
                all.push((
                    grid(rows, names, columns, move |value| good_to_bad(value, scale)),
                    format!("{} - E2E Latency (seconds)", backend.to_uppercase()),
                    "Concurrency",
                    "Model",
                ));
            }
        }
        let columns = all.len();
        panels(1, columns, all, &format!("Mean E2E latency {LOWER}"))
    }

    fn table(&self) -> Option<Scene> {
        let head = [
            "Model",
            "Backend",
            "Conc",
            "TPS",
            "Duration",
            "E2E (s)",
            "GPU %",
            "Power (W)",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for line in &self.lines {
            let Some((load, stage, numbers)) = line.points.last() else {
                continue;
            };
            let said = |path: &str, scale: f64| {
                value(stage, path, scale)
                    .map_or("–".to_owned(), |value| wording::rounded(value.value))
            };
            rows.push(vec![
                line.cell.model.clone(),
                line.cell.backend.clone(),
                wording::rounded(*load),
                said("output_tps value", 1.0),
                format!("{} s", wording::rounded(took(stage, numbers).value)),
                said("e2e mean", 1e-3),
                said("gpu.util mean", 100.0),
                said("gpu.power mean", 1.0),
            ]);
        }
        if rows.len() < 2 {
            return None;
        }
        let mut rows = rows.into_iter();
        let head = rows.next()?;
        let body: Vec<Vec<String>> = rows.collect();
        let columns = head.len();
        // The columns are of one width; a text that is too long for it would break into lines.
        let longest = body.iter().flatten().map(|text| text.chars().count());
        let width = 30.0 + 10.0 * longest.max().unwrap_or(0).max(12) as f64;
        let texts = (0..columns).map(|column| {
            let values: Vec<&str> = body.iter().map(|row| row[column].as_str()).collect();
            vec![Plot::from(
                TextPlot::new()
                    .with_body(values.join("\n\n"))
                    .with_font_size(14),
            )]
        });
        let texts: Vec<Vec<Plot>> = texts.collect();
        let layouts = texts.iter().zip(&head).map(|(text, title)| {
            Layout::auto_from_plots(text)
                .with_title(title.clone())
                .with_title_size(15)
        });
        let figure = Figure::new(1, columns)
            .with_layouts(layouts.collect())
            .with_plots(texts)
            .with_title("Benchmark Results Summary (Peak Concurrency)")
            .with_spacing(0.0)
            .with_cell_size(width, 110.0 + 34.0 * body.len() as f64);
        Some(figure.render())
    }
}

/// Tokens per second at the highest level of a cell.
fn peak_throughput(line: &Line) -> Option<Value> {
    value(line.points.last()?.1, "output_tps value", 1.0)
}

/// The measured stages of a cell that were asked for, by their load.
fn loads(cell: &Cell) -> Vec<(f64, &Stage)> {
    let asked = |stage: &&Stage| stage.measured && cell.was_asked(stage);
    let stages = cell.stages.iter().filter(asked);
    let mut loads: Vec<(f64, &Stage)> = stages
        .filter_map(|stage| Some((stage.users.map(f64::from).or(stage.rate)?, stage)))
        .collect();
    loads.sort_by(|one, other| one.0.total_cmp(&other.0));
    loads
}

/// Those of them with numbers.
fn points(cell: &Cell) -> Vec<(f64, &Stage, &StageNumbers)> {
    let loads = loads(cell).into_iter();
    loads
        .filter_map(|(load, stage)| Some((load, stage, stage.numbers.as_ref()?)))
        .collect()
}

// ---- pictures --------------------------------------------------------------------------------------------------------

/// One bar for each name.
fn bars(values: &[(String, &'static str, Value)]) -> Vec<Plot> {
    if values.is_empty() {
        return Vec::new();
    }
    let named = values
        .iter()
        .map(|(name, colour, value)| (name.clone(), value.value, *colour));
    let mut plot = BarPlot::new().with_colored_bars(named);
    if values.iter().any(|(_, _, value)| value.low < value.high) {
        let reach = values
            .iter()
            .map(|(_, _, value)| (value.value - value.low, value.high - value.value));
        plot = plot.with_asymmetric_error(reach);
    }
    vec![Plot::Bar(plot)]
}

/// Values in a grid, rows from the top, coloured by their value; what is missing stays white.
fn grid(
    rows: Vec<Vec<f64>>,
    names: Vec<String>,
    columns: Vec<String>,
    colour: impl Fn(f64) -> String + Send + Sync + 'static,
) -> Vec<Plot> {
    let seen = rows.iter().flatten().filter(|value| value.is_finite());
    let (low, high) = seen.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    // The library tells where a value lies between the least and the largest of this grid alone.
    let by_share = move |share: f64| match share.is_finite() {
        true => colour(low + share * (high - low)),
        false => "#ffffff".to_owned(),
    };
    let map = Heatmap::new()
        .with_data(rows)
        .with_labels(names.clone(), columns)
        .with_y_categories(names)
        .with_color_map(ColorMap::Custom(Arc::new(by_share)));
    vec![Plot::Heatmap(map)]
}

const GREEN: [f64; 3] = [126.0, 200.0, 132.0];
const YELLOW: [f64; 3] = [255.0, 243.0, 176.0];
const RED: [f64; 3] = [240.0, 138.0, 128.0];

/// Green over yellow to red from the least to the largest, all light enough for black text.
fn good_to_bad(value: f64, (low, high): (f64, f64)) -> String {
    let share = (value - low) / (high - low).max(f64::MIN_POSITIVE);
    if share < 0.5 {
        mixed(GREEN, YELLOW, share * 2.0)
    } else {
        mixed(YELLOW, RED, share * 2.0 - 1.0)
    }
}

/// A margin: green where the bound holds, paler near it, and from orange to red beyond it.
fn held_or_broken(percent: f64) -> String {
    if percent <= 0.0 {
        mixed(GREEN, [226.0, 243.0, 205.0], 1.0 + percent / 100.0)
    } else {
        mixed([255.0, 205.0, 150.0], RED, percent / 100.0)
    }
}

fn mixed(from: [f64; 3], to: [f64; 3], at: f64) -> String {
    let at = at.clamp(0.0, 1.0);
    let mix = |part: usize| (from[part] + (to[part] - from[part]) * at).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

fn framed(plots: &[Plot], title: &str, x: &str, y: &str) -> Layout {
    let layout = Layout::auto_from_plots(plots)
        .with_title(title)
        .with_x_label(x)
        .with_y_label(y);
    match plots.first() {
        Some(Plot::Bar(bars)) => over_bars(bars, layout.with_y_axis_min(0.0)),
        Some(Plot::Heatmap(map)) => {
            let (rows, columns) = (map.row_labels.clone(), map.col_labels.clone());
            // Rows lie from the bottom, and cells are centred on 1, 2, 3 …
            let mut layout = layout;
            for (row, values) in map.data.iter().enumerate() {
                for (column, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                    let (x, y) = (column as f64 + 1.0, row as f64 + 0.9);
                    layout =
                        layout.with_annotation(TextAnnotation::new(wording::rounded(*value), x, y));
                }
            }
            layout
                .with_y_categories(rows.unwrap_or_default())
                .with_x_categories(columns.unwrap_or_default())
        }
        _ => layout.with_y_axis_min(0.0).with_x_axis_min(0.0),
    }
}

/// The value of each bar above it and its whisker; long names stand aslant.
fn over_bars(bars: &BarPlot, mut layout: Layout) -> Layout {
    let mut whiskers = bars.errors.iter().flatten();
    let mut highest: f64 = 0.0;
    for (group, at) in bars.groups.iter().zip(1..) {
        let width = bars.width / group.bars.len() as f64;
        for (bar, place) in group.bars.iter().zip(0..) {
            let top = bar.value + whiskers.next().map_or(0.0, |(_, above)| *above);
            highest = highest.max(top);
            if bar.value > 0.0 {
                let x = f64::from(at) - bars.width / 2.0 + width * (f64::from(place) + 0.5);
                let text = wording::rounded(bar.value);
                layout = layout.with_annotation(TextAnnotation::new(text, x, top));
            }
        }
    }
    if highest > 0.0 {
        // Room for the texts on top.
        layout = layout.with_y_axis_max(highest * 1.12);
    }
    let letters = bars.groups.iter().map(|group| group.label.chars().count());
    match letters.sum::<usize>() {
        0..50 => layout,
        _ => layout.with_x_tick_rotate(-30.0),
    }
}

fn alone(plots: Vec<Plot>, title: &str, x: &str, y: &str) -> Option<Scene> {
    if plots.is_empty() {
        return None;
    }
    let layout = framed(&plots, title, x, y)
        .with_width(900.0)
        .with_height(520.0);
    Some(render_multiple(plots, layout))
}

fn panels<'t>(
    rows: usize,
    columns: usize,
    all: impl IntoIterator<Item = (Vec<Plot>, String, &'t str, &'t str)>,
    title: &str,
) -> Option<Scene> {
    let (mut plots, mut layouts) = (Vec::new(), Vec::new());
    for (panel, title, x, y) in all {
        if panel.is_empty() {
            continue;
        }
        layouts.push(framed(&panel, &title, x, y).with_title_size(14));
        plots.push(panel);
    }
    if plots.is_empty() {
        return None;
    }
    let (rows, columns) = if plots.len() == rows * columns {
        (rows, columns)
    } else {
        (1, plots.len())
    };
    let figure = Figure::new(rows, columns)
        .with_plots(plots)
        .with_layouts(layouts)
        .with_cell_size(620.0, 460.0);
    let figure = if title.is_empty() {
        figure
    } else {
        figure.with_title(title)
    };
    Some(figure.render())
}

// ---- distributions, series, verdicts ------------------------------------------------------------------------------------

fn histograms(book: &Book, charts: &Charts) -> Option<Scene> {
    let mut plots = Vec::new();
    for line in &book.lines {
        let Some((_, stage, _)) = line.points.last() else {
            continue;
        };
        let mut stages = charts.stages.iter();
        let drawn = stages.find(|one| one.cell == line.cell.id && one.stage == stage.name);
        let it = drawn.and_then(|drawn| drawn.distributions.iter().find(|one| one.metric == "e2e"));
        let Some(it) = it else { continue };
        // The last bar ends where the next one would begin, with nothing.
        let counts = it.counts.iter().map(|count| *count as f64).chain([0.0]);
        let data = counts
            .zip(0..)
            .map(|(count, bar)| (it.from + it.width * f64::from(bar), count));
        let curve = LinePlot::new()
            .with_data(data)
            .with_step()
            .with_fill()
            .with_fill_opacity(0.15)
            .with_color(line.colour)
            .with_legend(format!("{} {}", line.name, stage.name));
        let alike = book
            .lines
            .iter()
            .take_while(|other| other.name != line.name);
        plots.push(Plot::Line(
            match alike.filter(|other| other.colour == line.colour).count() {
                0 => curve,
                1 => curve.with_dashed(),
                _ => curve.with_dotted(),
            },
        ));
    }
    alone(
        plots,
        "E2E Latency Histogram at the Highest Level (left is better)",
        "E2E (ms)",
        "requests",
    )
}

fn gpu_timeseries(book: &Book, charts: &Charts, backend: &str) -> Option<Scene> {
    let panel = |metric: &str, scale: f64| {
        let mut plots = Vec::new();
        for line in book
            .lines
            .iter()
            .filter(|line| line.cell.backend == backend)
        {
            let runs = charts
                .runs
                .iter()
                .filter(|run| run.cell == line.cell.id && run.repeat == 0);
            for (run, series) in
                runs.flat_map(|run| run.timelines.iter().map(move |series| (run, series)))
            {
                if series.metric != metric {
                    continue;
                }
                let seen = series.values.iter().zip(0..).filter_map(|(value, at)| {
                    Some((f64::from(at) * run.every_s, (*value)? * scale))
                });
                let device = series
                    .device
                    .map_or(String::new(), |device| format!(" GPU {device}"));
                let curve = LinePlot::new()
                    .with_data(seen)
                    .with_legend(format!("{}{device}", line.name));
                let colour = PALETTE[plots.len() % PALETTE.len()];
                plots.push(Plot::Line(curve.with_color(colour)));
            }
        }
        plots
    };
    panels(
        2,
        2,
        [
            (
                panel("gpu.util", 100.0),
                "GPU Utilization".to_owned(),
                "Time (s)",
                "Utilization (%)",
            ),
            (
                panel("gpu.memory_used", 1.0 / (1u64 << 30) as f64),
                "GPU Memory Used".to_owned(),
                "Time (s)",
                "Memory (GiB)",
            ),
            (
                panel("gpu.power", 1.0),
                "GPU Power".to_owned(),
                "Time (s)",
                "Power (W)",
            ),
            (
                panel("gpu.temperature", 1.0),
                "GPU Temperature".to_owned(),
                "Time (s)",
                "Temperature (°C)",
            ),
        ],
        &format!("{backend}: GPUs over time"),
    )
}

/// Cells of one backend share its colour; their marks differ.
const MARKERS: [MarkerShape; 5] = [
    MarkerShape::Circle,
    MarkerShape::Triangle,
    MarkerShape::Square,
    MarkerShape::Diamond,
    MarkerShape::Cross,
];

/// Lines of one backend in one panel.
const PALETTE: [&str; 6] = [
    "#2f6fdb", "#c2571a", "#2e8b57", "#8e44ad", "#b03060", "#5b6470",
];

/// How far each SLO is from its bound in each cell and stage, in percent of the bound: above 0 it is broken.
fn slo_heatmap(report: &Report) -> Option<Scene> {
    let judged: Vec<_> = report
        .verdicts
        .iter()
        .filter(|verdict| {
            !verdict.guard && matches!(verdict.status, VerdictStatus::Pass | VerdictStatus::Fail)
        })
        .filter_map(|verdict| {
            let place = format!(
                "{} {}",
                wording::short_cells(report, verdict),
                verdict.stage.as_deref().unwrap_or("")
            );
            Some((verdict.id.clone(), place, verdict.margin? * 100.0))
        })
        .collect();
    let rows = distinct(judged.iter().map(|(id, ..)| id.as_str()));
    let columns = distinct(judged.iter().map(|(_, place, _)| place.as_str()));
    if rows.is_empty() {
        return None;
    }
    let margin = |id: &str, place: &str| {
        let mut found = judged
            .iter()
            .filter(|(one, at, _)| one == id && at == place);
        found
            .next()
            .map_or(f64::NAN, |(_, _, margin)| margin.round())
    };
    let data = rows
        .iter()
        .map(|id| columns.iter().map(|place| margin(id, place)).collect())
        .collect();
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let plots = grid(data, owned(&rows), owned(&columns), held_or_broken);
    let layout = framed(
        &plots,
        "SLOs: percent beyond the bound (below 0 holds)",
        "",
        "",
    )
    .with_x_tick_rotate(-45.0)
    .with_width(300.0 + 60.0 * columns.len() as f64)
    .with_height(260.0 + 46.0 * rows.len() as f64);
    Some(render_multiple(plots, layout))
}
