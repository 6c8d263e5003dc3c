//! What is written down of a run so that others can repeat it, and whether backends that are compared were treated alike.

use serde_json::{Value, json};

use crate::tool::{CALM, Desk};

/// Two simulated engines, of which one is asked at another temperature.
fn two_engines(more: &str) -> String {
    format!(
        "version: 1\nname: trial\nbackends:\n  plain: {{ kind: simulator, preset: fast }}\n  \
         warm: {{ kind: simulator, preset: fast, request: {{ temperature: 0.5 }} }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: 2, requests: 10, warmup: 0s }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}{more}"
    )
}

const DIFFERENCE: &str =
    "sampling: temperature 0, max_tokens 4 (plain), temperature 0.5, max_tokens 4 (warm)";

#[test]
fn a_difference_between_compared_backends_is_told() {
    let ended = Desk::new().run(&two_engines(""), &[]).with_code(0);
    let told = format!("not alike: {DIFFERENCE}");
    for text in [&ended.out, &ended.text("summary.md")] {
        assert!(text.contains(&told), "{text}");
    }
    let report = ended.report();
    let comparison = &report["fairness"][0];
    assert_eq!(
        comparison["cells"],
        json!(["plain/m/chat/l", "warm/m/chat/l"])
    );
    let facts = comparison["facts"].as_array().unwrap();
    let differing: Vec<&Value> = facts
        .iter()
        .filter(|fact| fact["differs"] == true)
        .collect();
    assert_eq!(differing.len(), 1, "{differing:#?}");
    let of = |what: &str| facts.iter().find(|fact| fact["what"] == what).unwrap();
    assert_eq!(of("token source")["values"], json!(["usage", "usage"]));
    assert_eq!(of("engine")["values"], json!(["simulated", "simulated"]));
}

#[test]
fn a_strict_comparison_of_different_requests_is_a_mistake_of_the_file() {
    let desk = Desk::new();
    let ended = desk
        .run(&two_engines("fairness: strict\n"), &[])
        .with_code(2);
    assert!(ended.err.contains("error[S077]"), "{}", ended.err);
    assert!(
        ended.err.contains(&format!(
            "backends that are compared differ in {DIFFERENCE}"
        )),
        "{}",
        ended.err
    );
    assert!(!desk.path("results").exists());
}

#[test]
fn nobody_looks_where_fairness_is_off() {
    let ended = Desk::new()
        .run(&two_engines("fairness: off\n"), &[])
        .with_code(0);
    assert!(!ended.out.contains("not alike"), "{}", ended.out);
    assert!(ended.report().get("fairness").is_none());
}

#[test]
fn a_strict_comparison_that_only_the_run_shows_to_be_unfair_is_inconclusive() {
    // The same words of the file; what answers is a simulator in one backend, and says so.
    let desk = Desk::new();
    let text = |other: &str| {
        format!(
            "version: 1\nname: trial\nbackends:\n  one: {{ kind: simulator, preset: fast }}\n  other: {other}\n\
             models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: 2, requests: 10, warmup: 0s }} }} }}\n\
             request: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\nfairness: strict\n\
             slos: {{ errors: error count == 0 }}\n{CALM}"
        )
    };
    let same = desk
        .run(&text("{ kind: simulator, preset: fast }"), &[])
        .with_code(0);
    let verdicts = same.report()["verdicts"].clone();
    let guard = |verdicts: &Value| {
        let all = verdicts.as_array().unwrap().clone();
        all.into_iter()
            .find(|verdict| verdict["id"] == "guard:fairness")
            .unwrap()
    };
    assert_eq!(guard(&verdicts)["status"], "pass");

    desk.write("adapter.py", ADAPTER);
    let mixed = "{ kind: openai, interface: offline, launch: { command: [python3, adapter.py] } }\nallow_mixed_interface: true";
    let refused = desk.run(&text(mixed), &[]).with_code(2);
    assert!(refused.err.contains("interface"), "{}", refused.err);
    // Two engines without a server; one of them counts no tokens.
    let silent = ADAPTER.replace(", output=1", "");
    desk.write("silent.py", &silent);
    let of = |file: &str| {
        format!("{{ kind: openai, interface: offline, launch: {{ command: [python3, {file}] }} }}")
    };
    let two =
        text(&of("silent.py")).replacen("{ kind: simulator, preset: fast }", &of("adapter.py"), 1);
    let ended = desk.run(&two, &[]).with_code(3);
    let report = ended.report();
    let verdict = guard(&report["verdicts"]);
    assert_eq!(verdict["status"], "inconclusive");
    assert_eq!(
        verdict["reason"]["text"],
        "token source: usage (one), events (other)"
    );
    assert!(ended.out.contains("guard:fairness"), "{}", ended.out);
}

/// An engine of one-token answers.
const ADAPTER: &str = r#"
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "load" in message:
        print(json.dumps({"ready": {"version": "1"}}), flush=True)
    elif "generate" in message:
        id = message["generate"]["id"]
        print(json.dumps({"delta": {"id": id, "text": "x", "tokens": 1}}), flush=True)
        print(json.dumps({"done": dict(id=id, reason="length", input=1, output=1)}), flush=True)
    elif "close" in message:
        break
"#;

#[test]
fn what_one_needs_to_measure_the_same_stands_in_a_file() {
    let desk = Desk::new();
    let engine = format!(
        "{{ kind: openai, launch: {{ command: [{}, mock, --port, \"{{port}}\", --model, any], \
         env: {{ THREADS: \"2\", TOKEN: {{ env: HOME }} }} }} }}",
        env!("CARGO_BIN_EXE_scenario")
    );
    let load = "{ levels: { users: 2, requests: 10, warmup: 0s } }";
    let text = crate::tool::scenario(&engine, load, "request: { max_tokens: 4, top_p: 0.9 }\n");
    let ended = desk.run(&text, &["--seed", "7"]).with_code(0);
    let facts: Value = serde_json::from_str(&ended.text("environment.json")).unwrap();
    assert_eq!(facts["schema"], "scenario.environment/v1");
    assert_eq!(facts["seed"], 7);
    assert_eq!(facts["scenario"], "trial.yaml");
    assert!(facts["host"]["memory_bytes"].as_u64().unwrap() > 0);
    assert!(facts["host"].get("clocksource").is_some());
    let engine = &facts["engines"][0];
    assert_eq!(engine["api"], "chat");
    assert!(
        engine["command"]
            .as_str()
            .unwrap()
            .contains(" mock --port ")
    );
    assert_eq!(
        engine["variables"],
        json!({ "THREADS": "2", "TOKEN": "from $HOME" })
    );
    // And the request in the words of the engine's API.
    let report = ended.report();
    let sent = &report["cells"][0]["sent"];
    assert_eq!(sent["path"], "/chat/completions");
    assert_eq!(sent["body"]["top_p"], 0.9);
    assert_eq!(sent["body"]["max_tokens"], 4);
    assert_eq!(sent["body"]["messages"][0]["role"], "user");
}
