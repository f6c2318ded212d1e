//! The libraries' errors as Python's exceptions.
//!
//! The exceptions themselves are Python (`package/shmlan/_errors.py`). An error of the system is an
//! `OSError` with its number, which Python makes a `FileNotFoundError` or `PermissionError` of.

use std::io;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::{PyErr, import_exception};
use shmbus::{OpenError, SendError, WaitError, WakeError};

import_exception!(shmlan._errors, BusError);
import_exception!(shmlan._errors, BusyError);
import_exception!(shmlan._errors, LostError);
import_exception!(shmlan._errors, MemifError);
import_exception!(shmlan._errors, LinkDownError);

/// The exception of a value that cannot be used.
pub(crate) fn value_error(text: impl Into<String>) -> PyErr {
    PyValueError::new_err(text.into())
}

/// The exception of an error of the system. `text` says what failed and why.
pub(crate) fn system_error(source: &io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text)),
        None => PyOSError::new_err(text),
    }
}

/// The exception of a bus that cannot be opened.
pub(crate) fn open_error(error: &OpenError) -> PyErr {
    let text = error.to_string();
    match error {
        OpenError::Io { source, .. } | OpenError::NoRoom { source, .. } => {
            system_error(source, text)
        }
        OpenError::Busy { .. } => BusyError::new_err((text, 0)),
        OpenError::BadSize { .. } => value_error(text),
        _ => BusError::new_err(text),
    }
}

/// The exception of a burst that was not sent.
pub(crate) fn send_error(error: &SendError) -> PyErr {
    let text = error.to_string();
    match error {
        SendError::TooLong { .. } | SendError::TooShort { .. } => value_error(text),
        SendError::Busy { sent, .. } => BusyError::new_err((text, *sent)),
        SendError::Lost { .. } => LostError::new_err(text),
        _ => BusError::new_err(text),
    }
}

/// The exception of a bus on which no frame can be waited for.
pub(crate) fn wait_error(error: &WaitError) -> PyErr {
    let text = error.to_string();
    match error {
        WaitError::Lost { .. } => LostError::new_err(text),
        WaitError::Watch { source, .. } | WaitError::Poll { source, .. } => {
            system_error(source, text)
        }
        _ => BusError::new_err(text),
    }
}

/// The exception of stations that cannot be woken.
pub(crate) fn wake_error(error: &WakeError) -> PyErr {
    system_error(&error.source, error.to_string())
}
