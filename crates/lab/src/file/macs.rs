//! Ethernet addresses that are computed from names, so that a lab has the same each time.

use std::collections::BTreeSet;
use std::ops::Range;

use super::nodes::Nodes;

/// Gives each interface without an Ethernet address one.
pub(super) fn assign(lab: &str, nodes: &mut Nodes<'_>) {
    let given = nodes.list.iter().flat_map(|node| &node.interfaces);
    let mut taken: BTreeSet<[u8; 6]> =
        given.filter_map(|interface| interface.mac.as_ref().map(|(mac, _)| *mac)).collect();
    for node in &mut nodes.list {
        for interface in &mut node.interfaces {
            if interface.mac.is_none() {
                let mut tries =
                    (0_u32..).map(|salt| compute(lab, &node.name, &interface.name, salt));
                let mac = tries.find(|mac| taken.insert(*mac)).unwrap_or_default();
                interface.mac = Some((mac, Range::default()));
            }
        }
    }
}

/// Returns a local unicast address: FNV-1a of the names.
fn compute(lab: &str, node: &str, interface: &str, salt: u32) -> [u8; 6] {
    let salt = salt.to_le_bytes();
    let parts = [lab.as_bytes(), node.as_bytes(), interface.as_bytes(), &salt];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let [_, _, mac @ ..] = (hash ^ (hash >> 48)).to_be_bytes();
    let mut mac: [u8; 6] = mac;
    mac[0] = (mac[0] & 0xfc) | 0x02;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_local_unicast_and_the_same_each_time() {
        let mac = compute("lab", "r1", "eth0", 0);
        assert_eq!(mac, compute("lab", "r1", "eth0", 0));
        assert_eq!(mac[0] & 3, 2);
        for other in [
            compute("lab", "r1", "eth1", 0),
            compute("lab", "r2", "eth0", 0),
            compute("lab2", "r1", "eth0", 0),
            compute("lab", "r1e", "th0", 0),
            compute("lab", "r1", "eth0", 1),
        ] {
            assert_ne!(mac, other);
        }
    }
}
