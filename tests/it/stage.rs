//! A server that plays a script over a real socket, in step with its reader.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use scenario::units::Moment;

/// What the server does next on its one connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Write these bytes; the reader stamps the read that takes them with this instant.
    Write(Moment, Vec<u8>),
    /// Close the connection.
    Close,
    /// Close it with a reset.
    Reset,
    /// Say nothing more, and hold the connection until the reader goes away.
    Hold,
}

/// A server that answers one request by a script. A piece is written only when the one before has been read, so that each
/// read takes one piece.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    progress: Sender<usize>,
    script: Vec<(Moment, usize)>,
}

impl Stage {
    pub(crate) fn play(acts: Vec<Act>) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (progress, read) = channel();
        let script = acts
            .iter()
            .filter_map(|act| match act {
                Act::Write(at, bytes) => Some((*at, bytes.len())),
                Act::Close | Act::Reset | Act::Hold => None,
            })
            .collect();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            perform(stream, acts, &read);
        });
        Stage {
            address,
            progress,
            script,
        }
    }

    /// The stamps of the script: the instant of the piece that each read takes.
    pub(crate) fn stamps(&self) -> impl FnMut(usize) -> Moment + 'static {
        let (script, progress) = (self.script.clone(), self.progress.clone());
        let (mut piece, mut taken) = (0, 0);
        move |bytes| {
            let at = script
                .get(piece)
                .or(script.last())
                .map_or(Moment::ZERO, |(at, _)| *at);
            taken += bytes;
            while piece < script.len() && taken >= script[piece].1 {
                taken -= script[piece].1;
                piece += 1;
                // The server may have ended already; then nobody waits for it.
                let _ = progress.send(piece);
            }
            at
        }
    }
}

fn perform(mut stream: TcpStream, acts: Vec<Act>, read: &Receiver<usize>) {
    let mut written = 0;
    for act in acts {
        match act {
            Act::Write(_, bytes) => {
                if written > 0 && read.iter().all(|pieces| pieces < written) {
                    return;
                }
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                written += 1;
            }
            Act::Close => return,
            Act::Reset => {
                // Unread bytes at a close turn it into a reset; SO_LINGER is not in the standard library.
                if written > 0 && read.iter().all(|pieces| pieces < written) {
                    return;
                }
                reset(&stream);
                return;
            }
            Act::Hold => {
                let _ = stream.read(&mut [0]);
                return;
            }
        }
    }
    let _ = stream.read(&mut [0]);
}

fn reset(stream: &TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
}

/// Reads a request with its body.
fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |n| n.trim().parse().unwrap());
            if request.len() >= head + 4 + length {
                return request;
            }
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return request,
            bytes => request.extend_from_slice(&buffer[..bytes]),
        }
    }
}
