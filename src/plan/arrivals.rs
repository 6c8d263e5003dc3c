//! Open-loop arrivals: when each request should leave, decided before the first one does.
//!
//! The rate over time is a list of pieces; its integral Λ is the number of arrivals that are due. A process places arrivals
//! at points u₁ < u₂ < … of that integral (unit renewals), and each piece inverts its own part of Λ in closed form. All
//! arithmetic is local to a piece and rounded to nanoseconds once, so nothing drifts over a long run.

use std::sync::Arc;
use std::time::Duration;

use crate::plan::Extent;
use crate::seed::{Random, Seed};
use crate::units::{Moment, Rate};

/// Which renewal process places the arrivals on the rate curve.
#[derive(Clone, Debug, PartialEq)]
pub enum Process {
    /// Evenly, with half an interval before the first.
    Uniform,
    /// Independent arrivals.
    Poisson,
    /// Gamma-distributed gaps with this shape: below 1 burstier than Poisson, above it more even.
    Gamma(f64),
    /// At these times, in order, whatever the rate; the curve has one timed piece, which is no shorter than they are.
    Recorded(Arc<[Moment]>),
}

/// The rate over time and the process on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrivalCurve {
    /// The process.
    pub process: Process,
    /// The parts of the curve, in order of time.
    pub pieces: Vec<RatePiece>,
}

/// A part of the curve. A stage has one, or two when it opens with a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePiece {
    /// Index in the cell of the stage that it belongs to.
    pub stage: usize,
    /// What it does.
    pub form: RateForm,
}

/// What a part of the curve does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateForm {
    /// This many arrivals at one instant, whatever the process.
    Burst(u64),
    /// A rate that holds (`from` equals `to`), climbs or falls.
    Flow {
        /// The rate at its start.
        from: Rate,
        /// The rate at its end.
        to: Rate,
        /// How the rate goes from one to the other.
        shape: RampShape,
        /// How it ends. Counted: with its last arrival; a counted ramp takes the time in which that many arrivals are due
        /// and holds its last rate if the process needs longer.
        extent: Extent,
    },
}

/// How a rate goes from one value to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RampShape {
    /// The same step every second.
    Linear,
    /// The same factor every second; both rates above zero.
    Exponential,
}

/// One planned send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Index in the segment, from 0.
    pub index: u64,
    /// Index of its stage in the cell.
    pub stage: usize,
    /// Index in its stage, from 0.
    pub in_stage: u64,
    /// When, counted from the start of the segment.
    pub at: Moment,
}

/// The branch of randomness for one load on one prompt set. Backend and model are not part of it, so every backend gets the
/// same arrivals.
pub fn load_seed(seed: u64, prompts: &str, load: &str, repeat: u32) -> Seed {
    Seed::new(seed)
        .stream(prompts)
        .stream(load)
        .at(u64::from(repeat))
}

impl ArrivalCurve {
    /// The arrivals in order of time, made one by one. `seed` is the branch of the segment (see [`load_seed`]).
    pub fn arrivals(&self, seed: &Seed) -> Arrivals {
        self.arrivals_from(seed, 0.5)
    }

    /// As [`ArrivalCurve::arrivals`], with the first evenly spaced arrival due after `first` instead of half a request.
    fn arrivals_from(&self, seed: &Seed, first: f64) -> Arrivals {
        let mut gaps = Gaps::new(self.process.clone(), seed, first);
        let due = gaps.next();
        Arrivals {
            pieces: self.pieces.clone(),
            gaps,
            next_piece: 0,
            current: None,
            due,
            clock: Moment::ZERO,
            index: 0,
            in_stage: 0,
            stage: None,
            ends: Vec::new(),
        }
    }

    /// The mean number of arrivals: the integral of the rate, and the bursts.
    pub fn expected_requests(&self) -> f64 {
        if let Process::Recorded(times) = &self.process {
            return times.len() as f64;
        }
        self.pieces.iter().map(|piece| piece.form.area()).sum()
    }

    /// When each stage begins and ends, as `(stage, began, ended)`, in order. Walks the arrivals if a stage ends by count.
    pub fn stage_windows(&self, seed: &Seed) -> Vec<(usize, Moment, Moment)> {
        let mut arrivals = self.arrivals(seed);
        if self.is_counted() {
            arrivals.by_ref().for_each(drop);
        }
        let ends = if self.is_counted() {
            arrivals.ends
        } else {
            self.timed_ends()
        };
        let mut windows: Vec<(usize, Moment, Moment)> = Vec::new();
        let mut began = Moment::ZERO;
        for (piece, ended) in self.pieces.iter().zip(ends) {
            match windows.last_mut() {
                Some(window) if window.0 == piece.stage => window.2 = ended,
                _ => windows.push((piece.stage, began, ended)),
            }
            began = ended;
        }
        windows
    }

    /// When the last stage ends, where every stage ends by the clock.
    pub fn timed_end(&self) -> Option<Moment> {
        if self.is_counted() {
            return None;
        }
        self.timed_ends().last().copied()
    }

    fn is_counted(&self) -> bool {
        self.pieces.iter().any(|piece| {
            matches!(
                piece.form,
                RateForm::Flow {
                    extent: Extent::Requests(_),
                    ..
                }
            )
        })
    }

    fn timed_ends(&self) -> Vec<Moment> {
        let mut clock = Moment::ZERO;
        self.pieces
            .iter()
            .map(|piece| {
                if let RateForm::Flow {
                    extent: Extent::For(duration),
                    ..
                } = piece.form
                {
                    clock = clock + duration;
                }
                clock
            })
            .collect()
    }
}

impl RateForm {
    /// The mean number of arrivals in it.
    pub fn area(&self) -> f64 {
        match *self {
            RateForm::Burst(requests) => requests as f64,
            RateForm::Flow {
                extent: Extent::Requests(requests),
                ..
            } => requests as f64,
            RateForm::Flow {
                from,
                to,
                shape,
                extent: Extent::For(duration),
            } => Ramp::new(from, to, shape, duration.as_secs_f64()).area(),
        }
    }

    /// How long it takes on average; `None` if it never ends (a counted stage at rate zero).
    pub fn expected_duration(&self) -> Option<Duration> {
        match *self {
            RateForm::Burst(_) => Some(Duration::ZERO),
            RateForm::Flow {
                extent: Extent::For(duration),
                ..
            } => Some(duration),
            RateForm::Flow {
                from,
                to,
                shape,
                extent: Extent::Requests(requests),
            } => {
                let seconds = counted_seconds(from, to, shape, requests);
                seconds
                    .is_finite()
                    .then(|| Duration::from_secs_f64(seconds))
            }
        }
    }
}

/// Seconds in which `requests` arrivals are due on a ramp, whatever its length: linear `2N / (r₀ + r₁)`, exponential
/// `N·g / (r₁ − r₀)`.
fn counted_seconds(from: Rate, to: Rate, shape: RampShape, requests: u64) -> f64 {
    requests as f64 / Ramp::new(from, to, shape, 1.0).area()
}

/// A rate that goes from `from` to `to` in `seconds`.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    from: f64,
    to: f64,
    /// ln(to / from) of an exponential ramp; 0 stands for a linear one.
    growth: f64,
    seconds: f64,
}

impl Ramp {
    fn new(from: Rate, to: Rate, shape: RampShape, seconds: f64) -> Ramp {
        let (from, to) = (from.per_second(), to.per_second());
        let growth = match shape {
            RampShape::Exponential if from > 0.0 && to > 0.0 => libm::log(to / from),
            RampShape::Exponential | RampShape::Linear => 0.0,
        };
        Ramp {
            from,
            to,
            growth,
            seconds,
        }
    }

    fn area(&self) -> f64 {
        if self.growth == 0.0 {
            self.seconds * (self.from + self.to) / 2.0
        } else {
            self.seconds * (self.to - self.from) / self.growth
        }
    }

    /// Seconds after the start at which `due` arrivals are due.
    fn time_of(&self, due: f64) -> f64 {
        if due <= 0.0 {
            return 0.0;
        }
        if self.growth != 0.0 {
            let scale = self.growth / self.seconds;
            return libm::log1p(due * scale / self.from) / scale;
        }
        // The rationalised root of r₀·τ + a·τ²/2 = w: no branch for a = 0, no cancellation.
        let slope = if self.seconds > 0.0 {
            (self.to - self.from) / self.seconds
        } else {
            0.0
        };
        let discriminant = (self.from * self.from + 2.0 * slope * due).max(0.0);
        2.0 * due / (self.from + libm::sqrt(discriminant))
    }
}

/// Unit renewals: the gaps between arrivals in operational time, mean 1.
#[derive(Clone, Debug)]
struct Gaps {
    process: Process,
    random: Random,
    first: Option<f64>,
}

impl Gaps {
    fn new(process: Process, seed: &Seed, first: f64) -> Gaps {
        Gaps {
            process,
            random: seed.stream("arrivals").rng(),
            first: Some(first),
        }
    }

    fn next(&mut self) -> f64 {
        let first = self.first.take();
        match self.process {
            Process::Uniform => first.unwrap_or(1.0),
            Process::Poisson => self.random.exponential(),
            Process::Gamma(shape) => self.random.gamma_mean_one(shape),
            // Its arrivals are not renewals.
            Process::Recorded(_) => 0.0,
        }
    }
}

/// The arrivals of a curve, in order of time and in constant memory.
#[derive(Clone, Debug)]
pub struct Arrivals {
    pieces: Vec<RatePiece>,
    gaps: Gaps,
    next_piece: usize,
    current: Option<Current>,
    /// Operational time from the start of the current piece to the next arrival.
    due: f64,
    /// The end of the last finished piece.
    clock: Moment,
    index: u64,
    in_stage: u64,
    stage: Option<usize>,
    /// The end of each finished piece.
    ends: Vec<Moment>,
}

/// The piece that is being walked.
#[derive(Clone, Copy, Debug)]
enum Current {
    Burst {
        left: u64,
    },
    Timed {
        ramp: Ramp,
        area: f64,
        duration: Duration,
    },
    Counted {
        ramp: Ramp,
        area: f64,
        left: u64,
        last: Moment,
    },
}

impl Current {
    fn of(form: RateForm, clock: Moment) -> Current {
        match form {
            RateForm::Burst(requests) => Current::Burst { left: requests },
            RateForm::Flow {
                from,
                to,
                shape,
                extent: Extent::For(duration),
            } => {
                let ramp = Ramp::new(from, to, shape, duration.as_secs_f64());
                Current::Timed {
                    ramp,
                    area: ramp.area(),
                    duration,
                }
            }
            RateForm::Flow {
                from,
                to,
                shape,
                extent: Extent::Requests(requests),
            } => {
                let seconds = counted_seconds(from, to, shape, requests);
                let ramp = Ramp::new(from, to, shape, seconds);
                Current::Counted {
                    ramp,
                    area: ramp.area(),
                    left: requests,
                    last: clock,
                }
            }
        }
    }
}

impl Arrivals {
    fn arrive(&mut self, stage: usize, at: Moment) -> Arrival {
        let arrival = Arrival {
            index: self.index,
            stage,
            in_stage: self.in_stage,
            at,
        };
        self.index += 1;
        self.in_stage += 1;
        arrival
    }

    fn finish_piece(&mut self, end: Moment) {
        self.clock = end;
        self.ends.push(end);
        self.current = None;
    }

    fn begin_piece(&mut self) -> Option<(usize, Current)> {
        let piece = *self.pieces.get(self.next_piece)?;
        self.next_piece += 1;
        if self.stage != Some(piece.stage) {
            self.stage = Some(piece.stage);
            self.in_stage = 0;
        }
        Some((piece.stage, Current::of(piece.form, self.clock)))
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if let Process::Recorded(times) = &self.gaps.process {
            let at = *times.get(self.index as usize)?;
            let stage = self.pieces.first()?.stage;
            return Some(self.arrive(stage, at));
        }
        loop {
            let (stage, current) = match (self.current, self.stage) {
                (Some(current), Some(stage)) => (stage, current),
                _ => self.begin_piece()?,
            };
            match current {
                Current::Burst { left: 0 } => self.finish_piece(self.clock),
                Current::Burst { left } => {
                    self.current = Some(Current::Burst { left: left - 1 });
                    return Some(self.arrive(stage, self.clock));
                }
                Current::Timed { area, duration, .. } if self.due > area => {
                    self.due -= area;
                    self.finish_piece(self.clock + duration);
                }
                Current::Timed { ramp, duration, .. } => {
                    self.current = Some(current);
                    let end = self.clock + duration;
                    let at = after(self.clock, ramp.time_of(self.due)).min(end);
                    self.due += self.gaps.next();
                    return Some(self.arrive(stage, at));
                }
                Current::Counted { left: 0, last, .. } => self.finish_piece(last),
                Current::Counted {
                    ramp, area, left, ..
                } => {
                    let seconds = if self.due <= area {
                        ramp.time_of(self.due)
                    } else {
                        ramp.seconds + (self.due - area) / ramp.to
                    };
                    if !seconds.is_finite() {
                        // A counted stage whose rate has come to zero never gets its last arrivals.
                        return None;
                    }
                    let at = after(self.clock, seconds);
                    let gap = self.gaps.next();
                    // The stage ends with its last arrival: the next gap counts from there.
                    self.due = if left == 1 { gap } else { self.due + gap };
                    self.current = Some(Current::Counted {
                        ramp,
                        area,
                        left: left - 1,
                        last: at,
                    });
                    return Some(self.arrive(stage, at));
                }
            }
        }
    }
}

fn after(start: Moment, seconds: f64) -> Moment {
    Moment::from_ns(
        start
            .ns()
            .saturating_add(Moment::from_secs_f64(seconds).ns()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(from: f64, to: f64, shape: RampShape, extent: Extent) -> RateForm {
        let rate = |value| Rate::new(value).unwrap();
        RateForm::Flow {
            from: rate(from),
            to: rate(to),
            shape,
            extent,
        }
    }

    fn linear(from: f64, to: f64, seconds: f64) -> RateForm {
        flow(
            from,
            to,
            RampShape::Linear,
            Extent::For(Duration::from_secs_f64(seconds)),
        )
    }

    fn counted(from: f64, to: f64, requests: u64) -> RateForm {
        flow(from, to, RampShape::Linear, Extent::Requests(requests))
    }

    fn curve(process: Process, forms: &[RateForm]) -> ArrivalCurve {
        let pieces = forms
            .iter()
            .enumerate()
            .map(|(stage, form)| RatePiece { stage, form: *form })
            .collect();
        ArrivalCurve { process, pieces }
    }

    fn seed() -> Seed {
        load_seed(1, "chat", "steady", 0)
    }

    fn seconds(arrivals: impl Iterator<Item = Arrival>) -> Vec<f64> {
        arrivals
            .map(|arrival| (arrival.at.as_secs() * 1e3).round() / 1e3)
            .collect()
    }

    fn hill() -> ArrivalCurve {
        curve(
            Process::Uniform,
            &[
                linear(0.0, 1.0, 5.0),
                linear(1.0, 1.0, 1.0),
                linear(1.0, 0.0, 5.0),
            ],
        )
    }

    #[test]
    fn a_hill_of_rates_has_its_arrivals_at_the_golden_instants() {
        assert_eq!(
            seconds(hill().arrivals(&seed())),
            [2.236, 3.873, 5.000, 6.000, 7.127, 8.764]
        );
    }

    #[test]
    fn with_the_offsets_of_k6_the_hill_has_the_instants_of_k6() {
        assert_eq!(
            seconds(hill().arrivals_from(&seed(), 1.0)),
            [3.162, 4.472, 5.500, 6.528, 7.838, 11.000]
        );
    }

    #[test]
    fn a_ramp_from_zero_to_ten_in_ten_seconds_sends_fifty() {
        let arrivals =
            seconds(curve(Process::Uniform, &[linear(0.0, 10.0, 10.0)]).arrivals(&seed()));
        assert_eq!(arrivals.len(), 50);
        assert_eq!(arrivals[..5], [1.000, 1.732, 2.236, 2.646, 3.000]);
    }

    #[test]
    fn an_exponential_ramp_has_half_of_its_area_late() {
        let rate = |value| Rate::new(value).unwrap();
        let ramp = Ramp::new(rate(1.0), rate(16.0), RampShape::Exponential, 120.0);
        assert_eq!(format!("{:.4}", ramp.area()), "649.2128");
        assert_eq!(format!("{:.4}", ramp.time_of(ramp.area() / 2.0)), "92.6239");
        let falling = Ramp::new(rate(16.0), rate(1.0), RampShape::Exponential, 120.0);
        assert_eq!(
            format!("{:.4}", falling.time_of(falling.area() / 2.0)),
            "27.3761"
        );
    }

    #[test]
    fn counts_of_gamma_arrivals_have_the_variance_of_their_burstiness() {
        for (shape, expected) in [(0.25, 4.0), (1.0, 1.0), (4.0, 0.25)] {
            let flat = curve(Process::Gamma(shape), &[linear(30.0, 30.0, 10.0)]);
            let counts: Vec<f64> = (0..2000)
                .map(|repeat| flat.arrivals(&load_seed(1, "a", "b", repeat)).count() as f64)
                .collect();
            let mean = counts.iter().sum::<f64>() / 2000.0;
            let variance = counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 2000.0;
            let ratio = variance / mean / expected;
            assert!(
                (0.9..1.15).contains(&ratio),
                "shape {shape}: {}",
                variance / mean
            );
        }
    }

    #[test]
    fn a_poisson_process_has_the_same_bits_on_every_machine() {
        let steady = curve(Process::Poisson, &[linear(8.0, 8.0, 60.0)]);
        let first: Vec<u64> = steady
            .arrivals(&seed())
            .take(5)
            .map(|a| a.at.ns())
            .collect();
        assert_eq!(first, GOLDEN_POISSON);
        let bursty = curve(Process::Gamma(0.5), &[linear(8.0, 8.0, 60.0)]);
        let first: Vec<u64> = bursty
            .arrivals(&seed())
            .take(5)
            .map(|a| a.at.ns())
            .collect();
        assert_eq!(first, GOLDEN_GAMMA);
    }

    #[test]
    fn a_pause_sends_nothing_and_a_jump_takes_no_time() {
        let paused = curve(
            Process::Uniform,
            &[
                linear(1.0, 1.0, 2.0),
                linear(0.0, 0.0, 10.0),
                linear(0.0, 4.0, 0.0),
                linear(4.0, 4.0, 1.0),
            ],
        );
        assert_eq!(
            seconds(paused.arrivals(&seed())),
            [0.5, 1.5, 12.125, 12.375, 12.625, 12.875]
        );
    }

    #[test]
    fn a_burst_sends_its_requests_at_one_instant_whatever_the_process() {
        for process in [Process::Uniform, Process::Poisson] {
            let burst = curve(process, &[linear(0.0, 0.0, 3.0), RateForm::Burst(4)]);
            assert_eq!(seconds(burst.arrivals(&seed())), [3.0; 4]);
        }
    }

    #[test]
    fn a_burst_and_the_flow_after_it_are_one_stage() {
        let mut burst = curve(
            Process::Uniform,
            &[RateForm::Burst(2), linear(1.0, 1.0, 2.0)],
        );
        burst.pieces[1].stage = 0;
        let arrivals: Vec<(u64, f64)> = burst
            .arrivals(&seed())
            .map(|arrival| (arrival.in_stage, arrival.at.as_secs()))
            .collect();
        assert_eq!(arrivals, [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.5)]);
        assert_eq!(
            burst.stage_windows(&seed()),
            [(0, Moment::ZERO, Moment::from_ms(2000))]
        );
    }

    #[test]
    fn a_counted_stage_ends_with_its_last_arrival() {
        let counted_then_timed = curve(
            Process::Uniform,
            &[counted(2.0, 2.0, 3), linear(1.0, 1.0, 2.0)],
        );
        let arrivals: Vec<(usize, u64, f64)> = counted_then_timed
            .arrivals(&seed())
            .map(|arrival| (arrival.stage, arrival.in_stage, arrival.at.as_secs()))
            .collect();
        assert_eq!(
            arrivals,
            [
                (0, 0, 0.25),
                (0, 1, 0.75),
                (0, 2, 1.25),
                (1, 0, 2.25),
                (1, 1, 3.25)
            ]
        );
        assert_eq!(
            counted_then_timed.stage_windows(&seed()),
            [
                (0, Moment::ZERO, Moment::from_ms(1250)),
                (1, Moment::from_ms(1250), Moment::from_ms(3250)),
            ]
        );
    }

    #[test]
    fn a_counted_stage_of_a_random_process_has_exactly_its_count() {
        for repeat in 0..100 {
            let ramp = curve(Process::Poisson, &[counted(1.0, 20.0, 137)]);
            assert_eq!(ramp.arrivals(&load_seed(1, "a", "b", repeat)).count(), 137);
        }
    }

    #[test]
    fn a_counted_stage_at_rate_zero_ends_instead_of_waiting_for_ever() {
        assert_eq!(
            curve(Process::Uniform, &[counted(0.0, 0.0, 5)])
                .arrivals(&seed())
                .count(),
            0
        );
    }

    #[test]
    fn evenly_spaced_counts_follow_the_integral_within_a_half_at_every_edge() {
        let forms = [
            linear(0.0, 3.7, 11.0),
            linear(3.7, 0.9, 7.3),
            linear(0.9, 0.9, 20.0),
        ];
        let all = curve(Process::Uniform, &forms);
        let mut area = 0.0;
        for edge in 1..=forms.len() {
            area += forms[edge - 1].area();
            let sent = all
                .arrivals(&seed())
                .filter(|arrival| arrival.stage < edge)
                .count();
            assert!((sent as f64 - area).abs() <= 0.5 + 1e-9, "{sent} of {area}");
        }
        assert_eq!(all.expected_requests(), area);
    }

    #[test]
    fn a_million_arrivals_keep_their_order_and_their_grid() {
        let mut last = Moment::ZERO;
        let mut count = 0u64;
        let long = curve(Process::Uniform, &[linear(100.0, 100.0, 10_000.0)]);
        for arrival in long.arrivals(&seed()) {
            assert!(arrival.at >= last);
            last = arrival.at;
            count += 1;
        }
        assert_eq!(count, 1_000_000);
        assert_eq!(last, Moment::from_ms(9_999_995));
    }

    #[test]
    fn backends_are_no_part_of_the_seed_but_repeats_are() {
        assert_eq!(load_seed(1, "chat", "steady", 0).hash(), seed().hash());
        assert_ne!(load_seed(1, "chat", "steady", 1).hash(), seed().hash());
        assert_ne!(load_seed(1, "code", "steady", 0).hash(), seed().hash());
    }

    const GOLDEN_POISSON: [u64; 5] = [4_517_173, 82_847_658, 293_242_631, 379_389_298, 381_180_088];
    const GOLDEN_GAMMA: [u64; 5] = [42_959_676, 43_143_895, 73_929_837, 135_911_526, 143_177_686];
}
