//! Tokens of events that an engine does not tell: the model's tokenizer counts them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use scenario::workload::{Tokenizer, TokenizerFiles};

use crate::tool::{Desk, scenario};

/// What the engine says, in the pieces that it says it in.
const SAID: [&str; 3] = [
    "Set them",
    " keep make be and the",
    " further product simple",
];

/// An engine that answers so, and tells nothing of the tokens of its events.
fn engine(events: &str) -> String {
    let events: Arc<str> = events.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let events = Arc::clone(&events);
            std::thread::spawn(move || answer(stream, &events));
        }
    });
    url
}

fn answer(mut stream: TcpStream, events: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let lowered = head.to_ascii_lowercase();
    let length = lowered
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    reader.read_exact(&mut vec![0; length]).unwrap();
    let (kind, body) = match head.starts_with("POST") {
        true => ("text/event-stream", events),
        false => (
            "application/json",
            r#"{"object":"list","data":[{"id":"m"}]}"#,
        ),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn stream_of(said: &[&str]) -> String {
    let mut body = String::new();
    for text in said {
        let event =
            serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": text } }] });
        body.push_str(&format!("data: {event}\n\n"));
    }
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    body.push_str(&format!("data: {end}\n\ndata: [DONE]\n\n"));
    body
}

#[test]
fn events_without_told_tokens_are_counted_by_the_tokenizer() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
    let tokenizer = Tokenizer::open(&TokenizerFiles::at(&files)).unwrap();
    let tokens = tokenizer.count(&SAID.concat());
    assert!(tokens > 2 * SAID.len() as u32);
    let text = |model: &str| {
        let engine = format!("{{ url: '{}' }}", engine(&stream_of(&SAID)));
        let more = "slos: { smooth: P50 ITL < 10s }\n";
        scenario(&engine, "{ levels: { users: 1, requests: 8 } }", more)
            .replace("models: { m: any }", &format!("models: {{ m: {model} }}"))
    };
    let column = |csv: &str, name: &str| -> Vec<String> {
        let mut table = csv::Reader::from_reader(csv.as_bytes());
        let at = table
            .headers()
            .unwrap()
            .iter()
            .position(|known| known == name);
        let rows = table.records().map(Result::unwrap);
        rows.map(|row| row[at.unwrap()].to_owned()).collect()
    };
    let with = format!("{{ id: m, tokenizer: {} }}", files.display());
    let ended = Desk::new().run(&text(&with), &[]).with_code(0);
    let csv = ended.text("requests.csv");
    assert_eq!(column(&csv, "output_tokens"), vec![tokens.to_string(); 8]);
    assert_eq!(column(&csv, "token_source"), vec!["tokenizer"; 8]);
    // Without one each event is a token, and nothing can be said of the time between tokens.
    let ended = Desk::new().run(&text("m"), &[]);
    let csv = ended.text("requests.csv");
    assert_eq!(column(&csv, "output_tokens"), vec!["3"; 8]);
    assert_eq!(column(&csv, "token_source"), vec!["events"; 8]);
}

#[test]
fn what_a_stream_tells_of_the_whole_answer_leaves_its_events_to_be_counted() {
    let recorded = include_str!("../../fixtures/dialects/messages-llamacpp.txt");
    let (_, events) = recorded.split_once('\n').unwrap();
    // More tokens than there are events.
    let events = &events.replace(r#""output_tokens":6"#, r#""output_tokens":9"#);
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
    let text = |model: &str| {
        let engine = format!("{{ url: '{}', api: messages }}", engine(events));
        let more = "slos: { smooth: P50 ITL < 10s }\n";
        scenario(&engine, "{ levels: { users: 1, requests: 8 } }", more)
            .replace("models: { m: any }", &format!("models: {{ m: {model} }}"))
    };
    let with = format!("{{ id: m, tokenizer: {} }}", tokenizer.display());
    Desk::new().run(&text(&with), &[]).with_code(0);
    // Without a tokenizer nobody knows how many tokens came with each event.
    Desk::new().run(&text("m"), &[]).with_code(3);
}
