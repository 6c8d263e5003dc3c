//! What is known of a composed scenario besides its meaning: its text as one file, its inputs, its profiles.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::expression::{self, Scope};
use super::late;
use super::portable::{self, NamedCommand, NamedFile, NamedOutside, RemoteFile};
use super::provenance::Provenance;
use super::show::{self, Expressions, View};
use super::tree::{Content, Key, Node};
use super::vars::{Secret, VarOrigin, VarType, Variable};
use crate::diagnostic::{ComposedLine, SourceId, Sources, Span};
use crate::secret::is_secret;

/// A scenario composed of its files, its profile, and what the command line replaces.
#[derive(Clone, Debug)]
pub struct Composition {
    pub(super) root: Rc<Node>,
    pub(super) profiles: Vec<(Key, Rc<Node>)>,
    pub(super) variables: Vec<Variable>,
    pub(super) secrets: Vec<Secret>,
}

/// Something that a scenario takes from outside.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name in expressions.
    pub name: String,
    /// What it is.
    pub kind: InputKind,
    /// What it is for.
    pub description: Option<String>,
    /// The environment variables that give it, the stronger one first.
    pub env: Vec<String>,
}

/// What an input is.
#[derive(Clone, Debug)]
pub enum InputKind {
    /// A variable.
    Variable {
        /// Its type.
        kind: VarType,
        /// Its value on one line; `None` if nobody gives one.
        value: Option<String>,
        /// Where the value comes from.
        origin: VarOrigin,
    },
    /// A secret.
    Secret,
}

impl Composition {
    /// Whether it lacks what every scenario needs: it is for others to extend or to include.
    pub fn is_part(&self) -> bool {
        let has = |key: &str| self.root.as_map().is_some_and(|map| map.get(key).is_some());
        !has("backends") || !has("load")
    }

    /// The text of a key at the top.
    pub fn said(&self, key: &str) -> Option<String> {
        let (_, node) = self.root.as_map()?.get(key)?;
        match &node.content {
            Content::Scalar { text, .. } => Some(text.clone()),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The scenario as one YAML text, its expressions as they were written.
    pub fn yaml(&self, view: View<'_>) -> String {
        show::yaml(&self.root, &Expressions::Written, view)
    }

    /// The scenario as one YAML text with every expression replaced by its value; secrets stay names. It may stand in place of the
    /// first file: paths that other files have written start from its folder.
    pub fn resolved_yaml(&self, sources: &Sources, view: View<'_>) -> String {
        let (root, kept) = self.resolved(sources);
        let renamed = portable::from_the_first(&root, sources);
        show::yaml(&root, &Expressions::Replaced(&kept, &renamed), view)
    }

    /// The same line by line, each with where the value that ends it was written.
    pub fn resolved_lines(&self, sources: &Sources) -> Vec<ComposedLine> {
        let (root, kept) = self.resolved(sources);
        let renamed = portable::from_the_first(&root, sources);
        show::lines(&root, &Expressions::Replaced(&kept, &renamed))
    }

    /// The same with these names for files, each by the place of its value.
    pub fn moved_yaml(&self, sources: &Sources, names: &BTreeMap<Span, String>) -> String {
        let (root, kept) = self.resolved(sources);
        show::yaml(&root, &Expressions::Replaced(&kept, names), View::default())
    }

    /// The files that the scenario names; those behind URLs and on a hub are none.
    pub fn files(&self, sources: &Sources) -> Vec<NamedFile> {
        portable::files(&self.resolved(sources).0, sources)
    }

    /// The data sets that the scenario names on a hub or behind URLs.
    pub fn remote_files(&self, sources: &Sources) -> Vec<RemoteFile> {
        portable::remote_files(&self.resolved(sources).0)
    }

    /// What the scenario names of this machine or of a hub, and no bundle can hold.
    pub fn outside(&self, sources: &Sources) -> Vec<NamedOutside> {
        portable::outside(&self.resolved(sources).0, sources)
    }

    /// The commands that the scenario runs, as far as one of these sources has written them.
    pub fn commands(&self, from: &dyn Fn(SourceId) -> bool) -> Vec<NamedCommand> {
        portable::commands(&self.root, from)
    }

    /// The tree without variables that nothing waits for, and the places where an expression is left: those with a secret, or with the cell.
    fn resolved(&self, sources: &Sources) -> (Rc<Node>, HashSet<Span>) {
        let scope = Scope {
            variables: &self.variables,
            secrets: &self.secrets,
            keep_secrets: true,
        };
        let evaluated = expression::evaluate(
            &self.root,
            &scope,
            sources,
            &mut Provenance::default(),
            &mut Vec::new(),
        );
        let mut named = Vec::new();
        late::named(&evaluated.root, &mut named);
        let entries = evaluated.root.entries().iter();
        let entries = entries.filter(|(key, _)| !key.text.starts_with("x-"));
        let entries = entries.filter_map(|(key, node)| match key.text.as_str() {
            // What waits for its cell names some of them still.
            "vars" => Some((key.clone(), self.named_variables(node, &named)?)),
            _ => Some((key.clone(), node.clone())),
        });
        let root = evaluated.root.with_entries(entries.collect());
        (root, evaluated.kept.into_iter().collect())
    }

    /// The declarations of some variables, with the values that they have now.
    fn named_variables(&self, declared: &Node, names: &[&str]) -> Option<Rc<Node>> {
        let entry = |text: &str, span: Span, node: Rc<Node>| {
            let text = text.to_owned();
            (Key { text, span }, node)
        };
        let known = self.variables.iter();
        let known = known.filter(|variable| names.contains(&variable.name.text.as_str()));
        let entries: Vec<_> = known
            .filter_map(|variable| {
                let value = variable.value.clone()?;
                let span = value.span;
                let content = Content::Scalar {
                    text: variable.kind.name().to_owned(),
                    plain: true,
                };
                let kind = Rc::new(Node::new(span, content));
                let map = declared.with_entries(vec![
                    entry("type", span, kind),
                    entry("default", span, value),
                ]);
                Some((variable.name.clone(), map))
            })
            .collect();
        (!entries.is_empty()).then(|| declared.with_entries(entries))
    }

    /// The environment variables that hold secrets: those that are declared, those of headers (of requests, and of outputs), and
    /// those of engines by their names.
    pub fn secret_variables(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .secrets
            .iter()
            .map(|secret| secret.env.clone())
            .collect();
        let backends = self.root.as_map().and_then(|map| map.get("backends"));
        for (_, backend) in backends.map_or(&[][..], |(_, node)| node.entries()) {
            for (key, node) in backend.entries() {
                let of_headers = matches!(key.text.as_str(), "auth" | "headers");
                from_environment(node, of_headers, &mut names);
            }
        }
        let outputs = self.root.as_map().and_then(|map| map.get("outputs"));
        if let Some((_, outputs)) = outputs {
            from_environment(outputs, true, &mut names);
        }
        names.sort();
        names.dedup();
        names
    }

    /// Where the key at the end of this way from the top is written.
    pub fn place(&self, way: &[&str]) -> Option<Span> {
        let (last, before) = way.split_last()?;
        let mut node = &self.root;
        for key in before {
            node = node.as_map()?.get(key)?.1;
        }
        Some(node.as_map()?.get(last)?.0.span)
    }

    /// The names of the profiles, each with its description.
    pub fn profiles(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.profiles.iter().map(|(key, node)| {
            let description = node.as_map().and_then(|map| map.get("description"));
            let text = description.and_then(|(_, node)| match &node.content {
                Content::Scalar { text, .. } => Some(text.as_str()),
                Content::List(_) | Content::Map(_) => None,
            });
            (key.text.as_str(), text)
        })
    }

    /// The declared variables and secrets.
    pub fn inputs(&self) -> Vec<Input> {
        let variables = self.variables.iter().map(|variable| Input {
            name: variable.name.text.clone(),
            kind: InputKind::Variable {
                kind: variable.kind,
                value: variable.value.as_deref().map(on_one_line),
                origin: variable.origin.clone(),
            },
            description: variable.description.clone(),
            env: variable.env.clone(),
        });
        let secrets = self.secrets.iter().map(|secret| Input {
            name: secret.name.text.clone(),
            kind: InputKind::Secret,
            description: secret.description.clone(),
            env: vec![secret.env.clone()],
        });
        variables.chain(secrets).collect()
    }
}

fn on_one_line(node: &Node) -> String {
    match &node.content {
        Content::Scalar { text, .. } => text.replace('\n', "⏎"),
        Content::List(_) | Content::Map(_) => {
            super::decode::to_json(node, &mut super::decode::Problems::default())
                .map(|json| json.to_string())
                .unwrap_or_default()
        }
    }
}

/// The variables below a node that are written as `{ env: NAME }`, all of them or those whose name says that they are secrets.
fn from_environment(node: &Node, all: bool, names: &mut Vec<String>) {
    match &node.content {
        Content::Scalar { .. } => {}
        Content::List(items) => items
            .iter()
            .for_each(|item| from_environment(item, all, names)),
        Content::Map(map) => {
            for (key, node) in &map.entries {
                match &node.content {
                    Content::Scalar { text, .. } if key.text == "env" => {
                        if all || is_secret(text) {
                            names.push(text.clone());
                        }
                    }
                    _ => from_environment(node, all, names),
                }
            }
        }
    }
}
