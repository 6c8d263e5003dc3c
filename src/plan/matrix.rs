//! Which combinations run, and in which order.

use super::prompts::BUILT_IN;
use super::{Cell, CellRun};
use crate::diagnostic::{Diagnostic, Spanned, did_you_mean};
use crate::seed::Seed;
use crate::spec::{CombinationSpec, Id, OneOrMany, RunOrder, ScenarioSpec};

/// One combination of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Combination {
    pub(super) backend: String,
    pub(super) model: String,
    pub(super) prompts: String,
    pub(super) load: String,
}

impl Combination {
    fn parts(&self) -> [&str; 4] {
        [&self.backend, &self.model, &self.prompts, &self.load]
    }

    pub(super) fn id(&self) -> String {
        self.parts().join("/")
    }
}

/// What the registries define, in the order of the file.
struct Registries {
    backends: Vec<String>,
    models: Vec<String>,
    prompts: Vec<String>,
    loads: Vec<String>,
}

impl Registries {
    fn of(spec: &ScenarioSpec) -> Registries {
        fn owned<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
            names.map(str::to_owned).collect()
        }
        Registries {
            backends: owned(spec.backends.names()),
            models: spec
                .models
                .as_ref()
                .map_or(vec!["default".to_owned()], |models| owned(models.names())),
            prompts: spec
                .prompts
                .as_ref()
                .map_or(vec![BUILT_IN.to_owned()], |prompts| owned(prompts.names())),
            loads: owned(spec.load.names()),
        }
    }
}

/// The combinations of the matrix: everything times everything, or the lists; without what is excluded, with what is included.
pub(super) fn combinations(spec: &ScenarioSpec, found: &mut Vec<Diagnostic>) -> Vec<Combination> {
    let defined = Registries::of(spec);
    let matrix = spec.matrix.as_ref();
    let chosen = Registries {
        backends: choose(
            "backend",
            matrix.and_then(|m| m.backend.as_ref()),
            &defined.backends,
            found,
        ),
        models: choose(
            "model",
            matrix.and_then(|m| m.model.as_ref()),
            &defined.models,
            found,
        ),
        prompts: choose(
            "prompt set",
            matrix.and_then(|m| m.prompts.as_ref()),
            &defined.prompts,
            found,
        ),
        loads: choose(
            "load",
            matrix.and_then(|m| m.load.as_ref()),
            &defined.loads,
            found,
        ),
    };
    let mut combinations = product(&chosen);
    for exclude in matrix
        .and_then(|m| m.exclude.as_ref())
        .into_iter()
        .flatten()
    {
        check_combination(&exclude.value, &defined, found);
        let before = combinations.len();
        combinations.retain(|combination| !matches(&exclude.value, combination));
        let misspelt = found.iter().any(|diagnostic| diagnostic.code == "S045");
        if combinations.len() == before && !misspelt {
            found.push(
                Diagnostic::warning("L036", "this exclusion excludes nothing")
                    .at(exclude.span, "no combination of the matrix is like this"),
            );
        }
    }
    for include in matrix
        .and_then(|m| m.include.as_ref())
        .into_iter()
        .flatten()
    {
        check_combination(&include.value, &defined, found);
        for combination in product(&narrowed(&include.value, &chosen)) {
            if !combinations.contains(&combination) {
                combinations.push(combination);
            }
        }
    }
    // A name that is not there has been told, and leaves nothing to run.
    let told = found.iter().any(|diagnostic| diagnostic.code == "S045");
    if combinations.is_empty() && !told {
        let error = Diagnostic::error(
            "S046",
            "no combination of backend, model, prompts and load is left to run",
        );
        let place = matrix
            .and_then(|m| m.exclude.as_ref())
            .and_then(|list| list.first());
        found.push(match place {
            Some(exclude) => error.at(exclude.span, "everything is excluded"),
            None => error,
        });
    }
    combinations
}

fn choose(
    kind: &str,
    written: Option<&OneOrMany<Spanned<Id>>>,
    defined: &[String],
    found: &mut Vec<Diagnostic>,
) -> Vec<String> {
    let Some(written) = written else {
        return defined.to_vec();
    };
    let mut chosen: Vec<String> = Vec::new();
    for name in written.iter() {
        if is_defined(kind, name, defined, found) && !chosen.contains(&name.value.to_string()) {
            chosen.push(name.value.to_string());
        }
    }
    chosen
}

fn is_defined(
    kind: &str,
    name: &Spanned<Id>,
    defined: &[String],
    found: &mut Vec<Diagnostic>,
) -> bool {
    if defined.iter().any(|known| **known == *name.value) {
        return true;
    }
    let error =
        Diagnostic::error("S045", format!("there is no {kind} `{}`", name.value)).at(name.span, "");
    found.push(
        match did_you_mean(&name.value, defined.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help(format!("the scenario defines {}", list(defined))),
        },
    );
    false
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn check_combination(
    combination: &CombinationSpec,
    defined: &Registries,
    found: &mut Vec<Diagnostic>,
) {
    for (kind, name, names) in [
        ("backend", &combination.backend, &defined.backends),
        ("model", &combination.model, &defined.models),
        ("prompt set", &combination.prompts, &defined.prompts),
        ("load", &combination.load, &defined.loads),
    ] {
        if let Some(name) = name {
            is_defined(kind, name, names, found);
        }
    }
}

fn product(chosen: &Registries) -> Vec<Combination> {
    let mut combinations = Vec::new();
    for backend in &chosen.backends {
        for model in &chosen.models {
            for prompts in &chosen.prompts {
                for load in &chosen.loads {
                    combinations.push(Combination {
                        backend: backend.clone(),
                        model: model.clone(),
                        prompts: prompts.clone(),
                        load: load.clone(),
                    });
                }
            }
        }
    }
    combinations
}

/// The chosen names, each kind narrowed to what the combination says of it.
fn narrowed(combination: &CombinationSpec, chosen: &Registries) -> Registries {
    let narrow = |name: &Option<Spanned<Id>>, all: &[String]| match name {
        Some(name) => vec![name.value.to_string()],
        None => all.to_vec(),
    };
    Registries {
        backends: narrow(&combination.backend, &chosen.backends),
        models: narrow(&combination.model, &chosen.models),
        prompts: narrow(&combination.prompts, &chosen.prompts),
        loads: narrow(&combination.load, &chosen.loads),
    }
}

fn matches(pattern: &CombinationSpec, combination: &Combination) -> bool {
    let is = |name: &Option<Spanned<Id>>, part: &str| {
        name.as_ref().is_none_or(|name| &*name.value == part)
    };
    is(&pattern.backend, &combination.backend)
        && is(&pattern.model, &combination.model)
        && is(&pattern.prompts, &combination.prompts)
        && is(&pattern.load, &combination.load)
}

/// Which cells a selection leaves: for each kind of name in it, one of the names; several selections add up.
///
/// `vllm,code` is the code prompts on vLLM; `vllm,sglang` is everything on either. A pattern may be a whole cell id, and `*`
/// stands for any text.
pub(super) fn select(ids: &[[&str; 4]], only: &[String], found: &mut Vec<Diagnostic>) -> Vec<bool> {
    if only.is_empty() {
        return vec![true; ids.len()];
    }
    let mut selected = vec![false; ids.len()];
    for selection in only {
        let patterns: Vec<&str> = selection
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .collect();
        let kinds: Vec<Vec<&str>> = (0..4)
            .map(|kind| {
                let named = |pattern: &&&str| ids.iter().any(|id| glob(pattern, id[kind]));
                patterns.iter().filter(named).copied().collect()
            })
            .collect();
        for pattern in &patterns {
            let is_cell = ids.iter().any(|id| glob(pattern, &id.join("/")));
            if !is_cell && !kinds.iter().flatten().any(|known| known == pattern) {
                found.push(unknown_selection(pattern, ids));
            }
        }
        for (id, selected) in ids.iter().zip(&mut selected) {
            let whole = patterns
                .iter()
                .any(|pattern| pattern.contains('/') && glob(pattern, &id.join("/")));
            let named = kinds.iter().any(|patterns| !patterns.is_empty());
            let by_kind = named
                && (0..4).all(|kind| {
                    kinds[kind].is_empty()
                        || kinds[kind].iter().any(|pattern| glob(pattern, id[kind]))
                });
            *selected |= whole || by_kind;
        }
    }
    if !selected.contains(&true) && !found.iter().any(|diagnostic| diagnostic.code == "S061") {
        found.push(Diagnostic::error(
            "S061",
            format!("`--only {}` leaves no cell", only.join(" --only ")),
        ));
    }
    selected
}

fn unknown_selection(pattern: &str, ids: &[[&str; 4]]) -> Diagnostic {
    let mut names: Vec<&str> = ids.iter().flatten().copied().collect();
    names.sort_unstable();
    names.dedup();
    let error = Diagnostic::error("S061", format!("`--only {pattern}` matches no cell"));
    match did_you_mean(pattern, names.iter().copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(format!("cells are made of {}", names.join(", "))),
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| glob(after, &rest[at..]))
        }),
    }
}

/// The order in which cells run.
pub(super) fn order(cells: &[Cell], repeats: u32, order: RunOrder, seed: u64) -> Vec<CellRun> {
    match order {
        RunOrder::Listed => listed(cells, repeats),
        RunOrder::Rotate => rotated(cells, repeats),
        RunOrder::Shuffle => {
            let mut runs = listed(cells, repeats);
            Seed::new(seed).stream("order").rng().shuffle(&mut runs);
            runs
        }
    }
}

/// Matrix order, with all repeats of a backend together.
fn listed(cells: &[Cell], repeats: u32) -> Vec<CellRun> {
    let backends = distinct(cells.iter().map(|cell| cell.backend.id.as_str()));
    let mut runs = Vec::new();
    for backend in backends {
        for repeat in 0..repeats {
            let of_backend = (0..cells.len()).filter(|cell| cells[*cell].backend.id == backend);
            runs.extend(of_backend.map(|cell| CellRun { cell, repeat }));
        }
    }
    runs
}

/// In each repeat, each (model, prompts, load) over all its backends, beginning one backend further in each repeat.
fn rotated(cells: &[Cell], repeats: u32) -> Vec<CellRun> {
    let group = |cell: &Cell| format!("{}/{}/{}", cell.model.key, cell.prompts, cell.load);
    let keys: Vec<String> = cells.iter().map(group).collect();
    let mut runs = Vec::new();
    for repeat in 0..repeats {
        for key in distinct(keys.iter().map(String::as_str)) {
            let mut members: Vec<usize> =
                (0..cells.len()).filter(|cell| keys[*cell] == key).collect();
            let shift = repeat as usize % members.len();
            members.rotate_left(shift);
            runs.extend(members.into_iter().map(|cell| CellRun { cell, repeat }));
        }
    }
    runs
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [[&str; 4]; 4] = [
        ["vllm", "llama8b", "chat", "steady"],
        ["vllm", "llama8b", "code", "steady"],
        ["sglang", "llama8b", "chat", "steady"],
        ["sglang", "llama8b", "code", "steady"],
    ];

    fn selected(only: &str) -> Vec<bool> {
        let mut found = Vec::new();
        let selected = select(&CELLS, &[only.to_owned()], &mut found);
        assert!(found.is_empty(), "{found:?}");
        selected
    }

    #[test]
    fn a_selection_takes_one_name_of_each_kind_that_it_has() {
        assert_eq!(selected("vllm"), [true, true, false, false]);
        assert_eq!(selected("vllm,code,steady"), [false, true, false, false]);
        assert_eq!(selected("vllm,sglang"), [true; 4]);
        assert_eq!(selected("sg*,ch*"), [false, false, true, false]);
        assert_eq!(
            selected("vllm/llama8b/chat/steady"),
            [true, false, false, false]
        );
    }

    #[test]
    fn a_misspelt_selection_says_what_was_meant() {
        let mut found = Vec::new();
        select(&CELLS, &["vlm,code".to_owned()], &mut found);
        assert_eq!(found[0].code, "S061");
        assert_eq!(found[0].help, ["did you mean `vllm`?"]);
    }
}
