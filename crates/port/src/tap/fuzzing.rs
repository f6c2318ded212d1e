//! The body of the fuzz target for GRO, and the test that replays its seeds: frames of any bytes as
//! a neighbour puts them on the bus, merged into super-frames for the kernel.

use super::gro::{MAX_SEGMENTS, Run, Segment};

/// Where the sequence number lies in TCP over IPv4 without options, and the identification.
const SEQUENCE: usize = 38;
const ID: usize = 18;

/// Frames that follow one another, made of one by counting on its sequence number and its
/// identification, each with one byte changed: what is merged is what was there, in order, and fits
/// a packet.
///
/// # Panics
/// When it is not.
pub fn gro(data: &[u8]) {
    let Some((control, template)) = data.split_at_checked(8) else { return };
    let payload = u32::from(u16::from_le_bytes([control[0], control[1]]));
    let count = usize::from(control[2]) % (MAX_SEGMENTS + 8) + 1;
    let odd = usize::from(control[3]) % (2 * count);
    let (at, value) = (usize::from(u16::from_le_bytes([control[4], control[5]])), control[6]);
    let mut frames = vec![template.to_vec(); count];
    for (number, frame) in (0_u32..).zip(&mut frames) {
        count_on(frame, SEQUENCE, number.wrapping_mul(payload));
        if control[7] & 1 != 0 && frame.len() > ID + 2 {
            let id = u16::from_be_bytes([frame[ID], frame[ID + 1]]);
            let id = id.wrapping_add(u16::try_from(number).unwrap_or(u16::MAX));
            frame[ID..ID + 2].copy_from_slice(&id.to_be_bytes());
        }
    }
    if let Some(byte) = frames.get_mut(odd).and_then(|frame| frame.get_mut(at)) {
        *byte = value;
    }
    merge(&frames);
}

fn count_on(frame: &mut [u8], at: usize, by: u32) {
    if let Some(bytes) = frame.get_mut(at..at + 4) {
        let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes.copy_from_slice(&number.wrapping_add(by).to_be_bytes());
    }
}

fn merge(frames: &[Vec<u8>]) {
    let mut run: Option<(Run<'_>, usize)> = None;
    for (number, frame) in frames.iter().enumerate() {
        let Some(segment) = Segment::parse(frame) else {
            check(run.take(), frames);
            continue;
        };
        if let Some((run, _)) = &mut run
            && run.append(&segment)
        {
            continue;
        }
        check(run.replace((Run::new(segment), number)), frames);
    }
    check(run, frames);
}

/// Checks a run that begins with frame number `first`.
fn check(run: Option<(Run<'_>, usize)>, frames: &[Vec<u8>]) {
    let Some((run, first)) = run else { return };
    assert!((1..=MAX_SEGMENTS).contains(&run.segments()));
    assert_eq!(run.first(), &frames[first][..]);
    run.with_frame(|header, parts| {
        assert_eq!(parts.len(), run.segments() + 1);
        let headers = parts[0].len();
        assert_eq!(usize::from(header.hdr_len), headers);
        assert!(usize::from(header.csum_start) + usize::from(header.csum_offset) + 2 <= headers);
        let ip = if frames[first][12..14] == [0x81, 0] { 18 } else { 14 };
        let packet = parts.concat().len() - ip;
        assert!(u16::try_from(packet).is_ok(), "{packet} bytes");
        let size = usize::from(header.gso_size);
        for (number, payload) in parts[1..].iter().enumerate() {
            assert_eq!(*payload, &frames[first + number][headers..], "in order and whole");
            let is_last = number + 1 == run.segments();
            assert!(payload.len() == size || is_last && (1..size).contains(&payload.len()));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::seeds;

    #[test]
    fn seeds_and_what_is_near_them() {
        seeds::replay("gro", 3, gro);
    }

    /// The driver sees what it is for.
    #[test]
    fn a_train_of_segments_is_one_run() {
        let seed = fs::read(seeds::folder("gro").join("train")).expect("a seed");
        let frame = &seed[8..];
        let mut next = frame.to_vec();
        count_on(&mut next, SEQUENCE, u32::from(u16::from_le_bytes([seed[0], seed[1]])));
        next[ID + 1] += 1;
        let mut run = Run::new(Segment::parse(frame).expect("a segment"));
        assert!(run.append(&Segment::parse(&next).expect("a segment")));
    }
}
