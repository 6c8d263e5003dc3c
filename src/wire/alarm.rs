//! A timer that wakes a sleeping reactor: a timerfd, where the reactor's own wait is a millisecond coarse.

#[cfg(target_os = "linux")]
pub(super) use linux::Timer;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Timer;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    use crate::units::Moment;

    /// The timer of a thread. Nobody reads its count: the reactor hears of the edge, and setting it anew clears it.
    #[derive(Debug)]
    pub(in super::super) struct Timer {
        timer: TimerFd,
        rings: Option<Moment>,
    }

    impl Timer {
        pub(in super::super) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
            let timer = TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
            )?;
            let descriptor = timer.as_fd().as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
            Ok(Timer { timer, rings: None })
        }

        /// Makes it ring at `at`; gives how long the reactor may wait by itself at most.
        pub(in super::super) fn set(
            &mut self,
            at: Option<Moment>,
            now: Moment,
        ) -> io::Result<Option<Duration>> {
            let Some(at) = at.filter(|_| at != self.rings) else {
                return Ok(None);
            };
            let left = at.since(now);
            if left.is_zero() {
                return Ok(Some(Duration::ZERO));
            }
            // Less than a microsecond is as good as now, and zero would disarm it.
            let left = TimeSpec::from_duration(left.max(Duration::from_micros(1)));
            self.timer
                .set(Expiration::OneShot(left), TimerSetTimeFlags::empty())?;
            self.rings = Some(at);
            Ok(None)
        }

        pub(in super::super) fn rang(&mut self) {
            self.rings = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token};

    use crate::units::Moment;

    /// No timer: the reactor waits by itself.
    #[derive(Debug)]
    pub(in super::super) struct Timer;

    impl Timer {
        pub(in super::super) fn new(_: &Registry, _: Token) -> io::Result<Timer> {
            Ok(Timer)
        }

        pub(in super::super) fn set(
            &mut self,
            at: Option<Moment>,
            now: Moment,
        ) -> io::Result<Option<Duration>> {
            Ok(at.map(|at| at.since(now)))
        }

        pub(in super::super) fn rang(&mut self) {}
    }
}
