//! Waiting in tokio, for events and for packets.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use memif::tokio::Async;
//! use memif::{Client, Event, Options};
//!
//! let client = Client::new(&"/run/vpp/memif.sock".parse()?, Options::new(0))?;
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
use super::event::Event;
use super::rx::RxQueue;
use super::server::Server;
use crate::error::{Error, LinkError};
use crate::system::scm_rights;

/// libmemif and DPDK may miss that an interrupt is wanted: after so long a receiver looks by itself.
const SLEEP_BOUND: Duration = Duration::from_millis(10);

/// A [`Server`], a [`Client`] or an [`RxQueue`] whose readiness is awaited in a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct Async<T> {
    inner: T,
    /// Another descriptor of the same file, which stays registered whatever the caller does with `inner`.
    fd: AsyncFd<OwnedFd>,
}

impl<T: AsFd> Async<T> {
    /// Registers with the runtime this is called in.
    ///
    /// # Errors
    /// When the runtime's own descriptors fail.
    ///
    /// # Panics
    /// Outside of a runtime with I/O enabled.
    pub fn new(inner: T) -> io::Result<Self> {
        let fd = scm_rights::register(inner.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inner, fd })
    }

    /// Waits until there may be something new to do; `more`: there is already, and others only have a turn.
    async fn change(&mut self, more: bool) -> Result<(), Error> {
        // The runtime hears of changes alone: what is there already changes nothing any more.
        if more {
            tokio::task::yield_now().await;
            return Ok(());
        }
        // Cleared before the next look: what comes after it makes it ready again.
        self.fd.readable_mut().await.map_err(Error::at("readable"))?.clear_ready();
        Ok(())
    }

    /// What is inside.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Takes it out of the runtime.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl Async<Server> {
    /// The next event. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// As [`Server::ready`].
    pub async fn event(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.get_mut().ready()? {
                return Ok(event);
            }
            self.change(self.inner.has_work()?).await?;
        }
    }
}

impl Async<Client> {
    /// The next event. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// As [`Client::ready`].
    pub async fn event(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.get_mut().ready()? {
                return Ok(event);
            }
            self.change(self.inner.has_work()?).await?;
        }
    }
}

impl Async<RxQueue> {
    /// Returns when packets are there. Until then the peer is asked for interrupts, and afterwards not.
    ///
    /// # Errors
    /// As [`RxQueue::arm`].
    pub async fn packets(&mut self) -> Result<(), LinkError> {
        while !self.get_mut().arm()? {
            // Woken, too late, or failing: it looks again in all cases.
            if let Ok(Ok(mut guard)) = timeout(SLEEP_BOUND, self.fd.readable_mut()).await {
                guard.clear_ready();
            }
            self.get_mut().disarm();
        }
        self.get_mut().disarm();
        Ok(())
    }
}
