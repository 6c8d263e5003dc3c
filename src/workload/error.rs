//! Why a prompt set cannot be loaded.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a prompt set cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("`{}`{}: {message}", path.display(), Place { line: *line, column: *column })]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, where one can be told.
        line: Option<usize>,
        /// The column of the line, where one can be told.
        column: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// Rows of the file are not what they should be.
    #[error("`{}`: {}", path.display(), RowList { noun, bad: *bad, first })]
    Rows {
        /// The file.
        path: PathBuf,
        /// What they should be.
        noun: &'static str,
        /// How many.
        bad: u64,
        /// The first few.
        first: Vec<RowProblem>,
    },
    /// A file is not in the cache, and nothing may be fetched.
    #[error("{what} is not in `{}`, and nothing is fetched offline", cache.display())]
    NotCached {
        /// The file.
        what: String,
        /// The cache.
        cache: PathBuf,
    },
    /// A file cannot be fetched.
    #[error("cannot fetch {what} from {from}: {message}")]
    Fetch {
        /// The file.
        what: String,
        /// The hub, or the file's own address.
        from: String,
        /// Whether the only reason is that there is none.
        absent: bool,
        /// Why not.
        message: String,
    },
    /// An address names no file.
    #[error("{message}: {help}")]
    Address {
        /// Why not.
        message: String,
        /// What to write.
        help: &'static str,
    },
    /// An object store does not do what is asked of it.
    #[error("`{url}`: {message}")]
    Store {
        /// The object, or what its key begins with.
        url: String,
        /// Why not.
        message: String,
    },
    /// A set cannot be made as asked.
    #[error("prompt set `{id}`: {message}")]
    Impossible {
        /// The set.
        id: String,
        /// Why not.
        message: String,
    },
    /// No prompt is left after the filters.
    #[error(
        "prompt set `{id}` has no prompt left: {read} read{}",
        reasons(dropped)
    )]
    Empty {
        /// The set.
        id: String,
        /// Prompts read.
        read: u64,
        /// Prompts filtered out.
        filtered: u64,
        /// Why, by reason.
        dropped: Vec<(super::DropReason, u64)>,
    },
}

/// One row that is not a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// Where it is: `line 3`, `item 12`.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

/// Why reading a source stopped before its end.
#[derive(Debug)]
pub(super) enum Stopped {
    Io(std::io::Error),
    Format {
        line: Option<usize>,
        column: Option<usize>,
        message: String,
    },
}

impl Stopped {
    pub(super) fn at(self, path: &Path) -> WorkloadError {
        let path = path.to_path_buf();
        match self {
            Stopped::Io(error) => WorkloadError::Read { path, error },
            Stopped::Format {
                line,
                column,
                message,
            } => WorkloadError::Format {
                path,
                line,
                column,
                message,
            },
        }
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        Stopped::Io(error)
    }
}

struct Place {
    line: Option<usize>,
    column: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " line {line}, column {column}"),
            (Some(line), None) => write!(f, " line {line}"),
            (None, _) => Ok(()),
        }
    }
}

struct RowList<'a> {
    noun: &'a str,
    bad: u64,
    first: &'a [RowProblem],
}

impl fmt::Display for RowList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bad {
            1 => write!(f, "1 row is not a {}", self.noun)?,
            bad => write!(f, "{bad} rows are not {}s", self.noun)?,
        }
        for problem in self.first {
            write!(f, "\n  {}: {}", problem.place, problem.message)?;
        }
        match self.bad.saturating_sub(self.first.len() as u64) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

fn reasons(dropped: &[(super::DropReason, u64)]) -> String {
    dropped
        .iter()
        .map(|(reason, count)| format!(", {count} {reason}"))
        .collect()
}
