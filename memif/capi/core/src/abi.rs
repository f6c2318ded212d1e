//! C's types, as both versions of the API have them: layouts are part of the ABI.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

use nix::libc;

/// `memif_conn_args_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct ConnArgs {
    pub socket: *mut c_void,
    pub secret: [u8; 24],
    pub num_s2m_rings: u8,
    pub num_m2s_rings: u8,
    pub buffer_size: u16,
    pub log2_ring_size: u8,
    pub is_master: u8,
    pub interface_id: u32,
    pub interface_name: [u8; 32],
    /// A bit field of 8 bits.
    pub mode: u8,
}

/// `memif_buffer_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct Buffer {
    pub desc_index: u16,
    pub queue: *mut c_void,
    pub len: u32,
    pub flags: u8,
    pub data: *mut c_void,
}

/// Bit 0 of [`Buffer::flags`]: the packet continues in the next buffer.
pub const BUFFER_FLAG_NEXT: u8 = 1;

/// `memif_region_details_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct RegionDetails {
    pub index: u8,
    pub addr: *mut c_void,
    pub size: u32,
    pub fd: c_int,
    pub is_external: u8,
}

/// `memif_details_t`, with the queue details of either version.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct Details<Q> {
    pub if_name: *mut u8,
    pub inst_name: *mut u8,
    pub remote_if_name: *mut u8,
    pub remote_inst_name: *mut u8,
    pub id: u32,
    pub secret: *mut u8,
    pub role: u8,
    pub mode: u8,
    pub socket_path: *mut u8,
    pub regions_num: u8,
    pub regions: *mut RegionDetails,
    pub rx_queues_num: u8,
    pub tx_queues_num: u8,
    pub rx_queues: *mut Q,
    pub tx_queues: *mut Q,
    pub error: *mut u8,
    pub link_up_down: u8,
}

/// What both versions' `memif_queue_details_t` hold.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct QueueValues {
    pub region: u8,
    pub qid: u8,
    pub ring_size: u32,
    pub flags: u16,
    pub head: u16,
    pub tail: u16,
    pub buffer_size: u16,
}

/// `memif_fd_event_t` of 4.0.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct FdEvent {
    pub fd: c_int,
    pub kind: c_int,
    pub private_ctx: *mut c_void,
}

/// `MEMIF_FD_EVENT_READ`: the descriptor is to be watched for reading.
pub const FD_READ: c_int = 1;
/// `MEMIF_FD_EVENT_DEL`: the descriptor is about to be closed.
pub const FD_DEL: c_int = 8;

/// `memif_control_fd_update_t` of 4.0.
pub type FdUpdate4 = unsafe extern "C" fn(FdEvent, *mut c_void) -> c_int;
/// `memif_control_fd_update_t` of 3.1.
pub type FdUpdate3 = unsafe extern "C" fn(c_int, u8, *mut c_void) -> c_int;
/// `memif_connection_update_t`.
pub type ConnectionUpdate = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
/// `memif_on_interrupt_t`, `memif_interrupt_t` in 3.1.
pub type OnInterrupt = unsafe extern "C" fn(*mut c_void, *mut c_void, u16) -> c_int;
/// `memif_alloc_t`.
pub type Alloc = unsafe extern "C" fn(usize) -> *mut c_void;
/// `memif_realloc_t`.
pub type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
/// `memif_free_t`.
pub type Free = unsafe extern "C" fn(*mut c_void);
/// `memif_add_external_region_t`.
pub type AddRegion = unsafe extern "C" fn(*mut *mut c_void, u32, *mut c_int, *mut c_void) -> c_int;
/// `memif_get_external_region_addr_t`.
pub type GetRegion = unsafe extern "C" fn(u32, c_int, *mut c_void) -> *mut c_void;
/// `memif_del_external_region_t`.
pub type DelRegion = unsafe extern "C" fn(*mut c_void, u32, c_int, *mut c_void) -> c_int;
/// `memif_get_external_buffer_offset_t`.
pub type GetOffset = unsafe extern "C" fn(*mut c_void) -> u32;

/// `struct itimerspec`.
pub type Timer = libc::itimerspec;
/// A C string or buffer of the program.
pub type Text = *mut c_char;

// Compiled programs depend on these.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<ConnArgs>() == 80 && offset_of!(ConnArgs, interface_id) == 40);
    assert!(offset_of!(ConnArgs, interface_name) == 44 && offset_of!(ConnArgs, mode) == 76);
    assert!(size_of::<Buffer>() == 32 && offset_of!(Buffer, len) == 16);
    assert!(offset_of!(Buffer, flags) == 20 && offset_of!(Buffer, data) == 24);
    assert!(size_of::<RegionDetails>() == 32 && offset_of!(RegionDetails, fd) == 20);
    assert!(size_of::<Details<u8>>() == 120 && offset_of!(Details<u8>, socket_path) == 56);
    assert!(offset_of!(Details<u8>, error) == 104 && size_of::<FdEvent>() == 16);
};
