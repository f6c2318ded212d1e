//! Ten million 64-byte frames with sequence numbers, memif -> bus -> memif. Each is received once
//! and in order, or lost. Where the receiver sets the pace, none is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memif::ClientOptions;
use system_tests::memifpeer::MemifPeer;
use system_tests::{CpuLock, frames, lab, port};

const FRAMES: u64 = 10_000_000;
const LEN: usize = 64;

/// How many frames may be in flight when the receiver sets the pace: fewer than any ring on the
/// path holds.
const WINDOW: u64 = 512;

/// Debug builds on shared cores manage well over a hundred thousand a second.
const DEADLINE: Duration = Duration::from_mins(3);

/// The frames a receiver has counted.
#[derive(Debug, Default)]
struct Seen {
    received: u64,
    lost: u64,
}

/// Sends all frames from one memif peer to another through a node and its bus, at most `window`
/// ahead of the receiver.
fn transfer(window: Option<u64>) -> Seen {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let ports = [port::server(&socket, 0, ""), port::server(&socket, 1, "")];
    let _node = lab.ready(["attach", &lab.arg("lan.bus"), &ports[0], &ports[1]]);
    let mut alice = MemifPeer::client(&socket, ClientOptions::new(0));
    let mut bob = MemifPeer::client(&socket, ClientOptions::new(1));
    alice.reach(&mut bob);
    let (next, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| send(&mut alice, window, &next, &done));
        let _done = StopOnDrop(&done);
        receive(&mut bob, &next, started)
    });
    eprintln!("{seen:?} in {:?}", started.elapsed());
    seen
}

/// Stops the sender when the receiver ends, also when it panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends frames in order from 0 on. After the last it continues with higher numbers until the
/// receiver has seen one of them, so that the loss of the last frames is noticed, too.
fn send(alice: &mut MemifPeer, window: Option<u64>, next: &AtomicU64, done: &AtomicBool) {
    let mut number = 0;
    let template = frames::patterned(LEN, 0);
    while !done.load(Ordering::Relaxed) {
        let room = window.map_or(u64::MAX, |window| {
            (next.load(Ordering::Relaxed) + window).saturating_sub(number)
        });
        // After the last one, a few are enough.
        let batch = if number < FRAMES { 256.min(FRAMES - number) } else { 1 };
        let numbers = number..number + batch.min(room);
        let frames = numbers.map(|number| {
            let mut frame: [u8; LEN] = template[..].try_into().expect("64 bytes");
            frame[14..22].copy_from_slice(&number.to_be_bytes());
            frame
        });
        let sent = alice.send_some(frames);
        number += sent as u64;
        if sent == 0 {
            std::thread::yield_now();
        }
    }
}

fn receive(bob: &mut MemifPeer, next: &AtomicU64, started: Instant) -> Seen {
    let template = frames::patterned(LEN, 0);
    let mut seen = Seen::default();
    let mut expected = 0;
    while expected < FRAMES {
        assert!(started.elapsed() < DEADLINE, "{seen:?}, and frame {expected} is still to come");
        let came = bob.receive(|frame| {
            let number = u64::from_be_bytes(frame[14..22].try_into().expect("8 bytes"));
            assert!(
                frame.len() == LEN
                    && frame[..14] == template[..14]
                    && frame[22..] == template[22..],
                "{frame:02x?}"
            );
            assert!(
                number >= expected,
                "frame {number} came twice or out of order: {expected} was due"
            );
            // Frames after the last one only mark the end.
            seen.lost += number.min(FRAMES) - expected.min(FRAMES);
            seen.received += u64::from(number < FRAMES);
            expected = number + 1;
        });
        next.store(expected, Ordering::Relaxed);
        if came == 0 {
            std::thread::yield_now();
        }
    }
    seen
}

#[test]
fn what_was_sent_at_full_speed_is_received_or_lost() {
    let seen = transfer(None);
    assert_eq!(seen.received + seen.lost, FRAMES);
    // A receiver that shares two cores with a sender and a node loses some frames, but not most.
    assert!(seen.received > FRAMES / 10, "{seen:?}");
}

#[test]
fn nothing_is_lost_at_a_pace_the_receiver_sets() {
    let seen = transfer(Some(WINDOW));
    assert_eq!((seen.received, seen.lost), (FRAMES, 0));
}
