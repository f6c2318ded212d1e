//! What every kind of port has to do, whatever its peer is: one suite, gone through by all of them.
//!
//! The tests take the node's part, a call at a time, and watch from another station on the bus; each kind brings a [`Peer`] at the
//! other end of its cable.

mod bus;
mod memif;
mod pcap;
mod tap;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmbus::{Burst, Bus, Station, StationOptions};
use tempfile::TempDir;

use crate::open::{PortOptions, open};
use crate::port::{Moved, Port};
use crate::spec::PortSpec;

/// How long a test waits for what should happen at once.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Frames of a test.
const FRAMES: u32 = 2_000;

/// The other end of a port's cable.
trait Peer {
    /// Sends a frame, if there is room for it.
    fn send(&mut self, frame: &[u8]) -> bool;

    /// Appends what has come.
    fn receive(&mut self, frames: &mut Vec<Vec<u8>>);

    /// Goes away without a word.
    fn vanish(&mut self);

    /// Is there again, if this kind of peer can be.
    fn come_back(&mut self) -> bool;

    /// Whether what is sent to it while it does not listen waits for it. The kernel throws away what is too much for it.
    fn keeps_what_it_does_not_read(&self) -> bool {
        true
    }
}

/// A port on a bus, its peer, and a station that watches.
struct Bench {
    port: Box<dyn Port>,
    station: Station,
    witness: Station,
    burst: Burst,
    peer: Box<dyn Peer>,
    /// What the witness has seen.
    seen: Vec<Vec<u8>>,
    /// What the peer has received.
    received: Vec<Vec<u8>>,
    told: Vec<String>,
    to_bus: Moved,
    to_peer: Moved,
    _folder: TempDir,
}

/// A kind of port; what it needs is made in a folder.
type Kind = fn(&Path) -> Cable;

/// A port as it is written, and how to connect its peer when it is open.
type Cable = (String, Box<dyn FnOnce() -> Box<dyn Peer>>);

impl Bench {
    /// Opens the port; the peer is there from the beginning, or not yet.
    fn new(kind: Kind) -> Self {
        shmbus::survive_truncation().expect("a handler");
        let folder = tempfile::tempdir().expect("a folder");
        let (spec, peer) = kind(folder.path());
        let spec: PortSpec = spec.parse().expect("a port");
        let path = folder.path().join("lan.bus");
        let mut ports = open(std::slice::from_ref(&spec), &path, &PortOptions::new()).expect("opened");
        let bus = || Bus::open_or_create(&path, 0o600).expect("a bus");
        let options = StationOptions::new().promiscuous(true);
        let mut port = ports.remove(0);
        let mut station = Station::join(bus(), options.clone()).expect("joined");
        port.attach(&mut station);
        Self {
            port,
            station,
            witness: Station::join(bus(), options).expect("joined"),
            burst: Burst::new(512),
            peer: peer(),
            seen: Vec::new(),
            received: Vec::new(),
            told: Vec::new(),
            to_bus: Moved::default(),
            to_peer: Moved::default(),
            _folder: folder,
        }
    }

    /// With the peer there.
    fn connected(kind: Kind) -> Self {
        let mut bench = Self::new(kind);
        bench.until("the port is up", |bench| bench.port.is_up());
        bench
    }

    fn service(&mut self) {
        if self.port.wants_service() {
            self.port.service(&mut |text| self.told.push(text.to_owned()));
        }
        if !self.port.is_up() {
            self.station.discard_pending();
        }
    }

    /// What a node does all the time; whether something moved.
    fn turn(&mut self) -> bool {
        self.service();
        let mut moved = false;
        if self.port.is_up() {
            let (to_bus, to_peer) =
                (self.port.ingress(&mut self.station), self.port.egress(&mut self.station));
            let to_bus = to_bus.expect("the bus is free");
            for (sum, one) in [(&mut self.to_bus, to_bus), (&mut self.to_peer, to_peer)] {
                sum.frames += one.frames;
                sum.dropped += one.dropped;
                moved |= one.frames + one.dropped > 0;
            }
        }
        self.witness.recv_burst(&mut self.burst);
        self.seen.extend(self.burst.iter().map(|frame| frame.bytes.to_vec()));
        moved
    }

    /// Takes turns, while the peer listens, until it holds.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(
                begin.elapsed() < WAIT_TIMEOUT,
                "waited in vain: {what}; seen {}, received {}, to the bus {:?}, to the peer {:?}, told {:?}",
                self.seen.len(),
                self.received.len(),
                self.to_bus,
                self.to_peer,
                self.told
            );
            if !self.turn() {
                // A peer may need the processor.
                std::thread::sleep(Duration::from_micros(50));
            }
            self.peer.receive(&mut self.received);
        }
    }

    /// Sends from the peer, taking turns where there is no room.
    fn peer_sends(&mut self, frame: &[u8]) {
        self.until("the peer has room", |bench| bench.peer.send(frame));
    }

    /// Whether a descriptor of the port says that it wants to be asked, for some time at most.
    fn is_woken(&self, time: Duration) -> bool {
        let mut descriptors = Vec::new();
        self.port.descriptors(&mut |descriptor| descriptors.push(PollFd::new(descriptor, PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(time.as_millis()).expect("a short time");
        poll(&mut descriptors, timeout).expect("polled") > 0
    }
}

/// A frame of `len` bytes to everybody, which nobody answers, with a number.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5".to_vec();
    frame.extend(number.to_be_bytes());
    frame.resize(len, number.to_le_bytes()[0]);
    frame
}

/// Frames of all lengths.
fn frames() -> Vec<Vec<u8>> {
    (0..FRAMES).map(|number| frame(number, 60 + number as usize * 97 % 1_455)).collect()
}

/// What is sent by either side is received by the other: all of it, byte for byte, in order, and accounted for.
fn order_is_kept(kind: Kind) {
    let mut bench = Bench::connected(kind);
    let frames = frames();
    let mut sent = 0;
    for frames in frames.chunks(100) {
        for frame in frames {
            bench.peer_sends(frame);
        }
        sent += frames.len();
        bench.until("the witness has seen these", |bench| bench.seen.len() >= sent);
    }
    assert!(bench.seen == frames, "the bus has what the peer sent");
    assert_eq!((bench.to_bus.frames, bench.to_bus.dropped), (frames.len(), 0));
    assert!(bench.received.is_empty(), "nothing comes back to where it came from");

    for frames in frames.chunks(32) {
        bench.witness.send_burst(frames).expect("sent");
        let (received, count) = (bench.received.len(), frames.len());
        bench.until("the peer has received these", |bench| bench.received.len() >= received + count);
    }
    assert!(bench.received == frames, "the peer has what was on the bus");
    assert_eq!((bench.to_peer.frames, bench.to_peer.dropped), (frames.len(), 0));
}

/// A frame that a bus does not carry is dropped, alone, and accounted for.
fn what_is_too_long_is_dropped_and_counted(kind: Kind) {
    let mut bench = Bench::connected(kind);
    for (number, len) in [(0, 60), (1, 1_600), (2, 1_515), (3, 1_514), (4, 2_000), (5, 61)] {
        bench.peer_sends(&frame(number, len));
    }
    bench.until("three are seen", |bench| bench.seen.len() >= 3);
    bench.until("three are counted", |bench| bench.to_bus.dropped >= 3);
    assert!(bench.seen == [frame(0, 60), frame(3, 1_514), frame(5, 61)]);
    assert_eq!((bench.to_bus.frames, bench.to_bus.dropped), (3, 3));
}

/// A peer that does not listen for a while holds up nobody; what it gets then is in order, nothing twice, and if the peer can
/// make the port wait, nothing is missing.
fn a_peer_may_stop_and_go(kind: Kind) {
    let mut bench = Bench::connected(kind);
    let sent: Vec<Vec<u8>> = (0..4_000).map(|number| frame(number, 120)).collect();
    for burst in sent.chunks(100) {
        bench.witness.send_burst(burst).expect("sent");
        // As often as a node would; the peer does not listen.
        for _ in 0..10 {
            bench.turn();
        }
    }
    // It may still speak.
    bench.peer_sends(&frame(9, 90));
    bench.until("the peer is heard", |bench| bench.seen.contains(&frame(9, 90)));
    let last = frame(5_000, 100);
    if bench.peer.keeps_what_it_does_not_read() {
        bench.until("the peer has received all", |bench| bench.received.len() >= sent.len());
        assert!(bench.received == sent, "nothing is missing");
        assert_eq!((bench.to_peer.frames, bench.to_peer.dropped), (sent.len(), 0));
    }
    bench.witness.send(&last).expect("sent");
    bench.until("the peer has received the last", |bench| bench.received.contains(&last));
    let numbers: Vec<&[u8]> = bench.received.iter().map(|frame| &frame[14..18]).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and nothing twice");
}

/// A peer that dies is noticed, harms nobody, and misses what is sent meanwhile; where it can come back, all is as before.
fn a_peer_may_die(kind: Kind) {
    let mut bench = Bench::connected(kind);
    bench.peer_sends(&frame(0, 60));
    bench.until("it is heard", |bench| bench.seen.len() == 1);
    bench.peer.vanish();
    let mut number = 1;
    bench.until("it is missed", |bench| {
        bench.witness.send(&frame(number, 60)).expect("sent");
        number += 1;
        !bench.port.is_up()
    });
    // Far more than a ring holds.
    for burst in vec![frame(number, 1_514); 2_000].chunks(50) {
        bench.witness.send_burst(burst).expect("sent");
        bench.turn();
    }
    assert!(!bench.port.is_up());
    bench.received.clear();
    if !bench.peer.come_back() {
        return;
    }
    bench.until("it is up again", |bench| bench.port.is_up());
    bench.seen.clear();
    // Either end may know a little later than the other.
    bench.until("it is heard again", |bench| {
        bench.peer.send(&frame(7_000, 60));
        bench.seen.contains(&frame(7_000, 60))
    });
    bench.until("it hears again", |bench| {
        bench.witness.send(&frame(7_001, 60)).expect("sent");
        bench.received.contains(&frame(7_001, 60))
    });
    assert!(bench.received.iter().all(|got| *got == frame(7_001, 60)), "what it missed is gone");
}

/// A port that sleeps is woken by what its peer sends, and does not wake by itself.
fn a_sleeper_is_woken(kind: Kind) {
    let mut bench = Bench::connected(kind);
    for number in 0..20 {
        bench.until("it falls asleep", |bench| {
            // What is left to be done is done first.
            !bench.turn() && !bench.port.arm() && !bench.is_woken(Duration::ZERO) || {
                bench.port.disarm();
                false
            }
        });
        assert!(!bench.is_woken(Duration::from_millis(1)), "nothing has happened");
        assert!(bench.peer.send(&frame(number, 60)), "there is room for one");
        assert!(bench.is_woken(WAIT_TIMEOUT), "something has");
        bench.port.disarm();
        bench.until("it is seen", |bench| bench.seen.len() == number as usize + 1);
    }
}

/// The suite for one kind, bare and in every wrapper.
macro_rules! conforms {
    ($kind:ident, $run:ident) => {
        crate::conformance::suite!($kind, $run);

        mod learning {
            use super::{$kind, $run};
            use crate::conformance::Cable;

            fn wrapped(folder: &std::path::Path) -> Cable {
                let (spec, peer) = $kind(folder);
                (format!("{spec},learn=on"), peer)
            }

            crate::conformance::suite!(wrapped, $run);
        }
    };
}
use conforms;

macro_rules! suite {
    ($kind:ident, $run:ident) => {
        #[test]
        fn order_is_kept() {
            $run(crate::conformance::order_is_kept, $kind);
        }

        #[test]
        fn what_is_too_long_is_dropped_and_counted() {
            $run(crate::conformance::what_is_too_long_is_dropped_and_counted, $kind);
        }

        #[test]
        fn a_peer_may_stop_and_go() {
            $run(crate::conformance::a_peer_may_stop_and_go, $kind);
        }

        #[test]
        fn a_peer_may_die() {
            $run(crate::conformance::a_peer_may_die, $kind);
        }

        #[test]
        fn a_sleeper_is_woken() {
            $run(crate::conformance::a_sleeper_is_woken, $kind);
        }
    };
}
use suite;

/// Runs a test of the suite here and now.
fn here(test: fn(Kind), kind: Kind) {
    test(kind);
}
