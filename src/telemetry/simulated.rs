//! The GPU of the embedded simulator, asked by a closure so that nothing here knows the simulator.

use super::{DeviceFacts, GpuSample, Sample, TelemetrySource};
use crate::units::Moment;

/// Tells the state of the simulated GPU.
pub type Probe = Box<dyn Fn() -> GpuSample + Send>;

/// One simulated GPU.
pub struct SimulatedSource {
    name: String,
    probe: Probe,
}

impl SimulatedSource {
    /// A GPU with this name, whose state `probe` tells.
    pub fn new(name: impl Into<String>, probe: Probe) -> SimulatedSource {
        SimulatedSource {
            name: name.into(),
            probe,
        }
    }
}

impl TelemetrySource for SimulatedSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample(&mut self, _at: Moment, into: &mut Vec<Sample>) {
        (self.probe)().add_to(0, into);
    }

    fn devices(&self) -> Vec<DeviceFacts> {
        vec![DeviceFacts {
            index: 0,
            name: self.name.clone(),
            memory_bytes: (self.probe)().memory_total.map(|bytes| bytes as u64),
            driver: None,
            cuda: None,
            simulated: true,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gpu_cannot_tell_is_left_out() {
        let probe = || GpuSample {
            util: Some(0.5),
            power: Some(300.0),
            ..GpuSample::default()
        };
        let mut source = SimulatedSource::new("simulated A100", Box::new(probe));
        let mut samples = Vec::new();
        source.sample(Moment::ZERO, &mut samples);
        let expected = [
            Sample::of_device("gpu.util", 0, 0.5),
            Sample::of_device("gpu.power", 0, 300.0),
        ];
        assert_eq!(samples, expected);
        assert!(source.devices()[0].simulated);
    }
}
