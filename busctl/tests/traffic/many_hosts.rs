//! Many hosts in one process.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use shmbus::{Burst, Bus, Station, StationOptions};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use crate::Lab;

const HOSTS: u8 = 250;
const ME: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const EVERYBODY: EthernetAddress = EthernetAddress::BROADCAST;

/// A station that asks all hosts at once, which no IP stack does.
struct Asker {
    station: Station,
    burst: Burst,
}

impl Asker {
    fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.station.mac().into_array())
    }

    fn frame(&self, to: EthernetAddress, ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 14 + payload.len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        frame.set_dst_addr(to);
        frame.set_src_addr(self.mac());
        frame.set_ethertype(ethertype);
        frame.payload_mut().copy_from_slice(payload);
        bytes
    }

    fn who_has(&self, target: Ipv4Addr) -> Vec<u8> {
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: self.mac(),
            source_protocol_addr: ME,
            target_hardware_addr: EVERYBODY,
            target_protocol_addr: target,
        };
        let mut payload = vec![0; question.buffer_len()];
        question.emit(&mut ArpPacket::new_unchecked(&mut payload));
        self.frame(EVERYBODY, EthernetProtocol::Arp, &payload)
    }

    fn ping(&self, target: Ipv4Addr, mac: EthernetAddress) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        let echo =
            Icmpv4Repr::EchoRequest { ident: 7, seq_no: target.octets()[3].into(), data: b"hello" };
        let ip = Ipv4Repr {
            src_addr: ME,
            dst_addr: target,
            next_header: IpProtocol::Icmp,
            payload_len: echo.buffer_len(),
            hop_limit: 64,
        };
        let mut payload = vec![0; ip.buffer_len() + echo.buffer_len()];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut payload[..]), &checksums);
        echo.emit(&mut Icmpv4Packet::new_unchecked(&mut payload[ip.buffer_len()..]), &checksums);
        self.frame(mac, EthernetProtocol::Ipv4, &payload)
    }

    /// Collects what `read` makes of frames, by address, until all hosts are there.
    fn collect<T>(
        &mut self,
        mut read: impl FnMut(&[u8]) -> Option<(Ipv4Addr, T)>,
    ) -> BTreeMap<Ipv4Addr, T> {
        let mut found = BTreeMap::new();
        while found.len() < HOSTS.into() {
            self.station.wait(None).unwrap();
            while self.station.recv_burst(&mut self.burst) > 0 {
                found.extend(self.burst.iter().filter_map(|frame| read(frame.bytes)));
            }
        }
        found
    }
}

fn arp_reply(frame: &[u8]) -> Option<(Ipv4Addr, EthernetAddress)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()? {
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: mac,
            source_protocol_addr: address,
            ..
        } => Some((address, mac)),
        _ => None,
    }
}

fn echo_reply(frame: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let checksums = ChecksumCapabilities::default();
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let ip = Ipv4Repr::parse(&packet, &checksums).ok()?;
    match Icmpv4Repr::parse(&Icmpv4Packet::new_checked(packet.payload()).ok()?, &checksums).ok()? {
        Icmpv4Repr::EchoReply { seq_no, data: b"hello", .. } => Some((ip.src_addr, seq_no)),
        _ => None,
    }
}

#[test]
fn a_process_can_be_250_hosts_and_each_answers() {
    let lab = Lab::new();
    let hosts = lab.ready("host ./lan.bus 10.0.0.1/24 fd00::1/64 --count 250");
    // No other station is there, and no process needs more than one of the few inotify instances of
    // a user.
    let descriptors = format!("/proc/{}/fd", hosts.child.id());
    let instances = std::fs::read_dir(descriptors)
        .unwrap()
        .filter(|entry| {
            let target = std::fs::read_link(entry.as_ref().unwrap().path()).unwrap_or_default();
            target.to_string_lossy().contains("inotify")
        })
        .count();
    assert!(instances <= 1, "{instances}");
    assert_eq!(lab.json("show ./lan.bus --json")["stations"], 250);

    let station =
        Station::join(Bus::open(lab.path("lan.bus")).unwrap(), StationOptions::new()).unwrap();
    let mut asker = Asker { station, burst: Burst::new(256) };
    let addresses = (1..=HOSTS).map(|last| Ipv4Addr::new(10, 0, 0, last));
    let questions: Vec<_> = addresses.clone().map(|address| asker.who_has(address)).collect();
    asker.station.send_burst(&questions).unwrap();
    let macs = asker.collect(arp_reply);
    assert!(macs.keys().copied().eq(addresses));
    let mut different: Vec<_> = macs.values().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), usize::from(HOSTS));

    let pings: Vec<_> = macs.iter().map(|(address, mac)| asker.ping(*address, *mac)).collect();
    asker.station.send_burst(&pings).unwrap();
    let answers = asker.collect(echo_reply);
    assert!(answers.iter().all(|(address, sequence)| u16::from(address.octets()[3]) == *sequence));
    // The first and the last, as a user asks them.
    for target in ["fd00::1", "fd00::fa"] {
        lab.prints(&format!("ping ./lan.bus {target} --from fd00::ffff/64 -c 1 -W 20"));
    }
    assert_eq!(hosts.interrupt(), Some(0));
}

#[test]
fn hosts_that_cannot_be_many_are_refused() {
    let lab = Lab::new();
    lab.fails("host ./lan.bus 10.0.0.1/24 --count 251", 2, "251 is not in 1..=250");
    lab.fails("host ./lan.bus 10.0.0.250/24 --count 6", 2, "there are 5");
    lab.fails(
        "host ./lan.bus 10.0.0.1/24 10.0.0.3/24 --count 3",
        2,
        "would have the address 10.0.0.3",
    );
    lab.fails("host shmif0 10.0.0.1/24 --count 2", 2, "an interface is one station");
    lab.fails(
        "host memif:role=server,socket=./m.sock 10.0.0.1/24 --count 2",
        2,
        "an interface is one station",
    );
    assert!(!lab.path("lan.bus").exists());
}
