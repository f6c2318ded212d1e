//! A link as a device of smoltcp, so that an IP stack in this process can be a host behind memif:
//! on Ethernet, or on IP alone where both sides are in [`Mode::Ip`]. (Feature
//! `smoltcp`.)
//!
//! smoltcp asks for frames one by one. [`Phy`] reads them in bursts, and collects the frames to
//! send: [`Phy::flush`], to be called after each poll of the stack, publishes them together with
//! one wake-up.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use memif::{Client, ClientOptions, Event, phy::Phy};
//! use smoltcp::iface::{Config, Interface as Stack, SocketSet};
//! use smoltcp::time::Instant;
//! use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
//!
//! let mut client = Client::new(&"/run/vpp/memif.sock".parse()?, ClientOptions::new(0))?;
//! let link = loop {
//!     if let Some(Event::Connected { link, .. }) = client.wait(None)? {
//!         break link;
//!     }
//! };
//! let mut phy = Phy::new(link);
//! let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
//! let mut stack = Stack::new(Config::new(mac.into()), &mut phy, Instant::now());
//! stack.update_ip_addrs(|addresses| {
//!     let _ = addresses.push(IpCidr::new(Ipv4Address::new(10, 0, 0, 1).into(), 24));
//! });
//! let mut sockets = SocketSet::new(vec![]);
//! loop {
//!     stack.poll(Instant::now(), &mut phy, &mut sockets);
//!     phy.flush()?;
//!     std::thread::sleep(Duration::from_millis(1));
//! }
//! # #[expect(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use smoltcp::phy::{Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::link::Link;
use super::tx::TxQueue;
use crate::error::LinkError;
use crate::format::Mode;

/// Bytes of the longest IP packet.
const MTU: usize = 1_500;
/// Bytes of the longest Ethernet frame, without its check sequence.
const MAX_FRAME: usize = MTU + 14;
/// Frames read, and frames collected, at a time.
const BURST: usize = 64;

/// A link as a smoltcp [`Device`]: for Ethernet frames where the link's mode is [`Mode::Ethernet`],
/// else for IP packets. It allocates only in [`new`](Self::new).
///
/// It reads all queues of the link in turn and sends on the first. It skips received frames over
/// 1,514 bytes and packets over 1,500 bytes.
#[derive(Debug)]
pub struct Phy {
    link: Link,
    received: Frames,
    /// Frames of `received` that the stack has taken.
    taken: usize,
    /// The queue to read next.
    queue: usize,
    outbox: Outbox,
}

/// Frames to send.
#[derive(Debug)]
struct Outbox {
    frames: Frames,
    dropped: u64,
    /// The link's error, which the next flush returns.
    error: Option<LinkError>,
}

impl Phy {
    /// Makes a device of a link.
    #[must_use]
    pub fn new(link: Link) -> Self {
        let outbox = Outbox { frames: Frames::new(), dropped: 0, error: None };
        Self { link, received: Frames::new(), taken: 0, queue: 0, outbox }
    }

    /// Returns the link.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Returns the link, to arm and poll its queues. The stack does not see frames that the caller
    /// receives from them.
    #[must_use]
    pub fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Returns whether frames wait for the stack: then do not sleep.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.taken < self.received.filled
    }

    /// Reads frames if the stack has taken all that were read; returns whether there are any for it
    /// now, or an error of the link for the next [`flush`](Self::flush).
    pub fn receive_ahead(&mut self) -> bool {
        if !self.has_received() {
            self.read();
        }
        self.has_received() || self.outbox.error.is_some()
    }

    /// Returns how many of the stack's frames found the ring full and were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped
    }

    /// Publishes the frames that the stack has sent since the last flush. Frames that find the ring
    /// full are dropped and counted, as on any Ethernet.
    ///
    /// # Errors
    /// [`LinkError`] when the link went down, or the peer broke the protocol, in this call or since
    /// the last.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        self.outbox.publish(&mut self.link.tx);
        self.outbox.error.take().map_or(Ok(()), Err)
    }

    /// Reads a burst from the next queue that has packets.
    fn read(&mut self) {
        self.taken = 0;
        self.received.filled = 0;
        let longest = longest(self.link.mode);
        let queues = self.link.rx.len();
        for _ in 0..queues {
            let queue = self.queue % queues;
            self.queue = queue + 1;
            match self.link.rx[queue].burst(BURST) {
                Ok(burst) => {
                    for packet in burst.iter().filter(|packet| packet.len() <= longest) {
                        self.received.push(packet.len(), |bytes| packet.copy_to(bytes));
                    }
                }
                Err(error) => {
                    self.outbox.error.get_or_insert(error);
                }
            }
            if self.received.filled > 0 {
                return;
            }
        }
    }
}

/// Returns the bytes of the longest packet on a link.
fn longest(mode: Mode) -> usize {
    match mode {
        Mode::Ethernet => MAX_FRAME,
        Mode::Ip | Mode::PuntInject => MTU,
    }
}

impl Outbox {
    fn publish(&mut self, queues: &mut [TxQueue]) {
        let filled = std::mem::take(&mut self.frames.filled);
        if filled == 0 {
            return;
        }
        let published = match queues.first_mut().ok_or(LinkError::Down).and_then(TxQueue::burst) {
            Ok(mut burst) => {
                for frame in &self.frames.frames[..filled] {
                    if !burst.push(frame.bytes()) {
                        break;
                    }
                }
                burst.publish()
            }
            Err(error) => {
                self.error.get_or_insert(error);
                0
            }
        };
        self.dropped += (filled - published) as u64;
    }
}

/// Frames between the queues and the stack.
struct Frames {
    frames: Box<[Frame]>,
    filled: usize,
}

#[derive(Clone)]
struct Frame {
    bytes: [u8; MAX_FRAME],
    len: usize,
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Frames {
    fn new() -> Self {
        Self {
            frames: vec![Frame { bytes: [0; MAX_FRAME], len: 0 }; BURST].into_boxed_slice(),
            filled: 0,
        }
    }

    /// Appends a frame of at most [`MAX_FRAME`] bytes, which `write` writes; there must be room.
    fn push<R>(&mut self, len: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let frame = &mut self.frames[self.filled];
        frame.len = len;
        self.filled += 1;
        write(&mut frame.bytes[..len])
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Device for Phy {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _timestamp: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        self.receive_ahead();
        let frame = self.received.frames[..self.received.filled].get(self.taken)?;
        self.taken += 1;
        Some((
            RxToken(frame.bytes()),
            TxToken { outbox: &mut self.outbox, queues: &mut self.link.tx },
        ))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<TxToken<'_>> {
        Some(TxToken { outbox: &mut self.outbox, queues: &mut self.link.tx })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = match self.link.mode {
            Mode::Ethernet => Medium::Ethernet,
            Mode::Ip | Mode::PuntInject => Medium::Ip,
        };
        capabilities.max_transmission_unit = longest(self.link.mode);
        capabilities
    }
}

/// A received frame, for the stack.
#[derive(Debug)]
pub struct RxToken<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame that the stack sends.
#[derive(Debug)]
pub struct TxToken<'a> {
    outbox: &'a mut Outbox,
    queues: &'a mut [TxQueue],
}

impl smoltcp::phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        if self.outbox.frames.filled == BURST {
            self.outbox.publish(self.queues);
        }
        self.outbox.frames.push(len, write)
    }
}
