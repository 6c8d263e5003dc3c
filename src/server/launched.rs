//! An engine that this program starts itself: up, known to be ready, and down again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::offline::Pipes;
use super::port::{free_port, holder};
use super::probe::{self, Environment, NotReady, Ready, Waiting};
use super::process::{CommandLine, End, Process, find_program};
use crate::engine::Adapter;
use crate::plan::launch::{ADAPTERS, NAME, PORT};
use crate::plan::{Backend, HeaderValue, Launch, Model, Port, StopSignal};
use crate::secret::{Secret, is_secret};
use crate::units::format_duration;

/// What Python says where an engine is not installed.
const NO_MODULE: &str = "No module named";
/// How long the port may stay taken when the engine is gone.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An engine that runs. Dropped, it is killed with everything below it.
#[derive(Debug)]
pub struct Launched {
    process: Process,
    launch: Launch,
    backend: String,
    port: u16,
    cold_start: Option<Duration>,
    /// The adapter, and the pipes to it, of an engine without a server.
    adapter: Option<(Arc<Adapter>, Pipes)>,
}

impl Launched {
    /// Starts the engine of a backend; it is not ready yet. `port` is taken where the scenario leaves it open and it is free. It
    /// does not get the variables that are `withheld`, unless its own `env` names them.
    ///
    /// # Errors
    /// Its port is held by another program, its program is not there, a variable is not set.
    pub fn start(
        backend: &Backend,
        launch: &Launch,
        program: &Path,
        log: &Path,
        port: Option<u16>,
        withheld: &[String],
        environment: Environment<'_>,
    ) -> Result<Launched, NotReady> {
        let pipes = match &launch.offline {
            Some(_) => Some(Pipes::new().map_err(NotReady)?),
            None => None,
        };
        let port = match pipes {
            Some(_) => 0,
            None => choose_port(backend, launch, port)?,
        };
        let name = format!("scenario-{}-{}-{port}", backend.id, std::process::id());
        let filled = |word: &String| {
            let word = word.replace(PORT, &port.to_string()).replace(NAME, &name);
            match &pipes {
                Some(pipes) => word.replace(ADAPTERS, &pipes.adapters()),
                None => word,
            }
        };
        let mut env = Vec::new();
        for (variable, value) in &launch.env {
            let value = match value {
                HeaderValue::Literal(text) => filled(text),
                HeaderValue::Environment {
                    prefix,
                    name,
                    suffix,
                } => {
                    let value = environment(name).ok_or_else(|| {
                        NotReady(format!(
                            "backend `{}` needs the environment variable `{name}`, which is not set",
                            backend.id
                        ))
                    })?;
                    format!("{prefix}{value}{suffix}")
                }
            };
            env.push((variable.clone(), value));
        }
        env.extend(own_programs(launch, environment)?);
        let words: Vec<String> = launch.words.iter().map(filled).collect();
        let command = CommandLine {
            words: match &pipes {
                Some(pipes) => pipes.around(&words),
                None => words,
            },
            env,
            cwd: launch.cwd.as_deref().map(|cwd| at_home(cwd, environment)),
            after: match &pipes {
                Some(pipes) => pipes.removal(),
                None => launch.after.iter().map(filled).collect(),
            },
            leaves: false,
            withheld: withheld.to_vec(),
            secrets: secrets(backend, launch, environment),
        };
        let told = |problem: String| NotReady(format!("backend `{}`: {problem}", backend.id));
        let process = Process::start(program, command, log).map_err(told)?;
        let adapter = match pipes {
            Some(pipes) => Some((pipes.speak().map_err(told)?, pipes)),
            None => None,
        };
        Ok(Launched {
            process,
            launch: launch.clone(),
            backend: backend.id.clone(),
            port,
            cold_start: None,
            adapter,
        })
    }

    /// Waits until it is ready by the backend's rule.
    ///
    /// # Errors
    /// It ends, another program answers in its place, or its time is over; its last words are quoted.
    pub fn until_ready(
        &mut self,
        backend: &Backend,
        model: &Model,
        environment: Environment<'_>,
        waiting: Waiting<'_>,
    ) -> Result<Ready, NotReady> {
        if self.adapter.is_some() {
            return self.until_loaded(backend, model, waiting);
        }
        let url = format!("http://127.0.0.1:{}", self.port);
        let mut still_there = |problem: &str| {
            self.check()?;
            waiting(problem)
        };
        let asked = probe::probe(backend, model, &url, environment, &mut still_there);
        let mut ready = match asked {
            Ok(ready) => ready,
            Err(problem) => {
                self.check()?;
                let words = self.process.last_words();
                return Err(NotReady(format!("{problem}{words}")));
            }
        };
        // Whoever answered may have been another.
        self.check()?;
        self.introduce(&mut ready);
        Ok(ready)
    }

    /// Waits until an adapter has loaded its engine, and a first request has brought a token.
    fn until_loaded(
        &mut self,
        backend: &Backend,
        model: &Model,
        waiting: Waiting<'_>,
    ) -> Result<Ready, NotReady> {
        let (Some((adapter, _)), Some(offline)) = (&self.adapter, &self.launch.offline) else {
            return Err(NotReady(format!(
                "backend `{}` has no adapter",
                self.backend
            )));
        };
        let adapter = adapter.clone();
        let name = model.name_for(&backend.id).ok_or_else(|| {
            NotReady(
                "an engine without a server lists no model: name one under `models`".to_owned(),
            )
        })?;
        let until = self.process.started() + backend.ready.timeout;
        let loads = self.cold_start.is_none();
        if loads {
            adapter.load(name, offline.mode, &offline.args);
        }
        let version = if loads {
            self.loaded(&adapter, backend, until, waiting)?
        } else {
            None
        };
        let mut ready = Ready::offline(adapter, name, version);
        if loads && backend.ready.first_token {
            probe::first_token_of(backend, &ready, until).map_err(|problem| {
                let words = self.process.last_words();
                NotReady(format!("{problem}{words}"))
            })?;
        }
        self.introduce(&mut ready);
        Ok(ready)
    }

    /// Waits until an adapter says that it has loaded; the version of its engine.
    fn loaded(
        &mut self,
        adapter: &Adapter,
        backend: &Backend,
        until: Instant,
        waiting: Waiting<'_>,
    ) -> Result<Option<String>, NotReady> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        loop {
            match adapter.loaded(LOOK_EVERY) {
                Some(Ok(ready)) => return Ok(ready.version),
                Some(Err(problem)) => {
                    let words = self.process.last_words();
                    let elsewhere = self.launch.python.is_none() && problem.contains(NO_MODULE);
                    let advice = if elsewhere {
                        ": `launch: { python: … }` names the virtual environment that has it"
                    } else {
                        ""
                    };
                    return Err(NotReady(format!(
                        "the adapter of backend `{}` cannot load: {problem}{advice}{words}",
                        self.backend
                    )));
                }
                None => {}
            }
            self.check()?;
            if Instant::now() > until {
                return Err(NotReady(format!(
                    "the adapter of backend `{}` has not loaded after {}{}",
                    self.backend,
                    format_duration(backend.ready.timeout),
                    self.process.last_words()
                )));
            }
            waiting("its adapter loads the engine")?;
        }
    }

    /// How it was started, for reports.
    fn introduce(&mut self, ready: &mut Ready) {
        let since = self.process.started().elapsed();
        ready.facts.cold_start = Some(*self.cold_start.get_or_insert(since));
        ready.facts.command = Some(self.process.command().text());
        ready.facts.log = Some(self.process.log().display().to_string());
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// What is to be said if it has ended by itself.
    pub fn died(&mut self) -> Option<String> {
        let end = self.process.ended()?.text();
        Some(self.obituary(&end))
    }

    fn obituary(&mut self, end: &str) -> String {
        let after = format_duration(round(self.process.started().elapsed()));
        format!(
            "the engine of backend `{}` {end}, {after} after its start (`{}`){}",
            self.backend,
            self.process.command().text(),
            self.process.last_words()
        )
    }

    /// Whether the process still runs and its port is its own.
    fn check(&mut self) -> Result<(), NotReady> {
        if let Some(text) = self.died() {
            return Err(NotReady(text));
        }
        // The port of a container is held by the daemon that forwards it; an adapter has none.
        if !self.launch.after.is_empty() || self.adapter.is_some() {
            return Ok(());
        }
        match holder(self.port).and_then(|holder| holder.process) {
            Some((pid, name)) if !self.process.owns(pid) => Err(NotReady(format!(
                "port {} was taken by `{name}`, process {pid}, before the engine of backend `{}` listened on it",
                self.port, self.backend
            ))),
            _ => Ok(()),
        }
    }

    /// Asks it to stop, kills it when it does not within its grace, which may become shorter while it is waited for, and waits
    /// until its port is free; what is worth telling about it.
    pub fn stop(mut self, grace: &dyn Fn() -> Duration) -> Vec<String> {
        let mut notes = Vec::new();
        let backend = &self.backend;
        if let Some((adapter, _)) = &self.adapter {
            adapter.close();
            wait(&mut self.process, grace);
        }
        if self.process.ended().is_none() {
            let signal = signal_of(self.launch.signal);
            self.process.signal(signal);
            match wait(&mut self.process, grace) {
                None => notes.push(format!(
                    "the engine of backend `{backend}` ignored {signal} for {} and was killed",
                    format_duration(grace())
                )),
                Some(end) if !is_orderly(&end, signal) => {
                    let end = end.text();
                    let words = self.process.last_words();
                    notes.push(format!(
                        "the engine of backend `{backend}` did not stop in order: it {end}{words}"
                    ));
                }
                Some(_) => {}
            }
        }
        self.process.kill();
        if let Some(code) = self.process.after_failed() {
            // A container that has removed itself is no longer there to be removed.
            let command = self.process.command().after.join(" ");
            if !command.contains(" rm --force ") {
                notes.push(format!("`{command}` ended with exit code {code}"));
            }
        }
        if self.adapter.is_some() {
            return notes;
        }
        let until = Instant::now() + PORT_FREE_WITHIN;
        while let Some(held) = holder(self.port) {
            if Instant::now() > until {
                notes.push(format!(
                    "port {} of backend `{backend}` is still held {} after its end by {held}",
                    self.port,
                    format_duration(PORT_FREE_WITHIN)
                ));
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        notes
    }
}

/// Waits for the end of a process, as long as its grace lasts.
fn wait(process: &mut Process, grace: &dyn Fn() -> Duration) -> Option<End> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        let left = grace().saturating_sub(began.elapsed());
        if let Some(end) = process.wait(left.min(LOOK_EVERY)) {
            return Some(end.clone());
        }
        if left.is_zero() {
            return None;
        }
    }
}

/// What makes the programs of a launched engine's virtual environment come first, where it has one.
///
/// # Errors
/// There is no Python where the scenario says.
pub fn own_programs(
    launch: &Launch,
    environment: Environment<'_>,
) -> Result<Vec<(String, String)>, NotReady> {
    match &launch.python {
        Some(python) => virtual_environment(&at_home(python, environment), environment),
        None => Ok(Vec::new()),
    }
}

/// Whether the engine of a backend could be started now: its virtual environment, its program, its folder, its port.
pub fn could_start(
    backend: &Backend,
    launch: &Launch,
    environment: Environment<'_>,
) -> Vec<Result<String, NotReady>> {
    let mut found = Vec::new();
    let cwd = launch.cwd.as_deref().map(|cwd| at_home(cwd, environment));
    if let Some(cwd) = cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
        let cwd = cwd.display();
        found.push(Err(NotReady(format!(
            "there is no folder `{cwd}`: correct `cwd`"
        ))));
    }
    match own_programs(launch, environment) {
        Err(problem) => found.push(Err(problem)),
        Ok(env) => {
            let command = CommandLine {
                words: launch.words.clone(),
                env,
                cwd,
                ..CommandLine::default()
            };
            let program = launch.words.first().map_or("", String::as_str);
            found.push(match find_program(program, &command) {
                Ok(()) => Ok(format!("`{program}` is here")),
                Err(problem) => Err(NotReady(problem)),
            });
        }
    }
    if launch.offline.is_none() {
        found.push(
            choose_port(backend, launch, None).map(|port| match launch.port {
                Port::Of(_) => format!("port {port} is free"),
                Port::Auto => "takes a free port".to_owned(),
            }),
        );
    }
    found
}

fn signal_of(word: StopSignal) -> Signal {
    match word {
        StopSignal::Term => Signal::SIGTERM,
        StopSignal::Int => Signal::SIGINT,
        StopSignal::Quit => Signal::SIGQUIT,
        StopSignal::Kill => Signal::SIGKILL,
    }
}

/// Whether an end is one that was asked for: no error, or by the signal itself, as a shell tells it, too.
fn is_orderly(end: &End, signal: Signal) -> bool {
    match end {
        End::Code(0) => true,
        End::Code(code) => *code == 128 + signal as i32,
        End::Signal(told) => *told == signal as i32,
        End::Unknown => false,
    }
}

fn choose_port(backend: &Backend, launch: &Launch, wanted: Option<u16>) -> Result<u16, NotReady> {
    match launch.port {
        Port::Of(port) => match holder(port) {
            None => Ok(port),
            Some(held) => Err(NotReady(format!(
                "backend `{}` wants port {port}, which is held by another program ({held}): stop it, or write `port: auto`",
                backend.id
            ))),
        },
        Port::Auto => match wanted.filter(|&port| holder(port).is_none()) {
            Some(port) => Ok(port),
            None => free_port().map_err(|error| NotReady(format!("no free port: {error}"))),
        },
    }
}

/// What the engine is told and must not tell: secrets of its headers and of its environment.
fn secrets(backend: &Backend, launch: &Launch, environment: Environment<'_>) -> Vec<Secret> {
    let in_headers = backend.headers.iter().map(|(_, value)| value);
    let in_environment = launch.env.iter().filter(|(name, _)| is_secret(name));
    in_headers
        .chain(in_environment.map(|(_, value)| value))
        .filter_map(|value| match value {
            HeaderValue::Literal(_) => None,
            HeaderValue::Environment { name, .. } => environment(name).map(Secret::new),
        })
        .collect()
}

/// A path with `~` for the home of who runs this.
fn at_home(path: &Path, environment: Environment<'_>) -> PathBuf {
    match (path.strip_prefix("~"), environment("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}

/// What makes the programs of a virtual environment come first.
fn virtual_environment(
    python: &Path,
    environment: Environment<'_>,
) -> Result<Vec<(String, String)>, NotReady> {
    let programs = if python.is_dir() {
        python.join("bin")
    } else {
        python.parent().map(Path::to_owned).unwrap_or_default()
    };
    if programs.as_os_str().is_empty() {
        // A bare name like `python3.12` says nothing about where programs are.
        return Err(NotReady(format!(
            "`python: {}` is neither a virtual environment nor the path of an interpreter",
            python.display()
        )));
    }
    let is_there = ["python3", "python"]
        .iter()
        .any(|name| programs.join(name).exists());
    if !is_there {
        return Err(NotReady(format!(
            "there is no Python in `{}`: `python` takes a virtual environment, or an interpreter in one",
            programs.display()
        )));
    }
    let path = environment("PATH").unwrap_or_default();
    let mut variables = vec![("PATH".to_owned(), format!("{}:{path}", programs.display()))];
    if let Some(home) = programs
        .parent()
        .filter(|home| home.join("pyvenv.cfg").exists())
    {
        variables.push(("VIRTUAL_ENV".to_owned(), home.display().to_string()));
    }
    Ok(variables)
}

/// Without the digits that nobody reads.
fn round(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64 / 100 * 100)
}
