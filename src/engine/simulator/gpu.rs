//! The accelerator that the model pretends to run on: utilization, power and temperature follow the steps, energy is their integral.

use crate::units::Moment;

/// What the accelerator is and how it answers to work.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuParameters {
    /// Name as a driver would report it; always marked as simulated.
    pub name: String,
    /// Memory in bytes.
    pub memory_total: u64,
    /// Bytes that the engine takes at its start: weights and the whole KV cache.
    pub memory_used: u64,
    /// Watts without work.
    pub idle_watts: f64,
    /// Watts of a decode step: the first number, plus the second for each sequence.
    pub decode_watts: (f64, f64),
    /// Watts while a prompt is worked on, and the most that the board draws.
    pub prefill_watts: f64,
    /// Share of a decode step during which a kernel runs: the first number, plus the second for each sequence.
    pub decode_busy: (f64, f64),
    /// Degrees Celsius without work.
    pub idle_celsius: f64,
    /// Degrees above idle for each watt above idle, once settled.
    pub celsius_per_watt: f64,
    /// Clock of the multiprocessors in MHz: without work, and with it.
    pub clock_mhz: (u32, u32),
}

/// One reading of the simulated accelerator.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedGpu {
    /// Its name, which says that it is simulated.
    pub name: String,
    /// Share of the time that a kernel runs, 0 to 1.
    pub utilization: f64,
    /// Bytes in use.
    pub memory_used: u64,
    /// Bytes in all.
    pub memory_total: u64,
    /// Watts.
    pub power_watts: f64,
    /// Degrees Celsius.
    pub temperature_celsius: f64,
    /// Clock of the multiprocessors in MHz.
    pub sm_clock_mhz: u32,
    /// Joules since the engine started.
    pub energy_joules: f64,
}

/// The load of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) utilization: f64,
    pub(super) watts: f64,
}

/// The state since the last change of load: enough to read the accelerator at any later instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GpuState {
    since: Moment,
    load: Load,
    joules: f64,
    celsius: f64,
}

/// Seconds in which the temperature covers 63 % of the way to where it settles.
const THERMAL_SECONDS: f64 = 25.0;

impl GpuState {
    #[cfg(test)]
    pub(super) fn since(&self) -> Moment {
        self.since
    }
}

impl GpuParameters {
    pub(super) fn idle(&self) -> Load {
        Load {
            utilization: 0.0,
            watts: self.idle_watts,
        }
    }

    /// The load of a step with `sequences` decoding, of whose time `prefill_share` goes to prompts.
    pub(super) fn working(&self, sequences: f64, prefill_share: f64) -> Load {
        let decode_busy = (self.decode_busy.0 + self.decode_busy.1 * sequences).min(1.0);
        let decode_watts = self.decode_watts.0 + self.decode_watts.1 * sequences;
        let mix = |decode: f64, prefill: f64| decode + (prefill - decode) * prefill_share;
        Load {
            utilization: mix(decode_busy, 1.0),
            watts: mix(decode_watts.min(self.prefill_watts), self.prefill_watts),
        }
    }

    pub(super) fn at_rest(&self) -> GpuState {
        GpuState {
            since: Moment::ZERO,
            load: self.idle(),
            joules: 0.0,
            celsius: self.idle_celsius,
        }
    }

    /// What the accelerator shows at `now`, given its state since the last change.
    pub(super) fn reading(&self, state: &GpuState, now: Moment) -> SimulatedGpu {
        let (joules, celsius) = self.carried_to(state, now);
        let working = state.load.utilization > 0.0;
        SimulatedGpu {
            name: self.name.clone(),
            utilization: state.load.utilization,
            memory_used: self.memory_used,
            memory_total: self.memory_total,
            power_watts: state.load.watts,
            temperature_celsius: celsius,
            sm_clock_mhz: if working {
                self.clock_mhz.1
            } else {
                self.clock_mhz.0
            },
            energy_joules: joules,
        }
    }

    /// The state from `now` on under another load.
    pub(super) fn under(&self, state: &GpuState, now: Moment, load: Load) -> GpuState {
        let (joules, celsius) = self.carried_to(state, now);
        GpuState {
            since: now,
            load,
            joules,
            celsius,
        }
    }

    fn carried_to(&self, state: &GpuState, now: Moment) -> (f64, f64) {
        let seconds = (now - state.since).as_secs_f64();
        let settled =
            self.idle_celsius + self.celsius_per_watt * (state.load.watts - self.idle_watts);
        let covered = 1.0 - libm::exp(-seconds / THERMAL_SECONDS);
        (
            state.joules + state.load.watts * seconds,
            state.celsius + (settled - state.celsius) * covered,
        )
    }
}
