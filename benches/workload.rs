//! How long prompts take to be ready: `cargo bench --bench workload`.
//!
//! Two sets: a ShareGPT file of 90 000 conversations (about 650 MB, written to a temporary folder first), read on one core, and
//! again from what is kept of it; and
//! 100 000 synthetic prompts of exactly 1 024 tokens, made on two. Fails if a set takes longer, or more memory, than it may.

#![expect(
    clippy::print_stdout,
    reason = "figures on the terminal are what it is for"
)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scenario::workload::{
    Filter, LengthDistribution, PromptSource, Source, Tokenizer, TokenizerFiles, Workload,
};

const CONVERSATIONS: u64 = 90_000;
const PROMPTS: u64 = 100_000;
const TOKENS: u32 = 1024;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sharegpt.json");
    let bytes = write_conversations(&path).expect("room for the file");
    let before = resident();
    let begun = Instant::now();
    let source = prompts(Source::ShareGpt {
        path: Some(path),
        filter: Filter::SHAREGPT,
    });
    let set = Workload::load(&source).expect("a set that loads");
    let took = begun.elapsed();
    let memory = peak().saturating_sub(before);
    println!(
        "sharegpt: {CONVERSATIONS} conversations, {} MB: {} prompts in {:.2} s on one core, {} MB more than before",
        bytes / 1_000_000,
        set.facts().kept,
        took.as_secs_f64(),
        memory / 1_000_000,
    );
    let read = took <= Duration::from_secs(8) && memory <= 300_000_000;
    let cached = cached(&source, folder.path(), &set);
    drop(set);

    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
    let tokenizer = Arc::new(Tokenizer::open(&TokenizerFiles::at(&files)).expect("a tokenizer"));
    let begun = Instant::now();
    let set = Workload::load(&PromptSource {
        tokenizer: Some(tokenizer.clone()),
        ..prompts(Source::Synthetic {
            input_tokens: LengthDistribution::Fixed(TOKENS),
            output_tokens: None,
            shared_prefix: None,
        })
    })
    .expect("a set that loads");
    let characters: usize = std::thread::scope(|threads| {
        let half = |first: u64| {
            let set = &set;
            threads.spawn(move || {
                (first..PROMPTS)
                    .step_by(2)
                    .map(|ordinal| set.prompt(ordinal).text.len())
                    .sum::<usize>()
            })
        };
        let (one, two) = (half(0), half(1));
        one.join().expect("no panic") + two.join().expect("no panic")
    });
    let took = begun.elapsed();
    println!(
        "synthetic: {PROMPTS} prompts of {TOKENS} tokens, {} MB: {:.2} s on two cores",
        characters / 1_000_000,
        took.as_secs_f64(),
    );
    let exact = (0..PROMPTS)
        .step_by(1000)
        .all(|ordinal| tokenizer.count(&set.prompt(ordinal).text) == TOKENS);
    println!(
        "synthetic: every thousandth counted again: {}",
        if exact { "exact" } else { "WRONG" }
    );
    if read && cached && took <= Duration::from_secs(20) && exact {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Loads the set twice with what is kept of it, and tells whether the second time takes no more than a second.
fn cached(source: &PromptSource, folder: &Path, set: &Workload) -> bool {
    let kept = folder.join("kept");
    let load = || Workload::load_kept(source, &kept).expect("a set that loads");
    let begun = Instant::now();
    drop(load());
    let first = begun.elapsed();
    let begun = Instant::now();
    let again = load();
    let took = begun.elapsed();
    println!(
        "sharegpt: kept in {:.2} s, with the reading; from what is kept in {:.2} s, the same set: {}",
        first.as_secs_f64(),
        took.as_secs_f64(),
        again == *set,
    );
    took <= Duration::from_secs(1) && again == *set
}

fn prompts(from: Source) -> PromptSource {
    PromptSource {
        id: "bench".to_owned(),
        from,
        limit: None,
        seed: 1,
        shuffle: true,
        category: None,
        tokenizer: None,
    }
}

/// Conversations in the shape of the public ShareGPT file: a short question, long answers, seven turns on average.
fn write_conversations(path: &Path) -> std::io::Result<u64> {
    let mut out = BufWriter::new(File::create(path)?);
    let filler =
        "an answer that explains at some length, with \\n line breaks and \\\"quotes\\\" in it, ";
    out.write_all(b"[")?;
    for number in 0..CONVERSATIONS {
        let comma = if number == 0 { "" } else { ",\n" };
        write!(out, "{comma}{{\"id\": \"c{number}\", \"conversations\": [")?;
        for turn in 0..(2 + number % 11) {
            let comma = if turn == 0 { "" } else { ", " };
            let (from, times) = match turn % 2 {
                0 => ("human", 1 + (number * 7 + turn) % 9),
                _ => ("gpt", 5 + (number * 5 + turn * 3) % 29),
            };
            write!(
                out,
                "{comma}{{\"from\": \"{from}\", \"value\": \"Number {number}, turn {turn}: "
            )?;
            for _ in 0..times {
                out.write_all(filler.as_bytes())?;
            }
            out.write_all(b"\"}")?;
        }
        out.write_all(b"]}")?;
    }
    out.write_all(b"]\n")?;
    out.flush()?;
    Ok(std::fs::metadata(path)?.len())
}

/// Bytes of memory that the process holds now, and held at most.
fn resident() -> u64 {
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}

fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
