//! A link as a device of smoltcp, so that an IP stack in a library can be a host behind memif: on Ethernet, or on IP alone
//! where both sides are in [`Mode::Ip`](crate::Mode::Ip). (Feature `smoltcp`.)
//!
//! smoltcp asks for frames one by one; underneath they are read in bursts, and what the stack has to say is collected and
//! published together, with one wake-up: that is [`Phy::flush`], to be called after each poll of the stack.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use memif::{Client, Event, Options, phy::Phy};
//! use smoltcp::iface::{Config, Interface as Stack, SocketSet};
//! use smoltcp::time::Instant;
//! use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
//!
//! let mut client = Client::new(&"/run/vpp/memif.sock".parse()?, Options::new(0))?;
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
use crate::format::mode::Mode;

/// Bytes of the longest IP packet.
const MTU: usize = 1_500;
/// Bytes of the longest frame, without check sequence.
const MAX_FRAME: usize = MTU + 14;
/// Frames read, and frames collected, at a time.
const BURST: usize = 64;

/// A link as a smoltcp [`Device`]: for frames where the link's mode is [`Mode::Ethernet`], else for IP packets. Nothing is
/// allocated after it was made.
///
/// It reads all queues of the link in turn and sends on the first. Frames over 1,514 bytes and packets over 1,500 are passed
/// over.
#[derive(Debug)]
pub struct Phy {
    link: Link,
    received: Frames,
    /// Frames of `received` that the stack has had.
    taken: usize,
    /// Where to read next.
    queue: usize,
    out: Outbox,
}

/// Frames on their way to the peer.
#[derive(Debug)]
struct Outbox {
    frames: Frames,
    dropped: u64,
    /// Why the link is no good any more, to be told by the next flush.
    trouble: Option<LinkError>,
}

impl Phy {
    /// A device that is this link.
    #[must_use]
    pub fn new(link: Link) -> Self {
        let out = Outbox { frames: Frames::new(), dropped: 0, trouble: None };
        Self { link, received: Frames::new(), taken: 0, queue: 0, out }
    }

    /// The link.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The link, for its queues to be armed and polled. Frames received through this are kept from the stack.
    #[must_use]
    pub fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Whether frames were read that the stack has not had yet: then it is no time to sleep.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.taken < self.received.filled
    }

    /// Frames of the stack that found the ring full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.out.dropped
    }

    /// Publishes what the stack has had to say since the last flush. What finds the ring full is dropped and counted, as on
    /// any Ethernet.
    ///
    /// # Errors
    /// When the link is down, or the peer broke the protocol: in this call or since the last.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        self.out.publish(&mut self.link.tx);
        self.out.trouble.take().map_or(Ok(()), Err)
    }

    /// Reads a burst from the next queue that has one.
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
                    self.out.trouble.get_or_insert(error);
                }
            }
            if self.received.filled > 0 {
                return;
            }
        }
    }
}

/// Bytes of the longest packet on a link.
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
                for frame in &self.frames.slots[..filled] {
                    if !burst.push(frame.bytes()) {
                        break;
                    }
                }
                burst.publish()
            }
            Err(error) => {
                self.trouble.get_or_insert(error);
                0
            }
        };
        self.dropped += (filled - published) as u64;
    }
}

/// Frames on their way between the queues and the stack.
struct Frames {
    slots: Box<[Slot]>,
    filled: usize,
}

#[derive(Clone)]
struct Slot {
    bytes: [u8; MAX_FRAME],
    len: usize,
}

impl Slot {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Frames {
    fn new() -> Self {
        Self { slots: vec![Slot { bytes: [0; MAX_FRAME], len: 0 }; BURST].into_boxed_slice(), filled: 0 }
    }

    /// Appends a frame of at most [`MAX_FRAME`] bytes, written by `write`; there must be room.
    fn push<R>(&mut self, len: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let slot = &mut self.slots[self.filled];
        slot.len = len;
        self.filled += 1;
        write(&mut slot.bytes[..len])
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
        if !self.has_received() {
            self.read();
        }
        let frame = self.received.slots[..self.received.filled].get(self.taken)?;
        self.taken += 1;
        Some((RxToken(frame.bytes()), TxToken { out: &mut self.out, queues: &mut self.link.tx }))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<TxToken<'_>> {
        Some(TxToken { out: &mut self.out, queues: &mut self.link.tx })
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

/// A frame for the stack.
#[derive(Debug)]
pub struct RxToken<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame of the stack.
#[derive(Debug)]
pub struct TxToken<'a> {
    out: &'a mut Outbox,
    queues: &'a mut [TxQueue],
}

impl smoltcp::phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        if self.out.frames.filled == BURST {
            self.out.publish(self.queues);
        }
        self.out.frames.push(len, write)
    }
}
