//! The set that a command line means. It stands for an entry of `prompts:` in a scenario, and is loaded as one.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::args::FileOptions;
use super::super::console::Console;
use super::super::file;
use super::args::SetArgs;
use crate::diagnostic::{self, Severity};
use crate::plan::{Dialogue, Plan};
use crate::workload::{Tokenizer, Workload};

/// A loaded set.
pub(super) struct Set {
    /// Its id in the scenario; `set` where there is none.
    pub(super) id: String,
    pub(super) workload: Arc<Workload>,
    pub(super) dialogue: Option<Dialogue>,
    /// What counts its tokens.
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
}

/// Loads the sets that are meant; `None` when that was a mistake, which has been told.
pub(super) fn open(args: &SetArgs, console: &Console) -> anyhow::Result<Option<Vec<Set>>> {
    let scenario = scenario_at(&args.source);
    let (path, text) = match &scenario {
        Some(text) => (args.source.clone(), text.clone()),
        None => ("dataset.yaml".to_owned(), scenario_of(args)?),
    };
    let options = FileOptions {
        seed: scenario
            .is_some()
            .then_some(args.seed)
            .filter(|seed| *seed != 1),
        simulate: true,
        ..FileOptions::default()
    };
    let read = file::read_text(Path::new(&path), &text, &options, file::Aim::Run)?;
    let Some(plan) = read.plan else {
        let wrong = read.diagnostics.into_iter();
        let wrong: Vec<_> = wrong
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .collect();
        let told = diagnostic::render(&wrong, &read.sources, console.color_errors);
        console.talk(&told);
        return Ok(None);
    };
    Ok(Some(sets(plan)))
}

/// Each set once, in the order of the cells.
fn sets(plan: Plan) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for cell in plan.cells {
        if sets.iter().all(|set| set.id != cell.prompts) {
            sets.push(Set {
                id: cell.prompts,
                workload: cell.workload,
                dialogue: cell.dialogue,
                tokenizer: cell.model.tokenizer.clone(),
            });
        }
    }
    sets
}

/// The text of the scenario file that is named, if one is.
fn scenario_at(source: &str) -> Option<String> {
    let path = Path::new(source);
    let is_yaml = path
        .extension()
        .is_some_and(|ending| ending == "yaml" || ending == "yml");
    let text = is_yaml.then(|| std::fs::read_to_string(path).ok())??;
    let of_scenarios = |line: &str| line.starts_with("version:") || line.starts_with("extends:");
    text.lines().any(of_scenarios).then_some(text)
}

/// The scenario that the command stands for.
fn scenario_of(args: &SetArgs) -> anyhow::Result<String> {
    let mut set = Map::new();
    let kind = args.kind.clone().unwrap_or_else(|| kind(&args.source));
    set.insert("source".to_owned(), json!(kind));
    set.insert("path".to_owned(), json!(absolute(&args.source)));
    if kind == "conversations" {
        // What was answered is a part of the set, whoever answers in a run.
        set.insert("history".to_owned(), json!("recorded"));
    }
    for key in &args.keys {
        let Some((name, value)) = key.split_once('=') else {
            anyhow::bail!("`--with {key}` is not KEY=VALUE");
        };
        let value: Value =
            serde_yaml::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        set.insert(name.to_owned(), value);
    }
    set.insert("seed".to_owned(), json!(args.seed));
    let mut model = json!({ "id": "any" });
    if let Some(tokenizer) = &args.tokenizer {
        let is_file = Path::new(tokenizer).exists();
        let named = if is_file {
            absolute(tokenizer)
        } else {
            tokenizer.clone()
        };
        model["tokenizer"] = json!(named);
    }
    let load = match kind.as_str() {
        "trace" => json!({ "trace": { "prompts": "set" } }),
        _ => json!({ "stages": [{ "name": "s", "users": 1, "for": "1s" }] }),
    };
    let scenario = json!({
        "version": 1,
        "backends": { "sim": { "kind": "simulator" } },
        "models": { "model": model },
        "prompts": { "set": set },
        "load": { "l": load },
    });
    Ok(serde_yaml::to_string(&scenario)?)
}

/// A path from everywhere; what is no path stays as it is.
fn absolute(source: &str) -> String {
    if source.contains("://") {
        return source.to_owned();
    }
    std::path::absolute(source).map_or(source.to_owned(), |path| path.display().to_string())
}

/// What a file looks like.
fn kind(source: &str) -> String {
    let ending = Path::new(source)
        .extension()
        .and_then(|ending| ending.to_str());
    let kind = match ending {
        Some("yaml" | "yml") => "categories",
        Some("json" | "jsonl") if begins_with_conversations(Path::new(source)) => "sharegpt",
        _ => "file",
    };
    kind.to_owned()
}

fn begins_with_conversations(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains("\"conversations\"")
}
