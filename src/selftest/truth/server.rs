//! The loop of the truth server: one epoll over all connections, one timer for the next event that is due.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::TruthConfig;
use super::answer::{Api, Events};
use super::log::{TruthEntry, TruthLog};
use super::pace::{Beat, Due, StreamId};
use super::request::{self, Asked};
use crate::clock::Clock;
use crate::units::Moment;
use crate::wire::StampClock;
use crate::wire::socket::Receiver;

/// The timer wakes this long before an event is due; the rest is watched, for a timer alone is late by more than 20 µs.
const WATCH: Duration = Duration::from_micros(70);
/// Due events that are sent before sockets are looked at again.
const BURST: usize = 64;
/// The largest request.
const REQUEST: usize = 1 << 20;
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;

/// A truth server that runs; dropping it stops it.
#[derive(Debug)]
pub struct TruthServer {
    address: SocketAddr,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<Vec<TruthEntry>>>>,
}

/// Starts a truth server on a thread of its own; it accepts connections when this returns.
///
/// # Errors
/// The address cannot be bound or is not on this machine, the log cannot be created, or the system gives no epoll or timer.
pub fn start(config: &TruthConfig) -> io::Result<TruthServer> {
    if !config.address.ip().is_loopback() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("{} is not a loopback address", config.address.ip()),
        ));
    }
    let listener = TcpListener::bind(config.address)?;
    // Thousands may connect at once; one that the list has no room for waits a fifth of a second for its second try.
    listen(&listener, Backlog::MAXALLOWABLE)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = UnixStream::pair()?;
    let mut server = Loop::new(listener, stopped, config)?;
    let thread = std::thread::Builder::new()
        .name("truth".to_owned())
        .spawn(move || {
            server.run()?;
            server.close()
        })?;
    Ok(TruthServer {
        address,
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl TruthServer {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks the connections off, completes the log, and gives back what was kept in memory, requests amid their answers
    /// included.
    ///
    /// # Errors
    /// The log could not be written, or the server had failed before.
    pub fn stop(mut self) -> io::Result<Vec<TruthEntry>> {
        self.join()
    }

    fn join(&mut self) -> io::Result<Vec<TruthEntry>> {
        drop(self.stop.take());
        match self.thread.take() {
            None => Ok(Vec::new()),
            Some(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        }
    }
}

impl Drop for TruthServer {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.join();
    }
}

/// Everything that the thread owns.
struct Loop {
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer rings, if it is set.
    rings: Option<Moment>,
    listener: TcpListener,
    _stopped: UnixStream,
    clock: StampClock,
    /// The machine's monotonic clock at our zero.
    anchor: u64,
    config: TruthConfig,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Streams so far.
    streams: u64,
    due: Due,
    chat: Events,
    completions: Events,
    input: Vec<u8>,
    log: TruthLog,
}

struct Connection {
    stream: TcpStream,
    receiver: Receiver,
    /// The beginning of a request that is not whole.
    input: Vec<u8>,
    /// Bytes that go before anything else: heads and answers that are no streams.
    ahead: Vec<u8>,
    answer: Option<Answer>,
    /// The socket took less than was given: wait until it takes more.
    blocked: bool,
}

/// A streamed answer in flight.
struct Answer {
    id: StreamId,
    entry: TruthEntry,
    api: Api,
    events: usize,
    ending: Vec<u8>,
    beat: Beat,
    /// Bytes of events and ending that the kernel has taken.
    sent: usize,
}

/// What became of a connection.
#[derive(PartialEq, Eq)]
enum Then {
    Keep,
    Close,
}

impl Loop {
    fn new(listener: TcpListener, stopped: UnixStream, config: &TruthConfig) -> io::Result<Loop> {
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&stopped, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        // Edge-triggered, so that nobody needs to read it: setting it anew clears it.
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&timer, EpollEvent::new(edge, TIMER))?;
        let clock = Clock::start();
        Ok(Loop {
            epoll,
            timer,
            rings: None,
            listener,
            _stopped: stopped,
            clock: StampClock::new(clock, Arc::default()),
            anchor: clock.monotonic_anchor_ns()?,
            config: config.clone(),
            connections: Vec::new(),
            free: Vec::new(),
            streams: 0,
            due: Due::default(),
            chat: Events::of(Api::Chat),
            completions: Events::of(Api::Completions),
            input: vec![0; 64 << 10],
            log: TruthLog::open(&config.log)?,
        })
    }

    fn now(&self) -> Moment {
        self.clock.clock().now()
    }

    fn run(&mut self) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); 256];
        loop {
            self.send_due()?;
            let wait = self.wait()?;
            let count = match self.epoll.wait(&mut ready, wait) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &ready[..count] {
                match event.data() {
                    STOP => return Ok(()),
                    TIMER => self.rings = None,
                    LISTENER => self.accept()?,
                    slot => self.ready(slot as usize, event.events())?,
                }
            }
        }
    }

    /// How long to wait for sockets: not at all when an event is due soon, else until the timer.
    fn wait(&mut self) -> io::Result<EpollTimeout> {
        let Some(next) = self.due.next() else {
            return Ok(EpollTimeout::NONE);
        };
        let left = next.since(self.now());
        if left <= WATCH {
            return Ok(EpollTimeout::ZERO);
        }
        if self.rings.is_none_or(|rings| rings > next) {
            let early = TimeSpec::from_duration(left - WATCH);
            self.timer
                .set(Expiration::OneShot(early), TimerSetTimeFlags::empty())?;
            self.rings = Some(next);
        }
        Ok(EpollTimeout::NONE)
    }

    fn send_due(&mut self) -> io::Result<()> {
        for _ in 0..BURST {
            let Some(stream) = self.due.take(self.now()) else {
                return Ok(());
            };
            let current = self.connections[stream.slot]
                .as_ref()
                .and_then(|connection| connection.answer.as_ref())
                .is_some_and(|answer| answer.id == stream);
            if current && self.advance(stream.slot)? == Then::Close {
                self.close_connection(stream.slot)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Nothing more, or out of descriptors: those in use must close first.
                Err(_) => return Ok(()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let edges = EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLET;
            self.epoll
                .add(&stream, EpollEvent::new(edges, slot as u64))?;
            self.connections[slot] = Some(Connection {
                receiver: Receiver::new(&stream),
                stream,
                input: Vec::new(),
                ahead: Vec::new(),
                answer: None,
                blocked: false,
            });
        }
    }

    fn ready(&mut self, slot: usize, what: EpollFlags) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        let mut then = Then::Keep;
        if what.contains(EpollFlags::EPOLLOUT) && std::mem::take(&mut connection.blocked) {
            then = self.advance(slot)?;
        }
        let to_read = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLHUP
            | EpollFlags::EPOLLERR;
        if then == Then::Keep && what.intersects(to_read) {
            then = self.receive(slot)?;
        }
        if then == Then::Close {
            self.close_connection(slot)?;
        }
        Ok(())
    }

    /// Reads everything that has come, and begins the answer of a request that is whole.
    fn receive(&mut self, slot: usize) -> io::Result<Then> {
        loop {
            let Some(connection) = &mut self.connections[slot] else {
                return Ok(Then::Keep);
            };
            let (bytes, wall) = match connection
                .receiver
                .receive(&connection.stream, &mut self.input)
            {
                Ok((0, _)) => return Ok(Then::Close),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Then::Keep),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(Then::Close),
            };
            let now = self.clock.clock().now();
            let arrived = wall
                .and_then(|wall| self.clock.map(wall, now))
                .unwrap_or(now);
            connection.input.extend_from_slice(&self.input[..bytes]);
            // A request that comes before the answer of the one before has ended waits for it.
            if connection.answer.is_none() && self.begin(slot, arrived)? == Then::Close {
                return Ok(Then::Close);
            }
        }
    }

    /// Begins the answer of the next request in a connection's input, if it is whole.
    fn begin(&mut self, slot: usize, arrived: Moment) -> io::Result<Then> {
        let Some(connection) = &mut self.connections[slot] else {
            return Ok(Then::Keep);
        };
        match request::read(&connection.input) {
            Asked::Nothing if connection.input.len() > REQUEST => return Ok(Then::Close),
            Asked::Nothing => return Ok(Then::Keep),
            Asked::Malformed => return Ok(Then::Close),
            Asked::Other { size, answer } => {
                connection.input.drain(..size);
                connection.ahead.extend_from_slice(answer.as_bytes());
            }
            Asked::Stream {
                size,
                api,
                id,
                events,
                prompt_tokens,
            } => {
                connection.input.drain(..size);
                self.streams += 1;
                let id = id.unwrap_or_else(|| format!("truth-{}", self.streams));
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: {id}\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                connection.ahead.extend_from_slice(head.as_bytes());
                let stream = StreamId {
                    slot,
                    generation: self.streams,
                };
                let TruthConfig {
                    first, gap, spread, ..
                } = self.config;
                let beat = Beat::new(arrived, first, gap, spread.then_some(self.streams));
                connection.answer = Some(Answer {
                    id: stream,
                    entry: TruthEntry {
                        id,
                        arrived: self.anchor + arrived.ns(),
                        handed: Vec::with_capacity(if self.log.is_kept() { events } else { 0 }),
                        whole: false,
                    },
                    api,
                    events,
                    ending: api.ending(events, prompt_tokens),
                    beat,
                    sent: 0,
                });
                self.due.add(beat.at(0), stream);
            }
        }
        self.advance(slot)
    }

    /// Sends what a connection's answer may send now, and asks to be called for the rest.
    fn advance(&mut self, slot: usize) -> io::Result<Then> {
        loop {
            let now = self.clock.clock().now();
            let Some(connection) = &mut self.connections[slot] else {
                return Ok(Then::Keep);
            };
            if connection.blocked {
                return Ok(Then::Keep);
            }
            if !connection.ahead.is_empty() {
                match connection.stream.write(&connection.ahead) {
                    Ok(bytes) => drop(connection.ahead.drain(..bytes)),
                    Err(error) => return Ok(connection.refused(&error)),
                }
                continue;
            }
            let Some(answer) = &mut connection.answer else {
                return Ok(Then::Keep);
            };
            let events = match answer.api {
                Api::Chat => &self.chat,
                Api::Completions => &self.completions,
            };
            let handed = (answer.sent / events.size).min(answer.events);
            let allowed = allowed(answer, handed, now);
            let slices = events.slices(answer.sent, allowed, answer.events, &answer.ending);
            let given = slices[0].len() + slices[1].len();
            if given == 0 {
                self.due.add(answer.beat.at(allowed), answer.id);
                return Ok(Then::Keep);
            }
            let taken = match connection.stream.write_vectored(&slices) {
                Ok(taken) => taken,
                Err(error) => return Ok(connection.refused(&error)),
            };
            answer.sent += taken;
            if self.log.is_kept() {
                let complete = (answer.sent / events.size).min(answer.events);
                let instant = self.anchor + now.ns();
                answer.entry.handed.resize(complete, instant);
            }
            if answer.sent < answer.events * events.size + answer.ending.len() {
                connection.blocked = taken < given;
                continue;
            }
            let Some(answer) = connection.answer.take() else {
                return Ok(Then::Keep);
            };
            self.log(answer, true)?;
            // What came meanwhile has its stamp of then; it is a client that does not wait for its answer.
            if self.connections[slot]
                .as_ref()
                .is_some_and(|next| !next.input.is_empty())
            {
                return self.begin(slot, now);
            }
            return Ok(Then::Keep);
        }
    }

    fn log(&mut self, answer: Answer, whole: bool) -> io::Result<()> {
        let now = self.now();
        let entry = TruthEntry {
            whole,
            ..answer.entry
        };
        self.log.push(entry, now)
    }

    fn close_connection(&mut self, slot: usize) -> io::Result<()> {
        if let Some(connection) = self.connections[slot].take() {
            self.free.push(slot);
            if let Some(answer) = connection.answer {
                self.log(answer, false)?;
            }
        }
        Ok(())
    }

    fn close(mut self) -> io::Result<Vec<TruthEntry>> {
        for slot in 0..self.connections.len() {
            self.close_connection(slot)?;
        }
        self.log.close()
    }
}

impl Connection {
    /// What a failed write means.
    fn refused(&mut self, error: &io::Error) -> Then {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.blocked = true;
                Then::Keep
            }
            ErrorKind::Interrupted => Then::Keep,
            _ => Then::Close,
        }
    }
}

/// How many events may have been sent by `now`, when `handed` have been.
fn allowed(answer: &Answer, handed: usize, now: Moment) -> usize {
    let mut allowed = handed;
    while allowed < answer.events && answer.beat.at(allowed) <= now {
        allowed += 1;
    }
    allowed
}
