//! What `check` and `list` tell of a file beyond its mistakes: its profiles, its commands, and that it is a part of others.

use crate::tool::Desk;

const GATE: &str = "\
version: 1
backends:
  vllm: { url: http://localhost:8000, up: [docker, compose, up, -d, my engine], down: [docker, compose, stop] }
  sglang: { kind: sglang, launch: { command: [my-server, --port, \"{port}\"] } }
models: { m: m }
load: { steady: { levels: { users: [4, 8], for: 60s } } }
run: { between: [[sync]] }
slos: { ttft: P95 TTFT < 1s, faster: sglang.output_tps >= 1.2 * vllm.output_tps }
profiles:
  smoke: { load: { steady: { levels: { users: 1, for: 60s } } }, slos: { faster: null } }
";

#[test]
fn a_check_tells_what_would_run_and_what_each_profile_comes_to() {
    let desk = Desk::new();
    desk.write("gate.yaml", GATE);
    let ended = desk.tool(&["check", "gate.yaml"]).with_code(0);
    assert_eq!(
        ended.out,
        "gate.yaml: ok: 2 cells, 2 SLOs\n\
         \x20 with --profile smoke: 2 cells, 1 SLO\n\
         \x20 runs backends.vllm.up: docker compose up -d 'my engine'\n\
         \x20 runs backends.vllm.down: docker compose stop\n\
         \x20 runs backends.sglang.launch: my-server --port '{port}'\n\
         \x20 runs run.between: sync\n"
    );
    let ended = desk
        .tool(&["check", "gate.yaml", "--profile", "smoke"])
        .with_code(0);
    assert!(
        ended
            .out
            .starts_with("gate.yaml: ok: 2 cells, 1 SLO\n  runs "),
        "{}",
        ended.out
    );
}

/// What is asked of the file as it stands is not asked of its profiles, and what only they would run is told, too.
#[test]
fn a_profile_is_looked_at_as_a_whole() {
    let desk = Desk::new();
    let text = GATE.replace(
        "profiles:\n",
        "profiles:\n  ci: { matrix: { backend: [vllm] }, slos: { faster: null }, run: { between: [[curl, -X, POST, prod]] } }\n",
    );
    desk.write("gate.yaml", &text);
    let ended = desk
        .tool(&["check", "gate.yaml", "--only", "sglang"])
        .with_code(0);
    assert_eq!(
        ended.out,
        "gate.yaml: ok: 1 cell, 1 SLO\n\
         \x20 with --profile ci: 1 cell, 1 SLO\n\
         \x20 with --profile smoke: 2 cells, 1 SLO\n\
         \x20 runs backends.sglang.launch: my-server --port '{port}'\n\
         \x20 runs run.between: sync\n\
         \x20 with --profile ci runs backends.vllm.up: docker compose up -d 'my engine'\n\
         \x20 with --profile ci runs backends.vllm.down: docker compose stop\n\
         \x20 with --profile ci runs run.between: curl -X POST prod\n\
         \x20 with --profile smoke runs backends.vllm.up: docker compose up -d 'my engine'\n\
         \x20 with --profile smoke runs backends.vllm.down: docker compose stop\n"
    );
}

#[test]
fn a_mistake_of_a_profile_is_told_once_with_its_name() {
    let desk = Desk::new();
    let wrong = GATE.replace(
        "slos: { faster: null } }",
        "slos: { faster: null, slow: \"P95 TTFT{stage=c4} < 1s\" } }",
    );
    desk.write("gate.yaml", &wrong);
    let ended = desk.tool(&["check", "gate.yaml"]).with_code(2);
    assert_eq!(ended.err.matches("error[").count(), 1, "{}", ended.err);
    assert_eq!(ended.out, "");
    assert!(
        ended.err.starts_with("gate.yaml:10:")
            && ended.err.contains("so it is with `--profile smoke`"),
        "{}",
        ended.err
    );
    let ended = desk
        .tool(&["check", "gate.yaml", "--format", "json"])
        .with_code(2);
    assert!(ended.out.contains("--profile smoke"), "{}", ended.out);
}

#[test]
fn a_list_tells_parts_from_mistakes() {
    let desk = Desk::new();
    desk.write("a-base.yaml", "version: 1\nname: base\nowner: platform\ndescription: For all\nbackends: { vllm: \"http://localhost:8000\" }\n");
    desk.write(
        "b-library.yaml",
        "version: 1\nprompts: { p: { source: inline, prompts: [Hello] } }\n",
    );
    desk.write(
        "c-team.yaml",
        "extends: a-base.yaml\nload: { l: { batch: { size: all } } }\n",
    );
    let listed = desk.tool(&["list", "."]).with_code(0).out;
    let row = |name: &str| {
        let line = listed.lines().find(|line| line.contains(name)).unwrap();
        line.split('|').map(str::trim).collect::<Vec<_>>().join("|")
    };
    assert_eq!(
        row("a-base.yaml"),
        "|./a-base.yaml|base|platform|||For all (a part: others extend or include it)|"
    );
    assert_eq!(
        row("b-library.yaml"),
        "|./b-library.yaml|||||a part: others extend or include it|"
    );
    assert!(row("c-team.yaml").starts_with("|./c-team.yaml|base|platform|1|"));
    desk.write(
        "d-wrong.yaml",
        "version: 1\nbackends: {}\nload: { l: { batch: { size: al } } }\n",
    );
    let listed = desk.tool(&["list", "."]).with_code(2).out;
    assert!(listed.contains("does not check"), "{listed}");
}
