//! Memory from the program's own functions: the library's records of sockets, interfaces and links
//! are in it. (What the crate `memif` allocates inside comes from the system's allocator.)

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;

use nix::libc;

use crate::abi::{Alloc, Free, Realloc};
use crate::code::Code;

/// The program's memory functions, or the C library's.
#[derive(Debug, Clone, Copy)]
pub struct Allocator {
    alloc: Alloc,
    /// Where a program has its own. Records here never grow, so none is made larger.
    _realloc: Realloc,
    free: Free,
}

impl Allocator {
    /// Takes the program's functions; those that are `None` are the C library's.
    ///
    /// # Safety
    /// The functions behave like `malloc`, `realloc` and `free`: `alloc` returns NULL or memory that
    /// is aligned for any type.
    #[must_use]
    pub unsafe fn new(alloc: Option<Alloc>, realloc: Option<Realloc>, free: Option<Free>) -> Self {
        Self {
            alloc: alloc.unwrap_or(libc::malloc),
            _realloc: realloc.unwrap_or(libc::realloc),
            free: free.unwrap_or(libc::free),
        }
    }

    /// Puts a value into the program's memory.
    pub(crate) fn place<T: Copy>(self, value: T) -> Result<Record<T>, Code> {
        // SAFETY: the program's `malloc`, by the promise of `new`.
        let memory: *mut c_void = unsafe { (self.alloc)(size_of::<T>().max(1)) };
        let memory: NonNull<T> = NonNull::new(memory).ok_or(Code::NoMem)?.cast();
        // SAFETY: new memory of the value's size, which `malloc` aligns for any C type.
        unsafe { memory.write(value) };
        Ok(Record { memory, free: self.free })
    }
}

/// A value in the program's memory.
pub(crate) struct Record<T: Copy> {
    memory: NonNull<T>,
    free: Free,
}

// SAFETY: it owns its memory, as a box does, and the program's `free` may be called by any thread.
unsafe impl<T: Copy + Send> Send for Record<T> {}
// SAFETY: shared, it is only read.
unsafe impl<T: Copy + Sync> Sync for Record<T> {}

impl<T: Copy> std::ops::Deref for Record<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: written by `place`, and freed by `drop` only.
        unsafe { self.memory.as_ref() }
    }
}

impl<T: Copy> Drop for Record<T> {
    fn drop(&mut self) {
        // SAFETY: from the program's `alloc`, and freed once.
        unsafe { (self.free)(self.memory.as_ptr().cast()) };
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for Record<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn none(_: usize) -> *mut c_void {
        std::ptr::null_mut()
    }

    #[test]
    fn values_are_placed_and_a_lack_of_memory_is_an_error() {
        // SAFETY: the C library's functions.
        let system = unsafe { Allocator::new(None, None, None) };
        assert_eq!(*system.place([7u64; 9]).unwrap(), [7; 9]);
        // SAFETY: it returns NULL.
        let empty = unsafe { Allocator::new(Some(none), None, None) };
        assert!(matches!(empty.place(7u8), Err(Code::NoMem)));
    }
}
