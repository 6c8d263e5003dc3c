//! Engines that the tool starts itself: up, ready, measured, down, and nothing left behind however it ends.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::tool::{CALM, Desk, Ended, nobody, until, verdict};

pub(crate) const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";
pub(crate) const LONG: &str = "{ levels: { users: 2, for: 10m, warmup: 0s } }";

/// A word that no other process of this machine has on its command line.
pub(crate) struct Mark(pub(crate) String);

impl Mark {
    pub(crate) fn new(test: &str) -> Mark {
        Mark(format!("mark-{test}-{}", std::process::id()))
    }

    /// The processes that have it on their command line: engines, their children, and the guards that hold them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).into_owned();
                // The tool itself names only its file.
                line.contains(&self.0).then_some(pid)
            })
            .collect()
    }

    /// The engine itself: the process whose first words are `scenario mock`.
    fn engine(&self) -> Option<i32> {
        self.processes().into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with(&format!("{}\0mock\0", mock_program()))
        })
    }

    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(self.processes(), [0; 0], "{}", self.0);
    }

    #[track_caller]
    pub(crate) fn until_nothing_is_left(&self) {
        until("every process is gone", || self.processes().is_empty());
    }
}

pub(crate) fn mock_program() -> &'static str {
    env!("CARGO_BIN_EXE_scenario")
}

/// The mock engine as it is typed, marked.
pub(crate) fn mock(mark: &Mark, more: &str) -> String {
    format!(
        "{} mock --port {{port}} --model {} --model any {more}",
        mock_program(),
        mark.0
    )
}

/// A backend that launches this shell script; `$0` is the mark.
pub(crate) fn script(mark: &Mark, script: &str, more: &str) -> String {
    format!(
        "{{ kind: openai, launch: {{ command: [sh, -c, {}, {}], port: auto }}, {more} }}",
        Value::from(script),
        mark.0
    )
}

/// A backend that launches the mock engine directly.
pub(crate) fn direct(mark: &Mark, launch: &str, more: &str) -> String {
    format!(
        "{{ kind: openai, launch: {{ command: [{}, mock, --port, \"{{port}}\", --model, {}, --model, any], {launch} }}, {more} }}",
        mock_program(),
        mark.0
    )
}

fn scenario(backend: &str, load: &str, more: &str) -> String {
    crate::tool::scenario(backend, load, more)
}

pub(crate) const GATE: &str = "slos: { errors: error count == 0 }\n";

#[track_caller]
fn reason(ended: &Ended) -> String {
    let report = ended.report();
    report["cells"][0]["runs"][0]["reason"]
        .as_str()
        .unwrap_or_else(|| panic!("no reason in {report:#}"))
        .to_owned()
}

// ---- the whole path ----------------------------------------------------------------------------------------------------------

#[test]
fn an_engine_is_started_measured_and_stopped() {
    let mark = Mark::new("whole");
    let text = scenario(&direct(&mark, "", ""), TEN, GATE);
    let ended = Desk::new().run(&text, &[]).with_code(0);
    mark.nothing_is_left();
    let report = ended.report();
    assert_eq!(report["status"], "passed");
    let engine = &report["environment"]["engines"][0];
    assert!(engine["cold_start_s"].as_f64().unwrap() > 0.0, "{engine}");
    let command = engine["command"].as_str().unwrap();
    assert!(command.contains(" mock --port "), "{command}");
    let log = ended.text("engine-engine.log");
    assert!(log.starts_with(&format!("$ {command}")), "{log}");
    assert!(log.contains("simulated engine"), "{log}");
    assert!(ended.err.contains("is ready"), "{}", ended.err);
}

#[test]
fn cells_share_an_engine_and_its_cache_is_reset_between_them() {
    let mark = Mark::new("shared");
    let loads = format!("load: {{ a: {TEN}, b: {TEN} }}\n");
    let backend = direct(&mark, "", "").replacen("openai", "vllm", 1);
    let text = format!(
        "version: 1\nbackends: {{ engine: {backend} }}\nmodels: {{ m: any }}\n{loads}request: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s, repeats: 2 }}\n{CALM}"
    );
    let desk = Desk::new();
    desk.write("trial.yaml", &text);
    let planned = desk.tool(&["plan", "trial.yaml"]).with_code(0).out;
    assert!(planned.contains("engines, started once"), "{planned}");
    let ended = desk.run(&text, &[]).with_code(0);
    let log = ended.text("engine-engine.log");
    assert_eq!(log.matches("simulated engine").count(), 1, "{log}");
    let report = ended.report();
    let resets = report["cells"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|cell| cell["runs"].as_array().unwrap())
        .flat_map(|run| run["events"].as_array().unwrap())
        .filter(|event| event["kind"] == "cache_reset");
    assert_eq!(resets.count(), 3);
}

#[test]
fn a_lifetime_of_a_level_or_a_cell_starts_the_engine_anew() {
    for (lifetime, starts) in [("level", 3), ("cell", 1)] {
        let mark = Mark::new(lifetime);
        let backend = direct(&mark, &format!("lifetime: {lifetime}"), "");
        let levels = "{ levels: { users: [1, 2, 3], requests: 9, warmup: 0s } }";
        let desk = Desk::new();
        let text = scenario(&backend, levels, GATE);
        let ended = desk.run(&text, &[]).with_code(0);
        let log = ended.text("engine-engine.log");
        assert_eq!(log.matches("simulated engine").count(), starts, "{log}");
        let planned = desk.tool(&["plan", "trial.yaml"]).with_code(0).out;
        let told = if starts == 1 {
            "once"
        } else {
            "3 times in all"
        };
        assert!(
            planned.contains(&format!("engines, started {told}")),
            "{planned}"
        );
        mark.nothing_is_left();
    }
}

#[test]
fn between_two_engines_the_commands_run_and_only_one_engine_stands() {
    let (first, second) = (Mark::new("first"), Mark::new("second"));
    let desk = Desk::new();
    let text = format!(
        "version: 1\nbackends:\n  a: {}\n  b: {}\nmodels: {{ m: any }}\nload: {{ l: {TEN} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s, between: [[sh, -c, \"echo changed; ! grep -la {} /proc/[0-9]*/cmdline | grep -v $$\"]] }}\n{CALM}",
        direct(&first, "", ""),
        direct(&second, "", ""),
        // In two parts, so that the command does not find itself.
        first.0.replacen("mark-", "[m]ark-", 1),
    );
    let ended = desk.run(&text, &[]).with_code(0);
    let log = ended.text("between.log");
    assert_eq!(log.matches("\nchanged").count(), 1, "{log}");
}

#[test]
fn a_command_that_fails_between_two_engines_is_a_reason_not_to_measure() {
    let mark = Mark::new("between");
    let text = format!(
        "version: 1\nbackends:\n  a: {{ kind: simulator, preset: fast }}\n  b: {}\nmodels: {{ m: any }}\nload: {{ l: {TEN} }}\n\
         request: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s, between: [[sh, -c, \"echo no right >&2; exit 4\"]] }}\n\
         slos: {{ errors: error count == 0 }}\n{CALM}",
        direct(&mark, "", "")
    );
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let report = ended.report();
    let why = report["cells"][1]["runs"][0]["reason"].as_str().unwrap();
    assert!(
        why.contains("exit code 4") && why.contains("| no right"),
        "{why}"
    );
    assert_eq!(report["cells"][0]["runs"][0]["status"], "complete");
    mark.nothing_is_left();
}

#[test]
fn up_and_down_commands_stand_around_the_cells_of_an_attached_backend() {
    let mark = Mark::new("hooks");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let desk = Desk::new();
    let engine = mock(&mark, "").replace("{port}", &port.to_string());
    let pid = desk.path("pid");
    // An engine that outlives its `up`, like one that another supervisor holds: `down` must end it.
    let up = format!(
        "setsid {engine} >/dev/null 2>&1 & echo $! > {}",
        pid.display()
    );
    let text = scenario(
        &format!(
            "{{ kind: openai, url: \"http://127.0.0.1:{port}\", up: [sh, up.sh], down: [sh, down.sh] }}"
        ),
        TEN,
        GATE,
    );
    desk.write("up.sh", &format!("{up}\n"));
    desk.write(
        "down.sh",
        &format!("kill $(cat {}); echo taken down\n", pid.display()),
    );
    let ended = desk.run(&text, &[]).with_code(0);
    let log = ended.text("engine-engine.log");
    assert!(log.contains("taken down"), "{log}");
    mark.until_nothing_is_left();
}

#[test]
fn what_a_failed_up_has_started_is_not_left() {
    let mark = Mark::new("half-up");
    let desk = Desk::new();
    let engine = mock(&mark, "").replace("{port}", "0");
    desk.write(
        "up.sh",
        &format!("setsid {engine} >/dev/null 2>&1 &\ntouch begun\nexit 5\n"),
    );
    let backend = "{ kind: openai, url: \"http://127.0.0.1:1\", up: [sh, up.sh] }";
    let ended = desk.run(&scenario(backend, TEN, GATE), &[]).with_code(3);
    let why = reason(&ended);
    assert!(why.contains("exit code 5"), "{why}");
    assert!(desk.path("begun").exists());
    mark.nothing_is_left();
}

// ---- ready means ready -------------------------------------------------------------------------------------------------------

#[test]
fn a_program_that_is_not_there_is_told_at_once() {
    let text = scenario(
        "{ kind: openai, launch: { command: [no-such-engine, \"{port}\"] } }",
        TEN,
        GATE,
    );
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let why = reason(&ended);
    assert!(why.contains("`no-such-engine` is not on the PATH"), "{why}");
    let text = scenario(
        "{ kind: openai, launch: { command: [./serve, \"{port}\"], cwd: nowhere } }",
        TEN,
        GATE,
    );
    let why = reason(&Desk::new().run(&text, &[]).with_code(3));
    assert!(
        why.contains("there is no folder `nowhere`: correct `cwd`"),
        "{why}"
    );
}

#[test]
fn an_engine_that_ends_while_it_loads_is_told_with_its_last_words() {
    let mark = Mark::new("loading");
    let text = scenario(
        &script(
            &mark,
            "echo loading weights; echo CUDA out of memory >&2; exit 7 # {port}",
            "",
        ),
        TEN,
        GATE,
    );
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let why = reason(&ended);
    assert!(why.contains("ended with exit code 7"), "{why}");
    assert!(
        why.contains("\n| loading weights\n| CUDA out of memory"),
        "{why}"
    );
    // The verdicts say it in a line.
    let report = ended.report();
    let told = verdict(&report, "errors @c2")["reason"]["text"]
        .as_str()
        .unwrap();
    assert!(
        told.contains("exit code 7") && !told.contains('\n'),
        "{told}"
    );
    assert!(ended.out.contains("| CUDA out of memory"), "{}", ended.out);
    mark.nothing_is_left();
}

#[test]
fn an_engine_that_is_never_ready_is_stopped_when_its_time_is_over() {
    let mark = Mark::new("never");
    let text = scenario(
        &script(
            &mark,
            "echo still thinking; sleep 600 # {port}",
            "ready: { timeout: 1s }",
        ),
        TEN,
        GATE,
    );
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let why = reason(&ended);
    assert!(why.contains("is not ready after 1s"), "{why}");
    assert!(why.contains("Connection refused"), "{why}");
    assert!(why.contains("| still thinking"), "{why}");
    mark.nothing_is_left();
}

#[test]
fn a_server_that_answers_503_is_still_loading() {
    let mark = Mark::new("503");
    let slow = |ms: u32, timeout: &str| {
        let backend = script(
            &mark,
            &format!("exec {}", mock(&mark, &format!("--fault loading:ms={ms}"))),
            &format!("ready: {{ path: /health, timeout: {timeout} }}"),
        );
        Desk::new().run(&scenario(&backend, TEN, GATE), &[])
    };
    let ended = slow(600_000, "1s").with_code(3);
    let why = reason(&ended);
    assert!(
        why.contains("/health answers 503: it is still loading"),
        "{why}"
    );
    let ended = slow(700, "60s").with_code(0);
    let cold = ended.report()["environment"]["engines"][0]["cold_start_s"].clone();
    assert!(cold.as_f64().unwrap() > 0.7, "{cold}");
    mark.nothing_is_left();
}

#[test]
fn a_port_that_another_program_holds_is_told_with_its_holder() {
    let mark = Mark::new("held");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = scenario(&direct(&mark, &format!("port: {port}"), ""), TEN, GATE);
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let why = reason(&ended);
    assert!(
        why.contains(&format!(
            "wants port {port}, which is held by another program"
        )),
        "{why}"
    );
    assert!(
        why.contains(&format!("process {}", std::process::id())),
        "{why}"
    );

    // The same port, free again, is taken.
    drop(listener);
    Desk::new().run(&text, &[]).with_code(0);
    mark.nothing_is_left();
}

#[test]
fn a_program_that_answers_on_the_engines_port_is_not_the_engine() {
    let (mark, other) = (Mark::new("impostor"), Mark::new("answers"));
    // The launched command never listens; what answers on its port was started by somebody else.
    let text = scenario(
        &script(&mark, "echo {port} > port; sleep 600", ""),
        TEN,
        GATE,
    );
    let desk = Desk::new();
    let running = desk.start_run(&text, &[], &[]);
    let file = desk.path("port");
    until("the port is known", || {
        fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    });
    let port = fs::read_to_string(&file).unwrap();
    let words = mock(&other, "").replace("{port}", port.trim());
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut impostor = std::process::Command::new(words[0])
        .args(&words[1..])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ended = running.end();
    let _ = impostor.kill();
    let _ = impostor.wait();
    let why = reason(&ended.with_code(3));
    assert!(why.contains("was taken by `scenario`"), "{why}");
    mark.nothing_is_left();
}

#[test]
fn an_engine_must_list_the_model_and_stream_a_token() {
    let mark = Mark::new("listed");
    let listed = script(
        &mark,
        &format!("exec {} mock --port {{port}} --model other", mock_program()),
        "ready: { model_listed: true }",
    );
    let ended = Desk::new()
        .run(&scenario(&listed, TEN, GATE), &[])
        .with_code(3);
    let why = reason(&ended);
    assert!(why.contains("`other` and not `any`"), "{why}");

    let silent = script(
        &mark,
        &format!("exec {}", mock(&mark, "--fault empty")),
        "ready: { timeout: 1s }",
    );
    let ended = Desk::new()
        .run(&scenario(&silent, TEN, GATE), &[])
        .with_code(3);
    let why = reason(&ended);
    assert!(
        why.contains("a first request brings no token (empty)"),
        "{why}"
    );
    mark.nothing_is_left();
}

// ---- nothing survives --------------------------------------------------------------------------------------------------------

/// An engine with a child in another session, which no signal to its group reaches.
pub(crate) fn with_a_stray_child(mark: &Mark) -> String {
    let stray = format!("setsid sh -c 'sleep 86400' {} &", mark.0);
    script(mark, &format!("{stray} {}", mock(mark, "")), "")
}

#[test]
fn a_child_that_has_left_the_group_of_its_engine_goes_with_it() {
    let mark = Mark::new("stray");
    let text = scenario(&with_a_stray_child(&mark), TEN, GATE);
    Desk::new().run(&text, &[]).with_code(0);
    mark.nothing_is_left();
}

#[test]
fn a_runner_that_is_killed_takes_its_engine_and_all_below_it_with_it() {
    let mark = Mark::new("killed");
    let desk = Desk::new();
    let running = desk.start_run(&scenario(&with_a_stray_child(&mark), LONG, GATE), &[], &[]);
    running.until_requests(10);
    // The guard, the shell, the engine, and the child that has left the group.
    assert!(mark.processes().len() >= 4, "{:?}", mark.processes());
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    mark.until_nothing_is_left();
    assert!(
        fs::read_to_string(desk.path("results/requests.ndjson"))
            .unwrap()
            .lines()
            .count()
            > 10
    );
}

#[test]
fn a_guard_that_is_killed_takes_its_engine_with_it() {
    let mark = Mark::new("guard");
    let desk = Desk::new();
    let running = desk.start_run(&scenario(&direct(&mark, "", ""), LONG, GATE), &[], &[]);
    running.until_requests(10);
    let engine = mark.engine().expect("an engine runs");
    let guards = mark.processes().into_iter().filter(|pid| *pid != engine);
    guards.for_each(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
    let ended = running.end();
    assert!(matches!(ended.code, Some(1 | 3)), "{:?}", ended.code);
    assert!(
        reason(&ended).contains("with the guard that held it"),
        "{}",
        reason(&ended)
    );
    mark.until_nothing_is_left();
}

#[test]
fn ctrl_c_while_an_engine_loads_stops_it_and_reports() {
    let mark = Mark::new("interrupted-loading");
    let desk = Desk::new();
    let text = scenario(&script(&mark, "sleep 86400 # {port}", ""), TEN, GATE);
    let running = desk.start_run(&text, &[], &[]);
    until("the engine loads", || mark.processes().len() >= 2);
    running.signal(Signal::SIGINT);
    let ended = running.end().with_code(130);
    mark.nothing_is_left();
    assert_eq!(ended.report()["status"], "interrupted");
}

#[test]
fn ctrl_c_while_it_is_loaded_stops_it_and_keeps_the_results() {
    let mark = Mark::new("interrupted-running");
    let desk = Desk::new();
    let running = desk.start_run(&scenario(&direct(&mark, "", ""), LONG, GATE), &[], &[]);
    running.until_requests(10);
    running.signal(Signal::SIGINT);
    let ended = running.end().with_code(130);
    mark.nothing_is_left();
    assert_eq!(
        ended.report()["cells"][0]["runs"][0]["status"],
        "interrupted"
    );
    assert!(ended.requests().rows.len() >= 10);
}

/// An engine that serves, and whose shell stays when it is asked to stop.
pub(crate) fn stubborn(mark: &Mark, grace: &str) -> String {
    let serve = mock(mark, "");
    let script_text =
        format!("trap 'echo not yet' TERM; {serve}; touch stopping; while :; do sleep 0.1; done");
    script(mark, &script_text, &format!("stop: {{ grace: {grace} }}"))
}

#[test]
fn an_engine_that_knows_nothing_of_signals_stops_at_the_first() {
    let mark = Mark::new("default");
    let serve = mock(&mark, "");
    let ended = Desk::new()
        .run(
            &scenario(&script(&mark, &format!("{serve} & wait"), ""), TEN, GATE),
            &[],
        )
        .with_code(0);
    mark.nothing_is_left();
    assert!(!ended.err.contains("ignored"), "{}", ended.err);
    assert!(!ended.err.contains("in order"), "{}", ended.err);
}

#[test]
fn an_engine_that_ignores_the_signal_is_killed_after_its_grace() {
    let mark = Mark::new("ignores");
    let ended = Desk::new()
        .run(&scenario(&stubborn(&mark, "300ms"), TEN, GATE), &[])
        .with_code(0);
    mark.nothing_is_left();
    assert!(
        ended
            .err
            .contains("ignored SIGTERM for 300ms and was killed"),
        "{}",
        ended.err
    );
}

#[test]
fn two_ctrl_c_while_an_engine_stops_leave_nothing_behind() {
    let mark = Mark::new("interrupted-stopping");
    let desk = Desk::new();
    let mut running = desk.start_run(&scenario(&stubborn(&mark, "1h"), TEN, GATE), &[], &[]);
    until("the engine is asked to stop", || {
        desk.path("stopping").exists()
    });
    running.signal_until_it_ends(Signal::SIGINT);
    assert_eq!(running.end().code, Some(130));
    mark.until_nothing_is_left();
}

#[test]
fn ctrl_c_between_two_engines_ends_what_runs_there_and_keeps_the_results() {
    let (first, second) = (Mark::new("before"), Mark::new("behind"));
    let desk = Desk::new();
    let text = format!(
        "version: 1\nbackends:\n  a: {}\n  b: {}\nmodels: {{ m: any }}\nload: {{ l: {TEN} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s, between: [[sh, -c, \"touch changing; exec sleep 86400 # $0\", {}]] }}\n{CALM}",
        direct(&first, "", ""),
        direct(&second, "", ""),
        first.0,
    );
    let running = desk.start_run(&text, &[], &[]);
    until("the command runs", || desk.path("changing").exists());
    running.signal(Signal::SIGINT);
    let ended = running.end().with_code(130);
    first.until_nothing_is_left();
    second.nothing_is_left();
    let report = ended.report();
    assert_eq!(report["cells"][0]["runs"][0]["status"], "complete");
    assert_eq!(report["cells"][1]["runs"][0]["status"], "skipped");
    assert!(ended.requests().rows.len() >= 10);
}

#[test]
fn an_engine_that_dies_under_load_ends_its_cell_and_keeps_the_results() {
    let mark = Mark::new("dies");
    let desk = Desk::new();
    let more = "slos: { errors: error rate < 100% }\n";
    let running = desk.start_run(&scenario(&direct(&mark, "", ""), LONG, more), &[], &[]);
    running.until_requests(10);
    kill(Pid::from_raw(mark.engine().unwrap()), Signal::SIGKILL).unwrap();
    let ended = running.end();
    assert!(matches!(ended.code, Some(1 | 3)), "{:?}", ended.code);
    mark.nothing_is_left();
    let report = ended.report();
    assert_eq!(report["cells"][0]["runs"][0]["status"], "engine_died");
    assert!(
        reason(&ended).contains("was killed by SIGKILL"),
        "{}",
        reason(&ended)
    );
    assert_eq!(verdict(&report, "errors @c2")["status"], "inconclusive");
    assert!(ended.requests().rows.len() >= 10);
}

#[test]
fn an_engine_that_has_died_is_started_anew_for_the_next_cell() {
    let mark = Mark::new("revived");
    let desk = Desk::new();
    let backend = direct(&mark, "", "");
    let text = format!(
        "version: 1\nbackends: {{ engine: {backend} }}\nmodels: {{ m: any }}\nload: {{ a: {LONG}, b: {TEN} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    let running = desk.start_run(&text, &[], &[]);
    running.until_requests(10);
    kill(Pid::from_raw(mark.engine().unwrap()), Signal::SIGKILL).unwrap();
    let ended = running.end();
    let report = ended.report();
    assert_eq!(report["cells"][0]["runs"][0]["status"], "engine_died");
    assert_eq!(report["cells"][1]["runs"][0]["status"], "complete");
    let events = report["cells"][1]["runs"][0]["events"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["kind"] == "engine_restarted"),
        "{events:?}"
    );
    mark.nothing_is_left();
}

#[test]
fn an_engine_that_dies_when_it_is_asked_to_stop_is_told() {
    let mark = Mark::new("dies-at-stop");
    let serve = mock(&mark, "");
    let text = format!(
        "{serve} & trap 'echo double free >&2; exit 134' TERM; while :; do sleep 0.05; done"
    );
    let ended = Desk::new()
        .run(&scenario(&script(&mark, &text, ""), TEN, GATE), &[])
        .with_code(0);
    mark.nothing_is_left();
    assert!(ended.err.contains("did not stop in order"), "{}", ended.err);
    assert!(ended.err.contains("exit code 134"), "{}", ended.err);
    assert!(ended.err.contains("| double free"), "{}", ended.err);
}

// ---- three backends ----------------------------------------------------------------------------------------------------------

#[test]
fn a_launched_engine_the_simulator_and_a_dead_port_are_compared() {
    let mark = Mark::new("three");
    let text = |optional: bool| {
        format!(
            "version: 1\nbackends:\n  engine: {}\n  sim: {{ kind: simulator, preset: fast }}\n  \
             gone: {{ kind: vllm, url: \"{}\", optional: {optional}, ready: {{ timeout: 300ms }} }}\n\
             models: {{ m: any }}\nload: {{ l: {TEN} }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n\
             slos:\n  errors: error count == 0\n  alike: sim.output_tps > 0.0001 * engine.output_tps\n{CALM}",
            direct(&mark, "", ""),
            nobody(),
        )
    };
    for (optional, third, code) in [(true, "skipped", 0), (false, "inconclusive", 3)] {
        let ended = Desk::new().run(&text(optional), &[]).with_code(code);
        let report = ended.report();
        let of = |backend: &str| -> Vec<String> {
            let verdicts = report["verdicts"].as_array().unwrap();
            verdicts
                .iter()
                .filter(|verdict| verdict["id"] == "errors")
                .filter(|verdict| {
                    verdict["cells"][0]
                        .as_str()
                        .is_some_and(|cell| cell.starts_with(backend))
                })
                .map(|verdict| verdict["status"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(of("engine/"), ["pass"]);
        assert_eq!(of("sim/"), ["pass"]);
        assert_eq!(of("gone/"), [third]);
        mark.nothing_is_left();
    }
}

// ---- GPUs of another host ----------------------------------------------------------------------------------------------------

/// A page that is served to whoever asks, as long as the test runs.
fn served(page: &'static str) -> String {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                page.len()
            );
            let _ = socket.write_all(format!("{head}{page}").as_bytes());
        }
    });
    format!("http://{address}/metrics")
}

/// A page that says who it is in each engine's own way.
const WHO: &str = r#"{"data":[{"id":"any"}],"build_info":"b11434-1"}"#;

#[test]
fn an_engine_that_has_no_page_of_its_version_tells_it_in_its_own_place() {
    let engine = format!(
        "{{ kind: llama.cpp, url: \"{}\" }}",
        served(WHO).trim_end_matches("/metrics")
    );
    let ended = Desk::new().run(&scenario(&engine, TEN, ""), &[]);
    let report = ended.report();
    assert_eq!(report["environment"]["engines"][0]["version"], "b11434-1");
}

#[test]
fn gpus_of_another_host_are_read_from_its_dcgm_exporter() {
    let url = served(
        "DCGM_FI_DEV_POWER_USAGE{gpu=\"0\",modelName=\"NVIDIA H100\"} 300\n\
         DCGM_FI_DEV_POWER_USAGE{gpu=\"1\",modelName=\"NVIDIA H100\"} 200\n",
    );
    let mark = Mark::new("dcgm");
    let gated = |device: u32| {
        let gpus = format!("gpus: {{ dcgm: \"{url}\", devices: [{device}] }}");
        let load = "{ levels: { users: 2, for: 3s, warmup: 0s } }";
        let text = scenario(
            &direct(&mark, "", &gpus),
            load,
            "telemetry: { every: 100ms }\nslos: { power: max gpu.power < 250 W }\n",
        );
        Desk::new().run(&text, &[])
    };
    let ended = gated(0).with_code(1);
    assert_eq!(
        ended.report()["environment"]["gpus"][0]["name"],
        "NVIDIA H100"
    );
    gated(1).with_code(0);
    // The same for every backend that says nothing of its GPUs.
    let text = scenario(
        &direct(&mark, "", ""),
        "{ levels: { users: 2, for: 3s, warmup: 0s } }",
        &format!(
            "telemetry: {{ every: 100ms, dcgm: \"{url}\" }}\nslos: {{ power: \"mean gpu.power{{gpu=1}} < 250 W\" }}\n"
        ),
    );
    Desk::new().run(&text, &[]).with_code(0);
    let missing = gated(5);
    assert!(missing.out.contains("tells of no GPU 5"), "{}", missing.out);
}
