//! The copies between packets in shared memory and memory of the caller.
//!
//! The bytes are copied as plain memory. The peer may store to them at the same time: the copy then holds some mix of
//! old and new bytes, which is as good as any other bytes a peer may send. Small packets are copied in place in a few
//! wide moves, since a call into the C library costs as much as the copy itself.

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::AtomicU8;

/// Copies as much as fits of `from` into `to` and returns how many bytes that was.
#[inline]
pub(crate) fn read(from: &[AtomicU8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    // SAFETY: both slices are valid for `len` bytes; `to` is exclusively borrowed and so cannot overlap `from`.
    unsafe { copy(from.as_ptr().cast(), to.as_mut_ptr(), len) };
    len
}

/// Copies as much as fits of `from` into `to` and returns how many bytes that was.
#[inline]
pub(crate) fn write(from: &[u8], to: &[AtomicU8]) -> usize {
    let len = from.len().min(to.len());
    // SAFETY: both slices are valid for `len` bytes, atomics may be written through a shared reference, and `from` is
    // memory nobody writes to and so cannot overlap `to`.
    unsafe { copy(from.as_ptr(), to.as_ptr().cast_mut().cast(), len) };
    len
}

/// Copies as much as fits of `from` into `to` and returns how many bytes that was. A peer can make buffers overlap, so
/// both may be the same memory.
#[inline]
pub(crate) fn relay(from: &[AtomicU8], to: &[AtomicU8]) -> usize {
    let len = from.len().min(to.len());
    if len <= 64 {
        // Through a buffer of our own, which makes overlap harmless and is cheaper than a call.
        let mut local = [0; 64];
        let local = &mut local[..len];
        read(from, local);
        write(local, to);
    } else {
        // SAFETY: both slices are valid for `len` bytes, and this copy allows overlap.
        unsafe { ptr::copy(from.as_ptr().cast::<u8>(), to.as_ptr().cast_mut().cast::<u8>(), len) };
    }
    len
}

/// Copies one `T` from offset `at`, whatever its alignment.
///
/// # Safety
/// `from` is readable and `to` writable for `at + size_of::<T>()` bytes.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would cost more than the move it makes")]
unsafe fn one<T>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: `at` is within the block, by the caller's promise.
    let from = unsafe { from.add(at) };
    // SAFETY: as above.
    let to = unsafe { to.add(at) };
    // SAFETY: both sides hold a whole `T` at this place; plain bytes have no invalid values and need no alignment here.
    unsafe { ptr::copy_nonoverlapping(from, to, size_of::<T>()) };
}

/// Copies a block of `size_of::<T>()..=2 * size_of::<T>()` bytes as its first and its last `T`, which may overlap.
///
/// # Safety
/// As for [`copy`], and `len` is in the range given.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would cost more than the moves it makes")]
unsafe fn ends<T>(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: `len >= size_of::<T>()`.
    unsafe { one::<T>(from, to, 0) };
    // SAFETY: ends at `len`.
    unsafe { one::<T>(from, to, len - size_of::<T>()) };
}

/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    match len {
        // SAFETY: the range is the one `ends` asks for.
        32..=64 => unsafe { ends::<[u8; 32]>(from, to, len) },
        // SAFETY: as above.
        65..=128 => unsafe { ends::<[u8; 64]>(from, to, len) },
        // SAFETY: as above.
        16..32 => unsafe { ends::<[u8; 16]>(from, to, len) },
        // SAFETY: as above.
        8..16 => unsafe { ends::<u64>(from, to, len) },
        // SAFETY: the caller's promise is the one this copy asks for.
        _ => unsafe { ptr::copy_nonoverlapping(from, to, len) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    fn shared(len: usize) -> Vec<AtomicU8> {
        (0..len).map(|_| AtomicU8::new(0xEE)).collect()
    }

    #[test]
    fn every_length_arrives_whole_and_touches_nothing_else() {
        for len in (0..300).chain([1_514, 65_535]) {
            let from: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let middle = shared(len + 1);
            assert_eq!(write(&from, &middle[..len]), len);
            let far = shared(len + 1);
            assert_eq!(relay(&middle[..len], &far[..len]), len);
            let mut to = vec![0xDD; len + 1];
            assert_eq!(read(&far[..len], &mut to[..len]), len);
            assert_eq!(to[..len], from);
            assert_eq!((to[len], middle[len].load(Relaxed), far[len].load(Relaxed)), (0xDD, 0xEE, 0xEE));
        }
    }

    #[test]
    fn the_shorter_side_rules() {
        let middle = shared(10);
        assert_eq!(write(&[1; 20], &middle), 10);
        assert_eq!(read(&middle, &mut [0; 4]), 4);
        assert_eq!(relay(&middle, &shared(3)), 3);
    }

    #[test]
    fn overlapping_buffers_of_a_liar_do_no_harm() {
        let memory = shared(300);
        memory.iter().zip(0u8..=255).for_each(|(cell, i)| cell.store(i, Relaxed));
        assert_eq!(relay(&memory[..200], &memory[8..208]), 200);
        assert_eq!(memory[207].load(Relaxed), 199);
    }
}
