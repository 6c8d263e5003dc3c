//! Ctrl-C and SIGTERM: the first stops sending and drains, the second ends the process now.

use std::sync::Arc;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

use super::console::Console;
use super::exit::Exit;
use crate::run::Interrupt;

/// From now on both signals are counted; `speak`: the first one is answered. Call before any other thread is started: threads inherit the mask.
///
/// # Errors
/// The system refuses the mask or the thread.
pub(super) fn count(console: &Console, speak: bool) -> anyhow::Result<Arc<Interrupt>> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block().context("cannot wait for signals")?;
    let interrupt = Arc::new(Interrupt::default());
    let (counted, console) = (interrupt.clone(), console.clone());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while let Ok(signal) = set.wait() {
                counted.raise(signal as u32);
                if counted.count() == 1 && speak {
                    console.talk("stopping: no more requests; what is under way may take up to 5s (again: quit now, without reports)");
                }
                if counted.count() > 1 {
                    std::process::exit(i32::from(Exit::Interrupted(signal as u32).code()));
                }
            }
        })
        .context("cannot start the thread that waits for signals")?;
    Ok(interrupt)
}
