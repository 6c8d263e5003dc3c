//! Programs of the system that are asked something: git, nvidia-smi, a browser.

use std::ffi::OsStr;
use std::process::Command;

use crate::secret::is_secret;

/// What programs need to be found, to speak a language, and to reach a desktop, a network and their own settings.
const NAMES: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TERM",
    "DISPLAY",
    "XAUTHORITY",
    "BROWSER",
];
/// The same, of whole families.
const FAMILIES: [&str; 12] = [
    "LC_", "XDG_", "LD_", "DYLD_", "DBUS_", "WAYLAND_", "GIT_", "SSH_", "DOCKER_", "NVIDIA_",
    "CUDA_", "SSL_",
];
/// Of the network, in either case.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// A command that gets of this environment what programs need, and nothing else: no variable that might hold a secret.
pub fn asked(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_needed)));
    command
}

fn is_needed(name: &str) -> bool {
    let known = NAMES.contains(&name)
        || FAMILIES.iter().any(|family| name.starts_with(family))
        || PROXIES.contains(&name.to_ascii_uppercase().as_str());
    known && !is_secret(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_what_it_needs_and_no_secret() {
        for name in [
            "PATH",
            "HOME",
            "LC_ALL",
            "https_proxy",
            "GIT_SSH_COMMAND",
            "DISPLAY",
        ] {
            assert!(is_needed(name), "{name}");
        }
        for name in [
            "HF_TOKEN",
            "OPENAI_API_KEY",
            "FRIENDLI",
            "GIT_TOKEN",
            "AWS_PROFILE",
            "path",
        ] {
            assert!(!is_needed(name), "{name}");
        }
    }
}
