//! One assertion over measured numbers: whether it holds, how far from its bound, and how sure that is.

use super::measure::{Measured, Rules, invalid, measure, no_data, stands_on_samples};
use super::slice::Slice;
use super::statistics::events_to_show;
use super::{Reason, State, Value};
use crate::assertion::{
    Assertion, Comparison, Dimension, Expression, Extreme, Kind, Operator, format_value,
};
use crate::observation::Outcome;
use crate::units::{Moment, trim_float};

/// What one evaluation gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The verdict.
    pub state: State,
    /// The left side.
    pub observed: Option<Value>,
    /// The right side.
    pub bound: Option<Value>,
    /// How far the left side lies beyond the right one, as a share of it; positive is worse.
    pub margin: Option<f64>,
    /// Samples of the left side.
    pub n: Option<u64>,
    /// Few samples, or one event more would change it.
    pub thin: bool,
    /// The 95 % interval of the left side in its canonical unit.
    pub interval: Option<(f64, f64)>,
    /// Where and how it broke, in words.
    pub detail: Option<String>,
    /// What to change.
    pub advice: Option<String>,
    /// Of an SLO with a `window`, the windows in which it does not hold, since the cell began.
    pub broken: Vec<(Moment, Moment)>,
}

impl Told {
    /// A state without any number.
    pub(super) fn without_numbers(state: State) -> Told {
        Told {
            state,
            observed: None,
            bound: None,
            margin: None,
            n: None,
            thin: false,
            interval: None,
            detail: None,
            advice: None,
            broken: Vec::new(),
        }
    }

    /// Worse states first, and among equal ones the larger margin.
    pub(super) fn is_worse_than(&self, other: &Told) -> bool {
        let order = |told: &Told| match told.state {
            State::Fail => 0,
            State::Inconclusive(_) => 1,
            State::Skipped(_) => 2,
            State::Pass => 3,
        };
        match order(self).cmp(&order(other)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal => {
                self.margin.unwrap_or(f64::NEG_INFINITY) > other.margin.unwrap_or(f64::NEG_INFINITY)
            }
        }
    }
}

/// How strictly samples are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleRule {
    /// Too few are inconclusive, few are thin.
    Normal,
    /// Fewer than this confidence needs are inconclusive, too.
    Confident(f64),
    /// Not counted: smoke runs and abort rules.
    Off,
}

/// Judges an assertion; `slices` holds what each of its measures is taken over, in order of appearance.
pub fn evaluate(
    assertion: &Assertion,
    slices: &[Vec<Slice>],
    rules: Rules,
    samples: SampleRule,
) -> Told {
    let told = evaluate_as_seen(assertion, slices, rules, samples);
    if told.state != State::Fail {
        return told;
    }
    let limited = rate_limited(slices);
    if limited == 0 {
        return told;
    }
    let without: Vec<Vec<Slice>> = slices
        .iter()
        .map(|of_one| {
            of_one
                .iter()
                .map(|slice| Slice {
                    without_rate_limited: true,
                    ..*slice
                })
                .collect()
        })
        .collect();
    if evaluate_as_seen(assertion, &without, rules, SampleRule::Off).state != State::Pass {
        return told;
    }
    Told {
        state: invalid(format!(
            "the endpoint's rate limit was hit: {limited} answers have status 429, and they alone break the bound"
        )),
        advice: Some("lower the rate, or say the endpoint's `limit` in the scenario".to_owned()),
        ..told
    }
}

fn rate_limited(slices: &[Vec<Slice>]) -> usize {
    slices
        .iter()
        .flatten()
        .map(|slice| {
            slice
                .scheduled()
                .filter(|record| matches!(record.outcome, Outcome::Refused { status: 429, .. }))
                .count()
        })
        .max()
        .unwrap_or(0)
}

fn evaluate_as_seen(
    assertion: &Assertion,
    slices: &[Vec<Slice>],
    rules: Rules,
    samples: SampleRule,
) -> Told {
    if assertion.needs_baseline() {
        return Told::without_numbers(no_data(
            "baseline: the scenario names no report (`baseline: { file: … }`)",
        ));
    }
    let measures = assertion.measures();
    let mut measured = Vec::with_capacity(measures.len());
    let mut missing: Option<State> = None;
    for (measure_of, over) in measures.iter().zip(slices) {
        match measure(over, measure_of.metric, measure_of.aggregate, rules) {
            Ok(number) => measured.push(number),
            // What is skipped was not asked, whatever else is missing.
            Err(state @ State::Skipped(_)) => return Told::without_numbers(state),
            Err(state) => missing = missing.or(Some(state)),
        }
    }
    if let Some(state) = missing {
        return Told::without_numbers(state);
    }
    let mut told = compare(assertion, &measured);
    for (measure_of, number) in measures.iter().zip(&measured) {
        if let Some(percentile) = stands_on_samples(measure_of.metric, measure_of.aggregate)
            && samples != SampleRule::Off
        {
            let name = percentile.to_string().to_uppercase();
            let confidence = match samples {
                SampleRule::Confident(confidence) => confidence,
                SampleRule::Normal | SampleRule::Off => 0.95,
            };
            let enough = percentile.enough_for(confidence);
            let confidence = trim_float(confidence * 100.0);
            if number.n < percentile.fewest() {
                told.state = no_data(format!(
                    "n={}, and {name} needs at least {} samples",
                    number.n,
                    percentile.fewest()
                ));
                told.advice = Some(format!(
                    "send more requests: {name} has a {confidence}% bound from {enough} on"
                ));
            } else if number.n < enough {
                told.thin = true;
                told.advice = Some(format!(
                    "{name} has a {confidence}% bound from {enough} samples on"
                ));
            }
        }
    }
    if samples != SampleRule::Off && one_event_decides(assertion, &measures, &measured, &told.state)
    {
        told.thin = true;
        told.advice = rate_advice(assertion, &measured);
    }
    if matches!(samples, SampleRule::Confident(_))
        && told.thin
        && matches!(told.state, State::Pass | State::Fail)
    {
        told.state = no_data(format!("thin: n={}", told.n.unwrap_or(0)));
    }
    told
}

/// Whether one more or one fewer event would change the verdict.
fn one_event_decides(
    assertion: &Assertion,
    measures: &[&crate::assertion::Measure],
    measured: &[Measured],
    state: &State,
) -> bool {
    if !matches!(state, State::Pass | State::Fail) {
        return false;
    }
    measured.iter().enumerate().any(|(i, number)| {
        let Some(hits) = number
            .hits
            .filter(|_| measures[i].metric.kind == Kind::Rate && number.n > 0)
        else {
            return false;
        };
        let changed = |hits: u64| {
            let mut other = measured.to_vec();
            other[i] = Measured::exact(hits as f64 / number.n as f64, number.n);
            compare(assertion, &other).state != *state
        };
        (hits > 0 && changed(hits - 1)) || (hits < number.n && changed(hits + 1))
    })
}

fn rate_advice(assertion: &Assertion, measured: &[Measured]) -> Option<String> {
    let bound = match assertion.right {
        Expression::Percent(percent) => percent / 100.0,
        _ => return None,
    };
    let needed = events_to_show(bound)?;
    let n = measured.first()?.n;
    (n < needed).then(|| format!("n={n}: one event more or less changes it; {needed} requests without an event show < {}%", trim_float(bound * 100.0)))
}

/// Compares the two sides. Cut requests leave an interval: the bound must hold at both ends to pass, and break at both to fail.
fn compare(assertion: &Assertion, measured: &[Measured]) -> Told {
    let mut numbers = measured.iter();
    let left = side(&assertion.left, &mut numbers, None);
    let left_count = measured.len() - numbers.len();
    let right = side(&assertion.right, &mut numbers, None);
    let of_left = &measured[..left_count];
    let mut told = Told::without_numbers(State::Pass);
    told.n = of_left.iter().map(|number| number.n).min();
    if let ([only], Expression::Measure(_)) = (of_left, &assertion.left) {
        let canonical = |base| assertion.dimension.to_canonical(base);
        told.interval = only
            .interval
            .map(|(low, high)| (canonical(low), canonical(high)));
    }
    if [left.0, left.1, right.0, right.1]
        .iter()
        .any(|value| value.is_nan())
    {
        told.state = no_data("the comparison is undefined: 0 ÷ 0 or ∞ ÷ ∞");
        return told;
    }
    let holds = |a: f64, b: f64| assertion.comparison.holds(a, b);
    let ends = [
        holds(left.0, right.0),
        holds(left.0, right.1),
        holds(left.1, right.0),
        holds(left.1, right.1),
    ];
    let cut: u64 = measured.iter().map(|number| number.cut).sum();
    let (all, any) = (ends.iter().all(|end| *end), ends.iter().any(|end| *end));
    let infinite = [left.0, left.1, right.0, right.1]
        .iter()
        .any(|value| value.is_infinite());
    told.state = match (all, any) {
        // A bound that failures made infinite is met by everything: that is no pass.
        (true, _) if infinite => {
            no_data("failed requests make one side ∞, so the comparison says nothing")
        }
        (true, _) => State::Pass,
        (false, false) => State::Fail,
        (false, true) => invalid(format!(
            "{cut} cut requests decide it: they had not ended when the drain did"
        )),
    };
    // The value at the end that decided.
    let shown = match (&told.state, assertion.comparison) {
        (State::Fail, Comparison::Less | Comparison::AtMost) => left.0,
        (State::Pass, Comparison::Greater | Comparison::AtLeast) => left.0,
        (State::Fail, _) | (State::Pass, _) => left.1,
        _ => left.0,
    };
    told.observed = Some(observed(assertion, shown, left, of_left));
    told.bound = Some(bound(assertion, right.0));
    told.margin = margin(assertion.comparison, shown, right.0);
    told
}

fn observed(
    assertion: &Assertion,
    shown: f64,
    (low, high): (f64, f64),
    measured: &[Measured],
) -> Value {
    let mut value = value(shown, assertion.dimension, assertion.share);
    if shown.is_infinite()
        && let Some(number) = measured.iter().find(|number| number.worst + number.cut > 0)
    {
        value.text = match number.worst {
            0 => format!("∞ ({} of {} cut)", number.cut, number.n),
            failed => format!("∞ ({failed} of {} failed)", number.n),
        };
    } else if low != high {
        let cut: u64 = measured.iter().map(|number| number.cut).sum();
        let ends = [low, high].map(|end| format_value(end, assertion.dimension, assertion.share));
        value.text = format!("between {} and {} ({cut} cut)", ends[0], ends[1]);
    }
    value
}

fn bound(assertion: &Assertion, base: f64) -> Value {
    let mut value = value(base, assertion.dimension, assertion.share);
    if let Expression::Quantity(..) | Expression::Percent(_) | Expression::Number(_) =
        assertion.right
    {
        value.text = assertion.right.to_string();
    }
    value
}

/// A base value in canonical units and as people write it.
pub(super) fn value(base: f64, dimension: Dimension, share: bool) -> Value {
    Value {
        value: dimension.to_canonical(base),
        unit: dimension.unit_text(),
        text: format_value(base, dimension, share),
    }
}

fn margin(comparison: Comparison, left: f64, right: f64) -> Option<f64> {
    if right == 0.0 || right.is_infinite() {
        return None;
    }
    let beyond = (left - right) / right.abs();
    match comparison {
        Comparison::Less | Comparison::AtMost => Some(beyond),
        Comparison::Greater | Comparison::AtLeast => Some(-beyond),
        Comparison::Equal | Comparison::Different => Some(beyond.abs()),
    }
}

/// One side as (lowest, highest); `base` is what a percentage is taken of.
fn side<'a>(
    expression: &Expression,
    numbers: &mut impl Iterator<Item = &'a Measured>,
    base: Option<(f64, f64)>,
) -> (f64, f64) {
    match expression {
        Expression::Number(number) => (*number, *number),
        Expression::Quantity(number, unit) => (unit.to_base(*number), unit.to_base(*number)),
        Expression::Points(number) => (number / 100.0, number / 100.0),
        Expression::Percent(number) => {
            let share = number / 100.0;
            base.map_or((share, share), |(low, high)| (low * share, high * share))
        }
        Expression::Measure(_) => numbers
            .next()
            .map_or((f64::NAN, f64::NAN), |number| (number.low, number.high)),
        Expression::Baseline(_) => (f64::NAN, f64::NAN),
        Expression::Binary(operator, left, right) => {
            let left = side(left, numbers, None);
            let base = matches!(operator, Operator::Add | Operator::Subtract).then_some(left);
            let relative = base.filter(|_| takes_base(expression));
            let right = side(right, numbers, relative);
            corners(left, right, |a, b| match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide => a / b,
            })
        }
        Expression::Extreme(extreme, parts) => {
            let mut all = parts
                .iter()
                .map(|part| side(part, numbers, base))
                .collect::<Vec<_>>()
                .into_iter();
            let first = all.next().unwrap_or((f64::NAN, f64::NAN));
            all.fold(first, |(a, b), (c, d)| match extreme {
                Extreme::Max => (a.max(c), b.max(d)),
                Extreme::Min => (a.min(c), b.min(d)),
            })
        }
    }
}

/// Whether a percentage on the right of this sum is one of the left operand: not when both are percentages of one.
fn takes_base(sum: &Expression) -> bool {
    let Expression::Binary(_, left, right) = sum else {
        return false;
    };
    let relative = match &**right {
        Expression::Percent(_) => true,
        Expression::Extreme(_, parts) => parts
            .iter()
            .any(|part| matches!(part, Expression::Percent(_))),
        _ => false,
    };
    relative && !is_share(left)
}

fn is_share(expression: &Expression) -> bool {
    match expression {
        Expression::Percent(_) | Expression::Points(_) => true,
        Expression::Measure(measure) | Expression::Baseline(measure) => {
            measure.metric.share_of(measure.aggregate)
        }
        Expression::Number(_) | Expression::Quantity(..) => false,
        Expression::Binary(Operator::Divide, ..) => false,
        Expression::Binary(_, left, right) => is_share(left) || is_share(right),
        Expression::Extreme(_, parts) => parts.iter().any(is_share),
    }
}

fn corners(left: (f64, f64), right: (f64, f64), combine: impl Fn(f64, f64) -> f64) -> (f64, f64) {
    if left.0 == left.1 && right.0 == right.1 {
        let value = combine(left.0, right.0);
        return (value, value);
    }
    let all = [
        combine(left.0, right.0),
        combine(left.0, right.1),
        combine(left.1, right.0),
        combine(left.1, right.1),
    ];
    if all.iter().any(|value| value.is_nan()) {
        return (f64::NAN, f64::NAN);
    }
    (
        all.iter().copied().fold(f64::INFINITY, f64::min),
        all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// The text of a reason, for messages that quote it.
pub(super) fn reason_text(state: &State) -> &str {
    match state {
        State::Inconclusive(Reason { text, .. }) | State::Skipped(text) => text,
        State::Pass | State::Fail => "",
    }
}
