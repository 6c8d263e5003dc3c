//! One report model, then renderers: functions of one signature that compute no number and read neither clock, environment
//! nor disk. `cli` writes the bytes.
//!
//! In: [`Inputs`], borrowed from everything before. Out: a [`Report`], and its renderings as [`FILES`] and on the terminal.
//! Beside them, while the run is on: [`progress`] tells the live view what to print, and [`ndjson`] writes each request as
//! it ends.

pub mod model;
pub mod build;
pub mod environment;
pub mod frame;
pub mod requests;
pub mod json;
pub mod junit;
pub mod csv;
pub mod markdown;
pub mod charts;
pub mod compat;
pub mod compare;
pub mod compare_text;
pub mod github;
pub mod tap;
pub mod html;
pub mod import;
pub mod plots;
mod slo_grid;
pub mod ranking;
pub mod terminal;
pub mod ndjson;
pub mod kept;
pub mod older;
pub mod export;
pub mod parquet;
pub mod progress;
mod drawn;
mod colours;
mod wording;
mod told;
mod rerun;

pub use build::{Inputs, RunEnding, build, is_open_loop};
pub use frame::{Frame, Known};
pub use json::schema;
pub use model::Report;
#[cfg(test)]
pub(crate) use rerun::{MAY_BE_VALUED, VALUED};

/// How a report is looked at; files need none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether marks are coloured.
    pub colour: bool,
    /// Whether verdicts that pass are listed, too.
    pub verbose: bool,
    /// How much is shown.
    pub summary: Summary,
    /// Which reader of JUnit files is addressed.
    pub junit: junit::Flavour,
}

/// How much of the summary is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Summary {
    /// What did not pass, and the status.
    Compact,
    /// Everything.
    #[default]
    Full,
    /// Nothing.
    None,
}

impl Summary {
    /// Every choice, with the word for it.
    pub const ALL: [(&str, Summary); 3] = [
        ("compact", Summary::Compact),
        ("full", Summary::Full),
        ("none", Summary::None),
    ];
}

impl Default for View {
    fn default() -> View {
        View {
            width: 100,
            colour: false,
            verbose: false,
            summary: Summary::Full,
            junit: junit::Flavour::Jenkins,
        }
    }
}

/// A renderer: a report in, a text out.
pub type Renderer = fn(&Report, &View) -> String;

/// The files of a report that are made of the report alone. `requests.csv` and `requests.ndjson` are made of the requests.
pub const FILES: [(&str, Renderer); 5] = [
    ("report.json", json::render),
    ("environment.json", environment::render),
    ("junit.xml", junit::render),
    ("summary.csv", csv::summary),
    ("summary.md", markdown::render),
];
