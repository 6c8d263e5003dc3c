//! Values that are replaced on the command line: `--set run.seed=7` puts a piece of YAML where the file has another one.

use std::rc::Rc;

use super::tree::{self, Content, DEPTH_LIMIT, Key, Map, Node};
use crate::diagnostic::{Diagnostic, Sources, Span};

/// Replaces one value of a tree; `KEY=null` takes the key away. The argument is kept in `sources`, so that it can be quoted.
pub(super) fn apply(
    root: &Rc<Node>,
    argument: &str,
    sources: &mut Sources,
) -> Result<Rc<Node>, Vec<Diagnostic>> {
    let source = sources.add("--set", argument);
    let span = |start: usize, end: usize| Span { source, start, end };
    let pair = argument
        .split_once('=')
        .filter(|(path, value)| !value.trim().is_empty() && path.split('.').count() < DEPTH_LIMIT);
    let Some((path, _)) = pair else {
        return Err(vec![
            Diagnostic::error("S027", "expected `KEY=VALUE`")
                .at(span(0, argument.len()), "")
                .help("write it like `run.seed=7`"),
        ]);
    };
    // The value is read at its own place in the argument.
    let value = " ".repeat(path.len() + 1) + &argument[path.len() + 1..];
    let (node, problems) = tree::parse(source, &value);
    let Some(node) = node.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };
    let mut keys = Vec::new();
    let mut start = 0;
    for part in path.split('.') {
        keys.push(Key {
            text: part.trim().to_owned(),
            span: span(start, start + part.len()),
        });
        start += part.len() + 1;
    }
    put(root, &keys, &node).map_err(|problem| vec![*problem])
}

/// The tree with `value` at the end of the path.
fn put(node: &Rc<Node>, path: &[Key], value: &Rc<Node>) -> Result<Rc<Node>, Box<Diagnostic>> {
    let Some((key, rest)) = path.split_first() else {
        return Ok(value.clone());
    };
    match &node.content {
        Content::List(items) => {
            let index = key.text.parse::<usize>().ok();
            let index = index.filter(|index| *index < items.len());
            let index = index.ok_or_else(|| no_place(key, "the list has no such place"))?;
            let mut items = items.clone();
            items[index] = put(&items[index], rest, value)?;
            Ok(Rc::new(Node::new(node.span, Content::List(items))))
        }
        Content::Map(map) => {
            let mut entries = map.entries.clone();
            let at = entries.iter().position(|(known, _)| known.text == key.text);
            match at {
                Some(at) if rest.is_empty() && value.is_null() => {
                    entries.remove(at);
                }
                Some(at) => entries[at].1 = put(&entries[at].1, rest, value)?,
                None if value.is_null() && map.removed.iter().any(|gone| gone.text == key.text) => {
                }
                None if value.is_null() => return Err(no_place(key, "nothing to take away")),
                None => entries.push((key.clone(), fresh(rest, value))),
            }
            Ok(node.with_entries(entries))
        }
        Content::Scalar { .. } => Err(no_place(
            key,
            "what is to hold it is neither a map nor a list",
        )),
    }
}

/// Maps around a value, for a path that the file does not have.
fn fresh(path: &[Key], value: &Rc<Node>) -> Rc<Node> {
    path.iter().rev().fold(value.clone(), |inner, key| {
        let entries = vec![(key.clone(), inner)];
        let content = Content::Map(Map {
            entries,
            ..Map::default()
        });
        Rc::new(Node::new(key.span, content))
    })
}

fn no_place(key: &Key, label: &str) -> Box<Diagnostic> {
    let message = format!("`{}` cannot be set", key.text);
    Box::new(Diagnostic::error("S027", message).at(key.span, label))
}
