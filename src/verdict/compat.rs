//! The same requests under the definitions of other tools, so that a number can be reconciled with a published one.
//!
//! Read from their code: `vllm bench serve` of vLLM 0.32, AIPerf 0.13.0, guidellm 0.8.1. All of them count from the sending of a
//! request, over answered requests alone, also where the load is open. What differs is where the first token and the end are:
//!
//! | | first | end | per token |
//! |---|---|---|---|
//! | vLLM | the first event with a choice, a role-only one, too | the last event with a choice | (end − first) ÷ (n − 1) |
//! | AIPerf | the first event with content | the last event with content | (end − first) ÷ (n − 1) |
//! | guidellm | the first event with a token | the end of the answer | (last token − first) ÷ (n − 1) |
//!
//! The event that only says why an answer ended is not kept here: vLLM's end is the last token, earlier by its distance.

use super::slice::Slice;
use super::statistics::{linear, nearest_rank};
use crate::assertion::Percentile;
use crate::observation::{Outcome, RequestRecord};
use crate::units::Moment;

/// A tool, and its names and values.
pub type Theirs = (&'static str, Vec<(String, f64)>);

/// One request, in milliseconds from its sending.
struct Times {
    first_event: Option<f64>,
    first_token: Option<f64>,
    last_token: Option<f64>,
    finished: f64,
    tokens: Option<f64>,
}

impl Times {
    fn of(record: &RequestRecord) -> Option<Times> {
        let sent = record.dispatched?;
        let after = |at: Moment| at.since(sent).as_secs_f64() * 1e3;
        Some(Times {
            first_event: record.first_event.map(after),
            first_token: record.first_token.map(after),
            last_token: record.last_token.map(after),
            finished: after(record.finished),
            tokens: record.tokens.output.map(f64::from),
        })
    }

    /// What passes from one instant to another for each token after the first; `None` where there is none.
    fn per_token(&self, from: Option<f64>, to: Option<f64>) -> Option<f64> {
        let after_first = self.tokens.filter(|n| *n > 1.0)? - 1.0;
        Some((to? - from?) / after_first)
    }
}

/// What each tool would tell of the answered requests of a stage; nothing of none.
pub(super) fn compat(slice: &Slice) -> Vec<Theirs> {
    let answered: Vec<&RequestRecord> = slice
        .scheduled()
        .filter(|record| record.outcome == Outcome::Ok && record.dispatched.is_some())
        .collect();
    let times: Vec<Times> = answered
        .iter()
        .filter_map(|record| Times::of(record))
        .collect();
    let sent = answered.iter().filter_map(|record| record.dispatched).min();
    let ended = answered.iter().map(|record| record.finished).max();
    let (Some(sent), Some(ended)) = (sent, ended) else {
        return Vec::new();
    };
    let seconds = ended.since(sent).as_secs_f64();
    // Of answers that do not all tell their tokens nobody knows the sum.
    let tokens: Option<f64> = times.iter().map(|one| one.tokens).sum();
    let flows = |requests: &str, output: &str| {
        let amounts = [
            (requests.to_owned(), Some(times.len() as f64)),
            (output.to_owned(), tokens),
        ];
        let per_second = move |(name, amount): (String, Option<f64>)| {
            Some((name, amount.filter(|_| seconds > 0.0)? / seconds))
        };
        amounts.into_iter().filter_map(per_second)
    };
    let all = |value: &dyn Fn(&Times) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = times.iter().filter_map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let mut vllm: Vec<(String, f64)> = flows("request_throughput", "output_throughput").collect();
    for (name, values) in [
        ("ttft", all(&|one| one.first_event)),
        (
            "tpot",
            all(&|one| one.per_token(one.first_event, one.last_token)),
        ),
        ("e2el", all(&|one| one.last_token)),
    ] {
        let told = [
            ("mean", None),
            ("median", Some(50_000)),
            ("p99", Some(99_000)),
        ];
        vllm.extend(
            statistics(&values, told, linear)
                .map(|(stat, value)| (format!("{stat}_{name}_ms"), value)),
        );
    }
    let mut aiperf: Vec<(String, f64)> =
        flows("request_throughput.avg", "output_token_throughput.avg").collect();
    for (name, values) in [
        ("time_to_first_token", all(&|one| one.first_token)),
        (
            "inter_token_latency",
            all(&|one| one.per_token(one.first_token, one.last_token)),
        ),
        ("request_latency", all(&|one| one.last_token)),
    ] {
        let told = [("avg", None), ("p50", Some(50_000)), ("p99", Some(99_000))];
        aiperf.extend(
            statistics(&values, told, linear)
                .map(|(stat, value)| (format!("{name}.{stat}"), value)),
        );
    }
    let mut guidellm: Vec<(String, f64)> =
        flows("requests_per_second.mean", "output_tokens_per_second.mean").collect();
    for (name, values, scale) in [
        ("time_to_first_token_ms", all(&|one| one.first_token), 1.0),
        (
            "inter_token_latency_ms",
            all(&|one| one.per_token(one.first_token, one.last_token)),
            1.0,
        ),
        (
            "time_per_output_token_ms",
            all(&|one| Some(one.last_token? / one.tokens.filter(|n| *n > 0.0)?)),
            1.0,
        ),
        ("request_latency", all(&|one| Some(one.finished)), 1e-3),
    ] {
        let told = [
            ("mean", None),
            ("median", Some(50_000)),
            ("p99", Some(99_000)),
        ];
        let told = statistics(&values, told, nearest_rank);
        guidellm.extend(told.map(|(stat, value)| (format!("{name}.{stat}"), value * scale)));
    }
    vec![("vllm", vllm), ("aiperf", aiperf), ("guidellm", guidellm)]
}

/// The mean, and percentiles by a tool's own rule; nothing of no values.
fn statistics<'a>(
    sorted: &'a [f64],
    told: [(&'static str, Option<u32>); 3],
    by: fn(&[f64], Percentile) -> f64,
) -> impl Iterator<Item = (&'static str, f64)> + 'a {
    let told = told.into_iter().filter(|_| !sorted.is_empty());
    told.filter_map(move |(name, per_100k)| {
        let value = match per_100k {
            None => sorted.iter().sum::<f64>() / sorted.len() as f64,
            Some(per_100k) => by(sorted, Percentile::new(per_100k)?),
        };
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{answered, closed_cell, ms, seen};
    use super::*;

    /// The stream of the conformance fixture: a role chunk at 40, five tokens at 120, the last of 17 at 300, `[DONE]` at 361.
    #[test]
    fn each_tool_tells_the_conformance_stream_by_its_own_rule() {
        let mut record = answered(0, 0, 0);
        record.dispatched = Some(ms(20));
        record.first_event = Some(ms(40));
        record.first_token = Some(ms(120));
        record.last_token = Some(ms(300));
        record.finished = ms(361);
        record.tokens.output = Some(17);
        let seen = seen(vec![record], 1);
        let cell = closed_cell(1);
        let told = compat(&Slice::stage(&cell, &seen, 0));
        let value = |tool: &str, name: &str| {
            let (_, values) = told.iter().find(|(one, _)| *one == tool).unwrap();
            let (_, value) = values.iter().find(|(one, _)| one == name).unwrap();
            (value * 1e3).round() / 1e3
        };
        for (tool, name, expected) in [
            ("vllm", "mean_ttft_ms", 20.0),
            ("vllm", "p99_e2el_ms", 280.0),
            ("vllm", "mean_tpot_ms", 16.25),
            ("aiperf", "time_to_first_token.avg", 100.0),
            ("aiperf", "request_latency.p50", 280.0),
            ("aiperf", "inter_token_latency.avg", 11.25),
            ("guidellm", "time_to_first_token_ms.median", 100.0),
            ("guidellm", "request_latency.mean", 0.341),
            ("guidellm", "time_per_output_token_ms.mean", 16.471),
            ("guidellm", "inter_token_latency_ms.mean", 11.25),
        ] {
            assert_eq!(value(tool, name), expected, "{tool} {name}");
        }
    }

    #[test]
    fn tokens_that_one_answer_does_not_tell_have_no_flow() {
        let record = |index, tokens| {
            let mut record = answered(index, 0, 0);
            record.dispatched = Some(ms(20));
            record.finished = ms(1020);
            record.tokens.output = tokens;
            record
        };
        let cell = closed_cell(1);
        let flow = |tokens: [Option<u32>; 2]| {
            let records = [record(0, tokens[0]), record(1, tokens[1])];
            let seen = seen(records.into(), 1);
            let told = compat(&Slice::stage(&cell, &seen, 0));
            let value = |name: &str| {
                let mut values = told[0].1.iter();
                Some(values.find(|(one, _)| one == name)?.1)
            };
            [value("request_throughput"), value("output_throughput")]
        };
        assert_eq!(flow([Some(4), Some(6)]), [Some(2.0), Some(10.0)]);
        assert_eq!(flow([Some(4), None]), [Some(2.0), None]);
        assert_eq!(flow([None, None]), [Some(2.0), None]);
    }

    #[test]
    fn of_no_answer_nothing_is_told() {
        let seen = seen(Vec::new(), 1);
        let cell = closed_cell(1);
        assert_eq!(compat(&Slice::stage(&cell, &seen, 0)), Vec::new());
    }
}
