//! How long prompts and answers are: distributions of token counts, drawn from a seed.

use std::path::Path;
use std::sync::Arc;

use crate::seed::Random;

use super::error::{RowProblem, WorkloadError};

/// The 95th percentile of the standard normal distribution.
const NORMAL_P95: f64 = 1.644_853_626_951_472_2;

/// A distribution of lengths in tokens; every draw is at least 1.
#[derive(Clone, Debug, PartialEq)]
pub enum LengthDistribution {
    /// Always this.
    Fixed(u32),
    /// Uniform between two bounds, both included.
    Uniform(u32, u32),
    /// Normal, cut to `min..=max`.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        stddev: f64,
        /// The least length.
        min: u32,
        /// The greatest length.
        max: u32,
    },
    /// Log-normal with median and 95th percentile, cut to `min..=max`.
    Lognormal {
        /// The median.
        median: f64,
        /// The 95th percentile.
        p95: f64,
        /// The least length.
        min: u32,
        /// The greatest length.
        max: u32,
    },
    /// Exponential with this mean.
    Exponential(f64),
    /// The length `min + k - 1` has a share in proportion to `k` to the power of `-exponent`.
    Zipf {
        /// How steeply shares fall.
        exponent: f64,
        /// The least length, which is the most frequent.
        min: u32,
        /// The greatest length.
        max: u32,
    },
    /// As counted elsewhere.
    Histogram(Histogram),
    /// One of several, each with its share.
    Mixture(Arc<[(f64, LengthDistribution)]>),
}

/// Lengths as they were counted: bars of a range each.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bars: Arc<[Bar]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Bar {
    low: u32,
    high: u32,
    /// The weights of this bar and of all before it.
    up_to_here: f64,
}

impl LengthDistribution {
    /// One length of at least one token.
    pub fn sample(&self, random: &mut Random) -> u32 {
        let length = match self {
            LengthDistribution::Fixed(length) => *length,
            LengthDistribution::Uniform(low, high) => {
                random.between(u64::from(*low), u64::from(*high)) as u32
            }
            LengthDistribution::Normal {
                mean,
                stddev,
                min,
                max,
            } => cut(*min, *max, || mean + stddev * random.normal()),
            LengthDistribution::Lognormal {
                median,
                p95,
                min,
                max,
            } => {
                let mu = libm::log(median.max(1.0));
                let sigma = ((libm::log(p95.max(1.0)) - mu) / NORMAL_P95).max(0.0);
                cut(*min, *max, || libm::exp(mu + sigma * random.normal()))
            }
            LengthDistribution::Exponential(mean) => {
                libm::round(mean * random.exponential()).min(f64::from(u32::MAX)) as u32
            }
            LengthDistribution::Zipf { exponent, min, max } => {
                let ranks = u64::from(max.saturating_sub(*min)) + 1;
                min + (random.zipf(ranks, *exponent) - 1) as u32
            }
            LengthDistribution::Histogram(histogram) => histogram.sample(random),
            LengthDistribution::Mixture(parts) => {
                let all: f64 = parts.iter().map(|(share, _)| share).sum();
                let mut point = random.unit() * all;
                let chosen = parts.iter().find(|(share, _)| {
                    point -= share;
                    point < 0.0
                });
                match chosen.or(parts.last()) {
                    Some((_, lengths)) => lengths.sample(random),
                    None => 1,
                }
            }
        };
        length.max(1)
    }
}

impl LengthDistribution {
    /// A length that about one draw in a billion exceeds: the bound, or six standard deviations.
    pub fn most(&self) -> u32 {
        let below =
            |length: f64, max: u32| (length.min(f64::from(u32::MAX)) as u32).min(max).max(1);
        match self {
            LengthDistribution::Fixed(length) => *length,
            LengthDistribution::Uniform(low, high) => *low.max(high),
            LengthDistribution::Normal {
                mean, stddev, max, ..
            } => below(mean + 6.0 * stddev, *max),
            LengthDistribution::Lognormal {
                median, p95, max, ..
            } => {
                let sigma = libm::log(p95.max(1.0) / median.max(1.0)) / NORMAL_P95;
                below(median * libm::exp(6.0 * sigma.max(0.0)), *max)
            }
            LengthDistribution::Exponential(mean) => below(mean * libm::log(1e9), u32::MAX),
            LengthDistribution::Zipf { max, .. } => *max,
            LengthDistribution::Histogram(histogram) => {
                let bars = histogram.bars.iter();
                bars.map(|bar| bar.high).max().unwrap_or(1)
            }
            LengthDistribution::Mixture(parts) => {
                let parts = parts.iter();
                parts.map(|(_, lengths)| lengths.most()).max().unwrap_or(1)
            }
        }
    }
}

impl Histogram {
    /// Reads a table with a header: `tokens` (or `from` and `to`, both included) and `count` (or `weight`).
    ///
    /// # Errors
    /// The file cannot be read, has other columns, or has a row that is no bar.
    pub fn read(path: &Path) -> Result<Histogram, WorkloadError> {
        let format = |line: Option<usize>, message: String| WorkloadError::Format {
            path: path.to_path_buf(),
            line,
            column: None,
            message,
        };
        let text = std::fs::read(path).map_err(|error| WorkloadError::Read {
            path: path.to_path_buf(),
            error,
        })?;
        let mut table = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text.as_slice());
        let header = table
            .headers()
            .map_err(|error| format(Some(1), error.to_string()))?
            .clone();
        let column = |names: &[&str]| header.iter().position(|name| names.contains(&name));
        let (low, high, weight) = (
            column(&["tokens", "from"]),
            column(&["tokens", "to"]),
            column(&["count", "weight"]),
        );
        let (Some(low), Some(high), Some(weight)) = (low, high, weight) else {
            let found: Vec<&str> = header.iter().collect();
            return Err(format(
                Some(1),
                format!(
                    "a histogram has the columns `tokens` (or `from` and `to`) and `count`; found {}",
                    found.join(", ")
                ),
            ));
        };
        let mut bars = Vec::new();
        let mut problems = Vec::new();
        let mut so_far = 0.0;
        for record in table.records() {
            let record = record.map_err(|error| {
                let line = error.position().map(|place| place.line() as usize);
                format(line, error.to_string())
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let place = |column: usize| format!("line {line}, column `{}`", &header[column]);
            let tokens = |column: usize| {
                record[column].parse::<u32>().map_err(|_| RowProblem {
                    place: place(column),
                    message: format!("`{}` is not a number of tokens", &record[column]),
                })
            };
            let share = record[weight].parse::<f64>();
            let share = share
                .ok()
                .filter(|share| share.is_finite() && *share >= 0.0);
            let bar = tokens(low).and_then(|low| Ok((low, tokens(high)?)));
            match (bar, share) {
                (Ok((low, high)), Some(share)) if low <= high => {
                    so_far += share;
                    bars.push(Bar {
                        low,
                        high,
                        up_to_here: so_far,
                    });
                }
                (Ok((low, high)), Some(_)) => problems.push(RowProblem {
                    place: place(0),
                    message: format!("from {low} to {high} is no range"),
                }),
                (Err(problem), _) => problems.push(problem),
                (Ok(_), None) => problems.push(RowProblem {
                    place: place(weight),
                    message: format!("`{}` is not a count", &record[weight]),
                }),
            }
        }
        if !problems.is_empty() {
            return Err(WorkloadError::Rows {
                path: path.to_path_buf(),
                noun: "bar",
                bad: problems.len() as u64,
                first: problems.into_iter().take(5).collect(),
            });
        }
        if so_far <= 0.0 {
            return Err(format(
                None,
                "no bar of the histogram has a count".to_owned(),
            ));
        }
        Ok(Histogram { bars: bars.into() })
    }

    fn sample(&self, random: &mut Random) -> u32 {
        let all = self.bars.last().map_or(0.0, |bar| bar.up_to_here);
        let point = random.unit() * all;
        let at = self.bars.partition_point(|bar| bar.up_to_here <= point);
        match self.bars.get(at) {
            Some(bar) => random.between(u64::from(bar.low), u64::from(bar.high)) as u32,
            None => 1,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn drawn(lengths: &LengthDistribution) -> Vec<u32> {
        let mut random = Seed::new(7).rng();
        let mut drawn: Vec<u32> = (0..20_000).map(|_| lengths.sample(&mut random)).collect();
        drawn.sort_unstable();
        drawn
    }

    fn share(drawn: &[u32], meant: impl Fn(u32) -> bool) -> f64 {
        drawn.iter().filter(|length| meant(**length)).count() as f64 / drawn.len() as f64
    }

    fn near(found: f64, wanted: f64, within: f64) {
        assert!((found - wanted).abs() <= within, "{found} is not {wanted}");
    }

    #[test]
    fn a_log_normal_has_its_median_and_95th_percentile() {
        let lengths = drawn(&LengthDistribution::Lognormal {
            median: 300.0,
            p95: 1200.0,
            min: 1,
            max: u32::MAX,
        });
        near(f64::from(lengths[10_000]), 300.0, 12.0);
        near(f64::from(lengths[19_000]), 1200.0, 60.0);
    }

    #[test]
    fn zipf_halves_the_share_of_the_second_length_at_exponent_one() {
        let lengths = drawn(&LengthDistribution::Zipf {
            exponent: 1.0,
            min: 10,
            max: 13,
        });
        // Shares in proportion to 1, 1/2, 1/3, 1/4.
        near(share(&lengths, |length| length == 10), 12.0 / 25.0, 0.015);
        near(share(&lengths, |length| length == 11), 6.0 / 25.0, 0.015);
        near(share(&lengths, |length| length == 13), 3.0 / 25.0, 0.015);
        assert!(lengths.iter().all(|length| (10..=13).contains(length)));
    }

    #[test]
    fn a_mixture_draws_from_each_part_by_its_share() {
        let lengths = drawn(&LengthDistribution::Mixture(
            vec![
                (3.0, LengthDistribution::Fixed(100)),
                (1.0, LengthDistribution::Uniform(1000, 2000)),
            ]
            .into(),
        ));
        near(share(&lengths, |length| length == 100), 0.75, 0.015);
        near(share(&lengths, |length| length >= 1000), 0.25, 0.015);
    }

    #[test]
    fn a_histogram_is_read_and_drawn_from_bar_by_bar() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lengths.csv");
        std::fs::write(&path, "from,to,count\n1,9,10\n100,100,30\n").unwrap();
        let histogram = Histogram::read(&path).unwrap();
        let lengths = drawn(&LengthDistribution::Histogram(histogram));
        near(share(&lengths, |length| length < 10), 0.25, 0.015);
        near(share(&lengths, |length| length == 100), 0.75, 0.015);
    }

    #[test]
    fn a_histogram_with_wrong_bars_is_told_by_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lengths.csv");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = Histogram::read(&path).unwrap_err().to_string();
            error.replace(&format!("{}/", folder.path().display()), "")
        };
        assert_eq!(
            error("from,to,count\n1,9,10\nmany,9,1\n9,1,1\n1,2,-3\n"),
            "`lengths.csv`: 3 rows are not bars\n  \
             line 3, column `from`: `many` is not a number of tokens\n  \
             line 4, column `from`: from 9 to 1 is no range\n  \
             line 5, column `count`: `-3` is not a count"
        );
        assert_eq!(
            error("length,n\n1,2\n"),
            "`lengths.csv` line 1: a histogram has the columns `tokens` (or `from` and `to`) and `count`; found length, n"
        );
        assert_eq!(
            error("tokens,count\n"),
            "`lengths.csv`: no bar of the histogram has a count"
        );
    }
}
