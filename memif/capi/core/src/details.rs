//! `memif_get_details`: a snapshot of an interface in the program's memory.

use std::ffi::c_void;

use memif::RingState;

use crate::abi::{Details, QueueValues, RegionDetails, Text};
use crate::code::Code;
use crate::context::Api;
use crate::external::pointer;
use crate::interface::find;
use crate::registry::lock;
use crate::slots;

/// The program's buffer, filled from its beginning: as in libmemif, texts first, and then arrays
/// right behind them, aligned or not.
struct Room {
    at: *mut u8,
    left: usize,
    /// Whether something did not fit.
    short: bool,
}

impl Room {
    /// Copies bytes and a NUL; returns NULL when they do not fit.
    fn text(&mut self, text: &[u8]) -> *mut u8 {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let start = self.take(end + 1);
        if !start.is_null() {
            // SAFETY: there is room for the text and the NUL, and nothing else is there.
            unsafe { start.copy_from_nonoverlapping(text.as_ptr(), end) };
            // SAFETY: as above.
            unsafe { start.wrapping_add(end).write(0) };
        }
        start
    }

    /// Copies a whole field of a path, which may begin with a NUL. As in libmemif, one byte more must
    /// be left.
    fn path(&mut self, path: &[u8; 108]) -> *mut u8 {
        if path.len() == self.left {
            self.short = true;
            return std::ptr::null_mut();
        }
        self.array(path)
    }

    /// Copies values; returns NULL when they do not fit.
    fn array<T: Copy>(&mut self, values: &[T]) -> *mut T {
        let start: *mut T = self.take(size_of_val(values)).cast();
        if !start.is_null() {
            for (n, value) in values.iter().enumerate() {
                // SAFETY: there is room for all of them; libmemif aligns none of it.
                unsafe { start.wrapping_add(n).write_unaligned(*value) };
            }
        }
        start
    }

    fn take(&mut self, bytes: usize) -> *mut u8 {
        if bytes > self.left {
            self.short = true;
            return std::ptr::null_mut();
        }
        let start = self.at;
        // SAFETY: within the program's buffer.
        self.at = unsafe { start.add(bytes) };
        self.left -= bytes;
        start
    }
}

/// Describes an interface in `md`, with texts and arrays in `buf`. `queue` makes an entry of the
/// caller's version. What does not fit is NULL.
///
/// # Errors
/// [`Code::NoConn`]; [`Code::InvalArg`] for NULL; [`Code::NoBufDet`] when not all fits.
///
/// # Safety
/// `md` is NULL or valid for a write, and `buf` is NULL or has `len` bytes.
pub unsafe fn details<Q: Copy>(
    conn: *mut c_void,
    md: *mut Details<Q>,
    buf: Text,
    len: isize,
    queue: fn(QueueValues) -> Q,
) -> Result<(), Code> {
    let interface = find(conn)?;
    if md.is_null() {
        return Err(Code::InvalArg);
    }
    let len = if buf.is_null() { 0 } else { usize::try_from(len).unwrap_or(0) };
    let mut room = Room { at: buf.cast(), left: len, short: false };
    let settings = &*interface.settings;
    let (link, handle) = (lock(&interface.link), interface.handle);
    let values = |(region, state, qid): (u16, RingState, u16)| QueueValues {
        region: u8::try_from(region).unwrap_or(u8::MAX),
        qid: u8::try_from(qid).unwrap_or(u8::MAX),
        // At most 2^15.
        ring_size: u32::try_from(state.size).unwrap_or(u32::MAX),
        flags: state.flags,
        head: state.head,
        tail: state.tail,
        buffer_size: settings.buffer_size,
    };
    let live = |regions: &[u16], state: &dyn Fn(u16) -> Option<RingState>| -> Vec<Q> {
        let each = |(qid, region): (u16, &u16)| Some(queue(values((*region, state(qid)?, qid))));
        (0..).zip(regions).filter_map(each).collect()
    };
    let rx = live(&link.rx, &|qid| slots::rx(handle, qid).ok().map(|end| end.queue.ring()));
    let tx = live(&link.tx, &|qid| slots::tx(handle, qid).ok().map(|end| end.queue.ring()));
    let region = |(index, region): (u8, &crate::interface::RegionInfo)| RegionDetails {
        index,
        addr: pointer(region.address),
        size: u32::try_from(region.size).unwrap_or(u32::MAX),
        fd: region.fd,
        is_external: region.is_external.into(),
    };
    let regions: Vec<_> = (0..).zip(&link.regions).map(region).collect();
    let count = |entries: usize| u8::try_from(entries).unwrap_or(u8::MAX);
    let app_name = interface.context.app_name();
    // In this order, which decides what a small buffer holds.
    let filled = Details {
        if_name: room.text(&settings.name),
        inst_name: room.text(app_name.as_bytes()),
        remote_if_name: room.text(link.peer_name.as_bytes()),
        remote_inst_name: room.text(link.peer_app_name.as_bytes()),
        id: settings.id,
        secret: if settings.secret[0] == 0 {
            std::ptr::null_mut()
        } else {
            room.text(&settings.secret)
        },
        role: (!settings.is_master).into(),
        mode: settings.mode,
        socket_path: if interface.context.api() == Api::V4 {
            room.path(&interface.path)
        } else {
            room.text(&interface.path)
        },
        error: room.text(link.error.as_bytes()),
        regions_num: count(regions.len()),
        regions: room.array(&regions),
        rx_queues_num: count(rx.len()),
        rx_queues: room.array(&rx),
        tx_queues_num: count(tx.len()),
        tx_queues: room.array(&tx),
        link_up_down: link.up.into(),
    };
    // SAFETY: valid for a write, by the caller's promise.
    unsafe { md.write(filled) };
    if room.short { Err(Code::NoBufDet) } else { Ok(()) }
}
