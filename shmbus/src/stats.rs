//! What a station has seen and done.

/// Counters of a station or tap, from its making on. What is not counted for it stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames handed up.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames put on the bus.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames of others that the receive filter kept away.
    pub filtered: u64,
    /// How often writers came around the ring before this reader.
    pub overruns: u64,
    /// Ring bytes (packet headers included) that were missed by it. The format has no sequence numbers, so frames cannot
    /// be counted.
    pub overrun_bytes: u64,
    /// How often something on the ring was no packet.
    pub corrupt: u64,
}
