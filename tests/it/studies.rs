//! The files in `scenarios/studies/` each answer a question, and show its effect on the simulator.

use std::path::{Path, PathBuf};

use crate::tool::Desk;

fn study(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios/studies")
        .join(name)
}

/// A metric of each cell and stage of a study, from its summary; `sets` make it shorter.
fn measured(name: &str, sets: &[&str], metric: &str, stat: &str) -> Vec<(String, f64)> {
    let path = study(name);
    let mut words = vec![
        "run",
        path.to_str().unwrap(),
        "--simulate",
        "--out",
        "results",
    ];
    for set in sets {
        words.extend(["--set", set]);
    }
    let ended = Desk::new().tool(&words);
    assert!(matches!(ended.code, Some(0 | 1 | 3)), "{}", ended.err);
    let summary = ended.text("summary.csv");
    let mut table = csv::Reader::from_reader(summary.as_bytes());
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let [cell, stage, metrics, stats, value] =
        ["cell", "stage", "metric", "stat", "value"].map(column);
    table
        .records()
        .map(Result::unwrap)
        .filter(|row| &row[metrics] == metric && &row[stats] == stat)
        .map(|row| {
            let place = format!("{} {}", &row[cell], &row[stage]);
            (place, row[value].parse().unwrap())
        })
        .collect()
}

fn of(numbers: &[(String, f64)], place: &str) -> f64 {
    let found = numbers.iter().find(|(known, _)| known.contains(place));
    found
        .unwrap_or_else(|| panic!("{place} is not in {numbers:?}"))
        .1
}

#[test]
fn every_study_checks() {
    let desk = Desk::new();
    let folder = study("");
    let mut studies = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        desk.tool(&["check", path.to_str().unwrap()]).with_code(0);
        let text = std::fs::read_to_string(&path).unwrap();
        let modeline = "# yaml-language-server: $schema=../../schemas/scenario.v1.json\n";
        assert!(text.starts_with(modeline), "{}", path.display());
        studies += 1;
    }
    assert_eq!(studies, 7);
}

#[test]
fn a_warm_prefix_cache_shortens_the_time_to_the_first_token() {
    let sets = ["load.users.levels.requests=24", "run.warmup.requests=8"];
    let ttft = measured("prefix-reuse.yaml", &sets, "ttft", "p50");
    let (cold, warm) = (of(&ttft, "rag-cold"), of(&ttft, "rag-warm"));
    assert!(warm < 0.7 * cold, "{warm} warm, {cold} cold");
}

#[test]
fn a_later_turn_waits_for_what_is_new_in_it_alone() {
    let sets = ["load.people.levels.requests=24", "prompts.talks.think=20ms"];
    let hits = measured("conversations.yaml", &sets, "prefix_hit_rate", "value");
    assert!(of(&hits, "/talks/") > 0.2, "{hits:?}");
}

#[test]
fn an_engine_with_few_places_begins_late_and_steps_fast() {
    let sets = ["load.users.levels.requests=96", "run.warmup.requests=32"];
    let name = "scheduler.yaml";
    let ttft = measured(name, &sets, "ttft", "p50");
    let (few, many) = (
        of(&ttft, "vllm-max-num-seqs-4/"),
        of(&ttft, "vllm-max-num-seqs-32/"),
    );
    assert!(many < 0.5 * few, "{many} with many, {few} with few");
}

#[test]
fn dynamic_batching_outruns_static_batches() {
    let sets = [
        "load.static.batch.requests=48",
        "load.dynamic.levels.requests=48",
    ];
    let tps = measured("batching.yaml", &sets, "output_tps", "value");
    let (fixed, dynamic) = (of(&tps, "/static"), of(&tps, "/dynamic"));
    assert!(dynamic > 1.15 * fixed, "{dynamic} dynamic, {fixed} static");
}

#[test]
fn longer_prompts_take_longer_to_begin() {
    let sets = ["load.users.levels.requests=12"];
    let ttft = measured("sequence-length.yaml", &sets, "ttft", "p50");
    let [short, medium, long] = ["/short/", "/medium/", "/long/"].map(|set| of(&ttft, set));
    assert!(short < medium && medium < long, "{short} {medium} {long}");
    assert!(long > 2.0 * short, "{short} {long}");
}
