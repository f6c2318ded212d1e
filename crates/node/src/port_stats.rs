//! What a thread publishes about the ports it serves: their state and their counters.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use port::{
    ImpairCounters, ImpairHandle, LinkState, PeerDetails, Port, RemoteCounters, RemotesHandle,
};
use serde::{Deserialize, Serialize};
use shmbus::Stats;

/// Frames and bytes through an interface since it was made.
///
/// A port receives from its peer; an interface on a bus receives from the bus. The bytes of a frame
/// are those on the bus, without checksum or padding. A counter wraps around at 2^64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes of the frames received.
    pub rx_bytes: u64,
    /// Frames received and dropped because the bus was busy or down, or because they are not in the
    /// VLAN of the port. For an interface on a bus:
    /// frames that it missed because it was overrun, an estimate from the bytes missed.
    pub rx_dropped: u64,
    /// Frames received that the bus cannot carry. For an interface on a bus: how often the bus held
    /// no valid frame.
    pub rx_errors: u64,
    /// For a port: frames received that are longer than the bus carries.
    pub rx_oversize: u64,
    /// Frames received and dropped because the port would close a loop.
    pub rx_blocked: u64,
    /// For a port: peers that were turned away because it has one already.
    pub peers_refused: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes of the frames sent.
    pub tx_bytes: u64,
    /// Frames not sent because the bus was busy or down. For a port: how often the peer had no room
    /// for too long, and an estimate of the frames that it missed because it was overrun on the bus.
    pub tx_dropped: u64,
    /// Frames not sent because the bus cannot carry them. For a port: how often the bus held no
    /// valid frame.
    pub tx_errors: u64,
    /// Frames from the peer that impairments have lost.
    pub rx_lost: u64,
    /// Frames from the peer of which impairments have flipped a bit.
    pub rx_corrupted: u64,
    /// Frames from the peer that impairments have doubled.
    pub rx_duplicated: u64,
    /// Frames from the peer that impairments have sent past delayed ones.
    pub rx_reordered: u64,
    /// Frames from the peer that were dropped because too many waited for their time.
    pub rx_queue_drops: u64,
    /// Frames to the peer that impairments have lost.
    pub tx_lost: u64,
    /// Frames to the peer of which impairments have flipped a bit.
    pub tx_corrupted: u64,
    /// Frames to the peer that impairments have doubled.
    pub tx_duplicated: u64,
    /// Frames to the peer that impairments have sent past delayed ones.
    pub tx_reordered: u64,
    /// Frames to the peer that were dropped because too many waited for their time.
    pub tx_queue_drops: u64,
}

impl Counters {
    /// Makes counters of what a station has counted. It receives from the bus.
    #[must_use]
    pub fn of_station(stats: &Stats) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            rx_dropped: stats.overrun_frames,
            rx_errors: stats.corrupt + stats.rx_csum_errors,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_dropped: stats.tx_busy + stats.tx_link_down,
            tx_errors: stats.tx_refused + stats.tx_offload_refused + stats.tx_vlan_refused,
            ..Self::default()
        }
    }

    /// Makes counters of what impairments have done.
    pub(crate) fn of_impairments(impaired: ImpairCounters) -> Self {
        let ImpairCounters { ingress: rx, egress: tx } = impaired;
        Self {
            rx_lost: rx.lost,
            rx_corrupted: rx.corrupted,
            rx_duplicated: rx.duplicated,
            rx_reordered: rx.reordered,
            rx_queue_drops: rx.queue_drops,
            tx_lost: tx.lost,
            tx_corrupted: tx.corrupted,
            tx_duplicated: tx.duplicated,
            tx_reordered: tx.reordered,
            tx_queue_drops: tx.queue_drops,
            ..Self::default()
        }
    }

    /// Returns the counters without those that a port keeps by itself, whatever its station.
    pub(crate) fn of_stations(self) -> Self {
        Self {
            peers_refused: 0,
            rx_lost: 0,
            rx_corrupted: 0,
            rx_duplicated: 0,
            rx_reordered: 0,
            rx_queue_drops: 0,
            tx_lost: 0,
            tx_corrupted: 0,
            tx_duplicated: 0,
            tx_reordered: 0,
            tx_queue_drops: 0,
            ..self
        }
    }

    /// Returns the sum of both, for an interface that was served in parts, one after the other.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.wrapping_add(other.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            rx_dropped: self.rx_dropped.wrapping_add(other.rx_dropped),
            rx_errors: self.rx_errors.wrapping_add(other.rx_errors),
            rx_oversize: self.rx_oversize.wrapping_add(other.rx_oversize),
            rx_blocked: self.rx_blocked.wrapping_add(other.rx_blocked),
            peers_refused: self.peers_refused.wrapping_add(other.peers_refused),
            tx_packets: self.tx_packets.wrapping_add(other.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
            tx_dropped: self.tx_dropped.wrapping_add(other.tx_dropped),
            tx_errors: self.tx_errors.wrapping_add(other.tx_errors),
            rx_lost: self.rx_lost.wrapping_add(other.rx_lost),
            rx_corrupted: self.rx_corrupted.wrapping_add(other.rx_corrupted),
            rx_duplicated: self.rx_duplicated.wrapping_add(other.rx_duplicated),
            rx_reordered: self.rx_reordered.wrapping_add(other.rx_reordered),
            rx_queue_drops: self.rx_queue_drops.wrapping_add(other.rx_queue_drops),
            tx_lost: self.tx_lost.wrapping_add(other.tx_lost),
            tx_corrupted: self.tx_corrupted.wrapping_add(other.tx_corrupted),
            tx_duplicated: self.tx_duplicated.wrapping_add(other.tx_duplicated),
            tx_reordered: self.tx_reordered.wrapping_add(other.tx_reordered),
            tx_queue_drops: self.tx_queue_drops.wrapping_add(other.tx_queue_drops),
        }
    }

    /// Returns the counters as the other side sees them: what one side sends, the other receives.
    /// The other side does not count frames that were too long or blocked apart.
    #[must_use]
    pub fn from_the_other_side(self) -> Self {
        Self {
            rx_packets: self.tx_packets,
            rx_bytes: self.tx_bytes,
            rx_dropped: self.tx_dropped,
            rx_errors: self.tx_errors,
            rx_oversize: 0,
            rx_blocked: 0,
            peers_refused: 0,
            tx_packets: self.rx_packets,
            tx_bytes: self.rx_bytes,
            tx_dropped: self.rx_dropped.wrapping_add(self.rx_blocked),
            tx_errors: self.rx_errors.wrapping_add(self.rx_oversize),
            rx_lost: self.tx_lost,
            rx_corrupted: self.tx_corrupted,
            rx_duplicated: self.tx_duplicated,
            rx_reordered: self.tx_reordered,
            rx_queue_drops: self.tx_queue_drops,
            tx_lost: self.rx_lost,
            tx_corrupted: self.rx_corrupted,
            tx_duplicated: self.rx_duplicated,
            tx_reordered: self.rx_reordered,
            tx_queue_drops: self.rx_queue_drops,
        }
    }
}

/// The state and the counters of a port in a node, readable from any thread.
///
/// The thread that serves the port updates them once a millisecond while frames move, and before it
/// sleeps.
// Relaxed throughout: each number is right by itself, and nothing depends on how they go together.
#[derive(Debug, Default)]
pub struct PortStats {
    link: AtomicU8,
    /// Changes the impairments of the port, and counts what they do.
    impair: Option<ImpairHandle>,
    /// The counters of each machine that a tunnel reaches.
    remotes: Option<RemotesHandle>,
    /// Describes the peer.
    peer: Option<PeerDetails>,
    counters: [AtomicU64; 21],
}

impl PortStats {
    /// Makes the statistics of a port.
    pub(crate) fn of(port: &dyn Port) -> Self {
        let (impair, remotes, peer) = (port.impair_handle(), port.remotes(), port.peer_details());
        Self { impair, remotes, peer, ..Self::default() }
    }

    /// Returns the counters of each machine that the port reaches; none when it is no tunnel.
    #[must_use]
    pub fn remotes(&self) -> Vec<RemoteCounters> {
        self.remotes.as_ref().map(RemotesHandle::get).unwrap_or_default()
    }

    /// Returns what there is to say of the peer, a line each; nothing for most kinds of ports.
    #[must_use]
    pub fn peer_lines(&self) -> Vec<String> {
        self.peer.as_ref().map(PeerDetails::lines).unwrap_or_default()
    }

    /// Returns the handle that changes the impairments of the port, if it can have any.
    #[must_use]
    pub fn impair_handle(&self) -> Option<&ImpairHandle> {
        self.impair.as_ref()
    }

    /// Returns whether the port has a peer and frames pass.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link_state() == LinkState::Up
    }

    /// Returns whether frames pass through the port.
    #[must_use]
    pub fn link_state(&self) -> LinkState {
        link_state(self.link.load(Ordering::Relaxed))
    }

    /// Sets whether frames pass. Returns whether that is a change.
    pub(crate) fn set_link_state(&self, state: LinkState) -> bool {
        let code = match state {
            LinkState::Down => 0,
            LinkState::Listening => 1,
            LinkState::Up => 2,
            LinkState::Blocked => 3,
        };
        self.link.swap(code, Ordering::Relaxed) != code
    }

    /// Returns the counters since the port was added. Received is what came from the peer.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for (field, counter) in fields(&mut counters).into_iter().zip(&self.counters) {
            *field = counter.load(Ordering::Relaxed);
        }
        counters
    }

    pub(crate) fn set_counters(&self, mut counters: Counters) {
        for (field, counter) in fields(&mut counters).into_iter().zip(&self.counters) {
            counter.store(*field, Ordering::Relaxed);
        }
    }
}

fn link_state(code: u8) -> LinkState {
    match code {
        1 => LinkState::Listening,
        2 => LinkState::Up,
        3 => LinkState::Blocked,
        _ => LinkState::Down,
    }
}

/// Returns all counters, in a fixed order.
fn fields(counters: &mut Counters) -> [&mut u64; 21] {
    let Counters {
        rx_packets,
        rx_bytes,
        rx_dropped,
        rx_errors,
        rx_oversize,
        rx_blocked,
        peers_refused,
        tx_packets,
        tx_bytes,
        tx_dropped,
        tx_errors,
        rx_lost,
        rx_corrupted,
        rx_duplicated,
        rx_reordered,
        rx_queue_drops,
        tx_lost,
        tx_corrupted,
        tx_duplicated,
        tx_reordered,
        tx_queue_drops,
    } = counters;
    [
        rx_packets,
        rx_bytes,
        rx_dropped,
        rx_errors,
        rx_oversize,
        rx_blocked,
        peers_refused,
        tx_packets,
        tx_bytes,
        tx_dropped,
        tx_errors,
        rx_lost,
        rx_corrupted,
        rx_duplicated,
        rx_reordered,
        rx_queue_drops,
        tx_lost,
        tx_corrupted,
        tx_duplicated,
        tx_reordered,
        tx_queue_drops,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_read_back_as_written() {
        let counters = Counters {
            rx_packets: 1,
            rx_bytes: 2,
            rx_dropped: 3,
            rx_errors: 4,
            rx_oversize: 5,
            rx_blocked: 6,
            peers_refused: 7,
            tx_packets: 8,
            tx_bytes: 9,
            tx_dropped: 10,
            tx_errors: 11,
            rx_lost: 12,
            rx_corrupted: 13,
            rx_duplicated: 14,
            rx_reordered: 15,
            rx_queue_drops: 16,
            tx_lost: 17,
            tx_corrupted: 18,
            tx_duplicated: 19,
            tx_reordered: 20,
            tx_queue_drops: 21,
        };
        let stats = PortStats::default();
        stats.set_counters(counters);
        assert_eq!(stats.counters(), counters);
    }

    #[test]
    fn the_state_of_the_link_reads_back_as_written() {
        use LinkState::{Blocked, Down, Listening, Up};
        let stats = PortStats::default();
        assert_eq!(stats.link_state(), Down);
        for state in [Listening, Up, Blocked, Down] {
            assert!(stats.set_link_state(state));
            assert!(!stats.set_link_state(state));
            assert_eq!(stats.link_state(), state);
        }
    }
}
