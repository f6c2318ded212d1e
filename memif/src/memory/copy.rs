//! The copies between packets in shared memory and memory of the caller.
//!
//! The peer may store to the bytes at the same time, and so may safe code of this process: a
//! packet's bytes are lent out as atomics. So every copy here is a [`racing_copy`], which is no
//! data race. It then holds some mix of old and new bytes, which is as good as any other bytes a
//! peer may send.

use std::sync::atomic::AtomicU8;

use mapguard::racing_copy;

/// Copies as much as fits of `from` into `to` and returns how many bytes that was.
#[inline]
pub(crate) fn read(from: &[AtomicU8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    // SAFETY: both slices are valid for `len` bytes; `from` is reached as atomics only, and `to` by
    // no other thread.
    unsafe { racing_copy(from.as_ptr().cast(), to.as_mut_ptr(), len) };
    len
}

/// Copies as much as fits of `from` into `to` and returns how many bytes that was.
#[inline]
pub(crate) fn write(from: &[u8], to: &[AtomicU8]) -> usize {
    let len = from.len().min(to.len());
    // SAFETY: both slices are valid for `len` bytes; `from` is not written while it is borrowed,
    // and `to` is reached as atomics only, which may be written through a shared reference.
    unsafe { racing_copy(from.as_ptr(), to.as_ptr().cast_mut().cast(), len) };
    len
}

/// Copies as much as fits of `from` into `to` and returns how many bytes that was. A peer can make
/// buffers overlap, so both may be the same memory: what is copied then is what was there before.
#[inline]
pub(crate) fn relay(from: &[AtomicU8], to: &[AtomicU8]) -> usize {
    let len = from.len().min(to.len());
    let (from, to) = (&from[..len], &to[..len]);
    if len <= 64 {
        // Through a buffer of our own, which makes overlap harmless and is cheaper than a call.
        let mut local = [0; 64];
        let local = &mut local[..len];
        read(from, local);
        write(local, to);
    } else if from.as_ptr().addr().abs_diff(to.as_ptr().addr()) < len {
        relay_within(from, to);
    } else {
        // SAFETY: both slices are valid for `len` bytes and reached as atomics only.
        unsafe { racing_copy(from.as_ptr().cast(), to.as_ptr().cast_mut().cast(), len) };
    }
    len
}

/// Copies slices of one length that overlap, piece by piece through a buffer: from the end that is
/// not overwritten before it is read.
#[cold]
fn relay_within(from: &[AtomicU8], to: &[AtomicU8]) {
    let mut local = [0; 256];
    let mut piece = |from: &[AtomicU8], to: &[AtomicU8]| {
        let local = &mut local[..from.len()];
        read(from, local);
        write(local, to);
    };
    let pieces = from.chunks(256).zip(to.chunks(256));
    if to.as_ptr() < from.as_ptr() {
        pieces.for_each(|(from, to)| piece(from, to));
    } else {
        pieces.rev().for_each(|(from, to)| piece(from, to));
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
            assert_eq!(
                (to[len], middle[len].load(Relaxed), far[len].load(Relaxed)),
                (0xDD, 0xEE, 0xEE)
            );
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

    /// As the C library's `memmove` does, in both directions and at every distance.
    #[test]
    fn overlapping_buffers_arrive_as_they_were() {
        let before: Vec<u8> = (0..1_200u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        for len in [1, 63, 64, 65, 128, 129, 255, 256, 257, 600] {
            for shift in 0..=600 {
                for (from, to) in [(0, shift), (shift, 0)] {
                    let memory: Vec<AtomicU8> =
                        before.iter().map(|byte| AtomicU8::new(*byte)).collect();
                    assert_eq!(relay(&memory[from..from + len], &memory[to..to + len]), len);
                    let mut expected = before.clone();
                    expected.copy_within(from..from + len, to);
                    let after: Vec<u8> = memory.iter().map(|byte| byte.load(Relaxed)).collect();
                    assert!(after == expected, "{len} bytes from {from} to {to}");
                }
            }
        }
    }
}
