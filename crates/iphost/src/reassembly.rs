//! Puts fragments of IPv4 and IPv6 packets together again, within bounds of number, bytes and time.
//!
//! A packet whose fragments overlap is given up with all that still comes of it (RFC 5722): no
//! honest sender makes such fragments, and what they mean depends on who puts them together. A
//! fragment that arrives twice is no overlap.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use neighbor::frame::MAX_PACKET;

/// Packets that wait for fragments at the same time. A further one takes the place of the oldest.
const MAX_PACKETS: usize = 64;
/// Bytes of all packets that wait.
const MAX_BYTES: usize = 2 << 20;
/// How long a packet waits for its fragments: as Linux does for IPv4, and RFC 8200 for IPv6.
const V4_TIMEOUT: Duration = Duration::from_secs(30);
const V6_TIMEOUT: Duration = Duration::from_mins(1);

/// What the fragments of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PacketId {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    /// The protocol for IPv4; 0 for IPv6.
    pub(crate) protocol: u8,
    pub(crate) identification: u32,
}

/// A fragment.
#[derive(Debug)]
pub(crate) struct Fragment<'f> {
    pub(crate) id: PacketId,
    /// Where its data is in the packet's, in bytes.
    pub(crate) offset: usize,
    /// Whether others follow.
    pub(crate) more: bool,
    pub(crate) data: &'f [u8],
    /// The frame up to the data, as it is to stand before the whole packet's data; used when the
    /// offset is 0.
    pub(crate) head: &'f [u8],
    /// The frame as it came.
    pub(crate) frame: &'f [u8],
}

/// The packets that wait for fragments.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    packets: HashMap<PacketId, Partial>,
    bytes: usize,
}

#[derive(Debug)]
struct Partial {
    begin: Instant,
    /// The data so far, with gaps.
    data: Vec<u8>,
    /// What of it is there: the begin of each piece, and its end.
    pieces: BTreeMap<usize, usize>,
    /// Bytes in all pieces.
    filled: usize,
    /// The length of all data, once the last fragment is there.
    total: Option<usize>,
    /// The head of the whole frame, and the frame of the first fragment.
    first: Option<(Vec<u8>, Vec<u8>)>,
    /// Fragments have overlapped or contradicted each other.
    given_up: bool,
}

impl Reassembly {
    /// Takes a fragment. Returns the frame of the whole packet, with wrong lengths in its header,
    /// when this was the last fragment that was missing.
    pub(crate) fn add(&mut self, fragment: &Fragment<'_>, now: Instant) -> Option<Vec<u8>> {
        let end = fragment.offset + fragment.data.len();
        if fragment.data.is_empty()
            || end > MAX_PACKET
            || (fragment.more && !fragment.data.len().is_multiple_of(8))
        {
            return None;
        }
        if !self.packets.contains_key(&fragment.id) {
            self.make_room(MAX_PACKETS - 1, MAX_BYTES);
        }
        let packet = self.packets.entry(fragment.id).or_insert_with(|| Partial::new(now));
        let before = packet.data.len();
        packet.add(fragment, end);
        self.bytes = self.bytes + packet.data.len() - before;
        if packet.is_whole() {
            let packet = self.remove(fragment.id)?;
            let (mut frame, _) = packet.first?;
            frame.extend_from_slice(&packet.data);
            return Some(frame);
        }
        self.make_room(MAX_PACKETS, MAX_BYTES);
        None
    }

    /// Gives up the packets that have waited too long. Returns the frames of their first
    /// fragments, as far as they came.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let old = self.packets.iter().filter(|(id, packet)| packet.due(id) <= now);
        let old: Vec<_> = old.map(|(id, _)| *id).collect();
        old.into_iter()
            .filter_map(|id| self.remove(id))
            .filter(|packet| !packet.given_up)
            .filter_map(|packet| packet.first)
            .map(|(_, frame)| frame)
            .collect()
    }

    /// Returns whether packets wait for fragments.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    fn remove(&mut self, id: PacketId) -> Option<Partial> {
        let packet = self.packets.remove(&id)?;
        self.bytes -= packet.data.len();
        Some(packet)
    }

    /// Gives up the oldest packets until these numbers are not exceeded.
    fn make_room(&mut self, packets: usize, bytes: usize) {
        while (self.packets.len() > packets || self.bytes > bytes)
            && let Some(id) =
                self.packets.iter().min_by_key(|(_, packet)| packet.begin).map(|(id, _)| *id)
        {
            self.remove(id);
        }
    }
}

impl Partial {
    fn new(begin: Instant) -> Self {
        Self {
            begin,
            data: Vec::new(),
            pieces: BTreeMap::new(),
            filled: 0,
            total: None,
            first: None,
            given_up: false,
        }
    }

    fn due(&self, id: &PacketId) -> Instant {
        self.begin + if id.from.is_ipv4() { V4_TIMEOUT } else { V6_TIMEOUT }
    }

    fn add(&mut self, fragment: &Fragment<'_>, end: usize) {
        let begin = fragment.offset;
        let contradicts = self.contradicts(fragment, end);
        let is_known = self.pieces.get(&begin) == Some(&end) && !contradicts;
        if self.given_up || is_known {
            return;
        }
        let before = self.pieces.range(..end).next_back();
        if contradicts || before.is_some_and(|(_, other_end)| *other_end > begin) {
            self.give_up();
            return;
        }
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[begin..end].copy_from_slice(fragment.data);
        self.pieces.insert(begin, end);
        self.filled += end - begin;
        // Neighbouring pieces stay apart, so that one that comes again is known.
        if begin == 0 {
            self.first = Some((fragment.head.to_vec(), fragment.frame.to_vec()));
        }
        if !fragment.more {
            self.total = Some(end);
        }
    }

    /// Returns whether the fragment and those before cannot be of one packet.
    fn contradicts(&self, fragment: &Fragment<'_>, end: usize) -> bool {
        match self.total {
            Some(total) => end > total || (!fragment.more && end != total),
            None => !fragment.more && self.data.len() > end,
        }
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.data = Vec::new();
        self.pieces.clear();
    }

    fn is_whole(&self) -> bool {
        // No two pieces overlap.
        self.total == Some(self.filled) && !self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(identification: u32) -> PacketId {
        let [from, to] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        PacketId { from, to, protocol: 1, identification }
    }

    fn add(
        reassembly: &mut Reassembly,
        packet: u32,
        offset: usize,
        data: &[u8],
        more: bool,
    ) -> Option<Vec<u8>> {
        let fragment =
            Fragment { id: id(packet), offset, more, data, head: b"head", frame: b"frame" };
        reassembly.add(&fragment, Instant::now())
    }

    #[test]
    fn fragments_in_any_order_and_twice_make_the_packet() {
        let data: Vec<u8> = (0..100).collect();
        let pieces = [(0, 32, true), (32, 40, true), (40, 96, true), (96, 100, false)];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let mut reassembly = Reassembly::default();
            let mut order = [&pieces[..], &pieces[..2]].concat();
            random.shuffle(&mut order);
            let mut whole = None;
            for (begin, end, more) in order {
                let frame = add(&mut reassembly, 1, begin, &data[begin..end], more);
                whole = whole.or(frame);
            }
            assert_eq!(whole, Some([&b"head"[..], &data].concat()));
        }
    }

    #[test]
    fn what_overlaps_or_contradicts_is_given_up_whole() {
        for (offset, len, more) in [
            (8, 16, true),
            (0, 24, true),
            (16, 8, true),
            (24, 8, false),
            (40, 8, true),
            (8, 8, false),
        ] {
            let mut reassembly = Reassembly::default();
            assert_eq!(add(&mut reassembly, 1, 0, &[1; 24], true), None);
            assert_eq!(add(&mut reassembly, 1, 32, &[3; 8], false), None);
            let odd = add(&mut reassembly, 1, offset, &vec![2; len], more);
            assert_eq!(odd, None);
            let missing = add(&mut reassembly, 1, 24, &[2; 8], true);
            // The first piece came again, and nothing more.
            let again = (offset, len) == (0, 24);
            assert_eq!(missing.is_some(), again, "{offset} {len} {more}");
            assert_eq!(add(&mut reassembly, 1, 0, &[1; 24], true), None);
        }
    }

    #[test]
    fn no_packet_is_longer_than_ip_allows() {
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 1, 65_528, &[0; 8], false), None);
        assert_eq!(add(&mut reassembly, 1, 0, &[0; 9], true), None);
        assert_eq!(add(&mut reassembly, 1, 0, &[], true), None);
        assert!(reassembly.is_empty());
    }

    #[test]
    fn number_bytes_and_time_are_bounded() {
        let mut reassembly = Reassembly::default();
        for packet in 0..1_000 {
            add(&mut reassembly, packet, 65_000, &[0; 8], true);
            assert!(reassembly.bytes <= MAX_BYTES && reassembly.packets.len() <= MAX_PACKETS);
        }
        for packet in 0..1_000 {
            add(&mut reassembly, packet, 0, &[0; 8], true);
            assert!(reassembly.bytes <= MAX_BYTES && reassembly.packets.len() <= MAX_PACKETS);
        }
        assert_eq!(reassembly.expire(Instant::now()), Vec::<Vec<u8>>::new());
        let expired = reassembly.expire(Instant::now() + V4_TIMEOUT);
        assert_eq!((expired.len(), reassembly.bytes), (MAX_PACKETS, 0));
        assert_eq!(expired[0], b"frame");
        assert!(reassembly.is_empty());
        // The newest packet gets through whatever others left.
        (0..1_000).for_each(|packet| {
            add(&mut reassembly, packet, 65_000, &[0; 8], true);
        });
        assert_eq!(add(&mut reassembly, 9_999, 0, &[5; 8], true), None);
        assert!(add(&mut reassembly, 9_999, 8, &[6; 8], false).is_some());
    }
}
