//! One end of a VXLAN as a port.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use memif::RxMode;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt};
use shmbus::offload::{Offload, TxRequest};
use shmbus::{MIN_FRAME, SendError, Station};

use super::header::{self, HEADER, Malformed};
use super::neighbors::Neighbors;
use super::outbox::{LANES, Outbox, Target};
use super::receiver::{self, Receiver};
use super::remotes::Remotes;
use super::sender::Sender;
use super::table::Table;
use super::{VxlanSpec, flow, socket_options};
use crate::error::PortError;
use crate::port::{BURST, Moved, NotSent, Port, fits_untagged};
use crate::remote_counters::{RemoteCounters, RemotesHandle};
use crate::report_once::ReportOnce;

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
    spec: VxlanSpec,
    sender: Sender,
    receiver: Receiver,
    outbox: Outbox,
    inbox: Inbox,
    table: Table,
    remotes: Remotes,
    /// With `suppress=on`.
    neighbors: Option<Neighbors>,
    handle: RemotesHandle,
    /// Frames that were dropped, until they are counted.
    dropped: Moved,
    /// Readable when datagrams have arrived; also when a full socket has room again.
    epoll: Epoll,
    /// The lane whose socket is full, and the one that is watched for room.
    full: Option<usize>,
    watched: Option<usize>,
    next_service: Instant,
    next_age: Instant,
    trouble: Trouble,
}

/// Frames that have arrived and wait for the bus, as places in the receiver's buffer.
#[derive(Debug, Default)]
struct Inbox {
    frames: Vec<Range<usize>>,
    consumed: usize,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.consumed == self.frames.len()
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.consumed = 0;
    }

    /// Returns the next frames, a burst at most.
    fn burst<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + Clone {
        self.frames[self.consumed..].iter().take(BURST).map(|range| &bytes[range.clone()])
    }
}

/// What the next service reports.
#[derive(Debug, Default)]
struct Trouble {
    said: ReportOnce,
    /// A sender that is no peer.
    stranger: Option<IpAddr>,
    /// A VXLAN that is not ours, and who sent it.
    other_vni: Option<(u32, IpAddr)>,
    no_vxlan: Option<IpAddr>,
    storm: Option<IpAddr>,
    /// A remote that nothing reaches, and why.
    unreachable: Option<(SocketAddr, io::Error)>,
    /// Datagrams that came too fast.
    drops: u64,
    /// What is sent in fragments.
    narrow: Option<String>,
}

/// Takes a frame that answers one of the bus.
type Answer<'a> = &'a mut dyn FnMut(&[u8]);

impl VxlanPort {
    /// Opens the port `name`.
    ///
    /// # Errors
    /// [`PortError::System`] when the local address is not there or is in use.
    pub fn open(spec: &VxlanSpec, name: String) -> Result<Self, PortError> {
        let listening = |error: io::Error| {
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
        };
        let group = spec.group.map(|group| receiver::group_at(group, spec.local)).transpose();
        let group = group.map_err(listening)?;
        let receiver = Receiver::open(spec.local, spec.group).map_err(listening)?;
        let sender = Sender::open(spec.local.ip(), group)
            .map_err(|error| PortError::system(format!("{name}: cannot send"), error))?;
        let failed = |error| PortError::system(format!("cannot watch {name}"), error);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        for socket in receiver.descriptors() {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(failed)?;
        }
        let now = Instant::now();
        Ok(Self {
            name,
            sender,
            receiver,
            outbox: Outbox::new(spec.vni),
            inbox: Inbox::default(),
            table: Table::default(),
            remotes: Remotes::new(&spec.peers, group.is_some(), spec.local.port(), spec.storm),
            neighbors: spec.suppress.then(Neighbors::default),
            spec: spec.clone(),
            handle: RemotesHandle::default(),
            dropped: Moved::default(),
            epoll,
            full: None,
            watched: None,
            next_service: now,
            next_age: now + AGE_INTERVAL,
            trouble: Trouble::default(),
        })
    }

    /// Receives what has arrived, when all that came before is on the bus.
    fn receive(&mut self) {
        if !self.inbox.is_empty() {
            return;
        }
        self.inbox.clear();
        let now = Instant::now();
        let Self { receiver, inbox, table, remotes, neighbors, dropped, trouble, spec, .. } = self;
        let received = receiver.receive(|datagram, range, sender| {
            let frame = match header::frame(datagram, spec.vni) {
                Ok(frame) => frame,
                Err(malformed) => {
                    // Multicast returns to its sender.
                    if sender != spec.local.ip() {
                        dropped.dropped += 1;
                        match malformed {
                            Malformed::NoVxlan => trouble.no_vxlan = Some(sender),
                            Malformed::OtherVni(vni) => trouble.other_vni = Some((vni, sender)),
                        }
                    }
                    return;
                }
            };
            if sender == spec.local.ip() {
                return;
            }
            let Some((remote, replaces)) = remotes.sender(sender, now) else {
                dropped.dropped += 1;
                trouble.stranger = Some(sender);
                return;
            };
            if replaces {
                table.forget_remote(remote);
                if let Some(neighbors) = neighbors {
                    neighbors.forget_remote(remote);
                }
            }
            let is_for_group = frame[0] & 1 != 0;
            if is_for_group && !remotes.may_flood(remote, now) {
                remotes.counters_mut(remote).rx_dropped += 1;
                dropped.dropped += 1;
                trouble.storm = Some(sender);
                return;
            }
            let counters = remotes.counters_mut(remote);
            counters.rx_packets += 1;
            counters.rx_bytes += frame.len() as u64;
            if let Some(source) = frame[6..].first_chunk() {
                table.learn(*source, remote, now);
            }
            if let Some(neighbors) = neighbors {
                neighbors.learn(frame, remote, now);
            }
            inbox.frames.push(range.start + HEADER..range.end);
        });
        match received {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::debug!(port = self.name, %error, "cannot receive"),
        }
    }

    /// Sends what the sockets take.
    fn flush(&mut self) -> Moved {
        let sent = self.sender.flush(&mut self.outbox, &mut self.remotes);
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

    /// Chooses where the new frames of the outbox go. Those that can be answered here go nowhere, and
    /// `answer` gets the answers.
    fn choose_targets(&mut self, mut answer: Option<Answer<'_>>) {
        let now = Instant::now();
        let (table, mut latest) = (&mut self.table, [0; 6]);
        let neighbors = &mut self.neighbors;
        self.outbox.choose(|frame| {
            let (Some(destination), Some(source)) =
                (frame.first_chunk::<6>(), frame.get(6..).and_then(<[u8]>::first_chunk::<6>))
            else {
                return Some((Target::All, 0));
            };
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
            let remote = table.remote_of(*destination, now);
            Some((remote.map_or(Target::All, Target::One), flow::hash(frame) as usize % LANES))
        });
    }

    /// Watches whether a lane's socket has room, in place of the one that was watched before.
    fn watch_for_room(&mut self, lane: Option<usize>) {
        if self.watched == lane {
            return;
        }
        let was_watched = self.watched.take().map(|lane| self.sender.socket(lane));
        let stopped = was_watched.map_or(Ok(()), |socket| self.epoll.delete(socket));
        let event = EpollEvent::new(EpollFlags::EPOLLOUT, 0);
        let watches = lane.map(|lane| self.epoll.add(self.sender.socket(lane), event));
        match stopped.and(watches.unwrap_or(Ok(()))) {
            Ok(()) => self.watched = lane,
            Err(error) => {
                tracing::debug!(port = self.name, %error, "room is found a little late");
            }
        }
    }

    /// Returns what to say when frames of the bus are longer than the way to a peer carries whole.
    fn narrowest(&self, station: &Station) -> Option<String> {
        let overhead = if self.spec.local.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        let mtu_to = |peer: &SocketAddr| path_mtu(self.spec.local.ip(), *peer);
        let narrowest = self.spec.peers.iter().filter_map(mtu_to).min()?;
        let carries = narrowest.saturating_sub(overhead);
        (station.mtu() > carries).then(|| {
            format!(
                "the way to the peers carries {carries} bytes of a frame's payload whole, and the bus \
                 {}: longer ones are sent in IP fragments; mtu={carries} sends none that is longer",
                station.mtu()
            )
        })
    }
}

/// Returns the MTU of the way to a peer, as far as this machine knows it.
fn path_mtu(local: IpAddr, peer: SocketAddr) -> Option<usize> {
    // Nothing is sent.
    let socket = UdpSocket::bind((local, 0)).ok()?;
    socket.connect(peer).ok()?;
    let mtu = match peer {
        SocketAddr::V4(_) => getsockopt(&socket, sockopt::IpMtu).ok()?,
        SocketAddr::V6(_) => socket_options::ipv6_mtu(&socket).ok()?,
    };
    usize::try_from(mtu).ok()
}

impl Trouble {
    fn report(&mut self, name: &str, report: &mut dyn FnMut(&str)) {
        let mut say = |line: String| {
            if self.said.is_new(&line) {
                report(&format!("{name}: {line}"));
            }
        };
        if let Some(line) = self.narrow.take() {
            say(line);
        }
        if let Some(sender) = self.stranger.take() {
            say(format!("datagrams from {sender} are dropped: it is none of the peers"));
        }
        if let Some((vni, sender)) = self.other_vni.take() {
            say(format!("datagrams of VXLAN {vni} from {sender} are dropped"));
        }
        if let Some(sender) = self.no_vxlan.take() {
            say(format!("datagrams from {sender} are dropped: they are no VXLAN"));
        }
        if let Some(sender) = self.storm.take() {
            say(format!(
                "{sender} sends more broadcast and multicast frames than storm= lets pass; they are dropped"
            ));
        }
        if let Some((to, error)) = self.unreachable.take() {
            say(format!("cannot send to {to}: {error}; frames for it are dropped"));
        }
        if self.drops > 0 {
            say(format!(
                "{} datagrams came faster than they were read, and the kernel dropped them; \
                 'sysctl -w net.core.rmem_max=8388608' lets more of them wait",
                self.drops
            ));
        }
        self.drops = 0;
    }
}

impl Port for VxlanPort {
    fn name(&self) -> &str {
        &self.name
    }

    /// A datagram needs no connection.
    fn is_up(&self) -> bool {
        true
    }

    fn wants_service(&self) -> bool {
        Instant::now() >= self.next_service
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
        let drops = self.receiver.new_drops();
        self.trouble.drops += drops;
        self.dropped.dropped += usize::try_from(drops).unwrap_or(usize::MAX);
        self.trouble.report(&self.name, report);
        let table = &self.table;
        self.handle.set(self.remotes.numbered().map(|(number, remote)| RemoteCounters {
            stations: table.count_of(number),
            ..remote.counters
        }));
    }

    fn attach(&mut self, station: &mut Station) {
        self.trouble.narrow = self.narrowest(station);
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.receive();
        let mut moved = std::mem::take(&mut self.dropped);
        if self.inbox.is_empty() {
            return Ok(moved);
        }
        let longest = station.max_frame();
        let fits = |frame: &&[u8]| (MIN_FRAME..=longest).contains(&frame.len());
        let burst = self.inbox.burst(self.receiver.bytes());
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
        let mut moved = Moved::default();
        if !self.outbox.is_empty() {
            moved = self.flush();
            if moved.blocked {
                return moved;
            }
        }
        station.recv_into(&mut self.outbox, BURST);
        if self.outbox.is_empty() {
            return moved;
        }
        // The answers come from where the questions went. One that the bus does not take is asked for
        // again.
        self.choose_targets(Some(&mut |answer| drop(station.send(answer))));
        moved.plus(self.flush())
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        self.put_burst(&mut [frame].into_iter()) == 1
    }

    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        if !self.outbox.is_empty() && self.flush().blocked {
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
        for bytes in self.inbox.burst(self.receiver.bytes()) {
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
        !self.inbox.is_empty()
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
