//! How backends are ranked: by numbers that can be compared, and never apart where their intervals overlap.

use std::collections::BTreeMap;

use scenario::report::Report;
use scenario::report::model::{Cell, Metric, Stage, StageNumbers};
use scenario::report::ranking::model::Contest;
use scenario::report::ranking::{Ranking, default_weights, rank, text};
use scenario::seed::Seed;
use serde_json::Value;

use crate::tool::{CALM, Desk};

/// A backend's numbers at one level: users, output tok/s, E2E in ms, J per token.
type Level = (u32, f64, f64, f64);

/// A report of backends with these numbers, each number within ±`noise` of its own from tenth to tenth.
fn report(backends: &[(&str, &[Level])], noise: f64, seed: u64) -> Report {
    let text = std::fs::read_to_string("fixtures/reports/gate-example.json").unwrap();
    let mut report: Report = serde_json::from_str(&text).unwrap();
    let first = report.cells[0].clone();
    report.verdicts.clear();
    report.cells = backends
        .iter()
        .enumerate()
        .map(|(at, (backend, levels))| Cell {
            id: format!("{backend}/m/chat/l"),
            backend: (*backend).to_owned(),
            model: "m".to_owned(),
            prompts: "chat".to_owned(),
            load: "l".to_owned(),
            stages: levels
                .iter()
                .map(|level| stage(level, noise, Seed::new(seed + at as u64)))
                .collect(),
            ..first.clone()
        })
        .collect();
    report
}

fn stage(&(users, tps, e2e, energy): &Level, noise: f64, seed: Seed) -> Stage {
    let mut numbers = StageNumbers {
        planned: 200,
        sent: 200,
        ok: 200,
        duration_s: 30.0,
        ..StageNumbers::default()
    };
    let statistics = [
        ("output_tps", "value", "tok/s", tps),
        ("rps", "value", "req/s", tps / 100.0),
        ("e2e", "mean", "ms", e2e),
        ("e2e", "p50", "ms", e2e),
        ("e2e", "p95", "ms", e2e * 1.5),
        ("ttft", "p50", "ms", e2e / 10.0),
        ("ttft", "p95", "ms", e2e / 5.0),
        ("tpot", "p95", "ms", e2e / 100.0),
        ("energy_per_token", "value", "J/tok", energy),
    ];
    for (number, (metric, stat, unit, value)) in statistics.into_iter().enumerate() {
        let path = if stat == "value" {
            metric.to_owned()
        } else {
            format!("{metric}.{stat}")
        };
        let draws = seed.stream(&path);
        let tenths: Vec<f64> = (0..10)
            .map(|tenth| value * (1.0 + noise * (2.0 * draws.at(tenth).rng().unit() - 1.0)))
            .collect();
        let seen = tenths.iter().sum::<f64>() / 10.0;
        let metric = numbers.metrics.entry(metric.to_owned()).or_insert(Metric {
            kind: if number < 2 { "flow" } else { "trend" }.to_owned(),
            unit: unit.to_owned(),
            n: 200,
            undefined: 0,
            estimator: "exact".to_owned(),
            intervals: BTreeMap::new(),
            stats: BTreeMap::new(),
        });
        metric.stats.insert(stat.to_owned(), seen);
        numbers.tenths.insert(path, tenths);
    }
    Stage {
        name: format!("c{users}"),
        measured: true,
        open_loop: false,
        users: Some(users),
        rate: None,
        prompts_reused: false,
        numbers: Some(numbers),
        failures: Vec::new(),
        repeats: Vec::new(),
    }
}

fn ranked(report: &Report) -> Ranking {
    rank(report, &default_weights()).unwrap()
}

fn places(contest: &Contest) -> Vec<(&str, u32)> {
    let standings = contest.standings.iter();
    standings
        .map(|one| (one.backend.as_str(), one.rank))
        .collect()
}

fn contest<'a>(all: &'a [Contest], id: &str) -> &'a Contest {
    all.iter().find(|contest| contest.id == id).unwrap()
}

/// Faster at full load, hungrier, slower when there is little to do.
const SLOW: &[Level] = &[(1, 80.0, 900.0, 0.5), (64, 1000.0, 4000.0, 0.2)];
const FAST: &[Level] = &[(1, 60.0, 1200.0, 0.7), (64, 2000.0, 2000.0, 0.3)];

#[test]
fn each_question_has_its_own_winner_with_the_numbers_that_it_stands_on() {
    let ranking = ranked(&report(&[("slow", SLOW), ("fast", FAST)], 0.01, 7));
    assert_eq!(ranking.places, ["m/chat/l c1", "m/chat/l c64"]);
    let throughput = contest(&ranking.criteria, "throughput");
    // √(80 · 1000) = 283 and √(60 · 2000) = 346: 22.5 % more.
    assert_eq!(places(throughput), [("fast", 1), ("slow", 2)]);
    assert!(
        (throughput.gap.unwrap() - 0.225).abs() < 0.02,
        "{throughput:#?}"
    );
    assert_eq!(
        contest(&ranking.use_cases, "power_constrained")
            .winner
            .as_deref(),
        Some("slow")
    );
    assert_eq!(
        contest(&ranking.use_cases, "maximum_throughput")
            .winner
            .as_deref(),
        Some("fast")
    );
    let low = contest(&ranking.findings, "low_load_latency");
    assert_eq!(low.winner.as_deref(), Some("slow"));
    assert!(
        low.sentence
            .starts_with("E2E P50 at the lowest load: slow with 9"),
        "{}",
        low.sentence
    );
    assert!(
        low.sentence.contains("%) less than fast with 1"),
        "{}",
        low.sentence
    );
    assert!(
        low.sentence.ends_with("(at m/chat/l c1)"),
        "{}",
        low.sentence
    );
    let growth = contest(&ranking.findings, "scalability");
    // 2000 / 60 = 33.3 against 1000 / 80 = 12.5.
    assert_eq!(growth.winner.as_deref(), Some("fast"));
    assert!(
        (growth.standings[0].values[0].value - 33.3).abs() < 1.0,
        "{growth:#?}"
    );
}

#[test]
fn a_backend_without_a_server_is_marked_wherever_it_is_named() {
    let mut report = report(&[("slow", SLOW), ("fast", FAST)], 0.01, 7);
    let mut engine = report.environment.engines[0].clone();
    engine.backend = "fast".to_owned();
    engine.api = "offline".to_owned();
    engine.simulated = false;
    report.environment.engines = vec![engine];
    report.ranking = rank(&report, &default_weights());
    let view = scenario::report::View::default();
    for told in [text::text(&report, &view), text::markdown(&report, &view)] {
        // However its lines are broken.
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            told.matches("fast").count(),
            told.matches("fast (offline)").count(),
            "{told}"
        );
        assert!(told.contains("fast (offline) with"), "{told}");
        assert!(!told.contains("slow (offline)"), "{told}");
    }
    let table = text::csv(&report, &view);
    let own = table.lines().find(|line| line.starts_with("fast,"));
    assert!(own.unwrap().ends_with(",offline"), "{table}");
}

#[test]
fn a_score_is_the_weighted_geometric_mean_of_shares_of_the_best() {
    let one: &[Level] = &[(8, 100.0, 100.0, 1.0)];
    let half: &[Level] = &[(8, 50.0, 200.0, 1.0)];
    let report = report(&[("one", one), ("half", half)], 0.0, 1);
    let ranking = ranked(&report);
    let scores: Vec<f64> = ranking
        .overall
        .standings
        .iter()
        .map(|one| one.score.value)
        .collect();
    // 100 · 0.5^0.4 · 0.5^0.3 · 1^0.3.
    assert!(
        (scores[0] - 100.0).abs() < 1e-9 && (scores[1] - 61.557).abs() < 1e-2,
        "{scores:?}"
    );
    let energy = rank(&report, &[("efficiency".to_owned(), 2.0)].into()).unwrap();
    assert_eq!(energy.weights["efficiency"], 1.0);
    assert_eq!(energy.overall.winner, None, "both take 1 J a token");
}

#[test]
fn backends_whose_intervals_overlap_are_not_ranked_apart() {
    let near: &[Level] = &[(1, 80.5, 905.0, 0.5), (64, 1003.0, 4010.0, 0.2)];
    let ranking = ranked(&report(
        &[("slow", SLOW), ("near", near), ("fast", FAST)],
        0.05,
        3,
    ));
    let power = contest(&ranking.use_cases, "power_constrained");
    assert_eq!(power.winner, None);
    assert!(
        power
            .sentence
            .contains("not decided, the intervals overlap: "),
        "{}",
        power.sentence
    );
    assert_eq!(
        power.standings.iter().filter(|one| one.rank == 1).count(),
        2
    );
    for contest in ranking.criteria.iter().chain([&ranking.overall]) {
        for (at, one) in contest.standings.iter().enumerate() {
            for other in &contest.standings[at + 1..] {
                let overlap = one.score.interval[0] <= other.score.interval[1];
                assert_eq!(
                    overlap,
                    one.tied_with.contains(&other.backend),
                    "{contest:#?}"
                );
                assert!(!overlap || one.rank <= other.rank);
            }
        }
    }
}

#[test]
fn twins_are_ranked_apart_in_at_most_one_of_twenty_and_a_tenth_always() {
    let twin: &[Level] = &[(8, 500.0, 1000.0, 0.3), (64, 1000.0, 4000.0, 0.2)];
    let tenth: &[Level] = &[(8, 550.0, 900.0, 0.27), (64, 1100.0, 3600.0, 0.18)];
    let apart = |other: &[Level]| {
        (0..200)
            .map(|seed| ranked(&report(&[("a", twin), ("b", other)], 0.05, 10 * seed)))
            .filter(|ranking| {
                let all = ranking
                    .criteria
                    .iter()
                    .chain(&ranking.use_cases)
                    .chain(&ranking.findings);
                all.chain([&ranking.overall])
                    .any(|contest| contest.winner.is_some())
            })
            .map(|ranking| ranking.overall.winner)
            .collect::<Vec<_>>()
    };
    assert!(apart(twin).len() <= 10, "{:?}", apart(twin));
    let told = apart(tenth);
    assert_eq!(
        told.iter()
            .filter(|winner| winner.as_deref() == Some("b"))
            .count(),
        200
    );
}

#[test]
fn what_cannot_be_compared_is_not_ranked_and_says_why() {
    let mut report = report(&[("slow", SLOW), ("fast", FAST), ("gone", FAST)], 0.01, 5);
    for stage in &mut report.cells[2].stages {
        let numbers = stage.numbers.as_mut().unwrap();
        (numbers.ok, numbers.failed) = (180, 20);
    }
    report.cells[0].stages[1]
        .numbers
        .as_mut()
        .unwrap()
        .tenths
        .clear();
    let ranking = ranked(&report);
    assert_eq!(ranking.places, ["m/chat/l c1"]);
    assert_eq!(places(&ranking.overall).len(), 2);
    let gone = &ranking.engines[2];
    assert!(!gone.ranked);
    assert_eq!(
        gone.error.as_deref(),
        Some("20 of 200 requests failed: the numbers are those of the survivors")
    );
    let text = text::FILES[0].1(
        &{
            report.ranking = Some(ranking);
            report
        },
        &scenario::report::View::default(),
    );
    assert!(
        text.contains("- gone at m/chat/l c1, m/chat/l c64: 20 of 200 requests failed"),
        "{text}"
    );
    assert!(
        text.contains("- slow at m/chat/l c64: its spread is unknown"),
        "{text}"
    );
}

#[test]
fn a_smoke_run_and_unlike_loads_rank_nobody() {
    let mut smoke = report(&[("slow", SLOW), ("fast", FAST)], 0.01, 5);
    smoke.smoke = true;
    let mut unlike = report(&[("slow", SLOW), ("fast", FAST)], 0.01, 5);
    unlike.cells[1].digest = "b3:other".to_owned();
    for (report, reason) in [
        (smoke, "a smoke run shows"),
        (unlike, "what is sent differs"),
    ] {
        let ranking = ranked(&report);
        assert_eq!(ranking.overall.winner, None);
        assert!(
            ranking.overall.sentence.starts_with("nothing is ranked: "),
            "{}",
            ranking.overall.sentence
        );
        assert!(
            ranking
                .left_out
                .iter()
                .any(|one| one.reason.starts_with(reason))
        );
        assert!(ranking.criteria.is_empty() && ranking.findings.is_empty());
    }
}

#[test]
fn one_backend_has_nobody_to_be_ranked_with() {
    assert_eq!(
        rank(&report(&[("slow", SLOW)], 0.01, 5), &default_weights()),
        None
    );
}

// ---- files -----------------------------------------------------------------------------------------------------------

#[test]
fn a_run_of_several_backends_writes_its_ranking_and_a_saved_one_again() {
    let desk = Desk::new();
    let scenario = format!(
        "version: 1\nname: trial\nbackends:\n  one: {{ kind: simulator, preset: fast }}\n  two: {{ kind: simulator, preset: fast }}\n  \
         gone: {{ kind: openai, url: \"http://127.0.0.1:9\", optional: true }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: [2], requests: 60 }} }} }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    let ran = desk.run(&scenario, &[]);
    let csv = ran.text("performance_rankings.csv");
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 4, "{csv}");
    assert!(rows[0].starts_with("Engine,Status,Throughput (tokens/sec),Latency P50 (ms),"));
    assert!(rows[0].ends_with(",GPU Efficiency Rank,Overall Score,Overall Rank,Interface"));
    assert!(rows[3].starts_with("gone,Not Available,,"), "{csv}");
    let summary: Value = serde_json::from_str(&ran.text("benchmark_summary.json")).unwrap();
    assert_eq!(summary["schema"], "scenario.ranking/v1");
    assert_eq!(summary["summary"]["engines_tested"], 3);
    assert_eq!(summary["summary"]["successful_engines"], 2);
    assert_eq!(summary["simulated"], true);
    let text = ran.text("report.txt");
    let titles: Vec<&str> = text
        .lines()
        .filter(|line| line.len() > 4 && line.chars().all(|c| c.is_uppercase() || c == ' '))
        .collect();
    assert_eq!(
        titles,
        [
            "EXECUTIVE SUMMARY",
            "DETAILED RESULTS",
            "PERFORMANCE RANKINGS",
            "RECOMMENDATIONS",
            "KEY FINDINGS",
            "NOT RANKED"
        ]
    );
    assert!(text.contains("(simulated)"), "{text}");
    desk.tool(&["report", "results", "--out", "again"])
        .with_code(0);
    for name in [
        "report.txt",
        "report.md",
        "performance_rankings.csv",
        "benchmark_summary.json",
    ] {
        let again = std::fs::read_to_string(desk.path("again").join(name)).unwrap();
        assert!(again == ran.text(name), "{name}");
    }
}
