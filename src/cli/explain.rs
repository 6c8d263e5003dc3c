//! `scenario explain`: the page of a code.

use super::console::Console;
use super::exit::Exit;
use crate::diagnostic::did_you_mean;
use crate::language;

pub(super) fn explain(code: Option<&str>, console: &Console) -> anyhow::Result<Exit> {
    let text = match code {
        Some(code) => page(code)?,
        None => listed(),
    };
    console.data(&text);
    Ok(Exit::Passed)
}

fn page(code: &str) -> anyhow::Result<String> {
    if let Some(page) = language::page(code) {
        return Ok(plain(page.text));
    }
    let codes = language::codes();
    let near = did_you_mean(code, codes.iter().map(|(known, _)| *known));
    let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    anyhow::bail!("no diagnostic has the code `{code}`{hint}")
}

/// Every code in a line.
fn listed() -> String {
    let mut text = String::from(
        "codes of diagnostics: S an error, L a lint; `scenario explain CODE` tells more\n\n",
    );
    for (code, title) in language::codes() {
        text.push_str(&format!("  {code}  {title}\n"));
    }
    text
}

/// A page without the marks of Markdown that a terminal does not need: code is indented instead of fenced.
fn plain(page: &str) -> String {
    let mut text = String::new();
    let mut code = false;
    for line in page.lines() {
        if line.starts_with("```") {
            code = !code;
        } else if code {
            text.push_str(&format!("    {line}\n"));
        } else {
            text.push_str(line.trim_start_matches("# "));
            text.push('\n');
        }
    }
    text
}
