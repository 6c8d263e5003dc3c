//! What the prompts of a set are like: their lengths, and how many there are of each.

use super::prompt::Prompt;
use super::set::Workload;
use super::tokenizer::Tokenizer;

/// How many prompts of an endless set are looked at.
const SAMPLED: u64 = 1000;
/// The most bins of a histogram.
const BINS: u64 = 16;

/// The lengths of a set's measured prompts; of a set that never ends, of its first thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// In characters, the shortest first.
    pub characters: Vec<u64>,
    /// In tokens, the shortest first; estimated where nothing counts them.
    pub tokens: Vec<u64>,
    /// Turns of conversations, the fewest first; empty for a set of single prompts.
    pub turns: Vec<u64>,
}

/// How many values lie in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    /// The least value in it.
    pub from: u64,
    /// The least value above it; `None`: it has no end.
    pub to: Option<u64>,
    /// How many.
    pub count: u64,
}

impl Survey {
    /// Looks at every prompt of a set; `tokenizer` counts those whose tokens are estimated.
    pub fn of(workload: &Workload, tokenizer: Option<&Tokenizer>) -> Survey {
        let counted = |prompt: &Prompt| match (workload.facts().counted, tokenizer) {
            (false, Some(tokenizer)) => Some(tokenizer.count(&prompt.text)),
            _ => prompt.tokens,
        };
        let (mut characters, mut tokens, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        for ordinal in 0..workload.measured().unwrap_or(SAMPLED) {
            let prompt = workload.prompt(ordinal);
            characters.push(prompt.text.chars().count() as u64);
            tokens.extend(counted(&prompt).map(u64::from));
            let conversation = prompt.conversation.as_ref();
            turns.extend(conversation.map(|whole| whole.turns.len() as u64));
        }
        for lengths in [&mut characters, &mut tokens, &mut turns] {
            lengths.sort_unstable();
        }
        Survey {
            characters,
            tokens,
            turns,
        }
    }
}

/// The value at a rank of sorted values, by the nearest-rank rule; `None` where there are none.
pub fn percentile(sorted: &[u64], percent: u64) -> Option<u64> {
    let rank = (sorted.len() as u64 * percent).div_ceil(100).max(1);
    sorted.get(rank as usize - 1).copied()
}

/// A histogram of sorted values: bins of one round width up to the 99th percentile, and one for what lies beyond.
pub fn histogram(sorted: &[u64]) -> Vec<Bin> {
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
        return Vec::new();
    };
    let usual = percentile(sorted, 99).unwrap_or(most);
    let width = round_width((usual - least).div_ceil(BINS).max(1));
    let start = least / width * width;
    let end = usual / width * width + width;
    let within = |from: u64, to: u64| {
        let below = |bound: u64| sorted.partition_point(|&value| value < bound);
        (below(to) - below(from)) as u64
    };
    let mut bins: Vec<Bin> = (start..end)
        .step_by(width as usize)
        .map(|from| Bin {
            from,
            to: Some(from + width),
            count: within(from, from + width),
        })
        .collect();
    if most >= end {
        bins.push(Bin {
            from: end,
            to: None,
            count: within(end, u64::MAX),
        });
    }
    bins
}

/// The least of 1, 2, 5, 10, 20, 50, … that is not below `least`.
fn round_width(least: u64) -> u64 {
    let mut power = 1;
    loop {
        for step in [1, 2, 5] {
            if step * power >= least {
                return step * power;
            }
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_round_and_hold_every_value_once() {
        let values: Vec<u64> = (0..200).map(|n| n * 7).chain([90_000]).collect();
        let bins = histogram(&values);
        assert_eq!((bins[0].from, bins[0].to), (0, Some(100)));
        assert_eq!(bins.last().unwrap().to, None);
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 201);
        assert_eq!(bins[0].count, 15);
        assert_eq!(histogram(&[]), []);
        let one = Bin {
            from: 5,
            to: Some(6),
            count: 3,
        };
        assert_eq!(histogram(&[5, 5, 5]), [one]);
    }

    #[test]
    fn percentiles_are_values_that_are_there() {
        let ten: Vec<u64> = (1..=10).collect();
        let told = [0, 5, 50, 95, 100].map(|percent| percentile(&ten, percent));
        assert_eq!(told, [Some(1), Some(1), Some(5), Some(10), Some(10)]);
        assert_eq!(percentile(&[], 50), None);
    }
}
