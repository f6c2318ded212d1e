//! Events and packets as futures of the tokio runtime. (Feature `tokio`.)
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use memif::tokio::Async;
//! use memif::{Client, ClientOptions, Event};
//!
//! let client = Client::new(&"/run/vpp/memif.sock".parse()?, ClientOptions::new(0))?;
//! let mut client = Async::new(client)?;
//! if let Event::Connected { mut link, .. } = client.event().await? {
//!     let mut queue = Async::new(link.rx.remove(0))?;
//!     loop {
//!         queue.packets().await?;
//!         for packet in &queue.get_mut().burst(64)? {
//!             println!("{} bytes", packet.len());
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::client::Client;
use super::event_loop::Event;
use super::rx::RxQueue;
use super::server::Server;
use crate::error::{Error, LinkError};
use crate::system::scm_rights;

/// How long a receiver sleeps before it checks the ring once more: libmemif and DPDK may miss that it
/// wants an interrupt when they publish just then. It is far longer than their stores take to arrive,
/// so what comes later finds the request.
const FIRST_SLEEP: Duration = Duration::from_millis(10);
/// How long it sleeps at a time after that.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// A [`Server`], a [`Client`] or an [`RxQueue`] in a tokio runtime, which must have I/O and time
/// enabled.
#[derive(Debug)]
pub struct Async<T> {
    inner: T,
    /// A duplicate of the descriptor, which stays registered whatever the caller does with `inner`.
    fd: AsyncFd<OwnedFd>,
}

impl<T: AsFd> Async<T> {
    /// Registers `inner` with the current runtime.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated or registered.
    ///
    /// # Panics
    /// Outside of a runtime with I/O enabled.
    pub fn new(inner: T) -> io::Result<Self> {
        let fd = scm_rights::register(inner.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inner, fd })
    }

    /// Waits until there may be new work. With `more`, there is work already: then it only yields
    /// to other tasks.
    async fn wait(&mut self, more: bool) -> Result<(), Error> {
        // The runtime sees changes only, and work that is left over is no change.
        if more {
            tokio::task::yield_now().await;
            return Ok(());
        }
        // Cleared before the next check: what comes after that makes it ready again.
        self.fd.readable_mut().await.map_err(Error::at("readable"))?.clear_ready();
        Ok(())
    }

    /// Returns the wrapped value.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Deregisters the wrapped value and returns it.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl Async<Server> {
    /// Waits for the next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Server::ready`].
    pub async fn event(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.get_mut().ready()? {
                return Ok(event);
            }
            self.wait(self.inner.has_work()?).await?;
        }
    }
}

impl Async<Client> {
    /// Waits for the next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Client::ready`].
    pub async fn event(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.get_mut().ready()? {
                return Ok(event);
            }
            self.wait(self.inner.has_work()?).await?;
        }
    }
}

impl Async<RxQueue> {
    /// Waits until packets have come. The peer writes the eventfd only while this waits.
    ///
    /// # Errors
    /// As [`RxQueue::arm`].
    pub async fn packets(&mut self) -> Result<(), LinkError> {
        let mut sleep = FIRST_SLEEP;
        // Woken, timed out or failed: the loop checks the ring again in all cases.
        while !self.get_mut().arm()? {
            match timeout(sleep, self.fd.readable_mut()).await {
                // It stays armed.
                Err(_elapsed) => sleep = MAX_SLEEP,
                Ok(woken) => {
                    if let Ok(mut guard) = woken {
                        guard.clear_ready();
                    }
                    self.get_mut().disarm();
                    sleep = FIRST_SLEEP;
                }
            }
        }
        self.get_mut().disarm();
        Ok(())
    }
}
