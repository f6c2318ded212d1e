//! How the stations of this process wake others on a bus, and are woken: the table of sleepers, the
//! folder beside the bus, and the doorbells.
//!
//! The stations of a process that are on one bus share it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use super::doorbell::{Doorbell, Ringer};
use super::folder::WakeFolder;
use super::watch_table::FileId;
use super::write_file;
use crate::mechanism::ring::lock::LockGuard;
use crate::mechanism::sleepers::announce::announce;
use crate::mechanism::sleepers::table::Table;
use crate::memory::{MappedWords, Mapping};
use crate::system::liveness;

/// How long a sender believes what it found out about readers that sleep on the bus file itself, in
/// milliseconds.
const WATCHERS_CHECK: u64 = 50;

/// What the stations of this process on one bus share.
#[derive(Debug)]
pub(crate) struct Waking {
    id: FileId,
    /// Rump kernels, and programs that know no table, may be on the bus.
    may_have_foreign_stations: bool,
    table: Option<Table<MappedWords>>,
    doors: Mutex<Doors>,
    /// A reader sleeps on the bus file itself, although it could be woken otherwise here.
    has_watchers: AtomicBool,
    /// When that was found out, in milliseconds.
    checked: AtomicU64,
}

#[derive(Debug, Default)]
struct Doors {
    folder: Option<Arc<WakeFolder>>,
    ringer: Ringer,
}

impl Doors {
    fn is_folder_in_place(&self) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.is_in_place())
    }
}

impl Waking {
    /// How stations on a bus are woken. `table` is in the bus file; without it the table lies
    /// beside the bus, because foreign stations may be on it.
    pub(crate) fn of(bus: &File, id: FileId, table: Option<MappedWords>) -> Arc<Self> {
        static ALL: Mutex<Vec<Weak<Waking>>> = Mutex::new(Vec::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|waking| waking.strong_count() > 0);
        // The last station may be leaving just now, or another process removed the folder.
        let usable = |waking: &Arc<Self>| {
            waking.id == id
                && waking.may_have_foreign_stations == table.is_none()
                && waking.is_in_place()
        };
        if let Some(waking) = all.iter().filter_map(Weak::upgrade).find(usable) {
            return waking;
        }
        let waking = Arc::new(Self::new(bus, id, table));
        all.push(Arc::downgrade(&waking));
        waking
    }

    fn new(bus: &File, id: FileId, table: Option<MappedWords>) -> Self {
        let may_have_foreign_stations = table.is_none();
        let mut doors = Doors::default();
        let table = match table {
            Some(words) => Some(Table::new(words)),
            None => match WakeFolder::with_table(bus) {
                Ok((folder, table)) => {
                    doors.folder = Some(Arc::new(folder));
                    Some(table)
                }
                Err(error) => {
                    report_once(&error);
                    None
                }
            },
        };
        Self {
            id,
            may_have_foreign_stations,
            table,
            doors: Mutex::new(doors),
            has_watchers: AtomicBool::new(true),
            checked: AtomicU64::new(0),
        }
    }

    /// Whether others find the table.
    fn is_in_place(&self) -> bool {
        self.table.as_ref().is_some_and(|table| !table.is_lost())
            && (!self.may_have_foreign_stations || self.doors().is_folder_in_place())
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table of sleepers, if there is one here.
    #[inline]
    pub(crate) fn table(&self) -> Option<&Table<MappedWords>> {
        self.table.as_ref()
    }

    /// Whether rump kernels, and programs that know no table, may be on the bus.
    pub(crate) fn may_have_foreign_stations(&self) -> bool {
        self.may_have_foreign_stations
    }

    /// Makes a doorbell.
    pub(crate) fn doorbell(&self, bus: &File) -> io::Result<Doorbell> {
        let folder = {
            let mut doors = self.doors();
            match &doors.folder {
                Some(folder) if folder.is_in_place() => Arc::clone(folder),
                // With the folder the table went, and what is made anew would have another.
                Some(_) if self.may_have_foreign_stations => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        "the folder beside the bus was removed",
                    ));
                }
                _ => {
                    let folder = Arc::new(WakeFolder::open_or_make(bus)?);
                    doors.folder = Some(Arc::clone(&folder));
                    folder
                }
            }
        };
        Doorbell::new(folder)
    }

    /// Announces all that is on the ring, and releases the lock.
    pub(crate) fn announce(&self, bus: &File, held: LockGuard<'_, Mapping>) {
        let mut doorbells = Vec::new();
        if let (Some(table), Some(extent)) = (&self.table, held.extent()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
            announce(&held, table, extent.end, seconds, &mut doorbells);
        }
        drop(held);
        self.ring(bus, &mut doorbells);
    }

    /// Rings doorbells, and empties the list.
    pub(crate) fn ring(&self, bus: &File, doorbells: &mut Vec<u32>) {
        if doorbells.is_empty() {
            return;
        }
        doorbells.sort_unstable();
        doorbells.dedup();
        let doors = &mut *self.doors();
        for doorbell in doorbells.drain(..) {
            let rung =
                doors.folder.as_ref().is_some_and(|folder| doors.ringer.ring(folder, doorbell));
            if !rung && !doors.is_folder_in_place() && !self.may_have_foreign_stations {
                // A sleeper has made it meanwhile, or made it anew. If not, that one looks by
                // itself.
                doors.folder = WakeFolder::open(bus).ok().map(Arc::new);
                if let Some(folder) = &doors.folder {
                    doors.ringer.ring(folder, doorbell);
                }
            }
        }
    }

    /// Whether some may sleep that only a write to the bus file wakes. `now` is in milliseconds.
    #[inline]
    pub(crate) fn needs_write(&self, bus: &File, now: u64) -> bool {
        self.may_have_foreign_stations || self.has_watchers(bus, now)
    }

    fn has_watchers(&self, bus: &File, now: u64) -> bool {
        // Relaxed: a reader that begins to sleep on the file looks often until all know.
        if now.abs_diff(self.checked.load(Ordering::Relaxed)) >= WATCHERS_CHECK {
            self.checked.store(now, Ordering::Relaxed);
            let found = liveness::has_watchers(bus).unwrap_or(true);
            self.has_watchers.store(found, Ordering::Relaxed);
        }
        self.has_watchers.load(Ordering::Relaxed)
    }

    /// Wakes all that sleep on the bus file itself, if some may.
    pub(crate) fn write(&self, bus: &File, now: u64) -> io::Result<()> {
        if self.needs_write(bus, now) { write_file(bus) } else { Ok(()) }
    }

    /// A station of this process leaves. What lies beside the bus goes with the last one.
    pub(crate) fn leave(&self, bus: &File) {
        if liveness::is_alone(bus).unwrap_or(false) {
            let folder = self.doors().folder.clone();
            // What stations left that were killed goes as well.
            let folder = folder.or_else(|| WakeFolder::open(bus).ok().map(Arc::new));
            if let Some(folder) = folder {
                folder.remove_if_alone(bus);
            }
        }
    }
}

/// Logs once that nothing can lie beside the bus, and what happens instead.
pub(crate) fn report_once(error: &io::Error) {
    static REPORTED: Once = Once::new();
    REPORTED.call_once(|| {
        tracing::warn!(
            %error,
            "no folder for wake-ups can be made beside the bus: stations are also woken by frames for others"
        );
    });
}
