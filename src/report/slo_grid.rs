//! The verdicts of SLOs as a grid: a row for each SLO, a column for each place in the order of the plan. Mark, words and colour
//! each tell the verdict.

use std::sync::Arc;

use kuva::plot::{ColorMap, Heatmap};
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, render_multiple};

use super::model::{Report, Verdict, VerdictStatus};
use super::plots::{GREEN, RED, mixed};
use super::{told, wording};

const PALE_GREEN: [f64; 3] = [226.0, 243.0, 205.0];
const ORANGE: [f64; 3] = [255.0, 205.0, 150.0];
const YELLOW: &str = "#fff3b0";
const GREY: &str = "#dfe3e8";
const WHITE: &str = "#ffffff";

/// What the marks and the numbers mean.
const KEY: &str = "✓ −25%: a quarter of the bound inside it · ✗ +25%: beyond it · ? not told · – skipped · empty: not asked";

/// The verdicts of all SLOs; `None` where there are none.
pub(super) fn scene(report: &Report) -> Option<Scene> {
    let slos = report.verdicts.iter().filter(|verdict| !verdict.guard);
    let placed: Vec<(String, Place, &Verdict)> = slos
        .map(|verdict| (row(verdict), place(report, verdict), verdict))
        .collect();
    let rows: Vec<String> = told::distinct(placed.iter().map(|(row, ..)| row.as_str()))
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut columns: Vec<&Place> = placed.iter().map(|(_, place, _)| place).collect();
    columns.sort();
    columns.dedup();
    if rows.is_empty() {
        return None;
    }
    let cells: Vec<Told> = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| (row, *column)))
        .map(|(row, column)| {
            let here = placed
                .iter()
                .filter(|(its, at, _)| (its, at) == (row, column));
            let worst = here.map(|(.., verdict)| *verdict).max_by(|a, b| {
                (gravity(a).0.cmp(&gravity(b).0)).then(gravity(a).1.total_cmp(&gravity(b).1))
            });
            worst.map_or_else(Told::not_asked, Told::of)
        })
        .collect();
    let names = columns.iter().map(|place| place.name.clone()).collect();
    Some(drawn(rows, names, cells))
}

/// Where a verdict is said. Places stand in the order of the plan, and those over several cells or stages after the others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    several: bool,
    cell: usize,
    stage: usize,
    name: String,
}

fn place(report: &Report, verdict: &Verdict) -> Place {
    let mut cells = report.cells.iter();
    let cell = cells.position(|cell| verdict.cells.contains(&cell.id));
    let stages = cell.map_or(&[][..], |at| &report.cells[at].stages);
    let stage = stages
        .iter()
        .position(|stage| verdict.stage.as_ref() == Some(&stage.name));
    let said = [
        Some(wording::short_cells(report, verdict)),
        verdict.stage.clone(),
    ];
    Place {
        several: verdict.cells.len() > 1,
        cell: cell.unwrap_or(usize::MAX),
        stage: stage.unwrap_or(usize::MAX),
        name: said.into_iter().flatten().collect::<Vec<_>>().join(" "),
    }
}

fn row(verdict: &Verdict) -> String {
    let narrowed = verdict.scope.values().map(String::as_str);
    let said: Vec<&str> = std::iter::once(verdict.id.as_str())
        .chain(narrowed)
        .collect();
    said.join(" · ")
}

/// Where several verdicts share a cell of the grid, as the median and the P99 of one SLO do, the worst of them stands there.
fn gravity(verdict: &Verdict) -> (u8, f64) {
    let state = match verdict.status {
        VerdictStatus::Fail => 3,
        VerdictStatus::Inconclusive => 2,
        VerdictStatus::Pass => 1,
        VerdictStatus::Skipped => 0,
    };
    (state, verdict.margin.unwrap_or(f64::INFINITY))
}

/// A cell of the grid.
struct Told {
    text: String,
    colour: String,
}

impl Told {
    fn of(verdict: &Verdict) -> Told {
        let mark = wording::mark(verdict.status);
        let margin = verdict.margin;
        let (said, colour) = match verdict.status {
            VerdictStatus::Pass => {
                let share = margin.map_or(1.0, |margin| 1.0 + margin);
                (margin.map(distance), mixed(GREEN, PALE_GREEN, share))
            }
            VerdictStatus::Fail => {
                let infinite = verdict
                    .observed
                    .as_ref()
                    .is_some_and(|it| it.value.is_none());
                let said = margin.map(distance).or(infinite.then(|| "∞".to_owned()));
                (said, mixed(ORANGE, RED, margin.unwrap_or(1.0)))
            }
            VerdictStatus::Inconclusive => (Some("not told".to_owned()), YELLOW.to_owned()),
            VerdictStatus::Skipped => (Some("skipped".to_owned()), GREY.to_owned()),
        };
        Told {
            text: format!("{mark} {}", said.unwrap_or_default()),
            colour,
        }
    }

    fn not_asked() -> Told {
        Told {
            text: String::new(),
            colour: WHITE.to_owned(),
        }
    }
}

/// A margin, as far as anybody reads it.
fn distance(margin: f64) -> String {
    match margin {
        ..-10.0 => "< −1000%".to_owned(),
        -10.0..=10.0 => wording::signed_percent(margin),
        _ => "> +1000%".to_owned(),
    }
}

fn drawn(rows: Vec<String>, columns: Vec<String>, cells: Vec<Told>) -> Scene {
    let letters = |texts: &mut dyn Iterator<Item = &str>| {
        texts.map(|text| text.chars().count()).max().unwrap_or(0) as f64
    };
    let widest = letters(&mut cells.iter().map(|cell| cell.text.as_str()));
    let (longest_row, longest_column) = (
        letters(&mut rows.iter().map(String::as_str)),
        letters(&mut columns.iter().map(String::as_str)),
    );
    let width = 120.0 + 9.0 * longest_row + columns.len() as f64 * (22.0 + 8.5 * widest).max(64.0);
    let height = 150.0 + 7.0 * longest_column + 46.0 * rows.len() as f64;
    // The library colours numbers between the least and the largest: here the number of a cell is its place in the list.
    let last = cells.len().saturating_sub(1) as f64;
    let data: Vec<Vec<f64>> = (0..rows.len())
        .map(|row| {
            (0..columns.len())
                .map(|column| (row * columns.len() + column) as f64)
                .collect()
        })
        .collect();
    let (texts, colours): (Vec<String>, Vec<String>) = cells
        .into_iter()
        .map(|cell| (cell.text, cell.colour))
        .unzip();
    let colour = move |share: f64| colours[(share * last).round() as usize].clone();
    let map = Heatmap::new()
        .with_data(data)
        .with_labels(rows.clone(), columns.clone())
        .with_y_categories(rows)
        .with_color_map(ColorMap::Custom(Arc::new(colour)));
    let mut notes = Vec::new();
    for (row, numbers) in map.data.iter().enumerate() {
        for (column, number) in numbers.iter().enumerate() {
            // Rows lie from the bottom, and cells are centred on 1, 2, 3 …
            let (x, y) = (column as f64 + 1.0, row as f64 + 0.88);
            let text = texts[*number as usize].clone();
            notes.push(TextAnnotation::new(text, x, y).with_font_size(14));
        }
    }
    let from_below = map.row_labels.clone().unwrap_or_default();
    let plots = vec![Plot::Heatmap(map)];
    let layout = Layout::auto_from_plots(&plots)
        .with_title("SLOs: how far from the bound")
        .with_x_label(KEY)
        .with_label_size(12)
        .with_x_categories(columns)
        .with_y_categories(from_below)
        .with_x_tick_rotate(-45.0)
        .with_width(width.max(900.0))
        .with_height(height);
    let mut layout = notes.into_iter().fold(layout, Layout::with_annotation);
    layout.show_colorbar = false;
    render_multiple(plots, layout)
}
