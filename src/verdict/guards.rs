//! Built-in guards: doubts about the measurement itself, each a verdict named `guard:…` that says what to change.
//!
//! What a tripped guard does to the SLOs of its cell and stage follows from one rule: never hide a failure, no doubtful pass.
//!
//! - `error_rate` fails by itself, and touches no SLO: failures already count as the worst value.
//! - `cut`, `concurrency` and `restarts` say that the load was not the one on the label. A `pass` becomes `inconclusive`; a
//!   `fail` stays, since a lighter load has failed.
//! - `send_lag`, `missed` and `client` say that our own measurement is wrong. A `pass` becomes `inconclusive`, and a `fail` of
//!   anything that our clock decides (latencies, gaps, flows) becomes `inconclusive`, too, because the fault may be ours. A
//!   `fail` of a rate, a counter or a gauge stays, and so does one that failed requests have made ∞; and in closed loop a late send
//!   says nothing against a rate that passes.
//! - `stamps` says how far our stamps may be off. It touches what our clock decides, and of that not a time that lies further
//!   from its bound than the stamps can be off, nor one that failures alone have decided.
//! - `tokens`, `cache_hits`, `throttling` and `neighbours` warn, and touch no SLO. So does every guard with `level: warn`.

use super::evaluate::value;
use super::gauge;
use super::measure::{Rules, invalid, no_data, samples};
use super::slice::Slice;
use super::statistics::nearest_rank;
use super::tokens;
use super::{Family, State, Value};
use crate::assertion::{Aggregate, Assertion, Dimension, Kind, Percentile, find};
use crate::observation::{Ending, NotableEvent, Outcome, StampSource};
use crate::plan::{Count, Extent, Guard, Guards, Level, Schedule, StartClock};

/// What a tripped guard makes of other verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing.
    None,
    /// The load was not the one on the label: no pass.
    Load,
    /// Our own measurement is wrong: no pass, and no failure of what our clock decides.
    Measurement,
    /// Requests left late: no verdict on what our clock decides.
    Lag,
    /// Stamps may be off by so many nanoseconds: no verdict on a time that lies within it of its bound.
    Stamps(u64),
}

/// What one guard says of one stage in one repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardTold {
    /// Its key: `send_lag`.
    pub key: &'static str,
    /// Its rule in words.
    pub rule: String,
    /// Whether it decides or only warns.
    pub level: Level,
    /// What it says.
    pub state: State,
    /// What it looked at.
    pub observed: Option<Value>,
    /// Its bound.
    pub bound: Option<Value>,
    /// Samples.
    pub n: Option<u64>,
    /// What to change when it trips.
    pub advice: &'static str,
    /// What it makes of other verdicts when it trips.
    pub doubt: Doubt,
}

impl GuardTold {
    /// Whether it makes other verdicts doubtful.
    pub fn tripped(&self) -> bool {
        let invalid =
            matches!(&self.state, State::Inconclusive(reason) if reason.family == Family::Invalid);
        self.level == Level::Fail && self.doubt != Doubt::None && invalid
    }

    /// What a verdict becomes under this guard; `sides` are the two sides of its comparison, where both are known.
    pub fn apply(
        &self,
        state: State,
        assertion: &Assertion,
        sides: Option<(&Value, &Value)>,
    ) -> State {
        if !self.tripped() || matches!(state, State::Inconclusive(_) | State::Skipped(_)) {
            return state;
        }
        // What failed requests alone have decided, no clock of ours has.
        if state == State::Fail && sides.is_some_and(|(observed, _)| observed.value.is_infinite()) {
            return state;
        }
        let ours = depends_on_our_clock(assertion);
        let doubtful = match self.doubt {
            Doubt::None => false,
            Doubt::Load => state == State::Pass,
            Doubt::Measurement => state == State::Pass || ours,
            Doubt::Lag => ours,
            Doubt::Stamps(nanoseconds) => {
                ours && sides.is_none_or(|sides| within_reach(sides, nanoseconds))
            }
        };
        if doubtful {
            invalid(format!(
                "guard {}: {}",
                self.key,
                super::evaluate::reason_text(&self.state)
            ))
        } else {
            state
        }
    }
}

/// Whether a time could lie on the other side of its bound if its stamps were off by as much as they can be. Both ends of a
/// gap may be.
fn within_reach((observed, bound): (&Value, &Value), nanoseconds: u64) -> bool {
    let milliseconds = 2.0 * nanoseconds as f64 / 1e6;
    // What is no time (a flow, an energy) cannot be told apart this way.
    observed.unit != "ms"
        || bound.unit != "ms"
        || (observed.value - bound.value).abs() <= milliseconds
}

fn depends_on_our_clock(assertion: &Assertion) -> bool {
    assertion.measures().iter().any(|measure| {
        matches!(
            measure.metric.kind,
            Kind::Trend | Kind::Gap | Kind::Flow | Kind::Derived
        ) && measure.metric.dimension != Dimension::TOKEN
            && measure.aggregate != Aggregate::Count
    })
}

/// All guards of one measured stage in one repeat. `smoke` runs are too short for the concurrency guard.
pub fn guards(slice: &Slice, smoke: bool) -> Vec<GuardTold> {
    let set: &Guards = &slice.cell.guards;
    let is_open = matches!(slice.schedule(), Some(Schedule::Open { .. }));
    let is_batch = matches!(slice.schedule(), Some(Schedule::Batch { .. }));
    let checks = [
        set.error_rate.map(|guard| error_rate(slice, guard)),
        set.send_lag
            .filter(|_| !is_batch)
            .map(|guard| send_lag(slice, guard)),
        set.missed
            .filter(|_| is_open)
            .map(|guard| missed(slice, guard)),
        // What was stopped on purpose was cut on purpose.
        set.cut
            .filter(|_| *slice.ending() == Ending::Complete)
            .map(|guard| cut(slice, guard)),
        set.concurrency
            .filter(|_| !smoke && has_level(slice))
            .map(|guard| concurrency(slice, guard)),
        set.client.and_then(|guard| client(slice, guard)),
        set.stamps.and_then(|guard| stamps(slice, guard)),
        set.tokens.and_then(|guard| tokens::guard(slice, guard)),
        set.cache_hits.and_then(|guard| cache_hits(slice, guard)),
        set.throttling.filter(|_| watches_gpus(slice)).map(|guard| {
            events(
                slice,
                guard,
                "throttling",
                "gpu_throttled",
                Doubt::None,
                "cool the GPU or lower its power limit, so that its clock holds",
            )
        }),
        set.neighbours.filter(|_| watches_gpus(slice)).map(|guard| {
            events(
                slice,
                guard,
                "neighbours",
                "gpu_neighbour",
                Doubt::None,
                "stop the other processes on the GPU",
            )
        }),
        set.restarts.filter(|_| watches_engine(slice)).map(|guard| {
            events(
                slice,
                guard,
                "restarts",
                "engine_restarted",
                Doubt::Load,
                "read the engine's log: why did it restart?",
            )
        }),
    ];
    checks.into_iter().flatten().collect()
}

/// Whether somebody looked: GPUs that were never read have told nothing, and no data is never a pass.
fn watches_gpus(slice: &Slice) -> bool {
    !slice.devices().is_empty()
}

/// Whether the engine's own metrics were read, which tell that it began anew.
fn watches_engine(slice: &Slice) -> bool {
    slice.seen.telemetry.iter().any(|series| {
        let of_engine = !series.metric.starts_with("gpu.") && !series.metric.starts_with("client.");
        of_engine && !series.samples.is_empty()
    })
}

pub(super) fn share_told(
    key: &'static str,
    guard: Guard,
    rule: &str,
    part: u64,
    whole: u64,
    doubt: Doubt,
    advice: &'static str,
) -> GuardTold {
    let limit = guard.limit.unwrap_or(0.01);
    let share = part as f64 / whole.max(1) as f64;
    let bound = value(limit, Dimension::NONE, true);
    let state = if whole == 0 {
        no_data("no request was scheduled")
    } else if share <= limit {
        State::Pass
    } else if key == "error_rate" {
        State::Fail
    } else {
        let seen = value(share, Dimension::NONE, true);
        invalid(format!(
            "{} ({part} of {whole}), limit {}",
            seen.text, bound.text
        ))
    };
    GuardTold {
        key,
        rule: format!("{rule} <= {}", bound.text),
        level: guard.level,
        state,
        observed: (whole > 0).then(|| value(share, Dimension::NONE, true)),
        bound: Some(bound),
        n: Some(whole),
        advice,
        doubt,
    }
}

fn time_told(
    key: &'static str,
    guard: Guard,
    rule: &str,
    (observed, limit): (Option<f64>, f64),
    n: u64,
    advice: &'static str,
    doubt: Doubt,
) -> GuardTold {
    let bound = value(limit, Dimension::TIME, false);
    let state = match observed {
        None => no_data("nothing was sent"),
        Some(time) if time <= limit => State::Pass,
        Some(time) => invalid(format!(
            "{} above {}",
            value(time, Dimension::TIME, false).text,
            bound.text
        )),
    };
    GuardTold {
        key,
        rule: format!("{rule} <= {}", bound.text),
        level: guard.level,
        state,
        observed: observed.map(|time| value(time, Dimension::TIME, false)),
        bound: Some(bound),
        n: Some(n),
        advice,
        doubt,
    }
}

fn error_rate(slice: &Slice, guard: Guard) -> GuardTold {
    let told = error_rate_as_seen(slice, guard);
    let without = Slice {
        without_rate_limited: true,
        ..*slice
    };
    let limited = slice.scheduled().count() - without.scheduled().count();
    if told.state == State::Fail
        && limited > 0
        && error_rate_as_seen(&without, guard).state != State::Fail
    {
        return GuardTold {
            state: invalid(format!(
                "the endpoint's rate limit was hit: {limited} answers have status 429"
            )),
            ..told
        };
    }
    told
}

fn error_rate_as_seen(slice: &Slice, guard: Guard) -> GuardTold {
    let scheduled = slice.scheduled().count() as u64;
    let failed = slice
        .scheduled()
        .filter(|record| record.outcome.is_failure())
        .count() as u64;
    let advice = "read the failures in requests.csv; an SLO on `error rate` replaces this guard";
    share_told(
        "error_rate",
        guard,
        "error rate",
        failed,
        scheduled,
        Doubt::None,
        advice,
    )
}

/// 2 % of the median ttft of answered requests, from sending; the floor when nothing was answered.
fn share_of_median_ttft(slice: &Slice, floor: f64) -> f64 {
    let rules = Rules {
        count: Count::Ok,
        clock: Some(StartClock::Sent),
    };
    let ttft = find("ttft").expect("ttft is a metric");
    let sorted = samples(&[*slice], ttft, rules).low;
    let median = Percentile::new(50_000).expect("a percentile");
    if sorted.is_empty() {
        floor
    } else {
        floor.max(0.02 * nearest_rank(&sorted, median))
    }
}

fn send_lag(slice: &Slice, guard: Guard) -> GuardTold {
    let mut lags: Vec<f64> = slice
        .scheduled()
        .filter_map(|record| super::measure::value(record, "send_lag", StartClock::Sent))
        .collect();
    lags.sort_unstable_by(f64::total_cmp);
    let p99 = Percentile::new(99_000).expect("a percentile");
    let observed = (!lags.is_empty()).then(|| nearest_rank(&lags, p99));
    let limit = guard
        .limit
        .unwrap_or_else(|| share_of_median_ttft(slice, 0.010));
    let advice =
        "the runner sent late: give it more cores, more `workers`, or a machine of its own";
    time_told(
        "send_lag",
        guard,
        "p99 send_lag",
        (observed, limit),
        lags.len() as u64,
        advice,
        // In closed loop a late send makes the load a little lighter; in open loop it bunches arrivals, which is another load.
        if slice.is_closed_loop() {
            Doubt::Lag
        } else {
            Doubt::Measurement
        },
    )
}

/// Open-loop arrivals not dispatched within 1 s of `intended + cap_wait`, and planned ones that never left.
fn missed(slice: &Slice, guard: Guard) -> GuardTold {
    let scheduled = slice.scheduled().count() as u64;
    let late = slice
        .scheduled()
        .filter_map(|record| super::measure::value(record, "send_lag", StartClock::Sent))
        .filter(|lag| *lag > 1.0)
        .count() as u64;
    let unsent = if slice.seen.ending == Ending::Complete {
        unsent(slice)
    } else {
        0
    };
    let planned = scheduled + unsent;
    // What never left had been held by the cap to the end of the drain: the engine's doing, so a failure stays one.
    let is_ours = late as f64 > guard.limit.unwrap_or(0.01) * planned as f64 || unsent == 0;
    let (doubt, advice) = if is_ours {
        (
            Doubt::Measurement,
            "the runner could not keep the rate: give it more cores, or lower the rate",
        )
    } else {
        (
            Doubt::Load,
            "the engine could not keep up, and arrivals waited at the cap until the drain ended: lower the rate, or raise `max_in_flight`",
        )
    };
    share_told(
        "missed",
        guard,
        "missed sends",
        late + unsent,
        planned,
        doubt,
        advice,
    )
}

pub(super) fn unsent(slice: &Slice) -> u64 {
    slice
        .seen
        .unsent
        .iter()
        .filter(|(stage, _)| *stage == slice.stage)
        .map(|(_, count)| count)
        .sum()
}

fn cut(slice: &Slice, guard: Guard) -> GuardTold {
    let scheduled = slice.scheduled().count() as u64;
    let cut = slice
        .scheduled()
        .filter(|record| record.outcome == Outcome::Cut)
        .count() as u64;
    let advice = "requests were still running when the drain ended: give `run.drain` more time, or lower `max_tokens`";
    share_told(
        "cut",
        guard,
        "cut requests",
        cut,
        scheduled,
        Doubt::Load,
        advice,
    )
}

/// Whether the stage holds one number of users to its end.
fn has_level(slice: &Slice) -> bool {
    let stage = &slice.cell.stages[slice.stage];
    let holds = match slice.schedule() {
        Some(Schedule::Closed { users, .. }) => users
            .pieces
            .iter()
            .find(|piece| piece.stage == slice.stage)
            .is_some_and(|piece| piece.from == piece.to && piece.to > 0),
        Some(Schedule::Open { .. } | Schedule::Batch { .. }) | None => false,
    };
    let drained = !stage.tail_fill && matches!(stage.extent, Extent::Requests(_));
    holds && !drained
}

fn concurrency(slice: &Slice, guard: Guard) -> GuardTold {
    let limit = guard.limit.unwrap_or(0.95);
    let level = f64::from(slice.cell.stages[slice.stage].users.unwrap_or(0));
    let measured = slice.scheduled().count();
    let steady = slice.timed().count();
    let active =
        gauge::pool(&[*slice], "active_users").and_then(|pieces| pieces.aggregate(Aggregate::Mean));
    let (state, observed) = match (slice.window(), active) {
        (None, _) => (
            invalid("level not held: its users never all ran at once"),
            None,
        ),
        (Some(_), Err(state)) => (state, None),
        (Some(_), Ok(active)) => {
            let share = active.low / level.max(1.0);
            let seen = value(share, Dimension::NONE, true);
            let state = if share < limit {
                invalid(format!(
                    "level not held: {:.1} of {level} users were active on average",
                    active.low
                ))
            } else if (steady as f64) < 0.8 * measured as f64 {
                invalid(format!(
                    "level not held: {steady} of {measured} measured requests lie in the steady window"
                ))
            } else {
                State::Pass
            };
            (state, Some(seen))
        }
    };
    let bound = value(limit, Dimension::NONE, true);
    GuardTold {
        key: "concurrency",
        rule: format!("active users >= {} of the level", bound.text),
        level: guard.level,
        state,
        observed,
        bound: Some(bound),
        n: Some(measured as u64),
        advice: "send more requests per user, or give the level more time",
        doubt: Doubt::Load,
    }
}

fn client(slice: &Slice, guard: Guard) -> Option<GuardTold> {
    let facts = &slice.seen.client;
    let busiest = slice.busiest();
    if busiest.is_none() && facts.stamps_missing == 0 {
        return None;
    }
    let limit = guard.limit.unwrap_or(0.90);
    let bound = value(limit, Dimension::NONE, true);
    let state = if facts.stamp_source == StampSource::Kernel && facts.stamps_missing > 0 {
        invalid(format!(
            "{} reads had no stamp of the kernel",
            facts.stamps_missing
        ))
    } else if busiest.is_some_and(|share| share >= limit) {
        let seen = value(busiest.unwrap_or(0.0), Dimension::NONE, true);
        invalid(format!(
            "the busiest thread of the runner used {} of a core",
            seen.text
        ))
    } else {
        State::Pass
    };
    Some(GuardTold {
        key: "client",
        rule: format!("busiest thread < {}", bound.text),
        level: guard.level,
        state,
        observed: busiest.map(|share| value(share, Dimension::NONE, true)),
        bound: Some(bound),
        n: None,
        advice: "the runner was the bottleneck: give it more cores or more `workers`",
        doubt: Doubt::Measurement,
    })
}

fn stamps(slice: &Slice, guard: Guard) -> Option<GuardTold> {
    let facts = &slice.seen.client;
    let errors = &facts.stamp_error_ns;
    // Events that were read alone have exact stamps and need no entry in the histogram.
    let all = facts.output_events.max(errors.count());
    if all == 0 {
        return None;
    }
    let exact = all - errors.count();
    let rank = (all * 99).div_ceil(100);
    let p99 = if rank <= exact {
        0.0
    } else {
        errors
            .quantile((rank - exact) as f64 / errors.count() as f64)
            .unwrap_or(0) as f64
            / 1e9
    };
    let limit = guard
        .limit
        .unwrap_or_else(|| share_of_median_ttft(slice, 0.001));
    let advice =
        "events were read late: give the runner more cores, or fewer streams for each worker";
    Some(time_told(
        "stamps",
        guard,
        "p99 possible stamp error",
        (Some(p99), limit),
        all,
        advice,
        Doubt::Stamps(errors.max()),
    ))
}

fn cache_hits(slice: &Slice, guard: Guard) -> Option<GuardTold> {
    let (mut cached, mut input) = (0u64, 0u64);
    for record in slice.timed() {
        if let (Some(hit), Some(of)) = (record.tokens.cached, record.tokens.input) {
            cached += u64::from(hit);
            input += u64::from(of);
        }
    }
    (input > 0).then(|| {
        let advice = "prompts repeat or share a prefix: use a larger set, or `cache: cold`";
        share_told(
            "cache_hits",
            guard,
            "prompt tokens from the prefix cache",
            cached,
            input,
            Doubt::None,
            advice,
        )
    })
}

fn events(
    slice: &Slice,
    guard: Guard,
    key: &'static str,
    kind: &str,
    doubt: Doubt,
    advice: &'static str,
) -> GuardTold {
    let within = |event: &&NotableEvent| {
        slice
            .times()
            .is_none_or(|times| times.began <= event.at && event.at <= times.ended)
    };
    let found: Vec<&NotableEvent> = slice
        .seen
        .events
        .iter()
        .filter(|event| event.kind.starts_with(kind))
        .filter(within)
        .collect();
    let state = match found.first() {
        None => State::Pass,
        Some(first) => invalid(match found.len() {
            1 => first.text.clone(),
            more => format!("{}, and {} more", first.text, more - 1),
        }),
    };
    GuardTold {
        key,
        rule: format!("no {key}"),
        level: guard.level,
        state,
        observed: Some(value(found.len() as f64, Dimension::NONE, false)),
        bound: Some(value(0.0, Dimension::NONE, false)),
        n: None,
        advice,
        doubt,
    }
}
