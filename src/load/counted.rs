//! Tokens of each event where the engine tells none: the model's tokenizer counts them, when the load is over.

use std::sync::Arc;

use crate::observation::{EventLog, OutputEvent, RequestRecord, TokenSource};
use crate::workload::Tokenizer;

/// Texts that wait beyond so many bytes are counted at once, in the middle of the load.
const WAITING: usize = 32 << 20;

/// What an answer says, and where in it each output event ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) ends: Vec<u32>,
}

/// The answers of a load thread that are still to be counted.
#[derive(Debug)]
pub(super) struct Counting {
    tokenizer: Arc<Tokenizer>,
    /// Each with the number of its record.
    waiting: Vec<(usize, Said)>,
    bytes: usize,
}

impl Counting {
    pub(super) fn by(tokenizer: Arc<Tokenizer>) -> Counting {
        Counting {
            tokenizer,
            waiting: Vec::new(),
            bytes: 0,
        }
    }

    /// The last one of these records said this.
    pub(super) fn add(&mut self, said: Said, records: &mut [RequestRecord]) {
        let Some(last) = records.len().checked_sub(1) else {
            return;
        };
        self.bytes += said.text.len();
        self.waiting.push((last, said));
        if self.bytes > WAITING {
            self.settle(records);
        }
    }

    /// Counts all that waits.
    pub(super) fn settle(&mut self, records: &mut [RequestRecord]) {
        self.bytes = 0;
        for (number, said) in self.waiting.drain(..) {
            let counts = self.tokenizer.count_parts(&said.text, &said.ends);
            count(&mut records[number], &counts);
        }
    }
}

/// Puts the tokens of each event into a record. What the engine's usage says of the whole answer stays.
fn count(record: &mut RequestRecord, counts: &[u32]) {
    // Output that has no text, like a tool call, was not counted: then the whole is not.
    if counts.len() != record.events.len() as usize {
        return;
    }
    let events: Vec<OutputEvent> = record
        .events
        .iter()
        .zip(counts)
        .map(|(event, &tokens)| OutputEvent { tokens, ..event })
        .collect();
    record.events = EventLog::of(&events);
    record.tokens.per_event_known = true;
    if record.tokens.source == TokenSource::Events {
        record.tokens.output = Some(counts.iter().sum());
        record.tokens.source = TokenSource::Tokenizer;
    }
}
