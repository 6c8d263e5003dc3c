//! Values that may be written in several ways: each way is recognised by its shape or its key, never by trying them in turn.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::decode::{
    Decode, Fields, ObjectSchema, Problems, choice, decode_word, described, shorten, sniff,
};
use super::rules::literal_secret;
use super::schema::Definitions;
use super::search::SearchSpec;
use super::tree::{Content, Map, Node};
use super::types::{
    ArgsSpec, Assertions, AuthSpec, BatchSize, BatchSpec, CommandSpec, Comparison, Condition,
    Dimension, DriveSpec, EngineMetricsSpec, GoodputRule, GoodputSpec, GpusSpec, GuardSpec,
    HeaderSpec, Level, LevelsSpec, LoadForm, LoadSpec, NoBound, PortSpec, ProcessSpec, SecretSpec,
    StageSpec, TargetSpec, TraceLoadSpec, WarmupSpec, WhereClause, WhereSpec, WorkersSpec,
};
use super::values::{JsonMap, Table, Url};
use crate::assertion::{self, Dimension as Quantity, Kind};
use crate::diagnostic::{Diagnostic, Spanned, did_you_mean};
use crate::units::{self, Rate};

/// Whether a node is a map.
pub(super) fn is_map(node: &Node) -> bool {
    matches!(node.content, Content::Map(_))
}

/// Whether a node is a list.
fn is_list(node: &Node) -> bool {
    matches!(node.content, Content::List(_))
}

/// The only key of a map that chooses among `keys`, and its value.
pub(super) fn chosen<'n>(
    what: &str,
    keys: &[&'static str],
    node: &'n Node,
    problems: &mut Problems,
) -> Option<(&'static str, &'n Map)> {
    let map = problems.map(what, node)?;
    problems.known_keys(map, keys, false);
    let key = problems.only_one_of(map, keys, "one of them decides");
    if key.is_none()
        && map
            .entries
            .iter()
            .all(|(key, _)| keys.contains(&key.text.as_str()))
    {
        problems.error(
            "S011",
            format!("expected {what}"),
            node.span,
            format!("{} must be given here", choice(keys)),
        );
    }
    key.map(|key| (key, map))
}

// ---- backends ----------------------------------------------------------------------------------------------------------------

impl Decode for AuthSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if let Content::Scalar { .. } = &node.content {
            problems.text("`{ bearer: { env: NAME } }`", node)?;
            literal_secret("auth", node.span, problems);
            return None;
        }
        let (key, map) = chosen("`{ bearer: { env: NAME } }`", &["bearer"], node, problems)?;
        let bearer = problems.field(map, node.span, key)?;
        Some(AuthSpec { bearer })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let secret = SecretSpec::schema(definitions);
        only("bearer", "The bearer token: `{ env: NAME }`.", secret)
    }
}

impl Decode for SecretSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if let Content::Scalar { .. } = &node.content {
            problems.text("`{ env: NAME }`", node)?;
            literal_secret("bearer", node.span, problems);
            return None;
        }
        let map = problems.map("`{ env: NAME }`", node)?;
        problems.known_keys(map, &["env", "prefix", "suffix"], false);
        let env: Option<Spanned<String>> = problems.field(map, node.span, "env");
        let prefix: Option<Option<Spanned<String>>> = problems.field(map, node.span, "prefix");
        let suffix: Option<Option<Spanned<String>>> = problems.field(map, node.span, "suffix");
        let env = env.filter(|env| environment_name(env, problems))?;
        Some(SecretSpec {
            env,
            prefix: prefix?,
            suffix: suffix?,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("Secret"), |definitions| {
            let mut object = ObjectSchema::default();
            let name =
                json!({ "type": ["string", "boolean"], "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
            object.property("env", "The environment variable that holds it.", true, name);
            let text = String::schema(definitions);
            object.property(
                "prefix",
                "What stands before it, like `Token `.",
                false,
                text.clone(),
            );
            object.property("suffix", "What stands behind it.", false, text);
            described(
                object.finish(),
                "Where a secret comes from; the value itself is never in a file.",
            )
        })
    }
}

/// Whether a text is the name of an environment variable; notes it if not.
pub(super) fn environment_name(env: &Spanned<String>, problems: &mut Problems) -> bool {
    let legal = env
        .value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !env.value.starts_with(|c: char| c.is_ascii_digit());
    if !legal {
        // What is no name of a variable may well be the secret itself, so it is hidden, too.
        problems.error("S020", "`env` takes the name of a variable", env.span, "");
        problems.advise("a name has letters, digits and `_`, and no digit first");
    }
    legal
}

impl Decode for HeaderSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if is_map(node) {
            SecretSpec::decode(node, problems).map(HeaderSpec::Environment)
        } else {
            Spanned::decode(node, problems).map(HeaderSpec::Literal)
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [String::schema(definitions), SecretSpec::schema(definitions)] })
    }
}

impl Decode for CommandSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if let Content::Scalar { text, .. } = &node.content
            && text.contains(char::is_whitespace)
        {
            problems.expected("a list of words", node);
            let words: Vec<&str> = text.split_whitespace().collect();
            problems.advise(format!("no shell reads it: write `[{}]`", words.join(", ")));
            return None;
        }
        let words: Vec<Spanned<String>> = if is_list(node) {
            Vec::decode(node, problems)?
        } else {
            vec![Spanned::decode(node, problems)?]
        };
        if words.is_empty() {
            problems.error("S025", "the command is empty", node.span, "name a program");
            return None;
        }
        Some(CommandSpec(words))
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let word = String::schema(definitions);
        json!({ "anyOf": [
            { "type": ["string", "number", "boolean"], "pattern": "^\\S+$" },
            { "type": "array", "items": word, "minItems": 1 }
        ] })
    }
}

impl Decode for ArgsSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if is_list(node) {
            Vec::decode(node, problems).map(ArgsSpec::Words)
        } else if is_map(node) {
            JsonMap::decode(node, problems).map(ArgsSpec::Named)
        } else {
            problems.expected("a map of arguments, or a list of words", node);
            None
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let word = String::schema(definitions);
        json!({ "anyOf": [{ "type": "object" }, { "type": "array", "items": word }] })
    }
}

impl Decode for PortSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        match problems.text("a port, or `auto`", node)? {
            "auto" => Some(PortSpec::Auto),
            text => match text.parse() {
                Ok(port) if port > 0 => Some(PortSpec::Of(port)),
                _ => {
                    problems.expected("a port, or `auto`", node);
                    None
                }
            },
        }
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": u16::MAX }] })
    }
}

impl Decode for EngineMetricsSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        match problems.text("`auto`, `none` or a URL", node)? {
            "auto" => Some(EngineMetricsSpec::Auto),
            "none" => Some(EngineMetricsSpec::Off),
            text if !text.contains("://") => {
                problems.expected("`auto`, `none` or a URL", node);
                None
            }
            _ => Url::decode(node, problems).map(EngineMetricsSpec::Url),
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [{ "enum": ["auto", "none"] }, Url::schema(definitions)] })
    }
}

impl Decode for GpusSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let what = "`auto`, `none`, `{ nvml: [0] }` or `{ dcgm: URL }`";
        if !is_map(node) {
            problems.text(what, node)?;
            let word = decode_word(node, &["auto", "none"], problems)?;
            return Some([GpusSpec::Auto, GpusSpec::Off][word].clone());
        }
        let map = problems.map(what, node)?;
        problems.known_keys(map, &["nvml", "dcgm", "devices"], false);
        match problems.only_one_of(map, &["nvml", "dcgm"], "one source tells of the GPUs") {
            Some("nvml") => {
                if let Some((key, _)) = problems.find(map, "devices") {
                    problems.error("S018", "`devices` belongs to `dcgm`", key.span, "");
                    problems.advise("`nvml` itself lists the devices");
                }
                problems.field(map, node.span, "nvml").map(GpusSpec::Nvml)
            }
            Some(_) => {
                let url = problems.field(map, node.span, "dcgm");
                let devices: Option<Option<Vec<Spanned<u32>>>> =
                    problems.field(map, node.span, "devices");
                Some(GpusSpec::Dcgm {
                    url: url?,
                    devices: devices?.unwrap_or_default(),
                })
            }
            None => {
                problems.error("S011", format!("expected {what}"), node.span, "");
                None
            }
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let devices = Vec::<u32>::schema(definitions);
        let mut nvml = ObjectSchema::default();
        nvml.property("nvml", "Indices of local GPUs.", true, devices.clone());
        let mut dcgm = ObjectSchema::default();
        dcgm.property("dcgm", "The DCGM exporter.", true, Url::schema(definitions));
        dcgm.property(
            "devices",
            "Only these indices. Default: all.",
            false,
            devices,
        );
        json!({ "anyOf": [{ "enum": ["auto", "none"] }, nvml.finish(), dcgm.finish()] })
    }
}

/// The schema of a map with one key.
pub(super) fn only(key: &str, description: &str, schema: Value) -> Value {
    let mut object = ObjectSchema::default();
    object.property(key, description, true, schema);
    object.finish()
}

// ---- load --------------------------------------------------------------------------------------------------------------------

/// The keys that choose the form of a load.
const FORMS: &[&str] = &["stages", "levels", "batch", "trace", "search"];

impl Decode for LoadSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let map = problems.map(
            "a map with `stages`, `levels`, `batch`, `trace` or `search`",
            node,
        )?;
        let mut known: Vec<&str> = FORMS.iter().chain(DriveSpec::KEYS).copied().collect();
        if FORMS.iter().all(|form| problems.find(map, form).is_none()) {
            // What is said of the form that is missing says it of its keys, too.
            known.extend(["users", "rate", "for", "requests", "requests_per_user"]);
        }
        problems.known_keys(map, &known, false);
        let form = problems.only_one_of(map, FORMS, "a load has one form");
        let drive = DriveSpec::decode_fields(map, node.span, problems);
        let Some((form, (key, value))) =
            form.and_then(|form| Some((form, problems.find(map, form)?)))
        else {
            problems.error(
                "S011",
                "the load has no form",
                node.span,
                "one of `stages`, `levels`, `batch`, `trace`, `search` must be given here",
            );
            let size = ["users", "rate"].into_iter().find_map(|size| map.get(size));
            if let Some((size, value)) = size
                && let Content::Scalar { text, .. } = &value.content
            {
                problems.advise(format!(
                    "`{0}` belongs into a form: write `levels: {{ {0}: {text}, for: 60s }}`",
                    size.text
                ));
            }
            return None;
        };
        let decoded = match form {
            "stages" => decode_stages(value, problems).map(LoadForm::Stages),
            "levels" => LevelsSpec::decode(value, problems).map(LoadForm::Levels),
            "batch" => {
                only_driven_by(
                    map,
                    &["guards"],
                    "batch",
                    "a batch is sent at once",
                    problems,
                );
                BatchSpec::decode(value, problems).map(LoadForm::Batch)
            }
            "trace" => {
                let own = ["max_in_flight", "on_full", "guards"];
                let why = "a trace has arrivals of its own";
                only_driven_by(map, &own, "trace", why, problems);
                TraceLoadSpec::decode(value, problems).map(LoadForm::Trace)
            }
            _ => SearchSpec::decode(value, problems).map(LoadForm::Search),
        };
        Some(LoadSpec {
            form: Spanned::new(decoded?, key.span),
            drive: drive?,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("LoadSpec"), |definitions| {
            let mut stages = ObjectSchema::default();
            let list =
                json!({ "type": "array", "minItems": 1, "items": StageSpec::schema(definitions) });
            stages.property("stages", "Named parts, one after another.", true, list);
            DriveSpec::describe(&mut stages, definitions);
            let mut levels = ObjectSchema::default();
            levels.property("levels", "", true, LevelsSpec::schema(definitions));
            DriveSpec::describe(&mut levels, definitions);
            let mut batch = ObjectSchema::default();
            batch.property("batch", "", true, BatchSpec::schema(definitions));
            let guards = super::types::GuardsSpec::schema(definitions);
            batch.property("guards", "Guards that differ for this load.", false, guards);
            let mut trace = ObjectSchema::default();
            trace.property("trace", "", true, TraceLoadSpec::schema(definitions));
            let most = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
            let cap = "The safety cap on requests in flight. Default: 4096.";
            trace.property("max_in_flight", cap, false, most);
            let full = "What happens to an arrival that meets the cap. Default: `queue`.";
            trace.property("on_full", full, false, super::types::OnFull::schema(definitions));
            let guards = super::types::GuardsSpec::schema(definitions);
            trace.property("guards", "Guards that differ for this load.", false, guards);
            let mut search = ObjectSchema::default();
            search.property("search", "", true, SearchSpec::schema(definitions));
            DriveSpec::describe(&mut search, definitions);
            json!({
                "oneOf": [stages.finish(), levels.finish(), batch.finish(), trace.finish(), search.finish()],
                "description": "A load: `stages`, `levels`, `batch`, `trace` or `search`, and how it is driven.",
            })
        })
    }
}

/// Notes what drives other loads and means nothing for one of this form.
fn only_driven_by(map: &Map, own: &[&str], form: &str, why: &str, problems: &mut Problems) {
    for drive in DriveSpec::KEYS {
        if let (false, Some((key, _))) = (own.contains(drive), problems.find(map, drive)) {
            let message = format!("`{drive}` and `{form}` exclude each other");
            problems.error("S018", message, key.span, why);
        }
    }
}

fn decode_stages(node: &Rc<Node>, problems: &mut Problems) -> Option<Vec<Spanned<StageSpec>>> {
    let stages: Vec<Spanned<StageSpec>> = Vec::decode(node, problems)?;
    if stages.is_empty() {
        problems.error(
            "S025",
            "the list is empty",
            node.span,
            "a load has at least one stage",
        );
        return None;
    }
    for (index, stage) in stages.iter().enumerate() {
        let Some(name) = &stage.value.name else {
            continue;
        };
        let before = stages[..index].iter().find_map(|stage| {
            let before = stage.value.name.as_ref()?;
            (before.value == name.value).then_some(before.span)
        });
        if let Some(before) = before {
            let diagnostic =
                Diagnostic::error("S004", format!("two stages are called `{}`", name.value))
                    .at(name.span, "")
                    .also(before, "first given here");
            problems.push(diagnostic);
        }
    }
    Some(stages)
}

impl Decode for ProcessSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if is_map(node) {
            let (key, map) = chosen("`{ gamma: SHAPE }`", &["gamma"], node, problems)?;
            return problems.field(map, node.span, key).map(ProcessSpec::Gamma);
        }
        let word = decode_word(node, &["uniform", "poisson"], problems)?;
        Some([ProcessSpec::Uniform, ProcessSpec::Poisson][word])
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        let gamma = only(
            "gamma",
            "The shape: below 1 burstier than Poisson, above it more even.",
            json!({ "type": "number", "exclusiveMinimum": 0 }),
        );
        json!({ "anyOf": [{ "enum": ["uniform", "poisson"] }, gamma] })
    }
}

impl Decode for TargetSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let text = problems.text("a rate or a number of users", node)?;
        let plain = matches!(&node.content, Content::Scalar { plain: true, .. });
        if sniff(text, plain).is_number() {
            u32::decode(node, problems).map(TargetSpec::Users)
        } else {
            Rate::decode(node, problems).map(TargetSpec::Rate)
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [Rate::schema(definitions), u32::schema(definitions)] })
    }
}

impl Decode for WarmupSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if is_map(node) {
            let (key, map) = chosen("`{ requests: N }`", &["requests"], node, problems)?;
            return problems
                .field(map, node.span, key)
                .map(WarmupSpec::Requests);
        }
        Duration::decode(node, problems).map(WarmupSpec::For)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let requests = only("requests", "This many requests.", u64::schema(definitions));
        json!({ "anyOf": [Duration::schema(definitions), requests] })
    }
}

/// A number, or a word that stands for one.
fn word_or_number(word: &str, node: &Rc<Node>, problems: &mut Problems) -> Option<Option<u32>> {
    if node.is_word(word) {
        return Some(None);
    }
    let what = format!("a whole number or `{word}`");
    let text = problems.text(&what, node)?;
    if !sniff(text, true).is_number() {
        problems.expected(&what, node);
        if did_you_mean(text, [word]).is_some() {
            problems.advise(format!("did you mean `{word}`?"));
        }
        return None;
    }
    u32::decode(node, problems).map(Some)
}

impl Decode for BatchSize {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let size = word_or_number("all", node, problems)?;
        Some(size.map_or(BatchSize::All, BatchSize::Of))
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [{ "const": "all" }, { "type": "integer", "minimum": 1 }] })
    }
}

impl Decode for WorkersSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let workers = word_or_number("auto", node, problems)?;
        Some(workers.map_or(WorkersSpec::Auto, WorkersSpec::Of))
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}

// ---- slos, guards, goodput ---------------------------------------------------------------------------------------------------

impl Decode for Assertions {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if !is_list(node) {
            problems.text("an assertion like `P95 TTFT < 500ms`", node)?;
            return Spanned::decode(node, problems).map(Assertions::One);
        }
        let texts: Vec<Spanned<String>> = Vec::decode(node, problems)?;
        if texts.is_empty() {
            problems.error("S025", "the list is empty", node.span, "");
            return None;
        }
        Some(Assertions::Scoped(texts))
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("Assertion"), |_| {
            // Loose on purpose: one comparison somewhere. The grammar itself is not a regular one.
            let comparison = "[<>≤≥]|==|!=|\\b(under|below|over|above|at most|at least)\\b";
            let mut examples = vec!["P95 TTFT < 500ms".to_owned(), "error rate < 1%".to_owned()];
            examples.extend(assertion::metrics().iter().map(assertion::example));
            examples.push("sglang.output_tps >= 1.2 * vllm.output_tps".to_owned());
            let text = json!({
                "type": "string",
                "pattern": comparison,
                "examples": examples,
                "description": "One comparison: an aggregate, a metric, and a bound with its unit.",
            });
            json!({ "anyOf": [text, { "type": "array", "minItems": 1, "items": text }] })
        })
    }
}

/// Dimensions whose values are numbers.
const NUMERIC: &[Dimension] = &[
    Dimension::Users,
    Dimension::Rate,
    Dimension::Turn,
    Dimension::Gpu,
    Dimension::Repeat,
];

fn dimension_words() -> Vec<&'static str> {
    Dimension::ALL
        .iter()
        .map(|dimension| dimension.name())
        .collect()
}

impl Decode for WhereSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let map = problems.map("a map like `{ load: steady, stage: peak }`", node)?;
        if map.entries.is_empty() {
            problems.error("S025", "the map is empty", node.span, "");
            problems.advise("name a dimension, or leave `where` out");
            return None;
        }
        let words = dimension_words();
        problems.known_keys(map, &words, false);
        let mut clauses = Some(Vec::new());
        for (key, value) in &map.entries {
            let dimension = Dimension::ALL.iter().find(|known| known.name() == key.text);
            let clause = dimension.and_then(|dimension| {
                let condition = decode_condition(*dimension, value, problems)?;
                Some(WhereClause {
                    dimension: Spanned::new(*dimension, key.span),
                    condition: Spanned::new(condition, value.span),
                })
            });
            clauses = clauses.zip(clause).map(|(mut clauses, clause)| {
                clauses.push(clause);
                clauses
            });
        }
        clauses.map(|clauses| WhereSpec {
            clauses,
            span: node.span,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("Where"), |definitions| {
            let value = String::schema(definitions);
            let list = json!({ "type": "array", "items": value, "minItems": 1 });
            let condition =
                definitions.define(Some("Condition"), |_| json!({ "anyOf": [value, list] }));
            let mut object = ObjectSchema::default();
            for dimension in Dimension::ALL {
                object.property(
                    dimension.name(),
                    "A value, a list, or a comparison like `<= 50`.",
                    false,
                    condition.clone(),
                );
            }
            let mut schema = object.finish();
            schema["minProperties"] = json!(1);
            described(
                schema,
                "Where it is judged: dimension → value, list or comparison.",
            )
        })
    }
}

fn decode_condition(
    dimension: Dimension,
    node: &Rc<Node>,
    problems: &mut Problems,
) -> Option<Condition> {
    if is_list(node) {
        let values: Vec<Spanned<String>> = Vec::decode(node, problems)?;
        if values.is_empty() {
            problems.error("S025", "the list is empty", node.span, "");
            return None;
        }
        return Some(Condition::OneOf(values));
    }
    let text = problems.text("a value, a list or a comparison", node)?;
    let comparison = Comparison::ALL
        .iter()
        .find_map(|comparison| Some((*comparison, text.strip_prefix(comparison.name())?.trim())));
    let Some((comparison, number)) = comparison else {
        return Some(Condition::OneOf(vec![Spanned::new(
            text.to_owned(),
            node.span,
        )]));
    };
    if !NUMERIC.contains(&dimension) {
        problems.error(
            "S026",
            format!("`{}` cannot be compared", dimension.name()),
            node.span,
            "write a value or a list of values",
        );
        return None;
    }
    let value = match number.parse::<f64>() {
        Ok(value) => Some(value),
        Err(_) if dimension == Dimension::Rate => {
            units::parse_rate(number).ok().map(Rate::per_second)
        }
        Err(_) => None,
    };
    if value.is_none() {
        problems.error(
            "S026",
            format!("`{}` is not a number to compare with", shorten(number)),
            node.span,
            "write it like `<= 50`",
        );
    }
    value.map(|value| Condition::Compare(comparison, value))
}

impl<T: Decode> Decode for GuardSpec<T> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if node.is_word("off") {
            return Some(GuardSpec::Off(node.span));
        }
        if !is_map(node) {
            let limit = Spanned::decode(node, problems)?;
            return Some(GuardSpec::On {
                limit: Some(limit),
                level: None,
            });
        }
        let map = problems.map("a guard", node)?;
        problems.known_keys(map, &["limit", "level"], false);
        let limit: Option<Option<Spanned<T>>> = problems.field(map, node.span, "limit");
        let level: Option<Option<Spanned<Level>>> = problems.field(map, node.span, "level");
        if map.entries.is_empty() {
            problems.error(
                "S025",
                "the map is empty",
                node.span,
                "give `limit` or `level`",
            );
            return None;
        }
        Some(GuardSpec::On {
            limit: limit?,
            level: level?,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let limit = T::schema(definitions);
        let mut object = ObjectSchema::default();
        object.property("limit", "The bound.", false, limit.clone());
        object.property(
            "level",
            "Whether it decides or only warns.",
            false,
            Level::schema(definitions),
        );
        let mut object = object.finish();
        object["minProperties"] = json!(1);
        json!({ "anyOf": [{ "const": "off" }, limit, object] })
    }
}

impl Decode for NoBound {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        problems.error(
            "S013",
            "this guard has no bound",
            node.span,
            "write `off` or `{ level: warn }`",
        );
        None
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "not": {} })
    }
}

impl Decode for GoodputSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let rules = if is_list(node) {
            let rules: Vec<GoodputRule> = Vec::decode(node, problems)?;
            if rules.is_empty() {
                problems.error("S025", "the list is empty", node.span, "");
                return None;
            }
            rules
        } else {
            let map = problems.map("a map like `{ ttft: 500ms }`", node)?;
            if let Some((key, _)) = map.get("where").or_else(|| map.get("bounds")) {
                problems.error(
                    "S013",
                    "several rules are a list",
                    key.span,
                    "write `- { where: …, bounds: … }`",
                );
                return None;
            }
            vec![GoodputRule {
                scope: None,
                bounds: Table::decode(node, problems)?,
            }]
        };
        Some(GoodputSpec {
            rules,
            span: node.span,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let mut bounds = Table::<Spanned<Duration>>::schema(definitions);
        let times = assertion::metrics()
            .iter()
            .filter(|metric| metric.kind == Kind::Trend && metric.dimension == Quantity::TIME);
        let known: JsonMap = times
            .map(|metric| {
                let bound = described(Duration::schema(definitions), metric.about);
                (metric.name.to_owned(), bound)
            })
            .collect();
        bounds["properties"] = Value::Object(known);
        let rules =
            json!({ "type": "array", "minItems": 1, "items": GoodputRule::schema(definitions) });
        json!({ "anyOf": [bounds, rules] })
    }
}
