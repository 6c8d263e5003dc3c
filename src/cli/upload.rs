//! Results in an object store: `--out s3://BUCKET/PREFIX` puts the whole folder there when the run is over.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::workload::{Objects, StoreSettings, is_object_url};

/// Where results go besides their folder.
pub(super) struct Upload {
    place: Objects,
    url: String,
}

impl Upload {
    /// The place that `--out` names, if it names one in an object store. Nothing is sent yet.
    ///
    /// # Errors
    /// It cannot be one: the URL or the environment is wrong.
    pub(super) fn to(out: Option<&Path>) -> anyhow::Result<Option<Upload>> {
        let Some(url) = out.and_then(Path::to_str).filter(|out| is_object_url(out)) else {
            return Ok(None);
        };
        let settings = StoreSettings::of_environment(|name| std::env::var(name).ok());
        Ok(Some(Upload {
            place: Objects::at(url, &settings)?,
            url: url.trim_end_matches('/').to_owned(),
        }))
    }

    /// Puts every file of the folder there, by its path in it; gives how many.
    ///
    /// # Errors
    /// The store refuses one, or it cannot be read. What is in the folder stays.
    pub(super) fn put(&self, folder: &Path) -> anyhow::Result<usize> {
        let files = files(folder, "").with_context(|| kept(folder))?;
        for (name, path) in &files {
            let put = || -> anyhow::Result<()> {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                Ok(self.place.put(name, size, file)?)
            };
            put()
                .with_context(|| format!("cannot put `{name}` into the store"))
                .with_context(|| kept(folder))?;
        }
        Ok(files.len())
    }

    /// Where a file of the folder is there.
    pub(super) fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }
}

fn kept(folder: &Path) -> String {
    format!("the results stay in `{}`", folder.display())
}

/// Every file below a folder with its path in it, in the order of their names.
fn files(folder: &Path, before: &str) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path(), &format!("{name}/"))?);
        } else {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}
