//! What the documents say is so.

use std::path::Path;

use crate::tool::{Desk, on_the_simulator};

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let after = document.split(fence.as_str()).skip(1);
    after
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect()
}

#[test]
fn every_scenario_in_the_readme_checks() {
    let desk = Desk::new();
    // Paths in the README start where it is.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["datasets", "fixtures", "scenarios"] {
        std::os::unix::fs::symlink(root.join(folder), desk.path(folder)).unwrap();
    }
    let readme = document("README.md");
    let blocks = blocks(&readme, "yaml");
    assert!(blocks.len() >= 3, "{}", blocks.len());
    for block in blocks {
        desk.write("block.yaml", block);
        let ended = desk.tool(&["check", "block.yaml"]);
        assert_eq!(ended.code, Some(0), "{block}\n{}", ended.err);
    }
}

#[test]
fn every_command_in_the_readme_is_one() {
    let desk = Desk::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["datasets", "scenarios"] {
        std::os::unix::fs::symlink(root.join(folder), desk.path(folder)).unwrap();
    }
    let readme = document("README.md");
    desk.write("gate.yaml", blocks(&readme, "yaml")[0]);
    let commands: Vec<&str> = blocks(&readme, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| {
            line.split(" #")
                .next()
                .unwrap()
                .trim()
                .strip_prefix("scenario ")
        })
        .collect();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        let mut words: Vec<String> = words(command);
        match words[0].as_str() {
            // Nothing is to be sent; the plan says whether the words are understood.
            "run" => words.push("--dry-run".to_owned()),
            "check" => {
                words = vec!["check".to_owned()];
                for entry in std::fs::read_dir(root.join("scenarios")).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|ending| ending == "yaml") {
                        words.push(path.display().to_string());
                    }
                }
            }
            // Their words are read before anything else is, and nothing answers there.
            "quick" | "try" | "mock" | "report" | "plot" | "compare" | "judge" | "import"
            | "baseline" => words.push("--help".to_owned()),
            _ => {}
        }
        let ended = desk.tool(&words);
        assert_eq!(ended.code, Some(0), "{command}\n{}", ended.err);
    }
}

/// A line of a shell, as far as the README goes: words, and texts in double quotes.
fn words(line: &str) -> Vec<String> {
    line.split('"')
        .enumerate()
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_help() {
    let readme = document("README.md");
    let table = readme
        .split_once("| exit code | meaning |\n|---|---|\n")
        .unwrap()
        .1;
    let table: Vec<(&str, &str)> = table
        .lines()
        .map_while(|line| {
            line.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .collect();
    let help = Desk::new().tool(&["help", "exit-codes"]).with_code(0).out;
    let meaning = |code: &str| {
        let line = help
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{code} ")));
        line.unwrap_or_else(|| panic!("`help exit-codes` has no {code}"))
            .to_owned()
    };
    let codes: Vec<&str> = table
        .iter()
        .flat_map(|(codes, _)| codes.split(", "))
        .collect();
    assert_eq!(codes, ["0", "1", "2", "3", "130", "143"]);
    // The words that carry each meaning stand in both.
    let words = [
        ("0", "every SLO of level `fail` passed"),
        ("1", "an SLO failed"),
        ("2", "is wrong; nothing was sent"),
        ("3", "could not measure: backend not ready"),
    ];
    for (code, words) in words {
        let (_, told) = table.iter().find(|(codes, _)| *codes == code).unwrap();
        assert!(told.contains(words), "README, {code}: {told}");
        assert!(
            meaning(code).contains(words),
            "help, {code}: {}",
            meaning(code)
        );
    }
    let (_, told) = table
        .iter()
        .find(|(codes, _)| codes.contains("130"))
        .unwrap();
    let last = "every report is still written, marked `interrupted`";
    assert!(
        told.contains(last) && meaning("130").contains(last),
        "{told}"
    );
    assert!(meaning("143").contains("SIGTERM"));
}

#[test]
fn the_changelog_has_a_heading_for_this_version() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    let changelog = document("CHANGELOG.md");
    assert!(
        changelog.lines().any(|line| line.starts_with(&heading)),
        "{heading}"
    );
}

#[test]
fn the_action_and_the_gitlab_template_say_what_the_tool_understands() {
    let desk = Desk::new();
    for (file, line) in [
        ("action.yml", "scenario run $FILES --out"),
        ("docs/ci/gitlab.yml", "- scenario run $SCENARIOS --out"),
    ] {
        let text = document(file);
        let parsed: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        assert!(parsed.is_mapping(), "{file}");
        let line = text.lines().find(|one| one.contains(line));
        let line = line.unwrap_or_else(|| panic!("{file} does not run a scenario"));
        let command = line.split_once("scenario run").unwrap().1;
        let written = command
            .replace("$FILES", "quick.yaml")
            .replace("$SCENARIOS", "quick.yaml")
            .replace("$ARGUMENTS", "--repeats 3");
        desk.write(
            "quick.yaml",
            &on_the_simulator("{ levels: { users: [1], requests: 3 } }", ""),
        );
        let mut words = words(&format!("run{written}"));
        words.push("--dry-run".to_owned());
        desk.tool(&words).with_code(0);
    }
}
