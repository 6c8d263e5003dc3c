//! The floor: what reading streams costs before anything is made of them. One thread, one epoll, one `recv` per readiness, and
//! a count of `data:` marks; no HTTP, no events, no stamps. A client's cost is told as a multiple of this one's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem::Finder;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::clock::Clock;

/// Marks of an answer besides those of its events: the reason, the usage, `[DONE]`.
const OTHER_MARKS: usize = 3;
/// A mark may lie across two reads: so many bytes of the one before are looked at again.
const OVERLAP: usize = 4;

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct FloorLoad {
    /// A [truth server](super::truth).
    pub address: SocketAddr,
    /// Connections, each with one request in flight.
    pub streams: usize,
    /// Requests of each connection, one after another.
    pub requests: usize,
    /// Events of each answer.
    pub events: usize,
}

/// What came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloorSeen {
    /// Events of all answers.
    pub events: usize,
    /// Calls of `recv` that brought bytes.
    pub reads: usize,
}

struct Stream {
    socket: TcpStream,
    left: usize,
    marks: usize,
    /// The last bytes of the read before.
    tail: [u8; OVERLAP],
}

/// Reads all answers to their end.
///
/// # Errors
/// The server cannot be reached, or closes amid an answer.
pub fn run(load: &FloorLoad) -> io::Result<FloorSeen> {
    let body = format!(
        r#"{{"model":"truth","stream":true,"max_tokens":{},"messages":[{{"role":"user","content":"Hello"}}]}}"#,
        load.events
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        load.address,
        body.len()
    );
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut streams = Vec::with_capacity(load.streams);
    for number in 0..load.streams {
        let socket = TcpStream::connect(load.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        streams.push(Stream {
            socket,
            left: load.requests,
            marks: 0,
            tail: [0; OVERLAP],
        });
    }
    for stream in &mut streams {
        stream.socket.write_all(request.as_bytes())?;
    }
    let mark = Finder::new(b"data:");
    let whole = load.events + OTHER_MARKS;
    let mut seen = FloorSeen::default();
    let mut buffer = vec![0; OVERLAP + (64 << 10)];
    let mut ready = [EpollEvent::empty(); 1024];
    let mut open = streams.len();
    while open > 0 {
        let count = match epoll.wait(&mut ready, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for event in &ready[..count] {
            let stream = &mut streams[event.data() as usize];
            let bytes = match stream.socket.read(&mut buffer[OVERLAP..]) {
                Ok(0) if stream.left == 0 => continue,
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            seen.reads += 1;
            buffer[..OVERLAP].copy_from_slice(&stream.tail);
            stream.marks += mark.find_iter(&buffer[..OVERLAP + bytes]).count();
            stream.tail.copy_from_slice(&buffer[bytes..bytes + OVERLAP]);
            if stream.marks == whole {
                seen.events += load.events;
                stream.marks = 0;
                stream.tail = [0; OVERLAP];
                stream.left -= 1;
                if stream.left == 0 {
                    open -= 1;
                } else {
                    stream.socket.write_all(request.as_bytes())?;
                }
            }
        }
    }
    Ok(seen)
}

/// Sleeps until each of `sends` arrivals of a stream of `rate` per second on a bare timerfd, and gives how late it woke, in
/// microseconds: the send lag that this machine cannot do without.
///
/// The arrivals are exponential like a Poisson stream's, evenly drawn, so that two runs are alike.
///
/// # Errors
/// The system gives no timer.
pub fn bare_timer(rate: f64, sends: u32) -> io::Result<Vec<f64>> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
    let clock = Clock::start();
    let mut due = clock.now() + Duration::from_millis(5);
    let mut lags = Vec::with_capacity(sends as usize);
    for number in 1..=sends {
        let left = due.since(clock.now());
        if !left.is_zero() {
            let left = TimeSpec::from_duration(left.max(Duration::from_micros(1)));
            timer.set(Expiration::OneShot(left), TimerSetTimeFlags::empty())?;
            timer.wait()?;
        }
        lags.push(clock.now().since(due).as_secs_f64() * 1e6);
        let drawn = (f64::from(number) * super::GOLDEN_SECTION).fract();
        due = due + Duration::from_secs_f64(-(1.0 - drawn).ln() / rate);
    }
    Ok(lags)
}
