//! Where the fuzzers begin: the buses one meets, and those one would rather not.
//!
//! The seeds are committed, and made by this:
//!
//! ```text
//! SHMBUS_WRITE_SEEDS=1 cargo test -p shmbus --test hostile seeds
//! ```

use std::fs;

use crate::drive::input::{HEADER, Input, PACKET_HEADER, Patch, RING, Recipe};
use crate::replay::seed_folder;

const MAGIC: u32 = 0xca11_d054;
/// Of a bus larger than a rump kernel's.
const BIG_MAGIC: u32 = 0xca11_d0b1;
/// Bytes of the ring of a bus of 3 MiB, and what its recipe says for it.
const BIG_RING: u32 = (3 << 20) - 32;
const BIG: u8 = 3;
const WRITE: &str = "SHMBUS_WRITE_SEEDS";

/// The header of a bus, as numbers.
#[derive(Clone, Copy)]
struct Header {
    magic: u32,
    version: u32,
    generation: u64,
    first: u32,
    last: u32,
    lock: u32,
    spare: u32,
}

impl Header {
    const FRESH: Self =
        Self { magic: MAGIC, version: 3, generation: 0, first: RING, last: 0, lock: 0, spare: 0 };

    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.magic.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.version.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.generation.to_ne_bytes());
        for (at, word) in [(16, self.first), (20, self.last), (24, self.lock), (28, self.spare)] {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn swapped(self) -> Self {
        Self {
            magic: self.magic.swap_bytes(),
            version: self.version.swap_bytes(),
            generation: self.generation.swap_bytes(),
            first: self.first.swap_bytes(),
            last: self.last.swap_bytes(),
            lock: self.lock.swap_bytes(),
            spare: self.spare.swap_bytes(),
        }
    }

    fn with(self, patches: impl Into<Vec<Patch>>) -> Recipe {
        Recipe { size: 0, header: self.to_bytes(), patches: patches.into(), script: Vec::new() }
    }
}

/// A packet's header and the first bytes of its frame; the rest of that is zeros.
fn packet(at: u32, len: u32) -> Patch {
    packets(at, len, 1)
}

/// As many packets, one behind the other.
fn packets(at: u32, len: u32, copies: u16) -> Patch {
    let mut bytes = Vec::new();
    for word in [len, 1_700_000_000, 123_456, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(0x1122_3344_5566_7788_u64.to_ne_bytes());
    bytes.extend([0xff; 6]);
    bytes.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    let stride = u16::try_from(PACKET_HEADER + len.min(9_216)).expect("below 65,536");
    Patch { at, stride, copies, bytes }
}

/// A packet of version 2, whose header ends with the time, in the other byte order if need be.
fn old_packet(at: u32, len: u32, order: fn(u32) -> u32) -> Patch {
    let mut bytes = Vec::new();
    for word in [len, 1_700_000_000, 123_456] {
        bytes.extend(order(word).to_ne_bytes());
    }
    bytes.extend([0xff; 14]);
    Patch { at, stride: 0, copies: 1, bytes }
}

/// The files, by name.
fn files() -> Vec<(&'static str, Recipe)> {
    let fresh = Header::FRESH;
    let three = [packet(24, 60), packet(108, 1_514), packet(1_646, 14)];
    let few = Header { last: 1_646, ..fresh };
    // 681 packets of 1,538 bytes fit from 24 on, and leave 1,142; a last one ends exactly at the
    // end.
    let full_ring = [packets(24, 1_514, 681), packet(RING - 1_142, 1_118)];
    let full = Header { generation: 1, first: 24, last: RING - 1_142, ..fresh };
    // The last one goes 396 bytes around the end, over half of the first.
    let crossing = [packets(24, 1_514, 682)];
    let crossed = Header { generation: 1, first: 1_562, last: RING - 1_142, ..fresh };
    // And behind it the empty one.
    let padded = [packets(24, 1_514, 682), packet(396, 0)];
    let late = Header { generation: 1, first: 1_562, last: 396, ..fresh };
    let dead = 7;
    let (mark, old) = (1 << 31, 1 << 30);
    let swapped = Header { last: 24, ..fresh }.swapped();
    let sized = |size: u8, recipe: Recipe| Recipe { size, ..recipe };
    // 340 packets of 9,240 bytes fit from 24 on, and leave 4,072.
    let big = Header { magic: BIG_MAGIC, first: BIG_RING, ..fresh };
    let big_late = Header { generation: 1, first: 9_264, last: 5_168, ..big };
    vec![
        ("big", sized(BIG, big.with([]))),
        ("big_padded", sized(BIG, big_late.with([packets(24, 9_216, 341), packet(5_168, 0)]))),
        ("big_newest_too_long", sized(BIG, Header { last: 24, ..big }.with([packet(24, 9_217)]))),
        ("big_of_a_usual_size", big.with([])),
        ("usual_of_a_big_size", sized(BIG, fresh.with([]))),
        ("blank", Header { magic: 0, version: 0, first: 0, ..fresh }.with([])),
        ("empty", sized(2, Header { magic: 0, version: 0, first: 0, ..fresh }.with([]))),
        (
            "text",
            sized(2, Recipe { header: *b"These are my notes, and no bus.\n", ..fresh.with([]) }),
        ),
        ("header_only", sized(2, fresh.with([]))),
        ("too_long", sized(1, fresh.with([]))),
        ("fresh", fresh.with([])),
        ("made_by_a_rump_kernel", Header { version: 0, ..fresh }.with([])),
        ("few", few.with(three.clone())),
        ("full", full.with(full_ring)),
        ("crossed", crossed.with(crossing)),
        ("padded", late.with(padded.clone())),
        ("runts", Header { last: 24 + 37 * 999, ..fresh }.with([packets(24, 13, 1_000)])),
        ("lock_of_a_dead_rump_kernel", Header { last: 3_184, lock: 1, ..few }.with(three.clone())),
        ("lock_of_a_dead_station", Header { lock: 1, spare: dead, ..few }.with(three.clone())),
        (
            "dead_before_crossing",
            Header { lock: 1, spare: dead | mark, ..full }.with(padded.clone()),
        ),
        (
            "dead_while_crossing",
            Header { lock: 1, spare: dead | mark | old, ..late }.with(padded.clone()),
        ),
        ("dead_after_crossing", Header { lock: 1, spare: dead | mark, ..late }.with(padded)),
        ("lock_of_no_value", Header { lock: u32::MAX, spare: u32::MAX, ..few }.with(three.clone())),
        ("free_lock_with_an_owner", Header { spare: u32::MAX, ..few }.with(three)),
        ("newest_too_long", few.with([packet(24, 60), packet(108, 1_514), packet(1_646, 1_515)])),
        ("length_without_end", few.with([packet(24, 60), packet(108, u32::MAX)])),
        (
            "length_that_misses_the_next",
            few.with([packet(24, 60), packet(108, 1_000), packet(1_646, 14)]),
        ),
        ("chain_past_the_newest", Header { last: 1_000, ..fresh }.with([packets(24, 1_514, 600)])),
        ("headers_only", Header { last: RING - 24, generation: 9, first: 0, ..fresh }.with([])),
        ("first_is_last", Header { first: 24, last: 24, ..fresh }.with([packet(24, 60)])),
        ("first_outside", Header { first: RING + 1, ..fresh }.with([])),
        ("last_outside", Header { last: RING, ..fresh }.with([])),
        (
            "all_outside",
            Header { first: u32::MAX, last: u32::MAX, generation: u64::MAX, ..fresh }.with([]),
        ),
        (
            "last_generation",
            Header { generation: u64::MAX, ..crossed }.with([packets(24, 1_514, 682)]),
        ),
        (
            "version_2",
            Header { version: 2, last: 12, ..fresh }.with([old_packet(12, 60, |word| word)]),
        ),
        (
            "version_2_of_the_other_order",
            Header { version: 2, last: 12, ..fresh }.swapped().with([old_packet(
                12,
                60,
                u32::swap_bytes,
            )]),
        ),
        ("of_the_other_order", swapped.with([old_packet(24, 60, u32::swap_bytes)])),
        ("version_4", Header { version: 4, ..fresh }.with([])),
    ]
}

/// What happens then, by name: to readers and to senders.
fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    let scribble = |at: u32, bytes: &[u8]| {
        let len = u8::try_from(bytes.len()).expect("short");
        [&[0][..], &at.to_le_bytes(), &[len], bytes].concat()
    };
    let header = |at: u32, value: u32| scribble(at, &value.to_ne_bytes());
    let lock = |word: [u8; 8]| [&[1][..], &word].concat();
    let cut = |len: u32| [&[2][..], &len.to_le_bytes()].concat();
    let send = |len: u16| [&[3][..], &len.to_le_bytes()].concat();
    let receive = || vec![4];
    let (between, at_once) = (vec![0], vec![1]);
    let garble =
        [header(16, 0), header(20, 24), scribble(56, &[0xff; 4]), header(20, 0), header(16, RING)];
    vec![
        ("calm", [between.clone(), send(14), receive(), send(1_514), receive()].concat()),
        (
            "wrong_lengths",
            [between.clone(), send(13), send(1_515), send(0), send(u16::MAX)].concat(),
        ),
        ("garbled", [between.clone(), garble.concat(), send(60)].concat()),
        ("garbled_at_once", [at_once.clone(), garble.concat(), send(1_514)].concat()),
        (
            "generations_at_once",
            [at_once.clone(), header(8, 5), header(12, 7), header(8, u32::MAX), send(60)].concat(),
        ),
        (
            "locks_at_once",
            [
                at_once.clone(),
                lock([1, 0, 0, 0, 0, 0, 0, 0]),
                lock([1, 0, 0, 0, 7, 0, 0, 0]),
                lock([1, 0, 0, 0, 7, 0, 0, 0x80]),
                lock([0; 8]),
                send(60),
            ]
            .concat(),
        ),
        (
            "another_magic",
            [between.clone(), header(0, 1), send(60), header(4, 9), send(60)].concat(),
        ),
        ("cut_to_nothing", [between.clone(), cut(0), send(60), receive()].concat()),
        ("cut_to_a_page", [between, send(1_514), cut(4_096), receive(), send(60)].concat()),
        ("cut_at_once", [at_once, cut(0), cut(1 << 20), cut(4_096), send(60)].concat()),
    ]
}

/// The seeds of each target, by name.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, file) in files() {
        for target in ["open", "repair"] {
            seeds.push((target, name.to_owned(), file.to_bytes()));
        }
    }
    let busy = ["big_padded", "fresh", "few", "crossed", "lock_of_a_dead_station", "first_outside"];
    for (name, file) in files().into_iter().filter(|(name, _)| busy.contains(name)) {
        for (then, script) in scripts() {
            let bytes = Recipe { script, ..file.clone() }.to_bytes();
            for target in ["read", "send"] {
                seeds.push((target, format!("{name}-{then}"), bytes.clone()));
            }
        }
    }
    seeds
}

#[test]
fn recipes_are_read_as_they_are_written() {
    for (_, name, bytes) in seeds() {
        let mut input = Input::new(&bytes);
        assert_eq!(Recipe::read(&mut input).to_bytes(), bytes, "{name}");
    }
}

/// The seeds are made of numbers in the order of the machine.
#[cfg(target_endian = "little")]
#[test]
fn the_committed_seeds_are_these() {
    let write = std::env::var_os(WRITE).is_some();
    let mut expected = Vec::new();
    for (target, name, bytes) in seeds() {
        let path = seed_folder(target).join(name);
        if write {
            fs::create_dir_all(seed_folder(target)).expect("a folder");
            fs::write(&path, &bytes).expect("written");
        }
        let committed =
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(committed == bytes, "{} is another: see {WRITE}", path.display());
        expected.push(path);
    }
    for target in ["open", "read", "send", "repair"] {
        for entry in fs::read_dir(seed_folder(target)).expect("a folder") {
            let path = entry.expect("readable").path();
            assert!(expected.contains(&path), "{} is not made here", path.display());
        }
    }
}
