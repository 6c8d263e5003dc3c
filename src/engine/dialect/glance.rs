//! A look at an event's bytes that builds nothing: one strict walk over its JSON, for the events that make up a stream.
//!
//! It answers for events of the common shape and leaves every other one to the full parse (usage with details, a finish, an
//! error, token ids, a string with an escape in a place that matters, anything it is not sure of). Whatever it says, the full
//! parse says too, which also means that it says nothing about bytes that are no JSON.

use std::ops::Range;

use super::event::{EventFacts, Usage};

/// Deeper than any engine nests; the full parse has its own limit.
const DEPTH: u32 = 24;

/// What the event says, if that can be told at a glance.
pub fn glance(data: &[u8]) -> Option<EventFacts<'static>> {
    glance_noting(data, &mut Places::default())
}

/// Where in an event the values lie that change from one event of a stream to the next.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In the order of the text. There are no more than a usage block and a piece of text have.
    pub(super) list: Vec<(Range<usize>, Value)>,
}

/// What such a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A piece of output that is not empty and has no escape.
    Text,
    /// Output that is empty, or has an escape.
    OddText,
    /// A count of the usage block.
    Input,
    Output,
    Reasoning,
    /// A number of the usage block that does not matter.
    Other,
}

/// The same, with the places of the values that change.
pub(super) fn glance_noting(data: &[u8], places: &mut Places) -> Option<EventFacts<'static>> {
    // The walk looks at ASCII alone; whether the rest is text is checked once for all.
    std::str::from_utf8(data).ok()?;
    let mut walk = Walk {
        data,
        at: 0,
        places,
    };
    let mut facts = EventFacts::default();
    walk.space();
    walk.object(|walk, key| match key {
        b"choices" => walk.list(|walk| choice(walk, &mut facts)),
        b"usage" => {
            if walk.null() {
                return Some(());
            }
            facts.usage = Some(usage(walk)?);
            Some(())
        }
        b"error" => walk.null().then_some(()),
        _ => walk.skip(DEPTH),
    })?;
    walk.space();
    (walk.at == data.len()).then_some(facts)
}

/// A choice and its `delta` or `message`: the same keys on both levels, as in the full parse.
fn choice(walk: &mut Walk<'_, '_>, facts: &mut EventFacts<'static>) -> Option<()> {
    if walk.null() {
        return Some(());
    }
    walk.object(|walk, key| match key {
        b"delta" | b"message" => {
            if walk.null() {
                return Some(());
            }
            walk.object(|walk, key| match key {
                // Deltas within deltas are nobody's shape.
                b"delta" | b"message" => None,
                key => part(walk, key, facts),
            })
        }
        key => part(walk, key, facts),
    })
}

fn part(walk: &mut Walk<'_, '_>, key: &[u8], facts: &mut EventFacts<'static>) -> Option<()> {
    match key {
        b"content" | b"text" => {
            if walk.null() {
                return Some(());
            }
            let empty = walk.output()?;
            facts.content |= !empty;
            facts.output |= !empty;
            facts.blank |= empty;
            Some(())
        }
        b"reasoning" | b"reasoning_content" | b"refusal" => {
            if walk.null() {
                return Some(());
            }
            facts.output |= !walk.output()?;
            Some(())
        }
        b"tool_calls" | b"function_call" | b"token_ids" | b"finish_reason" => {
            walk.null().then_some(())
        }
        _ => walk.skip(DEPTH),
    }
}

fn usage(walk: &mut Walk<'_, '_>) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut twice = 0;
    walk.object(|walk, key| {
        let slot = match key {
            b"prompt_tokens" => (&mut usage.input, 1, Value::Input),
            b"completion_tokens" => (&mut usage.output, 2, Value::Output),
            b"reasoning_tokens" => (&mut usage.reasoning, 4, Value::Reasoning),
            b"prompt_tokens_details" | b"completion_tokens_details" => {
                return walk.null().then_some(());
            }
            _ => {
                let start = walk.at;
                return match walk.count() {
                    Some(_) => {
                        walk.note(start, Value::Other);
                        Some(())
                    }
                    None => {
                        walk.at = start;
                        walk.skip(DEPTH)
                    }
                };
            }
        };
        // The full parse refuses a field that comes twice.
        if twice & slot.1 != 0 {
            return None;
        }
        twice |= slot.1;
        *slot.0 = if walk.null() {
            None
        } else {
            let start = walk.at;
            let count = walk.count()?;
            walk.note(start, slot.2);
            Some(count)
        };
        Some(())
    })?;
    Some(usage)
}

/// A place in a JSON text. Every step checks the grammar of RFC 8259 and gives up at the first doubt.
struct Walk<'a, 'p> {
    data: &'a [u8],
    at: usize,
    places: &'p mut Places,
}

/// Bytes that end the plain part of a string: the quote, the backslash and control characters.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        ends[byte] = true;
        byte += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// How many bytes of a string are plain, from its beginning.
pub(super) fn plain(data: &[u8]) -> usize {
    data.iter()
        .position(|&byte| ENDS[usize::from(byte)])
        .unwrap_or(data.len())
}

/// The whole number at the beginning of `data`, of at most nine digits and followed by no more of a number, with its length.
pub(super) fn count(data: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0;
    let mut digits = 0;
    while let Some(digit @ b'0'..=b'9') = data.get(digits) {
        if digits == 9 {
            return None;
        }
        value = value * 10 + u32::from(digit - b'0');
        digits += 1;
    }
    let whole = digits == 1 || (digits > 1 && data[0] != b'0');
    (whole && !matches!(data.get(digits), Some(b'.' | b'e' | b'E'))).then_some((value, digits))
}

impl<'a> Walk<'a, '_> {
    fn note(&mut self, start: usize, value: Value) {
        self.places.list.push((start..self.at, value));
    }

    /// A piece of output: whether it is empty.
    fn output(&mut self) -> Option<bool> {
        let text = self.string()?;
        let inside = self.at - 1 - text.len()..self.at - 1;
        let plain = !text.is_empty() && !text.contains(&b'\\');
        let value = if plain { Value::Text } else { Value::OddText };
        self.places.list.push((inside, value));
        Some(text.is_empty())
    }

    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.data[self.at..]
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    fn null(&mut self) -> bool {
        self.word(b"null").is_some()
    }

    /// The raw inside of a string that has no escape; one that has is left to the full parse, except where it is skipped.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            self.at += plain(&self.data[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.data[start..self.at - 1]);
                }
                // A simple escape makes the string not empty and cannot be wrong.
                b'\\' => match self.data.get(self.at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    /// A whole number of at most nine digits.
    fn count(&mut self) -> Option<u32> {
        let (value, digits) = count(&self.data[self.at..])?;
        self.at += digits;
        Some(value)
    }

    fn object(&mut self, mut field: impl FnMut(&mut Self, &[u8]) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        self.space();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.string()?;
            if key.contains(&b'\\') {
                return None;
            }
            self.space();
            self.take(b':')?;
            self.space();
            field(self, key)?;
            self.space();
            if self.take(b'}').is_some() {
                return Some(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        self.space();
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.take(b']').is_some() {
                return Some(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    /// Any value that does not matter.
    fn skip(&mut self, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.object(|walk, _| walk.skip(depth)),
            b'[' => self.list(|walk| walk.skip(depth)),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::event::read_in_full;
    use super::*;

    const CHUNKS: [&str; 6] = [
        r#"{"id":"c-1","object":"chat.completion.chunk","created":1795300845,"model":"m","choices":[{"index":0,"delta":{"content":" change"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
        r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"x","model":"tiny"}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":""}}],"usage":{"prompt_tokens":25,"total_tokens":26,"completion_tokens":1}}"#,
        r#"{"id":"c","choices":[{"index":0,"text":" a\nb","logprobs":null,"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning":"h\u00e9","content":null},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4}},"error":null}"#,
    ];

    fn agrees(data: &[u8]) -> bool {
        glance(data).is_none_or(|told| read_in_full(data).is_ok_and(|full| full == told))
    }

    #[test]
    fn the_events_of_a_stream_are_told_at_a_glance() {
        assert!(
            CHUNKS[..4]
                .iter()
                .all(|chunk| glance(chunk.as_bytes()).is_some())
        );
        assert!(
            CHUNKS[4..]
                .iter()
                .all(|chunk| glance(chunk.as_bytes()).is_none())
        );
        assert!(CHUNKS.iter().all(|chunk| agrees(chunk.as_bytes())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_it_says_the_full_parse_says(
            chunk in 0..CHUNKS.len(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"{}[]:,\\0159eE+-.ntfu \n\x01\xc3choicesdelta".to_vec()), 0..3u8), 1..6),
        ) {
            let mut data = CHUNKS[chunk].as_bytes().to_vec();
            for (place, byte, what) in edits {
                let at = place.index(data.len());
                match what {
                    0 => data[at] = byte,
                    1 => data.insert(at, byte),
                    _ => drop(data.remove(at)),
                }
                if data.is_empty() { break; }
            }
            prop_assert!(agrees(&data), "{}", String::from_utf8_lossy(&data));
        }

        #[test]
        fn keys_in_any_order_and_number_agree(parts in prop::collection::vec(prop::sample::select(vec![
            r#""choices":[{"delta":{"content":"a"}}]"#, r#""choices":[{"delta":{"content":""},"text":"b"}]"#, r#""choices":null"#, r#""choices":[null]"#,
            r#""usage":{"completion_tokens":3}"#, r#""usage":{"completion_tokens":3,"completion_tokens":4}"#, r#""usage":{}"#, r#""usage":{"completion_tokens":1.5}"#,
            r#""usage":null"#, r#""error":null"#, r#""error":{}"#, r#""x":[1,-0.5e3,{"y":[]}]"#, r#""choices":[{"delta":{"delta":{"content":"a"}}}]"#,
            r#""choices":[{"message":{"content":"a"},"content":"b"}]"#, r#""choices":[{"delta":{"tool_calls":[]}}]"#, r#""usage":{"prompt_tokens":01}"#,
        ]), 0..5)) {
            let data = format!("{{{}}}", parts.join(","));
            prop_assert!(agrees(data.as_bytes()), "{data}");
        }
    }
}
