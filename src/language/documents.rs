//! A file and those that it extends and includes, as they are being written.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::outline::{Entry, Step, entries};

/// Files that are read for one: more are a mistake that is told elsewhere.
const MOST: usize = 64;

/// A file, and where its keys and values stand.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// Its keys and values.
    pub entries: Vec<Entry>,
}

impl Document {
    /// A file with this text.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Document {
        let text = text.into();
        Document {
            path: path.into(),
            entries: entries(&text),
            text,
        }
    }

    /// A scalar of the file.
    pub fn value(&self, entry: &Entry) -> Option<&str> {
        entry.value.clone().map(|range| &self.text[range])
    }

    /// The entries of the map or list at a path.
    pub fn inside<'d>(&'d self, path: &'d [Step]) -> impl Iterator<Item = &'d Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.path.len() == path.len() + 1 && entry.path.starts_with(path))
    }

    /// The scalars of the map at a path, by their keys.
    pub fn said<'d>(&'d self, path: &'d [Step]) -> Vec<(&'d str, &'d str)> {
        self.inside(path)
            .filter_map(|entry| Some((entry.path.last()?.key()?, self.value(entry)?)))
            .collect()
    }

    /// What an entry at a byte is, if one is: the entry, and whether its key is meant.
    pub fn at(&self, byte: usize) -> Option<(&Entry, bool)> {
        let holds = |range: &Option<Range<usize>>| {
            range
                .as_ref()
                .is_some_and(|range| range.start <= byte && byte <= range.end)
        };
        self.entries.iter().find_map(|entry| match entry {
            entry if holds(&entry.key) => Some((entry, true)),
            entry if holds(&entry.value) => Some((entry, false)),
            _ => None,
        })
    }

    /// The files that it names under a key.
    fn named(&self, key: &str) -> impl Iterator<Item = (&Entry, &str)> {
        self.entries.iter().filter_map(move |entry| {
            let under =
                entry.path.first().and_then(Step::key) == Some(key) && entry.path.len() <= 2;
            let name = self
                .value(entry)
                .filter(|name| under && !name.contains(':'))?;
            Some((entry, name))
        })
    }

    /// A path that the file wrote, from where it is.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// A file with those that it extends and includes, itself first.
pub fn gather(document: Document, read: &dyn Fn(&Path) -> Option<String>) -> Vec<Document> {
    let mut all = vec![document];
    let mut next = 0;
    while next < all.len() && all.len() < MOST {
        let document = &all[next];
        let named: Vec<PathBuf> = ["extends", "include"]
            .into_iter()
            .flat_map(|key| document.named(key))
            .map(|(_, name)| document.beside(name))
            .collect();
        for path in named {
            if all.iter().all(|known| known.path != path)
                && let Some(text) = read(&path)
            {
                all.push(Document::new(path, text));
            }
        }
        next += 1;
    }
    all
}
