//! `scenario help`: topics.

use clap::CommandFactory;

use super::args::Cli;
use super::console::Console;
use super::exit::{EXIT_CODES, Exit};
use crate::assertion::{self, Kind};
use crate::diagnostic::did_you_mean;

pub(super) fn help(topic: Option<&str>, console: &Console) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    let text = match topic {
        None => format!(
            "{}\nTopics: scenario help metrics, scenario help exit-codes\n",
            command.render_help()
        ),
        Some("metrics") => metrics(),
        Some("exit-codes") => EXIT_CODES.to_owned(),
        Some(name) => match command.find_subcommand_mut(name) {
            Some(found) => found.render_long_help().to_string(),
            None => {
                let names: Vec<String> = command
                    .get_subcommands()
                    .map(|sub| sub.get_name().to_owned())
                    .collect();
                let known = names
                    .iter()
                    .map(String::as_str)
                    .chain(["metrics", "exit-codes"]);
                let hint = did_you_mean(name, known)
                    .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                anyhow::bail!("no help topic `{name}`{hint}");
            }
        },
    };
    console.data(&text);
    Ok(Exit::Passed)
}

/// The table of metrics, from the registry that the grammar reads.
fn metrics() -> String {
    let mut text = String::from(
        "metrics: what can be asserted, like `P95 TTFT < 500ms`, `error rate < 1%`, `sglang.output_tps >= 1.2 * vllm.output_tps`\n",
    );
    for kind in Kind::ALL {
        let members: Vec<_> = assertion::metrics()
            .iter()
            .filter(|metric| metric.kind == kind)
            .collect();
        if members.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{} ({})\n", kind.name(), kind.legal()));
        for metric in members {
            let also = if metric.aliases.is_empty() {
                String::new()
            } else {
                format!(" (also: {})", metric.aliases.join(", "))
            };
            text.push_str(&format!(
                "  {:<22} {:<8} {}{also}\n",
                metric.name,
                metric.unit(),
                metric.about
            ));
        }
    }
    text
}
