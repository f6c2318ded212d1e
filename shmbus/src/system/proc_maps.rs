//! Which processes may hold the lock of a bus without saying so, as `/proc` shows it.
//!
//! A process holds the lock of a bus only if it has mapped the file shared and for writing. A
//! station of this kind says in the lock word that it holds the lock, so it is not the owner of a
//! lock that names none. Its process shows that it is a station: one of its descriptors of the file
//! has the byte of the station's number locked (see [`liveness`]), and `/proc` shows those locks
//! beside the descriptor. So what remains, the *foreign* processes, are those with more mappings of
//! that kind than descriptors of stations.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use xattr::FileExt as _;

use crate::system::liveness;

/// The inode of `/proc/self/ns/pid` in the pid namespace that holds all others.
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;
/// The process that starts all others there.
const INIT: u32 = 1;

/// The processes that have a file mapped, as far as this process can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MappedBy {
    /// How many other processes have it mapped, for reading only or for writing too.
    pub(crate) processes: usize,
    /// Ids of those without a station that only read it. They cannot hold the lock.
    pub(crate) readers: Vec<u32>,
    /// Ids of other processes that may hold the lock without saying so.
    pub(crate) foreign: Vec<u32>,
    /// Whether this process itself may: it has mappings that are no station's.
    pub(crate) foreign_here: bool,
    /// The numbers of the stations in the processes that were examined.
    pub(crate) stations: BTreeSet<u32>,
    /// Processes that could not be examined: those of other users.
    pub(crate) unseen: usize,
    /// Those of them that the permissions of the file, or their capabilities, let write to it, and
    /// that are not the first process: in the initial pid namespace that runs the system and uses
    /// no bus, and often even root may not examine it.
    pub(crate) unseen_writers: usize,
}

impl MappedBy {
    /// Whether no process can hold the lock of `file` without saying so. In doubt it is `false`:
    ///
    /// - where `/proc` does not show all processes: in a pid namespace below another, or when it is
    ///   mounted to hide those of other users;
    /// - when a process could not be examined that may write the file;
    /// - when a station of this kind lives in a process that was not examined, so that rump kernels
    ///   may live where it does.
    pub(crate) fn proves_that_no_owner_lives(&self, file: &File) -> bool {
        let sees_all = fs::metadata("/proc/self/ns/pid")
            .is_ok_and(|namespace| namespace.ino() == INITIAL_PID_NAMESPACE)
            && fs::metadata("/proc/1").is_ok();
        sees_all
            && self.foreign.is_empty()
            && !self.foreign_here
            && self.unseen_writers == 0
            && self.unseen_stations(file) == Some(0)
    }

    /// Returns how many stations live in processes that were not examined; `None` when that cannot
    /// be found out. The station of `file`'s own description, if there is one, was examined.
    pub(crate) fn unseen_stations(&self, file: &File) -> Option<usize> {
        // The kernel does not count the lock of the description that asks.
        let own = usize::from(holds_number(file).ok()?);
        let seen = self.stations.len().saturating_sub(own);
        liveness::count(file).ok().map(|all| all.saturating_sub(seen))
    }
}

/// Searches the mappings of every process for those of `file`, which this process has mapped at
/// `address`.
///
/// On some file systems (btrfs, for one) the device in `/proc` differs from the one in `stat`. So
/// device and inode are read from this process's own mapping.
pub(crate) fn mapped_by(address: usize, file: &File) -> io::Result<MappedBy> {
    let metadata = file.metadata()?;
    let own = fs::read_to_string("/proc/self/maps")?;
    let mapped = own.lines().find(|line| begins_at(line, address)).and_then(file_of);
    let Some(mapped) = mapped else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "this process's own mapping is not shown",
        ));
    };
    let writable = |maps: &str| {
        maps.lines().filter(|line| is_writable(line) && file_of(line) == Some(mapped)).count()
    };
    let own_capabilities = capabilities(&fs::read_to_string("/proc/self/status")?, "CapEff:");
    // A list of rights beside the mode may let any user write.
    let has_list = matches!(file.get_xattr("system.posix_acl_access"), Ok(Some(_)));
    let mut found = MappedBy::default();
    let here = stations_in("/proc/self", mapped)?;
    found.foreign_here = writable(&own) > here.descriptors;
    found.stations.extend(here.numbers);
    // Its number where `/proc` comes from, which may be another pid namespace than this process's.
    let this = fs::read_link("/proc/self")?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if name == this {
            continue;
        }
        let process = format!("/proc/{pid}");
        let examined = fs::read_to_string(format!("{process}/maps")).and_then(|maps| {
            let is_there = maps.lines().any(|line| file_of(line) == Some(mapped));
            let mappings = writable(&maps);
            let there =
                if mappings > 0 { stations_in(&process, mapped)? } else { Stations::default() };
            Ok((is_there, mappings, there))
        });
        match examined {
            Ok((is_there, mappings, there)) => {
                found.processes += usize::from(is_there);
                if mappings > there.descriptors {
                    found.foreign.push(pid);
                } else if is_there && mappings == 0 {
                    found.readers.push(pid);
                }
                found.stations.extend(there.numbers);
            }
            // It ended: then it maps nothing.
            Err(error) if has_ended(&error) => {}
            Err(_) => {
                found.unseen += 1;
                let may_write = match fs::read_to_string(format!("{process}/status")) {
                    _ if pid == INIT => false,
                    Ok(status) => {
                        has_memory(&status)
                            && (has_list
                                || capabilities(&status, "CapPrm:") & !own_capabilities != 0
                                || may_write(&status, &metadata))
                    }
                    Err(error) => !has_ended(&error),
                };
                found.unseen_writers += usize::from(may_write);
            }
        }
    }
    Ok(found)
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// The stations of this kind on one bus in one process.
#[derive(Debug, Default)]
struct Stations {
    /// Descriptors that hold a number.
    descriptors: usize,
    numbers: BTreeSet<u32>,
}

/// `bus` is the device and the inode, as `/proc` shows them.
fn stations_in(process: &str, bus: (&str, &str)) -> io::Result<Stations> {
    let mut found = Stations::default();
    for entry in fs::read_dir(format!("{process}/fdinfo"))? {
        // What was closed meanwhile is no station's.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let numbers: BTreeSet<u32> =
            info.lines().filter_map(|line| number_in(line, Some(bus))).collect();
        found.descriptors += usize::from(!numbers.is_empty());
        found.numbers.extend(numbers);
    }
    Ok(found)
}

/// Whether the description of `file` holds a number.
fn holds_number(file: &File) -> io::Result<bool> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    Ok(info.lines().any(|line| number_in(line, None).is_some()))
}

/// The number of a station that holds this lock of its descriptor, on `bus` if that is given.
///
/// `lock: 1: OFDLCK ADVISORY WRITE -1 00:1b:1723 1099511627853 1099511627853` is such a line.
fn number_in(line: &str, bus: Option<(&str, &str)>) -> Option<u32> {
    let mut words = line.strip_prefix("lock:")?.split_ascii_whitespace().skip(1);
    if [words.next()?, words.next()?, words.next()?] != ["OFDLCK", "ADVISORY", "WRITE"] {
        return None;
    }
    let file = words.nth(1)?.rsplit_once(':')?;
    let (start, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    if bus.is_some_and(|bus| bus != file) { None } else { liveness::number_at(start, end) }
}

/// Whether a process has memory of its own. Threads of the kernel and what is left of processes
/// that ended have none.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

/// A set of capabilities of a process with this status; none where it does not say.
fn capabilities(status: &str, set: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix(set));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether the mode of a file lets a process with this status write to it.
fn may_write(status: &str, file: &Metadata) -> bool {
    let ids = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.into_iter().flat_map(str::split_ascii_whitespace).flat_map(str::parse).collect()
    };
    let is_owner = ids("Uid:").contains(&file.uid());
    let is_in_group = ids("Gid:").contains(&file.gid()) || ids("Groups:").contains(&file.gid());
    is_owner && file.mode() & 0o200 != 0
        || is_in_group && file.mode() & 0o020 != 0
        || file.mode() & 0o002 != 0
}

/// `7f00-7f01 rw-s 00000000 00:1a 123   /dev/shm/lan`: the fourth field is the device, the fifth
/// the inode.
fn file_of(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    Some((fields.next()?, fields.next()?))
}

/// Whether the mapping is shared, and may be written.
fn is_writable(line: &str) -> bool {
    let rights = line.split_ascii_whitespace().nth(1).map(str::as_bytes);
    matches!(rights, Some([_, b'w', _, b's']))
}

fn begins_at(line: &str, address: usize) -> bool {
    line.split_once('-').is_some_and(|(begin, _)| usize::from_str_radix(begin, 16) == Ok(address))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let line =
            "7f5d1c000000-7f5d1c100000 rw-s 00000000 00:1a 1234                       /dev/shm/a b";
        assert_eq!(file_of(line), Some(("00:1a", "1234")));
        assert!(begins_at(line, 0x7f5d_1c00_0000) && !begins_at(line, 0x7f5d_1c10_0000));
        assert_eq!(file_of(""), None);
        assert!(!begins_at("", 0));
        assert!(is_writable(line));
        for other in ["1-2 r--s 0 00:1a 1 /x", "1-2 rw-p 0 00:1a 1 /x", "", "1-2 rw"] {
            assert!(!is_writable(other), "{other}");
        }
    }

    #[test]
    fn only_the_lock_of_a_station_on_the_bus_makes_one() {
        let line = |kind: &str, bus: &str, range: &str| {
            number_in(&format!("lock:\t1: {kind} -1 {bus} {range}"), Some(("00:1b", "1723")))
        };
        let (station, bus) = ("OFDLCK ADVISORY  WRITE", "00:1b:1723");
        assert_eq!(line(station, bus, "1099511627853 1099511627853"), Some(77));
        assert_eq!(line(station, "00:1b:99", "1099511627853 1099511627853"), None);
        assert_eq!(line(station, "fe:00:1723", "1099511627853 1099511627853"), None);
        assert_eq!(line(station, bus, "1099511627853 EOF"), None);
        assert_eq!(line(station, bus, "1099511627776 1099511627776"), None, "a maker");
        assert_eq!(line("OFDLCK ADVISORY  READ", bus, "1099511627853 1099511627853"), None);
        assert_eq!(line("POSIX  ADVISORY  WRITE", bus, "1099511627853 1099511627853"), None);
        assert_eq!(number_in("pos:\t0", None), None);
    }

    #[test]
    fn the_mode_says_who_may_write() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = File::create(folder.path().join("bus")).expect("made");
        let metadata = |mode| {
            file.set_permissions(PermissionsExt::from_mode(mode)).expect("changed");
            file.metadata().expect("an open file")
        };
        let (user, group) = (metadata(0o600).uid(), metadata(0o600).gid());
        let status = |user: u32, group: u32, more: &str| {
            format!(
                "Name:\tx\nUid:\t{user}\t{user}\t{user}\t{user}\nGid:\t{group}\t9\t9\t9\nGroups:\t{more}\n"
            )
        };
        let stranger = status(user + 1, group + 1, "");
        assert!(may_write(&status(user, group + 1, ""), &metadata(0o600)));
        assert!(!may_write(&stranger, &metadata(0o660)));
        assert!(may_write(&stranger, &metadata(0o602)));
        assert!(may_write(&status(user + 1, group, ""), &metadata(0o620)));
        assert!(may_write(&status(user + 1, group + 1, &format!("7 {group}")), &metadata(0o620)));
        assert_eq!(capabilities("CapPrm:\t00000000a80425fb\n", "CapPrm:"), 0xa804_25fb);
        assert_eq!(capabilities("Name:\tx", "CapPrm:"), 0);
        assert!(!has_memory(&stranger) && has_memory("VmSize:\t 8 kB"));
    }
}
