//! What can still be read of a file with mistakes: without the values that are wrong, so that the other stages can say what else
//! is. A draft is never run.

use std::collections::HashSet;
use std::rc::Rc;

use super::decode::{Decode, Problems};
use super::tree::{Content, Map, Node};
use super::types::ScenarioSpec;
use crate::diagnostic::{Diagnostic, Span};

/// A file that cannot be read after so many rounds is given up.
const ROUNDS: usize = 8;
/// The keys that decide which cells and stages there are.
const CELLS: [&str; 5] = ["backends", "models", "prompts", "load", "matrix"];

/// A scenario without what is wrong in its file.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is left.
    pub spec: ScenarioSpec,
    /// Nothing was left out that decides which cells and stages there are.
    pub cells_are_whole: bool,
}

/// Reads the tree without the values that `problems` point at; what is then missing takes its surroundings with it.
pub(super) fn draft(root: &Rc<Node>, problems: &[Diagnostic]) -> Option<Draft> {
    let mut root = root.clone();
    let mut wrong = places(problems);
    let mut cells_are_whole = true;
    for _ in 0..ROUNDS {
        if let Content::Map(map) = &root.content {
            cells_are_whole &= !map.entries.iter().any(|(key, node)| {
                CELLS.contains(&key.text.as_str())
                    && (wrong.contains(&key.span) || holds(node, &wrong))
            });
        }
        root = without(&root, &wrong)?;
        let mut found = Problems::default();
        if let Some(spec) = ScenarioSpec::decode(&root, &mut found) {
            return Some(Draft {
                spec,
                cells_are_whole,
            });
        }
        wrong = places(&found.list);
    }
    None
}

/// Where values are wrong. An unknown key is none: it is read as what it was meant to be, or not at all.
fn places(problems: &[Diagnostic]) -> HashSet<Span> {
    problems
        .iter()
        .filter(|problem| problem.code != "S010")
        .filter_map(|problem| Some(problem.primary.as_ref()?.span))
        .collect()
}

fn holds(node: &Node, wrong: &HashSet<Span>) -> bool {
    wrong.contains(&node.span) || holds_inside(node, wrong)
}

fn holds_inside(node: &Node, wrong: &HashSet<Span>) -> bool {
    match &node.content {
        Content::Scalar { .. } => false,
        Content::List(items) => items.iter().any(|item| holds(item, wrong)),
        Content::Map(map) => map
            .entries
            .iter()
            .any(|(key, node)| wrong.contains(&key.span) || holds(node, wrong)),
    }
}

/// The node without the innermost entries and items at these places; `None` if nothing is left.
fn without(node: &Rc<Node>, wrong: &HashSet<Span>) -> Option<Rc<Node>> {
    if !holds_inside(node, wrong) {
        return (!wrong.contains(&node.span)).then(|| node.clone());
    }
    let content = match &node.content {
        Content::Scalar { .. } => return None,
        Content::List(items) => {
            let items = items.iter().filter_map(|item| without(item, wrong));
            Content::List(items.collect())
        }
        Content::Map(map) => {
            let entries = map
                .entries
                .iter()
                .filter(|(key, _)| !wrong.contains(&key.span))
                .filter_map(|(key, node)| Some((key.clone(), without(node, wrong)?)));
            Content::Map(Map {
                entries: entries.collect(),
                flow: map.flow,
                removed: Vec::new(),
            })
        }
    };
    let empty = match &content {
        Content::List(items) => items.is_empty(),
        Content::Map(map) => map.entries.is_empty(),
        Content::Scalar { .. } => false,
    };
    (!empty).then(|| Rc::new(Node::new(node.span, content)))
}
