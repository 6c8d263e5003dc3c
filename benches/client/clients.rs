//! Clients as processes of their own on the last core, with what the system says that they used.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use super::server::SCENARIO;

/// What a process used from its start to its end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Used {
    /// CPU time in its own code, seconds.
    pub(crate) user: f64,
    /// CPU time in the kernel, seconds.
    pub(crate) system: f64,
    /// The most memory that it had resident, MiB.
    pub(crate) memory: f64,
    /// From its start to its end, seconds.
    pub(crate) wall: f64,
    /// Whether it ended well.
    pub(crate) ok: bool,
}

/// Runs a command as the only child, so that what the system says of children is said of it; `measure COMMAND…` of this bench.
pub(crate) fn measure(command: &[&str]) -> ExitCode {
    let began = std::time::Instant::now();
    let status = Command::new(command[0])
        .args(&command[1..])
        .status()
        .expect("the command can be started");
    let wall = began.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system tells usage");
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let used = Used {
        user: seconds(usage.user_time()),
        system: seconds(usage.system_time()),
        memory: usage.max_rss() as f64 / 1024.0,
        wall,
        ok: status.success(),
    };
    println!("\nused {}", serde_json::to_string(&used).expect("numbers"));
    ExitCode::SUCCESS
}

/// Runs a command on the client's core: what it used, and what it printed.
pub(crate) fn run(command: &[String]) -> (Used, String) {
    let output = Command::new("taskset")
        .args(["-c", &client_core()])
        .arg(std::env::current_exe().expect("this bench"))
        .arg("measure")
        .args(command)
        .stderr(Stdio::piped())
        .output()
        .expect("taskset can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (printed, used) = text.rsplit_once("\nused ").unwrap_or_else(|| {
        panic!(
            "{command:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let used: Used = serde_json::from_str(used.trim()).expect("usage");
    assert!(
        used.ok,
        "{command:?}: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (used, printed.to_owned())
}

fn client_core() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores - 1).to_string()
}

/// Closed-loop streams: so many at once, each asking so often for so many events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub(crate) streams: usize,
    pub(crate) requests: usize,
    pub(crate) events: usize,
}

impl Streams {
    /// Events of all answers.
    pub(crate) fn all_events(self) -> f64 {
        (self.streams * self.requests * self.events) as f64
    }
}

/// The floor client on such a load.
pub(crate) fn floor(address: &str, load: Streams) -> Used {
    let bench = std::env::current_exe()
        .expect("this bench")
        .display()
        .to_string();
    let words = [load.streams, load.requests, load.events].map(|number| number.to_string());
    let mut command = vec![bench, "floor".to_owned(), address.to_owned()];
    command.extend(words);
    run(&command).0
}

/// What `scenario run` wrote.
pub(crate) struct Written {
    folder: PathBuf,
}

impl Written {
    /// The report.
    pub(crate) fn report(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.folder.join("report.json")).expect("a report");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The requests, without the first and the last line.
    pub(crate) fn requests(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.join("requests.ndjson")).expect("requests");
        text.lines()
            .skip(1)
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .filter(|line: &serde_json::Value| line.get("complete").is_none())
            .collect()
    }
}

/// `scenario run` of a file with this load.
pub(crate) fn scenario(
    folder: &Path,
    address: &str,
    load: &str,
    events: usize,
    flags: &[&str],
) -> (Used, Written) {
    let file = folder.join("bench.yaml");
    let out = folder.join("out");
    let _ = std::fs::remove_dir_all(&out);
    let text = format!(
        "version: 1
name: client-bench
backends: {{ truth: {{ url: \"http://{address}\", kind: openai }} }}
models: {{ truth: truth }}
prompts: {{ hello: {{ source: inline, prompts: [Hello], max_tokens: {events} }} }}
load: {{ bench: {load} }}
run: {{ warmup: 0s }}
"
    );
    std::fs::write(&file, text).expect("a folder of ours");
    let mut command: Vec<String> = [
        SCENARIO,
        "run",
        &file.display().to_string(),
        "--progress",
        "none",
        "--summary",
        "none",
        "--out",
        &out.display().to_string(),
    ]
    .map(str::to_owned)
    .into();
    command.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let (used, _) = run(&command);
    (used, Written { folder: out })
}

/// The load of closed-loop streams as YAML.
pub(crate) fn closed(load: Streams) -> String {
    format!(
        "{{ levels: {{ users: {}, requests_per_user: {}, allow_short: true, tail: drain }} }}",
        load.streams, load.requests
    )
}
