//! What a prompt set turned out to hold, for `scenario plan` and the report.

use std::fmt;
use std::sync::Arc;

/// What a prompt set turned out to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Rows read, whatever became of them; 0 for a set made from a seed.
    pub read: u64,
    /// Rows that passed the filters, before `limit`.
    pub kept: u64,
    /// Rows that did not, by reason.
    pub dropped: Vec<(DropReason, u64)>,
    /// Measured prompts with the text of an earlier one.
    pub duplicates: u64,
    /// Measured prompts; `None` for a set that never ends.
    pub measured: Option<u64>,
    /// Prompts kept for warm-up alone; with none, warm-up takes measured ones behind a unique first word.
    pub warmup: u64,
    /// Lengths of the measured prompts in characters; for a set that never ends, of its first thousand.
    pub characters: Spread,
    /// The same in tokens, estimated unless they were counted.
    pub tokens: Spread,
    /// Whether a tokenizer counted them.
    pub counted: bool,
    /// Turns of the measured conversations; all zero for a set of single prompts.
    pub turns: Spread,
    /// Measured prompts of each category, in the order of the file.
    pub categories: Vec<(Arc<str>, u64)>,
}

/// Why a row is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Shorter than the filter's least length.
    TooShort,
    /// Longer than the filter's greatest length.
    TooLong,
    /// The first turn is not the user's.
    NotHumanFirst,
    /// It holds nothing that a user says.
    NoText,
    /// Somebody other than a user and an assistant speaks in it.
    OtherSpeaker,
    /// It has fewer turns than are wanted.
    FewTurns,
    /// Its category was not asked for.
    OtherCategory,
    /// Its text does not match the filter's regular expression.
    NoMatch,
    /// A request of a trace without a token in its prompt or its answer.
    NoTokens,
    /// It does not fit the model's context together with its answer.
    OverContext,
}

impl DropReason {
    const ALL: [DropReason; 10] = [
        DropReason::TooShort,
        DropReason::TooLong,
        DropReason::NotHumanFirst,
        DropReason::NoText,
        DropReason::OtherSpeaker,
        DropReason::FewTurns,
        DropReason::OtherCategory,
        DropReason::NoMatch,
        DropReason::NoTokens,
        DropReason::OverContext,
    ];

    /// The reason with this text.
    pub(super) fn named(text: &str) -> Option<DropReason> {
        DropReason::ALL
            .into_iter()
            .find(|reason| reason.to_string() == text)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::TooShort => "too short",
            DropReason::TooLong => "too long",
            DropReason::NotHumanFirst => "not begun by a human turn",
            DropReason::NoText => "without text",
            DropReason::OtherSpeaker => "with another speaker",
            DropReason::FewTurns => "with too few turns",
            DropReason::OtherCategory => "of another category",
            DropReason::NoMatch => "without a match",
            DropReason::NoTokens => "without tokens",
            DropReason::OverContext => "over the context",
        })
    }
}

/// How a quantity is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// The middle one, the lower of the middle two.
    pub median: u64,
    /// The mean.
    pub mean: f64,
    /// The greatest.
    pub max: u64,
}

impl Spread {
    /// The spread of these values; all zero when there are none.
    pub fn of(mut values: Vec<u64>) -> Spread {
        values.sort_unstable();
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Spread::default();
        };
        Spread {
            min,
            median: values[(values.len() - 1) / 2],
            mean: values.iter().sum::<u64>() as f64 / values.len() as f64,
            max,
        }
    }

    /// The spread where each value is this much greater; that of no values stays.
    pub(super) fn greater_by(self, more: u64) -> Spread {
        if self == Spread::default() {
            return self;
        }
        Spread {
            min: self.min + more,
            median: self.median + more,
            mean: self.mean + more as f64,
            max: self.max + more,
        }
    }
}
