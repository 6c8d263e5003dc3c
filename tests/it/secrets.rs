//! A secret of the environment is nowhere but in the requests that need it: not in a file, a log, a message, a process list, also
//! when the server says it again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::Signal;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;

use crate::golden::below;
use crate::tool::{self, CALM, Desk, Ended, content, free_address, until};

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

/// Every suite whose files can be written.
const SUITES: &str = "suite-000,suite-001,suite-002,suite-004";

/// A server that says again what it was told, in each way in which a server can.
struct Echo {
    url: String,
    /// Requests for an answer whose `Authorization` was right.
    asked: Arc<AtomicUsize>,
    /// Half of the requests wait for this.
    go_on: Arc<AtomicBool>,
}

/// So many answers come at once; the others when somebody has looked.
const AT_ONCE: usize = 12;

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let go_on = Arc::new(AtomicBool::new(false));
        let (count, may_go_on) = (asked.clone(), go_on.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (count, go_on) = (count.clone(), may_go_on.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &count, &go_on));
            }
        });
        Echo { url, asked, go_on }
    }
}

fn serve(mut stream: TcpStream, count: &AtomicUsize, go_on: &AtomicBool) {
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
            let number = count.fetch_add(1, Ordering::Relaxed);
            if number >= AT_ONCE {
                until("somebody looks", || go_on.load(Ordering::Relaxed));
            }
            answer(number, &told, &quoted)
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

fn scenario(url: &str, otlp: &str, prometheus: &str) -> String {
    format!(
        "version: 1\nname: trial\nsecrets: {{ token: {{ env: ECHO_TOKEN }} }}\nvars: {{ note: {{ default: none, env: NOTE }} }}\n\
         description: \"${{{{ vars.note }}}}\"\n\
         backends:\n  echo:\n    kind: openai\n    url: {url}\n    auth: {{ bearer: \"${{{{ secrets.token }}}}\" }}\n    \
         up: [sh, -c, \"env > up.env; tr '\\\\0' '\\\\n' < /proc/$$/cmdline > up.cmdline; cat /proc/[0-9]*/cmdline > all.cmdline 2>/dev/null; true\"]\n    \
         down: [sh, -c, \"env > down.env\"]\n\
         models: {{ m: m }}\nload: {{ l: {{ levels: {{ users: 2, requests: 24 }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\nslos: {{ ttft: P50 TTFT < 9s, errors: error rate < 99% }}\n\
         outputs:\n  - requests_parquet\n  - {{ format: otlp, url: \"{otlp}\", headers: {{ X-Key: {{ env: ECHO_TOKEN }} }} }}\n  \
         - {{ format: prometheus, url: \"{prometheus}\" }}\n\
         report: {{ plots: all, plot_format: svg }}\n{CALM}"
    )
}

/// A receiver of one request with numbers; it gives the body.
fn receiver() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(told) = line.to_lowercase().strip_prefix("content-length: ") {
                length = told.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut stream = reader.into_inner();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        tell.send(body).unwrap();
    });
    (url, told)
}

/// Programs in place of those of the system: each writes down what environment it got.
fn programs(desk: &Desk) -> String {
    let folder = desk.path("programs");
    std::fs::create_dir(&folder).unwrap();
    for name in ["nvidia-smi", "git", "xdg-open"] {
        let path = folder.join(name);
        let out = desk.path(&format!("{name}.env"));
        std::fs::write(
            &path,
            format!("#!/bin/sh\nenv > '{}'\nexit 1\n", out.display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// What an editor is told of a file.
fn edited(desk: &Desk, variables: &[(&str, &str)]) -> Vec<u8> {
    let mut server = Command::new(env!("CARGO_BIN_EXE_scenario"))
        .arg("lsp")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let path = desk.path("trial.yaml");
    let uri = format!("file://{}", path.display());
    // A mistake in what the variable gives is quoted.
    let text = std::fs::read_to_string(&path).unwrap();
    let text =
        text.replace("seed: 1", "") + "x-wrong: 1\nbaseline: \"${{ vars.note }}\"\ncosts: 1\n";
    let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
    let position =
        json!({ "textDocument": { "uri": uri }, "position": { "line": 4, "character": 20 } });
    let mut input = server.stdin.take().unwrap();
    for message in [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "capabilities": {} } }),
        json!({ "jsonrpc": "2.0", "method": "initialized", "params": {} }),
        json!({ "jsonrpc": "2.0", "method": "textDocument/didOpen", "params": { "textDocument": document } }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "textDocument/hover", "params": position }),
        json!({ "jsonrpc": "2.0", "id": 3, "method": "textDocument/completion", "params": position }),
        json!({ "jsonrpc": "2.0", "id": 4, "method": "shutdown" }),
        json!({ "jsonrpc": "2.0", "method": "exit" }),
    ] {
        let text = message.to_string();
        write!(input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        input.flush().unwrap();
    }
    let mut told = Vec::new();
    server
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut told)
        .unwrap();
    assert!(server.wait().unwrap().success());
    told
}

#[test]
fn a_secret_is_in_no_file_and_no_message_also_when_the_server_says_it_again() {
    let echo = Echo::start();
    let desk = Desk::new();
    let (otlp, numbers) = receiver();
    let (prometheus, series) = receiver();
    let (page, path) = (free_address(), programs(&desk));
    let variables = [
        ("ECHO_TOKEN", SECRET),
        ("RUST_BACKTRACE", "1"),
        ("PATH", path.as_str()),
    ];
    let running = desk.start_run(
        &scenario(&echo.url, &otlp, &prometheus),
        &[
            "--record-events",
            "-v",
            "--progress",
            "json",
            "--summary-md",
            "s.md",
            "--tap",
            "out.tap",
            "--compat",
            SUITES,
            "--dashboard",
            &page,
            "--metrics",
            &page,
            "--open",
        ],
        &variables,
    );
    // While it runs: the page, what it draws from, and the numbers for Prometheus.
    until("half of the requests are told", || {
        running.until_requests(AT_ONCE / 2);
        tool::get(&page, "/page").contains("200 OK")
    });
    let pages: Vec<String> = ["/", "/page", "/metrics"]
        .map(|path| tool::get(&page, path))
        .into();
    echo.go_on.store(true, Ordering::Relaxed);
    for page in &pages {
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
        clean("the dashboard", page.as_bytes());
    }
    let ended = running.end();
    assert!(
        echo.asked.load(Ordering::Relaxed) >= 24,
        "{}\n{}",
        ended.out,
        ended.err
    );
    silent("run", &ended);
    // What others got.
    let numbers = numbers.recv().unwrap();
    assert!(String::from_utf8_lossy(&numbers).contains("scenario.ttft"));
    clean("OTLP", &numbers);
    let series = snap::raw::Decoder::new()
        .decompress_vec(&series.recv().unwrap())
        .unwrap();
    assert!(String::from_utf8_lossy(&series).contains("scenario_ttft_ms"));
    clean("remote write", &series);
    let table = std::fs::File::open(desk.path("results/requests.parquet")).unwrap();
    let table = SerializedFileReader::new(table).unwrap();
    let rows: Vec<String> = table
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().to_json_value().to_string())
        .collect();
    assert!(
        rows.iter().any(|row| row.contains("no, ***, not today")),
        "{rows:?}"
    );
    clean("requests.parquet", rows.concat().as_bytes());
    let report = ended.report();
    assert_eq!(report["cells"].as_array().unwrap().len(), 1);
    desk.write("broken.yaml", "version: 1\nvars: { note: { env: NOTE } }\nsecrets: { token: { env: ECHO_TOKEN } }\nname: \"${{ vars.note }}\"\n");
    desk.write(
        "profiled.yaml",
        "version: 1\nvars: { note: { env: NOTE } }\nbackends: { sim: { kind: simulator } }\nmodels: { m: m }\n\
         load: { l: { levels: { users: 1, requests: 3 } } }\n\
         profiles: { prod: { secrets: { token: { env: ECHO_TOKEN } }, baseline: \"${{ vars.note }}\" } }\n",
    );
    // A variable that happens to have the same value shows it no more.
    let variables = [variables[0], variables[1], ("NOTE", SECRET)];
    for words in [
        &["check", "trial.yaml"][..],
        &["check", "trial.yaml", "--format", "json"],
        &["check", "trial.yaml", "--format", "sarif"],
        &["check", "trial.yaml", "--format", "github"],
        &["check", "broken.yaml"],
        &["check", "profiled.yaml"],
        &["check", "trial.yaml", "--live"],
        &[
            "check",
            "trial.yaml",
            "--set",
            "backends.echo.auth.bearer=none",
        ],
        &["explain", "S108"],
        &["plan", "trial.yaml"],
        &["plan", "trial.yaml", "--arrivals", "-"],
        &["show", "trial.yaml", "--resolved", "--origin"],
        &["inputs", "trial.yaml"],
        &["list", "trial.yaml"],
        &["diff", "trial.yaml", "broken.yaml"],
        &["fmt", "--check", "trial.yaml"],
        &["lock", "trial.yaml"],
        &["bundle", "trial.yaml", "-o", "trial.tar"],
        &["report", "results"],
        &["judge", "results", "trial.yaml", "--out", "judged"],
        &["plot", "results"],
        &["baseline", "save", "results", "baseline.json"],
        &["compare", "results", "results", "-v"],
    ] {
        silent(words[0], &desk.start(words, &variables).end());
    }
    clean("the language server", &edited(&desk, &variables));
    // Nobody waits for a browser.
    until("the browser was asked", || {
        desk.path("xdg-open.env").exists()
    });
    let files = below(&desk.path(""));
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
        "requests.parquet",
        "observations.ndjson.zst",
        "charts.json",
        "environment.json",
        "summary.md",
        "environment_info.json",
        "s.md",
        "out.tap",
        "engine-echo.log",
        "baseline.json",
        "up.env",
        "down.env",
        "up.cmdline",
        "all.cmdline",
        "nvidia-smi.env",
        "git.env",
        "xdg-open.env",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    for path in &files {
        clean(&path.display().to_string(), &content(path));
    }
    // What the server said is there, with the mask in its place.
    let text = std::fs::read_to_string(desk.path("results/requests.ndjson")).unwrap();
    assert!(text.contains("no, ***, not today"), "{text}");
    let seen = content(&desk.path("results/observations.ndjson.zst"));
    assert!(String::from_utf8_lossy(&seen).contains("no, ***, not today"));
    let requests = ended.requests();
    assert!(requests.footer.is_some());
    assert!(requests.rows.len() >= 24);
}

/// A secret of the file, and the token of the dashboard, as they were typed.
#[test]
fn a_command_that_holds_secrets_is_told_without_them() {
    let token = "geheim-12345";
    let more = "secrets: { key: { env: ONE_KEY } }\nslos: { ttft: P50 TTFT < 1us }\n";
    let text = tool::on_the_simulator("{ levels: { users: 1, requests: 3 } }", more);
    let set = format!("description={SECRET}");
    let typed = ["--set", &set, "--compat", SUITES];
    let asked = [typed.as_slice(), &["--token", token]].concat();
    let in_description = format!("vars: {{ note: {{ env: NOTE }} }}\n{text}").replace(
        "name: trial",
        "name: trial\ndescription: \"${{ vars.note }}\"",
    );
    for (text, words, variables) in [
        (&text, asked.as_slice(), [("ONE_KEY", SECRET), ("NOTE", "")]),
        (
            &in_description,
            &["--compat", SUITES],
            [("SCENARIO_TOKEN", token), ("NOTE", token)],
        ),
    ] {
        let desk = Desk::new();
        let ended = desk.start_run(text, words, &variables).end().with_code(1);
        silent("run", &ended);
        let files = below(&desk.path("results"));
        let is_told = |path: &&std::path::PathBuf| path.ends_with("environment_info.json");
        assert_eq!(files.iter().filter(is_told).count(), 1);
        for path in &files {
            let bytes = content(path);
            clean(&path.display().to_string(), &bytes);
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(token), "{}: {text}", path.display());
        }
        for told in [&ended.out, &ended.err] {
            assert!(!told.contains(token), "{told}");
        }
        let again = if words.contains(&"--set") {
            format!("scenario run trial.yaml --set 'description=***' --compat {SUITES}")
        } else {
            format!("scenario run trial.yaml --compat {SUITES}")
        };
        let verdict = &ended.report()["verdicts"][0];
        assert_eq!(verdict["rerun"], again, "{verdict:#}");
    }
}

/// In a debug build a run can be made to crash with the worst that a message could hold.
#[cfg(debug_assertions)]
#[test]
fn a_crash_of_the_tool_tells_no_secret() {
    let desk = Desk::new();
    let variables = [
        ("ECHO_TOKEN", SECRET),
        ("SCENARIO_CRASH_WITH", "ECHO_TOKEN"),
        ("RUST_BACKTRACE", "1"),
    ];
    let nowhere = tool::nobody();
    let text = scenario(&nowhere, &nowhere, &nowhere);
    let ended = desk.start_run(&text, &[], &variables).end().with_code(101);
    assert!(
        ended.err.contains("panicked at src/cli/crash.rs"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("ECHO_TOKEN is Ok(\"***\")"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("this is a bug of scenario"),
        "{}",
        ended.err
    );
    silent("a crash", &ended);
}

/// Whoever reads the log of an engine while it runs, and whatever ends the runner: no secret was ever in it.
#[test]
fn a_log_holds_no_secret_while_its_engine_runs_nor_when_the_runner_is_killed() {
    let desk = Desk::new();
    let tool = env!("CARGO_BIN_EXE_scenario");
    let text = format!(
        "version: 1\nname: trial\nsecrets: {{ key: {{ env: ONE_TOKEN }} }}\n\
         backends:\n  engine:\n    kind: openai\n    launch:\n      \
         command: [sh, -c, \"echo the key is $ENGINE_KEY; echo half of it is here: $(echo $ENGINE_KEY | head -c 9); {tool} mock --port {{port}}; true\"]\n      \
         env: {{ ENGINE_KEY: {{ env: ONE_TOKEN }} }}\n\
         models: {{ m: m }}\nload: {{ l: {{ stages: [{{ name: long, users: 1, for: 300s }}] }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    let key = "tk-the-only-one-9876543210";
    let log = desk.path("results/engine-engine.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut running = desk.start_run(&text, &[], &[("ONE_TOKEN", key)]);
    until("the engine has written", || {
        let text = read();
        assert!(!text.contains(key), "{text}");
        text.contains("the key is ***\n")
    });
    running.until_requests(1);
    // The scribe has no variables and no words of its own.
    let scribe = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let parent = format!("\t{}\n", running.id());
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let ours = status
                .lines()
                .any(|line| line.starts_with("PPid:") && format!("{line}\n").ends_with(&parent));
            (ours && words.windows(8).any(|some| some == b"__scribe")).then(|| entry.path())
        });
    let scribe = scribe.expect("a scribe");
    assert_eq!(std::fs::read(scribe.join("environ")).unwrap(), b"");
    assert_eq!(
        std::fs::read(scribe.join("cmdline")).unwrap(),
        b"scenario\0__scribe\0"
    );
    running.signal_until_it_ends(Signal::SIGKILL);
    until("the scribe ends", || {
        !std::fs::read(scribe.join("cmdline")).is_ok_and(|words| !words.is_empty())
    });
    let text = read();
    assert!(!text.contains(key), "{text}");
    assert!(text.contains("the key is ***\n"), "{text}");
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
    for path in below(&desk.path("results")) {
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
