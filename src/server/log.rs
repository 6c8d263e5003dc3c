//! The log of a command: everything that it writes goes there, and its last lines are quoted when it fails.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use super::process::CommandLine;
use super::scribe::Scribe;
use crate::secret::Masker;

/// At most this much of the log's end is looked at.
const TAIL_BYTES: u64 = 16 << 10;
/// At most this many lines are quoted.
const TAIL_LINES: usize = 12;
/// Longer lines are cut.
const LINE_CHARS: usize = 300;

/// A log to which a command is about to write.
pub(super) struct Log {
    /// Where the command writes: the file itself, or the pipe of the scribe that hides secrets on the way.
    pub(super) end: OwnedFd,
    /// The scribe, where there is something to hide.
    pub(super) scribe: Option<Scribe>,
    /// What is in the file before the command writes.
    pub(super) length: u64,
}

impl Log {
    /// Opens a log, which may hold what an earlier run wrote, and notes the command. `program` is this one.
    pub(super) fn open(path: &Path, command: &CommandLine, program: &Path) -> std::io::Result<Log> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let secrets = command.hidden();
        writeln!(file, "$ {}", command.masker().text(&command.text()))?;
        let length = file.metadata()?.len();
        if secrets.is_empty() {
            return Ok(Log {
                end: file.into(),
                scribe: None,
                length,
            });
        }
        let (scribe, writing) = Scribe::start(program, file, &secrets)?;
        Ok(Log {
            end: writing.into(),
            scribe: Some(scribe),
            length,
        })
    }
}

/// The last lines of a log from byte `from` on, without terminal escapes and secrets.
pub(super) fn tail(path: &Path, from: u64, masker: &Masker) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let bytes = masker.bytes(&bytes);
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text
        // A progress bar overwrites its line; its last state is enough.
        .lines()
        .map(|line| plain(line.rsplit('\r').next().unwrap_or(line)))
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec()
}

/// A line without escapes and control characters, and not too long.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => {
                // `ESC [ … letter`; anything else after ESC is one character.
                if characters.next() == Some('[') {
                    let _ = characters.find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    match out.char_indices().nth(LINE_CHARS) {
        Some((at, _)) => format!("{}…", &out[..at]),
        None => out.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_without_colours_and_progress_bars() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let old = "of an earlier run\n";
        let new = "\u{1b}[31mERROR\u{1b}[0m\tno memory\n\nloading 1%\rloading 99%\nthe end";
        std::fs::write(file.path(), format!("{old}{new}")).unwrap();
        assert_eq!(
            tail(file.path(), old.len() as u64, &Masker::default()),
            ["ERROR no memory", "loading 99%", "the end"]
        );
        let many: String = (0..40).map(|line| format!("{line}\n")).collect();
        std::fs::write(file.path(), many).unwrap();
        assert_eq!(tail(file.path(), 0, &Masker::default()).len(), TAIL_LINES);
        assert_eq!(
            tail(file.path(), 0, &Masker::default()).last().unwrap(),
            "39"
        );
        assert_eq!(
            tail(Path::new("/nowhere"), 0, &Masker::default()),
            Vec::<String>::new()
        );
    }
}
