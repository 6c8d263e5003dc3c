//! What the client costs and how exact it is, beside the floor, the goals and other tools: `cargo bench --bench client`.
//!
//! Names of rows as arguments run those alone: `cargo bench --bench client -- paced ttft`. `--quick` takes shorter runs;
//! `--peers` also measures guidellm and AIPerf, which it installs into a virtual environment under `target/peers`.
//! The server runs on the first core, the client on the last one. `docs/performance.md` says what each row means.

#![expect(
    clippy::print_stdout,
    reason = "a table on the terminal is what it is for"
)]

mod clients;
mod peers;
mod rows;
mod server;
mod table;
mod watched;

use std::net::SocketAddr;
use std::process::ExitCode;

use rows::Bench;
use scenario::selftest::floor::{self, FloorLoad};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        // The floor and the bare timer as processes of their own, so that their costs can be told apart.
        ["floor", address, streams, requests, events] => {
            let number = |text: &str| text.parse().expect("a number");
            let seen = floor::run(&FloorLoad {
                address: address.parse::<SocketAddr>().expect("an address"),
                streams: number(streams),
                requests: number(requests),
                events: number(events),
            })
            .expect("the truth server answers");
            println!("{{\"events\":{},\"reads\":{}}}", seen.events, seen.reads);
            ExitCode::SUCCESS
        }
        ["timer", rate, sends] => {
            let lags = floor::bare_timer(
                rate.parse().expect("a rate"),
                sends.parse().expect("a number"),
            )
            .expect("the system has a timer");
            println!("{}", serde_json::to_string(&lags).expect("numbers"));
            ExitCode::SUCCESS
        }
        ["measure", command @ ..] => clients::measure(command),
        asked => {
            let flags = |name: &str| asked.contains(&name);
            let rows: Vec<&str> = asked
                .iter()
                .copied()
                .filter(|word| !word.starts_with("--"))
                .collect();
            Bench::new(flags("--quick"), flags("--peers")).run(&rows)
        }
    }
}
