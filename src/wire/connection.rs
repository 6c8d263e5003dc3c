//! One HTTP/1.1 connection, read where the request waits: one read of the socket, its body's pieces handed on without a copy.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::framing::{Framing, Head, Malformed, read_head};
use super::reactor::Reactor;
use super::socket::StampedSocket;
use super::stamp::Stamps;

/// The most that one read takes: a hundred events that waited, and small enough to stay in cache.
const READ_SIZE: usize = 32 * 1024;
/// The largest head.
const HEAD_LIMIT: usize = 64 << 10;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// TCP: refused, unreachable, no address.
    #[error("cannot connect to {endpoint}: {error}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// What the system said.
        error: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {endpoint} failed: {error}")]
    Tls {
        /// Where to.
        endpoint: String,
        /// What rustls said.
        error: io::Error,
    },
    /// Not open within its time.
    #[error("no connection to {endpoint} within {}", crate::units::format_duration(*.within))]
    TimedOut {
        /// Where to.
        endpoint: String,
        /// The limit.
        within: Duration,
    },
}

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer closed before the message was complete.
    #[error("the connection closed before the answer was complete")]
    Truncated,
    /// The connection was reset.
    #[error("the connection was reset: {0}")]
    Reset(String),
    /// Not HTTP/1.1.
    #[error("not valid HTTP: {0}")]
    Malformed(String),
}

impl StreamError {
    fn of(error: &io::Error) -> StreamError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => StreamError::Truncated,
            _ => StreamError::Reset(error.to_string()),
        }
    }
}

impl From<Malformed> for StreamError {
    fn from(Malformed(text): Malformed) -> StreamError {
        StreamError::Malformed(text)
    }
}

/// An open connection. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    stamps: Rc<Stamps>,
    /// Bytes that were read and not yet taken: the part of a head, or what came behind one.
    left: Vec<u8>,
    /// The body that is being read.
    framing: Framing,
    keeps_alive: bool,
    /// Nothing is in flight, and nothing went wrong.
    idle: bool,
    served: u32,
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More will come.
    More,
    /// It is complete.
    End,
}

impl Connection {
    /// Opens a connection: TCP, and TLS where the endpoint asks for it, in at most `within`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        endpoint: &Endpoint,
        reactor: &Rc<Reactor>,
        stamps: Stamps,
        within: Duration,
    ) -> Result<Connection, OpenError> {
        let deadline = reactor.clock().clock().now() + within;
        let opening = Connection::open_unbounded(endpoint, reactor, stamps);
        match reactor.before(deadline, opening).await {
            Some(opened) => opened,
            None => Err(OpenError::TimedOut {
                endpoint: endpoint.to_string(),
                within,
            }),
        }
    }

    async fn open_unbounded(
        endpoint: &Endpoint,
        reactor: &Rc<Reactor>,
        stamps: Stamps,
    ) -> Result<Connection, OpenError> {
        let stamps = Rc::new(stamps);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut socket = None;
        for address in &endpoint.addresses {
            match StampedSocket::connect(*address, reactor, stamps.clone()).await {
                Ok(connected) => {
                    socket = Some(connected);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let refused = |error| OpenError::Connect {
            endpoint: endpoint.to_string(),
            error,
        };
        let mut socket = socket.ok_or_else(|| refused(last))?;
        if let (Some(proxy), Some(_)) = (&endpoint.proxy, &endpoint.tls) {
            let authority = format!("{}:{}", endpoint.host, endpoint.port);
            proxy
                .tunnel(&mut socket, &authority)
                .await
                .map_err(refused)?;
        }
        let transport = match &endpoint.tls {
            None => Transport::Plain(socket),
            Some(config) => {
                let failed = |error| OpenError::Tls {
                    endpoint: endpoint.to_string(),
                    error,
                };
                let name = ServerName::try_from(endpoint.host.clone())
                    .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
                let stream = TlsConnector::from(config.clone())
                    .connect(name, socket)
                    .await
                    .map_err(failed)?;
                Transport::Tls(Box::new(stream))
            }
        };
        Ok(Connection {
            transport,
            stamps,
            left: Vec::new(),
            framing: Framing::Length(0),
            keeps_alive: true,
            idle: true,
            served: 0,
        })
    }

    /// The stamps of this connection's reads and writes.
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// How many exchanges were begun on it.
    pub fn served(&self) -> u32 {
        self.served
    }

    /// Whether it can take a request now; a connection that the peer has closed meanwhile cannot, nor can one on which
    /// something came unasked.
    pub fn is_usable(&mut self) -> bool {
        self.idle && self.keeps_alive && self.left.is_empty() && {
            let mut context = Context::from_waker(std::task::Waker::noop());
            with_scratch(|scratch| self.transport.poll_read(&mut context, scratch)).is_pending()
        }
    }

    /// Sends a whole request, head and body, and waits for the head of its response.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Head, StreamError> {
        self.served += 1;
        self.idle = false;
        // A server may refuse before it has read everything: then what it says matters, not that it closed.
        let sent = self.write_all(request).await;
        match (self.head().await, sent) {
            (Ok(head), _) => Ok(head),
            (Err(_), Err(error)) => Err(StreamError::of(&error)),
            (Err(error), Ok(())) => Err(error),
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = poll_fn(|context| self.transport.poll_write(context, bytes)).await?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[taken..];
        }
        poll_fn(|context| self.transport.poll_flush(context)).await
    }

    async fn head(&mut self) -> Result<Head, StreamError> {
        loop {
            if let Some((head, size)) = read_head(&self.left)? {
                self.left.drain(..size);
                if matches!(head.status, 100..=199) {
                    continue;
                }
                self.framing = head.framing;
                self.keeps_alive = head.keeps_alive;
                return Ok(head);
            }
            if self.left.len() > HEAD_LIMIT {
                return Err(StreamError::Malformed(format!(
                    "a head of more than {} KiB",
                    HEAD_LIMIT >> 10
                )));
            }
            let (transport, left) = (&mut self.transport, &mut self.left);
            let taken = poll_fn(|context| {
                with_scratch(|scratch| {
                    let bytes = ready!(transport.poll_read(context, scratch))?;
                    left.extend_from_slice(&scratch[..bytes]);
                    Poll::Ready(Ok::<_, io::Error>(bytes))
                })
            })
            .await
            .map_err(|error| StreamError::of(&error))?;
            if taken == 0 {
                return Err(StreamError::Truncated);
            }
        }
    }

    /// Waits for more of the body, reads once, and hands its pieces to `piece`.
    ///
    /// # Errors
    /// See [`StreamError`]; pieces before the error have been handed over.
    pub async fn body(
        &mut self,
        mut piece: impl FnMut(&[u8], &Stamps),
    ) -> Result<Flow, StreamError> {
        poll_fn(|context| self.poll_body(context, &mut piece)).await
    }

    /// The same as a poll.
    pub fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        piece: &mut impl FnMut(&[u8], &Stamps),
    ) -> Poll<Result<Flow, StreamError>> {
        if self.framing.is_complete() {
            self.idle = true;
            return Poll::Ready(Ok(Flow::End));
        }
        let stamps = &self.stamps;
        let framing = &mut self.framing;
        let mut hand_on = |bytes: &[u8]| framing.decode(bytes, |bytes| piece(bytes, stamps));
        let (came, taken) = if self.left.is_empty() {
            let transport = &mut self.transport;
            let read = with_scratch(|scratch| {
                let bytes = ready!(transport.poll_read(context, scratch))?;
                Poll::Ready(Ok((bytes, hand_on(&scratch[..bytes]))))
            });
            match ready!(read) {
                Ok((0, _)) => return Poll::Ready(self.closed()),
                Ok((came, taken)) => (came, taken?),
                Err(error) => return Poll::Ready(Err(StreamError::of(&error))),
            }
        } else {
            let left = std::mem::take(&mut self.left);
            (left.len(), hand_on(&left)?)
        };
        if !self.framing.is_complete() {
            return Poll::Ready(Ok(Flow::More));
        }
        // Bytes that nobody asked for: the connection cannot be trusted with another request.
        self.keeps_alive &= came == taken;
        self.idle = true;
        Poll::Ready(Ok(Flow::End))
    }

    /// The peer has closed.
    fn closed(&mut self) -> Result<Flow, StreamError> {
        self.keeps_alive = false;
        match self.framing {
            Framing::UntilClose => Ok(Flow::End),
            Framing::Length(_) | Framing::Chunked(_) => Err(StreamError::Truncated),
        }
    }
}

/// TCP, with or without TLS.
#[derive(Debug)]
enum Transport {
    Plain(StampedSocket),
    Tls(Box<TlsStream<StampedSocket>>),
}

thread_local! {
    /// One read buffer for all connections of a thread: reads happen one at a time.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}

impl Transport {
    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(socket) => socket.poll_receive(into),
            Transport::Tls(stream) => {
                let mut buffer = ReadBuf::new(into);
                ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(socket) => socket.poll_send(bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
