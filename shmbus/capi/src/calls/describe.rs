//! What a station or tap is, and has done.

use std::ffi::c_int;
use std::mem;
use std::ptr;

use super::{call, is_usable};
use crate::failure::Failure;
use crate::handles::{HANDLES, Handle};
use crate::stats::Stats;

/// No version of the counters is larger, in bytes.
const MAX_STATS: usize = 4096;

/// Copies the station's address.
///
/// # Safety
/// `mac` must be NULL or valid for writes of six bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_mac(bus: Handle, mac: *mut u8) -> c_int {
    call(|| {
        if mac.is_null() {
            return Err(Failure::pointer("mac"));
        }
        let address = HANDLES.with(bus, |endpoint| Ok(endpoint.station()?.mac().into_array()))?;
        // SAFETY: six bytes, by the contract above; bytes are always aligned.
        unsafe { mac.cast::<[u8; 6]>().write(address) };
        Ok(0)
    })
}

/// Returns the longest frame of the bus, in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_max_frame(bus: Handle) -> c_int {
    call(|| {
        HANDLES.with(bus, |endpoint| {
            Ok(c_int::try_from(endpoint.bus().max_frame()).unwrap_or(c_int::MAX))
        })
    })
}

/// Changes whether the station receives frames for others.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_set_promiscuous(bus: Handle, on: c_int) -> c_int {
    call(|| {
        HANDLES.with(bus, |endpoint| {
            endpoint.station()?.set_promiscuous(on != 0);
            Ok(0)
        })
    })
}

/// Copies the counters: as many as the program knows, and zeros for those that this version does not
/// know.
///
/// # Safety
/// `stats` must be NULL or valid for writes of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_stats(bus: Handle, stats: *mut Stats, size: usize) -> c_int {
    call(|| {
        if !is_usable(stats) {
            return Err(Failure::pointer("stats"));
        }
        if !(mem::size_of::<u64>()..=MAX_STATS).contains(&size) {
            return Err(Failure::argument(format!("{size} is no size of the counters")));
        }
        let counted = Stats::from(HANDLES.with(bus, |endpoint| Ok(endpoint.stats()))?);
        // SAFETY: to be written, by the contract above.
        unsafe { ptr::write_bytes(stats.cast::<u8>(), 0, size) };
        let known = size.min(mem::size_of::<Stats>());
        // SAFETY: the counters have no padding, and both places are as long.
        unsafe {
            ptr::copy_nonoverlapping((&raw const counted).cast::<u8>(), stats.cast(), known);
        }
        Ok(0)
    })
}
