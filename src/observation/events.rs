//! The output events of one request, delta-encoded: about five bytes an event.

use crate::units::Moment;

/// One output event: when it arrived and how many tokens it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputEvent {
    /// When it arrived.
    pub at: Moment,
    /// Tokens in it; 1 when the engine does not tell.
    pub tokens: u32,
    /// Whether it came in the same read as the output event before it, so the gap between them was not seen.
    pub shared: bool,
}

/// The output events of one request in order, as a compact byte string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    bytes: Box<[u8]>,
    count: u32,
    tokens: u32,
    first: Moment,
}

/// Collects the events of the request in flight; reused from request to request.
#[derive(Debug, Default)]
pub struct EventRecorder {
    bytes: Vec<u8>,
    count: u32,
    tokens: u32,
    first: Moment,
    last: Moment,
}

impl EventRecorder {
    /// Adds an event; one that seems earlier than the last is put at the last.
    #[inline]
    pub fn push(&mut self, at: Moment, tokens: u32, shared: bool) {
        if self.count == 0 {
            (self.first, self.last) = (at, at);
        }
        let at = at.max(self.last);
        put_varint(&mut self.bytes, at.ns() - self.last.ns());
        put_varint(&mut self.bytes, u64::from(tokens) << 1 | u64::from(shared));
        self.last = at;
        self.count += 1;
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// How many events were added.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether no event was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The collected events; the recorder is empty again and keeps its buffer.
    pub fn take(&mut self) -> EventLog {
        let log = EventLog {
            bytes: self.bytes.as_slice().into(),
            count: self.count,
            tokens: self.tokens,
            first: self.first,
        };
        self.bytes.clear();
        (self.count, self.tokens) = (0, 0);
        log
    }
}

impl EventLog {
    /// A log of these events, for tests and imports.
    pub fn of(events: &[OutputEvent]) -> EventLog {
        let mut recorder = EventRecorder::default();
        events
            .iter()
            .for_each(|event| recorder.push(event.at, event.tokens, event.shared));
        recorder.take()
    }

    /// Only their number is known.
    pub fn counted(count: u32) -> EventLog {
        EventLog {
            count,
            ..EventLog::default()
        }
    }

    /// The instant of the first event, and all of them as bytes, to be kept.
    pub fn encoded(&self) -> (Moment, &[u8]) {
        (self.first, &self.bytes)
    }

    /// What [`encoded`](Self::encoded) gave; of bytes that end in the middle of an event that one is left out.
    pub fn decoded(first: Moment, bytes: Vec<u8>) -> EventLog {
        let ends = bytes.iter().filter(|byte| **byte < 0x80).count();
        let mut log = EventLog {
            bytes: bytes.into_boxed_slice(),
            count: (ends / 2) as u32,
            tokens: 0,
            first,
        };
        log.tokens = log.iter().map(|event| event.tokens).sum();
        log
    }

    /// How many output events there were.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// The tokens of all events together.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether there was no output event.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The events in order; none when only their count was kept.
    pub fn iter(&self) -> impl Iterator<Item = OutputEvent> + '_ {
        let (mut rest, mut at) = (&self.bytes[..], self.first.ns());
        let kept = if rest.is_empty() { 0 } else { self.count };
        (0..kept).map(move |_| {
            at += take_varint(&mut rest);
            let packed = take_varint(&mut rest);
            OutputEvent {
                at: Moment::from_ns(at),
                tokens: (packed >> 1) as u32,
                shared: packed & 1 == 1,
            }
        })
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads eight bytes at a time where there are as many: a report walks over every event of a run several times.
#[inline]
fn take_varint(bytes: &mut &[u8]) -> u64 {
    const ENDS: u64 = 0x8080_8080_8080_8080;
    let Some(word) = bytes.first_chunk().map(|word| u64::from_le_bytes(*word)) else {
        return take_varint_bytewise(bytes);
    };
    let ends = !word & ENDS;
    if ends == 0 {
        return take_varint_bytewise(bytes);
    }
    let bits = ends.trailing_zeros() + 1;
    *bytes = &bytes[bits as usize / 8..];
    // Eight groups of seven bits are brought together in pairs: 7 → 14 → 28 → 56.
    let word = word & (u64::MAX >> (64 - bits)) & !ENDS;
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4
}

fn take_varint_bytewise(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_as_they_went_in() {
        let events = [
            (120, 5, false),
            (200, 4, false),
            (240, 1, true),
            (240, 300, false),
        ]
        .map(|(ms, tokens, shared)| OutputEvent {
            at: Moment::from_ms(ms),
            tokens,
            shared,
        });
        let log = EventLog::of(&events);
        assert_eq!(log.iter().collect::<Vec<_>>(), events);
        assert_eq!((log.len(), log.tokens()), (4, 310));
        let (first, bytes) = log.encoded();
        assert_eq!(EventLog::decoded(first, bytes.to_vec()), log);
        assert_eq!(EventLog::decoded(first, bytes[..3].to_vec()).len(), 1);
        assert!(EventLog::default().is_empty());
    }

    #[test]
    fn numbers_of_every_length_come_back_wherever_they_stand() {
        let numbers: Vec<u64> = (0..64)
            .flat_map(|bit| [(1 << bit) - 1, 1 << bit, u64::MAX >> bit])
            .collect();
        let mut bytes = Vec::new();
        numbers.iter().for_each(|&n| put_varint(&mut bytes, n));
        let mut rest = &bytes[..];
        let read: Vec<u64> = numbers.iter().map(|_| take_varint(&mut rest)).collect();
        assert_eq!((read, rest), (numbers, &[][..]));
    }
}
