//! When the next event of each stream is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::selftest::GOLDEN_SECTION;
use crate::units::Moment;

/// A stream on a connection; the generation tells a later one on the same slot from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    pub(super) slot: usize,
    pub(super) generation: u64,
}

/// Due instants, the nearest first.
#[derive(Debug, Default)]
pub(super) struct Due(BinaryHeap<Reverse<(Moment, StreamId)>>);

impl Due {
    pub(super) fn add(&mut self, at: Moment, stream: StreamId) {
        self.0.push(Reverse((at, stream)));
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// A stream whose event is due at `now`.
    pub(super) fn take(&mut self, now: Moment) -> Option<StreamId> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, stream))| stream)
    }
}

/// The instants of one answer's events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat {
    first: Moment,
    gap: Duration,
}

impl Beat {
    /// For answer number `number`, whose request arrived at `arrived`.
    pub(super) fn new(
        arrived: Moment,
        first: Duration,
        gap: Duration,
        spread: Option<u64>,
    ) -> Beat {
        // Multiples of the golden section fill a gap evenly, however many streams there are.
        let shift = spread.map_or(Duration::ZERO, |number| {
            gap.mul_f64((number as f64 * GOLDEN_SECTION).fract())
        });
        Beat {
            first: arrived + first + shift,
            gap,
        }
    }

    /// When event `event` is due, from 0.
    pub(super) fn at(&self, event: usize) -> Moment {
        self.first + self.gap * u32::try_from(event).unwrap_or(u32::MAX)
    }
}
