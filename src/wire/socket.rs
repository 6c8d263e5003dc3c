//! A non-blocking TCP socket whose reads carry the kernel's receive time.
//!
//! One `recvmsg` per readiness: a read that did not fill the buffer has drained the socket, so readiness is cleared without a
//! second call that would only say so.

#[cfg(target_os = "linux")]
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use mio::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reactor::{Reactor, Registered};
use super::stamp::Stamps;

/// A connected socket with stamps. It wakes the reactor's task that polls it, whatever waker that task brings.
#[derive(Debug)]
pub struct StampedSocket {
    stream: Registered<TcpStream>,
    stamps: Rc<Stamps>,
    receiver: Receiver,
}

impl StampedSocket {
    /// Connects to `address` and asks the kernel for receive stamps.
    ///
    /// # Errors
    /// The connection is refused, or the socket cannot be set up.
    pub async fn connect(
        address: SocketAddr,
        reactor: &Rc<Reactor>,
        stamps: Rc<Stamps>,
    ) -> io::Result<StampedSocket> {
        let stream = reactor.register(TcpStream::connect(address)?)?;
        // Writable means that it is decided.
        std::future::poll_fn(|_| match stream.is_writable() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        if let Some(error) = stream.socket.take_error()? {
            return Err(error);
        }
        stream.socket.set_nodelay(true)?;
        let receiver = Receiver::new(&stream.socket);
        Ok(StampedSocket {
            stream,
            stamps,
            receiver,
        })
    }

    /// Reads once into `buffer` when the socket is readable.
    pub(super) fn poll_receive(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let clock = self.stream.reactor().clock();
        while self.stream.is_readable() {
            match self.receiver.receive(&self.stream.socket, buffer) {
                Ok((bytes, kernel)) => {
                    // The end of the stream stays readable; anything shorter than the buffer has emptied the socket.
                    let drained = bytes < buffer.len();
                    if drained && bytes > 0 {
                        self.stream.is_drained();
                    }
                    self.stamps.note_read(clock, kernel, bytes, drained);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stamps.note_empty(clock);
                    self.stream.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    /// Writes once what the kernel takes.
    pub(super) fn poll_send(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.stream.is_writable() {
            match (&self.stream.socket).write(bytes) {
                Ok(bytes) => {
                    self.stamps.note_write(self.stream.reactor().clock());
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.is_full(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for StampedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.get_mut().poll_receive(buffer.initialize_unfilled()))?;
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StampedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.socket.shutdown(std::net::Shutdown::Write))
    }
}

/// Reads with the kernel's receive stamp (`SO_TIMESTAMPNS`), where there is one.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct Receiver {
    stamped: bool,
}

#[cfg(target_os = "linux")]
thread_local! {
    /// Where the kernel puts a stamp. One for all sockets of a thread: reads happen one at a time.
    static CONTROL: RefCell<Vec<u8>> = RefCell::new(nix::cmsg_space!(nix::sys::time::TimeSpec));
}

#[cfg(target_os = "linux")]
impl Receiver {
    /// Asks the kernel for stamps on `stream`.
    pub fn new(stream: &impl AsFd) -> Receiver {
        use nix::sys::socket::{setsockopt, sockopt};
        // Without the option reads carry no stamp, and the instant of the read is told instead.
        Receiver {
            stamped: setsockopt(stream, sockopt::ReceiveTimestampns, &true).is_ok(),
        }
    }

    /// Reads once: how many bytes, and when the last segment of them reached this machine (nanoseconds since the Unix epoch,
    /// for [`StampClock::map`](super::stamp::StampClock::map)).
    ///
    /// # Errors
    /// Those of `recvmsg`; `WouldBlock` when there is nothing.
    pub fn receive(
        &self,
        stream: &impl AsFd,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<i128>)> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::AsRawFd;
        CONTROL.with_borrow_mut(|control| {
            let mut slices = [io::IoSliceMut::new(buffer)];
            let message = recvmsg::<()>(
                stream.as_fd().as_raw_fd(),
                &mut slices,
                self.stamped.then_some(control),
                MsgFlags::empty(),
            )?;
            let stamp = message.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(time) => {
                        Some(i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
                    }
                    _ => None,
                })
            });
            Ok((message.bytes, stamp))
        })
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Receiver;

#[cfg(not(target_os = "linux"))]
impl Receiver {
    fn new(_: &TcpStream) -> Receiver {
        Receiver
    }

    fn receive(
        &self,
        mut stream: &TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<i128>)> {
        use std::io::Read;
        stream.read(buffer).map(|bytes| (bytes, None))
    }
}
