//! Several stations for one peer: each is a queue, and serves its share of the flows.
//!
//! A flow stays in one queue, so its frames keep their order. It is known by the addresses of IP and
//! the ports of TCP and UDP; fragments, which have no ports, and other protocols of IP by the
//! addresses alone; what is not IP by the addresses of Ethernet.

use crate::mechanism::frame::RingFrame;
use crate::system::liveness::random_number;

/// The longest part of a frame that tells its flow: an Ethernet header with two tags, an IPv6
/// header and two ports, and an IPv4 header with all its options and two ports.
const HEAD: usize = 14 + 8 + 60 + 4;

/// One of several stations that serve one peer together, each in a thread of its own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use shmbus::{Burst, Bus, FlowQueue, Station, StationOptions};
///
/// let join = || Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new());
/// let (mut sender, mut first, mut second) = (join()?, join()?, join()?);
/// for (station, queue) in [&mut first, &mut second].into_iter().zip(FlowQueue::set(2)) {
///     station.set_flow_queue(Some(queue));
/// }
/// sender.send(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello")?;
/// // One of them receives the frame, and no other.
/// let mut burst = Burst::new(8);
/// assert_eq!(first.recv_burst(&mut burst) + second.recv_burst(&mut burst), 1);
/// // What one sends is no news to the peer.
/// first.send(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x02\x88\xb5hello")?;
/// assert_eq!(second.recv_burst(&mut burst), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowQueue {
    /// The identity in the packets of all queues of the set.
    sender: u64,
    index: u16,
    of: u16,
}

impl FlowQueue {
    /// Makes the queues of one peer, one for each station. There is at least one.
    pub fn set(queues: u16) -> impl Iterator<Item = Self> {
        let (sender, of) = (random_number(), queues.max(1));
        (0..of).map(move |index| Self { sender, index, of })
    }

    /// Returns the identity that the stations of the set share.
    pub(crate) fn sender(self) -> u64 {
        self.sender
    }

    /// Returns whether a frame is of one of its flows. The frame may be torn.
    #[inline]
    pub(crate) fn wants(self, frame: &RingFrame<'_>) -> bool {
        let mut head = [0; HEAD];
        let len = frame.copy_to(&mut head);
        self.has_flow_of(&head[..len])
    }

    fn has_flow_of(self, frame: &[u8]) -> bool {
        // The upper half, which depends on all of the flow, as a fraction of the queues.
        let upper = flow_hash(frame) >> 32;
        (upper * u64::from(self.of)) >> 32 == u64::from(self.index)
    }
}

/// Returns a number that is the same for all frames of a flow.
fn flow_hash(frame: &[u8]) -> u64 {
    let mut at = 12;
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(at..at + 2)
        && at < 20
    {
        at += 4;
    }
    let packet = frame.get(at + 2..).unwrap_or_default();
    let hash = match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => ipv4_hash(packet),
        Some([0x86, 0xdd]) => ipv6_hash(packet),
        _ => None,
    };
    hash.unwrap_or_else(|| mix(0, frame.get(..12).unwrap_or(frame)))
}

fn ipv4_hash(packet: &[u8]) -> Option<u64> {
    let header = packet.first_chunk::<20>()?;
    let hash = mix(header[9].into(), &header[12..]);
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let ports = packet.get(usize::from(header[0] & 0xf) * 4..).and_then(<[u8]>::first_chunk::<4>);
    Some(ports.filter(|_| has_ports(header[9]) && !is_fragment).map_or(hash, |it| mix(hash, it)))
}

fn ipv6_hash(packet: &[u8]) -> Option<u64> {
    let header = packet.first_chunk::<40>()?;
    let hash = mix(header[6].into(), &header[8..]);
    let ports = packet[40..].first_chunk::<4>();
    Some(ports.filter(|_| has_ports(header[6])).map_or(hash, |it| mix(hash, it)))
}

/// Returns whether the protocol begins with two ports: TCP or UDP.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17)
}

/// Mixes bytes into a hash; every bit changes about half of the upper ones.
fn mix(hash: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(4).fold(hash, |hash, chunk| {
        let word = chunk.iter().fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
        // The golden ratio's bits, as in Fibonacci hashing.
        (hash.rotate_left(29) ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an IPv4 packet between two ports in a frame, as fragment where `fragment` is not 0.
    fn udp(host: u8, port: u16, fragment: u16, tagged: bool) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if tagged {
            frame.extend([0x81, 0, 0, 10]);
        }
        frame.extend([0x08, 0, 0x45, 0, 0, 40, 0, 0]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, host, 10, 0, 0, 200]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 30]);
        frame
    }

    fn udp6(port: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
        frame.extend([0xfd; 32]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 6]);
        frame
    }

    /// Returns the queue of a frame among `of`.
    fn queue(frame: &[u8], of: u16) -> u16 {
        let wanted: Vec<u16> = FlowQueue::set(of)
            .filter(|queue| queue.has_flow_of(frame))
            .map(|queue| queue.index)
            .collect();
        assert_eq!(wanted.len(), 1, "one queue has the flow: {wanted:?}");
        wanted[0]
    }

    #[test]
    fn each_frame_is_in_one_queue_whatever_its_bytes() {
        for of in [0, 1, 2, 3, 7, 256] {
            for len in 0..HEAD {
                for filler in [0, 0x45, 0x81, 0xff] {
                    let frame = vec![filler; len];
                    assert!(queue(&frame, of) < of.max(1));
                }
            }
        }
    }

    #[test]
    fn flows_spread_over_the_queues() {
        for frames in [
            (0..1_000).map(|port| udp(1, port, 0, false)).collect::<Vec<_>>(),
            (0..1_000).map(|port| udp(1, port, 0, true)).collect(),
            (0..250).map(|host| udp(host, 9, 0, false)).collect(),
            (0..1_000).map(udp6).collect(),
        ] {
            for of in [2, 3, 4] {
                for index in 0..of {
                    let there = frames.iter().filter(|frame| queue(frame, of) == index).count();
                    let fair = frames.len() / usize::from(of);
                    assert!((fair / 2..fair * 2).contains(&there), "{there} of {fair}");
                }
            }
        }
    }

    #[test]
    fn a_flow_stays_in_its_queue() {
        let mut other = udp(1, 7, 0, false);
        // Another length, identification, time to live, and payload.
        for at in [17, 19, 22, 45] {
            other[at] ^= 0x55;
        }
        assert_eq!(flow_hash(&udp(1, 7, 0, false)), flow_hash(&other));
        // Fragments have no ports: the first as little as the others.
        let first = flow_hash(&udp(1, 7, 0x2000, false));
        assert_eq!(first, flow_hash(&udp(1, 0, 0x2010, false)));
        assert_eq!(first, flow_hash(&udp(1, 99, 0x0020, false)));
        assert_eq!(flow_hash(&udp(1, 7, 0, false)), flow_hash(&udp(1, 7, 0, true)));
    }
}
