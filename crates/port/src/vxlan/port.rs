//! One end of a VXLAN as a port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use memif::RxMode;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use shmbus::offload::{Offload, TxRequest};
use shmbus::{MIN_FRAME, SendError, Station};

use super::admission::Admission;
use super::header::{self, HEADER, Malformed};
use super::inbox::Inbox;
use super::neighbors::Neighbors;
use super::outbox::{LANES, Outbox, Target};
use super::remotes::Remotes;
use super::table::Table;
use super::trouble::Trouble;
use super::udp::{Udp, path_mtu};
use super::{Overlay, VxlanSpec, flow};
use crate::error::PortError;
use crate::port::{BURST, Moved, NotSent, Port, fits_untagged};
use crate::remote_counters::{RemoteCounters, RemotesHandle};

/// How often the port looks after what is not about a frame.
const SERVICE_INTERVAL: Duration = Duration::from_millis(500);
/// How often the addresses that are too old are removed.
const AGE_INTERVAL: Duration = Duration::from_secs(10);
/// The bytes of headers before a frame on the wire, with its Ethernet header: IP, UDP, VXLAN, Ethernet.
const OVERHEAD_V4: usize = 20 + 8 + HEADER + 14;
const OVERHEAD_V6: usize = 40 + 8 + HEADER + 14;

/// See the module.
#[derive(Debug)]
pub struct VxlanPort {
    name: String,
    vni: u32,
    /// None while an overlay has no address here: it carries all frames then.
    udp: Option<Udp>,
    /// Who the remotes are, where they are not configured.
    overlay: Option<Box<dyn Overlay>>,
    outbox: Outbox,
    inbox: Inbox,
    table: Table,
    remotes: Remotes,
    /// With `suppress=on`.
    neighbors: Option<Neighbors>,
    handle: RemotesHandle,
    /// Frames that were dropped, until they are counted.
    dropped: Moved,
    /// Frames of the bus that were dropped, until they are counted.
    dropped_to_peer: usize,
    /// Readable when datagrams have arrived; also when a full socket has room again.
    epoll: Epoll,
    /// The lane whose socket is full, and the one that is watched for room.
    full: Option<usize>,
    watched: Option<usize>,
    /// The longest payload of a frame that the bus carries.
    mtu: usize,
    next_service: Instant,
    next_age: Instant,
    trouble: Trouble,
}

/// Takes a frame that answers one of the bus.
type Answer<'a> = &'a mut dyn FnMut(&[u8]);

impl VxlanPort {
    /// Opens the port `name`.
    ///
    /// # Errors
    /// [`PortError::System`] when the local address is not there or is in use.
    pub fn open(spec: &VxlanSpec, name: String) -> Result<Self, PortError> {
        let udp = Udp::open(spec.local, spec.group).map_err(|error| {
            let attempt = match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "{name}: another port or program receives at {}; each needs an address or a \
                     UDP port of its own, such as local={}:4790",
                    spec.local,
                    spec.local.ip()
                ),
                io::ErrorKind::AddrNotAvailable => {
                    format!("{name}: local={} is no address of this machine", spec.local.ip())
                }
                _ => format!("{name}: cannot receive at {}", spec.local),
            };
            PortError::System { attempt, source: error }
        })?;
        let port = spec.local.port();
        let mut remotes = Remotes::new(&spec.peers, spec.group.is_some(), port, spec.storm);
        remotes.set_hosts(&spec.hosts);
        Self::new(name, spec.vni, spec.suppress, remotes, Some(udp), None)
    }

    /// Opens a port whose remotes are those of an overlay. It has no sockets until the overlay names
    /// an address.
    ///
    /// # Errors
    /// [`PortError::System`] when the system has no descriptor left.
    pub fn with_overlay(
        name: String,
        vni: u32,
        suppress: bool,
        remotes: Remotes,
        overlay: Box<dyn Overlay>,
    ) -> Result<Self, PortError> {
        Self::new(name, vni, suppress, remotes, None, Some(overlay))
    }

    fn new(
        name: String,
        vni: u32,
        suppress: bool,
        remotes: Remotes,
        udp: Option<Udp>,
        overlay: Option<Box<dyn Overlay>>,
    ) -> Result<Self, PortError> {
        let failed = |error| PortError::system(format!("cannot watch {name}"), error);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        if let Some(udp) = &udp {
            udp.watch(&epoll).map_err(failed)?;
        }
        if let Some(overlay) = &overlay {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
            epoll.add(overlay.descriptor(), event).map_err(failed)?;
        }
        let now = Instant::now();
        Ok(Self {
            name,
            vni,
            udp,
            overlay,
            outbox: Outbox::new(vni),
            inbox: Inbox::default(),
            table: Table::default(),
            remotes,
            neighbors: suppress.then(Neighbors::default),
            handle: RemotesHandle::default(),
            dropped: Moved::default(),
            dropped_to_peer: 0,
            epoll,
            full: None,
            watched: None,
            mtu: 0,
            next_service: now,
            next_age: now + AGE_INTERVAL,
            trouble: Trouble::default(),
        })
    }

    /// Receives what has arrived, when all that came before is on the bus. Datagrams and the overlay
    /// have the first turn by turns.
    fn receive(&mut self) {
        if !self.inbox.is_empty() {
            return;
        }
        self.inbox.clear();
        let now = Instant::now();
        self.advance_overlay(now);
        let is_batch_first = !self.inbox.is_batch;
        if is_batch_first {
            self.receive_batch(now);
        }
        if self.inbox.is_empty() {
            self.receive_datagrams(now);
        }
        if self.inbox.is_empty() && !is_batch_first {
            self.receive_batch(now);
        }
    }

    fn receive_datagrams(&mut self, now: Instant) {
        self.inbox.clear();
        self.inbox.is_batch = false;
        let Self { udp: Some(Udp { local, receiver, .. }), vni, inbox, overlay, .. } = self else {
            return;
        };
        let Self { table, remotes, neighbors, dropped, trouble, .. } = self;
        let mut admission = Admission { table, remotes, neighbors, dropped, trouble, now };
        let received = receiver.receive(|datagram, range, sender| {
            let frame = match header::frame(datagram, *vni) {
                Ok(frame) => frame,
                Err(malformed) => {
                    let Admission { remotes, dropped, trouble, .. } = &mut admission;
                    // Multicast returns to its sender.
                    let is_known = sender == local.ip()
                        || overlay.as_mut().is_some_and(|overlay| {
                            overlay.take_datagram(datagram, sender, now, remotes)
                        });
                    if !is_known {
                        dropped.dropped += 1;
                        match malformed {
                            Malformed::NoVxlan => trouble.no_vxlan = Some(sender),
                            Malformed::OtherVni(vni) => trouble.other_vni = Some((vni, sender)),
                        }
                    }
                    return;
                }
            };
            if sender == local.ip() {
                return;
            }
            let Some((remote, replaces)) = admission.remotes.sender(sender, now) else {
                admission.dropped.dropped += 1;
                admission.trouble.stranger = Some(sender);
                return;
            };
            if replaces {
                admission.forget(remote);
            }
            if admission.admit(frame, remote) {
                inbox.frames.push(range.start + HEADER..range.end);
            }
        });
        match received {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::debug!(port = self.name, %error, "cannot receive"),
        }
        self.note_ways();
    }

    /// Receives a batch of the overlay.
    fn receive_batch(&mut self, now: Instant) {
        self.inbox.clear();
        self.inbox.is_batch = true;
        let Some(overlay) = &mut self.overlay else { return };
        let Self { inbox, table, remotes, neighbors, dropped, trouble, .. } = self;
        if let Some(remote) = overlay.take_batch(remotes) {
            let (bytes, ranges) = overlay.batch();
            let mut admission = Admission { table, remotes, neighbors, dropped, trouble, now };
            inbox.frames.extend(
                ranges
                    .iter()
                    .filter(|range| admission.admit(&bytes[(*range).clone()], remote))
                    .cloned(),
            );
        }
        self.dropped.dropped += overlay.take_dropped();
        self.note_ways();
    }

    /// Has the overlay do what is due.
    fn advance_overlay(&mut self, now: Instant) {
        let Some(overlay) = &mut self.overlay else { return };
        let udp = self.udp.as_ref();
        overlay.advance(now, &mut self.remotes, &mut |to, datagram| {
            if let Some(udp) = udp {
                udp.sender.send_aside(datagram, to);
            }
        });
        self.note_ways();
    }

    /// Follows the remotes: some may have gone, and others are reached another way.
    fn note_ways(&mut self) {
        if self.overlay.is_none() || !self.remotes.take_changed() {
            return;
        }
        while let Some(gone) = self.remotes.next_gone() {
            self.table.forget_remote(gone);
            if let Some(neighbors) = &mut self.neighbors {
                neighbors.forget_remote(gone);
            }
        }
        self.abandon();
        self.trouble.narrow = self.narrowest();
    }

    /// Drops what a full socket has left: its targets are of before.
    fn abandon(&mut self) {
        self.dropped_to_peer += self.outbox.datagrams().len();
        self.outbox.clear();
        self.full = None;
        if let Some(udp) = &mut self.udp {
            udp.sender.restart();
        }
    }

    /// Receives at the address that the overlay names now.
    fn move_sockets(&mut self) {
        let Some(overlay) = &mut self.overlay else { return };
        let wanted = overlay.local();
        let has = self.udp.as_ref().map(|udp| udp.local);
        let stays = |wanted: SocketAddr| {
            has.is_some_and(|has| {
                has.ip() == wanted.ip() && [0, has.port()].contains(&wanted.port())
            })
        };
        if wanted.map_or(has.is_none(), stays) {
            return;
        }
        // What has arrived lies in the receiver. Both may be at one UDP port.
        if !self.inbox.is_batch {
            self.dropped.dropped += self.inbox.frames.len() - self.inbox.consumed;
            self.inbox.clear();
        }
        (self.udp, self.watched) = (None, None);
        if let Some(wanted) = wanted {
            let opened = Udp::open(wanted, None).and_then(|udp| {
                udp.watch(&self.epoll)?;
                Ok(udp)
            });
            let result = match opened {
                Ok(udp) => Ok(self.udp.insert(udp).local),
                Err(error) => Err(error),
            };
            overlay.set_local(result.map(Some));
        } else {
            overlay.set_local(Ok(None));
        }
        self.abandon();
    }

    /// Sends what the sockets take.
    fn flush(&mut self) -> Moved {
        let Some(udp) = &mut self.udp else {
            self.outbox.clear();
            return Moved::default();
        };
        let sent = udp.sender.flush(&mut self.outbox, &mut self.remotes);
        self.full = sent.full;
        if let Some((to, errno)) = sent.error {
            self.trouble.unreachable = Some((to, errno.into()));
        }
        Moved {
            frames: sent.frames,
            dropped: sent.dropped,
            blocked: sent.full.is_some(),
            ..Moved::default()
        }
    }

    /// Chooses where the new frames of the outbox go, and relays those that the overlay carries. Those
    /// that can be answered here go nowhere, and `answer` gets the answers. Returns what became of those
    /// that leave no more.
    fn choose_targets(&mut self, mut answer: Option<Answer<'_>>) -> Moved {
        let now = Instant::now();
        let (table, mut latest) = (&mut self.table, [0; 6]);
        let Self { neighbors, overlay, remotes, .. } = self;
        let mut relayed = Moved::default();
        self.outbox.choose(|frame| {
            let mut target = Target::All;
            if let (Some(destination), Some(source)) =
                (frame.first_chunk::<6>(), frame.get(6..).and_then(<[u8]>::first_chunk::<6>))
            {
                if let (Some(neighbors), Some(answer)) = (neighbors.as_mut(), answer.as_mut())
                    && let Some(bytes) = neighbors.answer(frame, now)
                {
                    answer(&bytes);
                    return None;
                }
                // A station that was behind a remote has moved here.
                if *source != latest && !table.is_empty() {
                    table.forget(*source);
                    latest = *source;
                }
                target = table.remote_of(*destination, now).map_or(Target::All, Target::One);
            }
            let Some(overlay) = overlay.as_mut() else { return Some((target, lane_of(frame))) };
            let (is_direct, is_taken) = match target {
                Target::One(remote) if remotes.is_relayed(remote) => {
                    (false, overlay.relay(remote, frame, now))
                }
                Target::One(_) => (true, false),
                Target::All => {
                    let each = remotes.relayed().iter();
                    let taken = each.filter(|remote| overlay.relay(**remote, frame, now)).count();
                    (!remotes.direct().is_empty(), taken > 0)
                }
            };
            if is_direct {
                return Some((target, lane_of(frame)));
            }
            *if is_taken { &mut relayed.frames } else { &mut relayed.dropped } += 1;
            None
        });
        relayed
    }

    /// Takes over frames that the overlay has held back until datagrams reach their remote.
    fn take_released(&mut self) {
        let Self { overlay: Some(overlay), outbox, remotes, .. } = self else { return };
        overlay.release(&mut |remote, frame| {
            if !outbox.push_to(frame, Target::One(remote), lane_of(frame)) {
                remotes.count_unsent(remote, 1);
            }
        });
    }

    /// Sends what is left of earlier bursts, and what the overlay has held back.
    fn send_the_rest(&mut self) -> Moved {
        self.advance_overlay(Instant::now());
        let mut moved =
            Moved { dropped: std::mem::take(&mut self.dropped_to_peer), ..Moved::default() };
        if !self.outbox.is_empty() {
            moved = moved.plus(self.flush());
        }
        if !moved.blocked {
            self.take_released();
        }
        if !moved.blocked && !self.outbox.is_empty() {
            moved = moved.plus(self.flush());
        }
        moved
    }

    /// Watches whether a lane's socket has room, in place of the one that was watched before.
    fn watch_for_room(&mut self, lane: Option<usize>) {
        if self.watched == lane {
            return;
        }
        let Some(Udp { sender, .. }) = &self.udp else { return };
        let was_watched = self.watched.take().map(|lane| sender.socket(lane));
        let stopped = was_watched.map_or(Ok(()), |socket| self.epoll.delete(socket));
        let event = EpollEvent::new(EpollFlags::EPOLLOUT, 0);
        let watches = lane.map(|lane| self.epoll.add(sender.socket(lane), event));
        match stopped.and(watches.unwrap_or(Ok(()))) {
            Ok(()) => self.watched = lane,
            Err(error) => {
                tracing::debug!(port = self.name, %error, "room is found a little late");
            }
        }
    }

    /// Returns what to say when frames of the bus are longer than the way to a peer carries whole.
    fn narrowest(&self) -> Option<String> {
        let local = self.udp.as_ref()?.local;
        let overhead = if local.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        let direct = self.remotes.direct().iter();
        let peers = direct.filter_map(|remote| self.remotes.get(*remote).address);
        let narrowest = peers.filter_map(|peer| path_mtu(local.ip(), peer)).min()?;
        let carries = narrowest.saturating_sub(overhead);
        (self.mtu > carries).then(|| {
            format!(
                "the way to the peers carries {carries} bytes of a frame's payload whole, and the bus \
                 {}: longer ones are sent in IP fragments; mtu={carries} sends none that is longer",
                self.mtu
            )
        })
    }
}

/// Returns the lane of a frame: that of its flow.
fn lane_of(frame: &[u8]) -> usize {
    flow::hash(frame) as usize % LANES
}

impl Port for VxlanPort {
    fn name(&self) -> &str {
        &self.name
    }

    /// A datagram needs no connection, but an overlay may have no end yet.
    fn is_up(&self) -> bool {
        self.overlay.is_none() || self.remotes.has_any()
    }

    fn wants_service(&self) -> bool {
        let has_news = || self.overlay.as_ref().is_some_and(|overlay| overlay.has_news());
        Instant::now() >= self.next_service || !self.remotes.has_any() && has_news()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        let now = Instant::now();
        self.next_service = now + SERVICE_INTERVAL;
        if now >= self.next_age {
            self.next_age = now + AGE_INTERVAL;
            self.table.age(now);
            if let Some(neighbors) = &mut self.neighbors {
                neighbors.age(now);
            }
        }
        let drops = self.udp.as_mut().map_or(0, |udp| udp.receiver.new_drops());
        self.trouble.drops += drops;
        self.dropped.dropped += usize::try_from(drops).unwrap_or(usize::MAX);
        self.move_sockets();
        self.advance_overlay(now);
        self.trouble.report(&self.name, &self.remotes, report);
        if let Some(overlay) = &mut self.overlay {
            overlay.report(&mut |line| report(&format!("{}: {line}", self.name)));
        }
        let table = &self.table;
        self.handle.set(self.remotes.numbered().map(|(number, remote)| RemoteCounters {
            stations: table.count_of(number),
            ..remote.counters.clone()
        }));
    }

    fn attach(&mut self, station: &mut Station) {
        self.mtu = station.mtu();
        if let Some(overlay) = &mut self.overlay {
            overlay.attach(station.max_frame());
        }
        self.trouble.narrow = self.narrowest();
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.receive();
        let mut moved = std::mem::take(&mut self.dropped);
        if self.inbox.is_empty() {
            return Ok(moved);
        }
        let longest = station.max_frame();
        let fits = |frame: &&[u8]| (MIN_FRAME..=longest).contains(&frame.len());
        let burst = self.inbox.burst(self.udp.as_ref(), self.overlay.as_deref());
        let (sent, error) = match station.send_burst(burst.clone().filter(fits)) {
            Ok(_) => (usize::MAX, None),
            // The rest waits here, and more in the kernel.
            Err(SendError::Busy { sent, source }) => (sent, Some(SendError::Busy { sent, source })),
            Err(source) => (0, Some(source)),
        };
        let waits = matches!(error, Some(SendError::Busy { .. }));
        let (mut frames, mut consumed) = (0, 0);
        for frame in burst {
            if !fits(&frame) {
                moved.dropped += 1;
                moved.too_long += usize::from(frame.len() > longest);
                let is_tagged = frame.len() > longest && fits_untagged(frame, frame.len(), longest);
                moved.tagged += usize::from(is_tagged);
            } else if frames < sent {
                frames += 1;
            } else if waits {
                break;
            } else {
                moved.dropped += 1;
            }
            consumed += 1;
        }
        moved.frames = frames;
        self.inbox.consumed += consumed;
        error.map_or(Ok(moved), |source| Err(NotSent { moved, source }))
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let mut moved = self.send_the_rest();
        if moved.blocked {
            return moved;
        }
        station.recv_into(&mut self.outbox, BURST);
        if self.outbox.is_empty() {
            return moved;
        }
        // The answers come from where the questions went. One that the bus does not take is asked for
        // again.
        let relayed = self.choose_targets(Some(&mut |answer| drop(station.send(answer))));
        moved = moved.plus(relayed);
        moved.plus(self.flush())
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        self.put_burst(&mut [frame].into_iter()) == 1
    }

    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        if self.send_the_rest().blocked {
            return 0;
        }
        let outbox = &mut self.outbox;
        let taken = frames.take_while(|frame| outbox.push(frame)).count();
        if taken > 0 {
            self.choose_targets(None);
            self.flush();
        }
        taken
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.receive();
        let mut taken = 0;
        for bytes in self.inbox.burst(self.udp.as_ref(), self.overlay.as_deref()) {
            frame(TxRequest::new(bytes, Offload::new()));
            taken += 1;
        }
        self.inbox.consumed += taken;
        taken
    }

    fn dropped(&mut self) -> Moved {
        std::mem::take(&mut self.dropped)
    }

    fn rx_mode(&self) -> RxMode {
        RxMode::Adaptive
    }

    fn arm(&mut self) -> bool {
        self.watch_for_room(self.full);
        let has_batch = self.overlay.as_mut().is_some_and(|overlay| overlay.arm());
        has_batch || !self.inbox.is_empty()
    }

    fn due(&self) -> Option<Instant> {
        self.overlay.as_ref().and_then(|overlay| overlay.due())
    }

    fn disarm(&mut self) {
        self.watch_for_room(None);
    }

    fn remotes(&self) -> Option<RemotesHandle> {
        Some(self.handle.clone())
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.epoll.0.as_fd());
    }
}
