//! Which processes have a file mapped, as `/proc` shows it.

use std::{fs, io};

/// The processes that have a file mapped, as far as this process can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MappedBy {
    /// Ids of other processes.
    pub(crate) pids: Vec<u32>,
    /// Processes that could not be examined: those of other users.
    pub(crate) unseen: usize,
    /// Further mappings of this process.
    pub(crate) own: usize,
}

/// Searches the mappings of every process for those of the file that this process has mapped at
/// `address`.
///
/// On some file systems (btrfs, for one) the device in `/proc` differs from the one in `stat`. So
/// device and inode are read from this process's own mapping.
pub(crate) fn mapped_by(address: usize) -> io::Result<MappedBy> {
    let own = fs::read_to_string("/proc/self/maps")?;
    let file = own.lines().find(|line| begins_at(line, address)).and_then(file_of);
    let Some(file) = file else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "this process's own mapping is not shown",
        ));
    };
    let is_of = |line: &&str| file_of(line) == Some(file);
    let mut found = MappedBy { own: own.lines().filter(is_of).count() - 1, ..MappedBy::default() };
    // Its number where `/proc` comes from, which may be another pid namespace than this process's.
    let this = fs::read_link("/proc/self")?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if name == this {
            continue;
        }
        match fs::read_to_string(format!("/proc/{pid}/maps")) {
            Ok(maps) if maps.lines().any(|line| is_of(&line)) => found.pids.push(pid),
            Ok(_) => {}
            // It ended: then it maps nothing.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(_) => found.unseen += 1,
        }
    }
    found.pids.sort_unstable();
    Ok(found)
}

/// `7f00-7f01 rw-s 00000000 00:1a 123   /dev/shm/lan`: the fourth field is the device, the fifth
/// the inode.
fn file_of(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    Some((fields.next()?, fields.next()?))
}

fn begins_at(line: &str, address: usize) -> bool {
    line.split_once('-').is_some_and(|(begin, _)| usize::from_str_radix(begin, 16) == Ok(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let line =
            "7f5d1c000000-7f5d1c100000 rw-s 00000000 00:1a 1234                       /dev/shm/a b";
        assert_eq!(file_of(line), Some(("00:1a", "1234")));
        assert!(begins_at(line, 0x7f5d_1c00_0000) && !begins_at(line, 0x7f5d_1c10_0000));
        assert_eq!(file_of(""), None);
        assert!(!begins_at("", 0));
    }
}
