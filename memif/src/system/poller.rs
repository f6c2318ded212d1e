//! One epoll descriptor with a timer in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// The timer's own token.
const TIMER: u64 = 0;

/// An epoll descriptor with a timer. Tokens tell descriptors apart; 0 is the timer's.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    timer: TimerFd,
    deadline: Option<Instant>,
}

/// The condition that a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

impl Interest {
    fn event(self, token: u64) -> EpollEvent {
        let flags = match self {
            Self::Read => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            Self::Write => EpollFlags::EPOLLOUT,
        };
        EpollEvent::new(flags, token)
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        epoll.add(&timer, Interest::Read.event(TIMER))?;
        Ok(Self { epoll, timer, deadline: None })
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, Interest::Read.event(token))?)
    }

    pub(crate) fn watch(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut interest.event(token))?)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Returns the tokens of the descriptors that are ready now. The timer has none: it only wakes.
    pub(crate) fn ready(&self) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        Ok(events[..count].iter().map(EpollEvent::data).filter(|token| *token != TIMER).collect())
    }

    /// Makes the descriptor ready at `deadline`, until this is called with a later one.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if self.deadline == deadline {
            return Ok(());
        }
        match deadline {
            Some(deadline) => {
                // Zero would stop the timer.
                let left =
                    deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                self.timer
                    .set(Expiration::OneShot(TimeSpec::from(left)), TimerSetTimeFlags::empty())?;
            }
            None => self.timer.unset()?,
        }
        self.deadline = deadline;
        Ok(())
    }

    /// Waits until a descriptor is ready; returns `false` on a timeout or a signal.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        // Rounded up, so that a short timeout does not become a busy loop.
        let round_up = |time: Duration| time.saturating_add(Duration::from_micros(999));
        let timeout = timeout.map_or(PollTimeout::NONE, |time| {
            round_up(time).try_into().unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(count) => Ok(count != 0),
            Err(nix::Error::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Returns the time `after` from now, or a year from now when the clock cannot represent it.
pub(crate) fn deadline_in(after: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(after).unwrap_or_else(|| now + LONG)
}
