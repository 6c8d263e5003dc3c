//! The one monotonic clock of a cell, and the mapping of the kernel's wall-clock stamps onto it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::units::Moment;

/// A cheap handle on the monotonic clock, with the instant at which the cell began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    /// The present instant.
    pub fn now(&self) -> Moment {
        Moment::from_ns(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant of the process that `moment` stands for.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.origin + moment.since(Moment::ZERO)
    }

    /// The moment of an instant of the process; what was before this clock's zero is its zero.
    pub fn moment(&self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.origin);
        Moment::from_ns(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall-clock time of this clock's zero, for joining with other clocks; read once per run.
    pub fn wall_anchor(&self) -> SystemTime {
        SystemTime::now() - self.origin.elapsed()
    }

    /// What the machine's monotonic clock shows at this clock's zero, in nanoseconds: other processes of this machine read the
    /// same clock. On Linux it is the clock behind [`Instant`].
    ///
    /// # Errors
    /// The system has no such clock.
    pub fn monotonic_anchor_ns(&self) -> std::io::Result<u64> {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
        let now = u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX);
        Ok(now.saturating_sub(self.now().ns()))
    }

    /// Nanoseconds that the wall clock is ahead of this clock, read between two readings of it that lie close together.
    pub fn wall_offset_ns(&self) -> i128 {
        let mut best: Option<(u128, i128)> = None;
        for _ in 0..5 {
            let before = self.origin.elapsed().as_nanos();
            let wall = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_nanos());
            let after = self.origin.elapsed().as_nanos();
            let width = after - before;
            let offset = wall as i128 - ((before + after) / 2) as i128;
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, offset));
            }
            if width < 500 {
                break;
            }
        }
        best.map_or(0, |(_, offset)| offset)
    }
}
