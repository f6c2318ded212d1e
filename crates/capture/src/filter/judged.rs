//! Filters beside `tcpdump`, which judges them: both choose the same frames.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::reader::CaptureReader;
use crate::specimens;
use crate::{Filter, FilterError};

/// Expressions of every kind that pcap-filter(7) has.
const EXPRESSIONS: &str = include_str!("../../tests/seeds/filters.txt");

/// A pcap of Ethernet frames, in memory.
struct Pcap(Vec<u8>);

impl Pcap {
    fn new() -> Self {
        let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1_u32];
        Self(header.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    /// Adds a frame that had `original_len` bytes before it was cut.
    fn put(&mut self, frame: &[u8], original_len: usize) {
        let len = |len| u32::try_from(len).unwrap();
        for word in [7, 8, len(frame.len()), len(original_len)] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(frame);
    }
}

/// Writes a pcap of the specimens, some cut off, some with damage.
fn specimens(path: &Path) {
    let mut file = Pcap::new();
    let mut put = |frame: &[u8], original| file.put(frame, original);
    let mut random = fastrand::Rng::with_seed(3);
    for frame in specimens::frames() {
        put(&frame, frame.len());
        put(&frame[..random.usize(..=frame.len())], frame.len());
        for _ in 0..6 {
            let mut frame = frame.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..frame.len());
                frame[at] = random.u8(..);
            }
            put(&frame, frame.len());
        }
    }
    fs::write(path, file.0).unwrap();
}

/// Writes the Ethernet frames of all captures in `folder` to one pcap, and returns from how many
/// files they are. What the reader refuses is left out: many of a collection are damaged on purpose.
fn joined(folder: &Path, path: &Path) -> usize {
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    let mut file = Pcap::new();
    let mut files = 0;
    for path in &paths {
        let mut reader = CaptureReader::new(fs::File::open(path).unwrap());
        let mut any = false;
        while let Ok(Some(frame)) = reader.next_frame() {
            file.put(frame.bytes, frame.original_len);
            any = true;
        }
        files += usize::from(any);
    }
    fs::write(path, file.0).unwrap();
    files
}

/// Returns the frames that match.
fn ours(file: &[u8], filter: &Filter) -> Vec<Vec<u8>> {
    let mut reader = CaptureReader::new(file);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = reader.next_frame() {
        if filter.matches(frame.bytes, frame.original_len) {
            frames.push(frame.bytes.to_vec());
        }
    }
    frames
}

/// Returns the frames that `tcpdump` chooses; `None` when it refuses the expression.
fn theirs(path: &Path, expression: &str) -> Option<Vec<Vec<u8>>> {
    let output = Command::new("tcpdump")
        .args(["-nr", path.to_str().unwrap(), "-w", "-", "--", expression])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let mut reader = CaptureReader::new(&output.stdout[..]);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = reader.next_frame() {
        frames.push(frame.bytes.to_vec());
    }
    let is_refused = || String::from_utf8_lossy(&output.stderr).contains("reading from file");
    (output.status.success() || is_refused() && !frames.is_empty()).then_some(frames)
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let specimens = folder.join("specimens.pcap");
    self::specimens(&specimens);
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds/pcap");
    let names = ["nano.pcap", "nano_be.pcap", "time_goes_back.pcap"];
    [specimens].into_iter().chain(names.map(|name| seeds.join(name))).collect()
}

/// Returns where the program or the collection that a test needs is missing; says so, or fails when
/// it must not be.
fn misses(what: &str, is_there: bool) -> bool {
    assert!(is_there || std::env::var_os("BUSCTL_REQUIRE_PEERS").is_none(), "no {what}");
    if !is_there {
        eprintln!("skipped: no {what}");
    }
    !is_there
}

/// Compares what we and `tcpdump` choose of the first of `captures` by every expression, and by a
/// sample of them in the others. Returns the expressions, and how many chose a frame at all.
fn compare(captures: &[PathBuf]) -> (usize, usize) {
    let expressions: Vec<&str> =
        EXPRESSIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(expressions.len() >= 200, "{}", expressions.len());
    let files: Vec<_> = captures.iter().map(|path| fs::read(path).unwrap()).collect();
    let check = |expression: &str| {
        let filter = Filter::compile(expression);
        let mut matched = false;
        // The small ones have few kinds of frames: a sample does.
        let few = if expression.len().is_multiple_of(7) { captures.len() } else { 1 };
        for (path, file) in captures[..few].iter().zip(&files) {
            let ours = match &filter {
                Ok(filter) => Some(ours(file, filter)),
                Err(FilterError::Wrong { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            let theirs = theirs(path, expression);
            matched |= ours.as_ref().is_some_and(|frames| !frames.is_empty());
            if ours != theirs {
                let [ours, theirs] = [ours, theirs].map(|frames| frames.map(|frames| frames.len()));
                return Err(format!("'{expression}': {ours:?} frames, and tcpdump {theirs:?}"));
            }
        }
        Ok(matched)
    };
    let halves: Vec<_> = expressions.chunks(expressions.len().div_ceil(2)).collect();
    let results: Vec<Result<bool, String>> = thread::scope(|scope| {
        let check = |half: &[&str]| half.iter().map(|expression| check(expression)).collect();
        let threads: Vec<_> = halves.iter().map(|half| scope.spawn(move || check(half))).collect();
        threads.into_iter().flat_map(|thread| -> Vec<_> { thread.join().unwrap() }).collect()
    });
    let differences: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    (expressions.len(), results.iter().filter(|result| **result == Ok(true)).count())
}

#[test]
fn tcpdump_chooses_the_same_frames() {
    if misses("tcpdump", Command::new("tcpdump").arg("--version").output().is_ok()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (expressions, matched) = compare(&captures(folder.path()));
    // The others are refused, or about what no specimen has.
    assert!(matched * 10 > expressions * 8, "{matched} of {expressions}");
}

#[test]
fn tcpdump_chooses_the_same_frames_of_a_public_collection() {
    let collection = std::env::var_os("BUSCTL_TEST_CAPTURES").map(PathBuf::from);
    if misses("tcpdump", Command::new("tcpdump").arg("--version").output().is_ok())
        || misses("captures in $BUSCTL_TEST_CAPTURES", collection.is_some())
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("collection.pcap");
    let files = joined(&collection.unwrap(), &capture);
    assert!(files >= 100, "only {files} captures of the collection have Ethernet frames");
    let (expressions, matched) = compare(&[capture]);
    assert!(matched * 10 > expressions * 6, "{matched} of {expressions}");
}
