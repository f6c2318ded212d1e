//! Objects by handle. Handles are numbers that are never used twice, so one that has outlived its
//! object finds nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes a lock, also one that a panic has left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The objects of one kind.
pub(crate) struct Registry<T>(Mutex<BTreeMap<usize, Arc<T>>>);

/// Returns a new handle: odd, where those of interfaces are even.
pub(crate) fn new_handle() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    // Relaxed: only that each number comes once counts.
    NEXT.fetch_add(2, Ordering::Relaxed)
}

impl<T> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    pub(crate) fn get(&self, handle: usize) -> Option<Arc<T>> {
        lock(&self.0).get(&handle).cloned()
    }

    pub(crate) fn insert(&self, handle: usize, object: Arc<T>) {
        lock(&self.0).insert(handle, object);
    }

    pub(crate) fn remove(&self, handle: usize) -> Option<Arc<T>> {
        lock(&self.0).remove(&handle)
    }

    /// Returns the handle of the object that the predicate accepts.
    pub(crate) fn find(&self, accepts: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        lock(&self.0).values().find(|object| accepts(object)).cloned()
    }
}
