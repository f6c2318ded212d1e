//! Writers that are killed at any moment: the bus still works, and no reader ever sees a broken
//! frame.
//!
//! The writers are processes: this test again, with a bus's path in the environment.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, Station, StationOptions, Tap};

/// Two writers die in each.
const ROUNDS: usize = 500;
/// The longest a survivor may have to wait for a lock that died. The bus's own promise is 100 ms;
/// the rest is for a machine that runs other tests at the same time.
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
const BUS: &str = "DEATH_TEST_BUS";

/// A frame that vouches for itself: a length and content that follow from a number, and their sum
/// at the end.
fn frame(number: u64) -> Vec<u8> {
    let len = 22 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % 1_400;
    let mut frame = vec![0xff; 14];
    frame.extend(number.to_be_bytes());
    let mut state = number;
    frame.extend((0..len - 22).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    }));
    frame.extend(sum(&frame).to_be_bytes());
    frame
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn is_whole(frame: &[u8]) -> bool {
    let Some((body, end)) = frame.split_last_chunk::<8>() else { return false };
    u64::from_be_bytes(*end) == sum(body)
}

fn station(path: impl AsRef<Path>) -> Station {
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), StationOptions::new())
        .expect("joined")
}

/// The body of a writer: sends until it is killed.
fn write_until_killed(path: &str) {
    let mut station = station(path);
    let mut number = u64::from(std::process::id()) << 32;
    // Bursts of all lengths, so that the end of the ring comes at every place of one.
    for burst in (1..40).cycle() {
        let frames: Vec<Vec<u8>> = (0..burst).map(|nth| frame(number + nth)).collect();
        station.send_burst(&frames).expect("another writer's death must not be felt");
        number += burst;
    }
}

fn writer(path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_thousand_writers_are_killed_and_the_bus_still_works"])
        .env(BUS, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// Counts what comes, and what of it is broken, until `done`.
fn watch(path: &Path, done: &AtomicBool, whole: &AtomicU64) -> (u64, u64) {
    let mut tap = Tap::new(Bus::open_read_only(path).expect("a bus")).expect("sound");
    let mut burst = Burst::new(256);
    let mut broken = 0;
    while !done.load(Ordering::Acquire) {
        if tap.recv_burst(&mut burst) == 0 {
            tap.wait(Some(Duration::from_millis(20))).expect("watched");
        }
        for frame in &burst {
            if is_whole(frame.bytes) {
                whole.fetch_add(1, Ordering::Relaxed);
            } else {
                broken += 1;
            }
        }
    }
    (broken, tap.stats().corrupt)
}

#[test]
fn a_thousand_writers_are_killed_and_the_bus_still_works() {
    if let Ok(path) = std::env::var(BUS) {
        return write_until_killed(&path);
    }
    let folder =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let path = folder.path().join("bus");
    let mut survivor = station(&path);
    let (done, whole) = (AtomicBool::new(false), AtomicU64::new(0));

    let (longest, held, (broken, corrupt)) = std::thread::scope(|scope| {
        let tap = scope.spawn(|| watch(&path, &done, &whole));
        let (mut longest, mut held) = (Duration::ZERO, 0);
        for round in 0..ROUNDS {
            // Two at a time, so that they die waiting for each other as well.
            let mut writers = [writer(&path), writer(&path)];
            // At work, and then a moment that is never the same.
            let before = whole.load(Ordering::Relaxed);
            let begin = Instant::now();
            while whole.load(Ordering::Relaxed) == before && begin.elapsed() < WAIT_TIMEOUT {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros((round as u64 * 7_919) % 1_500));
            for writer in &mut writers {
                writer.kill().expect("killed");
                writer.wait().expect("reaped");
            }
            held += usize::from(survivor.bus().state().locked);
            let begin = Instant::now();
            survivor.send(&frame(round as u64)).expect("the lock is free in time");
            longest = longest.max(begin.elapsed());
        }
        done.store(true, Ordering::Release);
        (longest, held, tap.join().expect("the tap still reads"))
    });

    let whole = whole.into_inner();
    println!(
        "{} writers killed, {held} with the lock in {ROUNDS} rounds, {whole} frames whole, {broken} broken, longest wait {longest:?}",
        2 * ROUNDS
    );
    assert_eq!(
        (broken, corrupt),
        (0, 0),
        "broken frames, and things on the ring that were no packets"
    );
    assert!(longest < WAIT_TIMEOUT, "a survivor waited for {longest:?}");
    assert!(held > 0 && whole > ROUNDS as u64, "they were not killed at work");
    assert!(!survivor.bus().state().locked);
    assert_eq!(survivor.bus().stations().expect("counted"), 0, "the dead are still counted");
}
