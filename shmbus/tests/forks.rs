//! Processes that are forked from one and join then: the library's random numbers are not their
//! parent's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe};
use shmbus::{Bus, Station, StationOptions};

/// What tells a station from others: its identity and its address.
fn join(path: &Path) -> Vec<u8> {
    let bus = Bus::open(path).expect("a bus");
    let station = Station::join(bus, StationOptions::new()).expect("joined");
    [&station.sender().to_ne_bytes()[..], &station.mac().into_array()].concat()
}

#[test]
fn forked_processes_are_different_stations() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(Bus::open_or_create(&path, 0o600).expect("a bus"));
    // From here on this thread's generator has a state that children have as well.
    let parents = join(&path);
    let mut all = vec![parents];
    for _ in 0..2 {
        let (read, write) = pipe().expect("a pipe");
        // SAFETY: the child is a copy of this thread alone. What it calls before it ends takes no
        // lock but the allocator's, which is made to be used after a fork.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let written = File::from(write).write_all(&join(&path));
                // SAFETY: nothing of the parent's is to be cleaned up by the child.
                unsafe { nix::libc::_exit(i32::from(written.is_err())) }
            }
            ForkResult::Parent { child } => {
                drop(write);
                let mut theirs = Vec::new();
                File::from(read).read_to_end(&mut theirs).expect("read");
                waitpid(child, None).expect("reaped");
                assert_eq!(theirs.len(), 14);
                all.push(theirs);
            }
        }
    }
    let unlike = |at: &dyn Fn(&Vec<u8>) -> Vec<u8>| {
        let mut parts: Vec<Vec<u8>> = all.iter().map(at).collect();
        parts.sort();
        parts.dedup();
        parts.len()
    };
    assert_eq!(unlike(&|station| station[..8].to_vec()), 3, "identities: {all:?}");
    assert_eq!(unlike(&|station| station[8..].to_vec()), 3, "addresses: {all:?}");
}
