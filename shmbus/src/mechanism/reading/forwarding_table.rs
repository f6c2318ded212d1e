//! The forwarding table of a reading: behind which station an address is.
//!
//! A learning station stands for a whole segment, as a port of a switch does. A source address of
//! its own frames is behind it; one of any other frame is elsewhere on the bus. The station does
//! not need a frame whose destination is elsewhere or behind another station. It needs those for
//! unknown addresses, for groups and for the broadcast address.
//!
//! An address that sends from another place has moved. One that stays silent for [`MAX_AGE`] is
//! forgotten. A segment that floods addresses fills its own side of the table only; addresses
//! beyond the limit stay unknown, so more is forwarded than necessary and nothing is lost.
//!
//! What was sent before a station began to learn does not count for that station: frames of its
//! predecessor, whose addresses are now behind it, would say that they are elsewhere. Nor does a
//! frame count that lies before the one by which its source is known: readers that lag meet it
//! late. Hence the stamps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::mechanism::ring::position::Position;

/// How long an address may stay silent before it is forgotten, as IEEE 802.1D recommends.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// The most addresses on each side: behind one station, or elsewhere.
pub(super) const MAX_ADDRESSES: usize = 2_048;
/// The shortest time between two searches of the table, of which a side is full, for addresses to
/// forget.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

pub(super) type Address = [u8; 6];

/// Returns whether it is the address of one station: neither a group nor zero.
#[inline]
pub(super) fn is_station(address: Address) -> bool {
    address[0] & 1 == 0 && address != [0; 6]
}

/// A place on the ring, as a number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// `ring_size` is that of the only ring on which stamps are compared.
    pub(super) fn new(position: Position, ring_size: u32) -> Self {
        Self(position.since(Position { generation: 0, offset: 0 }, ring_size))
    }

    fn is_before(self, other: Self) -> bool {
        (1..=i64::MAX.unsigned_abs()).contains(&other.0.wrapping_sub(self.0))
    }

    /// Whether it lies before the other, and both may be on a ring of this size at once.
    fn is_shortly_before(self, other: Self, ring_size: u32) -> bool {
        (1..=u64::from(ring_size)).contains(&other.0.wrapping_sub(self.0))
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind the learning station with this number.
    Behind(usize),
    Elsewhere,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    last_seen: Instant,
    /// Where the latest frame lies that it sent.
    stamp: Stamp,
    /// Where it stands in the list of its side, if it is behind a station.
    index: usize,
}

/// The addresses behind one learning station.
#[derive(Debug, Default)]
struct Side {
    addresses: Vec<Address>,
    revision: u64,
    /// Where the station began to learn.
    since: Stamp,
}

/// Where addresses are, for any number of learning stations. They are known by numbers, which are
/// small.
#[derive(Debug)]
pub(super) struct ForwardingTable {
    entries: HashMap<Address, Entry>,
    elsewhere: usize,
    /// By number of the station.
    sides: Vec<Option<Side>>,
    swept: Instant,
    newest_since: Stamp,
    ring_size: u32,
    changes: u64,
}

impl ForwardingTable {
    /// Makes a table without addresses.
    pub(super) fn new(ring_size: u32) -> Self {
        Self {
            entries: HashMap::new(),
            elsewhere: 0,
            sides: Vec::new(),
            swept: Instant::now(),
            newest_since: Stamp::default(),
            ring_size,
            changes: 0,
        }
    }

    /// Begins to learn what is behind a station, from a place on the ring on. Makes room for it, so
    /// that learning does not allocate.
    pub(super) fn add(&mut self, station: usize, since: Stamp) {
        if self.sides.len() <= station {
            self.sides.resize_with(station + 1, || None);
        }
        self.sides[station] =
            Some(Side { addresses: Vec::with_capacity(MAX_ADDRESSES), revision: 0, since });
        if self.newest_since.is_before(since) {
            self.newest_since = since;
        }
        self.changes += 1;
        let sides = 1 + self.sides.iter().flatten().count();
        self.entries.reserve((sides * MAX_ADDRESSES).saturating_sub(self.entries.len()));
    }

    /// Forgets the station. For the others, what is behind it is elsewhere.
    pub(super) fn remove(&mut self, station: usize) {
        let Some(side) = self.sides.get_mut(station).and_then(Option::take) else { return };
        self.changes += 1;
        for address in side.addresses {
            if self.is_full(Place::Elsewhere) {
                self.entries.remove(&address);
            } else if let Some(entry) = self.entries.get_mut(&address) {
                entry.place = Place::Elsewhere;
                self.elsewhere += 1;
            }
        }
    }

    /// Whether what is behind the station is learned.
    pub(super) fn learns(&self, station: usize) -> bool {
        matches!(self.sides.get(station), Some(Some(_)))
    }

    /// Counts the changes of answers that [`place`](Self::place) and [`wants`](Self::wants) give.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns where an address is, and when it was last seen; `None`: unknown.
    pub(super) fn place(&self, address: Address, now: Instant) -> Option<(Place, Stamp)> {
        let entry = self.entries.get(&address).filter(|entry| !is_old(entry.last_seen, now))?;
        Some((entry.place, entry.stamp))
    }

    /// Whether what was seen at this place on the ring counts for all stations.
    pub(super) fn counts_for_all(&self, stamp: Stamp) -> bool {
        !stamp.is_before(self.newest_since)
    }

    /// Returns whether a learning station needs a frame to `destination`.
    pub(super) fn wants(&self, station: usize, destination: Address, now: Instant) -> bool {
        let since = self.side(station).map(|side| side.since);
        !is_station(destination)
            || self.place(destination, now).is_none_or(|(place, stamp)| {
                place == Place::Behind(station) || since.is_some_and(|since| stamp.is_before(since))
            })
    }

    /// A station sent a frame with this source address, which is on the ring by now.
    pub(super) fn learn_sent(&mut self, address: Address, station: usize, now: Instant) {
        // It lies after the places where the stations began, and after all frames that were read.
        let known = self.entries.get(&address).map(|entry| entry.stamp);
        let stamp = known.filter(|known| self.newest_since.is_before(*known));
        let stamp = stamp.unwrap_or(self.newest_since);
        self.learn(address, Place::Behind(station), stamp, now);
    }

    /// Learns that an address sent from a place, by a frame that lies at `stamp`.
    pub(super) fn learn(&mut self, address: Address, place: Place, stamp: Stamp, now: Instant) {
        if !is_station(address) {
            return;
        }
        let place = match place {
            Place::Behind(station) if !self.learns(station) => Place::Elsewhere,
            place => place,
        };
        if let Some(entry) = self.entries.get_mut(&address)
            && (entry.place == place || stamp.is_shortly_before(entry.stamp, self.ring_size))
        {
            if entry.place != place {
                return;
            }
            // An answer changes when it was too old, or did not count for all.
            let counted = !entry.stamp.is_before(self.newest_since);
            self.changes += u64::from(!counted || is_old(entry.last_seen, now));
            entry.last_seen = now;
            if !stamp.is_shortly_before(entry.stamp, self.ring_size) {
                entry.stamp = stamp;
            }
            return;
        }
        self.forget(address);
        if self.is_full(place) {
            self.sweep(now);
        }
        if self.is_full(place) {
            return;
        }
        self.changes += 1;
        let mut index = 0;
        match place {
            Place::Elsewhere => self.elsewhere += 1,
            Place::Behind(station) => {
                if let Some(side) = &mut self.sides[station] {
                    index = side.addresses.len();
                    side.addresses.push(address);
                    side.revision += 1;
                }
            }
        }
        self.entries.insert(address, Entry { place, last_seen: now, stamp, index });
    }

    /// Returns a number that changes when the addresses behind a station do.
    pub(super) fn revision(&self, station: usize) -> u64 {
        self.side(station).map_or(0, |side| side.revision)
    }

    /// Returns the addresses behind a station, in no order.
    pub(super) fn addresses(&self, station: usize) -> &[Address] {
        self.side(station).map_or(&[], |side| &side.addresses)
    }

    fn side(&self, station: usize) -> Option<&Side> {
        self.sides.get(station).and_then(Option::as_ref)
    }

    fn is_full(&self, place: Place) -> bool {
        let addresses = match place {
            Place::Elsewhere => self.elsewhere,
            Place::Behind(station) => self.addresses(station).len(),
        };
        addresses >= MAX_ADDRESSES
    }

    fn forget(&mut self, address: Address) {
        let Some(entry) = self.entries.remove(&address) else { return };
        self.changes += 1;
        match entry.place {
            Place::Elsewhere => self.elsewhere -= 1,
            Place::Behind(station) => {
                let Some(Some(side)) = self.sides.get_mut(station) else { return };
                side.addresses.swap_remove(entry.index);
                side.revision += 1;
                if let Some(moved) = side.addresses.get(entry.index)
                    && let Some(moved) = self.entries.get_mut(moved)
                {
                    moved.index = entry.index;
                }
            }
        }
    }

    /// Forgets what is old, unless that was done a moment ago.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let old =
            |(address, entry): (&Address, &Entry)| is_old(entry.last_seen, now).then_some(*address);
        let old: Vec<_> = self.entries.iter().filter_map(old).collect();
        for address in old {
            self.forget(address);
        }
    }
}

fn is_old(last_seen: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last_seen) >= MAX_AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Address = [2, 0, 0, 0, 0, 0xa];
    const BOB: Address = [2, 0, 0, 0, 0, 0xb];
    const CAROL: Address = [2, 0, 0, 0, 0, 0xc];
    const GROUP: Address = [1, 0, 0x5e, 0, 0, 1];

    /// The number of the station whose peer sends.
    const PORT: usize = 3;

    /// A table with one learning station, and a clock that the test sets.
    struct Test {
        table: ForwardingTable,
        /// Bytes sent so far.
        sent: u64,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            let mut table = ForwardingTable::new(1_000);
            table.add(PORT, Stamp(0));
            Self { table, sent: 0, now: Instant::now() }
        }

        fn sends(&mut self, source: Address, place: Place) {
            self.sent += 100;
            self.table.learn(source, place, Stamp(self.sent), self.now);
        }

        fn peer_sends(&mut self, source: Address) {
            self.sends(source, Place::Behind(PORT));
        }

        /// Sends a frame on the bus. Returns whether the table forwards it to the peer.
        fn on_bus(&mut self, destination: Address, source: Address) -> bool {
            let wants = self.table.wants(PORT, destination, self.now);
            self.sends(source, Place::Elsewhere);
            wants
        }
    }

    #[test]
    fn only_what_the_peer_needs_is_forwarded() {
        let mut test = Test::new();
        test.peer_sends(ALICE);
        assert!(test.on_bus(ALICE, BOB), "it is for the peer");
        assert!(test.on_bus(CAROL, BOB), "Carol is unknown");
        assert!(!test.on_bus(BOB, CAROL), "Bob has sent on the bus");
        assert!(!test.on_bus(CAROL, BOB), "now Carol has, too");
        assert!(test.on_bus([0xff; 6], BOB) && test.on_bus(GROUP, BOB));
    }

    #[test]
    fn an_address_may_move_in_both_directions() {
        let mut test = Test::new();
        test.peer_sends(ALICE);
        assert!(!{
            test.on_bus([0xff; 6], ALICE);
            test.on_bus(ALICE, BOB)
        });
        test.peer_sends(ALICE);
        assert!(test.on_bus(ALICE, BOB));
        test.peer_sends(BOB);
        assert!(test.on_bus(BOB, CAROL));
    }

    #[test]
    fn a_silent_address_ages_out_and_one_that_sends_does_not() {
        let mut test = Test::new();
        test.on_bus(GROUP, BOB);
        test.on_bus(GROUP, CAROL);
        test.now += MAX_AGE.saturating_sub(Duration::from_secs(1));
        test.on_bus(GROUP, BOB);
        assert!(!test.on_bus(CAROL, BOB));
        test.now += Duration::from_secs(1);
        assert!(test.on_bus(CAROL, ALICE), "Carol is old");
        assert!(!test.on_bus(BOB, ALICE));
    }

    #[test]
    fn groups_and_zero_are_no_stations() {
        let mut test = Test::new();
        for address in [GROUP, [0xff; 6], [0; 6]] {
            test.peer_sends(address);
            test.on_bus(GROUP, address);
        }
        assert!(test.table.entries.is_empty());
    }

    fn made_up(number: u32) -> Address {
        let [a, b, c, d] = number.to_be_bytes();
        [4, 0, a, b, c, d]
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_leaves_the_other_side_alone() {
        let mut test = Test::new();
        let room = test.table.entries.capacity();
        for number in 0..100_000 {
            test.on_bus(GROUP, made_up(number));
        }
        assert_eq!((test.table.elsewhere, test.table.entries.capacity()), (MAX_ADDRESSES, room));
        test.peer_sends(ALICE);
        assert!(test.on_bus(ALICE, BOB));
        assert!(test.on_bus(BOB, CAROL), "there is no room for Bob, so he is unknown");
        // Aged addresses make room.
        test.now += MAX_AGE;
        test.on_bus(GROUP, BOB);
        assert!(!test.on_bus(BOB, CAROL));
        assert!(test.table.elsewhere < 10);
    }

    #[test]
    fn a_flood_from_a_peer_leaves_other_stations_alone() {
        let mut test = Test::new();
        test.table.add(0, Stamp(test.sent));
        let room = test.table.entries.capacity();
        for number in 0..10_000 {
            test.peer_sends(made_up(number));
        }
        test.sends(ALICE, Place::Behind(0));
        assert_eq!(test.table.addresses(PORT).len(), MAX_ADDRESSES);
        assert_eq!(test.table.addresses(0), [ALICE]);
        assert_eq!(test.table.entries.capacity(), room);
        assert!(!test.on_bus(ALICE, BOB), "she is behind the other one");
    }

    #[test]
    fn each_station_counts_the_changes_of_what_is_behind_it() {
        let mut test = Test::new();
        test.table.add(0, Stamp(test.sent));
        let mut before = test.table.revision(PORT);
        let mut changed = |test: &Test| {
            let revision = test.table.revision(PORT);
            std::mem::replace(&mut before, revision) != revision
        };
        for address in [ALICE, BOB, CAROL] {
            test.peer_sends(address);
            assert!(changed(&test));
        }
        test.peer_sends(BOB);
        test.sends(GROUP, Place::Behind(PORT));
        test.sends([4; 6], Place::Behind(0));
        test.on_bus(BOB, [6; 6]);
        assert!(!changed(&test));
        test.sends(ALICE, Place::Behind(0));
        assert!(changed(&test));
        test.on_bus(ALICE, CAROL);
        assert!(changed(&test));
        assert_eq!(test.table.addresses(PORT), [BOB]);
        // The list of each side agrees with the entries, also after its middle was taken out.
        assert_eq!(test.table.addresses(0), [[4; 6], ALICE]);
        test.table.remove(0);
        assert!(test.table.addresses(0).is_empty());
        assert_eq!(test.table.place(ALICE, test.now).map(|known| known.0), Some(Place::Elsewhere));
        assert_eq!(test.table.place(BOB, test.now).map(|known| known.0), Some(Place::Behind(PORT)));
    }

    #[test]
    fn what_was_known_before_a_station_began_does_not_count_for_it() {
        let mut test = Test::new();
        test.on_bus(GROUP, ALICE);
        test.table.add(0, Stamp(test.sent + 100));
        assert!(test.table.wants(0, ALICE, test.now));
        assert!(!test.table.wants(PORT, ALICE, test.now));
        test.on_bus(GROUP, ALICE);
        assert!(!test.table.wants(0, ALICE, test.now));
    }

    #[test]
    fn a_frame_that_is_met_late_moves_nothing() {
        let mut test = Test::new();
        test.on_bus(GROUP, ALICE);
        test.peer_sends(ALICE);
        test.table.learn(ALICE, Place::Elsewhere, Stamp(test.sent - 50), test.now);
        assert!(test.on_bus(ALICE, BOB));
        // After a jump of the ring's header, places mean nothing.
        test.table.learn(ALICE, Place::Behind(PORT), Stamp(1 << 50), test.now);
        test.on_bus(GROUP, ALICE);
        assert!(!test.on_bus(ALICE, BOB));
        // What the station itself sends is newer than all that was read.
        test.table.learn_sent(ALICE, PORT, test.now);
        assert!(test.on_bus(ALICE, BOB));
    }
}
