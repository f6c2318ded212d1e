//! The body of the fuzz target for VXLAN, and the test that replays its seeds: datagrams of any kind
//! from peers and strangers, and frames of any kind from the bus.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::flow;
use super::header::{self, HEADER};
use super::neighbors::Neighbors;
use super::outbox::{LANES, Outbox, Target};
use super::remotes::Remotes;
use super::table::Table;

/// The VXLAN of the port.
const VNI: u32 = 42;

/// Pieces of the input, each with a byte in front that says what it is and one with its length, are
/// datagrams from one of three ends or a stranger, or frames of the bus.
///
/// A datagram is a frame or is refused, an answer tells what was learned, and every frame of a burst is
/// sent once, in pieces that are cut where they were joined.
///
/// # Panics
/// When that does not hold.
pub fn datagrams(data: &[u8]) {
    let peers = [1, 2, 3].map(|last| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 4_789)));
    let mut remotes = Remotes::new(&peers, false, 4_789, Some(1_000));
    let (mut table, mut neighbors) = (Table::default(), Neighbors::default());
    let (mut outbox, now) = (Outbox::new(VNI), Instant::now());
    let mut rest = data;
    while let [what, len, more @ ..] = rest {
        let (bytes, after) = more.split_at(more.len().min(usize::from(*len)));
        rest = after;
        if what & 0x80 == 0 {
            let sender = Ipv4Addr::new(10, 0, 0, what % 4 + 1);
            let Some((remote, replaces)) = remotes.sender(sender.into(), now) else {
                assert_eq!(sender, Ipv4Addr::new(10, 0, 0, 4), "a stranger");
                continue;
            };
            assert!(!replaces, "configured peers stay");
            let Ok(frame) = header::frame(bytes, VNI) else { continue };
            assert_eq!(frame.len() + HEADER, bytes.len());
            remotes.may_flood(remote, now);
            neighbors.learn(frame, remote, now);
            if let Some(source) = frame[6..].first_chunk() {
                table.learn(*source, remote, now);
                let known = table.remote_of(*source, now);
                assert!(known.is_none_or(|known| known == remote), "it was just seen there");
            }
        } else {
            outbox.push(bytes);
        }
    }
    outbox.choose(|frame| {
        if let Some(answer) = neighbors.answer(frame, now) {
            // It is for the one who asked.
            assert_eq!(answer[..6], frame[if frame[12..14] == [8, 6] { 22..28 } else { 6..12 }]);
            return None;
        }
        let remote = frame.first_chunk().and_then(|mac| table.remote_of(*mac, now));
        Some((remote.map_or(Target::All, Target::One), flow::hash(frame) as usize % LANES))
    });
    let mut next = 0;
    while next < outbox.datagrams().len() {
        let count = outbox.run(next, 64, 65_000);
        let (piece, segment) = outbox.piece(next, count);
        assert!((count - 1) * segment < piece.len() && piece.len() <= count * segment);
        for datagram in piece.chunks(segment) {
            assert!(header::frame(datagram, VNI).is_ok() || datagram.len() < HEADER + 14);
            assert_eq!(datagram[..HEADER], header::header(VNI));
        }
        next += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    #[test]
    fn seeds_and_what_is_near_them() {
        seeds::replay("vxlan", 3, datagrams);
    }
}
