//! `scenario check --live`: is everything there that a run needs?

use std::path::Path;

use super::console::Console;
use super::exit::Exit;
use crate::diagnostic::Diagnostic;
use crate::plan::Plan;
use crate::run::preflight::{Finding, Grade, Outside, preflight};
use crate::spec::Composition;
use crate::workload::Library;

/// What was found of the outside world.
pub(super) fn findings(plan: &Plan) -> Vec<Finding> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let library = Library::of_environment(variable);
    preflight(
        plan,
        Outside {
            environment: &variable,
            library: &library,
            results: Path::new("results"),
        },
    )
}

/// Shows findings; the exit code that they come to.
pub(super) fn show(findings: &[Finding], console: &Console) -> Exit {
    for finding in findings {
        let mark = match finding.grade {
            Grade::Fine => "✓",
            Grade::Doubtful => "!",
            Grade::Wrong => "✗",
        };
        console.data(&format!("  {mark} {}: {}", finding.subject, finding.told));
        if let Some(remedy) = &finding.remedy {
            console.data(&format!("      {remedy}"));
        }
    }
    exit(findings)
}

/// What is missing is no mistake of the file, and still a run of it would measure nothing: nothing is to be sent.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().map(|finding| finding.grade).max() {
        Some(Grade::Wrong) => Exit::Usage,
        Some(Grade::Doubtful | Grade::Fine) | None => Exit::Passed,
    }
}

/// What has this code is not written in the file: it is missing outside of it.
pub(super) const CODE: &str = "live";
/// What that means, in a line.
pub(super) const TITLE: &str = "something that a run needs is not as it should be";

/// The same for programs, each at the backend or the model that it is about: what is not as it should be.
pub(super) fn diagnostics(
    findings: &[Finding],
    composition: Option<&Composition>,
) -> Vec<Diagnostic> {
    let told = findings.iter().filter_map(|finding| {
        let message = format!("{}: {}", finding.subject, finding.told);
        let mut diagnostic = match finding.grade {
            Grade::Fine => return None,
            Grade::Doubtful => Diagnostic::warning(CODE, message),
            Grade::Wrong => Diagnostic::error(CODE, message),
        };
        let place = match finding.subject.split_once(' ') {
            Some(("backend", id)) => composition.and_then(|all| all.place(&["backends", id])),
            Some(("model", key)) => composition.and_then(|all| all.place(&["models", key])),
            _ => None,
        };
        if let Some(span) = place {
            diagnostic = diagnostic.at(span, "");
        }
        diagnostic.help.extend(finding.remedy.clone());
        Some(diagnostic)
    });
    told.collect()
}
