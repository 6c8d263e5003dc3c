//! Whether two texts say the same.

use super::decode::sniff;
use super::tree::{self, Content, Node};
use crate::diagnostic::SourceId;

/// Whether two texts are YAML with the same keys and values in the same order, however they are laid out and quoted.
pub fn say_the_same(one: &str, other: &str) -> bool {
    let read = |text: &str| tree::parse(SourceId::default(), text).0;
    match (read(one), read(other)) {
        (Some(one), Some(other)) => alike(&one, &other),
        _ => false,
    }
}

pub(super) fn alike(one: &Node, other: &Node) -> bool {
    match (&one.content, &other.content) {
        (Content::Scalar { text: a, plain: p }, Content::Scalar { text: b, plain: q }) => {
            // `8` and `"8"` are the same text, and not the same value.
            a == b && sniff(a, *p) == sniff(b, *q)
        }
        (Content::List(a), Content::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Content::Map(a), Content::Map(b)) => {
            let mut both = a.entries.iter().zip(&b.entries);
            a.entries.len() == b.entries.len()
                && both.all(|((key, a), (other, b))| key.text == other.text && alike(a, b))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_quotes_do_not_matter_and_everything_else_does() {
        assert!(say_the_same(
            "a: {b: 'x', c: [1, 2]}",
            "a:\n  b: x # why\n  c:\n    - 1\n    - 2\n"
        ));
        assert!(!say_the_same("a: 8", "a: \"8\""));
        assert!(!say_the_same("a: 1\nb: 2", "b: 2\na: 1"));
        assert!(!say_the_same("a: [1]", "a: [1, 1]"));
        assert!(!say_the_same("a: [1", "a: [1"));
    }
}
