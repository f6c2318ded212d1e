//! What lies beside a bus: a hidden folder, `.NAME.wake`, with the doorbells of those that sleep,
//! and for a bus that rump kernels may share the table of sleepers.
//!
//! It is optional: where it cannot be made, stations watch the bus file instead. It is not trusted:
//! what is found there is opened without following links and without waiting, and is used only if
//! it is of the right kind. It goes with the last station. What stations leave that were killed,
//! the next one that leaves takes along.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fchown, mkfifoat, unlinkat};

use super::watch_table::FileId;
use crate::format::sleepers::TABLE_SIZE;
use crate::mechanism::sleepers::table::Table;
use crate::memory::MappedWords;
use crate::system::file::leads_to;
use crate::system::liveness;

/// The name of the table in the folder.
const TABLE: &str = "table";
/// How long a station waits for another that makes or removes the folder.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// How often a folder is made again that another station removes at that moment.
const MAX_ATTEMPTS: usize = 10;

/// The folder beside a bus.
#[derive(Debug)]
pub(crate) struct WakeFolder {
    /// The name of the bus when this was opened. Both may have been renamed or removed since.
    bus_path: PathBuf,
    folder: File,
    /// The bus file.
    bus: FileId,
    /// What may be done with the bus file may be done with what lies beside it.
    mode: u32,
    group: u32,
}

/// The right to make or remove what lies beside a bus.
struct FolderLock<'f>(&'f File);

impl<'f> FolderLock<'f> {
    fn take(bus: &'f File) -> io::Result<Self> {
        let begin = Instant::now();
        while !liveness::try_lock_folder(bus)? {
            if begin.elapsed() >= LOCK_TIMEOUT {
                let why = "another station has been making it for 200 ms; is it stopped?";
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self(bus))
    }
}

impl Drop for FolderLock<'_> {
    fn drop(&mut self) {
        // It ends with the station at the latest.
        let _ = liveness::unlock_folder(self.0);
    }
}

/// The name that an open bus file has now.
fn path_of(bus: &File) -> io::Result<PathBuf> {
    let path = fs::read_link(format!("/proc/self/fd/{}", bus.as_raw_fd()))?;
    if leads_to(&path, bus) {
        Ok(path)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "the bus file has no name here"))
    }
}

/// Where the folder beside a bus lies.
fn beside(bus: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(bus.file_name().unwrap_or_default());
    name.push(".wake");
    bus.with_file_name(name)
}

impl WakeFolder {
    /// Opens the folder beside a bus.
    pub(crate) fn open(bus: &File) -> io::Result<Self> {
        let bus_path = path_of(bus)?;
        let folder = open_folder(&beside(&bus_path))?;
        Self::new(bus_path, folder, bus)
    }

    /// Opens the folder beside a bus, or makes it.
    pub(crate) fn open_or_make(bus: &File) -> io::Result<Self> {
        let _lock = FolderLock::take(bus)?;
        Self::open_or_make_locked(bus)
    }

    /// As [`open_or_make`](Self::open_or_make), with the table in it.
    pub(crate) fn with_table(bus: &File) -> io::Result<(Self, Table<MappedWords>)> {
        let _lock = FolderLock::take(bus)?;
        let folder = Self::open_or_make_locked(bus)?;
        let table = folder.table()?;
        Ok((folder, table))
    }

    fn new(bus_path: PathBuf, folder: File, bus: &File) -> io::Result<Self> {
        let metadata = bus.metadata()?;
        let (mode, group) = (metadata.mode() & 0o666, metadata.gid());
        Ok(Self { bus_path, folder, bus: FileId::of(bus)?, mode, group })
    }

    fn open_or_make_locked(bus: &File) -> io::Result<Self> {
        let bus_path = path_of(bus)?;
        let path = beside(&bus_path);
        for _ in 0..MAX_ATTEMPTS {
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                made => {
                    let folder = match open_folder(&path) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        folder => folder?,
                    };
                    let folder = Self::new(bus_path, folder, bus)?;
                    if made.is_ok() {
                        // Who may read may also search.
                        let search = (folder.mode & 0o444) >> 2;
                        adopt(&folder.folder, folder.mode | search, folder.group)?;
                    }
                    return Ok(folder);
                }
            }
        }
        Err(io::Error::other("it comes and goes"))
    }

    /// The path of a file in the folder, whatever became of the folder's name.
    fn inside(&self, name: &str) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.folder.as_raw_fd())).join(name)
    }

    fn open_inside(&self, name: &str) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(self.inside(name))
    }

    /// Maps the table, or makes it. Nothing else may be doing that at the same time.
    fn table(&self) -> io::Result<Table<MappedWords>> {
        match self.open_inside(TABLE) {
            Ok(file) => {
                let metadata = file.metadata()?;
                if metadata.is_file() && metadata.len() == TABLE_SIZE as u64 {
                    let table = Table::new(MappedWords::new(&file)?);
                    if table.is_made() && table.bus() == self.bus.numbers() {
                        return Ok(table);
                    }
                }
                // A process died while it made it, it was scribbled on, or it is that of a bus which
                // had this name before. Stations that have it mapped are foreign to those that use
                // the new one.
                fs::remove_file(self.inside(TABLE))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.inside(TABLE))?;
        self.make_table(&file).inspect_err(|_| {
            // The error that is returned says more than a failure to tidy up.
            let _ = fs::remove_file(self.inside(TABLE));
        })
    }

    fn make_table(&self, file: &File) -> io::Result<Table<MappedWords>> {
        // Reserved, so that a disk that fills up later kills no process that maps it.
        match fallocate(file, FallocateFlags::empty(), 0, (TABLE_SIZE as u64).cast_signed()) {
            Ok(()) => {}
            Err(Errno::EOPNOTSUPP) => file.set_len(TABLE_SIZE as u64)?,
            Err(error) => return Err(error.into()),
        }
        let table = Table::new(MappedWords::new(file)?);
        table.make(0, self.bus.numbers());
        adopt(file, self.mode, self.group)?;
        Ok(table)
    }

    /// Makes a doorbell's FIFO and opens it.
    pub(crate) fn make_fifo(&self, name: &str) -> io::Result<File> {
        mkfifoat(&self.folder, name, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let fifo = self.open_fifo(name).and_then(|fifo| {
            adopt(&fifo, self.mode, self.group)?;
            Ok(fifo)
        });
        fifo.inspect_err(|_| self.remove(name))
    }

    /// Opens a doorbell's FIFO.
    pub(crate) fn open_fifo(&self, name: &str) -> io::Result<File> {
        // For reading, too: so the open does not wait, and a write never meets a pipe without a
        // reader, which would be a signal.
        let fifo = self.open_inside(name)?;
        if fifo.metadata()?.file_type().is_fifo() {
            Ok(fifo)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no doorbell"))
        }
    }

    /// Removes a file from the folder.
    pub(crate) fn remove(&self, name: impl AsRef<OsStr>) {
        // Another process may have removed it.
        let _ = unlinkat(&self.folder, name.as_ref(), UnlinkatFlags::NoRemoveDir);
    }

    /// Removes the folder with all in it, if no station is on the bus any more.
    pub(crate) fn remove_if_alone(&self, bus: &File) {
        // Without a lock or a right there is nothing that could be done about it.
        let Ok(_lock) = FolderLock::take(bus) else { return };
        // A station may have come meanwhile, or another bus may have taken the name, and with it
        // what lies beside.
        let is_taken = fs::metadata(&self.bus_path).is_ok() && !leads_to(&self.bus_path, bus);
        if is_taken || !liveness::is_alone(bus).unwrap_or(false) {
            return;
        }
        let names = fs::read_dir(self.inside("."));
        for entry in names.into_iter().flatten().flatten() {
            self.remove(entry.file_name());
        }
        let path = beside(&self.bus_path);
        if leads_to(&path, &self.folder) {
            let _ = fs::remove_dir(&path);
        }
    }

    /// Whether the folder still has its name.
    pub(crate) fn is_in_place(&self) -> bool {
        self.folder.metadata().is_ok_and(|folder| folder.nlink() > 0)
    }
}

/// The folder itself, and no link to one.
fn open_folder(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Gives a new file the group and the mode of what it belongs to.
fn adopt(file: &File, mode: u32, group: u32) -> io::Result<()> {
    if file.metadata()?.gid() != group {
        // A user who is not in that group may not do it, and then others of the group may not ring.
        let _ = fchown(file, None, Some(group.into()));
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}
