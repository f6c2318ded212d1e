//! Filters over frames of 64 bytes: frames a second on one thread. Needs libpcap.
//!
//! ```text
//! cargo bench -p shmlan-capture
//! ```

use capture::Filter;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const EXPRESSIONS: [&str; 3] =
    ["arp", "tcp port 80", "tcp port 80 and host 10.0.0.1 and not net 10.1.0.0/16"];

/// Frames in turn: TCP to the port, TCP to another, UDP, ARP.
const FRAMES: usize = 4;

fn main() {
    divan::main();
}

fn frames() -> [[u8; 64]; FRAMES] {
    let ip = |protocol: u8, port: u8| {
        let mut frame = [0; 64];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[37] = port;
        frame
    };
    let mut arp = [0; 64];
    arp[12..14].copy_from_slice(&[8, 6]);
    [ip(6, 80), ip(6, 81), ip(17, 80), arp]
}

#[divan::bench(args = EXPRESSIONS)]
fn matches(bencher: Bencher<'_, '_>, expression: &str) {
    let filter = Filter::compile(expression).expect("libpcap and a filter");
    let frames = frames();
    bencher.counter(ItemsCount::new(FRAMES)).bench(|| {
        let matched = |frame: &&[u8; 64]| filter.matches(black_box(&frame[..]), frame.len());
        frames.iter().filter(matched).count()
    });
}
