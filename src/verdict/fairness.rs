//! Whether backends that are compared were treated alike: what the plan knows, and what their runs have shown.

use super::measure::invalid;
use super::{State, Verdict};
use crate::observation::{CellResult, Observations, TokenSource};
use crate::plan::fairness::{compared, differ, listed};
use crate::plan::{Cell, Fairness, Matter, Plan, Scope};

/// The cells that differ in their backend alone, and what is alike between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Indices of the cells.
    pub cells: Vec<usize>,
    /// Each matter of which something is known.
    pub facts: Vec<Fact>,
}

/// What one matter is in each cell of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The matter.
    pub matter: Matter,
    /// What it is, in the order of the cells; `None` where nobody knows.
    pub values: Vec<Option<String>>,
}

impl Fact {
    /// Whether two of the cells are known to differ in it.
    pub fn differs(&self) -> bool {
        differ(self.values.iter())
    }
}

impl Comparison {
    /// Each matter in which the cells differ: `context length: 4096 (vllm), 8192 (sglang)`.
    pub fn differences(&self, plan: &Plan) -> Vec<String> {
        let backends = || {
            self.cells
                .iter()
                .map(|&cell| plan.cells[cell].backend.id.as_str())
        };
        self.facts
            .iter()
            .filter(|fact| fact.differs())
            .map(|fact| {
                let values: Vec<_> = backends().zip(fact.values.iter().cloned()).collect();
                format!("{}: {}", fact.matter.name(), listed(&values))
            })
            .collect()
    }
}

/// What is alike and what is not in each comparison of a plan; nothing where nobody wants to know.
pub fn fairness(plan: &Plan, results: &[CellResult]) -> Vec<Comparison> {
    if plan.fairness == Fairness::Off {
        return Vec::new();
    }
    let comparison = |cells: Vec<usize>| {
        let value = |matter: Matter, index: usize| {
            let runs = results
                .iter()
                .filter_map(CellResult::observations)
                .filter(|seen| seen.cell == index);
            seen(matter, &plan.cells[index], runs.collect())
        };
        let facts = Matter::ALL.into_iter().map(|matter| Fact {
            matter,
            values: cells.iter().map(|&cell| value(matter, cell)).collect(),
        });
        Comparison {
            facts: facts
                .filter(|fact| fact.values.iter().any(Option::is_some))
                .collect(),
            cells,
        }
    };
    compared(&plan.cells).into_iter().map(comparison).collect()
}

/// Where the scenario is strict about it: a verdict on each comparison. A difference says nothing against an engine, and makes
/// the comparison one of something else.
pub(super) fn verdicts(plan: &Plan, results: &[CellResult]) -> Vec<Verdict> {
    if plan.fairness != Fairness::Strict {
        return Vec::new();
    }
    let verdict = |comparison: Comparison| {
        let differences = comparison.differences(plan);
        let advice = "make them alike, or write `fairness: warn`";
        let scope = Scope {
            cells: comparison.cells,
            ..Scope::default()
        };
        let (state, advice) = match differences.as_slice() {
            [] => (State::Pass, None),
            some => (invalid(some.join("; ")), Some(advice.to_owned())),
        };
        Verdict {
            advice,
            ..Verdict::of_rule(GUARD, RULE, scope, state)
        }
    };
    fairness(plan, results).into_iter().map(verdict).collect()
}

/// The id of those verdicts.
pub(super) const GUARD: &str = "guard:fairness";
/// What they are about.
const RULE: &str = "backends that are compared are treated alike";

/// What a matter is in a cell, as its runs have shown it, else as it was planned.
fn seen(matter: Matter, cell: &Cell, runs: Vec<&Observations>) -> Option<String> {
    let planned = matter.planned(cell);
    let Some(first) = runs.first() else {
        return planned;
    };
    match matter {
        Matter::Engine => Some(
            if first.engine.simulated {
                "simulated"
            } else {
                "measured"
            }
            .to_owned(),
        ),
        Matter::Model => planned.or_else(|| match first.engine.models.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }),
        Matter::ContextLength => first
            .engine
            .context_length
            .map(|tokens| tokens.to_string())
            .or(planned),
        Matter::TokenSource => token_sources(&runs),
        Matter::CacheState => {
            let reset = runs
                .iter()
                .flat_map(|seen| &seen.events)
                .any(|event| event.kind == "cache_reset");
            let reset = if reset { ", reset between cells" } else { "" };
            planned.map(|planned| format!("{planned}{reset}"))
        }
        Matter::Gpu => {
            let mut names: Vec<String> = first
                .devices
                .iter()
                .map(|device| device.name.clone())
                .collect();
            names.sort_unstable();
            (!names.is_empty()).then(|| names.join(", "))
        }
        Matter::Dtype
        | Matter::Sampling
        | Matter::Prompts
        | Matter::ChatTemplate
        | Matter::Interface
        | Matter::Warmup => planned,
    }
}

/// Where the token counts of answered requests come from.
fn token_sources(runs: &[&Observations]) -> Option<String> {
    let mut sources: Vec<TokenSource> = runs
        .iter()
        .flat_map(|seen| &seen.records)
        .filter(|record| record.measured && !record.outcome.is_failure())
        .map(|record| record.tokens.source)
        .filter(|source| *source != TokenSource::Unknown)
        .collect();
    sources.sort_unstable();
    sources.dedup();
    let names: Vec<&str> = sources.into_iter().map(TokenSource::name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::EngineFacts;
    use crate::verdict::fixture::{closed_cell, on_backend, plan, ramp, seen as seen_for};
    use crate::verdict::{Status, judge, status};

    /// Two backends, of which the first has told these facts, and the second others.
    fn told(one: EngineFacts, other: EngineFacts, fairness: Fairness) -> (Plan, Vec<CellResult>) {
        let cells = ["vllm", "sglang"].map(|backend| on_backend(backend, closed_cell(1)));
        let plan = Plan {
            fairness,
            ..plan(cells.into(), &[])
        };
        let runs = [one, other].into_iter().enumerate().map(|(cell, engine)| {
            CellResult::Measured(std::sync::Arc::new(Observations {
                cell,
                engine,
                ..seen_for(ramp(100), 10)
            }))
        });
        let runs = runs.collect();
        (plan, runs)
    }

    fn context(tokens: u64) -> EngineFacts {
        EngineFacts {
            context_length: Some(tokens),
            ..EngineFacts::default()
        }
    }

    #[test]
    fn what_the_engines_say_of_themselves_is_compared() {
        let (plan, runs) = told(context(4096), context(8192), Fairness::Warn);
        let comparisons = fairness(&plan, &runs);
        assert_eq!(comparisons.len(), 1);
        assert_eq!(comparisons[0].cells, [0, 1]);
        assert_eq!(
            comparisons[0].differences(&plan),
            ["context length: 4096 (vllm), 8192 (sglang)"]
        );
        let tokens = comparisons[0]
            .facts
            .iter()
            .find(|fact| fact.matter == Matter::TokenSource);
        assert_eq!(tokens.unwrap().values[0].as_deref(), Some("usage"));
    }

    #[test]
    fn only_a_strict_comparison_has_a_verdict() {
        for (fairness, other, verdict) in [
            (Fairness::Strict, 8192, Some(false)),
            (Fairness::Strict, 4096, Some(true)),
            (Fairness::Warn, 8192, None),
            (Fairness::Off, 8192, None),
        ] {
            let (plan, runs) = told(context(4096), context(other), fairness);
            let verdicts = judge(&plan, &runs);
            let passes = verdicts
                .iter()
                .find(|verdict| verdict.id == GUARD)
                .map(|verdict| verdict.state == State::Pass);
            assert_eq!(passes, verdict, "{fairness:?} {other}");
            // Nothing is gated, and still a difference is no success.
            let expected = match verdict {
                Some(false) => Status::Inconclusive,
                _ => Status::Measured,
            };
            assert_eq!(status(&verdicts, &runs), expected, "{fairness:?} {other}");
        }
    }
}
