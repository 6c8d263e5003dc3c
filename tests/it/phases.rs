//! Whatever ends the runner, and whatever it is doing then: nothing of an engine is left, and what was measured is kept.

use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;
use scenario::diagnostic::Sources;
use scenario::observation::{CellResult, RequestRecord};
use scenario::plan::{CellRun, PlanOptions, plan};
use scenario::run::{self, Interrupt, Snapshot, Watcher, World};
use scenario::spec;
use serde_json::Value;

use crate::engines::{
    GATE, LONG, Mark, TEN, direct, mock, mock_program, script, stubborn, with_a_stray_child,
};
use crate::tool::{CALM, Desk, Ended, Running, scenario, until};

/// How the cells of a run ended, in their order.
fn statuses(ended: &Ended) -> Vec<Value> {
    let report = ended.report();
    let cells = report["cells"].as_array().unwrap().iter();
    cells
        .map(|cell| cell["runs"][0]["status"].clone())
        .collect()
}

/// How many measured requests are in the files.
fn measured(ended: &Ended) -> usize {
    let rows = ended.requests().rows;
    rows.iter().filter(|row| row.more.measured).count()
}

/// A run that is waited for in some phase and then interrupted once: it ends with 130, and nothing is left.
fn interrupted(running: Running, marks: &[&Mark]) -> Ended {
    running.signal(Signal::SIGINT);
    let ended = running.end().with_code(130);
    marks.iter().for_each(|mark| mark.until_nothing_is_left());
    assert_eq!(ended.report()["status"], "interrupted");
    ended
}

// ---- Ctrl-C ------------------------------------------------------------------------------------------------------------------

#[test]
fn ctrl_c_in_the_warm_up_stops_the_engine_and_measures_nothing() {
    let mark = Mark::new("warming-up");
    let desk = Desk::new();
    let load = "{ levels: { users: 2, requests: 10, warmup: 1h } }";
    let running = desk.start_run(&scenario(&direct(&mark, "", ""), load, GATE), &[], &[]);
    running.until_requests(10);
    let ended = interrupted(running, &[&mark]);
    assert_eq!(statuses(&ended), ["interrupted"]);
    let rows = ended.requests().rows;
    assert!(rows.len() >= 10 && rows.iter().all(|row| !row.more.measured));
}

#[test]
fn ctrl_c_while_it_waits_for_an_attached_engine_reports_that_it_did_not_begin() {
    let desk = Desk::new();
    let backend = format!(
        "{{ kind: vllm, url: \"{}\", ready: {{ timeout: 1h }}, up: [touch, up], down: [touch, down] }}",
        crate::tool::nobody()
    );
    let running = desk.start_run(&scenario(&backend, TEN, GATE), &[], &[]);
    until("it is waited for", || desk.path("up").exists());
    let ended = interrupted(running, &[]);
    assert_eq!(statuses(&ended), ["skipped"]);
    assert!(desk.path("down").exists());
}

#[test]
fn ctrl_c_while_a_backend_is_brought_up_takes_it_down() {
    let mark = Mark::new("bringing-up");
    let desk = Desk::new();
    desk.write("up.sh", "touch begun\nexec sleep 86400\n");
    let backend = format!(
        "{{ kind: vllm, url: \"{}\", up: [sh, up.sh, {}], down: [touch, down] }}",
        crate::tool::nobody(),
        mark.0
    );
    let running = desk.start_run(&scenario(&backend, TEN, GATE), &[], &[]);
    until("`up` runs", || desk.path("begun").exists());
    let ended = interrupted(running, &[&mark]);
    assert_eq!(statuses(&ended), ["skipped"]);
    assert!(desk.path("down").exists());
}

#[test]
fn ctrl_c_between_two_cells_keeps_the_first() {
    let mark = Mark::new("cooling-down");
    let desk = Desk::new();
    let text = format!(
        "version: 1\nbackends: {{ engine: {} }}\nmodels: {{ m: any }}\nload: {{ a: {TEN}, b: {TEN} }}\n\
         request: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 1h }}\n{GATE}{CALM}",
        direct(&mark, "", "")
    );
    let running = desk.start_run(&text, &[], &[]);
    let report = desk.path("results/report.json");
    until("the first cell is over", || {
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        text.contains("\"complete\"")
    });
    let ended = interrupted(running, &[&mark]);
    assert_eq!(statuses(&ended), ["complete", "skipped"]);
}

#[test]
fn ctrl_c_while_an_engine_is_started_anew_keeps_the_levels_before() {
    let mark = Mark::new("anew");
    let desk = Desk::new();
    let serve = mock(&mark, "");
    let text = format!(
        "if [ -e first ]; then touch second; exec sleep 86400; fi; touch first; exec {serve}"
    );
    let backend = script(&mark, &text, "").replace("port: auto", "port: auto, lifetime: level");
    let load = "{ levels: { users: [1, 2], requests: 6, warmup: 0s } }";
    let running = desk.start_run(&scenario(&backend, load, GATE), &[], &[]);
    until("the engine is started anew", || {
        desk.path("second").exists()
    });
    let ended = interrupted(running, &[&mark]);
    let rows = ended.requests().rows;
    let first = rows.iter().filter(|row| row.stage == "c1");
    assert_eq!(first.filter(|row| row.outcome == "ok").count(), 6);
    assert!(rows.iter().all(|row| row.stage == "c1"));
}

#[test]
fn ctrl_c_while_an_engine_stops_cuts_its_grace_short() {
    let mark = Mark::new("hurried");
    let desk = Desk::new();
    let running = desk.start_run(&scenario(&stubborn(&mark, "1h"), TEN, GATE), &[], &[]);
    until("the engine is asked to stop", || {
        desk.path("stopping").exists()
    });
    let ended = interrupted(running, &[&mark]);
    // Everything was measured by then.
    assert_eq!(statuses(&ended), ["complete"]);
    assert_eq!(measured(&ended), 10);
    assert!(ended.err.contains("ignored SIGTERM for"), "{}", ended.err);
}

/// An adapter that does as it is told by its name: it loads for ever, or it answers nothing.
fn adapter(desk: &Desk, mark: &Mark, says: &str) -> String {
    desk.write(
        "adapter.py",
        &format!(
            "import sys, time\nfor line in sys.stdin:\n    {says}\n    open('begun', 'w').close()\n    time.sleep(86400)\n"
        ),
    );
    format!(
        "{{ kind: openai, interface: offline, launch: {{ command: [python3, adapter.py, {}] }}, ready: {{ first_token: false }} }}",
        mark.0
    )
}

#[test]
fn ctrl_c_ends_an_adapter_that_loads_and_one_that_is_asked() {
    for (phase, says, status) in [
        ("adapter-loads", "pass", "skipped"),
        (
            "adapter-asked",
            "print('{\"ready\": {}}', flush=True); line = sys.stdin.readline()",
            "interrupted",
        ),
    ] {
        let mark = Mark::new(phase);
        let desk = Desk::new();
        let backend = adapter(&desk, &mark, says);
        let running = desk.start_run(&scenario(&backend, TEN, GATE), &[], &[]);
        until("the adapter is at it", || desk.path("begun").exists());
        let ended = interrupted(running, &[&mark]);
        assert_eq!(statuses(&ended), [status], "{phase}");
    }
}

// ---- kill -9, and a program that aborts --------------------------------------------------------------------------------------

/// The runner is ended by a signal that it cannot answer, in each phase of an engine's life.
fn ended_by(signal: Signal) {
    let name = signal.as_str().to_lowercase();
    let mark = Mark::new(&format!("{name}-loads"));
    let desk = Desk::new();
    let text = scenario(&script(&mark, "sleep 86400 # {port}", ""), TEN, GATE);
    let running = desk.start_run(&text, &[], &[]);
    until("the engine loads", || mark.processes().len() >= 2);
    running.signal(signal);
    assert_eq!(running.end().code, None);
    mark.until_nothing_is_left();

    let mark = Mark::new(&format!("{name}-serves"));
    let desk = Desk::new();
    let running = desk.start_run(&scenario(&with_a_stray_child(&mark), LONG, GATE), &[], &[]);
    running.until_requests(10);
    running.signal(signal);
    assert_eq!(running.end().code, None);
    mark.until_nothing_is_left();

    let mark = Mark::new(&format!("{name}-stops"));
    let desk = Desk::new();
    let running = desk.start_run(&scenario(&stubborn(&mark, "1h"), TEN, GATE), &[], &[]);
    until("the engine is asked to stop", || {
        desk.path("stopping").exists()
    });
    running.signal(signal);
    let ended = running.end();
    assert_eq!(ended.code, None);
    mark.until_nothing_is_left();
    // What had been measured is in the files.
    assert_eq!(measured(&ended), 10);
    assert_eq!(statuses(&ended), ["complete"]);
}

#[test]
fn a_runner_that_aborts_leaves_nothing_behind_in_any_phase() {
    // What a panic while it panics comes to.
    ended_by(Signal::SIGABRT);
}

#[test]
fn a_runner_that_is_killed_leaves_nothing_behind_in_any_phase() {
    ended_by(Signal::SIGKILL);
}

#[test]
fn a_runner_that_is_killed_takes_an_adapter_and_its_pipes_with_it() {
    let mark = Mark::new("killed-adapter");
    let desk = Desk::new();
    let backend = adapter(&desk, &mark, "pass");
    let folder = desk.path("pipes");
    std::fs::create_dir(&folder).unwrap();
    let within = folder.display().to_string();
    let text = scenario(&backend, TEN, GATE);
    let running = desk.start_run(&text, &[], &[("TMPDIR", &within)]);
    until("the adapter loads", || desk.path("begun").exists());
    let left = || std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(left(), 1);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    mark.until_nothing_is_left();
    until("its pipes are gone", || left() == 0);
}

#[test]
fn a_runner_that_is_killed_between_two_engines_takes_the_command_there_with_it() {
    let (first, between) = (Mark::new("killed-before"), Mark::new("killed-between"));
    let desk = Desk::new();
    let text = format!(
        "version: 1\nbackends:\n  a: {}\n  b: {{ kind: simulator }}\nmodels: {{ m: any }}\nload: {{ l: {TEN} }}\n\
         request: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s, between: [[sh, -c, \"touch changing; sleep 86400 # $0\", {}]] }}\n{CALM}",
        direct(&first, "", ""),
        between.0,
    );
    let running = desk.start_run(&text, &[], &[]);
    until("the command runs", || desk.path("changing").exists());
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    first.until_nothing_is_left();
    between.until_nothing_is_left();
}

// ---- a panic -----------------------------------------------------------------------------------------------------------------

/// Where the runner panics.
#[derive(Clone, Copy, PartialEq)]
enum Panics {
    /// While its engine loads: it is up, and not ready.
    Starting,
    /// When the engine is ready.
    Ready,
    /// When the third batch of requests has ended.
    Loaded,
    /// When the cell is over, and before its engine is asked to stop.
    Over,
    /// When the engine has been stopped by force, and what comes behind that is still to be done.
    Stopping,
}

struct Panicking(Panics, u32);

impl Panicking {
    fn now(&self, at: Panics) {
        assert!(self.0 != at, "a panic of the runner");
    }
}

impl Watcher for Panicking {
    fn cell_begins(&mut self, _: usize, _: CellRun) {}
    fn note(&mut self, text: &str) {
        if text.contains("is ready") {
            self.now(Panics::Ready);
        }
        if text.contains("ignored SIGTERM") {
            self.now(Panics::Stopping);
        }
    }
    fn records(&mut self, _: CellRun, _: &[RequestRecord]) {
        self.1 += 1;
        if self.1 == 3 {
            self.now(Panics::Loaded);
        }
    }
    fn tick(&mut self, _: CellRun, _: &Snapshot) {}
    fn abort(&mut self, _: CellRun, _: &[RequestRecord], _: &Snapshot) -> Option<String> {
        None
    }
    fn cell_ended(&mut self, _: &CellResult) {
        self.now(Panics::Over);
    }
    fn so_far(&mut self, _: &[CellResult]) {}
}

/// Runs a scenario in this process, which panics there.
fn panics(at: Panics, backend: &str) {
    let levels = "{ levels: { users: 2, requests: 200, warmup: 0s } }";
    let text = scenario(backend, levels, "");
    let logs = tempfile::tempdir().unwrap();
    let logs = logs.path().to_owned();
    let panicked = std::thread::spawn(move || {
        let mut sources = Sources::default();
        let (spec, _) = spec::parse(&mut sources, Path::new("trial.yaml"), &text);
        let spec = spec.unwrap();
        let (plan, _) = plan(&spec, &sources, &PlanOptions::default()).unwrap();
        let mut world = World {
            // The token is asked for when the engine is up.
            environment: &|name| {
                assert!(
                    !(at == Panics::Starting && name == "TOKEN"),
                    "a panic of the runner"
                );
                std::env::var(name).ok()
            },
            interrupt: Arc::new(Interrupt::default()),
            watcher: &mut Panicking(at, 0),
            capacity: scenario::load::Capacity::default(),
            program: mock_program().into(),
            logs,
            recorded_gpu: None,
        };
        run::run(&plan, &mut world).len()
    })
    .join()
    .unwrap_err();
    let said = panicked.downcast_ref::<&str>().copied();
    assert_eq!(said, Some("a panic of the runner"));
}

#[test]
fn a_panic_of_the_runner_leaves_nothing_behind_in_any_phase() {
    for (at, name) in [
        (Panics::Ready, "panic-ready"),
        (Panics::Loaded, "panic-loaded"),
        (Panics::Over, "panic-over"),
    ] {
        let mark = Mark::new(name);
        panics(at, &with_a_stray_child(&mark));
        mark.nothing_is_left();
    }
    let mark = Mark::new("panic-starting");
    let secret = "auth: { bearer: { env: TOKEN } }";
    panics(
        Panics::Starting,
        &script(&mark, "sleep 86400 # {port}", secret),
    );
    mark.nothing_is_left();
    let mark = Mark::new("panic-stopping");
    // This process has no folder of its own to touch a file in.
    let backend = stubborn(&mark, "100ms").replace("touch stopping; ", "");
    panics(Panics::Stopping, &backend);
    mark.nothing_is_left();
}

// ---- what was measured before ------------------------------------------------------------------------------------------------

#[test]
fn what_was_measured_stays_when_the_next_engine_does_not_come_up() {
    let (first, second) = (Mark::new("measured"), Mark::new("fails"));
    let text = format!(
        "version: 1\nbackends:\n  a: {}\n  b: {}\nmodels: {{ m: any }}\nload: {{ l: {TEN} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{GATE}{CALM}",
        direct(&first, "", ""),
        script(&second, "echo no such model >&2; exit 3 # {port}", ""),
    );
    let ended = Desk::new().run(&text, &[]).with_code(3);
    assert_eq!(statuses(&ended), ["complete", "not_ready"]);
    assert_eq!(measured(&ended), 10);
    assert!(ended.out.contains("| no such model"), "{}", ended.out);
    first.nothing_is_left();
    second.nothing_is_left();
}
