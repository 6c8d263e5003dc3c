//! `junit.xml`: a suite for each cell, a case for each verdict. A failure is `<failure>`, what could not be told is
//! `<error>`, and only failures and errors turn a pipeline red; warnings pass and say so in their output.

use std::collections::BTreeSet;

use junit_report::{Duration, OffsetDateTime, TestCase, TestCaseBuilder, TestSuite};

use super::model::{Cell, CellStatus, Environment, Verdict, VerdictStatus};
use super::{Report, View, wording};

/// Which reader of JUnit files is addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Valid under the schema of Jenkins' xUnit plugin.
    #[default]
    Jenkins,
    /// With the attribute `file` on each case, which GitLab links and that schema does not know.
    Gitlab,
}

/// `junit.xml`.
pub fn render(report: &Report, view: &View) -> String {
    let started = timestamp(&report.started);
    let comparisons: Vec<&Verdict> = verdicts_of(report, None);
    let mut suites: Vec<(TestSuite, f64)> = report
        .cells
        .iter()
        .map(|cell| {
            let seconds = cell_seconds(cell);
            (cell_suite(report, cell, view, started), seconds)
        })
        .collect();
    if !comparisons.is_empty() {
        let class = format!("{}.comparisons", report.scenario.name);
        let cases = cases(report, &comparisons, &class, view);
        suites.push((suite("comparisons", report, cases, started), 0.0));
    }
    let (suites, seconds): (Vec<TestSuite>, Vec<f64>) = suites.into_iter().unzip();
    let mut document = junit_report::Report::new();
    document.add_testsuites(suites.iter().cloned());
    let mut bytes = Vec::new();
    document
        .write_xml(&mut bytes)
        .expect("memory takes every byte");
    let text = String::from_utf8(bytes).expect("a document of text is text");
    with_totals(&text, &report.scenario.name, &suites, &seconds)
}

fn verdicts_of<'a>(report: &'a Report, cell: Option<&str>) -> Vec<&'a Verdict> {
    report
        .verdicts
        .iter()
        .filter(|verdict| verdict.cell.as_deref() == cell)
        .collect()
}

fn cell_seconds(cell: &Cell) -> f64 {
    cell.stages
        .iter()
        .filter_map(|stage| stage.numbers.as_ref())
        .map(|numbers| numbers.duration_s)
        .sum()
}

fn cell_suite(report: &Report, cell: &Cell, view: &View, started: OffsetDateTime) -> TestSuite {
    let class = format!("{}.{}", report.scenario.name, cell.id.replace('/', "."));
    let verdicts = verdicts_of(report, Some(&cell.id));
    let mut cases = cases(report, &verdicts, &class, view);
    if cases.is_empty() {
        cases.push(run_case(cell, &class));
    }
    let name = cell.id.split('/').collect::<Vec<_>>().join(" · ");
    let name = wording::marked(report, &name, &cell.backend);
    let began = cell.runs.iter().find_map(|run| run.wall_anchor);
    let began = began.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds as i64).ok());
    suite(&name, report, cases, began.unwrap_or(started))
}

/// The one case of a cell of which nothing is said, so that a suite without SLOs shows whether it ran.
fn run_case(cell: &Cell, class: &str) -> TestCase {
    let stopped = cell
        .runs
        .iter()
        .find(|run| run.status != CellStatus::Complete);
    let reason = stopped
        .and_then(|run| run.reason.clone())
        .unwrap_or_else(|| "it was never begun".to_owned());
    let mut case = match stopped.map(|run| run.status) {
        None if !cell.runs.is_empty() => TestCase::success("run", Duration::ZERO),
        Some(CellStatus::Skipped) => {
            TestCase::skipped_with_cause("run", "skipped", &attribute(&reason))
        }
        _ => TestCaseBuilder::error(
            "run",
            Duration::ZERO,
            "inconclusive:no-data",
            &attribute(&reason),
        )
        .set_trace(&character_data(&reason))
        .build(),
    };
    case.set_classname(&attribute(class));
    case
}

fn suite(
    name: &str,
    report: &Report,
    cases: Vec<TestCase>,
    timestamp: OffsetDateTime,
) -> TestSuite {
    let host = report
        .environment
        .host
        .name
        .as_deref()
        .unwrap_or("localhost");
    TestSuite {
        name: attribute(name),
        package: attribute(&report.scenario.name),
        timestamp,
        hostname: attribute(host),
        testcases: cases,
        system_out: Some(character_data(&environment(report))),
        system_err: None,
    }
}

fn cases(report: &Report, verdicts: &[&Verdict], class: &str, view: &View) -> Vec<TestCase> {
    let shared = |name: &str| verdicts.iter().filter(|one| one.name == name).count() > 1;
    let mut taken = BTreeSet::new();
    verdicts
        .iter()
        .map(|verdict| {
            let mut name = verdict.name.clone();
            // GitLab shows only the first of two cases with one name.
            if shared(&name) && !verdict.cells.is_empty() {
                name = format!("{name} {}", wording::marked_ids(report, verdict, " + "));
            }
            let stem = name.clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{stem} #{number}");
                number += 1;
            }
            case(report, verdict, &attribute(&name), class, view)
        })
        .collect()
}

fn case(report: &Report, verdict: &Verdict, name: &str, class: &str, view: &View) -> TestCase {
    let message = attribute(&verdict.message);
    let body = format!("{}\n{}", verdict.message, wording::details(report, verdict));
    let warning = verdict.level == "warn";
    let mut case = match verdict.status {
        VerdictStatus::Fail if !warning => {
            let kind = if verdict.guard { "guard" } else { "slo" };
            TestCaseBuilder::failure(name, Duration::ZERO, kind, &message)
                .set_trace(&character_data(&body))
                .build()
        }
        VerdictStatus::Inconclusive if is_after_abort(report, verdict) => {
            TestCase::skipped_with_cause(name, "skipped", &message)
        }
        VerdictStatus::Inconclusive if !warning => {
            let family = verdict
                .reason
                .as_ref()
                .and_then(|reason| reason.family.as_deref())
                .unwrap_or("no-data");
            let kind = format!("inconclusive:{family}");
            TestCaseBuilder::error(name, Duration::ZERO, &kind, &message)
                .set_trace(&character_data(&body))
                .build()
        }
        VerdictStatus::Skipped => TestCase::skipped_with_cause(name, "skipped", &message),
        VerdictStatus::Pass => {
            let mut case = TestCase::success(name, Duration::ZERO);
            case.set_system_out(&character_data(&verdict.message));
            case
        }
        VerdictStatus::Fail | VerdictStatus::Inconclusive => {
            let mut case = TestCase::success(name, Duration::ZERO);
            case.set_system_out(&character_data(&format!(
                "warning: {} ({})\n{body}",
                verdict.message,
                verdict.status.name()
            )));
            case
        }
    };
    case.set_classname(&attribute(class));
    let at = verdict.at.as_ref();
    let file = at.and_then(|at| wording::in_repository(report, &at.file));
    if let (Flavour::Gitlab, Some(file)) = (view.junit, file) {
        case.set_filepath(&attribute(file));
    }
    case
}

/// Whether nothing could be told because an abort rule had stopped the cell: the rule's own case has failed, and the rest of
/// the cell was not asked.
fn is_after_abort(report: &Report, verdict: &Verdict) -> bool {
    let Some(reason) = &verdict.reason else {
        return false;
    };
    let own = |cell: &&Cell| verdict.cells.contains(&cell.id);
    report
        .cells
        .iter()
        .filter(own)
        .flat_map(|cell| &cell.runs)
        .any(|run| {
            run.status == CellStatus::Aborted && run.reason.as_deref() == Some(reason.text.as_str())
        })
}

/// Where it ran and against what; JUnit's own properties are not in every reader's schema.
fn environment(report: &Report) -> String {
    let Environment {
        host,
        gpus,
        engines,
        git,
    } = &report.environment;
    let mut lines = vec![format!(
        "scenario {} · plan {} · seed {} · {}",
        report.tool, report.plan_digest, report.seed, report.scenario.path
    )];
    let labels = wording::labels(report);
    if !labels.is_empty() {
        lines.push(labels);
    }
    let facts: Vec<&str> = [
        Some(host.os.as_str()),
        host.kernel.as_deref(),
        host.cpu.as_deref(),
    ]
    .into_iter()
    .flatten()
    .collect();
    lines.push(format!("host: {}", facts.join(" · ")));
    lines.extend(git.as_ref().map(|git| {
        let modified = if git.modified { " with changes" } else { "" };
        format!("git: {}{modified}", git.revision)
    }));
    for gpu in gpus {
        let driver = gpu.driver.as_deref().unwrap_or("unknown");
        lines.push(format!("gpu {}: {} · driver {driver}", gpu.index, gpu.name));
    }
    for engine in engines {
        let version = engine.version.as_deref().unwrap_or("unknown");
        lines.push(format!(
            "engine {}: {} {version} · {}",
            engine.backend,
            engine.kind,
            match engine.api.as_str() {
                "offline" => "offline",
                _ => engine.url.as_deref().unwrap_or("embedded"),
            }
        ));
    }
    lines.extend(wording::client(report).map(|client| format!("client: {client}")));
    lines.join("\n")
}

fn timestamp(rfc3339: &str) -> OffsetDateTime {
    let seconds = rfc3339
        .parse::<jiff::Timestamp>()
        .map_or(0, |instant| instant.as_second());
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

// ---- what the writer does not write ----------------------------------------------------------------------------------

/// The same document with totals on its root, and with the stages' time on each suite: the writer has the sum of the
/// cases' times there, and a case has none.
fn with_totals(text: &str, name: &str, suites: &[TestSuite], seconds: &[f64]) -> String {
    let total = |count: fn(&TestSuite) -> usize| suites.iter().map(count).sum::<usize>();
    let root = format!(
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{}\">",
        escaped(&attribute(name)),
        total(TestSuite::tests),
        total(TestSuite::failures),
        total(TestSuite::errors),
        rounded(seconds.iter().sum()),
    );
    let mut seconds = suites.iter().zip(seconds);
    let mut done = String::with_capacity(text.len() + 256);
    for (inside, part) in outside_and_inside_of_cdata(text) {
        if inside {
            done.push_str(part);
            continue;
        }
        // Attribute values have no `<`, so outside of CDATA this is always the tag itself.
        for (at, piece) in part.split("<testsuite ").enumerate() {
            if at == 0 {
                done.push_str(&piece.replacen("<testsuites>", &root, 1));
                continue;
            }
            let (suite, seconds) = seconds.next().expect("one tag for each suite");
            let times = format!(
                " skipped=\"{}\" time=\"{}\"",
                suite.skipped(),
                rounded(*seconds)
            );
            let (tag, rest) = piece.split_once('>').unwrap_or((piece, ""));
            done.push_str("\n<testsuite ");
            done.push_str(&tag.replacen(" time=\"0\"", &times, 1));
            done.push('>');
            done.push_str(rest);
        }
    }
    done.push('\n');
    done
}

/// Seconds to the millisecond. The sum of none is −0, which no schema takes for a time.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3 + 0.0
}

fn outside_and_inside_of_cdata(text: &str) -> Vec<(bool, &str)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("<![CDATA[") {
        let end = rest[start..]
            .find("]]>")
            .map_or(rest.len(), |length| start + length + 3);
        parts.push((false, &rest[..start]));
        parts.push((true, &rest[start..end]));
        rest = &rest[end..];
    }
    parts.push((false, rest));
    parts
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

// ---- what XML cannot hold --------------------------------------------------------------------------------------------

/// A text fit for an attribute: on one line, without what XML cannot hold.
fn attribute(text: &str) -> String {
    xml_safe(text).replace(['\n', '\t'], " ")
}

/// A text fit for CDATA: without what XML cannot hold, with `]]>` spread over two sections.
fn character_data(text: &str) -> String {
    xml_safe(text).replace("]]>", "]]]]><![CDATA[>")
}

/// Drops terminal escapes and the characters that XML 1.0 forbids even when escaped. Engines' error bodies hold both.
fn xml_safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => safe.push('\n'),
            '\n' | '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => {
                safe.push(c);
            }
            _ => {}
        }
    }
    safe
}

/// Skips the rest of a terminal escape: `[` … letter (colours, cursor), `]` … bell (titles), or one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            rest.find(|c| ('@'..='~').contains(c));
        }
        Some(']') => {
            rest.find(|c| matches!(c, '\u{7}' | '\u{1b}' | '\n'));
        }
        _ => {
            rest.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_dropped_and_the_rest_kept() {
        assert_eq!(
            xml_safe("]]> & <b> \u{1b}[31mred\u{1b}[0m \0\u{8}\u{fffe}tab\tend\r\nnext"),
            "]]> & <b> red tab\tend\nnext"
        );
        assert_eq!(character_data("a]]>b"), "a]]]]><![CDATA[>b");
        assert_eq!(attribute("two\nlines"), "two lines");
    }
}
