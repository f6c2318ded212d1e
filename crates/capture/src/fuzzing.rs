//! The bodies of the fuzz targets, and the tests that replay their seeds: arbitrary bytes for what
//! reads captures and frames. Each function panics when a promise is broken.
//!
//! `fuzz/` is a workspace of its own; docs/TESTING.md says how to run it.

use std::io::{self, Read};

use crate::error::CaptureError;
use crate::input::MAX_CAPTURED;
use crate::pcap::Pcap;
use crate::pcapng;
use crate::reader::{CaptureReader, PassedOver};
use crate::summary::Summary;

/// So small that the buffer moves and grows, and costs little.
const READ_AHEAD: usize = 64;

/// Reads a pcap. Bytes with another magic are for other targets.
pub fn pcap(data: &[u8]) {
    if data.len() >= 4 && Pcap::is_magic(data) {
        read(data);
    }
}

/// Reads a pcapng. Bytes with another magic are for other targets.
pub fn pcapng(data: &[u8]) {
    if data.starts_with(&pcapng::SECTION) {
        read(data);
    }
}

/// Displays a frame: one line, without control characters.
pub fn summary(data: &[u8]) {
    let line = Summary(data).to_string();
    assert!(!line.is_empty() && line.len() < 700, "{line:?}");
    assert!(!line.contains(char::is_control), "{line:?}");
}

/// Reads a capture at once, and in pieces of uneven length from a source that has nothing at every
/// other call. Both find the same.
fn read(data: &[u8]) {
    let whole = frames(data);
    let pieces = frames(Pieces { left: data, size: 1, empty: false });
    assert_eq!(whole, pieces);
    assert!(whole.bytes <= data.len());
}

/// What a capture holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    frames: u64,
    bytes: usize,
    /// A hash of the frames.
    hash: u64,
    passed_over: PassedOver,
    error: Option<String>,
}

fn frames(source: impl Read) -> Found {
    let mut reader = CaptureReader::with_read_ahead(source, READ_AHEAD);
    let mut found = Found::default();
    loop {
        match reader.next_frame() {
            Ok(None) => break,
            Ok(Some(frame)) => {
                assert!(frame.bytes.len() <= MAX_CAPTURED);
                found.frames += 1;
                found.bytes += frame.bytes.len();
                let time = frame.time.map_or(0, |time| time.as_nanos()).to_le_bytes();
                let parts = [u8::from(frame.cut), u8::from(frame.time.is_some())];
                let bytes = parts.iter().chain(&time).chain(frame.bytes);
                found.hash = bytes.fold(found.hash, |hash, byte| {
                    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
            }
            Err(CaptureError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                found.error = Some(error.to_string());
                break;
            }
        }
    }
    found.passed_over = reader.passed_over();
    found
}

/// Bytes that come in pieces.
struct Pieces<'d> {
    left: &'d [u8],
    /// The length of the next piece.
    size: usize,
    /// Whether nothing comes at the next call.
    empty: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.empty = !self.empty;
        if self.empty {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let size = self.size.min(buffer.len());
        self.size = self.size * 5 % 61 + 1;
        self.left.read(&mut buffer[..size])
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs a target on all of its committed seeds, and on each with one byte changed or cut off.
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds").join(target);
        let seeds: Vec<_> = fs::read_dir(&folder)
            .expect("seeds")
            .map(|entry| fs::read(entry.expect("a seed").path()).expect("a file"))
            .collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            run(&seed);
            for at in 0..seed.len() {
                run(&seed[..at]);
                let mut changed = seed.clone();
                for byte in [0, 0xff, seed[at] ^ 0x80, seed[at].wrapping_add(1)] {
                    changed[at] = byte;
                    run(&changed);
                }
            }
        }
    }

    #[test]
    fn pcaps_replay() {
        replay("pcap", super::pcap);
    }

    #[test]
    fn pcapngs_replay() {
        replay("pcapng", super::pcapng);
    }

    #[test]
    fn summaries_replay() {
        replay("summary", super::summary);
    }
}
