//! The memory floor: the mapped bus file, reached through checked accessors.
//!
//! Everything unsafe of this crate is in this file. Above it there are no pointers: the header's
//! fields are atomics named by [`Field32`] and [`Field64`], and the ring's bytes are copied in and
//! out by offset. The ring's algorithms are written against the trait [`Memory`], so that a model
//! can stand in for the mapping.
//!
//! # The racing copy
//!
//! Other processes write the mapping while we read it, and so do other threads of this one. Such a
//! copy may come out torn; that is no fault as long as nothing is concluded from the bytes before
//! the ring says that they were whole (see [`crate::mechanism::ring`]). Two things matter here: the
//! compiler sees no Rust reference to such bytes, and the copy is no data race. [`racing_copy`]
//! goes from raw pointer to raw pointer, byte by byte an atomic to the language, and the callers
//! order it with fences. Memory of callers that may change meanwhile is only ever lent as
//! `&[AtomicU8]`.
//!
//! # Loads from a read-only mapping
//!
//! A [`Tap`](crate::Tap) may have mapped the file for reading only. The language guarantees of
//! atomic loads from such memory only those that are relaxed: an acquire load may be compiled to an
//! instruction that writes. So an acquire here is a relaxed load and an acquire fence behind it,
//! which orders at least as much and costs the same.

#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "the fuzzers use a part of what the tests do"))]
pub(crate) mod model;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use mapguard::{Guard, racing_copy, racing_load, racing_store};
use memmap2::{MmapOptions, MmapRaw};

use crate::format::sleepers::TABLE_SIZE;
use crate::format::{Field32, Field64, Shape};

/// Bytes that go from one processor's cache to another's together.
const CACHE_LINE: usize = 64;

/// The shared memory of a bus, as the ring's algorithms use it.
///
/// Copies must lie inside the ring data and not cross its end: offsets come from checked
/// arithmetic, so a copy outside is a programming error and panics.
pub(crate) trait Memory {
    /// How often a snapshot is tried before the caller has to do something else. A commit of ours
    /// takes a few stores; a rump kernel holds the lock for a packet's copy.
    const TRIES: u32 = 200;

    /// Bytes of ring data.
    fn data_size(&self) -> u32;
    /// Whether there are [`Field64::End`] and [`Field64::Oldest`]: the bus is of our own format.
    fn publishes(&self) -> bool {
        false
    }
    fn load32(&self, field: Field32, order: Ordering) -> u32;
    fn store32(&self, field: Field32, value: u32, order: Ordering);
    fn load64(&self, field: Field64, order: Ordering) -> u64;
    fn store64(&self, field: Field64, value: u64, order: Ordering);
    /// Strong compare-and-swap, acquire on success.
    fn cas64(&self, field: Field64, current: u64, new: u64) -> Result<u64, u64>;
    /// Copies bytes onto the ring at offset `at`.
    fn copy_in(&self, at: u32, bytes: &[u8]);
    /// Copies bytes off the ring from offset `at`; they may be torn.
    fn copy_out(&self, at: u32, bytes: &mut [u8]);
    /// As `copy_in`, of words in native byte order. A copy of bytes that were made of numbers right
    /// before it waits until every store before them is done; this does not.
    fn store_words<const N: usize>(&self, at: u32, words: [u64; N]) {
        self.copy_in(at, words.map(u64::to_ne_bytes).as_flattened());
    }
    /// As `copy_out`, to words in native byte order.
    fn load_words<const N: usize>(&self, at: u32) -> [u64; N] {
        let mut bytes = [[0; 8]; N];
        self.copy_out(at, bytes.as_flattened_mut());
        bytes.map(u64::from_ne_bytes)
    }
    /// Whether the file was cut short under the mapping: what is read there may be zeros that no
    /// station wrote.
    fn is_lost(&self) -> bool {
        false
    }
    /// Asks for the bytes from offset `at` on, which will soon be written, so that the misses of a
    /// burst overlap. As many as lie before the end of the ring; it changes nothing but time.
    fn write_soon(&self, _at: u32, _len: u32) {}
    /// Orders what the copies and the header accesses do not order themselves.
    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

/// The 64-bit words of a table, in memory that other processes write.
pub(crate) trait Words {
    fn load(&self, at: usize, order: Ordering) -> u64;
    fn store(&self, at: usize, value: u64, order: Ordering);
    /// Sets bits; returns the word before.
    fn set_bits(&self, at: usize, bits: u64, order: Ordering) -> u64;
    /// Clears bits; returns the word before.
    fn clear_bits(&self, at: usize, bits: u64, order: Ordering) -> u64;
    /// Strong compare-and-swap, acquire and release on success.
    fn cas(&self, at: usize, current: u64, new: u64) -> Result<u64, u64>;
    fn fence(&self, order: Ordering);
}

/// A file, mapped shared in whole.
#[derive(Debug)]
struct MappedFile {
    // Before the mapping, so that it is dropped first.
    guard: Guard,
    map: MmapRaw,
    /// Where the mapping begins. `MmapRaw` says it, too, by a call into its crate, and each access
    /// asks. It never changes; an atomic pointer is one that threads may share.
    start: AtomicPtr<u8>,
}

impl MappedFile {
    fn new(file: &File, len: usize, writable: bool) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        let map =
            if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        // SAFETY: it is a whole mapping of ours, and stays for longer than the guard.
        let guard = unsafe { Guard::new(map.as_ptr(), map.len()) };
        let start = AtomicPtr::new(map.as_mut_ptr());
        Ok(Self { guard, map, start })
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        // Relaxed: it was written before the mapping was shared.
        self.start.load(Ordering::Relaxed)
    }
}

/// A bus file, mapped shared in whole. Clones share the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    file: Arc<MappedFile>,
    /// Where the ring begins.
    data_at: usize,
    data_size: u32,
    publishes: bool,
    writable: bool,
}

impl Mapping {
    /// Maps a bus file of this shape, of at most [`MAX_BUS_SIZE`](crate::MAX_BUS_SIZE) bytes, for
    /// reading only or also for writing.
    pub(crate) fn new(file: &File, shape: Shape, writable: bool) -> io::Result<Self> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let len = usize::try_from(shape.size).map_err(too_large)?;
        let data_at = shape.data_at();
        let data_size = u32::try_from(len.saturating_sub(data_at)).map_err(too_large)?;
        let file = Arc::new(MappedFile::new(file, len, writable)?);
        Ok(Self { file, data_at, data_size, publishes: shape.publishes(), writable })
    }

    /// The table of sleepers at `at`, a multiple of eight. `None` where the file is too short or
    /// may not be written.
    pub(crate) fn table(&self, at: usize) -> Option<MappedWords> {
        (self.writable && self.file.map.len() >= at + TABLE_SIZE)
            .then(|| MappedWords { file: Arc::clone(&self.file), at })
    }

    /// Bytes of the file that are mapped.
    pub(crate) fn file_size(&self) -> u64 {
        self.file.map.len() as u64
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> usize {
        self.file.start().addr()
    }

    /// Whether the mapping may be written.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    #[inline]
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "fields lie at multiples of their size from a page boundary"
    )]
    fn atomic32(&self, field: Field32) -> &AtomicU32 {
        let at = self.file.start().wrapping_add(field as usize).cast::<u32>();
        // SAFETY: the field lies before the ring of a mapping that lives as long as `self`, on a
        // multiple of its size from a page boundary, and this process accesses it through atomics
        // only.
        unsafe { AtomicU32::from_ptr(at) }
    }

    #[inline]
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "fields lie at multiples of their size from a page boundary"
    )]
    fn atomic64(&self, field: Field64) -> &AtomicU64 {
        let at = self.file.start().wrapping_add(field as usize).cast::<u64>();
        // SAFETY: as in `atomic32`.
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// A pointer to `len` bytes of ring data at `at`, all of them inside the mapping.
    #[inline]
    fn data(&self, at: u32, len: usize) -> *mut u8 {
        assert!(at as usize + len <= self.data_size as usize, "copy outside the ring");
        self.file.start().wrapping_add(self.data_at + at as usize)
    }

    /// As [`Memory::copy_in`], from memory that others may be writing.
    #[inline]
    pub(crate) fn copy_in_shared(&self, at: u32, bytes: &[AtomicU8]) {
        self.assert_writable();
        let to = self.data(at, bytes.len());
        // SAFETY: `data` checked the destination, and a slice is its own proof; both are reached as
        // atomics and by racing copies only.
        unsafe { racing_copy(bytes.as_ptr().cast(), to, bytes.len()) }
    }

    /// As [`Memory::copy_out`], to memory that others may be reading and writing.
    #[inline]
    pub(crate) fn copy_out_shared(&self, at: u32, bytes: &[AtomicU8]) {
        let from = self.data(at, bytes.len());
        // SAFETY: as above, and atomics may be written through a shared reference.
        unsafe { racing_copy(from, bytes.as_ptr().cast_mut().cast(), bytes.len()) }
    }

    /// A store to a read-only mapping would be a crash; that no caller tries is checked here once.
    #[inline]
    fn assert_writable(&self) {
        assert!(self.writable, "write to a read-only bus");
    }
}

/// Copies from memory that others may be writing to memory of this thread, as many bytes as both
/// have.
#[inline]
pub(crate) fn copy_shared(from: &[AtomicU8], to: &mut [u8]) {
    let len = from.len().min(to.len());
    // SAFETY: both slices have `len` bytes, and the destination is borrowed exclusively.
    unsafe { racing_copy(from.as_ptr().cast(), to.as_mut_ptr(), len) }
}

/// A table of sleepers in a mapped file. Clones share the mapping.
#[derive(Clone, Debug)]
pub(crate) struct MappedWords {
    file: Arc<MappedFile>,
    /// Where the table begins.
    at: usize,
}

impl MappedWords {
    /// Maps a table in a file of its own, of [`TABLE_SIZE`] bytes.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        Ok(Self { file: Arc::new(MappedFile::new(file, TABLE_SIZE, true)?), at: 0 })
    }

    /// Whether the file was cut short under the mapping.
    pub(crate) fn is_lost(&self) -> bool {
        self.file.guard.is_lost()
    }

    #[inline]
    #[expect(clippy::cast_ptr_alignment, reason = "words lie at multiples of eight from a page")]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < TABLE_SIZE / 8, "a word outside the table");
        let word = self.file.start().wrapping_add(self.at + at * 8).cast::<u64>();
        // SAFETY: the word lies inside a mapping that lives as long as `self`, on a multiple of its
        // size from a page boundary, and this process accesses it through atomics only.
        unsafe { AtomicU64::from_ptr(word) }
    }
}

impl Words for MappedWords {
    #[inline]
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    #[inline]
    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.word(at).store(value, order);
    }

    fn set_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        self.word(at).fetch_or(bits, order)
    }

    fn clear_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        self.word(at).fetch_and(!bits, order)
    }

    fn cas(&self, at: usize, current: u64, new: u64) -> Result<u64, u64> {
        self.word(at).compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed)
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

impl Memory for Mapping {
    #[inline]
    fn is_lost(&self) -> bool {
        self.file.guard.is_lost()
    }

    #[inline]
    fn data_size(&self) -> u32 {
        self.data_size
    }

    #[inline]
    fn publishes(&self) -> bool {
        self.publishes
    }

    #[inline]
    fn load32(&self, field: Field32, order: Ordering) -> u32 {
        let value = self.atomic32(field).load(Ordering::Relaxed);
        order_after(order);
        value
    }

    #[inline]
    fn store32(&self, field: Field32, value: u32, order: Ordering) {
        self.assert_writable();
        self.atomic32(field).store(value, order);
    }

    #[inline]
    fn load64(&self, field: Field64, order: Ordering) -> u64 {
        let value = self.atomic64(field).load(Ordering::Relaxed);
        order_after(order);
        value
    }

    #[inline]
    fn store64(&self, field: Field64, value: u64, order: Ordering) {
        self.assert_writable();
        self.atomic64(field).store(value, order);
    }

    #[inline]
    fn cas64(&self, field: Field64, current: u64, new: u64) -> Result<u64, u64> {
        self.assert_writable();
        self.atomic64(field).compare_exchange(current, new, Ordering::Acquire, Ordering::Relaxed)
    }

    #[inline]
    fn write_soon(&self, at: u32, len: u32) {
        let ahead = len.min(self.data_size.saturating_sub(at));
        for line in (0..ahead).step_by(CACHE_LINE) {
            prefetch_for_writing(
                self.file.start().wrapping_add(self.data_at + at as usize + line as usize),
            );
        }
    }

    #[inline]
    fn copy_in(&self, at: u32, bytes: &[u8]) {
        self.assert_writable();
        let to = self.data(at, bytes.len());
        // SAFETY: `data` checked the destination, which is reached by racing copies only, and
        // the slice is not written while it is borrowed.
        unsafe { racing_copy(bytes.as_ptr(), to, bytes.len()) }
    }

    #[inline]
    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        let from = self.data(at, bytes.len());
        // SAFETY: `data` checked the source, which is reached by racing copies only, and no
        // other thread knows the slice.
        unsafe { racing_copy(from, bytes.as_mut_ptr(), bytes.len()) }
    }

    #[inline]
    fn store_words<const N: usize>(&self, at: u32, words: [u64; N]) {
        self.assert_writable();
        let to = self.data(at, size_of_val(&words));
        // SAFETY: `data` checked the destination, which is reached by racing accesses only.
        unsafe { racing_store(words, to) }
    }

    #[inline]
    fn load_words<const N: usize>(&self, at: u32) -> [u64; N] {
        let from = self.data(at, size_of::<[u64; N]>());
        // SAFETY: as above, of the source.
        unsafe { racing_load(from) }
    }
}

/// Orders what follows a relaxed load as if the load had this order. Which release it then pairs
/// with, the callers name.
#[inline]
fn order_after(load: Ordering) {
    match load {
        Ordering::Relaxed => {}
        Ordering::Acquire => fence(Ordering::Acquire),
        other => unreachable!("a load is relaxed or acquire, not {other:?}"),
    }
}

/// Asks for a cache line to be written. Readers have copies of the lines of a ring, and a store
/// waits until they have given them up; stores wait one after the other, and such requests do not.
#[inline]
fn prefetch_for_writing(line: *const u8) {
    // SAFETY: it reads nothing the program can see, and cannot fault, whatever the address.
    // Processors that do not know it do nothing. (The compiler's intrinsic asks for reading only,
    // unless it compiles for a certain processor.)
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}
