//! Ways in which the simulated server misbehaves on purpose, so that a client can be tried against them.
//!
//! Written `name` or `name:key=value,key=value`. Which requests are hit depends on their number alone: `every=N` hits
//! each N-th generation request, counted from 1 in order of arrival; without it all are hit. Faults that count token events strike
//! streams that have more events than that, and leave answers that are not streamed alone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One way to misbehave, and which requests it hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// Each how many-th request is hit.
    pub every: u64,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// 500 instead of an answer.
    Error500,
    /// 429 instead of an answer, with `Retry-After`.
    Error429 {
        /// Seconds of the `Retry-After` header.
        retry_after: u64,
    },
    /// After so many token events an event with an `error`, then `[DONE]` and a clean end, as vLLM does when its engine dies.
    ErrorEvent {
        /// Token events before it.
        after: u64,
    },
    /// After so many token events the connection is closed in the middle of the body.
    Truncate {
        /// Token events before it.
        after: u64,
    },
    /// After so many token events the connection is reset.
    Reset {
        /// Token events before it.
        after: u64,
    },
    /// After so many token events nothing more comes, and the connection stays open.
    Stall {
        /// Token events before it.
        after: u64,
    },
    /// The response head comes this much later.
    SlowHeaders {
        /// The delay.
        delay: Duration,
    },
    /// No `[DONE]` at the end.
    NoDone,
    /// No usage, though it was asked for.
    NoUsage,
    /// The role chunk leaves with the head, before the prompt was worked on, as `transformers serve` does.
    RoleFirst,
    /// The token event after so many is broken JSON.
    Malformed {
        /// Token events before it.
        after: u64,
    },
    /// A proper end without a single token.
    Empty,
    /// The connection closes after the answer without being announced, as llama.cpp does after a stream.
    CloseAfterResponse,
    /// So many tokens share an event, as with vLLM's `--stream-interval`.
    MultiToken {
        /// Tokens in an event.
        tokens: u32,
    },
    /// Lines end with CR LF.
    CrLf,
    /// A comment line before each token event.
    CommentPings,
    /// 503 for a time after the start, then all is well.
    Loading {
        /// How long after the start.
        delay: Duration,
    },
    /// Each event reaches the network in two writes, cut at an odd byte.
    SplitWrites,
}

/// Each fault with its keys and what it does, for help texts.
pub const FAULT_NAMES: &[(&str, &str)] = &[
    ("error-500", "every=1: 500 instead of an answer"),
    (
        "error-429",
        "every=1,retry_after=1: 429 with a Retry-After header",
    ),
    (
        "error-event",
        "every=1,after=3: an error event in the stream, then [DONE]",
    ),
    (
        "truncate",
        "every=1,after=5: the connection closes in mid-body",
    ),
    ("reset", "every=1,after=2: the connection is reset"),
    (
        "stall",
        "every=1,after=4: the stream goes silent and stays open",
    ),
    (
        "slow-headers",
        "every=1,ms=300: the response head comes late",
    ),
    ("no-done", "every=1: no [DONE]"),
    ("no-usage", "every=1: no usage"),
    (
        "role-first",
        "every=1: the role chunk before the prompt is worked on",
    ),
    ("malformed", "every=1,after=2: one event is broken JSON"),
    ("empty", "every=1: a proper end without a token"),
    (
        "close-after-response",
        "every=1: the connection closes, unannounced, after the answer",
    ),
    ("multi-token", "every=1,n=4: several tokens in an event"),
    ("crlf", "every=1: lines end with CR LF"),
    ("comment-pings", "every=1: a comment before each event"),
    ("loading", "ms=500: 503 for a time after the start"),
    (
        "split-writes",
        "every=1: events are cut at odd bytes over two writes",
    ),
];

/// Why a text is not a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError {
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for FaultError {}

impl Fault {
    /// Whether the request with this number, counted from 1, is hit.
    pub fn hits(&self, number: u64) -> bool {
        number.is_multiple_of(self.every)
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Fault, FaultError> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let name = name.trim();
        if !FAULT_NAMES.iter().any(|(known, _)| *known == name) {
            return Err(unknown_fault(name));
        }
        let mut keys = Keys::read(name, rest)?;
        let kind = match name {
            "error-500" => FaultKind::Error500,
            "error-429" => FaultKind::Error429 {
                retry_after: keys.take("retry_after", 1),
            },
            "error-event" => FaultKind::ErrorEvent {
                after: keys.take("after", 3),
            },
            "truncate" => FaultKind::Truncate {
                after: keys.take("after", 5),
            },
            "reset" => FaultKind::Reset {
                after: keys.take("after", 2),
            },
            "stall" => FaultKind::Stall {
                after: keys.take("after", 4),
            },
            "slow-headers" => FaultKind::SlowHeaders {
                delay: Duration::from_millis(keys.take("ms", 300)),
            },
            "no-done" => FaultKind::NoDone,
            "no-usage" => FaultKind::NoUsage,
            "role-first" => FaultKind::RoleFirst,
            "malformed" => FaultKind::Malformed {
                after: keys.take("after", 2),
            },
            "empty" => FaultKind::Empty,
            "close-after-response" => FaultKind::CloseAfterResponse,
            "multi-token" => FaultKind::MultiToken {
                tokens: u32::try_from(keys.take("n", 4)).unwrap_or(u32::MAX).max(1),
            },
            "crlf" => FaultKind::CrLf,
            "comment-pings" => FaultKind::CommentPings,
            "loading" => FaultKind::Loading {
                delay: Duration::from_millis(keys.take("ms", 500)),
            },
            _ => FaultKind::SplitWrites,
        };
        let every = match kind {
            FaultKind::Loading { .. } => 1,
            _ => keys.take("every", 1),
        };
        keys.finish()?;
        if every == 0 {
            return Err(FaultError {
                message: format!("`every=0` hits no request in `{text}`"),
                help: "write `every=1` or more".to_owned(),
            });
        }
        Ok(Fault { kind, every })
    }
}

/// The keys of one fault that nobody has asked for yet, and the ones that somebody has.
struct Keys<'a> {
    fault: &'a str,
    given: Vec<(&'a str, u64)>,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    fn read(fault: &'a str, text: &'a str) -> Result<Keys<'a>, FaultError> {
        let mut given = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let pair = part
                .split_once('=')
                .and_then(|(key, value)| Some((key.trim(), value.trim().parse().ok()?)));
            given.push(pair.ok_or_else(|| FaultError {
                message: format!("`{}` of fault `{fault}` is no `key=number`", part.trim()),
                help: "write it like `every=10`".to_owned(),
            })?);
        }
        Ok(Keys {
            fault,
            given,
            known: Vec::new(),
        })
    }

    fn take(&mut self, key: &'static str, default: u64) -> u64 {
        self.known.push(key);
        match self.given.iter().position(|(given, _)| *given == key) {
            Some(at) => self.given.swap_remove(at).1,
            None => default,
        }
    }

    fn finish(self) -> Result<(), FaultError> {
        let Some((key, _)) = self.given.first() else {
            return Ok(());
        };
        let known = if self.known.is_empty() {
            "it takes none".to_owned()
        } else {
            format!("it takes `{}`", self.known.join("`, `"))
        };
        Err(FaultError {
            message: format!("fault `{}` has no key `{key}`", self.fault),
            help: known,
        })
    }
}

fn unknown_fault(name: &str) -> FaultError {
    let near = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = FAULT_NAMES
        .iter()
        .map(|(known, _)| *known)
        .max_by(|a, b| near(a).total_cmp(&near(b)))
        .filter(|known| near(known) > 0.75);
    let names: Vec<&str> = FAULT_NAMES.iter().map(|(known, _)| *known).collect();
    let list = format!("faults are {}", names.join(", "));
    FaultError {
        message: format!("unknown fault `{name}`"),
        help: match nearest {
            Some(known) => format!("did you mean `{known}`? {list}"),
            None => list,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_fault_is_read_with_its_defaults() {
        for (name, _) in FAULT_NAMES {
            let fault: Fault = name.parse().unwrap();
            assert!(fault.hits(1), "{name}");
        }
    }

    #[test]
    fn keys_are_read_and_hits_depend_on_the_number_alone() {
        let fault: Fault = "error-event:after=3, every=7".parse().unwrap();
        assert_eq!(fault.kind, FaultKind::ErrorEvent { after: 3 });
        let hit: Vec<u64> = (1..22).filter(|number| fault.hits(*number)).collect();
        assert_eq!(hit, [7, 14, 21]);
    }

    #[test]
    fn mistakes_are_answered_with_what_to_write() {
        let message = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert!(
            message("eror-500")
                .starts_with("unknown fault `eror-500`; did you mean `error-500`? faults are")
        );
        assert_eq!(
            message("reset:afterwards=2"),
            "fault `reset` has no key `afterwards`; it takes `after`, `every`"
        );
        assert_eq!(
            message("reset:after=soon"),
            "`after=soon` of fault `reset` is no `key=number`; write it like `every=10`"
        );
        assert_eq!(
            message("empty:every=0"),
            "`every=0` hits no request in `empty:every=0`; write `every=1` or more"
        );
    }
}
