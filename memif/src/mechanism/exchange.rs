//! Moves packets from ring to ring without copying: two slots exchange their buffers.
//!
//! This side must own both rings, and the region of each buffer must be part of the other ring's
//! link: peers know no other memory. At any moment each buffer is in exactly one place.

use std::mem;

use super::rx::RxRing;
use super::tx::TxRing;
use crate::format::ring::Descriptor;
use crate::memory::pool::OwnedBuffer;

/// Exchanges two buffers between two links. Each gets the index that its region has on its new
/// link.
fn exchange(left: &mut OwnedBuffer, right: &mut OwnedBuffer, left_index: u16, right_index: u16) {
    mem::swap(left, right);
    (left.region_index, right.region_index) = (left_index, right_index);
}

/// Moves the packet in descriptors `from..to` of the current burst into the next free slots, whose
/// empty buffers go the other way. Returns whether it could: there is room, and this side owns both
/// rings and all buffers.
pub(crate) fn forward(rx: &mut RxRing, tx: &mut TxRing, from: usize, to: usize) -> bool {
    if !rx.make_exchangeable() || !tx.make_exchangeable() || tx.free() < to - from {
        return false;
    }
    let known = (from..to).enumerate().all(|(n, nth)| {
        let (Some(full), Some(empty)) = (rx.buffer(nth), tx.buffer(n)) else { return false };
        tx.index_of(full.region()).is_some() && rx.index_of(empty.region()).is_some()
    });
    if !known {
        return false;
    }
    for nth in from..to {
        let received = rx.burst()[nth];
        let Some((full, rx_regions)) = rx.buffer_mut(nth) else { return false };
        let Some((empty, tx_regions)) = tx.buffer_mut() else { return false };
        let there = tx_regions.position(full.region()).unwrap_or(0);
        let here = rx_regions.position(empty.region()).unwrap_or(0);
        exchange(full, empty, here, there);
        tx.add(Descriptor { region: there, ..received });
    }
    true
}

/// Puts the caller's buffer into the next free slot, to be sent; the caller gets the slot's buffer.
/// `piece` describes the packet, with an offset in the buffer. Returns whether it could; see
/// [`forward`].
pub(crate) fn enqueue(tx: &mut TxRing, buffer: &mut OwnedBuffer, piece: Descriptor) -> bool {
    tx.make_exchangeable();
    let Some((empty, regions)) = tx.buffer_mut() else { return false };
    let Some(index) = regions.position(buffer.region()) else { return false };
    let offset = buffer.offset() + piece.offset;
    exchange(empty, buffer, index, 0);
    tx.add(Descriptor { region: index, offset, ..piece });
    true
}

/// Takes the buffer of the `nth` descriptor of the current burst, whose slot gets the caller's
/// buffer. Returns whether it could; see [`forward`]. The descriptor says where the packet is in
/// the region.
pub(crate) fn take(rx: &mut RxRing, nth: usize, buffer: &mut OwnedBuffer) -> bool {
    rx.make_exchangeable();
    let Some((full, regions)) = rx.buffer_mut(nth) else { return false };
    let Some(index) = regions.position(buffer.region()) else { return false };
    exchange(full, buffer, index, 0);
    true
}
