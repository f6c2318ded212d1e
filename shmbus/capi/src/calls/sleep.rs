//! Waiting for frames.

use std::ffi::c_int;
use std::time::Duration;

use super::call;
use crate::endpoint::Endpoint;
use crate::handles::{HANDLES, Handle};

/// Waits until there is something to read: 1, or 0 when the time is over.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_wait(bus: Handle, timeout_ms: c_int) -> c_int {
    // A negative time is none.
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    call(|| HANDLES.with(bus, |endpoint| Ok(endpoint.wait(timeout)?.into())))
}

/// Returns the descriptor to poll after [`shmbus_arm`].
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_fd(bus: Handle) -> c_int {
    call(|| HANDLES.with(bus, Endpoint::descriptor))
}

/// Prepares for a sleep: 1 when there is something to read already, 0 when it is armed.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_arm(bus: Handle) -> c_int {
    call(|| HANDLES.with(bus, |endpoint| Ok(endpoint.arm()?.into())))
}

/// Ends a sleep.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_disarm(bus: Handle) -> c_int {
    call(|| {
        HANDLES.with(bus, |endpoint| {
            endpoint.disarm();
            Ok(0)
        })
    })
}
