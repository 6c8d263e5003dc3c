//! A non-blocking TCP socket whose reads carry the kernel's receive time.
//!
//! One `recvmsg` per readiness: a read that did not fill the buffer has drained the socket, so readiness is cleared without a
//! second call that would only say so.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stamp::{StampClock, Stamps};

/// A connected socket with stamps.
#[derive(Debug)]
pub struct StampedSocket {
    descriptor: AsyncFd<std::net::TcpStream>,
    clock: Rc<StampClock>,
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
        clock: Rc<StampClock>,
        stamps: Rc<Stamps>,
    ) -> io::Result<StampedSocket> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let receiver = Receiver::new(&stream);
        #[expect(
            unsafe_code,
            reason = "tokio registers a foreign descriptor only on this promise"
        )]
        // SAFETY: the stream owns its descriptor, is moved into the `AsyncFd`, and is neither replaced nor closed before it.
        let descriptor = unsafe { AsyncFd::register(stream) }?;
        Ok(StampedSocket {
            descriptor,
            clock,
            stamps,
            receiver,
        })
    }

    /// Reads once into `buffer` when the socket is readable.
    pub(super) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.descriptor.poll_read_ready(context))?;
            match self.receiver.receive(guard.get_inner(), buffer) {
                Ok((bytes, kernel)) => {
                    // The end of the stream stays readable; anything shorter than the buffer has emptied the socket.
                    let drained = bytes < buffer.len();
                    if drained && bytes > 0 {
                        guard.clear_ready();
                    }
                    self.stamps.note_read(&self.clock, kernel, bytes, drained);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stamps.note_empty(&self.clock);
                    guard.clear_ready();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        mut send: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.descriptor.poll_write_ready(context))?;
            match send(guard.get_inner()) {
                Ok(bytes) => {
                    self.stamps.note_write(&self.clock);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for StampedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(
            self.get_mut()
                .poll_receive(context, buffer.initialize_unfilled())
        )?;
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StampedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |mut stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.descriptor
                .get_ref()
                .shutdown(std::net::Shutdown::Write),
        )
    }
}

/// Reads with the kernel's receive stamp (`SO_TIMESTAMPNS`), where there is one.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Receiver {
    control: Vec<u8>,
}

#[cfg(target_os = "linux")]
impl Receiver {
    fn new(stream: &std::net::TcpStream) -> Receiver {
        use nix::sys::socket::{setsockopt, sockopt};
        // Without the option reads carry no stamp, and the instant of the read is told instead.
        let stamped = setsockopt(stream, sockopt::ReceiveTimestampns, &true).is_ok();
        Receiver {
            control: if stamped {
                nix::cmsg_space!(nix::sys::time::TimeSpec)
            } else {
                Vec::new()
            },
        }
    }

    fn receive(
        &mut self,
        stream: &std::net::TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<i128>)> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::AsRawFd;
        let mut slices = [io::IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
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
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Receiver;

#[cfg(not(target_os = "linux"))]
impl Receiver {
    fn new(_: &std::net::TcpStream) -> Receiver {
        Receiver
    }

    fn receive(
        &mut self,
        stream: &std::net::TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<i128>)> {
        use std::io::Read;
        let mut stream = stream;
        stream.read(buffer).map(|bytes| (bytes, None))
    }
}
