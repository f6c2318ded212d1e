//! Asking for a cache line before it is needed, so that the misses of a burst overlap.

use std::sync::atomic::AtomicU8;

/// Starts loading the first line of `bytes`; it changes nothing but time.
#[inline]
pub(crate) fn read_soon(bytes: &[AtomicU8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing the program can see and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
