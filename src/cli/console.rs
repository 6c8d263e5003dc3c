//! The terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use super::args::ColorChoice;
use crate::secret::{Masker, Secret};

/// Standard output and standard error, without secrets. A reader that has gone away is no error: its pipe ends, the run goes on.
#[derive(Clone, Debug)]
pub(super) struct Console {
    /// Whether standard output is coloured.
    pub(super) color: bool,
    /// Whether standard error is coloured.
    pub(super) color_errors: bool,
    /// What hides secrets in everything that is written.
    pub(super) masker: Masker,
}

impl Console {
    pub(super) fn new(choice: ColorChoice) -> Console {
        let wanted = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Console {
            color: wanted(std::io::stdout().is_terminal()),
            color_errors: wanted(std::io::stderr().is_terminal()),
            masker: Masker::default(),
        }
    }

    /// From now on hides the values of these environment variables, wherever they turn up.
    pub(super) fn hide(&self, variables: &[String]) {
        for value in variables.iter().filter_map(|name| std::env::var(name).ok()) {
            self.masker.learn(&Secret::new(value));
        }
    }

    /// The words of a command line without what they hold of a secret.
    pub(super) fn without_secrets(&self, words: &[String]) -> Vec<String> {
        let hidden = words.iter().map(|word| self.masker.text(word));
        hidden.map(Cow::into_owned).collect()
    }

    /// Data.
    pub(super) fn data(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let text = self.masker.text(text);
        let _ = out.write_all(text.as_bytes()).and_then(|()| {
            if text.ends_with('\n') {
                Ok(())
            } else {
                out.write_all(b"\n")
            }
        });
        let _ = out.flush();
    }

    /// Talk.
    pub(super) fn talk(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        let text = self.masker.text(text);
        let _ = out.write_all(text.as_bytes()).and_then(|()| {
            if text.ends_with('\n') {
                Ok(())
            } else {
                out.write_all(b"\n")
            }
        });
    }

    /// Columns of the terminal: those of the window, or 120 where there is none.
    pub(super) fn width(&self) -> usize {
        std::env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok())
            .or_else(window_width)
            .unwrap_or(120)
    }
}

fn window_width() -> Option<usize> {
    terminal_size::terminal_size()
        .map(|(width, _)| usize::from(width.0))
        .filter(|&width| width >= 40)
}
