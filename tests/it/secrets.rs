//! A secret of the environment is nowhere but in the requests that need it: not in a file, a log, a message, a process list, also
//! when the server says it again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tool::{CALM, Desk, Ended, content};

/// With what files of every kind write in another way.
const SECRET: &str = r#"sk-"q'\/<&>+%-Kx93vT0147q7Zp"#;

/// What must be nowhere: the whole, the end that every kind of file writes as it is, and the beginning as each of them writes it.
const PIECES: [&str; 6] = [
    SECRET,
    "Kx93vT0147q7Zp",
    r#"sk-"q'"#,
    r#"sk-\"q'"#,
    r#"sk-""q'"#,
    "sk-&quot;q",
];

/// A server that says again what it was told, in each way in which a server can.
struct Echo {
    url: String,
    /// Requests for an answer whose `Authorization` was right.
    asked: Arc<AtomicUsize>,
}

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let count = count.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &count));
            }
        });
        Echo { url, asked }
    }
}

fn serve(mut stream: TcpStream, count: &AtomicUsize) {
    while let Some(head) = request(&mut stream) {
        let told = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: "))
            .or(head
                .lines()
                .find_map(|line| line.strip_prefix("Authorization: ")))
            .unwrap_or("nobody")
            .to_owned();
        let quoted = serde_json::Value::from(told.as_str()).to_string();
        let (status, kind, body) = if head.starts_with("GET /v1/models") {
            let body = format!("{{\"data\": [{{\"id\": \"m\", \"owner\": {quoted}}}]}}");
            (200, "application/json", body)
        } else if head.starts_with("GET /version") {
            (
                200,
                "application/json",
                format!("{{\"version\": {quoted}}}"),
            )
        } else if head.starts_with("GET") {
            (404, "text/plain", format!("{told} may not see this"))
        } else {
            assert_eq!(told, format!("Bearer {SECRET}"));
            answer(count.fetch_add(1, Ordering::Relaxed), &told, &quoted)
        };
        let answered = write!(
            stream,
            "HTTP/1.1 {status} told\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nx-told: {told}\r\n\r\n{body}",
            body.len()
        );
        if answered.is_err() {
            return;
        }
    }
}

fn answer(number: usize, told: &str, quoted: &str) -> (u16, &'static str, String) {
    let event = |data: String| format!("data: {data}\n\n");
    let begin = event("{\"choices\": [{\"delta\": {\"content\": \"yes\"}}]}".to_owned());
    match number % 6 {
        0 => (500, "text/plain", format!("no, {told}, not today")),
        // Only so much of a body is kept: it is cut in the middle of the secret.
        1 => {
            let before = 2048 - "Bearer ".len() - SECRET.len() / 2;
            (429, "text/plain", format!("{}{told}", "x".repeat(before)))
        }
        2 => (
            401,
            "application/json",
            format!("{{\"error\": {{\"message\": {quoted}}}}}"),
        ),
        3 => {
            let error = event(format!("{{\"error\": {{\"message\": {quoted}}}}}"));
            (200, "text/event-stream", format!("{begin}{error}"))
        }
        4 => {
            let end = event(format!(
                "{{\"choices\": [{{\"delta\": {{}}, \"finish_reason\": {quoted}}}]}}"
            ));
            (
                200,
                "text/event-stream",
                format!("{begin}{end}data: [DONE]\n\n"),
            )
        }
        _ => (200, "text/event-stream", format!("{begin}data: {told}\n\n")),
    }
}

/// The head of the next request; its body is read, too.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        (stream.read(&mut byte).ok()? > 0).then_some(())?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")
            .map(str::to_owned)
    });
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

fn clean(what: &str, bytes: &[u8]) {
    for piece in PIECES {
        let at = bytes
            .windows(piece.len())
            .position(|some| some == piece.as_bytes());
        if let Some(at) = at {
            let around = &bytes[at.saturating_sub(60)..bytes.len().min(at + piece.len() + 20)];
            panic!("{what} has {piece}: {}", String::from_utf8_lossy(around));
        }
    }
}

fn silent(what: &str, ended: &Ended) {
    clean(&format!("the output of {what}"), ended.out.as_bytes());
    clean(&format!("the talk of {what}"), ended.err.as_bytes());
}

fn scenario(url: &str) -> String {
    format!(
        "version: 1\nname: trial\nsecrets: {{ token: {{ env: ECHO_TOKEN }} }}\nvars: {{ note: {{ default: none, env: NOTE }} }}\n\
         description: \"${{{{ vars.note }}}}\"\n\
         backends:\n  echo:\n    kind: openai\n    url: {url}\n    auth: {{ bearer: \"${{{{ secrets.token }}}}\" }}\n    \
         up: [sh, -c, \"env > up.env; tr '\\\\0' '\\\\n' < /proc/$$/cmdline > up.cmdline; cat /proc/[0-9]*/cmdline > all.cmdline 2>/dev/null; true\"]\n    \
         down: [sh, -c, \"env > down.env\"]\n\
         models: {{ m: m }}\nload: {{ l: {{ levels: {{ users: 2, requests: 24 }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\nslos: {{ ttft: P50 TTFT < 9s, errors: error rate < 99% }}\n{CALM}"
    )
}

#[test]
fn a_secret_is_in_no_file_and_no_message_also_when_the_server_says_it_again() {
    let echo = Echo::start();
    let desk = Desk::new();
    let variables = [("ECHO_TOKEN", SECRET), ("RUST_BACKTRACE", "1")];
    let ended = desk
        .start_run(
            &scenario(&echo.url),
            &[
                "--record-events",
                "-v",
                "--progress",
                "json",
                "--summary-md",
                "s.md",
            ],
            &variables,
        )
        .end();
    assert!(
        echo.asked.load(Ordering::Relaxed) >= 24,
        "{}\n{}",
        ended.out,
        ended.err
    );
    silent("run", &ended);
    let report = ended.report();
    assert_eq!(report["cells"].as_array().unwrap().len(), 1);
    for words in [
        &["check", "trial.yaml"][..],
        &["check", "trial.yaml", "--format", "json"],
        &[
            "check",
            "trial.yaml",
            "--set",
            "backends.echo.auth.bearer=none",
        ],
        &["plan", "trial.yaml"],
        &["show", "trial.yaml", "--resolved", "--origin"],
        &["inputs", "trial.yaml"],
        &["report", "results"],
        &["compare", "results", "results", "-v"],
    ] {
        // A variable that happens to have the same value shows it no more.
        let also = [variables[0], ("NOTE", SECRET)];
        silent(words[0], &desk.start(words, &also).end());
    }
    let files = files(&desk.path(""));
    let names: BTreeSet<String> = files
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    for name in [
        "report.json",
        "report.html",
        "junit.xml",
        "requests.csv",
        "requests.ndjson",
        "summary.md",
        "s.md",
        "engine-echo.log",
        "up.env",
        "down.env",
        "up.cmdline",
        "all.cmdline",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    for path in &files {
        clean(&path.display().to_string(), &content(path));
    }
    // What the server said is there, with the mask in its place.
    let text = std::fs::read_to_string(desk.path("results/requests.ndjson")).unwrap();
    assert!(text.contains("no, ***, not today"), "{text}");
    let requests = ended.requests();
    assert!(requests.footer.is_some());
    assert!(requests.rows.len() >= 24);
}

#[test]
fn an_engine_gets_a_secret_only_where_it_is_asked_to_and_its_log_keeps_none() {
    let desk = Desk::new();
    let tool = env!("CARGO_BIN_EXE_scenario");
    let text = format!(
        "version: 1\nname: trial\nsecrets: {{ one: {{ env: ONE_TOKEN }}, two: {{ env: TWO_TOKEN }} }}\n\
         backends:\n  engine:\n    kind: openai\n    launch:\n      command: [sh, -c, \"env > engine.env; echo the key is $ENGINE_KEY; exec {tool} mock --port {{port}}\"]\n      \
         env: {{ ENGINE_KEY: {{ env: TWO_TOKEN }} }}\n\
         models: {{ m: m }}\nload: {{ l: {{ levels: {{ users: 1, requests: 3 }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    let two = "tk-the-second-9876543210";
    let ended = desk
        .start_run(&text, &[], &[("ONE_TOKEN", SECRET), ("TWO_TOKEN", two)])
        .end()
        .with_code(0);
    silent("run", &ended);
    let given = std::fs::read_to_string(desk.path("engine.env")).unwrap();
    assert!(given.contains(&format!("ENGINE_KEY={two}\n")), "{given}");
    assert!(
        !given.contains("ONE_TOKEN") && !given.contains("TWO_TOKEN"),
        "{given}"
    );
    for path in files(&desk.path("results")) {
        let bytes = content(&path);
        clean(&path.display().to_string(), &bytes);
        assert!(
            !String::from_utf8_lossy(&bytes).contains(two),
            "{}",
            path.display()
        );
    }
    let log = std::fs::read_to_string(desk.path("results/engine-engine.log")).unwrap();
    assert!(log.contains("the key is ***\n"), "{log}");
}
