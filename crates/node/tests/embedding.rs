//! A program that embeds a node: ports on a bus, events, counters, and the end of each.
//!
//! The tests wait for conditions and never for a time.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memif::{Client, ClientOptions, Link, SocketAddr};
use node::{CloseReason, Event, Node, NodeOptions, PortId};
use port::{PortOptions, PortSpec};
use shmbus::{Burst, Bus, Station, StationOptions};
use tempfile::TempDir;

/// How long a test waits for a condition before it fails.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls `poll` until it returns something.
fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begin.elapsed() < WAIT_TIMEOUT, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A memif client that receives and sends single frames.
struct Peer {
    client: Client,
    link: Option<Link>,
}

impl Peer {
    fn new(socket: &Path, id: u32) -> Self {
        let address = SocketAddr::path(socket).expect("a short path");
        Self {
            client: Client::new(&address, ClientOptions::new(id)).expect("valid options"),
            link: None,
        }
    }

    /// Follows the connection. Returns the link while there is one.
    fn link(&mut self) -> Option<&mut Link> {
        while let Some(event) = self.client.ready().expect("its descriptors work") {
            match event {
                memif::Event::Connected { link, .. } => self.link = Some(link),
                memif::Event::Disconnected { .. } => self.link = None,
                _ => {}
            }
        }
        self.link.as_mut()
    }

    fn connect(&mut self) {
        wait_for("the client is connected", || self.link().map(|_| ()));
    }

    fn send(&mut self, frame: &[u8]) {
        let mut burst = self.link().expect("connected").tx[0].burst().expect("up");
        assert!(burst.push(frame) && burst.publish() == 1, "an empty ring has room");
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let burst = self.link()?.rx[0].burst(1).ok()?;
        burst.iter().next().map(|packet| {
            let mut frame = vec![0; packet.len()];
            packet.copy_to(&mut frame);
            frame
        })
    }
}

/// A node with two memif servers and another bus.
struct Lan {
    node: Node,
    /// The ports in the order of [`Lan::new`].
    ports: Vec<PortId>,
    folder: TempDir,
}

impl Lan {
    fn new(threads: usize) -> Self {
        shmbus::survive_truncation().expect("a handler");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let specs = [
            format!("memif:id=0,socket={}", path("sock").display()),
            format!("memif:id=1,socket={}", path("sock").display()),
            format!("bus:{}", path("other.bus").display()),
        ];
        let specs = specs.map(|spec| spec.parse::<PortSpec>().expect("a port"));
        let mut node = Node::start(NodeOptions::new().threads(threads)).expect("a node");
        let bus = path("lan.bus");
        let ports = port::open(&specs, &bus, &PortOptions::new()).expect("open ports");
        let attach = |port| {
            node.attach(port, Bus::open_or_create(&bus, 0o600).expect("a bus")).expect("joined")
        };
        let ports = ports.into_iter().map(attach).collect();
        Self { node, ports, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn peer(&self, id: u32) -> Peer {
        Peer::new(&self.path("sock"), id)
    }

    /// Joins one of the buses beside the node.
    fn station(&self, bus: &str) -> Station {
        let bus = Bus::open(self.path(bus)).expect("a bus");
        Station::join(bus, StationOptions::new().promiscuous(true)).expect("joined")
    }

    /// Waits for an event while `peers` follow their connections.
    fn event(&mut self, peers: &mut [&mut Peer]) -> Event {
        wait_for("an event", || {
            for peer in &mut *peers {
                peer.link();
            }
            self.node.next_event()
        })
    }

    /// Waits until the `bus:` port is up, which it is from the start.
    fn expect_bus_up(&mut self) {
        let bus = self.ports[2];
        assert!(matches!(self.event(&mut []), Event::Up(port) if port == bus));
    }
}

/// Makes a numbered broadcast frame.
fn frame(number: u8) -> Vec<u8> {
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, number], &[0x88, 0xb5], &[number; 46]].concat()
}

fn receive(station: &mut Station) -> Vec<u8> {
    let mut burst = Burst::new(1);
    wait_for("a frame on the bus", || {
        station.recv_burst(&mut burst);
        burst.iter().next().map(|frame| frame.bytes.to_vec())
    })
}

#[test]
fn frames_cross_and_are_counted() {
    let mut lan = Lan::new(2);
    lan.expect_bus_up();
    let (mut alice, mut bob) = (lan.peer(0), lan.peer(1));
    let mut carol = lan.station("other.bus");
    assert!(matches!(lan.event(&mut [&mut alice]), Event::Up(port) if port == lan.ports[0]));
    assert!(matches!(lan.event(&mut [&mut bob]), Event::Up(port) if port == lan.ports[1]));
    alice.connect();
    bob.connect();

    alice.send(&frame(1));
    assert_eq!(wait_for("Bob receives it", || bob.receive()), frame(1));
    assert_eq!(receive(&mut carol), frame(1));
    carol.send(&frame(2)).expect("sent");
    assert_eq!(wait_for("Alice receives it", || alice.receive()), frame(2));
    assert_eq!(wait_for("Bob receives it, too", || bob.receive()), frame(2));
    assert_eq!(alice.receive(), None, "no frame returns to its sender");

    // A thread publishes what it has counted a little later.
    for (port, received, sent) in [(0, 1, 1), (1, 0, 2), (2, 1, 1)] {
        let counters = wait_for("the counters", || {
            lan.node
                .counters(lan.ports[port])
                .filter(|now| now.rx_packets == received && now.tx_packets == sent)
        });
        assert_eq!((counters.rx_bytes, counters.tx_bytes), (received * 60, sent * 60));
        assert_eq!(
            counters.rx_dropped + counters.rx_errors + counters.tx_dropped + counters.tx_errors,
            0
        );
        assert!(lan.node.stats(lan.ports[port]).is_some_and(node::PortStats::is_up));
    }
}

#[test]
fn a_port_that_is_removed_leaves_the_others() {
    let mut lan = Lan::new(1);
    lan.expect_bus_up();
    let (mut alice, mut bob) = (lan.peer(0), lan.peer(1));
    lan.event(&mut [&mut alice]);
    lan.event(&mut [&mut bob]);
    alice.connect();
    bob.connect();

    lan.node.remove(lan.ports[0]);
    assert_eq!(lan.node.counters(lan.ports[0]), None);
    wait_for("Alice is disconnected", || alice.link().is_none().then_some(()));
    let mut carol = lan.station("other.bus");
    bob.send(&frame(3));
    assert_eq!(receive(&mut carol), frame(3));
    drop(bob);
    assert!(
        matches!(lan.event(&mut []), Event::Down(port) if port == lan.ports[1]),
        "no event of a removed port"
    );
}

#[test]
fn a_port_that_moves_to_another_bus_keeps_its_peer() {
    let mut lan = Lan::new(1);
    lan.expect_bus_up();
    let mut alice = lan.peer(0);
    lan.event(&mut [&mut alice]);
    alice.connect();

    let bus = || Bus::open_or_create(lan.path("third.bus"), 0o600).expect("a bus");
    let moved = node::station(bus(), "moved", None).expect("joined");
    let mut dave = Station::join(bus(), StationOptions::new().promiscuous(true)).expect("joined");
    lan.node.unplug(lan.ports[0]);
    lan.node.plug(lan.ports[0], moved);
    alice.send(&frame(4));
    assert_eq!(receive(&mut dave), frame(4));
    assert!(lan.node.next_event().is_none(), "the peer has not gone and come");
}

#[test]
fn a_port_whose_bus_is_cut_short_is_closed() {
    let mut lan = Lan::new(1);
    lan.expect_bus_up();
    let mut peer = lan.peer(0);
    lan.event(&mut [&mut peer]);
    let cut_short =
        |path: PathBuf| OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0));

    // The bus behind a port is lost: the port is down. The bus of the node is lost: its ports are
    // closed.
    cut_short(lan.path("other.bus")).expect("cut short");
    assert!(matches!(lan.event(&mut [&mut peer]), Event::Down(port) if port == lan.ports[2]));
    cut_short(lan.path("lan.bus")).expect("cut short");
    let mut open = lan.ports.clone();
    while !open.is_empty() {
        match lan.event(&mut [&mut peer]) {
            Event::Closed { port, reason: CloseReason::Bus(path) } => {
                assert_eq!(path, lan.path("lan.bus").display().to_string());
                assert!(open.contains(&port), "each port is closed once");
                open.retain(|id| *id != port);
            }
            Event::Down(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(lan.ports.iter().all(|port| lan.node.stats(*port).is_none()));
}

#[test]
fn dropping_the_node_closes_all_ports() {
    let mut lan = Lan::new(2);
    lan.expect_bus_up();
    let mut alice = lan.peer(0);
    assert!(matches!(lan.event(&mut [&mut alice]), Event::Up(port) if port == lan.ports[0]));
    alice.connect();
    let (lan_bus, other_bus) = (lan.path("lan.bus"), lan.path("other.bus"));
    let members = |path: &Path| Bus::open_read_only(path).expect("a bus").members().len();
    assert_eq!((members(&lan_bus), members(&other_bus)), (3, 1));

    let Lan { node, folder, .. } = lan;
    drop(node);
    wait_for("the peer is disconnected", || alice.link().is_none().then_some(()));
    assert_eq!((members(&lan_bus), members(&other_bus)), (0, 0), "no station is left");
    assert!(!folder.path().join("sock").exists(), "the socket is removed");
}
