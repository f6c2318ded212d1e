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

/// Asks for the first line of `bytes`, to write it; it changes nothing but time. A line that the peer has read last would be
/// waited for at every store, one after the other.
#[inline]
pub(crate) fn write_soon(bytes: &[AtomicU8]) {
    // SAFETY: a prefetch reads nothing the program can see and cannot fault, whatever the address. Processors that do not know
    // it do nothing. (The compiler's intrinsic asks for reading only, unless it is told of a certain processor.)
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        let line = bytes.as_ptr();
        std::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = bytes;
}
