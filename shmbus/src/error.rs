//! What can go wrong, in texts that say what to do about it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

use crate::format::member::Member;
use crate::format::printable::is_printable;
use crate::format::{
    BIG_MAGIC, BUS_SIZE, MAGIC, MAX_BUS_SIZE, MIN_FRAME, OWN_MAGIC, can_be_dumped,
};
use crate::mechanism::offload::OffloadError;

/// Why a bus file could not be opened or made. The file is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file or its folder cannot be opened: it is missing, permission is denied, ...
    #[error("cannot open bus {}: {}", shown(path), describe(source))]
    Io {
        /// The bus.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The path is a link to a file that does not exist.
    #[error(
        "cannot open bus {}: it is a link to {}, which does not exist",
        shown(path),
        shown(target)
    )]
    DeadLink {
        /// The path.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The path leads through a link that another user made in a folder where every user may make
    /// files, such as `/tmp`.
    #[error(
        "bus {} is not opened: user {owner} has put the link {} into a folder that is open to all",
        shown(path),
        shown(link)
    )]
    PlantedLink {
        /// The path.
        path: PathBuf,
        /// The link.
        link: PathBuf,
        /// The id of the user who owns the link.
        owner: u32,
    },
    /// The path names a folder, a device or a pipe.
    #[error("{} is not a bus: it is {kind}, and a bus is a regular file", shown(path))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The file's first bytes are not those of a bus.
    #[error(
        "{} is not a bus: it starts with {magic:#010x} and not with {:#010x}",
        shown(path),
        MAGIC
    )]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// The word that stands where a bus has its magic.
        magic: u32,
    },
    /// The file has a bus's magic but not its size.
    #[error(
        "{} is not a bus: it is {size} bytes long, and a bus has {BUS_SIZE}, or the size it was made with",
        shown(path)
    )]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The bus was larger than those that rump kernels can share, and has their size now: a rump
    /// kernel that attaches to a file cuts it, before it looks at it.
    #[error(
        "bus {} is gone: a rump kernel that attached to it cut it to {BUS_SIZE} bytes, the only size they share; \
         remove the file, and make the bus again",
        shown(path)
    )]
    CutByRumpKernel {
        /// The file.
        path: PathBuf,
    },
    /// The file is empty or all zero: no process has made a bus of it yet.
    #[error("{} is not a bus yet: it is empty; create it first", shown(path))]
    Uninitialised {
        /// The file.
        path: PathBuf,
    },
    /// The bus has a version of the format that cannot be joined.
    #[error("bus {} has format version {version}: {}", shown(path), use_of_version(*version))]
    WrongVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The bus was written on a machine of the other byte order.
    #[error(
        "bus {} is of a machine of the other byte order: it can be dumped, not joined",
        shown(path)
    )]
    OtherByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// The file lies on a file system where processes do not share memory.
    #[error(
        "{} is on {filesystem}, where shared memory is not shared: put the bus on a local file system, best /dev/shm",
        shown(path)
    )]
    Incoherent {
        /// The file.
        path: PathBuf,
        /// The file system's name.
        filesystem: &'static str,
    },
    /// The blocks of the file could not be reserved.
    #[error("no room for bus {}: {}; it takes {size} bytes", shown(path), describe(source))]
    NoRoom {
        /// The bus.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The error of the system.
        source: io::Error,
    },
    /// The process may not write files as large as the bus; the kernel would kill it (`SIGXFSZ`) if
    /// it tried.
    #[error(
        "no room for bus {}: this process may write files of {limit} bytes (ulimit -f), and it takes {size}",
        shown(path)
    )]
    FileSizeLimit {
        /// The bus.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The largest file the process may write, in bytes.
        limit: u64,
    },
    /// The lock of the bus, needed to make the bus or to join it, was not free in time.
    #[error("cannot join bus {}: {source}", shown(path))]
    Busy {
        /// The bus.
        path: PathBuf,
        /// The owner of the lock.
        source: Busy,
    },
    /// The header's offsets lie outside the ring, or the newest packet has no valid header.
    #[error("bus {} is damaged: its header does not lead to a packet; {}", shown(path), cure(*lock))]
    Corrupt {
        /// The bus.
        path: PathBuf,
        /// The state of the lock, which says which process can mend the bus.
        lock: LockFound,
    },
    /// No bus can have this size.
    #[error(
        "a bus cannot have {size} bytes: it has {BUS_SIZE}, or a multiple of 65536 up to {MAX_BUS_SIZE}"
    )]
    BadSize {
        /// The size asked for, in bytes.
        size: u64,
    },
    /// The bus was opened for reading only, and the call needs to write.
    #[error("bus {} is open for reading only: a station needs to write to it", shown(path))]
    ReadOnly {
        /// The bus.
        path: PathBuf,
    },
}

impl OpenError {
    /// Returns whether [`LegacyDump`](crate::LegacyDump) may be able to read the file, although it
    /// cannot be joined.
    #[must_use]
    pub fn can_be_dumped(&self) -> bool {
        match self {
            Self::OtherByteOrder { .. } => true,
            Self::WrongVersion { version, .. } => can_be_dumped(*version),
            _ => false,
        }
    }

    pub(crate) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
}

/// The state in which the lock of a bus was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockFound {
    /// It is free.
    Free,
    /// A dead station of this kind holds it. The next station takes it over.
    DeadStation,
    /// A live station of this kind holds it.
    LiveStation,
    /// An unknown owner holds it: most likely a rump kernel. It may be dead.
    Unknown,
}

fn cure(lock: LockFound) -> &'static str {
    match lock {
        LockFound::Unknown => {
            "an unknown owner, perhaps a dead rump kernel, holds the lock, so no station can mend it: repair the bus"
        }
        _ => "the next station that sends mends it",
    }
}

fn use_of_version(version: u32) -> &'static str {
    if can_be_dumped(version) {
        "it can be dumped, not joined"
    } else {
        "only version 3 can be joined, and version 2 dumped; if that number was scribbled, repair the bus by force"
    }
}

/// A path in a message: in one line, whatever characters are in it.
pub(crate) fn shown(path: &Path) -> String {
    let name = path.to_string_lossy();
    if name.chars().all(is_printable) {
        return name.into_owned();
    }
    name.chars()
        .map(|c| if is_printable(c) { c.into() } else { c.escape_default().to_string() })
        .collect()
}

/// The text of an I/O error, without the number.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Why the lock of a bus was not free in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Busy {
    /// A live station of this kind holds it. Perhaps its process is stopped, or starved of CPU
    /// time.
    #[error("{} has held the lock for {} ms and is alive; is it stopped?", station_name(*owner, member.as_ref()), waited.as_millis())]
    Station {
        /// The owner's number, as it stands in the lock word.
        owner: u32,
        /// The owner's note of itself, if it left one.
        member: Option<Member>,
        /// How long the caller waited for the lock.
        waited: Duration,
    },
    /// An unknown owner holds it: a rump kernel, perhaps a dead one. [`repair`](crate::repair)
    /// takes the lock from it.
    #[error("an unknown owner has held the lock for {} ms; if it is dead, repair the bus", waited.as_millis())]
    Unknown {
        /// How long the caller waited for the lock.
        waited: Duration,
    },
}

impl Busy {
    /// Returns the same error with another waiting time, for callers that tried several times.
    #[must_use]
    pub fn after(self, waited: Duration) -> Self {
        match self {
            Self::Station { owner, member, .. } => Self::Station { owner, member, waited },
            Self::Unknown { .. } => Self::Unknown { waited },
        }
    }
}

/// How a bus that was lost came to that, as far as its file shows it now.
fn loss(path: &Path) -> &'static str {
    let mut magic = [0; 4];
    // Something that is no file may lie under the name by now, and must not make this wait.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let is_cut = file.is_ok_and(|mut file| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == BUS_SIZE)
            && file.read_exact(&mut magic).is_ok()
            && matches!(u32::from_ne_bytes(magic), OWN_MAGIC | BIG_MAGIC)
    });
    if is_cut {
        "its file was cut short or overwritten; it has the size now to which a rump kernel that attaches cuts \
         every bus"
    } else {
        "its file was cut short or overwritten"
    }
}

fn station_name(owner: u32, member: Option<&Member>) -> String {
    member.map_or_else(|| format!("station {owner:08x}"), ToString::to_string)
}

/// Why a burst was not sent, or only a part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A frame is too long for the bus. Nothing of the burst was sent.
    #[error("frame {index} of the burst is {len} bytes long: the bus carries at most {max}")]
    TooLong {
        /// The frame's place in the burst.
        index: usize,
        /// Its length in bytes.
        len: usize,
        /// The longest frame the station sends, in bytes.
        max: usize,
    },
    /// A frame is shorter than an Ethernet header. Nothing of the burst was sent.
    #[error(
        "frame {index} of the burst is {len} bytes long: an Ethernet header alone is {MIN_FRAME}"
    )]
    TooShort {
        /// The frame's place in the burst.
        index: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// A frame was dropped because the work left to the station cannot be done. All other frames of
    /// the burst were sent.
    #[error("frame {index} of the burst was dropped: {source}")]
    Offload {
        /// The place of the first such frame in the burst.
        index: usize,
        /// Frames that were sent.
        sent: usize,
        /// Why the frame was dropped.
        source: OffloadError,
    },
    /// The lock was not free in time. The first `sent` frames of the burst are on the bus.
    #[error("the bus is busy: {source}")]
    Busy {
        /// Frames that were sent before that.
        sent: usize,
        /// The owner of the lock.
        source: Busy,
    },
    /// The bus is gone: its file was cut short or overwritten. No frame can be sent on it any more.
    #[error("bus {} is gone: {}", shown(path), loss(path))]
    Lost {
        /// The bus.
        path: PathBuf,
    },
}

/// Why the other stations could not be woken. The frames are on the bus, and other stations look by
/// themselves within [`MAX_SLEEP`](crate::MAX_SLEEP).
#[derive(Debug, thiserror::Error)]
#[error("cannot wake the other stations on bus {}: {source}", shown(path))]
pub struct WakeError {
    /// The bus.
    pub path: PathBuf,
    /// The error of the system.
    pub source: io::Error,
}

/// Why waiting for frames failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The bus is gone: its file was cut short or overwritten. No frame will arrive any more.
    #[error("bus {} is gone: {}", shown(path), loss(path))]
    Lost {
        /// The bus.
        path: PathBuf,
    },
    /// No inotify instance or watch is available.
    #[error("cannot watch bus {}: {source}", shown(path))]
    Watch {
        /// The bus.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Polling failed.
    #[error("cannot wait for bus {}: {source}", shown(path))]
    Poll {
        /// The bus.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}
