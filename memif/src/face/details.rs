//! A snapshot of an interface for people: what libmemif returns from `memif_get_details`, and VPP
//! shows with `show memif descriptors`.

use std::fmt;
use std::sync::atomic::Ordering;

use super::history::History;
use super::link::{LinkHandle, Peer, RingView};
use super::options::{InterfaceConfig, Role};
use super::rx_mode::{ModeCell, RxMode};
use crate::error::DisconnectReason;
use crate::format::Mode;
use crate::format::ring::Descriptor;
use crate::mechanism::layout;
use crate::mechanism::stats::QueueStats;
use crate::memory::region::Region;

/// A snapshot of an interface, its peer and its rings. As text, it looks like VPP's `show memif`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Details {
    /// The interface's id on its socket.
    pub id: u32,
    /// The side of the protocol that it speaks.
    pub role: Role,
    /// The kind of the packets.
    pub mode: Mode,
    /// The socket's address.
    pub socket: String,
    /// The interface's name, as sent to peers.
    pub name: String,
    /// The program's name, as sent to peers.
    pub app_name: String,
    /// The peer, while the link is up.
    pub peer: Option<Peer>,
    /// The regions of the link's memory.
    pub regions: Vec<RegionDetails>,
    /// Rings to receive on.
    pub rx: Vec<RingDetails>,
    /// Rings to send on.
    pub tx: Vec<RingDetails>,
    /// Counts of all receiving queues, those of earlier links included.
    pub rx_total: QueueStats,
    /// Counts of all sending queues, those of earlier links included.
    pub tx_total: QueueStats,
    /// Number of links so far, the present one included.
    pub links: u64,
    /// Why the last link ended.
    pub last_disconnect: Option<DisconnectReason>,
    /// Why the last attempt that brought up no link failed, if any did.
    pub last_rejection: Option<String>,
    /// The last reason that this side sent to a peer.
    pub last_reason_sent: Option<String>,
    /// The last reason that a peer sent, made printable.
    pub last_reason_received: Option<String>,
}

/// A memory region of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionDetails {
    /// Its size in bytes, as far as descriptors reach.
    pub size: u64,
    /// Whether its file is sealed against shrinking.
    pub sealed: bool,
    /// Whether the memory was taken away while in use.
    pub lost: bool,
}

/// A ring. The numbers from its header are shown as they stand there: those that the peer writes
/// are not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingDetails {
    /// `"S2M"` (client to server) or `"M2S"`.
    pub direction: &'static str,
    /// The ring's index in its direction.
    pub index: u16,
    /// The region that holds the ring.
    pub region: u16,
    /// Where the ring begins in its region, in bytes.
    pub offset: u32,
    /// Number of descriptors.
    pub size: usize,
    /// The client's index, which is free-running in 16 bits.
    pub head: u16,
    /// The server's index, likewise.
    pub tail: u16,
    /// Bit 0: the receiver wants no interrupts.
    pub flags: u16,
    /// How its queue waits for packets; none for a ring to send on.
    pub rx_mode: Option<RxMode>,
    /// Counts of its queue.
    pub stats: QueueStats,
    /// Its descriptors, if they were asked for.
    pub descriptors: Vec<DescriptorDetails>,
}

/// A descriptor, as it stands in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescriptorDetails {
    /// Bit 0: the packet continues in the next descriptor.
    pub flags: u16,
    /// The buffer's region.
    pub region: u16,
    /// Bytes of the packet in the buffer, or room in it.
    pub length: u32,
    /// Where the buffer begins in its region, in bytes.
    pub offset: u32,
    /// The sender's value; the protocol gives it no meaning.
    pub metadata: u32,
}

impl Details {
    /// Gathers what the endpoint knows about an interface.
    pub(super) fn gather(
        role: Role,
        socket: String,
        interface: &InterfaceConfig,
        history: &History,
        link: Option<&LinkHandle>,
        descriptors: bool,
    ) -> Self {
        let rings = |views: &[RingView]| {
            views.iter().map(|view| RingDetails::of(view, descriptors)).collect()
        };
        let (rx, tx) = link.map(|link| (rings(&link.rx), rings(&link.tx))).unwrap_or_default();
        let (rx_now, tx_now) = link.map(LinkHandle::stats).unwrap_or_default();
        let (mut rx_total, mut tx_total) = (history.rx, history.tx);
        rx_total += rx_now;
        tx_total += tx_now;
        Self {
            id: interface.id,
            role,
            mode: interface.mode,
            socket,
            name: interface.name(),
            app_name: interface.app_name().to_owned(),
            peer: link.map(|link| link.peer.clone()),
            regions: link
                .map(|link| link.regions.iter().map(RegionDetails::of).collect())
                .unwrap_or_default(),
            rx,
            tx,
            rx_total,
            tx_total,
            links: history.links,
            last_disconnect: history.last_disconnect.clone(),
            last_rejection: history.last_rejection.clone(),
            last_reason_sent: history.last_reason_sent.clone(),
            last_reason_received: history.last_reason_received.clone(),
        }
    }
}

impl RegionDetails {
    fn of(region: &Region) -> Self {
        Self { size: region.len(), sealed: region.sealed(), lost: region.is_lost() }
    }
}

impl RingDetails {
    fn of(view: &RingView, descriptors: bool) -> Self {
        // Relaxed: a snapshot, on which nothing depends.
        let header = view.memory.header();
        // A ring has at most 2^15 descriptors.
        let slots =
            if descriptors { u16::try_from(view.memory.size()).unwrap_or(1 << 15) } else { 0 };
        Self {
            direction: layout::direction(view.place.s2m),
            index: view.place.index,
            region: view.place.region,
            offset: view.place.offset,
            size: view.memory.size(),
            head: header.head.load(Ordering::Relaxed),
            tail: header.tail.load(Ordering::Relaxed),
            flags: header.flags.load(Ordering::Relaxed),
            rx_mode: view.mode.as_deref().map(ModeCell::get),
            stats: QueueStats::of(&view.counters),
            descriptors: (0..slots).map(|slot| view.memory.descriptor(slot).into()).collect(),
        }
    }
}

impl From<Descriptor> for DescriptorDetails {
    fn from(Descriptor { flags, region, length, offset, metadata }: Descriptor) -> Self {
        Self { flags, region, length, offset, metadata }
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "interface {} id {} role {} mode {}",
            self.name, self.id, self.role, self.mode
        )?;
        writeln!(f, "  socket {}", self.socket)?;
        match &self.peer {
            Some(peer) => {
                writeln!(
                    f,
                    "  link up, remote-name {:?} remote-interface {:?}",
                    peer.app_name, peer.name
                )?;
            }
            None => writeln!(f, "  link down")?,
        }
        if let Some(reason) = &self.last_disconnect {
            writeln!(f, "  last disconnect: {reason}")?;
        }
        let reasons = [
            ("last rejection", &self.last_rejection),
            ("last reason sent", &self.last_reason_sent),
            ("last reason received", &self.last_reason_received),
        ];
        for (what, reason) in reasons {
            if let Some(reason) = reason {
                writeln!(f, "  {what}: {reason}")?;
            }
        }
        for (index, region) in self.regions.iter().enumerate() {
            let sealed = if region.sealed { "sealed" } else { "not sealed" };
            let lost = if region.lost { ", lost" } else { "" };
            writeln!(f, "  region {index} size {} {sealed}{lost}", region.size)?;
        }
        self.rx
            .iter()
            .map(|ring| ("rx", ring))
            .chain(self.tx.iter().map(|ring| ("tx", ring)))
            .try_for_each(|(what, ring)| {
                writeln!(f, "  {what} queue {}: {} ring", ring.index, ring.direction)?;
                ring.fmt(f)
            })?;
        writeln!(f, "  rx total: {}", Counts(&self.rx_total, false))?;
        writeln!(f, "  tx total: {}", Counts(&self.tx_total, true))
    }
}

/// Writes the lines below the ring's name.
impl fmt::Display for RingDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    region {} offset {} ring-size {}", self.region, self.offset, self.size)?;
        write!(f, "    head {} tail {} flags {:#06x}", self.head, self.tail, self.flags)?;
        if let Some(mode) = self.rx_mode {
            write!(f, " rx-mode {mode}")?;
        }
        writeln!(f, "\n    {}", Counts(&self.stats, self.rx_mode.is_none()))?;
        if !self.descriptors.is_empty() {
            writeln!(f, "      slot flags region     length     offset   metadata")?;
        }
        for (slot, d) in self.descriptors.iter().enumerate() {
            writeln!(
                f,
                "     {slot:5} {:5} {:6} {:10} {:10} {:10}",
                d.flags, d.region, d.length, d.offset, d.metadata
            )?;
        }
        Ok(())
    }
}

/// Counts on one line, with those of sending if the second field says so.
struct Counts<'a>(&'a QueueStats, bool);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(s, sends) = self;
        write!(f, "packets {} bytes {} interrupts {}", s.packets, s.bytes, s.interrupts)?;
        if *sends {
            write!(f, " ring-full {} cancelled {} down {}", s.ring_full, s.cancelled, s.down)?;
        }
        Ok(())
    }
}
