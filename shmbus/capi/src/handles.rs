//! What a C program holds: numbers that look like pointers, and lead to stations and taps.
//!
//! A handle is a place in a table and a generation. A place gets a new generation each time it is
//! filled, so a closed handle finds another generation, or none. A call locks its place without
//! waiting: a second thread that uses the handle meanwhile is turned away. No other place is locked
//! on the way, so that no thread is turned away because of another handle. If a call panics, the
//! lock stays poisoned, and the handle can only be closed.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

use crate::endpoint::Endpoint;
use crate::failure::{Code, Failure};

/// The low bits of a handle: the place in the table.
const PLACE_BITS: u32 = 12;
/// How many handles there can be. A station needs descriptors, too, of which a process has 1,024 by
/// default.
const PLACES: usize = 1 << PLACE_BITS;
/// Generations that fit above the place.
const GENERATIONS: usize = usize::MAX >> PLACE_BITS;

/// A handle as the header knows it: `shmbus_t *`. It is never read through.
pub type Handle = *mut Opaque;

/// `struct shmbus`, of which there is none.
#[derive(Debug)]
#[repr(C)]
pub struct Opaque([u8; 0]);

/// A place of the table, on cache lines of its own: threads with handles side by side do not slow
/// each other down.
#[repr(align(64))]
struct Place {
    /// The generation of the open handle that leads here; 0 if there is none. It changes under the
    /// lock, and is looked at before the lock is taken.
    open: AtomicUsize,
    entry: Mutex<Entry>,
}

struct Entry {
    /// The generation of the endpoint, or of the last one.
    generation: usize,
    endpoint: Option<Endpoint>,
}

/// The handles of a process.
pub(crate) struct Handles {
    places: [Place; PLACES],
    /// Where the search for a free place begins.
    next: AtomicUsize,
}

/// All handles of this process.
pub(crate) static HANDLES: Handles = Handles::new();

impl Handles {
    #[expect(clippy::large_stack_arrays, reason = "it is made for a static, on no stack")]
    const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES], next: AtomicUsize::new(0) }
    }

    /// Gives an endpoint a handle.
    ///
    /// # Errors
    /// When the table is full.
    pub(crate) fn insert(&self, endpoint: Endpoint) -> Result<Handle, Failure> {
        // Relaxed: it is a hint.
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for nth in 0..PLACES {
            let at = first.wrapping_add(nth) % PLACES;
            let place = &self.places[at];
            // Relaxed: the lock tells.
            if place.open.load(Ordering::Relaxed) == 0
                && let Ok(mut entry) = place.entry.try_lock()
                && entry.endpoint.is_none()
            {
                entry.generation =
                    if entry.generation >= GENERATIONS { 1 } else { entry.generation + 1 };
                entry.endpoint = Some(endpoint);
                place.open.store(entry.generation, Ordering::Relaxed);
                return Ok(ptr::without_provenance_mut(entry.generation << PLACE_BITS | at));
            }
        }
        Err(Failure::too_many(PLACES))
    }

    /// Calls `act` with the endpoint of a handle.
    ///
    /// # Errors
    /// That of `act`; when it is no open handle; when another thread uses it.
    #[inline]
    pub(crate) fn with<T>(
        &self,
        handle: Handle,
        act: impl FnOnce(&mut Endpoint) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut entry = match self.place(handle)?.entry.try_lock() {
            Ok(entry) => entry,
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Poisoned(_)) => return Err(Failure::internal()),
        };
        match &mut *entry {
            Entry { endpoint: Some(endpoint), generation }
                if *generation == generation_of(handle) =>
            {
                act(endpoint)
            }
            // It was closed meanwhile.
            _ => Err(not_open(handle)),
        }
    }

    /// Takes the endpoint of a handle out of the table. The handle is closed then.
    ///
    /// # Errors
    /// When it is no open handle, or another thread uses it.
    pub(crate) fn remove(&self, handle: Handle) -> Result<Endpoint, Failure> {
        let place = self.place(handle)?;
        let mut entry = match place.entry.try_lock() {
            Ok(entry) => entry,
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        if entry.generation != generation_of(handle) {
            return Err(not_open(handle));
        }
        let endpoint = entry.endpoint.take().ok_or_else(|| not_open(handle))?;
        place.open.store(0, Ordering::Relaxed);
        // What may be wrong after a panic is in the endpoint.
        place.entry.clear_poison();
        Ok(endpoint)
    }

    /// Returns the place of an open handle.
    #[inline]
    fn place(&self, handle: Handle) -> Result<&Place, Failure> {
        let place = &self.places[handle.addr() % PLACES];
        let generation = generation_of(handle);
        // Relaxed: a handle comes from `insert`, or is made up. The lock orders the rest.
        if generation == 0 || place.open.load(Ordering::Relaxed) != generation {
            return Err(not_open(handle));
        }
        Ok(place)
    }
}

impl Place {
    const fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            entry: Mutex::new(Entry { generation: 0, endpoint: None }),
        }
    }
}

/// The generation of a handle; no open one has 0.
fn generation_of(handle: Handle) -> usize {
    handle.addr() >> PLACE_BITS
}

#[cold]
fn not_open(handle: Handle) -> Failure {
    let text = if handle.is_null() {
        "the handle is NULL"
    } else {
        "it is no open handle; was it closed?"
    };
    Failure::new(Code::Handle, text)
}

#[cold]
fn in_use() -> Failure {
    Failure::new(Code::InUse, "another thread uses the handle; open one for each thread")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shmbus::{Bus, Station, StationOptions};

    fn endpoint() -> Endpoint {
        let folder = tempfile::tempdir().expect("a folder");
        let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
        Endpoint::Station(Box::new(Station::join(bus, StationOptions::new()).expect("joined")))
    }

    /// Handles that no other test uses.
    fn handles() -> &'static Handles {
        Box::leak(Box::new(Handles::new()))
    }

    fn code_of<T>(result: Result<T, Failure>) -> i32 {
        result.err().expect("a failure").report()
    }

    #[test]
    fn a_closed_handle_stays_closed_when_its_place_is_filled_again() {
        let handles = handles();
        let handle = handles.insert(endpoint()).expect("a handle");
        handles.with(handle, |_| Ok(())).expect("open");
        drop(handles.remove(handle).expect("open"));
        // Each place is filled once more.
        let others: Vec<Handle> =
            (0..3).map(|_| handles.insert(endpoint()).expect("a handle")).collect();
        handles.next.store(handle.addr() % PLACES, Ordering::Relaxed);
        let again = handles.insert(endpoint()).expect("a handle");
        assert_eq!(again.addr() % PLACES, handle.addr() % PLACES);
        for closed in [handle, ptr::null_mut(), ptr::without_provenance_mut(usize::MAX)] {
            assert_eq!(code_of(handles.with(closed, |_| Ok(()))), Code::Handle as i32);
            assert_eq!(code_of(handles.remove(closed)), Code::Handle as i32);
        }
        for open in others.into_iter().chain([again]) {
            drop(handles.remove(open).expect("open"));
        }
    }

    #[test]
    fn a_handle_in_use_is_refused_to_others() {
        let handles = handles();
        let handle = handles.insert(endpoint()).expect("a handle");
        let inner = handles
            .with(handle, |_| Ok((handles.with(handle, |_| Ok(())), handles.remove(handle))));
        let (used, removed) = inner.expect("open");
        assert_eq!(code_of(used), Code::InUse as i32);
        assert_eq!(code_of(removed), Code::InUse as i32);
        drop(handles.remove(handle).expect("open"));
    }

    #[test]
    fn after_a_panic_a_handle_can_only_be_closed() {
        let handles = handles();
        let handle = handles.insert(endpoint()).expect("a handle");
        let at = handle.addr();
        std::thread::spawn(move || {
            let _ = handles.with::<()>(ptr::without_provenance_mut(at), |_| panic!("a fault"));
        })
        .join()
        .expect_err("it panics");
        assert_eq!(code_of(handles.with(handle, |_| Ok(()))), Code::Internal as i32);
        drop(handles.remove(handle).expect("open"));
        assert_eq!(code_of(handles.with(handle, |_| Ok(()))), Code::Handle as i32);
    }
}
