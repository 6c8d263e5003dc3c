//! How many samples a percentile needs before its verdict means something.

/// A percentile named in an assertion, and the samples that a 95 % bound on it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PercentileNeed {
    /// The percentile, like 95 or 99.9.
    pub percentile: f64,
    /// Samples for the distribution-free one-sided 95 % bound: n ≥ ln 0.05 / ln q (59 for P95, 299 for P99).
    pub samples: u64,
}

/// Words of metrics that have many samples in one request, or none from requests.
const NOT_PER_REQUEST: &[&str] = &[
    "itl",
    "icl",
    "inter-token",
    "inter token",
    "chunk gap",
    "gpu",
    "kv",
    "client",
];

/// The highest percentile over requests that the text of an assertion names.
pub fn needed(assertion: &str) -> Option<PercentileNeed> {
    let text = assertion.to_lowercase();
    if NOT_PER_REQUEST.iter().any(|word| text.contains(word)) {
        return None;
    }
    percentiles(&text)
        .max_by(f64::total_cmp)
        .map(|percentile| PercentileNeed {
            percentile,
            samples: (libm::log(0.05) / libm::log(percentile / 100.0)).ceil() as u64,
        })
}

/// The numbers in `p95`, `p99.9`, `p(95)` and `.p95` of a lower-case text.
fn percentiles(text: &str) -> impl Iterator<Item = f64> {
    let bytes = text.as_bytes();
    text.match_indices('p').filter_map(move |(at, _)| {
        let starts_a_word = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let number: String = text[at + 1..]
            .trim_start_matches(['(', ' '])
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let value: f64 = number.trim_end_matches('.').parse().ok()?;
        (starts_a_word && value > 0.0 && value < 100.0).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_percentile_needs_its_samples() {
        for (text, samples) in [
            ("P90 TTFT < 1s", 29),
            ("P95 TTFT < 500ms", 59),
            ("p(99) < 500", 299),
            ("p(95, ttft) < 500", 59),
            ("sglang.ttft.p99.9 <= 2s", 2995),
            ("P95 TTFT <= 1.1 * vllm.ttft.p99", 299),
        ] {
            assert_eq!(
                needed(text).map(|need| need.samples),
                Some(samples),
                "{text}"
            );
        }
    }

    #[test]
    fn rates_means_and_gaps_between_tokens_need_no_more_requests() {
        for text in [
            "error rate < 1%",
            "mean ttft < 1s",
            "P99 ITL < 80ms",
            "p95 gpu.power < 300 W",
        ] {
            assert_eq!(needed(text), None, "{text}");
        }
    }
}
