//! Frames of a peer that are kept while its port listens, and sent when it is open.

use shmbus::offload::{Capabilities, Offload, TxRequest};
use shmbus::{SendError, Station};

use crate::port::{Moved, NotSent};

/// How many frames are kept before no more bursts are taken: a peer with more finds its ring full.
const MAX_FRAMES: usize = 512;
/// How many of their bytes are kept before no more bursts are taken: super-frames are long.
const MAX_BYTES: usize = 1 << 20;
/// How many bytes are kept at most: a burst may be that of many queues.
const LIMIT: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// The end of each frame among the bytes, and what is left to the station.
    frames: Vec<(usize, Offload)>,
    is_kept: bool,
}

impl Held {
    /// Returns whether no more frames are to be taken.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= MAX_FRAMES || self.bytes.len() >= MAX_BYTES
    }

    /// Sets whether the frames are sent when the port is open, together with those that wait on the
    /// bus.
    pub(super) fn set_kept(&mut self, on: bool) {
        self.is_kept = on;
    }

    /// Returns whether the frames are sent when the port is open.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Keeps a frame. Returns `false` when there is no room for it.
    pub(super) fn push(&mut self, request: TxRequest<'_>) -> bool {
        let has_room = self.bytes.len() + request.frame.len() <= LIMIT;
        if has_room {
            self.bytes.extend(request.frame);
            self.frames.push((self.bytes.len(), request.offload));
        }
        has_room
    }

    /// Removes the frames.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts the frames on the bus, and forgets them.
    ///
    /// # Errors
    /// As for [`Port::ingress`](crate::Port::ingress). Frames that the bus did not take are lost.
    #[inline]
    pub(super) fn send(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        if self.frames.is_empty() { Ok(Moved::default()) } else { self.send_all(station) }
    }

    #[cold]
    fn send_all(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let held = std::mem::take(self);
        if held.frames.iter().any(|(_, offload)| !offload.is_nothing()) {
            station.set_capabilities(Capabilities::ALL);
        }
        let before = station.stats().tx_packets;
        let sent = station.send_offload_burst(held.requests());
        let frames = usize::try_from(station.stats().tx_packets - before).unwrap_or(usize::MAX);
        let moved = |dropped| Moved { frames, dropped, ..Moved::default() };
        match sent {
            Ok(_) => Ok(moved(0)),
            Err(SendError::Offload { .. }) => Ok(moved(1)),
            Err(source) => {
                let moved = moved(held.frames.len().saturating_sub(frames));
                Err(NotSent { moved, source })
            }
        }
    }

    fn requests(&self) -> impl Iterator<Item = TxRequest<'_>> + Clone {
        let starts = std::iter::once(0).chain(self.frames.iter().map(|(end, _)| *end));
        starts
            .zip(&self.frames)
            .map(|(start, (end, offload))| TxRequest::new(&self.bytes[start..*end], *offload))
    }
}

#[cfg(test)]
mod tests {
    use shmbus::{Burst, Bus, StationOptions};

    use super::*;

    #[test]
    fn frames_are_sent_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let join = || {
            let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
            Station::join(bus, StationOptions::new()).expect("joined")
        };
        let (mut station, mut other) = (join(), join());
        let mut held = Held::default();
        let frames: Vec<Vec<u8>> = (60..70).map(|len| vec![0xff; len]).collect();
        for frame in &frames {
            assert!(held.push(TxRequest::new(frame, Offload::new())));
        }
        assert_eq!(held.send(&mut station).expect("sent").frames, 10);
        assert_eq!(held.send(&mut station).expect("nothing to send"), Moved::default());
        let mut burst = Burst::new(20);
        other.recv_burst(&mut burst);
        assert!(burst.iter().map(|frame| frame.bytes).eq(&frames));
    }

    #[test]
    fn room_is_bounded_by_frames_and_by_bytes() {
        let full = |len: usize| {
            let mut held = Held::default();
            let mut count = 0;
            while !held.is_full() {
                assert!(held.push(TxRequest::new(&vec![0; len], Offload::new())));
                count += 1;
            }
            while held.push(TxRequest::new(&vec![0; len], Offload::new())) {}
            assert!(held.bytes.len() <= LIMIT && held.frames.len() <= LIMIT / len);
            count
        };
        assert_eq!((full(60), full(1 << 16)), (MAX_FRAMES, 16));
    }
}
