//! What `compare` says of runs that are alike and of runs that are not: the engine's model in virtual time, over many seeds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use scenario::diagnostic::Sources;
use scenario::engine::simulator::{
    EngineParameters, LengthDistribution, Model, Request, RequestId, preset,
};
use scenario::observation::{
    CellResult, Observations, Outcome, OutputEvent, RequestRecord, StageTimes, TokenSource, Tokens,
};
use scenario::plan::{Plan, PlanOptions, plan};
use scenario::report::compare::{Comparison, Finding, compare};
use scenario::report::model::Environment;
use scenario::report::{Inputs, Report, RunEnding, build};
use scenario::seed::Seed;
use scenario::spec;
use scenario::units::Moment;
use scenario::verdict::Searches;

const SEEDS: u64 = 200;
const PRESET: &str = "a100-llama-3.1-8b-vllm";

const SCENARIO: &str = "version: 1\nname: twins\nbackends: { engine: { kind: simulator, preset: a100-llama-3.1-8b-vllm } }\nmodels: { m: any }\nload: { l: { levels: { users: [USERS], requests: REQUESTS } } }\nrun: { warmup: 0s }\n";

#[test]
fn twins_are_told_apart_in_at_most_one_comparison_of_twenty() {
    twins(&Bench::new(8, 400));
}

#[test]
fn twins_whose_requests_are_long_beside_the_window_are_told_apart_as_rarely() {
    twins(&Bench::new(20, 100));
}

fn twins(bench: &Bench) {
    let parameters = preset(PRESET).unwrap().parameters;
    let apart = (0..SEEDS)
        .filter(|seed| {
            let told = bench.compared((&parameters, 2 * seed), (&parameters, 2 * seed + 1));
            assert!(told.intervals >= 8, "{told:#?}");
            told.count(Finding::Better) + told.count(Finding::Worse) > 0
        })
        .count();
    assert!(
        apart as u64 * 20 <= SEEDS,
        "{apart} of {SEEDS} pairs of twins were told apart"
    );
}

#[test]
fn a_tenth_is_seen_in_nineteen_of_twenty_comparisons_with_the_right_sign() {
    let bench = Bench::new(8, 400);
    let fast = preset(PRESET).unwrap().parameters;
    let slow = slower(&fast, 1.1);
    let seen = (0..SEEDS)
        .filter(|seed| {
            let told = bench.compared((&fast, 2 * seed), (&slow, 2 * seed + 1));
            told.count(Finding::Worse) > 0 && told.count(Finding::Better) == 0
        })
        .count();
    assert!(
        seen as u64 * 20 >= SEEDS * 19,
        "a tenth was seen in {seen} of {SEEDS} comparisons"
    );
}

/// The same engine, each of whose steps takes longer.
fn slower(engine: &EngineParameters, factor: f64) -> EngineParameters {
    let mut slower = engine.clone();
    slower.step.base_ms *= factor;
    slower.step.per_sequence_ms *= factor;
    slower.step.per_context_token_us *= factor;
    slower.step.per_prefill_token_us *= factor;
    slower
}

struct Bench {
    users: usize,
    requests: u64,
    plan: Plan,
    sources: Sources,
}

impl Bench {
    fn new(users: usize, requests: u64) -> Bench {
        let mut sources = Sources::default();
        let text = SCENARIO
            .replace("USERS", &users.to_string())
            .replace("REQUESTS", &requests.to_string());
        let (spec, found) = spec::parse(&mut sources, Path::new("twins.yaml"), &text);
        assert!(found.is_empty(), "{found:?}");
        let (plan, _) = plan(&spec.unwrap(), &sources, &PlanOptions::default()).unwrap();
        Bench {
            users,
            requests,
            plan,
            sources,
        }
    }

    fn compared(
        &self,
        base: (&EngineParameters, u64),
        other: (&EngineParameters, u64),
    ) -> Comparison {
        let sides = [("base", base), ("other", other)];
        compare(&sides.map(|(label, (engine, seed))| (label.to_owned(), self.report(engine, seed))))
    }

    /// A run of the plan's one level: answers of other lengths, and another jitter, for each seed.
    fn report(&self, engine: &EngineParameters, seed: u64) -> Report {
        let seen = self.closed_loop(engine, seed);
        let measurements = scenario::verdict::stages(&self.plan.cells[0], &seen);
        let runs = [CellResult::Measured(Arc::new(seen))];
        build(&Inputs {
            plan: &self.plan,
            sources: &self.sources,
            verdicts: &[],
            searches: &Searches::new(),
            measurements: &measurements,
            runs: &runs,
            environment: &Environment::default(),
            ending: RunEnding::default(),
            started: "2026-01-01T00:00:00Z",
            duration: Duration::from_secs(60),
            command: &[],
            tool: "0.1.0",
        })
    }

    /// Every user sends its next request when the one before has ended.
    fn closed_loop(&self, engine: &EngineParameters, seed: u64) -> Observations {
        let lengths = LengthDistribution {
            median: 40.0,
            sigma: 0.6,
            least: 2,
            most: 200,
        };
        let seeds = Seed::new(seed).stream("twins");
        let mut model = Model::new(engine.clone(), seed);
        let start = Moment::from_secs_f64(20.0);
        let mut sent: Vec<Moment> = Vec::new();
        let mut send = |model: &mut Model, at: Moment| {
            let index = sent.len() as u64;
            if index == self.requests {
                return;
            }
            sent.push(at);
            let request = Request {
                id: RequestId(index),
                prompt_tokens: 200,
                prompt_blocks: Arc::from([]),
                output_tokens: lengths.draw(&seeds.at(index)),
            };
            model.submit(at, request).unwrap();
        };
        (0..self.users).for_each(|_| send(&mut model, start));
        let mut records: HashMap<RequestId, Vec<OutputEvent>> = HashMap::new();
        let (mut emitted, mut ended) = (Vec::new(), Vec::new());
        while let Some(at) = model.next_event() {
            model.advance(at, &mut emitted);
            for emission in emitted.drain(..) {
                records
                    .entry(emission.request)
                    .or_default()
                    .push(OutputEvent {
                        at: emission.at,
                        tokens: emission.tokens,
                        shared: false,
                    });
                if emission.finished {
                    ended.push(emission.request);
                    send(&mut model, at);
                }
            }
        }
        let records: Vec<RequestRecord> = ended
            .into_iter()
            .map(|id| record(id, sent[id.0 as usize], &records[&id]))
            .collect();
        let (began, end) = (start, records.last().unwrap().finished);
        Observations {
            stages: vec![StageTimes {
                stage: 0,
                began,
                ended: end,
                steady: Some((began, end)),
                busiest: None,
            }],
            records,
            ..Observations::default()
        }
    }
}

fn record(id: RequestId, sent: Moment, events: &[OutputEvent]) -> RequestRecord {
    let (first, last) = (events[0].at, events[events.len() - 1].at);
    RequestRecord {
        index: id.0,
        stage: 0,
        measured: true,
        prompt: "p".into(),
        category: None,
        adapter: None,
        turn: 1,
        home: 0,
        user: None,
        intended: sent,
        cap_wait: Duration::ZERO,
        dispatched: Some(sent),
        connect: None,
        written: Some(sent),
        headers: Some(first),
        first_event: Some(first),
        first_token: Some(first),
        first_token_shared: false,
        first_content: Some(first),
        last_token: Some(last),
        finished: last,
        events: scenario::observation::EventLog::of(events),
        outcome: Outcome::Ok,
        status: Some(200),
        finish_reason: Some("stop".into()),
        tokens: Tokens {
            input: Some(200),
            output: Some(events.iter().map(|event| event.tokens).sum()),
            cached: None,
            reasoning: None,
            source: TokenSource::Usage,
            per_event_known: true,
        },
        bytes: 0,
        reused: true,
        reconnected: false,
        valid: None,
    }
}
