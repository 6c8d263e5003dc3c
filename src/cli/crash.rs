//! What is said when this program has a bug: as Rust says it, without secrets.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;

use crate::secret::Masker;

/// From now on a panic tells no secret that the masker knows.
pub(super) fn hide_secrets(masker: &Masker) {
    let masker = masker.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        // With RUST_BACKTRACE, as everywhere.
        let trace = Backtrace::capture();
        let trace = match trace.status() {
            BacktraceStatus::Captured => format!("{trace}"),
            _ => String::new(),
        };
        tell(
            &format!("thread '{name}' {panic}\n{trace}"),
            &masker,
            std::io::stderr(),
        );
    }));
}

/// Crashes where a test of a debug build wants to see what is said then: with the value of the variable that `SCENARIO_CRASH_WITH`
/// names, the worst that a message could hold.
pub(super) fn on_demand() {
    #[cfg(debug_assertions)]
    if let Ok(name) = std::env::var("SCENARIO_CRASH_WITH") {
        panic!("{name} is {:?}", std::env::var(&name));
    }
}

fn tell(text: &str, masker: &Masker, mut out: impl Write) {
    let _ = writeln!(out, "{}", masker.text(text));
    let _ = writeln!(out, "this is a bug of scenario: please report it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_crash_tells_no_secret() {
        let masker = Masker::default();
        masker.learn(&Secret::new("sk-\"0123\""));
        let mut told = Vec::new();
        tell(
            r#"thread 'main' panicked at a.rs:1:1: HeaderValue("sk-\"0123\"")"#,
            &masker,
            &mut told,
        );
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.starts_with("thread 'main' panicked at a.rs:1:1: HeaderValue(\"***\")\n"),
            "{told}"
        );
        assert!(told.ends_with("please report it\n"));
    }
}
