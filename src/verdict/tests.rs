//! Measuring and judging by examples that can be checked by eye.

use std::time::Duration;

use super::fixture::*;
use super::measure::{Measured, Rules, measure, value};
use super::slice::Slice;
use super::*;
use crate::assertion::{Aggregate, Percentile, find};
use crate::observation::{
    CellResult, EventLog, NotRun, Observations, Outcome, OutputEvent, RequestRecord, StageTimes,
    TokenSource, Tokens,
};
use crate::plan::{AbortRule, Cell, CellRun, GoodputBound, Gpus, RepeatsMust, StartClock};

const ALL: Rules = Rules {
    count: Count::All,
    clock: None,
};
const ANSWERED: Rules = Rules {
    count: Count::Ok,
    clock: None,
};

fn p(text: &str) -> Aggregate {
    Aggregate::Percentile(Percentile::read(text).unwrap())
}

fn measured(
    cell: &Cell,
    seen: &Observations,
    metric: &str,
    aggregate: Aggregate,
    rules: Rules,
) -> Result<Measured, State> {
    measure(
        &[Slice::stage(cell, seen, 0)],
        find(metric).unwrap(),
        aggregate,
        rules,
    )
}

/// In canonical units.
fn number(cell: &Cell, seen: &Observations, metric: &str, aggregate: Aggregate) -> f64 {
    let base = measured(cell, seen, metric, aggregate, ALL).unwrap().low;
    find(metric)
        .unwrap()
        .dimension_of(aggregate)
        .to_canonical(base)
}

/// The states of one SLO over one open-loop cell.
fn verdict_of(text: &str, seen: Observations) -> Verdict {
    judge(&plan(vec![open_cell()], &[text]), &[ran(0, 0, seen)]).remove(0)
}

fn reason(state: &State) -> &str {
    match state {
        State::Inconclusive(reason) => &reason.text,
        State::Skipped(text) => text,
        State::Pass | State::Fail => "",
    }
}

/// The stream of the conformance fixture: every tool measures it differently, and this is how we do.
fn conformance() -> RequestRecord {
    let events = [(120, 5), (200, 4), (240, 1), (260, 1), (300, 6)];
    let events = events.map(|(at, tokens)| OutputEvent {
        at: ms(at),
        tokens,
        shared: false,
    });
    RequestRecord {
        intended: ms(0),
        dispatched: Some(ms(20)),
        written: Some(ms(25)),
        first_event: Some(ms(40)),
        first_token: Some(ms(120)),
        first_content: Some(ms(200)),
        last_token: Some(ms(300)),
        finished: ms(361),
        events: EventLog::of(&events),
        finish_reason: Some("stop".into()),
        tokens: Tokens {
            input: Some(8),
            output: Some(17),
            source: TokenSource::Usage,
            per_event_known: true,
            ..Tokens::default()
        },
        ..answered(0, 0, 0)
    }
}

#[test]
fn the_conformance_stream_measures_as_documented() {
    let record = conformance();
    let in_ms = |metric| {
        value(&record, metric, StartClock::Sent)
            .map(|base| find(metric).unwrap().dimension.to_canonical(base))
    };
    for (metric, expected) in [
        ("ttft", 100.0),
        ("ttft_intended", 120.0),
        ("ttft_content", 180.0),
        ("first_event", 20.0),
        ("e2e", 280.0),
        ("e2e_stream", 341.0),
        ("tpot", 15.0),
        ("output_tokens", 17.0),
    ] {
        assert_eq!(in_ms(metric), Some(expected), "{metric}");
    }
    let (cell, seen) = (open_cell(), seen(vec![record], 1));
    let gaps = |metric: &str, ranks: &[&str]| -> Vec<f64> {
        ranks
            .iter()
            .map(|rank| number(&cell, &seen, metric, p(rank)).round())
            .collect()
    };
    // icl 80, 40, 20, 40; itl 20 ×4, 40 ×1, 20 ×1, 6.67 ×6
    assert_eq!(
        gaps("icl", &["25", "50", "75", "99"]),
        [20.0, 40.0, 40.0, 80.0]
    );
    assert_eq!(
        gaps("itl", &["50", "51", "91", "92"]),
        [7.0, 20.0, 20.0, 40.0]
    );
    assert_eq!(number(&cell, &seen, "itl", Aggregate::Count), 12.0);
    assert_eq!(number(&cell, &seen, "icl", Aggregate::Mean), 45.0);
    assert_eq!(number(&cell, &seen, "itl", Aggregate::Mean).round(), 15.0); // (4·20 + 40 + 20 + 6·6.67) ÷ 12
}

#[test]
fn undefined_is_not_zero() {
    let one_token = answered(0, 0, 50);
    assert_eq!(value(&one_token, "tpot", StartClock::Sent), None);
    let told = measured(
        &open_cell(),
        &seen(vec![one_token], 1),
        "tpot",
        p("50"),
        ALL,
    )
    .unwrap_err();
    assert_eq!(reason(&told), "undefined on all 1 answered requests");
    let silent = RequestRecord {
        first_content: None,
        ..answered(0, 0, 50)
    };
    assert_eq!(
        measured(
            &open_cell(),
            &seen(vec![silent], 1),
            "ttft_content",
            p("50"),
            ANSWERED
        )
        .unwrap()
        .low,
        f64::INFINITY
    );
}

#[test]
fn percentiles_are_exact_ranks_and_failures_are_infinite() {
    let (cell, hundred) = (open_cell(), seen(ramp(100), 10));
    assert_eq!(number(&cell, &hundred, "ttft", p("95")), 95.0);
    assert_eq!(number(&cell, &hundred, "ttft", p("50")), 50.0);
    let p50 = measured(&cell, &hundred, "ttft", p("50"), ALL).unwrap();
    assert_eq!(p50.interval, Some((0.040, 0.061)));

    let mut records = ramp(93);
    records.extend((93..100).map(|i| refused(500, i, i * 100)));
    let failing = seen(records, 10);
    assert_eq!(number(&cell, &failing, "ttft", p("93")), 93.0);
    assert_eq!(number(&cell, &failing, "ttft", p("94")), f64::INFINITY);
    assert_eq!(
        measured(&cell, &failing, "ttft", p("95"), ANSWERED)
            .unwrap()
            .low,
        0.089
    );
    let verdict = verdict_of("P95 TTFT < 500ms", failing.clone());
    assert_eq!(
        (verdict.state, verdict.observed.unwrap().text),
        (State::Fail, "∞ (7 of 100 failed)".to_owned())
    );
    assert_eq!(number(&cell, &failing, "tps_per_user", Aggregate::Min), 0.0);
    assert!(measured(&cell, &failing, "ttft", Aggregate::Std, ALL).is_err());
}

#[test]
fn the_clock_of_open_loop_is_the_plan() {
    let late = RequestRecord {
        dispatched: Some(ms(400)),
        ..answered(0, 0, 500)
    };
    let seen = seen(vec![late], 1);
    assert_eq!(number(&open_cell(), &seen, "ttft", Aggregate::Max), 500.0);
    let mut closed = seen.clone();
    closed.stages[0].steady = Some((ms(0), ms(1000)));
    assert_eq!(
        number(&closed_cell(1), &closed, "ttft", Aggregate::Max),
        100.0
    );
    assert_eq!(
        number(&open_cell(), &seen, "send_lag", Aggregate::Max),
        400.0
    );
}

#[test]
fn no_samples_is_not_a_pass() {
    for text in ["P95 TTFT < 500ms", "error rate < 1%", "P99 ITL < 80ms"] {
        let state = verdict_of(text, seen(Vec::new(), 10)).state;
        assert!(
            matches!(&state, State::Inconclusive(reason) if reason.family == Family::NoData),
            "{text}: {state:?}"
        );
    }
    assert_eq!(
        verdict_of("errors == 0", seen(Vec::new(), 10)).state,
        State::Pass
    );
    let never = Observations {
        stages: Vec::new(),
        ..Observations::default()
    };
    assert_eq!(
        reason(&verdict_of("P95 TTFT < 500ms", never).state),
        "stage `steady` never began"
    );
    let missing = judge(&plan(vec![open_cell()], &["rps > 1 req/s"]), &[]).remove(0);
    assert_eq!(
        reason(&missing.state),
        "cell `vllm/llama8b/chat/steady` was not run"
    );
}

#[test]
fn few_samples_are_inconclusive_then_thin_then_sound() {
    let p95 = |n| verdict_of("P95 TTFT < 500ms", seen(ramp(n), 100));
    let told = |verdict: &Verdict| (verdict.state == State::Pass, verdict.thin);
    assert_eq!(
        reason(&p95(19).state),
        "n=19, and P95 needs at least 20 samples"
    );
    assert_eq!(told(&p95(20)), (true, true));
    assert_eq!(told(&p95(58)), (true, true));
    assert_eq!(told(&p95(59)), (true, false));
    let mut strict = plan(vec![open_cell()], &["P95 TTFT < 500ms"]);
    strict.slos[0].confidence = Some(0.95);
    let verdict = judge(&strict, &[ran(0, 0, seen(ramp(40), 10))]).remove(0);
    assert_eq!(reason(&verdict.state), "thin: n=40");
}

#[test]
fn a_rate_is_thin_while_one_event_would_change_it() {
    let rate = |failed: u64, n: u64| {
        let mut records = ramp(n - failed);
        records.extend((n - failed..n).map(|i| refused(500, i, i * 100)));
        verdict_of("error rate < 1%", seen(records, 100))
    };
    let one = rate(1, 101);
    assert_eq!((one.state.clone(), one.thin), (State::Pass, true));
    assert_eq!(
        one.advice.as_deref(),
        Some("n=101: one event more or less changes it; 299 requests without an event show < 1%")
    );
    assert_eq!((rate(1, 100).state, rate(1, 100).thin), (State::Fail, true));
    assert_eq!(
        (rate(5, 100).state, rate(5, 100).thin),
        (State::Fail, false)
    );
    assert_eq!(
        (rate(0, 299).state, rate(0, 299).thin),
        (State::Pass, false)
    );
}

#[test]
fn cut_requests_decide_only_where_their_end_does_not_matter() {
    let with_cut = |cut: u64, elapsed: u64| {
        let mut records = ramp(100 - cut);
        records.extend((100 - cut..100).map(|i| ended(Outcome::Cut, i, i * 100, elapsed)));
        let mut cell = open_cell();
        cell.guards.cut = None;
        judge(
            &plan(vec![cell], &["P95 TTFT < 500ms"]),
            &[ran(0, 0, seen(records, 100))],
        )
        .remove(0)
    };
    assert_eq!(with_cut(2, 90).state, State::Pass); // two of them never matter to P95
    assert_eq!(with_cut(10, 900).state, State::Fail); // ten already took 900 ms
    let open = with_cut(10, 90);
    assert_eq!(
        reason(&open.state),
        "10 cut requests decide it: they had not ended when the drain did"
    );
    assert_eq!(open.observed.unwrap().text, "between 90ms and ∞ (10 cut)");
}

#[test]
fn a_first_token_seen_before_the_cut_is_exact() {
    let cut = with_outcome(Outcome::Cut, answered(0, 0, 120));
    let seen = seen(vec![cut], 1);
    let ttft = measured(&open_cell(), &seen, "ttft", Aggregate::Max, ALL).unwrap();
    let e2e = measured(&open_cell(), &seen, "e2e", Aggregate::Max, ALL).unwrap();
    assert_eq!((ttft.low, ttft.high), (0.120, 0.120));
    assert_eq!((e2e.low, e2e.high), (0.120, f64::INFINITY));
}

#[test]
fn flows_count_by_arrival_whoever_sent_the_request() {
    let mut records = vec![
        answered(0, 0, 500),
        answered(1, 900, 400),
        answered(2, 1900, 400),
    ];
    records[0].measured = false;
    let (cell, seen) = (open_cell(), seen(records, 2));
    assert_eq!(number(&cell, &seen, "rps", Aggregate::Whole), 1.0); // at 0.5 s and 1.3 s; the third ends after the window
    assert_eq!(number(&cell, &seen, "output_tps", Aggregate::Whole), 1.0);
    assert_eq!(number(&cell, &seen, "total_tps", Aggregate::Whole), 11.0);
    assert_eq!(number(&cell, &seen, "achieved_rate", Aggregate::Whole), 1.5);
    assert_eq!(number(&cell, &seen, "rps", Aggregate::Min), 1.0);
    assert_eq!(
        number(&cell, &seen, "achieved_concurrency", Aggregate::Mean),
        0.5
    ); // 0.5 + 0.4 + 0.1 s in 2 s
    assert_eq!(
        number(&cell, &seen, "achieved_concurrency", Aggregate::Max),
        1.0
    );
}

#[test]
fn tokens_that_no_answer_tells_are_not_zero() {
    let untold = |index| {
        let mut record = answered(index, 0, 500);
        record.tokens = Tokens {
            input: None,
            output: None,
            ..record.tokens
        };
        record.events = EventLog::default();
        record
    };
    let flow = |records, metric| {
        let seen = seen(records, 2);
        measured(&open_cell(), &seen, metric, Aggregate::Whole, ALL).map(|seen| seen.low)
    };
    for metric in ["output_tps", "input_tps", "total_tps"] {
        let State::Inconclusive(why) = flow(vec![untold(0)], metric).unwrap_err() else {
            panic!("{metric}");
        };
        assert_eq!(why.text, "no answer tells how many tokens it has");
        // Where nothing was answered there was no token either.
        let failed = with_outcome(Outcome::Truncated, untold(0));
        assert_eq!(flow(vec![failed], metric), Ok(0.0), "{metric}");
    }
    let seen = [untold(0), answered(1, 0, 500)];
    assert_eq!(flow(seen.into(), "output_tps"), Ok(0.5));
}

#[test]
fn unknown_token_counts_are_spread_over_the_events() {
    let events = [500, 1500].map(|at| OutputEvent {
        at: ms(at),
        tokens: 1,
        shared: false,
    });
    let tokens = Tokens {
        output: Some(8),
        source: TokenSource::Usage,
        ..Tokens::default()
    };
    let record = RequestRecord {
        first_token: Some(ms(500)),
        last_token: Some(ms(1500)),
        finished: ms(1500),
        events: EventLog::of(&events),
        tokens,
        ..answered(0, 0, 0)
    };
    let (cell, seen) = (open_cell(), seen(vec![record], 1));
    assert_eq!(number(&cell, &seen, "output_tps", Aggregate::Whole), 4.0);
    let told = measured(&cell, &seen, "itl", p("50"), ALL).unwrap_err();
    assert_eq!(
        reason(&told),
        "an event carries 4.0 tokens and their number in each is not known: use `tpot` or `chunk gap`"
    );
    assert_eq!(number(&cell, &seen, "icl", Aggregate::Count), 1.0);
}

#[test]
fn good_requests_meet_every_bound_that_is_defined() {
    let mut cell = open_cell();
    let bound = |metric: &str, limit| GoodputBound {
        metric: metric.to_owned(),
        limit,
        category: None,
        span: Span::default(),
    };
    cell.goodput = vec![bound("ttft", 50.0), bound("tpot", 10.0)];
    let mut records = ramp(100); // ttft 1 to 100 ms; tpot is undefined on answers of one token
    records.push(refused(500, 100, 1000));
    let seen = seen(records, 10);
    assert_eq!(
        measured(&cell, &seen, "goodput_ratio", Aggregate::Count, ALL)
            .unwrap()
            .low,
        50.0
    );
    assert_eq!(
        measured(&cell, &seen, "goodput_ratio", Aggregate::Whole, ALL)
            .unwrap()
            .low,
        50.0 / 101.0
    );
    assert_eq!(number(&cell, &seen, "goodput", Aggregate::Whole), 5.0);
}

#[test]
fn gauges_are_weighted_by_time_and_need_most_of_the_window() {
    let cell = open_cell();
    let mut seen = seen(Vec::new(), 10);
    let every_second: Vec<(u64, f64)> = (0..=10)
        .map(|s| (s * 1000, if s < 5 { 100.0 } else { 300.0 }))
        .collect();
    seen.telemetry = vec![
        series("gpu.power", Some(0), &every_second),
        series("gpu.power", Some(1), &every_second),
    ];
    assert_eq!(number(&cell, &seen, "gpu.power", Aggregate::Mean), 400.0); // the sum of two GPUs
    assert_eq!(number(&cell, &seen, "gpu.power", Aggregate::Max), 600.0);
    assert_eq!(number(&cell, &seen, "gpu.power", p("50")), 200.0);
    assert_eq!(number(&cell, &seen, "gpu.energy", Aggregate::Whole), 4000.0); // integrated: 400 W for 10 s
    let one = Slice {
        gpu: Some(1),
        ..Slice::stage(&cell, &seen, 0)
    };
    assert_eq!(
        measure(&[one], find("gpu.power").unwrap(), Aggregate::Mean, ALL)
            .unwrap()
            .low,
        200.0
    );

    seen.telemetry = vec![series("gpu.power", Some(0), &every_second[..4])];
    let told = measured(&cell, &seen, "gpu.power", Aggregate::Mean, ALL).unwrap_err();
    assert_eq!(
        reason(&told),
        "4 samples of `gpu.power` cover 50% of the window; 80% are needed"
    );

    seen.telemetry = vec![
        series("gpu.memory_used", Some(0), &every_second),
        series("gpu.memory_used", Some(1), &[(0, 7.0), (10_000, 7.0)]),
    ];
    assert_eq!(
        number(&cell, &seen, "gpu.memory_used", Aggregate::Min),
        100.0
    ); // the fullest GPU
}

#[test]
fn energy_comes_from_the_counter_where_there_is_one() {
    let cell = open_cell();
    let mut seen = seen(vec![answered(0, 0, 500), answered(1, 1000, 500)], 10);
    seen.telemetry = vec![series(
        "gpu.energy",
        Some(0),
        &[(0, 1000.0), (5000, 2000.0), (10_000, 3000.0)],
    )];
    assert_eq!(number(&cell, &seen, "gpu.energy", Aggregate::Whole), 2000.0);
    assert_eq!(
        number(&cell, &seen, "energy_per_token", Aggregate::Whole),
        1000.0
    );
    assert_eq!(
        number(&cell, &seen, "tokens_per_joule", Aggregate::Whole),
        0.001
    );
    let mut priced = cell.clone();
    priced.gpu_hour = Some(3.6);
    assert_eq!(
        number(&priced, &seen, "cost_per_mtok", Aggregate::Whole),
        5000.0
    ); // 1 GPU · 10 s · $0.001/s ÷ 2 tokens
}

#[test]
fn a_backend_without_gpus_is_not_asked_for_them() {
    let mut cell = open_cell();
    let mut backend = (*cell.backend).clone();
    backend.gpus = Gpus::Off;
    cell.backend = std::sync::Arc::new(backend);
    let verdicts = judge(
        &plan(vec![cell], &["max gpu.memory_used < 78 GiB"]),
        &[ran(0, 0, seen(ramp(100), 10))],
    );
    assert_eq!(
        verdicts[0].state,
        State::Skipped("no GPU source".to_owned())
    );
    assert_eq!(status(&verdicts, &[]), Status::Inconclusive); // every gated cell was skipped
}

#[test]
fn closed_loop_measures_its_steady_window() {
    let mut records = ramp(20); // intended at 0, 100, … 1900 ms
    records
        .iter_mut()
        .for_each(|record| record.user = Some(record.index as u32 % 2));
    let mut seen = seen(records, 2);
    seen.stages[0].steady = Some((ms(1000), ms(2000)));
    assert_eq!(
        number(&closed_cell(2), &seen, "ttft", Aggregate::Count),
        10.0
    );
    assert_eq!(
        measured(&closed_cell(2), &seen, "error_rate", Aggregate::Whole, ALL)
            .unwrap()
            .n,
        20
    );
    seen.stages[0].steady = None;
    let told = measured(&closed_cell(2), &seen, "ttft", p("50"), ALL).unwrap_err();
    assert_eq!(
        reason(&told),
        "level not held: stage `steady` never had all its users"
    );
}

#[test]
fn the_median_of_an_even_number_of_repeats_is_the_worse_of_the_middle_two() {
    let mut plan = plan(vec![open_cell()], &["max ttft < 100ms"]);
    let state = |plan: &crate::plan::Plan, worst: &[u64]| {
        let outcomes: Vec<CellResult> = worst
            .iter()
            .enumerate()
            .map(|(r, n)| ran(0, r as u32, seen(vec![answered(0, 0, *n)], 1)))
            .collect();
        let verdict = judge(plan, &outcomes).remove(0);
        (
            verdict.state,
            verdict.observed.unwrap().text,
            verdict.repeats.len(),
        )
    };
    plan.repeats = 2;
    assert_eq!(
        state(&plan, &[80, 120]),
        (State::Fail, "120ms".to_owned(), 2)
    );
    plan.repeats = 3;
    assert_eq!(
        state(&plan, &[80, 120, 90]),
        (State::Pass, "90ms".to_owned(), 3)
    );
    plan.slos[0].repeats_must = RepeatsMust::All;
    assert_eq!(
        state(&plan, &[80, 120, 90]),
        (State::Fail, "120ms".to_owned(), 3)
    );
}

#[test]
fn backends_are_compared_within_a_repeat() {
    let mut plan = plan(
        vec![open_cell(), on_backend("sglang", open_cell())],
        &["max sglang.ttft <= 1.1 * vllm.ttft.max"],
    );
    plan.repeats = 3;
    // The machine is slower in every repeat, but sglang is always 5 % slower than vllm.
    let outcomes: Vec<CellResult> = [(0, 100, 105), (1, 200, 210), (2, 300, 315)]
        .into_iter()
        .flat_map(|(r, vllm, sglang)| {
            [
                ran(0, r, seen(vec![answered(0, 0, vllm)], 1)),
                ran(1, r, seen(vec![answered(0, 0, sglang)], 1)),
            ]
        })
        .collect();
    let verdict = judge(&plan, &outcomes).remove(0);
    assert_eq!(verdict.state, State::Pass);
    assert!(
        verdict
            .repeats
            .iter()
            .all(|repeat| repeat.state == State::Pass)
    );
}

#[test]
fn a_bound_that_failures_made_infinite_is_no_pass() {
    let plan = plan(
        vec![open_cell(), on_backend("sglang", open_cell())],
        &["max sglang.ttft <= vllm.ttft.max"],
    );
    let outcomes = [
        ran(0, 0, seen(vec![refused(500, 0, 0)], 1)),
        ran(1, 0, seen(vec![answered(0, 0, 10)], 1)),
    ];
    let verdict = judge(&plan, &outcomes).remove(0);
    assert_eq!(
        reason(&verdict.state),
        "failed requests make one side ∞, so the comparison says nothing"
    );
}

#[test]
fn a_bound_must_hold_in_every_window() {
    let mut plan = plan(vec![open_cell()], &["error rate < 6%"]);
    let mut records = ramp(95);
    records.extend((95..100).map(|i| refused(500, i, i * 100))); // all failures in the last 0.5 s of 10 s
    let outcome = [ran(0, 0, seen(records, 10))];
    assert_eq!(judge(&plan, &outcome).remove(0).state, State::Pass);
    plan.slos[0].window = Some(Duration::from_secs(2));
    let verdict = judge(&plan, &outcome).remove(0);
    assert_eq!(verdict.state, State::Fail);
    assert_eq!(verdict.observed.unwrap().text, "25%");
    assert_eq!(
        verdict.detail.as_deref(),
        Some("in the window 8s to 10s of the stage, at 10 req/s")
    );
    assert_eq!(verdict.repeats[0].broken, [(ms(8000), ms(10_000))]);
}

#[test]
fn rate_limited_answers_alone_make_no_failure() {
    let mut records = ramp(90);
    records.extend((90..100).map(|i| refused(429, i, i * 100)));
    let verdict = verdict_of("error rate < 5%", seen(records.clone(), 10));
    assert!(
        reason(&verdict.state).starts_with("the endpoint's rate limit was hit: 10 answers"),
        "{:?}",
        verdict.state
    );
    records[0..10]
        .iter_mut()
        .for_each(|record| *record = refused(500, 0, 0));
    assert_eq!(
        verdict_of("error rate < 5%", seen(records, 10)).state,
        State::Fail
    );
}

fn guard<'a>(verdicts: &'a [Verdict], key: &str) -> &'a Verdict {
    verdicts
        .iter()
        .find(|verdict| verdict.id == format!("guard:{key}"))
        .unwrap_or_else(|| panic!("no guard {key}"))
}

#[test]
fn a_late_runner_makes_latencies_doubtful_and_errors_not() {
    let late = |index| RequestRecord {
        dispatched: Some(ms(index * 100 + 200)),
        ..answered(index, index * 100, 1000)
    };
    let mut records: Vec<RequestRecord> = (0..90).map(late).collect();
    records.extend((90..100).map(|i| refused(500, i, i * 100)));
    let texts = [
        "P50 TTFT < 2s",
        "P50 TTFT < 500ms",
        "error rate < 1%",
        "error rate < 50%",
    ];
    let verdicts = judge(
        &plan(vec![open_cell()], &texts),
        &[ran(0, 0, seen(records, 10))],
    );
    let states: Vec<&str> = verdicts[..4]
        .iter()
        .map(|verdict| reason(&verdict.state))
        .collect();
    let doubt = "guard send_lag: 200ms above 16ms"; // 2 % of 800 ms
    assert_eq!(states, [doubt, doubt, "", doubt]);
    assert_eq!(verdicts[2].state, State::Fail);
    assert!(
        guard(&verdicts, "send_lag")
            .advice
            .as_ref()
            .unwrap()
            .contains("more cores")
    );
    assert_eq!(status(&verdicts, &[]), Status::Failed);
}

#[test]
fn stamps_that_may_be_off_by_less_than_the_distance_to_the_bound_decide_nothing() {
    let mut seen = seen(ramp(100), 10);
    seen.client.output_events = 100;
    (0..50).for_each(|_| seen.client.stamp_error_ns.record(5_000_000));
    let texts = ["P50 TTFT < 10s", "P50 TTFT < 1ms", "error rate < 50%"];
    let near = judge(&plan(vec![open_cell()], &texts), &[ran(0, 0, seen)]);
    let states: Vec<&State> = near[..3].iter().map(|verdict| &verdict.state).collect();
    assert_eq!(states, [&State::Pass, &State::Fail, &State::Pass]);
    assert!(matches!(
        guard(&near, "stamps").state,
        State::Inconclusive(_)
    ));
}

#[test]
fn a_level_that_was_not_held_passes_nothing_and_hides_no_failure() {
    let mut records: Vec<RequestRecord> = ramp(40);
    records.iter_mut().for_each(|record| record.user = Some(0)); // one user of two
    let verdicts = judge(
        &plan(vec![closed_cell(2)], &["P50 TTFT < 1s", "P50 TTFT < 1ms"]),
        &[ran(0, 0, seen(records, 4))],
    );
    assert_eq!(
        reason(&verdicts[0].state),
        "guard concurrency: level not held: 1.0 of 2 users were active on average"
    );
    assert_eq!(verdicts[1].state, State::Fail);
}

#[test]
fn a_user_whose_request_began_in_the_warm_up_is_active_when_the_level_begins() {
    let mut cell = closed_cell(1);
    cell.stages.insert(
        0,
        crate::plan::Stage {
            name: "warm".to_owned(),
            measured: false,
            ..cell.stages[0].clone()
        },
    );
    cell.segments[0].stages = 0..2;
    let by_user = |stage, intended, latency| RequestRecord {
        stage,
        user: Some(0),
        ..answered(0, intended, latency)
    };
    let mut seen = seen(vec![by_user(0, 500, 900), by_user(1, 1400, 600)], 2);
    seen.stages[0] = StageTimes {
        stage: 1,
        began: ms(1000),
        ended: ms(2000),
        steady: Some((ms(1000), ms(2000))),
        busiest: None,
    };
    let users = measure(
        &[Slice::stage(&cell, &seen, 1)],
        find("active_users").unwrap(),
        Aggregate::Mean,
        ALL,
    );
    assert_eq!(users.unwrap().low, 1.0);
}

#[test]
fn too_many_errors_fail_by_themselves_unless_an_slo_speaks_of_them() {
    let mut records = ramp(95);
    records.extend((95..100).map(|i| refused(500, i, i * 100)));
    let outcome = [ran(0, 0, seen(records, 10))];
    let alone = judge(&plan(vec![open_cell()], &["P50 TTFT < 1s"]), &outcome);
    assert_eq!(
        (&alone[0].state, &guard(&alone, "error_rate").state),
        (&State::Pass, &State::Fail)
    );
    assert_eq!(status(&alone, &[]), Status::Failed);
    let gated = judge(&plan(vec![open_cell()], &["error rate < 10%"]), &outcome);
    assert!(!gated.iter().any(|verdict| verdict.id == "guard:error_rate"));
    assert_eq!(status(&gated, &[]), Status::Passed);
}

#[test]
fn stamps_are_judged_over_all_events() {
    let mut seen = seen(ramp(100), 10);
    seen.client.output_events = 1000;
    (0..9).for_each(|_| seen.client.stamp_error_ns.record(50_000_000));
    let plan = plan(vec![open_cell()], &[]);
    assert_eq!(
        guard(&judge(&plan, &[ran(0, 0, seen.clone())]), "stamps").state,
        State::Pass
    ); // 0.9 % of the events
    (0..9).for_each(|_| seen.client.stamp_error_ns.record(50_000_000));
    assert_eq!(
        reason(&guard(&judge(&plan, &[ran(0, 0, seen)]), "stamps").state),
        "50ms above 1ms"
    );
}

#[test]
fn a_load_thread_that_is_full_at_one_level_is_seen_there() {
    let mut seen = seen(ramp(100), 10);
    seen.client.worker_cpu = vec![0.5];
    let plan = plan(vec![open_cell()], &[]);
    let of = |seen: &Observations| {
        let verdicts = judge(&plan, &[ran(0, 0, seen.clone())]);
        guard(&verdicts, "client").state.clone()
    };
    assert_eq!(of(&seen), State::Pass);
    seen.stages[0].busiest = Some(0.95);
    assert_eq!(
        reason(&of(&seen)),
        "the busiest thread of the runner used 95% of a core"
    );
}

#[test]
fn what_failed_requests_alone_have_decided_no_guard_on_our_clock_acquits() {
    let mut full = seen(ramp(100), 10);
    full.stages[0].busiest = Some(0.95);
    let mut failing = full.clone();
    failing.records = (0..100).map(|i| refused(500, i, i * 100)).collect();
    let plan = plan(vec![open_cell()], &["P95 TTFT < 1ms"]);
    let state = |seen: Observations| judge(&plan, &[ran(0, 0, seen)])[0].state.clone();
    assert!(reason(&state(full)).starts_with("guard client"));
    assert_eq!(state(failing), State::Fail);
}

#[test]
fn an_aborted_cell_keeps_its_failures_and_passes_nothing() {
    let mut plan = plan(
        vec![open_cell()],
        &["error rate < 20%", "P50 TTFT < 1ms", "P50 TTFT < 1s"],
    );
    plan.slos[0].abort = Some(AbortRule {
        after: Duration::from_secs(1),
        window: Duration::from_secs(1),
    });
    let outcome = Observations {
        ending: crate::observation::Ending::Aborted("slo-0".to_owned()),
        ..seen(ramp(100), 10)
    };
    let verdicts = judge(&plan, &[ran(0, 0, outcome)]);
    assert_eq!(verdicts[0].state, State::Fail); // it recovered later, and stays failed
    assert_eq!(verdicts[1].state, State::Fail);
    assert_eq!(reason(&verdicts[2].state), "aborted by slo-0");
}

#[test]
fn cells_that_were_not_run_say_why() {
    let told = |why: NotRun, texts: &[&str]| {
        let results = [CellResult::NotRun(CellRun { cell: 0, repeat: 0 }, why)];
        let verdicts = judge(&plan(vec![open_cell()], texts), &results);
        let text = verdicts
            .first()
            .map(|verdict| reason(&verdict.state).to_owned());
        (text.unwrap_or_default(), status(&verdicts, &results))
    };
    let gate = ["P95 TTFT < 1s"];
    let refused = || NotRun::NotReady("connection refused".to_owned());
    assert_eq!(
        told(refused(), &gate),
        (
            "backend not ready: connection refused".to_owned(),
            Status::Inconclusive
        )
    );
    assert_eq!(told(refused(), &[]), (String::new(), Status::Inconclusive));
    let optional = NotRun::OptionalNotReady("connection refused".to_owned());
    assert_eq!(
        told(optional, &gate),
        (
            "optional backend not ready: connection refused".to_owned(),
            Status::Inconclusive
        )
    );
    assert_eq!(
        told(NotRun::Budget("time budget".to_owned()), &gate),
        ("time budget".to_owned(), Status::Inconclusive)
    );
}

#[test]
fn a_warning_never_changes_the_status() {
    let mut plan = plan(vec![open_cell()], &["P50 TTFT < 1ms"]);
    let outcome = [ran(0, 0, seen(ramp(100), 10))];
    assert_eq!(status(&judge(&plan, &outcome), &outcome), Status::Failed);
    plan.slos[0].level = Level::Warn;
    assert_eq!(status(&judge(&plan, &outcome), &outcome), Status::Passed);
    plan.slos.clear();
    assert_eq!(status(&judge(&plan, &outcome), &outcome), Status::Measured);
}

#[test]
fn names_hold_no_number_that_was_measured() {
    let verdict = verdict_of("P95 TTFT < 500ms", seen(ramp(100), 10));
    assert_eq!(
        (verdict.name.as_str(), verdict.normal.as_str()),
        ("slo-0[p95] @steady", "ttft.p95 < 500ms")
    );
    assert_eq!(
        verdict.margin.map(|margin| (margin * 100.0).round()),
        Some(-81.0)
    );
}

#[test]
fn stages_report_every_metric_and_balance_their_books() {
    let mut records = ramp(97);
    records.push(refused(500, 97, 9700));
    records.push(ended(Outcome::Cut, 98, 9800, 100));
    records.push(RequestRecord {
        dispatched: None,
        ..ended(Outcome::Dropped, 99, 9900, 0)
    });
    let mut seen = seen(records, 10);
    seen.unsent = vec![(0, 5)];
    let stage = stages(&open_cell(), &seen).remove(0);
    let counts = &stage.counts;
    assert_eq!(
        (
            counts.planned,
            counts.sent,
            counts.ok,
            counts.failed,
            counts.cut,
            counts.dropped,
            counts.unsent
        ),
        (105, 99, 97, 1, 1, 1, 5)
    );
    assert_eq!(counts.outcomes, [("refused".to_owned(), 1)]);
    assert!(stage.books.unwrap() < 1e-9, "{:?}", stage.books);
    let ttft = stage
        .metrics
        .iter()
        .find(|stats| stats.metric == "ttft")
        .unwrap();
    let stat = |name| ttft.stats.iter().find(|(own, _)| *own == name).unwrap().1;
    assert_eq!((ttft.n, ttft.unit, ttft.estimator), (97, "ms", "exact"));
    assert_eq!(
        (stat("p50"), stat("p95"), stat("max"), stat("p95_linear")),
        (49.0, 93.0, 97.0, 92.2)
    );
    assert!(
        stage
            .metrics
            .iter()
            .all(|stats| stats.stats.iter().all(|(_, value)| value.is_finite()))
    );
}

fn stops(records: &[RequestRecord], in_flight: u64, now_ms: u64) -> Option<String> {
    let mut plan = plan(vec![open_cell()], &["error rate < 20%"]);
    plan.slos[0].abort = Some(AbortRule {
        after: Duration::from_secs(2),
        window: Duration::from_secs(3),
    });
    let progress = Progress {
        cell: 0,
        stage: 0,
        stage_began: ms(0),
        in_flight,
        now: ms(now_ms),
    };
    abort(&plan, progress, records)
}

#[test]
fn an_abort_rule_needs_twenty_ended_requests_in_its_window() {
    let failing: Vec<RequestRecord> = (0..60).map(|i| refused(500, i, i * 100)).collect();
    assert_eq!(stops(&failing[..30], 0, 1900), None); // not before `after`
    assert_eq!(stops(&failing[..19], 0, 2500), None);
    assert_eq!(stops(&failing[..30], 0, 3000).as_deref(), Some("slo-0"));
    let mut recovered = failing;
    recovered.extend((60..100).map(|i| answered(i, i * 100, 50)));
    assert_eq!(stops(&recovered, 0, 9900), None); // the failures lie before the window
}

#[test]
fn a_backend_that_hangs_is_stopped() {
    assert_eq!(stops(&[], 30, 2900), None);
    assert_eq!(stops(&[], 19, 3100), None);
    assert_eq!(stops(&[], 20, 3100).as_deref(), Some("slo-0"));
    assert_eq!(stops(&[answered(0, 1000, 50)], 20, 3100), None); // one has ended: they are slow, not hanging
}

/// Not a benchmark: it would take minutes if anything were quadratic.
#[test]
fn a_hundred_thousand_requests_are_measured_at_once() {
    let records = (0..100_000u64)
        .map(|i| answered(i, i, 1 + i % 997))
        .collect();
    let seen = Observations {
        stages: vec![StageTimes {
            stage: 0,
            began: ms(0),
            ended: ms(100_000),
            steady: Some((ms(0), ms(100_000))),
            busiest: None,
        }],
        records,
        ..Observations::default()
    };
    let stage = stages(&open_cell(), &seen).remove(0);
    assert_eq!(stage.counts.ok, 100_000);
}

// ---- what is never a pass, and what is never hidden ----

#[test]
fn without_slos_a_failing_error_rate_still_fails() {
    let records = (0..10).map(|i| refused(500, i, i * 100)).collect();
    let outcome = [ran(0, 0, seen(records, 1))];
    let verdicts = judge(&plan(vec![open_cell()], &[]), &outcome);
    assert_eq!(guard(&verdicts, "error_rate").state, State::Fail);
    assert_eq!(status(&verdicts, &outcome), Status::Failed);
}

#[test]
fn a_count_of_nothing_is_no_data() {
    for (metric, expected) in [
        ("ttft", "no request to measure"),
        ("icl", "no gap between output events was seen"),
        ("error_rate", "no request was scheduled"),
    ] {
        let told = measured(
            &open_cell(),
            &seen(vec![], 1),
            metric,
            Aggregate::Count,
            ALL,
        );
        assert_eq!(reason(&told.unwrap_err()), expected, "{metric}");
    }
}

#[test]
fn one_event_that_has_all_tokens_has_no_tpot() {
    let mut record = answered(0, 0, 100);
    record.tokens.output = Some(17);
    record.tokens.per_event_known = false;
    assert_eq!(value(&record, "tpot", StartClock::Sent), None);
    let stage = stages(&open_cell(), &seen(vec![record, conformance()], 1)).remove(0);
    let tpot = |stats: &&MetricStats| stats.metric == "tpot";
    let tpot = stage.metrics.iter().find(tpot).unwrap();
    assert_eq!((tpot.n, tpot.undefined), (1, 1));
}

#[test]
fn a_counter_that_began_anew_tells_nothing() {
    let mut seen = seen(ramp(20), 4);
    seen.telemetry = vec![series(
        "preemptions",
        None,
        &[(0, 5.0), (1000, 7.0), (2000, 0.0), (3000, 6.0), (4000, 9.0)],
    )];
    let told = measured(&open_cell(), &seen, "preemptions", Aggregate::Whole, ALL).unwrap_err();
    assert_eq!(
        reason(&told),
        "samples of `preemptions` do not reach over the window, or began anew in it"
    );
}

#[test]
fn an_answer_without_a_stream_counts_its_prompt_when_it_arrives() {
    let record = RequestRecord {
        first_token: None,
        first_content: None,
        first_event: None,
        events: EventLog::default(),
        ..answered(0, 0, 100)
    };
    let seen = seen(vec![record], 1);
    assert_eq!(
        number(&open_cell(), &seen, "input_tps", Aggregate::Whole),
        10.0
    );
    assert_eq!(
        number(&open_cell(), &seen, "total_tps", Aggregate::Whole),
        11.0
    );
}

#[test]
fn guards_of_what_nobody_watched_are_not_given() {
    let ids = |seen: Observations| -> Vec<String> {
        let mut cell = open_cell();
        let backend = std::sync::Arc::make_mut(&mut cell.backend);
        backend.gpus = Gpus::Nvml(vec![0]);
        judge(&plan(vec![cell], &[]), &[ran(0, 0, seen)])
            .into_iter()
            .map(|verdict| verdict.id)
            .filter(|id| {
                ["restarts", "throttling", "neighbours"]
                    .iter()
                    .any(|key| id.ends_with(key))
            })
            .collect()
    };
    assert_eq!(ids(seen(ramp(20), 2)), [""; 0]);
    let mut watched = seen(ramp(20), 2);
    watched.telemetry = vec![
        series("gpu.util", Some(0), &[(0, 0.5), (1000, 0.5)]),
        series("queue", None, &[(0, 0.0), (1000, 0.0)]),
    ];
    assert_eq!(
        ids(watched),
        ["guard:throttling", "guard:neighbours", "guard:restarts"]
    );
}

#[test]
fn arrivals_that_the_cap_held_to_the_end_pass_nothing_and_hide_no_failure() {
    let mut seen = seen(ramp(100), 10);
    seen.unsent = vec![(0, 50)];
    let verdicts = judge(
        &plan(vec![open_cell()], &["P50 TTFT < 1s", "P50 TTFT < 10ms"]),
        &[ran(0, 0, seen)],
    );
    assert_eq!(
        reason(&verdicts[0].state),
        "guard missed: 33.33% (50 of 150), limit 1%"
    );
    assert_eq!(verdicts[1].state, State::Fail);
    let advice = guard(&verdicts, "missed").advice.as_ref().unwrap();
    assert!(advice.contains("the engine could not keep up"), "{advice}");
}

#[test]
fn what_an_abort_cut_trips_no_guard_and_the_rule_stays_failed() {
    let mut plan = plan(vec![open_cell()], &["P50 TTFT < 200ms"]);
    plan.slos[0].abort = Some(AbortRule {
        after: Duration::from_secs(1),
        window: Duration::from_secs(1),
    });
    // Every request was sent 200 ms late, so the guard of the runner doubts each latency.
    let mut records: Vec<RequestRecord> = (0..90)
        .map(|index| RequestRecord {
            dispatched: Some(ms(index * 100 + 200)),
            ..answered(index, index * 100, 1000)
        })
        .collect();
    records.extend((90..100).map(|i| ended(Outcome::Cut, i, i * 100, 50)));
    let outcome = Observations {
        ending: crate::observation::Ending::Aborted("slo-0".to_owned()),
        ..seen(records, 10)
    };
    let verdicts = judge(&plan, &[ran(0, 0, outcome)]);
    assert_eq!(verdicts[0].state, State::Fail);
    assert_eq!(
        verdicts[0].detail.as_deref(),
        Some("it stopped the cell in stage `steady`")
    );
    assert!(!verdicts.iter().any(|verdict| verdict.id == "guard:cut"));
}

#[test]
fn reported_goodput_is_the_one_that_is_judged() {
    let mut cell = open_cell();
    cell.goodput = vec![GoodputBound {
        metric: "ttft".to_owned(),
        limit: 150.0,
        category: None,
        span: crate::diagnostic::Span::default(),
    }];
    // Held for 100 ms, answered 100 ms after that: good from sending, not from the plan.
    let record = RequestRecord {
        dispatched: Some(ms(100)),
        ..answered(0, 0, 200)
    };
    let seen = seen(vec![record], 1);
    let stage = stages(&cell, &seen).remove(0);
    let ratio = |stats: &&MetricStats| stats.metric == "goodput_ratio";
    let reported = stage.metrics.iter().find(ratio).unwrap().stats[0].1;
    assert_eq!(
        reported,
        number(&cell, &seen, "goodput_ratio", Aggregate::Whole)
    );
    assert_eq!(reported, 0.0);
}

#[test]
fn sorted_requests_give_the_same_numbers() {
    let mut records = ramp(50);
    records.extend((50..60).map(|i| refused(500, i, i * 100)));
    for record in &mut records {
        record.category = Some(if record.index % 3 == 0 { "a" } else { "b" }.into());
    }
    records.push(RequestRecord {
        stage: 1,
        ..answered(0, 100, 3000)
    });
    records.sort_by_key(|record| record.finished);
    let (cell, seen) = (open_cell(), seen(records, 6));
    let sorted = super::slice::Sorted::of(&seen);
    let a = ["a".to_owned()];
    let whole = Slice::stage(&cell, &seen, 0);
    let slices = [
        whole,
        Slice {
            categories: &a,
            ..whole
        },
        Slice {
            part: Some((ms(1000), ms(3000))),
            ..whole
        },
    ];
    for (slice, metric) in slices
        .iter()
        .flat_map(|slice| crate::assertion::metrics().iter().map(move |m| (slice, m)))
    {
        for aggregate in [Aggregate::Whole, Aggregate::Mean, Aggregate::Min, p("90")] {
            let by = |slice: Slice| measure(&[slice], metric, aggregate, ALL);
            assert_eq!(
                by(slice.sorted(&sorted)),
                by(*slice),
                "{} {aggregate:?}",
                metric.name
            );
        }
    }
}

#[test]
fn judging_run_by_run_says_what_judging_at_the_end_says() {
    let mut plan = plan(
        vec![open_cell(), on_backend("sglang", open_cell())],
        &["P50 TTFT < 40ms", "max sglang.ttft <= 1.1 * vllm.ttft.max"],
    );
    plan.repeats = 2;
    let results: Vec<CellResult> = [(0, 0, 60), (1, 0, 90), (0, 1, 90), (1, 1, 60)]
        .into_iter()
        .map(|(cell, repeat, n)| ran(cell, repeat, seen(ramp(n), 10)))
        .collect();
    let mut judged = Judged::default();
    for runs in 1..=results.len() {
        let so_far = &results[..runs];
        assert_eq!(
            judge_more(&plan, so_far, &mut judged).0,
            judge(&plan, so_far),
            "{runs}"
        );
    }
}

#[test]
fn what_is_separated_fails_only_if_no_repeat_of_one_side_reaches_the_other() {
    let mut plan = plan(
        vec![open_cell(), on_backend("sglang", open_cell())],
        &["max sglang.ttft <= 1.1 * vllm.ttft.max"],
    );
    plan.slos[0].separated = true;
    let verdict = |repeats: u32, slower: [u64; 3]| {
        let mut plan = plan.clone();
        plan.repeats = repeats;
        let of = |cell: usize, maxima: [u64; 3]| {
            let runs = (0..repeats).zip(maxima);
            let runs: Vec<CellResult> = runs
                .map(|(repeat, n)| ran(cell, repeat, seen(ramp(n), 10)))
                .collect();
            runs
        };
        let results = [of(0, [60, 62, 64]), of(1, slower)].concat();
        judge(&plan, &results).remove(0)
    };
    // 1.1 × 64 is 70.4: the best repeat of one side reaches the worst of the other.
    let alike = verdict(3, [70, 72, 73]);
    assert_eq!(alike.state, State::Pass);
    assert_eq!(
        alike.detail.as_deref(),
        Some("the repeats of the two sides overlap: no difference is shown")
    );
    assert_eq!(verdict(3, [71, 72, 73]).state, State::Fail);
    assert_eq!(
        reason(&verdict(2, [80, 80, 80]).state),
        "`separated` needs 3 repeats of both sides, and this run has 2"
    );
}

#[test]
fn a_percentile_with_fewer_samples_than_its_confidence_needs_is_told_by_nobody() {
    let mut plan = plan(vec![open_cell()], &["P90 TTFT < 500ms"]);
    // ln 0.01 ÷ ln 0.9 is 43.7.
    plan.slos[0].confidence = Some(0.99);
    let state = |n: u64| {
        judge(&plan, &[ran(0, 0, seen(ramp(n), 10))])[0]
            .state
            .clone()
    };
    assert_eq!(reason(&state(43)), "thin: n=43");
    assert_eq!(state(44), State::Pass);
}

#[test]
fn the_numbers_of_a_stage_are_those_of_its_categories_together() {
    let mut records = ramp(60);
    records.push(conformance());
    records.push(refused(500, 61, 6100));
    let plain = seen(records.clone(), 10);
    for record in &mut records {
        record.category = match record.index % 3 {
            0 => None,
            1 => Some("code".into()),
            _ => Some("mail".into()),
        };
    }
    let cell = open_cell();
    let (with, without) = (
        stages(&cell, &seen(records, 10)).remove(0),
        stages(&cell, &plain).remove(0),
    );
    assert_eq!(with.metrics, without.metrics);
    let counts: Vec<(&str, u64)> = with
        .categories
        .iter()
        .map(|(name, metrics)| {
            let ttft = metrics.iter().find(|stats| stats.metric == "ttft");
            (name.as_str(), ttft.unwrap().n)
        })
        .collect();
    assert_eq!(counts, [("code", 20), ("mail", 20)]);
}
