//! Waking up at an instant: the runtime's timer counts in milliseconds, which is coarse against steps of a few of them.

use std::time::Instant;

#[cfg(target_os = "linux")]
mod fine {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::unix::AsyncFd;

    /// A timer of the kernel's, exact to some tens of microseconds.
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<Descriptor>);

    #[derive(Debug)]
    struct Descriptor(TimerFd);

    impl AsRawFd for Descriptor {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Timer {
        #[expect(
            deprecated,
            reason = "the function that replaces it is unsafe; what it guards against cannot happen: the descriptor is ours and never changes"
        )]
        pub(super) fn new() -> io::Result<Timer> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            Ok(Timer(AsyncFd::new(Descriptor(timer))?))
        }

        pub(super) async fn sleep(&self, time: Duration) -> io::Result<()> {
            let once = Expiration::OneShot(TimeSpec::from_duration(time));
            let timer = &self.0.get_ref().0;
            timer.set(once, TimerSetTimeFlags::empty())?;
            loop {
                let mut ready = self.0.readable().await?;
                let waited =
                    ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from));
                if let Ok(result) = waited {
                    return result;
                }
            }
        }
    }
}

/// Sleeps until given instants, as exactly as the platform allows.
#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<fine::Timer>,
}

impl Alarm {
    pub(super) fn new() -> Alarm {
        Alarm {
            #[cfg(target_os = "linux")]
            timer: fine::Timer::new().ok(),
        }
    }

    /// Returns at `deadline`, or soon if that has passed; others get their turn in any case.
    pub(super) async fn sleep_until(&self, deadline: Instant) {
        let time = deadline.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return tokio::task::yield_now().await;
        }
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && timer.sleep(time).await.is_ok()
        {
            return;
        }
        tokio::time::sleep_until(deadline.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_alarm_never_rings_early() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new();
            for microseconds in [0, 1, 300, 2500] {
                let deadline = Instant::now() + Duration::from_micros(microseconds);
                alarm.sleep_until(deadline).await;
                assert!(Instant::now() >= deadline);
            }
        });
    }
}
