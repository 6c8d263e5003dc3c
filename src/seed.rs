//! Randomness that is the same on every machine: named streams of one seed, and our own samplers.
//!
//! A stream is ChaCha8 keyed by blake3 of the seed and the names on its path, so one stream never depends on how many values
//! another one has drawn. Samplers take logarithms and roots from `libm`, not from the platform, so a plan is the same bits
//! everywhere.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The root of all randomness of a run, or a named branch of it.
#[derive(Clone, Debug)]
pub struct Seed {
    hasher: blake3::Hasher,
}

impl Seed {
    /// The root for the seed number of a scenario file.
    pub fn new(seed: u64) -> Seed {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"scenario seed v1");
        hasher.update(&seed.to_le_bytes());
        Seed { hasher }
    }

    /// The branch called `name`; branches of different names are independent.
    pub fn stream(&self, name: &str) -> Seed {
        let mut hasher = self.hasher.clone();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        Seed { hasher }
    }

    /// The branch number `index`, for values that depend on an index and never on an order.
    pub fn at(&self, index: u64) -> Seed {
        let mut hasher = self.hasher.clone();
        hasher.update(b"#");
        hasher.update(&index.to_le_bytes());
        Seed { hasher }
    }

    /// A generator that starts at the beginning of this branch.
    pub fn rng(&self) -> Random {
        Random {
            inner: ChaCha8Rng::from_seed(*self.hasher.finalize().as_bytes()),
            spare_normal: None,
        }
    }

    /// One 64-bit hash of this branch, for ordering and thinning by index.
    pub fn hash(&self) -> u64 {
        let bytes = self.hasher.finalize();
        u64::from_le_bytes(
            bytes.as_bytes()[..8]
                .try_into()
                .expect("a hash has 32 bytes"),
        )
    }
}

/// A portable generator with the samplers that arrivals and workloads need.
#[derive(Clone, Debug)]
pub struct Random {
    inner: ChaCha8Rng,
    spare_normal: Option<f64>,
}

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// Uniform in [0, 1), with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in (0, 1]: safe under a logarithm.
    pub fn unit_open(&mut self) -> f64 {
        1.0 - self.unit()
    }

    /// Uniform integer in `0..bound`, without bias (Lemire 2019, "Fast random integer generation in an interval").
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no random member");
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            if (wide as u64) >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Uniform integer in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            low
        } else {
            low + self.below(high - low + 1)
        }
    }

    /// A rank in `1..=ranks` with a share in proportion to rank to the power of `-exponent`, by rejection-inversion
    /// (Hörmann and Derflinger, 1996, "Rejection-inversion to generate variates from monotone discrete distributions").
    ///
    /// # Panics
    /// If there are no ranks.
    pub fn zipf(&mut self, ranks: u64, exponent: f64) -> u64 {
        assert!(ranks > 0, "an empty range has no random member");
        // The integral of x^-exponent, and its inverse; both continuous at exponent 1.
        let integral = |x: f64| {
            let log = libm::log(x);
            log * expm1_over((1.0 - exponent) * log)
        };
        let inverse = |y: f64| {
            let scaled = (y * (1.0 - exponent)).max(-1.0);
            libm::exp(y * log1p_over(scaled))
        };
        let last = integral(ranks as f64 + 0.5);
        let first = integral(1.5) - 1.0;
        let squeeze = 2.0 - inverse(integral(2.5) - libm::exp(-exponent * libm::log(2.0)));
        loop {
            let point = last + self.unit() * (first - last);
            let x = inverse(point);
            let rank = libm::round(x).clamp(1.0, ranks as f64);
            if rank - x <= squeeze
                || point >= integral(rank + 0.5) - libm::exp(-exponent * libm::log(rank))
            {
                return rank as u64;
            }
        }
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.unit_open())
    }

    /// Standard normal (polar method of Marsaglia and Bray, 1964).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        loop {
            let (u, v) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                let factor = libm::sqrt(-2.0 * libm::log(s) / s);
                self.spare_normal = Some(v * factor);
                return u * factor;
            }
        }
    }

    /// Gamma with the given shape and scale 1/shape, so mean 1 and squared coefficient of variation 1/shape
    /// (Marsaglia and Tsang, 2000, "A simple method for generating gamma variables").
    pub fn gamma_mean_one(&mut self, shape: f64) -> f64 {
        self.gamma(shape) / shape
    }

    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Boost: if G ~ Gamma(a + 1) and U uniform, then G·U^(1/a) ~ Gamma(a).
            let boosted = self.gamma(shape + 1.0);
            return boosted * libm::exp(libm::log(self.unit_open()) / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            let u = self.unit_open();
            if libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Shuffles a slice in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// (eˣ − 1) / x, which is 1 at 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        libm::expm1(x) / x
    } else {
        1.0 + x / 2.0
    }
}

/// ln(1 + x) / x, which is 1 at 0.
fn log1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        libm::log1p(x) / x
    } else {
        1.0 - x / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_bits_on_every_machine() {
        let mut random = Seed::new(1).stream("arrivals").rng();
        let drawn: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(drawn, GOLDEN_BITS);
    }

    #[test]
    fn streams_do_not_depend_on_each_other() {
        let seed = Seed::new(1);
        assert_ne!(seed.stream("a").at(0).hash(), seed.stream("a").at(1).hash());
        assert_ne!(
            seed.stream("ab").stream("c").hash(),
            seed.stream("a").stream("bc").hash()
        );
    }

    #[test]
    fn samplers_have_their_means_and_variances() {
        let moments = |sample: &mut dyn FnMut() -> f64| {
            let values: Vec<f64> = (0..200_000).map(|_| sample()).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (
                mean,
                values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64,
            )
        };
        let mut random = Seed::new(7).rng();
        for (name, (mean, variance), expected) in [
            (
                "exponential",
                moments(&mut || random.exponential()),
                (1.0, 1.0),
            ),
            (
                "gamma ¼",
                {
                    let mut r = Seed::new(8).rng();
                    moments(&mut move || r.gamma_mean_one(0.25))
                },
                (1.0, 4.0),
            ),
            (
                "gamma 4",
                {
                    let mut r = Seed::new(9).rng();
                    moments(&mut move || r.gamma_mean_one(4.0))
                },
                (1.0, 0.25),
            ),
            (
                "normal",
                {
                    let mut r = Seed::new(10).rng();
                    moments(&mut move || r.normal())
                },
                (0.0, 1.0),
            ),
        ] {
            assert!((mean - expected.0).abs() < 0.02, "{name}: mean {mean}");
            assert!(
                (variance / expected.1 - 1.0).abs() < 0.04,
                "{name}: variance {variance}"
            );
        }
    }

    const GOLDEN_BITS: [u64; 3] = [
        9_371_293_217_405_446_950,
        17_086_773_911_429_910_681,
        17_404_587_905_404_238_982,
    ];
}
