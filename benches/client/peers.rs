//! Other tools on the same server and the same load: a hundred closed-loop streams at twenty events a second. They are
//! installed from PyPI into virtual environments under `target/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::clients::{self, Used};
use super::rows::PerEvent;
use super::server::Server;
use super::table::{Goal, quantile, row};

const STREAMS: usize = 100;
const EVENTS: usize = 20;
/// Requests of the short and of the long run.
const REQUESTS: [usize; 2] = [300, 1500];

/// Makes a tokenizer of three words: both tools want one, though the server counts the tokens.
const TOKENIZER: &str = r#"
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
words = Tokenizer(models.WordLevel({"[UNK]": 0, "Hello": 1, "token": 2}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(sys.argv[1])
"#;

/// Rows of guidellm and AIPerf.
pub(crate) fn rows(folder: &Path) {
    let tokenizer = folder.join("words");
    let guidellm = installed("guidellm");
    let made = Command::new(guidellm.join("python"))
        .args(["-c", TOKENIZER])
        .arg(&tokenizer)
        .status();
    assert!(made.is_ok_and(|status| status.success()), "a tokenizer");
    let aiperf = installed("aiperf");
    let data = |name: &str, line: &str| {
        let path = folder.join(name);
        std::fs::write(&path, line.repeat(REQUESTS[1])).expect("a folder of ours");
        path.display().to_string()
    };
    let texts = data(
        "guidellm.jsonl",
        "{\"prompt\":\"Hello\",\"output_tokens_count\":20}\n",
    );
    let turns = data("aiperf.jsonl", "{\"text\":\"Hello\"}\n");
    let words = tokenizer.display().to_string();
    let out = folder.join("guidellm.json").display().to_string();
    tool("guidellm", |address, requests| {
        let command = [
            guidellm.join("guidellm").display().to_string(),
            "run".to_owned(),
            "--backend".to_owned(),
            format!("kind=openai_http,target=http://{address},model=truth,max_tokens={EVENTS}"),
            "--profile".to_owned(),
            format!("kind=concurrent,streams={STREAMS}"),
            "--constraint".to_owned(),
            format!("kind=max_requests,count={requests}"),
            "--data".to_owned(),
            format!("kind=json_file,path={texts}"),
            "--tokenizer".to_owned(),
            format!("kind=hf_auto,model={words}"),
            "--output".to_owned(),
            format!("kind=json,path={out}"),
            "--disable-console".to_owned(),
        ];
        let used = clients::run(&command).0;
        let ttft = &json(Path::new(&out))["benchmarks"][0]["metrics"]["time_to_first_token_ms"];
        let ttft = &ttft["successful"]["percentiles"];
        (
            used,
            [&ttft["p50"], &ttft["p99"]].map(|value| value.as_f64().unwrap_or(f64::NAN)),
        )
    });
    let artifacts = folder.join("aiperf");
    tool("AIPerf", |address, requests| {
        let flags = format!(
            "profile --model truth --url http://{address} --endpoint-type chat --streaming --concurrency {STREAMS} \
             --request-count {requests} --input-file {turns} --custom-dataset-type single_turn --extra-inputs max_tokens:{EVENTS} \
             --tokenizer {words} --use-server-token-count --ui none --artifact-dir {}",
            artifacts.display()
        );
        let mut command = vec![aiperf.join("aiperf").display().to_string()];
        command.extend(flags.split_whitespace().map(str::to_owned));
        let used = clients::run(&command).0;
        let told = json(&artifacts.join("profile_export_aiperf.json"));
        let ttft = &told["time_to_first_token"];
        (
            used,
            [&ttft["p50"], &ttft["p99"]].map(|value| value.as_f64().unwrap_or(f64::NAN)),
        )
    });
}

fn tool(name: &str, run: impl Fn(&str, usize) -> (Used, [f64; 2])) {
    let folder = tempfile::tempdir().expect("a folder");
    let measured = REQUESTS.map(|requests| {
        let server = Server::start(folder.path(), 50, 50, true);
        let (used, ttft) = run(&server.address, requests);
        let log = server.stop();
        let first = log
            .iter()
            .filter_map(|entry| Some((entry.handed.first()? - entry.arrived) as f64 / 1e6));
        (used, ttft, first.collect::<Vec<f64>>())
    });
    let [(short, ..), (long, ttft, mut truth)] = measured;
    let events = ((REQUESTS[1] - REQUESTS[0]) * EVENTS) as f64;
    let cost = PerEvent::of(short, long, events);
    let name = |what: &str| format!("{name}, {STREAMS} streams: {what}");
    row(&name("CPU per event"), cost.all, "µs", Goal::None);
    row(&name("memory"), long.memory, "MiB", Goal::None);
    row(&name("TTFT p50 that it tells"), ttft[0], "ms", Goal::None);
    row(
        &name("TTFT p50 of the server's log"),
        quantile(&mut truth, 0.5),
        "ms",
        Goal::None,
    );
    row(&name("TTFT p99 that it tells"), ttft[1], "ms", Goal::None);
    row(
        &name("TTFT p99 of the server's log"),
        quantile(&mut truth, 0.99),
        "ms",
        Goal::None,
    );
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the tool wrote its result");
    serde_json::from_str(&text).expect("JSON")
}

/// The programs of a package in a virtual environment of its own.
fn installed(package: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/peers")
        .join(package);
    let programs = root.join("bin");
    if !programs.join(package).exists() {
        let done = |program: &Path, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).status();
            assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
        };
        let place = root.display().to_string();
        done(Path::new("python3"), &["-m", "venv", &place]);
        done(&programs.join("pip"), &["install", "--quiet", package]);
    }
    programs
}
