//! What the process says to CI when it ends.

use std::process::ExitCode;

/// The exit codes, documented by `scenario help exit-codes`. Worst wins: 1 over 3 over 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every assertion of level `fail` passed, or there was none.
    Passed,
    /// An SLO failed, also when an `abort` rule stopped its cell.
    Failed,
    /// The command line or the scenario file is wrong; nothing was sent.
    Usage,
    /// Could not measure, or not keep what was measured: no SLO failed, but one could not be judged, or something could not be
    /// written or sent.
    Inconclusive,
    /// Interrupted by a signal (its number); every report was still written.
    Interrupted(u32),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Passed => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Inconclusive => 3,
            Exit::Interrupted(signal) => 128u8.saturating_add(signal.min(127) as u8),
        }
    }

    /// The worse of two, for several files on one command line.
    pub fn worse(self, other: Exit) -> Exit {
        let rank = |exit: Exit| match exit {
            Exit::Passed => 0,
            Exit::Inconclusive => 1,
            Exit::Failed => 2,
            Exit::Usage => 3,
            Exit::Interrupted(_) => 4,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// The text of `scenario help exit-codes`.
pub const EXIT_CODES: &str = "\
exit codes of `scenario run` and `scenario quick`

    0   every SLO of level `fail` passed (or there are none: status `measured`)
    1   an SLO failed, also when its `abort` rule stopped the cell
    2   the command line or the scenario file is wrong; nothing was sent
    3   could not measure: backend not ready, auth refused, no data, or a guard made a verdict inconclusive;
        or it was measured, and not everything could be written or sent where it was asked for
  130   interrupted by Ctrl-C; every report is still written, marked `interrupted` (a second Ctrl-C quits without them)
  143   ended by SIGTERM; likewise
  101   a bug in scenario itself

Worst wins: 1 over 3 over 0. `--inconclusive warn` turns 3 into 0 with a warning, where nothing is lost; `--exit-zero` turns
1 and 3 into 0, for report-only runs. `scenario check` exits with 0 or 2.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_outweighs_a_doubt_and_a_doubt_a_pass() {
        assert_eq!(Exit::Passed.worse(Exit::Inconclusive).code(), 3);
        assert_eq!(Exit::Inconclusive.worse(Exit::Failed).code(), 1);
        assert_eq!(Exit::Failed.worse(Exit::Passed).code(), 1);
        assert_eq!(Exit::Interrupted(2).code(), 130);
        assert_eq!(Exit::Interrupted(15).code(), 143);
    }
}
