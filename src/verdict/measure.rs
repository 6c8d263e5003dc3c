//! Observations → numbers, by the definitions of the documentation of metrics (version 1).
//!
//! Undefined is not 0: what cannot be told is a [`State`] that says why. Values are in base units (seconds, bytes, joules,
//! tokens, requests); [`Dimension::to_canonical`] gives the unit of files.
//!
//! [`Dimension::to_canonical`]: crate::assertion::Dimension::to_canonical

use hdrhistogram::Histogram;

use super::gauge::{self, Pieces};
use super::slice::Slice;
use super::statistics::{nearest_rank, order_interval, rate_interval};
use super::{Family, Reason, State};
use crate::assertion::{Aggregate, Better, Kind, Metric, Percentile, find};
use crate::observation::{Outcome, RequestRecord, TokenSource};
use crate::plan::{Count, GoodputBound, StartClock};
use crate::units::Moment;

/// How failures count and where latencies start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How failures count.
    pub count: Count,
    /// Where latencies start; `None`: intended in open loop, sent in closed loop.
    pub clock: Option<StartClock>,
}

/// A number and what it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The value, with cut requests taken as ended when they were cut.
    pub low: f64,
    /// The value, with cut requests taken as never ending; the same as `low` when none was cut.
    pub high: f64,
    /// Samples.
    pub n: u64,
    /// The 95 % interval, where one can be told.
    pub interval: Option<(f64, f64)>,
    /// Of a rate: the hits among the `n`.
    pub hits: Option<u64>,
    /// Values that are the worst there is, because their requests failed.
    pub worst: u64,
    /// Values that are only bounded from below, because their requests were cut.
    pub cut: u64,
    /// Answered requests on which the metric is undefined, and left out; of `goodput_ratio`, those on which a bound is.
    pub undefined: u64,
}

impl Measured {
    pub(super) fn exact(value: f64, n: u64) -> Measured {
        Measured {
            low: value,
            high: value,
            n,
            interval: None,
            hits: None,
            worst: 0,
            cut: 0,
            undefined: 0,
        }
    }
}

/// There is nothing to judge, in words.
pub(super) fn no_data(text: impl Into<String>) -> State {
    State::Inconclusive(Reason {
        family: Family::NoData,
        text: text.into(),
    })
}

/// The measurement is not what its label says, in words.
pub(super) fn invalid(text: impl Into<String>) -> State {
    State::Inconclusive(Reason {
        family: Family::Invalid,
        text: text.into(),
    })
}

/// Measures one metric over slices, pooled from raw values.
///
/// # Errors
/// The state of a verdict that needs the number: why there is none.
pub fn measure(
    slices: &[Slice],
    metric: &'static Metric,
    aggregate: Aggregate,
    rules: Rules,
) -> Result<Measured, State> {
    if slices.is_empty() {
        return Err(no_data("no cell to measure"));
    }
    if metric.name.starts_with("gpu.") && slices.iter().any(Slice::has_no_gpu_source) {
        return Err(State::Skipped("no GPU source".to_owned()));
    }
    if needs_token_instants(metric) && slices.iter().any(|slice| slice.seen.tokens_untimed) {
        return Err(no_data(
            "the run was saved without the instants of its tokens",
        ));
    }
    for slice in slices {
        if slice.times().is_none() {
            return Err(no_data(format!(
                "stage `{}` never began",
                stage_name(slice)
            )));
        }
        let needs_window = !matches!(metric.kind, Kind::Rate | Kind::Counter);
        if needs_window && slice.window().is_none() {
            return Err(invalid(format!(
                "level not held: stage `{}` never had all its users",
                stage_name(slice)
            )));
        }
    }
    match metric.kind {
        Kind::Trend => samples(slices, metric, rules).aggregate(aggregate),
        Kind::Gap => gaps(slices, metric)?.aggregate(aggregate),
        Kind::Rate => rate(slices, metric, aggregate, rules),
        Kind::Counter => counter(slices, metric, aggregate),
        Kind::Flow => flow(slices, metric, aggregate, rules),
        Kind::Gauge => gauge_of(slices, metric, aggregate),
        Kind::Derived => derived(slices, metric),
    }
}

/// Whether a metric is told by when each output event came.
pub(super) fn needs_token_instants(metric: &Metric) -> bool {
    matches!(metric.kind, Kind::Gap | Kind::Derived)
        || matches!(metric.name, "output_tps" | "total_tps")
}

fn stage_name<'a>(slice: &Slice<'a>) -> &'a str {
    &slice.cell.stages[slice.stage].name
}

/// Whether the start of this metric depends on the clock of the SLO.
pub fn follows_clock(metric: &Metric) -> bool {
    matches!(
        metric.name,
        "ttft" | "ttft_content" | "e2e" | "goodput" | "goodput_ratio"
    )
}

// ---- trends: one value a request ----

/// What a metric says of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum One {
    Value(f64),
    /// The worst there is.
    Worst,
    /// Cut: at least this, perhaps without end.
    AtLeast(f64),
    Undefined,
}

/// The sorted values of a trend.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// In rising order, with cut requests as ended when they were cut.
    pub low: Vec<f64>,
    /// In rising order, with cut requests as never ending; `None` when none was cut.
    pub high: Option<Vec<f64>>,
    worst: u64,
    cut: u64,
    /// Answered requests on which the metric is undefined.
    pub undefined: u64,
}

/// Collects and sorts the values of a trend, once.
pub fn samples(slices: &[Slice], metric: &'static Metric, rules: Rules) -> Samples {
    let mut low = Vec::new();
    let (mut worst, mut cut, mut undefined) = (0, 0, 0);
    let the_worst = match metric.better {
        Better::Higher => 0.0,
        Better::Lower | Better::Neither => f64::INFINITY,
    };
    for slice in slices {
        let clock = rules.clock.unwrap_or(slice.default_clock());
        let trend = Trend::of(metric, clock, rules.count);
        for record in slice.timed() {
            match trend.of_request(record) {
                One::Value(value) => low.push(value),
                One::Worst => {
                    low.push(the_worst);
                    worst += 1;
                }
                One::AtLeast(least) => {
                    low.push(least);
                    cut += 1;
                }
                One::Undefined if matches!(record.outcome, Outcome::Ok) => undefined += 1,
                One::Undefined => {}
            }
        }
    }
    let high = (cut > 0).then(|| with_open_ends(slices, metric, rules, the_worst));
    low.sort_unstable_by(f64::total_cmp);
    Samples {
        low,
        high,
        worst,
        cut,
        undefined,
    }
}

/// The values with cut requests as never ending.
fn with_open_ends(
    slices: &[Slice],
    metric: &'static Metric,
    rules: Rules,
    the_worst: f64,
) -> Vec<f64> {
    let mut values: Vec<f64> = slices
        .iter()
        .flat_map(|slice| {
            let clock = rules.clock.unwrap_or(slice.default_clock());
            let trend = Trend::of(metric, clock, rules.count);
            slice.timed().map(move |record| trend.of_request(record))
        })
        .filter_map(|one| match one {
            One::Value(value) => Some(value),
            One::Worst => Some(the_worst),
            One::AtLeast(_) => Some(f64::INFINITY),
            One::Undefined => None,
        })
        .collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// A per-request metric under the rules that it is asked by.
#[derive(Clone, Copy)]
struct Trend {
    name: &'static str,
    definition: Option<Definition>,
    start: StartClock,
    count: Count,
    is_size: bool,
    /// An instant that was seen before the cut is exact.
    is_seen_early: bool,
}

impl Trend {
    fn of(metric: &'static Metric, clock: StartClock, count: Count) -> Trend {
        let name = metric.name;
        Trend {
            name,
            definition: definition(name),
            start: start_of(name, clock),
            count,
            is_size: matches!(
                name,
                "input_tokens"
                    | "output_tokens"
                    | "cached_tokens"
                    | "reasoning_tokens"
                    | "tokens_per_event"
            ),
            is_seen_early: matches!(
                name,
                "ttft"
                    | "ttft_intended"
                    | "ttft_content"
                    | "first_event"
                    | "prefill_speed"
                    | "send_lag"
            ),
        }
    }

    fn value(&self, record: &RequestRecord) -> Option<f64> {
        self.definition?(record, start(record, self.start))
    }

    fn of_request(&self, record: &RequestRecord) -> One {
        match &record.outcome {
            Outcome::Ok => match self.value(record) {
                Some(value) => One::Value(value),
                None if self.name == "ttft_content" && record.first_token.is_some() => One::Worst,
                None => One::Undefined,
            },
            _ if self.count == Count::Ok => One::Undefined,
            Outcome::Cut => self.of_cut(record),
            _ if self.is_size || self.name == "send_lag" => One::Undefined,
            _ => One::Worst,
        }
    }

    /// What a cut request tells: an instant that was seen is exact, a time that had not ended is a lower bound.
    fn of_cut(&self, record: &RequestRecord) -> One {
        if self.is_size {
            return One::Undefined;
        }
        if self.is_seen_early
            && let Some(value) = self.value(record)
        {
            return One::Value(value);
        }
        match self.name {
            "send_lag" => One::Undefined,
            "tpot" | "tps_per_user" | "prefill_speed" => One::AtLeast(0.0),
            _ => match start(record, self.start) {
                Some(start) => One::AtLeast(seconds(start, record.finished)),
                None => One::AtLeast(0.0),
            },
        }
    }
}

fn start_of(metric: &str, clock: StartClock) -> StartClock {
    match metric {
        "ttft" | "ttft_content" | "e2e" => clock,
        "ttft_intended" | "e2e_intended" => StartClock::Intended,
        _ => StartClock::Sent,
    }
}

fn start(record: &RequestRecord, clock: StartClock) -> Option<Moment> {
    match clock {
        StartClock::Intended => Some(record.intended),
        StartClock::Sent => record.dispatched,
    }
}

fn seconds(from: Moment, to: Moment) -> f64 {
    to.ns().saturating_sub(from.ns()) as f64 / 1e9
}

/// The value of a per-request metric in base units, if the request has one.
pub fn value(record: &RequestRecord, metric: &str, clock: StartClock) -> Option<f64> {
    definition(metric)?(record, start(record, start_of(metric, clock)))
}

/// What a metric says of a request, given the start of its latencies.
type Definition = fn(&RequestRecord, Option<Moment>) -> Option<f64>;

/// The definition of a per-request metric: looked up once, asked of every request.
fn definition(metric: &str) -> Option<Definition> {
    fn between(from: Option<Moment>, to: Option<Moment>) -> Option<f64> {
        Some(seconds(from?, to?))
    }
    Some(match metric {
        "ttft" | "ttft_intended" => |record, from| between(from, record.first_token),
        "ttft_content" => |record, from| between(from, record.first_content),
        "first_event" => |record, from| between(from, record.first_event),
        "e2e" | "e2e_intended" => |record, from| between(from, record.last_token),
        "e2e_stream" => |record, from| between(from, Some(record.finished)),
        "tpot" => |record, _| tpot(record),
        "tps_per_user" => |record, from| {
            let tokens = f64::from(record.tokens.output?);
            ratio(tokens, between(from, record.last_token)?)
        },
        "prefill_speed" => |record, from| {
            let tokens = f64::from(record.tokens.input?);
            ratio(tokens, between(from, record.first_token)?)
        },
        "input_tokens" => |record, _| record.tokens.input.map(f64::from),
        "output_tokens" => |record, _| record.tokens.output.map(f64::from),
        "cached_tokens" => |record, _| record.tokens.cached.map(f64::from),
        "reasoning_tokens" => |record, _| record.tokens.reasoning.map(f64::from),
        "tokens_per_event" => |record, _| {
            let tokens = f64::from(record.tokens.output?);
            ratio(tokens, f64::from(record.events.len()))
        },
        "send_lag" => |record, _| {
            let due = record.intended + record.cap_wait;
            Some(seconds(due, record.dispatched?))
        },
        _ => return None,
    })
}

fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then_some(of / to)
}

/// Undefined, not 0, when there is no token after the first event.
fn tpot(record: &RequestRecord) -> Option<f64> {
    // One event has all the tokens, however many the engine says there were in the end.
    if record.events.len() == 1 {
        return None;
    }
    let first_event_tokens = if record.tokens.per_event_known {
        record.events.iter().next().map_or(1, |event| event.tokens)
    } else {
        1
    };
    let after = record
        .tokens
        .output?
        .checked_sub(first_event_tokens)
        .filter(|after| *after > 0)?;
    Some(seconds(record.first_token?, record.last_token?) / f64::from(after))
}

impl Samples {
    /// The values of several sets as one.
    pub(super) fn together(sets: Vec<Samples>) -> Samples {
        let mut all = Samples {
            low: Vec::with_capacity(sets.iter().map(|set| set.low.len()).sum()),
            high: None,
            worst: 0,
            cut: 0,
            undefined: 0,
        };
        let any_cut = sets.iter().any(|set| set.high.is_some());
        for set in sets {
            all.worst += set.worst;
            all.cut += set.cut;
            all.undefined += set.undefined;
            if any_cut {
                let high = set.high.as_ref().unwrap_or(&set.low);
                all.high.get_or_insert_default().extend(high);
            }
            all.low.extend(set.low);
        }
        // Each set is in order, and this sort only merges what is.
        all.low.sort_by(f64::total_cmp);
        if let Some(high) = &mut all.high {
            high.sort_by(f64::total_cmp);
        }
        all
    }

    /// The aggregate of the values.
    ///
    /// # Errors
    /// There are none, or failures leave the aggregate without a meaning.
    pub fn aggregate(&self, aggregate: Aggregate) -> Result<Measured, State> {
        let n = self.low.len() as u64;
        if n == 0 {
            return Err(no_data(match self.undefined {
                0 => "no request to measure".to_owned(),
                undefined => format!("undefined on all {undefined} answered requests"),
            }));
        }
        if aggregate == Aggregate::Count {
            return Ok(self.measured(n as f64, n as f64));
        }
        let high = self.high.as_ref().unwrap_or(&self.low);
        let both =
            |statistic: fn(&[f64]) -> f64| self.measured(statistic(&self.low), statistic(high));
        Ok(match aggregate {
            Aggregate::Percentile(percentile) => {
                let (below, above) = order_interval(n, percentile);
                let low_end = below.map_or(0.0, |rank| self.low[rank as usize - 1]);
                let high_end = above.map_or(f64::INFINITY, |rank| high[rank as usize - 1]);
                Measured {
                    interval: Some((low_end, high_end)),
                    ..self.measured(
                        nearest_rank(&self.low, percentile),
                        nearest_rank(high, percentile),
                    )
                }
            }
            Aggregate::Mean => both(mean),
            Aggregate::Sum => both(|values| values.iter().sum()),
            Aggregate::Min => both(|values| values[0]),
            Aggregate::Max => both(|values| values[values.len() - 1]),
            Aggregate::Std if self.worst + self.cut > 0 => {
                return Err(no_data(format!(
                    "a standard deviation has no meaning with {} failed and {} cut requests",
                    self.worst, self.cut
                )));
            }
            Aggregate::Std => both(standard_deviation),
            Aggregate::Whole | Aggregate::Count | Aggregate::Rate | Aggregate::Last => {
                return Err(no_data("this aggregate means nothing on a trend"));
            }
        })
    }

    fn measured(&self, low: f64, high: f64) -> Measured {
        Measured {
            low,
            high,
            n: self.low.len() as u64,
            interval: None,
            hits: None,
            worst: self.worst,
            cut: self.cut,
            undefined: self.undefined,
        }
    }
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the sample, with n − 1; 0 for one value.
pub(super) fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

// ---- gaps between output events ----

/// All gaps seen, in an HDR histogram from 1 µs to 1 h with 3 significant digits.
#[derive(Clone, Debug)]
pub struct Gaps {
    histogram: Histogram<u64>,
    sum: f64,
    squares: f64,
    least: f64,
    greatest: f64,
}

/// Pools all gaps seen, also those of requests that failed later.
///
/// # Errors
/// `itl` without the token count of each event, where events carry more than 1.2 tokens.
pub fn gaps(slices: &[Slice], metric: &'static Metric) -> Result<Gaps, State> {
    let per_token = metric.name == "itl";
    if per_token {
        tokens_of_events_are_known(slices)?;
    }
    let mut both = BothGaps::default();
    for slice in slices {
        match slice.gaps() {
            Some(known) => both.merge(known),
            None => both.add(slice.timed()),
        }
    }
    Ok(both.of(per_token))
}

/// The gaps between events and those between tokens, in one walk over the events.
#[derive(Clone, Debug, Default)]
pub struct BothGaps {
    /// Before events of one token: they are the same in both.
    same: Gaps,
    /// Before events of several tokens.
    events: Gaps,
    /// The same divided over the tokens.
    tokens: Gaps,
}

impl BothGaps {
    /// Adds the gaps of these requests.
    pub(super) fn add<'r>(&mut self, records: impl IntoIterator<Item = &'r RequestRecord>) {
        for record in records {
            let mut last: Option<Moment> = None;
            for event in record.events.iter() {
                if let Some(before) = last {
                    let gap = event.at.ns().saturating_sub(before.ns());
                    if event.tokens <= 1 {
                        self.same.record(gap, 1);
                    } else {
                        self.events.record(gap, 1);
                        self.tokens.record(gap, event.tokens);
                    }
                }
                last = Some(event.at);
            }
        }
    }

    /// Adds the gaps that others have collected.
    pub(super) fn merge(&mut self, other: &BothGaps) {
        self.same.merge(&other.same);
        self.events.merge(&other.events);
        self.tokens.merge(&other.tokens);
    }

    /// Those between tokens, or those between events.
    pub(super) fn of(&self, per_token: bool) -> Gaps {
        let mut gaps = self.same.clone();
        gaps.merge(if per_token {
            &self.tokens
        } else {
            &self.events
        });
        gaps
    }
}

fn tokens_of_events_are_known(slices: &[Slice]) -> Result<(), State> {
    let (mut unknown, mut tokens, mut events) = (false, 0u64, 0u64);
    for record in slices
        .iter()
        .flat_map(Slice::timed)
        .filter(|record| record.events.len() > 1)
    {
        if record.tokens.per_event_known {
            continue;
        }
        let counted = matches!(
            record.tokens.source,
            TokenSource::Usage | TokenSource::Tokenizer
        );
        let Some(output) = record.tokens.output.filter(|_| counted) else {
            if record.outcome == Outcome::Ok {
                return Err(no_data(
                    "the tokens of each event are not known: use `tpot` or `chunk gap`",
                ));
            }
            continue;
        };
        unknown = true;
        tokens += u64::from(output);
        events += u64::from(record.events.len());
    }
    let mean = tokens as f64 / events.max(1) as f64;
    if unknown && mean > 1.2 {
        return Err(no_data(format!(
            "an event carries {mean:.1} tokens and their number in each is not known: use `tpot` or `chunk gap`"
        )));
    }
    Ok(())
}

impl Default for Gaps {
    fn default() -> Gaps {
        Gaps {
            histogram: Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3)
                .expect("the bounds are right"),
            sum: 0.0,
            squares: 0.0,
            least: f64::INFINITY,
            greatest: 0.0,
        }
    }
}

impl Gaps {
    /// One gap, divided over `shares`: one sample a share.
    fn record(&mut self, gap_ns: u64, shares: u32) {
        let count = u64::from(shares);
        self.histogram
            .saturating_record_n((gap_ns + count / 2) / count, count);
        let gap = gap_ns as f64 / 1e9;
        let share = gap / f64::from(shares);
        self.sum += gap;
        self.squares += share * gap;
        self.least = self.least.min(share);
        self.greatest = self.greatest.max(share);
    }

    fn merge(&mut self, other: &Gaps) {
        self.histogram
            .add(&other.histogram)
            .expect("the bounds are the same");
        self.sum += other.sum;
        self.squares += other.squares;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
    }

    /// How many gaps there are.
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether there is no gap.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at a rank, from 1, at most 0.1 % too high.
    fn at_rank(&self, rank: u64) -> f64 {
        let mut seen = 0;
        for step in self.histogram.iter_recorded() {
            seen += step.count_at_value();
            if seen >= rank {
                let highest = self.histogram.highest_equivalent(step.value_iterated_to());
                return (highest as f64 / 1e9).clamp(self.least, self.greatest);
            }
        }
        self.greatest
    }

    /// The aggregate of the gaps.
    ///
    /// # Errors
    /// There are none.
    pub fn aggregate(&self, aggregate: Aggregate) -> Result<Measured, State> {
        let n = self.len();
        if n == 0 {
            return Err(no_data("no gap between output events was seen"));
        }
        if aggregate == Aggregate::Count {
            return Ok(Measured::exact(n as f64, n));
        }
        let mean = self.sum / n as f64;
        let value = match aggregate {
            Aggregate::Percentile(percentile) => {
                let (below, above) = order_interval(n, percentile);
                return Ok(Measured {
                    interval: Some((
                        below.map_or(0.0, |rank| self.at_rank(rank)),
                        above.map_or(f64::INFINITY, |rank| self.at_rank(rank)),
                    )),
                    ..Measured::exact(self.at_rank(percentile.rank(n)), n)
                });
            }
            Aggregate::Mean => mean,
            Aggregate::Min => self.least,
            Aggregate::Max => self.greatest,
            Aggregate::Std if n < 2 => 0.0,
            Aggregate::Std => ((self.squares - mean * self.sum).max(0.0) / (n - 1) as f64).sqrt(),
            Aggregate::Whole
            | Aggregate::Sum
            | Aggregate::Count
            | Aggregate::Rate
            | Aggregate::Last => {
                return Err(no_data("this aggregate means nothing on gaps"));
            }
        };
        Ok(Measured::exact(value, n))
    }
}

// ---- rates and counters ----

fn rate(
    slices: &[Slice],
    metric: &'static Metric,
    aggregate: Aggregate,
    rules: Rules,
) -> Result<Measured, State> {
    if metric.name == "prefix_hit_rate" {
        return prefix_hits(slices);
    }
    let (mut hits, mut n, mut undefined) = (0u64, 0u64, 0u64);
    for slice in slices {
        if metric.name == "goodput_ratio" && slice.cell.goodput.is_empty() {
            return Err(no_data("the scenario has no `goodput` bounds"));
        }
        if metric.name == "valid_rate" && slice.scheduled().all(|record| record.valid.is_none()) {
            return Err(no_data("no answer was compared with an `expect`"));
        }
        let good = Goodness::of(slice, rules);
        for record in slice.scheduled() {
            n += 1;
            hits += u64::from(match metric.name {
                "error_rate" => record.outcome.is_failure(),
                "drop_rate" => matches!(record.outcome, Outcome::Dropped),
                "cut_rate" => matches!(record.outcome, Outcome::Cut),
                "truncated_rate" => matches!(record.outcome, Outcome::Truncated),
                "length_stop_rate" => record.finish_reason.as_deref() == Some("length"),
                "valid_rate" => record.valid == Some(true),
                "goodput_ratio" => good.is_good(record),
                other => return Err(no_data(format!("`{other}` is not measured"))),
            });
            undefined += u64::from(metric.name == "goodput_ratio" && good.is_undefined(record));
        }
    }
    if n == 0 {
        return Err(no_data("no request was scheduled"));
    }
    if aggregate == Aggregate::Count {
        return Ok(Measured::exact(hits as f64, n));
    }
    Ok(Measured {
        interval: Some(rate_interval(hits, n)),
        hits: Some(hits),
        undefined,
        ..Measured::exact(hits as f64 / n as f64, n)
    })
}

/// The bounds of `goodput`, looked up once.
pub(super) struct Goodness<'a> {
    bounds: Vec<(&'static Metric, Trend, &'a GoodputBound)>,
}

impl<'a> Goodness<'a> {
    pub(super) fn of(slice: &Slice<'a>, rules: Rules) -> Goodness<'a> {
        let clock = rules.clock.unwrap_or(slice.default_clock());
        let bounds = slice.cell.goodput.iter().filter_map(|bound| {
            let metric = find(&bound.metric)?;
            Some((metric, Trend::of(metric, clock, Count::Ok), bound))
        });
        Goodness {
            bounds: bounds.collect(),
        }
    }

    /// Whether an answered request meets every bound that is defined for it, and at least one is.
    fn is_good(&self, record: &RequestRecord) -> bool {
        if !matches!(record.outcome, Outcome::Ok) {
            return false;
        }
        let mut defined = 0;
        for (metric, trend, bound) in self.bounds_for(record) {
            let value = match trend.of_request(record) {
                One::Value(value) => metric.dimension.to_canonical(value),
                One::Worst => return false,
                One::AtLeast(_) | One::Undefined => continue,
            };
            let met = match metric.better {
                Better::Higher => value >= bound.limit,
                Better::Lower | Better::Neither => value <= bound.limit,
            };
            if !met {
                return false;
            }
            defined += 1;
        }
        defined > 0
    }

    /// Whether a bound could not be asked of an answered request, because its metric is undefined on it.
    fn is_undefined(&self, record: &RequestRecord) -> bool {
        let mut bounds = self.bounds_for(record);
        matches!(record.outcome, Outcome::Ok)
            && bounds.any(|(_, trend, _)| trend.of_request(record) == One::Undefined)
    }

    fn bounds_for(
        &self,
        record: &RequestRecord,
    ) -> impl Iterator<Item = &(&'static Metric, Trend, &'a GoodputBound)> {
        self.bounds.iter().filter(|(.., bound)| {
            bound
                .category
                .as_ref()
                .is_none_or(|category| record.category.as_deref() == Some(category.as_str()))
        })
    }
}

/// The engine's own rate where it tells one, else cached prompt tokens as a share of prompt tokens.
fn prefix_hits(slices: &[Slice]) -> Result<Measured, State> {
    if slices
        .iter()
        .all(|slice| !slice.series("prefix_hit_rate").is_empty())
    {
        return gauge::pool(slices, "prefix_hit_rate")?.aggregate(Aggregate::Mean);
    }
    let (mut cached, mut input, mut n) = (0u64, 0u64, 0);
    for record in slices.iter().flat_map(Slice::timed) {
        if let (Some(hit), Some(of)) = (record.tokens.cached, record.tokens.input) {
            cached += u64::from(hit);
            input += u64::from(of);
            n += 1;
        }
    }
    if input == 0 {
        return Err(no_data("the engine does not tell its prefix hits"));
    }
    Ok(Measured::exact(cached as f64 / input as f64, n))
}

fn counter(
    slices: &[Slice],
    metric: &'static Metric,
    aggregate: Aggregate,
) -> Result<Measured, State> {
    let (mut sum, mut time, mut n) = (0.0, 0.0, 0);
    for slice in slices {
        let whole = slice.times().map(|times| (times.began, times.ended));
        let Some((from, to)) = slice.part.or(whole) else {
            continue;
        };
        match metric.name {
            "requests" | "errors" => {
                let errors_only = metric.name == "errors";
                let all = slice.scheduled().count() as u64;
                let failed = slice
                    .scheduled()
                    .filter(|record| record.outcome.is_failure())
                    .count() as u64;
                n += all;
                sum += if errors_only { failed } else { all } as f64;
                time += seconds(from, to);
            }
            "gpu.energy" => {
                let (from, to) = slice.window().ok_or_else(|| invalid("level not held"))?;
                sum += gauge::energy(slice, from, to)?;
                time += seconds(from, to);
                n += 1;
            }
            _ => {
                let (from, to) = slice.window().ok_or_else(|| invalid("level not held"))?;
                sum += gauge::increase(slice, metric.name, from, to)?;
                time += seconds(from, to);
                n += 1;
            }
        }
    }
    match aggregate {
        Aggregate::Rate if time == 0.0 => Err(no_data("the window has no length")),
        Aggregate::Rate => Ok(Measured::exact(sum / time, n)),
        _ => Ok(Measured::exact(sum, n)),
    }
}

// ---- flows ----

/// How finely a flow is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// Only the sum matters: a request that lies in the window needs no look at its events.
    Sum,
    /// The second of the window in which each event came matters.
    Seconds,
}

/// Calls `take` with the instant and the amount of everything that a flow counts in the window; gives the requests that counted.
fn each_in_flow(
    slice: &Slice,
    metric: &str,
    rules: Rules,
    grain: Grain,
    (from, to): (Moment, Moment),
    take: &mut dyn FnMut(Moment, f64),
) -> u64 {
    let inside = |at: Moment| from <= at && at < to;
    let good = Goodness::of(slice, rules);
    let mut requests = 0;
    for record in slice.reaching(from, to) {
        let mut counted = false;
        let mut take = |at: Moment, amount: f64| {
            counted = true;
            take(at, amount);
        };
        if metric == "output_tps" || metric == "total_tps" {
            each_output_token(record, grain, (from, to), &mut take);
        }
        let at = match metric {
            // An answer that is no stream has all its tokens at once.
            "input_tps" | "total_tps" => record
                .first_token
                .or(record.last_token)
                .map(|at| (at, f64::from(record.tokens.input.unwrap_or(0)))),
            "rps" => matches!(record.outcome, Outcome::Ok).then_some((record.finished, 1.0)),
            "goodput" => good.is_good(record).then_some((record.finished, 1.0)),
            "achieved_rate" => record.dispatched.map(|at| (at, 1.0)),
            _ => None,
        };
        if let Some((at, amount)) = at.filter(|(at, amount)| inside(*at) && *amount > 0.0) {
            take(at, amount);
        }
        requests += u64::from(counted);
    }
    requests
}

/// The output tokens of a request by arrival. Usage is the authority: where events do not tell their tokens, the request's own
/// count is spread evenly over them.
fn each_output_token(
    record: &RequestRecord,
    grain: Grain,
    (from, to): (Moment, Moment),
    take: &mut dyn FnMut(Moment, f64),
) {
    let inside = |at: Moment| from <= at && at < to;
    let (Some(first), Some(last)) = (record.first_token.or(record.last_token), record.last_token)
    else {
        if let Some(output) = record.tokens.output
            && record.events.is_empty()
            && inside(record.finished)
        {
            take(record.finished, f64::from(output));
        }
        return;
    };
    if last < from || first >= to {
        return;
    }
    let Some(output) = record.tokens.output else {
        record
            .events
            .iter()
            .filter(|event| inside(event.at))
            .for_each(|event| take(event.at, f64::from(event.tokens)));
        return;
    };
    if grain == Grain::Sum && inside(first) && inside(last) {
        take(last, f64::from(output));
        return;
    }
    let told = record.events.tokens();
    if told == 0 {
        if inside(last) {
            take(last, f64::from(output));
        }
        return;
    }
    let weight = f64::from(output) / f64::from(told);
    // Events of one second of the window go together: there are few seconds in a request and many events in a second.
    let (mut since, mut tokens, mut until) = (from, 0u64, from);
    for event in record.events.iter().filter(|event| inside(event.at)) {
        if event.at >= until {
            if tokens > 0 {
                take(since, tokens as f64 * weight);
            }
            let second = (event.at.ns() - from.ns()) / 1_000_000_000;
            (since, tokens) = (event.at, 0);
            until = Moment::from_ns(from.ns() + (second + 1) * 1_000_000_000);
        }
        tokens += u64::from(event.tokens);
    }
    if tokens > 0 {
        take(since, tokens as f64 * weight);
    }
}

fn window_of(slice: &Slice) -> Result<((Moment, Moment), f64), State> {
    match (slice.window(), slice.window_seconds()) {
        (Some(window), Some(seconds)) => Ok((window, seconds)),
        _ => Err(no_data("the window has no length")),
    }
}

fn flow(
    slices: &[Slice],
    metric: &'static Metric,
    aggregate: Aggregate,
    rules: Rules,
) -> Result<Measured, State> {
    if metric.name == "goodput" && slices.iter().any(|slice| slice.cell.goodput.is_empty()) {
        return Err(no_data("the scenario has no `goodput` bounds"));
    }
    if aggregate == Aggregate::Whole {
        let (amount, time, n) = flow_total(slices, metric.name, rules)?;
        return Ok(Measured::exact(amount / time, n));
    }
    let mut buckets = per_second(slices, metric.name, rules)?;
    if buckets.is_empty() {
        return Err(no_data("the window is shorter than one second"));
    }
    buckets.sort_unstable_by(f64::total_cmp);
    let n = buckets.len() as u64;
    match aggregate {
        Aggregate::Min => Ok(Measured::exact(buckets[0], n)),
        Aggregate::Percentile(percentile) => {
            Ok(Measured::exact(nearest_rank(&buckets, percentile), n))
        }
        _ => Err(no_data("this aggregate means nothing on a flow")),
    }
}

/// A flow of tokens is not 0 where answers came and none of them tells how many it has.
fn tells_tokens(slices: &[Slice], metric: &str) -> Result<(), State> {
    let output = |one: &RequestRecord| one.tokens.output.is_some() || one.events.tokens() > 0;
    let told = |one: &RequestRecord| match metric {
        "output_tps" => output(one),
        "input_tps" => one.tokens.input.is_some(),
        "total_tps" => output(one) && one.tokens.input.is_some(),
        _ => true,
    };
    let answered = slices.iter().flat_map(Slice::scheduled);
    let mut answered = answered.filter(|one| one.outcome == Outcome::Ok).peekable();
    if answered.peek().is_some() && !answered.any(told) {
        return Err(no_data("no answer tells how many tokens it has"));
    }
    Ok(())
}

/// The amount, the seconds and the number of requests that counted, over all slices.
fn flow_total(slices: &[Slice], metric: &str, rules: Rules) -> Result<(f64, f64, u64), State> {
    tells_tokens(slices, metric)?;
    let (mut amount, mut time, mut n) = (0.0, 0.0, 0);
    for slice in slices {
        let (window, seconds) = window_of(slice)?;
        n += each_in_flow(slice, metric, rules, Grain::Sum, window, &mut |_, one| {
            amount += one
        });
        time += seconds;
    }
    Ok((amount, time, n))
}

/// The flow in each whole second of the windows.
pub(super) fn per_second(slices: &[Slice], metric: &str, rules: Rules) -> Result<Vec<f64>, State> {
    tells_tokens(slices, metric)?;
    let mut all = Vec::new();
    for slice in slices {
        let (window, seconds) = window_of(slice)?;
        let mut buckets = vec![0.0; seconds as usize];
        each_in_flow(
            slice,
            metric,
            rules,
            Grain::Seconds,
            window,
            &mut |at, one| {
                let second = ((at.ns() - window.0.ns()) / 1_000_000_000) as usize;
                if let Some(bucket) = buckets.get_mut(second) {
                    *bucket += one;
                }
            },
        );
        all.append(&mut buckets);
    }
    Ok(all)
}

// ---- gauges and derived metrics ----

fn gauge_of(
    slices: &[Slice],
    metric: &'static Metric,
    aggregate: Aggregate,
) -> Result<Measured, State> {
    let pieces: Pieces = gauge::pool(slices, metric.name)?;
    pieces.aggregate(aggregate)
}

fn derived(slices: &[Slice], metric: &'static Metric) -> Result<Measured, State> {
    let rules = Rules {
        count: Count::All,
        clock: None,
    };
    let (tokens, time, n) = flow_total(slices, "output_tps", rules)?;
    let energy = || -> Result<f64, State> {
        if slices.iter().any(Slice::has_no_gpu_source) {
            return Err(State::Skipped("no GPU source".to_owned()));
        }
        let mut sum = 0.0;
        for slice in slices {
            let (window, _) = window_of(slice)?;
            sum += gauge::energy(slice, window.0, window.1)?;
        }
        Ok(sum)
    };
    let divided = |of: f64, by: f64, what: &str| {
        if by > 0.0 {
            Ok(Measured::exact(of / by, n))
        } else {
            Err(no_data(format!("no {what} in the window")))
        }
    };
    match metric.name {
        "energy_per_token" => divided(energy()?, tokens, "output token"),
        "tokens_per_joule" => divided(tokens, energy()?, "energy"),
        "scaling_efficiency" => {
            let mut users = 0.0;
            for slice in slices {
                let (_, seconds) = window_of(slice)?;
                users += seconds
                    * match slice.cell.stages[slice.stage].users {
                        Some(users) => f64::from(users),
                        None => {
                            gauge::pool(&[*slice], "achieved_concurrency")?
                                .aggregate(Aggregate::Mean)?
                                .low
                        }
                    };
            }
            divided(tokens / time, users / time, "user")
        }
        "cost_per_mtok" => {
            let mut dollars = 0.0;
            for slice in slices {
                let Some(price) = slice.cell.gpu_hour else {
                    return Err(no_data(
                        "the scenario names no price: `cost: { gpu_hour: … }`",
                    ));
                };
                let (_, seconds) = window_of(slice)?;
                dollars += price * gpu_count(slice)? * seconds / 3600.0;
            }
            divided(dollars * 1e6, tokens, "output token")
        }
        other => Err(no_data(format!("`{other}` is not measured"))),
    }
}

fn gpu_count(slice: &Slice) -> Result<f64, State> {
    if let crate::plan::Gpus::Nvml(devices) = &slice.cell.backend.gpus {
        return Ok(devices.len() as f64);
    }
    match slice.devices().len() {
        0 => Err(no_data("the number of GPUs is not known")),
        devices => Ok(devices as f64),
    }
}

/// Whether a percentile of this metric stands on counted samples, so that the rules for few samples apply.
pub(super) fn stands_on_samples(metric: &Metric, aggregate: Aggregate) -> Option<Percentile> {
    match (metric.kind, aggregate) {
        (Kind::Trend | Kind::Gap, Aggregate::Percentile(percentile)) => Some(percentile),
        _ => None,
    }
}
