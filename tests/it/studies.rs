//! The files in `scenarios/studies/` each answer a question, and show its effect on the simulator.

use std::path::{Path, PathBuf};

use crate::tool::Desk;

fn study(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios/studies")
        .join(name)
}

/// What a study measured.
struct Seen(Vec<Row>);

/// Cell and stage, metric, statistic, value.
type Row = (String, String, String, f64);

impl Seen {
    /// The value at the only place that ends so.
    fn of(&self, place: &str, metric: &str, stat: &str) -> f64 {
        let there = |row: &&Row| row.0.contains(place) && row.1 == metric && row.2 == stat;
        let found: Vec<&Row> = self.0.iter().filter(there).collect();
        match found[..] {
            [row] => row.3,
            _ => panic!("{place} {metric} {stat}: {found:?}"),
        }
    }
}

/// Runs a study on the simulator; `sets` make it shorter. `plots` are what it must have drawn.
fn run(name: &str, sets: &[&str], plots: &[&str]) -> Seen {
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
    // A busy machine makes verdicts inconclusive; what was measured shows the effect all the same.
    let ended = Desk::new().tool(&words);
    assert!(matches!(ended.code, Some(0 | 1 | 3)), "{}", ended.err);
    for plot in plots {
        let drawn = std::fs::read(ended.results.join(format!("plots/{plot}.png"))).unwrap();
        assert!(drawn.starts_with(b"\x89PNG"), "{plot}");
    }
    let summary = ended.text("summary.csv");
    let mut table = csv::Reader::from_reader(summary.as_bytes());
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let [cell, stage, metric, stat, value] =
        ["cell", "stage", "metric", "stat", "value"].map(column);
    let rows = table.records().map(Result::unwrap);
    let row = |row: csv::StringRecord| {
        let value = row[value].parse().ok()?;
        let place = format!("{} {};", &row[cell], &row[stage]);
        Some((place, row[metric].to_owned(), row[stat].to_owned(), value))
    };
    Seen(rows.filter_map(row).collect())
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
    let seen = run("prefix-reuse.yaml", &sets, &["latency_comparison"]);
    let ttft = |cell: &str| seen.of(&format!("/rag-prefix-{cell}/users c8;"), "ttft", "p50");
    let (cold, half, most) = (ttft("90-cold"), ttft("50-warm"), ttft("90-warm"));
    assert!(most < 0.7 * cold, "{most} warm, {cold} cold");
    assert!(most < half, "{most} with 90 % shared, {half} with 50 %");
    let memory = |cell: &str| seen.of(&format!("/rag-prefix-{cell}/users c8;"), "kv_cache", "mean");
    let (cold, warm) = (memory("90-cold"), memory("90-warm"));
    assert!(warm < cold, "{warm} of the memory warm, {cold} cold");
}

#[test]
fn a_later_turn_waits_for_what_is_new_in_it_alone() {
    let sets = ["load.people.levels.requests=24", "prompts.talks.think=20ms"];
    let seen = run("conversations.yaml", &sets, &[]);
    let hits = seen.of("/talks/people c8;", "prefix_hit_rate", "value");
    assert!(hits > 0.2, "{hits}");
}

#[test]
fn an_engine_with_few_places_begins_late_and_steps_fast() {
    let sets = ["load.users.levels.requests=96", "run.warmup.requests=32"];
    let plots = ["latency_comparison", "throughput_comparison"];
    let seen = run("scheduler.yaml", &sets, &plots);
    let of = |places: u32, metric: &str, stat: &str| {
        seen.of(
            &format!("vllm-max-num-seqs-{places}/llama8b/mixed/users c32;"),
            metric,
            stat,
        )
    };
    let (few, many) = (of(4, "ttft", "p50"), of(32, "ttft", "p50"));
    assert!(many < 0.5 * few, "{many} with many, {few} with few");
    let (few, many) = (of(4, "output_tps", "value"), of(32, "output_tps", "value"));
    assert!(many > 1.5 * few, "{many} with many, {few} with few");
}

#[test]
fn dynamic_batching_outruns_static_batches() {
    let sets = [
        "load.static.batch.requests=48",
        "load.dynamic.levels.requests=48",
    ];
    let seen = run("batching.yaml", &sets, &["throughput_comparison"]);
    let fixed = seen.of("/static b16;", "output_tps", "value");
    let dynamic = seen.of("/dynamic c16;", "output_tps", "value");
    assert!(dynamic > 1.15 * fixed, "{dynamic} dynamic, {fixed} static");
}

#[test]
fn longer_prompts_take_longer_to_begin() {
    let sets = ["load.users.levels.requests=12"];
    let seen = run("sequence-length.yaml", &sets, &["latency_comparison"]);
    let ttft = |tokens: u32| seen.of(&format!("/text-input-{tokens}/users c4;"), "ttft", "p50");
    let [short, medium, long] = [128, 1024, 3500].map(ttft);
    assert!(short < medium && medium < long, "{short} {medium} {long}");
    assert!(long > 2.0 * short, "{short} {long}");
}

#[test]
fn clumps_of_arrivals_wait_longer_than_even_ones() {
    let stages = |load: &str| format!("load.{load}.stages=[{{ name: flow, rate: 6/s, for: 15s }}]");
    let sets = ["even", "random", "clumps"].map(stages);
    let sets = sets.each_ref().map(String::as_str);
    let seen = run("arrivals.yaml", &sets, &["latency_comparison"]);
    let ttft = |load: &str, stat: &str| seen.of(&format!("/{load} flow;"), "ttft", stat);
    let (even, clumps) = (ttft("even", "p95"), ttft("clumps", "p95"));
    assert!(clumps > 1.1 * even, "{clumps} in clumps, {even} even");
}

#[test]
fn more_users_bring_more_tokens_and_a_longer_tail() {
    let sets = [
        "load.climb.levels.users=[2, 16, 64]",
        "load.climb.levels.requests_per_user=5",
    ];
    let plots = ["latency_throughput_pareto", "throughput_scaling"];
    let seen = run("saturation.yaml", &sets, &plots);
    let at =
        |users: u32, metric: &str, stat: &str| seen.of(&format!("/climb c{users};"), metric, stat);
    let tokens = [2, 16, 64].map(|users| at(users, "output_tps", "value"));
    assert!(tokens.is_sorted(), "{tokens:?}");
    // Eight times the users bring less than eight times the tokens, and wait longer.
    assert!(tokens[1] < 8.0 * tokens[0], "{tokens:?}");
    let waits = [2, 16, 64].map(|users| at(users, "ttft", "p95"));
    assert!(waits.is_sorted() && waits[2] > 2.0 * waits[0], "{waits:?}");
    let memory = [2, 16, 64].map(|users| at(users, "kv_cache", "max"));
    assert!(
        memory.is_sorted() && memory[2] > 4.0 * memory[0],
        "{memory:?}"
    );
}
