//! The pages of `scenario explain`: each code has one, and the tool does what it says.

use std::path::{Path, PathBuf};

use scenario::language;

use crate::tool::Desk;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/diagnostics")
}

/// A file of a page and the command that reads it.
struct Example {
    text: String,
    command: String,
}

/// What a page shows: files that both examples need, the wrong one and the right one.
struct Shown {
    beside: Vec<(String, String)>,
    wrong: Example,
    right: Example,
}

/// The examples of a page. A paragraph above a block says what it is: ``Both with `NAME`:``, `Wrong:` or `Right:`; a block of
/// `sh` is the command for the example above it.
fn shown(page: &str) -> Shown {
    let mut beside = Vec::new();
    let mut examples: Vec<Example> = Vec::new();
    let mut above = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                above = line;
            }
            continue;
        };
        let text: String = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .map(|line| format!("{line}\n"))
            .collect();
        if let Some(name) = above.strip_prefix("Both with `") {
            beside.push((name.trim_end_matches("`:").to_owned(), text));
        } else if language == "sh" {
            examples.last_mut().expect("a file above").command = text.trim().to_owned();
        } else {
            let expected = ["Wrong:", "Right:"][examples.len()];
            assert_eq!((language, above), ("yaml", expected), "{page}");
            examples.push(Example {
                text,
                command: "scenario check scenario.yaml".to_owned(),
            });
        }
    }
    let [wrong, right] = examples.try_into().ok().expect("a wrong and a right file");
    Shown {
        beside,
        wrong,
        right,
    }
}

/// What the tool says of an example.
fn said(example: &Example, beside: &[(String, String)]) -> String {
    let desk = Desk::new();
    desk.write("scenario.yaml", &example.text);
    for (name, text) in beside {
        desk.write(name, text);
    }
    let words = example.command.split(' ');
    let (variables, words): (Vec<&str>, Vec<&str>) = words.partition(|word| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    });
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .filter_map(|word| word.split_once('='))
        .collect();
    assert_eq!(words[0], "scenario");
    let ended = desk.start(&words[1..], &variables).end();
    assert_eq!(
        ended.code,
        Some(if ended.err.contains("error[") { 2 } else { 0 }),
        "{}",
        ended.err
    );
    ended.err
}

#[test]
fn each_code_has_a_page_that_is_true() {
    let mut wrong = Vec::new();
    for (code, title) in language::codes() {
        let Some(page) = language::page(code) else {
            wrong.push(format!(
                "write docs/diagnostics/{code}.md as its neighbours, and name it in src/language/pages.rs"
            ));
            continue;
        };
        let heading = page.text.lines().next().unwrap_or_default();
        if heading != format!("# {code}: {title}") {
            wrong.push(format!("{code}: the page is called `{heading}`"));
        }
        let shown = shown(page.text);
        let mark = format!("[{code}]");
        let told = said(&shown.wrong, &shown.beside);
        if !told.contains(&mark) {
            wrong.push(format!("{code}: the wrong file is not told so:\n{told}"));
        }
        let told = said(&shown.right, &shown.beside);
        if told.contains(&mark) || told.contains("error[") {
            wrong.push(format!("{code}: the right file is wrong:\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_code_that_the_tool_can_give_is_in_a_table() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                for code in codes_in(&std::fs::read_to_string(&path).unwrap()) {
                    let known = language::title(code).is_some();
                    assert!(known, "{}: {code} is in no table of codes", path.display());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 100, "{seen}");
}

/// Texts like `"S031"` in a source file.
fn codes_in(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').filter(|text| {
        text.len() == 4
            && text.starts_with(['S', 'L'])
            && text[1..].bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[test]
fn no_page_is_left_over() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let code = name.trim_end_matches(".md");
        assert!(language::page(code).is_some(), "{name} is of no code");
    }
}

#[test]
fn a_page_is_printed_for_a_terminal_and_a_code_that_is_not_there_has_a_neighbour() {
    let desk = Desk::new();
    let told = desk.tool(&["explain", "s031"]).with_code(0).out;
    assert!(
        told.starts_with("S031: the metric does not exist"),
        "{told}"
    );
    assert!(
        told.contains("\n    slos: { ttft: P95 TTTF < 500ms }\n"),
        "{told}"
    );
    assert!(!told.contains("```"), "{told}");
    let listed = desk.tool(&["explain"]).with_code(0).out;
    for (code, title) in language::codes() {
        assert!(listed.contains(&format!("  {code}  {title}\n")), "{code}");
    }
    let ended = desk.tool(&["explain", "X031"]).with_code(2);
    assert!(ended.err.contains("did you mean `S031`?"), "{}", ended.err);
}
