//! An engine's own metrics, under our names.

use std::collections::BTreeMap;

use super::exposition::{Metric, parse};
use super::{Sample, TelemetrySource};
use crate::units::Moment;

/// Prompt tokens that were looked up in the prefix cache: the denominator of `prefix_hit_rate`. A counter.
pub const PREFIX_QUERIES: &str = "engine.prefix_queries";
/// Prompt tokens that were found there: its numerator. A counter.
pub const PREFIX_HITS: &str = "engine.prefix_hits";
/// Prompt tokens by the engine's count. A counter.
pub const PROMPT_TOKENS: &str = "engine.prompt_tokens";
/// Generated tokens by the engine's count. A counter.
pub const GENERATION_TOKENS: &str = "engine.generation_tokens";

/// Which names an engine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// vLLM, and the embedded simulator.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp.
    LlamaCpp,
    /// TensorRT-LLM's own server.
    TensorrtLlm,
    /// TensorRT-LLM behind Triton.
    Triton,
    /// Text Generation Inference.
    Tgi,
}

/// How the samples of several engine cores or ranks on one page become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    Sum,
    Mean,
}

/// Our metric, and what the engine calls it; of several names the first on the page counts (newer versions first). A name may
/// be narrowed by a label: `requests{state=active}`.
type Name = (&'static str, Join, &'static [&'static str]);

const VLLM: &[Name] = &[
    ("running", Join::Sum, &["vllm:num_requests_running"]),
    ("queue", Join::Sum, &["vllm:num_requests_waiting"]),
    (
        "kv_cache",
        Join::Mean,
        &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
    ),
    ("preemptions", Join::Sum, &["vllm:num_preemptions_total"]),
    (
        PREFIX_QUERIES,
        Join::Sum,
        &[
            "vllm:prefix_cache_queries_total",
            "vllm:gpu_prefix_cache_queries_total",
        ],
    ),
    (
        PREFIX_HITS,
        Join::Sum,
        &[
            "vllm:prefix_cache_hits_total",
            "vllm:gpu_prefix_cache_hits_total",
        ],
    ),
    (PROMPT_TOKENS, Join::Sum, &["vllm:prompt_tokens_total"]),
    (
        GENERATION_TOKENS,
        Join::Sum,
        &["vllm:generation_tokens_total"],
    ),
];

const SGLANG: &[Name] = &[
    ("running", Join::Sum, &["sglang:num_running_reqs"]),
    ("queue", Join::Sum, &["sglang:num_queue_reqs"]),
    ("kv_cache", Join::Mean, &["sglang:token_usage"]),
    (
        "preemptions",
        Join::Sum,
        &["sglang:num_retracted_requests_total"],
    ),
    (PREFIX_QUERIES, Join::Sum, &["sglang:prompt_tokens_total"]),
    (PREFIX_HITS, Join::Sum, &["sglang:cached_tokens_total"]),
    (PROMPT_TOKENS, Join::Sum, &["sglang:prompt_tokens_total"]),
    (
        GENERATION_TOKENS,
        Join::Sum,
        &["sglang:generation_tokens_total"],
    ),
];

const LLAMA_CPP: &[Name] = &[
    ("running", Join::Sum, &["llamacpp:requests_processing"]),
    ("queue", Join::Sum, &["llamacpp:requests_deferred"]),
    ("kv_cache", Join::Mean, &["llamacpp:kv_cache_usage_ratio"]),
    (
        PREFIX_HITS,
        Join::Sum,
        &["llamacpp:prompt_tokens_cached_total"],
    ),
    (PROMPT_TOKENS, Join::Sum, &["llamacpp:prompt_tokens_total"]),
    (
        GENERATION_TOKENS,
        Join::Sum,
        &["llamacpp:tokens_predicted_total"],
    ),
];

const TENSORRT_LLM: &[Name] = &[
    (
        "running",
        Join::Sum,
        &["trtllm_num_requests_running", "trtllm_num_active_requests"],
    ),
    (
        "queue",
        Join::Sum,
        &["trtllm_num_requests_waiting", "trtllm_num_queued_requests"],
    ),
    ("kv_cache", Join::Mean, &["trtllm_kv_cache_utilization"]),
    (PREFIX_QUERIES, Join::Sum, &["trtllm_prompt_tokens_total"]),
    (
        PREFIX_HITS,
        Join::Sum,
        &["trtllm_prompt_cached_tokens_total"],
    ),
    (PROMPT_TOKENS, Join::Sum, &["trtllm_prompt_tokens_total"]),
];

const TRITON: &[Name] = &[
    (
        "running",
        Join::Sum,
        &["nv_trt_llm_request_metrics{request_type=scheduled}"],
    ),
    (
        "queue",
        Join::Sum,
        &["nv_trt_llm_request_metrics{request_type=waiting}"],
    ),
    (
        "kv_cache",
        Join::Mean,
        &["nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"],
    ),
];

/// It tells neither its KV cache nor its prefix cache, and tokens only as sums of histograms.
const TGI: &[Name] = &[
    ("running", Join::Sum, &["tgi_batch_current_size"]),
    ("queue", Join::Sum, &["tgi_queue_size"]),
    (PROMPT_TOKENS, Join::Sum, &["tgi_request_input_length_sum"]),
    (
        GENERATION_TOKENS,
        Join::Sum,
        &["tgi_request_generated_tokens_sum"],
    ),
];

/// What the names of each engine begin with.
const BEGINNINGS: [(&str, Dialect); 6] = [
    ("vllm:", Dialect::Vllm),
    ("sglang:", Dialect::Sglang),
    ("llamacpp:", Dialect::LlamaCpp),
    ("trtllm_", Dialect::TensorrtLlm),
    ("nv_trt_llm_", Dialect::Triton),
    ("tgi_", Dialect::Tgi),
];

impl Dialect {
    /// The dialect that a page is written in, when the kind of the engine does not tell.
    pub fn of_page(page: &str) -> Option<Dialect> {
        parse(page).find_map(|metric| {
            BEGINNINGS
                .iter()
                .find(|(beginning, _)| metric.name.starts_with(beginning))
                .map(|(_, dialect)| *dialect)
        })
    }

    fn names(self) -> &'static [Name] {
        match self {
            Dialect::Vllm => VLLM,
            Dialect::Sglang => SGLANG,
            Dialect::LlamaCpp => LLAMA_CPP,
            Dialect::TensorrtLlm => TENSORRT_LLM,
            Dialect::Triton => TRITON,
            Dialect::Tgi => TGI,
        }
    }

    /// What a page says, under our names.
    pub fn read(self, page: &str) -> Vec<(&'static str, f64)> {
        let metrics: Vec<Metric> = parse(page).collect();
        let mut read: Vec<(&'static str, f64)> = self
            .names()
            .iter()
            .filter_map(|&(ours, join, theirs)| {
                let value = theirs
                    .iter()
                    .find_map(|name| joined(&metrics, name, join))?;
                Some((ours, value))
            })
            .collect();
        match self {
            Dialect::LlamaCpp => counted_with_cached_ones(&mut read),
            Dialect::Triton => read.extend(share_of_blocks(&metrics, &read)),
            Dialect::Vllm | Dialect::Sglang | Dialect::TensorrtLlm | Dialect::Tgi => {}
        }
        read
    }
}

fn joined(metrics: &[Metric], name: &str, join: Join) -> Option<f64> {
    let (name, narrowed) = match name.trim_end_matches('}').split_once('{') {
        Some((name, label)) => (name, label.split_once('=')),
        None => (name, None),
    };
    let is_meant = |metric: &&Metric| {
        metric.name == name
            && narrowed.is_none_or(|(label, value)| metric.label(label) == Some(value))
    };
    let mut parts: BTreeMap<Vec<(&str, &str)>, f64> = BTreeMap::new();
    for metric in metrics.iter().filter(is_meant) {
        // SGLang breaks some numbers down by priority beside the total, whose priority is empty.
        let is_breakdown = metric.label("priority").is_some_and(|p| !p.is_empty());
        if is_breakdown || !metric.value.is_finite() {
            continue;
        }
        let part = metric
            .labels
            .iter()
            .filter(|(label, _)| !VIEWS.contains(label))
            .map(|(label, value)| (*label, value.as_str()))
            .collect();
        let seen = parts.entry(part).or_insert(metric.value);
        *seen = seen.max(metric.value);
    }
    let sum = parts.values().sum::<f64>();
    match (parts.len(), join) {
        (0, _) => None,
        (_, Join::Sum) => Some(sum),
        (count, Join::Mean) => Some(sum / count as f64),
    }
}

/// Ranks and processes that each tell the number of the whole: of them the largest counts, the others are views of it.
const VIEWS: [&str; 4] = ["tp_rank", "pp_rank", "moe_ep_rank", "pid"];

/// llama.cpp counts prompt tokens without those from its cache; ours are with them, and each was looked up.
fn counted_with_cached_ones(read: &mut Vec<(&'static str, f64)>) {
    let find = |name| read.iter().position(|(metric, _)| *metric == name);
    if let (Some(prompt), Some(hits)) = (find(PROMPT_TOKENS), find(PREFIX_HITS)) {
        read[prompt].1 += read[hits].1;
        let queries = (PREFIX_QUERIES, read[prompt].1);
        read.insert(hits, queries);
    }
}

/// Older Triton backends count the blocks of their KV cache and do not tell the share that is used.
fn share_of_blocks(
    metrics: &[Metric],
    read: &[(&'static str, f64)],
) -> Option<(&'static str, f64)> {
    if read.iter().any(|(metric, _)| *metric == "kv_cache") {
        return None;
    }
    let blocks = |kind: &str| {
        let name = format!("nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type={kind}}}");
        joined(metrics, &name, Join::Sum)
    };
    let (used, most) = (blocks("used")?, blocks("max")?);
    (most > 0.0).then_some(("kv_cache", used / most))
}

/// Gives a page, or why there is none. It ends within its own time limit.
pub type Fetch = Box<dyn FnMut() -> Result<String, String> + Send>;

/// Reads an engine's metrics page.
pub struct EngineSource {
    name: String,
    dialect: Option<Dialect>,
    fetch: Fetch,
    /// The generated tokens that were told last: fewer of them mean that the engine began anew.
    generated: f64,
    failing: bool,
}

impl EngineSource {
    /// A source that reads what `fetch` gives; without a dialect the page tells it.
    pub fn new(backend: &str, dialect: Option<Dialect>, fetch: Fetch) -> EngineSource {
        EngineSource {
            name: format!("engine metrics of {backend}"),
            dialect,
            fetch,
            generated: 0.0,
            failing: false,
        }
    }

    fn read(&mut self, page: &str, into: &mut Vec<Sample>) {
        if self.dialect.is_none() {
            self.dialect = Dialect::of_page(page);
        }
        let read = self.dialect.map(|dialect| dialect.read(page));
        let read = read.unwrap_or_default();
        if read.is_empty() {
            self.fail("its page has none of the metrics that are known here", into);
            return;
        }
        self.failing = false;
        for &(metric, value) in &read {
            if metric == GENERATION_TOKENS {
                if value < self.generated {
                    let text = format!("{}: its counters began anew", self.name);
                    into.push(Sample::event("engine_restarted", text));
                }
                self.generated = value;
            }
            into.push(Sample::value(metric, value));
        }
    }

    /// Told once for each time that it begins to fail, not four times a second.
    fn fail(&mut self, why: &str, into: &mut Vec<Sample>) {
        if !self.failing {
            into.push(Sample::event(
                "telemetry_lost",
                format!("{}: {why}", self.name),
            ));
        }
        self.failing = true;
    }
}

impl TelemetrySource for EngineSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&mut self) {
        // Between cells an engine may be started anew on purpose.
        self.generated = 0.0;
        self.failing = false;
    }

    fn sample(&mut self, _at: Moment, into: &mut Vec<Sample>) {
        match (self.fetch)() {
            Ok(page) => self.read(&page, into),
            Err(why) => self.fail(&why, into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(samples: &[Sample]) -> Vec<String> {
        samples
            .iter()
            .map(|sample| match sample {
                Sample::Value { metric, value, .. } => format!("{metric} {value}"),
                Sample::Event { kind, text } => format!("{kind}: {text}"),
            })
            .collect()
    }

    #[test]
    fn data_parallel_engines_add_up_and_their_caches_are_averaged() {
        let page = "vllm:num_requests_running{engine=\"0\"} 3\n\
                    vllm:num_requests_running{engine=\"1\"} 5\n\
                    vllm:kv_cache_usage_perc{engine=\"0\"} 0.2\n\
                    vllm:kv_cache_usage_perc{engine=\"1\"} 0.4\n";
        let read = Dialect::Vllm.read(page);
        assert_eq!(read[0], ("running", 8.0));
        assert!((read[1].1 - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_failure_is_told_once_and_counters_that_fall_are_a_restart() {
        let mut pages = [
            Ok("vllm:generation_tokens_total 100"),
            Err("connection refused"),
            Err("connection refused"),
            Ok("vllm:generation_tokens_total 7"),
        ]
        .into_iter();
        let fetch = move || {
            pages
                .next()
                .unwrap()
                .map(str::to_owned)
                .map_err(str::to_owned)
        };
        let mut source = EngineSource::new("vllm", None, Box::new(fetch));
        let mut samples = Vec::new();
        (0..4).for_each(|_| source.sample(Moment::ZERO, &mut samples));
        assert_eq!(
            said(&samples),
            [
                "engine.generation_tokens 100",
                "telemetry_lost: engine metrics of vllm: connection refused",
                "engine_restarted: engine metrics of vllm: its counters began anew",
                "engine.generation_tokens 7",
            ]
        );
    }

    #[test]
    fn recorded_pages_give_what_stands_beside_them() {
        let pages = [
            ("vllm-under-load", Dialect::Vllm),
            ("vllm-idle", Dialect::Vllm),
            ("llamacpp-under-load", Dialect::LlamaCpp),
            ("sglang-made", Dialect::Sglang),
            ("trtllm-made", Dialect::TensorrtLlm),
            ("triton-made", Dialect::Triton),
            ("triton-23.11-made", Dialect::Triton),
            ("tgi-made", Dialect::Tgi),
        ];
        for (name, dialect) in pages {
            let read = |ending: &str| {
                std::fs::read_to_string(format!("fixtures/metrics/{name}.{ending}")).unwrap()
            };
            let page = read("txt");
            assert_eq!(Dialect::of_page(&page), Some(dialect), "{name}");
            let seen: Vec<String> = dialect
                .read(&page)
                .iter()
                .map(|(metric, value)| format!("{metric} {value}\n"))
                .collect();
            assert_eq!(seen.concat(), read("expected"), "{name}");
        }
    }
}
