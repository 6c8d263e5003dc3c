//! Every plot of the public suites is drawn, under its name, with its title, its axes and its legend.

use serde_json::Value;

use crate::tool::{CALM, Desk};

/// The file, and the texts on it.
const PLOTS: [(&str, &[&str]); 21] = [
    (
        "throughput_m",
        &[
            "m - Throughput vs Concurrency (higher is better)",
            "Throughput (Tokens/sec)",
            "Concurrency (users)",
            "vllm",
            "sglang",
        ],
    ),
    (
        "throughput_all_combined",
        &[
            "All Models &amp; Backends - Throughput Comparison (higher is better)",
            "Throughput (Tokens/sec)",
        ],
    ),
    (
        "cross_model_comparison",
        &[
            "Peak Throughput by Model &amp; Backend (higher is better)",
            "Peak Concurrency Duration by Model &amp; Backend (lower is better)",
            "Duration (s)",
            "Backend",
            "vllm",
            "sglang",
            ">m<",
        ],
    ),
    (
        "latency_heatmap",
        &[
            "VLLM - E2E Latency (seconds)",
            "SGLANG - E2E Latency (seconds)",
            "Concurrency",
            "Model",
            "(lower is better)",
        ],
    ),
    (
        "gpu_comparison",
        &[
            "Peak GPU Utilization (higher is better)",
            "Peak Power Consumption (lower is better)",
            "mean utilization (%)",
            "mean power (W)",
        ],
    ),
    (
        "scaling_efficiency",
        &[
            "Scaling Efficiency - TPS per Concurrent Request (higher is better)",
            "TPS / concurrency",
        ],
    ),
    (
        "summary_table",
        &[
            "Benchmark Results Summary (Peak Concurrency)",
            "Model",
            "Backend",
            "Conc",
            "TPS",
            "Duration",
            "E2E (s)",
            "GPU %",
            "Power (W)",
        ],
    ),
    (
        "throughput_comparison",
        &[
            "Throughput at the Highest Level (higher is better)",
            "Throughput (tokens/sec)",
        ],
    ),
    (
        "latency_comparison",
        &[
            "Mean TTFT (lower is better)",
            "TTFT (ms)",
            "Mean E2E Latency (lower is better)",
            "E2E (s)",
        ],
    ),
    (
        "duration_comparison",
        &[
            "Duration at the Highest Level (lower is better)",
            "Duration (s)",
        ],
    ),
    (
        "gpu_utilization",
        &[
            "GPU Utilization at the Highest Level (higher is better)",
            "GPU utilization (%)",
        ],
    ),
    (
        "latency_histogram",
        &[
            "E2E Latency Histogram at the Highest Level (left is better)",
            "E2E (ms)",
            "requests",
        ],
    ),
    (
        "gpu_timeseries_vllm",
        &[
            "vllm: GPUs over time",
            "Utilization (%)",
            "Memory (GiB)",
            "Power (W)",
            "Temperature (°C)",
            "Time (s)",
        ],
    ),
    ("gpu_timeseries_sglang", &["sglang: GPUs over time"]),
    (
        "performance_comparison",
        &[
            "LLM Inference Engine Performance Comparison",
            "Throughput (tokens/sec)",
            "Latency P50 / P95 (lower is better)",
            "Utilization (%)",
            "Peak GPU Memory (lower is better)",
            "Memory (%)",
        ],
    ),
    (
        "benchmark_results",
        &[
            "Throughput (requests/sec) (higher is better)",
            "Average Latency (seconds) (lower is better)",
            "Avg Time to First Token (seconds) (lower is better)",
            "Concurrency Level",
        ],
    ),
    (
        "latency_c2",
        &[
            "Latency Comparison — Concurrency 2 (lower is better)",
            "Latency (ms)",
        ],
    ),
    (
        "latency_c4",
        &[
            "Latency Comparison — Concurrency 4 (lower is better)",
            "Latency (ms)",
        ],
    ),
    (
        "throughput_scaling",
        &[
            "Throughput Scaling: vllm vs sglang (higher is better)",
            "Throughput (tokens/sec)",
        ],
    ),
    (
        "latency_throughput_pareto",
        &[
            "Latency against Throughput (right and down is better)",
            "P95 TTFT (ms)",
            "Pareto front",
        ],
    ),
    (
        "slo_heatmap",
        &["SLOs: how far from the bound", "✓ −100%", "errors", "speed"],
    ),
];

#[test]
fn every_plot_is_drawn_with_its_title_axes_and_legend() {
    let desk = Desk::new();
    let scenario = format!(
        "version: 1\nname: trial\nbackends:\n  vllm: {{ kind: simulator, preset: fast }}\n  sglang: {{ kind: simulator, preset: fast }}\n\
         models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: [2, 4], requests: 12 }} }} }}\n\
         slos: {{ errors: error rate < 5%, speed: P50 E2E < 1ms }}\nrequest: {{ max_tokens: 8 }}\n\
         run: {{ warmup: 0s, cooldown: 0s, repeats: 2 }}\n{CALM}"
    );
    desk.run(&scenario, &[]);
    let listed = desk
        .tool(&["plot", "results", "--format", "svg"])
        .with_code(0)
        .out;
    let mut drawn: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.rsplit('/').next()?.strip_suffix(".svg"))
        .collect();
    for (name, texts) in PLOTS {
        let at = drawn.iter().position(|one| *one == name);
        drawn.remove(at.unwrap_or_else(|| panic!("{name} is not drawn: {listed}")));
        let svg = std::fs::read_to_string(desk.path("results/plots").join(format!("{name}.svg")))
            .unwrap();
        for text in texts {
            assert!(svg.contains(text), "{name} says nowhere `{text}`");
        }
        assert!(svg.contains("simulated"), "{name} is not marked");
    }
    assert!(drawn.is_empty(), "drawn, and not asked for here: {drawn:?}");
}

/// The scenario with these plots to draw.
fn asking_for(plots: &str) -> String {
    format!(
        "version: 1\nbackends: {{ vllm: {{ kind: simulator }}, sglang: {{ kind: simulator }} }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: [2, 4], requests: 300 }} }} }}\nreport: {{ plots: [{plots}] }}\n"
    )
}

#[test]
fn a_plot_that_is_never_drawn_is_told_before_anything_is_sent() {
    let desk = Desk::new();
    for (name, _) in PLOTS {
        desk.write("one.yaml", &asking_for(name));
        desk.tool(&["check", "one.yaml"]).with_code(0);
    }
    for (name, help) in [
        ("latency_c8", "did you mean `latency_c2`?"),
        ("thruput", "throughput_m, throughput_scaling, and `all`"),
    ] {
        desk.write("one.yaml", &asking_for(name));
        let ended = desk.tool(&["check", "one.yaml"]).with_code(2);
        let told = ended.err + &ended.out;
        let message = format!("error[S085]: no plot has a name that begins with `{name}`");
        assert!(told.contains(&message) && told.contains(help), "{told}");
    }
}

#[test]
fn an_slo_that_holds_is_green_and_a_broken_one_is_not() {
    let desk = Desk::new();
    let scenario = format!(
        "version: 1\nname: trial\nbackends: {{ vllm: {{ kind: simulator, preset: fast }} }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: [2], requests: 12 }} }} }}\nslos: {{ held: P50 E2E < 1h, broken: P50 E2E < 1us }}\n\
         request: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    desk.run(&scenario, &[]).with_code(1);
    desk.tool(&["plot", "results", "--only", "slo", "--format", "svg"])
        .with_code(0);
    let svg = std::fs::read_to_string(desk.path("results/plots/slo_heatmap.svg")).unwrap();
    assert!(svg.contains("#7ec884") && svg.contains("#f08a80"), "{svg}");
}

/// Of two prompt sets of a backend each has a row, and the faster one is the peak, also in the duration.
#[test]
fn a_peak_is_that_of_the_fastest_cell() {
    let desk = Desk::new();
    let scenario = format!(
        "version: 1\nname: trial\nbackends: {{ vllm: {{ kind: simulator, preset: fast }} }}\nmodels: {{ m: any }}\n\
         prompts:\n  long: {{ source: inline, prompts: [Hello] }}\n  short: {{ source: inline, prompts: [Hi] }}\n\
         load: {{ l: {{ levels: {{ users: [2], requests: 6 }} }} }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    desk.run(&scenario, &[]);
    let path = desk.path("results/report.json");
    let mut report = crate::tool::report(&path);
    for (cell, speed, seconds) in [(0, 123, 71), (1, 321, 93)] {
        let numbers = &mut report["cells"][cell]["stages"][0]["numbers"];
        numbers["metrics"]["output_tps"]["value"] = speed.into();
        numbers["duration_s"] = seconds.into();
    }
    std::fs::write(&path, report.to_string()).unwrap();
    desk.tool(&["plot", "results", "--format", "svg"])
        .with_code(0);
    let svg = |name: &str| {
        let path = desk.path("results/plots").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let peaks = svg("cross_model_comparison.svg");
    for (text, is_told) in [("321", true), ("93", true), ("123", false), ("71", false)] {
        let found = peaks.contains(&format!(">{text}<"));
        assert_eq!(found, is_told, "{text}: {peaks}");
    }
    let heat = svg("latency_heatmap.svg");
    assert!(
        heat.contains(">m/long<") && heat.contains(">m/short<"),
        "{heat}"
    );
}

/// A run at these levels, whose report is edited before this plot of it is drawn.
fn drawn_of(name: &str, users: &str, edit: impl Fn(&mut Value)) -> String {
    let desk = Desk::new();
    let scenario = format!(
        "version: 1\nname: trial\nbackends:\n  vllm: {{ kind: simulator, preset: fast }}\n  sglang: {{ kind: simulator, preset: fast }}\n\
         models: {{ m: any }}\nload: {{ l: {{ levels: {{ users: {users}, requests: 12 }} }} }}\n\
         slos: {{ held: P50 E2E < 1h, broken: P50 E2E < 1us }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    desk.run(&scenario, &["--exit-zero"]).with_code(0);
    let path = desk.path("results/report.json");
    let mut report = crate::tool::report(&path);
    edit(&mut report);
    std::fs::write(&path, report.to_string()).unwrap();
    desk.tool(&["plot", "results", "--only", name, "--format", "svg"])
        .with_code(0);
    let folder = desk.path("results/plots");
    std::fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap()
}

#[test]
fn every_verdict_stands_in_the_grid_in_the_order_of_the_plan() {
    let svg = drawn_of("slo_heatmap", "[2, 4]", |report| {
        let verdicts = report["verdicts"].as_array_mut().unwrap();
        verdicts.reverse();
        let slos = verdicts.iter_mut().filter(|one| one["guard"] == false);
        for slo in slos.filter(|one| one["cell"].as_str().unwrap().starts_with("vllm")) {
            match (slo["id"].as_str().unwrap(), slo["stage"].as_str().unwrap()) {
                ("broken", "c2") => {
                    slo["margin"] = Value::Null;
                    slo["observed"]["value"] = Value::Null;
                }
                ("broken", _) => slo["margin"] = 0.00164.into(),
                (_, "c2") => slo["status"] = "inconclusive".into(),
                _ => {
                    slo["status"] = "pass".into();
                    slo["margin"] = (-0.25).into();
                }
            }
        }
    });
    for told in ["✗ ∞", "✗ +0.164%", "? not told", "✓ −25%", "&gt; +1000%"] {
        assert!(svg.contains(told), "{told}: {svg}");
    }
    // What just fails is of the colour of failures, and what is not told of its own.
    assert!(svg.contains("#ffcd96") && svg.contains("#fff3b0"), "{svg}");
    let at = |name: &str| {
        svg.find(&format!(">{name}<"))
            .unwrap_or_else(|| panic!("{name}: {svg}"))
    };
    let order = ["vllm c2", "vllm c4", "sglang c2", "sglang c4"].map(at);
    assert!(order.is_sorted(), "{order:?}");
}

/// So many of twelve requests of the second cell failed at each level.
fn failing(failed: u64) -> impl Fn(&mut Value) {
    move |report| {
        for stage in report["cells"][1]["stages"].as_array_mut().unwrap() {
            let numbers = &mut stage["numbers"];
            numbers["ok"] = (12 - failed).into();
            numbers["failed"] = failed.into();
            if failed == 12 {
                for metric in ["e2e", "ttft", "tpot", "itl", "icl"] {
                    numbers["metrics"].as_object_mut().unwrap().remove(metric);
                }
            }
        }
    }
}

#[test]
fn an_engine_that_fails_is_marked_and_wins_nothing() {
    for (failed, name) in [(3, "(25% failed)"), (12, "(100% failed)")] {
        for plot in ["duration_comparison", "latency_comparison", "latency_c2"] {
            let svg = drawn_of(plot, "[2]", failing(failed));
            assert!(svg.contains(name), "{plot}: {svg}");
        }
    }
    // Its duration is not told: its bar has no height.
    let flat = |svg: &str| {
        let bars = svg.split("<rect ").filter(|rect| rect.contains("#2f6fdb"));
        bars.filter(|rect| rect.contains("height=\"0\"")).count()
    };
    let [fair, failed] = [0, 12].map(|n| flat(&drawn_of("duration_comparison", "[2]", failing(n))));
    assert_eq!((fair, failed), (0, 1));
}

#[test]
fn a_point_whose_requests_failed_is_crossed_and_on_no_front() {
    let with_front = |svg: &str| svg.contains("requests failed");
    assert!(!with_front(&drawn_of(
        "latency_throughput_pareto",
        "[2, 4]",
        |_| ()
    )));
    let svg = drawn_of("latency_throughput_pareto", "[2, 4]", failing(3));
    assert!(with_front(&svg), "{svg}");
    assert!(
        svg.contains(">c2<") && svg.contains(">c4<"),
        "levels: {svg}"
    );
}

#[test]
fn a_cell_without_numbers_is_a_gap_with_its_name() {
    let none = |report: &mut Value| {
        for stage in report["cells"][1]["stages"].as_array_mut().unwrap() {
            stage["numbers"] = Value::Null;
        }
    };
    for (plot, told) in [
        ("latency_comparison", "sglang (no data)"),
        ("latency_c2", "sglang P95 (no data)"),
        ("summary_table", ">no data<"),
        ("throughput_scaling", "no data: sglang"),
    ] {
        let svg = drawn_of(plot, "[2]", none);
        assert!(svg.contains(told), "{plot}: {svg}");
    }
}

#[test]
fn a_level_without_numbers_leaves_a_gap() {
    let desk = Desk::new();
    let scenario = format!(
        "version: 1\nname: trial\nbackends: {{ vllm: {{ kind: simulator, preset: fast }} }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: [1, 2, 4], requests: 12 }} }} }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    desk.run(&scenario, &[]).with_code(0);
    let joined = || {
        let words = [
            "plot",
            "results",
            "--only",
            "throughput_all",
            "--format",
            "svg",
        ];
        desk.tool(&words).with_code(0);
        let file = desk.path("results/plots/throughput_all_combined.svg");
        let svg = std::fs::read_to_string(file).unwrap();
        svg.matches("<path d=\"M ").count()
    };
    assert_eq!(joined(), 1, "one line through all levels");
    let path = desk.path("results/report.json");
    let mut report = crate::tool::report(&path);
    report["cells"][0]["stages"][1]["numbers"] = serde_json::Value::Null;
    std::fs::write(&path, report.to_string()).unwrap();
    assert_eq!(joined(), 0, "no line over the missing level");
}
