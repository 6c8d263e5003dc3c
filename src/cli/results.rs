//! The folder of one run's results: every file is replaced whole, so a reader never sees half of one.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::report::charts::Charts;
use crate::report::compat::Suite;
use crate::report::{self, Report, View, compat, html, kept, model, ranking};
use crate::secret::{Masked, Masker};
use crate::workload::is_object_url;

/// The files of a run that are not made of its report alone.
const GROWN: [&str; 6] = [
    "requests.csv",
    "requests.ndjson",
    "requests.parquet",
    kept::FILE,
    "charts.json",
    "report.html",
];

/// Bytes of a report in which its first key stands.
const HEAD: u64 = 256;

/// Where results go.
#[derive(Clone, Debug)]
pub(super) struct Results {
    folder: PathBuf,
    /// What hides secrets in every file.
    masker: Masker,
}

impl Results {
    /// Makes the folder: `asked`, or `results/NAME/TIME`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(
        asked: Option<&Path>,
        name: &str,
        started: jiff::Timestamp,
    ) -> anyhow::Result<Results> {
        let stamp = started.strftime("%Y%m%dT%H%M%SZ").to_string();
        let wanted = asked.map_or_else(
            || Path::new("results").join(name).join(&stamp),
            Path::to_owned,
        );
        // Two runs within a second are two folders.
        let folder = match asked {
            Some(_) => wanted,
            None => (1..)
                .map(|n| {
                    if n == 1 {
                        wanted.clone()
                    } else {
                        wanted.with_file_name(format!("{stamp}-{n}"))
                    }
                })
                .find(|path| !path.exists())
                .unwrap_or(wanted),
        };
        Results::at(&folder)
    }

    /// The results in this folder, which is made where it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn at(folder: &Path) -> anyhow::Result<Results> {
        if folder.to_str().is_some_and(is_object_url) {
            bail!(
                "`{}` is in an object store, where `scenario run` and `quick` alone put results",
                folder.display()
            );
        }
        if let Some((scheme, _)) = folder.to_str().and_then(|folder| folder.split_once("://"))
            && scheme.chars().all(|c| c.is_ascii_alphanumeric())
        {
            bail!(
                "`{}` is no place for results: `{scheme}` is none of the schemes that are known, `s3://BUCKET/PREFIX` and `gs://BUCKET/PREFIX`; all else is a folder",
                folder.display()
            );
        }
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        Ok(Results {
            folder: folder.to_owned(),
            masker: Masker::default(),
        })
    }

    /// Takes away the files of a run before, by their names: whoever looks here must not take one for the new run's. All else in
    /// the folder stays, and so does `spared`, which is still to be read. Where no report tells of a run, the names say nothing.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn clear(&self, spared: Option<&Path>) -> anyhow::Result<()> {
        if !self.holds_a_run() {
            return Ok(());
        }
        let made = report::FILES.iter().chain(&ranking::text::FILES);
        let names = made.map(|(name, _)| *name).chain(GROWN);
        for name in names {
            let path = self.folder.join(name);
            if !spared.is_some_and(|spared| same_file(spared, &path)) {
                self.take_away(name)?;
            }
        }
        Ok(())
    }

    fn holds_a_run(&self) -> bool {
        let mut head = Vec::new();
        let read = File::open(self.folder.join("report.json"))
            .and_then(|file| file.take(HEAD).read_to_end(&mut head));
        read.is_ok() && String::from_utf8_lossy(&head).contains(model::SCHEMA)
    }

    fn take_away(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot take away `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The same folder, with secrets hidden in what is written from now on.
    pub(super) fn hiding(self, masker: &Masker) -> Results {
        Results {
            masker: masker.clone(),
            ..self
        }
    }

    /// The results in a folder inside of this one.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn inside(&self, name: &str) -> anyhow::Result<Results> {
        Ok(Results::at(&self.folder.join(name))?.hiding(&self.masker))
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file that grows while the run goes on.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn growing(&self, name: &str) -> anyhow::Result<Masked<File>> {
        let path = self.folder.join(name);
        let file = File::create(&path);
        let file = file.with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(self.masker.over(file))
    }

    /// The same for what its writer compresses, who hides secrets before.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn compressed(&self, name: &str) -> anyhow::Result<File> {
        let path = self.folder.join(name);
        File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Replaces a file by what `write` writes.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let replaced = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".writing-")
                .tempfile_in(&self.folder)?;
            {
                let mut buffered = std::io::BufWriter::new(self.masker.over(&mut file));
                write(&mut buffered)?;
                buffered.flush()?;
            }
            readable(file.as_file())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        replaced().with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Writes every file that is made of the report alone.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn write(&self, report: &Report, view: &View) -> anyhow::Result<()> {
        for (name, render) in report::FILES {
            let text = render(report, view);
            self.replace(name, |file| file.write_all(text.as_bytes()))?;
        }
        for (name, render) in ranking::text::FILES {
            if report.ranking.is_some() {
                let text = render(report, view);
                self.replace(name, |file| file.write_all(text.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Writes the files of these suites below `compat/`; `requests` is the folder with the requests of the run.
    ///
    /// # Errors
    /// There is no `requests.csv`, it is damaged, or the disk refuses.
    pub(super) fn write_compat(
        &self,
        suites: &[Suite],
        (report, charts): (&Report, &Charts),
        requests: &Path,
    ) -> anyhow::Result<()> {
        if suites.is_empty() {
            return Ok(());
        }
        let path = requests.join("requests.csv");
        let name = path.display().to_string();
        let file = File::open(&path).with_context(|| {
            format!("cannot read `{name}`, and the suites' files tell of each request")
        })?;
        let rows = compat::rows(file).with_context(|| format!("`{name}` is damaged"))?;
        for suite in suites {
            let folder = format!("compat/{}", suite.name());
            for (path, text) in compat::files(report, charts, &rows, *suite) {
                let (within, name) = path.rsplit_once('/').unwrap_or(("", &path));
                let place = self.inside(&format!("{folder}/{within}"))?;
                place.replace(name, |file| file.write_all(text.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Writes the page, and what its charts are drawn from.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn write_page(&self, report: &Report, charts: &Charts) -> anyhow::Result<()> {
        self.replace("charts.json", |file| {
            Ok(serde_json::to_writer(file, charts)?)
        })?;
        let page = html::render(report, charts);
        self.replace("report.html", |file| file.write_all(page.as_bytes()))
    }
}

/// Whether two paths name one file that is there.
fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// A temporary file is its owner's alone; a result is everybody's.
#[cfg(unix)]
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &File) -> std::io::Result<()> {
    Ok(())
}
