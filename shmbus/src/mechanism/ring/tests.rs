//! The ring against a naive model of it, at every wrap position; and writers and readers at once.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::Ring;
use super::cursor::{Cursor, Outcome};

use super::lock::Owner;
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::memory::Memory;
use crate::memory::model::ModelMemory;

const MAX_FRAME: u32 = 100;

fn ring(size: u32) -> Ring<ModelMemory> {
    Ring::new(ModelMemory::new(size), MAX_FRAME)
}

fn own_format(size: u32) -> Ring<ModelMemory> {
    Ring::new(ModelMemory::own_format(size), MAX_FRAME)
}

fn me() -> Owner {
    Owner::new(1).expect("not 0")
}

/// Sends packets of the given lengths in one burst, filled with numbers from `seed` on.
fn send(ring: &Ring<ModelMemory>, seed: u8, lens: &[u32]) -> Vec<Vec<u8>> {
    let packets: Vec<Vec<u8>> =
        lens.iter().zip(0..).map(|(&len, n)| vec![seed.wrapping_add(n); len as usize]).collect();
    let mut rest = packets.iter();
    let headers = lens.iter().map(|&len| PacketHeader { len, sec: 1, usec: 2, sender: 3 });
    let appended = ring.try_lock(me()).expect("free").append(headers, |_, at| {
        ring.copy_in(at, rest.next().expect("one for each header"));
    });
    assert!(!appended.mended, "a sound ring was taken for a broken one");
    packets
}

/// Reads at most `max` packets; the empty ones are not shown.
fn receive(ring: &Ring<ModelMemory>, cursor: &mut Cursor, max: usize) -> (Outcome, Vec<Vec<u8>>) {
    let mut packets = Vec::new();
    let outcome = cursor.read(ring, |met| {
        if met.header.len > 0 {
            if packets.len() == max {
                return ControlFlow::Break(());
            }
            let mut bytes = vec![0; met.header.len as usize];
            ring.copy_out(met.offset, &mut bytes);
            packets.push(bytes);
        }
        ControlFlow::Continue(())
    });
    (outcome, packets)
}

/// Bytes of the ring that the packets take.
fn on_the_ring<'p>(packets: impl IntoIterator<Item = &'p Vec<u8>>) -> u32 {
    packets
        .into_iter()
        .map(|packet| PACKET_HEADER_SIZE + u32::try_from(packet.len()).expect("short"))
        .sum()
}

/// What a rump kernel's assertions and `shmif_dumpbus` would find on the ring.
fn check_as_a_rump_kernel(ring: &Ring<ModelMemory>) {
    let memory = ring.memory();
    let (first, last) = (
        memory.load32(Field32::First, Ordering::Relaxed),
        memory.load32(Field32::Last, Ordering::Relaxed),
    );
    assert_ne!(first, last, "first equals last");
    assert!(first <= ring.size() && last < ring.size());
    assert!(ring.lock_word().is_free());
    // From `first`, header by header, the walk comes to `last`, and everything on the way is a
    // packet.
    let (mut at, mut walked) = (first % ring.size(), 0);
    while at != last {
        let len = ring.packet_len(at);
        assert!(len <= MAX_FRAME, "a packet of {len} bytes at {at}");
        walked += PACKET_HEADER_SIZE + len;
        at = (at + PACKET_HEADER_SIZE + len) % ring.size();
        assert!(walked <= ring.size(), "first does not lead to last");
    }
    // A rump kernel that attaches now begins at `last`. It must not lie before the end of the ring
    // with its packet reaching it.
    if memory.load64(Field64::Generation, Ordering::Relaxed) > 0 {
        assert!(
            last + PACKET_HEADER_SIZE + ring.packet_len(last) < ring.size(),
            "the newest packet reaches the end"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 400 }, ..ProptestConfig::default() })]

    /// Every ring size in the range gives other wrap positions: headers and frames straddle the end
    /// at every byte.
    #[test]
    fn a_reader_gets_what_a_queue_would_give(
        size in 3_000_u32..3_100, own: bool,
        steps in prop::collection::vec((prop::collection::vec(1_u32..=MAX_FRAME, 0..4), 0_usize..6), 1..200),
    ) {
        let ring = if own { own_format(size) } else { ring(size) };
        // A reader that keeps up, and one that comes to the oldest packet anew each time.
        let mut cursor = Cursor::at_end(&ring.snapshot().expect("a new ring"));
        let mut unread: VecDeque<Vec<u8>> = VecDeque::new();
        let mut all: Vec<Vec<u8>> = Vec::new();
        for (seed, (lens, reads)) in (0_u8..=255).cycle().zip(steps) {
            let lens = if lens.iter().map(|len| len + PACKET_HEADER_SIZE).sum::<u32>() <= super::append::burst_limit(size) {
                lens
            } else {
                vec![lens[0]]
            };
            let sent = send(&ring, seed, &lens);
            check_as_a_rump_kernel(&ring);
            all.extend(sent.iter().cloned());
            unread.extend(sent);

            let (outcome, seen) = receive(&ring, &mut Cursor::at_first(&ring.snapshot().expect("sound")), usize::MAX);
            prop_assert_eq!(outcome, Outcome::Whole);
            prop_assert!(all.ends_with(&seen), "the ring does not hold the newest packets");
            // Nothing is given up without need: what is gone would not fit any more.
            let held = on_the_ring(&seen);
            if seen.len() < all.len() {
                prop_assert!(held + 3 * (PACKET_HEADER_SIZE + MAX_FRAME) > size - super::append::burst_limit(size));
            }

            let (outcome, seen) = receive(&ring, &mut cursor, reads);
            match outcome {
                Outcome::Whole => {
                    // A read may end where the ring ended at the one before; it does not come away
                    // empty-handed.
                    prop_assert!(seen.len() <= reads.min(unread.len()));
                    prop_assert!(!seen.is_empty() || reads == 0 || unread.is_empty());
                    let expected: Vec<Vec<u8>> = unread.drain(..seen.len()).collect();
                    prop_assert_eq!(seen, expected);
                }
                Outcome::Overrun(_) => {
                    prop_assert!(on_the_ring(&unread) > size - super::append::burst_limit(size) - 3 * (PACKET_HEADER_SIZE + MAX_FRAME), "overrun without need");
                    let (outcome, seen) = receive(&ring, &mut cursor, usize::MAX);
                    prop_assert_eq!(outcome, Outcome::Whole);
                    prop_assert!(all.ends_with(&seen));
                    unread.clear();
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// A header and a ring of any bytes: everything comes to an end, and afterwards the ring works.
    #[test]
    fn no_bytes_hang_or_crash(
        generation: u64, first in 0..5_000_u32, last in 0..5_000_u32, seed: u8,
        published: Option<[u64; 2]>,
        words in prop::collection::vec(prop_oneof![0..200_u32, any::<u32>()], 100),
    ) {
        let ring = if published.is_some() { own_format(4_000) } else { ring(4_000) };
        let memory = ring.memory();
        let mut cursor = Cursor::at_end(&ring.snapshot().expect("new"));
        for (at, word) in (0..4_000).step_by(40).zip(words) {
            memory.copy_in(at, &word.to_ne_bytes());
        }
        memory.store64(Field64::Generation, generation, Ordering::Relaxed);
        memory.store32(Field32::First, first, Ordering::Relaxed);
        memory.store32(Field32::Last, last, Ordering::Relaxed);
        if let Some([end, oldest]) = published {
            memory.store64(Field64::End, end, Ordering::Relaxed);
            memory.store64(Field64::Oldest, oldest, Ordering::Relaxed);
        }
        for _ in 0..20 {
            let _ = receive(&ring, &mut cursor, usize::MAX);
        }
        let mut sent = Vec::new();
        for n in 0..100 {
            sent.clear();
            let headers = [PacketHeader { len: 50, ..PacketHeader::default() }; 2].into_iter();
            ring.try_lock(me()).expect("free").append(headers, |_, at| {
                let bytes = vec![seed.wrapping_add(n); 50];
                ring.copy_in(at, &bytes);
                sent.push(bytes);
            });
        }
        // Some of the garbage may still be behind the cursor; it gets past it.
        for _ in 0..200 {
            let _ = receive(&ring, &mut cursor, usize::MAX);
        }
        let sent = send(&ring, seed, &[60, 61]);
        let (outcome, seen) = receive(&ring, &mut cursor, usize::MAX);
        prop_assert_eq!(outcome, Outcome::Whole);
        prop_assert_eq!(seen, sent);
    }
}

#[test]
fn an_overrun_reader_continues_at_the_oldest_packet() {
    let ring = ring(3_000);
    let mut cursor = Cursor::at_end(&ring.snapshot().expect("new"));
    let mut all = Vec::new();
    for seed in 0..60 {
        all.extend(send(&ring, seed, &[80]));
    }
    let (outcome, seen) = receive(&ring, &mut cursor, usize::MAX);
    assert!(matches!(outcome, Outcome::Overrun(missed) if missed > 3_000), "{outcome:?}");
    assert!(seen.is_empty(), "nothing may be handed up");
    let (outcome, seen) = receive(&ring, &mut cursor, usize::MAX);
    assert_eq!(outcome, Outcome::Whole);
    assert!(seen.len() > 20 && all.ends_with(&seen));
}

/// A state that no writer can have left is no overrun, and how much was missed is unknown.
#[test]
fn a_scribbled_header_is_not_counted_as_missed_bytes() {
    let ring = ring(3_000);
    let memory = ring.memory();
    send(&ring, 0, &[80; 2]);
    let mut cursor = Cursor::at_end(&ring.snapshot().expect("sound"));
    for generation in [u64::MAX, 1 << 40, 7, 5] {
        memory.store64(Field64::Generation, generation, Ordering::Relaxed);
        assert_eq!(receive(&ring, &mut cursor, usize::MAX).0, Outcome::Scribbled, "{generation}");
        // It goes by the header as it is.
        assert_eq!(receive(&ring, &mut cursor, usize::MAX).0, Outcome::Whole);
        let sent = send(&ring, 1, &[80]);
        assert_eq!(receive(&ring, &mut cursor, usize::MAX), (Outcome::Whole, sent));
    }
    // Back by some packets in the same turn.
    memory.store32(Field32::Last, 0, Ordering::Relaxed);
    assert_eq!(receive(&ring, &mut cursor, usize::MAX), (Outcome::Scribbled, vec![]));
}

#[test]
fn a_reader_waits_while_a_rump_kernel_holds_the_lock() {
    let ring = ring(3_000);
    let mut cursor = Cursor::at_end(&ring.snapshot().expect("new"));
    // As a rump kernel does it: the lock, then `last`, and the bytes are not there yet.
    ring.memory().store64(
        Field64::Lock,
        u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]),
        Ordering::Relaxed,
    );
    ring.memory().store32(Field32::Last, 24, Ordering::Relaxed);
    assert_eq!(receive(&ring, &mut cursor, usize::MAX), (Outcome::Unsettled, vec![]));
    ring.store_words(24, PacketHeader { len: 20, ..PacketHeader::default() }.to_words());
    ring.copy_in(48, &[7; 20]);
    ring.memory().store64(Field64::Lock, 0, Ordering::Relaxed);
    assert_eq!(receive(&ring, &mut cursor, usize::MAX), (Outcome::Whole, vec![vec![7; 20]]));
}

/// Counts down when it is dropped, by a failed assertion as well: the writers do not wait for a
/// reader that has ended.
struct Done<'c>(&'c AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Two writers write until two readers have seen enough of it.
#[test]
fn readers_never_see_a_torn_packet() {
    write_and_read(&ring(20_000));
    write_and_read(&own_format(20_000));
}

fn write_and_read(ring: &Ring<ModelMemory>) {
    const ENOUGH: usize = if cfg!(miri) { 200 } else { 20_000 };
    let reading = AtomicUsize::new(2);
    let start = ring.snapshot().expect("no writer is at work yet");
    let write = |owner| {
        let owner = Owner::new(owner).expect("not 0");
        let mut lens = (8..=MAX_FRAME).cycle();
        while reading.load(Ordering::Acquire) > 0 {
            let Ok(mut held) = ring.try_lock(owner) else {
                std::thread::yield_now();
                continue;
            };
            let headers =
                lens.by_ref().take(3).map(|len| PacketHeader { len, ..PacketHeader::default() });
            held.append(headers.collect::<Vec<_>>().into_iter(), |header, at| {
                ring.copy_in(at, &vec![header.len.to_le_bytes()[0]; header.len as usize]);
            });
        }
    };
    let read = || {
        let _done = Done(&reading);
        let mut cursor = Cursor::at_end(&start);
        let mut whole = 0;
        while whole < ENOUGH {
            let (outcome, packets) = receive(ring, &mut cursor, 16);
            assert_ne!(outcome, Outcome::Corrupt, "a sound ring was taken for a broken one");
            if outcome == Outcome::Whole {
                for packet in &packets {
                    assert!(
                        packet.iter().all(|byte| usize::from(*byte) == packet.len()),
                        "torn: {packet:?}"
                    );
                }
                whole += packets.len();
            }
        }
    };
    std::thread::scope(|scope| {
        let write = &write;
        for owner in 1..=2 {
            scope.spawn(move || write(owner));
        }
        scope.spawn(read);
        scope.spawn(read);
    });
}
