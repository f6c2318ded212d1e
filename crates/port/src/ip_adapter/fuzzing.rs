//! The body of the fuzz target for the port of an IP peer, and the test that replays its seeds: packets
//! of any bytes from the peer, and frames of any bytes on the bus, while time passes.

use std::time::{Duration, Instant};

use neighbor::frame::{self, ETHERNET_HEADER};
use smoltcp::wire::EthernetAddress;

use super::lan_side::{FromBus, FromPeer, LanSide};
use super::packet::Packet;
use crate::ip_peer::IpPeer;
use crate::keys::Keys;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const LONGEST: usize = 1_514;
/// The peer's addresses in the seeds.
const PEER: &str = "ip=10.0.0.2/24,fd00::2/64,gateway=10.0.0.1,fe80::1";

/// The packets of a peer, and what became of them.
#[derive(Default)]
struct Account {
    offered: usize,
    sent: usize,
    dropped: usize,
}

/// A conversation: each step has a byte that says what it is, one for a time to pass, and two for the
/// length of the bytes that follow.
///
/// # Panics
/// When a packet leaves that should not, or the account of the peer's packets does not add up.
pub fn conversation(mut data: &[u8]) {
    let keys = Keys::parse("test", &["ip", "gateway"], PEER).expect("pairs");
    let mut lan = LanSide::new(IpPeer::from_keys(&keys).expect("valid"));
    let (mut now, mut account) = (Instant::now(), Account::default());
    lan.attach(MAC, LONGEST, now);
    lan.set_up(true, now);
    while let Some((&[kind, pause, low, high], rest)) = data.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        data = rest;
        now += Duration::from_millis(u64::from(pause) * 10);
        match kind % 4 {
            0 if !lan.is_tentative() => account.take(&lan.take_packet(bytes, now), bytes),
            1 => hear(&mut lan, bytes, now),
            2 => account.dropped += lan.service(now),
            _ => account.collect(&mut lan),
        }
        for message in lan.take_messages() {
            let read = Packet::read(&message).expect("a whole packet");
            assert!(read.len == message.len() && message.len() <= 1_280);
        }
    }
    // Nothing waits for ever.
    for _ in 0..8 {
        now += Duration::from_secs(1);
        account.dropped += lan.service(now);
    }
    account.collect(&mut lan);
    assert_eq!(account.offered, account.sent + account.dropped, "each packet has one fate");
    while lan.next_conflict().is_some() {}
}

impl Account {
    fn take(&mut self, fate: &FromPeer, packet: &[u8]) {
        self.offered += 1;
        match *fate {
            FromPeer::Send(header, len) => {
                self.sent += 1;
                assert!(len <= packet.len() && ETHERNET_HEADER + len <= LONGEST);
                check(&[&header[..], &packet[..len]].concat());
            }
            FromPeer::Wait { dropped } => self.dropped += dropped,
            FromPeer::Drop(_) => self.dropped += 1,
        }
    }

    /// Takes the frames that are to be sent.
    fn collect(&mut self, lan: &mut LanSide) {
        lan.drain_frames(&mut |bytes| {
            check(bytes);
            self.sent += usize::from(!is_said(bytes));
        });
    }
}

fn hear(lan: &mut LanSide, bytes: &[u8], now: Instant) {
    match lan.take_frame(bytes, now) {
        FromBus::Packet(len) => {
            // Without what may follow the packet in a frame.
            let frame = &bytes[..ETHERNET_HEADER + len];
            assert!(!is_said(frame) && [4, 6].contains(&(frame[ETHERNET_HEADER] >> 4)));
        }
        FromBus::NotForPeer | FromBus::Damaged => {}
    }
}

/// Checks a frame for the bus.
fn check(bytes: &[u8]) {
    assert!(bytes.len() <= LONGEST);
    assert_eq!(frame::source(bytes), MAC, "it is the port's");
    assert_ne!(frame::destination(bytes), EthernetAddress([0; 6]), "it is addressed");
    if !is_said(bytes) {
        let version = if bytes[12..14] == frame::IPV4 { 4 } else { 6 };
        assert_eq!(bytes[ETHERNET_HEADER] >> 4, version);
    }
}

/// Returns whether a frame is ARP or neighbor discovery, which the port alone says and hears.
fn is_said(bytes: &[u8]) -> bool {
    let is_discovery = bytes[12..14] == frame::IPV6
        && bytes.get(20) == Some(&58)
        && bytes.get(54).is_some_and(|kind| (133..=137).contains(kind));
    bytes[12..14] == frame::ARP || is_discovery
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::seeds;

    #[test]
    fn seeds_and_what_is_near_them() {
        seeds::replay("ip_peer", 3, conversation);
    }

    /// The driver sees what it is for.
    #[test]
    fn a_packet_of_the_seeds_leaves_and_one_arrives() {
        let seed = fs::read(seeds::folder("ip_peer").join("v4")).expect("a seed");
        let mut kinds = Vec::new();
        let mut data = &seed[..];
        while let Some((&[kind, _, low, high], rest)) = data.split_first_chunk() {
            kinds.push(kind);
            data = &rest[usize::from(u16::from_le_bytes([low, high]))..];
        }
        assert!(data.is_empty() && kinds.contains(&0) && kinds.contains(&1), "{kinds:?}");
    }
}
