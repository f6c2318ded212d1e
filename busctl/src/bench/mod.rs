//! Measuring: a sender and its receivers, each a process of its own, and what came through.
//!
//! Every frame carries a sequence number, so what is lost is counted and not guessed. The parent starts the processes,
//! lets them loose when all are ready, and adds up what they report; see `worker` for how they talk.

mod bus;
mod cpu;
mod frames;
mod job;
mod latency;
mod memif;
mod one_sided;
mod protocol;
mod reception;
mod report;
mod run;
mod start_stop;
mod worker;

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use job::work;
pub(crate) use one_sided::{End, measure_one_sided};
pub(crate) use report::{LatencyReport, Report};
pub(crate) use run::{Topology, measure, measure_latency};

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Over which way the frames go.
    pub topology: Topology,
    /// The frames and how they are sent.
    pub load: Load,
    /// Stations on the bus, the sender included: at least 2.
    pub stations: usize,
    /// How both ends go about it.
    pub options: EndOptions,
}

/// The frames and how they are sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
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

/// How both ends go about it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct EndOptions {
    /// Whether a receiver that has nothing to do polls or sleeps.
    pub rx_mode: RxMode,
    /// Bus: the receivers are read-only taps, and not stations.
    pub taps: bool,
    /// How memif is used.
    pub memif: MemifOptions,
}

/// What a receiver does that has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RxMode {
    /// It polls again
    Polling,
    /// It sleeps until it is woken
    Interrupt,
}

/// How memif is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemifOptions {
    /// Which side the sender is.
    pub sender: Sender,
    /// Descriptors in a ring, as a power of two.
    pub rsize: u8,
    /// Bytes in a buffer; longer frames are chained.
    pub bsize: u32,
    /// Queues each way, each with a thread at both ends.
    pub queues: u8,
    /// Frames are made and read in place, and their payload is never copied.
    pub zero_copy: bool,
}

/// Which side of memif sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sender {
    /// The one whose memory it is
    Client,
    /// The one who listens
    Server,
}

/// The shortest frame that has room for the headers and a sequence number.
pub(crate) const MIN_FRAME: usize = frames::MIN_FRAME;
/// The shortest frame that a latency can be measured with.
pub(crate) const MIN_LATENCY_FRAME: usize = latency::MIN_LATENCY_FRAME;
