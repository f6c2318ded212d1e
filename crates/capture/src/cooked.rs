//! Packets of Linux's interface `any`, which have a header of its own in place of Ethernet's.
//!
//! Source: `LINKTYPE_LINUX_SLL` and `LINKTYPE_LINUX_SLL2` of tcpdump.org. Both headers are longer
//! than Ethernet's, so the frame is made in their place.

/// The link type of headers of 16 bytes.
const SLL: u16 = 113;
/// The link type of headers of 20 bytes.
const SLL2: u16 = 276;

const ETHERNET_HEADER: usize = 14;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Where nothing tells the receiver.
const UNKNOWN: [u8; 6] = [0; 6];

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// The protocol field of frames of 802.3 that have no type but a length: raw, and with LLC.
const LENGTHS: [u16; 2] = [1, 4];
/// Protocols below this are Linux's own numbers.
const FIRST_TYPE: u16 = 0x0600;

/// The packet types of frames to all, and to a group.
const TO_ALL: [u16; 2] = [1, 2];

/// Kinds of devices (`ARPHRD_`) whose protocol field has another meaning, or whose packets have a
/// header of their own: Netlink, GRE over IPv4 and IPv6, 802.11 with and without radio headers,
/// Frame Relay.
const OTHER_DEVICES: [u16; 7] = [824, 778, 823, 801, 802, 803, 770];

/// Returns whether this link type is one of the two.
pub(crate) fn is_cooked(link: u16) -> bool {
    matches!(link, SLL | SLL2)
}

/// What the header says.
struct Header {
    len: usize,
    device: u16,
    packet_type: u16,
    address_len: u16,
    address: [u8; 6],
    protocol: u16,
}

impl Header {
    fn parse(link: u16, packet: &[u8]) -> Option<Self> {
        let u16 = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
        let address = |at: usize| packet.get(at..at + 6)?.try_into().ok();
        match link {
            SLL if packet.len() >= 16 => Some(Self {
                len: 16,
                packet_type: u16(0)?,
                device: u16(2)?,
                address_len: u16(4)?,
                address: address(6)?,
                protocol: u16(14)?,
            }),
            SLL2 if packet.len() >= 20 => Some(Self {
                len: 20,
                protocol: u16(0)?,
                device: u16(8)?,
                packet_type: packet[10].into(),
                address_len: packet[11].into(),
                address: address(12)?,
            }),
            _ => None,
        }
    }

    /// Returns the address that the frame was sent to, as far as it can be known.
    fn destination(&self, payload: &[u8]) -> [u8; 6] {
        // The receiver's address of both versions, and the operation of ARP: a request is for all.
        let tells = match self.protocol {
            IPV4 => payload.get(16..20),
            IPV6 => payload.get(24..40),
            ARP => payload.get(6..8),
            _ => None,
        };
        match (self.protocol, tells) {
            (IPV4, Some(&[224..=239, b, c, d])) => [0x01, 0x00, 0x5e, b & 0x7f, c, d],
            (IPV6, Some(&[0xff, .., c, d, e, f])) => [0x33, 0x33, c, d, e, f],
            (IPV4, Some([0xff, 0xff, 0xff, 0xff])) | (ARP, Some([0, 1])) => BROADCAST,
            _ if TO_ALL.contains(&self.packet_type) => BROADCAST,
            _ => UNKNOWN,
        }
    }
}

/// Writes an Ethernet header over the end of the packet's own and returns where it begins. `None`
/// when the packet is none that Ethernet carries. It had `original` bytes on the wire.
pub(crate) fn make_ethernet(link: u16, packet: &mut [u8], original: u32) -> Option<usize> {
    let header = Header::parse(link, packet)?;
    if OTHER_DEVICES.contains(&header.device) {
        return None;
    }
    let payload = &packet[header.len..];
    let destination = header.destination(payload);
    let ethertype = if LENGTHS.contains(&header.protocol) {
        let length = (original as usize).max(packet.len()) - header.len;
        u16::try_from(length).ok().filter(|length| *length < FIRST_TYPE)?
    } else if header.protocol < FIRST_TYPE {
        return None;
    } else {
        header.protocol
    };
    let source = if header.address_len == 6 { header.address } else { UNKNOWN };
    let begin = header.len - ETHERNET_HEADER;
    let [to, from, kind] = [begin, begin + 6, begin + 12];
    packet[to..from].copy_from_slice(&destination);
    packet[from..kind].copy_from_slice(&source);
    packet[kind..header.len].copy_from_slice(&ethertype.to_be_bytes());
    Some(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn sll(packet_type: u8, device: u16, protocol: u16, payload: &[u8]) -> Vec<u8> {
        let [high, low] = device.to_be_bytes();
        let head = [0, packet_type, high, low, 0, 6];
        [&head[..], &MAC, &[0, 0], &protocol.to_be_bytes(), payload].concat()
    }

    fn sll2(packet_type: u8, protocol: u16, payload: &[u8]) -> Vec<u8> {
        let rest = [0, 0, 0, 0, 0, 3, 0, 1, packet_type, 6];
        [&protocol.to_be_bytes()[..], &rest, &MAC, &[0, 0], payload].concat()
    }

    fn frame(link: u16, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let original = u32::try_from(packet.len()).unwrap();
        let begin = make_ethernet(link, &mut packet, original)?;
        Some(packet.split_off(begin))
    }

    fn ethernet(to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&to[..], &MAC, &ethertype.to_be_bytes(), payload].concat()
    }

    #[test]
    fn both_headers_become_the_same_frame() {
        let mut ip = [0; 40];
        ip[16..20].copy_from_slice(&[10, 0, 0, 1]);
        let expected = Some(ethernet(UNKNOWN, IPV4, &ip));
        assert_eq!(frame(SLL, sll(0, 1, IPV4, &ip)), expected);
        assert_eq!(frame(SLL2, sll2(0, IPV4, &ip)), expected);
        assert_eq!(frame(1, sll(0, 1, IPV4, &ip)), None);
    }

    #[test]
    fn groups_and_all_are_known_as_receivers() {
        let to = |protocol, payload: &[u8], packet_type| {
            frame(SLL2, sll2(packet_type, protocol, payload)).unwrap()[..6].to_vec()
        };
        let mut ip = [0; 40];
        ip[16..20].copy_from_slice(&[224, 0x80, 0, 5]);
        assert_eq!(to(IPV4, &ip, 4), [1, 0, 0x5e, 0, 0, 5]);
        let mut ip = [0; 40];
        ip[24] = 0xff;
        ip[36..].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(to(IPV6, &ip, 4), [0x33, 0x33, 1, 2, 3, 4]);
        assert_eq!(to(ARP, &[0, 1, 8, 0, 6, 4, 0, 1], 4), BROADCAST);
        assert_eq!(to(ARP, &[0, 1, 8, 0, 6, 4, 0, 2], 4), UNKNOWN);
        assert_eq!(to(0x88cc, &[0; 4], 1), BROADCAST);
        assert_eq!(to(0x88cc, &[0; 4], 3), UNKNOWN);
    }

    #[test]
    fn llc_gets_its_length_and_what_is_no_ethernet_is_none() {
        let llc = [0x42, 0x42, 3, 0, 0];
        assert_eq!(frame(SLL, sll(0, 1, 4, &llc)), Some(ethernet(UNKNOWN, 5, &llc)));
        assert_eq!(frame(SLL, sll(0, 1, 4, &[0; 2000])), None);
        // CAN, Netlink, too short.
        assert_eq!(frame(SLL, sll(0, 1, 0x000c, &llc)), None);
        assert_eq!(frame(SLL, sll(0, 824, IPV4, &llc)), None);
        assert_eq!(frame(SLL2, sll(0, 1, IPV4, &[])), None);
        assert_eq!(frame(SLL, vec![0; 15]), None);
        // No address.
        let mut packet = sll(0, 772, IPV4, &[0; 4]);
        packet[5] = 0;
        assert_eq!(frame(SLL, packet).unwrap()[6..12], UNKNOWN);
    }
}
