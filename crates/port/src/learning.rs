//! Learning addresses, as a switch does (`learn=on`): a wrapper around any port that forwards to the peer only what the
//! peer needs.
//!
//! A source address that comes from the peer is behind the port, and one that is heard on the bus is on the bus. A frame for
//! an address on the bus is kept from the peer; frames for unknown addresses, for groups and for everyone are not. An address
//! that sends from the other side has moved. One that is silent for long is forgotten. A peer that sends from ever more
//! addresses fills the table of its own side only, and new ones beyond the limit stay unknown: then more is forwarded than
//! is needed, and nothing is lost.

use std::collections::HashMap;
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use memif::RxMode;
use shmbus::{MIN_FRAME, ReceiveFilter, Station};

use crate::port::{Moved, NotSent, Port};

/// How long an address may be silent before it is forgotten: what IEEE 802.1D recommends.
const AGE: Duration = Duration::from_mins(5);
/// The most addresses on each side.
const LIMIT: usize = 2_048;
/// How often a full table is searched for addresses to forget.
const SWEEP: Duration = Duration::from_secs(1);
/// The most senders of one look at the bus; later ones are learnt another time.
const PENDING: usize = 256;

type Address = [u8; 6];

/// A port whose peer gets only what it needs. It sets the receive filter of the stations it is attached to.
#[derive(Debug)]
pub struct Learning<P>(P);

impl<P: Port> Learning<P> {
    /// Wraps `port`.
    pub fn new(port: P) -> Self {
        Self(port)
    }
}

impl<P: Port> Port for Learning<P> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn wants_service(&self) -> bool {
        self.0.wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        self.0.service(report);
    }

    fn closed(&self) -> Option<String> {
        self.0.closed()
    }

    /// A station begins with an empty table: it may be on another bus.
    fn attach(&mut self, station: &mut Station) {
        self.0.attach(station);
        station.set_receive_filter(Some(Box::new(MacTable::new())));
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.0.ingress(station)
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        self.0.egress(station)
    }

    fn rx_mode(&self) -> RxMode {
        self.0.rx_mode()
    }

    fn arm(&mut self) -> bool {
        self.0.arm()
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }

    fn max_sleep(&self) -> Duration {
        self.0.max_sleep()
    }

    fn first_poll(&self) -> Duration {
        self.0.first_poll()
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        self.0.descriptors(watch);
    }
}

/// Chooses which frames the station of a port hears.
#[derive(Debug)]
struct MacTable {
    peer: Side,
    bus: Side,
    /// The senders of frames that may turn out not to be whole.
    pending: Vec<Address>,
    /// The time of this look at the bus.
    now: Option<Instant>,
}

impl MacTable {
    /// Makes one that knows no address.
    fn new() -> Self {
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
        // Without a time no frame was asked about.
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

/// Whether it is the address of one station: neither of a group nor zero.
fn is_station(address: Address) -> bool {
    address[0] & 1 == 0 && address != [0; 6]
}

/// The addresses on one side of the port, and when they were last heard.
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

    /// A table, with a clock of our own.
    struct Test {
        table: MacTable,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            Self { table: MacTable::new(), now: Instant::now() }
        }

        fn peer_speaks(&mut self, source: Address) {
            self.table.sent_at(self.now, &header([0xff; 6], source));
        }

        /// Whether a frame on the bus is forwarded.
        fn on_bus(&mut self, destination: Address, source: Address) -> bool {
            let wants = self.table.wants_at(self.now, &header(destination, source));
            self.table.settled_at(self.now, true);
            wants
        }
    }

    #[test]
    fn only_what_the_peer_needs_is_forwarded() {
        let mut test = Test::new();
        test.peer_speaks(ALICE);
        assert!(test.on_bus(ALICE, BOB), "it is for the peer");
        assert!(test.on_bus(CAROL, BOB), "Carol is unknown");
        assert!(!test.on_bus(BOB, CAROL), "Bob was heard on the bus");
        assert!(!test.on_bus(CAROL, BOB), "and now Carol, too");
        assert!(test.on_bus([0xff; 6], BOB) && test.on_bus(GROUP, BOB));
    }

    #[test]
    fn an_address_that_moves_is_followed_both_ways() {
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
    fn a_silent_address_is_forgotten_and_one_that_speaks_is_not() {
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
        assert!(test.table.wants_at(test.now, &header(GROUP, BOB)));
        test.table.settled_at(test.now, false);
        assert!(test.on_bus(BOB, CAROL));
    }

    #[test]
    fn groups_and_zero_are_no_stations() {
        let mut test = Test::new();
        for address in [GROUP, [0xff; 6], [0; 6]] {
            test.peer_speaks(address);
            test.on_bus(GROUP, address);
        }
        assert!(test.table.peer.heard.is_empty() && test.table.bus.heard.is_empty());
    }

    #[test]
    fn new_addresses_take_no_more_memory_and_hide_none_on_the_other_side() {
        let mut test = Test::new();
        let room = test.table.bus.heard.capacity();
        let made_up = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            [4, 0, a, b, c, d]
        };
        for number in 0..100_000 {
            test.on_bus(GROUP, made_up(number));
        }
        assert_eq!((test.table.bus.heard.len(), test.table.bus.heard.capacity()), (LIMIT, room));
        test.peer_speaks(ALICE);
        assert!(test.on_bus(ALICE, BOB));
        assert!(test.on_bus(BOB, CAROL), "Bob cannot be learnt, so he is unknown");
        // Old ones make room.
        test.now += AGE;
        test.on_bus(GROUP, BOB);
        assert!(!test.on_bus(BOB, CAROL));
        assert!(test.table.bus.heard.len() < 10);
    }

    #[test]
    fn one_look_at_the_bus_learns_of_a_limited_number() {
        let mut test = Test::new();
        for number in 0..10_000_u16 {
            let [a, b] = number.to_be_bytes();
            test.table.wants_at(test.now, &header(GROUP, [2, 0, 0, 0, a, b]));
        }
        assert_eq!((test.table.pending.len(), test.table.pending.capacity()), (PENDING, PENDING));
    }
}
