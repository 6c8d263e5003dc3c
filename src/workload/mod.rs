//! Prompt sets: what the requests say. `prompt(ordinal)` depends only on the seed and the ordinal, never on completion order.
//!
//! In: [`PromptSource`], resolved from the scenario. Out: a [`Workload`], loaded once and shared by the load threads.
//!
//! Every source hands its rows, one after another, to the selection, which filters, counts what it drops, and keeps no more
//! than are wanted: a file of several hundred megabytes is read in constant memory. A row that cannot be read is an error
//! with its place; nothing is skipped without being counted in [`Facts`].

mod source;
mod set;
mod prompt;
mod images;
mod facts;
mod error;
mod select;
mod context;
mod prepared;
mod row;
mod file;
mod parquet;
mod categories;
mod conversation;
mod lengths;
mod prefix;
mod synthetic;
mod trace;
mod prose;
mod words;
mod tokenizer;
mod template;
mod client;
mod library;
mod address;
mod objects;
mod survey;
mod canonical;

pub use canonical::canonical_line;
pub use context::{Beyond, Context};
pub use conversation::{Conversation, Role, Turn, TurnFilter};
pub use error::{RowProblem, WorkloadError};
pub use facts::{DropReason, Facts, Spread};
pub use images::content;
pub use lengths::{Histogram, LengthDistribution};
pub use library::{HubKind, Library};
pub use objects::{Objects, StoreSettings, is_object_url};
pub use prompt::{Prompt, estimated_tokens};
pub use set::{Replay, Workload};
pub use source::{
    Fields, Filter, InlinePrompt, PrefixCache, PrefixGroups, PromptSource, SharedPrefix, Source,
};
pub use survey::{Bin, Survey, histogram, percentile};
pub use template::ChatTemplate;
pub use tokenizer::{TOKENIZER_FILE, Tokenizer, TokenizerFiles};
pub use trace::{ReplayOptions, TimeUnit, TraceFields, TraceFile, TraceShape};

#[cfg(test)]
mod tests;
