//! The table against a naive model: random stations sleep, wake, come and go, while frames are sent
//! with and without an announcement. Those wake that a frame is for, and they miss none.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::Interest;
use super::announce::announce;
use super::table::{Slot, Table};
use crate::format::sleepers::{
    ANNOUNCED, ASLEEP, BUCKET, FILE_SIZE, LISTENER, MAGIC, MAP_WORDS, SEEN_ADDRESS, SLOT,
    SLOT_ADDRESSES, SLOT_WORDS, SLOTS, TABLE_WORDS, bucket_of, number_of, slot,
};
use crate::format::{PACKET_HEADER_SIZE, PacketHeader};
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::append::burst_limit;
use crate::mechanism::ring::cursor::{Cursor, Outcome, RingPacket};
use crate::mechanism::ring::lock::Owner;
use crate::memory::Words as _;
use crate::memory::model::{ModelMemory, ModelWords};

/// Room for some 700 of the shortest packets.
const RING_SIZE: u32 = 28_000;
const MAX_FRAME: u32 = 100;
/// A sender looks into fewer frames than this for sure, and into 512 packets at most: empty ones at
/// the end of the ring count.
const MANY: usize = 509;
const BROADCAST: [u8; 6] = [0xff; 6];
const SECONDS: u32 = 1_000_000_000;

type Address = [u8; 6];

fn owner(number: u32) -> Owner {
    Owner::new(number).expect("not 0")
}

fn host(number: u8) -> Address {
    // Address 0 is all zeros, which some programs send.
    [if number == 0 { 0 } else { 2 }, 0, 0, 0, 0, number]
}

fn group(number: u8) -> Address {
    [1, 0, 0x5e, 0, 0, number]
}

fn is_group(address: Address) -> bool {
    address[0] & 1 == 1
}

/// What a station wants, in plain words.
#[derive(Clone, Debug, Default)]
struct Wants {
    addresses: Vec<Address>,
    promiscuous: bool,
    unknown: bool,
    groups: Vec<Address>,
}

impl Wants {
    fn interest(&self) -> Interest {
        Interest::new(self.addresses.iter().copied())
            .promiscuous(self.promiscuous)
            .unknown(self.unknown)
            .groups(self.groups.iter().copied())
    }

    fn has(&self, address: Address) -> bool {
        self.addresses.contains(&address)
    }

    /// Whether a frame to an address is for it. `is_known`: the address is one on the bus.
    fn takes(&self, to: Address, is_known: bool) -> bool {
        self.promiscuous
            || self.has(to)
            || to == BROADCAST
            || (is_group(to) && (self.groups.is_empty() || self.groups.contains(&to)))
            || (!is_group(to) && self.unknown && !is_known)
    }

    /// Whether it may be woken for a frame that is not for it: its slot cannot say it more exactly.
    fn is_coarse_for(&self, to: Address) -> bool {
        self.addresses.len() > SLOT_ADDRESSES
            || is_group(to)
            // An address that was seen long ago, or whose place another took, is unknown again.
            || self.unknown
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u32,
    /// Where it begins, as a number.
    at: u64,
    to: Address,
}

#[derive(Debug)]
struct Station {
    me: Owner,
    slot: Slot,
    doorbell: u32,
    wants: Wants,
    cursor: Cursor,
    /// Where its cursor stands, as a number.
    place: u64,
    asleep: bool,
}

/// A bus, its table, and all that was sent.
struct World {
    ring: Ring<ModelMemory>,
    words: ModelWords,
    stations: Vec<Station>,
    sent: Vec<Sent>,
    /// Frames from here on are not announced.
    announced: usize,
    /// Addresses that were the source of a frame, or are a dead station's.
    sources: BTreeSet<Address>,
    next_owner: u32,
    /// The table was scribbled on: some may be woken for nothing.
    scribbled: bool,
}

impl World {
    fn new() -> Self {
        let words = ModelWords::new();
        Table::new(&words).make(0, [0; 2]);
        let ring = Ring::new(ModelMemory::new(RING_SIZE), MAX_FRAME);
        let world = Self {
            ring,
            words,
            stations: Vec::new(),
            sent: Vec::new(),
            announced: 0,
            sources: BTreeSet::new(),
            next_owner: 1,
            scribbled: false,
        };
        world.ring.try_lock(owner(1)).map(|held| world.announce(&held)).expect("free");
        world
    }

    fn table(&self) -> Table<&ModelWords> {
        Table::new(&self.words)
    }

    fn end(&self) -> u64 {
        self.ring.snapshot().expect("sound").end.as_word(RING_SIZE)
    }

    fn announce(
        &self,
        held: &crate::mechanism::ring::lock::LockGuard<'_, ModelMemory>,
    ) -> Vec<u32> {
        let mut doorbells = Vec::new();
        let end = held.extent().expect("sound").end;
        announce(held, &self.table(), end, SECONDS, &mut doorbells);
        doorbells
    }

    fn is_known(&self, address: Address) -> bool {
        self.stations.iter().any(|station| station.wants.has(address))
    }

    fn join(&mut self, wants: Wants) {
        self.next_owner += 1;
        let me = owner(self.next_owner);
        let is_alive = |owner| self.stations.iter().any(|station| station.me == owner);
        let slot = self.table().claim(me, is_alive).expect("slots are left");
        assert!(
            self.stations.iter().all(|station| station.slot != slot),
            "it is another station's"
        );
        let doorbell = me.number() + 1_000;
        self.table().write(slot, me, doorbell, &wants.interest());
        let cursor = Cursor::at_end(&self.ring.snapshot().expect("sound"));
        let place = self.end();
        self.stations.push(Station { me, slot, doorbell, wants, cursor, place, asleep: false });
    }

    /// It leaves, or dies without a word.
    fn leave(&mut self, nth: usize, dies: bool) {
        let station = self.stations.swap_remove(nth);
        if dies {
            // Its slot says that its addresses are on the bus, until another station takes it.
            self.sources.extend(station.wants.addresses);
        } else {
            self.table().free(station.slot, station.me);
        }
    }

    fn arm(&mut self, nth: usize) {
        self.read(nth);
        let table = Table::new(&self.words);
        let station = &mut self.stations[nth];
        if !table.is_intact(station.slot, station.me, station.doorbell, &station.wants.interest()) {
            table.write(station.slot, station.me, station.doorbell, &station.wants.interest());
        }
        table.arm(station.slot);
        station.asleep = true;
        assert_eq!(station.cursor.has_packets(&self.ring), Ok(false));
    }

    /// Ends a sleep, if it sleeps, and reads: it receives all frames for it that are still there.
    fn read(&mut self, nth: usize) {
        let table = Table::new(&self.words);
        let station = &mut self.stations[nth];
        if station.asleep {
            station.asleep = false;
            let intact = table.is_intact(
                station.slot,
                station.me,
                station.doorbell,
                &station.wants.interest(),
            );
            assert_eq!(table.peek(station.slot), table.peek(station.slot));
            let peeked = table.peek(station.slot);
            let awake = table.disarm(station.slot);
            assert_eq!(peeked, awake);
            assert!(!table.is_asleep(station.slot));
            if let Some(position) = awake.position
                && intact
            {
                station.cursor.skip_to(&self.ring, position);
            }
        }
        let first = self.ring.snapshot().expect("sound").first.as_word(RING_SIZE);
        let mut received = Vec::new();
        for _ in 0..4 {
            let mut shown = Vec::new();
            let outcome =
                station.cursor.read(&self.ring, |RingPacket { header, offset, .. }| {
                    let mut to = Address::default();
                    if header.len >= 14 {
                        self.ring.copy_out(offset, &mut to);
                        shown.push((header.sec, to));
                    }
                    ControlFlow::Continue(())
                });
            match outcome {
                Outcome::Whole => received.extend(shown),
                Outcome::Overrun(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let place = station.place.max(first);
        self.stations[nth].place = self.end();
        let station = &self.stations[nth];
        // Whether an address is unknown is a matter of when it was sent.
        let certain = |to| station.wants.takes(to, true);
        let received: Vec<u32> =
            received.into_iter().filter(|(_, to)| certain(*to)).map(|(number, _)| number).collect();
        let expected: Vec<u32> = self
            .sent
            .iter()
            .filter(|sent| sent.at >= place && certain(sent.to))
            .map(|sent| sent.number)
            .collect();
        assert_eq!(received, expected, "frames for {station:?}");
    }

    /// Appends frames, in as many holds of the lock as it takes. The last one announces, or none.
    fn send(&mut self, frames: &[(Address, Address)], announces: bool) {
        let mut rest = frames;
        let fits = (burst_limit(RING_SIZE) / (PACKET_HEADER_SIZE + 14)) as usize;
        while !rest.is_empty() {
            let (burst, later) = rest.split_at(rest.len().min(fits));
            rest = later;
            self.append(burst, announces && later.is_empty());
        }
        if frames.is_empty() && announces {
            self.append(&[], true);
        }
    }

    fn append(&mut self, frames: &[(Address, Address)], announces: bool) {
        let ring = &self.ring;
        let begin = self.end();
        let mut held = ring.try_lock(owner(1)).expect("free");
        let number = u32::try_from(self.sent.len()).expect("few");
        let headers = (number..).take(frames.len()).map(|sec| PacketHeader {
            len: 14,
            sec,
            ..Default::default()
        });
        held.append(headers, |header, at| {
            let (to, from) = frames[(header.sec - number) as usize];
            let mut frame = [0; 14];
            frame[..6].copy_from_slice(&to);
            frame[6..12].copy_from_slice(&from);
            ring.copy_in(at, &frame);
        });
        for (nth, (to, from)) in (0_u64..).zip(frames) {
            let at = begin + nth * u64::from(PACKET_HEADER_SIZE + 14);
            let number = u32::try_from(self.sent.len()).expect("few");
            self.sent.push(Sent { number, at, to: *to });
            if !is_group(*from) {
                self.sources.insert(*from);
            }
        }
        if announces {
            let doorbells = self.announce(&held);
            drop(held);
            self.judge(&doorbells);
        }
    }

    /// Whether those woke that a frame is for, of what was not announced before.
    fn judge(&mut self, doorbells: &[u32]) {
        let extent = self.ring.snapshot().expect("sound");
        let news = &self.sent[self.announced..];
        // More than a sender looks into, or no longer there.
        let is_flood = news.len() >= MANY
            || news.first().is_some_and(|sent| sent.at < extent.first.as_word(RING_SIZE));
        for station in &self.stations {
            if !station.asleep {
                assert!(
                    self.scribbled || !doorbells.contains(&station.doorbell),
                    "it does not sleep: {station:?}"
                );
                continue;
            }
            let wants = &station.wants;
            let wanted = |sent: &Sent| {
                wants.takes(sent.to, self.is_known(sent.to) || self.sources.contains(&sent.to))
            };
            // What it read before it fell asleep may be announced afterwards.
            let begin = station.place.max(extent.first.as_word(RING_SIZE));
            let must = news.iter().find(|sent| sent.at >= begin && wanted(sent));
            let woke = !self.table().is_asleep(station.slot);
            if let Some(must) = must {
                assert!(woke, "{must:?} is for {station:?}");
                let awake = self.table().peek(station.slot);
                assert!(awake.notified);
                let position = awake.position.expect("sound");
                assert!(position <= must.at, "{position} lies behind {must:?} for {station:?}");
            } else if woke {
                let may = is_flood
                    || self.scribbled
                    || news.iter().any(|sent| wanted(sent) || wants.is_coarse_for(sent.to));
                assert!(may, "no frame is for {station:?}: {news:?}");
            }
            // One that woke before was rung before.
            assert!(
                !doorbells.contains(&station.doorbell) || woke,
                "it was rung and sleeps on: {station:?}"
            );
        }
        self.announced = self.sent.len();
        assert_eq!(self.table().announced(), self.end());
        // Those that woke read.
        for nth in 0..self.stations.len() {
            if self.stations[nth].asleep && !self.table().is_asleep(self.stations[nth].slot) {
                assert!(doorbells.contains(&self.stations[nth].doorbell), "it was not rung");
                self.read(nth);
            }
        }
    }

    /// Scribbles on a word; then all look, as they do every 100 ms.
    fn scribble(&mut self, word: usize, flipped: u64) {
        self.scribbled = true;
        let before = self.words_at(word);
        (&self.words).store(word, before ^ flipped, Ordering::Relaxed);
        for nth in 0..self.stations.len() {
            let station = &self.stations[nth];
            let table = self.table();
            let is_intact = table.is_intact(
                station.slot,
                station.me,
                station.doorbell,
                &station.wants.interest(),
            );
            if station.asleep && (!is_intact || !table.is_asleep(station.slot)) {
                self.arm(nth);
            } else if !is_intact {
                // As it does before its next sleep. Should another take the slot before that, they
                // share it, and wake late.
                let interest = station.wants.interest();
                table.write(station.slot, station.me, station.doorbell, &interest);
            }
        }
        if self.table().announced() != self.end() {
            self.append(&[], true);
        }
    }

    fn words_at(&self, word: usize) -> u64 {
        (&self.words).load(word, Ordering::Relaxed)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(Wants),
    Leave {
        nth: usize,
        dies: bool,
    },
    Arm(usize),
    Read(usize),
    Send {
        frames: Vec<(Address, Address)>,
        announces: bool,
    },
    /// So many frames that a sender does not look into all, or that they go around the ring.
    Flood {
        to: Address,
        count: usize,
    },
    Scribble {
        word: usize,
        flipped: u64,
    },
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        8 => (0..24_u8).prop_map(host),
        1 => (0..6_u8).prop_map(group),
        1 => Just(BROADCAST),
    ]
}

fn wants() -> impl Strategy<Value = Wants> {
    let addresses = prop_oneof![
        8 => prop::collection::vec((0..24_u8).prop_map(host), 1..3),
        1 => prop::collection::vec((0..24_u8).prop_map(host), 0..16),
    ];
    let groups = prop::collection::vec((0..6_u8).prop_map(group), 0..3);
    (addresses, prop::bool::weighted(0.1), prop::bool::weighted(0.1), groups).prop_map(
        |(addresses, promiscuous, unknown, groups)| Wants {
            addresses,
            promiscuous,
            unknown,
            groups,
        },
    )
}

/// A word that matters, or any.
fn word() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(ANNOUNCED),
        Just(LISTENER),
        Just(FILE_SIZE),
        (ASLEEP..ASLEEP + 4 * MAP_WORDS),
        (0..64_usize).prop_map(|bucket| BUCKET + bucket * MAP_WORDS),
        (SEEN_ADDRESS..SLOT),
        (SLOT..SLOT + 8 * SLOT_WORDS),
        (MAGIC..TABLE_WORDS),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let flipped = prop_oneof![any::<u64>(), (0..64_u32).prop_map(|bit| 1_u64 << bit)];
    prop_oneof![
        3 => wants().prop_map(Step::Join),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(nth, dies)| Step::Leave { nth, dies }),
        8 => any::<usize>().prop_map(Step::Arm),
        2 => any::<usize>().prop_map(Step::Read),
        8 => (prop::collection::vec((address(), address()), 0..6), prop::bool::weighted(0.8))
            .prop_map(|(frames, announces)| Step::Send { frames, announces }),
        1 => (address(), prop_oneof![500..520_usize, 700..900_usize])
            .prop_map(|(to, count)| Step::Flood { to, count }),
        1 => (word(), flipped).prop_map(|(word, flipped)| Step::Scribble { word, flipped }),
    ]
}

proptest! {
    #[test]
    fn those_wake_that_a_frame_is_for_and_miss_none(
        steps in prop::collection::vec(step(), 1..80),
        scribbles: bool,
    ) {
        let mut world = World::new();
        for step in steps {
            let nth = |nth: usize, world: &World| nth.checked_rem(world.stations.len());
            match step {
                Step::Join(wants) => world.join(wants),
                Step::Leave { nth: which, dies } => {
                    if let Some(nth) = nth(which, &world) {
                        world.leave(nth, dies);
                    }
                }
                Step::Arm(which) => {
                    if let Some(nth) = nth(which, &world) {
                        world.arm(nth);
                    }
                }
                Step::Read(which) => {
                    if let Some(nth) = nth(which, &world) {
                        world.read(nth);
                    }
                }
                Step::Send { frames, announces } => world.send(&frames, announces),
                Step::Flood { to, count } => world.send(&vec![(to, host(30)); count], false),
                Step::Scribble { word, flipped } if scribbles => world.scribble(word, flipped),
                Step::Scribble { .. } => {}
            }
        }
        // In the end all is announced, and all read all that is for them.
        world.send(&[], true);
        for nth in 0..world.stations.len() {
            world.read(nth);
        }
    }

    #[test]
    fn a_changed_word_is_found(
        wants in wants(),
        word in word(),
        flipped in 1_u64..,
    ) {
        let words = ModelWords::new();
        let table = Table::new(&words);
        table.make(0, [0; 2]);
        let (me, interest) = (owner(5), wants.interest());
        let taken = table.claim(me, |_| true).expect("free");
        table.write(taken, me, 7, &interest);
        table.arm(taken);
        prop_assert!(table.is_intact(taken, me, 7, &interest));
        (&words).store(word, (&words).load(word, Ordering::Relaxed) ^ flipped, Ordering::Relaxed);
        let (_, mine) = taken.bit(0);
        let of_slot = word.checked_sub(taken.word(0)).filter(|word| *word < SLOT_WORDS);
        let map = word.checked_sub(ASLEEP).filter(|word| *word < 4 * MAP_WORDS);
        let bucket = word.checked_sub(BUCKET).filter(|word| *word < 64 * MAP_WORDS);
        // What others write, the words behind the last address, and bits too many need not be as
        // they were.
        let count = wants.addresses.len().min(SLOT_ADDRESSES);
        let matters = word == MAGIC
            || of_slot.is_some_and(|word| {
                word != slot::POSITION
                    && word != slot::CHECK
                    && word < slot::ADDRESSES + count
            })
            || map.is_some_and(|word| word >= MAP_WORDS && word % MAP_WORDS == 0 && flipped & mine != 0)
            || bucket.is_some_and(|word| {
                let has = |address: &Address| bucket_of(number_of(*address)) == word / MAP_WORDS;
                word % MAP_WORDS == 0
                    && flipped & mine != 0
                    && wants.addresses[..count].iter().any(has)
            });
        prop_assert_eq!(table.is_intact(taken, me, 7, &interest), !matters);
        table.write(taken, me, 7, &interest);
        prop_assert!(table.is_intact(taken, me, 7, &interest), "it was not repaired");
    }
}

#[test]
fn a_slot_is_one_stations_and_that_of_a_dead_one_is_free() {
    let words = ModelWords::new();
    let table = Table::new(&words);
    table.make(0, [0; 2]);
    let all: Vec<Slot> =
        (1..=1_024).map(|me| table.claim(owner(me), |_| true).expect("one is left")).collect();
    assert_eq!(all.iter().map(|slot| slot.0).collect::<BTreeSet<_>>().len(), SLOTS);
    assert_eq!(table.claim(owner(2_000), |_| true), None);
    for (slot, me) in all.iter().zip(1..) {
        table.write(*slot, owner(me), me, &Interest::new([host(1)]).promiscuous(true));
        table.arm(*slot);
    }
    // 7 and 9 died.
    let is_alive = |owner: Owner| ![7, 9].contains(&owner.number());
    let claimed = table.claim(owner(2_000), is_alive).expect("a dead one's");
    assert_eq!(claimed, all[6]);
    assert!(!table.is_asleep(all[6]) && !table.is_asleep(all[8]));
    assert_eq!((&words).load(all[8].word(slot::OWNER), Ordering::Relaxed), 0);
    // The dead do not give back what is another's.
    table.free(all[6], owner(7));
    assert_eq!(table.claim(owner(2_001), |_| true), Some(all[8]));
    assert_eq!(table.claim(owner(2_002), |_| true), None);
    table.free(all[6], owner(2_000));
    assert_eq!(table.claim(owner(2_003), |_| true), Some(all[6]));
}

#[test]
fn one_station_is_the_listener() {
    let words = ModelWords::new();
    let table = Table::new(&words);
    assert!(table.become_listener(0, owner(1)) && !table.become_listener(0, owner(2)));
    table.resign(owner(2));
    assert_eq!(table.listener(), 1);
    assert!(table.become_listener(1, owner(2)));
    let slot = table.claim(owner(2), |_| true).expect("free");
    table.free(slot, owner(2));
    assert_eq!(table.listener(), 0);
}

/// Two threads claim and give back slots, among dead stations: no slot is two stations', and what
/// one has written there stays.
#[test]
fn slots_that_are_claimed_at_the_same_time_are_different_ones() {
    for _ in 0..200 {
        let words = ModelWords::new();
        let table = Table::new(&words);
        for dead in 100..108 {
            table.claim(owner(dead), |_| true).expect("free");
        }
        let is_alive = |owner: Owner| owner.number() < 100;
        std::thread::scope(|scope| {
            let claim = |me: u32| {
                let table = Table::new(&words);
                let interest = Interest::new([host(1)]).promiscuous(true);
                let mut taken = Vec::new();
                for me in me..me + 3 {
                    let slot = table.claim(owner(me), is_alive).expect("free");
                    table.write(slot, owner(me), me, &interest);
                    taken.push((slot, me));
                }
                (taken, interest)
            };
            let threads = [1, 11, 21].map(|me| scope.spawn(move || claim(me)));
            let results = threads.map(|thread| thread.join().expect("no panic"));
            table.make(0, [0; 2]);
            let mut slots = BTreeSet::new();
            for (taken, interest) in &results {
                for (slot, me) in taken {
                    assert!(slots.insert(slot.0), "two have slot {}", slot.0);
                    assert!(table.is_intact(*slot, owner(*me), *me, interest));
                }
            }
        });
    }
}
