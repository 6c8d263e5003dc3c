//! One question, asked of every backend: values over the places, their intervals, a score, and who is surely better than whom.
//!
//! Over places the geometric mean is taken, so that no level outweighs another by the size of its numbers and a ratio between
//! backends does not depend on which of them is called the base. The error of the score adds up those of its criteria: they come
//! from the same requests, and nothing says that they err independently.

use super::model::{Contest, Criterion, Estimate, Standing};
use crate::report::model::Stage;
use crate::report::told::{Told, higher_is_better};
use crate::verdict::statistics::student_quantile;

/// A question to the backends.
pub(super) struct Asked<'a> {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Statistic, its name for people, and its weight.
    pub(super) criteria: Vec<(&'static str, &'static str, f64)>,
    pub(super) seats: Vec<Entrant<'a>>,
}

/// A backend, and the stages that count here.
pub(super) struct Entrant<'a> {
    pub(super) backend: &'a str,
    pub(super) held: Vec<Held<'a>>,
}

/// A stage that counts, or one over another.
pub(super) struct Held<'a> {
    pub(super) place: String,
    pub(super) stage: &'a Stage,
    pub(super) over: Option<&'a Stage>,
}

impl Asked<'_> {
    /// Intervals that its answer needs: one for each value, one for each score of several criteria, and one for the gap.
    pub(super) fn intervals(&self) -> usize {
        let each = self.criteria.len() + usize::from(self.criteria.len() > 1);
        self.seats.len() * each + 1
    }
}

/// A logarithm with its standard error.
#[derive(Clone, Copy)]
struct Logarithm {
    mean: f64,
    error: f64,
    freedom: f64,
}

impl Logarithm {
    fn reach(self, tail: f64) -> f64 {
        match self.error > 0.0 {
            true => student_quantile(tail, self.freedom) * self.error,
            false => 0.0,
        }
    }
}

/// What is said to a question; `None` where no criterion has numbers of every backend.
pub(super) fn hold(asked: &Asked, tail: f64) -> Option<Contest> {
    let mut without = Vec::new();
    let mut counted: Vec<(Criterion, Vec<Logarithm>)> = Vec::new();
    for (statistic, name, weight) in &asked.criteria {
        let seen: Result<Vec<(Logarithm, String)>, String> = asked
            .seats
            .iter()
            .map(|entrant| {
                over_places(entrant, statistic)
                    .map_err(|reason| format!("{name}: {reason} of `{}`", entrant.backend))
            })
            .collect();
        match seen {
            Ok(seen) if !seen.is_empty() => {
                let criterion = Criterion {
                    statistic: (*statistic).to_owned(),
                    name: (*name).to_owned(),
                    unit: seen[0].1.clone(),
                    better: match is_higher_better(statistic) {
                        true => "higher",
                        false => "lower",
                    }
                    .to_owned(),
                    weight: *weight,
                };
                counted.push((criterion, seen.into_iter().map(|(log, _)| log).collect()));
            }
            Ok(_) => {}
            Err(reason) => without.push(reason),
        }
    }
    let whole: f64 = counted.iter().map(|(criterion, _)| criterion.weight).sum();
    if counted.is_empty() {
        return None;
    }
    counted
        .iter_mut()
        .for_each(|(criterion, _)| criterion.weight /= whole);
    let mut standings = standings(asked, &counted, tail);
    place(&mut standings);
    let mut places: Vec<String> = Vec::new();
    for held in asked.seats.iter().flat_map(|entrant| &entrant.held) {
        if !places.contains(&held.place) {
            places.push(held.place.clone());
        }
    }
    let (winner, gap) = winner(asked, &counted, &standings, tail);
    Some(Contest {
        id: asked.id.to_owned(),
        title: asked.title.to_owned(),
        criteria: counted
            .into_iter()
            .map(|(criterion, _)| criterion)
            .collect(),
        places,
        standings,
        winner,
        gap: gap.map(|(gap, _)| gap),
        gap_interval: gap.map(|(_, interval)| interval),
        sentence: String::new(),
        without,
    })
}

/// A busier GPU is better used, as the plots say it, too; a scenario takes no side there.
fn is_higher_better(statistic: &str) -> bool {
    statistic == "gpu.util.mean" || higher_is_better(statistic)
}

/// The logarithm of the geometric mean over the places, and the unit; or what is missing.
fn over_places(entrant: &Entrant, statistic: &str) -> Result<(Logarithm, String), String> {
    let mut unit = None;
    let (mut sum, mut squares, mut fourths, mut n) = (0.0, 0.0, 0.0, 0.0);
    for held in &entrant.held {
        let sides = [(Some(held.stage), 1.0), (held.over, -1.0)];
        for (stage, sign) in sides {
            let Some(stage) = stage else { continue };
            let told = Told::of(stage, statistic)
                .filter(|told| told.value > 0.0)
                .ok_or_else(|| format!("no number at {}", held.place))?;
            let (error, freedom) = told
                .error()
                .map_err(|reason| format!("at {} {reason}", held.place))?;
            let square = (error / told.value).powi(2);
            sum += sign * libm::log(told.value);
            squares += square;
            fourths += square * square / freedom;
            unit.get_or_insert(if held.over.is_some() {
                "×".to_owned()
            } else {
                told.unit
            });
        }
        n += 1.0;
    }
    let unit = unit.ok_or("no place")?;
    let log = Logarithm {
        mean: sum / n,
        error: squares.sqrt() / n,
        // Welch and Satterthwaite.
        freedom: if fourths > 0.0 {
            squares * squares / fourths
        } else {
            1.0
        },
    };
    Ok((log, unit))
}

fn standings(asked: &Asked, counted: &[(Criterion, Vec<Logarithm>)], tail: f64) -> Vec<Standing> {
    let entrants = asked.seats.iter().enumerate();
    entrants
        .map(|(at, entrant)| {
            let (mut score, mut reach) = (0.0, 0.0);
            for (criterion, logs) in counted {
                let sign = sign(criterion);
                let best = logs
                    .iter()
                    .map(|log| sign * log.mean)
                    .fold(f64::MIN, f64::max);
                score += criterion.weight * (sign * logs[at].mean - best);
                reach += criterion.weight * logs[at].reach(tail);
            }
            Standing {
                backend: entrant.backend.to_owned(),
                rank: 0,
                tied_with: Vec::new(),
                score: estimate(score, reach, 100.0),
                values: counted
                    .iter()
                    .map(|(_, logs)| estimate(logs[at].mean, logs[at].reach(tail), 1.0))
                    .collect(),
            }
        })
        .collect()
}

fn sign(criterion: &Criterion) -> f64 {
    if criterion.better == "higher" {
        1.0
    } else {
        -1.0
    }
}

fn estimate(log: f64, reach: f64, scale: f64) -> Estimate {
    Estimate {
        value: scale * libm::exp(log),
        interval: [log - reach, log + reach].map(|end| scale * libm::exp(end)),
    }
}

/// Ranks by intervals that do not overlap, the best first.
fn place(standings: &mut [Standing]) {
    let intervals: Vec<(String, [f64; 2])> = standings
        .iter()
        .map(|one| (one.backend.clone(), one.score.interval))
        .collect();
    for own in standings.iter_mut() {
        let [low, high] = own.score.interval;
        let better = intervals
            .iter()
            .filter(|(_, other)| other[0] > high)
            .count();
        own.rank = 1 + better as u32;
        own.tied_with = intervals
            .iter()
            .filter(|(backend, other)| {
                *backend != own.backend && other[0] <= high && low <= other[1]
            })
            .map(|(backend, _)| backend.clone())
            .collect();
    }
    standings.sort_by(|one, other| {
        let score = other.score.value.total_cmp(&one.score.value);
        one.rank.cmp(&other.rank).then(score)
    });
}

type Gap = (f64, [f64; 2]);

/// Who is surely better than all others, and by how much than the next.
fn winner(
    asked: &Asked,
    counted: &[(Criterion, Vec<Logarithm>)],
    standings: &[Standing],
    tail: f64,
) -> (Option<String>, Option<Gap>) {
    let [first, next, ..] = standings else {
        return (None, None);
    };
    if !first.tied_with.is_empty() {
        return (None, None);
    }
    let at = |backend: &str| asked.seats.iter().position(|one| one.backend == backend);
    let (Some(one), Some(other)) = (at(&first.backend), at(&next.backend)) else {
        return (None, None);
    };
    // Of one criterion the gap is that of its values; of several that of the scores, whose errors add up.
    let (mut distance, mut reach) = (0.0, 0.0);
    for (criterion, logs) in counted {
        let sign = if counted.len() == 1 {
            1.0
        } else {
            sign(criterion)
        };
        let difference = Logarithm {
            mean: logs[one].mean - logs[other].mean,
            error: logs[one].error.hypot(logs[other].error),
            freedom: logs[one].freedom.min(logs[other].freedom),
        };
        distance += criterion.weight * sign * difference.mean;
        reach += criterion.weight * difference.reach(tail);
    }
    let share = |log: f64| libm::exp(log) - 1.0;
    let interval = [distance - reach, distance + reach].map(share);
    (
        Some(first.backend.clone()),
        Some((share(distance), interval)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(backend: &str, interval: [f64; 2]) -> Standing {
        Standing {
            backend: backend.to_owned(),
            rank: 0,
            tied_with: Vec::new(),
            score: Estimate {
                value: (interval[0] + interval[1]) / 2.0,
                interval,
            },
            values: Vec::new(),
        }
    }

    fn ranked(all: &[(&str, [f64; 2])]) -> Vec<(String, u32, String)> {
        let mut standings: Vec<Standing> = all.iter().map(|(b, i)| standing(b, *i)).collect();
        place(&mut standings);
        standings
            .into_iter()
            .map(|one| (one.backend, one.rank, one.tied_with.join(" ")))
            .collect()
    }

    fn row(backend: &str, rank: u32, tied: &str) -> (String, u32, String) {
        (backend.to_owned(), rank, tied.to_owned())
    }

    #[test]
    fn those_whose_intervals_overlap_share_a_rank() {
        assert_eq!(
            ranked(&[
                ("a", [70.0, 80.0]),
                ("b", [90.0, 100.0]),
                ("c", [78.0, 88.0])
            ]),
            [row("b", 1, ""), row("c", 2, "a"), row("a", 2, "c")]
        );
    }

    #[test]
    fn a_chain_of_overlaps_ranks_its_ends_apart_and_nobody_else() {
        assert_eq!(
            ranked(&[
                ("a", [90.0, 100.0]),
                ("b", [80.0, 95.0]),
                ("c", [70.0, 85.0])
            ]),
            [row("a", 1, "b"), row("b", 1, "a c"), row("c", 2, "b")]
        );
    }

    #[test]
    fn intervals_that_touch_overlap() {
        assert_eq!(
            ranked(&[("a", [1.0, 2.0]), ("b", [2.0, 3.0])]),
            [row("b", 1, "a"), row("a", 1, "b")]
        );
    }
}
