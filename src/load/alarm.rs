//! Waits until an instant: a timerfd through the reactor, where tokio's own timer is a millisecond coarse.

use crate::clock::Clock;
use crate::units::Moment;

#[cfg(target_os = "linux")]
pub use linux::Alarm;
#[cfg(not(target_os = "linux"))]
pub use portable::Alarm;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::unix::AsyncFd;

    use super::{Clock, Moment};

    /// One timer of a load thread.
    #[derive(Debug)]
    pub struct Alarm {
        clock: Clock,
        timer: AsyncFd<Timer>,
    }

    #[derive(Debug)]
    struct Timer(TimerFd);

    impl AsRawFd for Timer {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Alarm {
        /// A timer on the reactor of this thread.
        ///
        /// # Errors
        /// The system gives no timer.
        pub fn new(clock: Clock) -> io::Result<Alarm> {
            let timer = TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
            )?;
            #[expect(
                unsafe_code,
                reason = "tokio registers a foreign descriptor only on this promise"
            )]
            // SAFETY: the timer owns its descriptor, is moved into the `AsyncFd`, and is neither replaced nor closed before it.
            let timer = unsafe { AsyncFd::register(Timer(timer)) }?;
            Ok(Alarm { clock, timer })
        }

        /// Waits until `moment`; returns at once if it has passed.
        ///
        /// # Errors
        /// The timer cannot be set.
        pub async fn until(&self, moment: Moment) -> io::Result<()> {
            loop {
                let left = moment.since(self.clock.now());
                if left.is_zero() {
                    return Ok(());
                }
                // A timer of less than a microsecond is as good as now, and zero would disarm it.
                let left = TimeSpec::from_duration(left.max(Duration::from_micros(1)));
                self.timer
                    .get_ref()
                    .0
                    .set(Expiration::OneShot(left), TimerSetTimeFlags::empty())?;
                let mut guard = self.timer.readable().await?;
                // The count of expirations does not matter, only that it is read: the descriptor is level-triggered data.
                match self.timer.get_ref().0.wait() {
                    Ok(()) | Err(nix::errno::Errno::EAGAIN) => guard.clear_ready(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;

    use super::{Clock, Moment};

    /// One timer of a load thread.
    #[derive(Debug)]
    pub struct Alarm {
        clock: Clock,
    }

    impl Alarm {
        /// A timer on the runtime of this thread.
        ///
        /// # Errors
        /// Never here.
        pub fn new(clock: Clock) -> io::Result<Alarm> {
            Ok(Alarm { clock })
        }

        /// Waits until `moment`; returns at once if it has passed.
        ///
        /// # Errors
        /// Never here.
        pub async fn until(&self, moment: Moment) -> io::Result<()> {
            tokio::time::sleep_until(tokio::time::Instant::from_std(self.clock.instant(moment)))
                .await;
            Ok(())
        }
    }
}
