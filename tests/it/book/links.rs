//! Where links lead.

use std::path::{Path, PathBuf};

use super::pages::Page;
use super::source;

/// What the links of a text point at, without those that leave the book.
pub(super) fn targets(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("](").skip(1);
    after
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
}

/// A line for each link of a page that leads nowhere.
pub(super) fn broken(page: &Page) -> Vec<String> {
    let folder = Path::new(&page.name).parent().unwrap();
    let mut broken = Vec::new();
    for target in targets(&without_blocks(&page.text)) {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let name = match file {
            "" => PathBuf::from(&page.name),
            file => plain(&folder.join(file)),
        };
        if !source().join(&name).is_file() {
            broken.push(format!("{}: no page `{target}`", page.name));
        } else if !heading.is_empty() {
            let text = Page::read(name.to_str().unwrap()).text;
            if !headings(&text).any(|id| id == heading) {
                broken.push(format!("{}: no heading `{target}`", page.name));
            }
        }
    }
    broken
}

/// The page without its fenced blocks and its code, in which brackets are no links.
fn without_blocks(text: &str) -> String {
    let outside = text.split("\n```").step_by(2);
    let lines = outside.flat_map(str::lines);
    lines
        .map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("`"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part.as_os_str().to_str() {
            Some("..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts
}

/// The id of each heading, as mdBook makes it, and of each anchor.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        if let Some(anchor) = line.strip_prefix("<a id=\"") {
            return Some(anchor.split('"').next()?.to_owned());
        }
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
        if let Some((_, id)) = title.split_once("{#") {
            return Some(id.trim_end_matches('}').to_owned());
        }
        let kept = title.chars().filter_map(|c| match c {
            c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
            ' ' => Some('-'),
            _ => None,
        });
        Some(kept.collect())
    })
}
