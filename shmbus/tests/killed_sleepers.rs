//! Stations that are killed at any moment, while they sleep, wake others, come or go: those that
//! are left exchange numbered frames, and none is lost, doubled or slept through.
//!
//! The stations that are killed are processes: this test again, with a bus's path in the
//! environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, BusOptions, Station, StationOptions, WaitSet};

/// For each of the two kinds of buses; as many die in each round as there are [roles](role).
const ROUNDS: u64 = 250;
/// With `LONG_TESTS` set.
const LONG_ROUNDS: u64 = 1_250;
const VICTIMS: u64 = 4;
/// The longest an answer may take. Each side finds by itself within 100 ms what it was not woken
/// for, and takes over from the dead; the rest is for a machine that runs other tests at the same
/// time. A sleep without end is longer.
const LONGEST: Duration = Duration::from_secs(3);
const BUS: &str = "SLEEPER_DEATH_TEST_BUS";
const ROLE: &str = "SLEEPER_DEATH_TEST_ROLE";
/// Ends the exchange.
const LAST: u64 = u64::MAX;

fn mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, host]
}

fn join(path: &Path, host: u8) -> Station {
    let bus = Bus::open(path).expect("a bus");
    Station::join(bus, StationOptions::new().mac(mac(host).into())).expect("joined")
}

fn frame(to: u8, sender: u64, number: u64) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&mac(to));
    frame[6..12].copy_from_slice(&mac(9));
    frame[14..22].copy_from_slice(&sender.to_be_bytes());
    frame[22..30].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

/// What one station has received: the numbers of each sender count up by one.
#[derive(Default)]
struct Received(BTreeMap<u64, u64>);

impl Received {
    /// Takes a frame in; returns its sender and number.
    fn take(&mut self, frame: &[u8]) -> (u64, u64) {
        let (sender, number) = (number(&frame[14..22]), number(&frame[22..30]));
        if number != LAST {
            let next = self.0.entry(sender).or_insert(0);
            assert_eq!(number, *next, "a frame of {sender:x} was lost or doubled");
            *next += 1;
        }
        (sender, number)
    }
}

/// A life that ends by a signal: it sends and sleeps, arms and disarms, or joins and leaves.
fn live_until_killed(path: &Path, role: u64) {
    let random = || fastrand::u64(..);
    let mut burst = Burst::new(64);
    let to = 1 + u8::try_from(role % 2).expect("small");
    loop {
        let mut station = join(path, 10 + u8::try_from(role).expect("small"));
        // Of this process alone: two that begin at one moment may draw the same numbers.
        let sender = u64::from(std::process::id()) << 32 | u64::from(fastrand::u32(..));
        let wait_set = WaitSet::new();
        if role >= 2 {
            station.join_wait_set(&wait_set, 0);
        }
        let mut next = 0;
        let rounds = if role == 3 { 4 } else { u64::MAX };
        for _ in 0..rounds {
            let frames: Vec<_> =
                (0..=random() % 4).map(|nth| frame(to, sender, next + nth)).collect();
            next += frames.len() as u64;
            station.send_burst(&frames).expect("another's death must not be felt");
            // At a pace that leaves room on the ring for those that lose the processor.
            let end = Instant::now() + Duration::from_micros(500 + random() % 1_500);
            while let left @ 1.. = end.saturating_duration_since(Instant::now()).as_micros() {
                let left = Duration::from_micros(u64::try_from(left).expect("short"));
                if role < 2 {
                    station.wait(Some(left)).expect("watched");
                } else if !station.arm().expect("watched") {
                    if random() % 8 == 0 {
                        wait_set.wait(Some(left)).expect("watched");
                    }
                    station.disarm();
                }
                station.recv_burst(&mut burst);
            }
        }
    }
}

fn victim(path: &Path, role: u64, test: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test])
        .env(BUS, path)
        .env(ROLE, role.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// Asks and waits for the answer, until `done`; returns the longest time that took, and how often
/// it asked.
fn ask(mut station: Station, done: &AtomicBool, heard: &AtomicU64) -> (Duration, u64) {
    let mut burst = Burst::new(64);
    let mut received = Received::default();
    let mut longest = Duration::ZERO;
    for round in 0.. {
        let last = done.load(Ordering::Acquire);
        station.send(&frame(2, 1, if last { LAST } else { round })).expect("sent");
        if last {
            return (longest, round);
        }
        let begin = Instant::now();
        let mut answered = false;
        while !answered {
            assert!(begin.elapsed() < LONGEST, "no answer to {round}");
            station.wait(Some(LONGEST)).expect("watched");
            station.recv_burst(&mut burst);
            assert_eq!(station.stats().overruns, 0, "the machine is too slow for the victims");
            for frame in &burst {
                answered |= received.take(frame.bytes) == (2, round);
            }
            heard.fetch_add(burst.len() as u64, Ordering::Relaxed);
        }
        longest = longest.max(begin.elapsed());
        // So that the other is asleep, or about to.
        std::thread::sleep(Duration::from_micros(fastrand::u64(..300)));
    }
    unreachable!()
}

/// Answers, beside a bystander with whom it shares a wait set. Returns how often that one was
/// woken.
fn answer(mut station: Station, mut bystander: Station, done: &AtomicBool) -> u64 {
    let wait_set = WaitSet::new();
    station.join_wait_set(&wait_set, 0);
    bystander.join_wait_set(&wait_set, 1);
    let mut burst = Burst::new(64);
    let mut received = Received::default();
    let mut woken = 0;
    let mut awake = vec![0, 1];
    loop {
        for token in awake {
            if token == 1 {
                woken += 1;
                while bystander.arm().expect("watched") {
                    assert_eq!(bystander.recv_burst(&mut burst), 0, "no frame is for it");
                }
                continue;
            }
            while station.arm().expect("watched") {
                station.recv_burst(&mut burst);
                assert_eq!(station.stats().overruns, 0, "the machine is too slow for the victims");
                for taken in &burst {
                    match received.take(taken.bytes) {
                        (1, LAST) => return woken,
                        (1, round) => station.send(&frame(1, 2, round)).expect("sent"),
                        _ => {}
                    }
                }
            }
        }
        awake = wait_set.wait(Some(LONGEST)).expect("watched");
        assert!(!awake.is_empty() || !done.load(Ordering::Acquire), "the other has failed");
    }
}

fn kill_many(test: &str, shmif: bool) {
    if let Some(path) = std::env::var_os(BUS) {
        let role = std::env::var(ROLE).expect("given").parse().expect("a number");
        return live_until_killed(&PathBuf::from(path), role);
    }
    let folder =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let path = folder.path().join("bus");
    drop(BusOptions::new().shmif(shmif).open_or_create(&path).expect("made"));
    let (done, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let rounds = if std::env::var_os("LONG_TESTS").is_some() { LONG_ROUNDS } else { ROUNDS };
    let mut held = 0;

    let ((longest, answers), woken) = std::thread::scope(|scope| {
        let [asks, answers, bystander] = [1, 2, 3].map(|host| join(&path, host));
        let asking = scope.spawn(|| ask(asks, &done, &heard));
        let answering = scope.spawn(|| answer(answers, bystander, &done));
        let watcher = Bus::open_read_only(&path).expect("a bus");
        for round in 0..rounds {
            let mut victims: Vec<Child> =
                (0..VICTIMS).map(|role| victim(&path, role, test)).collect();
            // At work, and then a moment that is never the same.
            let before = heard.load(Ordering::Relaxed);
            let begin = Instant::now();
            while heard.load(Ordering::Relaxed) < before + 20
                && begin.elapsed() < Duration::from_millis(50)
                && !asking.is_finished()
            {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros((round * 7_919) % 1_500));
            for victim in &mut victims {
                victim.kill().expect("killed");
            }
            held += u32::from(watcher.state().locked);
            for victim in &mut victims {
                victim.wait().expect("reaped");
            }
            if asking.is_finished() || answering.is_finished() {
                break;
            }
        }
        done.store(true, Ordering::Release);
        (asking.join().expect("all were answered"), answering.join().expect("no panic"))
    });

    println!(
        "{} killed, the lock was held {held} times after a round; {} frames heard, {answers} answers, the longest after {longest:?}; a bystander was woken {woken} times",
        rounds * VICTIMS,
        heard.into_inner(),
    );
    // What the dead left goes with the last that leaves.
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("a list")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(left, ["bus"]);
}

#[test]
fn stations_are_killed_on_a_bus_for_rump_kernels() {
    kill_many("stations_are_killed_on_a_bus_for_rump_kernels", true);
}

#[test]
fn stations_are_killed_on_a_bus_of_our_own_format() {
    kill_many("stations_are_killed_on_a_bus_of_our_own_format", false);
}
