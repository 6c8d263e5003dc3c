//! Percentiles by rank, and how sure one can be of them: order statistics and the binomial, exactly.

use crate::assertion::Percentile;

/// The value at the nearest rank; `sorted` is in rising order and not empty.
pub fn nearest_rank(sorted: &[f64], percentile: Percentile) -> f64 {
    sorted[(percentile.rank(sorted.len() as u64) - 1) as usize]
}

/// The linearly interpolated percentile that numpy gives, for comparison with tools that use it.
pub fn linear(sorted: &[f64], percentile: Percentile) -> f64 {
    let position = percentile.fraction() * (sorted.len() - 1) as f64;
    let (below, share) = (position.floor(), position.fract());
    let low = sorted[below as usize];
    let high = sorted[(below as usize + 1).min(sorted.len() - 1)];
    if share == 0.0 {
        low
    } else {
        low + share * (high - low)
    }
}

/// The ranks, from 1, of the order statistics that hold a percentile of the population with 95 % confidence, whatever its
/// distribution. `None` on a side where `n` values cannot bound it.
pub fn order_interval(n: u64, percentile: Percentile) -> (Option<u64>, Option<u64>) {
    let p = percentile.fraction();
    // The smallest k in 0..=n with P(X ≤ k) ≥ bound.
    let first_at = |bound: f64| {
        let (mut low, mut high) = (0, n);
        while low < high {
            let middle = low + (high - low) / 2;
            if binomial_cdf(middle, n, p) >= bound {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    };
    // P(X ≤ r − 1) ≤ 2.5 %: r is the first k at which the probability passes 2.5 %.
    let low = first_at(0.025 + 1e-12);
    let high = first_at(0.975) + 1;
    ((low >= 1).then_some(low), (high <= n).then_some(high))
}

/// The exact (Clopper–Pearson) 95 % interval of a share of which `hits` of `n` were seen.
pub fn rate_interval(hits: u64, n: u64) -> (f64, f64) {
    let low = if hits == 0 {
        0.0
    } else {
        beta_quantile(hits as f64, (n - hits) as f64 + 1.0, 0.025)
    };
    let high = if hits == n {
        1.0
    } else {
        beta_quantile(hits as f64 + 1.0, (n - hits) as f64, 0.975)
    };
    (low, high)
}

/// Events without a hit that show, with one-sided 95 % confidence, that a share is below `bound`: 299 for 1 %.
pub fn events_to_show(bound: f64) -> Option<u64> {
    (bound > 0.0 && bound < 1.0).then(|| (libm::log(0.05) / libm::log1p(-bound)).ceil() as u64)
}

/// P(X ≤ k) for X binomial with `n` and `p`.
pub fn binomial_cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    incomplete_beta((n - k) as f64, k as f64 + 1.0, 1.0 - p)
}

/// The value that Student's t with `freedom` degrees passes with probability `tail`.
pub fn student_quantile(tail: f64, freedom: f64) -> f64 {
    // P(|T| > t) is the incomplete beta function of f / (f + t²).
    let share = beta_quantile(freedom / 2.0, 0.5, 2.0 * tail);
    (freedom * (1.0 - share) / share).sqrt()
}

fn beta_quantile(a: f64, b: f64, q: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(a, b, middle) < q {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularized incomplete beta function by its continued fraction (Numerical Recipes, section 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = libm::exp(
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
            + a * libm::log(x)
            + b * libm::log1p(-x),
    );
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..100_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-14 {
            break;
        }
    }
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Percentile {
        Percentile::read(text).unwrap()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-4 * b.abs().max(1e-3)
    }

    #[test]
    fn nearest_rank_is_a_value_that_was_seen_and_numpy_interpolates() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(nearest_rank(&ten, p("95")), 10.0);
        assert_eq!(nearest_rank(&ten, p("50")), 5.0);
        assert_eq!(nearest_rank(&ten, p("90")), 9.0);
        assert!(close(linear(&ten, p("95")), 9.55));
        assert!(close(linear(&ten, p("50")), 5.5));
    }

    #[test]
    fn binomial_probabilities_are_those_of_the_tables() {
        assert!(close(binomial_cdf(5, 10, 0.5), 0.623_046_875));
        assert!(close(binomial_cdf(0, 10, 0.1), 0.348_678_44));
        assert_eq!(binomial_cdf(10, 10, 0.5), 1.0);
    }

    #[test]
    fn quantiles_of_student_are_those_of_the_tables() {
        for (tail, freedom, expected) in [
            (0.025, 9.0, 2.2622),
            (0.025, 18.0, 2.1009),
            (0.0005, 18.0, 3.9216),
            (0.025, 1e6, 1.95996),
        ] {
            assert!(close(student_quantile(tail, freedom), expected));
        }
    }

    #[test]
    fn the_median_of_100_lies_between_ranks_40_and_61() {
        assert_eq!(order_interval(100, p("50")), (Some(40), Some(61)));
    }

    #[test]
    fn twenty_samples_bound_p95_only_from_below() {
        assert_eq!(order_interval(20, p("95")), (Some(17), None));
        assert_eq!(order_interval(3, p("95")), (Some(2), None));
    }

    #[test]
    fn a_million_samples_have_a_narrow_interval() {
        let (low, high) = order_interval(1_000_000, p("99"));
        // 1.96 standard deviations of the binomial: 1.96 · √(10⁶ · 0.99 · 0.01) ≈ 195
        assert!((989_800..989_810).contains(&low.unwrap()), "{low:?}");
        assert!((990_190..990_200).contains(&high.unwrap()), "{high:?}");
    }

    #[test]
    fn rates_have_the_clopper_pearson_interval() {
        for ((hits, n), (low, high)) in [
            ((1, 100), (0.000_253_146, 0.054_459)),
            ((0, 299), (0.0, 0.012_262)),
            ((5, 10), (0.187_086, 0.812_914)),
            ((10, 10), (0.691_503, 1.0)),
        ] {
            let seen = rate_interval(hits, n);
            assert!(
                close(seen.0, low) && close(seen.1, high),
                "{hits}/{n}: {seen:?}"
            );
        }
        assert_eq!(events_to_show(0.01), Some(299));
    }
}
