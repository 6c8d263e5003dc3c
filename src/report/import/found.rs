//! What a result file tells, in our words and units, before anything of it is believed.

use std::collections::BTreeMap;

/// Which tool wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Suite 000: one JSON for each backend, model and concurrency.
    Suite000,
    /// Suite 004: one JSON of all engines, categories and concurrencies.
    Suite004,
    /// `vllm bench serve --save-result`.
    Vllm,
    /// guidellm's JSON.
    Guidellm,
    /// AIPerf's JSON or CSV.
    Aiperf,
}

impl Format {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Suite000 => "suite 000",
            Format::Suite004 => "suite 004",
            Format::Vllm => "vllm bench serve",
            Format::Guidellm => "guidellm",
            Format::Aiperf => "AIPerf",
        }
    }
}

/// One measurement of a file: one backend under one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Which tool wrote it.
    pub format: Format,
    /// The tool's version.
    pub version: Option<String>,
    /// The backend, as the file or the command line calls it.
    pub backend: String,
    /// The model, as the file calls it.
    pub model: String,
    /// The prompt set or category.
    pub prompts: String,
    /// Users that were asked for.
    pub users: Option<u32>,
    /// Requests per second that were asked for.
    pub rate: Option<f64>,
    /// When it began, as the file says it.
    pub started: Option<String>,
    /// Requests that were asked for.
    pub planned: u64,
    /// Requests answered; `None` where the file does not tell.
    pub ok: Option<u64>,
    /// Requests failed; `None` where the file does not tell.
    pub failed: Option<u64>,
    /// How long the measurement took.
    pub duration_s: Option<f64>,
    /// Requests in flight, as the tool measured them.
    pub concurrency: Option<f64>,
    /// Tokens generated in all.
    pub output_tokens: Option<f64>,
    /// Prompt tokens in all.
    pub input_tokens: Option<f64>,
    /// Statistics by metric, in our names and canonical units: `ttft` → `p95` → milliseconds.
    pub metrics: BTreeMap<String, BTreeMap<String, f64>>,
    /// The GPU's name and its memory in bytes.
    pub gpu: Option<(String, Option<u64>)>,
    /// A simulator made it.
    pub simulated: bool,
    /// Each request, where the file has them.
    pub requests: Vec<Request>,
    /// What the format itself says otherwise than it seems to, known before any number is looked at.
    pub caveats: Vec<Caveat>,
}

/// One request of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request {
    /// When it was sent, in seconds since the first; `None` where the file has no times.
    pub start_s: Option<f64>,
    /// From sending to the first token.
    pub ttft_ms: Option<f64>,
    /// From sending to the last token.
    pub e2e_ms: Option<f64>,
    /// Time per output token after the first.
    pub tpot_ms: Option<f64>,
    /// Tokens generated, as the tool counted them.
    pub output_tokens: Option<f64>,
}

/// Something about a number that is known from its tool alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caveat {
    /// Which guard says it.
    pub guard: &'static str,
    /// In words.
    pub text: String,
}

impl Found {
    /// A measurement of which nothing is known yet.
    pub fn new(format: Format) -> Found {
        Found {
            format,
            version: None,
            backend: String::new(),
            model: String::new(),
            prompts: String::new(),
            users: None,
            rate: None,
            started: None,
            planned: 0,
            ok: None,
            failed: None,
            duration_s: None,
            concurrency: None,
            output_tokens: None,
            input_tokens: None,
            metrics: BTreeMap::new(),
            gpu: None,
            simulated: false,
            requests: Vec::new(),
            caveats: Vec::new(),
        }
    }

    /// A statistic of a metric.
    pub fn stat(&self, metric: &str, stat: &str) -> Option<f64> {
        self.metrics.get(metric)?.get(stat).copied()
    }

    /// Keeps a statistic, where there is one.
    pub fn keep(&mut self, metric: &str, stat: &str, value: Option<f64>) {
        if let Some(value) = value {
            let stats = self.metrics.entry(metric.to_owned()).or_default();
            stats.insert(stat.to_owned(), value);
        }
    }

    /// The load in words that make a stage's name: `c16`, `r8`, `all`.
    pub fn level(&self) -> String {
        match (self.users, self.rate) {
            (Some(users), _) => format!("c{users}"),
            (None, Some(rate)) => format!("r{}", rate.to_string().replace('.', "-")),
            (None, None) => "all".to_owned(),
        }
    }
}
