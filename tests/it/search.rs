//! A load that looks for the capacity.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::tool::{Desk, Mock, on_the_simulator, scenario, verdict};

/// Five users are below this bound, six are not: the answer does not depend on how busy the machine is.
const FIVE: &str = "slos: { few: max active_users < 5.5 }\n";

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
            .contains("✗ 6 users  few: max active_users < 5.5 was "),
        "{}",
        ended.out
    );
    let page = ended.text("report.html");
    for said in [
        "load l, users 1..16: 5 users</p>",
        "</span> held</span></td><th scope=\"row\">5 users</th><td>–</td>",
        "</span> broke</span></td><th scope=\"row\">6 users</th><td>few: max active_users &lt; 5.5 was ",
    ] {
        assert!(page.contains(said), "{said}");
    }
    // So does what is said of prompts.
    let reused = &report["cells"][0]["runs"][0]["events"][0];
    assert_eq!(reused["kind"], "prompts_reused");
    assert_eq!(
        reused["text"],
        "the prompt set has fewer prompts than requests: prompts repeat in c4, c8, c6, c5"
    );
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
        &on_the_simulator(load, "slos: { few: max active_users < 4.5 }\n"),
    );
    desk.tool(&["judge", "results", "other.yaml", "--out", "again"])
        .with_code(0);
    let again = crate::tool::report(&desk.path("again/report.json"));
    assert_eq!(searched(&again)["capacity"], 4.0);
    assert_eq!(verdict(&again, "search:l")["observed"]["text"], "4 users");
}

#[test]
fn a_warning_cuts_no_range() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..4, requests_per_user: 20 }, process: uniform }";
    let ended = desk.run(&on_the_simulator(load, FIVE), &[]).with_code(0);
    assert!(ended.err.contains("warning[L037]"), "{}", ended.err);
    assert_eq!(searched(&ended.report())["capacity"], 4.0);
}

#[test]
fn requests_that_fail_break_a_level_whatever_an_slo_that_only_warns_says() {
    let desk = Desk::new();
    let broken = Mock::start(&["--fault", "error-500"]);
    let text = scenario(
        &format!("http://{}", broken.address()),
        "{ search: { users: 1..4, requests_per_user: 20 } }",
        "slos: { errors: { assert: error rate < 1%, level: warn } }\n",
    );
    let report = desk.run(&text, &[]).with_code(1).report();
    assert_eq!(tries(&report), [(1.0, Some(false))]);
    assert_eq!(verdict(&report, "guard:error_rate @c1")["status"], "fail");
}

#[test]
fn what_ends_a_search_early_leaves_the_levels_that_were_over() {
    let desk = Desk::new();
    // Answers of a sixth of a second: a level takes a second and a half.
    let load = "{ search: { users: 1..16, requests_per_user: 10 } }";
    let more = format!("{FIVE}request: {{ max_tokens: 50 }}\n");
    let running = desk.start_run(&on_the_simulator(load, &more), &[], &[]);
    // Ten of one user, twenty of two, and the first of four.
    running.until_requests(31);
    running.signal(Signal::SIGINT);
    let ended = running.end().with_code(130);
    let report = ended.report();
    assert_eq!(
        tries(&report),
        [(1.0, Some(true)), (2.0, Some(true)), (4.0, None)]
    );
    assert_eq!(searched(&report)["capacity"], 2.0);
    assert_eq!(searched(&report)["end"], "unfinished");
    assert!(ended.out.contains("2 users so far"), "{}", ended.out);
}

#[test]
fn levels_are_held_to_the_baseline_like_any_other() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..4, requests_per_user: 20 } }";
    desk.run(&on_the_simulator(load, FIVE), &[]).with_code(0);
    desk.tool(&["baseline", "save", "results", "base.json"])
        .with_code(0);
    let against = |missing: &str| {
        let slos = "slos: { busier: max active_users <= baseline + 1 }\n";
        let more = format!("{slos}baseline: {{ file: {missing}, missing: skip }}\n");
        on_the_simulator(load, &more)
    };
    let report = desk.run(&against("base.json"), &[]).with_code(0).report();
    assert_eq!(searched(&report)["end"], "ceiling");
    assert_eq!(searched(&report)["capacity"], 4.0);
    // What nobody answers for has not held.
    let report = desk.run(&against("none.json"), &[]).with_code(3).report();
    assert_eq!(tries(&report), [(1.0, None)]);
    assert_eq!(verdict(&report, "search:l")["status"], "inconclusive");
}

#[test]
fn an_slo_over_repeats_has_no_say_in_a_level() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..2, requests_per_user: 20 } }";
    let slos =
        "slos: { few: max active_users < 5.5, all: { assert: P50 TTFT < 5s, pool: [repeat] } }\n";
    let more = format!("{slos}run: {{ warmup: 0s, cooldown: 0s, repeats: 2 }}\n");
    let ended = desk.run(&on_the_simulator(load, &more), &[]).with_code(0);
    assert!(
        ended
            .err
            .contains("`all` has no say in the search of load `l`"),
        "{}",
        ended.err
    );
    assert_eq!(searched(&ended.report())["capacity"], 2.0);
}

#[test]
fn levels_that_are_over_before_they_are_reached_are_told_once() {
    let desk = Desk::new();
    let load = "{ search: { users: 1..64, requests: 100 } }";
    desk.write("short.yaml", &on_the_simulator(load, FIVE));
    let ended = desk.tool(&["check", "short.yaml"]).with_code(2);
    assert!(
        ended
            .err
            .contains("error[S054]: 100 requests are fewer than 3 for each of 64 users"),
        "{}",
        ended.err
    );
    assert!(
        ended
            .err
            .contains("write `requests_per_user: 3` or more, or plan `requests: 192` or more"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("1 error"), "{}", ended.err);
}
