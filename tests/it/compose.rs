//! Several files in, one scenario out: each fixture is a text with files in it, and what comes of the first of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use scenario::diagnostic::{self, Sources};
use scenario::plan::{self, PlanOptions};
use scenario::spec::{self, Inputs, Reading, View};

use crate::golden::{self, assert_golden};

/// Files in one text: each begins with `=== NAME`; a first line `$ …` has options of the command line.
struct Story {
    options: Vec<String>,
    files: Vec<(PathBuf, String)>,
}

impl Story {
    fn read(path: &Path) -> Story {
        Story::of(&fs::read_to_string(path).unwrap())
    }

    fn of(text: &str) -> Story {
        let mut story = Story {
            options: Vec::new(),
            files: Vec::new(),
        };
        for line in text.lines() {
            if let Some(options) = line.strip_prefix("$ ") {
                story.options = options.split(' ').map(str::to_owned).collect();
            } else if let Some(name) = line.strip_prefix("=== ") {
                story.files.push((name.into(), String::new()));
            } else {
                let (_, text) = story.files.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
        }
        story
    }

    /// The values of an option.
    fn option(&self, name: &str) -> Vec<String> {
        let pairs = self.options.chunks(2);
        let values = pairs.filter(|pair| pair[0] == name);
        values.map(|pair| pair[1].clone()).collect()
    }

    fn compose(&self, environment: &BTreeMap<&str, &str>) -> (Reading, Sources) {
        let files = |path: &Path| {
            let found = self.files.iter().find(|(name, _)| name == path);
            let text = found.map(|(_, text)| text.clone());
            text.ok_or_else(|| "it is not there".to_owned())
        };
        let profiles = self.option("--profile");
        let inputs = Inputs {
            files: &files,
            environment: &|name| environment.get(name).map(|value| (*value).to_owned()),
            profile: profiles.first().map(String::as_str),
            vars: &self.option("--var"),
            sets: &self.option("--set"),
        };
        let mut sources = Sources::default();
        let (path, text) = &self.files[0];
        let reading = spec::read(&mut sources, path, text, &inputs);
        (reading, sources)
    }

    fn composed(&self) -> (Reading, Sources) {
        self.compose(&BTreeMap::new())
    }
}

fn drawn((reading, sources): &(Reading, Sources)) -> String {
    diagnostic::render(&reading.diagnostics, sources, false)
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    golden::fixtures(Path::new("fixtures/compose").join(folder), "txt")
}

#[test]
fn files_become_one_with_the_place_of_every_value() {
    for path in fixtures("valid") {
        let composed = Story::read(&path).composed();
        assert_eq!(drawn(&composed), "", "{}", path.display());
        let (reading, sources) = &composed;
        assert!(reading.spec.is_some());
        let view = View {
            origin: Some((sources, &reading.provenance)),
        };
        let composition = reading.composition.as_ref().unwrap();
        let shown = format!(
            "{}--- resolved\n{}",
            composition.yaml(view),
            composition.resolved_yaml(sources, View::default())
        );
        assert_golden(path.with_extension("expected"), &shown);
    }
}

/// `show --resolved` is a scenario of its own, which says the same.
#[test]
fn what_is_shown_resolved_is_the_same_scenario() {
    for path in fixtures("valid") {
        let (reading, sources) = Story::read(&path).composed();
        let spec = reading.spec.unwrap();
        let text = reading
            .composition
            .unwrap()
            .resolved_yaml(&sources, View::default());
        let (again, wrong) = spec::parse(&mut Sources::default(), Path::new("again.yaml"), &text);
        assert!(wrong.is_empty(), "{wrong:#?}\n{text}");
        let mut again = again.unwrap();
        again.vars.clone_from(&spec.vars);
        assert_eq!(again, spec, "{}", path.display());
    }
}

#[test]
fn each_mistake_is_told_with_both_places() {
    for path in fixtures("invalid") {
        let composed = Story::read(&path).composed();
        assert!(composed.0.spec.is_none(), "{} is accepted", path.display());
        assert_golden(path.with_extension("expected"), &drawn(&composed));
    }
}

#[test]
fn every_code_of_composition_is_shown_by_a_fixture() {
    let shown: String = fixtures("invalid")
        .iter()
        .map(|path| fs::read_to_string(path.with_extension("expected")).unwrap())
        .collect();
    let composition = |code: &&str| *code == "S012" || *code >= "S100";
    for code in spec::CODES
        .iter()
        .map(|(code, _)| *code)
        .filter(composition)
    {
        assert!(
            shown.contains(&format!("[{code}]")),
            "no fixture shows {code}"
        );
    }
}

const PRECEDENCE: &str = "\
=== team.yaml
extends: base.yaml
vars: { peak: 2 }
profiles: { smoke: { vars: { peak: 3 } } }
=== base.yaml
version: 1
vars: { peak: { default: 1, type: integer, description: top, env: TEAM_PEAK } }
backends: { sim: { kind: simulator } }
load: { l: { batch: { size: \"${{ vars.peak }}\" } } }
";

/// Command line over environment over profile over file over base.
#[test]
fn the_nearer_value_wins() {
    let size = |options: &[&str], environment: &[(&str, &str)]| {
        let mut story = Story::of(PRECEDENCE);
        story.options = options.iter().map(|word| (*word).to_owned()).collect();
        let environment = environment.iter().copied().collect();
        let composed = story.compose(&environment);
        assert_eq!(drawn(&composed), "");
        let load = composed.0.spec.unwrap().load;
        let spec::LoadForm::Batch(batch) = &load.get("l").unwrap().form.value else {
            panic!("a batch");
        };
        match batch.size.value {
            spec::BatchSize::Of(size) => size,
            spec::BatchSize::All => panic!("a number"),
        }
    };
    let (own, general) = (("TEAM_PEAK", "4"), ("SCENARIO_VAR_PEAK", "5"));
    assert_eq!(size(&[], &[]), 2);
    assert_eq!(size(&["--profile", "smoke"], &[]), 3);
    assert_eq!(size(&["--profile", "smoke"], &[own]), 4);
    assert_eq!(size(&["--profile", "smoke"], &[own, general]), 5);
    assert_eq!(
        size(&["--profile", "smoke", "--var", "peak=6"], &[own, general]),
        6
    );
    assert_eq!(size(&["--var", "peak=6", "--var", "peak=7"], &[]), 7);
    // An empty variable counts as unset.
    assert_eq!(size(&[], &[("TEAM_PEAK", "")]), 2);
    assert_eq!(
        size(
            &["--set", "load.l.batch.size=9", "--var", "peak=6"],
            &[general]
        ),
        9
    );
}

#[test]
fn a_variable_that_is_given_anew_keeps_its_type_and_what_it_is_for() {
    let (reading, _) = Story::of(PRECEDENCE).composed();
    let inputs = reading.composition.unwrap().inputs();
    assert_eq!(inputs[0].description.as_deref(), Some("top"));
    assert_eq!(inputs[0].env, ["SCENARIO_VAR_PEAK", "TEAM_PEAK"]);
    let spec::InputKind::Variable { kind, value, .. } = &inputs[0].kind else {
        panic!("a variable");
    };
    assert_eq!(*kind, spec::VarType::Integer);
    assert_eq!(value.as_deref(), Some("2"));
}

#[test]
fn a_secret_is_known_by_its_name_alone() {
    let story = Story::read(Path::new("fixtures/compose/valid/expressions.txt"));
    let (reading, sources) = story.compose(&[("TOKEN", "sk-very-secret")].into());
    let spec = reading.spec.unwrap();
    let shown = format!("{spec:?}{sources:?}{:?}", reading.composition);
    assert!(!shown.contains("sk-very-secret"));
    let headers = spec.backends.get("vllm").unwrap().headers.as_ref().unwrap();
    let spec::HeaderSpec::Environment(secret) = headers.get("X-Key").unwrap() else {
        panic!("from the environment");
    };
    assert_eq!(secret.env.value, "TOKEN");
    assert_eq!(secret.prefix.as_ref().unwrap().value, "Token ");
    assert_eq!(secret.suffix.as_ref().unwrap().value, ";v=1");
}

#[test]
fn a_map_of_which_all_is_taken_away_is_gone() {
    let story = Story::of(
        "=== team.yaml\nextends: base.yaml\nslos: { ttft: null }\n=== base.yaml\nversion: 1\nbackends: { sim: { kind: simulator } }\n\
         load: { l: { batch: { size: all } } }\nslos: { ttft: P95 TTFT < 1s }\n",
    );
    let composed = story.composed();
    assert_eq!(drawn(&composed), "");
    assert!(composed.0.spec.unwrap().slos.is_none());
}

/// What is asked in each cell, by its backend.
#[test]
fn a_request_knows_its_cell() {
    let (reading, sources) = Story::read(Path::new("fixtures/compose/valid/cells.txt")).composed();
    let spec = reading.spec.unwrap();
    let (plan, _) = plan::plan(&spec, &sources, &PlanOptions::default()).unwrap();
    let asked: Vec<_> = plan
        .cells
        .iter()
        .map(|cell| {
            let request = &cell.request;
            let extra = serde_json::Value::Object(request.extra.clone());
            (request.seed, request.stop.join(" "), extra.to_string())
        })
        .collect();
    let extra =
        |backend: &str| format!(r#"{{"tag":"team 7/{backend}/chat","nested":[{{"name":"m"}},7]}}"#);
    assert_eq!(
        asked,
        [
            (Some(7), String::new(), extra("vllm")),
            (Some(1), "a steady".to_owned(), extra("sglang")),
        ]
    );
}

#[test]
fn a_word_that_surprises_other_readers_takes_nothing_from_a_cell() {
    let story = Story::of(
        "=== main.yaml\nversion: 1\nbackends: { vllm: \"http://localhost:8000\" }\n\
         load: { a: { levels: { users: 4, for: 30s } } }\n\
         request: { max_tokens: 64, temperature: 0.7, extra: { user: \"${{ cell.backend }}\", safe: yes } }\n",
    );
    let (reading, sources) = story.composed();
    let told: Vec<_> = reading.diagnostics.iter().map(|told| told.code).collect();
    assert_eq!(told, ["L010"]);
    let spec = reading.spec.unwrap();
    let (plan, _) = plan::plan(&spec, &sources, &PlanOptions::default()).unwrap();
    let request = &plan.cells[0].request;
    assert_eq!((request.max_tokens, request.temperature), (64, 0.7));
    let extra = serde_json::Value::Object(request.extra.clone());
    assert_eq!(extra.to_string(), r#"{"user":"vllm","safe":"yes"}"#);
}

#[test]
fn what_does_not_fit_in_a_cell_is_told_once_at_its_place() {
    for (request, expected) in [
        (
            "max_tokens: \"${{ cell.backend }}\"",
            "main.yaml:4:25: error[S013]: expected a whole number, found the text `vllm`",
        ),
        (
            "seed: \"${{ 1 // (cell.model | length - 5) }}\"",
            "main.yaml:4:23: error[S107]: this cannot be computed: invalid operation: unable to calculate 1 // 0",
        ),
    ] {
        let story = Story::of(&format!(
            "=== main.yaml\nversion: 1\nbackends: {{ vllm: \"http://localhost:8000\" }}\n\
             load: {{ a: {{ levels: {{ users: 4, for: 30s }} }}, b: {{ levels: {{ users: 8, for: 30s }} }} }}\n\
             request: {{ {request} }}\nmodels: {{ small: m }}\n",
        ));
        let (reading, sources) = story.composed();
        let spec = reading.spec.unwrap();
        let found = plan::plan(&spec, &sources, &PlanOptions::default()).unwrap_err();
        let drawn = diagnostic::render(&found, &sources, false);
        let mut told = drawn.lines().filter(|line| line.contains("error["));
        assert_eq!(told.next(), Some(expected), "{drawn}");
        assert_eq!(told.next(), None, "{drawn}");
    }
}

mod a_value_changes_nothing_but_itself {
    use proptest::prelude::*;

    use super::*;

    const TEMPLATE: &str = "\
=== main.yaml
version: 1
vars: { a: { default: plain, env: GIVEN }, b: other }
secrets: { token: { env: TOKEN } }
description: \"${{ vars.a }}\"
owner: \"x ${{ vars.a }} y${{ vars.b }}\"
backends:
  sim:
    url: http://localhost
    auth: { bearer: \"${{ secrets.token }}\" }
    headers: { X-Note: \"${{ vars.a ~ vars.b }}\" }
prompts: { p: { source: inline, prompts: [\"${{ vars.a }}\", before, \"${{ [vars.a, 'after'] | last }}\"] } }
load: { l: { batch: { size: all } } }
request: { extra: { note: \"${{ vars.a }}\", list: \"${{ [vars.a] }}\", stays: 1 } }
slos: { ttft: P95 TTFT < 1s }
";

    /// Pieces that mean something to YAML, to expressions or to a shell, and a secret.
    const PIECES: [&str; 38] = [
        "{{",
        "}}",
        "${{",
        "${{ vars.b }}",
        "{{ row.x }}",
        "{%",
        "'",
        "\"",
        "\\",
        "\n",
        "\r\n",
        "\t",
        ": ",
        "- ",
        " #",
        "#",
        "&a",
        "*a",
        "!t",
        "|",
        ">",
        "%",
        "@",
        "`",
        "[",
        "]",
        "{",
        "}",
        ",",
        "null",
        "~",
        "true",
        "3.10",
        "sk-very-secret",
        "é日",
        " ",
        "---\n",
        "$HOME",
    ];

    fn value() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            proptest::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
            "[a-z0-9]{1,4}",
        ];
        proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
    }

    /// The scenario with its values, each where it is expected, and with a mark in the place of each.
    fn holds(reading: Reading, sources: &Sources, value: &str) -> Result<String, TestCaseError> {
        let drawn = diagnostic::render(&reading.diagnostics, sources, false);
        prop_assert!(reading.spec.is_some(), "{}", drawn);
        let mut spec = reading.spec.unwrap();
        let description = spec.description.as_mut().unwrap();
        prop_assert_eq!(std::mem::take(&mut description.value), value);
        let owner = spec.owner.as_mut().unwrap();
        prop_assert_eq!(
            std::mem::take(&mut owner.value),
            format!("x {value} yother")
        );
        let headers = &mut spec.backends.0[0].value.headers.as_mut().unwrap().0[0].value;
        let spec::HeaderSpec::Literal(header) = headers else {
            panic!("a text");
        };
        prop_assert_eq!(std::mem::take(&mut header.value), format!("{value}other"));
        let set = &mut spec.prompts.as_mut().unwrap().0[0].value;
        let spec::SourceSpec::Inline(source) = &mut set.source.value else {
            panic!("prompts of its own");
        };
        prop_assert_eq!(&source.prompts[1].prompt.value, "before");
        prop_assert_eq!(&source.prompts[2].prompt.value, "after");
        prop_assert_eq!(std::mem::take(&mut source.prompts[0].prompt.value), value);
        let request = spec.request.as_mut().unwrap();
        let extra = &mut request.extra.as_mut().unwrap().value;
        prop_assert_eq!(extra["note"].take(), value);
        prop_assert_eq!(extra["list"].take(), serde_json::json!([value]));
        // What is declared differs by what was declared.
        spec.vars = None;
        let spans = regex::Regex::new(r"Span \{[^}]*\}").unwrap();
        Ok(spans.replace_all(&format!("{spec:?}"), "").into_owned())
    }

    fn around(given: &str, how: &str) -> Result<(), TestCaseError> {
        let story = Story::of(TEMPLATE);
        let (plain, sources) = story.composed();
        let expected = holds(plain, &sources, "plain")?;
        let mut story = Story::of(TEMPLATE);
        let mut environment = BTreeMap::from([("TOKEN", "sk-very-secret")]);
        match how {
            "--var" => story.options = vec!["--var".to_owned(), format!("a={given}")],
            "default" => {
                let quoted = serde_json::Value::from(given).to_string();
                let (_, text) = &mut story.files[0];
                *text = text.replace("default: plain", &format!("default: {quoted}"));
            }
            name => drop(environment.insert(name, given)),
        }
        let (reading, sources) = story.compose(&environment);
        let composition = reading.composition.clone().unwrap();
        prop_assert_eq!(&holds(reading, &sources, given)?, &expected);
        // Shown as one resolved file and read again, it is the same.
        let text = composition.resolved_yaml(&sources, View::default());
        let again = Story {
            options: Vec::new(),
            files: vec![("again.yaml".into(), text.clone())],
        };
        let (reading, sources) = again.composed();
        prop_assert_eq!(&holds(reading, &sources, given)?, &expected, "{}", text);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn given_on_the_command_line(given in value()) {
            around(&given, "--var")?;
        }

        #[test]
        fn given_by_the_environment(given in value()) {
            around(&given, "GIVEN")?;
            around(&given, "SCENARIO_VAR_A")?;
        }

        /// A default is no place for expressions, so that one there is a mistake and no value.
        #[test]
        fn written_in_the_file(given in value().prop_filter("an expression", |text| !text.contains("${{"))) {
            around(&given, "default")?;
        }
    }
}
