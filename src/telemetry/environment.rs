//! Facts about the machine of the runner and its GPUs, read once per run.

use std::fs;

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
    use super::*;

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
