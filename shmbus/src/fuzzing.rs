//! The bodies of the fast fuzz targets, and the tests that replay their seeds: arbitrary bytes for
//! the mechanism floor, on memory of this process. Each function panics when a promise is broken.
//!
//! `fuzz/` is a workspace of its own; `docs/TESTING.md` says how to run it. What real files and
//! processes add is in `tests/hostile`.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::face::legacy::LegacyDump;
use crate::format::member::{self, Member};
use crate::format::printable::is_printable;
use crate::format::{
    Field32, Field64, HEADER_SIZE, MAX_FRAME, MIN_FRAME, PACKET_HEADER_SIZE, PacketHeader,
};
use crate::mechanism::frame::FrameSource as _;
use crate::mechanism::offload::{Capabilities, Finisher, Offload, TxRequest, verify};
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::{Cursor, Outcome};
use crate::mechanism::ring::lock::{LockGuard, Owner};
use crate::memory::Memory as _;
use crate::memory::model::ModelMemory;

/// Bytes of the ring: a dozen packets, so that few steps go around it.
const RING: u32 = 700;
/// The longest frame on it.
const LONGEST: u32 = 60;
/// More steps than this say nothing new.
const MAX_STEPS: usize = 64;

/// An input, taken apart from front to back. What is missing at the end is zero.
struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

/// Bytes of the ring of a legacy dump: small, so that a run is short.
const LEGACY_RING: usize = 4_096;

/// Reads a bus file of an older version or the other byte order, with a small ring.
pub fn legacy(data: &[u8]) {
    let mut file = data.to_vec();
    file.resize(HEADER_SIZE + LEGACY_RING, 0);
    let Ok(dump) = LegacyDump::parse(Path::new("bus"), &file) else { return };
    let mut bytes = 0;
    for frame in dump.frames() {
        assert!((1..=MAX_FRAME).contains(&frame.bytes.len()));
        assert!((frame.info.offset as usize) < LEGACY_RING);
        bytes += frame.bytes.len();
    }
    assert!(bytes <= LEGACY_RING);
}

/// Senders, readers, takeovers and repairs on a ring, while bytes and words of it are scribbled on:
/// all comes to an end, no access lies outside the ring, and once the scribbling ends the ring is
/// one to rump kernels, and what is sent is heard.
pub fn ring(data: &[u8]) {
    let mut input = Input(data);
    let own_format = input.u8() & 1 != 0;
    let memory = if own_format { ModelMemory::own_format } else { ModelMemory::new }(RING);
    let ring = Ring::new(memory, LONGEST);
    for _ in 0..input.u8() % 48 {
        send(&ring, 60);
    }
    let extent = ring.snapshot().expect("nothing is scribbled on yet");
    let mut readers = [Cursor::at_first(&extent), Cursor::at_end(&extent)];
    for _ in 0..MAX_STEPS {
        if input.0.is_empty() {
            break;
        }
        step(&ring, &mut readers, &mut input);
    }
    ring.memory().store64(Field64::Lock, 0, Ordering::Relaxed);
    for reader in &mut readers {
        is_heard(&ring, reader);
    }
    let load = |field| ring.memory().load32(field, Ordering::Relaxed);
    let (first, last) = (load(Field32::First), load(Field32::Last));
    assert!(first != last && first <= RING && last < RING, "first {first}, last {last}");
}

fn step(ring: &Ring<ModelMemory>, readers: &mut [Cursor; 2], input: &mut Input<'_>) {
    let memory = ring.memory();
    match input.u8() % 13 {
        0 => send(ring, u32::from(input.u8()) % (LONGEST + 1)),
        1 => {
            let _ = read(ring, &mut readers[0]);
        }
        2 => {
            let _ = read(ring, &mut readers[1]);
        }
        3 => {
            let at = u32::from(input.u16()) % (RING - 8);
            memory.copy_in(at, &input.array::<8>());
        }
        4 => memory.store32(Field32::First, input.u32(), Ordering::Relaxed),
        5 => memory.store32(Field32::Last, input.u32(), Ordering::Relaxed),
        6 => {
            let generation = u64::from_le_bytes(input.array());
            memory.store64(Field64::Generation, generation, Ordering::Relaxed);
        }
        7 => {
            let word = u64::from_le_bytes(input.array());
            memory.store64(Field64::Lock, word, Ordering::Relaxed);
        }
        8 => {
            let word = ring.lock_word();
            if word.owner().is_some() {
                drop(ring.take_over(word, owner(2)));
            }
        }
        9 => {
            let flags = input.u8();
            if let Some(mut held) = any_lock(ring) {
                held.raise_overwritten_generation();
                held.mend(flags & 1 != 0, flags & 2 != 0);
            }
        }
        10 => {
            if let Ok(mut held) = ring.try_lock(owner(1)) {
                held.restore_generation(readers[usize::from(input.u8()) % 2].newest_known());
                held.close_turn();
            }
        }
        11 if memory.publishes() => {
            let field = if input.u8() & 1 == 0 { Field64::End } else { Field64::Oldest };
            memory.store64(field, u64::from_le_bytes(input.array()), Ordering::Relaxed);
        }
        // A station dies with the lock.
        _ => {
            if let Ok(held) = ring.try_lock(owner(3)) {
                std::mem::forget(held);
            }
        }
    }
}

fn owner(number: u32) -> Owner {
    Owner::new(number).expect("not 0")
}

/// As a repair by force takes it.
fn any_lock(ring: &Ring<ModelMemory>) -> Option<LockGuard<'_, ModelMemory>> {
    let word = ring.lock_word();
    if word.is_free() {
        ring.try_lock(owner(4)).ok()
    } else if word.owner().is_some() {
        ring.take_over(word, owner(4)).ok()
    } else {
        ring.seize(word).ok()
    }
}

/// Sends a frame whose bytes say its length, if the lock is free.
fn send(ring: &Ring<ModelMemory>, len: u32) {
    let header = PacketHeader { len, ..PacketHeader::default() };
    if let Ok(mut held) = ring.try_lock(owner(1)) {
        held.append(std::iter::once(header), |header, at| {
            ring.copy_in(at, &vec![0x5a; header.len as usize]);
        });
    }
}

/// Reads what there is: packets within their limits, and no more than fit the ring. Returns the
/// length of the last.
fn read(ring: &Ring<ModelMemory>, reader: &mut Cursor) -> (Outcome, Option<u32>) {
    let (mut bytes, mut last) = (0, None);
    let outcome = reader.read(ring, |met| {
        let len = met.header.len;
        assert!(len <= LONGEST && met.offset < RING && met.at.offset < RING, "{met:?}");
        ring.copy_out(met.offset, &mut vec![0; len as usize]);
        bytes += PACKET_HEADER_SIZE + len;
        assert!(bytes <= RING, "more packets than the ring holds");
        last = Some(len);
        ControlFlow::Continue(())
    });
    (outcome, last)
}

/// The lock is free and nothing is scribbled any more: a reader hears what is sent next, soon.
fn is_heard(ring: &Ring<ModelMemory>, reader: &mut Cursor) {
    for len in 14..46 {
        send(ring, len);
        for _ in 0..8 {
            if read(ring, reader) == (Outcome::Whole, Some(len)) {
                return;
            }
        }
    }
    panic!("nothing that is sent is heard: {reader:?}");
}

/// A frame and the work that is left on it: what is refused adds nothing, and what is finished
/// fits the bus, and has no wrong checksum where all of them were to be made.
pub fn offload(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.u8();
    let enabled = if flags & 1 == 0 { Capabilities::ALL } else { input.u32().into() };
    let mut offload = Offload::new();
    if flags & 2 != 0 {
        offload = offload.ipv4_header();
    }
    if flags & 4 != 0 {
        offload = offload.transport();
    }
    if flags & 8 != 0 {
        offload = offload.partial(input.u16(), input.u16());
    }
    if flags & 16 != 0 {
        offload = offload.segments(input.u16());
    }
    let makes_all = flags & 0x1e == 0x10 || flags & 0x1e == 0x06;
    let request = TxRequest { frame: input.0, offload };
    let mut finisher = Finisher::default();
    if finisher.finish(0, request, enabled, MAX_FRAME).is_err() {
        assert_eq!(finisher.len(), 0, "a refused frame adds nothing");
        return;
    }
    let count = finisher.len();
    let mut frames = 0;
    for frame in finisher.frames(std::iter::once(request)) {
        frames += 1;
        let bytes = frame.to_vec();
        assert_eq!(bytes.len(), frame.frame_len());
        assert!((MIN_FRAME..=MAX_FRAME).contains(&bytes.len()), "{} bytes", bytes.len());
        let verdict = verify(&bytes, Capabilities::ALL);
        assert!(!makes_all || !verdict.is_bad(), "{verdict:?} of {bytes:02x?}");
    }
    assert!(frames == count && frames > 0);
    let _ = verify(request.frame, enabled);
}

/// The note of a station and the name of its attribute, as any process can write them: what is
/// shown of a member is one line of text without surprises, and reads back as written.
pub fn note(data: &[u8]) {
    let mut input = Input(data);
    let number = input.u32();
    if let Ok(name) = std::str::from_utf8(input.0)
        && let Some(number) = member::number_of(name)
    {
        assert_eq!(member::attribute(number), name);
    }
    let Some(read) = Member::parse(number, input.0) else { return };
    assert!(read.to_string().chars().all(is_printable), "{read:?}");
    let note = member::note(read.pid, read.mac, &read.name, read.joins);
    // Its address may have been written shorter, so that it is too long now.
    if let Some(again) = Member::parse(number, note.as_bytes()) {
        assert_eq!(again, read, "{note}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn replay(target: &str, drive: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut random = fastrand::Rng::with_seed(12);
        let mut seeds = 0;
        for entry in fs::read_dir(folder).expect("committed seeds") {
            let seed = fs::read(entry.expect("readable").path()).expect("a seed");
            drive(&seed);
            for _ in 0..300 {
                let mut input = seed.clone();
                for _ in 0..random.usize(1..6) {
                    let at = random.usize(..input.len());
                    input[at] = random.u8(..);
                }
                input.truncate(random.usize(1..=input.len()));
                drive(&input);
            }
            seeds += 1;
        }
        assert!(seeds > 2, "{seeds} seeds");
        for _ in 0..3_000 {
            let len = random.usize(..300);
            let input: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            drive(&input);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn rings() {
        replay("ring", ring);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn offload_requests() {
        replay("offload", offload);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn notes() {
        replay("note", note);
    }
    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn legacy_dumps() {
        replay("legacy", legacy);
    }
}
