//! Opening and closing.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use shmbus::{Bus, Station, Tap};

use super::{call, is_usable};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::handles::{HANDLES, Handle};
use crate::options::{Options, Wanted};

const OLDEST: u32 = 1;
const RUNTS: u32 = 2;

/// Joins a bus as a station, and makes the bus if there is none.
///
/// # Safety
/// `path` must be NULL or a string. `options` must be NULL or point to as many bytes as its first
/// member says, with a `name` that is NULL or a string and a `mac` that is NULL or six bytes. `bus`
/// must be NULL or point to a handle to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_join(
    path: *const c_char,
    options: *const Options,
    bus: *mut Handle,
) -> c_int {
    let make = |path: &Path| {
        // SAFETY: the same contract for `options`.
        let wanted = unsafe { Wanted::read(options) }?;
        join(path, wanted)
    };
    // SAFETY: the same contract for `path` and `bus`.
    unsafe { open(path, bus, make) }
}

/// Joins a bus as an interface of a rump kernel does, and makes the bus if there is none.
///
/// # Safety
/// `path` must be NULL or a string. `bus` must be NULL or point to a handle to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_shmif_create(path: *const c_char, bus: *mut Handle) -> c_int {
    // SAFETY: the same contract.
    unsafe { open(path, bus, |path| join(path, Wanted::defaults())) }
}

/// Opens a tap on an existing bus.
///
/// # Safety
/// `path` must be NULL or a string. `tap` must be NULL or point to a handle to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_tap(path: *const c_char, flags: u32, tap: *mut Handle) -> c_int {
    let make = |path: &Path| {
        if flags & !(OLDEST | RUNTS) != 0 {
            return Err(Failure::argument(format!("unknown flags of a tap: {flags:#x}")));
        }
        let bus = Bus::open_read_only(path)?;
        let tap = if flags & OLDEST == 0 { Tap::new(bus) } else { Tap::oldest(bus) }?;
        Ok(Endpoint::Tap(Box::new(if flags & RUNTS == 0 { tap } else { tap.with_runts() })))
    };
    // SAFETY: the same contract.
    unsafe { open(path, tap, make) }
}

/// Closes a handle; NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_close(bus: Handle) -> c_int {
    call(|| {
        if !bus.is_null() {
            drop(HANDLES.remove(bus)?);
        }
        Ok(0)
    })
}

fn join(path: &Path, wanted: Wanted) -> Result<Endpoint, Failure> {
    let bus = wanted.open(path)?;
    Ok(Endpoint::Station(Box::new(Station::join(bus, wanted.station())?)))
}

/// Opens what `make` returns for a path, and stores its handle; NULL if that fails.
///
/// # Safety
/// `path` must be NULL or a string. `handle` must be NULL or point to a handle to write.
unsafe fn open(
    path: *const c_char,
    handle: *mut Handle,
    make: impl FnOnce(&Path) -> Result<Endpoint, Failure>,
) -> c_int {
    let mut opened = ptr::null_mut();
    let result = call(|| {
        if !is_usable(handle) {
            return Err(Failure::pointer("bus"));
        }
        if path.is_null() {
            return Err(Failure::pointer("path"));
        }
        // SAFETY: a string, by the contract above.
        let path = unsafe { CStr::from_ptr(path) };
        let endpoint = make(Path::new(OsStr::from_bytes(path.to_bytes())))?;
        opened = HANDLES.insert(endpoint)?;
        Ok(0)
    });
    if is_usable(handle) {
        // SAFETY: to be written, by the contract above.
        unsafe { handle.write(opened) };
    }
    result
}
