//! Several files become one tree: what a file extends lies below it, what it includes beside it, a profile above it.
//!
//! In: the tree of a file, and a way to read others. Out: one tree, every value still with its place, or what is wrong.

mod overlay;
mod profile;
pub(super) mod remote;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::decode::{Decode, Problems};
use super::provenance::Provenance;
use super::tree::{self, Content, Key, Node};
use super::values::OneOrMany;
use super::{Inputs, required_version};
use crate::diagnostic::{Diagnostic, SourceId, Sources, Span, Spanned};
use overlay::overlay;

/// How many files may stand in a chain of `extends` and `include`, the first one counted.
const CHAIN_LIMIT: usize = 8;
/// Keys whose entries a library may add.
const REGISTRIES: [&str; 7] = [
    "backends", "models", "prompts", "load", "slos", "vars", "secrets",
];
/// Keys that a library may have beside: they say something of itself.
const OF_ITSELF: [&str; 6] = [
    "version",
    "requires",
    "name",
    "description",
    "owner",
    "$schema",
];

/// One tree, made of all files.
pub(super) struct Composed {
    /// The tree, without `extends`, `include` and `profiles`.
    pub(super) root: Rc<Node>,
    /// The profiles of all files.
    pub(super) profiles: Vec<(Key, Rc<Node>)>,
}

/// Why no tree came out.
pub(super) enum Broken {
    /// A file wants another version of the tool: nothing else is told.
    TooOld(Box<Diagnostic>),
    /// A file is not there or cannot be read; what is wrong is among the problems.
    Unread,
}

/// Composes the tree of a file with those that it names, and with the profile that is asked for.
pub(super) fn compose(
    root: &Rc<Node>,
    inputs: &Inputs<'_>,
    sources: &mut Sources,
    provenance: &mut Provenance,
    problems: &mut Vec<Diagnostic>,
) -> Result<Composed, Broken> {
    let path = sources.get(root.span.source).path.clone();
    let mut composer = Composer {
        inputs,
        sources,
        provenance,
        problems,
        texts: HashMap::new(),
    };
    let mut chain = vec![normal(&path)];
    let whole = composer.inherited(root, Role::Base, &mut chain)?;
    let mut profiles = Vec::new();
    let mut entries = Vec::new();
    for (key, node) in whole.entries() {
        if key.text != "profiles" {
            entries.push((key.clone(), node.clone()));
            continue;
        }
        match node.as_map() {
            Some(map) => profiles = map.entries.clone(),
            None => {
                let mut wrong = Problems::default();
                wrong.expected("a map of names", node);
                composer.problems.extend(wrong.list);
            }
        }
    }
    let mut root = match whole.as_map() {
        Some(_) => whole.with_entries(entries),
        None => whole,
    };
    if let Some(wanted) = inputs.profile {
        let source = sources.add("--profile", wanted);
        let place = Span {
            source,
            start: 0,
            end: wanted.len(),
        };
        root = profile::apply(&root, &profiles, wanted, place, problems);
    }
    let root = without_emptied(&root).unwrap_or(root);
    Ok(Composed { root, profiles })
}

/// The node without maps of which everything has been taken away: they are as if they had never been.
fn without_emptied(node: &Rc<Node>) -> Option<Rc<Node>> {
    let Some(map) = node.as_map() else {
        return Some(node.clone());
    };
    let entries = map.entries.iter();
    let entries: Vec<_> = entries
        .filter_map(|(key, node)| Some((key.clone(), without_emptied(node)?)))
        .collect();
    (!entries.is_empty() || map.removed.is_empty()).then(|| node.with_entries(entries))
}

/// What a file is to the one that names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It lies below.
    Base,
    /// It adds entries.
    Library,
}

struct Composer<'a, 'i> {
    inputs: &'a Inputs<'i>,
    sources: &'a mut Sources,
    provenance: &'a mut Provenance,
    problems: &'a mut Vec<Diagnostic>,
    /// Files that were read, so that each is one source however often it is named.
    texts: HashMap<PathBuf, (SourceId, Rc<Node>)>,
}

impl Composer<'_, '_> {
    /// The tree of a file with what it extends and includes.
    fn inherited(
        &mut self,
        own: &Rc<Node>,
        role: Role,
        chain: &mut Vec<PathBuf>,
    ) -> Result<Rc<Node>, Broken> {
        let Content::Map(map) = &own.content else {
            return Ok(own.clone());
        };
        let bases = self.names(map.get("extends"));
        let libraries = self.names(map.get("include"));
        if let (Role::Library, Some((key, _))) = (role, map.get("extends")) {
            self.problems.push(
                Diagnostic::error("S103", "a library cannot extend another file").at(
                    key.span,
                    "it only adds entries; a file that extends it, or `include`, may",
                ),
            );
            return Err(Broken::Unread);
        }
        // All files are looked for before it is said that one is missing.
        let bases: Vec<_> = bases
            .iter()
            .map(|name| self.bring(name, Role::Base, chain))
            .collect();
        let libraries: Vec<_> = libraries
            .iter()
            .map(|name| self.bring(name, Role::Library, chain))
            .collect();
        let bases = bases.into_iter().collect::<Result<Vec<_>, _>>()?;
        let libraries = libraries.into_iter().collect::<Result<Vec<_>, _>>()?;

        let entries = map.entries.iter();
        let entries = entries.filter(|(key, _)| key.text != "extends" && key.text != "include");
        let alone = own.with_entries(entries.cloned().collect());
        let mut below: Option<Rc<Node>> = None;
        for base in bases {
            below = Some(match below {
                None => base,
                Some(below) => overlay(&below, &base, base.span, self.problems),
            });
        }
        let mut whole = match below {
            None => alone,
            Some(below) => overlay(&below, &alone, own.span, self.problems),
        };
        for library in libraries {
            whole = self.added(&whole, &library);
        }
        Ok(whole)
    }

    /// The names under `extends` or `include`.
    fn names(&mut self, entry: Option<(&Key, &Rc<Node>)>) -> Vec<Spanned<String>> {
        let Some((_, node)) = entry else {
            return Vec::new();
        };
        let mut wrong = Problems::default();
        let names = OneOrMany::<Spanned<String>>::decode(node, &mut wrong);
        self.problems.extend(wrong.list);
        names.map_or_else(Vec::new, |OneOrMany(names)| names)
    }

    /// Reads a file that is named at a place, and composes it.
    fn bring(
        &mut self,
        name: &Spanned<String>,
        role: Role,
        chain: &mut Vec<PathBuf>,
    ) -> Result<Rc<Node>, Broken> {
        let by = &self.sources.get(name.span.source).path;
        let path = match remote::address(by, &name.value) {
            Some(address) => address,
            None => normal(&self.sources.directory(name.span.source).join(&name.value)),
        };
        if let Some(at) = chain.iter().position(|known| *known == path) {
            let circle = arrows(chain[at..].iter().chain([&path]));
            let message = format!("files name each other in a circle: {circle}");
            self.problems
                .push(Diagnostic::error("S101", message).at(name.span, "this closes it"));
            return Err(Broken::Unread);
        }
        if chain.len() >= CHAIN_LIMIT {
            let message = format!("more than {CHAIN_LIMIT} files name each other in a chain");
            let diagnostic = Diagnostic::error("S101", message)
                .at(name.span, "")
                .help(arrows(chain.iter().chain([&path])));
            self.problems.push(diagnostic);
            return Err(Broken::Unread);
        }
        let (source, tree) = self.text(&path, name)?;
        let how = match role {
            Role::Base => "extended",
            Role::Library => "included",
        };
        self.provenance.brought(source, name.span, how);
        chain.push(path);
        let whole = self.inherited(&tree, role, chain);
        chain.pop();
        whole
    }

    /// The tree of a file, read once.
    fn text(
        &mut self,
        path: &Path,
        name: &Spanned<String>,
    ) -> Result<(SourceId, Rc<Node>), Broken> {
        if let Some(known) = self.texts.get(path) {
            return Ok(known.clone());
        }
        let text = match (self.inputs.files)(path) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                let diagnostic = Diagnostic::error("S100", message).at(name.span, "");
                self.problems.push(if remote::is_remote(path) {
                    diagnostic.help("`scenario lock` fetches what is on other hosts, and writes down its digest")
                } else {
                    diagnostic.help("a path starts from the folder of the file that it is written in")
                });
                return Err(Broken::Unread);
            }
        };
        let source = self.sources.add(path, text.as_str());
        let (tree, problems) = tree::parse(source, &text);
        self.problems.extend(problems);
        let tree = tree.ok_or(Broken::Unread)?;
        if let Some(too_old) = required_version(&tree) {
            let too_old = too_old.also(name.span, "read because of this");
            return Err(Broken::TooOld(Box::new(too_old)));
        }
        if tree.as_map().is_none() {
            let mut wrong = Problems::default();
            wrong.expected("a map of keys", &tree);
            self.problems.extend(wrong.list);
            return Err(Broken::Unread);
        }
        self.texts.insert(path.to_owned(), (source, tree.clone()));
        Ok((source, tree))
    }

    /// The tree with the entries of a library.
    fn added(&mut self, whole: &Rc<Node>, library: &Rc<Node>) -> Rc<Node> {
        let mut entries = whole.entries().to_vec();
        for (key, node) in library.entries() {
            if OF_ITSELF.contains(&key.text.as_str()) || key.text.starts_with("x-") {
                continue;
            }
            let (true, Some(new)) = (REGISTRIES.contains(&key.text.as_str()), node.as_map()) else {
                let diagnostic =
                    Diagnostic::error("S103", format!("a library cannot have `{}`", key.text))
                        .at(key.span, "")
                        .help(format!(
                            "it adds entries to {}",
                            super::decode::choice(&REGISTRIES)
                        ))
                        .help("a file that says more is a base: name it under `extends`");
                self.problems.push(diagnostic);
                continue;
            };
            let at = entries.iter().position(|(known, _)| known.text == key.text);
            let Some(at) = at else {
                entries.push((key.clone(), node.clone()));
                continue;
            };
            let Some(there) = entries[at].1.as_map() else {
                continue;
            };
            let mut together = there.entries.clone();
            for (key, node) in &new.entries {
                match together.iter().find(|(known, _)| known.text == key.text) {
                    // The same entry of the same library, which another file includes, too.
                    Some((known, _)) if known.span == key.span => {}
                    Some((known, _)) => self.problems.push(
                        Diagnostic::error("S102", format!("`{}` is there already", key.text))
                            .at(key.span, "a library only adds entries")
                            .also(known.span, "first given here"),
                    ),
                    None => together.push((key.clone(), node.clone())),
                }
            }
            entries[at].1 = entries[at].1.with_entries(together);
        }
        whole.with_entries(entries)
    }
}

/// A path without `.` and without `..` behind a folder.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        let behind_folder = matches!(normal.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::CurDir => {}
            Component::ParentDir if behind_folder => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

fn arrows<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> String {
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.join(" → ")
}
