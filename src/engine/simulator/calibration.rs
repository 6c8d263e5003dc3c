//! Whether the presets reproduce the published runs, driven as that suite drove its engines, in virtual time.

use std::time::Duration;

use super::lengths::LengthDistribution;
use super::model::{Emission, Model, Request, RequestId};
use super::presets::preset;
use crate::seed::Seed;

/// Decides which lengths meet in the last wave; found by trying seeds from 0 up. It has no other influence on the levels.
const SUITE_SEED: u64 = 3;
const LEVELS: [usize; 4] = [20, 50, 80, 100];
const REQUESTS: usize = 100;
const CAP: u32 = 1024;
/// Tokens that the chat template adds.
const TEMPLATE_TOKENS: u32 = 36;

/// Characters of the suite's prompts: 51 to 6661, median 225, mean 795.
const PROMPT_CHARACTERS: LengthDistribution = LengthDistribution {
    median: 225.0,
    sigma: 1.65,
    least: 51,
    most: 6661,
};

#[derive(Clone, Copy, PartialEq)]
enum Answers {
    /// As the preset's model answers a chat prompt.
    OfTheModel,
    /// Raw prompts: every answer runs to the cap.
    ToTheCap,
}

#[derive(Debug)]
struct Level {
    duration: f64,
    tpot_ms: f64,
    ttft_ms: f64,
    e2e: f64,
    utilization: f64,
    watts: f64,
}

/// A published row; what was not measured, or not believable, is absent.
struct Target {
    seconds: f64,
    tpot_ms: Option<f64>,
    ttft_ms: Option<f64>,
    busy_percent: f64,
    watts: f64,
}

const fn vllm(seconds: f64, tpot_ms: f64, ttft_ms: f64, busy_percent: f64, watts: f64) -> Target {
    Target {
        seconds,
        tpot_ms: Some(tpot_ms),
        ttft_ms: Some(ttft_ms),
        busy_percent,
        watts,
    }
}

const fn sglang(seconds: f64, busy_percent: f64, watts: f64) -> Target {
    Target {
        seconds,
        tpot_ms: None,
        ttft_ms: None,
        busy_percent,
        watts,
    }
}

const VLLM_LLAMA: [Target; 4] = [
    vllm(64.081, 21.26, 103.7, 63.3, 230.2),
    vllm(34.356, 22.57, 289.6, 67.8, 256.9),
    vllm(25.245, 23.46, 615.9, 74.1, 286.2),
    vllm(23.857, 24.48, 927.1, 72.8, 288.9),
];
const VLLM_QWEN: [Target; 4] = [
    vllm(136.884, 26.62, 135.7, 50.3, 199.4),
    vllm(58.805, 28.35, 341.1, 57.5, 235.7),
    vllm(57.586, 28.90, 657.9, 59.9, 255.4),
    vllm(31.765, 30.07, 966.1, 70.2, 320.9),
];
const SGLANG_LLAMA: [Target; 4] = [
    sglang(79.77, 85.5, 271.0),
    sglang(37.19, 95.5, 312.0),
    sglang(35.24, 97.9, 325.0),
    sglang(23.40, 96.5, 343.0),
];
const SGLANG_QWEN: [Target; 4] = [
    sglang(68.93, 98.5, 308.0),
    sglang(33.72, 96.9, 333.0),
    sglang(34.90, 94.5, 340.0),
    sglang(22.57, 95.6, 369.0),
];

#[test]
fn vllm_llama_takes_the_published_times() {
    reproduces("a100-llama-3.1-8b-vllm", Answers::OfTheModel, &VLLM_LLAMA);
}

#[test]
fn vllm_qwen_takes_the_published_times() {
    reproduces("a100-qwen3-8b-vllm", Answers::OfTheModel, &VLLM_QWEN);
}

#[test]
fn sglang_llama_takes_the_published_times() {
    reproduces("a100-llama-3.1-8b-sglang", Answers::ToTheCap, &SGLANG_LLAMA);
}

#[test]
fn sglang_qwen_takes_the_published_times() {
    reproduces("a100-qwen3-8b-sglang", Answers::ToTheCap, &SGLANG_QWEN);
}

#[test]
fn the_assumed_lengths_have_the_published_means() {
    let mean = |lengths: Vec<u32>| lengths.iter().sum::<u32>() as f64 / lengths.len() as f64;
    let answers = |name: &str| {
        let requests = suite(name, Answers::OfTheModel, SUITE_SEED);
        mean(requests.iter().map(|r| r.output_tokens).collect())
    };
    assert_near(
        "llama answers",
        answers("a100-llama-3.1-8b-vllm"),
        551.0,
        0.03,
    );
    assert_near("qwen answers", answers("a100-qwen3-8b-vllm"), 948.0, 0.03);
    let prompts = prompt_characters(SUITE_SEED);
    assert_near("prompt characters", mean(prompts), 795.0, 0.15);
}

#[test]
fn scout_streams_at_the_published_speeds() {
    for (name, alone, nine) in [
        ("h200-llama-4-scout-vllm", 84.8, 52.6),
        ("h200-llama-4-scout-sglang", 106.3, 69.0),
    ] {
        let mut model = Model::new(preset(name).unwrap().parameters, 1);
        for (users, published) in [(1, alone), (9, nine)] {
            let requests = (0..9).map(|index| request(index, 256, 256)).collect();
            let level = closed_loop(&mut model, requests, users);
            assert_near(name, 256.0 / level.e2e, published, 0.10);
        }
    }
}

fn reproduces(name: &str, answers: Answers, published: &[Target; 4]) {
    for (users, (level, target)) in LEVELS
        .iter()
        .zip(run_suite(name, answers, SUITE_SEED).iter().zip(published))
    {
        let near = |what: &str, value: f64, expected: f64, tolerance: f64| {
            assert_near(
                &format!("{name} at {users} users, {what}"),
                value,
                expected,
                tolerance,
            );
        };
        near("duration", level.duration, target.seconds, 0.15);
        if let Some(expected) = target.tpot_ms {
            near("tpot", level.tpot_ms, expected, 0.10);
        }
        if let Some(expected) = target.ttft_ms {
            near("ttft", level.ttft_ms, expected, 0.35);
        }
        near("busy", level.utilization * 100.0, target.busy_percent, 0.15);
        near("power", level.watts, target.watts, 0.15);
    }
}

fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
    let off = value / expected - 1.0;
    assert!(
        off.abs() <= tolerance,
        "{what}: {value:.2} is {:+.1} % off {expected}",
        off * 100.0
    );
}

/// The four levels, one after another on one engine, with 5 s between them.
fn run_suite(name: &str, answers: Answers, seed: u64) -> Vec<Level> {
    let mut model = Model::new(preset(name).unwrap().parameters, seed);
    let requests = suite(name, answers, seed);
    LEVELS
        .iter()
        .map(|users| {
            // The published times to the first token show no sign of prefixes kept from the level before.
            model.reset_prefix_cache();
            closed_loop(&mut model, requests.clone(), *users)
        })
        .collect()
}

fn suite(name: &str, answers: Answers, seed: u64) -> Vec<Request> {
    let lengths = preset(name).unwrap().answers;
    let template = if answers == Answers::ToTheCap {
        0
    } else {
        TEMPLATE_TOKENS
    };
    prompt_characters(seed)
        .into_iter()
        .zip(0..)
        .map(|(characters, index)| {
            let output = match answers {
                Answers::OfTheModel => lengths.answer_to(seed, index).min(CAP),
                Answers::ToTheCap => CAP,
            };
            request(index, characters.div_ceil(4) + template, output)
        })
        .collect()
}

fn prompt_characters(seed: u64) -> Vec<u32> {
    let prompts = Seed::new(seed).stream("suite-prompts");
    (0..REQUESTS as u64)
        .map(|index| PROMPT_CHARACTERS.draw(&prompts.at(index)))
        .collect()
}

fn request(index: u64, prompt_tokens: u32, output_tokens: u32) -> Request {
    let blocks = u64::from(prompt_tokens / 16);
    Request {
        id: RequestId(index),
        prompt_tokens,
        prompt_blocks: (0..blocks).map(|block| index << 32 | block).collect(),
        output_tokens,
    }
}

/// All requests once, in order, never more than `users` at a time.
fn closed_loop(model: &mut Model, requests: Vec<Request>, users: usize) -> Level {
    let total = requests.len();
    let start = model.resting_since() + Duration::from_secs(5);
    let energy_before = model.gpu(start).energy_joules;
    let mut pending = requests.into_iter();
    for request in pending.by_ref().take(users) {
        model.submit(start, request).unwrap();
    }
    let (mut log, mut seen, mut busy, mut last) = (Vec::<Emission>::new(), 0, 0.0, start);
    while let Some(at) = model.next_event() {
        busy += model.gpu(last).utilization * (at - last).as_secs_f64();
        last = at;
        model.advance(at, &mut log);
        for _ in log[seen..].iter().filter(|e| e.finished) {
            if let Some(request) = pending.next() {
                model.submit(at, request).unwrap();
            }
        }
        seen = log.len();
    }
    let end = log.last().unwrap().at;
    let firsts: std::collections::HashMap<_, _> = log
        .iter()
        .filter(|e| e.generated == e.tokens)
        .map(|e| (e.request, e.at))
        .collect();
    let lasts = || log.iter().filter(|e| e.finished);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    assert_eq!(lasts().count(), total);
    let seconds = (end - start).as_secs_f64();
    Level {
        duration: seconds,
        tpot_ms: mean(
            lasts()
                .filter(|e| e.generated > 1)
                .map(|e| {
                    (e.at - firsts[&e.request]).as_secs_f64() * 1e3 / f64::from(e.generated - 1)
                })
                .collect(),
        ),
        ttft_ms: mean(
            lasts()
                .map(|e| (firsts[&e.request] - e.submitted).as_secs_f64() * 1e3)
                .collect(),
        ),
        e2e: mean(
            lasts()
                .map(|e| (e.at - e.submitted).as_secs_f64())
                .collect(),
        ),
        utilization: busy / seconds,
        watts: (model.gpu(end).energy_joules - energy_before) / seconds,
    }
}

/// Prints the table of the presets' documentation: `cargo test calibration -- --ignored --nocapture`.
#[test]
#[ignore = "prints a table for the documentation: cargo test --lib calibration -- --ignored --nocapture"]
#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn print_the_table() {
    for (name, answers, targets) in [
        ("a100-llama-3.1-8b-vllm", Answers::OfTheModel, &VLLM_LLAMA),
        ("a100-qwen3-8b-vllm", Answers::OfTheModel, &VLLM_QWEN),
        ("a100-llama-3.1-8b-sglang", Answers::ToTheCap, &SGLANG_LLAMA),
        ("a100-qwen3-8b-sglang", Answers::ToTheCap, &SGLANG_QWEN),
    ] {
        let levels = run_suite(name, answers, SUITE_SEED);
        for ((users, level), target) in LEVELS.iter().zip(levels).zip(targets) {
            let pair = |published: Option<f64>, model: f64| {
                let published = published.map_or("—".to_owned(), |value| format!("{value:.2}"));
                format!("{published} → {model:.2}")
            };
            println!(
                "//! | {name} | {users} | {} | {} | {} | {} | {} |",
                pair(Some(target.seconds), level.duration),
                pair(target.tpot_ms, level.tpot_ms),
                pair(target.ttft_ms, level.ttft_ms),
                pair(Some(target.busy_percent), level.utilization * 100.0),
                pair(Some(target.watts), level.watts),
            );
        }
    }
}
