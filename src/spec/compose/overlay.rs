//! One tree laid over another: maps join key by key, everything else is replaced, `null` takes an entry away.

use std::rc::Rc;

use crate::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::spec::decode::cut_value;
use crate::spec::tree::{Content, Key, Map, Node};

/// Keys below which a `null` may be a value: what is there is passed on as it stands.
const PASSED_ON: [&str; 5] = ["extra", "args", "tools", "response_format", "default"];

/// Lays `above` over `below`. Where both are maps, the entries of both remain; what `above` takes away must be there. `place` is
/// where the whole is said to be.
pub(super) fn overlay(
    below: &Rc<Node>,
    above: &Rc<Node>,
    place: Span,
    problems: &mut Vec<Diagnostic>,
) -> Rc<Node> {
    Overlay {
        path: Vec::new(),
        place,
        problems,
    }
    .lay(below, above)
}

struct Overlay<'a> {
    path: Vec<String>,
    place: Span,
    problems: &'a mut Vec<Diagnostic>,
}

/// What a `null` means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    /// The entry goes.
    Removes,
    /// The entry goes if it is there; else it is a value.
    RemovesOrStays,
    /// It is kept for the day on which the profile is chosen.
    Stays,
}

impl Overlay<'_> {
    fn lay(&mut self, below: &Rc<Node>, above: &Rc<Node>) -> Rc<Node> {
        let widened = self.widened(below, above);
        let above = widened.as_ref().unwrap_or(above);
        let (Content::Map(old), Content::Map(new)) = (&below.content, &above.content) else {
            return self.alone(above);
        };
        let mut entries = old.entries.clone();
        let mut removed = old.removed.clone();
        let null = self.null();
        // What the files between have taken away is not there, whoever else has it.
        for gone in &new.removed {
            entries.retain(|(known, _)| known.text != gone.text);
            removed.push(gone.clone());
        }
        for (index, (key, node)) in new.entries.iter().enumerate() {
            let at = entries.iter().position(|(known, _)| known.text == key.text);
            if cut_value(new, index).is_some() {
                // The decoder tells of the comma.
                entries.push((key.clone(), node.clone()));
                continue;
            }
            match (at, node.is_null()) {
                (Some(at), true) if null != Null::Stays => {
                    let (gone, _) = entries.remove(at);
                    removed.push(gone);
                }
                (None, true) if null == Null::Removes => {
                    if !removed.iter().any(|gone| gone.text == key.text) {
                        self.nothing_to_remove(key, &entries);
                    }
                }
                (Some(at), _) => {
                    let laid = self.inside(key, |overlay| overlay.lay(&entries[at].1, node));
                    if !(laid.as_map().is_some() && entries[at].1.as_map().is_some()) {
                        entries[at].0 = key.clone();
                    }
                    entries[at].1 = laid;
                }
                (None, _) => {
                    let alone = self.inside(key, |overlay| overlay.alone(node));
                    entries.push((key.clone(), alone));
                }
            }
        }
        let span = if self.path.is_empty() {
            self.place
        } else {
            below.span
        };
        let content = Content::Map(Map {
            entries,
            flow: new.flow,
            removed,
        });
        Rc::new(Node::new(span, content))
    }

    /// What has nothing below it: there is nothing that it could take away.
    fn alone(&mut self, node: &Rc<Node>) -> Rc<Node> {
        let Content::Map(map) = &node.content else {
            return node.clone();
        };
        let null = self.null();
        let mut entries = Vec::new();
        for (index, (key, node)) in map.entries.iter().enumerate() {
            if null == Null::Removes && node.is_null() && cut_value(map, index).is_none() {
                self.nothing_to_remove(key, &[]);
            } else {
                let node = self.inside(key, |overlay| overlay.alone(node));
                entries.push((key.clone(), node));
            }
        }
        node.with_entries(entries)
    }

    fn inside<T>(&mut self, key: &Key, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.text.clone());
        let done = work(self);
        self.path.pop();
        done
    }

    fn null(&self) -> Null {
        let [first, ..] = self.path.as_slice() else {
            return Null::Removes;
        };
        let passed_on = |key: &String| PASSED_ON.contains(&key.as_str());
        if first == "profiles" && self.path.len() > 1 {
            Null::Stays
        } else if first.starts_with("x-") || self.path.iter().any(passed_on) {
            Null::RemovesOrStays
        } else {
            Null::Removes
        }
    }

    /// A variable that gets a new value keeps its type, its description and the rest.
    fn widened(&self, below: &Rc<Node>, above: &Rc<Node>) -> Option<Rc<Node>> {
        let variable = match self.path.as_slice() {
            [first, _] => first == "vars",
            [first, _, third, _] => first == "profiles" && third == "vars",
            _ => false,
        };
        (variable && below.as_map().is_some() && above.as_map().is_none())
            .then(|| Rc::new(Node::widen("default", above)))
    }

    fn nothing_to_remove(&mut self, key: &Key, there: &[(Key, Rc<Node>)]) {
        let near = did_you_mean(&key.text, there.iter().map(|(key, _)| key.text.as_str()));
        let label = near.map_or_else(
            || "`null` takes away what a file below has".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("there is no `{}` to take away", key.text);
        self.problems
            .push(Diagnostic::error("S104", message).at(key.span, label));
    }
}
