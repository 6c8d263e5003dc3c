//! Requests over HTTP: one lane is one connection and what is kept for the request in flight on it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::{Instant, Sleep};

use super::dialect::{Dialect, Usage, read_answer, read_event};
use super::exchange::{Exchange, PreparedRequest};
use crate::observation::{
    EventRecorder, LagHistogram, Outcome, Phase, StampSource, TokenSource, Tokens,
};
use crate::plan::Timeouts;
use crate::units::Moment;
use crate::wire::sse::SseParser;
use crate::wire::{Connection, Endpoint, OpenError, StampClock, Stamps, StreamError};

/// How much of an error body is kept.
const ERROR_BODY: usize = 2048;
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
}

impl HttpTarget {
    fn request(
        &self,
        request: &PreparedRequest,
    ) -> Result<Request<Full<bytes::Bytes>>, hyper::http::Error> {
        let mut built = Request::builder()
            .method("POST")
            .uri(format!("{}{}", self.endpoint.prefix, self.dialect.path()))
            .header("host", self.endpoint.authority())
            .header("content-type", "application/json")
            .header(
                "accept",
                if request.stream {
                    "text/event-stream"
                } else {
                    "application/json"
                },
            )
            .header(
                "user-agent",
                concat!("scenario/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(request.body.clone()))?;
        built.headers_mut().extend(
            self.headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Ok(built)
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

/// One connection at a time, and the request in flight on it.
pub struct Lane {
    target: Arc<HttpTarget>,
    clock: Rc<StampClock>,
    connection: Option<Connection>,
    stamps: StampFactory,
    sse: SseParser,
    progress: Progress,
    facts: Rc<RefCell<LaneFacts>>,
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
        clock: Rc<StampClock>,
        facts: Rc<RefCell<LaneFacts>>,
    ) -> Lane {
        Lane {
            target,
            clock,
            connection: None,
            stamps: Rc::new(Stamps::default),
            sse: SseParser::default(),
            progress: Progress::default(),
            facts,
        }
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
        if !self.connection.as_mut().is_some_and(Connection::is_usable) {
            self.connection = None;
            let opened = Connection::open(
                &self.target.endpoint,
                &self.clock,
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
            ..Progress::default()
        };
        let outcome = self.exchange(request).await;
        if !matches!(outcome, Outcome::Ok) {
            // Whatever is left on the connection belongs to a failed request.
            self.connection = None;
        }
        self.progress.end(outcome, self.clock.clock().now())
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
        self.progress.end(outcome, at)
    }

    async fn exchange(&mut self, request: &PreparedRequest) -> Outcome {
        let Lane {
            target,
            clock,
            connection,
            stamps,
            sse,
            progress,
            facts,
        } = self;
        let mut watch = Watch::new(
            clock.clone(),
            limits(target.timeouts, request.stream),
            progress.dispatched,
        );
        loop {
            progress.reused = connection.as_mut().is_some_and(Connection::is_usable)
                && connection.as_ref().is_some_and(|c| c.served() > 0);
            if !connection.as_mut().is_some_and(Connection::is_usable) {
                let began = clock.clock().now();
                let opening =
                    Connection::open(&target.endpoint, clock, stamps(), target.timeouts.connect);
                let opened = watch.guard(watch.deadline(progress), opening).await;
                progress.connect = Some(clock.clock().now().since(began));
                match opened {
                    Ok(Ok(opened)) => *connection = Some(opened),
                    Ok(Err(error)) => return refused_connection(error),
                    Err(phase) => return Outcome::TimedOut(phase),
                }
                facts.borrow_mut().connections_opened += 1;
            }
            let Some(live) = connection.as_mut() else {
                return Outcome::ConnectFailed("no connection".to_owned());
            };
            sse.reset();
            let ended = Attempt {
                target,
                live,
                sse,
                progress: &mut *progress,
                facts,
                watch: &mut watch,
            }
            .run(request)
            .await;
            match ended {
                // A reused connection that closed before any byte of the answer is replaced once.
                Ended::BeforeAnswer(_) if progress.reused && !progress.reconnected => {
                    progress.reconnected = true;
                    *connection = None;
                }
                Ended::BeforeAnswer(error) => return broken_off(error),
                Ended::With(outcome) => return outcome,
            }
        }
    }
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
enum Ended {
    /// The connection broke before any byte of the answer came.
    BeforeAnswer(StreamError),
    /// It is decided.
    With(Outcome),
}

/// One attempt to get an answer on one connection.
struct Attempt<'a> {
    target: &'a HttpTarget,
    live: &'a mut Connection,
    sse: &'a mut SseParser,
    progress: &'a mut Progress,
    facts: &'a RefCell<LaneFacts>,
    watch: &'a mut Watch,
}

impl Attempt<'_> {
    async fn run(mut self, request: &PreparedRequest) -> Ended {
        let built = match self.target.request(request) {
            Ok(built) => built,
            Err(error) => return Ended::With(Outcome::Malformed(error.to_string())),
        };
        let reads_before = self.live.stamps().reads();
        let deadline = self.watch.deadline(self.progress);
        let head = match self.watch.guard(deadline, self.live.head(built)).await {
            Err(phase) => return Ended::With(Outcome::TimedOut(phase)),
            Ok(Err(error))
                if self.live.stamps().reads() <= reads_before + 1
                    && self.progress.bytes == 0
                    && closed_early(&error) =>
            {
                return Ended::BeforeAnswer(error);
            }
            Ok(Err(error)) => return Ended::With(broken_off(error)),
            Ok(Ok(response)) => response,
        };
        let (head, mut body) = head.into_parts();
        self.note_read();
        self.progress.head(self.live.stamps(), head.status.as_u16());
        if head.status.as_u16() >= 400 {
            return Ended::With(
                self.refusal(head.status.as_u16(), &head.headers, &mut body)
                    .await,
            );
        }
        if !head.status.is_success() {
            return Ended::With(Outcome::Malformed(format!(
                "unexpected HTTP status {}",
                head.status
            )));
        }
        let is_stream = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_none_or(|kind| !kind.trim_start().starts_with("application/json"));
        Ended::With(if request.stream && is_stream {
            self.stream(&mut body).await
        } else {
            self.whole(&mut body, request.stream).await
        })
    }

    /// Reads a stream of events to its end.
    async fn stream(&mut self, body: &mut hyper::body::Incoming) -> Outcome {
        // The read that brought the head has been noted.
        let mut last_read = self.live.stamps().reads();
        loop {
            let deadline = self.watch.deadline(self.progress);
            let piece = match self.watch.guard(deadline, self.live.frame(body)).await {
                Err(_) if self.progress.done => return self.progress.outcome(),
                // An error that was told wins over every other end.
                Err(phase) => return self.progress.fault_or(Outcome::TimedOut(phase)),
                Ok(None) => {
                    self.progress.ended(self.live.stamps());
                    return self.progress.outcome();
                }
                Ok(Some(Err(error))) => {
                    self.progress.ended(self.live.stamps());
                    return self.progress.fault_or(broken_off(error));
                }
                Ok(Some(Ok(piece))) => piece,
            };
            let stamps = self.live.stamps();
            if stamps.reads() != last_read {
                last_read = stamps.reads();
                note_read(stamps, self.facts);
            }
            self.progress.bytes += piece.len() as u64;
            let (progress, facts) = (&mut *self.progress, self.facts);
            if let Err(error) = self
                .sse
                .feed(&piece, |data| progress.event(data, stamps, facts))
            {
                let malformed = Outcome::Malformed(error.to_string());
                return self.progress.fault_or(malformed);
            }
            if matches!(self.progress.fault, Some(Outcome::Malformed(_))) {
                self.progress.ended(self.live.stamps());
                return self.progress.outcome();
            }
        }
    }

    /// Reads an answer that is no stream.
    async fn whole(&mut self, body: &mut hyper::body::Incoming, stream_was_asked: bool) -> Outcome {
        let mut whole = Vec::new();
        loop {
            let deadline = self.watch.deadline(self.progress);
            match self.watch.guard(deadline, self.live.frame(body)).await {
                Err(phase) => return Outcome::TimedOut(phase),
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    self.progress.ended(self.live.stamps());
                    return broken_off(error);
                }
                Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
            }
            self.progress.bytes = whole.len() as u64;
            if whole.len() > ANSWER_LIMIT {
                return Outcome::Malformed(format!(
                    "an answer of more than {} MiB",
                    ANSWER_LIMIT >> 20
                ));
            }
        }
        self.note_read();
        self.progress
            .answer(&whole, self.live.stamps(), stream_was_asked)
    }

    async fn refusal(
        &mut self,
        status: u16,
        headers: &HeaderMap,
        body: &mut hyper::body::Incoming,
    ) -> Outcome {
        let mut kept = Vec::new();
        loop {
            let deadline = self.watch.deadline(self.progress);
            match self.watch.guard(deadline, self.live.frame(body)).await {
                Ok(Some(Ok(piece))) => {
                    let room = ERROR_BODY.saturating_sub(kept.len());
                    kept.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Ok(None | Some(Err(_))) | Err(_) => break,
            }
        }
        self.progress.ended(self.live.stamps());
        Outcome::Refused {
            status,
            body: String::from_utf8_lossy(&kept).into_owned(),
            retry_after: headers
                .get(RETRY_AFTER)
                .and_then(seconds)
                .filter(|_| matches!(status, 429 | 503)),
        }
    }

    fn note_read(&self) {
        note_read(self.live.stamps(), self.facts);
    }
}

fn seconds(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
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

/// The time limits of one request, with one timer that is only moved when it fires.
struct Watch {
    clock: Rc<StampClock>,
    limits: Timeouts,
    dispatched: Moment,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    fn new(clock: Rc<StampClock>, limits: Timeouts, dispatched: Moment) -> Watch {
        let first = dispatched + limits.first_token.min(limits.total);
        let timer = Box::pin(tokio::time::sleep_until(Instant::from_std(
            clock.clock().instant(first),
        )));
        Watch {
            clock,
            limits,
            dispatched,
            timer,
        }
    }

    /// The next limit that the request can pass.
    fn deadline(&self, progress: &Progress) -> (Moment, Phase) {
        let total = (self.dispatched + self.limits.total, Phase::Total);
        let near = match (progress.done, progress.first_token, progress.last_read) {
            (true, _, Some(last)) => (last + AFTER_DONE, Phase::Idle),
            (_, Some(_), Some(last)) => (last + self.limits.idle, Phase::Idle),
            _ => (self.dispatched + self.limits.first_token, Phase::FirstToken),
        };
        if near.0 < total.0 { near } else { total }
    }

    /// Waits for `work`, but not past the deadline.
    async fn guard<F: Future>(
        &mut self,
        (moment, phase): (Moment, Phase),
        work: F,
    ) -> Result<F::Output, Phase> {
        let deadline = Instant::from_std(self.clock.clock().instant(moment));
        let mut work = std::pin::pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            while self.timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(phase));
                }
                self.timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
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
}

impl Progress {
    fn head(&mut self, stamps: &Stamps, status: u16) {
        self.headers = Some(stamps.received());
        self.last_read = Some(stamps.received());
        self.written = (stamps.written() >= self.dispatched).then(|| stamps.written());
        self.status = Some(status);
    }

    fn ended(&mut self, stamps: &Stamps) {
        if self.finished.is_none() {
            self.finished = Some(stamps.received().max(self.dispatched));
        }
    }

    fn event(&mut self, data: &[u8], stamps: &Stamps, facts: &RefCell<LaneFacts>) {
        let at = stamps.received();
        self.first_event.get_or_insert(at);
        self.last_read = Some(at);
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            self.finished.get_or_insert(at);
            return;
        }
        let read = match read_event(data) {
            Ok(read) => read,
            Err(error) => {
                let start = String::from_utf8_lossy(&data[..data.len().min(200)]).into_owned();
                self.fault
                    .get_or_insert(Outcome::Malformed(format!("{error} in `{start}`")));
                return;
            }
        };
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
        if read.output || (read.blank && told.is_some_and(|tokens| tokens > 0)) {
            if read.content {
                self.first_content.get_or_insert(at);
            }
            self.output(at, told, stamps, facts);
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

    fn output(
        &mut self,
        at: Moment,
        told: Option<u32>,
        stamps: &Stamps,
        facts: &RefCell<LaneFacts>,
    ) {
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
    }

    /// An answer that is no stream: its tokens came at its end, and no first token was seen.
    fn answer(&mut self, body: &[u8], stamps: &Stamps, stream_was_asked: bool) -> Outcome {
        self.ended(stamps);
        let read = match read_answer(body) {
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
        }
    }
}
