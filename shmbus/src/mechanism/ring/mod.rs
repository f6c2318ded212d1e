//! The ring: which process may write it, how packets get on and off, and why what a reader hands up
//! is whole.
//!
//! Free of I/O: everything here works on a [`Memory`], which is the mapped file or a model of it.
//!
//! # The argument
//!
//! Two kinds of writers share a ring. Both hold the lock, but they store in different orders:
//!
//! | | rump kernel | this crate |
//! |---|---|---|
//! | 1 | `last` | `first` moved out of the way of the whole burst |
//! | 2 | per piece: `first` moved, then the bytes | the bytes |
//! | 3 | `generation`, if the end was reached | `last`, and with it `generation` under the crossing mark |
//! | 4 | lock released | lock released |
//!
//! A reader takes no lock. It works between two *snapshots* ([`snapshot`]), each of which is a
//! state that was committed at some moment in between its first and its last load:
//!
//! - The lock is seen free, or held by us without the crossing mark, between two looks at
//!   `generation` and `last` that agree. A rump kernel changes either only while the lock reads as
//!   its own, so a pair seen around a free lock is one it left behind. We change `last` alone in
//!   one store, and both only under the mark. So the pair is one that was committed. `first` was
//!   read while it stood; it can have run ahead of it by at most a burst, which is far less than
//!   the ring, so it is read relative to that pair without doubt (see [`position::Extent`]).
//! - The bytes in between are copied, *then* the second snapshot is taken. Before a byte is
//!   overwritten, `first` has been moved past its packet: a copy that saw a byte of the new packet
//!   therefore sees the new `first` in the second snapshot, and is thrown away. Lengths read on the
//!   way are checked before they are used and count only if the second snapshot confirms them.
//!
//! On a bus of our own format the first part is simpler: a writer publishes the end of what it has
//! committed in one word, and the oldest packet in another, and readers look at nothing else (see
//! [`snapshot`]). The second part is the same, with the published word in the place of `first`.
//! Writers go by the header alone. So a writer that dies between header and publication leaves the
//! two different, and the station that takes over the lock publishes the header again.
//!
//! Stations that share a [`reading`](super::reading) do the second part twice: once for the
//! addresses of the frames, and each station for the bytes of its own.
//!
//! The orderings, by pair:
//!
//! | writer | reader |
//! |---|---|
//! | `first` stored, release fence, bytes ([`append`]) | bytes, acquire fence, `first` ([`cursor`]) |
//! | `first` published, release fence, bytes ([`append`]) | bytes, acquire fence, the published word ([`cursor`]) |
//! | bytes, `last` stored with release ([`append`]) | `last` with acquire, bytes ([`snapshot`]) |
//! | bytes, the end published with release ([`append`]) | the published end with acquire, bytes ([`snapshot`]) |
//! | mark, `last`, `generation`, no mark: each a release ([`lock`]) | `generation`, `last`, lock: each an acquire, then again ([`snapshot`]) |
//! | a rump kernel's lock swapped, then `last` | `last` with acquire, lock ([`snapshot`]) |
//! | lock word to 0 with release ([`lock`]) | lock word swapped with acquire (the next writer, [`lock`]) |
//!
//! The row about rump kernels needs their swap to be seen before the stores that follow it. On
//! x86-64 a locked swap is a full barrier. Where it is only an acquire (some weaker processors), a
//! reader could take a `last` that a rump kernel has just stored for a committed one; with our own
//! writers nothing rests on that.
//!
//! # On aarch64
//!
//! The argument needs what the language promises and nothing of x86-64, so it holds wherever the
//! compiler keeps that promise. On aarch64, which reorders loads and stores freely, the pairs become:
//!
//! | here | instructions | keeps in order |
//! |---|---|---|
//! | release store (`last`, `generation`, the published words, the lock given back) | `stlr` | all before it, the bytes among them, with it |
//! | acquire load (a relaxed load and a fence, see [`memory`](crate::memory)) | `ldr`, `dmb ishld` | it with all loads and stores behind it |
//! | release fence between `first` and the bytes | `dmb ish` | the store of `first` with those of the bytes |
//! | acquire fence between the bytes and the second snapshot | `dmb ishld` | the loads of the bytes with that of `first` |
//! | the lock word swapped | `casa`, or `ldaxr` and `stxr` | its load with all behind it |
//!
//! Three points are of the processor alone:
//!
//! - The swap is no full barrier: a store behind it, such as that of `first`, may be seen while the
//!   lock word still reads as free. Writers do not mind, since a store is seen only once the swap is
//!   certain to succeed, and then no other writer has the lock. Readers do not mind: `first` may run
//!   ahead at any time, and everything else that they go by is stored with release behind it.
//! - Rump kernels swap half of the word that we swap. Accesses of both sizes are aligned and so each
//!   is single-copy atomic, and each keeps the whole line: a swap of one size fails if the other
//!   size changed the word after it was loaded.
//! - The copy moves 16 bytes at a time by plain loads and stores ([`mapguard`]). The fences order
//!   them as they order any, and no byte is torn.
//!
//! Loom's models and those of the ring check the orderings as the language has them. The tests run as
//! aarch64 code under qemu, too (`.ci/nightly`): that checks instructions and layout; qemu on x86-64
//! has the order of x86-64.

pub(crate) mod append;
pub(crate) mod cursor;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod interleavings;
pub(crate) mod lock;
pub(crate) mod mend;
pub(crate) mod position;
#[cfg(test)]
pub(in crate::mechanism) mod rump;
pub(crate) mod rump_faults;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use crate::format::PacketHeader;
use crate::memory::Memory;

/// A ring on some memory.
#[derive(Clone, Debug)]
pub(crate) struct Ring<M> {
    memory: M,
    /// The longest frame the ring may carry; a header that claims more is corrupt.
    pub(in crate::mechanism) max_frame: u32,
}

impl<M: Memory> Ring<M> {
    pub(crate) fn new(memory: M, max_frame: u32) -> Self {
        Self { memory, max_frame }
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes of ring data.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.memory.data_size()
    }

    /// The offset `bytes` behind `at`, which lies on the ring; `bytes` is less than its size.
    #[inline]
    pub(crate) fn offset(&self, at: u32, bytes: usize) -> u32 {
        let size = self.size() as usize;
        let to = at as usize + bytes;
        #[expect(clippy::cast_possible_truncation, reason = "below the size, which is a u32")]
        let to = (if to >= size { to - size } else { to }) as u32;
        to
    }

    /// How many of `len` bytes at `at` lie before the end of the ring; the rest continue at 0.
    #[inline]
    pub(crate) fn before_end(&self, at: u32, len: usize) -> usize {
        len.min((self.size() - at) as usize)
    }

    /// Copies bytes off the ring, around its end if need be. `at` lies on the ring.
    #[inline]
    pub(crate) fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        let (head, tail) = bytes.split_at_mut(self.before_end(at, bytes.len()));
        self.memory.copy_out(at, head);
        if !tail.is_empty() {
            self.memory.copy_out(0, tail);
        }
    }

    /// Copies bytes onto the ring, around its end if need be. `at` lies on the ring.
    #[inline]
    pub(crate) fn copy_in(&self, at: u32, bytes: &[u8]) {
        let (head, tail) = bytes.split_at(self.before_end(at, bytes.len()));
        self.memory.copy_in(at, head);
        if !tail.is_empty() {
            self.memory.copy_in(0, tail);
        }
    }

    /// Loads words, around the end of the ring if need be. `at` lies on the ring.
    #[inline]
    pub(crate) fn load_words<const N: usize>(&self, at: u32) -> [u64; N] {
        if (self.size() - at) as usize >= size_of::<[u64; N]>() {
            return self.memory.load_words(at);
        }
        let mut bytes = [[0; 8]; N];
        self.copy_out(at, bytes.as_flattened_mut());
        bytes.map(u64::from_ne_bytes)
    }

    /// Stores words, around the end of the ring if need be. `at` lies on the ring.
    #[inline]
    fn store_words<const N: usize>(&self, at: u32, words: [u64; N]) {
        if (self.size() - at) as usize >= size_of_val(&words) {
            self.memory.store_words(at, words);
        } else {
            self.copy_in(at, words.map(u64::to_ne_bytes).as_flattened());
        }
    }

    /// The packet header at `at`; anything may stand there.
    #[inline]
    pub(crate) fn packet_header(&self, at: u32) -> PacketHeader {
        PacketHeader::from_words(self.load_words(at))
    }

    /// Destination and source of the frame at `at`; anything may stand there.
    #[inline]
    pub(crate) fn addresses(&self, at: u32) -> [[u8; 6]; 2] {
        let [first, second] = self.load_words(at).map(u64::to_ne_bytes);
        let [d0, d1, d2, d3, d4, d5, s0, s1] = first;
        let [s2, s3, s4, s5, ..] = second;
        [[d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]]
    }

    /// The length the packet at `at` claims; anything may stand there.
    #[inline]
    pub(crate) fn packet_len(&self, at: u32) -> u32 {
        let mut bytes = [0; 4];
        self.copy_out(at, &mut bytes);
        u32::from_ne_bytes(bytes)
    }
}
