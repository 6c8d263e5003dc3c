//! Prompt sets as they are written: each source has keys of its own, lengths may be distributions.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::decode::{Decode, Fields, ObjectSchema, Problems, shorten};
use super::schema::Definitions;
use super::tree::{Content, Map, Node};
use super::types::{
    CacheSpec, CacheState, CategoriesSource, ConversationsSource, DistributionSpec, FileSource,
    InlineSource, LengthSpec, LognormalSpec, MixturePart, NormalSpec, PromptsSpec, PromptsUse,
    SharegptSource, SourceKind, SourceSpec, SyntheticSource, TraceSource, ZipfSpec,
};
use super::unions::{chosen, is_map, only};
use super::values::OneOrMany;
use crate::diagnostic::{Span, Spanned};

/// The keys of each source, by its name.
const SOURCES: &[(SourceKind, &[&str])] = &[
    (SourceKind::Inline, InlineSource::KEYS),
    (SourceKind::File, FileSource::KEYS),
    (SourceKind::Sharegpt, SharegptSource::KEYS),
    (SourceKind::Conversations, ConversationsSource::KEYS),
    (SourceKind::Categories, CategoriesSource::KEYS),
    (SourceKind::Synthetic, SyntheticSource::KEYS),
    (SourceKind::Trace, TraceSource::KEYS),
];

impl Decode for PromptsSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let map = problems.map("a map with `source`", node);
        if let (None, Content::Scalar { text, .. }) = (&map, &node.content)
            && text.contains('.')
        {
            let path = shorten(text);
            problems.advise(format!(
                "a file of prompts: write `{{ source: file, path: {path} }}`"
            ));
        }
        let map = map?;
        let kind: Option<Spanned<SourceKind>> = problems.field(map, node.span, "source");
        let Some(kind) = kind else {
            // Its own keys cannot be told from wrong ones.
            PromptsUse::decode_fields(map, node.span, problems);
            return None;
        };
        let own = SOURCES.iter().find(|(source, _)| *source == kind.value);
        let own = own.map_or(&[][..], |(_, keys)| keys);
        let known: Vec<&str> = ["source"]
            .iter()
            .chain(own)
            .chain(PromptsUse::KEYS)
            .copied()
            .collect();
        problems.known_keys(map, &known, false);
        let source = decode_source(kind.value, map, node.span, problems);
        let use_as = PromptsUse::decode_fields(map, node.span, problems);
        Some(PromptsSpec {
            source: Spanned::new(source?, kind.span),
            use_as: use_as?,
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("PromptsSpec"), |definitions| {
            let forms = [
                source_schema::<InlineSource>(SourceKind::Inline, definitions),
                source_schema::<FileSource>(SourceKind::File, definitions),
                source_schema::<SharegptSource>(SourceKind::Sharegpt, definitions),
                source_schema::<ConversationsSource>(SourceKind::Conversations, definitions),
                source_schema::<CategoriesSource>(SourceKind::Categories, definitions),
                source_schema::<SyntheticSource>(SourceKind::Synthetic, definitions),
                source_schema::<TraceSource>(SourceKind::Trace, definitions),
            ];
            json!({ "oneOf": forms, "description": "A prompt set: where its prompts come from, and how they are used." })
        })
    }
}

fn decode_source(
    kind: SourceKind,
    map: &Map,
    place: Span,
    problems: &mut Problems,
) -> Option<SourceSpec> {
    match kind {
        SourceKind::Inline => Fields::decode_fields(map, place, problems).map(SourceSpec::Inline),
        SourceKind::File => Fields::decode_fields(map, place, problems).map(SourceSpec::File),
        SourceKind::Sharegpt => {
            Fields::decode_fields(map, place, problems).map(SourceSpec::Sharegpt)
        }
        SourceKind::Conversations => {
            Fields::decode_fields(map, place, problems).map(SourceSpec::Conversations)
        }
        SourceKind::Categories => {
            Fields::decode_fields(map, place, problems).map(SourceSpec::Categories)
        }
        SourceKind::Synthetic => {
            Fields::decode_fields(map, place, problems).map(SourceSpec::Synthetic)
        }
        SourceKind::Trace => Fields::decode_fields(map, place, problems).map(SourceSpec::Trace),
    }
}

fn source_schema<T: Fields>(kind: SourceKind, definitions: &mut Definitions) -> Value {
    let mut object = ObjectSchema::default();
    let source = json!({ "const": kind.name() });
    object.property("source", "Where prompts come from.", true, source);
    T::describe(&mut object, definitions);
    PromptsUse::describe(&mut object, definitions);
    let mut schema = object.finish();
    schema["not"] = json!({ "required": ["max_tokens", "output_tokens"] });
    schema
}

/// What distributions are made of.
pub(super) trait Quantity: Decode {
    /// The name of its distribution in the schema.
    const DISTRIBUTION: &'static str;
}

impl Quantity for u32 {
    const DISTRIBUTION: &'static str = "NumberDistribution";
}

impl Quantity for Duration {
    const DISTRIBUTION: &'static str = "TimeDistribution";
}

/// The keys that choose a distribution of anything.
const DISTRIBUTIONS: [&str; 4] = ["uniform", "normal", "lognormal", "exponential"];

#[expect(private_bounds, reason = "its functions are this module's own")]
impl<T: Quantity> DistributionSpec<T> {
    /// The distribution that `key` of the map chooses.
    fn chosen(key: &str, map: &Map, place: Span, problems: &mut Problems) -> Option<Self> {
        match key {
            "uniform" => {
                let bounds: Vec<Spanned<T>> = problems.field(map, place, key)?;
                let count = bounds.len();
                let Ok([low, high]) = <[Spanned<T>; 2]>::try_from(bounds) else {
                    let (key, _) = problems.find(map, key)?;
                    problems.error(
                        "S013",
                        format!("expected two bounds, found {count}"),
                        key.span,
                        "write it like `uniform: [32, 512]`",
                    );
                    return None;
                };
                Some(DistributionSpec::Uniform(low, high))
            }
            "normal" => problems
                .field(map, place, key)
                .map(DistributionSpec::Normal),
            "lognormal" => problems
                .field(map, place, key)
                .map(DistributionSpec::Lognormal),
            _ => problems
                .field(map, place, key)
                .map(DistributionSpec::Exponential),
        }
    }

    /// The schema of each way to write it.
    fn forms(definitions: &mut Definitions) -> Vec<Value> {
        let value = T::schema(definitions);
        let bounds = json!({ "type": "array", "items": value, "minItems": 2, "maxItems": 2 });
        let normal = NormalSpec::<T>::schema(definitions);
        let lognormal = LognormalSpec::<T>::schema(definitions);
        vec![
            value.clone(),
            only(
                "uniform",
                "Uniform between two bounds, both included.",
                bounds,
            ),
            only("normal", "", normal),
            only("lognormal", "", lognormal),
            only("exponential", "Exponential with this mean.", value),
        ]
    }
}

impl<T: Quantity> Decode for DistributionSpec<T> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if !is_map(node) {
            return Spanned::decode(node, problems).map(DistributionSpec::Fixed);
        }
        let (key, map) = chosen("a distribution", &DISTRIBUTIONS, node, problems)?;
        DistributionSpec::chosen(key, map, node.span, problems)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(
            Some(T::DISTRIBUTION),
            |definitions| json!({ "anyOf": Self::forms(definitions) }),
        )
    }
}

impl Decode for LengthSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if !is_map(node) {
            let fixed = Spanned::decode(node, problems).map(DistributionSpec::Fixed);
            return fixed.map(LengthSpec::Simple);
        }
        const KEYS: [&str; 7] = [
            DISTRIBUTIONS[0],
            DISTRIBUTIONS[1],
            DISTRIBUTIONS[2],
            DISTRIBUTIONS[3],
            "zipf",
            "histogram",
            "mixture",
        ];
        let (key, map) = chosen("a distribution", &KEYS, node, problems)?;
        match key {
            "zipf" => problems.field(map, node.span, key).map(LengthSpec::Zipf),
            "histogram" => problems
                .field(map, node.span, key)
                .map(LengthSpec::Histogram),
            "mixture" => {
                let parts: Vec<MixturePart> = problems.field(map, node.span, key)?;
                if parts.is_empty() {
                    problems.error("S025", "the list is empty", node.span, "name its parts");
                    return None;
                }
                Some(LengthSpec::Mixture(parts))
            }
            key => DistributionSpec::chosen(key, map, node.span, problems).map(LengthSpec::Simple),
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.define(Some("LengthDistribution"), |definitions| {
            let mut forms = DistributionSpec::<u32>::forms(definitions);
            let zipf = ZipfSpec::schema(definitions);
            let part = MixturePart::schema(definitions);
            let parts = json!({ "type": "array", "items": part, "minItems": 1 });
            let path = PathBuf::schema(definitions);
            forms.extend([
                only("zipf", "", zipf),
                only(
                    "histogram",
                    "A table with the columns `tokens` (or `from` and `to`) and `count`, relative to this file.",
                    path,
                ),
                only("mixture", "Several distributions, each with its share.", parts),
            ]);
            json!({ "anyOf": forms })
        })
    }
}

impl Decode for CacheSpec {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        if !is_map(node) {
            return OneOrMany::decode(node, problems).map(CacheSpec);
        }
        let (key, map) = chosen("states of the prefix cache", &["compare"], node, problems)?;
        problems.field(map, node.span, key).map(CacheSpec)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let states = OneOrMany::<Spanned<CacheState>>::schema(definitions);
        let compare = only(
            "compare",
            "States to set beside each other.",
            states.clone(),
        );
        json!({ "anyOf": [states, compare] })
    }
}
