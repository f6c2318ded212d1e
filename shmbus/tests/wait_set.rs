//! Many stations in one process: few inotify instances for all of them, and each is woken by
//! itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shmbus::{Burst, Bus, MAX_SLEEP, Station, StationOptions, Tap, WaitError, WaitSet};
use tempfile::TempDir;

const FRAME: [u8; 60] = [0xff; 60];
/// Set in a process that a test runs itself in once more, to have it for itself.
const CHILD: &str = "SLEEPER_TEST_CHILD";

struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        Self { folder }
    }

    fn path(&self, bus: usize) -> PathBuf {
        self.folder.path().join(format!("bus{bus}"))
    }

    fn station(&self, bus: usize) -> Station {
        station(&self.path(bus))
    }

    /// Stations in a wait set, with their places as tokens, on so many buses in turn.
    fn stations(&self, wait_set: &WaitSet, count: usize, buses: usize) -> Vec<Station> {
        (0..count)
            .map(|token| {
                let mut station = self.station(token % buses);
                station.join_wait_set(wait_set, token);
                station
            })
            .collect()
    }
}

fn station(path: &Path) -> Station {
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), StationOptions::new())
        .expect("joined")
}

fn received(station: &mut Station) -> usize {
    station.recv_burst(&mut Burst::new(100))
}

/// How many inotify instances this process has.
fn instances() -> usize {
    let files = fs::read_dir("/proc/self/fd").expect("a list").flatten();
    files
        .filter(|file| {
            fs::read_link(file.path()).is_ok_and(|file| file.ends_with("anon_inode:inotify"))
        })
        .count()
}

/// Runs the test again in a process of its own.
fn in_a_process_of_its_own(test: &str) {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn those_are_woken_whose_bus_was_written() {
    let lab = Lab::new();
    let wait_set = WaitSet::new();
    let mut stations = lab.stations(&wait_set, 12, 3);
    let mut sender = lab.station(1);
    loop {
        for station in &mut stations {
            assert!(!station.arm().expect("watched"));
        }
        sender.send(&FRAME).expect("sent");
        let woken: BTreeSet<usize> = wait_set.wait(None).expect("slept").into_iter().collect();
        assert!(woken.is_superset(&BTreeSet::from([1, 4, 7, 10])), "{woken:?}");
        for token in &woken {
            assert_eq!(received(&mut stations[*token]), usize::from(token % 3 == 1));
        }
        // If it took so long that all had to be looked at, that was no test.
        if woken.len() == 4 {
            break;
        }
    }
    for station in &mut stations {
        station.disarm();
    }
    assert_eq!(wait_set.ready(), []);
}

#[test]
fn stations_that_only_the_file_wakes_look_by_themselves() {
    let lab = Lab::new();
    let wait_set = WaitSet::new();
    let mut stations = lab.stations(&wait_set, 5, 2);
    let mut taps: Vec<_> = (0..3)
        .map(|token| {
            let bus = Bus::open_read_only(lab.path(token % 2)).expect("a bus");
            let mut tap = Tap::new(bus).expect("sound");
            tap.join_wait_set(&wait_set, 10 + token);
            tap
        })
        .collect();
    // No station sleeps.
    assert_eq!(wait_set.wait(Some(Duration::from_millis(1))).expect("slept"), []);
    let begin = Instant::now();
    for station in &mut stations {
        assert!(!station.arm().expect("watched"));
    }
    for tap in &mut taps {
        assert!(!tap.arm().expect("watched"));
    }
    // A sender may have been killed before its wake-up: those that read only have to look.
    // The table says of the others that there is nothing for them.
    let mut woken = wait_set.wait(None).expect("slept");
    woken.sort_unstable();
    assert_eq!(woken, [10, 11, 12]);
    assert!(begin.elapsed() >= MAX_SLEEP && wait_set.timeout() > Duration::ZERO);
    assert_eq!(wait_set.wait(Some(2 * MAX_SLEEP)).expect("slept"), []);
}

#[test]
fn a_dropped_station_leaves_the_others_asleep() {
    let lab = Lab::new();
    let wait_set = WaitSet::new();
    let mut stations = lab.stations(&wait_set, 3, 1);
    let mut tap = Tap::new(Bus::open_read_only(lab.path(0)).expect("a bus")).expect("sound");
    tap.join_wait_set(&wait_set, 77);
    assert!(!tap.arm().expect("watched"));
    for station in &mut stations {
        assert!(!station.arm().expect("watched"));
    }
    let mut gone = stations.remove(1);
    // Moved elsewhere, it is armed here no longer.
    gone.join_wait_set(&WaitSet::new(), 5);
    drop(stations.remove(0));
    gone.send(&FRAME).expect("sent");
    let mut woken = wait_set.wait(None).expect("slept");
    woken.sort_unstable();
    assert_eq!(woken, [2, 77]);
    drop((stations, tap));
    assert_eq!(wait_set.ready(), []);
}

#[test]
fn a_bus_that_is_cut_short_wakes_its_stations() {
    let lab = Lab::new();
    let wait_set = WaitSet::new();
    let mut stations = lab.stations(&wait_set, 2, 1);
    for station in &mut stations {
        assert!(!station.arm().expect("watched"));
    }
    // The page with the header stays: this test is not about what happens without.
    fs::File::options()
        .write(true)
        .open(lab.path(0))
        .and_then(|file| file.set_len(4_096))
        .expect("cut");
    for token in wait_set.wait(None).expect("slept") {
        assert!(matches!(stations[token].arm(), Err(WaitError::Lost { .. })));
    }
}

/// As in the test of a million sleeps, but each of the two sleeps in a wait set.
#[test]
fn no_wake_up_of_a_sleeper_is_lost() {
    const ROUNDS: u32 = 100_000;
    /// A sender may lose the processor before its wake-up for all of the bound.
    const EXCUSED: usize = 20;
    let lab = Lab::new();
    let play = |begins: bool, mut station: Station| {
        let wait_set = WaitSet::new();
        station.join_wait_set(&wait_set, 0);
        let mut burst = Burst::new(8);
        let (mut got, mut late) = (0, 0);
        if begins {
            station.send(&FRAME).expect("sent");
        }
        while got < ROUNDS {
            while station.arm().expect("watched") {
                for _ in 0..station.recv_burst(&mut burst) {
                    got += 1;
                    if !begins || got < ROUNDS {
                        station.send(&FRAME).expect("sent");
                    }
                }
            }
            if got < ROUNDS {
                let begin = Instant::now();
                assert_eq!(wait_set.wait(None).expect("slept"), [0]);
                late += usize::from(begin.elapsed() >= MAX_SLEEP);
            }
        }
        late
    };
    let (alice, bob) = (lab.station(0), lab.station(0));
    let play = &play;
    let late = std::thread::scope(|scope| {
        let (alice, bob) =
            (scope.spawn(move || play(true, alice)), scope.spawn(move || play(false, bob)));
        alice.join().expect("no panic") + bob.join().expect("no panic")
    });
    assert!(late <= EXCUSED, "{late} sleeps ended by themselves");
}

/// Many threads, each with a station of its own.
#[test]
fn threads_that_wait_share_a_few_instances() {
    const STATIONS: usize = 60;
    const BUSES: usize = 3;
    const ROUNDS: u32 = 50;
    if std::env::var_os(CHILD).is_none() {
        return in_a_process_of_its_own("threads_that_wait_share_a_few_instances");
    }
    let lab = Lab::new();
    let stations: Vec<Station> = (0..STATIONS).map(|nth| lab.station(nth % BUSES)).collect();
    let mut senders: Vec<Station> = (0..BUSES).map(|bus| lab.station(bus)).collect();
    let (ready, heard) = std::sync::mpsc::channel();
    let slept: u64 = std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for mut station in stations {
            let ready = ready.clone();
            waiting.push(scope.spawn(move || {
                let mut burst = Burst::new(8);
                for _ in 0..ROUNDS {
                    assert!(station.wait(None).expect("watched"));
                    assert_eq!(station.recv_burst(&mut burst), 1);
                    ready.send(()).expect("the receiver counts");
                }
                assert!(!station.wait(Some(Duration::from_millis(1))).expect("watched"));
                station.stats().sleeps
            }));
        }
        for _ in 0..ROUNDS {
            for sender in &mut senders {
                sender.send(&FRAME).expect("sent");
            }
            for _ in 0..STATIONS {
                heard.recv_timeout(Duration::from_secs(30)).expect("all are woken");
            }
            assert!(instances() <= 4, "{} instances", instances());
        }
        waiting.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert!(slept >= STATIONS as u64, "they hardly slept: {slept} times");
    assert_eq!(instances(), 0, "who waits no longer needs none");
}

#[test]
fn without_an_instance_it_looks_every_millisecond() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_process_of_its_own("without_an_instance_it_looks_every_millisecond");
    }
    let lab = Lab::new();
    let mut sender = lab.station(0);
    let mut stations: Vec<Station> = (0..3).map(|_| lab.station(0)).collect();
    let next = fs::File::open("/dev/null").expect("a descriptor");
    let used = u64::try_from(next.as_fd().as_raw_fd()).expect("not negative");
    drop(next);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, used, hard).expect("lowered");
    let wait_set = WaitSet::new();
    assert!(wait_set.poll_fd().is_none(), "a descriptor was available");
    for (token, station) in stations.iter_mut().enumerate() {
        station.join_wait_set(&wait_set, token);
        assert!(!station.arm().expect("the slower way will do"));
    }
    assert!(wait_set.timeout() <= Duration::from_millis(1));
    sender.send(&FRAME).expect("sent");
    let woken = wait_set.wait(None).expect("slept");
    assert_eq!(woken.len(), 3);
    for token in woken {
        assert_eq!(received(&mut stations[token]), 1);
    }
}
