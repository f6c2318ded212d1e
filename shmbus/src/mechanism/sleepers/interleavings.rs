//! Every interleaving of stations that sleep and stations that send, with loom, up to a number of
//! preemptions: no wake-up is lost, and what a sleeper skips was not for it.
//!
//! No sleep ends by itself here, unless a test says that the time is over. So a lost wake-up leaves
//! a thread that can never run again, which loom reports. The words that the parties race for are
//! loom's; what is written once, and the ring's bytes (see `ring/interleavings.rs` for those), is
//! plain memory.

use std::ops::ControlFlow;
use std::sync::atomic::{
    AtomicU8, AtomicU32 as PlainU32, AtomicU64 as PlainU64, AtomicUsize as PlainUsize,
};

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::Interest;
use super::announce::announce;
use super::table::{Slot, Table};
use crate::format::sleepers::{ANNOUNCED, ASLEEP, LISTENER, TABLE_WORDS, announced_word, slot};
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::{Cursor, Outcome, RingPacket};
use crate::mechanism::ring::lock::{LockGuard, Owner};
use crate::memory::{Memory, Words};

const FRAME: u32 = 14;
const PACKET: u32 = PACKET_HEADER_SIZE + FRAME;
/// A burst may have one packet.
const SIZE: u32 = 26 * PACKET + 7;
/// The stations that sleep.
const SLEEPERS: usize = 2;
/// A station that does not die.
const IMMORTAL: usize = usize::MAX;
/// An address that is no sleeper's.
const ELSEWHERE: usize = 9;
/// All of them.
const ALL: usize = 10;

struct Shared {
    // The ring.
    first: PlainU32,
    last: AtomicU32,
    generation: AtomicU64,
    lock: AtomicU64,
    data: Vec<AtomicU8>,
    // The table.
    asleep: AtomicU64,
    announced: AtomicU64,
    listener: AtomicU64,
    positions: [AtomicU64; SLEEPERS],
    checks: [AtomicU64; SLEEPERS],
    words: Vec<PlainU64>,
    // What wakes a thread.
    doorbells: [Doorbell; SLEEPERS],
    file: Doorbell,
}

#[derive(Default)]
struct Rung {
    rung: bool,
    time_is_over: bool,
}

struct Doorbell {
    state: Mutex<Rung>,
    rings: Condvar,
}

impl Doorbell {
    fn new() -> Self {
        Self { state: Mutex::new(Rung::default()), rings: Condvar::new() }
    }

    fn ring(&self) {
        self.state.lock().expect("sound").rung = true;
        self.rings.notify_all();
    }

    /// Sleepers look by themselves now.
    fn end_time(&self) {
        self.state.lock().expect("sound").time_is_over = true;
        self.rings.notify_all();
    }

    /// Waits until it is rung, and takes that in. Returns whether the time is over.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().expect("sound");
        while !state.rung && !state.time_is_over {
            state = self.rings.wait(state).expect("sound");
        }
        state.rung = false;
        state.time_is_over
    }
}

/// A process's view of the bus. It dies after a number of stores: what it does from then on does
/// not happen.
#[derive(Clone)]
struct View {
    shared: Arc<Shared>,
    stores_left: std::sync::Arc<PlainUsize>,
}

impl View {
    fn new() -> Self {
        let shared = Shared {
            first: PlainU32::new(SIZE),
            last: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            lock: AtomicU64::new(0),
            data: (0..SIZE).map(|_| AtomicU8::new(0)).collect(),
            asleep: AtomicU64::new(0),
            announced: AtomicU64::new(0),
            listener: AtomicU64::new(0),
            positions: [AtomicU64::new(0), AtomicU64::new(0)],
            checks: [AtomicU64::new(0), AtomicU64::new(0)],
            words: (0..TABLE_WORDS).map(|_| PlainU64::new(0)).collect(),
            doorbells: [Doorbell::new(), Doorbell::new()],
            file: Doorbell::new(),
        };
        let view = Self {
            shared: Arc::new(shared),
            stores_left: std::sync::Arc::new(PlainUsize::new(IMMORTAL)),
        };
        view.table().make(0, [0; 2]);
        view
    }

    fn dying_after(&self, stores: usize) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            stores_left: std::sync::Arc::new(PlainUsize::new(stores)),
        }
    }

    /// Fills the ring so that the next packet but one goes around its end.
    fn fill(&self) {
        let header = PacketHeader { len: FRAME, ..PacketHeader::default() };
        for at in (PACKET_HEADER_SIZE..).step_by(PACKET as usize).take(24) {
            self.store_words(at, header.to_words());
            self.shared.last.store(at, Ordering::Relaxed);
        }
        let end = self.ring().snapshot().expect("quiet").end.as_word(SIZE);
        self.shared.announced.store(announced_word(end), Ordering::Relaxed);
    }

    fn ring(&self) -> Ring<Self> {
        Ring::new(self.clone(), FRAME)
    }

    fn table(&self) -> Table<Self> {
        Table::new(self.clone())
    }

    /// Whether one more store happens.
    fn lives(&self) -> bool {
        let left = self.stores_left.load(Ordering::Relaxed);
        if left != IMMORTAL {
            self.stores_left.store(left.saturating_sub(1), Ordering::Relaxed);
        }
        left > 0
    }

    fn is_dead(&self) -> bool {
        self.stores_left.load(Ordering::Relaxed) == 0
    }

    fn field64(&self, field: Field64) -> &AtomicU64 {
        match field {
            Field64::Generation => &self.shared.generation,
            Field64::Lock => &self.shared.lock,
            Field64::End | Field64::Oldest => {
                unreachable!("the bus is one that rump kernels share")
            }
        }
    }

    /// The words that are raced for.
    fn word(&self, at: usize) -> Option<&AtomicU64> {
        let shared = &self.shared;
        match at {
            ASLEEP => return Some(&shared.asleep),
            ANNOUNCED => return Some(&shared.announced),
            LISTENER => return Some(&shared.listener),
            _ => {}
        }
        (0..SLEEPERS).find_map(|nth| {
            let slot = Slot(nth);
            if at == slot.word(slot::POSITION) {
                Some(&shared.positions[nth])
            } else {
                (at == slot.word(slot::CHECK)).then(|| &shared.checks[nth])
            }
        })
    }
}

impl Memory for View {
    const TRIES: u32 = 1;

    fn data_size(&self) -> u32 {
        SIZE
    }

    fn load32(&self, field: Field32, order: Ordering) -> u32 {
        match field {
            Field32::Last => self.shared.last.load(order),
            _ => self.shared.first.load(Ordering::Relaxed),
        }
    }

    fn store32(&self, field: Field32, value: u32, order: Ordering) {
        if self.lives() {
            match field {
                Field32::Last => self.shared.last.store(value, order),
                _ => self.shared.first.store(value, Ordering::Relaxed),
            }
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
        if self.lives() {
            for (cell, byte) in self.shared.data[at as usize..].iter().zip(bytes) {
                cell.store(*byte, Ordering::Relaxed);
            }
        }
    }

    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        for (cell, byte) in self.shared.data[at as usize..].iter().zip(bytes) {
            *byte = cell.load(Ordering::Relaxed);
        }
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

impl Words for View {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        match self.word(at) {
            Some(word) => word.load(order),
            None => self.shared.words[at].load(order),
        }
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        if self.lives() {
            match self.word(at) {
                Some(word) => word.store(value, order),
                None => self.shared.words[at].store(value, order),
            }
        }
    }

    fn set_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        match self.word(at) {
            _ if !self.lives() => 0,
            Some(word) => word.fetch_or(bits, order),
            None => self.shared.words[at].fetch_or(bits, order),
        }
    }

    fn clear_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        match self.word(at) {
            _ if !self.lives() => 0,
            Some(word) => word.fetch_and(!bits, order),
            None => self.shared.words[at].fetch_and(!bits, order),
        }
    }

    fn cas(&self, at: usize, current: u64, new: u64) -> Result<u64, u64> {
        match self.word(at) {
            _ if !self.lives() => Err(current),
            Some(word) => word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed),
            None => self.shared.words[at].compare_exchange(
                current,
                new,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ),
        }
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

fn owner(number: u32) -> Owner {
    Owner::new(number).expect("not 0")
}

fn address(of: usize) -> [u8; 6] {
    if of == ALL { [0xff; 6] } else { [2, 0, 0, 0, 0, of.to_le_bytes()[0]] }
}

/// Puts a packet on the ring, if the sender lives.
fn append(held: &mut LockGuard<'_, View>, view: &View, number: u32, to: usize) {
    let ring = view.ring();
    let header = PacketHeader { len: FRAME, sec: number, ..PacketHeader::default() };
    held.append(std::iter::once(header), |_, at| ring.copy_in(at, &address(to)));
}

/// Announces, releases the lock, rings: each of it if the process lives.
fn announce_and_release(view: &View, held: LockGuard<'_, View>) {
    let mut doorbells = Vec::new();
    let end = held.extent().expect("sound").end;
    announce(&held, &view.table(), end, 0, &mut doorbells);
    drop(held);
    for doorbell in doorbells {
        if !view.is_dead() {
            view.shared.doorbells[doorbell as usize - 1].ring();
        }
    }
}

/// Sends as a station of this kind does.
fn send(view: &View, me: u32, number: u32, to: usize) {
    let ring = view.ring();
    loop {
        if view.is_dead() {
            return;
        }
        if let Ok(mut held) = ring.try_lock(owner(me)) {
            append(&mut held, view, number, to);
            announce_and_release(view, held);
            return;
        }
        thread::yield_now();
    }
}

/// Sends as a station does that knows no table, and writes the bus file.
fn send_as_a_foreign_station(view: &View, me: u32, number: u32, to: usize) {
    let ring = view.ring();
    loop {
        if let Ok(mut held) = ring.try_lock(owner(me)) {
            append(&mut held, view, number, to);
            break;
        }
        thread::yield_now();
    }
    view.shared.file.ring();
}

/// What the next process does that finds the lock held by a dead one.
fn take_over(view: &View, me: u32) {
    let ring = view.ring();
    let word = ring.lock_word();
    if word.owner().is_some() {
        let held = ring.take_over(word, owner(me)).expect("no other wants it");
        announce_and_release(view, held);
    }
}

/// What the listener does when the bus file was written.
fn listen(view: &View) {
    let (ring, table) = (view.ring(), view.table());
    let is_announced =
        || ring.snapshot().is_ok_and(|extent| table.announced() == extent.end.as_word(SIZE));
    // A station of this kind that has the lock announces.
    if !is_announced()
        && ring.lock_word().owner().is_none()
        && !is_announced()
        && let Ok(held) = ring.try_lock(owner(13))
    {
        announce_and_release(view, held);
    }
}

/// A station that sleeps until frames for it come.
struct Sleeper {
    view: View,
    nth: usize,
    slot: Slot,
    cursor: Cursor,
}

impl Sleeper {
    fn new(view: &View, nth: usize) -> Self {
        let table = view.table();
        let number = u32::try_from(nth).expect("small") + 1;
        let slot = table.claim(owner(number), |_| true).expect("free");
        assert_eq!(slot.0, nth);
        table.write(slot, owner(number), number, &Interest::new([address(nth)]));
        let cursor = Cursor::at_end(&view.ring().snapshot().expect("quiet"));
        Self { view: view.clone(), nth, slot, cursor }
    }

    /// Falls asleep; `false` if there is a frame for it, or it is unknown whether there is.
    fn arm(&mut self) -> bool {
        let (table, ring) = (self.view.table(), self.view.ring());
        table.arm(self.slot);
        if let Ok(extent) = ring.snapshot() {
            for _ in 0..2 {
                if !extent.end.is_after(self.cursor.position(), SIZE) {
                    return true;
                }
                if self.passes_others() {
                    break;
                }
            }
        }
        table.disarm(self.slot);
        false
    }

    /// Reads on up to a frame for it; returns whether there is one.
    fn passes_others(&mut self) -> bool {
        let (ring, mine) = (self.view.ring(), address(self.nth));
        let mut found = false;
        let _outcome = self.cursor.read(&ring, |RingPacket { header, offset, .. }| {
            let mut to = [0; 6];
            if header.len == FRAME {
                ring.copy_out(offset, &mut to);
                found = to == mine || to == address(ALL);
            }
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Ends the sleep, and skips what was for others.
    fn disarm(&mut self) {
        if let Some(position) = self.view.table().disarm(self.slot).position {
            self.cursor.skip_to(&self.view.ring(), position);
        }
    }

    fn sleep(&mut self) -> bool {
        loop {
            let is_over = self.view.shared.doorbells[self.nth].wait();
            if is_over || !self.view.table().is_asleep(self.slot) {
                self.disarm();
                return is_over;
            }
        }
    }

    /// The numbers of the frames for it.
    fn read(&mut self) -> Vec<u32> {
        let mut seen = self.read_known();
        // The first read ends where the ring ended at the last look.
        seen.extend(self.read_known());
        seen
    }

    fn read_known(&mut self) -> Vec<u32> {
        let ring = self.view.ring();
        let mut seen = Vec::new();
        let mine = address(self.nth);
        let outcome = self.cursor.read(&ring, |RingPacket { header, offset, .. }| {
            let mut to = [0; 6];
            if header.len == FRAME {
                ring.copy_out(offset, &mut to);
                let is_for_it = to == mine || to == address(ALL);
                seen.extend(is_for_it.then_some(header.sec));
            }
            ControlFlow::Continue(())
        });
        match outcome {
            Outcome::Whole => seen,
            Outcome::Unsettled => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    /// Sleeps and reads until it has so many frames, or the time is over.
    fn run(mut self, until: usize) -> Vec<u32> {
        let mut seen = Vec::new();
        while seen.len() < until {
            let is_over = self.arm() && self.sleep();
            seen.extend(self.read());
            if is_over {
                break;
            }
            if seen.len() < until {
                thread::yield_now();
            }
        }
        seen
    }
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // As for the ring.
    model.preemption_bound = Some(2);
    model.max_branches = 10_000;
    model.check(test);
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_sleeper_is_woken_by_one_of_two_senders() {
    explore(|| {
        let view = View::new();
        let sleeper = Sleeper::new(&view, 0);
        let asleep = thread::spawn(move || sleeper.run(1));
        let other = view.clone();
        let other = thread::spawn(move || send(&other, 11, 100, ELSEWHERE));
        send(&view, 12, 101, 0);
        other.join().expect("no panic");
        assert_eq!(asleep.join().expect("no panic"), [101]);
    });
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn two_sleepers_are_woken_by_one_sender() {
    explore(|| {
        let view = View::new();
        let sleepers = [0, 1].map(|nth| Sleeper::new(&view, nth));
        let asleep = sleepers.map(|sleeper| thread::spawn(move || sleeper.run(1)));
        send(&view, 11, 100, ALL);
        let seen = asleep.map(|thread| thread.join().expect("no panic"));
        assert_eq!(seen, [[100], [100]]);
    });
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_sleeper_that_sleeps_again_and_again_misses_none() {
    explore(|| {
        let view = View::new();
        let sleeper = Sleeper::new(&view, 0);
        let asleep = thread::spawn(move || sleeper.run(2));
        send(&view, 11, 100, 0);
        send(&view, 11, 101, 0);
        assert_eq!(asleep.join().expect("no panic"), [100, 101]);
    });
}

/// A sleeper whose time is over looks at any moment of what a sender does: it skips no frame for
/// it.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn what_is_skipped_was_for_others() {
    explore(|| {
        let view = View::new();
        let mut sleeper = Sleeper::new(&view, 0);
        let sender = view.clone();
        let sender = thread::spawn(move || {
            send(&sender, 11, 100, ELSEWHERE);
            send(&sender, 11, 101, 0);
        });
        if sleeper.arm() {
            // It sleeps on after the first look.
            if let Some(position) = view.table().peek(sleeper.slot).position {
                sleeper.cursor.skip_to(&view.ring(), position);
            }
            sleeper.disarm();
        }
        let mut seen = sleeper.read_known();
        sender.join().expect("no panic");
        seen.extend(sleeper.read());
        assert_eq!(seen, [101]);
    });
}

/// While a writer goes around the end of the ring, a station that falls asleep cannot know what is
/// there.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_station_that_cannot_look_skips_nothing() {
    explore(|| {
        let view = View::new();
        view.fill();
        let mut sleeper = Sleeper::new(&view, 0);
        let sender = view.clone();
        let sender = thread::spawn(move || {
            send(&sender, 11, 100, 0);
            send(&sender, 11, 101, ELSEWHERE);
        });
        let mut seen = Vec::new();
        if sleeper.arm() {
            sleeper.disarm();
        }
        seen.extend(sleeper.read_known());
        sender.join().expect("no panic");
        seen.extend(sleeper.read());
        assert_eq!(seen, [100]);
    });
}

/// A sender dies after every possible number of its stores; the next one takes over.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_sender_that_dies_takes_no_frame_with_it_that_it_committed() {
    for stores in 0..14 {
        explore(move || {
            let view = View::new();
            let sleeper = Sleeper::new(&view, 0);
            let asleep = thread::spawn(move || sleeper.run(1));
            let dying = view.dying_after(stores);
            let before = view.shared.last.load(Ordering::Relaxed);
            send(&dying, 11, 100, 0);
            let committed = view.shared.last.load(Ordering::Relaxed) != before;
            take_over(&view, 12);
            view.shared.doorbells[0].end_time();
            let seen = asleep.join().expect("no panic");
            let expected: &[u32] = if committed { &[100] } else { &[] };
            assert_eq!(seen, expected, "after {stores} stores");
        });
    }
}

/// A frame of a station that knows no table is announced by the listener.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_foreign_frame_wakes_its_sleeper() {
    explore(|| {
        let view = View::new();
        let sleeper = Sleeper::new(&view, 0);
        let asleep = thread::spawn(move || sleeper.run(1));
        let foreign = view.clone();
        let foreign = thread::spawn(move || send_as_a_foreign_station(&foreign, 11, 100, 0));
        view.shared.file.wait();
        listen(&view);
        foreign.join().expect("no panic");
        assert_eq!(asleep.join().expect("no panic"), [100]);
    });
}

/// The listener and a sender of this kind are at it at the same time: one of them announces.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_foreign_frame_is_announced_by_the_listener_or_the_next_sender() {
    explore(|| {
        let view = View::new();
        let mut sleeper = Sleeper::new(&view, 0);
        assert!(sleeper.arm());
        let senders = view.clone();
        let senders = thread::spawn(move || {
            send_as_a_foreign_station(&senders, 11, 100, 0);
            send(&senders, 12, 101, ELSEWHERE);
        });
        view.shared.file.wait();
        listen(&view);
        senders.join().expect("no panic");
        assert!(!view.table().is_asleep(sleeper.slot), "it sleeps on");
        sleeper.disarm();
        assert_eq!(sleeper.read(), [100]);
    });
}

/// A sleeper dies; another station takes its slot while a sender looks at it.
#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn the_slot_of_a_dead_sleeper_serves_the_next() {
    explore(|| {
        let view = View::new();
        let mut dead = Sleeper::new(&view, 0);
        assert!(dead.arm());
        let sender = view.clone();
        let sender = thread::spawn(move || {
            send(&sender, 11, 100, 0);
            send(&sender, 11, 101, 0);
        });
        let table = view.table();
        let me = owner(5);
        let slot = table.claim(me, |owner| owner.number() != 1).expect("the dead one's");
        assert_eq!(slot, dead.slot);
        table.write(slot, me, 1, &Interest::new([address(0)]));
        let extent = loop {
            match view.ring().snapshot() {
                Ok(extent) => break extent,
                Err(_) => thread::yield_now(),
            }
        };
        let cursor = Cursor::at_end(&extent);
        let mut next = Sleeper { view: view.clone(), nth: 0, slot, cursor };
        let begin = next.cursor;
        if next.arm() {
            next.disarm();
        }
        sender.join().expect("no panic");
        let all = Sleeper { view: view.clone(), nth: 0, slot, cursor: begin }.read();
        assert_eq!(next.read(), all, "it missed one");
        assert!(table.is_intact(slot, me, 1, &Interest::new([address(0)])));
    });
}
