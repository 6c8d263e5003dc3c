//! A gate on what a run before could do: `compare --fail-on worse` never passes what it has lost.

use serde_json::Value;

use crate::tool::{CALM, Desk, Mock, nobody, report};

/// A report of two backends, of which one is somewhere else; the other is as in `ok`, to the last digit.
fn ran(desk: &Desk, name: &str, flaky: &str, slos: &str) {
    let text = format!(
        "version: 1\nname: two\nbackends: {{ good: {{ kind: simulator, preset: fast }}, flaky: {{ url: \"{flaky}\", ready: {{ timeout: 200ms }} }} }}\nmodels: {{ m: any }}\nload: {{ l: {{ levels: {{ users: [2], requests: 60 }} }} }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}{slos}"
    );
    desk.run(&text, &[]);
    let mut told = report(&desk.path("results/report.json"));
    if name != "ok" {
        told["cells"][0] = report(&desk.path("ok"))["cells"][0].clone();
    }
    desk.write(name, &told.to_string());
}

/// The same report without its second backend.
fn halved(desk: &Desk, name: &str) {
    let mut told = report(&desk.path("ok"));
    told["cells"].as_array_mut().unwrap().pop();
    desk.write(name, &told.to_string());
}

fn rows_of_flaky(desk: &Desk, one: &str, other: &str) -> Vec<(String, String, String)> {
    let out = desk.tool(&["compare", one, other, "--format", "json"]).out;
    let told: Value = serde_json::from_str(&out).unwrap();
    let rows = told["rows"].as_array().unwrap().iter();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.filter(|row| row["cell"] == "flaky/m/chat/l")
        .map(|row| {
            (
                word(row, "statistic"),
                word(row, "finding"),
                word(row, "reason"),
            )
        })
        .collect()
}

#[test]
fn what_a_run_has_lost_is_never_passed() {
    let desk = Desk::new();
    let (alive, dead) = (
        Mock::start(&[]),
        Mock::start(&["--fault", "error-500:every=1"]),
    );
    for (name, flaky) in [
        ("ok", alive.url.as_str()),
        ("dead", dead.url.as_str()),
        ("down", &nobody()),
    ] {
        ran(&desk, name, flaky, "");
    }
    halved(&desk, "half");
    let compared = |one: &str, other: &str, code: i32| {
        let ended = desk.tool(&["compare", one, other, "--fail-on", "worse"]);
        ended.with_code(code)
    };
    compared("ok", "ok", 0);

    // From no failure to nothing else is a difference, and a bad one.
    assert!(compared("ok", "dead", 1).out.contains("+100pp"));
    let silent = "no request of the other run was answered";
    assert_eq!(
        rows_of_flaky(&desk, "ok", "dead"),
        [("error_rate", "worse", ""), ("", "not_comparable", silent)]
            .map(|(statistic, finding, why)| (statistic.into(), finding.into(), why.into()))
    );
    let ended = compared("ok", "half", 3);
    assert!(
        ended.out.contains("the other run has no such cell"),
        "{}",
        ended.out
    );
    assert!(
        ended
            .err
            .contains("1 of what ok has cannot be compared: that it is no worse is not shown"),
        "{}",
        ended.err
    );
    let ended = compared("ok", "down", 3);
    assert!(
        ended
            .out
            .contains("the other run has no numbers of it: backend `flaky`"),
        "{}",
        ended.out
    );

    // What the first run has not cannot be lost, and without the flag nothing is gated.
    compared("down", "ok", 0);
    assert_eq!(rows_of_flaky(&desk, "dead", "ok")[0].1, "better");
    desk.tool(&["compare", "ok", "down"]).with_code(0);
    assert_eq!(
        rows_of_flaky(&desk, "dead", "dead"),
        [(
            String::new(),
            "not_comparable".to_owned(),
            "no request of the first run was answered".to_owned()
        )]
    );
}

#[test]
fn an_own_slo_on_errors_makes_the_numbers_of_survivors_no_better() {
    let desk = Desk::new();
    let (alive, flaky) = (
        Mock::start(&[]),
        Mock::start(&["--fault", "error-500:every=12"]),
    );
    ran(&desk, "ok", &alive.url, "");
    ran(&desk, "fails", &flaky.url, "");
    ran(
        &desk,
        "allowed",
        &flaky.url,
        "slos: { errors: error rate < 20% }\n",
    );
    let survivors =
        "in the other run 5 of 60 requests failed: the numbers are those of the survivors";
    for name in ["fails", "allowed"] {
        let rows = rows_of_flaky(&desk, "ok", name);
        let (errors, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.0 == "error_rate");
        assert_eq!(errors[0].1, "no_difference_shown");
        assert!(others.len() >= 8, "{rows:?}");
        for (statistic, finding, reason) in others {
            assert_eq!(
                (finding.as_str(), reason.as_str()),
                ("not_comparable", survivors),
                "{statistic}"
            );
        }
        desk.tool(&["compare", "ok", name, "--fail-on", "worse"])
            .with_code(3);
    }
}
