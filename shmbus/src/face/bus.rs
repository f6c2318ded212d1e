//! The bus file, opened and mapped.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{LockFound, OpenError};
use crate::format::member::Member;
use crate::format::{
    BUS_SIZE, Field32, Field64, OWN_MAGIC, Shape, TABLE_AT, VERSION, can_be_dumped,
};
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::lock::Owner;
use crate::mechanism::sleepers::table::Table;
use crate::memory::{MappedWords, Mapping, Memory};
use crate::system::acquire::acquire;
use crate::system::file::{self, Found};
use crate::system::liveness;
use crate::system::members;
use crate::system::wake::watch_table::FileId;

/// How long joining a bus waits for its lock.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a blank file is given to become a bus: another process may be making it just now.
const MAKING_TIMEOUT: Duration = Duration::from_millis(200);

/// Opens a file, and waits a little for it to become a bus if it is blank.
fn open_settled(path: &Path, writable: bool) -> Result<(File, Found), OpenError> {
    let begin = Instant::now();
    loop {
        match file::open(path, writable)? {
            (_, Found::Blank) if begin.elapsed() < MAKING_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            settled => return Ok(settled),
        }
    }
}

/// An open bus: [`Station::join`](crate::Station::join) and [`Tap`](crate::Tap) are made from it.
///
/// Each `Bus` is an open file description of its own, by which the kernel knows which station is
/// alive: open one for every station.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use shmbus::Bus;
///
/// let bus = Bus::open_or_create(&path, 0o600)?;
/// assert_eq!((bus.size(), bus.max_frame(), bus.stations()?), (shmbus::BUS_SIZE, shmbus::MAX_FRAME, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Bus {
    pub(crate) ring: Ring<Mapping>,
    pub(crate) file: Arc<File>,
    path: PathBuf,
    id: FileId,
    shape: Shape,
    /// The file was seen shorter than its mapping.
    cut: AtomicBool,
}

/// The header of a bus as it stands. The values are raw: on a damaged bus they may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusState {
    /// Format version: 3, or 0 on a bus made by a rump kernel that has sent nothing yet.
    pub version: u32,
    /// How often the ring has been filled to its end.
    pub generation: u64,
    /// Ring offset of the oldest packet; the size of the ring while it has not been filled once.
    pub first: u32,
    /// Ring offset of the newest packet.
    pub last: u32,
    /// Whether the lock is held at this moment.
    pub locked: bool,
    /// Bytes of the ring. Offsets are below it.
    pub ring_size: u32,
}

impl Bus {
    /// Opens an existing bus for reading and writing. It follows links, except those of another
    /// user in a folder where every user may make files, such as `/tmp`.
    ///
    /// # Errors
    /// See [`OpenError`]. The file is unchanged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        match open_settled(path, true)? {
            (file, Found::Bus(shape)) => {
                file::reserve(path, &file, shape.size)?;
                Self::map(path, file, shape, true)
            }
            (_, Found::Blank) => Err(OpenError::Uninitialised { path: path.to_owned() }),
        }
    }

    /// Opens a file that would be a bus if the process that began to make it had not died with the
    /// lock.
    pub(crate) fn open_unfinished(path: &Path) -> Result<Self, OpenError> {
        let (file, found) = file::open(path, true)?;
        let lock =
            file::word(&file, Field64::Lock as u64).map_err(|error| OpenError::io(path, error))?;
        match found {
            Found::Blank if lock == 0 => Err(OpenError::Uninitialised { path: path.to_owned() }),
            Found::Blank => {
                file::reserve(path, &file, BUS_SIZE)?;
                Self::map(path, file, Shape::SHMIF, true)
            }
            Found::Bus(shape) => Self::map(path, file, shape, true),
        }
    }

    /// Opens a file that would be a bus if its version were one: a process scribbled on that word.
    /// Files of another version, which can be dumped, are none.
    pub(crate) fn open_scribbled(path: &Path, version: u32) -> Result<Self, OpenError> {
        match file::open_of_any_version(path)? {
            (file, Found::Bus(shape)) if !can_be_dumped(version) => {
                file::reserve(path, &file, shape.size)?;
                Self::map(path, file, shape, true)
            }
            _ => Err(OpenError::WrongVersion { path: path.to_owned(), version }),
        }
    }

    /// Opens an existing bus for reading only, for a [`Tap`](crate::Tap) or to look at its state.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        match open_settled(path, false)? {
            (file, Found::Bus(shape)) => Self::map(path, file, shape, false),
            (_, Found::Blank) => Err(OpenError::Uninitialised { path: path.to_owned() }),
        }
    }

    /// Opens a bus for reading and writing, and makes it first if there is none: with exactly the
    /// permission bits `mode`, whatever the umask, and with all its blocks reserved. [`BusOptions`]
    /// makes buses of other sizes.
    ///
    /// An empty file becomes a bus, and so does one of zeros that is not larger than a bus; any
    /// other file is refused.
    ///
    /// # Errors
    /// See [`OpenError`]. An existing file is unchanged, and no new file stays behind.
    pub fn open_or_create(path: impl AsRef<Path>, mode: u32) -> Result<Self, OpenError> {
        BusOptions::new().mode(mode).open_or_create(path)
    }

    /// Returns the path the bus was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the file from others.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Returns the size of the bus file, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shape.size
    }

    /// Returns the longest frame the bus carries, in bytes: [`MAX_FRAME`](crate::MAX_FRAME) on a
    /// bus that rump kernels can share, else [`MAX_BIG_FRAME`](crate::MAX_BIG_FRAME).
    #[must_use]
    pub fn max_frame(&self) -> usize {
        self.shape.max_frame()
    }

    /// Returns whether rump kernels can share the bus. On one that they cannot share, a burst costs
    /// no system call while no station sleeps.
    #[must_use]
    pub fn is_shmif(&self) -> bool {
        self.shape == Shape::SHMIF
    }

    /// What kind of bus it is.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The magic of the bus.
    pub(crate) fn magic(&self) -> u32 {
        self.shape.magic
    }

    /// Returns whether the file is no longer this bus: it was cut short, or its magic was
    /// overwritten. A cut shows after an access to the missing part, in a program that [survives
    /// it](crate::survive_truncation), after a sleep, and after
    /// [`Station::discard_pending`](crate::Station::discard_pending).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        // Relaxed: the flag orders nothing.
        self.ring.memory().is_lost()
            || self.cut.load(Ordering::Relaxed)
            || self.ring.memory().load32(Field32::Magic, Ordering::Relaxed) != self.magic()
    }

    /// Checks whether the file still has its size. Readers that find nothing new touch no page that
    /// may be missing.
    pub(crate) fn check_size(&self) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() < self.size()) {
            self.cut.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the file has no name any more. Processes that have it open continue as
    /// before; no other process can join them, and a bus that is made under the name is another
    /// one.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// Returns the header's values at this moment.
    #[must_use]
    pub fn state(&self) -> BusState {
        let memory = self.ring.memory();
        BusState {
            version: memory.load32(Field32::Version, Ordering::Relaxed),
            generation: memory.load64(Field64::Generation, Ordering::Relaxed),
            first: memory.load32(Field32::First, Ordering::Relaxed),
            last: memory.load32(Field32::Last, Ordering::Relaxed),
            locked: !self.ring.lock_word().is_free(),
            ring_size: self.ring.size(),
        }
    }

    /// Returns the state of the lock at this moment.
    ///
    /// # Errors
    /// When the file system does not support file locks.
    pub fn lock(&self) -> io::Result<LockFound> {
        let word = self.ring.lock_word();
        Ok(match word.owner() {
            _ if word.is_free() => LockFound::Free,
            None => LockFound::Unknown,
            Some(owner) if liveness::is_alive(&self.file, owner)? => LockFound::LiveStation,
            Some(_) => LockFound::DeadStation,
        })
    }

    /// The error of a bus whose packets cannot be found.
    pub(crate) fn corrupt(&self) -> OpenError {
        // Where the state cannot be known, the remedy that always helps is the one to name.
        let lock = self.lock().unwrap_or(LockFound::Unknown);
        OpenError::Corrupt { path: self.path.clone(), lock }
    }

    /// Returns how many stations of this kind are on the bus, in all processes. A station made from
    /// this `Bus` does not count. Rump kernels leave no trace to count. A count takes a quarter of a
    /// second at most: there are more where a process holds thousands of locks on the file.
    ///
    /// # Errors
    /// When the file system does not support file locks.
    pub fn stations(&self) -> io::Result<usize> {
        liveness::count(&self.file)
    }

    /// Returns the notes that other stations of this kind left of themselves: see [`Member`]. A
    /// station can write any note. There may be fewer than [`stations`](Self::stations), where the
    /// file system keeps no notes.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        members::members(&self.file)
    }

    /// The memory of the table of sleepers, on a bus that has it in its file.
    pub(crate) fn table_in_file(&self) -> Option<MappedWords> {
        if self.shape.may_have_foreign_stations() {
            return None;
        }
        self.ring.memory().table(TABLE_AT)
    }

    /// Takes a number for a station on this bus, and holds it until the bus is dropped.
    pub(crate) fn claim(&self) -> Result<Owner, OpenError> {
        if !self.ring.memory().writable() {
            return Err(OpenError::ReadOnly { path: self.path.clone() });
        }
        liveness::claim(&self.file, self.ring.lock_word().owner())
            .map_err(|error| OpenError::io(&self.path, error))
    }

    fn map(path: &Path, file: File, shape: Shape, writable: bool) -> Result<Self, OpenError> {
        let id = FileId::of(&file).map_err(|error| OpenError::io(path, error))?;
        let mapping =
            Mapping::new(&file, shape, writable).map_err(|error| OpenError::io(path, error))?;
        let max_frame = u32::try_from(shape.max_frame()).unwrap_or(u32::MAX);
        Ok(Self {
            ring: Ring::new(mapping, max_frame),
            file: Arc::new(file),
            path: path.to_owned(),
            id,
            shape,
            cut: AtomicBool::new(false),
        })
    }

    /// Makes a bus of an existing blank file, unless another process does, which then chooses the
    /// size. `None`: the path does not lead to the file any more.
    fn make(path: &Path, file: File, shape: Shape) -> Result<Option<Self>, OpenError> {
        let begin = Instant::now();
        // Of two makers that want different sizes, the second must not touch what the first has
        // made.
        while !liveness::try_lock_making(&file).map_err(|error| OpenError::io(path, error))? {
            if begin.elapsed() >= JOIN_TIMEOUT {
                let error = io::Error::other(
                    "another process has been making it for 2 seconds; is it stopped?",
                );
                return Err(OpenError::io(path, error));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if !file::leads_to(path, &file) {
            return Ok(None);
        }
        let bus = match file::check(path, &file)? {
            Found::Bus(shape) => {
                file::reserve(path, &file, shape.size)?;
                Self::map(path, file, shape, true)?
            }
            Found::Blank => Self::initialise(path, file, shape)?,
        };
        liveness::unlock_making(&bus.file).map_err(|error| OpenError::io(path, error))?;
        Ok(Some(bus))
    }

    /// Makes a bus of a blank file, unless a rump kernel is faster.
    fn initialise(path: &Path, file: File, shape: Shape) -> Result<Self, OpenError> {
        file::reserve(path, &file, shape.size)?;
        let bus = Self::map(path, file, shape, true)?;
        let me = bus.claim()?;
        {
            let _held = acquire(&bus.ring, &bus.file, me, JOIN_TIMEOUT)
                .map_err(|source| OpenError::Busy { path: path.to_owned(), source })?;
            match bus.ring.memory().load32(Field32::Magic, Ordering::Acquire) {
                0 => bus.write_header(),
                magic if magic == bus.magic() => {}
                magic => return Err(OpenError::WrongMagic { path: path.to_owned(), magic }),
            }
        }
        liveness::release(&bus.file, me).map_err(|error| OpenError::io(path, error))?;
        Ok(bus)
    }

    /// Writes the header of a new bus. The lock is held, and the ring is zeros.
    pub(crate) fn write_header(&self) {
        let memory = self.ring.memory();
        if let Some(words) = self.table_in_file() {
            Table::new(words).make(self.shape.size, [0; 2]);
        }
        memory.store32(Field32::Version, VERSION, Ordering::Relaxed);
        memory.store64(Field64::Generation, 0, Ordering::Relaxed);
        memory.store32(Field32::Last, 0, Ordering::Relaxed);
        memory.store32(Field32::First, self.ring.size(), Ordering::Relaxed);
        self.ring.publish_new();
        // Release: pairs with the acquire load of the magic in `initialise` and in `repair`. A
        // process that reads it finds the rest in place.
        memory.store32(Field32::Magic, self.magic(), Ordering::Release);
    }
}

/// How to make a bus where there is none.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// let bus = shmbus::BusOptions::new().mode(0o660).size(16 << 20).open_or_create(&path)?;
/// assert_eq!(bus.max_frame(), shmbus::MAX_BIG_FRAME);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BusOptions {
    mode: u32,
    size: u64,
    shmif: bool,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self { mode: 0o600, size: BUS_SIZE, shmif: true }
    }
}

impl BusOptions {
    /// Returns the default options: for the owner only, and of the size that rump kernels can
    /// share.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the permission bits of the file, exactly.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the size of the file in bytes: [`BUS_SIZE`], or a multiple of 65,536 up to
    /// [`MAX_BUS_SIZE`](crate::MAX_BUS_SIZE) for stations of this kind only, with frames of up to
    /// [`MAX_BIG_FRAME`](crate::MAX_BIG_FRAME). A rump kernel refuses such a bus, but cuts it short
    /// before that: its members then find it gone.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Sets whether rump kernels can share the bus, which is so by default on one of [`BUS_SIZE`].
    /// `false` makes a bus for stations of this kind only, whatever its size: bursts cost no system
    /// call while no station sleeps, and frames may be longer.
    #[must_use]
    pub fn shmif(mut self, on: bool) -> Self {
        self.shmif = on;
        self
    }

    /// Opens the bus at `path` for reading and writing, whatever its size; or makes it.
    ///
    /// # Errors
    /// As for [`Bus::open_or_create`].
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Bus, OpenError> {
        let path = path.as_ref();
        let shape = self.shape();
        if !shape.is_possible() {
            return Err(OpenError::BadSize { size: shape.size });
        }
        let begin = Instant::now();
        loop {
            match file::open(path, true) {
                Ok((file, Found::Bus(shape))) => {
                    file::reserve(path, &file, shape.size)?;
                    return Bus::map(path, file, shape, true);
                }
                Ok((file, Found::Blank)) => {
                    if let Some(bus) = Bus::make(path, file, shape)? {
                        return Ok(bus);
                    }
                }
                // The file may come and go meanwhile, but not without limit.
                Err(OpenError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound
                        && begin.elapsed() < JOIN_TIMEOUT =>
                {
                    self.create(path)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What kind of bus is made.
    fn shape(&self) -> Shape {
        match self.size {
            BUS_SIZE if self.shmif => Shape::SHMIF,
            size => Shape { magic: OWN_MAGIC, size },
        }
    }

    /// Makes a bus where there is no file, or finds that another process has.
    fn create(&self, path: &Path) -> Result<(), OpenError> {
        if let Some(file) =
            file::create_unnamed(path, self.mode).map_err(|error| OpenError::io(path, error))?
        {
            // It gets its name when it is a bus: no process ever sees it half made, or one that
            // cannot be made.
            let bus = Bus::initialise(path, file, self.shape())?;
            match file::name(&bus.file, path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    tracing::debug!(%error, "a finished bus cannot be given its name");
                }
                _ => return Ok(()),
            }
        }
        self.create_named(path)
    }

    /// As [`create`](Self::create), on file systems where every file has a name.
    fn create_named(&self, path: &Path) -> Result<(), OpenError> {
        let file = match file::create(path, self.mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            file => file.map_err(|error| OpenError::io(path, error))?,
        };
        // Another handle for the same description: while it is open, no other process can make a
        // bus of the file.
        let held = file.try_clone().map_err(|error| OpenError::io(path, error))?;
        Bus::make(path, file, self.shape()).inspect_err(|_| file::discard(&held, path))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "maps files")]
    fn a_bus_that_is_made_under_its_name_is_made_once() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("bus");
            std::thread::scope(|scope| {
                for size in [BUS_SIZE, 2 * BUS_SIZE] {
                    let path = &path;
                    scope.spawn(move || {
                        BusOptions::new().size(size).create_named(path).expect("made");
                    });
                }
            });
            Bus::open(&path).expect("a bus");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps files")]
    fn a_bus_that_cannot_be_made_under_its_name_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let error =
            BusOptions::new().size(1 << 60).create_named(&path).expect_err("no disk is so large");
        assert!(matches!(error, OpenError::NoRoom { .. }), "{error}");
        assert!(!path.exists());
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps files")]
    fn only_what_is_ours_and_unused_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let file = file::create(&path, 0o600).expect("made");
        let bus = Bus::open_or_create(&path, 0o600).expect("another process makes a bus of it");
        file::discard(&file, &path);
        assert!(path.exists(), "it is a bus now");
        drop(bus);
        std::fs::remove_file(&path).expect("removed");
        let other = file::create(&path, 0o600).expect("made");
        let gone = file::create(&folder.path().join("gone"), 0o600).expect("made");
        file::discard(&gone, &path);
        assert!(path.exists(), "it is another's");
        file::discard(&other, &path);
        assert!(!path.exists());
    }
}
