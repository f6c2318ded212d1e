//! Packets change rings without being copied: two slots exchange their buffers.
//!
//! Both rings must be ours, and the memory of each buffer must be part of the other ring's link: peers know no other
//! memory. Each buffer stays in exactly one place throughout.

use std::mem;

use super::rx::RxRing;
use super::tx::TxRing;
use crate::format::ring::Descriptor;
use crate::memory::pool::Held;

/// Exchanges two buffers between links that know them by these numbers.
fn exchange(left: &mut Held, right: &mut Held, left_index: u16, right_index: u16) {
    mem::swap(left, right);
    (left.index, right.index) = (left_index, right_index);
}

/// Moves the packet in descriptors `from..to` of the burst at hand into the next free slots, whose empty buffers go the other
/// way. Whether it could: there is room, and both rings and all buffers are ours.
pub(crate) fn forward(rx: &mut RxRing, tx: &mut TxRing, from: usize, to: usize) -> bool {
    if !rx.own_buffers() || !tx.own_buffers() || tx.free() < to - from {
        return false;
    }
    let known = (from..to).enumerate().all(|(n, nth)| {
        let (Some(full), Some(empty)) = (rx.held(nth), tx.held(n)) else { return false };
        tx.index_of(full.region()).is_some() && rx.index_of(empty.region()).is_some()
    });
    if !known {
        return false;
    }
    for nth in from..to {
        let received = rx.burst()[nth];
        let Some((full, rx_regions)) = rx.slot(nth) else { return false };
        let Some((empty, tx_regions)) = tx.slot() else { return false };
        let there = tx_regions.position(full.region()).unwrap_or(0);
        let here = rx_regions.position(empty.region()).unwrap_or(0);
        exchange(full, empty, here, there);
        tx.add(Descriptor { region: there, ..received });
    }
    true
}

/// Puts the caller's buffer into the next free slot, to be sent; the caller gets the slot's. What is to be sent of it is said by a
/// descriptor whose offset is that in the buffer. Whether it could; see [`forward`].
pub(crate) fn enqueue(tx: &mut TxRing, held: &mut Held, piece: Descriptor) -> bool {
    tx.own_buffers();
    let Some((empty, regions)) = tx.slot() else { return false };
    let Some(index) = regions.position(held.region()) else { return false };
    let offset = held.offset() + piece.offset;
    exchange(empty, held, index, 0);
    tx.add(Descriptor { region: index, offset, ..piece });
    true
}

/// Takes the buffer of the `nth` descriptor of the burst at hand, whose slot gets the caller's. Whether it could; see
/// [`forward`]. The descriptor says where the packet is, in the region's bytes.
pub(crate) fn take(rx: &mut RxRing, nth: usize, held: &mut Held) -> bool {
    rx.own_buffers();
    let Some((full, regions)) = rx.slot(nth) else { return false };
    let Some(index) = regions.position(held.region()) else { return false };
    exchange(full, held, index, 0);
    true
}
