//! Measuring: a sender and its receivers, each a process of its own, and what came through.
//!
//! Every frame carries a sequence number, so what is lost is counted and not guessed. The parent starts the processes,
//! lets them loose when all are ready, and adds up what they report; see `worker` for how they talk.

mod bus;
mod cpu;
mod frames;
mod memif;
mod patience;
mod stage;
mod worker;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use stage::{Subject, measure};
pub use worker::work;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Over which way the frames go.
    pub subject: Subject,
    /// The frames and how they are sent.
    pub load: Load,
    /// Stations on the bus, the sender included: at least 2.
    pub stations: usize,
}

/// The frames and how they are sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Bytes in a frame, from [`MIN_FRAME`] on.
    pub frame: usize,
    /// Frames handed over at once.
    pub burst: usize,
    /// How long to send, or until `count` frames are sent.
    pub time: Duration,
    /// How many frames to send, whatever time it takes.
    pub count: Option<u64>,
    /// Frames a second; as many as possible when not given.
    pub pps: Option<u64>,
}

/// The shortest frame that has room for the headers and a sequence number.
pub const MIN_FRAME: usize = frames::MIN_FRAME;

/// What was measured. With several receivers, `received`, `lost` and `rx_pps` are sums over them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub bench: &'static str,
    /// Bytes in a frame.
    pub frame: usize,
    /// Frames handed over at once.
    pub burst: usize,
    /// Stations, the sender included.
    pub stations: usize,
    /// How long the sender sent.
    pub seconds: f64,
    /// Frames sent.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Frames that were sent and not received, by their sequence numbers.
    pub lost: u64,
    /// Frames that came twice or out of order. There should be none.
    pub misordered: u64,
    /// Frames sent a second.
    pub tx_pps: f64,
    /// Frames received a second, between the first and the last.
    pub rx_pps: f64,
}
