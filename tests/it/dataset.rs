//! `scenario dataset`: sets are told, written, shown, and made by a model.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;

use crate::tool::{Desk, Mock};

fn here(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    path.display().to_string()
}

#[test]
fn inspect_tells_rows_lengths_categories_and_a_histogram() {
    let desk = Desk::new();
    let rows: String = (1..=40)
        .map(|n| {
            let category = if n % 2 == 0 { "even" } else { "odd" };
            format!(
                "{{\"prompt\":\"{}\",\"category\":\"{category}\"}}\n",
                "word ".repeat(n)
            )
        })
        .collect();
    desk.write("set.jsonl", &format!("{rows}{{\"prompt\":\"hm\"}}\n"));
    let words = ["dataset", "inspect", "set.jsonl", "--with", "min_chars=5"];
    let told = desk.tool(&words).with_code(0).out;
    for line in [
        "rows        41 read, 40 fit; left out: 1 too short",
        "prompts     36 measured, 4 kept for warm-up",
        "tokens (estimated: 4 characters each)",
    ] {
        assert!(told.lines().any(|own| own == line), "{line} in\n{told}");
    }
    assert!(told.contains("even ") && told.contains("odd "), "{told}");
    let bars = told.lines().filter(|line| line.contains('█')).count();
    assert!(bars > 5, "{told}");
    // With a tokenizer, tokens are counted.
    let tokenizer = here("fixtures/tokenizers/bytes");
    let words = ["dataset", "inspect", "set.jsonl", "--tokenizer", &tokenizer];
    let told = desk.tool(&words).with_code(0).out;
    assert!(told.lines().any(|line| line == "tokens"), "{told}");
}

#[test]
fn inspect_reads_the_sets_of_a_scenario_and_traces() {
    let desk = Desk::new();
    let told = desk.tool(&["dataset", "inspect", &here("scenarios/quickstart.yaml")]);
    assert!(told.with_code(0).out.starts_with("set         "));
    let trace = here("fixtures/traces/azure.csv");
    let words = [
        "dataset",
        "inspect",
        &trace,
        "--as",
        "trace",
        "--with",
        "format=azure",
    ];
    let told = desk.tool(&words).with_code(0).out;
    assert!(told.contains("prompts     without end"), "{told}");
}

#[test]
fn a_mistake_is_told_as_in_a_scenario() {
    let desk = Desk::new();
    let ended = desk
        .tool(&["dataset", "inspect", "missing.jsonl"])
        .with_code(2);
    assert!(ended.err.contains("cannot read"), "{}", ended.err);
    desk.write("set.jsonl", "{\"prompt\":\"One?\"}\n{\"prompt\":\n");
    let ended = desk.tool(&["dataset", "sample", "set.jsonl"]).with_code(2);
    assert!(ended.err.contains("line 2: is not JSON"), "{}", ended.err);
    let words = ["dataset", "sample", "set.jsonl", "--with", "min_char=5"];
    let ended = desk.tool(&words).with_code(2);
    assert!(ended.err.contains("min_chars"), "{}", ended.err);
}

#[test]
fn a_prepared_set_is_the_same_set_and_says_where_it_comes_from() {
    let desk = Desk::new();
    let digest = |words: &[&str]| {
        let told = desk.tool(words).with_code(0).out;
        let line = told
            .lines()
            .find(|line| line.starts_with("digest"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let source = here("datasets/conversations.json");
    for (kind, read_as) in [("sharegpt", "file"), ("conversations", "conversations")] {
        let out = format!("{kind}.jsonl");
        let prepare = ["dataset", "prepare", &source, "--as", kind, "--out", &out];
        desk.tool(&prepare).with_code(0);
        assert_eq!(
            digest(&["dataset", "inspect", &source, "--as", kind]),
            digest(&["dataset", "inspect", &out, "--as", read_as])
        );
        let beside = std::fs::read_to_string(desk.path(&format!("{out}.provenance.json"))).unwrap();
        let told: serde_json::Value = serde_json::from_str(&beside).unwrap();
        // The digest is the one that `sha256` of a scenario asks for.
        let with = format!("sha256={}", told["sha256"].as_str().unwrap());
        let words = ["dataset", "sample", &out, "--as", read_as, "--with", &with];
        desk.tool(&words).with_code(0);
        assert!(told["source_sha256"].is_string() && told["rows_read"].as_u64() > Some(100));
        // Nothing that is there is lost.
        let ended = desk.tool(&prepare).with_code(2);
        assert!(ended.err.contains("--force replaces it"), "{}", ended.err);
    }
}

#[test]
fn a_sample_is_the_first_prompts_of_the_seed() {
    let desk = Desk::new();
    let source = here("datasets/conversations.json");
    let sample = |seed: &str| {
        let words = [
            "dataset", "sample", &source, "--count", "3", "--json", "--seed", seed,
        ];
        desk.tool(&words).with_code(0).out
    };
    assert_eq!(sample("1").lines().count(), 3);
    assert_eq!(sample("1"), sample("1"));
    assert_ne!(sample("1"), sample("2"));
    let row: serde_json::Value = serde_json::from_str(sample("1").lines().next().unwrap()).unwrap();
    assert!(row["prompt"].is_string(), "{row}");
}

/// An endpoint whose model writes a list of two prompts in each answer; gives what it was asked.
fn writer() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            for line in head.to_ascii_lowercase().lines() {
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let _ = told.send(format!("{head}{}", String::from_utf8_lossy(&body)));
            let list = format!(
                "Sure:\n[{{\"prompt\": \"Question {number}a?\", \"max_tokens\": 120}}, {{\"prompt\": \"Question {number}b?\"}}]"
            );
            let answer =
                serde_json::json!({ "choices": [{ "message": { "content": list } }] }).to_string();
            let mut stream = stream;
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    (url, heard)
}

#[test]
fn a_model_writes_a_set_of_several_categories() {
    let (url, heard) = writer();
    let desk = Desk::new();
    let words = [
        "dataset",
        "generate",
        "--base-url",
        &url,
        "--model",
        "author",
        "--count",
        "5",
        "--categories",
        "coding,math",
        "--out",
        "set.jsonl",
        "--api-key-env",
        "WRITER_KEY",
    ];
    desk.tool(&words).with_code(2);
    desk.start(&words, &[("WRITER_KEY", "secret-key")])
        .end()
        .with_code(0);
    let rows: Vec<serde_json::Value> = std::fs::read_to_string(desk.path("set.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<(&str, &str, u64)> = rows
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap();
            (
                text("id"),
                text("category"),
                row["max_tokens"].as_u64().unwrap(),
            )
        })
        .collect();
    // Three of the first category took a second request.
    assert_eq!(
        told,
        [
            ("coding_0", "coding", 120),
            ("coding_1", "coding", 300),
            ("coding_2", "coding", 120),
            ("math_0", "math", 120),
            ("math_1", "math", 300),
        ]
    );
    let first = heard.recv().unwrap();
    assert!(first.starts_with("POST /v1/chat/completions"), "{first}");
    assert!(
        first
            .to_ascii_lowercase()
            .contains("authorization: bearer secret-key"),
        "{first}"
    );
    assert!(
        first.contains("Write 3 prompts") && first.contains("coding"),
        "{first}"
    );
    desk.tool(&["dataset", "inspect", "set.jsonl"]).with_code(0);
}

#[test]
fn a_model_that_writes_no_list_is_told_with_what_came() {
    let desk = Desk::new();
    let mock = Mock::start(&["--preset", "fast"]);
    let words = [
        "dataset",
        "generate",
        "--base-url",
        &mock.url,
        "--model",
        "any",
        "--count",
        "2",
        "--categories",
        "math",
        "--out",
        "set.jsonl",
    ];
    let ended = desk.tool(&words).with_code(2);
    assert!(
        ended
            .err
            .contains("wrote 0 of 2 prompts of `math` in 3 attempts; an answer holds no JSON list"),
        "{}",
        ended.err
    );
    assert!(!desk.path("set.jsonl").exists());
}
