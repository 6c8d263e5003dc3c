//! When bytes reached this machine.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::units::Moment;

/// How long an offset between wall clock and monotonic clock is trusted. Both are slewed alike; only a step moves them apart.
const OFFSET_AGE: Duration = Duration::from_secs(1);
/// A wait that takes longer than this has slept.
const SLEPT: Duration = Duration::from_micros(20);
/// A kernel stamp further than this from the read is no stamp of it (the wall clock was set in between).
const PLAUSIBLE: Duration = Duration::from_secs(600);

/// How late the load threads of a cell are, for whoever samples it from another thread. Each value is the worst since it was
/// last taken.
#[derive(Debug, Default)]
pub struct Pulse {
    read_lag_ns: AtomicU64,
    turn_ns: AtomicU64,
}

impl Pulse {
    /// The worst lag of a read behind the kernel's stamp, and the longest turn of a thread's loop, since this was last asked.
    pub fn take(&self) -> (Duration, Duration) {
        let take = |value: &AtomicU64| Duration::from_nanos(value.swap(0, Ordering::Relaxed));
        (take(&self.read_lag_ns), take(&self.turn_ns))
    }
}

/// Maps the kernel's wall-clock receive stamps to the cell's clock. One per worker thread.
#[derive(Debug)]
pub struct StampClock {
    clock: Clock,
    offset_ns: Cell<i128>,
    measured: Cell<Moment>,
    /// When the thread began the last wait in which it really slept: whatever was readable then would have kept it awake.
    asleep: Cell<Moment>,
    /// When it last looked at its sockets and might have slept, until the first read after that.
    waiting: Cell<Option<Moment>>,
    /// The last instant that the thread read from the clock.
    latest: Cell<Moment>,
    /// The first read of this turn of the thread's loop.
    turn_began: Cell<Option<Moment>>,
    /// The worst lag of its reads.
    read_lag: Cell<Duration>,
    pulse: Arc<Pulse>,
}

impl StampClock {
    /// For the cell that `clock` belongs to; how late the thread is goes to `pulse`.
    pub fn new(clock: Clock, pulse: Arc<Pulse>) -> StampClock {
        StampClock {
            clock,
            offset_ns: Cell::new(clock.wall_offset_ns()),
            measured: Cell::new(clock.now()),
            asleep: Cell::default(),
            waiting: Cell::default(),
            latest: Cell::new(clock.now()),
            turn_began: Cell::new(None),
            read_lag: Cell::default(),
            pulse,
        }
    }

    /// The cell's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The last instant that was read from the clock by way of this: not later than now, and free of cost.
    pub fn latest(&self) -> Moment {
        self.latest.get()
    }

    fn now(&self) -> Moment {
        let now = self.clock.now();
        self.latest.set(now);
        now
    }

    /// The thread looks at its sockets now, and sleeps if none of them has anything.
    pub(super) fn look(&self) -> Moment {
        let now = self.now();
        self.waiting.set(Some(now));
        if let Some(began) = self.turn_began.take() {
            let note = |worst: &AtomicU64, time: Duration| {
                let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                worst.fetch_max(ns, Ordering::Relaxed);
            };
            note(&self.pulse.turn_ns, now.since(began));
            note(&self.pulse.read_lag_ns, self.read_lag.take());
        }
        now
    }

    /// It does not sleep, whatever its sockets have.
    pub(super) fn stays_awake(&self) {
        self.waiting.set(None);
    }

    /// The first read after a look was at `now`. If that is later than the calls themselves take, the thread has slept, and
    /// every socket was empty when it began.
    fn has_read(&self, now: Moment) {
        if let Some(began) = self.waiting.take()
            && now.since(began) > SLEPT
        {
            self.asleep.set(began);
        }
        if self.turn_began.get().is_none() {
            self.turn_began.set(Some(now));
        }
    }

    /// The instant in the cell of a kernel stamp (nanoseconds since the Unix epoch) that was read at `now`; `None` if it is
    /// not plausible.
    pub fn map(&self, wall_ns: i128, now: Moment) -> Option<Moment> {
        if now.since(self.measured.get()) > OFFSET_AGE {
            self.offset_ns.set(self.clock.wall_offset_ns());
            self.measured.set(now);
        }
        let ns = u64::try_from(wall_ns - self.offset_ns.get()).ok()?;
        let stamp = Moment::from_ns(ns.min(now.ns()));
        (now.since(stamp) < PLAUSIBLE && ns < now.ns() + 1_000_000).then_some(stamp)
    }
}

/// A source of stamps for tests: called once per read, with the bytes of it.
pub type ScriptedStamp = Box<dyn FnMut(usize) -> Moment>;

/// The stamps of one connection: written by the socket at each read and write, read by whoever holds the frame.
#[derive(Default)]
pub struct Stamps {
    /// When the last read's last segment reached this machine.
    received: Cell<Moment>,
    /// When the last read returned.
    read: Cell<Moment>,
    /// Reads so far: two events with the same number came in the same read.
    reads: Cell<u64>,
    /// When the socket was last known to be empty, before the last read.
    empty_before: Cell<Moment>,
    /// When the socket was last found empty.
    empty: Cell<Moment>,
    /// When the kernel last took bytes from us.
    written: Cell<Moment>,
    /// Whether the last read had a kernel stamp.
    from_kernel: Cell<bool>,
    script: RefCell<Option<ScriptedStamp>>,
}

impl std::fmt::Debug for Stamps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamps")
            .field("received", &self.received)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

impl Stamps {
    /// Stamps that come from `script` and not from the kernel, so that a test decides them.
    pub fn scripted(script: ScriptedStamp) -> Stamps {
        Stamps {
            script: RefCell::new(Some(script)),
            ..Stamps::default()
        }
    }

    /// When the bytes of the last read reached this machine.
    pub fn received(&self) -> Moment {
        self.received.get()
    }

    /// When the last read returned to us.
    pub fn read(&self) -> Moment {
        self.read.get()
    }

    /// The number of the last read.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// When the kernel last took bytes from us.
    pub fn written(&self) -> Moment {
        self.written.get()
    }

    /// Whether the last read had a kernel stamp.
    pub fn from_kernel(&self) -> bool {
        self.from_kernel.get()
    }

    /// How late the stamp of an event may be that shared the last read with a later one: the time since the socket was last
    /// known to be empty.
    pub fn possible_error(&self) -> Duration {
        self.received.get().since(self.empty_before.get())
    }

    /// Notes a read of `bytes` bytes at the present instant. `drained`: the socket is empty now.
    pub(super) fn note_read(
        &self,
        clock: &StampClock,
        kernel_wall_ns: Option<i128>,
        bytes: usize,
        drained: bool,
    ) {
        let now = clock.now();
        clock.has_read(now);
        let kernel = kernel_wall_ns.and_then(|wall| clock.map(wall, now));
        if let Some(kernel) = kernel {
            let lag = now.since(kernel);
            clock.read_lag.set(lag.max(clock.read_lag.get()));
        }
        let received = match self.script.borrow_mut().as_mut() {
            Some(script) => script(bytes),
            None => kernel.unwrap_or(now),
        };
        // The end of a stream is no segment, so it has no stamp that could be missing.
        if bytes > 0 {
            self.from_kernel.set(kernel.is_some());
        }
        self.received.set(received.max(self.received.get()));
        self.read.set(now);
        self.reads.set(self.reads.get() + 1);
        self.empty_before
            .set(self.empty.get().max(clock.asleep.get()));
        if drained {
            self.empty.set(now);
        }
    }

    /// Notes that the socket was found empty.
    pub(super) fn note_empty(&self, clock: &StampClock) {
        self.empty.set(clock.now());
    }

    /// Notes that the kernel took bytes from us.
    pub(super) fn note_write(&self, clock: &StampClock) {
        self.written.set(clock.now());
    }
}
