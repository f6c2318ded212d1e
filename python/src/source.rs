//! What frames are received from, and how a thread waits for them.
//!
//! A thread that waits holds neither the interpreter nor the source: others may send, receive or
//! close meanwhile. It sleeps for a tenth of a second at most. Then it looks for a `^C`, and whether
//! the source was closed.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pyo3::{PyErr, PyResult, Python};

use crate::error::system_error;
use crate::frames::Received;
use crate::owned::Owned;
use crate::time::Deadline;

/// How often a call reads a bus. A read ends where the ring ended at an earlier look, so the second
/// finds what came since then.
pub(crate) const READS: usize = 2;

/// A station, a tap or a memif link.
pub(crate) trait Source: Send {
    /// Receives what there is, at most `max` frames, without waiting.
    fn receive(&mut self, received: &mut Received, max: usize) -> PyResult<()>;

    /// Prepares for a sleep on the descriptor. Returns `true` when there may be something to receive
    /// already.
    fn arm(&mut self) -> PyResult<bool>;

    /// Ends a sleep. The descriptor is not readable afterwards.
    fn disarm(&mut self);

    /// The longest sleep from now on, although the descriptor is not readable.
    fn sleep_limit(&self) -> Duration;

    /// The descriptor to poll for reading while armed. It stays the same.
    fn descriptor(&self) -> &Arc<OwnedFd>;
}

/// An owned source of any kind. The methods are for threads that are detached from the interpreter.
pub(crate) trait AnySource: Send + Sync {
    /// Receives what there is. If there is nothing, sleeps once, until there may be something or the
    /// deadline.
    fn receive_or_sleep(
        &self,
        received: &mut Received,
        max: usize,
        deadline: Deadline,
    ) -> PyResult<()>;
    /// As [`Source::arm`].
    fn arm(&self) -> PyResult<bool>;
    /// As [`Source::disarm`].
    fn disarm(&self) -> PyResult<()>;
    /// As [`Source::sleep_limit`].
    fn sleep_limit(&self) -> PyResult<Duration>;
    /// The number of [`Source::descriptor`].
    fn fileno(&self) -> PyResult<RawFd>;
    /// As [`Owned::is_open`].
    fn is_open(&self) -> bool;
    /// As [`Owned::close`].
    fn close(&self);
}

impl<S: Source> AnySource for Owned<S> {
    fn receive_or_sleep(
        &self,
        received: &mut Received,
        max: usize,
        deadline: Deadline,
    ) -> PyResult<()> {
        let asleep = self.act(|source| {
            source.receive(received, max)?;
            let is_done = received.len() > 0 || deadline.is_over() || source.arm()?;
            Ok((!is_done).then(|| (Arc::clone(source.descriptor()), source.sleep_limit())))
        })?;
        let Some((descriptor, limit)) = asleep else { return Ok(()) };
        let slept = sleep(&descriptor, deadline.left(limit));
        self.act(|source| {
            source.disarm();
            Ok(())
        })?;
        slept
    }

    fn arm(&self) -> PyResult<bool> {
        self.act(Source::arm)
    }

    fn disarm(&self) -> PyResult<()> {
        self.act(|source| {
            source.disarm();
            Ok(())
        })
    }

    fn sleep_limit(&self) -> PyResult<Duration> {
        self.act(|source| Ok(source.sleep_limit()))
    }

    fn fileno(&self) -> PyResult<RawFd> {
        self.act(|source| Ok(source.descriptor().as_raw_fd()))
    }

    fn is_open(&self) -> bool {
        Owned::is_open(self)
    }

    fn close(&self) {
        Owned::close(self);
    }
}

/// Receives at least one frame, unless the deadline comes first. While it waits, other threads of
/// Python run, and a `^C` ends it.
pub(crate) fn receive(
    py: Python<'_>,
    source: &dyn AnySource,
    received: &mut Received,
    max: usize,
    deadline: Deadline,
) -> PyResult<()> {
    received.clear();
    loop {
        // The deadline first: what came before it is received.
        let is_over = deadline.is_over();
        py.detach(|| source.receive_or_sleep(received, max, deadline))?;
        if received.len() > 0 || is_over {
            return Ok(());
        }
        py.check_signals()?;
    }
}

/// Sleeps until the descriptor is readable or a signal comes, for `time` at most.
pub(crate) fn sleep(descriptor: &OwnedFd, time: Duration) -> PyResult<()> {
    let mut watched = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    // Rounded up, so that the last millisecond is slept through and not spun through.
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(errno) => Err(poll_error(errno)),
    }
}

fn poll_error(errno: nix::Error) -> PyErr {
    system_error(&errno.into(), format!("cannot wait for frames: {}", errno.desc()))
}
