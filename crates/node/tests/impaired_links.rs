//! How accurate the times of impaired links are, between two buses that a node joins.

use std::path::Path;
use std::time::{Duration, Instant};

use node::{Node, NodeOptions};
use port::{PortOptions, PortSpec};
use shmbus::{Burst, Bus, Station, StationOptions};

/// Two buses joined by a port with impairments, and a station on each.
struct Bench {
    _node: Node,
    sender: Station,
    receiver: Station,
    burst: Burst,
    begin: Instant,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(impairments: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (here, there) = (folder.path().join("a"), folder.path().join("b"));
        let bus = |path: &Path| Bus::open_or_create(path, 0o600).expect("a bus");
        let join = |path: &Path| Station::join(bus(path), StationOptions::new()).expect("joined");
        let mut node = Node::start(NodeOptions::new()).expect("a node");
        let spec: PortSpec =
            format!("bus:{},{impairments}", there.display()).parse().expect("a port");
        for port in port::open(&[spec], &here, &PortOptions::new()).expect("opened") {
            node.attach(port, bus(&here)).expect("attached");
        }
        let (sender, receiver) = (join(&there), join(&here));
        let (burst, begin) = (Burst::new(256), Instant::now());
        Self { _node: node, sender, receiver, burst, begin, _folder: folder }
    }

    /// Sends a frame of 60 bytes that holds the time.
    fn send(&mut self) {
        let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5".to_vec();
        let time = u64::try_from(self.begin.elapsed().as_nanos()).expect("short");
        frame.extend(time.to_be_bytes());
        frame.resize(60, 0);
        self.sender.send(&frame).expect("sent");
    }

    /// Appends how long each frame that has arrived took.
    fn receive(&mut self, latencies: &mut Vec<Duration>) {
        self.receiver.recv_burst(&mut self.burst);
        let now = self.begin.elapsed();
        for frame in &self.burst {
            let time = frame.bytes[14..22].try_into().expect("8 bytes");
            latencies.push(now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(time))));
        }
    }
}

#[test]
fn frames_are_never_early() {
    let mut bench = Bench::new("delay=10ms");
    let mut latencies = Vec::new();
    let begin = Instant::now();
    while latencies.len() < 100 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{latencies:?}");
        bench.send();
        std::thread::sleep(Duration::from_millis(1));
        bench.receive(&mut latencies);
    }
    assert!(latencies.iter().all(|latency| *latency >= Duration::from_millis(10)), "{latencies:?}");
}

/// Sends `frames` frames, one each `pause`, and prints how long they took.
fn measure(frames: u32, pause: Duration) {
    let mut bench = Bench::new("delay=10ms,limit=100000");
    let (mut latencies, mut sent) = (Vec::new(), 0);
    let begin = Instant::now();
    let end = pause * frames + Duration::from_millis(100);
    while begin.elapsed() < end {
        while sent < frames && begin.elapsed() > pause * sent {
            bench.send();
            sent += 1;
        }
        bench.receive(&mut latencies);
    }
    latencies.sort_unstable();
    let at = |thousandths: usize| latencies[latencies.len() * thousandths / 1_000];
    println!(
        "each {pause:?}: {frames} sent, {} arrived: median {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}",
        latencies.len(),
        at(500),
        at(900),
        at(990),
        at(999)
    );
}

#[test]
#[ignore = "a measurement, of an idle machine"]
fn accuracy() {
    for (frames, micros) in [(300_000, 10), (30_000, 100), (3_000, 1_000), (300, 10_000)] {
        measure(frames, Duration::from_micros(micros));
    }
}

#[test]
#[ignore = "a measurement, of an idle machine"]
fn rate() {
    // 25,000 frames of 60 bytes are 12 Mbit: at 10mbit they take 1.2 seconds.
    let mut bench = Bench::new("rate=10mbit,limit=100000");
    let mut latencies = Vec::new();
    let (frames, begin) = (25_000, Instant::now());
    for _ in 0..frames / 100 {
        (0..100).for_each(|_| bench.send());
        std::thread::sleep(Duration::from_millis(1));
        bench.receive(&mut latencies);
    }
    while latencies.len() < frames && begin.elapsed() < Duration::from_secs(10) {
        bench.receive(&mut latencies);
    }
    println!("{} frames took {:?} instead of 1.2 s", latencies.len(), begin.elapsed());
}
