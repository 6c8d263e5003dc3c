//! One HTTP/1.1 connection: hyper's state machine, polled in the task that waits for its frames.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::socket::StampedSocket;
use super::stamp::{StampClock, Stamps};

/// The most that one read takes: a hundred events that waited, and small enough to stay in cache.
const READ_SIZE: usize = 32 * 1024;

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
    fn of(error: &hyper::Error) -> StreamError {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return StreamError::Truncated;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(inner) = cause {
            if let Some(system) = inner.downcast_ref::<io::Error>() {
                return match system.kind() {
                    io::ErrorKind::UnexpectedEof => StreamError::Truncated,
                    _ => StreamError::Reset(system.to_string()),
                };
            }
            cause = inner.source();
        }
        StreamError::Malformed(error.to_string())
    }
}

/// An open connection. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<Transport, Full<Bytes>>,
    driver_done: bool,
    stamps: Rc<Stamps>,
    served: u32,
}

impl Connection {
    /// Opens a connection: TCP, TLS where the endpoint asks for it, and hyper's handshake, in at most `within`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        endpoint: &Endpoint,
        clock: &Rc<StampClock>,
        stamps: Stamps,
        within: Duration,
    ) -> Result<Connection, OpenError> {
        match tokio::time::timeout(within, Connection::open_unbounded(endpoint, clock, stamps))
            .await
        {
            Ok(opened) => opened,
            Err(_) => Err(OpenError::TimedOut {
                endpoint: endpoint.to_string(),
                within,
            }),
        }
    }

    async fn open_unbounded(
        endpoint: &Endpoint,
        clock: &Rc<StampClock>,
        stamps: Stamps,
    ) -> Result<Connection, OpenError> {
        let stamps = Rc::new(stamps);
        let refused = |error| OpenError::Connect {
            endpoint: endpoint.to_string(),
            error,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut socket = None;
        for address in &endpoint.addresses {
            match StampedSocket::connect(*address, clock.clone(), stamps.clone()).await {
                Ok(connected) => {
                    socket = Some(connected);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let socket = socket.ok_or_else(|| refused(last))?;
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
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(1 << 20)
            .handshake(transport)
            .await
            .map_err(|error| refused(io::Error::other(error)))?;
        Ok(Connection {
            sender,
            driver,
            driver_done: false,
            stamps,
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

    /// Whether it can take a request now; a connection that the peer has closed meanwhile cannot.
    pub fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.poll_driver(&mut context);
        !self.driver_done && !self.sender.is_closed() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn head(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, StreamError> {
        self.served += 1;
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        let (driver, done) = (&mut self.driver, &mut self.driver_done);
        poll_fn(|context| {
            if !*done {
                *done = Pin::new(&mut *driver).poll(context).is_ready();
            }
            answer.as_mut().poll(context)
        })
        .await
        .map_err(|error| StreamError::of(&error))
    }

    /// Waits for the next piece of the body; `None` at its proper end.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn frame(&mut self, body: &mut Incoming) -> Option<Result<Bytes, StreamError>> {
        poll_fn(|context| self.poll_frame(body, context)).await
    }

    fn poll_frame(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, StreamError>>> {
        loop {
            self.poll_driver(context);
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::of(&error)))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    fn poll_driver(&mut self, context: &mut Context<'_>) {
        if !self.driver_done {
            self.driver_done = Pin::new(&mut self.driver).poll(context).is_ready();
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

impl hyper::rt::Read for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let limit = into.remaining().min(scratch.len());
            let bytes = match self.get_mut() {
                Transport::Plain(socket) => {
                    ready!(socket.poll_receive(context, &mut scratch[..limit]))?
                }
                Transport::Tls(stream) => {
                    let mut buffer = ReadBuf::new(&mut scratch[..limit]);
                    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
                    buffer.filled().len()
                }
            };
            into.put_slice(&scratch[..bytes]);
            Poll::Ready(Ok(()))
        })
    }
}

impl hyper::rt::Write for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
