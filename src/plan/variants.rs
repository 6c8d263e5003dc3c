//! Engine arguments as an axis of the matrix: each launched backend becomes one for every combination of them, under a name of its
//! own, so that everything that is said of backends can be said of them.

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::spec::{
    ArgsSpec, BackendKind, BackendSpec, Dimension, Entries, Entry, JsonMap, ScenarioSpec,
};

use super::renamed::{Renamed, rename};

/// One combination of arguments.
type Variant = Vec<(String, Value)>;

/// The scenario with its launched backends taken apart; `None` where the matrix has no such axis, or a wrong one.
pub(super) fn taken_apart(
    spec: &ScenarioSpec,
    found: &mut Vec<Diagnostic>,
) -> Option<ScenarioSpec> {
    let axes = spec.matrix.as_ref()?.args.as_ref()?;
    let variants = variants(&axes.value);
    let mut renamed = Renamed::new(Dimension::Backend);
    let mut backends = Vec::new();
    for entry in spec.backends.iter() {
        if entry.value.launch.is_none() {
            backends.push(entry.clone());
            continue;
        }
        let apart: Vec<_> = variants
            .iter()
            .filter_map(|variant| told(entry, variant, axes.span, found))
            .collect();
        renamed.became(entry, &apart);
        backends.extend(apart);
    }
    if renamed.is_empty() {
        found.push(
            Diagnostic::error(
                "S159",
                "`args` changes no engine: none of the backends is launched",
            )
            .at(axes.span, "")
            .help("have one started by `launch`, or name one backend for each engine that runs"),
        );
        return None;
    }
    if !renamed.are_distinct(&backends, "S159", axes.span, found) {
        return None;
    }
    let mut spec = spec.clone();
    spec.backends = Entries(backends);
    retell(&mut spec, &renamed);
    rename(&mut spec, &renamed);
    Some(spec)
}

/// Every combination of the values of all arguments, the first one varying slowest.
fn variants(axes: &JsonMap) -> Vec<Variant> {
    let mut all: Vec<Variant> = vec![Vec::new()];
    for (name, values) in axes {
        let values = match values {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        all = all
            .iter()
            .flat_map(|before| {
                values.iter().map(move |value| {
                    let mut variant = before.clone();
                    variant.push((name.clone(), value.clone()));
                    variant
                })
            })
            .collect();
    }
    all
}

/// The backend with these arguments, which win over its own.
fn told(
    entry: &Entry<BackendSpec>,
    variant: &Variant,
    place: Span,
    found: &mut Vec<Diagnostic>,
) -> Option<Entry<BackendSpec>> {
    let mut entry = entry.clone();
    let launch = entry.value.launch.as_mut()?;
    let mut args = match launch.args.take() {
        Some(ArgsSpec::Named(args)) => args,
        None => JsonMap::new(),
        Some(ArgsSpec::Words(_)) => {
            found.push(
                Diagnostic::error(
                    "S159",
                    "`args` names arguments, and this backend lists words",
                )
                .at(entry.key.span, "")
                .also(place, "the axis")
                .help("write its arguments by name: `args: { max-model-len: 4096 }`"),
            );
            return None;
        }
    };
    let mut more = String::new();
    for (name, value) in variant {
        let text = match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        more.push_str(&format!("-{}-{text}", name.trim_start_matches('-')));
        args.insert(name.clone(), value.clone());
    }
    launch.args = Some(ArgsSpec::Named(args));
    // An id that is a kind's name says what kind it is.
    let by_name = BackendKind::ALL
        .iter()
        .find(|kind| kind.name() == &*entry.key.value);
    let by_name = by_name.map(|kind| Spanned::new(*kind, entry.key.span));
    entry.value.kind = entry.value.kind.or(by_name);
    entry.key.value = entry.key.value.with(&more);
    Some(entry)
}

/// What a model says of a backend it says of all that it has become.
fn retell(spec: &mut ScenarioSpec, renamed: &Renamed) {
    for model in spec.models.iter_mut().flat_map(|models| &mut models.0) {
        if let Some(served) = &mut model.value.served_as {
            repeat(served, renamed);
        }
        let launch = model.value.launch.as_mut();
        if let Some(args) = launch.and_then(|launch| launch.args.as_mut()) {
            repeat(args, renamed);
        }
    }
}

/// Each entry of a renamed backend, once for all that it has become.
fn repeat<T: Clone>(entries: &mut Entries<T>, renamed: &Renamed) {
    let repeated = entries
        .0
        .iter()
        .flat_map(|entry| match renamed.of(&entry.key.value) {
            Some(ids) => ids
                .iter()
                .map(|id| Entry {
                    key: Spanned::new(id.clone(), entry.key.span),
                    value: entry.value.clone(),
                })
                .collect(),
            None => vec![entry.clone()],
        });
    entries.0 = repeated.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_vary_the_last_argument_first() {
        let axes =
            serde_json::json!({ "max-num-seqs": [8, 64], "flag": [true, false], "one": "x" });
        let told: Vec<String> = variants(axes.as_object().unwrap())
            .iter()
            .map(|variant| variant.iter().map(|(_, value)| value.to_string()).collect())
            .collect();
        assert_eq!(
            told,
            ["8true\"x\"", "8false\"x\"", "64true\"x\"", "64false\"x\""]
        );
    }
}
