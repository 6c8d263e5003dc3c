//! How long answers and prompts are when nothing says so: lognormal lengths, cut off at both ends.

use crate::seed::Seed;

/// A lognormal length, clamped to a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthDistribution {
    /// Half of the lengths, before the clamping, are below this.
    pub median: f64,
    /// Standard deviation of the logarithm; 0 gives the median always.
    pub sigma: f64,
    /// The shortest.
    pub least: u32,
    /// The longest.
    pub most: u32,
}

impl LengthDistribution {
    /// The length that belongs to a branch of a seed: the same branch always gives the same length.
    pub fn draw(&self, seed: &Seed) -> u32 {
        let length = self.median * libm::exp(self.sigma * seed.rng().normal());
        (length.round() as u32).clamp(self.least, self.most)
    }

    /// The length of the answer to a prompt with this hash: the same one in each run and on each engine with these lengths.
    pub fn answer_to(&self, seed: u64, prompt_hash: u64) -> u32 {
        self.draw(&Seed::new(seed).stream("answer-length").at(prompt_hash))
    }
}
