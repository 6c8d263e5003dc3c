//! Other SLOs on what a saved run has seen.

use serde_json::Value;

use crate::tool::{Desk, on_the_simulator, report, verdict};

const LOAD: &str = "{ levels: { users: [2, 4], requests: 60 } }";
const OWN: &str = "slos: { ttft: P95 TTFT < 5s, tight: P95 TTFT < 1us, errors: error rate < 20%, speed: output_tps > 1 tok/s, gaps: P95 chunk gap < 5s, power: mean gpu.power < 1 W, queue: max queue < 100, good: goodput > 1/s }\ngoodput: { ttft: 5s }\n";

fn judge(desk: &Desk, slos: &str, load: &str, code: i32) -> crate::tool::Ended {
    desk.write("other.yaml", &on_the_simulator(load, slos));
    desk.tool(&["judge", "results", "other.yaml", "--out", "again"])
        .with_code(code)
}

/// What is told of verdicts and numbers; not where a file lies.
fn told(report: &Value) -> (Vec<Value>, Vec<Value>) {
    let mut verdicts = report["verdicts"].as_array().unwrap().clone();
    for verdict in &mut verdicts {
        let verdict = verdict.as_object_mut().unwrap();
        verdict.remove("rerun");
        verdict.remove("at");
    }
    let cells = report["cells"].as_array().unwrap();
    let stages = cells.iter().map(|cell| cell["stages"].clone()).collect();
    (verdicts, stages)
}

#[test]
fn a_saved_run_judged_by_its_own_slos_says_what_the_run_said() {
    let desk = Desk::new();
    let ran = desk.run(&on_the_simulator(LOAD, OWN), &[]).with_code(1);
    judge(&desk, OWN, LOAD, 1);
    let again = report(&desk.path("again/report.json"));
    let (verdicts, stages) = told(&again);
    let (own_verdicts, own_stages) = told(&ran.report());
    assert_eq!(verdicts, own_verdicts);
    assert_eq!(stages, own_stages);
    assert_eq!(again["simulated"], true);
    let page = std::fs::read_to_string(desk.path("again/report.html")).unwrap();
    assert!(page.contains("P95 chunk gap &lt; 5s"));
}

#[test]
fn other_slos_are_judged_on_the_old_observations_and_nothing_is_sent() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(LOAD, ""), &[]).with_code(0);
    let ended = judge(
        &desk,
        "slos: { tight: P95 TTFT < 1us, loose: P95 TTFT < 5s }\n",
        LOAD,
        1,
    );
    assert!(ended.out.contains("2 failed"), "{}", ended.out);
    let again = report(&desk.path("again/report.json"));
    assert_eq!(verdict(&again, "tight[p95] @c4")["status"], "fail");
    assert_eq!(verdict(&again, "loose[p95] @c4")["status"], "pass");
}

#[test]
fn a_file_with_another_load_is_refused() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(LOAD, ""), &[]).with_code(0);
    let ended = judge(&desk, "", "{ levels: { users: [2, 8], requests: 60 } }", 2);
    assert!(
        ended.err.contains("error: the load of cell `engine/m/chat/l` is another: other.yaml has c2 (2 users), c8 (8 users), and the run had c2 (2 users), c4 (4 users)"),
        "{}",
        ended.err
    );
}

#[test]
fn of_a_run_of_an_earlier_version_what_was_not_kept_is_inconclusive() {
    let desk = Desk::new();
    let words = [
        "judge",
        "fixtures/runs/early",
        "fixtures/runs/early.yaml",
        "--out",
    ];
    let out = desk.path("again").display().to_string();
    let here = env!("CARGO_MANIFEST_DIR");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_scenario"));
    let ended = command
        .current_dir(here)
        .args(words)
        .arg(&out)
        .output()
        .unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{err}");
    assert!(
        err.contains("there is no `fixtures/runs/early/observations.ndjson.zst`: the requests alone are judged"),
        "{err}"
    );
    let again = report(&desk.path("again/report.json"));
    let before = report(&std::path::Path::new(here).join("fixtures/runs/early/report.json"));
    for name in ["ttft[p90] @c2", "errors @c2"] {
        let (told, own) = (verdict(&again, name), verdict(&before, name));
        for key in ["status", "observed", "n", "interval", "margin"] {
            assert_eq!(told[key], own[key], "{name} {key}");
        }
    }
    for (name, why) in [
        (
            "speed @c2",
            "the run was saved without the instants of its tokens",
        ),
        (
            "gaps[p90] @c2",
            "the run was saved without the instants of its tokens",
        ),
        ("power[mean] @c2", "nothing tells `gpu.power`"),
    ] {
        let told = verdict(&again, name);
        assert_eq!(told["status"], "inconclusive", "{name}");
        assert!(
            told["reason"]["text"].as_str().unwrap().contains(why),
            "{told}"
        );
        assert_eq!(verdict(&before, name)["status"], "pass", "{name}");
    }
}

#[test]
fn a_run_without_anything_to_judge_is_told() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(LOAD, ""), &[]).with_code(0);
    for name in ["observations.ndjson.zst", "requests.ndjson"] {
        std::fs::remove_file(desk.path("results").join(name)).unwrap();
    }
    let ended = judge(&desk, "", LOAD, 2);
    assert!(ended.err.contains("nothing to judge"), "{}", ended.err);
    desk.write("results/observations.ndjson.zst", "no zstd");
    let ended = judge(&desk, "", LOAD, 2);
    assert!(
        ended
            .err
            .contains("cannot read `results/observations.ndjson.zst`"),
        "{}",
        ended.err
    );
}

// ---- what was kept, and is not whole ---------------------------------------------------------------------------------

const TWICE: &str =
    "run: { warmup: 0s, cooldown: 0s, repeats: 2 }\nslos: { ttft: P50 TTFT < 5s }\n";

#[test]
fn of_a_file_that_is_cut_off_what_is_missing_is_no_data() {
    let desk = Desk::new();
    let ran = desk.run(&on_the_simulator(LOAD, TWICE), &[]).with_code(0);
    let file = desk.path("results/observations.ndjson.zst");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    let ended = judge(&desk, TWICE, LOAD, 3);
    assert!(
        ended.err.contains(
            "`results/observations.ndjson.zst` is cut off: a run that is not whole in it is no data"
        ),
        "{}",
        ended.err
    );
    let again = report(&desk.path("again/report.json"));
    let runs = again["cells"][0]["runs"].as_array().unwrap();
    assert_eq!(
        (&runs[0]["status"], &runs[1]["status"]),
        (&"complete".into(), &"lost".into())
    );
    // The first run is whole: nothing of it is lost with the second.
    let first = |report: &Value| report["cells"][0]["stages"][0]["repeats"][0].clone();
    assert_eq!(first(&again)["numbers"], first(&ran.report())["numbers"]);
}

#[test]
fn a_run_of_which_nothing_was_kept_is_no_data() {
    let desk = Desk::new();
    desk.run(&on_the_simulator(LOAD, TWICE), &[]).with_code(0);
    let file = desk.path("results/observations.ndjson.zst");
    let whole = std::fs::read(&file).unwrap();
    // Parts of their own begin with these bytes: the header, the first run, the second.
    let mut parts =
        (0..whole.len()).filter(|&at| whole[at..].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let second = parts.nth(2).unwrap();
    std::fs::write(&file, &whole[..second]).unwrap();
    let ended = judge(&desk, TWICE, LOAD, 3);
    assert!(!ended.err.contains("cut off"), "{}", ended.err);
    let again = report(&desk.path("again/report.json"));
    assert_eq!(
        again["cells"][0]["runs"][1]["reason"],
        "`observations.ndjson.zst` has nothing of it"
    );
}

#[test]
fn what_was_kept_of_another_run_is_refused() {
    let desk = Desk::new();
    let text = on_the_simulator(LOAD, "");
    desk.run(&text, &["--seed", "7"]).with_code(0);
    let file = desk.path("results/observations.ndjson.zst");
    let of_another_seed = std::fs::read(&file).unwrap();
    desk.run(&text, &[]).with_code(0);
    let of_another_time = std::fs::read(&file).unwrap();
    desk.run(&text, &[]).with_code(0);
    for (bytes, why) in [
        (of_another_seed, "with seed 7, and the report is of b3:"),
        (of_another_time, "cell `engine/m/chat/l` began "),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let ended = judge(&desk, "", LOAD, 2);
        assert!(
            ended
                .err
                .contains("is of another run than the report beside it"),
            "{}",
            ended.err
        );
        assert!(ended.err.contains(why), "{}", ended.err);
    }
}
