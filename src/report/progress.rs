//! The live view while a run is on, on stderr: bars at a terminal, else a line now and then.
//!
//! What to print is decided by [`Lines`], a pure state machine that is fed with snapshots; [`Progress`] writes it.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::wording::{percent, rounded};
use crate::units::format_duration;

/// How a run is shown while it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Bars at a terminal, else lines.
    #[default]
    Auto,
    /// A bar that is redrawn.
    Bars,
    /// A line every 15 s, on each change of stage, and when an SLO newly fails.
    Lines,
    /// The same as lines, as JSON objects.
    Json,
    /// Nothing.
    None,
}

impl Mode {
    /// Every mode, with the word that chooses it.
    pub const ALL: [(&str, Mode); 5] = [
        ("auto", Mode::Auto),
        ("bars", Mode::Bars),
        ("lines", Mode::Lines),
        ("json", Mode::Json),
        ("none", Mode::None),
    ];

    /// The mode with `auto` resolved.
    pub fn at(self, terminal: bool) -> Mode {
        match (self, terminal) {
            (Mode::Auto, true) => Mode::Bars,
            (Mode::Auto, false) => Mode::Lines,
            (mode, _) => mode,
        }
    }
}

/// A snapshot of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProgressUpdate {
    /// Place of the cell in the order of execution, from 1.
    pub cell_number: u32,
    /// Cell runs in all.
    pub cells: u32,
    /// Id of the cell.
    pub cell: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// The stage.
    pub stage: String,
    /// Time since the stage began, in seconds.
    pub elapsed_s: f64,
    /// How long it is planned to take, when that is known.
    pub planned_s: Option<f64>,
    /// Requests planned in the stage, when that is known.
    pub planned_requests: Option<u64>,
    /// Requests sent in the stage.
    pub sent: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests answered in the stage.
    pub ok: u64,
    /// Requests failed in the stage.
    pub failed: u64,
    /// P95 of the time to first token over the last seconds, in milliseconds.
    pub ttft_p95_ms: Option<f64>,
    /// Sends per second over the last seconds.
    pub rate: f64,
    /// GPU utilization, 0 to 1.
    pub gpu_util: Option<f64>,
    /// GPU power in watts.
    pub gpu_power: Option<f64>,
    /// The runner's own send lag, in milliseconds.
    pub client_lag_ms: Option<f64>,
    /// How each SLO of the cell stands so far: advisory, the verdict is told at the end.
    pub slos: Vec<SoFar>,
}

/// How an SLO stands so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SoFar {
    /// Its id.
    pub id: String,
    /// Whether it holds so far; `None` without enough samples.
    pub holds: Option<bool>,
}

/// Why a line is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// Another cell or stage began.
    Stage,
    /// An SLO fails that did not fail before.
    Slo,
    /// It is time again.
    Time,
}

/// Decides when a line is worth printing.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    place: Option<(u32, String)>,
    failing: Vec<String>,
    next: Duration,
}

const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(15);

impl Lines {
    /// Whether `update`, seen `now` after the start of the run, is worth a line: on a change of stage and a newly failing SLO
    /// at once, else after 5 s and then every 15 s.
    pub fn decide(&mut self, now: Duration, update: &ProgressUpdate) -> Option<Occasion> {
        let place = (update.cell_number, update.stage.clone());
        let moved = self.place.as_ref() != Some(&place);
        if moved && self.place.as_ref().map(|(cell, _)| *cell) != Some(update.cell_number) {
            self.failing.clear();
        }
        let failing = update.slos.iter().filter(|slo| slo.holds == Some(false));
        let newly: Vec<String> = failing
            .filter(|slo| !self.failing.contains(&slo.id))
            .map(|slo| slo.id.clone())
            .collect();
        let fails = !newly.is_empty();
        self.failing.extend(newly);
        let occasion = if moved {
            Occasion::Stage
        } else if fails {
            Occasion::Slo
        } else if now >= self.next {
            Occasion::Time
        } else {
            return None;
        };
        self.next = now + if self.place.is_none() { FIRST } else { EVERY };
        self.place = Some(place);
        Some(occasion)
    }
}

/// One line of text about a snapshot.
pub fn line(update: &ProgressUpdate) -> String {
    said(update).join("  ")
}

/// What that line says, piece by piece.
pub fn said(update: &ProgressUpdate) -> Vec<String> {
    let mut said = vec![format!(
        "[{}/{}] {} · {}{}",
        update.cell_number,
        update.cells,
        update.cell,
        update.stage,
        match update.repeat {
            0 => String::new(),
            repeat => format!(" · repeat {}", repeat + 1),
        }
    )];
    let whole = |seconds: f64| format_duration(Duration::from_secs(seconds.max(0.0) as u64));
    said.push(match update.planned_s {
        // What waits for its last answers takes longer than it was to.
        Some(planned) if update.elapsed_s >= planned + 1.0 => {
            format!("{}, {} planned", whole(update.elapsed_s), whole(planned))
        }
        Some(planned) => format!("{} of {}", whole(update.elapsed_s), whole(planned)),
        None => whole(update.elapsed_s),
    });
    said.push(match update.planned_requests {
        Some(planned) => format!("sent {} of {planned}", update.sent),
        None => format!("sent {}", update.sent),
    });
    said.push(format!("{}/s", rounded(update.rate)));
    said.push(format!("in flight {}", update.in_flight));
    said.push(format!("ok {}", update.ok));
    if update.failed > 0 {
        said.push(format!("failed {}", update.failed));
    }
    if let Some(ttft) = update.ttft_p95_ms {
        said.push(format!("TTFT p95 {}ms", rounded(ttft)));
    }
    if let Some(util) = update.gpu_util {
        let power = update.gpu_power.map(|power| format!(" {power:.0}W"));
        said.push(format!(
            "GPU {}{}",
            percent(util),
            power.unwrap_or_default()
        ));
    }
    if let Some(lag) = update.client_lag_ms {
        said.push(format!("lag {}ms", rounded(lag)));
    }
    let marks: Vec<String> = update.slos.iter().map(mark).collect();
    if !marks.is_empty() {
        said.push(format!("so far {}", marks.join(" ")));
    }
    said
}

/// The same in at most `width` columns: what a person looks for first, and only whole parts.
fn short_line(update: &ProgressUpdate, width: usize) -> String {
    let whole = |seconds: f64| format_duration(Duration::from_secs(seconds.max(0.0) as u64));
    let time = match update.planned_s {
        Some(planned) => format!("{}/{}", whole(update.elapsed_s), whole(planned)),
        None => whole(update.elapsed_s),
    };
    let parts = [
        Some(format!("{} {time}", update.stage)),
        Some(format!("failed {}", update.failed)),
        update
            .ttft_p95_ms
            .map(|ttft| format!("TTFT p95 {}ms", rounded(ttft))),
        Some(format!("in flight {}", update.in_flight)),
        Some(format!("{}/s", rounded(update.rate))),
        Some(format!("ok {}", update.ok)),
        Some(format!(
            "[{}/{}] {}",
            update.cell_number, update.cells, update.cell
        )),
        update.gpu_util.map(|util| format!("GPU {}", percent(util))),
        update.gpu_power.map(|power| format!("{power:.0}W")),
        update
            .client_lag_ms
            .map(|lag| format!("lag {}ms", rounded(lag))),
    ];
    let mut line = String::new();
    for part in parts.into_iter().flatten() {
        let gap = if line.is_empty() { "" } else { "  " };
        let length = line.chars().count() + gap.len() + part.chars().count();
        if length > width {
            break;
        }
        line.push_str(gap);
        line.push_str(&part);
    }
    line
}

fn mark(slo: &SoFar) -> String {
    let mark = match slo.holds {
        Some(true) => "✓",
        Some(false) => "✗",
        None => "…",
    };
    format!("{} {mark}", slo.id)
}

/// How much of the stage is done, in thousandths.
fn done(update: &ProgressUpdate) -> u64 {
    let share = match (update.planned_s, update.planned_requests) {
        (Some(planned), _) if planned > 0.0 => update.elapsed_s / planned,
        (_, Some(planned)) if planned > 0 => (update.ok + update.failed) as f64 / planned as f64,
        _ => 0.0,
    };
    (share.clamp(0.0, 1.0) * 1000.0) as u64
}

/// Writes the live view.
pub struct Progress<W: Write> {
    mode: Mode,
    lines: Lines,
    out: W,
    bar: ProgressBar,
}

/// Columns of the mark, the bar, the blanks around it, and one that stays free.
const BESIDE_THE_LINE: usize = 20;

impl<W: Write> Progress<W> {
    /// A live view in a mode that is resolved (see [`Mode::at`]). Lines go to `out`; bars are drawn on stderr.
    pub fn new(mode: Mode, out: W) -> Progress<W> {
        let bar = match mode {
            Mode::Bars => {
                let style = ProgressStyle::with_template("▸ {bar:16} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr())
                    .with_style(style)
            }
            Mode::Auto | Mode::Lines | Mode::Json | Mode::None => ProgressBar::hidden(),
        };
        Progress {
            mode,
            lines: Lines::default(),
            out,
            bar,
        }
    }

    /// Shows a snapshot that was taken `now` after the start of the run.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn update(&mut self, now: Duration, update: &ProgressUpdate) -> std::io::Result<()> {
        match self.mode {
            Mode::None => Ok(()),
            Mode::Bars => {
                self.bar.set_position(done(update));
                // Asked each time: a window may be resized while a run is on.
                let window = terminal_size::terminal_size_of(std::io::stderr());
                let width = window.map_or(80, |(width, _)| usize::from(width.0));
                let room = width.saturating_sub(BESIDE_THE_LINE);
                self.bar.set_message(short_line(update, room));
                Ok(())
            }
            Mode::Auto | Mode::Lines => match self.lines.decide(now, update) {
                Some(_) => writeln!(self.out, "{}", line(update)),
                None => Ok(()),
            },
            Mode::Json => match self.lines.decide(now, update) {
                Some(occasion) => {
                    let mut object = serde_json::json!({ "occasion": occasion });
                    object["update"] = serde_json::to_value(update)?;
                    writeln!(self.out, "{object}")
                }
                None => Ok(()),
            },
        }
    }

    /// Prints a message above the bar, or as a line.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn message(&mut self, text: &str) -> std::io::Result<()> {
        match self.mode {
            Mode::None => Ok(()),
            Mode::Bars => {
                self.bar.println(text);
                Ok(())
            }
            Mode::Json => {
                let object = serde_json::json!({ "occasion": "message", "text": text });
                writeln!(self.out, "{object}")
            }
            Mode::Auto | Mode::Lines => writeln!(self.out, "{text}"),
        }
    }

    /// Ends the live view; a bar is cleared away.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(stage: &str) -> ProgressUpdate {
        ProgressUpdate {
            cell_number: 1,
            cells: 2,
            cell: "vllm/llama8b/chat/steady".into(),
            stage: stage.into(),
            ..ProgressUpdate::default()
        }
    }

    fn occasions(seen: &[(u64, ProgressUpdate)]) -> Vec<(u64, Occasion)> {
        let mut lines = Lines::default();
        seen.iter()
            .filter_map(|(second, update)| {
                let occasion = lines.decide(Duration::from_secs(*second), update)?;
                Some((*second, occasion))
            })
            .collect()
    }

    #[test]
    fn a_line_comes_at_the_start_after_five_seconds_and_then_every_fifteen() {
        let seen: Vec<_> = (0..60).map(|second| (second, update("warm"))).collect();
        let expected = [
            (0, Occasion::Stage),
            (5, Occasion::Time),
            (20, Occasion::Time),
            (35, Occasion::Time),
            (50, Occasion::Time),
        ];
        assert_eq!(occasions(&seen), expected);
    }

    #[test]
    fn a_new_stage_and_a_newly_failing_slo_are_told_at_once_and_once() {
        let failing = || ProgressUpdate {
            slos: vec![SoFar {
                id: "ttft".into(),
                holds: Some(false),
            }],
            ..update("steady")
        };
        let seen = [
            (0, update("warm")),
            (1, update("steady")),
            (2, failing()),
            (3, failing()),
            (4, update("steady")),
        ];
        let expected = [
            (0, Occasion::Stage),
            (1, Occasion::Stage),
            (2, Occasion::Slo),
        ];
        assert_eq!(occasions(&seen), expected);
    }

    #[test]
    fn a_line_says_what_a_person_asks_first() {
        let update = ProgressUpdate {
            elapsed_s: 131.0,
            planned_s: Some(210.0),
            sent: 1048,
            planned_requests: Some(1680),
            rate: 8.0,
            in_flight: 41,
            ok: 1007,
            ttft_p95_ms: Some(774.2),
            gpu_util: Some(0.97),
            gpu_power: Some(381.2),
            client_lag_ms: Some(0.4),
            slos: vec![SoFar {
                id: "ttft".into(),
                holds: Some(true),
            }],
            ..update("steady")
        };
        assert_eq!(
            line(&update),
            "[1/2] vllm/llama8b/chat/steady · steady  2m11s of 3m30s  sent 1048 of 1680  8/s  in flight 41  ok 1007  \
             TTFT p95 774ms  GPU 97% 381W  lag 0.4ms  so far ttft ✓"
        );
    }

    #[test]
    fn a_bar_says_what_matters_first_and_drops_whole_parts() {
        let update = ProgressUpdate {
            elapsed_s: 131.0,
            planned_s: Some(210.0),
            rate: 8.0,
            in_flight: 41,
            ok: 1007,
            failed: 3,
            ttft_p95_ms: Some(774.2),
            gpu_util: Some(0.97),
            ..update("steady")
        };
        assert_eq!(
            short_line(&update, 62),
            "steady 2m11s/3m30s  failed 3  TTFT p95 774ms  in flight 41"
        );
        assert_eq!(
            short_line(&update, 120),
            "steady 2m11s/3m30s  failed 3  TTFT p95 774ms  in flight 41  8/s  ok 1007  \
             [1/2] vllm/llama8b/chat/steady  GPU 97%"
        );
    }

    #[test]
    fn auto_is_bars_at_a_terminal_and_lines_elsewhere() {
        assert_eq!(Mode::Auto.at(true), Mode::Bars);
        assert_eq!(Mode::Auto.at(false), Mode::Lines);
        assert_eq!(Mode::Json.at(true), Mode::Json);
    }
}
