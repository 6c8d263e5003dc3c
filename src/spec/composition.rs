//! What is known of a composed scenario besides its meaning: its text as one file, its inputs, its profiles.

use std::collections::HashSet;
use std::rc::Rc;

use super::expression::{self, Scope};
use super::provenance::Provenance;
use super::show::{self, Expressions, View};
use super::tree::{Content, Key, Node};
use super::vars::{Secret, VarOrigin, VarType, Variable};
use crate::diagnostic::Sources;

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
    /// The scenario as one YAML text, its expressions as they were written.
    pub fn yaml(&self, view: View<'_>) -> String {
        show::yaml(&self.root, &Expressions::Written, view)
    }

    /// The scenario as one YAML text with every expression replaced by its value; secrets stay names.
    pub fn resolved_yaml(&self, sources: &Sources, view: View<'_>) -> String {
        let (root, kept) = self.resolved(sources);
        show::yaml(&root, &Expressions::Replaced(&kept), view)
    }

    /// The tree without variables, and the places where an expression is left: those with a secret.
    fn resolved(&self, sources: &Sources) -> (Rc<Node>, HashSet<crate::diagnostic::Span>) {
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
        let entries = evaluated.root.entries().iter();
        let entries = entries.filter(|(key, _)| key.text != "vars" && !key.text.starts_with("x-"));
        let root = evaluated.root.with_entries(entries.cloned().collect());
        (root, evaluated.kept.into_iter().collect())
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
