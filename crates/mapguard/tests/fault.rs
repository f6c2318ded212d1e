//! Real faults in real mappings.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use mapguard::Guard;
use memmap2::{MmapOptions, MmapRaw};

const SIZE: usize = 16 * 4096;

fn mapping() -> (File, MmapRaw) {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(SIZE as u64).expect("room");
    let map = MmapOptions::new().map_raw(&file).expect("mapped");
    (file, map)
}

fn read(map: &MmapRaw, at: usize) -> u8 {
    assert!(at < map.len());
    // SAFETY: inside the mapping.
    let from = unsafe { map.as_ptr().add(at) };
    // SAFETY: as above; any byte is one.
    unsafe { from.read_volatile() }
}

fn write(map: &MmapRaw, at: usize, byte: u8) {
    assert!(at < map.len());
    // SAFETY: inside the mapping.
    let to = unsafe { map.as_mut_ptr().add(at) };
    // SAFETY: as above.
    unsafe { to.write_volatile(byte) };
}

#[test]
fn a_mapping_that_is_cut_short_becomes_zeros_and_is_known_to_be_lost() {
    mapguard::install().expect("a handler");
    let (file, map) = mapping();
    let (other_file, other) = mapping();
    // SAFETY: whole mappings that outlive the guards.
    let guard = unsafe { Guard::new(map.as_ptr(), SIZE) };
    // SAFETY: as above.
    let other_guard = unsafe { Guard::new(other.as_ptr(), SIZE) };
    write(&map, 0, 7);
    write(&other, SIZE - 1, 9);

    file.set_len(4096).expect("cut");
    assert_eq!(read(&map, 0), 7, "what is left is still there");
    assert!(!guard.is_lost());
    assert_eq!(read(&map, 4096), 0);
    assert!(guard.is_lost());
    write(&map, SIZE - 1, 1);
    assert_eq!(read(&map, SIZE - 1), 1, "the replacement can be written");

    assert_eq!(read(&other, SIZE - 1), 9);
    assert!(!other_guard.is_lost(), "others are not touched");
    drop(other_file);
}

#[test]
fn mappings_under_one_guard_are_lost_together() {
    mapguard::install().expect("a handler");
    let (_first_file, first) = mapping();
    let (second_file, second) = mapping();
    // SAFETY: whole mappings that outlive the guard.
    let mut guard = unsafe { Guard::new(first.as_ptr(), SIZE) };
    // SAFETY: as above.
    unsafe { guard.add(second.as_ptr(), SIZE) };
    second_file.set_len(0).expect("cut");
    write(&second, 100, 1);
    assert!(guard.is_lost());
}

#[test]
fn threads_that_fault_at_once_all_go_on() {
    mapguard::install().expect("a handler");
    for _ in 0..100 {
        let (file, map) = mapping();
        // SAFETY: a whole mapping that outlives the guard.
        let guard = unsafe { Guard::new(map.as_ptr(), SIZE) };
        file.set_len(0).expect("cut");
        std::thread::scope(|scope| {
            for page in 0..4 {
                let map = &map;
                scope.spawn(move || write(map, page * 4096, 1));
            }
        });
        assert!(guard.is_lost());
    }
}

/// The rest of a test that has to happen in a process of its own: this one again, with a word in
/// the environment.
fn in_a_child(test: &str) -> std::process::ExitStatus {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args(["--exact", test])
        .env("IN_A_CHILD", "1")
        .output()
        .expect("started");
    output.status
}

#[test]
fn a_fault_that_is_not_ours_kills_as_ever() {
    if std::env::var_os("IN_A_CHILD").is_some() {
        mapguard::install().expect("a handler");
        let (file, map) = mapping();
        file.set_len(0).expect("cut");
        read(&map, 0);
        return;
    }
    let status = in_a_child("a_fault_that_is_not_ours_kills_as_ever");
    assert_eq!(status.signal(), Some(7), "{status}");
}
