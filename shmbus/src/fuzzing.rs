//! The bodies of the fuzz targets that need no file, and the tests that replay their seeds. Each
//! function panics when a promise is broken.

use std::path::Path;

use crate::face::legacy::LegacyDump;
use crate::format::{HEADER_SIZE, MAX_FRAME};

/// Bytes of a ring: small, so that a run is short.
const RING: usize = 4_096;

/// Reads a bus file of an older version or the other byte order, with a small ring.
pub fn legacy(data: &[u8]) {
    let mut file = data.to_vec();
    file.resize(HEADER_SIZE + RING, 0);
    let Ok(dump) = LegacyDump::parse(Path::new("bus"), &file) else { return };
    let mut bytes = 0;
    for frame in dump.frames() {
        assert!((1..=MAX_FRAME).contains(&frame.bytes.len()));
        assert!((frame.info.offset as usize) < RING);
        bytes += frame.bytes.len();
    }
    assert!(bytes <= RING);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn legacy_dumps_replay() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/legacy");
        for entry in fs::read_dir(folder).expect("seeds") {
            let seed = fs::read(entry.expect("a seed").path()).expect("a file");
            assert!(seed.len() > HEADER_SIZE);
            legacy(&seed);
            for at in 0..seed.len() {
                let mut changed = seed.clone();
                for byte in [0, 0xff, seed[at] ^ 0x80, seed[at].wrapping_add(1)] {
                    changed[at] = byte;
                    legacy(&changed);
                }
            }
        }
    }
}
