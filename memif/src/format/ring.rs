//! A ring in shared memory: its header, its descriptors, and where their fields lie.
//!
//! Both types are made of atomics only, since the peer may write to any of their bytes at any
//! moment.

use std::mem::{align_of, offset_of, size_of};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// The number that marks a ring.
pub(crate) const COOKIE: u32 = 0x3E3_1F20;
/// Header flag: the consumer wants no interrupts.
pub(crate) const FLAG_MASK: u16 = 1;
/// Descriptor flag: the packet continues in the next descriptor.
pub(crate) const FLAG_NEXT: u16 = 1;
/// All peers place rings back to back, which aligns them to a descriptor and no more.
pub(crate) const RING_ALIGN: u64 = 16;

/// The first 128 bytes of a ring.
#[repr(C)]
pub(crate) struct RingHeader {
    pub(crate) cookie: AtomicU32,
    pub(crate) flags: AtomicU16,
    pub(crate) head: AtomicU16,
    _client_line: [AtomicU8; 56],
    pub(crate) tail: AtomicU16,
    _server_line: [AtomicU8; 62],
}

/// A descriptor in shared memory, as two words: each is read and written in one piece.
#[repr(C)]
pub(crate) struct DescriptorCell {
    /// flags u16, region u16, length u32
    pub(crate) first: AtomicU64,
    /// offset u32, metadata u32
    pub(crate) second: AtomicU64,
}

const _: () = {
    assert!(size_of::<RingHeader>() == 128 && offset_of!(RingHeader, cookie) == 0);
    assert!(offset_of!(RingHeader, flags) == 4 && offset_of!(RingHeader, head) == 6);
    assert!(offset_of!(RingHeader, tail) == 64);
    assert!(size_of::<DescriptorCell>() == 16 && align_of::<DescriptorCell>() as u64 <= RING_ALIGN);
};

/// Returns the bytes of a ring of `1 << log2_size` descriptors.
pub(crate) const fn ring_bytes(log2_size: u8) -> u64 {
    size_of::<RingHeader>() as u64 + ((size_of::<DescriptorCell>() as u64) << log2_size)
}

/// The values of a descriptor, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) flags: u16,
    pub(crate) region: u16,
    /// Bytes of the packet in this buffer, or the room in it.
    pub(crate) length: u32,
    /// Where the buffer begins in its region, in bytes.
    pub(crate) offset: u32,
    pub(crate) metadata: u32,
}

impl Descriptor {
    #[inline]
    pub(crate) fn from_words(first: u64, second: u64) -> Self {
        let [f0, f1, r0, r1, l0, l1, l2, l3] = first.to_ne_bytes();
        let [o0, o1, o2, o3, m0, m1, m2, m3] = second.to_ne_bytes();
        Self {
            flags: u16::from_ne_bytes([f0, f1]),
            region: u16::from_ne_bytes([r0, r1]),
            length: u32::from_ne_bytes([l0, l1, l2, l3]),
            offset: u32::from_ne_bytes([o0, o1, o2, o3]),
            metadata: u32::from_ne_bytes([m0, m1, m2, m3]),
        }
    }

    #[inline]
    pub(crate) fn words(self) -> (u64, u64) {
        let ([f0, f1], [r0, r1]) = (self.flags.to_ne_bytes(), self.region.to_ne_bytes());
        let [l0, l1, l2, l3] = self.length.to_ne_bytes();
        let ([o0, o1, o2, o3], [m0, m1, m2, m3]) =
            (self.offset.to_ne_bytes(), self.metadata.to_ne_bytes());
        (
            u64::from_ne_bytes([f0, f1, r0, r1, l0, l1, l2, l3]),
            u64::from_ne_bytes([o0, o1, o2, o3, m0, m1, m2, m3]),
        )
    }

    /// Returns whether the packet continues in the next descriptor.
    #[inline]
    pub(crate) fn continues(&self) -> bool {
        self.flags & FLAG_NEXT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_bytes_of_the_format() {
        let d = Descriptor {
            flags: 1,
            region: 0x0203,
            length: 0x0405_0607,
            offset: 0x1213_1415,
            metadata: 0x2122_2324,
        };
        let (first, second) = d.words();
        assert_eq!(first.to_ne_bytes()[2..4], 0x0203u16.to_ne_bytes());
        assert_eq!(first.to_ne_bytes()[4..8], 0x0405_0607u32.to_ne_bytes());
        assert_eq!(second.to_ne_bytes()[..4], 0x1213_1415u32.to_ne_bytes());
        assert_eq!(Descriptor::from_words(first, second), d);
    }

    #[test]
    fn rings_of_1024_are_packed_as_by_other_peers() {
        assert_eq!(ring_bytes(10), 16_512);
    }
}
