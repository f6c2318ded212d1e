//! Which processes have a file mapped, as far as `/proc` shows it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};

/// Other processes that have a file mapped, and how many could not be looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mappers {
    /// Process ids.
    pub(crate) pids: Vec<u32>,
    /// Processes of other users, or that ended meanwhile.
    pub(crate) unseen: usize,
}

/// Looks through the mappings of every process but this one.
pub(crate) fn mappers(file: &File) -> io::Result<Mappers> {
    let metadata = file.metadata()?;
    let device = format!("{:02x}:{:02x}", major(metadata.dev()), minor(metadata.dev()));
    let inode = metadata.ino().to_string();
    let mut found = Mappers::default();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        match fs::read_to_string(format!("/proc/{pid}/maps")) {
            Ok(maps) if maps.lines().any(|line| is_of(line, &device, &inode)) => found.pids.push(pid),
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

/// `7f00-7f01 rw-s 00000000 00:1a 123   /dev/shm/lan`: the fourth field is the device, the fifth the inode.
fn is_of(line: &str, device: &str, inode: &str) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(3);
    fields.next() == Some(device) && fields.next() == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let line = "7f5d1c000000-7f5d1c100000 rw-s 00000000 00:1a 1234                       /dev/shm/a b";
        assert!(is_of(line, "00:1a", "1234"));
        assert!(!is_of(line, "00:1a", "123"));
        assert!(!is_of(line, "00:1b", "1234"));
        assert!(!is_of("", "00:1a", "1234"));
    }
}
