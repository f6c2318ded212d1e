//! Measurements: a sender and its receivers, each a process of its own.
//!
//! Every frame carries a sequence number, so that losses are counted and not guessed. The parent
//! starts the processes, lets them begin when all are ready, and adds up what they report. `worker`
//! describes their dialogue, `protocol` its contents.

mod bus;
mod cpu;
mod frame_pool;
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

use anyhow::bail;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use job::work;
pub(crate) use one_sided::{End, measure_one_sided};
pub(crate) use report::{LatencyReport, Report};
pub(crate) use run::{Topology, measure, measure_latency};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The way of the frames.
    pub(crate) topology: Topology,
    /// The frames and how they are sent.
    pub(crate) load: Load,
    /// Stations on the bus, the sender included: at least 2.
    pub(crate) stations: usize,
    /// Whether the bus is one that rump kernels cannot share.
    pub(crate) own_format: bool,
    /// How both ends send and receive.
    pub(crate) options: EndOptions,
}

/// The frames and how they are sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Bytes in a frame, from [`MIN_FRAME`] on.
    pub(crate) frame: usize,
    /// Frames in a burst.
    pub(crate) burst: usize,
    /// How long to send, or until `count` frames are sent.
    pub(crate) time: Duration,
    /// How many frames to send, in any time.
    pub(crate) count: Option<u64>,
    /// Frames a second; none: as many as possible.
    pub(crate) pps: Option<u64>,
}

/// How both ends send and receive.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct EndOptions {
    /// Whether an idle receiver polls or sleeps.
    pub(crate) rx_mode: RxMode,
    /// Bus: whether the receivers are read-only taps instead of stations.
    pub(crate) taps: bool,
    /// The options of memif.
    pub(crate) memif: MemifOptions,
}

/// What an idle receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RxMode {
    /// Poll
    Polling,
    /// Sleep until it is woken
    Interrupt,
}

/// The options of memif.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemifOptions {
    /// Which side the sender is.
    pub(crate) sender: Sender,
    /// Descriptors in a ring, as a power of two.
    pub(crate) rsize: u8,
    /// Bytes in a buffer; longer frames are chained.
    pub(crate) bsize: u32,
    /// Queues each way, each with a thread at both ends.
    pub(crate) queues: u8,
    /// Whether frames are made and read in place, without a copy of their payload.
    pub(crate) zero_copy: bool,
}

impl MemifOptions {
    /// Checks that frames of `frame` bytes fit into a ring.
    ///
    /// # Errors
    /// When a frame takes more buffers than the ring has.
    pub(crate) fn check_frame(self, frame: usize) -> anyhow::Result<()> {
        let (buffers, ring) = (frame.div_ceil(self.bsize as usize), 1_usize << self.rsize);
        if buffers > ring {
            bail!(
                "--frame {frame}: such a frame takes {buffers} buffers of {} bytes, and the ring has \
                 {ring}: raise --bsize or --rsize",
                self.bsize
            );
        }
        Ok(())
    }
}

/// The side of memif that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sender {
    /// The side that owns the memory
    Client,
    /// The side that listens
    Server,
}

/// The shortest frame that has room for the headers and a sequence number.
pub(crate) const MIN_FRAME: usize = frames::MIN_FRAME;
/// The shortest frame for a measurement of latency.
pub(crate) const MIN_LATENCY_FRAME: usize = latency::MIN_LATENCY_FRAME;
