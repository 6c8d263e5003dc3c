//! `scenario lsp` and `scenario fmt`, as an editor and a terminal use them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::tool::Desk;

const PATIENCE: Duration = Duration::from_secs(60);

const BASE: &str = "\
version: 1
backends:
  vllm: http://localhost:8000
  sglang: { kind: sglang, url: http://localhost:30000 }
load: { steady: { levels: { users: [4, 8], for: 60s } } }
";
const GATE: &str = "\
version: 1
backends: { vllm: http://localhost:8000 }
load: { ramp: { stages: [{ name: climb, users: 8, for: 60s }] } }
slos:
  ttft: P95 TTTF < 500ms
  tail: { assert: P99 TTFT < 2s, where: { stage: climb } }
";

/// An editor with the server beside it.
struct Editor {
    server: Child,
    input: ChildStdin,
    heard: Receiver<Value>,
    asked: i64,
    desk: Desk,
    /// The newest diagnostics of each file.
    wrong: BTreeMap<String, Value>,
}

impl Editor {
    fn start(desk: Desk) -> Editor {
        let mut server = Command::new(env!("CARGO_BIN_EXE_scenario"))
            .arg("lsp")
            .current_dir(desk.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = server.stdin.take().unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            while let Some(message) = message(&mut output) {
                if tell.send(message).is_err() {
                    break;
                }
            }
        });
        let mut editor = Editor {
            server,
            input,
            heard,
            asked: 0,
            desk,
            wrong: BTreeMap::new(),
        };
        let about = editor.ask("initialize", json!({ "capabilities": {} }));
        assert_eq!(about["serverInfo"]["name"], "scenario");
        assert_eq!(about["capabilities"]["hoverProvider"], true);
        editor.tell("initialized", json!({}));
        editor
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.hear();
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].clone();
            }
        }
    }

    fn hear(&mut self) -> Value {
        let message = self
            .heard
            .recv_timeout(PATIENCE)
            .expect("the server answers");
        if message["method"] == "textDocument/publishDiagnostics" {
            let uri = message["params"]["uri"].as_str().unwrap().to_owned();
            self.wrong
                .insert(uri, message["params"]["diagnostics"].clone());
        }
        message
    }

    fn path(&self, name: &str) -> PathBuf {
        self.desk.path(name).canonicalize().unwrap()
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// Opens a file with this text, and gives what is told to be wrong with it.
    fn open(&mut self, name: &str, text: &str) -> Value {
        self.desk.write(name, "# on the disk\n");
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.told(&uri)
    }

    fn change(&mut self, name: &str, text: &str) -> Value {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "version": 2 });
        self.tell(
            "textDocument/didChange",
            json!({ "textDocument": document, "contentChanges": [{ "text": text }] }),
        );
        self.told(&uri)
    }

    fn told(&mut self, uri: &str) -> Value {
        self.wrong.remove(uri);
        loop {
            self.hear();
            if let Some(told) = self.wrong.get(uri) {
                return told.clone();
            }
        }
    }

    /// A place in a file: behind the first `before`.
    fn behind(&self, name: &str, text: &str, before: &str) -> Value {
        let at = text.find(before).unwrap() + before.len();
        let line = text[..at].matches('\n').count();
        let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        json!({ "textDocument": { "uri": self.uri(name) }, "position": { "line": line, "character": column } })
    }

    fn labels(&mut self, place: Value) -> Vec<String> {
        let items = self.ask("textDocument/completion", place);
        let items = items.as_array().unwrap();
        items
            .iter()
            .map(|item| item["label"].as_str().unwrap().to_owned())
            .collect()
    }

    fn end(mut self) {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        let ended = self.server.wait().unwrap();
        assert_eq!(ended.code(), Some(0));
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The next message of the server.
fn message(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim() {
            "" => break,
            header => {
                if let Some(number) = header.strip_prefix("Content-Length: ") {
                    length = number.parse().ok()?;
                }
            }
        }
    }
    let mut text = vec![0; length];
    output.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[test]
fn an_editor_sees_mistakes_where_they_are_until_they_are_mended() {
    let mut editor = Editor::start(Desk::new());
    let told = editor.open("gate.yaml", GATE);
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["code"], "S031");
    assert_eq!(told[0]["severity"], 1);
    assert_eq!(
        told[0]["range"],
        json!({ "start": { "line": 4, "character": 12 }, "end": { "line": 4, "character": 16 } })
    );
    assert!(
        told[0]["message"]
            .as_str()
            .unwrap()
            .contains("did you mean `TTFT`"),
        "{told:?}"
    );

    let right = GATE.replace("TTTF", "TTFT");
    assert_eq!(editor.change("gate.yaml", &right), json!([]));
    let twice = right.replace("tail: {", "ttft: {");
    let told = editor.change("gate.yaml", &twice);
    assert_eq!(told[0]["code"], "S004");
    assert_eq!(
        told[0]["relatedInformation"][0]["location"]["range"]["start"]["line"],
        4
    );
    // Half a line is no reason to give up.
    let told = editor.change("gate.yaml", "version: 1\nbackends: { vllm: ");
    assert_eq!(told[0]["code"], "S001");
    editor.end();
}

/// What a team's file extends is read as the editor has it, saved or not.
#[test]
fn a_mistake_in_a_base_that_is_not_saved_is_seen_in_what_extends_it() {
    let desk = Desk::new();
    desk.write("base.yaml", BASE);
    let mut editor = Editor::start(desk);
    let team = "extends: base.yaml\nslos: { ttft: \"P95 TTFT{stage=c4} < 1s\" }\n";
    assert_eq!(editor.open("team.yaml", team), json!([]));
    editor.open("base.yaml", BASE);
    editor.change("base.yaml", &BASE.replace("[4, 8]", "[16, 32]"));
    let uri = editor.uri("team.yaml");
    let told = editor.told(&uri);
    assert_eq!(told[0]["code"], "S043", "{told}");
    editor.end();
}

#[test]
fn a_file_that_is_no_scenario_is_left_alone() {
    let mut editor = Editor::start(Desk::new());
    let told = editor.open(
        "compose.yaml",
        "version: \"3\"\nservices: { web: { image: nginx } }\n",
    );
    assert_eq!(told, json!([]));
    editor.end();
}

#[test]
fn an_editor_offers_keys_names_metrics_and_stages() {
    let mut editor = Editor::start(Desk::new());
    editor.open("gate.yaml", GATE);
    let text = GATE.replace("P95 TTTF < 500ms", "P95 tt");
    editor.change("gate.yaml", &text);
    let place = editor.behind("gate.yaml", &text, "P95 tt");
    let labels = editor.labels(place);
    assert!(
        labels.contains(&"ttft".to_owned()) && labels.contains(&"vllm".to_owned()),
        "{labels:?}"
    );
    let place = editor.behind("gate.yaml", &text, "stage: cl");
    assert_eq!(editor.labels(place), ["climb"]);
    let place = editor.behind("gate.yaml", &text, "{ ass");
    let labels = editor.labels(place);
    assert!(
        labels.contains(&"assert".to_owned()) && labels.contains(&"abort".to_owned()),
        "{labels:?}"
    );
    let place = editor.behind("gate.yaml", &text, "{ ass");
    let items = editor.ask("textDocument/completion", place);
    let abort = items
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["label"] == "abort")
        .unwrap();
    assert_eq!(abort["textEdit"]["newText"], "abort: ");
    assert_eq!(abort["textEdit"]["range"]["start"]["character"], 10);
    assert!(
        abort["documentation"]["value"].as_str().unwrap().len() > 10,
        "{abort}"
    );
    editor.end();
}

#[test]
fn a_word_is_explained_and_leads_to_where_it_is_defined() {
    let mut editor = Editor::start(Desk::new());
    editor.desk.write("base.yaml", BASE);
    let team = "extends: base.yaml\nmatrix: { backend: [sglang] }\nslos: { faster: sglang.output_tps >= 1.2 * vllm.output_tps }\n";
    editor.open("team.yaml", team);
    let place = editor.behind("team.yaml", team, "backend: [sg");
    let found = editor.ask("textDocument/definition", place);
    assert_eq!(found["uri"], editor.uri("base.yaml"));
    assert_eq!(
        found["range"]["start"],
        json!({ "line": 3, "character": 2 })
    );
    let place = editor.behind("team.yaml", team, "1.2 * vl");
    let found = editor.ask("textDocument/definition", place);
    assert_eq!(
        found["range"]["start"],
        json!({ "line": 2, "character": 2 })
    );
    let place = editor.behind("team.yaml", team, "extends: ba");
    let found = editor.ask("textDocument/definition", place);
    assert_eq!(found["uri"], editor.uri("base.yaml"));

    let place = editor.behind("team.yaml", team, "sglang.outp");
    let told = editor.ask("textDocument/hover", place);
    let about = told["contents"]["value"].as_str().unwrap();
    assert!(
        about.starts_with("**output_tps** (flow · tok/s)"),
        "{about}"
    );
    let place = editor.behind("team.yaml", team, "\nmat");
    let told = editor.ask("textDocument/hover", place);
    assert!(
        told["contents"]["value"]
            .as_str()
            .unwrap()
            .starts_with("Which combinations run"),
        "{told}"
    );
    editor.end();
}

#[test]
fn an_editor_lays_a_file_out() {
    let mut editor = Editor::start(Desk::new());
    let untidy = "version:  1\nbackends: {vllm: http://localhost:8000}\nload: {l: {levels: {users: 1, for: 60s}}}\n";
    editor.open("gate.yaml", untidy);
    let options = json!({ "tabSize": 2, "insertSpaces": true });
    let edits = editor.ask(
        "textDocument/formatting",
        json!({ "textDocument": { "uri": editor.uri("gate.yaml") }, "options": options }),
    );
    assert_eq!(
        edits[0]["newText"],
        "version: 1\nbackends: { vllm: http://localhost:8000 }\nload: { l: { levels: { users: 1, for: 60s } } }\n"
    );
    editor.end();
}

/// Every scenario of the project that is right.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "scenarios",
        "scenarios/studies",
        "fixtures/specs/valid",
        "fixtures/plans",
    ];
    let files = folders
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 20);
    files
}

#[test]
fn a_file_that_is_laid_out_says_the_same_and_stays_as_it_is() {
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let laid_out = scenario::language::layout(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            scenario::spec::say_the_same(&text, &laid_out),
            "{}",
            path.display()
        );
        assert_eq!(
            scenario::language::layout(&laid_out).unwrap(),
            laid_out,
            "{}",
            path.display()
        );
        let comments = |text: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.split_once('#'));
            lines
                .map(|(_, comment)| comment.trim().to_owned())
                .collect()
        };
        assert_eq!(comments(&text), comments(&laid_out), "{}", path.display());
    }
}

#[test]
fn the_scenarios_of_the_project_are_laid_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let folder = folder.to_str().unwrap();
    let ended = Desk::new().tool(&["fmt", "--check", folder]);
    assert_eq!(ended.with_code(0).out, "");
}

#[test]
fn files_are_laid_out_or_told_of() {
    let desk = Desk::new();
    let tidy = "version: 1 # the format\nbackends: { vllm: http://localhost:8000 }\n";
    desk.write(
        "tidy.yaml",
        &tidy.replace(" #", "                               #"),
    );
    desk.write("untidy.yaml", &tidy.replace("{ ", "{"));
    desk.write("broken.yaml", "a: [1\n");
    let ended = desk.tool(&["fmt", "--check", "untidy.yaml"]).with_code(1);
    assert_eq!(ended.out, "untidy.yaml: not in the canonical layout\n");
    desk.tool(&["fmt", "untidy.yaml", "tidy.yaml"]).with_code(0);
    let text = |name: &str| std::fs::read_to_string(desk.path(name)).unwrap();
    assert_eq!(
        text("untidy.yaml"),
        "version: 1  # the format\nbackends: { vllm: http://localhost:8000 }\n"
    );
    assert_eq!(text("tidy.yaml"), text("untidy.yaml"));
    desk.tool(&["fmt", "--check", "tidy.yaml", "untidy.yaml"])
        .with_code(0);
    let ended = desk.tool(&["fmt", "broken.yaml"]).with_code(2);
    assert!(
        ended.err.contains("`scenario check broken.yaml` tells"),
        "{}",
        ended.err
    );
}
