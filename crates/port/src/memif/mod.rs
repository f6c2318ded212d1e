//! A memif peer as a port: VPP, a DPDK application, or any program with libmemif.
//!
//! A frame is copied once each way: from the peer's buffer into the ring of the bus, and from the
//! ring into the peer's buffer. Memory of the peer that is not sealed may vanish while it is read;
//! a burst from there is first staged in a buffer of our own, because the bus is locked while
//! frames are copied into the ring.

mod control;
mod interrupt_limit;
mod mailbox;
mod peer_lines;
mod spec;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

use memif::{BurstLimit, Link, LinkError, Packet, RxBurst, RxMode, TxBurst};
use shmbus::offload::{Offload, TxRequest};
use shmbus::{
    FrameSink, FrameSlot, FrameSource, MAX_BIG_FRAME, MAX_FRAME, MAX_SLEEP, MIN_FRAME, RingFrame,
    SendError, Station,
};

pub use self::control::{Control, Sockets, View};
use self::interrupt_limit::InterruptLimit;
pub use self::mailbox::Change;
use self::peer_lines::peer_lines;
pub use self::spec::{DEFAULT_SOCKET, MemifOptions, MemifSpec};
use crate::error::PortError;
use crate::peer_details::PeerDetails;
use crate::port::{BURST, Moved, NotSent, Port, fits_untagged};

/// How long after arming the interrupt a connected peer is polled once more: far longer than its
/// stores take to arrive.
const FIRST_POLL: Duration = Duration::from_millis(10);

/// How often a peer is polled whose interrupts are ignored.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The most that a peer gets moved in one turn, over all its queues: as many frames as other ports
/// move, in short chains. Otherwise a peer with long chains in many queues would keep the other
/// ports of the thread waiting.
const TURN: BurstLimit = BurstLimit { packets: BURST, descriptors: 4 * BURST, bytes: 1 << 20 };

/// One memif interface as a port.
#[derive(Debug)]
pub struct MemifPort {
    name: String,
    control: Control,
    rx_mode: RxMode,
    link: Option<Link>,
    /// The queue that comes first in the next turn.
    first_queue: usize,
    interrupts: InterruptLimit,
    /// Whether the eventfds of the link are among the descriptors.
    watched: bool,
    /// The packets and interrupts of the link at the last wake-up.
    seen: (u64, u64),
    /// Whether the link has failed. The change that takes it down is on its way to the mailbox.
    broken: bool,
    /// The buffers that stage bursts from unsealed memory.
    stage: Vec<Vec<u8>>,
    /// What [`take`](Port::take) has dropped.
    dropped: Moved,
}

impl MemifPort {
    fn new(name: String, control: Control, rx_mode: RxMode) -> Self {
        Self {
            name,
            control,
            rx_mode,
            link: None,
            first_queue: 0,
            interrupts: InterruptLimit::new(Instant::now()),
            watched: true,
            seen: (0, 0),
            broken: false,
            stage: Vec::new(),
            dropped: Moved::default(),
        }
    }

    /// Returns a handle that reads the state of the connection from anywhere.
    #[must_use]
    pub fn view(&self) -> View {
        self.control.view()
    }

    /// Returns the link, unless it has failed.
    fn link(&mut self) -> Option<&mut Link> {
        self.link.as_mut().filter(|_| !self.broken)
    }

    /// Stops using the link. The thread that serves the socket finds the failure, too, and reports
    /// it.
    fn fail_link(&mut self, reason: &LinkError) {
        tracing::debug!(port = self.name, %reason, "link lost");
        self.broken = true;
    }
}

impl Sockets {
    /// Opens the port that `spec` describes. Reports call it `name`.
    ///
    /// # Errors
    /// As for [`control`](Self::control).
    pub fn open(&self, spec: &MemifSpec, name: String) -> Result<MemifPort, PortError> {
        let control = self.control(spec, &name)?;
        Ok(MemifPort::new(name, control, spec.rx_mode))
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
        self.control.has_changes()
            || self.interrupts.is_limited()
                && self.watched != self.interrupts.may_watch(Instant::now())
    }

    fn service(&mut self, _report: &mut dyn FnMut(&str)) {
        let now = Instant::now();
        let watched = std::mem::replace(&mut self.watched, self.interrupts.may_watch(now));
        if self.watched && !watched {
            self.interrupts.restart(now);
        }
        while let Some(change) = self.control.next() {
            (self.first_queue, self.seen) = (0, (0, 0));
            self.interrupts.restart(now);
            self.watched = true;
            self.broken = false;
            self.link = match change {
                Change::Up(link) => Some(link),
                Change::Down => None,
            };
        }
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let Some(link) = self.link.as_mut().filter(|_| !self.broken) else {
            return Ok(Moved::default());
        };
        let received = receive(link, &mut self.first_queue, &mut self.stage, station);
        match received {
            Ok(moved) => Ok(moved),
            Err(ReceiveError::Bus(not_sent)) => Err(not_sent),
            Err(ReceiveError::Link(reason)) => {
                self.fail_link(&reason);
                Ok(Moved::default())
            }
        }
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let Some(link) = self.link() else { return Moved::default() };
        send(link, station).unwrap_or_else(|reason| {
            self.fail_link(&reason);
            Moved::default()
        })
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        let Some(queue) = self.link().and_then(|link| link.tx.first_mut()) else { return false };
        // A link that is down takes nothing; the next burst finds the failure.
        queue.burst().is_ok_and(|mut burst| burst.push(frame) && burst.publish() == 1)
    }

    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        let Some(first) = frames.next() else { return 0 };
        let Some(queue) = self.link().and_then(|link| link.tx.first_mut()) else { return 0 };
        let Ok(mut burst) = queue.burst() else { return 0 };
        if !burst.push(first) {
            return 0;
        }
        frames.take_while(|frame| burst.push(frame)).for_each(drop);
        burst.publish()
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        let Some(link) = self.link.as_mut().filter(|_| !self.broken) else { return 0 };
        let taken = take(link, &mut self.first_queue, &mut self.stage, frame);
        let (taken, dropped) = taken.unwrap_or_else(|reason| {
            self.fail_link(&reason);
            (0, 0)
        });
        self.dropped.dropped += dropped;
        taken
    }

    fn dropped(&mut self) -> Moved {
        std::mem::take(&mut self.dropped)
    }

    fn rx_mode(&self) -> RxMode {
        self.rx_mode
    }

    fn arm(&mut self) -> bool {
        let Some(link) = self.link() else { return false };
        let mut ready = false;
        for queue in &mut link.rx {
            // A link that is down counts as ready: the next burst finds the failure.
            ready |= queue.arm().unwrap_or(true);
        }
        ready
    }

    fn disarm(&mut self) {
        let Some(link) = &mut self.link else { return };
        let (mut packets, mut interrupts) = (0u64, 0u64);
        for queue in &mut link.rx {
            queue.disarm();
            let stats = queue.stats();
            packets = packets.wrapping_add(stats.packets);
            interrupts = interrupts.wrapping_add(stats.interrupts);
        }
        let before = std::mem::replace(&mut self.seen, (packets, interrupts));
        if packets == before.0 && interrupts != before.1 {
            self.interrupts.note_useless(Instant::now());
        }
    }

    fn max_sleep(&self) -> Duration {
        if self.watched { MAX_SLEEP } else { POLL_INTERVAL }
    }

    /// Polls once soon after arming: a peer that publishes at that moment may not see the request
    /// for an interrupt.
    fn first_poll(&self) -> Duration {
        if self.is_up() { FIRST_POLL } else { self.max_sleep() }
    }

    fn peer_details(&self) -> Option<PeerDetails> {
        let view = self.view();
        Some(PeerDetails::new(move || view.details().as_ref().map(peer_lines).unwrap_or_default()))
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.control.as_fd());
        for queue in self.link.iter().filter(|_| self.watched).flat_map(|link| &link.rx) {
            watch(queue.as_fd());
        }
    }
}

/// Why a burst did not reach the bus.
enum ReceiveError {
    Link(LinkError),
    Bus(NotSent),
}

/// Moves packets from the peer to the bus, at most [`TURN`] of all queues together, from
/// `first_queue` on.
fn receive(
    link: &mut Link,
    first_queue: &mut usize,
    stage: &mut Vec<Vec<u8>>,
    station: &mut Station,
) -> Result<Moved, ReceiveError> {
    let mut moved = Moved::default();
    let (mut left, queues, longest) = (TURN, link.rx.len(), station.max_frame());
    let first = *first_queue;
    for queue in (0..queues).map(|nth| (first + nth) % queues) {
        if left.is_reached() {
            // The others come first in the next turn.
            *first_queue = queue;
            break;
        }
        let burst = link.rx[queue].burst_within(left).map_err(ReceiveError::Link)?;
        if burst.is_empty() {
            continue;
        }
        left.packets -= burst.len();
        left.descriptors = left.descriptors.saturating_sub(burst.descriptors());
        left.bytes = left.bytes.saturating_sub(burst.bytes());
        let frames = frames(&burst, longest);
        let fit = frames.clone().count();
        if fit < burst.len() {
            moved.dropped += burst.len() - fit;
            let too_long = burst.iter().filter(|packet| packet.len() > longest);
            for packet in too_long {
                let mut head = [0; MIN_FRAME];
                packet.copy_to(&mut head);
                moved.too_long += 1;
                moved.tagged += usize::from(fits_untagged(&head, packet.len(), longest));
            }
        }
        let sent = if link.sealed {
            station.send_burst(frames)
        } else {
            let staged = staged(stage, frames);
            // Memory that has vanished reads as zeros: what was staged from it is no frame.
            burst.check().map_err(ReceiveError::Link)?;
            station.send_burst(staged)
        };
        if let Err(source) = sent {
            let sent = match &source {
                SendError::Busy { sent, .. } => *sent,
                _ => 0,
            };
            moved.frames += sent;
            moved.dropped += fit - sent;
            return Err(ReceiveError::Bus(NotSent { moved, source }));
        }
        moved.frames += fit;
    }
    Ok(moved)
}

/// Takes packets from the peer, at most [`TURN`] of all queues together, from `first_queue` on. Returns
/// how many, and how many of them are dropped because no bus carries their length.
fn take(
    link: &mut Link,
    first_queue: &mut usize,
    stage: &mut Vec<Vec<u8>>,
    frame: &mut dyn FnMut(TxRequest<'_>),
) -> Result<(usize, usize), LinkError> {
    let (mut taken, mut dropped) = (0, 0);
    let (mut left, queues, first) = (TURN, link.rx.len(), *first_queue);
    for queue in (0..queues).map(|nth| (first + nth) % queues) {
        if left.is_reached() {
            // The others come first in the next turn.
            *first_queue = queue;
            break;
        }
        let burst = link.rx[queue].burst_within(left)?;
        if burst.is_empty() {
            continue;
        }
        left.packets -= burst.len();
        left.descriptors = left.descriptors.saturating_sub(burst.descriptors());
        left.bytes = left.bytes.saturating_sub(burst.bytes());
        let staged = staged(stage, frames(&burst, MAX_BIG_FRAME));
        burst.check()?;
        for staged in staged {
            frame(TxRequest::new(staged, Offload::new()));
        }
        taken += burst.len();
        dropped += burst.len() - staged.len();
    }
    Ok((taken, dropped))
}

/// Moves a burst from the bus to the peer. Frames of one flow must stay in order, so all go to the
/// first queue.
fn send(link: &mut Link, station: &mut Station) -> Result<Moved, LinkError> {
    let Some(queue) = link.tx.first_mut() else { return Ok(Moved::default()) };
    let mut sink = Outgoing { burst: queue.burst()?, blocked: false };
    station.recv_into(&mut sink, BURST);
    let blocked = sink.blocked;
    Ok(Moved { frames: sink.burst.publish(), blocked, ..Moved::default() })
}

/// Returns the packets of a length that the bus carries.
fn frames<'b>(
    burst: &'b RxBurst<'_>,
    longest: usize,
) -> impl Iterator<Item = Incoming<'b>> + Clone {
    burst.iter().filter(move |packet| (MIN_FRAME..=longest).contains(&packet.len())).map(Incoming)
}

/// Copies packets into buffers of our own. They are allocated once and reused.
fn staged<'s, 'b>(
    stage: &'s mut Vec<Vec<u8>>,
    frames: impl Iterator<Item = Incoming<'b>>,
) -> &'s [Vec<u8>] {
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

/// The peer's free buffers, which are filled from the ring.
struct Outgoing<'q> {
    burst: TxBurst<'q>,
    blocked: bool,
}

impl FrameSink for Outgoing<'_> {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        // A peer that offers tiny buffers gets the rest in its next turn.
        if self.burst.descriptors() >= TURN.descriptors {
            return false;
        }
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
