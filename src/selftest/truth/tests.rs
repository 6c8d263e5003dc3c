use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;

const ASK: &str = r#"{"stream":true,"max_tokens":3,"messages":[]}"#;

fn post(server: &TruthServer, headers: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    let length = body.len();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = vec![0; 1 << 16];
    let mut text = String::new();
    while !text.contains("0\r\n\r\n") && !text.contains("400") {
        let bytes = socket.read(&mut answer).unwrap();
        assert!(bytes > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&answer[..bytes]).unwrap());
    }
    text
}

fn server(gap: Duration) -> TruthServer {
    start(&TruthConfig {
        first: Duration::from_millis(2),
        gap,
        spread: false,
        log: LogTo::Memory,
        ..TruthConfig::default()
    })
    .unwrap()
}

#[test]
fn the_log_tells_when_each_event_left_and_under_which_id() {
    let server = server(Duration::from_millis(3));
    let answer = post(&server, "X-Request-Id: mine\r\n", ASK);
    assert!(answer.contains("\r\nx-request-id: mine\r\n"), "{answer}");
    assert_eq!(answer.matches("\" token\"").count(), 3);
    assert!(answer.contains("\"completion_tokens\":3") && answer.contains("data: [DONE]\n\n"));
    let log = server.stop().unwrap();
    let [
        TruthEntry {
            id,
            arrived,
            handed,
            whole: true,
        },
    ] = log.as_slice()
    else {
        panic!("{log:?}")
    };
    assert_eq!(id, "mine");
    let after: Vec<u64> = handed.iter().map(|at| (at - arrived) / 1_000_000).collect();
    // Never early; how late is the machine's business.
    assert!(after[0] >= 2 && after[1] >= 5 && after[2] >= 8, "{after:?}");
}

#[test]
fn without_a_gap_everything_comes_at_once() {
    let server = server(Duration::ZERO);
    let many = ASK.replace('3', "1000");
    assert_eq!(post(&server, "", &many).matches("\" token\"").count(), 1000);
    let log = server.stop().unwrap();
    assert_eq!((log[0].id.as_str(), log[0].handed.len()), ("truth-1", 1000));
}

#[test]
fn a_client_that_leaves_is_logged_as_far_as_it_came() {
    let server = server(Duration::from_secs(60));
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    let length = ASK.len();
    write!(
        socket,
        "POST /v1/completions HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{ASK}"
    )
    .unwrap();
    let mut text = String::new();
    while !text.contains("token") {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).unwrap();
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    drop(socket);
    let log = server.stop().unwrap();
    assert_eq!((log[0].handed.len(), log[0].whole), (1, false));
}

#[test]
fn what_it_cannot_do_it_says() {
    let server = server(Duration::ZERO);
    let answer = post(&server, "", r#"{"max_tokens":3}"#);
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("only streams"),
        "{answer}"
    );
    let remote = TruthConfig {
        address: "0.0.0.0:0".parse().unwrap(),
        ..TruthConfig::default()
    };
    assert_eq!(
        start(&remote).unwrap_err().to_string(),
        "0.0.0.0 is not a loopback address"
    );
}

#[test]
fn a_log_file_is_read_back_but_for_a_line_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truth.ndjson");
    let config = TruthConfig {
        gap: Duration::ZERO,
        log: LogTo::File(path.clone()),
        ..TruthConfig::default()
    };
    let server = start(&config).unwrap();
    post(&server, "x-request-id: a\r\n", ASK);
    server.stop().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{{\"id\":\"b\"")).unwrap();
    let log = read_log(&path).unwrap();
    assert_eq!(
        (log.len(), log[0].id.as_str(), log[0].handed.len()),
        (1, "a", 3)
    );
    std::fs::write(&path, "{}\n").unwrap();
    let wrong = read_log(&path).unwrap_err().to_string();
    assert!(
        wrong.contains("truth.ndjson:1: missing field `id`"),
        "{wrong}"
    );
}
