//! What is asked in one cell and not in another: `${{ cell.backend }}` in a `request`, left as it is until the cells are known.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use minijinja::value::Value as Computed;
use serde_json::Value;

use super::decode::{Decode, Problems};
use super::expression;
use super::same::alike;
use super::schema::Definitions;
use super::tree::{Content, Map, Node};
use super::types::RequestSpec;
use crate::diagnostic::{Diagnostic, Severity, Span};

/// The names of a cell, for expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellNames<'a> {
    /// Its backend.
    pub backend: &'a str,
    /// Its model.
    pub model: &'a str,
    /// Its prompt set.
    pub prompts: &'a str,
    /// Its load.
    pub load: &'a str,
}

impl CellNames<'_> {
    /// What an expression can name.
    pub(super) const MEMBERS: [&'static str; 4] = ["backend", "model", "prompts", "load"];

    fn value(&self) -> Computed {
        let CellNames {
            backend,
            model,
            prompts,
            load,
        } = *self;
        minijinja::context! { backend, model, prompts, load }
    }
}

/// A scalar whose value depends on the cell.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) pieces: Vec<LatePiece>,
    /// The variables, for expressions that name them, too.
    pub(super) vars: Rc<BTreeMap<String, Computed>>,
    /// Those of them that are named.
    pub(super) named: Vec<String>,
}

/// A part of it.
#[derive(Debug)]
pub(super) enum LatePiece {
    Text(String),
    Expression { source: String, place: Span },
}

impl Late {
    fn node(&self, at: Span, cell: &CellNames<'_>) -> Result<Rc<Node>, Box<Diagnostic>> {
        let environment = expression::environment();
        let computed = |source: &str, place: Span| {
            let context = minijinja::context! { vars => &*self.vars, cell => cell.value() };
            expression::computed(&environment, source, place, context)
        };
        if let [LatePiece::Expression { source, place }] = self.pieces.as_slice() {
            let value = computed(source, *place)?;
            return expression::to_node(&value, at, 0)
                .map_err(|what| Box::new(expression::no_value(*place, &what)));
        }
        let mut whole = String::new();
        for piece in &self.pieces {
            match piece {
                LatePiece::Text(text) => whole.push_str(text),
                LatePiece::Expression { source, place } => {
                    let value = computed(source, *place)?;
                    whole.push_str(&expression::in_text(&value, *place)?);
                }
            }
        }
        let content = Content::Scalar {
            text: whole,
            plain: false,
        };
        Ok(Rc::new(Node::new(at, content)))
    }
}

/// What is asked with each request, in every cell or in one.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is the same in every cell.
    everywhere: RequestSpec,
    /// The whole of it, if some of it depends on the cell.
    late: Option<Rc<Node>>,
}

impl Asked {
    /// What is asked in a cell.
    ///
    /// # Errors
    /// An expression has no value there, or one that its key does not take.
    pub fn in_cell(&self, cell: &CellNames<'_>) -> Result<Cow<'_, RequestSpec>, Vec<Diagnostic>> {
        let Some(late) = &self.late else {
            return Ok(Cow::Borrowed(&self.everywhere));
        };
        let mut problems = Problems::default();
        let node = known(late, cell, &mut problems.list);
        if !problems.list.is_empty() {
            return Err(problems.list);
        }
        let spec = RequestSpec::decode(&node, &mut problems);
        // What is merely surprising was told when the file was read.
        problems
            .list
            .retain(|problem| problem.severity == Severity::Error);
        spec.filter(|_| problems.list.is_empty())
            .map(Cow::Owned)
            .ok_or(problems.list)
    }
}

impl Deref for Asked {
    type Target = RequestSpec;
    fn deref(&self) -> &RequestSpec {
        &self.everywhere
    }
}

impl DerefMut for Asked {
    fn deref_mut(&mut self) -> &mut RequestSpec {
        &mut self.everywhere
    }
}

impl PartialEq for Asked {
    /// Where it was written does not matter.
    fn eq(&self, other: &Asked) -> bool {
        let late = match (&self.late, &other.late) {
            (Some(one), Some(other)) => alike(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        late && self.everywhere == other.everywhere
    }
}

impl Decode for Asked {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if !has_late(node) {
            let everywhere = RequestSpec::decode(node, problems)?;
            return Some(Asked {
                everywhere,
                late: None,
            });
        }
        let sure = without_late(node);
        let sure =
            sure.unwrap_or_else(|| Rc::new(Node::new(node.span, Content::Map(Map::default()))));
        Some(Asked {
            everywhere: RequestSpec::decode(&sure, problems)?,
            late: Some(node.clone()),
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        RequestSpec::schema(definitions)
    }
}

fn has_late(node: &Node) -> bool {
    node.late.is_some()
        || match &node.content {
            Content::Scalar { .. } => false,
            Content::List(items) => items.iter().any(|item| has_late(item)),
            Content::Map(map) => map.entries.iter().any(|(_, node)| has_late(node)),
        }
}

/// What is left when all that depends on the cell is taken away, and what is empty then.
fn without_late(node: &Rc<Node>) -> Option<Rc<Node>> {
    if !has_late(node) {
        return Some(node.clone());
    }
    match &node.content {
        Content::Scalar { .. } => None,
        Content::List(items) => {
            let items: Vec<Rc<Node>> = items.iter().filter_map(without_late).collect();
            (!items.is_empty()).then(|| Rc::new(Node::new(node.span, Content::List(items))))
        }
        Content::Map(map) => {
            let entries = map.entries.iter();
            let entries: Vec<_> = entries
                .filter_map(|(key, node)| Some((key.clone(), without_late(node)?)))
                .collect();
            (!entries.is_empty()).then(|| node.with_entries(entries))
        }
    }
}

/// The node with the values of a cell; where there is none, the expression stays and is told of.
fn known(node: &Rc<Node>, cell: &CellNames<'_>, problems: &mut Vec<Diagnostic>) -> Rc<Node> {
    if let Some(late) = &node.late {
        return late.node(node.span, cell).unwrap_or_else(|problem| {
            problems.push(*problem);
            node.clone()
        });
    }
    match &node.content {
        Content::Scalar { .. } => node.clone(),
        Content::List(items) => {
            let items = items.iter().map(|item| known(item, cell, problems));
            Rc::new(Node::new(node.span, Content::List(items.collect())))
        }
        Content::Map(map) => {
            let entries = map.entries.iter();
            let entries = entries.map(|(key, node)| (key.clone(), known(node, cell, problems)));
            node.with_entries(entries.collect())
        }
    }
}

/// The variables that are named beside the cell, anywhere below a node.
pub(super) fn named<'n>(node: &'n Node, names: &mut Vec<&'n str>) {
    if let Some(late) = &node.late {
        names.extend(late.named.iter().map(String::as_str));
    }
    match &node.content {
        Content::Scalar { .. } => {}
        Content::List(items) => items.iter().for_each(|item| named(item, names)),
        Content::Map(map) => map.entries.iter().for_each(|(_, node)| named(node, names)),
    }
}
