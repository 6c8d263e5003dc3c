//! Traces are played as they were recorded: every arrival, at its time, with its lengths.

use std::path::{Path, PathBuf};

use crate::tool::Desk;

/// The context of the simulator's preset `fast`, in tokens.
const CONTEXT: f64 = 8192.0;

/// What a file says of its requests: seconds between them, tokens of prompts, tokens of answers.
struct Told {
    gaps: Vec<f64>,
    input: Vec<f64>,
    output: Vec<f64>,
}

impl Told {
    fn of(mut requests: Vec<(f64, f64, f64)>) -> Told {
        requests.sort_by(|a, b| a.0.total_cmp(&b.0));
        Told {
            gaps: requests.windows(2).map(|two| two[1].0 - two[0].0).collect(),
            input: requests.iter().map(|request| request.1).collect(),
            output: requests.iter().map(|request| request.2).collect(),
        }
    }
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// The rows of a table as they stand in the file, read apart from the tool.
fn azure(path: &Path) -> Vec<(f64, f64, f64)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split(',').collect();
            let clock: Vec<f64> = columns[0][11..]
                .split(':')
                .map(|part| part.parse().unwrap())
                .collect();
            let seconds = clock[0] * 3600.0 + clock[1] * 60.0 + clock[2];
            (
                seconds,
                columns[1].parse().unwrap(),
                columns[2].parse().unwrap(),
            )
        })
        .collect()
}

fn mooncake(path: &Path) -> Vec<(f64, f64, f64)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let number = |name: &str| row[name].as_f64().unwrap();
            (
                number("timestamp") / 1e3,
                number("input_length"),
                number("output_length"),
            )
        })
        .collect()
}

/// When each request of the replay was meant to leave, in the time of the trace, and its tokens; 0 where the engine told none.
fn replayed(csv: &str) -> Vec<(f64, f64, f64)> {
    let mut table = csv::Reader::from_reader(csv.as_bytes());
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (stage, intended) = (column("stage"), column("intended_ms"));
    let (input, output) = (column("input_tokens"), column("output_tokens"));
    table
        .records()
        .map(Result::unwrap)
        .filter(|request| &request[stage] == "replay")
        .map(|request| {
            let number = |column: usize| request[column].parse::<f64>().unwrap_or(0.0);
            (
                number(intended) / 1e3 * 100.0,
                number(input),
                number(output),
            )
        })
        .collect()
}

/// Plays the first `seconds` of a trace at a hundred times its speed, and compares what was sent with what the file says.
fn replays(path: &Path, format: &str, api: &str, all: Vec<(f64, f64, f64)>, seconds: f64) {
    let start = all[0].0;
    let meant: Vec<_> = all
        .into_iter()
        .filter(|request| request.0 - start < seconds)
        // What does not fit into the engine's context is refused, and no usage is told.
        .map(|(at, input, output)| match input + output <= CONTEXT {
            true => (at, input, output),
            false => (at, 0.0, 0.0),
        })
        .collect();
    let desk = Desk::new();
    desk.write(
        "replay.yaml",
        &format!(
            "version: 1\n\
             backends: {{ sim: {{ kind: simulator, preset: fast, api: {api} }} }}\n\
             prompts: {{ t: {{ source: trace, path: {}, format: {format} }} }}\n\
             load: {{ replay: {{ trace: {{ prompts: t, speed: 100, to: {seconds}s }} }} }}\n\
             request: {{ timeouts: 60s }}\n\
             run: {{ warmup: {{ requests: 2 }} }}\n",
            path.display()
        ),
    );
    let ended = desk.tool(&["run", "replay.yaml", "--out", "results"]);
    let report = ended.report();
    let run = &report["cells"][0]["runs"][0];
    assert_eq!(run["status"], "complete", "{}", ended.err);
    let sent = replayed(&ended.text("requests.csv"));
    assert_eq!(sent.len(), meant.len(), "every arrival is accounted for");
    let file = Told::of(meant);
    let seen = Told::of(sent);
    for share in [0.05, 0.25, 0.5, 0.75, 0.95] {
        let near = |what: &str, seen: &[f64], file: &[f64], within: f64| {
            let (seen, file) = (quantile(seen, share), quantile(file, share));
            assert!(
                (seen - file).abs() <= within,
                "{what} at {share}: {seen}, not {file}"
            );
        };
        near("gaps", &seen.gaps, &file.gaps, 0.001);
        near("input", &seen.input, &file.input, 0.0);
        near("output", &seen.output, &file.output, 0.0);
    }
}

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/traces")
        .join(name)
}

#[test]
fn an_azure_trace_arrives_as_recorded() {
    let path = own("azure.csv");
    replays(&path, "azure", "chat", azure(&path), 60.0);
}

#[test]
fn a_mooncake_trace_arrives_as_recorded() {
    let path = own("mooncake.jsonl");
    replays(&path, "mooncake", "chat", mooncake(&path), 60.0);
}

/// The public traces, where they lie beside the project; they are not ours to keep here.
fn public(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/traces");
    let folder = std::env::var_os("SCENARIO_TRACES").map_or(beside, PathBuf::from);
    Some(folder.join(name)).filter(|path| path.is_file())
}

#[test]
fn public_traces_arrive_as_recorded() {
    if let Some(path) = public("AzureLLMInferenceTrace_conv.csv") {
        // Some of its prompts are shorter than any chat template.
        replays(&path, "azure", "completions", azure(&path), 120.0);
    }
    if let Some(path) = public("mooncake_synthetic_trace.jsonl") {
        replays(&path, "mooncake", "completions", mooncake(&path), 120.0);
    }
    // Without them, a trace of the same shape stands in.
    let path = own("azure.csv");
    replays(&path, "azure", "completions", azure(&path), 20.0);
}
