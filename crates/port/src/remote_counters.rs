//! What a tunnel has exchanged with each machine at its other ends.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What has passed between this end of a tunnel and one other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteCounters {
    /// Where the other end is, as far as that is known.
    pub address: Option<IpAddr>,
    /// What its machine is called, if that is known.
    pub host: Option<Arc<str>>,
    /// Whether frames for it leave through an overlay at the moment, and not in datagrams.
    pub is_relayed: bool,
    /// How many stations are known to be behind it.
    pub stations: usize,
    /// Frames received from it.
    pub rx_packets: u64,
    /// Bytes of the frames received.
    pub rx_bytes: u64,
    /// Frames from it that were dropped because too many were for groups.
    pub rx_dropped: u64,
    /// Frames sent to it. Those for a multicast group are not counted.
    pub tx_packets: u64,
    /// Bytes of the frames sent.
    pub tx_bytes: u64,
    /// Frames that the kernel or the overlay did not take.
    pub tx_dropped: u64,
}

impl RemoteCounters {
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        Self {
            address,
            host: None,
            is_relayed: false,
            stations: 0,
            rx_packets: 0,
            rx_bytes: 0,
            rx_dropped: 0,
            tx_packets: 0,
            tx_bytes: 0,
            tx_dropped: 0,
        }
    }
}

/// The counters of all remotes of a port, as of some milliseconds ago, readable from any thread.
#[derive(Clone, Debug, Default)]
pub struct RemotesHandle(Arc<Mutex<Vec<RemoteCounters>>>);

impl RemotesHandle {
    /// Returns the counters of each remote.
    #[must_use]
    pub fn get(&self) -> Vec<RemoteCounters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, counters: impl Iterator<Item = RemoteCounters>) {
        let mut ours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ours.clear();
        ours.extend(counters);
    }
}
