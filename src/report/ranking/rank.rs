//! Where backends can be compared, and which questions are asked there.

use std::collections::BTreeMap;

use super::contest::{Asked, Entrant, Held, hold};
use super::model::{Engine, EngineStatus, LeftOut, Ranking};
use super::sentences;
use crate::report::model::{Cell, CellStatus, Report, Stage, StageNumbers};
use crate::report::told::{Told, distinct, is_simulated, sent_alike, survivors, tripped};
use crate::report::wording;

/// How often all intervals of a ranking are to hold at once.
const CONFIDENCE: f64 = 0.95;

/// What counts in the overall score, and how much, where the scenario does not say.
const WEIGHTS: [(&str, f64); 3] = [
    ("throughput", 0.4),
    ("latency_p50", 0.3),
    ("efficiency", 0.3),
];

/// What a backend can be ranked by: the name in weights, the statistic, and the same for people.
const CRITERIA: [(&str, &str, &str); 7] = [
    ("throughput", "output_tps", "throughput"),
    ("latency_p50", "e2e.p50", "E2E P50"),
    ("latency_p95", "e2e.p95", "E2E P95"),
    ("ttft_p50", "ttft.p50", "TTFT P50"),
    ("ttft_p95", "ttft.p95", "TTFT P95"),
    ("tpot_p95", "tpot.p95", "TPOT P95"),
    ("efficiency", "energy_per_token", "energy per token"),
];

/// Statistics that a row of an engine tells.
const TOLD: [&str; 12] = [
    "output_tps",
    "rps",
    "ttft.p50",
    "ttft.p95",
    "e2e.mean",
    "e2e.p50",
    "e2e.p95",
    "tpot.p50",
    "gpu.util.mean",
    "gpu.memory_used.max",
    "gpu.power.mean",
    "energy_per_token",
];

/// Ranks the backends of a report by these weights; `None` where there is only one.
pub fn rank(report: &Report, weights: &BTreeMap<String, f64>) -> Option<Ranking> {
    let backends = distinct(report.cells.iter().map(|cell| cell.backend.as_str()));
    if backends.len() < 2 {
        return None;
    }
    let places = places(report, &backends);
    let mut left_out: Vec<LeftOut> = places.iter().flat_map(|place| place.left_out()).collect();
    let entrants = entrants(&backends, &places);
    for backend in &backends {
        if !entrants.contains(backend) {
            left_out.push(LeftOut {
                backend: (*backend).to_owned(),
                place: None,
                reason: "it has numbers that can be compared in fewer than half of the places"
                    .to_owned(),
            });
        }
    }
    // A place counts where every ranked backend has numbers.
    let shared: Vec<&Place> = places
        .iter()
        .filter(|place| {
            let ranked = |seat: &&Seat| entrants.contains(&seat.backend);
            place
                .seats
                .iter()
                .filter(ranked)
                .all(|seat| seat.doubt.is_none())
        })
        .filter(|_| entrants.len() > 1)
        .collect();
    let overall = Asked {
        id: "overall",
        title: "best overall",
        criteria: weighted(weights),
        seats: everywhere(&entrants, &shared),
    };
    let held = questions(&entrants, &shared);
    let intervals = std::iter::once(&overall)
        .chain(held.iter().flatten())
        .map(Asked::intervals)
        .sum::<usize>();
    let tail = (1.0 - CONFIDENCE) / 2.0 / intervals.max(1) as f64;
    let shown = |backend: &str| wording::marked(report, backend, backend);
    let settle = |asked: &Asked| Some(sentences::told(hold(asked, tail)?, &shown));
    let [criteria, use_cases, findings] =
        held.map(|asked| asked.iter().filter_map(settle).collect::<Vec<_>>());
    let overall =
        settle(&overall).unwrap_or_else(|| sentences::nothing(&overall, &left_out, &shown));
    Some(Ranking {
        confidence: CONFIDENCE,
        intervals,
        weights: overall_weights(weights),
        places: shared.iter().map(|place| place.name.clone()).collect(),
        engines: backends
            .iter()
            .map(|backend| {
                let ranked = entrants.contains(backend) && !shared.is_empty();
                engine(report, backend, ranked, &places, &left_out)
            })
            .collect(),
        overall,
        criteria,
        use_cases,
        findings,
        left_out,
    })
}

/// What backends can be ranked by.
pub fn names() -> impl Iterator<Item = &'static str> {
    CRITERIA.iter().map(|(name, ..)| *name)
}

/// The weights that are taken when none are given.
pub fn default_weights() -> BTreeMap<String, f64> {
    WEIGHTS
        .iter()
        .map(|(name, weight)| ((*name).to_owned(), *weight))
        .collect()
}

fn overall_weights(weights: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let sum: f64 = weights.values().sum();
    weights
        .iter()
        .map(|(name, weight)| (name.clone(), weight / sum))
        .collect()
}

// ---- places ----------------------------------------------------------------------------------------------------------

/// Where backends meet: a cell without its backend, and one of its measured stages.
struct Place<'a> {
    name: String,
    /// What is before the stage in its name: places of one group are levels of one load.
    group: String,
    /// Users, or requests per second.
    level: Option<f64>,
    seats: Vec<Seat<'a>>,
}

/// One backend in one place.
struct Seat<'a> {
    backend: &'a str,
    stage: Option<&'a Stage>,
    /// Why its numbers are not compared.
    doubt: Option<String>,
}

impl Place<'_> {
    fn left_out(&self) -> Vec<LeftOut> {
        let doubted = self.seats.iter().filter_map(|seat| {
            Some(LeftOut {
                backend: seat.backend.to_owned(),
                place: Some(self.name.clone()),
                reason: seat.doubt.clone()?,
            })
        });
        doubted.collect()
    }

    fn seat(&self, backend: &str) -> Option<&Seat<'_>> {
        self.seats.iter().find(|seat| seat.backend == backend)
    }
}

/// The id of a cell without its backend.
fn group(cell: &Cell) -> &str {
    let rest = cell.id.strip_prefix(cell.backend.as_str());
    rest.and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(&cell.id)
}

fn places<'a>(report: &'a Report, backends: &[&'a str]) -> Vec<Place<'a>> {
    let mut places = Vec::new();
    for one in distinct(report.cells.iter().map(group)) {
        let cells: Vec<&Cell> = report
            .cells
            .iter()
            .filter(|cell| group(cell) == one)
            .collect();
        let stages = cells.iter().flat_map(|cell| &cell.stages);
        let measured = stages.filter(|stage| stage.measured);
        for name in distinct(measured.map(|stage| stage.name.as_str())) {
            let mut place = Place {
                name: format!("{one} {name}"),
                group: one.to_owned(),
                level: None,
                seats: Vec::new(),
            };
            for backend in backends {
                let cell = cells.iter().find(|cell| cell.backend == **backend);
                let stage = cell.and_then(|cell| {
                    let mut stages = cell.stages.iter();
                    stages.find(|stage| stage.name == name)
                });
                place.level = place
                    .level
                    .or(stage.and_then(|stage| stage.users.map(f64::from).or(stage.rate)));
                place.seats.push(Seat {
                    backend,
                    stage,
                    doubt: doubt(report, cell.copied(), stage),
                });
            }
            doubt_others(report, &cells, &mut place);
            places.push(place);
        }
    }
    places
}

/// Why the numbers of a stage say nothing about its engine.
fn doubt(report: &Report, cell: Option<&Cell>, stage: Option<&Stage>) -> Option<String> {
    let (Some(cell), Some(stage)) = (cell, stage) else {
        return Some("it was not asked here".to_owned());
    };
    if report.smoke {
        return Some(
            "a smoke run shows that a scenario works, not how an engine performs".to_owned(),
        );
    }
    let Some(numbers) = &stage.numbers else {
        let ended = cell.runs.iter().find_map(|run| run.reason.clone());
        return Some(ended.unwrap_or_else(|| "it never began".to_owned()));
    };
    if numbers.ok == 0 {
        return Some(format!("no request of {} was answered", numbers.planned));
    }
    if let Some(guard) = tripped(report, cell, stage) {
        return Some(format!("{} tripped: {}", guard.id, guard.message));
    }
    if let Some(failed) = survivors(report, cell, stage) {
        return Some(failed);
    }
    Told::of(stage, "output_tps")
        .map_or_else(
            || Err("it has no output tokens per second".to_owned()),
            |told| told.error(),
        )
        .err()
}

/// Backends that were sent something else, or are simulated beside measured ones, are not compared with the first of a place.
fn doubt_others(report: &Report, cells: &[&Cell], place: &mut Place) {
    let cell_of = |backend: &str| cells.iter().find(|cell| cell.backend == backend).copied();
    let first = place.seats.iter().find(|seat| seat.doubt.is_none());
    let first = first.and_then(|seat| Some((cell_of(seat.backend)?, seat.stage?)));
    let Some((first, first_stage)) = first else {
        return;
    };
    for seat in place.seats.iter_mut().filter(|seat| seat.doubt.is_none()) {
        let (Some(cell), Some(stage)) = (cell_of(seat.backend), seat.stage) else {
            continue;
        };
        if cell.digest != first.digest {
            seat.doubt = Some(format!(
                "what is sent differs from what `{}` got",
                first.backend
            ));
        } else if is_simulated(report, cell) != is_simulated(report, first) {
            seat.doubt = Some("one is simulated, the other measured".to_owned());
        } else if !report.imported.is_empty() {
            seat.doubt = sent_alike(first_stage, stage).err();
        }
    }
}

/// The backends that have numbers in at least half of the places where there are any.
fn entrants<'a>(backends: &[&'a str], places: &[Place]) -> Vec<&'a str> {
    let usable = |place: &&Place| place.seats.iter().any(|seat| seat.doubt.is_none());
    let usable: Vec<&Place> = places.iter().filter(usable).collect();
    let ranked = backends.iter().filter(|backend| {
        let has = |place: &&&Place| place.seat(backend).is_some_and(|seat| seat.doubt.is_none());
        let with = usable.iter().filter(has).count();
        with > 0 && with * 2 >= usable.len()
    });
    ranked.copied().collect()
}

// ---- questions -------------------------------------------------------------------------------------------------------

/// Everything, by every backend.
fn everywhere<'a>(entrants: &[&'a str], places: &[&'a Place]) -> Vec<Entrant<'a>> {
    seats(entrants, places, |_, _| true)
}

/// The stages of each backend in the places that are wanted of it.
fn seats<'a>(
    entrants: &[&'a str],
    places: &[&'a Place],
    is_wanted: impl Fn(&str, &Place) -> bool,
) -> Vec<Entrant<'a>> {
    let of = |backend: &&'a str| Entrant {
        backend,
        held: places
            .iter()
            .filter(|place| is_wanted(backend, place))
            .filter_map(|place| {
                Some(Held {
                    place: place.name.clone(),
                    stage: place.seat(backend)?.stage?,
                    over: None,
                })
            })
            .collect(),
    };
    entrants.iter().map(of).collect()
}

/// The highest level of each load over its lowest.
fn growth<'a>(entrants: &[&'a str], places: &[&'a Place]) -> Vec<Entrant<'a>> {
    let ends = |group: &str| {
        let own = places.iter().filter(|place| place.group == group);
        let mut levels: Vec<(f64, &&Place)> = own
            .filter_map(|place| Some((place.level?, place)))
            .collect();
        levels.sort_by(|one, other| one.0.total_cmp(&other.0));
        match (levels.first(), levels.last()) {
            (Some(low), Some(high)) if low.0 < high.0 => Some((*low.1, *high.1)),
            _ => None,
        }
    };
    let pairs: Vec<(&'a Place, &'a Place)> =
        distinct(places.iter().map(|place| place.group.as_str()))
            .into_iter()
            .filter_map(ends)
            .collect();
    let of = |backend: &&'a str| Entrant {
        backend,
        held: pairs
            .iter()
            .filter_map(|(low, high)| {
                let stage = |place: &'a Place<'a>| place.seat(backend)?.stage;
                let over = stage(low)?;
                Some(Held {
                    place: format!("{} over {}", high.name, over.name),
                    stage: stage(high)?,
                    over: Some(over),
                })
            })
            .collect(),
    };
    entrants.iter().map(of).collect()
}

/// The criteria, the use cases, and what may stand out.
fn questions<'a>(entrants: &[&'a str], places: &[&'a Place]) -> [Vec<Asked<'a>>; 3] {
    let all = || everywhere(entrants, places);
    let at_level = |is_end: fn(f64, f64) -> bool| {
        seats(entrants, places, |_, place| {
            let others = places.iter().filter(|other| other.group == place.group);
            let mut levels = others.filter_map(|other| Some((other.level?, place.level?)));
            levels.all(|(other, own)| is_end(own, other))
        })
    };
    let highest = || at_level(|own, other| own >= other);
    let lowest = || at_level(|own, other| own <= other);
    let peak = || {
        seats(entrants, places, |backend, place| {
            let tps = |place: &Place| {
                let stage = place.seat(backend)?.stage?;
                Some(Told::of(stage, "output_tps")?.value)
            };
            let group = places.iter().filter(|other| other.group == place.group);
            let best = group.filter_map(|other| tps(other)).fold(0.0, f64::max);
            tps(place) == Some(best)
        })
    };
    let several_levels = places.iter().any(|one| {
        let mut others = places.iter().filter(|other| other.group == one.group);
        others.any(|other| other.level != one.level)
    });
    let asked = |id, title, criteria: &[(&'static str, f64)], seats| Asked {
        id,
        title,
        criteria: criteria
            .iter()
            .map(|(name, weight)| criterion(name, *weight))
            .collect(),
        seats,
    };
    let criteria = vec![
        asked(
            "throughput",
            "highest throughput",
            &[("throughput", 1.0)],
            all(),
        ),
        asked(
            "latency_p50",
            "lowest E2E P50",
            &[("latency_p50", 1.0)],
            all(),
        ),
        asked(
            "latency_p95",
            "lowest E2E P95",
            &[("latency_p95", 1.0)],
            all(),
        ),
        asked(
            "efficiency",
            "least energy per token",
            &[("efficiency", 1.0)],
            all(),
        ),
    ];
    let use_cases = vec![
        asked(
            "interactive",
            "interactive use (chat)",
            &[("ttft_p95", 0.5), ("tpot_p95", 0.5)],
            all(),
        ),
        asked(
            "batch",
            "batch work at full load",
            &[("throughput", 1.0)],
            highest(),
        ),
        asked(
            "power_constrained",
            "a limited power supply",
            &[("efficiency", 1.0)],
            all(),
        ),
        asked(
            "maximum_throughput",
            "maximum throughput at any load",
            &[("throughput", 1.0)],
            peak(),
        ),
    ];
    let at = |id, title, statistic: &'static str, name: &'static str, seats| Asked {
        id,
        title,
        criteria: vec![(statistic, name, 1.0)],
        seats,
    };
    let mut findings = Vec::new();
    if several_levels {
        findings.extend([
            at(
                "low_load_rps",
                "requests per second at the lowest load",
                "rps",
                "requests",
                lowest(),
            ),
            at(
                "low_load_latency",
                "E2E P50 at the lowest load",
                "e2e.p50",
                "E2E P50",
                lowest(),
            ),
        ]);
    }
    findings.extend([
        at(
            "high_load_rps",
            "requests per second at the highest load",
            "rps",
            "requests",
            highest(),
        ),
        at(
            "high_load_latency",
            "E2E P50 at the highest load",
            "e2e.p50",
            "E2E P50",
            highest(),
        ),
        at(
            "high_load_ttft",
            "TTFT P95 at the highest load",
            "ttft.p95",
            "TTFT P95",
            highest(),
        ),
        at(
            "peak_throughput",
            "peak throughput",
            "output_tps",
            "throughput",
            peak(),
        ),
        at(
            "gpu_utilization",
            "GPU utilization at the highest load",
            "gpu.util.mean",
            "GPU utilization",
            highest(),
        ),
        at(
            "power",
            "power at the highest load",
            "gpu.power.mean",
            "power",
            highest(),
        ),
        at(
            "resource_efficiency",
            "energy per token at the highest load",
            "energy_per_token",
            "energy per token",
            highest(),
        ),
    ]);
    if several_levels {
        findings.push(at(
            "scalability",
            "growth of throughput from the lowest load to the highest",
            "output_tps",
            "growth",
            growth(entrants, places),
        ));
    }
    [criteria, use_cases, findings]
}

fn criterion(name: &str, weight: f64) -> (&'static str, &'static str, f64) {
    let known = CRITERIA.iter().find(|(known, ..)| *known == name);
    let (_, statistic, title) = known.expect("every criterion that is asked for is known");
    (statistic, title, weight)
}

fn weighted(weights: &BTreeMap<String, f64>) -> Vec<(&'static str, &'static str, f64)> {
    let known = CRITERIA.iter().filter_map(|(name, statistic, title)| {
        let weight = *weights.get(*name)?;
        (weight > 0.0).then_some((*statistic, *title, weight))
    });
    known.collect()
}

// ---- engines ---------------------------------------------------------------------------------------------------------

fn engine(
    report: &Report,
    backend: &str,
    ranked: bool,
    places: &[Place],
    left_out: &[LeftOut],
) -> Engine {
    let cells = || report.cells.iter().filter(|cell| cell.backend == backend);
    let stages: Vec<&Stage> = cells()
        .flat_map(|cell| &cell.stages)
        .filter(|stage| stage.measured)
        .collect();
    let numbers: Vec<&StageNumbers> = stages.iter().filter_map(|s| s.numbers.as_ref()).collect();
    let runs: Vec<_> = cells().flat_map(|cell| &cell.runs).collect();
    let status = if numbers.is_empty() {
        EngineStatus::NotAvailable
    } else if numbers.len() < stages.len()
        || numbers.iter().any(|one| one.ok == 0)
        || runs.iter().any(|run| run.status != CellStatus::Complete)
    {
        EngineStatus::Failed
    } else {
        EngineStatus::Success
    };
    let own = || {
        places
            .iter()
            .filter_map(|place| Some((place, place.seat(backend)?)))
    };
    let counted: Vec<&Stage> = own()
        .filter(|(place, seat)| match ranked {
            true => place.seats.iter().all(|seat| seat.doubt.is_none()),
            false => seat.stage.is_some(),
        })
        .filter_map(|(_, seat)| seat.stage)
        .collect();
    let ended = runs.iter().find_map(|run| run.reason.clone());
    let reason = left_out.iter().find(|one| one.backend == backend);
    Engine {
        backend: backend.to_owned(),
        interface: wording::interface_of(report, backend).to_owned(),
        status,
        error: match status {
            EngineStatus::Success if ranked => None,
            _ => ended.or_else(|| reason.map(|one| one.reason.clone())),
        },
        ranked,
        planned: numbers.iter().map(|one| one.planned).sum(),
        ok: numbers.iter().map(|one| one.ok).sum(),
        failed: numbers.iter().map(|one| one.failed).sum(),
        values: TOLD
            .iter()
            .filter_map(|path| Some(((*path).to_owned(), over_places(&counted, path)?)))
            .chain(memory_share(report, &counted))
            .collect(),
    }
}

/// The geometric mean; `None` where a stage has no value, or one that is not above 0.
fn over_places(stages: &[&Stage], path: &str) -> Option<f64> {
    let logs: Vec<f64> = stages
        .iter()
        .map(|stage| {
            Some(value(stage, path)?)
                .filter(|v| *v > 0.0)
                .map(libm::log)
        })
        .collect::<Option<_>>()?;
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    (!logs.is_empty()).then(|| libm::exp(mean))
}

fn value(stage: &Stage, path: &str) -> Option<f64> {
    let numbers = stage.numbers.as_ref()?;
    let (name, stat) = match path.rsplit_once('.') {
        Some((name, stat)) => (name, stat),
        None => (path, "value"),
    };
    let planned = format!("{name}_intended");
    let planned = numbers.metrics.get(&planned).filter(|_| stage.open_loop);
    let metric = planned.or_else(|| numbers.metrics.get(name))?;
    wording::statistic(metric, stat)
}

/// The peak of the memory of the fullest GPU, as a share of the largest one's.
fn memory_share(report: &Report, stages: &[&Stage]) -> Option<(String, f64)> {
    let total = report.environment.largest_gpu_memory()?;
    let used = over_places(stages, "gpu.memory_used.max")?;
    Some(("gpu.memory_share".to_owned(), used / total as f64))
}
