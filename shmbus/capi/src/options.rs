//! `struct shmbus_options`, which later versions may make longer.

use std::ffi::{CStr, c_char};
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::slice;
use std::time::Duration;

use shmbus::{BUS_SIZE, Bus, BusOptions, MacAddr6, OpenError, StationOptions, WaitMode};

use crate::failure::Failure;

const PROMISCUOUS: u32 = 1;
const EXISTING: u32 = 2;
const OWN_FORMAT: u32 = 4;

/// How to join a bus. Zeros stand for the defaults.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Options {
    /// The size of the structure that the program knows.
    pub struct_size: usize,
    /// The name among the members of the bus, or NULL.
    pub name: *const c_char,
    /// Six bytes, or NULL.
    pub mac: *const u8,
    /// Of a file that is made, in bytes.
    pub size: u64,
    /// Permission bits of a file that is made.
    pub mode: u32,
    /// `SHMBUS_PROMISCUOUS` and so on.
    pub flags: u32,
    /// How long a send waits for the lock, in milliseconds.
    pub lock_timeout_ms: u32,
    /// The least time between two wake-ups, in microseconds.
    pub wake_interval_us: u32,
    /// How long a wait polls before it sleeps, in microseconds.
    pub poll_us: u32,
    /// 0.
    pub reserved: u32,
}

/// The least size of the structure: that of the first version.
const FIRST_SIZE: usize = mem::size_of::<Options>();
/// No version is larger. A structure that was not initialised says anything.
const MAX_SIZE: usize = 4096;

/// The options of a program, checked and copied.
pub(crate) struct Wanted {
    exists: bool,
    bus: BusOptions,
    station: StationOptions,
}

impl Options {
    /// Copies the options of a program. Parts that this version does not know must be zeros.
    ///
    /// # Safety
    /// `options` must be valid for reads of as many bytes as its first member says, and of that.
    unsafe fn copy(options: *const Self) -> Result<Self, Failure> {
        // SAFETY: valid by the contract above; any alignment will do.
        let size = unsafe { options.cast::<usize>().read_unaligned() };
        if !(FIRST_SIZE..=MAX_SIZE).contains(&size) {
            return Err(Failure::argument(
                "the options have no struct_size: begin with SHMBUS_OPTIONS_INIT",
            ));
        }
        // SAFETY: valid by the contract above; the structure has no padding.
        let all = unsafe { slice::from_raw_parts(options.cast::<u8>(), size) };
        if all[FIRST_SIZE..].iter().any(|byte| *byte != 0) {
            return Err(Failure::argument(
                "the options ask for something that this version of libshmbus does not know",
            ));
        }
        let mut copy = MaybeUninit::<Self>::uninit();
        // SAFETY: both are as long, and the copy is a place of its own.
        unsafe { ptr::copy_nonoverlapping(all.as_ptr(), copy.as_mut_ptr().cast(), FIRST_SIZE) };
        // SAFETY: integers and raw pointers, all written.
        Ok(unsafe { copy.assume_init() })
    }
}

impl Wanted {
    /// The defaults.
    pub(crate) fn defaults() -> Self {
        Self { exists: false, bus: BusOptions::new(), station: StationOptions::new() }
    }

    /// Reads the options of a program, if it has any.
    ///
    /// # Errors
    /// When a value is out of its range.
    ///
    /// # Safety
    /// `options` must be NULL, or valid for reads of as many bytes as its first member says, and of
    /// that. Its `name` must be NULL or a string, and its `mac` NULL or six bytes.
    pub(crate) unsafe fn read(options: *const Options) -> Result<Self, Failure> {
        let mut wanted = Self::defaults();
        if options.is_null() {
            return Ok(wanted);
        }
        // SAFETY: valid by the contract above.
        let options = unsafe { Options::copy(options) }?;
        let unknown = options.flags & !(PROMISCUOUS | EXISTING | OWN_FORMAT);
        if unknown != 0 || options.reserved != 0 {
            return Err(Failure::argument(format!("the options have unknown flags: {unknown:#x}")));
        }
        if options.mode & !0o777 != 0 {
            let text = format!("{:#o} are no permission bits of a file", options.mode);
            return Err(Failure::argument(text));
        }
        wanted.exists = options.flags & EXISTING != 0;
        wanted.bus = wanted
            .bus
            .shmif(options.flags & OWN_FORMAT == 0)
            .mode(if options.mode == 0 { 0o600 } else { options.mode })
            .size(if options.size == 0 { BUS_SIZE } else { options.size });
        let mut station = wanted
            .station
            .promiscuous(options.flags & PROMISCUOUS != 0)
            .wake_interval(Duration::from_micros(options.wake_interval_us.into()));
        if options.lock_timeout_ms != 0 {
            station = station.lock_timeout(Duration::from_millis(options.lock_timeout_ms.into()));
        }
        if options.poll_us != 0 {
            let time = Duration::from_micros(options.poll_us.into());
            station = station.wait_mode(WaitMode::Poll(time));
        }
        if !options.name.is_null() {
            // SAFETY: a string, by the contract above.
            let name = unsafe { CStr::from_ptr(options.name) };
            station = station.name(name.to_string_lossy());
        }
        if !options.mac.is_null() {
            // SAFETY: six bytes, by the contract above; bytes are always aligned.
            let mac = unsafe { options.mac.cast::<[u8; 6]>().read() };
            if mac[0] & 1 != 0 {
                let text =
                    format!("{} is a group address; a station has none", MacAddr6::from(mac));
                return Err(Failure::argument(text));
            }
            station = station.mac(mac.into());
        }
        wanted.station = station;
        Ok(wanted)
    }

    /// Opens or makes the bus.
    pub(crate) fn open(&self, path: &std::path::Path) -> Result<Bus, OpenError> {
        if self.exists { Bus::open(path) } else { self.bus.open_or_create(path) }
    }

    /// Returns the options of the station.
    pub(crate) fn station(self) -> StationOptions {
        self.station
    }
}
