//! What the truth server knows of each request, as lines of JSON.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LogTo;
use crate::units::Moment;

/// Lines that wait for the disk are written at least this often, so that a killed server leaves a useful log.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// One request as the server saw it. Instants are nanoseconds of the machine's monotonic clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthEntry {
    /// `x-request-id` of the request, or a number of ours where it had none; the response head echoes it.
    pub id: String,
    /// When its last byte reached this machine, by the kernel's stamp.
    pub arrived: u64,
    /// For each event, right before the call that handed its last byte to the kernel.
    pub handed: Vec<u64>,
    /// Whether every event of the answer was handed over.
    pub whole: bool,
}

/// Why a truth log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// A line is no entry.
    #[error("{path}:{line}: {error}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
}

/// The entries of a log file. A last line that was cut short by the server's death is left out.
///
/// # Errors
/// See [`LogError`].
pub fn read_log(path: &Path) -> Result<Vec<TruthEntry>, LogError> {
    let unreadable = |error| LogError::Read {
        path: path.display().to_string(),
        error,
    };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut entries = Vec::new();
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        file.read_line(&mut line).map_err(unreadable)?;
        if !line.ends_with('\n') {
            break;
        }
        entries.push(serde_json::from_str(&line).map_err(|error| LogError::Line {
            path: path.display().to_string(),
            line: number,
            error,
        })?);
    }
    Ok(entries)
}

/// Takes entries as requests end.
#[derive(Debug)]
pub(super) struct TruthLog {
    sink: Sink,
    flushed: Moment,
}

#[derive(Debug)]
enum Sink {
    Nowhere,
    Memory(Vec<TruthEntry>),
    File(BufWriter<File>),
}

impl TruthLog {
    pub(super) fn open(to: &LogTo) -> io::Result<TruthLog> {
        let sink = match to {
            LogTo::Nowhere => Sink::Nowhere,
            LogTo::Memory => Sink::Memory(Vec::new()),
            LogTo::File(path) => Sink::File(BufWriter::with_capacity(1 << 20, File::create(path)?)),
        };
        Ok(TruthLog {
            sink,
            flushed: Moment::ZERO,
        })
    }

    /// Whether anybody wants the instants of events.
    pub(super) fn is_kept(&self) -> bool {
        !matches!(self.sink, Sink::Nowhere)
    }

    pub(super) fn push(&mut self, entry: TruthEntry, now: Moment) -> io::Result<()> {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Memory(entries) => entries.push(entry),
            Sink::File(file) => {
                serde_json::to_writer(&mut *file, &entry)?;
                file.write_all(b"\n")?;
                if now.since(self.flushed) >= FLUSH_EVERY {
                    file.flush()?;
                    self.flushed = now;
                }
            }
        }
        Ok(())
    }

    /// What was kept in memory; a file is complete now.
    pub(super) fn close(self) -> io::Result<Vec<TruthEntry>> {
        match self.sink {
            Sink::Nowhere => Ok(Vec::new()),
            Sink::Memory(entries) => Ok(entries),
            Sink::File(mut file) => file.flush().map(|()| Vec::new()),
        }
    }
}
