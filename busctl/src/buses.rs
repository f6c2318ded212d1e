//! The buses of this user: those of the registry, and those that processes have mapped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use node::{BusIdentity, bus_identity};
use serde::Serialize;
use shmbus::{Bus, Member, OpenError};

use crate::output;
use crate::registry::{Registry, RegistryError, format_mac};

/// How many stations of a bus are named.
const MAX_NAMES: usize = 3;

/// A bus in the list. The fields are keys of `list --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BusEntry {
    pub(crate) path: String,
    /// Size of the file in bytes.
    pub(crate) size: u64,
    /// The longest frame that it carries, in bytes.
    pub(crate) max_frame: usize,
    /// Live stations that are no rump kernels; none when they cannot be counted.
    pub(crate) stations: Option<usize>,
    /// The interfaces that are plugged into it.
    pub(crate) interfaces: Vec<String>,
    /// The processes that have it mapped.
    pub(crate) pids: Vec<u32>,
    /// Whether its lock was held.
    pub(crate) locked: bool,
    /// How often the ring has been filled to its end.
    pub(crate) generation: u64,
    /// How long ago its file was made, in seconds, if the file system knows.
    pub(crate) age_seconds: Option<u64>,
    /// The stations that describe themselves.
    pub(crate) members: Vec<MemberEntry>,
    /// Device and inode.
    #[serde(skip)]
    pub(crate) identity: BusIdentity,
}

/// A station as it describes itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MemberEntry {
    pub(crate) pid: u32,
    pub(crate) mac: String,
    pub(crate) name: String,
}

/// A file that may be a bus.
#[derive(Debug, Default)]
struct Candidate {
    interfaces: BTreeSet<String>,
    pids: BTreeSet<u32>,
}

/// Returns the buses by path.
///
/// # Errors
/// When the registry cannot be read.
pub(crate) fn all(registry: &Registry) -> Result<Vec<BusEntry>, RegistryError> {
    let mut candidates = BTreeMap::<PathBuf, Candidate>::new();
    let (records, damaged) = registry.list()?;
    damaged.iter().for_each(output::warn);
    for record in records {
        if let Some(bus) = &record.linkstr {
            let bus = fs::canonicalize(bus).unwrap_or_else(|_| bus.clone());
            candidates.entry(bus).or_default().interfaces.insert(record.name.to_string());
        }
    }
    for (path, pid) in mapped_files() {
        candidates.entry(path).or_default().pids.insert(pid);
    }
    // A file with several names is one bus.
    let mut seen = BTreeSet::new();
    let entries = candidates.into_iter().filter_map(|(path, candidate)| {
        let identity = bus_identity(&path)?;
        seen.insert(identity).then(|| BusEntry::new(&path, identity, candidate))?
    });
    Ok(entries.collect())
}

/// Returns the bus at a path.
///
/// # Errors
/// When it is no bus, or cannot be read.
pub(crate) fn one(path: &Path) -> Result<BusEntry, OpenError> {
    let bus = Bus::open_read_only(path)?;
    let identity = bus_identity(path).unwrap_or_default();
    Ok(BusEntry::of(path, &bus, identity, Candidate::default()))
}

/// Returns the regular files that processes share in memory, as far as this process may examine
/// them, each with a pid.
fn mapped_files() -> Vec<(PathBuf, u32)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let files = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let maps = fs::read_to_string(process.path().join("maps")).ok()?;
        let paths: BTreeSet<PathBuf> = maps.lines().filter_map(shared_file).collect();
        Some(paths.into_iter().map(move |path| (path, pid)))
    });
    files.flatten().collect()
}

/// Returns the file of a line of `maps`, if the mapping is shared and its path leads to it here.
fn shared_file(line: &str) -> Option<PathBuf> {
    let (inode, path) = shared_mapping(line)?;
    let found = fs::metadata(path).ok()?;
    (found.is_file() && found.ino() == inode).then(|| path.to_owned())
}

/// Reads inode and path of a shared mapping: `ADDRESSES rw-s OFFSET DEVICE INODE    PATH`.
fn shared_mapping(line: &str) -> Option<(u64, &Path)> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (_addresses, rights, _offset, _device, inode) =
        (field()?, field()?, field()?, field()?, field()?);
    let path = Path::new(rest.trim_start());
    (rights.ends_with('s') && path.is_absolute()).then_some((inode.parse().ok()?, path))
}

/// Returns whether a file begins with zeros. It may be a bus that is just being made, and to open it
/// would be to wait for that; but other programs share many such files.
fn is_blank(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == [0; 4]
}

impl BusEntry {
    /// Looks at the file; returns none when it is no bus, or cannot be read.
    fn new(path: &Path, identity: BusIdentity, candidate: Candidate) -> Option<Self> {
        if is_blank(path) {
            return None;
        }
        let bus = Bus::open_read_only(path).ok()?;
        Some(Self::of(path, &bus, identity, candidate))
    }

    fn of(path: &Path, bus: &Bus, identity: BusIdentity, candidate: Candidate) -> Self {
        let Candidate { interfaces, pids } = candidate;
        let state = bus.state();
        Self {
            path: path.display().to_string(),
            size: bus.size(),
            max_frame: bus.max_frame(),
            stations: bus.stations().ok(),
            interfaces: interfaces.into_iter().collect(),
            pids: pids.into_iter().collect(),
            locked: state.locked,
            generation: state.generation,
            age_seconds: age(path),
            members: bus.members().into_iter().map(MemberEntry::new).collect(),
            identity,
        }
    }
}

/// Returns how long ago a file was made, in seconds.
fn age(path: &Path) -> Option<u64> {
    let created = fs::metadata(path).ok()?.created().ok()?;
    created.elapsed().ok().map(|age| age.as_secs())
}

impl BusEntry {
    /// Returns what `name` says of the stations that describe themselves; of many the first few.
    pub(crate) fn names(&self, name: impl Fn(&MemberEntry) -> String) -> String {
        let mut names =
            self.members.iter().take(MAX_NAMES).map(name).collect::<Vec<_>>().join(", ");
        let more = self.members.len().saturating_sub(MAX_NAMES);
        if more > 0 {
            let _ = write!(names, " and {more} more");
        }
        names
    }
}

impl MemberEntry {
    fn new(member: Member) -> Self {
        Self { pid: member.pid, mac: format_mac(member.mac), name: member.name }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn shared_mappings_of_files_are_read_from_maps() {
        let read = |line| shared_mapping(line);
        let bus = "7f0000000000-7f0000100000 rw-s 00000000 00:1b 4711       /dev/shm/my lan.bus";
        assert_eq!(read(bus), Some((4_711, Path::new("/dev/shm/my lan.bus"))));
        let private = "7f0000000000-7f0000100000 r-xp 00000000 fe:00 12      /usr/lib/libc.so.6";
        let anonymous = "7f0000000000-7f0000100000 rw-s 00000000 00:01 12    anon_inode:x";
        for line in [private, anonymous, "7f0000000000-7f0000100000 rw-p 00000000 00:00 0 ", ""] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn blank_files_of_other_programs_cost_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        for number in 0..100 {
            let path = folder.path().join(number.to_string());
            File::create(&path).and_then(|file| file.set_len(1 << 20)).unwrap();
            assert!(BusEntry::new(&path, (0, 0), Candidate::default()).is_none());
        }
        // To wait for each would take 20 s.
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
