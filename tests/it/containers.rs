//! Containers, with a stand-in for `docker` on the PATH: it notes how it was called, and `run` becomes the mock engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::tool::{Desk, Ended, Running, scenario, until};

const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";
const GATE: &str = "slos: { errors: error count == 0 }\n";

/// Puts a `docker` into the folder whose `run` does what `run` says; `$port` is the port that it publishes.
fn stand_in(desk: &Desk, run: &str) {
    let path = desk.write(
        "docker",
        &format!(
            "#!/bin/sh\necho \"$@\" >> calls\nport=$(echo \"$*\" | sed -n 's/.*--publish 127.0.0.1:\\([0-9]*\\):.*/\\1/p')\n\
             case $1 in\nrun) {run} ;;\nrm) echo \"$3\" ;;\nesac\n"
        ),
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn started(desk: &Desk, load: &str) -> Running {
    let backend = "{ kind: openai, launch: { docker: { image: \"img:1\", command: [serve, --port, \"{port}\"] } } }";
    let path = format!(
        "{}:{}",
        desk.path("").display(),
        std::env::var("PATH").unwrap()
    );
    let text = scenario(backend, load, GATE);
    desk.start_run(&text, &[], &[("PATH", &path)])
}

fn calls(desk: &Desk) -> Vec<String> {
    let text = fs::read_to_string(desk.path("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn mock() -> String {
    format!("exec {} mock --port $port", env!("CARGO_BIN_EXE_scenario"))
}

#[track_caller]
fn reason(ended: &Ended) -> String {
    let run = &ended.report()["cells"][0]["runs"][0];
    run["reason"].as_str().unwrap().to_owned()
}

/// What is removed is the container that was run.
#[track_caller]
fn was_removed(desk: &Desk) {
    let calls = calls(desk);
    let name = calls[0].split(' ').nth(3).unwrap();
    assert!(name.starts_with("scenario-engine-"), "{calls:?}");
    assert_eq!(calls[1..], [format!("rm --force {name}")]);
}

#[test]
fn a_container_is_run_measured_and_removed() {
    let desk = Desk::new();
    stand_in(&desk, &mock());
    let ended = started(&desk, TEN).end().with_code(0);
    was_removed(&desk);
    let run = &calls(&desk)[0];
    assert!(run.starts_with("run --rm --name scenario-engine-"), "{run}");
    assert!(run.ends_with(":8000 img:1 serve --port 8000"), "{run}");
    assert!(ended.text("engine-engine.log").contains("simulated engine"));
}

#[test]
fn a_container_is_removed_when_the_runner_is_killed() {
    let desk = Desk::new();
    stand_in(&desk, &mock());
    let running = started(&desk, "{ levels: { users: 2, for: 10m, warmup: 0s } }");
    running.until_requests(10);
    running.signal(Signal::SIGKILL);
    running.end();
    until("the container is removed", || calls(&desk).len() == 2);
    was_removed(&desk);
}

#[test]
fn a_container_is_removed_when_the_run_is_interrupted_or_killed_while_it_loads() {
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let desk = Desk::new();
        stand_in(&desk, "exec sleep 86400");
        let running = started(&desk, TEN);
        until("the container is run", || calls(&desk).len() == 1);
        running.signal(signal);
        assert_eq!(running.end().code, code);
        until("the container is removed", || calls(&desk).len() == 2);
        was_removed(&desk);
    }
}

#[test]
fn a_missing_image_is_told_in_the_words_of_docker() {
    let desk = Desk::new();
    let say =
        "echo \"docker: Error response from daemon: pull access denied for img\" >&2; exit 125";
    stand_in(&desk, say);
    let why = reason(&started(&desk, TEN).end().with_code(3));
    assert!(why.contains("ended with exit code 125"), "{why}");
    assert!(
        why.contains("| docker: Error response from daemon: pull access denied"),
        "{why}"
    );
    was_removed(&desk);
}

#[test]
fn a_machine_without_docker_is_told_so() {
    let desk = Desk::new();
    let backend = "{ kind: vllm, launch: { docker: \"vllm/vllm-openai:v0.11.0\" } }";
    let text = scenario(backend, TEN, GATE);
    let empty = desk.path("").display().to_string();
    let ended = desk
        .start_run(&text, &[], &[("PATH", &empty)])
        .end()
        .with_code(3);
    let why = reason(&ended);
    assert!(why.contains("`docker` is not on the PATH"), "{why}");
}
