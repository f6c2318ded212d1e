//! Runs the seeds, and mutations of them, through the drivers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::drive;

/// What a single input may take, on a machine with other things to do. The longest waits of the
/// library are a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(60);
/// Files that are tried for each seed.
const MUTATIONS: u64 = 8;

pub(crate) fn seed_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

#[test]
fn open() {
    replay("open", drive::open);
}

#[test]
fn read() {
    replay("read", drive::read);
}

#[test]
fn send() {
    replay("send", drive::send);
}

#[test]
fn repair() {
    replay("repair", drive::repair);
}

fn replay(target: &str, drive: fn(&[u8])) {
    let mut inputs = 0;
    for entry in fs::read_dir(seed_folder(target)).expect("committed seeds") {
        let path = entry.expect("readable").path();
        let seed = fs::read(&path).expect("a seed");
        for number in 0..=MUTATIONS {
            let input = mutated(&seed, number);
            within_deadline(drive, input, &format!("mutation {number} of {}", path.display()));
            inputs += 1;
        }
    }
    assert!(inputs > 10 * MUTATIONS, "{inputs} inputs");
}

/// Runs `drive` and fails when it panics or does not end. What does not end stays in its thread
/// until the test is over.
fn within_deadline(drive: fn(&[u8]), input: Vec<u8>, name: &str) {
    let (done, wait) = channel();
    let runner = thread::spawn(move || {
        drive(&input);
        let _ = done.send(());
    });
    match wait.recv_timeout(DEADLINE) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("{name} does not end"),
        Err(RecvTimeoutError::Disconnected) => panic!("{name} panics"),
    }
    runner.join().expect("it has ended well");
}

/// The seed itself for number 0, else some bytes changed, the same ones each time.
fn mutated(seed: &[u8], number: u64) -> Vec<u8> {
    const TELLING: [u32; 9] =
        [0, 1, 1_514, 1_515, 1_048_543, 1_048_544, 1_048_545, 1 << 31, u32::MAX];
    let mut input = seed.to_vec();
    let mut random = fastrand::Rng::with_seed(number);
    for _ in 0..number.min(4) {
        if input.len() < 8 {
            break;
        }
        let at = random.usize(..input.len() - 4);
        if random.bool() {
            input[at] = random.u8(..);
        } else {
            let word = random.choice(TELLING).unwrap_or_default();
            input[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
    }
    input
}
