//! Files that can be dumped and not joined. They are made here by hand, number by number.

use std::path::{Path, PathBuf};

use shmbus::{Bus, LegacyDump, OpenError, Station, StationOptions, Tap};

const FILE: usize = 1 << 20;
const RING: u32 = 1_048_544;

/// What becomes of a number on its way into the file.
type Order = fn(u32) -> u32;

/// A bus file in the making.
struct Maker {
    file: Vec<u8>,
    order: Order,
    version: u32,
    at: u32,
    last: u32,
    generation: u32,
}

impl Maker {
    fn new(version: u32, order: Order) -> Self {
        Self { file: vec![0; FILE], order, version, at: 0, last: 0, generation: 0 }
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        for (byte, at) in bytes.iter().zip(at..) {
            self.file[32 + (at % RING) as usize] = *byte;
        }
    }

    /// Appends a packet; what it overwrites is for the caller to know.
    fn packet(&mut self, frame: &[u8], sec: u32, usec: u32) -> &mut Self {
        let len = u32::try_from(frame.len()).expect("short");
        let mut bytes: Vec<u8> = [len, sec, usec]
            .into_iter()
            .flat_map(|word| (self.order)(word).to_ne_bytes())
            .collect();
        if self.version == 3 {
            bytes.extend([0xaa; 4]);
            // The halves of a number in the other order change places as well.
            let sender = if (self.order)(1) == 1 { 7_u64 } else { 7_u64.swap_bytes() };
            bytes.extend(sender.to_ne_bytes());
        }
        bytes.extend(frame);
        self.put(self.at, &bytes);
        self.last = self.at % RING;
        let end = self.last + u32::try_from(bytes.len()).expect("short");
        self.generation += u32::from(end >= RING);
        self.at = end % RING;
        self
    }

    fn write(&mut self, folder: &Path, first: u32) -> PathBuf {
        let generation = if (self.order)(1) == 1 {
            [self.generation, 0]
        } else {
            [0, self.generation.swap_bytes()]
        };
        #[cfg(target_endian = "big")]
        let generation = [generation[1], generation[0]];
        let order = self.order;
        let words =
            [order(0xca11_d054), order(self.version), generation[0], generation[1], order(first)];
        for (index, word) in words.into_iter().chain([order(self.last), order(1), 0]).enumerate() {
            self.file[4 * index..][..4].copy_from_slice(&word.to_ne_bytes());
        }
        let path = folder.join("bus");
        std::fs::write(&path, &self.file).expect("written");
        path
    }
}

fn same(word: u32) -> u32 {
    word
}

/// Every kind, and how its packets' headers are long.
const KINDS: [(u32, Order, u32); 3] =
    [(2, same, 12), (2, u32::swap_bytes, 12), (3, u32::swap_bytes, 24)];

#[test]
fn the_frames_are_there() {
    for (version, order, header) in KINDS {
        let folder = tempfile::tempdir().expect("a folder");
        let mut maker = Maker::new(version, order);
        maker.packet(&[], 0, 0).packet(&[1; 60], 5, 6).packet(&[2; 5], 7, 8).packet(
            &[3; 1_514],
            9,
            10,
        );
        let dump = LegacyDump::open(maker.write(folder.path(), RING)).expect("a bus");

        let state = dump.state();
        assert_eq!((state.version, state.generation, state.first), (version, 0, RING));
        assert_eq!((state.last, state.locked), (3 * header + 65, true));
        assert!(!dump.is_corrupt());
        let frames: Vec<_> =
            dump.frames().map(|frame| (frame.bytes.to_vec(), frame.info)).collect();
        assert_eq!(frames.len(), 3);
        for ((bytes, info), (expected, len, seconds)) in
            frames.into_iter().zip([(1, 60, 5), (2, 5, 7), (3, 1_514, 9)])
        {
            assert_eq!(bytes, vec![expected; len]);
            assert_eq!((info.seconds, info.microseconds), (seconds, seconds + 1));
            assert_eq!(info.sender, if version == 3 { 7 } else { 0 });
        }
        assert_eq!(dump.frames().next().map(|frame| frame.info.offset), Some(2 * header));
    }
}

/// The newest one crosses the end wherever it can: in its header, between that and the frame, and
/// in the frame.
#[test]
fn frames_around_the_end_are_whole() {
    for (version, order, header) in KINDS {
        for before_end in (1..=header + 100).step_by(7) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut maker = Maker::new(version, order);
            maker.at = RING - before_end - header - 50;
            let first = maker.at;
            maker.packet(&[1; 50], 1, 1).packet(&[2; 100], 2, 2);
            let dump = LegacyDump::open(maker.write(folder.path(), first)).expect("a bus");
            assert_eq!(dump.state().generation, 1);
            let frames: Vec<_> = dump.frames().map(|frame| frame.bytes.to_vec()).collect();
            assert_eq!(frames, [vec![1; 50], vec![2; 100]], "{before_end} bytes before the end");
            assert!(!dump.is_corrupt());
        }
    }
}

#[test]
fn what_is_broken_ends_the_frames() {
    for (version, order, _) in KINDS {
        let folder = tempfile::tempdir().expect("a folder");
        let mut maker = Maker::new(version, order);
        maker.packet(&[1; 60], 1, 1).packet(&[2; 1_515], 2, 2).packet(&[3; 60], 3, 3);
        let dump = LegacyDump::open(maker.write(folder.path(), 0)).expect("a bus");
        assert_eq!((dump.frames().len(), dump.is_corrupt()), (1, true), "a frame that is too long");

        let dump = LegacyDump::open(maker.write(folder.path(), RING + 1)).expect("a bus");
        assert_eq!((dump.frames().len(), dump.is_corrupt()), (0, true), "first outside");

        maker.last = u32::MAX;
        let dump = LegacyDump::open(maker.write(folder.path(), 0)).expect("a bus");
        assert_eq!((dump.frames().len(), dump.is_corrupt()), (0, true), "last outside");

        maker.last = 13;
        let dump = LegacyDump::open(maker.write(folder.path(), 0)).expect("a bus");
        assert!(dump.is_corrupt(), "last between two packets");
    }
}

#[test]
fn none_can_be_joined_and_the_error_says_what_can_be_done() {
    for (version, order, _) in KINDS {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Maker::new(version, order).packet(&[], 0, 0).write(folder.path(), RING);
        let before = std::fs::read(&path).expect("there");
        for error in [
            Bus::open(&path).expect_err("refused"),
            Bus::open_read_only(&path).expect_err("refused"),
            Bus::open_or_create(&path, 0o600).expect_err("refused"),
        ] {
            assert!(error.can_be_dumped());
            assert!(error.to_string().ends_with("it can be dumped, not joined"), "{error}");
        }
        assert!(std::fs::read(&path).expect("there") == before);
    }
}

#[test]
fn an_unknown_version_is_refused() {
    for order in [same, u32::swap_bytes] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Maker::new(4, order).packet(&[], 0, 0).write(folder.path(), RING);
        let error = LegacyDump::open(&path).expect_err("refused");
        assert!(matches!(error, OpenError::WrongVersion { version: 4, .. }), "{error}");
        assert!(!error.can_be_dumped() && error.to_string().contains("only version 3"), "{error}");
    }
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    for (bytes, wrong_magic) in
        [(vec![0; FILE], true), (vec![0; 32], false), (vec![0; FILE + 5], false)]
    {
        std::fs::write(&path, &bytes).expect("written");
        match LegacyDump::open(&path).expect_err("refused") {
            OpenError::WrongMagic { magic: 0, .. } => assert!(wrong_magic),
            OpenError::WrongSize { size, .. } => assert_eq!(size, bytes.len() as u64),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(LegacyDump::open(folder.path()), Err(OpenError::NotAFile { .. })));
}

/// A bus of ours reads the same both ways.
#[test]
fn it_agrees_with_a_tap() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let bus = Bus::open_or_create(&path, 0o600).expect("a bus");
    let mut sender = Station::join(bus, StationOptions::new()).expect("joined");
    for round in 0..40_usize {
        sender
            .send_burst((0..50).map(|n| vec![0xff; 14 + (round * 37 + n) % 1_500]))
            .expect("sent");
        let mut tap = Tap::oldest(Bus::open_read_only(&path).expect("a bus")).expect("sound");
        let mut burst = shmbus::Burst::new(50_000);
        tap.recv_burst(&mut burst);
        let dump = LegacyDump::open(&path).expect("a bus");
        assert!(!dump.is_corrupt());
        assert_eq!(dump.frames().len(), burst.len());
        assert!(dump.frames().zip(&burst).all(|(a, b)| a.bytes == b.bytes && a.info == b.info));
    }
}
