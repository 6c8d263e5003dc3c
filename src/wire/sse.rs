//! Server-sent events, split on bytes as they come.
//!
//! By the standard (WHATWG HTML, "9.2.6 Interpreting an event stream"): lines end in LF, CR or CRLF; a line that begins with
//! a colon is a comment; the data of several `data` lines is joined by LF; an empty line ends the event; an event without
//! data is none. Any re-chunking of the bytes gives the same events. An event that lies whole in one piece is not copied.

use memchr::memchr2;

/// The most bytes that one event may have.
const LIMIT: usize = 16 << 20;

/// The stream broke a rule that cannot be read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {} MiB", LIMIT >> 20)]
pub struct TooLarge;

/// Splits a byte stream into the data of its events.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The data of earlier lines of this event, each followed by LF.
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a CR that ended a line: an LF now belongs to it.
    after_cr: bool,
    /// Anything has been seen, so a byte-order mark can no longer come.
    begun: bool,
    /// Each line that is not empty is an event.
    lines: bool,
}

impl SseParser {
    /// A parser of lines: each that is not empty is an event (JSON lines).
    pub fn of_lines() -> SseParser {
        SseParser {
            lines: true,
            ..SseParser::default()
        }
    }

    /// Takes the next bytes and calls `event` with the data of each event that they complete.
    ///
    /// # Errors
    /// An event is larger than the limit.
    pub fn feed(&mut self, mut bytes: &[u8], mut event: impl FnMut(&[u8])) -> Result<(), TooLarge> {
        if !self.begun && !bytes.is_empty() {
            bytes = self.skip_mark(bytes);
        }
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.after_cr = bytes[end] == b'\r';
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.line.is_empty() {
                if !self.has_data
                    && !self.lines
                    && let Some(value) = data_of(line)
                    && let Some(after) = skip_empty_line(rest, self.after_cr)
                {
                    // The whole event lies in this piece.
                    event(value);
                    self.after_cr = false;
                    bytes = after;
                    continue;
                }
                self.line_ended(line, &mut event);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.line_ended(&whole, &mut event);
                whole.clear();
                self.line = whole;
            }
        }
        if self.line.len() + self.data.len() > LIMIT {
            Err(TooLarge)
        } else {
            Ok(())
        }
    }

    /// Whether bytes were taken that belong to an event that has not ended.
    pub fn is_amid(&self) -> bool {
        self.has_data || !self.line.is_empty()
    }

    /// Forgets everything, keeping the buffers.
    pub fn reset(&mut self) {
        self.line.clear();
        self.data.clear();
        (self.has_data, self.after_cr, self.begun) = (false, false, false);
    }

    fn line_ended(&mut self, line: &[u8], event: &mut impl FnMut(&[u8])) {
        if self.lines {
            if !line.is_empty() {
                event(line);
            }
        } else if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                self.data.pop();
                event(&self.data);
                self.data.clear();
            }
        } else if let Some(value) = data_of(line) {
            self.data.extend_from_slice(value);
            self.data.push(b'\n');
            self.has_data = true;
        }
    }

    /// Leaves out a byte-order mark at the very beginning; one that is split over pieces is kept as part of the first line,
    /// where [`data_of`] leaves it out.
    fn skip_mark<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.begun = true;
        bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let rest = line.strip_prefix(b"data")?;
    match rest.first() {
        None => Some(rest),
        Some(b':') => Some(rest[1..].strip_prefix(b" ").unwrap_or(&rest[1..])),
        Some(_) => None,
    }
}

/// What follows an empty line at the start of `rest`, if there is one whole; `after_cr`: the line before ended in CR.
fn skip_empty_line(rest: &[u8], after_cr: bool) -> Option<&[u8]> {
    let rest = match (after_cr, rest.first()) {
        (true, Some(b'\n')) => &rest[1..],
        _ => rest,
    };
    match rest {
        [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] => Some(after),
        // A lone CR may be half a CRLF: leave it to the slow path, which remembers it.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        events_of(SseParser::default(), pieces)
    }

    #[test]
    fn in_a_stream_of_lines_each_line_is_an_event() {
        let pieces: [&[u8]; 3] = [b"{\"a\":1}\n{\"b\"", b":2}\r", b"\n\n{\"c\":3}\n"];
        let found = events_of(SseParser::of_lines(), &pieces);
        assert_eq!(found, [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#]);
    }

    fn events_of(mut parser: SseParser, pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        for piece in pieces {
            parser
                .feed(piece, |data| {
                    found.push(String::from_utf8_lossy(data).into_owned())
                })
                .unwrap();
        }
        found
    }

    #[test]
    fn line_ends_comments_and_many_data_lines_follow_the_standard() {
        assert_eq!(events(&[b"data: a\n\ndata:b\n\n"]), ["a", "b"]);
        assert_eq!(
            events(&[b"data: a\r\n\r\ndata: b\r\rdata: c\n\n"]),
            ["a", "b", "c"]
        );
        assert_eq!(
            events(&[b": ping\n\nevent: x\nid: 1\ndata: one\ndata: two\n\n"]),
            ["one\ntwo"]
        );
        assert_eq!(events(&[b"\xef\xbb\xbfdata: marked\n\n"]), ["marked"]);
        assert_eq!(events(&[b"data\n\ndatum: no\n\n"]), [""]);
        assert_eq!(events(&[b"data: unfinished\n"]), [""; 0]);
    }

    #[test]
    fn an_event_may_be_split_anywhere() {
        assert_eq!(
            events(&[
                b"da",
                b"ta: h\xc3",
                b"\xa9",
                b"\r",
                b"\n\r",
                b"\ndata: x\n",
                b"\n"
            ]),
            ["hé", "x"]
        );
    }

    proptest! {
        #[test]
        fn any_rechunking_gives_the_same_events(
            lines in prop::collection::vec(("(data: ?|:|event: |data|)[a-zé{}\"]{0,12}", prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..30),
            cuts in prop::collection::vec(0usize..400, 0..40),
        ) {
            let text: Vec<u8> = lines.iter().flat_map(|(line, end)| [line.as_bytes(), end.as_bytes()].concat()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces), reference(&text));
        }
    }

    /// The standard, read slowly.
    fn reference(text: &[u8]) -> Vec<String> {
        let text = String::from_utf8(text.to_vec())
            .unwrap()
            .replace("\r\n", "\n")
            .replace('\r', "\n");
        let (mut found, mut data) = (Vec::new(), Vec::new());
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();
        for line in lines {
            let (field, value) = line
                .split_once(':')
                .map_or((line, ""), |(f, v)| (f, v.strip_prefix(' ').unwrap_or(v)));
            match field {
                "" if line.is_empty() && !data.is_empty() => {
                    found.push(data.join("\n"));
                    data.clear();
                }
                "data" => data.push(value),
                _ => {}
            }
        }
        found
    }
}
