//! A row on the terminal: what was measured, what the goal is, and whether it is met.

use scenario::assertion::Percentile;
use scenario::verdict::statistics::nearest_rank;

/// Prints the head of the table.
pub(crate) fn head() {
    println!("{:<58} {:>12} {:>14}", "figure", "measured", "goal");
}

/// What a goal says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
    /// Only told.
    None,
}

/// Prints a row.
pub(crate) fn row(name: &str, value: f64, unit: &str, goal: Goal) {
    let shown = format!("{} {unit}", number(value));
    let (bound, verdict) = match goal {
        Goal::Most(most) => (format!("≤ {} {unit}", number(most)), value <= most),
        Goal::Least(least) => (format!("≥ {} {unit}", number(least)), value >= least),
        Goal::None => (String::new(), true),
    };
    let mark = match (goal, verdict) {
        (Goal::None, _) => "",
        (_, true) => "✓",
        (_, false) => "not reached",
    };
    println!("{name:<58} {shown:>12} {bound:>14}  {mark}");
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The value at share `p` of `values`, by nearest rank; 0 of none.
pub(crate) fn quantile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    match Percentile::new((p * 100_000.0).round() as u32) {
        Some(percentile) if !values.is_empty() => nearest_rank(values, percentile),
        _ => 0.0,
    }
}

/// The middle of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}
