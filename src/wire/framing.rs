//! HTTP/1.1 on the receiving side: heads by httparse, bodies by their framing (RFC 9112, "6. Message Body" and "7.1 Chunked
//! Transfer Coding"). Pure: bytes in, pieces out; any re-chunking of the bytes gives the same body.

/// Headers that a head may have.
const HEADERS: usize = 100;
/// The most hexadecimal digits of a chunk's size.
const DIGITS: u8 = 15;
/// The most bytes that the lines after the last chunk may have.
const TRAILER: usize = 16 << 10;

/// Not HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

fn malformed(text: &str) -> Malformed {
    Malformed(text.to_owned())
}

/// The head of a response, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// `content-type`, in lower case.
    pub content_type: Option<String>,
    /// `retry-after`.
    pub retry_after: Option<String>,
    /// How the body is told from what follows.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub keeps_alive: bool,
}

/// Reads a response head; `None` when more bytes are needed. Gives its size, too. An interim response (1xx) is a head of its own.
///
/// # Errors
/// The bytes are no head.
pub fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let size = match response.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Malformed(error.to_string())),
    };
    let status = response.code.unwrap_or(0);
    let mut head = Head {
        status,
        content_type: None,
        retry_after: None,
        framing: Framing::UntilClose,
        keeps_alive: response.version == Some(1),
    };
    let (mut chunked, mut length) = (false, None);
    for header in response.headers.iter() {
        let text = || String::from_utf8_lossy(header.value).trim().to_owned();
        match header.name {
            name if name.eq_ignore_ascii_case("content-type") => {
                head.content_type = Some(text().to_ascii_lowercase());
            }
            name if name.eq_ignore_ascii_case("retry-after") => head.retry_after = Some(text()),
            name if name.eq_ignore_ascii_case("connection") => {
                let words = text().to_ascii_lowercase();
                let mut words = words.split(',').map(str::trim);
                if words.clone().any(|word| word == "close") {
                    head.keeps_alive = false;
                } else if words.any(|word| word == "keep-alive") {
                    head.keeps_alive = true;
                }
            }
            name if name.eq_ignore_ascii_case("transfer-encoding") => {
                chunked = text().to_ascii_lowercase().ends_with("chunked");
                if !chunked {
                    return Err(malformed("a transfer coding that was not asked for"));
                }
            }
            name if name.eq_ignore_ascii_case("content-length") => {
                let told = text().parse::<u64>().ok();
                if told.is_none() || length.is_some_and(|length| Some(length) != told) {
                    return Err(malformed("invalid content-length"));
                }
                length = told;
            }
            _ => {}
        }
    }
    head.framing = match (status, chunked, length) {
        (100..200 | 204 | 304, _, _) => Framing::Length(0),
        (_, true, _) => Framing::Chunked(Chunks::default()),
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::UntilClose,
    };
    head.keeps_alive &= head.framing != Framing::UntilClose;
    Ok(Some((head, size)))
}

/// How a body is told from what follows it, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks with their sizes.
    Chunked(Chunks),
    /// It ends with the connection.
    UntilClose,
}

/// Where in a chunked body the next byte lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    place: Place,
    /// The size of the chunk, as far as it is known; then what is left of its data.
    size: u64,
    /// Digits of the size so far; bytes of the trailer so far.
    seen: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEnded,
    /// At the beginning of a line after the last chunk.
    Trailer,
    TrailerLine,
    TrailerEnd,
    End,
}

impl Framing {
    /// Whether the body is complete.
    pub fn is_complete(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.place == Place::End,
            Framing::UntilClose => false,
        }
    }

    /// Hands the body's pieces in `bytes` to `piece`; gives how many bytes belong to it, fewer than all only when it is complete.
    ///
    /// # Errors
    /// The bytes break the framing.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut piece: impl FnMut(&[u8]),
    ) -> Result<usize, Malformed> {
        match self {
            Framing::UntilClose => {
                piece(bytes);
                Ok(bytes.len())
            }
            Framing::Length(left) => {
                let taken = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                piece(&bytes[..taken]);
                Ok(taken)
            }
            Framing::Chunked(chunks) => chunks.decode(bytes, piece),
        }
    }
}

impl Chunks {
    fn decode(&mut self, bytes: &[u8], mut piece: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::End {
            if self.place == Place::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let taken = left.min(bytes.len() - at);
                piece(&bytes[at..at + taken]);
                at += taken;
                self.size -= taken as u64;
                if self.size == 0 {
                    self.place = Place::DataEnd;
                }
                continue;
            }
            if self.place == Place::Size
                && self.seen == 0
                && let Some((data, next)) = whole_chunk(&bytes[at..])
            {
                piece(data);
                at += next;
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Takes a byte that is no data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.place = match (self.place, byte) {
            (Place::Size, _) => return self.size_byte(byte),
            (Place::Extension, b'\r') => Place::SizeEnd,
            (Place::Extension, b'\n') => return Err(malformed("a line end within a chunk's size")),
            (Place::Extension, _) => Place::Extension,
            (Place::SizeEnd, b'\n') => {
                self.seen = 0;
                if self.size == 0 {
                    Place::Trailer
                } else {
                    Place::Data
                }
            }
            (Place::DataEnd, b'\r') => Place::DataEnded,
            (Place::DataEnded, b'\n') => Place::Size,
            (Place::Trailer, b'\r') => Place::TrailerEnd,
            (Place::Trailer, _) => Place::TrailerLine,
            (Place::TrailerLine, b'\n') => Place::Trailer,
            (Place::TrailerLine, _) => {
                self.seen += 1;
                if self.seen > TRAILER {
                    return Err(malformed("a trailer without an end"));
                }
                Place::TrailerLine
            }
            (Place::TrailerEnd, b'\n') => Place::End,
            (Place::SizeEnd | Place::DataEnd | Place::DataEnded | Place::TrailerEnd, _) => {
                return Err(malformed("a chunk that does not end where its size says"));
            }
            (Place::Data | Place::End, _) => self.place,
        };
        Ok(())
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), Malformed> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if self.seen >= usize::from(DIGITS) {
                return Err(malformed("a chunk of absurd size"));
            }
            self.size = self.size * 16 + u64::from(digit);
            self.seen += 1;
            return Ok(());
        }
        self.place = match byte {
            _ if self.seen == 0 => return Err(malformed("a chunk without a size")),
            b'\r' => Place::SizeEnd,
            b';' | b' ' | b'\t' => Place::Extension,
            _ => return Err(malformed("a chunk's size that is no number")),
        };
        Ok(())
    }
}

/// The data of a chunk of usual size that lies whole at the beginning of `bytes`, and how many bytes it takes.
fn whole_chunk(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut size = 0;
    for at in 0..4 {
        let byte = *bytes.get(at)?;
        match (byte as char).to_digit(16) {
            Some(digit) => size = size * 16 + digit as usize,
            None if byte != b'\r' || size == 0 => return None,
            None => {
                let (begin, end) = (at + 2, at + 2 + size);
                let whole = bytes.get(end..end + 2)? == b"\r\n" && bytes[at + 1] == b'\n';
                return whole.then(|| (&bytes[begin..end], end + 2));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(pieces: &[&[u8]]) -> Result<(String, bool), Malformed> {
        let mut framing = Framing::Chunked(Chunks::default());
        let mut body = Vec::new();
        for bytes in pieces {
            framing.decode(bytes, |piece| body.extend_from_slice(piece))?;
        }
        Ok((
            String::from_utf8_lossy(&body).into_owned(),
            framing.is_complete(),
        ))
    }

    #[test]
    fn a_chunked_body_ends_after_its_last_chunk_and_its_trailer() {
        let whole = b"3\r\nabc\r\n0a;name=value\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        assert_eq!(body(&[whole]), Ok(("abc0123456789".to_owned(), true)));
        assert_eq!(body(&[&whole[..9]]), Ok(("abc".to_owned(), false)));
        let mut framing = Framing::Chunked(Chunks::default());
        assert_eq!(framing.decode(b"0\r\n\r\nHTTP/1.1", |_| ()), Ok(5));
    }

    #[test]
    fn what_breaks_the_framing_is_said() {
        for (bytes, said) in [
            (&b"\r\nabc"[..], "without a size"),
            (b"x", "without a size"),
            (b"3x", "no number"),
            (b"3\r\nabcd", "where its size says"),
            (b"1000000000000000\r\n", "absurd size"),
        ] {
            let Malformed(text) = body(&[bytes]).unwrap_err();
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn heads_tell_how_their_bodies_end() {
        let read = |text: &str| read_head(text.as_bytes());
        let (head, size) = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: Text/Event-Stream\r\n\r\n3")
            .unwrap()
            .unwrap();
        assert_eq!((head.status, size, head.keeps_alive), (200, 80, true));
        assert_eq!(head.content_type.as_deref(), Some("text/event-stream"));
        assert!(matches!(head.framing, Framing::Chunked(_)));
        let (head, _) = read(
            "HTTP/1.1 429 \r\ncontent-length: 2\r\nRetry-After: 7\r\nConnection: close\r\n\r\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!(head.framing, Framing::Length(2));
        assert_eq!(
            (head.retry_after.as_deref(), head.keeps_alive),
            (Some("7"), false)
        );
        let (head, _) = read("HTTP/1.0 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!(
            (head.framing, head.keeps_alive),
            (Framing::UntilClose, false)
        );
        assert_eq!(read("HTTP/1.1 200 OK\r\nconte"), Ok(None));
        assert!(read("SSH-2.0-OpenSSH_9.2\r\n").is_err());
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn any_rechunking_gives_the_same_body(
            chunks in prop::collection::vec("[a-z\r\n]{1,20}", 0..12),
            cuts in prop::collection::vec(0usize..300, 0..30),
        ) {
            let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()).into_bytes()).collect();
            bytes.extend(b"0\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(body(&pieces), Ok((chunks.concat(), true)));
        }
    }
}
