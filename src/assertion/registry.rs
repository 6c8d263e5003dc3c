//! Every metric: its names, its kind, its unit and which way is better. Feeds the grammar, the schema, help and reports.

use super::dimension::Dimension;
use super::syntax::Aggregate;

/// One metric that can be measured and asserted.
#[derive(Debug)]
pub struct Metric {
    /// The name in files and paths.
    pub name: &'static str,
    /// Other ways to say it, one to four words.
    pub aliases: &'static [&'static str],
    /// What kind of thing it is, which decides what an aggregate means.
    pub kind: Kind,
    /// What it is a number of.
    pub dimension: Dimension,
    /// Whether it is a share of a whole, written in percent.
    pub share: bool,
    /// Which way is better.
    pub better: Better,
    /// One line for `scenario help metrics`.
    pub about: &'static str,
}

impl PartialEq for Metric {
    fn eq(&self, other: &Metric) -> bool {
        self.name == other.name
    }
}

impl Metric {
    /// The canonical unit as written in files; empty for shares and counts without one.
    pub fn unit(&self) -> &'static str {
        self.dimension.unit_text()
    }

    /// The dimension of this metric under an aggregate: a count of samples is requests, the rate of a counter is per time.
    pub fn dimension_of(&self, aggregate: Aggregate) -> Dimension {
        match (self.kind, aggregate) {
            (Kind::Trend | Kind::Rate, Aggregate::Count) => Dimension::REQUEST,
            (Kind::Gap, Aggregate::Count) => Dimension::NONE,
            (Kind::Counter, Aggregate::Rate) => self.dimension / Dimension::TIME,
            _ => self.dimension,
        }
    }

    /// Whether a value under this aggregate is a share.
    pub fn share_of(&self, aggregate: Aggregate) -> bool {
        self.share && aggregate != Aggregate::Count
    }
}

/// What kind of thing a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One value a request.
    Trend,
    /// One value for each gap between output events, pooled over requests.
    Gap,
    /// A share of the scheduled requests.
    Rate,
    /// A sum that starts at 0.
    Counter,
    /// Something per second, by clock time.
    Flow,
    /// A level that is sampled over time.
    Gauge,
    /// Made from other metrics; takes no aggregate.
    Derived,
}

impl Kind {
    /// Every kind, in the order of documents.
    pub const ALL: [Kind; 7] = [
        Kind::Trend,
        Kind::Gap,
        Kind::Rate,
        Kind::Counter,
        Kind::Flow,
        Kind::Gauge,
        Kind::Derived,
    ];

    /// The name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Trend => "trend",
            Kind::Gap => "gap",
            Kind::Rate => "rate",
            Kind::Counter => "counter",
            Kind::Flow => "flow",
            Kind::Gauge => "gauge",
            Kind::Derived => "derived",
        }
    }

    /// The aggregates that mean something on this kind, for messages.
    pub fn legal(self) -> &'static str {
        match self {
            Kind::Trend => "pN, mean, med, min, max, std, sum, count",
            Kind::Gap => "pN, mean, med, min, max, std, count",
            Kind::Rate => "none, rate, count",
            Kind::Counter => "none, count, rate",
            Kind::Flow => "none, mean, min, pN",
            Kind::Gauge => "mean, min, max, pN, last",
            Kind::Derived => "none",
        }
    }
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// It describes, and neither is better.
    Neither,
}

/// All metrics, in the order of documents.
pub fn metrics() -> &'static [Metric] {
    METRICS
}

/// The metric with this name or alias; case, `_`, `-` and spaces do not matter.
pub fn find(name: &str) -> Option<&'static Metric> {
    let wanted = plain(name);
    METRICS.iter().find(|metric| {
        plain(metric.name) == wanted || metric.aliases.iter().any(|alias| plain(alias) == wanted)
    })
}

fn plain(name: &str) -> String {
    name.trim()
        .chars()
        .map(|c| match c {
            '_' | '-' => ' ',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

const fn metric(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    dimension: Dimension,
    better: Better,
    about: &'static str,
) -> Metric {
    Metric {
        name,
        aliases,
        kind,
        dimension,
        share: false,
        better,
        about,
    }
}

const fn share(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    better: Better,
    about: &'static str,
) -> Metric {
    Metric {
        name,
        aliases,
        kind,
        dimension: Dimension::NONE,
        share: true,
        better,
        about,
    }
}

use Better::{Higher, Lower, Neither};
use Kind::{Counter, Derived, Flow, Gap, Gauge, Rate, Trend};

#[rustfmt::skip]
static METRICS: &[Metric] = &[
    metric("ttft", &["time to first token", "first token latency", "first token"], Trend, Dimension::TIME, Lower,
        "time to first token: from sending (closed loop) or the planned instant (open loop) to the first generated output"),
    metric("ttft_intended", &["intended ttft"], Trend, Dimension::TIME, Lower,
        "time to first token from the planned instant, free of coordinated omission"),
    metric("ttft_content", &["time to first content", "time to first answer", "first content"], Trend, Dimension::TIME, Lower,
        "time to the first visible answer text, after reasoning"),
    metric("first_event", &["first byte", "first chunk", "time to first event"], Trend, Dimension::TIME, Lower,
        "time to the first event of any kind, also one that only names the role"),
    metric("e2e", &["latency", "end to end", "end to end latency", "request latency", "e2e latency"], Trend, Dimension::TIME, Lower,
        "time to the last generated output"),
    metric("e2e_intended", &["intended e2e"], Trend, Dimension::TIME, Lower,
        "time from the planned instant to the last generated output"),
    metric("e2e_stream", &["stream duration"], Trend, Dimension::TIME, Lower,
        "time from sending to the end of the stream"),
    metric("tpot", &["time per output token", "time per token"], Trend, Dimension::TIME, Lower,
        "time per output token after the first event, one value a request"),
    metric("itl", &["inter token latency", "token gap"], Gap, Dimension::TIME, Lower,
        "gap between output events divided over the tokens of the later one, one sample a token"),
    metric("icl", &["chunk gap", "inter chunk latency", "stutter"], Gap, Dimension::TIME, Lower,
        "gap between successive output events, one sample a gap: what a person sees as stutter"),
    metric("tps_per_user", &["tokens per user", "speed per user", "user speed"], Trend, Dimension::TOKENS_PER_TIME, Higher,
        "output tokens of a request divided by its e2e"),
    metric("prefill_speed", &["prefill throughput"], Trend, Dimension::TOKENS_PER_TIME, Higher,
        "prompt tokens of a request divided by its ttft"),
    metric("input_tokens", &["prompt tokens"], Trend, Dimension::TOKEN, Neither, "prompt tokens of a request"),
    metric("output_tokens", &["completion tokens", "generated tokens"], Trend, Dimension::TOKEN, Neither, "generated tokens of a request"),
    metric("cached_tokens", &[], Trend, Dimension::TOKEN, Neither, "prompt tokens of a request that came from the prefix cache"),
    metric("reasoning_tokens", &["thinking tokens"], Trend, Dimension::TOKEN, Neither, "generated tokens of a request that were reasoning"),
    metric("tokens_per_event", &["tokens per chunk"], Trend, Dimension::TOKEN, Neither, "output tokens of a request divided by its output events"),
    metric("send_lag", &["schedule lag"], Trend, Dimension::TIME, Lower, "how late the runner itself sent a request"),
    share("error_rate", &["error rate", "errors rate", "failure rate"], Rate, Lower, "failed requests as a share of the scheduled ones"),
    share("drop_rate", &["drop rate", "dropped rate"], Rate, Lower, "requests dropped at the in-flight cap as a share of the scheduled ones"),
    share("cut_rate", &["cut rate"], Rate, Lower, "requests still running at the end of the drain as a share of the scheduled ones"),
    share("truncated_rate", &["truncated rate", "truncation rate"], Rate, Lower, "answers that broke off as a share of the scheduled requests"),
    share("length_stop_rate", &["length stop rate"], Rate, Neither, "answers that ended at the token limit as a share of the scheduled requests"),
    share("valid_rate", &["valid rate", "validity"], Rate, Higher, "answers that met `expect` as a share of the scheduled requests that had one"),
    share("goodput_ratio", &["goodput ratio", "slo attainment"], Rate, Higher, "requests that met every bound of `goodput` as a share of the scheduled ones"),
    share("prefix_hit_rate", &["prefix hit rate", "cache hit rate"], Rate, Higher, "prompt tokens served from the prefix cache, as the engine tells it"),
    metric("requests", &["request count"], Counter, Dimension::REQUEST, Neither, "requests scheduled"),
    metric("errors", &["error count", "failures"], Counter, Dimension::REQUEST, Lower, "requests failed"),
    metric("preemptions", &["preemption count"], Counter, Dimension::NONE, Lower, "requests that the engine preempted"),
    metric("gpu.energy", &["gpu energy", "energy"], Counter, Dimension::ENERGY, Lower, "energy that the GPUs used in the window"),
    metric("output_tps", &["output throughput", "out tok/s", "output tok/s", "token throughput", "output tokens per second"], Flow, Dimension::TOKENS_PER_TIME, Higher,
        "output tokens that arrived in the window, per second"),
    metric("input_tps", &["input throughput", "prompt throughput", "in tok/s"], Flow, Dimension::TOKENS_PER_TIME, Higher,
        "prompt tokens whose first token arrived in the window, per second"),
    metric("total_tps", &["total throughput", "total tok/s"], Flow, Dimension::TOKENS_PER_TIME, Higher, "input and output tokens per second"),
    metric("rps", &["request throughput", "requests per second", "request rate", "throughput"], Flow, Dimension::REQUESTS_PER_TIME, Higher,
        "requests answered in the window, per second"),
    metric("goodput", &["good requests"], Flow, Dimension::REQUESTS_PER_TIME, Higher, "answered requests that met every bound of `goodput`, per second"),
    metric("achieved_rate", &["achieved rate", "send rate", "sent rate"], Flow, Dimension::REQUESTS_PER_TIME, Neither, "requests sent in the window, per second"),
    share("gpu.util", &["gpu utilization", "gpu utilisation", "gpu util"], Gauge, Neither, "share of time in which the GPU was busy; mean of several"),
    metric("gpu.memory_used", &["gpu memory", "gpu memory used", "vram"], Gauge, Dimension::BYTE, Lower, "memory in use on the fullest GPU"),
    metric("gpu.memory_total", &["total gpu memory"], Gauge, Dimension::BYTE, Lower, "memory in use on all GPUs together"),
    metric("gpu.power", &["gpu power", "power draw"], Gauge, Dimension::POWER, Lower, "power of all GPUs together"),
    metric("gpu.temperature", &["gpu temperature", "gpu temp"], Gauge, Dimension::TEMPERATURE, Lower, "temperature; mean of several GPUs"),
    metric("gpu.sm_clock", &["gpu clock", "sm clock"], Gauge, Dimension::FREQUENCY, Neither, "clock of the streaming multiprocessors; mean of several GPUs"),
    share("kv_cache", &["kv cache", "kv cache usage", "kv cache utilization"], Gauge, Neither, "share of the engine's KV cache in use"),
    metric("queue", &["queue length", "waiting requests", "queue depth"], Gauge, Dimension::REQUEST, Lower, "requests waiting in the engine"),
    metric("running", &["running requests"], Gauge, Dimension::REQUEST, Neither, "requests running in the engine"),
    metric("achieved_concurrency", &["concurrency", "in flight", "achieved concurrency"], Gauge, Dimension::REQUEST, Neither, "requests in flight, as the runner saw them"),
    metric("active_users", &["active users", "users"], Gauge, Dimension::NONE, Neither, "closed-loop users in flight, thinking or between calls"),
    share("client.cpu", &["client cpu"], Gauge, Lower, "share of one core that the runner's busiest thread used"),
    metric("client.rss", &["client memory"], Gauge, Dimension::BYTE, Lower, "memory of the runner"),
    metric("client.lag", &["client lag"], Gauge, Dimension::TIME, Lower, "how late the runner read what had arrived"),
    metric("energy_per_token", &["energy per token", "joules per token"], Derived, Dimension::ENERGY_PER_TOKEN, Lower, "GPU energy in the window divided by its output tokens"),
    metric("tokens_per_joule", &["tokens per joule"], Derived, Dimension::TOKENS_PER_ENERGY, Higher, "output tokens in the window divided by its GPU energy"),
    metric("scaling_efficiency", &["scaling efficiency"], Derived, Dimension::TOKENS_PER_TIME, Higher, "output throughput divided by the number of users"),
    metric("cost_per_mtok", &["cost per million tokens", "cost"], Derived, Dimension::MONEY, Lower, "dollars for a million output tokens, from the price of a GPU hour"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_however_they_are_written() {
        for (written, name) in [
            ("ttft", "ttft"),
            ("TTFT", "ttft"),
            ("Time to first token", "ttft"),
            ("error rate", "error_rate"),
            ("output throughput", "output_tps"),
            ("out tok/s", "output_tps"),
            ("chunk gap", "icl"),
            ("inter-token latency", "itl"),
            ("gpu power", "gpu.power"),
        ] {
            assert_eq!(
                find(written).map(|metric| metric.name),
                Some(name),
                "{written}"
            );
        }
        assert!(find("tttf").is_none());
    }

    #[test]
    fn no_name_means_two_metrics() {
        let mut names: Vec<String> = Vec::new();
        for metric in metrics() {
            let mut own: Vec<String> = metric.aliases.iter().map(|a| plain(a)).collect();
            own.push(plain(metric.name));
            own.sort();
            own.dedup();
            names.extend(own);
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
