//! Both ends of a ring over the same memory: honest ones, and a peer that stores arbitrary values.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use proptest::prelude::*;

use super::Side;
use super::rx::{BurstLimit, RxRing};
use super::test_memory::Memory;
use super::tx::{TxRing, end_of_packets};
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::memory::copy;
use crate::memory::ring::RingMemory;

fn push(tx: &mut TxRing, packet: &[u8]) -> bool {
    let Some(start) = tx.reserve(packet.len()).unwrap() else { return false };
    let mut done = 0;
    for descriptor in tx.pending(start) {
        done += copy::write(&packet[done..], tx.bytes(descriptor));
    }
    assert_eq!(done, packet.len());
    true
}

fn packets(rx: &RxRing) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = rx.burst();
    while !rest.is_empty() {
        let (packet, behind) = rest.split_at(end_of_packets(rest, 1));
        let mut bytes = Vec::new();
        for descriptor in packet {
            let mut piece = vec![0; descriptor.length as usize];
            copy::read(rx.bytes(descriptor), &mut piece);
            bytes.extend(piece);
        }
        all.push(bytes);
        rest = behind;
    }
    all
}

fn filled(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n + seed) % 251).unwrap()).collect()
}

proptest! {
    /// Packets of any burst, chained or not, arrive whole and in order, in both directions; packets
    /// cancelled before they were published never do.
    #[test]
    fn packets_arrive_as_sent(
        to_server: bool, log2 in 0u8..7, buffer in 64u32..200,
        steps in proptest::collection::vec((proptest::collection::vec(1usize..500, 0..9), 0usize..9, 0usize..20, 0usize..20), 1..60),
    ) {
        let memory = Memory::new(log2, buffer);
        let (mut tx, mut rx) = if to_server { memory.s2m() } else { memory.m2s() };
        let mut under_way = VecDeque::new();
        for (lengths, cancelled, max, keep) in steps {
            let mut reserved = Vec::new();
            for (n, length) in lengths.into_iter().enumerate() {
                let packet = filled(length, n);
                if push(&mut tx, &packet) {
                    reserved.push(packet);
                }
            }
            reserved.truncate(reserved.len().saturating_sub(cancelled));
            tx.truncate(reserved.len());
            tx.publish();
            under_way.extend(reserved);

            let count = rx.collect(BurstLimit::packets(max)).unwrap();
            let received = packets(&rx);
            prop_assert_eq!(count, received.len());
            prop_assert!(count <= max && count <= under_way.len());
            prop_assert!(max == 0 || count > 0 || under_way.is_empty());
            prop_assert!(received.iter().zip(&under_way).all(|(a, b)| a == b));
            // Some packets stay for later.
            let taken = count.saturating_sub(keep);
            rx.give_back(end_of_packets(rx.burst(), taken));
            under_way.drain(..taken);
        }
    }

    /// A peer that stores anything anywhere in a ring causes an error or a valid burst, and never
    /// an access outside the regions.
    #[test]
    fn arbitrary_rings_are_handled(
        server: bool,
        stores in proptest::collection::vec((0usize..8, any::<u64>(), any::<u64>(), any::<u16>(), any::<u16>()), 1..40),
    ) {
        let memory = Memory::new(3, 64);
        let (rx_ring, tx_ring) = if server { (0, 1) } else { (1, 0) };
        let side = |n| if server { Side::Server } else { memory.client(n) };
        let mut rx = RxRing::new(memory.ring(rx_ring), side(rx_ring), 0, true, 0, false);
        let mut tx = TxRing::new(memory.ring(tx_ring), side(tx_ring), 0);
        for (slot, first, second, head, tail) in stores {
            for n in [rx_ring, tx_ring] {
                let ring = memory.ring(n);
                // Half of them are nearly valid, or all would fail the same check.
                let (first, second) = if first & 8 == 0 { (first & 0x0000_007f_0000_0001, second & 0xfff) } else { (first, second) };
                ring.set_descriptor(u16::try_from(slot).unwrap(), Descriptor::from_words(first, second));
                let (head, tail) = if head & 8 == 0 { (head & 7, tail & 7) } else { (head, tail) };
                ring.header().head.store(head, SeqCst);
                ring.header().tail.store(tail, SeqCst);
            }
            if let Ok(count) = rx.collect(BurstLimit::packets(4)) {
                prop_assert!(count <= 4 && rx.burst().len() <= 8);
                prop_assert!(rx.burst().iter().all(|d| rx.bytes(d).len() == d.length as usize && d.length != 0));
                rx.give_back(count);
            }
            if let Ok(Some(start)) = tx.reserve(100) {
                prop_assert!(tx.pending(start).iter().map(|d| tx.bytes(d).len()).sum::<usize>() == 100);
                tx.publish();
            }
        }
    }
}

fn cause<T>(result: Result<T, ProtocolError>) -> RingError {
    match result {
        Err(ProtocolError::Ring { cause, .. }) => cause,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn every_offer_and_packet_is_written_whole() {
    let memory = Memory::new(2, 64);
    let (mut tx, mut rx) = memory.m2s();
    let ring = memory.ring(1);
    assert!(push(&mut tx, &filled(100, 0)));
    tx.publish();
    assert!(ring.descriptor(0).continues() && !ring.descriptor(1).continues());
    assert_eq!((ring.descriptor(0).length, ring.descriptor(1).length), (64, 36));
    let count = rx.collect(BurstLimit::packets(9)).unwrap();
    assert_eq!(count, 1);
    rx.give_back(2);
    for slot in 0..2 {
        let offered = ring.descriptor(slot);
        assert_eq!((offered.flags, offered.length), (0, 64), "slot {slot} is offered anew");
    }
    assert_eq!(ring.header().head.load(Relaxed), 6);
}

/// DPDK 22.11's client never clears the flag of a packet's first descriptor: the server clears it.
#[test]
fn a_server_clears_the_chain_flags_it_gives_back() {
    let memory = Memory::new(2, 64);
    let (mut tx, mut rx) = memory.s2m();
    let ring = memory.ring(0);
    assert!(push(&mut tx, &filled(100, 0)) && push(&mut tx, &filled(100, 1)));
    tx.publish();
    assert_eq!(rx.collect(BurstLimit::packets(9)).unwrap(), 2);
    rx.give_back(2);
    let chained: Vec<bool> = (0..4).map(|slot| ring.descriptor(slot).continues()).collect();
    assert_eq!(chained, [false, false, true, false], "what was not given back stays as it was");
    assert_eq!(rx.collect(BurstLimit::packets(9)).unwrap(), 1);
    assert_eq!(packets(&rx), [filled(100, 1)]);
    rx.give_back(2);
    assert!((0..4).all(|slot| !ring.descriptor(slot).continues()));
}

#[test]
fn a_burst_ends_with_the_packet_that_reaches_a_limit() {
    let memory = Memory::new(4, 64);
    let (mut tx, mut rx) = memory.s2m();
    for seed in 0..4 {
        assert!(push(&mut tx, &filled(150, seed)), "three descriptors each");
    }
    tx.publish();
    let most = BurstLimit::packets(9);
    for (limit, packets) in [
        (most, 4),
        (BurstLimit { packets: 3, ..most }, 3),
        (BurstLimit { descriptors: 4, ..most }, 2),
        (BurstLimit { descriptors: 3, ..most }, 1),
        (BurstLimit { bytes: 150, ..most }, 1),
        (BurstLimit { bytes: 151, ..most }, 2),
        (BurstLimit { bytes: 0, ..most }, 0),
    ] {
        assert_eq!(rx.collect(limit).unwrap(), packets, "{limit:?}");
        assert_eq!(rx.burst().len(), 3 * packets);
        rx.give_back(0);
    }
}

#[test]
fn a_packet_of_very_many_descriptors_is_a_violation() {
    let memory = Memory::new(11, 64);
    let (mut tx, mut rx) = memory.s2m();
    assert!(push(&mut tx, &vec![1; 1_024 * 64]));
    tx.publish();
    assert_eq!(rx.collect(BurstLimit::packets(9)).unwrap(), 1);
    rx.give_back(1_024);
    assert!(push(&mut tx, &vec![1; 1_025 * 64 - 1]));
    tx.publish();
    assert!(matches!(
        cause(rx.collect(BurstLimit::packets(9))),
        RingError::LongChain { slot: 1_024, max: 1_024 }
    ));
}

#[test]
fn nothing_is_offered_or_sent_beyond_the_ring() {
    let memory = Memory::new(2, 64);
    let (mut tx, rx) = memory.s2m();
    for n in 0..4 {
        assert!(push(&mut tx, &[n; 10]));
    }
    assert!(!push(&mut tx, &[4; 10]));
    tx.publish();
    assert!(!push(&mut tx, &[4; 10]));
    drop(rx);
    assert_eq!(memory.ring(0).header().head.load(Relaxed), 4);
}

#[test]
fn a_chain_that_does_not_fit_leaves_no_trace() {
    let memory = Memory::new(2, 64);
    let (mut tx, mut rx) = memory.m2s();
    let before: Vec<Descriptor> = (0..4).map(|n| memory.ring(1).descriptor(n)).collect();
    assert!(!push(&mut tx, &[0; 5 * 64]), "longer than the whole ring");
    assert!(push(&mut tx, &[1; 3 * 64]));
    assert!(!push(&mut tx, &[2; 2 * 64]));
    tx.truncate(0);
    tx.publish();
    assert_eq!(rx.collect(BurstLimit::packets(9)).unwrap(), 0);
    assert_eq!((0..4).map(|n| memory.ring(1).descriptor(n)).collect::<Vec<_>>(), before);
}

#[test]
fn violations_by_a_client_are_named() {
    let violate = |change: fn(&RingMemory)| {
        let memory = Memory::new(2, 64);
        let (mut tx, mut rx) = memory.s2m();
        assert!(push(&mut tx, &[1; 10]) && push(&mut tx, &[2; 10]));
        tx.publish();
        change(&memory.ring(0));
        cause(rx.collect(BurstLimit::packets(9)))
    };
    assert_eq!(violate(|ring| ring.header().head.store(5, SeqCst)), RingError::Jump { index: 5 });
    assert_eq!(
        violate(|ring| ring.header().head.store(0xFFFF, SeqCst)),
        RingError::Jump { index: 0xFFFF }
    );
    assert_eq!(violate(|ring| change(ring, |d| d.length = 0)), RingError::Empty { slot: 1 });
    assert_eq!(
        violate(|ring| change(ring, |d| d.region = 1)),
        RingError::BufferOutside { slot: 1 }
    );
    assert_eq!(
        violate(|ring| change(ring, |d| d.offset = u32::MAX)),
        RingError::BufferOutside { slot: 1 }
    );
    assert_eq!(
        violate(|ring| change(ring, |d| d.length = u32::MAX)),
        RingError::BufferOutside { slot: 1 }
    );
    assert_eq!(
        violate(|ring| change(ring, |d| d.flags = FLAG_NEXT)),
        RingError::OpenChain { slot: 1 }
    );
    let endless = |ring: &RingMemory| {
        (0..4).for_each(|slot| {
            let whole = Descriptor { flags: FLAG_NEXT, ..ring.descriptor(0) };
            ring.set_descriptor(slot, whole);
        });
        ring.header().head.store(4, SeqCst);
    };
    assert_eq!(violate(endless), RingError::OpenChain { slot: 3 });
}

fn change(ring: &RingMemory, change: fn(&mut Descriptor)) {
    let mut descriptor = ring.descriptor(1);
    change(&mut descriptor);
    ring.set_descriptor(1, descriptor);
}

#[test]
fn an_index_that_goes_back_is_caught() {
    let memory = Memory::new(2, 64);
    let (mut tx, mut rx) = memory.s2m();
    assert!(push(&mut tx, &[1; 10]));
    tx.publish();
    assert_eq!(rx.collect(BurstLimit::packets(1)).unwrap(), 1);
    rx.give_back(1);
    memory.ring(0).header().head.store(0, SeqCst);
    assert_eq!(cause(rx.collect(BurstLimit::packets(1))), RingError::Jump { index: 0 });
    memory.ring(0).header().tail.store(3, SeqCst);
    assert_eq!(cause(tx.refresh()), RingError::Jump { index: 3 });
}

#[test]
fn violations_by_a_server_are_named() {
    let violate = |change_ring: fn(&RingMemory)| {
        let memory = Memory::new(2, 64);
        let (mut tx, mut rx) = memory.m2s();
        assert!(push(&mut tx, &[1; 10]) && push(&mut tx, &[2; 10]));
        tx.publish();
        change_ring(&memory.ring(1));
        rx.collect(BurstLimit::packets(9)).map(|_| packets(&rx))
    };
    let overlong = RingError::Overlong { slot: 1, length: 65, room: 64 };
    assert_eq!(cause(violate(|ring| change(ring, |d| d.length = 65))), overlong);
    assert_eq!(cause(violate(|ring| change(ring, |d| d.length = 0))), RingError::Empty { slot: 1 });
    assert_eq!(
        cause(violate(|ring| change(ring, |d| d.flags = FLAG_NEXT))),
        RingError::OpenChain { slot: 1 }
    );
    assert_eq!(
        cause(violate(|ring| ring.header().tail.store(5, SeqCst))),
        RingError::Jump { index: 5 }
    );
    // The client knows where its buffers are, and ignores what the server writes.
    let moved = violate(|ring| change(ring, |d| (d.region, d.offset) = (77, u32::MAX)));
    assert_eq!(moved.unwrap(), [vec![1; 10], vec![2; 10]]);
}

#[test]
fn violations_in_offers_are_named() {
    let violate = |change_ring: fn(&RingMemory)| {
        let memory = Memory::new(2, 64);
        let (mut tx, _rx) = memory.m2s();
        change_ring(&memory.ring(1));
        assert!(matches!(tx.reserve(10), Ok(Some(0)) | Err(_)));
        cause(tx.reserve(10))
    };
    assert_eq!(violate(|ring| change(ring, |d| d.length = 0)), RingError::Empty { slot: 1 });
    assert_eq!(
        violate(|ring| change(ring, |d| d.region = 9)),
        RingError::BufferOutside { slot: 1 }
    );
    assert_eq!(
        violate(|ring| change(ring, |d| d.offset = u32::MAX - 3)),
        RingError::BufferOutside { slot: 1 }
    );
    assert_eq!(violate(|ring| ring.header().head.store(9, SeqCst)), RingError::Jump { index: 9 });
}

#[test]
fn arming_sees_what_came_before_it() {
    let memory = Memory::new(2, 64);
    let (mut tx, mut rx) = memory.s2m();
    assert!(push(&mut tx, &[1; 10]));
    assert!(!tx.publish(), "masked: the eventfd must not be written");
    assert!(rx.arm().unwrap(), "a packet is there: do not sleep");
    assert_eq!(rx.collect(BurstLimit::packets(9)).unwrap(), 1);
    rx.give_back(1);
    assert!(!rx.arm().unwrap());
    assert!(push(&mut tx, &[1; 10]));
    assert!(tx.publish(), "armed: the eventfd must be written");
}
