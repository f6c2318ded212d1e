//! What an object of Python owns until it is closed.
//!
//! Threads of Python may use one object at once, and one of them may close it, so there is a mutex.
//! It is taken only by a thread that is detached from the interpreter, and so a thread that holds
//! it may wait for the interpreter, for instance to raise an exception, without a deadlock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{PyResult, Python};

use crate::error::value_error;

/// A value that can be closed.
///
/// A forked child has all values of its parent, down to the kernel's locks that say which station is
/// alive. Were it to use or drop one, the parent's would break. So there a value is of no use, and is
/// left as it is.
pub(crate) struct Owned<T> {
    value: Mutex<Option<T>>,
    /// The process that opened it.
    process: u32,
    /// What it is, with its article.
    what: &'static str,
}

impl<T> Owned<T> {
    pub(crate) fn new(what: &'static str, value: T) -> Self {
        Self { value: Mutex::new(Some(value)), process: std::process::id(), what }
    }

    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        // The libraries' types are sound after a panic.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `act` use the value. For threads that are detached from the interpreter.
    ///
    /// # Errors
    /// When the value is closed, or belongs to another process.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        // Before the lock: perhaps a thread had it that the fork left behind.
        if self.is_forked() {
            let (what, process) = (self.what, self.process);
            let text =
                format!("{what} of process {process} is of no use after a fork: open a new one");
            return Err(value_error(text));
        }
        match &mut *self.lock() {
            Some(value) => act(value),
            None => Err(value_error(format!("{} is closed", self.what))),
        }
    }

    /// Lets `act` use the value, without the interpreter.
    ///
    /// # Errors
    /// As [`act`](Self::act).
    pub(crate) fn with<R: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut T) -> PyResult<R> + Send,
    ) -> PyResult<R>
    where
        T: Send,
    {
        py.detach(|| self.act(act))
    }

    /// Whether the value can be used. For threads that are detached from the interpreter.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_forked() && self.lock().is_some()
    }

    /// Closes the value. For threads that are detached from the interpreter.
    pub(crate) fn close(&self) {
        if !self.is_forked() {
            let value = self.lock().take();
            // After the lock.
            drop(value);
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.is_forked() {
            let value = self.value.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(value.take());
        }
    }
}
