//! The hosts on the same network, with their Ethernet addresses, and what waits for those that are
//! not known yet.
//!
//! The stack has such a table of its own, but loses the answer to a packet from a host that is not
//! in it, and asks for at most one host a second. So the link asks, and a packet from or to an
//! unknown host waits here. Before the stack gets a packet, it is given the entry that it needs to
//! answer.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::EthernetAddress;

/// How often a host is asked for, and how long it has to answer each time.
const ATTEMPTS: u8 = 3;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an entry is used after its host was last heard.
const LIFETIME: Duration = Duration::from_mins(1);
/// How long an answer is believed when frames come from another Ethernet address meanwhile.
const BELIEF: Duration = Duration::from_secs(1);
/// How long the stack keeps an entry that it is given; in truth it is twice as long.
const STACK_LIFETIME: Duration = Duration::from_secs(30);
/// The most entries. A further one takes the place of the oldest.
const MAX_NEIGHBORS: usize = 256;
/// The most frames that wait for one host in each direction; the oldest is dropped.
const MAX_WAITING: usize = 64;
/// The most bytes of frames that wait for all hosts.
const MAX_BYTES: usize = 512 << 10;

/// A packet on its way out, and what its sender wants to hear of it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The whole frame. The address that it is for is filled in when it is known.
    pub(crate) frame: Vec<u8>,
    /// The sender's name for it.
    pub(crate) tag: u64,
    /// Until when it waits for an answer at least.
    pub(crate) until: Instant,
}

/// What comes of asking for hosts.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All are to be asked for the host.
    Ask(IpAddr),
    /// The host is not there. The packets to it are lost.
    Unreachable(Vec<Outgoing>),
    /// The host does not answer, and is asked for the last time.
    Silent(IpAddr),
}

/// What waited for a host that has answered.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) incoming: VecDeque<Vec<u8>>,
    pub(crate) outgoing: VecDeque<Outgoing>,
    /// The stack has asked for the host itself.
    pub(crate) stack_asks: bool,
}

/// What to do with a packet that has come from a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The stack gets it.
    Pass,
    /// The stack gets it, after the entry of its sender.
    PassWithEntry(EthernetAddress),
    /// It waits until the sender is known.
    Wait,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Neighbors {
    entries: HashMap<IpAddr, Entry>,
    /// Bytes of all frames that wait.
    bytes: usize,
    /// The host that the latest packet came from: most come from one.
    latest: Option<Latest>,
}

#[derive(Debug)]
struct Latest {
    from: IpAddr,
    /// The host that answers to it go to.
    hop: IpAddr,
    mac: EthernetAddress,
    until: Instant,
}

#[derive(Debug)]
struct Entry {
    mac: Option<EthernetAddress>,
    /// When the host was last heard at `mac`, and when it last said so itself.
    heard: Instant,
    told: Option<Instant>,
    /// Until when the stack has the entry.
    stack_until: Option<Instant>,
    stack_asks: bool,
    query: Option<Query>,
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Outgoing>,
}

/// A host is being asked for.
#[derive(Debug)]
struct Query {
    due: Instant,
    attempts: u8,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            mac: None,
            heard: now,
            told: None,
            stack_until: None,
            stack_asks: false,
            query: None,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
        }
    }

    /// Returns the host's Ethernet address, if it is known and recent.
    fn usable(&self, now: Instant) -> Option<EthernetAddress> {
        self.mac.filter(|_| now < self.heard + LIFETIME)
    }

    /// Returns how many frames wait.
    fn waiting(&self) -> usize {
        self.incoming.len() + self.outgoing.len()
    }

    /// Drops a frame from the longer queue; returns its length.
    fn drop_oldest(&mut self) -> usize {
        if self.incoming.len() >= self.outgoing.len() {
            self.incoming.pop_front().map_or(0, |frame| frame.len())
        } else {
            self.outgoing.pop_front().map_or(0, |packet| packet.frame.len())
        }
    }

    fn ask(&mut self, now: Instant) {
        self.query.get_or_insert(Query { due: now, attempts: 0 });
    }
}

impl Neighbors {
    /// Returns whether the latest packet came from this host, and the stack has its entry.
    pub(crate) fn is_latest(&self, from: IpAddr, mac: EthernetAddress, now: Instant) -> bool {
        self.latest
            .as_ref()
            .is_some_and(|latest| latest.from == from && latest.mac == mac && now < latest.until)
    }

    /// Decides about a packet from `from` for the stack, whose frame came from `mac`. The answer goes
    /// to the host `hop` on the same network, which is a router or `from` itself.
    pub(crate) fn admit(
        &mut self,
        (from, hop): (IpAddr, IpAddr),
        mac: EthernetAddress,
        frame: &[u8],
        now: Instant,
    ) -> Admission {
        if self.is_latest(from, mac, now) {
            return Admission::Pass;
        }
        let entry = self.entry(hop, now);
        match entry.usable(now) {
            Some(known) if known == mac => {
                entry.heard = now;
                // A frame of the host answers whether it is there.
                entry.query = None;
                self.pass((from, hop), (mac, known), now)
            }
            // Packets may come back through another router than they leave through.
            Some(known) if from != hop => self.pass((from, hop), (mac, known), now),
            // The host may have moved. It is asked, and believed for a while.
            Some(known) if entry.told.is_some_and(|told| now < told + BELIEF) => {
                self.pass((from, hop), (known, known), now)
            }
            _ => {
                entry.ask(now);
                entry.incoming.push_back(frame.to_vec());
                self.bytes += frame.len();
                self.limit(hop);
                Admission::Wait
            }
        }
    }

    /// Lets a packet pass whose frame came from `mac`, and to which the stack answers `known`.
    fn pass(
        &mut self,
        (from, hop): (IpAddr, IpAddr),
        (mac, known): (EthernetAddress, EthernetAddress),
        now: Instant,
    ) -> Admission {
        let Some(entry) = self.entries.get_mut(&hop) else { return Admission::Pass };
        let has = entry.stack_until.is_some_and(|until| now < until);
        let until = if has { entry.stack_until } else { Some(now + STACK_LIFETIME) };
        entry.stack_until = until;
        // The entry is looked at again before the stack forgets it, and often enough to stay.
        self.latest = until.map(|until| Latest { from, hop, mac, until: until.min(now + BELIEF) });
        if has { Admission::Pass } else { Admission::PassWithEntry(known) }
    }

    /// Notes that a frame of a host has come from `mac`: if that is where the host is known to be, it
    /// is still there.
    pub(crate) fn heard(&mut self, from: IpAddr, mac: EthernetAddress, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&from)
            && entry.usable(now) == Some(mac)
        {
            entry.heard = now;
            entry.query = None;
        }
    }

    /// Returns the Ethernet address to send to, or takes the packet to wait for it.
    pub(crate) fn send(
        &mut self,
        to: IpAddr,
        packet: Outgoing,
        now: Instant,
    ) -> Option<(EthernetAddress, Outgoing)> {
        let entry = self.entry(to, now);
        if let Some(mac) = entry.usable(now) {
            return Some((mac, packet));
        }
        entry.ask(now);
        let len = packet.frame.len();
        entry.outgoing.push_back(packet);
        self.bytes += len;
        self.limit(to);
        None
    }

    /// Asks whether a known host is still where it was; what is sent to it does not wait. If it does
    /// not answer, it is forgotten.
    pub(crate) fn doubt(&mut self, host: IpAddr, now: Instant) {
        let entry = self.entry(host, now);
        entry.told = None;
        entry.ask(now);
        self.latest = None;
    }

    /// Notes that the stack has asked for a host. A host that does not answer is asked again, and is
    /// [silent](Outcome::Silent) in the end, as one that the link asks for: the stack itself would
    /// ask for ever.
    pub(crate) fn stack_asks(&mut self, host: IpAddr, now: Instant) {
        let entry = self.entry(host, now);
        entry.stack_asks = true;
        entry.query.get_or_insert(Query { due: now + ANSWER_TIMEOUT, attempts: 1 });
    }

    /// Takes what a host says of its Ethernet address. A host that is not in the table is entered if
    /// `is_for_us`. Returns what waited for it.
    pub(crate) fn learn(
        &mut self,
        host: IpAddr,
        mac: EthernetAddress,
        is_for_us: bool,
        now: Instant,
    ) -> Option<Released> {
        if !is_for_us && !self.entries.contains_key(&host) {
            return None;
        }
        let entry = self.entry(host, now);
        let moved = entry.mac != Some(mac);
        entry.mac = Some(mac);
        entry.heard = now;
        entry.told = Some(now);
        entry.query = None;
        let stack_has = entry.stack_until.take_if(|until| now < *until).is_some();
        if !moved && stack_has {
            entry.stack_until = Some(now + STACK_LIFETIME);
        }
        let released = Released {
            incoming: std::mem::take(&mut entry.incoming),
            outgoing: std::mem::take(&mut entry.outgoing),
            stack_asks: std::mem::take(&mut entry.stack_asks) || (moved && stack_has),
        };
        if released.stack_asks || !released.incoming.is_empty() {
            entry.stack_until = Some(now + STACK_LIFETIME);
        }
        if self.latest.as_ref().is_some_and(|latest| latest.hop == host) {
            self.latest = None;
        }
        self.bytes -= released.bytes();
        Some(released)
    }

    /// Returns the Ethernet address of a host, if it is known.
    pub(crate) fn known(&self, host: IpAddr, now: Instant) -> Option<EthernetAddress> {
        self.entries.get(&host)?.usable(now)
    }

    /// Does what is due: hosts that have not answered are asked again, and given up in the end.
    pub(crate) fn service(&mut self, now: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut gone = Vec::new();
        for (host, entry) in &mut self.entries {
            let Some(query) = entry.query.as_mut().filter(|query| query.due <= now) else {
                continue;
            };
            if query.attempts >= ATTEMPTS {
                let (left, late): (Vec<_>, Vec<_>) =
                    entry.outgoing.drain(..).partition(|packet| packet.until > now);
                entry.outgoing = left.into();
                let incoming = entry.incoming.drain(..).map(|frame| frame.len()).sum::<usize>();
                self.bytes -=
                    incoming + late.iter().map(|packet| packet.frame.len()).sum::<usize>();
                if !late.is_empty() {
                    outcomes.push(Outcome::Unreachable(late));
                }
                if entry.outgoing.is_empty() {
                    gone.push(*host);
                    continue;
                }
            }
            query.attempts = query.attempts.saturating_add(1);
            if query.attempts == ATTEMPTS {
                outcomes.push(Outcome::Silent(*host));
            }
            query.due = now + ANSWER_TIMEOUT;
            outcomes.push(Outcome::Ask(*host));
        }
        for host in gone {
            self.remove(host);
        }
        outcomes
    }

    /// Forgets a host. Returns the packets that wait for it.
    pub(crate) fn give_up(&mut self, host: IpAddr) -> VecDeque<Outgoing> {
        self.remove(host).map(|entry| entry.outgoing).unwrap_or_default()
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| Some(entry.query.as_ref()?.due)).min()
    }

    /// Notes that the stack has been made anew, and knows no host.
    pub(crate) fn stack_forgets(&mut self) {
        self.latest = None;
        self.entries.values_mut().for_each(|entry| entry.stack_until = None);
    }

    fn entry(&mut self, host: IpAddr, now: Instant) -> &mut Entry {
        if self.entries.len() >= MAX_NEIGHBORS
            && !self.entries.contains_key(&host)
            && let Some(oldest) =
                self.entries.iter().min_by_key(|(_, entry)| entry.heard).map(|(host, _)| *host)
        {
            self.remove(oldest);
        }
        self.entries.entry(host).or_insert_with(|| Entry::new(now))
    }

    fn remove(&mut self, host: IpAddr) -> Option<Entry> {
        let entry = self.entries.remove(&host)?;
        self.latest = None;
        let frames = entry.outgoing.iter().map(|packet| &packet.frame).chain(&entry.incoming);
        self.bytes -= frames.map(Vec::len).sum::<usize>();
        Some(entry)
    }

    /// Drops the oldest frames that wait for a host, and of those that most wait for, as far as there
    /// are too many.
    fn limit(&mut self, host: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&host)
            && entry.incoming.len().max(entry.outgoing.len()) > MAX_WAITING
        {
            self.bytes -= entry.drop_oldest();
        }
        while self.bytes > MAX_BYTES
            && let Some(most) = self.entries.values_mut().max_by_key(|entry| entry.waiting())
        {
            self.bytes -= most.drop_oldest();
        }
    }
}

impl Released {
    fn bytes(&self) -> usize {
        let frames = self.outgoing.iter().map(|packet| &packet.frame).chain(&self.incoming);
        frames.map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0xa]);
    const B: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0xb]);
    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

    fn packet(tag: u64) -> Outgoing {
        Outgoing { frame: vec![0; 100], tag, until: Instant::now() }
    }

    fn asked(neighbors: &mut Neighbors, now: Instant) -> usize {
        let outcomes = neighbors.service(now);
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Ask(HOST))).count()
    }

    #[test]
    fn packets_wait_for_an_unknown_host_and_are_not_lost() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        assert_eq!(neighbors.admit((HOST, HOST), A, b"first", now), Admission::Wait);
        assert!(neighbors.send(HOST, packet(7), now).is_none());
        assert_eq!((asked(&mut neighbors, now), asked(&mut neighbors, now)), (1, 0));
        let released = neighbors.learn(HOST, A, true, now).unwrap();
        assert_eq!(released.incoming, [b"first"]);
        assert_eq!(released.outgoing[0].tag, 7);
        assert_eq!((neighbors.bytes, neighbors.due()), (0, None));
        assert_eq!(neighbors.admit((HOST, HOST), A, b"next", now), Admission::Pass);
        assert_eq!(neighbors.send(HOST, packet(8), now).unwrap().0, A);
    }

    #[test]
    fn a_host_that_does_not_answer_is_unreachable() {
        let (mut neighbors, mut now) = (Neighbors::default(), Instant::now());
        neighbors.send(HOST, packet(7), now);
        for _ in 0..ATTEMPTS {
            assert_eq!(asked(&mut neighbors, now), 1);
            now = neighbors.due().unwrap();
        }
        match &neighbors.service(now)[..] {
            [Outcome::Unreachable(lost)] => assert_eq!(lost[0].tag, 7),
            other => panic!("{other:?}"),
        }
        assert_eq!((neighbors.bytes, neighbors.due()), (0, None));
    }

    #[test]
    fn a_packet_waits_as_long_as_its_sender_wants() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        let until = now + 20 * ANSWER_TIMEOUT;
        neighbors.send(HOST, Outgoing { until, ..packet(7) }, now);
        neighbors.send(HOST, packet(8), now);
        neighbors.admit((HOST, HOST), A, b"first", now);
        let mut lost = Vec::new();
        while let Some(due) = neighbors.due() {
            for outcome in neighbors.service(due) {
                if let Outcome::Unreachable(packets) = outcome {
                    lost.extend(packets.into_iter().map(|packet| (packet.tag, due >= until)));
                }
            }
        }
        assert_eq!((&lost[..], neighbors.bytes), (&[(8, false), (7, true)][..], 0));
    }

    #[test]
    fn the_stack_is_given_what_it_may_have_forgotten() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.learn(HOST, A, true, now);
        assert_eq!(neighbors.admit((HOST, HOST), A, b"", now), Admission::PassWithEntry(A));
        assert_eq!(neighbors.admit((HOST, HOST), A, b"", now), Admission::Pass);
        let later = now + STACK_LIFETIME;
        assert_eq!(neighbors.admit((HOST, HOST), A, b"", later), Admission::PassWithEntry(A));
        neighbors.stack_forgets();
        assert_eq!(neighbors.admit((HOST, HOST), A, b"", later), Admission::PassWithEntry(A));
        neighbors.stack_asks(HOST, later);
        assert!(neighbors.learn(HOST, A, true, later).unwrap().stack_asks);
        // A host that is heard again and again stays known.
        let mut now = later;
        for _ in 0..10 {
            now += LIFETIME / 2;
            assert_ne!(neighbors.admit((HOST, HOST), A, b"", now), Admission::Wait);
        }
        assert_eq!(neighbors.admit((HOST, HOST), A, b"", now + LIFETIME), Admission::Wait);
    }

    #[test]
    fn a_host_that_has_moved_is_asked_and_followed() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.learn(HOST, A, true, now);
        neighbors.admit((HOST, HOST), A, b"", now);
        // Just after the host said where it is, another address does not count.
        assert_eq!(neighbors.admit((HOST, HOST), B, b"forged", now), Admission::Pass);
        assert_eq!(asked(&mut neighbors, now), 0);
        let now = now + BELIEF;
        assert_eq!(neighbors.admit((HOST, HOST), B, b"moved", now), Admission::Wait);
        assert_eq!(asked(&mut neighbors, now), 1);
        let released = neighbors.learn(HOST, B, true, now).unwrap();
        assert_eq!((released.incoming.len(), neighbors.known(HOST, now)), (1, Some(B)));
        // A stack that has the old entry is given the new one.
        neighbors.admit((HOST, HOST), B, b"", now);
        assert!(neighbors.learn(HOST, A, false, now).unwrap().stack_asks);
        let other = [10, 0, 0, 4].into();
        assert!(neighbors.learn(other, A, false, now).is_none(), "no business of ours");
        neighbors.doubt(HOST, now);
        assert_eq!(asked(&mut neighbors, now), 1);
        assert!(neighbors.send(HOST, packet(1), now).is_some());
        neighbors.heard(HOST, B, now);
        assert!(neighbors.due().is_some(), "another has sent that");
        neighbors.heard(HOST, A, now);
        assert_eq!(neighbors.due(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        for number in 0..100_000_u32 {
            let host = IpAddr::V4((0x0a00_0000 + number % 1_000).into());
            neighbors.admit((host, host), A, &[0; 1_000], now);
            neighbors.send(host, packet(0), now);
            assert!(neighbors.bytes <= MAX_BYTES && neighbors.entries.len() <= MAX_NEIGHBORS);
        }
        let mut neighbors = Neighbors::default();
        for tag in 0..1_000 {
            neighbors.send(HOST, packet(tag), now);
        }
        let outgoing = neighbors.learn(HOST, A, true, now).unwrap().outgoing;
        assert_eq!((outgoing.len(), outgoing.back().unwrap().tag), (MAX_WAITING, 999));
    }
}
