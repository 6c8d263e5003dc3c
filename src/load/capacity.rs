//! How much one load thread can take, and how many are enough.

use serde::{Deserialize, Serialize};

use crate::plan::demand::Demand;

/// What one load thread can take before it stops being exact. `scenario selftest` measures it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Streamed events a second.
    pub events_per_second: f64,
    /// Requests a second that leave by the clock.
    pub sends_per_second: f64,
}

/// What a thread takes on a small virtual machine; see docs/performance.md.
impl Default for Capacity {
    fn default() -> Capacity {
        Capacity {
            events_per_second: 80_000.0,
            sends_per_second: 10_000.0,
        }
    }
}

/// The share of its capacity that a thread is planned for: arrivals come in bursts.
const PLANNED: f64 = 0.5;

impl Capacity {
    /// The share of one thread that `demand` asks for; above 1 it is more than one can take.
    pub fn share(&self, demand: &Demand) -> f64 {
        demand.events_per_second / self.events_per_second
            + demand.sends_per_second / self.sends_per_second
    }

    /// Load threads for `demand` on a machine with so many cores: as few as are enough, and one core is left to the telemetry.
    pub fn workers(&self, demand: &Demand, cores: u32) -> u32 {
        let enough = (self.share(demand) / PLANNED).ceil().max(1.0);
        (enough as u32).min(cores.saturating_sub(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_as_are_enough_and_no_more_than_cores_are_left() {
        let capacity = Capacity {
            events_per_second: 100_000.0,
            sends_per_second: 10_000.0,
        };
        let workers = |events_per_second, sends_per_second, cores| {
            let demand = Demand {
                events_per_second,
                sends_per_second,
                ..Demand::default()
            };
            capacity.workers(&demand, cores)
        };
        assert_eq!(workers(0.0, 0.0, 16), 1);
        assert_eq!(workers(50_000.0, 0.0, 16), 1);
        assert_eq!(workers(51_000.0, 0.0, 16), 2);
        assert_eq!(workers(100_000.0, 5_000.0, 16), 3);
        assert_eq!(workers(1e9, 0.0, 4), 3);
        assert_eq!(workers(1e9, 0.0, 1), 1);
    }
}
