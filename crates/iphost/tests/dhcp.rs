//! A host with an address by DHCP: a station beside it is the server, which answers to the address
//! that it leases.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use iphost::{BusNic, NetworkChange, Stack};
use shmbus::{Burst, Bus, Station, StationOptions};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, IpProtocol, Ipv4Packet, UdpPacket};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 57);
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

struct Lab {
    _folder: TempDir,
    host: Stack<BusNic<Station>>,
    peer: Station,
    lease_seconds: u32,
    /// Messages of the host, in their order.
    heard: Vec<DhcpMessageType>,
    changes: Vec<NetworkChange>,
}

impl Lab {
    fn new(lease_seconds: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let join = || {
            let bus = Bus::open_or_create(&path, 0o600).unwrap();
            Station::join(bus, StationOptions::new()).unwrap()
        };
        let mut peer = join();
        peer.set_promiscuous(true);
        let mut host = Stack::new(BusNic::new(join()), &[]);
        host.use_dhcp(Some("web"));
        let (heard, changes) = (Vec::new(), Vec::new());
        Self { _folder: folder, host, peer, lease_seconds, heard, changes }
    }

    /// Runs both until `done`. The server answers if it `serves`, and the peer says that it has the
    /// leased address if it `claims` it.
    fn run(&mut self, serves: bool, claims: bool, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        let mut burst = Burst::new(64);
        while !done(self) {
            assert!(begin.elapsed() < LIMIT, "{:?} {:?}", self.heard, self.changes);
            self.host.poll(&mut |_| {}).unwrap();
            self.changes.extend(std::iter::from_fn(|| self.host.next_change()));
            self.peer.recv_burst(&mut burst);
            let frames: Vec<_> = burst.iter().map(|frame| frame.bytes.to_vec()).collect();
            for frame in frames {
                let reply = match &frame[12..14] {
                    [8, 0] => self.answer(&frame, serves),
                    // ARP for an address.
                    [8, 6] if serves && frame[38..42] == SERVER.octets() => {
                        Some(self.claim(&frame, SERVER))
                    }
                    [8, 6] if claims && frame[38..42] == LEASED.octets() => {
                        Some(self.claim(&frame, LEASED))
                    }
                    _ => None,
                };
                if let Some(reply) = reply {
                    self.peer.send_burst([&reply[..]]).unwrap();
                }
            }
        }
    }

    fn claim(&self, request: &[u8], address: Ipv4Addr) -> Vec<u8> {
        let own = self.peer.mac().into_array();
        let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
        [&request[6..12], &own, &head, &own, &address.octets(), &request[6..12], &[0; 4]].concat()
    }

    fn answer(&mut self, frame: &[u8], serves: bool) -> Option<Vec<u8>> {
        let packet = DhcpPacket::new_checked(&frame[ETHERNET + IPV4 + UDP..]).ok()?;
        let request = DhcpRepr::parse(&packet).ok()?;
        let name = packet.options().find(|option| option.kind == 12).map(|option| option.data);
        let kind = request.message_type;
        self.heard.push(kind);
        let message_type = match kind {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => DhcpMessageType::Ack,
            _ => return None,
        };
        assert_eq!(name, Some(&b"web"[..]));
        let reply = DhcpRepr {
            message_type,
            your_ip: LEASED,
            router: Some(SERVER),
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            server_identifier: Some(SERVER),
            lease_duration: Some(self.lease_seconds),
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            additional_options: &[],
            ..request.clone()
        };
        let len = UDP + reply.buffer_len();
        let own = self.peer.mac().into_array();
        let mut bytes = [&frame[6..12], &own, &[8, 0], &vec![0; IPV4 + len]].concat();
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ETHERNET..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(u16::try_from(IPV4 + len).unwrap());
        packet.set_next_header(IpProtocol::Udp);
        packet.set_hop_limit(64);
        packet.set_src_addr(SERVER);
        packet.set_dst_addr(LEASED);
        packet.fill_checksum();
        let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
        datagram.set_src_port(67);
        datagram.set_dst_port(68);
        datagram.set_len(u16::try_from(len).unwrap());
        reply.emit(&mut DhcpPacket::new_unchecked(datagram.payload_mut())).unwrap();
        datagram.fill_checksum(&SERVER.into(), &LEASED.into());
        serves.then_some(bytes)
    }

    fn has(&self, what: impl Fn(&NetworkChange) -> bool) -> bool {
        self.changes.iter().any(what)
    }
}

#[test]
fn a_lease_is_used_and_renewed_and_ends() {
    let mut lab = Lab::new(2);
    lab.run(true, false, |lab| lab.host.is_leased());
    let own: Vec<_> = lab.host.addresses().map(|address| address.to_string()).collect();
    assert_eq!(own, ["10.0.0.57/24"]);
    assert_eq!(lab.host.source_for([192, 0, 2, 1].into()), Some(LEASED.into()));
    lab.run(true, false, |lab| lab.has(|change| matches!(change, NetworkChange::Renewed { .. })));
    // The server is gone.
    lab.run(false, false, |lab| {
        lab.has(|change| matches!(change, NetworkChange::LeaseLost { .. }))
    });
    assert_eq!((lab.host.addresses().count(), lab.host.default_routers().count()), (0, 0));
    // It is there again.
    lab.run(true, false, |lab| lab.host.is_leased());
    lab.host.release_lease();
    lab.run(true, false, |lab| lab.heard.last() == Some(&DhcpMessageType::Release));
    assert_eq!(lab.host.addresses().count(), 0);
}

#[test]
fn an_address_that_another_host_has_is_declined() {
    let mut lab = Lab::new(3_600);
    lab.run(true, true, |lab| lab.heard.last() == Some(&DhcpMessageType::Decline));
    assert!(lab.has(|change| matches!(change, NetworkChange::AddressTaken(_))));
    assert!(!lab.host.is_leased() && lab.host.addresses().count() == 0);
}
