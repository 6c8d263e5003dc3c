//! The guard: a small process of this program between the runner and an engine, so that nothing survives the runner.
//!
//! `scenario __guard AFTER-WORDS… -- COMMAND…` starts the command in a process group of its own and holds it. Its standard input
//! is the lifeline: a byte is a signal to pass on to the group, the end of it means that the runner is gone (by whatever: an end,
//! a panic, `kill -9`). Then, and when the command ends, everything that descends from it is killed: the guard is the reaper of
//! its orphans, so a grandchild that has left the group or was put in the background is found, too. Its standard output tells
//! `started PID` and how the command ended; what the command writes goes to the guard's standard error, which is the log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

/// The word that makes this program a guard.
pub const GUARD: &str = "__guard";
/// The word that makes this program a guard which leaves alone what a command that has ended well has put in the background.
pub const LOOSE_GUARD: &str = "__loose_guard";
/// The word that makes this program become a command which dies with its guard.
pub const ENGINE: &str = "__engine";
/// The word that makes this program become a command which goes its own way.
pub const COMMAND: &str = "__command";
/// The word that makes this program write a log without secrets.
pub const SCRIBE: &str = "__scribe";
/// What stands between the words to run afterwards and the command.
pub(super) const SEPARATOR: &str = "--";

/// The program that runs, whatever has become of its file since it was started.
const ITSELF: &str = "/proc/self/exe";
/// How long what was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long the command that runs afterwards may take.
const AFTER_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at processes that have been killed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The program as a guard, as an engine or as a scribe, when its first word says so; gives the exit code.
pub fn stand_in(arguments: &[OsString]) -> Option<u8> {
    let (word, rest) = arguments.get(1..)?.split_first()?;
    match word.to_str()? {
        GUARD => Some(guard(rest, After::Clear)),
        LOOSE_GUARD => Some(guard(rest, After::Leave)),
        ENGINE => Some(become_engine(rest)),
        COMMAND => Some(become_command(rest)),
        SCRIBE => Some(super::scribe::scribe()),
        _ => None,
    }
}

/// A program of ours under one of these words.
pub(super) fn ours(program: &Path, word: &str) -> Command {
    let mut command = Command::new(program);
    command.arg0("scenario").arg(word);
    command
}

/// Becomes the command; dies when the guard does.
fn become_engine(words: &[OsString]) -> u8 {
    let [guard, command @ ..] = words else {
        return 2;
    };
    let guard = guard.to_str().and_then(|text| text.parse().ok());
    // The guard may have died between its fork and this line; then nobody would send the signal.
    if set_pdeathsig(Signal::SIGKILL).is_err() || guard != Some(getppid().as_raw()) {
        return 2;
    }
    become_command(command)
}

/// Becomes the command, with no signal held back: a mask would be inherited, and few programs think of one.
fn become_command(words: &[OsString]) -> u8 {
    let [program, arguments @ ..] = words else {
        return 2;
    };
    if SigSet::empty().thread_set_mask().is_err() {
        return 2;
    }
    let error = Command::new(program).args(arguments).exec();
    log(&format!(
        "cannot start `{}`: {error}",
        program.to_string_lossy()
    ));
    127
}

/// What becomes of the processes that a command leaves when it ends by itself, with exit code 0; after any other end they are killed.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// They are killed, too.
    Clear,
    /// They stay: an engine that was brought up, perhaps.
    Leave,
}

fn guard(words: &[OsString], after_end: After) -> u8 {
    let Some(gap) = words.iter().position(|word| word == SEPARATOR) else {
        return 2;
    };
    let (after, command) = (&words[..gap], &words[gap + 1..]);
    let held = hold(command, after_end);
    if let Some(code) = run_after(after).filter(|code| *code != 0) {
        tell(&format!("after {code}"));
    }
    match held {
        Ok(end) => {
            tell(&end);
            0
        }
        Err(error) => {
            tell(&format!("failed {error}"));
            1
        }
    }
}

/// Starts the command, passes signals on to it, and sees to it that nothing of it is left.
fn hold(command: &[OsString], after_end: After) -> std::io::Result<String> {
    set_child_subreaper(true)?;
    let mut heard = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        heard.add(signal);
    }
    heard.thread_block()?;
    let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let engine = match command {
        [] => None,
        words => Some(start(words)?),
    };
    tell(&format!("started {}", engine.map_or(0, Pid::as_raw)));
    let mut end = watch(engine, &signals);
    let came_up = matches!(end, Ok(Some(WaitStatus::Exited(_, 0))));
    if after_end == After::Clear || !came_up {
        if let Some(engine) = engine {
            let _ = killpg(engine, Signal::SIGKILL);
        }
        clear(engine, end.as_mut().unwrap_or(&mut None));
    }
    Ok(match end? {
        Some(WaitStatus::Exited(_, code)) => format!("exited {code}"),
        Some(WaitStatus::Signaled(_, signal, _)) => format!("signalled {}", signal as i32),
        _ => "gone".to_owned(),
    })
}

fn start(words: &[OsString]) -> std::io::Result<Pid> {
    let log = std::io::stderr().as_fd().try_clone_to_owned()?;
    let child = ours(Path::new(ITSELF), ENGINE)
        .arg(getpid().to_string())
        .args(words)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .spawn()?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// Until the engine ends, or the runner; how the engine ended, if it did.
fn watch(engine: Option<Pid>, signals: &SignalFd) -> std::io::Result<Option<WaitStatus>> {
    let stdin = std::io::stdin();
    loop {
        let mut ready = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [input, signal] = ready.map(|fd| fd.any().unwrap_or(false));
        if signal {
            while let Some(told) = signals.read_signal()? {
                if told.ssi_signo != Signal::SIGCHLD as u32 {
                    return Ok(None);
                }
            }
            if let Some(ended) = reap(engine) {
                return Ok(Some(ended));
            }
        }
        if input {
            let mut order = [0];
            // Unbuffered: what is left in the pipe must wake the next poll.
            let read = nix::unistd::read(stdin.as_fd(), &mut order);
            match (read, engine) {
                (Ok(0), _) | (Err(_), _) => return Ok(None),
                (Ok(_), Some(engine)) => {
                    if let Ok(signal) = Signal::try_from(i32::from(order[0])) {
                        let _ = killpg(engine, signal);
                    }
                }
                (Ok(_), None) => {}
            }
        }
    }
}

/// Buries every child that has ended; tells of the engine.
fn reap(engine: Option<Pid>) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) => {
                if Some(pid) == engine {
                    ended = Some(status);
                }
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// Kills everything that descends from the guard until nothing is left.
fn clear(engine: Option<Pid>, end: &mut Option<WaitStatus>) {
    let began = Instant::now();
    loop {
        if let Some(ended) = reap(engine) {
            *end = Some(ended);
        }
        let left = descendants(getpid());
        if left.is_empty() || began.elapsed() > GONE_WITHIN {
            return;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Every process below this one.
pub(super) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
    let mut below = Vec::new();
    let mut above = vec![ancestor.as_raw()];
    while let Some(parent) = above.pop() {
        for (&child, &its_parent) in &parents {
            if its_parent == parent {
                below.push(Pid::from_raw(child));
                above.push(child);
            }
        }
    }
    below
}

/// Each process of the machine with its parent.
fn parents() -> BTreeMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in brackets may hold anything; the state and the parent follow it.
            let (_, rest) = stat.rsplit_once(')')?;
            Some((pid, rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
        })
        .collect()
}

/// The command that must run in every case, like the removal of a container; its exit code, if there is such a command.
fn run_after(words: &[OsString]) -> Option<i32> {
    const FAILED: i32 = -1;
    let (program, arguments) = words.split_first()?;
    let out = std::io::stderr().as_fd().try_clone_to_owned().ok()?;
    let program_name = program.to_string_lossy();
    let command = ours(Path::new(ITSELF), COMMAND)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::from(out))
        .spawn();
    let mut child = match command {
        Ok(child) => child,
        Err(error) => {
            log(&format!("cannot start `{program_name}`: {error}"));
            return Some(FAILED);
        }
    };
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code().unwrap_or(FAILED)),
            Ok(None) if began.elapsed() < AFTER_WITHIN => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => {
                log(&format!("`{program_name}` did not end in time"));
                let _ = child.kill();
                return Some(FAILED);
            }
        }
    }
}

/// A line to the runner; it may be gone.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A line to the log.
fn log(line: &str) {
    let _ = writeln!(std::io::stderr(), "scenario: {line}");
}
