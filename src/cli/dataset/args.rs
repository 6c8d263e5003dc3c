//! The words of `scenario dataset`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `scenario dataset`.
#[derive(Clone, Debug, Args)]
pub struct DatasetArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DatasetAction,
}

/// What to do with a prompt set.
#[derive(Clone, Debug, Subcommand)]
pub enum DatasetAction {
    /// Tell what a set holds: rows, lengths, percentiles, categories, a histogram.
    #[command(
        after_help = "Examples:\n  scenario dataset inspect datasets/conversations.json --tokenizer Qwen/Qwen3-8B\n  scenario dataset inspect gate.yaml                     the sets of a scenario\n  scenario dataset inspect questions.csv --with 'template=Q: {{ row.question }}'"
    )]
    Inspect(SetArgs),
    /// Write a set as JSON lines, with its digest and where it comes from beside it.
    #[command(
        after_help = "Examples:\n  scenario dataset prepare hf://datasets/OWNER/NAME --out prompts.jsonl --with limit=1000\n  scenario dataset prepare ShareGPT_V3.json --as conversations --out talks.jsonl --with min_turns=3"
    )]
    Prepare(PrepareArgs),
    /// Show some prompts of a set.
    Sample(SampleArgs),
    /// Have a model write a set: prompts of several categories, from an OpenAI-compatible endpoint.
    #[command(
        after_help = "Example:\n  scenario dataset generate --base-url https://openrouter.ai/api/v1 --model anthropic/claude-haiku-4.5 \\\n      --api-key-env OPENROUTER_API_KEY --count 18 --categories coding,math,translation --out set.jsonl"
    )]
    Generate(GenerateArgs),
}

/// Which set.
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// A file of prompts, `hf://datasets/OWNER/NAME[/FILE]`, `s3://BUCKET/KEY`, an `https` URL, or a scenario file, whose sets are meant.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// What the file is, in place of what it looks like: file, sharegpt, conversations, categories, trace.
    #[arg(long = "as", value_name = "KIND")]
    pub kind: Option<String>,
    /// A key of the prompt set as in a scenario, like `min_chars=50` or `format=azure`; may be given several times.
    #[arg(long = "with", value_name = "KEY=VALUE")]
    pub keys: Vec<String>,
    /// What counts tokens: a path, or the name of a model on the hub; without it they are estimated.
    #[arg(long, value_name = "PATH|MODEL")]
    pub tokenizer: Option<String>,
    /// Seed of order and sampling.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `scenario dataset prepare`.
#[derive(Clone, Debug, Args)]
pub struct PrepareArgs {
    /// Which set.
    #[command(flatten)]
    pub set: SetArgs,
    /// The file to write; its provenance goes beside it, with `.provenance.json` behind its name.
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// `scenario dataset sample`.
#[derive(Clone, Debug, Args)]
pub struct SampleArgs {
    /// Which set.
    #[command(flatten)]
    pub set: SetArgs,
    /// How many prompts.
    #[arg(long, default_value_t = 5)]
    pub count: u64,
    /// As JSON lines, whole.
    #[arg(long)]
    pub json: bool,
}

/// `scenario dataset generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// The endpoint, like http://localhost:8000; `/v1` is added where it is missing.
    #[arg(long, value_name = "URL")]
    pub base_url: String,
    /// The model to ask.
    #[arg(long)]
    pub model: String,
    /// How many prompts in all, spread over the categories.
    #[arg(long, default_value_t = 18)]
    pub count: u32,
    /// What kinds of prompts.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "coding,creative,math,json,question-answering,translation,debugging,reasoning,summarization"
    )]
    pub categories: Vec<String>,
    /// The file to write.
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: PathBuf,
    /// Environment variable with the API key.
    #[arg(long, value_name = "NAME")]
    pub api_key_env: Option<String>,
    /// The greatest `max_tokens` that a prompt may be given.
    #[arg(long, default_value_t = 300)]
    pub max_tokens: u32,
    /// Sampling temperature.
    #[arg(long, default_value_t = 0.8)]
    pub temperature: f64,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}
