//! Both directions of an impaired link, without a port: what frames come, and which are due.

use std::time::Instant;

use super::handle::{ImpairHandle, Tally};
use super::impairments::Impairments;
use super::lane::Lane;

/// The impairments of a link at work. [`Impaired`](super::Impaired) wraps a port with it; a program
/// with another kind of device gives it frames and sends those that are due.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use port::{ImpairHandle, ImpairedLink};
///
/// let mut link = ImpairedLink::new(ImpairHandle::new("delay=20ms".parse()?));
/// let now = Instant::now();
/// assert!(link.follow());
/// link.ingress().offer(b"a frame", now);
/// assert_eq!(link.ingress().due(now).count(), 0);
/// let later = now + Duration::from_millis(20);
/// assert!(link.ingress().due(later).eq([b"a frame"]));
/// link.ingress().remove(1);
/// # Ok::<(), port::ParsePortError>(())
/// ```
#[derive(Debug)]
pub struct ImpairedLink {
    handle: ImpairHandle,
    /// The revision of the handle that is at work.
    followed: Option<u64>,
    /// None without impairments.
    lanes: Option<Box<Lanes>>,
}

#[derive(Debug)]
struct Lanes {
    seed: Option<u64>,
    ingress: Lane,
    egress: Lane,
}

/// One direction of an [`ImpairedLink`].
#[derive(Debug)]
pub struct Direction<'l> {
    lane: Option<&'l mut Lane>,
    tally: &'l Tally,
}

impl ImpairedLink {
    /// Makes a link whose impairments are those of `handle`.
    #[must_use]
    pub fn new(handle: ImpairHandle) -> Self {
        Self { handle, followed: None, lanes: None }
    }

    /// Returns the handle that changes the impairments.
    #[must_use]
    pub fn handle(&self) -> &ImpairHandle {
        &self.handle
    }

    /// Adopts the impairments that were set last. Returns whether a direction has impairments, or
    /// frames that wait. Call it before each burst.
    #[inline]
    pub fn follow(&mut self) -> bool {
        if self.followed != Some(self.handle.revision()) {
            self.adopt();
        }
        self.lanes.is_some()
    }

    #[cold]
    fn adopt(&mut self) {
        // While another thread sets them, they hold from the next burst on.
        let Some((revision, wanted)) = self.handle.try_get() else { return };
        self.followed = Some(revision);
        let Impairments { ingress, egress, seed } = wanted;
        match &mut self.lanes {
            Some(lanes) => {
                let seeds = seed.filter(|_| seed != lanes.seed).map(seeds);
                lanes.ingress.change(ingress, seeds.map(|[ingress, _]| ingress));
                lanes.egress.change(egress, seeds.map(|[_, egress]| egress));
                lanes.seed = seed;
                self.rest();
            }
            None if ingress.is_none() && egress.is_none() => {}
            None => {
                let [first, second] = seeds(seed.unwrap_or_else(|| fastrand::u64(..)));
                let (ingress, egress) = (Lane::new(ingress, first), Lane::new(egress, second));
                self.lanes = Some(Box::new(Lanes { seed, ingress, egress }));
            }
        }
    }

    /// Gives the memory back once there are no impairments, and no frame waits.
    pub(super) fn rest(&mut self) {
        if self
            .lanes
            .as_ref()
            .is_some_and(|lanes| lanes.ingress.is_idle() && lanes.egress.is_idle())
        {
            self.lanes = None;
        }
    }

    /// Returns the direction from the peer to the bus.
    pub fn ingress(&mut self) -> Direction<'_> {
        let lane = self.lanes.as_deref_mut().map(|lanes| &mut lanes.ingress);
        Direction { lane, tally: self.handle.ingress() }
    }

    /// Returns the direction from the bus to the peer.
    pub fn egress(&mut self) -> Direction<'_> {
        let lane = self.lanes.as_deref_mut().map(|lanes| &mut lanes.egress);
        Direction { lane, tally: self.handle.egress() }
    }

    /// Returns when the next frame is due: from the peer, and from the bus.
    #[must_use]
    pub fn next_due(&self) -> [Option<Instant>; 2] {
        let Some(lanes) = &self.lanes else { return [None, None] };
        [lanes.ingress.next_due(), lanes.egress.next_due()]
    }

    /// Drops the frames that wait.
    pub fn clear(&mut self) {
        self.ingress().clear();
        self.egress().clear();
    }
}

/// Returns a seed for each direction, so that traffic in one does not disturb the other.
fn seeds(seed: u64) -> [u64; 2] {
    let mut seeds = fastrand::Rng::with_seed(seed);
    [seeds.u64(..), seeds.u64(..)]
}

impl Direction<'_> {
    /// Returns whether frames pass as they are, and none waits: they need not be offered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lane.as_ref().is_none_or(|lane| lane.is_idle())
    }

    /// Decides over a frame that has come at `now`, and keeps a copy of what arrives. Without
    /// impairments the frame is dropped: ask [`is_idle`](Self::is_idle) first.
    pub fn offer(&mut self, frame: &[u8], now: Instant) {
        if let Some(lane) = &mut self.lane {
            lane.offer(frame, now, self.tally);
        }
    }

    /// Returns the frames that are due, in order. They stay until they are
    /// [removed](Self::remove).
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &[u8]> + Clone {
        self.lane.iter().flat_map(move |lane| lane.due(now))
    }

    /// Removes the first `count` frames.
    pub fn remove(&mut self, count: usize) {
        if let Some(lane) = &mut self.lane {
            lane.remove(count);
        }
    }

    /// Drops the frames that wait.
    pub fn clear(&mut self) {
        if let Some(lane) = &mut self.lane {
            lane.clear();
        }
    }

    /// Removes the first `count` frames, and counts them as dropped.
    pub fn drop_first(&mut self, count: usize) {
        Tally::add(&self.tally.queue_drops, count as u64);
        self.remove(count);
    }
}
