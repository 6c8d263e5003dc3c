//! What is checked in beside the tests: inputs in folders, and what is expected of each.

use std::fs;
use std::path::{Path, PathBuf};

use snapbox::Data;
use snapbox::data::DataFormat;

/// The files of a folder with this ending, in order; at least one.
#[track_caller]
pub(crate) fn fixtures(folder: impl AsRef<Path>, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.as_ref())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.as_ref().display());
    files
}

/// Every file below a folder, in order.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Holds a text to the letter to what is checked in at a path from the root of the repository; `SNAPSHOTS=overwrite` writes it
/// instead.
#[track_caller]
pub(crate) fn assert_golden(path: impl AsRef<Path>, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let golden = Data::read_from(&path, Some(DataFormat::Text)).raw();
    snapbox::assert_data_eq!(actual.to_owned(), golden);
}
