//! Imports point one way: reads the `crate::` paths of every module and fails on an upward edge.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate and the modules that it may use. `cli` sees everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("language", &["plan", "workload", "spec", "assertion"]),
    (
        "live",
        &[
            "report",
            "verdict",
            "run",
            "observation",
            "plan",
            "assertion",
        ],
    ),
    ("report", &["verdict", "observation", "plan", "assertion"]),
    ("verdict", &["observation", "plan", "assertion"]),
    (
        "run",
        &[
            "load",
            "server",
            "engine",
            "telemetry",
            "observation",
            "workload",
            "plan",
        ],
    ),
    (
        "selftest",
        &[
            "verdict",
            "load",
            "engine",
            "observation",
            "plan",
            "spec",
            "assertion",
            "wire",
        ],
    ),
    ("load", &["engine", "observation", "workload", "plan"]),
    (
        "server",
        &["wire", "engine", "observation", "workload", "plan"],
    ),
    ("engine", &["wire", "workload", "plan", "observation"]),
    ("telemetry", &["wire", "observation"]),
    ("observation", &["plan"]),
    ("plan", &["workload", "spec", "assertion"]),
    ("workload", &["spec"]),
    ("spec", &["assertion"]),
    ("assertion", &[]),
    ("wire", &[]),
];
const BASE: &[&str] = &[
    "diagnostic",
    "units",
    "seed",
    "clock",
    "threads",
    "secret",
    "programs",
];

#[test]
fn imports_point_one_way() {
    let mut wrong = BTreeSet::new();
    for file in rust_files(Path::new("src")) {
        let module = module_of(&file);
        if module == "cli" || module == "main" || module == "lib" {
            continue;
        }
        let allowed = ALLOWED
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, below)| *below);
        for used in crate_paths(&fs::read_to_string(&file).unwrap()) {
            let below = used == module
                || BASE.contains(&used.as_str())
                || allowed.is_some_and(|below| below.contains(&used.as_str()));
            if !below {
                wrong.insert(format!("{} uses crate::{used}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "upward or sideways imports:\n{}",
        wrong.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn the_reader_of_imports_sees_nested_groups() {
    let text = "use crate::{plan::{Cell, Stage}, units::Moment};\nlet x = crate::verdict::judge();\n// crate::cli in a comment\n";
    assert_eq!(
        crate_paths(text),
        ["plan", "units", "verdict"].map(String::from).into()
    );
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// `src/plan/arrivals.rs` → `plan`, `src/units.rs` → `units`.
fn module_of(file: &Path) -> String {
    let first = file
        .strip_prefix("src")
        .unwrap()
        .components()
        .next()
        .unwrap();
    Path::new(first.as_os_str())
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// The first names of all `crate::` paths in a source text, comments left out.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, 0);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        found.insert(first_name(&group[start..i]));
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(first_name(&group[start..i]));
                        start = i + 1;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(first_name(rest));
        }
    }
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}

fn first_name(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
