//! Frees a bus whose lock was left behind.
//!
//! When a station of this kind dies with the lock, the next station takes it over, and no repair is
//! needed. The lock of a dead rump kernel looks like that of a live one that is slow: a person has
//! to decide, and calls this.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::error::{OpenError, shown};
use crate::face::bus::Bus;
use crate::format::Field32;
use crate::mechanism::ring::mend::Mend;
use crate::memory::Memory as _;
use crate::system::liveness;
use crate::system::proc_maps::mapped_by;
use crate::system::wake::write_file;

/// How long the repair tries to take the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// What [`repair`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The state of the lock.
    pub lock: LockFound,
    /// The state of the ring, and what was done about it.
    pub ring: RingFound,
    /// Packets on the ring after the repair, empty ones included.
    pub packets: u32,
    /// Processes of other users, which could not be examined: they may have the bus mapped.
    pub unseen: usize,
}

/// The state of the lock that a repair found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockFound {
    /// It was free.
    Free,
    /// A dead station of this kind held it.
    DeadStation,
    /// A live station of this kind held it; the lock was taken by force.
    LiveStation,
    /// An unknown owner held it: most likely a rump kernel.
    Unknown,
}

/// The state of the ring that a repair found, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingFound {
    /// It was in order.
    Sound,
    /// The newest packet was dropped, because it may be half written.
    NewestDropped,
    /// All that came after the last valid packet was dropped.
    Cut,
    /// No packet was valid: the ring was emptied.
    Emptied,
    /// There was none, because a process died while it made the bus. It is an empty ring now.
    Made,
}

/// Why a bus was not repaired. The bus is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The bus cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Other processes have the bus mapped.
    #[error(
        "bus {} is in use by {}: stop {} first, or repair it by force",
        shown(path), processes(.pids), if .pids.len() == 1 { "it" } else { "them" }
    )]
    InUse {
        /// The bus.
        path: PathBuf,
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// Stations of this kind are on the bus, in processes that `/proc` does not show: in another
    /// pid namespace, or of another user.
    #[error(
        "bus {} is in use by {stations} station{} in processes that cannot be seen from here: stop {} first, or repair it by \
         force",
        shown(path), if *.stations == 1 { "" } else { "s" }, if *.stations == 1 { "it" } else { "them" }
    )]
    Stations {
        /// The bus.
        path: PathBuf,
        /// How many.
        stations: usize,
    },
    /// Another process is repairing the bus, or making it.
    #[error(
        "another process is repairing bus {} or making it: try again when it is done",
        shown(path)
    )]
    Repairing {
        /// The bus.
        path: PathBuf,
    },
    /// The lock changes hands all the time.
    #[error(
        "bus {} is in use: its lock changes hands all the time, and needs no repair",
        shown(path)
    )]
    Busy {
        /// The bus.
        path: PathBuf,
    },
    /// `/proc` cannot be read, so it is unknown which processes have the bus mapped.
    #[error(
        "cannot see which processes use bus {}: {source}; make sure of it and repair it by force",
        shown(path)
    )]
    Proc {
        /// The bus.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

fn processes(pids: &[u32]) -> String {
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!("process{} {}", if pids.len() == 1 { "" } else { "es" }, list.join(", "))
}

/// Frees the lock of a bus and puts its ring right. With `force`, it does so even while other
/// processes have the bus mapped: a rump kernel among them that was only slow may then crash.
///
/// ```no_run
/// # fn main() -> Result<(), shmbus::RepairError> {
/// println!("{}", shmbus::repair("/dev/shm/lan", false)?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// See [`RepairError`].
pub fn repair(path: impl AsRef<Path>, force: bool) -> Result<Repair, RepairError> {
    let bus = match Bus::open(path.as_ref()) {
        Err(OpenError::Uninitialised { .. }) => Bus::open_unfinished(path.as_ref())?,
        bus => bus?,
    };
    let seen = match mapped_by(bus.ring.memory().address()) {
        Ok(seen) if !seen.pids.is_empty() && !force => {
            return Err(RepairError::InUse { path: bus.path().to_owned(), pids: seen.pids });
        }
        Ok(seen) => seen,
        Err(_) if force => crate::system::proc_maps::MappedBy::default(),
        Err(source) => return Err(RepairError::Proc { path: bus.path().to_owned(), source }),
    };
    // Stations of ours can be counted wherever they are; each has the bus mapped.
    let elsewhere = liveness::count(&bus.file).unwrap_or(0).saturating_sub(seen.own);
    if elsewhere > 0 && !force {
        return Err(RepairError::Stations { path: bus.path().to_owned(), stations: elsewhere });
    }
    // Held until the bus is closed again. Nothing else keeps two repairs apart that both break a
    // lock.
    if !liveness::try_lock_making(&bus.file).map_err(|error| OpenError::io(bus.path(), error))? {
        return Err(RepairError::Repairing { path: bus.path().to_owned() });
    }
    let me = bus.claim()?;
    let begin = Instant::now();
    let (lock, mut held) = loop {
        // Other stations may still take the lock and release it.
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(RepairError::Busy { path: bus.path().to_owned() });
        }
        let word = bus.ring.lock_word();
        let (lock, held) = match word.owner() {
            _ if word.is_free() => (LockFound::Free, bus.ring.try_lock(me)),
            None => (LockFound::Unknown, bus.ring.seize(word)),
            // The lock word of a station of this kind says what it was doing: the takeover finishes
            // or undoes that, and no packet of it was committed half written.
            Some(owner) if !liveness::is_alive(&bus.file, owner).unwrap_or(false) => {
                (LockFound::DeadStation, bus.ring.take_over(word, me))
            }
            Some(_) if force => (LockFound::LiveStation, bus.ring.take_over(word, me)),
            Some(_) => {
                return Err(RepairError::Stations { path: bus.path().to_owned(), stations: 1 });
            }
        };
        if let Ok(held) = held {
            break (lock, held);
        }
    };
    let repaired = |ring, packets| Repair { lock, ring, packets, unseen: seen.unseen };
    if bus.ring.memory().load32(Field32::Magic, Ordering::Acquire) == 0 {
        bus.write_header();
        // The empty packet that every bus begins with.
        return Ok(repaired(RingFound::Made, 1));
    }
    let mend = held.mend(lock == LockFound::Unknown, !force);
    drop(held);
    // Sleeping stations find the lock free. Waking them is worth an attempt; they look by
    // themselves as well.
    let _ = write_file(&bus.file);
    let (ring, packets) = match mend {
        Mend::Sound { packets } => (RingFound::Sound, packets),
        Mend::NewestDropped { packets } => (RingFound::NewestDropped, packets),
        Mend::Cut { packets } => (RingFound::Cut, packets),
        Mend::Emptied => (RingFound::Emptied, 0),
    };
    Ok(repaired(ring, packets))
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.lock {
            LockFound::Free => "the lock was free",
            LockFound::DeadStation => "the lock was held by a dead station and is free now",
            LockFound::LiveStation => "the lock was taken from a live station and is free now",
            LockFound::Unknown => "the lock was held by an unknown owner and is free now",
        })?;
        f.write_str(match self.ring {
            RingFound::Sound => "; the ring is in order",
            RingFound::NewestDropped => "; the newest packet may be half written and was dropped",
            RingFound::Cut => "; what came behind the last sound packet was dropped",
            RingFound::Emptied => "; nothing on the ring made sense, and it was emptied",
            RingFound::Made => "; the bus had not been made to its end, and is now",
        })?;
        write!(f, "; packets on it: {}", self.packets)?;
        if self.unseen > 0 && self.lock != LockFound::Free {
            write!(f, "; processes that could not be looked into: {}", self.unseen)?;
        }
        Ok(())
    }
}
