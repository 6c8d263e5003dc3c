//! The engine that stands: what this program has brought up and must take down, one at a time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::world::World;
use crate::observation::NotableEvent;
use crate::plan::{Backend, Cell, CellRun, Lifetime, Plan};
use crate::server::{self, CommandLine, Launched, NotReady, Process, Ready, run_to_end};
use crate::telemetry::nvml;
use crate::units::{Moment, format_duration};

/// How long an engine may take to stop when the run was interrupted.
const INTERRUPTED_GRACE: Duration = Duration::from_secs(5);
/// How long a command between two backends may take.
const BETWEEN_LIMIT: Duration = Duration::from_secs(600);
/// How long GPU memory may take to fall after its engine has ended.
const MEMORY_WITHIN: Duration = Duration::from_secs(30);
/// What may stay on a GPU: drivers keep a little.
const MEMORY_SLACK: u64 = 256 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Engines come and go through this: dropped, it leaves nothing behind.
pub(super) struct Standing<'p> {
    plan: &'p Plan,
    program: PathBuf,
    logs: PathBuf,
    up: Option<Up>,
    /// The last cell run that was prepared.
    before: Option<CellRun>,
    /// Bytes in use on each GPU before the engine that stands was started.
    memory_before: Option<Vec<u64>>,
    /// The ports that engines had, by backend, to be taken again.
    ports: Vec<(String, u16)>,
}

/// What stands.
enum Up {
    /// An engine that was launched.
    Launched(Box<Launched>),
    /// A backend that its `up` has brought up; the guard that holds its `down`.
    Hooked {
        /// Its id.
        backend: String,
        down: Option<Box<Process>>,
    },
}

impl<'p> Standing<'p> {
    pub(super) fn new(plan: &'p Plan, world: &World<'_>) -> Standing<'p> {
        Standing {
            plan,
            program: world.program.clone(),
            logs: world.logs.clone(),
            up: None,
            before: None,
            memory_before: None,
            ports: Vec::new(),
        }
    }

    /// Makes the backend of a run ready: what does not belong to it goes down, what is missing comes up.
    ///
    /// # Errors
    /// It cannot be made ready.
    pub(super) fn ready(
        &mut self,
        run: CellRun,
        events: &mut Vec<NotableEvent>,
        world: &mut World<'_>,
    ) -> Result<Ready, NotReady> {
        let cell = &self.plan.cells[run.cell];
        let before = self.before.replace(run);
        let backend_changes =
            before.is_some_and(|before| self.plan.cells[before.cell].backend.id != cell.backend.id);
        let another = before.is_none_or(|before| self.plan.needs_another_engine(before, run));
        if another {
            self.down(world);
        } else if let Some(text) = self.died() {
            world.watcher.note(&format!("{text}\nit is started anew"));
            events.push(event("engine_restarted", text));
            self.down(world);
        }
        if backend_changes {
            self.between(world)?;
        }
        match (&cell.backend.launch, cell.backend.up.is_empty()) {
            (Some(_), _) => self.launched(cell, events, world),
            (None, false) => {
                self.hooked(&cell.backend, world)?;
                attached(self.plan, cell, world)
            }
            (None, true) => attached(self.plan, cell, world),
        }
    }

    /// Starts the engine of a cell anew, for its next level.
    ///
    /// # Errors
    /// It does not come up again.
    pub(super) fn restart(
        &mut self,
        cell: &Cell,
        events: &mut Vec<NotableEvent>,
        world: &mut World<'_>,
    ) -> Result<(), NotReady> {
        self.down(world);
        self.launched(cell, events, world).map(drop)
    }

    /// What is to be said if the engine that stands has ended by itself.
    pub(super) fn died(&mut self) -> Option<String> {
        match &mut self.up {
            Some(Up::Launched(engine)) => engine.died(),
            Some(Up::Hooked { .. }) | None => None,
        }
    }

    /// Takes down what stands.
    pub(super) fn down(&mut self, world: &mut World<'_>) {
        match self.up.take() {
            None => {}
            Some(Up::Launched(engine)) => {
                let patient = engine.launch().grace;
                let interrupt = world.interrupt.clone();
                let grace = move || match interrupt.count() {
                    0 => patient,
                    _ => patient.min(INTERRUPTED_GRACE),
                };
                for note in engine.stop(&grace) {
                    world.watcher.note(&note);
                }
                if let Some(before) = self.memory_before.take()
                    && let Some(note) = wait_for_memory(&before, nvml::memory_used, || {
                        world.interrupt.wait(LOOK_EVERY);
                        world.interrupt.count() == 0
                    })
                {
                    world.watcher.note(&note);
                }
            }
            Some(Up::Hooked { backend, down }) => {
                let Some(mut down) = down else { return };
                let command = down.command().after.join(" ");
                down.kill();
                if let Some(code) = down.after_failed() {
                    world.watcher.note(&format!(
                        "`{command}`, which takes backend `{backend}` down, ended with exit code {code}; see {}",
                        down.log().display()
                    ));
                }
            }
        }
    }

    fn launched(
        &mut self,
        cell: &Cell,
        events: &mut Vec<NotableEvent>,
        world: &mut World<'_>,
    ) -> Result<Ready, NotReady> {
        let backend = &cell.backend;
        let Some(launch) = &backend.launch else {
            return Err(NotReady(format!(
                "backend `{}` is not launched",
                backend.id
            )));
        };
        let stood = self.up.is_some();
        let mut engine = match self.up.take() {
            Some(Up::Launched(engine)) => engine,
            Some(Up::Hooked { .. }) | None => {
                self.memory_before = nvml::memory_used();
                let log = launch.log.clone().unwrap_or_else(|| self.log(&backend.id));
                let port = self.ports.iter().find(|(id, _)| *id == backend.id);
                let port = port.map(|(_, port)| *port);
                let engine = Launched::start(
                    backend,
                    launch,
                    &self.program,
                    &log,
                    port,
                    &self.plan.secrets,
                    world.environment,
                )?;
                self.ports.retain(|(id, _)| *id != backend.id);
                self.ports.push((backend.id.clone(), engine.port()));
                Box::new(engine)
            }
        };
        let mut waiting = Waiting::of(backend, world);
        let environment = waiting.environment;
        let asked = engine.until_ready(backend, &cell.model, environment, &mut |problem| {
            waiting.go_on(problem)
        });
        self.up = Some(Up::Launched(engine));
        let ready = match asked {
            Ok(ready) => ready,
            Err(problem) => {
                self.down(world);
                return Err(problem);
            }
        };
        if stood {
            match server::reset_cache(backend, &ready) {
                Some(Ok(())) => events.push(event(
                    "cache_reset",
                    format!(
                        "the prefix cache of `{}` was reset before this cell",
                        backend.id
                    ),
                )),
                Some(Err(problem)) => events.push(event(
                    "cache_not_reset",
                    format!(
                        "the prefix cache of `{}` was not reset: {problem}",
                        backend.id
                    ),
                )),
                None => {}
            }
        } else if let Some(cold) = ready.facts.cold_start {
            world.watcher.note(&format!(
                "backend `{}` is ready {} after its start",
                backend.id,
                format_duration(Duration::from_millis(cold.as_millis() as u64))
            ));
        }
        Ok(ready)
    }

    /// Brings a backend up by its command, unless it is.
    fn hooked(&mut self, backend: &Backend, world: &mut World<'_>) -> Result<(), NotReady> {
        if self.up.is_some() {
            return Ok(());
        }
        let log = self.log(&backend.id);
        let told = |problem: String| NotReady(format!("backend `{}`: {problem}", backend.id));
        // Held before `up` begins: whatever comes after, `down` will run.
        let down = match backend.down.as_slice() {
            [] => None,
            words => {
                let after = CommandLine {
                    after: words.to_vec(),
                    withheld: self.plan.secrets.clone(),
                    ..CommandLine::default()
                };
                Some(Box::new(
                    Process::start(&self.program, after, &log).map_err(told)?,
                ))
            }
        };
        self.up = Some(Up::Hooked {
            backend: backend.id.clone(),
            down,
        });
        let up = CommandLine {
            words: backend.up.clone(),
            leaves: true,
            withheld: self.plan.secrets.clone(),
            ..CommandLine::default()
        };
        let interrupt = world.interrupt.clone();
        run_to_end(&self.program, up, &log, backend.ready.timeout, &mut || {
            interrupt.count() == 0
        })
        .map_err(|problem| {
            self.down(world);
            told(problem)
        })
    }

    fn between(&mut self, world: &mut World<'_>) -> Result<(), NotReady> {
        let interrupt = world.interrupt.clone();
        for words in &self.plan.between {
            let command = CommandLine {
                words: words.clone(),
                leaves: true,
                withheld: self.plan.secrets.clone(),
                ..CommandLine::default()
            };
            run_to_end(
                &self.program,
                command,
                &self.logs.join("between.log"),
                BETWEEN_LIMIT,
                &mut || interrupt.count() == 0,
            )
            .map_err(|problem| NotReady(format!("between two backends: {problem}")))?;
        }
        Ok(())
    }

    fn log(&self, backend: &str) -> PathBuf {
        self.logs.join(format!("engine-{backend}.log"))
    }
}

/// A backend that is there already, or the embedded simulator.
fn attached(plan: &Plan, cell: &Cell, world: &mut World<'_>) -> Result<Ready, NotReady> {
    let mut waiting = Waiting::of(&cell.backend, world);
    let environment = waiting.environment;
    server::bring_up(
        &cell.backend,
        &cell.model,
        plan.seed,
        environment,
        &mut |problem| waiting.go_on(problem),
    )
}

/// Tells once that a backend is waited for, and ends the waiting with Ctrl-C.
struct Waiting<'w, 'a> {
    backend: &'w Backend,
    watcher: &'w mut dyn super::Watcher,
    interrupt: &'w super::Interrupt,
    environment: server::Environment<'a>,
    told: bool,
}

impl<'w, 'a> Waiting<'w, 'a> {
    fn of(backend: &'w Backend, world: &'w mut World<'a>) -> Waiting<'w, 'a> {
        Waiting {
            backend,
            watcher: &mut *world.watcher,
            interrupt: &world.interrupt,
            environment: world.environment,
            told: false,
        }
    }

    fn go_on(&mut self, problem: &str) -> Result<(), NotReady> {
        if !std::mem::replace(&mut self.told, true) {
            let limit = format_duration(self.backend.ready.timeout);
            self.watcher.note(&format!(
                "waiting up to {limit} for backend `{}`: {problem}",
                self.backend.id
            ));
        }
        if self.interrupt.count() > 0 {
            return Err(NotReady(format!(
                "stopped while waiting for backend `{}`: {problem}",
                self.backend.id
            )));
        }
        Ok(())
    }
}

/// Whether cells of this lifetime start an engine for each level.
pub(super) fn restarts_by_level(cell: &Cell) -> bool {
    cell.backend
        .launch
        .as_ref()
        .is_some_and(|launch| launch.lifetime == Lifetime::Level)
}

pub(super) fn event(kind: &'static str, text: String) -> NotableEvent {
    NotableEvent {
        at: Moment::ZERO,
        kind,
        text,
    }
}

/// Waits until GPUs hold no more than before; what to tell when they still do. `go_on` waits a moment, `false` ends it.
fn wait_for_memory(
    before: &[u64],
    used: impl Fn() -> Option<Vec<u64>>,
    mut go_on: impl FnMut() -> bool,
) -> Option<String> {
    let until = Instant::now() + MEMORY_WITHIN;
    loop {
        let now = used()?;
        let held = before
            .iter()
            .zip(&now)
            .enumerate()
            .find(|(_, (before, now))| **now > **before + MEMORY_SLACK);
        let (gpu, (before, now)) = held?;
        if Instant::now() > until || !go_on() {
            let gib = |bytes: &u64| *bytes as f64 / f64::from(1 << 30);
            return Some(format!(
                "GPU {gpu} still holds {:.1} GiB after its engine has ended; it held {:.1} GiB before",
                gib(now),
                gib(before)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn gpu_memory_is_waited_for_until_it_has_fallen() {
        let readings = Cell::new(0);
        let used = || {
            readings.set(readings.get() + 1);
            let held = if readings.get() < 3 { 70 } else { 1 };
            Some(vec![GIB, held * GIB])
        };
        assert_eq!(wait_for_memory(&[GIB, GIB], used, || true), None);
        assert_eq!(readings.get(), 3);
    }

    #[test]
    fn gpu_memory_that_stays_is_told() {
        let told = wait_for_memory(&[GIB, GIB], || Some(vec![GIB, 70 * GIB]), || false);
        assert_eq!(
            told.unwrap(),
            "GPU 1 still holds 70.0 GiB after its engine has ended; it held 1.0 GiB before"
        );
        assert_eq!(wait_for_memory(&[GIB], || None, || true), None);
    }
}
