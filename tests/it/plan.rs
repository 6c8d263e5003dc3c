//! Plans of whole files: what `scenario plan` says of each file in `fixtures/plans`, beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use scenario::diagnostic::{Diagnostic, Sources};
use scenario::plan::describe::{describe, write_arrivals};
use scenario::plan::{Plan, PlanOptions, plan};
use scenario::spec;
use scenario::workload::Library;

use crate::golden::assert_golden;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans")
}

/// The plan of a fixture, or its mistakes; places are `line:column`.
fn plan_of(name: &str, options: &PlanOptions) -> Result<(Plan, String), String> {
    plan_text(
        &folder().join(name),
        &std::fs::read_to_string(folder().join(name)).unwrap(),
        options,
    )
}

fn plan_text(path: &Path, text: &str, options: &PlanOptions) -> Result<(Plan, String), String> {
    let mut sources = Sources::default();
    let (spec, found) = spec::parse(&mut sources, path, text);
    let Some(spec) = spec else {
        panic!(
            "{} does not parse:\n{}",
            path.display(),
            told(&sources, &found)
        );
    };
    match plan(&spec, &sources, options) {
        Ok((plan, warnings)) => Ok((plan, told(&sources, &warnings))),
        Err(found) => Err(told(&sources, &found)),
    }
}

fn told(sources: &Sources, found: &[Diagnostic]) -> String {
    let folder = format!("{}/", folder().display());
    let mut text = String::new();
    for diagnostic in found {
        let place = diagnostic.primary.as_ref().map_or(String::new(), |label| {
            let place = sources.locate(label.span);
            format!("{}:{}: ", place.line, place.column)
        });
        let _ = writeln!(text, "{place}{} {}", diagnostic.code, diagnostic.message);
        for help in &diagnostic.help {
            let _ = writeln!(text, "    {help}");
        }
    }
    text.replace(&folder, "")
}

fn planned(name: &str) -> Plan {
    plan_of(name, &PlanOptions::default())
        .unwrap_or_else(|found| panic!("{found}"))
        .0
}

fn golden(actual: &str, name: &str) {
    assert_golden(folder().join(name), actual);
}

fn arrivals(plan: &Plan) -> String {
    let mut out = Vec::new();
    write_arrivals(plan, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn plans_are_told_in_full() {
    for name in [
        "levels", "stages", "hill", "batch", "matrix", "axes", "context", "replay", "launch",
    ] {
        let (plan, warnings) = plan_of(&format!("{name}.yaml"), &PlanOptions::default())
            .unwrap_or_else(|found| panic!("{name}: {found}"));
        golden(
            &format!("{}\n{warnings}", describe(&plan)),
            &format!("{name}.txt"),
        );
    }
}

#[test]
fn mistakes_are_told_all_at_once() {
    for name in [
        "matrix",
        "axes",
        "twins",
        "no-lengths",
        "prefix-too-long",
        "context",
        "loads",
        "prompts",
        "traces",
        "bounds",
        "budget",
        "launch",
    ] {
        let found = plan_of(&format!("invalid/{name}.yaml"), &PlanOptions::default())
            .expect_err("the file has mistakes");
        golden(&found, &format!("invalid/{name}.txt"));
    }
}

#[test]
fn arrivals_are_the_same_bytes_on_every_run() {
    let listed = arrivals(&planned("hill.yaml"));
    assert_eq!(listed, arrivals(&planned("hill.yaml")));
    golden(&listed, "hill.arrivals.csv");
}

#[test]
fn every_backend_gets_the_same_arrivals() {
    let listed = arrivals(&planned("matrix.yaml"));
    let of = |cell: &str| -> Vec<String> {
        let prefix = format!("{cell},");
        listed
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
            .collect()
    };
    let vllm = of("vllm/llama8b/chat/steady");
    assert!(vllm.len() > 300);
    assert_eq!(vllm, of("sglang/llama8b/chat/steady"));
    assert_ne!(vllm, of("vllm/llama8b/chat/steady#2"));
}

#[test]
fn digests_change_only_when_the_load_does() {
    let mut text = String::new();
    for name in ["levels", "stages", "hill", "batch", "matrix", "replay"] {
        let plan = planned(&format!("{name}.yaml"));
        let _ = writeln!(text, "{name} {}", plan.digest);
        for cell in &plan.cells {
            let _ = writeln!(text, "  {} {}", cell.id, cell.digest);
        }
    }
    golden(&text, "digests.txt");
}

#[test]
fn names_addresses_and_slos_are_no_part_of_a_digest() {
    let file = |backend: &str, stage: &str, rate: &str, slo: &str| {
        format!(
            "version: 1
backends: {{ {backend}: {{ url: 'http://{backend}:8000' }} }}
prompts: {{ a: {{ source: inline, prompts: [Hello] }} }}
load: {{ b: {{ stages: [{{ name: {stage}, rate: {rate}, for: 10s }}] }} }}
slos: {{ ttft: {slo} }}
"
        )
    };
    let digest = |text: String| {
        plan_text(Path::new("a.yaml"), &text, &PlanOptions::default())
            .unwrap()
            .0
            .digest
    };
    let one = digest(file("one", "x", "1/s", "P50 TTFT < 1s"));
    assert_eq!(one, digest(file("two", "y", "1/s", "P50 TTFT < 2s")));
    assert_ne!(one, digest(file("one", "x", "2/s", "P50 TTFT < 1s")));
}

#[test]
fn the_order_of_prompts_is_part_of_a_digest() {
    let digest = |order: &str| {
        let text = format!(
            "version: 1
backends: {{ sim: {{ kind: simulator }} }}
prompts: {{ a: {{ source: inline, prompts: [one, two, three, four, five, six], {order} }} }}
load: {{ b: {{ stages: [{{ name: c, rate: 1/s, for: 5s }}] }} }}
"
        );
        plan_text(Path::new("a.yaml"), &text, &PlanOptions::default())
            .unwrap()
            .0
            .digest
    };
    assert_ne!(digest("seed: 1"), digest("seed: 2"));
    assert_ne!(digest("order: shuffle"), digest("order: file"));
}

#[test]
fn a_selection_leaves_the_other_cells_told_but_not_run() {
    let options = PlanOptions {
        only: vec!["vllm,chat".to_owned()],
        ..PlanOptions::default()
    };
    let (plan, _) = plan_of("matrix.yaml", &options).unwrap();
    let ids: Vec<&str> = plan.cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(ids, ["vllm/llama8b/chat/steady", "vllm/qwen3/chat/ramp"]);
    assert_eq!(
        plan.deselected,
        ["vllm/llama8b/code/steady", "sglang/llama8b/chat/steady"]
    );
}

#[test]
fn a_smoke_run_takes_moments_and_few_tokens() {
    let options = PlanOptions {
        smoke: true,
        simulate: true,
        ..PlanOptions::default()
    };
    for name in ["levels", "stages", "batch", "matrix"] {
        let (plan, _) = plan_of(&format!("{name}.yaml"), &options).unwrap();
        for cell in &plan.cells {
            assert_eq!(cell.backend.url, None);
            assert!(cell.request.max_tokens <= 16);
            for stage in &cell.stages {
                let seconds = stage.expected.value().unwrap_or(0.0);
                let few = stage.requests.value().unwrap_or(0.0)
                    <= 3.0 * f64::from(stage.users.unwrap_or(128));
                assert!(seconds <= 2.0 || few, "{name} {}: {stage:?}", cell.id);
            }
        }
    }
}

#[test]
fn nearer_request_parameters_win_key_by_key() {
    let plan = planned("matrix.yaml");
    let request = |id: &str| {
        let cell = plan.cells.iter().find(|cell| cell.id == id).unwrap();
        (
            cell.request.max_tokens,
            serde_json::to_string(&cell.request.beyond()).unwrap(),
        )
    };
    assert_eq!(
        request("sglang/llama8b/chat/steady"),
        (
            64,
            r#"{"repetition_penalty":1.0,"length_penalty":1.0}"#.to_owned()
        )
    );
    assert_eq!(
        request("vllm/qwen3/chat/ramp").1,
        r#"{"chat_template_kwargs":{"enable_thinking":false},"repetition_penalty":1.1,"length_penalty":1.0}"#
    );
}

#[test]
fn extra_is_laid_over_wishes_and_other_wishes_are_another_load() {
    let planned = |thinking: &str| {
        let text = format!(
            "version: 1\nbackends: {{ vllm: http://localhost:8000 }}\nmodels: {{ m: m }}\n\
             load: {{ l: {{ levels: {{ users: 2, requests: 6 }} }} }}\n\
             request: {{ thinking: {thinking}, extra: {{ chat_template_kwargs: {{ x: 1 }} }} }}\n"
        );
        plan_of_text(&text, &PlanOptions::default())
    };
    let (on, off) = (planned("on"), planned("off"));
    let beyond = serde_json::Value::Object(on.cells[0].request.beyond());
    assert_eq!(
        beyond.to_string(),
        r#"{"chat_template_kwargs":{"enable_thinking":true,"x":1}}"#
    );
    assert_ne!(on.cells[0].digest, off.cells[0].digest);
}

#[test]
fn the_context_that_an_engine_is_started_with_holds_in_its_simulation_too() {
    let text = "version: 1
backends: { vllm: { launch: { args: { max-model-len: 64 } } } }
models: { m: m }
prompts: { p: { source: synthetic, input_tokens: 60, output_tokens: 16, over_context: clip } }
load: { l: { levels: { users: 2, requests: 6, warmup: 0s } } }
";
    for simulate in [false, true] {
        let options = PlanOptions {
            simulate,
            ..PlanOptions::default()
        };
        let prompt = plan_of_text(text, &options).cells[0].workload.prompt(0);
        // What is left beside 16 tokens of an answer and 14 of a chat template.
        assert_eq!(prompt.tokens, Some(34), "simulated: {simulate}");
    }
}

#[test]
fn a_million_arrivals_are_planned_in_constant_memory() {
    let text = "version: 1
backends: { sim: { kind: simulator } }
prompts: { a: { source: synthetic, input_tokens: 8 } }
load: { long: { stages: [{ name: long, rate: 1000/s, for: 1000s }] } }
run: { warmup: 0s }
";
    let (plan, _) = plan_text(Path::new("a.yaml"), text, &PlanOptions::default()).unwrap();
    let cell = &plan.cells[0];
    let scenario::plan::Schedule::Open { curve, .. } = &cell.segments[0].schedule else {
        panic!("a rate is an open loop")
    };
    let count = curve.arrivals(&cell.segment_seed(plan.seed, 0, 0)).count();
    assert!((995_000..1_005_000).contains(&count), "{count}");
}

#[test]
fn each_level_and_repeat_takes_its_own_prompts_while_the_set_lasts() {
    let file = |prompts: usize| {
        let prompts: Vec<String> = (0..prompts).map(|n| format!("prompt {n}")).collect();
        format!(
            "version: 1
backends: {{ sim: {{ kind: simulator }} }}
prompts: {{ a: {{ source: inline, prompts: [{}] }} }}
load: {{ b: {{ levels: {{ users: [1, 2], requests_per_user: 3 }} }} }}
run: {{ repeats: 2 }}
",
            prompts.join(", ")
        )
    };
    let slices = |prompts: usize| {
        let (plan, _) =
            plan_text(Path::new("a.yaml"), &file(prompts), &PlanOptions::default()).unwrap();
        let cell = plan.cells[0].clone();
        let measured = cell.stages.iter().filter(|stage| stage.measured);
        let slices: Vec<(u64, bool)> = measured
            .map(|stage| (stage.prompt_offset, stage.prompts_reused))
            .collect();
        (slices, cell.prompts_per_repeat)
    };
    assert_eq!(slices(18), (vec![(0, false), (3, false)], 9));
    assert_eq!(slices(12), (vec![(0, false), (3, true)], 9));
}

#[test]
fn an_expanded_set_has_a_cell_for_each_category() {
    let text = "version: 1
backends: { sim: { kind: simulator } }
prompts:
  mix:
    source: inline
    expand: category
    prompts:
      - { prompt: Add one, category: code }
      - { prompt: Hello, category: short }
      - { prompt: Add two, category: code }
load: { a: { batch: { size: all } } }
run: { warmup: 0s }
";
    let (plan, _) = plan_text(Path::new("a.yaml"), text, &PlanOptions::default()).unwrap();
    let told: Vec<(&str, Option<f64>)> = plan
        .cells
        .iter()
        .map(|cell| (cell.id.as_str(), cell.stages[0].requests.value()))
        .collect();
    assert_eq!(
        told,
        [
            ("sim/default/mix-code/a", Some(2.0)),
            ("sim/default/mix-short/a", Some(1.0))
        ]
    );
}

#[test]
fn every_code_of_the_plan_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan");
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for (at, _) in text.match_indices("\"S0").chain(text.match_indices("\"L0")) {
            let code = &text[at + 1..at + 5];
            let own = ("S045".."S080").contains(&code) || ("L036".."L050").contains(&code);
            assert!(
                !own || scenario::plan::codes::explain(code).is_some(),
                "{code}"
            );
        }
    }
}

fn plan_of_text(text: &str, options: &PlanOptions) -> Plan {
    plan_text(&folder().join("inline.yaml"), text, options)
        .unwrap_or_else(|found| panic!("{found}"))
        .0
}

#[test]
fn what_an_slo_does_not_judge_is_told_with_the_plan() {
    let text = "version: 1
backends: { vllm: http://localhost:8000, sglang: http://localhost:8001 }
models: { m: m }
load: { l: { levels: { users: 2, requests_per_user: 60 } } }
slos:
  no-slower: P95 TTFT <= 1.1 * vllm.ttft.p95
  of-vllm: { assert: P95 TTFT < 1s, where: { backend: vllm } }
";
    let all = plan_of_text(text, &PlanOptions::default());
    assert!(
        describe(&all).contains("  note: no-slower: vllm/"),
        "{}",
        describe(&all)
    );
    let options = PlanOptions {
        only: vec!["sglang".to_owned()],
        ..PlanOptions::default()
    };
    let one = describe(&plan_of_text(text, &options));
    for line in [
        "of-vllm  skipped: not selected",
        "is compared with was not selected",
    ] {
        assert!(one.contains(line), "{one}");
    }
}

#[test]
fn nothing_makes_the_answers_of_a_smoke_run_long() {
    use scenario::engine::{BodyTemplate, Dialect};
    let text = "version: 1
backends: { vllm: http://localhost:8000 }
models: { m: m }
prompts: { long: { source: inline, prompts: [Hello], max_tokens: 900 } }
request: { min_tokens: 600, extra: { max_completion_tokens: 800 } }
load: { l: { levels: { users: 1, requests_per_user: 3 } } }
";
    let options = PlanOptions {
        smoke: true,
        ..PlanOptions::default()
    };
    let plan = plan_of_text(text, &options);
    let cell = &plan.cells[0];
    let dialect = Dialect {
        api: cell.backend.api,
        kind: cell.backend.kind,
    };
    let prompt = scenario::workload::Prompt {
        max_tokens: Some(900),
        min_tokens: Some(900),
        ..cell.workload.prompt(0)
    };
    let body = |request| BodyTemplate::new(dialect, "m", request).fill(&prompt);
    let said = |body: &[u8]| -> serde_json::Value { serde_json::from_slice(body).unwrap() };
    let with_extra = said(&body(&cell.request));
    assert_eq!(with_extra["max_completion_tokens"], 16);
    let mut plain = cell.request.clone();
    plain.extra.clear();
    let plain = said(&body(&plain));
    assert_eq!(
        (&plain["max_tokens"], &plain["min_tokens"]),
        (&16.into(), &16.into())
    );
}

#[test]
fn the_presets_of_the_plan_are_those_of_the_simulator() {
    assert_eq!(
        scenario::plan::presets::PRESETS,
        scenario::engine::simulator::PRESET_NAMES
    );
}

#[test]
fn a_tokenizer_makes_lengths_exact_and_its_absence_is_told() {
    let file = |tokenizer: &str| {
        format!(
            "version: 1\nbackends: {{ sim: {{ kind: simulator }} }}\n\
             models: {{ m: {{ id: m{tokenizer} }} }}\n\
             prompts: {{ p: {{ source: synthetic, input_tokens: {{ zipf: {{ min: 20, max: 90 }} }} }} }}\n\
             load: {{ l: {{ levels: {{ users: 2, requests: 6, allow_short: true }} }} }}\n"
        )
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
    let named = format!(", tokenizer: {}", folder.display());
    let exact = plan_of_text(&file(&named), &PlanOptions::default());
    let tokenizer = exact.cells[0].model.tokenizer.clone().unwrap();
    for ordinal in 0..50 {
        let prompt = exact.cells[0].workload.prompt(ordinal);
        assert_eq!(Some(tokenizer.count(&prompt.text)), prompt.tokens);
    }
    let estimated = plan_of_text(&file(""), &PlanOptions::default());
    assert_ne!(exact.digest, estimated.digest);
    assert!(
        !describe(&exact).contains("estimated"),
        "{}",
        describe(&exact)
    );
    assert!(
        describe(&estimated).contains("estimated"),
        "{}",
        describe(&estimated)
    );
}

#[test]
fn a_tokenizer_that_is_not_at_hand_stops_a_run_and_not_a_check() {
    let text = "version: 1\nbackends: { e: http://localhost:1 }\n\
                models: { m: { id: m, tokenizer: owner/name } }\n\
                load: { l: { levels: { users: 2, requests: 6 } } }\n";
    let planned = |dry| {
        let library = Library {
            offline: true,
            ..Library::default()
        };
        let options = PlanOptions {
            dry,
            library,
            ..PlanOptions::default()
        };
        plan_text(Path::new("a.yaml"), text, &options)
    };
    assert!(planned(false).unwrap_err().contains("S151"));
    assert!(planned(true).unwrap().1.contains("L150"));
}
