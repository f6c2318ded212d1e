//! Crash tests: a sender is killed at every store of its burst and its announcement, and so is the
//! one that takes over from it; a sleeper is killed at every store in its slot. All that a frame is
//! for are woken or find it at their look, none is woken for nothing, and the ring stays one to
//! rump kernels.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{Ordering, fence};

use super::Interest;
use super::announce::announce;
use super::table::{Slot, Table};
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::{Cursor, Outcome, RingPacket};
use crate::mechanism::ring::lock::{LockGuard, Owner};
use crate::mechanism::ring::rump::{Rump, dump};
use crate::memory::model::{ModelMemory, ModelWords};
use crate::memory::{Memory, Words};

const MAX_FRAME: u32 = 40;
const SIZE: u32 = 1_830;
const FRAME: u32 = 14;
const PACKET: u32 = PACKET_HEADER_SIZE + FRAME;
/// Bytes that are stored at once.
const WORD: usize = 8;
/// Hosts; the first ones sleep.
const SLEEPERS: usize = 4;
/// The sleeper that wants all frames.
const PROMISCUOUS: usize = 3;
/// A host that has no slot.
const ELSEWHERE: usize = 8;
const ALL: usize = 9;
/// What the bursts are for. Three packets are the most.
const BURSTS: [&[usize]; 6] =
    [&[0], &[ALL], &[ELSEWHERE, 1], &[0, ELSEWHERE, 0], &[2, 1, 0], &[ELSEWHERE]];

/// A bus and its table.
struct Shared {
    memory: ModelMemory,
    words: ModelWords,
}

impl Shared {
    fn copy(&self) -> Self {
        Self { memory: self.memory.copy(), words: self.words.copy() }
    }
}

/// A process's view of both, which dies after a number of stores: what it does from then on does
/// not happen.
#[derive(Clone, Copy)]
struct Mortal<'s> {
    shared: &'s Shared,
    left: &'s Cell<usize>,
}

impl Mortal<'_> {
    fn lives(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn is_dead(&self) -> bool {
        self.left.get() == 0
    }
}

impl Memory for Mortal<'_> {
    fn data_size(&self) -> u32 {
        self.shared.memory.data_size()
    }

    fn publishes(&self) -> bool {
        self.shared.memory.publishes()
    }

    fn load32(&self, field: Field32, order: Ordering) -> u32 {
        self.shared.memory.load32(field, order)
    }

    fn store32(&self, field: Field32, value: u32, order: Ordering) {
        if self.lives() {
            self.shared.memory.store32(field, value, order);
        }
    }

    fn load64(&self, field: Field64, order: Ordering) -> u64 {
        self.shared.memory.load64(field, order)
    }

    fn store64(&self, field: Field64, value: u64, order: Ordering) {
        if self.lives() {
            self.shared.memory.store64(field, value, order);
        }
    }

    fn cas64(&self, field: Field64, current: u64, new: u64) -> Result<u64, u64> {
        // A dead process sees no error any more.
        if self.lives() { self.shared.memory.cas64(field, current, new) } else { Ok(current) }
    }

    fn copy_in(&self, at: u32, bytes: &[u8]) {
        for (at, bytes) in (at..).step_by(WORD).zip(bytes.chunks(WORD)) {
            if self.lives() {
                self.shared.memory.copy_in(at, bytes);
            }
        }
    }

    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        self.shared.memory.copy_out(at, bytes);
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

impl Words for Mortal<'_> {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        (&self.shared.words).load(at, order)
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        if self.lives() {
            (&self.shared.words).store(at, value, order);
        }
    }

    fn set_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        if self.lives() { (&self.shared.words).set_bits(at, bits, order) } else { 0 }
    }

    fn clear_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        if self.lives() { (&self.shared.words).clear_bits(at, bits, order) } else { 0 }
    }

    fn cas(&self, at: usize, current: u64, new: u64) -> Result<u64, u64> {
        if self.lives() { (&self.shared.words).cas(at, current, new) } else { Ok(current) }
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

/// Acts as a process that dies after so many stores; returns whether it finished.
fn dying(shared: &Shared, stores: usize, act: impl FnOnce(Mortal<'_>)) -> bool {
    let left = Cell::new(stores);
    let mortal = Mortal { shared, left: &left };
    act(mortal);
    !mortal.is_dead()
}

/// Acts as a process that dies at each store in turn, on a copy each time, until it finishes.
fn at_every_death(shared: &Shared, act: impl Fn(Mortal<'_>), mut then: impl FnMut(&Shared, usize)) {
    for stores in 0.. {
        let copy = shared.copy();
        let lived = dying(&copy, stores, &act);
        then(&copy, stores);
        if lived {
            return;
        }
    }
}

fn immortal<R>(shared: &Shared, act: impl FnOnce(Mortal<'_>) -> R) -> R {
    let left = Cell::new(usize::MAX);
    act(Mortal { shared, left: &left })
}

fn owner(number: usize) -> Owner {
    Owner::new(u32::try_from(number).expect("small")).expect("not 0")
}

fn address(of: usize) -> [u8; 6] {
    if of == ALL { [0xff; 6] } else { [2, 0, 0, 0, 0, of.to_le_bytes()[0]] }
}

fn interest(nth: usize) -> Interest {
    Interest::new([address(nth)]).promiscuous(nth == PROMISCUOUS).groups([])
}

fn append(mortal: Mortal<'_>, held: &mut LockGuard<'_, Mortal<'_>>, number: u32, to: &[usize]) {
    let ring = Ring::new(mortal, MAX_FRAME);
    let headers =
        (number..).take(to.len()).map(|sec| PacketHeader { len: FRAME, sec, ..Default::default() });
    held.append(headers, |header, at| {
        let mut frame = [0; FRAME as usize];
        frame[..6].copy_from_slice(&address(to[(header.sec - number) as usize]));
        ring.copy_in(at, &frame);
    });
}

/// Sends a burst, and announces it unless it is a foreign station's.
fn send(mortal: Mortal<'_>, me: usize, number: u32, to: &[usize], announces: bool) {
    let ring = Ring::new(mortal, MAX_FRAME);
    if let Ok(mut held) = ring.try_lock(owner(me)) {
        append(mortal, &mut held, number, to);
        if announces {
            announce_all(mortal, &held);
        }
    }
}

fn announce_all(mortal: Mortal<'_>, held: &LockGuard<'_, Mortal<'_>>) {
    let end = held.extent().expect("sound").end;
    announce(held, &Table::new(mortal), end, 0, &mut Vec::new());
}

/// What the next process does that finds the lock held.
fn take_over(mortal: Mortal<'_>, me: usize) {
    let ring = Ring::new(mortal, MAX_FRAME);
    let word = ring.lock_word();
    if word.owner().is_some() {
        let held = ring.take_over(word, owner(me)).expect("no other wants it");
        announce_all(mortal, &held);
    }
}

/// A station, from the moment at which it fell asleep.
#[derive(Clone, Copy)]
struct Sleeper {
    nth: usize,
    slot: Slot,
    cursor: Cursor,
}

/// A ring that ends at `packets` packets and some bytes, and those that sleep there.
fn prepared(packets: u32, own_format: bool) -> (Shared, [Sleeper; SLEEPERS], Rump) {
    let memory = if own_format { ModelMemory::own_format } else { ModelMemory::new }(SIZE);
    let shared = Shared { memory, words: ModelWords::new() };
    immortal(&shared, |mortal| {
        let table = Table::new(mortal);
        table.make(0, [0; 2]);
        for number in 0..packets {
            send(mortal, 20, number, &[ELSEWHERE], true);
        }
        let ring = Ring::new(mortal, MAX_FRAME);
        let extent = ring.snapshot().expect("sound");
        let sleepers = [0, 1, 2, 3].map(|nth| {
            let slot = table.claim(owner(nth + 1), |_| true).expect("free");
            table.write(slot, owner(nth + 1), 7, &interest(nth));
            table.arm(slot);
            Sleeper { nth, slot, cursor: Cursor::at_end(&extent) }
        });
        let rump = Rump::at(extent.end.generation, extent.end.offset, MAX_FRAME);
        (shared.copy(), sleepers, rump)
    })
}

/// The packets from here to the end of the ring: numbers and addresses.
fn read(mortal: Mortal<'_>, mut cursor: Cursor) -> Vec<(u32, [u8; 6])> {
    let ring = Ring::new(mortal, MAX_FRAME);
    let mut seen = Vec::new();
    let outcome = cursor.read(&ring, |RingPacket { header, offset, .. }| {
        let mut to = [0; 6];
        if header.len == FRAME {
            ring.copy_out(offset, &mut to);
            seen.push((header.sec, to));
        }
        ControlFlow::Continue(())
    });
    assert_eq!(outcome, Outcome::Whole);
    seen
}

/// All that a frame is for are awake and find it; the others sleep on.
fn check_sleepers(shared: &Shared, sleepers: &[Sleeper; SLEEPERS], why: &str) {
    immortal(shared, |mortal| {
        let table = Table::new(mortal);
        let ring = Ring::new(mortal, MAX_FRAME);
        assert!(ring.lock_word().is_free(), "{why}");
        for Sleeper { nth, slot, mut cursor } in *sleepers {
            let all = read(mortal, cursor);
            let is_for_it =
                |to: [u8; 6]| nth == PROMISCUOUS || to == address(nth) || to == address(ALL);
            let mine: Vec<_> = all.iter().filter(|(_, to)| is_for_it(*to)).copied().collect();
            assert_eq!(table.is_asleep(slot), mine.is_empty(), "{why}: sleeper {nth} of {all:?}");
            assert!(table.is_intact(slot, owner(nth + 1), 7, &interest(nth)));
            if let Some(position) = table.disarm(slot).position {
                cursor.skip_to(&ring, position);
            }
            let seen: Vec<_> =
                read(mortal, cursor).into_iter().filter(|(_, to)| is_for_it(*to)).collect();
            assert_eq!(seen, mine, "{why}: sleeper {nth}");
            // Nothing wakes it again for the same frames.
            table.arm(slot);
        }
        send(mortal, 20, 900, &[ELSEWHERE], true);
        for Sleeper { nth, slot, .. } in sleepers {
            assert_eq!(table.is_asleep(*slot), *nth != PROMISCUOUS, "{why}: it is woken again");
        }
    });
}

fn check_ring(shared: &Shared, rump: Rump) {
    let memory = shared.memory.copy();
    dump(&memory);
    for mut rump in [rump, Rump::up(&memory, MAX_FRAME)] {
        rump.receive(&memory);
    }
}

/// Ends within the turn, and such that a burst goes around the end of the ring.
fn ends() -> impl Iterator<Item = u32> {
    [0, 5].into_iter().chain((SIZE / PACKET - 4)..=(SIZE / PACKET))
}

#[test]
#[cfg_attr(miri, ignore = "thousands of runs")]
fn a_killed_burst_wakes_its_sleepers_or_is_not_there() {
    for (packets, own_format) in ends().flat_map(|end| [(end, false), (end, true)]) {
        let (before, sleepers, rump) = prepared(packets, own_format);
        for (burst, foreign) in BURSTS.iter().flat_map(|burst| [(burst, false), (burst, true)]) {
            let before = before.copy();
            if foreign {
                // A frame that is not announced lies before it.
                immortal(&before, |mortal| send(mortal, 30, 500, &[1], false));
            }
            let act = |mortal: Mortal<'_>| send(mortal, 10, 600, burst, true);
            at_every_death(&before, act, |shared, stores| {
                immortal(shared, |mortal| {
                    take_over(mortal, 11);
                    // The next one announces what foreign stations sent, at the latest.
                    send(mortal, 11, 700, &[], true);
                });
                let why = format!("{packets} packets, {burst:?} killed after {stores} stores");
                check_ring(shared, rump);
                check_sleepers(shared, &sleepers, &why);
            });
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "thousands of runs")]
fn the_next_holder_of_the_lock_may_be_killed_too() {
    for (packets, own_format) in ends().step_by(2).flat_map(|end| [(end, false), (end, true)]) {
        let (before, sleepers, rump) = prepared(packets, own_format);
        for burst in [BURSTS[1], BURSTS[3]] {
            let act = |mortal: Mortal<'_>| send(mortal, 10, 600, burst, true);
            at_every_death(&before, act, |dead, stores| {
                if dead.memory.load64(Field64::Lock, Ordering::Relaxed) == 0 {
                    return;
                }
                at_every_death(
                    dead,
                    |mortal| take_over(mortal, 11),
                    |shared, later| {
                        immortal(shared, |mortal| take_over(mortal, 12));
                        let why =
                            format!("{packets} packets, {burst:?}, {stores} and {later} stores");
                        check_ring(shared, rump);
                        check_sleepers(shared, &sleepers, &why);
                    },
                );
            });
        }
    }
}

/// A station dies while it takes its slot, writes it, falls asleep, wakes or leaves.
#[test]
#[cfg_attr(miri, ignore = "hundreds of runs")]
fn a_killed_sleeper_is_in_no_way() {
    let (before, sleepers, rump) = prepared(5, false);
    let act = |mortal: Mortal<'_>| {
        let table = Table::new(mortal);
        if let Some(slot) = table.claim(owner(40), |owner| owner.number() < 10) {
            table.write(slot, owner(40), 8, &interest(ELSEWHERE));
            table.arm(slot);
            table.disarm(slot);
            table.free(slot, owner(40));
        }
    };
    at_every_death(&before, act, |shared, stores| {
        immortal(shared, |mortal| {
            send(mortal, 10, 600, &[ELSEWHERE, 0, ALL], true);
            let table = Table::new(mortal);
            let slot = table.claim(owner(41), |owner| owner.number() < 10).expect("free");
            assert!(sleepers.iter().all(|sleeper| sleeper.slot != slot));
            assert!(!table.is_bit_set(slot), "after {stores} stores");
            table.write(slot, owner(41), 8, &interest(ELSEWHERE));
            assert!(table.is_intact(slot, owner(41), 8, &interest(ELSEWHERE)));
            table.free(slot, owner(41));
        });
        check_ring(shared, rump);
        check_sleepers(shared, &sleepers, "a sleeper died");
    });
}
