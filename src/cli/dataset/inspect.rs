//! `scenario dataset inspect`: what a set holds.

use std::fmt::Write;

use super::super::console::Console;
use super::super::exit::Exit;
use super::args::SetArgs;
use super::set::{self, Set};
use crate::workload::{Bin, Survey, histogram, percentile};

/// The widest bar of a histogram.
const BAR: u64 = 48;
const PERCENTILES: [u64; 7] = [1, 5, 25, 50, 75, 95, 99];

pub(super) fn inspect(args: &SetArgs, console: &Console) -> anyhow::Result<Exit> {
    let Some(sets) = set::open(args, console)? else {
        return Ok(Exit::Usage);
    };
    for set in &sets {
        console.data(&told(set));
    }
    Ok(Exit::Passed)
}

fn told(set: &Set) -> String {
    let facts = set.workload.facts();
    let survey = Survey::of(&set.workload, set.tokenizer.as_deref());
    let mut text = String::new();
    let mut say = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    say("set", set.id.clone());
    say("digest", set.workload.digest().to_owned());
    if facts.read > 0 {
        let dropped: Vec<String> = facts
            .dropped
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let left_out = match dropped.as_slice() {
            [] => String::new(),
            dropped => format!("; left out: {}", dropped.join(", ")),
        };
        say(
            "rows",
            format!("{} read, {} fit{left_out}", facts.read, facts.kept),
        );
    }
    let noun = match set.dialogue {
        Some(_) => "conversations",
        None => "prompts",
    };
    let measured = match facts.measured {
        Some(measured) => format!("{measured} measured, {} kept for warm-up", facts.warmup),
        None => format!("without end; of the first {}:", survey.characters.len()),
    };
    say(noun, measured);
    if facts.duplicates > 0 {
        say(
            "repeated",
            format!("{} have the text of an earlier one", facts.duplicates),
        );
    }
    if !facts.categories.is_empty() {
        let counted = facts.categories.iter();
        let counted: Vec<String> = counted
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        say("categories", counted.join(", "));
    }
    let _ = writeln!(text);
    text.push_str(&lengths(&survey));
    let unit = if set.tokenizer.is_some() || facts.counted {
        "tokens"
    } else {
        "tokens (estimated: 4 characters each)"
    };
    let _ = writeln!(text, "\n{unit}");
    text.push_str(&bars(&histogram(&survey.tokens)));
    text
}

/// A table of percentiles.
fn lengths(survey: &Survey) -> String {
    let mut text = format!("{:<12}{:>9}", "", "min");
    for percent in PERCENTILES {
        let _ = write!(text, "{:>9}", format!("p{percent}"));
    }
    let _ = writeln!(text, "{:>9}{:>11}", "max", "mean");
    for (name, values) in [
        ("characters", &survey.characters),
        ("tokens", &survey.tokens),
        ("turns", &survey.turns),
    ] {
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            continue;
        };
        let _ = write!(text, "{name:<12}{min:>9}");
        for percent in PERCENTILES {
            let _ = write!(text, "{:>9}", percentile(values, percent).unwrap_or(0));
        }
        let mean = values.iter().sum::<u64>() as f64 / values.len() as f64;
        let _ = writeln!(text, "{max:>9}{mean:>11.1}");
    }
    text
}

/// A histogram in the terminal.
fn bars(bins: &[Bin]) -> String {
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let range = |bin: &Bin| match bin.to {
        Some(to) if to == bin.from + 1 => bin.from.to_string(),
        Some(to) => format!("{}–{}", bin.from, to - 1),
        None => format!("{} and more", bin.from),
    };
    let wide = bins
        .iter()
        .map(|bin| range(bin).chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for bin in bins {
        // Rounded up: what is there is seen.
        let eighths = (bin.count * BAR * 8).div_ceil(most) as usize;
        let mut bar = "█".repeat(eighths / 8);
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        bar.push_str(rest);
        let _ = writeln!(text, "{:>wide$}  {bar} {}", range(bin), bin.count);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_most_and_nothing_that_is_there_is_invisible() {
        let bin = |from, to, count| Bin { from, to, count };
        let text = bars(&[bin(0, Some(10), 96), bin(10, Some(20), 0), bin(20, None, 1)]);
        let expected = format!(
            "        0–9  {} 96\n      10–19   0\n20 and more  ▌ 1\n",
            "█".repeat(48)
        );
        assert_eq!(text, expected);
    }
}
