//! `scenario run`: a scenario file in, a verdict, its files and an exit code out.

use serde_json::json;

use crate::tool::{self, CALM, Desk, Doorbell, Mock, nobody, numbers, on_the_simulator, verdict};

const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";

#[test]
fn a_violated_slo_exits_1_and_junit_quotes_the_line() {
    let desk = Desk::new();
    let text = on_the_simulator(
        TEN,
        "slos:\n  speed: P50 TTFT < 1us   # nobody is that fast\n",
    );
    let ended = desk.run(&text, &[]).with_code(1);

    let line = 1 + text
        .lines()
        .position(|line| line.contains("speed:"))
        .unwrap();
    let junit = ended.text("junit.xml");
    let failure = junit
        .split_once("<failure")
        .and_then(|(_, rest)| rest.split_once("</failure>"))
        .expect("a failure")
        .0;
    assert!(
        failure.contains("speed: P50 TTFT < 1us   # nobody is that fast"),
        "{failure}"
    );
    assert!(
        failure.contains(&format!("trial.yaml:{line}:10")),
        "{failure}"
    );
    assert!(junit.contains("failures=\"1\""), "{junit}");

    let report = ended.report();
    assert_eq!(report["status"], "failed");
    assert_eq!(report["exit_code"], 1);
    assert_eq!(report["simulated"], true);
    let speed = verdict(&report, "speed[p50] @c2");
    assert_eq!(speed["status"], "fail");
    assert_eq!(
        speed["at"],
        json!({ "file": "trial.yaml", "line": line, "col": 10 })
    );
    assert!(
        ended.out.contains("✗") && ended.out.contains("simulated"),
        "{}",
        ended.out
    );
    for name in [
        "requests.csv",
        "requests.ndjson",
        "summary.csv",
        "summary.md",
    ] {
        assert!(!ended.text(name).is_empty(), "{name}");
    }
}

#[test]
fn slos_that_hold_exit_0() {
    let text = on_the_simulator(
        TEN,
        "slos: { speed: P50 TTFT < 60s, errors: error count == 0 }\n",
    );
    let ended = Desk::new().run(&text, &[]).with_code(0);
    let report = ended.report();
    assert_eq!(report["status"], "passed");
    assert_eq!(report["counts"]["slos"]["pass"], 2);
}

#[test]
fn without_slos_a_run_is_measured_and_says_that_nothing_was_gated() {
    let ended = Desk::new()
        .run(&on_the_simulator(TEN, ""), &[])
        .with_code(0);
    assert_eq!(ended.report()["status"], "measured");
    assert!(
        ended.out.contains("no SLOs: nothing was gated"),
        "{}",
        ended.out
    );
}

#[test]
fn a_file_without_slos_is_refused_where_they_are_required() {
    let bell = Doorbell::new();
    let text = tool::scenario(&bell.url, TEN, "");
    let ended = Desk::new().run(&text, &["--require-slos"]).with_code(2);
    assert!(ended.err.contains("no SLOs"), "{}", ended.err);
    assert!(ended.err.contains("Nothing was sent."), "{}", ended.err);
    assert_eq!(bell.rung(), 0);
    assert!(!ended.results.exists());
}

#[test]
fn a_backend_that_is_down_exits_3_in_its_time_and_names_its_url() {
    let url = nobody();
    let engine = format!("{{ kind: vllm, url: \"{url}\", ready: {{ timeout: 1s }} }}");
    let text = tool::scenario(&engine, TEN, "slos: { speed: P50 TTFT < 60s }\n");
    let ended = Desk::new().run(&text, &[]).with_code(3);
    let report = ended.report();
    assert_eq!(report["status"], "inconclusive");
    assert!(
        report["duration_s"].as_f64().unwrap() < 3.0,
        "{}",
        report["duration_s"]
    );
    assert!(ended.out.contains(&url), "{}", ended.out);
    assert!(ended.err.contains(&url), "{}", ended.err);
    assert!(ended.text("junit.xml").contains(&url));
    let run = &report["cells"][0]["runs"][0];
    assert_eq!(run["status"], "not_ready");
    assert!(run["reason"].as_str().unwrap().contains("1s"), "{run}");
}

#[test]
fn an_optional_backend_that_is_down_is_skipped() {
    let text = format!(
        "version: 1\nbackends:\n  there: {{ kind: simulator, preset: fast }}\n  gone: {{ kind: vllm, url: \"{}\", optional: true, ready: {{ timeout: 300ms }} }}\n\
         models: {{ m: any }}\nload: {{ l: {TEN} }}\nrequest: {{ max_tokens: 4 }}\nslos: {{ speed: P50 TTFT < 60s }}\n{CALM}",
        nobody()
    );
    let ended = Desk::new().run(&text, &[]).with_code(0);
    let report = ended.report();
    assert_eq!(report["counts"]["slos"]["pass"], 1);
    assert_eq!(report["counts"]["slos"]["skipped"], 1);
    assert_eq!(report["cells"][1]["runs"][0]["status"], "skipped");
    assert!(ended.text("junit.xml").contains("<skipped"));
}

#[test]
fn a_run_whose_every_gate_was_skipped_exits_3() {
    let url = nobody();
    let engine =
        format!("{{ kind: vllm, url: \"{url}\", optional: true, ready: {{ timeout: 300ms }} }}");
    let text = tool::scenario(&engine, TEN, "slos: { speed: P50 TTFT < 60s }\n");
    let ended = Desk::new().run(&text, &[]).with_code(3);
    assert_eq!(ended.report()["counts"]["slos"]["skipped"], 1);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_and_nothing_is_sent() {
    let bell = Doorbell::new();
    let text = format!(
        "version: 1\nbackends: {{ engine: \"{}\" }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: [2, 4], request_per_user: 5 }} }} }}\n\
         run: {{ cooldown: 2sec }}\n\
         slos:\n  metric: P95 TTTF < 1s\n  unit: P95 TTFT < 500 mss\n  stage: {{ assert: P95 TTFT < 1s, where: {{ stage: c5 }} }}\n",
        bell.url
    );
    let ended = Desk::new().run(&text, &[]).with_code(2);
    let expected = [
        ("trial.yaml:4:39", "did you mean `requests_per_user`?"),
        ("trial.yaml:5:18", "did you mean `2s`?"),
        (
            "trial.yaml:7:15",
            "did you mean `TTFT` (time to first token)?",
        ),
        ("trial.yaml:8:24", "did you mean `500ms`?"),
        ("trial.yaml:9:51", "did you mean `c2`?"),
    ];
    for (place, suggestion) in expected {
        assert!(ended.err.contains(place), "{place}:\n{}", ended.err);
        assert!(
            ended.err.contains(suggestion),
            "{suggestion}:\n{}",
            ended.err
        );
    }
    assert!(ended.err.contains("Nothing was sent."), "{}", ended.err);
    assert_eq!(bell.rung(), 0);
    assert!(!ended.results.exists());
}

#[test]
fn what_is_missing_because_of_a_mistake_is_no_second_mistake() {
    let desk = Desk::new();
    let text = "version: 1\nbackends: { vllm: \"http://127.0.0.1:9\", sglang: 127.0.0.1 }\nmodels: { m: any }\n\
                load: { l: { levels: { users: [2, 4], requests_per_user: 5 } } }\n\
                slos:\n  faster: sglang.output_tps >= 1.2 * vllm.output_tps\n  typo: P95 TTTF < 1s\n";
    let ended = desk.run(text, &[]).with_code(2);
    assert!(ended.err.contains("2 errors."), "{}", ended.err);
    assert!(
        ended.err.contains("did you mean `http://127.0.0.1`?"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("did you mean `TTFT`"), "{}", ended.err);
}

#[test]
fn one_wrong_file_among_several_stops_all_of_them() {
    let desk = Desk::new();
    let bell = Doorbell::new();
    desk.write("right.yaml", &tool::scenario(&bell.url, TEN, ""));
    desk.write("wrong.yaml", "version: 1\n");
    let ended = desk
        .tool(&["run", "right.yaml", "wrong.yaml", "--out", "results"])
        .with_code(2);
    assert!(ended.err.contains("wrong.yaml:"), "{}", ended.err);
    assert_eq!(bell.rung(), 0);
}

#[test]
fn several_files_have_results_of_their_own_and_the_worst_code() {
    let desk = Desk::new();
    desk.write(
        "holds.yaml",
        &on_the_simulator(TEN, "slos: { speed: P50 TTFT < 60s }\n"),
    );
    desk.write(
        "fails.yaml",
        &on_the_simulator(TEN, "slos: { speed: P50 TTFT < 1us }\n"),
    );
    let ended = desk
        .tool(&["run", "fails.yaml", "holds.yaml", "--out", "results"])
        .with_code(1);
    assert_eq!(
        tool::report(&ended.results.join("1/report.json"))["status"],
        "failed"
    );
    assert_eq!(
        tool::report(&ended.results.join("2/report.json"))["status"],
        "passed"
    );
}

#[test]
fn a_row_says_the_same_in_both_request_files() {
    let mock = Mock::start(&["--fault", "multi-token:n=3"]);
    let text = tool::scenario(&mock.url, TEN, "request: { max_tokens: 12 }\n");
    let ended = Desk::new().run(&text, &[]).with_code(0);
    let csv = ended.text("requests.csv");
    for row in ended.requests().rows.iter().filter(|row| row.more.measured) {
        let tpot = row.tpot_ms.unwrap().to_string();
        assert!(csv.contains(&format!(",{tpot},")), "{tpot}\n{csv}");
        // Without instants, events are told by the second.
        let sum = |of: fn(&(u64, u32, u32)) -> u32| row.more.slices.iter().map(of).sum::<u32>();
        assert!(row.more.output_events >= 4, "{row:?}");
        assert_eq!(sum(|slice| slice.1), row.more.output_events);
        assert!(Some(sum(|slice| slice.2)) <= row.output_tokens);
    }
}

const TOKEN: &str = "tok-3f9c1d77-not-for-print";

fn guarded(mock: &Mock) -> String {
    let engine = format!(
        "{{ kind: vllm, url: \"{}\", auth: {{ bearer: {{ env: TRIAL_TOKEN }} }} }}",
        mock.url
    );
    tool::scenario(&engine, TEN, "slos: { errors: error count == 0 }\n")
}

#[test]
fn an_unset_secret_exits_2_and_an_empty_one_counts_as_unset() {
    let mock = Mock::start(&["--api-key", TOKEN]);
    for variables in [&[][..], &[("TRIAL_TOKEN", "")][..]] {
        let ended = Desk::new()
            .start_run(&guarded(&mock), &[], variables)
            .end()
            .with_code(2);
        assert!(ended.err.contains("`TRIAL_TOKEN`"), "{}", ended.err);
        assert!(!ended.results.exists());
    }
}

#[test]
fn a_bearer_token_opens_the_engine_and_is_in_no_output() {
    let mock = Mock::start(&["--api-key", TOKEN]);
    let desk = Desk::new();
    let more = [
        "--record-events",
        "--verbose",
        "--progress",
        "json",
        "--summary-md",
        "steps.md",
    ];
    let ended = desk
        .start_run(&guarded(&mock), &more, &[("TRIAL_TOKEN", TOKEN)])
        .end()
        .with_code(0);
    assert!(!ended.out.contains(TOKEN) && !ended.err.contains(TOKEN));
    let mut looked_at = 0;
    for entry in std::fs::read_dir(&ended.results).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&tool::content(&path)).into_owned();
        assert!(!text.contains(TOKEN), "{}", path.display());
        looked_at += 1;
    }
    assert!(looked_at >= 6, "{looked_at}");
    assert!(
        !std::fs::read_to_string(desk.path("steps.md"))
            .unwrap()
            .contains(TOKEN)
    );
}

#[test]
fn a_refused_token_exits_3_and_is_in_no_output() {
    let mock = Mock::start(&["--api-key", "another"]);
    let ended = Desk::new()
        .start_run(&guarded(&mock), &[], &[("TRIAL_TOKEN", TOKEN)])
        .end()
        .with_code(3);
    assert!(
        ended.out.contains("refuses the credentials"),
        "{}",
        ended.out
    );
    let everything = [
        ended.out.as_str(),
        &ended.err,
        &ended.text("report.json"),
        &ended.text("junit.xml"),
    ];
    assert!(everything.iter().all(|text| !text.contains(TOKEN)));
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
    let desk = Desk::new();
    let open = "{ stages: [{ name: s, rate: 40/s, for: 500ms }] }";
    desk.write("trial.yaml", &on_the_simulator(open, ""));
    let arrivals = |seed: &str| {
        let ended = desk.tool(&["plan", "trial.yaml", "--seed", seed, "--arrivals", "-"]);
        ended.with_code(0).out
    };
    let first = arrivals("7");
    assert!(first.lines().count() > 10, "{first}");
    assert_eq!(first, arrivals("7"));
    assert_ne!(first, arrivals("8"));

    let digest = |seed: &str| {
        let words = ["run", "trial.yaml", "--seed", seed, "--out", "results"];
        let report = desk.tool(&words).with_code(0).report();
        assert_eq!(report["seed"].to_string(), seed);
        report["plan_digest"].as_str().unwrap().to_owned()
    };
    let seven = digest("7");
    assert_eq!(seven, digest("7"));
    assert_ne!(seven, digest("8"));
}

#[test]
fn a_level_of_warning_never_changes_the_exit_code() {
    // The first fails, the second lacks its samples.
    let slos = "slos:\n  slow: { assert: P50 TTFT < 1us, level: warn }\n  few: { assert: P99 TTFT < 60s, level: warn }\n  holds: error count == 0\n";
    let ended = Desk::new()
        .run(&on_the_simulator(TEN, slos), &[])
        .with_code(0);
    let report = ended.report();
    assert_eq!(report["status"], "passed");
    assert_eq!(verdict(&report, "slow[p50] @c2")["status"], "fail");
    assert_eq!(verdict(&report, "few[p99] @c2")["status"], "inconclusive");
    assert_eq!(report["counts"]["slos"]["warnings"], 2);
    assert!(!ended.text("junit.xml").contains("<failure"));
}

#[test]
fn no_data_is_never_a_pass_unless_a_doubt_is_asked_to_be_a_warning() {
    let desk = Desk::new();
    let text = on_the_simulator(TEN, "slos: { few: P99 TTFT < 60s }\n");
    let report = desk.run(&text, &[]).with_code(3).report();
    assert_eq!(report["status"], "inconclusive");
    desk.run(&text, &["--inconclusive", "warn"]).with_code(0);
    desk.run(&text, &["--exit-zero"]).with_code(0);
}

#[test]
fn a_failure_exits_0_only_where_the_code_is_asked_to_be_0() {
    let desk = Desk::new();
    let text = on_the_simulator(TEN, "slos: { speed: P50 TTFT < 1us }\n");
    desk.run(&text, &["--inconclusive", "warn"]).with_code(1);
    let report = desk.run(&text, &["--exit-zero"]).with_code(0).report();
    assert_eq!(report["status"], "failed");
}

#[test]
fn a_dry_run_shows_the_plan_and_sends_nothing() {
    let bell = Doorbell::new();
    let text = tool::scenario(&bell.url, TEN, "");
    let ended = Desk::new().run(&text, &["--dry-run"]).with_code(0);
    assert!(ended.out.contains("c2"), "{}", ended.out);
    assert_eq!(bell.rung(), 0);
    assert!(!ended.results.exists());
}

#[test]
fn results_go_to_a_folder_of_their_own_by_name_and_time() {
    let desk = Desk::new();
    desk.write("trial.yaml", &on_the_simulator(TEN, ""));
    for _ in 0..2 {
        desk.tool(&["run", "trial.yaml"]).with_code(0);
    }
    let folders: Vec<_> = std::fs::read_dir(desk.path("results/trial"))
        .unwrap()
        .collect();
    assert_eq!(folders.len(), 2);
    for folder in folders {
        tool::report(&folder.unwrap().path().join("report.json"));
    }
}

#[test]
fn two_simulated_backends_are_compared() {
    let text = format!(
        "version: 1\nbackends:\n  a: {{ kind: simulator, preset: fast }}\n  b: {{ kind: simulator, preset: fast }}\n\
         models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: 4, requests: 40, warmup: 0s }} }} }}\nrequest: {{ max_tokens: 8 }}\n\
         slos:\n  keeps-up: b.output_tps >= 0.1 * a.output_tps\n  far-ahead: b.output_tps >= 100 * a.output_tps\n{CALM}"
    );
    let ended = Desk::new().run(&text, &[]).with_code(1);
    let report = ended.report();
    let of = |id: &str| {
        let verdicts = report["verdicts"].as_array().unwrap();
        verdicts.iter().find(|verdict| verdict["id"] == id).unwrap()
    };
    assert_eq!(of("keeps-up")["status"], "pass");
    assert_eq!(of("far-ahead")["status"], "fail");
    assert_eq!(of("keeps-up")["cells"].as_array().unwrap().len(), 2);
    assert!(of("far-ahead")["cell"].is_null());
    let (seen, bound) = (
        &of("far-ahead")["observed"]["value"],
        &of("far-ahead")["bound"]["value"],
    );
    assert!(seen.as_f64().unwrap() > 0.0 && bound.as_f64() > seen.as_f64());
    assert!(ended.text("junit.xml").contains("name=\"comparisons\""));
}

/// Every form of load runs to a verdict: what is planned is sent and answered.
#[test]
fn every_form_of_load_runs_to_a_verdict() {
    let forms = [
        (
            "{ levels: { rate: [20/s, 40/s], for: 400ms, warmup: 100ms } }",
            &["r20", "r40"][..],
        ),
        (
            "{ levels: { users: [1, 3], requests_per_user: 4, warmup: 100ms } }",
            &["c1", "c3"],
        ),
        (
            "{ levels: { users: 3, requests: 9, warmup: 0s, tail: drain } }",
            &["c3"],
        ),
        ("{ levels: { users: 2, for: 300ms, warmup: 0s } }", &["c2"]),
        ("{ batch: { size: 4, requests: 10 } }", &["b4"]),
        ("{ batch: { size: all, requests: 12 } }", &["all"]),
        (
            "{ process: uniform, stages: [{ name: warm, rate: 10/s, for: 200ms, measure: false }, { name: climb, to: 60/s, for: 400ms }, \
             { name: pause, rate: 0/s, for: 100ms, measure: false }, { name: jump, rate: 30/s, for: 200ms, burst: 5 }, { name: fall, to: 5/s, for: 300ms, shape: exp }] }",
            &["climb", "jump", "fall"],
        ),
        (
            "{ process: { gamma: 0.5 }, stages: [{ name: clumps, rate: 60/s, for: 500ms }] }",
            &["clumps"],
        ),
        (
            "{ stages: [{ name: counted, rate: 100/s, requests: 20 }] }",
            &["counted"],
        ),
        (
            "{ stages: [{ name: fill, users: 0, to: 4, for: 300ms, measure: false }, { name: full, for: 300ms }, { name: down, to: 1, for: 200ms }], think: 10ms }",
            &["full", "down"],
        ),
        (
            "{ stages: [{ name: own, users: 3, requests_per_user: 4 }], think: { uniform: [1ms, 20ms] } }",
            &["own"],
        ),
    ];
    let desk = Desk::new();
    for (load, stages) in forms {
        let text = on_the_simulator(
            load,
            "run: { warmup: 0s, cooldown: 0s }\nslos: { errors: error count == 0 }\n",
        );
        let ended = desk.run(&text, &[]);
        assert_eq!(ended.code, Some(0), "{load}\n{}\n{}", ended.out, ended.err);
        let report = ended.report();
        for stage in stages {
            let numbers = numbers(&report, stage);
            let count = |key: &str| numbers[key].as_u64().unwrap();
            assert!(count("ok") > 0, "{load} {stage}: {numbers}");
            assert_eq!(
                count("planned"),
                count("ok") + count("cut") + count("unsent"),
                "{load} {stage}"
            );
            assert_eq!(
                verdict(&report, &format!("errors @{stage}"))["status"],
                "pass"
            );
        }
    }
}

#[test]
fn repeats_are_each_reported() {
    let text = on_the_simulator(
        TEN,
        "run: { repeats: 2, warmup: 0s, cooldown: 0s }\nslos: { speed: P50 TTFT < 60s }\n",
    );
    let report = Desk::new().run(&text, &[]).with_code(0).report();
    assert_eq!(report["cells"][0]["runs"].as_array().unwrap().len(), 2);
    assert_eq!(
        report["cells"][0]["stages"][0]["repeats"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        verdict(&report, "speed[p50] @c2")["repeats"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_budget_stops_the_run_with_a_doubt() {
    let desk = Desk::new();
    let slos = "slos: { speed: P50 TTFT < 60s }\n";
    let above = on_the_simulator(
        TEN,
        &format!("run: {{ warmup: 0s, budget: {{ requests: 5 }} }}\n{slos}"),
    );
    desk.run(&above, &[]).with_code(2);

    let timed = "{ levels: { users: 2, for: 30s, warmup: 0s } }";
    let reached = on_the_simulator(
        timed,
        &format!("run: {{ warmup: 0s, budget: {{ output_tokens: 100 }} }}\n{slos}"),
    );
    let report = desk.run(&reached, &[]).with_code(3).report();
    assert_eq!(report["cells"][0]["runs"][0]["status"], "budget");
    assert!(report["duration_s"].as_f64().unwrap() < 10.0);
}
