//! Frees a bus whose lock was left behind.
//!
//! When a station of this kind dies with the lock, the next station takes it over, and where no
//! process is left that could be the owner, stations free the lock by themselves: see
//! [`stuck_lock`](crate::system::stuck_lock). Otherwise the lock of a dead rump kernel looks like
//! that of a live one that is slow: a person has to decide, and calls this.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::error::{LockFound, OpenError, shown};
use crate::face::bus::Bus;
use crate::format::{Field32, VERSION};
use crate::mechanism::ring::mend::Mend;
use crate::memory::Memory as _;
use crate::system::liveness;
use crate::system::proc_maps::{MappedBy, mapped_by};
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
    /// The number that stood where the version of the format does, if none can join a bus with it.
    pub scribbled_version: Option<u32>,
    /// Whether the generation was raised: it looked like one that the wake-up of a rump kernel had
    /// overwritten, and rump kernels assert that it never falls.
    pub generation_raised: bool,
    /// Processes of other users, which could not be examined: they may have the bus mapped.
    pub unseen: usize,
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
    /// An unknown owner holds the lock, and other processes than stations of this kind have the bus
    /// mapped. Those that may write to it may be the owner.
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
    /// A live station of this kind holds the lock. Or an unknown owner does, and there are stations
    /// in processes that `/proc` does not show, in another pid namespace or of another user: rump
    /// kernels may live where they do.
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

/// Frees the lock of a bus and puts its ring right. With `force`, it takes the lock from a live
/// owner as well: a rump kernel that was only slow may then crash. It then also mends a bus whose
/// version was scribbled, so that no station can join it.
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
    let path = path.as_ref();
    let (bus, scribbled_version) = match Bus::open(path) {
        Err(OpenError::Uninitialised { .. }) => (Bus::open_unfinished(path)?, None),
        Err(OpenError::WrongVersion { version, .. }) if force => {
            (Bus::open_scribbled(path, version)?, Some(version))
        }
        bus => (bus?, None),
    };
    // Held until the bus is closed again. Nothing else keeps two repairs apart that both break a
    // lock.
    if !liveness::try_lock_making(&bus.file).map_err(|error| OpenError::io(bus.path(), error))? {
        return Err(RepairError::Repairing { path: bus.path().to_owned() });
    }
    let me = bus.claim()?;
    let seen = mapped_by(bus.ring.memory().address(), &bus.file);
    let begin = Instant::now();
    let (lock, mut held) = loop {
        // Other stations may still take the lock and release it.
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(RepairError::Busy { path: bus.path().to_owned() });
        }
        let word = bus.ring.lock_word();
        let (lock, held) = match word.owner() {
            _ if word.is_free() => (LockFound::Free, bus.ring.try_lock(me)),
            None => {
                match seen {
                    _ if force => {}
                    Ok(ref seen) => refuse_possible_owners(&bus, seen)?,
                    Err(source) => {
                        return Err(RepairError::Proc { path: bus.path().to_owned(), source });
                    }
                }
                (LockFound::Unknown, bus.ring.seize(word))
            }
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
    let memory = bus.ring.memory();
    let unseen = seen.as_ref().map_or(0, |seen| seen.unseen);
    let repaired = |ring, packets, generation_raised| Repair {
        lock,
        ring,
        packets,
        scribbled_version,
        generation_raised,
        unseen,
    };
    if memory.load32(Field32::Magic, Ordering::Acquire) == 0 {
        bus.write_header();
        // The empty packet that every bus begins with.
        return Ok(repaired(RingFound::Made, 1, false));
    }
    if scribbled_version.is_some() {
        // Relaxed: it is a constant, and nothing is read because of it.
        memory.store32(Field32::Version, VERSION, Ordering::Relaxed);
    }
    let doubtful = lock == LockFound::Unknown;
    // A rump kernel that asserts dies with the lock. Before the packets are put right: that counts
    // on from there.
    let generation_raised = doubtful && held.raise_overwritten_generation();
    let alone =
        seen.is_ok_and(|seen| seen.processes == 0 && seen.unseen_stations(&bus.file) == Some(0));
    let mend = held.mend(doubtful, alone);
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
    Ok(repaired(ring, packets, generation_raised))
}

/// Fails when a live process may be the unknown owner of the lock, or reads the bus with an unknown
/// program. Stations of this kind are neither: they say so when they have the lock, and find their
/// place again.
fn refuse_possible_owners(bus: &Bus, seen: &MappedBy) -> Result<(), RepairError> {
    let path = || bus.path().to_owned();
    let mut pids = [&seen.foreign[..], &seen.readers].concat();
    if !pids.is_empty() {
        pids.sort_unstable();
        return Err(RepairError::InUse { path: path(), pids });
    }
    // Stations of this kind can be counted wherever they are.
    match seen.unseen_stations(&bus.file) {
        Some(stations @ 1..) => Err(RepairError::Stations { path: path(), stations }),
        _ => Ok(()),
    }
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
        if let Some(version) = self.scribbled_version {
            write!(f, "; its version read {version:#x} and is {VERSION} again")?;
        }
        if self.generation_raised {
            f.write_str(
                "; its generation looked overwritten by a wake-up of a rump kernel and was raised",
            )?;
        }
        write!(f, "; packets on it: {}", self.packets)?;
        if self.unseen > 0 && self.lock != LockFound::Free {
            write!(f, "; processes that could not be looked into: {}", self.unseen)?;
        }
        Ok(())
    }
}
