//! Variables and secrets: how they are declared, and which value each variable has.

use std::ops::Deref;
use std::rc::Rc;

use serde_json::{Value, json};

use super::Inputs;
use super::decode::{Decode, DecodeKey, ObjectSchema, Problems, shorten, sniff};
use super::macros::{record, words};
use super::rules::literal_secret;
use super::schema::Definitions;
use super::tree::{self, Content, Key, Node};
use super::unions::environment_name;
use super::values::JsonValue;
use crate::diagnostic::{Diagnostic, Sources, Span, Spanned, did_you_mean};

record! {
    /// A variable, for expressions like `${{ vars.peak }}`.
    pub struct VarSpec {
        short: default;
        /// Its value where nobody gives another one. Without it, somebody has to.
        pub default: Option<JsonValue>,
        /// Its type. Default: that of the default, else `string`.
        pub kind("type"): Option<Spanned<VarType>>,
        /// What it is for: `scenario inputs` shows it.
        pub description: Option<Spanned<String>>,
        /// An environment variable that gives its value, besides `SCENARIO_VAR_` and its name in capitals.
        pub env: Option<Spanned<String>>,
    }
}

words! {
    /// The type of a variable.
    pub enum VarType {
        /// A text.
        Text = "string",
        /// A number.
        Number = "number",
        /// A whole number.
        Integer = "integer",
        /// `true` or `false`.
        Boolean = "boolean",
        /// A list.
        List = "list",
        /// A map.
        Map = "map",
    }
}

/// A secret, for `${{ secrets.token }}` in `auth` and `headers`. The value itself is never in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretDeclaration {
    /// The environment variable that holds it.
    pub env: Spanned<String>,
    /// What it is for: `scenario inputs` shows it.
    pub description: Option<Spanned<String>>,
}

impl Decode for SecretDeclaration {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if let Content::Scalar { .. } = &node.content {
            problems.text("`{ env: NAME }`", node)?;
            literal_secret("secrets", node.span, problems);
            return None;
        }
        let map = problems.map("`{ env: NAME }`", node)?;
        problems.known_keys(map, &["env", "description"], false);
        let env: Option<Spanned<String>> = problems.field(map, node.span, "env");
        let description = problems.field(map, node.span, "description");
        let env = env.filter(|env| environment_name(env, problems))?;
        Some(SecretDeclaration {
            env,
            description: description?,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let mut object = ObjectSchema::default();
        let name = json!({ "type": ["string", "boolean"], "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
        object.property("env", "The environment variable that holds it.", true, name);
        let text = String::schema(definitions);
        let description = "What it is for: `scenario inputs` shows it.";
        object.property("description", description, false, text);
        object.finish()
    }
}

/// The name of a variable or a secret: a word as expressions have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarName(String);

impl Deref for VarName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl DecodeKey for VarName {
    fn decode_key(key: &Key, problems: &mut Problems) -> Option<Self> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let text = key.text.as_str();
        if text.chars().all(legal)
            && !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
        {
            return Some(VarName(text.to_owned()));
        }
        let near: String = text
            .to_lowercase()
            .chars()
            .map(|c| if legal(c) { c } else { '_' })
            .collect();
        let label = if near.starts_with(|c: char| c.is_ascii_lowercase()) {
            format!("write `{near}`")
        } else {
            String::new()
        };
        let message = format!("`{}` cannot be the name of a variable", shorten(text));
        problems.error("S016", message, key.span, label);
        problems.advise("names are lower-case letters, digits and `_`, as expressions read them");
        None
    }

    fn pattern() -> Option<String> {
        Some("^[a-z_][a-z0-9_]*$".to_owned())
    }
}

/// Where the value of a variable comes from; the later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VarOrigin {
    /// Nowhere: it has none.
    Nowhere,
    /// Its default, in a file or a profile.
    Default,
    /// This environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

/// A variable with its value.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: Key,
    /// The value; `None` if nobody gives one.
    pub(super) value: Option<Rc<Node>>,
    pub(super) origin: VarOrigin,
    pub(super) kind: VarType,
    pub(super) description: Option<String>,
    /// The environment variables that may give its value, the stronger one first.
    pub(super) env: Vec<String>,
}

/// A declared secret.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) name: Key,
    pub(super) env: String,
    pub(super) description: Option<String>,
}

/// The prefix of environment variables that give values to variables.
const PREFIX: &str = "SCENARIO_VAR_";

/// The variables of a tree with their values. Declarations that cannot be read are left to the decoder to tell of.
pub(super) fn variables(
    root: &Node,
    inputs: &Inputs<'_>,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Variable> {
    let declared = root.as_map().and_then(|map| map.get("vars"));
    let mut given = given(inputs.vars, sources, problems);
    let mut variables = Vec::new();
    for (name, node) in declared.map_or(&[][..], |(_, node)| node.entries()) {
        let widened = Node::widen("default", node);
        let map = node.as_map().or(widened.as_map());
        let Some(map) = map else { continue };
        let default = map.get("default").map(|(_, node)| node.clone());
        let default = default.filter(|node| !node.is_null());
        let mut unread = Problems::default();
        let kind: Option<Option<VarType>> = unread.field(map, node.span, "type");
        let kind = kind
            .flatten()
            .unwrap_or_else(|| type_of(default.as_deref()));
        let text = |key: &str| match &map.get(key)?.1.content {
            Content::Scalar { text, .. } => Some(text.clone()),
            Content::List(_) | Content::Map(_) => None,
        };
        let own = format!("{PREFIX}{}", name.text.to_ascii_uppercase());
        let env: Vec<String> = [Some(own), text("env")].into_iter().flatten().collect();
        let on_command_line = given
            .iter()
            .rposition(|given| given.name == name.text)
            .map(|at| given.remove(at));
        given.retain(|given| given.name != name.text);
        let in_environment = || {
            env.iter().find_map(|variable| {
                let text = (inputs.environment)(variable).filter(|text| !text.is_empty())?;
                Some((variable, text))
            })
        };
        let (value, origin) = if let Some(given) = on_command_line {
            let value = read(&given.text, given.span, kind, sources, problems);
            (value, VarOrigin::CommandLine)
        } else if let Some((variable, text)) = in_environment() {
            let source = sources.add(variable.as_str(), text.as_str());
            let end = text.len();
            let span = Span {
                source,
                start: 0,
                end,
            };
            let value = read(&text, span, kind, sources, problems);
            (value, VarOrigin::Environment(variable.clone()))
        } else {
            let origin = default
                .as_ref()
                .map_or(VarOrigin::Nowhere, |_| VarOrigin::Default);
            (default, origin)
        };
        if let Some(value) = &value {
            check(value, kind, problems);
        }
        variables.push(Variable {
            name: name.clone(),
            value,
            origin,
            kind,
            description: text("description"),
            env,
        });
    }
    for unknown in given {
        let names = variables.iter().map(|variable| variable.name.text.as_str());
        let label = did_you_mean(&unknown.name, names)
            .map(|near| format!("did you mean `{near}`?"))
            .unwrap_or_default();
        let names: Vec<&str> = variables
            .iter()
            .map(|known| known.name.text.as_str())
            .collect();
        let diagnostic =
            Diagnostic::error("S012", format!("there is no variable `{}`", unknown.name))
                .at(unknown.place, label);
        problems.push(if names.is_empty() {
            diagnostic.help("the file declares none: `vars: { name: { default: … } }`")
        } else {
            diagnostic.help(format!("variables: {}", names.join(", ")))
        });
    }
    variables
}

/// The secrets that a tree declares.
pub(super) fn secrets(root: &Node) -> Vec<Secret> {
    let declared = root.as_map().and_then(|map| map.get("secrets"));
    let entries = declared.map_or(&[][..], |(_, node)| node.entries());
    entries
        .iter()
        .filter_map(|(name, node)| {
            let secret = SecretDeclaration::decode(node, &mut Problems::default())?;
            Some(Secret {
                name: name.clone(),
                env: secret.env.value,
                description: secret.description.map(|text| text.value),
            })
        })
        .collect()
}

/// A value that the command line gives.
struct Given {
    name: String,
    /// Where the name stands.
    place: Span,
    text: String,
    span: Span,
}

fn given(vars: &[String], sources: &mut Sources, problems: &mut Vec<Diagnostic>) -> Vec<Given> {
    let mut all = Vec::new();
    for argument in vars {
        let source = sources.add("--var", argument.as_str());
        let span = |start: usize, end: usize| Span { source, start, end };
        let Some((name, text)) = argument.split_once('=') else {
            problems.push(
                Diagnostic::error("S027", "expected `NAME=VALUE`")
                    .at(span(0, argument.len()), "")
                    .help("write it like `peak=16`"),
            );
            continue;
        };
        all.push(Given {
            name: name.trim().to_owned(),
            place: span(0, name.len()),
            text: text.to_owned(),
            span: span(name.len() + 1, argument.len()),
        });
    }
    all
}

/// What the type is, where none is declared.
fn type_of(default: Option<&Node>) -> VarType {
    match default.map(|node| &node.content) {
        None => VarType::Text,
        Some(Content::List(_)) => VarType::List,
        Some(Content::Map(_)) => VarType::Map,
        Some(Content::Scalar { text, plain }) => match sniff(text, *plain) {
            Value::Bool(_) => VarType::Boolean,
            Value::Number(_) => VarType::Number,
            _ => VarType::Text,
        },
    }
}

/// A text from outside as a value of that type. A text stays what it is, whatever it looks like.
fn read(
    text: &str,
    span: Span,
    kind: VarType,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) -> Option<Rc<Node>> {
    let scalar = |text: &str, plain: bool| {
        let text = text.to_owned();
        Some(Rc::new(Node::new(span, Content::Scalar { text, plain })))
    };
    match kind {
        VarType::Text => scalar(text, false),
        VarType::Number | VarType::Integer | VarType::Boolean => scalar(text.trim(), true),
        VarType::List | VarType::Map => {
            let path = sources.get(span.source).path.clone();
            let source = sources.add(path, text);
            let (node, wrong) = tree::parse(source, text);
            let fine = wrong.is_empty();
            problems.extend(wrong);
            node.filter(|_| fine)
        }
    }
}

/// Notes a value that is not of its type.
fn check(value: &Node, kind: VarType, problems: &mut Vec<Diagnostic>) {
    let scalar = |wanted: fn(&Value) -> bool| match &value.content {
        Content::Scalar { text, plain } => wanted(&sniff(text, *plain)),
        Content::List(_) | Content::Map(_) => false,
    };
    let (fits, what) = match kind {
        VarType::Text => (scalar(|_| true), "a text"),
        VarType::Number => (scalar(Value::is_number), "a number"),
        VarType::Integer => (
            scalar(|value| value.is_i64() || value.is_u64()),
            "a whole number",
        ),
        VarType::Boolean => (scalar(Value::is_boolean), "`true` or `false`"),
        VarType::List => (matches!(value.content, Content::List(_)), "a list"),
        VarType::Map => (value.as_map().is_some(), "a map"),
    };
    if !fits {
        let mut wrong = Problems::default();
        wrong.expected(what, value);
        problems.extend(wrong.list);
    }
}

/// The secret that a header names, as the decoder reads it: `{ env: NAME }` with what stands around the value.
pub(super) fn secret_node(secret: &Secret, before: &str, after: &str, place: Span) -> Rc<Node> {
    let text = |text: &str, plain: bool| {
        let text = text.to_owned();
        Rc::new(Node::new(place, Content::Scalar { text, plain }))
    };
    let entry = |key: &str, value: &str| {
        let key = Key {
            text: key.to_owned(),
            span: place,
        };
        (key, text(value, false))
    };
    let mut entries = vec![entry("env", &secret.env)];
    for (key, value) in [("prefix", before), ("suffix", after)] {
        if !value.is_empty() {
            entries.push(entry(key, value));
        }
    }
    let content = Content::Map(tree::Map {
        entries,
        ..tree::Map::default()
    });
    Rc::new(Node::new(place, content))
}
