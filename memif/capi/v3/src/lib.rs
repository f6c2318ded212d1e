//! `libmemif` 3.1 for C programs: its API, on the crate `memif`.
//!
//! `include/libmemif.h` documents each function. It is a thin face on the crate that 4.0 is on, too:
//! a "main" of 3.1 is what a socket of 4.0 is without its path.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memif_capi_core::abi::{
    AddRegion, Alloc, Buffer, ConnArgs, ConnectionUpdate, DelRegion, Details, FdUpdate3, Free,
    GetOffset, GetRegion, OnInterrupt, QueueValues, Realloc, Timer,
};
use memif_capi_core::{
    Allocator, Api, Callbacks, Code, Context, ExternalRegions, FdUpdate, SharedExternal, Socket,
    guard, queues,
};

/// `memif_queue_details_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header documents the fields")]
pub struct QueueDetails {
    pub region: u8,
    pub qid: u8,
    pub ring_size: u32,
    pub flags: u16,
    pub head: u16,
    pub tail: u16,
    pub buffer_size: u16,
}

impl From<QueueValues> for QueueDetails {
    fn from(values: QueueValues) -> Self {
        let QueueValues { region, qid, ring_size, flags, head, tail, buffer_size } = values;
        Self { region, qid, ring_size, flags, head, tail, buffer_size }
    }
}

// Compiled programs depend on these.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<QueueDetails>() == 16 && offset_of!(QueueDetails, qid) == 1);
};

/// `MEMIF_BUFFER_FLAG_RX`: the buffer was received.
const BUFFER_FLAG_RX: u8 = 2;
/// What a program without a name is called.
const DEFAULT_APP_NAME: &[u8] = b"libmemif-app";

/// A "main": sockets with one event loop and one set of functions for external regions.
#[derive(Clone)]
struct Main {
    context: Arc<Context>,
    external: SharedExternal,
    /// The global one's, where interfaces are that name no socket.
    default_socket: Option<Arc<Socket>>,
}

/// All mains; the first is the global one, of `memif_init`.
static MAINS: Mutex<(Option<Main>, Vec<Main>)> = Mutex::new((None, Vec::new()));

fn mains() -> MutexGuard<'static, (Option<Main>, Vec<Main>)> {
    MAINS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the global main.
fn global() -> Result<Main, Code> {
    mains().0.clone().ok_or(Code::InvalArg)
}

/// Returns the main with this handle.
fn per_thread(handle: *mut c_void) -> Result<Main, Code> {
    let found = mains().1.iter().find(|main| main.context.handle() == handle).cloned();
    found.ok_or(Code::InvalArg)
}

/// The timer that a main starts with: every 2 s.
fn default_timer() -> Timer {
    // SAFETY: all zeros are a time.
    let mut timer: Timer = unsafe { std::mem::zeroed() };
    (timer.it_value.tv_sec, timer.it_interval.tv_sec) = (2, 2);
    timer
}

/// Copies a text of the program's into a field, which ends with a NUL.
///
/// # Safety
/// `text` is NULL or ends with a NUL.
unsafe fn field<const N: usize>(text: *const c_char) -> Option<[u8; N]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: it ends with a NUL, by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let mut field = [0; N];
    let len = bytes.len().min(N - 1);
    field[..len].copy_from_slice(&bytes[..len]);
    Some(field)
}

/// What a main is made of, as the program passes it in.
struct MainArgs {
    update: Option<FdUpdate3>,
    private_ctx: *mut c_void,
    app_name: *const c_char,
    alloc: Option<Alloc>,
    realloc: Option<Realloc>,
    free: Option<Free>,
}

/// Makes a main without sockets.
///
/// # Safety
/// The name is NULL or ends with a NUL, and the functions behave as the header says.
unsafe fn new_main(args: &MainArgs) -> Result<Main, Code> {
    // SAFETY: by the caller's promise.
    let allocator = unsafe { Allocator::new(args.alloc, args.realloc, args.free) };
    // SAFETY: as above.
    let app_name = unsafe { field(args.app_name) }.unwrap_or_else(|| {
        let mut name = [0; 32];
        name[..DEFAULT_APP_NAME.len()].copy_from_slice(DEFAULT_APP_NAME);
        name
    });
    let update = args.update.map_or(FdUpdate::Library, FdUpdate::V3);
    let context = Context::new(Api::V3, update, args.private_ctx, app_name, allocator)?;
    context.set_timer(&default_timer()).inspect_err(|_| context.close())?;
    Ok(Main { context, external: SharedExternal::default(), default_socket: None })
}

/// Makes a socket.
///
/// # Safety
/// `sock` is NULL or valid for a write, `filename` is NULL or ends with a NUL.
unsafe fn new_socket(
    main: &Main,
    sock: *mut *mut c_void,
    filename: *const c_char,
) -> Result<(), Code> {
    if sock.is_null() {
        return Err(Code::InvalArg);
    }
    // SAFETY: by the caller's promise.
    let path = unsafe { field(filename) }.ok_or(Code::InvalArg)?;
    let socket = Socket::new(&main.context, path, Arc::clone(&main.external))?;
    // SAFETY: as above.
    unsafe { sock.write(socket.handle()) };
    Ok(())
}

/// Runs a call that returns what its handler does.
fn handled(call: impl FnOnce() -> Result<i32, Code>) -> c_int {
    let mut result = 0;
    let failed = guard(|| {
        result = call()?;
        Ok(())
    });
    if failed == 0 { result } else { failed }
}

/// The version of the memif protocol: 2.0.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_version() -> u16 {
    0x0200
}

/// The text of an error number. It is not to be written to.
#[unsafe(no_mangle)]
pub extern "C" fn memif_strerror(err_code: c_int) -> *mut c_char {
    memif_capi_core::message(err_code).as_ptr().cast_mut()
}

/// Makes the global main.
///
/// # Safety
/// The name is NULL or ends with a NUL, and the functions behave as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_init(
    on_control_fd_update: Option<FdUpdate3>,
    app_name: *mut c_char,
    memif_alloc: Option<Alloc>,
    memif_realloc: Option<Realloc>,
    memif_free: Option<Free>,
) -> c_int {
    guard(|| {
        if mains().0.is_some() {
            return Err(Code::Already);
        }
        let args = MainArgs {
            update: on_control_fd_update,
            private_ctx: std::ptr::null_mut(),
            app_name,
            alloc: memif_alloc,
            realloc: memif_realloc,
            free: memif_free,
        };
        // SAFETY: by the caller's promise.
        let mut main = unsafe { new_main(&args) }?;
        let socket = Socket::new(&main.context, [0; 108], Arc::clone(&main.external));
        main.default_socket = Some(socket.inspect_err(|_| main.context.close())?);
        mains().0 = Some(main);
        Ok(())
    })
}

/// Makes a main of the program's own.
///
/// # Safety
/// As [`memif_init`]; `pt_main` is NULL or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_per_thread_init(
    pt_main: *mut *mut c_void,
    private_ctx: *mut c_void,
    on_control_fd_update: Option<FdUpdate3>,
    app_name: *mut c_char,
    memif_alloc: Option<Alloc>,
    memif_realloc: Option<Realloc>,
    memif_free: Option<Free>,
) -> c_int {
    guard(|| {
        if pt_main.is_null() {
            return Err(Code::InvalArg);
        }
        let args = MainArgs {
            update: on_control_fd_update,
            private_ctx,
            app_name,
            alloc: memif_alloc,
            realloc: memif_realloc,
            free: memif_free,
        };
        // SAFETY: by the caller's promise.
        let main = unsafe { new_main(&args) }?;
        // SAFETY: as above.
        unsafe { pt_main.write(main.context.handle()) };
        mains().1.push(main);
        Ok(())
    })
}

/// Ends the global main.
#[unsafe(no_mangle)]
pub extern "C" fn memif_cleanup() -> c_int {
    guard(|| {
        let Some(main) = mains().0.clone() else { return Ok(()) };
        if main.default_socket.as_ref().is_some_and(|socket| !socket.is_unused()) {
            return Err(Code::InvalArg);
        }
        mains().0 = None;
        main.context.close();
        Ok(())
    })
}

/// Ends a main of the program's own, and sets the handle to NULL.
///
/// # Safety
/// `pt_main` is NULL or valid for reads and writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_per_thread_cleanup(pt_main: *mut *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: by the caller's promise.
        let handle = unsafe { pt_main.as_mut() }.ok_or(Code::InvalArg)?;
        let main = per_thread(*handle)?;
        mains().1.retain(|other| !Arc::ptr_eq(&other.context, &main.context));
        main.context.close();
        *handle = std::ptr::null_mut();
        Ok(())
    })
}

/// Sets the functions for the program's own memory regions, for the global main.
///
/// # Safety
/// The functions behave as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_register_external_region(
    add: Option<AddRegion>,
    get: Option<GetRegion>,
    del: Option<DelRegion>,
    offset: Option<GetOffset>,
) {
    guard(|| global().map(|main| set_external(&main, ExternalRegions { add, get, del, offset })));
}

/// Sets the functions for the program's own memory regions.
///
/// # Safety
/// The functions behave as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_per_thread_register_external_region(
    pt_main: *mut c_void,
    add: Option<AddRegion>,
    get: Option<GetRegion>,
    del: Option<DelRegion>,
    offset: Option<GetOffset>,
) {
    guard(|| {
        per_thread(pt_main)
            .map(|main| set_external(&main, ExternalRegions { add, get, del, offset }))
    });
}

fn set_external(main: &Main, external: ExternalRegions) {
    *main.external.lock().unwrap_or_else(PoisonError::into_inner) = external;
}

/// Makes a socket of the global main.
///
/// # Safety
/// `sock` is NULL or valid for a write, `filename` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_create_socket(
    sock: *mut *mut c_void,
    filename: *const c_char,
    _private_ctx: *mut c_void,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { new_socket(&global()?, sock, filename) })
}

/// Makes a socket.
///
/// # Safety
/// As [`memif_create_socket`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_per_thread_create_socket(
    pt_main: *mut c_void,
    sock: *mut *mut c_void,
    filename: *const c_char,
    _private_ctx: *mut c_void,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(|| unsafe { new_socket(&per_thread(pt_main)?, sock, filename) })
}

/// Deletes a socket without interfaces, and sets the handle to NULL.
///
/// # Safety
/// `sock` is NULL or valid for reads and writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memif_delete_socket(sock: *mut *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: by the caller's promise.
        let handle = unsafe { sock.as_mut() }.ok_or(Code::InvalArg)?;
        Socket::get(*handle).ok_or(Code::InvalArg)?.close()?;
        *handle = std::ptr::null_mut();
        Ok(())
    })
}

/// Returns the socket's path, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn memif_get_socket_filename(sock: *mut c_void) -> *const c_char {
    let mut path = std::ptr::null();
    guard(|| {
        // The socket stays in its table until it is deleted, so its path stays, too.
        path = Socket::get(sock).ok_or(Code::InvalArg)?.path().as_ptr().cast();
        Ok(())
    });
    path
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
        // SAFETY: by the caller's promise.
        let conn = unsafe { conn.as_mut() }.ok_or(Code::InvalArg)?;
        // SAFETY: as above.
        let args = unsafe { args.as_mut() }.ok_or(Code::InvalArg)?;
        if !conn.is_null() {
            return Err(Code::Conn);
        }
        let socket =
            if args.socket.is_null() { global()?.default_socket } else { Socket::get(args.socket) };
        let socket = socket.ok_or(Code::InvalArg)?;
        if socket.has_other_role(args.is_master != 0) {
            return Err(Code::InvalArg);
        }
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
        // SAFETY: by the caller's promise.
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
    guard(|| memif_capi_core::connect(conn))
}

/// Handles an event on a descriptor of the global main.
#[unsafe(no_mangle)]
pub extern "C" fn memif_control_fd_handler(fd: c_int, _events: u8) -> c_int {
    handled(|| Ok(global()?.context.fd_ready(fd)))
}

/// Handles an event on a descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn memif_per_thread_control_fd_handler(
    pt_main: *mut c_void,
    fd: c_int,
    _events: u8,
) -> c_int {
    handled(|| Ok(per_thread(pt_main)?.context.fd_ready(fd)))
}

/// Waits for one event of the global main and handles it.
#[unsafe(no_mangle)]
pub extern "C" fn memif_poll_event(timeout: c_int) -> c_int {
    handled(|| global()?.context.poll(timeout))
}

/// Waits for one event and handles it.
#[unsafe(no_mangle)]
pub extern "C" fn memif_per_thread_poll_event(pt_main: *mut c_void, timeout: c_int) -> c_int {
    handled(|| per_thread(pt_main)?.context.poll(timeout))
}

/// Ends a call of `memif_poll_event`, or the next one.
#[unsafe(no_mangle)]
pub extern "C" fn memif_cancel_poll_event() -> c_int {
    guard(|| global()?.context.cancel())
}

/// Ends a call of `memif_per_thread_poll_event`, or the next one.
#[unsafe(no_mangle)]
pub extern "C" fn memif_per_thread_cancel_poll_event(pt_main: *mut c_void) -> c_int {
    guard(|| per_thread(pt_main)?.context.cancel())
}

/// Sets when disconnected clients of the global main connect again.
#[unsafe(no_mangle)]
pub extern "C" fn memif_set_connection_request_timer(timer: Timer) -> c_int {
    guard(|| global()?.context.set_timer(&timer))
}

/// Sets when disconnected clients connect again.
#[unsafe(no_mangle)]
pub extern "C" fn memif_per_thread_set_connection_request_timer(
    pt_main: *mut c_void,
    timer: Timer,
) -> c_int {
    guard(|| per_thread(pt_main)?.context.set_timer(&timer))
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
    guard(|| unsafe { queues::rx_burst(conn.addr(), qid, bufs, count, rx, BUFFER_FLAG_RX) })
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
