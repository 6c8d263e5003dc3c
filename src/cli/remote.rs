//! `scenario lock`, and how bases on other hosts are read: only with a digest in `scenario.lock`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};

use super::args::LockArgs;
use super::bundle::sha256;
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::diagnostic::{self, Sources};
use crate::programs;
use crate::spec::{self, GitFile, is_remote};
use crate::wire::{Endpoint, fetch, tls};
use crate::workload::Library;

/// How long a base may take to come.
const WITHIN: Duration = Duration::from_secs(30);
/// The name of the file with the digests, beside the scenario.
const LOCK: &str = "scenario.lock";

/// The digests of bases on other hosts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    version: u32,
    bases: BTreeMap<String, Locked>,
}

/// What a base was when it was locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    sha256: String,
    /// The commit that a tag or branch named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
}

impl Lock {
    /// The lock beside a scenario; an empty one where there is none.
    fn beside(scenario: &Path) -> Result<Lock, String> {
        let path = scenario.with_file_name(LOCK);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Lock {
                    version: 1,
                    bases: BTreeMap::new(),
                });
            }
            Err(error) => return Err(format!("`{}`: {error}", path.display())),
        };
        serde_yaml::from_str(&text)
            .map_err(|error| format!("`{}` is no lock: {error}", path.display()))
    }
}

/// The text of a base on another host, if it is the one that was locked. It comes from the cache, or, where it may be `fetched`,
/// from its host.
pub(super) fn locked_text(
    address: &Path,
    scenario: &Path,
    fetched: bool,
) -> Result<String, String> {
    let name = address.display().to_string();
    let lock = Lock::beside(scenario)?;
    let locked = lock.bases.get(&name).ok_or_else(|| {
        format!(
            "it has no digest in `{}`",
            scenario.with_file_name(LOCK).display()
        )
    })?;
    let cached = cached(&locked.sha256);
    if let Ok(text) = std::fs::read_to_string(&cached)
        && sha256(text.as_bytes()) == locked.sha256
    {
        return Ok(text);
    }
    if !fetched {
        return Err("it is not here, and nothing is fetched to look at a file".to_owned());
    }
    let (text, _) = fetched_text(&name, locked.commit.as_deref())?;
    let found = sha256(text.as_bytes());
    if found != locked.sha256 {
        return Err(format!(
            "it has changed: it has sha256 {found}, and `{LOCK}` has {}",
            locked.sha256
        ));
    }
    keep(&cached, &text);
    Ok(text)
}

fn cached(sha256: &str) -> PathBuf {
    let library = Library::of_environment(|name| std::env::var(name).ok());
    library.cache.join("bases").join(sha256)
}

/// Puts a text into the cache; without one it is fetched again.
fn keep(path: &Path, text: &str) {
    if let Some(folder) = path.parent()
        && std::fs::create_dir_all(folder).is_ok()
    {
        let _ = std::fs::write(path, text);
    }
}

/// A text from its host, with the commit that it is from.
fn fetched_text(address: &str, commit: Option<&str>) -> Result<(String, Option<String>), String> {
    if address.starts_with("git+") {
        let file = GitFile::read(address)?;
        return from_git(&file, commit.unwrap_or(&file.reference));
    }
    from_web(address).map(|text| (text, None))
}

fn from_web(address: &str) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let host = address.strip_prefix("https://").unwrap_or(address);
    let path = host.find('/').map_or("/", |at| &host[at..]);
    let root = &address[..address.len() - path.len()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| told(&error))?;
    let answer = runtime.block_on(async {
        let endpoint = Endpoint::resolve(root, || tls::client_config(None, false))
            .await
            .map_err(|error| told(&error))?;
        fetch(&endpoint, path, &HeaderMap::new(), None, WITHIN)
            .await
            .map_err(|error| told(&error))
    })?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("its host answers with HTTP {status}")),
    }
}

/// A file of a repository, without a working tree.
fn from_git(file: &GitFile, reference: &str) -> Result<(String, Option<String>), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let git = |words: &[&str]| -> Result<String, String> {
        let ended = programs::asked("git")
            .arg("-C")
            .arg(folder.path())
            .args(words)
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("git cannot be run: {error}"))?;
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        Err(format!("git says: {}", last.unwrap_or("nothing").trim()))
    };
    git(&["init", "--quiet"])?;
    git(&[
        "fetch",
        "--quiet",
        "--depth",
        "1",
        "--",
        &file.repository,
        reference,
    ])?;
    let commit = git(&["rev-parse", "FETCH_HEAD"])?.trim().to_owned();
    let text = git(&["show", &format!("FETCH_HEAD:{}", file.file)])?;
    Ok((text, Some(commit)))
}

pub(super) fn lock(args: &LockArgs, console: &Console) -> anyhow::Result<Exit> {
    let mut exit = Exit::Passed;
    for path in &args.files {
        let mut lock = Lock::beside(path).map_err(anyhow::Error::msg)?;
        let found = RefCell::new(BTreeMap::new());
        let files = |address: &Path| {
            if !is_remote(address) {
                return file::text_of(address);
            }
            let name = address.display().to_string();
            let (text, commit) = fetched_text(&name, None)?;
            let sha256 = sha256(text.as_bytes());
            keep(&cached(&sha256), &text);
            found.borrow_mut().insert(name, Locked { sha256, commit });
            Ok(text)
        };
        let inputs = spec::Inputs {
            files: &files,
            environment: &|name| std::env::var(name).ok(),
            ..spec::Inputs::default()
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut sources = Sources::default();
        let reading = spec::read(&mut sources, path, &text, &inputs);
        if reading.composition.is_none() {
            let color = console.color_errors;
            console.talk(&diagnostic::render(&reading.diagnostics, &sources, color));
            exit = Exit::Usage;
            continue;
        }
        let found = found.into_inner();
        for (name, locked) in &found {
            let change = match lock.bases.get(name) {
                None => "locked",
                Some(known) if known == locked => "as it was",
                Some(_) => "locked anew: it has changed",
            };
            console.data(&format!(
                "{name}: {change} (sha256 {})",
                &locked.sha256[..12]
            ));
        }
        if found.is_empty() {
            console.data(&format!("{}: nothing on other hosts", path.display()));
            continue;
        }
        lock.bases.extend(found);
        let text = format!(
            "# Digests of bases on other hosts, written by `scenario lock`. A base that has changed is refused. Keep it with the scenario.\n{}",
            serde_yaml::to_string(&lock)?
        );
        let target = path.with_file_name(LOCK);
        std::fs::write(&target, text)
            .with_context(|| format!("cannot write `{}`", target.display()))?;
    }
    Ok(exit)
}
