//! The options of a client.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::InterfaceConfig;
use crate::error::OptionsError;
use crate::face::buffer_pool::BufferPool;
use crate::face::rx_mode::RxMode;
use crate::format::{MAX_LOG2_RING_SIZE, MAX_REGIONS, Mode};
use crate::mechanism::layout::Layout;

/// Options of a [`Client`](crate::Client).
///
/// ```
/// use memif::{ClientOptions, Mode};
/// let options = ClientOptions::new(7).name("lan0").mode(Mode::Ethernet).log2_ring_size(11).secret("pass")?;
/// assert_eq!(options.id(), 7);
/// # Ok::<(), memif::OptionsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub(crate) interface: InterfaceConfig,
    pub(crate) log2_ring_size: u8,
    pub(crate) buffer_size: u32,
    pub(crate) headroom: u32,
    pub(crate) layout: Layout,
    pub(crate) buffer_pools: Vec<BufferPool>,
    pub(crate) buffer_files: Option<FileSource>,
    pub(crate) manual: bool,
    pub(crate) reconnect: Option<Duration>,
    pub(crate) connect_timeout: Duration,
}

impl ClientOptions {
    /// Returns the options to connect to interface `id` of a server: Ethernet, no secret, rings of
    /// 1,024 descriptors, buffers of 2,048 bytes, one queue each way.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self {
            interface: InterfaceConfig::new(id, 1),
            log2_ring_size: 10,
            buffer_size: 2_048,
            headroom: 0,
            layout: Layout::default(),
            buffer_pools: Vec::new(),
            buffer_files: None,
            manual: false,
            reconnect: Some(Duration::from_secs(1)),
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// Sets the interface's name as shown to the peer, up to 31 bytes; by default `memif` and the
    /// id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.interface.name = Some(name.into());
        self
    }

    /// Sets the program's name as shown to the server, up to 31 bytes.
    #[must_use]
    pub fn app_name(mut self, name: impl Into<String>) -> Self {
        self.interface.app_name = Some(name.into());
        self
    }

    /// Sets what the packets are, by default Ethernet frames; both sides must agree.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.interface.mode = mode;
        self
    }

    /// Sets the password that both sides must have, 1 to 24 bytes. libmemif and VPP's client use at
    /// most 23 of them: with 24 a warning is logged.
    ///
    /// # Errors
    /// [`OptionsError::Secret`] when it is empty, longer, or holds a NUL byte.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Result<Self, OptionsError> {
        self.interface.set_secret(secret.as_ref())?;
        Ok(self)
    }

    /// Sets how many queues to receive on to ask for, 1 to 255, by default 1; the server may allow
    /// fewer.
    #[must_use]
    pub fn rx_queues(mut self, queues: u8) -> Self {
        self.interface.rx_queues = queues;
        self
    }

    /// Sets how many queues to send on to ask for, 1 to 255, by default 1; the server may allow
    /// fewer.
    #[must_use]
    pub fn tx_queues(mut self, queues: u8) -> Self {
        self.interface.tx_queues = queues;
        self
    }

    /// Sets how receive queues start, by default [`RxMode::Adaptive`].
    #[must_use]
    pub fn rx_mode(mut self, mode: RxMode) -> Self {
        self.interface.rx_mode = mode;
        self
    }

    /// Sets the ring size as a power of two, 1 to 14, by default 10; the server may allow less.
    /// Rings of 32 (5) and more suit every peer.
    #[must_use]
    pub fn log2_ring_size(mut self, log2: u8) -> Self {
        self.log2_ring_size = log2;
        self
    }

    /// Sets the bytes in each buffer, 64 to 65,535, by default 2,048. Longer packets are chained.
    /// For DPDK 22.11 as the server a buffer must hold the largest packet.
    #[must_use]
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Sets the bytes left free in front of each received packet, by default 0, so that headers can
    /// be put there without moving it ([`Buffer::prepend`](crate::Buffer::prepend)). At least 64
    /// bytes of each buffer must remain.
    #[must_use]
    pub fn headroom(mut self, bytes: u32) -> Self {
        self.headroom = bytes;
        self
    }

    /// Sets whether rings and buffers share one memory region, as by default, or have one each.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Takes the buffers from `pool`, which other clients may use as well, instead of making new
    /// ones; the pool then decides the [buffer size](Self::buffer_size). Each ring takes as many
    /// buffers as it has descriptors. Called several times, it adds pools: buffers come from the
    /// first one that has some.
    #[must_use]
    pub fn buffer_pool(mut self, pool: &BufferPool) -> Self {
        self.buffer_pools.push(pool.clone());
        self
    }

    /// Takes the memory of the buffers from the caller instead of making it: each connection calls
    /// `files` with the number of bytes it needs, for a file that holds at least as many. That is
    /// a memfd, or a file on tmpfs or hugetlbfs, and is not shared with another connection. Buffers
    /// lie back to back from its beginning, S2M rings first, then M2S rings, each by index. They are
    /// region 1.
    #[must_use]
    pub fn buffer_files(
        mut self,
        files: impl Fn(u64) -> io::Result<OwnedFd> + Send + Sync + 'static,
    ) -> Self {
        self.buffer_files = Some(FileSource(Arc::new(files)));
        self
    }

    /// Sets whether the receive queues start without buffers for the server to fill, by default
    /// `false`. Then only [`ManualRx::refill`](crate::ManualRx::refill) offers some: the queues are
    /// of use as [manual](crate::RxQueue::manual) ones.
    #[must_use]
    pub fn manual_refill(mut self, manual: bool) -> Self {
        self.manual = manual;
        self
    }

    /// Sets the pause between attempts to connect, by default 1 s; with `None` there is only one
    /// attempt.
    #[must_use]
    pub fn reconnect(mut self, period: Option<Duration>) -> Self {
        self.reconnect = period;
        self
    }

    /// Sets how long a server may take from the connection until the link is up, by default 5 s. A
    /// server that is stopped or busy for longer counts as one that rejected the client.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Returns the interface's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.interface.id
    }

    /// Checks the ranges that the builder does not.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        self.interface.check()?;
        if !(1..=MAX_LOG2_RING_SIZE).contains(&self.log2_ring_size) {
            return Err(OptionsError::RingSize(self.log2_ring_size));
        }
        if !(64..=65_535).contains(&self.buffer_size) {
            return Err(OptionsError::BufferSize(self.buffer_size));
        }
        if self.buffer_pools.len() >= usize::from(MAX_REGIONS) {
            return Err(OptionsError::BufferPools(self.buffer_pools.len()));
        }
        let smallest = self.buffer_pools.iter().map(BufferPool::buffer_size).min();
        let (headroom, buffer_size) = (self.headroom, smallest.unwrap_or(self.buffer_size));
        if headroom > buffer_size - 64 {
            return Err(OptionsError::Headroom { headroom, buffer_size });
        }
        Ok(())
    }
}

/// Makes the memory of buffers: see [`ClientOptions::buffer_files`].
#[derive(Clone)]
pub(crate) struct FileSource(Arc<dyn Fn(u64) -> io::Result<OwnedFd> + Send + Sync>);

impl FileSource {
    pub(crate) fn file(&self, bytes: u64) -> io::Result<OwnedFd> {
        (self.0)(bytes)
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileSource(..)")
    }
}
