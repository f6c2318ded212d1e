//! The wrapper around a port whose link misbehaves.

use std::time::{Duration, Instant};

use shmbus::offload::{Segmenter, TxRequest};
use shmbus::{Burst, MAX_BIG_FRAME, MIN_FRAME, SendError, Station};

use crate::forwarding::forward;
use crate::impair::{ImpairHandle, ImpairedLink};
use crate::port::{BURST, Moved, NotSent, Port, fits_untagged};

/// How many frames are taken from the bus at once.
const FROM_BUS: usize = 64;

/// How long a peer may have no room before the frames that are due to it are dropped.
const PEER_FULL_TIMEOUT: Duration = Duration::from_secs(1);

/// A port around a port whose link misbehaves on purpose.
///
/// Frames from the peer are cut into segments and their checksums are finished before anything
/// happens to them. Frames that are late wait here, in a bounded queue; while the peer has no room
/// for those that are due, further ones wait on the bus.
///
/// [`put`](Port::put) goes past the impairments, so that a loop guard around this port sees loops
/// through links that lose frames.
#[derive(Debug)]
pub struct Impaired<P> {
    port: P,
    link: ImpairedLink,
    /// The longest frame that the bus carries.
    longest: usize,
    segmenter: Segmenter,
    /// Frames from the bus, while there are impairments.
    burst: Option<Burst>,
    /// Since when the peer has no room for frames that are due.
    blocked: Option<Instant>,
}

impl<P: Port> Impaired<P> {
    /// Wraps `port`. Its impairments are those of `handle`.
    #[must_use]
    pub fn new(port: P, handle: ImpairHandle) -> Self {
        Self {
            port,
            link: ImpairedLink::new(handle),
            longest: MAX_BIG_FRAME,
            segmenter: Segmenter::default(),
            burst: None,
            blocked: None,
        }
    }

    /// Drops what waits: the port is on another bus.
    fn clear(&mut self) {
        self.link.clear();
        self.blocked = None;
    }

    /// Takes a burst from the peer into its queue.
    fn take_from_peer(&mut self, now: Instant) -> Moved {
        let Self { port, link, longest, segmenter, .. } = self;
        let (mut moved, mut lane) = (Moved::default(), link.ingress());
        port.take(&mut |request: TxRequest<'_>| {
            let len = request.frame.len();
            if !request.offload.is_nothing() {
                let cut = segmenter.finish(request, *longest, &mut |frame| {
                    lane.offer(frame, now);
                    moved.queued = true;
                });
                moved.dropped += usize::from(cut.is_err());
            } else if (MIN_FRAME..=*longest).contains(&len) {
                lane.offer(request.frame, now);
                moved.queued = true;
            } else {
                moved.dropped += 1;
                moved.too_long += usize::from(len > *longest);
                moved.tagged +=
                    usize::from(len > *longest && fits_untagged(request.frame, len, *longest));
            }
        });
        moved.plus(port.dropped())
    }

    /// Puts the frames from the peer that are due on the bus.
    fn send_due(&mut self, station: &mut Station, now: Instant) -> Result<usize, NotSent> {
        let mut lane = self.link.ingress();
        let due = lane.due(now).take(BURST);
        let count = due.clone().count();
        if count == 0 {
            return Ok(0);
        }
        match station.send_burst(due) {
            Ok(_) => {
                lane.remove(count);
                Ok(count)
            }
            Err(source) => {
                // A bus that is busy gets the rest later. No other error goes away by itself.
                let (sent, gone) = match source {
                    SendError::Busy { sent, .. } => (sent, sent),
                    _ => (0, count),
                };
                lane.remove(gone);
                let moved = Moved { frames: sent, dropped: gone - sent, ..Moved::default() };
                Err(NotSent { moved, source })
            }
        }
    }

    /// Takes a burst from the bus into its queue. Returns how many frames.
    fn take_from_bus(&mut self, station: &mut Station, now: Instant) -> usize {
        let burst = self.burst.get_or_insert_with(|| Burst::new(FROM_BUS));
        burst.clear();
        station.recv_into(burst, FROM_BUS);
        let mut lane = self.link.egress();
        burst.iter().for_each(|frame| lane.offer(frame.bytes, now));
        burst.len()
    }

    /// Gives the peer the frames that are due to it.
    fn put_due(&mut self, now: Instant) -> Moved {
        let Self { port, link, blocked, .. } = self;
        let mut lane = link.egress();
        let mut due = lane.due(now).take(BURST);
        let count = due.clone().count();
        let frames = port.put_burst(&mut due);
        drop(due);
        lane.remove(frames);
        let mut moved = Moved { frames, ..Moved::default() };
        if frames > 0 || count == 0 {
            *blocked = None;
        }
        if frames < count {
            let since = *blocked.get_or_insert(now);
            if now.saturating_duration_since(since) < PEER_FULL_TIMEOUT {
                moved.blocked = true;
            } else {
                lane.drop_first(count - frames);
                *blocked = None;
            }
        }
        moved
    }
}

impl<P: Port> Port for Impaired<P> {
    /// What the peer has sent arrives, even if it is gone by then.
    fn is_up(&self) -> bool {
        self.port.is_up() || self.link.next_due()[0].is_some()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        self.port.service(report);
        if !self.port.is_up() {
            self.link.egress().clear();
            self.blocked = None;
        }
        if self.link.follow() {
            self.link.rest();
        } else {
            self.burst = None;
        }
    }

    fn attach(&mut self, station: &mut Station) {
        self.port.attach(station);
        self.longest = station.max_frame();
        self.clear();
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        if !self.link.follow() || self.link.ingress().is_idle() {
            return self.port.ingress(station);
        }
        if !station.is_link_up() {
            self.clear();
            return self.port.ingress(station);
        }
        let now = Instant::now();
        self.longest = station.max_frame();
        let taken = self.take_from_peer(now);
        match self.send_due(station, now) {
            Ok(frames) => Ok(Moved { frames, ..taken }),
            Err(NotSent { moved, source }) => Err(NotSent { moved: taken.plus(moved), source }),
        }
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        if !self.link.follow() || self.link.egress().is_idle() {
            return self.port.egress(station);
        }
        if !station.is_link_up() {
            self.clear();
            return self.port.egress(station);
        }
        if !self.port.is_up() {
            station.discard_pending();
            return Moved::default();
        }
        let now = Instant::now();
        let queued = if self.blocked.is_none() { self.take_from_bus(station, now) } else { 0 } > 0;
        Moved { queued, ..self.put_due(now) }
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        if !self.link.follow() || self.link.ingress().is_idle() {
            return self.port.take(frame);
        }
        let now = Instant::now();
        self.take_from_peer(now);
        let mut lane = self.link.ingress();
        let mut count = 0;
        for due in lane.due(now).take(BURST) {
            frame(TxRequest::new(due, shmbus::offload::Offload::new()));
            count += 1;
        }
        lane.remove(count);
        count
    }

    fn arm(&mut self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now()) || self.port.arm()
    }

    /// A frame for a peer without room is due when the peer has room.
    fn due(&self) -> Option<Instant> {
        let [ingress, egress] = self.link.next_due();
        let egress = egress.filter(|_| self.blocked.is_none());
        [ingress, egress, self.port.due()].into_iter().flatten().min()
    }

    fn impair_handle(&self) -> Option<ImpairHandle> {
        Some(self.link.handle().clone())
    }

    forward! {
        name link_state wants_service refusals closed put put_burst dropped rx_mode disarm max_sleep
        first_poll remotes peer_details descriptors
    }
}
