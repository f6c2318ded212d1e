//! Which flow a frame belongs to, as a number.
//!
//! The datagrams of a flow have one source port, so that routers between the machines can spread
//! flows over several paths and keep each in order (RFC 7348, section 5).

/// Returns a number that the frames of a flow share: addresses, protocol and ports go into it, as far
/// as the frame has them.
pub(super) fn hash(frame: &[u8]) -> u32 {
    let ether_type = frame.get(12..14);
    let addresses = match ether_type {
        Some([0x08, 0x00]) => frame.get(26..34),
        Some([0x86, 0xdd]) => frame.get(22..54),
        _ => None,
    };
    // Fragments but the first have no ports, and take the way of the first without them.
    let ports = match ether_type {
        Some([0x08, 0x00]) => ports_of_ipv4(frame),
        Some([0x86, 0xdd]) if matches!(frame.get(20), Some(6 | 17)) => frame.get(54..58),
        _ => None,
    };
    let known = [frame.get(..12), addresses, ports].into_iter().flatten();
    // FNV-1a, with the high bits mixed into the low ones, which choose.
    let hash = known
        .flatten()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash ^ hash >> 16
}

fn ports_of_ipv4(frame: &[u8]) -> Option<&[u8]> {
    let is_fragment = u16::from_be_bytes([*frame.get(20)?, *frame.get(21)?]) & 0x3fff != 0;
    let has_ports = matches!(frame.get(23)?, 6 | 17);
    let begin = 14 + 4 * usize::from(frame[14] & 0xf);
    (has_ports && !is_fragment).then(|| frame.get(begin..begin + 4)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(fragment: u16, ports: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 32, 0, 0]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(ports);
        frame
    }

    #[test]
    fn a_flow_is_told_by_its_ports() {
        let one = ipv4(0, [1, 2, 3, 4]);
        let longer = [&one[..], &[7; 100]].concat();
        assert_eq!(hash(&one), hash(&longer));
        assert_ne!(hash(&one), hash(&ipv4(0, [1, 2, 3, 5])));
    }

    #[test]
    fn all_fragments_of_a_packet_are_one_flow() {
        assert_eq!(hash(&ipv4(0x2000, [1, 2, 3, 4])), hash(&ipv4(0x00b9, [9, 9, 9, 9])));
    }

    #[test]
    fn any_bytes_have_a_flow() {
        let mut random = fastrand::Rng::with_seed(1);
        for len in 0..200 {
            let mut frame = vec![0; len];
            random.fill(&mut frame);
            for ether_type in [[0x08, 0x00], [0x86, 0xdd]] {
                if let Some(place) = frame.get_mut(12..14) {
                    place.copy_from_slice(&ether_type);
                }
                hash(&frame);
            }
        }
    }
}
