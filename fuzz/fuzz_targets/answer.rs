//! However the bytes of an answer come, they say the same; and whatever the quick ways of reading an event say, the full parse
//! says too.
//!
//! The input is what a socket brought, head and all; its first byte chooses the size of the pieces in which it is read again.

#![no_main]

// Only what reads answers is compiled: it needs a few small crates, where the whole tool needs hundreds.
#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../src/engine/dialect/event.rs"]
mod event;
#[path = "../../src/wire/framing.rs"]
mod framing;
#[path = "../../src/engine/dialect/glance.rs"]
mod glance;
#[path = "../../src/engine/dialect/shape.rs"]
mod shape;
#[path = "../../src/wire/sse.rs"]
mod sse;

use event::read_in_full;
use framing::read_head;
use glance::glance;
use libfuzzer_sys::fuzz_target;
use shape::Shape;
use sse::SseParser;

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };
    let whole = events(bytes, bytes.len().max(1));
    let cut = events(bytes, usize::from(size) + 1);
    assert_eq!(whole, cut, "an answer in pieces says something else");
    let mut shape = Shape::default();
    for event in &whole {
        let full = read_in_full(event).ok();
        if let Some(told) = glance(event) {
            assert_eq!(Some(told), full, "{}", String::from_utf8_lossy(event));
        }
        let told = shape.read(event).ok();
        assert_eq!(told, full, "{}", String::from_utf8_lossy(event));
    }
});

/// The data of every event, up to the first byte that breaks the framing. What has no head is a body.
fn events(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut parser = SseParser::default();
    let mut found = Vec::new();
    // An event that is too large ends the stream; the inputs are smaller.
    let mut feed = |piece: &[u8]| {
        let _ = parser.feed(piece, |data| found.push(data.to_vec()));
    };
    match read_head(bytes) {
        Ok(Some((head, taken))) => {
            let mut framing = head.framing;
            for piece in bytes[taken..].chunks(size) {
                if framing.is_complete() || framing.decode(piece, &mut feed).is_err() {
                    break;
                }
            }
        }
        Ok(None) | Err(_) => bytes.chunks(size).for_each(feed),
    }
    found
}
