//! The queues of all interfaces, found by handle.
//!
//! Each interface has a slot. Slots and the cells of their queues are never freed, only used again,
//! so a lookup needs no lock and no count of references. A handle is made of the slot's number and
//! of a generation: one that has outlived its interface does not match the owner of the slot's
//! cells.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::code::Code;
use crate::ends::{RxEnd, TxEnd};
use crate::registry::lock;

/// The most queues in a direction.
const QUEUES: usize = 255;
/// Slots are made so many at a time.
const CHUNK: usize = 8;
const CHUNKS: usize = 1 << 13;
/// Bits of a handle below the slot's number: those of an interface are even, and not 0.
const TAG_BITS: u32 = 2;
const TAG: usize = 2;
const SLOT_BITS: u32 = 16;

/// One queue of a slot. Cells have cache lines of their own, as many as processors fetch together.
#[repr(align(128))]
pub(crate) struct Cell<E>(Mutex<Owned<E>>);

struct Owned<E> {
    /// The handle of the interface that the queue belongs to.
    owner: usize,
    end: Option<E>,
}

struct Slot {
    /// The handle of the interface, or 0.
    owner: AtomicUsize,
    up: AtomicBool,
    rx: [OnceLock<Box<Cell<RxEnd>>>; QUEUES],
    tx: [OnceLock<Box<Cell<TxEnd>>>; QUEUES],
}

impl Slot {
    fn new() -> Self {
        Self {
            owner: AtomicUsize::new(0),
            up: AtomicBool::new(false),
            rx: [const { OnceLock::new() }; QUEUES],
            tx: [const { OnceLock::new() }; QUEUES],
        }
    }
}

static SLOTS: [OnceLock<Box<[Slot]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];

/// Slots that are free, each with the generation of its next interface, and the number of slots.
static FREE: Mutex<(Vec<(usize, usize)>, usize)> = Mutex::new((Vec::new(), 0));

/// A queue that this thread has for itself.
pub(crate) struct Locked<E: 'static>(MutexGuard<'static, Owned<E>>);

impl<E> std::ops::Deref for Locked<E> {
    type Target = E;

    #[inline]
    fn deref(&self) -> &E {
        self.0.end.as_ref().expect("checked when it was locked")
    }
}

impl<E> std::ops::DerefMut for Locked<E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut E {
        self.0.end.as_mut().expect("checked when it was locked")
    }
}

/// Returns the number of a handle's slot.
#[inline]
pub(crate) fn number(handle: usize) -> usize {
    (handle >> TAG_BITS) & ((1 << SLOT_BITS) - 1)
}

#[inline]
fn slot(handle: usize) -> Option<&'static Slot> {
    if handle & ((1 << TAG_BITS) - 1) != TAG {
        return None;
    }
    let number = number(handle);
    SLOTS[number / CHUNK].get()?.get(number % CHUNK)
}

/// Takes a slot for an interface with so many queues at most, and returns its handle.
pub(crate) fn acquire(rx: u8, tx: u8) -> Result<usize, Code> {
    let (number, generation) = {
        let mut free = lock(&FREE);
        match free.0.pop() {
            Some(used) => used,
            None if free.1 == CHUNK * CHUNKS => return Err(Code::NoMem),
            None => {
                free.1 += 1;
                (free.1 - 1, 0)
            }
        }
    };
    let handle = (generation << (SLOT_BITS + TAG_BITS)) | (number << TAG_BITS) | TAG;
    SLOTS[number / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Slot::new()).collect());
    let slot = slot(handle).ok_or(Code::NoMem)?;
    slot.rx.iter().take(rx.into()).for_each(|cell| own(cell, handle));
    slot.tx.iter().take(tx.into()).for_each(|cell| own(cell, handle));
    slot.up.store(false, Ordering::Release);
    slot.owner.store(handle, Ordering::Release);
    Ok(handle)
}

fn own<E>(cell: &OnceLock<Box<Cell<E>>>, owner: usize) {
    let new = || Box::new(Cell(Mutex::new(Owned { owner: 0, end: None })));
    *lock(&cell.get_or_init(new).0) = Owned { owner, end: None };
}

/// Frees the slot of an interface that has no queues any more.
pub(crate) fn release(handle: usize) {
    let Some(slot) = slot(handle) else { return };
    slot.owner.store(0, Ordering::Release);
    let generation = (handle >> (SLOT_BITS + TAG_BITS)) + 1;
    lock(&FREE).0.push((number(handle), generation));
}

/// Marks the interface's link as up or down.
pub(crate) fn set_up(handle: usize, up: bool) {
    if let Some(slot) = slot(handle) {
        slot.up.store(up, Ordering::Release);
    }
}

/// Returns why a queue was not found.
#[cold]
fn missing(handle: usize) -> Code {
    match slot(handle) {
        Some(slot) if slot.owner.load(Ordering::Acquire) == handle => {
            if slot.up.load(Ordering::Acquire) { Code::Qid } else { Code::Disconnected }
        }
        _ => Code::NoConn,
    }
}

/// Returns the error of a queue that is not used, for a call that checks the handle only.
pub(crate) fn check(handle: usize) -> Result<(), Code> {
    match missing(handle) {
        Code::NoConn => Err(Code::NoConn),
        _ => Ok(()),
    }
}

#[inline]
fn locked<E>(
    cell: Option<&'static OnceLock<Box<Cell<E>>>>,
    handle: usize,
) -> Result<Locked<E>, Code> {
    let cell = cell.and_then(OnceLock::get).ok_or_else(|| missing(handle))?;
    let owned = lock(&cell.0);
    if owned.owner == handle && owned.end.is_some() {
        Ok(Locked(owned))
    } else {
        drop(owned);
        Err(missing(handle))
    }
}

/// Locks a queue to receive on.
#[inline]
pub(crate) fn rx(handle: usize, qid: u16) -> Result<Locked<RxEnd>, Code> {
    let cell = slot(handle).and_then(|slot| slot.rx.get(usize::from(qid)));
    locked(cell, handle)
}

/// Locks a queue to send on.
#[inline]
pub(crate) fn tx(handle: usize, qid: u16) -> Result<Locked<TxEnd>, Code> {
    let cell = slot(handle).and_then(|slot| slot.tx.get(usize::from(qid)));
    locked(cell, handle)
}

/// Puts the ends of a new link into the interface's cells; surplus ones are dropped.
pub(crate) fn install(handle: usize, rx: Vec<RxEnd>, tx: Vec<TxEnd>) {
    if let Some(slot) = slot(handle) {
        fill(&slot.rx, handle, rx);
        fill(&slot.tx, handle, tx);
    }
}

fn fill<E>(cells: &'static [OnceLock<Box<Cell<E>>>], handle: usize, ends: Vec<E>) {
    for (cell, end) in cells.iter().filter_map(OnceLock::get).zip(ends) {
        let mut owned = lock(&cell.0);
        if owned.owner == handle {
            owned.end = Some(end);
        }
    }
}

/// Drops the ends of the interface's link. Calls that use them end first.
pub(crate) fn clear(handle: usize) {
    if let Some(slot) = slot(handle) {
        empty(&slot.rx, handle);
        empty(&slot.tx, handle);
    }
}

fn empty<E>(cells: &'static [OnceLock<Box<Cell<E>>>], handle: usize) {
    for cell in cells.iter().filter_map(OnceLock::get) {
        let mut owned = lock(&cell.0);
        let end = if owned.owner == handle { owned.end.take() } else { None };
        // Unmapping takes long.
        drop(owned);
        drop(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_recognized_after_their_end() {
        let first = acquire(1, 1).unwrap();
        assert!(matches!(rx(first, 0), Err(Code::Disconnected)));
        set_up(first, true);
        assert!(matches!(rx(first, 1), Err(Code::Qid)) && matches!(tx(first, 999), Err(Code::Qid)));
        release(first);
        let second = acquire(2, 1).unwrap();
        assert_ne!(first, second);
        assert!(matches!(rx(first, 0), Err(Code::NoConn)) && check(first).is_err());
        assert!(matches!(rx(second, 1), Err(Code::Disconnected)) && check(second).is_ok());
        release(second);
        for wrong in [0, 1, 3, usize::MAX, usize::MAX - 1, 0x5555_5556] {
            assert!(matches!(tx(wrong, 0), Err(Code::NoConn)), "{wrong:#x}");
        }
    }
}
