//! All there is to know about an interface at a moment, for people: what libmemif tells by `memif_get_details`, and VPP by
//! `show memif descriptors`.

use std::fmt;
use std::sync::atomic::Ordering;

use super::history::History;
use super::link::{LinkHandle, Peer, RingView};
use super::options::{ModeCell, Options, Role, RxMode};
use super::stats::QueueStats;
use crate::error::DisconnectReason;
use crate::format::mode::Mode;
use crate::format::ring::Descriptor;
use crate::mechanism::layout;
use crate::memory::region::Region;

/// An interface, its peer and its rings as they were at a moment. As text, it looks like VPP's `show memif`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Details {
    /// The interface's id on its socket.
    pub id: u32,
    /// Which side of the protocol it speaks.
    pub role: Role,
    /// What the packets are.
    pub mode: Mode,
    /// The socket's address.
    pub socket: String,
    /// Its name, as told to peers.
    pub name: String,
    /// This program's name, as told to peers.
    pub app_name: String,
    /// Who is on the other side, while the link is up.
    pub peer: Option<Peer>,
    /// The link's memory.
    pub regions: Vec<RegionDetails>,
    /// Rings to receive on.
    pub rx: Vec<RingDetails>,
    /// Rings to send on.
    pub tx: Vec<RingDetails>,
    /// What all receiving queues did, those of earlier links included.
    pub rx_total: QueueStats,
    /// What all sending queues did, those of earlier links included.
    pub tx_total: QueueStats,
    /// How many links there were, the present one included.
    pub links: u64,
    /// Why the last link ended.
    pub last_disconnect: Option<DisconnectReason>,
    /// Why there was no link when one was tried last, if ever that happened.
    pub last_refusal: Option<String>,
    /// The last reason a peer was told here.
    pub last_told: Option<String>,
    /// The last reason a peer told, made printable.
    pub last_heard: Option<String>,
}

/// A memory region of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionDetails {
    /// Bytes that can be used.
    pub size: u64,
    /// Whether its file is sealed against shrinking.
    pub sealed: bool,
    /// Whether it was taken away while in use.
    pub lost: bool,
}

/// A ring. The numbers from its header are whatever stands there: nobody vouches for those that the peer writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingDetails {
    /// `"S2M"` (client to server) or `"M2S"`.
    pub direction: &'static str,
    /// The ring's index in its direction.
    pub index: u16,
    /// The region it lies in.
    pub region: u16,
    /// Where it begins in its region, in bytes.
    pub offset: u32,
    /// Descriptors in it.
    pub size: usize,
    /// The client's index, which runs freely through 16 bits.
    pub head: u16,
    /// The server's index, likewise.
    pub tail: u16,
    /// Bit 0: the receiver wants no interrupts.
    pub flags: u16,
    /// How it is received from; nothing for a ring to send on.
    pub rx_mode: Option<RxMode>,
    /// What its queue did.
    pub stats: QueueStats,
    /// Its descriptors, where they were asked for.
    pub descriptors: Vec<DescriptorDetails>,
}

/// A descriptor as it stands in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescriptorDetails {
    /// Bit 0: the packet goes on in the next one.
    pub flags: u16,
    /// The buffer's region.
    pub region: u16,
    /// Bytes of the packet in the buffer, or room in it.
    pub length: u32,
    /// Where the buffer begins in its region, in bytes.
    pub offset: u32,
    /// What the sender put there.
    pub metadata: u32,
}

impl Details {
    /// Of an interface as its endpoint knows it.
    pub(crate) fn gather(
        role: Role,
        socket: String,
        options: &Options,
        history: &History,
        link: Option<&LinkHandle>,
        descriptors: bool,
    ) -> Self {
        let rings =
            |views: &[RingView]| views.iter().map(|view| RingDetails::of(view, descriptors)).collect();
        let (rx, tx) = link.map(|link| (rings(&link.rx), rings(&link.tx))).unwrap_or_default();
        let (rx_now, tx_now) = link.map(LinkHandle::stats).unwrap_or_default();
        let (mut rx_total, mut tx_total) = (history.rx, history.tx);
        rx_total += rx_now;
        tx_total += tx_now;
        Self {
            id: options.id,
            role,
            mode: options.mode,
            socket,
            name: options.interface_name(),
            app_name: options.application().to_owned(),
            peer: link.map(|link| link.peer.clone()),
            regions: link
                .map(|link| link.regions.iter().map(RegionDetails::of).collect())
                .unwrap_or_default(),
            rx,
            tx,
            rx_total,
            tx_total,
            links: history.links,
            last_disconnect: history.last.clone(),
            last_refusal: history.refused.clone(),
            last_told: history.told.clone(),
            last_heard: history.heard.clone(),
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
        let slots = if descriptors { u16::try_from(view.memory.size()).unwrap_or(1 << 15) } else { 0 };
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
        writeln!(f, "interface {} id {} role {} mode {}", self.name, self.id, self.role, self.mode)?;
        writeln!(f, "  socket {}", self.socket)?;
        match &self.peer {
            Some(peer) => {
                writeln!(f, "  link up, remote-name {:?} remote-interface {:?}", peer.app_name, peer.name)?;
            }
            None => writeln!(f, "  link down")?,
        }
        if let Some(reason) = &self.last_disconnect {
            writeln!(f, "  last disconnect: {reason}")?;
        }
        let reasons = [
            ("last refusal", &self.last_refusal),
            ("last told", &self.last_told),
            ("last heard", &self.last_heard),
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
        self.rx.iter().map(|ring| ("rx", ring)).chain(self.tx.iter().map(|ring| ("tx", ring))).try_for_each(
            |(what, ring)| {
                writeln!(f, "  {what} queue {}: {} ring", ring.index, ring.direction)?;
                ring.fmt(f)
            },
        )?;
        writeln!(f, "  rx total: {}", Line(&self.rx_total, false))?;
        writeln!(f, "  tx total: {}", Line(&self.tx_total, true))
    }
}

/// The lines below the ring's name.
impl fmt::Display for RingDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    region {} offset {} ring-size {}", self.region, self.offset, self.size)?;
        write!(f, "    head {} tail {} flags {:#06x}", self.head, self.tail, self.flags)?;
        if let Some(mode) = self.rx_mode {
            write!(f, " rx-mode {mode}")?;
        }
        writeln!(f, "\n    {}", Line(&self.stats, self.rx_mode.is_none()))?;
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

/// Counts on one line; the second says whether those of sending are of interest.
struct Line<'a>(&'a QueueStats, bool);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(s, sends) = self;
        write!(f, "packets {} bytes {} interrupts {}", s.packets, s.bytes, s.interrupts)?;
        if *sends {
            write!(f, " no-room {} cancelled {} down {}", s.ring_full, s.cancelled, s.down)?;
        }
        Ok(())
    }
}
