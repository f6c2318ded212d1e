//! What an interface is to be like.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::buffer_pool::BufferPool;
use crate::error::OptionsError;
use crate::format::mode::Mode;
use crate::format::secret::Secret;
use crate::format::{MAX_LOG2_RING_SIZE, MAX_QUEUES, MAX_REGIONS};
use crate::mechanism::layout::Layout;

/// Which side of the protocol an interface speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Listens on the socket, and uses the client's memory. Older texts say master.
    Server,
    /// Connects to the socket, and owns the memory. Older texts say slave.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// How a receive queue begins: whether the peer is asked for interrupts.
///
/// It can be changed at any time by [`RxQueue::set_mode`](crate::RxQueue::set_mode), and for one sleep by
/// [`arm`](crate::RxQueue::arm) and [`disarm`](crate::RxQueue::disarm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RxMode {
    /// The peer is told not to write the eventfd.
    Polling,
    /// The peer is asked to write the eventfd.
    Interrupt,
    /// The caller polls while there is traffic, and calls `arm` before it sleeps: begins as `Polling`.
    #[default]
    Adaptive,
}

impl fmt::Display for RxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::Interrupt => "interrupt",
            Self::Adaptive => "adaptive",
        })
    }
}

/// The mode of a queue, which its endpoint may ask for while the queue is on another thread.
#[derive(Debug)]
pub(crate) struct ModeCell(AtomicU8);

impl ModeCell {
    pub(crate) fn new(mode: RxMode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    pub(crate) fn set(&self, mode: RxMode) {
        // Relaxed here and below: it is told to people, and nothing depends on it.
        self.0.store(mode as u8, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> RxMode {
        let modes = [RxMode::Polling, RxMode::Interrupt, RxMode::Adaptive];
        let here = self.0.load(Ordering::Relaxed);
        modes.into_iter().find(|mode| *mode as u8 == here).unwrap_or_default()
    }
}

/// Options of one interface, either role. What makes no sense for a role is ignored there.
///
/// ```
/// use memif::{Mode, Options};
/// let options = Options::new(7).name("lan0").mode(Mode::Ethernet).log2_ring_size(11).secret("pass")?;
/// assert_eq!(options.id(), 7);
/// # Ok::<(), memif::OptionsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) id: u32,
    pub(crate) name: Option<String>,
    pub(crate) app_name: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) secret: Option<Secret>,
    pub(crate) log2_ring_size: u8,
    pub(crate) buffer_size: u32,
    pub(crate) headroom: u32,
    pub(crate) layout: Layout,
    pub(crate) memories: Vec<BufferPool>,
    pub(crate) rx_queues: Option<u8>,
    pub(crate) tx_queues: Option<u8>,
    pub(crate) rx_mode: RxMode,
    pub(crate) reconnect: Option<Duration>,
    pub(crate) connect_timeout: Duration,
}

impl Options {
    /// Options of the interface `id` on its socket: Ethernet, no secret, rings of 1,024, buffers of 2,048 bytes, one
    /// queue each way.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self {
            id,
            name: None,
            app_name: None,
            mode: Mode::default(),
            secret: None,
            log2_ring_size: 10,
            buffer_size: 2_048,
            headroom: 0,
            layout: Layout::default(),
            memories: Vec::new(),
            rx_queues: None,
            tx_queues: None,
            rx_mode: RxMode::default(),
            reconnect: Some(Duration::from_secs(1)),
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// The interface's name as shown to the peer, up to 31 bytes; by default `memif` and the id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The program's name as shown to the peer, up to 31 bytes. A server tells its clients the first of its interfaces'
    /// names, as HELLO comes before it is known which interface is meant.
    #[must_use]
    pub fn app_name(mut self, name: impl Into<String>) -> Self {
        self.app_name = Some(name.into());
        self
    }

    /// What the packets are; both sides must say the same.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The password both sides must have, 1 to 24 bytes. VPP matches no more than 23: with 24 a warning is logged.
    ///
    /// # Errors
    /// [`OptionsError::Secret`] when it is empty, longer, or holds a NUL byte.
    pub fn secret(mut self, secret: &str) -> Result<Self, OptionsError> {
        self.secret = Some(Secret::new(secret).ok_or(OptionsError::Secret { len: secret.len() })?);
        if secret.len() == crate::format::secret::SECRET_LEN {
            tracing::warn!(id = self.id, "a secret of 24 bytes never matches with VPP; use 23 or less");
        }
        Ok(self)
    }

    /// Client: ring size as a power of two, 1 to 14; the server may ask for less. Rings of 32 (5) and more suit every
    /// peer.
    #[must_use]
    pub fn log2_ring_size(mut self, log2: u8) -> Self {
        self.log2_ring_size = log2;
        self
    }

    /// Client: bytes in each buffer, 64 to 65,535. Longer packets are chained. For DPDK 22.11 as the server a buffer must
    /// hold the largest packet.
    #[must_use]
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Client: bytes left free in front of each packet that is received, so that headers can be put there without moving
    /// it ([`Buffer::prepend`](crate::Buffer::prepend)). At least 64 bytes of each buffer must remain.
    #[must_use]
    pub fn headroom(mut self, bytes: u32) -> Self {
        self.headroom = bytes;
        self
    }

    /// Client: whether rings and buffers are in one memory region or two.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Client: takes its buffers from `memory`, which other clients may use as well, instead of making its own; the
    /// [buffer size](Self::buffer_size) is the memory's then. Given several times, buffers come from the first memory that
    /// has some. Each ring takes as many as it has descriptors.
    #[must_use]
    pub fn memory(mut self, memory: &BufferPool) -> Self {
        self.memories.push(memory.clone());
        self
    }

    /// Queues to receive on, 1 to 255. Client: how many are wanted, by default 1. Server: how many a client may have, by
    /// default 255.
    #[must_use]
    pub fn rx_queues(mut self, queues: u8) -> Self {
        self.rx_queues = Some(queues);
        self
    }

    /// Queues to send on, 1 to 255. Client: how many are wanted, by default 1. Server: how many a client may have, by
    /// default 255.
    #[must_use]
    pub fn tx_queues(mut self, queues: u8) -> Self {
        self.tx_queues = Some(queues);
        self
    }

    /// How receive queues begin.
    #[must_use]
    pub fn rx_mode(mut self, mode: RxMode) -> Self {
        self.rx_mode = mode;
        self
    }

    /// Client: the pause between attempts to connect, by default 1 s; `None` makes one attempt only.
    #[must_use]
    pub fn reconnect(mut self, period: Option<Duration>) -> Self {
        self.reconnect = period;
        self
    }

    /// Client: how long a server may take from the connection until the link is up, by default 5 s. A server that is
    /// stopped or busy beyond that counts as one that refused.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The interface's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn interface_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("memif{}", self.id))
    }

    pub(crate) fn application(&self) -> &str {
        self.app_name.as_deref().unwrap_or(concat!("memif-rs ", env!("CARGO_PKG_VERSION")))
    }

    /// Queues in one direction: the number set, or the role's default.
    pub(crate) fn queues(set: Option<u8>, default: u16) -> u16 {
        set.map_or(default, u16::from)
    }

    /// Checks what the builder took unseen.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        if !(1..=MAX_LOG2_RING_SIZE).contains(&self.log2_ring_size) {
            return Err(OptionsError::RingSize(self.log2_ring_size));
        }
        if !(64..=65_535).contains(&self.buffer_size) {
            return Err(OptionsError::BufferSize(self.buffer_size));
        }
        if self.memories.len() >= usize::from(MAX_REGIONS) {
            return Err(OptionsError::Memories(self.memories.len()));
        }
        let given = self.memories.iter().map(BufferPool::buffer_size).min();
        let (headroom, buffer_size) = (self.headroom, given.unwrap_or(self.buffer_size));
        if headroom > buffer_size - 64 {
            return Err(OptionsError::Headroom { headroom, buffer_size });
        }
        for (direction, queues) in [("rx", self.rx_queues), ("tx", self.tx_queues)] {
            if !(1..=MAX_QUEUES).contains(&Self::queues(queues, 1)) {
                return Err(OptionsError::Queues { direction });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let check = |options: Options| options.check();
        assert_eq!(check(Options::new(0)), Ok(()));
        assert_eq!(check(Options::new(0).log2_ring_size(0)), Err(OptionsError::RingSize(0)));
        assert_eq!(check(Options::new(0).log2_ring_size(15)), Err(OptionsError::RingSize(15)));
        assert_eq!(check(Options::new(0).buffer_size(63)), Err(OptionsError::BufferSize(63)));
        assert_eq!(check(Options::new(0).buffer_size(65_536)), Err(OptionsError::BufferSize(65_536)));
        assert_eq!(check(Options::new(0).rx_queues(0)), Err(OptionsError::Queues { direction: "rx" }));
        assert_eq!(check(Options::new(0).tx_queues(0)), Err(OptionsError::Queues { direction: "tx" }));
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        assert!(Options::new(0).secret("").is_err());
        assert!(Options::new(0).secret("0123456789012345678901234").is_err());
        let options = Options::new(0).secret("hunter2").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
