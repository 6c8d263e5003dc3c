//! Where numbers go when a run is over: receivers that decode what they got, and tables.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::tool::{Desk, on_the_simulator};

const LOAD: &str = "{ levels: { users: [2], requests: 30 } }";

/// A request as a receiver got it.
struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(told, _)| told.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Answers one request with this status, and tells what it was.
fn receiver(status: &'static str) -> (String, Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let mut piece = [0; 65536];
        let (head, mut body) = loop {
            let read = stream.read(&mut piece).unwrap();
            bytes.extend_from_slice(&piece[..read]);
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                break (head, bytes[end + 4..].to_vec());
            }
        };
        let mut got = Got {
            head,
            body: Vec::new(),
        };
        let length: usize = got.header("content-length").unwrap().parse().unwrap();
        while body.len() < length {
            let read = stream.read(&mut piece).unwrap();
            body.extend_from_slice(&piece[..read]);
        }
        got.body = body;
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nsaid\n"
        )
        .unwrap();
        tell.send(got).unwrap();
    });
    (url, told)
}

fn mean_ttft(report: &Value) -> f64 {
    let stages = report["cells"][0]["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["name"] == "c2").unwrap();
    stage["numbers"]["metrics"]["ttft"]["mean"]
        .as_f64()
        .unwrap()
}

#[test]
fn an_otlp_receiver_gets_every_number_of_the_report() {
    let (url, told) = receiver("200 OK");
    let desk = Desk::new();
    let more = format!(
        "outputs: [{{ format: otlp, url: \"{url}\", headers: {{ X-Team: inference }} }}]\nslos: {{ ttft: P50 TTFT < 5s }}\n"
    );
    let ran = desk.run(&on_the_simulator(LOAD, &more), &[]).with_code(0);
    let got = told.recv().unwrap();
    assert!(
        got.head.starts_with("POST /v1/metrics HTTP/1.1\r\n"),
        "{}",
        got.head
    );
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("x-team"), Some("inference"));
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    let resource = &body["resourceMetrics"][0];
    let service = &resource["resource"]["attributes"][0];
    assert_eq!(service["key"], "service.name");
    assert_eq!(service["value"]["stringValue"], "scenario");
    let metrics = resource["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let named = |name: &str| {
        metrics
            .iter()
            .find(|metric| metric["name"] == name)
            .unwrap()
    };
    let ttft = named("scenario.ttft");
    assert_eq!(ttft["unit"], "ms");
    let is = |point: &Value, key: &str, value: &str| {
        let attributes = point["attributes"].as_array().unwrap();
        attributes
            .iter()
            .any(|it| it["key"] == key && it["value"]["stringValue"] == value)
    };
    let points = ttft["gauge"]["dataPoints"].as_array().unwrap();
    let mean = points
        .iter()
        .find(|point| is(point, "stat", "mean"))
        .unwrap();
    assert_eq!(mean["asDouble"].as_f64().unwrap(), mean_ttft(&ran.report()));
    assert!(is(mean, "cell", "engine/m/chat/l") && is(mean, "stage", "c2"));
    assert!(is(mean, "simulated", "true"), "{mean}");
    let nanoseconds: u64 = mean["timeUnixNano"].as_str().unwrap().parse().unwrap();
    assert!(nanoseconds > 1_600_000_000_000_000_000);
    let slo = &named("scenario.slo")["gauge"]["dataPoints"][0];
    assert!(is(slo, "slo", "ttft") && is(slo, "state", "pass"), "{slo}");
}

// ---- a reader of protobuf's wire format that knows nothing of how the body was made ------------------------------------

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The fields of a message, as (number, bytes): numbers of eight bytes and varints as little-endian ones.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = bytes.split_at(length);
        fields.push((key >> 3, field.to_vec()));
        bytes = rest;
    }
    fields
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_prometheus_server_gets_every_number_of_the_report() {
    let (url, told) = receiver("204 No Content");
    let desk = Desk::new();
    let more = format!("outputs: [{{ format: prometheus, url: \"{url}/prom/api/v1/write\" }}]\n");
    let ran = desk.run(&on_the_simulator(LOAD, &more), &[]).with_code(0);
    let got = told.recv().unwrap();
    assert!(
        got.head.starts_with("POST /prom/api/v1/write HTTP/1.1\r\n"),
        "{}",
        got.head
    );
    assert_eq!(got.header("content-encoding"), Some("snappy"));
    assert_eq!(got.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(
        got.header("x-prometheus-remote-write-version"),
        Some("0.1.0")
    );
    let body = snap::raw::Decoder::new().decompress_vec(&got.body).unwrap();
    let mut found = 0;
    for (number, series) in fields(&body) {
        assert_eq!(number, 1, "timeseries");
        let series = fields(&series);
        let labels: Vec<(String, String)> = series
            .iter()
            .filter(|(number, _)| *number == 1)
            .map(|(_, label)| {
                let label = fields(label);
                (text(&label[0].1), text(&label[1].1))
            })
            .collect();
        assert!(labels.is_sorted(), "{labels:?}");
        let label = |name: &str| {
            let mut labels = labels.iter().filter(|(told, _)| told == name);
            labels.next().map(|(_, value)| value.as_str())
        };
        let (_, sample) = series.iter().find(|(number, _)| *number == 2).unwrap();
        let sample = fields(sample);
        // A number that is 0 is left out of a message.
        let number = |field: u64| {
            let told = sample.iter().find(|(number, _)| *number == field);
            told.map_or([0; 8], |(_, bytes)| bytes.as_slice().try_into().unwrap())
        };
        let value = f64::from_le_bytes(number(1));
        let at_ms = i64::from_le_bytes(number(2));
        assert!(at_ms > 1_600_000_000_000);
        if label("__name__") == Some("scenario_ttft_ms") && label("stat") == Some("mean") {
            assert_eq!(value, mean_ttft(&ran.report()));
            assert_eq!(label("stage"), Some("c2"));
            assert_eq!(label("simulated"), Some("true"));
            found += 1;
        }
    }
    assert_eq!(found, 1);
}

#[test]
fn a_receiver_that_refuses_is_told_and_the_results_are_there() {
    let (url, _told) = receiver("400 Bad Request");
    let desk = Desk::new();
    let more = format!("outputs: [{{ format: otlp, url: \"{url}\" }}]\n");
    let words = ["--tap", "nowhere/out.tap"];
    let ended = desk.run(&on_the_simulator(LOAD, &more), &words);
    let ended = ended.with_code(3);
    let told = "error: cannot write `nowhere/out.tap`";
    assert!(ended.err.contains(told), "{}", ended.err);
    assert!(
        ended
            .err
            .contains(&format!("error: {url}/v1/metrics answered 400: said")),
        "{}",
        ended.err
    );
    assert_eq!(ended.report()["status"], "measured");
}

#[test]
fn requests_come_as_a_table_of_parquet_and_files_where_they_are_asked_for() {
    let desk = Desk::new();
    let more = "outputs: [requests_parquet, { format: junit, path: ci/gate.xml }]\nslos: { ttft: P50 TTFT < 5s }\n";
    let ran = desk.run(&on_the_simulator(LOAD, more), &[]).with_code(0);
    assert_eq!(
        std::fs::read_to_string(desk.path("ci/gate.xml")).unwrap(),
        ran.text("junit.xml")
    );
    let file = std::fs::File::open(desk.path("results/requests.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let table: Vec<Value> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().to_json_value())
        .collect();
    let mut lines = csv::Reader::from_path(desk.path("results/requests.csv")).unwrap();
    let head = lines.headers().unwrap().clone();
    let mut rows = 0;
    for (line, row) in lines.records().zip(&table) {
        for (name, text) in head.iter().zip(line.unwrap().iter()) {
            let told = match &row[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Number(number) if name.ends_with("_ms") => {
                    number.as_f64().unwrap().to_string()
                }
                other => other.to_string(),
            };
            assert_eq!(told, text, "{name}");
        }
        assert!(
            row["request_id"]
                .as_str()
                .unwrap()
                .starts_with("scenario-0-0-")
        );
        rows += 1;
    }
    assert_eq!((rows, table.len()), (30, 30));
}

#[test]
fn plots_are_drawn_at_the_end_of_a_run_that_asks_for_them() {
    let desk = Desk::new();
    let load = "{ levels: { users: [2, 4], requests: 30 } }";
    let more = "report: { plots: [throughput], plot_format: svg }\n";
    desk.run(&on_the_simulator(load, more), &[]).with_code(0);
    let drawn: Vec<String> = std::fs::read_dir(desk.path("results/plots"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!drawn.is_empty());
    for name in &drawn {
        assert!(
            name.starts_with("throughput") && name.ends_with(".svg"),
            "{name}"
        );
        let text = std::fs::read_to_string(desk.path("results/plots").join(name)).unwrap();
        assert!(text.contains("<svg"), "{name}");
    }
}

#[test]
fn a_scheme_that_nobody_knows_is_no_folder() {
    let desk = Desk::new();
    desk.write("trial.yaml", &on_the_simulator(LOAD, ""));
    for words in [
        ["run", "trial.yaml", "--out", "ftp://runs/nightly"],
        ["report", "results", "--out", "ftp://runs/nightly"],
    ] {
        if words[0] == "report" {
            desk.run(&on_the_simulator(LOAD, ""), &[]).with_code(0);
        }
        let ended = desk.tool(&words).with_code(2);
        assert!(
            ended
                .err
                .contains("`ftp` is none of the schemes that are known, `s3://BUCKET/PREFIX` and `gs://BUCKET/PREFIX`"),
            "{}",
            ended.err
        );
        assert!(!desk.path("ftp:").exists());
    }
}

// ---- a folder that is used again -------------------------------------------------------------------------------------

#[test]
fn a_run_leaves_nothing_of_the_run_before_beside_its_own_files() {
    let desk = Desk::new();
    let two = on_the_simulator(LOAD, "outputs: [requests_parquet]\n").replace(
        "backends: {",
        "backends: { another: { kind: simulator, preset: fast },",
    );
    desk.run(&two, &[]).with_code(0);
    let ranked = [
        "report.txt",
        "report.md",
        "performance_rankings.csv",
        "benchmark_summary.json",
        "requests.parquet",
    ];
    for name in ranked {
        assert!(desk.path("results").join(name).exists(), "{name}");
    }
    desk.write("results/notes.txt", "of somebody else\n");
    std::fs::create_dir(desk.path("mine")).unwrap();
    desk.write("mine/report.md", "of somebody else\n");
    // What is still to be read stays until it has been.
    let baseline =
        "baseline: { file: results/report.json }\nslos: { held: mean TTFT <= baseline + 10000% }\n";
    let ended = desk
        .run(&on_the_simulator(LOAD, baseline), &[])
        .with_code(0);
    for name in ranked {
        assert!(!desk.path("results").join(name).exists(), "{name}");
    }
    assert_eq!(ended.text("notes.txt"), "of somebody else\n");
    // A name alone makes no file ours.
    desk.tool(&["run", "trial.yaml", "--out", "mine"]);
    let kept = std::fs::read_to_string(desk.path("mine/report.md")).unwrap();
    assert_eq!(kept, "of somebody else\n");
    assert_eq!(ended.report()["verdicts"][0]["status"], "pass");
}
