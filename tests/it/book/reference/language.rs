//! The language of SLOs and the diagnostics, from the registry, the parser and the tables of codes.

use scenario::assertion::{self, Better, Context, Dim, Kind, Percentile, dimension};
use scenario::diagnostic::Span;
use scenario::language;

use super::table;

/// A table of metrics for each kind.
pub(super) fn metrics() -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let members = assertion::metrics()
            .iter()
            .filter(|metric| metric.kind == kind);
        let rows: Vec<Vec<String>> = members
            .map(|metric| {
                let unit = if metric.share { "share" } else { metric.unit() };
                let better = match metric.better {
                    Better::Lower => "less",
                    Better::Higher => "more",
                    Better::Neither => "",
                };
                let mut about = metric.about.to_owned();
                if !metric.aliases.is_empty() {
                    about.push_str(&format!("\n*also:* {}", metric.aliases.join(", ")));
                }
                vec![
                    format!("`{}`", metric.name),
                    unit.to_owned(),
                    better.to_owned(),
                    about,
                ]
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "## {} {{#{}}}\n\nAggregates: {}.\n\n",
            titled(kind.name()),
            kind.name(),
            kind.legal()
        ));
        text.push_str(&table(&["metric", "unit", "better", "what it is"], rows));
        text.push('\n');
    }
    text
}

fn titled(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}

/// Which aggregates mean something on which kind of metric.
pub(super) fn aggregates() -> String {
    table(
        &["kind", "aggregates"],
        Kind::ALL.map(|kind| {
            vec![
                format!("[{0}](metrics.md#{0})", kind.name()),
                kind.legal().to_owned(),
            ]
        }),
    )
}

/// How many samples a percentile needs.
pub(super) fn samples() -> String {
    let rows = [50_000, 90_000, 95_000, 99_000, 99_900].map(|per_100k| {
        let percentile = Percentile::new(per_100k).unwrap();
        vec![
            percentile.to_string().to_uppercase(),
            percentile.fewest().to_string(),
            percentile.enough().to_string(),
        ]
    });
    table(&["percentile", "inconclusive below", "`thin` below"], rows)
}

/// The units, by what they measure.
pub(super) fn units() -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for unit in dimension::UNITS {
        let name = unit.dimension.name().to_owned();
        let written = format!("`{}`", unit.text);
        match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, units)) => units.push(written),
            None => rows.push((name, vec![written])),
        }
    }
    rows.push(("a share".to_owned(), vec!["`%`".to_owned()]));
    rows.push(("a difference of shares".to_owned(), vec!["`pp`".to_owned()]));
    table(
        &["of", "units"],
        rows.into_iter()
            .map(|(name, units)| vec![name, units.join(" ")]),
    )
}

/// The dimensions that braces and `where` know.
pub(super) fn dimensions() -> String {
    let names = Dim::NAMES.map(|name| format!("`{name}`"));
    format!("{}, and `tag.NAME`.\n", names.join(", "))
}

/// Ways to say the same, each read by the parser.
pub(super) fn normal_forms() -> String {
    let ids: Vec<(Dim, String)> = ["vllm", "sglang"]
        .map(|id| (Dim::Backend, id.to_owned()))
        .to_vec();
    let context = Context {
        ids: &ids,
        ..Context::default()
    };
    let rows = EXAMPLES.iter().map(|(text, meaning)| {
        let (parsed, problems) = assertion::parse(text, Span::default(), context);
        let parsed = parsed.unwrap_or_else(|| panic!("{text}: {problems:?}"));
        vec![
            format!("`{text}`"),
            format!("`{}`", parsed.normal()),
            (*meaning).to_owned(),
        ]
    });
    table(&["you write", "it is read as", "it says"], rows)
}

const EXAMPLES: &[(&str, &str)] = &[
    (
        "P95 TTFT < 500ms",
        "of all requests, 95 % had their first token within 500 ms",
    ),
    ("p95(ttft) < 500ms", "the same"),
    ("p(95, ttft) < 500ms", "the same, as in k6"),
    ("ttft.p95 < 500ms", "the same, as a path"),
    ("P95 time to first token under 0.5s", "the same, in words"),
    (
        "error rate < 1%",
        "fewer than one request in a hundred failed",
    ),
    (
        "output throughput at least 1200 tok/s",
        "tokens that arrived, per second",
    ),
    ("max gpu.memory_used < 78 GiB", "a gauge needs an aggregate"),
    (
        "sglang.output_tps >= 1.2 * vllm.output_tps",
        "two backends, paired by model, prompts, load and stage",
    ),
    ("P95 TTFT <= 110% of baseline", "against a saved run"),
    (
        "P95 TTFT <= baseline + max(10%, 20ms)",
        "a share of the baseline, but never less than 20 ms",
    ),
    (
        "mean gpu.power / output_tps < 0.9 J/tok",
        "units are computed with: watts by tokens a second are joules a token",
    ),
    (
        "P99 chunk gap{category=code} < 200ms",
        "only requests of a category",
    ),
];

/// Every code, with its line; then its page.
pub(super) fn diagnostics() -> String {
    let codes = language::codes();
    let rows = codes.iter().map(|(code, title)| {
        vec![
            format!("[{code}](#{})", code.to_lowercase()),
            (*title).to_owned(),
        ]
    });
    let mut text = table(&["code", "what it says"], rows);
    for (code, _) in &codes {
        let anchor = code.to_lowercase();
        text.push_str(&format!(
            "\n<a id=\"{anchor}\"></a>\n\n{{{{#include ../../diagnostics/{code}.md}}}}\n"
        ));
    }
    text
}
