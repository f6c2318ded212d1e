//! No wake-up is lost: two stations that sleep for each other's answer, 150,000 times (with
//! `LONG_TESTS` set a million times); and wake-ups that are merged.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, Station, StationOptions, Tap, WaitMode};
use tempfile::TempDir;

/// Of both together.
const SLEEPS: u64 = 150_000;
const LONG_SLEEPS: u64 = 1_000_000;
/// They sleep in most rounds, each.
const ROUNDS_A_SLEEP: u64 = 10;
/// A sender that loses the processor between its commit and its wake-up, for all of the 100 ms
/// after which a sleeper looks by itself, makes one that was not lost look so. On a busy machine
/// that happens now and then.
const EXCUSED: u64 = 20;
const FRAME: [u8; 60] = [0xff; 60];

fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn station(path: &Path, options: StationOptions) -> Station {
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), options).expect("joined")
}

/// What goes to and fro: a count, and how often its sender has slept. The last one says so.
fn frame(round: u64, sleeps: u64, last: bool) -> [u8; 60] {
    let mut frame = FRAME;
    frame[14..22].copy_from_slice(&round.to_be_bytes());
    frame[22..30].copy_from_slice(&sleeps.to_be_bytes());
    frame[30] = u8::from(last);
    frame
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

/// Lets some microseconds pass: an answer may come at any moment of the other's falling asleep,
/// also after it.
fn dawdle() {
    let end = Instant::now() + Duration::from_nanos(fastrand::u64(..10_000));
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Answers every frame with one. The station that begins ends it when both have slept enough.
fn play(mut station: Station, begins: bool, sleeps: u64) -> Station {
    let mut burst = Burst::new(4);
    if begins {
        station.send(&frame(0, 0, false)).expect("sent");
    }
    for round in 0.. {
        while station.recv_burst(&mut burst) == 0 {
            assert!(station.wait(None).expect("watched"));
        }
        let received = burst.iter().next().expect("one").bytes;
        assert_eq!((burst.len(), number(&received[14..22])), (1, round), "frames come in order");
        if received[30] == 1 {
            break;
        }
        dawdle();
        let own = station.stats().sleeps;
        let enough = own + number(&received[22..30]) >= sleeps;
        let last = begins && (enough || round >= sleeps * ROUNDS_A_SLEEP);
        station.send(&frame(round + u64::from(begins), own, last)).expect("sent");
        if last {
            break;
        }
    }
    station
}

#[test]
fn every_sleep_ends_with_a_wake_up() {
    let least = if std::env::var_os("LONG_TESTS").is_some() { LONG_SLEEPS } else { SLEEPS };
    let folder = folder();
    let path = folder.path().join("bus");
    let station = || station(&path, StationOptions::new());
    let (alice, bob) = (station(), station());
    let (alice, bob) = std::thread::scope(|scope| {
        let alice = scope.spawn(|| play(alice, true, least));
        let bob = scope.spawn(|| play(bob, false, least));
        (alice.join().expect("no panic"), bob.join().expect("no panic"))
    });
    let (sleeps, missed_wakeups) = (
        alice.stats().sleeps + bob.stats().sleeps,
        alice.stats().missed_wakeups + bob.stats().missed_wakeups,
    );
    println!("{sleeps} sleeps, {missed_wakeups} ended by themselves");
    assert!(missed_wakeups <= EXCUSED, "{missed_wakeups} of {sleeps} sleeps ended by themselves");
    assert!(sleeps >= least, "they hardly slept: {sleeps} times");
}

#[test]
fn wake_ups_are_put_off_and_not_forgotten() {
    let folder = folder();
    let path = folder.path().join("bus");
    let hour = StationOptions::new().wake_interval(Duration::from_secs(3_600));
    let mut sender = station(&path, hour);
    for _ in 0..100 {
        sender.send(&FRAME).expect("sent");
    }
    assert_eq!(sender.stats().wakeups, 1, "the first, at once");
    sender.flush().expect("woken");
    sender.flush().expect("nothing to do");
    assert_eq!(sender.stats().wakeups, 2);

    sender.send(&FRAME).expect("sent");
    sender.recv_burst(&mut Burst::new(1));
    assert_eq!(sender.stats().wakeups, 2, "not yet");
    sender.wait(Some(Duration::ZERO)).expect("nothing there");
    assert_eq!(sender.stats().wakeups, 3, "before a sleep");
    sender.send(&FRAME).expect("sent");
    sender.arm().expect("watched");
    sender.disarm();
    assert_eq!(sender.stats().wakeups, 4, "before a sleep in a poll loop");

    let mut sender = station(&path, StationOptions::new().wake_interval(Duration::from_nanos(1)));
    for _ in 0..10 {
        sender.send(&FRAME).expect("sent");
    }
    assert_eq!(sender.stats().wakeups, 10, "the interval was over each time");
}

/// The sleeper hears of each batch although only its first frame woke at once.
#[test]
fn a_station_that_leaves_or_waits_sends_pending_wake_ups() {
    let folder = folder();
    let path = folder.path().join("bus");
    let mut sleeper = station(&path, StationOptions::new());
    let rounds = 200;
    std::thread::scope(|scope| {
        let path = &path;
        scope.spawn(move || {
            for round in 0..rounds {
                let options = StationOptions::new().wake_interval(Duration::from_secs(3_600));
                let mut sender = station(path, options);
                for _ in 0..5 {
                    sender.send(&FRAME).expect("sent");
                }
                if round % 2 == 0 {
                    sender.flush().expect("woken");
                }
                // It goes, and the sleeper may be asleep again since the first.
            }
        });
        let mut burst = Burst::new(10);
        let mut received = 0;
        while received < 5 * rounds {
            sleeper.wait(None).expect("watched");
            received += sleeper.recv_burst(&mut burst);
        }
    });
    assert!(
        sleeper.stats().missed_wakeups <= EXCUSED,
        "{} sleeps ended by themselves",
        sleeper.stats().missed_wakeups
    );
}

#[test]
fn a_bus_that_is_cut_short_is_not_written_to_by_a_late_wake_up() {
    let folder = folder();
    let path = folder.path().join("bus");
    shmbus::survive_truncation().expect("a handler");
    let mut sender =
        station(&path, StationOptions::new().wake_interval(Duration::from_secs(3_600)));
    sender.send_burst([FRAME; 2]).expect("sent");
    sender.send(&FRAME).expect("sent");
    std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut");
    sender.flush().expect("no bus to write to");
    drop(sender);
    assert_eq!(std::fs::metadata(&path).expect("still there").len(), 0);
}

#[test]
fn a_polling_station_does_not_sleep() {
    let folder = folder();
    let path = folder.path().join("bus");
    let polling = StationOptions::new().wait_mode(WaitMode::Poll(Duration::MAX));
    let (mut alice, mut bob) = (station(&path, polling.clone()), station(&path, polling));
    assert!(!alice.wait(Some(Duration::from_millis(1))).expect("the time is over"));
    let rounds = 200;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut burst = Burst::new(4);
            for _ in 0..rounds {
                while bob.recv_burst(&mut burst) == 0 {
                    assert!(bob.wait(None).expect("no end"));
                }
                bob.send(&FRAME).expect("sent");
            }
        });
        let mut burst = Burst::new(4);
        for _ in 0..rounds {
            alice.send(&FRAME).expect("sent");
            while alice.recv_burst(&mut burst) == 0 {
                assert!(alice.wait(None).expect("no end"));
            }
        }
    });
    assert_eq!((alice.stats().sleeps, bob.stats().sleeps), (0, 0));
    assert!(alice.stats().polled > 0);
}

#[test]
fn an_adaptive_station_sleeps_while_nothing_comes() {
    let folder = folder();
    let path = folder.path().join("bus");
    let options = StationOptions::new().wait_mode(WaitMode::Adaptive(Duration::from_micros(50)));
    let mut alice = station(&path, options);
    let begin = std::time::Instant::now();
    while alice.stats().sleeps < 10 {
        assert!(!alice.wait(Some(Duration::from_millis(2))).expect("watched"));
    }
    assert!(begin.elapsed() >= Duration::from_millis(20), "it waits for the time it was given");
    assert_eq!(alice.stats().polled, 0);
    let mut bob = station(&path, StationOptions::new());
    bob.send(&FRAME).expect("sent");
    assert!(alice.wait(None).expect("there"));
    assert_eq!(alice.recv_burst(&mut Burst::new(2)), 1);
}

/// A program's event loop knows the descriptor before its first sleep, however busy the bus is.
#[test]
fn the_first_arm_makes_the_descriptor_also_when_there_is_something_to_read() {
    let folder = folder();
    let path = folder.path().join("bus");
    let mut sender = station(&path, StationOptions::new());
    let mut receiver = station(&path, StationOptions::new());
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("a tap");
    assert!(receiver.poll_fd().is_none() && tap.poll_fd().is_none());
    sender.send(&FRAME).expect("sent");
    assert!(receiver.arm().expect("a bus") && tap.arm().expect("a bus"));
    let descriptors = |receiver: &Station, tap: &Tap| {
        [receiver.poll_fd(), tap.poll_fd()].map(|fd| fd.expect("made").as_raw_fd())
    };
    let made = descriptors(&receiver, &tap);
    let mut burst = Burst::new(2);
    assert_eq!((receiver.recv_burst(&mut burst), tap.recv_burst(&mut burst)), (1, 1));
    assert!(!receiver.arm().expect("a bus") && !tap.arm().expect("a bus"));
    assert_eq!(descriptors(&receiver, &tap), made);
}
