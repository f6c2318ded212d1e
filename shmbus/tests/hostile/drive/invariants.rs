//! What must hold whatever the file says.

use std::error::Error;

use shmbus::{Burst, Bus, MIN_FRAME, Station, Tap};

use super::bus_file::BusFile;
use super::input::{FILE, PACKET_HEADER};

/// Frames read in one go.
pub(super) const BURST: usize = 64;

const LAST: u32 = 20;
const FIRST: u32 = 16;
const LOCK: u32 = 24;
/// Of a bus of the usual size, and of a bigger one.
const MAGICS: [u32; 2] = [0xca11_d054, 0xca11_d0b1];

/// An error is one line of text.
pub(super) fn check_text(error: &dyn Error) {
    let line = error.to_string();
    assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
}

/// Frames are frames.
pub(super) fn sound(burst: &Burst, bus: &Bus, shortest: usize) {
    let ring = ring(bus);
    for frame in burst {
        assert!(
            (shortest..=bus.max_frame()).contains(&frame.bytes.len()),
            "{} bytes",
            frame.bytes.len()
        );
        assert!(frame.info.offset < ring, "offset {}", frame.info.offset);
    }
}

fn ring(bus: &Bus) -> u32 {
    bus.state().ring_size
}

/// Reads all that is on a bus that no process changes.
pub(super) fn drain(tap: &mut Tap) {
    let mut burst = Burst::new(BURST);
    let mut left = u64::from(ring(tap.bus()));
    while tap.recv_burst(&mut burst) > 0 {
        sound(&burst, tap.bus(), 1);
        for frame in &burst {
            let bytes = u64::from(PACKET_HEADER) + frame.bytes.len() as u64;
            left = left.checked_sub(bytes).expect("no more than a ring of frames");
        }
    }
}

/// Whether nothing is wrong with the header but what the next sender mends: no unknown owner has
/// the lock, and the magic stands.
pub(super) fn make_joinable(file: &BusFile) {
    let magic = MAGICS[usize::from(file.size() > FILE)];
    file.write(0, &magic.to_ne_bytes());
    file.write(4, &3_u32.to_ne_bytes());
    file.write(LOCK, &[0; 8]);
}

/// Whatever went before: once the scribbling ends, what `sender` sends is received.
pub(super) fn still_works(sender: &mut Station, receive: &mut dyn FnMut(&mut Burst) -> usize) {
    let mut burst = Burst::new(BURST);
    for round in 0..8 {
        let mut frame = [0xff; MIN_FRAME + 8];
        frame[MIN_FRAME..].copy_from_slice(&(sender.sender() ^ round).to_ne_bytes());
        sender.send(&frame).expect("the lock is free");
        // The ring holds no more than this many bursts of the shortest packets.
        for _ in 0..=ring(sender.bus()) / PACKET_HEADER / 64 {
            let received = receive(&mut burst);
            sound(&burst, sender.bus(), MIN_FRAME);
            if burst.iter().any(|received| received.bytes == frame) {
                return;
            }
            if received == 0 {
                break;
            }
        }
    }
    panic!("nothing that is sent is heard");
}

/// What a rump kernel asserts when it has the lock.
pub(super) fn satisfies_rump_kernels(file: &BusFile) {
    let ring = u32::try_from(file.size()).expect("some MiB") - 32;
    let (first, last, lock) = (file.word(FIRST), file.word(LAST), file.word(LOCK));
    assert_eq!(lock, 0, "the lock is free");
    assert_ne!(first, last, "first is not last");
    assert!(first <= ring && last < ring, "first {first}, last {last}");
}
