//! What is shared with `libvdeplug`: the order of its fields is a fact of its version 4.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;

use nix::libc::{size_t, ssize_t};

use crate::plug::Plug;

/// The version of `libvdeplug`'s interface whose [`OpenArgs`] are known.
pub(crate) const INTERFACE_VERSION: c_int = 1;

/// What a program asks for beside the URL.
#[derive(Debug)]
#[repr(C)]
pub struct OpenArgs {
    /// The port of a switch. A bus has none.
    pub port: c_int,
    /// The group that is to own what is made, or NULL.
    pub group: *const c_char,
    /// Permission bits of what is made; 0 for the default.
    pub mode: c_uint,
}

/// A connection: what `libvdeplug` calls by the name `VDECONN`.
#[repr(C)]
pub struct Connection {
    /// The first two words belong to `libvdeplug`, which writes them after the connection is opened.
    _handle: UnsafeCell<*mut c_void>,
    _module: UnsafeCell<*const Module>,
    plug: Plug,
}

impl Connection {
    pub(crate) fn new(plug: Plug) -> Self {
        let (handle, module) = (UnsafeCell::new(ptr::null_mut()), UnsafeCell::new(ptr::null()));
        Self { _handle: handle, _module: module, plug }
    }

    pub(crate) fn plug(&self) -> &Plug {
        &self.plug
    }
}

/// The table of functions, which `libvdeplug` finds by the name `vdeplug_ops`.
#[repr(C)]
pub struct Module {
    /// Not used by any version.
    pub flags: c_int,
    /// Opens a connection. `url` is what follows `shmif://`.
    pub open: unsafe extern "C" fn(
        url: *const c_char,
        description: *const c_char,
        version: c_int,
        args: *const OpenArgs,
    ) -> *mut Connection,
    /// Receives a frame; returns its length, or -1.
    pub recv: unsafe extern "C" fn(*mut Connection, *mut c_void, size_t, c_int) -> ssize_t,
    /// Sends a frame; returns its length, or -1.
    pub send: unsafe extern "C" fn(*mut Connection, *const c_void, size_t, c_int) -> ssize_t,
    /// Returns the descriptor that is readable while there is a frame.
    pub datafd: unsafe extern "C" fn(*mut Connection) -> c_int,
    /// Returns the descriptor that becomes readable when the network is gone.
    pub ctlfd: unsafe extern "C" fn(*mut Connection) -> c_int,
    /// Closes a connection; returns 0.
    pub close: unsafe extern "C" fn(*mut Connection) -> c_int,
}
