//! The files that a scenario names, and its text with other names for them: what it takes to move it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::tree::{Content, Node};
use crate::diagnostic::{SourceId, Sources, Span};

/// A file that a value of a scenario names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The key, like `prompts.chat.path`.
    pub key: String,
    /// Where it is written.
    pub span: Span,
    /// Where it is, from the folder that this program runs in.
    pub path: PathBuf,
}

/// A data set that a value of a scenario names on a hub or behind a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// The key, like `prompts.chat.path`.
    pub key: String,
    /// Where it is written.
    pub span: Span,
    /// Its address.
    pub url: String,
    /// The digest that stands beside it.
    pub sha256: Option<String>,
}

/// Something that a scenario names and that cannot be moved with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOutside {
    /// The key, like `backends.vllm.launch.python`.
    pub key: String,
    /// What it names.
    pub named: String,
}

/// A command that a scenario runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCommand {
    /// The key, like `backends.vllm.launch`.
    pub key: String,
    /// Where it is written.
    pub span: Span,
}

/// Other names for files, by the place of their value.
pub(super) type Renamed = BTreeMap<Span, String>;

/// Keys of a backend that have something run.
const RUN: [&str; 4] = ["launch", "up", "down", "external_bench"];

/// Every file that a resolved tree names.
pub(super) fn files(root: &Node, sources: &Sources) -> Vec<NamedFile> {
    let mut found = Vec::new();
    walk(root, &mut Vec::new(), &mut |path, node| {
        let Content::Scalar { text, .. } = &node.content else {
            return;
        };
        let names_file = match path {
            ["prompts", _, "path"] | ["baseline", "file"] | ["backends", _, "tls", "ca"] => true,
            ["prompts", _, .., last] => *last == "histogram",
            // A name on the hub is no file.
            ["models", _, "tokenizer"] => sources.directory(node.span.source).join(text).exists(),
            _ => false,
        };
        if names_file && !text.contains("://") {
            found.push(NamedFile {
                key: path.join("."),
                span: node.span,
                path: sources.directory(node.span.source).join(text),
            });
        }
    });
    found
}

/// Every data set that a resolved tree names elsewhere.
pub(super) fn remote_files(root: &Node) -> Vec<RemoteFile> {
    let sets = root.as_map().and_then(|map| map.get("prompts"));
    let sets = sets.map_or(&[][..], |(_, sets)| sets.entries());
    let text = |node: &Node| match &node.content {
        Content::Scalar { text, .. } => Some(text.clone()),
        Content::List(_) | Content::Map(_) => None,
    };
    sets.iter()
        .filter_map(|(id, set)| {
            let set = set.as_map()?;
            let (_, path) = set.get("path")?;
            let url = text(path).filter(|path| path.contains("://"))?;
            Some(RemoteFile {
                key: format!("prompts.{}.path", id.text),
                span: path.span,
                url,
                sha256: set.get("sha256").and_then(|(_, digest)| text(digest)),
            })
        })
        .collect()
}

/// What a resolved tree names of a machine or a hub, and no bundle can hold.
pub(super) fn outside(root: &Node, sources: &Sources) -> Vec<NamedOutside> {
    let mut found = Vec::new();
    walk(root, &mut Vec::new(), &mut |path, node| {
        let Content::Scalar { text, .. } = &node.content else {
            return;
        };
        let named = match path {
            ["backends", _, "launch", "cwd" | "python"] => true,
            ["models", _, "tokenizer"] => !sources.directory(node.span.source).join(text).exists(),
            _ => false,
        };
        if named {
            found.push(NamedOutside {
                key: path.join("."),
                named: text.clone(),
            });
        }
    });
    found
}

/// Every command that a tree has run, where any part of it was written in one of these sources.
pub(super) fn commands(root: &Node, from: &dyn Fn(SourceId) -> bool) -> Vec<NamedCommand> {
    let mut found = Vec::new();
    let entries = |node: &Node| node.entries().to_vec();
    for (key, node) in entries(root) {
        for (id, backend) in entries(&node) {
            if key.text == "run" && id.text == "between" && written_in(&backend, from) {
                let (key, span) = ("run.between".to_owned(), id.span);
                found.push(NamedCommand { key, span });
            }
            if key.text != "backends" {
                continue;
            }
            for (name, value) in entries(&backend) {
                let offline = name.text == "interface" && value.is_word("offline");
                let runs = RUN.contains(&name.text.as_str()) || offline;
                if runs && (from(name.span.source) || written_in(&value, from)) {
                    found.push(NamedCommand {
                        key: format!("backends.{}.{}", id.text, name.text),
                        span: name.span,
                    });
                }
            }
        }
    }
    found
}

fn written_in(node: &Node, from: &dyn Fn(SourceId) -> bool) -> bool {
    from(node.span.source)
        || match &node.content {
            Content::Scalar { .. } => false,
            Content::List(items) => items.iter().any(|item| written_in(item, from)),
            Content::Map(map) => map
                .entries
                .iter()
                .any(|(key, node)| from(key.span.source) || written_in(node, from)),
        }
}

fn walk<'n>(node: &'n Node, path: &mut Vec<&'n str>, see: &mut impl FnMut(&[&str], &Node)) {
    see(path, node);
    match &node.content {
        Content::Scalar { .. } => {}
        Content::List(items) => items.iter().for_each(|item| walk(item, path, see)),
        Content::Map(map) => {
            for (key, node) in &map.entries {
                path.push(&key.text);
                walk(node, path, see);
                path.pop();
            }
        }
    }
}

/// The names that files have from the folder of the first source: what other files have written starts from theirs.
pub(super) fn from_the_first(root: &Node, sources: &Sources) -> Renamed {
    let main = sources.main().path.parent().unwrap_or(Path::new(""));
    files(root, sources)
        .into_iter()
        .filter(|file| sources.directory(file.span.source) != main)
        .map(|file| {
            let path = relative(main, &file.path).display().to_string();
            (file.span, path)
        })
        .collect()
}

/// The way from a folder to a file. Where one of them is absolute, the file's own path.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    if folder.is_absolute() != file.is_absolute() {
        return file.to_owned();
    }
    let (folder, file) = (plain(folder), plain(file));
    let shared = folder.iter().zip(&file).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, folder.len() - shared);
    if folder[shared..].contains(&Component::ParentDir) {
        // Nobody knows how the folder above is called.
        return file.iter().collect();
    }
    up.chain(file[shared..].iter().copied()).collect()
}

/// The parts of a path, without `.` and without a folder and the `..` behind it.
fn plain(path: &Path) -> Vec<Component<'_>> {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            (part, _) => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_a_folder_to_a_file() {
        let way = |folder: &str, file: &str| {
            relative(Path::new(folder), Path::new(file))
                .display()
                .to_string()
        };
        assert_eq!(
            way("teams/search", "teams/platform/../data/a.json"),
            "../data/a.json"
        );
        assert_eq!(way("", "data/a.json"), "data/a.json");
        assert_eq!(way("teams", "a.json"), "../a.json");
        assert_eq!(way("/s/teams", "/s/data/a.json"), "../data/a.json");
        assert_eq!(way("teams", "/data/a.json"), "/data/a.json");
        assert_eq!(way("../other", "data/a.json"), "data/a.json");
    }
}
