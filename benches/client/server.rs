//! The truth server as a process of its own on the first core.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenario::selftest::truth::{TruthEntry, read_log};

/// The tool under test, as cargo built it for this bench.
pub(crate) const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// A running truth server.
pub(crate) struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    log: PathBuf,
}

impl Server {
    /// One with so many milliseconds before the first event and between events.
    pub(crate) fn start(folder: &Path, first_ms: u64, gap_ms: u64, spread: bool) -> Server {
        let log = folder.join("truth.ndjson");
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0", SCENARIO, "mock", "--port", "0", "--truth-log"])
            .arg(&log)
            .args([
                "--first",
                &format!("{first_ms}ms"),
                "--gap",
                &format!("{gap_ms}ms"),
            ])
            .stdout(Stdio::piped());
        if !spread {
            command.arg("--in-step");
        }
        let mut child = command
            .spawn()
            .expect("taskset and the tool can be started");
        let mut banner = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut banner)
            .expect("the server says where it listens");
        let address = banner
            .split_whitespace()
            .find_map(|word| word.strip_prefix("http://"))
            .unwrap_or_else(|| panic!("no address in {banner:?}"))
            .to_owned();
        Server {
            child,
            address,
            log,
        }
    }

    /// Ends it and reads its log.
    pub(crate) fn stop(mut self) -> Vec<TruthEntry> {
        let id = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(id, Signal::SIGTERM).expect("the server is ours");
        self.child.wait().expect("the server ends");
        read_log(&self.log).expect("a log")
    }
}
