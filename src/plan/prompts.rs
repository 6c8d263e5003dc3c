//! Prompt sets as written become sources with nothing left to decide, each loaded once.

use std::path::PathBuf;
use std::sync::Arc;

use super::requests::SMOKE_TOKENS;
use super::{PlanOptions, RequestParameters, conversations};
use crate::diagnostic::{Diagnostic, Severity, Sources, Span, Spanned};
use crate::spec::{
    DistributionSpec, Expand, FileSource, LengthSpec, PrefixDistribution, PromptOrder, PromptsSpec,
    ScenarioSpec, SharedPrefixSpec, SharegptSource, SourceSpec, TraceFormat, TraceSource,
    TraceUnit,
};
use crate::workload::{
    Fields, Filter, Histogram, InlinePrompt, LengthDistribution, PrefixCache, PrefixGroups,
    PromptSource, SharedPrefix, Source, TimeUnit, Tokenizer, TraceFields, TraceFile, TraceShape,
    Workload, WorkloadError,
};

/// The id of the set that is built in.
pub(super) const BUILT_IN: &str = "chat";

/// A loaded set under the name that its cells have.
pub(super) struct LoadedSet {
    /// The id in the scenario.
    pub(super) id: String,
    /// The id in the cells: that of the set, with its category if the set is expanded.
    pub(super) name: String,
    /// The tokenizer that its prompts are made for; the same set has other texts for another one.
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
    /// What its shared prefixes are to the engine's prefix cache.
    pub(super) cache: PrefixCache,
    pub(super) workload: Arc<Workload>,
}

/// Whether the prompts of a set depend on the model's tokenizer.
pub(super) fn is_made_for_a_tokenizer(id: &str, spec: &ScenarioSpec) -> bool {
    let written = spec.prompts.as_ref().and_then(|prompts| prompts.get(id));
    let prefixed = |written: &PromptsSpec| written.use_as.shared_prefix.is_some();
    written.is_some_and(|written| {
        prefixed(written)
            || match &written.source.value {
                SourceSpec::Synthetic(_) | SourceSpec::Trace(_) => true,
                SourceSpec::File(file) => file_filter(file).counts_tokens(),
                SourceSpec::Sharegpt(conversations) => {
                    conversation_filter(conversations).counts_tokens()
                }
                SourceSpec::Conversations(conversations) => {
                    conversations::filter(conversations).counts_tokens()
                }
                SourceSpec::Inline(_) | SourceSpec::Categories(_) => false,
            }
    })
}

/// Loads a set and takes it apart if it is expanded; mistakes go to `found`.
pub(super) fn load(
    id: &str,
    spec: &ScenarioSpec,
    tokenizer: Option<Arc<Tokenizer>>,
    seed: u64,
    options: &PlanOptions,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Vec<LoadedSet> {
    let whole = |workload| LoadedSet {
        id: id.to_owned(),
        name: id.to_owned(),
        tokenizer: tokenizer.clone(),
        cache: PrefixCache::AsIs,
        workload,
    };
    let Some(written) = spec.prompts.as_ref().and_then(|prompts| prompts.get(id)) else {
        return load_source(&built_in(seed), None, options, found)
            .map(|workload| vec![whole(workload)])
            .unwrap_or_default();
    };
    check(written, found);
    let source = source(
        id,
        written,
        tokenizer.clone(),
        seed,
        options,
        sources,
        found,
    );
    let later = source.is_none() && !found.iter().any(|found| found.severity == Severity::Error);
    let loaded = match &source {
        Some(source) => load_source(source, Some(place(written)), options, found),
        // What is not at hand in a check is stood in for.
        None if later => load_source(&built_in(seed), None, options, found),
        None => None,
    };
    let behind_prefixes = |workload: Arc<Workload>| {
        let shape = written.use_as.shared_prefix.as_ref().map(shared_prefix);
        let led = shape
            .zip(source.as_ref())
            .and_then(|(shape, source)| workload.sharing(shape, source));
        led.map_or(workload, Arc::new)
    };
    let Some(workload) = loaded else {
        return Vec::new();
    };
    if written.use_as.expand.as_ref().map(|expand| expand.value) != Some(Expand::Category) {
        return vec![whole(behind_prefixes(workload))];
    }
    workload
        .categories()
        .iter()
        .filter_map(|category| {
            Some(LoadedSet {
                id: id.to_owned(),
                name: format!("{id}-{category}"),
                tokenizer: tokenizer.clone(),
                cache: PrefixCache::AsIs,
                workload: behind_prefixes(Arc::new(workload.expand(category)?)),
            })
        })
        .collect()
}

fn built_in(seed: u64) -> PromptSource {
    PromptSource {
        id: BUILT_IN.to_owned(),
        from: Source::ShareGpt {
            path: None,
            filter: Filter::SHAREGPT,
        },
        limit: None,
        seed,
        shuffle: true,
        category: None,
        tokenizer: None,
    }
}

fn load_source(
    source: &PromptSource,
    place: Option<Span>,
    options: &PlanOptions,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<Workload>> {
    let loaded = match options.library.prepared() {
        Some(kept) => Workload::load_kept(source, &kept),
        None => Workload::load(source),
    };
    match loaded {
        Ok(workload) => Some(Arc::new(workload)),
        Err(error) => {
            let diagnostic = Diagnostic::error("S058", error.to_string());
            found.push(match place {
                Some(span) => diagnostic
                    .at(span, "")
                    .help("paths start at the folder of the file that names them"),
                None => diagnostic,
            });
            None
        }
    }
}

/// Where the prompts come from, as written: the path, or the source.
pub(super) fn place(written: &PromptsSpec) -> Span {
    match &written.source.value {
        SourceSpec::File(file) => file.path.span,
        SourceSpec::Trace(trace) => trace.path.span,
        SourceSpec::Categories(categories) => categories.path.span,
        SourceSpec::Sharegpt(conversations) => conversations
            .path
            .as_ref()
            .map_or(written.source.span, |path| path.span),
        SourceSpec::Conversations(conversations) => conversations.path.span,
        SourceSpec::Inline(_) | SourceSpec::Synthetic(_) => written.source.span,
    }
}

fn source(
    id: &str,
    written: &PromptsSpec,
    tokenizer: Option<Arc<Tokenizer>>,
    seed: u64,
    options: &PlanOptions,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Option<PromptSource> {
    let absolute = |path: &Spanned<PathBuf>| absolute(path, sources);
    let use_as = &written.use_as;
    let from = match &written.source.value {
        SourceSpec::Inline(inline) => Source::Inline(
            inline
                .prompts
                .iter()
                .map(|prompt| InlinePrompt {
                    text: prompt.prompt.value.clone(),
                    category: prompt
                        .category
                        .as_ref()
                        .map(|category| category.value.clone()),
                })
                .collect(),
        ),
        SourceSpec::File(file) => Source::File {
            path: located(&file.path, file.sha256.as_ref(), options, sources, found)?,
            fields: Fields {
                template: file.template.as_ref().map(|text| text.value.clone()),
                ..file.fields.as_ref().map(fields).unwrap_or_default()
            },
            filter: file_filter(file),
        },
        SourceSpec::Sharegpt(conversations) => Source::ShareGpt {
            path: match &conversations.path {
                Some(path) => {
                    let sha256 = conversations.sha256.as_ref();
                    Some(located(path, sha256, options, sources, found)?)
                }
                None => None,
            },
            filter: conversation_filter(conversations),
        },
        SourceSpec::Conversations(written) => {
            let sha256 = written.sha256.as_ref();
            let path = located(&written.path, sha256, options, sources, found)?;
            conversations::source(written, path)
        }
        SourceSpec::Categories(categories) => Source::Categories {
            path: absolute(&categories.path),
            only: categories
                .categories
                .iter()
                .flatten()
                .map(|category| category.value.clone())
                .collect(),
        },
        SourceSpec::Synthetic(synthetic) => Source::Synthetic {
            input_tokens: lengths(&synthetic.input_tokens, sources, found)?,
            output_tokens: match &use_as.output_tokens {
                Some(_) if options.smoke => Some(LengthDistribution::Fixed(SMOKE_TOKENS)),
                Some(tokens) => Some(lengths(tokens, sources, found)?),
                None => None,
            },
            shared_prefix: use_as.shared_prefix.as_ref().map(shared_prefix),
        },
        SourceSpec::Trace(trace) => Source::Trace(trace_file(trace, absolute(&trace.path))),
    };
    Some(PromptSource {
        id: id.to_owned(),
        from,
        category: use_as
            .category
            .as_ref()
            .map(|category| category.value.clone()),
        tokenizer,
        limit: use_as.limit.as_ref().map(|limit| limit.value),
        seed: use_as.seed.as_ref().map_or(seed, |seed| seed.value),
        shuffle: use_as
            .order
            .as_ref()
            .is_none_or(|order| order.value == PromptOrder::Shuffle),
    })
}

fn file_filter(written: &FileSource) -> Filter {
    Filter {
        min_chars: Some(
            written
                .min_chars
                .as_ref()
                .map_or(1, |least| least.value as usize),
        ),
        max_chars: written.max_chars.as_ref().map(|most| most.value as usize),
        min_tokens: written.min_input_tokens.as_ref().map(|least| least.value),
        max_tokens: written.max_input_tokens.as_ref().map(|most| most.value),
        matches: written.matches.as_ref().map(|text| text.value.clone()),
    }
}

fn conversation_filter(written: &SharegptSource) -> Filter {
    let length = |bound: &Option<Spanned<u32>>| bound.as_ref().map(|bound| bound.value as usize);
    Filter {
        min_chars: length(&written.min_chars).or(Filter::SHAREGPT.min_chars),
        max_chars: length(&written.max_chars).or(Filter::SHAREGPT.max_chars),
        min_tokens: written.min_input_tokens.as_ref().map(|least| least.value),
        max_tokens: written.max_input_tokens.as_ref().map(|most| most.value),
        matches: written.matches.as_ref().map(|text| text.value.clone()),
    }
}

/// The file that a path names: beside the scenario, on a hub, or behind a URL; what is elsewhere is fetched once.
fn located(
    path: &Spanned<PathBuf>,
    sha256: Option<&Spanned<String>>,
    options: &PlanOptions,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Option<PathBuf> {
    let written = path.value.to_str().unwrap_or_default();
    let sha256 = sha256.map(|sha256| sha256.value.as_str());
    let (at, is_elsewhere) = (path.span, written.contains("://"));
    let located = if is_elsewhere {
        options.library.fetched(written, sha256)
    } else {
        let file = absolute(path, sources);
        let whole = sha256.map_or(Ok(()), |sha256| options.library.verify(&file, sha256));
        whole.map(|()| file)
    };
    located
        .map_err(|error| {
            found.push(match error {
                WorkloadError::Address { message, help } => {
                    Diagnostic::error("S155", message).at(at, "").help(help)
                }
                WorkloadError::NotCached { .. } if options.dry => {
                    let message = format!("{error}: its prompts are not looked at");
                    Diagnostic::warning("L151", message).at(at, "")
                }
                error => Diagnostic::error("S155", error.to_string()).at(at, ""),
            });
        })
        .ok()
}

fn fields(written: &crate::spec::FieldsSpec) -> Fields {
    let text = |field: &Option<Spanned<String>>| field.as_ref().map(|field| field.value.clone());
    Fields {
        prompt: text(&written.prompt),
        id: text(&written.id),
        category: text(&written.category),
        image: text(&written.image),
        max_tokens: text(&written.max_tokens),
        min_tokens: text(&written.min_tokens),
        ignore_eos: text(&written.ignore_eos),
        ..Fields::default()
    }
}

fn absolute(path: &Spanned<PathBuf>, sources: &Sources) -> PathBuf {
    sources.directory(path.span.source).join(&path.value)
}

fn trace_file(written: &TraceSource, path: PathBuf) -> TraceFile {
    let named = |text: Option<&Spanned<String>>, usual: &str| {
        text.map_or(usual.to_owned(), |text| text.value.clone())
    };
    let fields = written.fields.as_ref();
    let own = || TraceFields {
        time: named(fields.and_then(|fields| fields.time.as_ref()), "timestamp"),
        unit: match fields
            .and_then(|fields| fields.unit.as_ref())
            .map(|unit| unit.value)
        {
            Some(TraceUnit::Milliseconds) => TimeUnit::Milliseconds,
            Some(TraceUnit::Seconds) | None => TimeUnit::Seconds,
        },
        input_tokens: named(
            fields.and_then(|fields| fields.input_tokens.as_ref()),
            "input_tokens",
        ),
        output_tokens: named(
            fields.and_then(|fields| fields.output_tokens.as_ref()),
            "output_tokens",
        ),
        hash_ids: Some(named(
            fields.and_then(|fields| fields.hash_ids.as_ref()),
            "hash_ids",
        )),
    };
    let (shape, fields) = match written.format.value {
        TraceFormat::Mooncake => (TraceShape::Lines, TraceFields::mooncake()),
        TraceFormat::Azure => (TraceShape::Table, TraceFields::azure()),
        TraceFormat::Burstgpt => (TraceShape::Table, TraceFields::burstgpt()),
        TraceFormat::Jsonl => (TraceShape::Lines, own()),
        TraceFormat::Csv => (TraceShape::Table, own()),
    };
    TraceFile {
        path,
        shape,
        fields,
        block_tokens: written
            .block_tokens
            .as_ref()
            .map_or(512, |tokens| tokens.value),
    }
}

fn shared_prefix(written: &SharedPrefixSpec) -> SharedPrefix {
    let distribution = written.distribution.as_ref().map(|spread| spread.value);
    SharedPrefix {
        tokens: written.tokens.value,
        groups: written.groups.as_ref().map_or(1, |groups| groups.value),
        distribution: match distribution {
            Some(PrefixDistribution::Zipf) => PrefixGroups::Zipf,
            Some(PrefixDistribution::Uniform) | None => PrefixGroups::Uniform,
        },
    }
}

/// The distribution as written; a histogram that cannot be read goes to `found`.
fn lengths(
    written: &LengthSpec,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Option<LengthDistribution> {
    Some(match written {
        LengthSpec::Simple(simple) => simple_lengths(simple),
        LengthSpec::Zipf(zipf) => LengthDistribution::Zipf {
            exponent: zipf
                .exponent
                .as_ref()
                .map_or(1.0, |exponent| exponent.value),
            min: zipf.min.as_ref().map_or(1, |min| min.value.max(1)),
            max: zipf.max.value,
        },
        LengthSpec::Histogram(path) => match Histogram::read(&absolute(path, sources)) {
            Ok(histogram) => LengthDistribution::Histogram(histogram),
            Err(error) => {
                found.push(Diagnostic::error("S058", error.to_string()).at(path.span, ""));
                return None;
            }
        },
        LengthSpec::Mixture(parts) => {
            let parts: Option<Vec<_>> = parts
                .iter()
                .map(|part| Some((part.weight.value, lengths(&part.tokens, sources, found)?)))
                .collect();
            LengthDistribution::Mixture(parts?.into())
        }
    })
}

fn simple_lengths(written: &DistributionSpec<u32>) -> LengthDistribution {
    let bounds = |min: &Option<Spanned<u32>>, max: &Option<Spanned<u32>>| {
        (
            min.as_ref().map_or(1, |min| min.value),
            max.as_ref().map_or(u32::MAX, |max| max.value),
        )
    };
    match written {
        DistributionSpec::Fixed(tokens) => LengthDistribution::Fixed(tokens.value),
        DistributionSpec::Uniform(low, high) => LengthDistribution::Uniform(low.value, high.value),
        DistributionSpec::Normal(normal) => {
            let (min, max) = bounds(&normal.min, &normal.max);
            LengthDistribution::Normal {
                mean: f64::from(normal.mean.value),
                stddev: f64::from(normal.stddev.value),
                min,
                max,
            }
        }
        DistributionSpec::Lognormal(lognormal) => {
            let (min, max) = bounds(&lognormal.min, &lognormal.max);
            LengthDistribution::Lognormal {
                median: f64::from(lognormal.median.value),
                p95: f64::from(lognormal.p95.value),
                min,
                max,
            }
        }
        DistributionSpec::Exponential(mean) => {
            LengthDistribution::Exponential(f64::from(mean.value))
        }
    }
}

/// An answer length that is the same for every prompt of a set.
pub(super) fn fix_length(written: &PromptsSpec, parameters: &mut RequestParameters) {
    if let Some(LengthSpec::Simple(DistributionSpec::Fixed(tokens))) = &written.use_as.output_tokens
    {
        parameters.max_tokens = tokens.value;
        parameters.min_tokens = Some(tokens.value);
        parameters.ignore_eos = true;
    }
}

/// What this version knows of and cannot do with a set.
fn check(written: &PromptsSpec, found: &mut Vec<Diagnostic>) {
    let use_as = &written.use_as;
    let synthetic = matches!(written.source.value, SourceSpec::Synthetic(_));
    let varies = !matches!(
        use_as.output_tokens,
        None | Some(LengthSpec::Simple(DistributionSpec::Fixed(_)))
    );
    if varies && !synthetic {
        found.push(
            Diagnostic::error("S066", "answer lengths can vary only on synthetic prompts")
                .at(written.source.span, "")
                .help("write one number, or give each prompt of the file its own `max_tokens` and `min_tokens`"),
        );
    }
    let trace = matches!(written.source.value, SourceSpec::Trace(_));
    if let (Some(prefix), true) = (&use_as.shared_prefix, trace) {
        found.push(
            Diagnostic::error(
                "S062",
                "the requests of a trace share what it says they share",
            )
            .at(prefix.tokens.span, "")
            .help("leave `shared_prefix` out: equal `hash_ids` are equal text"),
        );
    }
    for lengths in [use_as.output_tokens.as_ref(), input_lengths(written)]
        .into_iter()
        .flatten()
    {
        check_lengths(lengths, found);
    }
}

/// What is wrong with a distribution that only its numbers tell.
fn check_lengths(written: &LengthSpec, found: &mut Vec<Diagnostic>) {
    let wrong = |message: &str, span: Span, found: &mut Vec<Diagnostic>| {
        found.push(Diagnostic::error("S150", message).at(span, ""));
    };
    match written {
        LengthSpec::Simple(_) | LengthSpec::Histogram(_) => {}
        LengthSpec::Zipf(zipf) => {
            let least = zipf.min.as_ref().map_or(1, |min| min.value);
            if zipf.max.value < least {
                wrong(
                    "the greatest length is below the least",
                    zipf.max.span,
                    found,
                );
            }
            if let Some(exponent) = &zipf.exponent
                && !(0.0..=20.0).contains(&exponent.value)
            {
                wrong("the exponent lies between 0 and 20", exponent.span, found);
            }
        }
        LengthSpec::Mixture(parts) => {
            for part in parts {
                let weight = part.weight.value;
                if !(weight.is_finite() && weight > 0.0) {
                    wrong("the weight of a part is above 0", part.weight.span, found);
                }
                check_lengths(&part.tokens, found);
            }
        }
    }
}

fn input_lengths(written: &PromptsSpec) -> Option<&LengthSpec> {
    match &written.source.value {
        SourceSpec::Synthetic(synthetic) => Some(&synthetic.input_tokens),
        _ => None,
    }
}
