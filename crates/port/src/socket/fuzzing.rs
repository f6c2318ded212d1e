//! The body of the fuzz target for streams of frames, and the test that replays its seeds: bytes of
//! any kind from a peer, in pieces of any length.

use super::framing::{Framing, model};

/// A stream in pieces: its frames are those of the plainest reader, up to a wrong length. The first
/// byte chooses the framing, and the next four the lengths of the pieces.
///
/// # Panics
/// When they are not.
pub fn frames(data: &[u8]) {
    let Some((control, stream)) = data.split_at_checked(5) else { return };
    let framing = if control[0] & 1 == 0 { Framing::Qemu } else { Framing::Vde };
    let pieces: Vec<usize> =
        control[1..].iter().map(|len| usize::from(*len) << (control[0] >> 5)).collect();
    model::check(framing, stream, &pieces);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    #[test]
    fn seeds_and_what_is_near_them() {
        seeds::replay("frames", 4, frames);
    }
}
