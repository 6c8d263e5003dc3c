//! A command that is held by a guard: started, watched, stopped, and its log.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::guard::{GUARD, LOOSE_GUARD, SEPARATOR, descendants, ours};
use super::log::{Log, tail};
use super::scribe::Scribe;
use crate::programs;
use crate::secret::{Masker, SHORTEST, Secret};
use crate::units::format_duration;

/// How long the log of what has ended may take to be whole.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// The same where something may go on in the background.
const ALMOST_WRITTEN_WITHIN: Duration = Duration::from_millis(200);

/// How long the guard may take to kill what is left and to run what must run afterwards.
const GUARD_WITHIN: Duration = Duration::from_secs(90);

/// What is started, and with what around it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments; empty: nothing is started, only `after` is kept ready.
    pub words: Vec<String>,
    /// Environment variables besides those of this process.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in; `None`: that of this process.
    pub cwd: Option<PathBuf>,
    /// A command that runs in every case when it has ended, also when this process is killed.
    pub after: Vec<String>,
    /// What it puts in the background stays when it has ended with exit code 0: it may have brought an engine up.
    pub leaves: bool,
    /// Environment variables of this process that it does not get, unless `env` has them: secrets of others.
    pub withheld: Vec<String>,
    /// What is hidden in its log besides the values of what is withheld: what it is given by name.
    pub secrets: Vec<Secret>,
}

impl std::fmt::Debug for CommandLine {
    /// As it could be typed: its variables may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl CommandLine {
    /// What its log must not show: also what it does not get, for a server says again what it was told.
    pub(super) fn hidden(&self) -> Vec<Secret> {
        let withheld = self
            .withheld
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .map(Secret::new);
        let mut all: Vec<Secret> = self.secrets.iter().cloned().chain(withheld).collect();
        all.retain(|secret| secret.reveal().len() >= SHORTEST);
        all
    }

    /// What hides it.
    pub(super) fn masker(&self) -> Masker {
        let masker = Masker::default();
        self.hidden().iter().for_each(|secret| masker.learn(secret));
        masker
    }

    /// Gives a child the environment that it may have.
    fn dress(&self, child: &mut Command) {
        for name in &self.withheld {
            child.env_remove(name);
        }
        child.envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    /// As it could be typed.
    pub fn text(&self) -> String {
        self.words
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// A word as a shell would want it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody knows: its guard was killed.
    Unknown,
}

impl End {
    /// In words that follow the command's name.
    pub fn text(&self) -> String {
        match self {
            End::Code(code) => format!("ended with exit code {code}"),
            End::Signal(9) => "was killed by SIGKILL (out of memory?)".to_owned(),
            End::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => format!("was ended by {signal}"),
                Err(_) => format!("was ended by signal {signal}"),
            },
            End::Unknown => "is gone, with the guard that held it".to_owned(),
        }
    }
}

/// A command under its guard. Dropped, it is killed with everything below it.
#[derive(Debug)]
pub struct Process {
    command: CommandLine,
    guard: Child,
    /// Its end tells the guard to kill.
    lifeline: Option<ChildStdin>,
    told: Receiver<String>,
    group: Option<Pid>,
    end: Option<End>,
    after_failed: Option<i32>,
    started: Instant,
    log: PathBuf,
    /// Bytes of the log that earlier runs wrote.
    log_from: u64,
    scribe: Option<Scribe>,
}

impl Process {
    /// Starts a command under the guard that `program` is, which is this program; what the command writes goes to `log`.
    ///
    /// # Errors
    /// Its program is not there, or the machine refuses the log or the guard: in words.
    pub fn start(program: &Path, command: CommandLine, log: &Path) -> Result<Process, String> {
        if let Some(cwd) = command.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            let cwd = cwd.display();
            return Err(format!("there is no folder `{cwd}`: correct `cwd`"));
        }
        if let Some(word) = command.words.first() {
            find_program(word, &command)?;
        }
        let writing = Log::open(log, &command, program)
            .map_err(|error| format!("cannot write the log `{}`: {error}", log.display()))?;
        let log_from = writing.length;
        let mut guard = ours(program, if command.leaves { LOOSE_GUARD } else { GUARD });
        guard
            .args(&command.after)
            .arg(SEPARATOR)
            .args(&command.words)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(writing.end);
        command.dress(&mut guard);
        if let Some(cwd) = &command.cwd {
            guard.current_dir(cwd);
        }
        let started = Instant::now();
        let spawned = guard.spawn();
        // Its end of the pipe to the log is the guard's alone.
        drop(guard);
        let mut guard = spawned
            .map_err(|error| format!("cannot start the guard of `{}`: {error}", command.text()))?;
        let lifeline = guard.stdin.take();
        let told = guard.stdout.take().map(lines);
        let mut process = Process {
            command,
            guard,
            lifeline,
            told: told.unwrap_or_else(|| channel().1),
            group: None,
            end: None,
            after_failed: None,
            started,
            log: log.to_owned(),
            log_from,
            scribe: writing.scribe,
        };
        match process.told.recv_timeout(GUARD_WITHIN) {
            Ok(line) if process.heard(&line) => Ok(process),
            Ok(line) => Err(format!("cannot start `{}`: {line}", process.command.text())),
            Err(_) => Err(format!(
                "cannot start `{}`: its guard says nothing",
                process.command.text()
            )),
        }
    }

    /// The command.
    pub fn command(&self) -> &CommandLine {
        &self.command
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines that it wrote, each on a line of its own, to stand behind a message about it.
    pub fn last_words(&mut self) -> String {
        if self.end.is_some() {
            self.finish_log();
        }
        let words = tail(&self.log, self.log_from, &self.command.masker());
        if words.is_empty() {
            return "; it wrote nothing".to_owned();
        }
        let lines: String = words.iter().map(|line| format!("\n| {line}")).collect();
        format!("; the end of its log, {}:{lines}", self.log.display())
    }

    /// Whether a process is this one or below it.
    pub fn owns(&self, pid: i32) -> bool {
        descendants(Pid::from_raw(self.guard.id() as i32))
            .iter()
            .any(|below| below.as_raw() == pid)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<&End> {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<&End> {
        let until = Instant::now() + within;
        while self.end.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(line) => drop(self.heard(&line)),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => self.guard_is_gone(),
            }
        }
        self.end.as_ref()
    }

    /// Sends a signal to all of its process group.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(lifeline) = &mut self.lifeline {
            // A guard that is gone is seen by the next look.
            let _ = lifeline.write_all(&[signal as i32 as u8]);
        }
    }

    /// Kills it and everything below it; comes back when nothing is left.
    pub fn kill(&mut self) -> &End {
        self.lifeline = None;
        self.wait(GUARD_WITHIN);
        let _ = self.guard.wait();
        self.finish_log();
        self.end.get_or_insert(End::Unknown)
    }

    /// Waits until what it wrote is in its log.
    fn finish_log(&mut self) {
        let within = if self.command.leaves {
            ALMOST_WRITTEN_WITHIN
        } else {
            WRITTEN_WITHIN
        };
        if let Some(scribe) = &mut self.scribe {
            scribe.finish(within);
        }
    }

    /// The exit code of the command that ran afterwards, if it failed.
    pub fn after_failed(&self) -> Option<i32> {
        self.after_failed
    }

    /// Takes in a line of the guard; `false` for one that tells of a failure.
    fn heard(&mut self, line: &str) -> bool {
        let (word, number) = line.split_once(' ').unwrap_or((line, ""));
        let number = number.parse::<i32>();
        match (word, number) {
            ("started", Ok(pid)) => self.group = (pid > 0).then(|| Pid::from_raw(pid)),
            ("exited", Ok(code)) => self.end = Some(End::Code(code)),
            ("signalled", Ok(signal)) => self.end = Some(End::Signal(signal)),
            ("after", Ok(code)) => self.after_failed = Some(code),
            ("gone", _) => self.end = Some(End::Unknown),
            _ => return false,
        }
        true
    }

    fn guard_is_gone(&mut self) {
        if let Some(group) = self.group {
            let _ = killpg(group, Signal::SIGKILL);
        }
        self.end = Some(End::Unknown);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The lines of a pipe, as they come.
fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (told, heard) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    heard
}

/// How long a program may take to say that it is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Whether a program runs with these words and ends well.
///
/// # Errors
/// It does not, in words.
pub fn answers(program: &str, words: &[&str]) -> Result<(), String> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let mut child = programs::asked(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let until = Instant::now() + ANSWERS_WITHIN;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("it ends with {status}")),
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                let limit = format_duration(ANSWERS_WITHIN);
                return Err(format!("no answer in {limit}"));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Whether the program is there, looked for as the system would.
pub(super) fn find_program(program: &str, command: &CommandLine) -> Result<(), String> {
    if program.contains('/') {
        let folder = command.cwd.clone().unwrap_or_default();
        let path = folder.join(program);
        return if is_program(&path) {
            Ok(())
        } else {
            Err(format!(
                "there is no program `{}`: give its path, or install it",
                path.display()
            ))
        };
    }
    let own = command
        .env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, path)| path.into());
    let path = own.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| is_program(&folder.join(program))) {
        return Ok(());
    }
    Err(format!(
        "`{program}` is not on the PATH: install it, or name where it is under `launch` (`python: VENV` or `command`)"
    ))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// Runs a command to its end, as one that brings something up. What one that ends well leaves in the background stays if it is
/// meant to; what is left of one that fails is cleared away.
///
/// # Errors
/// It cannot be started, does not end in time, or ends with anything but 0: in words, with its last ones.
pub fn run_to_end(
    program: &Path,
    command: CommandLine,
    log: &Path,
    within: Duration,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), String> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let text = command.text();
    let mut process = Process::start(program, command, log)?;
    let until = Instant::now() + within;
    let problem = loop {
        match process.wait(LOOK_EVERY) {
            Some(End::Code(0)) => return Ok(()),
            Some(end) => break end.text(),
            None if !go_on() => break "was stopped".to_owned(),
            None if Instant::now() > until => {
                break format!("has not ended after {}", format_duration(within));
            }
            None => {}
        }
    };
    process.kill();
    Err(format!("`{text}` {problem}{}", process.last_words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_could_be_typed() {
        let command = CommandLine {
            words: ["vllm", "serve", "--chat-template", "a b", "", "it's"]
                .map(str::to_owned)
                .to_vec(),
            ..CommandLine::default()
        };
        assert_eq!(
            command.text(),
            r"vllm serve --chat-template 'a b' '' 'it'\''s'"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_told_with_what_to_do() {
        let command = |word: &str, path: &str| CommandLine {
            words: vec![word.to_owned()],
            env: vec![("PATH".to_owned(), path.to_owned())],
            ..CommandLine::default()
        };
        let look = |word: &str, path: &str| find_program(word, &command(word, path));
        assert_eq!(look("sh", "/nowhere:/bin"), Ok(()));
        assert!(look("sh", "/nowhere").unwrap_err().contains("PATH"));
        assert_eq!(look("/bin/sh", ""), Ok(()));
        assert!(
            look("/bin/no-such-program", "")
                .unwrap_err()
                .contains("`/bin/no-such-program`")
        );
        // A folder and a text file are no programs.
        assert!(look("/bin", "").is_err());
        assert!(look("/proc/version", "").is_err());
    }
}
