//! Conversations go turn by turn, over real sockets: who said what before, on which connection, and when.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::tool::{Desk, Ended, on_the_simulator, scenario};

/// What the engine was asked: on which connection, and the body.
type Asked = Arc<Mutex<Vec<(usize, Value)>>>;

/// An engine that answers request number n with `answer n`; behind `fail` it refuses.
fn engine() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Asked::default();
    let log = asked.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let log = log.clone();
            std::thread::spawn(move || serve(stream, number, &log));
        }
    });
    (url, asked)
}

fn serve(mut stream: TcpStream, connection: usize, log: &Mutex<Vec<(usize, Value)>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut length, mut first) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(told) = lower.strip_prefix("content-length:") {
                length = told.trim().parse().ok()?;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let reply = if first.starts_with("GET") {
            whole(
                "200 OK",
                "application/json",
                r#"{"object":"list","data":[{"id":"any"}]}"#,
            )
        } else {
            let body: Value = serde_json::from_slice(&body).ok()?;
            let said = body["messages"].as_array().map_or(1, Vec::len);
            let probe = !body.to_string().contains("turn");
            let fails = body.to_string().contains("fail");
            let number = {
                let mut log = log.lock().unwrap();
                if !probe {
                    log.push((connection, body));
                }
                log.len()
            };
            if fails && said > 1 {
                whole("500 Internal Server Error", "application/json", "{}")
            } else {
                whole("200 OK", "text/event-stream", &stream_of(number))
            }
        };
        stream.write_all(reply.as_bytes()).ok()?;
    }
}

fn stream_of(number: usize) -> String {
    let words = ["answer ", &number.to_string(), " \"quoted\""].map(|word| {
        let delta = json!({ "choices": [{ "index": 0, "delta": { "content": word } }] });
        format!("data: {delta}\n\n")
    });
    let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }], "usage": { "prompt_tokens": 9, "completion_tokens": 3 } });
    format!("{}data: {end}\n\ndata: [DONE]\n\n", words.concat())
}

fn whole(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Conversations of three turns; what is said tells which turn of which conversation it is.
fn conversations(count: usize) -> String {
    (0..count)
        .map(|number| {
            let turn = |turn: usize| {
                [
                    json!({ "role": "user", "content": format!("talk {number} turn {turn}") }),
                    json!({ "role": "assistant", "content": format!("recorded {number}.{turn}") }),
                ]
            };
            let mut messages = vec![json!({ "role": "system", "content": "Be short." })];
            messages.extend((1..=3).flat_map(turn));
            format!(
                "{}\n",
                json!({ "id": format!("talk-{number}"), "messages": messages })
            )
        })
        .collect()
}

fn run(url: &str, set: &str, load: &str, more: &str) -> Ended {
    let desk = Desk::new();
    desk.write("talks.jsonl", &conversations(8));
    let set = format!(
        "prompts: {{ t: {{ source: conversations, path: talks.jsonl, order: file, {set} }} }}\n{more}"
    );
    desk.run(&scenario(&format!("{{ url: '{url}' }}"), load, &set), &[])
}

/// The conversations that an engine heard, each the bodies of its turns in order, with the connections.
fn heard(asked: &Asked) -> Vec<Vec<(usize, Value)>> {
    let log = asked.lock().unwrap();
    let mut talks: Vec<Vec<(usize, Value)>> = Vec::new();
    for (connection, body) in log.iter() {
        let first = &body["messages"][1];
        match talks
            .iter_mut()
            .find(|talk| talk[0].1["messages"][1] == *first)
        {
            Some(talk) => talk.push((*connection, body.clone())),
            None => talks.push(vec![(*connection, body.clone())]),
        }
    }
    talks
}

fn contents(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().unwrap().iter();
    messages
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_later_turn_looks_back_on_the_engines_own_answers_on_the_same_connection() {
    let (url, asked) = engine();
    let ended = run(
        &url,
        "history: live",
        "{ levels: { users: 2, requests: 6, tail: drain } }",
        "",
    )
    .with_code(0);
    let talks = heard(&asked);
    assert_eq!(talks.len(), 6);
    for talk in talks {
        let roles = talk[2].1["messages"].as_array().unwrap().iter();
        let roles: Vec<&str> = roles.map(|one| one["role"].as_str().unwrap()).collect();
        assert_eq!(
            roles,
            ["system", "user", "assistant", "user", "assistant", "user"]
        );
        let said = contents(&talk[2].1);
        assert!(
            said[2].starts_with("answer ") && said[2].ends_with(" \"quoted\""),
            "{said:?}"
        );
        assert_eq!(said[..4], contents(&talk[1].1)[..]);
        assert!(said[5].ends_with("turn 3"), "{said:?}");
        assert!(
            talk.iter().all(|turn| turn.0 == talk[0].0),
            "one connection"
        );
    }
    let rows = ended.requests().rows;
    assert_eq!(rows.len(), 18);
    let turns = |turn| rows.iter().filter(|row| row.more.turn == turn).count();
    assert_eq!([turns(1), turns(2), turns(3)], [6, 6, 6]);
    let ids: std::collections::BTreeSet<&str> = rows
        .iter()
        .map(|row| row.more.request_id.as_str())
        .collect();
    assert_eq!(ids.len(), 18);
}

#[test]
fn a_recorded_history_is_that_of_the_file() {
    let (url, asked) = engine();
    run(
        &url,
        "history: recorded, max_turns: 2",
        "{ levels: { users: 1, requests: 3, tail: drain } }",
        "",
    )
    .with_code(0);
    let talks = heard(&asked);
    assert_eq!(talks.len(), 3);
    for (number, talk) in talks.iter().enumerate() {
        assert_eq!(talk.len(), 2);
        assert_eq!(
            contents(&talk[1].1),
            [
                "Be short.".to_owned(),
                format!("talk {number} turn 1"),
                format!("recorded {number}.1"),
                format!("talk {number} turn 2"),
            ]
        );
    }
}

#[test]
fn a_person_thinks_between_an_answer_and_the_next_turn() {
    let (url, _) = engine();
    let ended = run(
        &url,
        "think: 70ms",
        "{ levels: { users: 1, requests: 3, tail: drain } }",
        "",
    )
    .with_code(0);
    let rows = ended.requests().rows;
    let mut pauses = 0;
    for row in rows.iter().filter(|row| row.more.turn > 1) {
        let before = rows
            .iter()
            .find(|other| other.index == row.index && other.more.turn + 1 == row.more.turn)
            .unwrap();
        let pause = row.intended_ms - before.finished_ms;
        assert!((pause - 70.0).abs() < 0.001, "{pause}");
        pauses += 1;
    }
    assert_eq!(pauses, 6);
}

#[test]
fn in_an_open_loop_a_rate_counts_conversations() {
    let (url, asked) = engine();
    let ended = run(
        &url,
        "think: 20ms",
        "{ process: uniform, stages: [{ name: s, rate: 10/s, for: 500ms }, { name: rest, rate: 0/s, for: 1s }] }",
        "",
    )
    .with_code(0);
    assert_eq!(
        heard(&asked).iter().map(Vec::len).collect::<Vec<_>>(),
        [3; 5]
    );
    let rows = ended.requests().rows;
    let late = rows.iter().filter(|row| row.stage == "rest");
    assert!(late.clone().all(|row| row.more.turn > 1));
    assert_eq!(rows.len(), 15);
}

#[test]
fn a_conversation_ends_with_a_turn_that_is_not_answered() {
    let (url, asked) = engine();
    let desk = Desk::new();
    desk.write(
        "talks.jsonl",
        &conversations(3).replace("talk 1 turn 2", "turn 2 fails"),
    );
    let text = scenario(
        &format!("{{ url: '{url}' }}"),
        "{ levels: { users: 1, requests: 3, tail: drain } }",
        "prompts: { t: { source: conversations, path: talks.jsonl, order: file } }\n",
    );
    let text = text.replace("guards: { ", "guards: { error_rate: off, ");
    let ended = desk.run(&text, &[]).with_code(0);
    assert_eq!(
        heard(&asked).iter().map(Vec::len).collect::<Vec<_>>(),
        [3, 2, 3]
    );
    let rows = ended.requests().rows;
    let refused: Vec<u32> = rows
        .iter()
        .filter(|row| row.outcome != "ok")
        .map(|row| row.more.turn)
        .collect();
    assert_eq!(refused, [2]);
}

#[test]
fn a_turn_is_a_scope_of_assertions() {
    let desk = Desk::new();
    desk.write("talks.jsonl", &conversations(8));
    let text = on_the_simulator(
        "{ levels: { users: 2, requests: 6, tail: drain } }",
        "prompts: { t: { source: conversations, path: talks.jsonl } }\n\
         slos:\n  later: { assert: 'requests == 12', where: { turn: '>= 2' } }\n  first: 'requests{turn=1} == 6'\n  all: requests == 18\n",
    );
    let ended = desk.run(&text, &[]).with_code(0);
    assert!(ended.out.contains("3 passed"), "{}", ended.out);
}

#[test]
fn verdicts_can_be_split_by_turn() {
    let desk = Desk::new();
    desk.write("talks.jsonl", &conversations(8));
    let text = on_the_simulator(
        "{ levels: { users: 2, requests: 6, tail: drain } }",
        "prompts: { t: { source: conversations, path: talks.jsonl } }\n\
         slos:\n  each: { assert: requests == 6, split: [turn], overrides: [{ where: { turn: 3 }, assert: requests == 7 }] }\n",
    );
    let ended = desk.run(&text, &[]).with_code(1);
    assert!(
        ended.out.contains("1 failed") && ended.out.contains("2 passed"),
        "{}",
        ended.out
    );
}

#[test]
fn completions_get_what_the_chat_template_makes_of_a_conversation() {
    let desk = Desk::new();
    desk.write("talks.jsonl", &conversations(8));
    let set = "prompts: { t: { source: conversations, path: talks.jsonl } }\n";
    let load = "{ levels: { users: 2, requests: 6, tail: drain } }";
    let plain = scenario(
        "{ kind: simulator, preset: fast, api: completions }",
        load,
        set,
    );
    let ended = desk.run(&plain, &[]).with_code(2);
    assert!(ended.err.contains("error[S158]"), "{}", ended.err);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
    let with_template = plain.replace(
        "models: { m: any }",
        &format!(
            "models: {{ m: {{ id: any, tokenizer: {} }} }}",
            folder.display()
        ),
    );
    let rows = desk.run(&with_template, &[]).with_code(0).requests().rows;
    let input = |turn| {
        let rows = rows.iter().filter(|row| row.more.turn == turn);
        rows.filter_map(|row| row.input_tokens).min().unwrap()
    };
    assert!(input(1) < input(2) && input(2) < input(3));
}

#[test]
fn batches_of_conversations_are_refused() {
    let desk = Desk::new();
    desk.write("talks.jsonl", &conversations(8));
    let set = "prompts: { t: { source: conversations, path: talks.jsonl } }\n";
    let text = on_the_simulator("{ batch: { size: 2, requests: 4 } }", set);
    let ended = desk.run(&text, &[]).with_code(2);
    assert!(ended.err.contains("error[S157]"), "{}", ended.err);
}
