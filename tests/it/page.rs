//! What a reader of `report.html` finds beside the tables of verdicts and results.

use serde_json::Value;

use crate::tool::{CALM, Desk, Ended, on_the_simulator, verdict};

/// What the page's charts are drawn from.
fn drawn(page: &str) -> Value {
    let data = page.split("id=\"report-data\">").nth(1).unwrap();
    serde_json::from_str(data.split("</script>").next().unwrap()).unwrap()
}

/// From one heading of the second order to the next.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let start = page.find(&format!("<section id=\"{id}\"")).unwrap();
    let end = page[start..].find("</section>").unwrap();
    &page[start..start + end]
}

fn two_backends(desk: &Desk, of_the_second: &str) -> Ended {
    let text = format!(
        "version: 1\nname: trial\nbackends:\n  vllm: {{ kind: simulator, preset: fast }}\n  \
         sglang: {{ kind: simulator, preset: fast{of_the_second} }}\n\
         models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: [2], requests: 200 }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    desk.run(&text, &[])
}

#[test]
fn backends_stand_side_by_side() {
    let desk = Desk::new();
    let page = two_backends(&desk, "").text("report.html");
    let backends = section(&page, "backends");
    for said in [
        "Executive summary",
        "best overall: ",
        "Performance rankings",
        "Recommendations",
        "Key findings",
        "not told apart from",
    ] {
        assert!(backends.contains(said), "{said}: {backends}");
    }
}

#[test]
fn what_was_not_alike_between_backends_is_told() {
    let desk = Desk::new();
    let page = two_backends(&desk, ", request: { temperature: 1 }").text("report.html");
    assert!(section(&page, "backends").contains("nothing is ranked"));
    let environment = section(&page, "environment");
    let sampling = environment
        .lines()
        .find(|line| line.contains("<th scope=\"row\">sampling</th>"));
    let sampling = sampling.unwrap_or_else(|| panic!("{environment}"));
    assert!(sampling.contains("differs"), "{sampling}");
}

#[test]
fn what_one_side_does_not_tell_is_not_called_alike() {
    let desk = Desk::new();
    two_backends(&desk, "").with_code(0);
    let path = desk.path("results/report.json");
    let mut report = crate::tool::report(&path);
    let fact = &mut report["fairness"][0]["facts"][0];
    assert_eq!(fact["differs"], false, "{fact}");
    fact["values"][1] = Value::Null;
    std::fs::write(&path, report.to_string()).unwrap();
    desk.tool(&["report", "results"]).with_code(0);
    let page = std::fs::read_to_string(desk.path("results/report.html")).unwrap();
    let environment = section(&page, "environment");
    let row = environment.lines().find(|line| line.contains("not known"));
    let row = row.unwrap_or_else(|| panic!("{environment}"));
    assert!(
        row.ends_with("<td>not known</td><td>not known</td></tr>"),
        "{row}"
    );
    assert!(environment.contains("<td>yes</td>"), "{environment}");
}

#[test]
fn a_backend_that_was_not_ready_has_its_row_among_the_results() {
    let desk = Desk::new();
    let text = format!(
        "version: 1\nname: trial\nbackends:\n  vllm: {{ kind: simulator, preset: fast }}\n  \
         dead: {{ kind: vllm, url: \"{}\", ready: {{ timeout: 200ms }} }}\n\
         models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: [2], requests: 12 }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}",
        crate::tool::nobody()
    );
    let page = desk.run(&text, &[]).with_code(3).text("report.html");
    let results = section(&page, "results");
    let row = results.lines().find(|line| line.contains(">dead<"));
    let row = row.unwrap_or_else(|| panic!("{results}"));
    assert!(row.contains("no data: backend `dead` at"), "{row}");
    let data = drawn(&page);
    let ended = |at: usize| data["report"]["cells"][at]["ended"].as_bool();
    assert_eq!(ended(1), Some(true), "its stages stand among the outcomes");
}

#[test]
fn each_repeat_is_told_and_which_of_them_is_judged() {
    let desk = Desk::new();
    let text = on_the_simulator(
        "{ levels: { users: [2], requests: 12 } }",
        "slos: { quick: P50 TTFT < 1h, errors: error rate < 5% }\n",
    );
    let ended = desk.run(&text, &["--repeats", "3"]).with_code(0);
    let quick = verdict(&ended.report(), "quick[p50] @c2").clone();
    let values: Vec<&str> = quick["repeats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|repeat| repeat["observed"]["text"].as_str().unwrap())
        .collect();
    let judged = values
        .iter()
        .position(|value| quick["observed"]["text"] == *value)
        .unwrap();
    let page = ended.text("report.html");
    let told = format!(
        "repeats {}, judged by repeat {}",
        values.join(" · "),
        judged + 1
    );
    assert!(section(&page, "verdicts").contains(&told), "{told}: {page}");
    assert!(
        page.contains("repeats 0% · 0% · 0%<"),
        "they are one: {page}"
    );
}

#[test]
fn a_guard_that_trips_says_what_to_do() {
    let desk = Desk::new();
    let text = on_the_simulator("{ levels: { users: [2], requests: 12 } }", "")
        .replace("send_lag: off", "send_lag: 1us");
    let ended = desk.run(&text, &[]);
    let report = ended.report();
    let guards = report["verdicts"].as_array().unwrap().iter();
    let advice = guards
        .filter(|one| one["guard"] == true && one["status"] != "pass")
        .find_map(|one| one["advice"].as_str());
    let advice = advice.unwrap_or_else(|| panic!("no guard tripped: {report:#}"));
    let first = advice.split(['`', '\'', '"', '<', '&']).next().unwrap();
    let page = ended.text("report.html");
    assert!(
        section(&page, "verdicts").contains(&format!("advice: {first}")),
        "{advice}"
    );
}

#[test]
fn one_backend_has_nobody_to_stand_beside() {
    let desk = Desk::new();
    let text = on_the_simulator("{ levels: { users: [2], requests: 12 } }", "");
    let page = desk.run(&text, &[]).text("report.html");
    assert!(!page.contains("id=\"backends\""));
    assert!(
        !page.contains(" as it ran: "),
        "the file says it all: it is shown once"
    );
}

#[test]
fn a_composed_scenario_is_shown_as_it_ran_with_its_failed_lines() {
    let desk = Desk::new();
    desk.write(
        "base.yaml",
        &on_the_simulator(
            "{ levels: { users: [\"${{ vars.users }}\"], requests: 12 } }",
            "vars: { users: { type: integer, default: 2 } }\nslos: { quick: P50 TTFT < 1us, errors: error rate < 50% }\n",
        ),
    );
    let ended = desk
        .run("extends: base.yaml\nowner: search\n", &["--var", "users=3"])
        .with_code(1);
    let page = ended.text("report.html");
    let shown = page
        .split("as it ran\">")
        .nth(1)
        .and_then(|rest| rest.split("</ol>").next());
    let shown = shown.unwrap_or_else(|| panic!("{page}"));
    let line = |text: &str| {
        let mut lines = shown.split("<li");
        let found = lines.find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("{text}: {shown}"))
    };
    assert!(line("owner: search").starts_with("><code>"));
    assert!(line("- 3").starts_with("><code>"), "{shown}");
    // Both stand on one line of their file, and each on its own here.
    let failed = line("quick: P50 TTFT &lt; 1us");
    assert!(
        failed.starts_with(" class=\"fail\"") && failed.contains("✗ 1 of 1 fail"),
        "{failed}"
    );
    let held = line("errors: error rate &lt; 50%");
    assert!(held.starts_with(" class=\"pass\""), "{held}");
    let resolved = &ended.report()["resolved"];
    let lines = resolved.as_array().unwrap();
    let owner = lines.iter().find(|line| line["text"] == "owner: search");
    assert_eq!(
        owner.unwrap()["at"],
        serde_json::json!({ "file": "trial.yaml", "line": 2, "col": 8 })
    );
}

#[test]
fn windows_in_which_an_slo_broke_are_marked_on_the_charts() {
    let desk = Desk::new();
    let text = on_the_simulator(
        "{ stages: [{ name: steady, rate: 100/s, for: 2s }], process: uniform }",
        "slos: { quick: { assert: max TTFT < 1us, window: 500ms }, calm: { assert: max TTFT < 1h, window: 500ms } }\n",
    );
    let ended = desk.run(&text, &[]).with_code(1);
    let report = ended.report();
    let broken = &verdict(&report, "quick[max] @steady")["broken"];
    let lengths: Vec<f64> = broken
        .as_array()
        .unwrap()
        .iter()
        .map(|window| window["to_s"].as_f64().unwrap() - window["from_s"].as_f64().unwrap())
        .map(|seconds| (seconds * 1e3).round() / 1e3)
        .collect();
    assert_eq!(lengths, [0.5, 0.5, 0.5, 0.5], "{broken}");
    assert_eq!(
        verdict(&report, "calm[max] @steady").get("broken"),
        None,
        "it held"
    );
    let data = drawn(&ended.text("report.html"));
    let failing = data["failing"].as_array().unwrap();
    assert_eq!(failing.len(), 1, "{failing:?}");
    assert_eq!(&failing[0]["broken"], broken);
}

#[test]
fn what_is_drawn_over_time_is_in_the_page() {
    let desk = Desk::new();
    let text = on_the_simulator("{ levels: { users: [2], requests: 400 } }", "");
    let data = drawn(&desk.run(&text, &[]).text("report.html"));
    let lines = data["charts"]["runs"][0]["timelines"].as_array().unwrap();
    let named: Vec<String> = lines
        .iter()
        .map(|line| match line["stat"].as_str() {
            Some(stat) => format!("{} {stat}", line["metric"].as_str().unwrap()),
            None => line["metric"].as_str().unwrap().to_owned(),
        })
        .collect();
    for wanted in [
        "in_flight",
        "sent",
        "answered",
        "output_tps",
        "ttft p50",
        "ttft p95",
        "e2e p95",
        "gpu.util",
        "gpu.memory_used",
        "gpu.power",
        "gpu.temperature",
        "kv_cache",
        "queue",
        "client.cpu",
        "client.lag",
    ] {
        assert!(named.iter().any(|one| one == wanted), "{wanted}: {named:?}");
    }
    let ttft = |stat: &str| {
        let line = lines
            .iter()
            .find(|line| line["metric"] == "ttft" && line["stat"] == stat);
        line.unwrap()["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::as_f64)
            .collect::<Vec<_>>()
    };
    for (p50, p95) in ttft("p50").iter().zip(ttft("p95")) {
        assert!(p50.unwrap_or(0.0) <= p95.unwrap_or(0.0));
    }
}
