//! Profiles: overlays that are chosen on the command line, and may build on each other.

use std::rc::Rc;

use super::overlay::overlay;
use crate::diagnostic::{Diagnostic, Span, Spanned, did_you_mean};
use crate::spec::decode::{Decode, Problems};
use crate::spec::tree::{Key, Node};
use crate::spec::values::OneOrMany;

/// Keys that a profile cannot have: they are read before it is chosen.
const BEFORE: [&str; 5] = ["version", "requires", "extends", "include", "profiles"];

/// Lays a profile over a tree: first those that it inherits from, in their order, then itself.
pub(super) fn apply(
    root: &Rc<Node>,
    profiles: &[(Key, Rc<Node>)],
    wanted: &str,
    place: Span,
    problems: &mut Vec<Diagnostic>,
) -> Rc<Node> {
    let mut line = Vec::new();
    let mut seen = vec![wanted.to_owned()];
    gather(profiles, wanted, place, &mut seen, &mut line, problems);
    // The root keeps its place: it is in the file, not in the profile, that something may be missing.
    line.iter().fold(root.clone(), |root, profile| {
        overlay(&root, profile, root.span, problems)
    })
}

fn gather(
    profiles: &[(Key, Rc<Node>)],
    wanted: &str,
    place: Span,
    seen: &mut Vec<String>,
    line: &mut Vec<Rc<Node>>,
    problems: &mut Vec<Diagnostic>,
) {
    let Some((_, node)) = profiles.iter().find(|(key, _)| key.text == wanted) else {
        problems.push(unknown(profiles, wanted, place));
        return;
    };
    let Some(map) = node.as_map() else {
        let mut wrong = Problems::default();
        wrong.expected("a map of what the profile changes", node);
        problems.extend(wrong.list);
        return;
    };
    let mut own = Vec::new();
    for (key, node) in &map.entries {
        if key.text == "inherits" {
            let mut wrong = Problems::default();
            let parents = OneOrMany::<Spanned<String>>::decode(node, &mut wrong);
            problems.extend(wrong.list);
            for parent in parents.iter().flat_map(|parents| parents.iter()) {
                if seen.contains(&parent.value) {
                    let chain = [seen.as_slice(), std::slice::from_ref(&parent.value)].concat();
                    let message = format!("profiles inherit in a circle: {}", chain.join(" → "));
                    problems.push(Diagnostic::error("S105", message).at(parent.span, ""));
                    continue;
                }
                seen.push(parent.value.clone());
                gather(profiles, &parent.value, parent.span, seen, line, problems);
                seen.pop();
            }
        } else if BEFORE.contains(&key.text.as_str()) {
            let message = format!("a profile cannot have `{}`", key.text);
            problems.push(
                Diagnostic::error("S105", message)
                    .at(key.span, "this is read before a profile is chosen"),
            );
        } else {
            own.push((key.clone(), node.clone()));
        }
    }
    line.push(node.with_entries(own));
}

fn unknown(profiles: &[(Key, Rc<Node>)], wanted: &str, place: Span) -> Diagnostic {
    let names: Vec<&str> = profiles.iter().map(|(key, _)| key.text.as_str()).collect();
    let label = did_you_mean(wanted, names.iter().copied())
        .map(|near| format!("did you mean `{near}`?"))
        .unwrap_or_default();
    let diagnostic =
        Diagnostic::error("S105", format!("there is no profile `{wanted}`")).at(place, label);
    if names.is_empty() {
        diagnostic.help("the file has no `profiles`")
    } else {
        diagnostic.help(format!("profiles: {}", names.join(", ")))
    }
}
