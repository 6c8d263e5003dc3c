//! The command that runs some cells of a run again, made of the one that was typed.

use std::collections::BTreeSet;

/// Options of `run` and `quick` whose value is a word of its own.
pub(crate) const VALUED: [&str; 27] = [
    "--profile",
    "--var",
    "--metrics",
    "--token",
    "--color",
    "--only",
    "--set",
    "--seed",
    "--repeats",
    "--out",
    "--inconclusive",
    "--progress",
    "--summary",
    "--summary-md",
    "--tap",
    "--compat",
    "--users",
    "--rate",
    "--for",
    "--warmup",
    "--slo",
    "--model",
    "--max-tokens",
    "--prompts",
    "--bearer-env",
    "--save",
    "--junit",
];

/// Those that may stand without one.
pub(crate) const MAY_BE_VALUED: [&str; 1] = ["--dashboard"];

/// What another run has no need of: results go where they go by default, nothing is served, and no secret is told.
const LEFT_OUT: [&str; 4] = ["--out", "--dashboard", "--metrics", "--token"];

/// Backend, model, prompts and load of a cell.
pub(super) type Ids<'a> = [&'a str; 4];

/// What was typed, with the file at `path` alone, without what is left out, and with the narrowest `--only` that leaves `wanted` of
/// `all` cells.
pub(super) fn rerun(typed: &[String], path: &str, all: &[Ids], wanted: &[Ids]) -> String {
    let options = options(typed);
    match subcommand(typed) {
        Some("quick") => {
            let words = options.iter().filter(|word| !word.is_left_out());
            line(words.flat_map(|word| word.words.iter().map(String::as_str)))
        }
        Some("run") => run_again(&options, path, all, wanted),
        _ => run_again(&[], path, all, wanted),
    }
}

/// An option with its value, a flag, or a word that is neither.
struct Word {
    words: Vec<String>,
}

impl Word {
    fn is(&self, option: &str) -> bool {
        let first = &self.words[0];
        first == option
            || first
                .strip_prefix(option)
                .is_some_and(|rest| rest.starts_with('='))
    }

    fn is_left_out(&self) -> bool {
        LEFT_OUT.iter().any(|option| self.is(option))
    }

    fn is_option(&self) -> bool {
        self.words[0].len() > 1 && self.words[0].starts_with('-')
    }
}

/// The words behind the program.
fn options(typed: &[String]) -> Vec<Word> {
    let mut rest = typed.iter().skip(1).peekable();
    let mut options = Vec::new();
    while let Some(word) = rest.next() {
        let mut words = vec![word.clone()];
        if VALUED.contains(&word.as_str()) {
            words.extend(rest.next().cloned());
        } else if MAY_BE_VALUED.contains(&word.as_str()) {
            words.extend(rest.next_if(|next| !next.starts_with('-')).cloned());
        }
        options.push(Word { words });
    }
    options
}

fn subcommand(typed: &[String]) -> Option<&str> {
    let mut rest = typed.iter().skip(1).map(String::as_str);
    while let Some(word) = rest.next() {
        if VALUED.contains(&word) {
            rest.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
}

fn run_again(options: &[Word], path: &str, all: &[Ids], wanted: &[Ids]) -> String {
    let was_selected = options.iter().any(|word| word.is("--only"));
    let only = only(all, wanted, was_selected);
    let mut words = vec!["run", path];
    for word in options.iter().filter(|word| word.is_option()) {
        // A selection of before stays where it needs no narrower one.
        let dropped = word.is_left_out() || (word.is("--only") && !only.is_empty());
        if !dropped {
            words.extend(word.words.iter().map(String::as_str));
        }
    }
    let only = only.join(",");
    if !only.is_empty() {
        words.extend(["--only", &only]);
    }
    line(words)
}

/// The names that tell `wanted` from the other cells; all names of them when cells that are not in `all` were left out by
/// `--only` before.
fn only<'a>(all: &[Ids<'a>], wanted: &[Ids<'a>], was_selected: bool) -> Vec<&'a str> {
    let mut narrows = false;
    let mut only = Vec::new();
    for part in 0..4 {
        let choices: BTreeSet<&str> = all.iter().map(|cell| cell[part]).collect();
        let names: BTreeSet<&str> = wanted.iter().map(|cell| cell[part]).collect();
        let narrower = names.len() < choices.len();
        narrows |= narrower;
        if narrower || was_selected {
            only.extend(names);
        }
    }
    if narrows { only } else { Vec::new() }
}

fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = "scenario".to_owned();
    for word in words {
        line.push(' ');
        line.push_str(&shell_word(word));
    }
    line
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [Ids; 3] = [
        ["vllm", "m", "chat", "steady"],
        ["vllm", "m", "code", "steady"],
        ["sglang", "m", "chat", "steady"],
    ];

    fn again(typed: &str, all: &[Ids], wanted: &[Ids]) -> String {
        let typed: Vec<String> = typed.split(' ').map(str::to_owned).collect();
        rerun(&typed, "gate.yaml", all, wanted)
    }

    #[test]
    fn what_was_typed_is_kept_and_the_selection_is_narrowed() {
        let one = &CELLS[..1];
        for (typed, all, expected) in [
            (
                "scenario run gate.yaml",
                &CELLS[..],
                "scenario run gate.yaml --only vllm,chat",
            ),
            ("scenario run gate.yaml", one, "scenario run gate.yaml"),
            (
                "/opt/bin/scenario run other.yaml gate.yaml --simulate --smoke --set run.seed=7 --out=x --out y -v",
                one,
                "scenario run gate.yaml --simulate --smoke --set run.seed=7 -v",
            ),
            (
                "scenario run --only vllm,sglang gate.yaml --seed 3",
                &CELLS[..],
                "scenario run gate.yaml --seed 3 --only vllm,m,chat,steady",
            ),
            (
                "scenario run --only vllm,chat gate.yaml",
                one,
                "scenario run gate.yaml --only vllm,chat",
            ),
            (
                "scenario run gate.yaml --profile smoke --var host=http://10.0.0.7 --simulate",
                one,
                "scenario run gate.yaml --profile smoke --var host=http://10.0.0.7 --simulate",
            ),
            (
                "scenario run --dashboard 0.0.0.0:8700 gate.yaml --token s3cret --token=s3cret --metrics 9464 --simulate",
                one,
                "scenario run gate.yaml --simulate",
            ),
            (
                "scenario run gate.yaml --dashboard --seed 3",
                one,
                "scenario run gate.yaml --seed 3",
            ),
            ("unit-tests --nocapture", one, "scenario run gate.yaml"),
        ] {
            assert_eq!(again(typed, all, one), expected, "{typed}");
        }
    }

    #[test]
    fn quick_is_run_again_as_it_was_typed() {
        assert_eq!(
            again(
                "./scenario quick http://localhost:8000 --users 4 --out x --dashboard 8700 --bearer-env KEY --metrics 9464",
                &CELLS[..1],
                &CELLS[..1]
            ),
            "scenario quick http://localhost:8000 --users 4 --bearer-env KEY"
        );
    }

    #[test]
    fn a_word_with_a_space_is_quoted() {
        assert_eq!(shell_word("scenarios/gate.yaml"), "scenarios/gate.yaml");
        assert_eq!(shell_word("my gate's.yaml"), r"'my gate'\''s.yaml'");
    }
}
