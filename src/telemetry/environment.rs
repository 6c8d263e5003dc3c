//! Facts about the machine of the runner and its GPUs, read once per run.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::programs;

/// The machine of the runner. What could not be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Its name.
    pub name: Option<String>,
    /// The operating system.
    pub os: String,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's model.
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The kernel's clock source.
    pub clocksource: Option<String>,
}

/// Reads the facts of this machine.
pub fn host_facts() -> HostFacts {
    let line = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    HostFacts {
        name: line("/proc/sys/kernel/hostname"),
        os: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
            .unwrap_or_else(|| std::env::consts::OS.to_owned()),
        kernel: line("/proc/sys/kernel/osrelease"),
        cpu: field(&read("/proc/cpuinfo"), "model name", ':'),
        cores: std::thread::available_parallelism()
            .ok()
            .map(|cores| cores.get() as u32),
        memory_bytes: memory(&read("/proc/meminfo")),
        clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }
}

/// The state of a git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitFacts {
    /// The commit that is checked out.
    pub revision: String,
    /// Files that are tracked differ from it.
    pub modified: bool,
}

/// The state of the repository that a folder lies in; `None` where there is none, or no git.
pub fn git_facts(folder: &Path) -> Option<GitFacts> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let git = |words: &[&str]| {
        let ended = programs::asked("git")
            .arg("-C")
            .arg(folder)
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            // A look must not wait for a lock, nor take one.
            .env("GIT_OPTIONAL_LOCKS", "0")
            .output()
            .ok()?;
        ended
            .status
            .success()
            .then(|| String::from_utf8_lossy(&ended.stdout).trim().to_owned())
    };
    Some(GitFacts {
        revision: git(&["rev-parse", "HEAD"])?,
        modified: !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
    })
}

/// The value of the first line `key<separator>value`, without quotes.
fn field(text: &str, key: &str, separator: char) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        let value = value.trim().trim_matches('"');
        (name.trim() == key && !value.is_empty()).then(|| value.to_owned())
    })
}

fn memory(meminfo: &str) -> Option<u64> {
    let kib = field(meminfo, "MemTotal", ':')?;
    let kib: u64 = kib.trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_folder_outside_of_every_repository_has_no_revision() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(git_facts(folder.path()), None);
        let git = |words: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(folder.path()).args(words);
            assert!(command.output().unwrap().status.success(), "{words:?}");
        };
        git(&["init", "--quiet"]);
        std::fs::write(folder.path().join("gate.yaml"), "version: 1\n").unwrap();
        git(&["add", "."]);
        let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        let commit = [
            "-c",
            "commit.gpgsign=false",
            "commit",
            "--quiet",
            "-m",
            "one",
        ];
        git(&[&identity[..], &commit].concat());
        let clean = git_facts(folder.path()).unwrap();
        assert_eq!((clean.revision.len(), clean.modified), (40, false));
        std::fs::write(folder.path().join("gate.yaml"), "version: 2\n").unwrap();
        assert!(git_facts(folder.path()).unwrap().modified);
    }

    #[test]
    fn facts_are_read_from_the_kernels_texts() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 9654\n\nprocessor\t: 1\n";
        assert_eq!(field(cpuinfo, "model name", ':').unwrap(), "AMD EPYC 9654");
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
        assert_eq!(
            field(release, "PRETTY_NAME", '=').unwrap(),
            "Debian GNU/Linux 12"
        );
        assert_eq!(memory("MemTotal:  2048 kB\n"), Some(2 << 20));
        assert_eq!(memory(""), None);
    }
}
