//! Where a port gets its connection from the thread that accepts or makes it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::connection::Wire;
use crate::report_once::ReportOnce;
use crate::reporter::Reporter;
use crate::wake_fd::WakeFd;

/// The place of one port. A thread puts a connection here, and the port takes it.
#[derive(Debug)]
pub(super) struct Mailbox {
    name: String,
    reporter: Reporter,
    reported: Mutex<ReportOnce>,
    offered: Mutex<Option<Wire>>,
    has_offer: AtomicBool,
    /// Whether the port has a connection, or one is offered.
    taken: AtomicBool,
    /// How many clients were turned away because there was no free port.
    refusals: AtomicU64,
    /// Wakes the port.
    wake_fd: WakeFd,
    /// Wakes the thread, when the port has no connection any more.
    pub(super) freed: WakeFd,
}

impl Mailbox {
    /// Makes a mailbox for the port `name`.
    pub(super) fn new(name: String, reporter: Reporter) -> std::io::Result<Self> {
        Ok(Self {
            name,
            reporter,
            reported: Mutex::default(),
            offered: Mutex::default(),
            has_offer: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
            wake_fd: WakeFd::new()?,
            freed: WakeFd::new()?,
        })
    }

    pub(super) fn wake_fd(&self) -> &WakeFd {
        &self.wake_fd
    }

    /// Returns whether the port needs a connection.
    pub(super) fn is_free(&self) -> bool {
        // Acquire: see `free`.
        !self.taken.load(Ordering::Acquire)
    }

    /// Offers a connection to the port. Only one thread offers.
    pub(super) fn offer(&self, wire: Wire) {
        self.taken.store(true, Ordering::Relaxed);
        *lock(&self.offered) = Some(wire);
        // Release, with the Acquire in `has_offer`: the wire is there when the flag is seen.
        self.has_offer.store(true, Ordering::Release);
        self.wake_fd.wake();
    }

    /// Returns whether there is news: a connection is offered, or a client was turned away.
    #[inline]
    pub(super) fn has_offer(&self) -> bool {
        // Acquire: see `offer`.
        self.has_offer.load(Ordering::Acquire)
    }

    /// Takes the connection that is offered, if there is one.
    pub(super) fn take(&self) -> Option<Wire> {
        // In this order: an offer in between makes the port look once more.
        self.has_offer.store(false, Ordering::Relaxed);
        self.wake_fd.drain();
        lock(&self.offered).take()
    }

    /// Notes that the port has no connection any more.
    pub(super) fn free(&self) {
        // Release, with the Acquire in `is_free`: the port has closed its connection before.
        self.taken.store(false, Ordering::Release);
        self.freed.wake();
    }

    /// Counts a client that was turned away, and wakes the port, which publishes the count.
    pub(super) fn count_refusal(&self) {
        // Relaxed, here and in `refusals`: the count orders nothing.
        self.refusals.fetch_add(1, Ordering::Relaxed);
        self.has_offer.store(true, Ordering::Release);
        self.wake_fd.wake();
    }

    /// Returns how many clients were turned away.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Reports trouble with the connection, each kind once until the next
    /// [`clear_reports`](Self::clear_reports).
    pub(super) fn report(&self, reason: &dyn std::error::Error) {
        lock(&self.reported).report(&self.name, reason, &mut |line| self.reporter.note(&line));
    }

    /// Forgets what was reported: the trouble is over.
    pub(super) fn clear_reports(&self) {
        lock(&self.reported).clear();
    }
}

/// Locks a mutex. What it guards is whole after every statement, so a panic of another thread does
/// no harm.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_is_taken_once() {
        let mailbox = Mailbox::new("socket x".to_owned(), Reporter::default()).unwrap();
        assert!(mailbox.is_free() && !mailbox.has_offer());
        let (end, _other) = UnixStream::pair().unwrap();
        mailbox.offer(Wire::connected(end.into()));
        assert!(!mailbox.is_free() && mailbox.has_offer());
        assert!(mailbox.take().is_some());
        assert!(!mailbox.is_free() && !mailbox.has_offer());
        assert!(mailbox.take().is_none());
        mailbox.free();
        assert!(mailbox.is_free());
    }
}
