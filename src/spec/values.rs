//! The values that scenario files are made of: ids, addresses, versions, named entries.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use serde_json::{Value, json};

use super::decode::{Decode, DecodeKey, Problems, shorten};
use super::schema::Definitions;
use super::tree::{Key, Node};
use crate::diagnostic::{Span, Spanned};

/// JSON that is passed on as it stands.
pub type JsonValue = serde_json::Value;

/// A JSON object that is passed on as it stands.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;

/// The name of a thing in a scenario: lower-case letters, digits and dashes, and no dash first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// The name of an SLO: an [`Id`], or the name of a metric like `output_tps`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SloKey(String);

/// An `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(String);

impl Id {
    /// The id with more behind it; what an id cannot have in it becomes a dash.
    pub fn with(&self, more: &str) -> Id {
        let legal = |letter: char| match letter.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => letter,
            _ => '-',
        };
        Id(self.0.chars().chain(more.chars().map(legal)).collect())
    }
}

macro_rules! text {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text!(Id SloKey Url);

/// The version of the scenario format; 1 is the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionNumber(pub u32);

/// Versions of the tool: comparisons that must all hold, like `>=0.3, <0.5`. A bare version means at least that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    bounds: Vec<(VersionComparison, [u64; 3])>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VersionComparison {
    AtLeast,
    Above,
    AtMost,
    Below,
    Exactly,
}

/// Names of other files. Composition has read them before a spec is read, so a spec has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files;

/// Overlays of a scenario. Composition has read them before a spec is read, so a spec has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profiles;

/// A value, or a list of at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Deref for OneOrMany<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// Named things in the order of the file: never empty, no name twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T, K = Id>(pub Vec<Entry<T, K>>);

/// A thing with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T, K = Id> {
    /// The name.
    pub key: Spanned<K>,
    /// The thing.
    pub value: T,
}

impl<T, K: Deref<Target = str>> Entries<T, K> {
    /// The thing of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The thing of that name, with where the name was written.
    pub fn entry(&self, name: &str) -> Option<&Entry<T, K>> {
        self.0.iter().find(|entry| &*entry.key.value == name)
    }

    /// The things with their names, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry<T, K>> {
        self.0.iter()
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| &*entry.key.value)
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "entries are never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a, T, K> IntoIterator for &'a Entries<T, K> {
    type Item = &'a Entry<T, K>;
    type IntoIter = std::slice::Iter<'a, Entry<T, K>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A map with free keys, in the order of the file.
pub type Table<T> = Entries<T, String>;

// ---- how they are read -------------------------------------------------------------------------------------------------------

/// Names of metrics, which are no names for backends, models, prompt sets or loads: an assertion could not tell them apart.
const RESERVED: &[&str] = &[
    "baseline",
    "client",
    "e2e",
    "errors",
    "goodput",
    "gpu",
    "icl",
    "itl",
    "preemptions",
    "queue",
    "requests",
    "rps",
    "running",
    "tpot",
    "ttft",
];

/// Metrics whose names are no ids; as the key of an SLO they scope a list of assertions.
const METRIC_KEYS: &[&str] = &[
    "achieved_concurrency",
    "achieved_rate",
    "active_users",
    "cached_tokens",
    "client.cpu",
    "client.lag",
    "client.rss",
    "cost_per_mtok",
    "cut_rate",
    "drop_rate",
    "e2e_intended",
    "e2e_stream",
    "energy_per_token",
    "error_rate",
    "first_event",
    "goodput_ratio",
    "gpu.energy",
    "gpu.memory_total",
    "gpu.memory_used",
    "gpu.power",
    "gpu.sm_clock",
    "gpu.temperature",
    "gpu.util",
    "input_tokens",
    "input_tps",
    "kv_cache",
    "length_stop_rate",
    "output_tokens",
    "output_tps",
    "prefill_speed",
    "prefix_hit_rate",
    "reasoning_tokens",
    "scaling_efficiency",
    "send_lag",
    "tokens_per_event",
    "tokens_per_joule",
    "total_tps",
    "tps_per_user",
    "truncated_rate",
    "ttft_content",
    "ttft_intended",
    "valid_rate",
];

/// The pattern of an id.
const ID_PATTERN: &str = "^[a-z0-9][a-z0-9-]*$";

/// Whether a text is an id.
pub(super) fn is_id(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.chars().all(legal) && !text.is_empty() && !text.starts_with('-')
}

/// The id nearest to a text, if anything is left of it.
fn nearest_id(text: &str) -> Option<String> {
    let mut id = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => id.push(c),
            _ if id.is_empty() || id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    let id = id.trim_end_matches('-');
    (!id.is_empty()).then(|| id.to_owned())
}

fn read_id(text: &str, span: Span, problems: &mut Problems) -> Option<Id> {
    if is_id(text) {
        return Some(Id(text.to_owned()));
    }
    let label = nearest_id(text)
        .map(|near| format!("write `{near}`"))
        .unwrap_or_default();
    problems.error(
        "S016",
        format!("`{}` is not an id", shorten(text)),
        span,
        label,
    );
    problems.advise("ids are lower-case letters, digits and dashes, and do not begin with a dash");
    None
}

impl Decode for Id {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let text = problems.text("an id", node)?;
        read_id(text, node.span, problems)
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "type": ["string", "integer", "boolean"], "pattern": ID_PATTERN, "minimum": 0 })
    }
}

impl DecodeKey for Id {
    fn decode_key(key: &Key, problems: &mut Problems) -> Option<Self> {
        if RESERVED.contains(&key.text.as_str()) {
            problems.error(
                "S017",
                format!("`{}` is the name of a metric", key.text),
                key.span,
                "choose another id",
            );
            return None;
        }
        read_id(&key.text, key.span, problems)
    }

    fn pattern() -> Option<String> {
        Some(format!("^(?!({})$)[a-z0-9][a-z0-9-]*$", RESERVED.join("|")))
    }
}

impl DecodeKey for SloKey {
    fn decode_key(key: &Key, problems: &mut Problems) -> Option<Self> {
        if METRIC_KEYS.contains(&key.text.as_str()) {
            return Some(SloKey(key.text.clone()));
        }
        read_id(&key.text, key.span, problems).map(|id| SloKey(id.0))
    }

    fn pattern() -> Option<String> {
        let metrics = METRIC_KEYS.join("|").replace('.', "\\.");
        Some(format!("^([a-z0-9][a-z0-9-]*|{metrics})$"))
    }
}

impl Decode for Url {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let text = problems.text("a URL", node)?;
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
        if host.is_some_and(|host| host.contains('@')) {
            problems.error("S020", "a URL with a user or a password", node.span, "");
            problems.advise("write who asks under `auth` or `headers`, as `{ env: NAME }`");
            return None;
        }
        let legal =
            host.is_some_and(|host| !host.is_empty()) && !text.contains(char::is_whitespace);
        let port = host.and_then(|host| host.rsplit_once(':'));
        let port = port
            .map(|(_, port)| port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        if legal && port.is_some_and(|port| !port.is_empty() && port.parse::<u16>().is_err()) {
            problems.error("S023", "a port is at most 65535", node.span, "");
            return None;
        }
        if legal {
            return Some(Url(text.to_owned()));
        }
        let label = match rest {
            None if text.contains([':', '.']) && !text.contains("://") => {
                format!("did you mean `http://{}`?", shorten(text))
            }
            _ => "write it like `http://localhost:8000`".to_owned(),
        };
        let message = format!("`{}` is not an `http` or `https` URL", shorten(text));
        problems.error("S023", message, node.span, label);
        None
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("Url"), |_| {
            json!({ "type": "string", "pattern": "^https?://[^/?#@\\s]+([/?#]\\S*)?$", "examples": ["http://localhost:8000"] })
        })
    }
}

macro_rules! composed {
    ($($name:ident: $schema:expr;)*) => {$(
        impl Decode for $name {
            fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
                let message = "files and profiles are chosen before values are replaced";
                problems.error("S027", message, node.span, "");
                None
            }

            fn schema(definitions: &mut Definitions) -> Value {
                $schema(definitions)
            }
        }
    )*};
}

composed! {
    Files: OneOrMany::<String>::schema;
    Profiles: |_: &mut Definitions| json!({ "type": "object" });
}

impl Decode for VersionNumber {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let version = u32::decode(node, problems)?;
        if version != 1 {
            problems.error(
                "S022",
                format!("version {version} of the format is not known"),
                node.span,
                "this tool reads version 1",
            );
            return None;
        }
        Some(VersionNumber(version))
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "const": 1 })
    }
}

impl VersionRange {
    /// Whether a version like `0.3.1` lies in the range.
    pub fn contains(&self, version: &str) -> bool {
        let Some(version) = read_version(version) else {
            return false;
        };
        self.bounds
            .iter()
            .all(|(comparison, bound)| match comparison {
                VersionComparison::AtLeast => version >= *bound,
                VersionComparison::Above => version > *bound,
                VersionComparison::AtMost => version <= *bound,
                VersionComparison::Below => version < *bound,
                VersionComparison::Exactly => version == *bound,
            })
    }

    fn read(text: &str) -> Option<VersionRange> {
        let bounds = text.split(',').map(|part| {
            let part = part.trim();
            let (comparison, version) = [
                (">=", VersionComparison::AtLeast),
                (">", VersionComparison::Above),
                ("<=", VersionComparison::AtMost),
                ("<", VersionComparison::Below),
                ("=", VersionComparison::Exactly),
            ]
            .into_iter()
            .find_map(|(sign, comparison)| Some((comparison, part.strip_prefix(sign)?)))
            .unwrap_or((VersionComparison::AtLeast, part));
            Some((comparison, read_version(version.trim())?))
        });
        bounds
            .collect::<Option<Vec<_>>>()
            .map(|bounds| VersionRange { bounds })
    }
}

/// The three numbers of a version; those left out are 0, and what follows a dash is ignored.
fn read_version(text: &str) -> Option<[u64; 3]> {
    let text = text.split(['-', '+']).next()?;
    let mut version = [0; 3];
    for (index, part) in text.split('.').enumerate() {
        *version.get_mut(index)? = part.parse().ok()?;
    }
    Some(version)
}

impl Decode for VersionRange {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let text = problems.text("a range of versions like `>=0.3`", node)?;
        let range = VersionRange::read(text);
        if range.is_none() {
            problems.expected("a range of versions like `>=0.3`", node);
        }
        range
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "type": ["string", "number"], "pattern": "^\\s*(>=|>|<=|<|=)?\\s*[0-9]", "minimum": 0, "examples": [">=0.3", ">=0.3, <0.5"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_versions_holds_what_it_says() {
        let holds =
            |range: &str, version: &str| VersionRange::read(range).unwrap().contains(version);
        assert!(holds(">=0.3", "0.3.0"));
        assert!(holds("0.3", "1.0.0"));
        assert!(holds(">=0.3, <0.5", "0.4.9"));
        assert!(!holds(">=0.3, <0.5", "0.5.0"));
        assert!(!holds(">0.3", "0.3.0"));
        assert!(holds("=0.3.1", "0.3.1-rc.1"));
        assert!(VersionRange::read("newest").is_none());
        assert!(VersionRange::read("1.2.3.4").is_none());
    }

    #[test]
    fn the_nearest_id_is_what_would_have_been_legal() {
        assert_eq!(nearest_id("vLLM_A100 (80G)").unwrap(), "vllm-a100-80g");
        assert_eq!(nearest_id("--x--").unwrap(), "x");
        assert_eq!(nearest_id("日本"), None);
    }
}
