//! What the events of one stream have in common: every byte but a piece of text and a few counts.
//!
//! An event whose other bytes are those of one that has been read says what that one said, with another text and other counts: a
//! comparison instead of a walk. It holds because the text is not empty, has nothing in it that ends or escapes a string, and is
//! valid UTF-8, and the counts are whole numbers: the JSON around them is the same. Whatever differs elsewhere is read anew.

use super::event::{EventFacts, Usage, read_in_full};
use super::glance::{Places, Value, count, glance_noting, plain};

/// The shape of a stream's last event that had one.
#[derive(Debug, Default)]
pub struct Shape {
    /// The bytes between the places that change, one after another.
    fixed: Vec<u8>,
    /// Where in `fixed` each place lies, and what is in it.
    holes: Vec<(usize, Value)>,
    /// What the event said.
    facts: EventFacts<'static>,
    /// Kept for its memory.
    places: Places,
}

impl Shape {
    /// Reads the data of one event: by comparison where it has the shape of an earlier one, else at a glance, else in full.
    ///
    /// # Errors
    /// It is not a JSON object.
    pub fn read<'a>(&mut self, data: &'a [u8]) -> Result<EventFacts<'a>, serde_json::Error> {
        if let Some(facts) = self.compare(data) {
            return Ok(facts);
        }
        self.places.list.clear();
        match glance_noting(data, &mut self.places) {
            Some(facts) => {
                self.learn(data, &facts);
                Ok(facts)
            }
            None => read_in_full(data),
        }
    }

    /// Forgets the shape, keeping the memory: the next stream has another.
    pub fn reset(&mut self) {
        self.holes.clear();
    }

    fn learn(&mut self, data: &[u8], facts: &EventFacts<'static>) {
        self.holes.clear();
        self.fixed.clear();
        let texts = self.places.list.iter();
        let mut texts = texts.filter(|(_, value)| matches!(value, Value::Text | Value::OddText));
        // With one plain text, it alone decides whether there is output; of two, either may.
        if !matches!((texts.next(), texts.next()), (Some((_, Value::Text)), None)) {
            return;
        }
        let mut from = 0;
        for (place, value) in &self.places.list {
            self.fixed.extend_from_slice(&data[from..place.start]);
            self.holes.push((self.fixed.len(), *value));
            from = place.end;
        }
        self.fixed.extend_from_slice(&data[from..]);
        self.facts = facts.clone();
    }

    fn compare(&self, data: &[u8]) -> Option<EventFacts<'static>> {
        if self.holes.is_empty() {
            return None;
        }
        let mut usage = self.facts.usage;
        let (mut rest, mut from) = (data, 0);
        for &(hole, value) in &self.holes {
            rest = rest.strip_prefix(&self.fixed[from..hole])?;
            from = hole;
            let length = match value {
                Value::Text => text(rest)?,
                value => {
                    let (count, digits) = count(rest)?;
                    note(usage.as_mut()?, value, count);
                    digits
                }
            };
            rest = &rest[length..];
        }
        (rest == &self.fixed[from..]).then(|| EventFacts {
            usage,
            ..self.facts.clone()
        })
    }
}

/// The length of the text at the beginning of `rest`, up to its quote.
fn text(rest: &[u8]) -> Option<usize> {
    let length = plain(rest);
    let text = &rest[..length];
    (length > 0 && (text.is_ascii() || std::str::from_utf8(text).is_ok())).then_some(length)
}

fn note(usage: &mut Usage, value: Value, count: u32) {
    match value {
        Value::Input => usage.input = Some(count),
        Value::Output => usage.output = Some(count),
        Value::Reasoning => usage.reasoning = Some(count),
        Value::Other | Value::Text | Value::OddText => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNKS: [&str; 5] = [
        r#"{"id":"c-1","choices":[{"index":0,"delta":{"content":" a"},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"id":"c-1","choices":[{"index":0,"delta":{"content":" a"}}],"usage":{"prompt_tokens":25,"total_tokens":26,"completion_tokens":1}}"#,
        r#"{"choices":[{"index":0,"text":" a","logprobs":null}],"usage":null}"#,
        r#"{"choices":[{"delta":{"reasoning":"a","content":""}}]}"#,
        r#"{"usage":{"completion_tokens":3,"x":7},"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
    ];

    fn told(shape: &mut Shape, chunk: &str) -> EventFacts<'static> {
        let told = shape.read(chunk.as_bytes()).unwrap();
        assert_eq!(
            Ok(told.clone()),
            read_in_full(chunk.as_bytes()).map_err(drop),
            "{chunk}"
        );
        EventFacts {
            finish_reason: None,
            ..told.clone()
        }
    }

    #[test]
    fn the_second_event_of_a_stream_is_only_compared() {
        for chunk in [CHUNKS[0], CHUNKS[1], CHUNKS[2], CHUNKS[4]] {
            let mut shape = Shape::default();
            told(&mut shape, chunk);
            let other = chunk
                .replace(" a", " b and ü")
                .replace("hm", "oh")
                .replace("26", "117")
                .replace("s\":1", "s\":92");
            assert!(shape.compare(other.as_bytes()).is_some(), "{other}");
            told(&mut shape, &other);
        }
        let mut shape = Shape::default();
        let usage = |shape: &mut Shape, chunk| told(shape, chunk).usage.unwrap().output;
        assert_eq!(usage(&mut shape, CHUNKS[1]), Some(1));
        assert_eq!(
            usage(&mut shape, &CHUNKS[1].replace("s\":1", "s\":92")),
            Some(92)
        );
    }

    #[test]
    fn what_only_looks_alike_is_read_anew() {
        let mut shape = Shape::default();
        told(&mut shape, CHUNKS[1]);
        for (from, to) in [
            (" a", ""),
            (" a", "\\n"),
            (" a", "a\"},\"x\":{\"y\":\"b"),
            ("26", "2.6"),
            ("26", "026"),
            ("s\":1", "s\":null"),
            ("\"usage\"", "\"usagE\""),
            ("\"total_tokens\":26", "\"total_tokens\":[1]"),
        ] {
            let odd = CHUNKS[1].replace(from, to);
            assert!(shape.compare(odd.as_bytes()).is_none(), "{odd}");
        }
        assert!(shape.compare(b"").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Whatever came before, an event says what the full parse says of it.
        #[test]
        fn what_it_says_the_full_parse_says(
            first in 0..CHUNKS.len(),
            second in 0..CHUNKS.len(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"{}[]:,\\0159eE+-.ntfu \n\x01\xc3\xa9choicesdelta".to_vec()), 0..3u8), 0..4),
        ) {
            let mut shape = Shape::default();
            told(&mut shape, CHUNKS[first]);
            let mut data = CHUNKS[second].as_bytes().to_vec();
            for (place, byte, what) in edits {
                let at = place.index(data.len());
                match what {
                    0 => data[at] = byte,
                    1 => data.insert(at, byte),
                    _ => drop(data.remove(at)),
                }
                if data.is_empty() { break; }
            }
            match (shape.read(&data), read_in_full(&data)) {
                (Ok(told), Ok(full)) => prop_assert_eq!(told, full),
                (told, full) => prop_assert_eq!(told.is_err(), full.is_err(), "{}", String::from_utf8_lossy(&data)),
            }
        }
    }
}
