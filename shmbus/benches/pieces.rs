//! What the pieces of the data path cost, on one thread: `cargo bench -p shmbus --bench pieces`.
//!
//! Between two processes other things count, above all cache lines that go to and fro: `busctl
//! bench bus` measures that.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use shmbus::{Burst, Bus, Station, StationOptions, Tap};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const BURST: usize = 32;
const LENGTHS: [usize; 3] = [64, 512, 1_514];

/// A bus in memory, and a station on it.
fn station() -> (TempDir, Station) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
    let station = Station::join(bus, StationOptions::new()).expect("a station");
    (folder, station)
}

fn tap(folder: &TempDir) -> Tap {
    Tap::new(Bus::open_read_only(folder.path().join("bus")).expect("a bus")).expect("a sound one")
}

/// A burst onto the ring, and the wake-up that no station waits for.
#[divan::bench(args = LENGTHS)]
fn send_burst(bencher: Bencher<'_, '_>, len: usize) {
    let (_folder, mut station) = station();
    let frames = vec![vec![0xff_u8; len]; BURST];
    bencher
        .counter(ItemsCount::new(BURST))
        .counter(BytesCount::new(BURST * len))
        .bench_local(|| station.send_burst(&frames).expect("sent"));
}

/// The same, and off the ring again.
#[divan::bench(args = LENGTHS)]
fn send_and_receive_burst(bencher: Bencher<'_, '_>, len: usize) {
    let (folder, mut station) = station();
    let mut tap = tap(&folder);
    let frames = vec![vec![0xff_u8; len]; BURST];
    let mut burst = Burst::new(BURST);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(
        || {
            station.send_burst(&frames).expect("sent");
            black_box(tap.recv_burst(&mut burst));
        },
    );
}

/// A single frame: the lock and the wake-up for it alone.
#[divan::bench(args = LENGTHS)]
fn send_one(bencher: Bencher<'_, '_>, len: usize) {
    let (_folder, mut station) = station();
    let frame = vec![0xff_u8; len];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| station.send(&frame).expect("sent"));
}

/// A look at a bus where nothing has happened.
#[divan::bench]
fn look_in_vain(bencher: Bencher<'_, '_>) {
    let (_folder, mut station) = station();
    let mut burst = Burst::new(BURST);
    bencher.bench_local(|| black_box(station.recv_burst(&mut burst)));
}

/// To prepare for a sleep, and not to sleep after all.
#[divan::bench]
fn arm_and_disarm(bencher: Bencher<'_, '_>) {
    let (_folder, mut station) = station();
    bencher.bench_local(|| {
        black_box(station.arm().expect("a watch"));
        station.disarm();
    });
}
