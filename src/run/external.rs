//! The engine's own benchmark: run against the engine that stands, and read. What it says stays apart from what we measure.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::world::World;
use crate::observation::{ExternalSeries, serving};
use crate::plan::external::{BenchFormat, ExternalBench, MODEL, OUT, PORT, URL};
use crate::plan::{Cell, CellRun, Plan};
use crate::server::{CommandLine, Ready, own_programs, run_to_end};

/// What the benchmark of a backend is told of the engine.
pub(super) struct Target {
    url: String,
    port: u16,
    model: String,
}

impl Target {
    pub(super) fn of(ready: &Ready) -> Target {
        Target {
            url: ready.facts.url.trim_end_matches("/v1").to_owned(),
            port: ready.endpoint.port,
            model: ready.model.clone(),
        }
    }
}

/// The benchmark that is due when this run is over: that of its backend, behind the last cell with its model.
pub(super) fn due(plan: &Plan, run: CellRun) -> Option<&ExternalBench> {
    let cell = &plan.cells[run.cell];
    let bench = cell.backend.external_bench.as_ref()?;
    let of_the_same = |other: &&CellRun| {
        let other = &plan.cells[other.cell];
        (&other.backend.id, &other.model.key) == (&cell.backend.id, &cell.model.key)
    };
    let last = plan.order.iter().rev().find(of_the_same)?;
    (*last == run).then_some(bench)
}

/// Runs the benchmark to its end and reads what it has written.
pub(super) fn run(
    plan: &Plan,
    cell: &Cell,
    bench: &ExternalBench,
    target: &Target,
    world: &mut World<'_>,
) -> ExternalSeries {
    let name = format!("external-{}-{}", cell.backend.id, cell.model.key);
    let log = world.logs.join(format!("{name}.log"));
    let out = world.logs.join(format!("{name}.json"));
    // What an earlier run into the same folder left is not what this one says.
    let _ = std::fs::remove_file(&out);
    let before = std::fs::metadata(&log).map_or(0, |facts| facts.len());
    let absolute = std::path::absolute(&out).unwrap_or_else(|_| out.clone());
    let filled = |word: &String| {
        word.replace(URL, &target.url)
            .replace(PORT, &target.port.to_string())
            .replace(MODEL, &target.model)
            .replace(OUT, &absolute.display().to_string())
    };
    let launch = cell.backend.launch.as_ref();
    let own = launch.map(|launch| own_programs(launch, world.environment));
    let command = CommandLine {
        words: bench.words.iter().map(filled).collect(),
        // An engine that runs has them.
        env: own.and_then(Result::ok).unwrap_or_default(),
        withheld: plan.secrets.clone(),
        ..CommandLine::default()
    };
    let text = command.text();
    world.watcher.note(&format!(
        "the own benchmark of `{}` runs: {text}",
        cell.backend.id
    ));
    let began = Instant::now();
    // Nothing that it starts survives it.
    let ended = run_to_end(&world.program, command, &log, bench.timeout, &mut || {
        world.interrupt.count() == 0
    });
    let read = ended.and_then(|()| read(bench, &out, &log, before));
    let (values, problem) = match read {
        Ok(values) => (values, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    if let Some(problem) = &problem {
        world.watcher.note(&format!(
            "the own benchmark of `{}`: {problem}",
            cell.backend.id
        ));
    }
    ExternalSeries {
        backend: cell.backend.id.clone(),
        model: cell.model.key.clone(),
        format: bench.format.name(),
        command: text,
        values,
        problem,
        log: log.display().to_string(),
        duration: began.elapsed(),
    }
}

/// What it has written: the file that it was told, else the last JSON that it printed.
fn read(
    bench: &ExternalBench,
    out: &Path,
    log: &Path,
    before: u64,
) -> Result<Vec<(String, f64)>, String> {
    let text = match std::fs::read_to_string(out) {
        Ok(text) => text,
        Err(_) => {
            let all = std::fs::read(log).map_err(|error| error.to_string())?;
            let own = all.get(before as usize..).unwrap_or_default();
            String::from_utf8_lossy(own).into_owned()
        }
    };
    let results = last_json(&text)
        .ok_or("it wrote no JSON: let it write to `{out}`, or to its standard output")?;
    let values = values(bench, &results);
    if values.is_empty() {
        let name = bench.format.name();
        return Err(format!(
            "what it wrote has no value that is known of `{name}`"
        ));
    }
    Ok(values)
}

/// The last JSON object of a text: of lines of JSON the last, of a log the one at its end.
fn last_json(text: &str) -> Option<Value> {
    if let Ok(whole @ Value::Object(_)) = serde_json::from_str(text) {
        return Some(whole);
    }
    let mut from = text.len();
    while let Some(at) = text[..from].rfind('{') {
        let starts_a_line = text[..at]
            .chars()
            .next_back()
            .is_none_or(|before| before == '\n');
        if starts_a_line {
            let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
            if let Some(Ok(value)) = values.next() {
                return Some(value);
            }
        }
        from = at;
    }
    None
}

/// The values of a result under our names.
fn values(bench: &ExternalBench, results: &Value) -> Vec<(String, f64)> {
    match bench.format {
        BenchFormat::Vllm | BenchFormat::Sglang => {
            results.as_object().map_or_else(Vec::new, serving::values)
        }
        BenchFormat::Trtllm => trtllm(results),
        BenchFormat::Jsonpath => bench
            .values
            .iter()
            .filter_map(|(name, path)| {
                let path = JsonPath::parse(path).ok()?;
                let value = path.query(results).first()?.as_f64()?;
                Some((name.clone(), value))
            })
            .collect(),
    }
}

/// Where `trtllm-bench --report_json` has what.
const TRTLLM: [(&str, &str); 9] = [
    ("requests", "/request_info/num_requests"),
    ("rps", "/performance/request_throughput_req_s"),
    ("output_tps", "/performance/system_output_throughput_tok_s"),
    ("total_tps", "/performance/system_total_throughput_tok_s"),
    ("e2e_ms_mean", "/performance/avg_request_latency_ms"),
    ("duration_ms", "/performance/total_latency_ms"),
    ("ttft_ms_mean", "/streaming_metrics/avg_ttft_ms"),
    ("tpot_ms_mean", "/streaming_metrics/avg_tpot_ms"),
    (
        "tps_per_user",
        "/performance/output_throughput_per_user_tok_s",
    ),
];

fn trtllm(results: &Value) -> Vec<(String, f64)> {
    let mut values: Vec<(String, f64)> = TRTLLM
        .iter()
        .filter_map(|(ours, path)| Some(((*ours).to_owned(), results.pointer(path)?.as_f64()?)))
        .collect();
    let percentiles = results.pointer("/performance/request_latency_percentiles_ms");
    for (key, value) in percentiles.and_then(Value::as_object).into_iter().flatten() {
        let name = format!("e2e_ms_{}", serving::statistic(key));
        if let (Some(value), false) = (value.as_f64(), values.iter().any(|(one, _)| *one == name)) {
            values.push((name, value));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bench(format: BenchFormat, values: &[(&str, &str)]) -> ExternalBench {
        let owned = |(name, path): &(&str, &str)| ((*name).to_owned(), (*path).to_owned());
        ExternalBench {
            words: Vec::new(),
            format,
            values: values.iter().map(owned).collect(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn results_as_the_engines_write_them_give_what_stands_beside_them() {
        let formats = [
            ("vllm", BenchFormat::Vllm),
            ("sglang", BenchFormat::Sglang),
            ("trtllm", BenchFormat::Trtllm),
        ];
        for (name, format) in formats {
            let file = |ending: &str| {
                std::fs::read_to_string(format!("fixtures/external/{name}.{ending}")).unwrap()
            };
            let results = last_json(&file("json")).unwrap();
            let told: String = values(&bench(format, &[]), &results)
                .iter()
                .map(|(name, value)| format!("{name} {value}\n"))
                .collect();
            assert_eq!(told, file("expected"), "{name}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_gives_nothing() {
        let results = serde_json::json!({ "runs": [{ "tps": 4.5 }, { "tps": 5 }], "name": "x" });
        let paths = [
            ("first", "$.runs[0].tps"),
            ("last", "$.runs[-1].tps"),
            ("text", "$.name"),
            ("none", "$.nothing"),
        ];
        assert_eq!(
            values(&bench(BenchFormat::Jsonpath, &paths), &results),
            [("first".to_owned(), 4.5), ("last".to_owned(), 5.0)]
        );
    }

    #[test]
    fn the_last_json_of_a_log_counts() {
        for (text, expected) in [
            ("{\"a\": 1}\n{\"a\": 2}\n", Some(2)),
            (
                "Namespace(x={})\n{\n  \"a\": 3,\n  \"b\": {\"a\": 9}\n}\nbye\n",
                Some(3),
            ),
            ("nothing {here}\n", None),
        ] {
            let found = last_json(text).and_then(|value| value["a"].as_i64());
            assert_eq!(found, expected, "{text}");
        }
    }
}
