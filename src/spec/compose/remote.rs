//! Bases on other hosts: `https://HOST/FILE`, and `git+https://HOST/REPOSITORY?ref=REF#FILE`.

use std::path::{Path, PathBuf};

/// How addresses of other hosts begin.
const SCHEMES: [&str; 4] = ["https://", "git+https://", "git+ssh://", "git+file://"];

/// Whether a path is an address on another host.
pub fn is_remote(path: &Path) -> bool {
    let text = path.to_string_lossy();
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// The address that a name stands for, written in the file `by`; `None` for a file on this machine.
pub(super) fn address(by: &Path, name: &str) -> Option<PathBuf> {
    if is_remote(Path::new(name)) {
        return Some(PathBuf::from(name));
    }
    if !is_remote(by) {
        return None;
    }
    // Beside the file that names it, and never outside of its repository or host.
    let by = by.to_string_lossy();
    let root = match by.find('#') {
        Some(hash) => hash + 1,
        None => {
            let host = by.find("://")? + 3;
            host + by[host..].find('/')? + 1
        }
    };
    let (root, file) = by.split_at(root);
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(PathBuf::from(format!("{root}{}", parts.join("/"))))
}

/// A file in a git repository, as its address has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitFile {
    /// What git fetches from.
    pub repository: String,
    /// A tag, a branch or a commit.
    pub reference: String,
    /// The file in the repository.
    pub file: String,
}

impl GitFile {
    /// The parts of an address like `git+https://HOST/REPOSITORY?ref=v1.4.0#base.yaml`.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn read(address: &str) -> Result<GitFile, String> {
        let wanted = "write it like `git+https://host/repository?ref=v1.4.0#base.yaml`";
        let rest = address.strip_prefix("git+").ok_or(wanted)?;
        let (rest, file) = rest
            .split_once('#')
            .ok_or_else(|| format!("it names no file: {wanted}"))?;
        let (repository, reference) = rest
            .split_once("?ref=")
            .ok_or_else(|| format!("it names no tag and no commit: {wanted}"))?;
        let plain = |text: &str| !text.is_empty() && !text.starts_with('-');
        if !plain(reference) || !plain(file) {
            return Err(wanted.to_owned());
        }
        Ok(GitFile {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            file: file.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_remote_file_is_beside_it() {
        let of = |by: &str, name: &str| {
            address(Path::new(by), name).map(|path| path.display().to_string())
        };
        let git = "git+https://host/repo?ref=v1#bases/a100.yaml";
        assert_eq!(of("team.yaml", "base.yaml"), None);
        assert_eq!(of("team.yaml", git).unwrap(), git);
        assert_eq!(
            of(git, "../lib.yaml").unwrap(),
            "git+https://host/repo?ref=v1#lib.yaml"
        );
        assert_eq!(
            of("https://host/a/b.yaml", "./c/d.yaml").unwrap(),
            "https://host/a/c/d.yaml"
        );
        assert_eq!(
            of("https://host/b.yaml", "../../c.yaml").unwrap(),
            "https://host/c.yaml"
        );
    }

    #[test]
    fn a_file_in_a_repository_has_a_reference() {
        let file = GitFile::read("git+https://host/repo?ref=v1#a/b.yaml").unwrap();
        assert_eq!(file.repository, "https://host/repo");
        assert_eq!(
            (file.reference.as_str(), file.file.as_str()),
            ("v1", "a/b.yaml")
        );
        assert!(GitFile::read("git+https://host/repo#b.yaml").is_err());
        assert!(GitFile::read("git+https://host/repo?ref=v1").is_err());
        assert!(GitFile::read("git+https://host/repo?ref=--upload-pack=x#b.yaml").is_err());
    }
}
