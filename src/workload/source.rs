//! Where a prompt set comes from, with nothing left to decide.

use std::path::PathBuf;

/// A prompt set with nothing left to decide.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSource {
    /// Its id in the scenario.
    pub id: String,
    /// Where prompts come from.
    pub from: Source,
    /// At most this many measured prompts; warm-up draws beyond it.
    pub limit: Option<u64>,
    /// Seed of order and sampling: the set's own, or the run's.
    pub seed: u64,
    /// Whether prompts come in the order of the file or shuffled.
    pub shuffle: bool,
}

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Written in the scenario.
    Inline(Vec<InlinePrompt>),
    /// A file: `.jsonl`, `.json` (array with per-item controls), `.txt` (a prompt a line), `.csv` (with a header), by its ending.
    File {
        /// The file.
        path: PathBuf,
        /// Names of the fields that differ from the usual ones.
        fields: Fields,
        /// Length filters.
        filter: LengthFilter,
    },
    /// A ShareGPT-format file, streamed.
    ShareGpt {
        /// The file; `None` is the small set that is embedded in the binary.
        path: Option<PathBuf>,
        /// Length filters (capabilities B1: 50 to 8000 characters).
        filter: LengthFilter,
    },
    /// A map of category → prompts, YAML or JSON.
    Categories {
        /// The file.
        path: PathBuf,
        /// Only these categories; empty: all.
        only: Vec<String>,
    },
    /// Made from a seed.
    Synthetic {
        /// Prompt lengths in tokens (estimated without a tokenizer).
        input_tokens: LengthDistribution,
        /// Answer lengths in tokens, sent as `max_tokens` with `min_tokens` and `ignore_eos`; `None`: the cap alone.
        output_tokens: Option<LengthDistribution>,
    },
}

/// A prompt written in the scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct InlinePrompt {
    /// The text.
    pub text: String,
    /// Its category.
    pub category: Option<String>,
}

/// Names of the fields of a file's items; `None` is the usual name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The prompt's text (`prompt`).
    pub prompt: Option<String>,
    /// The item's id (`id`).
    pub id: Option<String>,
    /// The item's category (`category`).
    pub category: Option<String>,
    /// The cap on generated tokens (`max_output_tokens`, `max_tokens`).
    pub max_tokens: Option<String>,
    /// The floor on generated tokens (`min_output_tokens`, `min_tokens`).
    pub min_tokens: Option<String>,
    /// Whether to go on after the end of sequence (`ignore_eos`).
    pub ignore_eos: Option<String>,
}

/// Which prompts are long enough and short enough, in characters, both bounds included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthFilter {
    /// The least length.
    pub min_chars: usize,
    /// The greatest length.
    pub max_chars: usize,
}

/// A distribution of lengths in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

impl LengthFilter {
    /// Lets everything through.
    pub const ANY: LengthFilter = LengthFilter {
        min_chars: 0,
        max_chars: usize::MAX,
    };

    /// What the published ShareGPT measurements kept (capabilities B1).
    pub const SHAREGPT: LengthFilter = LengthFilter {
        min_chars: 50,
        max_chars: 8000,
    };
}
