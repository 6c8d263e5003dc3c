//! An engine's own benchmark beside ours: run, read, and kept apart.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::tool::{Desk, until};

const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";

/// The mock engine, launched, with this benchmark.
fn with_bench(bench: &str) -> String {
    let engine = format!(
        "{{ kind: openai, launch: {{ command: [{}, mock, --port, \"{{port}}\", --model, any] }}, external_bench: {bench} }}",
        env!("CARGO_BIN_EXE_scenario")
    );
    crate::tool::scenario(&engine, TEN, "slos: { errors: error count == 0 }\n")
}

#[test]
fn the_own_benchmark_of_an_engine_is_a_series_of_its_own() {
    let desk = Desk::new();
    // It asks the engine that stands whether it is there, as a real one would, and writes what vLLM's writes.
    desk.write(
        "bench.py",
        "import json, sys, urllib.request\n\
         url, model, out = sys.argv[1:]\n\
         served = json.load(urllib.request.urlopen(url + '/v1/models'))['data'][0]['id']\n\
         assert served == model, served\n\
         json.dump({'completed': 7, 'output_throughput': 12.5, 'median_ttft_ms': 80.0}, open(out, 'w'))\n",
    );
    let bench = "{ command: [python3, bench.py, \"{url}\", \"{model}\", \"{out}\"], parse: vllm, timeout: 60s }";
    let ended = desk.run(&with_bench(bench), &[]).with_code(0);
    let report = ended.report();
    let series = &report["external"][0];
    assert_eq!(series["backend"], "engine");
    assert_eq!(
        series["values"],
        json!({ "requests": 7.0, "output_tps": 12.5, "ttft_ms_p50": 80.0 })
    );
    assert!(series.get("problem").is_none(), "{series}");
    // It is in no verdict and in no cell.
    assert_eq!(report["cells"][0]["stages"][0]["numbers"]["ok"], 10);
    for told in [
        &ended.out,
        &ended.text("summary.md"),
        &ended.text("report.html").replace("&#x2f;", "/"),
    ] {
        assert!(told.contains("the engines' own benchmarks"), "{told}");
        assert!(
            told.contains("engine/m: output_tps 12.5, requests 7, ttft_ms_p50 80"),
            "{told}"
        );
    }
}

#[test]
fn what_it_prints_is_read_by_the_paths_of_the_file() {
    let desk = Desk::new();
    desk.write(
        "bench.py",
        "print('warming up')\nprint('{\"runs\": [{\"tps\": 41.5}]}')\nprint('done')\n",
    );
    let bench = "{ command: [python3, bench.py], parse: jsonpath, values: { output_tps: \"$.runs[0].tps\" } }";
    let ended = desk.run(&with_bench(bench), &[]).with_code(0);
    assert_eq!(
        ended.report()["external"][0]["values"],
        json!({ "output_tps": 41.5 })
    );
}

#[test]
fn a_benchmark_that_fails_is_told_and_changes_no_verdict() {
    let desk = Desk::new();
    for (script, timeout, told) in [
        ("import sys; sys.exit('no dataset')", "60s", "exit code 1"),
        ("print('{}')", "60s", "no value that is known of `sglang`"),
        ("print('nothing')", "60s", "it wrote no JSON"),
        (
            "import time; time.sleep(600)",
            "1s",
            "has not ended after 1s",
        ),
    ] {
        desk.write("bench.py", script);
        let bench =
            format!("{{ command: [python3, bench.py], parse: sglang, timeout: {timeout} }}");
        let ended = desk.run(&with_bench(&bench), &[]).with_code(0);
        let problem = ended.report()["external"][0]["problem"].clone();
        assert!(
            problem.as_str().is_some_and(|text| text.contains(told)),
            "{script}: {problem}"
        );
        assert!(ended.err.contains(told), "{}", ended.err);
    }
}

/// A benchmark that never ends, and tells its process.
const ENDLESS: &str = "import os, time\nopen('pid.new', 'w').write(str(os.getpid()))\nos.rename('pid.new', 'pid')\ntime.sleep(86400)\n";

#[test]
fn a_benchmark_goes_with_the_runner_however_that_ends() {
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let desk = Desk::new();
        desk.write("bench.py", ENDLESS);
        let bench = "{ command: [python3, bench.py], parse: vllm }";
        let running = desk.start_run(&with_bench(bench), &[], &[]);
        let file = desk.path("pid");
        until("the benchmark runs", || file.exists());
        let pid = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, code, "{}", ended.err);
        until("the benchmark is gone", || {
            kill(Pid::from_raw(pid), None).is_err()
        });
        // What was measured before it is kept.
        assert!(ended.requests().rows.len() >= 10);
        if signal == Signal::SIGINT {
            let problem = ended.report()["external"][0]["problem"].clone();
            assert!(
                problem.as_str().unwrap().contains("was stopped"),
                "{problem}"
            );
        }
    }
}
