//! What can go wrong, in words that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::format::member::Member;
use crate::format::{BUS_SIZE, MAGIC, MAX_BUS_SIZE, MIN_FRAME, can_be_dumped};
use crate::mechanism::offload::OffloadError;

/// Why a bus file could not be opened or made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file or its folder cannot be opened: missing, no permission, a socket, ...
    #[error("cannot open bus {}: {}", shown(path), describe(source))]
    Io {
        /// The bus.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is a link to something that is not there.
    #[error("cannot open bus {}: it is a link to {}, which does not exist", shown(path), shown(target))]
    DeadLink {
        /// The path.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The path leads through a link that another user has put into a folder where everybody may put things.
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
        /// The number of the user it belongs to.
        owner: u32,
    },
    /// The path names a folder, a device or a pipe.
    #[error("{} is not a bus: it is {kind}, and a bus is a regular file", shown(path))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file's first bytes are not those of a bus.
    #[error("{} is not a bus: it starts with {magic:#010x} and not with {:#010x}", shown(path), MAGIC)]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// What stands where a bus has its magic.
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
    /// The file is empty or all zero: nobody has made a bus of it yet.
    #[error("{} is not a bus yet: it is empty; create it first (`busctl linkstr` does)", shown(path))]
    Uninitialised {
        /// The file.
        path: PathBuf,
    },
    /// A bus in a version of the format that cannot be joined.
    #[error("bus {} has format version {version}: {}", shown(path), use_of_version(*version))]
    WrongVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A bus that was written on a machine of the other byte order.
    #[error("bus {} is of a machine of the other byte order: it can be dumped, not joined", shown(path))]
    OtherByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// A file system on which processes do not share memory.
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
        /// What the system said.
        source: io::Error,
    },
    /// The process may not write files as large as the bus, which would get it killed (`SIGXFSZ`) if it tried.
    #[error(
        "no room for bus {}: this process may write files of {limit} bytes (ulimit -f), and it takes {size}",
        shown(path)
    )]
    FileSizeLimit {
        /// The bus.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// What the process may write, in bytes.
        limit: u64,
    },
    /// The lock of the bus could not be had to initialise it or to join it.
    #[error("cannot join bus {}: {source}", shown(path))]
    Busy {
        /// The bus.
        path: PathBuf,
        /// Who is in the way.
        source: Busy,
    },
    /// The header's offsets lie outside the ring.
    #[error(
        "bus {} is damaged: its header points outside the ring; the next station that sends mends it",
        shown(path)
    )]
    Corrupt {
        /// The bus.
        path: PathBuf,
    },
    /// A size that no bus can have.
    #[error("a bus cannot have {size} bytes: it has {BUS_SIZE}, or a multiple of 65536 up to {MAX_BUS_SIZE}")]
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
    /// Whether [`LegacyDump`](crate::LegacyDump) may be able to read what cannot be joined.
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

fn use_of_version(version: u32) -> &'static str {
    if can_be_dumped(version) {
        "it can be dumped, not joined"
    } else {
        "only version 3 can be joined, and version 2 dumped"
    }
}

/// A path in a message: in one line, whatever it is called.
pub(crate) fn shown(path: &Path) -> String {
    let name = path.to_string_lossy();
    if !name.contains(char::is_control) {
        return name.into_owned();
    }
    name.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

/// What an I/O error says, without the number.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// The lock of a bus was not to be had in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Busy {
    /// One of our stations holds it, and is alive: it is stopped, or starved.
    #[error("{} has held the lock for {} ms and is alive; is it stopped?", station_name(*owner, member.as_ref()), waited.as_millis())]
    Station {
        /// The owner's number, as it stands in the file.
        owner: u32,
        /// Who it says it is.
        member: Option<Member>,
        /// How long the lock was waited for.
        waited: Duration,
    },
    /// Somebody else holds it: a rump kernel, perhaps dead.
    #[error("an unknown owner has held the lock for {} ms; if it is dead, `busctl repair` frees the bus", waited.as_millis())]
    Unknown {
        /// How long the lock was waited for.
        waited: Duration,
    },
}

impl Busy {
    /// The same after the lock was waited for so long, in several attempts.
    #[must_use]
    pub fn after(self, waited: Duration) -> Self {
        match self {
            Self::Station { owner, member, .. } => Self::Station { owner, member, waited },
            Self::Unknown { .. } => Self::Unknown { waited },
        }
    }
}

fn station_name(owner: u32, member: Option<&Member>) -> String {
    member.map_or_else(|| format!("station {owner:08x}"), ToString::to_string)
}

/// Why a burst was not sent.
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
        /// The longest there may be, in bytes.
        max: usize,
    },
    /// A frame is shorter than an Ethernet header. Nothing of the burst was sent.
    #[error("frame {index} of the burst is {len} bytes long: an Ethernet header alone is {MIN_FRAME}")]
    TooShort {
        /// The frame's place in the burst.
        index: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// What was asked to be done for a frame could not be. It was dropped; the others of the burst were sent.
    #[error("frame {index} of the burst was dropped: {source}")]
    Offload {
        /// The frame's place in the burst. Of several it is the first.
        index: usize,
        /// What is in the way.
        source: OffloadError,
    },
    /// The lock was not to be had in time. The first `sent` frames of the burst are on the bus.
    #[error("the bus is busy: {source}")]
    Busy {
        /// Frames that were sent before.
        sent: usize,
        /// Who is in the way.
        source: Busy,
    },
    /// The bus is gone: its file was cut short, or is no bus any more. Nothing was sent, and nothing ever will be.
    #[error("bus {} is gone: its file was cut short or overwritten", shown(path))]
    Lost {
        /// The bus.
        path: PathBuf,
    },
    /// The burst is on the bus, but those who sleep could not be woken.
    #[error("cannot wake the other stations: {source}")]
    Wake {
        /// What the system said.
        source: io::Error,
    },
}

/// Why waiting for frames failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The bus is gone: its file was cut short, or is no bus any more. Nothing will ever come.
    #[error("bus {} is gone: its file was cut short or overwritten", shown(path))]
    Lost {
        /// The bus.
        path: PathBuf,
    },
    /// No inotify instance or watch is to be had.
    #[error("cannot watch bus {}: {source}", shown(path))]
    Watch {
        /// The bus.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The other stations could not be woken, who are owed that before the station sleeps: see
    /// [`StationOptions::wake_interval`](crate::StationOptions::wake_interval).
    #[error("cannot wake the other stations on bus {}: {source}", shown(path))]
    Wake {
        /// The bus.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Polling failed.
    #[error("cannot wait for bus {}: {source}", shown(path))]
    Poll {
        /// The bus.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
