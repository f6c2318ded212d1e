//! `libmemif` 4.0 for C programs: its API and ABI, on the crate `memif`.
//!
//! `include/libmemif.h` documents each function, as C programs see it. Programs that were compiled
//! against the original run with this library unchanged.
//!
//! Each function checks the pointers that it gets and returns an error for NULL. A handle that has
//! outlived its object is an error, too ([`memif_capi_core`]).

use std::ffi::{c_char, c_int, c_void};

use memif_capi_core::abi::{
    AddRegion, Alloc, Buffer, ConnArgs, ConnectionUpdate, DelRegion, Details, FdUpdate4, Free,
    GetOffset, GetRegion, OnInterrupt, QueueValues, Realloc, Timer,
};
use memif_capi_core::{
    Allocator, Api, Callbacks, Code, Context, ExternalRegions, FdUpdate, SharedExternal, Socket,
    guard, queues,
};

/// `memif_socket_args_t`.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, missing_debug_implementations, reason = "the header documents the fields")]
pub struct SocketArgs {
    pub path: [u8; 108],
    pub app_name: [u8; 32],
    pub connection_request_timer: Timer,
    pub on_control_fd_update: Option<FdUpdate4>,
    pub alloc: Option<Alloc>,
    pub realloc: Option<Realloc>,
    pub free: Option<Free>,
}

/// `memif_queue_details_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct QueueDetails {
    pub region: u8,
    pub qid: u16,
    pub ring_size: u32,
    pub flags: u16,
    pub head: u16,
    pub tail: u16,
    pub buffer_size: u16,
}

impl From<QueueValues> for QueueDetails {
    fn from(values: QueueValues) -> Self {
        let QueueValues { region, qid, ring_size, flags, head, tail, buffer_size } = values;
        Self { region, qid: qid.into(), ring_size, flags, head, tail, buffer_size }
    }
}

// Compiled programs depend on these.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<SocketArgs>() == 208 && offset_of!(SocketArgs, app_name) == 108);
    assert!(offset_of!(SocketArgs, connection_request_timer) == 144);
    assert!(offset_of!(SocketArgs, on_control_fd_update) == 176);
    assert!(size_of::<QueueDetails>() == 16 && offset_of!(QueueDetails, qid) == 2);
};

/// The version of the memif protocol: 2.0.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_version() -> u16 {
    0x0200
}

/// The version of the memif protocol, as text.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_version_str() -> *const c_char {
    c"2.0".as_ptr()
}

/// The text of an error number. It is not to be written to.
#[unsafe(no_mangle)]
pub extern "C" fn memif_strerror(err_code: c_int) -> *mut c_char {
    memif_capi_core::message(err_code).as_ptr().cast_mut()
}

/// Makes a socket.
///
/// # Safety
/// `sock` is NULL or valid for a write, `args` is NULL or valid for a read, and its functions behave
/// as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_create_socket(
    sock: *mut *mut c_void,
    args: *const SocketArgs,
    private_ctx: *mut c_void,
) -> c_int {
    guard(|| {
        // SAFETY: NULL or valid, by the caller's promise.
        let args = unsafe { args.as_ref() }.ok_or(Code::InvalArg)?;
        if sock.is_null() {
            return Err(Code::InvalArg);
        }
        // SAFETY: the program's functions, by its promise.
        let allocator = unsafe { Allocator::new(args.alloc, args.realloc, args.free) };
        let update = args.on_control_fd_update.map_or(FdUpdate::Library, FdUpdate::V4);
        let context = Context::new(Api::V4, update, private_ctx, args.app_name, allocator)?;
        let external = SharedExternal::default();
        let socket = Socket::new(&context, args.path, external).inspect_err(|_| context.close())?;
        if let Err(code) = context.set_timer(&args.connection_request_timer) {
            context.close();
            // It has no interfaces.
            let _ = socket.close();
            return Err(code);
        }
        // SAFETY: valid for a write, by the caller's promise.
        unsafe { sock.write(socket.handle()) };
        Ok(())
    })
}

/// Deletes a socket without interfaces, and sets the handle to NULL.
///
/// # Safety
/// `sock` is NULL or valid for reads and writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_delete_socket(sock: *mut *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: NULL or valid, by the caller's promise.
        let handle = unsafe { sock.as_mut() }.ok_or(Code::InvalArg)?;
        let socket = Socket::get(*handle).ok_or(Code::InvalArg)?;
        socket.close()?;
        socket.context().close();
        *handle = std::ptr::null_mut();
        Ok(())
    })
}

/// Returns the socket's path, as it was passed in, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_socket_path(sock: *mut c_void) -> *const c_char {
    let mut path = std::ptr::null();
    guard(|| {
        // The socket stays in its table until it is deleted, so its path stays, too.
        path = Socket::get(sock).ok_or(Code::InvalArg)?.path().as_ptr().cast();
        Ok(())
    });
    path
}

/// Returns the socket's path: the name that 3.1 had for it.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_socket_filename(sock: *mut c_void) -> *const c_char {
    memif_get_socket_path(sock)
}

/// Returns the listening descriptor, or -1.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_listener_fd(sock: *mut c_void) -> c_int {
    let mut fd = -1;
    guard(|| {
        fd = Socket::get(sock).ok_or(Code::InvalArg)?.listener();
        Ok(())
    });
    fd
}

/// Serves a socket that listens already.
///
/// # Safety
/// `fd` is no descriptor of the library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_set_listener_fd(sock: *mut c_void, fd: c_int) -> c_int {
    guard(|| Socket::get(sock).ok_or(Code::InvalArg)?.set_listener(fd))
}

/// Sets when disconnected clients connect again.
#[unsafe(no_mangle)]
pub extern "C" fn memif_set_connection_request_timer(sock: *mut c_void, timer: Timer) -> c_int {
    guard(|| Socket::get(sock).ok_or(Code::InvalArg)?.context().set_timer(&timer))
}

/// Sets the functions for the program's own memory regions.
///
/// # Safety
/// The functions behave as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_register_external_region(
    sock: *mut c_void,
    add: Option<AddRegion>,
    get: Option<GetRegion>,
    del: Option<DelRegion>,
    offset: Option<GetOffset>,
) {
    guard(|| {
        let socket = Socket::get(sock).ok_or(Code::InvalArg)?;
        socket.set_external(ExternalRegions { add, get, del, offset });
        Ok(())
    });
}

/// Waits for one event and handles it.
#[unsafe(no_mangle)]
pub extern "C" fn memif_poll_event(sock: *mut c_void, timeout: c_int) -> c_int {
    let mut handled = 0;
    let failed = guard(|| {
        handled = Socket::get(sock).ok_or(Code::InvalArg)?.context().poll(timeout)?;
        Ok(())
    });
    if failed == 0 { handled } else { failed }
}

/// Ends a call of `memif_poll_event`, or the next one.
#[unsafe(no_mangle)]
pub extern "C" fn memif_cancel_poll_event(sock: *mut c_void) -> c_int {
    guard(|| Socket::get(sock).ok_or(Code::InvalArg)?.context().cancel())
}

/// Handles an event on a descriptor that the program watches.
#[unsafe(no_mangle)]
pub extern "C" fn memif_control_fd_handler(ptr: *mut c_void, _events: c_int) -> c_int {
    let mut handled = 0;
    let failed = guard(|| {
        handled = memif_capi_core::event_ready(ptr)?;
        Ok(())
    });
    if failed == 0 { handled } else { failed }
}

/// Makes an interface.
///
/// # Safety
/// `conn` and `args` are NULL or valid for reads and writes, and the functions behave as the header
/// says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_create(
    conn: *mut *mut c_void,
    args: *mut ConnArgs,
    on_connect: Option<ConnectionUpdate>,
    on_disconnect: Option<ConnectionUpdate>,
    on_interrupt: Option<OnInterrupt>,
    private_ctx: *mut c_void,
) -> c_int {
    guard(|| {
        // SAFETY: NULL or valid, by the caller's promise.
        let conn = unsafe { conn.as_mut() }.ok_or(Code::InvalArg)?;
        // SAFETY: as above.
        let args = unsafe { args.as_mut() }.ok_or(Code::InvalArg)?;
        if !conn.is_null() {
            return Err(Code::Conn);
        }
        let socket = Socket::get(args.socket).ok_or(Code::InvalArg)?;
        let callbacks = Callbacks { on_connect, on_disconnect, on_interrupt, private_ctx };
        *conn = memif_capi_core::create(&socket, args, callbacks)?;
        Ok(())
    })
}

/// Deletes an interface, and sets the handle to NULL.
///
/// # Safety
/// `conn` is NULL or valid for reads and writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_delete(conn: *mut *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: NULL or valid, by the caller's promise.
        let handle = unsafe { conn.as_ref() }.copied().ok_or(Code::NoConn)?;
        memif_capi_core::delete(handle)?;
        // SAFETY: as above. The program's callback may have written it meanwhile.
        unsafe { conn.write(std::ptr::null_mut()) };
        Ok(())
    })
}

/// Connects a client.
#[unsafe(no_mangle)]
pub extern "C" fn memif_request_connection(conn: *mut c_void) -> c_int {
    guard(|| memif_capi_core::request_connection(conn))
}

/// Returns the interface's socket, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_socket_handle(conn: *mut c_void) -> *mut c_void {
    let mut socket = std::ptr::null_mut();
    guard(|| {
        socket = memif_capi_core::socket_of(conn);
        Ok(())
    });
    socket
}

/// Describes an interface.
///
/// # Safety
/// `md` is NULL or valid for a write, and `buf` is NULL or has `buflen` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_get_details(
    conn: *mut c_void,
    md: *mut Details<QueueDetails>,
    buf: *mut c_char,
    buflen: isize,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { memif_capi_core::details(conn, md, buf, buflen, QueueDetails::from) })
}

/// Asks for interrupts on a queue (mode 0), or not (mode 1).
#[unsafe(no_mangle)]
pub extern "C" fn memif_set_rx_mode(conn: *mut c_void, rx_mode: c_int, qid: u16) -> c_int {
    guard(|| memif_capi_core::set_rx_mode(conn, rx_mode == 0, qid))
}

/// Returns the eventfd of a queue to receive on.
///
/// # Safety
/// `fd` is NULL or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_get_queue_efd(conn: *mut c_void, qid: u16, fd: *mut c_int) -> c_int {
    guard(|| {
        // SAFETY: NULL or valid, by the caller's promise.
        let fd = unsafe { fd.as_mut() };
        let found = memif_capi_core::queue_event_fd(conn, qid);
        let fd = fd.ok_or(Code::InvalArg)?;
        *fd = -1;
        *fd = found?;
        Ok(())
    })
}

/// Reserves buffers to send.
///
/// # Safety
/// `bufs` has room for the buffers of `count` packets, and `count_out` is valid for a write; either
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_buffer_alloc(
    conn: *mut c_void,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    count_out: *mut u16,
    size: u16,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { queues::alloc(conn.addr(), qid, bufs, count, count_out, size) })
}

/// Sends what was reserved.
///
/// # Safety
/// `bufs` holds `count` entries, and `tx` is valid for a write; either may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_tx_burst(
    conn: *mut c_void,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    tx: *mut u16,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { queues::tx_burst(conn.addr(), qid, bufs, count, tx) })
}

/// Receives.
///
/// # Safety
/// `bufs` has room for `count` entries, and `rx` is valid for a write; either may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_rx_burst(
    conn: *mut c_void,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    rx: *mut u16,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { queues::rx_burst(conn.addr(), qid, bufs, count, rx, 0) })
}

/// Gives received buffers back.
#[unsafe(no_mangle)]
pub extern "C" fn memif_refill_queue(
    conn: *mut c_void,
    qid: u16,
    count: u16,
    headroom: u16,
) -> c_int {
    guard(|| queues::refill(conn.addr(), qid, count, headroom))
}

/// Exchanges received buffers for empty ones of a queue to send on.
///
/// # Safety
/// `bufs` holds `count` entries, and `count_out` is valid for a write; either may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_buffer_enq_tx(
    conn: *mut c_void,
    qid: u16,
    bufs: *mut Buffer,
    count: u16,
    count_out: *mut u16,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { queues::enqueue(conn.addr(), qid, bufs, count, count_out) })
}

/// Exchanges two buffers.
///
/// # Safety
/// Both are NULL or point to entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_buffer_requeue(
    conn: *mut c_void,
    buf_a: *mut Buffer,
    buf_b: *mut Buffer,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { queues::requeue(conn.addr(), buf_a, buf_b) })
}

/// Cancels reservations from a buffer's on.
///
/// # Safety
/// `buf` is NULL or points to an entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_set_next_free_buffer(
    conn: *mut c_void,
    qid: u16,
    buf: *mut Buffer,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { queues::set_next_free(conn.addr(), qid, buf) })
}
