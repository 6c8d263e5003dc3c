//! Completions and manual pages: what shells and `man` make of them.

use std::process::Command;

use crate::tool::Desk;

/// Runs a program of the system, if it is there; what it printed.
fn system(desk: &Desk, program: &str, words: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(words).current_dir(desk.path(""));
    command
        .env("MANWIDTH", "100")
        .env("MAN_KEEP_FORMATTING", "")
        .env("LC_ALL", "C.UTF-8");
    let done = match command.output() {
        Ok(done) => done,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{program}: {error}"),
    };
    let text = [done.stdout, done.stderr].concat();
    Some((done.status.success(), String::from_utf8(text).unwrap()))
}

fn script(desk: &Desk, shell: &str) {
    let script = desk.tool(&["completions", shell]).with_code(0).out;
    desk.write(&format!("scenario.{shell}"), &script);
}

#[test]
fn bash_completes_commands_options_and_choices() {
    let desk = Desk::new();
    script(&desk, "bash");
    // What bash does at a press of the tab key: it calls the function with the words that are typed.
    desk.write(
        "tab.sh",
        r#"
source scenario.bash
tab() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  local function=$(complete -p scenario | sed 's/.*-F \([^ ]*\).*/\1/')
  "$function" scenario "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2>/dev/null
  echo "${COMPREPLY[@]}"
}
tab scenario sel
tab scenario baseline s
tab scenario run --rep
tab scenario run --summary c
"#,
    );
    let (ended, printed) = system(&desk, "bash", &["tab.sh"]).expect("bash is there");
    assert!(ended, "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines, ["selftest", "save show", "--repeats", "compact"]);
}

#[test]
fn the_other_shells_read_their_scripts() {
    let desk = Desk::new();
    for (shell, check) in [("zsh", "-n"), ("fish", "--no-execute")] {
        script(&desk, shell);
        let read = system(&desk, shell, &[check, &format!("scenario.{shell}")]);
        if let Some((ended, said)) = read {
            assert!(ended, "{shell}: {said}");
        }
    }
    // Nobody's machine has all of them; each script names every command.
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.tool(&["completions", shell]).with_code(0).out;
        for command in ["run", "compare", "selftest", "completions"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    let wrong = desk.tool(&["completions", "dash"]).with_code(2);
    assert!(wrong.err.contains("bash"), "{}", wrong.err);
}

#[test]
fn there_is_a_page_for_each_command_and_none_has_a_fault() {
    let desk = Desk::new();
    desk.tool(&["man", "--dir", "pages"]).with_code(0);
    let folder = desk.path("pages");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["scenario.1", "scenario-run.1", "scenario-baseline-save.1"] {
        assert!(
            names.iter().any(|one| one == name),
            "{name} is not among {names:?}"
        );
    }
    for name in &names {
        let page = format!("pages/{name}");
        let text = std::fs::read_to_string(desk.path(&page)).unwrap();
        for heading in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(text.contains(heading), "{name} has no {heading}");
        }
        if let Some((_, said)) = system(&desk, "mandoc", &["-T", "lint", "-W", "warning", &page]) {
            let faults: Vec<&str> = said
                .lines()
                .filter(|line| {
                    !line.contains("missing date") && !line.contains("skipping paragraph macro")
                })
                .collect();
            assert!(faults.is_empty(), "{}", faults.join("\n"));
        }
    }
}

#[test]
fn a_page_says_what_the_command_does_and_how_it_ends() {
    let desk = Desk::new();
    desk.write("run.1", &desk.tool(&["man", "run"]).with_code(0).out);
    let shown = system(&desk, "man", &["-l", "run.1"]);
    let text = match shown {
        Some((true, text)) => text,
        // A minimal system has the program and no formatter.
        _ => desk.tool(&["man", "run"]).out.replace("\\-", "-"),
    };
    for words in [
        "SCENARIO-RUN",
        "--record-events",
        "EXAMPLES",
        "scenario run gate.yaml --only vllm,chat --repeats 3",
        "EXIT STATUS",
        "could not measure",
    ] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    let wrong = desk.tool(&["man", "rnu"]).with_code(2);
    assert!(wrong.err.contains("did you mean `run`?"), "{}", wrong.err);
}
