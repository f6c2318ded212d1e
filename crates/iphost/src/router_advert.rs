//! What IPv6 routers say of themselves and of the network (RFC 4861, RFC 4191), and the question for
//! it.
//!
//! smoltcp's form of the message has room for one prefix, and none for the router's preference.

use std::net::Ipv6Addr;

use smoltcp::wire::{EthernetAddress, NdiscRepr};

use neighbor::frame::{group_mac, is_icmp_checksum_good};
use neighbor::ndisc::{self, HOP_LIMIT};

const ADVERTISEMENT: u8 = 134;
/// Bytes before the options.
const ADVERTISEMENT_HEADER: usize = 16;
/// Options are counted in units of 8 bytes.
const UNIT: usize = 8;
const SOURCE_MAC: u8 = 1;
const PREFIX: u8 = 3;
/// All routers on this link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The most prefixes that are read of one message.
const MAX_PREFIXES: usize = 16;

/// How much a router wants to be the default router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Preference {
    Low,
    Medium,
    High,
}

/// A router's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouterAdvert {
    /// The hop limit that hosts are to use, if it says one.
    pub(crate) hop_limit: Option<u8>,
    /// How long it is a default router, in seconds; 0 when it is none.
    pub(crate) lifetime: u16,
    pub(crate) preference: Preference,
    pub(crate) mac: Option<EthernetAddress>,
    pub(crate) prefixes: Vec<Prefix>,
}

/// A prefix of the network's addresses. Lifetimes are in seconds, and [`u32::MAX`] is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) network: Ipv6Addr,
    pub(crate) len: u8,
    /// All its addresses are on this link.
    pub(crate) is_on_link: bool,
    /// Hosts make addresses of it.
    pub(crate) is_autonomous: bool,
    pub(crate) valid: u32,
    pub(crate) preferred: u32,
}

impl RouterAdvert {
    /// Reads an `ICMPv6` message. Returns `None` for other messages, and for one that RFC 4861 says is
    /// not valid.
    pub(crate) fn read(
        message: &[u8],
        from: Ipv6Addr,
        to: Ipv6Addr,
        hop_limit: u8,
    ) -> Option<Self> {
        let &[kind, code, _, _, hops, flags, high, low, ..] =
            message.first_chunk::<ADVERTISEMENT_HEADER>()?;
        let is_valid = (kind, code, hop_limit) == (ADVERTISEMENT, 0, HOP_LIMIT)
            && from.is_unicast_link_local()
            && is_icmp_checksum_good(message, from.into(), to.into());
        if !is_valid {
            return None;
        }
        let mut advert = Self {
            hop_limit: Some(hops).filter(|hops| *hops != 0),
            lifetime: u16::from_be_bytes([high, low]),
            preference: match flags >> 3 & 3 {
                1 => Preference::High,
                3 => Preference::Low,
                // 2 is reserved, and to be taken for 0.
                _ => Preference::Medium,
            },
            mac: None,
            prefixes: Vec::new(),
        };
        let mut options = &message[ADVERTISEMENT_HEADER..];
        while let Some(&[kind, units]) = options.first_chunk() {
            let len = usize::from(units) * UNIT;
            let option = options.get(..len).filter(|_| units != 0)?;
            options = &options[len..];
            match kind {
                SOURCE_MAC => {
                    let mac = EthernetAddress(*option[2..].first_chunk()?);
                    advert.mac = Some(mac).filter(EthernetAddress::is_unicast);
                }
                PREFIX if advert.prefixes.len() < MAX_PREFIXES => {
                    advert.prefixes.extend(Prefix::read(option));
                }
                _ => {}
            }
        }
        options.is_empty().then_some(advert)
    }
}

impl Prefix {
    fn read(option: &[u8]) -> Option<Self> {
        let option = option.first_chunk::<32>()?;
        let seconds = |at: usize| {
            let [a, b, c, d] = [option[at], option[at + 1], option[at + 2], option[at + 3]];
            u32::from_be_bytes([a, b, c, d])
        };
        Some(Self {
            network: Ipv6Addr::from(*option[16..].first_chunk::<16>()?),
            len: option[2],
            is_on_link: option[3] & 0x80 != 0,
            is_autonomous: option[3] & 0x40 != 0,
            valid: seconds(4),
            preferred: seconds(8),
        })
    }
}

/// Makes the frame in which `own` asks all routers to say who they are.
pub(crate) fn solicitation(own: (Ipv6Addr, EthernetAddress)) -> Vec<u8> {
    let question = NdiscRepr::RouterSolicit { lladdr: Some(own.1.into()) };
    ndisc::make(own, (ALL_ROUTERS, group_mac(ALL_ROUTERS)), question)
}

#[cfg(test)]
pub(crate) mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv6Packet, Icmpv6Repr};

    use super::*;
    use neighbor::frame::{
        self, ALL_NODES_OF_LINK, ETHERNET_HEADER, IPV6_HEADER, fill_icmp_checksum,
    };

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    pub(crate) const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);

    /// Makes the message of a router.
    pub(crate) fn message(advert: &RouterAdvert) -> Vec<u8> {
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, advert.hop_limit.unwrap_or(0)];
        message.push(match advert.preference {
            Preference::High => 1 << 3,
            Preference::Medium => 0,
            Preference::Low => 3 << 3,
        });
        message.extend(advert.lifetime.to_be_bytes());
        message.extend([0; 8]);
        if let Some(mac) = advert.mac {
            message.extend([SOURCE_MAC, 1]);
            message.extend(mac.0);
        }
        for prefix in &advert.prefixes {
            let flags = u8::from(prefix.is_on_link) << 7 | u8::from(prefix.is_autonomous) << 6;
            message.extend([PREFIX, 4, prefix.len, flags]);
            message.extend(prefix.valid.to_be_bytes());
            message.extend(prefix.preferred.to_be_bytes());
            message.extend([0; 4]);
            message.extend(prefix.network.octets());
        }
        fill_icmp_checksum(&mut message, ROUTER.into(), ALL_NODES_OF_LINK.into());
        message
    }

    pub(crate) fn advert(texts: &[&str]) -> RouterAdvert {
        let prefix = |text: &&str| Prefix {
            network: text.parse().unwrap(),
            len: 64,
            is_on_link: true,
            is_autonomous: true,
            valid: 7_200,
            preferred: 3_600,
        };
        RouterAdvert {
            hop_limit: Some(61),
            lifetime: 1_800,
            preference: Preference::Medium,
            mac: Some(MAC),
            prefixes: texts.iter().map(prefix).collect(),
        }
    }

    fn read(message: &[u8]) -> Option<RouterAdvert> {
        RouterAdvert::read(message, ROUTER, ALL_NODES_OF_LINK, 255)
    }

    #[test]
    fn what_a_router_says_is_read() {
        let right = advert(&["2001:db8:1::", "2001:db8:2::"]);
        assert_eq!(read(&message(&right)), Some(right.clone()));
        let high = RouterAdvert { preference: Preference::High, ..right };
        assert_eq!(read(&message(&high)), Some(high));
    }

    #[test]
    fn what_no_router_says_is_ignored() {
        let good = message(&advert(&["2001:db8:1::"]));
        for (from, hop_limit) in [("fe80::99", 64), ("2001:db8::99", 255)] {
            let from = from.parse().unwrap();
            assert_eq!(RouterAdvert::read(&good, from, ALL_NODES_OF_LINK, hop_limit), None);
        }
        // Any byte that is wrong, any length, and any bytes behind a right checksum.
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(read(&bad), None, "{at}");
            assert_eq!(read(&good[..at]), None, "{at}");
        }
        let mut random = fastrand::Rng::with_seed(13);
        for _ in 0..20_000 {
            let mut nonsense = good[..ADVERTISEMENT_HEADER].to_vec();
            nonsense.extend((0..random.usize(..80)).map(|_| random.u8(..8)));
            nonsense[2..4].fill(0);
            fill_icmp_checksum(&mut nonsense, ROUTER.into(), ALL_NODES_OF_LINK.into());
            if let Some(advert) = read(&nonsense) {
                assert!(advert.prefixes.len() <= MAX_PREFIXES);
            }
        }
        let many = message(&advert(&["2001:db8:1::"; 40]));
        assert_eq!(read(&many).unwrap().prefixes.len(), MAX_PREFIXES);
    }

    #[test]
    fn the_question_is_that_of_the_rfc() {
        let own = "fe80::1".parse().unwrap();
        let frame = solicitation((own, MAC));
        assert_eq!(frame::destination(&frame), EthernetAddress([0x33, 0x33, 0, 0, 0, 2]));
        let packet = Icmpv6Packet::new_checked(&frame[ETHERNET_HEADER + IPV6_HEADER..]).unwrap();
        let checksums = ChecksumCapabilities::default();
        let read = Icmpv6Repr::parse(&own, &ALL_ROUTERS, &packet, &checksums).unwrap();
        let Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr }) = read else { panic!() };
        assert_eq!(lladdr, Some(MAC.into()));
    }
}
