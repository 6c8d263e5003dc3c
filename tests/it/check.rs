//! Scenario files in, diagnostics out; and the schema, the decoder and a second YAML parser agree about every one of them.

use std::fs;
use std::path::{Path, PathBuf};

use scenario::diagnostic::{self, Sources};
use scenario::{language, spec};

use crate::golden::{self, assert_golden};

/// The diagnostics of a file as a user sees them, and whether a spec came out.
fn check(path: &Path) -> (bool, String) {
    let text = fs::read_to_string(path).unwrap();
    let mut sources = Sources::default();
    let name = PathBuf::from(path.file_name().unwrap());
    let (spec, diagnostics) = spec::parse(&mut sources, &name, &text);
    (
        spec.is_some(),
        diagnostic::render(&diagnostics, &sources, false),
    )
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    golden::fixtures(Path::new("fixtures/specs").join(folder), "yaml")
}

fn as_json(path: &Path) -> Option<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    let mut value: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
    value.apply_merge().ok()?;
    serde_json::to_value(value).ok()
}

#[test]
fn valid_files_have_no_diagnostics() {
    for path in fixtures("valid") {
        let (spec, diagnostics) = check(&path);
        assert_eq!(diagnostics, "", "{}", path.display());
        assert!(spec, "{}", path.display());
    }
}

/// What `scenario check` says of a file, by the tool itself.
fn told(path: &Path) -> String {
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_scenario"))
        .args(["check", "--color", "never"])
        .arg(path.file_name().unwrap())
        .current_dir(path.parent().unwrap())
        .env("COLUMNS", "120")
        .output()
        .unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    let code = if text.contains("error[") { 2 } else { 0 };
    assert_eq!(
        ended.status.code(),
        Some(code),
        "{}: {text}",
        path.display()
    );
    text
}

#[test]
fn each_mistake_is_told_to_the_letter() {
    let files = fixtures("invalid");
    assert!(files.len() >= 100, "{}", files.len());
    for path in files {
        let told = told(&path);
        assert!(
            told.contains("error[") || told.contains("warning["),
            "{} is accepted",
            path.display()
        );
        assert_golden(path.with_extension("expected"), &told);
    }
}

#[test]
fn the_schema_that_is_checked_in_is_that_of_the_types() {
    for (draft, name) in DRAFTS {
        let schema = spec::published_schema(draft);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        assert_golden(Path::new("schemas").join(name), &text);
    }
}

const DRAFTS: [(spec::SchemaDraft, &str); 2] = [
    (spec::SchemaDraft::Of2020, "scenario.v1.json"),
    (spec::SchemaDraft::Seven, "scenario.v1.draft-07.json"),
];

/// Every scenario file under a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = golden::below(folder);
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files
}

#[test]
fn the_schemas_accept_every_example_bases_libraries_and_teams_files_too() {
    for (draft, _) in DRAFTS {
        let schema = jsonschema::validator_for(&spec::published_schema(draft)).unwrap();
        let mut files = below(Path::new("scenarios"));
        assert!(
            files
                .iter()
                .any(|path| path.ends_with("teams/search/a100-llama.yaml"))
        );
        files.extend(fixtures("valid"));
        for path in files {
            let errors: Vec<String> = schema
                .iter_errors(&as_json(&path).unwrap())
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(
                errors.is_empty(),
                "{draft:?}, {}: {errors:#?}",
                path.display()
            );
        }
    }
}

#[test]
fn the_schemas_tell_expressions_and_changes_from_mistakes() {
    let whole = "version: 1\nbackends: { a: \"http://localhost\" }\nload: { l: { levels: { users: 4, for: 6s } } }\n";
    let team = "extends: base.yaml\n";
    let right = [
        format!("{whole}run: {{ seed: \"${{{{ vars.seed }}}}\", repeats: 2 }}"),
        format!("{whole}load: {{ l: \"${{{{ vars.load }}}}\" }}").replacen(
            "load: { l: { levels: { users: 4, for: 6s } } }\n",
            "",
            1,
        ),
        format!(
            "{whole}profiles: {{ p: {{ inherits: q, slos: {{ t: null }}, run: {{ seed: null }} }} }}"
        ),
        format!("{team}slos: {{ t: null, u: {{ level: warn }} }}"),
        format!("{team}backends: {{ a: {{ optional: true }} }}\nprompts: {{ p: {{ limit: 5 }} }}"),
        "version: 1\nprompts: { p: { source: inline, prompts: [Hello] } }".to_owned(),
    ];
    let wrong = [
        format!("{whole}run: {{ seed: many }}"),
        format!("{whole}run: {{ sed: 1 }}"),
        format!("{whole}slos: {{ t: null }}"),
        format!("{whole}profiles: {{ p: {{ run: {{ sed: 1 }} }} }}"),
        format!("{whole}profiles: {{ p: {{ extends: x.yaml }} }}"),
        format!("{team}run: {{ sed: 1 }}"),
        format!("{team}run: {{ seed: many }}"),
        "backends: { a: \"http://localhost\" }".to_owned(),
    ];
    for (draft, _) in DRAFTS {
        let schema = jsonschema::validator_for(&spec::published_schema(draft)).unwrap();
        let valid =
            |text: &str| schema.is_valid(&serde_yaml::from_str::<serde_json::Value>(text).unwrap());
        right
            .iter()
            .for_each(|text| assert!(valid(text), "{draft:?}: {text}"));
        wrong
            .iter()
            .for_each(|text| assert!(!valid(text), "{draft:?}: {text}"));
    }
}

#[test]
fn the_schema_accepts_what_is_valid() {
    let schema = jsonschema::validator_for(&spec::schema()).unwrap();
    for path in fixtures("valid") {
        let errors: Vec<String> = schema
            .iter_errors(&as_json(&path).unwrap())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

/// What the decoder alone can tell: keys that depend on each other, secrets, ranges, names.
const BEYOND_THE_SCHEMA: &[&str] = &[
    "S004", "S011", "S018", "S020", "S021", "S024", "S025", "S026",
];

#[test]
fn schema_and_decoder_agree_about_files_with_one_thing_changed() {
    let mut schema = spec::schema();
    // What an assertion says is judged by the plan.
    let text = serde_json::json!({ "type": ["string", "number", "boolean"] });
    schema["$defs"]["Assertion"] =
        serde_json::json!({ "anyOf": [text, { "type": "array", "minItems": 1, "items": text }] });
    let schema = jsonschema::validator_for(&schema).unwrap();
    let mut tried = 0;
    let mut drift = Vec::new();
    for path in fixtures("valid") {
        if path.ends_with("full.yaml") {
            // The smaller files say the same in pieces, and faster.
            continue;
        }
        let whole = as_json(&path).unwrap();
        for changed in with_one_change(&whole) {
            tried += 1;
            let text = changed.to_string();
            let mut sources = Sources::default();
            let (spec, diagnostics) = spec::parse(&mut sources, Path::new("changed.json"), &text);
            let valid = schema.is_valid(&changed);
            let beyond = diagnostics
                .iter()
                .all(|found| BEYOND_THE_SCHEMA.contains(&found.code));
            if spec.is_some() != valid && (spec.is_some() || !beyond) {
                let drawn = diagnostic::render(&diagnostics, &sources, false);
                let messages: Vec<&str> = drawn.lines().filter(|l| l.contains("error[")).collect();
                let refused: Vec<String> = schema
                    .iter_errors(&changed)
                    .map(|error| error.instance_path().to_string())
                    .collect();
                drift.push(format!(
                    "{}: decoder {messages:?}, schema {refused:?}",
                    path.display()
                ));
            }
        }
    }
    assert!(tried > 1000, "{tried}");
    drift.truncate(20);
    assert!(drift.is_empty(), "{}", drift.join("\n"));
}

/// The value with one part replaced, one key added or one key left out, in every place.
fn with_one_change(value: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::{Value, json};

    let mut changed = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(2.5),
        json!("Zzz zz"),
        json!([]),
        json!({}),
        json!({ "zzz": 1 }),
    ];
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                for new in with_one_change(item) {
                    let mut items = items.clone();
                    items[index] = new;
                    changed.push(items.into());
                }
            }
        }
        Value::Object(object) => {
            let mut more = object.clone();
            more.insert("zzz".to_owned(), json!({ "zzz": [1] }));
            changed.push(more.into());
            for (key, item) in object {
                let mut fewer = object.clone();
                fewer.remove(key);
                changed.push(fewer.into());
                for new in with_one_change(item) {
                    let mut object = object.clone();
                    object.insert(key.clone(), new);
                    changed.push(object.into());
                }
            }
        }
        _ => {}
    }
    changed
}

#[test]
fn every_code_of_this_stage_is_explained_and_shown_by_a_fixture() {
    let shown: String = fixtures("invalid")
        .iter()
        .map(|path| fs::read_to_string(path.with_extension("expected")).unwrap())
        .collect();
    for (code, _) in spec::CODES {
        // `compose.rs` shows those of files, profiles and expressions.
        let elsewhere = matches!(*code, "S012" | "S027" | "S044") || *code >= "S100";
        let found = shown.contains(&format!("[{code}]"));
        assert!(found || elsewhere, "no fixture shows {code}");
    }
    for (at, _) in shown.match_indices(": error[") {
        let code = &shown[at + ": error[".len()..][..4];
        assert!(language::title(code).is_some(), "{code} is not explained");
    }
}

#[test]
fn no_secret_is_quoted() {
    let path = Path::new("fixtures/specs/invalid/secrets-in-file.yaml");
    let text = fs::read_to_string(path).unwrap();
    let mut sources = Sources::default();
    let (_, diagnostics) = spec::parse(&mut sources, path, &text);
    let drawn = diagnostic::render(&diagnostics, &sources, true);
    let json = diagnostic::to_json(&diagnostics, &sources).to_string();
    assert!(text.contains("sk-"));
    assert!(!drawn.contains("sk-"), "{drawn}");
    assert!(!json.contains("sk-"), "{json}");
}

#[test]
fn a_place_has_line_and_column_in_json() {
    let mut sources = Sources::default();
    let text =
        "version: 1\nbackends: { a: { kind: vlm } }\nload: { l: { levels: { users: 1 } } }\n";
    let (_, diagnostics) = spec::parse(&mut sources, Path::new("a.yaml"), text);
    assert_eq!(
        diagnostic::to_json(&diagnostics, &sources)[0]["at"],
        serde_json::json!({
            "path": "a.yaml", "line": 2, "column": 24, "end_line": 2, "end_column": 27, "text": "did you mean `vllm`?",
        })
    );
}

#[test]
fn a_bare_scalar_keeps_its_text_where_a_text_is_wanted() {
    let text = "version: 1\nbackends: { a: \"http://localhost\" }\nload: { l: { batch: { size: all } } }\n\
                models: { m: { id: 3.10, served_as: { a: 007 } }, n: no }\n";
    let (spec, _) = spec::parse(&mut Sources::default(), Path::new("a.yaml"), text);
    let models = spec.unwrap().models.unwrap();
    let m = models.get("m").unwrap();
    assert_eq!(m.id.as_ref().unwrap().value, "3.10");
    assert_eq!(m.served_as.as_ref().unwrap().get("a").unwrap().value, "007");
    assert_eq!(models.get("n").unwrap().id.as_ref().unwrap().value, "no");
}

const SMALL: &str = "version: 1\nbackends: { a: \"http://localhost\" }\nload: { l: { stages: [{ name: s, rate: 8/s, for: 1m }] } }\nslos: { t: P95 TTFT < 1s }\n";

/// What comes out of the small file with values replaced: the spec or the first line of each diagnostic.
fn set(arguments: &[&str]) -> Result<spec::ScenarioSpec, String> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let mut sources = Sources::default();
    let path = Path::new("a.yaml");
    let (spec, diagnostics) = spec::parse_with(&mut sources, path, SMALL, &arguments);
    let drawn = diagnostic::render(&diagnostics, &sources, false);
    let lines: Vec<&str> = drawn
        .lines()
        .filter(|line| line.contains("error["))
        .collect();
    spec.ok_or(lines.join("\n"))
}

#[test]
fn values_are_replaced_from_the_command_line() {
    let spec = set(&[
        "run.seed=7",
        "load.l.stages.0.for=5s",
        "run.budget={ requests: 10 }",
        "slos.t=null",
        "slos.u=P95 TTFT < 2s",
    ])
    .unwrap();
    let run = spec.run.unwrap();
    assert_eq!(run.seed.unwrap().value, 7);
    assert_eq!(run.budget.unwrap().requests.unwrap().value, 10);
    assert_eq!(spec.slos.unwrap().names().collect::<Vec<_>>(), ["u"]);
    let spec::LoadForm::Stages(stages) = &spec.load.get("l").unwrap().form.value else {
        panic!("stages");
    };
    let duration = stages[0].value.duration.as_ref().unwrap().value;
    assert_eq!(duration, std::time::Duration::from_secs(5));
}

#[test]
fn a_replacement_is_judged_at_its_own_place() {
    let wrong = |argument: &str| set(&[argument]).unwrap_err();
    assert_eq!(
        wrong("run.seed=many"),
        "--set:1:10: error[S013]: expected a whole number, found `many`"
    );
    assert_eq!(
        wrong("run.sed=7"),
        "--set:1:5: error[S010]: unknown key `sed`"
    );
    assert_eq!(
        wrong("run.seed"),
        "--set:1:1: error[S027]: expected `KEY=VALUE`"
    );
    assert_eq!(
        wrong("load.l.stages.7.for=1s"),
        "--set:1:15: error[S027]: `7` cannot be set"
    );
    assert_eq!(
        wrong("slos.x=null"),
        "--set:1:6: error[S027]: `x` cannot be set"
    );
    assert_eq!(
        wrong("backends.a.url=http://x"),
        "--set:1:12: error[S027]: `url` cannot be set"
    );
    assert_eq!(wrong("run.seed="), wrong("run.seed"));
    assert!(wrong("run.seed=[1").starts_with("--set:1:"));
}

#[test]
fn a_file_from_windows_reads_the_same() {
    let text = fs::read_to_string("fixtures/specs/valid/full.yaml").unwrap();
    let read = |text: &str| spec::parse(&mut Sources::default(), Path::new("a.yaml"), text);
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    // Spans differ, which `Spanned` does not compare.
    assert_eq!(
        read(&windows).0.unwrap().backends,
        read(&text).0.unwrap().backends
    );
}

#[test]
fn spans_of_texts_begin_at_the_text_itself() {
    let text = "version: 1\nbackends: { a: \"http://localhost\" }\nload: { l: { batch: { size: all } } }\n\
                slos:\n  plain: P95 TTFT < 1s\n  quoted: \"P95 TTFT < 2s\"\n";
    let (spec, _) = spec::parse(&mut Sources::default(), Path::new("a.yaml"), text);
    for slo in &spec.unwrap().slos.unwrap() {
        let spec::Assertions::One(assertion) = &slo.value.assert else {
            panic!("one assertion");
        };
        assert_eq!(
            text[assertion.span.start..assertion.span.end],
            assertion.value
        );
    }
}

mod never_panics {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) {
        let mut sources = Sources::default();
        let (spec, diagnostics) = spec::parse(&mut sources, Path::new("a.yaml"), text);
        diagnostic::render(&diagnostics, &sources, false);
        diagnostic::to_json(&diagnostics, &sources);
        let wrong = diagnostics
            .iter()
            .any(|found| found.severity == diagnostic::Severity::Error);
        assert_eq!(spec.is_none(), wrong, "{text:?}");
    }

    fn fixture() -> impl Strategy<Value = String> {
        let mut files = fixtures("valid");
        files.extend(fixtures("invalid"));
        let texts: Vec<String> = files
            .iter()
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        proptest::sample::select(texts)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn on_any_text(text in "\\PC*") {
            read(&text);
        }

        #[test]
        fn on_yaml_like_text(text in "[-a-z0-9:{}\\[\\],&*!|>'\"%@`#?<$ \t\n\r~é]{0,200}") {
            read(&text);
        }

        #[test]
        fn on_a_scenario_with_a_piece_moved(
            text in fixture(),
            from in any::<proptest::sample::Index>(),
            length in 0_usize..40,
            to in any::<proptest::sample::Index>(),
        ) {
            let mut characters: Vec<char> = text.chars().collect();
            if !characters.is_empty() {
                let from = from.index(characters.len());
                let end = (from + length).min(characters.len());
                let piece: Vec<char> = characters.drain(from..end).collect();
                let to = to.index(characters.len() + 1);
                characters.splice(to..to, piece);
            }
            read(&characters.into_iter().collect::<String>());
        }
    }
}
