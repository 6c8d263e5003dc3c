//! The names that a scenario defines, and where a name is wanted.

use std::ops::Range;
use std::path::PathBuf;

use super::documents::Document;
use super::outline::Step;

/// Something that a file defines by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// An entry of a registry: `backends`, `models`, `prompts`, `load`, `profiles`, `vars` or `secrets`.
    Entry(&'static str),
    /// A stage of a load.
    Stage,
    /// An assertion stands here, which names metrics, backends, stages.
    Assertion,
    /// A file.
    File,
}

/// The registries that an assertion can name.
pub(super) const REGISTRIES: [&str; 4] = ["backends", "models", "prompts", "load"];

/// What a value at a path is the name of.
pub(super) fn wanted(path: &[Step]) -> Option<Named> {
    let keys: Vec<&str> = path.iter().filter_map(Step::key).collect();
    let keys = match keys.as_slice() {
        ["profiles", _, rest @ ..] if !rest.is_empty() => rest,
        keys => keys,
    };
    match keys {
        ["extends"] | ["include"] => Some(Named::File),
        ["profiles", _, "inherits"] | ["inherits"] => Some(Named::Entry("profiles")),
        ["slos", _] | ["slos", _, "assert"] | ["slos", _, "overrides", "assert"] => {
            Some(Named::Assertion)
        }
        ["load", _, "trace", "prompts"] => Some(Named::Entry("prompts")),
        ["prompts", _, "path"] | ["baseline", "file"] => Some(Named::File),
        [.., "where", dimension]
        | ["matrix", dimension]
        | ["matrix", "exclude" | "include", dimension] => dimension_names(dimension),
        _ => None,
    }
}

/// What the keys of the map at a path are names of.
pub(super) fn wanted_keys(path: &[Step]) -> Option<Named> {
    let keys: Vec<&str> = path.iter().filter_map(Step::key).collect();
    match keys.as_slice() {
        ["models", _, "served_as"] | ["models", _, "launch", "args"] => {
            Some(Named::Entry("backends"))
        }
        _ => None,
    }
}

/// What a dimension of cells has the names of.
pub(super) fn dimension_names(dimension: &str) -> Option<Named> {
    match dimension {
        "backend" => Some(Named::Entry("backends")),
        "model" => Some(Named::Entry("models")),
        "prompts" => Some(Named::Entry("prompts")),
        "load" => Some(Named::Entry("load")),
        "stage" => Some(Named::Stage),
        _ => None,
    }
}

/// A name and where it is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The bytes of the name in it.
    pub at: Range<usize>,
}

/// Every name of a kind in these files, the nearest file first.
pub(super) fn names(documents: &[Document], kind: Named) -> Vec<Definition> {
    let mut found: Vec<Definition> = Vec::new();
    for document in documents {
        for definition in own(document, kind) {
            if found.iter().all(|known| known.name != definition.name) {
                found.push(definition);
            }
        }
    }
    found
}

fn own(document: &Document, kind: Named) -> Vec<Definition> {
    let define = |name: String, at: Range<usize>| Definition {
        name,
        path: document.path.clone(),
        at,
    };
    match kind {
        Named::Entry(registry) => {
            let path = [Step::Key(registry.to_owned())];
            let entries = document.inside(&path);
            entries
                .filter_map(|entry| {
                    Some(define(
                        entry.path.last()?.key()?.to_owned(),
                        entry.key.clone()?,
                    ))
                })
                .collect()
        }
        Named::Stage => document
            .entries
            .iter()
            .filter_map(|entry| {
                let keys: Vec<&str> = entry.path.iter().filter_map(Step::key).collect();
                let value = document.value(entry)?;
                let name = match keys.as_slice() {
                    ["load", _, "stages", "name"] => value.to_owned(),
                    ["load", _, "levels", "users"] => format!("c{value}"),
                    ["load", _, "levels", "rate"] => level_of_rate(value)?,
                    ["load", _, "batch", "size"] if value == "all" => "all".to_owned(),
                    ["load", _, "batch", "size"] => format!("b{value}"),
                    _ => return None,
                };
                Some(define(name, entry.value.clone()?))
            })
            .collect(),
        Named::Assertion | Named::File => Vec::new(),
    }
}

/// The stage of a level of a rate in requests a second: `r8`, `r0-5`.
fn level_of_rate(rate: &str) -> Option<String> {
    let number = rate.strip_suffix("/s")?.trim();
    Some(format!("r{}", number.replace('.', "-")))
}
