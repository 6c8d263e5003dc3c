//! What cannot be believed of a result, and why: what its own numbers say against each other.
//!
//! A check speaks only where the file has what it needs. What contradicts itself, or says too little, makes the guard inconclusive,
//! so that nothing is compared or ranked by it; what is only to be known is a warning.

use super::found::Found;
use super::rebuild;
use crate::report::told::FAILED;
use crate::report::wording::{in_unit, percent, rounded};

/// Two ways to the same number may differ by this much.
const TOLERANCE: f64 = 0.05;
/// Below this share of the asked concurrency a level was not held.
const HELD: f64 = 0.8;
/// Fewer answered requests say too little to rank by.
const FEWEST: u64 = 30;
/// The suite's own times and a time line that is made of its durations may differ by this much.
const REBUILT: f64 = 0.1;

/// What a check says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Doubt {
    /// `guard:littles_law` …
    pub(super) guard: &'static str,
    /// What is checked, in words.
    pub(super) about: &'static str,
    pub(super) told: Told,
    /// What was seen.
    pub(super) message: String,
}

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It holds.
    Holds,
    /// It is to be known, and the numbers may still be used.
    Warning,
    /// The numbers cannot be believed, or say too little.
    Unbelievable,
}

/// Everything that is said of a result.
pub(super) fn doubts(found: &Found) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    doubts.extend(answered(found));
    if found.ok != Some(0) {
        doubts.extend(samples(found));
        doubts.extend(concurrency(found));
        doubts.extend(throughput(found));
        doubts.extend(rates(found));
        doubts.extend(percentiles(found));
        doubts.extend(thin_percentiles(found));
        doubts.extend(values(found));
        doubts.extend(first_tokens(found));
        doubts.extend(decoding(found));
        doubts.extend(duration(found));
        doubts.extend(token_counts(found));
    }
    doubts.extend(found.caveats.iter().map(|caveat| Doubt {
        guard: caveat.guard,
        about: "what the format itself says",
        told: Told::Warning,
        message: caveat.text.clone(),
    }));
    doubts
}

fn doubt(guard: &'static str, about: &'static str, told: Told, message: String) -> Option<Doubt> {
    Some(Doubt {
        guard,
        about,
        told,
        message,
    })
}

fn holds_if(is_so: bool) -> Told {
    if is_so {
        Told::Holds
    } else {
        Told::Unbelievable
    }
}

/// How far two ways to one number are apart, as a share of the second.
fn apart(one: f64, other: f64) -> f64 {
    if one == other {
        0.0
    } else {
        (one - other).abs() / other.abs().max(f64::MIN_POSITIVE)
    }
}

fn answered(found: &Found) -> Option<Doubt> {
    let about = "requests were answered, and few failed";
    let guard = "guard:failures";
    let failed = found.failed.unwrap_or(0);
    let all = found.ok? + failed;
    if found.ok == Some(0) {
        let message = format!(
            "all {} requests failed: there is no latency and no throughput",
            all.max(found.planned)
        );
        return doubt(guard, about, Told::Unbelievable, message);
    }
    found.failed?;
    let share = failed as f64 / all as f64;
    let message = format!("{failed} of {all} requests failed ({})", percent(share));
    match share > FAILED {
        true => doubt(
            guard,
            about,
            Told::Unbelievable,
            format!("{message}: the numbers are those of the survivors"),
        ),
        false => doubt(guard, about, Told::Holds, message),
    }
}

fn samples(found: &Found) -> Option<Doubt> {
    let n = found.ok?;
    doubt(
        "guard:samples",
        "enough requests to rank by",
        holds_if(n >= FEWEST),
        match n >= FEWEST {
            true => format!("{n} requests were answered"),
            false => format!(
                "{n} requests were answered, {FEWEST} are needed to say anything of a spread"
            ),
        },
    )
}

/// N = X · R: as many requests are in flight as arrive in the time that one takes.
fn concurrency(found: &Found) -> Vec<Doubt> {
    let about = "Little's law: concurrency = rate × mean latency";
    let guard = "guard:littles_law";
    let (Some(rate), Some(mean)) = (found.stat("rps", "value"), found.stat("e2e", "mean")) else {
        return Vec::new();
    };
    let product = rate * mean / 1e3;
    let said = format!(
        "{} × {} = {} requests in flight",
        in_unit(rate, "req/s"),
        in_unit(mean, "ms"),
        rounded(product)
    );
    let mut told = Vec::new();
    if let Some(seen) = found.concurrency {
        let off = apart(product, seen);
        let message = format!("{said}, and the tool counted {}", rounded(seen));
        told.extend(doubt(
            guard,
            about,
            holds_if(off <= 2.0 * TOLERANCE),
            message,
        ));
    }
    if let Some(users) = found.users.map(f64::from) {
        let share = product / users;
        let (state, message) = match share {
            share if share > 1.0 + TOLERANCE => (
                Told::Unbelievable,
                format!(
                    "{said}, and {users} is the most that there can be: one of the three is wrong"
                ),
            ),
            share if share < HELD => (
                Told::Unbelievable,
                format!(
                    "{said}, {} of the {users} that were asked for: the level was not held, and its name promises more load than there was",
                    percent(share)
                ),
            ),
            share if share < 1.0 - TOLERANCE => (
                Told::Warning,
                format!(
                    "{said}, {} of the {users} that were asked for: filling and draining are in the numbers",
                    percent(share)
                ),
            ),
            _ => (Told::Holds, format!("{said}, {users} were asked for")),
        };
        told.extend(doubt(guard, about, state, message));
    }
    told
}

/// Tokens per second are tokens ÷ seconds.
fn throughput(found: &Found) -> Option<Doubt> {
    let (tokens, seconds) = (found.output_tokens?, found.duration_s.filter(|s| *s > 0.0)?);
    let told = found.stat("output_tps", "value")?;
    let made = tokens / seconds;
    let message = format!(
        "{} told, {} tokens ÷ {} = {}",
        in_unit(told, "tok/s"),
        rounded(tokens),
        in_unit(seconds, "s"),
        in_unit(made, "tok/s")
    );
    doubt(
        "guard:throughput",
        "throughput = tokens ÷ time",
        holds_if(apart(told, made) <= TOLERANCE),
        message,
    )
}

/// Requests per second are requests ÷ seconds.
fn rates(found: &Found) -> Option<Doubt> {
    let (ok, seconds) = (found.ok?, found.duration_s.filter(|s| *s > 0.0)?);
    let told = found.stat("rps", "value")?;
    let made = ok as f64 / seconds;
    let message = format!(
        "{} told, {ok} requests ÷ {} = {}",
        in_unit(told, "req/s"),
        in_unit(seconds, "s"),
        in_unit(made, "req/s")
    );
    doubt(
        "guard:request_rate",
        "request rate = requests ÷ time",
        holds_if(apart(told, made) <= TOLERANCE),
        message,
    )
}

/// The statistics that cannot fall in this order.
const RISING: [&str; 7] = ["min", "p50", "p90", "p95", "p99", "p99.9", "max"];

fn percentiles(found: &Found) -> Option<Doubt> {
    let mut seen = 0;
    for (metric, stats) in &found.metrics {
        let known: Vec<(&str, f64)> = RISING
            .iter()
            .filter_map(|stat| Some((*stat, *stats.get(*stat)?)))
            .collect();
        seen += known.len().saturating_sub(1);
        let falls = known
            .windows(2)
            .find(|pair| pair[0].1 > pair[1].1 * (1.0 + 1e-9));
        if let Some([(one, low), (other, high)]) = falls {
            let message = format!(
                "{metric}: {one} {} lies above {other} {}",
                rounded(*low),
                rounded(*high)
            );
            return doubt(
                "guard:percentiles",
                "percentiles rise",
                Told::Unbelievable,
                message,
            );
        }
        let mean = stats.get("mean");
        let outside = mean.filter(|mean| {
            stats
                .get("min")
                .is_some_and(|min| **mean < min * (1.0 - 1e-9))
                || stats
                    .get("max")
                    .is_some_and(|max| **mean > max * (1.0 + 1e-9))
        });
        if let Some(mean) = outside {
            let message = format!(
                "{metric}: the mean {} lies outside of min and max",
                rounded(*mean)
            );
            return doubt(
                "guard:percentiles",
                "percentiles rise",
                Told::Unbelievable,
                message,
            );
        }
    }
    (seen > 0).then_some(())?;
    doubt(
        "guard:percentiles",
        "percentiles rise",
        Told::Holds,
        format!("{seen} pairs rise"),
    )
}

/// A percentile of fewer samples than 1 ÷ (1 − p) is their maximum.
fn thin_percentiles(found: &Found) -> Option<Doubt> {
    let n = found.ok? as f64;
    let told = ["p95", "p99"].into_iter().filter(|stat| {
        let needed = if *stat == "p95" { 20.0 } else { 100.0 };
        n < needed
            && ["ttft", "e2e", "tpot"]
                .iter()
                .any(|metric| found.stat(metric, stat).is_some())
    });
    let told: Vec<String> = told.map(str::to_uppercase).collect();
    (!told.is_empty()).then_some(())?;
    doubt(
        "guard:thin_percentiles",
        "percentiles have samples beyond them",
        Told::Warning,
        format!(
            "{} of {n} samples is nothing but the largest",
            told.join(" and ")
        ),
    )
}

/// No latency is 0 or less, and no rate is negative.
fn values(found: &Found) -> Option<Doubt> {
    const LATENCIES: [&str; 3] = ["ttft", "e2e", "tpot"];
    let about = "values are possible";
    let latencies = found
        .metrics
        .iter()
        .filter(|(metric, _)| LATENCIES.contains(&metric.as_str()));
    for (metric, stats) in latencies {
        let zero = stats
            .iter()
            .find(|(stat, value)| *stat != "std" && **value <= 0.0);
        if let Some((stat, value)) = zero {
            // An answer of one token has no time per output token.
            if metric == "tpot" && *value == 0.0 {
                continue;
            }
            let message = format!("{metric} {stat} is {}", in_unit(*value, "ms"));
            return doubt("guard:values", about, Told::Unbelievable, message);
        }
    }
    let negative = found.metrics.iter().find_map(|(metric, stats)| {
        let (stat, value) = stats.iter().find(|(_, value)| **value < 0.0)?;
        Some(format!("{metric} {stat} is {}", rounded(*value)))
    });
    match negative {
        Some(message) => doubt("guard:values", about, Told::Unbelievable, message),
        None => doubt(
            "guard:values",
            about,
            Told::Holds,
            format!("{} metrics", found.metrics.len()),
        ),
    }
}

/// The first token comes before the last, and not always after the same share of the time.
fn first_tokens(found: &Found) -> Option<Doubt> {
    let (guard, about) = (
        "guard:first_token",
        "the first token was seen, before the last",
    );
    let (ttft, e2e) = (found.stat("ttft", "mean")?, found.stat("e2e", "mean")?);
    if ttft > e2e {
        let message = format!(
            "mean TTFT {} lies above mean E2E {}",
            in_unit(ttft, "ms"),
            in_unit(e2e, "ms")
        );
        return doubt(guard, about, Told::Unbelievable, message);
    }
    let shares: Vec<f64> = found
        .requests
        .iter()
        .filter_map(|request| Some(request.ttft_ms? / request.e2e_ms.filter(|ms| *ms > 0.0)?))
        .collect();
    let (low, high) = shares
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(low, high), share| {
            (low.min(*share), high.max(*share))
        });
    if shares.len() > 2 && high - low < 1e-3 {
        let message = format!(
            "TTFT is {} of E2E in each of {} requests: it was computed, not seen",
            percent(high),
            shares.len()
        );
        return doubt(guard, about, Told::Unbelievable, message);
    }
    let message = format!(
        "mean TTFT {}, mean E2E {}",
        in_unit(ttft, "ms"),
        in_unit(e2e, "ms")
    );
    doubt(guard, about, Told::Holds, message)
}

/// E2E = TTFT + TPOT × (tokens − 1), over all requests.
fn decoding(found: &Found) -> Option<Doubt> {
    let rows = found.requests.iter().filter_map(|request| {
        let tokens = request.output_tokens.filter(|tokens| *tokens > 1.0)?;
        let made = request.ttft_ms? + request.tpot_ms? * (tokens - 1.0);
        Some((request.e2e_ms?, made))
    });
    let (told, made) = rows.fold((0.0, 0.0), |(told, made), (e2e, own)| {
        (told + e2e, made + own)
    });
    (told > 0.0).then_some(())?;
    let off = apart(made, told);
    let message = format!(
        "TTFT + TPOT × (tokens − 1) is {} of E2E over all requests",
        percent(made / told)
    );
    doubt(
        "guard:decoding",
        "E2E = TTFT + TPOT × (tokens − 1)",
        holds_if(off <= TOLERANCE),
        message,
    )
}

/// The requests' own durations, one after another in the slots, take as long as the file says.
fn duration(found: &Found) -> Option<Doubt> {
    let (users, told) = (found.users?, found.duration_s?);
    if found
        .requests
        .iter()
        .any(|request| request.start_s.is_some())
    {
        return None;
    }
    let (_, made) = rebuild::with_times(&found.requests, users)?;
    let message = format!(
        "{} requests one after another in {users} slots take {}, and the file says {}",
        found.requests.len(),
        in_unit(made, "s"),
        in_unit(told, "s")
    );
    // Nothing may be faster than its own requests; slower is what a client makes of it.
    let state = match () {
        () if made > told * (1.0 + REBUILT) => Told::Unbelievable,
        () if made < told * (1.0 - REBUILT) => Told::Warning,
        () => Told::Holds,
    };
    doubt(
        "guard:duration",
        "the requests' durations make up the whole",
        state,
        message,
    )
}

/// Many answers of one token more than a round cap: the events were counted, not the tokens.
fn token_counts(found: &Found) -> Option<Doubt> {
    let counts: Vec<u64> = found
        .requests
        .iter()
        .filter_map(|request| request.output_tokens.map(|tokens| tokens as u64))
        .collect();
    let most = counts.iter().copied().max()?;
    let alike = counts.iter().filter(|count| **count == most).count();
    let over = (1..=2).find(|over| most > 64 && (most - over).is_power_of_two())?;
    (alike * 4 >= counts.len() && counts.len() >= 8).then_some(())?;
    doubt(
        "guard:tokens",
        "tokens are tokens",
        Told::Warning,
        format!(
            "{alike} of {} answers have {most} tokens, {over} more than {}: events were counted where tokens were meant",
            counts.len(),
            most - over
        ),
    )
}
