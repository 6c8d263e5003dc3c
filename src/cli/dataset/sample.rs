//! `scenario dataset sample`: some prompts of a set.

use std::fmt::Write;

use super::super::console::Console;
use super::super::exit::Exit;
use super::args::SampleArgs;
use super::set;
use crate::workload::{Prompt, canonical_line};

/// Characters of a text that are shown.
const SHOWN: usize = 400;

pub(super) fn sample(args: &SampleArgs, console: &Console) -> anyhow::Result<Exit> {
    let Some(sets) = set::open(&args.set, console)? else {
        return Ok(Exit::Usage);
    };
    let mut text = String::new();
    for set in &sets {
        let measured = set.workload.measured().unwrap_or(u64::MAX);
        for ordinal in 0..args.count.min(measured) {
            let prompt = set.workload.prompt(ordinal);
            if args.json {
                text.push_str(&canonical_line(&prompt));
                text.push('\n');
            } else {
                text.push_str(&told(&prompt));
            }
        }
    }
    console.data(&text);
    Ok(Exit::Passed)
}

fn told(prompt: &Prompt) -> String {
    let mut head = vec![prompt.id.to_string()];
    head.extend(
        prompt
            .category
            .as_ref()
            .map(|category| category.to_string()),
    );
    head.extend(prompt.tokens.map(|tokens| format!("{tokens} tokens")));
    head.extend(
        prompt
            .max_tokens
            .map(|tokens| format!("at most {tokens} back")),
    );
    let mut text = format!("── {}\n", head.join(" · "));
    match &prompt.conversation {
        None => _ = writeln!(text, "{}\n", shown(&prompt.text)),
        Some(conversation) => {
            for turn in &conversation.turns {
                let _ = writeln!(text, "> {}", shown(&turn.said));
                if let Some(answer) = &turn.answer {
                    let _ = writeln!(text, "< {}", shown(answer));
                }
            }
            text.push('\n');
        }
    }
    text
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
