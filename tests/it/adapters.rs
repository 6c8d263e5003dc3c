//! Requests that are spread over the adapters of a model.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use scenario::report::model::RequestRow;
use serde_json::Value;

use crate::tool::{CALM, Desk, Mock};

/// A server that answers every request with one token, and tells its body.
pub(crate) fn told() -> (String, Receiver<Value>) {
    let (url, heard) = heard();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (_, body) in heard {
            let _ = tell.send(body);
        }
    });
    (url, told)
}

/// The same, and the head of the request with the body.
pub(crate) fn heard() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let mut buffer = [0; 65536];
            let (head, body) = loop {
                let read = socket.read(&mut buffer).unwrap_or(0);
                bytes.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    if read == 0 {
                        break (String::new(), String::new());
                    }
                    continue;
                };
                let length = head
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
                    .unwrap_or(0);
                if body.len() >= length || read == 0 {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let (kind, answer) = match serde_json::from_str::<Value>(&body) {
                Ok(body) => {
                    let _ = tell.send((head, body));
                    (
                        "text/event-stream",
                        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n\
                         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\ndata: [DONE]\n\n",
                    )
                }
                Err(_) => (
                    "application/json",
                    "{\"data\":[{\"id\":\"base\"},{\"id\":\"sql\"},{\"id\":\"chat\"}]}",
                ),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            let _ = socket.write_all(format!("{head}{answer}").as_bytes());
        }
    });
    (url, heard)
}

fn scenario(backends: &str) -> String {
    format!(
        "version: 1\nname: trial\nbackends: {{ {backends} }}\nmodels: {{ m: {{ id: base, lora: {{ sql: 1, chat: 3 }} }} }}\n\
         load: {{ l: {{ levels: {{ users: 1, requests: 60, warmup: 0s, tail: drain }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    )
}

/// Which model the requests asked for, in the order of their prompts.
fn asked(heard: &Receiver<Value>) -> Vec<(String, String)> {
    let said = |body: Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&body["messages"][0]["content"]), text(&body["model"]))
    };
    let mut asked: Vec<(String, String)> = heard.try_iter().map(said).collect();
    asked.sort();
    asked
}

#[test]
fn requests_are_spread_over_the_adapters_by_weight_and_alike_for_every_backend() {
    let (one, from_one) = told();
    let (other, from_other) = told();
    let text = scenario(&format!(
        "one: {{ kind: openai, url: \"{one}\" }}, other: {{ kind: openai, url: \"{other}\" }}"
    ));
    let ended = Desk::new().run(&text, &[]).with_code(0);
    let (first, second) = (asked(&from_one), asked(&from_other));
    assert_eq!(first.len(), 60);
    assert_eq!(first, second);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, model) in &first {
        *shares.entry(model).or_default() += 1;
    }
    // A quarter of 60, as the seed has it.
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), ["chat", "sql"]);
    assert!((8..=22).contains(&shares["sql"]), "{shares:?}");
    // Each request says which one it asked for, in every file of requests.
    let told = ended.requests().rows;
    let said = |row: &RequestRow| row.adapter.clone().unwrap_or_default();
    let sql = told.iter().filter(|row| said(row) == "sql").count();
    assert_eq!((told.len(), sql), (120, 2 * shares["sql"]));
    let csv = ended.text("requests.csv");
    let rows = csv.lines().filter(|line| line.ends_with(",sql,http"));
    assert_eq!(rows.count(), 2 * shares["sql"]);
}

#[test]
fn an_adapter_that_the_engine_does_not_list_is_no_adapter() {
    let engine = Mock::start(&["--model", "base", "--model", "sql"]);
    let text = scenario(&format!(
        "vllm: {{ url: \"http://{}\", ready: {{ timeout: 300ms, model_listed: true }} }}",
        engine.address()
    ));
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let why = ended.report()["cells"][0]["runs"][0]["reason"].clone();
    assert!(
        why.as_str().unwrap().contains("and not the adapter `chat`"),
        "{why}"
    );
}
