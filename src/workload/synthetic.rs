//! Prompts made from a seed: their lengths follow a distribution, and no two begin alike.
//!
//! Lengths are in tokens, estimated as one for four characters. Each prompt depends on the seed and its ordinal alone, so the
//! set never ends and holds nothing.

use crate::seed::{Random, Seed};

use super::prompt::Prompt;
use super::source::LengthDistribution;
use super::words::{self, Use, WORDS};

/// The 95th percentile of the standard normal distribution.
const NORMAL_P95: f64 = 1.644_853_626_951_472_2;

/// Makes the prompts of one synthetic set.
#[derive(Clone, Debug)]
pub(super) struct Synthesizer {
    seed: Seed,
    salt: u64,
    input_tokens: LengthDistribution,
    output_tokens: Option<LengthDistribution>,
    /// Past this ordinal prompts repeat.
    pub(super) limit: Option<u64>,
}

impl Synthesizer {
    pub(super) fn new(
        seed: Seed,
        input_tokens: LengthDistribution,
        output_tokens: Option<LengthDistribution>,
        limit: Option<u64>,
    ) -> Synthesizer {
        Synthesizer {
            salt: seed.hash(),
            seed,
            input_tokens,
            output_tokens,
            limit: limit.filter(|&limit| limit > 0),
        }
    }

    pub(super) fn prompt(&self, ordinal: u64) -> Prompt {
        let ordinal = self.limit.map_or(ordinal, |limit| ordinal % limit);
        self.make("measured", ordinal, Use::Measured)
    }

    pub(super) fn warmup_prompt(&self, ordinal: u64) -> Prompt {
        self.make("warmup", ordinal, Use::Warmup)
    }

    /// The length of a measured prompt in tokens.
    pub(super) fn input_length(&self, ordinal: u64) -> u32 {
        sample(self.input_tokens, &mut self.random("measured", ordinal))
    }

    /// What tells this set from every other.
    pub(super) fn identity(&self) -> String {
        format!(
            "synthetic v1 {:016x} {:?} {:?} {:?}",
            self.salt, self.input_tokens, self.output_tokens, self.limit
        )
    }

    fn make(&self, part: &str, ordinal: u64, usage: Use) -> Prompt {
        let mut random = self.random(part, ordinal);
        let tokens = sample(self.input_tokens, &mut random);
        let output = self
            .output_tokens
            .map(|lengths| sample(lengths, &mut random));
        let first = words::unique(self.salt, ordinal, usage);
        let text = prose(first, tokens as usize * 4, &mut random);
        Prompt {
            tokens: Some(tokens),
            max_tokens: output,
            min_tokens: output,
            ignore_eos: output.map(|_| true),
            ..Prompt::new(format!("{part}-{ordinal}"), text)
        }
    }

    fn random(&self, part: &str, ordinal: u64) -> Random {
        self.seed.stream(part).at(ordinal).rng()
    }
}

impl PartialEq for Synthesizer {
    fn eq(&self, other: &Synthesizer) -> bool {
        self.identity() == other.identity()
    }
}

/// One length of at least one token.
fn sample(lengths: LengthDistribution, random: &mut Random) -> u32 {
    let length = match lengths {
        LengthDistribution::Fixed(length) => length,
        LengthDistribution::Uniform(low, high) => {
            random.between(u64::from(low), u64::from(high)) as u32
        }
        LengthDistribution::Normal {
            mean,
            stddev,
            min,
            max,
        } => cut(min, max, || mean + stddev * random.normal()),
        LengthDistribution::Lognormal {
            median,
            p95,
            min,
            max,
        } => {
            let mu = libm::log(median.max(1.0));
            let sigma = ((libm::log(p95.max(1.0)) - mu) / NORMAL_P95).max(0.0);
            cut(min, max, || libm::exp(mu + sigma * random.normal()))
        }
    };
    length.max(1)
}

/// Draws until a length lies within the bounds: a distribution cut off has no heap of lengths at its bounds.
fn cut(min: u32, max: u32, mut draw: impl FnMut() -> f64) -> u32 {
    let mut last = 0.0;
    for _ in 0..64 {
        last = libm::round(draw());
        if (f64::from(min)..=f64::from(max)).contains(&last) {
            return last as u32;
        }
    }
    (last as u32).max(min).min(max)
}

/// English-like sentences of exactly `length` characters, never shorter than the first word.
fn prose(first: String, length: usize, random: &mut Random) -> String {
    let unique = first.len();
    let mut text = first;
    let mut left = random.between(4, 12);
    while text.len() < length {
        let word = WORDS[random.below(WORDS.len() as u64) as usize];
        if left == 0 {
            text.push_str(". ");
            text.push_str(&words::capitalised(word));
            left = random.between(5, 15);
        } else {
            text.push(' ');
            text.push_str(word);
            left -= 1;
        }
    }
    text.truncate(length.max(unique));
    if text.ends_with(' ') {
        text.pop();
        text.push('.');
    }
    text
}
