//! What the runner of a memif interface reports of its connection, for `show`.

use memif::{Details, RingDetails};
use serde::{Deserialize, Serialize};

/// A connection at one moment, and the history before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemifReport {
    /// How many connections there were, the present one included.
    pub connections: u64,
    /// Why the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_disconnect: Option<String>,
    /// Why the last attempt to connect failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<String>,
    /// The last disconnect reason that was sent to a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_told: Option<String>,
    /// The last disconnect reason that a peer sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard: Option<String>,
    /// The peer, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
    /// The rings: those to receive on, then those to send on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rings: Vec<RingReport>,
}

/// A peer, by the names it gave itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remote {
    /// The program.
    pub name: String,
    /// Its interface.
    pub interface: String,
}

/// A ring. Head and tail are the raw values in shared memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RingReport {
    /// `rx` or `tx`, as seen from here.
    pub direction: String,
    /// `S2M` (client to server) or `M2S`.
    pub ring: String,
    /// Its index in its direction.
    pub index: u16,
    /// Descriptors in it.
    pub size: usize,
    /// The client's index.
    pub head: u16,
    /// The server's index.
    pub tail: u16,
    /// Bit 0: the receiver wants no interrupts.
    pub flags: u16,
    /// Interrupts received or sent.
    pub interrupts: u64,
    /// Packets received or sent.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How often a packet to be sent found the ring full.
    #[serde(flatten)]
    pub ring_full: RingFull,
}

/// A count with the key `ring_full`, and with its old key `no_room` beside it for this version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RingFullKeys", into = "RingFullKeys")]
pub(crate) struct RingFull(pub(crate) u64);

/// The keys of a [`RingFull`]. Reports of older versions have the old key only.
#[derive(Serialize, Deserialize)]
struct RingFullKeys {
    ring_full: Option<u64>,
    no_room: Option<u64>,
}

impl From<RingFullKeys> for RingFull {
    fn from(keys: RingFullKeys) -> Self {
        Self(keys.ring_full.or(keys.no_room).unwrap_or(0))
    }
}

impl From<RingFull> for RingFullKeys {
    fn from(RingFull(count): RingFull) -> Self {
        Self { ring_full: Some(count), no_room: Some(count) }
    }
}

impl MemifReport {
    /// Returns the report after the end of the connection.
    #[must_use]
    pub(crate) fn without_peer(self) -> Self {
        Self { remote: None, rings: Vec::new(), ..self }
    }

    /// Adds the history of the connections before this one.
    #[must_use]
    pub(crate) fn after(self, past: &Self) -> Self {
        Self {
            connections: past.connections.wrapping_add(self.connections),
            last_disconnect: self.last_disconnect.or_else(|| past.last_disconnect.clone()),
            last_refusal: self.last_refusal.or_else(|| past.last_refusal.clone()),
            last_told: self.last_told.or_else(|| past.last_told.clone()),
            last_heard: self.last_heard.or_else(|| past.last_heard.clone()),
            remote: self.remote,
            rings: self.rings,
        }
    }
}

impl From<&Details> for MemifReport {
    fn from(details: &Details) -> Self {
        let ring = |direction: &str, ring: &RingDetails| RingReport {
            direction: direction.to_owned(),
            ring: ring.direction.to_owned(),
            index: ring.index,
            size: ring.size,
            head: ring.head,
            tail: ring.tail,
            flags: ring.flags,
            interrupts: ring.stats.interrupts,
            packets: ring.stats.packets,
            bytes: ring.stats.bytes,
            ring_full: RingFull(ring.stats.ring_full),
        };
        let rx = details.rx.iter().map(|queue| ring("rx", queue));
        let tx = details.tx.iter().map(|queue| ring("tx", queue));
        Self {
            connections: details.links,
            last_disconnect: details.last_disconnect.as_ref().map(ToString::to_string),
            last_refusal: details.last_rejection.clone(),
            last_told: details.last_reason_sent.clone(),
            last_heard: details.last_reason_received.clone(),
            remote: details
                .peer
                .as_ref()
                .map(|peer| Remote { name: peer.app_name.clone(), interface: peer.name.clone() }),
            rings: rx.chain(tx).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_key_of_a_full_ring_is_written_and_read() {
        let old = r#"{"direction":"tx","ring":"S2M","index":0,"size":8,"head":1,"tail":1,"flags":0,
            "interrupts":0,"packets":1,"bytes":60,"no_room":7}"#;
        let ring: RingReport = serde_json::from_str(old).expect("a report of an older version");
        assert_eq!(ring.ring_full, RingFull(7));
        let new = serde_json::to_value(&ring).expect("JSON");
        assert_eq!((&new["ring_full"], &new["no_room"]), (&7.into(), &7.into()));
        assert_eq!(serde_json::from_value::<RingReport>(new).expect("both keys"), ring);
    }
}
