//! Engines without a server, inside of an adapter.

use std::fs;

use serde_json::Value;

use crate::tool::{CALM, Desk, numbers};

const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";

/// The adapter that the documentation shows, as it is printed there.
fn printed() -> String {
    let text = fs::read_to_string("adapters/README.md").unwrap();
    let (_, rest) = text.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn scenario(backend: &str, load: &str, more: &str) -> String {
    crate::tool::scenario(backend, load, more)
}

const OWN: &str =
    "{ kind: openai, interface: offline, launch: { command: [python3, adapter.py] } }";

#[test]
fn the_printed_adapter_is_short_and_runs_as_it_is_printed() {
    let adapter = printed();
    assert!(adapter.lines().count() <= 30, "{}", adapter.lines().count());
    let desk = Desk::new();
    desk.write("adapter.py", &adapter);
    let text = scenario(OWN, TEN, "slos: { errors: error count == 0 }\n");
    let ended = desk.run(&text, &[]).with_code(0);
    let report = ended.report();
    let numbers = numbers(&report, "c2");
    assert_eq!(numbers["ok"], 10);
    let engine = &report["environment"]["engines"][0];
    assert_eq!(engine["version"], "1.0");
    assert_eq!(engine["simulated"], false);
    assert!(engine["cold_start_s"].as_f64().unwrap() > 0.0);
    for row in ended.requests().rows.iter().filter(|row| row.more.measured) {
        assert_eq!(row.output_tokens, Some(4));
        assert_eq!(row.token_source, "usage");
        assert!(row.ttft_ms.unwrap() > 0.0, "{row:?}");
    }
    // It is told that no HTTP is in these numbers.
    assert!(ended.out.contains("without a server"), "{}", ended.out);
}

#[test]
fn everything_at_once_and_batches_go_to_an_adapter_too() {
    let desk = Desk::new();
    desk.write("adapter.py", &printed());
    for load in [
        "{ batch: { size: all, requests: 40 } }",
        "{ batch: { size: 8, requests: 40 } }",
    ] {
        let ended = desk.run(&scenario(OWN, load, ""), &[]).with_code(0);
        let report = ended.report();
        assert_eq!(report["cells"][0]["stages"][0]["numbers"]["ok"], 40);
    }
}

/// Answers a batch as a whole, by the module that comes with the tool.
const BATCHES: &str = r#"
from scenario_adapter import batches, messages, say

_, load = next(messages())
assert load == {"model": "any", "mode": "generate", "args": {"size": 3}}, load
say("ready", version="2")
for batch in batches():
    print("a batch of", len(batch))
    for request in batch:
        say("delta", id=request["id"], text="words", tokens=4)
        say("done", id=request["id"], reason="length", input=5, output=4)
"#;

#[test]
fn an_adapter_of_batches_answers_what_came_together_at_once() {
    let desk = Desk::new();
    desk.write("batches.py", BATCHES);
    let adapters = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("adapters");
    let backend = format!(
        "{{ kind: openai, interface: offline, mode: generate, launch: {{ command: [python3, batches.py], args: {{ size: 3 }}, env: {{ PYTHONPATH: {} }} }} }}",
        adapters.display()
    );
    let load = "{ batch: { size: 8, requests: 24 } }";
    let ended = desk.run(&scenario(&backend, load, ""), &[]).with_code(0);
    // What the engine prints goes to the log, not between the lines. One batch was the first token that was asked for.
    let log = ended.text("engine-engine.log");
    assert_eq!(log.matches("a batch of 8").count(), 3, "{log}");
    assert_eq!(log.matches("a batch of 1\n").count(), 1, "{log}");
}

#[test]
fn an_adapter_that_cannot_load_is_told_in_its_words() {
    let desk = Desk::new();
    desk.write(
        "adapter.py",
        "import sys\nprint('no weights here', file=sys.stderr)\nprint('{\"error\": {\"message\": \"no such model\"}}', flush=True)\nsys.stdin.read()\n",
    );
    let ended = desk
        .run(
            &scenario(OWN, TEN, "slos: { errors: error count == 0 }\n"),
            &[],
        )
        .with_code(3);
    let why = ended.report()["cells"][0]["runs"][0]["reason"].clone();
    let why = why.as_str().unwrap();
    assert!(why.contains("cannot load: no such model"), "{why}");
    assert!(why.contains("| no weights here"), "{why}");
}

#[test]
fn an_adapter_that_dies_under_load_ends_its_cell() {
    let desk = Desk::new();
    let dying = printed().replace(
        "        generate(message[\"generate\"])\n",
        "        generate(message[\"generate\"])\n        assert message[\"generate\"][\"id\"] < 20\n",
    );
    desk.write("adapter.py", &dying);
    let long = "{ levels: { users: 2, for: 10m, warmup: 0s } }";
    let ended = desk.run(
        &scenario(OWN, long, "slos: { errors: error count == 0 }\n"),
        &[],
    );
    assert!(matches!(ended.code, Some(1 | 3)), "{:?}", ended.code);
    let run = ended.report()["cells"][0]["runs"][0].clone();
    assert_eq!(run["status"], "engine_died");
    assert!(
        run["reason"].as_str().unwrap().contains("| AssertionError"),
        "{run}"
    );
}

#[test]
fn engines_with_and_without_a_server_are_compared_only_where_that_is_meant() {
    let desk = Desk::new();
    desk.write("adapter.py", &printed());
    let text = |more: &str| {
        format!(
            "version: 1\nbackends:\n  inside: {OWN}\n  outside: {{ kind: simulator, preset: fast }}\nmodels: {{ m: any }}\nload: {{ l: {TEN} }}\n\
             request: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}{more}"
        )
    };
    let refused = desk.run(&text(""), &[]).with_code(2);
    assert!(refused.err.contains("error[S076]"), "{}", refused.err);
    let ended = desk
        .run(&text("allow_mixed_interface: true\n"), &[])
        .with_code(0);
    let planned = desk.tool(&["plan", "trial.yaml"]).with_code(0).out;
    assert!(planned.contains("inside/m/chat/l (offline)"), "{planned}");
    let statuses: Vec<Value> = ended.report()["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| cell["runs"][0]["status"].clone())
        .collect();
    assert_eq!(statuses, ["complete", "complete"]);
    // Every table marks the one without a server, and the difference is told.
    for told in [&ended.out, &ended.text("summary.md")] {
        assert!(told.contains("inside (offline)"), "{told}");
        assert!(
            told.contains("not alike: interface: offline (inside), HTTP, chat (outside)"),
            "{told}"
        );
    }
    let junit = ended.text("junit.xml");
    assert!(
        junit.contains("name=\"inside · m · chat · l (offline)\""),
        "{junit}"
    );
    assert!(junit.contains("name=\"outside · m · chat · l\""), "{junit}");
    for (file, heading) in [
        ("summary.csv", "interface"),
        ("requests.csv", "interface"),
        ("performance_rankings.csv", "Interface"),
    ] {
        let csv = ended.text(file);
        let mut lines = csv.lines();
        assert!(lines.next().unwrap().ends_with(heading), "{file}: {csv}");
        for line in lines {
            let interface = if line.starts_with("inside") {
                ",offline"
            } else {
                ",http"
            };
            assert!(line.ends_with(interface), "{file}: {line}");
        }
    }
    assert!(
        ended
            .text("report.txt")
            .contains("inside (offline): Success"),
        "{}",
        ended.text("report.txt")
    );
    let page = ended.text("report.html");
    for told in [
        "<th scope=\"row\">inside (offline)</th>",
        "inside <span class=\"label\">offline</span>",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

/// A saved run of one backend, on an engine with or without a server.
fn saved(desk: &Desk, name: &str, backend: &str) {
    let text = scenario(backend, TEN, "").replace("requests: 10", "requests: 40");
    desk.write(&format!("{name}.yaml"), &text);
    let file = format!("{name}.yaml");
    desk.tool(&["run", &file, "--out", name, "--progress", "none"])
        .with_code(0);
}

#[test]
fn runs_with_and_without_a_server_are_not_compared_afterwards() {
    let desk = Desk::new();
    desk.write("adapter.py", &printed());
    let (url, _heard) = crate::adapters::told();
    saved(&desk, "inside", OWN);
    saved(&desk, "again", OWN);
    let outside = format!("{{ url: \"{url}\" }}");
    saved(&desk, "outside", &outside);
    let mixed = desk.tool(&["compare", "inside", "outside"]).with_code(3);
    assert!(
        mixed
            .out
            .contains("not comparable: one engine is asked over HTTP, the other has no server"),
        "{}",
        mixed.out
    );
    let alike = desk
        .tool(&["compare", "inside", "again", "-v"])
        .with_code(0);
    assert!(
        alike.out.contains("engine/m/chat/l (offline)"),
        "{}",
        alike.out
    );
}

#[test]
fn the_adapters_that_come_with_the_tool_are_python() {
    let files = [
        "scenario_adapter.py",
        "vllm_adapter.py",
        "sglang_adapter.py",
        "tensorrt_llm_adapter.py",
    ];
    for file in files {
        let source = fs::read_to_string(std::path::Path::new("adapters").join(file)).unwrap();
        let checked = std::process::Command::new("python3")
            .args(["-c", "import ast, sys; ast.parse(sys.argv[1])", &source])
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
    // The one for vLLM says why it cannot load where there is no vLLM.
    let text = scenario("{ kind: vllm, interface: offline }", TEN, "");
    let desk = Desk::new();
    let ended = desk.run(&text, &[]);
    let why = ended.report()["cells"][0]["runs"][0]["reason"].clone();
    assert!(
        why.as_str()
            .unwrap()
            .contains("the adapter of backend `engine` cannot load: "),
        "{why}"
    );
    assert!(
        why.as_str().unwrap().contains(
            "No module named 'vllm': `launch: { python: … }` names the virtual environment"
        ),
        "{why}"
    );
}
