//! `scenario try`: one streamed request, shown event by event with its times, and what each event counts as.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{FileOptions, TryArgs};
use super::console::Console;
use super::exit::Exit;
use super::{file, quick};
use crate::clock::Clock;
use crate::engine::{
    BodyTemplate, Dialect, Exchange, HttpTarget, Lane, LaneFacts, Meaning, Reactor, Witnessed,
};
use crate::observation::{Outcome, StampSource, TokenSource};
use crate::plan::{Api, Cell};
use crate::server::{self, Ready};
use crate::units::Moment;

/// How much of an event's text stands in its line.
const SHOWN: usize = 48;

pub(super) fn try_one(args: &TryArgs, console: &Console) -> anyhow::Result<Exit> {
    let text = serde_yaml::to_string(&scenario(args)?)?;
    let path = std::path::Path::new("try.yaml");
    let read = file::read_text(path, &text, &FileOptions::default(), file::Aim::Quick)?;
    let Some((plan, _)) = read.told(console) else {
        return Ok(Exit::Usage);
    };
    let cell = &plan.cells[0];
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let ready = server::bring_up(&cell.backend, &cell.model, 1, &environment, &mut |_| Ok(()));
    let ready = match ready {
        Ok(ready) => ready,
        Err(problem) => {
            console.talk(&format!("error: {problem}"));
            return Ok(Exit::Inconclusive);
        }
    };
    console.data(&head(cell, &ready, &args.prompt));
    let (exchange, stamps) = send(cell, &ready, args, console)?;
    console.data(&summary(&exchange, stamps));
    Ok(match exchange.outcome {
        Outcome::Ok => Exit::Passed,
        _ => Exit::Inconclusive,
    })
}

/// The scenario that the command stands for.
fn scenario(args: &TryArgs) -> anyhow::Result<Value> {
    let mut backend =
        json!({ "kind": args.kind, "url": quick::with_scheme(&args.url)?, "api": args.api });
    if let Some(name) = &args.bearer_env {
        backend["auth"] = json!({ "bearer": { "env": name } });
    }
    let mut scenario = json!({
        "version": 1,
        "name": "try",
        "backends": { "engine": backend },
        "prompts": { "one": { "source": "inline", "prompts": [args.prompt] } },
        "load": { "one": { "stages": [{ "name": "one", "users": 1, "requests": 1 }] } },
        "request": { "max_tokens": args.max_tokens },
        "run": { "warmup": "0s" },
    });
    if let Some(model) = &args.model {
        scenario["models"] = json!({ "model": model });
    }
    Ok(scenario)
}

fn head(cell: &Cell, ready: &Ready, prompt: &str) -> String {
    let version = ready
        .facts
        .version
        .as_deref()
        .map_or(String::new(), |version| format!(" {version}"));
    format!(
        "{} · {}{version} · {} · model {}\nprompt: {}\n\n{:>10} {:>10}  what came\n",
        ready.endpoint,
        cell.backend.kind.name(),
        cell.backend.api.name(),
        ready.model,
        shortened(prompt, 100),
        "at",
        "gap"
    )
}

/// Sends the request and tells each event when it comes.
fn send(
    cell: &Cell,
    ready: &Ready,
    args: &TryArgs,
    console: &Console,
) -> anyhow::Result<(Exchange, StampSource)> {
    let dialect = Dialect {
        api: cell.backend.api,
        kind: cell.backend.kind,
    };
    let target = HttpTarget {
        endpoint: dialect.endpoint(&ready.endpoint, &ready.model),
        headers: dialect.headers(&ready.headers),
        dialect,
        timeouts: cell.request.timeouts,
        offline: None,
    };
    let template = BodyTemplate::new(dialect, &ready.model, &cell.request);
    let request = target.prepare(
        &template.fill(&cell.workload.prompt(0)),
        true,
        "scenario-try",
    );
    let reactor = Reactor::new(Clock::start(), Arc::default())?;
    let facts = Rc::new(RefCell::new(LaneFacts::default()));
    let (console, raw) = (console.clone(), args.raw);
    let exchange = reactor.clone().block_on(async {
        let mut lane = Lane::new(Arc::new(target), reactor.clone(), facts.clone());
        if let Err(error) = lane.open().await {
            console.talk(&format!("error: {error}"));
        }
        let dispatched = reactor.clock().clock().now();
        console.data(&line(
            Duration::ZERO,
            None,
            "the request is released; every time counts from here",
        ));
        let last = RefCell::new(dispatched);
        let first = RefCell::new(true);
        let mut lane = lane.watched(Rc::new(move |event: &Witnessed<'_>| {
            let gap = event.at.since(*last.borrow());
            *last.borrow_mut() = event.at;
            let is_first = matches!(event.meaning, Meaning::Output { .. }) && first.replace(false);
            let told = told(event, dialect.api, is_first, raw);
            console.data(&line(event.at.since(dispatched), Some(gap), &told));
        }));
        lane.send(&request, dispatched).await
    })?;
    let stamps = facts.borrow().stamp_source();
    Ok((exchange, stamps))
}

fn line(at: Duration, gap: Option<Duration>, told: &str) -> String {
    let gap = gap.map_or(String::new(), |gap| format!("+{}", milliseconds(gap)));
    format!("{:>10} {gap:>10}  {told}", milliseconds(at))
}

/// An event in words: what it says, and what it counts as.
fn told(event: &Witnessed<'_>, api: Api, first: bool, raw: bool) -> String {
    let data: Value = serde_json::from_slice(event.data).unwrap_or_default();
    let text = shown_text(&data, api);
    let mut told = match &event.meaning {
        Meaning::Output {
            tokens,
            content,
            shared,
        } => {
            let tokens = match tokens {
                Some(1) => "1 token".to_owned(),
                Some(count) => format!("{count} tokens"),
                None => "1 event".to_owned(),
            };
            let kind = if *content {
                "output"
            } else {
                "output, no answer text"
            };
            let text = text.map_or(String::new(), |text| {
                format!(" {}", Value::from(shortened(&text, SHOWN)))
            });
            let mark = match (first, *content) {
                (true, true) => "  ← first token: TTFT ends here",
                (true, false) => "  ← first token: TTFT ends here; TTFT of content does not",
                (false, _) => "",
            };
            let shared = if *shared {
                "  (in the same read as the one before)"
            } else {
                ""
            };
            format!("{kind}, {tokens}{text}{mark}{shared}")
        }
        Meaning::Silent => format!("{}: no output, counts for nothing", silence(&data)),
        Meaning::End => "the end mark of the stream".to_owned(),
        Meaning::Error => format!(
            "an error: {}",
            shortened(&String::from_utf8_lossy(event.data), 200)
        ),
    };
    if raw {
        let data = String::from_utf8_lossy(event.data);
        told.push_str(&format!("\n{:>23}{data}", ""));
    }
    told
}

/// What an event without output is there for.
fn silence(data: &Value) -> String {
    let usage = &data["usage"];
    let choice = &data["choices"][0];
    if usage.is_object() && data["choices"].as_array().is_none_or(Vec::is_empty) {
        return format!("usage, {}", shortened(&usage.to_string(), SHOWN));
    }
    if let Some(reason) = choice["finish_reason"].as_str() {
        return format!("finish reason `{reason}`");
    }
    if let Some(role) = choice["delta"]["role"].as_str() {
        return format!("role `{role}`");
    }
    if let Some(kind) = data["type"].as_str() {
        return format!("event `{kind}`");
    }
    "an event".to_owned()
}

/// The text that an event carries.
fn shown_text(data: &Value, api: Api) -> Option<String> {
    let places: &[&str] = match api {
        Api::Chat | Api::Completions | Api::Offline => &[
            "/choices/0/delta/content",
            "/choices/0/delta/reasoning_content",
            "/choices/0/delta/reasoning",
            "/choices/0/text",
        ],
        Api::Responses => &["/delta"],
        Api::Messages => &["/delta/text", "/delta/thinking"],
        Api::Generate => &["/text"],
        Api::Triton => &["/text_output"],
        Api::Tgi => &["/token/text"],
        Api::Ollama => &["/message/content", "/message/thinking"],
    };
    let texts = places
        .iter()
        .filter_map(|place| data.pointer(place)?.as_str());
    texts
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .next()
}

/// The numbers that a report would have of this request.
fn summary(exchange: &Exchange, stamps: StampSource) -> String {
    let since = |at: Option<Moment>| at.map(|at| at.since(exchange.dispatched));
    let mut lines = vec![String::new()];
    let mut add = |name: &str, value: Option<Duration>, means: &str| {
        if let Some(value) = value {
            lines.push(format!("{name:<12} {:>10}  {means}", milliseconds(value)));
        }
    };
    add(
        "connect",
        exchange.connect,
        "opening the connection; a run opens it ahead",
    );
    add(
        "head",
        since(exchange.headers),
        "the head of the answer; in no latency",
    );
    add(
        "first_event",
        since(exchange.first_event),
        "the first event of any kind, also one that only names the role",
    );
    add(
        "ttft",
        since(exchange.first_token),
        "the first generated output",
    );
    add(
        "ttft_content",
        since(exchange.first_content),
        "the first visible answer text",
    );
    add(
        "e2e",
        since(exchange.last_token),
        "the last generated output",
    );
    let tokens = exchange.tokens.output;
    let tpot = exchange
        .first_token
        .zip(exchange.last_token)
        .zip(tokens)
        .filter(|(_, tokens)| *tokens > 1);
    if let Some(((first, last), tokens)) = tpot {
        let first_event = exchange
            .events
            .iter()
            .next()
            .map_or(1, |event| event.tokens.max(1));
        let after = tokens.saturating_sub(first_event).max(1);
        add(
            "tpot",
            Some(last.since(first) / after),
            "from the first to the last output, for each token after the first event",
        );
    }
    let source = match exchange.tokens.source {
        TokenSource::Usage => "as the engine's usage says",
        TokenSource::Events => "counted by events: the engine tells no usage",
        _ => "nobody knows how many",
    };
    if let Some(tokens) = tokens {
        let input = exchange
            .tokens
            .input
            .map_or(String::new(), |input| format!(", {input} of the prompt"));
        lines.push(format!(
            "{:<12} {tokens:>10}  {source}{input}, in {} output events",
            "tokens",
            exchange.events.len()
        ));
    }
    let stamps = match stamps {
        StampSource::Kernel => "the kernel's receive times",
        StampSource::Read => "the instants of reads",
    };
    lines.push(format!("{:<12} {:>10}  times are {stamps}", "stamps", ""));
    lines.push(format!("\n{}", ended(exchange)));
    lines.join("\n")
}

fn ended(exchange: &Exchange) -> String {
    let reason = exchange.finish_reason.as_deref().unwrap_or("unknown");
    match &exchange.outcome {
        Outcome::Ok => format!("✓ answered (finish reason `{reason}`)"),
        Outcome::Refused { status, body, .. } => format!(
            "✗ refused with HTTP {status}: {}",
            shortened(body.trim(), 300)
        ),
        Outcome::ErrorEvent(text) | Outcome::Malformed(text) | Outcome::ConnectFailed(text) => {
            format!("✗ {}: {}", exchange.outcome.name(), shortened(text, 300))
        }
        other => format!("✗ {}", other.name()),
    }
}

/// A text on one line, cut where it is long.
fn shortened(text: &str, most: usize) -> String {
    let line: String = text.chars().take(most).collect();
    if line.len() < text.len() {
        format!("{line}…")
    } else {
        line
    }
}

fn milliseconds(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms < 100.0 {
        format!("{ms:.2}ms")
    } else {
        format!("{ms:.0}ms")
    }
}
