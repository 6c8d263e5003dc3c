//! `scenario run`: load, plan, run, judge, report.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::args::{InconclusiveMode, LiveArgs, OutputArgs, ProgressMode, RunArgs, SummaryMode};
use super::console::Console;
use super::exit::Exit;
use super::results::Results;
use super::upload::Upload;
use super::watch::Watch;
use super::{actions, crash, file, outputs, signals};
use crate::diagnostic::Sources;
use crate::live::{self, Live};
use crate::observation::CellResult;
use crate::plan::describe::{describe, headline};
use crate::plan::{HeaderValue, Output, Plan};
use crate::report::kept::{self, Keeper};
use crate::report::ndjson::RequestLog;
use crate::report::progress::{Mode, Progress};
use crate::report::requests::{Names, rows};
use crate::report::{Frame, RunEnding, View, charts, csv, markdown, model, tap, terminal};
use crate::run::{self, Interrupt, World};
use crate::secret::Secret;
use crate::spec::NamedCommand;
use crate::telemetry::{git_facts, host_facts};

pub(super) fn run(args: &RunArgs, command: &[String], console: &Console) -> anyhow::Result<Exit> {
    hide_token(&args.output.live, console);
    // Every file is checked before the first one sends anything.
    let mut plans = Vec::new();
    let mut wrong = false;
    for path in &args.files {
        let read = file::read(path, &args.options, file::Aim::Run)?;
        // In place of an engine that is simulated nothing is started.
        if !args.allow_exec && !args.options.simulate {
            wrong |= refuse_foreign(path, &read.foreign, console);
        }
        match read.told(console) {
            Some((plan, sources)) => {
                wrong |= !fit_to_run(&plan, args.require_slos, console);
                plans.push((plan, sources));
            }
            None => wrong = true,
        }
    }
    if wrong {
        return Ok(Exit::Usage);
    }
    crash::on_demand();
    if args.dry_run {
        plans
            .iter()
            .for_each(|(plan, _)| console.data(&describe(plan)));
        return Ok(Exit::Passed);
    }
    args.output.begin()?;
    let interrupt = signals::count(console, true)?;
    let live = live(&args.output.live, console)?;
    let mut exit = Exit::Passed;
    for (number, (plan, sources)) in plans.iter().enumerate() {
        let output = if plans.len() > 1 {
            args.output.for_file(number)
        } else {
            args.output.clone()
        };
        let ended = execute(
            plan,
            sources,
            &output,
            command,
            &interrupt,
            live.as_ref(),
            console,
        );
        exit = exit.worse(match ended {
            Ok(ended) => ended,
            Err(error) if number == 0 => return Err(error),
            // What was measured before keeps its verdict.
            Err(error) => {
                tell(&error, console);
                Exit::Inconclusive
            }
        });
        if interrupt.count() > 0 {
            break;
        }
    }
    if let Some(live) = live {
        live.finish();
    }
    Ok(exit)
}

/// From now on nothing shows what must be known to be served.
pub(super) fn hide_token(args: &LiveArgs, console: &Console) {
    if let Some(token) = &args.token {
        console.masker.learn(&Secret::new(token));
    }
}

/// Starts to serve what the command line asks for, and says where.
pub(super) fn live(args: &LiveArgs, console: &Console) -> anyhow::Result<Option<Live>> {
    let config = live::Config {
        dashboard: args.dashboard.map(|address| address.0),
        metrics: args.metrics.map(|address| address.0),
        token: args.token.clone(),
        masker: console.masker.clone(),
    };
    if config.dashboard.is_none() && config.metrics.is_none() {
        return Ok(None);
    }
    let live = Live::start(&config)?;
    if let Some(at) = live.dashboard() {
        let token = if at.ip().is_loopback() {
            ""
        } else {
            "?token=…"
        };
        console.talk(&format!("dashboard: http://{at}/{token}"));
    }
    if let Some(at) = live.metrics() {
        console.talk(&format!("metrics: http://{at}/metrics"));
    }
    Ok(Some(live))
}

/// Tells of commands that somebody elsewhere has written; whether there are any.
fn refuse_foreign(path: &Path, foreign: &[NamedCommand], console: &Console) -> bool {
    for command in foreign {
        console.talk(&format!(
            "{}: error: `{}` runs a command that was written elsewhere: look at it (`scenario show`), and let it run with --allow-exec",
            path.display(),
            command.key
        ));
    }
    if !foreign.is_empty() {
        console.talk("Nothing was sent.");
    }
    !foreign.is_empty()
}

impl OutputArgs {
    /// Several files on one command line: each its own results, and one summary of all.
    fn for_file(&self, number: usize) -> OutputArgs {
        let numbered = |path: &PathBuf| {
            let ending = path.extension().map(|ending| ending.to_string_lossy());
            let ending = ending.map_or(String::new(), |ending| format!(".{ending}"));
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{stem}-{}{ending}", number + 1))
        };
        OutputArgs {
            out: self
                .out
                .as_ref()
                .map(|out| out.join((number + 1).to_string())),
            tap: self.tap.as_ref().map(numbered),
            ..self.clone()
        }
    }

    /// Empties the summary, to which each file adds its own.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        match &self.summary_md {
            Some(path) => std::fs::write(path, "")
                .with_context(|| format!("cannot write `{}`", path.display())),
            None => Ok(()),
        }
    }
}

/// What can be known to go wrong before anything is sent: unset secrets, a gate without an SLO.
pub(super) fn fit_to_run(plan: &Plan, require_slos: bool, console: &Console) -> bool {
    let mut fit = true;
    let mut told = Vec::new();
    for cell in &plan.cells {
        for (header, value) in &cell.backend.headers {
            let HeaderValue::Environment { name, .. } = value else {
                continue;
            };
            if environment(name).is_none()
                && !cell.backend.optional
                && !told.contains(&(&cell.backend.id, name))
            {
                console.talk(&format!(
                    "{}: error[S071]: backend `{}` needs the environment variable `{name}` for its header `{header}`, and it is not set",
                    plan.path, cell.backend.id
                ));
                told.push((&cell.backend.id, name));
                fit = false;
            }
        }
    }
    for output in &plan.outputs {
        let (Output::Otlp(receiver) | Output::Prometheus(receiver)) = output else {
            continue;
        };
        for (header, value) in &receiver.headers {
            if let HeaderValue::Environment { name, .. } = value
                && environment(name).is_none()
            {
                console.talk(&format!(
                    "{}: error[S071]: an output needs the environment variable `{name}` for its header `{header}`, and it is not set",
                    plan.path
                ));
                fit = false;
            }
        }
    }
    if require_slos && plan.slos.is_empty() {
        console.talk(&format!(
            "{}: error: no SLOs, and --require-slos asks for some: nothing would be gated",
            plan.path
        ));
        fit = false;
    }
    if !fit {
        console.talk("Nothing was sent.");
    }
    fit
}

/// An environment variable; an empty one counts as unset.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs one plan to its verdict. What cannot be written or sent when it was measured is told, and costs none of the rest: it makes
/// the exit code worse, unless that is not asked for.
///
/// # Errors
/// It cannot begin: nothing was sent.
pub(super) fn execute(
    plan: &Plan,
    sources: &Sources,
    output: &OutputArgs,
    command: &[String],
    interrupt: &Arc<Interrupt>,
    live: Option<&Live>,
    console: &Console,
) -> anyhow::Result<Exit> {
    let now = jiff::Timestamp::now();
    let upload = Upload::to(output.out.as_deref())?;
    let folder = output.out.as_deref().filter(|_| upload.is_none());
    let results = Results::create(folder, &plan.name, now)?.hiding(&console.masker);
    // A baseline may be what the run before has left here.
    let baseline = plan.baseline.as_ref().map(|named| named.file.as_path());
    results.clear(baseline)?;
    let view = view(output, console);
    let requests = RequestLog::start(
        plan,
        results.growing("requests.ndjson")?,
        output.record_events,
    );
    let frame = Frame {
        plan: Arc::new(plan.clone()),
        sources: Arc::new(sources.clone()),
        environment: Arc::new(this_machine(plan)),
        started: now.to_string().into(),
        command: console.without_secrets(command).into(),
    };
    let began = Instant::now();
    let live = live.map(Live::feed);
    if let Some(live) = &live {
        live.begins(frame.clone(), super::baseline::of(plan));
    }
    if output.progress != ProgressMode::None {
        console.talk(&announcement(plan));
    }
    let progress = Progress::new(
        progress_mode(output.progress),
        console.masker.over(std::io::stderr()),
    );
    let keeper = Keeper::begin(
        plan,
        results.compressed(kept::FILE)?,
        console.masker.clone(),
    )?;
    let mut watch = Watch::new(
        &frame,
        progress,
        requests.sink(),
        keeper,
        &results,
        view,
        live.clone(),
    );
    let mut world = World {
        environment: &environment,
        interrupt: interrupt.clone(),
        watcher: &mut watch,
        capacity: super::selftest::capacity(),
        // Whatever has become of the file that was started, this is what runs.
        program: "/proc/self/exe".into(),
        logs: results.folder().to_owned(),
        recorded_gpu: std::env::var_os("SCENARIO_RECORDED_GPU").map(Into::into),
    };
    let seen = run::run(plan, &mut world);
    let (mut known, trouble) = watch.finish();
    let mut trouble = Vec::from_iter(trouble);
    let mut tried = |written: anyhow::Result<()>| trouble.extend(written.err());

    let ending = RunEnding {
        interrupted: interrupt
            .signal()
            .map(|signal| Exit::Interrupted(signal).code()),
        inconclusive_is_warning: output.inconclusive == InconclusiveMode::Warn,
        exit_zero: output.exit_zero,
    };
    let report = frame.report(&seen, &mut known, ending, began.elapsed());
    tried(results.write(&report, &view));
    let charts = charts::charts(&report, seen.iter().filter_map(CellResult::observations));
    tried(results.write_page(&report, &charts));
    if let Some(live) = &live {
        live.ended(&report, &charts);
    }
    let names = Names::of(plan);
    let table = || {
        let runs = seen.iter().filter_map(CellResult::observations);
        runs.flat_map(|seen| rows(&names, seen))
    };
    tried(results.replace("requests.csv", |file| csv::requests(table(), file)));
    tried(results.write_compat(&output.compat, (&report, &charts), results.folder()));
    tried(requests.finish().map(drop).map_err(anyhow::Error::from));
    for output in &plan.outputs {
        tried(outputs::write(
            output,
            &report,
            &results,
            table(),
            &console.masker,
            &environment,
        ));
    }
    if let Some(wanted) = &plan.plots {
        tried(outputs::draw(wanted, &report, &charts, &results));
    }
    if let Some(path) = &output.summary_md {
        let summary = markdown::render(&report, &view);
        let written = append(path, &console.masker.text(&summary));
        tried(written.with_context(|| format!("cannot write `{}`", path.display())));
    }
    if let Some(path) = &output.tap {
        let points = tap::render(&report, &view);
        let written = std::fs::write(path, console.masker.text(&points).as_bytes());
        tried(written.with_context(|| format!("cannot write `{}`", path.display())));
    }
    actions::show(&report, &view, console);
    if output.summary != SummaryMode::None {
        console.data(&terminal::render(&report, &view));
        console.data(&format!(
            "report: {}",
            results.folder().join("report.html").display()
        ));
    }
    if let Some(upload) = &upload {
        tried(upload.put(results.folder()).map(|files| {
            let page = upload.url_of("report.html");
            console.talk(&format!("{files} files put there: {page}"));
        }));
    }
    if output.open {
        super::report::open(&results.folder().join("report.html"), console);
    }
    trouble.iter().for_each(|error| tell(error, console));
    let verdict = exit(&report);
    Ok(if trouble.is_empty() || output.exit_zero {
        verdict
    } else {
        verdict.worse(Exit::Inconclusive)
    })
}

fn tell(error: &anyhow::Error, console: &Console) {
    console.talk(&format!("error: {error:#}"));
}

/// Adds to the end of a file.
///
/// # Errors
/// It cannot be written.
pub(super) fn append(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// What is about to happen, in a few lines: also what the tool adds by itself.
fn announcement(plan: &Plan) -> String {
    let mut text = headline(plan);
    let added = plan
        .cells
        .iter()
        .flat_map(|cell| &cell.stages)
        .any(|stage| stage.name == "warmup");
    if added {
        text.push_str("a warm-up is added before the load (`run: { warmup: 0s }` turns it off); it is not measured\n");
    }
    text
}

/// The exit code of a report.
pub(super) fn exit(report: &model::Report) -> Exit {
    match report.exit_code {
        0 => Exit::Passed,
        1 => Exit::Failed,
        2 => Exit::Usage,
        3 => Exit::Inconclusive,
        signal => Exit::Interrupted(u32::from(signal.saturating_sub(128))),
    }
}

fn view(output: &OutputArgs, console: &Console) -> View {
    View {
        width: console.width(),
        colour: console.color,
        verbose: output.verbose,
        summary: output.summary.summary(),
        junit: output.junit.flavour(),
    }
}

fn progress_mode(asked: ProgressMode) -> Mode {
    let mode = match asked {
        ProgressMode::Auto => Mode::Auto,
        ProgressMode::Bars => Mode::Bars,
        ProgressMode::Lines => Mode::Lines,
        ProgressMode::Json => Mode::Json,
        ProgressMode::None => Mode::None,
    };
    mode.at(std::io::stderr().is_terminal())
}

fn this_machine(plan: &Plan) -> model::Environment {
    let facts = host_facts();
    let folder = Path::new(&plan.path).parent();
    let git = folder.and_then(git_facts);
    model::Environment {
        host: model::Host {
            name: facts.name,
            os: facts.os,
            kernel: facts.kernel,
            cpu: facts.cpu,
            cores: facts.cores,
            memory_bytes: facts.memory_bytes,
            clocksource: facts.clocksource,
        },
        gpus: Vec::new(),
        engines: Vec::new(),
        git: git.map(|facts| model::Git {
            revision: facts.revision,
            modified: facts.modified,
        }),
    }
}
