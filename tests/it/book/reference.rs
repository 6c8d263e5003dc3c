//! The parts of the book that are made from the code: what stands between `<!-- made from: NAME -->` and `<!-- end -->`.
//! `SNAPSHOTS=overwrite` writes them anew.

mod keys;
mod commands;
mod language;

use super::{pages, source};
use crate::golden::assert_golden;

/// Compares each made part of the book with what the code says now.
pub(super) fn assert_as_the_code_says() {
    let mut parts = 0;
    for name in pages::names() {
        let path = source().join(&name);
        let text = std::fs::read_to_string(&path).unwrap();
        let (renewed, count) = renew(&name, &text);
        parts += count;
        assert_golden(path, &renewed);
    }
    assert!(
        parts >= MAKERS.len(),
        "{parts} parts are made from the code"
    );
}

/// What makes a part.
type Maker = fn() -> String;

const MAKERS: &[(&str, Maker)] = &[
    ("the format", keys::keys),
    ("the command line", commands::commands),
    ("the exit codes", || {
        format!("```text\n{}```\n", scenario::cli::exit::EXIT_CODES)
    }),
    ("the metrics", language::metrics),
    ("the aggregates", language::aggregates),
    ("the samples", language::samples),
    ("the units", language::units),
    ("the dimensions", language::dimensions),
    ("normal forms", language::normal_forms),
    ("the diagnostics", language::diagnostics),
];

/// The page with its made parts as the code says now, and how many there are.
fn renew(name: &str, text: &str) -> (String, usize) {
    const BEGIN: &str = "<!-- made from: ";
    let mut renewed = String::new();
    let mut count = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (title, after) = after.split_once(" -->\n").unwrap();
        let (_, after) = after
            .split_once("<!-- end -->")
            .unwrap_or_else(|| panic!("{name}: `{title}` has no end"));
        let maker = MAKERS.iter().find(|(known, _)| *known == title);
        let (_, maker) = maker.unwrap_or_else(|| panic!("{name}: nothing makes `{title}`"));
        renewed.push_str(&format!(
            "{before}{BEGIN}{title} -->\n\n{}\n<!-- end -->",
            maker()
        ));
        rest = after;
        count += 1;
    }
    renewed.push_str(rest);
    (renewed, count)
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', "<br>")
}

/// A table.
fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!(
        "| {} |\n|{}\n",
        header.join(" | "),
        "---|".repeat(header.len())
    );
    for row in rows {
        let row: Vec<String> = row.iter().map(|text| cell(text)).collect();
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}
