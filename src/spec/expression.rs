//! `${{ … }}` in scalars: an expression takes the place of a value that was parsed already, so it can never change the file around
//! it, and its result is never read a second time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, UndefinedBehavior};

use super::decode::{Problems, shorten, to_json};
use super::late::{CellNames, Late, LatePiece};
use super::provenance::Provenance;
use super::tree::{Content, Key, NODE_LIMIT, Node};
use super::vars::{Secret, Variable, secret_node};
use crate::diagnostic::{Diagnostic, Sources, Span, did_you_mean};

const OPEN: &str = "${{";
/// Steps of one expression; what people write needs some dozen.
const FUEL: u64 = 20_000;

/// What expressions may use.
pub(super) struct Scope<'a> {
    pub(super) variables: &'a [Variable],
    pub(super) secrets: &'a [Secret],
    /// Leaves secrets as they are written.
    pub(super) keep_secrets: bool,
}

/// What may be used at a place of the tree.
#[derive(Clone, Copy)]
struct Allowed {
    vars: bool,
    secrets: bool,
    cell: bool,
}

/// A tree without expressions.
pub(super) struct Evaluated {
    pub(super) root: Rc<Node>,
    /// Where an expression has no value; it stands there still.
    pub(super) broken: Vec<Span>,
    /// Where a secret, or what depends on the cell, was left as it is written.
    pub(super) kept: Vec<Span>,
}

/// Replaces every expression of a tree by its value.
pub(super) fn evaluate(
    root: &Rc<Node>,
    scope: &Scope<'_>,
    sources: &Sources,
    provenance: &mut Provenance,
    problems: &mut Vec<Diagnostic>,
) -> Evaluated {
    let mut evaluator = Evaluator {
        environment: environment(),
        values: scope
            .variables
            .iter()
            .map(|variable| (variable.name.text.as_str(), value_of(variable)))
            .collect(),
        scope,
        sources,
        provenance,
        problems,
        path: Vec::new(),
        broken: Vec::new(),
        kept: Vec::new(),
        nodes: 0,
    };
    Evaluated {
        root: evaluator.node(root),
        broken: evaluator.broken,
        kept: evaluator.kept,
    }
}

pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    // These show the context, or change it.
    for name in ["debug", "namespace"] {
        environment.remove_global(name);
    }
    environment
}

struct Evaluator<'a> {
    environment: Environment<'static>,
    values: BTreeMap<&'a str, Value>,
    scope: &'a Scope<'a>,
    sources: &'a Sources,
    provenance: &'a mut Provenance,
    problems: &'a mut Vec<Diagnostic>,
    path: Vec<String>,
    broken: Vec<Span>,
    kept: Vec<Span>,
    nodes: usize,
}

/// A scalar's text in pieces.
enum Piece<'t> {
    Text(&'t str),
    Expression {
        /// Between the brackets.
        source: &'t str,
        /// With the brackets, in bytes of the text.
        range: Range<usize>,
        /// Its number among the expressions of the scalar.
        index: usize,
    },
}

/// What one expression came to.
enum Outcome {
    /// A value of the tree, as it stands.
    Node(Rc<Node>),
    Computed(Value),
    Secret(usize),
}

impl Evaluator<'_> {
    fn node(&mut self, node: &Rc<Node>) -> Rc<Node> {
        match &node.content {
            Content::Scalar { text, .. } if text.contains(OPEN) => match self.scalar(node, text) {
                Ok(made) => {
                    self.nodes += made.weight;
                    made
                }
                Err(problem) => {
                    self.problems.extend(problem.map(|problem| *problem));
                    self.broken.push(node.span);
                    node.clone()
                }
            },
            Content::Scalar { .. } => node.clone(),
            Content::List(items) => {
                let made: Vec<Rc<Node>> = items.iter().map(|item| self.node(item)).collect();
                if same(items.iter(), made.iter()) {
                    return node.clone();
                }
                Rc::new(Node::new(node.span, Content::List(made)))
            }
            Content::Map(map) => {
                let made: Vec<(Key, Rc<Node>)> = map
                    .entries
                    .iter()
                    .map(|(key, node)| {
                        self.path.push(key.text.clone());
                        let made = if self.path.len() == 1 && key.text.starts_with("x-") {
                            node.clone()
                        } else {
                            self.node(node)
                        };
                        self.path.pop();
                        (key.clone(), made)
                    })
                    .collect();
                let before = map.entries.iter().map(|(_, node)| node);
                if same(before, made.iter().map(|(_, node)| node)) {
                    return node.clone();
                }
                node.with_entries(made)
            }
        }
    }

    /// The value of a scalar with expressions; without a problem, another place tells of it.
    fn scalar(&mut self, node: &Rc<Node>, text: &str) -> Result<Rc<Node>, Option<Box<Diagnostic>>> {
        if self.nodes > NODE_LIMIT {
            let message = format!("expressions stand for more than {NODE_LIMIT} values");
            return Err(problem(
                Diagnostic::error("S003", message).at(node.span, ""),
            ));
        }
        let pieces = pieces(text).map_err(|at| {
            let place = self.place(node, text, at..text.len(), 0);
            problem(
                Diagnostic::error("S106", "`${{` has no `}}`")
                    .at(place, "")
                    .help("write `${{ '${{' }}` for the three characters themselves"),
            )
        })?;
        let allowed = self.allowed();
        if let Some(late) = self.late(node, text, &pieces, allowed)? {
            return Ok(late);
        }
        if let [
            Piece::Expression {
                source,
                range,
                index,
            },
        ] = pieces.as_slice()
        {
            let place = self.place(node, text, range.clone(), *index);
            return match self.outcome(source, place, node.span, allowed)? {
                Outcome::Node(value) => Ok(moved(&value, node.span)),
                Outcome::Secret(_) if self.scope.keep_secrets => Ok(self.kept(node)),
                Outcome::Secret(at) => Ok(secret_node(&self.scope.secrets[at], "", "", node.span)),
                Outcome::Computed(value) => {
                    to_node(&value, node.span, 0).map_err(|what| problem(no_value(place, &what)))
                }
            };
        }
        let mut whole = String::new();
        let mut secret = None;
        for piece in &pieces {
            let (source, range, index) = match piece {
                Piece::Text(text) => {
                    whole.push_str(text);
                    continue;
                }
                Piece::Expression {
                    source,
                    range,
                    index,
                } => (source, range, index),
            };
            let place = self.place(node, text, range.clone(), *index);
            match self.outcome(source, place, node.span, allowed)? {
                Outcome::Secret(at) => {
                    if secret.replace((at, whole.len())).is_some() {
                        return Err(problem(
                            Diagnostic::error("S108", "a second secret in one value")
                                .at(place, "a header has one"),
                        ));
                    }
                }
                Outcome::Node(value) => match &value.content {
                    Content::Scalar { text, .. } => whole.push_str(text),
                    Content::List(_) => return Err(problem(not_in_text(place, "a list"))),
                    Content::Map(_) => return Err(problem(not_in_text(place, "a map"))),
                },
                Outcome::Computed(value) => whole.push_str(&in_text(&value, place)?),
            }
        }
        Ok(match secret {
            Some(_) if self.scope.keep_secrets => self.kept(node),
            Some((at, cut)) => {
                let (before, after) = whole.split_at(cut);
                secret_node(&self.scope.secrets[at], before, after, node.span)
            }
            None => {
                let content = Content::Scalar {
                    text: whole,
                    plain: false,
                };
                Rc::new(Node::new(node.span, content))
            }
        })
    }

    /// The scalar as it waits for its cell, if one of its expressions names the cell.
    fn late(
        &mut self,
        node: &Rc<Node>,
        text: &str,
        pieces: &[Piece<'_>],
        allowed: Allowed,
    ) -> Result<Option<Rc<Node>>, Option<Box<Diagnostic>>> {
        if !text.contains("cell") {
            return Ok(None);
        }
        let mut late = Vec::new();
        let mut all: Vec<String> = Vec::new();
        for piece in pieces {
            late.push(match piece {
                Piece::Text(text) => LatePiece::Text((*text).to_owned()),
                Piece::Expression {
                    source,
                    range,
                    index,
                } => {
                    let place = self.place(node, text, range.clone(), *index);
                    let source = dotted(source).into_owned();
                    all.extend(self.named(&source, place, allowed)?);
                    LatePiece::Expression { source, place }
                }
            });
        }
        if !all
            .iter()
            .any(|name| name.split('.').next() == Some("cell"))
        {
            return Ok(None);
        }
        let mut named = Vec::new();
        for name in &all {
            let variable = name.strip_prefix("vars.");
            let variable = variable.and_then(|name| self.variable(name));
            if let Some(variable) = variable
                && let Some(value) = &variable.value
            {
                let from = value.span;
                named.push(variable.name.text.clone());
                self.provenance.made(node.span, name, from);
            }
        }
        let vars = self.values.iter();
        let vars = vars.map(|(name, value)| ((*name).to_owned(), value.clone()));
        self.kept.push(node.span);
        let content = Content::Scalar {
            text: text.to_owned(),
            plain: false,
        };
        Ok(Some(Rc::new(Node {
            late: Some(Late {
                pieces: late,
                vars: Rc::new(vars.collect()),
                named,
            }),
            ..Node::new(node.span, content)
        })))
    }

    fn kept(&mut self, node: &Rc<Node>) -> Rc<Node> {
        self.kept.push(node.span);
        node.clone()
    }

    /// What may be used where the evaluator stands.
    fn allowed(&self) -> Allowed {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        Allowed {
            vars: !matches!(
                path.as_slice(),
                ["version" | "requires" | "vars" | "secrets" | "profiles", ..]
            ),
            secrets: matches!(path.as_slice(), ["backends", _, "auth" | "headers", _]),
            cell: matches!(
                path.as_slice(),
                ["request", ..] | ["backends" | "models" | "prompts", _, "request", ..]
            ),
        }
    }

    /// What an expression names, all of which is known and may be used here.
    fn named(
        &self,
        source: &str,
        place: Span,
        allowed: Allowed,
    ) -> Result<Vec<String>, Option<Box<Diagnostic>>> {
        let compiled = self
            .environment
            .compile_expression_owned(source.to_owned())
            .map_err(|error| problem(unreadable(&error, source, place)))?;
        let mut used: Vec<String> = compiled.undeclared_variables(true).into_iter().collect();
        used.sort();
        for name in &used {
            self.known(name, source, place, allowed)?;
        }
        Ok(used)
    }

    fn outcome(
        &mut self,
        source: &str,
        place: Span,
        scalar: Span,
        allowed: Allowed,
    ) -> Result<Outcome, Option<Box<Diagnostic>>> {
        let source = &*dotted(source);
        let used = self.named(source, place, allowed)?;
        if let Some(name) = source.trim().strip_prefix("secrets.")
            && let Some(at) = self.secret(name)
        {
            return Ok(Outcome::Secret(at));
        }
        if let Some(name) = used.iter().find(|name| name.starts_with("secrets")) {
            let message = format!("`{name}` can only stand alone between `${{{{` and `}}}}`");
            return Err(problem(
                Diagnostic::error("S108", message)
                    .at(place, "")
                    .help("a secret is put in as it is; text may stand around the brackets"),
            ));
        }
        for name in &used {
            if let Some(variable) = name
                .strip_prefix("vars.")
                .and_then(|name| self.variable(name))
                && let Some(value) = &variable.value
            {
                self.provenance.made(scalar, name, value.span);
            }
        }
        // Exactly a variable is its value as it was written: `3.10` stays `3.10`.
        if let Some(variable) = source
            .trim()
            .strip_prefix("vars.")
            .and_then(|name| self.variable(name))
            && let Some(value) = &variable.value
        {
            return Ok(Outcome::Node(value.clone()));
        }
        let vars: BTreeMap<&str, Value> = self.values.clone();
        let context = minijinja::context! { vars };
        Ok(Outcome::Computed(computed(
            &self.environment,
            source,
            place,
            context,
        )?))
    }

    /// Whether a name like `vars.peak` is defined and may be used here.
    fn known(
        &self,
        name: &str,
        source: &str,
        place: Span,
        allowed: Allowed,
    ) -> Result<(), Option<Box<Diagnostic>>> {
        let (root, rest) = name.split_once('.').unwrap_or((name, ""));
        let member = rest.split('.').next().unwrap_or("");
        let at = source.find(name).map_or(place, |start| {
            within(place, source, start..start + name.len())
        });
        let field = self.path.last().map_or("", String::as_str);
        let not_here = |context: &str, help: &str| {
            let message = format!("`{context}` is not available in `{field}`");
            problem(Diagnostic::error("S108", message).at(at, "").help(help))
        };
        match root {
            "vars" if !allowed.vars => Err(not_here("vars", "write the value itself")),
            "vars" => {
                let Some(variable) = self.variable(member) else {
                    let names = self.scope.variables.iter().map(|known| &known.name);
                    return Err(problem(undefined(name, member, "vars", names, at)));
                };
                if variable.value.is_some() {
                    return Ok(());
                }
                // Where it was given, and wrong, that has been told.
                if variable.origin != super::vars::VarOrigin::Nowhere {
                    return Err(None);
                }
                let message = format!("`vars.{member}` has no value");
                Err(problem(
                    Diagnostic::error("S109", message)
                        .at(at, "")
                        .also(variable.name.span, "it has no default")
                        .help(format!(
                            "give it with `--var {member}=…`, or in the environment as {}",
                            variable.env.join(" or ")
                        )),
                ))
            }
            "secrets" if !allowed.secrets => Err(not_here(
                "secrets",
                "a secret can only stand in `auth` and `headers` of a backend",
            )),
            "secrets" if self.secret(member).is_none() => {
                let names = self.scope.secrets.iter().map(|known| &known.name);
                Err(problem(undefined(name, member, "secrets", names, at)))
            }
            "secrets" => Ok(()),
            "cell" if !allowed.cell => Err(not_here(
                "cell",
                "what belongs to a cell is known in `request` alone: at the top, or of a backend, a model or a prompt set",
            )),
            "cell" if CellNames::MEMBERS.contains(&member) => Ok(()),
            "cell" => Err(problem(unknown_member(name, member, at))),
            "env" => Err(problem(
                Diagnostic::error("S012", "`env` is not defined")
                    .at(at, "")
                    .help(
                        "the environment comes in by a variable: `vars: { name: { env: NAME } }`",
                    ),
            )),
            _ if self.environment.globals().any(|(known, _)| known == root) => Ok(()),
            _ => {
                let near = did_you_mean(root, ["vars", "secrets", "cell"]);
                let bare = self.variable(root).map(|_| format!("write `vars.{root}`"));
                let label = bare
                    .or(near.map(|near| format!("did you mean `{near}`?")))
                    .unwrap_or_default();
                Err(problem(
                    Diagnostic::error("S012", format!("`{root}` is not defined"))
                        .at(at, label)
                        .help("expressions know `vars`; in `auth` and `headers`, `secrets`; in `request`, `cell`"),
                ))
            }
        }
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        self.scope
            .variables
            .iter()
            .find(|variable| variable.name.text == name)
    }

    fn secret(&self, name: &str) -> Option<usize> {
        self.scope
            .secrets
            .iter()
            .position(|secret| secret.name.text == name)
    }

    /// Where a part of a scalar's text stands in the file: exactly, if the file has it as it is; else the whole scalar.
    fn place(&self, node: &Node, text: &str, range: Range<usize>, index: usize) -> Span {
        let file = &self.sources.get(node.span.source).text;
        let part = &text[range];
        let found = file.get(node.span.start..).and_then(|rest| {
            let (at, _) = rest.match_indices(OPEN).nth(index)?;
            rest[at..].starts_with(part).then_some(at)
        });
        found.map_or(node.span, |at| node.span.part(at, at + part.len()))
    }
}

/// An expression with `vars.name` in place of `vars['name']`, which says the same.
fn dotted(source: &str) -> Cow<'_, str> {
    if !source.contains('[') {
        return Cow::Borrowed(source);
    }
    let mut dotted = String::new();
    let mut quote = None;
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        if c == '['
            && quote.is_none()
            && ends_with_root(&dotted)
            && let Some((name, after)) = quoted_name(behind)
        {
            dotted.push('.');
            dotted.push_str(name);
            rest = after;
            continue;
        }
        dotted.push(c);
        rest = behind;
        match quote {
            Some(_) if c == '\\' => {
                let escaped = rest.chars().next();
                dotted.extend(escaped);
                rest = &rest[escaped.map_or(0, char::len_utf8)..];
            }
            Some(open) if c == open => quote = None,
            None if ['\'', '"'].contains(&c) => quote = Some(c),
            _ => {}
        }
    }
    Cow::Owned(dotted)
}

fn ends_with_root(text: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || "_.".contains(c);
    ["vars", "secrets", "cell"].iter().any(|root| {
        text.strip_suffix(root)
            .is_some_and(|before| !before.ends_with(inner))
    })
}

/// The name of `'name']`, and what stands behind it.
fn quoted_name(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    let (name, after) = text[1..].split_once(quote)?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let after = after.trim_start().strip_prefix(']')?;
    (!name.is_empty() && name.chars().all(word)).then_some((name, after))
}

/// A scalar's text in pieces; `Err` with where an expression begins that has no end.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, usize> {
    let mut pieces = Vec::new();
    let mut from = 0;
    let mut index = 0;
    while let Some(at) = text[from..].find(OPEN) {
        let start = from + at;
        let inside = start + OPEN.len();
        let length = end_of(&text[inside..]).ok_or(start)?;
        if start > from {
            pieces.push(Piece::Text(&text[from..start]));
        }
        from = inside + length + 2;
        pieces.push(Piece::Expression {
            source: &text[inside..inside + length],
            range: start..from,
            index,
        });
        // What stands inside of it counts when its place is looked for.
        index += 1 + text[inside..from].matches(OPEN).count();
    }
    if from < text.len() {
        pieces.push(Piece::Text(&text[from..]));
    }
    Ok(pieces)
}

/// How long the expression is that begins here: to the `}}` that is in no text and no map of it.
fn end_of(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn same<'n>(
    mut before: impl Iterator<Item = &'n Rc<Node>>,
    mut after: impl Iterator<Item = &'n Rc<Node>>,
) -> bool {
    loop {
        match (before.next(), after.next()) {
            (Some(before), Some(after)) if Rc::ptr_eq(before, after) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// A variable's value, where an expression puts it: a scalar stands there now, the parts of a list or map where they were written.
fn moved(value: &Rc<Node>, place: Span) -> Rc<Node> {
    match &value.content {
        Content::Scalar { text, plain } => {
            let (text, plain) = (text.clone(), *plain);
            Rc::new(Node::new(place, Content::Scalar { text, plain }))
        }
        Content::List(_) | Content::Map(_) => value.clone(),
    }
}

fn value_of(variable: &Variable) -> Value {
    let json = variable
        .value
        .as_ref()
        .and_then(|node| to_json(node, &mut Problems::default()));
    match (json, &variable.value) {
        // A text is the text that was written, `3.10` too.
        (Some(_), Some(node)) if variable.kind == super::vars::VarType::Text => match &node.content
        {
            Content::Scalar { text, .. } => Value::from(text.as_str()),
            Content::List(_) | Content::Map(_) => Value::UNDEFINED,
        },
        (Some(json), _) => Value::from(Serde(json)),
        (None, _) => Value::UNDEFINED,
    }
}

/// The value of an expression in a context.
pub(super) fn computed(
    environment: &Environment<'_>,
    source: &str,
    place: Span,
    context: Value,
) -> Result<Value, Box<Diagnostic>> {
    let compiled = environment
        .compile_expression(source)
        .map_err(|error| Box::new(unreadable(&error, source, place)))?;
    match compiled.eval(context) {
        Ok(value) if value.is_undefined() => Err(Box::new(no_value(place, "nothing"))),
        Ok(value) => Ok(value),
        Err(error) => {
            let detail = error.detail().map_or_else(
                || error.kind().to_string(),
                |detail| format!("{}: {detail}", error.kind()),
            );
            let place = error
                .range()
                .filter(|range| range.end <= source.len())
                .map_or(place, |range| within(place, source, range));
            let message = format!("this cannot be computed: {detail}");
            Err(Box::new(Diagnostic::error("S107", message).at(place, "")))
        }
    }
}

/// A computed value inside a text.
pub(super) fn in_text(value: &Value, place: Span) -> Result<String, Box<Diagnostic>> {
    match value.kind() {
        ValueKind::Bool | ValueKind::Number | ValueKind::String => Ok(value.to_string()),
        ValueKind::Seq | ValueKind::Iterable => Err(Box::new(not_in_text(place, "a list"))),
        kind => Err(Box::new(not_in_text(place, &kind.to_string()))),
    }
}

fn unknown_member(name: &str, member: &str, at: Span) -> Diagnostic {
    if member.is_empty() {
        return Diagnostic::error("S012", format!("`{name}` is no value"))
            .at(at, "")
            .help("name one: `cell.backend`");
    }
    let message = format!("`cell.{}` is not defined", shorten(member));
    let near = did_you_mean(member, CellNames::MEMBERS);
    let label = near.map_or(String::new(), |near| format!("did you mean `cell.{near}`?"));
    let diagnostic = Diagnostic::error("S012", message).at(at, label);
    match member {
        "stage" => diagnostic.help("all stages of a cell send the same requests; an SLO can look at one of them: `where: { stage: … }`"),
        _ => diagnostic.help(format!("cell: {}", CellNames::MEMBERS.join(", "))),
    }
}

/// A computed value as a part of the tree; `Err` with what it is, if it cannot be one.
pub(super) fn to_node(value: &Value, place: Span, depth: usize) -> Result<Rc<Node>, String> {
    let scalar =
        |text: String, plain: bool| Ok(Rc::new(Node::new(place, Content::Scalar { text, plain })));
    if depth > super::tree::DEPTH_LIMIT {
        return Err("something too deep".to_owned());
    }
    match value.kind() {
        ValueKind::None => scalar("null".to_owned(), true),
        ValueKind::Bool | ValueKind::Number => scalar(value.to_string(), true),
        ValueKind::String => scalar(value.to_string(), false),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| error.to_string())?;
            let items: Result<Vec<_>, _> =
                items.map(|item| to_node(&item, place, depth + 1)).collect();
            Ok(Rc::new(Node::new(place, Content::List(items?))))
        }
        ValueKind::Map => {
            let keys = value.try_iter().map_err(|error| error.to_string())?;
            let mut entries = Vec::new();
            for key in keys {
                let inner = value.get_item(&key).map_err(|error| error.to_string())?;
                let key = Key {
                    text: key.to_string(),
                    span: place,
                };
                entries.push((key, to_node(&inner, place, depth + 1)?));
            }
            let content = Content::Map(super::tree::Map {
                entries,
                ..super::tree::Map::default()
            });
            Ok(Rc::new(Node::new(place, content)))
        }
        kind => Err(kind.to_string()),
    }
}

/// The place of a part of an expression, where the place of the whole is exact; else the whole.
fn within(place: Span, source: &str, part: Range<usize>) -> Span {
    let exact = place.end - place.start == source.len() + OPEN.len() + 2;
    if exact {
        place.part(OPEN.len() + part.start, OPEN.len() + part.end)
    } else {
        place
    }
}

fn problem(diagnostic: Diagnostic) -> Option<Box<Diagnostic>> {
    Some(Box::new(diagnostic))
}

fn unreadable(error: &minijinja::Error, source: &str, place: Span) -> Diagnostic {
    let detail = error.detail().unwrap_or("it is not an expression");
    let at = error
        .range()
        .filter(|range| range.end <= source.len() && !range.is_empty())
        .map_or(place, |range| within(place, source, range));
    let diagnostic =
        Diagnostic::error("S106", format!("this expression cannot be read: {detail}")).at(at, "");
    if source.trim().is_empty() {
        diagnostic.help("write the name of a value, like `${{ vars.peak }}`")
    } else {
        diagnostic
    }
}

pub(super) fn no_value(place: Span, what: &str) -> Diagnostic {
    Diagnostic::error("S107", format!("this comes to {what}, which is no value")).at(place, "")
}

fn not_in_text(place: Span, what: &str) -> Diagnostic {
    Diagnostic::error("S107", format!("{what} cannot stand inside a text"))
        .at(place, "")
        .help("`| join(\", \")` makes a text of a list; alone, the expression keeps its type")
}

fn undefined<'k>(
    name: &str,
    member: &str,
    context: &str,
    known: impl Iterator<Item = &'k Key>,
    at: Span,
) -> Diagnostic {
    let known: Vec<&Key> = known.collect();
    let message = if member.is_empty() {
        format!("`{name}` is no value")
    } else {
        format!("`{context}.{}` is not defined", shorten(member))
    };
    let near = did_you_mean(member, known.iter().map(|key| key.text.as_str()));
    let near = near.and_then(|near| known.iter().find(|key| key.text == near));
    let diagnostic = Diagnostic::error("S012", message);
    if member.is_empty() {
        return diagnostic
            .at(at, "")
            .help(format!("name one: `{context}.name`"));
    }
    match near {
        Some(near) => diagnostic
            .at(at, format!("did you mean `{context}.{}`?", near.text))
            .also(near.span, "declared here"),
        None if known.is_empty() => diagnostic.at(at, format!("no `{context}` are declared")),
        None => {
            let names: Vec<&str> = known.iter().map(|key| key.text.as_str()).collect();
            diagnostic
                .at(at, "")
                .help(format!("{context}: {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let Ok(pieces) = pieces(text) else {
            return "no end".to_owned();
        };
        let pieces: Vec<String> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => format!("{text:?}"),
                Piece::Expression { source, .. } => format!("<{source}>"),
            })
            .collect();
        pieces.join(" ")
    }

    #[test]
    fn a_name_in_brackets_is_a_name_behind_a_dot() {
        for (written, read) in [
            ("vars['peak'] // 2", "vars.peak // 2"),
            ("vars[\"a\"] ~ vars[ 'b' ]", "vars.a ~ vars.b"),
            ("secrets['token']", "secrets.token"),
            (
                "vars.list[0] ~ vars['list'][1]",
                "vars.list[0] ~ vars.list[1]",
            ),
            ("vars[vars.name]", "vars[vars.name]"),
            ("myvars['a']", "myvars['a']"),
            ("'vars[' ~ vars['a']", "'vars[' ~ vars.a"),
            ("\"it's vars['a']\"", "\"it's vars['a']\""),
            ("[1, 2]", "[1, 2]"),
            ("1", "1"),
        ] {
            assert_eq!(dotted(written), read);
        }
    }

    #[test]
    fn an_expression_ends_where_its_own_brackets_and_texts_have_ended() {
        assert_eq!(shown("${{ a }}"), "< a >");
        assert_eq!(shown("x${{a}}y${{b}}"), "\"x\" <a> \"y\" <b>");
        assert_eq!(shown("${{ '}}' }}"), "< '}}' >");
        assert_eq!(shown("${{ {'a': {'b': 1}} }}"), "< {'a': {'b': 1}} >");
        assert_eq!(shown("${{ 'it\\'s }}' }}"), "< 'it\\'s }}' >");
        assert_eq!(shown("${{ '${{' }}"), "< '${{' >");
        assert_eq!(shown("${{ a"), "no end");
        assert_eq!(shown("${{ 'a }}"), "no end");
        assert_eq!(shown("a $ {{ b }}"), "\"a $ {{ b }}\"");
    }
}
