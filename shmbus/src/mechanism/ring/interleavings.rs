//! Every interleaving of writers, readers and deaths on a tiny ring, with loom, up to a number of
//! preemptions.
//!
//! The ring's bytes are cells of eight, so that a packet is four stores and not thirty-two;
//! everything on it is a multiple of eight. Every packet says in its header's time what its frame
//! must be.

use std::cell::Cell;
use std::ops::ControlFlow;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

use super::Ring;
use super::cursor::{Cursor, Outcome, RingPacket};
use super::lock::{LockWord, Owner};
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::memory::Memory;

/// Four packets of a header and eight bytes.
const SIZE: u32 = 4 * PACKET;
const FRAME: u32 = 8;
const PACKET: u32 = PACKET_HEADER_SIZE + FRAME;
/// A writer that does not die.
const IMMORTAL: usize = usize::MAX;

struct Shared {
    first: AtomicU32,
    last: AtomicU32,
    generation: AtomicU64,
    lock: AtomicU64,
    end: AtomicU64,
    oldest: AtomicU64,
    data: Vec<AtomicU64>,
}

/// A process's view of the ring. It dies after a number of stores: what it does from then on does
/// not happen.
#[derive(Clone)]
struct View {
    shared: Arc<Shared>,
    /// Whether the bus is of our own format.
    publishes: bool,
    stores_left: Cell<usize>,
}

impl View {
    fn new(publishes: bool) -> Self {
        let shared = Shared {
            first: AtomicU32::new(SIZE),
            last: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            lock: AtomicU64::new(0),
            end: AtomicU64::new(u64::from(PACKET_HEADER_SIZE)),
            oldest: AtomicU64::new(0),
            data: (0..SIZE / 8).map(|_| AtomicU64::new(0)).collect(),
        };
        Self { shared: Arc::new(shared), publishes, stores_left: Cell::new(IMMORTAL) }
    }

    fn dying_after(&self, stores: usize) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            publishes: self.publishes,
            stores_left: Cell::new(stores),
        }
    }

    fn ring(&self) -> Ring<Self> {
        Ring::new(self.clone(), FRAME)
    }

    /// Whether one more store happens.
    fn lives(&self) -> bool {
        let left = self.stores_left.get();
        if left != IMMORTAL {
            self.stores_left.set(left.saturating_sub(1));
        }
        left > 0
    }

    fn field32(&self, field: Field32) -> &AtomicU32 {
        match field {
            Field32::First => &self.shared.first,
            Field32::Last => &self.shared.last,
            Field32::Magic | Field32::Version => {
                unreachable!("the ring does not look at {field:?}")
            }
        }
    }

    fn field64(&self, field: Field64) -> &AtomicU64 {
        match field {
            Field64::Generation => &self.shared.generation,
            Field64::Lock => &self.shared.lock,
            Field64::End => &self.shared.end,
            Field64::Oldest => &self.shared.oldest,
        }
    }
}

impl Memory for View {
    const TRIES: u32 = 1;

    fn data_size(&self) -> u32 {
        SIZE
    }

    fn publishes(&self) -> bool {
        self.publishes
    }

    fn load32(&self, field: Field32, order: Ordering) -> u32 {
        self.field32(field).load(order)
    }

    fn store32(&self, field: Field32, value: u32, order: Ordering) {
        if self.lives() {
            self.field32(field).store(value, order);
        }
    }

    fn load64(&self, field: Field64, order: Ordering) -> u64 {
        self.field64(field).load(order)
    }

    fn store64(&self, field: Field64, value: u64, order: Ordering) {
        if self.lives() {
            self.field64(field).store(value, order);
        }
    }

    fn cas64(&self, field: Field64, current: u64, new: u64) -> Result<u64, u64> {
        if !self.lives() {
            return Err(current);
        }
        self.field64(field).compare_exchange(current, new, Ordering::Acquire, Ordering::Relaxed)
    }

    fn copy_in(&self, at: u32, bytes: &[u8]) {
        for (cell, bytes) in self.shared.data[at as usize / 8..].iter().zip(bytes.chunks(8)) {
            if self.lives() {
                cell.store(
                    u64::from_ne_bytes(bytes.try_into().expect("multiples of eight")),
                    Ordering::Relaxed,
                );
            }
        }
    }

    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        for (cell, bytes) in self.shared.data[at as usize / 8..].iter().zip(bytes.chunks_mut(8)) {
            // A length alone is half a cell.
            bytes.copy_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes()[..bytes.len()]);
        }
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

fn owner(number: u32) -> Owner {
    Owner::new(number).expect("not 0")
}

fn header(number: u32) -> PacketHeader {
    PacketHeader { len: FRAME, sec: number, usec: 0, sender: 0 }
}

/// What the frame of the packet `number` holds.
fn frame(number: u32) -> [u8; FRAME as usize] {
    (u64::from(number) * 0x0101_0101).to_ne_bytes()
}

/// Appends a packet if the lock is free.
fn send(ring: &Ring<View>, me: Owner, number: u32) {
    if let Ok(mut held) = ring.try_lock(me) {
        held.append(std::iter::once(header(number)), |header, at| {
            ring.copy_in(at, &frame(header.sec));
        });
    }
}

/// As a rump kernel does it: `last` first, then `first` and the bytes, then the generation.
fn send_as_a_rump_kernel(view: &View, number: u32) {
    let shared = &view.shared;
    let locked = LockWord::rump_kernel().0;
    if shared.lock.compare_exchange(0, locked, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return;
    }
    // On x86-64 a locked swap is a full barrier; see the argument in the module above.
    fence(Ordering::AcqRel);
    let ring = view.ring();
    let last = shared.last.load(Ordering::Relaxed);
    let at = (last + PACKET_HEADER_SIZE + ring.packet_len(last)) % SIZE;
    shared.last.store(at, Ordering::Relaxed);
    // Everything in this test is a multiple of eight, so `first` is moved once for header and
    // frame.
    let crosses = at + PACKET >= SIZE;
    for (from, to) in [(at, SIZE.min(at + PACKET)), (0, (at + PACKET).saturating_sub(SIZE))] {
        loop {
            let first = shared.first.load(Ordering::Relaxed);
            if !(from <= first + PACKET_HEADER_SIZE
                && to + u32::from(crosses && to == SIZE) > first
                && to > from)
            {
                break;
            }
            let first = (first % SIZE + PACKET_HEADER_SIZE + ring.packet_len(first % SIZE)) % SIZE;
            shared.first.store(first, Ordering::Relaxed);
        }
    }
    fence(Ordering::Release);
    ring.store_words(at, header(number).to_words());
    ring.copy_in((at + PACKET_HEADER_SIZE) % SIZE, &frame(number));
    if crosses {
        let generation = shared.generation.load(Ordering::Relaxed);
        shared.generation.store(generation + 1, Ordering::Relaxed);
    }
    shared.lock.store(0, Ordering::Release);
}

/// Reads what is there and checks it, if it is said to be whole. Returns the numbers.
fn receive(ring: &Ring<View>, cursor: &mut Cursor) -> Vec<u32> {
    let mut seen = Vec::new();
    let outcome = cursor.read(ring, |RingPacket { header, offset, .. }| {
        let mut bytes = [0; FRAME as usize];
        if header.len == FRAME {
            ring.copy_out(offset, &mut bytes);
            seen.push((header.sec, bytes));
        }
        ControlFlow::Continue(())
    });
    assert_ne!(outcome, Outcome::Corrupt, "a sound ring was taken for a broken one");
    if outcome != Outcome::Whole {
        return Vec::new();
    }
    for (number, bytes) in &seen {
        assert_eq!(*bytes, frame(*number), "a torn frame was handed up");
    }
    let numbers: Vec<u32> = seen.into_iter().map(|(number, _)| number).collect();
    assert!(numbers.is_sorted(), "frames out of order: {numbers:?}");
    numbers
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // Two are enough for every race of two parties; more take hours and have found nothing else.
    model.preemption_bound = Some(2);
    model.max_branches = 10_000;
    model.check(test);
}

/// A ring on which `before` packets were sent, of our own format if it `publishes`.
fn prepared(before: u32, publishes: bool) -> (View, Ring<View>) {
    let view = View::new(publishes);
    let ring = view.ring();
    for number in 0..before {
        send(&ring, owner(9), number);
    }
    (view, ring)
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_reader_sees_whole_frames_while_a_writer_goes_around() {
    for (before, publishes) in [(2, false), (3, false), (4, false), (2, true), (3, true), (4, true)]
    {
        explore(move || {
            let (view, ring) = prepared(before, publishes);
            let mut cursor = Cursor::at_first(&ring.snapshot().expect("quiet"));
            let writer = thread::spawn(move || {
                let ring = view.ring();
                send(&ring, owner(1), 100);
                send(&ring, owner(1), 101);
            });
            receive(&ring, &mut cursor);
            writer.join().expect("no panic");
            let _ = receive(&ring, &mut cursor);
            receive(&ring, &mut cursor);
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_reader_sees_whole_frames_while_a_rump_kernel_goes_around() {
    for before in [2, 3] {
        explore(move || {
            let (view, ring) = prepared(before, false);
            let mut cursor = Cursor::at_first(&ring.snapshot().expect("quiet"));
            let writer = thread::spawn(move || {
                send_as_a_rump_kernel(&view, 100);
                send_as_a_rump_kernel(&view, 101);
            });
            receive(&ring, &mut cursor);
            writer.join().expect("no panic");
            let _ = receive(&ring, &mut cursor);
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn two_writers_do_not_mix() {
    for publishes in [false, true] {
        explore(move || {
            let (view, ring) = prepared(2, publishes);
            let mut cursor = Cursor::at_end(&ring.snapshot().expect("quiet"));
            let writer = thread::spawn(move || send(&view.ring(), owner(1), 100));
            send(&ring, owner(2), 100);
            writer.join().expect("no panic");
            let seen = receive(&ring, &mut cursor);
            assert!(!seen.is_empty() && seen.len() <= 2, "{seen:?}");
        });
    }
}

/// The writer dies after every possible number of its stores; another takes the lock over while a
/// reader reads.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_writer_that_dies_takes_nothing_with_it_but_its_burst() {
    // 2 packets: the burst stays within the turn. 3: it reaches the end.
    for (before, publishes) in [(2, false), (3, false), (2, true), (3, true)] {
        for stores in 0..24 {
            explore(move || {
                let (view, ring) = prepared(before, publishes);
                let mut cursor = Cursor::at_end(&ring.snapshot().expect("quiet"));
                let dying = view.dying_after(stores);
                let successor = view.dying_after(IMMORTAL);
                send(&dying.ring(), owner(1), 100);
                let successor = thread::spawn(move || {
                    let ring = successor.ring();
                    match ring.lock_word() {
                        dead if dead.owner() == Some(owner(1)) => {
                            drop(ring.take_over(dead, owner(2)).expect("no other writer wants it"));
                        }
                        word => assert!(word.is_free()),
                    }
                    send(&ring, owner(2), 101);
                });
                let early = receive(&ring, &mut cursor);
                successor.join().expect("no panic");
                let mut seen = early;
                for _ in 0..2 {
                    seen.extend(receive(&ring, &mut cursor));
                }
                assert!(seen == [101] || seen == [100, 101], "after {stores} stores: {seen:?}");
            });
        }
    }
}
