//! A TCP connection under hyper that can also end badly on purpose.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// How a connection shall end, set by the answer that it carries.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// With a reset instead of a proper end.
    pub(super) reset: Cell<bool>,
    /// After the answer, though keep-alive was agreed on.
    pub(super) close: Notify,
}

/// The socket as hyper wants it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    ending: Rc<Ending>,
    scratch: Box<[u8]>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, ending: Rc<Ending>) -> Socket {
        Socket {
            stream,
            ending,
            scratch: vec![0; 8 * 1024].into_boxed_slice(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.ending.reset.get() {
            // Without lingering, closing sends a reset at once. There is nobody to tell if it fails.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = cursor.remaining().min(this.scratch.len());
        let mut buffer = ReadBuf::new(&mut this.scratch[..room]);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.reset.get() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
