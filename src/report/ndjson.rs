//! `requests.ndjson`: one line a request, written as it ends, so that a killed run loses at most the last second.
//!
//! The first line names the format. The last line of a complete file says so; whatever is torn behind the last line end is
//! no line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::model::RequestRow;
use super::requests::{Events, Names, row};
use crate::observation::RequestRecord;
use crate::plan::{CellRun, Plan};

/// The name and version of the format, in the first line.
pub const SCHEMA: &str = "scenario.requests/v1";

/// Requests that may wait for the writer; at 5 000 requests per second a disk may stall for three seconds.
const WAITING: usize = 16_384;
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `scenario.requests/v1`.
    pub schema: String,
    /// The scenario's name.
    pub scenario: String,
    /// The digest of the plan.
    pub plan_digest: String,
    /// The seed of everything random.
    pub seed: u64,
}

/// The last line of a complete file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// Always true: what tells this line from a request.
    pub complete: bool,
    /// Requests written.
    pub requests: u64,
    /// Requests that the writer could not take because it had failed; `requests.csv` has them.
    pub lost: u64,
}

/// Hands requests to the thread that writes them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestSink {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// The writer: owns the thread.
#[derive(Debug)]
pub struct RequestLog {
    sink: RequestSink,
    thread: JoinHandle<io::Result<Footer>>,
}

#[derive(Debug)]
enum Message {
    Request(CellRun, Box<RequestRecord>),
    Flush,
    End,
}

impl RequestLog {
    /// Starts the writer with the first line; `record_events` adds each output event's instant.
    pub fn start(
        plan: &Plan,
        sink: impl Write + Send + 'static,
        record_events: bool,
    ) -> RequestLog {
        let header = Header {
            schema: SCHEMA.to_owned(),
            scenario: plan.name.clone(),
            plan_digest: plan.digest.clone(),
            seed: plan.seed,
        };
        let names = Names::of(plan);
        let (queue, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            sink: io::BufWriter::with_capacity(1 << 16, sink),
            names,
            events: if record_events {
                Events::Each
            } else {
                Events::Slices
            },
            footer: Footer {
                complete: true,
                requests: 0,
                lost: 0,
            },
            lost: Arc::clone(&lost),
        };
        let thread = std::thread::Builder::new()
            .name("requests".to_owned())
            .spawn(move || {
                crate::threads::give_way();
                writer.run(&header, &waiting)
            })
            .expect("a thread can be started");
        RequestLog {
            sink: RequestSink { queue, lost },
            thread,
        }
    }

    /// A handle for another thread.
    pub fn sink(&self) -> RequestSink {
        self.sink.clone()
    }

    /// Writes what waits and the last line.
    ///
    /// # Errors
    /// When the sink could not be written, then or before.
    pub fn finish(self) -> io::Result<Footer> {
        // An error ends the thread early; then there is no one to tell.
        let _ = self.sink.queue.send(Message::End);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writer of requests panicked")))
    }
}

impl RequestSink {
    /// Hands over one request that has ended; waits for a disk that is far behind, so nothing is left out. Called beside the
    /// load threads, never by them.
    pub fn request(&self, run: CellRun, record: &RequestRecord) {
        let message = Message::Request(run, Box::new(record.clone()));
        if self.queue.send(message).is_err() {
            // The writer has failed; what it could not take is counted, and the failure told at the end.
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes everything handed over so far safe: at the end of a stage, a cell, a run.
    pub fn flush(&self) {
        // With a full queue the writer is at work and flushes within the second anyway.
        let _ = self.queue.try_send(Message::Flush);
    }
}

struct Writer<W: Write> {
    sink: io::BufWriter<W>,
    names: Names,
    events: Events,
    footer: Footer,
    lost: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, header: &Header, waiting: &Receiver<Message>) -> io::Result<Footer> {
        self.line(header)?;
        self.sink.flush()?;
        let mut flushed = Instant::now();
        loop {
            match waiting.recv_timeout(until_flush(flushed.elapsed())) {
                Ok(Message::Request(run, record)) => {
                    let row = row(&self.names, run, &record, self.events);
                    self.footer.requests += 1;
                    self.line(&row)?;
                }
                Ok(Message::Flush) => self.sink.flush()?,
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if until_flush(flushed.elapsed()).is_zero() {
                self.sink.flush()?;
                flushed = Instant::now();
            }
        }
        self.footer.lost = self.lost.load(Ordering::Relaxed);
        let footer = self.footer;
        self.line(&footer)?;
        self.sink.flush()?;
        Ok(footer)
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.sink, value)?;
        self.sink.write_all(b"\n")
    }
}

fn until_flush(since: Duration) -> Duration {
    FLUSH_EVERY.saturating_sub(since)
}

/// A file that was read back.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFile {
    /// Its first line.
    pub header: Header,
    /// Its requests.
    pub rows: Vec<RequestRow>,
    /// Its last line; `None` when the run was killed.
    pub footer: Option<Footer>,
}

/// Why a file cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The first line is missing or names another format.
    #[error("not a request log: the first line does not name `{SCHEMA}`")]
    NotARequestLog,
    /// A line before the last is broken.
    #[error("line {line} is not a request: {error}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
}

/// Reads a file back; a line that was torn when the run was killed is dropped.
///
/// # Errors
/// See [`ReadError`].
pub fn read(text: &str) -> Result<RequestFile, ReadError> {
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    let mut lines = whole.lines().enumerate();
    let header: Header = lines
        .next()
        .and_then(|(_, line)| serde_json::from_str(line).ok())
        .filter(|header: &Header| header.schema == SCHEMA)
        .ok_or(ReadError::NotARequestLog)?;
    let mut file = RequestFile {
        header,
        rows: Vec::new(),
        footer: None,
    };
    for (at, line) in lines {
        if let Ok(footer) = serde_json::from_str(line) {
            file.footer = Some(footer);
            continue;
        }
        let row = serde_json::from_str(line).map_err(|error| ReadError::Line {
            line: at + 1,
            error,
        })?;
        file.rows.push(row);
    }
    Ok(file)
}
