//! A reader's shell: saves a page's files, runs its commands, and looks whether they print what the page shows.

use std::cell::{Cell, OnceCell};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use clap::error::ErrorKind;
use regex::Regex;
use scenario::cli::args::Cli;

use super::pages::{Block, Page};
use crate::tool::{Desk, Mock, on_the_simulator};

/// A busy machine can spoil a measurement. The tool says so, and a reader runs it again: as long as this, since the other tests
/// of the suite keep the machine busy, and they end.
const PATIENCE: Duration = Duration::from_secs(480);

/// What the summary says when the machine was too busy to be believed.
const TRIPPED: [&str; 2] = ["guard tripped", "guards tripped"];

/// Which engine answers the commands of a page.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Engine {
    /// The one that the page names: commands run exactly as they are printed.
    AsWritten,
    /// A mocked one in place of the real ones that the page names, and short stages.
    Mocked,
}

/// A fresh folder, with the tool on the path.
pub(super) struct Shell {
    desk: Desk,
    engine: Engine,
    mock: OnceCell<Mock>,
    /// Whether `results` are those of a run that was measured.
    saved: Cell<bool>,
}

/// What stands before the tool on a page about real engines.
const STAND_IN: &str = r#"#!/bin/bash
# The tool, with a mocked engine for those that a page names: scenario WORDS…
words=()
for word in "$@"; do
  case $word in
    http://localhost:[0-9]*) word=$ENGINE ;;
    --dashboard) word=--dashboard=127.0.0.1:0 ;;
  esac
  case $last in
    --for) word=1s ;;
    --warmup) word=0s ;;
    --metrics) word=127.0.0.1:0 ;;
  esac
  words+=("$word")
  last=$word
done
case $1 in
  run)
    # Whether a simulated engine keeps a promise within a second says nothing about the page.
    add=(--simulate --smoke --exit-zero "--progress none" "--repeats 1") ;;
  quick) add=(--exit-zero "--progress none" "--warmup 0s") ;;
esac
for option in "${add[@]}"; do
  [[ " $* " == *" ${option%% *} "* ]] || words+=($option)
done
exec "$TOOL" "${words[@]}"
"#;

impl Shell {
    pub(super) fn new(engine: Engine) -> Shell {
        let desk = Desk::new();
        let tools = desk.path(".tools");
        std::fs::create_dir(&tools).unwrap();
        let tool = tools.join("scenario");
        match engine {
            Engine::AsWritten => {
                std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_scenario"), tool).unwrap();
            }
            Engine::Mocked => {
                std::fs::write(&tool, STAND_IN).unwrap();
                let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&tool, executable).unwrap();
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                for folder in ["datasets", "fixtures", "scenarios"] {
                    std::os::unix::fs::symlink(root.join(folder), desk.path(folder)).unwrap();
                }
            }
        }
        Shell {
            desk,
            engine,
            mock: OnceCell::new(),
            saved: Cell::new(false),
        }
    }

    /// Saves a block that has a name; gives the name.
    pub(super) fn save(&self, page: &Page, block: &Block) -> Option<String> {
        let name = block.file()?;
        let path = self.desk.path(&name);
        std::fs::create_dir_all(path.parent().unwrap())
            .and_then(|()| std::fs::write(&path, &block.text))
            .unwrap_or_else(|error| panic!("{}: {error}", block.place(page)));
        Some(name)
    }

    /// `scenario check` of a text under a name: its exit code, and what it said.
    pub(super) fn check(&self, name: &str, text: &str) -> (Option<i32>, String) {
        let path = self.desk.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let ended = self.desk.tool(&["check", name]);
        (ended.code, ended.err)
    }

    /// Does what a page says, block by block.
    pub(super) fn follow(&self, page: &Page) {
        let blocks = page.blocks();
        for (at, block) in blocks.iter().enumerate() {
            self.save(page, block);
            if block.language != "sh" || block.is("included") {
                continue;
            }
            if block.is("saved") {
                self.lay_results();
            }
            let place = block.place(page);
            if block.is("elsewhere") {
                self.parses(&place, &block.text);
                continue;
            }
            let shown = blocks
                .get(at + 1)
                .filter(|next| next.language == "text" && next.follows);
            self.run(&place, &block.text, shown.map(|block| block.text.as_str()));
        }
    }

    /// A small run that was measured to its end, as `results`; all blocks of a page are about the same one.
    fn lay_results(&self) {
        if self.saved.replace(true) {
            return;
        }
        let load = "{ levels: { users: [2], requests: 60 } }";
        let text = on_the_simulator(load, "slos: { errors: error rate < 10% }");
        let _ = std::fs::remove_dir_all(self.desk.path("results"));
        self.desk.run(&text, &[]).with_code(0);
    }

    /// Runs a block; each command must succeed, unless the page asks for its code in the next line.
    fn run(&self, place: &str, text: &str, shown: Option<&str>) {
        let asks: Vec<bool> = text.lines().skip(1).map(|line| line == "echo $?").collect();
        let began = Instant::now();
        loop {
            let (out, failures) = self.bash(text);
            let spoiled = TRIPPED.iter().any(|words| out.contains(words));
            let unexpected = failures
                .iter()
                .find(|(line, _)| !asks.get(*line).copied().unwrap_or(false));
            let different = shown.and_then(|shown| differs(shown, &out));
            if unexpected.is_none() && different.is_none() {
                return;
            }
            if spoiled && began.elapsed() < PATIENCE {
                continue;
            }
            panic!(
                "{place}: {}{}\n\nit printed:\n{out}",
                unexpected.map_or(String::new(), |(line, code)| format!(
                    "line {} ended with {code}: {}\n",
                    line + 1,
                    text.lines().nth(*line).unwrap_or_default()
                )),
                different.unwrap_or_default()
            );
        }
    }

    /// What a block prints, and which of its lines (from 0) failed with which code.
    fn bash(&self, text: &str) -> (String, Vec<(usize, i32)>) {
        let script = format!("exec 2>&1; trap 'echo \"$LINENO $?\" >>.tools/failures' ERR\n{text}");
        self.desk.write(".tools/block.sh", &script);
        let failures = self.desk.path(".tools/failures");
        std::fs::write(&failures, "").unwrap();
        let path = format!(
            "{}:{}",
            self.desk.path(".tools").display(),
            std::env::var("PATH").unwrap()
        );
        let mut command = Command::new("bash");
        command
            .arg(".tools/block.sh")
            .current_dir(self.desk.path(""))
            .env("PATH", path)
            .env("COLUMNS", "100")
            .env("TOOL", env!("CARGO_BIN_EXE_scenario"))
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null());
        for variable in ["CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "NO_COLOR"] {
            command.env_remove(variable);
        }
        if self.engine == Engine::Mocked && text.contains("http://localhost") {
            let mock = self.mock.get_or_init(|| Mock::start(&[]));
            command.env("ENGINE", &mock.url);
        }
        let out = command.output().unwrap();
        let failures = std::fs::read_to_string(failures).unwrap();
        let failures = failures.lines().map(|line| {
            let (line, code) = line.split_once(' ').unwrap();
            // The script has one line before the block's own.
            (line.parse::<usize>().unwrap() - 2, code.parse().unwrap())
        });
        (String::from_utf8(out.stdout).unwrap(), failures.collect())
    }

    /// Whether bash can read it.
    fn parses(&self, place: &str, text: &str) {
        self.desk.write(".tools/block.sh", text);
        let status = Command::new("bash")
            .args(["-n", ".tools/block.sh"])
            .current_dir(self.desk.path(""))
            .status()
            .unwrap();
        assert!(status.success(), "{place}: bash cannot read it");
    }
}

/// How what was printed differs from what the page shows: line by line, without the numbers.
fn differs(shown: &str, printed: &str) -> Option<String> {
    let shown: Vec<String> = shown.lines().map(without_numbers).collect();
    let mut printed = printed
        .lines()
        // A terminal has bars in their place.
        .filter(|line| !line.starts_with('['))
        .map(without_numbers);
    let mut anything = false;
    for line in shown.iter().filter(|line| !line.is_empty()) {
        if line == "…" {
            anything = true;
            continue;
        }
        loop {
            match printed.next() {
                Some(found) if found == *line => break,
                Some(found) if anything || found.is_empty() => {}
                Some(found) => {
                    return Some(format!(
                        "the page shows\n  {line}\nand there stands\n  {found}"
                    ));
                }
                None => return Some(format!("the page shows\n  {line}\nwhich was not printed")),
            }
        }
        anything = false;
    }
    let rest = printed.find(|line| !line.is_empty());
    rest.filter(|_| !anything)
        .map(|line| format!("the page does not show\n  {line}"))
}

/// A line without its numbers, times of day and runs of spaces. A number that is all of its line stays: it is an exit code.
fn without_numbers(line: &str) -> String {
    thread_local! {
        static NUMBER: Regex = Regex::new(
            r"(^|[^\w.])[-+−]?(∞|\d[\d.]*)(\s?(ns|µs|ms|s|m|h|%|pp|W|J|tok/s|req/s|/s|[KMG]i?B))?($|[^\w])",
        ).unwrap();
        static TIME: Regex = Regex::new(r"\d{8}T\d{6}Z").unwrap();
    }
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.parse::<u32>().is_ok() {
        return line;
    }
    let line = TIME.with(|time| time.replace_all(&line, "TIME").into_owned());
    // Twice, since two numbers in a row share what stands between them.
    NUMBER.with(|number| {
        let once = number.replace_all(&line, "$1#$5");
        number.replace_all(&once, "$1#$5").into_owned()
    })
}

/// Whether the command line understands the words behind `scenario`. Words that stand for something are fine, and so is a
/// command that is named without what it needs.
pub(super) fn understood(command: &str) -> Result<(), String> {
    let words = std::iter::once("scenario".to_owned()).chain(words(command));
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::TooFewValues
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
            // An option may be named without its value, too.
            ErrorKind::InvalidValue if error.to_string().contains("but none was supplied") => {
                Ok(())
            }
            _ => Err(error.to_string()),
        },
    }
}

/// A line of a shell: words, and texts in quotes; up to a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(mark), _) if c == mark => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '&' | ';') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn numbers_do_not_matter_and_words_do() {
    for (line, plain) in [
        (
            "engine  c8     60      0%   19.3        331      79ms     121ms",
            "engine c8 # # # # # #",
        ),
        (
            "ttft    P95 TTFT < 500ms  c8     120.5ms ✓",
            "ttft P95 TTFT < # c8 # ✓",
        ),
        (
            "engine@c8: P95 E2E 1396ms, limit < 1s (over by 39.6%), n=60",
            "engine@c8: P95 E2E #, limit < # (over by #), n=#",
        ),
        (
            "client: 2 % of 1 worker, lag p99 803 µs, kernel stamps",
            "client: # of # worker, lag p99 #, kernel stamps",
        ),
        (
            "report: results/gate/20261122T075823Z/report.html",
            "report: results/gate/TIME/report.html",
        ),
        (
            "gate · 1 cell · seed 1 · plan b3:793473319d5e",
            "gate · # cell · seed # · plan b3:793473319d5e",
        ),
        ("1", "1"),
    ] {
        assert_eq!(without_numbers(line), plain);
    }
}

#[test]
fn what_a_page_shows_is_found_in_order() {
    assert_eq!(differs("a 1\n…\nz 9", "a 2\nb\nc\nz 3"), None);
    assert_eq!(differs("a\nb", "a\n\nb\n"), None);
    assert!(differs("a\nb", "a").is_some());
    assert!(differs("a", "a\nb").is_some());
    assert!(differs("a ✓", "a ✗").is_some());
    assert!(differs("0", "1").is_some());
}
