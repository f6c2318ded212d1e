//! The functions that `libvdeplug` calls.
//!
//! The caller keeps the contract of VDE: a connection is one that `open` returned and that was not
//! closed, and buffers are as long as it says. Several threads may use one connection.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use nix::errno::Errno;
use nix::libc::{self, size_t, ssize_t};
use shmbus::{BusOptions, OpenError, Station, StationOptions};

use crate::abi::{Connection, INTERFACE_VERSION, Module, OpenArgs};
use crate::plug::{Plug, errno_of};
use crate::report::report;
use crate::url::Url;

/// The table that `libvdeplug` looks for.
#[unsafe(export_name = "vdeplug_ops")]
pub static MODULE: Module = Module { flags: 0, open, recv, send, datafd, ctlfd, close };

/// Permission bits of a bus that is made when neither URL nor program say any.
const DEFAULT_MODE: u32 = 0o600;

/// Runs what a function does, and returns its result. A failure sets `errno`, and so does a panic,
/// which ends here.
fn answer<T>(failed: T, body: impl FnOnce() -> Result<T, Errno>) -> T {
    let errno = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => return result,
        Ok(Err(errno)) => errno,
        Err(_panic) => Errno::EIO,
    };
    errno.set();
    failed
}

/// # Safety
/// `url` and `description` must be NULL or strings. `args` must be NULL or, if `version` is
/// [`INTERFACE_VERSION`], point to arguments whose `group` is NULL or a string.
unsafe extern "C" fn open(
    url: *const c_char,
    description: *const c_char,
    version: c_int,
    args: *const OpenArgs,
) -> *mut Connection {
    answer(ptr::null_mut(), || {
        if url.is_null() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: a string, by the contract above.
        let text = unsafe { CStr::from_ptr(url) };
        let url = Url::parse(text.to_bytes()).map_err(|error| {
            report(format_args!("shmif://{}: {error}", text.to_string_lossy()));
            Errno::EINVAL
        })?;
        // Other versions may have other arguments.
        let args = if version == INTERFACE_VERSION { args } else { ptr::null() };
        // SAFETY: NULL or valid for reads, by the contract above.
        let args = unsafe { args.as_ref() };
        if args.is_some_and(|args| !args.group.is_null()) {
            report("a bus has the group of the user who makes it: change it with chgrp");
            return Err(Errno::ENOTSUP);
        }
        let description = if description.is_null() {
            c""
        } else {
            // SAFETY: a string, by the contract above.
            unsafe { CStr::from_ptr(description) }
        };
        let mode = args.map_or(0, |args| args.mode & 0o666);
        let plug = join(&url, mode, &description.to_string_lossy())?;
        Ok(Box::into_raw(Box::new(Connection::new(plug))))
    })
}

/// Joins a bus, and makes it if there is none: with the permission bits `mode`, unless those are 0 or
/// the URL has others.
fn join(url: &Url, mode: u32, description: &str) -> Result<Plug, Errno> {
    // Without it a bus that is cut short ends the program. With it, that is an error.
    if let Err(error) = shmbus::survive_truncation() {
        report(format_args!("cannot handle SIGBUS: {error}"));
    }
    let mode = url.mode.unwrap_or(if mode == 0 { DEFAULT_MODE } else { mode });
    let mut options = StationOptions::new().promiscuous(true);
    if let Some(name) = url.name.as_deref().or_else(|| program_of(description)) {
        options = options.name(name);
    }
    let options_of_bus = BusOptions::new().size(url.size).mode(mode);
    let joined =
        options_of_bus.open_or_create(&url.path).and_then(|bus| Station::join(bus, options));
    let mut station = joined.map_err(|error| {
        report(&error);
        errno_of_open(&error)
    })?;
    // There may be another network behind the program, as behind `vde_plug`.
    station.set_joins(true);
    station.set_learning(url.learn);
    Plug::new(station).map_err(|error| errno_of(&error))
}

/// Returns what a program calls itself. `libvdeplug` appends user and process.
fn program_of(description: &str) -> Option<&str> {
    let own = description.split_once(" user=").map_or(description, |(own, _)| own);
    Some(own.trim().trim_end_matches(':')).filter(|own| !own.is_empty())
}

fn errno_of_open(error: &OpenError) -> Errno {
    match error {
        OpenError::Io { source, .. } | OpenError::NoRoom { source, .. } => {
            source.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
        }
        OpenError::DeadLink { .. } => Errno::ENOENT,
        OpenError::PlantedLink { .. } => Errno::EACCES,
        OpenError::FileSizeLimit { .. } => Errno::EFBIG,
        OpenError::Busy { .. } => Errno::EBUSY,
        _ => Errno::EINVAL,
    }
}

/// Returns the plug of a connection.
///
/// # Safety
/// `connection` must be NULL, or one that [`open`] returned and that is not closed while the plug is
/// in use.
unsafe fn plug_of<'c>(connection: *mut Connection) -> Result<&'c Plug, Errno> {
    // SAFETY: NULL or valid, by the contract above. `libvdeplug` writes its two words before a
    // program has the connection.
    unsafe { connection.as_ref() }.map(Connection::plug).ok_or(Errno::EBADF)
}

/// # Safety
/// As for [`plug_of`]. `buffer` must be NULL or valid for writes of `len` bytes.
unsafe extern "C" fn recv(
    connection: *mut Connection,
    buffer: *mut c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    answer(-1, || {
        // SAFETY: the same contract.
        let plug = unsafe { plug_of(connection) }?;
        if buffer.is_null() {
            return Err(Errno::EFAULT);
        }
        // No object is larger, and no frame as long.
        let len = len.min(isize::MAX.unsigned_abs());
        // SAFETY: valid by the contract above; the program does not use it meanwhile.
        let buffer = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
        let received = plug.recv(buffer, flags & libc::MSG_DONTWAIT == 0)?;
        ssize_t::try_from(received).map_err(|_| Errno::EMSGSIZE)
    })
}

/// # Safety
/// As for [`plug_of`]. `frame` must be NULL or valid for reads of `len` bytes.
unsafe extern "C" fn send(
    connection: *mut Connection,
    frame: *const c_void,
    len: size_t,
    _flags: c_int,
) -> ssize_t {
    answer(-1, || {
        // SAFETY: the same contract.
        let plug = unsafe { plug_of(connection) }?;
        if frame.is_null() {
            return Err(Errno::EFAULT);
        }
        let sent = ssize_t::try_from(len).map_err(|_| Errno::EMSGSIZE)?;
        // SAFETY: valid by the contract above; the program does not write it meanwhile.
        plug.send(unsafe { slice::from_raw_parts(frame.cast::<u8>(), len) })?;
        Ok(sent)
    })
}

/// # Safety
/// As for [`plug_of`].
unsafe extern "C" fn datafd(connection: *mut Connection) -> c_int {
    // SAFETY: the same contract.
    answer(-1, || unsafe { plug_of(connection) }?.frames_fd())
}

/// # Safety
/// As for [`plug_of`].
unsafe extern "C" fn ctlfd(connection: *mut Connection) -> c_int {
    // SAFETY: the same contract.
    answer(-1, || Ok(unsafe { plug_of(connection) }?.gone_fd()))
}

/// # Safety
/// As for [`plug_of`]. The connection is not used any more.
unsafe extern "C" fn close(connection: *mut Connection) -> c_int {
    answer(-1, || {
        if connection.is_null() {
            return Err(Errno::EBADF);
        }
        // SAFETY: it comes from `Box::into_raw`, and is closed once, by the contract above.
        drop(unsafe { Box::from_raw(connection) });
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_are_called_as_their_programs() {
        assert_eq!(program_of("vdeplug: user=0 pid=17"), Some("vdeplug"));
        assert_eq!(program_of("QEMU user=1000 pid=1 SSH=::1"), Some("QEMU"));
        assert_eq!(program_of("a name"), Some("a name"));
        assert_eq!(program_of(" user=0 pid=17"), None);
        assert_eq!(program_of(""), None);
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(answer(-1, || panic!("a fault")), -1);
        assert_eq!(Errno::last(), Errno::EIO);
    }
}
