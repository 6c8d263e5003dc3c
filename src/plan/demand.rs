//! What a cell will ask of the machine that sends it.

use super::{Cell, Schedule};

/// Events a second of one stream where nothing says how fast the engine is: a fast one for a single user.
pub const STREAM_SPEED: f64 = 50.0;

/// The most that a cell asks of the client at one time. An estimate: how fast streams flow is the engine's affair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// The stage that asks for most.
    pub stage: String,
    /// Streams open at the same time, where the plan says so.
    pub streams: Option<u32>,
    /// Output events a second: those of its users at [`STREAM_SPEED`], or its rate times the longest answer.
    pub events_per_second: f64,
    /// Requests a second that the plan sends by the clock; 0 where users wait for their answers.
    pub sends_per_second: f64,
}

/// What `cell` asks for.
pub fn demand(cell: &Cell) -> Demand {
    let of_stages = cell.stages.iter().map(|stage| {
        let rate = stage.rate.map_or(0.0, |rate| rate.per_second());
        let flow = stage
            .users
            .map_or(rate * f64::from(cell.request.max_tokens), |users| {
                f64::from(users) * STREAM_SPEED
            });
        Demand {
            stage: stage.name.clone(),
            streams: stage.users,
            events_per_second: flow,
            sends_per_second: rate,
        }
    });
    let of_batches = cell
        .segments
        .iter()
        .filter_map(|segment| match segment.schedule {
            Schedule::Batch { size, requests } => {
                let streams = size.map_or(requests, u64::from).min(requests);
                Some(Demand {
                    stage: cell.stages[segment.stages.start].name.clone(),
                    streams: u32::try_from(streams).ok(),
                    events_per_second: streams as f64 * STREAM_SPEED,
                    sends_per_second: 0.0,
                })
            }
            Schedule::Closed { .. } | Schedule::Open { .. } => None,
        });
    of_stages
        .chain(of_batches)
        .max_by(|a, b| a.events_per_second.total_cmp(&b.events_per_second))
        .unwrap_or_default()
}
