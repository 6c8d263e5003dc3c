//! A load that looks for the capacity.

use serde_json::{Value, json};

use crate::tool::{Desk, on_the_simulator, verdict};

/// Five users are in flight on average below this bound, six are not: the answer does not depend on how busy the machine is.
const FIVE: &str = "slos: { few: mean achieved_concurrency < 5.5 }\n";

fn searched(report: &Value) -> &Value {
    &report["cells"][0]["runs"][0]["search"]
}

/// The levels that were tried, each with whether it held.
fn tries(report: &Value) -> Vec<(f64, Option<bool>)> {
    let tries = searched(report)["tries"].as_array().unwrap();
    let of = |one: &Value| (one["level"].as_f64().unwrap(), one["held"].as_bool());
    tries.iter().map(of).collect()
}

#[test]
fn a_search_finds_the_greatest_level_at_which_every_slo_holds() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..16, requests_per_user: 40 } }";
    let ended = desk.run(&on_the_simulator(load, FIVE), &[]).with_code(0);
    let report = ended.report();
    let held = |level: f64| (level, Some(true));
    let broke = |level: f64| (level, Some(false));
    assert_eq!(
        tries(&report),
        [
            held(1.0),
            held(2.0),
            held(4.0),
            broke(8.0),
            broke(6.0),
            held(5.0)
        ]
    );
    let search = searched(&report);
    assert_eq!(search["capacity"], 5.0);
    assert_eq!(search["broke"], 6.0);
    assert_eq!(search["end"], "found");
    let answer = verdict(&report, "search:l");
    assert_eq!(answer["status"], "pass");
    assert_eq!(answer["observed"]["text"], "5 users");
    assert_eq!(answer["stage"], "c5");
    // What broke above the capacity fails nothing, and what was never tried is told nowhere.
    let ids: Vec<&Value> = report["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert!(!ids.contains(&&json!("few")), "{ids:?}");
    assert!(ended.out.contains("capacity of"), "{}", ended.out);
    assert!(
        ended
            .out
            .contains("✗ 6 users  few: mean achieved_concurrency < 5.5 was "),
        "{}",
        ended.out
    );
    let page = ended.text("report.html");
    for said in [
        "load l, users 1..16: 5 users</p>",
        "</span> held</span></td><th scope=\"row\">5 users</th><td>–</td>",
        "</span> broke</span></td><th scope=\"row\">6 users</th><td>few: mean achieved_concurrency &lt; 5.5 was ",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let summary = ended.text("summary.csv");
    assert!(
        summary.contains(",c5,") && !summary.contains(",c7,"),
        "{summary}"
    );
    // Levels that were never tried break no line.
    desk.tool(&[
        "plot",
        "results",
        "--only",
        "throughput_all",
        "--format",
        "svg",
    ])
    .with_code(0);
    let svg = std::fs::read_to_string(desk.path("results/plots/throughput_all_combined.svg"));
    assert_eq!(svg.unwrap().matches("<path d=\"M ").count(), 1);
}

#[test]
fn prompts_that_repeat_are_told_of_the_levels_that_were_tried() {
    let desk = Desk::new();
    let more = format!("prompts: {{ p: {{ source: inline, prompts: [Hello, Hi] }} }}\n{FIVE}");
    let load = "{ search: { users: 1..4, requests_per_user: 20 } }";
    let ended = desk.run(&on_the_simulator(load, &more), &[]);
    let mut lines = ended.out.lines();
    let line = lines.find(|line| line.contains("prompts reused: "));
    assert_eq!(
        line.unwrap().split_once("prompts reused: ").unwrap().1,
        "engine c1, engine c2, engine c4",
        "{}",
        ended.out
    );
}

#[test]
fn a_search_whose_lowest_level_breaks_has_failed_and_one_that_never_breaks_says_so() {
    let desk = Desk::new();
    let load = "{ search: { users: 8..16, requests_per_user: 20 } }";
    let report = desk
        .run(&on_the_simulator(load, FIVE), &[])
        .with_code(1)
        .report();
    assert_eq!(tries(&report), [(8.0, Some(false))]);
    assert_eq!(searched(&report)["end"], "floor");
    assert_eq!(verdict(&report, "search:l")["status"], "fail");

    let desk = Desk::new();
    let load = "{ search: { users: 1..4, requests_per_user: 20 } }";
    let report = desk
        .run(&on_the_simulator(load, FIVE), &[])
        .with_code(0)
        .report();
    assert_eq!(searched(&report)["end"], "ceiling");
    assert_eq!(searched(&report)["capacity"], 4.0);
}

#[test]
fn a_level_of_which_nothing_can_be_told_has_not_held() {
    let desk = Desk::new();
    // Five requests are no 95th percentile.
    let load = "{ search: { users: 1..4, requests_per_user: 5 } }";
    let slos = "slos: { ttft: P95 TTFT < 5s }\n";
    let report = desk
        .run(&on_the_simulator(load, slos), &[])
        .with_code(3)
        .report();
    assert_eq!(tries(&report), [(1.0, None)]);
    let answer = verdict(&report, "search:l");
    assert_eq!(answer["status"], "inconclusive");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("P95 needs at least 20 samples"),
        "{answer}"
    );
}

#[test]
fn a_rule_that_aborts_ends_its_level_and_the_search_goes_on_below() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..8, requests_per_user: 3 } }";
    // Answers of half a second: above two users the rule stops a level that would go on for a while.
    let text = on_the_simulator(
        load,
        "slos: { few: { assert: mean ttft < 1us, abort: { after: 1s, window: 1s } } }\nrequest: { max_tokens: 400 }\n",
    );
    let report = desk.run(&text, &[]).with_code(1).report();
    assert_eq!(searched(&report)["end"], "floor");
    assert_eq!(report["cells"][0]["runs"][0]["status"], "complete");
}

#[test]
fn a_saved_search_is_judged_again_by_other_slos() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..16, requests_per_user: 40 } }";
    desk.run(&on_the_simulator(load, FIVE), &[]).with_code(0);
    desk.write(
        "other.yaml",
        &on_the_simulator(load, "slos: { few: mean achieved_concurrency < 4.5 }\n"),
    );
    desk.tool(&["judge", "results", "other.yaml", "--out", "again"])
        .with_code(0);
    let again = crate::tool::report(&desk.path("again/report.json"));
    assert_eq!(searched(&again)["capacity"], 4.0);
    assert_eq!(verdict(&again, "search:l")["observed"]["text"], "4 users");
}
