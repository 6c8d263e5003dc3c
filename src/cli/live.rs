//! `scenario check --live`: is everything there that a run needs?

use std::path::Path;

use serde_json::{Value, json};

use super::console::Console;
use super::exit::Exit;
use crate::plan::Plan;
use crate::run::preflight::{Finding, Grade, Outside, preflight};
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

/// The same for programs: what is not as it should be.
pub(super) fn json(findings: &[Finding]) -> impl Iterator<Item = Value> {
    findings.iter().filter_map(|finding| {
        let severity = match finding.grade {
            Grade::Fine => return None,
            Grade::Doubtful => "warning",
            Grade::Wrong => "error",
        };
        Some(json!({
            "severity": severity,
            "code": "live",
            "message": format!("{}: {}", finding.subject, finding.told),
            "help": finding.remedy,
        }))
    })
}
