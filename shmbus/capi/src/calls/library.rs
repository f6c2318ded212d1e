//! What concerns the library, and no bus.

use std::ffi::{CStr, c_char, c_int};

use super::call;
use crate::failure::{Code, Failure, last_text};

/// With the NUL that ends a string in C.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// Returns the version of the library: a string that stays valid.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_version() -> *const c_char {
    CStr::from_bytes_with_nul(VERSION.as_bytes()).unwrap_or(c"").as_ptr()
}

/// Returns a text for the result of a call: a string that stays valid.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_strerror(result: c_int) -> *const c_char {
    Code::text_of(result).as_ptr()
}

/// Returns the line of the latest failure in this thread: a string that is valid until the next one.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_last_error() -> *const c_char {
    last_text()
}

/// Makes the process survive that the file of a bus is cut short.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_survive_truncation() -> c_int {
    call(|| match shmbus::survive_truncation() {
        Ok(()) => Ok(0),
        Err(source) => {
            let text = format!("cannot handle SIGBUS: {source}");
            Err(Failure::caused_by(Code::System, &source, text))
        }
    })
}
