//! A node with many idle ports: they are left alone in turns that concern others, and served when
//! something comes.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memif::RxMode;
use node::{Node, NodeOptions};
use port::{Moved, NotSent, Port, WakeFd};
use shmbus::{Burst, Bus, MAX_SLEEP, Station, StationOptions};

const IDLE_PORTS: usize = 64;
/// How long a test waits for a condition before it fails.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a test shares with one of its ports.
#[derive(Default)]
struct Peer {
    /// Frames for the bus.
    frames: Mutex<Vec<Vec<u8>>>,
    turns: AtomicU32,
    /// Armed, and not woken since.
    asleep: AtomicBool,
    /// Frames from the bus.
    received: AtomicU32,
}

impl Peer {
    fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }
}

/// A port of a switch that counts what it is asked.
struct CountingPort {
    peer: Arc<Peer>,
    wake_fd: Arc<WakeFd>,
    /// What it sends in every turn, if anything.
    repeated: Option<Vec<u8>>,
    burst: Burst,
}

impl CountingPort {
    fn new(repeated: Option<Vec<u8>>) -> (Self, Arc<Peer>, Arc<WakeFd>) {
        let (peer, wake_fd) = (Arc::default(), Arc::new(WakeFd::new().expect("an eventfd")));
        let burst = Burst::new(64);
        let port = Self { peer: Arc::clone(&peer), wake_fd: Arc::clone(&wake_fd), repeated, burst };
        (port, peer, wake_fd)
    }
}

impl Port for CountingPort {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn is_up(&self) -> bool {
        true
    }

    fn wants_service(&self) -> bool {
        false
    }

    fn service(&mut self, _report: &mut dyn FnMut(&str)) {}

    fn attach(&mut self, station: &mut Station) {
        station.set_learning(true);
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.peer.turns.fetch_add(1, Ordering::Relaxed);
        let mut frames = std::mem::take(&mut *self.peer.frames.lock().expect("not poisoned"));
        frames.extend(self.repeated.clone());
        let sent = station.send_burst(&frames).expect("the bus is free");
        Ok(Moved { frames: sent, ..Moved::default() })
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let received = station.recv_burst(&mut self.burst);
        let count = u32::try_from(received).expect("few");
        self.peer.received.fetch_add(count, Ordering::Relaxed);
        Moved { frames: received, ..Moved::default() }
    }

    fn rx_mode(&self) -> RxMode {
        RxMode::Adaptive
    }

    fn arm(&mut self) -> bool {
        let ready = !self.peer.frames.lock().expect("not poisoned").is_empty();
        self.peer.asleep.store(!ready, Ordering::Relaxed);
        ready
    }

    fn disarm(&mut self) {
        self.peer.asleep.store(false, Ordering::Relaxed);
        self.wake_fd.drain();
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.wake_fd.as_fd());
    }
}

fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A switch with a port that sends to a station without pause, and idle ones.
struct Lan {
    _node: Node,
    busy: Arc<Peer>,
    idle: Vec<(Arc<Peer>, Arc<WakeFd>)>,
    sink: Station,
    _folder: tempfile::TempDir,
}

impl Lan {
    const SOURCE: [u8; 6] = [2, 0, 0, 0, 1, 0];

    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
        let mut sink = Station::join(open(), StationOptions::new()).expect("joined");
        let mut node = Node::start(NodeOptions::new()).expect("a node");
        let idle: Vec<_> = (0..IDLE_PORTS)
            .map(|_| {
                let (port, peer, wake_fd) = CountingPort::new(None);
                node.attach(Box::new(port), open()).expect("attached");
                (peer, wake_fd)
            })
            .collect();
        let address = sink.mac().into_array();
        let (port, busy, _) = CountingPort::new(Some(frame(address, Self::SOURCE)));
        node.attach(Box::new(port), open()).expect("attached");
        // From this frame on all ports know where the station is: not behind them.
        sink.send(&frame([0xff; 6], address)).expect("sent");
        wait_for("the idle ports have heard the station, and sleep again", || {
            idle.iter().all(|(peer, _)| {
                let heard = peer.received.load(Ordering::Relaxed) > 0;
                heard && peer.asleep.load(Ordering::Relaxed)
            })
        });
        Self { _node: node, busy, idle, sink, _folder: folder }
    }
}

#[test]
fn idle_ports_are_not_asked_in_turns_that_concern_others() {
    let lan = Lan::new();
    let turns = || lan.idle.iter().map(|(peer, _)| peer.turns()).collect::<Vec<_>>();
    let (begin, before, first) = (Instant::now(), turns(), lan.busy.turns());
    wait_for("the busy port has had turns, and each idle one its own", || {
        lan.busy.turns() >= first + 20_000
            && turns().iter().zip(&before).all(|(now, before)| *now >= before + 2)
    });
    let after = turns();
    // An idle port is polled ten times a second. One of them at a time may be woken to listen to the
    // bus file for the others, and has turns until it sleeps again.
    let polls = begin.elapsed().as_millis() / MAX_SLEEP.as_millis() * 2 + 4;
    let asked: u32 = after.iter().zip(&before).map(|(after, before)| after - before).sum();
    let busy = lan.busy.turns() - first;
    assert!(
        u128::from(asked) <= IDLE_PORTS as u128 * polls,
        "{asked} turns of {IDLE_PORTS} idle ports in {busy} of a busy one, {:?}",
        begin.elapsed()
    );
}

#[test]
fn an_idle_port_is_served_beside_a_busy_one() {
    const IDLE: [u8; 6] = [2, 0, 0, 0, 2, 0];
    let mut lan = Lan::new();
    let (last, wake_fd) = &lan.idle[IDLE_PORTS - 1];
    let to_sink = frame(lan.sink.mac().into_array(), IDLE);
    let mut burst = Burst::new(256);
    wait_for("the frame of the idle port", || {
        // Once more when it was taken: while this thread does not run, the busy port overruns it.
        let mut frames = last.frames.lock().expect("not poisoned");
        if frames.is_empty() {
            frames.push(to_sink.clone());
            wake_fd.wake();
        }
        drop(frames);
        lan.sink.recv_burst(&mut burst);
        burst.iter().any(|received| received.bytes[6..12] == IDLE)
    });
    // And in the other direction, to the address that is now known behind the port.
    let received = last.received.load(Ordering::Relaxed);
    lan.sink.send(&frame(IDLE, lan.sink.mac().into_array())).expect("sent");
    wait_for("the frame for the idle port", || last.received.load(Ordering::Relaxed) > received);
}
