//! Learning addresses, as a switch does (`learn=on`): a port forwards to its peer only what the peer needs.
//!
//! Whoever sends from behind the port is known to be there, and whoever sends on the bus to be on the bus. A frame for somebody
//! on the bus is kept from the peer; frames for somebody unknown, for groups and for everybody are not. Who sends from the other
//! side has moved. Who is silent for long is forgotten. Whoever sends from ever new addresses fills the table of their own side
//! only, and new ones beyond that stay unknown: then more is forwarded than is needed, and nothing is lost.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use shmbus::{MIN_FRAME, ReceiveFilter};

/// How long somebody may be silent before being forgotten: what IEEE 802.1D recommends.
const AGE: Duration = Duration::from_mins(5);
/// The most addresses on each side.
const LIMIT: usize = 2_048;
/// How often a full table is searched for those that are to be forgotten.
const SWEEP: Duration = Duration::from_secs(1);
/// The most senders of one look at the bus; who comes later is learnt another time.
const PENDING: usize = 256;

type Address = [u8; 6];

/// Chooses what the station of a port hears.
#[derive(Debug)]
pub(crate) struct MacTable {
    peer: Side,
    bus: Side,
    /// Who sent the frames that may turn out not to be whole.
    pending: Vec<Address>,
    /// The time of this look at the bus.
    now: Option<Instant>,
}

impl MacTable {
    /// One that knows nobody.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { peer: Side::new(now), bus: Side::new(now), pending: Vec::with_capacity(PENDING), now: None }
    }

    fn wants_at(&mut self, now: Instant, header: &[u8; MIN_FRAME]) -> bool {
        let [destination, source] = addresses(header);
        if is_station(source) && self.pending.len() < PENDING && self.pending.last() != Some(&source) {
            self.pending.push(source);
        }
        !is_station(destination) || self.peer.knows(destination, now) || !self.bus.knows(destination, now)
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
        // Nobody was asked about otherwise.
        if let Some(now) = mem::take(&mut self.now) {
            self.settled_at(now, whole);
        }
    }

    fn sent(&mut self, header: [u8; MIN_FRAME]) {
        self.sent_at(Instant::now(), &header);
    }
}

/// Destination and source.
fn addresses(header: &[u8; MIN_FRAME]) -> [Address; 2] {
    let mut addresses = [[0; 6]; 2];
    addresses.as_flattened_mut().copy_from_slice(&header[..12]);
    addresses
}

/// Whether it is one station's, and neither a group's nor nobody's.
fn is_station(address: Address) -> bool {
    address[0] & 1 == 0 && address != [0; 6]
}

/// Those who are on one side of the port, and when they were last heard.
#[derive(Debug)]
struct Side {
    heard: HashMap<Address, Instant>,
    swept: Instant,
}

impl Side {
    fn new(now: Instant) -> Self {
        // It never grows: nothing is allocated on the data path.
        Self { heard: HashMap::with_capacity(LIMIT), swept: now }
    }

    fn knows(&self, address: Address, now: Instant) -> bool {
        self.heard.get(&address).is_some_and(|heard| !is_old(*heard, now))
    }

    fn forget(&mut self, address: Address) {
        self.heard.remove(&address);
    }

    fn learn(&mut self, address: Address, now: Instant) {
        if let Some(heard) = self.heard.get_mut(&address) {
            *heard = now;
            return;
        }
        if self.heard.len() == LIMIT && now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.heard.retain(|_, heard| !is_old(*heard, now));
        }
        if self.heard.len() < LIMIT {
            self.heard.insert(address, now);
        }
    }
}

fn is_old(heard: Instant, now: Instant) -> bool {
    now.saturating_duration_since(heard) >= AGE
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

    /// A learner, with a clock of our own.
    struct Test {
        learner: MacTable,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            Self { learner: MacTable::new(), now: Instant::now() }
        }

        fn peer_speaks(&mut self, source: Address) {
            self.learner.sent_at(self.now, &header([0xff; 6], source));
        }

        /// Whether a frame on the bus is forwarded.
        fn on_bus(&mut self, destination: Address, source: Address) -> bool {
            let wants = self.learner.wants_at(self.now, &header(destination, source));
            self.learner.settled_at(self.now, true);
            wants
        }
    }

    #[test]
    fn only_what_the_peer_needs_is_forwarded() {
        let mut test = Test::new();
        test.peer_speaks(ALICE);
        assert!(test.on_bus(ALICE, BOB), "it is for the peer");
        assert!(test.on_bus(CAROL, BOB), "nobody knows Carol");
        assert!(!test.on_bus(BOB, CAROL), "Bob was heard on the bus");
        assert!(!test.on_bus(CAROL, BOB), "and now Carol, too");
        assert!(test.on_bus([0xff; 6], BOB) && test.on_bus(GROUP, BOB));
    }

    #[test]
    fn who_moves_is_followed_both_ways() {
        let mut test = Test::new();
        test.peer_speaks(ALICE);
        assert!(!{
            test.on_bus([0xff; 6], ALICE);
            test.on_bus(ALICE, BOB)
        });
        test.peer_speaks(ALICE);
        assert!(test.on_bus(ALICE, BOB));
        test.peer_speaks(BOB);
        assert!(test.on_bus(BOB, CAROL));
    }

    #[test]
    fn who_is_silent_is_forgotten_and_who_speaks_is_not() {
        let mut test = Test::new();
        test.on_bus(GROUP, BOB);
        test.on_bus(GROUP, CAROL);
        test.now += AGE.saturating_sub(Duration::from_secs(1));
        test.on_bus(GROUP, BOB);
        assert!(!test.on_bus(CAROL, BOB));
        test.now += Duration::from_secs(1);
        assert!(test.on_bus(CAROL, ALICE), "Carol is old");
        assert!(!test.on_bus(BOB, ALICE));
    }

    #[test]
    fn what_was_never_whole_is_not_believed() {
        let mut test = Test::new();
        assert!(test.learner.wants_at(test.now, &header(GROUP, BOB)));
        test.learner.settled_at(test.now, false);
        assert!(test.on_bus(BOB, CAROL));
    }

    #[test]
    fn groups_and_nobody_are_no_stations() {
        let mut test = Test::new();
        for address in [GROUP, [0xff; 6], [0; 6]] {
            test.peer_speaks(address);
            test.on_bus(GROUP, address);
        }
        assert!(test.learner.peer.heard.is_empty() && test.learner.bus.heard.is_empty());
    }

    #[test]
    fn ever_new_addresses_take_no_more_memory_and_hide_nobody_on_the_other_side() {
        let mut test = Test::new();
        let room = test.learner.bus.heard.capacity();
        let made_up = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            [4, 0, a, b, c, d]
        };
        for number in 0..100_000 {
            test.on_bus(GROUP, made_up(number));
        }
        assert_eq!((test.learner.bus.heard.len(), test.learner.bus.heard.capacity()), (LIMIT, room));
        test.peer_speaks(ALICE);
        assert!(test.on_bus(ALICE, BOB));
        assert!(test.on_bus(BOB, CAROL), "Bob cannot be learnt, so he is unknown");
        // Those who are old make room.
        test.now += AGE;
        test.on_bus(GROUP, BOB);
        assert!(!test.on_bus(BOB, CAROL));
        assert!(test.learner.bus.heard.len() < 10);
    }

    #[test]
    fn one_look_at_the_bus_learns_of_a_limited_number() {
        let mut test = Test::new();
        for number in 0..10_000_u16 {
            let [a, b] = number.to_be_bytes();
            test.learner.wants_at(test.now, &header(GROUP, [2, 0, 0, 0, a, b]));
        }
        assert_eq!((test.learner.pending.len(), test.learner.pending.capacity()), (PENDING, PENDING));
    }
}
