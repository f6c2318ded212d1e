//! memif ports. The peer is a memif client in the test process.

use std::path::{Path, PathBuf};

use memif::{Client, ClientOptions, Event, Link, Mode, SocketAddr};

use super::{Bench, Cable, Peer, conforms, here};

struct MemifPeer {
    socket: PathBuf,
    mode: Mode,
    client: Option<Client>,
    link: Option<Link>,
}

impl MemifPeer {
    fn connect(&mut self) {
        let address = SocketAddr::path(&self.socket).expect("a short path");
        self.client =
            Some(Client::new(&address, ClientOptions::new(0).mode(self.mode)).expect("valid"));
    }

    fn link(&mut self) -> Option<&mut Link> {
        if let Some(client) = &mut self.client {
            while let Some(event) = client.ready().expect("its descriptors work") {
                self.link = match event {
                    Event::Connected { link, .. } => Some(link),
                    Event::Disconnected { .. } => None,
                    _ => continue,
                };
            }
        }
        self.link.as_mut()
    }
}

impl Peer for MemifPeer {
    fn send(&mut self, frame: &[u8]) -> bool {
        let Some(link) = self.link() else { return false };
        let mut burst = link.tx[0].burst().expect("up");
        burst.push(frame) && burst.publish() == 1
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        let Some(link) = self.link() else { return };
        let burst = link.rx[0].burst(1_024).expect("up");
        for packet in &burst {
            let mut frame = vec![0; packet.len()];
            packet.copy_to(&mut frame);
            frames.push(frame);
        }
    }

    fn vanish(&mut self) {
        (self.link, self.client) = (None, None);
    }

    fn come_back(&mut self) -> bool {
        self.connect();
        true
    }
}

fn spec(folder: &Path) -> (PathBuf, String) {
    let socket = folder.join("m.sock");
    let spec = format!("memif:id=0,socket={}", socket.display());
    (socket, spec)
}

fn kind(folder: &Path) -> Cable {
    let (socket, spec) = spec(folder);
    let peer = move || -> Box<dyn Peer> {
        let mut client = MemifPeer { socket, mode: Mode::Ethernet, client: None, link: None };
        client.connect();
        Box::new(client)
    };
    (spec, Box::new(peer))
}

/// A port whose peer has not come yet.
fn alone(folder: &Path) -> Cable {
    let (socket, spec) = spec(folder);
    let peer = MemifPeer { socket, mode: Mode::Ethernet, client: None, link: None };
    (spec, Box::new(|| Box::new(peer)))
}

conforms!(kind, here);

/// A peer in IP mode. The suite's frames are its packets, in the header that they get on the bus.
mod ip_mode {
    use std::path::Path;

    use super::super::{Cable, IP_HEADER, Kind, Peer, ip_mode, suite};
    use super::{MemifPeer, Mode, spec};

    struct IpPeer(MemifPeer);

    impl Peer for IpPeer {
        fn send(&mut self, frame: &[u8]) -> bool {
            self.0.send(&frame[IP_HEADER.len()..])
        }

        fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
            let mut packets = Vec::new();
            self.0.receive(&mut packets);
            frames.extend(packets.iter().map(|packet| [&IP_HEADER[..], packet].concat()));
        }

        fn vanish(&mut self) {
            self.0.vanish();
        }

        fn come_back(&mut self) -> bool {
            self.0.come_back()
        }
    }

    fn kind(folder: &Path) -> Cable {
        let (socket, spec) = spec(folder);
        let keys = "mode=ip,mac=02:00:00:00:00:01,ip=10.0.0.2/24";
        let peer = move || -> Box<dyn Peer> {
            let mut client = MemifPeer { socket, mode: Mode::Ip, client: None, link: None };
            client.connect();
            Box::new(IpPeer(client))
        };
        (format!("{spec},{keys}"), Box::new(peer))
    }

    fn here(test: fn(Kind), kind: Kind) {
        ip_mode();
        test(kind);
    }

    suite!(kind, here);

    macro_rules! wrapped {
        ($name:ident, $keys:literal) => {
            mod $name {
                use super::{here, kind};
                use crate::conformance::Cable;

                fn wrapped(folder: &std::path::Path) -> Cable {
                    let (spec, peer) = kind(folder);
                    (format!("{spec},{}", $keys), peer)
                }

                crate::conformance::suite!(wrapped, here);
            }
        };
    }

    wrapped!(in_a_vlan, "vlan=10");
    wrapped!(impaired, "delay=1ms,jitter=1ms,limit=10000,rate=10gbit,seed=1");
    wrapped!(learning, "learn=on");
}

#[test]
fn the_port_is_up_when_the_peer_connects() {
    let mut bench = Bench::new(alone);
    for _ in 0..100 {
        assert!(!bench.turn());
    }
    assert!(!bench.port.is_up());
    assert!(bench.peer.come_back());
    // Without a turn, which would poll the port.
    let mut peer = Vec::new();
    while !bench.is_woken(std::time::Duration::from_millis(1)) {
        bench.peer.receive(&mut peer);
    }
    bench.until("the port is up", |bench| bench.port.is_up());
}
