//! The lock of a dead station is taken over even if no station of this kind sends: rump kernels
//! wait for the lock as well.
//!
//! The station is a process: this test again, with a bus's path in the environment.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, FrameSlot, Station, StationOptions, WaitMode, WaitSet};

const BUS: &str = "RELIEF_TEST_BUS";
/// The bus's own promise is 100 ms; the rest is for a machine that runs other tests at the same
/// time.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

fn station(path: &Path, mode: WaitMode) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().wait_mode(mode)).expect("joined")
}

/// Says that it has the lock, and keeps it for as long as it lives.
#[derive(Clone)]
struct Endless;

impl shmbus::FrameSource for Endless {
    fn frame_len(&self) -> usize {
        60
    }

    fn write_to(&self, _slot: &mut FrameSlot<'_>) {
        println!("locked");
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    }
}

/// A station dies with the lock while another does only what `idle` does, until the end.
fn dies_beside(test: &str, mode: WaitMode, idle: impl Fn(&mut Station) + Sync) {
    if let Some(path) = std::env::var_os(BUS) {
        let _ = station(Path::new(&path), WaitMode::Sleep).send_burst([Endless]);
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut survivor = station(&path, mode);
    let bus = Bus::open_read_only(&path).expect("a bus");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                idle(&mut survivor);
            }
        });
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture"])
            .env(BUS, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let locked = lines.any(|line| line.is_ok_and(|line| line.contains("locked")));
        let held = bus.state().locked;
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let begin = Instant::now();
        while bus.state().locked && begin.elapsed() < WAIT_TIMEOUT {
            std::thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Release);
        assert!(locked && held, "it did not get so far");
    });
    assert!(!bus.state().locked, "the lock of a dead station is still held");
}

#[test]
fn by_one_that_sleeps() {
    dies_beside("by_one_that_sleeps", WaitMode::Sleep, |station| {
        station.wait(Some(Duration::from_secs(1))).expect("the bus still works");
    });
}

#[test]
fn by_one_that_polls() {
    dies_beside("by_one_that_polls", WaitMode::Poll(Duration::MAX), |station| {
        station.wait(Some(Duration::from_secs(1))).expect("the bus still works");
    });
}

#[test]
fn by_one_that_only_receives() {
    dies_beside("by_one_that_only_receives", WaitMode::Sleep, |station| {
        station.recv_burst(&mut Burst::new(1));
    });
}

#[test]
fn by_one_in_a_wait_set() {
    dies_beside("by_one_in_a_wait_set", WaitMode::Sleep, |station| {
        let wait_set = WaitSet::new();
        station.join_wait_set(&wait_set, 0);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            if station.arm().expect("the bus still works") {
                station.recv_burst(&mut Burst::new(1));
            } else {
                let _ = wait_set.wait(Some(Duration::from_millis(200))).expect("slept");
            }
        }
    });
}
