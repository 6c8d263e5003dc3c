//! What becomes of a name in a scenario when the thing that it names is taken apart into several.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::spec::{
    CombinationSpec, Condition, Dimension, Entry, Id, OneOrMany, ScenarioSpec, WhereSpec,
};

/// The names that things of one kind have become.
pub(super) struct Renamed {
    kind: Dimension,
    names: Vec<(String, Vec<Id>)>,
}

impl Renamed {
    /// Nothing yet; `kind` is the dimension that the things are of: backends or prompt sets.
    pub(super) fn new(kind: Dimension) -> Renamed {
        Renamed {
            kind,
            names: Vec::new(),
        }
    }

    /// A thing has become these.
    pub(super) fn became<T>(&mut self, thing: &Entry<T>, apart: &[Entry<T>]) {
        let ids = apart.iter().map(|entry| entry.key.value.clone()).collect();
        self.names.push((thing.key.value.to_string(), ids));
    }

    /// Whether each of these has a name of its own, as ids must; where two have not, that is told at `place`.
    pub(super) fn are_distinct<T>(
        &self,
        things: &[Entry<T>],
        code: &'static str,
        place: Span,
        found: &mut Vec<Diagnostic>,
    ) -> bool {
        let what = match self.kind {
            Dimension::Prompts => "prompt sets",
            _ => "backends",
        };
        let mut names = HashSet::new();
        let twice = things
            .iter()
            .filter(|thing| !names.insert(&*thing.key.value));
        let before = found.len();
        found.extend(twice.map(|thing| {
            let message = format!("two {what} are called `{}`", thing.key.value);
            Diagnostic::error(code, message)
                .at(place, "")
                .also(thing.key.span, "the second one")
                .help("write each value once, and call nothing else as one that is made of them; shares are told apart to a tenth of a percent")
        }));
        found.len() == before
    }

    /// Whether nothing was taken apart.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What a name stands for now; `None`: for itself.
    pub(super) fn of(&self, name: &str) -> Option<&[Id]> {
        let mut known = self.names.iter();
        known
            .find(|(own, _)| own == name)
            .map(|(_, ids)| ids.as_slice())
    }
}

/// Whatever names such a thing in the matrix, in a `where` or for goodput names all that it has become.
pub(super) fn rename(spec: &mut ScenarioSpec, renamed: &Renamed) {
    if let Some(matrix) = &mut spec.matrix {
        let chosen = match renamed.kind {
            Dimension::Prompts => &mut matrix.prompts,
            _ => &mut matrix.backend,
        };
        if let Some(OneOrMany(chosen)) = chosen {
            *chosen = chosen.iter().flat_map(|id| each(id, renamed)).collect();
        }
        for combinations in [&mut matrix.include, &mut matrix.exclude] {
            for all in combinations.iter_mut() {
                *all = all.iter().flat_map(|one| apart(one, renamed)).collect();
            }
        }
    }
    let slos = spec.slos.iter_mut().flat_map(|slos| &mut slos.0);
    for slo in slos {
        let narrower = slo.value.overrides.iter_mut().flatten();
        let scopes = slo.value.scope.iter_mut();
        for scope in scopes.chain(narrower.map(|narrower| &mut narrower.scope)) {
            widen(scope, renamed);
        }
    }
    let rules = spec
        .goodput
        .iter_mut()
        .flat_map(|goodput| &mut goodput.rules);
    for scope in rules.filter_map(|rule| rule.scope.as_mut()) {
        widen(scope, renamed);
    }
}

fn each(id: &Spanned<Id>, renamed: &Renamed) -> Vec<Spanned<Id>> {
    match renamed.of(&id.value) {
        None => vec![id.clone()],
        Some(ids) => ids
            .iter()
            .map(|own| Spanned::new(own.clone(), id.span))
            .collect(),
    }
}

fn apart(one: &Spanned<CombinationSpec>, renamed: &Renamed) -> Vec<Spanned<CombinationSpec>> {
    let named = |combination: &CombinationSpec| match renamed.kind {
        Dimension::Prompts => combination.prompts.clone(),
        _ => combination.backend.clone(),
    };
    let Some(id) = named(&one.value) else {
        return vec![one.clone()];
    };
    let with = |id: Spanned<Id>| {
        let mut one = one.clone();
        match renamed.kind {
            Dimension::Prompts => one.value.prompts = Some(id),
            _ => one.value.backend = Some(id),
        }
        one
    };
    each(&id, renamed).into_iter().map(with).collect()
}

/// A clause that holds for a thing holds for all that it has become.
fn widen(scope: &mut WhereSpec, renamed: &Renamed) {
    for clause in &mut scope.clauses {
        let Condition::OneOf(names) = &mut clause.condition.value else {
            continue;
        };
        if clause.dimension.value == renamed.kind {
            *names = names
                .iter()
                .flat_map(|name| match renamed.of(&name.value) {
                    None => vec![name.clone()],
                    Some(ids) => ids
                        .iter()
                        .map(|id| Spanned::new(id.to_string(), name.span))
                        .collect(),
                })
                .collect();
        }
    }
}
