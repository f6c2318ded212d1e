//! The Internet checksum beside a naive loop, and what a station makes of it: bytes a second.
//!
//! ```text
//! cargo bench -p shmbus --bench checksum
//! ```

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use shmbus::offload::{Capabilities, Checksum, Offload, verify};
use shmbus::{Bus, Station, StationOptions};

const LENS: [usize; 4] = [20, 64, 1_460, 65_535];

fn main() {
    divan::main();
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

#[divan::bench(args = LENS)]
fn wide(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = bytes(len);
    bencher.counter(BytesCount::new(len)).bench(|| Checksum::new().with(black_box(&bytes)).value());
}

#[divan::bench(args = LENS)]
fn unaligned(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = bytes(len + 1);
    bencher
        .counter(BytesCount::new(len))
        .bench(|| Checksum::new().with(black_box(&bytes[1..])).value());
}

#[divan::bench(args = LENS)]
fn naive(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = bytes(len);
    bencher.counter(BytesCount::new(len)).bench(|| {
        let mut sum = 0_u32;
        for pair in black_box(&bytes).chunks(2) {
            sum += (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !sum & 0xffff
    });
}

/// A TCP packet from one station to another, without checksums.
fn tcp(payload: u16) -> Vec<u8> {
    let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0\x45\0".to_vec();
    frame.extend((40 + payload).to_be_bytes());
    frame.extend(b"\x12\x34\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02");
    frame.extend(b"\x30\x39\0\x50\0\0\0\0\0\0\0\0\x50\x18\x10\0\0\0\0\0");
    frame.extend(bytes(payload.into()));
    frame
}

#[divan::bench]
fn verified(bencher: Bencher<'_, '_>) {
    let frame = tcp(1_460);
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench(|| verify(black_box(&frame), Capabilities::RX));
}

/// Super-frames of 64 KiB cut into segments and sent on a bus; `sent_whole` is as many finished
/// frames.
#[divan::bench]
fn sent_in_segments(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut station = station(&folder);
    let frame = tcp(64_240);
    let offload = Offload::new().segments(1_460);
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench_local(|| station.send_offload(&frame, offload));
}

#[divan::bench]
fn sent_whole(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut station = station(&folder);
    let frames = vec![tcp(1_460); 44];
    bencher
        .counter(BytesCount::new(54 + 44 * 1_460_usize))
        .bench_local(|| station.send_burst(&frames));
}

fn station(folder: &tempfile::TempDir) -> Station {
    let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().capabilities(Capabilities::TX)).expect("joined")
}
