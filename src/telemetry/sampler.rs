//! Samples each source at the asked interval, on a thread of its own, so that a slow one delays neither the others nor the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Sample, TelemetrySource};
use crate::clock::Clock;
use crate::observation::{NotableEvent, Series};
use crate::units::Moment;

/// How long a source that is busy when the sampling ends may take to come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// Samples until it is told to stop.
pub struct Sampler {
    shared: Arc<Shared>,
    names: Vec<String>,
    clock: Clock,
}

/// What was sampled.
pub struct Sampled {
    /// One series for each metric and device, by name and device.
    pub series: Vec<Series>,
    /// What happened, in order of time.
    pub events: Vec<NotableEvent>,
    /// The sources, for the next cell; one that did not come back in time is gone.
    pub sources: Vec<Box<dyn TelemetrySource>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    running: usize,
    /// Sources that have come back, by their place.
    back: BTreeMap<usize, Box<dyn TelemetrySource>>,
    seen: Collected,
}

/// A metric, and the device that it is told of.
type Quantity = (&'static str, Option<u32>);

/// How many samples of each quantity have been told while the sampling goes on.
#[derive(Debug, Default)]
pub struct SamplesTold(BTreeMap<Quantity, usize>);

/// What has been seen so far.
#[derive(Default)]
struct Collected {
    series: BTreeMap<Quantity, Vec<(Moment, f64)>>,
    events: Vec<NotableEvent>,
}

impl Collected {
    fn add(&mut self, at: Moment, samples: impl IntoIterator<Item = Sample>) {
        for sample in samples {
            match sample {
                Sample::Value {
                    metric,
                    device,
                    value,
                } if value.is_finite() => {
                    let samples = self.series.entry((metric, device)).or_default();
                    samples.push((at, value));
                }
                Sample::Value { .. } => {}
                Sample::Event { kind, text } => self.events.push(NotableEvent { at, kind, text }),
            }
        }
    }
}

impl Sampler {
    /// Starts to sample `sources` every `every`, the first time at once. Instants are those of `clock`.
    pub fn start(
        mut sources: Vec<Box<dyn TelemetrySource>>,
        every: Duration,
        clock: Clock,
    ) -> Sampler {
        let every = every.max(Duration::from_millis(1));
        let shared = Arc::new(Shared::default());
        shared.lock().running = sources.len();
        sources.iter_mut().for_each(|source| source.begin());
        let names = sources
            .iter()
            .map(|source| source.name().to_owned())
            .collect();
        for (place, source) in sources.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("telemetry".to_owned())
                .spawn(move || {
                    crate::threads::give_way();
                    watch(place, source, every, clock, &shared)
                })
                .expect("a thread can be started");
        }
        Sampler {
            shared,
            names,
            clock,
        }
    }

    /// The latest value of a metric: of several devices the sum for power, energy and memory, else the mean.
    pub fn latest(&self, metric: &str) -> Option<f64> {
        let state = self.shared.lock();
        let latest: Vec<f64> = state
            .seen
            .series
            .iter()
            .filter(|((name, _), _)| *name == metric)
            .filter_map(|(_, samples)| samples.last().map(|(_, value)| *value))
            .collect();
        let sum = latest.iter().sum::<f64>();
        let adds_up = [
            "gpu.power",
            "gpu.energy",
            "gpu.memory_used",
            "gpu.memory_total",
        ];
        match latest.len() {
            0 => None,
            _ if adds_up.contains(&metric) => Some(sum),
            count => Some(sum / count as f64),
        }
    }

    /// The samples that were not told before; `told` is how many of each quantity were.
    pub fn news(&self, told: &mut SamplesTold) -> Vec<Series> {
        let state = self.shared.lock();
        let mut news = Vec::new();
        for (&(metric, device), samples) in &state.seen.series {
            let before = told.0.entry((metric, device)).or_default();
            if samples.len() > *before {
                news.push(Series {
                    metric: metric.into(),
                    device,
                    samples: samples[*before..].to_vec(),
                });
                *before = samples.len();
            }
        }
        news
    }

    /// What was sampled so far, without the sources, which go on.
    pub fn so_far(&self) -> Sampled {
        let series = self.news(&mut SamplesTold::default());
        let mut events = self.shared.lock().seen.events.clone();
        events.sort_by_key(|event| event.at);
        Sampled {
            series,
            events,
            sources: Vec::new(),
        }
    }

    /// Stops at once and gives what was sampled.
    pub fn stop(self) -> Sampled {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        state.stopping = true;
        self.shared.changed.notify_all();
        while state.running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.wait(state, left);
        }
        let mut seen = std::mem::take(&mut state.seen);
        let back = std::mem::take(&mut state.back);
        drop(state);
        let now = self.clock.now();
        for (place, name) in self.names.iter().enumerate() {
            if !back.contains_key(&place) {
                let text = format!("{name} did not answer within {PATIENCE:?} at the end");
                seen.add(now, [Sample::event("telemetry_lost", text)]);
            }
        }
        seen.events.sort_by_key(|event| event.at);
        Sampled {
            series: seen
                .series
                .into_iter()
                .map(|((metric, device), samples)| Series {
                    metric: metric.into(),
                    device,
                    samples,
                })
                .collect(),
            events: seen.events,
            sources: back.into_values().collect(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A source that panicked has left whole samples behind; they are worth more than the panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, at_most)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// Says that a watching thread has ended, also when it panics.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

fn watch(
    place: usize,
    mut source: Box<dyn TelemetrySource>,
    every: Duration,
    clock: Clock,
    shared: &Shared,
) {
    let _leaving = Leaving(shared);
    let mut lateness = Lateness::default();
    let mut samples = Vec::new();
    loop {
        let began = clock.now();
        source.sample(began, &mut samples);
        let ended = clock.now();
        // A value is as old as the middle of the asking.
        let at = began + ended.since(began) / 2;
        samples.extend(lateness.told(source.name(), ended.since(began), every));
        let mut state = shared.lock();
        state.seen.add(at, samples.drain(..));
        let next = next_deadline(ended, every);
        loop {
            if state.stopping {
                state.back.insert(place, source);
                return;
            }
            let left = next.since(clock.now());
            if left.is_zero() {
                break;
            }
            state = shared.wait(state, left);
        }
    }
}

/// The first multiple of `every` after `now`: a late sample does not shift the ones after it, missed ones are left out.
fn next_deadline(now: Moment, every: Duration) -> Moment {
    let every = (every.as_nanos() as u64).max(1);
    Moment::from_ns((now.ns() / every + 1) * every)
}

/// Tells once that a source is too slow for its interval.
#[derive(Default)]
struct Lateness {
    slow: u32,
    told: bool,
}

impl Lateness {
    /// Three slow answers in a row are a slow source; one may be chance.
    const ENOUGH: u32 = 3;

    fn told(&mut self, name: &str, took: Duration, every: Duration) -> Option<Sample> {
        self.slow = if took > every { self.slow + 1 } else { 0 };
        if self.told || self.slow < Self::ENOUGH {
            return None;
        }
        self.told = true;
        Some(Sample::event(
            "telemetry_slow",
            format!(
                "{name} takes {took:.0?} for a sample, longer than the interval of {every:.0?}"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    #[test]
    fn deadlines_are_absolute_and_missed_ones_are_left_out() {
        let every = Duration::from_millis(250);
        let next = |ms| next_deadline(Moment::from_ms(ms), every);
        assert_eq!(next(0), Moment::from_ms(250));
        assert_eq!(next(3), Moment::from_ms(250));
        assert_eq!(next(250), Moment::from_ms(500));
        assert_eq!(next(1130), Moment::from_ms(1250));
    }

    #[test]
    fn a_source_that_is_slow_three_times_in_a_row_is_told_once() {
        let mut lateness = Lateness::default();
        let every = Duration::from_millis(250);
        let told: Vec<bool> = [300, 300, 10, 300, 300, 300, 300]
            .iter()
            .map(|&ms| {
                let took = Duration::from_millis(ms);
                lateness.told("dcgm", took, every).is_some()
            })
            .collect();
        assert_eq!(told, [false, false, false, false, false, true, false]);
    }

    /// Counts its samples aloud; a stuck one waits until it is let go.
    struct Counting {
        count: u32,
        heard: Sender<u32>,
        stuck: Option<Receiver<()>>,
    }

    impl TelemetrySource for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        fn sample(&mut self, _at: Moment, into: &mut Vec<Sample>) {
            self.count += 1;
            into.push(Sample::value("queue", f64::from(self.count)));
            into.push(Sample::value("kv_cache", f64::NAN));
            let _ = self.heard.send(self.count);
            if let Some(stuck) = &self.stuck {
                let _ = stuck.recv();
            }
        }
    }

    #[test]
    fn samples_come_in_order_and_a_stuck_source_holds_nobody_up() {
        let (heard, hear) = channel();
        let (other_heard, other_hear) = channel();
        let (_let_go, stuck) = channel();
        let source = |heard, stuck| -> Box<dyn TelemetrySource> {
            Box::new(Counting {
                count: 0,
                heard,
                stuck,
            })
        };
        let sources = vec![source(heard, None), source(other_heard, Some(stuck))];
        let sampler = Sampler::start(sources, Duration::from_millis(1), Clock::start());
        other_hear.recv().unwrap();
        while hear.recv().unwrap() < 5 {}
        let mut told = SamplesTold::default();
        let news: Vec<f64> = (0..2)
            .flat_map(|_| sampler.news(&mut told))
            .flat_map(|series| series.samples)
            .map(|(_, value)| value)
            .collect();
        let in_order: Vec<f64> = (1..=news.len()).map(|count| count as f64).collect();
        assert_eq!(news, in_order, "each sample is news once");
        assert!(news.len() >= 4);
        let sampled = sampler.stop();
        assert_eq!(sampled.sources.len(), 1, "the stuck one is left behind");
        assert_eq!(sampled.events[0].kind, "telemetry_lost");
        let [queue] = sampled.series.as_slice() else {
            panic!("NaN is no sample: {:?}", sampled.series);
        };
        assert_eq!(&*queue.metric, "queue");
        assert!(queue.samples.len() >= 4);
        assert!(queue.samples.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
