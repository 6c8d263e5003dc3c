//! `scenario init`: a commented file to start from, for an engine that runs here, for one elsewhere, or for the simulator.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Context;
use minijinja::{Environment, context};

use super::args::InitArgs;
use super::console::Console;
use super::exit::Exit;
use super::quick::with_scheme;
use crate::plan::BackendKind;
use crate::server::detect::{self, Detected};

const TEMPLATE: &str = include_str!("init.yaml.j2");

/// What the file is for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    /// The engine; without it the simulator.
    engine: Option<Engine>,
    /// The model that is named in it.
    model: Option<String>,
    /// The users that the load goes up to.
    users: u32,
    /// The bound of the first SLO.
    ttft: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Engine {
    url: String,
    kind: &'static str,
}

pub(super) fn init(args: &InitArgs, console: &Console) -> anyhow::Result<Exit> {
    if args.file.exists() && !args.force {
        anyhow::bail!(
            "`{}` is there already; --force replaces it",
            args.file.display()
        );
    }
    let asks = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let wanted = if asks {
        asked(args, console, &mut std::io::stdin().lock())?
    } else {
        given(args, console)?
    };
    let text = starter(&wanted)?;
    std::fs::write(&args.file, text)
        .with_context(|| format!("cannot write `{}`", args.file.display()))?;
    console.data(&format!(
        "wrote {0}\nnext: scenario run {0}",
        args.file.display()
    ));
    Ok(Exit::Passed)
}

/// What the flags say, and for the rest what runs here.
fn given(args: &InitArgs, console: &Console) -> anyhow::Result<Wanted> {
    let found = running(args)?;
    let mut model = args.model.clone();
    let engine = match (&args.url, found.first()) {
        (Some(url), _) => Some(Engine {
            url: with_scheme(url)?,
            kind: args.kind.as_deref().map_or(Ok("openai"), kind)?,
        }),
        (None, Some(engine)) => {
            console.talk(&told(engine));
            if engine.models.len() > 1 && model.is_none() {
                model = engine.models.first().cloned();
                console.talk(&format!(
                    "it serves {} models; the file names the first",
                    engine.models.len()
                ));
            }
            Some(Engine {
                url: engine.url.clone(),
                kind: args.kind.as_deref().map_or(Ok(engine.kind.name()), kind)?,
            })
        }
        (None, None) => None,
    };
    Ok(Wanted {
        engine,
        model,
        users: args.users,
        ttft: args.ttft.clone(),
    })
}

/// What a person at a terminal answers; an empty answer takes what is offered.
fn asked(args: &InitArgs, console: &Console, answers: &mut impl BufRead) -> anyhow::Result<Wanted> {
    let found = running(args)?;
    for engine in &found {
        console.talk(&told(engine));
    }
    let offered = args
        .url
        .clone()
        .or_else(|| found.first().map(|engine| engine.url.clone()));
    let offered = offered.unwrap_or_else(|| "simulator".to_owned());
    let url = ask("engine (a URL, or `simulator`)", &offered, answers)?;
    let engine = if url == "simulator" {
        None
    } else {
        let url = with_scheme(&url)?;
        let guess = found
            .iter()
            .find(|engine| engine.url == url)
            .map_or("openai", |engine| engine.kind.name());
        let named = ask(
            "kind of engine",
            args.kind.as_deref().unwrap_or(guess),
            answers,
        )?;
        Some(Engine {
            kind: kind(&named)?,
            url,
        })
    };
    let listed = engine
        .as_ref()
        .and_then(|engine| found.iter().find(|found| found.url == engine.url));
    let listed = listed.map_or(&[][..], |engine| &engine.models);
    let model = match (&args.model, listed) {
        (Some(model), _) => Some(model.clone()),
        (None, [first, _, ..]) => Some(ask(
            &format!("model ({})", listed.join(", ")),
            first,
            answers,
        )?),
        (None, _) => None,
    };
    let users = ask(
        "users at the top of the load",
        &args.users.to_string(),
        answers,
    )?;
    let ttft = ask("95 of 100 first tokens come within", &args.ttft, answers)?;
    Ok(Wanted {
        engine,
        model,
        users: users
            .parse()
            .with_context(|| format!("`{users}` is no number of users"))?,
        ttft,
    })
}

fn ask(what: &str, offered: &str, answers: &mut impl BufRead) -> anyhow::Result<String> {
    let mut error = std::io::stderr().lock();
    write!(error, "{what} [{offered}]: ")?;
    error.flush()?;
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let answer = line.trim();
    Ok(if answer.is_empty() { offered } else { answer }.to_owned())
}

/// The engines that run here, unless the flags say what is meant.
fn running(args: &InitArgs) -> anyhow::Result<Vec<Detected>> {
    if args.simulator || args.url.is_some() {
        return Ok(Vec::new());
    }
    let ports: &[u16] = match args.ports.as_slice() {
        [] => &detect::USUAL_PORTS,
        ports => ports,
    };
    detect::detect(ports).context("cannot look for a running engine")
}

fn told(engine: &Detected) -> String {
    let models = match engine.models.as_slice() {
        [] => "no model".to_owned(),
        models => models.join(", "),
    };
    format!(
        "found {} at {}, which serves {models}",
        engine.kind.name(),
        engine.url
    )
}

fn kind(name: &str) -> anyhow::Result<&'static str> {
    let known = crate::spec::BackendKind::ALL.iter().map(|kind| kind.name());
    known.clone().find(|known| *known == name).with_context(|| {
        format!(
            "`{name}` is no kind of engine: it is one of {}",
            known.collect::<Vec<_>>().join(", ")
        )
    })
}

/// The text of a first file.
fn starter(wanted: &Wanted) -> anyhow::Result<String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let id = |kind: &str| {
        if kind == BackendKind::LlamaCpp.name() {
            "llama-cpp".to_owned()
        } else {
            kind.to_owned()
        }
    };
    let environment = Environment::new();
    let mut text = environment.render_str(
        TEMPLATE,
        context! {
            id => wanted.engine.as_ref().map(|engine| if engine.kind == "openai" { "engine".to_owned() } else { id(engine.kind) }),
            kind => wanted.engine.as_ref().map(|engine| engine.kind),
            url => wanted.engine.as_ref().map(|engine| quoted(&engine.url)),
            model => wanted.model.as_deref().map(quoted),
            users => wanted.users,
            ttft => wanted.ttft.clone(),
        },
    )?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(engine: Option<Engine>, model: Option<&str>) -> Wanted {
        Wanted {
            engine,
            model: model.map(str::to_owned),
            users: 8,
            ttft: "500ms".to_owned(),
        }
    }

    #[test]
    fn the_first_file_checks_with_and_without_an_engine() {
        let engines = crate::spec::BackendKind::ALL
            .iter()
            .filter(|kind| kind.name() != "simulator");
        let mut all: Vec<Option<Engine>> = engines
            .map(|kind| {
                let url = "http://127.0.0.1:8000".to_owned();
                Some(Engine {
                    url,
                    kind: kind.name(),
                })
            })
            .collect();
        all.push(None);
        for engine in all {
            for model in [None, Some("a/b")] {
                let text = starter(&wanted(engine.clone(), model)).unwrap();
                let mut sources = crate::diagnostic::Sources::default();
                let (spec, problems) =
                    crate::spec::parse(&mut sources, std::path::Path::new("first.yaml"), &text);
                assert!(
                    spec.is_some(),
                    "{}{text}",
                    crate::diagnostic::render(&problems, &sources, false)
                );
                assert_eq!(crate::language::layout(&text).unwrap(), text);
            }
        }
    }

    #[test]
    fn what_is_answered_is_taken_and_what_is_not_is_as_offered() {
        let args = InitArgs {
            file: "a.yaml".into(),
            url: Some("localhost:9".to_owned()),
            model: None,
            kind: None,
            users: 16,
            ttft: "500ms".to_owned(),
            ports: Vec::new(),
            simulator: false,
            yes: false,
            force: false,
        };
        let console = Console::new(super::super::args::ColorChoice::Never);
        let answers = |text: &str| asked(&args, &console, &mut text.as_bytes());
        assert_eq!(
            answers("\nvllm\n32\n\n").unwrap(),
            Wanted {
                engine: Some(Engine {
                    url: "http://localhost:9".to_owned(),
                    kind: "vllm"
                }),
                model: None,
                users: 32,
                ttft: "500ms".to_owned(),
            }
        );
        assert_eq!(answers("simulator\n4\n1s\n").unwrap().engine, None);
        assert!(answers("\nvlm\n").is_err());
        assert!(answers("simulator\nmany\n").is_err());
    }
}
