//! The conformance suite: what every kind of port must do, bare and in every wrapper.
//!
//! The tests play the node, a call at a time, and watch from another station on the bus. Each kind
//! brings a [`Peer`] at the other end of its cable.

mod bus;
mod memif;
mod pcap;
mod socket;
mod tap;
mod vxlan;
mod wrappers;

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmbus::{Burst, Bus, Station, StationOptions};
use tempfile::TempDir;

use crate::loop_guard::LoopGuard;
use crate::open::{PortOptions, open};
use crate::port::{LinkState, Moved, Port};
use crate::spec::PortSpec;

/// How long a test waits for something that should happen at once.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The frames of a test.
const FRAMES: u32 = 2_000;

/// The `EtherType` of the probes of a loop guard, which a peer receives besides all frames.
const PROBES: [u8; 2] = [0x90, 0x00];

/// The header of all frames of a peer in IP mode: to all stations, from the port.
const IP_HEADER: [u8; 14] = *b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0";

thread_local! {
    /// Whether the test of this thread is about guarded ports.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Whether it is about peers in IP mode.
    static IP_MODE: Cell<bool> = const { Cell::new(false) };
}

/// Makes the test of this thread one of guarded ports.
fn guard() {
    GUARDED.set(true);
}

/// Makes the test of this thread one of peers in IP mode.
fn ip_mode() {
    IP_MODE.set(true);
}

/// The other end of a port's cable.
trait Peer {
    /// Sends a frame. Returns `false` when there is no room for it.
    fn send(&mut self, frame: &[u8]) -> bool;

    /// Appends the frames that have arrived.
    fn receive(&mut self, frames: &mut Vec<Vec<u8>>);

    /// Disappears without notice.
    fn vanish(&mut self);

    /// Returns, if this kind of peer can.
    fn come_back(&mut self) -> bool;

    /// Returns whether the port learns that the peer is gone. Without a connection it does not.
    fn is_missed(&self) -> bool {
        true
    }

    /// Returns whether frames wait while the peer does not read. The kernel, in contrast, drops
    /// frames when a queue is full.
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
    /// The frames that the witness has received.
    seen: Vec<Vec<u8>>,
    /// How many more were ARP, which a port in IP mode says itself.
    said: usize,
    /// The frames that the peer has received.
    received: Vec<Vec<u8>>,
    reports: Vec<String>,
    to_bus: Moved,
    to_peer: Moved,
    _folder: TempDir,
}

/// A kind of port. Its files are made in the given folder.
type Kind = fn(&Path) -> Cable;

/// A port as it is written, and a function that connects its peer once the port is open.
type Cable = (String, Box<dyn FnOnce() -> Box<dyn Peer>>);

impl Bench {
    /// Opens the port. The peer may be there already, or come later.
    fn new(kind: Kind) -> Self {
        shmbus::survive_truncation().expect("a handler");
        let folder = tempfile::tempdir().expect("a folder");
        let (spec, peer) = kind(folder.path());
        let spec: PortSpec = spec.parse().expect("a port");
        let path = folder.path().join("lan.bus");
        let mut ports =
            open(std::slice::from_ref(&spec), &path, &PortOptions::new()).expect("opened");
        let bus = || Bus::open_or_create(&path, 0o600).expect("a bus");
        let options = StationOptions::new().promiscuous(true);
        let mut port = ports.remove(0);
        if GUARDED.get() {
            port = Box::new(LoopGuard::new(port));
        }
        let own = spec.mac().map_or(options.clone(), |mac| options.clone().mac(mac));
        let mut station = Station::join(bus(), own).expect("joined");
        port.attach(&mut station);
        let mut witness = Station::join(bus(), options).expect("joined");
        witness.set_vlan(spec.rules().vlan.clone());
        Self {
            port,
            station,
            witness,
            burst: Burst::new(512),
            peer: peer(),
            seen: Vec::new(),
            said: 0,
            received: Vec::new(),
            reports: Vec::new(),
            to_bus: Moved::default(),
            to_peer: Moved::default(),
            _folder: folder,
        }
    }

    /// Opens the port and waits for its peer.
    fn connected(kind: Kind) -> Self {
        let mut bench = Self::new(kind);
        bench.until("frames pass", |bench| bench.port.link_state() == LinkState::Up);
        if IP_MODE.get() {
            bench.until("the addresses are announced", |bench| bench.said >= 3);
        }
        bench
    }

    fn service(&mut self) {
        if self.port.wants_service() {
            self.port.service(&mut |text| self.reports.push(text.to_owned()));
        }
        if !self.port.is_up() {
            self.station.discard_pending();
        }
    }

    /// Plays one round of a node. Returns whether something moved.
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
        let (said, seen): (Vec<_>, Vec<_>) = self
            .burst
            .iter()
            .map(|frame| frame.bytes.to_vec())
            .partition(|frame| IP_MODE.get() && frame[12..14] == [0x08, 0x06]);
        self.said += said.len();
        self.seen.extend(seen);
        moved
    }

    /// Takes turns, while the peer reads, until a condition holds.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(
                begin.elapsed() < WAIT_TIMEOUT,
                "waited in vain: {what}; seen {}, received {}, to the bus {:?}, to the peer {:?}, reports {:?}",
                self.seen.len(),
                self.received.len(),
                self.to_bus,
                self.to_peer,
                self.reports
            );
            if !self.turn() {
                // The peer may need the processor.
                std::thread::sleep(Duration::from_micros(50));
            }
            self.peer.receive(&mut self.received);
            self.received.retain(|frame| frame[12..14] != PROBES);
        }
    }

    /// Sends a frame from the peer, and takes turns while there is no room.
    fn peer_sends(&mut self, frame: &[u8]) {
        self.until("the peer has room", |bench| bench.peer.send(frame));
    }

    /// Returns whether a descriptor of the port polls readable within `time`.
    fn is_woken(&self, time: Duration) -> bool {
        let mut descriptors = Vec::new();
        self.port.descriptors(&mut |descriptor| {
            descriptors.push(PollFd::new(descriptor, PollFlags::POLLIN));
        });
        let timeout = PollTimeout::try_from(time.as_millis()).expect("a short time");
        poll(&mut descriptors, timeout).expect("polled") > 0
    }
}

/// Makes a numbered broadcast frame of `len` bytes, of an `EtherType` that no station answers; for a
/// peer in IP mode with a packet to all, of a protocol for experiments.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5".to_vec();
    if IP_MODE.get() {
        let [high, low] = u16::try_from(len - IP_HEADER.len()).expect("short").to_be_bytes();
        frame = IP_HEADER.to_vec();
        frame.extend([0x45, 0, high, low, 0, 0, 0, 0, 64, 253, 0, 0]);
        frame.extend([10, 0, 0, 2, 255, 255, 255, 255]);
    }
    frame.extend(number.to_be_bytes());
    frame.resize(len, number.to_le_bytes()[0]);
    frame
}

/// Returns the bytes of a frame's number.
fn number(frame: &[u8]) -> &[u8] {
    let at = if IP_MODE.get() { IP_HEADER.len() + 20 } else { 14 };
    &frame[at..at + 4]
}

/// Makes frames of all lengths, up to `longest`.
fn frames(longest: usize) -> Vec<Vec<u8>> {
    (0..FRAMES).map(|number| frame(number, 60 + number as usize * 97 % (longest - 59))).collect()
}

/// Each side receives all that the other sends: byte for byte, in order, and counted.
fn order_is_kept(kind: Kind) {
    let mut bench = Bench::connected(kind);
    let frames = frames(bench.witness.max_frame());
    let mut sent = 0;
    for frames in frames.chunks(100) {
        for frame in frames {
            bench.peer_sends(frame);
        }
        sent += frames.len();
        bench.until("the witness has seen these", |bench| bench.seen.len() >= sent);
    }
    assert!(bench.seen == frames, "the bus has what the peer sent");
    assert_eq!((bench.to_bus.frames, bench.to_bus.dropped), (frames.len() + bench.said, 0));
    assert!(bench.received.is_empty(), "no frame returns to its sender");

    for frames in frames.chunks(32) {
        bench.witness.send_burst(frames).expect("sent");
        let (received, count) = (bench.received.len(), frames.len());
        bench
            .until("the peer has received these", |bench| bench.received.len() >= received + count);
    }
    assert!(bench.received == frames, "the peer has what was on the bus");
    assert_eq!((bench.to_peer.frames, bench.to_peer.dropped), (frames.len(), 0));
}

/// Only the frames that a bus does not carry are dropped, and they are counted.
fn long_frames_are_dropped_and_counted(kind: Kind) {
    let mut bench = Bench::connected(kind);
    let longest = bench.witness.max_frame();
    let lengths = [60, 1_600, longest + 1, longest, 2_000, 61];
    for (number, len) in (0..).zip(lengths) {
        bench.peer_sends(&frame(number, len));
    }
    bench.until("three are seen", |bench| bench.seen.len() >= 3);
    bench.until("three are counted", |bench| bench.to_bus.dropped >= 3);
    assert!(bench.seen == [frame(0, 60), frame(3, longest), frame(5, 61)]);
    assert_eq!((bench.to_bus.frames, bench.to_bus.dropped), (3 + bench.said, 3));
}

/// A peer that stops reading for a while delays no other. What it receives afterwards is in order
/// and without duplicates, and complete if the peer can make the port wait.
fn a_peer_may_pause(kind: Kind) {
    let mut bench = Bench::connected(kind);
    let sent: Vec<Vec<u8>> = (0..4_000).map(|number| frame(number, 120)).collect();
    for burst in sent.chunks(100) {
        bench.witness.send_burst(burst).expect("sent");
        // As often as a node would. The peer does not read.
        for _ in 0..10 {
            bench.turn();
        }
    }
    // It may still send.
    bench.peer_sends(&frame(9, 90));
    bench.until("the frame of the peer is seen", |bench| bench.seen.contains(&frame(9, 90)));
    let keeps = bench.peer.keeps_what_it_does_not_read();
    if keeps {
        bench.until("the peer has received all", |bench| bench.received.len() >= sent.len());
        assert!(bench.received == sent, "nothing is missing");
        assert_eq!((bench.to_peer.frames, bench.to_peer.dropped), (sent.len(), 0));
    }
    let (first, mut next) = (5_000_u32, 5_000);
    bench.until("the peer has received a later one", |bench| {
        // A queue that is still full of earlier frames may drop some.
        if next == first || !keeps {
            bench.witness.send(&frame(next, 100)).expect("sent");
            next += 1;
        }
        bench.received.iter().any(|frame| number(frame) >= &first.to_be_bytes()[..])
    });
    let numbers: Vec<&[u8]> = bench.received.iter().map(|frame| number(frame)).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order and without duplicates");
}

/// The port notices a peer that dies, and drops what is sent meanwhile. When the peer can return,
/// everything works as before.
fn a_peer_may_die(kind: Kind) {
    let mut bench = Bench::connected(kind);
    bench.peer_sends(&frame(0, 60));
    bench.until("its frame is seen", |bench| bench.seen.len() == 1);
    // A port that has not yet found a reader for a pipe waits for one, and does not miss it.
    bench.witness.send(&frame(1, 60)).expect("sent");
    bench.until("it receives one", |bench| bench.received.contains(&frame(1, 60)));
    bench.peer.vanish();
    let mut number = 2;
    let is_missed = bench.peer.is_missed();
    bench.until("the port is down", |bench| {
        bench.witness.send(&frame(number, 60)).expect("sent");
        number += 1;
        !bench.port.is_up() || !is_missed
    });
    // Far more than a ring can hold.
    let longest = bench.witness.max_frame();
    for burst in vec![frame(number, longest); 2_000].chunks(50) {
        bench.witness.send_burst(burst).expect("sent");
        bench.turn();
    }
    assert_eq!(bench.port.is_up(), !is_missed);
    bench.received.clear();
    if !bench.peer.come_back() {
        return;
    }
    bench.until("the port is up again", |bench| bench.port.is_up());
    bench.seen.clear();
    // The two ends do not learn at the same moment that they are connected.
    bench.until("its frames are seen again", |bench| {
        bench.peer.send(&frame(7_000, 60));
        bench.seen.contains(&frame(7_000, 60))
    });
    bench.until("it receives again", |bench| {
        bench.witness.send(&frame(7_001, 60)).expect("sent");
        bench.received.contains(&frame(7_001, 60))
    });
    assert!(bench.received.iter().all(|got| *got == frame(7_001, 60)), "frames it missed are gone");
}

/// A frame of the peer wakes a port that sleeps, and nothing else does.
fn a_sleeping_port_is_woken(kind: Kind) {
    let mut bench = Bench::connected(kind);
    for number in 0..20 {
        bench.until("the port sleeps", |bench| {
            // First it handles what is still there.
            !bench.turn() && !bench.port.arm() && !bench.is_woken(Duration::ZERO) || {
                bench.port.disarm();
                false
            }
        });
        assert!(!bench.is_woken(Duration::from_millis(1)), "nothing has happened");
        assert!(bench.peer.send(&frame(number, 60)), "there is room for one");
        assert!(bench.is_woken(WAIT_TIMEOUT), "a frame has arrived");
        bench.port.disarm();
        bench.until("it is seen", |bench| bench.seen.len() == number as usize + 1);
    }
}

/// Returns the numbers of the frames that the peer receives when two stations on the bus talk to
/// each other.
fn frames_between_stations(kind: Kind) -> Vec<u32> {
    let mut bench = Bench::connected(kind);
    let mut addressed = frame(1, 60);
    let (alice, bob) = ([2, 0, 0, 0, 0, 0xa], [2, 0, 0, 0, 0, 0xb]);
    addressed[..6].copy_from_slice(&alice);
    addressed[6..12].copy_from_slice(&bob);
    let mut broadcast = [frame(0, 60), frame(2, 60)];
    broadcast[0][6..12].copy_from_slice(&alice);
    for frame in [&broadcast[0], &addressed, &broadcast[1]] {
        bench.witness.send(frame).expect("sent");
        bench.turn();
    }
    bench.until("the last is received", |bench| bench.received.contains(&broadcast[1]));
    let number = |frame: &Vec<u8>| u32::from(frame[17]);
    bench.received.iter().map(number).collect()
}

/// A bare port forwards all frames, as a hub does.
fn all_frames_are_forwarded(kind: Kind) {
    assert_eq!(frames_between_stations(kind), [0, 1, 2]);
}

/// A learning port withholds frames to a station on the bus, as a switch does.
fn frames_for_the_bus_are_withheld(kind: Kind) {
    assert_eq!(frames_between_stations(kind), [0, 2]);
}

/// Runs the suite for one kind of port, bare and in every wrapper.
macro_rules! conforms {
    ($kind:ident, $run:ident) => {
        crate::conformance::suite!($kind, $run);

        #[test]
        fn all_frames_are_forwarded() {
            $run(crate::conformance::all_frames_are_forwarded, $kind);
        }

        mod guarded {
            use super::{$kind, $run};
            use crate::conformance::{Kind, all_frames_are_forwarded, guard};

            fn run(test: fn(Kind), kind: Kind) {
                guard();
                $run(test, kind);
            }

            crate::conformance::suite!($kind, run);

            #[test]
            fn all_frames_are_forwarded_too() {
                run(all_frames_are_forwarded, $kind);
            }
        }

        mod in_a_vlan {
            use super::{$kind, $run};
            use crate::conformance::{self, Cable, Kind, guard};

            fn wrapped(folder: &std::path::Path) -> Cable {
                let (spec, peer) = $kind(folder);
                (format!("{spec},vlan=10"), peer)
            }

            crate::conformance::suite!(wrapped, $run);

            fn guarded(test: fn(Kind), kind: Kind) {
                guard();
                $run(test, kind);
            }

            #[test]
            fn order_is_kept_by_a_guarded_port() {
                guarded(conformance::order_is_kept, wrapped);
            }
        }

        mod impaired {
            use super::{$kind, $run};
            use crate::conformance::{self, Cable, Kind, guard};

            fn wrapped(folder: &std::path::Path) -> Cable {
                let (spec, peer) = $kind(folder);
                (format!("{spec},delay=1ms,jitter=1ms,limit=10000,rate=10gbit,seed=1"), peer)
            }

            crate::conformance::suite!(wrapped, $run);

            fn guarded(test: fn(Kind), kind: Kind) {
                guard();
                $run(test, kind);
            }

            #[test]
            fn order_is_kept_by_a_guarded_port() {
                guarded(conformance::order_is_kept, wrapped);
            }
        }

        mod learning {
            use super::{$kind, $run};
            use crate::conformance::Cable;

            fn wrapped(folder: &std::path::Path) -> Cable {
                let (spec, peer) = $kind(folder);
                (format!("{spec},learn=on"), peer)
            }

            crate::conformance::suite!(wrapped, $run);

            #[test]
            fn frames_for_the_bus_are_withheld() {
                $run(crate::conformance::frames_for_the_bus_are_withheld, wrapped);
            }
        }
    };
}
use conforms;

/// Makes the tests of the suite for one kind.
macro_rules! suite {
    ($kind:ident, $run:ident) => {
        #[test]
        fn order_is_kept() {
            $run(crate::conformance::order_is_kept, $kind);
        }

        #[test]
        fn long_frames_are_dropped_and_counted() {
            $run(crate::conformance::long_frames_are_dropped_and_counted, $kind);
        }

        #[test]
        fn a_peer_may_pause() {
            $run(crate::conformance::a_peer_may_pause, $kind);
        }

        #[test]
        fn a_peer_may_die() {
            $run(crate::conformance::a_peer_may_die, $kind);
        }

        #[test]
        fn a_sleeping_port_is_woken() {
            $run(crate::conformance::a_sleeping_port_is_woken, $kind);
        }
    };
}
use suite;

/// Runs a test of the suite in this process.
fn here(test: fn(Kind), kind: Kind) {
    test(kind);
}
