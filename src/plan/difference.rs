//! What changes from one plan to another, in the words of `scenario plan`.

use std::fmt::Write as _;

use super::describe::{
    made_lengths, planned_requests, search_sentence, short_digest, stage_sentence, totals,
};
use super::{Backend, Cell, HeaderValue, Plan, Slo, SloInstance};
use crate::units::{format_duration, trim_float};

/// What changes of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `scenario`, `cell vllm/llama8b/chat/steady`, `SLO ttft`.
    pub subject: String,
    /// What changes of it.
    pub change: Change,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is only in the second plan.
    Added,
    /// It is only in the first plan.
    Removed,
    /// These facts of it, each by name, before and after; one that is missing is not there.
    Facts(Vec<(String, Option<String>, Option<String>)>),
}

/// Facts by name, in an order for people.
type Facts = Vec<(String, String)>;

/// Everything that changes from one plan to another.
pub fn differences(before: &Plan, after: &Plan) -> Vec<Difference> {
    let (before, after) = (subjects(before), subjects(after));
    let mut all = Vec::new();
    for (subject, old) in &before {
        let change = match find(&after, subject) {
            None => Change::Removed,
            Some(new) => match changed(old, new) {
                facts if facts.is_empty() => continue,
                facts => Change::Facts(facts),
            },
        };
        let subject = subject.clone();
        all.push(Difference { subject, change });
    }
    for (subject, _) in after {
        if find(&before, &subject).is_none() {
            let change = Change::Added;
            all.push(Difference { subject, change });
        }
    }
    all
}

/// Differences as text; empty without any.
pub fn render(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        let subject = &difference.subject;
        let _ = match &difference.change {
            Change::Added => writeln!(text, "+ {subject}"),
            Change::Removed => writeln!(text, "- {subject}"),
            Change::Facts(_) => writeln!(text, "~ {subject}"),
        };
        let Change::Facts(facts) = &difference.change else {
            continue;
        };
        let width = facts.iter().map(|(name, ..)| name.chars().count()).max();
        let width = width.unwrap_or(0);
        for (name, before, after) in facts {
            let or_none = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "none".to_owned());
            let (before, after) = (or_none(before), or_none(after));
            let _ = writeln!(text, "    {name:<width$}  {before} → {after}");
        }
    }
    text
}

fn find<'f>(subjects: &'f [(String, Facts)], name: &str) -> Option<&'f Facts> {
    let found = subjects.iter().find(|(subject, _)| subject == name);
    found.map(|(_, facts)| facts)
}

fn changed(old: &Facts, new: &Facts) -> Vec<(String, Option<String>, Option<String>)> {
    let of = |facts: &Facts, name: &str| {
        let found = facts.iter().find(|(known, _)| known == name);
        found.map(|(_, fact)| fact.clone())
    };
    let mut names: Vec<&String> = old.iter().map(|(name, _)| name).collect();
    for (name, _) in new {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
        .into_iter()
        .map(|name| (name.clone(), of(old, name), of(new, name)))
        .filter(|(_, before, after)| before != after)
        .collect()
}

fn subjects(plan: &Plan) -> Vec<(String, Facts)> {
    let mut all = vec![("scenario".to_owned(), of_plan(plan))];
    for cell in &plan.cells {
        all.push((format!("cell {}", cell.id), of_cell(cell)));
    }
    for slo in &plan.slos {
        all.push((format!("SLO {}", slo.id), of_slo(slo)));
    }
    for (id, reason) in &plan.skipped_slos {
        let facts = vec![("skipped".to_owned(), reason.to_string())];
        all.push((format!("SLO {id}"), facts));
    }
    all
}

fn of_plan(plan: &Plan) -> Facts {
    let totals = totals(plan);
    let mut facts = vec![
        fact("name", &plan.name),
        fact("cells", plan.cells.len()),
        fact("repeats", plan.repeats),
        fact("seed", plan.seed),
        fact("requests", trim_float(totals.requests.round())),
        fact("duration", seconds(totals.seconds)),
    ];
    facts.extend(plan.owner.iter().map(|owner| fact("owner", owner)));
    facts.extend(
        plan.description
            .iter()
            .map(|text| fact("description", text)),
    );
    let files = plan.baseline.iter();
    facts.extend(files.map(|baseline| fact("baseline", baseline.file.display())));
    facts
}

fn of_cell(cell: &Cell) -> Facts {
    let mut facts = of_backend(&cell.backend);
    let served = cell.model.name_for(&cell.backend.id);
    facts.push(fact("model", served.unwrap_or("what the server lists")));
    let prompts = match cell.workload.measured() {
        Some(prompts) => format!("{prompts} prompts"),
        None => "endless prompts".to_owned(),
    };
    facts.push(fact(
        "prompts",
        prompts + &made_lengths(cell.workload.facts()),
    ));
    if let Some(search) = &cell.search {
        facts.push(fact("search", search_sentence(cell, search)));
    }
    // The levels of a search differ in their number alone.
    let shown = if cell.search.is_some() {
        1
    } else {
        cell.segments.len()
    };
    for segment in &cell.segments[..shown] {
        for index in segment.stages.clone() {
            let stage = &cell.stages[index];
            let measured = if stage.measured { "" } else { ", not measured" };
            let sentence = stage_sentence(cell, segment, index);
            let requests = planned_requests(stage);
            let name = format!("stage {}", stage.name);
            facts.push((name, format!("{sentence}: {requests}{measured}")));
        }
    }
    let request = &cell.request;
    facts.push(fact("max_tokens", request.max_tokens));
    facts.push(fact("temperature", trim_float(request.temperature)));
    facts.push(fact("stream", request.stream));
    facts.push(fact(
        "total timeout",
        format_duration(request.timeouts.total),
    ));
    let beyond = request.beyond();
    if !beyond.is_empty() {
        facts.push(fact("extra", serde_json::Value::Object(beyond)));
    }
    facts.push(fact("what is sent", short_digest(&cell.digest)));
    facts
}

fn of_backend(backend: &Backend) -> Facts {
    let mut facts = vec![
        fact("kind", backend.kind.name()),
        fact("api", backend.api.name()),
    ];
    if let Some(url) = &backend.url {
        facts.push(fact("url", url));
    }
    if let Some(preset) = &backend.preset {
        facts.push(fact("preset", preset));
    }
    if let Some(launch) = &backend.launch {
        facts.push(fact("command", launch.words.join(" ")));
    }
    for (name, words) in [("up", &backend.up), ("down", &backend.down)] {
        if !words.is_empty() {
            facts.push(fact(name, words.join(" ")));
        }
    }
    for (header, value) in &backend.headers {
        let value = match value {
            HeaderValue::Literal(text) => text.clone(),
            HeaderValue::Environment { name, .. } => format!("from ${name}"),
        };
        facts.push((format!("header {header}"), value));
    }
    facts
}

fn of_slo(slo: &Slo) -> Facts {
    let mut facts = vec![
        fact("assert", &slo.text),
        fact("level", format!("{:?}", slo.level).to_lowercase()),
        fact("verdicts", slo.instances.len()),
    ];
    for instance in slo
        .instances
        .iter()
        .filter(|instance| instance.text != slo.text)
    {
        facts.push((format!("for {}", place(instance)), instance.text.clone()));
    }
    if let Some(window) = slo.window {
        facts.push(fact("window", format_duration(window)));
    }
    if slo.abort.is_some() {
        facts.push(fact("abort", "yes"));
    }
    facts
}

fn place(instance: &SloInstance) -> String {
    let labels = instance.labels.iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    labels.join(", ")
}

fn fact(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn seconds(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    format_duration(whole)
}
