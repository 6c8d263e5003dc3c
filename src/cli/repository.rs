//! Where a file lies in its repository: what services that show files know them by.

use std::path::Path;

/// The path of a file from the root of its repository, or as it was written where it is in none. What is no file, like a value of
/// the command line, has no path.
pub(super) fn path_of(written: &Path) -> Option<String> {
    let whole = written.canonicalize().ok().filter(|path| path.is_file())?;
    let root = whole
        .ancestors()
        .skip(1)
        .find(|folder| folder.join(".git").exists());
    let path = root.and_then(|root| whole.strip_prefix(root).ok());
    Some(path.unwrap_or(written).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_path_in_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("gates/nightly");
        std::fs::create_dir_all(&inside).unwrap();
        let file = inside.join("chat.yaml");
        std::fs::write(&file, "version: 1\n").unwrap();
        let written = inside.join("../nightly/chat.yaml");
        assert_eq!(path_of(&written), Some(written.display().to_string()));
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        let path = Some("gates/nightly/chat.yaml".to_owned());
        assert_eq!(path_of(&written), path);
        // A worktree has a file of that name.
        std::fs::remove_dir(folder.path().join(".git")).unwrap();
        std::fs::write(folder.path().join(".git"), "gitdir: elsewhere\n").unwrap();
        assert_eq!(path_of(&file), path);
    }

    #[test]
    fn a_value_of_the_command_line_has_no_path() {
        assert_eq!(path_of(Path::new("--set")), None);
        assert_eq!(path_of(Path::new("https://a.example/base.yaml")), None);
    }
}
