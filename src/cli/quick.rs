//! `scenario quick`: one line, no file. The line stands for a scenario file; `--save` writes it.

use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::args::{FileOptions, QuickArgs};
use super::console::Console;
use super::exit::Exit;
use super::{file, run, signals};

pub(super) fn quick(
    args: &QuickArgs,
    command: &[String],
    console: &Console,
) -> anyhow::Result<Exit> {
    run::hide_token(&args.output.live, console);
    let text = scenario_text(args)?;
    if let Some(path) = &args.save {
        std::fs::write(path, &text)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        console.talk(&format!("wrote {}", path.display()));
    } else if args.output.verbose {
        console.talk(&text);
    }
    // Paths in the file start from where it is.
    let path = args.save.as_deref().unwrap_or(Path::new("quick.yaml"));
    let Some((plan, sources)) =
        file::read_text(path, &text, &FileOptions::default(), file::Aim::Quick)?.told(console)
    else {
        return Ok(Exit::Usage);
    };
    args.output.begin()?;
    let interrupt = signals::count(console, true)?;
    let live = run::live(&args.output.live, console)?;
    let exit = run::execute(
        &plan,
        &sources,
        &args.output,
        command,
        &interrupt,
        live.as_ref(),
        console,
    );
    if let Some(live) = live {
        live.finish();
    }
    exit
}

/// `localhost:8000` as people type it, as a URL.
pub(super) fn with_scheme(url: &str) -> anyhow::Result<String> {
    match url.split_once("://") {
        None => Ok(format!("http://{url}")),
        Some(("http" | "https", _)) => Ok(url.to_owned()),
        Some((scheme, _)) => {
            anyhow::bail!("`{scheme}://` is not spoken here: write an http:// or https:// URL")
        }
    }
}

/// The scenario file that the command stands for.
fn scenario_text(args: &QuickArgs) -> anyhow::Result<String> {
    let mut scenario = Map::new();
    scenario.insert("version".into(), json!(1));
    scenario.insert("name".into(), json!("quick"));
    let mut backend = json!({ "kind": "openai", "url": with_scheme(&args.url)? });
    if let Some(name) = &args.bearer_env {
        backend["auth"] = json!({ "bearer": { "env": name } });
    }
    scenario.insert("backends".into(), json!({ "engine": backend }));
    if let Some(model) = &args.model {
        scenario.insert("models".into(), json!({ "model": model }));
    }
    if let Some(path) = &args.prompts {
        // The file may be saved anywhere, and its paths start from there.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let source = if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && is_sharegpt(&path)
        {
            "sharegpt"
        } else {
            "file"
        };
        scenario.insert(
            "prompts".into(),
            json!({ "prompts": { "source": source, "path": path } }),
        );
    }
    scenario.insert(
        "load".into(),
        json!({ "quick": { "stages": stages(args)? } }),
    );
    scenario.insert("request".into(), json!({ "max_tokens": args.max_tokens }));
    scenario.insert("run".into(), json!({ "seed": args.seed }));
    let slos: Map<String, Value> = args
        .slos
        .iter()
        .enumerate()
        .map(|(n, slo)| (format!("slo-{}", n + 1), json!(slo)))
        .collect();
    if !slos.is_empty() {
        scenario.insert("slos".into(), Value::Object(slos));
    }
    Ok(serde_yaml::to_string(&Value::Object(scenario))?)
}

fn stages(args: &QuickArgs) -> anyhow::Result<Value> {
    let load = match (args.users, &args.rate) {
        (Some(users), None) => ("users", json!(users)),
        (None, Some(rate)) => ("rate", json!(rate)),
        (None, None) => ("users", json!(1)),
        (Some(_), Some(_)) => anyhow::bail!("--users and --rate exclude each other"),
    };
    Ok(json!([
        { "name": "warm", load.0: load.1, "for": args.warmup, "measure": false },
        { "name": "measured", "for": args.duration },
    ]))
}

/// Whether a JSON file begins like a ShareGPT one.
fn is_sharegpt(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains("\"conversations\"")
}
