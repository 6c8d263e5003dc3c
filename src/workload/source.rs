//! Where a prompt set comes from, with nothing left to decide.

use std::path::PathBuf;
use std::sync::Arc;

use super::conversation::TurnFilter;
use super::lengths::LengthDistribution;
use super::tokenizer::Tokenizer;
use super::trace::TraceFile;

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
    /// The category of prompts that bring none.
    pub category: Option<String>,
    /// What counts tokens; without one they are estimated.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Written in the scenario.
    Inline(Vec<InlinePrompt>),
    /// A file: `.jsonl`, `.json` (array with per-item controls), `.txt` (a prompt a line), `.csv` (with a header), `.parquet`, by its
    /// ending.
    File {
        /// The file.
        path: PathBuf,
        /// Names of the fields that differ from the usual ones.
        fields: Fields,
        /// Which rows are wanted.
        filter: Filter,
    },
    /// A ShareGPT-format file, streamed.
    ShareGpt {
        /// The file; `None` is the small set that is embedded in the binary.
        path: Option<PathBuf>,
        /// Which conversations are wanted (capabilities B1: 50 to 8000 characters).
        filter: Filter,
    },
    /// A file of conversations, in ShareGPT's format or as `messages`, sent turn by turn.
    Conversations {
        /// The file.
        path: PathBuf,
        /// Which conversations are wanted, by what is said first.
        filter: Filter,
        /// Which of them, by their turns, and what of them is kept.
        turns: TurnFilter,
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
        /// A prefix that groups of prompts share; `None`: no two prompts begin alike.
        shared_prefix: Option<SharedPrefix>,
    },
    /// Made at the lengths of a trace, with its shared prefixes.
    Trace(TraceFile),
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
    /// Images that are shown with the prompt (none).
    pub image: Option<String>,
    /// The cap on generated tokens (`max_output_tokens`, `max_tokens`).
    pub max_tokens: Option<String>,
    /// The floor on generated tokens (`min_output_tokens`, `min_tokens`).
    pub min_tokens: Option<String>,
    /// Whether to go on after the end of sequence (`ignore_eos`).
    pub ignore_eos: Option<String>,
    /// A template that makes the prompt of a row, which it knows as `row`.
    pub template: Option<String>,
    /// Whether whole conversations are read, in place of what is said first.
    pub conversations: bool,
}

/// Which prompts of a source are wanted; every bound is included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The least length in characters.
    pub min_chars: Option<usize>,
    /// The greatest length in characters.
    pub max_chars: Option<usize>,
    /// The least length in tokens.
    pub min_tokens: Option<u32>,
    /// The greatest length in tokens.
    pub max_tokens: Option<u32>,
    /// A regular expression that the text must match.
    pub matches: Option<String>,
}

/// A prefix that groups of prompts share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPrefix {
    /// Its length in tokens; the prompt's own length counts it in.
    pub tokens: u32,
    /// How many different prefixes there are.
    pub groups: u32,
    /// How prompts are spread over the groups.
    pub distribution: PrefixGroups,
}

/// What shared prefixes are to the engine's prefix cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrefixCache {
    /// Met as they come: the first prompt of a group pays for those after it.
    AsIs,
    /// Never met: a text of the same length, which no other prompt has, stands for each prefix.
    Cold,
    /// Met before: warm-up sends each prefix once.
    Warm,
}

impl PrefixCache {
    /// The word of scenario files.
    pub fn name(self) -> &'static str {
        match self {
            PrefixCache::AsIs => "as_is",
            PrefixCache::Cold => "cold",
            PrefixCache::Warm => "warm",
        }
    }
}

/// How prompts are spread over the groups that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixGroups {
    /// Evenly.
    Uniform,
    /// The k-th group has a share in proportion to 1/k.
    Zipf,
}

impl Filter {
    /// What the published ShareGPT measurements kept (capabilities B1).
    pub const SHAREGPT: Filter = Filter {
        min_chars: Some(50),
        max_chars: Some(8000),
        min_tokens: None,
        max_tokens: None,
        matches: None,
    };

    /// Whether it counts tokens.
    pub fn counts_tokens(&self) -> bool {
        self.min_tokens.is_some() || self.max_tokens.is_some()
    }
}
