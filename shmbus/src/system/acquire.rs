//! Waits for the lock, and takes it from dead owners.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::error::Busy;
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::lock::{LockGuard, Owner};
use crate::memory::Mapping;
use crate::system::stuck_lock::StuckLock;
use crate::system::{liveness, members};

/// Looks at the lock before the waiter yields the CPU: a burst's copy takes some microseconds.
const SPINS: u32 = 200;
/// Yields before the waiter sleeps between two looks.
const YIELDS: u32 = 50;
/// The longest sleep between two looks.
const NAP: Duration = Duration::from_micros(500);
/// How long the lock is waited for before the waiter asks whether its owner is alive.
const LIVENESS_CHECK: Duration = Duration::from_millis(1);

/// Takes the lock of `ring` for `me`, and waits for it at most `timeout`. It asks through `file`
/// whether the owner is alive, and takes the lock over from a dead one; from an unknown owner only
/// as [`StuckLock`] says.
pub(crate) fn acquire<'r>(
    ring: &'r Ring<Mapping>,
    file: &File,
    me: Owner,
    timeout: Duration,
) -> Result<LockGuard<'r, Mapping>, Busy> {
    for _ in 0..SPINS {
        if let Ok(held) = ring.try_lock(me) {
            return Ok(held);
        }
        std::hint::spin_loop();
    }
    wait(ring, file, me, timeout)
}

/// Takes the lock over if a station of this kind died with it. It asks through `file` whether the
/// owner is alive.
#[cold]
pub(crate) fn take_over_dead<'r>(
    ring: &'r Ring<Mapping>,
    file: &File,
    me: Owner,
) -> Option<LockGuard<'r, Mapping>> {
    let word = ring.lock_word();
    let owner = word.owner().filter(|owner| *owner != me)?;
    if !matches!(liveness::is_alive(file, owner), Ok(false)) {
        return None;
    }
    let held = ring.take_over(word, me).ok()?;
    tracing::warn!(owner = owner.number(), "took over the lock of a dead station");
    Some(held)
}

#[cold]
fn wait<'r>(
    ring: &'r Ring<Mapping>,
    file: &File,
    me: Owner,
    timeout: Duration,
) -> Result<LockGuard<'r, Mapping>, Busy> {
    let begin = Instant::now();
    let mut stuck = StuckLock::seen_at(ring, begin);
    let mut looks = 0;
    let mut check_at = LIVENESS_CHECK;
    loop {
        let word = match ring.try_lock(me) {
            Ok(held) => return Ok(held),
            Err(word) => word,
        };
        let waited = begin.elapsed();
        if waited >= check_at {
            check_at = waited + LIVENESS_CHECK * 5;
            if let Some(held) = take_over_dead(ring, file, me) {
                return Ok(held);
            }
        }
        if stuck.free(ring, file, drop) {
            continue;
        }
        if waited >= timeout {
            return Err(match word.owner() {
                Some(owner) => Busy::Station {
                    owner: owner.number(),
                    member: members::look_up(file, owner),
                    waited,
                },
                None => Busy::Unknown { waited },
            });
        }
        looks += 1;
        if looks < YIELDS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP.min(timeout.saturating_sub(waited)));
        }
    }
}
