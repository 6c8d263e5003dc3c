//! The book under `docs/`: its pages hang together, its reference is what the code says, its files check, its commands run.
//!
//! What a page's blocks are, by the words behind their fence:
//!
//! - `yaml`: a scenario file. With a first line like `# gate.yaml` it is saved under that name for the commands that follow.
//! - `yaml,fragment`: some keys of a scenario, checked inside of a frame ([`FRAME`]).
//! - `sh`: commands that run, in the order of the page, in a fresh folder.
//! - `text` right after `sh`: what they print; numbers may differ, and a line `…` stands for anything.
//! - `elsewhere` with any of them: it needs what a test has not (a cluster, an installer). Its YAML is YAML, its shell parses, and
//!   the command line knows every `scenario …` in it.
//! - `saved`: its commands are about `results` of a run that was measured, and a small one is laid there.
//! - `file=NAME`: saved under that name.
//!
//! What a page includes from another document is not looked at here: that document has tests of its own.

mod pages;
mod reference;
mod shell;
mod links;

use std::path::{Path, PathBuf};

use pages::{Block, Page};
use shell::{Engine, Shell};

/// Keys that a fragment may leave out.
const FRAME: &[(&str, &str)] = &[
    ("version", "version: 1"),
    (
        "backends",
        "backends: { vllm: \"http://localhost:8000\", sglang: \"http://localhost:30000\" }",
    ),
    (
        "models",
        "models: { llama8b: meta-llama/Llama-3.1-8B-Instruct }",
    ),
    (
        "prompts",
        "prompts: { chat: { source: synthetic, input_tokens: 200, output_tokens: 50, expand: category } }",
    ),
    (
        "load",
        "load: { sweep: { levels: { users: [1, 4, 16, 64], requests: 300 } } }",
    ),
];

/// The folder of the book's pages.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src")
}

#[test]
fn the_reference_is_what_the_code_says() {
    reference::assert_as_the_code_says();
}

#[test]
fn every_page_stands_in_the_summary_once() {
    let summary = Page::read("SUMMARY.md");
    let mut listed: Vec<&str> = links::targets(&summary.text).collect();
    let mut there: Vec<String> = pages::names();
    there.retain(|name| name != "SUMMARY.md");
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
}

#[test]
fn every_link_inside_of_the_book_leads_to_a_page_and_a_heading() {
    let mut broken = Vec::new();
    for page in pages::all() {
        broken.extend(links::broken(&page));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_scenario_of_the_book_checks() {
    let mut checked = 0;
    let mut wrong = Vec::new();
    for page in pages::all() {
        let shell = Shell::new(Engine::Mocked);
        for block in page.blocks() {
            if block.is("included") {
                continue;
            }
            if block.language != "yaml" {
                shell.save(&page, &block);
                continue;
            }
            if block.is("elsewhere") {
                let parsed: Result<Vec<serde_yaml::Value>, _> =
                    serde_yaml::Deserializer::from_str(&block.text)
                        .map(serde::Deserialize::deserialize)
                        .collect();
                let parsed =
                    parsed.unwrap_or_else(|error| panic!("{}: {error}", block.place(&page)));
                assert!(!parsed.is_empty(), "{}", block.place(&page));
                shell.save(&page, &block);
                continue;
            }
            let name = shell
                .save(&page, &block)
                .unwrap_or_else(|| "block.yaml".to_owned());
            let text = if block.is("fragment") {
                framed(&block.text)
            } else {
                block.text.clone()
            };
            let (code, said) = shell.check(&name, &text);
            if code != Some(0) {
                wrong.push(format!("{}\n{text}\n{said}", block.place(&page)));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 20, "only {checked} blocks were found");
}

/// The fragment with the keys that it leaves out.
fn framed(fragment: &str) -> String {
    let has = |key: &str| {
        fragment.lines().any(|line| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(':'))
        })
    };
    let mut text = fragment.to_owned();
    for (_, line) in FRAME.iter().filter(|(key, _)| !has(key)) {
        text.push('\n');
        text.push_str(line);
    }
    text.push('\n');
    text
}

#[test]
fn the_tutorial_runs_as_it_is_printed() {
    let page = Page::read("tutorial.md");
    let blocks: Vec<Block> = page.blocks();
    let gates = |code: &str| {
        let shown = blocks.iter().filter(|block| block.language == "text");
        shown
            .filter(|block| block.text.lines().last() == Some(code))
            .count()
    };
    // It leads to both.
    assert!(gates("0") >= 1 && gates("1") >= 1 && gates("3") >= 1);
    Shell::new(Engine::AsWritten).follow(&page);
}

#[test]
fn the_commands_of_every_other_page_run() {
    for page in pages::all() {
        if page.name != "tutorial.md" {
            Shell::new(Engine::Mocked).follow(&page);
        }
    }
}

#[test]
fn every_command_that_the_book_names_is_known() {
    let mut known = 0;
    let mut unknown = Vec::new();
    for page in pages::all() {
        for (place, command) in page.named_commands() {
            match shell::understood(&command) {
                Ok(()) => known += 1,
                Err(why) => unknown.push(format!("{place}: `{command}`\n{why}")),
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert!(known > 60, "only {known} commands were found");
}
