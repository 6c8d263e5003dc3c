//! The scribe: a small process of this program between a command and its log, so that no secret ever lies in the file, whoever reads
//! it when, and whatever ends the runner.
//!
//! `scenario __scribe` reads from its standard input how long the list of secrets is, the list, and then all that the command writes;
//! it writes that without secrets to its standard output, which is the log. It reads on where the log takes nothing more (a full
//! disk), so no engine ever waits for its log, and it ends when nobody is left who could write.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::guard::{SCRIBE, ours};
use crate::secret::{Masker, Secret};

/// Between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What is read at once.
const PIECE: usize = 64 << 10;

/// A scribe at work.
#[derive(Debug)]
pub(super) struct Scribe {
    process: Child,
}

impl Scribe {
    /// Starts one that writes to this log; what is written to the pipe is hidden first.
    pub(super) fn start(
        program: &Path,
        log: File,
        secrets: &[Secret],
    ) -> io::Result<(Scribe, PipeWriter)> {
        let (reading, mut writing) = io::pipe()?;
        // Its own group: what is typed at the terminal ends the runner, and the end of all writers ends the scribe.
        let process = ours(program, SCRIBE)
            .env_clear()
            .process_group(0)
            .stdin(reading)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()?;
        // Not by its arguments, which everybody can read.
        let secrets: Vec<&str> = secrets.iter().map(Secret::reveal).collect();
        let secrets = serde_json::to_vec(&secrets)?;
        writing.write_all(&(secrets.len() as u64).to_le_bytes())?;
        writing.write_all(&secrets)?;
        Ok((Scribe { process }, writing))
    }

    /// Waits until everything is in the log; no longer than this, for something in the background may go on writing.
    pub(super) fn finish(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while let Ok(None) = self.process.try_wait()
            && Instant::now() < until
        {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// This program as a scribe; gives the exit code.
pub(super) fn scribe() -> u8 {
    let log = io::stdout().as_fd().try_clone_to_owned();
    let done = log.and_then(|log| copy(io::stdin().lock(), File::from(log)));
    u8::from(done.is_err())
}

/// Copies what follows the list of secrets, without them.
fn copy(mut from: impl Read, to: impl Write) -> io::Result<()> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut secrets = Vec::new();
    from.by_ref()
        .take(u64::from_le_bytes(length))
        .read_to_end(&mut secrets)?;
    let secrets: Vec<String> = serde_json::from_slice(&secrets)?;
    let masker = Masker::default();
    for secret in secrets {
        masker.learn(&Secret::new(secret));
    }
    let mut hidden = masker.over(Tolerant(to));
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return hidden.flush(),
            Ok(read) => hidden.write_all(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A writer that goes on where the other one fails.
struct Tolerant<W>(W);

impl<W: Write> Write for Tolerant<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(secrets: &[&str], text: &str) -> Vec<u8> {
        let secrets = serde_json::to_vec(secrets).unwrap();
        let mut all = (secrets.len() as u64).to_le_bytes().to_vec();
        all.extend(secrets);
        all.extend(text.as_bytes());
        all
    }

    /// Gives one byte at a time.
    struct Slow<'b>(&'b [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let one = self.0.len().min(1).min(into.len());
            self.0.read(&mut into[..one])
        }
    }

    #[test]
    fn secrets_are_hidden_however_the_text_comes() {
        let told = told(&["sk-0123", "a\"b\nc-d"], "key sk-0123, a\"b\nc-d.\nend");
        for slow in [false, true] {
            let mut log = Vec::new();
            match slow {
                true => copy(Slow(&told), &mut log).unwrap(),
                false => copy(told.as_slice(), &mut log).unwrap(),
            }
            assert_eq!(String::from_utf8(log).unwrap(), "key ***, ***.\nend");
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_is_no_reason_to_stop_reading() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let told = told(&["secret"], &"many lines\n".repeat(100_000));
        let mut rest = told.as_slice();
        copy(&mut rest, Full).unwrap();
        assert!(rest.is_empty());
    }
}
