//! What a plan will do, for people: the text of `scenario plan FILE`, and the list of arrivals.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::{
    Api, Cell, Extent, History, OnFull, Plan, Planned, Process, RampDown, RampShape, RateForm,
    RatePiece, Schedule, Search, Segment, SloInstance, Stage, UserExtent, UserPiece, samples,
};
use crate::units::{Moment, Rate, format_duration, trim_float};
use crate::workload::Facts;

/// What a plan needs, as far as it can be told before the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests, measured or not, of all repeats.
    pub requests: f64,
    /// Their generated tokens, if every answer runs to its cap.
    pub output_tokens: f64,
    /// Seconds of load and of pauses, without drains.
    pub seconds: f64,
    /// Whether some stage's requests cannot be told.
    pub open_requests: bool,
    /// Whether some stage's time cannot be told.
    pub open_seconds: bool,
    /// Whether one of the numbers is an estimate.
    pub estimated: bool,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.requests += other.requests;
        self.output_tokens += other.output_tokens;
        self.seconds += other.seconds;
        self.open_requests |= other.open_requests;
        self.open_seconds |= other.open_seconds;
        self.estimated |= other.estimated;
    }
}

/// What all cells need in all repeats.
pub fn totals(plan: &Plan) -> Totals {
    let mut all = Totals::default();
    for run in &plan.order {
        let cell = &plan.cells[run.cell];
        all.add(cell_totals(cell));
        all.seconds += cell.cooldown.as_secs_f64();
    }
    all
}

/// What one cell needs in one repeat, without the pause after it.
pub fn cell_totals(cell: &Cell) -> Totals {
    let mut totals = Totals::default();
    for stage in &cell.stages {
        totals.requests += stage.requests.value().unwrap_or(0.0);
        totals.seconds += stage.expected.value().unwrap_or(0.0);
        totals.open_requests |= stage.requests == Planned::Unknown;
        totals.open_seconds |= stage.expected == Planned::Unknown;
        totals.estimated |= matches!(stage.requests, Planned::Estimate(_));
    }
    totals.seconds += cell
        .segments
        .iter()
        .map(|segment| segment.cooldown.as_secs_f64())
        .sum::<f64>();
    if let Some(search) = &cell.search {
        let share = search.most_tries(cell) as f64 / search.stages.len() as f64;
        totals.requests *= share;
        totals.seconds *= share;
        if let Some(limit) = search.stop_after {
            totals.seconds = totals.seconds.min(limit.as_secs_f64());
        }
        totals.estimated = true;
    }
    if let Some(dialogue) = &cell.dialogue {
        totals.requests *= dialogue.turns;
        totals.estimated = true;
    }
    totals.output_tokens = totals.requests * f64::from(cell.request.max_tokens);
    totals
}

/// The text of `scenario plan FILE`.
pub fn describe(plan: &Plan) -> String {
    let mut text = headline(plan);
    describe_loads(plan, &mut text);
    describe_cells(plan, &mut text);
    describe_slos(plan, &mut text);
    describe_engines(plan, &mut text);
    describe_order(plan, &mut text);
    text
}

/// The first line: how much, how long, which seed, which digest.
pub fn headline(plan: &Plan) -> String {
    let totals = totals(plan);
    let about = if totals.estimated { "about " } else { "" };
    let requests = match (totals.requests, totals.open_requests) {
        (0.0, true) => "requests as users make them".to_owned(),
        (requests, true) => format!(
            "{about}{} requests and those of timed users",
            grouped(requests)
        ),
        (requests, false) => format!("{about}{} requests", grouped(requests)),
    };
    let time = match (totals.seconds, totals.open_seconds) {
        (0.0, true) => "as long as it takes".to_owned(),
        (seconds, true) => format!("{} and counted stages", long(seconds)),
        (seconds, false) => format!("{} of load", long(seconds)),
    };
    let smoke = if plan.smoke { " · smoke" } else { "" };
    format!(
        "{}  {} × {} · {requests} · {time} · seed {} · plan {}{smoke}\n",
        plan.name,
        count(plan.cells.len() as u64, "cell"),
        count(u64::from(plan.repeats), "repeat"),
        plan.seed,
        short_digest(&plan.digest),
    )
}

/// The first digits of a digest, enough to tell plans apart by eye.
pub fn short_digest(digest: &str) -> &str {
    digest.get(..15).unwrap_or(digest)
}

/// The load of a cell in one sentence.
pub fn load_sentence(cell: &Cell) -> String {
    let measured = cell.segments.iter().find(|segment| {
        cell.stages[segment.stages.clone()]
            .iter()
            .any(|stage| stage.measured)
    });
    let mut text = measured.map_or_else(String::new, |segment| shape_sentence(&segment.schedule));
    if let Some(dialogue) = &cell.dialogue {
        let answers = match dialogue.history {
            History::Live => "the engine's own answers",
            History::Recorded => "the recorded answers",
        };
        text.push_str(&format!(
            "; what it counts are conversations of {} turns on average, with {answers} in their history",
            trim_float((dialogue.turns * 10.0).round() / 10.0)
        ));
    }
    text
}

fn shape_sentence(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Open {
            curve,
            max_in_flight,
            on_full,
        } => {
            let process = match &curve.process {
                Process::Uniform => "evenly spaced arrivals".to_owned(),
                Process::Poisson => "Poisson arrivals".to_owned(),
                Process::Gamma(shape) => format!("gamma arrivals of shape {}", trim_float(*shape)),
                Process::Recorded(_) => "arrivals at the times of a trace".to_owned(),
            };
            let full = match on_full {
                OnFull::Queue => "wait",
                OnFull::Drop => "are dropped",
            };
            format!(
                "open loop: {process}, which {full} while {} are in flight",
                grouped(f64::from(*max_in_flight))
            )
        }
        Schedule::Closed {
            think, ramp_down, ..
        } => {
            let mut text = match think {
                super::Distribution::Fixed(0.0) => {
                    "closed loop: each user calls again when it has its answer".to_owned()
                }
                super::Distribution::Fixed(seconds) => format!(
                    "closed loop: each user thinks for {} between its calls",
                    long(*seconds)
                ),
                _ => "closed loop: each user thinks for a random time between its calls".to_owned(),
            };
            if *ramp_down == RampDown::Cancel {
                text.push_str("; a user that leaves is cut");
            }
            text
        }
        Schedule::Batch {
            size: Some(size),
            requests,
        } => format!(
            "batches of {size}, each after the last answer of the one before: {} in all",
            count(*requests, "request")
        ),
        Schedule::Batch {
            size: None,
            requests,
        } => format!("{} at once", count(*requests, "request")),
    }
}

// ---- loads ----

fn describe_loads(plan: &Plan, text: &mut String) {
    let mut told: Vec<&Cell> = Vec::new();
    for cell in &plan.cells {
        // The same load may differ between prompt sets, where a batch takes the whole set.
        let is_told = told
            .iter()
            .any(|other| other.load == cell.load && other.segments == cell.segments);
        if is_told {
            continue;
        }
        told.push(cell);
        let _ = writeln!(text, "\nload {} · {}", cell.load, load_sentence(cell));
        match &cell.search {
            None => {
                for segment in &cell.segments {
                    describe_segment(cell, segment, text);
                }
            }
            Some(search) => describe_search(cell, search, text),
        }
    }
}

/// What a search tries, and how its first level is held; the others are held like it.
fn describe_search(cell: &Cell, search: &Search, text: &mut String) {
    let _ = writeln!(text, "  search       {}", search_sentence(cell, search));
    if let Some(first) = cell.segments.first() {
        describe_segment(cell, first, text);
    }
    if cell.segments.len() > 1 {
        let last = cell.stages.iter().rfind(|stage| stage.measured);
        let last = last.map_or("", |stage| stage.name.as_str());
        let _ = writeln!(text, "  … {last:<10} each level likewise");
    }
}

/// What a search does, in a sentence.
pub(super) fn search_sentence(cell: &Cell, search: &Search) -> String {
    let levels = search.stages.len();
    let tries = search.most_tries(cell);
    let most = match tries < levels {
        true => format!("at most {tries} of {}", count(levels as u64, "level")),
        false => count(levels as u64, "level"),
    };
    let step = trim_float((search.resolution * 1000.0).round() / 10.0);
    let limit = search.stop_after.map_or_else(String::new, |limit| {
        format!(", in at most {}", format_duration(limit))
    });
    format!(
        "{}, no more than {step} % apart: {most}{limit}",
        search.range
    )
}

/// What a stage sends, in a sentence.
pub(super) fn stage_sentence(cell: &Cell, segment: &Segment, stage: usize) -> String {
    let planned = &cell.stages[stage];
    match &segment.schedule {
        Schedule::Open { curve, .. } if matches!(curve.process, Process::Recorded(_)) => {
            format!(
                "as recorded, for {}",
                long(planned.expected.value().unwrap_or(0.0))
            )
        }
        Schedule::Open { curve, .. } => {
            let pieces: Vec<String> = curve
                .pieces
                .iter()
                .filter(|piece| piece.stage == stage)
                .map(rate_sentence)
                .collect();
            pieces.join(", then ")
        }
        Schedule::Closed { users, .. } => {
            let pieces: Vec<String> = users
                .pieces
                .iter()
                .filter(|piece| piece.stage == stage)
                .map(|piece| users_sentence(piece, planned))
                .collect();
            pieces.join(", then ")
        }
        Schedule::Batch { size, requests } => match size {
            Some(size) => format!("{} batches of {size}", requests.div_ceil(u64::from(*size))),
            None => "everything at once".to_owned(),
        },
    }
}

fn describe_segment(cell: &Cell, segment: &Segment, text: &mut String) {
    for stage in segment.stages.clone() {
        let planned = &cell.stages[stage];
        let what = stage_sentence(cell, segment, stage);
        let measured = if planned.measured {
            ""
        } else {
            ", not measured"
        };
        let _ = writeln!(
            text,
            "  {:<12} {what:<48} {}{measured}",
            planned.name,
            planned_requests(planned)
        );
    }
    if segment.cooldown > Duration::ZERO {
        let _ = writeln!(
            text,
            "  {:<12} drain, then {} of rest",
            "",
            format_duration(segment.cooldown)
        );
    }
}

fn rate_sentence(piece: &RatePiece) -> String {
    match piece.form {
        RateForm::Burst(requests) => format!("{} at one instant", count(requests, "request")),
        RateForm::Flow {
            from,
            to,
            shape,
            extent,
        } => {
            let until = match extent {
                Extent::For(duration) => format!("for {}", format_duration(duration)),
                Extent::Requests(requests) => format!("for {}", count(requests, "request")),
            };
            let rate = if from == to && from == Rate::default() {
                "nothing".to_owned()
            } else if from == to {
                from.to_string()
            } else if shape == RampShape::Exponential {
                format!("{from} to {to} by equal factors")
            } else {
                format!("{from} to {to}")
            };
            format!("{rate} {until}")
        }
    }
}

fn users_sentence(piece: &UserPiece, stage: &Stage) -> String {
    let users = if piece.from == piece.to {
        count(u64::from(piece.to), "user")
    } else {
        format!("{} to {}", piece.from, count(u64::from(piece.to), "user"))
    };
    match piece.extent {
        UserExtent::For(duration) => format!("{users} for {}", format_duration(duration)),
        UserExtent::Requests(requests) => format!(
            "{users}, {} between them{}",
            count(requests, "request"),
            tail(stage)
        ),
        UserExtent::RequestsPerUser(each) => {
            format!("{users}, {} each{}", count(each, "request"), tail(stage))
        }
        UserExtent::AtLeast {
            duration,
            requests,
            at_most,
        } => format!(
            "{users} for {} and {} at least, {} at most",
            format_duration(duration),
            count(requests, "request"),
            format_duration(at_most)
        ),
    }
}

fn tail(stage: &Stage) -> &'static str {
    if stage.tail_fill {
        ", held to the end"
    } else {
        ""
    }
}

pub(super) fn planned_requests(stage: &Stage) -> String {
    match stage.requests {
        Planned::Exact(requests) => count(requests as u64, "request"),
        Planned::Estimate(requests) => {
            format!("about {}", count(requests.round() as u64, "request"))
        }
        Planned::Unknown => "as many requests as users make".to_owned(),
    }
}

// ---- cells, SLOs, order ----

fn describe_cells(plan: &Plan, text: &mut String) {
    let _ = writeln!(text, "\ncells");
    // The numbers of an engine without a server do not mean the same as those of one that has.
    let named = |cell: &Cell| match cell.backend.api {
        Api::Offline => format!("{} (offline)", cell.id),
        _ => cell.id.clone(),
    };
    let width = plan
        .cells
        .iter()
        .map(|cell| named(cell).chars().count())
        .max()
        .unwrap_or(0);
    for cell in &plan.cells {
        let totals = cell_totals(cell);
        let prompts = match cell.workload.measured() {
            Some(prompts) => count(prompts, "prompt"),
            None => "endless prompts".to_owned(),
        };
        let reused = if cell.stages.iter().any(|stage| stage.prompts_reused) {
            ", reused"
        } else {
            ""
        };
        let lengths = made_lengths(cell.workload.facts());
        let tokens = if totals.requests > 0.0 && !totals.open_requests {
            format!("up to {} output tokens", grouped(totals.output_tokens))
        } else {
            format!("up to {} tokens an answer", cell.request.max_tokens)
        };
        let _ = writeln!(
            text,
            "  {:<width$}  {prompts}{lengths}{reused} · {tokens} · {}",
            named(cell),
            short_digest(&cell.digest)
        );
    }
    for id in &plan.deselected {
        let _ = writeln!(text, "  {id:<width$}  not selected");
    }
}

/// How long the prompts of a made set are, and whether a tokenizer says so; nothing for prompts that somebody wrote.
pub(super) fn made_lengths(facts: &Facts) -> String {
    match (facts.read, facts.counted) {
        (0, true) => format!(" of {} tokens (median)", facts.tokens.median),
        (0, false) => format!(
            " of about {} tokens (median, estimated)",
            facts.tokens.median
        ),
        _ => String::new(),
    }
}

fn describe_slos(plan: &Plan, text: &mut String) {
    if plan.slos.is_empty() && plan.skipped_slos.is_empty() {
        let _ = writeln!(text, "\nno SLOs: nothing is gated");
        return;
    }
    let _ = writeln!(text, "\nSLOs");
    for slo in &plan.slos {
        let _ = writeln!(
            text,
            "  {}  {} · {}",
            slo.id,
            slo.text,
            count(slo.instances.len() as u64, "verdict")
        );
        let mut told: Vec<String> = Vec::new();
        let of_levels = |instance: &&SloInstance| {
            let mut cells = instance.scope.cells.iter();
            cells.any(|cell| plan.cells[*cell].search.is_some())
        };
        if slo.instances.iter().any(|instance| of_levels(&instance)) {
            let _ = writeln!(text, "    at each level that a search tries");
        }
        for line in slo
            .instances
            .iter()
            .filter(|instance| !of_levels(instance))
            .filter_map(|instance| samples_line(plan, instance))
        {
            if !told.contains(&line) {
                let _ = writeln!(text, "    {line}");
                told.push(line);
            }
        }
    }
    for (id, reason) in &plan.skipped_slos {
        let _ = writeln!(text, "  {id}  skipped: {reason}");
    }
    for note in &plan.notes {
        let _ = writeln!(text, "  note: {note}");
    }
}

/// The samples that an instance will have against what its percentile needs; `None` if it names no percentile over requests.
fn samples_line(plan: &Plan, instance: &SloInstance) -> Option<String> {
    let need = samples::needed(&instance.text)?;
    let place = scope_place(plan, instance);
    let needed = format!("P{} needs {}", trim_float(need.percentile), need.samples);
    Some(match planned_samples(plan, instance) {
        Some(planned) if planned >= need.samples as f64 => {
            format!("{place}: {} samples, {needed}", grouped(planned))
        }
        Some(planned) => format!("{place}: {} samples, {needed}: thin", grouped(planned)),
        None => format!("{place}: as many samples as users make, {needed}"),
    })
}

/// The load and stage of an instance.
pub(super) fn scope_place(plan: &Plan, instance: &SloInstance) -> String {
    let scope = &instance.scope;
    let named = scope
        .cells
        .first()
        .zip(scope.stages.first())
        .and_then(|(cell, stage)| {
            let cell = plan.cells.get(*cell)?;
            Some(format!("{}/{}", cell.load, cell.stages.get(*stage)?.name))
        });
    named.unwrap_or_else(|| "everything".to_owned())
}

/// The requests that the stages of an instance plan; `None` if that cannot be told.
pub(super) fn planned_samples(plan: &Plan, instance: &SloInstance) -> Option<f64> {
    let scope = &instance.scope;
    let mut requests = 0.0;
    for (cell, stage) in scope.cells.iter().zip(&scope.stages) {
        requests += plan
            .cells
            .get(*cell)?
            .stages
            .get(*stage)?
            .requests
            .value()?;
    }
    Some(requests)
}

/// Runs beyond these are only counted.
const RUNS_SHOWN: usize = 24;

fn describe_engines(plan: &Plan, text: &mut String) {
    let mut told: Vec<String> = Vec::new();
    for cell in &plan.cells {
        let Some(launch) = &cell.backend.launch else {
            continue;
        };
        let words = launch.words.join(" ");
        if told.is_empty() {
            let _ = writeln!(
                text,
                "\nengines, started {}",
                match plan.starts() {
                    1 => "once".to_owned(),
                    starts => format!("{starts} times in all"),
                }
            );
        }
        if !told.contains(&words) {
            let _ = writeln!(text, "  {:<12} {words}", cell.backend.id);
            told.push(words);
        }
    }
    describe_external(plan, text);
}

fn describe_external(plan: &Plan, text: &mut String) {
    let mut told: Vec<&str> = Vec::new();
    for cell in &plan.cells {
        let Some(bench) = &cell.backend.external_bench else {
            continue;
        };
        if told.is_empty() {
            let _ = writeln!(
                text,
                "\nthe engines' own benchmarks, behind the last cell of each"
            );
        }
        if !told.contains(&cell.backend.id.as_str()) {
            let words = bench.words.join(" ");
            let _ = writeln!(text, "  {:<12} {words}", cell.backend.id);
            told.push(&cell.backend.id);
        }
    }
}

fn describe_order(plan: &Plan, text: &mut String) {
    if plan.order.len() < 2 {
        return;
    }
    let _ = writeln!(text, "\norder");
    for (position, run) in plan.order.iter().take(RUNS_SHOWN).enumerate() {
        let repeat = if plan.repeats > 1 {
            format!("  repeat {}", run.repeat + 1)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "  {:>3}. {}{repeat}",
            position + 1,
            plan.cells[run.cell].id
        );
    }
    if let Some(more) = plan
        .order
        .len()
        .checked_sub(RUNS_SHOWN)
        .filter(|more| *more > 0)
    {
        let _ = writeln!(text, "  and {more} more");
    }
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number as f64))
}

/// A whole number with a thin gap between thousands: `81 360`.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.ceil());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn long(seconds: f64) -> String {
    format_duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

// ---- arrivals ----

/// Writes every planned arrival as CSV, in the order of cells and repeats: the same bytes on every run.
///
/// Times count from the start of the part of the load that a drain ends. A repeat after the first is marked `#2` behind the
/// cell's id. What the answers decide (users, batches after the first) has no arrivals to list; a comment says so.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_arrivals(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "cell,stage,index,at_ns,prompt,streamed")?;
    for cell in &plan.cells {
        for repeat in 0..plan.repeats {
            let id = match repeat {
                0 => cell.id.clone(),
                _ => format!("{}#{}", cell.id, repeat + 1),
            };
            for (segment, planned) in cell.segments.iter().enumerate() {
                let mut list = ArrivalList {
                    plan,
                    cell,
                    id: &id,
                    repeat,
                    out,
                };
                list.segment(segment, planned)?;
            }
        }
    }
    Ok(())
}

struct ArrivalList<'a, W> {
    plan: &'a Plan,
    cell: &'a Cell,
    id: &'a str,
    repeat: u32,
    out: &'a mut W,
}

impl<W: Write> ArrivalList<'_, W> {
    fn segment(&mut self, index: usize, segment: &Segment) -> io::Result<()> {
        match &segment.schedule {
            Schedule::Open { curve, .. } => {
                let seed = self.cell.segment_seed(self.plan.seed, index, self.repeat);
                for arrival in curve.arrivals(&seed) {
                    self.row(arrival.stage, arrival.in_stage, arrival.at)?;
                }
                Ok(())
            }
            Schedule::Batch { size, requests } => {
                let first = size.map_or(*requests, |size| u64::from(size).min(*requests));
                for member in 0..first {
                    self.row(segment.stages.start, member, Moment::ZERO)?;
                }
                if first < *requests {
                    self.comment(
                        segment.stages.start,
                        "later batches leave when the one before has ended",
                    )?;
                }
                Ok(())
            }
            Schedule::Closed { .. } => {
                for stage in segment.stages.clone() {
                    self.comment(
                        stage,
                        "closed loop, its users send when they have their answers",
                    )?;
                }
                Ok(())
            }
        }
    }

    fn row(&mut self, stage: usize, index: u64, at: Moment) -> io::Result<()> {
        let planned = &self.cell.stages[stage];
        let prompt = if planned.measured {
            let base = u64::from(self.repeat) * self.cell.prompts_per_repeat;
            self.cell
                .workload
                .prompt(base + planned.prompt_offset + index)
        } else {
            self.cell
                .workload
                .warmup_prompt(planned.prompt_offset + index)
        };
        writeln!(
            self.out,
            "{},{},{index},{},{},{}",
            self.id,
            planned.name,
            at.ns(),
            quoted(&prompt.id),
            self.cell.request.stream
        )
    }

    fn comment(&mut self, stage: usize, text: &str) -> io::Result<()> {
        writeln!(
            self.out,
            "# {},{}: {text}",
            self.id, self.cell.stages[stage].name
        )
    }
}

/// A CSV field, quoted where it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with('#') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_read_in_thousands() {
        assert_eq!(grouped(81_360.0), "81 360");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_000_000.0), "1 000 000");
    }

    #[test]
    fn a_prompt_id_with_a_comma_is_quoted() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("chat-1"), "chat-1");
    }
}
