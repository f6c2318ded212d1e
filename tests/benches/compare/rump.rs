//! The bus with the reference rump kernel (`system_tests::reference`) at one end or both.

use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;

use shmbus::{Burst, Bus, Station, StationOptions};
use system_tests::reference::RumpPeer;

use crate::comparison::{Criterion, Table};
use crate::ours;
use crate::throughput::throughput;

const BURST: usize = 32;

/// Compares all other pairs of writer and reader with two rump kernels.
pub(crate) fn beside_rump_kernels(table: &mut Table<'_>) {
    say_no_failed_assertions();
    let (lab, time) = (ours::lab(), table.time());
    let path = lab.path("lan.bus");
    let path = path.as_path();
    table.heading(
        "bus: with rump kernels, bursts of 32",
        "million frames/s received",
        "rump to rump",
    );
    for frame in [64, 1_514] {
        let frames = vec![vec![0xff; frame]; BURST];
        let (sends, receives) = (|| our_sender(path, &frames), || our_receiver(path));
        let (rump_sends, rump_receives) = (|| rump_sender(path, &frames), || rump_receiver(path));
        let mut rump = || throughput(time, rump_sends, rump_receives);
        let what = |pair| format!("{pair}, {frame} bytes");
        let criterion = Criterion::Ratio(None);
        table.row(
            &what("ours to ours"),
            criterion,
            &mut || throughput(time, sends, receives),
            &mut rump,
        );
        table.row(
            &what("ours to rump"),
            criterion,
            &mut || throughput(time, sends, rump_receives),
            &mut rump,
        );
        table.row(
            &what("rump to ours"),
            criterion,
            &mut || throughput(time, rump_sends, receives),
            &mut rump,
        );
    }
}

/// Silences the reports of the rump kernel's assertions, which are no news: see [`rump_receiver`].
fn say_no_failed_assertions() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_expected =
            panic.payload_as_str().is_some_and(|text| text.starts_with("rump: KASSERT"));
        if !is_expected {
            usual(panic);
        }
    }));
}

fn our_sender(path: &Path, frames: &[Vec<u8>]) -> impl FnMut() -> usize {
    let mut station = join(path);
    move || {
        // A rump kernel that was preempted while it holds the lock makes the bus busy.
        if station.send_burst(frames).is_ok() { frames.len() } else { 0 }
    }
}

fn our_receiver(path: &Path) -> impl FnMut() -> usize + use<> {
    let mut station = join(path);
    let mut burst = Burst::new(256);
    move || {
        let frames = station.recv_burst(&mut burst);
        std::hint::black_box(&burst);
        frames
    }
}

fn join(path: &Path) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().promiscuous(true)).expect("a station")
}

fn rump_sender(path: &Path, frames: &[Vec<u8>]) -> impl FnMut() -> usize {
    let mut peer = RumpPeer::attach(path, [2, 0, 0, 0, 0, 1]);
    move || {
        peer.send(frames);
        frames.len()
    }
}

/// Returns the steps of a receiving rump kernel. Its fault after an overrun makes it fail one of
/// its assertions; then it is started again.
fn rump_receiver(path: &Path) -> impl FnMut() -> usize {
    let attach = || RumpPeer::attach(path, [2, 0, 0, 0, 0, 2]);
    let mut peer = attach();
    move || match catch_unwind(AssertUnwindSafe(|| peer.receive())) {
        Ok(received) => usize::from(received.is_some()),
        Err(_assertion) => {
            peer = attach();
            0
        }
    }
}
