//! A composed scenario as one YAML text, with where each value was written.

use std::collections::HashSet;
use std::rc::Rc;

use super::portable::Renamed;
use super::provenance::Provenance;
use super::tree::{Content, Node};
use crate::diagnostic::{ComposedLine, Sources, Span};

/// How a scenario is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// Behind each value, the file and line where it was written.
    pub origin: Option<(&'a Sources, &'a Provenance)>,
}

/// What of the tree is no expression, though it looks like one.
pub(super) enum Expressions<'k> {
    /// Every scalar is as it was written.
    Written,
    /// Expressions were replaced, but at the places of the first; at those of the second stand other names of files.
    Replaced(&'k HashSet<Span>, &'k Renamed),
}

/// The tree as YAML in block style: read again, it is the same tree.
pub(super) fn yaml(root: &Node, expressions: &Expressions<'_>, view: View<'_>) -> String {
    written(root, expressions, view).text
}

/// The same line by line, each with where the value that ends it was written.
pub(super) fn lines(root: &Node, expressions: &Expressions<'_>) -> Vec<ComposedLine> {
    let writer = written(root, expressions, View::default());
    let mut ends = writer.ends.into_iter().peekable();
    let numbered = writer.text.lines().zip(0..);
    numbered
        .map(|(line, number)| {
            let end = ends.next_if(|(at, _)| *at == number);
            (line.to_owned(), end.map(|(_, span)| span))
        })
        .collect()
}

fn written<'a>(root: &Node, expressions: &'a Expressions<'a>, view: View<'a>) -> Writer<'a> {
    let mut writer = Writer {
        text: String::new(),
        line: 0,
        ends: Vec::new(),
        expressions,
        view,
    };
    match &root.content {
        Content::Map(map) if !map.entries.is_empty() => writer.entries(root, 0),
        Content::List(items) if !items.is_empty() => writer.items(items, 0),
        _ => writer.leaf(root),
    }
    writer
}

struct Writer<'a> {
    text: String,
    /// The line that is being written, the first being 0.
    line: usize,
    /// The lines that end with a value, and where it was written.
    ends: Vec<(usize, Span)>,
    expressions: &'a Expressions<'a>,
    view: View<'a>,
}

impl Writer<'_> {
    fn entries(&mut self, node: &Node, depth: usize) {
        for (index, (key, node)) in node.entries().iter().enumerate() {
            if index > 0 || !self.text.ends_with("- ") {
                self.indent(depth);
            }
            self.text.push_str(&quoted(&key.text, false));
            self.text.push(':');
            match &node.content {
                Content::Map(map) if !map.entries.is_empty() => {
                    self.end_line();
                    self.entries(node, depth + 1);
                }
                Content::List(items) if !items.is_empty() => {
                    self.end_line();
                    self.items(items, depth + 1);
                }
                _ => {
                    self.text.push(' ');
                    self.leaf(node);
                }
            }
        }
    }

    fn items(&mut self, items: &[Rc<Node>], depth: usize) {
        for (index, node) in items.iter().enumerate() {
            if index > 0 || !self.text.ends_with("- ") {
                self.indent(depth);
            }
            self.text.push_str("- ");
            match &node.content {
                Content::Map(map) if !map.entries.is_empty() => self.entries(node, depth + 1),
                Content::List(items) if !items.is_empty() => self.items(items, depth + 1),
                _ => self.leaf(node),
            }
        }
    }

    fn indent(&mut self, depth: usize) {
        self.text.push_str(&"  ".repeat(depth));
    }

    fn leaf(&mut self, node: &Node) {
        match &node.content {
            Content::Map(_) => self.text.push_str("{}"),
            Content::List(_) => self.text.push_str("[]"),
            Content::Scalar { text, plain } => {
                let (text, plain) = match self.expressions {
                    Expressions::Replaced(_, renamed) => match renamed.get(&node.span) {
                        Some(name) => (name, false),
                        None => (text, *plain),
                    },
                    Expressions::Written => (text, *plain),
                };
                let escaped = match self.expressions {
                    Expressions::Replaced(kept, _) if !kept.contains(&node.span) => {
                        text.replace("${{", "${{ '${{' }}")
                    }
                    Expressions::Replaced(..) | Expressions::Written => text.clone(),
                };
                self.text.push_str(&quoted(&escaped, plain));
            }
        }
        self.ends.push((self.line, node.span));
        if let Some((sources, provenance)) = self.view.origin {
            let at = |span: Span| {
                let location = sources.locate(span);
                format!("{}:{}", location.path.display(), location.line)
            };
            self.text.push_str(&format!("  # {}", at(node.span)));
            for (name, from) in provenance.made_from(node.span) {
                self.text.push_str(&format!(", {name} from {}", at(from)));
            }
        }
        self.end_line();
    }

    fn end_line(&mut self) {
        self.text.push('\n');
        self.line += 1;
    }
}

/// A text as a scalar on one line. A plain one stays as it is; another one is quoted where it would be read as something else.
fn quoted(text: &str, plain: bool) -> String {
    if plain && !text.contains(['\n', '\r']) {
        return text.to_owned();
    }
    let written = serde_yaml::to_string(text).unwrap_or_default();
    let written = written.strip_suffix('\n').unwrap_or(&written);
    if written.contains('\n') || written.is_empty() {
        // JSON's texts are texts of YAML, too.
        serde_json::Value::from(text).to_string()
    } else {
        written.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_nothing_but_line_ends_is_quoted_whole() {
        assert_eq!(quoted("\n", false), r#""\n""#);
        assert_eq!(quoted("a\n\n", false), r#""a\n\n""#);
        assert_eq!(quoted("", false), "''");
        assert_eq!(quoted("8", false), "'8'");
        assert_eq!(quoted("plain", false), "plain");
    }
}
