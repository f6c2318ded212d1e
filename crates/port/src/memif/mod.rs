//! A memif peer as a port: a VPP, a DPDK application, or anybody with libmemif.
//!
//! A frame is copied once each way: out of the peer's buffer onto the ring of the bus, and from there into the peer's
//! buffer. Only where the peer's memory may vanish while it is read (it is not sealed) a burst is copied to a buffer
//! of our own first, because on the way to the ring the bus is locked.

mod control;
mod mailbox;
mod spec;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use memif::{Link, LinkError, Packet, RxBurst, RxMode, TxBurst};
use shmbus::{
    FrameSink, FrameSlot, FrameSource, MAX_FRAME, MAX_SLEEP, MIN_FRAME, RingFrame, SendError, Station,
};

pub use self::control::{Control, Sockets, View};
pub use self::mailbox::Change;
pub use self::spec::{DEFAULT_SOCKET, MemifOptions, MemifSpec};
use crate::port::{BURST, Moved, NotSent, Port};

/// How long after an interrupt was asked for a connected peer is looked at once more: far longer than its stores can be on their way.
const FIRST_POLL: Duration = Duration::from_millis(10);

/// One memif interface of a node.
pub struct MemifPort {
    name: String,
    control: Control,
    rx_mode: RxMode,
    link: Option<Link>,
    /// The link is of no use any more: its end will be in the mailbox.
    broken: bool,
    /// Where bursts from unsealed memory are staged.
    stage: Vec<Vec<u8>>,
}

impl MemifPort {
    fn new(name: String, control: Control, rx_mode: RxMode) -> Self {
        Self { name, control, rx_mode, link: None, broken: false, stage: Vec::new() }
    }

    /// For those who want to know how its connection is.
    pub fn view(&self) -> View {
        self.control.view()
    }

    /// The link, as long as it is good for something.
    fn link(&mut self) -> Option<&mut Link> {
        self.link.as_mut().filter(|_| !self.broken)
    }

    /// Who looks after the connection has heard of it, too, and tells the user why.
    fn lost(&mut self, why: &LinkError) {
        tracing::debug!(port = self.name, %why, "link lost");
        self.broken = true;
    }
}

impl Port for MemifPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        self.link.is_some() && !self.broken
    }

    fn wants_service(&self) -> bool {
        self.control.has_news()
    }

    fn service(&mut self, _report: &mut dyn FnMut(&str)) {
        while let Some(change) = self.control.next() {
            self.broken = false;
            self.link = match change {
                Change::Up(link) => Some(link),
                Change::Down => None,
            };
        }
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let Some(link) = self.link.as_mut().filter(|_| !self.broken) else { return Ok(Moved::default()) };
        match receive(link, &mut self.stage, station) {
            Ok(moved) => Ok(moved),
            Err(Interrupted::Bus(not_sent)) => Err(not_sent),
            Err(Interrupted::Link(why)) => {
                self.lost(&why);
                Ok(Moved::default())
            }
        }
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let Some(link) = self.link() else { return Moved::default() };
        send(link, station).unwrap_or_else(|why| {
            self.lost(&why);
            Moved::default()
        })
    }

    fn rx_mode(&self) -> RxMode {
        self.rx_mode
    }

    fn arm(&mut self) -> bool {
        let Some(link) = self.link() else { return false };
        let mut there = false;
        for queue in &mut link.rx {
            // A link that is down is worth asking: it is found out then.
            there |= queue.arm().unwrap_or(true);
        }
        there
    }

    fn disarm(&mut self) {
        for queue in self.link.iter_mut().flat_map(|link| &mut link.rx) {
            queue.disarm();
        }
    }

    /// Real peers may publish just as the interrupt is armed and not see it.
    fn first_poll(&self) -> Duration {
        if self.is_up() { FIRST_POLL } else { MAX_SLEEP }
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.control.as_fd());
        for queue in self.link.iter().flat_map(|link| &link.rx) {
            watch(queue.as_fd());
        }
    }
}

/// What keeps a burst from the bus.
enum Interrupted {
    Link(LinkError),
    Bus(NotSent),
}

/// Moves a burst of each queue from the peer to the bus.
fn receive(link: &mut Link, stage: &mut Vec<Vec<u8>>, station: &mut Station) -> Result<Moved, Interrupted> {
    let mut moved = Moved::default();
    for queue in &mut link.rx {
        let burst = queue.burst(BURST).map_err(Interrupted::Link)?;
        if burst.is_empty() {
            continue;
        }
        let frames = frames(&burst, station.bus().max_frame());
        let fit = frames.clone().count();
        moved.dropped += burst.len() - fit;
        let sent = if link.sealed {
            station.send_burst(frames)
        } else {
            let staged = staged(stage, frames);
            // What was staged from memory that is gone is nobody's frame.
            burst.check().map_err(Interrupted::Link)?;
            station.send_burst(staged)
        };
        if let Err(source) = sent {
            let sent = match &source {
                SendError::Busy { sent, .. } => *sent,
                _ => 0,
            };
            moved.frames += sent;
            moved.dropped += fit - sent;
            return Err(Interrupted::Bus(NotSent { moved, source }));
        }
        moved.frames += fit;
    }
    Ok(moved)
}

/// Moves a burst from the bus to the peer. Frames of one conversation must stay in order, so all go to the first queue.
fn send(link: &mut Link, station: &mut Station) -> Result<Moved, LinkError> {
    let Some(queue) = link.tx.first_mut() else { return Ok(Moved::default()) };
    let mut sink = Outgoing { burst: queue.burst()?, blocked: false };
    station.recv_into(&mut sink, BURST);
    Ok(Moved { frames: sink.burst.publish(), dropped: 0, blocked: sink.blocked })
}

/// The packets that can travel on a bus.
fn frames<'b>(burst: &'b RxBurst<'_>, longest: usize) -> impl Iterator<Item = Incoming<'b>> + Clone {
    burst.iter().filter(move |packet| (MIN_FRAME..=longest).contains(&packet.len())).map(Incoming)
}

/// Copies packets to buffers of our own, which are made once.
fn staged<'s, 'b>(stage: &'s mut Vec<Vec<u8>>, frames: impl Iterator<Item = Incoming<'b>>) -> &'s [Vec<u8>] {
    let mut filled = 0;
    for Incoming(packet) in frames {
        if filled == stage.len() {
            stage.push(Vec::with_capacity(MAX_FRAME));
        }
        stage[filled].resize(packet.len(), 0);
        packet.copy_to(&mut stage[filled]);
        filled += 1;
    }
    &stage[..filled]
}

/// A packet in the peer's memory, on its way to the ring.
struct Incoming<'b>(Packet<'b>);

impl FrameSource for Incoming<'_> {
    #[inline]
    fn frame_len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        for segment in self.0.segments() {
            slot.write_shared(segment);
        }
    }
}

/// The peer's free buffers, to be filled from the ring.
struct Outgoing<'q> {
    burst: TxBurst<'q>,
    blocked: bool,
}

impl FrameSink for Outgoing<'_> {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let Some(mut slot) = self.burst.reserve(frame.len()) else {
            self.blocked = true;
            return false;
        };
        slot.fill(frame.len(), |done, room: &[AtomicU8]| frame.copy_to_shared(done, room));
        true
    }

    fn commit(&mut self) {}

    fn discard(&mut self) {
        self.burst.truncate(0);
    }
}
