//! Both ends of a ring whose descriptors are held, against a queue of what was sent.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU8;

use proptest::prelude::*;

use super::{ManualRxRing, ManualTxRing, Piece};
use crate::format::ring::Descriptor;
use crate::mechanism::Side;
use crate::mechanism::rx::RxRing;
use crate::mechanism::test_memory::Memory;
use crate::mechanism::tx::TxRing;
use crate::memory::copy;

/// A ring's two ends, both of single descriptors: S2M or M2S.
fn ends(memory: &Memory, s2m: bool) -> ((TxRing, ManualTxRing), (RxRing, ManualRxRing)) {
    let (tx, rx) = if s2m {
        memory.s2m()
    } else {
        let rx = RxRing::new(memory.ring(1), memory.client(1), 0, true, 0, true);
        (TxRing::new(memory.ring(1), Side::Server, 0), rx)
    };
    let (manual_tx, manual_rx) = (ManualTxRing::new(&tx), ManualRxRing::new(&rx));
    ((tx, manual_tx), (rx, manual_rx))
}

#[derive(Debug, Clone)]
enum Action {
    Reserve(u8, u32),
    Rewind(u8),
    Write { count: u8, continues: bool },
    Receive(u8),
    Refill(u8, u32),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        (0u8..12, 1u32..160).prop_map(|(count, size)| Action::Reserve(count, size)),
        (0u8..12).prop_map(Action::Rewind),
        (0u8..12, any::<bool>()).prop_map(|(count, continues)| Action::Write { count, continues }),
        (0u8..12).prop_map(Action::Receive),
        (0u8..12, 0u32..60).prop_map(|(count, headroom)| Action::Refill(count, headroom)),
    ];
    proptest::collection::vec(action, 1..300)
}

proptest! {
    /// Whatever is reserved, rewound, written, taken and given back in pieces: each descriptor
    /// arrives once, in order, with the bytes that were put into the buffer, and only when its
    /// packet is whole.
    #[test]
    fn descriptors_arrive_as_written(s2m: bool, log2 in 1u8..5, actions in actions()) {
        let memory = Memory::new(log2, 64);
        let ((tx, mut sender), (rx, mut receiver)) = ends(&memory, s2m);
        let mut reserved: VecDeque<(u16, Descriptor)> = VecDeque::new();
        let (mut open, mut sent) = (Vec::new(), VecDeque::new());
        let (mut serial, mut held) = (0u8, 0usize);
        for action in actions {
            match action {
                Action::Reserve(count, size) => {
                    let (free, count) = (sender.free(&tx).unwrap(), usize::from(count));
                    let mut called = Vec::new();
                    let outcome = sender
                        .reserve(&tx, count.try_into().unwrap(), size, None, |index, room, bytes| {
                            assert_eq!(bytes.len(), room.length as usize);
                            called.push((index, room));
                        })
                        .unwrap();
                    prop_assert!(outcome.packets == count || called.len() == usize::from(free));
                    let (whole, begun) = called.split_at(outcome.descriptors);
                    let packets = whole.split_inclusive(|(_, room)| !room.continues());
                    let bytes = |packet: &[(u16, Descriptor)]| -> u32 {
                        packet.iter().map(|(_, room)| room.length).sum()
                    };
                    prop_assert!(packets.clone().all(|packet| bytes(packet) == size));
                    prop_assert_eq!(packets.count(), outcome.packets);
                    prop_assert!(bytes(begun) < size && !outcome.misplaced);
                    prop_assert!(begun.iter().all(|(_, room)| room.continues()));
                    reserved.extend(whole);
                }
                Action::Rewind(back) => {
                    let keep = reserved.len().saturating_sub(back.into());
                    if let Some((index, _)) = reserved.get(keep) {
                        prop_assert!(sender.rewind(*index));
                        reserved.truncate(keep);
                    }
                }
                Action::Write { count, continues } => {
                    for (index, room) in reserved.drain(..reserved.len().min(count.into())) {
                        serial = serial.wrapping_add(1);
                        copy::write(&[serial], tx.bytes(&room));
                        let mut write = |start, length| {
                            let mut piece = Some(Piece { start, length, continues });
                            sender.write(&tx, |next, _, bytes| {
                                let piece = piece.take()?;
                                assert!(next == index && bytes.len() >= room.length as usize);
                                Some(piece)
                            })
                        };
                        prop_assert_eq!([write(0, 65), write(64, 1), write(u32::MAX, 1)], [0; 3]);
                        prop_assert_eq!([write(0, 0), write(0, 1)], [0, 1]);
                        prop_assert!(!sender.rewind(index), "it is written");
                        open.push((serial, continues));
                        if !continues {
                            sent.extend(open.drain(..));
                        }
                    }
                    sender.publish(&tx);
                }
                Action::Receive(count) => {
                    let available = receiver.available(&rx).unwrap();
                    prop_assert_eq!(usize::from(available), sent.len());
                    let mut got = Vec::new();
                    let taken = receiver
                        .take(&rx, count.into(), |_, taken, piece| {
                            let mut byte = [0];
                            copy::read(piece, &mut byte);
                            got.push((byte[0], taken.continues()));
                        })
                        .unwrap();
                    prop_assert_eq!(taken, available.min(count.into()));
                    prop_assert_eq!(&got, &sent.drain(..usize::from(taken)).collect::<Vec<_>>());
                    held += got.len();
                }
                Action::Refill(count, headroom) => {
                    let given = receiver.refill(&rx, count.into(), headroom, None).unwrap();
                    held = held.saturating_sub(given.into());
                }
            }
            prop_assert!(held <= rx.size());
        }
    }

    /// Buffers of a client that are exchanged between its two rings, or within one, stay the same
    /// set: none is in two slots.
    #[test]
    fn buffers_are_exchanged_and_never_doubled(
        steps in proptest::collection::vec((0u8..4, any::<u16>(), any::<u16>()), 1..100),
    ) {
        let memory = Memory::new(3, 64);
        let (_, (rx, mut receiver)) = ends(&memory, false);
        let tx = TxRing::new(memory.ring(0), memory.client(0), 0);
        let mut sender = ManualTxRing::new(&tx);
        for (step, left, right) in steps {
            // Around the ring: indexes that are held, and such that are not.
            let (left, right) = ((left % 24).wrapping_sub(12), (right % 24).wrapping_sub(12));
            match step {
                0 => {
                    sender.reserve(&tx, 1, 64, None, |_, _, _| ()).unwrap();
                }
                1 => drop(receiver.exchange(&rx, left, right)),
                2 => drop(sender.exchange(&tx, left, right)),
                _ => {
                    if let Some(buffer) = receiver.held(&rx, left) {
                        sender.enqueue(&tx, buffer);
                    }
                }
            }
        }
        let in_rx = (1..=8).map(|back| *receiver.held(&rx, 0u16.wrapping_sub(back)).unwrap());
        let mut all: Vec<u32> = in_rx.map(|buffer| buffer.offset).collect();
        let mut in_tx = Vec::new();
        // All that are left, and those that were reserved.
        sender.rewind(0);
        sender.reserve(&tx, 8, 64, None, |_, room, _| in_tx.push(room.offset)).unwrap();
        all.append(&mut in_tx);
        let plan = &memory.plan;
        let slots = |n: usize| (0..8).map(move |slot| plan.buffers[n] + slot * plan.stride);
        let mut expected: Vec<u32> = slots(0).chain(slots(1)).collect();
        all.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(all, expected);
    }

    /// A peer that stores anything anywhere in a ring causes an error or a valid descriptor, and
    /// never an access outside the regions.
    #[test]
    fn arbitrary_rings_are_handled(
        s2m: bool, sends: bool,
        stores in proptest::collection::vec((0u16..8, any::<u64>(), any::<u64>(), 0u16..20, 0u16..20), 1..60),
    ) {
        use std::sync::atomic::Ordering::Relaxed;
        let memory = Memory::new(3, 64);
        let ((tx, mut sender), (rx, mut receiver)) = ends(&memory, s2m);
        let raw = memory.ring(usize::from(!s2m));
        for (slot, first, second, head, tail) in stores {
            raw.set_descriptor(slot, Descriptor::from_words(first, second & 0xFFFF_0000_0FFF));
            // The end that is tested writes one of them itself.
            if sends == s2m {
                raw.header().tail.store(tail, Relaxed);
            } else {
                raw.header().head.store(head, Relaxed);
            }
            if sends {
                if sender.free(&tx).is_err() {
                    break;
                }
                let each = |_, room: Descriptor, bytes: &[AtomicU8]| {
                    assert_eq!(bytes.len(), room.length as usize);
                };
                let Ok(reserved) = sender.reserve(&tx, 2, 100, None, each) else { break };
                let piece = Piece { start: 0, length: 1, continues: false };
                let written = sender.write(&tx, |_, buffer, bytes| {
                    assert_eq!(bytes.len(), buffer.size as usize);
                    Some(piece)
                });
                prop_assert_eq!(usize::from(written), reserved.descriptors);
                sender.publish(&tx);
            } else {
                let _ = receiver.refill(&rx, 3, 0, None);
                if receiver.available(&rx).is_err() {
                    break;
                }
                let mut taken = 0;
                let outcome = receiver.take(&rx, 3, |_, descriptor, bytes| {
                    assert_eq!(bytes.len(), descriptor.length as usize);
                    taken += 1;
                });
                let Ok(count) = outcome else { break };
                prop_assert_eq!(count, taken);
            }
        }
    }
}
