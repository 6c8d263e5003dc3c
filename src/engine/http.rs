//! Requests over HTTP: one lane is one connection and what is kept for the request in flight on it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::header::HeaderMap;

use super::dialect::{Dialect, EventFacts, Shape, Usage};
use super::exchange::{Exchange, PreparedRequest};
use super::offline::{Adapter, Reply};
use crate::observation::{
    EventRecorder, LagHistogram, Outcome, Phase, StampSource, TokenSource, Tokens,
};
use crate::plan::Timeouts;
use crate::secret::{Masker, Secret};
use crate::units::Moment;
use crate::wire::framing::Head;
use crate::wire::sse::SseParser;
use crate::wire::{Connection, Endpoint, Flow, OpenError, Reactor, Stamps, StreamError};

/// How much of an error body is kept.
const ERROR_BODY: usize = 2048;
/// A part of a secret header that is so long is a secret by itself.
const WORD_OF_A_SECRET: usize = 8;
/// The most that an answer that is no stream may have.
const ANSWER_LIMIT: usize = 16 << 20;
/// How long the end of the body may come after `[DONE]`; the answer is whole by then, only the connection waits for it.
const AFTER_DONE: Duration = Duration::from_secs(1);

/// Where a cell's requests go and how.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    /// The server, with the prefix of its API.
    pub endpoint: Endpoint,
    /// Headers of every request, secrets among them.
    pub headers: HeaderMap,
    /// The language.
    pub dialect: Dialect,
    /// Time limits.
    pub timeouts: Timeouts,
    /// An engine in a child process, in place of the server.
    pub offline: Option<Arc<Adapter>>,
}

impl HttpTarget {
    /// A request with this body, written out whole; `id` is what it is called in the engine's logs (`x-request-id`).
    pub fn prepare(&self, body: &[u8], stream: bool, id: &str) -> PreparedRequest {
        if self.offline.is_some() {
            return PreparedRequest {
                bytes: body.to_vec().into(),
                stream,
                keeps_answer: false,
                counts_answer: false,
            };
        }
        let authority = self.endpoint.authority();
        let accept = if stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let ours = [
            ("host", authority.as_str()),
            ("content-type", "application/json"),
            ("accept", accept),
            ("x-request-id", id),
            (
                "user-agent",
                concat!("scenario/", env!("CARGO_PKG_VERSION")),
            ),
        ];
        let mut bytes = Vec::with_capacity(512 + body.len());
        bytes.extend_from_slice(b"POST ");
        bytes.extend_from_slice(self.endpoint.target(self.dialect.path(stream)).as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        let mut header = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        };
        // The user's word is the last.
        for (name, value) in ours {
            if !self.headers.contains_key(name) {
                header(name, value.as_bytes());
            }
        }
        for (name, value) in &self.headers {
            header(name.as_str(), value.as_bytes());
        }
        if let Some(authorization) = self.endpoint.proxy_authorization() {
            header("proxy-authorization", authorization.as_bytes());
        }
        header("content-length", body.len().to_string().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        PreparedRequest {
            bytes: bytes.into(),
            stream,
            keeps_answer: false,
            counts_answer: false,
        }
    }
}

impl HttpTarget {
    /// What went wrong, without the secrets of its request: a server may say again what it was told, and texts are cut later on.
    fn hidden(&self, outcome: Outcome) -> Outcome {
        let hide = |text: String| {
            let masker = Masker::default();
            for value in self.headers.values().filter(|value| value.is_sensitive()) {
                let text = value.to_str().unwrap_or_default();
                // `Bearer TOKEN` is one secret, and so is what it is made of.
                for part in std::iter::once(text).chain(text.split([' ', ';', ',', '='])) {
                    if part == text || part.len() >= WORD_OF_A_SECRET {
                        masker.learn(&Secret::new(part));
                    }
                }
            }
            masker.text(&text).into_owned()
        };
        match outcome {
            Outcome::Refused {
                status,
                body,
                retry_after,
            } => Outcome::Refused {
                status,
                body: hide(body),
                retry_after,
            },
            Outcome::ErrorEvent(text) => Outcome::ErrorEvent(hide(text)),
            Outcome::Malformed(text) => Outcome::Malformed(hide(text)),
            Outcome::ConnectFailed(text) => Outcome::ConnectFailed(hide(text)),
            Outcome::TlsFailed(text) => Outcome::TlsFailed(hide(text)),
            Outcome::Reset(text) => Outcome::Reset(hide(text)),
            told @ (Outcome::Ok
            | Outcome::Truncated
            | Outcome::Empty
            | Outcome::TimedOut(_)
            | Outcome::Cut
            | Outcome::Dropped) => told,
        }
    }
}

/// What the lanes of one worker learn about the exactness of their stamps.
#[derive(Clone, Debug, Default)]
pub struct LaneFacts {
    /// Read instant minus kernel instant of each read.
    pub read_lag_ns: LagHistogram,
    /// Possible error of the stamps of events that shared a read; those of the others are exact.
    pub stamp_error_ns: LagHistogram,
    /// Output events in all.
    pub output_events: u64,
    /// Output events that came in the same read as the one before.
    pub shared_events: u64,
    /// Reads with a kernel stamp.
    pub kernel_stamps: u64,
    /// Reads without one.
    pub read_stamps: u64,
    /// Connections opened.
    pub connections_opened: u64,
}

impl LaneFacts {
    /// Adds what another worker learnt.
    pub fn merge(&mut self, other: &LaneFacts) {
        self.read_lag_ns.merge(&other.read_lag_ns);
        self.stamp_error_ns.merge(&other.stamp_error_ns);
        self.output_events += other.output_events;
        self.shared_events += other.shared_events;
        self.kernel_stamps += other.kernel_stamps;
        self.read_stamps += other.read_stamps;
        self.connections_opened += other.connections_opened;
    }

    /// Where the stamps come from.
    pub fn stamp_source(&self) -> StampSource {
        if self.kernel_stamps > 0 {
            StampSource::Kernel
        } else {
            StampSource::Read
        }
    }
}

/// Makes the stamps of a new connection; a test puts its own in.
pub type StampFactory = Rc<dyn Fn() -> Stamps>;

/// What the witness of a lane is told of an event of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Witnessed<'a> {
    /// When it came.
    pub at: Moment,
    /// What it says, as it came.
    pub data: &'a [u8],
    /// What it counts as.
    pub meaning: Meaning,
}

/// What an event of a stream counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Generated output.
    Output {
        /// Its tokens, where the engine tells them.
        tokens: Option<u32>,
        /// It has visible answer text.
        content: bool,
        /// It came in the same read as the output before.
        shared: bool,
    },
    /// An event without output: a role, a usage block, a ping.
    Silent,
    /// The mark at the end of the stream.
    End,
    /// An error, or no event of this language at all.
    Error,
}

/// Sees each event of a lane's streams.
pub type Witness = Rc<dyn Fn(&Witnessed<'_>)>;

/// One connection at a time, and the request in flight on it.
pub struct Lane {
    target: Arc<HttpTarget>,
    reactor: Rc<Reactor>,
    connection: Option<Connection>,
    stamps: StampFactory,
    sse: SseParser,
    progress: Progress,
    facts: Rc<RefCell<LaneFacts>>,
    /// The time limits of the request in flight.
    limits: Timeouts,
    /// Who is shown each event, for a person to look at; nobody where something is measured.
    witness: Option<Witness>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("target", &self.target)
            .field("connection", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane without a connection yet.
    pub fn new(
        target: Arc<HttpTarget>,
        reactor: Rc<Reactor>,
        facts: Rc<RefCell<LaneFacts>>,
    ) -> Lane {
        let limits = target.timeouts;
        let sse = if target.dialect.is_lines() {
            SseParser::of_lines()
        } else {
            SseParser::default()
        };
        Lane {
            limits,
            target,
            reactor,
            connection: None,
            stamps: Rc::new(Stamps::default),
            sse,
            progress: Progress::default(),
            facts,
            witness: None,
        }
    }

    /// The same lane with somebody who sees each event.
    pub fn watched(mut self, witness: Witness) -> Lane {
        self.witness = Some(witness);
        self
    }

    /// The same lane with stamps of a test's making.
    pub fn with_stamps(mut self, stamps: StampFactory) -> Lane {
        self.stamps = stamps;
        self
    }

    /// Opens the connection ahead of the first request.
    ///
    /// # Errors
    /// See [`OpenError`]; the first request will try again.
    pub async fn open(&mut self) -> Result<(), OpenError> {
        if self.target.offline.is_some() {
            return Ok(());
        }
        if !self.connection.as_mut().is_some_and(Connection::is_usable) {
            self.connection = None;
            let opened = Connection::open(
                &self.target.endpoint,
                &self.reactor,
                (self.stamps)(),
                self.target.timeouts.connect,
            )
            .await?;
            self.facts.borrow_mut().connections_opened += 1;
            self.connection = Some(opened);
        }
        Ok(())
    }

    /// Sends a request that was released at `dispatched`, and waits for its end whatever it is. The future may be dropped;
    /// then [`Lane::cut`] tells what was seen.
    pub async fn send(&mut self, request: &PreparedRequest, dispatched: Moment) -> Exchange {
        self.progress = Progress {
            dispatched,
            events: std::mem::take(&mut self.progress.events),
            shape: std::mem::take(&mut self.progress.shape),
            answer: (request.keeps_answer || request.counts_answer).then(String::new),
            ends: (request.counts_answer && request.stream).then(Vec::new),
            only_counts: !request.keeps_answer,
            ..Progress::default()
        };
        self.progress.shape.reset();
        self.limits = limits(self.target.timeouts, request.stream);
        // The many small steps of a stream go past the large futures that its beginning needs: what they touch in memory is
        // little and close together.
        let begin: Pin<Box<dyn Future<Output = Begun> + '_>> = match self.target.offline.clone() {
            Some(adapter) => Box::pin(self.ask(adapter, request)),
            None => Box::pin(self.begin(request)),
        };
        let outcome = match begin.await {
            Begun::Stream => poll_fn(|context| self.poll_stream(context)).await,
            Begun::Ended(outcome) => outcome,
        };
        let outcome = self.target.hidden(outcome);
        if !matches!(outcome, Outcome::Ok) {
            // Whatever is left on the connection belongs to a failed request.
            self.connection = None;
        }
        self.progress
            .end(outcome, self.reactor.clock().clock().now())
    }

    /// The request in flight as far as it has come, cut at `at`; closes its connection.
    pub fn cut(&mut self, at: Moment) -> Exchange {
        self.connection = None;
        // What has been decided before is no longer in flight: an error is not hidden by the cut, nor is a whole answer.
        let outcome = if self.progress.fault.is_some() || self.progress.done {
            self.progress.outcome()
        } else {
            Outcome::Cut
        };
        let outcome = self.target.hidden(outcome);
        self.progress.end(outcome, at)
    }

    /// Has an adapter answer the request.
    async fn ask(&mut self, adapter: Arc<Adapter>, request: &PreparedRequest) -> Begun {
        let Lane {
            reactor,
            progress,
            facts,
            limits,
            ..
        } = self;
        let clock = reactor.clock().clock();
        let mut asked = adapter.generate(&request.bytes);
        progress.written = Some(clock.now());
        loop {
            let (deadline, phase) = progress.deadline(limits);
            let reply = reactor.before(deadline, asked.replies.recv()).await;
            return Begun::Ended(match reply {
                None => Outcome::TimedOut(phase),
                Some(None) => Outcome::Reset("the adapter is gone".to_owned()),
                Some(Some(Reply::Failed(text))) => Outcome::ErrorEvent(text),
                Some(Some(Reply::Output { at, tokens, text })) => {
                    progress.told_output(clock.moment(at).max(progress.dispatched), tokens, &text);
                    facts.borrow_mut().output_events += 1;
                    continue;
                }
                Some(Some(Reply::Done { at, reason, usage })) => {
                    progress.finished = Some(clock.moment(at).max(progress.dispatched));
                    progress.usage = Some(usage);
                    progress.finish_reason = Some(reason.as_deref().unwrap_or("unknown").into());
                    progress.outcome()
                }
            });
        }
    }

    /// Gets a connection and the head of an answer, and the whole of an answer that is no stream.
    async fn begin(&mut self, request: &PreparedRequest) -> Begun {
        let Lane {
            target,
            reactor,
            connection,
            stamps,
            sse,
            progress,
            facts,
            limits,
            witness: _,
        } = self;
        loop {
            progress.reused = connection.as_mut().is_some_and(Connection::is_usable)
                && connection.as_ref().is_some_and(|c| c.served() > 0);
            if !connection.as_mut().is_some_and(Connection::is_usable) {
                let began = reactor.clock().clock().now();
                let (deadline, phase) = progress.deadline(limits);
                let opening =
                    Connection::open(&target.endpoint, reactor, stamps(), target.timeouts.connect);
                let opened = reactor.before(deadline, opening).await;
                progress.connect = Some(reactor.clock().clock().now().since(began));
                match opened {
                    Some(Ok(opened)) => *connection = Some(opened),
                    Some(Err(error)) => return Begun::Ended(refused_connection(error)),
                    None => return Begun::Ended(Outcome::TimedOut(phase)),
                }
                facts.borrow_mut().connections_opened += 1;
            }
            let Some(live) = connection.as_mut() else {
                return Begun::Ended(Outcome::ConnectFailed("no connection".to_owned()));
            };
            sse.reset();
            let attempt = Attempt {
                reactor,
                dialect: target.dialect,
                live,
                limits,
                progress: &mut *progress,
                facts,
            };
            match attempt.run(request).await {
                // A reused connection that closed before any byte of the answer is replaced once.
                Attempted::ClosedBefore(_) if progress.reused && !progress.reconnected => {
                    progress.reconnected = true;
                    *connection = None;
                }
                Attempted::ClosedBefore(error) => return Begun::Ended(broken_off(error)),
                Attempted::Begun(begun) => return begun,
            }
        }
    }

    /// Reads what has come of a stream, event by event, until it ends.
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let dialect = self.target.dialect;
        let Lane {
            connection: Some(live),
            reactor,
            sse,
            progress,
            facts,
            limits,
            witness,
            ..
        } = self
        else {
            return Poll::Ready(Outcome::Truncated);
        };
        loop {
            let mut too_large = None;
            let came = live.poll_body(context, &mut |piece, stamps| {
                if stamps.reads() != progress.noted_read {
                    progress.noted_read = stamps.reads();
                    note_read(stamps, facts);
                }
                progress.bytes += piece.len() as u64;
                let fed = sse.feed(piece, |data| {
                    let meaning = progress.event(dialect, data, stamps, facts);
                    if let Some(witness) = witness {
                        let at = stamps.received();
                        witness(&Witnessed { at, data, meaning });
                    }
                });
                too_large = too_large.or(fed.err());
            });
            if let Some(error) = too_large {
                let malformed = Outcome::Malformed(error.to_string());
                return Poll::Ready(progress.fault_or(malformed));
            }
            match came {
                Poll::Ready(Ok(Flow::More)) => {}
                Poll::Ready(Ok(Flow::End)) => {
                    progress.ended(live.stamps());
                    progress.done |= dialect.ends_with_the_body() && progress.seen > 0;
                    return Poll::Ready(progress.outcome());
                }
                Poll::Ready(Err(error)) => {
                    progress.ended(live.stamps());
                    return Poll::Ready(progress.fault_or(broken_off(error)));
                }
                Poll::Pending => {
                    let (deadline, phase) = progress.deadline(limits);
                    return match reactor.has_come(deadline) {
                        false => Poll::Pending,
                        true if progress.done => Poll::Ready(progress.outcome()),
                        // An error that was told wins over every other end.
                        true => Poll::Ready(progress.fault_or(Outcome::TimedOut(phase))),
                    };
                }
            }
            if matches!(progress.fault, Some(Outcome::Malformed(_))) {
                progress.ended(live.stamps());
                return Poll::Ready(progress.outcome());
            }
        }
    }
}

/// How far a request came before its answer's stream.
enum Begun {
    /// The head says that events will come.
    Stream,
    /// It is over.
    Ended(Outcome),
}

/// The limits of a request; an answer that is no stream shows no first token, so only its whole time is limited.
fn limits(timeouts: Timeouts, stream: bool) -> Timeouts {
    let first_token = if stream {
        timeouts.first_token
    } else {
        timeouts.total
    };
    Timeouts {
        first_token,
        ..timeouts
    }
}

fn refused_connection(error: OpenError) -> Outcome {
    match error {
        OpenError::TimedOut { .. } => Outcome::TimedOut(Phase::Connect),
        OpenError::Tls { .. } => Outcome::TlsFailed(error.to_string()),
        OpenError::Connect { .. } => Outcome::ConnectFailed(error.to_string()),
    }
}

fn broken_off(error: StreamError) -> Outcome {
    match error {
        StreamError::Truncated => Outcome::Truncated,
        StreamError::Reset(text) => Outcome::Reset(text),
        StreamError::Malformed(text) => Outcome::Malformed(text),
    }
}

/// How an attempt on one connection ended.
enum Attempted {
    /// The connection broke before any byte of the answer came.
    ClosedBefore(StreamError),
    /// There is an answer, or an end.
    Begun(Begun),
}

/// One attempt to get an answer on one connection.
struct Attempt<'a> {
    reactor: &'a Reactor,
    dialect: Dialect,
    live: &'a mut Connection,
    limits: &'a Timeouts,
    progress: &'a mut Progress,
    facts: &'a RefCell<LaneFacts>,
}

impl Attempt<'_> {
    async fn run(mut self, request: &PreparedRequest) -> Attempted {
        let reads_before = self.live.stamps().reads();
        let (deadline, phase) = self.progress.deadline(self.limits);
        let answer = self.live.exchange(&request.bytes);
        let head = match self.reactor.before(deadline, answer).await {
            None => return Attempted::Begun(Begun::Ended(Outcome::TimedOut(phase))),
            Some(Err(error))
                if self.live.stamps().reads() <= reads_before + 1
                    && self.progress.bytes == 0
                    && closed_early(&error) =>
            {
                return Attempted::ClosedBefore(error);
            }
            Some(Err(error)) => return Attempted::Begun(Begun::Ended(broken_off(error))),
            Some(Ok(head)) => head,
        };
        self.note_read();
        self.progress.head(self.live.stamps(), head.status);
        Attempted::Begun(match head.status {
            400.. => Begun::Ended(self.refusal(head).await),
            200..300 if request.stream && is_stream(&head) => Begun::Stream,
            200..300 => Begun::Ended(self.whole(request.stream).await),
            other => Begun::Ended(Outcome::Malformed(format!(
                "unexpected HTTP status {other}"
            ))),
        })
    }

    /// Reads an answer that is no stream.
    async fn whole(&mut self, stream_was_asked: bool) -> Outcome {
        let mut whole = Vec::new();
        loop {
            let (deadline, phase) = self.progress.deadline(self.limits);
            let more = self.live.body(|piece, _| whole.extend_from_slice(piece));
            let came = self.reactor.before(deadline, more).await;
            self.progress.bytes = whole.len() as u64;
            match came {
                None => return Outcome::TimedOut(phase),
                Some(Ok(Flow::End)) => break,
                Some(Err(error)) => {
                    self.progress.ended(self.live.stamps());
                    return broken_off(error);
                }
                Some(Ok(Flow::More)) => {}
            }
            if whole.len() > ANSWER_LIMIT {
                return Outcome::Malformed(format!(
                    "an answer of more than {} MiB",
                    ANSWER_LIMIT >> 20
                ));
            }
        }
        self.note_read();
        self.progress
            .answer(self.dialect, &whole, self.live.stamps(), stream_was_asked)
    }

    async fn refusal(&mut self, head: Head) -> Outcome {
        let mut kept = Vec::new();
        loop {
            let (deadline, _) = self.progress.deadline(self.limits);
            let more = self.live.body(|piece, _| {
                let room = ERROR_BODY.saturating_sub(kept.len());
                kept.extend_from_slice(&piece[..piece.len().min(room)]);
            });
            match self.reactor.before(deadline, more).await {
                Some(Ok(Flow::More)) => {}
                Some(Ok(Flow::End) | Err(_)) | None => break,
            }
        }
        self.progress.ended(self.live.stamps());
        let later = head
            .retry_after
            .as_deref()
            .and_then(|value| value.parse().ok());
        Outcome::Refused {
            status: head.status,
            body: String::from_utf8_lossy(&kept).into_owned(),
            retry_after: later.filter(|_: &u64| matches!(head.status, 429 | 503)),
        }
    }

    fn note_read(&mut self) {
        self.progress.noted_read = self.live.stamps().reads();
        note_read(self.live.stamps(), self.facts);
    }
}

/// Whatever does not call itself JSON is taken for a stream.
fn is_stream(head: &Head) -> bool {
    !head
        .content_type
        .as_deref()
        .is_some_and(|kind| kind.starts_with("application/json"))
}

fn closed_early(error: &StreamError) -> bool {
    matches!(error, StreamError::Truncated | StreamError::Reset(_))
}

fn note_read(stamps: &Stamps, facts: &RefCell<LaneFacts>) {
    let mut facts = facts.borrow_mut();
    if stamps.from_kernel() {
        facts.kernel_stamps += 1;
        facts.read_lag_ns.record(
            u64::try_from(stamps.read().since(stamps.received()).as_nanos()).unwrap_or(u64::MAX),
        );
    } else {
        facts.read_stamps += 1;
    }
}

/// What has been seen of the request in flight.
#[derive(Debug, Default)]
struct Progress {
    dispatched: Moment,
    connect: Option<Duration>,
    written: Option<Moment>,
    headers: Option<Moment>,
    first_event: Option<Moment>,
    first_token: Option<Moment>,
    first_token_shared: bool,
    first_content: Option<Moment>,
    last_token: Option<Moment>,
    /// When the head or an event last came.
    last_read: Option<Moment>,
    finished: Option<Moment>,
    events: EventRecorder,
    /// What its events look like.
    shape: Shape,
    /// The number of the last read whose lag was noted.
    noted_read: u64,
    /// The number of the read that brought the last output event.
    last_output_read: u64,
    status: Option<u16>,
    finish_reason: Option<Arc<str>>,
    usage: Option<Usage>,
    /// Events of any kind so far.
    seen: u64,
    /// Tokens of output events, as far as each told them.
    event_tokens: u64,
    /// Output events that did not tell their tokens.
    untold: u64,
    done: bool,
    /// An error event or malformed bytes: it wins over every other end.
    fault: Option<Outcome>,
    bytes: u64,
    reused: bool,
    reconnected: bool,
    /// What has been said so far, where it is kept.
    answer: Option<String>,
    /// Where in it each output event ends, where their tokens are to be counted.
    ends: Option<Vec<u32>>,
    /// The text is kept for that alone.
    only_counts: bool,
}

impl Progress {
    /// The next limit that the request can pass.
    fn deadline(&self, limits: &Timeouts) -> (Moment, Phase) {
        let total = (self.dispatched + limits.total, Phase::Total);
        let near = match (self.done, self.first_token, self.last_read) {
            (true, _, Some(last)) => (last + AFTER_DONE, Phase::Idle),
            (_, Some(_), Some(last)) => (last + limits.idle, Phase::Idle),
            _ => (self.dispatched + limits.first_token, Phase::FirstToken),
        };
        if near.0 < total.0 { near } else { total }
    }

    fn head(&mut self, stamps: &Stamps, status: u16) {
        self.headers = Some(stamps.received());
        self.last_read = Some(stamps.received());
        self.written = (stamps.written() >= self.dispatched).then(|| stamps.written());
        self.status = Some(status);
    }

    /// Output that somebody tells of with its own instant.
    fn told_output(&mut self, at: Moment, tokens: Option<u32>, text: &str) {
        self.first_event.get_or_insert(at);
        self.last_read = Some(at);
        self.first_token.get_or_insert(at);
        self.last_token = Some(at);
        if let Some(said) = &mut self.answer {
            said.push_str(text);
        }
        if !text.is_empty() {
            self.first_content.get_or_insert(at);
        }
        self.events.push(at, tokens.unwrap_or(1), false);
        self.event_tokens += u64::from(tokens.unwrap_or(1));
        self.untold += u64::from(tokens.is_none());
        self.note_end();
    }

    /// The output event that was just noted ends where the text does. One without text of its own cannot be counted by it.
    fn note_end(&mut self) {
        let (Some(ends), Some(said)) = (&mut self.ends, &self.answer) else {
            return;
        };
        let end = u32::try_from(said.len()).unwrap_or(u32::MAX);
        match ends.last().copied().unwrap_or(0) < end {
            true => ends.push(end),
            false => self.ends = None,
        }
    }

    fn ended(&mut self, stamps: &Stamps) {
        if self.finished.is_none() {
            self.finished = Some(stamps.received().max(self.dispatched));
        }
    }

    fn event(
        &mut self,
        dialect: Dialect,
        data: &[u8],
        stamps: &Stamps,
        facts: &RefCell<LaneFacts>,
    ) -> Meaning {
        let at = stamps.received();
        self.first_event.get_or_insert(at);
        self.last_read = Some(at);
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            self.finished.get_or_insert(at);
            return Meaning::End;
        }
        let read = match self.read(dialect, data) {
            Ok(read) => read,
            Err(error) => {
                let start = String::from_utf8_lossy(&data[..data.len().min(200)]).into_owned();
                self.fault
                    .get_or_insert(Outcome::Malformed(format!("{error} in `{start}`")));
                return Meaning::Error;
            }
        };
        let failed = read.error.is_some();
        if let Some(error) = read.error {
            self.fault = Some(Outcome::ErrorEvent(error));
        }
        let told = self.told_tokens(read.usage, read.token_ids);
        if let Some(usage) = read.usage {
            self.usage = Some(usage.over(self.usage.unwrap_or_default()));
        }
        if let Some(reason) = read.finish_reason {
            self.finish_reason = Some(reason.as_ref().into());
        }
        self.seen += 1;
        let output = read.output || (read.blank && told.is_some_and(|tokens| tokens > 0));
        if output && told.is_some() {
            // The engine tells: nothing is left to count. What it tells beside its output is about the whole answer.
            self.ends = None;
        }
        if self.only_counts && self.ends.is_none() {
            self.answer = None;
        }
        let content = read.content;
        if let Some(said) = self.answer.as_mut().filter(|_| content)
            && let Some(spoken) = dialect.spoken(data)
        {
            spoken.add_to(said);
        }
        if output {
            if read.content {
                self.first_content.get_or_insert(at);
            }
            let shared = self.output(at, told, stamps, facts);
            return Meaning::Output {
                tokens: told,
                content: read.content,
                shared,
            };
        }
        if failed {
            Meaning::Error
        } else {
            Meaning::Silent
        }
    }

    /// What an event says: nearly always in a language whose events look like those before.
    fn read<'d>(
        &mut self,
        dialect: Dialect,
        data: &'d [u8],
    ) -> Result<EventFacts<'d>, serde_json::Error> {
        if dialect.is_openai() {
            self.shape.read(data)
        } else {
            dialect.read_event(data)
        }
    }

    /// How many tokens an event carries, if it says so: by the growth of continuous usage, or by its token ids. The first
    /// usage block of a stream that is already under way is the total of the stream, not of that event.
    fn told_tokens(&self, usage: Option<Usage>, token_ids: u32) -> Option<u32> {
        let now = usage.and_then(|usage| usage.output);
        let before = self.usage.map(|usage| usage.output.unwrap_or(0));
        match (now, before) {
            (Some(now), Some(before)) => Some(now.saturating_sub(before)),
            (Some(now), None) if self.seen == 0 => Some(now),
            _ => (token_ids > 0).then_some(token_ids),
        }
    }

    /// Notes output; says whether it came in the same read as the output before.
    fn output(
        &mut self,
        at: Moment,
        told: Option<u32>,
        stamps: &Stamps,
        facts: &RefCell<LaneFacts>,
    ) -> bool {
        let mut facts = facts.borrow_mut();
        let shared = !self.events.is_empty() && self.last_output_read == stamps.reads();
        if shared {
            self.first_token_shared |= self.events.len() == 1;
            facts.shared_events += 1;
            let error = u64::try_from(stamps.possible_error().as_nanos());
            facts.stamp_error_ns.record(error.unwrap_or(u64::MAX));
        }
        facts.output_events += 1;
        self.first_token.get_or_insert(at);
        self.last_token = Some(at);
        self.last_output_read = stamps.reads();
        self.events.push(at, told.unwrap_or(1), shared);
        self.event_tokens += u64::from(told.unwrap_or(1));
        self.untold += u64::from(told.is_none());
        self.note_end();
        shared
    }

    /// An answer that is no stream: its tokens came at its end, and no first token was seen.
    fn answer(
        &mut self,
        dialect: Dialect,
        body: &[u8],
        stamps: &Stamps,
        stream_was_asked: bool,
    ) -> Outcome {
        self.ended(stamps);
        let read = match dialect.read_answer(body) {
            Ok(read) => read,
            Err(error) => return Outcome::Malformed(error.to_string()),
        };
        if let Some(error) = read.error {
            return Outcome::ErrorEvent(error);
        }
        if stream_was_asked {
            return Outcome::Malformed(
                "a stream was asked for, and one JSON document came".to_owned(),
            );
        }
        self.usage = read.usage;
        self.finish_reason = read.finish_reason.map(|reason| reason.as_ref().into());
        if let Some(said) = &mut self.answer {
            *said = dialect.said(body).unwrap_or_default();
        }
        let any = read.output
            || self
                .usage
                .and_then(|usage| usage.output)
                .is_some_and(|tokens| tokens > 0);
        if any {
            self.last_token = self.finished;
        }
        match (&self.finish_reason, any) {
            (None, _) => Outcome::Truncated,
            (Some(_), false) => Outcome::Empty,
            (Some(_), true) => Outcome::Ok,
        }
    }

    /// The error that was told before, or this end.
    fn fault_or(&mut self, end: Outcome) -> Outcome {
        self.fault.take().unwrap_or(end)
    }

    /// How a stream ended whose body is complete.
    fn outcome(&mut self) -> Outcome {
        if let Some(fault) = self.fault.take() {
            return fault;
        }
        if !self.done && self.finish_reason.is_none() {
            return Outcome::Truncated;
        }
        let told = self.usage.and_then(|usage| usage.output).unwrap_or(0);
        if self.events.is_empty() && told == 0 {
            Outcome::Empty
        } else {
            Outcome::Ok
        }
    }

    fn tokens(&self) -> Tokens {
        let usage = self.usage.unwrap_or_default();
        let told = usage
            .output
            .filter(|&tokens| tokens > 0 || self.events.is_empty());
        let counted =
            (!self.events.is_empty()).then(|| u32::try_from(self.event_tokens).unwrap_or(u32::MAX));
        Tokens {
            input: usage.input,
            output: told.or(counted),
            cached: usage.cached,
            reasoning: usage.reasoning,
            source: match (told, counted) {
                (Some(_), _) => TokenSource::Usage,
                (None, Some(_)) => TokenSource::Events,
                (None, None) => TokenSource::Unknown,
            },
            per_event_known: !self.events.is_empty() && self.untold == 0,
        }
    }

    fn end(&mut self, outcome: Outcome, now: Moment) -> Exchange {
        Exchange {
            dispatched: self.dispatched,
            connect: self.connect,
            written: self.written,
            headers: self.headers,
            first_event: self.first_event,
            first_token: self.first_token,
            first_token_shared: self.first_token_shared,
            first_content: self.first_content,
            last_token: self.last_token,
            finished: self.finished.unwrap_or(now),
            tokens: self.tokens(),
            events: self.events.take(),
            outcome,
            status: self.status,
            finish_reason: self.finish_reason.take(),
            bytes: self.bytes,
            reused: self.reused,
            reconnected: self.reconnected,
            answer: self.answer.take(),
            ends: self.ends.take().filter(|_| self.untold > 0),
        }
    }
}
