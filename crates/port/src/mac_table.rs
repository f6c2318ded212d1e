//! The address table of a learning port: which stations are behind the port, and which are on the
//! bus.
//!
//! A source address that comes from the peer is behind the port; one that appears on the bus is on
//! the bus. The table withholds from the peer a frame whose destination is on the bus. It forwards
//! frames to unknown addresses, to groups and to the broadcast address. An address that sends from
//! the other side has moved. An address that stays silent for [`MAX_AGE`] is forgotten. A peer that
//! floods addresses fills the table of its own side only; addresses beyond the limit stay unknown,
//! so more is forwarded than necessary and nothing is lost.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use shmbus::{MIN_FRAME, ReceiveFilter};

/// How long an address may stay silent before it is forgotten, as IEEE 802.1D recommends.
const MAX_AGE: Duration = Duration::from_mins(5);
/// The most addresses on each side.
const MAX_ADDRESSES: usize = 2_048;
/// The shortest time between two searches of a full table for addresses to forget.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The most source addresses of one read of the bus; a later read learns the others.
const MAX_PENDING: usize = 256;

type Address = [u8; 6];

/// Selects which frames of the bus the station of a port receives.
#[derive(Debug)]
pub(crate) struct MacTable {
    peer: Side,
    bus: Side,
    /// The source addresses of this read of the bus, which is not yet known to be intact.
    pending: Vec<Address>,
    /// When this read of the bus began.
    now: Option<Instant>,
}

impl MacTable {
    /// Makes a table without addresses.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            peer: Side::new(now),
            bus: Side::new(now),
            pending: Vec::with_capacity(MAX_PENDING),
            now: None,
        }
    }

    fn wants_at(&mut self, now: Instant, header: &[u8; MIN_FRAME]) -> bool {
        let [destination, source] = addresses(header);
        if is_station(source)
            && self.pending.len() < MAX_PENDING
            && self.pending.last() != Some(&source)
        {
            self.pending.push(source);
        }
        !is_station(destination)
            || self.peer.knows(destination, now)
            || !self.bus.knows(destination, now)
    }

    fn settled_at(&mut self, now: Instant, whole: bool) {
        if whole {
            for source in &self.pending {
                self.peer.forget(*source);
                self.bus.learn(*source, now);
            }
        }
        self.pending.clear();
    }

    fn sent_at(&mut self, now: Instant, header: &[u8; MIN_FRAME]) {
        let [_, source] = addresses(header);
        if is_station(source) {
            self.bus.forget(source);
            self.peer.learn(source, now);
        }
    }
}

impl ReceiveFilter for MacTable {
    fn wants(&mut self, header: [u8; MIN_FRAME]) -> bool {
        let now = *self.now.get_or_insert_with(Instant::now);
        self.wants_at(now, &header)
    }

    fn settled(&mut self, whole: bool) {
        // Without a time, the filter has seen no frame.
        if let Some(now) = mem::take(&mut self.now) {
            self.settled_at(now, whole);
        }
    }

    fn sent(&mut self, header: [u8; MIN_FRAME]) {
        self.sent_at(Instant::now(), &header);
    }
}

/// Returns destination and source.
fn addresses(header: &[u8; MIN_FRAME]) -> [Address; 2] {
    let mut addresses = [[0; 6]; 2];
    addresses.as_flattened_mut().copy_from_slice(&header[..12]);
    addresses
}

/// Returns whether it is the address of one station: neither a group nor zero.
fn is_station(address: Address) -> bool {
    address[0] & 1 == 0 && address != [0; 6]
}

/// The addresses on one side of the port, and when each last sent.
#[derive(Debug)]
struct Side {
    last_seen: HashMap<Address, Instant>,
    swept: Instant,
}

impl Side {
    fn new(now: Instant) -> Self {
        // The map never grows, so the data path does not allocate.
        Self { last_seen: HashMap::with_capacity(MAX_ADDRESSES), swept: now }
    }

    fn knows(&self, address: Address, now: Instant) -> bool {
        self.last_seen.get(&address).is_some_and(|last_seen| !is_old(*last_seen, now))
    }

    fn forget(&mut self, address: Address) {
        self.last_seen.remove(&address);
    }

    fn learn(&mut self, address: Address, now: Instant) {
        if let Some(last_seen) = self.last_seen.get_mut(&address) {
            *last_seen = now;
            return;
        }
        if self.last_seen.len() == MAX_ADDRESSES
            && now.saturating_duration_since(self.swept) >= SWEEP_INTERVAL
        {
            self.swept = now;
            self.last_seen.retain(|_, last_seen| !is_old(*last_seen, now));
        }
        if self.last_seen.len() < MAX_ADDRESSES {
            self.last_seen.insert(address, now);
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

    fn header(destination: Address, source: Address) -> [u8; MIN_FRAME] {
        let mut header = [0; MIN_FRAME];
        header[..6].copy_from_slice(&destination);
        header[6..12].copy_from_slice(&source);
        header
    }

    /// A table and a clock that the test sets.
    struct Test {
        table: MacTable,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            Self { table: MacTable::new(), now: Instant::now() }
        }

        fn peer_sends(&mut self, source: Address) {
            self.table.sent_at(self.now, &header([0xff; 6], source));
        }

        /// Sends a frame on the bus. Returns whether the table forwards it to the peer.
        fn on_bus(&mut self, destination: Address, source: Address) -> bool {
            let wants = self.table.wants_at(self.now, &header(destination, source));
            self.table.settled_at(self.now, true);
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
    fn a_read_that_was_overrun_teaches_nothing() {
        let mut test = Test::new();
        assert!(test.table.wants_at(test.now, &header(GROUP, BOB)));
        test.table.settled_at(test.now, false);
        assert!(test.on_bus(BOB, CAROL));
    }

    #[test]
    fn groups_and_zero_are_no_stations() {
        let mut test = Test::new();
        for address in [GROUP, [0xff; 6], [0; 6]] {
            test.peer_sends(address);
            test.on_bus(GROUP, address);
        }
        assert!(test.table.peer.last_seen.is_empty() && test.table.bus.last_seen.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_leaves_the_other_side_alone() {
        let mut test = Test::new();
        let room = test.table.bus.last_seen.capacity();
        let made_up = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            [4, 0, a, b, c, d]
        };
        for number in 0..100_000 {
            test.on_bus(GROUP, made_up(number));
        }
        assert_eq!(
            (test.table.bus.last_seen.len(), test.table.bus.last_seen.capacity()),
            (MAX_ADDRESSES, room)
        );
        test.peer_sends(ALICE);
        assert!(test.on_bus(ALICE, BOB));
        assert!(test.on_bus(BOB, CAROL), "there is no room for Bob, so he is unknown");
        // Aged addresses make room.
        test.now += MAX_AGE;
        test.on_bus(GROUP, BOB);
        assert!(!test.on_bus(BOB, CAROL));
        assert!(test.table.bus.last_seen.len() < 10);
    }

    #[test]
    fn one_read_of_the_bus_learns_a_limited_number() {
        let mut test = Test::new();
        for number in 0..10_000_u16 {
            let [a, b] = number.to_be_bytes();
            test.table.wants_at(test.now, &header(GROUP, [2, 0, 0, 0, a, b]));
        }
        assert_eq!(
            (test.table.pending.len(), test.table.pending.capacity()),
            (MAX_PENDING, MAX_PENDING)
        );
    }
}
