//! Where a run took place, against what, how it was asked, and whether that was alike: `environment.json` and its share of the
//! report.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::build::Inputs;
use super::model::{Comparison, Engine, Environment, External, FairnessFact, Gpu, Report, Sent};
use super::{View, json};
use crate::observation::CellResult;
use crate::plan::{self, HeaderValue, Launch};
use crate::verdict;

/// The name and version of the format of `environment.json`.
const SCHEMA: &str = "scenario.environment/v1";

/// `environment.json`: what somebody else needs to know to measure the same.
#[derive(Serialize)]
struct Facts<'a> {
    schema: &'a str,
    tool: &'a str,
    started: &'a str,
    command: &'a [String],
    scenario: &'a str,
    plan_digest: &'a str,
    seed: u64,
    #[serde(flatten)]
    environment: &'a Environment,
}

/// `environment.json`.
pub fn render(report: &Report, _view: &View) -> String {
    json::pretty(&Facts {
        schema: SCHEMA,
        tool: &report.tool,
        started: &report.started,
        command: &report.command,
        scenario: &report.scenario.path,
        plan_digest: &report.plan_digest,
        seed: report.seed,
        environment: &report.environment,
    })
}

/// Where the run took place and against what.
pub(super) fn of(inputs: &Inputs) -> Environment {
    Environment {
        engines: engines(inputs),
        gpus: gpus(inputs),
        ..inputs.environment.clone()
    }
}

/// Every GPU that was watched in some run, once.
fn gpus(inputs: &Inputs) -> Vec<Gpu> {
    let mut gpus = inputs.environment.gpus.clone();
    let watched = inputs
        .runs
        .iter()
        .filter_map(CellResult::observations)
        .flat_map(|seen| &seen.devices);
    for device in watched {
        let gpu = Gpu {
            index: device.index,
            name: device.name.clone(),
            memory_bytes: device.memory_bytes,
            driver: device.driver.clone(),
            cuda: device.cuda.clone(),
            simulated: device.simulated,
        };
        if !gpus.contains(&gpu) {
            gpus.push(gpu);
        }
    }
    gpus
}

fn engines(inputs: &Inputs) -> Vec<Engine> {
    let mut engines: Vec<Engine> = Vec::new();
    for cell in &inputs.plan.cells {
        if engines
            .iter()
            .any(|engine| engine.backend == cell.backend.id)
        {
            continue;
        }
        let mut every = (inputs.runs.iter().filter_map(CellResult::observations))
            .filter(|seen| inputs.plan.cells[seen.cell].backend.id == cell.backend.id);
        // A backend that is launched anew for each of its models has listed one at a time.
        let mut models: Vec<String> = Vec::new();
        for model in every.clone().flat_map(|seen| &seen.engine.models) {
            if !models.contains(model) {
                models.push(model.clone());
            }
        }
        let first = every.next();
        let facts = first.map(|seen| &seen.engine);
        let devices = first.map_or(&[][..], |seen| &seen.devices);
        let kind = cell.backend.kind;
        let launch = cell.backend.launch.as_ref();
        engines.push(Engine {
            backend: cell.backend.id.clone(),
            kind: kind.name().to_owned(),
            url: facts
                .map(|facts| facts.url.clone())
                .filter(|url| !url.is_empty())
                .or_else(|| cell.backend.url.clone()),
            version: facts.and_then(|facts| facts.version.clone()),
            models,
            api: cell.backend.api.name().to_owned(),
            context_length: facts.and_then(|facts| facts.context_length),
            proxy: facts.and_then(|facts| facts.proxy.clone()),
            arguments: launch
                .and_then(|launch| launch.offline.as_ref())
                .map(|offline| offline.args.clone()),
            variables: launch.map(variables).unwrap_or_default(),
            simulated: kind == plan::BackendKind::Simulator
                || facts.is_some_and(|facts| facts.simulated),
            gpus: devices.iter().map(|device| device.name.clone()).collect(),
            command: facts.and_then(|facts| facts.command.clone()),
            cold_start_s: facts
                .and_then(|facts| facts.cold_start)
                .map(|cold| (cold.as_secs_f64() * 1000.0).round() / 1000.0),
            log: facts.and_then(|facts| facts.log.clone()),
        });
    }
    engines
}

/// What an engine was started with in its environment; a secret is not told.
fn variables(launch: &Launch) -> BTreeMap<String, String> {
    let told = |value: &HeaderValue| match value {
        HeaderValue::Literal(text) => text.clone(),
        HeaderValue::Environment { name, .. } => format!("from ${name}"),
    };
    launch
        .env
        .iter()
        .map(|(name, value)| (name.clone(), told(value)))
        .collect()
}

/// What was alike between the backends of each comparison, and what was not.
pub(super) fn fairness(inputs: &Inputs) -> Vec<Comparison> {
    verdict::fairness(inputs.plan, inputs.runs)
        .into_iter()
        .map(|comparison| Comparison {
            cells: comparison
                .cells
                .iter()
                .map(|&cell| inputs.plan.cells[cell].id.clone())
                .collect(),
            facts: comparison
                .facts
                .into_iter()
                .map(|fact| FairnessFact {
                    what: fact.matter.name().to_owned(),
                    differs: fact.differs(),
                    values: fact.values,
                })
                .collect(),
        })
        .collect()
}

/// What the engines' own benchmarks say.
pub(super) fn external(inputs: &Inputs) -> Vec<External> {
    let seen = inputs.runs.iter().filter_map(CellResult::observations);
    seen.filter_map(|seen| seen.external.as_ref())
        .map(|series| External {
            backend: series.backend.clone(),
            model: series.model.clone(),
            format: series.format.to_owned(),
            command: series.command.clone(),
            values: series.values.iter().cloned().collect(),
            problem: series.problem.clone(),
            log: series.log.clone(),
            duration_s: series.duration.as_secs_f64(),
        })
        .collect()
}

/// The first measured request of a cell.
pub(super) fn sent(inputs: &Inputs, cell: usize) -> Option<Sent> {
    let mut seen = inputs.runs.iter().filter_map(CellResult::observations);
    let sent = seen.find(|seen| seen.cell == cell)?.sent.as_ref()?;
    Some(Sent {
        path: sent.path.clone(),
        body: shortened(serde_json::from_str(&sent.body).ok()?),
    })
}

/// Texts longer than this are shortened to it.
const TEXT: usize = 120;

/// A body whose parameters can be read: a prompt of a thousand words says nothing there.
fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if length <= TEXT {
                return Value::String(text);
            }
            let first: String = text.chars().take(TEXT).collect();
            Value::String(format!("{first}… ({length} characters)"))
        }
        Value::Array(items) => items.into_iter().map(shortened).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, shortened(value)))
            .collect(),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_texts_of_a_body_are_shortened() {
        let body = json!({ "messages": [{ "content": "ä".repeat(121) }], "max_tokens": 16 });
        let text = format!("{}… (121 characters)", "ä".repeat(120));
        assert_eq!(
            shortened(body),
            json!({ "messages": [{ "content": text }], "max_tokens": 16 })
        );
    }
}
