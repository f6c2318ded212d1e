//! Locks that an unknown owner left behind.

mod mapper;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shmbus::{
    Burst, Bus, BusOptions, FrameSlot, FrameSource, LockFound, OpenError, RepairError, RingFound,
    SendError, Station, StationOptions, Tap, repair,
};

use self::mapper::Mapper;

const LOCK: u64 = 24;
const LAST: u64 = 20;
const GENERATION: u64 = 8;

/// Between its fork and its exec a child has everything mapped that its parent has, another test's
/// bus as well.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn station(path: &Path) -> Station {
    let options = StationOptions::new().lock_timeout(Duration::from_millis(20));
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), options).expect("joined")
}

fn frames(path: &Path) -> usize {
    Tap::oldest(Bus::open_read_only(path).expect("a bus"))
        .expect("sound")
        .recv_burst(&mut Burst::new(1_000))
}

/// As a rump kernel leaves it that dies between storing `last` and writing the packet.
fn die_as_a_rump_kernel(path: &Path) {
    let file = File::options().read(true).write(true).open(path).expect("a bus");
    let mut last = [0; 4];
    file.read_exact_at(&mut last, LAST).expect("a header");
    let mut len = [0; 4];
    file.read_exact_at(&mut len, 32 + u64::from(u32::from_ne_bytes(last))).expect("a packet");
    let next = u32::from_ne_bytes(last) + 24 + u32::from_ne_bytes(len);
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
    file.write_all_at(&next.to_ne_bytes(), LAST).expect("stored");
}

#[test]
fn the_lock_of_an_unknown_owner_is_not_broken_but_repaired() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut sender = station(&path);
    sender.send_burst([[0xff; 60]; 5]).expect("sent");
    die_as_a_rump_kernel(&path);
    let error = sender.send(&[0xff; 60]).expect_err("locked");
    assert!(
        matches!(error, SendError::Busy { sent: 0, .. })
            && error.to_string().contains("repair the bus"),
        "{error}"
    );

    let done = repair(&path, false).expect("only this process has it mapped");
    assert_eq!((done.lock, done.ring), (LockFound::Unknown, RingFound::NewestDropped));
    assert_eq!(frames(&path), 5, "what was whole is kept");
    sender.send(&[0xff; 60]).expect("the bus still works");
    assert_eq!(frames(&path), 6);

    let again = repair(&path, false).expect("nothing to do");
    assert_eq!((again.lock, again.ring), (LockFound::Free, RingFound::Sound));
    assert_eq!(frames(&path), 6);
}

fn mapper(path: &Path, kind: &str) -> Mapper {
    Mapper::start("a_bus_in_use_is_left_alone", path, kind)
}

/// A frame whose bytes never come.
#[derive(Clone, Copy)]
struct Unfinished;

impl FrameSource for Unfinished {
    fn frame_len(&self) -> usize {
        60
    }

    fn write_to(&self, _: &mut FrameSlot<'_>) {
        mapper::stay_mapped();
    }
}

#[test]
fn a_bus_in_use_is_left_alone() {
    if let Some((path, kind)) = mapper::role() {
        let tap = (kind == "tap").then(|| Bus::open_read_only(&path).expect("a bus"));
        let bus = (kind != "tap").then(|| Bus::open(&path).expect("a bus"));
        let mut station = if kind == "station" || kind == "owner" {
            bus.map(|bus| Station::join(bus, StationOptions::new()).expect("joined"))
        } else {
            mapper::stay_mapped();
            drop((tap, bus));
            return;
        };
        if let Some(owner) = station.as_mut().filter(|_| kind == "owner") {
            // It stays at this frame for ever, with the lock.
            let _ = owner.send_burst([Unfinished]);
        }
        mapper::stay_mapped();
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(station(&path));
    die_as_a_rump_kernel(&path);
    let before = std::fs::read(&path).expect("a bus");
    let mapper = mapper(&path, "tap");
    match repair(&path, false) {
        Err(RepairError::InUse { pids, .. }) => assert_eq!(pids, [mapper.0.id()]),
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(&path).expect("a bus") == before, "nothing is changed");
    assert_eq!(repair(&path, true).expect("by force").lock, LockFound::Unknown);
    drop(mapper);
    assert_eq!(repair(&path, false).expect("no other process is there").lock, LockFound::Free);
}

/// A station says in the lock word that it has the lock.
#[test]
fn only_stations_are_not_in_the_way() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    station(&path).send(&[0xff; 60]).expect("sent");
    for kind in ["tap", "possible owner"] {
        let mapper = mapper(&path, kind);
        die_as_a_rump_kernel(&path);
        match repair(&path, false) {
            Err(RepairError::InUse { pids, .. }) => assert_eq!(pids, [mapper.0.id()]),
            other => panic!("{other:?}"),
        }
        drop(mapper);
        repair(&path, false).expect("no other process is there");
    }
    let station = mapper(&path, "station");
    die_as_a_rump_kernel(&path);
    let done = repair(&path, false).expect("the station is not the owner");
    assert_eq!((done.lock, done.ring), (LockFound::Unknown, RingFound::NewestDropped));
    assert_eq!(frames(&path), 1);
    drop(station);
}

/// Even while processes map it that may be owners: one of them waits for the lock.
#[test]
fn the_lock_of_a_dead_station_is_freed_beside_others() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(station(&path));
    let owner = mapper(&path, "owner");
    let waiting = mapper(&path, "possible owner");
    let bus = Bus::open_read_only(&path).expect("a bus");
    assert_eq!(bus.lock().expect("asked"), LockFound::LiveStation);
    assert!(matches!(repair(&path, false), Err(RepairError::Stations { stations: 1, .. })));
    drop(owner);
    assert_eq!(bus.lock().expect("asked"), LockFound::DeadStation);
    let done = repair(&path, false).expect("its owner is dead");
    assert_eq!((done.lock, done.ring), (LockFound::DeadStation, RingFound::Sound));
    assert_eq!(bus.lock().expect("asked"), LockFound::Free);
    drop(waiting);
}

/// Members go on, and wake-ups write the version again; but no station can join until then.
#[test]
fn a_scribbled_version_is_mended_by_force() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    station(&path).send(&[0xff; 60]).expect("sent");
    let file = File::options().read(true).write(true).open(&path).expect("a bus");
    for version in [1_u32, 4, 0x3000_0000, u32::MAX] {
        file.write_all_at(&version.to_ne_bytes(), 4).expect("written");
        let error = repair(&path, false).expect_err("it may be another format");
        assert!(matches!(error, RepairError::Open(OpenError::WrongVersion { .. })), "{error}");
        assert!(error.to_string().contains("repair the bus by force"), "{error}");
        let done = repair(&path, true).expect("by force");
        assert_eq!(done.scribbled_version, Some(version));
        assert_eq!((done.lock, done.ring), (LockFound::Free, RingFound::Sound));
        station(&path);
        assert_eq!(frames(&path), 1);
    }
    // An older format is none that was scribbled.
    file.write_all_at(&2_u32.to_ne_bytes(), 4).expect("written");
    assert!(repair(&path, true).is_err());
}

/// A rump kernel cuts every file to the size of its buses before it looks at it.
#[test]
fn a_big_bus_that_a_rump_kernel_cut_is_named_as_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let bus = BusOptions::new().size(4 << 20).open_or_create(&path).expect("made");
    let mut station = Station::join(bus, StationOptions::new()).expect("joined");
    let file = File::options().write(true).open(&path).expect("a bus");
    file.set_len(3 << 20).expect("cut");
    assert!(matches!(Bus::open(&path), Err(OpenError::WrongSize { .. })), "by another process");
    file.set_len(shmbus::BUS_SIZE).expect("cut");
    let error = Bus::open(&path).expect_err("it is none");
    assert!(matches!(error, OpenError::CutByRumpKernel { .. }), "{error}");
    assert!(error.to_string().contains("a rump kernel that attached to it cut it"), "{error}");
    station.discard_pending();
    let error = station.wait(Some(Duration::ZERO)).expect_err("it is gone");
    assert!(error.to_string().contains("a rump kernel"), "{error}");
}

/// The repair knows no earlier generation, and a rump kernel that asserts dies with the lock.
#[test]
fn a_generation_that_a_wake_up_overwrote_is_raised() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut sender = station(&path);
    for _ in 0..40 {
        sender.send_burst(vec![[0xff; 1_000]; 60]).expect("sent");
    }
    let file = File::options().read(true).write(true).open(&path).expect("a bus");
    file.write_all_at(&3_u64.to_ne_bytes(), GENERATION).expect("written");
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
    let done = repair(&path, true).expect("by force");
    assert!(done.generation_raised, "{done}");
    assert!(Bus::open_read_only(&path).expect("a bus").state().generation > 1 << 32);
    sender.send(&[0xff; 60]).expect("the lock is free");
}

/// As two threads of a rump kernel do that wake at the same moment. Those that receive lose nothing,
/// and the next that sends or receives puts it right.
#[test]
fn stations_put_an_overwritten_generation_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut sender, mut receiver) = (station(&path), station(&path));
    let mut burst = Burst::new(1_000);
    let file = File::options().read(true).write(true).open(&path).expect("a bus");
    let state = || Bus::open_read_only(&path).expect("a bus").state();
    while state().generation < 10 {
        sender.send_burst(vec![[0xff; 1_000]; 60]).expect("sent");
        receiver.recv_burst(&mut burst);
    }
    for receives_first in [true, false] {
        let generation = state().generation;
        sender.send(&[0xff; 60]).expect("sent");
        file.write_all_at(&3_u32.to_ne_bytes(), GENERATION).expect("written");
        if receives_first {
            let frames: usize = (0..4).map(|_| receiver.recv_burst(&mut burst)).sum();
            assert_eq!(frames, 1, "nothing is lost and nothing comes twice");
            assert_eq!(state().generation, generation);
        }
        sender.send(&[0xff; 60]).expect("sent");
        assert_eq!(state().generation, generation);
    }
    assert_eq!(receiver.stats().stray_wakeups, 1);
    assert_eq!((receiver.stats().corrupt, receiver.stats().overruns), (0, 0));
    assert_eq!(sender.stats().stray_wakeups, 1);
    assert_eq!(receiver.recv_burst(&mut burst), 3);
}

/// A rump kernel takes the lock before it writes the magic, and may die in between.
#[test]
fn a_bus_that_was_not_made_to_its_end_is() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let file = File::create_new(&path).expect("an empty file");
    assert!(matches!(
        repair(&path, false),
        Err(RepairError::Open(OpenError::Uninitialised { .. }))
    ));
    file.set_len(shmbus::BUS_SIZE).expect("as a rump kernel does");
    assert!(repair(&path, false).is_err(), "it may be about to become one");
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
    let error = Bus::open_or_create(&path, 0o600).expect_err("locked");
    assert!(error.to_string().contains("repair the bus"), "{error}");

    let done = repair(&path, false).expect("no process has it");
    assert_eq!((done.lock, done.ring, done.packets), (LockFound::Unknown, RingFound::Made, 1));
    station(&path).send(&[0xff; 60]).expect("a bus");
    assert_eq!(frames(&path), 1);
}

/// What was read before does not come again, and what is sent after it comes.
#[test]
fn live_readers_continue_where_they_were() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut sender, mut receiver) = (station(&path), station(&path));
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("sound");
    let mut burst = Burst::new(1_000);
    let mut sent = 0;
    for round in 0..50 {
        // All around the ring, several times.
        sender.send_burst(vec![[0xff; 1_000]; 40]).expect("sent");
        sent += 40;
        assert_eq!(
            (receiver.recv_burst(&mut burst), tap.recv_burst(&mut burst)),
            (40, 40),
            "round {round}"
        );
        die_as_a_rump_kernel(&path);
        let done = repair(&path, true).expect("by force");
        assert_eq!(done.lock, LockFound::Unknown);
        let stats = (receiver.stats(), tap.stats());
        // Where the generation had to grow, a reader cannot tell how much it missed, and begins
        // anew. Only there.
        let anew = receiver.recv_burst(&mut burst) + tap.recv_burst(&mut burst);
        if (receiver.stats().overruns, tap.stats().overruns) == (stats.0.overruns, stats.1.overruns)
        {
            assert_eq!(anew, 0, "in round {round} old frames came again");
        } else {
            receiver.discard_pending();
            tap.recv_burst(&mut burst);
        }
    }
    assert_eq!(sender.stats().tx_packets, sent);
    assert!(receiver.stats().overruns < 5, "{} of 50 rounds began anew", receiver.stats().overruns);
}

/// `/proc` shows only processes of its own pid namespace; a station tells by its lock on the file
/// that it lives.
#[test]
fn a_station_in_an_unseen_process_counts() {
    const TEST: &str = "a_station_in_an_unseen_process_counts";
    const BUS: &str = "REPAIR_TEST_BUS";
    if let Some(path) = std::env::var_os(BUS) {
        let error = repair(&path, false).expect_err("there is a station");
        assert!(matches!(error, RepairError::Stations { stations: 1, .. }), "{error}");
        println!("{error}");
        assert_eq!(repair(&path, true).expect("by force").lock, LockFound::Unknown);
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let unshare = ["-Urpf", "--mount-proc"];
    if !Command::new("unshare")
        .args(unshare)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: no separate namespaces are available here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut member = station(&path);
    die_as_a_rump_kernel(&path);
    let output = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env(BUS, &path)
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("in use by 1 station in processes that"),
        "{output:?}"
    );
    member.send(&[0xff; 60]).expect("the lock is free");
    // A process may repair a bus that it has stations on itself.
    die_as_a_rump_kernel(&path);
    assert_eq!(repair(&path, false).expect("no other process is there").lock, LockFound::Unknown);
}

/// A rump kernel that takes the lock leaves what lies beside it as it is.
#[test]
fn a_spare_word_beside_a_free_lock_names_no_owner() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(station(&path));
    let file = File::options().read(true).write(true).open(&path).expect("a bus");
    file.write_all_at(&77_u32.to_ne_bytes(), LOCK + 4).expect("written");
    let mut station = station(&path);
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
    match station.send(&[0xff; 60]) {
        Err(SendError::Busy { .. }) => {}
        other => panic!("the lock of a live rump kernel was taken: {other:?}"),
    }
}
