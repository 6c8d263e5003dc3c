//! What `/metrics` shows, under vLLM's names: counters, gauges and histograms of what was served.

use std::fmt::Write;

use super::model::{EngineParameters, Gauges};

/// Sums and histograms of the answers so far; times in seconds.
#[derive(Debug)]
pub(super) struct Statistics {
    pub(super) time_to_first_token: Histogram,
    pub(super) inter_token_latency: Histogram,
    pub(super) time_per_output_token: Histogram,
    pub(super) e2e_latency: Histogram,
    pub(super) queue_time: Histogram,
    pub(super) prefill_time: Histogram,
    pub(super) decode_time: Histogram,
    pub(super) inference_time: Histogram,
    pub(super) request_prompt_tokens: Histogram,
    pub(super) request_generation_tokens: Histogram,
    pub(super) finished_by_stop: u64,
    pub(super) finished_by_length: u64,
}

/// Counts per bucket, and the sum.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

const FIRST_TOKEN_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const TOKEN_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const REQUEST_SECONDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0,
];

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    pub(super) fn observe(&mut self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += times;
        self.sum += value * times as f64;
    }
}

impl Statistics {
    pub(super) fn new() -> Statistics {
        Statistics {
            time_to_first_token: Histogram::new(FIRST_TOKEN_SECONDS),
            inter_token_latency: Histogram::new(TOKEN_SECONDS),
            time_per_output_token: Histogram::new(TOKEN_SECONDS),
            e2e_latency: Histogram::new(REQUEST_SECONDS),
            queue_time: Histogram::new(REQUEST_SECONDS),
            prefill_time: Histogram::new(REQUEST_SECONDS),
            decode_time: Histogram::new(REQUEST_SECONDS),
            inference_time: Histogram::new(REQUEST_SECONDS),
            request_prompt_tokens: Histogram::new(TOKENS),
            request_generation_tokens: Histogram::new(TOKENS),
            finished_by_stop: 0,
            finished_by_length: 0,
        }
    }

    /// The exposition text (Prometheus text format 0.0.4).
    pub(super) fn exposition(
        &self,
        model_name: &str,
        engine: &EngineParameters,
        gauges: &Gauges,
    ) -> String {
        let mut page = Page {
            text: String::with_capacity(16 * 1024),
            model_name,
        };
        self.write_gauges(&mut page, engine, gauges);
        self.write_counters(&mut page, gauges);
        for (name, histogram) in [
            ("time_to_first_token_seconds", &self.time_to_first_token),
            ("inter_token_latency_seconds", &self.inter_token_latency),
            (
                "request_time_per_output_token_seconds",
                &self.time_per_output_token,
            ),
            ("e2e_request_latency_seconds", &self.e2e_latency),
            ("request_queue_time_seconds", &self.queue_time),
            ("request_prefill_time_seconds", &self.prefill_time),
            ("request_decode_time_seconds", &self.decode_time),
            ("request_inference_time_seconds", &self.inference_time),
            ("request_prompt_tokens", &self.request_prompt_tokens),
            ("request_generation_tokens", &self.request_generation_tokens),
        ] {
            page.histogram(name, histogram);
        }
        page.text
    }

    fn write_gauges(&self, page: &mut Page<'_>, engine: &EngineParameters, gauges: &Gauges) {
        page.family("num_requests_running", "gauge");
        page.sample("num_requests_running", "", gauges.running as f64);
        page.family("num_requests_waiting", "gauge");
        page.sample("num_requests_waiting", "", gauges.waiting as f64);
        page.family("num_requests_waiting_by_reason", "gauge");
        let waiting = gauges.waiting as f64;
        page.sample(
            "num_requests_waiting_by_reason",
            r#",reason="capacity""#,
            waiting,
        );
        page.sample(
            "num_requests_waiting_by_reason",
            r#",reason="deferred""#,
            0.0,
        );
        page.family("kv_cache_usage_perc", "gauge");
        page.sample("kv_cache_usage_perc", "", gauges.kv_cache_usage);
        page.family("cache_config_info", "gauge");
        let config = format!(
            r#",block_size="{}",enable_prefix_caching="{}",num_gpu_blocks="{}",simulated="True""#,
            engine.kv_cache.block_tokens,
            if engine.prefix_cache { "True" } else { "False" },
            engine.kv_cache.blocks
        );
        page.sample("cache_config_info", &config, 1.0);
    }

    fn write_counters(&self, page: &mut Page<'_>, gauges: &Gauges) {
        let totals = gauges.totals;
        for (name, value) in [
            ("prompt_tokens_total", totals.prompt_tokens),
            ("prompt_tokens_cached_total", totals.prefix_cache_hits),
            ("generation_tokens_total", totals.generation_tokens),
            ("prefix_cache_queries_total", totals.prefix_cache_queries),
            ("prefix_cache_hits_total", totals.prefix_cache_hits),
            ("num_preemptions_total", totals.preemptions),
        ] {
            page.family(name, "counter");
            page.sample(name, "", value as f64);
        }
        page.family("request_success_total", "counter");
        for (reason, value) in [
            ("stop", self.finished_by_stop),
            ("length", self.finished_by_length),
            // vLLM counts an abort nowhere, either.
            ("abort", 0),
            ("error", 0),
        ] {
            let label = format!(r#",finished_reason="{reason}""#);
            page.sample("request_success_total", &label, value as f64);
        }
    }
}

struct Page<'a> {
    text: String,
    model_name: &'a str,
}

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str) {
        let _ = writeln!(
            self.text,
            "# HELP vllm:{name} Simulated; as vLLM's metric of this name.\n# TYPE vllm:{name} {kind}"
        );
    }

    /// One line; `labels` is empty or begins with a comma.
    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        // Labels stand in alphabetical order, as vLLM's do.
        let (before, after) = if labels < ",model_name" {
            (labels, "")
        } else {
            ("", labels)
        };
        let _ = writeln!(
            self.text,
            "vllm:{name}{{engine=\"0\"{before},model_name={:?}{after}}} {value:?}",
            self.model_name
        );
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.family(name, "histogram");
        let mut total = 0;
        let bucket = format!("{name}_bucket");
        for (index, count) in histogram.counts.iter().enumerate() {
            total += count;
            let bound = histogram.bounds.get(index);
            let bound = bound.map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
            self.sample(&bucket, &format!(",le=\"{bound}\""), total as f64);
        }
        self.sample(&format!("{name}_count"), "", total as f64);
        self.sample(&format!("{name}_sum"), "", histogram.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_hold_their_bound() {
        let mut histogram = Histogram::new(TOKENS);
        for value in [1.0, 2.0, 3.0, 9999.0] {
            histogram.observe(value, 1);
        }
        let mut page = Page {
            text: String::new(),
            model_name: "m",
        };
        page.histogram("request_prompt_tokens", &histogram);
        let line = |bound: &str| {
            let label = format!("le=\"{bound}\"");
            let line = page.text.lines().find(|line| line.contains(&label));
            line.unwrap().rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(
            [line("1.0"), line("2.0"), line("5.0")],
            ["1.0", "2.0", "3.0"]
        );
        assert_eq!(line("+Inf"), "4.0");
        assert!(
            page.text
                .ends_with("request_prompt_tokens_sum{engine=\"0\",model_name=\"m\"} 10005.0\n")
        );
    }
}
