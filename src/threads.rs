//! Which threads come first when there are more of them than cores, and what the calling one has used.

use std::time::Duration;

/// The calling thread gives way to the others of this process from now on: what it does can wait, as writing and sampling can,
/// and a load thread that has something to send or to stamp cannot. A system that knows no such order leaves it as it is.
pub fn give_way() {
    // On Linux the niceness belongs to the thread; elsewhere it is the process's, and stays.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

/// CPU time of the calling thread since it began; zero where the system does not tell.
pub fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}
