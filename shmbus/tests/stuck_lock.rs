//! The lock of an unknown owner: stations free it when no process is left that could be that, and
//! respect it otherwise.
//!
//! `/proc` must show all processes for that, and what they have mapped. In a pid namespace below
//! another, and as a user who may not look into all processes but the first, these tests are skipped.

mod mapper;

use std::fs::{DirEntry, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, LockFound, SendError, Station, StationOptions};

use self::mapper::Mapper;

const LOCK: u64 = 24;

/// Between its fork and its exec a child has everything mapped that its parent has, another test's
/// bus as well.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn sees_all_processes() -> bool {
    let sees = std::fs::metadata("/proc/self/ns/pid").is_ok_and(|file| file.ino() == 0xefff_fffc)
        && std::fs::read_dir("/proc").is_ok_and(|mut entries| entries.all(may_be_examined));
    if !sees {
        println!("skipped: some processes cannot be examined");
    }
    sees
}

/// Whether an entry of `/proc` is no process, or one that may be examined, or the first one.
fn may_be_examined(entry: std::io::Result<DirEntry>) -> bool {
    let Ok(entry) = entry else { return false };
    let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let is_denied = || {
        let read = std::fs::read(entry.path().join("maps"));
        read.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    !is_process || entry.file_name() == "1" || !is_denied()
}

fn station(path: &Path, lock_timeout: Duration) -> Station {
    let options = StationOptions::new().lock_timeout(lock_timeout);
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), options).expect("joined")
}

/// As a rump kernel leaves it that dies with the lock.
fn lock_as_a_rump_kernel(path: &Path) {
    let file = File::options().write(true).open(path).expect("a bus");
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
}

fn lock(path: &Path) -> LockFound {
    Bus::open_read_only(path).expect("a bus").lock().expect("asked")
}

#[test]
fn the_lock_of_a_process_that_may_live_is_respected() {
    if let Some((path, _)) = mapper::role() {
        let _bus = Bus::open(path).expect("a bus");
        mapper::stay_mapped();
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !sees_all_processes() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut sender = station(&path, Duration::from_secs(2));
    let test = "the_lock_of_a_process_that_may_live_is_respected";
    let mapper = Mapper::start(test, &path, "possible owner");
    lock_as_a_rump_kernel(&path);
    for _ in 0..2 {
        let error = sender.send(&[0xff; 60]).expect_err("locked");
        assert!(matches!(error, SendError::Busy { .. }), "{error}");
        assert_eq!(lock(&path), LockFound::Unknown);
    }
    drop(mapper);
    sender.send(&[0xff; 60]).expect("its owner is gone");
    assert_eq!(lock(&path), LockFound::Free);
}

#[test]
fn stations_that_only_wait_free_it_too() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !sees_all_processes() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut waiting, mut polling) =
        (station(&path, Duration::ZERO), station(&path, Duration::ZERO));
    let mut burst = Burst::new(8);
    for wait in [true, false] {
        lock_as_a_rump_kernel(&path);
        let begin = Instant::now();
        while lock(&path) != LockFound::Free {
            assert!(begin.elapsed() < Duration::from_secs(30), "it is never freed");
            if wait {
                waiting.wait(Some(Duration::from_millis(100))).expect("a bus");
                waiting.recv_burst(&mut burst);
            } else {
                polling.recv_burst(&mut burst);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(begin.elapsed() >= Duration::from_millis(1_900), "{:?}", begin.elapsed());
    }
    // The bus works.
    waiting.send(&[0xff; 60]).expect("sent");
    assert_eq!(polling.recv_burst(&mut burst), 1);
}

/// By default a station waits as long as that for the lock when it joins.
#[test]
fn a_station_that_joins_frees_it() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !sees_all_processes() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(station(&path, Duration::ZERO));
    lock_as_a_rump_kernel(&path);
    station(&path, Duration::from_secs(2)).send(&[0xff; 60]).expect("sent");
    assert_eq!(lock(&path), LockFound::Free);
}
