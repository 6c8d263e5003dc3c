//! What a job of GitHub Actions shows by itself: a summary on its page, and annotations on the lines of files.

use std::path::Path;

use super::console::Console;
use super::run::append;
use crate::diagnostic::{self, Diagnostic, Sources};
use crate::report::{Report, View, github, markdown};

/// Shows a report, where a job of GitHub Actions has made it.
pub(super) fn show(report: &Report, view: &View, console: &Console) {
    if let Some(page) = variable("GITHUB_STEP_SUMMARY") {
        let text = markdown::render(report, view);
        // A page that cannot be written ends no run.
        if let Err(error) = append(Path::new(&page), &console.masker.text(&text)) {
            console.talk(&format!("cannot write the step summary `{page}`: {error}"));
        }
    }
    if is_here() {
        talk(&github::annotations(report), console);
    }
}

/// The same of what is wrong with a file.
pub(super) fn show_mistakes(found: &[Diagnostic], sources: &Sources, console: &Console) {
    if is_here() {
        talk(&diagnostic::github::annotations(found, sources), console);
    }
}

/// On standard error: the job's runner reads commands there, too, and data stays data.
fn talk(annotations: &str, console: &Console) {
    annotations.lines().for_each(|line| console.talk(line));
}

fn is_here() -> bool {
    variable("GITHUB_ACTIONS").as_deref() == Some("true")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
