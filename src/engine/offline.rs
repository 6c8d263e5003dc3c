//! An engine inside of a child process, spoken to in JSON lines: no server, no HTTP. `adapters/README.md` is the protocol.
//!
//! The instants of its tokens are those that the adapter read on the machine's monotonic clock, which is ours, too.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::dialect::Usage;
use crate::plan::OfflineMode;

/// What an adapter says, a line at a time.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Ready(Ready),
    Delta(Delta),
    Done(Done),
    Error(Failure),
}

/// It has loaded its model.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ready {
    /// The engine's version.
    pub version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    id: u64,
    #[serde(default)]
    text: String,
    /// How many tokens it has; left out, nobody knows.
    tokens: Option<u32>,
    token_ids: Option<Vec<serde::de::IgnoredAny>>,
    /// Nanoseconds of the monotonic clock; left out, when the line was read.
    at: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Done {
    id: u64,
    reason: Option<String>,
    input: Option<u32>,
    output: Option<u32>,
    cached: Option<u32>,
    at: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    id: Option<u64>,
    message: String,
}

/// What comes of one request, with its instant.
#[derive(Debug)]
pub(super) enum Reply {
    /// New output.
    Output {
        at: Instant,
        tokens: Option<u32>,
        text: String,
    },
    /// The end.
    Done {
        at: Instant,
        reason: Option<String>,
        usage: Usage,
    },
    /// It failed.
    Failed(String),
}

/// The replies that somebody waits for, by request; `None` when the adapter is gone.
type Waiting = Mutex<Option<HashMap<u64, UnboundedSender<Reply>>>>;

/// A child that is spoken to.
#[derive(Debug)]
pub struct Adapter {
    /// `None` when it was asked to end: its input ends, too.
    lines: Mutex<Option<Sender<String>>>,
    waiting: Arc<Waiting>,
    ready: Mutex<Receiver<Result<Ready, String>>>,
    next: AtomicU64,
}

impl Adapter {
    /// Speaks through these pipes.
    pub fn over(to: File, from: File) -> Adapter {
        let (lines, to_write) = channel::<String>();
        std::thread::spawn(move || write(&to_write, to));
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (loaded, ready) = channel();
        let routes = waiting.clone();
        std::thread::spawn(move || {
            read(BufReader::new(from), &routes, &loaded);
            // Whoever waits sees its channel end.
            *routes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        });
        Adapter {
            lines: Mutex::new(Some(lines)),
            waiting,
            ready: Mutex::new(ready),
            next: AtomicU64::new(1),
        }
    }

    /// Has it load a model.
    pub fn load(&self, model: &str, mode: OfflineMode, args: &serde_json::Value) {
        let load =
            serde_json::json!({ "load": { "model": model, "mode": mode.name(), "args": args } });
        self.say(load.to_string());
    }

    /// What it says when it has loaded; `None` when it has said nothing within this time.
    pub fn loaded(&self, within: Duration) -> Option<Result<Ready, String>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match ready.recv_timeout(within) {
            Ok(told) => Some(told),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err("the adapter has closed its output".to_owned()))
            }
        }
    }

    /// Asks it to end.
    pub fn close(&self) {
        self.say(r#"{"close":{}}"#.to_owned());
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sends a request whose `body` is a JSON object; what comes of it, and how to stop caring.
    pub(super) fn generate(self: &Arc<Adapter>, body: &[u8]) -> Asked {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (told, replies) = unbounded_channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.as_mut() {
            waiting.insert(id, told);
        }
        drop(waiting);
        let rest = String::from_utf8_lossy(body);
        let rest = rest.strip_prefix('{').unwrap_or(&rest);
        self.say(format!("{{\"generate\":{{\"id\":{id},{rest}}}"));
        Asked {
            id,
            replies,
            adapter: self.clone(),
        }
    }

    /// A line to the adapter; one that is gone is seen by its silence.
    fn say(&self, line: String) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = lines.as_ref().map(|lines| lines.send(line));
    }
}

/// A request in an adapter's hands. Dropped before its end, it is cancelled.
pub(super) struct Asked {
    id: u64,
    pub(super) replies: UnboundedReceiver<Reply>,
    adapter: Arc<Adapter>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut waiting = self
            .adapter
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One that has ended is no longer waited for.
        if waiting
            .as_mut()
            .is_some_and(|waiting| waiting.remove(&self.id).is_some())
        {
            self.adapter
                .say(format!("{{\"cancel\":{{\"id\":{}}}}}", self.id));
        }
    }
}

fn write(lines: &Receiver<String>, mut to: File) {
    while let Ok(line) = lines.recv() {
        if to
            .write_all(line.as_bytes())
            .and_then(|()| to.write_all(b"\n"))
            .is_err()
        {
            return;
        }
    }
}

fn read(from: impl BufRead, routes: &Waiting, loaded: &Sender<Result<Ready, String>>) {
    let clock = MonotonicClock::read();
    for line in from.lines().map_while(Result::ok) {
        let now = Instant::now();
        let when = |at: Option<i64>| at.map_or(now, |at| clock.instant(at).min(now));
        let (id, reply) = match serde_json::from_str(&line) {
            // Libraries print to standard output what they please.
            Err(_) => continue,
            Ok(Line::Ready(ready)) => {
                let _ = loaded.send(Ok(ready));
                continue;
            }
            Ok(Line::Error(Failure { id: None, message })) => {
                let _ = loaded.send(Err(message));
                continue;
            }
            Ok(Line::Error(Failure {
                id: Some(id),
                message,
            })) => (id, Reply::Failed(message)),
            Ok(Line::Delta(delta)) => (
                delta.id,
                Reply::Output {
                    at: when(delta.at),
                    tokens: delta.tokens.or_else(|| {
                        let ids = delta.token_ids.as_ref()?;
                        u32::try_from(ids.len()).ok()
                    }),
                    text: delta.text,
                },
            ),
            Ok(Line::Done(done)) => (
                done.id,
                Reply::Done {
                    at: when(done.at),
                    reason: done.reason,
                    usage: Usage {
                        input: done.input,
                        output: done.output,
                        cached: done.cached,
                        reasoning: None,
                    },
                },
            ),
        };
        let mut waiting = routes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = waiting.as_mut() else {
            return;
        };
        let is_last = !matches!(reply, Reply::Output { .. });
        if let Some(told) = waiting.get(&id) {
            let _ = told.send(reply);
        }
        if is_last {
            waiting.remove(&id);
        }
    }
}

/// The monotonic clock as other processes read it, beside ours.
struct MonotonicClock {
    here: Instant,
    there: i64,
}

impl MonotonicClock {
    fn read() -> MonotonicClock {
        let there = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
        MonotonicClock {
            here: Instant::now(),
            there,
        }
    }

    fn instant(&self, at: i64) -> Instant {
        let offset = Duration::from_nanos(at.abs_diff(self.there));
        let told = if at >= self.there {
            self.here.checked_add(offset)
        } else {
            self.here.checked_sub(offset)
        };
        told.unwrap_or(self.here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_of_another_process_is_ours() {
        let clock = MonotonicClock::read();
        let later = clock.instant(clock.there + 5_000_000);
        assert_eq!(later - clock.here, Duration::from_millis(5));
        assert_eq!(
            clock.here - clock.instant(clock.there - 7),
            Duration::from_nanos(7)
        );
    }
}
