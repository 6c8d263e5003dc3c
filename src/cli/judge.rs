//! `scenario judge`: other SLOs on what a saved run has seen; nothing is sent.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::args::{FileOptions, InputOptions, JudgeArgs, SummaryMode};
use super::console::Console;
use super::exit::Exit;
use super::results::Results;
use super::saved::{self, Saved};
use super::{actions, baseline, file, run};
use crate::observation::CellResult;
use crate::plan::Plan;
use crate::report::kept::{self, Kept};
use crate::report::model::Status;
use crate::report::{Frame, Known, RunEnding, View, charts, model, older, terminal};

pub(super) fn judge(
    args: &JudgeArgs,
    command: &[String],
    console: &Console,
) -> anyhow::Result<Exit> {
    let saved = saved::read(&args.results)?;
    let options = as_it_ran(&saved.report, &args.inputs);
    let read = file::read(&args.file, &options, file::Aim::Look)?;
    let Some((plan, sources)) = read.told(console) else {
        return Ok(Exit::Usage);
    };
    let (results, others) = kept::fit(&plan, observations(&saved, console)?);
    same_stages(&plan, &saved.report)?;
    for other in others {
        console.talk(&format!("cell `{other}` is not in {}", plan.path));
    }
    if !results.iter().any(|result| result.observations().is_some()) {
        bail!(
            "no cell of {} was measured in `{}`",
            plan.path,
            saved.folder.display()
        );
    }
    let mut known = Known::against(baseline::of(&plan));
    let frame = Frame {
        plan: Arc::new(plan),
        sources: Arc::new(sources),
        environment: Arc::new(saved.report.environment.clone()),
        started: saved.report.started.as_str().into(),
        command: console.without_secrets(command).into(),
    };
    let ending = RunEnding {
        interrupted: (saved.report.status == Status::Interrupted).then_some(saved.report.exit_code),
        ..RunEnding::default()
    };
    let duration = Duration::from_secs_f64(saved.report.duration_s);
    let report = frame.report(&results, &mut known, ending, duration);
    let view = View {
        width: console.width(),
        colour: console.color,
        verbose: args.verbose,
        summary: args.summary.summary(),
        ..View::default()
    };
    if let Some(folder) = &args.out {
        let folder = Results::at(folder)?.hiding(&console.masker);
        folder.write(&report, &view)?;
        let seen = results.iter().filter_map(CellResult::observations);
        folder.write_page(&report, &charts::charts(&report, seen))?;
    }
    actions::show(&report, &view, console);
    if args.summary != SummaryMode::None {
        console.data(&terminal::render(&report, &view));
    }
    Ok(run::exit(&report))
}

/// The saved run's own way of reading a file: seed, repeats, whether it was shortened or simulated.
fn as_it_ran(report: &model::Report, inputs: &InputOptions) -> FileOptions {
    FileOptions {
        inputs: inputs.clone(),
        seed: Some(report.seed),
        repeats: Some(report.repeats),
        smoke: report.smoke,
        simulate: report.command.iter().any(|word| word == "--simulate"),
        ..FileOptions::default()
    }
}

/// What the run has kept; without it what its requests tell.
fn observations(saved: &Saved, console: &Console) -> anyhow::Result<Vec<Kept>> {
    let path = saved.folder.join(kept::FILE);
    let shown = path.display();
    match File::open(&path) {
        Ok(file) => {
            let held = kept::read(file).with_context(|| format!("cannot read `{shown}`"))?;
            let lost = if held.torn {
                console.talk(&format!(
                    "`{shown}` is cut off: a run that is not whole in it is no data"
                ));
                format!("`{}` is cut off before its end", kept::FILE)
            } else {
                format!("`{}` has nothing of it", kept::FILE)
            };
            held.of(&saved.report, &lost).map_err(|why| {
                anyhow!("`{shown}` is of another run than the report beside it: {why}")
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = saved.folder.join("requests.ndjson");
            let requests = path.display();
            let text = std::fs::read_to_string(&path).with_context(|| {
                format!(
                    "there is no `{}`, and `{requests}` cannot be read: nothing to judge",
                    kept::FILE
                )
            })?;
            console.talk(&format!(
                "there is no `{shown}`: the requests alone are judged, and what needs samples or the gaps between tokens is inconclusive"
            ));
            let rows = crate::report::ndjson::read(&text)
                .with_context(|| format!("cannot read `{requests}`"))?;
            Ok(older::observations(&saved.report, &saved.charts, rows.rows))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read `{shown}`")),
    }
}

/// SLOs are about stages: those of the file must be those that ran, by name, users, rate, and whether they are measured.
fn same_stages(plan: &Plan, report: &model::Report) -> anyhow::Result<()> {
    for cell in &plan.cells {
        let Some(ran) = report.cells.iter().find(|ran| ran.id == cell.id) else {
            continue;
        };
        let planned = cell.stages.iter();
        let planned: Vec<String> = planned
            .map(|it| {
                stage(
                    &it.name,
                    it.users,
                    it.rate.map(|rate| rate.per_second()),
                    it.measured,
                )
            })
            .collect();
        let seen = ran.stages.iter();
        let seen: Vec<String> = seen
            .map(|it| stage(&it.name, it.users, it.rate, it.measured))
            .collect();
        if planned != seen {
            bail!(
                "the load of cell `{}` is another: {} has {}, and the run had {}: only SLOs, guards and goodput may differ (what the run was given by `--set`, `--var` or `--profile` has to be given here, too)",
                cell.id,
                plan.path,
                planned.join(", "),
                seen.join(", ")
            );
        }
    }
    Ok(())
}

fn stage(name: &str, users: Option<u32>, rate: Option<f64>, measured: bool) -> String {
    let load = match (users, rate) {
        (Some(users), _) => format!(" ({users} users)"),
        (None, Some(rate)) => format!(" ({rate}/s)"),
        (None, None) => String::new(),
    };
    let unmeasured = if measured { "" } else { ", unmeasured" };
    format!("{name}{load}{unmeasured}")
}
