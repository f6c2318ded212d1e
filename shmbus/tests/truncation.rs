//! A bus file that is cut short under its members: every call ends in an error or in nothing, and
//! the process lives.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use shmbus::{BUS_SIZE, Burst, Bus, SendError, Station, StationOptions, Tap, WaitError, WaitSet};

const FRAME: [u8; 60] = [0xff; 60];

fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).and_then(|file| file.set_len(len)).expect("cut");
}

fn members(path: &Path) -> (Station, Station, Tap) {
    shmbus::survive_truncation().expect("a handler");
    let join =
        || Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), StationOptions::new());
    let (sender, receiver) = (join().expect("joined"), join().expect("joined"));
    let tap = Tap::new(Bus::open_read_only(path).expect("a bus")).expect("sound");
    (sender, receiver, tap)
}

#[test]
fn a_bus_that_is_cut_to_nothing_is_lost_to_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut sender, mut receiver, mut tap) = members(&path);
    sender.send(&FRAME).expect("sent");
    cut(&path, 0);

    let mut burst = Burst::new(8);
    assert_eq!(receiver.recv_burst(&mut burst), 0);
    assert_eq!(tap.recv_burst(&mut burst), 0);
    assert!(matches!(sender.send(&FRAME), Err(SendError::Lost { .. })));
    for wait in [receiver.wait(None), tap.wait(None), sender.wait(Some(Duration::ZERO))] {
        assert!(matches!(wait, Err(WaitError::Lost { .. })), "{wait:?}");
    }
    assert!(sender.bus().is_lost() && receiver.bus().is_lost() && tap.bus().is_lost());
    assert_eq!(
        std::fs::metadata(&path).expect("still there").len(),
        0,
        "no station wrote to the rest"
    );
}

#[test]
fn frames_that_are_cut_off_are_not_handed_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut sender, mut receiver, _tap) = members(&path);
    // The header's page stays, the frames behind it go.
    for _ in 0..100 {
        sender.send_burst([[0xff; 1_000]; 8]).expect("sent");
    }
    cut(&path, 4_096);
    let mut burst = Burst::new(1_000);
    assert_eq!(receiver.recv_burst(&mut burst), 0, "nothing vouches for any of them");
    assert!(receiver.bus().is_lost());
}

#[test]
fn a_file_that_is_begun_anew_is_not_the_same_bus() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut sender, _receiver, _tap) = members(&path);
    // As a program would that truncates and extends, while no station touches the pages.
    cut(&path, 0);
    cut(&path, BUS_SIZE);
    assert!(matches!(sender.send(&FRAME), Err(SendError::Lost { .. })));
}

#[test]
fn a_sleeping_station_gets_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (_sender, mut receiver, _tap) = members(&path);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| receiver.wait(None));
        cut(&path, 0);
        let woken = sleeper.join().expect("no panic");
        assert!(matches!(woken, Err(WaitError::Lost { .. })), "{woken:?}");
    });
}

/// By a write that wakes them, and by a store that does not: then they find out by themselves.
#[test]
fn a_waiting_station_gets_an_error_when_its_bus_is_overwritten() {
    for wakes in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let (mut sender, mut receiver, mut tap) = members(&path);
        let wait_set = WaitSet::new();
        tap.join_wait_set(&wait_set, 0);
        assert!(!tap.arm().expect("watched"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| receiver.wait(None));
            let file = File::options().read(true).write(true).open(&path).expect("a bus");
            if wakes {
                file.write_all_at(b"oops", 0).expect("overwritten");
            } else {
                let map = memmap2::MmapRaw::map_raw(&file).expect("mapped");
                // SAFETY: the mapping has more than a byte, and there is no reference to it.
                unsafe { map.as_mut_ptr().write_volatile(0) };
            }
            let woken = waiting.join().expect("no panic");
            assert!(matches!(woken, Err(WaitError::Lost { .. })), "{woken:?}");
        });
        assert_eq!(wait_set.wait(None).expect("slept"), [0]);
        assert!(matches!(tap.arm(), Err(WaitError::Lost { .. })));
        assert!(matches!(sender.send(&FRAME), Err(SendError::Lost { .. })));
        assert!(!sender.bus().state().locked, "the lock is not kept");
    }
}

/// It reads nothing, and the page it looks at is still there.
#[test]
fn a_station_that_only_discards_gets_an_error_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (_sender, mut receiver, _tap) = members(&path);
    cut(&path, 4_096);
    receiver.discard_pending();
    assert!(receiver.bus().is_lost());
}

/// Where a bus has its lock may stand what looks like a dead station's.
#[test]
fn a_file_that_is_no_bus_any_more_is_not_repaired() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut station, _other, _tap) = members(&path);
    let file = File::options().write(true).open(&path).expect("a bus");
    for lock in [0, 1_u32] {
        let mut content = vec![7; usize::try_from(BUS_SIZE).expect("a small file")];
        content[24..28].copy_from_slice(&lock.to_ne_bytes());
        file.write_all_at(&content, 0).expect("written");
        leave_alone(&path, &mut station, &content);
    }
}

fn leave_alone(path: &Path, station: &mut Station, content: &[u8]) {
    assert!(matches!(station.wait(Some(Duration::ZERO)), Err(WaitError::Lost { .. })));
    assert!(matches!(station.arm(), Err(WaitError::Lost { .. })));
    assert!(matches!(station.send(&[0xff; 60]), Err(SendError::Lost { .. })));
    for _ in 0..1_000 {
        assert_eq!(station.recv_burst(&mut Burst::new(8)), 0);
    }
    assert!(std::fs::read(path).expect("there") == content, "it was changed");
}
