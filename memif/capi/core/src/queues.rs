//! The data path: buffers are allocated, sent, received, exchanged and given back.
//!
//! The program's arrays hold one entry for each descriptor. An entry names its descriptor by index
//! and queue; what it says is checked against what this side knows, so entries that are old, from
//! another interface or made up are an error ([`Code::InvalArg`]) and do no harm.

use std::ffi::c_void;
use std::ptr;

use memif::{ManualBuffer, ManualQueue, exchange};

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
    let mut free = end.queue.free()?;
    let name = QueueName::new(conn, qid, true).pointer();
    let mut made = 0;
    let mut outcome = Ok(());
    // A packet of no bytes takes no buffer.
    for _ in 0..if size == 0 { 0 } else { count } {
        // SAFETY: there is room, by the caller's promise.
        let packet = unsafe {
            alloc_packet(&mut end, &mut free, name, bufs.wrapping_add(made.into()), size)
        };
        match packet {
            Ok(buffers) => made += buffers,
            Err(code) => {
                outcome = Err(code);
                break;
            }
        }
    }
    // SAFETY: as above.
    unsafe { count_out.write(made) };
    outcome
}

/// Reserves one packet, where `free` descriptors are known to be free; returns the number of its
/// buffers. On an error there are none.
///
/// # Safety
/// `bufs` has room for them.
#[inline]
unsafe fn alloc_packet(
    end: &mut Locked<TxEnd>,
    free: &mut usize,
    name: *mut c_void,
    bufs: *mut Buffer,
    size: u16,
) -> Result<u16, Code> {
    let (mut rest, mut made, mut first) = (u32::from(size), 0u16, None);
    let TxEnd { queue, bases, offsets, .. } = &mut **end;
    while rest != 0 {
        let place = offsets.map(|offsets| offsets.next());
        let failed = match queue.reserve(place) {
            Ok(Some(ManualBuffer { index, region, offset, bytes, .. })) => {
                let len = rest.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                rest -= len;
                let buffer = Buffer {
                    desc_index: index,
                    queue: name,
                    len,
                    flags: if rest == 0 { 0 } else { BUFFER_FLAG_NEXT },
                    data: bases.pointer(region, offset),
                };
                // SAFETY: there is room, by the caller's promise.
                unsafe { bufs.wrapping_add(made.into()).write(buffer) };
                first.get_or_insert(index);
                made += 1;
                *free -= 1;
                continue;
            }
            Ok(None) if *free == 0 => Code::NoBufRing,
            // The program's choice is outside of its region.
            Ok(None) => Code::InvalArg,
            Err(error) => error.into(),
        };
        if let Some(first) = first {
            queue.rewind(first);
            // SAFETY: they were written above.
            unsafe { bufs.write_bytes(0, made.into()) };
        }
        return Err(failed);
    }
    Ok(made)
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
    let mut sent = 0;
    while sent < count {
        // SAFETY: one of the `count` entries.
        let buffer = unsafe { &*bufs.wrapping_add(sent.into()) };
        let start = if *is_client {
            let (region, offset) = queue.place(buffer.desc_index);
            let begin = bases.start(region).wrapping_add(offset as usize);
            u32::try_from(buffer.data.addr().wrapping_sub(begin)).unwrap_or(u32::MAX)
        } else {
            // The client decides where its buffers are.
            0
        };
        let continues = buffer.flags & BUFFER_FLAG_NEXT != 0;
        if !queue.write(buffer.desc_index, start, buffer.len, continues) {
            break;
        }
        sent += 1;
    }
    queue.publish();
    // SAFETY: as above.
    unsafe { tx.write(sent) };
    if sent == count { Ok(()) } else { Err(Code::InvalArg) }
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
    let available = u16::try_from(queue.available()?).unwrap_or(u16::MAX);
    let wanted = available.min(count);
    if bufs.is_null() && wanted != 0 {
        return Err(Code::InvalArg);
    }
    let name = QueueName::new(conn, qid, false).pointer();
    let (mut got, mut outcome): (u16, Result<(), Code>) = (0, Ok(()));
    while got < wanted {
        match queue.take() {
            Ok(Some(taken)) => {
                let buffer = Buffer {
                    desc_index: taken.index,
                    queue: name,
                    // No longer than the descriptor's 32 bits.
                    len: u32::try_from(taken.bytes.len()).unwrap_or(u32::MAX),
                    flags: mark | if taken.continues { BUFFER_FLAG_NEXT } else { 0 },
                    data: bases.pointer(taken.region, taken.offset),
                };
                // SAFETY: there is room, by the caller's promise.
                unsafe { bufs.wrapping_add(got.into()).write(buffer) };
                got += 1;
            }
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        }
    }
    // SAFETY: as above.
    unsafe { rx.write(got) };
    outcome?;
    if got < available {
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
