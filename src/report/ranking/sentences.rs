//! What may be said of a contest, each sentence with the numbers that it stands on.

use super::contest::Asked;
use super::model::{Contest, Criterion, Estimate, LeftOut, Standing};
use crate::report::wording;

/// What a backend is called in a sentence.
type Shown<'a> = &'a dyn Fn(&str) -> String;

/// The contest with its sentence.
pub(super) fn told(mut contest: Contest, shown: Shown<'_>) -> Contest {
    contest.sentence = sentence(&contest, shown);
    contest
}

/// A contest in which nobody stands.
pub(super) fn nothing(asked: &Asked, left_out: &[LeftOut], shown: Shown<'_>) -> Contest {
    let why = left_out.first().map_or(String::new(), |one| {
        let place = one.place.as_ref();
        let place = place.map_or(String::new(), |place| format!(" at {place}"));
        format!(": {}{place}: {}", shown(&one.backend), one.reason)
    });
    Contest {
        id: asked.id.to_owned(),
        title: asked.title.to_owned(),
        criteria: Vec::new(),
        places: Vec::new(),
        standings: Vec::new(),
        winner: None,
        gap: None,
        gap_interval: None,
        sentence: format!(
            "nothing is ranked: no place has numbers of two backends that can be compared{why}"
        ),
        without: Vec::new(),
    }
}

fn sentence(contest: &Contest, shown: Shown<'_>) -> String {
    let places = match contest.places.as_slice() {
        [only] => format!("at {only}"),
        several => format!("geometric mean of {} places", several.len()),
    };
    let body = match (&contest.winner, contest.standings.as_slice()) {
        (Some(winner), [first, next, ..]) => {
            let gap = contest.gap.zip(contest.gap_interval);
            let gap = gap.map_or(String::new(), |gap| told_gap(contest, gap));
            format!(
                "{} with {}, {gap} {} with {}",
                shown(winner),
                numbers(contest, first),
                shown(&next.backend),
                numbers(contest, next)
            )
        }
        (_, standings) => {
            let first = standings.iter().filter(|one| one.rank == 1);
            let said: Vec<String> = first
                .map(|one| format!("{} {}", shown(&one.backend), numbers(contest, one)))
                .collect();
            format!("not decided, the intervals overlap: {}", said.join(", "))
        }
    };
    format!("{}: {body} ({places})", contest.title)
}

/// `27.7 % (25 % to 30.5 %) more than`.
fn told_gap(contest: &Contest, (gap, [low, high]): (f64, [f64; 2])) -> String {
    let percent = |share: f64| wording::percent(share.abs());
    let lower = matches!(contest.criteria.as_slice(), [only] if only.better == "lower");
    let (near, far) = if low.abs() < high.abs() {
        (low, high)
    } else {
        (high, low)
    };
    let word = match contest.criteria.len() {
        1 if lower => "less than",
        1 => "more than",
        _ => "ahead of",
    };
    format!(
        "{} ({} to {}) {word}",
        percent(gap),
        percent(near),
        percent(far)
    )
}

/// The numbers of a standing: of one criterion its value, of several the score and each value.
fn numbers(contest: &Contest, standing: &Standing) -> String {
    match (contest.criteria.as_slice(), standing.values.as_slice()) {
        ([criterion], [value]) => with_interval(criterion, value),
        (criteria, values) => {
            let each = criteria.iter().zip(values);
            let said: Vec<String> = each
                .map(|(criterion, value)| {
                    format!("{} {}", criterion.name, quantity(criterion, value.value))
                })
                .collect();
            let [low, high] = standing.score.interval.map(wording::rounded);
            let score = wording::rounded(standing.score.value);
            format!("score {score} ({low} to {high}; {})", said.join(", "))
        }
    }
}

/// `2950 tok/s (2890 to 3010)`.
pub(super) fn with_interval(criterion: &Criterion, estimate: &Estimate) -> String {
    let value = quantity(criterion, estimate.value);
    let [low, high] = estimate.interval;
    // What differs in the last bits of a float alone was the same every time.
    if high - low <= 1e-9 * estimate.value.abs() {
        return value;
    }
    format!(
        "{value} ({})",
        wording::interval(estimate.interval, &criterion.unit, 3)
    )
}

fn quantity(criterion: &Criterion, value: f64) -> String {
    wording::in_unit(value, &criterion.unit)
}
