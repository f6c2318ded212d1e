//! The other ends of a VXLAN: who they are, what they have sent, and how much they may.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::remote_counters::RemoteCounters;

/// The most ends that a group may have.
const MAX_FOUND: usize = 1_024;
/// An end of a group that has been silent for this long makes room for another.
const MAX_SILENCE: Duration = Duration::from_mins(10);

/// See the module. A remote has the same number for as long as it is known.
#[derive(Debug)]
pub(super) struct Remotes {
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
}

/// One other end.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) address: SocketAddr,
    pub(super) counters: RemoteCounters,
    heard: Option<Instant>,
    allowance: Option<Allowance>,
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
        };
        for peer in peers {
            remotes.add(*peer, Instant::now());
        }
        remotes
    }

    fn add(&mut self, address: SocketAddr, now: Instant) -> usize {
        let number = self.all.len();
        let allowance = self.storm.map(|per_second| Allowance::new(per_second, now));
        self.by_address.insert(address.ip(), number);
        self.all.push(Remote {
            address,
            counters: RemoteCounters::new(address.ip()),
            heard: None,
            allowance,
        });
        number
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
            return Some((self.add(address, now), false));
        }
        let is_silent = |remote: &Remote| {
            let silence =
                remote.heard.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
            silence >= MAX_SILENCE
        };
        let found = &self.all[self.configured..];
        let number = self.configured + found.iter().position(is_silent)?;
        let allowance = self.storm.map(|per_second| Allowance::new(per_second, now));
        let old = &mut self.all[number];
        self.by_address.remove(&old.address.ip());
        *old =
            Remote { address, counters: RemoteCounters::new(address.ip()), heard: None, allowance };
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

    /// Returns how many peers are configured. They have the lowest numbers.
    pub(super) fn configured(&self) -> usize {
        self.configured
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Remote)> {
        self.all.iter().enumerate()
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
        assert_eq!(remotes.get(1).address.port(), 5000);
        assert_eq!(remotes.configured(), 2);
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
        assert_eq!(remotes.configured(), 0);
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
}
