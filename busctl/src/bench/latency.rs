//! The latency of single frames: one end sends a frame and waits, the other sends it back.
//!
//! The frame carries its number, and on the way back the time of its arrival, by the clock that all
//! processes share. So both the one-way time and the round trip are measured.

use std::path::Path;
use std::time::Duration;

use ::memif::Link;
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use shmbus::{Burst, Station};

use super::cpu::Backoff;
use super::frames::{HEADER, MIN_FRAME, SEQUENCE};
use super::protocol::Reported;
use super::start_stop::StartStop;
use super::{EndOptions, Load, RxMode, bus, memif};

/// The shortest frame that has room for the headers, a number and a time.
pub(super) const MIN_LATENCY_FRAME: usize = MIN_FRAME + 8;
/// After this long a frame counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// How long an end sleeps at most before it checks whether the measurement is over.
const MAX_SLEEP: Duration = Duration::from_millis(10);
/// The first round trips run with cold caches, and do not count.
const WARM_UP: u64 = 10;

/// What the end that measures reports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct RoundTrips {
    pub(super) trips: u64,
    pub(super) lost: u64,
    pub(super) there: Quantiles,
    pub(super) back: Quantiles,
}

/// Quantiles of times, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Quantiles {
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Quantiles {
    fn of(times: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let quantile = |share| micros(times.value_at_quantile(share));
        Self {
            min: micros(times.min()),
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: micros(times.max()),
        }
    }
}

/// A channel for single frames.
pub(super) trait Channel {
    /// Sends a frame; returns whether there was room for it.
    fn send(&mut self, frame: &[u8]) -> anyhow::Result<bool>;
    /// Receives the next frame, or as much of it as fits; returns how many bytes, if there is one.
    fn receive(&mut self, frame: &mut [u8]) -> anyhow::Result<Option<usize>>;
    /// Sleeps until there is a frame, at most [`MAX_SLEEP`].
    fn sleep(&mut self) -> anyhow::Result<()>;
}

/// A station on a bus.
pub(super) struct BusChannel {
    station: Station,
    burst: Burst,
}

impl BusChannel {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { station: bus::join(path)?, burst: Burst::new(1) })
    }
}

impl Channel for BusChannel {
    fn send(&mut self, frame: &[u8]) -> anyhow::Result<bool> {
        self.station.send(frame)?;
        Ok(true)
    }

    fn receive(&mut self, frame: &mut [u8]) -> anyhow::Result<Option<usize>> {
        self.station.recv_burst(&mut self.burst);
        Ok(self.burst.get(0).map(|received| {
            let len = received.bytes.len().min(frame.len());
            frame[..len].copy_from_slice(&received.bytes[..len]);
            len
        }))
    }

    fn sleep(&mut self) -> anyhow::Result<()> {
        self.station.wait(Some(MAX_SLEEP))?;
        Ok(())
    }
}

/// A memif link.
pub(super) struct MemifChannel {
    link: Link,
    _endpoint: memif::Endpoint,
}

impl MemifChannel {
    pub(super) fn open(spec: &str, start_stop: &StartStop) -> anyhow::Result<Self> {
        let (endpoint, link) = memif::connect(spec, start_stop)?;
        Ok(Self { link, _endpoint: endpoint })
    }
}

impl Channel for MemifChannel {
    fn send(&mut self, frame: &[u8]) -> anyhow::Result<bool> {
        let mut burst = self.link.tx[0].burst()?;
        burst.push(frame);
        Ok(burst.publish() == 1)
    }

    fn receive(&mut self, frame: &mut [u8]) -> anyhow::Result<Option<usize>> {
        let burst = self.link.rx[0].burst(1)?;
        Ok(burst.iter().next().map(|packet| packet.copy_to(frame)))
    }

    fn sleep(&mut self) -> anyhow::Result<()> {
        memif::sleep(&mut self.link.rx[0])
    }
}

/// Sends frames, one at a time, and waits for each to come back.
pub(super) fn ask(
    mut channel: impl Channel,
    load: Load,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<Reported<RoundTrips>> {
    let meter = start_stop.wait_for_start()?;
    let begin = now()?;
    let (mut there, mut back) = (histogram()?, histogram()?);
    let (mut number, mut lost) = (0_u64, 0);
    let mut frame = vec![0; load.frame];
    frame[..SEQUENCE].copy_from_slice(&HEADER);
    let mut answer = vec![0; load.frame];
    let end = load.time.as_nanos();
    while load.count.map_or_else(
        || now().is_ok_and(|now| u128::from(now - begin) < end),
        |count| number < count + WARM_UP,
    ) && !start_stop.is_stopped()
    {
        if let Some(pps) = load.pps {
            let due = begin + number.saturating_mul(1_000_000_000) / pps;
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(now()?)));
        }
        put(&mut frame, SEQUENCE, number);
        let sent = now()?;
        let arrived = if channel.send(&frame)? {
            answered(&mut channel, options, number, &mut answer)?
        } else {
            None
        };
        let returned = now()?;
        match arrived {
            Some(_) if number < WARM_UP => {}
            Some(arrived) => {
                there.saturating_record(arrived.saturating_sub(sent));
                back.saturating_record(returned - sent);
            }
            None => lost += 1,
        }
        number += 1;
    }
    let round_trips = RoundTrips {
        trips: back.len(),
        lost,
        there: Quantiles::of(&there),
        back: Quantiles::of(&back),
    };
    Ok(Reported { results: vec![round_trips], usage: start_stop.usage(&meter) })
}

/// Waits for the answer with this number; returns when the frame arrived at the other end.
fn answered(
    channel: &mut impl Channel,
    options: EndOptions,
    number: u64,
    answer: &mut [u8],
) -> anyhow::Result<Option<u64>> {
    let sent = now()?;
    let mut backoff = Backoff::default();
    loop {
        match channel.receive(answer)? {
            Some(len) if len >= MIN_LATENCY_FRAME && get(answer, SEQUENCE) == number => {
                return Ok(Some(get(answer, MIN_FRAME)));
            }
            // A late answer, which counted as lost.
            Some(_) => continue,
            None => {}
        }
        if u128::from(now()? - sent) > LOST.as_nanos() {
            return Ok(None);
        }
        rest(channel, options, &mut backoff)?;
    }
}

/// Sends frames back with the time of their arrival, until stopped.
pub(super) fn answer(
    mut channel: impl Channel,
    load: Load,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<Reported<()>> {
    let meter = start_stop.wait_for_start()?;
    let mut backoff = Backoff::default();
    let mut frame = vec![0; load.frame];
    while !start_stop.is_stopped() {
        match channel.receive(&mut frame)? {
            Some(len) if len >= MIN_LATENCY_FRAME => {
                put(&mut frame, MIN_FRAME, now()?);
                // Without room, the frame counts as lost at the other end.
                channel.send(&frame[..len])?;
                backoff.note(1);
            }
            Some(_) => {}
            None => rest(&mut channel, options, &mut backoff)?,
        }
    }
    Ok(Reported { results: Vec::new(), usage: start_stop.usage(&meter) })
}

fn rest(
    channel: &mut impl Channel,
    options: EndOptions,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    match options.rx_mode {
        RxMode::Polling => backoff.note(0),
        RxMode::Interrupt => channel.sleep()?,
    }
    Ok(())
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(u64::try_from(2 * LOST.as_nanos())?, 3)?)
}

/// Returns nanoseconds of the clock that all processes share.
fn now() -> anyhow::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(time.as_nanos())?)
}

fn put(frame: &mut [u8], at: usize, value: u64) {
    frame[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

fn get(frame: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&frame[at..at + 8]);
    u64::from_be_bytes(bytes)
}
