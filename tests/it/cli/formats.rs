//! `scenario check` for machines: JSON, SARIF and the annotations of GitHub Actions.

use std::path::Path;

use serde_json::Value;

use crate::tool::{Desk, Ended};

/// A name, a metric and a level that are wrong, the last one far from what it collides with.
const WRONG: &str = "\
version: 1
backends: { vllm: http://localhost:8000 }
load: { l: { levels: { users: [2, 2], for: 10s } } }
slos:
  ttft: P95 TTTF < 500ms
  ttft: P95 TTFT < 1s
";

const DOUBTFUL: &str = "\
version: 1
backends: { vllm: http://localhost:8000 }
load: { l: { levels: { users: 2, requests: 20 } } }
slos: { ttft: P95 TTFT < 500 }
";

fn check(desk: &Desk, words: &[&str]) -> Ended {
    desk.write("wrong one.yaml", WRONG);
    desk.write("doubtful.yaml", DOUBTFUL);
    let mut all = vec!["check", "wrong one.yaml", "doubtful.yaml"];
    all.extend(words);
    desk.tool(&all).with_code(2)
}

fn sarif(ended: &Ended) -> Value {
    let log: Value = serde_json::from_str(&ended.out).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sarif-2.1.0.json");
    let schema = std::fs::read_to_string(path).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let errors: Vec<String> = schema
        .iter_errors(&log)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    log
}

#[test]
fn a_code_scanner_reads_the_mistakes_of_every_file() {
    let desk = Desk::new();
    let log = sarif(&check(&desk, &["--format", "sarif"]));
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let told: Vec<String> = results
        .iter()
        .map(|result| {
            let place = &result["locations"][0]["physicalLocation"];
            // A rule is found by its index.
            let index = result["ruleIndex"].as_u64().unwrap() as usize;
            let rule = &run["tool"]["driver"]["rules"][index];
            assert_eq!(rule["id"], result["ruleId"]);
            format!(
                "{} {} {}:{} {}",
                result["level"].as_str().unwrap(),
                rule["id"].as_str().unwrap(),
                place["artifactLocation"]["uri"].as_str().unwrap(),
                place["region"]["startLine"],
                result["message"]["text"]
                    .as_str()
                    .unwrap()
                    .lines()
                    .next()
                    .unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "error S048 wrong%20one.yaml:3 the level `c2` stands twice",
            "error S031 wrong%20one.yaml:5 unknown metric `TTTF`",
            "error S004 wrong%20one.yaml:6 `ttft` stands twice here",
            "warning L003 doubtful.yaml:4 `P95 TTFT < 500` needs 59 answers for 95 % confidence; `l/c2` plans 20",
            "warning L030 doubtful.yaml:4 `500` has no unit; it is read as a time",
        ]
    );
    let twice = &results[2]["relatedLocations"][0];
    assert_eq!(twice["physicalLocation"]["region"]["startLine"], 5);
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let page = rules.iter().find(|rule| rule["id"] == "S031").unwrap();
    assert!(
        page["help"]["markdown"]
            .as_str()
            .unwrap()
            .contains("P95 TTTF < 500ms")
    );
}

#[test]
fn a_right_file_is_a_log_without_results_and_what_has_no_place_is_of_the_file() {
    let desk = Desk::new();
    desk.write(
        "right.yaml",
        &DOUBTFUL.replace("500 }", "500ms }").replace("20", "80"),
    );
    let log = sarif(
        &desk
            .tool(&["check", "right.yaml", "--format", "sarif"])
            .with_code(0),
    );
    assert_eq!(log["runs"][0]["results"], serde_json::json!([]));
    for more in [["--only", "sglang"], ["--set", "run.sed=7"]] {
        let ended = desk.tool(&["check", "right.yaml", "--format", "sarif", more[0], more[1]]);
        let log = sarif(&ended.with_code(2));
        let place = &log["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        let expected = serde_json::json!({ "artifactLocation": { "uri": "right.yaml" } });
        assert_eq!(place, &expected, "{more:?}");
    }
}

#[test]
fn a_pull_request_is_annotated_on_its_lines() {
    let ended = check(&Desk::new(), &["--format", "github"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ended.out);
    let expected = "::error file=wrong one.yaml,line=5,endLine=5,col=13,endColumn=17,title=S031::unknown metric `TTTF`%0Adid you mean `TTFT` (time to first token)?%0Ahelp: ";
    assert!(lines[1].starts_with(expected), "{}", lines[1]);
    assert!(
        lines[3].starts_with("::warning file=doubtful.yaml,line=4,endLine=4,col="),
        "{}",
        lines[3]
    );
    assert_eq!(ended.err, "");
}

#[test]
fn no_format_tells_a_secret() {
    let desk = Desk::new();
    desk.write(
        "leak.yaml",
        "version: 1\nbackends: { a: { url: http://localhost, auth: { bearer: sk-12345 } } }\nload: { l: { levels: { users: 1 } } }\n",
    );
    for format in ["text", "json", "sarif", "github"] {
        let ended = desk
            .tool(&["check", "leak.yaml", "--format", format])
            .with_code(2);
        let told = ended.out + &ended.err;
        assert!(told.contains("S020"), "{format}: {told}");
        assert!(!told.contains("sk-12345"), "{format}: {told}");
    }
}
