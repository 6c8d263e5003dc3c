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
use super::model::{Cell, Report, Stage, StageNumbers};
use super::told::{distinct, lost};
use super::{colours, slo_grid, wording};

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
    keep("slo_heatmap".into(), slo_grid::scene(report));
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

impl Line<'_> {
    /// How long the highest level took. Where requests failed, it says nothing: what fails at once is done at once.
    fn peak_duration(&self) -> Option<Value> {
        let (_, stage, numbers) = self.points.last()?;
        (lost(numbers).is_none() && numbers.ok > 0).then(|| took(stage, numbers))
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
        let mut doubtful = Vec::new();
        for line in self.lines.iter().filter(|line| of(line)) {
            // Where a level has no value the line breaks off, and goes on behind it.
            let mut pieces: Vec<Vec<(f64, Value)>> = vec![Vec::new()];
            for (load, stage) in loads(line.cell) {
                match (x(load, stage), y(stage, load), pieces.last_mut()) {
                    (Some(x), Some(y), Some(piece)) => {
                        piece.push((x, y));
                        if stage.numbers.as_ref().and_then(lost).is_some() {
                            doubtful.push((x, y.value));
                        }
                    }
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
        if !doubtful.is_empty() {
            let crosses = ScatterPlot::new()
                .with_data(doubtful)
                .with_color(CROSS)
                .with_marker(MarkerShape::Cross)
                .with_size(9.0)
                .with_legend("requests failed");
            plots.push(Plot::Scatter(crosses));
        }
        plots
    }

    /// The name of an axis, and the cells that have nothing there: ` · no data: sglang`.
    fn axis(&self, name: &str, of: impl Fn(&Line) -> bool, path: &str) -> String {
        let without = |line: &&Line| {
            let mut points = line.points.iter();
            of(line) && points.all(|(_, stage, _)| value(stage, path, 1.0).is_none())
        };
        let missing: Vec<&str> = (self.lines.iter().filter(without))
            .map(|line| line.name.as_str())
            .collect();
        match missing.as_slice() {
            [] => name.to_owned(),
            names => format!("{name} · no data: {}", names.join(", ")),
        }
    }

    fn throughput_of(&self, model: &str) -> Option<Scene> {
        let plots = self.curves(|line| line.cell.model == model, "output_tps value", 1.0);
        alone(
            plots,
            &format!("{model} - Throughput vs Concurrency {HIGHER}"),
            &self.axis(
                self.load_name(),
                |line| line.cell.model == model,
                "output_tps value",
            ),
            "Throughput (Tokens/sec)",
        )
    }

    fn throughput_of_all(&self) -> Option<Scene> {
        let plots = self.curves(|_| true, "output_tps value", 1.0);
        alone(
            plots,
            &format!("All Models & Backends - Throughput Comparison {HIGHER}"),
            &self.axis(self.load_name(), |_| true, "output_tps value"),
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
            &self.axis(self.load_name(), |_| true, "output_tps value"),
            "TPS / concurrency",
        )
    }

    fn throughput_scaling(&self) -> Option<Scene> {
        let plots = self.curves(|_| true, "output_tps value", 1.0);
        let title = format!(
            "Throughput Scaling: {} {HIGHER}",
            self.backends().join(" vs ")
        );
        alone(
            plots,
            &title,
            &self.axis(self.load_name(), |_| true, "output_tps value"),
            "Throughput (tokens/sec)",
        )
    }

    fn pareto(&self) -> Option<Scene> {
        let mut plots = self.curves_over(
            |_| true,
            |_, stage| Some(value(stage, "output_tps value", 1.0)?.value),
            |stage, _| value(stage, "ttft p95", 1.0),
        );
        plots.extend(
            self.models()
                .into_iter()
                .filter_map(|model| self.front(model)),
        );
        plots.extend(self.levels_named());
        alone(
            plots,
            "Latency against Throughput (right and down is better)",
            &self.axis("Throughput (tokens/sec)", |_| true, "ttft p95"),
            "P95 TTFT (ms)",
        )
    }

    /// The name of its level at each point.
    fn levels_named(&self) -> Option<Plot> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let (points, names): (Vec<(f64, f64)>, Vec<String>) = points
            .filter_map(|(_, stage, _)| {
                let tps = value(stage, "output_tps value", 1.0)?.value;
                let at = (tps, value(stage, "ttft p95", 1.0)?.value);
                Some((at, stage.name.clone()))
            })
            .unzip();
        let texts = ScatterPlot::new()
            .with_data(points)
            .with_size(0.0)
            .with_color("#404040")
            .with_labels(names)
            .with_repel_labels();
        Some(Plot::Scatter(texts))
    }

    /// Of the points of a model those that no other beats by both throughput and latency. Where requests failed, the numbers are
    /// those of the survivors, and stand on no front.
    fn front(&self, model: &str) -> Option<Plot> {
        let lines = self.lines.iter().filter(|line| line.cell.model == model);
        let points = lines.flat_map(|line| &line.points);
        let points: Vec<(f64, f64)> = points
            .filter(|(_, _, numbers)| lost(numbers).is_none())
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
            .with_legend(match self.models().as_slice() {
                [_] => "Pareto front".to_owned(),
                _ => format!("Pareto front of {model}"),
            });
        (!points.is_empty()).then_some(Plot::Line(line))
    }

    fn benchmark(&self) -> Option<Scene> {
        panels(
            1,
            3,
            [
                (
                    ("rps value", 1.0),
                    format!("Throughput (requests/sec) {HIGHER}"),
                    "requests/sec",
                ),
                (
                    ("e2e mean", 1e-3),
                    format!("Average Latency (seconds) {LOWER}"),
                    "seconds",
                ),
                (
                    ("ttft mean", 1e-3),
                    format!("Avg Time to First Token (seconds) {LOWER}"),
                    "seconds",
                ),
            ]
            .map(|((path, scale), title, y)| {
                let x = self.axis("Concurrency Level", |_| true, path);
                (self.curves(|_| true, path, scale), title, x, y)
            }),
            "",
        )
    }

    // ---- bars at the highest level ----

    fn peaks(&self, path: &str, scale: f64) -> Vec<Bar> {
        let peaks = self.lines.iter().map(|line| {
            let stage = line.points.last().map(|(_, stage, _)| *stage);
            let value = stage.and_then(|stage| value(stage, path, scale));
            Bar::of(&line.name, line, stage, value)
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

    fn peak_durations(&self) -> Vec<Bar> {
        let peaks = self.lines.iter().map(|line| {
            let stage = line.points.last().map(|(_, stage, _)| *stage);
            Bar::of(&line.name, line, stage, line.peak_duration())
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
        let duration = |line: &Line| line.peak_duration();
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
            let own = || (self.lines.iter()).filter(|line| line.cell.backend == backend);
            let worst = own().filter_map(|line| Some(line.points.last()?.2));
            let worst =
                worst.max_by(|a, b| lost(a).unwrap_or(0.0).total_cmp(&lost(b).unwrap_or(0.0)));
            let has_value = own().any(|line| of(line).is_some());
            plot = plot.with_group(noted(backend, worst, has_value), bars);
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
                    self.pairs(|line| loads(line.cell).last().map(|(_, stage)| *stage)),
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
                let value = value(stage, &format!("e2e {percentile}"), 1.0);
                let name = format!("{} {}", line.name, percentile.to_uppercase());
                seen.push(Bar::of(&name, line, Some(stage), value));
            }
        }
        bars(&seen)
    }

    fn latency_at(&self, level: u32) -> Option<Scene> {
        let at = |line: &Line<'a>| {
            let loads = loads(line.cell).into_iter().map(|(_, stage)| stage);
            loads.into_iter().find(|stage| stage.users == Some(level))
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
                let own = self
                    .lines
                    .iter()
                    .filter(|line| line.cell.backend == backend);
                let worst = (own.flat_map(|line| &line.points))
                    .filter_map(|(_, _, numbers)| lost(numbers))
                    .max_by(f64::total_cmp);
                let failed = worst.map_or(String::new(), |share| {
                    format!(", up to {} failed", wording::percent(share))
                });
                all.push((
                    grid(rows, names, columns, move |value| good_to_bad(value, scale)),
                    format!("{} - E2E Latency (seconds){failed}", backend.to_uppercase()),
                    "Concurrency",
                    "Model",
                ));
            }
        }
        let columns = all.len();
        let title = format!("Mean E2E latency {LOWER}");
        panels(1, columns, all, &self.axis(&title, |_| true, "e2e mean"))
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
            let Some((load, stage)) = loads(line.cell).pop() else {
                continue;
            };
            let numbers = stage.numbers.as_ref();
            let said = |path: &str, scale: f64| {
                value(stage, path, scale)
                    .map_or("–".to_owned(), |value| wording::rounded(value.value))
            };
            rows.push(vec![
                line.cell.model.clone(),
                line.cell.backend.clone(),
                wording::rounded(load),
                said("output_tps value", 1.0),
                match numbers.map(|numbers| (numbers, lost(numbers))) {
                    None => "no data".to_owned(),
                    Some((_, Some(share))) => format!("{} failed", wording::percent(share)),
                    Some((numbers, None)) => {
                        format!("{} s", wording::rounded(took(stage, numbers).value))
                    }
                },
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
        let width = 110.0 + 9.0 * longest.max().unwrap_or(0).max(8) as f64;
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

/// A bar with what stands below it; without a value a gap.
struct Bar {
    name: String,
    colour: &'static str,
    value: Option<Value>,
}

impl Bar {
    fn of(name: &str, line: &Line, stage: Option<&Stage>, value: Option<Value>) -> Bar {
        let numbers = stage.and_then(|stage| stage.numbers.as_ref());
        Bar {
            name: noted(name, numbers, value.is_some()),
            colour: line.colour,
            value,
        }
    }
}

/// A name with what makes its numbers doubtful: `vllm (25% failed)`, `vllm (no data)`.
fn noted(name: &str, numbers: Option<&StageNumbers>, has_value: bool) -> String {
    match numbers.and_then(lost) {
        Some(share) => format!("{name} ({} failed)", wording::percent(share)),
        None if !has_value => format!("{name} (no data)"),
        None => name.to_owned(),
    }
}

/// One bar for each name; nothing where no name has a value.
fn bars(all: &[Bar]) -> Vec<Plot> {
    let mut values = all.iter().filter_map(|bar| bar.value);
    if values.clone().next().is_none() {
        return Vec::new();
    }
    let height = |bar: &Bar| bar.value.map_or(0.0, |value| value.value);
    let named = (all.iter()).map(|bar| (bar.name.clone(), height(bar), bar.colour));
    let mut plot = BarPlot::new().with_colored_bars(named);
    if values.any(|value| value.low < value.high) {
        let reach = |value: Value| (value.value - value.low, value.high - value.value);
        let whiskers = all.iter().map(|bar| bar.value.map_or((0.0, 0.0), reach));
        plot = plot.with_asymmetric_error(whiskers);
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

pub(super) const GREEN: [f64; 3] = [126.0, 200.0, 132.0];
const YELLOW: [f64; 3] = [255.0, 243.0, 176.0];
pub(super) const RED: [f64; 3] = [240.0, 138.0, 128.0];

/// Green over yellow to red from the least to the largest, all light enough for black text.
fn good_to_bad(value: f64, (low, high): (f64, f64)) -> String {
    let share = (value - low) / (high - low).max(f64::MIN_POSITIVE);
    if share < 0.5 {
        mixed(GREEN, YELLOW, share * 2.0)
    } else {
        mixed(YELLOW, RED, share * 2.0 - 1.0)
    }
}

pub(super) fn mixed(from: [f64; 3], to: [f64; 3], at: f64) -> String {
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
    all: impl IntoIterator<Item = (Vec<Plot>, String, impl AsRef<str>, &'t str)>,
    title: &str,
) -> Option<Scene> {
    let (mut plots, mut layouts) = (Vec::new(), Vec::new());
    for (panel, title, x, y) in all {
        if panel.is_empty() {
            continue;
        }
        layouts.push(framed(&panel, &title, x.as_ref(), y).with_title_size(14));
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
            .with_legend(noted(
                &format!("{} {}", line.name, stage.name),
                stage.numbers.as_ref(),
                true,
            ));
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
        &book.axis("E2E (ms)", |_| true, "e2e mean"),
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

/// Points whose requests failed.
const CROSS: &str = "#b3201b";

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
