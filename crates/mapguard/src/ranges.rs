//! The guarded ranges: a list that a signal handler can walk.
//!
//! A handler may run between any two instructions, so it can neither take a lock nor follow memory
//! that may be freed. Entries are therefore never freed but used again, and only ever pushed to the
//! front of the list.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// A range of addresses, or an entry that is free.
#[derive(Debug)]
struct Entry {
    taken: AtomicBool,
    /// Counts the changes of what follows; odd while one is under way.
    changes: AtomicUsize,
    start: AtomicUsize,
    /// 0: nothing is guarded.
    len: AtomicUsize,
    /// Set on the entry that stands for the whole guard.
    lost: AtomicBool,
    /// The entry that stands for the whole guard; null: this one.
    chief: AtomicPtr<Entry>,
    next: *const Entry,
}

// SAFETY: `next` is written before the entry is shared, and leads to entries that are never freed;
// the rest is atomic.
unsafe impl Sync for Entry {}

impl Entry {
    /// A free entry, taken; or a new one.
    fn take() -> &'static Self {
        let free = entries().find(|entry| {
            entry.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        free.unwrap_or_else(Self::push)
    }

    fn push() -> &'static Self {
        let entry = Box::leak(Box::new(Self {
            taken: AtomicBool::new(true),
            changes: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            chief: AtomicPtr::new(ptr::null_mut()),
            next: ptr::null(),
        }));
        let mut first = FIRST.load(Ordering::Acquire);
        loop {
            entry.next = first;
            // Release: pairs with the acquire in `entries`; who finds the entry finds it filled in.
            match FIRST.compare_exchange_weak(first, entry, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return entry,
                Err(now) => first = now,
            }
        }
    }

    fn set(&self, start: usize, len: usize, chief: Option<&'static Self>) {
        let chief = chief.map_or(ptr::null_mut(), |chief| ptr::from_ref(chief).cast_mut());
        // No other thread changes an entry that is taken.
        let changes = self.changes.load(Ordering::Relaxed);
        self.changes.store(changes.wrapping_add(1), Ordering::Relaxed);
        // Release: pairs with the acquire fence in `range`; who sees what follows sees the odd
        // count.
        fence(Ordering::Release);
        self.lost.store(false, Ordering::Relaxed);
        self.chief.store(chief, Ordering::Relaxed);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        // Release: pairs with the acquire in `range`; who sees the even count sees the rest.
        self.changes.store(changes.wrapping_add(2), Ordering::Release);
    }

    /// Start, length and chief, if they belong together. If not, it is being taken for another
    /// mapping, which no thread has accessed yet.
    fn range(&self) -> Option<(usize, usize, *mut Self)> {
        let changes = self.changes.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed);
        let chief = self.chief.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let same = changes.is_multiple_of(2) && self.changes.load(Ordering::Relaxed) == changes;
        same.then_some((start, len, chief))
    }

    fn free(&self) {
        self.len.store(0, Ordering::Release);
        // Release: pairs with the acquire in `take`; the next user's stores come after ours.
        self.taken.store(false, Ordering::Release);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    let mut at: *const Entry = FIRST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: entries are never freed, and the list holds nothing else.
        let entry = unsafe { at.as_ref() }?;
        at = entry.next;
        Some(entry)
    })
}

/// A guarded range that holds an address: where it begins, how long it is, and the mark to set. For
/// the handler: it neither allocates nor waits.
pub(crate) fn find(address: usize) -> Option<(usize, usize, &'static AtomicBool)> {
    entries().find_map(|entry| {
        let (start, len, chief) = entry.range()?;
        if address.wrapping_sub(start) >= len {
            return None;
        }
        // SAFETY: null, or an entry, and those are never freed.
        let chief = unsafe { chief.as_ref() };
        Some((start, len, &chief.unwrap_or(entry).lost))
    })
}

/// Guards one or several mappings that belong together, until it is dropped.
#[derive(Debug)]
pub struct Guard {
    chief: &'static Entry,
    others: Vec<&'static Entry>,
}

impl Guard {
    /// Guards the mapping of `len` bytes at `start`. Without [`install`](crate::install) this does
    /// nothing.
    ///
    /// # Safety
    /// The range must be whole pages of a mapping that is the caller's to replace, and must stay
    /// mapped until the guard is dropped. (The end may lie in the mapping's last page.)
    #[must_use]
    pub unsafe fn new(start: *const u8, len: usize) -> Self {
        let chief = Entry::take();
        chief.set(start.addr(), len, None);
        Self { chief, others: Vec::new() }
    }

    /// Guards one more mapping: if any is lost, all count as lost.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    pub unsafe fn add(&mut self, start: *const u8, len: usize) {
        let entry = Entry::take();
        entry.set(start.addr(), len, Some(self.chief));
        self.others.push(entry);
    }

    /// Whether a mapping was cut short and accessed there since. What was read from it may have
    /// been zeros.
    #[must_use]
    #[inline]
    pub fn is_lost(&self) -> bool {
        // Acquire: what is read after this is not older than the mark.
        self.chief.lost.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The others point to the first.
        self.others.iter().for_each(|entry| entry.free());
        self.chief.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that is given up and taken for another range at once: what is found is the one or
    /// the other.
    #[test]
    fn an_entry_that_is_used_again_is_found_whole() {
        const ADDRESS: usize = 0x2000_0080;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (start, len) in [(0x1000_0000, 0x100), (0x2000_0000, 0x10_0000)] {
                        // SAFETY: nothing is accessed there, so nothing is ever replaced.
                        drop(unsafe { Guard::new(ptr::without_provenance(start), len) });
                    }
                }
            });
            let mut found = 0;
            while found < 10_000 {
                if let Some((start, len, _)) = find(ADDRESS) {
                    found += 1;
                    if (start, len) != (0x2000_0000, 0x10_0000) {
                        done.store(true, Ordering::Relaxed);
                        panic!("{start:#x} with {len:#x} bytes is neither");
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn addresses_are_found_in_their_ranges_only() {
        // Addresses that no mapping of this process has.
        let at = |address: usize| ptr::without_provenance::<u8>(address);
        // SAFETY: nothing is accessed there, so nothing is ever replaced.
        let mut guard = unsafe { Guard::new(at(0x1000), 0x1000) };
        // SAFETY: as above.
        unsafe { guard.add(at(0x8000), 0x10) };
        assert!(find(0xfff).is_none() && find(0x2000).is_none());
        assert_eq!(find(0x1fff).map(|(start, len, _)| (start, len)), Some((0x1000, 0x1000)));
        let (_, _, mark) = find(0x8000).expect("in the second range");
        assert!(!guard.is_lost());
        mark.store(true, Ordering::Relaxed);
        assert!(guard.is_lost());
        drop(guard);
        assert!(find(0x1000).is_none() && find(0x8000).is_none());
    }
}
