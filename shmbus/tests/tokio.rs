//! Stations and taps in tasks of one tokio runtime.

#![cfg(feature = "tokio")]

use std::path::Path;
use std::time::{Duration, Instant};

use shmbus::tokio::Async;
use shmbus::{Burst, Bus, Station, StationOptions, Tap, WaitError};
use tokio::time::timeout;

const ROUNDS: usize = 1_000;
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

fn station(path: &Path) -> Station {
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), StationOptions::new())
        .expect("joined")
}

fn frame(to: [u8; 6], number: usize) -> Vec<u8> {
    [&to[..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], &number.to_le_bytes()[..]].concat()
}

/// Each waits for the other's answer, on one thread: neither can block it.
#[tokio::test]
async fn two_tasks_answer_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (alice, bob) = (station(&path), station(&path));
    let tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("a tap");
    let mut tap = Async::new(tap).expect("registered");
    let (to_alice, to_bob) = (alice.mac().into_array(), bob.mac().into_array());
    let mut alice = Async::new(alice).expect("registered");
    let mut bob = Async::new(bob).expect("registered");
    let answering = tokio::spawn(async move {
        let mut burst = Burst::new(4);
        for number in 0..ROUNDS {
            assert_eq!(bob.recv_burst(&mut burst).await.expect("a bus"), 1);
            assert_eq!(burst.get(0).expect("one").bytes, frame(to_bob, number));
            bob.get_mut().send(&frame(to_alice, number)).expect("sent");
        }
        bob.get_mut().stats()
    });
    let asking = tokio::spawn(async move {
        let mut burst = Burst::new(4);
        for number in 0..ROUNDS {
            alice.get_mut().send(&frame(to_bob, number)).expect("sent");
            assert_eq!(alice.recv_burst(&mut burst).await.expect("a bus"), 1);
            assert_eq!(burst.get(0).expect("one").bytes, frame(to_alice, number));
        }
    });
    let listening = tokio::spawn(async move {
        let (mut burst, mut seen) = (Burst::new(64), 0);
        while seen < 2 * ROUNDS {
            seen += tap.recv_burst(&mut burst).await.expect("a bus");
        }
    });
    let all = async {
        asking.await.expect("no panic");
        listening.await.expect("no panic");
        answering.await.expect("no panic")
    };
    let stats = timeout(WAIT_TIMEOUT, all).await.expect("in time");
    assert_eq!((stats.rx_packets, stats.tx_packets), (ROUNDS as u64, ROUNDS as u64));
}

/// A future that is dropped leaves no watch behind, and no frame is lost.
#[tokio::test]
async fn a_wait_may_be_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut sender = station(&path);
    let mut receiver = Async::new(station(&path)).expect("registered");
    let mut burst = Burst::new(4);
    for number in 0..20 {
        let early = timeout(Duration::from_millis(2), receiver.recv_burst(&mut burst)).await;
        assert!(early.is_err(), "nothing was sent");
        sender.send(&frame([0xff; 6], number)).expect("sent");
        let burst_len =
            timeout(WAIT_TIMEOUT, receiver.recv_burst(&mut burst)).await.expect("in time");
        assert_eq!(burst_len.expect("a bus"), 1);
        assert_eq!(burst.get(0).expect("one").bytes, frame([0xff; 6], number));
    }
}

/// A sender that dies before its wake-up, or that puts it off: the receiver looks by itself.
#[tokio::test]
async fn a_missed_wake_up_delays_a_frame_by_a_tenth_of_a_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let options = StationOptions::new().wake_interval(Duration::from_secs(3_600));
    let mut sender =
        Station::join(Bus::open_or_create(&path, 0o600).expect("a bus"), options).expect("joined");
    // The first wake-up is sent at once.
    sender.send(&frame([0xff; 6], 0)).expect("sent");
    let mut receiver = Async::new(station(&path)).expect("registered");
    let receiving = tokio::spawn(async move {
        let mut burst = Burst::new(4);
        receiver.recv_burst(&mut burst).await
    });
    // The receiver sleeps.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begin = Instant::now();
    sender.send(&frame([0xff; 6], 1)).expect("sent");
    let result = timeout(WAIT_TIMEOUT, receiving).await.expect("in time").expect("no panic");
    assert_eq!(result.expect("a bus"), 1);
    println!("after {:?}", begin.elapsed());
    assert_eq!(sender.stats().wakeups, 1);
}

#[tokio::test]
async fn a_bus_that_is_gone_ends_the_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    shmbus::survive_truncation().expect("a handler");
    let mut receiver = Async::new(station(&path)).expect("registered");
    let receiving = tokio::spawn(async move { receiver.readable().await });
    tokio::task::yield_now().await;
    std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut");
    let ended = timeout(WAIT_TIMEOUT, receiving).await.expect("in time").expect("no panic");
    assert!(matches!(ended, Err(WaitError::Lost { .. })), "{ended:?}");
}
