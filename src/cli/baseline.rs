//! `scenario baseline`, and the baseline that a scenario names.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use super::args::{BaselineAction, BaselineArgs};
use super::console::Console;
use super::exit::Exit;
use super::saved;
use crate::plan::{Absence, Plan};
use crate::report::model::{Cell, Engine, StageNumbers, Status};
use crate::report::{Report, View, terminal};
use crate::verdict::{Baseline, BaselineStage};

pub(super) fn baseline(args: &BaselineArgs, console: &Console) -> anyhow::Result<Exit> {
    match &args.action {
        BaselineAction::Save {
            results,
            file,
            force,
        } => {
            let report = saved::read(results)?.report;
            fit_to_keep(&report)?;
            if file.exists() && !force {
                bail!("`{}` is there already; --force replaces it", file.display());
            }
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
            }
            let mut text = serde_json::to_string_pretty(&report)?;
            text.push('\n');
            std::fs::write(file, text)
                .with_context(|| format!("cannot write `{}`", file.display()))?;
            let label = if report.simulated { " (simulated)" } else { "" };
            console.data(&format!(
                "wrote {0}{label}\nin the scenario: baseline: {{ file: {0} }}",
                file.display()
            ));
            if report.status == Status::Failed {
                console.talk(
                    "warning: this run has failed: later runs are held to what was not good enough",
                );
            }
        }
        BaselineAction::Show { file } => {
            let report = saved::report(file)?;
            console.data(&terminal::render(
                &report,
                &View {
                    width: console.width(),
                    ..View::default()
                },
            ));
            console.data("\nused only where these are the same:");
            for cell in &report.cells {
                let engine = report.environment.engines.iter();
                let engine = engine.filter(|engine| engine.backend == cell.backend);
                let engine = engine.map(|engine| {
                    let version = engine.version.as_deref().unwrap_or("version not told");
                    let gpus = gpus(&report, Some(engine));
                    let gpus = if gpus.is_empty() {
                        "not watched".to_owned()
                    } else {
                        gpus.join(", ")
                    };
                    format!("{} {version}, GPU {gpus}", engine.kind)
                });
                console.data(&format!(
                    "  {}: load {}, model {}, engine {}",
                    cell.id,
                    cell.digest,
                    asked(cell).as_deref().unwrap_or(&cell.model),
                    engine.collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }
    Ok(Exit::Passed)
}

/// A baseline is what later runs are held to, so it has to be a whole run.
fn fit_to_keep(report: &Report) -> anyhow::Result<()> {
    if report.smoke {
        bail!(
            "this run was shortened by --smoke: it shows that a scenario works, and is no baseline"
        );
    }
    if report.status == Status::Interrupted {
        bail!("this run was interrupted, and is no baseline");
    }
    let stages = report.cells.iter().flat_map(|cell| &cell.stages);
    let answered = stages
        .filter(|stage| stage.measured)
        .any(|stage| stage.numbers.as_ref().is_some_and(|numbers| numbers.ok > 0));
    if !answered {
        bail!("no request of this run was answered: it is no baseline");
    }
    Ok(())
}

/// The baseline that a plan names. What cannot be read is told in the verdicts that need it.
pub(super) fn of(plan: &Plan) -> Option<Baseline> {
    let named = plan.baseline.as_ref()?;
    // Nobody reads a warning of a job.
    let by_default = if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        Absence::Fail
    } else {
        Absence::Warn
    };
    let (stages, absent) = match saved::report(&named.file) {
        Ok(report) => (stages(&report), None),
        Err(error) => (BTreeMap::new(), Some(format!("{error:#}"))),
    };
    Some(Baseline {
        absent,
        stages,
        missing: named.missing.unwrap_or(by_default),
        mismatch: named.mismatch.unwrap_or(by_default),
        must_match: named.must_match.clone(),
    })
}

fn stages(report: &Report) -> BTreeMap<(String, String), BaselineStage> {
    let mut stages = BTreeMap::new();
    for cell in &report.cells {
        let engine = report
            .environment
            .engines
            .iter()
            .find(|engine| engine.backend == cell.backend);
        for stage in cell.stages.iter().filter(|stage| stage.measured) {
            let repeats = stage.repeats.iter();
            stages.insert(
                (cell.id.clone(), stage.name.clone()),
                BaselineStage {
                    digest: cell.digest.clone(),
                    model: cell.model.clone(),
                    asked: asked(cell),
                    gpus: gpus(report, engine),
                    failed: (stage.numbers.as_ref())
                        .map_or((0, 0), |numbers| (numbers.failed, numbers.planned)),
                    kind: engine.map_or(String::new(), |engine| engine.kind.clone()),
                    version: engine.and_then(|engine| engine.version.clone()),
                    simulated: engine.is_some_and(|engine| engine.simulated),
                    offline: engine.is_some_and(|engine| engine.api == "offline"),
                    values: stage.numbers.as_ref().map(values).unwrap_or_default(),
                    repeats: repeats.map(|repeat| values(&repeat.numbers)).collect(),
                },
            );
        }
    }
    stages
}

/// The name that a cell's model was asked for by.
fn asked(cell: &Cell) -> Option<String> {
    let model = cell.sent.as_ref()?.body.get("model")?;
    model.as_str().map(str::to_owned)
}

/// The names of an engine's GPUs. Early reports have those of all engines together: then only a single engine's are known.
fn gpus(report: &Report, engine: Option<&Engine>) -> Vec<String> {
    let environment = &report.environment;
    match engine {
        Some(engine) if engine.gpus.is_empty() && environment.engines.len() == 1 => environment
            .gpus
            .iter()
            .map(|gpu| gpu.name.clone())
            .collect(),
        Some(engine) => engine.gpus.clone(),
        None => Vec::new(),
    }
}

/// Statistics by their paths: `ttft.p95`.
fn values(numbers: &StageNumbers) -> BTreeMap<String, f64> {
    let metrics = numbers.metrics.iter();
    let values = metrics.flat_map(|(name, metric)| {
        let stats = metric.stats.iter();
        stats.map(move |(stat, value)| (format!("{name}.{stat}"), *value))
    });
    values.collect()
}
