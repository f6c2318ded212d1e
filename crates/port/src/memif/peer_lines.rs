//! A connection in lines for people: the peer, the rings, and how earlier connections ended.

use memif::{Details, RingDetails};

/// Returns a line for each of them. What peers wrote is quoted or printable.
pub(super) fn peer_lines(details: &Details) -> Vec<String> {
    let peer = match &details.peer {
        Some(peer) => format!("peer {:?}, its interface {:?}", peer.app_name, peer.name),
        None => "no peer".to_owned(),
    };
    let mut lines = vec![format!("{} of {}: {peer}", details.role, details.socket)];
    lines.extend(details.rx.iter().map(|ring| ring_line("rx", ring)));
    lines.extend(details.tx.iter().map(|ring| ring_line("tx", ring)));
    let last_disconnect = details.last_disconnect.as_ref().map(ToString::to_string);
    for (what, reason) in [("disconnect", &last_disconnect), ("refusal", &details.last_rejection)] {
        lines.extend(reason.iter().map(|reason| format!("last {what}: {reason}")));
    }
    lines
}

fn ring_line(queue: &str, ring: &RingDetails) -> String {
    let full = match ring.stats.ring_full {
        0 => String::new(),
        times => format!(", {times} times full"),
    };
    format!(
        "{queue} {} ({}): size {}, head {}, tail {}, {} packets, {} interrupts{full}",
        ring.index,
        ring.direction,
        ring.size,
        ring.head,
        ring.tail,
        ring.stats.packets,
        ring.stats.interrupts
    )
}
