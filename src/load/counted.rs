//! Tokens of each event where the engine tells none: the model's tokenizer counts them, when the load is over or beside it.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::observation::{EventLog, OutputEvent, RequestRecord, TokenSource};
use crate::workload::Tokenizer;

/// Texts that wait beyond so many bytes are counted in the middle of the load, by a thread that gives way to those that measure.
const WAITING: usize = 32 << 20;

/// Tokens of each event, with the number of the record.
type Counts = Vec<(usize, Vec<u32>)>;

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
    /// Threads that count what has waited before.
    counted: Vec<JoinHandle<Counts>>,
}

impl Counting {
    pub(super) fn by(tokenizer: Arc<Tokenizer>) -> Counting {
        Counting {
            tokenizer,
            waiting: Vec::new(),
            bytes: 0,
            counted: Vec::new(),
        }
    }

    /// The record of this number said this.
    pub(super) fn add(&mut self, record: usize, said: Said) {
        self.bytes += said.text.len();
        self.waiting.push((record, said));
        if self.bytes > WAITING {
            self.count_beside();
        }
    }

    /// Hands all that waits to a thread of its own.
    fn count_beside(&mut self) {
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        let tokenizer = Arc::clone(&self.tokenizer);
        let thread = std::thread::Builder::new().name("tokens".to_owned());
        let counted = thread.spawn(move || {
            crate::threads::give_way();
            counts(&tokenizer, waiting)
        });
        self.counted.push(counted.expect("a thread can be started"));
    }

    /// Counts all that waits, when the load is over.
    pub(super) fn settle(&mut self, records: &mut [RequestRecord]) {
        let beside = self.counted.drain(..).flat_map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        for (number, counts) in beside.collect::<Counts>() {
            count(&mut records[number], &counts);
        }
        self.bytes = 0;
        for (number, counts) in counts(&self.tokenizer, std::mem::take(&mut self.waiting)) {
            count(&mut records[number], &counts);
        }
    }
}

fn counts(tokenizer: &Tokenizer, waiting: Vec<(usize, Said)>) -> Counts {
    waiting
        .into_iter()
        .map(|(number, said)| (number, tokenizer.count_parts(&said.text, &said.ends)))
        .collect()
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
