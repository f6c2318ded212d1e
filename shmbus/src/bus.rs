//! The bus file, opened and mapped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::acquire::acquire;
use crate::error::OpenError;
use crate::file::{self, Found};
use crate::format::{DATA_SIZE, Field32, Field64, MAGIC, MAX_FRAME_LEN, VERSION};
use crate::liveness;
use crate::members::{self, Member};
use crate::memory::{Mapping, Memory};
use crate::ring::Ring;
use crate::ring::lock::Owner;

/// How long joining a bus waits for its lock.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// An open bus: what [`Interface::join`](crate::Interface::join) and [`Tap`](crate::Tap) are made from.
///
/// Each `Bus` is an open file description of its own, which is what tells the kernel which station is alive: open one
/// for every station.
#[derive(Debug)]
pub struct Bus {
    pub(crate) ring: Ring<Mapping>,
    pub(crate) file: File,
    path: PathBuf,
}

/// The header of a bus, as it stands; the values are raw and may be anything on a damaged bus.
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
    /// Whether somebody holds the lock at this moment.
    pub locked: bool,
}

impl Bus {
    /// Opens an existing bus for reading and writing.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        match file::open(path, true)? {
            (file, Found::Bus) => {
                file::reserve(path, &file)?;
                Self::map(path, file, true)
            }
            (_, Found::Blank) => Err(OpenError::Uninitialised { path: path.to_owned() }),
        }
    }

    /// Opens an existing bus for reading: enough for a [`Tap`](crate::Tap) and to look at its state.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        match file::open(path, false)? {
            (file, Found::Bus) => Self::map(path, file, false),
            (_, Found::Blank) => Err(OpenError::Uninitialised { path: path.to_owned() }),
        }
    }

    /// Opens a bus for reading and writing, and makes it first if there is none: with permission bits `mode`, exactly,
    /// and with all its blocks reserved.
    ///
    /// An empty file, or one that starts with zeros and is not larger than a bus, becomes a bus; any other file is
    /// refused.
    ///
    /// # Errors
    /// See [`OpenError`]; a file that was there is left as it was, and one that was made is removed again.
    pub fn open_or_create(path: impl AsRef<Path>, mode: u32) -> Result<Self, OpenError> {
        let path = path.as_ref();
        loop {
            match file::create(path, mode) {
                Ok(file) => {
                    return Self::make(path, file).inspect_err(|_| {
                        // The error that is returned says more than a failure to tidy up.
                        let _ = std::fs::remove_file(path);
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                Err(error) => return Err(OpenError::io(path, error)),
            }
            match file::open(path, true) {
                Ok((file, Found::Bus)) => {
                    file::reserve(path, &file)?;
                    return Self::map(path, file, true);
                }
                Ok((file, Found::Blank)) => return Self::make(path, file),
                // It was removed meanwhile, unless it is a link that leads nowhere.
                Err(OpenError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound
                        && std::fs::symlink_metadata(path).is_err() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The path the bus was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was cut short under us. It is known after something was read or written there, and only in a program
    /// that [survives it](crate::survive_truncation).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.ring.memory().is_lost()
    }

    /// The header's values at this moment.
    #[must_use]
    pub fn state(&self) -> BusState {
        let memory = self.ring.memory();
        BusState {
            version: memory.load32(Field32::Version, Ordering::Relaxed),
            generation: memory.load64(Field64::Generation, Ordering::Relaxed),
            first: memory.load32(Field32::First, Ordering::Relaxed),
            last: memory.load32(Field32::Last, Ordering::Relaxed),
            locked: !self.ring.lock_word().is_free(),
        }
    }

    /// How many stations of this kind are on the bus, in all processes; one that was made of this `Bus` is not counted. Rump kernels leave no trace to be counted.
    ///
    /// # Errors
    /// When the file system does not support file locks.
    pub fn stations(&self) -> io::Result<usize> {
        liveness::count(&self.file)
    }

    /// The other stations of this kind that are on the bus and say who they are. It is what they say: see [`Member`]. There
    /// may be fewer than [`stations`](Self::stations), where the file system keeps no such notes.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        members::members(&self.file)
    }

    /// A number for a station on this bus; it is held until the bus is dropped.
    pub(crate) fn claim(&self) -> Result<Owner, OpenError> {
        if !self.ring.memory().writable() {
            return Err(OpenError::ReadOnly { path: self.path.clone() });
        }
        liveness::claim(&self.file, self.ring.lock_word().owner())
            .map_err(|error| OpenError::io(&self.path, error))
    }

    fn map(path: &Path, file: File, writable: bool) -> Result<Self, OpenError> {
        let mapping = Mapping::new(&file, writable).map_err(|error| OpenError::io(path, error))?;
        Ok(Self { ring: Ring::new(mapping, MAX_FRAME_LEN), file, path: path.to_owned() })
    }

    /// Makes a bus of a blank file, unless another process is faster.
    fn make(path: &Path, file: File) -> Result<Self, OpenError> {
        file::reserve(path, &file)?;
        let bus = Self::map(path, file, true)?;
        let me = bus.claim()?;
        {
            let _held = acquire(&bus.ring, &bus.file, me, JOIN_TIMEOUT)
                .map_err(|source| OpenError::Busy { path: path.to_owned(), source })?;
            let memory = bus.ring.memory();
            match memory.load32(Field32::Magic, Ordering::Acquire) {
                0 => {
                    memory.store32(Field32::Version, VERSION, Ordering::Relaxed);
                    memory.store32(Field32::First, DATA_SIZE, Ordering::Relaxed);
                    // Release: whoever reads the magic through the file or the mapping finds the rest in place.
                    memory.store32(Field32::Magic, MAGIC, Ordering::Release);
                }
                MAGIC => {}
                magic => return Err(OpenError::WrongMagic { path: path.to_owned(), magic }),
            }
        }
        liveness::release(&bus.file, me).map_err(|error| OpenError::io(path, error))?;
        Ok(bus)
    }
}
