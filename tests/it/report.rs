//! Plan, observations and verdicts in; files and terminal out. The goldens lie in `fixtures/reports/`.

use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scenario::diagnostic::{Sources, Span};
use scenario::observation::{
    CellResult, ClientFacts, Ending, EngineFacts, EventLog, NotRun, NotableEvent, Observations,
    Outcome, OutputEvent, RequestRecord, StampSource, TokenSource, Tokens,
};
use scenario::plan::{
    Api, Backend, BackendKind, Cell, CellRun, Count, EngineMetrics, Extent, Gpus, Guards, Level,
    Model, Plan, Planned, RequestParameters, RunLimits, Scope, Stage, StartClock, TelemetryPlan,
    Timeouts, Tls,
};
use scenario::report::junit::Flavour;
use scenario::report::model::{self, Environment, Gpu, Host, VerdictStatus};
use scenario::report::{
    Inputs, Report, RunEnding, Summary, View, build, charts, csv, github, html, json, junit,
    markdown, ndjson, requests, schema, terminal,
};
use scenario::units::Moment;
use scenario::verdict::{
    Counts, Family, MetricStats, Reason, Searches, StageMeasurements, State, Value, Verdict,
};
use scenario::workload::{InlinePrompt, PrefixCache, PromptSource, Source, Workload};

use crate::golden::assert_golden;

const FOLDER: &str = "fixtures/reports";

fn golden(name: &str) -> Report {
    let text = std::fs::read_to_string(format!("{FOLDER}/{name}")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn at_width(width: usize) -> View {
    View {
        width,
        ..View::default()
    }
}

// ---- the report itself -----------------------------------------------------------------------------------------------

#[test]
fn plan_observations_and_verdicts_become_the_golden_report() {
    let example = Example::new();
    let report = example.report(RunEnding::default());
    assert_golden(
        format!("{FOLDER}/gate-example.json"),
        &json::render(&report, &View::default()),
    );
}

#[test]
fn a_report_comes_back_as_it_was_written() {
    let report = golden("gate-example.json");
    let text = json::render(&report, &View::default());
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn the_schema_is_the_checked_in_one_and_the_golden_report_is_valid() {
    let schema = schema();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    assert_golden("schemas/report.v1.json", &text);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let report = serde_json::to_value(golden("gate-example.json")).unwrap();
    let wrong: Vec<String> = validator
        .iter_errors(&report)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn infinity_is_null_with_a_text() {
    let report = golden("gate-example.json");
    let failed = report
        .verdicts
        .iter()
        .find(|verdict| verdict.id == "e2e")
        .unwrap();
    let observed = serde_json::to_value(failed.observed.as_ref().unwrap()).unwrap();
    assert_eq!(observed["value"], serde_json::Value::Null);
    assert_eq!(observed["text"], "∞ (7 of 100 failed)");
}

#[test]
fn the_worst_decides_the_status_and_the_exit_code() {
    use model::Status;
    let said = |states: &[(Level, State)], ending: RunEnding| {
        let mut example = Example::new();
        example.verdicts = states
            .iter()
            .map(|(level, state)| Verdict {
                level: *level,
                state: state.clone(),
                ..verdict("ttft", "P95 TTFT < 500ms", &[0])
            })
            .collect();
        let report = example.report(ending);
        (report.status, report.exit_code)
    };
    let unknown = || State::Inconclusive(no_data("no samples"));
    let skipped = || State::Skipped("not selected".into());
    let usual = RunEnding::default();
    let (fail, warn) = (Level::Fail, Level::Warn);
    assert_eq!(said(&[(fail, State::Pass)], usual), (Status::Passed, 0));
    assert_eq!(
        said(&[(fail, unknown()), (fail, State::Fail)], usual),
        (Status::Failed, 1)
    );
    assert_eq!(
        said(&[(fail, State::Pass), (fail, unknown())], usual),
        (Status::Inconclusive, 3)
    );
    assert_eq!(
        said(&[(fail, State::Pass), (warn, State::Fail)], usual),
        (Status::Passed, 0)
    );
    assert_eq!(said(&[(fail, skipped())], usual), (Status::Inconclusive, 3));
    assert_eq!(said(&[], usual), (Status::Measured, 0));
    // Without an SLO nothing is gated; a failing error rate is no success all the same.
    let mut ungated = Example::new();
    ungated.verdicts = vec![Verdict {
        id: "guard:error_rate".into(),
        state: State::Fail,
        ..verdict("guard", "error rate <= 1%", &[0])
    }];
    let ungated = ungated.report(usual);
    assert_eq!((ungated.status, ungated.exit_code), (Status::Failed, 1));
    assert_eq!(ungated.counts.guards.fail, 1);
    let lenient = RunEnding {
        inconclusive_is_warning: true,
        ..usual
    };
    assert_eq!(
        said(&[(fail, unknown())], lenient),
        (Status::Inconclusive, 0)
    );
    let zero = RunEnding {
        exit_zero: true,
        ..usual
    };
    assert_eq!(said(&[(fail, State::Fail)], zero), (Status::Failed, 0));
    let stopped = RunEnding {
        interrupted: Some(130),
        ..usual
    };
    assert_eq!(
        said(&[(fail, State::Fail)], stopped),
        (Status::Interrupted, 130)
    );
}

#[test]
fn a_backend_that_was_not_ready_is_no_pass() {
    let mut example = Example::new();
    example.verdicts.clear();
    let why = NotRun::NotReady("http://localhost:8001: connection refused".into());
    let runs = [CellResult::NotRun(CellRun { cell: 2, repeat: 0 }, why)];
    let report = build(&Inputs {
        runs: &runs,
        ..example.inputs(&[])
    });
    assert_eq!(
        (report.status, report.exit_code),
        (model::Status::Inconclusive, 3)
    );
    let xml = junit::render(&report, &View::default());
    assert!(xml.contains("<error type=\"inconclusive:no-data\" message=\"http://localhost:8001"));
    assert!(terminal::render(&report, &at_width(80)).contains("connection refused"));
}

#[test]
fn of_several_repeats_the_stage_shows_the_median_and_each() {
    let mut example = Example::new();
    example.plan.repeats = 3;
    example.measurements = [998.0, 1043.0, 1012.0]
        .iter()
        .zip(0..)
        .map(|(&p95, repeat)| StageMeasurements {
            repeat,
            ..measured(1, p95)
        })
        .collect();
    let report = example.report(RunEnding::default());
    let stage = &report.cells[1].stages[1];
    let p95 = |numbers: &model::StageNumbers| numbers.metrics["ttft"].stats["p95"];
    assert_eq!(p95(stage.numbers.as_ref().unwrap()), 1012.0);
    let each: Vec<f64> = stage.repeats.iter().map(|one| p95(&one.numbers)).collect();
    assert_eq!(each, [998.0, 1043.0, 1012.0]);
    assert_eq!(stage.numbers.as_ref().unwrap().planned, 3 * 1440);
}

// ---- files -----------------------------------------------------------------------------------------------------------

#[test]
fn junit_of_the_golden_report() {
    let xml = junit::render(&golden("gate-example.json"), &View::default());
    assert_well_formed(&xml);
    assert_valid_junit(&xml);
    assert_golden(format!("{FOLDER}/gate-example.junit.xml"), &xml);
}

#[test]
fn where_no_backend_was_reached_junit_tells_no_time_below_zero() {
    let mut report = golden("gate-example.json");
    for cell in &mut report.cells {
        cell.stages
            .iter_mut()
            .for_each(|stage| stage.numbers = None);
    }
    let xml = junit::render(&report, &View::default());
    assert!(!xml.contains("time=\"-"), "{xml}");
    assert_valid_junit(&xml);
}

#[test]
fn after_an_abort_the_rest_of_the_cell_is_skipped_in_junit() {
    let mut example = Example::new();
    example.observations[0].ending = Ending::Aborted("ttft".into());
    let aborted = |id: &str, state: State| Verdict {
        state,
        ..verdict(id, "P95 TTFT < 500ms", &[0])
    };
    let unknown = |text: &str| State::Inconclusive(no_data(text));
    example.verdicts = vec![
        Verdict {
            detail: Some("it stopped the cell in stage `steady`".into()),
            ..aborted("ttft", State::Fail)
        },
        aborted("e2e", unknown("aborted by ttft")),
        aborted("tpot", unknown("no request to measure")),
    ];
    let xml = junit::render(&example.report(RunEnding::default()), &View::default());
    let case = |name: &str| {
        let start = xml.find(&format!("name=\"{name}[p95] @steady\"")).unwrap();
        xml[start..].split("</testcase>").next().unwrap().to_owned()
    };
    assert!(case("ttft").contains("it stopped the cell in stage `steady`"));
    assert!(
        case("e2e").contains("<skipped type=\"skipped\" message=\"aborted by ttft\""),
        "{}",
        case("e2e")
    );
    assert!(case("tpot").contains("inconclusive:no-data"));
    assert_valid_junit(&xml);
}

#[test]
fn rows_tell_the_numbers_that_the_tables_tell() {
    let example = Example::new();
    let names = requests::Names::of(&example.plan);
    let seen = &example.observations[0];
    let record = seen.records.iter().find(|record| record.measured).unwrap();
    let row = requests::row(
        &names,
        CellRun { cell: 0, repeat: 0 },
        record,
        requests::Events::Slices,
    );
    for (told, metric) in [
        (row.ttft_ms, "ttft"),
        (row.e2e_ms, "e2e"),
        (row.tpot_ms, "tpot"),
    ] {
        let seconds = scenario::verdict::measure::value(record, metric, StartClock::Sent);
        let ms = seconds.map(|seconds| (seconds * 1e9).round() / 1e6);
        assert_eq!(told, ms, "{metric}");
    }
}

#[test]
fn whatever_an_engine_answers_the_junit_file_stays_well_formed() {
    let mut report = golden("gate-example.json");
    let evil = "]]> & <b> \u{1b}[31m \0 </testsuite><testsuite id=\"0\" time=\"0\">";
    for verdict in &mut report.verdicts {
        verdict.message = evil.into();
        verdict.excerpt = Some(evil.into());
        verdict.name = format!("{}{evil}", verdict.name);
    }
    report.scenario.name.push_str(evil);
    let xml = junit::render(&report, &View::default());
    assert_well_formed(&xml);
    assert_valid_junit(&xml);
    assert!(xml.contains("]]]]><![CDATA[> & <b>"));
    assert!(!xml.contains('\u{1b}') && !xml.contains('\0'));
}

#[test]
fn the_attribute_file_is_for_gitlab_alone() {
    let report = golden("gate-example.json");
    let of = |junit| {
        junit::render(
            &report,
            &View {
                junit,
                ..View::default()
            },
        )
    };
    assert!(!of(Flavour::Jenkins).contains(" file="));
    let gitlab = of(Flavour::Gitlab);
    assert_well_formed(&gitlab);
    assert!(gitlab.contains("file=\"fixtures/reports/gate-example.yaml\""));
}

fn assert_well_formed(xml: &str) {
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Eof) => return,
            Ok(_) => {}
            Err(error) => panic!("{error} at byte {}:\n{xml}", reader.error_position()),
        }
    }
}

/// Checked with `xmllint` where that is installed; well-formedness is checked everywhere.
fn assert_valid_junit(xml: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("junit.xml");
    std::fs::write(&path, xml).unwrap();
    let lint = Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema", "fixtures/junit-10.xsd"])
        .arg(&path)
        .output();
    if let Ok(output) = lint {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{xml}");
    }
}

#[test]
fn summary_csv_and_markdown_of_the_golden_report() {
    let report = golden("gate-example.json");
    let view = View::default();
    assert_golden(
        format!("{FOLDER}/gate-example.summary.csv"),
        &csv::summary(&report, &view),
    );
    assert_golden(
        format!("{FOLDER}/gate-example.md"),
        &markdown::render(&report, &view),
    );
}

// ---- the page --------------------------------------------------------------------------------------------------------

fn page(example: &Example) -> String {
    let report = example.report(RunEnding::default());
    html::render(&report, &charts::charts(&report, &example.observations))
}

#[test]
fn the_page_asks_for_nothing_and_says_the_verdict_first() {
    let page = page(&Example::new());
    for asks in [" src=", "<link rel=\"stylesheet\"", "@import", "url("] {
        let own = page.split("<script>").next().unwrap();
        assert!(!own.contains(asks), "{asks}");
    }
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(place("<strong>failed</strong>") < place("<h2 id=\"verdicts-title\">"));
    assert!(place("<h2 id=\"verdicts-title\">") < place("<h2 id=\"results-title\">"));
    assert!(page.contains("P95 TTFT 1012ms, limit &lt; 900ms"));
}

#[test]
fn the_page_marks_the_line_of_a_failed_slo_in_the_scenario() {
    let page = page(&Example::new());
    let source = page.split("<ol class=\"source\"").nth(1).unwrap();
    let failed = source.lines().find(|line| line.contains("class=\"fail\""));
    assert!(failed.unwrap().contains("✗ 1 of 2 fail"), "{failed:?}");
}

#[test]
fn whatever_is_quoted_ends_no_element_of_the_page() {
    let mut example = Example::new();
    let evil = "</script><script>alert(1)</script><!--";
    example.plan.name = evil.to_owned();
    for record in &mut example.observations[0].records {
        record.prompt = evil.into();
    }
    let page = page(&example);
    assert!(!page.contains(evil));
    let data = page.split("id=\"report-data\">").nth(1).unwrap();
    let data = data.split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["charts"]["stages"][0]["slowest"][0]["prompt"], evil);
}

#[test]
fn annotations_stand_on_the_lines_of_what_did_not_pass() {
    let report = Example::new().report(RunEnding::default());
    let told = github::annotations(&report);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "::error file=fixtures/reports/gate-example.yaml,line=8,title=ttft (simulated)::✗ vllm/code steady: P95 TTFT 1012ms, limit < 900ms (over by 12.4%25), n=1440, from the intended start",
            "::error file=fixtures/reports/gate-example.yaml,line=10,title=no-regression (simulated)::? vllm/chat steady: baseline: GPU differs (A100-SXM4-80GB vs H100)",
            "::error file=fixtures/reports/gate-example.yaml,title=guard%3Asend_lag (simulated)::? vllm/code steady: the runner sent late: p99 send_lag 14ms, limit 10ms",
        ]
    );
}

#[test]
fn a_page_grows_with_stages_and_not_with_requests() {
    let mut example = Example::new();
    let few = page(&example).len();
    let request = conformance_request();
    for seen in &mut example.observations {
        seen.records = (0..2_500)
            .map(|index| RequestRecord {
                index,
                ..request.clone()
            })
            .collect();
    }
    let many = page(&example).len();
    assert!(many < few + 100_000, "{few} → {many} bytes");
    assert!(many < 5_000_000, "{many} bytes of 10 000 requests");
}

#[test]
fn the_conformance_request_as_a_row_of_requests_csv() {
    let example = Example::new();
    let names = requests::Names::of(&example.plan);
    let seen = Observations {
        cell: 1,
        repeat: 2,
        records: vec![conformance_request(), dropped_request()],
        ..Observations::default()
    };
    let mut bytes = Vec::new();
    csv::requests(requests::rows(&names, &seen), &mut bytes).unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "cell,repeat,stage,index,outcome,status,intended_ms,dispatched_ms,first_token_ms,last_token_ms,finished_ms,\
         ttft_ms,e2e_ms,tpot_ms,input_tokens,output_tokens,token_source,category,reused,adapter,interface\n\
         vllm/llama8b/code/steady,2,steady,0,ok,200,0,20,120,300,361,100,280,15,11,17,usage,\"short, plain\",true,sql,http\n\
         vllm/llama8b/code/steady,2,steady,1,dropped,,5,,,,5,,,,,,unknown,,false,sql,http\n"
    );
}

// ---- requests.ndjson -------------------------------------------------------------------------------------------------

/// A file in memory that tells when it is flushed.
#[derive(Clone)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    flushed: Sender<()>,
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.flushed.send(());
        Ok(())
    }
}

#[test]
fn a_killed_run_keeps_every_request_up_to_the_last_flush() {
    let example = Example::new();
    let (flushed, wait) = channel();
    let memory = Memory {
        bytes: Arc::default(),
        flushed,
    };
    let log = ndjson::RequestLog::start(&example.plan, memory.clone(), true);
    let text = || String::from_utf8(memory.bytes.lock().unwrap().clone()).unwrap();
    wait.recv().unwrap();
    log.sink()
        .request(CellRun { cell: 1, repeat: 0 }, &conformance_request());
    log.sink().flush();
    wait.recv().unwrap();
    let killed = ndjson::read(&format!("{}{{\"cell\":\"vl", text())).unwrap();
    assert_eq!(killed.rows.len(), 1);
    assert_eq!(killed.footer, None);
    let row = &killed.rows[0];
    assert_eq!(row.tpot_ms, Some(15.0));
    assert_eq!(row.more.events.as_ref().unwrap()[1], (200.0, 4, 0));

    let folded = requests::row(
        &requests::Names::of(&example.plan),
        CellRun { cell: 1, repeat: 0 },
        &conformance_request(),
        requests::Events::Slices,
    );
    assert_eq!(
        (folded.more.events, folded.more.slices),
        (None, vec![(0, 5, 17)])
    );

    let footer = log.finish().unwrap();
    assert_eq!((footer.requests, footer.lost), (1, 0));
    let whole = ndjson::read(&text()).unwrap();
    assert_eq!(whole.footer, Some(footer));
    assert_eq!(whole.header.schema, "scenario.requests/v1");
    assert_eq!(whole.rows, killed.rows);
}

#[test]
fn another_file_is_no_request_log() {
    assert!(ndjson::read("{\"schema\":\"other/v1\"}\n").is_err());
    assert!(ndjson::read("").is_err());
}

// ---- terminal --------------------------------------------------------------------------------------------------------

#[test]
fn the_summary_at_80_and_140_columns() {
    let report = golden("gate-example.json");
    for width in [80, 140] {
        let text = terminal::render(&report, &at_width(width));
        assert_golden(format!("{FOLDER}/gate-example.{width}.txt"), &text);
        for line in text.lines().filter(|line| !line.contains("rerun: ")) {
            assert!(line.chars().count() <= width, "{line}");
        }
    }
}

#[test]
fn more_than_four_cells_stand_below_each_other() {
    let mut report = golden("gate-example.json");
    report.verdicts.retain(|v| v.id == "ttft" || v.guard);
    for (cell, number) in report.cells.clone().into_iter().zip(1..) {
        for (level, ttft) in [("c16", 250.0), ("c32", 310.0)] {
            let mut more = cell.clone();
            more.load = format!("{level}-{number}");
            more.id = format!(
                "{}/{}/{}/{}",
                more.backend, more.model, more.prompts, more.load
            );
            for metric in more.stages.iter_mut().filter_map(|s| s.numbers.as_mut()) {
                metric
                    .metrics
                    .get_mut("ttft")
                    .unwrap()
                    .stats
                    .insert("p95".into(), ttft);
            }
            let mut verdict = report.verdicts[0].clone();
            verdict.cell = Some(more.id.clone());
            verdict.cells = vec![more.id.clone()];
            report.verdicts.push(verdict);
            report.cells.push(more);
        }
    }
    let text = terminal::render(&report, &at_width(140));
    assert_golden(format!("{FOLDER}/many-cells.140.txt"), &text);
}

#[test]
fn categories_stand_below_their_stage_when_asked_for() {
    let mut report = golden("gate-example.json");
    let numbers = report.cells[0].stages[1].numbers.as_mut().unwrap();
    let mut metrics = numbers.metrics.clone();
    metrics.retain(|name, _| name == "ttft");
    numbers.categories = vec![model::Category {
        name: "short".into(),
        metrics,
    }];
    let verbose = View {
        verbose: true,
        ..at_width(140)
    };
    let row =
        "vllm/chat    steady · short  1438       –      –          –     187ms     312ms     390ms";
    assert!(!terminal::render(&report, &at_width(140)).contains("short"));
    let text = terminal::render(&report, &verbose);
    assert!(text.contains(row), "{text}");
}

#[test]
fn compact_shows_what_did_not_pass_and_none_shows_nothing() {
    let report = golden("gate-example.json");
    let of = |summary| {
        terminal::render(
            &report,
            &View {
                summary,
                ..at_width(100)
            },
        )
    };
    let compact = of(Summary::Compact);
    assert!(compact.starts_with("✗ failed: "));
    assert!(!compact.contains("req/s"));
    assert_eq!(of(Summary::None), "");
}

#[test]
fn colour_adds_escapes_and_changes_no_word() {
    let report = golden("gate-example.json");
    let plain = terminal::render(&report, &at_width(100));
    let coloured = terminal::render(
        &report,
        &View {
            colour: true,
            ..at_width(100)
        },
    );
    assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
    let (mut words, mut escape) = (String::new(), false);
    for c in coloured.chars() {
        match (escape, c) {
            (_, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, c) => words.push(c),
        }
    }
    assert_eq!(words, plain);
}

#[test]
fn a_run_without_slos_says_that_nothing_was_gated() {
    let mut example = Example::new();
    example.verdicts.clear();
    let report = example.report(RunEnding::default());
    let text = terminal::render(&report, &at_width(100));
    assert!(
        text.contains("– measured: no SLOs: nothing was gated (simulated)"),
        "{text}"
    );
}

#[test]
fn passes_beyond_a_screen_are_counted_and_shown_when_asked_for() {
    let mut report = golden("gate-example.json");
    let pass = report.verdicts[0].clone();
    assert_eq!(pass.status, VerdictStatus::Pass);
    report.verdicts = (0..31)
        .map(|number| model::Verdict {
            id: format!("ttft-{number}"),
            ..pass.clone()
        })
        .collect();
    let quiet = terminal::render(&report, &at_width(120));
    assert!(
        quiet.contains("✓ 31 passed (all of them with -v)"),
        "{quiet}"
    );
    let verbose = View {
        verbose: true,
        ..at_width(120)
    };
    assert!(terminal::render(&report, &verbose).contains("ttft-8"));
}

// ---- the example -----------------------------------------------------------------------------------------------------

/// Two backends × two prompt sets with one warm-up and one measured stage, some of it failing.
struct Example {
    plan: Plan,
    sources: Sources,
    verdicts: Vec<Verdict>,
    searches: Searches,
    measurements: Vec<StageMeasurements>,
    observations: Vec<Observations>,
    environment: Environment,
    command: Vec<String>,
}

impl Example {
    fn new() -> Example {
        let path = format!("{FOLDER}/gate-example.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut sources = Sources::default();
        let source = sources.add(&path, text.clone());
        let place = |quoted: &str| {
            let start = text.find(quoted).unwrap();
            Some(Span {
                source,
                start,
                end: start + quoted.len(),
            })
        };
        Example {
            verdicts: verdicts(place),
            searches: Searches::new(),
            measurements: [312.0, 1012.0, 298.0, 774.0]
                .iter()
                .enumerate()
                .map(|(cell, &p95)| measured(cell, p95))
                .collect(),
            observations: (0..4).map(observed).collect(),
            environment: Environment {
                host: Host {
                    name: Some("bench-03".into()),
                    os: "Debian GNU/Linux 12".into(),
                    kernel: Some("6.1.0".into()),
                    cpu: Some("AMD EPYC 9654".into()),
                    cores: Some(8),
                    memory_bytes: Some(64 << 30),
                    clocksource: Some("tsc".into()),
                },
                gpus: vec![Gpu {
                    index: 0,
                    name: "simulated A100".into(),
                    memory_bytes: Some(80 << 30),
                    driver: None,
                    cuda: None,
                    simulated: true,
                }],
                engines: Vec::new(),
                git: None,
            },
            command: ["scenario", "run", &path].map(str::to_owned).to_vec(),
            plan: plan(path),
            sources,
        }
    }

    fn inputs<'a>(&'a self, runs: &'a [CellResult]) -> Inputs<'a> {
        Inputs {
            plan: &self.plan,
            sources: &self.sources,
            verdicts: &self.verdicts,
            searches: &self.searches,
            measurements: &self.measurements,
            runs,
            environment: &self.environment,
            ending: RunEnding::default(),
            started: "2026-11-22T09:30:00Z",
            duration: Duration::from_secs(972),
            command: &self.command,
            tool: "0.1.0",
        }
    }

    fn report(&self, ending: RunEnding) -> Report {
        let runs: Vec<CellResult> = self
            .observations
            .iter()
            .cloned()
            .map(Arc::new)
            .map(CellResult::Measured)
            .collect();
        build(&Inputs {
            ending,
            ..self.inputs(&runs)
        })
    }
}

fn plan(path: String) -> Plan {
    let cells = [
        (BackendKind::Vllm, "chat"),
        (BackendKind::Vllm, "code"),
        (BackendKind::Sglang, "chat"),
        (BackendKind::Sglang, "code"),
    ];
    Plan {
        baseline: None,
        outputs: Vec::new(),
        plots: None,
        fairness: scenario::plan::Fairness::Warn,
        deselected: Vec::new(),
        name: "gate-example".into(),
        description: Some("Gate of two engines".into()),
        owner: None,
        path,
        secrets: Vec::new(),
        seed: 42,
        repeats: 1,
        digest: "b3:9f2c4e6a8b0d1f3579bd".into(),
        cells: cells.map(|(kind, prompts)| cell(kind, prompts)).to_vec(),
        order: (0..4).map(|cell| CellRun { cell, repeat: 0 }).collect(),
        slos: Vec::new(),
        telemetry: TelemetryPlan {
            every: Duration::from_millis(250),
            engine: true,
        },
        between: Vec::new(),
        limits: RunLimits::default(),
        smoke: false,
        skipped_slos: Vec::new(),
        notes: Vec::new(),
    }
}

fn cell(kind: BackendKind, prompts: &str) -> Cell {
    let workload = Workload::load(&PromptSource {
        id: prompts.into(),
        from: Source::Inline(vec![InlinePrompt {
            text: "Say something.".into(),
            category: None,
        }]),
        limit: None,
        seed: 42,
        shuffle: false,
        category: None,
        tokenizer: None,
    });
    let second = Duration::from_secs(1);
    let stage = |name: &str, measured, seconds: u64| Stage {
        name: name.into(),
        measured,
        users: None,
        rate: None,
        extent: Extent::For(Duration::from_secs(seconds)),
        requests: Planned::Exact(8.0 * seconds as f64),
        expected: Planned::Exact(seconds as f64),
        prompt_offset: 0,
        prompts_reused: measured && prompts == "code",
        tail_fill: false,
        span: Span::default(),
    };
    Cell {
        prompts_per_repeat: 1,
        dialogue: None,
        search: None,
        id: format!("{}/llama8b/{prompts}/steady", kind.name()),
        backend: Arc::new(Backend {
            id: kind.name().into(),
            kind,
            url: Some("http://localhost:8000".into()),
            api: Api::Chat,
            headers: Vec::new(),
            preset: None,
            simulated: Default::default(),
            tls: Tls::default(),
            proxy: false,
            optional: false,
            ready: scenario::plan::ReadyRule::attached(second),
            launch: None,
            up: Vec::new(),
            down: Vec::new(),
            metrics: EngineMetrics::Auto,
            gpus: Gpus::Auto,
            external_bench: None,
        }),
        model: Arc::new(Model {
            key: "llama8b".into(),
            id: None,
            served_as: Vec::new(),
            tokenizer: None,
            context: None,
            launch_args: Vec::new(),
            lora: Vec::new(),
        }),
        prompts: prompts.into(),
        load: "steady".into(),
        workload: Arc::new(workload.unwrap()),
        cache: PrefixCache::AsIs,
        request: RequestParameters {
            timeouts: Timeouts {
                connect: second,
                first_token: second,
                idle: second,
                total: second,
            },
            ..RequestParameters::default()
        },
        stages: vec![stage("warm", false, 30), stage("steady", true, 180)],
        segments: Vec::new(),
        drain: second,
        cooldown: second,
        goodput: Vec::new(),
        guards: Guards::default(),
        gpu_hour: None,
        digest: "b3:00ff".into(),
    }
}

fn observed(cell: usize) -> Observations {
    let mut client = ClientFacts {
        stamp_source: StampSource::Kernel,
        shared_events: 5,
        output_events: 1000,
        worker_cpu: vec![0.05, 0.10 + cell as f64 / 100.0],
        connections_opened: 64,
        ..ClientFacts::default()
    };
    for ns in [15_000, 20_000, 31_000] {
        client.read_lag_ns.record(ns);
    }
    let throttled = NotableEvent {
        at: Moment::from_ms(61_250),
        kind: "gpu_throttled",
        text: "GPU 0: clocks held down by the power cap".into(),
    };
    Observations {
        cell,
        wall_anchor: 1_795_339_800.0 + 210.0 * cell as f64,
        records: vec![conformance_request()],
        events: if cell == 1 {
            vec![throttled]
        } else {
            Vec::new()
        },
        client,
        engine: EngineFacts {
            url: "http://localhost:8000".into(),
            version: Some("0.11.0".into()),
            models: vec!["llama".into()],
            simulated: cell < 2,
            ..EngineFacts::default()
        },
        ..Observations::default()
    }
}

fn conformance_request() -> RequestRecord {
    let event = |ms, tokens| OutputEvent {
        at: Moment::from_ms(ms),
        tokens,
        shared: false,
    };
    let at = |ms| Some(Moment::from_ms(ms));
    RequestRecord {
        index: 0,
        stage: 1,
        measured: true,
        prompt: "greeting".into(),
        category: Some("short, plain".into()),
        adapter: Some("sql".into()),
        turn: 1,
        home: 1,
        user: None,
        intended: Moment::ZERO,
        cap_wait: Duration::ZERO,
        dispatched: at(20),
        connect: None,
        written: at(25),
        headers: at(40),
        first_event: at(40),
        first_token: at(120),
        first_token_shared: false,
        first_content: at(200),
        last_token: at(300),
        finished: Moment::from_ms(361),
        events: EventLog::of(&[
            event(120, 5),
            event(200, 4),
            event(240, 1),
            event(260, 1),
            event(300, 6),
        ]),
        outcome: Outcome::Ok,
        status: Some(200),
        finish_reason: Some("stop".into()),
        tokens: Tokens {
            input: Some(11),
            output: Some(17),
            cached: Some(0),
            reasoning: Some(5),
            source: TokenSource::Usage,
            per_event_known: true,
        },
        bytes: 1234,
        reused: true,
        reconnected: false,
        valid: None,
    }
}

fn dropped_request() -> RequestRecord {
    RequestRecord {
        index: 1,
        intended: Moment::from_ms(5),
        finished: Moment::from_ms(5),
        category: None,
        dispatched: None,
        first_token: None,
        last_token: None,
        events: EventLog::default(),
        outcome: Outcome::Dropped,
        status: None,
        tokens: Tokens::default(),
        reused: false,
        ..conformance_request()
    }
}

fn measured(cell: usize, p95: f64) -> StageMeasurements {
    let metric = |name: &str, unit, estimator, stats: &[(&'static str, f64)]| MetricStats {
        metric: name.into(),
        unit,
        n: 1438,
        undefined: 0,
        estimator,
        stats: stats.to_vec(),
        intervals: Vec::new(),
    };
    let mut ttft = metric(
        "ttft",
        "ms",
        "exact",
        &[("p50", 0.6 * p95), ("p95", p95), ("p99", 1.25 * p95)],
    );
    ttft.intervals = vec![("p95", 0.9 * p95, 1.1 * p95)];
    StageMeasurements {
        cell,
        repeat: 0,
        stage: 1,
        counts: Counts {
            planned: 1440,
            sent: 1440,
            ok: 1438,
            failed: 2,
            outcomes: vec![("timed_out_total".into(), 2)],
            ..Counts::default()
        },
        window: Some((30.0, 210.0)),
        duration: Duration::from_secs(180),
        metrics: vec![
            ttft,
            metric("tpot", "ms", "exact", &[("p50", 18.25)]),
            metric("icl", "ms", "hdr", &[("p99", 61.0)]),
            metric("e2e", "ms", "exact", &[("p95", 4870.0)]),
            metric("error_rate", "", "ratio", &[("value", 0.00139)]),
            metric("rps", "req/s", "flow", &[("value", 7.99)]),
            metric("output_tps", "tok/s", "flow", &[("value", 2140.5)]),
            metric("gpu.util", "", "time-weighted", &[("mean", 0.971)]),
            metric("gpu.power", "W", "time-weighted", &[("mean", 381.4)]),
        ],
        categories: Vec::new(),
        books: Some(0.0004),
        spreads: Vec::new(),
        compat: Vec::new(),
    }
}

fn ms(value: f64) -> Option<Value> {
    Some(Value {
        value,
        unit: "ms",
        text: format!("{value}ms"),
    })
}

fn no_data(text: &str) -> Reason {
    Reason {
        family: Family::NoData,
        text: text.into(),
    }
}

fn verdict(id: &str, text: &str, cells: &[usize]) -> Verdict {
    Verdict {
        detail: None,
        id: id.into(),
        text: text.into(),
        normal: "ttft.p95 < 500ms".into(),
        name: format!("{id}[p95] @steady"),
        level: Level::Fail,
        scope: Scope {
            cells: cells.to_vec(),
            stages: vec![1; cells.len()],
            ..Scope::default()
        },
        state: State::Pass,
        observed: None,
        bound: None,
        margin: None,
        n: None,
        thin: false,
        interval: None,
        count: Count::All,
        clock: None,
        override_index: None,
        span: None,
        repeats: Vec::new(),
        advice: None,
    }
}

fn verdicts(place: impl Fn(&str) -> Option<Span>) -> Vec<Verdict> {
    let ttft = |cell: usize, seen: f64| {
        let code = cell % 2 == 1;
        let limit = if code { 900.0 } else { 500.0 };
        let text = if code {
            "P95 TTFT < 900ms"
        } else {
            "P95 TTFT < 500ms"
        };
        Verdict {
            normal: format!("ttft.p95 < {limit}ms"),
            state: if seen < limit {
                State::Pass
            } else {
                State::Fail
            },
            observed: ms(seen),
            bound: ms(limit),
            margin: Some(seen / limit - 1.0),
            n: Some(1440),
            interval: Some((0.9 * seen, 1.1 * seen)),
            clock: Some(StartClock::Intended),
            override_index: code.then_some(0),
            span: place(text),
            ..verdict("ttft", text, &[cell])
        }
    };
    let e2e = Verdict {
        name: "e2e[p99] @steady".into(),
        normal: "e2e.p99 < 8s".into(),
        level: Level::Warn,
        state: State::Fail,
        observed: Some(Value {
            value: f64::INFINITY,
            unit: "ms",
            text: "∞ (7 of 100 failed)".into(),
        }),
        bound: ms(8000.0),
        margin: Some(f64::INFINITY),
        n: Some(100),
        thin: true,
        ..verdict("e2e", "P99 E2E < 8s", &[0])
    };
    let ratio = |value: f64| {
        Some(Value {
            value,
            unit: "tok/s",
            text: format!("{value} tok/s"),
        })
    };
    let faster = |cells: [usize; 2], observed| Verdict {
        name: "sglang-faster @steady".into(),
        normal: "sglang.output_tps >= 1.2 * vllm.output_tps".into(),
        observed: ratio(observed),
        bound: ratio(2568.0),
        margin: Some(1.0 - observed / 2568.0),
        span: place("out tok/s"),
        ..verdict(
            "sglang-faster",
            "out tok/s of sglang >= 1.2 * vllm.output_tps",
            &cells,
        )
    };
    let regression = Verdict {
        state: State::Inconclusive(no_data("baseline: GPU differs (A100-SXM4-80GB vs H100)")),
        span: place("P95 TTFT <= baseline"),
        ..verdict("no-regression", "P95 TTFT <= baseline + 10%", &[0])
    };
    let power = Verdict {
        state: State::Skipped("no GPU source".into()),
        name: "power[mean] @steady".into(),
        ..verdict("power", "mean gpu.power < 400 W", &[2])
    };
    let lag = |cell, seen, state| Verdict {
        name: "guard:send_lag @steady".into(),
        normal: "send_lag.p99 <= 10ms".into(),
        state,
        observed: ms(seen),
        bound: ms(10.0),
        margin: Some(seen / 10.0 - 1.0),
        advice: (seen > 10.0)
            .then(|| "raise run.workers, or send from a machine with more cores".into()),
        ..verdict(
            "guard:send_lag",
            "p99 send_lag <= max(10ms, 2% of median ttft)",
            &[cell],
        )
    };
    let late = State::Inconclusive(Reason {
        family: Family::Invalid,
        text: "the runner sent late: p99 send_lag 14ms, limit 10ms".into(),
    });
    let cut = Verdict {
        name: "guard:cut @steady".into(),
        observed: Some(Value {
            value: 0.0,
            unit: "",
            text: "0%".into(),
        }),
        ..verdict("guard:cut", "cut_rate <= 1%", &[0])
    };
    vec![
        ttft(0, 312.0),
        ttft(1, 1012.0),
        ttft(2, 298.0),
        ttft(3, 774.0),
        e2e,
        faster([2, 0], 2803.0),
        faster([3, 1], 2603.0),
        regression,
        power,
        lag(0, 1.2, State::Pass),
        lag(1, 14.0, late),
        lag(2, 0.9, State::Pass),
        lag(3, 1.1, State::Pass),
        cut,
    ]
}
