//! Waiting in tokio for frames. (Feature `tokio`.)
//!
//! A station or tap in a task waits without a thread of its own: for its wait set's descriptor, and
//! for no longer than [`MAX_SLEEP`](crate::MAX_SLEEP), since a sender may die before it wakes
//! others.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("bus");
//! use shmbus::tokio::Async;
//! use shmbus::{Burst, Bus, Station, StationOptions};
//!
//! let mut alice = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
//! let mut bob = Async::new(Station::join(Bus::open(&path)?, StationOptions::new())?)?;
//!
//! let receiving = tokio::spawn(async move {
//!     let mut burst = Burst::new(32);
//!     bob.recv_burst(&mut burst).await
//! });
//! tokio::task::yield_now().await;
//! alice.send(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello")?;
//! assert_eq!(receiving.await??, 1);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};

use crate::error::WaitError;
use crate::face::burst::Burst;
use crate::face::station::Station;
use crate::face::tap::Tap;
use crate::system::wake::wait_set::WaitSet;

/// A [`Station`] or a [`Tap`] whose frames are awaited in a tokio runtime with I/O and time.
///
/// Its futures may be dropped at any moment: no frame is lost. Sending needs no await: use
/// [`get_mut`](Self::get_mut). A send never waits for a receiver, and for the lock some
/// microseconds; should another process be stopped with the lock, a send blocks the thread for at
/// most the station's [lock timeout](crate::StationOptions::lock_timeout).
#[derive(Debug)]
pub struct Async<T> {
    inner: T,
    sleep: Sleep,
}

/// Where a station or tap sleeps: a wait set of its own, registered with the runtime.
#[derive(Debug)]
struct Sleep {
    wait_set: WaitSet,
    /// Another descriptor of what the wait set polls, if there is one.
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Sleep {
    fn new() -> io::Result<Self> {
        let wait_set = WaitSet::new();
        let fd = wait_set.poll_fd().map(|fd| register(fd.try_clone_to_owned()?)).transpose()?;
        Ok(Self { wait_set, fd })
    }

    /// Sleeps until the bus was written to or the time to look has come.
    async fn once(&mut self) {
        // Rounded up to what the runtime's timer can sleep.
        let time = self.wait_set.timeout().max(Duration::from_millis(1));
        match &mut self.fd {
            Some(fd) => {
                // Woken, too late, or failing: in all cases the caller looks again.
                if let Ok(Ok(mut guard)) = timeout(time, fd.readable_mut()).await {
                    // Cleared before the events are taken: an event that comes after that makes it
                    // ready again.
                    guard.clear_ready();
                }
            }
            None => sleep(time).await,
        }
        // There is one member, and the caller looks at it.
        let _ = self.wait_set.ready();
    }
}

#[allow(
    deprecated,
    reason = "an owned descriptor stays the same and open; what replaces this is unsafe"
)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// What frames are awaited from: a [`Station`], a [`Tap`], or a type that stands for one.
pub trait Receiver {
    /// As [`Station::join_wait_set`].
    fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize);

    /// As [`Station::arm`].
    ///
    /// # Errors
    /// When the bus is gone.
    fn arm(&mut self) -> Result<bool, WaitError>;

    /// As [`Station::disarm`].
    fn disarm(&mut self);

    /// As [`Station::recv_burst`].
    fn recv_burst(&mut self, burst: &mut Burst) -> usize;
}

impl Receiver for Station {
    fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize) {
        Self::join_wait_set(self, wait_set, token);
    }

    fn arm(&mut self) -> Result<bool, WaitError> {
        Self::arm(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }

    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        Self::recv_burst(self, burst)
    }
}

impl Receiver for Tap {
    fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize) {
        Self::join_wait_set(self, wait_set, token);
    }

    fn arm(&mut self) -> Result<bool, WaitError> {
        Self::arm(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }

    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        Self::recv_burst(self, burst)
    }
}

/// Disarms when the sleep is over, also when its future is dropped: a watch that stays makes every
/// send dearer.
struct Disarm<'t, T: Receiver>(&'t mut T);

impl<T: Receiver> Drop for Disarm<'_, T> {
    fn drop(&mut self) {
        self.0.disarm();
    }
}

impl<T: Receiver> Async<T> {
    /// Registers a station or tap with the runtime this is called in. It gets a [`WaitSet`] of its
    /// own.
    ///
    /// # Errors
    /// When the runtime's own descriptors fail.
    ///
    /// # Panics
    /// Outside of a runtime with I/O enabled.
    pub fn new(mut inner: T) -> io::Result<Self> {
        let sleep = Sleep::new()?;
        inner.join_wait_set(&sleep.wait_set, 0);
        Ok(Self { inner, sleep })
    }

    /// Waits until there is something to read. It need not be for this station.
    ///
    /// # Errors
    /// When the bus is gone.
    pub async fn readable(&mut self) -> Result<(), WaitError> {
        // A bus that is always busy must not keep the other tasks of this thread from running.
        consume_budget().await;
        while !self.inner.arm()? {
            let armed = Disarm(&mut self.inner);
            self.sleep.once().await;
            drop(armed);
        }
        Ok(())
    }

    /// Waits for frames for this station and fills `burst` with them; returns how many, at least
    /// one.
    ///
    /// # Errors
    /// When the bus is gone.
    pub async fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, WaitError> {
        loop {
            self.readable().await?;
            let received = self.inner.recv_burst(burst);
            if received > 0 {
                return Ok(received);
            }
        }
    }

    /// Returns the station or tap, to send, to receive without waiting, or to change.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
