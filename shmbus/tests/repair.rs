//! Locks that were left behind by somebody nobody knows.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shmbus::{
    Burst, Bus, Interface, LockFound, RepairError, RingFound, SendError, StationOptions, Tap, repair,
};

const LOCK: u64 = 24;
const LAST: u64 = 20;
const MAPPER: &str = "REPAIR_TEST_MAPPER";

/// Between its fork and its exec a child has everything mapped that its parent has, another test's bus as well.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn station(path: &Path) -> Interface {
    let options = StationOptions::new().lock_timeout(Duration::from_millis(20));
    Interface::join(Bus::open_or_create(path, 0o600).expect("a bus"), options).expect("joined")
}

fn frames(path: &Path) -> usize {
    Tap::oldest(Bus::open_read_only(path).expect("a bus")).expect("sound").recv_burst(&mut Burst::new(1_000))
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
fn a_lock_of_somebody_unknown_is_not_broken_but_repaired() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut sender = station(&path);
    sender.send_burst([[0xff; 60]; 5]).expect("sent");
    die_as_a_rump_kernel(&path);
    let error = sender.send(&[0xff; 60]).expect_err("locked");
    assert!(
        matches!(error, SendError::Busy { sent: 0, .. }) && error.to_string().contains("busctl repair"),
        "{error}"
    );

    let done = repair(&path, false).expect("only this process has it mapped");
    assert_eq!((done.lock, done.ring), (LockFound::Unknown, RingFound::NewestDropped));
    assert_eq!(frames(&path), 5, "what was whole is kept");
    sender.send(&[0xff; 60]).expect("the bus goes on");
    assert_eq!(frames(&path), 6);

    let again = repair(&path, false).expect("nothing to do");
    assert_eq!((again.lock, again.ring), (LockFound::Free, RingFound::Sound));
    assert_eq!(frames(&path), 6);
}

/// Has a bus mapped until its stdin is closed: this test again, in a process of its own.
struct Mapper(Child);

impl Mapper {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_bus_in_use_is_left_alone", "--nocapture"])
            .env(MAPPER, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("mapped"))));
        Self(child)
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bus_in_use_is_left_alone() {
    if let Some(path) = std::env::var_os(MAPPER) {
        let _bus = Bus::open_read_only(path).expect("a bus");
        println!("mapped");
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(station(&path));
    die_as_a_rump_kernel(&path);
    let before = std::fs::read(&path).expect("a bus");
    let mapper = Mapper::start(&path);
    match repair(&path, false) {
        Err(RepairError::InUse { pids, .. }) => assert_eq!(pids, [mapper.0.id()]),
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(&path).expect("a bus") == before, "nothing is changed");
    assert_eq!(repair(&path, true).expect("by force").lock, LockFound::Unknown);
    drop(mapper);
    assert_eq!(repair(&path, false).expect("nobody is there").lock, LockFound::Free);
}
