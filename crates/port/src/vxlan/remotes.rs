//! The other ends of a VXLAN: who they are, what they have sent, and how much they may.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::remote_counters::RemoteCounters;

/// The most ends that are not configured: of a group, or of an overlay.
const MAX_FOUND: usize = 1_024;
/// An end of a group that has been silent for this long makes room for another.
const MAX_SILENCE: Duration = Duration::from_mins(10);

/// The other ends of a VXLAN. A remote has the same number for as long as it is known.
///
/// The ends of an [`Overlay`](super::Overlay) come and go. A new one is relayed to, and no datagram of
/// it is a frame, until the overlay says otherwise.
#[derive(Debug)]
pub struct Remotes {
    /// Those that are configured come first, and are known for ever.
    all: Vec<Remote>,
    configured: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Whether ends that are not configured may send.
    is_open: bool,
    /// The UDP port of ends that are not configured.
    port: u16,
    /// The most group frames a second from each.
    storm: Option<u32>,
    /// The one that sent last: the next datagram is mostly from it, too.
    latest: Option<(IpAddr, usize)>,
    /// Those that frames for all go to in datagrams, and through the overlay.
    direct: Vec<usize>,
    relayed: Vec<usize>,
    /// Those that have gone, until the port has forgotten what it learned of them.
    gone: Vec<usize>,
    /// Whether a way has changed since the last look.
    has_changed: bool,
}

/// One other end.
#[derive(Debug)]
pub(super) struct Remote {
    /// Where it receives, if that is known.
    pub(super) address: Option<SocketAddr>,
    pub(super) counters: RemoteCounters,
    heard: Option<Instant>,
    allowance: Option<Allowance>,
    way: Way,
}

/// How frames reach a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In datagrams.
    Direct,
    /// Through the overlay.
    Relayed,
    /// An end of a group: with those for the group, or in datagrams.
    Group,
    /// It has gone. Its number is free.
    Gone,
}

/// Group frames that may pass now: a bucket that fills over time, and is full after a tenth of a second.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: Self::room(per_second), at: now }
    }

    fn room(per_second: u32) -> f64 {
        f64::from(per_second / 10).max(1.0)
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let filled = self.left + passed * f64::from(self.per_second);
        (self.left, self.at) = (filled.min(Self::room(self.per_second)), now);
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }
}

impl Remotes {
    pub(super) fn new(peers: &[SocketAddr], is_open: bool, port: u16, storm: Option<u32>) -> Self {
        let mut remotes = Self {
            all: Vec::new(),
            configured: peers.len(),
            by_address: HashMap::new(),
            is_open,
            port,
            storm,
            latest: None,
            direct: (0..peers.len()).collect(),
            relayed: Vec::new(),
            gone: Vec::new(),
            has_changed: true,
        };
        for peer in peers {
            remotes.add(*peer, Way::Direct, Instant::now());
        }
        remotes
    }

    /// Sets what the machines of the configured ends are called, in their order.
    pub(super) fn set_hosts(&mut self, hosts: &[String]) {
        for (remote, host) in self.all.iter_mut().zip(hosts) {
            remote.counters.host = Some(Arc::from(host.as_str()));
        }
    }

    /// Makes the remotes of an overlay: none at first.
    ///
    /// `storm` is the most group frames a second from each; `None`: no limit.
    #[must_use]
    pub fn of_overlay(storm: Option<u32>) -> Self {
        Self::new(&[], false, 0, storm)
    }

    fn add(&mut self, address: SocketAddr, way: Way, now: Instant) -> usize {
        let number = self.all.len();
        let counters = RemoteCounters::new(Some(address.ip()));
        self.by_address.insert(address.ip(), number);
        self.all.push(self.remote(Some(address), counters, way, now));
        number
    }

    fn remote(
        &self,
        address: Option<SocketAddr>,
        counters: RemoteCounters,
        way: Way,
        now: Instant,
    ) -> Remote {
        let allowance = self.storm.map(|per_second| Allowance::new(per_second, now));
        Remote { address, counters, heard: None, allowance, way }
    }

    /// Adds an end of the overlay, on the machine `host`, and returns its number; `None` when there are
    /// too many.
    pub fn join(&mut self, host: &str, now: Instant) -> Option<usize> {
        let mut counters = RemoteCounters::new(None);
        counters.host = Some(Arc::from(host));
        counters.is_relayed = true;
        let remote = self.remote(None, counters, Way::Relayed, now);
        // A number whose stations are still known is not free yet.
        let is_free =
            |number: &usize| self.all[*number].way == Way::Gone && !self.gone.contains(number);
        let number = match (0..self.all.len()).find(is_free) {
            Some(number) => {
                self.all[number] = remote;
                number
            }
            None if self.all.len() < MAX_FOUND => {
                self.all.push(remote);
                self.all.len() - 1
            }
            None => return None,
        };
        self.note_ways();
        Some(number)
    }

    /// Removes an end of the overlay. Its number may be another's from the next call on.
    ///
    /// # Panics
    /// When there is no such end.
    pub fn leave(&mut self, number: usize) {
        self.accept_from(number, None);
        self.all[number].way = Way::Gone;
        self.gone.push(number);
        self.note_ways();
    }

    /// Sets where an end of the overlay receives datagrams, as far as that is known.
    ///
    /// # Panics
    /// When there is no such end.
    pub fn set_address(&mut self, number: usize, address: Option<SocketAddr>) {
        let remote = &mut self.all[number];
        remote.address = address;
        remote.counters.address = address.map(|address| address.ip());
        self.has_changed = true;
    }

    /// Sets whether frames for an end of the overlay leave in datagrams, or through the overlay. Without
    /// an address they are relayed.
    ///
    /// # Panics
    /// When there is no such end.
    pub fn set_direct(&mut self, number: usize, direct: bool) {
        let remote = &mut self.all[number];
        let direct = direct && remote.address.is_some();
        remote.way = if direct { Way::Direct } else { Way::Relayed };
        remote.counters.is_relayed = !direct;
        self.note_ways();
    }

    /// Sets from which address datagrams are frames of an end of the overlay; `None`: none are. An
    /// address is that of one end: another one's frames are not accepted any longer.
    ///
    /// # Panics
    /// When there is no such end.
    pub fn accept_from(&mut self, number: usize, address: Option<IpAddr>) {
        self.by_address.retain(|_, known| *known != number);
        if let Some(address) = address {
            self.by_address.insert(address, number);
        }
        self.latest = None;
    }

    /// Counts frames for an end of the overlay that were sent.
    ///
    /// # Panics
    /// When there is no such end.
    pub fn count_sent(&mut self, number: usize, frames: usize, bytes: usize) {
        let counters = &mut self.all[number].counters;
        counters.tx_packets += frames as u64;
        counters.tx_bytes += bytes as u64;
    }

    /// Counts frames for an end of the overlay that were dropped.
    ///
    /// # Panics
    /// When there is no such end.
    pub fn count_unsent(&mut self, number: usize, frames: usize) {
        self.all[number].counters.tx_dropped += frames as u64;
    }

    fn note_ways(&mut self) {
        let with = |way: Way| {
            let all = self.all.iter().enumerate();
            all.filter(move |(_, remote)| remote.way == way).map(|(number, _)| number).collect()
        };
        (self.direct, self.relayed, self.has_changed) =
            (with(Way::Direct), with(Way::Relayed), true);
    }

    /// Returns one of those that have gone, once.
    pub(super) fn next_gone(&mut self) -> Option<usize> {
        self.gone.pop()
    }

    /// Returns, once, whether a way has changed.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Returns whether an end is known.
    pub(super) fn has_any(&self) -> bool {
        !(self.direct.is_empty() && self.relayed.is_empty())
    }

    /// Returns the number of the remote at `address`, from which a datagram has come, and whether it
    /// takes the place of another; `None` for a stranger.
    pub(super) fn sender(&mut self, address: IpAddr, now: Instant) -> Option<(usize, bool)> {
        let mut replaces = false;
        let number = match self.latest {
            Some((latest, number)) if latest == address => number,
            _ => match self.by_address.get(&address) {
                Some(number) => *number,
                None if self.is_open => {
                    let found;
                    (found, replaces) = self.admit(address, now)?;
                    found
                }
                None => return None,
            },
        };
        self.latest = Some((address, number));
        self.all[number].heard = Some(now);
        Some((number, replaces))
    }

    /// Makes room for an end of the group.
    fn admit(&mut self, address: IpAddr, now: Instant) -> Option<(usize, bool)> {
        let address = SocketAddr::new(address, self.port);
        if self.all.len() < MAX_FOUND {
            return Some((self.add(address, Way::Group, now), false));
        }
        let is_silent = |remote: &Remote| {
            let silence =
                remote.heard.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
            silence >= MAX_SILENCE
        };
        let found = &self.all[self.configured..];
        let number = self.configured + found.iter().position(is_silent)?;
        if let Some(old) = self.all[number].address {
            self.by_address.remove(&old.ip());
        }
        let counters = RemoteCounters::new(Some(address.ip()));
        self.all[number] = self.remote(Some(address), counters, Way::Group, now);
        self.by_address.insert(address.ip(), number);
        Some((number, true))
    }

    /// Returns whether another group frame of a remote may pass.
    pub(super) fn may_flood(&mut self, number: usize, now: Instant) -> bool {
        self.all[number].allowance.as_mut().is_none_or(|allowance| allowance.take(now))
    }

    pub(super) fn get(&self, number: usize) -> &Remote {
        &self.all[number]
    }

    pub(super) fn counters_mut(&mut self, number: usize) -> &mut RemoteCounters {
        &mut self.all[number].counters
    }

    /// Returns the remotes that frames for all go to in datagrams, each by itself.
    pub(super) fn direct(&self) -> &[usize] {
        &self.direct
    }

    /// Returns the remotes that the overlay reaches.
    pub(super) fn relayed(&self) -> &[usize] {
        &self.relayed
    }

    /// Returns whether the overlay reaches a remote, and datagrams do not.
    pub(super) fn is_relayed(&self, number: usize) -> bool {
        self.all[number].way == Way::Relayed
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Remote)> {
        self.all.iter().enumerate().filter(|(_, remote)| remote.way != Way::Gone)
    }
}

impl Remote {
    /// Returns what people call it.
    pub(super) fn name(&self) -> String {
        match (&self.counters.host, self.counters.address) {
            (Some(host), Some(address)) => format!("{host} ({address})"),
            (Some(host), None) => host.to_string(),
            (None, address) => address.map(|address| address.to_string()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[test]
    fn strangers_are_none_of_the_peers() {
        let peers = [SocketAddr::new(address(1), 4789), SocketAddr::new(address(2), 5000)];
        let mut remotes = Remotes::new(&peers, false, 4789, None);
        let now = Instant::now();
        assert_eq!(remotes.sender(address(2), now), Some((1, false)));
        assert_eq!(remotes.sender(address(1), now), Some((0, false)));
        assert_eq!(remotes.sender(address(3), now), None);
        assert_eq!(remotes.get(1).address, Some(peers[1]));
        assert_eq!(remotes.direct(), [0, 1]);
    }

    #[test]
    fn a_group_has_room_for_many_and_keeps_those_that_talk() {
        let mut remotes = Remotes::new(&[], true, 4789, None);
        let start = Instant::now();
        for number in 0..2_000 {
            remotes.sender(address(number), start);
        }
        assert_eq!(remotes.numbered().count(), MAX_FOUND);
        assert_eq!(remotes.sender(address(5_000), start), None);
        let later = start + MAX_SILENCE;
        assert_eq!(remotes.sender(address(0), later), Some((0, false)));
        assert_eq!(remotes.sender(address(5_000), later), Some((1, true)), "the first silent one");
        assert_eq!(remotes.sender(address(1), later), Some((2, true)));
        assert_eq!(remotes.sender(address(5_000), later), Some((1, false)));
        assert_eq!(remotes.direct(), [0; 0]);
    }

    #[test]
    fn a_storm_is_limited_over_time() {
        let mut remotes = Remotes::new(&[SocketAddr::new(address(1), 1)], false, 1, Some(1_000));
        let start = Instant::now();
        let passed: usize = (0..10_000_u64)
            .map(|step| start + Duration::from_micros(100 * step))
            .filter(|now| remotes.may_flood(0, *now))
            .count();
        // A second at ten times the limit.
        assert!((1_000..=1_101).contains(&passed), "{passed}");
    }

    #[test]
    fn ends_of_an_overlay_come_change_and_go() {
        let mut remotes = Remotes::of_overlay(None);
        let now = Instant::now();
        let (a, b) = (remotes.join("a", now).unwrap(), remotes.join("b", now).unwrap());
        assert_eq!((remotes.direct(), remotes.relayed()), (&[][..], &[a, b][..]));
        remotes.set_direct(a, true);
        assert!(remotes.is_relayed(a), "where to is not known");
        remotes.set_address(a, Some(SocketAddr::new(address(1), 4789)));
        remotes.set_direct(a, true);
        assert_eq!((remotes.direct(), remotes.relayed()), (&[a][..], &[b][..]));
        assert_eq!(remotes.sender(address(1), now), None, "its frames are not accepted");
        remotes.accept_from(a, Some(address(1)));
        assert_eq!(remotes.sender(address(1), now), Some((a, false)));
        remotes.accept_from(b, Some(address(1)));
        assert_eq!(remotes.sender(address(1), now), Some((b, false)), "an address is one end's");
        remotes.leave(b);
        assert_eq!(remotes.sender(address(1), now), None);
        assert_eq!(remotes.join("c", now), Some(2), "what was learned of b is still known");
        assert_eq!((remotes.next_gone(), remotes.next_gone()), (Some(b), None));
        assert_eq!(remotes.join("d", now), Some(b));
        assert_eq!(remotes.get(b).name(), "d");
        let more = (0..2 * MAX_FOUND).filter_map(|_| remotes.join("x", now)).count();
        assert_eq!(more, MAX_FOUND - 3);
    }
}
