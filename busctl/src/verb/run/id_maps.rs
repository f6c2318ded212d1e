//! The ids of a new user namespace. They are written from outside: only a process there may map
//! more than its own.

use std::fs;
use std::io;

use nix::unistd::{getegid, geteuid};

/// Maps the ids of the user namespace of process `pid`, a child of this one.
///
/// The user is root there, or keeps the own id if `keep` is set; other ids do not exist. To root,
/// all ids are what they are here, so that programs can change to other users.
pub(super) fn write(pid: u32, keep: bool) -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let set = |name: &str, text: &str| fs::write(format!("/proc/{pid}/{name}"), text);
    let inside = |id: u32| if keep { id } else { 0 };
    // Root may have lost the right to it, in a container.
    let same = |name: &str| uid.is_root() && set(name, &identity(name).unwrap_or_default()).is_ok();
    if !same("uid_map") {
        set("uid_map", &format!("{} {uid} 1", inside(uid.as_raw())))?;
    }
    if !same("gid_map") {
        // Otherwise groups could be dropped that deny access to a file.
        set("setgroups", "deny")?;
        set("gid_map", &format!("{} {gid} 1", inside(gid.as_raw())))?;
    }
    Ok(())
}

/// Returns a map from every id of this namespace to itself.
fn identity(name: &str) -> io::Result<String> {
    Ok(same_ids(&fs::read_to_string(format!("/proc/self/{name}"))?))
}

/// Returns a map of the ids that `map` has inside, each to itself.
fn same_ids(map: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, count) = (words.next()?, words.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_exist_are_mapped_to_themselves() {
        let all = "         0          0 4294967295\n";
        assert_eq!(same_ids(all), "0 0 4294967295\n");
        let podman = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(same_ids(podman), "0 0 1\n1 1 65536\n");
    }
}
