//! The first minutes with the tool: `scenario try` and `scenario init`, and a help that shows how.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::tool::{Desk, Mock, nobody};

/// The first token comes a while after the role, and the engine tells the tokens of each event.
fn engine() -> Mock {
    Mock::start(&[
        "--preset",
        "a100-llama-3.1-8b-vllm",
        "--speed",
        "10",
        "--model",
        "llama",
    ])
}

#[test]
fn one_request_is_shown_event_by_event_with_what_each_counts_as() {
    let engine = engine();
    let words = [
        "try",
        engine.address(),
        "--kind",
        "vllm",
        "--max-tokens",
        "4",
        "--prompt",
        "Name a river",
    ];
    let told = Desk::new().tool(&words).with_code(0).out;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("model llama"), "{told}");
    assert_eq!(lines[1], "prompt: Name a river");
    assert!(
        lines[4].ends_with("the request is released; every time counts from here"),
        "{told}"
    );
    let outputs: Vec<&&str> = lines
        .iter()
        .filter(|line| line.contains("  output, 1 token "))
        .collect();
    assert_eq!(outputs.len(), 4, "{told}");
    let first = lines
        .iter()
        .position(|line| line.contains("first token: TTFT ends here"))
        .unwrap();
    assert!(lines[first].contains("  output, 1 token "), "{told}");
    // What comes before it counts for nothing, and says why.
    assert!(
        lines[5..first]
            .iter()
            .all(|line| line.contains("no output, counts for nothing")),
        "{told}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("the end mark of the stream")),
        "{told}"
    );
    let number = |name: &str| -> f64 {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .trim_end_matches("ms")
            .parse()
            .unwrap()
    };
    // The number of the summary is that of the event.
    let at: f64 = lines[first]
        .split_whitespace()
        .next()
        .unwrap()
        .trim_end_matches("ms")
        .parse()
        .unwrap();
    assert_eq!(number("ttft "), at);
    assert!(number("e2e ") > at);
    assert_eq!(number("tokens "), 4.0);
    assert!(told.contains("✓ answered"), "{told}");
}

#[test]
fn an_engine_that_is_not_there_or_refuses_is_no_answer() {
    let desk = Desk::new();
    let ended = desk.tool(&["try", &nobody()]).with_code(3);
    assert!(
        ended.err.contains("is not ready after 10s") || ended.err.contains("refused"),
        "{}",
        ended.err
    );
    let engine = Mock::start(&["--preset", "fast", "--fault", "error-500:every=1"]);
    let told = desk
        .tool(&["try", &engine.url, "--model", "m"])
        .with_code(3)
        .out;
    assert!(told.contains("✗ refused with HTTP 500"), "{told}");
    let ended = desk
        .tool(&["try", &engine.url, "--api", "chatt"])
        .with_code(2);
    assert!(ended.err.contains("did you mean `chat`?"), "{}", ended.err);
}

#[test]
fn a_first_file_is_for_the_engine_that_runs_here_and_runs() {
    let engine = engine();
    let port = engine.address().rsplit(':').next().unwrap().to_owned();
    let desk = Desk::new();
    let ended = desk
        .tool(&[
            "init",
            "first.yaml",
            "--ports",
            &format!("1,{port}"),
            "--users",
            "2",
            "--ttft",
            "30s",
        ])
        .with_code(0);
    assert!(
        ended.err.contains(&format!(
            "found openai at http://127.0.0.1:{port}, which serves llama"
        )),
        "{}",
        ended.err
    );
    let text = std::fs::read_to_string(desk.path("first.yaml")).unwrap();
    assert!(
        text.contains(&format!("url: \"http://127.0.0.1:{port}\"")),
        "{text}"
    );
    assert!(
        text.contains("users: 2,") && text.contains("P95 TTFT < 30s"),
        "{text}"
    );
    desk.tool(&["check", "first.yaml"]).with_code(0);
    desk.tool(&["fmt", "--check", "first.yaml"]).with_code(0);
    desk.tool(&[
        "run",
        "first.yaml",
        "--smoke",
        "--inconclusive",
        "warn",
        "--out",
        "results",
    ])
    .with_code(0);
    let refused = desk
        .tool(&[
            "init",
            "other.yaml",
            "--url",
            "localhost:1",
            "--kind",
            "vlm",
        ])
        .with_code(2);
    assert!(
        refused.err.contains("`vlm` is no kind of engine"),
        "{}",
        refused.err
    );
}

/// An engine that has these pages and no other, and wants a key for those without a text; its port.
fn engine_with(pages: &'static [(&str, &str)]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut asked = String::new();
            reader.read_line(&mut asked).unwrap();
            let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut line = asked;
            while !line.trim().is_empty() {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let page = pages.iter().find(|(known, _)| *known == path);
            let (status, body) = match page {
                None => ("404 Not Found", ""),
                Some((_, "")) => ("401 Unauthorized", ""),
                Some((_, body)) => ("200 OK", *body),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = reader
                .into_inner()
                .write_all(format!("{head}{body}").as_bytes());
        }
    });
    port
}

#[test]
fn an_engine_is_known_by_the_pages_that_only_it_has() {
    const MODELS: (&str, &str) = ("/v1/models", r#"{"data": [{"id": "m", "owned_by": "me"}]}"#);
    let engines: [(&'static [(&str, &str)], &str); 7] = [
        (
            &[(
                "/v1/models",
                r#"{"data": [{"id": "m", "owned_by": "vllm"}]}"#,
            )],
            "vllm",
        ),
        (&[MODELS, ("/version", r#"{"version": "0.11.0"}"#)], "vllm"),
        (
            &[(
                "/get_model_info",
                r#"{"model_path": "m", "is_generation": true}"#,
            )],
            "sglang",
        ),
        (
            &[
                MODELS,
                ("/server_info", r#"{"model_path": "m", "tp_size": 1}"#),
            ],
            "sglang",
        ),
        (
            &[
                MODELS,
                (
                    "/props",
                    r#"{"default_generation_settings": {}, "model_path": "m.gguf"}"#,
                ),
            ],
            "llama.cpp",
        ),
        (
            &[
                ("/api/version", r#"{"version": "0.12"}"#),
                ("/api/tags", r#"{"models": [{"name": "m"}]}"#),
            ],
            "ollama",
        ),
        (
            &[MODELS, ("/version", r#"{"version": "1", "commit": "a"}"#)],
            "openai",
        ),
    ];
    let desk = Desk::new();
    let begun = |port: u16| {
        let port = port.to_string();
        desk.tool(&["init", "first.yaml", "--force", "--ports", &port])
            .with_code(0)
    };
    for (pages, kind) in engines {
        let port = engine_with(pages);
        let ended = begun(port);
        let told = format!("found {kind} at http://127.0.0.1:{port}, which serves m\n");
        assert!(ended.err.contains(&told), "{told}{}", ended.err);
        desk.tool(&["check", "first.yaml"]).with_code(0);
    }
    const VERSION: (&str, &str) = ("/version", r#"{"version": "1.0"}"#);
    let told = begun(engine_with(&[("/v1/models", ""), VERSION])).err;
    assert!(told.contains("found vllm at "), "{told}");
    // What answers and is no engine.
    const API: (&str, &str) = ("/api/version", VERSION.1);
    let others: [&'static [(&str, &str)]; 3] = [
        &[("/", "hello")],
        &[VERSION],
        &[API, ("/api/tags", r#"["new"]"#)],
    ];
    for pages in others {
        let port = engine_with(pages);
        let ended = begun(port);
        assert!(!ended.err.contains("found"), "{}", ended.err);
    }
}

#[test]
fn what_does_not_answer_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        // Held, and never answered; the last one is ours.
        let mut held = Vec::new();
        loop {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            if line.starts_with("over") {
                return held.len();
            }
            held.push(stream);
        }
    });
    let ports = port.to_string();
    let ended = Desk::new()
        .tool(&["init", "first.yaml", "--ports", &ports])
        .with_code(0);
    assert!(!ended.err.contains("found"), "{}", ended.err);
    let mut last = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    last.write_all(b"over\n").unwrap();
    assert_eq!(asked.join().unwrap(), 1);
}

#[test]
fn the_help_of_every_command_teaches_by_example() {
    let desk = Desk::new();
    let listed = desk.tool(&["--help"]).with_code(0).out;
    let commands: Vec<&str> = listed
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in &commands {
        let help = desk.tool(&[*command, "--help"]).with_code(0).out;
        let shown = help.contains(&format!("  scenario {command}"));
        assert!(help.contains("Examples:") && shown, "{command}: {help}");
    }
}
