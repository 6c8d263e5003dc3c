//! Plays a recording of GPUs, for tests and rehearsals.
//!
//! A recording is CSV with the header `at_s,gpu` and our names of metrics, in the units of
//! [`Series::samples`](crate::observation::Series::samples). An empty field, `[N/A]` or `[Not Supported]` is left out.

use std::collections::BTreeMap;

use super::{DeviceFacts, GpuSample, Sample, TelemetrySource};
use crate::units::Moment;

/// A recording that is played from the start of each cell.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSource {
    /// In order of time.
    rows: Vec<(Moment, u32, GpuSample)>,
}

/// The columns of a recording that is written here.
pub const HEADER: &str = "at_s,gpu,gpu.util,gpu.memory_used,gpu.memory_total,gpu.power,gpu.temperature,gpu.sm_clock,gpu.energy";

/// A line of a recording: what is not known of the device then stays empty.
pub fn line(at: Moment, device: u32, state: &BTreeMap<&'static str, f64>) -> String {
    let mut line = format!("{},{device}", at.as_secs());
    for metric in HEADER.split(',').skip(2) {
        line.push(',');
        if let Some(value) = state.get(metric) {
            line.push_str(&value.to_string());
        }
    }
    line
}

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It is not CSV.
    #[error("the recording is not CSV: {0}")]
    Csv(#[from] csv::Error),
    /// A column has a name that is not known.
    #[error("the recording has a column `{0}`; known are at_s, gpu and the gpu.* metrics")]
    Column(String),
    /// A field is not a number.
    #[error("the recording has `{text}` in column `{column}`, which is not a number")]
    Number {
        /// The column.
        column: String,
        /// The field.
        text: String,
    },
}

impl RecordedSource {
    /// Reads a recording.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn read(text: &str) -> Result<RecordedSource, RecordingError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            rows.push(row(&columns, &record?)?);
        }
        rows.sort_by_key(|(at, gpu, _)| (*at, *gpu));
        Ok(RecordedSource { rows })
    }

    /// The latest state of each GPU at `at`, by its index.
    fn states(&self, at: Moment) -> Vec<(u32, GpuSample)> {
        let mut states: Vec<(u32, GpuSample)> = Vec::new();
        for (_, gpu, sample) in self.rows.iter().take_while(|(when, _, _)| *when <= at) {
            match states.iter_mut().find(|(index, _)| index == gpu) {
                Some((_, state)) => *state = *sample,
                None => states.push((*gpu, *sample)),
            }
        }
        states
    }
}

fn row(
    columns: &[String],
    record: &csv::StringRecord,
) -> Result<(Moment, u32, GpuSample), RecordingError> {
    let (mut at, mut gpu, mut sample) = (Moment::ZERO, 0, GpuSample::default());
    for (column, text) in columns.iter().zip(record) {
        if text.is_empty() || text.starts_with('[') {
            continue;
        }
        let value: f64 = text.parse().map_err(|_| RecordingError::Number {
            column: column.clone(),
            text: text.to_owned(),
        })?;
        match column.as_str() {
            "at_s" => at = Moment::from_secs_f64(value),
            "gpu" => gpu = value as u32,
            "gpu.util" => sample.util = Some(value),
            "gpu.memory_used" => sample.memory_used = Some(value),
            "gpu.memory_total" => sample.memory_total = Some(value),
            "gpu.power" => sample.power = Some(value),
            "gpu.temperature" => sample.temperature = Some(value),
            "gpu.sm_clock" => sample.sm_clock = Some(value),
            "gpu.energy" => sample.energy = Some(value),
            other => return Err(RecordingError::Column(other.to_owned())),
        }
    }
    Ok((at, gpu, sample))
}

impl TelemetrySource for RecordedSource {
    fn name(&self) -> &str {
        "recorded GPUs"
    }

    fn sample(&mut self, at: Moment, into: &mut Vec<Sample>) {
        for (gpu, state) in self.states(at) {
            state.add_to(gpu, into);
        }
    }

    fn devices(&self) -> Vec<DeviceFacts> {
        self.states(Moment::MAX)
            .into_iter()
            .map(|(index, state)| DeviceFacts {
                index,
                name: "recorded GPU".to_owned(),
                memory_bytes: state.memory_total.map(|bytes| bytes as u64),
                driver: None,
                cuda: None,
                simulated: true,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_row_of_each_gpu_is_played_and_gaps_are_left_out() {
        let text = std::fs::read_to_string("fixtures/gpu/two-gpus.csv").unwrap();
        let mut source = RecordedSource::read(&text).unwrap();
        let mut at = |ms| {
            let mut samples = Vec::new();
            source.sample(Moment::from_ms(ms), &mut samples);
            samples
        };
        assert_eq!(
            at(700),
            [
                Sample::of_device("gpu.util", 0, 0.9),
                Sample::of_device("gpu.power", 0, 380.5),
                Sample::of_device("gpu.util", 1, 0.1),
                Sample::of_device("gpu.power", 1, 90.0),
            ]
        );
        assert_eq!(
            at(1000),
            [
                Sample::of_device("gpu.util", 0, 0.95),
                Sample::of_device("gpu.util", 1, 0.1),
                Sample::of_device("gpu.power", 1, 90.0),
            ],
            "GPU 0 did not tell its power then"
        );
    }

    #[test]
    fn what_is_written_is_played_again() {
        let state = BTreeMap::from([("gpu.power", 380.5), ("gpu.util", 0.9)]);
        let text = format!("{HEADER}\n{}\n", line(Moment::from_ms(250), 3, &state));
        assert!(text.ends_with("0.25,3,0.9,,,380.5,,,\n"), "{text}");
        let mut samples = Vec::new();
        let mut source = RecordedSource::read(&text).unwrap();
        source.sample(Moment::from_ms(250), &mut samples);
        assert_eq!(
            samples,
            [
                Sample::of_device("gpu.util", 3, 0.9),
                Sample::of_device("gpu.power", 3, 380.5),
            ]
        );
    }

    #[test]
    fn an_unknown_column_is_named() {
        let error = RecordedSource::read("at_s,gpu,watts\n0,0,1\n").unwrap_err();
        assert!(error.to_string().contains("`watts`"));
    }
}
