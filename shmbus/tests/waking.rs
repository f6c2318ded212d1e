//! No wake-up is lost: two stations that sleep for each other's answer, a million sleeps.

use std::path::Path;

use shmbus::{Burst, Bus, Interface, StationOptions};

/// Each of the two sleeps about once in every round.
const ROUNDS: u32 = 500_000;
/// A sender that loses the processor between its commit and its wake-up, for all of the 100 ms after which a sleeper looks by
/// itself, makes one that was not lost look so. On a busy machine that happens now and then.
const EXCUSED: u64 = 20;

fn station(path: &Path) -> Interface {
    Interface::join(Bus::open_or_create(path, 0o600).expect("a bus"), StationOptions::new()).expect("joined")
}

/// Answers every frame with one, from `first` to the last round.
fn play(mut station: Interface, begins: bool) -> Interface {
    let mut burst = Burst::new(4);
    let frame = |round: u32| {
        let mut frame = [0xff; 60];
        frame[14..18].copy_from_slice(&round.to_be_bytes());
        frame
    };
    if begins {
        station.send(&frame(0)).expect("sent");
    }
    let mut next = 0;
    while next < ROUNDS {
        station.wait(None).expect("watched");
        station.recv_burst(&mut burst);
        for received in &burst {
            assert_eq!(received.bytes, frame(next), "frames come in order");
            next += 1;
            if !begins || next < ROUNDS {
                station.send(&frame(if begins { next } else { next - 1 })).expect("sent");
            }
        }
    }
    station
}

#[test]
fn a_million_sleeps_end_with_a_wake_up() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let path = folder.path().join("bus");
    let (alice, bob) = (station(&path), station(&path));
    let (alice, bob) = std::thread::scope(|scope| {
        let (alice, bob) = (scope.spawn(|| play(alice, true)), scope.spawn(|| play(bob, false)));
        (alice.join().expect("no panic"), bob.join().expect("no panic"))
    });
    let (sleeps, unwoken) =
        (alice.stats().sleeps + bob.stats().sleeps, alice.stats().unwoken + bob.stats().unwoken);
    println!("{sleeps} sleeps, {unwoken} ended by themselves");
    assert!(unwoken <= EXCUSED, "{unwoken} of {sleeps} sleeps ended by themselves");
    assert!(sleeps > u64::from(ROUNDS) / 2, "they hardly slept: {sleeps} times");
}
