//! Lengths of prompts and answers, and the share of a prompt that others begin with, as axes of the matrix: each synthetic set
//! becomes one for every combination of them, under a name of its own.

use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::spec::{
    Dimension, DistributionSpec, Entries, Entry, LengthSpec, MatrixSpec, PromptsSpec, ScenarioSpec,
    SharedPrefixSpec, SourceSpec,
};
use crate::units::Share;

use super::renamed::{Renamed, rename};

/// One combination of what a set is given in place of its own.
#[derive(Clone, Debug, Default)]
struct Point {
    input: Option<Spanned<u32>>,
    output: Option<Spanned<u32>>,
    prefix: Option<Spanned<Share>>,
}

/// The scenario with its synthetic sets taken apart; `None` where the matrix has no such axis, or a wrong one.
pub(super) fn taken_apart(
    spec: &ScenarioSpec,
    found: &mut Vec<Diagnostic>,
) -> Option<ScenarioSpec> {
    let matrix = spec.matrix.as_ref()?;
    let place = first_place(matrix)?;
    let points = points(matrix);
    let mut renamed = Renamed::new(Dimension::Prompts);
    let mut sets = Vec::new();
    for entry in spec.prompts.iter().flatten() {
        if !matches!(entry.value.source.value, SourceSpec::Synthetic(_)) {
            sets.push(entry.clone());
            continue;
        }
        let apart: Vec<_> = points
            .iter()
            .filter_map(|point| made(entry, point, found))
            .collect();
        renamed.became(entry, &apart);
        sets.extend(apart);
    }
    if renamed.is_empty() {
        found.push(
            Diagnostic::error(
                "S160",
                "lengths are an axis, and no prompt set is made by length",
            )
            .at(place, "")
            .help("give a set `source: synthetic`; the prompts of a file have the lengths that they have"),
        );
        return None;
    }
    if !renamed.are_distinct(&sets, "S160", place, found) {
        return None;
    }
    let mut spec = spec.clone();
    spec.prompts = Some(Entries(sets));
    rename(&mut spec, &renamed);
    Some(spec)
}

/// Where the first such axis is written.
fn first_place(matrix: &MatrixSpec) -> Option<Span> {
    let input = matrix.input_tokens.iter().flat_map(|axis| axis.iter());
    let output = matrix.output_tokens.iter().flat_map(|axis| axis.iter());
    let prefix = matrix.prefix_share.iter().flat_map(|axis| axis.iter());
    let lengths = input.chain(output).map(|tokens| tokens.span);
    lengths.chain(prefix.map(|share| share.span)).next()
}

/// Every combination, the last axis varying fastest.
fn points(matrix: &MatrixSpec) -> Vec<Point> {
    fn axis<T: Copy>(values: Option<&[Spanned<T>]>) -> Vec<Option<Spanned<T>>> {
        match values {
            None => vec![None],
            Some(values) => values.iter().map(|value| Some(value.clone())).collect(),
        }
    }
    let mut points = Vec::new();
    for input in axis(matrix.input_tokens.as_deref()) {
        for output in axis(matrix.output_tokens.as_deref()) {
            for prefix in axis(matrix.prefix_share.as_deref()) {
                points.push(Point {
                    input: input.clone(),
                    output: output.clone(),
                    prefix,
                });
            }
        }
    }
    points
}

/// The set with the lengths of this point, which win over its own.
fn made(
    entry: &Entry<PromptsSpec>,
    point: &Point,
    found: &mut Vec<Diagnostic>,
) -> Option<Entry<PromptsSpec>> {
    let fixed = |tokens: &Spanned<u32>| LengthSpec::Simple(DistributionSpec::Fixed(tokens.clone()));
    let mut entry = entry.clone();
    let mut more = String::new();
    let SourceSpec::Synthetic(synthetic) = &mut entry.value.source.value else {
        return None;
    };
    if let Some(input) = &point.input {
        synthetic.input_tokens = fixed(input);
        more.push_str(&format!("-input-{}", input.value));
    }
    let input = match &synthetic.input_tokens {
        LengthSpec::Simple(DistributionSpec::Fixed(tokens)) => Some(tokens.clone()),
        _ => None,
    };
    let use_as = &mut entry.value.use_as;
    if let Some(output) = &point.output {
        use_as.output_tokens = Some(fixed(output));
        more.push_str(&format!("-output-{}", output.value));
    }
    if let Some(share) = &point.prefix {
        let percent = share.value.fraction() * 100.0;
        more.push_str(&format!("-prefix-{}", (percent * 10.0).round() / 10.0));
        let tokens = prefix_of(share, input.as_ref(), found)?;
        use_as.shared_prefix = tokens.map(|tokens| {
            let own = use_as.shared_prefix.take();
            let (groups, distribution) =
                own.map_or((None, None), |own| (own.groups, own.distribution));
            SharedPrefixSpec {
                tokens: Spanned::new(tokens, share.span),
                groups,
                distribution,
            }
        });
    }
    let prefix = use_as.shared_prefix.as_ref().map(|prefix| &prefix.tokens);
    if let (Some(input), Some(prefix)) = (&input, prefix)
        && prefix.value >= input.value
    {
        found.push(
            Diagnostic::error(
                "S160",
                format!(
                    "a prompt of {} tokens cannot begin with a prefix of {}",
                    input.value, prefix.value
                ),
            )
            .at(input.span, "")
            .also(prefix.span, "the prefix"),
        );
        return None;
    }
    entry.key.value = entry.key.value.with(&more);
    Some(entry)
}

/// The tokens that are this share of a prompt, `None` inside where there are none; nothing where that cannot be said.
fn prefix_of(
    share: &Spanned<Share>,
    input: Option<&Spanned<u32>>,
    found: &mut Vec<Diagnostic>,
) -> Option<Option<u32>> {
    let mut wrong = |message: &str, help: &str| {
        found.push(
            Diagnostic::error("S160", message)
                .at(share.span, "")
                .help(help),
        );
        None
    };
    let Some(input) = input else {
        return wrong(
            "a share of prompts of different lengths is no length",
            "give `input_tokens` as one number, in the set or as an axis",
        );
    };
    if share.value.fraction() >= 1.0 {
        return wrong(
            "a prompt has something of its own behind the prefix",
            "ask for less than 100 %",
        );
    }
    let tokens = (f64::from(input.value) * share.value.fraction()).round() as u32;
    Some(Some(tokens.min(input.value.saturating_sub(1))).filter(|&tokens| tokens > 0))
}
