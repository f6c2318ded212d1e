//! A bus in ordinary memory, of any size, and a table of sleepers, for tests of the algorithms.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use crate::format::sleepers::TABLE_WORDS;
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE};
use crate::memory::{Memory, Words};

/// A freshly made bus with a ring of `size` bytes.
#[derive(Debug)]
pub(crate) struct ModelMemory {
    first: AtomicU32,
    last: AtomicU32,
    generation: AtomicU64,
    lock: AtomicU64,
    /// Of our own format: where its packets end, and where the oldest begins.
    published: Option<[AtomicU64; 2]>,
    data: Vec<AtomicU8>,
}

impl ModelMemory {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            first: AtomicU32::new(size),
            last: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            lock: AtomicU64::new(0),
            published: None,
            data: (0..size).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// A freshly made bus of our own format with a ring of `size` bytes.
    pub(crate) fn own_format(size: u32) -> Self {
        let published = Some([AtomicU64::new(u64::from(PACKET_HEADER_SIZE)), AtomicU64::new(0)]);
        Self { published, ..Self::new(size) }
    }

    /// The same ring on a bus of our own format; the next holder of the lock publishes it.
    #[cfg(test)]
    pub(crate) fn in_own_format(self) -> Self {
        Self { published: Self::own_format(0).published, ..self }
    }

    /// Another one in the same state.
    pub(crate) fn copy(&self) -> Self {
        let words = |[end, oldest]: &[AtomicU64; 2]| {
            [end, oldest].map(|word| AtomicU64::new(word.load(Ordering::Relaxed)))
        };
        let published = self.published.as_ref().map(words);
        let copy = Self { published, ..Self::new(self.data_size()) };
        copy.first.store(self.first.load(Ordering::Relaxed), Ordering::Relaxed);
        copy.last.store(self.last.load(Ordering::Relaxed), Ordering::Relaxed);
        copy.generation.store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
        copy.lock.store(self.lock.load(Ordering::Relaxed), Ordering::Relaxed);
        for (to, from) in copy.data.iter().zip(&self.data) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        copy
    }

    fn field32(&self, field: Field32) -> &AtomicU32 {
        match field {
            Field32::First => &self.first,
            Field32::Last => &self.last,
            Field32::Magic | Field32::Version => {
                unreachable!("the ring does not look at {field:?}")
            }
        }
    }

    fn field64(&self, field: Field64) -> &AtomicU64 {
        let published = || self.published.as_ref().expect("of our own format");
        match field {
            Field64::Generation => &self.generation,
            Field64::Lock => &self.lock,
            Field64::End => &published()[0],
            Field64::Oldest => &published()[1],
        }
    }
}

impl Memory for ModelMemory {
    /// Most tests are one thread, in which nothing changes between two tries; the others read again.
    const TRIES: u32 = 1;

    fn data_size(&self) -> u32 {
        u32::try_from(self.data.len()).expect("a small model")
    }

    fn publishes(&self) -> bool {
        self.published.is_some()
    }

    fn load32(&self, field: Field32, order: Ordering) -> u32 {
        self.field32(field).load(order)
    }

    fn store32(&self, field: Field32, value: u32, order: Ordering) {
        self.field32(field).store(value, order);
    }

    fn load64(&self, field: Field64, order: Ordering) -> u64 {
        self.field64(field).load(order)
    }

    fn store64(&self, field: Field64, value: u64, order: Ordering) {
        self.field64(field).store(value, order);
    }

    fn cas64(&self, field: Field64, current: u64, new: u64) -> Result<u64, u64> {
        self.field64(field).compare_exchange(current, new, Ordering::Acquire, Ordering::Relaxed)
    }

    fn copy_in(&self, at: u32, bytes: &[u8]) {
        for (cell, byte) in self.data[at as usize..][..bytes.len()].iter().zip(bytes) {
            cell.store(*byte, Ordering::Relaxed);
        }
    }

    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        for (cell, byte) in self.data[at as usize..][..bytes.len()].iter().zip(bytes) {
            *byte = cell.load(Ordering::Relaxed);
        }
    }
}

/// A table of sleepers.
#[derive(Debug)]
pub(crate) struct ModelWords(Vec<AtomicU64>);

impl ModelWords {
    pub(crate) fn new() -> Self {
        Self((0..TABLE_WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Another one in the same state.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0.iter().map(|word| AtomicU64::new(word.load(Ordering::Relaxed))).collect())
    }
}

impl Words for &ModelWords {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.0[at].load(order)
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.0[at].store(value, order);
    }

    fn set_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        self.0[at].fetch_or(bits, order)
    }

    fn clear_bits(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        self.0[at].fetch_and(!bits, order)
    }

    fn cas(&self, at: usize, current: u64, new: u64) -> Result<u64, u64> {
        self.0[at].compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed)
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}
