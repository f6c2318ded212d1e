//! Many that make and open the same bus at once.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use nix::sys::resource::{Resource, setrlimit};
use shmbus::{BUS_SIZE, Bus, BusOptions, OpenError, Station, StationOptions};

/// For a process of a test's own: where it is to make buses.
const FOLDER: &str = "MAKING_TEST_FOLDER";

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("plain"))
        .collect()
}

#[test]
fn opening_a_bus_that_is_being_made_waits_for_it() {
    for _ in 0..200 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            let (path, start) = (&path, &start);
            for _ in 0..2 {
                scope.spawn(move || {
                    start.wait();
                    let bus = Bus::open_or_create(path, 0o600).expect("made or joined");
                    Station::join(bus, StationOptions::new()).expect("joined");
                });
            }
            for writable in [true, false] {
                scope.spawn(move || {
                    start.wait();
                    while !path.exists() {
                        std::thread::yield_now();
                    }
                    let open = if writable { Bus::open } else { Bus::open_read_only };
                    let bus = open(path).expect("it is there, or about to be");
                    assert_eq!(bus.state().version, 3);
                });
            }
        });
    }
}

/// The first process decides; the others join its bus.
#[test]
fn two_makers_that_want_different_sizes_meet_on_one_bus() {
    for blank in [false, true] {
        for _ in 0..100 {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("bus");
            if blank {
                File::create(&path).expect("an empty file");
            }
            let start = Barrier::new(3);
            let sizes: Vec<u64> = std::thread::scope(|scope| {
                let (path, start) = (&path, &start);
                let makers = [BUS_SIZE, 2 * BUS_SIZE, 3 * BUS_SIZE].map(|size| {
                    scope.spawn(move || {
                        start.wait();
                        let bus = BusOptions::new()
                            .size(size)
                            .open_or_create(path)
                            .expect("made or joined");
                        Station::join(bus, StationOptions::new()).expect("joined").bus().size()
                    })
                });
                makers.into_iter().map(|maker| maker.join().expect("no panic")).collect()
            });
            let size = Bus::open(&path).expect("a sound bus").size();
            assert_eq!(sizes, [size; 3]);
            assert_eq!(names(folder.path()), ["bus"]);
        }
    }
}

/// A limit on the size of files is the same for all threads, so it is set in a process of its own.
#[test]
fn a_failed_maker_leaves_nothing_and_removes_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        setrlimit(Resource::RLIMIT_FSIZE, BUS_SIZE, BUS_SIZE).expect("lowered");
        let big = BusOptions::new().size(2 * BUS_SIZE);
        for name in ["none", "blank"] {
            let error = big.open_or_create(folder.join(name)).expect_err("too large");
            assert!(matches!(error, OpenError::FileSizeLimit { .. }), "{error}");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    File::create(folder.path().join("blank")).expect("an empty file");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_failed_maker_leaves_nothing_and_removes_nothing"])
        .env(FOLDER, folder.path())
        .output()
        .expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(names(folder.path()), ["blank"]);
    assert_eq!(std::fs::metadata(folder.path().join("blank")).expect("there").len(), 0);
}

/// Makers are killed at any moment of it: there is a bus, or nothing, and never a file that is in
/// the way.
#[test]
fn a_maker_that_is_killed_leaves_nothing_half_made() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        for nth in 0.. {
            let path = Path::new(&folder).join(format!("bus{nth}"));
            Bus::open_or_create(path, 0o600).expect("made");
        }
    }
    let mut made = 0;
    for round in 0..40 {
        let folder =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let mut maker = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_maker_that_is_killed_leaves_nothing_half_made"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        while !folder.path().join("bus3").exists() {
            assert!(maker.try_wait().expect("asked").is_none(), "it ended");
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_micros(round * 37));
        maker.kill().expect("killed");
        maker.wait().expect("reaped");
        for name in names(folder.path()) {
            let path = folder.path().join(&name);
            let bus = Bus::open(&path).unwrap_or_else(|error| panic!("{error}"));
            Station::join(bus, StationOptions::new())
                .expect("joined")
                .send(&[0xff; 60])
                .expect("sent");
            made += 1;
        }
    }
    assert!(made > 100, "{made} buses");
}

#[test]
fn a_file_with_something_in_it_is_no_blank_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("photo");
    let mut content = vec![0; 5_000];
    content[4_000] = 1;
    std::fs::write(&path, &content).expect("written");
    let error = Bus::open_or_create(&path, 0o600).expect_err("the file of another program");
    assert!(matches!(error, OpenError::WrongMagic { magic: 0, .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("there"), content);
}

/// It has no room for a magic, and yet it is the file of another program.
#[test]
fn a_file_of_a_few_bytes_is_no_blank_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    for content in [&b"a"[..], b"\0b", b"hi\n"] {
        std::fs::write(&path, content).expect("written");
        let error =
            Bus::open_or_create(&path, 0o600).expect_err("it is the file of another program");
        assert!(matches!(error, OpenError::WrongMagic { .. }), "{error}");
        assert!(std::fs::read(&path).expect("there") == content, "it was changed");
    }
    for blank in [&b""[..], b"\0\0\0"] {
        std::fs::write(&path, blank).expect("written");
        Bus::open_or_create(&path, 0o600).expect("nothing is in it");
    }
}
