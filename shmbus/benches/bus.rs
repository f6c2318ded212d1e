//! One writer and one polling reader, two processes on two processors, beside the yardstick: the same bytes copied through a ring
//! of the same size that has no protocol at all.
//!
//! ```text
//! cargo bench -p shmbus --bench bus
//! ```

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use shmbus::{Burst, Bus, Interface, StationOptions, Tap};

const TIME: Duration = Duration::from_millis(500);
const RUNS: usize = 5;
const LENS: [usize; 3] = [64, 512, 1_514];
const BURSTS: [usize; 3] = [1, 32, 256];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, path, len, burst] = &arguments[..] {
        let (len, burst) = (len.parse().expect("a number"), burst.parse().expect("a number"));
        pin(1);
        match role.as_str() {
            "bus" => write_bus(Path::new(path), len, burst),
            _ => write_yardstick(Path::new(path), len, burst),
        }
        return;
    }
    pin(0);
    println!("million frames/s received, medians of {RUNS}; lost: of those sent, by the reader's bytes");
    println!("{:>6} {:>6} {:>10} {:>10} {:>8} {:>8}", "bytes", "burst", "yardstick", "bus", "ratio", "lost");
    for len in LENS {
        for burst in BURSTS {
            let mut runs: Vec<[f64; 3]> = (0..RUNS)
                .map(|_| {
                    let (bus, lost) = bus(len, burst);
                    [yardstick(len, burst), bus, lost]
                })
                .collect();
            let mut median = |of: usize| {
                runs.sort_by(|a, b| a[of].total_cmp(&b[of]));
                runs[RUNS / 2][of]
            };
            let (yardstick, bus, lost) = (median(0), median(1), median(2));
            let ratio = bus / yardstick * 100.0;
            println!(
                "{len:>6} {burst:>6} {yardstick:>10.2} {bus:>10.2} {ratio:>7.0}% {:>7.2}%",
                lost * 100.0
            );
        }
    }
}

/// Keeps the process on one of two processors. On a machine with one the figures mean nothing, but nothing breaks.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

/// A writer in a process of its own: it says when it is ready, and writes until its stdin is closed.
struct Writer(Child);

impl Writer {
    fn start(role: &str, path: &Path, len: usize, burst: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([role, path.to_str().expect("a plain path"), &len.to_string(), &burst.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("ready");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Writes bursts until nobody wants more; looks for that now and then.
fn write_until_closed(mut write: impl FnMut()) {
    let (sender, closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        let _ = sender.send(());
    });
    println!("ready");
    std::io::stdout().flush().expect("the parent listens");
    while closed.try_recv().is_err() {
        for _ in 0..64 {
            write();
        }
    }
}

fn write_bus(path: &Path, len: usize, burst: usize) {
    let mut station =
        Interface::join(Bus::open(path).expect("a bus"), StationOptions::new()).expect("joined");
    let frames = vec![vec![0xff; len]; burst];
    write_until_closed(|| station.send_burst(&frames).expect("sent"));
}

/// Frames a second that were received, and the share of the bytes that was not.
fn bus(len: usize, burst: usize) -> (f64, f64) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("bus");
    drop(Bus::open_or_create(&path, 0o600).expect("a bus"));
    let _writer = Writer::start("bus", &path, len, burst);
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("sound");
    let mut received = Burst::new(256);
    let (begin, mut looks) = (Instant::now(), 0_u32);
    loop {
        tap.recv_burst(&mut received);
        std::hint::black_box(&received);
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(64) && begin.elapsed() >= TIME {
            break;
        }
    }
    let stats = tap.stats();
    let on_the_ring = (stats.rx_packets * (len as u64 + 24)) as f64;
    let missed = stats.overrun_bytes as f64;
    (stats.rx_packets as f64 / begin.elapsed().as_secs_f64() / 1e6, missed / (missed + on_the_ring))
}

/// A mebibyte of which the first page holds two counts of bytes: written, and read.
struct Plain {
    map: MmapRaw,
}

impl Plain {
    const SIZE: usize = 1 << 20;

    fn open(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).expect("a file");
        Self { map: MmapOptions::new().len(Self::SIZE + 4_096).map_raw(&file).expect("mapped") }
    }

    fn count(&self, at: usize) -> &AtomicU64 {
        assert!(at < 4_096 && at.is_multiple_of(64));
        // SAFETY: inside the first page, aligned, and used as an atomic by everybody.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().wrapping_add(at).cast()) }
    }

    /// Where the byte `count` of the stream lies, if `len` of them do before the end of the ring.
    fn place(&self, count: u64, len: usize) -> Option<*mut u8> {
        let at = usize::try_from(count % Self::SIZE as u64).expect("below a mebibyte");
        (at + len <= Self::SIZE).then(|| self.map.as_mut_ptr().wrapping_add(4_096 + at))
    }
}

fn write_yardstick(path: &Path, len: usize, burst: usize) {
    let ring = Plain::open(path);
    let (written, read) = (ring.count(0), ring.count(64));
    let frame = vec![0xff_u8; len];
    let mut count = 0;
    write_until_closed(|| {
        // A whole ring is never ahead: what is measured is copying, not losing.
        if count - read.load(Ordering::Acquire) > (Plain::SIZE - (burst + 1) * (len + 24)) as u64 {
            return;
        }
        for _ in 0..burst {
            if let Some(to) = ring.place(count, len) {
                // SAFETY: `place` checked the range; the frame is as long.
                unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), to, len) };
            }
            // As far apart as frames with headers on a bus.
            count += len as u64 + 24;
        }
        written.store(count, Ordering::Release);
    });
}

fn yardstick(len: usize, burst: usize) -> f64 {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("ring");
    let file = File::create_new(&path).expect("a file");
    file.set_len(Plain::SIZE as u64 + 4_096).expect("room");
    let _writer = Writer::start("yardstick", &path, len, burst);
    let ring = Plain::open(&path);
    let (written, read) = (ring.count(0), ring.count(64));
    let mut frame = vec![0_u8; len];
    let (begin, mut looks, mut count) = (Instant::now(), 0_u32, 0);
    loop {
        let end = written.load(Ordering::Acquire);
        while count < end {
            if let Some(from) = ring.place(count, len) {
                // SAFETY: `place` checked the range; the frame is as long.
                unsafe { std::ptr::copy_nonoverlapping(from, frame.as_mut_ptr(), len) };
                std::hint::black_box(&frame);
            }
            count += len as u64 + 24;
        }
        read.store(count, Ordering::Release);
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(64) && begin.elapsed() >= TIME {
            break;
        }
    }
    (count / (len as u64 + 24)) as f64 / begin.elapsed().as_secs_f64() / 1e6
}
