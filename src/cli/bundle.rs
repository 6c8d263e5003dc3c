//! `scenario bundle`: one file that runs elsewhere: the resolved scenario, its data sets and its baseline, each with its digest.
//! Secrets stay names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::args::{BundleArgs, FileOptions};
use super::console::Console;
use super::exit::Exit;
use super::file;
use crate::diagnostic::{Sources, Span};
use crate::secret::Masker;
use crate::spec::{Composition, NamedOutside, RemoteFile};
use crate::workload::{Library, is_object_url};

/// The name and version of the format.
const FORMAT: &str = "scenario.bundle/v1";
/// The scenario in a bundle.
const SCENARIO: &str = "scenario.yaml";
/// What a bundle holds, its first file.
const MANIFEST: &str = "manifest.json";
/// The most that one file of a bundle may have.
const LIMIT: u64 = 4 << 30;

/// What a bundle holds.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: String,
    tool: String,
    /// The scenario's name.
    name: String,
    files: Vec<Packed>,
}

/// A file of a bundle.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    name: String,
    sha256: String,
    bytes: u64,
    /// The keys of the scenario that name it.
    keys: Vec<String>,
}

pub(super) fn bundle(args: &BundleArgs, console: &Console) -> anyhow::Result<Exit> {
    let options = FileOptions {
        inputs: args.inputs.clone(),
        ..FileOptions::default()
    };
    let read = file::read(&args.file, &options, file::Aim::Run)?;
    let composition = read.composition.clone();
    let (Some((plan, sources)), Some(composition)) = (read.told(console), composition) else {
        return Ok(Exit::Usage);
    };
    let mut pack = Pack::default();
    let mut names = pack.gather(&composition, &sources, &console.masker)?;
    let remote = composition.remote_files(&sources);
    names.extend(pack.fetch(&remote, &console.masker)?);
    pack.outside = composition.outside(&sources);
    let text = format!(
        "# The whole of {}, as `scenario bundle` {} has resolved it.\n{}",
        args.file.display(),
        env!("CARGO_PKG_VERSION"),
        composition.moved_yaml(&sources, &names)
    );
    pack.add(SCENARIO, text.into_bytes(), Vec::new(), &console.masker)?;
    let lock = args.file.with_file_name("scenario.lock");
    if lock.is_file() {
        let bytes = std::fs::read(&lock)?;
        pack.add("scenario.lock", bytes, Vec::new(), &console.masker)?;
    }
    pack.write(&plan.name, &args.out)?;
    console.data(&format!(
        "{}: {} and {} file{} of it",
        args.out.display(),
        plan.name,
        pack.files.len() - 1,
        if pack.files.len() == 2 { "" } else { "s" }
    ));
    for outside in &pack.outside {
        console.data(&format!(
            "  not in it, and needed where it runs: {}: {}",
            outside.key, outside.named
        ));
    }
    Ok(Exit::Passed)
}

/// What goes into a bundle.
#[derive(Default)]
struct Pack {
    files: Vec<(Packed, Vec<u8>)>,
    /// What the scenario needs besides.
    outside: Vec<NamedOutside>,
    /// How many files of the scenario were named.
    named: usize,
}

impl Pack {
    /// Adds every file that the scenario names; gives the names that they have in the bundle, by the place of their value.
    fn gather(
        &mut self,
        composition: &Composition,
        sources: &Sources,
        masker: &Masker,
    ) -> anyhow::Result<BTreeMap<Span, String>> {
        let mut names = BTreeMap::new();
        let mut packed: Vec<(PathBuf, String)> = Vec::new();
        for file in composition.files(sources) {
            // A baseline may be missing, here and there.
            if !file.path.exists() {
                continue;
            }
            if let Some((_, name)) = packed.iter().find(|(path, _)| *path == file.path) {
                names.insert(file.span, name.clone());
                for (known, _) in self
                    .files
                    .iter_mut()
                    .filter(|(known, _)| known.name == *name)
                {
                    known.keys.push(file.key.clone());
                }
                continue;
            }
            let bare = file.path.file_name().unwrap_or_default().to_string_lossy();
            let name = self.name(&bare);
            for (path, name) in members(&file.path, &name)? {
                let bytes = std::fs::read(&path)
                    .with_context(|| format!("cannot read `{}`", path.display()))?;
                self.add(&name, bytes, vec![file.key.clone()], masker)?;
            }
            packed.push((file.path, name.clone()));
            names.insert(file.span, name);
        }
        Ok(names)
    }

    /// Adds what the scenario names on a hub or behind a URL, as it was fetched for the plan.
    fn fetch(
        &mut self,
        remote: &[RemoteFile],
        masker: &Masker,
    ) -> anyhow::Result<BTreeMap<Span, String>> {
        let library = Library::of_environment(|name| std::env::var(name).ok());
        let mut names = BTreeMap::new();
        for file in remote {
            let path = library.fetched(&file.url, file.sha256.as_deref())?;
            // What the hub calls its file is clear only now; elsewhere it is kept by its digest, and the ending tells how it is read.
            let bare = if file.url.starts_with("hf://") {
                path.file_name().unwrap_or_default().to_string_lossy()
            } else {
                last_name(&file.url).into()
            };
            let name = self.name(&bare);
            let bytes = std::fs::read(&path)
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            self.add(&name, bytes, vec![file.key.clone()], masker)?;
            names.insert(file.span, name);
        }
        Ok(names)
    }

    /// The next name for a file that is called so elsewhere.
    fn name(&mut self, bare: &str) -> String {
        self.named += 1;
        format!("files/{}-{bare}", self.named)
    }

    fn add(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        keys: Vec<String>,
        masker: &Masker,
    ) -> anyhow::Result<()> {
        if let Cow::Owned(_) = masker.bytes(&bytes) {
            let keys = if keys.is_empty() {
                "the scenario".to_owned()
            } else {
                keys.join(", ")
            };
            bail!("{keys} holds the value of a secret: nothing was bundled");
        }
        let packed = Packed {
            name: name.to_owned(),
            sha256: sha256(&bytes),
            bytes: bytes.len() as u64,
            keys,
        };
        self.files.push((packed, bytes));
        Ok(())
    }

    /// Writes the bundle; the same scenario gives the same bytes.
    fn write(&self, name: &str, out: &Path) -> anyhow::Result<()> {
        let manifest = serde_json::json!({
            "format": FORMAT,
            "tool": env!("CARGO_PKG_VERSION"),
            "name": name,
            "files": self.files.iter().map(|(packed, _)| packed).collect::<Vec<_>>(),
            "outside": self.outside.iter().map(|it| &it.key).collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        let folder = match out.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let written = || -> std::io::Result<()> {
            let mut tar = tar::Builder::new(tempfile::NamedTempFile::new_in(folder)?);
            let all = self
                .files
                .iter()
                .map(|(packed, bytes)| (packed.name.as_str(), bytes));
            for (name, bytes) in [(MANIFEST, &manifest)].into_iter().chain(all) {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                header.set_mtime(0);
                tar.append_data(&mut header, name, bytes.as_slice())?;
            }
            let file = tar.into_inner()?;
            file.persist(out).map_err(|error| error.error)?;
            Ok(())
        };
        written().with_context(|| format!("cannot write `{}`", out.display()))
    }
}

/// What the file behind a URL or in an object store is called.
fn last_name(url: &str) -> &str {
    let path = if is_object_url(url) {
        url
    } else {
        url.split(['?', '#']).next().unwrap_or_default()
    };
    path.rsplit('/').next().unwrap_or_default()
}

/// A file, or the files in a folder, each with its name in the bundle.
fn members(path: &Path, name: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    if !path.is_dir() {
        return Ok(vec![(path.to_owned(), name.to_owned())]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().is_file() {
            let bare = entry.file_name().to_string_lossy().into_owned();
            files.push((entry.path(), format!("{name}/{bare}")));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a path is that of a bundle.
pub(super) fn is_bundle(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "tar")
}

/// Unpacks a bundle into a folder of its own below `cache`, and gives the path of its scenario.
///
/// # Errors
/// It is no bundle, or a file in it is not the one that was packed.
pub(super) fn unpacked(path: &Path, cache: &Path) -> anyhow::Result<PathBuf> {
    let told = || format!("cannot open the bundle `{}`", path.display());
    let bytes = std::fs::read(path).with_context(told)?;
    let folder = cache.join("bundles").join(&sha256(&bytes)[..32]);
    let files = contents(&bytes).with_context(told)?;
    for (name, bytes) in files {
        let target = folder.join(&name);
        let there = std::fs::read(&target).is_ok_and(|known| known == bytes);
        if !there {
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).with_context(told)?;
            }
            std::fs::write(&target, bytes).with_context(told)?;
        }
    }
    Ok(folder.join(SCENARIO))
}

/// The files of a bundle, each held to its digest.
fn contents(bytes: &[u8]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut archive = tar::Archive::new(bytes);
    let mut manifest: Option<Manifest> = None;
    let mut files = Vec::new();
    for entry in archive.entries().context("it is no tar archive")? {
        let mut entry = entry.context("it is no tar archive")?;
        let name = entry
            .path()
            .context("a name in it cannot be read")?
            .into_owned();
        let plain = name
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain || !entry.header().entry_type().is_file() {
            bail!("`{}` is no plain file of a bundle", name.display());
        }
        let name = name.display().to_string();
        let mut bytes = Vec::new();
        entry.by_ref().take(LIMIT).read_to_end(&mut bytes)?;
        match &manifest {
            None if name == MANIFEST => {
                let read: Manifest = serde_json::from_slice(&bytes)
                    .context("its manifest cannot be read: `scenario bundle` writes one")?;
                if read.format != FORMAT {
                    bail!(
                        "its format is `{}`, and this tool reads `{FORMAT}`",
                        read.format
                    );
                }
                manifest = Some(read);
            }
            None => bail!("it has no manifest: `scenario bundle` writes one"),
            Some(manifest) => {
                let packed = manifest.files.iter().find(|packed| packed.name == name);
                let packed = packed.with_context(|| format!("`{name}` is not in its manifest"))?;
                let found = sha256(&bytes);
                if found != packed.sha256 {
                    bail!(
                        "`{name}` has sha256 {found}, and {} was packed",
                        packed.sha256
                    );
                }
                files.push((name, bytes));
            }
        }
    }
    let manifest = manifest.context("it is empty")?;
    if let Some(missing) = manifest
        .files
        .iter()
        .find(|packed| !files.iter().any(|(name, _)| *name == packed.name))
    {
        bail!("`{}` is missing in it", missing.name);
    }
    Ok(files)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
