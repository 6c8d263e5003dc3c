//! The pages and what stands on them.

use std::path::Path;

use super::source;

/// A page.
pub(super) struct Page {
    /// Its path below the book's source.
    pub(super) name: String,
    /// Its text, with what it includes.
    pub(super) text: String,
}

/// A fenced block of a page.
pub(super) struct Block {
    /// The first word behind the fence.
    pub(super) language: String,
    /// The other words.
    marks: Vec<String>,
    /// The lines between the fences.
    pub(super) text: String,
    /// The line of the page at which the text begins.
    line: usize,
    /// Whether nothing but blank lines stands between it and the block before.
    pub(super) follows: bool,
}

impl Block {
    pub(super) fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|one| one == mark)
    }

    /// The name under which it is to be saved.
    pub(super) fn file(&self) -> Option<String> {
        let marked = self
            .marks
            .iter()
            .find_map(|mark| mark.strip_prefix("file="));
        let written = || {
            let name = self.text.lines().next()?.strip_prefix("# ")?;
            let is_name = name.ends_with(".yaml") && !name.contains(' ');
            (self.language == "yaml" && is_name).then_some(name)
        };
        marked.or_else(written).map(str::to_owned)
    }

    /// Where it stands, for a message.
    pub(super) fn place(&self, page: &Page) -> String {
        format!("docs/src/{}:{}", page.name, self.line)
    }
}

/// The paths of all pages below the book's source.
pub(super) fn names() -> Vec<String> {
    let mut names = Vec::new();
    walk(&source(), &mut names);
    names.sort();
    names
}

fn walk(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            let name = path.strip_prefix(source()).unwrap();
            names.push(name.to_str().unwrap().to_owned());
        }
    }
}

/// All pages but the summary.
pub(super) fn all() -> Vec<Page> {
    let names = names().into_iter().filter(|name| name != "SUMMARY.md");
    names.map(|name| Page::read(&name)).collect()
}

impl Page {
    /// Reads a page, and the files that it includes.
    pub(super) fn read(name: &str) -> Page {
        let path = source().join(name);
        let mut text = String::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let included = line
                .strip_prefix("{{#include ")
                .and_then(|rest| rest.strip_suffix("}}"));
            match included {
                Some(file) => {
                    let file = path.parent().unwrap().join(file);
                    let part = std::fs::read_to_string(&file)
                        .unwrap_or_else(|error| panic!("{name}: {}: {error}", file.display()));
                    let mut inside = false;
                    for line in part.lines() {
                        text.push_str(line);
                        let fence = line.starts_with("```");
                        inside ^= fence;
                        text.push_str(if fence && inside { ",included\n" } else { "\n" });
                    }
                }
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        Page {
            name: name.to_owned(),
            text,
        }
    }

    /// Its fenced blocks, in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<Block> = None;
        let mut blank_since = false;
        for (number, line) in self.text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (Some(_), Some("")) => {
                    blocks.extend(open.take());
                    blank_since = true;
                }
                (Some(block), _) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(words)) => {
                    let mut words = words.split(',').map(str::to_owned);
                    open = Some(Block {
                        language: words.next().unwrap(),
                        marks: words.collect(),
                        text: String::new(),
                        line: number + 2,
                        follows: blank_since,
                    });
                }
                (None, None) => blank_since &= line.is_empty(),
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.name);
        blocks
    }

    /// Each `scenario …` that stands in its text or in a block of shell or YAML, with its place.
    pub(super) fn named_commands(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut fence: Option<bool> = None;
        for (number, line) in self.text.lines().enumerate() {
            let mut note = |command: &str| {
                let place = format!("docs/src/{}:{}", self.name, number + 1);
                found.push((place, command.trim().to_owned()));
            };
            match (fence, line.strip_prefix("```")) {
                (Some(_), Some(_)) => fence = None,
                (None, Some(words)) => {
                    let words: Vec<&str> = words.split(',').collect();
                    let reads = ["sh", "bash", "yaml"].contains(&words[0]);
                    fence = Some(reads && !words.contains(&"included"));
                }
                (Some(true), None) => {
                    let begins = line
                        .trim_start()
                        .trim_start_matches("- ")
                        .trim_start_matches("srun ");
                    if let Some(rest) = begins.strip_prefix("scenario ") {
                        note(
                            rest.split(" #")
                                .next()
                                .unwrap()
                                .trim_end_matches([')', '\\']),
                        );
                    }
                }
                (Some(false), None) => {}
                (None, None) => line
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .filter_map(|code| code.strip_prefix("scenario "))
                    .for_each(&mut note),
            }
        }
        found
    }
}
