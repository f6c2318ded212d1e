//! VXLAN ports. The peer is a program with a UDP socket that makes and reads the headers by hand.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::{Bench, Cable, Kind, Peer, frame, here, suite};

const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];

struct End {
    local: Ipv4Addr,
    port: Ipv4Addr,
    socket: Option<UdpSocket>,
}

impl End {
    fn bind(local: Ipv4Addr) -> UdpSocket {
        let socket = UdpSocket::bind((local, 4_789)).expect("bound");
        socket.set_nonblocking(true).expect("its flags");
        socket
    }

    fn send_bytes(&self, bytes: &[u8]) {
        let socket = self.socket.as_ref().expect("it is there");
        socket.send_to(bytes, (self.port, 4_789)).expect("sent");
    }
}

impl Peer for End {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.send_bytes(&[&HEADER[..], frame].concat());
        true
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        let Some(socket) = &self.socket else { return };
        let mut bytes = vec![0; 1 << 16];
        loop {
            match socket.recv_from(&mut bytes) {
                Ok((len, from)) => {
                    assert_eq!(from.ip(), self.port);
                    assert!(from.port() >= 49_152, "{from}");
                    assert_eq!(bytes[..8], HEADER);
                    frames.push(bytes[8..len].to_vec());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn vanish(&mut self) {
        self.socket = None;
    }

    fn come_back(&mut self) -> bool {
        self.socket = Some(Self::bind(self.local));
        true
    }

    fn is_missed(&self) -> bool {
        false
    }

    fn keeps_what_it_does_not_read(&self) -> bool {
        false
    }
}

/// Two machines on the loopback network, apart from those of other tests.
fn two_addresses() -> [Ipv4Addr; 2] {
    let [a, b] = [(); 2].map(|()| fastrand::u8(1..=254));
    [1, 2].map(|last| Ipv4Addr::new(127, a, b, last))
}

fn with(keys: &str) -> Cable {
    let [local, peer] = two_addresses();
    let spec = format!("vxlan:vni=42,local={local},peers={peer}{keys}");
    let end = move || -> Box<dyn Peer> {
        Box::new(End { local: peer, port: local, socket: Some(End::bind(peer)) })
    };
    (spec, Box::new(end))
}

fn plain(_: &Path) -> Cable {
    with("")
}

fn hub(_: &Path) -> Cable {
    with(",learn=off")
}

fn in_a_vlan(_: &Path) -> Cable {
    with(",vlan=10")
}

fn impaired(_: &Path) -> Cable {
    with(",delay=1ms,jitter=1ms,limit=10000,rate=10gbit,seed=1")
}

suite!(plain, here);

#[test]
fn frames_for_the_bus_are_withheld() {
    super::frames_for_the_bus_are_withheld(plain);
}

#[test]
fn all_frames_are_forwarded_on_request() {
    super::all_frames_are_forwarded(hub);
}

mod of_a_hub {
    use super::{here, hub};

    crate::conformance::suite!(hub, here);
}

mod in_vlans {
    use super::{here, in_a_vlan};

    crate::conformance::suite!(in_a_vlan, here);
}

/// Those on their way while the peer is gone may arrive when it is back: it was not missed.
mod with_impairments {
    use super::impaired;
    use crate::conformance;

    #[test]
    fn order_is_kept() {
        conformance::order_is_kept(impaired);
    }

    #[test]
    fn long_frames_are_dropped_and_counted() {
        conformance::long_frames_are_dropped_and_counted(impaired);
    }

    #[test]
    fn a_peer_may_pause() {
        conformance::a_peer_may_pause(impaired);
    }

    #[test]
    fn a_sleeping_port_is_woken() {
        conformance::a_sleeping_port_is_woken(impaired);
    }
}

mod guarded {
    use super::plain;
    use crate::conformance::{Kind, guard};

    fn run(test: fn(Kind), kind: Kind) {
        guard();
        test(kind);
    }

    crate::conformance::suite!(plain, run);
}

/// A port with three peers, which are sockets of this test.
struct Mesh {
    bench: Bench,
    others: Vec<UdpSocket>,
}

fn of_three(_: &Path) -> Cable {
    let [local, peer] = two_addresses();
    let [a, b, c, _] = peer.octets();
    let others = [3, 4].map(|last| Ipv4Addr::new(a, b, c, last));
    let spec =
        format!("vxlan:vni=42,local={local},peers={peer},{},{},storm=1000", others[0], others[1]);
    let end = move || -> Box<dyn Peer> {
        Box::new(End { local: peer, port: local, socket: Some(End::bind(peer)) })
    };
    (spec, Box::new(end))
}

impl Mesh {
    fn new() -> Self {
        let bench = Bench::connected(of_three as Kind);
        let peers = bench.port.remotes().expect("a tunnel");
        let mut mesh = Self { bench, others: Vec::new() };
        mesh.bench.until("the remotes are known", |_| peers.get().len() == 3);
        for remote in &peers.get()[1..] {
            let Some(std::net::IpAddr::V4(address)) = remote.address else { panic!("{remote:?}") };
            mesh.others.push(End::bind(address));
        }
        mesh
    }

    /// The address of the port.
    fn port(&self) -> Ipv4Addr {
        let std::net::IpAddr::V4(address) = self.others[0].local_addr().unwrap().ip() else {
            panic!("IPv4")
        };
        let [a, b, c, _] = address.octets();
        Ipv4Addr::new(a, b, c, 1)
    }

    /// How many frames the other sockets have received.
    fn received(&self) -> [usize; 2] {
        let mut bytes = [0; 2_000];
        [0, 1]
            .map(|number| std::iter::from_fn(|| self.others[number].recv(&mut bytes).ok()).count())
    }

    fn send_from(&self, number: usize, frame: &[u8]) {
        let datagram = [&HEADER[..], frame].concat();
        self.others[number].send_to(&datagram, (self.port(), 4_789)).expect("sent");
    }
}

const ALICE: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const BOB: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

fn addressed(to: [u8; 6], from: [u8; 6], number: u32) -> Vec<u8> {
    let mut frame = frame(number, 100);
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame
}

/// A frame goes to the remote that its station is behind, and to all while that is not known; what a
/// remote sends goes to no other.
#[test]
fn a_frame_goes_where_its_station_is() {
    let mut mesh = Mesh::new();
    // Alice is not known.
    mesh.bench.witness.send(&addressed(ALICE, BOB, 0)).expect("sent");
    mesh.bench.until("the first peer has it", |bench| bench.received.len() == 1);
    assert_eq!(mesh.received(), [1, 1]);
    // She is behind the second peer.
    mesh.send_from(0, &addressed(BOB, ALICE, 1));
    mesh.bench.until("it is seen", |bench| bench.seen.len() == 1);
    for number in 2..7 {
        mesh.bench.witness.send(&addressed(ALICE, BOB, number)).expect("sent");
    }
    let mut second = 0;
    let mut count = |mesh: &Mesh| {
        let [one, two] = mesh.received();
        assert_eq!(two, 0);
        second += one;
        second
    };
    while count(&mesh) < 5 {
        mesh.bench.turn();
    }
    // She moves to the third.
    mesh.send_from(1, &addressed(BOB, ALICE, 8));
    mesh.bench.until("it is seen", |bench| bench.seen.len() == 2);
    mesh.bench.witness.send(&addressed(ALICE, BOB, 9)).expect("sent");
    mesh.bench.until("all is sent", |bench| !bench.turn());
    assert_eq!(mesh.received(), [0, 1]);
    // And to the bus: a frame of hers says so, and goes to all, as it is for all.
    mesh.bench.witness.send(&addressed([0xff; 6], ALICE, 10)).expect("sent");
    mesh.bench.until("the first peer has it", |bench| bench.received.len() == 2);
    assert_eq!(mesh.received(), [1, 1]);
}

/// With `suppress=on` a question is answered by the port once the answer is known.
#[test]
fn known_neighbors_are_not_asked_for() {
    let mut bench = Bench::connected(|_| with(",suppress=on"));
    let arp = |sender: [u8; 6], from: [u8; 4], to: [u8; 4]| -> Vec<u8> {
        let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        [&[0xff; 6][..], &sender, &head, &sender, &from, &[0; 6], &to].concat()
    };
    let question = arp(BOB, [10, 0, 0, 2], [10, 0, 0, 1]);
    bench.witness.send(&question).expect("sent");
    bench.until("it went to the peer", |bench| bench.received.len() == 1);
    bench.peer_sends(&arp(ALICE, [10, 0, 0, 1], [10, 0, 0, 9]));
    bench.until("the port has seen Alice", |bench| bench.seen.len() == 1);
    bench.witness.send(&question).expect("sent");
    bench.until("Bob has an answer", |bench| bench.seen.len() == 2);
    assert_eq!((&bench.seen[1][..6], &bench.seen[1][22..28]), (&BOB[..], &ALICE[..]));
    bench.witness.send(&frame(7, 60)).expect("sent");
    bench.until("the next is received", |bench| bench.received.len() == 2);
    assert_eq!(bench.received[1], frame(7, 60), "the question did not go out");
}

/// What the kernel drops because it came too fast is counted, and said with the way out.
#[test]
fn a_flood_is_accounted_for() {
    const FRAMES: u32 = 20_000;
    let mut bench = Bench::connected(plain);
    for number in 0..FRAMES {
        assert!(bench.peer.send(&frame(number, 1_500)));
    }
    let count = |bench: &Bench| bench.to_bus.frames + bench.to_bus.dropped;
    bench.until("all are counted", |bench| count(bench) >= FRAMES as usize);
    assert_eq!(count(&bench), FRAMES as usize);
    assert!(bench.to_bus.dropped > 0, "no buffer holds so many");
    let said = bench.reports.iter().filter(|line| line.contains("net.core.rmem_max")).count();
    assert_eq!(said, 1, "{:?}", bench.reports);
}

/// Datagrams of strangers, of other VXLANs and of nonsense are dropped, counted and reported, and a
/// remote's broadcasts are limited.
#[test]
fn strangers_and_storms_do_not_pass() {
    let mut mesh = Mesh::new();
    let stranger = End::bind([127, 0, 0, 9].into());
    let port = (mesh.port(), 4_789);
    let good = [&HEADER[..], &frame(1, 60)].concat();
    stranger.send_to(&good, port).expect("sent");
    let other_vni = [&[8, 0, 0, 0, 0, 0, 43, 0][..], &frame(1, 60)].concat();
    for datagram in [&other_vni[..], b"", b"x", &[0; 100]] {
        mesh.others[0].send_to(datagram, port).expect("sent");
    }
    mesh.bench.until("all are counted", |bench| bench.to_bus.dropped >= 5);
    assert_eq!(mesh.bench.to_bus.dropped, 5);
    mesh.bench.until("all is reported", |bench| bench.reports.len() >= 3);
    let reports = mesh.bench.reports.join("\n");
    for words in ["127.0.0.9 are dropped: it is none of the peers", "of VXLAN 43", "no VXLAN"] {
        assert!(reports.contains(words), "{reports}");
    }
    for number in 0..500 {
        mesh.send_from(0, &frame(number, 60));
    }
    mesh.bench.until("all are counted", |bench| bench.to_bus.dropped + bench.seen.len() >= 505);
    // A tenth of a second's share passed, and as many as may pass meanwhile.
    assert!((100..400).contains(&mesh.bench.seen.len()), "{}", mesh.bench.seen.len());
    mesh.bench
        .until("it is reported", |bench| bench.reports.iter().any(|text| text.contains("storm=")));
    let counters = &mesh.bench.port.remotes().expect("a tunnel").get()[1];
    assert_eq!(counters.rx_dropped + counters.rx_packets, 500, "{counters:?}");
    assert!(!mesh.bench.is_woken(Duration::ZERO));
}
