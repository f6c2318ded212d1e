//! The data path: buffers are allocated, sent, received, exchanged and given back.
//!
//! The program's arrays hold one entry for each descriptor. An entry names its descriptor by index
//! and queue; what it says is checked against what this side knows, so entries that are old, from
//! another interface or made up are an error ([`Code::InvalArg`]) and do no harm.

use std::ffi::c_void;
use std::{ptr, slice};

use memif::{ManualBuffer, ManualQueue, ManualTx, Piece, exchange};

use crate::abi::{BUFFER_FLAG_NEXT, Buffer};
use crate::code::Code;
use crate::ends::{RxEnd, TxEnd};
use crate::slots::{self, Locked};

/// The queue of a buffer, as the program keeps it: a number that is never NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct QueueName {
    slot: usize,
    qid: u16,
    sends: bool,
}

impl QueueName {
    #[inline]
    fn new(conn: usize, qid: u16, sends: bool) -> Self {
        Self { slot: slots::number(conn), qid, sends }
    }

    #[inline]
    fn pointer(self) -> *mut c_void {
        let number =
            (self.slot << 10) | (usize::from(self.qid) << 2) | (usize::from(self.sends) << 1);
        ptr::without_provenance_mut(number | 1)
    }

    /// Reads what a program has kept; `None` when that is no queue of this interface.
    #[inline]
    fn read(conn: usize, kept: *mut c_void) -> Option<Self> {
        let number = kept.addr();
        let qid = u16::try_from((number >> 2) & 0xFF).ok()?;
        let name = Self::new(conn, qid, number & 2 != 0);
        (name.pointer() == kept).then_some(name)
    }
}

/// Reserves `count` packets of `size` bytes each, in as many buffers as they take, and describes
/// these in `bufs`.
///
/// # Errors
/// [`Code::NoBufRing`] when there was no room for all; `count_out` says how many buffers there are.
///
/// # Safety
/// `bufs` has room for the buffers of `count` packets, and `count_out` is valid for a write; either
/// may be NULL.
#[inline]
pub unsafe fn alloc(
    conn: usize,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    count_out: *mut u16,
    size: u16,
) -> Result<(), Code> {
    let mut end = slots::tx(conn, qid)?;
    if count_out.is_null() {
        return Err(Code::InvalArg);
    }
    // SAFETY: it is valid, by the caller's promise.
    unsafe { count_out.write(0) };
    if bufs.is_null() && count != 0 && size != 0 {
        return Err(Code::InvalArg);
    }
    let TxEnd { queue, bases, offsets, .. } = &mut *end;
    queue.free()?;
    let name = QueueName::new(conn, qid, true).pointer();
    let mut choose = offsets.map(|offsets| move || offsets.next());
    let place = choose.as_mut().map(|choose| choose as &mut dyn FnMut() -> u32);
    let mut next = bufs;
    // A packet of no bytes takes no buffer.
    let count = if size == 0 { 0 } else { count };
    let reserved = queue.reserve(count.into(), size.into(), place, |reserved| {
        let buffer = Buffer {
            desc_index: reserved.index,
            queue: name,
            len: length(&reserved),
            flags: if reserved.continues { BUFFER_FLAG_NEXT } else { 0 },
            data: bases.pointer(&reserved),
        };
        // SAFETY: there is room, by the caller's promise.
        unsafe { next.write(buffer) };
        next = next.wrapping_add(1);
    })?;
    // SAFETY: as above.
    unsafe { count_out.write(u16::try_from(reserved.descriptors).unwrap_or(u16::MAX)) };
    if reserved.packets == count.into() {
        return Ok(());
    }
    // The beginning of a packet for which there was no room.
    let mut left = bufs.wrapping_add(reserved.descriptors);
    while left != next {
        // SAFETY: it was written above.
        unsafe { left.write_bytes(0, 1) };
        left = left.wrapping_add(1);
    }
    Err(if reserved.misplaced { Code::InvalArg } else { Code::NoBufRing })
}

/// Returns the length of a buffer's bytes, which is no longer than a descriptor's 32 bits.
#[inline]
fn length(buffer: &ManualBuffer<'_>) -> u32 {
    u32::try_from(buffer.bytes.len()).unwrap_or(u32::MAX)
}

/// Sends the packets in `bufs`, which were reserved in this order.
///
/// # Errors
/// [`Code::InvalArg`] at the first buffer that is not the next one, is empty, or whose bytes are not
/// in it; those before it are sent, and `tx` says how many.
///
/// # Safety
/// `bufs` holds `count` entries, and `tx` is valid for a write; either may be NULL.
#[inline]
pub unsafe fn tx_burst(
    conn: usize,
    qid: u16,
    bufs: *const Buffer,
    count: u16,
    tx: *mut u16,
) -> Result<(), Code> {
    let mut end = slots::tx(conn, qid)?;
    if tx.is_null() {
        return Err(Code::InvalArg);
    }
    // SAFETY: it is valid, by the caller's promise.
    unsafe { tx.write(0) };
    if count == 0 {
        return Ok(());
    }
    if bufs.is_null() {
        return Err(Code::InvalArg);
    }
    let TxEnd { queue, bases, is_client, .. } = &mut *end;
    // SAFETY: it holds the entries, by the caller's promise.
    let bufs = unsafe { slice::from_raw_parts(bufs, count.into()) };
    let sent = if *is_client {
        write(queue, bufs, |data, reserved| data.wrapping_sub(bases.pointer(reserved).addr()))
    } else {
        // The client decides where its buffers are.
        write(queue, bufs, |_, _| 0)
    };
    queue.publish();
    // SAFETY: as above.
    unsafe { tx.write(u16::try_from(sent).unwrap_or(u16::MAX)) };
    if sent == count.into() { Ok(()) } else { Err(Code::InvalArg) }
}

/// Writes the descriptors that the entries describe, as far as these are the next ones. `start`
/// returns how far into the buffer an address is. Returns the number written.
#[inline]
fn write(
    queue: &mut ManualTx,
    entries: &[Buffer],
    start: impl Fn(usize, &ManualBuffer<'_>) -> usize,
) -> usize {
    // Only the bits of an index that name the slot count.
    let mask = queue.size() - 1;
    let mut entries = entries.iter();
    queue.write(|reserved| {
        let entry = entries.next()?;
        if usize::from(entry.desc_index ^ reserved.index) & mask != 0 {
            return None;
        }
        Some(Piece {
            start: u32::try_from(start(entry.data.addr(), &reserved)).unwrap_or(u32::MAX),
            length: entry.len,
            continues: entry.flags & BUFFER_FLAG_NEXT != 0,
        })
    })
}

/// Describes up to `count` received buffers in `bufs`, with the flags `mark`. They stay with the
/// program until [`refill`].
///
/// # Errors
/// [`Code::NoBuf`] when more are waiting.
///
/// # Safety
/// `bufs` has room for `count` entries, and `rx` is valid for a write; either may be NULL.
#[inline]
pub unsafe fn rx_burst(
    conn: usize,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    rx: *mut u16,
    mark: u8,
) -> Result<(), Code> {
    let mut end = slots::rx(conn, qid)?;
    if rx.is_null() {
        return Err(Code::InvalArg);
    }
    // SAFETY: it is valid, by the caller's promise.
    unsafe { rx.write(0) };
    let RxEnd { queue, bases, watched, .. } = &mut *end;
    let available = queue.available()?;
    if bufs.is_null() && available != 0 && count != 0 {
        return Err(Code::InvalArg);
    }
    let name = QueueName::new(conn, qid, false).pointer();
    let mut next = bufs;
    let mut got = 0;
    let taken = queue.take(count.into(), |taken| {
        let buffer = Buffer {
            desc_index: taken.index,
            queue: name,
            len: length(&taken),
            flags: mark | if taken.continues { BUFFER_FLAG_NEXT } else { 0 },
            data: bases.pointer(&taken),
        };
        // SAFETY: there is room, by the caller's promise.
        unsafe { next.write(buffer) };
        next = next.wrapping_add(1);
        got += 1;
    });
    // SAFETY: as above.
    unsafe { rx.write(got) };
    if taken? < available {
        return Err(Code::NoBuf);
    }
    if *watched {
        queue.drain()?;
    }
    Ok(())
}

/// Gives up to `count` received buffers back, the oldest first; a client leaves `headroom` bytes
/// free in each.
///
/// # Errors
/// [`Code::InvalArg`] when the headroom leaves no room, or the program's offset is outside.
#[inline]
pub fn refill(conn: usize, qid: u16, count: u16, headroom: u16) -> Result<(), Code> {
    let mut end = slots::rx(conn, qid)?;
    let RxEnd { queue, offsets, .. } = &mut *end;
    let mut choose = offsets.map(|offsets| move || offsets.next());
    let place = choose.as_mut().map(|choose| choose as &mut dyn FnMut() -> u32);
    queue.refill(count.into(), headroom.into(), place).map(drop).map_err(|_| Code::InvalArg)
}

/// Reserves descriptors for received buffers, which the send queue gets in exchange for empty ones.
/// The entries in `bufs` then name what to send.
///
/// # Errors
/// [`Code::NoBufRing`] when there was no room for all, [`Code::InvalArg`] at the first entry that is
/// not held, or on a server; `count_out` says how many were exchanged.
///
/// # Safety
/// `bufs` holds `count` entries, and `count_out` is valid for a write; either may be NULL.
#[inline]
pub unsafe fn enqueue(
    conn: usize,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    count_out: *mut u16,
) -> Result<(), Code> {
    let mut end = slots::tx(conn, qid)?;
    if count_out.is_null() {
        return Err(Code::InvalArg);
    }
    if !end.is_client || (bufs.is_null() && count != 0) {
        return Err(Code::InvalArg);
    }
    let mut outcome = Ok(());
    let mut free = end.queue.free()?;
    let (mut done, mut from): (u16, Option<(u16, Locked<RxEnd>)>) = (0, None);
    while done < count {
        if free == 0 {
            outcome = Err(Code::NoBufRing);
            break;
        }
        // SAFETY: one of the `count` entries.
        let buffer = unsafe { &mut *bufs.wrapping_add(done.into()) };
        let source = QueueName::read(conn, buffer.queue).filter(|name| !name.sends);
        let Some(source) = source else {
            outcome = Err(Code::InvalArg);
            break;
        };
        if from.as_ref().is_none_or(|(qid, _)| *qid != source.qid) {
            // One at a time: two threads that held one and waited for another would wait for ever.
            drop(from.take());
            let Ok(rx) = slots::rx(conn, source.qid) else {
                outcome = Err(Code::InvalArg);
                break;
            };
            from = Some((source.qid, rx));
        }
        let Some((_, rx)) = from.as_mut() else { break };
        let Some(index) = end.queue.enqueue(&mut rx.queue, buffer.desc_index) else {
            outcome = Err(Code::InvalArg);
            break;
        };
        buffer.desc_index = index;
        buffer.flags &= BUFFER_FLAG_NEXT;
        buffer.queue = QueueName::new(conn, qid, true).pointer();
        done += 1;
        free -= 1;
    }
    // SAFETY: it is valid, by the caller's promise.
    unsafe { count_out.write(done) };
    outcome
}

/// Exchanges the buffers of two descriptors that the program holds, and what names them.
///
/// # Errors
/// [`Code::InvalArg`] when an entry is NULL or not held, or on a server.
///
/// # Safety
/// Both are NULL or point to entries.
pub unsafe fn requeue(conn: usize, left: *mut Buffer, right: *mut Buffer) -> Result<(), Code> {
    slots::check(conn)?;
    if left.is_null() || right.is_null() {
        return Err(Code::InvalArg);
    }
    if left == right {
        return Ok(());
    }
    // SAFETY: it is an entry, by the caller's promise, and not the other one.
    let left = unsafe { &mut *left };
    // SAFETY: as above.
    let right = unsafe { &mut *right };
    let name = |buffer: &Buffer| QueueName::read(conn, buffer.queue).ok_or(Code::InvalArg);
    let (left_name, right_name) = (name(left)?, name(right)?);
    let (left_index, right_index) = (left.desc_index, right.desc_index);
    let rx = |name: QueueName| slots::rx(conn, name.qid).map_err(|_| Code::InvalArg);
    let tx = |name: QueueName| slots::tx(conn, name.qid).map_err(|_| Code::InvalArg);
    // Locks are taken in one order, so that no two threads wait for each other: queues to send on
    // first, each kind by number.
    let exchanged = match (left_name.sends, right_name.sends) {
        (false, false) if left_name == right_name => {
            rx(left_name)?.queue.exchange_own(left_index, right_index)
        }
        (true, true) if left_name == right_name => {
            tx(left_name)?.queue.exchange_own(left_index, right_index)
        }
        (false, false) => {
            let in_order = left_name.qid < right_name.qid;
            let (low, high) =
                if in_order { (left_name, right_name) } else { (right_name, left_name) };
            let (mut low, mut high) = (rx(low)?, rx(high)?);
            let (a, b) =
                if in_order { (left_index, right_index) } else { (right_index, left_index) };
            exchange((ManualQueue::Rx(&mut low.queue), a), (ManualQueue::Rx(&mut high.queue), b))
        }
        (true, true) => {
            let in_order = left_name.qid < right_name.qid;
            let (low, high) =
                if in_order { (left_name, right_name) } else { (right_name, left_name) };
            let (mut low, mut high) = (tx(low)?, tx(high)?);
            let (a, b) =
                if in_order { (left_index, right_index) } else { (right_index, left_index) };
            exchange((ManualQueue::Tx(&mut low.queue), a), (ManualQueue::Tx(&mut high.queue), b))
        }
        (left_sends, _) => {
            let (sends, receives) =
                if left_sends { (left_name, right_name) } else { (right_name, left_name) };
            let (a, b) =
                if left_sends { (left_index, right_index) } else { (right_index, left_index) };
            let mut sends = tx(sends)?;
            let mut receives = rx(receives)?;
            exchange(
                (ManualQueue::Tx(&mut sends.queue), a),
                (ManualQueue::Rx(&mut receives.queue), b),
            )
        }
    };
    if !exchanged {
        return Err(Code::InvalArg);
    }
    std::mem::swap(&mut left.desc_index, &mut right.desc_index);
    std::mem::swap(&mut left.queue, &mut right.queue);
    Ok(())
}

/// Cancels the reservations from a buffer's on: it is the next to be reserved.
///
/// # Errors
/// [`Code::InvalArg`] when it is NULL, not reserved, or sent; [`Code::Qid`] without a link.
///
/// # Safety
/// `buffer` is NULL or points to an entry.
pub unsafe fn set_next_free(conn: usize, qid: u16, buffer: *const Buffer) -> Result<(), Code> {
    let mut end = slots::tx(conn, qid).map_err(|code| match code {
        // An interface without a link has no queues.
        Code::Disconnected => Code::Qid,
        code => code,
    })?;
    // SAFETY: it is NULL or an entry, by the caller's promise.
    let buffer = unsafe { buffer.as_ref() }.ok_or(Code::InvalArg)?;
    if end.queue.rewind(buffer.desc_index) { Ok(()) } else { Err(Code::InvalArg) }
}
