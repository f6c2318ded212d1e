//! Crash tests: a writer is killed at every store, with the ring's end at every place in what it
//! writes. Model rump kernels judge the ring that is left and taken over or repaired: none ever
//! asserts, hangs, or receives a packet that was not sent.

use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::Ordering;

use super::Ring;
use super::append::burst_limit;
use super::cursor::{Cursor, Outcome};

use super::lock::Owner;
use super::mend::Mend;
use super::position::Position;
use super::rump::{Heard, Rump, dump, put};
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::memory::Memory;
use crate::memory::model::ModelMemory;

const MAX_FRAME: u32 = 40;
const SIZE: u32 = 1_830;
/// The shapes of bursts that fit the limit.
const SHAPES: [&[u32]; 8] =
    [&[14], &[15], &[37], &[40], &[14, 14], &[14, 40], &[40, 14], &[14, 14, 14]];
/// Bytes that are stored at once: a writer dies between such stores.
const WORD: usize = 8;

/// A writer's view of the ring, which dies after a number of stores: what it does from then on does
/// not happen.
struct Mortal<'m> {
    memory: &'m ModelMemory,
    left: Cell<usize>,
}

impl Mortal<'_> {
    fn lives(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl Memory for Mortal<'_> {
    fn data_size(&self) -> u32 {
        self.memory.data_size()
    }

    fn publishes(&self) -> bool {
        self.memory.publishes()
    }

    fn load32(&self, field: Field32, order: Ordering) -> u32 {
        self.memory.load32(field, order)
    }

    fn store32(&self, field: Field32, value: u32, order: Ordering) {
        if self.lives() {
            self.memory.store32(field, value, order);
        }
    }

    fn load64(&self, field: Field64, order: Ordering) -> u64 {
        self.memory.load64(field, order)
    }

    fn store64(&self, field: Field64, value: u64, order: Ordering) {
        if self.lives() {
            self.memory.store64(field, value, order);
        }
    }

    fn cas64(&self, field: Field64, current: u64, new: u64) -> Result<u64, u64> {
        // A dead writer sees no error any more.
        if self.lives() { self.memory.cas64(field, current, new) } else { Ok(current) }
    }

    fn copy_in(&self, at: u32, bytes: &[u8]) {
        for (at, bytes) in (at..).step_by(WORD).zip(bytes.chunks(WORD)) {
            if self.lives() {
                self.memory.copy_in(at, bytes);
            }
        }
    }

    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        self.memory.copy_out(at, bytes);
    }
}

/// Acts on the ring as a writer that dies after this many stores; returns whether it finished.
fn dying(memory: &ModelMemory, stores: usize, act: impl FnOnce(&Ring<Mortal<'_>>)) -> bool {
    let mortal = Mortal { memory, left: Cell::new(stores) };
    let ring = Ring::new(mortal, MAX_FRAME);
    act(&ring);
    ring.memory().left.get() > 0
}

/// Acts as a writer that dies at each store in turn, on a copy of the memory each time, until it
/// finishes. Calls `then` with the copy and the number of stores.
fn at_every_death(
    memory: &ModelMemory,
    act: impl Fn(&Ring<Mortal<'_>>),
    mut then: impl FnMut(&ModelMemory, usize),
) {
    for stores in 0.. {
        let memory = memory.copy();
        let lived = dying(&memory, stores, &act);
        then(&memory, stores);
        if lived {
            return;
        }
    }
}

fn immortal<R>(memory: &ModelMemory, act: impl FnOnce(&Ring<Mortal<'_>>) -> R) -> R {
    act(&Ring::new(Mortal { memory, left: Cell::new(usize::MAX) }, MAX_FRAME))
}

fn end_of(memory: &ModelMemory) -> Position {
    immortal(memory, |ring| ring.snapshot().expect("sound").end)
}

fn owner(number: u32) -> Owner {
    Owner::new(number).expect("not 0")
}

/// What the packet `number` holds.
fn frame(number: u32, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number as usize * 31 + at * 7 + 1).to_le_bytes()[0]).collect()
}

/// A burst of ours, whose packets count on from `number`.
fn send<M: Memory>(ring: &Ring<M>, me: u32, number: u32, lens: &[u32]) {
    let headers =
        lens.iter().zip(number..).map(|(&len, sec)| PacketHeader { len, sec, usec: 0, sender: 9 });
    if let Ok(mut held) = ring.try_lock(owner(me)) {
        held.append(headers, |header, at| {
            ring.copy_in(at, &frame(header.sec, header.len as usize));
        });
    }
}

/// What the next station of this kind does that finds the lock held.
fn take_over<M: Memory>(ring: &Ring<M>, me: u32) {
    let word = ring.lock_word();
    if word.owner().is_some() {
        drop(ring.take_over(word, owner(me)));
    }
}

/// Frees the lock of an unknown owner.
fn repair<M: Memory>(ring: &Ring<M>) -> Option<Mend> {
    let word = ring.lock_word();
    let mut held = if word.is_free() {
        ring.try_lock(owner(8)).ok()?
    } else if word.owner().is_some() {
        ring.take_over(word, owner(8)).ok()?
    } else {
        ring.seize(word).ok()?
    };
    Some(held.mend(!word.is_free() && word.owner().is_none(), false))
}

fn check(heard: &[Heard]) -> Vec<u32> {
    for Heard { number, frame: heard } in heard {
        assert_eq!(*heard, frame(*number, heard.len()), "packet {number} is broken");
    }
    heard.iter().map(|heard| heard.number).collect()
}

/// The kind of sender that fills the ring up to a place: this crate, or a rump kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Us,
    Rump,
}

/// A ring that was filled until it ended at `end` in generation `turns`, and the peers that stopped
/// reading at different packets on the way. The number of the next packet is the last.
fn prepared(end: u32, turns: u64, by: By) -> Option<(ModelMemory, Vec<Rump>, u32)> {
    let memory = ModelMemory::new(SIZE);
    let mut peers = vec![Rump::up(&memory, MAX_FRAME)];
    let target = turns * u64::from(SIZE) + u64::from(end);
    for number in 1.. {
        let here = end_of(&memory);
        let left =
            target.checked_sub(here.generation * u64::from(SIZE) + u64::from(here.offset))?;
        // So that the last two packets make up what is left.
        let (least, most) =
            (u64::from(PACKET_HEADER_SIZE + 14), u64::from(PACKET_HEADER_SIZE + MAX_FRAME));
        let step = match left {
            0 => {
                peers.push(current(&memory));
                return Some((memory, peers, number));
            }
            left if left < least => return None,
            left if left <= most => left,
            left if left < 2 * least => return None,
            left => (left - least).min(least + u64::from(number % 5)),
        };
        let len = u32::try_from(step).expect("short") - PACKET_HEADER_SIZE;
        match by {
            By::Us => immortal(&memory, |ring| send(ring, 1, number, &[len])),
            By::Rump => peers[0].send(&memory, number, &frame(number, len as usize)),
        }
        if number % 7 == 0 || left < 4 * least {
            peers.push(current(&memory));
        }
    }
    None
}

/// A peer that has read all packets. A rump kernel that goes up after another's packet around the
/// end would read without end, so this one went up before that and kept up.
fn current(memory: &ModelMemory) -> Rump {
    let end = end_of(memory);
    Rump::at(end.generation, end.offset, MAX_FRAME)
}

/// All of the ends at which a burst reaches the end of the ring, and some at which it does not.
fn ends() -> impl Iterator<Item = u32> {
    let far: Range<u32> = SIZE - burst_limit(SIZE) - 30..SIZE;
    (0..90).chain(600..603).chain(far)
}

/// All peers can read what is on the ring, and what all kinds of senders add to it.
fn still_works(memory: &ModelMemory, peers: &[Rump], number: u32, may_hear: &[&[u32]], by: By) {
    let memory = memory.copy();
    // A rump kernel that is overrun after another's packet around the end reads without end, until
    // a frame is sent.
    let mut peers = peers[if by == By::Rump { peers.len() - 1 } else { 0 }..].to_vec();
    let up_to_date = peers.len() - 1;
    for (index, peer) in peers.iter_mut().enumerate() {
        let heard = check(&peer.receive(&memory));
        assert!(heard.is_sorted(), "out of order: {heard:?}");
        if index == up_to_date {
            assert!(may_hear.contains(&&heard[..]), "{heard:?} is none of {may_hear:?}");
        }
    }
    if by == By::Us {
        let mut late = Rump::up(&memory, MAX_FRAME);
        assert!(late.receive(&memory).len() <= 1, "a newcomer hears the newest packet at most");
        dump(&memory);
    }
    for (number, len) in (number..).zip([14, 40, 33]) {
        peers[0].send(&memory, number, &frame(number, len));
        for peer in &mut peers {
            assert_eq!(check(&peer.receive(&memory)), [number]);
        }
    }
    let number = number + 3;
    immortal(&memory, |ring| {
        let mut cursor = Cursor::at_end(&ring.snapshot().expect("sound"));
        send(ring, 3, number, &[14, 30]);
        peers.push(Rump::up(&memory, MAX_FRAME));
        let mut numbers = Vec::new();
        let outcome = cursor.read(ring, |met| {
            numbers.extend((met.header.len > 0).then_some(met.header.sec));
            ControlFlow::Continue(())
        });
        assert_eq!((outcome, &numbers[..]), (Outcome::Whole, &[number, number + 1][..]));
    });
    dump(&memory);
    let newcomer = peers.pop().map(|mut peer| peer.receive(&memory).len());
    assert!(newcomer.is_some_and(|heard| heard <= 1));
    for peer in &mut peers {
        assert_eq!(check(&peer.receive(&memory)), [number, number + 1]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "a million runs")]
fn a_killed_burst_is_there_or_not() {
    for by in [By::Us, By::Rump] {
        for (end, turns) in ends().flat_map(|end| [(end, 0), (end, 1), (end, 2)]) {
            let Some((before, peers, number)) = prepared(end, turns, by) else { continue };
            for shape in SHAPES {
                let all: Vec<u32> = (number..).take(shape.len()).collect();
                let next = number + 10;
                at_every_death(
                    &before,
                    |ring| send(ring, 1, number, shape),
                    |memory, _stores| {
                        // A rump kernel goes up without waiting for the lock.
                        let risen = Rump::up(memory, MAX_FRAME);
                        immortal(memory, |ring| take_over(ring, 2));
                        let sender = if memory.load32(Field32::Last, Ordering::Relaxed)
                            == before.load32(Field32::Last, Ordering::Relaxed)
                        {
                            by
                        } else {
                            By::Us
                        };
                        let mut peers = peers.clone();
                        if sender == By::Us {
                            peers.insert(0, risen);
                        }
                        still_works(memory, &peers, next, &[&[], &all], sender);
                    },
                );
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "thousands of runs")]
fn a_successor_may_be_killed_too() {
    for (end, turns) in ends().flat_map(|end| [(end, 0), (end, 1)]) {
        let Some((before, peers, number)) = prepared(end, turns, By::Us) else { continue };
        for shape in [SHAPES[0], SHAPES[7]] {
            let all: Vec<u32> = (number..).take(shape.len()).collect();
            at_every_death(
                &before,
                |ring| send(ring, 1, number, shape),
                |memory, _| {
                    if memory.load64(Field64::Lock, Ordering::Relaxed) == 0 {
                        return;
                    }
                    let take_over = |ring: &Ring<Mortal<'_>>| take_over(ring, 2);
                    at_every_death(memory, take_over, |memory, _| {
                        let risen = Rump::up(memory, MAX_FRAME);
                        immortal(memory, |ring| self::take_over(ring, 3));
                        let peers = [&[risen][..], &peers].concat();
                        still_works(memory, &peers, number + 10, &[&[], &all], By::Us);
                    });
                },
            );
        }
    }
}

/// On a bus of our own format readers believe what was published, and writers the header: the two
/// agree again once a dead writer's lock is taken over.
#[test]
#[cfg_attr(miri, ignore = "thousands of runs")]
fn what_is_published_is_what_the_header_says() {
    fn check(memory: &ModelMemory, [begin, late]: [Cursor; 2], burst: &[u32], next: u32) {
        let memory = &memory.copy();
        immortal(memory, |ring| {
            take_over(ring, 4);
            let extent = ring.try_lock(owner(5)).expect("free").extent();
            assert_eq!(ring.snapshot().ok(), extent);
            let mut late = late;
            let heard = numbers(ring, &mut late);
            assert!(heard.is_empty() || heard == burst, "{heard:?}");
            // A reader that was far behind is overrun, or receives all.
            let mut begin = begin;
            assert!(numbers(ring, &mut begin).is_sorted());
            send(ring, 6, next, &[20]);
            assert_eq!(numbers(ring, &mut late), [next]);
        });
    }
    for (end, turns) in ends().flat_map(|end| [(end, 0), (end, 1)]) {
        let Some((header, _, number)) = prepared(end, turns, By::Us) else { continue };
        let before = header.in_own_format();
        let extent = immortal(&before, |ring| {
            let mend = ring.try_lock(owner(1)).expect("free").mend(false, true);
            assert!(matches!(mend, Mend::Sound { .. }));
            ring.snapshot().expect("sound")
        });
        let cursors = [Cursor::at_first(&extent), Cursor::at_end(&extent)];
        for shape in SHAPES {
            let burst: Vec<u32> = (number..).take(shape.len()).collect();
            let act = |ring: &Ring<Mortal<'_>>| send(ring, 1, number, shape);
            at_every_death(&before, act, |dead, _| {
                check(dead, cursors, &burst, number + 10);
                if shape.len() == 1 {
                    let take_over = |ring: &Ring<Mortal<'_>>| take_over(ring, 2);
                    at_every_death(dead, take_over, |memory, _| {
                        check(memory, cursors, &burst, number + 10);
                    });
                }
            });
        }
    }
}

/// Reads all there is, and checks it.
fn numbers<M: Memory>(ring: &Ring<M>, cursor: &mut Cursor) -> Vec<u32> {
    let mut heard = Vec::new();
    let outcome = cursor.read(ring, |met| {
        let mut bytes = vec![0; met.header.len as usize];
        ring.copy_out(met.offset, &mut bytes);
        if !bytes.is_empty() {
            heard.push(Heard { number: met.header.sec, frame: bytes });
        }
        ControlFlow::Continue(())
    });
    match outcome {
        Outcome::Whole => check(&heard),
        Outcome::Overrun(_) => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// Rump kernels die while they send and read, and the repair of the bus may be killed, too.
#[test]
#[cfg_attr(miri, ignore = "thousands of runs")]
fn a_repaired_ring_is_one_to_rump_kernels() {
    for by in [By::Us, By::Rump] {
        for (end, turns) in ends().flat_map(|end| [(end, 0), (end, 1), (end, 2)]) {
            let Some((before, peers, number)) = prepared(end, turns, by) else { continue };
            // A rump kernel that dies right after it has taken the lock may be one that reads: then
            // others may have read the newest packet.
            let send = |ring: &Ring<Mortal<'_>>| put(ring.memory(), number, &frame(number, 33));
            at_every_death(&before, send, |dead, stores| {
                if stores == 0 {
                    return;
                }
                let repair = |ring: &Ring<Mortal<'_>>| {
                    assert!(repair(ring).is_some(), "no other process is there");
                };
                at_every_death(dead, repair, |memory, stores| {
                    if memory.load64(Field64::Lock, Ordering::Relaxed) == 0 {
                        return;
                    }
                    let risen = Rump::up(memory, MAX_FRAME);
                    immortal(memory, |ring| {
                        assert!(self::repair(ring).is_some(), "no other process is there");
                    });
                    let peers =
                        if by == By::Us { [&[risen][..], &peers].concat() } else { peers.clone() };
                    // In one state a rump kernel asserts: in the first turn, the repair is killed
                    // between the blanks and `last`, and it has read the packet that they took the
                    // place of.
                    let all = turns > 0 || stores == 0;
                    for mut peer in peers.into_iter().filter(|peer| all || !peer.is_at(end)) {
                        let heard = check(&peer.receive(memory));
                        let old = heard.iter().all(|heard| *heard < number);
                        assert!(
                            old && heard.is_sorted(),
                            "after {stores} stores {heard:?} of {number}"
                        );
                    }
                    dump(memory);
                    // From here on it is a ring like any other.
                    still_works(memory, &[current(memory)], number, &[&[]], By::Us);
                });
            });
        }
    }
}

/// The header is no ring's, or the packets lead nowhere: the next sender repairs that, and may be
/// killed at it.
#[test]
#[cfg_attr(miri, ignore = "thousands of runs")]
fn a_broken_ring_that_is_put_right_is_one_to_rump_kernels() {
    let breaks: [fn(&ModelMemory); 3] = [
        |memory| memory.store32(Field32::First, SIZE + 1, Ordering::Relaxed),
        |memory| memory.store32(Field32::Last, SIZE, Ordering::Relaxed),
        |memory| {
            let first = memory.load32(Field32::First, Ordering::Relaxed) % SIZE;
            for (at, byte) in u32::MAX.to_ne_bytes().into_iter().enumerate() {
                let at = (first + u32::try_from(at).expect("small")) % SIZE;
                memory.copy_in(at, &[byte]);
            }
        },
    ];
    for (end, turns) in ends().flat_map(|end| [(end, 1), (end, 2)]) {
        let Some((before, peers, number)) = prepared(end, turns, By::Us) else { continue };
        for (vandalise, header) in breaks.into_iter().zip([true, true, false]) {
            for shape in SHAPES {
                let broken = before.copy();
                vandalise(&broken);
                at_every_death(
                    &broken,
                    |ring| send(ring, 1, number, shape),
                    |memory, _| {
                        immortal(memory, |ring| take_over(ring, 2));
                        let memory = memory.copy();
                        if immortal(&memory, |ring| ring.snapshot().is_err()) {
                            // It was killed before it had the lock.
                            return;
                        }
                        // Where packets are broken, a reader that is behind must come to them
                        // sooner or later.
                        let sound = &peers[if header { 0 } else { peers.len() - 1 }..];
                        for mut peer in [&[Rump::up(&memory, MAX_FRAME)][..], sound].concat() {
                            check(&peer.receive(&memory));
                        }
                        let next = number + 10;
                        // Whether the packets lead somewhere is found out when they are in the way.
                        // Once around, and all is well.
                        immortal(&memory, |ring| {
                            for number in next..next + 60 {
                                send(ring, 3, number, &[20]);
                            }
                        });
                        let peers = [current(&memory)];
                        still_works(&memory, &peers, next + 60, &[&[]], By::Us);
                    },
                );
            }
        }
    }
}

/// The source that fills a packet may panic: then the burst is not there, and the ring is as
/// before.
#[test]
fn a_burst_whose_source_panics_is_not_there() {
    for (end, turns) in ends().flat_map(|end| [(end, 0), (end, 1)]) {
        let Some((memory, peers, number)) = prepared(end, turns, By::Us) else { continue };
        let ring = Ring::new(memory, MAX_FRAME);
        let headers = [PacketHeader { len: 30, ..PacketHeader::default() }; 2].into_iter();
        let mut filled = 0;
        let send = || {
            let fill = |_: &PacketHeader, _| {
                filled += 1;
                if filled == 2 {
                    // A panic without a word on the terminal.
                    std::panic::resume_unwind(Box::new(()));
                }
            };
            ring.try_lock(owner(1)).expect("free").append(headers, fill);
        };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(send)).is_err();
        assert!(panicked);
        still_works(ring.memory(), &peers, number, &[&[]], By::Us);
    }
}
