//! `scenario dataset prepare`: any source as JSON lines, with what it was made from beside it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::console::Console;
use super::super::exit::Exit;
use super::args::PrepareArgs;
use super::set;
use crate::workload::canonical_line;

pub(super) fn prepare(args: &PrepareArgs, console: &Console) -> anyhow::Result<Exit> {
    let Some(sets) = set::open(&args.set, console)? else {
        return Ok(Exit::Usage);
    };
    let [set] = sets.as_slice() else {
        let names: Vec<&str> = sets.iter().map(|set| set.id.as_str()).collect();
        anyhow::bail!(
            "the scenario has {} sets: {}; prepare them one by one, from their sources",
            names.len(),
            names.join(", ")
        );
    };
    let Some(rows) = set.workload.rows() else {
        anyhow::bail!("the set has no end: give it one by `--with limit=N`");
    };
    let mut text = String::new();
    for prompt in rows {
        text.push_str(&canonical_line(&prompt));
        text.push('\n');
    }
    let facts = set.workload.facts();
    let sha256 = hex(&Sha256::digest(text.as_bytes()));
    let dropped = facts.dropped.iter();
    let provenance = json!({
        "source": args.set.source,
        "source_sha256": digest_of(&args.set.source),
        "kind": args.set.kind,
        "with": args.set.keys,
        "tokenizer": args.set.tokenizer,
        "seed": args.set.seed,
        "rows_read": facts.read,
        "rows_that_fit": facts.kept,
        "left_out": dropped.map(|(reason, count)| (reason.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "prompts": text.lines().count(),
        "sha256": sha256,
        "digest": set.workload.digest(),
        "tool": concat!("scenario ", env!("CARGO_PKG_VERSION")),
    });
    write(&args.out, &text, args.force)?;
    let beside = beside(&args.out);
    write(&beside, &format!("{provenance:#}\n"), true)?;
    console.talk(&format!(
        "wrote {} prompts to {}\nsha256 {sha256}\nprovenance in {}",
        text.lines().count(),
        args.out.display(),
        beside.display()
    ));
    Ok(Exit::Passed)
}

/// The file that tells where another comes from.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".provenance.json");
    PathBuf::from(name)
}

/// Writes a file that is not there yet, whole or not at all.
pub(super) fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    if path.exists() && !force {
        anyhow::bail!("`{}` is there already; --force replaces it", path.display());
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut part =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).with_context(failed)?;
    std::io::Write::write_all(part.as_file_mut(), text.as_bytes()).with_context(failed)?;
    part.persist(path).with_context(failed)?;
    Ok(())
}

/// The SHA-256 of a file that is here.
fn digest_of(source: &str) -> Option<String> {
    let mut digest = Sha256::new();
    let mut file = std::fs::File::open(source).ok()?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).ok()? {
            0 => return Some(hex(&digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
