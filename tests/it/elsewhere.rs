//! What moves: bundles that run elsewhere, bases on other hosts, and what changes between two scenarios.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::tls::Front;
use crate::tool::{CALM, Desk};

const TEAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/scenarios/teams/search/a100-llama.yaml"
);

const BASE: &str = "version: 1\nname: trial\nbackends: { sim: { kind: simulator } }\nmodels: { m: m }\n\
    load: { l: { levels: { users: 1, requests: 3 } } }\nrequest: { max_tokens: 4 }\nrun: { warmup: 0s, cooldown: 0s }\n";

/// The digest of the plan, by which two scenarios send the same.
fn digest(desk: &Desk, words: &[&str]) -> String {
    let mut all = vec!["plan"];
    all.extend(words);
    let planned = desk.tool(&all).with_code(0).out;
    let at = planned.find(" · plan ").unwrap();
    planned[at + 10..].lines().next().unwrap().to_owned()
}

#[test]
fn a_bundle_plans_and_runs_what_its_scenario_does() {
    let desk = Desk::new();
    let bundle = |out: &str| {
        desk.tool(&["bundle", TEAM, "--profile", "smoke", "-o", out])
            .with_code(0)
    };
    bundle("a.tar");
    bundle("b.tar");
    let bytes = |name: &str| std::fs::read(desk.path(name)).unwrap();
    assert_eq!(bytes("a.tar"), bytes("b.tar"));
    assert_eq!(
        digest(&desk, &["a.tar"]),
        digest(&desk, &[TEAM, "--profile", "smoke"])
    );
    let ended = desk.tool(&[
        "run",
        "a.tar",
        "--simulate",
        "--smoke",
        "--out",
        "results",
        "--exit-zero",
    ]);
    let report = ended.with_code(0).report();
    assert_eq!(report["scenario"]["name"], "a100-llama");
}

#[test]
fn a_bundle_brings_its_data_sets_and_no_secret() {
    let desk = Desk::new();
    let secret = "sk-0123456789-not-in-a-bundle";
    let file = format!(
        "{BASE}secrets: {{ token: {{ env: BUNDLE_TOKEN }} }}\n\
         prompts: {{ p: {{ source: file, path: data/lines.txt }} }}\nbaseline: {{ file: none.json, missing: skip }}\n"
    )
    .replace("kind: simulator", "kind: simulator, headers: { X-Key: \"Token ${{ secrets.token }}\" }");
    desk.write("trial.yaml", &file);
    std::fs::create_dir(desk.path("data")).unwrap();
    desk.write("data/lines.txt", "Hello\nName three rivers\n");
    let variables = [("BUNDLE_TOKEN", secret)];
    let words = ["bundle", "trial.yaml", "-o", "trial.tar"];
    desk.start(&words, &variables).end().with_code(0);
    let bytes = std::fs::read(desk.path("trial.tar")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(secret));
    assert!(text.contains("Name three rivers"), "{text}");
    assert!(text.contains("path: files/1-lines.txt"), "{text}");
    assert!(text.contains("${{ secrets.token }}"), "{text}");
    // Elsewhere, without the folder of data.
    let other = Desk::new();
    std::fs::copy(desk.path("trial.tar"), other.path("trial.tar")).unwrap();
    let words = ["run", "trial.tar", "--out", "results"];
    let ended = other.start(&words, &variables).end().with_code(0);
    assert_eq!(ended.report()["cells"].as_array().unwrap().len(), 1);
    // A data set that holds the secret is not packed.
    desk.write("data/lines.txt", &format!("Hello {secret}\n"));
    let refused = desk
        .start(&["bundle", "trial.yaml", "-o", "other.tar"], &variables)
        .end();
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .err
            .contains("prompts.p.path holds the value of a secret"),
        "{}",
        refused.err
    );
    assert!(!desk.path("other.tar").exists());
}

/// What is fetched is packed; what belongs to a machine is named.
#[test]
fn a_bundle_brings_what_was_fetched_and_tells_what_it_does_not_bring() {
    let desk = Desk::new();
    let lines = "Hello\nName three rivers\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/data/lines.txt?signed=a/b");
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            head.push(byte[0]);
        }
        let length = lines.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{lines}"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let sha256: String = Sha256::digest(lines)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = format!(
        "{BASE}prompts: {{ p: {{ source: file, path: \"{url}\", sha256: {sha256} }} }}\n\
         matrix: {{ backend: [sim] }}\n"
    )
    .replace(
        "sim: { kind: simulator }",
        "sim: { kind: simulator }, own: { kind: vllm, launch: { python: /opt/venv, cwd: /srv } }",
    );
    desk.write("trial.yaml", &file);
    let cache = desk.path("cache");
    let variables = [("XDG_CACHE_HOME", cache.to_str().unwrap())];
    let words = ["bundle", "trial.yaml", "-o", "trial.tar"];
    let told = desk.start(&words, &variables).end().with_code(0).out;
    served.join().unwrap();
    assert_eq!(
        told,
        "trial.tar: trial and 1 file of it\n\
         \x20 not in it, and needed where it runs: backends.own.launch.python: /opt/venv\n\
         \x20 not in it, and needed where it runs: backends.own.launch.cwd: /srv\n"
    );
    // Elsewhere, with an empty cache and nobody at the address.
    let other = Desk::new();
    std::fs::copy(desk.path("trial.tar"), other.path("trial.tar")).unwrap();
    let cache = other.path("cache");
    let variables = [("XDG_CACHE_HOME", cache.to_str().unwrap())];
    let words = ["run", "trial.tar", "--allow-exec", "--out", "results"];
    other.start(&words, &variables).end().with_code(0);
    let text = std::fs::read(other.path("trial.tar")).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("path: files/1-lines.txt"), "{text}");
}

#[test]
fn a_bundle_that_was_changed_is_refused() {
    let desk = Desk::new();
    desk.write("trial.yaml", BASE);
    desk.tool(&["bundle", "trial.yaml", "-o", "trial.tar"])
        .with_code(0);
    let mut bytes = std::fs::read(desk.path("trial.tar")).unwrap();
    let at = bytes
        .windows(8)
        .rposition(|some| some == b"users: 1")
        .unwrap();
    bytes[at + 7] = b'9';
    std::fs::write(desk.path("trial.tar"), bytes).unwrap();
    let refused = desk.tool(&["plan", "trial.tar"]).with_code(2);
    assert!(
        refused.err.contains("`scenario.yaml` has sha256 "),
        "{}",
        refused.err
    );
    desk.write("text.tar", "no archive");
    let refused = desk.tool(&["plan", "text.tar"]).with_code(2);
    assert!(
        refused.err.contains("cannot open the bundle `text.tar`"),
        "{}",
        refused.err
    );
}

#[test]
fn commands_of_a_bundle_run_only_when_they_are_allowed_to() {
    let desk = Desk::new();
    let up = "kind: vllm, url: \"http://127.0.0.1:9\", up: [touch, was-here]";
    desk.write("trial.yaml", &BASE.replace("kind: simulator", up));
    desk.tool(&["bundle", "trial.yaml", "-o", "trial.tar"])
        .with_code(0);
    let refused = desk
        .tool(&["run", "trial.tar", "--out", "results"])
        .with_code(2);
    assert!(
        refused
            .err
            .contains("`backends.sim.up` runs a command that was written elsewhere"),
        "{}",
        refused.err
    );
    assert!(!desk.path("was-here").exists());
    desk.tool(&["run", "trial.tar", "--dry-run", "--allow-exec"])
        .with_code(0);
    desk.tool(&["run", "trial.yaml", "--dry-run"]).with_code(0);
}

/// A repository with this base in it, tagged `v1`.
fn repository(desk: &Desk, base: &str) -> String {
    let folder = desk.path("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("base.yaml"), base).unwrap();
    std::fs::write(
        folder.join("prompts.yaml"),
        "prompts: { p: { source: inline, prompts: [Hello] } }\n",
    )
    .unwrap();
    git(&folder, &["init", "--quiet"]);
    commit(&folder);
    git(&folder, &["tag", "v1"]);
    format!("git+file://{}", folder.display())
}

fn git(folder: &Path, words: &[&str]) {
    let ended = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(words)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

fn commit(folder: &Path) {
    git(folder, &["add", "."]);
    let who = [
        "-c",
        "user.name=n",
        "-c",
        "user.email=e",
        "commit",
        "--quiet",
        "-m",
        "x",
    ];
    git(folder, &who);
}

#[test]
fn a_base_in_a_repository_is_read_only_with_its_digest() {
    let desk = Desk::new();
    let base = format!(
        "include: prompts.yaml\n{}",
        BASE.replace(
            "kind: simulator",
            "kind: simulator, url: \"http://127.0.0.1:9\", up: [touch, was-here]"
        )
    );
    let repository = repository(&desk, &base);
    let cache = desk.path("cache");
    let variables = [("XDG_CACHE_HOME", cache.to_str().unwrap())];
    let tool = |words: &[&str]| desk.start(words, &variables).end();
    desk.write(
        "team.yaml",
        &format!("extends: {repository}?ref=v1#base.yaml\nowner: search\n"),
    );

    let refused = tool(&["check", "team.yaml"]).with_code(2);
    assert!(
        refused
            .err
            .contains("team.yaml:1:10: error[S100]: cannot read `git+file://"),
        "{}",
        refused.err
    );
    assert!(
        refused.err.contains("it has no digest in `scenario.lock`"),
        "{}",
        refused.err
    );

    let locked = tool(&["lock", "team.yaml"]).with_code(0).out;
    assert_eq!(
        locked
            .lines()
            .filter(|line| line.contains(": locked (sha256 "))
            .count(),
        2,
        "{locked}"
    );
    tool(&["check", "team.yaml"]).with_code(0);
    let again = tool(&["lock", "team.yaml"]).with_code(0).out;
    assert_eq!(
        again
            .lines()
            .filter(|line| line.contains(": as it was"))
            .count(),
        2,
        "{again}"
    );

    // Its commands were written by somebody else.
    let refused = tool(&["run", "team.yaml", "--out", "results"]).with_code(2);
    assert!(refused.err.contains("`backends.sim.up`"), "{}", refused.err);
    assert!(!desk.path("was-here").exists());

    // The tag is moved to another text: what was locked is still what is read; elsewhere it is refused.
    std::fs::write(
        desk.path("shared/base.yaml"),
        base.replace("users: 1, requests: 3", "users: 7, requests: 30"),
    )
    .unwrap();
    commit(&desk.path("shared"));
    git(&desk.path("shared"), &["tag", "--force", "v1"]);
    let planned = tool(&["plan", "team.yaml"]).with_code(0).out;
    assert!(planned.contains("1 user,"), "{planned}");
    let text = std::fs::read_to_string(desk.path("scenario.lock")).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.contains("commit:"))
        .map(|line| format!("{line}\n"))
        .collect();
    desk.write("scenario.lock", &without);
    std::fs::remove_dir_all(desk.path("cache")).unwrap();
    let refused = tool(&["plan", "team.yaml"]).with_code(2);
    assert!(
        refused.err.contains("it has changed: it has sha256 "),
        "{}",
        refused.err
    );
    let refused = tool(&["check", "team.yaml"]).with_code(2);
    assert!(
        refused.err.contains("nothing is fetched to look at a file"),
        "{}",
        refused.err
    );
}

#[test]
fn a_base_on_the_web_is_read_only_with_its_digest() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = Front::at(&listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            let (status, body) = if head.starts_with(b"GET /shared/base.yaml ") {
                ("200 OK", BASE)
            } else {
                ("404 Not Found", "")
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    let desk = Desk::new();
    let cache = desk.path("cache");
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/ca.pem");
    let variables = [
        ("XDG_CACHE_HOME", cache.to_str().unwrap()),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ];
    let tool = |words: &[&str]| desk.start(words, &variables).end();
    let url = format!("https://{}/shared", front.address);
    desk.write("gone.yaml", &format!("extends: {url}/gone.yaml\n"));
    let refused = tool(&["lock", "gone.yaml"]).with_code(2);
    assert!(
        refused.err.contains("its host answers with HTTP 404"),
        "{}",
        refused.err
    );
    desk.write(
        "team.yaml",
        &format!("extends: {url}/base.yaml\nowner: search\n{CALM}"),
    );
    tool(&["lock", "team.yaml"]).with_code(0);
    tool(&["run", "team.yaml", "--out", "results"]).with_code(0);
}

#[test]
fn a_difference_is_told_in_terms_of_the_plan() {
    let desk = Desk::new();
    desk.write(
        "before.yaml",
        &format!("{BASE}slos: {{ ttft: P95 TTFT < 500ms, errors: error rate < 1% }}\n"),
    );
    desk.write(
        "after.yaml",
        "extends: before.yaml\nowner: search\nload: { l: { levels: { users: [1, 3], requests: 9 } }, more: { batch: { size: 2, requests: 4 } } }\n\
         slos: { ttft: P95 TTFT < 350ms, errors: null }\n",
    );
    let told = desk
        .tool(&["diff", "before.yaml", "after.yaml"])
        .with_code(0)
        .out;
    assert!(
        told.starts_with("before.yaml → after.yaml\n~ scenario\n"),
        "{told}"
    );
    for line in [
        "    owner        none → search",
        "    cells        1 → 2",
        "- SLO errors",
        "+ cell sim/m/chat/more",
        "    assert       P95 TTFT < 500ms → P95 TTFT < 350ms",
        "~ cell sim/m/chat/l",
    ] {
        assert!(
            told.lines()
                .any(|told| told.split_whitespace().eq(line.split_whitespace())),
            "{line}:\n{told}"
        );
    }
    assert!(told.contains("stage c3"), "{told}");
    let same = desk
        .tool(&["diff", "before.yaml", "before.yaml"])
        .with_code(0)
        .out;
    assert_eq!(same, "before.yaml and before.yaml plan the same\n");
}

/// Laid below a scenario, the defaults that are shown change nothing of it.
#[test]
fn the_defaults_are_what_holds_without_them() {
    let desk = Desk::new();
    let shown = desk.tool(&["show", "--defaults"]).with_code(0).out;
    desk.write("defaults.yaml", &shown);
    let scenario = "backends: { vllm: { kind: vllm, url: \"http://localhost:8000\" } }\nmodels: { m: m }\n\
        load: { l: { stages: [{ name: s, rate: 4/s, for: 60s }] }, c: { levels: { users: [2], requests: 100 } } }\n\
        slos: { ttft: P95 TTFT < 1s }\n";
    desk.write("without.yaml", &format!("version: 1\nname: n\n{scenario}"));
    desk.write(
        "with.yaml",
        &format!("extends: defaults.yaml\nname: n\n{scenario}"),
    );
    let told = desk
        .tool(&["diff", "without.yaml", "with.yaml"])
        .with_code(0)
        .out;
    assert_eq!(told, "without.yaml and with.yaml plan the same\n");
    let plan = |name: &str| desk.tool(&["plan", name]).with_code(0).out;
    assert_eq!(plan("without.yaml"), plan("with.yaml"));
}
