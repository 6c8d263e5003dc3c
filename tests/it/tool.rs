//! The tool as its users meet it: the real binary, its files and its exit code, and the mock engine beside it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenario::report::ndjson::{self, RequestFile};
use serde_json::Value;

/// No test waits longer for anything; a healthy machine needs a fraction of it.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at something that tells nobody when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Guards that speak about the machine that runs the tests, which may be busy.
pub(crate) const CALM: &str = "guards: { send_lag: off, missed: off, client: off, stamps: off, concurrency: off, cache_hits: off }\n";

/// A scenario against the fast simulator with four-token answers; `load` is its only load, `more` are further keys.
pub(crate) fn on_the_simulator(load: &str, more: &str) -> String {
    scenario("{ kind: simulator, preset: fast }", load, more)
}

/// A scenario against one backend `engine` with four-token answers and no warm-up.
pub(crate) fn scenario(engine: &str, load: &str, more: &str) -> String {
    let request = if more.contains("request:") {
        ""
    } else {
        "request: { max_tokens: 4 }\n"
    };
    let run = if more.contains("run:") {
        ""
    } else {
        "run: { warmup: 0s, cooldown: 0s }\n"
    };
    format!(
        "version: 1\nname: trial\nbackends: {{ engine: {engine} }}\nmodels: {{ m: any }}\nload: {{ l: {load} }}\n{request}{run}{CALM}{more}"
    )
}

/// A folder of one test; gone when nothing of it is looked at any more.
pub(crate) struct Desk(Arc<tempfile::TempDir>);

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The tool with these words, in this folder, to its end.
    pub(crate) fn tool<S: AsRef<OsStr>>(&self, words: &[S]) -> Ended {
        self.start(words, &[]).end()
    }

    /// `scenario run` of this text to its end; results go to `results`.
    pub(crate) fn run(&self, text: &str, more: &[&str]) -> Ended {
        self.start_run(text, more, &[]).end()
    }

    /// The same with environment variables, and not waited for.
    pub(crate) fn start_run(
        &self,
        text: &str,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Running {
        self.write("trial.yaml", text);
        let mut words = vec!["run", "trial.yaml", "--out", "results"];
        words.extend(more);
        self.start(&words, variables)
    }

    pub(crate) fn start<S: AsRef<OsStr>>(
        &self,
        words: &[S],
        variables: &[(&str, &str)],
    ) -> Running {
        let mut command = tool();
        command.args(words).envs(variables.iter().copied());
        self.spawn(command)
    }

    /// `scenario run` of this text on one core, not waited for.
    pub(crate) fn start_on_core(&self, core: &str, text: &str, more: &[&str]) -> Running {
        self.write("trial.yaml", text);
        let mut command = tool_on_core(core);
        command
            .args(["run", "trial.yaml", "--out", "results"])
            .args(more);
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Running {
        let mut child = command
            .current_dir(self.0.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running {
            out: whole(child.stdout.take().unwrap()),
            err: whole(child.stderr.take().unwrap()),
            child,
            desk: self.0.clone(),
        }
    }
}

/// The binary under a quiet environment.
fn tool() -> Command {
    quiet(Command::new(env!("CARGO_BIN_EXE_scenario")))
}

/// The same on one core.
fn tool_on_core(core: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core, env!("CARGO_BIN_EXE_scenario")]);
    quiet(command)
}

fn quiet(mut command: Command) -> Command {
    // What a self-test of this machine has found says nothing here.
    command
        .env("COLUMNS", "120")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null());
    for variable in [
        "CI",
        "GITHUB_ACTIONS",
        "GITHUB_STEP_SUMMARY",
        "NO_COLOR",
        "SCENARIO_MOCK_API_KEY",
        "SCENARIO_RECORDED_GPU",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Everything that a pipe gives, when it has ended.
fn whole(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (told, heard) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        let _ = told.send(text);
    });
    heard
}

/// The tool at work.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    desk: Arc<tempfile::TempDir>,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The same again and again.
    pub(crate) fn signal_until_it_ends(&mut self, signal: Signal) {
        until("the tool ends", || {
            let ended = self.child.try_wait().unwrap().is_some();
            if !ended {
                self.signal(signal);
            }
            ended
        });
    }

    /// Waits until `requests.ndjson` holds so many requests.
    pub(crate) fn until_requests(&self, count: usize) {
        let path = self.desk.path().join("results/requests.ndjson");
        until("requests.ndjson grows", || lines(&path) > count);
    }

    pub(crate) fn end(mut self) -> Ended {
        let wait = |pipe: &Receiver<String>, child: &mut Child| match pipe.recv_timeout(PATIENCE) {
            Ok(text) => text,
            Err(_) => {
                let _ = child.kill();
                panic!("the tool did not end in {PATIENCE:?}");
            }
        };
        let out = wait(&self.out, &mut self.child);
        let err = wait(&self.err, &mut self.child);
        let status = self.child.wait().unwrap();
        Ended {
            code: status.code(),
            out,
            err,
            results: self.desk.path().join("results"),
            _desk: self.desk.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of the tool left behind.
pub(crate) struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) results: PathBuf,
    _desk: Arc<tempfile::TempDir>,
}

impl Ended {
    /// The same, if it ended with this code.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Ended {
        assert_eq!(
            self.code,
            Some(code),
            "standard output:\n{}\nstandard error:\n{}",
            self.out,
            self.err
        );
        self
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.results.join(name)).unwrap()
    }

    /// `report.json`, held to its schema.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        report(&self.results.join("report.json"))
    }

    pub(crate) fn requests(&self) -> RequestFile {
        ndjson::read(&self.text("requests.ndjson")).unwrap()
    }
}

/// A report, held to the schema that is checked in.
#[track_caller]
pub(crate) fn report(path: &Path) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = std::fs::read_to_string(root.join("schemas/report.v1.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let report = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let errors: Vec<String> = schema
        .iter_errors(&report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    report
}

/// The verdict with this name, like `ttft[p95] @c2`.
#[track_caller]
pub(crate) fn verdict<'a>(report: &'a Value, name: &str) -> &'a Value {
    let verdicts = report["verdicts"].as_array().unwrap();
    let names: Vec<&Value> = verdicts.iter().map(|verdict| &verdict["name"]).collect();
    verdicts
        .iter()
        .find(|verdict| verdict["name"] == name)
        .unwrap_or_else(|| panic!("no verdict `{name}` among {names:?}"))
}

/// The numbers of the stage with this name in the first cell.
#[track_caller]
pub(crate) fn numbers<'a>(report: &'a Value, stage: &str) -> &'a Value {
    let stages = report["cells"][0]["stages"].as_array().unwrap();
    let stage = stages.iter().find(|found| found["name"] == stage);
    &stage.expect("the stage is reported")["numbers"]
}

/// Looks until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |text| text.iter().filter(|&&byte| byte == b'\n').count())
}

/// `scenario mock` on a free port; ended with the test.
pub(crate) struct Mock {
    child: Child,
    /// `http://127.0.0.1:PORT/v1`.
    pub(crate) url: String,
    _out: BufReader<ChildStdout>,
}

impl Mock {
    pub(crate) fn start(words: &[&str]) -> Mock {
        Mock::spawn(tool(), words)
    }

    /// The same on one core.
    pub(crate) fn start_on_core(core: &str, words: &[&str]) -> Mock {
        Mock::spawn(tool_on_core(core), words)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn spawn(mut command: Command, words: &[&str]) -> Mock {
        let mut child = command
            .args(["mock", "--port", "0"])
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.split(' ').find(|word| word.starts_with("http://"));
        Mock {
            url: url.expect("the first line tells the URL").to_owned(),
            child,
            _out: out,
        }
    }

    pub(crate) fn address(&self) -> &str {
        self.url
            .trim_start_matches("http://")
            .trim_end_matches("/v1")
    }

    /// Ends it as a user does; its exit code.
    pub(crate) fn ctrl_c(mut self) -> Option<i32> {
        self.signal(Signal::SIGINT);
        self.child.wait().unwrap().code()
    }

    /// Answers that the engine says it has finished.
    pub(crate) fn finished(&self) -> u64 {
        let page = get(self.address(), "/metrics");
        let counts = page
            .lines()
            .filter(|line| line.starts_with("vllm:request_success_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        counts.sum::<f64>() as u64
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to a request of a page.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A port that counts who knocks and answers nobody.
pub(crate) struct Doorbell {
    pub(crate) url: String,
    rung: Arc<AtomicUsize>,
}

impl Doorbell {
    pub(crate) fn new() -> Doorbell {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let rung = Arc::new(AtomicUsize::new(0));
        let counted = rung.clone();
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Doorbell { url, rung }
    }

    pub(crate) fn rung(&self) -> usize {
        self.rung.load(Ordering::SeqCst)
    }
}

/// What a file says: what is compressed, as it was before.
pub(crate) fn content(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|ending| ending == "zst") {
        return zstd::decode_all(bytes.as_slice()).unwrap();
    }
    bytes
}

/// The address of a port where nobody listens.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The URL of a port where nobody listens.
pub(crate) fn nobody() -> String {
    format!("http://{}/v1", free_address())
}
