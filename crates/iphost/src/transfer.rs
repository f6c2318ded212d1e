//! The result of a TCP connection that measures throughput.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use smoltcp::time::Duration as StackDuration;

/// The window of a connection that measures, in bytes. A bus carries about this much between two
/// rounds of a host that shares its CPU, and the ring of a bus holds far more.
pub(crate) const WINDOW: usize = 1 << 18;
/// How long such a connection waits for an answer before it is given up.
pub(crate) const TIMEOUT: StackDuration = StackDuration::from_secs(20);

/// Bytes that were transferred one way. The fields are the keys of `host --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transfer {
    /// The sender's address.
    pub from: SocketAddr,
    /// The receiver's address.
    pub to: SocketAddr,
    /// Bytes that arrived; at the sender, bytes that were acknowledged.
    pub bytes: u64,
    /// The time from the connection's beginning to its end.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
    /// The rate in bits a second.
    #[serde(rename = "bits_per_second")]
    rate: f64,
    /// Whether everything was transferred that there was to send.
    pub complete: bool,
}

/// Why a transfer is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The connection ended early.
    #[error("{to} has acknowledged only {acknowledged} of {bytes} bytes")]
    Partial {
        /// The receiver's address.
        to: SocketAddr,
        /// Bytes that arrived for certain.
        acknowledged: u64,
        /// Bytes to send.
        bytes: u64,
    },
    /// The receiver has not answered.
    #[error("no answer from {to}")]
    NoAnswer {
        /// The receiver's address.
        to: SocketAddr,
    },
    /// Nothing listens at the receiver's port.
    #[error("{to} has refused the connection")]
    Refused {
        /// The receiver's address.
        to: SocketAddr,
    },
}

impl Transfer {
    pub(crate) fn new(
        from: SocketAddr,
        to: SocketAddr,
        bytes: u64,
        time: Duration,
        complete: bool,
    ) -> Self {
        let seconds = time.as_secs_f64();
        let rate = if seconds > 0.0 { bytes as f64 * 8.0 / seconds } else { 0.0 };
        Self { from, to, bytes, time, rate, complete }
    }
}

fn as_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, bytes, time, rate, complete } = self;
        let seconds = time.as_secs_f64();
        let (rate, unit) = match *rate {
            rate if rate >= 1e9 => (rate / 1e9, "Gbit/s"),
            rate if rate >= 1e6 => (rate / 1e6, "Mbit/s"),
            rate => (rate / 1e3, "kbit/s"),
        };
        write!(f, "{from} -> {to}: {bytes} bytes in {seconds:.3} s, {rate:.2} {unit}")?;
        if *complete { Ok(()) } else { write!(f, ", broken off") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_shows_its_rate() {
        let [from, to] = ["10.0.0.2:50000", "[fd00::1]:9"].map(|address| address.parse().unwrap());
        let shown = |bytes, millis, complete| {
            Transfer::new(from, to, bytes, Duration::from_millis(millis), complete).to_string()
        };
        assert_eq!(
            shown(1 << 30, 2_000, true),
            "10.0.0.2:50000 -> [fd00::1]:9: 1073741824 bytes in 2.000 s, 4.29 Gbit/s"
        );
        assert!(shown(1_000_000, 1_000, true).ends_with(" 8.00 Mbit/s"));
        assert!(shown(0, 0, false).ends_with(" 0.00 kbit/s, broken off"));
    }
}
