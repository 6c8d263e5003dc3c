//! Tokens of events that an engine does not tell: the model's tokenizer counts them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use scenario::workload::{Tokenizer, TokenizerFiles};

use crate::tool::{Desk, scenario};

/// What the engine says, in the pieces that it says it in.
const SAID: [&str; 3] = [
    "Set them",
    " keep make be and the",
    " further product simple",
];

/// An engine that tells nothing of tokens.
fn engine() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    url
}

fn answer(mut stream: TcpStream) {
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
        true => ("text/event-stream", stream_of(&SAID)),
        false => (
            "application/json",
            r#"{"object":"list","data":[{"id":"m"}]}"#.to_owned(),
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
        let engine = format!("{{ url: '{}' }}", engine());
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
