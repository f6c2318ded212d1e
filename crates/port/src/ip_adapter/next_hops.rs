//! The stations on the LAN that an IP peer sends to, and what waits for those that are not known yet.
//!
//! A peer can name any number of hosts, so all of this is bounded: what is known, what waits, and for
//! how many hosts the LAN is asked at a time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::EthernetAddress;

/// How often a host is asked for, and how long it has to answer each time.
const ATTEMPTS: u8 = 3;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a host is not asked for again after it was heard. Then it is asked while what is known of
/// it is still used, and is forgotten if it does not answer.
const FRESH: Duration = Duration::from_mins(1);
/// The most hosts that are known. A further one takes the place of the one that was heard first.
const MAX_KNOWN: usize = 1_024;
/// The most hosts that are asked for at a time: a peer that tries all addresses of a network makes no
/// more broadcasts than 3 for each of these in 1.5 s.
const MAX_ASKED: usize = 64;
/// The most frames that wait for one host; the oldest is dropped.
const MAX_WAITING: usize = 64;
/// The most bytes of frames that wait for all hosts.
const MAX_BYTES: usize = 512 << 10;

/// The table.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    hosts: HashMap<IpAddr, Host>,
    /// Hosts that are asked for.
    asked: usize,
    /// Bytes of all frames that wait.
    bytes: usize,
    /// When the next host is asked again or given up.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Host {
    mac: Option<EthernetAddress>,
    /// When it last said where it is.
    heard: Instant,
    query: Option<Query>,
    waiting: VecDeque<Vec<u8>>,
}

/// A host is asked for.
#[derive(Debug)]
struct Query {
    due: Instant,
    attempts: u8,
}

/// Where a packet for a host goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To this address. It need not be looked up again until then.
    Known(EthernetAddress, Instant),
    /// The host is asked for; the frame may [wait](NextHops::wait).
    Asked,
    /// Too many hosts are asked for.
    Busy,
}

impl NextHops {
    /// Returns where a packet for `host` goes, and asks for the host if that is due.
    pub(super) fn find(&mut self, host: IpAddr, now: Instant) -> Way {
        let may_ask = self.asked < MAX_ASKED;
        if let Some(entry) = self.hosts.get_mut(&host) {
            let is_fresh = now < entry.heard + FRESH;
            if let Some(mac) = entry.mac {
                if !is_fresh && entry.query.is_none() && may_ask {
                    entry.query = Some(Query { due: now, attempts: 0 });
                    self.asked += 1;
                    self.due = Some(now);
                }
                let until = if is_fresh { entry.heard + FRESH } else { now + ANSWER_TIMEOUT };
                return Way::Known(mac, until);
            }
            return Way::Asked;
        }
        if !may_ask {
            return Way::Busy;
        }
        self.make_room();
        let query = Some(Query { due: now, attempts: 0 });
        self.hosts.insert(host, Host { mac: None, heard: now, query, waiting: VecDeque::new() });
        self.asked += 1;
        self.due = Some(now);
        Way::Asked
    }

    /// Lets a frame wait for a host that is [asked](Way::Asked) for. Returns how many others are
    /// dropped for it.
    pub(super) fn wait(&mut self, host: IpAddr, frame: Vec<u8>) -> usize {
        let Some(entry) = self.hosts.get_mut(&host) else { return 1 };
        self.bytes += frame.len();
        entry.waiting.push_back(frame);
        let mut dropped = 0;
        if entry.waiting.len() > MAX_WAITING {
            self.bytes -= entry.drop_oldest();
            dropped += 1;
        }
        while self.bytes > MAX_BYTES
            && let Some(most) = self.hosts.values_mut().max_by_key(|entry| entry.waiting.len())
        {
            self.bytes -= most.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Takes what a host says of where it is. One that is not in the table is entered if `is_for_us`,
    /// and one that is known is moved if `overrides`. Returns the frames that wait for it, addressed.
    pub(super) fn learn(
        &mut self,
        host: IpAddr,
        mac: EthernetAddress,
        (is_for_us, overrides): (bool, bool),
        now: Instant,
    ) -> VecDeque<Vec<u8>> {
        if !self.hosts.contains_key(&host) {
            if is_for_us {
                self.make_room();
                let entry =
                    Host { mac: Some(mac), heard: now, query: None, waiting: VecDeque::new() };
                self.hosts.insert(host, entry);
            }
            return VecDeque::new();
        }
        let Some(entry) = self.hosts.get_mut(&host) else { return VecDeque::new() };
        if !overrides && entry.mac.is_some_and(|known| known != mac) {
            return VecDeque::new();
        }
        (entry.mac, entry.heard) = (Some(mac), now);
        self.asked -= usize::from(entry.query.take().is_some());
        let mut released = std::mem::take(&mut entry.waiting);
        for frame in &mut released {
            self.bytes -= frame.len();
            frame[..6].copy_from_slice(&mac.0);
        }
        released
    }

    /// Does what is due: passes the hosts that are to be asked for to `ask`. Returns how many frames
    /// are dropped because the host that they are for is not there.
    pub(super) fn service(&mut self, now: Instant, ask: &mut dyn FnMut(IpAddr)) -> usize {
        if self.due.is_none_or(|due| now < due) {
            return 0;
        }
        let mut dropped = 0;
        let (asked, bytes) = (&mut self.asked, &mut self.bytes);
        let mut next: Option<Instant> = None;
        self.hosts.retain(|host, entry| {
            let Some(query) = &mut entry.query else { return true };
            if query.due <= now {
                if query.attempts == ATTEMPTS {
                    *asked -= 1;
                    *bytes -= entry.waiting.iter().map(Vec::len).sum::<usize>();
                    dropped += entry.waiting.len();
                    return false;
                }
                query.attempts += 1;
                query.due = now + ANSWER_TIMEOUT;
                ask(*host);
            }
            next = Some(next.map_or(query.due, |next| next.min(query.due)));
            true
        });
        self.due = next;
        dropped
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes room for a host: forgets the one that was heard first, of those that are not asked for.
    fn make_room(&mut self) {
        if self.hosts.len() < MAX_KNOWN {
            return;
        }
        let idle = self.hosts.iter().filter(|(_, entry)| entry.query.is_none());
        if let Some(first) = idle.min_by_key(|(_, entry)| entry.heard).map(|(host, _)| *host) {
            self.hosts.remove(&first);
        }
    }
}

impl Host {
    /// Drops the oldest frame that waits; returns its length.
    fn drop_oldest(&mut self) -> usize {
        self.waiting.pop_front().map_or(0, |frame| frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 7]);
    const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 8]);

    fn host(number: usize) -> IpAddr {
        let [a, b] = u16::try_from(number).expect("small").to_be_bytes();
        [10, 1, a, b].into()
    }

    fn asked(hops: &mut NextHops, now: Instant) -> (Vec<IpAddr>, usize) {
        let mut asked = Vec::new();
        let dropped = hops.service(now, &mut |host| asked.push(host));
        (asked, dropped)
    }

    #[test]
    fn packets_wait_for_an_answer_in_order() {
        let (mut hops, now) = (NextHops::default(), Instant::now());
        for number in 0..3 {
            assert_eq!(hops.find(host(1), now), Way::Asked);
            assert_eq!(hops.wait(host(1), vec![number; 20]), 0);
        }
        assert_eq!(asked(&mut hops, now), (vec![host(1)], 0));
        assert_eq!(asked(&mut hops, now), (vec![], 0), "once");
        let released = hops.learn(host(1), MAC, (true, true), now);
        let numbers: Vec<u8> = released.iter().map(|frame| frame[19]).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert!(released.iter().all(|frame| frame[..6] == MAC.0));
        assert_eq!(hops.find(host(1), now), Way::Known(MAC, now + FRESH));
        assert_eq!((hops.bytes, hops.asked), (0, 0));
    }

    #[test]
    fn a_host_that_does_not_answer_is_given_up() {
        let (mut hops, begin) = (NextHops::default(), Instant::now());
        hops.find(host(1), begin);
        hops.wait(host(1), vec![0; 20]);
        for attempt in 0..u32::from(ATTEMPTS) {
            let now = begin + attempt * ANSWER_TIMEOUT;
            assert_eq!(asked(&mut hops, now), (vec![host(1)], 0));
        }
        let now = begin + u32::from(ATTEMPTS) * ANSWER_TIMEOUT;
        assert_eq!(asked(&mut hops, now), (vec![], 1), "what waits is dropped and counted");
        assert_eq!((hops.hosts.len(), hops.asked, hops.bytes, hops.due), (0, 0, 0, None));
    }

    #[test]
    fn what_is_known_is_used_while_it_is_asked_about() {
        let (mut hops, begin) = (NextHops::default(), Instant::now());
        hops.learn(host(1), MAC, (true, true), begin);
        let late = begin + FRESH;
        assert!(matches!(hops.find(host(1), late), Way::Known(MAC, _)));
        assert_eq!(asked(&mut hops, late), (vec![host(1)], 0));
        hops.learn(host(1), MAC, (true, true), late);
        assert_eq!(hops.find(host(1), late), Way::Known(MAC, late + FRESH));
        // It moves, and then it is gone.
        assert_eq!(hops.learn(host(1), OTHER, (true, false), late).len(), 0);
        assert!(matches!(hops.find(host(1), late), Way::Known(MAC, _)), "not overridden");
        hops.learn(host(1), OTHER, (true, true), late);
        let mut now = late + FRESH;
        assert!(matches!(hops.find(host(1), now), Way::Known(OTHER, _)));
        while let Some(due) = hops.due() {
            now = due;
            asked(&mut hops, now);
        }
        assert_eq!(hops.find(host(1), now), Way::Asked);
    }

    #[test]
    fn all_of_it_is_bounded() {
        let (mut hops, now) = (NextHops::default(), Instant::now());
        for number in 0..2 * MAX_ASKED {
            let right = if number < MAX_ASKED { Way::Asked } else { Way::Busy };
            assert_eq!(hops.find(host(number), now), right);
        }
        let mut dropped = 0;
        for number in 0..2 * MAX_WAITING {
            dropped += hops.wait(host(0), vec![u8::try_from(number).expect("small"); 60]);
        }
        assert_eq!(dropped, MAX_WAITING);
        for number in 0..MAX_ASKED {
            for _ in 0..MAX_WAITING {
                dropped += hops.wait(host(number), vec![0; 1_514]);
            }
        }
        assert!(hops.bytes <= MAX_BYTES);
        let waiting: usize = hops.hosts.values().map(|entry| entry.waiting.len()).sum();
        assert_eq!(waiting + dropped, 2 * MAX_WAITING + MAX_ASKED * MAX_WAITING);
        for number in 0..2 * MAX_KNOWN {
            hops.learn(host(number), MAC, (true, true), now);
        }
        assert!(hops.hosts.len() <= MAX_KNOWN);
        assert_eq!((hops.asked, hops.bytes), (0, 0), "all have answered");
        hops.learn(host(9_999), MAC, (false, true), now);
        assert!(!hops.hosts.contains_key(&host(9_999)), "it was not said to the port");
    }
}
