//! YAML as a tree in which every node knows its place. Scalars keep their text: `3.10` stays `3.10` until a number is wanted.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StructureStyle};

use super::late::Late;
use crate::diagnostic::{Diagnostic, SourceId, Span};

/// How deeply maps and lists may nest.
pub(super) const DEPTH_LIMIT: usize = 64;
/// How many nodes a file may stand for, aliases counted as what they stand for.
pub(super) const NODE_LIMIT: usize = 200_000;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    /// A scalar's content without its quotes; of a block map, its first key; of a flow map or list, from bracket to bracket.
    pub(super) span: Span,
    pub(super) content: Content,
    /// How many nodes it stands for.
    pub(super) weight: usize,
    /// What it will be in a cell, where that is not known yet.
    pub(super) late: Option<Late>,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Content {
    Scalar { text: String, plain: bool },
    List(Vec<Rc<Node>>),
    Map(Map),
}

/// Keys and values in the order of the file; no key twice.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) entries: Vec<(Key, Rc<Node>)>,
    /// Written as `{ … }`.
    pub(super) flow: bool,
    /// Entries that files above have taken away.
    pub(super) removed: Vec<Key>,
}

/// A key and its place.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) span: Span,
}

impl Map {
    pub(super) fn get(&self, key: &str) -> Option<(&Key, &Rc<Node>)> {
        self.entries
            .iter()
            .find(|(known, _)| known.text == key)
            .map(|(key, node)| (key, node))
    }
}

impl Node {
    pub(super) fn new(span: Span, content: Content) -> Node {
        let inside = match &content {
            Content::Scalar { .. } => 0,
            Content::List(items) => items.iter().map(|item| item.weight).sum(),
            Content::Map(map) => map.entries.iter().map(|(_, node)| node.weight + 1).sum(),
        };
        Node {
            span,
            content,
            weight: 1 + inside,
            late: None,
        }
    }

    /// The map `{ key: node }`: what a short form stands for.
    pub(super) fn widen(key: &str, node: &Rc<Node>) -> Node {
        let key = Key {
            text: key.to_owned(),
            span: node.span,
        };
        let map = Map {
            entries: vec![(key, node.clone())],
            ..Map::default()
        };
        Node::new(node.span, Content::Map(map))
    }

    /// The map that it is, if it is one.
    pub(super) fn as_map(&self) -> Option<&Map> {
        match &self.content {
            Content::Map(map) => Some(map),
            Content::Scalar { .. } | Content::List(_) => None,
        }
    }

    /// Its entries; none if it is no map.
    pub(super) fn entries(&self) -> &[(Key, Rc<Node>)] {
        self.as_map().map_or(&[], |map| &map.entries)
    }

    /// The map with other entries.
    pub(super) fn with_entries(&self, entries: Vec<(Key, Rc<Node>)>) -> Rc<Node> {
        let (flow, removed) = self
            .as_map()
            .map_or((false, Vec::new()), |map| (map.flow, map.removed.clone()));
        let content = Content::Map(Map {
            entries,
            flow,
            removed,
        });
        Rc::new(Node::new(self.span, content))
    }

    /// Whether it is `null`, `~` or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar { text, plain } => {
                *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Content::List(_) | Content::Map(_) => false,
        }
    }

    /// Whether it is exactly this unquoted word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.content, Content::Scalar { text, .. } if text == word)
    }
}

/// Reads a text into a tree. Without a tree, there is an error among the diagnostics.
pub(super) fn parse(source: SourceId, text: &str) -> (Option<Rc<Node>>, Vec<Diagnostic>) {
    let mut builder = Builder {
        source,
        text,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        documents: 0,
        nodes: 0,
        problems: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(Fatal::new(scan_error(source, text, &error))),
        };
        if let Err(fatal) = step {
            builder.problems.push(*fatal);
            return (None, builder.problems);
        }
    }
    if builder.root.is_none() {
        builder.problems.push(
            Diagnostic::error("S008", "the file has no scenario in it")
                .at(builder.span(0, 0), "")
                .help("the smallest one: `version: 1`, a `backends:` entry and a `load:` entry"),
        );
    }
    (builder.root, builder.problems)
}

struct Builder<'a> {
    source: SourceId,
    text: &'a str,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    documents: usize,
    nodes: usize,
    problems: Vec<Diagnostic>,
}

/// What ends the reading of a file.
type Fatal = Box<Diagnostic>;

/// A map or list whose end has not come yet.
struct Open {
    start: usize,
    end: usize,
    flow: bool,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<(Key, Rc<Node>)>,
        /// The keys of the entries, and where they stand.
        seen: HashMap<String, Span>,
        key: Option<Key>,
        merged: Vec<(Span, Rc<Node>)>,
    },
}

impl Builder<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span {
            source: self.source,
            start,
            end: end.max(start),
        }
    }

    fn event(&mut self, event: Event<'_>, span: granit_parser::Span) -> Result<(), Fatal> {
        let range = span.byte_range().unwrap_or_default();
        let tagged = matches!(
            &event,
            Event::Scalar(_, _, _, Some(_))
                | Event::SequenceStart(_, _, Some(_))
                | Event::MappingStart(_, _, Some(_))
        );
        if tagged {
            let at = span.tag_span().and_then(|tag| tag.byte_range());
            let at = at.unwrap_or(range.clone());
            self.problems.push(
                Diagnostic::error("S007", "YAML tags are not used in scenarios")
                    .at(self.span(at.start, at.end), "")
                    .help("quote the value if it is a text that begins with `!`"),
            );
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Diagnostic::error("S008", "a second document begins here")
                        .at(self.span(range.start, range.end), "")
                        .help("a file holds one scenario; put the other one in its own file")
                        .into());
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = self.scalar(text.into_owned(), style, range.clone());
                self.add(node, anchor)?;
            }
            Event::SequenceStart(style, anchor, _) => {
                self.open(range.clone(), style, anchor, Inside::List(Vec::new()))?;
            }
            Event::MappingStart(style, anchor, _) => {
                let inside = Inside::Map {
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.open(range.clone(), style, anchor, inside)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.end)?,
            Event::Alias(anchor) => {
                let place = self.span(range.start, range.end);
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Diagnostic::error(
                        "S003",
                        "an alias stands inside the thing that it names",
                    )
                    .at(place, "")
                    .into());
                };
                self.nodes += node.weight;
                self.place(node, place)?;
            }
            _ => {}
        }
        if self.nodes > NODE_LIMIT {
            return Err(Diagnostic::error(
                "S003",
                format!("the file stands for more than {NODE_LIMIT} values"),
            )
            .at(self.span(range.start, range.end), "")
            .help("aliases of aliases grow fast; write fewer of them")
            .into());
        }
        Ok(())
    }

    fn scalar(&self, text: String, style: ScalarStyle, range: std::ops::Range<usize>) -> Node {
        let plain = matches!(style, ScalarStyle::Plain);
        let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
        let span = if quoted && range.len() >= 2 {
            self.span(range.start + 1, range.end - 1)
        } else if plain {
            self.span(range.start, range.end)
        } else {
            // A block scalar: its header, so that a mark stays on one line.
            let line_end = self.text[range.start.min(self.text.len())..]
                .find('\n')
                .map_or(range.end, |length| range.start + length);
            self.span(range.start, line_end.min(range.end))
        };
        Node::new(span, Content::Scalar { text, plain })
    }

    fn open(
        &mut self,
        range: std::ops::Range<usize>,
        style: StructureStyle,
        anchor: usize,
        inside: Inside,
    ) -> Result<(), Fatal> {
        if self.open.len() >= DEPTH_LIMIT {
            return Err(Diagnostic::error(
                "S003",
                format!("maps and lists nest more than {DEPTH_LIMIT} deep"),
            )
            .at(self.span(range.start, range.end), "")
            .into());
        }
        self.open.push(Open {
            start: range.start,
            end: range.end,
            flow: matches!(style, StructureStyle::Flow),
            anchor,
            inside,
        });
        Ok(())
    }

    fn close(&mut self, end: usize) -> Result<(), Fatal> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let flow = open.flow;
        let mut span = self.span(open.start, if flow { end } else { open.end });
        let content = match open.inside {
            Inside::List(items) => Content::List(items),
            Inside::Map {
                mut entries,
                mut seen,
                merged,
                ..
            } => {
                if let (false, Some((first, _))) = (flow, entries.first()) {
                    span = first.span;
                }
                self.merge(&mut entries, &mut seen, merged);
                Content::Map(Map {
                    entries,
                    flow,
                    ..Map::default()
                })
            }
        };
        self.add(Node::new(span, content), open.anchor)
    }

    /// Adds what `<<` names; the map's own keys win, then the earlier of the merged maps.
    fn merge(
        &mut self,
        entries: &mut Vec<(Key, Rc<Node>)>,
        seen: &mut HashMap<String, Span>,
        merged: Vec<(Span, Rc<Node>)>,
    ) {
        for (place, node) in merged {
            let maps: Vec<Rc<Node>> = match &node.content {
                Content::List(items) => items.clone(),
                Content::Map(_) | Content::Scalar { .. } => vec![node.clone()],
            };
            for map in maps {
                let Content::Map(map) = &map.content else {
                    self.problems.push(
                        Diagnostic::error("S009", "`<<` takes a map, or a list of maps")
                            .at(place, "")
                            .help("write `<<: *name`, where `name` is the anchor of a map"),
                    );
                    continue;
                };
                for (key, value) in &map.entries {
                    if !seen.contains_key(&key.text) {
                        seen.insert(key.text.clone(), key.span);
                        self.nodes += value.weight;
                        entries.push((key.clone(), value.clone()));
                    }
                }
            }
        }
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fatal> {
        self.nodes += 1;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let place = node.span;
        self.place(node, place)
    }

    /// Puts a finished node where the innermost open map or list wants it.
    fn place(&mut self, node: Rc<Node>, place: Span) -> Result<(), Fatal> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.inside {
            Inside::List(items) => items.push(node),
            Inside::Map {
                entries,
                seen,
                key,
                merged,
            } => match key.take() {
                None => *key = Some(key_of(&node, place)?),
                Some(key) if key.text == "<<" => merged.push((key.span, node)),
                Some(key) => match seen.get(&key.text) {
                    Some(first) => self.problems.push(
                        Diagnostic::error("S004", format!("`{}` stands twice here", key.text))
                            .at(key.span, "")
                            .also(*first, "first given here"),
                    ),
                    None => {
                        seen.insert(key.text.clone(), key.span);
                        entries.push((key, node));
                    }
                },
            },
        }
        Ok(())
    }
}

fn key_of(node: &Node, place: Span) -> Result<Key, Fatal> {
    match &node.content {
        Content::Scalar { text, .. } => Ok(Key {
            text: text.clone(),
            span: place,
        }),
        Content::List(_) | Content::Map(_) => {
            let expression = matches!(&node.content, Content::Map(map) if map.flow);
            let diagnostic = Diagnostic::error("S009", "a key must be a text").at(place, "");
            Err(Fatal::new(if expression {
                diagnostic.help("a value that begins with `{{` must be quoted")
            } else {
                diagnostic
            }))
        }
    }
}

/// What the YAML scanner says, with the trap that it fell into, if that is a known one.
fn scan_error(source: SourceId, text: &str, error: &ScanError) -> Diagnostic {
    let mut at = error.marker().byte_offset().unwrap_or(text.len());
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[at..]
        .find('\n')
        .map_or(text.len(), |length| at + length);
    let line = &text[line_start..line_end];
    let span = |start: usize, end: usize| Span {
        source,
        start,
        end: end.min(text.len()).max(start),
    };
    let indent_tab = line
        .find(|c: char| c != ' ' && c != '-')
        .filter(|&column| line.as_bytes()[column] == b'\t');
    let tab = matches!(
        error.kind(),
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    );
    if let (Some(column), _) | (None, Some(column)) = (indent_tab, line.find('\t').filter(|_| tab))
    {
        let place = span(line_start + column, line_start + column + 1);
        return Diagnostic::error("S002", "a tab cannot indent YAML")
            .at(place, "a tab")
            .help("indent with spaces");
    }
    let place = span(
        at,
        text[at..].chars().next().map_or(at, |c| at + c.len_utf8()),
    );
    if let Some(column) = line.find("${{") {
        let place = span(line_start + column, line_start + column + 3);
        return Diagnostic::error("S006", "`${{` must be quoted inside `{ … }` or `[ … ]`")
            .at(place, "")
            .help("put quotes around the whole value: `\"${{ … }}\"`");
    }
    let above = text[..line_start].lines().last().unwrap_or("");
    if above.trim_start().starts_with("//") {
        let start = line_start - 1 - above.trim_start().len();
        return Diagnostic::error("S001", "`//` is no comment in YAML")
            .at(span(start, start + 2), "")
            .help("begin the line with `#`");
    }
    if let Some(column) = line.find('\u{ff1a}') {
        let wide = span(
            line_start + column,
            line_start + column + '\u{ff1a}'.len_utf8(),
        );
        return Diagnostic::error("S001", "a full-width colon ends no key")
            .at(wide, "")
            .help("write `: `");
    }
    let diagnostic =
        Diagnostic::error("S001", format!("not valid YAML: {}", error.info())).at(place, "");
    let in_flow = line.contains(['{', '[']);
    if in_flow && line.contains(['<', '>', '≤', '≥']) {
        return diagnostic.help(
            "inside `{ … }`, quote an assertion that contains `,`, `{`, `}`, `[`, `]` or `?`",
        );
    }
    if error.info().contains("expected ','") {
        return diagnostic.help("a `}` or `]` is missing before this, or a value must be quoted");
    }
    if let Some(help) = trap(&error.info(), &text[at..], line) {
        return diagnostic.help(help);
    }
    if line.contains(": ") && !in_flow {
        return diagnostic.help(
            "is the line indented like its neighbours? a value that contains `: ` must be quoted",
        );
    }
    diagnostic
}

/// What to do about a trap of YAML: what the scanner said, what it met there, and the whole line.
fn trap(said: &str, rest: &str, line: &str) -> Option<String> {
    let met = rest.chars().next().unwrap_or('\n');
    if said.contains("unexpected character") && matches!(met, '@' | '`' | '%') {
        return Some(format!("a text that begins with `{met}` must be quoted"));
    }
    if said.contains("unknown anchor") {
        return Some(
            "`*name` repeats what `&name` marks, which is not there; quote a text that begins with `*`"
                .to_owned(),
        );
    }
    if said.contains("single-quoted scalar") {
        return Some(
            "an apostrophe ends the text: double it (`''`), or quote the text with `\"`".to_owned(),
        );
    }
    if said.contains("quoted scalar") {
        return Some("is a quote opened above that is never closed?".to_owned());
    }
    if said.contains("misplaced bracket") {
        return Some(
            "this bracket closes nothing: one is too many, or one is missing before".to_owned(),
        );
    }
    if line.trim_start().starts_with("- ") && said.contains("block mapping") {
        return Some(
            "the lines beside it are keys of a map: write `key: value` here, too".to_owned(),
        );
    }
    let colon = line.find(':').map(|colon| &line[colon + 1..]);
    if said.contains("expected ':'") && colon.is_some_and(|rest| !rest.starts_with(' ')) {
        return Some("a key needs a space behind its colon".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::decode::{Problems, to_json};

    /// A second parser reads the valid fixtures to the same values.
    #[test]
    fn the_tree_agrees_with_another_parser() {
        for entry in std::fs::read_dir("fixtures/specs/valid").unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let (root, problems) = parse(SourceId(0), &text);
            assert!(problems.is_empty(), "{problems:?}");
            let ours = to_json(&root.unwrap(), &mut Problems::default()).unwrap();
            let mut theirs: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
            theirs.apply_merge().unwrap();
            let theirs = serde_json::to_value(theirs).unwrap();
            assert_eq!(ours, theirs, "{}", path.display());
        }
    }
}
